"""A namespace is a mapping of its own in the pool: made by name, kept, listed, dropped."""

from __future__ import annotations

import gc
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Place
from test_kill import start_child
from test_transactions import Thread, elsewhere

import pmkv

Model = dict[Any, bytes]
SOME = {b"a": b"1", b"b": b"2" * 5000, b"c" * 5000: b"3"}


def everything(db: Any, *names: str) -> list[Model]:
    """What the namespaces of those names hold."""
    return [dict(db.namespace(name)) for name in names]


# -- made, listed, kept ------------------------------------------------------------------------


def test_a_namespace_has_keys_of_its_own(any_db: pmkv.Store) -> None:
    one, other = any_db.namespace("one"), any_db.namespace("other")
    for space, value in ((any_db, b"default"), (one, b"of one"), (other, b"of other")):
        space[b"k"] = value
        space[value] = b""
    assert [dict(space) for space in (any_db, one, other)] == [
        {b"k": value, value: b""} for value in (b"default", b"of one", b"of other")
    ]
    del one[b"k"]
    any_db.clear()
    assert [list(space) for space in (any_db, one, other)] == [[], [b"of one"], [b"k", b"of other"]]
    assert any_db.stat()["entries"] == 0


def test_a_namespace_is_listed_when_it_is_made_and_has_its_name(db: pmkv.Store) -> None:
    assert db.namespaces() == []
    made = db.namespace("b")
    assert db.namespaces() == ["b"]
    db.namespace("a")
    assert db.namespaces() == ["a", "b"]
    assert made.name == "b" and repr(made) == "<pmkv.Namespace 'b'>"
    assert isinstance(made, pmkv.Namespace) and not made and len(made) == 0


def test_two_handles_of_a_name_are_one_namespace(db: pmkv.Store) -> None:
    one, other = db.namespace("n"), db.namespace("n")
    one[b"k"] = b"v"
    assert dict(other) == {b"k": b"v"} and one == other
    other.clear()
    assert len(one) == 0


@pytest.mark.parametrize("keys", ["bytes", "str"])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_namespace_and_its_options_are_kept(any_place: Place, keys: Any, ordered: bool) -> None:
    model = {"b": b"1", "a": b"2", "c" * 300: b"3"}
    with any_place.open() as db:
        space = db.namespace("n", keys=keys, ordered=ordered)
        space.update(model)
        db["of"] = "the default namespace"
    if keys == "bytes":
        model = {key.encode(): value for key, value in model.items()}
    for flag in ("r", "w", "c"):
        with any_place.open(flag) as db:
            assert db.namespaces() == ["n"]
            space = db.namespace("n")
            assert dict(space) == model and dict(db) == {b"of": b"the default namespace"}
            assert dict(db.namespace("n", keys=keys)) == model
            assert dict(db.namespace("n", ordered=ordered)) == model
            if ordered:
                assert list(space) == sorted(model)
            else:
                with pytest.raises(pmkv.Error):
                    space.key_at(0)


def test_options_of_a_namespace_are_not_those_of_the_store(pool_path: Path) -> None:
    with pmkv.open(pool_path, keys="str", ordered=False) as db:
        db.namespace("n")[b"\xff"] = b"v"
        assert list(db.namespace("n").keys(prefix=b"\xff")) == [b"\xff"]
        with pytest.raises(pmkv.Error):
            db.keys(prefix="a").__iter__().__next__()


CONTRADICTIONS: list[tuple[str, Any, Any]] = [
    ("keys", "str", "bytes"),
    ("keys", "bytes", "str"),
    ("ordered", True, False),
    ("ordered", False, True),
]


@pytest.mark.parametrize(("option", "made", "asked"), CONTRADICTIONS)
@pytest.mark.parametrize("reopened", [False, True])
def test_an_option_that_contradicts_the_namespace_is_an_error(
    pool_path: Path, option: str, made: Any, asked: Any, reopened: bool
) -> None:
    with pmkv.open(pool_path) as db:
        db.namespace("n", **{option: made})[b"k"] = b"v"
        if not reopened:
            with pytest.raises(pmkv.Error, match="'n'"):
                db.namespace("n", **{option: asked})
    with pmkv.open(pool_path) as db:
        with pytest.raises(pmkv.Error, match="'n'"):
            db.namespace("n", **{option: asked})
        with db.begin(write=True) as transaction, pytest.raises(pmkv.Error, match="'n'"):
            transaction.namespace("n", **{option: asked})
        assert len(db.namespace("n", **{option: made})) == 1


