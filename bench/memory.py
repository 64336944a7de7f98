"""How much memory a store holds that grows with its keys: pmkv and its peers.

A process loads a store and reads every key back, another does so with a hundred times the keys;
the difference of their anonymous memory is what the additional keys cost.  See README.md.
"""

from __future__ import annotations

import argparse
import gc
from multiprocessing.connection import Connection
from pathlib import Path

from _common import (
    answer_of,
    key_at,
    load,
    note,
    parser,
    positive,
    scratch,
    show_facts,
    show_json,
    show_table,
    surroundings,
    value_at,
)
from _engines import ENGINES, PEERS, Dict, Pmkv, Reader, described, installed

TARGET = 4.0  # MiB


def anonymous_mib() -> float:
    """Memory of this process that no file backs.

    RSS would not do: it counts the pages of a mapped store that happen to have been touched,
    which are the medium itself (or the page cache of it), not memory that the process holds.
    """
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("/proc/self/smaps_rollup has no line 'Anonymous:'")


def read_back(reader: Reader, count: int) -> None:
    """Reads every key and compares its value, holding none of them."""
    for index in range(count):
        if reader.get(key_at(index)) != value_at(index):
            raise SystemExit(f"key {index} has a wrong value")


def use(pipe: Connection, name: str, directory: Path, count: int) -> None:
    """Loads and reads a store, and sends what memory that left the process with."""
    engine = ENGINES[name](directory, power_safe=False)
    load(engine.put_many, count)
    with engine.reading() as reader:
        read_back(reader, count)
        gc.collect()
        pipe.send(anonymous_mib())
    engine.close()


def measure(name: str, parent: Path, counts: list[int], repeat: int) -> list[float]:
    """MiB for each number of keys, the least of the repeats: memory is only ever disturbed up."""
    note(f"filling {name} ...")
    least = []
    for count in counts:
        taken = []
        for _ in range(repeat):
            with scratch(parent) as directory:
                taken.append(answer_of(use, name, directory, count))
        least.append(min(taken))
    return least


def arguments() -> argparse.Namespace:
    """What was asked for."""
    made = parser(__doc__, "/dev/shm", 1)
    made.add_argument(
        "--keys",
        type=positive,
        nargs=2,
        default=[10_000, 1_000_000],
        metavar=("FEW", "MANY"),
        help="%(default)s",
    )
    return made.parse_args()


def main() -> None:
    """Measures, then prints."""
    given = arguments()
    kinds = installed(Pmkv, *PEERS, Dict)
    facts = surroundings(given.dir) | described(kinds)
    results = {kind.name: measure(kind.name, given.dir, given.keys, given.repeat) for kind in kinds}
    growth = {name: many - few for name, (few, many) in results.items()}
    if given.json:
        show_json({"facts": facts, "anonymous_mib": results, "growth_mib": growth})
        return
    show_facts(facts)
    few, many = (f"{count:,} keys" for count in given.keys)
    rows = [
        [name, *(f"{size:.2f}" for size in (*sizes, growth[name]))]
        for name, sizes in results.items()
    ]
    show_table("MiB of anonymous memory", ["", few, many, "difference"], rows)
    verdict = "PASS" if growth["pmkv"] < TARGET else "miss"
    print(f"\n{verdict}  pmkv's difference is under {TARGET:g} MiB")


if __name__ == "__main__":
    main()
