"""Threads, forks, the garbage collector, full and crafted pools do snapshots no harm.

What may end a process runs in one of its own: its death, or no answer, is a failure.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from reader import Reader, crc32c

import pmkv

InChild = Callable[..., Any]


# -- what has ended ------------------------------------------------------------------------------


def test_a_snapshot_that_was_closed_names_no_namespaces(db: pmkv.Store) -> None:
    db.namespace("n")
    snapshot = db.snapshot()
    space = snapshot.namespace("n")
    snapshot.close()
    uses: list[Callable[[], Any]] = [
        snapshot.namespaces,
        lambda: snapshot.namespace("n"),
        lambda: pmkv.Snapshot(snapshot),
        lambda: space.get(b"k"),
        lambda: list(space),
        lambda: len(space),
    ]
    for use in uses:
        with pytest.raises(pmkv.ClosedError, match="has ended"):
            use()


def test_a_store_is_closed_under_snapshots_and_scans(db: pmkv.Store) -> None:
    db.update({b"%d" % i: b"v" for i in range(1000)})
    snapshot, scan = db.snapshot(), iter(db.items())
    space = db.namespace("n", ordered=False)
    space.update({b"%d" % i: b"v" for i in range(1000)})
    unordered, past = iter(space), iter(snapshot.values())
    for under_way in (scan, unordered, past):
        next(under_way)
    db.close()
    for under_way in (scan, unordered, past):
        with pytest.raises(pmkv.ClosedError):
            next(under_way)
    with pytest.raises(pmkv.ClosedError):
        snapshot.get(b"1")
    snapshot.close()


def read_in_forked(path: Path) -> list[str]:
    with pmkv.open(path) as db:
        db[b"k"] = b"old"
        snapshot = db.snapshot()
        scan = iter(snapshot)
        db[b"k"] = b"new"
        ours, theirs = os.pipe()
        if os.fork() == 0:
            uses = [lambda: snapshot[b"k"], lambda: next(scan), snapshot.namespaces]
            for use in [*uses, snapshot.close]:
                try:
                    answer = repr(use())
                except BaseException as error:
                    answer = type(error).__name__
                os.write(theirs, answer.encode() + b"\n")
            del snapshot, scan
            gc.collect()
            os._exit(0)
        os.close(theirs)
        with open(ours) as pipe:
            answers = pipe.read().split()
        os.wait()
        assert snapshot[b"k"] == b"old" and list(scan) == [b"k"]
        snapshot.close()
        return answers + db.check()


def test_a_forked_child_gets_closed_error_and_its_parent_reads_on(
    pool_path: Path, in_child: InChild
) -> None:
    assert in_child(read_in_forked, pool_path) == ["ClosedError"] * 3 + ["None"]


# -- the garbage collector -----------------------------------------------------------------------


class Finalizer:
    """Is garbage at once; does something when it is collected."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act, self.itself = act, self

    def __del__(self) -> None:
        self.act()


READS: dict[str, Callable[[Any], Any]] = {
    "scan": lambda db: next(iter(db.items()), None),
    "reversed": lambda db: next(reversed(db), None),
    "range": lambda db: list(db.keys(start=b"a", limit=3)),
    "prefix": lambda db: len(db.keys(prefix=b"a\xff")),
    "cursor": lambda db: db.cursor().first(),
    "key_at": lambda db: db.key_at(0),
    "snapshot": lambda db: db.snapshot(),
    "read": lambda db: list(db.snapshot().items()),
    "unordered": lambda db: list(db.namespace("u")),
}


def close_beside_the_collector(path: Path, read: str) -> None:
    gc.disable()
    for trial in range(40):
        path.unlink(missing_ok=True)
        with contextlib.suppress(pmkv.ClosedError):
            db = pmkv.open(path)
            db.update({b"a%d" % i: b"v" for i in range(50)})
            db.namespace("u", ordered=False).update({b"%d" % i: b"v" for i in range(50)})
            Finalizer(db.close)
            gc.set_threshold(1 + trial)
            gc.enable()
            READS[read](db)
        gc.disable()


@pytest.mark.parametrize("read", READS)
def test_a_finalizer_may_close_the_store_whatever_call_sets_off_the_collector(
    pool_path: Path, in_child: InChild, read: str
) -> None:
    in_child(close_beside_the_collector, pool_path, read)


