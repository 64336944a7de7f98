"""A store behaves as a dict of bytes does, whatever the sizes of its keys and values."""

from __future__ import annotations

import random
from collections.abc import MutableMapping

import pytest
from conftest import Place

import pmkv

# Around every boundary: none, granules, records, blocks of four pages, pages, extents.
SIZES = [
    *range(201),
    *range(1000, 1031),
    *range(4040, 4111),
    *range(8180, 8200),
    *range(12280, 12292),
    *range(16370, 16390),
    *range(32760, 32772),
    *range(65530, 65540),
    (1 << 20) - 1,
    1 << 20,
    (1 << 20) + 1,
]


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(size * 31 + seed).randbytes(size)


def filled(store: pmkv.Store, count: int) -> dict[bytes, bytes]:
    model = {b"key%d" % i: content(i % 300, i) for i in range(count)}
    store.put_many(model)
    return model


def test_a_new_store_is_an_empty_mutable_mapping(db: pmkv.Store) -> None:
    assert isinstance(db, MutableMapping)
    assert len(db) == 0
    assert not db
    assert list(db) == list(db.values()) == list(db.items()) == []
    assert db == {}


def test_random_operations_give_what_a_dict_gives(any_db: pmkv.Store) -> None:
    chance = random.Random(1)
    model: dict[bytes, bytes] = {}
    rounds = 400 if any_db.info()["persistence"] == "page" else 5000
    for _ in range(rounds):
        key = b"%d" % chance.randrange(300)
        what = chance.randrange(4)
        if what < 2:
            any_db[key] = model[key] = chance.randbytes(chance.randrange(300))
        elif what == 2:
            assert any_db.pop(key, None) == model.pop(key, None)
        else:
            assert any_db.get(key) == model.get(key)
            assert (key in any_db) == (key in model)
        assert len(any_db) == len(model)
    assert any_db == model
    assert dict(any_db) == model


def test_a_missing_key_is_a_key_error_that_carries_the_key(db: pmkv.Store) -> None:
    with pytest.raises(KeyError) as subscript:
        db[b"no"]
    with pytest.raises(KeyError):
        del db[b"no"]
    with pytest.raises(KeyError):
        db.pop(b"no")
    assert isinstance(subscript.value, pmkv.NotFoundError)
    assert subscript.value.args[0] == b"no"
    assert db.get(b"no") is None
    assert db.get(b"no", 5) == 5
    assert db.pop(b"no", 6) == 6
    assert db.pop(b"no", None) is None
    assert b"no" not in db


def test_setdefault_stores_only_what_was_missing(db: pmkv.Store) -> None:
    assert db.setdefault(b"a", b"1") == b"1"
    assert db.setdefault(b"a", b"2") == b"1"
    assert dict(db) == {b"a": b"1"}


@pytest.mark.parametrize(
    "other",
    [
        {b"a": b"2", b"b": b"3"},
        [(b"a", b"2"), (b"b", b"3")],
        iter([(b"a", b"2"), (b"b", b"3")]),
        {b"a": b"2", b"b": b"3"}.items(),
    ],
    ids=["mapping", "pairs", "iterator", "items"],
)
def test_update_takes_what_dict_update_takes(db: pmkv.Store, other: object) -> None:
    db[b"a"] = b"1"
    db.update(other)
    assert dict(db) == {b"a": b"2", b"b": b"3"}


def test_update_takes_an_object_with_keys_and_keywords(db: pmkv.Store) -> None:
    class Pairs:
        def keys(self) -> list[str]:
            return ["a", "b"]

        def __getitem__(self, key: str) -> str:
            return key * 2

    db.update(Pairs(), c="cc")
    db.update(d=b"dd")
    db.update()
    assert dict(db) == {b"a": b"aa", b"b": b"bb", b"c": b"cc", b"d": b"dd"}


def test_in_place_or_updates_and_keeps_the_store(db: pmkv.Store) -> None:
    store = db
    store |= {b"a": b"1"}
    store |= [(b"b", b"2")]
    assert store is db
    assert dict(db) == {b"a": b"1", b"b": b"2"}


def test_equality_is_that_of_the_pairs(db: pmkv.Store, disk_path) -> None:
    db[b"a"] = b"1"
    assert db == {b"a": b"1"}
    assert dict(db.items()) == db
    assert db != {b"a": b"2"}
    assert db != {}
    assert db != 5
    with pmkv.open(disk_path) as other:
        assert other != db
        other[b"a"] = b"1"
        assert other == db


