"""pmkv alone, operation by operation: each persistence domain and several sizes of values.

For comparing two checkouts: run it with the Python that has the one installed, then with the
other's.  See README.md.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from _common import (
    BATCH,
    GET_MANY,
    KEY_SIZE,
    Pair,
    call_batches,
    call_each,
    medians,
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
    surroundings,
)

import pmkv

DOMAINS = ("process", "byte", "cacheline")
SIZES = (0, 100, 1000, 4000, 65536)
DATA_LIMIT = 128 << 20  # bytes in a store; fewer keys if the values are large


def cycle(db: pmkv.Store, pairs: Sequence[Pair], turn: int) -> dict[str, float]:
    """Nanoseconds of each operation, from an empty store to an empty store."""
    keys = sample([key for key, _ in pairs], len(pairs), turn)
    changed = [(key, value) for key, (_, value) in zip(keys, pairs, strict=True)]
    return {
        "put": put_each(db.put, pairs),
        "get": call_each(db.get, keys),
        "contains": call_each(db.__contains__, keys),
        f"get_many of {GET_MANY}": call_batches(db.get_many, keys, GET_MANY),
        "update": put_each(db.put, changed),
        "delete": call_each(db.delete, keys),
        f"put_many of {BATCH:,}": call_batches(db.put_many, pairs, BATCH),
        f"delete_many of {BATCH:,}": call_batches(db.delete_many, keys, BATCH),
    }


def measure(parent: Path, size: int, given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Medians by operation and domain, the domains taking turns."""
    note(f"measuring values of {size:,} bytes ...")
    pairs = pairs_at(0, min(given.keys, DATA_LIMIT // (KEY_SIZE + size)), size)
    samples: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with scratch(parent) as directory:
        stores = {domain: pmkv.open(directory / domain, persistence=domain) for domain in DOMAINS}
        for turn in range(given.repeat):
            for domain, db in stores.items():
                for operation, took in cycle(db, pairs, turn).items():
                    samples[operation][domain].append(took)
        for db in stores.values():
            db.close()
    return {operation: medians(by_domain) for operation, by_domain in samples.items()}


def arguments() -> argparse.Namespace:
    """What was asked for."""
    made = parser(__doc__, "/dev/shm", 5)
    made.add_argument(
        "--keys", type=positive, default=100_000, help="keys in a store (%(default)s)"
    )
    made.add_argument(
        "--sizes", type=int, nargs="+", default=SIZES, help="sizes of values, in bytes"
    )
    return made.parse_args()


def main() -> None:
    """Measures, then prints."""
    given = arguments()
    facts = surroundings(given.dir) | {"pmkv": f"{pmkv.__version__}, {Path(pmkv.__file__).parent}"}
    results = {size: measure(given.dir, size, given) for size in given.sizes}
    if given.json:
        show_json({"facts": facts, "ns_per_operation": results})
        return
    show_facts(facts)
    for size, by_operation in results.items():
        title = f"values of {size:,} bytes, nanoseconds per key"
        show_ratios(title, by_operation, DOMAINS)


if __name__ == "__main__":
    main()
