"""Writes the buffer back: when it is half full, some time after the first write, and at the end.

One thread a pool, made with its first lazy write. It encodes and commits a whole generation at a
time (pmkv._buffer), as flush() does in the caller's thread; one of both at a time.

A finalizer or a signal's handler may come between any two lines here, and write. So nothing here
holds a lock: what the thread waits for is a queue that is made for that. It is not a
threading.Thread, whose start takes a lock in Python's own code, and keeps it if Ctrl-C comes then.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import queue
import threading
import time

from pmkv import _writing
from pmkv._buffer import Buffer


class Writeback:
    """What a pool's engine asks for, and the thread that does it unasked."""

    def __init__(self, path: str, buffer: Buffer, interval: float) -> None:
        self._path, self._buffer = path, buffer
        self._interval = min(interval, threading.TIMEOUT_MAX)
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._ended = False
        self._thread: int | None = None
        self._has_ended: queue.SimpleQueue[None] = queue.SimpleQueue()

    def flush(self) -> None:
        """What was dirty when it began is durable when it returns, or it raises why not."""
        _writing.flush(self._buffer, self._path)

    def wake(self) -> None:
        """There is something to write back; at once, if the buffer is half full."""
        if self._thread is None and not (not self._ended and self._start()):
            self.flush()
        self._calls.put(None)

    def _start(self) -> bool:
        """Makes the thread; False if the interpreter makes no more."""
        atexit.register(self._end)  # here: the program may end before the thread has begun
        try:
            _thread.start_new_thread(self._run, ())
        except RuntimeError:
            return False
        return True

    def _run(self) -> None:
        if self._ended or self._thread is not None:  # a second one, after Ctrl-C in its start
            return
        self._thread = _thread.get_ident()
        try:
            self._write_back_in_time()
        finally:
            self._has_ended.put(None)

    def _write_back_in_time(self) -> None:
        while not self._ended:
            self._calls.get()
            failed = False
            while self._buffer.count and not self._ended:
                self._wait(failed)
                failed = not self._ended and not self._try()

    def _wait(self, failed: bool) -> None:
        """Until it is time; after a failure also where the buffer is half full."""
        until = time.monotonic() + self._interval
        while not self._ended and (failed or not self._buffer.is_half_full()):
            left = until - time.monotonic()
            if left <= 0:
                return
            with contextlib.suppress(queue.Empty):
                self._calls.get(timeout=left)

    def _try(self) -> bool:
        try:
            self.flush()
        except BaseException as error:  # of all kinds: the next call raises it
            self._buffer.fail(error)
            return False
        return True

    def _end(self) -> None:
        """Before the interpreter ends, and kills the thread wherever it is."""
        try:
            self.flush()
        finally:
            self.stop()

    def stop(self) -> None:
        """Ends the thread; the buffer is clean, or nobody can write it back any more."""
        self._ended = True
        self._calls.put(None)
        atexit.unregister(self._end)
        thread, self._thread = self._thread, None
        if thread is not None and thread != _thread.get_ident():
            self._has_ended.get()

    def forget_thread(self) -> None:
        """In a child of fork: the thread is its parent's, and so is the pool."""
        self._ended, self._thread = True, None
        atexit.unregister(self._end)
