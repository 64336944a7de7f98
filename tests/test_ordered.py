"""Keys come in the order of their bytes: all of them, ranges, prefixes, one by one, by number."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pmkv

Model = dict[bytes, bytes]

# Sizes around what fits a node in one piece, in one byte, in a page, and beyond.
LONG = [127, 128, 129, 130, 255, 256, 257, 258, 5000, 70_000]
# Stems that many keys share; some are the beginnings of others.
STEMS = [b"", b"a", b"\0", b"\xff", b"\xff\xff", b"a" * 20, b"a" * 124, b"a" * 253]
KEYS = st.one_of(
    st.builds(
        lambda stem, tail: stem + bytes(tail),
        st.sampled_from(STEMS),
        st.lists(st.sampled_from(b"\0ab\xff"), max_size=4),
    ),
    st.builds(lambda size, tail: b"a" * size + tail, st.sampled_from(LONG), st.binary(max_size=1)),
    st.sampled_from(LONG).map(lambda size: b"\xff" * size),
)
RANGES = st.fixed_dictionaries(
    {},
    optional={
        "prefix": st.sampled_from(STEMS) | KEYS,
        "start": KEYS,
        "stop": KEYS,
        "include_start": st.booleans(),
        "include_stop": st.booleans(),
        "reverse": st.booleans(),
        "limit": st.none() | st.integers(-1, 20),
    },
)
PROPERTY = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def keys_between(
    model: dict[Any, bytes],
    *,
    prefix: Any = None,
    start: Any = None,
    stop: Any = None,
    include_start: bool = True,
    include_stop: bool = False,
    reverse: bool = False,
    limit: int | None = None,
) -> list[Any]:
    """The keys of a dict that a range of a store has, in its order."""
    found = [
        key
        for key in sorted(model, reverse=reverse)
        if (prefix is None or key.startswith(prefix))
        and (start is None or key > start or (include_start and key == start))
        and (stop is None or key < stop or (include_stop and key == stop))
    ]
    return found if limit is None else found[: max(0, limit)]


def assert_alike(db: Any, model: dict[Any, bytes], **bounds: Any) -> None:
    """Keys, values, items, both directions, len() and `in` of a range are the model's."""
    expected = keys_between(model, **bounds)
    keys, values, items = db.keys(**bounds), db.values(**bounds), db.items(**bounds)
    assert list(keys) == expected
    assert list(values) == [model[key] for key in expected]
    assert list(items) == [(key, model[key]) for key in expected]
    assert list(reversed(keys)) == expected[::-1]
    assert list(reversed(items)) == [(key, model[key]) for key in expected[::-1]]
    assert len(keys) == len(values) == len(items) == len(expected)


def assert_order_of_all(db: Any, model: dict[Any, bytes]) -> None:
    """Whatever shows all keys shows them as sorted() does."""
    expected = sorted(model)
    assert list(db) == expected
    assert list(reversed(db)) == expected[::-1]
    assert list(walked(db.cursor())) == expected
    assert [db.key_at(i) for i in range(len(expected))] == expected
    assert_alike(db, model)


def walked(cursor: Any) -> Iterator[Any]:
    """The keys that next() of a cursor moves over."""
    while cursor.next():
        yield cursor.key()


def filled(db: pmkv.Store, keys: Any) -> Model:
    """Puts the keys, each with a value of its own, in one commit; the same as a dict."""
    model = {key: b"%d" % number for number, key in enumerate(keys)}
    db.put_many(model)
    return model


def numbers(count: int) -> list[bytes]:
    return [b"%06d" % i for i in range(count)]


PLENTY = [
    b"",
    *numbers(1000),
    *(b"a" * i for i in range(1, 300)),
    b"\xff",
    b"\xff\xff",
    b"\xff" * 9,
]


@pytest.fixture
def plenty(db: pmkv.Store) -> tuple[pmkv.Store, Model]:
    """A store with keys of many kinds, and the same as a dict."""
    shuffled = random.Random(1).sample(PLENTY, len(PLENTY))
    return db, filled(db, shuffled)


# -- order ---------------------------------------------------------------------------------------


