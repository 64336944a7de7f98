"""A transaction is as large as the pool has room for, and takes little memory."""

from __future__ import annotations

import contextlib
import os
import random
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Place
from test_kill import start_child
from test_memory import anonymous

import pmkv

PUTS = 300_000
LONG = 10_000_000
ALLOWED = 100  # bytes of memory for a put
GIVEN_BACK = 1 << 20


@pytest.fixture
def puts(effort: int) -> int:
    return PUTS if effort == 1 else LONG


def key(i: int) -> bytes:
    return b"%016d" % i


def each(txn: Any, count: int) -> None:
    for i in range(count):
        txn[key(i)] = b"%d" % i


def in_batches(txn: Any, count: int) -> None:
    for first in range(0, count, 50_000):
        last = min(first + 50_000, count)
        assert txn.put_many((key(i), b"%d" % i) for i in range(first, last)) == last - first


def in_any_order(txn: Any, count: int) -> None:
    for i in range(count):
        at = i * 7_368_787 % count  # they have no divisor in common: each once
        txn[key(at)] = b"%d" % at


def memory_of(path: Path, put: Callable[[Any, int], None], count: int, ordered: bool) -> Any:
    """What a transaction takes of memory, in bytes: as it says, and as the system sees it."""
    with pmkv.open(path, ordered=ordered) as db:
        before = anonymous()
        with db.begin(write=True) as txn:
            put(txn, count)
            said, seen = db.memory()["transaction_bytes"], anonymous() - before
        assert db.memory()["transaction_bytes"] < GIVEN_BACK
        return said, seen, anonymous() - before


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("put", [each, in_batches, in_any_order])
def test_many_puts_in_one_transaction_take_little_memory(
    pool_path: Path,
    put: Callable[[Any, int], None],
    ordered: bool,
    puts: int,
    large_child: Callable[..., Any],
) -> None:
    said, seen, left = large_child(memory_of, pool_path, put, puts, ordered)
    assert said <= ALLOWED * puts
    assert seen <= ALLOWED * puts + (8 << 20)
    assert left < 32 << 20
    with pmkv.open(pool_path) as db:
        assert len(db) == puts
        for i in random.Random(1).sample(range(puts), 1000):
            assert db[key(i)] == b"%d" % i
        if ordered:
            assert db.key_at(puts // 3) == key(puts // 3)
        assert db.check() == []


@pytest.fixture
def large_child(
    in_child: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """in_child() for what may take minutes."""
    monkeypatch.setattr("conftest.HANG", 1800)
    return lambda *arguments: in_child(*arguments, method="spawn")


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_a_transaction_that_changes_all_that_is_there(db: pmkv.Store, end: str) -> None:
    count = PUTS // 3
    in_batches(db, count)
    used = db.stat()["used_bytes"]
    txn = db.begin(write=True)
    for i in range(count):
        if i % 3:
            txn[key(i)] = b"new"
        else:
            del txn[key(i)]
    assert db.memory()["transaction_bytes"] < ALLOWED * count
    getattr(txn, end)()
    assert db.check() == []
    assert db.memory()["transaction_bytes"] < GIVEN_BACK
    if end == "abort":
        assert db.stat()["used_bytes"] == used
        assert dict(db) == {key(i): b"%d" % i for i in range(count)}
    else:
        assert dict(db) == {key(i): b"new" for i in range(count) if i % 3}


def test_a_large_transaction_in_pages_that_were_used_before(db: pmkv.Store) -> None:
    for _ in range(3):
        with db.begin(write=True) as txn:
            in_any_order(txn, 50_000)
        assert db.check() == []
        with db.begin(write=True) as txn:
            txn.clear()
            in_batches(txn, 1000)
        assert dict(db) == {key(i): b"%d" % i for i in range(1000)}
        db.clear()
    assert db.check() == []


def test_what_is_rolled_back_of_a_large_transaction_leaves_the_rest(db: pmkv.Store) -> None:
    with db.begin(write=True) as txn:
        in_any_order(txn, 50_000)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError), txn.savepoint():
                in_batches(txn, 100_000)
                txn.delete_many(key(i) for i in range(30_000))
                raise ZeroDivisionError
    assert dict(db) == {key(i): b"%d" % i for i in range(50_000)}
    assert db.check() == []


def use_smaller_ones_after_a_large_one(place: Place) -> None:
    """Of each so many words that the large one's table is emptied one by one."""
    with place.open() as db:
        with db.begin(write=True) as txn:
            in_any_order(txn, 2000)
        model = {key(i): b"%d" % i for i in range(2000)}
        for turn in range(2000):
            fresh = {key(10_000 + turn * 20 + i): b"%d" % turn for i in range(20)}
            with db.begin(write=True) as txn:
                txn.put_many(fresh)
                if turn % 3 == 0:
                    with contextlib.suppress(ZeroDivisionError), txn.savepoint():
                        txn.put_many((name, b"") for name in [*fresh, key(turn)])
                        raise ZeroDivisionError
                if turn % 5 == 0:
                    txn.abort()
                    continue
            model |= fresh
        assert dict(db) == model
        assert db.check() == []


@pytest.mark.parametrize("persistence", ["process", "cacheline"])
def test_smaller_ones_after_a_large_one(
    pool_path: Path, persistence: str, in_child: Callable[..., Any]
) -> None:
    """What is left of one in the table would be in the way of those that follow."""
    in_child(use_smaller_ones_after_a_large_one, Place(pool_path, persistence))


# -- killed --------------------------------------------------------------------------------------

OLD = 30_000


def commit_and_say_so(place: Place, turn: int, out: int) -> None:
    """Replaces all values, and puts as many new keys, in one transaction."""
    db = place.open()
    txn = db.begin(write=True)
    txn.put_many((key(i), b"%d" % turn) for i in range(OLD))
    txn.put_many((b"new" + key(i), b"%d" % turn) for i in range(OLD))
    os.write(out, b"b")
    txn.commit()
    os.write(out, b"c")
    time.sleep(60)


def kill_in_commit(place: Place, turn: int, moment: float) -> tuple[bool, float]:
    """Kills the child so long after its commit has begun; whether it was acknowledged, when."""
    pid, pipe = start_child(commit_and_say_so, place, turn)
    assert os.read(pipe, 1) == b"b"
    began = time.monotonic()
    ready = select.select([pipe], [], [], moment)[0]
    took = time.monotonic() - began
    os.kill(pid, 9)
    acknowledged = bool(ready) or os.read(pipe, 1) == b"c"
    os.close(pipe)
    os.waitpid(pid, 0)
    return acknowledged, took


@pytest.mark.parametrize("persistence", ["process", "cacheline", "page"])
def test_a_kill_in_the_middle_of_its_commit_leaves_all_or_nothing(
    persistence: str, pool_path: Path, disk_path: Path, effort: int
) -> None:
    place = Place(disk_path if persistence == "page" else pool_path, persistence)
    chance, found = random.Random(3), 1
    with place.open() as db:
        db.put_many((key(i), b"0") for i in range(OLD))
        db.put_many((b"new" + key(i), b"0") for i in range(OLD))
    acknowledged, longest = kill_in_commit(place, found, 60)
    assert acknowledged
    for turn in range(2, 12 * effort):
        acknowledged, _ = kill_in_commit(place, turn, longest * chance.random())
        with place.open() as db:
            values = set(db.values())
            assert len(values) == 1
            assert len(db) == 2 * OLD
            assert db.check() == []
        now = int(values.pop())
        assert now == turn or (not acknowledged and now == found)
        found = now
