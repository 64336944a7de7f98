"""What is written lazily: seen at once, durable later, and by whom."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Place

import pmkv
from pmkv import _codec
from pmkv._buffer import Buffer

NEVER = 1000.0  # seconds: no timer


@pytest.fixture
def lazy(pool_path: Path) -> Iterator[pmkv.Store]:
    """An empty store whose writes wait for whoever writes them back; sound at its end."""
    with pmkv.open(pool_path, durability="lazy", writeback_interval=NEVER) as store:
        yield store
        assert store.closed or store.check() == []


def refuse_bad(value: bytes) -> bytes:
    if value == b"bad":
        raise ValueError("it is bad")
    return value[::-1]


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codecs that a test registers are there for that test alone."""
    monkeypatch.setattr(_codec, "_stages", dict(_codec._stages))
    pmkv.register_codec("refuses-bad", 177, refuse_bad, lambda value: bytes(value)[::-1])


def dirty(db: pmkv.Store) -> int:
    """How many values are in the buffer, without writing them back."""
    return 0 if not db.memory()["buffer_bytes"] else 1


def wait_until_clean(db: pmkv.Store) -> None:
    end = time.monotonic() + 30
    while dirty(db):
        assert time.monotonic() < end
        time.sleep(0.005)


def durable(path: Path) -> dict[Any, Any]:
    """What a power cut right now would leave: what the file holds."""
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    with pmkv.open(copy, "w") as db:
        return dict(db)


# ---- reads see what is dirty ---------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("codec", [None, "lz4"])
def test_every_read_sees_what_is_dirty(pool_path: Path, ordered: bool, codec: str | None) -> None:
    model = {b"%d" % i: b"value %d " % i * 20 for i in range(50)}
    reads: list[Callable[[pmkv.Store], Any]] = [
        lambda db: db[b"7"] == model[b"7"],
        lambda db: db.get(b"7") == model[b"7"] and db.get(b"none") is None,
        lambda db: bytes(db.view(b"7")) == model[b"7"],
        lambda db: b"7" in db and b"none" not in db,
        lambda db: db.get_many([b"7", b"none"]) == [model[b"7"], None],
        lambda db: len(db) == len(model),
        lambda db: dict(db) == model,
        lambda db: sorted(db.values()) == sorted(model.values()),
        lambda db: db.stat()["entries"] == len(model),
        lambda db: db.ttl(b"7") is None,
        lambda db: dict(db.snapshot()) == model,
        lambda db: dict(db.begin(write=True)) == model,
    ]
    if ordered:
        reads += [
            lambda db: db.key_at(0) == min(model) and db.key_at(-1) == max(model),
            lambda db: set(db.sample(50)) == set(model),
            lambda db: list(db.keys(prefix=b"1")) == sorted(k for k in model if k[:1] == b"1"),
            lambda db: len(db.keys(start=b"2")) == sum(key >= b"2" for key in model),
            lambda db: (cursor := db.cursor()).last() and cursor.key() == max(model),
            lambda db: list(reversed(db)) == sorted(model, reverse=True),
        ]
    for read in reads:
        with pmkv.open(
            pool_path,
            "n",
            durability="lazy",
            writeback_interval=NEVER,
            ordered=ordered,
            codec=codec,
        ) as db:
            db.put_many({b"7": b"old", b"gone": b"old"})
            db.sync()
            for key, value in model.items():
                db[key] = value
            assert db.delete(b"gone")
            assert not db.delete(b"gone")
            assert dirty(db)
            assert read(db)


def test_text_keys_and_objects_are_dirty_as_others_are(pool_path: Path) -> None:
    with pmkv.open(
        pool_path, keys="str", values="msgpack", durability="lazy", writeback_interval=NEVER
    ) as db:
        db["a"] = {"x": [1, 2]}
        assert db["a"] == {"x": [1, 2]}
        assert list(db) == ["a"]
        with pytest.raises(pmkv.InvalidKeyError):
            db[b"\xff"] = 1
        assert db.incr("n") == 1
        db["n"] = 5
        assert db.incr("n") == 6


