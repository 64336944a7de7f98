"""Arrays: read where they lie, as they were stored, for as long as they are held."""

from __future__ import annotations

import contextlib
import gc
import random
from pathlib import Path
from typing import Any

import pytest

import pmkv

np = pytest.importorskip("numpy")

ARRAYS: list[Any] = [
    np.arange(10),
    np.arange(5, dtype=">i4"),
    np.array(5.5),
    np.array([], dtype="u1"),
    np.zeros((3, 0, 2)),
    np.arange(12.0).reshape(3, 4),
    np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    np.arange(60_000).reshape(200, 300)[:, ::2],
    np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    np.array(["2020-01-01", "2021-02-02"], dtype="M8[D]"),
    np.array(["a", "bcd"]),
    np.array([(1, 2.0, (3, 4))], dtype=[("x", "i4"), ("y", "f8"), ("z", "u2", (2,))]),
    np.zeros(3, dtype=np.dtype([("a", "u1"), ("b", "f8")], align=True)),
    np.zeros(2, dtype=[("outer", [("inner", "i2"), ("more", "f4", (2, 2))])]),
    np.random.default_rng(1).random((300, 400)),
    np.float32(3),
    [[1, 2], [3, 4]],
]


def same(found: Any, array: Any) -> bool:
    array = np.asarray(array)
    return bool(
        found.dtype == array.dtype and found.shape == array.shape and np.array_equal(found, array)
    )


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{np.asarray(a).dtype}{np.shape(a)}")
def test_an_array_comes_out_as_it_went_in(db: pmkv.Store, array: Any) -> None:
    db.put_array(b"a", array)
    found = db.array(b"a")
    assert same(found, array) and not found.flags.writeable
    copy = db.array(b"a", writable=True)
    assert same(copy, array) and copy.flags.writeable
    copy[...] = np.zeros_like(copy)
    assert same(db.array(b"a"), array)


def test_a_large_array_lies_at_a_pages_start_and_keeps_its_order(db: pmkv.Store) -> None:
    array = np.asfortranarray(np.random.default_rng(2).random((500, 300)))
    db.put_array(b"a", array)
    found = db.array(b"a")
    assert found.ctypes.data % 4096 == 0
    assert found.flags.f_contiguous and not found.flags.c_contiguous


def test_arrays_stay_as_they_are_while_they_are_held(db: pmkv.Store) -> None:
    array = np.random.default_rng(3).random((1000, 100))
    db.put_array(b"a", array)
    found, private = db.array(b"a"), db.array(b"a", writable=True)
    private[0] = 7
    db.put_array(b"a", np.zeros(3))
    for i in range(30):
        db.put_array(b"%d" % (i % 3), np.full((1000, 100), i))
    db.compact()
    assert same(found, array) and same(private[1:], array[1:]) and (private[0] == 7).all()
    with pytest.raises(BufferError):
        db.close()
    del found, private
    gc.collect()
    assert db.check() == []


def test_a_private_array_that_lies_in_two_sections_is_whole(pool_path: Path) -> None:
    """In the file, the descriptors of the second section lie between its halves."""
    with pmkv.open(pool_path, max_size="15 MiB") as db:  # sections of 4 MiB
        arrays = {b"%d" % i: np.full(150_000, i, dtype="f8") for i in range(9)}
        for key, array in arrays.items():
            db.put_array(key, array)
        for key, array in arrays.items():
            private = db.array(key, writable=True)
            assert same(private, array)
            private[:] = -1
            assert same(db.array(key), array)
            del private


def test_what_is_no_array_is_an_error(db: pmkv.Store) -> None:
    db[b"short"], db[b"long"] = b"x", b"y" * 10_000
    for key in (b"short", b"long"):
        with pytest.raises(pmkv.InvalidValueError, match="not an array"):
            db.array(key)
    with pytest.raises(pmkv.NotFoundError):
        db.array(b"missing")
    with pytest.raises(pmkv.InvalidValueError, match="Python objects"):
        db.put_array(b"o", np.array([object()]))
    with pytest.raises(pmkv.InvalidValueError, match="mask"):
        db.put_array(b"o", np.ma.array([1, 2], mask=[True, False]))
    assert b"o" not in db


def test_crafted_descriptions_are_errors(db: pmkv.Store) -> None:
    db.put_array(b"a", np.arange(100))
    value, rng = db[b"a"], random.Random(4)
    for _ in range(2000):
        crafted = bytearray(value)
        for _ in range(rng.choice((1, 2))):
            crafted[rng.randrange(790, len(crafted))] = rng.randrange(256)
        db[b"c"] = crafted
        with contextlib.suppress(pmkv.InvalidValueError):
            db.array(b"c").tobytes()


def test_arrays_in_transactions_snapshots_and_stores_of_objects(pool_path: Path) -> None:
    with pmkv.open(pool_path, values="msgpack") as db:
        with db.begin(write=True) as txn:
            txn.put_array(b"a", np.arange(2000), ttl=1000)
            assert same(txn.array(b"a"), np.arange(2000))
        with db.snapshot() as snapshot:
            db.put_array(b"a", np.arange(3))
            assert same(snapshot.array(b"a"), np.arange(2000))
        db[b"object"] = {"a": np.arange(6).reshape(2, 3), "s": np.float64(2)}
        found = db[b"object"]
        assert same(found["a"], np.arange(6).reshape(2, 3)) and found["s"] == 2
        found["a"][0, 0] = 5  # one's own


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{np.asarray(a).dtype}{np.shape(a)}")
def test_arrays_inside_of_objects_keep_their_types(pool_path: Path, array: Any) -> None:
    with pmkv.open(pool_path, values="msgpack") as db:
        db[b"k"] = [np.asarray(array)]
        assert same(db[b"k"][0], array)
