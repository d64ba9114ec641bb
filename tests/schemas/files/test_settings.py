"""Settings: what an operator may write, and what is said when it is wrong, without what may be secret."""

from pathlib import Path

import pytest

from tercet.schemas.files.invalid import Invalid
from tercet.schemas.files.settings import Deadlines, Settings, read_settings

GOOD = """
party = "card"
identity = "keys/card.pem"
state = "/var/lib/tercet"

[broker]
url = "amqps://broker.example:5671/"
credentials = "credentials.toml"
certificate = "card.crt"
key = "card.key"

[tables.delays]
path = "delays.csv"
id = "customer"
categorical = ["branch"]

[partners.bank]
key = "tercet-key-1:abc"

[deadlines]
step = 30
"""


def written(folder: Path, *changes: tuple[str, str]) -> Path:
    """A settings file with some words replaced."""
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "card.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_paths_are_relative_to_the_settings_own_folder(tmp_path: Path) -> None:
    """Not to wherever the agent was started."""
    settings = read_settings(written(tmp_path))
    assert settings.identity == tmp_path / "keys/card.pem"
    assert settings.state == Path("/var/lib/tercet")
    assert settings.tables["delays"].path == tmp_path / "delays.csv"
    assert settings.broker.credentials == tmp_path / "credentials.toml"
    assert settings.broker.certificate == tmp_path / "card.crt"
    assert settings.broker.key == tmp_path / "card.key"
    assert settings.broker.ca is None


def test_the_file_of_a_sqlite_url_is_relative_to_the_settings_too(tmp_path: Path) -> None:
    """A server's URL stays as it is."""
    source = ('path = "delays.csv"', 'database = "sqlite:///data/own.db"\nquery = "select 1"')
    assert read_settings(written(tmp_path, source)).tables["delays"].database == f"sqlite:///{tmp_path}/data/own.db"
    server = ('path = "delays.csv"', 'database = "postgresql://db/own"\nquery = "select 1"')
    assert read_settings(written(tmp_path, server)).tables["delays"].database == "postgresql://db/own"


