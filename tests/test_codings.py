"""Values under codecs, as the pool keeps them: counted, checked, never taken for something else.

What a stage does is of no account here: the simulator stores any bytes as coded.  Only the
independent reader decodes what lz4 and zstd have made.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lz4.block  # type: ignore[import-untyped]
import pytest
import zstandard
from reader import Page, Reader
from simulation import some_batch

import pmkv
from pmkv._layout import FIELDS, crc32c, seal
from pmkv._oracle import coded
from pmkv._simulator import SimulationFailure, Simulator

OFFSET = {(row[0], row[1]): row[2] for row in FIELDS}
CODINGS = Page + OFFSET["root", "codings"]
CORRUPTED, TOO_MANY_CODINGS = -5, -11
SEAL, RECORD, VALUE = "a word fails", "a record fails", "a value fails"
COUNTS, TREE, NAMES = "the counts of values under codecs", "a node of the ordered", "the catalogue"


def word(raw_size: int, *stages: int) -> int:
    return raw_size | int.from_bytes(bytes(stages), "little") << 32


def place_of(sim: Simulator, offset: int) -> int:
    """Of a byte of the first section's pages, by where it is in the file."""
    assert sim.header_size + 64 * 64 <= offset < sim.header_size + 64 * (64 + Page)
    return offset - 64 * 64


@pytest.fixture
def sim() -> Iterator[Simulator]:
    """A pool of values coded in three ways, and plain ones; sound when the test is done with it."""
    made = Simulator(deeper=0, capacity_pages=1024)
    made.put(b"plain", b"p" * 100, explored=False)
    made.put(b"small", coded(b"s" * 50, word(90, 1)), explored=False)
    made.put(b"large", coded(b"L" * 6000, word(9000, 1, 16)), explored=False)
    made.transaction(
        [
            (b"n", b"named", coded(b"n" * 70, word(500, 2))),
            (b"n", b"until", (coded(b"u" * 30, word(100, 1)), 1 << 50)),
        ],
        explored=False,
    )
    made.put(b"f" * 300, coded(b"far", word(9, 2)), explored=False)
    yield made
    assert made.check() == []
    made.close()


# ---- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("slot", range(3))
@pytest.mark.parametrize("index", range(4))
def test_each_word_of_the_counts_is_checked(sim: Simulator, slot: int, index: int) -> None:
    place = CODINGS + slot * 32 + index * 8
    now = sim.bytes_at(place, 8)
    damaged = bytes([now[0] ^ 4]) + now[1:]
    assert SEAL in sim.problems_with({place: damaged})[0]
    payload = int.from_bytes(now, "little") & (1 << 56) - 1
    for other in (0, payload + 1, payload ^ 1 << 40):
        crafted = seal(other).to_bytes(8, "little")
        assert COUNTS in " ".join(sim.problems_with({place: crafted}))


def test_a_slot_that_no_look_up_finds_is_reported(sim: Simulator) -> None:
    """Behind the end of the slots, or the second one of its stages."""
    sim.delete(b"large", explored=False)  # the second slot counts nothing
    first, second, third = (CODINGS + slot * 32 for slot in range(3))
    assert sim.problems_with({second: bytes(8)})
    assert sim.problems_with({second: sim.bytes_at(first, 8)})
    assert sim.problems_with({second: sim.bytes_at(third, 8)})
    assert sim.problems_with({third + 64: sim.bytes_at(second, 8)})


def record(sim: Simulator, key: bytes, name: bytes = b"") -> tuple[int, bytearray, int]:
    """Of a coded record: its place, its bytes, and where its coding is in these."""
    place, extent, _ = sim.where(key, name)
    value_size = struct.unpack("<I", sim.bytes_at(place + 20, 4))[0]
    size = 24 + len(key) + 8 + (16 if extent else value_size)
    return place, bytearray(sim.bytes_at(place, size)), 24 + len(key)


def with_crc(body: bytes | bytearray) -> bytes:
    return struct.pack("<I", crc32c(bytes(body[4:]))) + bytes(body[4:])


KEYS = [(b"small", b""), (b"large", b""), (b"named", b"n"), (b"until", b"n")]