# -- names -------------------------------------------------------------------------------------

NAMES = ["a", "A", " ", "a b", "x\0y", "\1", "größe", "名前", "🗝", "\x7f", "a" * 200, "n" * 10_000]


def test_a_name_is_any_text_and_names_are_sorted_by_their_characters(pool_path: Path) -> None:
    shuffled = random.Random(1).sample(NAMES, len(NAMES))
    with pmkv.open(pool_path) as db:
        for name in shuffled:
            db.namespace(name)["name"] = name
        assert db.namespaces() == sorted(NAMES)
    with pmkv.open(pool_path) as db:
        assert db.namespaces() == sorted(NAMES)
        for name in shuffled:
            assert dict(db.namespace(name)) == {b"name": name.encode()}
            db.drop(name)
        assert db.namespaces() == [] and db.check() == []


@pytest.mark.parametrize(
    "name", ["", "\0", "\0x", "\0dropped\0", b"bytes", None, 1, ("a",), "\udc80"]
)
def test_what_is_no_name_is_an_invalid_key(db: pmkv.Store, name: Any) -> None:
    for call in (db.namespace, db.drop):
        with pytest.raises(pmkv.InvalidKeyError):
            call(name)
    with db.begin(write=True) as transaction, pytest.raises(pmkv.InvalidKeyError):
        transaction.namespace(name)
    assert db.namespaces() == []


def test_a_thousand_namespaces_are_apart_and_go_again(any_db: pmkv.Store) -> None:
    any_db.namespace("first")
    any_db.drop("first")
    used = any_db.stat()["used_bytes"]
    with any_db.begin(write=True) as transaction:
        for i in range(1000):
            transaction.namespace(f"{i}")[b"number"] = b"%d" % i
    assert any_db.namespaces() == sorted(f"{i}" for i in range(1000))
    for i in range(1000):
        assert dict(any_db.namespace(f"{i}")) == {b"number": b"%d" % i}
    assert any_db.check() == []
    for i in range(1000):
        any_db.drop(f"{i}")
    assert any_db.namespaces() == []
    assert any_db.stat()["used_bytes"] <= used + (1 << 17)


# -- a mapping ------------------------------------------------------------------------------------


@pytest.fixture(params=[True, False], ids=["ordered", "unordered"])
def space(request: pytest.FixtureRequest, any_db: pmkv.Store) -> pmkv.Namespace:
    """A namespace between others with the same keys, which stay as they are."""
    for name in ("before", "behind"):
        any_db.namespace(name).update(SOME)
    any_db.update(SOME)
    made = any_db.namespace("n", ordered=request.param)
    request.addfinalizer(lambda: others_are_as_they_were(any_db))
    return made


def others_are_as_they_were(db: pmkv.Store) -> None:
    if not db.closed:
        assert everything(db, "before", "behind") == [SOME, SOME] and dict(db) == SOME


def test_a_namespace_is_a_mapping_as_a_dict_is(space: pmkv.Namespace) -> None:
    model: Model = {}
    for target in (space, model):
        target.update(SOME)
        target.update((b"%d" % i, b"%d" % i) for i in range(500))
        target[b"a"] = b"another"
        assert target.pop(b"b") == SOME[b"b"] and target.pop(b"b", None) is None
        assert target.setdefault(b"new", b"x") == target.setdefault(b"new", b"y") == b"x"
        del target[b"7"]
    assert space == model and len(space) == len(model)
    assert sorted(space.keys()) == sorted(model)
    assert sorted(space.values()) == sorted(model.values())
    assert sorted(space.items()) == sorted(model.items())
    key, value = space.popitem()
    assert model.pop(key) == value and dict(space) == model
    space.clear()
    assert dict(space) == {} and list(space) == []


def test_a_namespace_has_what_a_store_has(space: pmkv.Namespace) -> None:
    assert space.put_many((b"%03d" % i, b"%d" % i) for i in range(300)) == 300
    assert space.get_many([b"000", b"no", b"299"]) == [b"0", None, b"299"]
    assert space.delete_many([b"000", b"no", b"299"]) == 2
    assert space.incr(b"n", 5) == 5 and space.decr(b"n") == 4
    assert space.add(b"001", b"") is False and space.replace(b"001", b"x") == b"1"
    assert space.compare_and_set(b"001", b"x", None) and b"001" not in space
    view = space.view(b"002")
    space[b"002"] = b"another"
    assert bytes(view) == b"2"
    del view
    assert len(space) == 298


