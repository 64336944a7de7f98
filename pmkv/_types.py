"""The types that the package's signatures are written in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from typing_extensions import Buffer
else:
    Buffer = bytes | bytearray | memoryview

Key = Buffer | str
Value = Buffer | str
Pairs = Mapping[Any, Any] | Iterable[tuple[Key, Any]]


class Bounds(TypedDict, total=False):
    """What restricts a scan to a range of keys."""

    prefix: Key
    start: Key
    stop: Key
    include_start: bool
    include_stop: bool


class PathStat(TypedDict):
    """What `stat()` counts of a path, or a codec: values, their bytes before it and behind."""

    entries: int
    raw_bytes: int
    stored_bytes: int


class WritebackStat(TypedDict):
    """What `stat()` says of lazy writes: commits, what they held, and what was still dirty."""

    batches: int
    values: int
    bytes: int
    dirty: int


class CacheStat(TypedDict):
    """What `stat()` says of the cache of decoded values."""

    entries: int
    bytes: int
    hits: int
    misses: int
    evictions: int


class Stat(TypedDict):
    """What `stat()` returns; sizes in bytes.

    `entries` and `live_bytes` are of the default namespace; `paths` and `codecs` of all. The bytes
    of the direct path are those of its values and of all keys. `file_size` is the file's length: a
    pool that grows may be 2 MiB ahead of what it needs, or on DAX a 64th, until it is closed.
    """

    entries: int
    live_bytes: int
    used_bytes: int
    free_bytes: int
    file_size: int
    pages: int
    free_pages: int
    limbo_entries: int
    commit: int
    paths: dict[str, PathStat]
    codecs: dict[str, PathStat]
    writeback: WritebackStat
    cache: CacheStat


class PoolInfo(TypedDict):
    """The part of `info()` that the pool itself says."""

    file_size: int
    format_version: int
    uuid: str
    creator: str
    created_ns: int
    page_size: int
    section_size: int
    ring_size: int
    max_size: int | None
    flush: str
    map_sync: bool
    writable: bool
    replayed_commits: int


class Info(PoolInfo):
    """What `info()` returns."""

    path: str
    flag: str
    persistence: str
    persistence_reason: str
    durable: str
    keys: str
    values: str
    ordered: bool
    codec: str | None
    durability: str


class Memory(TypedDict):
    """What `memory()` returns: DRAM that the handle holds, in bytes. None is per key."""

    handle_bytes: int
    transaction_bytes: int
    pin_bytes: int
    views: int
    cache_bytes: int
    buffer_bytes: int
    total_bytes: int
