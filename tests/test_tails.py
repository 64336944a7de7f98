"""Leaves of the order may have keys behind their order: nobody who reads can tell."""

from __future__ import annotations

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

InChild = Callable[..., Any]


def put_one_by_one(db: pmkv.Store | pmkv.Transaction, count: int, seed: int) -> list[bytes]:
    """Random keys of all sizes, one after the other; sorted."""
    rng = random.Random(seed)
    keys = {rng.randbytes(rng.choice((3, 8, 9, 16, 31))) for _ in range(count)}
    keys |= {b"shared by many/" + rng.randbytes(4) for _ in range(count)}
    for key in rng.sample(sorted(keys), len(keys)):
        db.put(key, key[::-1])
    return sorted(keys)


def assert_order(db: pmkv.Store | pmkv.Transaction, keys: list[bytes]) -> None:
    assert list(db) == keys
    assert list(db.keys(reverse=True)) == keys[::-1]
    assert [db.key_at(i) for i in range(len(keys))] == keys
    for i in range(0, len(keys), 7):
        assert list(db.items(start=keys[i], limit=3)) == [(k, k[::-1]) for k in keys[i : i + 3]]
        assert len(db.keys(stop=keys[i])) == i
        assert list(db.keys(stop=keys[i], reverse=True, limit=2)) == keys[max(0, i - 2) : i][::-1]


def leaves(path: Path, *, with_tails: bool) -> list[int]:
    """Where in the file they lie, in the order of their keys."""
    reader = Reader(path.read_bytes())
    reader.everything()
    places = [place for place in reader.leaf_nodes if (place in reader.tails) == with_tails]
    return [at for place in places for at, _ in reader.parts(place, NODE)]


