"""A key whose time has come is gone for every reader at once, and its space comes back."""

from __future__ import annotations

import datetime
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reader import Reader

import pmkv

SOON = 0.01  # seconds to live of what a test waits for; what must live until then has LONG first
LONG = 1000.0


@pytest.fixture(params=[True, False], ids=["ordered", "unordered"])
def db(pool_path: Path, request: pytest.FixtureRequest) -> Iterator[pmkv.Store]:
    with pmkv.open(pool_path, ordered=request.param) as store:
        yield store
        store.sync()
        assert store.check() == []


def is_ordered(db: pmkv.Store) -> bool:
    return db.info()["ordered"]


def filled(db: Any, count: int = 200, ttl: float = LONG) -> dict[bytes, bytes]:
    """Every other key expires; those that do not."""
    for i in range(count):
        db.put(b"%04d" % i, b"v%d" % i, ttl=ttl if i % 2 else None)
    return {b"%04d" % i: b"v%d" % i for i in range(0, count, 2)}


def wait() -> None:
    time.sleep(SOON * 1.2)


def let_expire(*mappings: Any, count: int = 200) -> None:
    """What filled() has put and expires does so now, however slow the machine was until here."""
    for mapping in mappings:
        for i in range(1, count, 2):
            mapping.touch(b"%04d" % i, SOON)
    wait()


# -- gone at once ------------------------------------------------------------------------------


def test_what_has_expired_is_not_there_however_one_asks(db: pmkv.Store) -> None:
    left = filled(db)
    named = db.namespace("named", ordered=is_ordered(db))
    filled(named)
    assert len(db) == len(named) == 200
    let_expire(db, named)
    for mapping in (named, db):
        assert dict(mapping) == left
        assert len(mapping) == len(left)
        assert b"0001" not in mapping
        assert mapping.get(b"0001") is None
        assert mapping.get_many([b"0001", b"0002"]) == [None, b"v2"]
        asks: list[Any] = [mapping.__getitem__, mapping.view, mapping.ttl]
        for ask in asks:
            with pytest.raises(pmkv.NotFoundError):
                ask(b"0001")
        assert sorted(mapping.keys()) == sorted(left)
        assert sorted(mapping.values()) == sorted(left.values())
    assert db.stat()["entries"] == len(left)


