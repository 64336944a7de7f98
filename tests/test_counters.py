"""incr() and decr() add to a number under a key, in one commit, whoever else does it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Place
from test_kill import acknowledged_before_kill, start_child

import pmkv

THREADS, EACH = 6, 400


# -- numbers --------------------------------------------------------------------------------------


def test_a_number_is_decimal_text(any_db: pmkv.Store) -> None:
    assert any_db.incr(b"n") == 1
    assert any_db[b"n"] == b"1"
    assert any_db.incr(b"n", 41) == 42
    assert any_db[b"n"] == b"42"
    assert any_db.decr(b"n", 50) == -8
    assert any_db[b"n"] == b"-8"
    any_db[b"n"] = "1234"
    assert any_db.incr(b"n", -1234) == 0
    assert dict(any_db) == {b"n": b"0"}


@pytest.mark.parametrize(
    ("method", "arguments", "sum_"),
    [
        ("incr", {}, 1),
        ("decr", {}, -1),
        ("incr", {"default": 10}, 11),
        ("decr", {"default": 10}, 9),
        ("incr", {"delta": 0}, 0),
        ("incr", {"delta": -3, "default": -4}, -7),
        ("decr", {"delta": 3, "default": -4}, -7),
        ("incr", {"delta": True, "default": False}, 1),
    ],
)
def test_a_missing_key_counts_as_the_default(
    db: pmkv.Store, method: str, arguments: dict[str, int], sum_: int
) -> None:
    assert getattr(db, method)(b"n", **arguments) == sum_
    assert dict(db) == {b"n": b"%d" % sum_}


@pytest.mark.parametrize("method", ["incr", "decr"])
def test_a_missing_key_without_a_default_is_not_found(db: pmkv.Store, method: str) -> None:
    before = db.stat()["commit"]
    with pytest.raises(pmkv.NotFoundError, match="n"):
        getattr(db, method)(b"n", default=None)
    with pytest.raises(KeyError):
        getattr(db, method)(b"n", 5, None)
    assert b"n" not in db and db.stat()["commit"] == before
    db[b"n"] = b"3"
    assert getattr(db, method)(b"n", 0, None) == 3


@pytest.mark.parametrize("bits", [31, 32, 63, 64, 65, 128, 10_000])
def test_numbers_grow_beyond_what_words_hold(db: pmkv.Store, bits: int) -> None:
    model = 0
    for delta in (2**bits - 1, 1, 1, -(2**bits), -(2**bits), 2 ** (bits + 2)):
        model += delta
        assert db.incr(b"n", delta) == model
        assert db[b"n"] == b"%d" % model
    assert db.decr(b"n", model) == 0


@pytest.mark.parametrize("text", [b"7", b"-7", b"+7", b"007", b"0"])
def test_a_number_that_was_put_as_text_is_added_to(db: pmkv.Store, text: bytes) -> None:
    db[b"n"] = text
    assert db.incr(b"n", 5) == int(text) + 5
    assert db[b"n"] == b"%d" % (int(text) + 5)


@pytest.mark.parametrize(
    "text", [b"", b"x", b"1.5", b"0x10", b"1e3", b"\x0042", b"--1", b"4" * 9999]
)
@pytest.mark.parametrize("method", ["incr", "decr"])
def test_what_is_not_a_number_is_an_error_and_stays_as_it_was(
    db: pmkv.Store, method: str, text: bytes
) -> None:
    db[b"n"] = text
    before = db.stat()["commit"]
    with pytest.raises(pmkv.InvalidValueError):
        getattr(db, method)(b"n")
    with pytest.raises(ValueError):
        getattr(db, method)(b"n", default=None)
    assert dict(db) == {b"n": text} and db.stat()["commit"] == before
    db[b"n"] = b"1"  # nothing is held
    assert getattr(db, method)(b"n", 0) == 1


@pytest.mark.parametrize("arguments", [(1.5,), ("1",), (b"1",), (None,), (1, 1.5), (1, "0")])
@pytest.mark.parametrize("method", ["incr", "decr"])
def test_a_delta_or_default_of_a_wrong_type_is_a_type_error(
    db: pmkv.Store, method: str, arguments: Any
) -> None:
    db[b"n"] = b"5"
    with pytest.raises(TypeError):
        getattr(db, method)(b"n", *arguments)
    assert dict(db) == {b"n": b"5"}


@pytest.mark.parametrize("key", [1, None, 1.5, ["n"], ("n",)])
@pytest.mark.parametrize("method", ["incr", "decr"])
def test_a_key_of_a_wrong_type_is_a_type_error(db: pmkv.Store, method: str, key: Any) -> None:
    with pytest.raises(pmkv.InvalidKeyError):
        getattr(db, method)(key)
    with pytest.raises(TypeError):
        getattr(db, method)(key)
    assert len(db) == 0


def test_a_class_with_an_index_is_a_number(db: pmkv.Store) -> None:
    class Seven:
        def __index__(self) -> int:
            return 7

    assert db.incr(b"n", Seven(), Seven()) == 14
    assert db.decr(b"n", Seven()) == 7


def test_keys_of_a_store_of_text_are_counted_by_text(pool_path: Path) -> None:
    with pmkv.open(pool_path, keys="str") as db:
        assert db.incr("größe") == db.incr("größe", 0) == 1
        assert db.decr("größe".encode(), 3) == -2
        assert dict(db) == {"größe": b"-2"}
        with pytest.raises(pmkv.InvalidKeyError):
            db.incr(b"\xff")
        assert len(db) == 1


def test_a_store_that_only_reads_counts_nothing(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        db.incr(b"n")
    with pmkv.open(pool_path, "r") as db:
        for method in (db.incr, db.decr):
            with pytest.raises(pmkv.ReadonlyError):
                method(b"n")
        assert db[b"n"] == b"1"


def test_a_view_of_a_number_keeps_the_number_that_it_was(db: pmkv.Store) -> None:
    db[b"n"] = b"100"
    views = [(db.view(b"n"), db.incr(b"n")) for _ in range(50)]
    assert [int(bytes(view)) + 1 for view, _ in views] == [number for _, number in views]


def test_a_counter_that_is_added_to_again_and_again_takes_no_more_space(any_db: pmkv.Store) -> None:
    any_db.incr(b"n")
    any_db.incr(b"n")
    used = any_db.stat()["used_bytes"]
    for _ in range(1000):
        any_db.incr(b"n")
    assert any_db[b"n"] == b"1002"
    assert any_db.stat()["used_bytes"] == used


# -- together -------------------------------------------------------------------------------------


def run_together(*functions: Callable[[], Any]) -> None:
    failed: list[BaseException] = []

    def run(function: Callable[[], Any]) -> None:
        try:
            function()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_the_increments_of_many_threads_add_up(any_db: pmkv.Store) -> None:
    sums: list[int] = []

    def add() -> None:
        sums.extend(any_db.incr(b"n") for _ in range(EACH))

    run_together(*[add] * THREADS)
    assert any_db[b"n"] == b"%d" % (THREADS * EACH)
    assert sorted(sums) == list(range(1, THREADS * EACH + 1))


def test_increments_and_decrements_beside_other_writes_add_up(any_db: pmkv.Store) -> None:
    def up() -> None:
        for i in range(EACH):
            any_db.incr(b"n", i)

    def down() -> None:
        for i in range(EACH):
            any_db.decr(b"n", i)

    def others() -> None:
        for i in range(EACH // 10):
            any_db.put_many((b"%d" % j, b"%d" % i) for j in range(50))
            any_db[b"large"] = b"x" * 100_000

    run_together(up, down, up, down, others)
    assert any_db[b"n"] == b"0"


def test_increments_inside_and_beside_transactions_add_up(any_db: pmkv.Store) -> None:
    def alone() -> None:
        for _ in range(EACH):
            any_db.incr(b"n")

    def inside() -> None:
        for i in range(EACH // 10):
            with any_db.begin(write=True) as transaction:
                for _ in range(10):
                    transaction.incr(b"n")
                if i % 4 == 0:
                    transaction.abort()

    run_together(alone, inside, alone, inside)
    assert any_db[b"n"] == b"%d" % (2 * EACH + 2 * 10 * (EACH // 10) * 3 // 4)


# -- in a transaction -----------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_a_transaction_counts_what_it_has_counted(any_db: pmkv.Store, end: str) -> None:
    any_db[b"n"] = b"10"
    transaction = any_db.begin(write=True)
    assert [transaction.incr(b"n") for _ in range(3)] == [11, 12, 13]
    assert transaction.decr(b"new", 4, 100) == 96
    assert (transaction[b"n"], any_db[b"n"]) == (b"13", b"10")
    getattr(transaction, end)()
    done = {b"n": b"13", b"new": b"96"}
    assert dict(any_db) == (done if end == "commit" else {b"n": b"10"})


def test_an_error_of_a_counter_leaves_the_transaction_open(db: pmkv.Store) -> None:
    db[b"text"] = b"x"
    with db.begin(write=True) as transaction:
        transaction.incr(b"n")
        with pytest.raises(pmkv.InvalidValueError):
            transaction.incr(b"text")
        with pytest.raises(pmkv.NotFoundError):
            transaction.incr(b"no", default=None)
        with pytest.raises(TypeError):
            transaction.incr(b"n", 1.5)
        transaction.incr(b"n")
    assert dict(db) == {b"n": b"2", b"text": b"x"}


# -- killed ---------------------------------------------------------------------------------------


def count_and_report(place: Place, keys: int, out: int) -> None:
    with place.open() as db:
        for i in range(1 << 30):
            db.incr(b"%d" % (i % keys))
            os.write(out, b".")


@pytest.mark.parametrize("persistence", ["process", "cacheline", "page"])
def test_after_a_kill_a_counter_is_what_was_acknowledged_or_one_more(
    persistence: str, pool_path: Path, disk_path: Path, effort: int
) -> None:
    place = Place(disk_path if persistence == "page" else pool_path, persistence)
    total = 0
    for trial in range(10 * effort):
        pid, pipe = start_child(count_and_report, place, trial % 3 + 1)
        count = acknowledged_before_kill(pid, pipe, trial * 13 % 50, trial * 977 % 20_000)
        with place.open() as db:
            assert db.check() == []
            found = sum(int(value) for value in db.values())
        assert total + count <= found <= total + count + 1
        total = found
