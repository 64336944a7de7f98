"""A transaction's changes happen together or not at all, and nobody else sees them before."""

from __future__ import annotations

import gc
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Place

import pmkv

Model = dict[bytes, bytes]
HANG = 10  # seconds after which a thread that does not end is taken for hung
MOMENT = 0.1  # seconds that a thread gets to do what it must not do


class Thread(threading.Thread):
    """Calls a function in another thread; join() and result() have a limit of time."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        super().__init__(daemon=True)
        self.function, self.arguments = function, arguments
        self.returned: Any = None
        self.raised: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.returned = self.function(*self.arguments)
        except BaseException as error:
            self.raised = error

    def waits(self) -> bool:
        self.join(MOMENT)
        return self.is_alive()

    def result(self) -> Any:
        self.join(HANG)
        assert not self.is_alive(), "the thread hangs"
        if self.raised is not None:
            raise self.raised
        return self.returned


def elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in another thread."""
    return Thread(function, *arguments).result()


def as_dict(db: Any) -> Model:
    return dict(db.items())


@pytest.fixture
def some(db: pmkv.Store) -> pmkv.Store:
    """A store with three keys."""
    db.put_many(THREE)
    return db


THREE = {b"a": b"1", b"b": b"2", b"c": b"3"}

# Each changes the store, or a transaction, and a dict alike.
CHANGES: dict[str, Callable[[Any], Any]] = {
    "setitem": lambda db: db.__setitem__(b"new", b"value"),
    "overwrite": lambda db: db.__setitem__(b"a", b"another"),
    "delitem": lambda db: db.__delitem__(b"a"),
    "pop": lambda db: db.pop(b"b"),
    "pop_missing": lambda db: db.pop(b"no", b"default"),
    "setdefault": lambda db: db.setdefault(b"new", b"value"),
    "setdefault_there": lambda db: db.setdefault(b"c", b"value"),
    "update": lambda db: db.update({b"a": b"x", b"d": b"y" * 5000}),
    "clear": lambda db: db.clear(),
    "large": lambda db: db.__setitem__(b"c", b"z" * 100_000),
    "long_key": lambda db: db.__setitem__(b"k" * 5000, b"value"),
    "many": lambda db: db.update((b"%d" % i, b"%d" % i) for i in range(3000)),
}


# -- all of it, or nothing -----------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_inside_at_once_and_outside_after_commit(
    any_db: pmkv.Store, change: str
) -> None:
    any_db.put_many(THREE)
    model = dict(THREE)
    transaction = any_db.begin(write=True)
    assert CHANGES[change](transaction) == CHANGES[change](model)
    assert as_dict(transaction) == transaction == model
    assert list(transaction) == sorted(model)
    assert len(transaction) == len(model)
    assert as_dict(any_db) == elsewhere(as_dict, any_db) == THREE
    assert len(any_db) == elsewhere(len, any_db) == 3
    transaction.commit()
    assert as_dict(any_db) == elsewhere(as_dict, any_db) == model


@pytest.mark.parametrize("change", CHANGES)
def test_an_abort_leaves_everything_as_it_was(any_db: pmkv.Store, change: str) -> None:
    any_db.put_many(THREE)
    before, commit = any_db.stat()["used_bytes"], any_db.stat()["commit"]
    for _ in range(3):
        transaction = any_db.begin(write=True)
        CHANGES[change](transaction)
        transaction.abort()
        assert as_dict(any_db) == THREE
        assert any_db.check() == []
        assert any_db.stat()["used_bytes"] == before
        assert any_db.stat()["commit"] == commit


def test_an_abort_of_small_changes_leaves_all_counts_as_they_were(some: pmkv.Store) -> None:
    before = some.stat()
    for change in CHANGES:
        with pytest.raises(ZeroDivisionError), some.begin(write=True) as transaction:
            CHANGES[change](transaction)
            raise ZeroDivisionError
        assert some.stat() == before
        assert some.check() == []


@pytest.mark.parametrize("change", CHANGES)
def test_a_commit_is_there_after_reopening_and_an_abort_is_not(
    any_place: Place, change: str
) -> None:
    model = dict(THREE)
    CHANGES[change](model)
    with any_place.open() as db:
        db.put_many(THREE)
        transaction = db.begin(write=True)
        CHANGES[change](transaction)
        transaction.commit()
        with pytest.raises(ZeroDivisionError), db.begin(write=True) as transaction:
            transaction.clear()
            transaction[b"aborted"] = b"x" * 10_000
            raise ZeroDivisionError
    with any_place.open() as db:
        assert as_dict(db) == model
        assert db.check() == []


