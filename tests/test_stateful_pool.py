"""Any program leaves a pool and a model alike: transactions, namespaces, snapshots, scans, kills.

The model is a stack of what is seen: the last of it by whoever writes, the first by everybody else.
To add a savepoint is to push a copy; to add what changes nothing that is seen is a name in UPKEEP.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from reader import Reader

import pmkv

DEFAULT = ""
NAMES = [DEFAULT, "a", "b", "u", "unordered"]
UPKEEP = ["sync", "check"]

KEYS = st.one_of(
    st.sampled_from(
        [b"", b"\0", b"\0\0", b"a", b"a\0", b"a\0b", b"\xff", b"k" * 300, b"\0" * 3000]
    ),
    st.integers(0, 30).map(lambda i: b"%d" % i),
)
VALUES = st.builds(
    lambda byte, size: bytes([byte]) * size,
    st.integers(0, 255),
    st.one_of(st.integers(0, 200), st.sampled_from([1500, 4096, 5000, 40_000])),
)
PAIRS = st.dictionaries(KEYS, VALUES, max_size=10)


class Model:
    """What a pool holds: each namespace's pairs."""

    def __init__(self, spaces: dict[str, dict[bytes, bytes]] | None = None) -> None:
        self.spaces = {DEFAULT: {}} if spaces is None else spaces

    def copy(self) -> Model:
        return Model({name: dict(pairs) for name, pairs in self.spaces.items()})

    def of(self, name: str) -> dict[bytes, bytes]:
        return self.spaces.setdefault(name, {})


class Held(NamedTuple):
    """A snapshot, and what it must show."""

    snapshot: pmkv.Snapshot
    then: Model


class UnderWay(NamedTuple):
    """A scan, and what it has still to give; of a space without order in whatever order."""

    scan: Iterator[Any]
    left: list[tuple[bytes, bytes]]
    ordered: bool
    of: pmkv.Snapshot | None  # whose end is its end


def is_ordered(name: str) -> bool:
    return not name.startswith("u")


def space_of(source: Any, name: str) -> Any:
    """The namespace's mapping, made if it is missing."""
    if name == DEFAULT:
        return source
    return source.namespace(name, ordered=is_ordered(name))


def assert_shows(source: Any, model: Model) -> None:
    """Every way to ask gives what the model says."""
    assert source.namespaces() == sorted(set(model.spaces) - {DEFAULT})
    for name, pairs in model.spaces.items():
        space = source if name == DEFAULT else source.namespace(name)
        assert len(space) == len(pairs)
        found = list(space.items())
        assert sorted(found) == sorted(pairs.items())
        assert space.get_many(list(pairs)) == list(pairs.values())
        if is_ordered(name):
            keys = sorted(pairs)
            assert [key for key, _ in found] == keys
            assert list(reversed(space)) == keys[::-1]
            assert len(space.keys(start=b"2", stop=b"a")) == sum(b"2" <= key < b"a" for key in keys)
            assert [space.key_at(i) for i in range(len(keys))] == keys


def has_no_versions(path: Path) -> bool:
    """Whether what readers saw once was cleared away."""
    reader = Reader(path.read_bytes())
    return reader.sealed(4096 + 1664) == reader.sealed(4096 + 1672) == 0


