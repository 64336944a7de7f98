"""Codecs in the store under attack: functions that misbehave, bytes that were changed, keys that do
not fit, kills."""

from __future__ import annotations

import contextlib
import os
import random
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_coded_values import as_stored, assert_counts, document, swapped, text

import pmkv
from pmkv import _codec

KEY, OTHER = bytes(range(32)), b"another key of 32 bytes, wrong.."
DAMAGED = (pmkv.CorruptedError, pmkv.CodecError)


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten."""
    monkeypatch.setattr(_codec, "_stages", dict(_codec._stages))


def unchanged(data: bytes) -> bytes:
    return bytes(data)


def register(
    encode: Callable[[bytes], Any] = unchanged, decode: Callable[[bytes], Any] = unchanged
) -> None:
    """Makes codec "own" of the two."""
    _codec._stages.pop(70, None)
    pmkv.register_codec("own", 70, encode, decode)


# ---- functions that misbehave -------------------------------------------------------------------

READS: dict[str, Callable[[Any], Any]] = {
    "get": lambda db: db.get(b"5"),
    "view": lambda db: db.view(b"5"),
    "get_many": lambda db: db.get_many([b"%d" % i for i in range(100)]),
    "values": lambda db: list(db.values()),
    "items": lambda db: list(db.items()),
    "pop": lambda db: db.pop(b"5"),
    "popitem": lambda db: db.popitem(),
    "replace": lambda db: db.replace(b"5", b""),
    "compare_and_set": lambda db: db.compare_and_set(b"5", text(300, 5), b""),
    "copy": lambda db: db.copy(db.path + ".copy"),
    "train": lambda db: db.namespace("x", codec="lz4").train_dictionary(),
}


def read_and_close(path: Path, how: str, ordered: bool, source: str) -> str:
    """A codec whose function closes the store that it is called by."""
    opened: list[pmkv.Store] = []

    def decode(data: bytes) -> bytes:
        for db in opened:
            db.close()
        return data

    register(decode=decode)
    db = pmkv.open(path, codec="own", cache_size=0, ordered=ordered)
    db.update({b"%d" % i: text(300, i) for i in range(100)})
    db.namespace("x").update({b"%d" % i: document(i) for i in range(100)})
    at = {"store": lambda: db, "snapshot": db.snapshot, "txn": lambda: db.begin(write=True)}[
        source
    ]()
    opened.append(db)
    try:
        READS[how](at)
    except pmkv.Error as error:
        return type(error).__name__
    return "done"


@pytest.mark.parametrize("source", ["store", "snapshot", "txn"])
@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
@pytest.mark.parametrize("how", READS)
def test_a_store_that_its_codec_closes_is_closed(
    how: str, ordered: bool, source: str, pool_path: Path, in_child: Callable[..., Any]
) -> None:
    if source != "store" and how in ("copy", "train"):
        pytest.skip("a method of stores")
    answer = in_child(read_and_close, pool_path, how, ordered, source)
    assert answer in ("done", "ClosedError", "ReadonlyError", "CodecError")


def test_walks_give_each_value_its_key_whatever_happens_meanwhile(pool_path: Path) -> None:
    """Another thread writes the place of a record anew while its value is decoded."""
    stop = threading.Event()

    def decode(data: bytes) -> bytes:
        time.sleep(1e-5)
        return data

    def write(db: pmkv.Store) -> None:
        chance = random.Random(1)
        while not stop.is_set():
            key = b"%d" % chance.randrange(60)
            db.delete(key)
            db[key] = key * chance.randrange(1, 60)
            if chance.random() < 0.02:
                db.compact()

    register(decode=decode)
    with pmkv.open(pool_path, codec="own", ordered=False, cache_size=0) as db:
        db.update({b"%d" % i: b"%d" % i * 5 for i in range(60)})
        writer = threading.Thread(target=write, args=(db,))
        writer.start()
        try:
            for _ in range(60):
                pairs = list(db.items())
                assert all(value and not value.replace(key, b"") for key, value in pairs)
                db.get_many([key for key, _ in pairs])
        finally:
            stop.set()
            writer.join()
        assert db.check() == []


def test_a_codec_may_use_the_store(pool_path: Path) -> None:
    """It reads, writes and begins transactions: nothing waits for itself, and nothing is lost."""
    calls = []

    def use(data: bytes) -> bytes:
        if opened and not calls:
            calls.append(1)
            db = opened[0]
            with contextlib.suppress(pmkv.Error):  # inside a transaction, its own is the way
                db.put(b"log", data[:3], codec=None)
                with db.begin(write=True) as txn:
                    txn.put(b"log2", b"x", codec=None)
            assert db.get(b"plain") == b"plain"
            list(db.keys())
            calls.clear()
        return data

    opened: list[pmkv.Store] = []
    register(use, use)
    with pmkv.open(pool_path, codec="own", cache_size=0) as db:
        db.put(b"plain", b"plain", codec=None)
        opened.append(db)
        db.update({b"%d" % i: text(300, i) for i in range(50)})
        for i in range(50):
            assert db[b"%d" % i] == text(300, i)
        assert db.pop(b"1") == text(300, 1) and db.replace(b"2", b"x") == text(300, 2)
        assert db.incr(b"n") == 1 and db.incr(b"n") == 2
        with db.begin(write=True) as txn:
            txn[b"3"] = b"new"
            assert txn[b"3"] == b"new" and txn[b"4"] == text(300, 4)
        assert len(list(db.items())) == len(db) and db[b"log"]
        assert db.check() == []
        assert_counts(db)
        opened.clear()


@pytest.mark.parametrize("wrong", [ValueError("no"), "text", None, 5, KeyError("k"), b"short"])
def test_what_a_function_does_wrong_is_an_error_of_that_key(wrong: Any, pool_path: Path) -> None:
    def misbehave(data: bytes) -> Any:
        if isinstance(wrong, Exception):
            raise wrong
        return wrong

    register()
    with pmkv.open(pool_path, codec="own", cache_size=0) as db:
        db[b"good"], db[b"bad"] = text(100), text(200)
        register(decode=misbehave)
        for how in (lambda: db[b"bad"], lambda: db.pop(b"bad"), lambda: db.replace(b"bad", b"")):
            with pytest.raises(pmkv.CodecError, match="b'bad'"):
                how()
        with pytest.raises(pmkv.CodecError):
            db.popitem()
        register()
        assert dict(db) == {b"good": text(100), b"bad": text(200)}
        if wrong != b"short":
            register(encode=misbehave)
            for put in (lambda: db.put(b"bad", b""), lambda: db.put_many({b"x": b"", b"bad": b""})):
                with pytest.raises(pmkv.CodecError):
                    put()
            register()
        assert dict(db) == {b"good": text(100), b"bad": text(200)}


def test_compare_and_set_does_not_fail_for_how_a_value_is_stored(pool_path: Path) -> None:
    """The value is the expected one all the time, though it is encrypted anew each time."""
    again = []

    def decode(data: bytes) -> bytes:
        if again:
            db.put(b"k", text(100), codec=again.pop())
        return data

    register(decode=decode)
    with pmkv.open(pool_path, key=KEY, cache_size=0) as db:
        for first in ("own+aes", "own"):
            for second in ("own+aes", "aes", "own", None):
                db.put(b"k", text(100), codec=first)
                again.append(second)
                assert db.compare_and_set(b"k", text(100), b"new") is True
                assert db[b"k"] == b"new"


# ---- bytes that were changed --------------------------------------------------------------------


def changed(path: Path, at: int, mask: int) -> contextlib.AbstractContextManager[None]:
    @contextlib.contextmanager
    def change() -> Iterator[None]:
        fd = os.open(path, os.O_RDWR)
        (byte,) = os.pread(fd, 1, at)
        os.pwrite(fd, bytes([byte ^ mask]), at)
        try:
            yield
        finally:
            os.pwrite(fd, bytes([byte]), at)
            os.close(fd)

    return change()


def places_of(path: Path, key: bytes, db: pmkv.Store) -> list[int]:
    """Of every byte of a record, and of its extent's beginning and end."""
    data = path.read_bytes()
    stored = next(stored for k, stored in zip(sorted(db), as_stored(db), strict=True) if k == key)
    coding = next(
        coding for k, (coding, _) in zip(sorted(db), as_stored(db), strict=True) if k == key
    )
    begin = data.rindex(key + coding.to_bytes(8, "little"))
    places = list(range(begin - 24, begin + len(key) + 8))
    value = data.rindex(stored[1])
    spread = range(len(stored[1])) if len(stored[1]) < 300 else [*range(40), *range(-40, 0)]
    places += [value + index % len(stored[1]) for index in spread]
    if not data[begin + len(key) + 8 :].startswith(stored[1]):
        places += range(begin + len(key) + 8, begin + len(key) + 24)
    return places


