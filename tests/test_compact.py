"""compact() gives the space of what was deleted back, while the store is in use."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Place
from reader import Reader
from test_kill import acknowledged_before_kill, start_child

import pmkv

SECTION = 32_768 * (4096 + 64)
Model = dict[bytes, bytes]

# For each mix: how many keys, and the size of the next value.
MIXES: dict[str, tuple[int, Callable[[random.Random], int]]] = {
    "empty": (5000, lambda chance: 0),
    "100": (20_000, lambda chance: 100),
    "0-4000": (5000, lambda chance: chance.randrange(4000)),
    "0-60KiB": (600, lambda chance: chance.randrange(60_000)),
    "all": (1500, lambda chance: int(2 ** chance.uniform(0, 18))),
}


def a_key(chance: random.Random, i: int) -> bytes:
    """Mostly short; sometimes too long for a node of the order, or for a page."""
    stem = chance.choice((b"", b"", b"", b"k" * 40, b"l" * 200, b"m" * 5000))
    return stem + b"%d" % i if chance.random() < 0.03 else b"%08d" % i


def load(table: Any, mix: str, seed: int = 0) -> Model:
    """Fills a table by the mix; what it holds then."""
    chance = random.Random(seed)
    count, size = MIXES[mix]
    model = {a_key(chance, i): chance.randbytes(size(chance)) for i in range(count)}
    pairs = list(model.items())
    for first in range(0, count, 500):
        table.put_many(pairs[first : first + 500])
    return model


def thin_out(table: Any, model: Model, share: float = 0.9, seed: int = 1) -> None:
    """Deletes a part of the keys, chosen at random, in both."""
    gone = random.Random(seed).sample(sorted(model), int(len(model) * share))
    for first in range(0, len(gone), 500):
        table.delete_many(gone[first : first + 500])
    for key in gone:
        del model[key]


def deleted_from(table: Any, mix: str = "100") -> Model:
    model = load(table, mix)
    thin_out(table, model)
    return model


def size_of(db: pmkv.Store) -> int:
    return Path(db.path).stat().st_size


def size_when_new(path: Path, model: Model, ordered: bool) -> int:
    """Of the file, if nothing but this had ever been stored."""
    with pmkv.open(path, "n", ordered=ordered) as db:
        pairs = list(model.items())
        random.Random(2).shuffle(pairs)
        for first in range(0, len(pairs), 500):
            db.put_many(pairs[first : first + 500])
        return size_of(db)


# ---- what it is for --------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
@pytest.mark.parametrize("mix", MIXES)
def test_the_file_becomes_about_as_small_as_a_new_one(
    pool_path: Path, mix: str, ordered: bool
) -> None:
    with pmkv.open(pool_path, ordered=ordered) as db:
        model = deleted_from(db, mix)
        before = size_of(db)
        given_back = db.compact()
        after = size_of(db)
        assert after == db.stat()["file_size"]
        assert 0 <= given_back - (before - after) <= 2 << 20  # what was being taken ahead
        assert db.check() == []
        assert dict(db) == model
        new = size_when_new(pool_path.with_suffix(".new"), model, ordered)
        assert size_of(db) <= 1.3 * new + (2 << 20)
        assert db.compact() == 0
    with pmkv.open(pool_path) as db:
        assert db.check() == []
        assert dict(db) == model


def loaded_thinned_compacted(path: Path, total: int, value_size: int) -> tuple[int, int]:
    """Sizes of the file and of what is left in it, after nine tenths were deleted."""
    chance = random.Random(3)
    count = total // (16 + value_size)
    with pmkv.open(path) as db:
        for first in range(0, count, 1000):
            keys = range(first, min(first + 1000, count))
            db.put_many((b"%016d" % i, b"%d" % i * (value_size // 8)) for i in keys)
        left = []
        for first in range(0, count, 1000):
            keys = range(first, min(first + 1000, count))
            kept = {i for i in keys if chance.random() < 0.1}
            db.delete_many(b"%016d" % i for i in keys if i not in kept)
            left.extend(kept)
        db.compact()
        assert db.check() == []
        assert len(db) == len(left)
        assert all(db[b"%016d" % i] == b"%d" % i * (value_size // 8) for i in left)
        return size_of(db), db.stat()["live_bytes"]


@pytest.mark.parametrize("value_size", [96, 10_240])
def test_after_nine_tenths_are_deleted_the_file_is_little_larger_than_what_is_left(
    pool_path: Path, value_size: int, effort: int
) -> None:
    total = (1 << 30) if effort > 1 else (64 << 20)
    size, left = loaded_thinned_compacted(pool_path, total, value_size)
    assert size < 1.3 * left + 2 * SECTION
    assert size < 3 * left + (6 << 20)  # small records have a header, and their keys twice


def test_sections_that_are_empty_go_and_come_back(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        for i in range(40):
            db[b"%d" % i] = bytes([i]) * (8 << 20)
        assert size_of(db) > 2 * SECTION
        db.delete_many([b"%d" % i for i in range(40) if i not in (17, 39)])
        assert db.compact() > 2 * SECTION
        assert size_of(db) < 24 << 20
        assert db.check() == []
        for i in range(40):
            db[b"%d" % i] = bytes([i]) * (8 << 20)
        assert db.check() == []
        assert all(db[b"%d" % i] == bytes([i]) * (8 << 20) for i in range(40))


def test_every_persistence_domain_compacts(any_place: Place) -> None:
    with any_place.open() as db:
        model = deleted_from(db, "0-4000")
        assert db.compact() > 0
        db[b"more"] = bytes(1 << 20)
        model[b"more"] = bytes(1 << 20)
        assert db.check() == []
    with any_place.open() as db:
        assert dict(db) == model
        assert db.check() == []


def test_namespaces_move_and_their_handles_follow(db: pmkv.Store) -> None:
    filler = load(db, "0-4000")
    tables = {name: db.namespace(name) for name in ("a", "b" * 300, "c")}
    tables |= {f"n{i}": db.namespace(f"n{i}", ordered=i % 2 == 0) for i in range(300)}
    models = {name: load(table, "100") for name, table in list(tables.items())[:3]}
    for name, table in list(tables.items())[3:]:
        models[name] = {b"k": name.encode(), b"l" * 300: b"x"}
        table.update(models[name])
    for name in ("a", "c"):
        thin_out(tables[name], models[name])
    db.delete_many(list(filler))
    assert db.compact() > 0
    for name, table in tables.items():
        assert dict(table) == models[name] == dict(db.namespace(name))
        table[b"new"] = b"1"
        models[name][b"new"] = b"1"
    assert db.check() == []
    for name in list(tables)[::3]:
        db.drop(name)
        with pytest.raises(pmkv.ClosedError):
            len(tables[name])
        del models[name]
    db.compact()
    assert sorted(db.namespaces()) == sorted(models)
    assert {name: dict(db.namespace(name)) for name in models} == models
    assert db.check() == []


# ---- nothing to do, nothing that may be done -------------------------------------------------


def test_there_is_nothing_to_give_back_of_an_empty_store(db: pmkv.Store) -> None:
    assert db.compact() >= 0
    db[b"k"] = b"v"
    assert db.compact() == 0
    assert db[b"k"] == b"v"


def test_a_store_that_is_only_read_does_not_compact(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        deleted_from(db)
    with pmkv.open(pool_path, "r") as db, pytest.raises(pmkv.ReadonlyError):
        db.compact()


def test_a_closed_store_does_not_compact(db: pmkv.Store) -> None:
    db.close()
    with pytest.raises(pmkv.ClosedError):
        db.compact()


def test_a_full_pool_becomes_one_that_has_room(pool_path: Path) -> None:
    with pmkv.open(pool_path, max_size="24 MiB") as db:
        model: Model = {}
        with pytest.raises(pmkv.PoolFullError):
            for i in range(1_000_000):
                model[b"%d" % i] = db[b"%d" % i] = b"%d" % i * 40
        model = dict(db)
        thin_out(db, model)
        assert db.compact() >= 16 << 20
        assert dict(db) == model
        assert db.check() == []
        db.put_many({b"n%d" % i: b"%d" % i * 40 for i in range(40_000)})
        assert db.check() == []


def test_damage_ends_it_with_an_error_and_the_store_goes_on(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        model = load(db, "0-60KiB")
        db.sync()
        with pool_path.open("r+b") as file:
            data = file.read()
            key, value = next((k, v) for k, v in reversed(model.items()) if len(v) > 8192)
            file.seek(data.rindex(value[:64]) + 5000)
            file.write(bytes(8))
        db.delete_many([k for i, k in enumerate(model) if k != key and i % 10])
        with pytest.raises(pmkv.CorruptedError):
            db.compact()
        left = {k: v for k, v in model.items() if k != key and k in db}
        assert all(db[k] == v for k, v in left.items())
        db[key] = b"whole"
        assert db.compact() > 0
        assert dict(db) == {**left, key: b"whole"}
        assert db.check() == []


# ---- in use ----------------------------------------------------------------------------------


def test_a_view_keeps_its_bytes_and_its_place(db: pmkv.Store) -> None:
    model = deleted_from(db, "all")
    keys = sorted(model, key=lambda key: len(model[key]))
    held = {key: db.view(key) for key in keys[:3] + keys[-3:]}
    db.compact()
    longer = size_of(db)
    assert all(view == model[key] == db[key] for key, view in held.items())
    assert db.check() == []
    for view in held.values():
        view.release()
    db.compact()
    assert size_of(db) <= longer
    assert dict(db) == model


def test_a_view_of_what_was_deleted_keeps_its_bytes(db: pmkv.Store) -> None:
    model = load(db, "0-60KiB")
    key = next(k for k in reversed(model) if len(model[k]) > 30_000)
    value = model[key]
    with db.view(key) as view:
        thin_out(db, model)
        db.pop(key, None)
        model.pop(key, None)
        db.compact()
        assert view == value
        assert db.check() == []
    assert db.compact() >= 0
    assert db.stat()["limbo_entries"] == 0
    assert dict(db) == model


SCANS: dict[str, Callable[[Any], Iterator[Any]]] = {
    "keys": lambda db: iter(db),
    "items": lambda db: iter(db.items()),
    "values": lambda db: iter(db.values()),
}


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
@pytest.mark.parametrize("scan", SCANS)
def test_an_iterator_under_way_gives_every_key_once(
    pool_path: Path, scan: str, ordered: bool
) -> None:
    with pmkv.open(pool_path, ordered=ordered) as db:
        model = deleted_from(db)
        expected = sorted(SCANS[scan](model))
        for stop in (0, 1, 700, len(model) - 1):
            walk = SCANS[scan](db)
            found = [next(walk) for _ in range(stop)]
            back = iter(db.items(reverse=True)) if ordered else iter(())
            found_back = list(itertools.islice(back, stop))
            db.compact()
            assert sorted(found + list(walk)) == expected
            if ordered:
                assert dict(found_back + list(back)) == model
            more = {b"more %d" % i: b"x" * 100 for i in range(9000)}
            db.put_many(more)
            db.delete_many(list(more))
        assert db.check() == []


def test_records_without_order_move_when_the_last_iterator_is_gone(pool_path: Path) -> None:
    with pmkv.open(pool_path, ordered=False) as db:
        model = deleted_from(db, "0-4000")
        walk = iter(db)
        found = [next(walk)]
        db.compact()
        longer = size_of(db)
        found.extend(walk)
        assert sorted(found) == sorted(model)
        assert db.compact() > 0
        assert size_of(db) < longer
        assert dict(db) == model


def test_it_waits_for_a_transaction_of_another_thread(db: pmkv.Store) -> None:
    model = deleted_from(db)
    txn = db.begin(write=True)
    txn[b"in it"] = b"1"
    given_back: list[int] = []
    thread = threading.Thread(target=lambda: given_back.append(db.compact()))
    thread.start()
    time.sleep(0.1)
    assert not given_back
    txn[b"and this"] = b"2"
    txn.commit()
    thread.join(60)
    assert given_back[0] > 0
    assert dict(db) == {**model, b"in it": b"1", b"and this": b"2"}


def test_a_transaction_of_its_own_thread_is_an_error(db: pmkv.Store) -> None:
    deleted_from(db)
    with db.begin(write=True) as txn:
        txn[b"k"] = b"v"
        with pytest.raises(pmkv.Error):
            db.compact()
    assert db.compact() > 0


def compact_in_thread(db: pmkv.Store, use: Callable[[], None]) -> int:
    """Compacts in another thread, and goes on with `use` for as long as that takes."""
    given_back: list[Any] = []

    def compact() -> None:
        try:
            given_back.append(db.compact())
        except BaseException as error:
            given_back.append(error)

    thread = threading.Thread(target=compact)
    thread.start()
    while thread.is_alive():
        use()
    thread.join()
    assert isinstance(given_back[0], int), given_back
    return given_back[0]


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_others_read_and_write_meanwhile(pool_path: Path, ordered: bool) -> None:
    chance = random.Random(4)
    with pmkv.open(pool_path, ordered=ordered) as db:
        model = load(db, "0-4000")
        model.update(load(db, "0-60KiB", seed=9))
        thin_out(db, model)
        named = db.namespace("n")
        other = load(named, "100")
        thin_out(named, other)
        keys = sorted(model)
        turns = 0

        def use() -> None:
            nonlocal turns
            turns += 1
            for key in chance.sample(keys, 20):
                assert db.get(key) == model.get(key)
            assert db.get_many(keys[:50]) == [model.get(key) for key in keys[:50]]
            key = chance.choice(keys)
            if chance.random() < 0.3 and key in model:
                del db[key], model[key]
            else:
                model[key] = db[key] = chance.randbytes(chance.choice((10, 100, 3000, 50_000)))
            key = chance.choice(sorted(other))
            other[key] = named[key] = chance.randbytes(50)
            with db.begin(write=True) as txn:
                model[b"t"] = txn[b"t"] = b"%d" % turns
                other[b"t"] = txn.namespace("n")[b"t"] = b"%d" % turns
            if turns % 10 == 0:
                assert dict(db) == model

        for _ in range(5):
            compact_in_thread(db, use)
            assert db.check() == []
            assert dict(db) == model
            assert dict(named) == other
        assert turns > 5


def test_namespaces_are_made_and_dropped_meanwhile(db: pmkv.Store) -> None:
    chance = random.Random(5)
    models: dict[str, Model] = {}
    for turn in range(6):
        model = load(db, "0-4000", seed=turn)
        thin_out(db, model, share=1)

        def use() -> None:
            name = f"n{chance.randrange(30)}"
            if name in models and chance.random() < 0.4:
                del models[name]
                db.drop(name)
            else:
                models[name] = {
                    b"k%d" % i: chance.randbytes(90) for i in range(chance.randrange(300))
                }
                table = db.namespace(name)
                table.clear()
                table.update(models[name])

        for _ in range(20):
            use()
        compact_in_thread(db, use)
        assert {name: dict(db.namespace(name)) for name in db.namespaces()} == models
        assert db.check() == []


def test_a_second_one_at_a_time_is_refused(db: pmkv.Store) -> None:
    model = deleted_from(db)
    txn = db.begin(write=True)
    first = threading.Thread(target=db.compact)
    first.start()
    refusal = ""
    while "another thread" not in refusal:  # until the first one waits for the transaction
        assert first.is_alive()
        with pytest.raises(pmkv.Error) as refused:
            db.compact()
        refusal = str(refused.value)
        time.sleep(0.001)
    txn.abort()
    first.join(60)
    assert dict(db) == model
    assert db.compact() == 0


def test_closing_meanwhile_ends_it(pool_path: Path) -> None:
    for _ in range(5):
        with pmkv.open(pool_path, "n") as db:
            model = deleted_from(db, "0-4000")
            outcome: list[Any] = []

            def compact(db: pmkv.Store = db, outcome: list[Any] = outcome) -> None:
                try:
                    outcome.append(db.compact())
                except pmkv.ClosedError as error:
                    outcome.append(error)

            thread = threading.Thread(target=compact)
            thread.start()
            time.sleep(random.random() * 0.01)
            db.close()
            thread.join()
        with pmkv.open(pool_path) as db:
            assert dict(db) == model
            assert db.check() == []


# ---- interrupted -----------------------------------------------------------------------------


class Alarm(Exception):
    """Raised by a signal's handler."""


