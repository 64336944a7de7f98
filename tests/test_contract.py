"""What a user who knows the public names alone may expect, and nothing else holds."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pmkv

END: dict[str, Callable[[pmkv.Store], Any]] = {
    "closed": lambda db: db.close(),
    "dropped": lambda db: db.drop("space"),
}
USES: dict[str, Callable[[Any], Any]] = {
    "train_dictionary": lambda space: space.train_dictionary(256),
    "setdefault": lambda space: space.setdefault(b"new"),
    "sample": lambda space: space.sample(1),
    "touch": lambda space: space.touch(b"k", 5),
    "ttl": lambda space: space.ttl(b"k"),
    "expire": lambda space: space.expire(),
    "key_at": lambda space: space.key_at(0),
    "incr": lambda space: space.incr(b"n"),
    "array": lambda space: space.array(b"k"),
    "put_array": lambda space: space.put_array(b"k", [1]),
    "cursor": lambda space: space.cursor().first(),
    "reversed": lambda space: list(reversed(space)),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("how", END)
def test_a_handle_that_has_ended_is_a_closed_error(pool_path: Path, how: str, use: str) -> None:
    db = pmkv.open(pool_path)
    space = db.namespace("space", codec="lz4")
    space[b"k"] = b"v"
    END[how](db)
    with pytest.raises(pmkv.ClosedError):
        USES[use](space)
    if how == "closed":
        with pytest.raises(pmkv.ClosedError):
            USES[use](db)
    db.close()


def test_training_on_a_closed_store_kills_nobody(pool_path: Path) -> None:
    program = f"import pmkv; db = pmkv.open({str(pool_path)!r}, codec='lz4'); db.close(); "
    program += "db.train_dictionary()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1 and "ClosedError" in done.stderr


# ---- options ------------------------------------------------------------------------------------


def test_an_option_that_is_none_is_as_if_it_were_not_given(pool_path: Path) -> None:
    assert {
        name: inspect.signature(pmkv.open).parameters[name].default
        for name in ("keys", "values", "ordered", "codec", "max_size")
    } == dict.fromkeys(("keys", "values", "ordered", "codec", "max_size"))
    pmkv.open(pool_path, keys="str", values="msgpack", ordered=False).close()
    with pmkv.open(pool_path, keys=None, values=None, ordered=None) as db:
        info = db.info()
    assert (info["keys"], info["values"], info["ordered"]) == ("str", "msgpack", False)


@pytest.mark.parametrize("ordered", ["no", 2, "", [], 0.5])
def test_ordered_is_true_or_false(pool_path: Path, ordered: Any) -> None:
    with pytest.raises(ValueError, match="ordered"):
        pmkv.open(pool_path, ordered=ordered)
    assert not pool_path.exists()


def test_what_equals_false_is_false(pool_path: Path) -> None:
    zero: Any = 0
    with pmkv.open(pool_path, ordered=zero) as db:
        assert db.info()["ordered"] is False


def test_info_says_the_max_size_that_holds(pool_path: Path) -> None:
    pmkv.open(pool_path, max_size="8 MiB").close()
    with pmkv.open(pool_path, max_size="12 MiB") as db:
        assert db.info()["max_size"] == 12 << 20
        db.put(b"k", bytes(9 << 20))
    with pmkv.open(pool_path) as db:
        assert db.info()["max_size"] == 8 << 20


def test_a_full_pool_says_how_far_it_may_grow(pool_path: Path) -> None:
    with pmkv.open(pool_path, max_size="64 MiB") as db:
        with pytest.raises(pmkv.PoolFullError, match=r"may grow to (63\.9|64\.0) MiB \(max_size\)"):
            db[b"k"] = bytes(100 << 20)
        assert db.info()["file_size"] < 10 << 20


def test_names_of_parameters_are_those_of_the_contract() -> None:
    for kind in (pmkv.Store, pmkv.Namespace, pmkv.Transaction):
        assert list(inspect.signature(kind.key_at).parameters) == ["self", "i"]
        assert list(inspect.signature(kind.put_array).parameters)[:3] == ["self", "key", "a"]


def test_dropping_what_is_not_there_says_where_to_look(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db, pytest.raises(pmkv.NotFoundError, match=r"namespaces\(\)"):
        db.drop("nothing")


def test_a_cursor_moves_to_keys_only_and_ends_with_its_store(pool_path: Path) -> None:
    nothing: Any = None
    with pmkv.open(pool_path) as db:
        db[b"k"] = b"v"
        cursor = db.cursor()
        assert cursor.first() and cursor.key() == b"k"
        for move in (cursor.set_key, cursor.set_range):
            with pytest.raises(pmkv.InvalidKeyError):
                move(nothing)
        with db.snapshot() as moment:
            past = moment.cursor()
            assert past.last()
        with pytest.raises(pmkv.ClosedError):
            past.key()
    with pytest.raises(pmkv.ClosedError):
        cursor.key()


@pytest.mark.parametrize("flag", ["c", "n"])
@pytest.mark.parametrize("there", [False, True])
def test_a_symbolic_link_is_followed_and_stays(tmp_path: Path, flag: Any, there: bool) -> None:
    target, link = tmp_path / "directory" / "target", tmp_path / "link"
    target.parent.mkdir()
    link.symlink_to(target)
    if there:
        pmkv.open(target).close()
    with pmkv.open(link, flag) as db:
        db[b"k"] = b"v"
    assert link.is_symlink()
    with pmkv.open(target, "r") as db:
        assert dict(db) == {b"k": b"v"}
    assert os.listdir(target.parent) == ["target"]


# ---- keys, values, times ------------------------------------------------------------------------


def test_a_buffer_that_is_not_contiguous_is_refused_however_its_owner_says_so(
    db: pmkv.Store,
) -> None:
    numpy = pytest.importorskip("numpy")
    released = memoryview(b"gone")
    released.release()
    for given in (numpy.zeros((4, 4), numpy.uint8)[1:, :2], memoryview(b"abcdef")[::2], released):
        with pytest.raises(pmkv.InvalidValueError):
            db[b"k"] = given
        with pytest.raises(pmkv.InvalidKeyError):
            db.get(given)
        with pytest.raises(pmkv.InvalidValueError):
            db.replace(b"k", given)
    assert len(db) == 0


@pytest.mark.parametrize("ttl", ["5", b"5", bytearray(b"5")])
def test_a_time_to_live_is_not_text(db: pmkv.Store, ttl: Any) -> None:
    with pytest.raises(pmkv.InvalidValueError, match="seconds or a timedelta"):
        db.put(b"k", b"v", ttl=ttl)
    db[b"k"] = b"v"
    with pytest.raises(pmkv.InvalidValueError, match="seconds or a timedelta"):
        db.touch(b"k", ttl)
    assert db.ttl(b"k") is None


@pytest.mark.parametrize("values", ["msgpack", json])
def test_setdefault_without_a_default_stores_none_where_values_are_objects(
    pool_path: Path, values: Any
) -> None:
    with pmkv.open(pool_path, values=values) as db:
        assert db.setdefault(b"k") is None and db[b"k"] is None
        plain = db.namespace("plain")
        assert plain.setdefault(b"k") == plain[b"k"] == b""
        with db.begin(write=True) as txn:
            assert txn.setdefault(b"other") is None
            assert txn.namespace("new").setdefault(b"k") == b""


class Failing:
    """A serializer that fails as it was told to."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def dumps(self, value: Any) -> bytes:
        raise self.error

    loads = dumps


