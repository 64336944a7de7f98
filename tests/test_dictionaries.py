"""Dictionaries of the pool: each has a number for ever, and tells nobody what is secret."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import pytest
from test_coded_values import KEY, WORDS, document, swapped

import pmkv
from pmkv import _codec, _copy


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A codec of one's own; what a test registers besides is forgotten."""
    monkeypatch.setattr(_codec, "_stages", dict(_codec._stages))
    pmkv.register_codec("own", 70, swapped, swapped)


def fill(space: Any, secret: bytes = b"", codec: Any = ...) -> None:
    for number in range(1500):
        space.put(b"%d" % number, document(number) + secret, codec=codec)


def test_a_dictionary_of_secrets_is_a_secret(pool_path: Path) -> None:
    """The file has no word of them, whatever hides them; values that are hidden teach no other."""
    with pmkv.open(pool_path, key=KEY, codec="lz4") as db:
        for name, codec in (("a", "lz4+aes"), ("b", "zstd+chacha20"), ("c", "lz4+own")):
            space = db.namespace(name, codec=codec)
            fill(space, b"<secret>")
            assert space.train_dictionary(4096) > 0
            fill(space, b"<secret>")
        for codec in ("aes", "lz4+own"):
            db.clear()
            fill(db, b"<secret>", codec=codec)
            with pytest.raises(pmkv.CodecError, match="more of them"):
                db.train_dictionary(4096)
        db.sync()
        data = pool_path.read_bytes()
        assert b"secret" not in data and b"active" not in data and WORDS[1] not in data
        fill(db)
        db.train_dictionary(4096)
    with pmkv.open(pool_path) as db:
        assert db[b"5"] == document(5)
        with pytest.raises(pmkv.CodecError, match=r"b'5'.*needs the key"):
            db.namespace("a")[b"5"]


def test_two_who_train_at_once_have_a_dictionary_each(
    pool_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one has encoded with its dictionary needs that one for ever."""
    meet, made = threading.Barrier(4, timeout=20), _codec.train

    def train(samples: list[bytes], size: int) -> bytes:
        dictionary = made(samples, size)
        meet.wait()
        return dictionary

    monkeypatch.setattr("pmkv._coding.train", train)
    with pmkv.open(pool_path) as db:
        spaces = [db.namespace(f"s{i}", codec="zstd" if i % 2 else "lz4") for i in range(4)]
        for i, space in enumerate(spaces):
            fill(space, b"of %d" % i)
        threads = [threading.Thread(target=s.train_dictionary, args=(4096,)) for s in spaces]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for i, space in enumerate(spaces):
            fill(space, b"of %d" % i)
        assert len({s._options() >> 40 & 0xFF for s in spaces}) == 4
    with pmkv.open(pool_path, "r") as db:
        for i in range(4):
            space = db.namespace(f"s{i}")
            assert dict(space) == {b"%d" % n: document(n) + b"of %d" % i for n in range(1500)}


def test_a_dictionary_is_trained_where_it_can_be_kept(pool_path: Path) -> None:
    with pmkv.open(pool_path) as db:
        plain, space = db.namespace("plain"), db.namespace("s", codec="lz4")
        fill(plain)
        with pytest.raises(pmkv.Error, match="codec='lz4'"):
            plain.train_dictionary()
        with pytest.raises(pmkv.CodecError, match="more of them"):
            space.train_dictionary()
        fill(space)
        for size in (-1, 0, 255, 1 << 40):
            with pytest.raises(ValueError, match="256 bytes to 1 MiB"):
                space.train_dictionary(size)
        with db.begin(write=True) as txn, pytest.raises(pmkv.Error, match="outside"):
            txn.namespace("s").train_dictionary(4096)
        with db.snapshot() as then, pytest.raises(pmkv.ReadonlyError):
            then.namespace("s").train_dictionary(4096)
        assert space._options() >> 40 == 0
        assert space.train_dictionary(4096) > 0
    with pmkv.open(pool_path, "r") as db, pytest.raises(pmkv.ReadonlyError):
        db.namespace("s").train_dictionary(4096)


def test_no_value_is_all_that_a_dictionary_is_trained_on(pool_path: Path) -> None:
    """A value larger than all that is to be looked at teaches what it begins with."""
    with pmkv.open(pool_path, codec="lz4") as db:
        for number in range(0, 24_000, 600):
            db[b"%d" % number] = b"".join(map(document, range(number, number + 600)))
        assert db.train_dictionary(256) > 0


def test_a_pool_has_room_for_255_dictionaries(
    pool_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = iter(range(1000))
    monkeypatch.setattr(
        "pmkv._coding.train", lambda samples, size: b"dictionary %d;" % next(turn) * 20
    )
    with pmkv.open(pool_path, codec="lz4") as db:
        for number in range(255):
            db.train_dictionary(256)
            db[b"%d" % number] = b"dictionary %d;" % number * 10
        with pytest.raises(pmkv.Error, match="255 dictionaries"):
            db.train_dictionary(256)
        db[b"last"] = b"dictionary 254;" * 10
    with pmkv.open(pool_path) as db:
        assert db.pop(b"last") == b"dictionary 254;" * 10
        assert dict(db) == {b"%d" % n: b"dictionary %d;" % n * 10 for n in range(255)}
        assert db.check() == []


def test_a_copy_has_the_dictionaries_that_its_options_name(
    pool_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is trained while the copy is made, behind its moment."""
    path, copy_pairs = pool_path.with_suffix(".copy"), _copy._copy_pairs
    with pmkv.open(pool_path) as db:
        space = db.namespace("s", codec="lz4")
        fill(space)

        def train_first(source: Any, target: Any) -> None:
            monkeypatch.setattr(_copy, "_copy_pairs", copy_pairs)
            space.train_dictionary(4096)
            copy_pairs(source, target)

        monkeypatch.setattr(_copy, "_copy_pairs", train_first)
        db.copy(path)
    with pmkv.open(path) as db:
        space = db.namespace("s")
        space[b"new"] = document(7)
        assert space.pop(b"new") == document(7) and len(space) == 1500
        assert db.check() == []


def test_two_who_change_options_at_once_change_each_its_own(
    pool_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A codec that another thread changes while a dictionary is trained stays changed."""
    made = _codec.train

    def train(samples: list[bytes], size: int) -> bytes:
        db.namespace("n", codec="lz4+aes")
        return made(samples, size)

    monkeypatch.setattr("pmkv._coding.train", train)
    with pmkv.open(pool_path, key=KEY) as db:
        space = db.namespace("n", codec="zstd")
        fill(space)
        space.train_dictionary(4096)
        again = db.namespace("n")
        assert again._coder().stages == b"\1\x10" and again._coder().dictionary == 1
        again[b"new"] = document(1)
        assert again[b"new"] == document(1)


@pytest.mark.parametrize("trained_now", [False, True])
def test_a_store_in_a_cycle_writes_back_with_its_dictionary(
    pool_path: Path, trained_now: bool
) -> None:
    """The collector clears what refers to the store before it closes it."""
    with pmkv.open(pool_path, codec="lz4") as db:
        fill(db)
        if not trained_now:
            db.train_dictionary(4096)
    db = pmkv.open(pool_path, durability="lazy", writeback_interval=1000)
    if trained_now:
        db.train_dictionary(4096)
    db[b"lazy"] = document(7)
    cycle: list[Any] = [db]
    cycle.append(cycle)
    del db, cycle
    gc.collect()
    with pmkv.open(pool_path) as db:
        assert db[b"lazy"] == document(7)
        assert "lz4-dict" in db.stat()["codecs"]
