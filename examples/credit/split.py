"""Makes the four example tables from the raw credit table: who holds which columns, and which rows are held out.

    python examples/credit/split.py UCI_Credit_Card.csv.gz

It writes beside itself, always the same content; it changes names and number formats and no value.
"""

import gzip
import hashlib
import io
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv
from sklearn.model_selection import train_test_split

RAW_SHA256 = "3b1c8e69fc71fb19229d8d3dedeeaf70012b7706bee03b534a33a6ba32a78394"
LABEL = "default.payment.next.month"
HELD_OUT = 0.2
MONTHS = range(1, 7)  # 1 is September 2005, 6 is April

BANK = (
    {"ID": "customer", "LIMIT_BAL": "limit_bal", "SEX": "sex", "EDUCATION": "education"}
    | {"MARRIAGE": "marriage", "AGE": "age"}
    | {f"PAY_AMT{month}": f"pay_amt{month}" for month in MONTHS}
    | {LABEL: "defaulted"}
)
# The raw table has no PAY_1: its PAY_0 is the delay of the month that its other columns number 1.
CARD = (
    {"ID": "customer"}
    | {f"PAY_{0 if month == 1 else month}": f"pay_delay_{month}" for month in MONTHS}
    | {f"BILL_AMT{month}": f"bill_amt{month}" for month in MONTHS}
)


def main(raw: Path, folder: Path) -> None:
    """Split the raw table into the four files of `folder`."""
    content = raw.read_bytes()
    if hashlib.sha256(content).hexdigest() != RAW_SHA256:
        sys.exit(f"{raw}: not the table that this script was written for; see README.md for its source")
    table = csv.read_csv(pa.BufferReader(gzip.decompress(content))).sort_by("ID")
    train, held_out = train_test_split(
        range(table.num_rows), test_size=HELD_OUT, stratify=table[LABEL].to_numpy(), random_state=0
    )
    for part, rows in (("train", sorted(train)), ("heldout", sorted(held_out))):
        for party, names in (("bank", BANK), ("card", CARD)):
            write(table.take(rows), names, folder / f"{party}_{part}.csv.gz")


def write(table: pa.Table, names: dict[str, str], path: Path) -> None:
    """Write the columns under their new names, whole numbers as such, in bytes that do not depend on the clock."""
    whole = {new: pc.cast(table[old], pa.int64(), safe=True) for old, new in names.items()}
    text = io.BytesIO()
    csv.write_csv(pa.table(whole), text, csv.WriteOptions(quoting_style="none"))
    path.write_bytes(gzip.compress(text.getvalue(), compresslevel=9, mtime=0))
    print(hashlib.sha256(path.read_bytes()).hexdigest(), path.name)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python split.py UCI_Credit_Card.csv.gz")
    main(Path(sys.argv[1]), Path(__file__).parent)