def test_a_signal_interrupts_it_and_the_next_one_goes_on(pool_path: Path) -> None:
    def ring(number: int, frame: Any) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    interrupted = 0
    try:
        with pmkv.open(pool_path) as db:
            model = load(db, "0-4000")
            model.update(load(db, "100", seed=5))
            thin_out(db, model)
            for attempt in range(30):
                signal.setitimer(signal.ITIMER_REAL, 0.0003 * (attempt + 1))
                try:
                    db.compact()
                except Alarm:
                    interrupted += 1
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                assert db.check() == []
                if attempt % 5 == 0:
                    assert dict(db) == model
                db[b"%d" % attempt] = model[b"%d" % attempt] = b"x" * 500
            db.compact()
            assert dict(db) == model
            new = size_when_new(pool_path.with_suffix(".new"), model, True)
            assert size_of(db) <= 1.3 * new + (2 << 20)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted


def compact_and_write(place: Place, seed: int, out: int) -> None:
    """Compacts again and again; says with a byte each that a put is done."""
    with place.open() as db:
        table = db.namespace("n")
        done = threading.Event()

        def compact() -> None:
            while not done.is_set():
                db.compact()

        threading.Thread(target=compact, daemon=True).start()
        for i in range(1_000_000):
            table[b"%d" % (i % 50)] = b"%d" % (seed + i) * (1 + i % 90)
            os.write(out, b".")


