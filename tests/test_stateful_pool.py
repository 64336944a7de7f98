"""Any program leaves a pool and a model alike: transactions with savepoints, namespaces, codecs,
expiry, snapshots, scans, compaction, copies, kills.

The model is a stack of what is seen: the last of it by whoever writes, the first by everybody else,
those between them by whoever rolls back to a savepoint.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import make_large
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
from test_coded_values import document, swapped

import pmkv
from pmkv import _codec

KEY = bytes(range(32))
CODECS = ["plain", "lz4", "zstd", "lz4+aes", "chacha20", "swap+lz4"]
DEFAULT = ""
NAMES = [DEFAULT, "a", "b", "u", "unordered"]
UPKEEP = ["sync", "check", "compact", "expire"]
LONG, SHORT = (
    100_000.0,
    1e-4,
)  # seconds to live: of what outlives the test, and of what is waited for

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
NUMBER = re.compile(rb"[+-]?[0-9]{1,3999}")


class Pairs(dict[bytes, bytes]):
    """What a namespace holds; `mortal` has those of its keys that expire one day.

    `encoder` is what encodes the values that come; `encoders` has what each was encoded with.
    """

    def __init__(
        self,
        pairs: dict[bytes, bytes],
        mortal: set[bytes],
        encoders: dict[bytes, _codec.Coder | None] | None = None,
    ) -> None:
        super().__init__(pairs)
        self.mortal = mortal & set(pairs)
        self.encoder: _codec.Coder | None = None
        self.encoders = dict(encoders or {})

    def copy(self) -> Pairs:
        return Pairs(self, self.mortal, self.encoders)

    def __setitem__(self, key: bytes, value: bytes) -> None:
        super().__setitem__(key, value)
        self.mortal.discard(key)
        self.encoders[key] = self.encoder

    def update(self, more: dict[bytes, bytes]) -> None:  # type: ignore[override]
        for key, value in more.items():
            self[key] = value

    def stored(self) -> Iterator[tuple[bytes, str, int, int]]:
        """Of each value: its key, its codec, and its size before that and behind it."""
        for key, value in self.items():
            encoder, coding, made = self.encoders[key], 0, value
            if encoder is not None:
                coding, made = encoder.encode(key, value)
            name = _codec.text_of((coding >> 32).to_bytes(4, "little"))
            yield key, name, len(value), len(made)


class Model:
    """What a pool holds: each namespace's pairs."""

    def __init__(self, spaces: dict[str, Pairs]) -> None:
        self.spaces = spaces

    def copy(self) -> Model:
        return Model({name: pairs.copy() for name, pairs in self.spaces.items()})

    def of(self, name: str) -> Pairs:
        return self.spaces.setdefault(name, Pairs({}, set()))


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


def encoder_of(space: Any) -> _codec.Coder | None:
    """What encodes new values."""
    coder: _codec.Coder = space._coder()
    return coder if coder.stages else None


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


def assert_times(source: Any, model: Model) -> None:
    """The keys that expire one day are the model's.  Not for a snapshot: touch() reaches it."""
    for name, pairs in model.spaces.items():
        space = source if name == DEFAULT else source.namespace(name)
        assert {key for key in pairs if space.ttl(key) is not None} == pairs.mortal & set(pairs)


