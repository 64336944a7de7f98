"""DRAM does not grow with the number of keys: everything that is kept per key is in the pool."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pmkv

FEW, MANY = 10_000, 300_000
BATCH = 1000
ALLOWED = 4 << 20


def anonymous() -> int:
    """Bytes of memory that this process has for itself alone."""
    gc.collect()
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("smaps_rollup has no line Anonymous")


def batches(count: int) -> Iterator[range]:
    return (range(first, min(first + BATCH, count)) for first in range(0, count, BATCH))


def pairs(numbers: Iterable[int]) -> Iterator[tuple[bytes, bytes]]:
    return ((b"key %d" % i, b"value %d" % i) for i in numbers)


def write_singly(db: pmkv.Store, count: int) -> None:
    for key, value in pairs(range(count)):
        db[key] = value


def write_in_batches(db: pmkv.Store, count: int) -> None:
    for batch in batches(count):
        db.put_many(pairs(batch))


def overwrite_and_delete(db: pmkv.Store, count: int) -> None:
    write_in_batches(db, count)
    write_in_batches(db, count)
    for i in range(count):
        del db[b"key %d" % i]


def read_in_every_way(db: pmkv.Store, count: int) -> None:
    write_in_batches(db, count)
    for batch in batches(count):
        assert None not in db.get_many(b"key %d" % i for i in batch)
    assert sum(1 for _ in db) == sum(1 for _ in db.items()) == count
    for i in range(count):
        db.view(b"key %d" % i).release()
    assert db.check() == []


USES = {
    use.__name__: use
    for use in (write_singly, write_in_batches, overwrite_and_delete, read_in_every_way)
}


def memory_of_use(path: Path, use: str, count: int) -> int:
    with pmkv.open(path) as db:
        USES[use](db, count)
        return anonymous()


def memory_of_opening(path: Path, flag: Any, count: int) -> int:
    with pmkv.open(path, flag) as db:
        assert len(db) == count
        assert db[b"key 5"] == b"value 5"
        assert sum(1 for _ in db.values()) == count
        return anonymous()


@pytest.mark.parametrize("use", USES)
def test_many_keys_take_no_more_memory_than_few(
    memory_dir: Path, use: str, in_child: Callable[..., Any]
) -> None:
    few = in_child(memory_of_use, memory_dir / "few", use, FEW, method="spawn")
    many = in_child(memory_of_use, memory_dir / "many", use, MANY, method="spawn")
    assert many - few < ALLOWED


@pytest.mark.parametrize("flag", ["r", "w"])
def test_opening_many_keys_takes_no_more_memory_than_few(
    memory_dir: Path, flag: str, in_child: Callable[..., Any]
) -> None:
    taken = []
    for count in (FEW, MANY):
        with pmkv.open(memory_dir / str(count)) as db:
            write_in_batches(db, count)
        taken.append(
            in_child(memory_of_opening, memory_dir / str(count), flag, count, method="spawn")
        )
    assert taken[1] - taken[0] < ALLOWED


def test_memory_tells_what_the_handle_holds_and_that_no_cache_is_part_of_it(
    db: pmkv.Store,
) -> None:
    write_in_batches(db, FEW)
    few = db.memory()
    write_in_batches(db, MANY)
    many = db.memory()
    assert many["total_bytes"] - few["total_bytes"] < ALLOWED
    assert many["cache_bytes"] == many["buffer_bytes"] == many["views"] == 0


def test_memory_of_a_huge_batch_is_given_back(db: pmkv.Store) -> None:
    db.put_many(pairs(range(MANY)))
    db[b"next"] = b"commit"
    assert db.memory()["total_bytes"] < ALLOWED
