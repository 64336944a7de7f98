"""Threads that share a store see whole values, old or new, and nothing is lost."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Place

import pmkv


def together(*functions: Callable[[], Any]) -> None:
    """Runs the functions at once, each in a thread; raises the first exception of any."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(functions))

    def run(function: Callable[[], Any]) -> None:
        try:
            start.wait()
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def until(finished: threading.Event, step: Callable[[], Any]) -> Callable[[], None]:
    """A function that repeats a step until the event is set; sets it if the step fails."""

    def run() -> None:
        try:
            while not finished.is_set():
                step()
        finally:
            finished.set()

    return run


def times(finished: threading.Event, count: int, step: Callable[[], Any]) -> Callable[[], None]:
    """A function that does a step so many times, and then sets the event."""

    def run() -> None:
        try:
            for _ in range(count):
                if finished.is_set():
                    return
                step()
        finally:
            finished.set()

    return run


def is_of_one_byte(value: bytes | memoryview) -> bool:
    return bytes(value) == bytes(value[:1]) * len(value)


def own_keys_against_a_model(
    db: pmkv.Store, name: int, rounds: int, models: list[dict[bytes, bytes]]
) -> Callable[[], None]:
    """Writes and reads keys that no other thread uses, compared with a dict at each step."""

    def run() -> None:
        chance, model = random.Random(name), {}
        for _ in range(rounds):
            key = b"%d:%d" % (name, chance.randrange(50))
            value = bytes([chance.randrange(256)]) * chance.choice([0, 10, 500, 3000, 40_000])
            what = chance.randrange(7)
            if what < 3:
                db[key] = model[key] = value
            elif what == 3:
                assert db.pop(key, None) == model.pop(key, None)
            elif what == 4:
                pairs = {b"%d:%d" % (name, chance.randrange(50)): value for _ in range(5)}
                db.put_many(pairs)
                model.update(pairs)
            elif what == 5:
                assert db.get_many(list(model)) == list(model.values())
            else:
                assert db.get(key) == model.get(key)
        models.append(model)

    return run


def test_each_thread_finds_what_it_has_written(any_db: pmkv.Store) -> None:
    rounds = 150 if any_db.info()["persistence"] == "page" else 600
    models: list[dict[bytes, bytes]] = []
    together(*(own_keys_against_a_model(any_db, name, rounds, models) for name in range(4)))
    assert dict(any_db) == {key: value for model in models for key, value in model.items()}


@pytest.mark.parametrize("size", [10, 3000, 70_000, 1 << 20])
def test_a_value_that_is_overwritten_is_read_whole(any_db: pmkv.Store, size: int) -> None:
    finished = threading.Event()
    number = iter(range(1 << 30))
    any_db[b"key"] = bytes(size)

    def write() -> None:
        any_db[b"key"] = bytes([next(number) % 256]) * size

    def read() -> None:
        assert is_of_one_byte(any_db[b"key"])
        assert is_of_one_byte(any_db.get_many([b"key"])[0])

    together(times(finished, 100, write), until(finished, read), until(finished, read))


@pytest.mark.parametrize("size", [10, 3000, 70_000])
@pytest.mark.parametrize("writer", ["put_many", "setitem", "replace"])
def test_a_view_taken_while_others_overwrite_never_changes(
    any_db: pmkv.Store, size: int, writer: str
) -> None:
    finished = threading.Event()
    keys = [b"%d" % i for i in range(50)]
    any_db.put_many((key, bytes(size)) for key in keys)
    number = iter(range(1 << 30))

    def write() -> None:
        value = bytes([next(number) % 256]) * size
        if writer == "put_many":
            any_db.put_many((key, value) for key in keys)
        else:
            for key in keys[:10]:
                any_db.put(key, value) if writer == "setitem" else any_db.replace(key, value)

    def hold() -> None:
        held = [any_db.view(random.choice(keys[:10])) for _ in range(30)]
        before = [view[0] for view in held]
        for _ in range(30):
            any_db.get(random.choice(keys))
        after = [bytes(view) for view in held]
        for view in held:
            view.release()
        assert all(value == bytes([byte]) * size for value, byte in zip(after, before, strict=True))

    together(until(finished, write), times(finished, 150, hold), times(finished, 150, hold))


