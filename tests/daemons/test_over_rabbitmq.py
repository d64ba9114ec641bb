"""Agents as processes of their own, over a real RabbitMQ, driven by the command line as an operator would."""

import asyncio
import json
import re
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
from pyarrow import csv

from tercet.agents.jobs.records import Record
from tercet.agents.models import model_part
from tercet.agents.simulation.exactness import label_party
from tercet.agents.simulation.simulate import Simulation, bit_exact, joint_words, network_words, simulate_job
from tercet.agents.statistics.result import read_statistics
from tercet.mpc.arithmetic.fixed import decode
from tercet.mpc.arithmetic.ring import total
from tercet.schemas.files.job import AnyJob, read_job
from tercet.schemas.files.settings import Settings, read_settings
from tests.deployment import Deployment
from tests.fixed_agent import fixed_contribution
from tests.forked import Forked

POLL_SECONDS = 0.2
ROWS, BATCH, PATIENCE = 620, 128, 60.0  # the last batch has 108 rows
JOB = """
name = "{name}"
model = "{model}"
label = "bank"
helper = "notary"
accept_narrow = true
[tables]
bank = "customers"
card = "delays"
[training]
epochs = {epochs}
batch = 128
rate = 0.3
schedule = "inverse-time"
decay = 0.01
l2 = 0.001
[privacy]
helper_sees = "scores"
"""
DEADLINES = """
[policy]
narrow = true
helper_sees = "scores"
statistics = "woe"
correlations = "label"
[deadlines]
step = 6
recover = 12
verdict = 2
heartbeat = 0.3
drain = 0.5
"""


def write_tables(folder: Path) -> dict[str, str]:
    """Two tables with rows in common, one of them upside down and with more, and how settings name them."""
    random = np.random.default_rng(7)
    x, ids = random.normal(size=(ROWS, 24)), np.arange(ROWS)
    label = (x @ random.normal(size=24) > 0).astype(int)
    bank = "\n".join(
        f"c{i},{','.join(map(repr, row[:12].tolist()))},{1 + i % 4},{y}"
        for i, row, y in zip(ids, x, label, strict=True)
    )
    others = [f"stranger-{i}{',0.5' * 12}" for i in range(30)]
    theirs = [f"c{i},{','.join(map(repr, row[12:].tolist()))}" for i, row in zip(ids, x, strict=True)]
    card = "\n".join(reversed(others + theirs))
    (folder / "bank.csv").write_text(f"id,{','.join(f'a{j}' for j in range(12))},times,label\n{bank}\n")
    (folder / "card.csv").write_text(f"id,{','.join(f'b{j}' for j in range(12))}\n{card}\n")
    return {
        "bank": '[tables.customers]\npath = "bank.csv"\nid = "id"\nlabel = "label"\nweights = ["times"]\n',
        "card": '[tables.delays]\npath = "card.csv"\nid = "id"\nrescoring = true\n',  # of held-out rows
    }


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, amqp_url: str) -> Iterator[Deployment]:
    """Three agents that are up, the same for all tests of this file: they outlive whatever happens to a job."""
    folder = tmp_path_factory.mktemp("deployment")
    extra = DEADLINES + "\n[limits]\nmax_scorings = 64\n"
    module = ("-m", "tests.daemons.slow_agent")
    with Deployment(folder, amqp_url, write_tables(folder), "notary", extra=extra, module=module) as three:
        three.start()
        three.wait_until_up()
        yield three


EVALUATED = """
[evaluation]
holdout = 0.25
metrics = "epoch"
loss = true
loss_to = "all"
[early_stopping]
on = "auc"
patience = 2
"""
PREDICTION = """
kind = "prediction"
name = "{name}"
of = "{of}"
label = "bank"
helper = "notary"
[tables]
bank = "customers"
card = "delays"
"""


STATISTICS = """
kind = "statistics"
name = "look"
label = "bank"
helper = "notary"
[tables]
bank = "customers"
card = "delays"
[columns]
bank = ["a0", "a1", "a2"]
card = ["b0", "b1", "b2"]
[statistics]
bins = 5
woe = true
correlations = "label"
[evaluation]
holdout = 0.2
"""


def job_file(deployment: Deployment, name: str, epochs: int = 3, more: str = "", model: str = "logistic") -> Path:
    """A job of its own name, so that tests share the broker and no queue."""
    path = deployment.folder / f"{name}.toml"
    path.write_text(JOB.format(name=name, epochs=epochs, model=model) + more)
    return path


