"""Writes the buffer back: when asked to, when it is half full, and some time after the first write.

One thread a pool, made with its first lazy write. It encodes and commits a whole generation at a
time (pmkv._buffer), as flush() does in the caller's thread; one of both at a time.
"""

from __future__ import annotations

import threading

from pmkv._buffer import Buffer
from pmkv._errors import Error
from pmkv._writing import write_back


class Writeback:
    """What a pool's engine asks for, and the thread that does it unasked."""

    def __init__(self, path: str, buffer: Buffer, interval: float) -> None:
        self._path, self._buffer, self._interval = path, buffer, interval
        self._turn = threading.Lock()  # one writeback at a time
        self._owner = 0  # the thread whose turn it is
        self._dirtied = threading.Event()  # there is something to write back
        self._urgent = threading.Event()  # and it is time to
        self._ended = False
        self._thread: threading.Thread | None = None

    def flush(self) -> None:
        """What was dirty when it began is durable when it returns, or it raises why not."""
        me = threading.get_ident()
        if self._owner == me:
            raise Error(f"{self._path}: this thread is in the middle of a writeback")
        with self._turn:
            self._owner = me
            try:
                self._write()
            finally:
                self._owner = 0

    def _write(self) -> None:
        generation = self._buffer.freeze()
        if generation is None:
            return
        try:
            write_back(generation)
        except BaseException:
            self._buffer.thaw()
            self._dirtied.set()  # the thread, if there is one, tries again
            raise
        self._buffer.done()

    def wake(self) -> None:
        """There is something to write back; at once, if the buffer is half full."""
        if self._thread is None and not self._ended:
            name = f"pmkv writeback of {self._path}"
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._thread.start()
        if self._buffer.is_half_full():
            self._urgent.set()
        self._dirtied.set()

    def _run(self) -> None:
        while not self._ended:
            self._dirtied.wait()
            self._dirtied.clear()
            while self._buffer.count and not self._ended:
                self._urgent.wait(self._interval)
                self._urgent.clear()
                if not self._ended:
                    self._try()

    def _try(self) -> None:
        try:
            self.flush()
        except Exception as error:  # of all kinds: the next call raises it
            self._buffer.fail(error)

    def stop(self) -> None:
        """Ends the thread; the buffer is clean, or nobody can write it back any more."""
        self._ended = True
        self._urgent.set()
        self._dirtied.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def forget_thread(self) -> None:
        """In a child of fork: the thread is its parent's, and so is the pool."""
        self._ended, self._thread = True, None