def test_get_many_and_clear_at_once_give_values_or_misses(any_db: pmkv.Store) -> None:
    finished = threading.Event()
    keys = [b"%d" % i for i in range(300)]
    values = {key: key * (10_000 if i % 8 == 0 else 10) for i, key in enumerate(keys)}

    def write() -> None:
        any_db.put_many(values)
        any_db.clear()

    def read() -> None:
        for key, found in zip(keys, any_db.get_many(keys), strict=True):
            assert found is None or found == values[key]

    together(times(finished, 60, write), until(finished, read), until(finished, read))


def test_get_many_of_values_of_all_sizes_beside_writers_gives_whole_values(
    any_db: pmkv.Store,
) -> None:
    finished = threading.Event()
    keys = [b"%d" % i for i in range(64)]
    sizes = [60_000 if i % 16 == 0 else i * 10 for i in range(64)]
    number = iter(range(1 << 30))

    def write() -> None:
        byte = bytes([next(number) % 256])
        for key, size in zip(keys, sizes, strict=True):
            any_db[key] = byte * size

    def read() -> None:
        assert all(is_of_one_byte(value) for value in any_db.get_many(keys))

    write()
    together(until(finished, write), times(finished, 300, read), times(finished, 300, read))


def test_iteration_beside_put_many_sees_all_or_nothing_of_it_or_raises(
    any_db: pmkv.Store,
) -> None:
    finished = threading.Event()
    old = {b"old%d" % i for i in range(2000)}
    new = [b"new%d" % i for i in range(20_000)]
    any_db.put_many((key, b"") for key in old)

    def write() -> None:
        any_db.put_many((key, b"") for key in new)
        any_db.delete_many(new)

    def read() -> None:
        try:
            found = list(any_db)
        except RuntimeError:
            return
        assert len(found) == len(set(found)), "a key twice"
        assert old <= set(found), "a key missing"
        assert len(found) in (len(old), len(old) + len(new)), "a batch in part"

    together(until(finished, write), times(finished, 200, read))


def views_by_the_thousand_beside_writers(place: Place) -> tuple[list[str], int]:
    """Takes and drops views while another thread overwrites; check(), and what stays in limbo."""
    finished = threading.Event()
    keys = [b"%d" % i for i in range(10_000)]
    with place.open() as db:
        db.put_many((key, key) for key in keys)

        def write() -> None:
            db.put_many((key, random.randbytes(1) * 50) for key in keys)

        def hold() -> None:
            views = [db.view(key) for key in random.sample(keys, random.choice((30, 3000)))]
            before = [bytes(view) for view in views]
            db.get_many(keys[:500])
            after = [bytes(view) for view in views]
            for view in views:
                view.release()
            assert before == after

        together(until(finished, write), times(finished, 30, hold), times(finished, 30, hold))
        db.sync()
        return db.check(), db.stat()["limbo_entries"]


def test_views_by_the_thousand_beside_writers_stay_and_give_their_space_back(
    any_place: Place, in_child: Callable[..., Any]
) -> None:
    assert in_child(views_by_the_thousand_beside_writers, any_place) == ([], 0)


def test_put_many_is_seen_by_get_as_a_growing_number(any_db: pmkv.Store) -> None:
    finished = threading.Event()
    keys = [b"%d" % i for i in range(200)]
    number = iter(range(1 << 30))
    any_db.put_many((key, b"0") for key in keys)

    def write() -> None:
        value = b"%d" % next(number)
        any_db.put_many((key, value) for key in keys)

    def read() -> None:
        key = random.choice(keys)
        first = int(any_db[key])
        assert int(any_db[key]) >= first

    together(times(finished, 100, write), until(finished, read))


