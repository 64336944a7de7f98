"""The store as a mapping: what Python adds to the extension's class.

Everything that is called often is the extension's own method; here are the views of
keys, values and items, and what is called once a pool.
"""

from __future__ import annotations

import os
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from types import TracebackType
from typing import Any, Self, TypedDict

from pmkv import _store
from pmkv._medium import PROMISES, Medium

Key = bytes | bytearray | memoryview | str
Value = bytes | bytearray | memoryview | str


class Stat(TypedDict):
    """What `stat()` returns; sizes in bytes."""

    entries: int
    live_bytes: int
    used_bytes: int
    free_bytes: int
    file_size: int
    pages: int
    free_pages: int
    limbo_entries: int
    commit: int


class Info(TypedDict):
    """What `info()` returns."""

    path: str
    flag: str
    persistence: str
    persistence_reason: str
    durable: str
    flush: str
    map_sync: bool
    file_size: int
    format_version: int
    uuid: str
    creator: str
    created_ns: int
    page_size: int
    section_size: int
    ring_size: int
    max_size: int | None
    keys: str
    values: str
    ordered: bool
    writable: bool
    replayed_commits: int


class Memory(TypedDict):
    """What `memory()` returns: DRAM that the handle holds, in bytes. None of it is per key."""

    handle_bytes: int
    transaction_bytes: int
    pin_bytes: int
    views: int
    cache_bytes: int
    buffer_bytes: int
    total_bytes: int


class _Keys(KeysView[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(self._mapping)


class _Values(ValuesView[bytes]):
    def __iter__(self) -> Iterator[bytes]:
        return self._mapping._iterate(_store.SHOW["values"])  # type: ignore[attr-defined, no-any-return]


class _Items(ItemsView[Any, bytes]):
    def __iter__(self) -> Iterator[tuple[Any, bytes]]:
        return self._mapping._iterate(_store.SHOW["items"])  # type: ignore[attr-defined, no-any-return]


class Store(_store.Core, MutableMapping):  # type: ignore[type-arg, misc]
    """A pool of keys and values that is open in this process. Made by `pmkv.open`."""

    _fd: int = -1
    _flag: str = ""
    _medium: Medium
    _options_given: dict[str, Any]

    def _adopt(self, fd: int, flag: str, medium: Medium, options: dict[str, Any]) -> None:
        self._fd, self._flag, self._medium, self._options_given = fd, flag, medium, options

    def __reduce__(self) -> tuple[Any, ...]:
        from pmkv import _open  # it imports this module

        flag = "r" if self._flag == "r" else "w"
        return _open._reopen, (self.path, flag, self._options_given)

    def __enter__(self) -> Self:
        if self.closed:
            self._iterate(0)  # raises ClosedError
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.closed:
            return f"<pmkv.Store {self.path!r}, closed>"
        return (
            f"<pmkv.Store {self.path!r}: {len(self):,} keys, "
            f"{_store.human(self.stat()['live_bytes'])}, {self._medium.persistence}>"
        )

    def keys(self) -> KeysView[Any]:
        """A view of the keys, as dict.keys()."""
        return _Keys(self)

    def values(self) -> ValuesView[bytes]:
        """A view of the values, as dict.values()."""
        return _Values(self)

    def items(self) -> ItemsView[Any, bytes]:
        """A view of the pairs, as dict.items()."""
        return _Items(self)

    def setdefault(self, key: Key, default: Value = b"") -> bytes:  # type: ignore[override]
        """The value of the key, stored first if it was missing."""
        while True:
            found = self.get(key)
            if found is not None:
                return found  # type: ignore[no-any-return]
            self.add(key, default)

    def update(self, other: Any = (), /, **more: Value) -> None:
        """Stores all pairs in one commit, as dict.update()."""
        if isinstance(other, Mapping) or hasattr(other, "keys"):
            pairs = [(key, other[key]) for key in other.keys()]  # noqa: SIM118 - as dict.update
        else:
            pairs = list(other)
        pairs.extend(more.items())
        self.put_many(pairs)

    def __ior__(self, other: Mapping[Key, Value] | Iterable[tuple[Key, Value]]) -> Self:
        self.update(other)
        return self

    def info(self) -> Info:
        """What the pool is, where it lies, and what durability that gives."""
        found = self._info()
        options = self._options()
        return {
            "path": self.path,
            "flag": self._flag,
            "persistence": self._medium.persistence,
            "persistence_reason": self._medium.reason,
            "durable": PROMISES[self._medium.persistence],
            "keys": "str" if options & 1 else "bytes",
            "values": "bytes",
            "ordered": not options & 2,
            **found,
        }

    def close(self) -> None:
        """Closes the pool; again does nothing. BufferError while views are alive."""
        try:
            self._close()
        finally:
            if self.closed:
                self._close_file()

    def _close_file(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _forget_after_fork(self) -> None:
        if not self.closed:
            self._forked()
        self._close_file()  # the lock is the open file's, which the parent still has: it stays

    def __del__(self) -> None:
        try:
            self._close()
        finally:
            self._close_file()