def test_an_empty_store_has_no_key_in_any_range(db: pmkv.Store) -> None:
    assert_order_of_all(db, {})
    for bounds in ({"prefix": b""}, {"start": b"a"}, {"stop": b"a"}, {"prefix": b"\xff\xff"}):
        assert_alike(db, {}, **bounds)
        assert_alike(db, {}, **bounds, reverse=True)


def test_the_empty_key_is_the_first(db: pmkv.Store) -> None:
    model = filled(db, [b"\0", b"", b"\0\0"])
    assert list(db) == [b"", b"\0", b"\0\0"]
    for inclusive in (False, True):
        assert_alike(db, model, stop=b"", include_stop=inclusive)
        assert_alike(db, model, start=b"", include_start=inclusive)


def test_keys_come_in_the_order_of_their_bytes(plenty: tuple[pmkv.Store, Model]) -> None:
    assert_order_of_all(*plenty)


def test_the_order_is_the_same_after_reopening(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        model = filled(db, PLENTY)
    with pmkv.open(pool_path) as db:
        assert_order_of_all(db, model)
    with pmkv.open(pool_path, "r") as db:
        assert_order_of_all(db, model)


@pytest.mark.parametrize("size", LONG)
def test_long_keys_that_differ_in_their_last_byte_come_in_order(db: pmkv.Store, size: int) -> None:
    keys = [b"k" * (size - 1) + bytes([byte]) for byte in range(0, 256, 5 if size < 5000 else 40)]
    keys += [b"k" * size, b"k" * (size - 1), b"k" * (size + 1)]
    model = filled(db, random.Random(size).sample(keys, len(keys)))
    assert_order_of_all(db, model)
    assert_alike(db, model, prefix=b"k" * (size - 1), reverse=True)
    assert_alike(db, model, start=keys[9], stop=keys[3], include_stop=True)
    for key in keys[::2]:
        db.delete(key)
        model.pop(key, None)
    assert_order_of_all(db, model)
    assert db.check() == []


# -- ranges --------------------------------------------------------------------------------------


@pytest.mark.parametrize("include_stop", [False, True])
@pytest.mark.parametrize("include_start", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_range_begins_and_ends_as_asked_for(
    plenty: tuple[pmkv.Store, Model], reverse: bool, include_start: bool, include_stop: bool
) -> None:
    edges = [None, b"", b"000100", b"0001005", b"000999", b"a" * 130, b"a" * 299, b"b", b"\xff\xff"]
    for start, stop in itertools.product(edges, edges):
        bounds = {"start": start, "stop": stop, "reverse": reverse}
        assert_alike(*plenty, **bounds, include_start=include_start, include_stop=include_stop)


@pytest.mark.parametrize(
    "prefix",
    [b"", b"0", b"00010", b"000100", b"0001000", b"9", b"a", b"a" * 299, b"a" * 300, b"a\xff"],
)
def test_a_prefix_finds_the_keys_that_begin_so(
    plenty: tuple[pmkv.Store, Model], prefix: bytes
) -> None:
    for reverse in (False, True):
        assert_alike(*plenty, prefix=prefix, reverse=reverse)
        assert_alike(*plenty, prefix=prefix, reverse=reverse, limit=3)


@pytest.mark.parametrize("prefix", [b"\xff", b"\xff\xff", b"\xff" * 3, b"\xfe", b"\xfe\xff"])
def test_a_prefix_that_no_key_follows_ends_with_the_last_key(
    plenty: tuple[pmkv.Store, Model], prefix: bytes
) -> None:
    for reverse in (False, True):
        assert_alike(*plenty, prefix=prefix, reverse=reverse)
        assert_alike(*plenty, prefix=prefix, start=b"\xff", include_start=False, reverse=reverse)


def test_a_prefix_and_bounds_restrict_each_other(plenty: tuple[pmkv.Store, Model]) -> None:
    db, model = plenty
    for prefix, start, stop in itertools.product(
        [b"0000", b"a", b"\xff"],
        [None, b"", b"0000", b"000050", b"aaa", b"b", b"\xff"],
        [None, b"", b"0000", b"000050", b"0001", b"aaa", b"b", b"\xff\xff"],
    ):
        for inclusive in (False, True):
            bounds = {"prefix": prefix, "start": start, "stop": stop}
            assert_alike(db, model, **bounds, include_start=inclusive, include_stop=inclusive)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("limit", [-1, 0, 1, 2, 63, 64, 65, 128, 1000, 5000, 1 << 62])
def test_a_limit_ends_a_range_early(
    plenty: tuple[pmkv.Store, Model], limit: int, reverse: bool
) -> None:
    assert_alike(*plenty, limit=limit, reverse=reverse)
    assert_alike(*plenty, prefix=b"a", limit=limit, reverse=reverse)
    assert_alike(*plenty, start=b"000500", stop=b"000700", limit=limit, reverse=reverse)


def test_a_key_is_in_a_range_if_it_is_in_the_store_and_between_the_bounds(
    plenty: tuple[pmkv.Store, Model],
) -> None:
    db, model = plenty
    for bounds in (
        {},
        {"prefix": b"aa"},
        {"start": b"000100", "stop": b"000200"},
        {"start": b"000100", "include_start": False, "stop": b"000200", "include_stop": True},
        {"prefix": b"0001", "limit": 5},
        {"prefix": b"0001", "limit": 5, "reverse": True},
        {"limit": 0},
    ):
        inside = set(keys_between(model, **bounds))
        for key in (b"", b"000100", b"000101", b"000199", b"000200", b"a", b"aa", b"aab", b"no"):
            assert (key in db.keys(**bounds)) is (key in inside)
            assert ((key, model.get(key)) in db.items(**bounds)) is (key in inside)
            assert (key, b"another value") not in db.items(**bounds)
    assert model[b"aaa"] in db.values(prefix=b"aa")
    assert model[b"000001"] not in db.values(prefix=b"aa")
    assert b"aaa" not in db.items(prefix=b"aa")


def test_ranges_are_sets_as_those_of_a_dict(db: pmkv.Store) -> None:
    model = filled(db, [b"a", b"ab", b"b", b"c"])
    assert db.keys() == model.keys()
    assert db.items() == model.items()
    assert db.keys(prefix=b"a") == {b"a", b"ab"}
    assert db.keys(start=b"b") & {b"a", b"c"} == {b"c"}
    assert db.keys(stop=b"b") | {b"z"} == {b"a", b"ab", b"z"}
    assert db.keys(stop=b"b").isdisjoint([b"b", b"c"])


def test_a_range_shows_the_store_as_it_is_when_it_is_walked(db: pmkv.Store) -> None:
    range_of_a = db.keys(prefix=b"a")
    assert list(range_of_a) == []
    model = filled(db, [b"a", b"ab", b"b"])
    assert list(range_of_a) == keys_between(model, prefix=b"a")
    del db[b"a"]
    assert list(range_of_a) == [b"ab"]
    assert len(range_of_a) == 1


def test_bounds_may_be_any_bytes_like_object_or_text(plenty: tuple[pmkv.Store, Model]) -> None:
    db, model = plenty
    expected = keys_between(model, start=b"000100", stop=b"000200")
    assert list(db.keys(start="000100", stop=bytearray(b"000200"))) == expected
    assert list(db.keys(start=memoryview(b"000100"), stop="000200")) == expected
    assert list(db.keys(prefix="aa")) == keys_between(model, prefix=b"aa")


@pytest.mark.parametrize("name", ["prefix", "start", "stop"])
def test_a_bound_that_cannot_be_a_key_is_a_key_type_error(db: pmkv.Store, name: str) -> None:
    bounds: Any = {name: 5}
    with pytest.raises(pmkv.InvalidKeyError, match="not int"):
        list(db.keys(**bounds))
    with pytest.raises(TypeError):
        len(db.items(**bounds))


# -- other stores --------------------------------------------------------------------------------


def test_keys_that_are_text_come_in_the_order_of_their_code_points(pool_path: Path) -> None:
    words = ["", "a", "aé", "b", "z", "é", "éa", "ß", "日本", "日本語", "\U0001f600", "\U0010ffff"]
    with pmkv.open(pool_path, keys="str") as db:
        model = {word: word.encode() for word in random.Random(2).sample(words, len(words))}
        db.put_many(model)
        assert_order_of_all(db, model)
        for edge in words:
            for reverse in (False, True):
                assert_alike(db, model, prefix=edge, reverse=reverse)
                assert_alike(db, model, start=edge, include_start=False, reverse=reverse)
                assert_alike(db, model, stop=edge, include_stop=True, reverse=reverse, limit=3)
        assert list(db.keys(prefix="é".encode()[:1])) == ["ß", "é", "éa"]
        assert "aé" in db.keys(prefix="a")
        assert "aé" in db.keys(prefix="a", limit=2)
        assert "aé".encode() in db.keys(prefix="a", limit=2)
        assert "b" not in db.keys(prefix="a")
        assert set(db.sample(5)) <= set(words)
        cursor = db.cursor()
        assert cursor.set_range("c")
        assert cursor.item() == ("z", b"z")


@pytest.fixture
def unordered(pool_path: Path) -> Iterator[tuple[pmkv.Store, Model]]:
    """A store without order, with a few keys, and the same as a dict."""
    with pmkv.open(pool_path, ordered=False) as db:
        yield db, filled(db, numbers(500))
        assert db.check() == []


NEEDING_ORDER: dict[str, Callable[[pmkv.Store], Any]] = {
    "prefix": lambda db: list(db.keys(prefix=b"0")),
    "start": lambda db: list(db.values(start=b"0")),
    "stop": lambda db: list(db.items(stop=b"0")),
    "reverse": lambda db: list(db.keys(reverse=True)),
    "len": lambda db: len(db.keys(prefix=b"0")),
    "reversed": lambda db: list(reversed(db)),
    "reversed_items": lambda db: list(reversed(db.items())),
    "cursor": lambda db: db.cursor(),
    "key_at": lambda db: db.key_at(0),
}


@pytest.mark.parametrize("use", NEEDING_ORDER)
def test_a_store_without_order_says_that_it_has_none(
    unordered: tuple[pmkv.Store, Model], use: str
) -> None:
    with pytest.raises(pmkv.Error, match="ordered=False"):
        NEEDING_ORDER[use](unordered[0])


def test_a_store_without_order_shows_every_key_once(unordered: tuple[pmkv.Store, Model]) -> None:
    db, model = unordered
    assert sorted(db) == sorted(db.keys()) == sorted(model)
    assert sorted(db.items()) == sorted(model.items())
    assert sorted(db.values()) == sorted(model.values())
    assert len(db.keys()) == len(list(db.keys())) == len(model)
    for limit in (0, 1, 100, 1000):
        some = list(db.keys(limit=limit))
        assert len(some) == len(set(some)) == len(db.keys(limit=limit)) == min(limit, 500)
        assert set(some) <= set(model)
    db.clear()
    assert list(db.items()) == []


# -- single keys ---------------------------------------------------------------------------------


def test_key_at_finds_a_key_by_its_number_from_either_end(
    plenty: tuple[pmkv.Store, Model],
) -> None:
    db, model = plenty
    expected = sorted(model)
    for index in [*range(-len(expected), len(expected))]:
        assert db.key_at(index) == expected[index]


@pytest.mark.parametrize("index", [3, 4, -4, -5, 1 << 40, -(1 << 40), 1 << 64, -(1 << 64)])
def test_key_at_of_a_number_that_no_key_has_is_an_index_error(db: pmkv.Store, index: int) -> None:
    filled(db, [b"a", b"b", b"c"])
    with pytest.raises(IndexError, match="3 keys"):
        db.key_at(index)
    db.clear()
    with pytest.raises(IndexError, match="0 keys"):
        db.key_at(index % 2)


def test_a_sample_is_of_different_keys(plenty: tuple[pmkv.Store, Model]) -> None:
    db, model = plenty
    for n in (0, 1, 10, len(model) - 1):
        sample = db.sample(n)
        assert len(sample) == len(set(sample)) == n
        assert set(sample) <= set(model)
    assert sorted(db.sample(len(model))) == sorted(db.sample(10_000)) == sorted(model)
    with pytest.raises(ValueError, match="negative"):
        db.sample(-1)


def test_a_cursor_moves_forward_and_back(plenty: tuple[pmkv.Store, Model]) -> None:
    db, model = plenty
    expected = sorted(model)
    cursor = db.cursor()
    assert (cursor.key(), cursor.value(), cursor.item()) == (None, None, None)
    for key in expected:
        assert cursor.next()
        assert cursor.item() == (key, model[key])
    assert not cursor.next()
    assert cursor.key() is None
    for key in reversed(expected):
        assert cursor.prev()
        assert (cursor.key(), cursor.value()) == (key, model[key])
    assert not cursor.prev()
    assert cursor.item() is None
    assert (cursor.last(), cursor.key()) == (True, expected[-1])
    assert (cursor.first(), cursor.key()) == (True, expected[0])


def test_a_cursor_is_set_on_a_key_or_on_the_next_one(plenty: tuple[pmkv.Store, Model]) -> None:
    db, model = plenty
    cursor = db.cursor()
    for key in [*sorted(model)[::50], b"0000", b"000100x", b"000999x", b"a" * 300, b"\xff" * 10]:
        later = keys_between(model, start=key)
        assert cursor.set_range(key) is bool(later)
        assert cursor.key() == (later[0] if later else None)
        assert cursor.set_key(key) is (key in model)
        assert cursor.key() == (key if key in model else None)


def test_iterating_a_cursor_shows_the_items_from_where_it_is(
    plenty: tuple[pmkv.Store, Model],
) -> None:
    db, model = plenty
    items = sorted(model.items())
    cursor = db.cursor()
    assert list(cursor) == items
    cursor.set_key(b"000500")
    assert list(cursor) == items[items.index((b"000500", model[b"000500"])) :]
    assert cursor.key() == b"000500"


def test_a_cursor_goes_on_from_where_its_key_was(db: pmkv.Store) -> None:
    filled(db, [b"a", b"b", b"c", b"d"])
    cursor = db.cursor()
    cursor.set_key(b"b")
    del db[b"b"]
    with pytest.raises(pmkv.NotFoundError):
        cursor.value()
    assert cursor.key() == b"b"
    db[b"ba"] = b"new"
    assert cursor.next()
    assert cursor.item() == (b"ba", b"new")
    del db[b"ba"]
    assert cursor.prev()
    assert cursor.key() == b"a"
    db.clear()
    assert not cursor.next()


def test_a_cursor_of_an_empty_store_is_nowhere(db: pmkv.Store) -> None:
    cursor = db.cursor()
    assert not any((cursor.first(), cursor.last(), cursor.next(), cursor.prev()))
    assert not any((cursor.set_range(b""), cursor.set_key(b"")))
    assert list(cursor) == []


# -- changes meanwhile ---------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["put", "delete", "clear", "put_many", "overwrite", "replace"])
@pytest.mark.parametrize("show", ["keys", "values", "items"])
@pytest.mark.parametrize("walk", ["forward", "backward", "unordered"])
def test_a_walk_shows_what_there_was_when_it_began(
    pool_path: Path, show: str, change: str, walk: str
) -> None:
    with pmkv.open(pool_path, ordered=walk != "unordered") as db:
        for steps in (0, 1, 63, 64, 65, 499):
            db.clear()
            filled(db, numbers(500))
            view = getattr(db, show)(reverse=walk == "backward")
            expected = list(view)
            shown = iter(view)
            seen = list(itertools.islice(shown, steps))
            if change == "put":
                db[b"000100."] = db[b"000400."] = db[b"~"] = b""
            elif change == "delete":
                db.delete_many([b"000000", b"000250", b"000499"])
            elif change == "clear":
                db.clear()
            elif change == "put_many":
                db.put_many((b"%06d." % i, b"more") for i in range(500))
            elif change == "overwrite":
                db.put_many((key, b"other") for key in numbers(500))
            else:  # keys go, and others come in their places
                for key in (b"000100", b"000300", b"000498"):
                    del db[key]
                    db[b"0" + key] = b"new"
            seen += shown
            assert sorted(seen) == sorted(expected)
            assert walk == "unordered" or seen == expected
            del shown
        assert db.check() == []


@pytest.mark.parametrize("walk", ["forward", "backward", "unordered"])
@pytest.mark.parametrize("size", [0, 100, 5000])
def test_values_that_are_overwritten_during_a_walk_are_shown_as_they_were(
    pool_path: Path, walk: str, size: int
) -> None:
    keys, chance = numbers(400), random.Random(size)
    with pmkv.open(pool_path, ordered=walk != "unordered") as db:
        model = filled(db, keys)
        seen = {}
        for turn, (key, value) in enumerate(db.items(reverse=walk == "backward"), 1):
            seen[key] = value
            for changed in [key, *chance.sample(keys, 3)]:
                db[changed] = b"%s-%d:" % (changed, turn) + b"." * size
        assert seen == model
        assert walk == "unordered" or list(seen) == sorted(keys, reverse=walk == "backward")
        assert db.check() == []


@pytest.mark.parametrize("ordered", [False, True])
def test_a_store_can_be_emptied_while_it_is_walked(pool_path: Path, ordered: bool) -> None:
    with pmkv.open(pool_path, ordered=ordered) as db:
        filled(db, numbers(1000))
        for key in db:
            del db[key]
        assert len(db) == 0
        db.sync()
        assert db.check() == []


# -- any keys ------------------------------------------------------------------------------------


@given(keys=st.lists(KEYS, max_size=60), ranges=st.lists(RANGES, max_size=6))
@settings(max_examples=300, **PROPERTY)
def test_any_range_of_any_keys_is_that_of_a_sorted_dict(
    db: pmkv.Store, keys: list[bytes], ranges: list[dict[str, Any]]
) -> None:
    db.clear()
    model = filled(db, keys)
    assert_order_of_all(db, model)
    for bounds in ranges:
        assert_alike(db, model, **bounds)
        inside = set(keys_between(model, **bounds))
        for key in keys[:10]:
            assert (key in db.keys(**bounds)) is (key in inside)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "put", "delete", "put_many", "delete_many"]), KEYS),
        max_size=80,
    )
)
@settings(max_examples=300, **PROPERTY)
def test_any_puts_and_deletes_leave_the_keys_in_order(
    db: pmkv.Store, steps: list[tuple[str, bytes]]
) -> None:
    db.clear()
    model: Model = {}
    for what, key in steps:
        family = [key + bytes([byte]) for byte in range(0, 250, 25)]
        if what == "put":
            db[key] = model[key] = b"v%d" % len(key)
        elif what == "delete":
            assert db.delete(key) is (model.pop(key, None) is not None)
        elif what == "put_many":
            db.put_many((each, key[-5:]) for each in family)
            model.update((each, key[-5:]) for each in family)
        else:
            gone = [each for each in family if model.pop(each, None) is not None]
            assert db.delete_many(family) == len(gone)
    assert_order_of_all(db, model)
    assert db.check() == []


