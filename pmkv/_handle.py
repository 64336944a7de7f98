"""The store as a mapping: what Python adds to the extension's class.

Everything that is called often is the extension's own method; here are the views of
keys, values and items, and what is called once a pool.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, Self, overload

from pmkv import _coding, _compaction, _namespaces, _objects, _session, _snapshot, _store
from pmkv._arguments import human
from pmkv._copy import copy_into
from pmkv._descriptor import Descriptor
from pmkv._face import Face
from pmkv._medium import Medium
from pmkv._types import Info, Stat
from pmkv._writeback import Writeback


class Namespace(_namespaces.Named, Face):
    """A set of keys of its own in a pool; a mapping like the store. Made by `namespace(name)`."""

    def __repr__(self) -> str:
        return f"<pmkv.Namespace {self.name!r}>"

    def train_dictionary(self, size: int = 16 << 10) -> int:
        """As that of the store, for the values of this namespace."""
        return _coding.train_dictionary(self.source, self, size)


class _WithNamespaces(Face):
    """What a store and a transaction have beside a namespace's methods: the other namespaces."""

    def namespace(
        self,
        name: str,
        *,
        keys: Literal["bytes", "str"] | None = None,
        ordered: bool | None = None,
        values: Literal["bytes", "msgpack", "pickle"] | _objects.Dumps | None = None,
        codec: str | None = None,
    ) -> Namespace:
        """The namespace of that name, a mapping of its own; made if it is missing.

        Options are kept in the pool and need not be repeated, but for values="pickle" and a
        serializer of one's own; a contradiction is an Error. `codec`, such as "lz4" or "plain", may
        change: values that are there keep theirs, and so do handles that were made before. That of
        a transaction belongs to it.
        """
        option = 0 if values is None else _objects.serializer(values).option
        option |= _coding.options_of(codec)
        if self._is_writable():
            _coding.need(codec, self._coder().context)
        space = Namespace(self, name, keys=keys, ordered=ordered, values=option)
        chosen = _objects.agreed(space._values_option(), values, f"namespace {name!r}")
        space._speak(chosen.dumps, chosen.loads)
        _coding.use_codec(self, space, self._coder().context, name, codec)
        return space

    def _namespace_as_stored(
        self, name: str, keys: Any = None, ordered: bool | None = None, option: int = 0
    ) -> Namespace:
        """The same, with values as they are stored."""
        space = Namespace(self, name, keys=keys, ordered=ordered, values=option)
        space._show_stored()
        return space

    def namespaces(self) -> list[str]:
        """The names of all namespaces, sorted."""
        return _namespaces.names(self)


class Transaction(_session.Session, _WithNamespaces):
    """Changes that happen together. Made by `Store.begin(write=True)`; a mapping like the store."""

    def __repr__(self) -> str:
        return f"<pmkv.Transaction, {'ended' if self.closed else 'open'}>"


class Snapshot(_snapshot.Past, _WithNamespaces):
    """The store at one moment; a mapping that only reads. Made by `Store.snapshot()`."""

    def __repr__(self) -> str:
        return f"<pmkv.Snapshot, {'closed' if self.closed else 'open'}>"


