"""A view whose store is gone shows what it showed: nobody else writes while it is held."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Place, waiting_child

import pmkv

WRITE = """
import sys, pmkv
with pmkv.open(sys.argv[1], "w") as db:
    db[b"key"] = bytes(70_000)
"""


def content(size: int) -> bytes:
    return bytes(i % 251 for i in range(size))


def write_elsewhere(path: Path) -> str:
    """Another process writes to the pool; what it says on its standard error."""
    run = subprocess.run([sys.executable, "-c", WRITE, path], capture_output=True, check=False)
    return run.stderr.decode()


@pytest.mark.parametrize("size", [100, 70_000])
def test_a_view_keeps_the_pool_to_itself_when_its_store_is_dropped(
    any_place: Place, size: int
) -> None:
    files = len(os.listdir("/proc/self/fd"))
    db = any_place.open()
    db[b"key"] = content(size)
    view = db.view(b"key")
    del db
    gc.collect()
    with pytest.raises(pmkv.LockError, match="this process"):
        any_place.open("w")
    assert "LockError" in write_elsewhere(any_place.path)
    assert view.tobytes() == content(size)
    del view
    assert len(os.listdir("/proc/self/fd")) == files
    with any_place.open("w") as db:
        assert db[b"key"] == content(size)
        assert db.check() == []


def test_a_view_of_a_handle_that_reads_keeps_writers_out(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        db[b"key"] = content(70_000)
    view = pmkv.open(pool_path, "r").view(b"key")
    gc.collect()
    assert "LockError" in write_elsewhere(pool_path)
    with pmkv.open(pool_path, "r") as other:
        assert other[b"key"] == view.tobytes() == content(70_000)
    del view
    assert write_elsewhere(pool_path) == ""


@pytest.mark.parametrize("writable", [False, True])
def test_an_array_outlives_its_store(pool_path: Path, writable: bool) -> None:
    np = pytest.importorskip("numpy")

    def load() -> Any:
        db = pmkv.open(pool_path)
        db.put_array(b"array", np.ones(100_000))
        return db.array(b"array", writable=writable)

    array = load()
    gc.collect()
    with pytest.raises(pmkv.LockError):
        pmkv.open(pool_path)
    assert array.sum() == 100_000
    if writable:
        array += 1
    del array
    with pmkv.open(pool_path) as db:
        assert db.array(b"array").sum() == 100_000
        assert db.check() == []


def test_what_was_written_is_there_when_the_last_view_is_gone(pool_path: Path) -> None:
    db = pmkv.open(pool_path, durability="lazy")
    for i in range(1000):
        db[b"%d" % i] = b"value"
    db.sync()
    views = [db.view(b"%d" % i) for i in range(3)]
    for i in range(1000, 2000):
        db[b"%d" % i] = b"later"
    del db
    while views:
        gc.collect()
        with pytest.raises(pmkv.LockError):
            pmkv.open(pool_path)
        assert bytes(views.pop()) == b"value"
    with pmkv.open(pool_path) as db:
        assert len(db) == 2000
        assert db[b"1999"] == b"later"
        assert db.check() == []


def test_a_view_and_its_store_in_a_cycle_are_both_collected(pool_path: Path) -> None:
    class Box:
        pass

    box: Any = Box()
    box.db = pmkv.open(pool_path)
    box.db[b"key"] = b"value"
    box.view, box.me = box.db.view(b"key"), box
    files = len(os.listdir("/proc/self/fd"))
    del box
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == files - 1
    with pmkv.open(pool_path) as db:
        assert db[b"key"] == b"value"


def test_the_collector_lets_no_other_file_take_the_number_of_one_in_use(pool_path: Path) -> None:
    """It runs the finalizers of a cycle in any order; here some open files before and after."""
    opened: list[int] = []

    class Box:
        def __del__(self) -> None:
            opened.append(os.open(os.devnull, os.O_RDONLY))

    boxes: list[Any] = [Box()]
    db = pmkv.open(pool_path)
    db[b"key"] = b"value"
    number = db._file.number if db._file is not None else -1
    boxes += [db, db.view(b"key"), Box()]
    boxes.append(boxes)
    del db, boxes
    gc.collect()
    try:
        assert len(opened) == 2 and number not in opened
        for file in opened:
            os.fstat(file)
    finally:
        for file in opened:
            os.close(file)
    with pmkv.open(pool_path) as db:
        assert db[b"key"] == b"value"


def test_a_child_that_drops_an_inherited_view_takes_nothing_from_its_parent(
    pool_path: Path, in_child: Callable[..., Any]
) -> None:
    db = pmkv.open(pool_path)
    db[b"key"] = content(70_000)
    view = db.view(b"key")
    del db
    gc.collect()

    def drop() -> None:
        nonlocal view
        assert view.tobytes() == content(70_000)
        del view
        gc.collect()

    in_child(drop)
    assert "LockError" in write_elsewhere(pool_path)
    assert view.tobytes() == content(70_000)
    del view
    assert write_elsewhere(pool_path) == ""
    with pmkv.open(pool_path) as db:
        assert db[b"key"] == bytes(70_000)


def test_a_child_of_fork_does_not_keep_the_lock_that_a_view_gave_up(pool_path: Path) -> None:
    db = pmkv.open(pool_path)
    db[b"key"] = content(70_000)
    view = db.view(b"key")
    del db
    gc.collect()
    with waiting_child():
        del view
        assert write_elsewhere(pool_path) == ""
