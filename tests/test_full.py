"""A pool that cannot grow says so, loses nothing, and goes on when there is room again."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pmkv

ROOM = 16 << 20


@pytest.fixture(scope="session")
def small_file_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of its own that is soon full."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    at = tmp_path_factory.mktemp("small")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(at)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"mounting a small file system failed: {done.stderr.strip()}")
    yield at
    subprocess.run(["umount", "-l", str(at)], check=True)


@pytest.fixture(params=["max_size", "file_system"])
def bounded(request: pytest.FixtureRequest, pool_path: Path) -> Iterator[tuple[Path, Any]]:
    """A path where a pool can grow to ROOM only, and the max_size to open it with."""
    if request.param == "max_size":
        yield pool_path, ROOM
        return
    path = request.getfixturevalue("small_file_system") / "pool.pmkv"
    yield path, None
    path.unlink()


@pytest.fixture(params=["process", "page"])
def small(request: pytest.FixtureRequest, bounded: tuple[Path, Any]) -> Iterator[pmkv.Store]:
    path, max_size = bounded
    with pmkv.open(path, max_size=max_size, persistence=request.param) as db:
        yield db
        assert db.check() == []


def fill(db: pmkv.Store, size: int) -> dict[bytes, bytes]:
    """Puts values of a size until the pool is full; what it then must hold."""
    model: dict[bytes, bytes] = {}
    with pytest.raises(pmkv.PoolFullError) as full:
        for i in range(1 << 20):
            key, value = b"%d" % i, bytes([i % 256]) * size
            db[key] = value
            model[key] = value
    assert full.value.filename == db.path
    assert db.info()["max_size"] is None or os.stat(db.path).st_size <= ROOM
    assert len(model) * (size + 32) > ROOM // 4  # beside the mapping and the ordered keys
    return model


@pytest.mark.parametrize("size", [0, 100, 1500, 3000, 5000, 70_000, 1 << 20])
def test_a_full_pool_loses_nothing_and_takes_puts_again_after_deletes(
    small: pmkv.Store, size: int
) -> None:
    model = fill(small, size)
    assert small == model
    assert small.check() == []
    gone = list(model)[: len(model) // 2]
    for key in gone:
        del small[key]
        del model[key]
    assert small == model
    for key in gone[: len(gone) * 9 // 10]:
        small[key] = model[key] = b"n" * size
    assert small == model
    assert small.check() == []


@pytest.mark.parametrize("size", [100, 5000, 1 << 20])
def test_a_full_pool_is_as_good_after_reopening(bounded: tuple[Path, Any], size: int) -> None:
    path, max_size = bounded
    with pmkv.open(path, max_size=max_size) as db:
        model = fill(db, size)
    with pmkv.open(path) as db:
        assert db == model
        assert db.check() == []
        with pytest.raises(pmkv.PoolFullError):
            for i in range(1 << 20):
                db[b"more%d" % i] = bytes(size)
        db.clear()
        assert len(fill(db, size)) >= len(model) * 9 // 10


@pytest.mark.parametrize("size", [100, 5000, 1 << 20])
def test_put_many_that_does_not_fit_stores_nothing(small: pmkv.Store, size: int) -> None:
    small[b"0"] = b"old"
    for _ in range(3):
        with pytest.raises(pmkv.PoolFullError):
            small.put_many((b"%d" % i, b"v" * size) for i in range(2 * ROOM // size))
        assert dict(small) == {b"0": b"old"}
        assert small.check() == []
    few = ROOM // size // 4
    assert small.put_many((b"%d" % i, b"v" * size) for i in range(few)) == few
    assert len(small) == few


@pytest.mark.parametrize("size", [100, 5000, 1 << 20])
@pytest.mark.parametrize("write", ["put", "replace", "compare_and_set", "add"])
def test_a_write_that_does_not_fit_leaves_the_key_as_it_was(
    small: pmkv.Store, write: str, size: int
) -> None:
    model = fill(small, size)
    too_large = bytes(2 * ROOM)
    key = b"absent" if write == "add" else b"0"
    with pytest.raises(pmkv.PoolFullError):
        {
            "put": lambda: small.put(key, too_large),
            "replace": lambda: small.replace(key, too_large),
            "compare_and_set": lambda: small.compare_and_set(key, model[key], too_large),
            "add": lambda: small.add(key, too_large),
        }[write]()
    assert small == model


@pytest.mark.parametrize("size", [100, 5000, 1 << 20])
@pytest.mark.parametrize("how", ["clear", "delete_many", "pop", "popitem"])
def test_a_full_pool_can_be_emptied_in_every_way(small: pmkv.Store, size: int, how: str) -> None:
    model = fill(small, size)
    if how == "clear":
        small.clear()
    elif how == "delete_many":
        assert small.delete_many(model) == len(model)
    elif how == "pop":
        assert all(small.pop(key) == value for key, value in model.items())
    else:
        assert dict(small.popitem() for _ in range(len(model))) == model
    assert len(small) == 0
    assert small.check() == []
    assert len(fill(small, size)) >= len(model) * 9 // 10


@pytest.mark.parametrize("size", [5000, 1 << 20])
def test_what_a_pool_could_not_grow_into_is_given_back(small: pmkv.Store, size: int) -> None:
    fill(small, size)
    before = os.stat(small.path)
    for too_large in (3 << 20, ROOM, 2 * ROOM):
        with pytest.raises(pmkv.PoolFullError):
            small[b"large"] = bytes(too_large)
        after = os.stat(small.path)
        assert (after.st_size, after.st_blocks) == (before.st_size, before.st_blocks)


def test_a_value_is_overwritten_in_a_full_pool_as_long_as_there_is_room_for_one(
    small: pmkv.Store,
) -> None:
    model = fill(small, 3000)
    for key in list(model)[:20]:
        del small[key]
        del model[key]
    for turn in range(200):
        key = b"%d" % (100 + turn)
        small[key] = model[key] = b"o" * 3000
    assert small == model


def test_views_of_deleted_values_keep_their_space_in_a_full_pool(small: pmkv.Store) -> None:
    fill(small, 1 << 20)
    held = [small.view(b"%d" % i) for i in range(5)]
    small.clear()
    assert all(bytes(view) == bytes([i]) * (1 << 20) for i, view in enumerate(held))
    with pytest.raises(pmkv.PoolFullError):
        small.put_many((b"%d" % i, b"v" * (1 << 20)) for i in range(9))
    assert all(bytes(view) == bytes([i]) * (1 << 20) for i, view in enumerate(held))
    for view in held:
        view.release()
    small.put_many((b"%d" % i, b"v" * (1 << 20)) for i in range(9))


def test_a_pool_that_is_full_by_max_size_grows_when_opened_with_a_larger_one(
    pool_path: Path,
) -> None:
    with pmkv.open(pool_path, max_size=ROOM) as db:
        model = fill(db, 70_000)
    with pmkv.open(pool_path, max_size=2 * ROOM) as db:
        db.put_many((b"more%d" % i, bytes(70_000)) for i in range(len(model) // 2))
        assert len(db) == len(model) + len(model) // 2
        assert db.check() == []


@pytest.mark.parametrize("max_size", [1, 100_000, 2 << 20, 3 << 20, 4 << 20])
def test_a_pool_too_small_to_be_made_is_refused_or_works(pool_path: Path, max_size: int) -> None:
    try:
        db = pmkv.open(pool_path, max_size=max_size)
    except (pmkv.PoolFullError, ValueError):
        assert os.listdir(pool_path.parent) == []
        return
    with db:
        db[b"k"] = b"v"
        assert db.check() == []
        assert pool_path.stat().st_size <= max_size


def test_a_pool_that_cannot_be_made_leaves_no_file_behind(small_file_system: Path) -> None:
    filler = small_file_system / "filler"
    filler.write_bytes(bytes(ROOM - (1 << 20)))
    try:
        with pytest.raises(pmkv.PoolFullError):
            pmkv.open(small_file_system / "pool.pmkv")
        assert os.listdir(small_file_system) == ["filler"]
    finally:
        filler.unlink()


@pytest.mark.parametrize("max_size", [600 << 10, 1 << 20, 4 << 20, 15 << 20])
def test_a_pool_with_a_small_max_size_is_laid_out_to_fit(pool_path: Path, max_size: int) -> None:
    with pmkv.open(pool_path, max_size=max_size) as db:
        with pytest.raises(pmkv.PoolFullError):
            for i in itertools.count():
                db[b"%d" % i] = b"v" * 1000
        assert os.stat(pool_path).st_size <= max_size
        assert db.stat()["live_bytes"] > max_size // 3
        count = len(db)
        db.delete_many(b"%d" % i for i in range(count // 2))
        db[b"large"] = b"l" * 20_000
        assert db.check() == []
    with pmkv.open(pool_path) as again:
        assert len(again) == count - count // 2 + 1


def test_a_max_size_that_no_pool_fits_is_refused(pool_path: Path) -> None:
    with pytest.raises(ValueError, match="too small"):
        pmkv.open(pool_path, max_size="64 KiB")
    assert not pool_path.exists()
