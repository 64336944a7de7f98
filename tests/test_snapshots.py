"""A snapshot shows one moment, whatever is written meanwhile, and keeps no more than it sees."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import pmkv

Model = dict[bytes, bytes]

NAMES = [b"k%d" % i for i in range(60)]
NAMES += [b"", b"\0", b"\0\0", b"a\0", b"a\0b", b"a", b"\xff", b"\xff\xff", b"\0" * 200]
NAMES += [b"a" * 300 + b"1", b"a" * 300 + b"2", b"a" * 300]
SIZES = (0, 10, 100, 3000, 9000)


def assert_alike(shown: Any, model: Model, ordered: bool, rng: random.Random) -> None:
    """A mapping is as a dict, by whatever way it is asked."""
    assert len(shown) == len(model)
    keys = sorted(model)
    assert sorted(shown.items()) == sorted(model.items())
    wanted = rng.sample(NAMES, 20)
    assert shown.get_many(wanted) == [model.get(key) for key in wanted]
    assert [key in shown for key in wanted] == [key in model for key in wanted]
    if not ordered:
        return
    assert list(shown) == keys and list(reversed(shown)) == keys[::-1]
    low, high = sorted(rng.sample(NAMES, 2))
    inside = [key for key in keys if low <= key < high]
    assert list(shown.keys(start=low, stop=high)) == inside
    assert len(shown.keys(start=low, stop=high)) == len(inside)
    inside = [key for key in reversed(keys) if low < key <= high]
    bounds: dict[str, Any] = {"start": low, "stop": high}
    bounds |= {"include_start": False, "include_stop": True, "reverse": True}
    assert list(shown.keys(**bounds)) == inside
    assert list(shown.values(prefix=b"k1")) == [model[k] for k in keys if k.startswith(b"k1")]
    for index in rng.sample(range(len(keys)), min(3, len(keys))):
        assert shown.key_at(index) == keys[index]


def change(db: Any, model: Model, rng: random.Random) -> None:
    """One random write."""
    chance, key = rng.random(), rng.choice(NAMES)
    if chance < 0.6:
        db[key] = model[key] = rng.randbytes(rng.choice(SIZES))
    elif chance < 0.9:
        assert db.delete(key) == (model.pop(key, None) is not None)
    elif chance < 0.98:
        pairs = {rng.choice(NAMES): rng.randbytes(20) for _ in range(30)}
        db.put_many(pairs)
        model.update(pairs)
    else:
        db.clear()
        model.clear()


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
@pytest.mark.parametrize("seed", range(3))
def test_snapshots_that_come_and_go_show_their_moments(
    pool_path: Path, ordered: bool, seed: int, effort: int
) -> None:
    rng = random.Random(seed)
    with pmkv.open(pool_path, ordered=ordered) as db:
        named = db.namespace("named", ordered=ordered)
        now: tuple[Model, Model] = ({}, {})
        snapshots: list[tuple[pmkv.Snapshot, tuple[Model, Model]]] = []
        for _ in range(300 * effort):
            for mapping, model in zip((db, named), now, strict=True):
                change(mapping, model, rng)
            if rng.random() < 0.15 and len(snapshots) < 6:
                snapshots.append((db.snapshot(), (dict(now[0]), dict(now[1]))))
            if snapshots and rng.random() < 0.12:
                snapshots.pop(rng.randrange(len(snapshots)))[0].close()
            if snapshots and rng.random() < 0.2:
                snapshot, models = rng.choice(snapshots)
                assert_alike(snapshot, models[0], ordered, rng)
                assert_alike(snapshot.namespace("named"), models[1], ordered, rng)
            if rng.random() < 0.02:
                assert db.check() == []
        assert_alike(db, now[0], ordered, rng)
        for snapshot, _ in snapshots:
            snapshot.close()
        db.sync()
        assert db.check() == []


def test_a_snapshot_keeps_what_it_sees_and_not_what_was_written_since(pool_path: Path) -> None:
    """A thousand keys, overwritten a hundred times each: a thousand versions are kept."""
    keys = [b"%04d" % i for i in range(1000)]
    with pmkv.open(pool_path) as db:
        db.put_many((key, b"0" * 100) for key in keys)
        db.put_many((key, b"1" * 100) for key in keys)
        before = db.stat()["used_bytes"]
        with db.snapshot() as snapshot:
            for turn in range(100):
                db.put_many((key, b"%02d" % turn * 50) for key in keys)
                if turn == 1:
                    kept = db.stat()["used_bytes"]
            assert kept - before < 1000 * 500
            assert db.stat()["used_bytes"] < kept * 3 // 2
            assert set(snapshot.values()) == {b"1" * 100}
        db.sync()
        assert db.stat()["used_bytes"] < kept * 3 // 4
        assert db.check() == []


def test_a_snapshot_only_reads(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        db[b"key"] = b"value"
        with db.begin(write=False) as snapshot:
            writes: list[Any] = [
                lambda: snapshot.put(b"key", b"x"),
                lambda: snapshot.__delitem__(b"key"),
                lambda: snapshot.put_many({b"a": b"b"}),
                lambda: snapshot.incr(b"n"),
                lambda: snapshot.pop(b"key"),
                snapshot.popitem,
                snapshot.clear,
                lambda: snapshot.update({b"a": b"b"}),
            ]
            for write in writes:
                with pytest.raises(pmkv.ReadonlyError, match="only reads"):
                    write()
            with pytest.raises(pmkv.NotFoundError, match="makes none"):
                snapshot.namespace("new")
        assert snapshot.closed
        uses: list[Any] = [lambda: snapshot[b"key"], lambda: len(snapshot), lambda: list(snapshot)]
        for use in uses:
            with pytest.raises(pmkv.ClosedError, match="has ended"):
                use()
        snapshot.close()
        assert db[b"key"] == b"value"


def test_a_view_of_a_snapshot_outlives_it(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        db[b"small"], db[b"large"] = b"old", b"old" * 5000
        with db.snapshot() as snapshot:
            db[b"small"] = db[b"large"] = b"new"
            views = snapshot.view(b"small"), snapshot.view(b"large")
        for _ in range(50):
            db[b"small"] = db[b"large"] = b"newer"
        db.sync()
        assert [bytes(view) for view in views] == [b"old", b"old" * 5000]
        assert db.check() == []
        for view in views:
            view.release()


def test_namespaces_are_those_of_the_moment(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        db.namespace("gone")[b"a"] = b"1"
        db.namespace("empty")
        with db.snapshot() as snapshot:
            db.drop("gone")
            db.drop("empty")
            db.namespace("gone")[b"a"] = b"2"
            db.namespace("new")[b"b"] = b"3"
            assert snapshot.namespaces() == ["empty", "gone"]
            assert dict(snapshot.namespace("gone")) == {b"a": b"1"}
            assert dict(snapshot.namespace("empty")) == {}
            assert db.check() == []
        assert db.namespaces() == ["gone", "new"]
        db.sync()
        assert db.check() == []


def test_versions_that_a_crash_leaves_are_cleared_away(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        db.put_many((b"%04d" % i, b"0" * 500) for i in range(1000))
        before = db.stat()["used_bytes"]
        snapshot = db.snapshot()
        db.put_many((b"%04d" % i, b"1" * 500) for i in range(1000))
        copy = pool_path.with_suffix(".copy")
        copy.write_bytes(pool_path.read_bytes())
        snapshot.close()
    with pmkv.open(copy) as db:
        assert db.check() == []
        assert db.stat()["used_bytes"] > before + 500_000
        for i in range(500):
            db[b"x"] = b"%d" % i
        db.sync()
        assert db.stat()["used_bytes"] < before + 100_000
        assert db.check() == []


def test_a_snapshot_does_not_see_a_transaction_that_was_open_when_it_was_taken(
    pool_path: Path,
) -> None:
    with pmkv.open(pool_path) as db:
        db[b"changed"], db[b"deleted"] = b"old", b"old"
        with db.begin(write=True) as txn:
            txn[b"changed"] = b"new"
            del txn[b"deleted"]
            txn[b"made"] = b"new"
            snapshot = db.snapshot()
        assert dict(snapshot) == {b"changed": b"old", b"deleted": b"old"}
        assert len(snapshot) == 2
        assert dict(db) == {b"changed": b"new", b"made": b"new"}
        snapshot.close()
        assert db.check() == []
