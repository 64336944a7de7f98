"""A crafted pool, whose every check fits, may be refused or give errors; it kills nobody.

Words of a sound pool are changed at random and sealed again, descriptors get a new checksum;
then the pool is read, checked and written to in a child process, whose death is a failure.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pmkv
from pmkv._layout import crc32c, is_sealed, seal

PAYLOAD = (1 << 56) - 1
HEADER_SIZE, DESCRIPTORS_END = 2 << 20, 4 << 20
KEYS = 1500
RECORDS = 3  # the kind of a block of records


def sound_pool(path: Path) -> bytes:
    rng = random.Random(0)
    with pmkv.open(path) as db:
        sizes = (i % 300 if i % 20 else 6000 for i in range(KEYS))
        db.put_many((b"key%d" % i, rng.randbytes(size)) for i, size in enumerate(sizes))
        db.delete_many(b"key%d" % i for i in range(0, KEYS, 5))
    return path.read_bytes()


def word_at(pool: bytes | bytearray, place: int) -> int:
    return int(struct.unpack_from("<Q", pool, place)[0])


def sealed_places(pool: bytes) -> list[int]:
    """Where the root, leaves and nodes (and, by chance, records) have sealed words."""
    places = itertools.chain(range(4096, 8192, 8), range(DESCRIPTORS_END, len(pool) - 8, 8))
    return [place for place in places if (word := word_at(pool, place)) and is_sealed(word)]


def craft_word(pool: bytearray, places: list[int], rng: random.Random) -> None:
    place = rng.choice(places)
    old = word_at(pool, place) & PAYLOAD
    another = word_at(pool, rng.choice(places)) & PAYLOAD
    new = rng.choice(
        (old ^ 1 << rng.randrange(56), rng.getrandbits(56), rng.getrandbits(20), old + 1, another)
    )
    struct.pack_into("<Q", pool, place, seal(new & PAYLOAD))


def used_descriptors(pool: bytes | bytearray) -> list[int]:
    return [at for at in range(HEADER_SIZE, DESCRIPTORS_END, 64) if any(pool[at : at + 64])]


def check_anew(pool: bytearray, place: int) -> None:
    """The check of the descriptor there, as it is now."""
    line = pool[place : place + 24] + bytes(8) + pool[place + 32 : place + 64]
    struct.pack_into("<Q", pool, place + 24, crc32c(bytes(line)) ^ crc32c(bytes(64)))


def craft_descriptor(pool: bytearray, rng: random.Random) -> None:
    place = rng.choice(used_descriptors(pool))
    pool[place + rng.choice((*range(24), *range(32, 64)))] ^= rng.randrange(1, 256)
    check_anew(pool, place)


def put_another(db: pmkv.Store) -> None:
    db[b"yek"] = b"eulav"


def delete_it(db: pmkv.Store) -> None:
    del db[b"key"]


def block_of_records(path: Path) -> tuple[bytes, int]:
    """A pool with one record, and where the descriptor of its block lies."""
    with pmkv.open(path, ordered=False) as db:
        db[b"key"] = b"value"
    pool = path.read_bytes()
    (place,) = (at for at in used_descriptors(pool) if pool[at] == RECORDS)
    return pool, place


@pytest.mark.parametrize("write", [put_another, delete_it])
def test_nothing_is_written_by_a_damaged_descriptor(
    pool_path: Path, write: Callable[[pmkv.Store], None]
) -> None:
    pool, place = block_of_records(pool_path)
    for at in range(place, place + 64):
        damaged = bytearray(pool)
        damaged[at] ^= 1 << at % 8
        pool_path.write_bytes(damaged)
        with pmkv.open(pool_path) as db:
            with pytest.raises(pmkv.CorruptedError):
                write(db)
            assert dict(db) == {b"key": b"value"}


def test_a_block_of_another_class_is_not_allocated_from(pool_path: Path) -> None:
    """Its check fits; but what would lie there is of another size."""
    pool, place = block_of_records(pool_path)
    crafted = bytearray(pool)
    crafted[place + 1] += 1
    check_anew(crafted, place)
    pool_path.write_bytes(crafted)
    with pmkv.open(pool_path) as db:
        with pytest.raises(pmkv.CorruptedError):
            put_another(db)
        assert dict(db) == {b"key": b"value"}


def use(path: Path, flag: Any) -> None:
    """Everything that a user may do; errors are answers."""
    with contextlib.suppress(pmkv.Error, OSError), pmkv.open(path, flag) as db:
        for i in range(KEYS):
            with contextlib.suppress(pmkv.Error):
                db.get(b"key%d" % i)
        with contextlib.suppress(pmkv.Error):
            for _ in itertools.islice(db.items(), 50 * KEYS):
                pass
        db.check()
        for i in range(400 if flag == "w" else 0):
            with contextlib.suppress(pmkv.Error, OSError):
                db.put(b"key%d" % (i * 7 % KEYS), bytes(i * 37 % 7000))
            with contextlib.suppress(pmkv.Error, OSError):
                db.delete(b"key%d" % (i * 5 % KEYS))
        if flag == "w":
            with contextlib.suppress(pmkv.Error, OSError):
                db.clear()


def use_crafted_pools(path: Path, sound: bytes, seed: int, trials: int) -> None:
    places = sealed_places(sound)
    for trial in range(trials):
        rng = random.Random(seed * 1000 + trial)
        pool = bytearray(sound)
        for _ in range(rng.choice((1, 1, 2, 5))):
            if rng.random() < 0.6:
                craft_word(pool, places, rng)
            else:
                craft_descriptor(pool, rng)
        path.unlink(missing_ok=True)
        path.write_bytes(pool)
        use(path, rng.choice("rw"))
        os.truncate(path, 0)


@pytest.mark.parametrize("seed", range(4))
def test_a_crafted_pool_gives_errors_and_neither_a_crash_nor_a_hang(
    memory_dir: Path, in_child: Callable[..., Any], seed: int, effort: int
) -> None:
    sound = sound_pool(memory_dir / "sound.pmkv")
    in_child(use_crafted_pools, memory_dir / "crafted.pmkv", sound, seed, 40 * effort)


def test_a_reference_that_no_look_up_follows_is_not_followed_by_clear_either(
    memory_dir: Path, in_child: Callable[..., Any]
) -> None:
    pool = bytearray(sound_pool(memory_dir / "sound.pmkv"))
    top = word_at(pool, 4096 + 192)  # the default namespace's mapping: a node of eight words
    node = ((top & (1 << 40) - 1) << 4) + DESCRIPTORS_END - HEADER_SIZE
    words = [word_at(pool, node + i * 8) for i in range(8)]
    again = next(i for i in range(1, 8) if words[i] == words[i - 1])  # a leaf's second word
    struct.pack_into("<Q", pool, node + again * 8, seal(1 << 39 | 3 << 46))
    path = memory_dir / "crafted.pmkv"
    path.write_bytes(pool)
    in_child(use, path, "w")