def test_reading_methods_that_write_follow_lazy_writes(lazy: pmkv.Store) -> None:
    lazy[b"n"] = b"1"
    assert lazy.incr(b"n") == 2
    lazy[b"n"] = b"7"
    assert lazy.replace(b"n", b"8") == b"7"
    lazy[b"n"] = b"9"
    assert lazy.compare_and_set(b"n", b"9", b"10")
    lazy[b"n"] = b"11"
    assert lazy.pop(b"n") == b"11"
    lazy[b"m"] = b"12"
    assert lazy.popitem() == (b"m", b"12")
    lazy[b"k"] = b"13"
    assert lazy.delete_many([b"k"]) == 1
    lazy[b"k"] = b"14"
    lazy.clear()
    assert dict(lazy) == {}
    assert lazy.add(b"k", b"1")
    assert not lazy.add(b"k", b"2")
    assert not lazy.put(b"k", b"2", overwrite=False)
    assert lazy.setdefault(b"k", b"3") == b"1"


def test_a_dirty_value_expires_in_the_buffer_and_after_it(lazy: pmkv.Store) -> None:
    lazy.put(b"k", b"v", ttl=0.05)
    lazy.put(b"long", b"v", ttl=1000)
    while lazy.get(b"k") != b"v":  # where the machine was that slow
        lazy.put(b"k", b"v", ttl=0.05)
    time.sleep(0.06)
    assert b"k" not in lazy
    assert lazy.get(b"k") is None
    assert not lazy.delete(b"k")
    with pytest.raises(pmkv.NotFoundError):
        lazy.view(b"k")
    assert lazy.add(b"k", b"again")
    assert lazy.ttl(b"k") is None
    assert 990 < lazy.ttl(b"long") <= 1000
    lazy.put(b"k", b"v", ttl=0.05)
    while not lazy.touch(b"k", 1000):
        lazy.put(b"k", b"v", ttl=0.05)
    time.sleep(0.06)
    assert lazy[b"k"] == b"v"
    lazy.put(b"short", b"v", ttl=0.01)
    time.sleep(0.02)
    assert len(lazy) == 2
    assert set(lazy) == {b"k", b"long"}


# ---- when it is written back ---------------------------------------------------------------------


def test_nothing_is_durable_before_it_is_written_back(lazy: pmkv.Store, pool_path: Path) -> None:
    lazy[b"k"] = b"v"
    assert durable(pool_path) == {}
    lazy.sync()
    assert durable(pool_path) == {b"k": b"v"}
    assert dirty(lazy) == 0


@pytest.mark.parametrize("interval", [0.02, 1e-9])
def test_the_timer_writes_back(pool_path: Path, interval: float) -> None:
    with pmkv.open(pool_path, durability="lazy", writeback_interval=interval) as db:
        for i in range(5):
            db[b"k"] = b"%d" % i
            wait_until_clean(db)
            assert durable(pool_path) == {b"k": b"%d" % i}


def test_the_timer_comes_also_after_a_write_of_nothing(pool_path: Path) -> None:
    with pmkv.open(pool_path, durability="lazy", writeback_interval=0.02) as db:
        assert db.put_many([]) == 0
        time.sleep(0.1)
        db[b"k"] = b"v"
        wait_until_clean(db)
        assert durable(pool_path) == {b"k": b"v"}


def test_many_deletes_make_room_where_their_log_has_none(pool_path: Path) -> None:
    """Else nothing could: they would be dirty for ever, as all the rest."""
    with pmkv.open(pool_path, durability="lazy", writeback_interval=NEVER, max_size="8 MiB") as db:
        count = 0
        with contextlib.suppress(pmkv.PoolFullError):
            for count in itertools.count():
                db.put(b"%d" % count, random.randbytes(2000), durability="sync")
        for i in range(200):
            db[b"new%d" % i] = random.randbytes(2000)
        with pytest.raises(pmkv.PoolFullError):
            db.sync()
        for i in range(count):
            del db[b"%d" % i]
        assert len(db) == 200 and db.check() == []


def test_an_endless_interval_is_one(pool_path: Path) -> None:
    with pmkv.open(
        pool_path, durability="lazy", writeback_interval=float("inf"), buffer_size="64 KiB"
    ) as db:
        for i in range(1000):
            db[b"%d" % i] = b"x" * 100
    with pmkv.open(pool_path) as db:
        assert len(db) == 1000