def test_compare_and_set_counts_every_increment_of_every_thread(any_db: pmkv.Store) -> None:
    rounds = 50 if any_db.info()["persistence"] == "page" else 1000
    any_db[b"count"] = b"0"

    def count() -> None:
        for _ in range(rounds):
            while True:
                old = any_db[b"count"]
                if any_db.compare_and_set(b"count", old, b"%d" % (int(old) + 1)):
                    break

    together(count, count, count)
    assert any_db[b"count"] == b"%d" % (rounds * 3)


def test_add_succeeds_in_one_thread_alone(any_db: pmkv.Store) -> None:
    won: list[bytes] = []

    def add(name: bytes) -> None:
        won.extend(key for key in (b"%d" % i for i in range(300)) if any_db.add(key, name))

    together(*(lambda name=name: add(name) for name in (b"a", b"b", b"c")))
    assert len(won) == len(set(won)) == 300


def test_popitem_gives_each_pair_to_one_thread(db: pmkv.Store) -> None:
    db.put_many((b"%d" % i, b"") for i in range(3000))
    got: list[bytes] = []

    def take() -> None:
        try:
            while True:
                got.append(db.popitem()[0])
        except KeyError:
            return

    together(take, take, take)
    assert len(got) == len(set(got)) == 3000


def use_until_closed(step: Callable[[], Any], used: threading.Semaphore) -> Callable[[], None]:
    """A function that repeats a step until the store is closed."""

    def run() -> None:
        try:
            while True:
                step()
                used.release()
        except pmkv.ClosedError:
            return

    return run


def close_beside_readers_and_writers(place: Place, size: int) -> list[str]:
    """Closes a store that others use; what check() then finds."""
    used = threading.Semaphore(0)
    db = place.open()
    db[b"key"] = bytes(size)

    def close() -> None:
        for _ in range(20):
            used.acquire()
        db.close()

    steps = (
        lambda: db[b"key"],
        lambda: db.get_many([b"key"] * 20),
        lambda: list(db.items()),
        lambda: db.put(b"key", bytes(size)),
        lambda: db.put_many([(b"key", bytes(size))]),
    )
    together(close, *(use_until_closed(step, used) for step in steps))
    with place.open() as again:
        assert again[b"key"] == bytes(size)
        return again.check()


@pytest.mark.parametrize("size", [10, 100_000])
def test_close_beside_readers_and_writers_ends_them_with_closed_error(
    any_place: Place, size: int, in_child: Callable[..., Any]
) -> None:
    for _ in range(5):
        assert in_child(close_beside_readers_and_writers, any_place, size) == []


def test_check_and_sync_and_stat_go_on_beside_writers(any_db: pmkv.Store) -> None:
    finished = threading.Event()
    number = iter(range(1 << 30))

    def write() -> None:
        any_db.put_many((b"%d" % (i * 7 % 500), bytes(next(number) % 5000)) for i in range(50))

    def look() -> None:
        assert any_db.check() == []
        any_db.sync()
        assert any_db.stat()["entries"] == len(any_db)

    together(until(finished, write), times(finished, 30, look))


@pytest.mark.parametrize("many", [False, True], ids=["put", "put_many"])
def test_a_buffer_that_changes_while_it_is_stored_leaves_a_value_that_can_be_read(
    db: pmkv.Store, many: bool
) -> None:
    """Which moment of the buffer is stored is open; its checksum is that of what is stored."""
    buffer = bytearray(4 << 20)
    done = threading.Event()

    def scribble() -> None:
        number = 0
        while not done.is_set():
            number += 1
            buffer[:] = bytes([number % 256]) * len(buffer)

    scribbler = threading.Thread(target=scribble)
    scribbler.start()
    try:
        for _ in range(20):
            if many:
                db.put_many([(b"key", buffer)])
            else:
                db[b"key"] = memoryview(buffer).toreadonly()
            assert len(db[b"key"]) == len(buffer)
    finally:
        done.set()
        scribbler.join()


