"""What compression costs: pmkv's buffered path, its direct path, and peers that compress with LZ4.

Values of 4 KiB that LZ4 makes about half, then the sources of Python's standard library, a
file a value.  The engines take turns and the median of the rounds counts.  See README.md.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.util
import math
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from _common import (
    BATCH,
    KEY_SIZE,
    Pair,
    Target,
    batches,
    call_each,
    key_at,
    laps_ns,
    medians,
    note,
    parser,
    positive,
    sample,
    scratch,
    show_facts,
    show_json,
    show_ratios,
    show_table,
    show_targets,
    surroundings,
    wait_until_quiet,
)
from _compressing import BUFFER_SIZE, CACHE_SIZE, taking_part
from _engines import Engine, described

VALUE_SIZE = 4096
ROW_SIZE, ROW_RANDOM = 64, 26  # of a value's rows: bytes, and how many no other row has
ABOUT_HALF = (0.45, 0.55)
HOT_KEYS = CACHE_SIZE // VALUE_SIZE // 2
BURST = BUFFER_SIZE // VALUE_SIZE // 2

LAZY = ("pmkv-lazy", "pmkv-lz4-lazy")
READ_ONLY = ("pmkv-lz4-nc",)

# Each pair of rows: with sync() or flush() at the end, and until the last put returned.
PUT_MANY = f"put_many of {BATCH:,}, then sync() or flush(), per value"
PUT_MANY_ALONE = f"put_many of {BATCH:,}, per value"
PUT, PUT_ALONE = "put, then sync() or flush()", "put"
BURST_PUT, BURST_PUT_ALONE = f"{PUT}, of {BURST:,} values", f"{PUT_ALONE}, of {BURST:,} values"
GET_HOT = "get, of keys read before that fit the caches"
GET = "get, of all keys"
CORPUS_PUT, CORPUS_PUT_ALONE = (
    f"put_many of {BATCH:,}, then sync() or flush()",
    f"put_many of {BATCH:,}",
)
CORPUS_GET = "get"

Results = dict[str, dict[str, float]]
Work = Callable[[Engine, int], Mapping[str, float]]


# ---- keys, values, files -------------------------------------------------------------------


def value_at(index: int) -> bytes:
    """The value of an index: rows that end alike, as records of one kind do.

    A row is 26 random bytes and 38 that are the same in all rows of this value, and of no other.
    LZ4 spends 5 bytes on telling a row's end, which makes half of the whole, in 64 steps.
    """
    rows = VALUE_SIZE // ROW_SIZE
    drawn = hashlib.shake_128(index.to_bytes(8, "little")).digest((rows + 2) * ROW_RANDOM)
    end = drawn[-(ROW_SIZE - ROW_RANDOM) :]
    firsts = range(0, rows * ROW_RANDOM, ROW_RANDOM)
    return b"".join([drawn[first : first + ROW_RANDOM] + end for first in firsts])


@functools.lru_cache(maxsize=1)
def pairs_at(first: int, count: int) -> list[Pair]:
    """Pairs of consecutive indexes; kept, for the engines take turns with the same ones."""
    return [(key_at(index), value_at(index)) for index in range(first, first + count)]


@functools.cache
def corpus() -> dict[str, bytes]:
    """The sources of this Python's standard library, by name; empty where it has none."""
    top = Path(sysconfig.get_path("stdlib"))
    others = {"site-packages", "dist-packages"}
    files = (file for file in sorted(top.rglob("*.py")) if not others.intersection(file.parts))
    read = {str(file.relative_to(top)): file.read_bytes() for file in files}
    return {name: source for name, source in read.items() if source}


def corpus_pairs(turn: int) -> list[Pair]:
    """The corpus under keys that no other turn has."""
    return [(f"{turn}/{name}".encode(), source) for name, source in corpus().items()]


