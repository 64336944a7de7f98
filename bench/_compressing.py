"""The engines of codecs.py: pmkv under a codec and without one, and peers that compress.

May know: _engines.py, and each engine's own package, imported when it is opened.

Invariants
  1. Whoever compresses does it with LZ4 at its default level.
  2. Whoever keeps decoded values in memory has the same room for them, `CACHE_SIZE`.
  3. None of the peers syncs; pmkv flushes and fences, as always.  `durability="lazy"` is what
     peers give, and is measured beside.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

from _common import Pair, note
from _engines import Engine, Pmkv, Reader, Rocksdict, installed, looped

CACHE_SIZE = 32 << 20
BUFFER_SIZE = 32 << 20  # of what lazy puts have not written back yet
_FOREVER = 1 << 50  # bytes: diskcache then never evicts

_SYNC = "each put survives a power cut"
_LAZY = "what was put since the last sync() or writeback may be lost"


class PmkvPlain(Pmkv):
    """The direct path: no codec."""

    settings = f"no codec; {_SYNC}; every line flushed and fenced (cache-line domain)"


class PmkvLazy(Pmkv):
    """No codec, through the buffer."""

    name = "pmkv-lazy"
    settings = f'as pmkv, with durability="lazy", a buffer of {BUFFER_SIZE >> 20} MiB: {_LAZY}'
    options: ClassVar[dict[str, Any]] = {"durability": "lazy", "buffer_size": BUFFER_SIZE}


class PmkvLz4(Pmkv):
    """Under a codec."""

    name = "pmkv-lz4"
    settings = f'as pmkv, with codec="lz4" and a cache of {CACHE_SIZE >> 20} MiB; {_SYNC}'
    options: ClassVar[dict[str, Any]] = {"codec": "lz4", "cache_size": CACHE_SIZE}


class PmkvLz4Lazy(Pmkv):
    """Under a codec, through the buffer."""

    name = "pmkv-lz4-lazy"
    settings = f'as pmkv-lz4, with durability="lazy": {_LAZY}'
    options: ClassVar[dict[str, Any]] = PmkvLz4.options | PmkvLazy.options


class PmkvLz4Uncached(Pmkv):
    """Under a codec, each value decoded again."""

    name = "pmkv-lz4-nc"
    settings = "as pmkv-lz4, with cache_size=0"
    options: ClassVar[dict[str, Any]] = PmkvLz4.options | {"cache_size": 0}


class RocksdictLz4(Rocksdict):
    """RocksDB, which compresses when it writes out a memtable: in the background, or in flush()."""

    settings = (
        "LZ4 on all levels, WAL without sync: a power cut loses what the system had not written; "
        f"block cache of {CACHE_SIZE >> 20} MiB, Bloom filter of 10 bits, mmap reads; "
        "its own two background jobs"
    )

    @staticmethod
    def _options() -> Any:
        import rocksdict

        lz4 = rocksdict.DBCompressionType.lz4()
        options = Rocksdict._options()
        options.set_compression_type(lz4)
        options.set_compression_per_level([lz4] * 7)
        blocks = rocksdict.BlockBasedOptions()
        blocks.set_bloom_filter(10, False)
        blocks.set_block_cache(rocksdict.Cache(CACHE_SIZE))
        options.set_block_based_table_factory(blocks)
        return options


class Diskcache(Engine):
    """diskcache: SQLite, and a file for each value of 32 KiB or more."""

    name = "diskcache"
    module = "diskcache"
    also = ("lz4",)
    settings = (
        "a Disk that compresses with LZ4; never evicts; SQLite's WAL with synchronous=NORMAL: "
        "a power cut loses the last transactions"
    )

    def _open(self, path: str, power_safe: bool) -> None:
        import diskcache
        from lz4.block import compress, decompress

        class Lz4Disk(diskcache.Disk):
            def store(self, value: Any, read: bool, key: Any = diskcache.UNKNOWN) -> Any:
                return super().store(compress(value), read, key=key)

            def fetch(self, mode: int, filename: str, value: Any, read: bool) -> Any:
                return decompress(super().fetch(mode, filename, value, read))

        db = diskcache.Cache(
            path, disk=Lz4Disk, size_limit=_FOREVER, eviction_policy="none", cull_limit=0
        )
        put, get, transact = db.set, db.get, db.transact
        self.put, self.close = put, db.close
        self.reader = Reader(get, looped(get), get)

        def put_many(pairs: list[Pair]) -> None:
            with transact():
                for key, value in pairs:
                    put(key, value)

        self.put_many = put_many


DIRECT = (PmkvPlain,)
BUFFERED = (PmkvLz4, PmkvLz4Lazy, PmkvLz4Uncached, PmkvLazy)
COMPRESSING = (RocksdictLz4, Diskcache)


def has_buffered_path() -> bool:
    """Whether the pmkv that is imported here has codecs and lazy puts: older checkouts have not."""
    import pmkv

    return "cache_size" in inspect.signature(pmkv.open).parameters


def taking_part() -> list[type[Engine]]:
    """All that can be measured here; says why any other is left out.  The subject is first."""
    if not has_buffered_path():
        note("skipped: codecs and lazy puts; this pmkv has only the direct path")
        return installed(*DIRECT, *COMPRESSING)
    return installed(*BUFFERED[:1], *DIRECT, *BUFFERED[1:], *COMPRESSING)