def prediction_file(deployment: Deployment, name: str, of: str) -> Path:
    """A prediction with the model of a job that is done."""
    path = deployment.folder / f"{name}.toml"
    path.write_text(PREDICTION.format(name=name, of=of))
    return path


def reported(done: subprocess.CompletedProcess[str], code: int = 0) -> dict[str, Any]:
    """What the command line printed as JSON."""
    assert done.returncode == code, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def submit(deployment: Deployment, path: Path, party: str = "bank") -> str:
    """A job's id."""
    job: str = reported(deployment.asked("job", "submit", str(path), "--format", "json", party=party))["job"]
    return job


def until(deployment: Deployment, party: str, job: str, *states: str) -> dict[str, Any]:
    """The job's status at a party, once it is in one of these states: its agent is asked when it has written so."""
    record, end = deployment.folder / party / "jobs" / f"{job}.json", time.monotonic() + PATIENCE
    while True:
        over = time.monotonic() > end
        if over or (record.exists() and json.loads(record.read_text())["status"]["state"] in states):
            status = reported(deployment.asked("job", "status", job, "--format", "json", party=party))
            if over or status["state"] in states:
                assert status["state"] in states, status
                return status
        time.sleep(POLL_SECONDS)


def wait_until(holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Return when something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(POLL_SECONDS)


def words_of(deployment: Deployment, job: str) -> dict[str, Any]:
    """The released words of both data parties."""
    parts = {p: model_part.load(deployment.folder / p / "models" / job)[1] for p in ("bank", "card")}
    return {f"{p} {name}": array for p, arrays in parts.items() for name, array in arrays.items()}


def simulated(deployment: Deployment, description: AnyJob) -> Simulation:
    """The same job in one process, with the same contributions."""
    settings: dict[str, Settings] = {p: read_settings(deployment.settings(p)) for p in deployment.parties}
    contribute = {party: fixed_contribution(party) for party in settings}
    return asyncio.run(simulate_job(description, settings, deployment.folder / "simulated", contribute=contribute))


def same_words(deployment: Deployment, job: str, simulation: Simulation) -> None:
    """Check that the daemons' model parts hold the simulator's words, and those the oracle's."""
    assert bit_exact(simulation)
    (bank, card), intercept = joint_words(simulation)
    got = words_of(deployment, job)
    assert np.array_equal(got["bank weight_words"], bank)
    assert np.array_equal(got["card weight_words"], card)
    assert np.array_equal(got["bank intercept_words"], intercept)


@pytest.fixture(scope="module")
def trained(deployment: Deployment) -> tuple[str, Simulation]:
    """A training job that is done everywhere, and the same job in one process."""
    path = job_file(deployment, "same")
    job = submit(deployment, path)
    watched = reported(deployment.tercet("job", "watch", job, "--format", "json", party="card"))
    assert watched["state"] == "done"
    assert watched["steps"] == 3 * -(-ROWS // BATCH)
    for party in deployment.parties:
        until(deployment, party, job, "done")
    return job, simulated(deployment, read_job(path))


def test_three_daemons_train_the_model_that_the_simulator_trains(deployment, trained):
    """Over RabbitMQ and in one process, the same contributions give the same words, with batches in secret order."""
    same_words(deployment, *trained)


def test_three_daemons_tell_the_statistics_that_the_simulator_tells(deployment, queues_of):
    """Cell by cell in the same secret order, since the contributions are the same; shown by the command line."""
    path = deployment.folder / "look.toml"
    path.write_text(STATISTICS)
    job = submit(deployment, path)
    status = {party: until(deployment, party, job, "done") for party in deployment.parties}
    simulation = simulated(deployment, read_job(path))
    assert bit_exact(simulation)
    for party in ("bank", "card"):
        place = simulation.runs[party].statistics
        assert place is not None
        ours, same = (read_statistics(Path(one)) for one in (status[party]["statistics"], place))
        assert ours.model_copy(update={"run": same.run}) == same
    assert status["notary"]["statistics"] is None
    shown = reported(deployment.asked("statistics", job, "--format", "json"))
    assert len(shown["partners"]) == 3
    assert any(
        "WOE and IV" in one for one in reported(deployment.asked("job", "show", job, "--format", "json"))["reveals"]
    )
    assert queues_of(job) == []


WEIGHED = JOB.replace("l2 = 0.001", 'weights = "times"').replace('"scores"', '"nothing"')
SELECTION = """
[columns]
bank = ["a0", "a1"]
card = ["b0"]
[always]
card = ["b0"]
[job.evaluation]
holdout = 0.25
split = "selection"
held_out_loss = true
"""


def test_daemons_weigh_rows_as_the_simulator_does_but_for_roundings(deployment, queues_of):
    """Truncations round by what is dealt anew in each run, here of features with 9 fractional bits."""
    path = deployment.folder / "weighed.toml"
    path.write_text(WEIGHED.format(name="weighed", epochs=3, model="logistic"))
    job = submit(deployment, path)
    until(deployment, "bank", job, "done")
    until(deployment, "card", job, "done")
    simulation = simulated(deployment, read_job(path))
    assert bit_exact(simulation)
    bits = label_party(simulation)[0].context.plan.fw
    (bank, card), _ = joint_words(simulation)
    got = words_of(deployment, job)
    for ours, same in ((got["bank weight_words"], bank), (got["card weight_words"], card)):
        assert np.allclose(decode(ours, bits), decode(same, bits), rtol=0, atol=1e-3)
        assert np.abs(decode(same, bits)).max() > 0.1
    assert queues_of(job) == []


def test_daemons_go_on_from_an_earlier_model_to_the_words_that_the_simulator_reaches(deployment, queues_of, trained):
    """With another rate."""
    (job, _), path = trained, deployment.folder / "continued.toml"
    again = JOB.format(name="continued", epochs=2, model="logistic").replace("rate = 0.3", "rate = 0.1")
    path.write_text(f'start = "{job}"\n{again}')
    continued = submit(deployment, path)
    until(deployment, "bank", continued, "done")
    until(deployment, "card", continued, "done")
    same_words(deployment, continued, simulated(deployment, read_job(path)))
    one, other = (words_of(deployment, each)["bank weight_words"] for each in (job, continued))
    assert not np.array_equal(one, other)
    assert queues_of(continued) == []


def test_a_selection_by_daemons_ends_in_the_model_that_the_simulator_trains(deployment, queues_of):
    """In two steps; with the same held-out rows, for which the simulator has the parties' keys."""
    head, _, rest = JOB.partition("[tables]")
    text = "[job]" + (head + "[tables]" + rest).format(name="chosen", epochs=4, model="logistic").replace("[", "[job.")
    path = deployment.folder / "select.toml"
    path.write_text(text + SELECTION)
    trail = reported(deployment.asked("select", str(path), "--format", "json"))
    assert [step["decision"] for step in trail["steps"]] == ["begin", "added", "added", "stopped"]
    last = trail["final"]["job"]
    for party in ("bank", "card"):
        until(deployment, party, last, "done")
        copytree(deployment.folder / party / "splits", deployment.folder / "simulated" / party / "splits")
    record = Record.model_validate_json((deployment.folder / "bank" / "jobs" / f"{last}.json").read_text())
    simulation = simulated(deployment, record.job.description)
    same_words(deployment, last, simulation)
    assert simulation.label_run.status().held_out_loss == trail["final"]["loss"]
    assert queues_of(last) == []


def test_daemons_evaluate_stop_early_and_predict_as_the_simulator_does(deployment, queues_of):
    """Losses, metrics, the epoch that is kept, the words of the model, and then every score."""
    path = job_file(deployment, "evaluated", epochs=60, more=EVALUATED)
    job = submit(deployment, path, "card")
    status = {party: until(deployment, party, job, "done") for party in deployment.parties}
    assert status["bank"]["step"] < status["bank"]["steps"], "it has not stopped early"
    assert status["bank"]["rows"] + status["bank"]["held_out"] == ROWS
    assert [status[party]["table_rows"] for party in deployment.parties] == [ROWS, ROWS + 30, 0]
    simulation = simulated(deployment, read_job(path))
    same_words(deployment, job, simulation)
    own = simulation.label_run.status()
    best = simulation.label_run.context.history.best_epoch
    assert best, "an epoch that is not the first has to be the best one here"
    stored = {party: model_part.load(Path(status[party]["model_part"]))[0].steps for party in ("bank", "card")}
    assert stored == dict.fromkeys(stored, (best + 1) * status["bank"]["steps"] // 60)
    assert status["bank"]["metrics"] == own.metrics
    assert status["bank"]["metrics"].keys() >= {"auc", "ks", "log_loss"}
    assert status["bank"]["loss"] == status["card"]["loss"] == own.loss
    assert (status["card"]["metrics"], status["notary"]["metrics"], status["notary"]["loss"]) == ({}, {}, None)

    predict, out = prediction_file(deployment, "predicted", job), deployment.folder / "copied.csv"
    out.touch(0o644)
    done = reported(deployment.tercet("predict", str(predict), "--out", str(out), "--format", "json"))
    assert (done["state"], done["kind"], done["rows"]) == ("done", "prediction", ROWS)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    scores = simulated(deployment, read_job(predict)).label_run.scores
    assert scores is not None
    assert out.read_bytes() == Path(done["scores"]).read_bytes()
    ours, theirs = (csv.read_csv(place) for place in (out, scores))
    assert ours["id"] == theirs["id"]
    assert np.abs(ours["score"].to_numpy() - theirs["score"].to_numpy()).max() < 2.0**-4 + 2.0**-14  # card's noise
    assert len(out.read_text().splitlines()) == ROWS + 1
    assert queues_of(job) + queues_of(done["job"]) == []


SHARES = ["shares/bank", "shares/card", "shares/upper.0", "shares/upper.1", *(f"shares/bias.{k}" for k in range(3))]
NETWORK = """
[network]
hidden = [8, 6]
activation = "gelu"
[evaluation]
holdout = 0.25
"""


def test_daemons_train_and_apply_the_network_that_the_simulator_does_but_for_roundings(deployment, queues_of):
    """Truncations round by masks that are new in each run: weights agree to 1e-4; scores have hidden layers' noise."""
    path = job_file(deployment, "network", more=NETWORK, model="mlp")
    job = submit(deployment, path)
    status = {party: until(deployment, party, job, "done") for party in deployment.parties}
    assert status["bank"]["metrics"]["auc"] > 0.5
    simulation = simulated(deployment, read_job(path))
    assert bit_exact(simulation)
    parts = {party: model_part.load(Path(status[party]["model_part"])) for party in ("bank", "card")}
    bits = label_party(simulation)[0].context.plan.fw
    for name, words in zip(SHARES, network_words(simulation), strict=True):
        ours = decode(total(arrays[name] for _, arrays in parts.values()), bits)
        assert np.allclose(ours, decode(words, bits), rtol=0, atol=1e-4), name
    predict = prediction_file(deployment, "network-scores", job)
    done = reported(deployment.asked("predict", str(predict), "--format", "json"))
    scores = simulated(deployment, read_job(predict)).label_run.scores
    assert scores is not None
    ours, theirs = (csv.read_csv(place) for place in (done["scores"], scores))
    assert ours["id"] == theirs["id"]
    one, other = ours["score"].to_numpy(), theirs["score"].to_numpy()
    assert np.corrcoef(one, other)[0, 1] > 0.3
    assert queues_of(job) + queues_of(done["job"]) == []


def test_only_the_label_party_gets_scores_whoever_asks_and_each_time_anew(deployment, trained):
    """A partner sees that the prediction is done and copies nothing; a training job is none."""
    predict, out = prediction_file(deployment, "asked", trained[0]), deployment.folder / "none.csv"
    first = reported(deployment.asked("predict", str(predict), "--format", "json", party="card"))
    assert (first["state"], first["scores"]) == ("done", None)
    barred = deployment.asked("predict", str(predict), "--out", str(out), party="card")
    assert (barred.returncode, out.exists()) == (3, False)
    assert "bank alone" in barred.stderr
    assert until(deployment, "bank", first["job"], "done")["scores"] is not None
    again = deployment.asked("predict", str(predict), party="bank")
    assert again.returncode == 0, again.stderr
    assert "scores.csv" in re.sub(r"[\s│]", "", again.stdout)  # the whole path, on as many lines as it takes
    refused = deployment.asked("predict", str(deployment.folder / "same.toml"))
    assert refused.returncode == 3
    assert 'kind = "prediction"' in refused.stderr.replace("\n", " ")


def test_a_prediction_without_its_model_exits_with_1_and_says_who_lacks_it(deployment):
    """Nothing is copied."""
    predict, out = prediction_file(deployment, "lost", "gone-01234567"), deployment.folder / "lost.csv"
    done = reported(deployment.asked("predict", str(predict), "--out", str(out), "--format", "json"), code=1)
    assert (done["state"], done["failure"]["code"], out.exists()) == ("failed", "model.missing", False)


def test_submitting_twice_and_killing_a_watcher_change_nothing(deployment):
    """A job that is known is looked up, `--again` makes another, and a console is needed for nothing."""
    path = job_file(deployment, "twice", epochs=8)
    job = submit(deployment, path)
    watcher = deployment.console("job", "watch", job, party="bank")
    assert submit(deployment, path) == job
    until(deployment, "bank", job, "training", "done")
    with watcher:
        watcher.kill()
    first = until(deployment, "bank", job, "done")
    assert submit(deployment, path) == job
    assert until(deployment, "bank", job, "done")["submitted"] == first["submitted"]
    again = reported(deployment.asked("job", "submit", str(path), "--again", "--format", "json", party="bank"))
    assert again["job"] != job
    until(deployment, "card", again["job"], "done")
    listed = json.loads(deployment.asked("job", "list", "--format", "json", party="bank").stdout)
    assert {status["job"] for status in listed} >= {job, again["job"]}


def test_ended_jobs_leave_no_queues(deployment, queues_of):
    """Whether a job is done, cancelled or failed, only the standing queues stay."""
    done = submit(deployment, job_file(deployment, "done"))
    cancelled = submit(deployment, job_file(deployment, "cancelled", epochs=10_000), party="card")
    until(deployment, "notary", cancelled, "training")
    assert queues_of(cancelled)
    deployment.asked("job", "cancel", cancelled, party="notary")
    for party in deployment.parties:
        until(deployment, party, cancelled, "cancelled")
        until(deployment, party, done, "done")
    assert queues_of(done) + queues_of(cancelled) == []


def goes_on(deployment: Deployment, job: str, attempt: int = 2) -> None:
    """Check that all parties train again, in this attempt or a later one, and end the job, which would take long."""
    for party in deployment.parties:
        while until(deployment, party, job, "training", "recovering")["attempt"] < attempt:
            time.sleep(POLL_SECONDS)
        until(deployment, party, job, "training")
    deployment.asked("job", "cancel", job)
    for party in deployment.parties:
        until(deployment, party, job, "cancelled")


def test_a_stopped_process_is_named_by_everybody_else_and_waited_for(deployment):
    """SIGSTOP in the middle of training, and after a while SIGCONT: each of the others waits for that party alone."""
    job = submit(deployment, job_file(deployment, "hung-bank", epochs=10_000))
    others = [party for party in deployment.parties if party != "bank"]
    until(deployment, others[0], job, "training")
    deployment.processes["bank"].send_signal(signal.SIGSTOP)
    for party in others:
        end = time.monotonic() + PATIENCE
        while (waits := until(deployment, party, job, "recovering")["waits_for"]) != ["bank"]:
            assert time.monotonic() < end, waits  # the other one may need a moment to see it, too
            time.sleep(POLL_SECONDS)
    deployment.processes["bank"].send_signal(signal.SIGCONT)
    goes_on(deployment, job)


def test_a_process_that_stays_stopped_fails_the_job_under_its_name(deployment):
    """Everybody says so with the same words, and it itself when it is back."""
    job = submit(deployment, job_file(deployment, "hung-card", epochs=10_000))
    until(deployment, "bank", job, "training")
    deployment.processes["card"].send_signal(signal.SIGSTOP)
    failures = [until(deployment, party, job, "failed")["failure"] for party in ("bank", "notary")]
    deployment.processes["card"].send_signal(signal.SIGCONT)
    failures.append(until(deployment, "card", job, "failed")["failure"])
    assert {(failure["code"], failure["culprit"]) for failure in failures} == {("party.silent", "card")}
    assert len({failure["reason"] for failure in failures}) == 1


def test_an_agent_that_is_told_to_stop_leaves_cleanly_and_its_next_life_goes_on(deployment):
    """SIGTERM: exit code 0, and the job waits for it."""
    job = submit(deployment, job_file(deployment, "leaving", epochs=10_000))
    until(deployment, "card", job, "training")
    assert deployment.stop("card") == 0
    deployment.start("card")
    goes_on(deployment, job)


def test_a_killed_agents_next_life_goes_on(deployment, queues_of):
    """SIGKILL: from a checkpoint, with the queues that it had."""
    job = submit(deployment, job_file(deployment, "killed", epochs=10_000))
    until(deployment, "card", job, "training")
    deployment.stop("card", signal.SIGKILL)
    deployment.start("card")
    goes_on(deployment, job)
    assert queues_of(job) == []


def test_a_second_agent_of_one_name_stops_with_a_clear_error(deployment):
    """Its exit code says that the broker would not have it, its text why."""
    log = deployment.folder / "second.log"
    second = Forked("tercet", ["agent", str(deployment.settings("bank"))], log)
    try:
        assert second.wait(PATIENCE) == 4
    finally:
        second.kill()
    assert "another agent" in log.read_text()


def test_logs_are_json_with_party_job_attempt_and_step(deployment, trained):
    """Every line of every agent."""
    job, _ = trained
    for party in deployment.parties:
        lines = deployment.log(party)
        assert lines
        assert all({"party", "job", "attempt", "step"} <= line.keys() for line in lines)
        assert any(line["job"] == job and line["event"] == "state" for line in lines)
