"""The engines that are compared: pmkv and its peers behind one small face.

May know: _common.py and each engine's own package, imported when it is opened.

Invariants
  1. What a benchmark calls in its loop is the engine's own method wherever it has one that
     takes a key, or a key and a value.  Where it has none (a transaction for each put of LMDB,
     a statement of SQLite) it is one closure, some 40 ns in operations of microseconds.
  2. `power_safe=False` asks each for what survives the end of the process, `True` for what
     survives a power cut too.  pmkv alone does more than it was asked when the answer is
     False: it flushes and fences every line, as on persistent memory.
  3. Peers are set up for speed where it costs them no safety: no compression (the values do not
     compress), Bloom filters, reads by mmap.  All else is as their makers chose.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from _common import Pair, allocated_bytes, medians, note, wait_until_quiet

_MAP_SIZE = 64 << 30  # LMDB's limit; address space, not memory
_SQL_TABLE = "CREATE TABLE IF NOT EXISTS kv (k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID"
_SQL_PUT = "INSERT OR REPLACE INTO kv VALUES (?, ?)"
_SQL_GET = "SELECT v FROM kv WHERE k = ?"
_SQL_PREFIX = "SELECT k, v FROM kv WHERE k BETWEEN ? AND ? ORDER BY k"
_SQL_SCAN = "SELECT k, v FROM kv WHERE k >= ? ORDER BY k LIMIT ?"


class Reader(NamedTuple):
    """How an engine reads."""

    get: Callable[[bytes], bytes | None]
    get_many: Callable[[list[bytes]], object]
    view: Callable[[bytes], object]  # without a copy where the engine can, else `get`
    scan: Callable[[bytes, int | None], Iterable[Pair]] | None = None  # in order, from a key on
    prefixed: Callable[[bytes], Iterable[Pair]] | None = None  # in order, those that begin so


class Engine:
    """A store in a directory of its own.  Subclasses open it and set the methods to call."""

    name: ClassVar[str]
    module: ClassVar[str]  # must be importable
    also: ClassVar[tuple[str, ...]] = ()  # and so must these
    brought_by: ClassVar[str] = "pip install pmkv[bench] brings it"
    settings: ClassVar[str]

    put: Callable[[bytes, bytes], object]  # durable when it returns
    put_many: Callable[[list[Pair]], object]  # atomic where the engine can
    transact: Callable[[list[Pair]], object]  # put by put in a transaction, where it has them
    finish: Callable[[], object]  # waits until all that was put lies as it will be stored
    reader: Reader
    close: Callable[[], object]

    def __init__(self, directory: Path, power_safe: bool) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self._open(str(directory / "store"), power_safe)
        if not hasattr(self, "transact"):
            self.transact = self.put_many
        if not hasattr(self, "finish"):
            self.finish = lambda: None

    def _open(self, path: str, power_safe: bool) -> None:
        raise NotImplementedError

    @contextlib.contextmanager
    def reading(self) -> Iterator[Reader]:
        """What to read with; a transaction for engines that read in one."""
        yield self.reader

    def snapshot(self) -> contextlib.AbstractContextManager[Reader] | None:
        """What to read one moment with while others write; None where there is no such."""
        return None

    def storage_bytes(self) -> int:
        """Bytes that the store's files take."""
        return allocated_bytes(self.directory)


class Pmkv(Engine):
    """The subject."""

    name = "pmkv"
    module = "pmkv"
    brought_by = "pip install pmkv brings it"
    settings = "every line flushed and fenced (cache-line domain); on a disk the page domain"
    ordered: ClassVar[bool] = True
    options: ClassVar[dict[str, Any]] = {}  # of open(), besides

    def _open(self, path: str, power_safe: bool) -> None:
        import pmkv

        domain: Any = "auto" if power_safe else "cacheline"
        db = pmkv.open(path, persistence=domain, ordered=self.ordered, **self.options)
        self.put, self.put_many, self.close = db.put, db.put_many, db.close
        self.finish = db.sync
        self.reader = Reader(db.get, db.get_many, db.view)
        if self.ordered:
            self.reader = self.reader._replace(
                scan=lambda start, limit: db.items(start=start, limit=limit),
                prefixed=lambda prefix: db.items(prefix=prefix),
            )
        self._db_snapshot = db.snapshot

        def transact(pairs: list[Pair]) -> None:
            with db.begin(write=True) as txn:
                put = txn.put
                for key, value in pairs:
                    put(key, value)

        self.transact = transact

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[Reader]:
        with self._db_snapshot() as moment:
            scan = None
            if self.ordered:
                scan = lambda start, limit: moment.items(start=start, limit=limit)  # noqa: E731
            yield Reader(moment.get, moment.get_many, moment.view, scan)

    def snapshot(self) -> contextlib.AbstractContextManager[Reader]:
        """A snapshot of the store."""
        return self._snapshot()