def test_a_namespace_has_ranges_and_cursors(db: pmkv.Store) -> None:
    db.put_many((b"%03d" % i, b"default") for i in range(500))
    space = db.namespace("n")
    space.put_many((b"%03d" % i, b"%d" % i) for i in range(0, 300, 3))
    assert list(space.keys(prefix=b"00")) == [b"000", b"003", b"006", b"009"]
    assert list(space.values(start=b"290", reverse=True)) == [b"297", b"294", b"291"]
    assert next(reversed(space)) == space.key_at(-1) == b"297"
    assert len(space.items(start=b"1", stop=b"2")) == 33
    assert set(space.sample(10)) <= set(space.keys())
    assert sorted(space.sample(1000)) == list(space)


def test_a_namespace_without_order_walks_all_keys_and_has_no_ranges(db: pmkv.Store) -> None:
    space = db.namespace("n", ordered=False)
    model = {b"%d" % i: b"%d" % (i * i) for i in range(3000)}
    space.put_many(model)
    assert dict(space.items()) == model and sorted(space) == sorted(model)
    for ask in (lambda: list(space.keys(prefix=b"1")), lambda: space.key_at(0), space.cursor):
        with pytest.raises(pmkv.Error):
            ask()


def test_the_store_stays_open_while_a_namespace_is_in_use(pool_path: Path) -> None:
    space = pmkv.open(pool_path).namespace("n")
    gc.collect()
    space[b"k"] = b"v"
    assert dict(space) == {b"k": b"v"}
    del space
    with pmkv.open(pool_path) as db:
        assert everything(db, "n") == [{b"k": b"v"}]


def test_a_namespace_of_a_closed_store_raises_closed_error(db: pmkv.Store) -> None:
    space = db.namespace("n")
    db.close()
    for use in USES.values():
        with pytest.raises(pmkv.ClosedError):
            use(space)


def ask_closed_store(path: Path) -> list[str]:
    """What each call that concerns names raises after close()."""
    db = pmkv.open(path)
    transaction = db.begin(write=True)
    db.close()
    asked: tuple[Any, ...] = (
        lambda: db.namespace("n"),
        lambda: db.drop("n"),
        lambda: transaction.namespace("n"),
        db.sync,
        db.namespaces,
        transaction.namespaces,
    )
    raised = []
    for ask in asked:
        try:
            ask()
        except pmkv.ClosedError as error:
            raised.append(type(error).__name__)
    return raised


def test_a_closed_store_makes_lists_and_drops_no_namespaces(
    pool_path: Path, in_child: Callable[..., Any]
) -> None:
    assert in_child(ask_closed_store, pool_path) == ["ClosedError"] * 6


# -- read-only ------------------------------------------------------------------------------------


def test_a_pool_that_is_only_read_has_its_namespaces_and_no_others(any_place: Place) -> None:
    with any_place.open() as db:
        db.namespace("n").update(SOME)
    with any_place.open("r") as db:
        space = db.namespace("n")
        assert dict(space) == SOME and db.namespaces() == ["n"]
        with pytest.raises(pmkv.NotFoundError, match="missing"):
            db.namespace("missing")
        with pytest.raises(pmkv.NotFoundError, match="missing"):
            db.drop("missing")
        for call in (lambda: space.put(b"k", b"v"), space.clear, lambda: db.drop("n")):
            with pytest.raises(pmkv.ReadonlyError):
                call()
        assert dict(space) == SOME and db.namespaces() == ["n"]


# -- dropped --------------------------------------------------------------------------------------

