"""Parents in the order: heads lead to the right child, and counts are right, for all keys."""

from __future__ import annotations

import bisect
import contextlib
import itertools
import mmap
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reader import Reader, node_crc, seal

import pmkv

NODE = 1024


def few_letters(rng: random.Random) -> bytes:
    """Of zeros, mostly: heads that are the same, or that differ in what is not there."""
    return bytes(rng.choices((0, 0, 0, 1, 255), k=rng.randrange(14)))


def alike_at_first(rng: random.Random) -> bytes:
    """Longer than a head before they differ, among others."""
    return rng.choice((b"a", b"abcd", b"abcdefgh", b"b" * 200)) + rng.randbytes(rng.randrange(1, 4))


def far(rng: random.Random) -> bytes:
    """Too long for a node; some have a long prefix in common."""
    return rng.choice((b"", b"c" * 150)) + rng.randbytes(rng.randrange(120, 180))


def random_bytes(rng: random.Random) -> bytes:
    return rng.randbytes(16)


MakeKey = Callable[[random.Random], bytes]
InChild = Callable[..., Any]
ALL_KINDS = [few_letters, alike_at_first, far, random_bytes]


def assert_like(
    db: pmkv.Store | pmkv.Transaction, keys: list[bytes], rng: random.Random, make: MakeKey
) -> None:
    """By ways that go through parents: from a key that is there, or not, and by counting."""
    for key in [*rng.sample(keys, min(60, len(keys))), *(make(rng) for _ in range(60))]:
        at = bisect.bisect_left(keys, key)
        assert list(db.keys(start=key, limit=2)) == keys[at : at + 2]
        assert list(db.keys(stop=key, reverse=True, limit=2)) == keys[max(0, at - 2) : at][::-1]
        assert len(db.keys(start=key)) == len(keys) - at
    for at in rng.sample(range(len(keys)), min(60, len(keys))):
        assert db.key_at(at) == keys[at]


