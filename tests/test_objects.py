"""Values that are objects: what goes in comes out, of the same type, however it is asked for."""

from __future__ import annotations

import datetime
import decimal
import json
import marshal
import pickle
import uuid
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pmkv

INDIA = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 2**63, 2**64, -(2**63) - 1, 2**500, -(2**500), 1.5, float("inf")),
    *("", "text", b"", b"bytes", [], [1, [2, [3]]], (), (1, (2, [3])), {}, {"a": {"b": [1]}}),
    *({1: 2, (1, 2): 3, None: 4}, set(), {1, 2}, {(1, 2)}, frozenset({3}), {frozenset({1})}),
    datetime.datetime(2020, 1, 2, 3, 4, 5, 678),
    datetime.datetime(2020, 10, 25, 2, 30, fold=1),
    datetime.datetime(2020, 1, 2, tzinfo=INDIA),
    datetime.datetime(1, 1, 1, tzinfo=datetime.UTC),
    *(datetime.date(2020, 1, 2), datetime.time(1, 2, 3, 4), datetime.time(1, tzinfo=INDIA)),
    *(datetime.timedelta(days=-1, microseconds=1), 1 + 2j, decimal.Decimal("1.10")),
    uuid.UUID(int=5),
    [{"deep": [({1}, datetime.date(2020, 1, 1), 2**70)]}],
]


@pytest.fixture
def path(pool_path: Path) -> Path:
    return pool_path


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_goes_in_comes_out(path: Path, value: Any) -> None:
    with pmkv.open(path, values="msgpack") as db:
        db[b"k"] = value
        found = [db[b"k"], db.get(b"k"), db.get_many([b"k"])[0], dict(db)[b"k"], *db.values()]
        with db.snapshot() as snapshot:
            found.append(snapshot[b"k"])
        with db.begin(write=True) as txn:
            found.append(txn[b"k"])
    with pmkv.open(path) as db:
        assert db.info()["values"] == "msgpack"
        found += [db.replace(b"k", 0), db.pop(b"k")][:1]
    for one in found:
        assert one == value and type(one) is type(value)
        assert getattr(one, "fold", 0) == getattr(value, "fold", 0)


OBJECTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes()
    | st.timedeltas()
    | st.decimals(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(value=OBJECTS)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_object_comes_out_as_it_went_in(memory_dir: Path, value: Any) -> None:
    with pmkv.open(memory_dir / "any.pmkv", values="msgpack") as db:
        db[b"k"] = value
        assert db[b"k"] == value


def test_subclasses_come_back_as_what_they_are_derived_from(path: Path) -> None:
    pair = namedtuple("pair", "a b")
    with pmkv.open(path, values="msgpack") as db:
        db[b"k"] = [OrderedDict(a=1), pair(1, 2)]
        assert db[b"k"] == [{"a": 1}, (1, 2)]


def test_what_cannot_be_stored_is_refused_and_changes_nothing(path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pmkv.open(path, values="msgpack") as db:
        db[b"k"] = "old"
        for value in (object(), print, endless, [{1: object()}]):
            writes: list[Any] = [
                lambda value=value: db.__setitem__(b"k", value),
                lambda value=value: db.put_many({b"a": 1, b"k": value}),
                lambda value=value: db.replace(b"k", value),
                lambda value=value: db.compare_and_set(b"k", "old", value),
            ]
            for write in writes:
                with pytest.raises(pmkv.InvalidValueError, match="cannot store"):
                    write()
        assert dict(db) == {b"k": "old"}


def test_operations_on_what_is_there(path: Path) -> None:
    with pmkv.open(path, values="msgpack") as db:
        assert (
            db.incr(b"n") == 1 and db.incr(b"n", 2**70) == 2**70 + 1 and db.decr(b"n", 2**70) == 1
        )
        db.put(b"t", 5, ttl=1000)
        assert db.incr(b"t") == 6 and (db.ttl(b"t") or 0) > 900
        db[b"text"] = "1"
        with pytest.raises(pmkv.InvalidValueError, match="whole number"):
            db.incr(b"text")
        with pytest.raises(pmkv.NotFoundError):
            db.incr(b"missing", default=None)
        assert db.compare_and_set(b"c", None, (1,))
        assert not db.compare_and_set(b"c", [1], 2)
        assert db.compare_and_set(b"c", (1,), None)
        db[b"none"] = None
        assert db.setdefault(b"none", 5) is None and db.setdefault(b"other", [5]) == [5]
        assert db.pop(b"none") is None
        left = dict(db)
        while db:
            key, value = db.popitem()
            assert left.pop(key) == value
        assert left == {}


def test_a_namespace_speaks_its_own(path: Path) -> None:
    with pmkv.open(path) as db:
        space = db.namespace("objects", values="msgpack", keys="str")
        space["a"] = (1, {2})
        with db.begin(write=True) as txn:
            txn.namespace("objects")["b"] = {3}
            txn[b"plain"] = b"bytes"
        with db.snapshot() as snapshot:
            assert dict(snapshot.namespace("objects")) == {"a": (1, {2}), "b": {3}}
        with pytest.raises(pmkv.Error, match="its values are msgpack, not bytes"):
            db.namespace("objects", values="bytes")
        db.copy(path.with_name("copy"))
    with pmkv.open(path.with_name("copy")) as db:
        assert dict(db.namespace("objects")) == {"a": (1, {2}), "b": {3}}
        assert db[b"plain"] == b"bytes"


def test_pickle_is_for_those_who_ask_for_it_by_name(path: Path) -> None:
    with pmkv.open(path, values="pickle") as db:
        db[b"k"] = {1: print}
        assert db[b"k"] == {1: print}
    with pytest.raises(pmkv.Error, match="values='pickle'"):
        pmkv.open(path)
    with pmkv.open(path, values=pickle) as db:
        assert db[b"k"] == {1: print}
        db.namespace("n", values="pickle")[b"k"] = len
        with pytest.raises(pmkv.Error, match="values='pickle'"):
            db.namespace("n")


@pytest.mark.parametrize("serializer", [json, marshal], ids=["json", "marshal"])
def test_a_serializer_of_ones_own_must_be_given_again(path: Path, serializer: Any) -> None:
    with pmkv.open(path, values=serializer) as db:
        db[b"k"] = {"a": [1, None]}
        assert db[b"k"] == {"a": [1, None]} and bytes(db.view(b"k")) != b""
    with pytest.raises(pmkv.Error, match="give it again"):
        pmkv.open(path)
    with pmkv.open(path, values=serializer) as db:
        assert dict(db) == {b"k": {"a": [1, None]}}


@pytest.mark.parametrize("values", ["mesgpack", 5, object()])
def test_what_is_no_serializer_is_refused(path: Path, values: Any) -> None:
    with pytest.raises(ValueError, match="dumps and loads"):
        pmkv.open(path, values=values)
    assert not path.exists()


def test_a_value_that_cannot_be_made_an_object_names_its_key_and_stays(path: Path) -> None:
    with pmkv.open(path, values="msgpack") as db:
        db._put_until(b"odd", b"\xc1", 0)
        db[b"fine"] = 1
        asks: list[Any] = [lambda: db[b"odd"], lambda: list(db.values()), lambda: db.pop(b"odd")]
        asks += [lambda: db.replace(b"odd", 2), lambda: db.incr(b"odd")]
        for ask in asks:
            with pytest.raises(pmkv.CodecError, match="b'odd'"):
                ask()
        assert sorted(db) == [b"fine", b"odd"] and bytes(db.view(b"odd")) == b"\xc1"
        db[b"odd"] = "mended"
        assert db[b"odd"] == "mended"
