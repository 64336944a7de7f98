"""Whatever byte of a pool is changed: the right answer or an error, never a wrong one."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pmkv

LINE = 64
HEADER = 4096 * 2  # superblock A and the root
MASKS = (0x01, 0x10, 0x80, 0xFF)
SIZES = (0, 1, 8, 40, 200, 900, 2000, 3900, 4097, 9000, 40_000)


def make_model() -> dict[bytes, bytes]:
    chance = random.Random(11)
    return {
        chance.randbytes(chance.choice((3, 9, 30, 300))): chance.randbytes(size)
        for size in SIZES
        for _ in range(60 if size < 1000 else 8)
    }


MODEL = make_model()


@pytest.fixture
def pool(pool_path: Path) -> Path:
    """A closed pool with the model, and with what deletes and overwrites leave behind."""
    with pmkv.open(pool_path) as db:
        db.put_many((key, b"old" + value[::-1]) for key, value in MODEL.items())
        db.put_many((b"gone%d" % i, bytes(i)) for i in range(500))
        for key, value in MODEL.items():
            db[key] = value
        db.delete_many(b"gone%d" % i for i in range(500))
        assert db.check() == []
    return pool_path


def lines_in_use(data: bytes) -> list[int]:
    """The lines of the file that are not all zero."""
    zero = bytes(LINE)
    return [at for at in range(0, len(data), LINE) if data[at : at + LINE] != zero]


def random_places(data: bytes, chance: random.Random, count: int) -> Iterator[int]:
    """Bytes of the file: a third in its first pages, the others in any line that is used."""
    used = lines_in_use(data)
    for _ in range(count):
        if chance.randrange(3) == 0:
            yield chance.randrange(HEADER)
        else:
            yield chance.choice(used) + chance.randrange(LINE)


def places_of_values(data: bytes, chance: random.Random, count: int) -> Iterator[int]:
    """Bytes of keys and values that are surely in use: found in the file by what they are."""
    pairs = [pair for pair in MODEL.items() if len(pair[1]) >= 40]
    for key, value in chance.sample(pairs, count):
        what = key + value if key + value in data else value
        yield data.rindex(what) + chance.randrange(len(what))


def wrong_answers(answer: Callable[[], Any], expected: Any, what: str) -> list[str]:
    """Nothing, if the answer is the expected one or CorruptedError."""
    try:
        found = answer()
    except pmkv.CorruptedError:
        return []
    except Exception as error:
        return [f"{what}: {type(error).__name__}: {error}"]
    return [] if found == expected else [f"{what}: a wrong answer"]


def wrong_reads(db: pmkv.Store) -> list[str]:
    """What the store answers wrongly, in every way to ask."""
    wrong: list[str] = []
    for key, value in MODEL.items():
        wrong += wrong_answers(lambda key=key: db[key], value, "getitem")
        wrong += wrong_answers(lambda key=key: bytes(db.view(key)), value, "view")
        wrong += wrong_answers(lambda key=key: key in db, True, "contains")
    wrong += wrong_answers(lambda: db.get(b"gone7"), None, "get of what is missing")
    wrong += wrong_answers(lambda: db.get_many(MODEL), list(MODEL.values()), "get_many")
    wrong += wrong_answers(lambda: len(db), len(MODEL), "len")
    wrong += wrong_answers(lambda: sorted(db), sorted(MODEL), "iteration")
    wrong += wrong_answers(lambda: dict(db.items()), MODEL, "items")
    wrong += wrong_answers(lambda: sorted(db.values()), sorted(MODEL.values()), "values")
    return wrong


def read_damaged(path: Path) -> tuple[list[str], bool]:
    """What a damaged pool answers wrongly, and whether anything noticed the damage."""
    try:
        db = pmkv.open(path, "r", verify="all")
    except pmkv.CorruptedError:
        return [], True
    with db:
        return wrong_reads(db), check_finds_it(db)


def check_finds_it(db: pmkv.Store) -> bool:
    try:
        return db.check() != []
    except pmkv.CorruptedError:
        return True


def flip(path: Path, place: int, mask: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ mask]))


def read_with_flips(path: Path, flips: list[tuple[int, int]], must_be_found: bool) -> list[str]:
    """Reads the pool with each byte changed in turn; what went wrong."""
    problems: list[str] = []
    for place, mask in flips:
        flip(path, place, mask)
        wrong, found = read_damaged(path)
        flip(path, place, mask)
        problems += [f"{place:#x}^{mask:#x}: {text}" for text in wrong[:3]]
        if must_be_found and not found:
            problems.append(f"{place:#x}^{mask:#x}: check() finds nothing")
    return problems


def with_masks(places: Iterator[int], chance: random.Random) -> list[tuple[int, int]]:
    return [(place, chance.choice(MASKS)) for place in places]


@pytest.mark.parametrize("seed", range(6))
def test_a_changed_byte_anywhere_gives_right_answers_or_corrupted_errors(
    pool: Path, seed: int, effort: int, in_child: Callable[..., Any]
) -> None:
    chance = random.Random(seed)
    for _ in range(effort):
        flips = with_masks(random_places(pool.read_bytes(), chance, 80), chance)
        assert in_child(read_with_flips, pool, flips, False) == []


@pytest.mark.parametrize("seed", range(2))
def test_a_changed_byte_of_a_key_or_value_is_found_by_check(
    pool: Path, seed: int, in_child: Callable[..., Any]
) -> None:
    chance = random.Random(seed)
    flips = with_masks(places_of_values(pool.read_bytes(), chance, 80), chance)
    assert in_child(read_with_flips, pool, flips, True) == []


def test_every_changed_byte_of_the_words_of_the_root_is_noticed_or_harmless(
    pool: Path, in_child: Callable[..., Any]
) -> None:
    data = pool.read_bytes()
    places = [at for at in range(4096, 8192) if data[at]][::2]
    flips = [(at, MASKS[at % len(MASKS)]) for at in places]
    assert in_child(read_with_flips, pool, flips, True) == []


def write_to_damaged(path: Path) -> list[str]:
    """Opens a damaged pool to write, and uses it; what is wrong with the answers."""
    problems: list[str] = []
    try:
        with pmkv.open(path) as db:
            for i, key in enumerate(list(MODEL)[::7]):
                write_or_be_refused(db, i, key)
            problems = [
                text
                for key in list(MODEL)[1::7]
                for text in wrong_answers(lambda key=key: db[key], MODEL[key], "getitem")
            ]
            check_finds_it(db)
    except pmkv.CorruptedError:
        pass
    return problems


def write_or_be_refused(db: pmkv.Store, i: int, key: bytes) -> None:
    uses: list[Callable[[], Any]] = [
        lambda: db.put(key, b"new" * 100),
        lambda: db.delete(key),
        lambda: db.put(b"new%d" % i, bytes(i * 50)),
        lambda: db.put_many([(b"many%d" % i, bytes(5000)), (key, b"x")]),
        lambda: db.pop(key, None),
    ]
    try:
        uses[i % len(uses)]()
    except pmkv.CorruptedError:
        return


def write_with_flips(path: Path, flips: list[tuple[int, int]]) -> list[str]:
    """Writes to copies of the pool, each with a byte changed; what went wrong."""
    problems: list[str] = []
    data = path.read_bytes()
    copy = path.with_suffix(".copy")
    for place, mask in flips:
        copy.write_bytes(data)
        flip(copy, place, mask)
        try:
            wrong = write_to_damaged(copy)
        except Exception as error:
            wrong = [f"{type(error).__name__}: {error}"]
        problems += [f"{place:#x}^{mask:#x}: {text}" for text in wrong[:3]]
    return problems


@pytest.mark.parametrize("seed", range(3))
def test_writing_to_a_pool_with_a_changed_byte_never_harms_other_keys(
    pool: Path, seed: int, effort: int, in_child: Callable[..., Any]
) -> None:
    chance = random.Random(100 + seed)
    for _ in range(effort):
        flips = with_masks(random_places(pool.read_bytes(), chance, 50), chance)
        assert in_child(write_with_flips, pool, flips) == []


def test_a_large_value_that_is_damaged_is_refused_by_get_and_found_by_check(
    pool_path: Path,
) -> None:
    value = random.Random(5).randbytes(1 << 20)
    with pmkv.open(pool_path) as db:
        db[b"big"] = value
    flip(pool_path, pool_path.read_bytes().rindex(value) + 500_000, 0x01)
    with pmkv.open(pool_path, "r") as db:
        with pytest.raises(pmkv.CorruptedError, match="byte 0x"):
            db[b"big"]
        with pytest.raises(pmkv.CorruptedError):
            db.get_many([b"big"])
        with pytest.raises(pmkv.CorruptedError):
            list(db.values())
        assert len(db.check()) == 1
        assert db.check(values=False) == []


def test_a_damaged_value_does_not_hinder_what_is_done_to_others(pool_path: Path) -> None:
    value = random.Random(6).randbytes(3000)
    with pmkv.open(pool_path) as db:
        db.update({b"damaged": value, b"a": bytes(3000), b"b": bytes(3000)})
    flip(pool_path, pool_path.read_bytes().rindex(value) + 1000, 0x01)
    with pmkv.open(pool_path) as db:
        db[b"a"] = b"new"
        db[b"c"] = bytes(3000)
        del db[b"b"]
        assert db.get_many([b"a", b"b", b"c"]) == [b"new", None, bytes(3000)]
        with pytest.raises(pmkv.CorruptedError):
            db[b"damaged"]
        assert any("checksum" in problem for problem in db.check())
