"""Questions to the pool, how fast it answers, and what that takes of DRAM.

Runs in a process of its own, so that the memory it counts is a reader's alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import index

import pmkv

Question = tuple[str, str]

BUILT_IN: list[Question] = [
    ("owner", "/usr/bin/env"),
    ("owner", "/etc"),
    ("package", "dpkg"),
    ("package", "python3"),
    ("query", "memoryview readonly"),
    ("query", "fsync | msync"),
    ("query", "checksum corrupted"),
]

_KINDS: dict[str, Callable[[pmkv.Store, str], index.Answer]] = {
    "owner": index.owner,
    "package": index.package,
    "query": index.search,
}
_SAMPLE_KEYS = 20_000
_MANY = 500


class Answered(NamedTuple):
    """A question, its answer, and how long that took."""

    kind: str
    text: str
    answer: index.Answer
    seconds: float


class Reading(NamedTuple):
    """All that a reader found out."""

    answered: list[Answered]
    rates: dict[str, float]
    stat: pmkv.Stat
    info: pmkv.Info
    held_bytes: int
    grown_bytes: int


def read(path: Path, questions: list[Question]) -> Reading:
    """Asks the questions and measures, in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_read, path, questions).result()


def _read(path: Path, questions: list[Question]) -> Reading:
    before = _anonymous_bytes()
    with pmkv.open(path, "r") as db:
        answered = [ask(db, kind, text) for kind, text in questions]
        grown, held = _anonymous_bytes() - before, db.memory()["total_bytes"]
        return Reading(answered, _rates(db), db.stat(), db.info(), held, grown)


def ask(db: pmkv.Store, kind: str, text: str) -> Answered:
    """One question, timed."""
    begin = time.perf_counter()
    answer = _KINDS[kind](db, text)
    return Answered(kind, text, answer, time.perf_counter() - begin)


def _rates(db: pmkv.Store) -> dict[str, float]:
    """Lookups per second, over keys of all kinds in no order (as a hash has them)."""
    keys = list(islice(db, _SAMPLE_KEYS))
    batches = [keys[first : first + _MANY] for first in range(0, len(keys), _MANY)]
    return {
        "get": len(keys) / _seconds(lambda: [db.get(key) for key in keys]),
        "get_many": len(keys) / _seconds(lambda: [db.get_many(batch) for batch in batches]),
        "view": len(keys) / _seconds(lambda: [db.view(key).release() for key in keys]),
    }


def _seconds(work: Callable[[], object]) -> float:
    """The best of three, each of which touches all keys."""
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def _anonymous_bytes() -> int:
    """Memory of this process that no file stands behind; 0 where the kernel does not say."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Anonymous:"))