def compressed_to(values: Sequence[bytes]) -> float | None:
    """What part of themselves LZ4 makes of them; None where it is not installed."""
    if not importlib.util.find_spec("lz4"):
        return None
    from lz4.block import compress

    return sum(len(compress(value)) for value in values) / sum(map(len, values))


def data_facts() -> dict[str, str]:
    """What is stored, and how far LZ4 gets with it; ends if the generator's word is not kept."""
    ratio = compressed_to([value_at(index) for index in range(BATCH)])
    if ratio is not None and not ABOUT_HALF[0] < ratio < ABOUT_HALF[1]:
        raise SystemExit(f"LZ4 makes the values {ratio:.2f} of what they were; they should halve")
    sources = list(corpus().values())
    facts = {"values": f"{VALUE_SIZE:,} bytes; {_ratio_text(ratio)}"}
    if sources:
        size = f"{len(sources):,} files, {sum(map(len, sources)) / 2**20:.1f} MiB"
        facts["standard library"] = f"{size}; {_ratio_text(compressed_to(sources))}"
    return facts


def _ratio_text(ratio: float | None) -> str:
    if ratio is None:
        return "lz4 is not installed, so not compressed to see"
    return f"LZ4 makes them {ratio:.2f} of that"


# ---- workloads -----------------------------------------------------------------------------


def put_batches(engine: Engine, pairs: list[Pair]) -> tuple[float, float]:
    """Nanoseconds per pair in batches: with what is left to do at the end, and without."""
    runs = batches(pairs, BATCH)

    def loop() -> None:
        for run in runs:
            engine.put_many(run)

    return finished(engine, loop, len(pairs))


def finished(engine: Engine, loop: Callable[[], None], count: int) -> tuple[float, float]:
    """Nanoseconds per put of a loop of them: until all is stored, and until the last returned."""
    alone, ending = laps_ns(loop, engine.finish)
    return (alone + ending) / count, alone / count


def put_many(first: int, count: int, engine: Engine, turn: int) -> Mapping[str, float]:
    """New keys, a thousand at a time."""
    pairs = pairs_at(first + turn * count, count)
    return dict(zip((PUT_MANY, PUT_MANY_ALONE), put_batches(engine, pairs), strict=True))


def put(first: int, count: int, engine: Engine, turn: int) -> Mapping[str, float]:
    """New keys, one by one: more than a buffer holds, so that it has to be emptied meanwhile."""
    return dict(zip((PUT, PUT_ALONE), put_singly(first, count, engine, turn), strict=True))


def put_burst(first: int, engine: Engine, turn: int) -> Mapping[str, float]:
    """New keys, one by one: as many as fill half of the buffer of lazy puts."""
    took = put_singly(first, BURST, engine, turn)
    return dict(zip((BURST_PUT, BURST_PUT_ALONE), took, strict=True))


def put_singly(first: int, count: int, engine: Engine, turn: int) -> tuple[float, float]:
    """Nanoseconds per new key: until all is stored, and until the last put returned."""
    pairs = pairs_at(first + turn * count, count)

    def loop() -> None:
        put = engine.put
        for key, value in pairs:
            put(key, value)

    return finished(engine, loop, len(pairs))


def get(keys: list[bytes], reads: int, engine: Engine, turn: int) -> Mapping[str, float]:
    """Random keys of all: most of their values are in no cache."""
    with engine.reading() as reader:
        return {GET: call_each(reader.get, sample(keys, reads, turn))}


