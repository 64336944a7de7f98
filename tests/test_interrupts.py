"""Ctrl-C, wherever it comes: nothing hangs afterwards, nothing is half done, no file is left over.

A signal's handler runs behind a call, in the code of pmkv or of what it uses. So a trace function
counts these places, and raises at each in turn: no timer, no luck.
"""

from __future__ import annotations

import contextlib
import dis
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import pmkv
from pmkv import _workers
from pmkv._descriptor import Descriptor

# What comes in the middle of a finalizer is shown and goes no further.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

HANG = 30.0  # seconds after which what does not end is taken for hung
VALUES = {b"%d" % i: b"some text, again and again %d " % i * 400 for i in range(40)}


class Interrupter:
    """Raises KeyboardInterrupt behind the call of that number, counted from when it is entered."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.calls: dict[Any, set[int]] = {}

    def behind_a_call(self, frame: FrameType) -> bool:
        """Whether the instruction that comes next follows a call."""
        code = frame.f_code
        if code not in self.calls:
            places, called = set(), False
            for instruction in dis.get_instructions(code):
                if called:
                    places.add(instruction.offset)
                called = instruction.opname.startswith("CALL")
            self.calls[code] = places
        return frame.f_lasti in self.calls[code]

    def trace(self, frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename == __file__:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode" and self.left >= 0 and self.behind_a_call(frame):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        return self.trace

    def __enter__(self) -> None:
        self.before = sys.gettrace()
        sys.settrace(self.trace)

    def __exit__(self, *_: object) -> None:
        sys.settrace(self.before)

    @property
    def came(self) -> bool:
        return self.left < 0


def interrupted_everywhere(act: Callable[[], object]) -> Iterator[None]:
    """Calls it again and again, interrupted behind its first call, its second, ... to the last."""
    for number in range(100_000):
        interrupter = Interrupter(number)
        with contextlib.suppress(KeyboardInterrupt), interrupter:
            act()
        yield
        if not interrupter.came:
            return
    pytest.fail("it never ended")


def ends(act: Callable[[], object]) -> bool:
    """Whether it ends well, in a thread of its own."""
    done = threading.Event()
    threading.Thread(target=lambda: (act(), done.set()), daemon=True).start()
    return done.wait(HANG)


def threads_come_down_to(count: int) -> bool:
    """Whether the process has no more threads than that, soon: one that has done all still ends."""
    end = time.monotonic() + HANG
    while len(os.listdir("/proc/self/task")) > count:
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work is shared, also where there is one processor; by threads that no other test has."""
    monkeypatch.setattr(_workers, "MOST", 2)
    monkeypatch.setattr(_workers, "_pool", _workers._Pool())


@pytest.mark.usefixtures("two_threads")
def test_an_interrupt_while_work_is_shared_leaves_nobody_waiting() -> None:
    def sizes(values: list[bytes]) -> list[int]:
        return [len(value) for value in values]

    def share() -> list[int]:
        return _workers.run(sizes, list(VALUES.values()), 1000, threads=2)

    for _ in interrupted_everywhere(share):
        assert ends(share)
    assert share() == sizes(list(VALUES.values()))


@pytest.mark.usefixtures("two_threads")
def test_an_interrupt_of_coded_writes_leaves_all_of_them_or_none(pool_path: Path) -> None:
    with pmkv.open(pool_path, codec="zstd") as db:
        before: dict[bytes, bytes] = {}

        def put() -> None:
            db.put_many(after)

        for number in range(100_000):
            after = {key: value + b"%d" % number for key, value in VALUES.items()}
            interrupter = Interrupter(number)
            with contextlib.suppress(KeyboardInterrupt), interrupter:
                put()
            found = dict(db)
            assert found in (before, after)
            before = found
            if not interrupter.came:
                break
        assert before == after
        assert ends(put)


def test_an_interrupt_of_the_first_lazy_write_leaves_no_thread_that_waits_for_ever(
    pool_path: Path,
) -> None:
    """The thread that writes back is made then: it begins, whatever its maker is interrupted in."""
    for number in range(100_000):
        interrupter = Interrupter(number)
        threads = len(os.listdir("/proc/self/task"))
        with pmkv.open(pool_path, "n", durability="lazy", writeback_interval=0.001) as db:
            with contextlib.suppress(KeyboardInterrupt), interrupter:
                db[b"k"] = b"v"
            db[b"l"] = b"w"
            found = db.get(b"k")
        assert threads_come_down_to(threads)
        with pmkv.open(pool_path) as db:
            assert dict(db) == {b"l": b"w"} | ({} if found is None else {b"k": b"v"})
        if not interrupter.came:
            return


def test_an_interrupt_of_close_leaves_a_store_that_can_be_closed(pool_path: Path) -> None:
    for number in range(100_000):
        interrupter = Interrupter(number)
        db = pmkv.open(pool_path, "n", durability="lazy", writeback_interval=1000)
        db[b"k"] = b"v"
        with contextlib.suppress(KeyboardInterrupt), interrupter:
            db.close()
        db.close()
        with pmkv.open(pool_path) as db:
            assert dict(db) == {b"k": b"v"}
        if not interrupter.came:
            return


@pytest.mark.parametrize("what", ["open", "copy"])
def test_an_interrupt_leaves_no_file_that_nobody_asked_for(
    pool_path: Path, memory_dir: Path, what: str
) -> None:
    made = memory_dir / "made.pmkv"
    with pmkv.open(pool_path) as db:
        db[b"k"] = b"v"

        def make() -> None:
            if what == "copy":
                db.copy(made)
            else:
                pmkv.open(made).close()

        for _ in interrupted_everywhere(make):
            assert set(os.listdir(memory_dir)) <= {"pool.pmkv", "made.pmkv"}
            if made.exists():
                with pmkv.open(made) as other:
                    assert other.check() == []
                    assert what == "open" or dict(other) == {b"k": b"v"}
                made.unlink()


def test_a_descriptor_that_was_never_opened_can_be_let_go() -> None:
    """So is one whose maker was interrupted before its first step."""
    nothing = Descriptor.__new__(Descriptor)
    nothing.close()
    nothing.unlock()
    assert nothing.number == -1