@pytest.mark.parametrize("verify", [True, False, "all"])
@pytest.mark.parametrize("codec", ["lz4", "zstd", "lz4+aes", "chacha20", "own", "trained"])
def test_a_changed_byte_is_an_error_of_its_key_or_no_matter(
    codec: str, verify: Any, pool_path: Path
) -> None:
    register(swapped, swapped)
    model = {b"<key of %d>" % size: text(size, size) for size in (60, 300, 20_000)}
    options: dict[str, Any] = {
        "key": KEY,
        "cache_size": 0,
        "verify": verify,
        "persistence": "process",
    }
    with pmkv.open(pool_path, codec="lz4" if codec == "trained" else codec, **options) as db:
        if codec == "trained":
            db.update({b"%d" % i: document(i) for i in range(1500)})
            db.train_dictionary(4096)
            db.clear()
            model = {key: document(i) * (1 + i * 20) for i, key in enumerate(model)}
        db.update(model)
        db.sync()
        for key, value in model.items():
            for at in places_of(pool_path, key, db):
                with changed(pool_path, at, random.Random(at).choice((0x01, 0x40, 0xFF))):
                    try:
                        assert db[key] == value, f"{at:#x}"
                    except DAMAGED as error:
                        assert repr(key) in str(error)
                    with contextlib.suppress(*DAMAGED):
                        assert dict(db) == model
                    with contextlib.suppress(*DAMAGED), db.view(key) as view:
                        assert view == value
            (codec_byte,) = [at for at in places_of(pool_path, key, db)[5:6]]
            whole = pool_path.read_bytes()[codec_byte]
            with changed(pool_path, codec_byte, whole), pytest.raises(DAMAGED, match=repr(key)):
                db[key]  # as if it were plain
        assert dict(db) == model and db.check() == []


