"""Each refusal is the documented exception, says what is wrong, and leaves all as it was."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import waiting_child

import pmkv

HEADER_SIZE = 2 << 20
PAGE_SIZE = 4096
NOBODY = 65534

USES: dict[str, Callable[[pmkv.Store], Any]] = {
    "getitem": lambda db: db[b"k"],
    "setitem": lambda db: db.__setitem__(b"k", b"v"),
    "delitem": lambda db: db.__delitem__(b"k"),
    "contains": lambda db: b"k" in db,
    "len": len,
    "bool": bool,
    "iter": iter,
    "list": list,
    "keys": lambda db: list(db.keys()),
    "values": lambda db: list(db.values()),
    "items": lambda db: list(db.items()),
    "len_of_items": lambda db: len(db.items()),
    "equality": lambda db: db == {},
    "get": lambda db: db.get(b"k"),
    "put": lambda db: db.put(b"k", b"v"),
    "delete": lambda db: db.delete(b"k"),
    "add": lambda db: db.add(b"k", b"v"),
    "replace": lambda db: db.replace(b"k", b"v"),
    "pop": lambda db: db.pop(b"k"),
    "pop_default": lambda db: db.pop(b"k", None),
    "popitem": lambda db: db.popitem(),
    "clear": lambda db: db.clear(),
    "setdefault": lambda db: db.setdefault(b"k", b"v"),
    "update": lambda db: db.update({b"k": b"v"}),
    "ior": lambda db: db.__ior__({b"k": b"v"}),
    "compare_and_set": lambda db: db.compare_and_set(b"k", None, b"v"),
    "get_many": lambda db: db.get_many([b"k"]),
    "get_many_of_none": lambda db: db.get_many([]),
    "put_many": lambda db: db.put_many([(b"k", b"v")]),
    "put_many_of_none": lambda db: db.put_many([]),
    "delete_many": lambda db: db.delete_many([b"k"]),
    "view": lambda db: db.view(b"k"),
    "stat": lambda db: db.stat(),
    "info": lambda db: db.info(),
    "memory": lambda db: db.memory(),
    "check": lambda db: db.check(),
    "sync": lambda db: db.sync(),
    "flush": lambda db: db.flush(),
    "with": lambda db: db.__enter__(),
}

WRITES = [
    "setitem",
    "put",
    "add",
    "replace",
    "clear",
    "update",
    "ior",
    "compare_and_set",
    "put_many",
    "delete",
    "delete_many",
    "pop_default",
    "popitem",
]

WITH_KEY: dict[str, Callable[[pmkv.Store, Any], Any]] = {
    "getitem": lambda db, key: db[key],
    "get": lambda db, key: db.get(key),
    "contains": lambda db, key: key in db,
    "view": lambda db, key: db.view(key),
    "setitem": lambda db, key: db.__setitem__(key, b"v"),
    "put": lambda db, key: db.put(key, b"v"),
    "add": lambda db, key: db.add(key, b"v"),
    "replace": lambda db, key: db.replace(key, b"v"),
    "delete": lambda db, key: db.delete(key),
    "delitem": lambda db, key: db.__delitem__(key),
    "pop": lambda db, key: db.pop(key, None),
    "setdefault": lambda db, key: db.setdefault(key, b"v"),
    "compare_and_set": lambda db, key: db.compare_and_set(key, None, b"v"),
    "get_many": lambda db, key: db.get_many([key]),
    "put_many": lambda db, key: db.put_many([(key, b"v")]),
    "delete_many": lambda db, key: db.delete_many([key]),
}

WITH_VALUE: dict[str, Callable[[pmkv.Store, Any], Any]] = {
    "setitem": lambda db, value: db.__setitem__(b"k", value),
    "put": lambda db, value: db.put(b"k", value),
    "add": lambda db, value: db.add(b"k", value),
    "replace": lambda db, value: db.replace(b"k", value),
    "setdefault": lambda db, value: db.setdefault(b"k", value),
    "update": lambda db, value: db.update({b"k": value}),
    "put_many": lambda db, value: db.put_many([(b"k", value)]),
}


@pytest.fixture
def pool(pool_path: Path) -> Path:
    """A closed pool with a hundred keys."""
    with pmkv.open(pool_path) as db:
        db.put_many((b"%d" % i, b"value") for i in range(100))
    return pool_path


@contextlib.contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """What is done meanwhile leaves the file's bytes and its neighbours as they were."""
    before, names = path.read_bytes(), sorted(os.listdir(path.parent))
    yield
    assert path.read_bytes() == before
    assert sorted(os.listdir(path.parent)) == names