def get_hot(keys: list[bytes], reads: int, engine: Engine, turn: int) -> Mapping[str, float]:
    """Random keys of some whose values fit the caches, and have just been read twice."""
    hot = keys[:HOT_KEYS]
    wanted = sample(hot * (reads // len(hot) + 1), reads, turn)
    with engine.reading() as reader:
        for key in hot * 2:
            reader.get(key)
        return {GET_HOT: call_each(reader.get, wanted)}


def put_corpus(engine: Engine, turn: int) -> Mapping[str, float]:
    """Whole files: MiB of source per second."""
    pairs = corpus_pairs(turn)
    took = [rate(pairs, ns) for ns in put_batches(engine, pairs)]
    return dict(zip((CORPUS_PUT, CORPUS_PUT_ALONE), took, strict=True))


def get_corpus(engine: Engine, turn: int) -> Mapping[str, float]:
    """All files of a turn, in another order than they were put: MiB of source per second."""
    pairs = corpus_pairs(turn)
    with engine.reading() as reader:
        took = call_each(reader.get, sample([key for key, _ in pairs], len(pairs), turn))
    return {CORPUS_GET: rate(pairs, took)}


def rate(pairs: list[Pair], ns_per_pair: float) -> float:
    """MiB of values per second."""
    return sum(len(value) for _, value in pairs) / 2**20 / (ns_per_pair * len(pairs) / 1e9)


# ---- running -------------------------------------------------------------------------------


def in_turns(engines: Sequence[Engine], repeat: int, work: Work) -> Results:
    """The medians of every row that `work(engine, turn)` gives, interleaved: A B C, A B C, ..."""
    samples: dict[str, dict[str, list[float]]] = {}
    for turn in range(repeat):
        for engine in engines:
            for row, measured in work(engine, turn).items():
                samples.setdefault(row, {}).setdefault(engine.name, []).append(measured)
            wait_until_quiet()
    return {row: medians(columns) for row, columns in samples.items()}


def fill(engine: Engine, pairs: list[Pair]) -> float:
    """Puts the pairs and reads them all back; bytes of storage per byte of data."""
    note(f"loading {engine.name} ...")
    put_batches(engine, pairs)
    wait_until_quiet()
    stored = engine.storage_bytes() / sum(len(key) + len(value) for key, value in pairs)
    with engine.reading() as reader:
        for key, value in pairs:
            if reader.get(key) != value:
                raise SystemExit(f"{engine.name} gave back another value than it got")
    return stored


def run_values(engines: Sequence[Engine], given: argparse.Namespace) -> tuple[Results, Results]:
    """The values of 4 KiB: nanoseconds by workload and engine, and storage per byte of data."""
    count, puts = given.keys, given.puts
    stored = {engine.name: fill(engine, pairs_at(0, count)) for engine in engines}
    keys = [key_at(index) for index in range(count)]
    readers = [engine for engine in engines if engine.name not in LAZY]
    writers = [engine for engine in engines if engine.name not in READ_ONLY]
    results: Results = {}
    for takers, work in (
        (readers, functools.partial(get_hot, keys, given.reads)),
        (readers, functools.partial(get, keys, min(given.reads, count))),
        (writers, functools.partial(put_many, count, puts)),
        (writers, functools.partial(put, count + given.repeat * puts, puts)),
        (writers, functools.partial(put_burst, count + 2 * given.repeat * puts)),
    ):
        note(f"measuring {work.func.__name__} ...")
        results |= in_turns(takers, given.repeat, work)
    return results, {f"values of {VALUE_SIZE:,} bytes, {KEY_SIZE} of key": stored}


def run_corpus(engines: Sequence[Engine], given: argparse.Namespace) -> tuple[Results, Results]:
    """The standard library: MiB per second by workload and engine, and storage."""
    if not corpus():
        note("skipped: the standard library is not here as sources")
        return {}, {}
    stored = {engine.name: fill(engine, corpus_pairs(given.repeat)) for engine in engines}
    results: Results = {}
    for work in put_corpus, get_corpus:
        note(f"measuring {work.__name__} ...")
        results |= in_turns(engines, given.repeat, work)
    return results, {"standard library": stored}


def measured_in(
    parent: Path,
    kinds: Sequence[type[Engine]],
    run: Callable[[Sequence[Engine]], tuple[Results, Results]],
) -> tuple[Results, Results]:
    """What `run` gives for new stores of all these engines, which are gone afterwards."""
    with scratch(parent) as directory:
        engines = [kind(directory / kind.name, power_safe=False) for kind in kinds]
        try:
            return run(engines)
        finally:
            for engine in engines:
                engine.close()


# ---- targets -------------------------------------------------------------------------------


def times(results: Results, dividend: tuple[str, str], divisor: tuple[str, str]) -> float:
    """One cell over another, each a row and an engine; NaN where either was not measured."""
    above, below = (results[row].get(name, math.nan) for row, name in (dividend, divisor))
    return above / below


def targets_of(results: Results) -> list[Target]:
    """What the project promises of the buffered path, against what was measured."""
    batched = (PUT_MANY, "pmkv-lz4")
    cached, direct = (GET_HOT, "pmkv-lz4"), (GET_HOT, "pmkv")
    lz4, lz4_lazy = (BURST_PUT_ALONE, "pmkv-lz4"), (BURST_PUT_ALONE, "pmkv-lz4-lazy")
    plain, plain_lazy = (BURST_PUT_ALONE, "pmkv"), (BURST_PUT_ALONE, "pmkv-lazy")
    return [
        Target(
            "lz4 put_many, times rocksdict's speed",
            times(results, (PUT_MANY, "rocksdict"), batched),
            2,
        ),
        Target(
            "lz4 put_many, times diskcache's speed",
            times(results, (PUT_MANY, "diskcache"), batched),
            2,
        ),
        Target(
            "cached get, times the direct path's time", times(results, cached, direct), 1.5, False
        ),
        Target(
            f"lz4 put of {BURST:,} values, lazy, times sync's speed",
            times(results, lz4, lz4_lazy),
            3,
        ),
        Target(
            f"plain put of {BURST:,} values, lazy, times sync's speed",
            times(results, plain, plain_lazy),
            3,
        ),
    ]


# ---- the command ---------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    """What was asked for."""
    made = parser(__doc__, "/dev/shm", 5)
    made.add_argument("--keys", type=positive, default=25_000, help="keys to load (%(default)s)")
    made.add_argument(
        "--reads", type=positive, default=20_000, help="keys read in a round (%(default)s)"
    )
    made.add_argument(
        "--puts",
        type=positive,
        default=20_000,
        help="new keys put in a round, as batches and as many again one by one (%(default)s); "
        "fewer fit pmkv's buffer and RocksDB's memtable",
    )
    return made.parse_args()


def show(columns: Sequence[str], results: Results, rates: Results, storage: Results) -> None:
    """Prints the tables."""
    show_ratios("nanoseconds per value", results, columns)
    header = ["", *columns]
    if rates:
        show_table("standard library, MiB per second", header, _cells(columns, rates, ".0f"))
    title = "bytes of storage per byte of data, after the load"
    show_table(title, header, _cells(columns, storage, ".2f"))


def _cells(columns: Sequence[str], results: Results, form: str) -> list[list[str]]:
    return [
        [row, *(format(cells[name], form) if name in cells else "-" for name in columns)]
        for row, cells in results.items()
    ]


def main() -> None:
    """Measures, then prints."""
    given = arguments()
    kinds = taking_part()
    facts = surroundings(given.dir) | data_facts() | described(kinds)
    results, storage = measured_in(given.dir, kinds, lambda engines: run_values(engines, given))
    rates, corpus_storage = measured_in(
        given.dir, kinds, lambda engines: run_corpus(engines, given)
    )
    storage |= corpus_storage
    targets = targets_of(results)
    if given.json:
        show_json(
            {
                "facts": facts,
                "ns_per_value": results,
                "corpus_mib_per_s": rates,
                "storage_per_data": storage,
                "targets": [asdict(target) | {"verdict": target.verdict} for target in targets],
            }
        )
        return
    show_facts(facts)
    show([kind.name for kind in kinds], results, rates, storage)
    show_targets(targets)


if __name__ == "__main__":
    main()
