"""A consortium's file names parties and a broker; what could become a path, markup or TOML of its own is refused."""

from pathlib import Path

import pytest

from tercet.schemas.files.consortium import Consortium, read_consortium
from tercet.schemas.files.invalid import Invalid

PLAIN = """
name = "returns"
[broker]
url = "amqps://broker.example.com/tercet"
authority = "authority.pem"
[parties.shop]
role = "label"
[parties.insurer]
role = "data"
[parties.notary]
role = "helper"
[parties.shop.tables.orders]
path = "orders.csv"
id = "customer"
label = "returned"
"""


def read(folder: Path, old: str = "", new: str = "") -> Consortium:
    """The plain file, with something else in one place."""
    assert old in PLAIN
    (folder / "consortium.toml").write_text(PLAIN.replace(old, new, 1), encoding="utf-8")
    return read_consortium(folder / "consortium.toml")


def test_a_plain_file_is_read(tmp_path: Path) -> None:
    consortium = read(tmp_path)
    assert consortium.label == "shop"
    assert consortium.data_parties == ("shop", "insurer")
    assert consortium.of_role("helper") == ("notary",)
    assert consortium.broker.vhost == "tercet"
    assert consortium.broker.authority == tmp_path / "authority.pem"


@pytest.mark.parametrize(
    "name",
    ["../shop", "a/b", "/etc", "..", ".", "", "Shop", "a b", "a.b", "<b>", "[red]", "a\nb", "a\u202eb", "x" * 33, "-a"],
)
@pytest.mark.parametrize("where", ['name = "{}"', '[parties."{}"]', '[parties.shop.tables."{}"]'])
def test_a_name_that_is_more_than_a_name_is_refused(name: str, where: str, tmp_path: Path) -> None:
    """Folders, headings, sections of settings and users of the broker are called so."""
    old = {'name = "{}"': 'name = "returns"', '[parties."{}"]': "[parties.insurer]"}
    escaped = name.replace("\n", "\\n")
    with pytest.raises(Invalid, match=r"consortium\.toml"):
        read(tmp_path, old.get(where, "[parties.shop.tables.orders]"), where.format(escaped))


@pytest.mark.parametrize("name", ["broker", "from", "intercept"])
def test_a_word_that_stands_beside_names_is_none(name: str, tmp_path: Path) -> None:
    """Above all `broker`: its folder is the operator's."""
    with pytest.raises(Invalid, match="no party can be called"):
        read(tmp_path, "[parties.insurer]", f"[parties.{name}]")


@pytest.mark.parametrize(
    "url",
    [
        "https://broker.example.com/tercet",
        "amqps://shop:secret@broker.example.com/tercet",
        "amqps://shop@broker.example.com/tercet",
        "amqps://broker.example.com",
        "amqps://broker.example.com/",
        "amqps://broker.example.com/a/b",
        "amqps://broker.example.com/%2f",
        "amqps://broker.example.com/tercet?heartbeat=0",
        "amqps://broker.example.com/`id`",
        "amqps://broker.example.com/$(id)",
        "amqps://broker.example.com/<b>",
        "amqps://broker.example.com/tercet\\nstate = 1",
        'amqps://broker.example.com/tercet\\"',
        "amqp://broker.example.com/tercet",
        "amqp://localhost.example.com/tercet",
    ],
)
def test_an_address_that_is_more_than_an_address_is_refused(url: str, tmp_path: Path) -> None:
    """It is copied into pages and settings; and no login crosses a network in clear."""
    with pytest.raises(Invalid, match="write amqps://") as refused:
        read(tmp_path, '"amqps://broker.example.com/tercet"\nauthority = "authority.pem"', f'"{url}"')
    assert "secret" not in str(refused.value)


def test_a_login_by_certificate_needs_tls(tmp_path: Path) -> None:
    local = '"amqp://localhost/tercet"\n'
    old = '"amqps://broker.example.com/tercet"\nauthority = "authority.pem"\n'
    assert read(tmp_path, old, local).broker.vhost == "tercet"
    for more in ('login = "certificate"\n', 'authority = "authority.pem"\n'):
        with pytest.raises(Invalid, match="need TLS"):
            read(tmp_path, old, local + more)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('role = "data"', 'role = "label"', "exactly one"),
        ('role = "label"', 'role = "data"', "exactly one"),
        ('role = "data"', 'role = "helper"', "parties hold data"),
        ('role = "helper"', 'role = "data"', "have role"),
        ('role = "helper"', 'role = "helper"\ntables.t = {path = "t.csv", id = "id"}', "holds no tables"),
        ('label = "returned"', "", "names its label column"),
        ('role = "data"', 'role = "owner"', "should be"),
        ('role = "data"', 'roll = "data"', "role"),
        ('path = "orders.csv"', 'path = "a"\ndatabase = "sqlite:///a"', "one of them"),
    ],
)
def test_roles_that_make_no_job_are_refused(old: str, new: str, words: str, tmp_path: Path) -> None:
    """With a sentence that says what to write."""
    with pytest.raises(Invalid, match=words):
        read(tmp_path, old, new)