def test_a_transaction_that_changes_nothing_commits_and_aborts(some: pmkv.Store) -> None:
    before = some.stat()
    some.begin(write=True).commit()
    some.begin(write=True).abort()
    with some.begin(write=True) as transaction:
        assert as_dict(transaction) == THREE
    assert as_dict(some) == THREE
    assert some.stat()["used_bytes"] == before["used_bytes"]


def test_the_with_block_commits_at_its_end(some: pmkv.Store) -> None:
    with some.begin(write=True) as transaction:
        transaction[b"d"] = b"4"
        assert not transaction.closed
    assert transaction.closed
    assert some[b"d"] == b"4"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_exception_that_leaves_the_with_block_aborts(
    some: pmkv.Store, error: type[BaseException]
) -> None:
    with pytest.raises(error), some.begin(write=True) as transaction:
        transaction.clear()
        raise error
    assert transaction.closed
    assert as_dict(some) == THREE
    some[b"d"] = b"4"


def test_an_error_of_an_argument_leaves_the_transaction_open(some: pmkv.Store) -> None:
    bad: Any = 5
    with some.begin(write=True) as transaction:
        transaction[b"d"] = b"4"
        for wrong in (
            lambda: transaction.put(bad, b""),
            lambda: transaction.put(b"e", bad),
            lambda: transaction.put_many([(b"e", b"5"), (b"f", bad)]),
            lambda: transaction.delete_many([b"a", bad]),
            lambda: transaction.compare_and_set(b"a", b"1", bad),
            lambda: transaction.replace(b"a", bad),
            lambda: transaction[b"missing"],
            lambda: transaction.pop(b"missing"),
            lambda: transaction.__delitem__(b"missing"),
        ):
            with pytest.raises((TypeError, KeyError)):
                wrong()
        assert as_dict(transaction) == THREE | {b"d": b"4"}
        transaction[b"e"] = b"5"
    assert as_dict(some) == THREE | {b"d": b"4", b"e": b"5"}


# -- own writes are read -------------------------------------------------------------------------


@pytest.fixture
def changed(some: pmkv.Store) -> Iterator[tuple[Any, Model]]:
    """An open transaction that has changed much, and what it must show."""
    transaction = some.begin(write=True)
    model = {b"a": b"new", b"c": b"3", b"": b"empty key", b"big": b"z" * 100_000}
    transaction[b"a"] = b"old"
    transaction[b"gone"] = b"again"
    transaction.put_many({b"a": b"new", b"": b"empty key", b"big": b"z" * 100_000})
    assert transaction.delete_many([b"b", b"gone", b"never"]) == 2
    for i in range(300):
        transaction[b"%03d" % i] = model[b"%03d" % i] = b"%d" % i
    yield transaction, model
    transaction.commit()
    assert as_dict(some) == model


def test_get_and_in_and_len_read_own_writes(changed: tuple[Any, Model]) -> None:
    transaction, model = changed
    for key in (*model, b"b", b"gone", b"never", b"0000"):
        assert transaction.get(key) == model.get(key)
        assert transaction.get(key, b"default") == model.get(key, b"default")
        assert (key in transaction) is (key in model)
    assert transaction[b"a"] == b"new"
    with pytest.raises(pmkv.NotFoundError):
        transaction[b"b"]
    assert len(transaction) == len(model)
    assert bool(transaction)


def test_get_many_reads_own_writes(changed: tuple[Any, Model]) -> None:
    transaction, model = changed
    keys = [*model, b"b", b"gone"]
    assert transaction.get_many(keys) == [model.get(key) for key in keys]
    assert transaction.get_many([b"b", b"a"], b"no") == [b"no", b"new"]


