"""What lies in the pool under which key, how it gets there, and how it is looked up.

    package:NAME    stanza of an installed package      bash  ->  Package: bash...
    available:NAME  stanza of one that apt offers
    file:PATH       names of the packages that own it, one a line
    md5:PATH        its checksum as its package says it
    source:ID       path of a Python file, a newline, its text
    word:WORD       IDs of the files that have the word, two bytes each
    progress        how far the loader is (see loading.py)

Nothing is gathered in memory beyond a batch: an index entry that grows (the owners of /usr, the
files with the word "self") is read from the pool, made longer, and put back.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import sources

import pmkv

Pair = tuple[bytes, bytes]

_WORD = re.compile(rb"\b[a-z_]\w{1,39}\b")
_HITS_SHOWN = 4

# What stands between the old value and the new one; a kind that is missing here is replaced.
_SEPARATORS = {b"package": b"\n\n", b"available": b"\n\n", b"file": b"\n", b"word": b""}


# ---- what is stored -------------------------------------------------------------------------


class Stage(NamedTuple):
    """A part of the load: its units, how many make a batch, and the pairs a unit becomes."""

    name: str
    units: Iterable[Any]
    unit_count: int | None
    batch_size: int
    pairs: Callable[[Any], Iterator[Pair]]


def stages(limit: int | None) -> list[Stage]:
    """The whole load in order; with a limit, so many units of each stage."""
    texts = list(enumerate(sources.python_files(), 1))
    return [
        _stage("packages", list(sources.installed()), 250, _package_pairs, limit),
        _stage("files", sources.file_lists(), 50, _file_pairs, limit),
        _stage("checksums", sources.checksum_lists(), 50, _checksum_pairs, limit),
        _stage("text", texts, 40, _text_pairs, limit),
        Stage("available", islice(sources.available(), limit), limit, 1000, _available_pairs),
    ]


def _stage(
    name: str,
    units: list[Any],
    batch_size: int,
    pairs: Callable[[Any], Iterator[Pair]],
    limit: int | None,
) -> Stage:
    units = units[:limit]
    return Stage(name, units, len(units), max(1, min(batch_size, len(units) // 8)), pairs)


def merged(db: pmkv.Store, pairs: Iterable[Pair]) -> dict[bytes, bytes]:
    """What to put so that the pool has these pairs too, behind what it has already."""
    added: dict[bytes, bytes] = {}
    for key, value in pairs:
        added[key] = _joined(key, added.get(key), value)
    held = db.get_many(added)
    return {key: _joined(key, old, added[key]) for key, old in zip(added, held, strict=True)}


def _joined(key: bytes, old: bytes | None, new: bytes) -> bytes:
    separator = _SEPARATORS.get(key.partition(b":")[0])
    return new if old is None or separator is None else old + separator + new


def field(stanza: bytes, name: bytes) -> bytes:
    """The first line of a field of a stanza."""
    found = re.search(rb"^%s: *(.*)$" % re.escape(name), stanza, re.MULTILINE)
    return found[1] if found else b""


def _package_pairs(stanza: bytes) -> Iterator[Pair]:
    yield b"package:" + field(stanza, b"Package"), stanza


def _available_pairs(stanza: bytes) -> Iterator[Pair]:
    yield b"available:" + field(stanza, b"Package"), stanza


def _package_of(path: Path) -> bytes:
    return path.stem.partition(":")[0].encode()  # libc6:amd64.list is libc6's


def _file_pairs(path: Path) -> Iterator[Pair]:
    owner = _package_of(path)
    for line in path.read_bytes().splitlines():
        if line != b"/.":
            yield b"file:" + line, owner


def _checksum_pairs(path: Path) -> Iterator[Pair]:
    for line in path.read_bytes().splitlines():
        checksum, _, name = line.partition(b"  ")
        yield b"md5:/" + name, checksum


def _text_pairs(unit: tuple[int, Path]) -> Iterator[Pair]:
    number, path = unit
    text = path.read_bytes()
    yield _source_key(number), bytes(path) + b"\n" + text
    posting = array("H", [number]).tobytes()
    for word in set(_WORD.findall(text.lower())):
        yield b"word:" + word, posting


def _source_key(number: int) -> bytes:
    return b"source:%d" % number


# ---- how it is looked up --------------------------------------------------------------------


class Answer(NamedTuple):
    """Lines for a reader, and how many keys were looked up for them."""

    lines: list[str]
    lookups: int


def owner(db: pmkv.Store, path: str) -> Answer:
    """Which packages own a file, and whether the disk still has it as they shipped it."""
    names = _aliases(path)
    owners = db.get_many(f"file:{name}" for name in names)
    checksums = db.get_many(f"md5:{name}" for name in names)
    for found, checksum in zip(owners, checksums, strict=True):
        if found is not None:
            state = _state(path, checksum)
            return Answer([f"{_listed(found.decode().split())}{state}"], 2 * len(names))
    return Answer(["no package owns it"], 2 * len(names))


def _aliases(path: str) -> list[str]:
    """/bin/sh and /usr/bin/sh are one file where /bin is a link, and dpkg knows one of them."""
    return [path, path.removeprefix("/usr") if path.startswith("/usr/") else "/usr" + path]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 6} more packages" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more


def _state(path: str, checksum: bytes | None) -> str:
    if checksum is None:
        return ""
    try:
        content = Path(path).read_bytes()
    except OSError:
        return "; not readable on this disk"
    same = hashlib.md5(content, usedforsecurity=False).hexdigest() == checksum.decode()
    return "; unchanged on this disk" if same else "; changed on this disk"


def package(db: pmkv.Store, name: str) -> Answer:
    """A package's version and description: of the installed one, else of what apt offers."""
    here, offered = db.get_many([f"package:{name}", f"available:{name}"])
    stanza = here or offered
    if stanza is None:
        return Answer(["no such package"], 2)
    version, text = field(stanza, b"Version"), field(stanza, b"Description")
    state = "installed" if here else "available"
    return Answer([f"{version.decode()}, {state}: {text.decode(errors='replace')}"], 2)


