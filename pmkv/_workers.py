"""Work on many values at once, on a few threads, made when they are first needed.

Knows nothing of what the work is. It pays for functions that let the interpreter's lock go for long
enough: a hand-over of it costs tens of microseconds. Threads of a parent are not those of its child
after a fork: the child makes its own.

Ctrl-C may come behind any call here, and nobody may wait for ever then. So nothing here takes a
lock in Python's own code, as an executor, a semaphore or the start of a threading.Thread does:
interrupted behind it, it keeps the lock. Queues and threads are those that C makes.
"""

from __future__ import annotations

import _thread
import os
import queue
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

MOST: Final = min(4, len(os.sched_getaffinity(0)))
_PIECES: Final = 4  # for each thread: who is done early takes another one


class _Pool:
    """The threads besides those that call: they take calls from a queue."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.threads: list[int] = []

    def ask(self, work: Callable[[], None], count: int) -> None:
        """Has so many threads do it, when they are idle; whoever asks must not count on any."""
        if len(self.threads) < MOST - 1:
            try:
                _thread.start_new_thread(self._serve, ())
            except RuntimeError:  # the interpreter is ending, or makes no more
                count = min(count, len(self.threads))
        for _ in range(count):
            self.calls.put(work)

    def _serve(self) -> None:
        if len(self.threads) >= MOST - 1:  # one too many: others were asked for before it began
            return
        self.threads.append(_thread.get_ident())
        while True:
            self.calls.get()()


_pool = _Pool()


def _forget_in_child() -> None:
    global _pool
    _pool = _Pool()


os.register_at_fork(after_in_child=_forget_in_child)


def _cut(values: list[bytes], size: int) -> list[list[bytes]]:
    """Pieces of that many bytes or some more; the last may be smaller."""
    pieces: list[list[bytes]] = [[]]
    filled = 0
    for value in values:
        if filled >= size:
            pieces.append([])
            filled = 0
        pieces[-1].append(value)
        filled += len(value)
    return pieces


def run(
    function: Callable[[list[bytes]], list[T]],
    values: list[bytes],
    least: int,
    mean: int = 0,
    threads: int = MOST,
) -> list[T]:
    """function(values), which gives one result for each; in pieces of `least` bytes or more.

    All at once if there are too few bytes, or values of less than `mean` bytes on average. The
    calling thread takes its share, so it all happens even where there is no other.
    """
    if threads < 2 or len(values) < 2:
        return function(values)
    total = sum(map(len, values))
    if total < 2 * least or total < mean * len(values):
        return function(values)
    pieces = _cut(values, max(least, total // (threads * _PIECES)))
    waiting = deque(range(len(pieces)))
    answers: queue.SimpleQueue[tuple[int, list[T], BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        while True:
            try:
                index = waiting.popleft()
            except IndexError:
                return
            try:
                answers.put((index, function(pieces[index]), None))
            except BaseException as error:  # of all kinds: who has called raises it
                answers.put((index, [], error))

    _pool.ask(work, min(threads, len(pieces)) - 1)
    results: list[list[T]] = [[] for _ in pieces]
    try:
        work()
        for _ in pieces:  # none is left: what has no answer yet is being worked on
            index, results[index], error = answers.get()
            if error is not None:
                raise error
    finally:
        waiting.clear()
    return [result for piece in results for result in piece]