def test_scans_read_own_writes(changed: tuple[Any, Model]) -> None:
    transaction, model = changed
    expected = sorted(model.items())
    assert list(transaction.items()) == expected
    assert list(transaction.items(reverse=True)) == expected[::-1]
    assert list(transaction.values()) == [value for _, value in expected]
    assert list(reversed(transaction)) == sorted(model, reverse=True)
    tens = [key for key, _ in expected if key.startswith(b"01")]
    assert list(transaction.keys(prefix=b"01")) == tens
    assert list(transaction.keys(prefix=b"01", reverse=True, limit=3)) == tens[:-4:-1]
    assert len(transaction.keys(prefix=b"01")) == len(tens) == 10
    between = [(key, value) for key, value in expected if b"100" < key <= b"big"]
    bounds = {"start": b"100", "stop": b"big", "include_start": False, "include_stop": True}
    assert list(transaction.items(**bounds)) == between
    assert list(transaction.items(**bounds, reverse=True)) == between[::-1]
    assert b"b" not in transaction.keys(start=b"a")
    assert b"a" in transaction.keys(start=b"a")
    assert (b"a", b"new") in transaction.items()


def test_cursor_key_at_and_sample_read_own_writes(changed: tuple[Any, Model]) -> None:
    transaction, model = changed
    expected = sorted(model)
    assert [transaction.key_at(i) for i in range(len(model))] == expected
    assert transaction.key_at(-1) == expected[-1]
    assert sorted(transaction.sample(1000)) == expected
    cursor = transaction.cursor()
    assert [cursor.item() for _ in expected if cursor.next()] == sorted(model.items())
    assert not cursor.set_key(b"b")
    assert cursor.set_range(b"b")
    assert cursor.item() == (b"big", model[b"big"])
    del transaction[b"big"]
    model.pop(b"big")
    assert cursor.next()
    assert cursor.key() == b"c"


def test_pop_popitem_and_replace_read_own_writes(changed: tuple[Any, Model]) -> None:
    transaction, model = changed
    assert transaction.pop(b"a") == model.pop(b"a")
    assert transaction.pop(b"a", None) is None
    assert transaction.replace(b"c", b"replaced") == b"3"
    assert transaction.replace(b"c", b"again") == b"replaced"
    assert transaction.replace(b"b", b"back") is None
    model.update({b"c": b"again", b"b": b"back"})
    for _ in range(20):
        key, value = transaction.popitem()
        assert model.pop(key) == value
    assert as_dict(transaction) == model
    popped = dict(transaction.popitem() for _ in range(len(model)))
    assert popped == model
    with pytest.raises(pmkv.NotFoundError):
        transaction.popitem()
    model.clear()


def test_put_add_delete_and_compare_and_set_read_own_writes(changed: tuple[Any, Model]) -> None:
    transaction, model = changed
    assert not transaction.add(b"a", b"x")
    assert not transaction.put(b"", b"x", overwrite=False)
    assert transaction.add(b"b", b"x")
    assert transaction.delete(b"b")
    assert not transaction.delete(b"b")
    assert not transaction.compare_and_set(b"a", b"1", b"x")
    assert not transaction.compare_and_set(b"a", None, b"x")
    assert transaction.compare_and_set(b"a", b"new", b"newer")
    assert transaction.compare_and_set(b"a", b"newer", None)
    assert transaction.compare_and_set(b"a", None, b"newest")
    assert transaction.setdefault(b"a", b"x") == b"newest"
    transaction |= {b"ior": b"too"}
    model.update({b"a": b"newest", b"ior": b"too"})


def test_clear_forgets_own_writes_too(changed: tuple[Any, Model]) -> None:
    transaction, model = changed
    transaction.clear()
    model.clear()
    assert as_dict(transaction) == {}
    assert len(transaction) == 0
    assert list(transaction.keys(prefix=b"0")) == []
    transaction[b"after"] = model[b"after"] = b"clear"
    assert as_dict(transaction) == model


def test_a_change_of_size_during_iteration_of_a_transaction_is_a_runtime_error(
    changed: tuple[Any, Model],
) -> None:
    transaction, model = changed
    for show in (transaction.keys, transaction.values, transaction.items):
        walk = iter(show())
        next(walk)
        del transaction[model.popitem()[0]]
        with pytest.raises(RuntimeError, match="during iteration"):
            next(walk)


@pytest.mark.parametrize("show", ["keys", "values", "items"])
def test_a_key_that_gives_way_to_another_during_iteration_is_no_damage(
    changed: tuple[Any, Model], show: str
) -> None:
    transaction, model = changed
    walk = iter(getattr(transaction, show)())
    next(walk)
    del transaction[b"010"], model[b"010"]
    transaction[b"010a"] = model[b"010a"] = b"new"
    try:
        list(walk)
    except RuntimeError as error:
        assert "during iteration" in str(error)


