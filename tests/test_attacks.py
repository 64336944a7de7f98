"""Forks, drops in other threads and the garbage collector in the middle of a call harm nothing.

Each runs in a process of its own: its death, or no answer, is a failure.
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
from reader import Reader, crc32c, seal

import pmkv

InChild = Callable[..., Any]


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


# -- a fork --------------------------------------------------------------------------------------


def in_forked(*uses: Callable[[], Any]) -> list[str]:
    """What each use raises, or its result, in a process forked now."""
    ours, theirs = os.pipe()
    if os.fork() == 0:
        for use in uses:
            try:
                answer = repr(use())
            except BaseException as error:
                answer = type(error).__name__
            os.write(theirs, answer.encode() + b"\n")
        os._exit(0)
    os.close(theirs)
    with open(ours) as pipe:
        answers = pipe.read().split()
    os.wait()
    return answers


def fork_in_a_transaction(path: Path, last: str) -> tuple[list[str], dict[Any, Any], list[str]]:
    with pmkv.open(path) as db:
        db[b"k"] = b"before"
        with db.begin(write=True) as transaction:
            space = transaction.namespace("n")
            transaction[b"k"] = space[b"k"] = b"inside"
            uses = [lambda: transaction[b"k"], lambda: space[b"k"], lambda: len(space)]
            uses += [lambda: space.put(b"x", b""), lambda: transaction.namespace("m")]
            uses += [transaction.namespaces, db.namespaces, db.sync, lambda: db.drop("n")]
            answers = in_forked(*uses, getattr(transaction, last))
            assert (db[b"k"], transaction[b"k"], db.namespaces()) == (b"before", b"inside", [])
            transaction.abort()
        return answers, dict(db), db.check()


@pytest.mark.parametrize("last", ["commit", "abort"])
def test_a_child_forked_in_a_transaction_gets_closed_error_and_changes_nothing(
    pool_path: Path, in_child: InChild, last: str
) -> None:
    answers, found, problems = in_child(fork_in_a_transaction, pool_path, last)
    assert answers[:-1] == ["ClosedError"] * 9
    assert answers[-1] == ("ClosedError" if last == "commit" else "None")
    assert found == {b"k": b"before"} and problems == []


# -- drops in other threads ----------------------------------------------------------------------


def drop_while_a_write_waits(path: Path) -> list[str]:
    with pmkv.open(path) as db:
        for _ in range(20):
            space = db.namespace("n")
            transaction = db.begin(write=True)
            raised = []

            def write(space: Any = space, raised: Any = raised) -> None:
                try:
                    space[b"k"] = bytes(100_000)
                except pmkv.ClosedError:
                    raised.append("ClosedError")

            dropping = threading.Thread(target=db.drop, args=("n",))
            writing = threading.Thread(target=write)
            for thread in (dropping, writing):
                thread.start()
                time.sleep(0.005)
            transaction.commit()
            dropping.join()
            writing.join()
        return db.check()


def drop_while_a_value_is_read(path: Path) -> list[str]:
    with pmkv.open(path) as db:
        for _ in range(5):
            space = db.namespace("n")
            space[b"k"] = bytes(50 << 20)
            reading = threading.Thread(target=space.get, args=(b"k",))
            reading.start()
            time.sleep(0.003)
            db.drop("n")
            reading.join()
        return db.check()


def drop_in_several_threads(path: Path) -> list[str]:
    sys.setswitchinterval(1e-5)
    with pmkv.open(path) as db:

        def work(name: str) -> None:
            space = db.namespace(name)
            space.put_many((b"%d" % i, b"v") for i in range(50))
            assert len(space) == 50
            db.drop(name)

        failed = together(2, lambda: work("a"), lambda: work("b"), lambda: work("c"))
        return failed + db.namespaces() + db.check()


def drop_while_handles_are_made(path: Path) -> list[str]:
    sys.setswitchinterval(1e-6)
    with pmkv.open(path) as db:
        kept = [db.namespace("kept") for _ in range(2000)]

        def drop() -> None:
            db.namespace("n")
            db.drop("n")

        failed = together(1.5, drop, lambda: [db.namespace("kept") for _ in range(100)])
        assert {len(handle) for handle in kept} == {0}
        return failed + db.check()


def use_what_others_drop(path: Path) -> list[str]:
    sys.setswitchinterval(1e-5)
    with pmkv.open(path) as db:

        def drop() -> None:
            db.namespace("n").put_many((b"%d" % i, bytes(i)) for i in range(100))
            db.drop("n")

        def use() -> None:
            try:
                space = db.namespace("n")
                space[b"own"] = bytes(40_000)
                assert space.get(b"own", bytes(40_000)) == bytes(40_000)
                space.put_many((b"%d" % i, bytes(i)) for i in range(50))
                assert {len(value) for value in space.values()} <= {*range(100), 40_000}
                space.incr(b"n")
            except (pmkv.ClosedError, RuntimeError):
                pass

        return together(2, drop, use, use) + db.check()


DROPS = [drop_while_a_write_waits, drop_while_a_value_is_read, drop_in_several_threads]
DROPS += [drop_while_handles_are_made, use_what_others_drop]


@pytest.mark.parametrize("work", DROPS)
def test_a_drop_beside_other_threads_harms_nothing(
    pool_path: Path, in_child: InChild, work: Callable[[Path], list[str]]
) -> None:
    assert in_child(work, pool_path) == []


# -- the garbage collector -----------------------------------------------------------------------


class Finalizer:
    """Is garbage at once; writes when it is collected, and leaves another."""

    active = True

    def __init__(self, write: Callable[[], Any]) -> None:
        self.write, self.itself = write, self

    def __del__(self) -> None:
        if Finalizer.active:
            self.write()
            Finalizer(self.write)


USES: dict[str, Callable[[Any], Any]] = {
    "incr_missing": lambda db: db.incr(b"no", default=None),
    "incr_text": lambda db: db.incr(b"text"),
    "popitem_empty": lambda db: db.namespace("empty").popitem(),
    "pop_missing": lambda db: db.pop(b"no"),
    "delete_missing": lambda db: db.__delitem__(b"no"),
    "put_wrong": lambda db: db.put_many([(b"a", b"b"), (b"c", 1)]),
    "get_many": lambda db: db.get_many([b"a", b"no"] * 50),
    "namespace": lambda db: db.namespace("n").update({b"a": b"b"}),
    "drop": lambda db: (db.namespace("n"), db.drop("n")),
    "check": lambda db: db.check(),
}


def use_beside_the_collector(path: Path, use: str) -> list[str]:
    gc.disable()
    with pmkv.open(path) as db:
        db[b"text"] = b"x"
        written = []

        def write() -> None:
            db[b"%d" % (len(written) % 9)] = b"%d" % len(written)
            written.append(None)

        Finalizer(write)
        gc.set_threshold(1)
        gc.enable()
        for _ in range(20):
            with contextlib.suppress(pmkv.Error):
                USES[use](db)
        gc.disable()
        Finalizer.active = False
        return db.check()


@pytest.mark.parametrize("use", USES)
def test_a_finalizer_may_write_whatever_call_sets_off_the_collector(
    pool_path: Path, in_child: InChild, use: str
) -> None:
    assert in_child(use_beside_the_collector, pool_path, use) == []


def view_beside_the_collector(path: Path) -> list[bytes]:
    gc.disable()
    wrong = []
    with pmkv.open(path) as db:

        def write() -> None:
            db[b"k"] = b"B" * 500
            for i in range(20):
                db[b"%d" % i] = b"C" * 500

        for _ in range(50):
            db[b"k"] = b"A" * 500
            Finalizer.active = True
            Finalizer(write)
            gc.set_threshold(1)
            gc.enable()
            view = db.view(b"k")
            gc.disable()
            Finalizer.active = False
            first = bytes(view)
            for i in range(20):
                db[b"%d" % i] = b"D" * 500
            if {first, bytes(view)} not in ({b"A" * 500}, {b"B" * 500}):
                wrong.append(bytes(view)[:8])
            del view
    return wrong


def test_a_finalizer_that_overwrites_a_key_leaves_the_view_that_is_being_made(
    pool_path: Path, in_child: InChild
) -> None:
    assert in_child(view_beside_the_collector, pool_path) == []


# -- interrupts ----------------------------------------------------------------------------------


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_interrupt_in_put_many_leaves_the_transaction_as_before_it_or_behind_it(
    pool_path: Path,
) -> None:
    chance = random.Random(1)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pmkv.open(pool_path) as db:
            for trial in range(60):
                transaction = db.begin(write=True)
                space, model, more = transaction.namespace("n"), {}, {}
                signal.setitimer(signal.ITIMER_REAL, chance.random() * 0.02 + 0.0001)
                try:
                    while True:
                        more = {b"%d" % chance.randrange(5000): b"v" for _ in range(2000)}
                        space.put_many(more)
                        model.update(more)
                except KeyboardInterrupt:
                    found = dict(space)
                assert found in (model, {**model, **more})
                if trial % 2:
                    transaction.abort()
                    assert db.namespaces() == []
                else:
                    transaction.commit()
                    assert dict(db.namespace("n")) == found
                    db.drop("n")
            assert db.check() == []
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_exception_of_an_iterator_leaves_the_transaction_as_it_was(db: pmkv.Store) -> None:
    def pairs() -> Iterator[tuple[bytes, bytes]]:
        yield b"a", b"1"
        space[b"own"] = b"2"
        raise ZeroDivisionError

    with db.begin(write=True) as transaction:
        space = transaction.namespace("n")
        with pytest.raises(ZeroDivisionError):
            space.put_many(pairs())
        assert dict(space) == {b"own": b"2"}
    assert dict(db.namespace("n")) == {b"own": b"2"}


# -- a full pool, a crafted one --------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 1000, 100_000])
def test_a_namespace_of_a_full_pool_can_be_dropped(pool_path: Path, size: int) -> None:
    with pmkv.open(pool_path, max_size=12 << 20) as db:
        spaces = [db.namespace("n"), db.namespace("other"), db]
        for fill in (size, 500, 100, 0):
            with pytest.raises(pmkv.PoolFullError):
                for i in range(1 << 30):
                    spaces[i % 3][b"%d %d" % (fill, i)] = bytes(fill)
        with pytest.raises(pmkv.PoolFullError):
            for i in range(1 << 30):
                db.namespace(f"{i}")
        other = len(spaces[1])
        db.drop("n")
        assert "n" not in db.namespaces() and len(spaces[1]) == other
        assert db.check() == []
        db.namespace("n")[b"k"] = bytes(size)


def craft_name(path: Path, name: bytes, new: bytes) -> None:
    """Changes a name in the catalogue's record and ordered keys; their checks fit."""
    pool = bytearray(path.read_bytes())
    at = pool.find(name, 4 << 20)
    while at >= 0:
        if pool[at - 4 : at - 2] == struct.pack("<H", len(name)):
            pool[at : at + len(name)] = new
            check = crc32c(len(new).to_bytes(8, "little") + new) & 0xFFFF
            struct.pack_into("<H", pool, at - 2, check)
        elif pool[at - 8 : at - 4] == struct.pack("<I", len(name)):
            pool[at : at + len(name)] = new
            struct.pack_into("<I", pool, at - 24, crc32c(bytes(pool[at - 20 : at + len(new) + 8])))
        at = pool.find(name, at + 1)
    path.write_bytes(pool)


