"""Keys that a large transaction puts into the order later are there as soon as anybody looks."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import make_large

import pmkv

KEYS = [b"%d" % i for i in range(300)]
MORE_THAN_WAIT = 10_000


@pytest.fixture
def txn(db: pmkv.Store) -> Iterator[pmkv.Transaction]:
    """A transaction in which new keys are late; what it leaves is sound."""
    with db.begin(write=True) as txn:
        make_large(txn)
        yield txn
    assert db.check() == []


@pytest.fixture
def keys(txn: pmkv.Transaction) -> list[bytes]:
    """Those that it has put, as they ascend; all of them are late."""
    for key in random.Random(7).sample(KEYS, len(KEYS)):
        txn[key] = b"of " + key
    return sorted(KEYS)


def test_a_scan_shows_them(txn: pmkv.Transaction, keys: list[bytes]) -> None:
    assert list(txn.items()) == [(key, b"of " + key) for key in keys]


def walked(cursor: pmkv.Cursor) -> list[bytes]:
    keys = []
    while cursor.next():
        keys.append(cursor.key())
    return keys


def moved(cursor: pmkv.Cursor) -> Any:
    return cursor.set_range(b"2990"), cursor.item()


# How to look at them, and what is to be seen of so many keys.
LOOKS: list[tuple[Callable[[Any], Any], Callable[[list[bytes]], Any]]] = [
    (lambda txn: list(txn), lambda keys: keys),
    (lambda txn: list(reversed(txn)), lambda keys: keys[::-1]),
    (lambda txn: list(txn.keys(prefix=b"12")), lambda keys: [k for k in keys if k[:2] == b"12"]),
    (lambda txn: list(txn.values(start=b"29", limit=2)), lambda keys: [b"of 29", b"of 290"]),
    (lambda txn: len(txn.keys(start=b"29")), lambda keys: sum(k >= b"29" for k in keys)),
    (lambda txn: len(txn.keys(prefix=b"1")), lambda keys: sum(k[:1] == b"1" for k in keys)),
    (lambda txn: [txn.key_at(i) for i in (0, 9, -1)], lambda keys: [keys[0], keys[9], keys[-1]]),
    (lambda txn: sorted(txn.sample(300)), lambda keys: keys),
    (lambda txn: (len(txn), b"12" in txn, b"x" in txn), lambda keys: (300, True, False)),
    (lambda txn: walked(txn.cursor()), lambda keys: keys),
    (lambda txn: moved(txn.cursor()), lambda keys: (True, (b"3", b"of 3"))),
]


@pytest.mark.parametrize(("look", "expected"), LOOKS)
def test_whoever_looks_first_finds_them(
    txn: pmkv.Transaction,
    keys: list[bytes],
    look: Callable[[Any], Any],
    expected: Callable[[list[bytes]], Any],
) -> None:
    assert look(txn) == expected(keys)


def test_a_scan_that_is_under_way_meets_those_that_come_behind_it(txn: pmkv.Transaction) -> None:
    txn[b"a"] = txn[b"z"] = b""
    seen = []
    for key in txn:
        seen.append(key)
        if key == b"a":
            del txn[b"z"]
            txn[b"b"] = b""
    assert seen == [b"a", b"b"]


def test_they_are_replaced_deleted_and_put_again(txn: pmkv.Transaction, keys: list[bytes]) -> None:
    txn[b"12"] = b"new" * 2000
    assert txn.pop(b"13") == b"of 13"
    assert txn.delete_many([b"14", b"15", b"none"]) == 2
    txn[b"13"] = b"again"
    txn[b"late"] = b""
    del txn[b"late"]
    assert txn.incr(b"counter") == 1
    assert txn.incr(b"counter") == 2
    expected = sorted({*keys, b"counter"} - {b"14", b"15"})
    assert list(txn) == expected
    assert (txn[b"12"], txn[b"13"]) == (b"new" * 2000, b"again")


def test_a_commit_orders_what_nobody_has_looked_at(db: pmkv.Store) -> None:
    with db.begin(write=True) as txn:
        make_large(txn)
        for key in KEYS[::-1]:
            txn[key] = key
    assert list(db) == sorted(KEYS)
    assert db.check() == []


def test_an_abort_leaves_nothing_of_them(db: pmkv.Store) -> None:
    txn = db.begin(write=True)
    make_large(txn)
    for key in KEYS:
        txn[key] = key
    txn.abort()
    assert list(db) == []
    with db.begin(write=True) as txn:
        txn[b"a"] = b""
    assert list(db) == [b"a"]


def test_a_rollback_undoes_those_behind_the_savepoint_and_keeps_the_others(
    txn: pmkv.Transaction, keys: list[bytes]
) -> None:
    savepoint = txn.savepoint()
    for _ in range(3):
        for key in KEYS:
            txn[key + b"x"] = b"undone"
        txn[b"12"] = b"undone"
        savepoint.rollback()
        assert list(txn.items()) == [(key, b"of " + key) for key in keys]
    txn[b"behind"] = b""
    savepoint.release()
    assert list(txn) == [*keys, b"behind"]


def test_a_rollback_to_an_outer_savepoint_undoes_those_of_an_inner_one(db: pmkv.Store) -> None:
    with db.begin(write=True) as txn:
        make_large(txn)
        txn[b"a"] = b""
        outer = txn.savepoint()
        txn[b"b"] = b""
        inner = txn.savepoint()
        txn[b"c"] = b""
        inner.release()
        txn[b"d"] = b""
        outer.rollback()
        txn[b"e"] = b""
    assert list(db) == [b"a", b"e"]
    assert db.check() == []


def test_keys_of_several_namespaces_go_where_they_belong(db: pmkv.Store) -> None:
    with db.begin(write=True) as txn:
        make_large(txn)
        spaces = [txn, txn.namespace("a"), txn.namespace("u", ordered=False), txn.namespace("b")]
        for i, key in enumerate(KEYS):
            spaces[i % 4][key] = b""
            spaces[i // 4 % 4][key + b"y"] = b""
        assert sorted(txn.namespaces()) == ["a", "b", "u"]
    for at, name in enumerate(["", "a", "u", "b"]):
        space = db.namespace(name) if name else db
        expected = [key for i, key in enumerate(KEYS) if i % 4 == at]
        expected += [key + b"y" for i, key in enumerate(KEYS) if i // 4 % 4 == at]
        assert sorted(space) == sorted(expected)
        assert name == "u" or list(space) == sorted(expected)
    assert db.check() == []


def test_batches_and_single_puts_take_turns(txn: pmkv.Transaction) -> None:
    for i, key in enumerate(KEYS):
        txn[key] = b"one"
        if i % 10 == 0:
            assert txn.put_many({key: b"many", key + b"z": b"many", b"%d" % (i + 5): b"many"}) == 3
    assert list(txn) == sorted([*KEYS, *[key + b"z" for key in KEYS[::10]]])


def test_keys_that_expire_while_they_are_late(db: pmkv.Store) -> None:
    with db.begin(write=True) as txn:
        make_large(txn)
        for i, key in enumerate(KEYS):
            txn.put(key, b"", ttl=1e-4 if i % 2 else None)
        time.sleep(0.01)
        assert txn.expire() == len(KEYS) // 2
        assert list(txn) == sorted(KEYS[::2])
    assert list(db) == sorted(KEYS[::2])
    assert db.check() == []


def test_more_of_them_than_may_wait(db: pmkv.Store) -> None:
    keys = [b"%016d" % i for i in range(MORE_THAN_WAIT)]
    with db.begin(write=True) as txn:
        make_large(txn)
        for key in random.Random(3).sample(keys, len(keys)):
            txn[key] = b""
    assert list(db) == keys
    assert db.check() == []


def test_far_keys_and_empty_ones(txn: pmkv.Transaction) -> None:
    keys = [b"", b"k" * 5000, b"k" * 5000 + b"l", b"k" * 65_536, b"k"]
    for key in keys:
        txn[key] = b"v" * 10_000
    assert list(txn) == sorted(keys)


def test_large_keys_are_not_late_and_lie_between_those_that_are(txn: pmkv.Transaction) -> None:
    keys = [b"%03d" % i + b"k" * (500 if i % 3 == 0 else 100) for i in range(300)]
    for key in random.Random(5).sample(keys, len(keys)):
        txn[key] = b""
    assert list(txn) == keys


@pytest.mark.parametrize(
    "use",
    [
        lambda txn: txn.key_at(0),
        lambda txn: next(iter(txn)),
        lambda txn: txn.savepoint(),
        lambda txn: txn.delete(KEYS[0]),
        lambda txn: txn.namespace("other").put(b"a", b""),
    ],
)
def test_other_threads_run_while_many_go_into_the_order(
    db: pmkv.Store, use: Callable[[Any], Any]
) -> None:
    """The interpreter does not switch threads by itself: another runs where a step lets it, and
    mostly is there in time."""
    ran: list[float] = []
    ready, stop = threading.Event(), threading.Event()

    def run() -> None:
        ready.set()
        while not stop.is_set():
            ran.append(time.perf_counter())
            time.sleep(0)

    def let_run(txn: pmkv.Transaction) -> bool:
        make_large(txn)
        txn.namespace("other")[b"b"] = b""
        for i in range(3000):
            txn[b"%d" % (i * 7919)] = b""
        began = time.perf_counter()
        use(txn)
        ended = time.perf_counter()
        txn.abort()
        return any(began < at < ended for at in ran)

    thread = threading.Thread(target=run)
    interval = sys.getswitchinterval()
    thread.start()
    ready.wait()
    sys.setswitchinterval(100)
    try:
        assert any(let_run(db.begin(write=True)) for _ in range(50))
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        thread.join()


def test_others_see_none_of_them_before_the_commit(db: pmkv.Store) -> None:
    db[b"a"] = b""
    with db.begin(write=True) as txn:
        make_large(txn)
        for key in KEYS:
            txn[key] = b""
        assert (list(db), len(db)) == ([b"a"], 1)
        assert len(list(txn)) == len(KEYS) + 1  # which puts them into the order
        assert (list(db), db.key_at(0)) == ([b"a"], b"a")


def test_no_room_for_their_order_fails_the_commit_and_changes_nothing(pool_path: Path) -> None:
    """The records of a transaction fit, and its keys in order do not."""
    failed_late = 0
    with pmkv.open(pool_path, max_size="4 MiB") as db:
        db[b"a"] = b"before"
        for count in range(10_000, 40_000, 500):
            put = 0
            try:
                with db.begin(write=True) as txn:
                    make_large(txn)
                    for i in range(count):
                        txn[b"%040d" % (i * 7919 % 1_000_003)] = b""
                        put += 1
            except pmkv.PoolFullError:
                failed_late += put == count
                assert list(db.items()) == [(b"a", b"before")]
                assert db.check() == []
                if put < count:
                    break
            else:
                db.delete_many(db.keys(start=b"0", stop=b"9" * 40))
                assert list(db) == [b"a"]
        assert failed_late
        db[b"b"] = b"goes on"