def test_the_buffer_never_holds_more_than_it_may(pool_path: Path) -> None:
    size = 64 << 10
    with pmkv.open(pool_path, durability="lazy", writeback_interval=NEVER, buffer_size=size) as db:
        for i in range(3000):
            db[b"%d" % i] = b"x" * (i % 700)
            assert db.memory()["buffer_bytes"] <= size
        for i in range(0, 3000, 2):
            db.delete(b"%d" % i)
            assert db.memory()["buffer_bytes"] <= size
        assert len(db) == 1500


@pytest.mark.parametrize("size", [0, 1, 300, 2000])
def test_a_buffer_that_is_too_small_is_gone_around(pool_path: Path, size: int) -> None:
    with pmkv.open(pool_path, durability="lazy", writeback_interval=NEVER, buffer_size=size) as db:
        for i in range(30):
            db[b"%d" % i] = b"x" * 100
        db[b"large"] = b"x" * 100_000
        assert db.put_many({b"a%d" % i: b"x" * 100 for i in range(100)}) == 100
        assert db.delete(b"7")
        assert not db.delete(b"7")
        del db[b"x" * 0 + b"8"]
        assert len(db) == 129
    with pmkv.open(pool_path) as db:
        assert len(db) == 129


def test_a_transaction_and_a_sync_write_are_durable_with_all_before(
    lazy: pmkv.Store, pool_path: Path
) -> None:
    lazy[b"a"] = b"1"
    with lazy.begin(write=True) as txn:
        assert txn[b"a"] == b"1"
        txn.put(b"b", b"2", durability="lazy")
    assert durable(pool_path) == {b"a": b"1", b"b": b"2"}
    lazy[b"a"] = b"3"
    lazy.put(b"c", b"4", durability="sync")
    assert durable(pool_path) == {b"a": b"3", b"b": b"2", b"c": b"4"}


def test_upkeep_with_dirty_values(lazy: pmkv.Store, tmp_path: Path) -> None:
    space = lazy.namespace("space")
    for i in range(500):
        lazy[b"%d" % i] = space[b"%d" % i] = b"x" * 300
    assert lazy.check() == []
    lazy.copy(tmp_path / "copy")
    with pmkv.open(tmp_path / "copy") as copy:
        assert dict(copy) == dict(lazy)
        assert len(copy.namespace("space")) == 500
    for i in range(490):
        assert space.delete(b"%d" % i)
    lazy.compact()
    assert len(space) == 10
    space[b"dirty"] = b"x"
    lazy.drop("space")
    with pytest.raises(pmkv.ClosedError):
        space[b"k"] = b"v"
    assert lazy.namespaces() == []
    again = lazy.namespace("space")
    again[b"new"] = b"1"
    lazy.sync()
    assert dict(again) == {b"new": b"1"}


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("heal", ["overwrite", "delete"])
def test_a_value_that_cannot_be_encoded_stays_dirty_until_it_is_healed(
    pool_path: Path, heal: str
) -> None:
    with pmkv.open(
        pool_path, codec="refuses-bad", durability="lazy", writeback_interval=NEVER
    ) as db:
        db[b"good"] = b"1"
        db[b"culprit"] = b"bad"
        for call in (db.sync, lambda: len(db), lambda: db.begin(write=True), db.close):
            with pytest.raises(pmkv.CodecError, match="culprit"):
                call()
        assert not db.closed
        assert db[b"culprit"] == b"bad"
        assert db[b"good"] == b"1"
        if heal == "delete":
            assert db.delete(b"culprit")
        else:
            db[b"culprit"] = b"better"
        db.sync()
    with pmkv.open(pool_path) as db:
        assert dict(db) == {b"good": b"1"} | ({b"culprit": b"better"} if heal != "delete" else {})


def test_an_error_in_the_background_reaches_the_next_write_once(pool_path: Path) -> None:
    with pmkv.open(
        pool_path, codec="refuses-bad", durability="lazy", writeback_interval=0.01
    ) as db:
        db[b"culprit"] = b"bad"
        end = time.monotonic() + 20
        with pytest.raises(pmkv.CodecError, match="culprit"):
            while time.monotonic() < end:
                db[b"other"] = b"1"
                time.sleep(0.005)
        for _ in range(100):
            with contextlib.suppress(pmkv.CodecError):
                db[b"culprit"] = b"good"
                break
        db.sync()
        db[b"later"] = b"2"
        assert len(db) == 3


