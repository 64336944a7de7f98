"""pmkv.open: finds, makes, locks and attaches the file."""

from __future__ import annotations

import contextlib
import copyreg
import ctypes
import errno
import fcntl
import mmap
import os
import re
import secrets
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from pmkv import _codec, _coding, _medium, _objects, _store
from pmkv._descriptor import Descriptor
from pmkv._errors import (
    Error,
    LockError,
    PoolFileError,
    PoolIsADirectoryError,
    PoolNotFoundError,
    PoolPermissionError,
)
from pmkv._face import Face
from pmkv._handle import Namespace, Snapshot, Store, Transaction
from pmkv._version import __version__
from pmkv._writeback import Writeback

# Sizes of a new pool, in bytes and pages: 6 MiB of file to begin with.
_INITIAL_PAGES: Final = 512


class _Geometry(NamedTuple):
    """How a new pool is laid out: bytes of its header and redo ring, pages of a section."""

    header_size: int
    ring_size: int
    section_pages: int


_USUAL: Final = _Geometry(2 << 20, 1536 << 10, 32768)  # everything on huge pages' boundaries
_SMALL: Final = _Geometry(256 << 10, 128 << 10, 1024)  # where max_size leaves no room for that
_SMALL_BELOW: Final = 16 << 20
_RESERVE_SIZE: Final = 1 << 40

_KEYS_STR: Final = 1
_UNORDERED: Final = 2

_UNITS: Final = {"": 1, "b": 1, "k": 10, "m": 20, "g": 30, "t": 40}
_open_stores: weakref.WeakValueDictionary[int, Store] = weakref.WeakValueDictionary()


def _bytes_of(size: int | str | None, name: str = "max_size", least: int = 1) -> int | None:
    """A size in bytes: 1048576 and "1 MiB" are the same."""
    if size is None or (isinstance(size, int) and not isinstance(size, bool) and size >= least):
        return size
    if isinstance(size, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", size.lower())
        if found:
            unit = _UNITS[found[2]] if found[2] else 0
            number = int(float(found[1]) * (1 << unit))
            if number >= least:
                return number
    raise ValueError(f"{name} is a number of bytes or a text such as '1 GiB', not {size!r}")


def _choose(name: str, given: object, allowed: tuple[object, ...]) -> None:
    if given not in allowed:
        raise ValueError(f"{name} is one of {', '.join(map(repr, allowed))}, not {given!r}")


def _wrapped(error: OSError, path: str, flag: str) -> Error:
    """The system's refusal as a pmkv.Error that is the same OSError too."""
    number = error.errno or 0
    if isinstance(error, FileNotFoundError):
        hint = "no such pool; flag='c' makes one"
        if flag in "cn":
            hint = f"the directory {os.path.dirname(path)!r} is missing; make it first"
        return PoolNotFoundError(number, hint, path)
    if isinstance(error, IsADirectoryError):
        return PoolIsADirectoryError(number, "a pool is a file, and this is a directory", path)
    if isinstance(error, PermissionError) or number == errno.EROFS:
        hint = "not allowed to read it" if flag == "r" else "not allowed to write; flag='r' reads"
        return PoolPermissionError(number, f"{os.strerror(number)}: {hint}", path)
    return PoolFileError(number, error.strerror or str(error), path)


def _holder(fd: int) -> str:
    """Who holds the lock on this file, from /proc/locks."""
    status = os.fstat(fd)
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        lines = []
    for fields in lines:
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == wanted and fields[4].isdigit():
            pid = int(fields[4])
            if pid == os.getpid():
                return (
                    f"this process ({pid}), through another handle or a view of one that is gone,"
                )
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                words = command.replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                words = ""
            return f"process {pid}" + (f" ({words[:120]})" if words else "")
    return "another process"


def _lock(fd: int, path: str, writable: bool) -> None:
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if writable else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        wanted = "write to" if writable else "read"
        raise LockError(
            errno.EAGAIN,
            f"cannot open it to {wanted} it: {_holder(fd)} has it open; close it there first",
            path,
        ) from None


@contextlib.contextmanager
def _closing_on_error(file: Descriptor) -> Iterator[None]:
    try:
        yield
    except BaseException:
        file.close()
        raise


def _make(fd: int, path: str, persistence: str, max_size: int | None, options: int) -> None:
    """Writes an empty pool into an open, empty file (or over a DAX device)."""
    medium = _medium.examine(fd, path, persistence)
    core = Store()
    core._set_medium(
        path,
        fd,
        _store.DOMAINS.index(medium.persistence),
        medium.synchronous,
        True,
        medium.device_size,
        max_size,
        _RESERVE_SIZE,
        1,
    )
    core._create(
        secrets.token_bytes(16),
        secrets.token_bytes(16),
        f"pmkv {__version__}".encode(),
        time.time_ns(),
        *(_SMALL if max_size is not None and max_size < _SMALL_BELOW else _USUAL),
        _INITIAL_PAGES,
        options,
    )


def _sync_directory(path: str) -> None:
    fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(fd)
    finally:
        os.close(fd)


def _rename_new(old: str, new: str) -> None:
    """Renames, or raises FileExistsError: whoever was first keeps the name."""
    libc = ctypes.CDLL(None, use_errno=True)
    no_replace = 1
    if hasattr(libc, "renameat2"):
        at_here = -100
        if libc.renameat2(at_here, os.fsencode(old), at_here, os.fsencode(new), no_replace) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, os.strerror(number), new)
    os.link(old, new)  # a file system without it; the old name is unlinked by the caller


