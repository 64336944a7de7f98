"""Places to put pools, and pools in them, for all tests."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import pmkv

MEMORY = Path(os.environ.get("PMKV_TEST_DIR", "/dev/shm"))
HANG = 60  # seconds after which a child that does not answer is taken for hung


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="ten times as many random trials")


@pytest.fixture(scope="session")
def effort(request: pytest.FixtureRequest) -> int:
    """By how much to multiply what a random test does."""
    return 10 if request.config.getoption("--long") else 1


class Place(NamedTuple):
    """Where a pool lies, and the persistence domain to use there."""

    path: Path
    persistence: str

    def open(self, flag: Any = "c", **options: Any) -> pmkv.Store:
        return pmkv.open(self.path, flag, persistence=self.persistence, **options)


@pytest.fixture
def memory_dir(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory if there is one, else a temporary one."""
    if not (MEMORY.is_dir() and os.access(MEMORY, os.W_OK)):
        yield tmp_path
        return
    made = Path(tempfile.mkdtemp(prefix="pmkv-test-", dir=MEMORY))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def pool_path(memory_dir: Path) -> Path:
    """A path in memory where nothing is yet."""
    return memory_dir / "pool.pmkv"


@pytest.fixture
def disk_path(tmp_path: Path) -> Path:
    """A path where nothing is yet, on whatever holds temporary files."""
    return tmp_path / "pool.pmkv"


@pytest.fixture
def db(pool_path: Path) -> Iterator[pmkv.Store]:
    """An empty store in memory; sound when the test is done with it."""
    with pmkv.open(pool_path) as store:
        yield store
        assert store.closed or store.check() == []


@pytest.fixture(params=["process", "byte", "cacheline", "page"])
def any_place(request: pytest.FixtureRequest, pool_path: Path, disk_path: Path) -> Place:
    """A place of each persistence domain."""
    return Place(disk_path if request.param == "page" else pool_path, request.param)


@pytest.fixture
def any_db(any_place: Place) -> Iterator[pmkv.Store]:
    """An empty store of each persistence domain; sound when the test is done with it."""
    with any_place.open() as store:
        yield store
        assert store.closed or store.check() == []


def _answer(pipe: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        pipe.send((True, function(*arguments)))
    except BaseException:
        pipe.send((False, traceback.format_exc()))


def _kill_self_after(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    held = function(*arguments)  # what it returns is alive when the process dies
    os.kill(os.getpid(), signal.SIGKILL)
    del held


@pytest.fixture
def killed_child() -> Callable[..., None]:
    """Calls a function in a process that is killed as soon as the function returns."""

    def call(function: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("fork")
        child = context.Process(target=_kill_self_after, args=(function, arguments))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL

    return call


def make_large(txn: Any) -> None:
    """Makes many puts, and undoes them: new keys of the transaction are late from here on."""
    keys = [b"early %d" % i for i in range(100)]
    for key in keys:
        txn[key] = b""
    assert txn.delete_many(keys) == len(keys)


@contextlib.contextmanager
def waiting_child() -> Iterator[None]:
    """Forks a process that has all that this one has, and does nothing until the end."""
    waiting, release = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(release)
        os.read(waiting, 1)
        os._exit(0)
    try:
        yield
    finally:
        os.close(release)
        os.close(waiting)
        os.waitpid(pid, 0)


@pytest.fixture
def in_child() -> Callable[..., Any]:
    """Calls a function in a process of its own; what it returns. Its death is a failure."""

    def call(function: Callable[..., Any], *arguments: Any, method: str = "fork") -> Any:
        context = multiprocessing.get_context(method)
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_answer, args=(theirs, function, arguments))
        child.start()
        theirs.close()
        if not ours.poll(HANG):
            child.kill()
            pytest.fail(f"the child gave no answer in {HANG} seconds")
        try:
            done, answer = ours.recv()
        except EOFError:
            child.join()
            pytest.fail(f"the child died: exit code {child.exitcode}")
        child.join()
        assert done, answer
        return answer

    return call