@pytest.mark.parametrize(("key", "name"), KEYS)
def test_every_byte_of_a_coded_record_is_checked(sim: Simulator, key: bytes, name: bytes) -> None:
    place, body, _ = record(sim, key, name)
    for at in range(len(body)):
        damaged = {place + at: bytes([body[at] ^ 0x10])}
        assert RECORD in " ".join(sim.problems_with(damaged))
        assert sim.statuses_with(damaged, key, name)[0] in (CORRUPTED, 1)  # 1: of another key


def test_the_payload_in_an_extent_is_checked(sim: Simulator) -> None:
    _, extent, _ = sim.where(b"large")
    for at in (0, 4096, 5999):
        problems = sim.problems_with({extent + at: b"x"})
        assert len(problems) == 1 and VALUE in problems[0]
        assert sim.statuses_with({extent + at: b"x"}, b"large")[0] == CORRUPTED


@pytest.mark.parametrize(("key", "name"), KEYS)
def test_a_coding_that_is_not_what_was_counted_is_reported(
    sim: Simulator, key: bytes, name: bytes
) -> None:
    place, body, at = record(sim, key, name)
    struct.pack_into("<I", body, at, 77)  # another raw size
    assert COUNTS in " ".join(sim.problems_with({place: with_crc(body)}))
    body[at + 4 : at + 6] = bytes([9, body[5]])  # one more stage before the last
    assert COUNTS in " ".join(sim.problems_with({place: with_crc(body)}))


@pytest.mark.parametrize(("key", "name"), KEYS)
def test_counts_do_not_change_by_what_a_damaged_record_says(
    sim: Simulator, key: bytes, name: bytes
) -> None:
    """Not even if readers keep the record, so that nobody gives its space back yet."""
    place, body, at = record(sim, key, name)
    for byte in range(at, at + 8):
        damaged = {place + byte: bytes([body[byte] ^ 1])}
        assert sim.statuses_with(damaged, key, name) == [CORRUPTED] * 4


def codec_and_stages(stages: list[int]) -> Iterator[tuple[int, list[int]]]:
    """All that is not as the format says."""
    last = [stage for stage in stages if stage][-1]
    yield last + 1, stages
    yield last, [0, 0, 0, 0]
    yield last, [0, last, 0, 0]
    yield last, [last, 0, 0, 1]
    yield last, [last, last, 0, last]
    yield last, [last, 7, 0, 0]


@pytest.mark.parametrize(("key", "name"), KEYS)
def test_a_codec_that_is_not_the_last_stage_of_the_coding_is_refused(
    sim: Simulator, key: bytes, name: bytes
) -> None:
    place, body, at = record(sim, key, name)
    for codec, stages in codec_and_stages(list(body[at + 4 : at + 8])):
        body[5] = codec
        body[at + 4 : at + 8] = bytes(stages)
        crafted = {place: with_crc(body)}
        assert RECORD in " ".join(sim.problems_with(crafted))
        assert sim.statuses_with(crafted, key, name) == [CORRUPTED] * 4


@pytest.mark.parametrize(("flags", "short"), [(0, 16), (1, 16), (1, 32), (2, 16), (3, 32)])
def test_a_coded_record_that_would_end_behind_the_pool_is_refused(
    sim: Simulator, flags: int, short: int
) -> None:
    """`short`: its parts begin inside, but the last ones, of so many bytes, are behind the end."""
    _, _, slot = sim.where(b"small")
    end = sim.header_size + sim.file_pages * Page
    size = 24 + 16 + 8 + (16 if flags & 1 else 0) + (8 if flags & 2 else 0)
    place = (end - size + short) & ~15
    key_size = 16
    body = struct.pack("<IBBHQII", 0, flags, 1, 0, 1, key_size, 0) + bytes(end - place - 24)
    slot_word = int.from_bytes(sim.bytes_at(slot, 8), "little") & (1 << 56) - 1
    slot_word = slot_word & ~((1 << 40) - 1) | place >> 4
    crafted = {place: body, slot: seal(slot_word).to_bytes(8, "little")}
    assert RECORD in " ".join(sim.problems_with(crafted))
    assert sim.statuses_with(crafted, b"small") == [CORRUPTED] * 4


