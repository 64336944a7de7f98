"""How fast: pmkv and its peers side by side, in one process, on the same keys in the same order.

Every engine is loaded with the same random keys; then, workload by workload and round by
round, the engines take turns, and the median of the rounds counts.  See README.md.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from _common import (
    BATCH,
    GET_MANY,
    KEY_SIZE,
    VALUE_SIZE,
    Target,
    call_batches,
    call_each,
    elapsed_ns,
    just_made,
    keys_at,
    note,
    pairs_at,
    parser,
    positive,
    put_each,
    sample,
    scratch,
    show_facts,
    show_json,
    show_ratios,
    show_table,
    show_targets,
    surroundings,
    value_at,
    wait_until_quiet,
)
from _engines import ENGINES, Dict, Engine, Reader, described, installed, take_turns

LARGE_VALUE_SIZE = 1 << 20
LARGE_VALUE_COUNT = 20
LARGE_PUTS = 100
LARGE_VIEWS = 2000
ABSENT = 1 << 40  # indexes from here on are never stored

GET, GET_NEW, GET_ABSENT = "get", "get, key objects just made", "get, absent"
GET_MANY_ROW = f"get_many of {GET_MANY}, per key"
PUT, PUT_MANY_ROW = "put, durable", f"put_many of {BATCH:,}, per key"
LARGE_PUT, LARGE_VIEW = "put of 1 MiB", "view of 1 MiB"
SCANS, SCAN_ITEMS, PREFIX = 2000, 100, 2
NEW_AGAIN = 1 << 30  # indexes of keys that no other workload puts
SCAN_ROW, SCAN_SOME_ROW = "scan of all items, per item", f"scan of {SCAN_ITEMS} items"
PREFIX_ROW = f"scan by a prefix of {PREFIX} bytes, per scan"
TRANSACTION_SIZES = (1, 10, 1000)
SNAPSHOT_PUT = "snapshots under writes: overwrite, per put"
SNAPSHOT_GET = "snapshots under writes: get of what was overwritten"
SNAPSHOT_SCAN = "snapshots under writes: scan of all, per item"
LOAD = f"load, put_many of {BATCH:,}, per key"

Results = dict[str, dict[str, float]]


# ---- workloads -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What every engine is asked to do in a round."""

    keys: list[bytes]  # stored ones
    reads: int
    puts: int

    def new_pairs(self, turn: int) -> list[tuple[bytes, bytes]]:
        """Pairs whose keys no engine holds yet, others for every turn."""
        return pairs_at(len(self.keys) + turn * self.puts, self.puts)


def get(plan: Plan, engine: Engine, turn: int) -> float:
    """Random existing keys, one by one: the objects that were stored, all over the memory."""
    with engine.reading() as reader:
        return call_each(reader.get, sample(plan.keys, plan.reads, turn))


def get_new(plan: Plan, engine: Engine, turn: int) -> float:
    """The same keys as objects just made, as by a program that gets its keys from outside."""
    with engine.reading() as reader:
        return call_each(reader.get, just_made(sample(plan.keys, plan.reads, turn)))


def get_absent(plan: Plan, engine: Engine, turn: int) -> float:
    """Keys that are not there."""
    with engine.reading() as reader:
        return call_each(reader.get, keys_at(ABSENT + turn * plan.reads, plan.reads))


def get_many(plan: Plan, engine: Engine, turn: int) -> float:
    """Random existing keys, a hundred at a time."""
    with engine.reading() as reader:
        return call_batches(reader.get_many, sample(plan.keys, plan.reads, turn), GET_MANY)


def put(plan: Plan, engine: Engine, turn: int) -> float:
    """New random keys, each durable before the next."""
    return put_each(engine.put, plan.new_pairs(2 * turn))


def put_many(plan: Plan, engine: Engine, turn: int) -> float:
    """New random keys, a thousand at a time."""
    return call_batches(engine.put_many, plan.new_pairs(2 * turn + 1), BATCH)


@functools.cache
def large_pairs() -> list[tuple[bytes, bytes]]:
    """Twenty keys with 1 MiB each, value objects of their own."""
    return [
        (b"large %d" % number, value_at(number, LARGE_VALUE_SIZE))
        for number in range(LARGE_VALUE_COUNT)
    ]