def search(db: pmkv.Store, query: str) -> Answer:
    """Files that have all the words, or all of another group behind a `|`; lines that show it."""
    groups = [_WORD.findall(part.lower().encode()) for part in query.split("|")]
    words = list(dict.fromkeys(chain.from_iterable(groups)))
    if not words:
        return Answer(["no word to look for (two letters, digits or _ at least)"], 0)
    files = _files_with(db, words)
    hits = set().union(*(set.intersection(*(files[w] for w in g)) for g in groups if g))
    patterns = _line_patterns(groups)
    shown = sorted(_best_line(db, number, patterns) for number in hits)[:_HITS_SHOWN]
    lines = [
        f"{len(hits):,} file{'s'[: len(hits) != 1]}",
        *(f"{path}: {line}" for _, path, line in shown),
    ]
    return Answer(lines, len(words) + len(hits))


def _files_with(db: pmkv.Store, words: list[bytes]) -> dict[bytes, set[int]]:
    postings = db.get_many((b"word:" + word for word in words), b"")
    return {w: set(memoryview(p).cast("H")) for w, p in zip(words, postings, strict=True)}


def _line_patterns(groups: list[list[bytes]]) -> list[re.Pattern[bytes]]:
    """Matches a line that has all words of a group; a line that has one of them."""
    together = b"|".join(b"".join(rb"(?=.*\b%s\b)" % word for word in g) for g in groups if g)
    single = b"|".join(chain.from_iterable(groups))
    patterns = rb"^(?:%s).*" % together, rb"^.*\b(?:%s)\b.*" % single
    return [re.compile(pattern, re.IGNORECASE | re.MULTILINE) for pattern in patterns]


def _best_line(
    db: pmkv.Store, number: int, patterns: list[re.Pattern[bytes]]
) -> tuple[int, str, str]:
    """Which pattern fits the file, as a rank; the file's path; the line where it fits.

    Searched where it lies: the view is the pool's own memory, and the text is not copied.
    """
    with db.view(_source_key(number)) as source:
        path = next(_lines(source))
        found = (pattern.search(source, len(path) + 1) for pattern in patterns)
        rank, line = next((rank, m[0]) for rank, m in enumerate(found) if m)
    where = path.decode(errors="replace").removeprefix(f"{sources.STANDARD_LIBRARY}/")
    return rank, where, line.decode(errors="replace").strip()[:90]


def _lines(text: memoryview) -> Iterator[bytes]:
    return (match[0] for match in re.finditer(rb".*", text))