def test_a_coded_name_of_the_catalogue_is_no_namespace(sim: Simulator) -> None:
    at = sim.image().rindex(b"n" + struct.pack("<Q", sim.root_of(b"n")))
    place = place_of(sim, at) - 24
    body = bytearray(sim.bytes_at(place, 24 + 1 + 8))
    body[5] = 1
    body[25:25] = struct.pack("<Q", word(8, 1))
    crafted = {place: with_crc(body)}
    assert NAMES in " ".join(sim.problems_with(crafted))
    assert sim.statuses_with(crafted, b"named", b"n")[1:] == [CORRUPTED] * 3


def test_a_far_key_of_the_order_has_no_coding(sim: Simulator) -> None:
    key = b"f" * 300
    data, own = sim.image(), sim.where(key)[0]
    at = data.index(key, sim.header_size)
    while place_of(sim, at) - 24 == own:
        at = data.index(key, at + 300)
    place = place_of(sim, at) - 24
    body = bytearray(sim.bytes_at(place, 324))
    assert struct.unpack_from("<BBH", body, 4) == (0, 0, 0)
    body[5] = 1
    body += struct.pack("<Q", word(0, 1))
    assert TREE in " ".join(sim.problems_with({place: with_crc(body)}))


def craft(sim: Simulator, rng: random.Random, key: bytes, name: bytes) -> dict[int, bytes]:
    """The key's record with some of its header and coding changed, and a checksum that fits."""
    place, body, at = record(sim, key, name)
    for _ in range(rng.randrange(1, 4)):
        where = rng.choice((4, 5, 16, 17, 18, 19, 20, 21, 22, 23, at + 4, at + 5, at + 6, at + 7))
        body[where] = rng.choice((0, 1, 2, 3, body[where] ^ 1 << rng.randrange(8)))
    extended, codec = body[4] & 1, body[5]
    key_size, value_size = struct.unpack_from("<II", body, 16)
    size = 24 + key_size + (8 if codec else 0) + (16 if extended else value_size)
    end = sim.header_size + sim.file_pages * Page
    if place + size > end:
        return {place: bytes(body)}
    whole = bytes(body) + sim.bytes_at(place + len(body), max(size - len(body), 0))
    return {place: with_crc(whole[:size])}


def use_crafted_records(seed: int, trials: int) -> None:
    rng = random.Random(seed)
    sim = Simulator(deeper=0, capacity_pages=1024)
    keys = [b"%d" % i for i in range(30)] + [b"k" * 5000]
    for _ in range(4):
        sim.write_back(some_batch(rng, [b"", b"a", b"u"], keys, 2), explored=False)
    at = [key if isinstance(key, tuple) else (b"", key) for key in sim.model]
    for _ in range(trials):
        name, key = rng.choice(at)
        crafted = craft(sim, rng, key, name)
        sim.problems_with(crafted)
        sim.statuses_with(crafted, key, name)
    assert sim.check() == []
    sim.close()


@pytest.mark.parametrize("seed", range(3))
def test_crafted_records_give_errors_and_neither_a_crash_nor_a_hang(
    in_child: Callable[..., Any], seed: int, effort: int
) -> None:
    in_child(use_crafted_records, seed, 3000 * effort)


# ---- more ways than can be counted ---------------------------------------------------------------


def test_one_way_of_coding_too_many_fails_the_whole_transaction() -> None:
    sim = Simulator(deeper=0, capacity_pages=1024)
    for i in range(64):
        sim.put(b"%d" % i, coded(b"v", word(1, 1 + i, 2)), explored=False)
    one_more = coded(b"v", word(1, 200))
    for steps in (
        [(b"x", one_more)],
        [(b"plain", b"v"), (b"n", b"x", one_more), (b"5", b"other")],
    ):
        with pytest.raises(SimulationFailure, match=f"status {TOO_MANY_CODINGS}"):
            sim.transaction(steps)
        assert sim.check() == []
    assert sim.model[b"5"] == b"v" and len(sim.model) == 64
    sim.transaction([(b"before", b"v"), [(b"5", b"other"), (b"x", one_more)], (b"behind", b"v")])
    assert sim.model.keys() - {b"%d" % i for i in range(64)} == {b"before", b"behind"}
    sim.put(b"6", coded(b"in a way that is known", word(50, 8, 2)))
    sim.put(b"plain", b"v")
    sim.put(b"5", one_more)  # it takes the place of the last one of its way
    sim.delete(b"5")
    sim.put(b"x", coded(b"v", word(1, 201)))
    assert sim.check() == []
    sim.close()