def test_counts_and_places_are_those_of_what_is_there(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        left = sorted(filled(db))
        let_expire(db)
        assert len(db.keys(start=b"0050", stop=b"0150")) == 50
        assert [db.key_at(i) for i in (0, 1, -1)] == [left[0], left[1], left[-1]]
        assert set(db.sample(100)) == set(left)
        assert list(db.keys(prefix=b"000", reverse=True)) == left[4::-1]
        cursor = db.cursor()
        assert cursor.set_range(b"0001") and cursor.key() == b"0002"
        with pytest.raises(IndexError):
            db.key_at(100)


def test_what_has_expired_counts_as_missing_for_writes(db: pmkv.Store) -> None:
    filled(db)
    let_expire(db)
    assert not db.delete(b"0001")
    assert db.delete_many([b"0001", b"0002", b"0003"]) == 1
    assert db.pop(b"0003", None) is None
    assert db.replace(b"0005", b"new") is None
    assert db.add(b"0007", b"new")
    assert not db.add(b"0008", b"new")
    assert not db.compare_and_set(b"0009", b"v9", b"new")
    assert db.compare_and_set(b"0009", None, b"new")
    assert db.put(b"0011", b"new", overwrite=False)
    assert db.incr(b"0013") == 1
    assert db.setdefault(b"0015", b"new") == b"new"
    assert not db.touch(b"0017", LONG)
    while db:
        key, value = db.popitem()
        assert int(key) % 2 == 0 or value in (b"new", b"1")


def test_a_transaction_sees_it_too(db: pmkv.Store) -> None:
    filled(db)
    assert len(db) == 200
    for i in range(1, 200, 2):
        db.touch(b"%04d" % i, SOON)
    with db.begin(write=True) as txn:
        txn.put(b"short", b"1", ttl=SOON)
        txn.put(b"long", b"2", ttl=LONG)
        wait()
        assert len(txn) == 101
        assert b"short" not in txn and b"0001" not in txn
        assert b"short" not in list(txn)
        assert txn.add(b"short", b"3")
        assert txn.ttl(b"short") is None
        assert txn.expire() > 0
    assert db[b"short"] == b"3" and len(db) == 102


def test_a_snapshot_goes_by_the_time_when_it_was_taken(db: pmkv.Store) -> None:
    left = filled(db)
    before = db.snapshot()
    let_expire(db)
    after = db.snapshot()
    for _ in range(2):
        assert len(before) == len(list(before)) == 200 and before[b"0001"] == b"v1"
        assert len(after) == len(list(after)) == 100 and dict(after) == left
        if is_ordered(db):
            assert (before.key_at(1), after.key_at(1)) == (b"0001", b"0002")
            assert len(before.keys(stop=b"0010")) == 10 and len(after.keys(stop=b"0010")) == 5
        db.expire()
    before.close()
    after.close()


def test_a_moment_does_not_change_when_a_touch_is_committed_later(db: pmkv.Store) -> None:
    """By the time of the commit the old time has come, or the new one."""
    db.put(b"there", b"1", ttl=LONG)
    while True:
        db.put(b"gone", b"1", ttl=SOON)
        txn = db.begin(write=True)
        if txn.touch(b"gone", LONG):  # not where that took longer than it had to live
            break
        txn.abort()
    assert txn.touch(b"there", SOON)
    wait()
    snapshot, scan = db.snapshot(), iter(db.items())
    txn.commit()
    assert dict(snapshot) == {b"there": b"1"} and len(snapshot) == 1
    assert list(scan) == [(b"there", b"1")]
    assert dict(db) == {b"gone": b"1"} and len(db) == 1
    snapshot.close()


def test_a_touch_that_had_to_wait_does_not_reach_back(db: pmkv.Store) -> None:
    db.put(b"k", b"1", ttl=LONG)
    txn = db.begin(write=True)
    thread = threading.Thread(target=db.touch, args=(b"k", SOON))
    thread.start()
    wait()
    snapshot = db.snapshot()
    txn.abort()
    thread.join()
    assert dict(snapshot) == {b"k": b"1"} and len(snapshot) == 1
    snapshot.close()


def test_keys_are_counted_right_while_they_are_swept(db: pmkv.Store) -> None:
    stop, found = threading.Event(), set()

    def count() -> None:
        found.add(len(db))
        while not stop.is_set():
            found.add(len(db))

    db[b"stays"] = b""
    for _ in range(5):
        with db.begin(write=True) as txn:
            for i in range(1000):
                txn.put(b"%d" % i, b"", ttl=0.2)
        time.sleep(0.25)
        stop.clear()
        thread = threading.Thread(target=count)
        thread.start()
        db.expire()
        stop.set()
        thread.join()
    assert found == {1}


# -- times ---------------------------------------------------------------------------------------


def test_times_are_seconds_or_timedeltas(db: pmkv.Store) -> None:
    db.put(b"a", b"", ttl=100)
    db.put(b"b", b"", ttl=datetime.timedelta(hours=1))
    db[b"c"] = b""
    times = [db.ttl(key) for key in (b"a", b"b", b"c")]
    assert times[0] is not None and 99 < times[0] <= 100
    assert times[1] is not None and 3599 < times[1] <= 3600
    assert times[2] is None
    assert db.touch(b"a", 500) and (db.ttl(b"a") or 0) > 499
    assert db.touch(b"a", None) and db.ttl(b"a") is None
    assert db.touch(b"c", 500) and (db.ttl(b"c") or 0) > 499
    assert not db.touch(b"missing", 500)
    db.put(b"ages", b"", ttl=float("inf"))
    assert (db.ttl(b"ages") or 0) > 1e9


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), datetime.timedelta(0)])
def test_a_time_that_is_not_ahead_is_refused(db: pmkv.Store, ttl: Any) -> None:
    db[b"k"] = b"v"
    for use in (lambda: db.put(b"k", b"w", ttl=ttl), lambda: db.touch(b"k", ttl)):
        with pytest.raises(pmkv.InvalidValueError, match="more than 0 seconds"):
            use()
    assert db[b"k"] == b"v"


def test_a_time_of_another_type_is_refused(db: pmkv.Store) -> None:
    with pytest.raises(TypeError, match="seconds or a timedelta"):
        db.put(b"k", b"v", ttl="soon")  # type: ignore[arg-type]


def test_an_overwrite_takes_the_time_away_and_a_count_keeps_it(db: pmkv.Store) -> None:
    db.put(b"n", b"5", ttl=LONG)
    assert db.incr(b"n") == 6 and (db.ttl(b"n") or 0) > LONG - 5
    db[b"n"] = b"7"
    assert db.ttl(b"n") is None


# -- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("key_size", [0, 1, 100, 4000, 4050, 65536])
def test_records_of_all_sizes_expire(db: pmkv.Store, key_size: int) -> None:
    key = b"k" * key_size
    rng = random.Random(key_size)
    for size in [0, 1, 7, 8, 100, *range(4020, 4100, 3), 100_000]:
        value = rng.randbytes(size)
        db.put(key, value, ttl=LONG)
        assert db[key] == value and bytes(db.view(key)) == value
        assert db.touch(key, LONG * 2) and (db.ttl(key) or 0) > LONG
        db[key] = value
        assert db.touch(key, LONG) and db[key] == value and db.ttl(key) is not None
    assert db.check() == []


def test_a_pool_with_times_is_what_the_format_says(db: pmkv.Store) -> None:
    rng = random.Random(1)
    named = db.namespace("named")
    snapshot = db.snapshot()
    model = {}
    for _ in range(400):
        key, value = b"%d" % rng.randrange(80), rng.randbytes(rng.choice((0, 50, 5000)))
        db.put(key, value, ttl=rng.choice((None, LONG)))
        model[key] = value
        named.put(key, b"", ttl=rng.choice((None, LONG)))
        if rng.random() < 0.2:
            db.touch(rng.choice(list(model)), rng.choice((None, LONG * 2)))
        if rng.random() < 0.1 and db.delete(key):
            del model[key]
    db.flush()
    reader = Reader(Path(db.path).read_bytes())
    assert reader.everything() == model
    assert len(reader.expiring) == sum(m.ttl(key) is not None for m in (db, named) for key in m)
    snapshot.close()