def test_values_overwritten_during_iteration_of_a_transaction_are_old_or_new(
    changed: tuple[Any, Model],
) -> None:
    transaction, model = changed
    seen = []
    for key, value in transaction.items():
        assert value in (model[key], b"new" + key)
        seen.append(key)
        for near in (key, *random.Random(key).sample(sorted(model), 3)):
            transaction[near] = model[near] = b"new" + near
    assert seen == sorted(model)


def test_keys_that_are_text_are_so_inside_too(pool_path: Path) -> None:
    with pmkv.open(pool_path, keys="str") as db, db.begin(write=True) as transaction:
        transaction.update({"ß": b"1", "b": b"2"})
        assert list(transaction) == ["b", "ß"]
        assert transaction.popitem()[0] in ("b", "ß")
        assert "ß" in transaction.keys(prefix="ß") or "b" in transaction


def test_a_store_without_order_has_transactions_too(pool_path: Path) -> None:
    with pmkv.open(pool_path, ordered=False) as db:
        with db.begin(write=True) as transaction:
            transaction.update((b"%d" % i, b"v") for i in range(500))
            del transaction[b"0"]
            assert sorted(transaction) == sorted(b"%d" % i for i in range(1, 500))
            with pytest.raises(pmkv.Error, match="ordered=False"):
                transaction.cursor()
            with pytest.raises(pmkv.Error, match="ordered=False"):
                list(transaction.keys(prefix=b"1"))
        assert len(db) == 499
        assert db.check() == []


# -- other threads, and this one -----------------------------------------------------------------

WRITES: dict[str, Callable[[pmkv.Store], Any]] = {
    "setitem": lambda db: db.__setitem__(b"d", b"other"),
    "put": lambda db: db.put(b"d", b"other"),
    "add": lambda db: db.add(b"d", b"other"),
    "large": lambda db: db.put(b"d", bytes(100_000)),
    "delete": lambda db: db.delete(b"a"),
    "delete_many": lambda db: db.delete_many([b"a"]),
    "put_many": lambda db: db.put_many({b"d": b"other"}),
    "pop": lambda db: db.pop(b"b"),
    "popitem": lambda db: db.popitem(),
    "replace": lambda db: db.replace(b"a", b"other"),
    "compare_and_set": lambda db: db.compare_and_set(b"a", b"1", b"other"),
    "setdefault": lambda db: db.setdefault(b"d", b"other"),
    "update": lambda db: db.update({b"d": b"other"}),
    "clear": lambda db: db.clear(),
    "sync": lambda db: db.sync(),
    "check": lambda db: db.check(),
    "begin": lambda db: db.begin(write=True).abort(),
}


@pytest.mark.parametrize("end", ["commit", "abort"])
@pytest.mark.parametrize("write", WRITES)
def test_another_thread_s_write_waits_until_the_transaction_ends(
    some: pmkv.Store, write: str, end: str
) -> None:
    transaction = some.begin(write=True)
    transaction[b"mine"] = b"first"
    other = Thread(WRITES[write], some)
    assert other.waits()
    assert as_dict(some) == THREE
    transaction[b"mine"] = b"second"
    getattr(transaction, end)()
    other.result()
    if write != "clear":
        assert some.get(b"mine", b"second") == b"second"
    assert some.check() == []


@pytest.mark.parametrize("write", WRITES)
def test_a_write_through_the_store_in_the_transaction_s_thread_is_an_error(
    some: pmkv.Store, write: str
) -> None:
    with some.begin(write=True) as transaction:
        transaction[b"mine"] = b"1"
        with pytest.raises(pmkv.Error, match="this thread has a transaction open"):
            WRITES[write](some)
        assert as_dict(some) == THREE
        transaction[b"more"] = b"2"
    assert as_dict(some) == THREE | {b"mine": b"1", b"more": b"2"}
    WRITES[write](some)


def test_a_transaction_inside_another_of_its_thread_is_an_error(some: pmkv.Store) -> None:
    with some.begin(write=True) as transaction:
        transaction[b"d"] = b"4"
        with pytest.raises(pmkv.Error, match="this thread has a transaction open"):
            some.begin(write=True)
    assert as_dict(some) == THREE | {b"d": b"4"}
    some.begin(write=True).abort()