@pytest.mark.parametrize("cipher", ["aes", "chacha20", "lz4+aes"])
def test_a_stolen_value_does_not_decrypt(cipher: str, pool_path: Path) -> None:
    """Moved to another key, namespace or coding, or from a pool with another key."""
    with pmkv.open(pool_path, codec=cipher, key=KEY) as db:
        db[b"k"] = text(200)
        space = db.namespace("n", codec=cipher)
        space[b"n"] = b""
        ((coding, stored),) = [pair for pair in as_stored(db) if pair[0] & 0xFFFFFFFF]
        plain = _codec.parse("lz4")[0] << 32
        for target, key, word in (
            (db, b"l", coding),
            (space, b"k", coding),
            (db, b"k", coding + 1),
            (db, b"k", coding & 0xFFFFFFFF | plain),
        ):
            target._put_stored([(key, (word, stored, 0))])
            with pytest.raises(pmkv.CodecError, match=repr(key)):
                target[key]
        db._put_stored([(b"k", (coding, stored, 0))])
        assert db[b"k"] == text(200)


CRAFTED = {
    "unknown stage": (1 << 32 | 100 << 24, b"x" * 50),
    "own of nobody": (64 << 32 | 100, b"x" * 100),
    "no dictionary": (3 << 32 | 100, struct.pack("<HI", 9, 100) + b"x" * 50),
    "dictionary 0": (4 << 32 | 100, struct.pack("<HI", 0, 100) + b"x" * 50),
    "nothing": (1 << 32 | 100, b""),
    "LZ4, offset 0": (1 << 32 | 100, struct.pack("<I", 100) + b"\x1fA\0\0\x50" + b"\x50BBBBB"),
    "LZ4, offset too far": (1 << 32 | 100, struct.pack("<I", 100) + b"\x1fA\xff\xff\x50\x50BBBBB"),
    "LZ4 of 4 GiB": (
        1 << 32 | 0xFFFFFFFF,
        struct.pack("<I", 0xFFFFFFFF) + b"\x1fA\1\0" + b"\xff" * 99,
    ),
    "zstd of 4 GiB": (2 << 32 | 0xFFFFFFFF, bytes.fromhex("28b52ffd a0 ffffffff 010000")),
    "zstd of none": (2 << 32 | 100, b"no frame"),
    "aes of nothing": (16 << 32 | 0, b""),
    "chacha20, a tag alone": (17 << 32 | 0, bytes(28)),
    "four times lz4": (0x01010101 << 32 | 100, struct.pack("<I", 100) + b"x" * 50),
}