def damage(path: Path, *places: int, size: int = 1) -> None:
    with path.open("r+b") as file:
        for place in places:
            file.seek(place)
            old = file.read(size)
            file.seek(place)
            file.write(bytes(byte ^ 0xFF for byte in old))


# ---- keys and values ----------------------------------------------------------------------


@pytest.mark.parametrize("use", WITH_KEY)
@pytest.mark.parametrize("key", [5, None, 1.5, (b"a",), [b"a"], object()])
def test_a_key_of_a_wrong_type_is_an_invalid_key_and_a_type_error(
    db: pmkv.Store, use: str, key: Any
) -> None:
    with pytest.raises(pmkv.InvalidKeyError, match=type(key).__name__) as raised:
        WITH_KEY[use](db, key)
    assert isinstance(raised.value, TypeError)
    assert len(db) == 0


@pytest.mark.parametrize("use", WITH_VALUE)
@pytest.mark.parametrize("value", [5, None, 1.5, (b"a",), {}, object()])
def test_a_value_of_a_wrong_type_is_an_invalid_value_and_a_type_error(
    db: pmkv.Store, use: str, value: Any
) -> None:
    with pytest.raises(pmkv.InvalidValueError, match=type(value).__name__) as raised:
        WITH_VALUE[use](db, value)
    assert isinstance(raised.value, TypeError)
    assert len(db) == 0


@pytest.mark.parametrize("use", WITH_KEY)
def test_text_that_utf_8_cannot_hold_is_an_invalid_key(db: pmkv.Store, use: str) -> None:
    with pytest.raises(pmkv.InvalidKeyError):
        WITH_KEY[use](db, "\ud800")
    assert len(db) == 0


@pytest.mark.parametrize("use", WITH_VALUE)
def test_text_that_utf_8_cannot_hold_is_an_invalid_value(db: pmkv.Store, use: str) -> None:
    with pytest.raises(pmkv.InvalidValueError):
        WITH_VALUE[use](db, "\ud800")
    assert len(db) == 0


@pytest.mark.parametrize("use", WITH_KEY)
def test_a_buffer_with_gaps_is_an_invalid_key(db: pmkv.Store, use: str) -> None:
    with pytest.raises(pmkv.InvalidKeyError):
        WITH_KEY[use](db, memoryview(b"abcd")[::2])


@pytest.mark.parametrize("use", WITH_VALUE)
def test_a_buffer_with_gaps_is_an_invalid_value(db: pmkv.Store, use: str) -> None:
    with pytest.raises(pmkv.InvalidValueError):
        WITH_VALUE[use](db, memoryview(b"abcd")[::2])


@pytest.mark.parametrize("use", WITH_KEY)
def test_a_key_over_the_limit_is_refused_with_both_sizes(db: pmkv.Store, use: str) -> None:
    with pytest.raises(pmkv.InvalidKeyError, match=r"17\.0 MiB.*16\.0 MiB"):
        WITH_KEY[use](db, bytes(17 << 20))
    assert len(db) == 0


def test_a_value_over_the_limit_is_refused_with_both_sizes(db: pmkv.Store, tmp_path: Path) -> None:
    import mmap

    hole = tmp_path / "hole"
    hole.touch()
    os.truncate(hole, 4 << 30)
    with (
        hole.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as value,
        pytest.raises(pmkv.InvalidValueError, match=r"4\.0 GiB"),
    ):
        db[b"k"] = value
    assert len(db) == 0


