"""What a transaction leaves behind, when views are held, when it is killed, large or refused."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import Place
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import pmkv

Model = dict[bytes, bytes]
THREE = {b"a": b"1", b"b": b"2", b"c": b"3"}


def as_dict(db: Any) -> Model:
    return dict(db.items())


def elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in another thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result()


# -- views ---------------------------------------------------------------------------------------

SIZES = [1, 100, 3000, 5000, 70_000, 1 << 20]


def churn(db: Any, size: int) -> None:
    """Gives free space of that size to others, several times over."""
    for turn in range(3):
        db.put_many((b"churn%d" % i, bytes([turn]) * size) for i in range(20))
    db.delete_many(b"churn%d" % i for i in range(20))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("end", ["commit", "abort"])
def test_a_view_of_an_own_value_stays_as_it_is(db: pmkv.Store, end: str, size: int) -> None:
    transaction = db.begin(write=True)
    transaction[b"key"] = b"v" * size
    view = transaction.view(b"key")
    transaction[b"key"] = b"w" * size
    later = transaction.view(b"key")
    del transaction[b"key"]
    assert bytes(view) == b"v" * size
    getattr(transaction, end)()
    churn(db, size)
    assert bytes(view) == b"v" * size
    assert bytes(later) == b"w" * size
    view.release()
    later.release()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("end", ["commit", "abort"])
@pytest.mark.parametrize("moment", ["before", "untouched", "overwritten", "deleted"])
def test_a_view_of_a_value_that_a_transaction_changes_stays_as_it_is(
    any_db: pmkv.Store, moment: str, end: str, size: int
) -> None:
    any_db[b"key"] = b"v" * size
    views = [any_db.view(b"key")] if moment == "before" else []
    transaction = any_db.begin(write=True)
    if moment == "untouched":
        views = [transaction.view(b"key"), any_db.view(b"key")]
    transaction[b"key"] = b"w" * size
    if moment == "overwritten":
        views = [any_db.view(b"key"), elsewhere(any_db.view, b"key")]
    del transaction[b"key"]
    if moment == "deleted":
        views = [any_db.view(b"key"), elsewhere(any_db.view, b"key")]
    churn(transaction, size)
    getattr(transaction, end)()
    churn(any_db, size)
    unchanged = [bytes(view) == b"v" * size for view in views]
    for view in views:
        view.release()
    assert all(unchanged)
    any_db.sync()
    assert any_db.stat()["limbo_entries"] == 0


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_views_dropped_during_a_transaction_give_their_space_back(db: pmkv.Store, end: str) -> None:
    keys = [b"%d" % i for i in range(2000)]
    db.put_many((key, key * 50) for key in keys)
    views = [db.view(key) for key in keys]
    transaction = db.begin(write=True)
    transaction.update((key, b"new") for key in keys[:1500])
    assert all(bytes(view) == key * 50 for view, key in zip(views, keys, strict=True))
    del views[1000:]
    getattr(transaction, end)()
    assert db.check() == []
    assert all(bytes(view) == key * 50 for view, key in zip(views, keys, strict=False))
    views.clear()
    db.sync()
    assert db.stat()["limbo_entries"] == 0
    new = 1500 if end == "commit" else 0
    assert db.get_many(keys) == [b"new"] * new + [key * 50 for key in keys[new:]]


# -- killed, large, full -------------------------------------------------------------------------


def leave_a_transaction_open(path: Path, persistence: str, many: int) -> object:
    db = pmkv.open(path, persistence=persistence)
    transaction = db.begin(write=True)
    transaction.update((b"%d" % i, b"x" * (i % 3000)) for i in range(many))
    transaction.delete_many([b"a", b"b"])
    transaction[b"c"] = bytes(1 << 20)
    return db, transaction


@pytest.mark.parametrize("many", [0, 10, 5000])
def test_a_kill_in_the_middle_leaves_nothing_of_it(
    any_place: Place, killed_child: Callable[..., None], many: int
) -> None:
    with any_place.open() as db:
        db.put_many(THREE)
    for _ in range(2):
        killed_child(leave_a_transaction_open, *any_place, many)
        with any_place.open() as db:
            assert db.check() == []
            assert as_dict(db) == THREE
            db[b"kept"] = b"x"
            del db[b"kept"]


def commit_once(path: Path, persistence: str, many: int) -> object:
    db = pmkv.open(path, persistence=persistence)
    with db.begin(write=True) as transaction:
        for i in range(many):
            transaction[b"%d" % i] = b"x" * i
        transaction.delete_many([b"a", b"b", b"c"])
    return db


@pytest.mark.parametrize("many", [1, 100, 5000])
def test_a_kill_after_it_leaves_all_of_it_as_one_commit(
    any_place: Place, killed_child: Callable[..., None], many: int
) -> None:
    with any_place.open() as db:
        db.put_many(THREE)
    killed_child(commit_once, *any_place, many)
    with any_place.open() as db:
        assert db.info()["replayed_commits"] <= 1
        assert as_dict(db) == {b"%d" % i: b"x" * i for i in range(many)}
        assert db.check() == []


def commit_again_and_again(place: Place, out: int) -> None:
    with place.open() as db:
        for turn in range(int(db.get(b"turn", b"0")) + 1, 1 << 30):
            with db.begin(write=True) as transaction:
                for i in range(20):
                    transaction[b"%d" % i] = b"%d" % turn * 50
                transaction[b"turn"] = b"%d" % turn
            os.write(out, b".")


@pytest.mark.parametrize("persistence", ["process", "page"])
def test_a_kill_at_any_moment_leaves_whole_transactions(
    persistence: str, pool_path: Path, disk_path: Path, effort: int
) -> None:
    place = Place(disk_path if persistence == "page" else pool_path, persistence)
    chance, turn = random.Random(7), 0
    for _ in range(15 * effort):
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                commit_again_and_again(place, theirs)
            finally:
                os._exit(1)
        os.close(theirs)
        acknowledged = len(os.read(ours, 1))
        for _ in range(chance.randrange(30_000)):
            pass
        os.kill(pid, signal.SIGKILL)
        while got := os.read(ours, 4096):
            acknowledged += len(got)
        os.close(ours)
        assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        with place.open() as db:
            found = int(db[b"turn"])
            assert turn + acknowledged <= found <= turn + acknowledged + 1
            assert all(db[b"%d" % i] == b"%d" % found * 50 for i in range(20))
            assert db.check() == []
        turn = found


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_a_transaction_of_a_hundred_thousand_puts(any_db: pmkv.Store, end: str) -> None:
    any_db.put_many(THREE)
    before = any_db.stat()["used_bytes"]
    transaction = any_db.begin(write=True)
    for i in range(100_000):
        transaction[b"%d" % i] = b"%d" % i
    assert len(transaction) == 100_003
    assert len(any_db) == 3
    getattr(transaction, end)()
    if end == "abort":
        assert as_dict(any_db) == THREE
        assert any_db.stat()["used_bytes"] == before
    else:
        assert as_dict(any_db) == THREE | {b"%d" % i: b"%d" % i for i in range(100_000)}
    assert any_db.check() == []


@pytest.mark.parametrize("size", [10, 1000, 5000, 100_000])
def test_a_transaction_that_finds_no_room_is_aborted_and_the_store_goes_on(
    pool_path: Path, size: int
) -> None:
    with pmkv.open(pool_path, max_size="8 MiB") as db:
        db.put_many(THREE)
        for _ in range(3):
            before = db.stat()["used_bytes"]
            transaction = db.begin(write=True)
            with pytest.raises(pmkv.PoolFullError):
                for i in range(1 << 20):
                    transaction[b"%d" % i] = bytes(size)
            assert as_dict(db) == THREE
            transaction.abort()
            assert as_dict(db) == THREE
            assert db.check() == []
            assert db.stat()["used_bytes"] == before
            with db.begin(write=True) as transaction:
                transaction[b"a"] = b"n" * size
            assert db[b"a"] == b"n" * size
            db[b"a"] = THREE[b"a"]


def test_a_transaction_that_has_found_no_room_does_not_commit_what_it_had(
    pool_path: Path,
) -> None:
    with pmkv.open(pool_path, max_size="4 MiB") as db:
        db.put_many(THREE)
        transaction = db.begin(write=True)
        transaction[b"d"] = b"4"
        with pytest.raises(pmkv.PoolFullError):
            transaction[b"large"] = bytes(8 << 20)
        with pytest.raises(pmkv.PoolFullError):
            transaction.commit()
        assert transaction.closed
        assert as_dict(db) == THREE
        with pytest.raises(pmkv.PoolFullError), db.begin(write=True) as transaction:
            transaction[b"d"] = b"4"
            transaction[b"large"] = bytes(8 << 20)
        assert as_dict(db) == THREE
        db[b"d"] = b"4"
        assert db.check() == []


# -- any sequence --------------------------------------------------------------------------------

KEYS = st.one_of(
    st.sampled_from([b"", b"k" * 200, b"k" * 201, b"k" * 5000]),
    st.integers(0, 5).map(lambda i: b"%d" % i),
    st.integers(0, 5).map(lambda i: b"k" * 190 + b"%d" % i),
)
VALUES = st.builds(
    lambda byte, size: bytes([byte]) * size,
    st.integers(0, 255),
    st.sampled_from([0, 1, 100, 1000, 4096, 5000, 70_000]),
)


class TransactionsAgainstDict(RuleBasedStateMachine):
    """Operations in transactions that end in either way, compared with dicts."""

    path = ""

    def __init__(self) -> None:
        super().__init__()
        self.db = pmkv.open(self.path, "n")
        self.committed: Model = {}
        self.model: Model = {}
        self.transaction: Any = None
        self.views: list[tuple[memoryview, bytes]] = []

    @property
    def table(self) -> Any:
        return self.db if self.transaction is None else self.transaction

    @precondition(lambda self: self.transaction is None)
    @rule()
    def begin(self) -> None:
        self.transaction = self.db.begin(write=True)

    @precondition(lambda self: self.transaction is not None)
    @rule(commit=st.booleans())
    def end(self, commit: bool) -> None:
        if commit:
            self.transaction.commit()
            self.committed = dict(self.model)
        else:
            self.transaction.abort()
            self.model = dict(self.committed)
        self.transaction = None
        for size in {len(value) for _, value in self.views}:
            churn(self.db, size)
        assert self.db.check() == []

    @rule(key=KEYS, value=VALUES)
    def put(self, key: bytes, value: bytes) -> None:
        self.table[key] = self.model[key] = value

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        assert self.table.delete(key) is (self.model.pop(key, None) is not None)

    @rule(key=KEYS, value=VALUES)
    def replace(self, key: bytes, value: bytes) -> None:
        assert self.table.replace(key, value) == self.model.get(key)
        self.model[key] = value

    @rule(stem=KEYS, value=VALUES, count=st.sampled_from([3, 40, 300]))
    def put_many(self, stem: bytes, value: bytes, count: int) -> None:
        pairs = [(stem + b"%d" % i, value[:50]) for i in range(count)]
        self.table.put_many(pairs)
        self.model.update(pairs)

    @rule(stem=KEYS, count=st.sampled_from([3, 40, 300]))
    def delete_many(self, stem: bytes, count: int) -> None:
        keys = [stem + b"%d" % i for i in range(count)]
        gone = [key for key in keys if self.model.pop(key, None) is not None]
        assert self.table.delete_many(keys) == len(gone)

    @rule()
    def clear(self) -> None:
        self.table.clear()
        self.model.clear()

    @rule()
    def popitem_and_put_back(self) -> None:
        """Which pair is popped differs from pool to pool; what follows must not."""
        if self.model:
            key, value = self.table.popitem()
            assert self.model[key] == value
            assert len(self.table) == len(self.model) - 1
            self.table[key] = value

    @rule(inside=st.booleans(), data=st.data())
    def view(self, inside: bool, data: st.DataObject) -> None:
        table, model = (self.table, self.model) if inside else (self.db, self.outside())
        if model:
            key = data.draw(st.sampled_from(sorted(model)))
            self.views.append((table.view(key), model[key]))

    @precondition(lambda self: self.transaction is not None and self.committed)
    @rule(data=st.data(), value=VALUES)
    def overwrite_and_view_what_was_there(self, data: st.DataObject, value: bytes) -> None:
        key = data.draw(st.sampled_from(sorted(self.committed)))
        self.transaction[key] = self.model[key] = value
        self.views.append((self.db.view(key), self.committed[key]))

    @precondition(lambda self: self.views)
    @rule()
    def drop_views(self) -> None:
        for view, _ in self.views:
            view.release()
        self.views.clear()

    def outside(self) -> Model:
        return self.model if self.transaction is None else self.committed

    @rule(prefix=KEYS, reverse=st.booleans())
    def scan(self, prefix: bytes, reverse: bool) -> None:
        for table, model in ((self.table, self.model), (self.db, self.outside())):
            expected = sorted((key for key in model if key.startswith(prefix)), reverse=reverse)
            assert list(table.keys(prefix=prefix, reverse=reverse)) == expected
            assert list(table.items(reverse=reverse)) == sorted(model.items(), reverse=reverse)

    @invariant()
    def all_is_as_it_should_be(self) -> None:
        if self.transaction is None:
            self.committed = dict(self.model)
        assert len(self.table) == len(self.model)
        assert len(self.db) == len(self.outside())
        assert all(bytes(view) == value for view, value in self.views)

    def teardown(self) -> None:
        for view, _ in self.views:
            view.release()
        if self.transaction is not None:
            self.transaction.abort()
        problems, found = self.db.check(), as_dict(self.db)
        self.db.close()
        assert problems == []
        assert found == self.committed


def test_any_transactions_leave_a_store_and_a_dict_alike(pool_path: Path, effort: int) -> None:
    class Machine(TransactionsAgainstDict):
        path = str(pool_path)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=150 * effort,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