def _make_file(
    path: str, mode: int, persistence: str, max_size: int | None, options: int, replace: bool
) -> Descriptor:
    """Makes a whole pool beside `path` and then gives it the name: there is no half of one.

    Returns a locked descriptor. If another process was first and `replace` is false, that
    pool is opened instead. A symbolic link stays one: what it leads to is made or replaced.
    """
    path = os.path.realpath(path)
    beside = f"{path}.new-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        file = Descriptor(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        with _closing_on_error(file):
            _lock(file.number, path, True)
            _make(file.number, path, persistence, max_size, options)
            os.fsync(file.number)
            if replace:
                os.replace(beside, path)
            else:
                _rename_new(beside, path)
            _sync_directory(path)
        return file
    except FileExistsError:
        file = Descriptor(path, os.O_RDWR)
        with _closing_on_error(file):
            _lock(file.number, path, True)
        return file
    finally:
        try:  # noqa: SIM105 - no call before it, behind which Ctrl-C might come
            os.unlink(beside)
        except FileNotFoundError:
            pass


def _is_blank_device(fd: int) -> bool:
    """Whether nothing was ever written to where a DAX device's superblock would be."""
    with mmap.mmap(fd, 2 << 20, prot=mmap.PROT_READ) as start:
        return not any(start[:4096])


def _still_there(fd: int, path: str) -> bool:
    """Whether the path still leads to the file: it may have been replaced before the lock."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _open_file(
    path: str, flag: str, mode: int, persistence: str, max_size: int | None, options: int
) -> Descriptor:
    """A locked descriptor of a pool at `path`, made as the flag allows."""
    writable = flag != "r"
    try:
        file = Descriptor(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_NONBLOCK)
    except FileNotFoundError:
        if flag in "rw":
            raise
        return _make_file(path, mode, persistence, max_size, options, False)
    with _closing_on_error(file):
        device_size = _medium.device_size(file.number, path)
        _lock(file.number, path, writable)
        if not _still_there(file.number, path):
            file.close()
            return _open_file(path, flag, mode, persistence, max_size, options)
        if device_size:
            if flag == "r":
                raise PoolFileError(
                    errno.EOPNOTSUPP, "a DAX device cannot be opened read only", path
                )
            if flag == "n" or (flag == "c" and _is_blank_device(file.number)):
                _make(file.number, path, persistence, max_size, options)
        elif flag == "n" or (flag == "c" and os.fstat(file.number).st_size == 0):
            replaced = _make_file(path, mode, persistence, max_size, options, True)
            file.close()
            return replaced
    return file


def _reopen(path: str, flag: Literal["r", "w"], options: dict[str, Any]) -> Store:
    """What unpickling does: the other side opens the pool itself, and needs its lock."""
    return open(path, flag, **options)


def _reduced(store: Store) -> tuple[Any, ...]:
    """What is pickled of a store: path and options."""
    return _reopen, (store.path, "r" if store._flag == "r" else "w", store._options_given)


def _refuse_pickle(handle: Face) -> tuple[Any, ...]:
    raise TypeError(f"{handle!r} belongs to this process; pickle the store, and ask that for it")


copyreg.pickle(Store, _reduced)
for _kind in (Namespace, Snapshot, Transaction):
    copyreg.pickle(_kind, _refuse_pickle)


def _forget_in_child() -> None:
    """A child shares its parent's mapping and lock, and owns neither."""
    for store in list(_open_stores.values()):
        store._forget_after_fork()


os.register_at_fork(after_in_child=_forget_in_child)


def _contradiction(stored: int, keys: str | None, ordered: bool | None) -> str:
    """What the pool's options say against those that were asked for, if anything."""
    if keys is not None and (keys == "str") != bool(stored & _KEYS_STR):
        return f"its keys are {'str' if stored & _KEYS_STR else 'bytes'}, not {keys}"
    if ordered is not None and ordered == bool(stored & _UNORDERED):
        return f"it was made with ordered={not ordered}"
    return ""