@pytest.mark.parametrize("how", ["lazy", "sync"])
def test_in_a_full_pool_deletes_make_room_though_the_buffer_is_full_too(
    pool_path: Path, how: str
) -> None:
    db = pmkv.open(
        pool_path,
        durability=how,  # type: ignore[arg-type]
        writeback_interval=NEVER,
        max_size="2 MiB",
        buffer_size="256 KiB",
    )
    written = 0
    with pytest.raises(pmkv.PoolFullError):
        for written in itertools.count():
            db.put(b"%d" % written, b"x" * 1000, durability="lazy")
    for call in (db.sync, db.close, lambda: db.put(b"n", b"x" * 1000, durability="lazy")):
        with pytest.raises(pmkv.PoolFullError):
            call()
    assert all(db[b"%d" % i] == b"x" * 1000 for i in range(written))
    deleted = 100 if how == "sync" else 700
    assert all(db.delete(b"%d" % i) for i in range(deleted))
    db.sync()
    db[b"n"] = b"x"
    db.close()
    with pmkv.open(pool_path) as db:
        assert len(db) == written - deleted + 1
        assert db.check() == []


def test_a_delete_is_not_told_that_the_pool_is_full(pool_path: Path) -> None:
    """A writeback in the background has found it so: it makes room, and the next put is told."""
    with pmkv.open(pool_path, durability="lazy", writeback_interval=NEVER) as db:
        db[b"a"] = db[b"b"] = b"1"
        buffers = [found for found in gc.get_objects() if isinstance(found, Buffer)]
        (buffer,) = (found for found in buffers if found.count)
        buffer.fail(pmkv.PoolFullError("full"))
        del db[b"a"]
        assert not db.delete(b"c")
        with pytest.raises(pmkv.PoolFullError):
            db[b"d"] = b"1"
        db[b"d"] = b"1"
        assert dict(db) == {b"b": b"1", b"d": b"1"}


# ---- threads -------------------------------------------------------------------------------------


def test_lazy_writes_wait_for_a_transaction(lazy: pmkv.Store) -> None:
    done = threading.Event()

    def write() -> None:
        lazy[b"k"] = b"lazy"
        done.set()

    with lazy.begin(write=True) as txn:
        thread = threading.Thread(target=write)
        thread.start()
        assert not done.wait(0.1)
        assert b"k" not in txn
        with pytest.raises(pmkv.Error):
            lazy[b"k"] = b"past the transaction"
    thread.join()
    assert lazy[b"k"] == b"lazy"


def test_lazy_writes_do_not_wait_for_a_slow_writeback(pool_path: Path) -> None:
    begun, may_end = threading.Event(), threading.Event()

    def slow(value: bytes) -> bytes:
        begun.set()
        assert may_end.wait(30)
        return value[::-1]

    pmkv.register_codec("slow-one", 178, slow, lambda value: bytes(value)[::-1])
    with pmkv.open(pool_path, codec="slow-one", durability="lazy", writeback_interval=NEVER) as db:
        db[b"k"] = b"first"
        thread = threading.Thread(target=db.sync)
        thread.start()
        assert begun.wait(30)
        db[b"k"] = b"second"
        db[b"l"] = b"other"
        assert (db[b"k"], db[b"l"]) == (b"second", b"other")
        db.delete(b"l")
        assert b"l" not in db
        may_end.set()
        thread.join()
        assert dict(db) == {b"k": b"second"}


def test_whoever_must_be_the_writer_is_not_kept_waiting_by_lazy_writes(
    any_place: Place,
) -> None:
    with any_place.open(durability="lazy") as db:
        ended = False

        def write(name: bytes) -> None:
            for i in itertools.count():
                if ended:
                    return
                db[name + b"%d" % (i % 5000)] = b"x" * 100

        threads = [threading.Thread(target=write, args=(name,)) for name in (b"a", b"b")]
        for thread in threads:
            thread.start()
        try:
            time.sleep(0.1)
            begun = time.monotonic()
            for _ in range(5):
                assert len(db)
                db.put(b"k", b"v", durability="sync")
                db.snapshot().close()
                db.begin(write=True).abort()
                db.sync()
            assert time.monotonic() - begun < 30
        finally:
            ended = True
            for thread in threads:
                thread.join()