def use_names(path: Path) -> list[str]:
    """Errors of other kinds than a damaged pool may give."""
    wrong = []
    with pmkv.open(path) as db:
        uses: list[Callable[[], Any]] = [db.namespaces, db.check, db.sync, lambda: dict(db)]
        uses += [lambda: db.namespace("new"), lambda: db.drop("new")]
        for name in ("n", "n" * 50):
            uses += [lambda name=name: len(db.namespace(name)), lambda name=name: db.drop(name)]
        for use in uses:
            try:
                use()
            except pmkv.Error:
                pass
            except Exception as error:
                wrong.append(repr(error))
    return wrong


HIDDEN = b"\0dropped\0"
CRAFTED = [HIDDEN + number.to_bytes(2) for number in (0, 1, 2, 2**16 - 1)]
CRAFTED += [b"\0id" + number.to_bytes(2) for number in (0, 1, 2)]
CRAFTED += [b"\0id" + b"x" * 8, HIDDEN + b"x" * 8, HIDDEN, HIDDEN + b"x" * 20, b"\xff" * 12]


@pytest.mark.parametrize("new", CRAFTED)
def test_a_crafted_name_gives_errors_and_no_crash(
    pool_path: Path, in_child: InChild, new: bytes
) -> None:
    with pmkv.open(pool_path) as db:
        db.namespace("X" * len(new))[b"k"] = b"v"
    craft_name(pool_path, b"X" * len(new), new)
    assert in_child(use_names, pool_path) == []