USES: dict[str, Callable[[Any], Any]] = {
    "get": lambda space: space.get(b"a"),
    "getitem": lambda space: space[b"a"],
    "in": lambda space: b"a" in space,
    "len": len,
    "get_many": lambda space: space.get_many([b"a"]),
    "view": lambda space: space.view(b"a"),
    "iter": lambda space: next(iter(space)),
    "items": lambda space: list(space.items()),
    "put": lambda space: space.put(b"a", b""),
    "put_large": lambda space: space.put(b"a", bytes(100_000)),
    "put_many": lambda space: space.put_many(SOME),
    "delete": lambda space: space.delete(b"a"),
    "delete_many": lambda space: space.delete_many([b"a"]),
    "pop": lambda space: space.pop(b"a"),
    "popitem": lambda space: space.popitem(),
    "clear": lambda space: space.clear(),
    "incr": lambda space: space.incr(b"n"),
    "compare_and_set": lambda space: space.compare_and_set(b"a", None, b"x"),
    "key_at": lambda space: space.key_at(0),
    "cursor": lambda space: space.cursor().first(),
}


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("count", [0, 1, 3000, 100_000])
def test_a_drop_gives_all_space_back(pool_path: Path, ordered: bool, count: int) -> None:
    with pmkv.open(pool_path) as db:
        db.update(SOME)
        db.namespace("other").update(SOME)
        before = db.stat()
        space = db.namespace("n", ordered=ordered)
        space.put_many((b"%d" % i, bytes(i % 50)) for i in range(count))
        space[b"large"] = bytes(1 << 20)
        assert db.stat()["used_bytes"] > before["used_bytes"]
        db.drop("n")
        assert db.check() == [] and db.namespaces() == ["other"]
        after = db.stat()
        assert after["used_bytes"] <= before["used_bytes"] + (1 << 17)
        assert after["entries"] == before["entries"] == 3
        assert everything(db, "other") == [SOME]


def test_a_name_that_is_not_there_cannot_be_dropped(db: pmkv.Store) -> None:
    db.namespace("n")
    for name in ("m", "n ", "nn"):
        with pytest.raises(pmkv.NotFoundError, match=name):
            db.drop(name)
    db.drop("n")
    with pytest.raises(KeyError):
        db.drop("n")


@pytest.mark.parametrize("use", USES)
def test_a_handle_of_a_dropped_namespace_raises_closed_error(db: pmkv.Store, use: str) -> None:
    handles = [db.namespace("n"), db.namespace("n")]
    handles[0].update(SOME)
    db.drop("n")
    for handle in handles:
        with pytest.raises(pmkv.ClosedError, match="'n' was dropped"):
            USES[use](handle)


@pytest.mark.parametrize("use", USES)
def test_a_handle_does_not_reach_a_namespace_made_again_under_its_name(
    db: pmkv.Store, use: str
) -> None:
    old = db.namespace("n")
    old.update(SOME)
    db.drop("n")
    new = db.namespace("n", ordered=False)
    assert dict(new) == {}
    new.update(SOME)
    with pytest.raises(pmkv.ClosedError, match="'n' was dropped"):
        USES[use](old)
    assert dict(new) == SOME and db.namespaces() == ["n"]


@pytest.mark.parametrize("ordered", [True, False])
def test_iterators_of_a_dropped_namespace_raise_closed_error(db: pmkv.Store, ordered: bool) -> None:
    space = db.namespace("n", ordered=ordered)
    space.put_many((b"%d" % i, b"v") for i in range(100))
    under_way = [iter(space), iter(space.values()), iter(space.items())]
    new = [iter(space)]
    for iterator in under_way:
        next(iterator)
    if ordered:
        under_way.append(iter(space.keys(prefix=b"1", reverse=True)))
    db.drop("n")
    db.namespace("n", ordered=ordered).put_many((b"%d" % i, b"v") for i in range(100))
    for iterator in under_way + new:
        with pytest.raises(pmkv.ClosedError):
            next(iterator)


def test_a_cursor_of_a_dropped_namespace_raises_closed_error(db: pmkv.Store) -> None:
    space = db.namespace("n")
    space.update(SOME)
    cursor = space.cursor()
    assert cursor.first()
    db.drop("n")
    with pytest.raises(pmkv.ClosedError):
        cursor.next()


@pytest.mark.parametrize("size", [0, 100, 5000, 100_000])
def test_views_of_a_dropped_namespace_stay_and_keep_the_store_open(
    any_place: Place, size: int
) -> None:
    with any_place.open() as db:
        space = db.namespace("n")
        space.put_many((b"%d" % i, bytes([i]) * size) for i in range(20))
        views = [space.view(b"%d" % i) for i in range(20)]
        db.drop("n")
        assert db.namespaces() == [] and db.check() == []
        again = db.namespace("n")
        for _ in range(3):
            again.put_many((b"%d" % i, b"\xff" * size) for i in range(20))
            db.put_many((b"%d" % i, b"\xfe" * size) for i in range(20))
        assert [bytes(view) for view in views] == [bytes([i]) * size for i in range(20)]
        with pytest.raises(BufferError):
            db.close()
        views.clear()
        db.sync()
        assert db.check() == []
        db.close()
    with any_place.open() as db:
        assert db.stat()["limbo_entries"] == 0 and db.check() == []