def test_threads_that_do_everything_at_once_end(pool_path: Path, effort: int) -> None:
    db = pmkv.open(pool_path, durability="lazy", writeback_interval=0.001, buffer_size="64 KiB")
    spaces = [db, db.namespace("one"), db.namespace("two", ordered=False)]
    end = time.monotonic() + 2 * effort
    failures: list[BaseException] = []

    def run(seed: int) -> None:
        chance = random.Random(seed)
        try:
            while time.monotonic() < end:
                space, key = chance.choice(spaces), b"%d" % chance.randrange(100)
                what = chance.randrange(40)
                if what < 20:
                    space.put(key, b"x" * chance.randrange(2000))
                elif what < 26:
                    space.delete(key)
                elif what < 28:
                    space.add(key, b"y")
                elif what < 30:
                    space.put_many({key + b"%d" % i: b"z" for i in range(50)})
                elif what < 32:
                    space.put(key, b"sync", durability="sync")
                elif what < 33:
                    with db.begin(write=True) as txn:
                        txn[key] = b"txn"
                elif what < 34:
                    with db.snapshot() as moment:
                        assert len(list(moment)) == len(moment)
                elif what < 35:
                    list(space.items())
                elif what < 36:
                    db.sync()
                elif what < 37:
                    space.pop(key, None)
                elif what < 38:
                    space.put(key, b"brief", ttl=0.01)
                else:
                    space.get_many([key, b"none"])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(seed,), daemon=True) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "threads wait for each other"
    assert failures == []
    time.sleep(0.05)  # what was to expire has
    expected = dict(db), dict(spaces[1]), dict(spaces[2])
    db.close()
    with pmkv.open(pool_path) as db:
        assert (dict(db), dict(db.namespace("one")), dict(db.namespace("two"))) == expected
        assert db.check() == []


# ---- what comes in between: signals, finalizers, forks, ends -------------------------------------


def test_a_signal_handler_may_write_and_sync_anywhere(lazy: pmkv.Store) -> None:
    handled = depth = 0

    def handle(*_: object) -> None:
        nonlocal handled, depth
        number = handled = handled + 1
        depth += 1
        if depth < 3:  # others may come between, but not for ever
            signal.setitimer(signal.ITIMER_REAL, 5e-4)
        lazy[b"h%d" % number] = b"1"
        with contextlib.suppress(pmkv.Error):  # in the middle of a writeback
            lazy.sync()
        lazy[b"i%d" % number] = b"1"
        depth -= 1

    before = signal.signal(signal.SIGALRM, handle)
    written = 0
    try:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            signal.setitimer(signal.ITIMER_REAL, written % 7 * 1e-4 + 1e-5)
            written += 1
            lazy[b"%d" % written] = b"x"
            lazy.sync()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert handled
    assert len(lazy) == written + 2 * handled