def test_views_of_keys_values_and_items_are_live_and_sized(db: pmkv.Store) -> None:
    keys, values, items = db.keys(), db.values(), db.items()
    model = filled(db, 1000)
    assert len(keys) == len(values) == len(items) == 1000
    assert sorted(keys) == sorted(model)
    assert sorted(values) == sorted(model.values())
    assert sorted(items) == sorted(model.items())
    assert b"key7" in keys
    assert b"no" not in keys
    assert model[b"key7"] in values
    assert (b"key7", model[b"key7"]) in items
    assert (b"key7", b"no") not in items


def test_views_of_keys_and_items_are_sets(db: pmkv.Store) -> None:
    db.update({b"a": b"1", b"b": b"2"})
    assert db.keys() & {b"a", b"c"} == {b"a"}
    assert db.keys() | {b"c"} == {b"a", b"b", b"c"}
    assert db.keys() - {b"a"} == {b"b"}
    assert db.keys() ^ {b"a", b"c"} == {b"b", b"c"}
    assert db.keys() == {b"a", b"b"}
    assert db.keys() <= {b"a", b"b", b"c"}
    assert db.keys().isdisjoint([b"c"])
    assert db.items() & {(b"a", b"1"), (b"b", b"1")} == {(b"a", b"1")}
    assert db.items() == {(b"a", b"1"), (b"b", b"2")}


def test_keys_values_and_items_come_in_the_same_order(db: pmkv.Store) -> None:
    filled(db, 2000)
    assert list(zip(db.keys(), db.values(), strict=True)) == list(db.items())
    assert list(db) == list(db.keys())


def test_popitem_gives_every_pair_once_and_then_a_key_error(any_db: pmkv.Store) -> None:
    model = filled(any_db, 300)
    popped = [any_db.popitem() for _ in range(300)]
    assert dict(popped) == model
    assert len(any_db) == 0
    with pytest.raises(KeyError):
        any_db.popitem()


def test_popitem_finds_keys_that_were_put_while_it_went_on(db: pmkv.Store) -> None:
    model = filled(db, 1000)
    seen = {}
    for i in range(500):
        key, value = db.popitem()
        seen[key] = value
        db[b"late%d" % i] = b"x"
        model[b"late%d" % i] = b"x"
    while db:
        key, value = db.popitem()
        seen[key] = value
    assert seen == model


def test_clear_leaves_an_empty_store_that_can_be_filled_again(any_db: pmkv.Store) -> None:
    for _ in range(3):
        model = filled(any_db, 2000)
        assert dict(any_db) == model
        any_db.clear()
        assert len(any_db) == 0
        assert list(any_db) == []
        assert any_db.get(b"key1") is None
        assert any_db.check() == []
    any_db.clear()


@pytest.mark.parametrize("how", ["setitem", "update", "put_many", "replace", "compare_and_set"])
def test_overwriting_while_iterating_is_fine(db: pmkv.Store, how: str) -> None:
    model = filled(db, 500)
    overwrite = {
        "setitem": lambda key: db.__setitem__(key, b"new"),
        "update": lambda key: db.update({key: b"new"}),
        "put_many": lambda key: db.put_many([(key, b"new")]),
        "replace": lambda key: db.replace(key, b"new"),
        "compare_and_set": lambda key: db.compare_and_set(key, model[key], b"new"),
    }[how]
    seen = []
    for key in db:
        overwrite(key)
        seen.append(key)
    assert sorted(seen) == sorted(model)
    assert set(db.values()) == {b"new"}


def test_an_exhausted_iterator_stays_exhausted(db: pmkv.Store) -> None:
    filled(db, 10)
    iterator = iter(db)
    assert len(list(iterator)) == 10
    assert list(iterator) == []


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda key: key.decode()])
def test_every_kind_of_key_and_value_means_its_bytes(db: pmkv.Store, make) -> None:
    db[make(b"key")] = make(b"value")
    assert db[b"key"] == b"value"
    assert db[make(b"key")] == b"value"
    assert make(b"key") in db
    assert list(db) == [b"key"]
    assert type(db[b"key"]) is bytes
    assert db.put_many([(make(b"key"), make(b"other"))]) == 1
    assert db.get_many([make(b"key")]) == [b"other"]
    assert db.delete(make(b"key"))