def assert_counts(db: pmkv.Store, model: Model) -> None:
    """Values, and their bytes before and behind codecs, are counted; nothing has expired."""
    counted: dict[str, list[int]] = {}
    for pairs in model.spaces.values():
        for _, codec, raw, stored in pairs.stored():
            total = counted.setdefault(codec, [0, 0, 0])
            total[:] = [total[0] + 1, total[1] + raw, total[2] + stored]
    plain = counted.pop("plain", [0])[0]
    stat = db.stat()
    assert {codec: list(found.values()) for codec, found in stat["codecs"].items()} == counted
    assert stat["paths"]["direct"]["entries"] == plain


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
        self.options = {"persistence": persistence, "key": KEY, "cache_size": "100 KiB"}
        self.layers = [Model({DEFAULT: Pairs({}, set())})]
        self.txn: pmkv.Transaction | None = None
        self.savepoints: list[pmkv.Savepoint] = []  # each is at the layer after that of its index
        self.due = False  # something may have expired that still takes space
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

    def space(self, name: str) -> tuple[Any, Pairs]:
        """A namespace to write to, and its pairs."""
        space, pairs = space_of(self.source, name), self.layers[-1].of(name)
        pairs.encoder = encoder_of(space)
        return space, pairs

    # -- codecs --

    @rule(name=st.sampled_from(NAMES), key=KEYS, value=VALUES, codec=st.sampled_from(CODECS))
    def put_under_a_codec(self, name: str, key: bytes, value: bytes, codec: str) -> None:
        space, pairs = self.space(name)
        pairs.encoder = space._coder().for_codec(codec)
        space.put(key, value, codec=codec)
        pairs[key] = value

    @rule(name=st.sampled_from(NAMES[1:]), codec=st.sampled_from(CODECS))
    def change_the_codec(self, name: str, codec: str) -> None:
        self.space(name)
        space = self.source.namespace(name, codec=codec)
        assert _codec.text_of(space._coder().stages) == codec

    @precondition(lambda self: self.txn is None)
    @rule(name=st.sampled_from(NAMES[1:]), codec=st.sampled_from(["lz4", "zstd", "lz4+aes"]))
    def train(self, name: str, codec: str) -> None:
        """A dictionary: one number more, which values from now on name."""
        _, pairs = self.space(name)
        space = self.db.namespace(name, codec=codec)
        pairs.encoder = encoder_of(space)
        more = {b"more%d" % i: document(i) for i in range(300)}
        space.update(more)
        pairs.update(more)
        assert space.train_dictionary(256) > 0

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

    # -- counters --

    @rule(name=st.sampled_from(NAMES), key=KEYS, delta=st.integers(-1000, 1000))
    def incr(self, name: str, key: bytes, delta: int) -> None:
        """What expires goes on to expire."""
        space, pairs = self.space(name)
        old = pairs.get(key, b"10")
        if not NUMBER.fullmatch(old):
            with pytest.raises(pmkv.InvalidValueError):
                space.incr(key, delta)
            return
        mortal = key in pairs and key in pairs.mortal
        assert space.incr(key, delta, default=10) == int(old) + delta
        pairs[key] = b"%d" % (int(old) + delta)
        if mortal:
            pairs.mortal.add(key)

    @rule(
        name=st.sampled_from(NAMES),
        key=KEYS,
        right=st.booleans(),
        guess=st.none() | VALUES,
        new=st.none() | VALUES,
    )
    def compare_and_set(
        self, name: str, key: bytes, right: bool, guess: bytes | None, new: bytes | None
    ) -> None:
        space, pairs = self.space(name)
        expected = pairs.get(key) if right else guess
        same = pairs.get(key) == expected
        assert space.compare_and_set(key, expected, new) is same
        if same and new is None:
            pairs.pop(key, None)
        elif same and new is not None:
            pairs[key] = new

    # -- expiry --

    @rule(name=st.sampled_from(NAMES), key=KEYS, value=VALUES)
    def put_mortal(self, name: str, key: bytes, value: bytes) -> None:
        space, pairs = self.space(name)
        space.put(key, value, ttl=LONG)
        pairs[key] = value
        pairs.mortal.add(key)

    @rule(
        name=st.sampled_from(NAMES), keys=st.lists(KEYS, max_size=8), ttl=st.none() | st.just(LONG)
    )
    def touch(self, name: str, keys: list[bytes], ttl: float | None) -> None:
        space, pairs = self.space(name)
        for key in keys:
            assert space.touch(key, ttl) is (key in pairs)
            if ttl is None or key not in pairs:
                pairs.mortal.discard(key)
            else:
                pairs.mortal.add(key)

    @rule(name=st.sampled_from(NAMES), keys=st.lists(KEYS, max_size=8), value=st.none() | VALUES)
    def let_expire(self, name: str, keys: list[bytes], value: bytes | None) -> None:
        """Keys whose time comes now, put or touched; a snapshot goes on to show them."""
        space, pairs = self.space(name)
        for key in keys:
            if value is None:
                space.touch(key, SHORT)
            else:
                space.put(key, value, ttl=SHORT)
            pairs.pop(key, None)
        self.due = True
        until = time.time() + 2 * SHORT
        while time.time() < until:
            time.sleep(SHORT)

    @precondition(lambda self: self.txn is not None)
    @rule()
    def expire_inside(self) -> None:
        assert self.txn is not None
        self.txn.expire()
        assert self.txn.expire() == 0

    @rule()
    def look_at_times(self) -> None:
        assert_times(self.source, self.layers[-1])

    # -- transactions --

    @precondition(lambda self: self.txn is None)
    @rule(large=st.booleans())
    def begin(self, large: bool) -> None:
        self.txn = self.db.begin(write=True)
        if large:
            make_large(self.txn)
        self.layers.append(self.layers[-1].copy())

    @precondition(lambda self: self.txn is not None)
    @rule()
    def commit(self) -> None:
        assert self.txn is not None
        self.txn.commit()
        self.txn, self.layers, self.savepoints = None, self.layers[-1:], []

    @precondition(lambda self: self.txn is not None)
    @rule(raised=st.booleans())
    def abort(self, raised: bool) -> None:
        assert self.txn is not None
        if raised:
            with pytest.raises(ZeroDivisionError), self.txn:
                raise ZeroDivisionError
        else:
            self.txn.abort()
        self.txn, self.layers, self.savepoints = None, self.layers[:1], []

    @precondition(lambda self: self.txn is not None and len(self.savepoints) < 5)
    @rule()
    def make_a_savepoint(self) -> None:
        assert self.txn is not None
        self.savepoints.append(self.txn.savepoint())
        self.layers.append(self.layers[-1].copy())

    @precondition(lambda self: self.savepoints)
    @rule(which=st.integers(0, 9))
    def roll_back(self, which: int) -> None:
        """The savepoint goes on; those made after it have ended."""
        index = which % len(self.savepoints)
        self.savepoints[index].rollback()
        self.layers[index + 2 :] = [self.layers[index + 1].copy()]
        self.end_savepoints(index + 1)

    @precondition(lambda self: self.savepoints)
    @rule(which=st.integers(0, 9))
    def release(self, which: int) -> None:
        index = which % len(self.savepoints)
        self.savepoints[index].release()
        self.layers[index + 1 :] = self.layers[-1:]
        self.end_savepoints(index)

    def end_savepoints(self, first: int) -> None:
        for ended in self.savepoints[first:]:
            with pytest.raises(pmkv.ClosedError):
                ended.rollback()
        del self.savepoints[first:]

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
            answer = getattr(self.db, what)()
            assert answer in (None, []) if what in ("sync", "check") else answer >= 0
            self.due = self.due and what != "expire"

    @rule(compact=st.booleans())
    def copy(self, compact: bool) -> None:
        """What was committed, also while a transaction is open; times and no versions."""
        path = self.at / "copied.pmkv"
        self.db.copy(path, compact=compact)
        with pmkv.open(path, key=KEY) as db:
            assert db.check() == []
            assert_shows(db, self.committed)
            assert_times(db, self.committed)
            assert_counts(db, self.committed)
        assert has_no_versions(path)
        path.unlink()

    @rule()
    def look(self) -> None:
        assert_shows(self.db, self.committed)

    @rule(codec=st.none() | st.sampled_from(CODECS))
    def close_and_open(self, codec: str | None) -> None:
        self.db.close()
        for held in self.held:
            with pytest.raises(pmkv.ClosedError):
                held.snapshot.get(b"a")
        for under_way in self.scans:
            with pytest.raises(pmkv.ClosedError):
                next(under_way.scan)
        self.txn, self.layers, self.held, self.scans = None, self.layers[:1], [], []
        self.savepoints = []
        self.options["codec"] = codec
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
            assert_times(db, self.committed)
            db.sync()
            db.expire()
            assert db.check() == []
            assert_shows(db, self.committed)
            assert_counts(db, self.committed)
            assert has_no_versions(copy)

    @invariant()
    def sizes_agree(self) -> None:
        if hasattr(self, "db"):
            pairs = self.committed.of(DEFAULT)
            assert len(self.db) == len(pairs)
            live = sum(len(key) + stored for key, _, _, stored in pairs.stored())
            found = self.db.stat()["live_bytes"]
            assert found == live or (self.due and found > live)
            if not self.due:
                assert_counts(self.db, self.committed)

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
            assert_times(self.db, self.committed)
            assert has_no_versions(self.at / "pool.pmkv")
        finally:
            self.db.close()
            shutil.rmtree(self.at)


def test_any_program_leaves_a_pool_and_a_model_alike(
    memory_dir: Path, effort: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_codec, "_stages", dict(_codec._stages))
    pmkv.register_codec("swap", 70, swapped, swapped)

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