@pytest.mark.parametrize("persistence", ["process", "cacheline", "page"])
def test_a_kill_meanwhile_loses_nothing(
    persistence: str, pool_path: Path, disk_path: Path, effort: int
) -> None:
    place = Place(disk_path if persistence == "page" else pool_path, persistence)
    chance = random.Random(persistence)
    model: Model = {}
    with place.open() as db:
        model = deleted_from(db, "0-4000")
    for turn in range(15 * effort):
        if turn % 5 == 4:
            with place.open() as db:
                model = load(db, "0-4000", seed=turn)
                db.delete_many([key for key in list(db) if key not in model])
                thin_out(db, model, seed=turn)
        pid, pipe = start_child(compact_and_write, place, turn * 1000)
        count = acknowledged_before_kill(
            pid, pipe, chance.choice((0, 1, 5, 40)), chance.randrange(100_000)
        )
        with place.open() as db:
            assert db.check() == []
            assert dict(db) == model
            table = db.namespace("n")
            for i in range(max(0, count - 50), count):
                later = [j for j in (i, i + 50) if j <= count]
                assert table[b"%d" % (i % 50)] in [
                    b"%d" % (turn * 1000 + j) * (1 + j % 90) for j in later
                ]
    with place.open() as db:
        db.compact()
        assert dict(db) == model
        assert db.check() == []