@given(keys=st.lists(KEYS, min_size=1, max_size=40, unique=True), data=st.data())
@settings(max_examples=200, **PROPERTY)
def test_any_moves_of_a_cursor_are_those_in_a_sorted_list(
    db: pmkv.Store, keys: list[bytes], data: st.DataObject
) -> None:
    db.clear()
    model = filled(db, keys)
    expected = sorted(model)
    cursor, at = db.cursor(), None
    for move in data.draw(st.lists(st.sampled_from(["next", "prev", "first", "last", "range"]))):
        if move == "range":
            wanted = data.draw(KEYS)
            moved = cursor.set_range(wanted)
            at = next((i for i, key in enumerate(expected) if key >= wanted), None)
        else:
            moved = getattr(cursor, move)()
            if move == "first" or (move == "next" and at is None):
                at = 0
            elif move == "last" or (move == "prev" and at is None):
                at = len(expected) - 1
            else:
                at += 1 if move == "next" else -1
                at = at if 0 <= at < len(expected) else None
        assert moved is (at is not None)
        assert cursor.key() == (None if at is None else expected[at])


# -- many keys -----------------------------------------------------------------------------------

SHAPES: dict[str, Callable[[int], bytes]] = {
    "short": lambda i: b"%d" % i,
    "counted": lambda i: i.to_bytes(8, "big"),
    "shared": lambda i: b"a long stem that all the keys have in common/" * 3 + b"%06d" % i,
    "sizes": lambda i: b"x" * (i % 300) + b"%d" % i,
    "nested": lambda i: b"y" * i if i < 1500 else b"y" * (i % 140) + b"%d" % i,
}