def test_keys_behind_the_order_come_where_they_belong(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        keys = put_one_by_one(db, 400, 1)
        reader = Reader(pool_path.read_bytes())
        assert sorted(reader.everything()) == keys
        assert len(reader.tails) > 10
        assert_order(db, keys)
        for key in keys[::3]:
            del db[key]
        keys = sorted(set(keys) - set(keys[::3]))
        assert_order(db, keys)
        assert db.check() == []
    with pmkv.open(pool_path, "r") as db:
        assert_order(db, keys)


@pytest.mark.parametrize("seed", range(4))
def test_a_key_that_is_all_prefix_comes_before_those_that_go_on(pool_path: Path, seed: int) -> None:
    """It has no byte of its own, and what lies behind it is another entry, which must not count."""
    rng = random.Random(seed)
    ends = [bytes([rng.randrange(3)]) + rng.randbytes(rng.randrange(4)) for _ in range(200)]
    keys = {b"key", *(b"key" + end for end in ends)}
    with pmkv.open(pool_path) as db:
        for key in rng.sample(sorted(keys), len(keys)):
            db[key] = key[::-1]
            assert next(iter(db.keys(stop=b"key\0", reverse=True)), b"key") == b"key"
        assert_order(db, sorted(keys))


@pytest.mark.parametrize("seed", range(8))
def test_what_is_undone_leaves_nothing_behind_the_order(pool_path: Path, seed: int) -> None:
    """Appended, rolled back, appended again where it lay; within a transaction and after it."""
    rng = random.Random(seed)
    with pmkv.open(pool_path) as db:
        kept = set(put_one_by_one(db, 150, seed))
        for _ in range(6):
            with db.begin(write=True) as txn:
                fresh = {rng.randbytes(8) for _ in range(rng.choice((1, 5, 60)))}
                for key in fresh:
                    txn[key] = key[::-1]
                mark = txn.savepoint()
                for key in rng.sample(sorted(kept | fresh), 40):
                    del txn[key]
                put_one_by_one(txn, 40, rng.randrange(99))
                mark.rollback()
                again = {rng.randbytes(8) for _ in range(rng.choice((1, 5, 60)))}
                for key in again:
                    txn[key] = key[::-1]
                assert_order(txn, sorted(kept | fresh | again))
                if rng.random() < 0.5:
                    txn.abort()
                else:
                    kept |= fresh | again
            assert_order(db, sorted(kept))
        assert db.check() == []
    assert sorted(Reader(pool_path.read_bytes()).everything()) == sorted(kept)


def test_a_damaged_leaf_shows_no_wrong_key_and_hides_none(pool_path: Path) -> None:
    """Each byte in turn: a key of a tail is put between two others, which must be whole."""
    refused, chance = 0, random.Random(2)
    with pmkv.open(pool_path) as db, pool_path.open("r+b") as file:
        keys = put_one_by_one(db, 90, 3)
        tails = leaves(pool_path, with_tails=True)
        with mmap.mmap(file.fileno(), 0) as memory:
            for leaf in tails[:3]:
                for place in range(leaf, leaf + NODE):
                    mask = chance.randrange(1, 256)
                    memory[place] ^= mask
                    for i in range(0, len(keys), 3):
                        try:
                            assert list(db.keys(start=keys[i], limit=1)) == keys[i : i + 1]
                            assert (
                                list(db.keys(stop=keys[i], reverse=True, limit=1))
                                == (keys[max(0, i - 1) : i])
                            )
                        except pmkv.CorruptedError:
                            refused += 1
                    memory[place] ^= mask
        assert_order(db, keys)
    assert refused > 1000


def test_damage_in_a_tail_is_found_by_check(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db, pool_path.open("r+b") as file:
        put_one_by_one(db, 90, 4)
        tails = leaves(pool_path, with_tails=True)
        with mmap.mmap(file.fileno(), 0) as memory:
            for leaf in tails:
                heap = memory[leaf + 1] * 4
                memory[leaf + heap - 8] ^= 1  # of the last key, or of what says how long it is
                assert db.check() != []
                memory[leaf + heap - 8] ^= 1
        assert db.check() == []


def test_a_tail_that_begins_elsewhere_is_damage(pool_path: Path) -> None:
    """Entries that were taken out lie there still, whole: keys that are gone."""
    refused = tried = 0
    chance = random.Random(55)
    with pmkv.open(pool_path) as db, pool_path.open("r+b") as file:
        keys = put_one_by_one(db, 90, 5)
        for key in keys[::5]:
            del db[key]
        keys = sorted(set(keys) - set(keys[::5]))
        for _ in range(12):
            keys = sorted([*keys, chance.randbytes(8)])
            db.put_many((key, b"") for key in keys)
            tails = leaves(pool_path, with_tails=True)
            with mmap.mmap(file.fileno(), 0) as memory:
                for leaf in tails:
                    begins = leaf + 896 + (memory[leaf] >> 7) * 64 + 63
                    right = memory[begins]
                    for wrong in set(range(256)) - {right}:
                        tried += 1
                        memory[begins] = wrong
                        try:
                            assert list(db.keys()) == keys
                        except pmkv.CorruptedError:
                            refused += 1
                    memory[begins] = right
            assert list(db.keys()) == keys
    assert refused == tried > 2000


def test_a_key_that_the_mapping_has_lost_does_not_come_twice(pool_path: Path) -> None:
    """To put it is to add it, and the order has it already."""
    with pmkv.open(pool_path) as db, pool_path.open("r+b") as file:
        put_one_by_one(db, 60, 6)
        with mmap.mmap(file.fileno(), 0) as memory:
            before = memory[:]
            db[b"lost"] = b"value"
            reader = Reader(memory[:])
            for at in range(0, len(memory), 8):
                word = int.from_bytes(memory[at : at + 8], "little")
                place = (word & (1 << 40) - 1) << 4
                if before[at : at + 8] == bytes(8) and is_slot_of(reader, word, place, b"lost"):
                    memory[at : at + 8] = bytes(8)
            assert b"lost" not in db
            with pytest.raises(pmkv.CorruptedError):
                db[b"lost"] = b"value"
                list(db.keys())


def is_slot_of(reader: Reader, word: int, place: int, key: bytes) -> bool:
    if word == 0 or seal(word & (1 << 56) - 1) != word or not reader.header <= place < 1 << 22:
        return False
    return reader.read(place + 24, len(key)) == key


def test_neighbours_of_a_batch_are_put_in_order_first(pool_path: Path) -> None:
    """Two of each group, in different leaves: the way to one begins at that to the other."""
    chance = random.Random(9)
    groups = [bytes([group, group ^ 85]) for group in range(256)]
    model = [group + chance.randbytes(8) for group in groups for _ in range(100)]
    with pmkv.open(pool_path) as db:
        db.put_many((key, b"") for key in model)
        for _ in range(3):
            fresh = [group + chance.randbytes(8) for group in groups for _ in range(2)]
            db.put_many((key, b"") for key in fresh)
            model += fresh
            assert list(db.keys()) == sorted(model)
        assert db.check() == []


def test_a_damaged_leaf_that_divides_hides_no_key(pool_path: Path) -> None:
    """Its entries are copied as they are: a damaged one stays so, and leads nobody astray."""
    rng = random.Random(6)
    keys = sorted(rng.randbytes(8) for _ in range(150))
    with pmkv.open(pool_path) as db:
        for key in keys:  # they ascend, so their leaves are full
            db[key] = b""
        fresh = keys[1] + b"just behind"
        leaf = leaves(pool_path, with_tails=False)[0]
        whole = pool_path.read_bytes()
    refused = 0
    for place in range(leaf, leaf + NODE):
        with pool_path.open("r+b") as file:
            file.write(whole)
            file.seek(place)
            file.write(bytes([whole[place] ^ rng.randrange(1, 256)]))
        there = list(keys)
        with pmkv.open(pool_path) as db:
            try:
                db[fresh] = b""
                there = sorted([*keys, fresh])
            except pmkv.CorruptedError:
                refused += 1
            for before, key in itertools.pairwise(there[:60]):
                try:
                    assert list(db.keys(start=key, limit=1)) == [key]
                    assert list(db.keys(stop=key, reverse=True, limit=1)) == [before]
                except pmkv.CorruptedError:
                    refused += 1
    assert refused > 100


def test_a_key_without_the_prefix_of_its_full_leaf(pool_path: Path) -> None:
    """It belongs before all of them, and an entry of it has all its bytes."""
    rng = random.Random(9)
    for count in range(60, 160, 2):
        group = [b"m/" + rng.randbytes(8) for _ in range(count)]
        before = [b"m!" + rng.randbytes(2), b"m"]
        with pmkv.open(pool_path, "n") as db:
            for key in [*group, *before]:
                db[key] = b""
            assert list(db) == sorted([*before, *group])
            assert db.check() == []


def leaves_of(path: Path, keys: list[bytes]) -> int:
    """How many leaves the keys make, put one by one."""
    with pmkv.open(path, "n") as db:
        for key in keys:
            db[key] = b""
    return len(leaves(path, with_tails=True)) + len(leaves(path, with_tails=False))


def test_leaves_are_full_if_keys_ascend_and_share_what_their_keys_share(pool_path: Path) -> None:
    rng = random.Random(10)
    keys = [rng.randbytes(8) for _ in range(2000)]
    usual = leaves_of(pool_path, keys)
    assert leaves_of(pool_path, sorted(keys)) < 0.8 * usual
    long = [bytes([key[0] & 3]) * 60 + key for key in keys]
    assert leaves_of(pool_path, long) < 1.6 * usual


@pytest.mark.parametrize(("shared", "prefixes"), [(1, {0}), (2, {2}), (3, {3})])
def test_halves_of_a_leaf_keep_one_byte_that_they_share(
    pool_path: Path, shared: int, prefixes: set[int]
) -> None:
    """Each half has its own bytes in front; one of them is not worth building all entries anew."""
    rng = random.Random(11)
    keys = [
        bytes([half]) * shared + rng.randbytes(10 - shared) for _ in range(28) for half in (16, 32)
    ]
    with pmkv.open(pool_path) as db:
        for key in keys:
            db[key] = b""
        assert list(db) == sorted(keys)
        assert db.check() == []
    memory = pool_path.read_bytes()
    places = leaves(pool_path, with_tails=True) + leaves(pool_path, with_tails=False)
    assert len(places) == 2
    assert {
        int.from_bytes(memory[place + 8 : place + 10], "little") for place in places
    } == prefixes


def use_leaves_of_doubles(path: Path, sound: bytes, leaf: int) -> None:
    for first in range(1, 63):
        memory = bytearray(sound)
        header = int.from_bytes(memory[leaf : leaf + 8], "little")
        area = leaf + 896 + (header >> 7 & 1) * 64
        order = bytes([memory[area]] * first + [memory[area + 1]] * (63 - first))
        memory[area : area + 63] = order
        crc = node_crc(memory[area : area + 64], 63, [], memory[leaf : leaf + NODE])
        header = header & 0xFFF80 | 63 | crc << 20
        memory[leaf : leaf + 8] = seal(header).to_bytes(8, "little")
        path.write_bytes(memory)
        with contextlib.suppress(pmkv.Error), pmkv.open(path) as db:
            db[b"\0" * 100] = b""


def test_entries_that_a_leaf_has_many_times_do_not_fill_the_stack(
    pool_path: Path, in_child: InChild
) -> None:
    rng = random.Random(8)
    with pmkv.open(pool_path) as db:
        for first in range(1, 9):
            db[bytes([first]) + rng.randbytes(99)] = b""
        leaf = leaves(pool_path, with_tails=False)[0]
    in_child(use_leaves_of_doubles, pool_path.with_name("doubles"), pool_path.read_bytes(), leaf)
