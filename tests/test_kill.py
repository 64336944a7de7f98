"""A process may be killed at any moment: what was acknowledged is there, and nothing in part."""

from __future__ import annotations

import itertools
import os
import random
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Place

import pmkv

KEYS = 400
Model = dict[bytes, bytes]
Operation = tuple[str, Any]


def a_key(chance: random.Random) -> bytes:
    return b"%d" % chance.randrange(KEYS)


def a_value(chance: random.Random) -> bytes:
    """Mostly small; sometimes in an extent; seldom so large that its copy takes a while."""
    size = chance.choice((0, 10, 100, 1000, 3000, 5000, 70_000))
    return bytes([chance.randrange(256)]) * (chance.randrange(1 << 20) if size == 70_000 else size)


def operations(seed: int) -> Iterator[Operation]:
    """What the child does, in an order that the seed decides."""
    chance = random.Random(seed)
    while True:
        what = chance.randrange(20)
        if what < 10:
            yield "put", {a_key(chance): a_value(chance)}
        elif what < 14:
            yield "put_many", {a_key(chance): a_value(chance) for _ in range(chance.randrange(30))}
        elif what < 16:
            yield "delete", [a_key(chance)]
        elif what < 18:
            yield "delete_many", [a_key(chance) for _ in range(chance.randrange(60))]
        elif what < 19:
            stem, count = b"%d:" % chance.randrange(1000), chance.choice((50, 3000))
            yield "put_many", {stem + b"%d" % i: b"x" * 50 for i in range(count)}
        else:
            yield "clear", None


def apply(model: Any, operation: Operation) -> None:
    """Does an operation to a store, or to a dict."""
    what, given = operation
    if what == "clear":
        model.clear()
    elif what.startswith("delete"):
        for key in given:
            model.pop(key, None)
    else:
        model.update(given)


def perform(db: pmkv.Store, operation: Operation) -> None:
    """Does an operation to the store in one commit."""
    what, given = operation
    if what == "put":
        for key, value in given.items():
            db[key] = value
    elif what == "delete":
        db.delete(given[0])
    elif what == "delete_many":
        db.delete_many(given)
    else:
        apply(db, operation)


def write_and_report(place: Place, seed: int, out: int) -> None:
    """Opens the pool, and says with a byte each that an operation is done."""
    with place.open() as db:
        held: list[memoryview] = []
        for operation in operations(seed):
            if len(held) < 20 and b"7" in db:
                held.append(db.view(b"7"))
            perform(db, operation)
            os.write(out, b".")


def start_child(function: Callable[..., None], *arguments: Any) -> tuple[int, int]:
    """Forks a child that calls the function; its id and the end of its pipe to read from."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ours)
            function(*arguments, theirs)
        finally:
            os._exit(1)
    os.close(theirs)
    return pid, ours


def acknowledged_before_kill(pid: int, pipe: int, enough: int, moment: int) -> int:
    """Kills the child a moment after that many operations; how many it has acknowledged."""
    count = 0
    while count < enough and (got := os.read(pipe, 1)):
        count += len(got)
    for _ in range(moment):
        pass
    os.kill(pid, signal.SIGKILL)
    while got := os.read(pipe, 4096):
        count += len(got)
    os.close(pipe)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the child ended by itself: see its traceback above"
    return count


def states_after(model: Model, seed: int, count: int) -> tuple[Model, Model]:
    """The state after the acknowledged operations, and that with the one in flight."""
    steps = operations(seed)
    for operation in itertools.islice(steps, count):
        apply(model, operation)
    later = dict(model)
    apply(later, next(steps))
    return model, later


@pytest.mark.parametrize("persistence", ["process", "cacheline", "page"])
def test_what_was_acknowledged_before_a_kill_is_there_and_nothing_in_part(
    persistence: str, pool_path, disk_path, effort: int
) -> None:
    place = Place(disk_path if persistence == "page" else pool_path, persistence)
    chance = random.Random(persistence)
    model: Model = {}
    for seed in range(40 * effort):
        pid, pipe = start_child(write_and_report, place, seed)
        enough, moment = chance.choice((0, 1, 10, 60)), chance.randrange(30_000)
        count = acknowledged_before_kill(pid, pipe, enough, moment)
        before, after = states_after(model, seed, count)
        with place.open() as db:
            assert db.check() == []
            found = dict(db)
            assert len(db) == len(found)
        assert found in (before, after), f"seed {seed}, {count} acknowledged"
        model = found


def open_again_and_again(place: Place, out: int) -> None:
    while True:
        with place.open() as db:
            db[b"opened"] = b"%d" % (int(db.get(b"opened", b"0")) + 1)
        os.write(out, b".")


@pytest.mark.parametrize("persistence", ["process", "page"])
def test_a_kill_during_open_or_close_loses_nothing(
    persistence: str, pool_path, disk_path, effort: int
) -> None:
    place = Place(disk_path if persistence == "page" else pool_path, persistence)
    chance = random.Random(1)
    opened = 0
    for _ in range(20 * effort):
        pid, pipe = start_child(open_again_and_again, place)
        count = acknowledged_before_kill(pid, pipe, chance.randrange(3), chance.randrange(10_000))
        with place.open() as db:
            found = int(db.get(b"opened", b"0"))
            assert db.check() == []
        assert opened + count <= found <= opened + count + 1
        opened = found


def make_again_and_again(place: Place, out: int) -> None:
    while True:
        with place.open("n") as db:
            db[b"made"] = b"anew"
        os.write(out, b".")


def test_a_kill_while_a_pool_is_made_anew_leaves_the_old_or_the_new_one(
    any_place: Place, effort: int
) -> None:
    chance = random.Random(2)
    with any_place.open() as db:
        db[b"made"] = b"first"
    for _ in range(10 * effort):
        pid, pipe = start_child(make_again_and_again, any_place)
        acknowledged_before_kill(pid, pipe, chance.randrange(3), chance.randrange(100_000))
        with any_place.open("w") as db:
            assert dict(db) in ({b"made": b"first"}, {b"made": b"anew"}, {})
            assert db.check() == []