@pytest.mark.parametrize(
    "error", [TypeError("t"), ValueError("v"), pickle.PicklingError("p"), KeyError("k")]
)
def test_what_a_serializer_refuses_is_an_invalid_value_with_its_reason(
    pool_path: Path, error: Exception
) -> None:
    with pmkv.open(pool_path, values=Failing(error)) as db:
        uses: list[Callable[[], Any]] = [
            lambda: db.put(b"k", 1),
            lambda: db.put_many({b"k": 1}),
            lambda: db.add(b"k", 1),
            lambda: db.replace(b"k", 1),
            lambda: db.compare_and_set(b"k", None, 1),
            lambda: db.setdefault(b"k", 1),
        ]
        for use in uses:
            with pytest.raises(pmkv.InvalidValueError) as raised:
                use()
            assert raised.value.__cause__ is error
            assert isinstance(raised.value, TypeError) == isinstance(error, TypeError)
        assert len(db) == 0


def test_a_pmkv_error_and_no_memory_leave_a_serializer_as_they_are(pool_path: Path) -> None:
    for error in (pmkv.ClosedError("another store"), MemoryError()):
        with pmkv.open(pool_path, "n", values=Failing(error)) as db:
            with pytest.raises(type(error)) as raised:
                db[b"k"] = 1
            assert raised.value is error


