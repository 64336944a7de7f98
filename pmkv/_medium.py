"""What a path lies on, and how far a store to it must be pushed to survive.

Decides the persistence domain (see docs/durability.md). Everything here is read from
the system once, when a pool is opened.
"""

from __future__ import annotations

import ctypes
import os
import stat
from pathlib import Path
from typing import NamedTuple

from pmkv import _engine
from pmkv._errors import PoolFileError, PoolIsADirectoryError

# statfs(2): file systems that live in memory and vanish with the machine's power.
_MEMORY_FILE_SYSTEMS = {0x01021994: "tmpfs", 0x858458F6: "ramfs", 0x958458F6: "hugetlbfs"}

PROMISES = {
    "process": "survives the end or kill of any process; not a power cut or a crash of the machine",
    "cacheline": "durable when a write returns: survives a power cut",
    "byte": "durable when a write returns: survives a power cut",
    "page": "durable when a write returns, if the disk keeps what it says it has synced",
}


class Medium(NamedTuple):
    """What was found out about an open file."""

    persistence: str
    reason: str
    synchronous: bool
    device_size: int
    durable: str


def _file_system_type(fd: int) -> int:
    found = (ctypes.c_long * 32)()  # struct statfs, of which the first word is the type
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fstatfs(fd, ctypes.byref(found)) != 0:
        return 0
    return int(found[0]) & 0xFFFFFFFF


def _caches_survive_power_loss() -> bool:
    """eADR: only if every region of persistent memory says so."""
    regions = list(Path("/sys/bus/nd/devices").glob("region*/persistence_domain"))
    try:
        return bool(regions) and all(r.read_text().strip() == "cpu_cache" for r in regions)
    except OSError:
        return False


def _dax_device_size(status: os.stat_result) -> int:
    """Bytes of a DAX device, or 0 if the character device is something else."""
    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
    place = Path("/sys/dev/char") / number
    try:
        if (place / "subsystem").resolve().name != "dax":
            return 0
        return int((place / "size").read_text())
    except (OSError, ValueError):
        return 0


def device_size(fd: int, path: str) -> int:
    """0 for a regular file, the size of a DAX device, an error for anything else."""
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode):
        return 0
    if stat.S_ISDIR(status.st_mode):
        raise PoolIsADirectoryError(21, "a pool is a file, and this is a directory", path)
    if stat.S_ISCHR(status.st_mode):
        size = _dax_device_size(status)
        if size:
            return size
    raise PoolFileError(22, "a pool is a regular file or a DAX device, and this is neither", path)


def _promise(found: str, used: str) -> str:
    """What a domain gives on a medium: flushing lines does not reach a disk."""
    enough = {
        "page": ("page",),
        "cacheline": ("cacheline", "page"),
        "byte": ("byte", "cacheline", "page"),
    }
    return PROMISES[used if used in enough.get(found, ()) else "process"]


def _find(fd: int, size: int, granted: bool) -> tuple[str, str]:
    """The domain that the medium has, and why."""
    what = "DAX device" if size else "file on a DAX file system (MAP_SYNC granted)"
    if granted or size:
        if _caches_survive_power_loss():
            return "byte", f"{what}; the platform flushes its caches (eADR)"
        if _engine.can_flush() != "none":
            return "cacheline", f"{what}; flushed with {_engine.can_flush()}"
    name = _MEMORY_FILE_SYSTEMS.get(_file_system_type(fd))
    if name:
        return "process", f"{name}: in memory, the kernel keeps it"
    return "page", "file behind the page cache: each commit is synced"


def examine(fd: int, path: str, asked: str) -> Medium:
    """The persistence domain of an open file: what was asked for, or what is found."""
    size = device_size(fd, path)
    granted = _engine.probe_sync(fd)
    found, reason = _find(fd, size, granted)
    if asked == "auto":
        return Medium(found, reason, granted, size, PROMISES[found])
    if asked == "cacheline" and _engine.can_flush() == "none":
        raise PoolFileError(95, "this processor has no instruction to flush a cache line", path)
    reason = f"chosen by persistence=; found: {found} ({reason})"
    return Medium(asked, reason, granted, size, _promise(found, asked))