def collect_readers_in_writes(path: Path) -> list[str]:
    gc.disable()
    with pmkv.open(path) as db:
        space = db.namespace("u", ordered=False)
        for i in range(400):
            cycle: list[Any] = [db.snapshot(), iter(db.items()), iter(space), db.snapshot()]
            for reader in cycle[1:3]:
                next(reader, None)
            cycle.append(cycle)
            del cycle, reader
            db[b"%d" % (i % 50)] = bytes(i)
            gc.set_threshold(1)
            gc.enable()
            db.put_many((b"%d" % j, bytes(i)) for j in range(30))
            space.incr(b"n")
            db.pop(b"%d" % (i % 40), None)
            with db.begin(write=True) as txn:
                txn.update({b"t%d" % j: bytes(i) for j in range(5)})
            gc.disable()
        gc.collect()
        db.sync()
        used = db.stat()["used_bytes"]
        assert used < 2 << 20
        return db.check()


def test_readers_in_cycles_are_collected_in_the_middle_of_writes(
    pool_path: Path, in_child: InChild
) -> None:
    assert in_child(collect_readers_in_writes, pool_path) == []


# -- interrupts ----------------------------------------------------------------------------------


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_long_count_of_the_past_can_be_interrupted(db: pmkv.Store) -> None:
    db.put_many((b"%07d" % i, b"") for i in range(200_000))
    snapshot = db.snapshot()
    db.put_many((b"%07d" % i, b"x") for i in range(0, 200_000, 1000))
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.005)
        with pytest.raises(KeyboardInterrupt):
            while True:
                len(snapshot.keys(start=b"0"))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(snapshot.keys(start=b"0")) == 200_000
    snapshot.close()


# -- threads ---------------------------------------------------------------------------------------


def together(seconds: float, *functions: Callable[[], Any]) -> list[str]:
    """Calls functions again and again in a thread each; the errors that they ended with."""
    end, failed = time.monotonic() + seconds, []

    def run(function: Callable[[], Any]) -> None:
        try:
            while time.monotonic() < end and not failed:
                function()
        except BaseException as error:
            failed.append(repr(error))

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed


GROUPS, MEMBERS = 12, 8


class Bank:
    """Groups of keys that are always written together, with one number: what a moment sees."""

    def __init__(self, db: pmkv.Store) -> None:
        self.db = db
        self.mappings = [db, db.namespace("named"), db.namespace("unordered", ordered=False)]
        self.rng = random.Random(0)

    def keys(self, group: int) -> list[bytes]:
        return [b"%d-%d" % (member, group) for member in range(MEMBERS)]

    def write(self) -> None:
        group, number = self.rng.randrange(GROUPS), b"%d" % self.rng.getrandbits(30)
        pairs = dict.fromkeys(self.keys(group), number * self.rng.choice((1, 40, 1000, 9000)))
        if self.rng.random() < 0.2:
            self.rng.choice(self.mappings).put_many(pairs)
            return
        with self.db.begin(write=True) as txn:
            spaces = [txn, txn.namespace("named"), txn.namespace("unordered", ordered=False)]
            for space in spaces:
                if self.rng.random() < 0.3:
                    space.delete_many(pairs)
                else:
                    space.update(pairs)

    def judge(self, shown: dict[bytes, bytes]) -> None:
        for group in range(GROUPS):
            values = {shown.get(key) for key in self.keys(group)}
            assert len(values) == 1, f"group {group} is seen half written"

    def scan(self) -> None:
        mapping = self.rng.choice(self.mappings)
        self.judge(dict(mapping.items()))

    def look(self) -> None:
        with self.db.snapshot() as snapshot:
            unordered = snapshot.namespace("unordered")
            for mapping in (snapshot, snapshot.namespace("named"), unordered):
                first = dict(mapping.items())
                self.judge(first)
                assert len(mapping) == len(first)
                time.sleep(0.001)
                assert {key: mapping[key] for key in mapping} == first
                if mapping is not unordered:
                    assert list(mapping) == sorted(first)
                    assert list(reversed(mapping)) == sorted(first)[::-1]

    def view(self) -> None:
        with self.db.snapshot() as snapshot, contextlib.suppress(pmkv.NotFoundError):
            key = self.rng.choice(self.keys(self.rng.randrange(GROUPS)))
            view = snapshot.view(key)
            value = bytes(view)
            time.sleep(0.001)
            assert snapshot[key] == bytes(view) == value

    def churn(self) -> None:
        name = f"short{self.rng.randrange(3)}"
        with contextlib.suppress(pmkv.NotFoundError, pmkv.ClosedError):
            self.db.namespace(name).update({b"%d" % i: b"v" for i in range(40)})
            self.db.drop(name)

    def tidy(self) -> None:
        self.db.sync()
        time.sleep(0.002)