@pytest.mark.parametrize("items", [5, None, [5], [(b"a",)], b"ab", "ab"])
def test_put_many_of_what_is_not_pairs_is_an_error(db: pmkv.Store, items: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        db.put_many(items)
    assert len(db) == 0


# ---- closed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", USES)
def test_a_use_of_a_closed_store_is_a_closed_error(pool: Path, use: str) -> None:
    db = pmkv.open(pool)
    db.close()
    with pytest.raises(pmkv.ClosedError, match="closed") as raised:
        USES[use](db)
    assert isinstance(raised.value, ValueError)


def test_a_second_close_does_nothing(pool: Path) -> None:
    db = pmkv.open(pool)
    db.close()
    db.close()
    assert db.closed


def test_an_iterator_of_a_closed_store_is_a_closed_error(pool: Path) -> None:
    db = pmkv.open(pool)
    iterator = iter(db)
    next(iterator)
    db.close()
    with pytest.raises(pmkv.ClosedError):
        next(iterator)


def test_a_store_that_is_dropped_is_closed(pool: Path) -> None:
    db = pmkv.open(pool)
    db[b"last"] = b"word"
    del db
    with pmkv.open(pool) as again:
        assert again[b"last"] == b"word"


# ---- read only ----------------------------------------------------------------------------------


@pytest.mark.parametrize("use", WRITES)
def test_a_write_through_a_read_only_handle_is_a_readonly_error(pool: Path, use: str) -> None:
    with unchanged(pool), pmkv.open(pool, "r") as db:
        with pytest.raises(pmkv.ReadonlyError, match="flag='r'"):
            USES[use](db)
        assert len(db) == 100


def test_reading_through_a_read_only_handle_changes_nothing(pool: Path) -> None:
    with unchanged(pool), pmkv.open(pool, "r") as db:
        assert dict(db) == {b"%d" % i: b"value" for i in range(100)}
        assert db.get_many([b"1", b"no"]) == [b"value", None]
        assert db.check() == []
        assert bytes(db.view(b"1")) == b"value"
        assert db.stat()["entries"] == 100


def test_two_readers_may_have_a_pool_open_at_once(pool: Path) -> None:
    with pmkv.open(pool, "r") as one, pmkv.open(pool, "r") as other:
        assert one == other


# ---- paths --------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["r", "w"])
def test_a_missing_pool_is_a_file_not_found_error(pool_path: Path, flag: Any) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        pmkv.open(pool_path, flag)
    assert isinstance(raised.value, pmkv.Error)
    assert raised.value.filename == str(pool_path)
    assert os.listdir(pool_path.parent) == []


@pytest.mark.parametrize("flag", ["c", "n"])
def test_a_missing_directory_is_a_file_not_found_error(pool_path: Path, flag: Any) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        pmkv.open(pool_path / "deeper" / "pool", flag)
    assert isinstance(raised.value, pmkv.Error)


@pytest.mark.parametrize("flag", ["r", "w", "c", "n"])
def test_a_directory_is_an_is_a_directory_error(memory_dir: Path, flag: Any) -> None:
    with pytest.raises(IsADirectoryError) as raised:
        pmkv.open(memory_dir, flag)
    assert isinstance(raised.value, pmkv.Error)


@pytest.mark.parametrize("flag", ["r", "w", "c", "n"])
def test_a_fifo_is_refused_without_waiting_and_stays(pool_path: Path, flag: Any) -> None:
    os.mkfifo(pool_path)
    with pytest.raises(pmkv.Error):
        pmkv.open(pool_path, flag)
    assert pool_path.is_fifo()


@pytest.mark.parametrize("flag", ["r", "w", "c", "n"])
def test_a_device_that_is_no_memory_is_refused(flag: Any) -> None:
    with pytest.raises(pmkv.Error):
        pmkv.open("/dev/null", flag)
    assert Path("/dev/null").is_char_device()


def test_a_path_may_be_text_bytes_or_path_like(pool: Path) -> None:
    for path in (str(pool), os.fsencode(pool), pool):
        with pmkv.open(path, "r") as db:
            assert len(db) == 100


def test_a_relative_path_is_taken_from_the_current_directory(
    pool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pool.parent)
    with pmkv.open(pool.name, "r") as db:
        assert len(db) == 100
        assert db.path == str(pool)


def open_as_nobody(path: Path, flag: Any) -> tuple[list[str], str]:
    """Tries it without privileges: the bases of the exception, and its text."""
    if os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    try:
        pmkv.open(path, flag).close()
    except Exception as error:
        return [base.__name__ for base in type(error).__mro__], str(error)
    return [], ""


@pytest.mark.parametrize("flag", ["r", "w", "c", "n"])
def test_a_pool_without_permission_is_a_permission_error(
    pool: Path, flag: Any, in_child: Callable[..., Any]
) -> None:
    os.chmod(pool.parent, 0o755)
    os.chmod(pool, 0)
    with unchanged(pool) if os.geteuid() == 0 else contextlib.nullcontext():
        bases, text = in_child(open_as_nobody, pool, flag)
    assert {"Error", "PermissionError"} <= set(bases)
    assert str(pool) in text


@pytest.mark.parametrize("flag", ["w", "c", "n"])
def test_a_pool_that_may_only_be_read_says_that_flag_r_reads(
    pool: Path, flag: Any, in_child: Callable[..., Any]
) -> None:
    os.chmod(pool.parent, 0o555)
    os.chmod(pool, 0o444)
    bases, text = in_child(open_as_nobody, pool, flag)
    assert {"ReadonlyError", "PermissionError"} <= set(bases)
    assert "flag='r'" in text
    assert in_child(open_as_nobody, pool, "r") == ([], "")
    os.chmod(pool.parent, 0o755)


def test_a_directory_without_permission_is_a_permission_error(
    memory_dir: Path, in_child: Callable[..., Any]
) -> None:
    os.chmod(memory_dir, 0o555)
    bases, _ = in_child(open_as_nobody, memory_dir / "pool", "c")
    os.chmod(memory_dir, 0o755)
    assert {"Error", "PermissionError"} <= set(bases)
    assert os.listdir(memory_dir) == []


def test_a_new_pool_has_the_mode_that_was_asked_for_less_the_umask(pool_path: Path) -> None:
    old = os.umask(0o027)
    try:
        pmkv.open(pool_path, "c", 0o664).close()
    finally:
        os.umask(old)
    assert pool_path.stat().st_mode & 0o777 == 0o640


# ---- locks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", ["cc", "cr", "rc", "cn", "rn"])
def test_a_pool_open_in_this_process_is_a_lock_error_that_names_it(pool: Path, flags: str) -> None:
    first, second = flags
    with pmkv.open(pool, first) as db:
        with pytest.raises(pmkv.LockError, match=rf"this process \({os.getpid()}\)") as raised:
            pmkv.open(pool, second)
        assert isinstance(raised.value, BlockingIOError)
        assert len(db) == 100
    pmkv.open(pool, second).close()


def hold(path: Path, pipe: tuple[int, int]) -> None:
    with pmkv.open(path):
        os.write(pipe[1], b"open")
        signal.pause()


@pytest.fixture
def holder(pool: Path) -> Iterator[int]:
    """The id of another process that has the pool open."""
    pipe = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            hold(pool, pipe)
        finally:
            os._exit(1)
    assert os.read(pipe[0], 4) == b"open"
    yield pid
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    os.close(pipe[0])
    os.close(pipe[1])


@pytest.mark.parametrize("flag", ["r", "w", "c", "n"])
def test_a_pool_open_in_another_process_is_a_lock_error_that_names_it(
    pool: Path, holder: int, flag: Any
) -> None:
    with pytest.raises(pmkv.LockError, match=rf"process {holder}\b"):
        pmkv.open(pool, flag)


def test_the_lock_of_a_process_that_was_killed_is_gone(pool: Path, holder: int) -> None:
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    with pmkv.open(pool) as db:
        assert len(db) == 100


# ---- files that are no pools --------------------------------------------------------------------

FOREIGN = {
    "text": b"hello\n" * 1000,
    "one_byte": b"x",
    "zeros": bytes(8 << 20),
    "sqlite": b"SQLite format 3\0" + bytes(100_000),
    "random": os.urandom(3 << 20),
    "magic_alone": b"PMKVPOOL",
}


@pytest.mark.parametrize("flag", ["r", "w", "c"])
@pytest.mark.parametrize("content", FOREIGN)
def test_a_foreign_file_is_refused_and_untouched(pool_path: Path, content: str, flag: Any) -> None:
    pool_path.write_bytes(FOREIGN[content])
    with unchanged(pool_path), pytest.raises(pmkv.CorruptedError, match=str(pool_path)):
        pmkv.open(pool_path, flag)


@pytest.mark.parametrize("flag", ["r", "w"])
def test_an_empty_file_is_refused_unless_it_may_be_made(pool_path: Path, flag: Any) -> None:
    pool_path.touch()
    with unchanged(pool_path), pytest.raises(pmkv.CorruptedError):
        pmkv.open(pool_path, flag)
    with pmkv.open(pool_path, "c") as db:
        db[b"k"] = b"v"
    with pmkv.open(pool_path, "r") as db:
        assert dict(db) == {b"k": b"v"}


@pytest.mark.parametrize("flag", ["r", "w", "c"])
def test_a_pool_of_a_newer_version_is_refused_and_untouched(pool: Path, flag: Any) -> None:
    with pool.open("r+b") as file:
        for place in (0, HEADER_SIZE - PAGE_SIZE):
            file.seek(place + 8)
            file.write((2).to_bytes(4, "little"))
    with unchanged(pool), pytest.raises(pmkv.VersionMismatchError, match="format 2"):
        pmkv.open(pool, flag)


@pytest.mark.parametrize("flag", ["r", "w", "c"])
@pytest.mark.parametrize(
    "size",
    [1, 100, PAGE_SIZE, HEADER_SIZE - 1, HEADER_SIZE, HEADER_SIZE + PAGE_SIZE, -1, -PAGE_SIZE],
)
def test_a_truncated_pool_is_refused_and_untouched(pool: Path, size: int, flag: Any) -> None:
    os.truncate(pool, size if size > 0 else pool.stat().st_size + size)
    with unchanged(pool), pytest.raises(pmkv.CorruptedError):
        pmkv.open(pool, flag)


@pytest.mark.parametrize("flag", ["r", "w", "c"])
def test_a_pool_with_both_superblocks_damaged_is_refused_and_untouched(
    pool: Path, flag: Any
) -> None:
    damage(pool, 100, HEADER_SIZE - PAGE_SIZE + 100)
    with unchanged(pool), pytest.raises(pmkv.CorruptedError):
        pmkv.open(pool, flag)


@pytest.mark.parametrize("place", [0, 8, 12, 40, 64, 100, 255])
@pytest.mark.parametrize("copy", [0, HEADER_SIZE - PAGE_SIZE], ids=["A", "B"])
def test_one_damaged_superblock_is_made_up_for_by_the_other(
    pool: Path, copy: int, place: int
) -> None:
    damage(pool, copy + place)
    with pmkv.open(pool, "r") as db:
        assert len(db) == 100
        assert db[b"7"] == b"value"
    with pmkv.open(pool, "w") as db:
        db[b"more"] = b"x"
        assert len(db) == 101


def test_a_superblock_lost_with_its_whole_page_is_made_up_for_by_the_other(pool: Path) -> None:
    with pool.open("r+b") as file:
        file.write(bytes(PAGE_SIZE))
    with pmkv.open(pool) as db:
        assert len(db) == 100


# ---- flags and options --------------------------------------------------------------------------


def test_flag_n_makes_the_pool_anew(pool: Path) -> None:
    with pmkv.open(pool, "n") as db:
        assert len(db) == 0
        db[b"k"] = b"v"
    with pmkv.open(pool) as db:
        assert dict(db) == {b"k": b"v"}
    assert os.listdir(pool.parent) == [pool.name]


def test_flag_n_replaces_a_foreign_file(pool_path: Path) -> None:
    pool_path.write_bytes(b"hello")
    with pmkv.open(pool_path, "n") as db:
        db[b"k"] = b"v"
    with pmkv.open(pool_path, "r") as db:
        assert dict(db) == {b"k": b"v"}


@pytest.mark.parametrize("flag", ["w", "c", "r"])
def test_other_flags_keep_what_is_there(pool: Path, flag: Any) -> None:
    with pmkv.open(pool, flag) as db:
        assert len(db) == 100


@pytest.mark.parametrize(
    "options",
    [
        {"flag": "x"},
        {"flag": ""},
        {"flag": "rw"},
        {"flag": None},
        {"keys": "int"},
        {"values": "json5"},
        {"codec": "zip"},
        {"durability": "never"},
        {"persistence": "paper"},
        {"verify": "some"},
        {"max_size": 0},
        {"max_size": -1},
        {"max_size": "much"},
        {"max_size": "1 XiB"},
        {"max_size": 1.5},
        {"max_size": True},
    ],
    ids=str,
)
def test_an_argument_that_makes_no_sense_is_a_value_error(
    pool_path: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        pmkv.open(pool_path, **options)
    assert os.listdir(pool_path.parent) == []


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1 GiB", 1 << 30),
        ("1g", 1 << 30),
        ("64MiB", 64 << 20),
        ("1.5 GB", 3 << 29),
        (1 << 26, 1 << 26),
    ],
)
def test_max_size_is_a_number_of_bytes_or_a_text(pool_path: Path, text: Any, size: int) -> None:
    with pmkv.open(pool_path, max_size=text) as db:
        assert db.info()["max_size"] == size