@pytest.mark.parametrize("place", [0, 16, 4096, 2**48, 2**62, 2**63, 2**64 - 64])
def test_a_crafted_place_of_a_namespace_gives_errors_and_no_crash(
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
    assert in_child(use_names, pool_path) == []


def test_a_crafted_count_gives_an_error_and_no_endless_drop(
    pool_path: Path, in_child: InChild
) -> None:
    with pmkv.open(pool_path) as db:
        db.namespace("n")
    reader = Reader(pool_path.read_bytes())
    (root,) = reader.catalogue().values()
    reader.write(root + 8, seal(100_000).to_bytes(8, "little"))
    pool_path.write_bytes(reader.data)
    assert in_child(use_names, pool_path) == []


# ---- cycles, and iterators that have ended ---------------------------------------------------


def test_a_view_in_a_reference_cycle_lets_its_record_go_when_it_is_collected(
    db: pmkv.Store,
) -> None:
    db[b"k"] = b"v" * 5000
    cycle: list[Any] = [db.view(b"k")]
    cycle.append(cycle)
    del cycle
    gc.collect()
    assert db.memory()["views"] == 0
    db.close()


def test_namespaces_in_reference_cycles_are_forgotten_when_they_are_collected(
    db: pmkv.Store,
) -> None:
    for _ in range(50):
        space: Any = db.namespace("n")
        space.itself = space
        del space
        gc.collect()
        db.drop("n")
    assert db.namespaces() == []


def test_a_number_that_this_interpreter_refuses_leaves_no_lock_behind(db: pmkv.Store) -> None:
    db[b"n"] = b"9" * 700
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        with pytest.raises(pmkv.InvalidValueError):
            db.incr(b"n")
    finally:
        sys.set_int_max_str_digits(limit)
    db[b"after"] = b"1"
    assert db.incr(b"n") == 10**700


@pytest.mark.parametrize("ordered", [True, False])
def test_an_iterator_that_has_ended_stays_at_its_end(pool_path: Path, ordered: bool) -> None:
    with pmkv.open(pool_path, ordered=ordered) as db:
        db.put_many((b"%d" % i, b"") for i in range(5))
        ended = iter(db.items())
        assert len(list(ended)) == 5
        del db[b"0"]
        db[b"z"] = b""
        assert list(ended) == []
        db[b"zz"] = b""
        assert list(ended) == []