class PmkvUnordered(Pmkv):
    """The subject without ordered keys: what order costs, and for peers that have none."""

    name = "pmkv-u"
    settings = "as pmkv, with ordered=False"
    ordered = False


class Lmdb(Engine):
    """LMDB as it comes: a transaction for each put, one transaction open for all reads."""

    name = "lmdb"
    module = "lmdb"
    settings = "defaults (sync=True); a transaction a put, one for reads, buffers=True for views"
    writemap: ClassVar[bool] = False

    def _open(self, path: str, power_safe: bool) -> None:
        import lmdb

        env = lmdb.open(path, subdir=False, map_size=_MAP_SIZE, writemap=self.writemap)
        begin = self._begin = env.begin
        self.close = env.close

        def put(key: bytes, value: bytes) -> None:
            with begin(write=True) as txn:
                txn.put(key, value)

        def put_many(pairs: list[Pair]) -> None:
            with begin(write=True) as txn, txn.cursor() as cursor:
                cursor.putmulti(pairs)

        def transact(pairs: list[Pair]) -> None:
            with begin(write=True) as txn:
                put = txn.put
                for key, value in pairs:
                    put(key, value)

        self.put, self.put_many, self.transact = put, put_many, transact

    @contextlib.contextmanager
    def reading(self) -> Iterator[Reader]:
        with self._begin() as txn, txn.cursor() as cursor, self._begin(buffers=True) as viewing:

            def scan(start: bytes, limit: int | None) -> Iterable[Pair]:
                cursor.set_range(start)
                return islice(cursor, limit)

            def prefixed(prefix: bytes) -> Iterable[Pair]:
                return beginning(prefix, scan(prefix, None))

            yield Reader(txn.get, cursor.getmulti, viewing.get, scan, prefixed)

    def snapshot(self) -> contextlib.AbstractContextManager[Reader]:
        """A read transaction, which shows the moment at which it began."""
        return self.reading()


class LmdbWritemap(Lmdb):
    """LMDB writing into its map: faster, and a stray pointer of the program can damage it."""

    name = "lmdb-wm"
    settings = "as lmdb, with writemap=True"
    writemap = True


class Plyvel(Engine):
    """LevelDB."""

    name = "plyvel"
    module = "plyvel"
    settings = "no sync (on a disk: sync=True), no compression, Bloom filter of 10 bits a key"

    def _open(self, path: str, power_safe: bool) -> None:
        import plyvel

        db = plyvel.DB(path, create_if_missing=True, compression=None, bloom_filter_bits=10)
        get, batch = db.get, functools.partial(db.write_batch, sync=power_safe)
        self.put = functools.partial(db.put, sync=True) if power_safe else db.put
        self.close = db.close
        self.reader = Reader(
            get,
            looped(get),
            get,
            lambda start, limit: islice(db.iterator(start=start), limit),
            lambda prefix: db.iterator(prefix=prefix),
        )
        self._db_snapshot = db.snapshot

        def put_many(pairs: list[Pair]) -> None:
            with batch() as writing:
                for key, value in pairs:
                    writing.put(key, value)

        self.put_many = put_many

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[Reader]:
        with contextlib.closing(self._db_snapshot()) as moment:
            get, iterator = moment.get, moment.iterator
            yield Reader(
                get, looped(get), get, lambda start, limit: islice(iterator(start=start), limit)
            )

    def snapshot(self) -> contextlib.AbstractContextManager[Reader]:
        """A snapshot of the database."""
        return self._snapshot()


class Rocksdict(Engine):
    """RocksDB."""

    name = "rocksdict"
    module = "rocksdict"
    settings = "no sync (on a disk: sync), no compression, Bloom filter of 10 bits, mmap reads"

    def _open(self, path: str, power_safe: bool) -> None:
        import rocksdict

        db = rocksdict.Rdict(path, self._options())
        writing = rocksdict.WriteOptions()
        writing.sync = power_safe
        db.set_write_options(writing)
        new_batch = functools.partial(rocksdict.WriteBatch, raw_mode=True)
        self.put, self.finish, self.close = db.put, db.flush, db.close
        self.reader = Reader(
            db.get,
            db.get,
            db.get,
            lambda start, limit: islice(db.items(from_key=start), limit),
            lambda prefix: beginning(prefix, db.items(from_key=prefix)),
        )

        def put_many(pairs: list[Pair]) -> None:
            batch = new_batch()
            for key, value in pairs:
                batch.put(key, value)
            db.write(batch)

        self.put_many = put_many

    @staticmethod
    def _options() -> Any:
        import rocksdict

        blocks = rocksdict.BlockBasedOptions()
        blocks.set_bloom_filter(10, False)
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(blocks)
        options.set_compression_type(rocksdict.DBCompressionType.none())
        options.set_allow_mmap_reads(True)
        return options