@pytest.mark.parametrize(
    ("made", "asked"),
    [
        ({}, {"keys": "str"}),
        ({"keys": "str"}, {"keys": "bytes"}),
        ({}, {"ordered": False}),
        ({"ordered": False}, {"ordered": True}),
    ],
    ids=str,
)
def test_options_that_contradict_the_pool_are_an_error_and_change_nothing(
    pool_path: Path, made: dict[str, Any], asked: dict[str, Any]
) -> None:
    pmkv.open(pool_path, **made).close()
    with unchanged(pool_path), pytest.raises(pmkv.Error, match=next(iter(asked))) as refusal:
        pmkv.open(pool_path, **asked)
    with pmkv.open(pool_path, **made) as db:  # not held by the refusal, which is still alive
        assert refusal.value
        db["k"] = b"v"
    with pmkv.open(pool_path) as db:
        assert len(db) == 1


def test_every_exception_is_a_pmkv_error_and_what_the_standard_library_calls_it() -> None:
    assert pmkv.error is pmkv.Error
    standard = {
        "NotFoundError": KeyError,
        "KeyExistsError": KeyError,
        "ReadonlyError": Exception,
        "ClosedError": ValueError,
        "CorruptedError": Exception,
        "VersionMismatchError": Exception,
        "LockError": Exception,
        "InvalidKeyError": ValueError,
        "InvalidValueError": ValueError,
        "PoolFullError": OSError,
        "MediaError": OSError,
        "CodecError": Exception,
    }
    for name, base in standard.items():
        assert issubclass(getattr(pmkv, name), pmkv.Error)
        assert issubclass(getattr(pmkv, name), base)