@pytest.mark.parametrize("what", CRAFTED)
@pytest.mark.parametrize("verify", [True, False])
def test_a_crafted_coding_is_an_error_of_that_key(what: str, verify: bool, pool_path: Path) -> None:
    with pmkv.open(pool_path, key=KEY, verify=verify) as db:
        db.put(b"good", text(100), codec="lz4")
        coding, stored = CRAFTED[what]
        db._put_stored([(b"bad", (coding, stored, 0))])
        for how in (db.get, db.view, db.pop, lambda key: db.get_many([key])):
            with pytest.raises(pmkv.CodecError, match="b'bad'"):
                how(b"bad")
        assert db[b"good"] == text(100)
        assert db.stat()["paths"]["buffered"]["entries"] == 2
        assert db.delete(b"bad") and db.check() == []


@pytest.mark.parametrize("stages", [b"\1\0\1", b"\0\1"])
def test_stages_with_a_gap_are_damage_on_the_way_to_that_key(
    stages: bytes, pool_path: Path
) -> None:
    with pmkv.open(pool_path) as db:
        db.put(b"good", text(100), codec="lz4")
        coding = int.from_bytes(stages, "little") << 32 | 100
        db._put_stored([(b"bad", (coding, b"x" * 50, 0))])
        for how in (db.get, db.view, lambda key: db.get_many([key]), lambda _: list(db.items())):
            with pytest.raises(pmkv.CorruptedError, match="b'bad'"):
                how(b"bad")
        assert db[b"good"] == text(100) and db.check() != []


def test_crafted_options_are_errors_of_writing_only(pool_path: Path) -> None:
    with pmkv.open(pool_path, codec="lz4", key=KEY) as db:
        db[b"k"] = text(100)
        options = db._options()
    for stages, dictionary in (
        (b"\x63", 0),
        (b"\x01", 7),
        (b"\0\x01", 0),
        (b"\x10\x01", 0),
        (b"\5", 1),
    ):
        with pmkv.open(pool_path, key=KEY) as db:
            bits = int.from_bytes(stages, "little") << 8 | dictionary << 40
            db._set_options(options & 0xFF | bits)
        with pmkv.open(pool_path, key=KEY) as db:
            assert db[b"k"] == text(100) and isinstance(db.info()["codec"], str)
            with pytest.raises(pmkv.CodecError):
                db[b"l"] = text(100)
            db.put(b"k", text(100), codec=None)
            assert db.check() == []
        with pmkv.open(pool_path, codec="lz4", key=KEY) as db:
            assert db[b"k"] == text(100)
            db._set_options(db._options() & 0xFFFFFFFFFF)


# ---- keys and codecs that do not fit ------------------------------------------------------------


def test_a_codec_or_key_that_cannot_be_makes_and_replaces_nothing(pool_path: Path) -> None:
    refused: list[dict[str, Any]] = [
        {"codec": "aes"},
        {"codec": "chacha20", "key": b"k" * 16},
        {"codec": "lz4+aes", "key": b"too short"},
        {"codec": "aes", "key": "text" * 8},
        {"codec": "lz5"},
        {"codec": "aes+lz4", "key": KEY},
        {"codec": ""},
        {"codec": "\0"},
        {"codec": 5},
        {"codec": b"lz4"},
        {"codec": "lz4+"},
        {"codec": "lz4+lz4"},
    ]
    for options in refused:
        with pytest.raises((pmkv.CodecError, ValueError, TypeError)):
            pmkv.open(pool_path, **options)
        assert not pool_path.exists()
    with pmkv.open(pool_path) as db:
        db[b"k"] = b"v"
        for options in refused:
            if "key" not in options:
                with pytest.raises((pmkv.CodecError, ValueError)):
                    db.namespace("n", codec=options["codec"])
                with pytest.raises((pmkv.CodecError, ValueError)):
                    db.put(b"n", b"v", codec=options["codec"])
        assert db.namespaces() == []
    for options in refused:
        with pytest.raises((pmkv.CodecError, ValueError, TypeError)):
            pmkv.open(pool_path, "n", **options)
    with pmkv.open(pool_path) as db:
        assert dict(db) == {b"k": b"v"}


