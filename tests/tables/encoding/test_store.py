"""A store gives back the words that were put into it, row by row in any order, and leaves nothing behind."""

import resource
import stat
import threading
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.tables.encoding.store import FeatureStore

LEAST, MOST = -(2**31), 2**31 - 1


def words(values):
    """Numbers as words modulo 2^64."""
    return np.array(values, dtype=np.int64).view(np.uint64)


@pytest.fixture
def store(tmp_path):
    """Three rows of two columns, not written yet."""
    with closing(FeatureStore.create(tmp_path / "encoded", "customers", 3, 2)) as opened:
        yield opened


def full(store):
    """The same with rows 0 to 2 of 10, 11, 20, 21 and so on."""
    store.append(words([[10, 11], [20, 21], [30, 31]]))
    return store


@given(data=st.data(), rows=st.integers(1, 20), columns=st.integers(0, 4))
def test_what_is_taken_is_what_an_array_would_have_given(tmp_path_factory, data, rows, columns):
    """Whatever the words, the batches they came in, the order of the view and the rows asked for."""
    values = data.draw(st.lists(st.integers(LEAST, MOST), min_size=rows * columns, max_size=rows * columns))
    array = words(values).reshape(rows, columns)
    cuts = data.draw(st.lists(st.integers(0, rows), max_size=3))
    index = np.array(data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=30)))
    wanted = np.array(data.draw(st.lists(st.integers(0, len(index) - 1), max_size=30)), dtype=np.int64)
    with closing(FeatureStore.create(tmp_path_factory.mktemp("any"), "t", rows, columns)) as store:
        for part in np.split(array, sorted(cuts)):
            store.append(part)
        view = store.select(index)
        obtained = view.read_rows(wanted)
    assert view.shape == (len(index), columns)
    assert obtained.dtype == np.uint64
    assert np.array_equal(obtained, array[index][wanted])


def test_rows_may_come_in_any_layout(store):
    """A transposed or sliced array is written row by row all the same."""
    store.append(np.asfortranarray(words([[10, 11], [20, 21]])))
    store.append(words([[30, 0, 31]])[:, ::2])
    assert store.select(np.arange(3)).read_rows(np.arange(3)).tolist() == [[10, 11], [20, 21], [30, 31]]


def test_only_the_owner_can_read_the_file(store, tmp_path):
    """It holds a table."""
    (path,) = (tmp_path / "encoded").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_word_takes_four_bytes_of_disk(store, tmp_path):
    """Half of what it would take in memory."""
    full(store)
    (path,) = (tmp_path / "encoded").iterdir()
    assert path.stat().st_size == 3 * 2 * 4


@pytest.mark.parametrize("value", [LEAST - 1, MOST + 1, 2**62, -(2**63), 2**32])
def test_a_word_that_needs_more_than_32_bits_is_refused(store, value):
    """It would come back as another; the rows before and after are not harmed, and the text does not tell it."""
    store.append(words([[LEAST, MOST]]))
    with pytest.raises(ValueError, match="more than 32 bits") as caught:
        store.append(words([[1, 2], [3, value]]))
    assert str(value) not in str(caught.value)
    store.append(words([[5, 6], [7, 8]]))
    assert store.select(np.array([2, 0])).read_rows(np.array([0, 1])).view(np.int64).tolist() == [[7, 8], [LEAST, MOST]]


@pytest.mark.parametrize("shape", [(4, 2), (1, 3), (2,), (1, 1, 2)])
def test_rows_that_the_store_was_not_made_for_are_refused(store, shape):
    """Too many, too wide, or no rows at all."""
    with pytest.raises(ValueError, match="do not fit"):
        store.append(np.zeros(shape, dtype=np.uint64))