def keys_in_order(shape: str, order: str, count: int) -> list[bytes]:
    """As many keys, as they are inserted."""
    keys = sorted({SHAPES[shape](i) for i in range(count)}, reverse=order == "descending")
    if order == "random":
        random.Random(shape).shuffle(keys)
    return keys


@pytest.mark.parametrize("order", ["ascending", "descending", "random"])
@pytest.mark.parametrize("shape", SHAPES)
def test_thousands_of_keys_put_and_deleted_one_by_one_stay_in_order(
    db: pmkv.Store, shape: str, order: str, effort: int
) -> None:
    empty = db.stat()
    keys = keys_in_order(shape, order, 3000 * effort)
    model: Model = {}
    for number, key in enumerate(keys):
        db[key] = model[key] = b"%d" % number
        if number % 1000 == 0:
            assert db.check() == []
    assert_order_of_all(db, model)
    assert db.check() == []
    random.Random(order).shuffle(keys)
    for number, key in enumerate(keys):
        del db[key]
        del model[key]
        if number % 700 == 0:
            assert db.check() == []
            assert_alike(db, model, start=keys[-1], limit=200)
            assert_alike(db, model, stop=keys[-1], limit=200, reverse=True)
    assert list(db) == []
    assert db.check() == []
    assert db.stat()["used_bytes"] <= empty["used_bytes"] + (256 << 10)


