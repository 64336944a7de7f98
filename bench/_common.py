"""What the benchmarks share: keys and values, clocks, scratch directories, child processes, tables.

May know: the standard library.  Knows no engine; those are in _engines.py.

Invariants
  1. A key and a value are functions of an index alone.  Every engine gets the same ones, any
     process can make them again, and nobody needs to hold them all.
  2. Keys are random to their last bit (a hash), values too: no engine gains by order or by
     compression.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import hashlib
import json
import math
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

KEY_SIZE = 16
VALUE_SIZE = 100
BATCH = 1000
GET_MANY = 100

Pair = tuple[bytes, bytes]

_SCHEDULER_COUNTS = Path("/proc/thread-self/schedstat")
_QUIET_SLICE_S = 0.05
_QUIET_LIMIT_S = 30.0


# ---- keys and values -----------------------------------------------------------------------


def key_at(index: int) -> bytes:
    """The key of an index: 16 bytes that look random and are the same in every run."""
    return hashlib.blake2b(index.to_bytes(8, "little"), digest_size=KEY_SIZE).digest()


def value_at(index: int, size: int = VALUE_SIZE) -> bytes:
    """The value of an index: a bytes object of its own that does not compress."""
    return hashlib.shake_128(index.to_bytes(8, "little")).digest(size)


@functools.lru_cache(maxsize=1)
def pairs_at(first: int, count: int, size: int = VALUE_SIZE) -> list[Pair]:
    """Pairs of consecutive indexes; kept, for the engines take turns with the same ones."""
    return [(key_at(index), value_at(index, size)) for index in range(first, first + count)]


@functools.lru_cache(maxsize=1)
def keys_at(first: int, count: int) -> list[bytes]:
    """Keys of consecutive indexes; kept as `pairs_at` keeps its pairs."""
    return [key_at(index) for index in range(first, first + count)]


def sample(keys: Sequence[bytes], count: int, seed: int) -> list[bytes]:
    """At most `count` of the keys in random order, the same for the same seed."""
    return random.Random(seed).sample(keys, min(count, len(keys)))


def just_made(keys: Sequence[bytes]) -> list[bytes]:
    """Equal keys that are other objects, their hashes not known yet."""
    return [bytes(bytearray(key)) for key in keys]


def batches(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """The items cut into runs of `size`."""
    return [items[first : first + size] for first in range(0, len(items), size)]


def load(put_many: Callable[[list[Pair]], object], count: int) -> None:
    """Stores the pairs of the first `count` indexes, made on the fly so that none is held."""
    for first in range(0, count, BATCH):
        indexes = range(first, min(first + BATCH, count))
        put_many([(key_at(index), value_at(index)) for index in indexes])


# ---- clocks --------------------------------------------------------------------------------


def elapsed_ns(work: Callable[[], object]) -> int:
    """Nanoseconds that one call takes, with the garbage collector at rest, as in timeit.

    It is wall time, waiting for a disk or a lock included, less the time in which this thread
    could have run and had no processor: on a busy machine that would measure the neighbours.
    """
    with _collector_at_rest():  # the wait of a collection is not the work's
        before = _without_processor_ns()
        took = _lap_ns(work)
        return took - (_without_processor_ns() - before)


def laps_ns(*works: Callable[[], object]) -> list[int]:
    """Wall time of several calls, each right behind the one before.

    For engines with threads of their own: who has taken the processor may be one of them.
    """
    with _collector_at_rest():
        return [_lap_ns(work) for work in works]


@contextlib.contextmanager
def _collector_at_rest() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _lap_ns(work: Callable[[], object]) -> int:
    start = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - start


def _without_processor_ns() -> int:
    """How long this thread has waited for a processor in its life; 0 if the kernel won't tell."""
    with contextlib.suppress(OSError):
        return int(_SCHEDULER_COUNTS.read_text().split()[1])
    return 0


def call_each(call: Callable[[Any], object], arguments: Sequence[Any]) -> float:
    """Nanoseconds per call of `call(argument)`."""

    def loop() -> None:
        for argument in arguments:
            call(argument)

    return elapsed_ns(loop) / len(arguments)


def put_each(put: Callable[[bytes, bytes], object], pairs: Sequence[Pair]) -> float:
    """Nanoseconds per call of `put(key, value)`."""

    def loop() -> None:
        for key, value in pairs:
            put(key, value)

    return elapsed_ns(loop) / len(pairs)


def call_batches(call: Callable[[Any], object], items: Sequence[Any], size: int) -> float:
    """Nanoseconds per item of `call(batch)`, the cutting into batches not counted."""
    runs = batches(items, size)
    return call_each(call, runs) * len(runs) / len(items)


def wait_until_quiet() -> None:
    """Waits until no thread of this process works.

    Engines that tidy up behind their callers (LevelDB, RocksDB) would otherwise do so during
    the turn of whoever comes next.
    """
    limit = time.monotonic() + _QUIET_LIMIT_S
    while time.monotonic() < limit:
        before = time.process_time()
        time.sleep(_QUIET_SLICE_S)
        if time.process_time() - before < _QUIET_SLICE_S / 10:
            return