def test_one_thread_may_have_transactions_of_several_stores(
    some: pmkv.Store, memory_dir: Path
) -> None:
    with pmkv.open(memory_dir / "other.pmkv") as other:
        with some.begin(write=True) as first, other.begin(write=True) as second:
            first[b"d"], second[b"d"] = b"4", b"5"
        assert (some[b"d"], other[b"d"]) == (b"4", b"5")


def test_transactions_of_many_threads_come_one_after_the_other(any_db: pmkv.Store) -> None:
    def count() -> None:
        for _ in range(50):
            with any_db.begin(write=True) as transaction:
                number = int(transaction.get(b"number", b"0")) + 1
                transaction[b"number"] = b"%d" % number
                transaction[b"%d" % number] = b"x" * number

    threads = [Thread(count) for _ in range(4)]
    for thread in threads:
        thread.result()
    assert any_db[b"number"] == b"200"
    assert all(any_db[b"%d" % i] == b"x" * i for i in range(1, 201))


@pytest.mark.parametrize("size", [10, 5000, 100_000])
def test_values_that_transactions_overwrite_are_read_whole(any_db: pmkv.Store, size: int) -> None:
    keys = [b"%d" % i for i in range(8)]
    any_db.put_many((key, bytes(size)) for key in keys)
    finished = threading.Event()

    def read() -> int:
        turns = 0
        while not finished.is_set():
            assert all(value == value[:1] * size for value in any_db.get_many(keys))
            view = any_db.view(keys[turns % 8])
            assert bytes(view) == bytes(view[:1]) * size
            view.release()
            turns += 1
        return turns

    readers = [Thread(read), Thread(read)]
    for turn in range(60):
        with any_db.begin(write=True) as transaction:
            for key in keys:
                transaction[key] = bytes([turn]) * size
        assert {any_db[key][:1] for key in keys} == {bytes([turn])}
    finished.set()
    assert all(reader.result() for reader in readers)


# -- the end -------------------------------------------------------------------------------------