def test_a_file_that_is_longer_than_its_root_says_opens_and_is_cut(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        model = deleted_from(db)
        assert db.compact() > 0
        size = size_of(db)
    with pool_path.open("r+b") as file:  # as a crash before the cut leaves it
        file.truncate(size + (8 << 20))
        file.seek(size)
        file.write(b"\xff" * (1 << 20))
    with pmkv.open(pool_path) as db:
        assert db.check() == []
        assert db.compact() >= 8 << 20
        assert size_of(db) <= size
        db.update({b"new%d" % i: bytes(1000) for i in range(20_000)})
        assert db.check() == []
        assert {k: v for k, v in db.items() if not k.startswith(b"new")} == model


def test_a_reader_written_from_the_document_reads_a_compacted_pool(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        named, unordered = db.namespace("n"), db.namespace("u" * 200, ordered=False)
        for table, mix in ((named, "0-4000"), (db, "all"), (unordered, "100")):
            deleted_from(table, mix)
        assert db.compact() > 0
        wanted, in_named, in_unordered = dict(db), dict(named), dict(unordered)
    reader = Reader(pool_path.read_bytes())
    assert reader.everything() == wanted
    assert reader.namespaces == {"n": in_named, "u" * 200: in_unordered}


# ---- with what else leads to records ---------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
def test_a_snapshot_sees_the_same_before_and_after(pool_path: Path, ordered: bool) -> None:
    with pmkv.open(pool_path, ordered=ordered) as db:
        named = db.namespace("n")
        then, named_then = load(db, "0-4000"), load(named, "100")
        with db.snapshot() as snap:
            left, named_left = dict(then), dict(named_then)
            thin_out(db, left)
            thin_out(named, named_left)
            db[b"new"] = left[b"new"] = b"1"
            db.compact()
            assert dict(snap) == then
            assert dict(snap.namespace("n")) == named_then
            db.drop("n")
            db.compact()
            assert dict(snap.namespace("n")) == named_then
            assert len(snap) == len(then)
            assert dict(db) == left
            assert db.check() == []
        longer = size_of(db)
        db.compact()
        assert size_of(db) < longer
        assert dict(db) == left
        assert db.check() == []
    with pmkv.open(pool_path) as db:
        assert dict(db) == left


def test_what_expires_expires_after_it_has_moved(pool_path: Path) -> None:
    sizes = (0, 50, 1000, 4060, 5000, 40_000)
    with pmkv.open(pool_path) as db:
        filler = load(db, "0-4000")
        for i in range(600):
            db.put(b"soon %d" % i, bytes(sizes[i % 6]), ttl=1.5)
            db.put(b"later %d" % i, b"l" * sizes[i % 6], ttl=1000 + i)
            db.put(b"k" * 5000 + b"%d" % i, b"long", ttl=2000) if i % 100 == 0 else None
        db.delete_many(list(filler))
        assert db.compact() > 0
        assert db.check() == []
        assert all(db[b"later %d" % i] == b"l" * sizes[i % 6] for i in range(600))
        assert all(990 + i < db.ttl(b"later %d" % i) <= 1000 + i for i in range(600))
        db.touch(b"later 1", 3000)
        assert 2900 < db.ttl(b"later 1") <= 3000
        time.sleep(1.6)
        assert b"soon 1" not in db
        db.expire()
        assert len(db) == 606
        db.compact()
        assert db.check() == []
    with pmkv.open(pool_path) as db:
        assert len(db) == 606
        assert db.check() == []


def test_iterators_of_one_moment_go_on_while_others_write_and_it_compacts(db: pmkv.Store) -> None:
    chance = random.Random(6)
    model = deleted_from(db, "0-4000")
    unordered = db.namespace("u", ordered=False)
    other = deleted_from(unordered, "0-4000")

    def use() -> None:
        for table, mirror in ((db, model), (unordered, other)):
            before = dict(mirror)
            walk = iter(table.items())
            found = [next(walk) for _ in range(20)]
            for key in chance.sample(sorted(mirror), 5):
                table[key] = mirror[key] = chance.randbytes(chance.choice((10, 3000, 40_000)))
            found.extend(walk)
            assert len(found) == len(before)
            assert dict(found) == before

    for _ in range(4):
        compact_in_thread(db, use)
        assert db.check() == []
        assert (dict(db), dict(unordered)) == (model, other)
