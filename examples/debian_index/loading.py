"""The load, in a process that may die at any moment, and the witness that watches it.

The loader says over a pipe what it is about to commit (each key, and a checksum of its value),
commits, and says so.  A batch carries the record of progress in the same commit: either the
pool has the batch and knows it, or neither.  So a loader that starts again reads one key and
goes on, and the witness can tell of every key what the pool must hold after a kill.
"""

from __future__ import annotations

import json
import pickle
import random
import signal
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from index import Stage, merged, stages
from sources import fingerprint

import pmkv

PROGRESS = b"progress"
_KILLED_STAGE = "text"


class Progress(NamedTuple):
    """How far the load is. Kept in the pool under PROGRESS, put with the batch it counts."""

    sources: str
    stage: int = 0
    units: int = 0
    batches: int = 0
    done: bool = False

    @classmethod
    def of(cls, db: pmkv.Store) -> Progress | None:
        """What the pool says; None if nothing was loaded yet."""
        record = db.get(PROGRESS)
        return None if record is None else cls(**json.loads(record))

    def record(self) -> bytes:
        """As it is kept."""
        return json.dumps(self._asdict()).encode()


class Begun(NamedTuple):
    """The loader is about to commit a batch: the checksum of each value in it."""

    marks: dict[bytes, int]


class Done(NamedTuple):
    """The batch is committed: what it was, and how long put_many took."""

    stage: str
    units: int
    unit_count: int | None
    puts: int
    size: int
    seconds: float


# ---- the loader's side ----------------------------------------------------------------------


