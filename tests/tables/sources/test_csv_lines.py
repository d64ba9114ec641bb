"""An error names the line that its owner finds in an editor, whatever stands before it."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.schemas.files.settings import TableSettings
from tercet.tables.core.problem import TableProblem
from tercet.tables.snapshot.snapshot import take_snapshot
from tercet.tables.sources.csv_lines import lines_of

CELL = st.sampled_from(["1", '"a"', '"two\nlines"', '"a ""quoted"" word"', '"\r\n\n"', 'no "quotes" here', "é"])
END = st.sampled_from(["\n", "\r\n", "\n\n", "\n\r\n\n"])


@given(st.lists(st.tuples(CELL, CELL, END), min_size=1, max_size=12), st.sampled_from(["", "\ufeff", "\n\n"]))
def test_a_rows_line_is_where_it_begins(tmp_path_factory, rows, start):
    """Worked out from the text as it is put together."""
    text, wanted = f"{start}customer,x\n", []
    for one, other, end in rows:
        wanted.append(text.count("\n") + 1)
        text += f"{one},{other}{end}"
    path = tmp_path_factory.mktemp("any") / "t.csv"
    path.write_bytes(text.encode())
    assert lines_of(path, range(len(rows))) == wanted
    assert lines_of(path, [len(rows) - 1]) == wanted[-1:]


def refused(folder, text, name="t.csv") -> str:
    """What is wrong with such a table."""
    content = text.encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    settings = TableSettings(path=folder / name, id="customer", numeric=("x",))
    with pytest.raises(TableProblem) as caught:
        take_snapshot("people", settings, folder / "work", with_label=False)
    return caught.value.what


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_blank_lines_and_lines_within_quotes_are_counted(tmp_path, name):
    """40 rows of two lines each before the one that is wrong."""
    rows = "".join(f'{row},"a\nb",1\n' for row in range(20)) + "".join(f"{row},c,1\n\n" for row in range(20, 40))
    head = "customer,note,x\n"
    assert "other than numbers (line 82)" in refused(tmp_path, head + rows + "40,c,old\n", name)
    assert "already further up (line 82)" in refused(tmp_path, head + rows + "7,c,1\n", name)
    assert "line 82 has not 3 columns as those before but 2" in refused(tmp_path, head + rows + "40,c\n", name)


def test_a_file_that_is_gone_by_then_still_gives_an_error(tmp_path):
    """With lines as if each row had one."""
    assert lines_of(tmp_path / "gone.csv", [0, 40]) == [2, 42]
    (tmp_path / "t.csv").write_text("customer,x\n1,2\n")
    assert lines_of(tmp_path / "t.csv", [0, 40]) == [2, 42]