def test_deleting_keys_whose_long_beginnings_part_nodes_leaks_nothing(db: pmkv.Store) -> None:
    keys = [byte * 200 + b"%03d" % i for byte in (b"A", b"B") for i in range(60)]
    for order in (keys, keys[::-1], keys[60:] + keys[:60]):
        for key in keys:
            db[key] = b""
        for key in order:
            del db[key]
        assert db.check() == []


def test_a_root_whose_children_go_and_join_in_one_delete_gives_way(db: pmkv.Store) -> None:
    """Of three leaves, the first goes with its last key, and the others then fit one node."""
    keys = [b"%05d" % i for i in range(150)]
    db.update(dict.fromkeys(keys, b""))
    first, second, third = keys[:64], keys[64:128], keys[128:]
    for key in first[1:] + third[5:] + second[20:]:
        del db[key]
    assert db.check() == []
    del db[first[0]]
    assert db.check() == []
    assert list(db) == second[:20] + third[:5]


def test_puts_and_deletes_that_alternate_stay_in_order(db: pmkv.Store, effort: int) -> None:
    chance = random.Random(5)
    model: Model = {}
    for turn in range(12_000 * effort):
        shape = chance.choice(list(SHAPES))
        key = SHAPES[shape](chance.randrange(800))
        if chance.random() < (0.7 if turn // 2000 % 2 == 0 else 0.3):
            db[key] = model[key] = b"%d" % turn
        else:
            assert db.delete(key) is (model.pop(key, None) is not None)
        if turn % 1500 == 0:
            assert_order_of_all(db, model)
            assert db.check() == []
    assert_order_of_all(db, model)


def test_batches_of_keys_put_and_deleted_at_once_stay_in_order(db: pmkv.Store) -> None:
    chance = random.Random(6)
    model: Model = {}
    for turn in range(20):
        keys = [SHAPES["sizes"](chance.randrange(20_000)) for _ in range(2000)]
        if turn % 3 < 2:
            db.put_many((key, b"%d" % turn) for key in keys)
            model.update((key, b"%d" % turn) for key in keys)
        else:
            assert db.delete_many(keys) == len(set(keys) & set(model))
            for key in keys:
                model.pop(key, None)
        assert list(db.items()) == sorted(model.items())
        assert db.check() == []
    lower, upper = sorted(chance.sample(sorted(model), 2))
    assert_alike(db, model, start=lower, stop=upper)
    assert_alike(db, model, start=lower, stop=upper, reverse=True)
