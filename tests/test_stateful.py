"""Any sequence of operations leaves a store and a dict alike."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import pmkv

# Few keys, so that they meet; among them empty and long ones.
KEYS = st.one_of(
    st.sampled_from([b"", b"a", b"b", b"k" * 300, b"k" * 5000]),
    st.integers(0, 40).map(lambda i: b"%d" % i),
)
# A size with a byte to fill it: shrinks well, and reaches every kind of storage.
VALUES = st.builds(
    lambda byte, size: bytes([byte]) * size,
    st.integers(0, 255),
    st.one_of(
        st.integers(0, 300),
        st.integers(900, 4200),
        st.sampled_from([4096, 8192, 16_384, 65_536, 1 << 20]),
    ),
)
PAIRS = st.lists(st.tuples(KEYS, VALUES), max_size=12)
MANY = st.integers(0, 3000)


class StoreAgainstDict(RuleBasedStateMachine):
    """Every operation on a store, its result compared with that on a dict."""

    views: Bundle[tuple[memoryview, bytes]] = Bundle("views")
    directory = ""

    @initialize(
        persistence=st.sampled_from(["process", "byte", "cacheline"]),
        keys=st.sampled_from(["bytes", "str"]),
    )
    def make(self, persistence: Any, keys: Any) -> None:
        self.at = Path(tempfile.mkdtemp(dir=self.directory))
        self.options = {"persistence": persistence, "keys": keys}
        self.as_key = (lambda key: key.decode()) if keys == "str" else (lambda key: key)
        self.model: dict[bytes, bytes] = {}
        self.alive: list[memoryview] = []
        self.open()

    def open(self) -> None:
        self.db = pmkv.open(self.at / "pool.pmkv", **self.options)

    def pairs(self) -> dict[Any, bytes]:
        return {self.as_key(key): value for key, value in self.model.items()}

    # -- one key --

    @rule(key=KEYS, value=VALUES)
    def setitem(self, key: bytes, value: bytes) -> None:
        self.db[key] = self.model[key] = value

    @rule(key=KEYS, value=VALUES, overwrite=st.booleans())
    def put(self, key: bytes, value: bytes, overwrite: bool) -> None:
        stored = overwrite or key not in self.model
        assert self.db.put(key, value, overwrite=overwrite) is stored
        if stored:
            self.model[key] = value

    @rule(key=KEYS, value=VALUES)
    def add(self, key: bytes, value: bytes) -> None:
        assert self.db.add(key, value) is (key not in self.model)
        self.model.setdefault(key, value)

    @rule(key=KEYS, value=VALUES)
    def setdefault(self, key: bytes, value: bytes) -> None:
        assert self.db.setdefault(key, value) == self.model.setdefault(key, value)

    @rule(key=KEYS, value=VALUES)
    def replace(self, key: bytes, value: bytes) -> None:
        assert self.db.replace(key, value) == self.model.get(key)
        self.model[key] = value

    @rule(key=KEYS, right=st.booleans(), other=st.none() | VALUES, new=st.none() | VALUES)
    def compare_and_set(
        self, key: bytes, right: bool, other: bytes | None, new: bytes | None
    ) -> None:
        expected = self.model.get(key) if right else other
        done = self.model.get(key) == expected
        assert self.db.compare_and_set(key, expected, new) is done
        if done and new is None:
            self.model.pop(key, None)
        elif done and new is not None:
            self.model[key] = new

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        assert self.db.delete(key) is (self.model.pop(key, None) is not None)

    @rule(key=KEYS)
    def pop(self, key: bytes) -> None:
        assert self.db.pop(key, None) == self.model.pop(key, None)

    @rule(count=st.integers(1, 20))
    def popitem_and_put_back(self, count: int) -> None:
        """Which pair is popped differs from pool to pool; what follows must not."""
        popped = dict(self.db.popitem() for _ in range(min(count, len(self.model))))
        assert popped.items() <= self.pairs().items()
        assert len(self.db) == len(self.model) - len(popped)
        self.db.update(popped)

    @precondition(lambda self: not self.model)
    @rule()
    def popitem_of_nothing(self) -> None:
        with pytest.raises(KeyError):
            self.db.popitem()

    @rule(key=KEYS)
    def read(self, key: bytes) -> None:
        assert self.db.get(key) == self.model.get(key)
        assert (key in self.db) == (key in self.model)

    # -- many keys --

    @rule(pairs=PAIRS)
    def put_many(self, pairs: list[tuple[bytes, bytes]]) -> None:
        assert self.db.put_many(pairs) == len(pairs)
        self.model.update(pairs)

    @rule(pairs=PAIRS)
    def update(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self.db |= dict(pairs)
        self.model.update(pairs)

    @rule(pairs=PAIRS, bad=st.sampled_from([(b"k", 5), (5, b"v"), (b"k",), None]))
    def put_many_with_a_bad_item(self, pairs: list[tuple[bytes, bytes]], bad: Any) -> None:
        with pytest.raises(ValueError):
            self.db.put_many([*pairs, bad])

    @rule(keys=st.lists(KEYS, max_size=12))
    def delete_many(self, keys: list[bytes]) -> None:
        gone = set(keys) & set(self.model)
        assert self.db.delete_many(keys) == len(gone)
        for key in gone:
            del self.model[key]

    @rule(keys=st.lists(KEYS, max_size=100))
    def get_many(self, keys: list[bytes]) -> None:
        assert self.db.get_many(keys) == [self.model.get(key) for key in keys]

    @rule(count=MANY)
    def put_thousands(self, count: int) -> None:
        more = {b"more%d" % i: b"%d" % (i % 7) for i in range(count)}
        assert self.db.put_many(more) == count
        self.model.update(more)

    @rule(count=MANY)
    def delete_thousands(self, count: int) -> None:
        keys = [b"more%d" % i for i in range(count)]
        assert self.db.delete_many(keys) == sum(key in self.model for key in keys)
        for key in keys:
            self.model.pop(key, None)

    @rule()
    def clear(self) -> None:
        self.db.clear()
        self.model.clear()

    @rule()
    def iterate(self) -> None:
        assert dict(self.db.items()) == self.pairs()
        assert sorted(self.db.values()) == sorted(self.model.values())
        assert self.db.keys() == self.pairs().keys()
        assert self.db == self.pairs()

    # -- views --

    @precondition(lambda self: self.model)
    @rule(target=views, data=st.data())
    def view(self, data: st.DataObject) -> tuple[memoryview, bytes]:
        key = data.draw(st.sampled_from(sorted(self.model)))
        view = self.db.view(key)
        self.alive.append(view)
        return view, self.model[key]

    @rule(held=consumes(views))
    def release(self, held: tuple[memoryview, bytes]) -> None:
        view, value = held
        assert bytes(view) == value
        view.release()
        self.alive.remove(view)

    @rule(held=views)
    def look_at_a_view(self, held: tuple[memoryview, bytes]) -> None:
        view, value = held
        assert bytes(view) == value

    # -- the pool --

    @rule()
    def close_and_open(self) -> None:
        if self.alive:
            with pytest.raises(BufferError):
                self.db.close()
            return
        self.db.close()
        self.open()

    @rule()
    def copy_and_open_the_copy_as_after_a_kill(self) -> None:
        copy = self.at / "copy.pmkv"
        shutil.copy(self.at / "pool.pmkv", copy)
        with pmkv.open(copy, **self.options) as db:
            assert db.check() == []
            assert db == self.pairs()

    @rule()
    def sync(self) -> None:
        self.db.sync()
        if not self.alive:
            assert self.db.stat()["limbo_entries"] == 0

    @rule()
    def check(self) -> None:
        assert self.db.check() == []

    @invariant()
    def sizes_agree(self) -> None:
        if hasattr(self, "db"):
            stat = self.db.stat()
            assert len(self.db) == stat["entries"] == len(self.model)
            live = sum(len(key) + len(value) for key, value in self.model.items())
            assert stat["live_bytes"] == live

    def teardown(self) -> None:
        if not hasattr(self, "db"):
            return
        for view in self.alive:
            view.release()
        problems, found = self.db.check(), dict(self.db.items())
        self.db.close()
        shutil.rmtree(self.at)
        assert problems == []
        assert found == self.pairs()


def test_any_sequence_of_operations_leaves_a_store_and_a_dict_alike(
    memory_dir: Path, effort: int
) -> None:
    class Machine(StoreAgainstDict):
        directory = str(memory_dir)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=400 * effort,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