def test_the_space_of_views_of_a_dropped_namespace_comes_back_when_they_are_gone(
    db: pmkv.Store,
) -> None:
    db.namespace("n")
    before = db.stat()["used_bytes"]
    db.namespace("n").put_many((b"%d" % i, bytes(5000)) for i in range(500))
    views = [db.namespace("n").view(b"%d" % i) for i in range(500)]
    db.drop("n")
    assert db.stat()["used_bytes"] - before > 500 * 8192
    views.clear()
    db.sync()
    db[b"k"] = b"v"
    assert db.stat()["used_bytes"] <= before + (1 << 17)


def test_a_drop_in_a_transaction_of_this_thread_is_an_error(db: pmkv.Store) -> None:
    db.namespace("n").update(SOME)
    with db.begin(write=True) as transaction:
        transaction.namespace("n")[b"new"] = b"v"
        with pytest.raises(pmkv.Error, match="transaction"):
            db.drop("n")
        assert transaction.namespaces() == db.namespaces() == ["n"]
    assert everything(db, "n") == [{**SOME, b"new": b"v"}]
    db.drop("n")


def test_a_drop_in_another_thread_waits_for_the_transaction(db: pmkv.Store) -> None:
    space = db.namespace("n")
    transaction = db.begin(write=True)
    transaction.namespace("n").update(SOME)
    dropping = Thread(db.drop, "n")
    assert dropping.waits()
    assert dict(transaction.namespace("n")) == SOME
    transaction.commit()
    dropping.result()
    assert db.namespaces() == []
    with pytest.raises(pmkv.ClosedError):
        len(space)


# -- a drop that is interrupted -------------------------------------------------------------------

LARGE = 200_000


def drop_until_the_alarm(path: Path, seconds: float, out: int) -> None:
    """The alarm kills it: after seconds of its own work, however busy the machine is."""
    with pmkv.open(path) as db:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        db.drop("n")
    os._exit(0)


def drop_in_part(path: Path, ordered: bool) -> int:
    """Kills a process in the middle of a drop; the used bytes before there was the namespace."""
    with pmkv.open(path) as db:
        db.namespace("other").update(SOME)
        before = db.stat()["used_bytes"]
        for first in range(0, LARGE, 20_000):
            pairs = ((b"%d" % i, b"v" * 30) for i in range(first, first + 20_000))
            db.namespace("n", ordered=ordered).put_many(pairs)
        full = db.stat()["used_bytes"]
    for moment in range(1, 100):
        pid, pipe = start_child(drop_until_the_alarm, path, 0.002 * moment)
        os.close(pipe)
        assert os.WIFSIGNALED(os.waitpid(pid, 0)[1]), "the drop was faster than its kill"
        with pmkv.open(path) as db:
            assert db.check() == []
            if db.namespaces() == ["other"]:  # it has begun
                assert db.stat()["used_bytes"] > (before + full) // 2
                return int(before)
            assert len(db.namespace("n")) == LARGE
    raise AssertionError("no kill was late enough")


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("finish", ["sync", "drop"])
def test_a_drop_that_was_killed_is_finished_by_sync_or_the_next_drop(
    pool_path: Path, ordered: bool, finish: str
) -> None:
    before = drop_in_part(pool_path, ordered)
    with pmkv.open(pool_path, "r") as db:
        assert db.namespaces() == ["other"]
        with pytest.raises(pmkv.NotFoundError):
            db.namespace("n")
    with pmkv.open(pool_path) as db:
        again = db.namespace("n", keys="str")
        again["k"] = "v"
        db.namespace("third")
        if finish == "sync":
            db.sync()
        else:
            db.drop("third")
        assert db.check() == []
        assert db.stat()["used_bytes"] <= before + (1 << 17)
        assert dict(again) == {"k": b"v"} and everything(db, "other") == [SOME]