USES: dict[str, Callable[[Any], Any]] = {
    **{name: write for name, write in WRITES.items() if name not in ("sync", "check", "begin")},
    "getitem": lambda transaction: transaction[b"a"],
    "get": lambda transaction: transaction.get(b"a"),
    "get_many": lambda transaction: transaction.get_many([b"a"]),
    "in": lambda transaction: b"a" in transaction,
    "len": len,
    "bool": bool,
    "iter": list,
    "items": lambda transaction: list(transaction.items()),
    "range": lambda transaction: list(transaction.keys(prefix=b"a")),
    "len_of_range": lambda transaction: len(transaction.keys(prefix=b"a")),
    "view": lambda transaction: transaction.view(b"a"),
    "cursor": lambda transaction: transaction.cursor(),
    "key_at": lambda transaction: transaction.key_at(0),
    "enter": lambda transaction: transaction.__enter__(),
    "commit": lambda transaction: transaction.commit(),
}
ENDS: dict[str, Callable[[Any], Any]] = {
    "commit": lambda transaction: transaction.commit(),
    "abort": lambda transaction: transaction.abort(),
    "leave": lambda transaction: transaction.__exit__(None, None, None),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("end", ENDS)
def test_a_transaction_that_has_ended_is_of_no_more_use(
    some: pmkv.Store, end: str, use: str
) -> None:
    transaction = some.begin(write=True)
    assert not transaction.closed
    ENDS[end](transaction)
    assert transaction.closed
    for _ in range(2):
        with pytest.raises(pmkv.ClosedError, match="transaction has ended"):
            USES[use](transaction)
    with some.begin(write=True) as later:
        with pytest.raises(pmkv.ClosedError):
            USES[use](transaction)
        later[b"d"] = b"4"
    assert as_dict(some) == THREE | {b"d": b"4"}


@pytest.mark.parametrize("use", USES)
def test_a_transaction_of_a_closed_store_is_of_no_more_use(db: pmkv.Store, use: str) -> None:
    transaction = db.begin(write=True)
    transaction[b"a"] = b"1"
    db.close()
    assert transaction.closed
    with pytest.raises(pmkv.ClosedError, match="closed"):
        USES[use](transaction)
    transaction.abort()
    with pytest.raises(pmkv.ClosedError):
        db.begin(write=True)


def test_to_abort_again_or_after_a_commit_does_nothing(some: pmkv.Store) -> None:
    transaction = some.begin(write=True)
    transaction[b"d"] = b"4"
    transaction.commit()
    transaction.abort()
    transaction.abort()
    assert some[b"d"] == b"4"
    with some.begin(write=True) as another:
        another[b"e"] = b"5"
        transaction.abort()
        another.abort()
        another.abort()
    assert b"e" not in some


def test_a_with_block_may_commit_or_abort_by_itself(some: pmkv.Store) -> None:
    with some.begin(write=True) as transaction:
        transaction[b"d"] = b"4"
        transaction.commit()
    with some.begin(write=True) as transaction:
        transaction[b"e"] = b"5"
        transaction.abort()
    with pytest.raises(ZeroDivisionError), some.begin(write=True) as transaction:
        transaction.commit()
        raise ZeroDivisionError
    assert as_dict(some) == THREE | {b"d": b"4"}


def test_iterators_and_cursors_of_a_transaction_end_with_it(some: pmkv.Store) -> None:
    transaction = some.begin(write=True)
    walk, cursor = iter(transaction.items()), transaction.cursor()
    assert next(walk) == (b"a", b"1")
    assert cursor.first()
    transaction.commit()
    for use in (lambda: next(walk), cursor.next, cursor.value, lambda: list(cursor)):
        with pytest.raises(pmkv.ClosedError):
            use()


def test_closing_the_store_aborts_the_transaction(any_place: Place) -> None:
    with any_place.open() as db:
        db.put_many(THREE)
        transaction = db.begin(write=True)
        transaction.update((b"%d" % i, b"x" * 1000) for i in range(1000))
        del transaction[b"a"]
    assert transaction.closed
    with any_place.open() as db:
        assert as_dict(db) == THREE
        assert db.check() == []


@pytest.mark.parametrize("ordered", [True, False])
def test_a_scan_of_a_transaction_ends_with_the_store(ordered: bool, pool_path: Path) -> None:
    db = pmkv.open(pool_path, ordered=ordered)
    db.update({b"%d" % i: b"v" for i in range(100)})
    scan = iter(db.begin(write=True).items())
    next(scan)
    db.close()
    with pytest.raises(pmkv.ClosedError):
        next(scan)


def test_closing_the_store_in_another_thread_waits_for_the_transaction(some: pmkv.Store) -> None:
    transaction = some.begin(write=True)
    transaction[b"d"] = b"4"
    closing = Thread(some.close)
    closing.waits()
    with pytest.raises(pmkv.ClosedError):
        transaction[b"e"] = b"5"
    transaction.abort()
    try:
        closing.result()
    finally:
        del transaction  # lets a close that hangs go on, so that only this test fails
    assert some.closed


def test_a_transaction_that_is_dropped_aborts_and_lets_writers_in(some: pmkv.Store) -> None:
    before = some.stat()
    transaction = some.begin(write=True)
    transaction[b"d"] = b"4"
    other = Thread(some.put, b"e", b"5")
    assert other.waits()
    del transaction
    other.result()
    assert as_dict(some) == THREE | {b"e": b"5"}
    del some[b"e"]
    assert some.stat()["used_bytes"] == before["used_bytes"]


def test_a_transaction_in_a_reference_cycle_aborts_when_it_is_collected(some: pmkv.Store) -> None:
    transaction = some.begin(write=True)
    transaction[b"d"] = b"4"
    transaction.itself = transaction
    del transaction
    gc.collect()
    assert elsewhere(some.put, b"e", b"5")
    assert as_dict(some) == THREE | {b"e": b"5"}


def test_a_transaction_that_another_thread_drops_aborts(some: pmkv.Store) -> None:
    held = [some.begin(write=True)]
    held[0][b"d"] = b"4"
    elsewhere(held.clear)
    some[b"e"] = b"5"
    assert as_dict(some) == THREE | {b"e": b"5"}


def test_a_transaction_keeps_a_store_that_nobody_else_has_open(pool_path: Path) -> None:
    db = pmkv.open(pool_path)
    db.put_many(THREE)
    transaction = db.begin(write=True)
    transaction[b"d"] = b"4"
    del db
    gc.collect()
    transaction.commit()
    del transaction
    gc.collect()
    with pmkv.open(pool_path) as db:
        assert as_dict(db) == THREE | {b"d": b"4"}


def test_a_store_that_only_reads_has_no_write_transactions(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        db.put_many(THREE)
    with pmkv.open(pool_path, "r") as db:
        with pytest.raises(pmkv.ReadonlyError):
            db.begin(write=True)
        assert as_dict(db) == THREE