@pytest.mark.parametrize("make", ALL_KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_each_way_down_leads_to_its_key(pool_path: Path, make: MakeKey, seed: int) -> None:
    """Added one by one, in batches and in transactions, some undone; deleted down to a few."""
    rng, model = random.Random(seed), set[bytes]()
    with pmkv.open(pool_path) as db:
        for round_number in range(12):
            fresh = {make(rng) for _ in range(rng.choice((30, 400)))}
            if round_number % 3 == 0:
                db.put_many((key, b"") for key in fresh)
            elif round_number % 3 == 1:
                for key in fresh:
                    db[key] = b""
            else:
                with db.begin(write=True) as txn:
                    for key in fresh:
                        txn[key] = b""
                    assert_like(txn, sorted(model | fresh), rng, make)
                    txn.abort()
                fresh = set()
            model |= fresh
            assert_like(db, sorted(model), rng, make)
            if round_number % 4 == 3:  # some parents lose children, and get others
                gone = set(sorted(model)[len(model) // 3 : len(model) // 2])
                db.delete_many(gone)
                model -= gone
        assert db.check() == []
        assert sorted(Reader(pool_path.read_bytes()).everything()) == sorted(model)
        while len(model) > 5:
            gone = set(rng.sample(sorted(model), len(model) // 3 + 1))
            db.delete_many(gone)
            model -= gone
            assert_like(db, sorted(model), rng, make)
            assert db.check() == []
    assert sorted(Reader(pool_path.read_bytes()).everything()) == sorted(model)


def places_of_parents(path: Path) -> list[int]:
    """Where in the file a parent of leaves lies, and one above."""
    reader = Reader(path.read_bytes())
    reader.everything()
    levels = {level: place for place, level in reader.parents}
    assert set(levels) >= {1, 2}
    return [at for level in (1, 2) for at, _ in reader.parts(levels[level], NODE)]


@pytest.mark.parametrize("make", ALL_KINDS)
def test_a_damaged_parent_leads_nowhere_else(pool_path: Path, make: MakeKey, effort: int) -> None:
    """Each byte in turn: what is found is right, or the damage is."""
    refused, rng = 0, random.Random(7)
    with pmkv.open(pool_path) as db, pool_path.open("r+b") as file:
        while len(db) < 4000:
            db.put_many((make(rng), b"") for _ in range(500))
        keys = sorted(db)
        with mmap.mmap(file.fileno(), 0) as memory:
            offsets = range(0, NODE, 3 if effort == 1 else 1)
            for node, offset in itertools.product(places_of_parents(pool_path), offsets):
                place, mask = node + offset, rng.randrange(1, 256)
                memory[place] ^= mask
                for at in rng.sample(range(len(keys)), 12):
                    try:
                        assert list(db.keys(start=keys[at], limit=1)) == keys[at : at + 1]
                        assert len(db.keys(stop=keys[at])) == at
                        assert db.key_at(at) == keys[at]
                    except pmkv.CorruptedError:
                        refused += 1
                memory[place] ^= mask
        assert db.check() == []
    assert refused > 100


def test_a_damaged_head_is_found_wherever_it_is(pool_path: Path) -> None:
    rng = random.Random(8)
    with pmkv.open(pool_path) as db, pool_path.open("r+b") as file:
        db.put_many((random_bytes(rng), b"") for _ in range(500))
        with mmap.mmap(file.fileno(), 0) as memory:
            reader = Reader(memory[:])
            reader.everything()
            place = next(place for place, level in reader.parents if level == 1)
            at = next(at for at, _ in reader.parts(place, NODE))
            heads = memory[at + 896 + (memory[at] >> 7) * 64 + 63]
            assert heads == memory[at] & 127
            for head in range(at + 896 - 4 * heads, at + 896, 4):
                memory[head] ^= 255
                with pytest.raises(pmkv.CorruptedError):
                    list(db.keys(start=rng.randbytes(4), limit=1))
                assert db.check() != []
                memory[head] ^= 255
        assert db.check() == []


@pytest.mark.parametrize("size", range(16))
def test_keys_that_ascend_fill_parents_to_the_brim(pool_path: Path, size: int) -> None:
    """Separators of all lengths: a parent whose last bytes are taken is whole."""
    rng = random.Random(size)
    keys = [
        group.to_bytes(2) + middle + bytes([i])
        for group in range(60)
        for middle in [rng.randbytes(size)]
        for i in range(70)
    ]
    with pmkv.open(pool_path) as db:
        for key in keys:
            db[key] = b""
        assert list(db) == keys
        assert [db.key_at(i) for i in range(0, len(keys), 50)] == keys[::50]
        assert db.check() == []


def test_who_counts_by_a_damaged_leaf_is_told(pool_path: Path) -> None:
    """The parent of leaves has no counts: they are in the leaves' headers."""
    rng, refused = random.Random(11), 0
    with pmkv.open(pool_path) as db, pool_path.open("r+b") as file:
        for _ in range(500):
            db[random_bytes(rng)] = b""
        keys = sorted(db)
        reader = Reader(pool_path.read_bytes())
        reader.everything()
        leaves = [at for place in reader.tails for at, _ in reader.parts(place, NODE)]
        with mmap.mmap(file.fileno(), 0) as memory:
            for leaf, byte, mask in itertools.product(leaves, range(8), (1, 255)):
                place = leaf + byte
                memory[place] ^= mask
                for at in range(0, len(keys), 19):
                    try:
                        assert db.key_at(at) == keys[at]
                        assert len(db.keys(stop=keys[at])) == at
                    except pmkv.CorruptedError:
                        refused += 1
                memory[place] ^= mask
        assert db.check() == []
    assert refused > 500


def craft(memory: bytearray, node: int, rng: random.Random) -> None:
    """Another order, other heads, another heap: all that the check covers, which is made anew."""
    header = int.from_bytes(memory[node : node + 8], "little")
    area = node + 896 + (header >> 7 & 1) * 64
    for _ in range(rng.choice((1, 3))):
        memory[area + rng.choice((63, rng.randrange(header & 127)))] = rng.choice(
            (0, 1, 3, 221, 254, 255, rng.randrange(256))
        )
    if rng.random() < 0.5:
        header = header & ~0xFF00 | rng.choice((0, 220, 224, 255)) << 8
    count, heads = (
        (header & 127) - (header >> 52 & 15),
        memory[area + 63] if header >> 16 & 15 else 0,
    )
    words = [bytes(memory[at : at + 4]) for at in range(node + 892, node + 892 - 4 * heads, -4)]
    crc = node_crc(memory[area : area + 64], count, words, memory[node : node + 1024])
    header = header & ~(0xFFFFFFFF << 20) | crc << 20
    memory[node : node + 8] = seal(header & (1 << 56) - 1).to_bytes(8, "little")


def use_crafted_nodes(path: Path, sound: bytes, nodes: list[int], seed: int, trials: int) -> None:
    for trial in range(trials):
        rng = random.Random(seed * 1000 + trial)
        memory = bytearray(sound)
        for node in nodes:
            craft(memory, node, rng)
        path.write_bytes(memory)
        with contextlib.suppress(pmkv.Error), pmkv.open(path) as db:
            db.check()
            for _ in range(100):
                with contextlib.suppress(pmkv.Error):
                    list(db.keys(start=rng.randbytes(2), limit=3))
                    db.key_at(rng.randrange(4000))
                with contextlib.suppress(pmkv.Error):
                    db[rng.randbytes(16)] = b""
            with contextlib.suppress(pmkv.Error):
                db.delete_many(db.sample(500))
            with contextlib.suppress(pmkv.Error):
                db.compact()


@pytest.mark.parametrize("kind", ["parents", "leaves"])
@pytest.mark.parametrize("seed", range(3))
def test_crafted_nodes_give_errors_and_neither_a_crash_nor_a_hang(
    memory_dir: Path, in_child: InChild, seed: int, kind: str, effort: int
) -> None:
    path = memory_dir / "sound.pmkv"
    rng = random.Random(seed)
    with pmkv.open(path) as db:
        for _ in range(4):
            db.put_many((random_bytes(rng), b"") for _ in range(1000))
    nodes = places_of_parents(path)
    if kind == "leaves":
        reader = Reader(path.read_bytes())
        reader.everything()
        nodes = [at for leaf in reader.leaf_nodes for at, _ in reader.parts(leaf, NODE)]
    crafted = memory_dir / "crafted.pmkv"
    in_child(use_crafted_nodes, crafted, path.read_bytes(), nodes, seed, 15 * effort)