# -- in transactions ------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_a_transaction_over_several_namespaces_happens_wholly_or_not_at_all(
    any_db: pmkv.Store, end: str
) -> None:
    for name in ("a", "b"):
        any_db.namespace(name)[b"k"] = b"before"
    transaction = any_db.begin(write=True)
    a, b = transaction.namespace("a"), transaction.namespace("b")
    transaction[b"k"] = a[b"k"] = b"inside"
    b.put_many((b"%d" % i, b"") for i in range(2000))
    del b[b"k"]
    assert (a[b"k"], len(b), b.get(b"k")) == (b"inside", 2000, None)
    assert everything(any_db, "a", "b") == [{b"k": b"before"}] * 2
    assert elsewhere(everything, any_db, "a", "b") == [{b"k": b"before"}] * 2
    getattr(transaction, end)()
    done = [{b"k": b"inside"}, {b"%d" % i: b"" for i in range(2000)}]
    undone = [{b"k": b"before"}] * 2
    assert everything(any_db, "a", "b") == (done if end == "commit" else undone)
    assert dict(any_db) == ({b"k": b"inside"} if end == "commit" else {})
    for use in USES.values():
        with pytest.raises(pmkv.ClosedError):
            use(a)


def test_a_namespace_made_in_a_transaction_is_there_after_commit(any_place: Place) -> None:
    with any_place.open() as db:
        with db.begin(write=True) as transaction:
            made = transaction.namespace("n", keys="str", ordered=False)
            made.update({"k": b"v"})
            assert transaction.namespaces() == ["n"] and dict(made) == {"k": b"v"}
            assert dict(transaction.namespace("n")) == {"k": b"v"}
            assert db.namespaces() == elsewhere(db.namespaces) == []
            with pytest.raises(pmkv.Error):
                db.namespace("n")
        assert db.namespaces() == ["n"] and everything(db, "n") == [{"k": b"v"}]
    with any_place.open() as db:
        assert everything(db, "n") == [{"k": b"v"}] and db.check() == []


def test_a_namespace_made_in_a_transaction_that_aborts_is_gone(any_db: pmkv.Store) -> None:
    before = any_db.stat()["used_bytes"]
    for _ in range(3):
        transaction = any_db.begin(write=True)
        for i in range(100):
            transaction.namespace(f"{i}", keys="str").update({"k": b"v" * i})
        made = transaction.namespace("7")
        assert len(transaction.namespaces()) == 100
        transaction.abort()
        assert any_db.namespaces() == [] and any_db.check() == []
        with pytest.raises(pmkv.ClosedError):
            len(made)
    assert any_db.stat()["used_bytes"] == before
    assert dict(any_db.namespace("7", keys="bytes")) == {}


def write_without_end(path: Path, name: str) -> Any:
    db = pmkv.open(path)
    transaction = db.begin(write=True)
    for space in (transaction, transaction.namespace(name), transaction.namespace("new")):
        space.put_many((b"%d" % i, bytes(200)) for i in range(5000))
    return transaction


def write_all(path: Path, name: str) -> Any:
    transaction = write_without_end(path, name)
    transaction.commit()
    return transaction


@pytest.mark.parametrize("write", [write_without_end, write_all])
def test_a_kill_leaves_transactions_over_namespaces_whole(
    pool_path: Path, killed_child: Callable[..., None], write: Callable[..., Any]
) -> None:
    with pmkv.open(pool_path) as db:
        db.namespace("n").update(SOME)
    killed_child(write, pool_path, "n")
    with pmkv.open(pool_path) as db:
        assert db.check() == []
        if write is write_all:
            assert db.namespaces() == ["n", "new"]
            assert [len(db), *map(len, everything(db, "n", "new"))] == [5000, 5003, 5000]
        else:
            assert db.namespaces() == ["n"] and len(db) == 0 and everything(db, "n") == [SOME]


def count_in_namespaces(path: Path, out: int) -> None:
    with pmkv.open(path) as db:
        while True:
            with db.begin(write=True) as transaction:
                n = transaction.incr(b"n")
                for i in range(4):
                    transaction.namespace(f"{i}").incr(b"n")
                transaction.namespace(f"made {n % 10}")[b"n"] = b"%d" % n
            if n % 10 == 9:
                db.drop(f"made {n % 7}")
            os.write(out, b".")


def test_a_kill_at_any_moment_leaves_namespaces_alike(pool_path: Path, effort: int) -> None:
    for trial in range(15 * effort):
        pid, pipe = start_child(count_in_namespaces, pool_path)
        for _ in range(trial * 7 % 40 + 1):
            os.read(pipe, 1)
        time.sleep(trial % 5 * 0.0002)
        os.kill(pid, signal.SIGKILL)
        os.close(pipe)
        assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        with pmkv.open(pool_path) as db:
            assert db.check() == []
            n = db[b"n"]
            assert everything(db, *"0123") == [{b"n": n}] * 4
            assert everything(db, f"made {int(n) % 10}")[0] in ({b"n": n}, {})
