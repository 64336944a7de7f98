"""What a transaction did since a savepoint is undone exactly; the rest of it goes on."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Place

import pmkv

Model = dict[bytes, bytes]
THREE = {b"a": b"1", b"b": b"2", b"c": b"3"}


def as_dict(db: Any) -> Model:
    return dict(db.items())


@pytest.fixture
def txn(db: pmkv.Store) -> Iterator[Any]:
    """A transaction of a store with three keys."""
    db.update(THREE)
    with db.begin(write=True) as transaction:
        yield transaction


# -- one savepoint -------------------------------------------------------------------------------


def test_a_rollback_undoes_what_came_after_the_savepoint_and_nothing_else(
    any_db: pmkv.Store,
) -> None:
    any_db.update(THREE)
    with any_db.begin(write=True) as txn:
        txn[b"before"] = b"x"
        savepoint = txn.savepoint()
        del txn[b"a"], txn[b"before"]
        txn[b"b"] = b"new"
        txn[b"large"] = bytes(100_000)
        savepoint.rollback()
        assert as_dict(txn) == THREE | {b"before": b"x"}
        assert len(txn) == 4
        txn[b"after"] = b"y"
    assert as_dict(any_db) == THREE | {b"before": b"x", b"after": b"y"}


def test_a_rollback_may_be_repeated(txn: Any) -> None:
    savepoint = txn.savepoint()
    for turn in range(20):
        txn.update((b"%d" % i, bytes([turn]) * i * 10) for i in range(100))
        txn.delete_many([b"a", b"%d" % turn])
        savepoint.rollback()
        assert as_dict(txn) == THREE


def test_a_release_keeps_the_changes_and_ends_the_savepoint(db: pmkv.Store) -> None:
    with db.begin(write=True) as txn:
        savepoint = txn.savepoint()
        txn[b"k"] = b"v"
        savepoint.release()
        for use in (savepoint.rollback, savepoint.release):
            with pytest.raises(pmkv.ClosedError, match="savepoint has ended"):
                use()
    assert as_dict(db) == {b"k": b"v"}


def test_a_block_that_ends_well_keeps_its_changes(txn: Any) -> None:
    with txn.savepoint() as savepoint:
        txn[b"d"] = b"4"
    assert txn[b"d"] == b"4"
    with pytest.raises(pmkv.ClosedError, match="savepoint has ended"):
        savepoint.rollback()


def test_an_exception_in_a_block_undoes_it_and_goes_on(txn: Any) -> None:
    with pytest.raises(ZeroDivisionError), txn.savepoint() as savepoint:
        txn[b"d"] = b"4"
        raise ZeroDivisionError
    assert as_dict(txn) == THREE
    with pytest.raises(pmkv.ClosedError, match="savepoint has ended"):
        savepoint.rollback()


def test_a_block_may_roll_back_and_release_by_itself(txn: Any) -> None:
    with txn.savepoint() as savepoint:
        txn[b"d"] = b"4"
        savepoint.rollback()
        txn[b"e"] = b"5"
    with txn.savepoint() as savepoint:
        savepoint.release()
        txn[b"f"] = b"6"
    with pytest.raises(ZeroDivisionError), txn.savepoint() as savepoint:
        txn[b"g"] = b"7"
        savepoint.release()
        raise ZeroDivisionError
    assert as_dict(txn) == THREE | {b"e": b"5", b"f": b"6", b"g": b"7"}


@pytest.mark.parametrize("end", ["commit", "abort"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_transaction_may_end_inside_a_block(db: pmkv.Store, end: str, fails: bool) -> None:
    transaction = db.begin(write=True)
    try:
        with transaction.savepoint():
            transaction[b"k"] = b"v"
            getattr(transaction, end)()
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        assert fails
    assert as_dict(db) == ({b"k": b"v"} if end == "commit" else {})


# -- several -------------------------------------------------------------------------------------


def test_savepoints_nest(db: pmkv.Store) -> None:
    with db.begin(write=True) as txn:
        points, models = [], []
        for depth in range(30):
            models.append(as_dict(txn))
            points.append(txn.savepoint())
            txn.update((b"%d" % i, b"%d" % depth) for i in range(depth, depth * 3))
            txn.delete(b"%d" % (depth // 2))
        for point, model in zip(points[:10:-1], models[:10:-1], strict=True):
            point.rollback()
            assert as_dict(txn) == model
        points[3].rollback()
        assert as_dict(txn) == models[3]
    assert as_dict(db) == models[3]


@pytest.mark.parametrize("end", ["rollback", "release"])
def test_the_end_of_an_outer_one_ends_those_after_it(txn: Any, end: str) -> None:
    first = txn.savepoint()
    outer = txn.savepoint()
    inner, innermost = txn.savepoint(), txn.savepoint()
    getattr(outer, end)()
    for ended in (inner, innermost):
        for use in (ended.rollback, ended.release):
            with pytest.raises(pmkv.ClosedError, match="savepoint has ended"):
                use()
    if end == "rollback":
        outer.rollback()
    txn[b"d"] = b"4"
    first.rollback()
    assert as_dict(txn) == THREE


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_the_end_of_the_transaction_ends_all(db: pmkv.Store, end: str) -> None:
    transaction = db.begin(write=True)
    points = [transaction.savepoint() for _ in range(3)]
    getattr(transaction, end)()
    with db.begin(write=True) as other:
        other.savepoint()
        for point in points:
            for use in (point.rollback, point.release, point.__enter__):
                with pytest.raises(pmkv.ClosedError, match="transaction has ended"):
                    use()
    with pytest.raises(pmkv.ClosedError, match="transaction has ended"):
        transaction.savepoint()


def test_a_savepoint_of_a_closed_store_is_of_no_use(pool_path: Path) -> None:
    db = pmkv.open(pool_path)
    transaction = db.begin(write=True)
    with pytest.raises(pmkv.ClosedError), transaction.savepoint() as savepoint:
        db.close()
        savepoint.rollback()


def test_a_transaction_that_nobody_holds_is_aborted_whatever_savepoints_it_had(
    db: pmkv.Store,
) -> None:
    transaction = db.begin(write=True)
    transaction.savepoint()
    transaction[b"k"] = b"v"
    gc.disable()
    del transaction
    db[b"other"] = b"writer"
    gc.enable()
    assert as_dict(db) == {b"other": b"writer"}


# -- namespaces ----------------------------------------------------------------------------------


def test_namespaces_are_rolled_back_and_those_made_since_are_gone(db: pmkv.Store) -> None:
    db.namespace("old")[b"k"] = b"v"
    with db.begin(write=True) as txn:
        old, early = txn.namespace("old"), txn.namespace("early", ordered=False)
        early[b"e"] = b"1"
        savepoint = txn.savepoint()
        late, again = txn.namespace("late", keys="str"), txn.namespace("old")
        late["l"] = old[b"k"] = early[b"e"] = again[b"x"] = b"2"
        savepoint.rollback()
        with pytest.raises(pmkv.ClosedError, match="'late'"):
            late["l"]
        with pytest.raises(pmkv.ClosedError, match="'late'"):
            late["l"] = b"3"
        assert as_dict(old) == as_dict(again) == {b"k": b"v"}
        assert as_dict(early) == {b"e": b"1"}
        assert txn.namespaces() == ["early", "old"]
        other = txn.namespace("other")  # where the late one was
        other[b"o"] = b"4"
        with pytest.raises(pmkv.ClosedError, match="'late'"):
            len(late)
    assert db.namespaces() == ["early", "old", "other"]
    assert as_dict(db.namespace("other")) == {b"o": b"4"}


def test_a_namespace_of_the_same_name_is_another_one(db: pmkv.Store) -> None:
    with db.begin(write=True) as txn:
        savepoint = txn.savepoint()
        first = txn.namespace("n", keys="str")
        first["k"] = b"v"
        savepoint.rollback()
        second = txn.namespace("n", ordered=False)
        second[b"k"] = b"w"
        with pytest.raises(pmkv.ClosedError):
            first["k"]
        savepoint.rollback()
        with pytest.raises(pmkv.ClosedError):
            second[b"k"]
    assert db.namespaces() == []


# -- scans, views, errors ------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_under_way_sees_that_a_rollback_came_between(db: pmkv.Store, reverse: bool) -> None:
    keys = [b"%04d" % i for i in range(2000)]
    with db.begin(write=True) as txn:
        txn.update((key, b"old") for key in keys)
        savepoint = txn.savepoint()
        txn.put_many((key, b"new") for key in keys)
        scan = txn.items(reverse=reverse)
        found = [pair for pair, _ in zip(iter(scan), range(100), strict=False)]
        assert {value for _, value in found} == {b"new"}
        items = iter(scan)
        first = next(items)
        savepoint.rollback()
        rest = list(items)
        assert first[1] == b"new"
        assert [key for key, _ in rest] == sorted(keys, reverse=reverse)[1:]
        assert {value for _, value in rest} == {b"old"}
        scan = iter(txn)
        next(scan)
        txn[b"more"] = b""
        savepoint.rollback()
        assert len(list(scan)) == 1999


def test_a_scan_under_way_goes_on_among_the_keys_that_a_rollback_brought_back(
    txn: Any,
) -> None:
    txn.put_many((b"k%05d" % i, b"") for i in range(0, 20_000, 10))
    savepoint = txn.savepoint()
    keys = list(txn)
    txn.delete_many(keys)
    txn.put_many((b"k%05d" % i, b"") for i in range(5, 5 + 10 * len(keys), 10))
    scan = iter(txn)
    found = [next(scan) for _ in range(100)]
    savepoint.rollback()
    assert list(scan) == [key for key in keys if key > found[-1]]


def test_a_scan_stops_when_a_rollback_changed_how_many_keys_there_are(txn: Any) -> None:
    savepoint = txn.savepoint()
    txn[b"d"] = b"4"
    scan = iter(txn)
    next(scan)
    savepoint.rollback()
    with pytest.raises(RuntimeError):
        list(scan)


def test_a_cursor_goes_on_after_a_rollback(txn: Any) -> None:
    savepoint = txn.savepoint()
    txn.update((b"b%03d" % i, b"") for i in range(500))
    cursor = txn.cursor()
    assert cursor.set_range(b"b250")
    savepoint.rollback()
    assert cursor.next()
    assert cursor.key() == b"c"


@pytest.mark.parametrize("size", [10, 3000, 5000, 100_000])
def test_views_stay_as_they_are(any_db: pmkv.Store, size: int) -> None:
    any_db[b"k"] = b"o" * size
    with any_db.begin(write=True) as txn:
        savepoint = txn.savepoint()
        views = [txn.view(b"k"), any_db.view(b"k")]
        txn[b"k"] = b"n" * size
        own = txn.view(b"k")
        savepoint.rollback()
        txn.update((b"%d" % i, b"x" * size) for i in range(20))
        views.append(txn.view(b"k"))
        assert own == b"n" * size
        assert all(view == b"o" * size for view in views)
        del txn[b"k"]
    any_db.update((b"%d" % i, b"y" * size) for i in range(20))
    assert all(view == b"o" * size for view in views)
    own.release()
    for view in views:
        view.release()
    any_db.sync()
    assert any_db.stat()["limbo_entries"] == 0


@pytest.mark.parametrize("size", [10, 1000, 5000, 100_000])
def test_after_no_room_was_found_a_rollback_lets_the_transaction_go_on(
    pool_path: Path, size: int
) -> None:
    with pmkv.open(pool_path, max_size="8 MiB") as db:
        db.put_many(THREE)
        used = []
        for turn in range(3):
            with db.begin(write=True) as txn:
                txn[b"first"] = b"x" * size
                for _ in range(3):
                    with pytest.raises(pmkv.PoolFullError), txn.savepoint():
                        txn.put_many((b"many%d" % i, bytes(size)) for i in range(50))
                        for i in range(1 << 20):
                            txn[b"%d" % i] = bytes(size)
                    assert as_dict(txn) == THREE | {b"first": b"x" * size}
                txn[b"a"] = b"%d" % turn
            assert as_dict(db) == THREE | {b"a": b"%d" % turn, b"first": b"x" * size}
            db[b"a"] = THREE[b"a"]
            del db[b"first"]
            assert db.check() == []
            used.append(db.stat()["used_bytes"])
        assert used[0] == used[1] == used[2]


def test_a_transaction_that_has_failed_makes_no_savepoint_and_a_release_does_not_mend_it(
    pool_path: Path,
) -> None:
    with pmkv.open(pool_path, max_size="4 MiB") as db:
        transaction = db.begin(write=True)
        savepoint = transaction.savepoint()
        with pytest.raises(pmkv.PoolFullError):
            transaction[b"large"] = bytes(8 << 20)
        with pytest.raises(pmkv.PoolFullError):
            transaction.savepoint()
        savepoint.release()
        with pytest.raises(pmkv.PoolFullError):
            transaction.commit()
        assert as_dict(db) == {}


# -- space and memory ----------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [False, True])
def test_what_was_rolled_back_takes_no_space(memory_dir: Path, ordered: bool) -> None:
    used = []
    for rolled_back in (False, True):
        with pmkv.open(memory_dir / str(rolled_back), ordered=ordered) as db:
            db.update((b"%d" % i, b"x" * 100) for i in range(100))
            with db.begin(write=True) as txn:
                txn.update((b"%d" % i, b"y" * 90) for i in range(50, 150))
                savepoint = txn.savepoint()
                for i in range(10 if rolled_back else 0):
                    txn.update((b"%d/%d" % (i, j), b"z" * j) for j in range(300))
                    txn.delete_many(b"%d" % j for j in range(20, 120))
                    txn[b"large"] = bytes(1 << 20)
                    savepoint.rollback()
                txn.delete_many(b"%d" % i for i in range(60))
            assert db.check() == []
            used.append(db.stat()["used_bytes"])
    assert used[0] == used[1]


def test_a_savepoint_takes_memory_for_what_it_has_to_restore_only(db: pmkv.Store) -> None:
    db.update((b"%06d" % i, b"old") for i in range(1000))
    with db.begin(write=True) as txn:
        txn.savepoint()
        for i in range(200_000):  # new keys, and the same old ones again and again
            txn[b"%06d" % i if i % 2 else b"%06d" % (i % 1000)] = b"new"
        assert db.memory()["transaction_bytes"] < 60 * 200_000
    assert db.memory()["transaction_bytes"] < 1 << 20


# -- any program ---------------------------------------------------------------------------------

STEMS = [b"", b"k", b"k" * 120, b"k" * 200, b"q" * 3000]
SIZES = [0, 1, 20, 100, 1000, 5000, 70_000]


class Program:
    """Random steps in nested savepoints of transactions; models of all that they can go back to."""

    def __init__(self, db: pmkv.Store, chance: random.Random) -> None:
        self.db, self.chance = db, chance
        self.committed: dict[str, Model] = {"": {}}
        self.model: dict[str, Model] = {}
        self.txn: Any = None
        self.points: list[tuple[Any, dict[str, Model]]] = []
        self.tables: dict[str, Any] = {}

    def copy(self) -> dict[str, Model]:
        return {name: dict(model) for name, model in self.model.items()}

    def run(self, steps: int) -> None:
        self.txn = self.db.begin(write=True)
        self.model = {name: dict(model) for name, model in self.committed.items()}
        self.points, self.tables = [], {"": self.txn}
        for _ in range(steps):
            chance = self.chance.random()
            if chance < 0.12:
                self.points.append((self.txn.savepoint(), self.copy()))
            elif chance < 0.24 and self.points:
                self.roll_back()
            elif chance < 0.28 and self.points:
                at = self.chance.randrange(len(self.points))
                self.points[at][0].release()
                del self.points[at:]
            elif chance < 0.3:
                self.compare(self.txn, self.model)
            else:
                self.change()
        if self.chance.random() < 0.7:
            self.txn.commit()
            self.committed = self.model
        else:
            self.txn.abort()
        assert self.db.check() == []
        self.compare(self.db, self.committed)

    def roll_back(self) -> None:
        at = self.chance.randrange(len(self.points))
        self.points[at][0].rollback()
        del self.points[at + 1 :]
        for name in set(self.model) - set(self.points[at][1]):
            with pytest.raises(pmkv.ClosedError):
                len(self.tables.pop(name))
        self.model = {name: dict(model) for name, model in self.points[at][1].items()}
        if self.chance.random() < 0.3:
            self.compare(self.txn, self.model)

    def change(self) -> None:
        name = self.chance.choice(["", "", "", "o", "u"])
        if name not in self.tables:
            self.tables[name] = self.txn.namespace(name, ordered=name != "u")
        table, model = self.tables[name], self.model.setdefault(name, {})
        stem, chance = self.chance.choice(STEMS), self.chance
        key, value = stem + b"%d" % chance.randrange(60), bytes([chance.randrange(256)])
        what = chance.randrange(10)
        if what < 4:
            table[key] = model[key] = value * chance.choice(SIZES)
        elif what < 6:
            assert table.delete(key) is (model.pop(key, None) is not None)
        elif what < 8:
            many = {stem + b"%d" % chance.randrange(3000): value * 9 for _ in range(300)}
            table.put_many(many)
            model.update(many)
        elif what < 9:
            keys = sorted(model)
            first = chance.randrange(len(keys) + 1)
            gone = keys[first : first + chance.choice((5, 100, 1000))]
            assert table.delete_many(gone) == len(gone)
            for key in gone:
                del model[key]
        else:
            assert table.replace(key, value) == model.get(key)
            model[key] = value

    def compare(self, source: Any, model: dict[str, Model]) -> None:
        assert source.namespaces() == sorted(name for name in model if name)
        for name, expected in model.items():
            table = source.namespace(name) if name else source
            assert len(table) == len(expected)
            found = list(table.items())
            assert dict(found) == expected
            if name != "u":
                assert [key for key, _ in found] == sorted(expected)
                assert list(table.keys(reverse=True)) == sorted(expected, reverse=True)
                assert all(
                    len(table.keys(prefix=stem)) == sum(key.startswith(stem) for key in expected)
                    for stem in STEMS
                )


@pytest.mark.parametrize("seed", range(12))
def test_any_program_leaves_what_a_model_says(pool_path: Path, seed: int, effort: int) -> None:
    for turn in range(effort):
        chance = random.Random(f"{seed} {turn}")
        with pmkv.open(pool_path, "n") as db:
            program = Program(db, chance)
            for _ in range(12):
                program.run(chance.choice((5, 30, 80)))
        with pmkv.open(pool_path, "r") as db:
            assert db.check() == []
            program.compare(db, program.committed)


# -- a crash -------------------------------------------------------------------------------------


def leave_open(path: Path, persistence: str) -> object:
    db = pmkv.open(path, persistence=persistence)
    transaction = db.begin(write=True)
    savepoint = transaction.savepoint()
    transaction.update((b"%d" % i, b"x" * i) for i in range(1000))
    savepoint.rollback()
    transaction.delete_many([b"a", b"b"])
    return db, transaction, savepoint


def leave_committed(path: Path, persistence: str) -> object:
    db = pmkv.open(path, persistence=persistence)
    with db.begin(write=True) as txn:
        txn[b"kept"] = b"1"
        with txn.savepoint() as savepoint:
            txn.update((b"%d" % i, b"x" * i) for i in range(1000))
            txn.delete_many([b"a", b"kept"])
            savepoint.rollback()
            txn[b"b"] = b"new"
    return db


@pytest.mark.parametrize("function", [leave_open, leave_committed])
def test_a_kill_leaves_all_or_nothing(
    any_place: Place, killed_child: Callable[..., None], function: Callable[..., object]
) -> None:
    with any_place.open() as db:
        db.put_many(THREE)
    killed_child(function, *any_place)
    with any_place.open() as db:
        assert db.check() == []
        made = {b"kept": b"1", b"b": b"new"} if function is leave_committed else {}
        assert as_dict(db) == THREE | made


def test_a_walk_without_order_ends_with_a_rollback(pool_path: Path) -> None:
    """The places that it has noted down may be another record's by then."""
    with pmkv.open(pool_path, ordered=False) as db, db.begin(write=True) as txn:
        txn.put_many((b"%d" % i, b"old") for i in range(10))
        savepoint = txn.savepoint()
        txn[b"0"] = b"undone"
        walk = txn.items()
        shown = iter(walk)
        next(shown)
        savepoint.rollback()
        txn[b"0"] = b"x" * 5000
        with pytest.raises(RuntimeError, match="during iteration"):
            list(shown)
