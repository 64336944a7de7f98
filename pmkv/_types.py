"""The types that the package's signatures are written in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

Key = bytes | bytearray | memoryview | str
Value = bytes | bytearray | memoryview | str
Pairs = Mapping[Any, Any] | Iterable[tuple[Key, Any]]


class Bounds(TypedDict, total=False):
    """What restricts a scan to a range of keys."""

    prefix: Key
    start: Key
    stop: Key
    include_start: bool
    include_stop: bool


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


class Memory(TypedDict):
    """What `memory()` returns: DRAM that the handle holds, in bytes. None of it is per key."""

    handle_bytes: int
    transaction_bytes: int
    pin_bytes: int
    views: int
    cache_bytes: int
    buffer_bytes: int
    total_bytes: int
