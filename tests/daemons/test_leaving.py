"""An agent that is told to leave leaves, whatever one of its threads is at."""

import time
from pathlib import Path

from tests.agents.scenes import make_table
from tests.daemons.test_over_rabbitmq import reported, wait_until
from tests.deployment import Deployment

JOB = """
name = "endless"
model = "logistic"
label = "bank"
helper = "notary"
[tables]
bank = "customers"
card = "customers"
[training]
epochs = 1
batch = 32
rate = 0.5
"""
NUMBERS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 4000000000) SELECT max(n) AS id"
TABLES = {
    "bank": '[tables.customers]\npath = "bank.csv"\nid = "id"\nlabel = "default"\n',
    "card": f'[tables.customers]\ndatabase = "sqlite:///card.db"\nquery = "{NUMBERS}, 1 AS x FROM c"\nid = "id"\n',
}
DRAIN = 0.5
LONG = 12.0  # seconds: many times what leaving takes, and a small part of what the query would


def test_an_agent_leaves_while_a_database_that_cannot_be_stopped_is_at_its_query(tmp_path: Path, amqp_url: str) -> None:
    """SQLite's driver has no way to end one; the thread goes with the process, whose exit code says all is well."""
    make_table(tmp_path / "bank.csv", label=True)
    (tmp_path / "card.db").touch()
    (tmp_path / "job.toml").write_text(JOB)
    extra = f"[deadlines]\ndrain = {DRAIN}\nverdict = 0.5\n"
    with Deployment(tmp_path, amqp_url, TABLES, "notary", extra=extra, module=("-m", "tercet", "agent")) as three:
        three.start()
        three.wait_until_up()
        reported(three.asked("job", "submit", str(tmp_path / "job.toml"), "--format", "json"))
        wait_until(lambda: any(line.get("state") == "accepted" for line in three.log("card")))
        since = time.monotonic()
        assert three.stop("card") == 0
        assert time.monotonic() - since < LONG
        assert any(line["event"] == "agent has left" for line in three.log("card"))