# -- space ---------------------------------------------------------------------------------------


def test_the_space_of_what_expires_comes_back_with_later_writes(db: pmkv.Store) -> None:
    empty = db.stat()["used_bytes"]
    for i in range(2000):
        db.put(b"%d" % i, b"x" * 1000, ttl=LONG)
    assert db.stat()["used_bytes"] > empty + 2_000_000
    for i in range(2000):
        db.touch(b"%d" % i, 0.5)
    time.sleep(0.51)
    for i in range(100):
        db[b"other"] = b"%d" % i
    assert db.stat()["used_bytes"] < empty + 500_000
    assert len(db) == 1


def test_expire_takes_all_of_it_away_and_says_how_many(db: pmkv.Store) -> None:
    filled(db, 5000, SOON)
    filled(db.namespace("named"), 100, SOON)
    assert db.expire() <= 2550
    time.sleep(SOON * 2)
    db.expire()
    assert db.expire() == 0
    assert len(db) == 2500


def test_a_pool_that_is_full_makes_room_of_what_has_expired(pool_path: Path) -> None:
    with pmkv.open(pool_path, max_size=2 << 20) as db:
        for i in range(40):
            db.put(b"%d" % i, b"x" * 40_000, ttl=0.4)
        with pytest.raises(pmkv.PoolFullError):
            for i in range(100):
                db[b"more%d" % i] = b"x" * 40_000
        time.sleep(0.5)
        for i in range(10):
            db[b"now%d" % i] = b"x" * 40_000
        assert db.check() == []


def filled_up(db: pmkv.Store, count: int, ttl: float) -> None:
    """Keys that expire, and no room beside them.

    Some pages between them may stay in use: which, is another matter in each pool, since its hashes
    are. What is to be put there must fit where some of these cut the free pages in two.
    """
    for value in (b"", b"x" * 10_000):  # so that these lie side by side
        for i in range(count):
            db.put(b"%05d" % i, value, ttl=LONG)
    with pytest.raises(pmkv.PoolFullError):
        for i in range(1000):
            db[b"more%d" % i] = b"x" * 100_000
    del db[b"more0"]  # what is touched needs some pages, and there may have been none
    for i in range(count):
        db.touch(b"%05d" % i, ttl)


def test_a_put_that_made_room_first_expires_when_it_should(pool_path: Path) -> None:
    """What made room looked for the next key to expire, and the put's was not there yet."""
    with pmkv.open(pool_path, max_size=48 << 20) as db:
        filled_up(db, 3000, 1.0)
        time.sleep(1.1)
        db.put(b"k", b"y" * 14_000_000, ttl=SOON)
        wait()
        snapshot = db.snapshot()
        assert b"k" not in snapshot and len(snapshot) == len(list(snapshot))
        snapshot.close()
        assert db.replace(b"k", b"1") is None
        assert db.delete(b"k") and not db.delete(b"k")
        assert db.check() == []


@pytest.mark.parametrize("how", ["put", "replace", "compare_and_set", "setdefault"])
def test_all_that_has_expired_makes_room_if_it_must(pool_path: Path, how: str) -> None:
    value = b"y" * 16_000_000  # more than one sweep gives back
    with pmkv.open(pool_path, max_size=64 << 20) as db:
        filled_up(db, 4000, 1.0)
        time.sleep(1.1)
        if how == "compare_and_set":
            assert db.compare_and_set(b"k", None, value)
        else:
            getattr(db, how)(b"k", value)
        assert db[b"k"] == value
        assert db.check() == []


# -- and after a restart ---------------------------------------------------------------------------


def test_times_mean_the_same_after_opening_again(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        left = filled(db)
        db.put(b"long", b"", ttl=LONG)
        with db.begin(write=True) as txn:  # no write behind it takes away what has expired
            for i in range(1, 200, 2):
                txn.touch(b"%04d" % i, SOON)
    wait()
    with pmkv.open(pool_path, flag="r") as db:
        assert dict(db) == {**left, b"long": b""}
        assert len(db) == 101 and db.key_at(1) == b"0002"
        with pytest.raises(pmkv.ReadonlyError):
            db.expire()
    with pmkv.open(pool_path) as db:
        assert db.check() == []
        assert db.expire() == 100
        assert db.expire() == 0
        assert (db.ttl(b"long") or 0) > LONG - 60
        assert db.check() == []


def test_a_namespace_with_times_can_be_cleared_and_dropped(db: pmkv.Store) -> None:
    for ending in ("clear", "drop"):
        named = db.namespace("named", ordered=is_ordered(db))
        filled(named)
        let_expire(named)
        if ending == "clear":
            named.clear()
        else:
            db.drop("named")
        assert db.check() == []
    assert db.expire() == 0
