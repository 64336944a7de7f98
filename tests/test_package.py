"""The package is what it says: its public names, its errors, its build."""

from __future__ import annotations

import inspect
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import pmkv

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODULES = PROJECT["tool"]["setuptools"]["ext-modules"]

ERRORS = {
    "Error": Exception,
    "NotFoundError": KeyError,
    "KeyExistsError": KeyError,
    "ReadonlyError": pmkv.Error,
    "ClosedError": ValueError,
    "CorruptedError": pmkv.Error,
    "VersionMismatchError": pmkv.Error,
    "LockError": BlockingIOError,
    "InvalidKeyError": ValueError,
    "InvalidValueError": ValueError,
    "PoolFullError": OSError,
    "MediaError": OSError,
    "CodecError": pmkv.Error,
}
PUBLIC = {
    *ERRORS,
    "Info",
    "Memory",
    "Namespace",
    "PathStat",
    "Savepoint",
    "Snapshot",
    "Stat",
    "Store",
    "Transaction",
    "error",
    "open",
    "register_codec",
}
METHODS = {
    *("add", "begin", "check", "clear", "close", "compact", "compare_and_set", "cursor", "decr"),
    *(
        "delete",
        "delete_many",
        "drop",
        "flush",
        "get",
        "get_many",
        "incr",
        "info",
        "items",
        "key_at",
        "keys",
    ),
    *(
        "memory",
        "namespace",
        "namespaces",
        "pop",
        "popitem",
        "put",
        "put_many",
        "replace",
        "sample",
        "setdefault",
        "snapshot",
        "stat",
    ),
    *("sync", "touch", "ttl", "update", "values", "view", "expire", "copy", "array", "put_array"),
    "train_dictionary",
}
ATTRIBUTES = {"closed", "path"}


def public(names: Any) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def test_the_public_names_are_these() -> None:
    assert set(pmkv.__all__) == PUBLIC | {"__version__"}
    assert public(vars(pmkv)) == PUBLIC


def test_the_store_has_these_public_names() -> None:
    assert public(dir(pmkv.Store)) == METHODS | ATTRIBUTES


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_public_method_says_what_it_does_and_takes(name: str) -> None:
    method = getattr(pmkv.Store, name)
    assert inspect.getdoc(method)
    assert next(iter(inspect.signature(method).parameters)) == "self"


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_is_a_pmkv_error_and_that_of_the_standard_library(name: str) -> None:
    error = getattr(pmkv, name)
    assert issubclass(error, pmkv.Error)
    assert issubclass(error, ERRORS[name])
    assert inspect.getdoc(error)


def test_error_is_another_name_of_the_base() -> None:
    assert pmkv.error is pmkv.Error


def test_the_version_is_the_same_everywhere() -> None:
    assert pmkv.__version__ == PROJECT["project"]["version"] == metadata.version("pmkv")


def test_every_source_is_a_module_of_the_build() -> None:
    sources = {source for module in MODULES for source in module["sources"]}
    assert sources == {str(path.relative_to(ROOT)) for path in ROOT.glob("cython_ext/pmkv/*.pyx")}
    for module in MODULES:
        assert module["sources"] == [f"cython_ext/{module['name'].replace('.', '/')}.pyx"]


def test_every_module_depends_on_every_header_and_declaration() -> None:
    found = [*ROOT.glob("cython_ext/**/*.h"), *ROOT.glob("cython_ext/**/*.pxd")]
    wanted = sorted(str(path.relative_to(ROOT)) for path in found)
    for module in MODULES:
        assert sorted(module["depends"]) == wanted, module["name"]


def test_all_modules_are_built_alike() -> None:
    for module in MODULES:
        own = {"name", "sources"}
        assert {k: v for k, v in module.items() if k not in own} == {
            k: v for k, v in MODULES[0].items() if k not in own
        }


def test_the_package_carries_its_types() -> None:
    package = Path(pmkv.__file__).parent
    assert (package / "py.typed").exists()
    for name in ("_layout", "_simulator", "_store"):
        assert (package / f"{name}.pyi").exists()
