"""Programs of all that a pool can do leave what docs/format.md says, killed or not.

Each writes into namespaces that only it knows, so that there is one right content at any time,
while snapshots, sweeps and compaction come and go; the independent reader judges what is there.
"""

from __future__ import annotations

import os
import random
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import pytest
from conftest import Place, make_large
from reader import Reader
from test_kill import acknowledged_before_kill, start_child

import pmkv

LONG, SHORT = 100_000.0, 1e-4
NAMES = ["", "a", "b", "u"]
KEYS = [b"%d" % i for i in range(40)] + [b"", b"k" * 300, b"l" * 4100]
CODECS = (None, "lz4", "zstd")
TRAINED = "trained"  # a namespace of values that dictionaries are trained on, and of no program
SIZES = (0, 10, 100, 900, 3000, 5000, 40_000)

# What is there: by namespace and key the value, and whether it expires one day.
Model = dict[tuple[str, bytes], tuple[bytes, bool]]
Operation = Callable[[pmkv.Store], None]


def space_of(source: Any, name: str) -> Any:
    return source.namespace(name, ordered=name != "u") if name else source


def let_expire(space: Any, key: bytes) -> None:
    space.touch(key, SHORT)
    time.sleep(2 * SHORT)


def train(db: pmkv.Store) -> None:
    """From here on a namespace of the program has a dictionary, which the reader must find."""
    samples, space = db.namespace(TRAINED, codec="zstd"), db.namespace("a")
    samples.put_many((b"%d" % i, b'{"id": %d, "city": "Graz", "on": true}' % i) for i in range(300))
    samples.train_dictionary(256)
    space._set_options(space._options() & 3 | samples._options() & 0xFF << 40)


def change(chance: random.Random, model: Model, names: list[str]) -> Callable[[Any], None]:
    """One change of one key, done to the model; how to do it to a store or a transaction."""
    name, key = chance.choice(names), chance.choice(KEYS)
    value = bytes([chance.randrange(256)]) * chance.choice(SIZES)
    what = chance.choice(("put", "put", "mortal", "mortal", "touch", "delete", "soon"))
    there = (name, key) in model
    if what in ("put", "mortal"):
        model[name, key] = value, what == "mortal"
        ttl, codec = LONG if what == "mortal" else None, chance.choice(CODECS)
        return lambda source: space_of(source, name).put(key, value, ttl=ttl, codec=codec)
    if what == "touch":
        ends = chance.random() < 0.5
        if there:
            model[name, key] = model[name, key][0], ends
        return lambda source: space_of(source, name).touch(key, LONG if ends else None)
    model.pop((name, key), None)
    if what == "delete":
        return lambda source: space_of(source, name).delete(key)
    return lambda source: let_expire(space_of(source, name), key)


def transaction(chance: random.Random, model: Model, names: list[str]) -> Operation:
    """Many changes in one commit, of which savepoints undo some."""
    parts: list[tuple[bool, list[Callable[[Any], None]]]] = []
    for _ in range(chance.randrange(1, 6)):
        undone = chance.random() < 0.4
        target = dict(model) if undone else model
        parts.append((undone, [change(chance, target, names) for _ in range(chance.randrange(12))]))

    large = chance.random() < 0.5

    def act(db: pmkv.Store) -> None:
        with db.begin(write=True) as txn:
            if large:
                make_large(txn)
            for undone, changes in parts:
                savepoint = txn.savepoint()
                for do in changes:
                    do(txn)
                if undone:
                    savepoint.rollback()
                savepoint.release()

    return act


def drop(name: str) -> Operation:
    def act(db: pmkv.Store) -> None:
        if name in db.namespaces():
            db.drop(name)

    return act


def operation(chance: random.Random, model: Model, held: list[pmkv.Snapshot]) -> Operation:
    """The next step of a program, done to the model."""
    what = chance.random()
    if what < 0.45:
        return change(chance, model, NAMES)
    if what < 0.7:
        return transaction(chance, model, NAMES)
    if what < 0.78:
        return lambda db: held.append(db.snapshot())
    if what < 0.84:
        return lambda db: held.pop(0).close() if held else None
    if what < 0.88:
        name = chance.choice(NAMES[1:])
        for at in [at for at in model if at[0] == name]:
            del model[at]
        return drop(name)
    if what < 0.92:
        for at in [at for at in model if at[0] == ""]:
            del model[at]
        return lambda db: db.clear()
    upkeep: list[Operation] = [
        lambda db: db.compact(),
        lambda db: db.expire(),
        lambda db: db.sync(),
        train,
    ]
    return chance.choice(upkeep)


def program(seed: int) -> Iterator[tuple[Model, Operation, Model]]:
    """What was there before each step, the step, what is there behind it."""
    chance, model = random.Random(seed), Model()
    held: list[pmkv.Snapshot] = []
    while True:
        before = dict(model)
        yield before, operation(chance, model, held), dict(model)


def contents(db: pmkv.Store) -> Model:
    return {
        (name, key): (value, space.ttl(key) is not None)
        for name in ["", *db.namespaces()]
        if name != TRAINED
        for space in [space_of(db, name)]
        for key, value in space.items()
    }