class Store(_store.Core, _WithNamespaces):
    """A pool of keys and values that is open in this process. Made by `pmkv.open`."""

    _file: Descriptor | None = None
    _flag: str = ""
    _medium: Medium
    _options_given: dict[str, Any]
    _serializer: _objects.Serializer
    _writeback: Writeback | None = None
    _closing_file: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    _open_other: Callable[..., Store]

    def _adopt(
        self,
        file: Descriptor,
        flag: str,
        medium: Medium,
        options: dict[str, Any],
        serializer: _objects.Serializer,
        writeback: Writeback,
        open_other: Callable[..., Store],
    ) -> None:
        self._file, self._flag, self._medium, self._options_given = file, flag, medium, options
        self._serializer, self._open_other = serializer, open_other
        self._writeback, self._closing_file = writeback, threading.RLock()
        file.adopted = True
        self._speak(serializer.dumps, serializer.loads)

    def __enter__(self) -> Self:
        if self.closed:
            len(self)  # raises ClosedError
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
            f"{human(self.stat()['live_bytes'])}, {self._medium.persistence}>"
        )

    @overload
    def begin(self, *, write: Literal[True]) -> Transaction: ...
    @overload
    def begin(self, *, write: Literal[False] = False) -> Snapshot: ...
    @overload
    def begin(self, *, write: bool) -> Transaction | Snapshot: ...
    def begin(self, *, write: bool = False) -> Transaction | Snapshot:
        """With write=True changes of any number of keys that happen together, or not at all.

        Such a transaction is the pool's one writer until it ends: writes of other threads wait
        for it. With write=False it only reads: a snapshot.
        """
        return Transaction(self) if write else Snapshot(self)

    def snapshot(self) -> Snapshot:
        """The store as it is now, to be read for as long as wanted, whatever is written meanwhile.

        It keeps what it sees and others overwrite or delete, and nothing else, until it is closed.
        """
        return Snapshot(self)

    def copy(self, path: str | os.PathLike[str], compact: bool = False) -> None:
        """A new pool at `path` with all that this one holds now, while others go on writing.

        All namespaces with their options and times of expiry, at one moment, packed; with
        compact=True its file is also cut to what it needs. It has its name only when it is complete
        and on the medium. Raises PoolExistsError (FileExistsError), PoolFullError.
        """

        def open_target(path: str) -> Store:
            target = self._open_other(
                path,
                "n",
                keys="str" if self._keys_are_str() else "bytes",
                ordered=self._is_ordered(),
                values=self._serializer,
            )
            target._set_options(self._options())
            return target

        with self.snapshot() as moment:
            moment._show_stored()
            target = os.path.abspath(os.fsdecode(path))
            copy_into(moment, self, target, open_target, Store.compact if compact else Store.sync)

    def drop(self, name: str) -> None:
        """Deletes a namespace with all of its keys, and gives the space back in bounded steps.

        Handles on it raise ClosedError from then on. NotFoundError if there is none.
        """
        _namespaces.drop(self, name)

    def sync(self) -> None:
        """Writes back what is dirty: what was written lazily is durable when it returns.

        Besides, it empties the redo ring, so that the next open has nothing to replay, and
        finishes what an interrupted drop() left. Raises PoolFullError, CodecError, OSError: what
        is dirty stays so.
        """
        _namespaces.finish_drops(self)
        super().sync()

    flush = sync

    def compact(self) -> int:
        """Moves live data down and gives the end of the file back; how many bytes.

        Others read and write meanwhile: it takes many small commits. Interrupted, it leaves a
        sound pool, and the next one goes on. What a view shows stays where it is, and keeps the
        file that long. A device keeps its size. Raises ReadonlyError, CorruptedError, OSError.
        """
        _namespaces.finish_drops(self)
        return _compaction.compact(self)

    def info(self) -> Info:
        """What the pool is, where it lies, and what durability that gives."""
        pool = self._info()
        options = self._options()
        return {
            "path": self.path,
            "flag": self._flag,
            "persistence": self._medium.persistence,
            "persistence_reason": self._medium.reason,
            "durable": self._medium.durable,
            "keys": "str" if options & 1 else "bytes",
            "values": self._serializer.name,
            "ordered": not options & 2,
            "codec": _coding.codec_name(options),
            "durability": self._options_given.get("durability", "sync"),
            **pool,
            "max_size": self._options_given["max_size"] or pool["max_size"],
        }

    def stat(self) -> Stat:
        """Counts and sizes in bytes, at once at any size of the pool: see pmkv.Stat.

        Of what is stored lazily, what is dirty is written back first.
        """
        counts = super().stat()
        counts["codecs"], counts["paths"] = _coding.counts(*_namespaces.totals(self))
        return counts

    def train_dictionary(self, size: int = 16 << 10) -> int:
        """Trains a dictionary of at most `size` bytes on values of the default namespace; its size.

        From then on this handle, and those that are made later, compress new values with it (codec
        "lz4" or "zstd"), which helps small ones that are like each other. The pool keeps it for
        ever, at most 255 of them. It has pieces of values: it is encrypted if the codec encrypts,
        and else made of none that are. Raises CodecError where there is too little to learn from,
        or `zstandard` is not installed.
        """
        return _coding.train_dictionary(self, self, size)

    def close(self) -> None:
        """Writes back what is dirty, and closes the pool; again does nothing.

        BufferError while views are alive. What cannot be written back (PoolFullError, CodecError)
        keeps the store open: make room, overwrite it or delete it.
        """
        try:
            self._close()
        finally:
            if not self._is_in_use:
                self._close_file()

    def _close_file(self) -> None:
        with self._closing_file:  # who comes second may open the pool again when this is over
            if self._writeback is not None:
                self._writeback.stop()
            if self._file is not None and not self._leave_to_views(self._file):
                self._detach()
                self._file.unlock()

    def _forget_after_fork(self) -> None:
        if self._is_in_use:
            self._forked()
        self._closing_file = contextlib.nullcontext()  # a thread of the parent's may have it
        if self._writeback is not None:
            self._writeback.forget_thread()
        if self._file is not None:
            self._file.close()  # the lock is the open file's, which the parent still has: it stays

    def __del__(self) -> None:
        if self._file is not None:
            self._file.adopted = False
        try:
            with contextlib.suppress(BufferError):  # then the file is theirs
                self._close()
        finally:
            self._close_file()
