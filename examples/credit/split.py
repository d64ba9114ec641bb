"""Makes the credit example's tables from the raw one: files as two companies deliver them that never met.

    python examples/credit/split.py UCI_Credit_Card.csv.gz

It writes beside itself; it changes names, number formats and the order of rows, and no value. Who is drawn for what,
and which row stands where, depends on hashes of the customers' numbers alone: no clock and no generator to seed.
"""

import gzip
import hashlib
import io
import itertools
import sys
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

RAW_SHA256 = "3b1c8e69fc71fb19229d8d3dedeeaf70012b7706bee03b534a33a6ba32a78394"
ID, LABEL = "ID", "default.payment.next.month"
NEW, NEW_AT_BANK, NEW_AT_CARD = 1_000, 60, 40  # at both, and more at one alone
BOTH, ALONE = 23_400, 2_600  # of the others: at both, and more at each alone, so that nine in ten are in common
MONTHS = range(1, 7)  # 1 is September 2005, 6 is April

BANK = (
    {ID: "customer", "LIMIT_BAL": "limit_bal", "SEX": "sex", "EDUCATION": "education"}
    | {"MARRIAGE": "marriage", "AGE": "age"}
    | {f"PAY_AMT{month}": f"pay_amt{month}" for month in MONTHS}
)
OUTCOME = {LABEL: "defaulted"}
# The raw table has no PAY_1: its PAY_0 is the delay of the month that its other columns number 1.
CARD = (
    {ID: "client_id"}
    | {f"PAY_{0 if month == 1 else month}": f"pay_delay_{month}" for month in MONTHS}
    | {f"BILL_AMT{month}": f"bill_amt{month}" for month in MONTHS}
)


def main(raw: Path, folder: Path) -> None:
    """Deal the raw table out to the five files of `folder`."""
    content = raw.read_bytes()
    if hashlib.sha256(content).hexdigest() != RAW_SHA256:
        sys.exit(f"{raw}: not the table that this script was written for; see README.md for its source")
    table = csv.read_csv(pa.BufferReader(gzip.decompress(content)))
    new = newcomers(table)
    others = [customer for customer in table[ID].to_pylist() if customer not in new]
    new_at_bank, new_at_card, both, at_bank, at_card = dealt(others, NEW_AT_BANK, NEW_AT_CARD, BOTH, ALONE, ALONE)
    deliver(table, {*both, *at_bank}, BANK | OUTCOME, folder / "bank.csv.gz")
    deliver(table, {*both, *at_card}, CARD, folder / "card.parquet")
    deliver(table, {*new, *new_at_bank}, BANK, folder / "bank_new.csv")
    deliver(table, {*new, *new_at_card}, CARD, folder / "card_new.parquet")
    deliver(table, new, {ID: "customer"} | OUTCOME, folder / "new_outcomes.csv")


def newcomers(table: pa.Table) -> set[int]:
    """NEW customers, of whom the same share defaulted as of all."""
    pairs = zip(table[ID].to_pylist(), table[LABEL].to_pylist(), strict=True)
    groups: dict[int, list[int]] = {0: [], 1: []}
    for customer, outcome in pairs:
        groups[outcome].append(customer)
    defaulted = round(NEW * len(groups[1]) / table.num_rows)
    return {*shuffled(groups[1], "new")[:defaulted], *shuffled(groups[0], "new")[: NEW - defaulted]}


def dealt(customers: Iterable[int], *sizes: int) -> list[list[int]]:
    """Groups of these sizes that have nobody in common; whoever is left over is in none."""
    rest = iter(shuffled(customers, "deal"))
    return [list(itertools.islice(rest, size)) for size in sizes]


def shuffled(customers: Iterable[int], purpose: str) -> list[int]:
    """The customers in an order that says nothing of their numbers, another one for each purpose."""
    return sorted(customers, key=lambda customer: hashlib.sha256(f"{purpose} {customer}".encode()).digest())


def deliver(table: pa.Table, customers: Iterable[int], names: dict[str, str], path: Path) -> None:
    """Write the customers' rows in an order of the file's own, columns under their new names, whole numbers as such."""
    order = pa.array(shuffled(customers, path.name))
    rows = table.take(pc.index_in(order, table[ID].combine_chunks()))
    content = pa.table({new: pc.cast(rows[old], pa.int64(), safe=True) for old, new in names.items()})
    path.write_bytes(as_parquet(content) if path.suffix == ".parquet" else as_csv(content, path))
    print(hashlib.sha256(path.read_bytes()).hexdigest(), "", path.name)


def as_csv(content: pa.Table, path: Path) -> bytes:
    """CSV, compressed where the file's name says so, in bytes that do not depend on the clock."""
    text = io.BytesIO()
    csv.write_csv(content, text, csv.WriteOptions(quoting_style="none"))
    return gzip.compress(text.getvalue(), compresslevel=9, mtime=0) if path.suffix == ".gz" else text.getvalue()


def as_parquet(content: pa.Table) -> bytes:
    """Parquet; its bytes name the version of pyarrow that wrote them."""
    file = io.BytesIO()
    parquet.write_table(content.combine_chunks(), file, compression="zstd", compression_level=19)
    return file.getvalue()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python split.py UCI_Credit_Card.csv.gz")
    main(Path(sys.argv[1]), Path(__file__).parent)
