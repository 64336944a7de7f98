"""docs/format.md says what the code does, and a reader of pools can be written from it.

The first half compares the document's tables with the code, row by row. `python
tests/test_format.py` writes the tables into the document anew. The second half reads pools
with such a reader, tests/reader.py, which knows nothing of pmkv but what the document says.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import struct
import time
from pathlib import Path

import pytest
from reader import Page, Reader, crc32c, hash64, seal

import pmkv
from pmkv import _layout

DOCUMENT = Path(__file__).parent.parent / "docs" / "format.md"
MARK = re.compile(r"<!-- table: (.+?) -->\n(.*?)<!-- end -->\n", re.DOTALL)
STRUCTURES = {row[0]: row[2] + row[3] * row[4] for row in _layout.FIELDS}  # their sizes


# ---- the tables ---------------------------------------------------------------------------


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)


def struct_table(name: str) -> str:
    rows: list[tuple[object, ...]] = []
    for structure, field, offset, size, count, meaning in _layout.FIELDS:
        if structure == name:
            kind = f"u{size * 8}" + (f" x {count}" if count > 1 else "")
            rows.append((f"`{field}`", offset, kind, size * count, meaning.replace("|", "\\|")))
    rows.append(("total", "", "", STRUCTURES[name], ""))
    return table(("field", "offset", "type", "bytes", "meaning"), rows)


def named_table(entries: list[tuple[str, int, str]]) -> str:
    return table(("name", "value", "meaning"), [(f"`{n}`", v, m) for n, v, m in entries])


def expected_tables() -> dict[str, str]:
    """What must stand between the document's marks."""
    constants: list[tuple[object, ...]] = [
        (f"`{name}`", f"{value:#x}" if name == "MAGIC" else f"{value:,}")
        for name, value in _layout.CONSTANTS.items()
    ]
    return {
        "constants": table(("constant", "value"), constants),
        **{f"struct {name}": struct_table(name) for name in STRUCTURES},
        "page kinds": named_table(_layout.PAGE_KINDS),
        "record flags": named_table(_layout.RECORD_FLAGS),
        "entry flags": named_table(_layout.ENTRY_FLAGS),
        "namespace options": named_table(_layout.NAMESPACE_OPTIONS),
    }


EXPECTED = expected_tables()


@pytest.mark.parametrize("name", EXPECTED)
def test_a_table_of_the_document_is_what_the_code_has(name: str) -> None:
    found = {match[1]: match[2] for match in MARK.finditer(DOCUMENT.read_text())}
    assert found.get(name) == EXPECTED[name]


def test_the_document_has_no_table_that_is_not_compared() -> None:
    assert {match[1] for match in MARK.finditer(DOCUMENT.read_text())} == set(EXPECTED)


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_fields_of_a_structure_fill_it_without_gaps(name: str) -> None:
    end = 0
    for structure, _, offset, size, count, _ in _layout.FIELDS:
        if structure == name:
            assert offset == end
            end += size * count
    assert end == STRUCTURES[name] == _layout.SIZES.get(name, end)


# ---- a reader, written from the document ------------------------------------------------------

SIZES = (0, 1, 7, 30, 90, 90, 200, 500, 990, 1300, 2100, 3000, 4000, 4096, 4097, 9000, 30_000)


