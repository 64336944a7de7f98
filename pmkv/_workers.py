"""Work on many values at once, on a few threads, made when they are first needed.

Knows nothing of what the work is. It pays for functions that let the interpreter's lock go for long
enough: a hand-over of it costs tens of microseconds. Threads of a parent are not those of its child
after a fork: the child makes its own.
"""

from __future__ import annotations

import concurrent.futures
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

MOST: Final = min(4, len(os.sched_getaffinity(0)))
_PIECES: Final = 4  # for each thread: who is done early takes another one


class _Pool:
    """The threads besides those that call."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.executor: concurrent.futures.ThreadPoolExecutor | None = None

    def submit(self, work: Callable[[], None]) -> concurrent.futures.Future[None] | None:
        """None: the interpreter is ending, and starts no more threads."""
        with self.lock:
            try:
                if self.executor is None:
                    self.executor = concurrent.futures.ThreadPoolExecutor(MOST - 1, "pmkv")
                return self.executor.submit(work)
            except RuntimeError:
                return None


_pool = _Pool()
_of_parents: list[_Pool] = []  # kept: what is left of their threads must not be waited for


def _forget_in_child() -> None:
    global _pool
    _of_parents.append(_pool)
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
    results: list[list[T]] = [[] for _ in pieces]
    waiting = deque(range(len(pieces)))

    def work() -> None:
        while True:
            try:
                index = waiting.popleft()
            except IndexError:
                return
            results[index] = function(pieces[index])

    helpers = [_pool.submit(work) for _ in range(min(threads, len(pieces)) - 1)]
    try:
        work()
    finally:
        waiting.clear()
        concurrent.futures.wait([helper for helper in helpers if helper])
    for helper in helpers:
        if helper:
            helper.result()
    return [result for piece in results for result in piece]
