"""Values under codecs are values: each way to write, read, walk, copy and count them."""

from __future__ import annotations

import contextlib
import pickle
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pmkv
from pmkv import _codec

KEY = bytes(range(32))
SIZES = (0, 1, 100, 4096, 40_000, 1_000_000)
CODECS = ["plain", "lz4", "zstd", "aes", "lz4+aes", "zstd+chacha20", "swap", "swap+lz4", "trained"]
WORDS = [b"%x" % random.Random(5).getrandbits(32 + i % 5) for i in range(300)]


def swapped(data: bytes) -> bytes:
    """What a codec of one's own may be: it is its own reverse."""
    return bytes(data).translate(bytes(range(128, 256)) + bytes(range(128)))


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A codec of one's own; what a test registers besides is forgotten."""
    monkeypatch.setattr(_codec, "_stages", dict(_codec._stages))
    pmkv.register_codec("swap", 70, swapped, swapped)


def text(size: int, seed: int = 1) -> bytes:
    """Words, which shrink to about a half."""
    chance = random.Random(seed)
    return b" ".join(chance.choices(WORDS, k=size // 8 + 2))[:size]


def document(number: int) -> bytes:
    """One of many small values that are like each other."""
    return b'{"id": %d, "name": "%s", "city": "Graz", "active": true}' % (
        number,
        WORDS[number % 300],
    )


def values() -> list[bytes]:
    """Of all sizes: some shrink, some do not."""
    return [text(size) for size in SIZES] + [random.Random(size).randbytes(size) for size in SIZES]


def train(space: Any, put: Callable[[bytes, bytes], object]) -> None:
    for number in range(1500):
        put(b"sample%d" % number, document(number))
    space.train_dictionary(4096)
    space.delete_many([b"sample%d" % number for number in range(1500)])


def open_coded(path: Path, codec: str, flag: Any = "c", **options: Any) -> pmkv.Store:
    options.setdefault("key", KEY)
    if codec != "trained":
        return pmkv.open(path, flag, codec=codec, **options)
    db = pmkv.open(path, flag, codec="lz4", **options)
    put = db.put if options.get("values") is None else (lambda key, value: db.put(key, [value]))
    train(db, put)
    return db


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[True, False], ids=["ordered", "unordered"])
def coded(request: pytest.FixtureRequest, codec: str, pool_path: Path) -> Iterator[pmkv.Store]:
    """An empty store under a codec, with a cache for little more than one of the values."""
    with open_coded(pool_path, codec, ordered=request.param, cache_size="400 KiB") as db:
        yield db
        if not db.closed:
            assert db.check() == []
            assert_counts(db)


def as_stored(source: Any) -> list[tuple[int, bytes]]:
    """Coding and stored bytes of each value in the pool."""
    found = []
    with source.snapshot() as moment:
        spaces = [moment._namespace_as_stored(name) for name in moment.namespaces()]
        moment._show_stored()
        for space in [moment, *spaces]:
            found += [(coding, stored) for _, (coding, stored, _) in space.items()]
    return found


def assert_counts(db: pmkv.Store, raw: dict[str, int] | None = None) -> None:
    """stat() counts what records say; `raw`: bytes before codecs that leave no value plain."""
    codecs: dict[str, list[int]] = {}
    plain = 0
    for coding, stored in as_stored(db):
        if not coding:
            plain += 1
            continue
        name = _codec.text_of((coding >> 32).to_bytes(4, "little"))
        total = codecs.setdefault(name, [0, 0, 0])
        total[:] = [total[0] + 1, total[1] + (coding & 0xFFFFFFFF), total[2] + len(stored)]
    stat = db.stat()
    assert {name: list(counts.values()) for name, counts in stat["codecs"].items()} == codecs
    paths = stat["paths"]
    assert paths["direct"]["entries"] == plain
    sums = [sum(column) for column in zip(*codecs.values(), strict=True)] or [0, 0, 0]
    assert list(paths["buffered"].values()) == sums
    for name, size in (raw or {}).items():
        assert codecs.get(name, [0, 0])[1] == size


def assert_shows(space: Any, model: dict[bytes, bytes], ordered: bool) -> None:
    """Every way to read."""
    keys = sorted(model)
    assert len(space) == len(model)
    assert dict(space) == dict(space.items()) == model
    assert space.get_many([b"none", *keys, *keys[::-1]], b"?") == [
        b"?",
        *(model[key] for key in keys),
        *(model[key] for key in keys[::-1]),
    ]
    assert sorted(space.values()) == sorted(model.values())
    for key, value in model.items():
        assert space[key] == space.get(key) == value
        with space.view(key) as view:
            assert view.readonly and bytes(view) == value
        assert (key, value) in space.items()
    if ordered:
        assert list(space.items(reverse=True)) == [(key, model[key]) for key in keys[::-1]]
        assert list(space.values(start=b"k2", stop=b"k5")) == [
            model[key] for key in keys if b"k2" <= key < b"k5"
        ]
        cursor = space.cursor()
        assert [cursor.value() for _ in iter(cursor.next, False)] == [model[key] for key in keys]


# ---- each method --------------------------------------------------------------------------------


def test_what_is_put_is_read(coded: pmkv.Store) -> None:
    model = {b"k%d" % index: value for index, value in enumerate(values())}
    ordered = coded.info()["ordered"]
    for key, value in model.items():
        coded[key] = value
    assert_shows(coded, model, ordered)
    assert coded.put_many((key, value[::-1]) for key, value in model.items()) == len(model)
    model = {key: value[::-1] for key, value in model.items()}
    assert_shows(coded, model, ordered)
    assert_shows(coded.snapshot(), model, ordered)
    with coded.begin(write=True) as txn:
        assert_shows(txn, model, ordered)


def test_each_write_gives_back_what_was_there(coded: pmkv.Store) -> None:
    one, other = text(5000, 2), text(60, 3)
    assert coded.put(b"k", one) is True
    assert coded.put(b"k", other, overwrite=False) is False
    assert coded.add(b"k", other) is False
    assert coded.replace(b"k", other) == one
    assert coded.replace(b"new", one) is None
    assert coded.setdefault(b"k", one) == other
    assert coded.setdefault(b"third", one) == one
    assert coded.compare_and_set(b"k", one, b"") is False
    assert coded.compare_and_set(b"k", other, one) is True
    assert coded.compare_and_set(b"k", None, b"") is False
    assert coded.pop(b"k") == one
    assert coded.pop(b"k", None) is None
    assert coded.compare_and_set(b"k", other, one) is False
    assert coded.compare_and_set(b"k", None, one) is True
    assert coded.compare_and_set(b"k", one, None) is True
    assert dict([coded.popitem(), coded.popitem()]) == {b"new": one, b"third": one}
    coded.update({b"u": other}, v=one)
    coded |= {b"w": one}  # type: ignore[misc]
    assert dict(coded) == {b"u": other, b"v": one, b"w": one}
    coded.clear()
    assert len(coded) == 0 and coded.stat()["codecs"] == {}


def test_numbers_count(coded: pmkv.Store) -> None:
    assert [coded.incr(b"n"), coded.incr(b"n", 10**300), coded.decr(b"n")] == [
        1,
        10**300 + 1,
        10**300,
    ]
    assert coded[b"n"] == b"%d" % 10**300
    coded[b"word"] = text(100)
    with pytest.raises(pmkv.InvalidValueError):
        coded.incr(b"word")
    assert coded[b"word"] == text(100)
    with coded.begin(write=True) as txn:
        assert txn.incr(b"n") == 10**300 + 1


def test_a_coded_number_counts_where_no_default_is_given(pool_path: Path) -> None:
    """Also in a store that codes no others."""
    with pmkv.open(pool_path) as db:
        db.put(b"n", b"1" * 300, codec="lz4")
        assert db.incr(b"n", default=None) == int(b"1" * 300) + 1
        with pytest.raises(pmkv.NotFoundError):
            db.incr(b"missing", default=None)


def test_a_touch_keeps_value_and_codec(coded: pmkv.Store) -> None:
    """Also in a transaction, which copies it. When its time has come, it is not counted."""
    for index, value in enumerate(values()):
        coded.put(b"k%d" % index, value, ttl=1000 if index % 2 else None)
    before = sorted(as_stored(coded))
    for key in coded:
        assert coded.touch(key, 5000) is True
    with coded.begin(write=True) as txn:
        for key in coded:
            assert txn.touch(key, 6000) is True
        for index, value in enumerate(values()):
            assert txn[b"k%d" % index] == value
    assert sorted(as_stored(coded)) == before
    assert 5900 < (coded.ttl(b"k3") or 0) <= 6000
    assert_shows(
        coded, {b"k%d" % i: value for i, value in enumerate(values())}, coded.info()["ordered"]
    )
    for key in list(coded):
        coded.touch(key, 1e-3)
    time.sleep(0.005)
    assert b"k3" not in coded and coded.get_many([b"k3", b"k4"]) == [None, None]
    coded.expire()
    assert coded.stat()["codecs"] == {} and len(coded) == 0


def test_a_snapshot_sees_old_values(coded: pmkv.Store) -> None:
    ordered = coded.info()["ordered"]
    moments = []
    for seed in range(4):
        model = {b"k%d" % i: text(size, seed) for i, size in enumerate(SIZES)}
        coded.update(model)
        moments.append((coded.snapshot(), model))
    coded.clear()
    for _ in range(2):
        for moment, model in moments:
            assert_shows(moment, model, ordered)
    for moment, _ in moments:
        moment.close()


def test_an_abort_leaves_nothing_in_the_cache(coded: pmkv.Store) -> None:
    """The same commit number comes again, with another value of the same key."""
    for seed in range(6):
        txn = coded.begin(write=True)
        txn[b"k"] = text(3000, seed)
        assert txn[b"k"] == text(3000, seed)
        assert txn.get_many([b"k"]) == list(txn.values()) == [text(3000, seed)]
        assert coded.get(b"k") is None
        txn.abort()
        assert b"k" not in coded
    coded[b"k"] = text(3000, 9)
    assert coded[b"k"] == text(3000, 9)


def test_a_savepoint_brings_the_old_value_back(coded: pmkv.Store) -> None:
    coded[b"k"] = text(3000, 1)
    with coded.begin(write=True) as txn:
        for size in (100, 3000, 40_000):
            savepoint = txn.savepoint()
            txn[b"k"] = text(size, 2)
            txn[b"other"] = text(size, 3)
            assert txn[b"k"] == text(size, 2)
            savepoint.rollback()
            assert txn[b"k"] == text(3000, 1) and b"other" not in txn
            txn[b"k"] = text(size, 4)
            assert txn[b"k"] == text(size, 4)
            savepoint.rollback()
        txn[b"k"] = text(200, 5)
    assert dict(coded) == {b"k": text(200, 5)}


def test_arrays_come_back(codec: str, pool_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    with open_coded(pool_path, codec) as db:
        for name, array in (
            ("a", numpy.arange(10)),
            ("b", numpy.zeros((300, 70))),
            ("c", numpy.empty(0)),
        ):
            db.put_array(name, array)
            found, own = db.array(name), db.array(name, writable=True)
            assert (
                (found == array).all() and found.dtype == array.dtype and found.shape == array.shape
            )
            assert not found.flags.writeable
            own[...] = 7
            assert (db.array(name) == array).all()
            del found, own
        assert db.check() == []


def test_objects_come_back(codec: str, pool_path: Path) -> None:
    things = {"a": [1, 2, {"x": text(300)}], "b": list(range(5000)), "n": 5}
    with open_coded(pool_path, codec, keys="str", values="msgpack") as db:
        db.update(things)
        assert dict(db) == things and db.get_many(list(things)) == list(things.values())
        assert db.incr("n") == 6 and db.pop("n") == 6
        assert db.compare_and_set("b", things["b"], "new") is True
        assert db.replace("a", None) == things["a"]
        with open_coded(pool_path.with_suffix(".2"), codec, values="pickle") as other:
            other["k"] = things
            assert other[b"k"] == things


def test_a_pool_is_read_again(codec: str, pool_path: Path) -> None:
    """Read only, by itself, unpickled; and the key is in no pickle."""
    model = {b"k%d" % index: value for index, value in enumerate(values())}
    with open_coded(pool_path, codec) as db:
        db.update(model)
        space = db.namespace(
            "unordered", ordered=False, codec=None if codec == "trained" else codec
        )
        space.update(model)
        pickled = pickle.dumps(db)
        assert KEY not in pickled
        assert_counts(db)
    for flag in ("r", "w"):
        with pmkv.open(pool_path, flag, key=KEY) as db:  # type: ignore[arg-type]
            assert_shows(db, model, True)
            assert_shows(db.namespace("unordered"), model, False)
            assert_counts(db)
    with pickle.loads(pickled) as db:
        if "aes" in codec or "chacha" in codec:
            with pytest.raises(pmkv.CodecError, match=r"b'k3'.*needs the key: pmkv.open"):
                db.get(b"k3")
        else:
            assert_shows(db, model, True)


def test_a_child_reads_what_its_parent_wrote(
    codec: str, pool_path: Path, in_child: Callable[..., Any]
) -> None:
    model = {b"k%d" % index: value for index, value in enumerate(values())}
    with open_coded(pool_path, codec) as db:
        db.update(model)
    assert in_child(read_all, pool_path) == model


def read_all(path: Path) -> dict[bytes, bytes]:
    with pmkv.open(path, key=KEY) as db:
        db.put_many({b"again": text(300_000), b"more": text(300_000, 2)})
        db.delete_many([b"again", b"more"])
        return dict(db)


@pytest.mark.parametrize("compact", [True, False])
def test_a_copy_has_the_same_values_and_codecs(codec: str, compact: bool, pool_path: Path) -> None:
    model = {b"k%d" % index: value for index, value in enumerate(values())}
    path = pool_path.with_suffix(".copy")
    with open_coded(pool_path, codec, keys="str") as db:
        db.update(model)
        db.put(b"mortal", text(500), ttl=1000)
        db.copy(path, compact=compact)
        codecs = db.stat()["codecs"]
    with pmkv.open(path, key=KEY) as db:
        assert db.stat()["codecs"] == codecs and db.check() == []
        assert db.pop("mortal") == text(500)
        assert db.get_many(list(model)) == list(model.values())
        db["new"] = text(500)
        assert db["new"] == text(500)
        assert_counts(db)


def test_compaction_moves_values_as_they_are(codec: str, pool_path: Path) -> None:
    with open_coded(pool_path, codec, cache_size="1 MiB") as db:
        for seed in range(30):
            db.update({b"%d/%d" % (seed, size): text(size, seed) for size in SIZES[:5]})
            db.put(b"noise%d" % seed, random.Random(seed).randbytes(300_000), codec=None)
        model = {
            b"%d/%d" % (seed, size): text(size, seed)
            for seed in range(20, 30)
            for size in SIZES[:5]
        }
        db.delete_many([key for key in db if key not in model])
        assert dict(db) == model
        assert db.compact() > 0
        assert_shows(db, model, True)
        assert_counts(db)


# ---- which codec --------------------------------------------------------------------------------


def test_each_value_has_its_own_codec(pool_path: Path) -> None:
    """A namespace changes its codec; a put takes another; what was there is read as it was."""
    model: dict[bytes, bytes] = {}
    for turn, name in enumerate([*CODECS[:-1], "lz4"]):
        with pmkv.open(pool_path, codec=name, key=KEY) as db:
            assert db.info()["codec"] == (None if name == "plain" else name)
            for i, value in enumerate(values()):
                model[b"%d/%d" % (turn, i)] = db[b"%d/%d" % (turn, i)] = value
            for i, other in enumerate([None, *CODECS[:-1]]):
                key, value = b"put%d/%d" % (turn, i), text(1000, i)
                db.put(key, value, codec=other)
                model[key] = value
            assert dict(db) == model
            assert_counts(db)
    with pmkv.open(pool_path, "r", key=KEY) as db:
        assert dict(db) == model
        assert set(db.stat()["codecs"]) == {*CODECS[1:8], "chacha20"}


def test_an_encrypted_value_is_never_stored_plain(pool_path: Path) -> None:
    with pmkv.open(pool_path, codec="lz4+aes", key=KEY) as db:
        secret = {b"k%d" % size: random.Random(size).randbytes(size) for size in (16, 100, 5000)}
        db.update(secret)
        db.update({b"t%d" % size: text(size) for size in (0, 1, 100, 5000)})
        db.sync()
        assert set(db.stat()["codecs"]) == {"aes", "lz4+aes"}
        data = pool_path.read_bytes()
        assert not any(value in data for value in secret.values()) and WORDS[0] not in data
        raw = sum(map(len, secret.values())) + 1
        assert_counts(db, {"aes": raw + 100 * (db.stat()["codecs"]["aes"]["entries"] > 5)})


def test_what_does_not_shrink_is_viewed_where_it_lies(pool_path: Path) -> None:
    """Of what does, each view shows bytes in DRAM."""
    numpy = pytest.importorskip("numpy")
    with pmkv.open(pool_path, codec="lz4") as db:
        db[b"noise"], db[b"text"] = random.Random(1).randbytes(9000), text(9000)
        maps = Path("/proc/self/maps").read_text().splitlines()
        lies = [line.split()[0].split("-") for line in maps if str(pool_path) in line]
        for key, inside in ((b"noise", True), (b"text", False)):
            view = db.view(key)
            at = numpy.frombuffer(view, "u1").__array_interface__["data"][0]
            assert any(int(low, 16) <= at < int(high, 16) for low, high in lies) is inside
            assert db.memory()["views"] == inside
            view.release()
            del view
        paths = db.stat()["paths"]
        assert [paths[name]["entries"] for name in ("direct", "buffered")] == [1, 1]
        assert paths["direct"]["raw_bytes"] == 9000 + len(b"noise" + b"text")


def test_a_namespace_has_a_codec_of_its_own(pool_path: Path) -> None:
    """The same key in two of them; a transaction that spans them; and one that changes a codec."""
    with pmkv.open(pool_path, codec="zstd", key=KEY) as db:
        one, other = db.namespace("one", codec="lz4"), db.namespace("other", codec="aes")
        for space in (db, one, other):
            space[b"k"] = text(2000, len(repr(space)))
        with db.begin(write=True) as txn:
            assert txn.namespace("one")[b"k"] == one[b"k"] != txn[b"k"]
            txn.namespace("one", codec="plain")[b"l"] = text(100)
            assert txn.namespace("one")[b"l"] == text(100)
            txn.abort()
        again = db.namespace("one")
        again[b"m"] = text(1000)
        assert b"l" not in again and db.stat()["codecs"]["lz4"]["entries"] == 2
        with db.snapshot() as then:
            db.namespace("one", codec="plain")[b"m"] = text(1000)
            assert then.namespace("one", codec="zstd")[b"m"] == text(1000)
        assert db.stat()["codecs"]["lz4"]["entries"] == 1
        assert set(db.stat()["codecs"]) == {"lz4", "zstd", "aes"}
        db.drop("other")
        assert set(db.stat()["codecs"]) == {"lz4", "zstd"}
        assert_counts(db)
    with pmkv.open(pool_path, "r", codec="aes", key=KEY) as db:
        assert db.info()["codec"] == "zstd"


def test_a_value_whose_codec_is_missing_is_an_error_of_that_value(
    pool_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pmkv.open(pool_path, codec="lz4", key=KEY) as db:
        db[b"a"] = text(300)
        db.put(b"b", text(300), codec="swap")
        db.put(b"c", text(300), codec="aes")
        db.put(b"d", text(300), codec="swap+lz4")
    monkeypatch.delitem(_codec._stages, 70)
    with pmkv.open(pool_path) as db:
        for key, advice in ((b"b", r"codec 70.*register_codec"), (b"c", r"key=")):
            calls: list[Callable[[], Any]] = [lambda key=key: db[key], lambda key=key: db.view(key)]
            calls += [lambda key=key: db.pop(key), lambda key=key: db.get_many([b"a", key])]
            calls += [
                lambda key=key: db.replace(key, b""),
                lambda key=key: list(db.items(start=key)),
            ]
            for call in calls:
                with pytest.raises(pmkv.CodecError, match=f"{key!r}.*{advice}"):
                    call()
        assert db[b"a"] == text(300) and list(db) == [b"a", b"b", b"c", b"d"]
        assert "codec 70+lz4" in db.stat()["codecs"]
        db.put(b"b", b"new")
        assert db[b"b"] == b"new" and db.touch(b"c", 1000) and db.delete(b"c")
        assert db.check() == []
        db.compact()
        pmkv.register_codec("swap", 70, swapped, swapped)
        assert db[b"d"] == text(300)


# ---- dictionaries -------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", ["lz4", "zstd", "lz4+aes"])
def test_a_dictionary_stays_with_the_pool(compress: str, pool_path: Path) -> None:
    path = pool_path.with_suffix(".copy")
    model = {b"%d" % number: document(number) for number in range(2000)}
    with pmkv.open(pool_path, key=KEY, keys="str") as db:
        space = db.namespace("s", codec=compress)
        space.update(model)
        before = db.stat()["paths"]
        assert space.train_dictionary(4096) <= 4096
        assert dict(space) == model
        space.update(model)
        assert sum(p["stored_bytes"] for p in db.stat()["paths"].values()) < 0.9 * sum(
            p["stored_bytes"] for p in before.values()
        )
        space.put(b"0", model[b"0"], codec=compress.split("+")[0])
        assert space[b"0"] == model[b"0"]
        db.compact()
        db.copy(path, compact=True)
    for where in (pool_path, path):
        with pmkv.open(where, key=KEY) as db:
            space = db.namespace("s")
            assert dict(space) == model and db.check() == []
            space[b"new"] = document(5000)
            space = db.namespace("s", codec="plain")
            space[b"plain"] = document(5001)
            space = db.namespace("s", codec="zstd")
            space[b"again"] = document(5002)
            assert [space.pop(k) for k in (b"new", b"plain", b"again")] == [
                document(number) for number in (5000, 5001, 5002)
            ]
            assert dict(space) == model and "dict" in "".join(db.stat()["codecs"])
            assert_counts(db)


# ---- the cache ----------------------------------------------------------------------------------


def test_the_cache_stays_within_its_bound_and_outlives_a_scan(pool_path: Path) -> None:
    bound = 1 << 20
    with pmkv.open(pool_path, codec="lz4", cache_size=bound) as db:
        db.put_many((b"%d" % i, text(4000, i)) for i in range(2000))
        hot = [b"%d" % i for i in range(100)]
        for _ in range(4):
            db.get_many(hot)
        before = db.stat()["cache"]
        for _ in db.values():
            assert db.memory()["cache_bytes"] <= bound
        hits = db.stat()["cache"]["hits"]
        db.get_many(hot)
        assert db.stat()["cache"]["hits"] - hits > 80
        assert (
            before["misses"] == 100
            and db.stat()["cache"]["bytes"] == db.memory()["cache_bytes"] > bound // 2
        )


@pytest.mark.parametrize("size", [0, 1, 1000, "20 KB", "32 MiB"])
@pytest.mark.parametrize("verify", [True, False, "all"])
def test_values_are_right_whatever_the_cache_holds(size: Any, verify: Any, pool_path: Path) -> None:
    with pmkv.open(pool_path, codec="lz4", cache_size=size, verify=verify) as db:
        for turn in range(3):
            model = {b"k%d" % i: text(100 * i, turn) for i in range(60)}
            db.update(model)
            assert_shows(db, model, True)
        assert db.memory()["cache_bytes"] <= (size if isinstance(size, int) else 32 << 20)
        assert (db.stat()["cache"]["hits"] > 0) is (size in ("20 KB", "32 MiB"))


def test_threads_read_and_write_the_same_coded_keys(pool_path: Path) -> None:
    """Each value says which key it is of, and is whole."""
    ends = time.monotonic() + 2
    wrong: list[Any] = []

    def value(key: bytes, chance: random.Random) -> bytes:
        return (key + b"/%d;" % chance.randrange(50)) * chance.choice((3, 40, 1000, 12_000))

    def is_right(key: bytes, found: bytes) -> bool:
        one = found[: found.index(b";") + 1]
        return one.startswith(key + b"/") and found == one * (len(found) // len(one))

    def work(db: pmkv.Store, seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < ends and not wrong:
            key = b"%d" % chance.randrange(20)
            what = chance.randrange(8)
            with contextlib.suppress(KeyError):
                if what < 2:
                    db.put(
                        key, value(key, chance), codec=chance.choice(["lz4", "zstd", "aes", None])
                    )
                elif what == 2:
                    db.put_many({key: value(key, chance)})
                elif what == 3:
                    old = db.pop(key)
                    wrong.extend([] if is_right(key, old) else [key, old[:50]])
                elif what == 4:
                    pairs = list(db.items())
                    wrong.extend(pair for pair in pairs if not is_right(*pair))
                elif what == 5:
                    with db.begin(write=True) as txn:
                        txn[key] = value(key, chance)
                        found = txn[key]
                        wrong.extend([] if is_right(key, found) else [key, found[:50]])
                        if chance.random() < 0.5:
                            txn.abort()
                else:
                    found = db[key]
                    wrong.extend([] if is_right(key, found) else [key, found[:50]])

    def guarded(db: pmkv.Store, seed: int) -> None:
        try:
            work(db, seed)
        except BaseException as error:
            wrong.append(error)
            raise

    with pmkv.open(pool_path, codec="lz4", key=KEY, cache_size="200 KB") as db:
        threads = [threading.Thread(target=guarded, args=(db, seed)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert db.check() == []
        assert_counts(db)


def test_paths_are_counted_at_one_moment(pool_path: Path) -> None:
    """Whatever others write: none has less than nothing."""
    written = threading.Event()
    with pmkv.open(pool_path, codec="lz4") as db:
        for number in range(100):
            db.namespace(f"n{number}")

        def write() -> None:
            for _ in range(40):
                db.put_many({b"%d" % i: b"x" * 100 for i in range(2000)})
                db.clear()
            written.set()

        writer = threading.Thread(target=write)
        writer.start()
        least = 0
        while not written.is_set():
            direct = db.stat()["paths"]["direct"]
            least = min(least, direct["entries"], direct["stored_bytes"])
        writer.join()
        assert least == 0
