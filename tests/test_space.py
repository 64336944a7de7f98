"""Space that is given up is used again: a store does not grow by being overwritten."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Place
from reader import FREE, LEAF, NODE, NODES, Reader

import pmkv

GROWTH = 2 << 20
PAGE = 4096
INDEX = (LEAF, NODE, NODES)
CURRENT_BLOCKS = 15 + 7 * 4 + 6  # pages of the blocks that stay being filled, one a class


def sizes_of(chance: random.Random) -> dict[str, tuple[int, Callable[[], int]]]:
    """For each mix: how many keys, and the size of the next value."""
    return {
        "100": (3000, lambda: 100),
        "0-2000": (1000, lambda: chance.randrange(2001)),
        "2-4KiB": (500, lambda: chance.randrange(2048, 4097)),
        "4-20KiB": (200, lambda: chance.randrange(4096, 20_481)),
        "64KiB": (50, lambda: 1 << 16),
        "1MiB": (8, lambda: 1 << 20),
        "all": (300, lambda: int(2 ** chance.uniform(0, 17))),
    }


MIXES = list(sizes_of(random.Random(0)))


def live_pages(db: pmkv.Store) -> float:
    """The least pages that could hold what is live: records by bytes, large values by pages."""
    pages = 0.0
    for key, value in db.items():
        record = 24 + len(key) + len(value)
        pages += record / PAGE if record <= PAGE else -(-len(value) // PAGE)
    return pages


def within_bounds(db: pmkv.Store, live: float) -> bool:
    return db.stat()["file_size"] <= 1.5 * live * (PAGE + 64) + (2 << 20) + 2 * GROWTH


@pytest.mark.parametrize("mix", MIXES)
def test_a_store_overwritten_a_hundred_times_stays_small(db: pmkv.Store, mix: str) -> None:
    chance = random.Random(7)
    count, size = sizes_of(chance)[mix]
    keys = [b"%08d" % i for i in range(count)]
    most = 0.0
    for turn in range(100):
        chance.shuffle(keys)
        for key in keys:
            db[key] = bytes(size())
        if turn % 20 == 0:
            most = max(most, live_pages(db))
    most = max(most, live_pages(db))
    stat = db.stat()
    assert within_bounds(db, most), (most, stat)


@pytest.mark.parametrize("mix", MIXES)
def test_a_store_overwritten_by_put_many_stays_small(db: pmkv.Store, mix: str) -> None:
    chance = random.Random(8)
    count, size = sizes_of(chance)[mix]
    keys = [b"%08d" % i for i in range(count)]
    for _ in range(60):
        chance.shuffle(keys)
        for first in range(0, count, max(1, count // 10)):
            batch = keys[first : first + max(1, count // 10)]
            db.put_many((key, bytes(size())) for key in batch)
    assert within_bounds(db, live_pages(db) * 1.2), (live_pages(db), db.stat())


@pytest.mark.parametrize("mix", MIXES)
def test_deleting_everything_lets_everything_be_used_again(any_place: Place, mix: str) -> None:
    chance = random.Random(9)
    count, size = sizes_of(chance)[mix]
    model = {b"%08d" % i: bytes(size()) for i in range(count)}
    with any_place.open() as db:
        empty = db.stat()["used_bytes"]
        for how in range(5 if any_place.persistence == "process" else 2):
            db.put_many(model)
            full = db.stat()
            remove(db, model, how)
            assert db.stat()["used_bytes"] <= empty + CURRENT_BLOCKS * (PAGE + 64)
        assert db.stat()["pages"] == full["pages"]
        assert db.check() == []
    with any_place.open() as db:
        db.put_many(model)
        assert db.stat()["pages"] == full["pages"]


def remove(db: pmkv.Store, model: dict[bytes, Any], how: int) -> None:
    if how == 0:
        db.clear()
    elif how == 1:
        db.delete_many(model)
    elif how == 2:
        while db:
            db.popitem()
    else:
        for key in random.Random(how).sample(list(model), len(model)):
            del db[key]


def test_keys_that_come_and_go_do_not_make_the_mapping_grow(db: pmkv.Store) -> None:
    for i in range(200_000):
        db[b"%d" % i] = b"x"
        if i >= 1000:
            del db[b"%d" % (i - 1000)]
    assert len(db) == 1000
    assert db.stat()["file_size"] <= (2 << 20) + 3 * GROWTH
    assert db.check() == []


def test_free_space_of_small_values_serves_large_ones_and_back(db: pmkv.Store) -> None:
    for _ in range(5):
        db.put_many((b"%d" % i, bytes(100)) for i in range(60_000))
        db.clear()
        db.put_many((b"%d" % i, bytes(1 << 20)) for i in range(8))
        db.clear()
        db.put_many((b"%d" % i, bytes(3000)) for i in range(2500))
        db.clear()
    assert db.stat()["file_size"] <= 24 << 20
    assert db.check() == []


def test_a_deleted_value_gives_its_space_to_the_next_of_its_size(db: pmkv.Store) -> None:
    db.put_many((b"%d" % i, bytes(1 << 20)) for i in range(20))
    pages = db.stat()["pages"]
    for i in range(200):
        del db[b"%d" % i]
        db[b"%d" % (i + 20)] = bytes(1 << 20)
    assert db.stat()["pages"] == pages


def runs_of(path: Path) -> list[tuple[int, int]]:
    """The kind of each run, and its pages."""
    reader = Reader(path.read_bytes())
    page, frontier, runs = 1, reader.sealed(PAGE + 64), []
    while page < frontier:
        descriptor = reader.descriptor(page)
        runs.append((descriptor.kind, descriptor.page_count))
        page += descriptor.page_count
    return runs


def test_pages_of_the_index_lie_together(pool_path: Path) -> None:
    chance = random.Random(3)
    with pmkv.open(pool_path) as db:
        for _ in range(30):
            db.put_many((chance.randbytes(16), bytes(100)) for _ in range(1000))
    groups = [
        sum(count for _, count in group)
        for of_index, group in itertools.groupby(runs_of(pool_path), lambda run: run[0] in INDEX)
        if of_index
    ]
    assert sum(groups) > 300
    assert len(groups) < sum(groups) / 6  # left to chance it is more than twice as many,
    assert max(groups) > 32  # and the largest has sixteen


def test_what_is_set_aside_for_the_index_is_used_when_the_pool_is_full(pool_path: Path) -> None:
    with pmkv.open(pool_path, max_size=8 << 20) as db:
        for i in range(100):
            db[b"small%d" % i] = b""
        assert max(count for kind, count in runs_of(pool_path) if kind == FREE) >= 4
        with pytest.raises(pmkv.PoolFullError):
            for i in range(1 << 20):
                db[b"%d" % i] = bytes(PAGE * 2)
        assert max((count for kind, count in runs_of(pool_path) if kind == FREE), default=0) < 3
        assert db.check() == []


def test_a_rollback_takes_back_what_was_set_aside(pool_path: Path) -> None:
    """That is beyond the frontier then, and others have it before the index asks again."""
    with pmkv.open(pool_path) as db:
        for turn in range(20):
            with db.begin(write=True) as txn:
                txn.put_many((b"%d/%d" % (turn, i), b"") for i in range(3000))
                txn.abort()
            db[b"large%d" % turn] = bytes(PAGE * (turn % 5 + 1))
            db.put_many((b"%d/%d" % (turn, i), b"") for i in range(300))
        assert db.check() == []
        assert len(db) == 20 * 301
    assert len(Reader(pool_path.read_bytes()).everything()) == 20 * 301


def test_what_was_set_aside_may_be_cut_off(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        for _ in range(3):
            db.put_many((b"%d" % i, bytes(200)) for i in range(60_000))
            before = db.stat()["file_size"]
            db.clear()
            db.compact()
            assert db.stat()["file_size"] < before // 2
            db.put_many((b"%d" % i, b"") for i in range(3000))
            assert len(db) == 3000
        assert db.check() == []