# ---- sample -------------------------------------------------------------------------------------


def test_a_store_without_order_gives_a_sample_too(pool_path: Path) -> None:
    with pmkv.open(pool_path, ordered=False) as db:
        assert db.sample(3) == []
        names = [b"%d" % i for i in range(8)]
        db.put_many((name, b"") for name in names)
        assert sorted(db.sample(100)) == names and db.sample(0) == []
        found = Counter(name for _ in range(1000) for name in db.sample(2))
        with pytest.raises(ValueError):
            db.sample(-1)
        db.put(b"gone", b"", ttl=0.01)
        time.sleep(0.02)
        with db.snapshot() as snap:
            assert b"gone" not in snap.sample(100) and len(snap.sample(5)) == 5
    assert set(found) == set(names) and min(found.values()) > 150  # 250 each, on the average


# ---- sets of keys and items ---------------------------------------------------------------------


def test_keys_and_items_are_sets_beside_which_anything_may_stand(db: pmkv.Store) -> None:
    db.put_many({b"a": b"1", b"b": b"2"})
    like: dict[Any, Any] = dict(db)
    for other in ({5, b"a"}, {None}, {(b"a", b"1"), (5, 6)}, {"\ud800"}):
        for mine, dicts in ((db.keys(), like.keys()), (db.items(), like.items())):
            assert mine & other == dicts & other and other & mine == other & dicts
            assert mine - other == dicts - other and other - mine == other - dicts
            assert mine | other == dicts | other and mine ^ other == dicts ^ other
            assert mine.isdisjoint(other) == dicts.isdisjoint(other)
            assert (mine >= other, mine <= other) == (dicts >= other, dicts <= other)
    assert 5 not in db.keys() and (5, b"1") not in db.items()  # noqa: SIM118 - of the view
    with pytest.raises(pmkv.InvalidKeyError):
        _ = 5 in db


# ---- names --------------------------------------------------------------------------------------


def test_what_is_public_says_the_module_that_it_is_imported_from() -> None:
    for name in set(pmkv.__all__) - {"Savepoint", "__version__"}:
        assert getattr(pmkv, name).__module__ == "pmkv"
    again = pickle.loads(pickle.dumps(pmkv.NotFoundError(b"k")))
    assert type(again) is pmkv.NotFoundError and again.args == (b"k",)


def test_what_belongs_to_a_process_says_so_where_it_is_pickled(db: pmkv.Store) -> None:
    with db.snapshot() as snap, db.begin(write=True) as txn:
        for handle in (snap, txn, txn.namespace("space")):
            with pytest.raises(TypeError, match="pickle the store"):
                pickle.dumps(handle)
    with pytest.raises(TypeError, match="pickle the store"):
        pickle.dumps(db.namespace("space"))


def test_a_store_is_pickled_with_its_path_and_options(pool_path: Path) -> None:
    with pmkv.open(pool_path, "n", keys="str", values="msgpack") as db:
        db["k"] = [1]
        data = pickle.dumps(db)
    assert os.fsencode(pool_path) in data
    with pickle.loads(data) as again:
        assert dict(again) == {"k": [1]}


@pytest.mark.parametrize("durability", ["sync", "lazy"])
def test_put_many_says_which_pair_was_wrong(db: pmkv.Store, durability: Any) -> None:
    pairs: list[Any] = [(b"%d" % i, b"v") for i in range(100)]
    for wrong in ((b"%d" % 63, 5), (7.5, b"v"), b"63"):
        pairs[63] = wrong
        with pytest.raises(TypeError) as raised:
            db.put_many(pairs, durability=durability)
        assert raised.value.__notes__ == [f"it is of pair 63, of 100: {wrong!r}"]
    assert len(db) == 0
