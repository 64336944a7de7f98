"""A disk that fails to sync: nothing is acknowledged, nor moved past what may be lost.

The failure is made by putting a descriptor that cannot write in the place of the pool's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pmkv


@contextmanager
def writes_that_fail(db: pmkv.Store, path: Path) -> Iterator[None]:
    assert db._file is not None
    number = db._file.number
    good = os.dup(number)
    bad = os.open(path, os.O_RDONLY)
    os.dup2(bad, number)
    try:
        yield
    finally:
        os.dup2(good, number)
        os.close(good)
        os.close(bad)


@pytest.fixture
def loaded(disk_path: Path) -> pmkv.Store:
    db = pmkv.open(disk_path, persistence="page")
    db.put_many((b"%d" % i, b"v" * 100) for i in range(50))
    return db


def test_a_put_whose_sync_fails_raises_and_reads_go_on(loaded: pmkv.Store, disk_path: Path) -> None:
    with writes_that_fail(loaded, disk_path):
        with pytest.raises(OSError, match="closed and opened again"):
            loaded.put(b"new", b"x")
        assert loaded[b"7"] == b"v" * 100
        assert len(loaded) == 50
    with pytest.raises(OSError, match="writing failed"):
        loaded.close()


def test_after_a_failed_sync_writes_are_refused_until_the_pool_is_opened_again(
    loaded: pmkv.Store, disk_path: Path
) -> None:
    """A later sync may succeed without what the failed one lost, so none may be relied on."""
    with writes_that_fail(loaded, disk_path), pytest.raises(OSError):
        loaded.put(b"new", b"x")
    for refused in (lambda: loaded.put(b"other", b"x"), lambda: loaded.delete(b"1"), loaded.sync):
        with pytest.raises(OSError, match="writing failed"):
            refused()
    with pytest.raises(OSError, match="writing failed"):
        loaded.close()
    with pmkv.open(disk_path) as again:
        assert again.check() == []
        assert (
            {b"%d" % i for i in range(50)}
            <= set(again)
            <= {*(b"%d" % i for i in range(50)), b"new"}
        )
        again.put(b"other", b"x")
