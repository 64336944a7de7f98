"""A view shows a value where it lies, and shows the same bytes for as long as it is held."""

from __future__ import annotations

import ctypes
import gc
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Place

import pmkv

SIZES = [0, 1, 100, 1000, 4000, 4096, 5000, 70_000, 1 << 20]


class _Buffer(ctypes.Structure):
    """Py_buffer, as the C API declares it."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


def address_of(view: memoryview) -> int:
    buffer = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(buffer), 0)
    address = buffer.buf
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
    return address


def mapped_ranges(path: Path) -> list[range]:
    """Where this process has mapped the file."""
    inode = str(path.stat().st_ino)
    fields = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    bounds = [field[0].split("-") for field in fields if field[4] == inode]
    return [range(int(low, 16), int(high, 16)) for low, high in bounds]


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(size * 31 + seed).randbytes(size)


def churn(db: pmkv.Store, size: int) -> None:
    """Gives all free space of that size to others, several times over."""
    batch = 3000 if size < 5000 else max(3, (4 << 20) // size)
    for turn in range(4):
        db.put_many([(b"churn%d" % i, bytes([turn + 1]) * size) for i in range(batch)])
    db.delete_many([b"churn%d" % i for i in range(batch)])


CHANGES: dict[str, Callable[[pmkv.Store, bytes], Any]] = {
    "overwritten": lambda db, key: db.put(key, b"new"),
    "overwritten_alike": lambda db, key: db.put(key, bytes(len(db[key]))),
    "deleted": lambda db, key: db.delete(key),
    "popped": lambda db, key: db.pop(key),
    "replaced": lambda db, key: db.replace(key, b"new"),
    "compared_and_set": lambda db, key: db.compare_and_set(key, db[key], None),
    "cleared": lambda db, _key: db.clear(),
    "put_with_many": lambda db, key: db.put_many([(key, b"a"), (key, b"b")]),
    "deleted_with_many": lambda db, key: db.delete_many([key]),
}


@pytest.mark.parametrize("size", SIZES)
def test_a_view_shows_the_value_and_is_read_only(db: pmkv.Store, size: int) -> None:
    db[b"key"] = content(size)
    view = db.view(b"key")
    assert isinstance(view, memoryview)
    assert view.readonly
    assert view.nbytes == size
    assert view.format == "B"
    assert bytes(view) == content(size)
    with pytest.raises(TypeError):
        view[0:1] = b"x"
    view.release()


def test_a_view_of_a_missing_key_is_a_key_error(db: pmkv.Store) -> None:
    with pytest.raises(pmkv.NotFoundError):
        db.view(b"no")


@pytest.mark.parametrize("size", SIZES[1:])
def test_views_of_a_key_lie_at_one_address_inside_the_mapping_of_the_pool(
    db: pmkv.Store, pool_path: Path, size: int
) -> None:
    db[b"key"] = content(size)
    first, second = db.view(b"key"), db.view(b"key")
    assert address_of(first) == address_of(second)
    assert any(address_of(first) in mapped for mapped in mapped_ranges(pool_path))
    first.release()
    assert bytes(second) == content(size)
    second.release()


@pytest.mark.parametrize("size", [4097, 5000, 70_000, 1 << 20])
@pytest.mark.parametrize("key_size", [1, 100, 5000])
def test_a_view_of_more_than_a_page_is_page_aligned(
    db: pmkv.Store, size: int, key_size: int
) -> None:
    key = b"k" * key_size
    db[b"shift"] = b"x" * 33
    db[key] = content(size)
    view = db.view(key)
    assert address_of(view) % 4096 == 0
    view.release()


@pytest.mark.parametrize("change", CHANGES)
def test_a_view_is_unchanged_when_its_key_is(any_db: pmkv.Store, change: str) -> None:
    for size in (1, 100, 3000, 5000, 70_000):
        any_db[b"key"] = content(size)
        view = any_db.view(b"key")
        CHANGES[change](any_db, b"key")
        churn(any_db, size)
        assert bytes(view) == content(size)
        assert any_db.check() == []
        view.release()
        churn(any_db, size)
    any_db.sync()
    assert any_db.stat()["limbo_entries"] == 0


def test_a_view_of_the_last_value_is_as_good_as_that_of_the_first(db: pmkv.Store) -> None:
    views = []
    for i in range(200):
        db[b"key"] = content(i * 50, i)
        views.append(db.view(b"key"))
    churn(db, 500)
    assert [bytes(view) for view in views] == [content(i * 50, i) for i in range(200)]
    del views


@pytest.mark.parametrize(
    "derive",
    [
        lambda view: view[10:20],
        lambda view: view.cast("Q"),
        lambda view: view[8:80].cast("I"),
        lambda view: view.toreadonly(),
        lambda view: memoryview(view),
        lambda view: view[::-1],
    ],
    ids=["slice", "cast", "cast_of_slice", "toreadonly", "memoryview", "reversed"],
)
@pytest.mark.parametrize("size", [800, 80_000])
def test_what_is_derived_from_a_view_keeps_it_alive(
    db: pmkv.Store, derive: Callable[[memoryview], memoryview], size: int
) -> None:
    db[b"key"] = content(size)
    expected = derive(memoryview(content(size))).tobytes()
    derived = derive(db.view(b"key"))
    gc.collect()
    db[b"key"] = b"new"
    churn(db, size)
    assert derived.tobytes() == expected
    with pytest.raises(BufferError):
        db.close()
    derived.release()
    db.close()


def test_close_is_refused_while_a_view_is_alive_and_works_after_its_release(
    any_db: pmkv.Store,
) -> None:
    any_db[b"key"] = b"value"
    view = any_db.view(b"key")
    with pytest.raises(BufferError, match="view"):
        any_db.close()
    assert not any_db.closed
    assert any_db[b"key"] == b"value"
    any_db[b"more"] = b"x"
    view.release()
    any_db.close()
    assert any_db.closed


def test_leaving_the_with_block_with_a_view_alive_is_a_buffer_error(pool_path: Path) -> None:
    with pytest.raises(BufferError), pmkv.open(pool_path) as db:
        db[b"key"] = b"value"
        view = db.view(b"key")
    assert bytes(view) == b"value"
    view.release()
    db.close()


def test_memory_counts_the_views(db: pmkv.Store) -> None:
    db[b"key"] = b"value"
    views = [db.view(b"key") for _ in range(5)]
    assert db.memory()["views"] == 5
    views.clear()
    assert db.memory()["views"] == 0


@pytest.mark.parametrize("order", ["first_to_last", "last_to_first", "mixed"])
def test_thousands_of_views_of_overwritten_values_give_their_space_back(
    db: pmkv.Store, order: str
) -> None:
    keys = [b"%d" % i for i in range(10_000)]
    db.put_many((key, key * 20) for key in keys)
    views = [db.view(key) for key in keys]
    db.put_many((key, b"new" + key) for key in keys)
    assert db.stat()["limbo_entries"] == 10_000
    churn(db, 100)
    assert all(bytes(view) == key * 20 for view, key in zip(views, keys, strict=True))
    assert db.check() == []
    if order == "last_to_first":
        views.reverse()
    elif order == "mixed":
        random.Random(3).shuffle(views)
    for view in views[:5000]:
        view.release()
    db.sync()
    assert db.stat()["limbo_entries"] == 5000
    assert db.check() == []
    for view in views[5000:]:
        view.release()
    db.sync()
    assert db.stat()["limbo_entries"] == 0
    assert db.get_many(keys) == [b"new" + key for key in keys]
    churn(db, 100)


def test_views_held_over_many_commits_do_not_make_the_pool_grow_without_end(
    db: pmkv.Store,
) -> None:
    value = content(70_000)
    db[b"key"] = value
    view = db.view(b"key")
    for _ in range(2000):
        db[b"key"] = value
    assert db.stat()["file_size"] < 32 << 20
    assert bytes(view) == value
    view.release()


def hold_views_of_overwritten_records(path: Path, persistence: str) -> object:
    db = pmkv.open(path, persistence=persistence)
    keys = [b"%d" % i for i in range(2000)]
    db.put_many((key, content(int(key), 1)) for key in keys)
    db[b"big"] = content(1 << 20)
    views = [db.view(key) for key in [*keys, b"big"]]
    db.put_many((key, b"new") for key in keys[:1000])
    db.delete_many([*keys[1000:], b"big"])
    return db, views


def test_a_kill_while_views_of_overwritten_records_are_held_leaks_nothing(
    any_place: Place, killed_child: Callable[..., None]
) -> None:
    killed_child(hold_views_of_overwritten_records, *any_place)
    with any_place.open() as db:
        assert db.check() == []
        assert dict(db) == {b"%d" % i: b"new" for i in range(1000)}
        db[b"more"] = b"x"
        db.sync()
        assert db.stat()["limbo_entries"] == 0
        used = db.stat()["used_bytes"]
        db.clear()
        db.sync()
        assert db.check() == []
        assert db.stat()["used_bytes"] < used


def test_a_view_in_a_read_only_handle_is_as_good(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        db[b"key"] = content(70_000)
    with pmkv.open(pool_path, "r") as db:
        view = db.view(b"key")
        assert bytes(view) == content(70_000)
        with pytest.raises(BufferError):
            db.close()
        view.release()
