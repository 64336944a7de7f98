"""What opening repairs, refuses and promises."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import pmkv
from pmkv._layout import FIELDS, SIZES, hash64

SUPERBLOCK_B = (2 << 20) - 4096


def test_check_mends_a_copy_of_the_superblock_that_was_damaged_meanwhile(pool_path: Path) -> None:
    for copy in (0, SUPERBLOCK_B):
        with pmkv.open(pool_path) as db:
            db[b"a"] = b"1"
            with pool_path.open("r+b") as file:
                file.seek(copy + 24)
                file.write(b"\xff" * 8)
            assert any("superblock" in problem for problem in db.check(fix=False))
            assert db.check(fix=True) == db.check() == []
        with pmkv.open(pool_path, "r") as db:
            assert db.check() == [] and db[b"a"] == b"1"
            with pytest.raises(pmkv.ReadonlyError):
                db.check(fix=True)


def test_a_damaged_copy_of_the_superblock_is_reported_and_repaired(pool_path: Path) -> None:
    pmkv.open(pool_path).close()
    sound = pool_path.read_bytes()
    for copy in (0, SUPERBLOCK_B):
        damaged = bytearray(sound)
        damaged[copy + 60] ^= 1
        pool_path.write_bytes(damaged)
        with pmkv.open(pool_path, "r") as reader:
            assert any("superblock" in problem for problem in reader.check())
        with pmkv.open(pool_path) as writer:
            assert writer.check() == []
        assert pool_path.read_bytes()[copy : copy + 256] == sound[copy : copy + 256]


def test_unknown_readonly_features_allow_reading_and_refuse_writing(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        db[b"key"] = b"value"
    pool = bytearray(pool_path.read_bytes())
    offset = next(f[2] for f in FIELDS if f[:2] == ("superblock", "readonly_features"))
    end = SIZES["superblock"] - 8
    for copy in (0, SUPERBLOCK_B):
        struct.pack_into("<Q", pool, copy + offset, 4)
        struct.pack_into("<Q", pool, copy + end, hash64(0, 0, bytes(pool[copy : copy + end])))
    pool_path.write_bytes(pool)
    with pytest.raises(pmkv.VersionMismatchError):
        pmkv.open(pool_path)
    assert pool_path.read_bytes() == pool
    with pmkv.open(pool_path, "r") as reader:
        assert reader[b"key"] == b"value"


def test_info_does_not_promise_more_than_the_medium_gives(disk_path: Path) -> None:
    with pmkv.open(disk_path, persistence="process") as db:
        assert "not a power cut" in db.info()["durable"]
