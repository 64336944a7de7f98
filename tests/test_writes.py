"""What each write does and returns, alone and many at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Place

import pmkv


def test_put_returns_whether_it_stored(any_db: pmkv.Store) -> None:
    assert any_db.put(b"a", b"1") is True
    assert any_db.put(b"a", b"2") is True
    assert any_db.put(b"a", b"3", overwrite=False) is False
    assert any_db.put(b"b", b"4", overwrite=False) is True
    assert dict(any_db) == {b"a": b"2", b"b": b"4"}


def test_add_stores_only_what_is_absent(any_db: pmkv.Store) -> None:
    assert any_db.add(b"a", b"1") is True
    assert any_db.add(b"a", b"2") is False
    assert any_db[b"a"] == b"1"
    any_db.delete(b"a")
    assert any_db.add(b"a", b"3") is True
    assert any_db[b"a"] == b"3"


def test_replace_stores_always_and_returns_the_old_value_or_none(any_db: pmkv.Store) -> None:
    assert any_db.replace(b"a", b"1") is None
    assert any_db.replace(b"a", b"2" * 70_000) == b"1"
    assert any_db.replace(b"a", b"") == b"2" * 70_000
    assert any_db.replace(b"a", b"3") == b""
    assert dict(any_db) == {b"a": b"3"}


def test_delete_returns_whether_there_was_a_value(any_db: pmkv.Store) -> None:
    any_db[b"a"] = b""
    assert any_db.delete(b"a") is True
    assert any_db.delete(b"a") is False
    assert len(any_db) == 0


def test_pop_returns_the_value_and_deletes_it(any_db: pmkv.Store) -> None:
    for value in (b"", b"1", b"2" * 70_000):
        any_db[b"a"] = value
        assert any_db.pop(b"a") == value
        assert b"a" not in any_db


@pytest.mark.parametrize("size", [0, 1, 3000, 70_000])
def test_compare_and_set_stores_exactly_if_the_value_is_the_expected(
    any_db: pmkv.Store, size: int
) -> None:
    old, new = b"o" * size, b"n" * (size + 1)
    any_db[b"a"] = old
    assert any_db.compare_and_set(b"a", new, b"x") is False
    assert any_db.compare_and_set(b"a", None, b"x") is False
    assert any_db.compare_and_set(b"a", old + b"o", b"x") is False
    assert any_db[b"a"] == old
    assert any_db.compare_and_set(b"a", old, new) is True
    assert any_db[b"a"] == new


def test_compare_and_set_of_none_means_absent(any_db: pmkv.Store) -> None:
    assert any_db.compare_and_set(b"a", b"1", b"2") is False
    assert any_db.compare_and_set(b"a", b"", b"2") is False
    assert b"a" not in any_db
    assert any_db.compare_and_set(b"a", None, b"1") is True
    assert any_db.compare_and_set(b"a", b"2", None) is False
    assert any_db.compare_and_set(b"a", b"1", None) is True
    assert b"a" not in any_db
    assert any_db.compare_and_set(b"a", None, None) is True
    assert any_db.compare_and_set(b"a", b"1", None) is False
    assert len(any_db) == 0


def test_get_many_gives_a_value_or_the_default_for_each_key_in_order(db: pmkv.Store) -> None:
    db.put_many((b"%d" % i, b"v%d" % i) for i in range(0, 1000, 2))
    keys = [b"%d" % i for i in range(1000)]
    expected = [b"v" + key if int(key) % 2 == 0 else None for key in keys]
    assert db.get_many(keys) == expected
    assert db.get_many(iter(keys)) == expected
    assert db.get_many([b"1", b"2", b"2"], b"?") == [b"?", b"v2", b"v2"]
    assert db.get_many([b"1"], default=7) == [7]
    assert db.get_many([]) == []


@pytest.mark.parametrize("sizes", [[0, 10, 500], [3000, 4096], [70_000, 10], [1 << 20]])
def test_get_many_gives_values_of_every_size(any_db: pmkv.Store, sizes: list[int]) -> None:
    model = {b"%d" % i: bytes([i]) * sizes[i % len(sizes)] for i in range(20)}
    any_db.put_many(model)
    assert any_db.get_many([*model, b"no"]) == [*model.values(), None]


def test_put_many_takes_a_mapping_pairs_or_an_iterator_and_counts(any_db: pmkv.Store) -> None:
    assert any_db.put_many({b"a": b"1", b"b": b"2"}) == 2
    assert any_db.put_many([(b"c", b"3")]) == 1
    assert any_db.put_many(iter([(b"d", b"4"), [b"e", b"5"]])) == 2
    assert any_db.put_many([]) == any_db.put_many({}) == 0
    expected = {b"a": b"1", b"b": b"2", b"c": b"3", b"d": b"4", b"e": b"5"}
    assert dict(any_db) == expected


@pytest.mark.parametrize("size", [0, 10, 3000, 70_000])
def test_the_last_of_several_values_for_a_key_in_put_many_wins(
    any_db: pmkv.Store, size: int
) -> None:
    pairs = [(b"%d" % (i % 7), bytes([i]) * size) for i in range(50)]
    for _ in range(3):
        any_db.put_many(pairs)
        assert dict(any_db) == dict(pairs)
        assert len(any_db) == 7
        assert any_db.check() == []


class Failure(Exception):
    """What an iterable of a test raises."""


def failing() -> Iterator[tuple[bytes, bytes]]:
    yield b"a", b"new"
    yield b"b", b"new"
    raise Failure


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ((b"x", 5), pmkv.InvalidValueError),
        ((b"x", None), pmkv.InvalidValueError),
        ((5, b"x"), pmkv.InvalidKeyError),
        ((None, b"x"), pmkv.InvalidKeyError),
        ((b"x" * (17 << 20), b"x"), pmkv.InvalidKeyError),
        ((b"x",), pmkv.InvalidValueError),
        ((b"x", b"y", b"z"), pmkv.InvalidValueError),
        (5, pmkv.InvalidValueError),
        (None, pmkv.InvalidValueError),
        ((memoryview(b"xyz")[::2], b"y"), pmkv.InvalidKeyError),
        ((b"x", memoryview(b"xyz")[::2]), pmkv.InvalidValueError),
    ],
)
def test_put_many_with_a_bad_item_stores_nothing(
    any_db: pmkv.Store, bad: Any, error: type[Exception]
) -> None:
    any_db[b"a"] = b"old"
    with pytest.raises(error):
        any_db.put_many([(b"a", b"new"), (b"b", b"new"), bad, (b"c", b"new")])
    assert dict(any_db) == {b"a": b"old"}


def test_put_many_of_an_iterable_that_raises_stores_nothing(any_db: pmkv.Store) -> None:
    any_db[b"a"] = b"old"
    with pytest.raises(Failure):
        any_db.put_many(failing())
    assert dict(any_db) == {b"a": b"old"}
    any_db[b"a"] = b"writes go on"


def test_put_many_may_read_and_write_the_store_from_its_iterable(any_db: pmkv.Store) -> None:
    any_db.update({b"%d" % i: b"x" * i for i in range(100)})

    def pairs() -> Iterator[tuple[bytes, bytes]]:
        for i in range(100):
            any_db[b"seen%d" % i] = b""
            yield b"%d" % i, any_db[b"%d" % i] + b"y"

    assert any_db.put_many(pairs()) == 100
    assert all(any_db[b"%d" % i] == b"x" * i + b"y" for i in range(100))
    assert len(any_db) == 200


def test_put_many_larger_than_the_redo_ring_is_one_commit(any_place: Place) -> None:
    count = 200_000
    with any_place.open() as db:
        before = db.stat()["commit"]
        assert db.put_many((b"%d" % i, b"value %d" % i) for i in range(count)) == count
        assert db.stat()["commit"] > before
        assert len(db) == count
        assert db.check() == []
        assert db.put_many((b"%d" % i, b"other %d" % i) for i in range(count)) == count
    with any_place.open("r") as db:
        keys = [b"%d" % i for i in range(count)]
        assert db.get_many(keys) == [b"other " + key for key in keys]
        assert len(db) == count
        assert db.check() == []


def test_delete_many_counts_what_was_there_and_ignores_the_rest(any_db: pmkv.Store) -> None:
    any_db.put_many((b"%d" % i, b"x" * i) for i in range(1000))
    assert any_db.delete_many(b"%d" % i for i in range(0, 2000, 2)) == 500
    assert any_db.delete_many([b"1", b"1", b"no", b"1"]) == 1
    assert any_db.delete_many([]) == 0
    assert sorted(map(int, any_db)) == list(range(3, 1000, 2))


@pytest.mark.parametrize("bad", [5, None, b"x" * (17 << 20)])
def test_delete_many_with_a_bad_key_deletes_nothing(any_db: pmkv.Store, bad: Any) -> None:
    any_db.update({b"a": b"1", b"b": b"2"})
    with pytest.raises(pmkv.InvalidKeyError):
        any_db.delete_many([b"a", bad, b"b"])
    assert len(any_db) == 2


def test_delete_many_of_more_than_the_redo_ring_is_one_commit(any_place: Place) -> None:
    with any_place.open() as db:
        db.put_many((b"%d" % i, b"value %d" % i) for i in range(100_000))
        assert db.delete_many(b"%d" % i for i in range(99_999)) == 99_999
        assert dict(db) == {b"99999": b"value 99999"}
        assert db.check() == []
    with any_place.open() as db:
        assert dict(db) == {b"99999": b"value 99999"}


def test_a_value_may_come_from_a_view_of_the_store_itself(db: pmkv.Store) -> None:
    for size in (10, 3000, 100_000):
        db[b"a"] = bytes(range(10)) * (size // 10)
        with db.view(b"a") as view:
            db[b"b"] = view
            db[b"a"] = view[: size // 2]
            db.put_many([(b"a", view), (b"c", view)])
            assert db.compare_and_set(b"a", view, view[1:])
        whole = bytes(range(10)) * (size // 10)
        assert dict(db) == {b"a": whole[1:], b"b": whole, b"c": whole}


def test_a_bytearray_is_not_exported_after_the_call(db: pmkv.Store) -> None:
    key, value = bytearray(b"key"), bytearray(b"value")
    db[key] = value
    db.put_many([(key, value)])
    db.compare_and_set(key, value, value)
    db.get_many([key])
    db.replace(key, value)
    with pytest.raises(pmkv.InvalidValueError):
        db.put_many([(key, value), (key, 5)])
    key.append(1)  # BufferError if a buffer of it were still held
    value.append(1)


def test_what_was_written_is_there_after_reopening(any_place: Place) -> None:
    with any_place.open() as db:
        db[b"setitem"] = b"1"
        db.put(b"put", b"2")
        db.add(b"add", b"3")
        db.replace(b"replace", b"4")
        db.compare_and_set(b"cas", None, b"5")
        db.put_many({b"many": b"6", b"gone": b"x", b"popped": b"x"})
        db.delete_many([b"gone"])
        db.pop(b"popped")
        db.sync()
        model = dict(db)
    with any_place.open("w") as db:
        assert dict(db) == model
        assert set(model) == {b"setitem", b"put", b"add", b"replace", b"cas", b"many"}


def test_stat_counts_entries_bytes_and_commits(db: pmkv.Store) -> None:
    empty = db.stat()
    db.put_many((b"%04d" % i, b"x" * 100) for i in range(1000))
    full = db.stat()
    assert empty["entries"] == empty["live_bytes"] == 0
    assert full["entries"] == 1000
    assert full["live_bytes"] == 104_000
    assert full["used_bytes"] > full["live_bytes"]
    assert full["commit"] > empty["commit"]
    assert full["used_bytes"] <= full["file_size"]
    db.clear()
    assert db.stat()["entries"] == db.stat()["live_bytes"] == 0


def test_info_tells_where_the_pool_is_and_how_durable(any_place: Place) -> None:
    with any_place.open(max_size="1 GiB") as db:
        info = db.info()
        assert info["path"] == str(any_place.path)
        assert info["persistence"] == any_place.persistence
        assert info["max_size"] == 1 << 30
        assert info["file_size"] == any_place.path.stat().st_size
        assert info["writable"]
        first = info["uuid"]
    with any_place.open("r") as db:
        assert not db.info()["writable"]
        assert db.info()["uuid"] == first
        assert db.info()["max_size"] == 1 << 30