def encrypt_by_put(db: pmkv.Store) -> None:
    db.put(b"k", text(100), codec="aes")


def encrypt_in_a_transaction(db: pmkv.Store) -> None:
    with db.begin(write=True) as txn:
        encrypt_by_put(txn)  # type: ignore[arg-type]
        txn.abort()
    with db.begin(write=True) as txn:
        encrypt_by_put(txn)  # type: ignore[arg-type]


def encrypt_in_a_namespace(db: pmkv.Store) -> None:
    db.namespace("n").put(b"k", text(100), codec="lz4+aes")


def encrypt_as_the_pool_says(db: pmkv.Store) -> None:
    """The options say so, and nobody has had the key yet."""
    db._set_options(db._options() | _codec.parse("aes")[0] << 8)
    db.close()
    with pmkv.open(db.path, key=KEY) as again:
        again[b"k"] = text(100)


@pytest.mark.parametrize(
    "encrypt",
    [encrypt_by_put, encrypt_in_a_transaction, encrypt_in_a_namespace, encrypt_as_the_pool_says],
)
def test_another_key_is_refused_from_the_first_encrypted_value_on(
    encrypt: Callable[[pmkv.Store], None], pool_path: Path
) -> None:
    with pmkv.open(pool_path, key=KEY) as db:
        encrypt(db)
    for wrong in (OTHER, OTHER[:16]):
        with pytest.raises(pmkv.CodecError, match="the key does not fit"):
            pmkv.open(pool_path, key=wrong)
    with pmkv.open(pool_path, key=KEY) as db:
        assert text(100) in [*db.values(), *db.namespace("n").values()]
    with pmkv.open(pool_path) as db, pytest.raises(pmkv.CodecError, match="key="):
        db.put(b"l", b"", codec="aes")


def test_a_damaged_try_does_not_lock_out_the_right_key(pool_path: Path) -> None:
    with pmkv.open(pool_path, codec="aes", key=KEY) as db:
        db[b"k"] = text(100)
    at = pool_path.read_bytes().rindex(b"key\x10")
    with changed(pool_path, at + 20, 0xFF), pmkv.open(pool_path, key=KEY) as db:
        assert db[b"k"] == text(100)


def test_a_key_that_is_not_needed_does_no_harm(pool_path: Path) -> None:
    for key in (KEY, OTHER, None, b"k" * 24):
        with pmkv.open(pool_path, codec="lz4", key=key) as db:
            db[b"k"] = text(100)
            assert db[b"k"] == text(100)


def test_no_program_can_name_what_codecs_keep(pool_path: Path) -> None:
    with pmkv.open(pool_path, codec="aes", key=KEY) as db:
        db[b"k"] = text(100)
        for open_it in (db, db.begin(write=True), db.snapshot()):
            with pytest.raises(pmkv.InvalidKeyError):
                open_it.namespace("\0" + "codecs")
        with pytest.raises(pmkv.InvalidKeyError):
            db.drop("\0" + "codecs")
        assert db.namespaces() == []


def test_more_sequences_of_codecs_than_the_pool_counts_are_refused(pool_path: Path) -> None:
    for number in range(70):
        pmkv.register_codec(f"own{number}", 100 + number, unchanged, unchanged)
    with pmkv.open(pool_path) as db:
        for number in range(64):
            db.put(b"%d" % number, b"v", codec=f"own{number}")
        with pytest.raises(pmkv.InvalidValueError, match="64"):
            db.put(b"more", b"v", codec="own64")
        db.put(b"more", b"v", codec="own63")
        assert db.delete(b"7")
        db.put(b"7", b"v", codec="own65")
        assert len(db.stat()["codecs"]) == 64 and set(db.values()) == {b"v"}
        assert db.check() == []
        assert_counts(db)
        with db.begin(write=True) as txn:
            with txn.savepoint() as savepoint:
                with pytest.raises(pmkv.InvalidValueError):
                    txn.put(b"x", b"v", codec="own66")
                savepoint.rollback()
            txn.put(b"y", b"v", codec="own65")
        assert db.check() == []


