"""What a read returned never changes, though results that nobody has any more are filled again."""

from __future__ import annotations

import gc
import sys

import pytest

import pmkv

SIZES = [0, 1, 2, 15, 16, 100, 480, 481, 5000]


@pytest.fixture
def full(db: pmkv.Store) -> pmkv.Store:
    for size in SIZES:
        for which in range(4):
            db[b"%d of %d" % (which, size)] = bytes([65 + which]) * size
    return db


def key(which: int, size: int) -> bytes:
    return b"%d of %d" % (which, size)


@pytest.mark.parametrize("size", SIZES)
def test_a_result_that_is_held_never_changes(full: pmkv.Store, size: int) -> None:
    held = [full.get(key(which, size)) for which in range(4)]
    for _ in range(3):
        for which in (3, 1, 2, 0):
            full.get(key(which, size))
            full[key(which, size)]
    assert held == [bytes([65 + which]) * size for which in range(4)]


@pytest.mark.parametrize("size", SIZES)
def test_a_result_that_only_a_container_or_a_view_holds_never_changes(
    full: pmkv.Store, size: int
) -> None:
    view = memoryview(full[key(0, size)])
    inside = {"value": full[key(1, size)]}
    part = full[key(2, size)][:]
    for which in (3, 2, 1, 0, 3, 2, 1, 0):
        full.get(key(which, size))
    assert view == b"A" * size and inside["value"] == b"B" * size and part == b"C" * size


def test_a_result_that_was_filled_again_has_the_hash_of_its_new_content(full: pmkv.Store) -> None:
    for which in (0, 1, 2, 3, 0, 1, 2, 3):
        value = full.get(key(which, 100))
        assert hash(value) == hash(bytes([65 + which]) * 100)
        assert value in {bytes([65 + which]) * 100}
        del value


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="needs the GIL")
def test_results_that_nobody_has_are_filled_again(full: pmkv.Store) -> None:
    def get(which: int) -> int:
        return id(full.get(key(which, 100)))

    assert len({get(which % 4) for which in range(100)}) == 1


def test_keys_values_and_items_that_are_held_never_change(full: pmkv.Store) -> None:
    expected = {key(w, size): bytes([65 + w]) * size for size in SIZES for w in range(4)}
    keys, values, items = list(full), list(full.values()), list(full.items())
    for _ in full.items():
        gc.collect(0)
    assert dict(items) == dict(zip(keys, values, strict=True)) == expected
    held = []
    for each in full.items():
        held.append(each)
    assert dict(held) == expected
