"""copy() makes a pool of what there is at one moment, while others write: whole, or not at all."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import pytest

import pmkv


def filled(db: pmkv.Store) -> dict[str, dict[bytes, bytes]]:
    """A store with namespaces; what is in it, the default namespace under an empty name."""
    rng = random.Random(5)
    models: dict[str, dict[bytes, bytes]] = {"": {}, "ordered": {}, "unordered": {}, "empty": {}}
    for name, model in models.items():
        space = db.namespace(name, ordered=name != "unordered") if name else db
        for _ in range(0 if name == "empty" else 3000):
            key, size = rng.randbytes(rng.choice((1, 8, 300))), rng.choice((0, 30, 300, 9000))
            model[key] = rng.randbytes(size)
        space.put_many(model)
    return models


def contents(db: pmkv.Store) -> dict[str, dict[bytes, bytes]]:
    return {"": dict(db)} | {name: dict(db.namespace(name)) for name in db.namespaces()}


@pytest.mark.parametrize("compact", [False, True])
def test_a_copy_holds_what_the_store_holds(pool_path: Path, compact: bool) -> None:
    other = pool_path.with_name("other.pmkv")
    with pmkv.open(pool_path) as db:
        models = filled(db)
        db.copy(other, compact=compact)
        assert contents(db) == models
        if compact:
            loose = pool_path.with_name("loose.pmkv")
            db.copy(loose)
            assert other.stat().st_size <= loose.stat().st_size
            loose.unlink()
    with pmkv.open(other) as copied:
        assert contents(copied) == models
        assert copied.check() == []
        assert copied.info()["uuid"] != pmkv.open(pool_path).info()["uuid"]
        assert copied.namespace("unordered", ordered=False)
    assert sorted(os.listdir(pool_path.parent)) == sorted([other.name, pool_path.name])


def test_options_and_times_are_copied(pool_path: Path) -> None:
    other = pool_path.with_name("other.pmkv")
    with pmkv.open(pool_path, keys="str", ordered=False) as db:
        db.put("stays", b"1")
        db.put("goes", b"2", ttl=1000)
        db.namespace("text", keys="str").put("goes", b"3", ttl=2000)
        times = [db.ttl("goes"), db.namespace("text").ttl("goes")]
        db.copy(other)
    with pmkv.open(other) as copied:
        assert copied.info()["keys"] == "str" and not copied.info()["ordered"]
        assert sorted(copied) == ["goes", "stays"] and list(copied.namespace("text")) == ["goes"]
        for before, after in zip(
            times, [copied.ttl("goes"), copied.namespace("text").ttl("goes")], strict=True
        ):
            assert before is not None and after is not None and before - 60 < after <= before


def test_a_copy_is_of_one_moment_while_others_write(pool_path: Path) -> None:
    """Two keys of two namespaces always change together; a copy never sees them apart."""
    with pmkv.open(pool_path) as db:
        db.put_many((b"%06d" % i, b"x" * 200) for i in range(20_000))
        other, stop = db.namespace("other"), threading.Event()
        with db.begin(write=True) as txn:
            txn[b"n"] = txn.namespace("other")[b"n"] = b"0"

        def write() -> None:
            turn = 0
            while not stop.is_set():
                turn += 1
                with db.begin(write=True) as txn:
                    txn[b"n"] = txn.namespace("other")[b"n"] = b"%d" % turn
                    txn[b"%06d" % (turn % 20_000)] = b"y" * 300

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for i in range(3):
                db.copy(pool_path.with_name(f"copy{i}"))
        finally:
            stop.set()
            writer.join()
        assert int(other[b"n"]) > 0
        db.sync()
        assert db.check() == []
    for i in range(3):
        with pmkv.open(pool_path.with_name(f"copy{i}")) as copied:
            assert copied[b"n"] == copied.namespace("other")[b"n"]
            assert len(copied) == 20_001


def test_a_file_that_is_there_is_left_alone(pool_path: Path) -> None:
    other = pool_path.with_name("other")
    other.write_bytes(b"precious")
    with pmkv.open(pool_path) as db:
        for path in (other, pool_path):
            with pytest.raises(FileExistsError, match="another path") as caught:
                db.copy(path)
            assert isinstance(caught.value, pmkv.Error)
    assert other.read_bytes() == b"precious"
    assert sorted(os.listdir(pool_path.parent)) == ["other", pool_path.name]


def test_two_copies_to_one_path_do_not_meet_and_others_files_stay(pool_path: Path) -> None:
    """One of them gets the name, the other is told; what lies beside it is nobody's of theirs."""
    other = pool_path.with_name("other")
    beside = pool_path.with_name("other.partial")
    beside.write_bytes(b"precious")
    with pmkv.open(pool_path) as db:
        db.put_many((b"%06d" % i, b"x" * 200) for i in range(20_000))
        ends: list[object] = []

        def copy() -> None:
            try:
                ends.append(db.copy(other))
            except FileExistsError as error:
                ends.append(error)

        threads = [threading.Thread(target=copy) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(ends) == 3 and ends.count(None) == 1
    assert beside.read_bytes() == b"precious"
    assert sorted(os.listdir(pool_path.parent)) == ["other", "other.partial", pool_path.name]
    with pmkv.open(other) as copied:
        assert len(copied) == 20_000 and copied.check() == []


def test_a_copy_to_nowhere_names_the_path_that_was_asked_for(
    db: pmkv.Store, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="is missing") as raised:
        db.copy(tmp_path / "none" / "other")
    assert raised.value.filename == str(tmp_path / "none" / "other")


def test_a_copy_that_fails_leaves_nothing(pool_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = pool_path.with_name("other")
    with pmkv.open(pool_path) as db:
        db.put_many((b"%06d" % i, b"x" * 200) for i in range(20_000))

        def interrupted(path: str, flag: str, **options: object) -> pmkv.Store:
            target = pmkv.open(path, flag, max_size=3 << 20, **options)  # type: ignore[call-overload]
            return target  # type: ignore[no-any-return]

        monkeypatch.setattr(db, "_open_other", interrupted)
        with pytest.raises(pmkv.PoolFullError):
            db.copy(other)
        assert os.listdir(pool_path.parent) == [pool_path.name]
        assert db.check() == []
    with pytest.raises(pmkv.ClosedError):
        db.copy(other)
    with pmkv.open(pool_path, "r") as reader:
        reader.copy(other)
    with pmkv.open(other) as copied:
        assert len(copied) == 20_000