def test_text_is_stored_as_utf_8(db: pmkv.Store) -> None:
    db["grüße"] = "日本"
    assert db["grüße".encode()] == "日本".encode()
    assert list(db) == ["grüße".encode()]


def test_keys_str_gives_keys_as_text_and_is_kept_in_the_pool(pool_path) -> None:
    with pmkv.open(pool_path, keys="str") as db:
        db["grüße"] = b"1"
        db[b"bytes"] = b"2"
        assert set(db) == {"grüße", "bytes"}
        assert dict(db.items()) == {"grüße": b"1", "bytes": b"2"}
    with pmkv.open(pool_path) as db:
        assert set(db.keys()) == {"grüße", "bytes"}
        assert db.info()["keys"] == "str"
        assert {db.popitem()[0], db.popitem()[0]} == {"grüße", "bytes"}


def test_a_store_of_text_keys_refuses_a_key_that_is_no_text(pool_path) -> None:
    with pmkv.open(pool_path, keys="str") as db:
        with pytest.raises(pmkv.InvalidKeyError):
            db[b"\xff"] = b"1"
        assert list(db) == []


def test_the_empty_key_and_the_empty_value_are_a_key_and_a_value(any_db: pmkv.Store) -> None:
    any_db[b""] = b""
    assert any_db[b""] == any_db[""] == b""
    assert list(any_db.items()) == [(b"", b"")]
    assert len(any_db) == 1
    any_db[b""] = b"full"
    any_db[b"full"] = b""
    assert dict(any_db) == {b"": b"full", b"full": b""}
    del any_db[b""]
    assert b"" not in any_db


def test_values_of_every_size_are_read_back_also_after_reopening(any_place: Place) -> None:
    model = {b"%d" % size: content(size) for size in SIZES}
    with any_place.open() as db:
        for key, value in model.items():
            db[key] = value
            assert db[key] == value
        assert db == model
    with any_place.open("w") as db:
        assert db == model
        assert db.check() == []
        for key, value in model.items():  # each in the place of another size
            db[key] = value[::-1][: len(value) // 2]
        assert db == {key: value[::-1][: len(value) // 2] for key, value in model.items()}
        assert db.check() == []


@pytest.mark.parametrize("value_size", [0, 1, 100, 4096, 70_000])
def test_keys_of_every_size_are_found_also_after_reopening(pool_path, value_size: int) -> None:
    sizes = [*SIZES[::3], 65535, 65536, 65537, 1 << 20]
    model = {content(size, 1): content(value_size, size) for size in sizes}
    with pmkv.open(pool_path) as db:
        for key, value in model.items():
            db[key] = value
        assert dict(db) == model
    with pmkv.open(pool_path) as db:
        assert dict(db) == model
        assert db.check() == []
        for key in model:
            assert db.pop(key) == model[key]
        assert len(db) == 0


def test_long_keys_that_differ_in_the_last_byte_are_different(db: pmkv.Store) -> None:
    stem = content(65535)
    db.update({stem + bytes([i]): b"%d" % i for i in range(256)})
    assert len(db) == 256
    assert all(db[stem + bytes([i])] == b"%d" % i for i in range(256))


def test_a_value_of_64_mib_is_read_back_also_after_reopening(pool_path) -> None:
    value = content(1 << 20) * 64
    with pmkv.open(pool_path) as db:
        db[b"big"] = value
        assert db[b"big"] == value
    with pmkv.open(pool_path, "r") as db:
        assert db[b"big"] == value


def test_many_keys_are_read_back_also_after_reopening(any_place: Place) -> None:
    with any_place.open() as db:
        model = filled(db, 50_000)
        assert len(db) == 50_000
        assert db.get_many(list(model)) == list(model.values())
    with any_place.open("r") as db:
        assert len(db) == 50_000
        assert db == model


def test_a_store_is_true_if_it_holds_anything(db: pmkv.Store) -> None:
    db[b""] = b""
    assert db
    db.clear()
    assert not db


def test_repr_names_the_path_and_says_if_it_is_closed(db: pmkv.Store, pool_path) -> None:
    assert str(pool_path) in repr(db)
    db.close()
    assert "closed" in repr(db)