def put_large(_plan: Plan, engine: Engine, _turn: int) -> float:
    """Twenty large values, overwritten round robin; they are there already."""
    pairs = large_pairs()
    put_each(engine.put, pairs)
    return put_each(engine.put, pairs * (LARGE_PUTS // len(pairs)))


def view_large(_plan: Plan, engine: Engine, _turn: int) -> float:
    """Views of the twenty large values round robin; engines without views copy."""
    keys = [key for key, _ in large_pairs()]
    with engine.reading() as reader:
        return call_each(reader.view, keys * (LARGE_VIEWS // len(keys)))


def scan_all(_plan: Plan, engine: Engine, _turn: int) -> float:
    """All items in the order of their keys, per item."""
    with engine.reading() as reader:
        return walk(reader)


def walk(reader: Reader) -> float:
    """All items, per item."""
    scan = reader.scan
    assert scan
    count = 0

    def loop() -> None:
        nonlocal count
        for _key, _value in scan(b"", None):
            count += 1

    return elapsed_ns(loop) / count


def scan_some(plan: Plan, engine: Engine, turn: int) -> float:
    """A hundred items from a random key on, per scan."""
    starts = keys_at(ABSENT + (turn + 1) * SCANS, SCANS)
    with engine.reading() as reader:
        scan = reader.scan
        assert scan

        def some(start: bytes) -> None:
            for _key, _value in scan(start, SCAN_ITEMS):
                pass

        return call_each(some, starts)


def scan_prefixed(plan: Plan, engine: Engine, turn: int) -> float:
    """All items whose keys begin as a random key does: 15 of a million."""
    prefixes = [key[:PREFIX] for key in sample(plan.keys, min(SCANS, len(plan.keys)), turn)]
    with engine.reading() as reader:
        prefixed = reader.prefixed
        assert prefixed

        def those(prefix: bytes) -> None:
            for _key, _value in prefixed(prefix):
                pass

        return call_each(those, prefixes)


def transact(size: int, plan: Plan, engine: Engine, turn: int) -> float:
    """New random keys, put one by one in transactions of that size."""
    first = len(plan.keys) + NEW_AGAIN * (1 + TRANSACTION_SIZES.index(size))
    return call_batches(engine.transact, pairs_at(first + turn * plan.puts, plan.puts), size)


def overwritten(plan: Plan, turn: int) -> list[tuple[bytes, bytes]]:
    """Existing keys with other values."""
    keys = sample(plan.keys, min(plan.puts, len(plan.keys)), turn)
    return [(key, value_at(turn, VALUE_SIZE)) for key in keys]


def snapshot_put(plan: Plan, engine: Engine, turn: int) -> float:
    """Random existing keys are overwritten, one by one, while a reader still sees them."""
    pairs = overwritten(plan, turn)
    moment = engine.snapshot()
    assert moment
    with moment:
        return put_each(engine.put, pairs)


def snapshot_get(plan: Plan, engine: Engine, turn: int) -> float:
    """What the reader sees of keys that were overwritten since it began."""
    pairs = overwritten(plan, turn)
    moment = engine.snapshot()
    assert moment
    with moment as reader:
        call_batches(engine.put_many, pairs, BATCH)
        return call_each(reader.get, [key for key, _ in pairs])


def snapshot_scan(plan: Plan, engine: Engine, turn: int) -> float:
    """All that the reader sees, in order, some of it overwritten since it began."""
    moment = engine.snapshot()
    assert moment
    with moment as reader:
        call_batches(engine.put_many, overwritten(plan, turn), BATCH)
        return walk(reader)


SCANS_ROWS = {SCAN_ROW: scan_all, SCAN_SOME_ROW: scan_some, PREFIX_ROW: scan_prefixed}
SNAPSHOTS = {
    SNAPSHOT_PUT: snapshot_put,
    SNAPSHOT_GET: snapshot_get,
    SNAPSHOT_SCAN: snapshot_scan,
}
READS = {GET: get, GET_NEW: get_new, GET_ABSENT: get_absent, GET_MANY_ROW: get_many}
WRITES = {
    PUT: put,
    **{
        f"transaction of {size:,}, per put": functools.partial(transact, size)
        for size in TRANSACTION_SIZES
    },
    PUT_MANY_ROW: put_many,
    LARGE_PUT: put_large,
    LARGE_VIEW: view_large,
}


# ---- running -------------------------------------------------------------------------------


def load_all(engines: Sequence[Engine], key_count: int) -> tuple[list[bytes], dict[str, float]]:
    """Loads the same pairs into every engine; the keys, and nanoseconds per key.

    The keys returned are the objects that were put: a dict then finds them by identity, which is
    as fast as a dict can be.
    """
    pairs = pairs_at(0, key_count)
    took = {}
    for engine in engines:
        note(f"loading {engine.name} ...")
        took[engine.name] = call_batches(engine.put_many, pairs, BATCH)
        wait_until_quiet()
    return [key for key, _ in pairs], took


def has_order(engine: Engine) -> bool:
    """Whether it scans in the order of keys."""
    with engine.reading() as reader:
        return reader.scan is not None


def run(engines: Sequence[Engine], given: argparse.Namespace) -> tuple[Results, dict[str, float]]:
    """All workloads: nanoseconds by workload and engine, and bytes of storage per byte of data."""
    stores = [engine for engine in engines if not isinstance(engine, Dict)]
    keys, load_took = load_all(engines, given.keys)
    plan = Plan(keys, min(given.reads, len(keys)), max(given.single_puts // given.repeat, 1))
    data_size = len(keys) * (KEY_SIZE + VALUE_SIZE)
    storage = {engine.name: engine.storage_bytes() / data_size for engine in stores}
    results: Results = {LOAD: load_took}
    with_order = [engine for engine in stores if has_order(engine)]
    with_moments = [engine for engine in with_order if engine.snapshot()]
    for workloads, takers in (
        (READS, engines),
        (SCANS_ROWS, with_order),
        (WRITES, stores),
        (SNAPSHOTS, with_moments),  # the last: py-lmdb's list of free pages is long afterwards
    ):
        for name, workload in workloads.items():
            note(f"measuring {name} ...")
            work = functools.partial(workload, plan)
            results[name] = take_turns(takers, given.repeat, work)
    return results, storage


# ---- targets -------------------------------------------------------------------------------


def faster(results: Results, workload: str, *peers: str) -> float:
    """How many times as fast as the fastest of the peers pmkv is."""
    row = results[workload]
    measured = [row[peer] for peer in peers if peer in row]
    return min(measured, default=math.nan) / row["pmkv"]


def targets_of(results: Results, storage: dict[str, float]) -> list[Target]:
    """What the project promises, against what was measured."""
    peers = [name for name in storage if not name.startswith("pmkv")]
    own = results[GET]["pmkv"] / results[GET_MANY_ROW]["pmkv"]
    return [
        Target("get, key just made, times lmdb's speed", faster(results, GET_NEW, "lmdb"), 2.5),
        Target("get, key just made, times dict's speed", faster(results, GET_NEW, "dict"), 1),
        Target("get, stored key object, times lmdb's speed", faster(results, GET, "lmdb"), 2.5),
        Target("durable put, times lmdb's speed", faster(results, PUT, "lmdb"), 8),
        Target("durable put, times plyvel's without sync", faster(results, PUT, "plyvel"), 2),
        Target("get_many, times pmkv's own get", own, 3),
        Target("put_many, times the fastest peer's", faster(results, PUT_MANY_ROW, *peers), 1),
        Target("scan, times the fastest peer's", faster(results, SCAN_ROW, *peers), 1.3),
        Target(
            "scan of 100, times the fastest peer's", faster(results, SCAN_SOME_ROW, *peers), 1.3
        ),
        Target("view of 1 MiB, microseconds", results[LARGE_VIEW]["pmkv"] / 1000, 1, False),
        Target("put of 1 MiB, times lmdb's speed", faster(results, LARGE_PUT, "lmdb"), 2),
        Target("storage, bytes per byte of data", storage["pmkv"], 1.5, False),
    ]


# ---- the command ---------------------------------------------------------------------------


def arguments() -> argparse.Namespace:
    """What was asked for."""
    made = parser(__doc__, "/dev/shm", 5)
    made.add_argument("--keys", type=positive, default=1_000_000, help="keys to load (%(default)s)")
    made.add_argument(
        "--reads", type=positive, default=200_000, help="keys read in a round (%(default)s)"
    )
    made.add_argument(
        "--single-puts",
        type=positive,
        default=200_000,
        help="new keys put one by one into the loaded store, over all rounds (%(default)s); "
        "put_many gets as many",
    )
    made.add_argument(
        "--engines",
        nargs="+",
        choices=ENGINES,
        default=list(ENGINES),
        metavar="NAME",
        help="of: %(default)s; pmkv always takes part",
    )
    return made.parse_args()


def open_all(kinds: Sequence[type[Engine]], directory: Path) -> list[Engine]:
    """Every engine with a store of its own."""
    return [kind(directory / kind.name, power_safe=False) for kind in kinds]


def main() -> None:
    """Measures, then prints."""
    given = arguments()
    wanted = [ENGINES[name] for name in ENGINES if name == "pmkv" or name in given.engines]
    kinds = installed(*wanted)
    facts = surroundings(given.dir) | described(kinds)
    with scratch(given.dir) as directory:
        engines = open_all(kinds, directory)
        results, storage = run(engines, given)
        for engine in engines:
            engine.close()
    targets = targets_of(results, storage)
    if given.json:
        show_json(
            {
                "facts": facts,
                "ns_per_operation": results,
                "storage_per_data": storage,
                "targets": [asdict(target) | {"verdict": target.verdict} for target in targets],
            }
        )
        return
    show_facts(facts)
    show_ratios("nanoseconds per operation", results, [kind.name for kind in kinds])
    sizes = [[name, f"{ratio:.2f}"] for name, ratio in storage.items()]
    show_table("bytes of storage per byte of data, after the load", ["", "ratio"], sizes)
    show_targets(targets)


if __name__ == "__main__":
    main()