def use_in_threads(path: Path, seconds: float, max_size: int | None) -> list[str]:
    sys.setswitchinterval(1e-5)
    with pmkv.open(path, max_size=max_size) as db:
        bank = Bank(db)

        def write() -> None:
            with contextlib.suppress(pmkv.PoolFullError):
                bank.write()

        def churn() -> None:
            with contextlib.suppress(pmkv.PoolFullError):
                bank.churn()

        uses = [write, bank.scan, bank.look, bank.look, bank.view, churn, bank.tidy]
        failed = together(seconds, *uses)
        db.sync()
        left = Reader(path.read_bytes()).versions()
        return failed + db.check() + [str(version) for version in left]


@pytest.mark.parametrize("max_size", [None, 12 << 20])
def test_snapshots_in_many_threads_show_what_was_committed_together(
    pool_path: Path, in_child: InChild, effort: int, max_size: int | None
) -> None:
    assert in_child(use_in_threads, pool_path, 3.0 * effort, max_size) == []


def share_an_iterator(path: Path, ordered: bool) -> list[str]:
    sys.setswitchinterval(1e-6)
    with pmkv.open(path, ordered=ordered) as db:
        db.put_many((b"%04d" % i, b"%04d" % i * 10_000) for i in range(300))
        wrong: list[str] = []
        for _ in range(8):
            shared, seen = iter(db.items()), []

            def run(shared: Any = shared, seen: Any = seen) -> None:
                for key, value in shared:
                    if value[:4] != key:
                        wrong.append(f"{key!r} shows the value of {value[:4]!r}")
                    seen.append(key)
                    db[b"9%d" % len(seen)] = b"9%d" % len(seen)

            threads = [threading.Thread(target=run) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(seen) == [b"%04d" % i for i in range(300)]
            db.delete_many(key for key in db if key.startswith(b"9"))
        return wrong


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_threads_that_share_an_iterator_get_each_pair_once(
    pool_path: Path, in_child: InChild, ordered: bool
) -> None:
    assert in_child(share_an_iterator, pool_path, ordered) == []


def close_under_readers(path: Path) -> list[str]:
    """Snapshots are closed by one thread while others are in the middle of them."""
    sys.setswitchinterval(1e-5)
    with pmkv.open(path) as db:
        db.put_many((b"%d" % i, b"0" * (100 if i % 9 else 50_000)) for i in range(500))
        shared = [db.snapshot()]

        def write() -> None:
            db.put_many((b"%d" % i, b"%d" % (i % 10) * 100) for i in range(0, 500, 7))

        def read() -> None:
            with contextlib.suppress(pmkv.ClosedError):
                snapshot = shared[-1]
                first = snapshot.get_many(b"%d" % i for i in range(500))
                assert [value for _, value in snapshot.items()] == [
                    first[int(key)] for key in snapshot
                ]

        def replace() -> None:
            shared.append(db.snapshot())
            time.sleep(0.003)
            shared.pop(0).close()

        return together(3, write, read, read, replace) + db.check()


def test_a_snapshot_is_closed_while_others_read_it(pool_path: Path, in_child: InChild) -> None:
    assert in_child(close_under_readers, pool_path) == []


# -- full pools ------------------------------------------------------------------------------------


def fill(mapping: Any, model: dict[bytes, bytes], size: int) -> None:
    """Overwrites every key twice, if there is room, and puts more until nothing fits any more."""
    with contextlib.suppress(pmkv.PoolFullError):
        for turn in range(2):
            for key in list(model):
                mapping[key] = b"%d" % turn + bytes(size)
                model[key] = b"%d" % turn + bytes(size)
    for smaller in sorted({size, 0}, reverse=True):
        with pytest.raises(pmkv.PoolFullError, match="until they end"):
            for i in range(1 << 20):
                mapping[b"x%d %d" % (smaller, i)] = bytes(smaller)
                model[b"x%d %d" % (smaller, i)] = bytes(smaller)


@pytest.mark.parametrize("end", ["close", "forget", "kill"])
@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
@pytest.mark.parametrize("size", [0, 3000, 100_000])
def test_a_pool_that_snapshots_fill_loses_nothing_and_is_as_good_after_them(
    pool_path: Path, size: int, ordered: bool, end: str
) -> None:
    db = pmkv.open(pool_path, max_size=12 << 20, ordered=ordered)
    with contextlib.suppress(pmkv.PoolFullError):
        for i in range(30_000):
            db[b"%d" % i] = b"0" + bytes(size)
            if db.stat()["file_size"] > 9 << 20 and db.stat()["free_bytes"] < 5 << 20:
                break
    model = then = dict(db)
    snapshot: Any = db.snapshot()
    model = dict(then)
    fill(db, model, size)
    assert dict(db) == model and dict(snapshot) == then
    assert db.check() == []
    if end == "close":
        snapshot.close()
    elif end == "kill":
        copy = pool_path.with_suffix(".copy")
        copy.write_bytes(pool_path.read_bytes())
        snapshot.close()
        db.close()
        db = pmkv.open(copy)
    snapshot = None
    for key in list(model)[:300]:
        del db[key], model[key]
    db.sync()
    for key in list(then)[: len(then) // 4]:
        db[key] = model[key] = b"again" + bytes(size)
    assert dict(db) == model
    assert db.check() == []
    db.clear()
    db.clear()  # had one commit no room for all of it, the mapping is left
    db.sync()
    assert db.stat()["used_bytes"] < 1 << 20
    db.close()


def test_a_damaged_version_hinders_no_write(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        db.put_many((b"%d" % i, b"before%d" % i * 100) for i in range(200))
        snapshot = db.snapshot()
        db.put_many((b"%d" % i, b"after" * 100) for i in range(200))
        db.sync()  # or replay would mend it
        data = bytearray(pool_path.read_bytes())
        snapshot.close()
    data[data.rindex(b"before77" * 3) + 5] ^= 1
    pool_path.write_bytes(data)
    with pmkv.open(pool_path) as db:
        for i in range(300):
            db[b"%d" % (i % 200)] = b"%d" % i
        with db.snapshot() as later:
            db.clear()
            assert len(dict(later)) == 200
        db[b"k"] = b"v"
        db.sync()
        assert dict(db) == {b"k": b"v"}
        assert any("superseded" in problem for problem in db.check())


# -- many ------------------------------------------------------------------------------------------


def test_a_thousand_snapshots_are_open_at_once(pool_path: Path) -> None:
    rng = random.Random(3)
    with pmkv.open(pool_path) as db:
        model: dict[bytes, bytes] = {}
        taken: list[tuple[pmkv.Snapshot, dict[bytes, bytes]]] = []
        for i in range(1000):
            key = b"%d" % rng.randrange(40)
            if rng.random() < 0.2:
                db.delete(key)
                model.pop(key, None)
            else:
                db[key] = model[key] = b"%d" % i
            taken.append((db.snapshot(), dict(model)))
        rng.shuffle(taken)
        for at, (snapshot, then) in enumerate(taken):
            if at % 3 == 0:
                assert dict(snapshot) == then and len(snapshot) == len(then)
                assert list(snapshot) == sorted(then)
            snapshot.close()
            db[b"%d" % rng.randrange(40)] = b"later"
            if at % 100 == 0:
                assert db.check() == []
        db.sync()
        assert Reader(pool_path.read_bytes()).versions() == {}


KEYS = [
    b"",
    b"\0",
    b"\0" * 65_536,
    b"\0" * 65_535,
    b"\0\1",
    b"\0\xff",
    b"\xff" * 65_536,
    b"a" * 65_536,
]


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
@pytest.mark.parametrize("size", [0, 1 << 20])
def test_the_longest_and_the_oddest_keys_have_versions(
    pool_path: Path, ordered: bool, size: int
) -> None:
    with pmkv.open(pool_path, ordered=ordered) as db:
        db.update({key: b"old" + bytes(size) for key in KEYS})
        with db.snapshot() as snapshot:
            db.update(dict.fromkeys(KEYS[::2], b"new"))
            db.delete_many(KEYS[1::2])
            assert {bytes(snapshot[key][:3]) for key in KEYS} == {b"old"}
            found = list(snapshot)
            assert sorted(found) == sorted(KEYS)
            assert found == sorted(KEYS) or not ordered
            assert db.check() == []
        db.sync()
        assert Reader(pool_path.read_bytes()).versions() == {}
        assert db.check() == []


# -- crafted pools ---------------------------------------------------------------------------


def read_names(path: Path) -> list[str]:
    """Errors of other kinds than a damaged pool may give."""
    wrong = []
    with pmkv.open(path) as db, db.snapshot() as snapshot:
        uses: list[Callable[[], Any]] = [snapshot.namespaces]
        uses += [lambda: dict(snapshot.namespace("n" * 50)), lambda: snapshot.namespace("other")]
        for use in uses:
            try:
                use()
            except pmkv.Error:
                pass
            except Exception as error:
                wrong.append(repr(error))
    return wrong


@pytest.mark.parametrize("place", [0, 16, 4096, 2**48, 2**62, 2**63, 2**64 - 64])
def test_a_crafted_place_of_a_namespace_gives_a_snapshot_errors_and_no_crash(
    pool_path: Path, in_child: InChild, place: int
) -> None:
    with pmkv.open(pool_path) as db:
        db.namespace("n" * 50)[b"k"] = b"v"
    pool = bytearray(pool_path.read_bytes())
    (root,) = Reader(bytes(pool)).catalogue().values()
    at = pool.find(b"n" * 50 + root.to_bytes(8, "little"), 4 << 20) + 50
    struct.pack_into("<Q", pool, at, place)
    struct.pack_into("<I", pool, at - 74, crc32c(bytes(pool[at - 70 : at + 8])))
    pool_path.write_bytes(pool)
    assert in_child(read_names, pool_path) == []


def pool_with_versions(path: Path) -> bytes:
    """A pool whose versions are in use, as a crash leaves it; empty ring."""
    with pmkv.open(path) as db:
        spaces = [db, db.namespace("unordered", ordered=False)]
        for space in spaces:
            space.put_many((b"key%d" % i, b"old%d" % i * 20) for i in range(300))
        snapshot = db.snapshot()
        for space in spaces:
            space.put_many((b"key%d" % i, b"new") for i in range(0, 300, 2))
            space.delete_many(b"key%d" % i for i in range(1, 300, 4))
        db.sync()
        data = path.read_bytes()
        snapshot.close()
    return data


def entry_places(reader: Reader, node: int) -> Iterator[tuple[int, int]]:
    """Where the keys in the leaves below a node of a tree lie, and how long they are."""
    header = reader.sealed(node)
    count, area, level = header & 127, header >> 7 & 1, header >> 16 & 15
    for offset in reader.read(node + 896 + area * 64, count):
        entry = node + offset * 4
        if level:
            yield from entry_places(reader, reader.sealed(entry) << 4)
        else:
            size = struct.unpack("<H", reader.read(entry, 2))[0]
            yield entry + 4, size if size < 0x8000 else 8


def craft_entry(reader: Reader, place: int, size: int, rng: random.Random) -> None:
    """Another key, whose check fits."""
    key = bytearray(reader.read(place, size))
    for _ in range(rng.choice((1, 1, 4)) if size else 0):
        key[rng.randrange(size)] = rng.choice((0, 1, 255, rng.randrange(256)))
    whole = reader.read(place - 4, 2) + bytes(6) + bytes(key)
    reader.write(place - 2, (crc32c(whole) & 0xFFFF).to_bytes(2, "little"))
    reader.write(place, bytes(key))


def craft(sound: bytes, rng: random.Random) -> bytes:
    """Keys of both trees are changed: other keys, times and places, in another order."""
    reader = Reader(sound)
    for root in rng.choice(([4096 + 1664], [4096 + 1672], [4096 + 1664, 4096 + 1672])):
        entries = list(entry_places(reader, reader.sealed(root) << 4))
        for place, size in rng.sample(entries, rng.choice((1, 10, len(entries)))):
            craft_entry(reader, place, size, rng)
    return bytes(reader.data)


def use_versions(path: Path) -> None:
    """Reads and writes with snapshots; errors are answers."""
    with contextlib.suppress(pmkv.Error, OSError), pmkv.open(path) as db:
        for turn in range(3):
            with contextlib.suppress(pmkv.Error, OSError), db.snapshot() as snapshot:
                spaces = [snapshot, snapshot.namespace("unordered")]
                for i in range(40):
                    with contextlib.suppress(pmkv.Error, OSError):
                        db[b"key%d" % (i * 7)] = b"%d" % turn
                for space in spaces:
                    with contextlib.suppress(pmkv.Error):
                        assert len(list(space.items())) < 10_000
                    for i in range(300):
                        with contextlib.suppress(pmkv.Error):
                            space.get(b"key%d" % i)
            with contextlib.suppress(pmkv.Error, OSError):
                db.sync()
        db.check()


def use_crafted_versions(path: Path, sound: bytes, seed: int, trials: int) -> None:
    for trial in range(trials):
        rng = random.Random(seed * 1000 + trial)
        path.unlink(missing_ok=True)
        path.write_bytes(craft(sound, rng))
        use_versions(path)


@pytest.mark.parametrize("seed", range(2))
def test_crafted_keys_of_versions_give_errors_and_neither_a_crash_nor_a_hang(
    memory_dir: Path, in_child: InChild, seed: int, effort: int
) -> None:
    sound = pool_with_versions(memory_dir / "sound.pmkv")
    in_child(use_crafted_versions, memory_dir / "crafted.pmkv", sound, seed, 25 * effort)