def test_what_is_not_written_has_a_default(tmp_path: Path) -> None:
    """Nobody else may submit, and a party is a data party."""
    settings = read_settings(written(tmp_path))
    assert settings.role == "data"
    assert not settings.partners["bank"].may_submit
    assert settings.tables["delays"].columns is None
    assert (settings.deadlines.step, settings.deadlines.accept) == (30, 30)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('party = "card"', 'party = "Card"', "party"),
        ('party = "card"', 'party = "bank"', "lists the party itself"),
        ('party = "card"', 'party = "card"\nrole = "helper"', "a helper holds no tables"),
        ('party = "card"', 'party = "card"\nrole = "boss"', "role"),
        ("amqps:", "http:", "amqp://host:port/"),
        ("//broker", "//me:hush@broker", "credentials file"),
        ('key = "card.key"', "", "go together"),
        ('id = "customer"', "", "tables.delays.id"),
        ('id = "customer"', 'id = "customer"\nseparator = ";"', "`separator` under [tables.delays]"),
        ('key = "tercet-key-1:abc"', "", "partners.bank.key"),
        ("step = 30", "step = 0", "deadlines.step"),
        ("step = 30", "step = 9", "heartbeats"),
        ("step = 30", "accept = 4", "heartbeats"),
        ("step = 30", "ready = 900", "accept and ready together"),
        ("step = 30", "start = 629", "accept and ready together"),
        ("step = 30", "steps = 30", "unknown field `steps` under [deadlines]; did you mean `step`?"),
        ("[deadlines]", "[limits]\nlook_ahead = 0\n[deadlines]", "limits.look_ahead"),
        ("[deadlines]", "[limits]\npart_bytes = 16777216\n[deadlines]", "limits.part_bytes"),
        ("[tables.delays]", "[tables.Delays]", "tables.Delays: a name has small letters, digits and hyphens"),
        ('state = "/var', 'stat = "/var', "above the first [section]; did you mean `state`?"),
        ("step = 30", "min_rows = 9", "unknown field `min_rows` under [deadlines]; it belongs under [limits]"),
        ("step = 30", 'role = "data"', "unknown field `role` under [deadlines]; it belongs at the top"),
        ("step = 30", "query = 'select 1'", "it belongs under [tables.NAME]"),
        ("categorical =", "xyz =", "unknown field `xyz` under [tables.delays]; there may be purposes, "),
        ("[broker]", "monitor = 3\n[broker]", "monitor is a section of its own"),
        ("[deadlines]", '[limits]\nlook_ahead = "many"\n[deadlines]', "limits.look_ahead is a whole number"),
        ('categorical = ["branch"]', 'categorical = "branch"', "tables.delays.categorical is a list: write [...]"),
        ("step = 30", "terms = 899", "alignment and fit together"),
        ("step = 30", "fit = 4", "heartbeats"),
        ("[deadlines]", '[partners.telco]\nkey = "tercet-key-1:abc"\n[deadlines]', "bank and telco have the same key"),
        ('path = "delays.csv"', "", "write path for a file"),
        ('path = "delays.csv"', 'database = "sqlite:///a.db"', "go together"),
        ('path = "delays.csv"', 'path = "delays.csv"\ncredentials = "login.toml"', "for a database"),
        ('path = "delays.csv"', 'database = "mysql://db/x"\nquery = "select 1"', "postgresql://host:port/name"),
        ('path = "delays.csv"', 'database = "postgresql://me:hush@db/x"\nquery = "select 1"', "credentials file"),
        ("categorical", 'numeric = ["branch"]\ncategorical', "as numeric and as categorical"),
        ("categorical", "cuts = {branch = [1]}\ncategorical", "as numeric and as categorical"),
        ("categorical", 'cuts = {a = [1]}\nexclude = ["a"]\ncategorical', "excluded, and listed as numeric"),
        ("categorical", "cuts = {a = [1, 3, 3]}\ncategorical", "the cuts of 'a' rise"),
        ("categorical", "cuts = {a = []}\ncategorical", "tables.delays.cuts.a"),
        ("categorical", "clip = 17\ncategorical", "tables.delays.clip"),
        ("categorical", 'exclude = ["branch"]\ncategorical', "excluded, and listed as numeric or categorical"),
        ("categorical", 'columns = ["branch"]\nexclude = ["a"]\ncategorical', "one of them"),
        ("categorical", 'positive = "yes"\ncategorical', "write label too"),
        ("categorical", 'label = "y"\npositive = ""\ncategorical', "tables.delays.positive"),
        ("categorical", 'label = "y"\npositive = 0.5\ncategorical', "tables.delays.positive"),
    ],
)
def test_a_mistake_is_told_with_its_file_and_field_and_no_secret(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    """An operator mends the line that is named."""
    path = written(tmp_path, (old, new))
    with pytest.raises(Invalid) as caught:
        read_settings(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "hush" not in str(caught.value)
    assert not any(word in str(caught.value) for word in ("Extra inputs", "pattern", "Input should", "valid string"))


@pytest.mark.parametrize(("written_as", "read"), [('"yes"', "yes"), ("2", "2"), ("-1", "-1"), ("true", "true")])
def test_a_positive_class_may_be_written_as_text_number_or_truth_value(
    tmp_path: Path, written_as: str, read: str
) -> None:
    """Classes are texts to all who read them."""
    path = written(tmp_path, ("categorical", f'label = "y"\npositive = {written_as}\ncategorical'))
    assert read_settings(path).tables["delays"].positive == read


def test_policy_is_written_in_general_for_a_table_and_for_a_partner(tmp_path: Path) -> None:
    """What is not written restricts nothing that the first steps need, but exposes no narrow table."""
    plain = read_settings(written(tmp_path))
    assert not plain.policy.approval
    assert not plain.policy.narrow
    assert plain.partners["bank"].may_help
    written_out = written(
        tmp_path,
        ("[deadlines]", '[policy]\napproval = true\nmodels = ["linear"]\nmetrics = "none"\n[deadlines]\napprove = 60'),
        ("[tables.delays]", '[tables.delays]\npurposes = ["scoring"]\nsubmitters = ["bank"]\nmax_releases = 3'),
        ('key = "tercet-key-1:abc"', 'key = "tercet-key-1:abc"\nmay_help = false\npredictions = false'),
    )
    settings = read_settings(written_out)
    assert (settings.policy.approval, settings.policy.models, settings.deadlines.approve) == (True, ("linear",), 60)
    assert (settings.tables["delays"].purposes, settings.tables["delays"].max_releases) == (("scoring",), 3)
    assert not settings.partners["bank"].may_help


@pytest.mark.parametrize("line", ['metrics = "often"', "max_epochs = 0", 'models = ["forest"]', "job_seconds = 5"])
def test_a_policy_that_says_nothing_sensible_is_refused(tmp_path: Path, line: str) -> None:
    """A consent that is misspelt must not be taken for none."""
    with pytest.raises(Invalid, match="policy"):
        read_settings(written(tmp_path, ("[deadlines]", f"[policy]\n{line}\n[deadlines]")))


def test_a_helper_without_tables_is_fine(tmp_path: Path) -> None:
    """It needs partners and a broker, nothing else."""
    settings = Settings(party="notary", role="helper", identity=tmp_path / "key", state=tmp_path)
    assert settings.tables == {}


def test_deadlines_may_just_last_as_long_as_what_comes_before() -> None:
    """By default they do, or there would be none."""
    assert Deadlines(accept=30, ready=600, start=630).start == 630


@pytest.mark.parametrize("field", ["ca", "certificate"])
def test_a_certificate_without_tls_is_a_mistake(tmp_path: Path, field: str) -> None:
    """An operator who names one means to use it; over amqp:// everything would go in clear."""
    files = 'certificate = "card.crt"\nkey = "card.key"'
    changed = 'ca = "ca.pem"' if field == "ca" else files
    with pytest.raises(Invalid, match=r"broker: ca, certificate and key need TLS: write amqps:// in url"):
        read_settings(written(tmp_path, ("amqps:", "amqp:"), (files, changed)))
    assert read_settings(written(tmp_path, ("amqps:", "amqp:"), (files, ""))).broker.ca is None