def test_a_transaction_sees_the_codec_that_it_has_changed(pool_path: Path) -> None:
    with pmkv.open(pool_path, key=KEY) as db:
        db.namespace("n", codec="lz4")
        with db.begin(write=True) as txn:
            txn.namespace("n", codec="zstd+aes")
            assert txn.namespace("n")._coder().stages == b"\2\x10"
            with txn.savepoint() as savepoint:
                txn.namespace("n", codec="plain")[b"a"] = text(100)
                txn.namespace("n")[b"b"] = text(100)
                savepoint.rollback()
            assert txn.namespace("n")._coder().stages == b"\2\x10"
            assert db.namespace("n")._coder().stages == b"\1"
            txn.namespace("n")[b"c"] = text(100)
        assert db.namespace("n")._coder().stages == b"\2\x10"
        assert set(db.stat()["codecs"]) == {"zstd+aes"}


def test_a_full_pool_opens_with_its_key(pool_path: Path) -> None:
    with pmkv.open(pool_path, max_size="1 MiB") as db:
        db._set_options(db._options() | _codec.parse("aes")[0] << 8)
        with pytest.raises(pmkv.PoolFullError):
            for i in range(100_000):
                db.put(b"%d" % i, b"x" * 4000 if i < 500 else b"x", codec=None)
    with pmkv.open(pool_path, key=KEY) as db:
        assert db.delete(b"5") and db.get(b"6") == b"x" * 4000


# ---- counts -------------------------------------------------------------------------------------


def die_in_a_drop(path: Path) -> pmkv.Store:
    """A pool whose namespace has lost its name, and not yet all of its keys."""
    db = pmkv.open(path, codec="lz4")
    db[b"k"] = text(100)
    space = db.namespace("s", codec="lz4")
    space.put_many((b"%d" % i, text(100)) for i in range(70_000))
    deleter = threading.Thread(target=db.drop, args=("s",), daemon=True)
    deleter.start()
    while db.namespaces() or db.stat()["codecs"]["lz4"]["entries"] > 60_000:
        time.sleep(1e-4)
    return db


def test_what_a_kill_leaves_of_a_drop_is_counted_until_it_is_gone(
    pool_path: Path, killed_child: Callable[..., None]
) -> None:
    killed_child(die_in_a_drop, pool_path)
    with pmkv.open(pool_path) as db:
        paths, (counts,) = db.stat()["paths"], db.stat()["codecs"].values()
        assert paths["direct"]["entries"] == 0 and paths["buffered"] == counts
        assert paths["direct"]["stored_bytes"] >= 0
        db.sync()
        assert db.stat()["codecs"]["lz4"]["entries"] == 1
        assert db.stat()["paths"]["direct"]["stored_bytes"] == 1
        assert_counts(db)


def put_until_killed(path: Path, out: int) -> None:
    chance = random.Random(1)
    with pmkv.open(path, codec="lz4", key=KEY) as db:
        while True:
            with db.begin(write=True) as txn:
                for _ in range(chance.randrange(5)):
                    key = b"%d" % chance.randrange(50)
                    txn.put(
                        key, text(chance.randrange(6000)), codec=chance.choice(["aes", None, "lz4"])
                    )
                    txn.delete(b"%d" % chance.randrange(50))
                if chance.random() < 0.3:
                    txn.abort()
            os.write(out, b".")


def test_counts_are_right_after_a_kill(pool_path: Path) -> None:
    from test_kill import acknowledged_before_kill, start_child

    chance = random.Random(2)
    for _ in range(12):
        pid, pipe = start_child(put_until_killed, pool_path)
        acknowledged_before_kill(pid, pipe, chance.randrange(1, 100), chance.randrange(5000))
        with pmkv.open(pool_path, key=KEY) as db:
            assert db.check() == []
            assert_counts(db)
            assert all(text(len(value)) == value for value in db.values())