class PoolAgainstModel(RuleBasedStateMachine):
    """Everything that programs do with a pool, beside a stack of models."""

    directory = ""

    @initialize(persistence=st.sampled_from(["process", "byte", "cacheline"]))
    def make(self, persistence: Any) -> None:
        self.at = Path(tempfile.mkdtemp(dir=self.directory))
        self.options = {"persistence": persistence}
        self.layers = [Model()]
        self.txn: pmkv.Transaction | None = None
        self.held: list[Held] = []
        self.scans: list[UnderWay] = []
        self.open()

    def open(self) -> None:
        self.db = pmkv.open(self.at / "pool.pmkv", **self.options)

    @property
    def committed(self) -> Model:
        return self.layers[0]

    @property
    def source(self) -> Any:
        """What is written through."""
        return self.db if self.txn is None else self.txn

    def space(self, name: str) -> tuple[Any, dict[bytes, bytes]]:
        """A namespace to write to, and its pairs."""
        return space_of(self.source, name), self.layers[-1].of(name)

    # -- writes --

    @rule(name=st.sampled_from(NAMES), key=KEYS, value=VALUES)
    def put(self, name: str, key: bytes, value: bytes) -> None:
        space, pairs = self.space(name)
        space[key] = pairs[key] = value

    @rule(name=st.sampled_from(NAMES), key=KEYS)
    def delete(self, name: str, key: bytes) -> None:
        space, pairs = self.space(name)
        assert space.delete(key) is (pairs.pop(key, None) is not None)

    @rule(name=st.sampled_from(NAMES), more=PAIRS)
    def put_many(self, name: str, more: dict[bytes, bytes]) -> None:
        space, pairs = self.space(name)
        assert space.put_many(more) == len(more)
        pairs.update(more)

    @rule(name=st.sampled_from(NAMES), keys=st.lists(KEYS, max_size=12))
    def delete_many(self, name: str, keys: list[bytes]) -> None:
        space, pairs = self.space(name)
        gone = set(keys) & set(pairs)
        assert space.delete_many(keys) == len(gone)
        for key in gone:
            del pairs[key]

    @rule(name=st.sampled_from(NAMES), key=KEYS, value=VALUES)
    def exchange(self, name: str, key: bytes, value: bytes) -> None:
        space, pairs = self.space(name)
        assert space.replace(key, value) == pairs.get(key)
        pairs[key] = value

    @rule(name=st.sampled_from(NAMES), count=st.integers(100, 900))
    def put_hundreds(self, name: str, count: int) -> None:
        space, pairs = self.space(name)
        more = {b"more%d" % i: b"%d" % (i % 7) for i in range(count)}
        space.update(more)
        pairs.update(more)

    @rule(name=st.sampled_from(NAMES))
    def clear(self, name: str) -> None:
        space, pairs = self.space(name)
        space.clear()
        pairs.clear()

    # -- transactions --

    @precondition(lambda self: self.txn is None)
    @rule()
    def begin(self) -> None:
        self.txn = self.db.begin(write=True)
        self.layers.append(self.layers[-1].copy())

    @precondition(lambda self: self.txn is not None)
    @rule()
    def commit(self) -> None:
        assert self.txn is not None
        self.txn.commit()
        self.txn, self.layers = None, self.layers[-1:]

    @precondition(lambda self: self.txn is not None)
    @rule(raised=st.booleans())
    def abort(self, raised: bool) -> None:
        assert self.txn is not None
        if raised:
            with pytest.raises(ZeroDivisionError), self.txn:
                raise ZeroDivisionError
        else:
            self.txn.abort()
        self.txn, self.layers = None, self.layers[:1]

    @precondition(lambda self: self.txn is not None)
    @rule()
    def look_inside(self) -> None:
        assert_shows(self.txn, self.layers[-1])

    # -- namespaces --

    @precondition(lambda self: self.txn is None and len(self.committed.spaces) > 1)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(set(self.committed.spaces) - {DEFAULT})))
        self.db.drop(name)
        del self.committed.spaces[name]

    # -- snapshots and scans --

    @precondition(lambda self: len(self.held) < 5)
    @rule(begin=st.booleans())
    def take_a_snapshot(self, begin: bool) -> None:
        snapshot = self.db.begin() if begin else self.db.snapshot()
        self.held.append(Held(snapshot, self.committed.copy()))

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 9))
    def look_at_a_snapshot(self, which: int) -> None:
        held = self.held[which % len(self.held)]
        assert_shows(held.snapshot, held.then)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 9), closed=st.booleans())
    def end_a_snapshot(self, which: int, closed: bool) -> None:
        """Closed, or forgotten; a scan of it keeps a forgotten one alive."""
        held = self.held.pop(which % len(self.held))
        if closed:
            held.snapshot.close()
            ended = [under_way for under_way in self.scans if under_way.of is held.snapshot]
            self.scans = [under_way for under_way in self.scans if under_way not in ended]
            for under_way in ended:
                with pytest.raises(pmkv.ClosedError):
                    next(under_way.scan)

    @precondition(lambda self: len(self.scans) < 4)
    @rule(which=st.integers(0, 9), name=st.sampled_from(NAMES), reverse=st.booleans())
    def begin_a_scan(self, which: int, name: str, reverse: bool) -> None:
        """Of the store, or of a snapshot."""
        held = self.held[which] if which < len(self.held) else None
        model = held.then if held else self.committed
        if name not in model.spaces:
            return
        source: Any = held.snapshot if held else self.db
        space = source if name == DEFAULT else source.namespace(name)
        ordered = is_ordered(name)
        scan = space.items(reverse=reverse) if ordered else space.items()
        left = sorted(model.of(name).items(), reverse=ordered and reverse)
        self.scans.append(UnderWay(iter(scan), left, ordered, held.snapshot if held else None))

    @precondition(lambda self: self.scans)
    @rule(which=st.integers(0, 9), steps=st.integers(1, 50))
    def go_on_with_a_scan(self, which: int, steps: int) -> None:
        under_way = self.scans[which % len(self.scans)]
        for _ in range(steps):
            try:
                pair = next(under_way.scan)
            except pmkv.ClosedError:  # its namespace was dropped
                self.scans.remove(under_way)
                return
            except StopIteration:
                assert under_way.left == []
                self.scans.remove(under_way)
                return
            assert pair == under_way.left[0] if under_way.ordered else pair in under_way.left
            under_way.left.remove(pair)

    # -- the pool --

    @rule(what=st.sampled_from(UPKEEP))
    def upkeep(self, what: str) -> None:
        """What changes nothing that is seen."""
        if self.txn is None:
            assert getattr(self.db, what)() in (None, [])

    @rule()
    def look(self) -> None:
        assert_shows(self.db, self.committed)

    @rule()
    def close_and_open(self) -> None:
        self.db.close()
        for held in self.held:
            with pytest.raises(pmkv.ClosedError):
                held.snapshot.get(b"a")
        for under_way in self.scans:
            with pytest.raises(pmkv.ClosedError):
                next(under_way.scan)
        self.txn, self.layers, self.held, self.scans = None, self.layers[:1], [], []
        self.open()
        assert_shows(self.db, self.committed)

    @rule()
    def kill(self) -> None:
        """What SIGKILL would leave: the file as it is now, without this process."""
        copy = self.at / "copy.pmkv"
        shutil.copy(self.at / "pool.pmkv", copy)
        with pmkv.open(copy, **self.options) as db:
            assert db.check() == []
            assert_shows(db, self.committed)
            db.sync()
            assert db.check() == []
            assert_shows(db, self.committed)
            assert has_no_versions(copy)

    @invariant()
    def sizes_agree(self) -> None:
        if hasattr(self, "db"):
            pairs = self.committed.of(DEFAULT)
            assert len(self.db) == len(pairs)
            live = sum(len(key) + len(value) for key, value in pairs.items())
            assert self.db.stat()["live_bytes"] == live

    def teardown(self) -> None:
        if not hasattr(self, "db"):
            return
        if self.txn is not None:
            self.txn.abort()
        for held in self.held:
            held.snapshot.close()
        self.scans = []
        try:
            self.db.sync()
            assert self.db.check() == []
            assert_shows(self.db, self.committed)
            assert has_no_versions(self.at / "pool.pmkv")
        finally:
            self.db.close()
            shutil.rmtree(self.at)


def test_any_program_leaves_a_pool_and_a_model_alike(memory_dir: Path, effort: int) -> None:
    class Machine(PoolAgainstModel):
        directory = str(memory_dir)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=150 * effort,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