def fill(db: pmkv.Store, seed: int, count: int) -> None:
    """Puts, overwrites and deletes, alone and in batches."""
    rng = random.Random(seed)
    keys = [rng.randbytes(rng.choice((0, 3, 8, 16, 17, 40, 300))) for _ in range(count)]
    db.put_many((key, rng.randbytes(rng.choice(SIZES[:9]))) for key in keys)
    for key in rng.sample(keys, count // 6):
        db[key] = rng.randbytes(rng.choice(SIZES))
    for key in rng.sample(keys, count // 6):
        db.delete(key)
    db[b"long" * 1500] = b"its body is larger than a page"
    db[b"long" * 1501] = rng.randbytes(5000)


def test_a_reader_written_from_the_document_reads_what_pmkv_reads(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        fill(db, 1, 4000)
        wanted = dict(db)
        assert db.check() == []
    assert Reader(pool_path.read_bytes()).everything() == wanted


def read(path: Path) -> tuple[Reader, list[bytes]]:
    """A reader that has read a pool, and the keys that it found."""
    reader = Reader(path.read_bytes())
    return reader, sorted(reader.everything())


def test_the_reader_walks_three_levels_of_ordered_keys(pool_path: Path) -> None:
    rng = random.Random(5)
    keys = {b"user/%05d/name" % rng.randrange(100_000) for _ in range(4000)}
    keys |= {rng.randbytes(rng.randrange(12)) for _ in range(3000)}
    keys |= {b"http://example.org/%s/" % (b"x" * n) for n in range(100)}
    arriving = rng.sample(sorted(keys), len(keys))
    with pmkv.open(pool_path) as db:
        db.put_many((b"%08d" % i, b"in order") for i in range(2500))
        db.put_many((key, b"") for key in arriving[:6000])
        for key in arriving[6000:]:
            db[key] = b""
        wanted = sorted(db)
    reader, found = read(pool_path)
    assert (reader.levels, reader.far_keys, found) == (3, 0, wanted)


def test_the_reader_walks_ordered_keys_that_lie_in_records_of_their_own(pool_path: Path) -> None:
    rng = random.Random(6)
    shared = [rng.randbytes(size) for size in (60, 128, 190, 250, 1000, 4000)]
    keys = [rng.choice(shared) + rng.randbytes(rng.randrange(140, 600)) for _ in range(400)]
    keys += [b"k" * 300 + b"%06d" % rng.randrange(10**6) for _ in range(600)]
    keys += [b"k" * size for size in (200, 255, 256, 1000, 4072, 4073, 20_000, 70_000)]
    keys += [rng.randbytes(size) for size in (200, 3000, 5000, 33_000, 70_000)]
    with pmkv.open(pool_path) as db:
        for key in rng.sample(keys, len(keys)):
            db[key] = b"v" * rng.randrange(50)
        wanted = sorted(db)
        reader, found = read(pool_path)
        assert found == wanted == sorted(set(keys))
        assert reader.far_keys > len(set(keys)) * 2 // 3
        for key in rng.sample(wanted, len(wanted) * 2 // 3):
            db.delete(key)
        assert read(pool_path)[1] == sorted(db)


def test_the_reader_follows_ordered_keys_until_none_are_left(pool_path: Path) -> None:
    rng = random.Random(7)
    levels = []
    with pmkv.open(pool_path) as db:
        db.put_many((b"key %06d" % rng.randrange(10**6), b"") for _ in range(4000))
        db.put_many((b"k" * 300 + b"%d" % i, b"") for i in range(300))
        left = sorted(db)
        while left:
            first = rng.randrange(len(left))
            gone = left[first : first + 600]  # neighbours: whole nodes go
            gone += rng.sample(left, len(left) // 3)
            db.delete_many(set(gone) if len(left) > 20 else left)
            left = sorted(db)
            reader, found = read(pool_path)
            assert found == left
            levels.append(reader.levels)
        db[b"one"] = b"again"
        assert read(pool_path)[1] == [b"one"]
        db.clear()
        assert read(pool_path)[1] == []
    assert levels[-1] == 0 and levels == sorted(levels, reverse=True)
    assert set(levels) >= {0, 1, 2, 3}


def test_a_pool_without_order_has_no_ordered_keys(pool_path: Path) -> None:
    with pmkv.open(pool_path, ordered=False) as db:
        fill(db, 8, 1500)
        wanted = dict(db)
    assert Reader(pool_path.read_bytes()).everything() == wanted


def test_the_reader_accounts_for_what_views_keep_in_limbo(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        db.put_many((b"%d" % i, b"old %d" % i) for i in range(600))
        views = [db.view(b"%d" % i) for i in range(600)]
        for i in range(600):
            db[b"%d" % i] = b"new"
        wanted = dict(db)
        reader = Reader(pool_path.read_bytes())
        del views
    assert reader.everything() == wanted
    reader.used_units, reader.used_runs = {}, set()
    assert set(reader.limbo()) == {b"old %d" % i for i in range(600)}


def change_namespaces(db: pmkv.Store, rng: random.Random) -> dict[str, dict[bytes, bytes]]:
    """Namespaces of all kinds and sizes, made, changed and dropped; what is in those that stay."""
    names = ["empty", "größe", "n" * 5000, "x\0y", "of text", "without order", *map(str, range(40))]
    for name in [*names, "gone", "gone too"]:
        text, unordered = name == "of text", name == "without order" or name[0] == "3"
        space = db.namespace(name, keys="str" if text else None, ordered=not unordered)
        count = 0 if name == "empty" else 1500 if len(name) > 2 else 10
        for _ in range(count):
            key = rng.choice((b"", b"shared by many" * 20, b"k" * 5000))[: rng.randrange(6000)]
            key += b"%d" % rng.randrange(10_000)
            space[key] = rng.randbytes(rng.choice(SIZES[:9]))
        space.delete_many(rng.sample(sorted(space), count // 3))
        if count:
            space.update({"long" * 1501: rng.randbytes(5000), "in all": name})
    for name in ("gone", "gone too", "7"):
        db.drop(name)
    db.namespace("made later")["7"] = b"v"
    found = {name: db.namespace(name) for name in db.namespaces()}
    assert set(found) == {*names, "made later"} - {"7"}
    return {
        name: {key.encode() if isinstance(key, str) else key: value for key, value in space.items()}
        for name, space in found.items()
    }


def test_the_reader_finds_namespaces_by_their_names(pool_path: Path) -> None:
    rng = random.Random(9)
    with pmkv.open(pool_path) as db:
        fill(db, 9, 500)
        named, wanted = change_namespaces(db, rng), dict(db)
        reader = Reader(pool_path.read_bytes())
        assert reader.everything() == wanted and reader.namespaces == named
        for name in rng.sample(sorted(named), len(named) // 2):
            db.drop(name)
            del named[name]
        view = db.view(b"long" * 1500)
        with db.begin(write=True) as transaction:
            transaction.namespace("made inside")[b"k"] = view
            named["made inside"] = {b"k": bytes(view)}
            del transaction[b"long" * 1500]
            transaction.namespace("made later").clear()
            named["made later"] = {}
        wanted = dict(db)
        reader = Reader(pool_path.read_bytes())
        del view
    assert reader.everything() == wanted and reader.namespaces == named
    assert reader.dropped == []


def test_an_update_of_a_key_does_not_touch_the_ordered_keys(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        db[b"k"] = b"v"
    reader = Reader(pool_path.read_bytes())
    offset = {(s, f): at for s, f, at, *_ in _layout.FIELDS}
    word = 4096 + offset["root", "default_namespace"] + offset["namespace_root", "keytree"]
    (root,) = struct.unpack_from("<Q", reader.data, word)
    reader.write((root & (1 << 40) - 1) << 4, bytes(8))  # the only node says that it is empty
    pool_path.write_bytes(reader.data)
    with pmkv.open(pool_path) as db:
        db[b"k"] = b"w"
        assert db[b"k"] == b"w"
        with pytest.raises(pmkv.CorruptedError):
            db[b"new"] = b""


def drop_until_the_alarm(path: Path, seconds: float) -> None:
    """Drops a namespace in a process of its own, which the alarm ends: seconds of its own work."""
    child = os.fork()
    if child == 0:
        db = pmkv.open(path)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        db.drop("n")
        os._exit(0)
    os.waitpid(child, 0)


def work_of_a_drop(path: Path) -> float:
    """Seconds of work that it takes, however busy the machine is."""
    with pmkv.open(path) as db:
        begun = time.process_time()
        db.drop("n")
        return time.process_time() - begun


def test_the_reader_finds_what_an_interrupted_drop_has_left(
    pool_path: Path, memory_dir: Path
) -> None:
    keys = [b"%06d" % i for i in range(70_000)]
    with pmkv.open(pool_path) as db:
        db.namespace("n").put_many((key, b"") for key in keys)
    dropped = memory_dir / "dropped.pmkv"
    shutil.copy(pool_path, dropped)
    whole = work_of_a_drop(dropped)
    for tries in range(60):
        shutil.copy(pool_path, dropped)
        drop_until_the_alarm(dropped, whole * (tries % 12 + 1) / 14)
        with pmkv.open(dropped) as db:
            reader = Reader(dropped.read_bytes())
        assert reader.everything() == {} and reader.namespaces == {}
        if reader.dropped and 0 < len(reader.dropped[0]) < len(keys):
            break
    (left,) = reader.dropped
    assert 0 < len(left) < len(keys) and set(left) <= set(keys)
    with pmkv.open(dropped) as db:
        db.namespace("n")[b"k"] = b"v"
        db.sync()
        reader = Reader(dropped.read_bytes())
    assert reader.everything() == {}
    assert reader.namespaces == {"n": {b"k": b"v"}} and reader.dropped == []


def test_the_reader_replays_commits_that_never_reached_their_places(pool_path: Path) -> None:
    with pmkv.open(pool_path, persistence="page") as db:
        fill(db, 2, 1500)
        db.sync()
        before = pool_path.read_bytes()
        rng = random.Random(3)
        for i in range(200):  # small enough for entries to carry them
            db[b"after %d" % i] = rng.randbytes(rng.choice((0, 20, 700, 2000)))
        db.delete_many(b"after %d" % i for i in range(0, 200, 3))
        wanted = dict(db)
        after = pool_path.read_bytes()
    header = struct.unpack_from("<Q", before, 72)[0]
    ring, ring_size = struct.unpack_from("<QQ", before, 80)
    assert ring + ring_size < header
    crashed = bytearray(before + bytes(len(after) - len(before)))
    crashed[ring : ring + ring_size] = after[ring : ring + ring_size]
    reader = Reader(bytes(crashed))
    assert reader.replayed == 201
    assert reader.everything() == wanted


def test_the_reader_replays_an_entry_that_was_too_large_for_the_ring(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        db.put_many((b"%06d" % i, b"v") for i in range(26_000))
        db.put_many((b"%06d" % i, b"new") for i in range(26_000))
        wanted, position = dict(db), db.stat()["commit"] - 1  # such an entry takes one line
    crashed = bytearray(pool_path.read_bytes())
    crashed[Page : Page + 8] = seal(position).to_bytes(8, "little")  # as if its checkpoint was lost
    reader = Reader(bytes(crashed))
    assert reader.replayed == 1
    assert reader.everything() == wanted


@pytest.mark.parametrize("neighbours", [True, False])
def test_an_entry_names_the_pages_of_its_words_in_several_ranges(
    pool_path: Path, neighbours: bool
) -> None:
    with pmkv.open(pool_path) as db:
        db.put_many((b"%06d" % i, b"v") for i in range(26_000))
        db.put_many((b"%06d" % i, b"new") for i in range(26_000))
        wanted, position = dict(db), db.stat()["commit"] - 1
    data = bytearray(pool_path.read_bytes())
    seed = struct.unpack_from("<QQ", data, 56)
    ring, ring_size = struct.unpack_from("<QQ", data, 80)
    at = ring + position * 64 % ring_size
    head = bytes(data[at + 8 : at + 20]) + struct.pack("<H", 3) + bytes(data[at + 22 : at + 32])
    (word,) = struct.unpack_from("<Q", data, at + 32)
    granule, count = word & (1 << 40) - 1, word >> 40
    first = granule, 1000
    second = granule + 1000 + (0 if neighbours else 1), 7
    third = granule + 1007, count - 1007
    head += b"".join(
        struct.pack("<Q", place | size << 40) for place, size in (first, second, third)
    )
    entry = struct.pack("<Q", hash64(*seed, head)) + head
    assert len(entry) <= 64
    data[at : at + len(entry)] = entry
    data[Page : Page + 8] = seal(position).to_bytes(8, "little")
    pool_path.write_bytes(data)
    if not neighbours:
        with pytest.raises(AssertionError):
            Reader(bytes(data))
        with pytest.raises(pmkv.CorruptedError):
            pmkv.open(pool_path)
        return
    assert Reader(bytes(data)).everything() == wanted
    with pmkv.open(pool_path) as db:
        assert db.info()["replayed_commits"] == 1
        assert dict(db) == wanted
        assert db.check() == []


def test_the_functions_of_the_document_are_those_of_the_code() -> None:
    assert crc32c(b"123456789") == _layout.crc32c(b"123456789") == 0xE3069283
    rng = random.Random(4)
    for size in (*range(50), 1000):
        data = rng.randbytes(size)
        seeds = rng.getrandbits(64), rng.getrandbits(64)
        assert hash64(*seeds, data) == _layout.hash64(*seeds, data)
        assert crc32c(data) == _layout.crc32c(data)
    for _ in range(1000):
        payload = rng.getrandbits(56)
        assert seal(payload) == _layout.seal(payload)


if __name__ == "__main__":
    text = MARK.sub(
        lambda m: f"<!-- table: {m[1]} -->\n{EXPECTED.get(m[1], m[2])}<!-- end -->\n",
        DOCUMENT.read_text(),
    )
    DOCUMENT.write_text(text)