@pytest.mark.parametrize(("rows", "columns"), [(0, 1), (1, -1), (-1, 1)])
def test_a_store_of_nothing_is_refused(tmp_path, rows, columns):
    """And makes no file."""
    with pytest.raises(ValueError, match="at least one row"):
        FeatureStore.create(tmp_path, "t", rows, columns)
    assert list(tmp_path.iterdir()) == []


def test_a_store_is_read_only_when_it_is_full_and_open(store):
    """Else rows would be zeros that nobody wrote."""
    store.append(words([[1, 2]]))
    with pytest.raises(ValueError, match="1 of 3 rows"):
        store.select(np.arange(1))
    store.append(words([[1, 2], [3, 4]]))
    store.close()
    with pytest.raises(ValueError, match="closed"):
        store.select(np.arange(1))


@pytest.mark.parametrize("row", [-1, 3])
def test_a_row_that_is_not_there_is_an_error(store, row):
    """Of the store as of a view, from either end."""
    with pytest.raises(ValueError, match="outside the store's 3"):
        full(store).select(np.array([0, row]))
    with pytest.raises(IndexError):
        store.select(np.array([2, 1, 0])).read_rows(np.array([0, row]))


def test_a_view_cannot_change_the_store(store):
    """What is taken is a copy, what is kept is read-only."""
    view = full(store).select(np.array([1]))
    view.read_rows(np.array([0]))[:] = 0
    assert view.read_rows(np.array([0])).tolist() == [[20, 21]]
    with pytest.raises(ValueError, match="read-only"):
        view.stored[0, 0] = 1


def test_nothing_prints_what_is_kept(store):
    """Views end up in tracebacks."""
    view = full(store).select(np.array([1]))
    assert not any(number in f"{view!r} {store!r}".partition(" at ")[0] for number in ("20", "21"))


def test_closing_removes_the_file_and_leaves_views_readable(store, tmp_path):
    """A thread may be in the middle of a batch; closing again does nothing."""
    view = full(store).select(np.array([2, 1]))
    store.close()
    store.close()
    assert list((tmp_path / "encoded").iterdir()) == []
    assert view.read_rows(np.array([0])).tolist() == [[30, 31]]


def test_a_store_that_was_never_filled_is_removed_as_well(store, tmp_path):
    """A job may fail while it encodes."""
    store.append(words([[1, 2]]))
    store.close()
    assert list((tmp_path / "encoded").iterdir()) == []


def test_two_stores_of_one_name_do_not_share_a_file(store, tmp_path):
    """What an earlier process left behind is not taken for one's own either."""
    with pytest.raises(FileExistsError):
        FeatureStore.create(tmp_path / "encoded", "customers", 3, 2)
    with closing(FeatureStore.create(tmp_path / "encoded", "delays", 1, 1)) as other:
        other.append(words([[7]]))
        full(store)
        assert other.select(np.array([0])).read_rows(np.array([0])).tolist() == [[7]]


def test_a_full_disk_is_an_error_of_that_append_and_the_rows_can_come_again(store):
    """Never a fault when the mapped file is read, nor when it is closed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    store.append(words([[10, 11]]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (12, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            store.append(words([[20, 21], [30, 31]]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    store.append(words([[20, 21], [30, 31]]))
    assert store.select(np.arange(3)).read_rows(np.arange(3)).tolist() == [[10, 11], [20, 21], [30, 31]]


def test_many_threads_may_take_at_once(tmp_path):
    """Each gets its own rows."""
    array = words(np.arange(40_000).reshape(4000, 10))
    generator = np.random.default_rng(1)
    orders = [generator.permutation(4000) for _ in range(4)]
    right = []
    with closing(FeatureStore.create(tmp_path, "t", 4000, 10)) as store:
        store.append(array)
        view = store.select(np.arange(4000)[::-1])

        def read(order):
            right.append(all(np.array_equal(view.read_rows(order), array[::-1][order]) for _ in range(50)))

        threads = [threading.Thread(target=read, args=(order,)) for order in orders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert right == [True] * 4