def assert_is_as_documented(path: Path, models: list[Model]) -> None:
    """The reader does not know what time it is: it may find more, but only what expires."""
    reader = Reader(path.read_bytes())
    spaces = {"": reader.everything(), **reader.namespaces}
    spaces.pop(TRAINED, None)
    found = {(name, key): value for name, pairs in spaces.items() for key, value in pairs.items()}
    assert any(
        all(found.get(at) == value for at, (value, _) in model.items())
        and len(found) - len(model) <= len(reader.expiring) - sum(m for _, m in model.values())
        for model in models
    )


@pytest.mark.parametrize("persistence", ["process", "byte", "cacheline"])
def test_what_a_program_leaves_is_what_the_format_says(
    persistence: str, pool_path: Path, effort: int
) -> None:
    """Also at a moment in the middle, as a kill would leave it."""
    met: set[str] = set()
    for seed in range(8 * effort):
        with pmkv.open(pool_path, "n", persistence=persistence) as db:  # type: ignore[arg-type]
            steps = program(seed)
            for i in range(150):
                _, act, after = next(steps)
                act(db)
                if i % 30 == 29:
                    time.sleep(2 * SHORT)
                    assert contents(db) == after
                    assert_is_as_documented(pool_path, [after])
            steps.close()
            met |= set(db.stat()["codecs"])
            assert db.check() == []
        assert_is_as_documented(pool_path, [after])
    assert met == {"lz4", "zstd", "lz4-dict", "zstd-dict"}


def write_and_report(place: Place, seed: int, out: int) -> None:
    with place.open("n") as db:
        os.write(out, b".")
        for _, act, _ in program(seed):
            act(db)
            os.write(out, b".")


@pytest.mark.parametrize("persistence", ["process", "cacheline", "page"])
def test_a_program_that_is_killed_leaves_what_it_acknowledged(
    persistence: str, pool_path: Path, disk_path: Path, effort: int
) -> None:
    place = Place(disk_path if persistence == "page" else pool_path, persistence)
    chance = random.Random(persistence)
    for seed in range(15 * effort):
        pid, pipe = start_child(write_and_report, place, 1000 + seed)
        enough, moment = chance.choice((1, 10, 60, 150)), chance.randrange(30_000)
        count = acknowledged_before_kill(pid, pipe, enough, moment)
        steps = program(1000 + seed)
        for _ in range(count):
            before, _, after = next(steps)
        time.sleep(2 * SHORT)
        assert_is_as_documented(place.path, [before, after])
        with place.open("r") as db:
            assert contents(db) in (before, after), f"seed {seed}, {count} acknowledged"
        with place.open("w") as db:
            assert db.check() == []
            assert contents(db) in (before, after)
            db.sync()
            db.compact()
            assert contents(db) in (before, after)
            assert db.check() == []
        assert_is_as_documented(place.path, [before, after])


# -- the same by threads, each with a namespace of its own -----------------------------------------


def program_of_one(seed: int, name: str) -> Iterator[tuple[Model, Operation, Model]]:
    chance, model = random.Random(seed), Model()
    while True:
        before = dict(model)
        make = transaction if chance.random() < 0.4 else change
        act: Operation = make(chance, model, [name])
        yield before, act, dict(model)


def write_one(db: pmkv.Store, seed: int, name: str, out: int) -> None:
    for _, act, _ in program_of_one(seed, name):
        act(db)
        os.write(out, b"%c" % NAMES.index(name))


def look_around(db: pmkv.Store) -> None:
    """A moment shows the same at its end as at its beginning."""
    while True:
        with db.snapshot() as snapshot:
            spaces = [space_of(snapshot, name) for name in ["", *snapshot.namespaces()]]
            first = [dict(space) for space in spaces]
            time.sleep(0.002)
            if [dict(space) for space in spaces] != first:
                os._exit(2)
            if [len(space) for space in spaces] != [len(pairs) for pairs in first]:
                os._exit(3)


def tidy_up(db: pmkv.Store) -> None:
    while True:
        db.compact()
        db.expire()
        db.sync()


def write_side_by_side(place: Place, seed: int, out: int) -> None:
    """Ends when it is killed, or with the first thread that fails."""
    with place.open("n") as db, ThreadPoolExecutor(8) as threads:
        jobs = [threads.submit(write_one, db, seed, name, out) for name in NAMES]
        jobs += [threads.submit(look_around, db), threads.submit(tidy_up, db)]
        for job in as_completed(jobs):
            traceback.print_exception(job.exception())
            os._exit(4)


@pytest.mark.parametrize("persistence", ["process", "cacheline"])
def test_threads_that_are_killed_leave_what_each_acknowledged(
    persistence: str, pool_path: Path, effort: int
) -> None:
    place = Place(pool_path, persistence)
    chance = random.Random(persistence)
    for seed in range(10 * effort):
        pid, pipe = start_child(write_side_by_side, place, seed)
        done = b""
        enough = chance.choice((1, 100, 500, 1500))
        while len(done) < enough and (got := os.read(pipe, 4096)):
            done += got
        os.kill(pid, signal.SIGKILL)
        while got := os.read(pipe, 4096):
            done += got
        os.close(pipe)
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), "the child ended by itself: see its traceback above"
        time.sleep(2 * SHORT)
        with place.open("w") as db:
            assert db.check() == []
            found = contents(db)
        for index, name in enumerate(NAMES):
            steps = program_of_one(seed, name)
            after: Model = {}
            for _ in range(done.count(index)):
                _, _, after = next(steps)
            mine = {at: value for at, value in found.items() if at[0] == name}
            assert mine in (after, next(steps)[2]), f"seed {seed}, {name!r}"
        Reader(place.path.read_bytes()).everything()