def load(path: Path, limit: int | None, witnessed: bool, pipe: Connection) -> None:
    """Loads what the pool does not have yet. Runs in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    try:
        with pmkv.open(path) as db:
            _load_rest(db, limit, witnessed, pipe)
    except Exception as error:
        pipe.send(error)


def _load_rest(db: pmkv.Store, limit: int | None, witnessed: bool, pipe: Connection) -> None:
    progress = _resumed(db, limit)
    plan = stages(limit)
    for number in range(progress.stage, len(plan)):
        for units in _batches(plan[number], progress.units):
            progress = progress._replace(
                units=progress.units + len(units), batches=progress.batches + 1
            )
            _load_batch(db, plan[number], units, progress, witnessed, pipe)
        progress = progress._replace(stage=number + 1, units=0)
    db[PROGRESS] = progress._replace(done=True).record()


def _resumed(db: pmkv.Store, limit: int | None) -> Progress:
    now = fingerprint(limit)
    progress = Progress.of(db)
    if progress is None and len(db):
        raise ValueError(f"{db.path} is a pool of something else; give another --pool")
    progress = progress or Progress(now)
    if progress.sources != now:
        raise ValueError(
            f"{db.path} was begun from other sources (packages have changed, or --limit has): "
            "remove it and load again"
        )
    return progress


def _batches(stage: Stage, skip: int) -> Iterator[list[Any]]:
    units = islice(stage.units, skip, None)
    while batch := list(islice(units, stage.batch_size)):
        yield batch


def _load_batch(
    db: pmkv.Store,
    stage: Stage,
    units: list[Any],
    progress: Progress,
    witnessed: bool,
    pipe: Connection,
) -> None:
    batch = merged(db, (pair for unit in units for pair in stage.pairs(unit)))
    batch[PROGRESS] = progress.record()
    if witnessed:
        pipe.send(Begun({key: zlib.crc32(value) for key, value in batch.items()}))
    begin = time.perf_counter()
    puts = db.put_many(batch)
    seconds = time.perf_counter() - begin
    size = sum(map(len, batch)) + sum(map(len, batch.values()))
    pipe.send(Done(stage.name, progress.units, stage.unit_count, puts, size, seconds))


# ---- the witness's side ---------------------------------------------------------------------


@dataclass
class Run:
    """One life of a loader, as the witness has seen it."""

    batches: int = 0
    puts: int = 0
    size: int = 0
    put_seconds: float = 0.0
    seconds: float = 0.0
    killed: bool = False
    marks: dict[bytes, int] = field(default_factory=dict)  # of acknowledged batches
    in_flight: dict[bytes, int] | None = None  # of the one begun and not acknowledged

    def take(self, message: Begun | Done) -> None:
        """Counts what the loader said."""
        if isinstance(message, Begun):
            self.in_flight = message.marks
            return
        self.marks |= self.in_flight or {}
        self.in_flight = None
        self.batches += 1
        self.puts += message.puts
        self.size += message.size
        self.put_seconds += message.seconds


class Loader:
    """Starts a loader, hears it, and kills it if asked to."""

    def __init__(self, path: Path, limit: int | None, kill: bool) -> None:
        spawn = get_context("spawn")
        self._pipe, far_end = spawn.Pipe(duplex=False)
        self._kill = kill
        self._process: BaseProcess = spawn.Process(
            target=load, args=(path, limit, kill, far_end), daemon=True
        )
        self._started = time.perf_counter()
        self._process.start()
        far_end.close()
        self.run = Run()

    def messages(self) -> Iterator[Done]:
        """Each acknowledged batch; ends with the loader's life."""
        last: Done | None = None
        try:
            for data in self._heard():
                if self._kill and last is not None and _is_half(last):
                    self._kill_within(last.seconds)  # before what was heard is even decoded
                message = self._decoded(data)
                self.run.take(message)
                if isinstance(message, Done):
                    last = message
                    yield message
            self._expect_end()
        finally:
            self._process.kill()
            self._process.join()

    def _heard(self) -> Iterator[bytes]:
        try:
            while True:
                yield self._pipe.recv_bytes()
        except (EOFError, OSError):  # the end, or half a message before it
            return

    def _decoded(self, data: bytes) -> Begun | Done:
        message: Begun | Done | Exception = pickle.loads(data)
        if isinstance(message, Exception):
            raise message
        return message

    def _expect_end(self) -> None:
        self._process.join()
        self.run.seconds = time.perf_counter() - self._started
        if self._process.exitcode and not self.run.killed:
            raise RuntimeError(f"the loader ended with exit code {self._process.exitcode}")

    def _kill_within(self, seconds: float) -> None:
        """SIGKILL while the loader commits: at once, or a quarter of a commit later."""
        if not self.run.killed:
            time.sleep(random.uniform(0, seconds / 4))
            self._process.kill()
            self.run.killed = True


def _is_half(last: Done) -> bool:
    return last.stage == _KILLED_STAGE and 2 * last.units >= (last.unit_count or 0)


# ---- after the kill -------------------------------------------------------------------------


class Survival(NamedTuple):
    """What a pool was like after its writer was killed."""

    open_seconds: float
    read_seconds: float
    replayed_commits: int
    keys: int
    keys_expected: int
    wrong: int
    in_flight: str
    problems: list[str]

    @property
    def whole(self) -> bool:
        """Whether nothing acknowledged was lost, and nothing is there by half."""
        return not self.wrong and not self.problems and self.keys == self.keys_expected


def examine(path: Path, run: Run) -> Survival:
    """Opens the pool of a killed loader, and compares every key with what it should be."""
    begin = time.perf_counter()
    with pmkv.open(path, "w") as db:
        opened = time.perf_counter()
        progress = Progress.of(db)
        read = time.perf_counter()
        landed = progress is not None and progress.batches > run.batches
        expected = run.marks | (run.in_flight or {}) if landed else run.marks
        return Survival(
            opened - begin,
            read - opened,
            db.info()["replayed_commits"],
            len(db),
            len(expected),
            _differences(db, expected),
            "none" if run.in_flight is None else "all there" if landed else "nothing of it there",
            db.check(),
        )


def _differences(db: pmkv.Store, expected: dict[bytes, int]) -> int:
    values = ((db.get(key), mark) for key, mark in expected.items())
    return sum(value is None or zlib.crc32(value) != mark for value, mark in values)