def medians(samples: dict[str, list[float]]) -> dict[str, float]:
    """The median of each list: one disturbed repeat does not move it."""
    return {name: statistics.median(measured) for name, measured in samples.items()}


# ---- places --------------------------------------------------------------------------------


def filesystem_of(path: Path) -> str:
    """The type of the file system at `path` ("tmpfs", "ext4", ...), "unknown" if none tells."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, kind = line.partition(" - ")
        if mount.split()[2] == wanted:
            return kind.split()[0]
    return "unknown"


@contextlib.contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A directory under `parent` that is gone afterwards."""
    if not parent.is_dir():
        raise SystemExit(f"{parent} is not a directory; make it, or give another with --dir")
    with tempfile.TemporaryDirectory(prefix="pmkv-bench-", dir=parent) as made:
        yield Path(made)


def allocated_bytes(directory: Path) -> int:
    """What the files of a directory take on storage: blocks, so that holes do not count."""
    return sum(file.stat().st_blocks * 512 for file in directory.rglob("*") if file.is_file())


# ---- child processes -----------------------------------------------------------------------

_processes = get_context("spawn")  # a fresh interpreter: nothing inherited, nothing warm


def start(function: Callable[..., None], *arguments: object) -> tuple[BaseProcess, Connection]:
    """Runs `function(pipe, *arguments)` in a process of its own; the other end of the pipe."""
    ours, theirs = _processes.Pipe()
    process = _processes.Process(target=function, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def answer_of(function: Callable[..., None], *arguments: object) -> Any:
    """What `function` sends through its pipe from a process of its own."""
    process, pipe = start(function, *arguments)
    try:
        return pipe.recv()
    except EOFError:
        raise SystemExit(f"{function.__name__}{arguments} died without an answer") from None
    finally:
        process.join()


# ---- arguments and reports -----------------------------------------------------------------


def parser(description: str | None, default_dir: str, repeat: int) -> argparse.ArgumentParser:
    """The arguments that every script has."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--dir", type=Path, default=Path(default_dir), help="where the stores lie (%(default)s)"
    )
    made.add_argument(
        "--repeat", type=positive, default=repeat, help="rounds to take medians of (%(default)s)"
    )
    made.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return made


def positive(text: str) -> int:
    """A count on the command line: 1000000, 1_000_000 or 1,000,000."""
    number = int(text.replace(",", ""))
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def note(text: str) -> None:
    """Says something beside the report, which may be JSON for a program to read."""
    print(text, file=sys.stderr, flush=True)


def surroundings(directory: Path) -> dict[str, str]:
    """What numbers mean nothing without: processor, interpreter, file system."""
    return {
        "processor": f"{_processor_name()}, {os.cpu_count()} CPUs",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "file system": filesystem_of(directory),
    }


def _processor_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def show_json(report: dict[str, Any]) -> None:
    """Prints a report for programs."""
    print(json.dumps(report, indent=2))


def show_facts(facts: dict[str, str]) -> None:
    """Prints names and what they stand for, a line each."""
    width = max(map(len, facts))
    for name, text in facts.items():
        print(f"{name:<{width}}  {text}")


def show_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table in plain text: the first column to the left, the others to the right."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print(f"\n{title}")
    for line in lines:
        cells = [f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("  ".join([f"{line[0]:<{widths[0]}}", *cells]))


def show_ratios(unit: str, results: dict[str, dict[str, float]], columns: Sequence[str]) -> None:
    """Prints results by row and column, then the same as multiples of the first column."""
    for title, text_of in ((unit, _number), (f"times {columns[0]}'s", _ratio)):
        rows = [
            [name, *(text_of(row.get(column), row[columns[0]]) for column in columns)]
            for name, row in results.items()
        ]
        show_table(title, ["", *columns], rows)


@dataclass(frozen=True)
class Target:
    """A promise of the project, and what was measured: NaN where the peer is missing."""

    promise: str
    measured: float
    goal: float
    at_least: bool = True

    @property
    def verdict(self) -> str:
        """PASS, miss, or that there was nothing to compare with."""
        if math.isnan(self.measured):
            return "not measured"
        met = self.measured >= self.goal if self.at_least else self.measured <= self.goal
        return "PASS" if met else "miss"

    def row(self) -> list[str]:
        """A line of the list of targets."""
        goal = f"{'at least' if self.at_least else 'at most'} {self.goal:g}"
        return [self.promise, f"{self.measured:.2f}", goal, self.verdict]


def show_targets(targets: Iterable[Target]) -> None:
    """Prints what was promised beside what was measured."""
    rows = [target.row() for target in targets]
    show_table("targets", ["", "measured", "goal", "verdict"], rows)


def _number(measured: float | None, _first: float) -> str:
    if measured is None:
        return "-"
    return f"{measured:,.0f}" if measured >= 100 else f"{measured:.2f}"


def _ratio(measured: float | None, first: float) -> str:
    return "-" if measured is None else f"{measured / first:.2f}"