# ---- fork ---------------------------------------------------------------------------------------


def use_after_fork(db: pmkv.Store) -> list[str]:
    found = []
    for use in USES.values():
        try:
            use(db)
            found.append("nothing")
        except Exception as error:
            found.append(type(error).__name__)
    db.close()
    return found


def test_a_child_cannot_use_its_parents_store_and_the_parent_goes_on(
    any_db: pmkv.Store, in_child: Callable[..., Any]
) -> None:
    any_db[b"k"] = b"v"
    assert in_child(use_after_fork, any_db) == ["ClosedError"] * len(USES)
    assert any_db[b"k"] == b"v"
    any_db[b"k"] = b"w"
    assert any_db.check() == []


def read_after_fork(view: memoryview, db: pmkv.Store) -> tuple[bytes, bool]:
    value = bytes(view)
    view.release()
    return value, db.closed


def test_a_view_taken_before_a_fork_can_be_read_in_the_child(
    db: pmkv.Store, in_child: Callable[..., Any]
) -> None:
    db[b"k"] = b"v" * 10_000
    view = db.view(b"k")
    assert in_child(read_after_fork, view, db) == (b"v" * 10_000, True)
    view.release()


def test_the_parent_can_close_and_open_again_while_its_child_lives(pool: Path) -> None:
    db = pmkv.open(pool)
    with waiting_child():
        db.close()
        with pmkv.open(pool) as again:
            assert len(again) == 100


# ---- a copy is a pool ---------------------------------------------------------------------------


def test_a_copy_of_a_closed_pool_is_a_pool(pool: Path, disk_path: Path) -> None:
    shutil.copy(pool, disk_path)
    with pmkv.open(disk_path) as db:
        assert len(db) == 100
        assert db.check() == []


def test_a_full_disk_has_an_errno(pool_path: Path) -> None:
    with pmkv.open(pool_path, max_size="8 MiB") as db:
        with pytest.raises(pmkv.PoolFullError) as raised:
            db[b"k"] = bytes(32 << 20)
        assert raised.value.errno == errno.ENOSPC
        assert raised.value.filename == str(pool_path)