def test_an_interrupt_in_a_writeback_loses_nothing(pool_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def sync_interrupted(delay: float) -> None:
        try:
            signal.setitimer(signal.ITIMER_REAL, delay)
            db.sync()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            pass

    before = signal.signal(signal.SIGALRM, interrupt)
    model = {}
    with pmkv.open(pool_path, codec="lz4", durability="lazy", writeback_interval=NEVER) as db:
        try:
            for i in range(2000):
                model[b"%d" % i] = db[b"%d" % i] = b"x" * 100
                with contextlib.suppress(KeyboardInterrupt):
                    sync_interrupted(1e-5 + i % 97 * 1e-6)
                with contextlib.suppress(KeyboardInterrupt):
                    signal.setitimer(signal.ITIMER_REAL, 0)
        finally:
            signal.signal(signal.SIGALRM, before)
        assert all(db.get(key) == value for key, value in model.items())
    with pmkv.open(pool_path) as db:
        assert dict(db) == model


def test_finalizers_that_use_the_store_do_not_hang(lazy: pmkv.Store) -> None:
    finalized = 0

    class Cycle:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            nonlocal finalized
            finalized += 1
            lazy[b"f%d" % (finalized % 100)] = b"1"
            with contextlib.suppress(pmkv.Error):
                len(lazy)
            with contextlib.suppress(pmkv.Error):
                lazy.put(b"s", b"1", durability="sync")

    threshold = gc.get_threshold()
    gc.set_threshold(20)
    try:
        for i in range(2000):
            Cycle()
            lazy[b"%d" % i] = b"x"
            if i % 10 == 0:
                lazy.sync()
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert finalized > 100
    lazy.sync()
    assert all(b"%d" % i in lazy for i in range(2000))


def test_a_child_of_fork_leaves_what_is_dirty_to_its_parent(
    lazy: pmkv.Store, pool_path: Path
) -> None:
    lazy[b"k"] = b"v"
    pid = os.fork()
    if pid == 0:
        refused = 0
        for use in (lazy.sync, lambda: len(lazy), lambda: lazy[b"k"], lambda: lazy.ttl(b"k")):
            try:
                use()
            except pmkv.ClosedError:
                refused += 1
        lazy.close()
        os._exit(refused)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 4
    assert durable(pool_path) == {}
    lazy.sync()
    assert durable(pool_path) == {b"k": b"v"}


@pytest.mark.parametrize("with_view", [False, True])
def test_dropping_the_last_reference_writes_back_and_closes(
    pool_path: Path, with_view: bool
) -> None:
    db = pmkv.open(pool_path, durability="lazy", writeback_interval=NEVER)
    space = db.namespace("space")
    space[b"a"] = db[b"a"] = b"1"
    db.sync()
    assert not db.add(b"a", b"2")
    view = db.view(b"a") if with_view else None
    space[b"b"] = db[b"b"] = b"2"
    del db, space
    del view
    with pmkv.open(pool_path, "w") as db:
        assert dict(db) == {b"a": b"1", b"b": b"2"} == dict(db.namespace("space"))


ENDS = {
    "at once": (  # before the thread that writes back has begun, however long that takes
        "import _thread\nstart = _thread.start_new_thread\n"
        "def late(function, *more):\n"
        "    return start(lambda: (time.sleep(5), function()))\n"
        "_thread.start_new_thread = late\n"
        "db = open_lazily()\ndb[b'k'] = b'v'\ndel pmkv.Store.__del__"
    ),
    "global": "db = open_lazily()\ndb[b'k'] = b'v'",
    "cycle": "db = open_lazily()\ndb[b'k'] = b'v'\nx = [db]\nx.append(x)\ndel db, x",
    "exit": "db = open_lazily()\ndb[b'k'] = b'v'\nsys.exit(3)",
    "error": "db = open_lazily()\ndb[b'k'] = b'v'\nraise ValueError",
    "after an end that failed": (
        "pmkv.register_codec('bad', 77, lambda value: 1 / 0, lambda value: value)\n"
        "db = open_lazily()\ndb[b'k'] = b'v'\n"
        "other = pmkv.open(path + '2', codec='bad', durability='lazy', writeback_interval=1000)\n"
        "other[b'k'] = b'v'"
    ),
    "busy": (
        "db = open_lazily()\ndb[b'k'] = b'v'\n"
        "def write():\n    for i in itertools.count():\n"
        "        db[b'n%d' % (i % 5000)] = b'x' * 50\n"
        "threading.Thread(target=write, daemon=True).start()\ntime.sleep(0.3)"
    ),
}


@pytest.mark.parametrize("how", list(ENDS))
def test_the_end_of_the_interpreter_writes_back(pool_path: Path, how: str) -> None:
    program = (
        "import itertools, sys, threading, time, pmkv\npath = sys.argv[1]\n"
        "def open_lazily():\n"
        "    return pmkv.open(path, durability='lazy', writeback_interval=1000)\n" + ENDS[how]
    )
    subprocess.run(
        [sys.executable, "-c", program, str(pool_path)],
        timeout=60,
        check=False,
        capture_output=True,
    )
    with pmkv.open(pool_path, "w") as db:
        assert db[b"k"] == b"v"
        assert db.check() == []