def begin_and_abort(db: pmkv.Store) -> None:
    with contextlib.suppress(pmkv.ClosedError):
        db.begin(write=True).abort()


def begin_while_closing(path: Path, trials: int) -> None:
    """Each time keys have expired, so that begin() gives the GIL up with the lock in its hands."""
    for trial in range(trials):
        db = pmkv.open(path, "n")
        with db.begin(write=True) as txn:
            for i in range(1000):
                txn.put(b"%d" % i, b"", ttl=0.02)
        time.sleep(0.022)
        thread = threading.Thread(target=begin_and_abort, args=(db,))
        thread.start()
        time.sleep(trial % 10 * 2e-5)
        db.close()
        thread.join()


def test_a_transaction_that_begins_while_the_store_is_closed_holds_nothing_up(
    pool_path: Path, in_child: Callable[..., Any], effort: int
) -> None:
    in_child(begin_while_closing, pool_path, 100 * effort)


def close_twice_beside_a_writer(path: Path, trials: int) -> None:
    """Whoever has closed the store may open it again at once, and what that one writes stays."""
    pairs = [(b"%d" % i, bytes(100)) for i in range(30_000)]
    for trial in range(trials):
        db = pmkv.open(path, "n")
        stored: list[bool] = []

        def write(db: pmkv.Store = db, stored: list[bool] = stored) -> None:
            with contextlib.suppress(pmkv.ClosedError):
                db.put_many(pairs)
                stored.append(True)

        threads = [threading.Thread(target=function) for function in (write, db.close)]
        threads[0].start()
        time.sleep(0.005 + trial % 3 * 0.005)
        threads[1].start()
        time.sleep(0.001)
        db.close()
        with pmkv.open(path) as again:
            again[b"acknowledged"] = b""
        for thread in threads:
            thread.join()
        with pmkv.open(path) as again:
            assert again.check() == []
            assert len(again) == 1 + len(pairs) * len(stored)
            assert b"acknowledged" in again


def test_a_second_close_waits_for_the_first(
    pool_path: Path, in_child: Callable[..., Any], effort: int
) -> None:
    in_child(close_twice_beside_a_writer, pool_path, 10 * effort)


def close_from_inside_a_transaction(path: Path, fork: Callable[[], None]) -> bool:
    """Another thread closes the store, and waits for this one's transaction."""
    db = pmkv.open(path)
    txn = db.begin(write=True)
    txn[b"key"] = b"never committed"
    other = threading.Thread(target=db.close, daemon=True)
    other.start()
    while not db.closed:
        time.sleep(0.001)
    fork()
    db.close()
    other.join()
    with pmkv.open(path) as again:
        return b"key" in again or again.check() != []


def fork_and_close() -> None:
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        for store in [found for found in gc.get_objects() if isinstance(found, pmkv.Store)]:
            store.close()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize("fork", [lambda: None, fork_and_close], ids=["alone", "fork"])
def test_who_closes_with_a_transaction_open_does_not_wait_for_who_waits_for_it(
    pool_path: Path, in_child: Callable[..., bool], fork: Callable[[], None]
) -> None:
    assert not in_child(close_from_inside_a_transaction, pool_path, fork)


def fork_while_a_thread_closes_the_file(path: Path) -> None:
    with pmkv.open(path) as db:
        closing, go_on = threading.Event(), threading.Event()

        def close_file() -> None:
            with db._closing_file:
                closing.set()
                go_on.wait()

        thread = threading.Thread(target=close_file, daemon=True)
        thread.start()
        closing.wait()
        fork_and_close()
        go_on.set()
        thread.join()


def test_a_child_does_not_wait_for_a_thread_of_its_parent(
    pool_path: Path, in_child: Callable[..., Any]
) -> None:
    in_child(fork_while_a_thread_closes_the_file, pool_path)