# ---- the independent reader ----------------------------------------------------------------------


def dictionary_coded(stage: int, number: int, dictionary: bytes, value: bytes) -> bytes:
    if stage == 3:
        made = lz4.block.compress(value, dict=dictionary)
    else:
        known = zstandard.ZstdCompressionDict(dictionary)
        made = zstandard.ZstdCompressor(dict_data=known).compress(value)
    return coded(struct.pack("<H", number) + made, word(len(value), stage))


def as_stored(value: bytes, chance: random.Random) -> bytes:
    """The value plain, or as one or two of the stages of the format make it."""
    made = {
        1: lz4.block.compress,
        2: zstandard.ZstdCompressor().compress,
        12: lambda raw: lz4.block.compress(zstandard.ZstdCompressor().compress(raw)),
    }
    which = chance.choice((0, 1, 2, 12))
    if which == 0:
        return value
    stages = (2, 1) if which == 12 else (which,)
    return coded(made[which](value), word(len(value), *stages))


def test_the_reader_decodes_what_the_format_says(tmp_path: Path) -> None:
    chance = random.Random(3)
    sim = Simulator(deeper=0, capacity_pages=1024)
    texts = [b"%d bottles of " % i * chance.choice((0, 1, 9, 80, 900)) for i in range(60)]
    raw: dict[str, dict[bytes, bytes]] = {"": {}, "a": {}, "u": {}}
    dictionary = b"bottles of beer on the wall, " * 9
    sim.transaction([(b"\0codecs", b"dictionary\7", bytes(8) + dictionary)], explored=False)
    for i, text in enumerate(texts):
        name, key = chance.choice(list(raw)), chance.choice((b"", b"k" * 4090)) + b"%d" % (i % 40)
        stored = as_stored(text, chance)
        if i % 7 == 0:
            stored = dictionary_coded(3 + i // 7 % 2, 7, dictionary, text)
        sim.transaction([(name.encode(), key, stored)], explored=False)
        raw[name][key] = text
    secret = coded(b"nonce, ciphertext and tag", word(5, 1, 16))
    sim.put(b"secret", secret, explored=False)
    raw[""][b"secret"] = secret
    reader = Reader(sim.image())
    found = {"": reader.everything(), **reader.namespaces}
    assert found == raw
    assert len(reader.codings) > 30
    path = tmp_path / "image.pmkv"
    path.write_bytes(sim.image())
    with pmkv.open(path, "r") as db:
        assert db.check() == []
    sim.close()


@pytest.mark.parametrize("seed", range(3))
def test_the_reader_finds_nothing_wrong_with_what_programs_leave(seed: int, effort: int) -> None:
    rng = random.Random(seed)
    sim = Simulator(deeper=0, capacity_pages=2048)
    keys = [b"%d" % i for i in range(40)] + [b"k" * 4070, b"l" * 4100]
    for i in range(20 * effort):
        sim.write_back(some_batch(rng, [b"", b"a", b"u"], keys, 2), explored=False)
        if i % 6 == 5:
            sim.drop(b"a", explored=False)
            sim.compact(explored=False)
    reader = Reader(sim.image())
    reader.decoded = lambda place, value: value  # type: ignore[method-assign]
    spaces = {b"": reader.everything()}
    spaces |= {name.encode(): pairs for name, pairs in reader.namespaces.items()}
    found = {
        (name, key) if name else key: v
        for name, pairs in spaces.items()
        for key, v in pairs.items()
    }
    assert found == sim.model
    sim.close()


@pytest.mark.parametrize("index", range(4))
def test_the_reader_refuses_counts_that_are_wrong(sim: Simulator, index: int) -> None:
    sim.checkpoint(explored=False)  # there is nothing to replay
    data = bytearray(sim.image())
    (now,) = struct.unpack_from("<Q", data, CODINGS + index * 8)
    struct.pack_into("<Q", data, CODINGS + index * 8, seal((now & (1 << 56) - 1) + 1))
    reader = Reader(bytes(data))
    reader.decoded = lambda place, value: value  # type: ignore[method-assign]
    with pytest.raises((AssertionError, KeyError)):
        reader.everything()