def open(
    path: str | os.PathLike[str],
    flag: Literal["r", "w", "c", "n"] = "c",
    mode: int = 0o666,
    *,
    codec: str | None = None,
    key: bytes | None = None,
    keys: Literal["bytes", "str"] | None = None,
    values: Literal["bytes", "msgpack", "pickle"] | _objects.Dumps | None = None,
    ordered: bool | None = None,
    durability: Literal["sync", "lazy"] = "sync",
    buffer_size: int | str = "32 MiB",
    writeback_interval: float = 1.0,
    cache_size: int | str = "32 MiB",
    max_size: int | str | None = None,
    persistence: Literal["auto", "cacheline", "byte", "page", "process"] = "auto",
    verify: bool | Literal["all"] = True,
) -> Store:
    """Opens the pool at `path`, and makes it if it is missing.

    path: a file on DAX, tmpfs or a disk, or a DAX device.
    flag: "r" read only, "w" read and write, "c" the same and made if missing, "n" made anew.
    mode: permissions of a new file, less the umask.
    keys, values, ordered: None, the default, is what the pool says; of a new one what is said here.
    keys: what iteration returns keys as; kept in the pool, "bytes" for a new one.
    codec: what new values are encoded with: "lz4"; "zstd", "aes", "chacha20" (extras); a codec of
        your own (`pmkv.register_codec`); several: "lz4+aes". Kept in the pool; given again, it is
        from then on another, "plain" for none: values that are there keep theirs.
    key: of encryption, 32 bytes (for aes also 16 or 24); never stored, nor pickled.
    values: "bytes"; "msgpack": objects, with dates, tuples, sets, NumPy arrays; "pickle", which
        runs what is in the pool, and so must be asked for each time; or an object with dumps and
        loads, which must be given each time. Kept in the pool, "bytes" for a new one.
    ordered: whether ordered keys are wanted; kept in the pool, True for a new one.
        Without them there are no ranges, prefixes, or cursors, and less is stored.
    durability: "sync": a write is durable when it returns. "lazy": it returns at once; what is
        dirty is written back by `sync()`, `close()`, when the buffer is half full, and after
        `writeback_interval` seconds. A crash loses what is dirty, never a part of a batch, and
        nothing earlier before something later.
    buffer_size: DRAM that dirty values may take, bytes or a text.
    cache_size: DRAM that decoded values may take, for values under codecs; 0 for none.
    max_size: bytes, or a text such as "1 GiB", that the file may grow to; kept in a new pool.
        Of one that is there, it holds for this handle.
    persistence: how far a store must be pushed to survive; "auto" finds out (see `info()`).
    verify: True tests the checksum of every value read (of a view: if it fits a page, its
        record; of a larger one the header and key); "all" tests larger views too; False none, but
        where values are under a codec.

    Raises PoolNotFoundError (FileNotFoundError), PoolPermissionError (PermissionError),
    LockError (names who has it open), CorruptedError (foreign, damaged or truncated file),
    VersionMismatchError (newer), CodecError (the key does not fit), PoolFullError, ValueError.
    A file that is refused is not written to.
    """
    path = os.path.abspath(os.fsdecode(path))
    _choose("flag", flag, ("r", "w", "c", "n"))
    _choose("persistence", persistence, ("auto", *_store.DOMAINS))
    asked = None if values is None else _objects.serializer(values)
    _choose("durability", durability, ("sync", "lazy"))
    _choose("verify", verify, (True, False, "all"))
    _choose("keys", keys, ("bytes", "str", None))
    _choose("ordered", ordered, (True, False, None))
    limit = _bytes_of(max_size)
    buffer_bytes = _bytes_of(buffer_size, "buffer_size", 0) or 0
    cache_bytes = _bytes_of(cache_size, "cache_size", 0) or 0
    if not writeback_interval > 0:
        raise ValueError(
            f"writeback_interval is in seconds, more than 0, not {writeback_interval!r}"
        )
    options = _KEYS_STR if keys == "str" else 0
    options |= _UNORDERED if ordered is not None and not ordered else 0
    options |= asked.option if asked is not None else 0
    options |= _coding.options_of(codec)
    _coding.need(None if flag == "r" else codec, _codec.Context(key))
    try:
        file = _open_file(path, flag, mode, persistence, limit, options)
    except Error:
        raise
    except OSError as error:
        raise _wrapped(error, path, flag) from error
    with _closing_on_error(file):
        medium = _medium.examine(file.number, path, persistence)
        store = Store()
        store._set_medium(
            path,
            file.number,
            _store.DOMAINS.index(medium.persistence),
            medium.synchronous,
            flag != "r",
            medium.device_size,
            limit,
            _RESERVE_SIZE,
            2 if verify == "all" else int(verify),
        )
        try:
            store._attach(medium.device_size or os.fstat(file.number).st_size)
            contradiction = _contradiction(store._options(), keys, ordered)
            if contradiction:
                raise Error(f"{path}: {contradiction}")
            serializer = _objects.agreed(store._options(), asked, path)
            writeback = Writeback(
                path, store._set_sizes(buffer_bytes, cache_bytes), writeback_interval
            )
            store._write_back_by(writeback, durability == "lazy")
            context = _coding.context_of(store, key)
            if key is not None:
                _coding.try_key(store, context, path)
            _coding.use_codec(store, store, context, "", codec)
            given: dict[str, Any] = {
                "max_size": limit,
                "persistence": persistence,
                "verify": verify,
                "durability": durability,
                "buffer_size": buffer_bytes,
                "writeback_interval": writeback_interval,
                "cache_size": cache_bytes,
            }
            if values is not None:
                given["values"] = values
            store._adopt(file, flag, medium, given, serializer, writeback, open)
            _open_stores[id(store)] = store
        except BaseException:
            store._close()
            store._detach()  # whoever keeps the exception keeps the store, but not this descriptor
            raise
    return store
