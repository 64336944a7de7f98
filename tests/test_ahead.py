"""The next step of a pool that grows, taken while the last one is filled (decision 0029)."""

from __future__ import annotations

import gc
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from reader import seal

import pmkv

HUGE = 2 << 20
PAGE = 4096
PAGES_AT = 4 << 20  # where the first page lies: behind the header and a section's descriptors
SMALL = 16 << 20  # of pages: nothing is taken ahead for a pool that has fewer
PAGE_COUNT_AT = PAGE + 72
VALUE = 60_000
DEADLINE = 20


def size_of(path: Path) -> int:
    return path.stat().st_size


def size_in_use(db: pmkv.Store) -> int:
    """How long the file is without what was taken ahead."""
    return PAGES_AT + db.stat()["pages"] * PAGE


def value_of(i: int) -> bytes:
    return i.to_bytes(4, "big") * (VALUE // 4)


def fill(db: pmkv.Store, growths: int, start: int = 0) -> int:
    """Puts values until the pool has grown so often; how many it holds then."""
    i = start
    for _ in range(growths):
        pages = db.stat()["pages"]
        while db.stat()["pages"] == pages:
            db[b"%d" % i] = value_of(i)
            i += 1
    return i


def fill_small(db: pmkv.Store) -> int:
    """Puts values until the next growth is followed by a step ahead; how many it holds then."""
    while db.stat()["pages"] * PAGE < SMALL - HUGE:
        fill(db, 1, len(db))
    return len(db)


def threads() -> int:
    """Of this process."""
    return len(os.listdir("/proc/self/task"))


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def has_holes(path: Path, size: int) -> bool:
    """Whether some of the file's pages would only be allocated when they are written to."""
    with open(path, "rb") as file:
        return os.lseek(file.fileno(), PAGES_AT, os.SEEK_HOLE) < size


def wait_for_step(db: pmkv.Store, path: Path) -> None:
    """Until the step ahead is in the file."""
    size = size_in_use(db) + HUGE
    wait_until(lambda: size_of(path) == size and not has_holes(path, size))


def is_sound(db: pmkv.Store, count: int) -> bool:
    return db.check() == [] and all(db[b"%d" % i] == value_of(i) for i in range(count))


@pytest.fixture(params=["process", "cacheline"])
def growing(request: pytest.FixtureRequest, pool_path: Path) -> pmkv.Store:
    """A store of which the next growth is being taken ahead."""
    db = pmkv.open(pool_path, persistence=request.param)
    fill(db, 1, fill_small(db))
    return db


def test_a_step_is_taken_ahead_and_then_used(growing: pmkv.Store, pool_path: Path) -> None:
    with growing as db:
        wait_for_step(db, pool_path)
        assert not has_holes(pool_path, size_of(pool_path))
        assert db.stat()["file_size"] == db.info()["file_size"] == size_of(pool_path)
        ahead = size_of(pool_path)
        fill(db, 1, len(db))
        assert size_in_use(db) == ahead
        count = fill(db, 5, len(db))
        assert is_sound(db, count)
    with pmkv.open(pool_path) as db:
        assert is_sound(db, count)


def test_a_small_pool_takes_nothing_ahead(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        fill_small(db)
        time.sleep(0.1)
        assert size_of(pool_path) == size_in_use(db)


def test_on_a_disk_nothing_is_taken_ahead(disk_path: Path) -> None:
    with pmkv.open(disk_path, persistence="page") as db:
        fill(db, 2, fill_small(db))
        time.sleep(0.1)
        assert size_of(disk_path) == size_in_use(db)


@pytest.mark.parametrize("early", [False, True])
def test_close_gives_back_what_was_taken_ahead(
    growing: pmkv.Store, pool_path: Path, early: bool
) -> None:
    """Also what the store took up, but puts nothing there."""
    wait_for_step(growing, pool_path)
    size = size_of(pool_path)
    if early:
        fill(growing, 1, len(growing))
    with growing as db:
        count = len(db)
    assert size_of(pool_path) == size - HUGE
    with pmkv.open(pool_path) as db:
        assert size_of(pool_path) == size_in_use(db)
        assert is_sound(db, count)


@pytest.mark.parametrize("word", [1, seal(1)], ids=["damaged", "whole"])
def test_a_damaged_root_cuts_nothing_off(pool_path: Path, word: int) -> None:
    with pmkv.open(pool_path) as db:
        fill(db, 2)
        size = size_of(pool_path)
        with open(pool_path, "rb+") as file:
            file.seek(PAGE_COUNT_AT)
            file.write(word.to_bytes(8, "little"))
    assert size_of(pool_path) == size


def test_small_writes_find_the_step_before_they_need_it(pool_path: Path) -> None:
    """Or each of those near the end would have to be ready to wait."""
    least = []
    with pmkv.open(pool_path, ordered=False) as db:
        fill(db, 1, fill_small(db))
        pages = 0
        for i in range(4000):
            if db.stat()["pages"] > pages:
                wait_for_step(db, pool_path)
                pages = db.stat()["pages"]
            db[i.to_bytes(4, "big")] = bytes(3000)
            least.append(db.stat()["free_pages"])
        assert pages * PAGE > SMALL + 3 * HUGE
    assert min(least) > 32


def test_compaction_cuts_off_what_was_taken_ahead(growing: pmkv.Store, pool_path: Path) -> None:
    with growing as db:
        fill(db, 6, len(db))
        db.delete_many(b"%d" % i for i in range(len(db)))
        db.compact()
        assert size_of(pool_path) == size_in_use(db)
        count = fill(db, 1)
        assert not has_holes(pool_path, size_in_use(db))
        assert is_sound(db, fill(db, 12, count))


def test_compaction_gives_back_what_was_taken_ahead(growing: pmkv.Store, pool_path: Path) -> None:
    """Also where nothing else is to be had."""
    with growing as db:
        db[b"large"] = bytes(40 * HUGE)  # what was taken ahead is not worth moving anything
        fill(db, 1, len(db))
        wait_for_step(db, pool_path)
        size = size_of(pool_path)
        assert db.compact() == size - size_of(pool_path) >= HUGE
        assert size_of(pool_path) == size_in_use(db)


def test_a_limit_holds_for_what_is_taken_ahead(pool_path: Path) -> None:
    with pmkv.open(pool_path, max_size=25_000_000) as db:
        with pytest.raises(pmkv.PoolFullError):
            fill(db, 99)
        time.sleep(0.1)
        assert 24_900_000 < size_of(pool_path) <= 25_000_000
        assert is_sound(db, len(db))


def descriptor_of(path: Path) -> int:
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == str(path):
                return int(name)
        except FileNotFoundError:  # of listdir itself
            continue
    raise AssertionError(f"{path} is not open")


def test_nobody_works_on_a_file_that_took_the_descriptors_number(memory_dir: Path) -> None:
    """A store that is dropped leaves its file to a view of it, and the last view closes it."""
    same = 0
    for i in range(30):
        path, other = memory_dir / f"{i}.pmkv", memory_dir / f"{i}.other"
        db = pmkv.open(path)
        count = fill(db, 1, fill_small(db))
        view = db.view(b"0")
        number = descriptor_of(path)
        used = size_in_use(db)
        del db
        gc.collect()
        assert size_of(path) == used
        assert view == value_of(0)
        view.release()
        with open(other, "xb") as file:
            same += file.fileno() == number
            time.sleep(0.01)
            assert size_of(other) == 0
        assert size_of(path) == used
        with pmkv.open(path) as db:
            assert is_sound(db, count)
        path.unlink()
    assert same > 0


def leave(db: pmkv.Store, number: int, other: Path) -> int:
    """Closes the parent's store, whose descriptor's number another file has; that file's size."""
    with open(other, "wb") as file:
        file.truncate(1 << 30)
        os.dup2(file.fileno(), number)
        db.close()
        return os.fstat(file.fileno()).st_size


def test_a_fork_while_a_step_is_taken(
    growing: pmkv.Store, pool_path: Path, in_child: Callable[..., int]
) -> None:
    other = pool_path.with_name("other")
    with growing as db:
        count, number = len(db), descriptor_of(pool_path)
        for _ in range(10):
            assert in_child(leave, db, number, other) == 1 << 30
            count = fill(db, 1, count)
        wait_for_step(db, pool_path)
        assert in_child(leave, db, number, other) == 1 << 30
        assert size_of(pool_path) == size_in_use(db) + HUGE  # the child has cut nothing off
        assert is_sound(db, fill(db, 2, count))


def take_a_step_that_has_no_room(path: Path, wait: bool) -> tuple[int, int]:
    """The file's size when it has grown, and when a step that there is no room for is over.

    Whoever writes behind RLIMIT_FSIZE gets a signal that ends the process.
    """
    with pmkv.open(path) as db:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        fill_small(db)
        limit = size_of(path) + HUGE + HUGE // 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        fill(db, 1, len(db))
        used = size_in_use(db)
        if wait:
            wait_until(lambda: threads() == 1)
        after = size_of(path)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with pytest.raises(pmkv.PoolFullError):
            fill(db, 99, len(db))
        assert is_sound(db, len(db))
    return used, after


def test_a_step_that_has_no_room_is_given_back_and_ends_nothing(
    pool_path: Path, in_child: Callable[..., tuple[int, int]]
) -> None:
    used, after = in_child(take_a_step_that_has_no_room, pool_path, True)
    assert after == used


def test_who_needs_a_step_that_has_no_room_hears_of_it(
    pool_path: Path, in_child: Callable[..., tuple[int, int]]
) -> None:
    in_child(take_a_step_that_has_no_room, pool_path, False)


def grow_without_threads(path: Path) -> list[int]:
    """No address space for the stack of a thread."""
    with pmkv.open(path) as db:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
        resource.setrlimit(resource.RLIMIT_AS, (used + (3 << 20), used + (3 << 20)))
        ahead = []
        fill_small(db)
        for _ in range(6):
            fill(db, 1, len(db))
            ahead.append(threads() - 1 + size_of(path) - size_in_use(db))
        assert is_sound(db, len(db))
    return ahead


def test_where_no_thread_can_be_had_the_writer_grows_the_pool(
    pool_path: Path, in_child: Callable[..., list[int]]
) -> None:
    # Not a child of fork: that may have a stack left over.
    assert in_child(grow_without_threads, pool_path, method="spawn") == [0] * 6


def grow_on_one_processor(path: Path) -> bool:
    """Where the thread has no processor before the writer needs the step."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with pmkv.open(path) as db:
        for first in range(0, 1500, 100):
            db.put_many((b"%d" % i, value_of(i)) for i in range(first, first + 100))
        sound = is_sound(db, 1500)
    wait_until(lambda: threads() == 1)
    with pmkv.open(path) as db:
        return sound and is_sound(db, 1500) and size_of(path) == size_in_use(db)


def test_who_needs_a_step_does_not_wait_for_a_thread_that_has_not_begun(
    pool_path: Path, in_child: Callable[..., bool]
) -> None:
    assert in_child(grow_on_one_processor, pool_path)


def close_before_the_thread_begins(directory: Path) -> list[int]:
    """What it then does to a file that has taken the descriptor's number."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sizes = []
    for i in range(10):
        path = directory / f"{i}.pmkv"
        db = pmkv.open(path)
        number = descriptor_of(path)
        fill(db, 1, fill_small(db))
        db.close()
        path.unlink()
        with open(directory / "other", "wb") as file:
            os.dup2(file.fileno(), number)
            wait_until(lambda: threads() == 1)
            sizes.append(os.fstat(number).st_size)
            if number != file.fileno():
                os.close(number)
    return sizes


def test_a_thread_that_was_dropped_does_nothing(
    memory_dir: Path, in_child: Callable[..., list[int]]
) -> None:
    assert in_child(close_before_the_thread_begins, memory_dir) == [0] * 10


def grow_and_hold(path: Path, growths: int) -> pmkv.Store:
    db = pmkv.open(path)
    fill(db, growths, fill_small(db))
    return db


def test_killed_while_a_step_is_taken(pool_path: Path, killed_child: Callable[..., None]) -> None:
    for growths in (2, 3, 2, 4, 2):
        killed_child(grow_and_hold, pool_path, growths)
        with pmkv.open(pool_path) as db:
            assert is_sound(db, len(db))
    with pmkv.open(pool_path) as db:
        count = fill(db, 3, len(db))
        wait_for_step(db, pool_path)
        assert not has_holes(pool_path, size_of(pool_path))
        assert is_sound(db, count)
