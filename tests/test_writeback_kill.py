"""Of what was written lazily, what survives a kill is a prefix, with all that was durable."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Place
from test_kill import acknowledged_before_kill, start_child

NEVER = 1000.0  # seconds: no timer
Operation = tuple[str, str, Any]  # what, in which namespace, with what
SPACES = ("", "one", "two")
Model = dict[str, dict[bytes, bytes]]


def operations(seed: int) -> Iterator[Operation]:
    """What the child does, in an order that the seed decides."""
    chance = random.Random(seed)
    for number in itertools.count():
        space = chance.choice(SPACES)
        key = b"%d" % chance.randrange(40)
        value = b"%d:" % number + b"x" * chance.choice((0, 10, 300, 3000))
        what = chance.randrange(20)
        if what < 10:
            yield "put", space, (key, value)
        elif what < 13:
            yield "delete", space, key
        elif what < 15:
            yield "add", space, (key, value)
        elif what < 18:
            stem = chance.randrange(20)
            yield "put_many", space, {b"%d" % (stem + i): value for i in range(20)}
        elif what < 19:
            yield "sync_put", space, (key, value)
        else:
            yield "transaction", space, (key, value)


def apply(model: Model, operation: Operation) -> None:
    what, name, given = operation
    space = model[name]
    if what == "delete":
        space.pop(given, None)
    elif what == "put_many":
        space.update(given)
    elif what == "add":
        space.setdefault(*given)
    elif what == "transaction":
        for each in model.values():
            each[given[0]] = given[1]
    else:
        space[given[0]] = given[1]


def perform(db: Any, spaces: dict[str, Any], operation: Operation) -> None:
    what, name, given = operation
    if what == "delete":
        spaces[name].delete(given)
    elif what == "put_many":
        spaces[name].put_many(given)
    elif what == "add":
        spaces[name].add(*given)
    elif what == "sync_put":
        spaces[name].put(*given, durability="sync")
    elif what == "transaction":
        with db.begin(write=True) as txn:
            for each in (txn, txn.namespace("one"), txn.namespace("two")):
                each[given[0]] = given[1]
    else:
        spaces[name][given[0]] = given[1]


def write_lazily_and_report(place: Place, options: dict[str, Any], seed: int, out: int) -> None:
    db = place.open(durability="lazy", **options)
    spaces = {"": db, "one": db.namespace("one"), "two": db.namespace("two")}
    for operation in operations(seed):
        perform(db, spaces, operation)
        durably = operation[0] in ("sync_put", "transaction")
        os.write(out, b"!" if durably else b".")


def found_in(place: Place) -> Model:
    with place.open() as db:
        assert db.check() == []
        return {name: dict(db.namespace(name) if name else db) for name in SPACES}


def kill_after(pid: int, pipe: int, enough: int) -> bytes:
    """Kills the child after that many operations; what it has said."""
    said = b""
    while len(said) < enough and (got := os.read(pipe, 1)):
        said += got
    os.kill(pid, signal.SIGKILL)
    while got := os.read(pipe, 65536):
        said += got
    os.close(pipe)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the child ended by itself: see its traceback above"
    return said


@pytest.mark.parametrize("persistence", ["process", "page"])
@pytest.mark.parametrize("codec", [None, "lz4"])
def test_what_survives_a_kill_is_a_prefix_with_all_that_was_durable(
    persistence: str, codec: str | None, pool_path: Path, disk_path: Path, effort: int
) -> None:
    place = Place(disk_path if persistence == "page" else pool_path, persistence)
    chance = random.Random(f"{persistence}{codec}")
    model: Model = {name: {} for name in SPACES}
    cut_off = 0
    for seed in range(15 * effort):
        options = {
            "codec": codec,
            "writeback_interval": chance.choice((1e-4, 1e-3, NEVER)),
            "buffer_size": chance.choice(("16 KiB", "32 MiB")),
        }
        pid, pipe = start_child(write_lazily_and_report, place, options, seed)
        said = kill_after(pid, pipe, chance.choice((1, 10, 100, 400)))
        found = found_in(place)
        needed = said.rfind(b"!") + 1  # so many are durable
        steps = operations(seed)
        for operation in itertools.islice(steps, needed):
            apply(model, operation)
        survived = needed
        while found != model:
            assert survived <= len(said), f"seed {seed}: no prefix of {len(said)} operations"
            apply(model, next(steps))
            survived += 1
        cut_off += len(said) - survived
    assert cut_off > 0, "nothing was lost: the test shows nothing"


def count_up(place: Place, out: int) -> None:
    """Several threads, each of which counts in keys of two namespaces, and reports each number."""
    db = place.open(durability="lazy", writeback_interval=1e-3, buffer_size="64 KiB", codec="lz4")
    one = db.namespace("one")

    def count(name: bytes) -> None:
        for i in itertools.count(1):
            db[name] = b"%d" % i
            one.put_many({name + b"%d" % j: b"%d" % i for j in range(5)})

    threads = [threading.Thread(target=count, args=(b"%c" % (97 + n),)) for n in range(3)]
    for thread in threads:
        thread.start()
    while True:
        time.sleep(0.002)
        os.write(out, b".")


def test_of_several_threads_a_prefix_of_each_survives(pool_path: Path, effort: int) -> None:
    place = Place(pool_path, "process")
    for _ in range(8 * effort):
        pool_path.unlink(missing_ok=True)
        pid, pipe = start_child(count_up, place)
        acknowledged_before_kill(pid, pipe, 20, 0)
        with place.open() as db:
            assert db.check() == []
            one = db.namespace("one")
            for name in (b"a", b"b", b"c"):
                number = int(db.get(name, b"0"))
                others = {int(one.get(name + b"%d" % j, b"0")) for j in range(5)}
                assert len(others) == 1, "a batch was torn"
                assert others <= {number, number - 1}, "what came later survived alone"
