"""What a scan looks ahead for does not show: not commits, not where keys lie, not damage."""

from __future__ import annotations

import itertools
import mmap
import random
from pathlib import Path

import pytest

import pmkv

LINE = 64
AHEAD = 70  # more than twice the keys that are under way

Model = dict[bytes, bytes]


def number(i: int) -> bytes:
    return b"%06d" % i


def show(model: Model, reverse: bool, limit: int | None) -> list[tuple[bytes, bytes]]:
    return sorted(model.items(), reverse=reverse)[:limit]


def commit_much(db: pmkv.Store, model: Model) -> None:
    """Every key gets new neighbours; some go, and some have other values."""
    db.put_many((key + b"new%d" % i, b"") for key in model for i in range(3))
    db.delete_many(list(model)[::5])
    db.put_many((key, b"other") for key in list(model)[::3])


def put_back(db: pmkv.Store, model: Model) -> None:
    db.delete_many([key for key in db if key not in model])
    db.put_many(model.items())


@pytest.mark.parametrize("limit", [None, 1, 33])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_commit_at_any_place_of_a_scan_changes_nothing_of_what_it_shows(
    pool_path: Path, reverse: bool, limit: int | None
) -> None:
    model = {number(i): b"value%d" % i for i in range(AHEAD)}
    with pmkv.open(pool_path) as db:
        for at in range(AHEAD if limit is None else limit):
            put_back(db, model)
            scan = iter(db.items(reverse=reverse, limit=limit))
            found = list(itertools.islice(scan, at))
            commit_much(db, model)
            found += list(itertools.islice(scan, 2))
            db.delete_many(model)
            assert found + list(scan) == show(model, reverse, limit), at
        assert db.check() == []


@pytest.mark.parametrize("reverse", [False, True])
def test_values_stored_at_any_place_of_a_scan_in_a_transaction_are_shown_from_there_on(
    pool_path: Path, reverse: bool
) -> None:
    model = {number(i): b"old" for i in range(AHEAD)}
    with pmkv.open(pool_path) as db:
        db.put_many(model)
        for at in range(AHEAD):
            with db.begin(write=True) as txn:
                scan = iter(txn.items(reverse=reverse))
                found = list(itertools.islice(scan, at))
                for key in model:
                    txn[key] = b"new"
                found += scan
                txn.abort()
            values = [b"old"] * at + [b"new"] * (AHEAD - at)
            keys = sorted(model, reverse=reverse)
            assert found == list(zip(keys, values, strict=True)), at


def keys_of_all_kinds() -> list[bytes]:
    """Short, long, and too long for a node; with much in common, and with nothing."""
    chance = random.Random(3)
    stems = (b"", b"stem", b"s" * 15, b"s" * 16, b"s" * 17, b"t" * 60, b"t" * 64, b"u" * 127)
    tails = (0, 1, 2, 8, 15, 16, 17, 63, 64, 65, 128, 129, 300)
    return sorted({stem + chance.randbytes(n) for stem in stems for n in tails for _ in range(4)})


@pytest.mark.parametrize("include", list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize("reverse", [False, True])
def test_a_range_between_any_two_keys_shows_just_those(
    pool_path: Path, reverse: bool, include: tuple[bool, bool]
) -> None:
    keys = keys_of_all_kinds()
    bounds = sorted([*keys[::17], *(key + b"\0" for key in keys[5::31])])
    with pmkv.open(pool_path) as db:
        db.put_many((key, key[::-1]) for key in keys)
        for start, stop in itertools.product(bounds, repeat=2):
            wanted = [
                (key, key[::-1])
                for key in (reversed(keys) if reverse else keys)
                if start < key < stop or key in itertools.compress((start, stop), include)
            ]
            if start > stop or (start == stop and not all(include)):
                wanted = []
            found = db.items(
                start=start,
                stop=stop,
                include_start=include[0],
                include_stop=include[1],
                reverse=reverse,
            )
            assert list(found) == wanted, (start, stop)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 12, 20, 28, 29, 300, 460, 900, 3600])
def test_a_scan_finds_every_record_however_full_the_mapping_is(pool_path: Path, count: int) -> None:
    model = {number(i): b"%d" % i * 20 for i in range(count)}
    with pmkv.open(pool_path) as db:
        db.put_many(model.items())
        assert list(db.items()) == show(model, False, None)
        assert list(db.items(reverse=True)) == show(model, True, None)
        assert list(db.values()) == list(model.values())
        assert list(db.items(limit=count - 1)) == show(model, False, count - 1)


def lines_in_use(memory: mmap.mmap) -> list[int]:
    """Those that are not all zero."""
    zero = bytes(LINE)
    return [at for at in range(0, len(memory), LINE) if memory[at : at + LINE] != zero]


def test_a_scan_of_damaged_memory_is_right_or_a_corrupted_error(pool_path: Path) -> None:
    """The mapping's leaf is so full that many keys lie in their alternate bucket."""
    model = {number(i): b"%d" % i * 20 for i in range(460)}
    refused, chance = 0, random.Random(5)
    with pmkv.open(pool_path) as db, pool_path.open("r+b") as file:
        db.put_many(model.items())
        with mmap.mmap(file.fileno(), 0) as memory:
            for line in lines_in_use(memory):
                place, mask = line + chance.randrange(LINE), chance.randrange(1, 256)
                memory[place] ^= mask
                for reverse in (False, True):
                    try:
                        assert list(db.items(reverse=reverse)) == show(model, reverse, None), place
                    except pmkv.CorruptedError:
                        refused += 1
                memory[place] ^= mask
        assert list(db.items()) == show(model, False, None)
        assert db.check() == []
    assert refused > 1000


def test_a_damaged_slot_does_not_lead_to_what_the_key_once_had(pool_path: Path) -> None:
    """Records that were overwritten still lie there, whole: only the check of the slot helps."""
    refused = 0
    with pmkv.open(pool_path) as db, pool_path.open("r+b") as file:
        for turn in range(4):
            db[b"key"] = b"%d" % turn * 100
        with mmap.mmap(file.fileno(), 0) as memory:
            used = [at for at in range(0, len(memory), 8) if memory[at : at + 8] != bytes(8)]
            for place, mask in itertools.product(used, range(1, 64)):
                memory[place] ^= mask
                try:
                    assert list(db.items()) == [(b"key", b"3" * 100)], (place, mask)
                except pmkv.CorruptedError:
                    refused += 1
                memory[place] ^= mask
    assert refused > 100


def test_a_scan_goes_on_after_an_error_and_shows_nothing_wrong(pool_path: Path) -> None:
    """After a commit it looks for its place again, and the way there may be damaged by then."""
    model = {number(i): b"%d" % i * 20 for i in range(200)}
    refused, chance = 0, random.Random(9)
    with pmkv.open(pool_path) as db, pool_path.open("r+b") as file:
        db.put_many(model.items())
        with mmap.mmap(file.fileno(), 0) as memory:
            for line in lines_in_use(memory):
                scan = iter(db.items(stop=b"~"))
                found = list(itertools.islice(scan, 5))
                db[b"~"] = b"%d" % line
                place, mask = line + chance.randrange(LINE), chance.randrange(1, 256)
                memory[place] ^= mask
                for _ in range(3):  # the second and third perhaps after an error
                    try:
                        found.append(next(scan))
                    except pmkv.CorruptedError:
                        refused += 1
                    except StopIteration:
                        break
                memory[place] ^= mask
                found += scan
                assert found == sorted(set(found) & set(model.items())), place
        assert db.check() == []
    assert refused > 5
