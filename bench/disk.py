"""What a durable put costs on an ordinary disk: pmkv's page domain and its peers with their syncs.

Each engine puts one new random key after the other and must have it on the medium, safe from a
power cut, before the next.  The engines take turns, a round each, and the median of the rounds
counts.  See README.md.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

from _common import (
    filesystem_of,
    pairs_at,
    parser,
    positive,
    put_each,
    scratch,
    show_facts,
    show_json,
    show_ratios,
    surroundings,
)
from _engines import PEERS, Engine, LmdbWritemap, Pmkv, described, installed, take_turns

ROUND = 100
IN_MEMORY = ("tmpfs", "ramfs")


def arguments() -> argparse.Namespace:
    """What was asked for."""
    made = parser(__doc__, ".", 20)
    made.add_argument("--puts", type=positive, default=ROUND, help="puts in a round (%(default)s)")
    return made.parse_args()


def refuse_memory(directory: Path) -> None:
    """A disk that is none would make every number here a lie."""
    kind = filesystem_of(directory)
    if kind in IN_MEMORY:
        raise SystemExit(
            f"{directory.resolve()} is on {kind}, which a power cut empties; "
            "give a directory on a disk with --dir"
        )


def put_round(puts: int, engine: Engine, turn: int) -> float:
    """Microseconds per put of new keys."""
    return put_each(engine.put, pairs_at(turn * puts, puts)) / 1000


def main() -> None:
    """Measures, then prints."""
    given = arguments()
    with scratch(given.dir) as directory:
        refuse_memory(directory)
        kinds = installed(Pmkv, *(peer for peer in PEERS if peer is not LmdbWritemap))
        facts = surroundings(directory) | described(kinds)
        engines = [kind(directory / kind.name, power_safe=True) for kind in kinds]
        results = {
            "put": take_turns(engines, given.repeat, functools.partial(put_round, given.puts))
        }
        for engine in engines:
            engine.close()
    if given.json:
        show_json({"facts": facts, "us_per_put": results["put"]})
        return
    show_facts(facts)
    show_ratios("microseconds per put", results, [kind.name for kind in kinds])


if __name__ == "__main__":
    main()
