"""How long a store takes to open after its writer was killed: pmkv and its peers.

A process loads a store, goes on putting and is killed with SIGKILL in the middle of it.  A
fresh process then opens the store and reads one key; that is timed.  See README.md.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import statistics
from multiprocessing.connection import Connection
from pathlib import Path

from _common import (
    answer_of,
    elapsed_ns,
    key_at,
    load,
    note,
    parser,
    positive,
    scratch,
    show_facts,
    show_json,
    show_ratios,
    start,
    surroundings,
    value_at,
)
from _engines import ENGINES, Engine, Lmdb, Plyvel, Pmkv, Rocksdict, described, installed


def write_until_killed(
    pipe: Connection, name: str, directory: Path, key_count: int, kills: int, puts: int
) -> None:
    """Loads the store unless it is an earlier victim's, and puts; says when `puts` are done."""
    engine = ENGINES[name](directory, power_safe=False)
    if kills == 0:
        load(engine.put_many, key_count)
    for done in itertools.count():
        index = key_count + kills * puts + done
        engine.put(key_at(index), value_at(index))
        if done == puts:
            pipe.send(done)


def open_and_get(kind: type[Engine], directory: Path, key: bytes) -> tuple[Engine, bytes | None]:
    """What is timed."""
    engine = kind(directory, power_safe=False)
    with engine.reading() as reader:
        return engine, reader.get(key)


def open_and_read(pipe: Connection, name: str, directory: Path, index: int) -> None:
    """Sends the milliseconds until the first value is there, or what was wrong with it."""
    kind = ENGINES[name]
    importlib.import_module(kind.module)
    opened: list[tuple[Engine, bytes | None]] = []
    took = elapsed_ns(lambda: opened.append(open_and_get(kind, directory, key_at(index))))
    engine, found = opened[0]
    pipe.send(took / 1e6 if found == value_at(index) else f"{name} lost key {index}")
    engine.close()


def kill_and_reopen(name: str, directory: Path, key_count: int, kills: int, puts: int) -> float:
    """Milliseconds to open and read after one kill; the last put before it must be there."""
    writer, pipe = start(write_until_killed, name, directory, key_count, kills, puts)
    acknowledged = pipe.recv()
    writer.kill()
    writer.join()
    index = key_count + kills * puts + acknowledged
    answer = answer_of(open_and_read, name, directory, index)
    if isinstance(answer, str):
        raise SystemExit(answer)
    return float(answer)


def measure(kind: type[Engine], parent: Path, key_count: int, given: argparse.Namespace) -> float:
    """The median over several kills of one store."""
    note(f"killing {kind.name} with {key_count:,} keys ...")
    with scratch(parent) as directory:
        store = directory / kind.name
        return statistics.median(
            kill_and_reopen(kind.name, store, key_count, kills, given.puts)
            for kills in range(given.repeat)
        )


def arguments() -> argparse.Namespace:
    """What was asked for."""
    made = parser(__doc__, "/dev/shm", 5)
    made.add_argument(
        "--keys", type=positive, nargs="+", default=[10_000, 1_000_000], help="%(default)s"
    )
    made.add_argument(
        "--puts", type=positive, default=50_000, help="single puts before the kill (%(default)s)"
    )
    return made.parse_args()


def main() -> None:
    """Measures, then prints."""
    given = arguments()
    kinds = installed(Pmkv, Lmdb, Plyvel, Rocksdict)
    facts = surroundings(given.dir) | described(kinds)
    results = {
        f"{count:,} keys": {kind.name: measure(kind, given.dir, count, given) for kind in kinds}
        for count in given.keys
    }
    if given.json:
        show_json({"facts": facts, "ms_to_first_read": results})
        return
    show_facts(facts)
    title = "milliseconds from a killed writer's store to the first value read"
    show_ratios(title, results, [kind.name for kind in kinds])


if __name__ == "__main__":
    main()
