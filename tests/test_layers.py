"""Arrows point down: every file knows only the floors below it (docs/architecture.md)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
C = ROOT / "cython_ext"

# Each may use what stands before it; modules of one row do not use one another.
HEADERS = [
    ["arch/x86_64.h", "arch/aarch64.h", "arch/generic.h"],
    ["arch/arch.h"],
    ["layout.h", "status.h", "atomics.h", "hash.h", "checksum.h"],
    ["crc32c_long.h", "persist.h"],
    ["recycle.h"],  # L6: Python's objects
]
MODULES = [
    ["_core"],  # L0, with the headers
    ["_layout"],
    ["_pool"],  # L1
    ["_growth"],
    ["_format"],
    ["_writeset"],
    ["_redo"],
    ["_pages"],  # L2
    ["_blocks"],
    ["_records"],  # L3
    ["_mapping", "_treenode"],
    ["_treebuild", "_lookahead"],
    ["_keytree"],
    ["_mapmove", "_treemove", "_treefill"],
    ["_versions", "_expiry"],  # L4
    ["_space"],
    ["_codings"],
    ["_transaction"],
    ["_recovery", "_catalogue"],  # L5
    ["_check", "_sweep", "_compact"],
    [  # L6, and the instruments beside it
        *("_arguments", "_buffer", "_cache", "_lz4"),
        *("_oracle", "_pending", "_tracer"),
    ],
    ["_crashes"],
    ["_simulator"],
    ["_engine"],
    ["_reading"],
    ["_writing", "_unordered", "_private"],
    ["_table"],
    ["_scan", "_session", "_snapshot", "_store", "_compaction"],
    ["_namespaces"],
]
PACKAGE = [
    ["_errors", "_types", "_version", "_lz4", "_workers", "_descriptor"],
    ["_objects", "_codec"],
    ["_arrays"],
    ["_arguments", "_buffer", "_cache", "_engine", "_reading"],
    ["_writing", "_unordered", "_private"],
    ["_table", "_writeback"],
    ["_scan", "_session", "_snapshot", "_store", "_compaction"],
    ["_namespaces"],
    ["_medium"],
    ["_face"],
    ["_copy", "_coding"],
    ["_handle"],
    ["_open"],
    ["__init__"],
]
UPPER = {
    "_arguments",
    "_cache",
    "_engine",
    "_reading",
    "_table",
    "_unordered",
    "_private",
    "_scan",
    "_session",
    "_snapshot",
    "_store",
    "_namespaces",
    "_compaction",
    "_lz4",
    "_buffer",
    "_writing",
}
SEEN_BY_PYTHON = UPPER | {"_layout", "_simulator", "_crashes", "_oracle", "_pending"}

# Besides persist.h: the pool that is made on a device, and the simulator's copies of pools.
WRITERS = {"persist.h", "pmkv/_crashes.pyx", "pmkv/_simulator.pyx"}

CIMPORT = re.compile(r"^\s*(?:from|cimport)\s+pmkv\.(\w+)(?=\s+cimport|\s*$)", re.M)
IMPORT = re.compile(r"^\s*from pmkv(?:\.(\w+))? import (.+)", re.M)
INCLUDE = re.compile(r'^\s*#include "(?:\.\./)*([\w./]+)"', re.M)
FUNCTION = re.compile(r"^[ ]*cp?def\s[^=\n]*?\w+\((?:[^()]|\([^()]*\))*\)[^\n]*", re.M)
PYTHON = re.compile(r"^\s*(?:def|class|cdef class|cpdef|import|from \S+ import)\b.*", re.M)
INSTRUCTION = re.compile(
    r"\b_mm\d*_\w+|\w*intrin\.h|cpuid|arm_\w+\.h|__builtin_ia32|\b(?:asm|__asm__)\b.*"
)
BARRIER = '__asm__ __volatile__("" ::: "memory")'  # stops the compiler, emits nothing
WRITE = re.compile(
    r"mem(?:cpy|move|set)\(\s*(?:<[^>]*>|\([^)]*\*\))?\s*"
    r"(?:pmkv_at\(|[\w.>-]+\bm(?:\.|->)(?:data|descriptors)\b)"
    r"|pmkv_at\([^\n=]*\)\)?\[[^\]]*\]\s*[-+|&^]?=(?!=)"
)


def floors(rows: list[list[str]]) -> dict[str, int]:
    return {name: floor for floor, row in enumerate(rows) for name in row}


def sources(*patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in C.glob(pattern))


def imports(path: Path) -> list[str]:
    """The modules of the package that a file imports, not cimports."""
    found = IMPORT.findall(path.read_text())
    return [
        used
        for module, names in found
        for used in ([module] if module else re.findall(r"\w+", names))
    ]


def below(floor_of: dict[str, int], user: str, used: str) -> bool:
    return floor_of[used] < floor_of[user]


CORE = [path for path in sources("pmkv/*.pyx", "pmkv/*.pxd") if path.stem not in SEEN_BY_PYTHON]


def test_every_file_has_a_floor() -> None:
    assert {path.stem for path in sources("pmkv/*.p[yx][xd]")} == set(floors(MODULES))
    assert {str(path.relative_to(C)) for path in sources("**/*.h")} == set(floors(HEADERS))
    assert {path.stem for path in ROOT.glob("pmkv/*.py")} == set(floors(PACKAGE)) - UPPER


@pytest.mark.parametrize("path", sources("**/*.h"), ids=lambda path: path.name)
def test_a_header_includes_only_headers_below_it(path: Path) -> None:
    user = str(path.relative_to(C))
    for found in INCLUDE.findall(path.read_text()):
        used = found if (C / found).exists() else f"{path.parent.name}/{found}"
        assert below(floors(HEADERS), user, used), f"{user} includes {used}"


@pytest.mark.parametrize("path", sources("pmkv/*.p[yx][xd]"), ids=lambda path: path.name)
def test_a_module_uses_only_modules_below_it(path: Path) -> None:
    for used in CIMPORT.findall(path.read_text()):
        assert used == path.stem or below(floors(MODULES), path.stem, used), used


@pytest.mark.parametrize("path", sorted(ROOT.glob("pmkv/*.py*")), ids=lambda path: path.name)
def test_the_package_imports_only_what_is_below(path: Path) -> None:
    if path.suffix not in (".py", ".pyi") or path.stem in ("_layout", "_simulator", "_crashes"):
        return
    for used in imports(path):
        assert below(floors(PACKAGE), path.stem, used), used


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.name)
def test_below_the_store_nothing_is_python(path: Path) -> None:
    text = re.sub(r'""".*?"""', "", path.read_text(), flags=re.S)
    assert not PYTHON.findall(text)
    for signature in FUNCTION.findall(text):
        assert "noexcept nogil" in signature, signature


def test_the_functions_below_the_store_are_found() -> None:
    assert sum(len(FUNCTION.findall(path.read_text())) for path in CORE) > 200


def test_the_upper_modules_raise_the_errors_and_import_nothing_else_of_the_package() -> None:
    for path in sources("pmkv/*.pyx"):
        allowed = {"_errors", "_arguments", "_scan"} if path.stem in UPPER else set()
        allowed |= {"_simulator": {"_crashes", "_oracle"}, "_crashes": {"_oracle"}}.get(
            path.stem, set()
        )
        assert set(imports(path)) <= allowed, path.name


def test_instructions_of_a_processor_are_named_in_arch_only() -> None:
    for path in sources("*.h", "pmkv/*.p[yx][xd]"):
        found = INSTRUCTION.search(path.read_text().replace(BARRIER, ""))
        assert not found, f"{path.name}: {found[0]}"


def test_only_these_files_write_to_a_pool() -> None:
    paths = sources("**/*.h", "pmkv/*.p[yx][xd]")
    assert {str(p.relative_to(C)) for p in paths if WRITE.search(p.read_text())} == WRITERS


COMMIT = re.compile(r"\b(?:space_commit|space_collect|sweep_and_commit)\(")


def blocks_without_the_gil(text: str) -> list[str]:
    """The bodies of `with nogil:`."""
    found = []
    for begin in re.finditer(r"^( *)with nogil:\n((?:\1 +[^\n]*\n|\n)+)", text, re.M):
        found.append(begin[2])
    return found


def test_the_interpreters_lock_is_taken_between_two_commits() -> None:
    """What a commit frees the next one uses: whoever reads under that lock must be done by then."""
    blocks = [
        block
        for path in sources("pmkv/*.pyx")
        if path.stem in UPPER
        for block in blocks_without_the_gil(path.read_text())
        if COMMIT.search(block)
    ]
    assert len(blocks) >= 5
    for block in blocks:
        assert len(COMMIT.findall(block)) == 1, block
        assert not re.search(r"^ *(?:while|for)\b", block, re.M), block
    space = (C / "pmkv/_space.pyx").read_text()
    for function in ("space_commit", "space_collect"):
        body = space[space.index(f"cdef int {function}(") :].split("\n\n\n")[0]
        assert len(re.findall(r"\b(?:finish|redo_commit|space_collect|pay_off)\(t", body)) == 1, (
            body
        )