class Sqlite(Engine):
    """SQLite as a key-value table."""

    name = "sqlite3"
    module = "sqlite3"
    brought_by = "Python brings it where it was built with SQLite"
    settings = "WITHOUT ROWID, WAL, mmap, synchronous=NORMAL (on a disk: FULL)"

    def _open(self, path: str, power_safe: bool) -> None:
        db = sqlite3.connect(path, isolation_level=None)
        run = self._run = db.execute
        self._run_many, self.close = db.executemany, db.close
        for pragma in ("journal_mode=WAL", "mmap_size=17179869184"):
            run(f"PRAGMA {pragma}")
        run(f"PRAGMA synchronous={'FULL' if power_safe else 'NORMAL'}")
        run(_SQL_TABLE)

        def put(key: bytes, value: bytes) -> None:
            run(_SQL_PUT, (key, value))

        def get(key: bytes) -> bytes | None:
            row = run(_SQL_GET, (key,)).fetchone()
            return row and row[0]

        def scan(start: bytes, limit: int | None) -> Iterable[Pair]:
            return run(_SQL_SCAN, (start, -1 if limit is None else limit))

        self.put = put

        def prefixed(prefix: bytes) -> Iterable[Pair]:
            return run(_SQL_PREFIX, (prefix, prefix + bytes([255] * 16)))

        self.reader = Reader(get, looped(get), get, scan, prefixed)

    def put_many(self, pairs: list[Pair]) -> None:
        """A transaction around executemany."""
        self._run("BEGIN")
        self._run_many(_SQL_PUT, pairs)
        self._run("COMMIT")


class Gdbm(Engine):
    """dbm.gnu."""

    name = "dbm.gnu"
    module = "_gdbm"
    brought_by = "Python brings it where it was built with GNU dbm (python3-gdbm)"
    settings = "defaults (on a disk: flag 's')"

    def _open(self, path: str, power_safe: bool) -> None:
        from dbm import gnu

        db = gnu.open(path, "cs" if power_safe else "c")  # noqa: SIM115 - open until close()
        put, get = db.__setitem__, db.get
        self.put, self.close = put, db.close
        self.reader = Reader(get, looped(get), get)

        def put_many(pairs: list[Pair]) -> None:
            for key, value in pairs:
                put(key, value)

        self.put_many = put_many


class Dict(Engine):
    """No store at all: the built-in dict, for scale."""

    name = "dict"
    module = "builtins"
    settings = "in memory; holds the very key objects that are looked up: its best case"

    def _open(self, path: str, power_safe: bool) -> None:
        held: dict[bytes, bytes] = {}
        self.put, self.put_many, self.close = held.__setitem__, held.update, held.clear
        self.reader = Reader(held.get, looped(held.get), held.get)


PEERS: tuple[type[Engine], ...] = (Lmdb, LmdbWritemap, Plyvel, Rocksdict, Sqlite, Gdbm)
ENGINES = {engine.name: engine for engine in (Pmkv, PmkvUnordered, *PEERS, Dict)}


def looped(get: Callable[[bytes], bytes | None]) -> Callable[[list[bytes]], object]:
    """A get_many for engines without one: the loop that a user would write."""

    def get_many(keys: list[bytes]) -> object:
        return [get(key) for key in keys]

    return get_many


def beginning(prefix: bytes, pairs: Iterable[Pair]) -> Iterable[Pair]:
    """Pairs up to the first whose key does not begin so: for engines that scan from a key on."""
    return takewhile(lambda pair: pair[0].startswith(prefix), pairs)


def installed(*engines: type[Engine]) -> list[type[Engine]]:
    """Those engines that can be imported here; says what brings each of the others."""
    found = []
    for engine in engines:
        if all(map(importlib.util.find_spec, (engine.module, *engine.also))):
            found.append(engine)
        else:
            note(f"skipped: {engine.name} is not installed; {engine.brought_by}")
    return found


def described(engines: list[type[Engine]]) -> dict[str, str]:
    """Each engine's version and settings, for the head of a report."""
    return {engine.name: f"{_version(engine)}; {engine.settings}" for engine in engines}


def _version(engine: type[Engine]) -> str:
    if engine is Sqlite:
        return sqlite3.sqlite_version
    try:
        return metadata.version(engine.module)
    except metadata.PackageNotFoundError:
        return "of this Python"


def take_turns(
    engines: Sequence[Engine], repeat: int, work: Callable[[Engine, int], float]
) -> dict[str, float]:
    """The median of `work(engine, turn)` for each engine, interleaved: A B C, A B C, ...

    A disturbance of the machine that outlasts a turn then meets all of them.
    """
    samples: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for turn in range(repeat):
        for engine in engines:
            samples[engine.name].append(work(engine, turn))
            wait_until_quiet()
    return medians(samples)
