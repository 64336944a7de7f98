"""Copies what a store holds at one moment into a new pool."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from typing import Any, Final

from pmkv._errors import PoolExistsError
from pmkv._face import Face
from pmkv._namespaces import CODECS_NAME, has_codecs

_PAIRS: Final = 2000  # of one commit
_BYTES: Final = 8 << 20  # the same, unless one value is larger


def _copy_pairs(source: Face, target: Face) -> None:
    """All pairs as they are stored, with their times of expiry, in commits of a bounded size."""
    batch: list[tuple[Any, tuple[int, bytes, int]]] = []
    size = 0
    for key, stored in source.items():
        batch.append((key, stored))
        size += len(key) + len(stored[1])
        if len(batch) == _PAIRS or size >= _BYTES:
            target._put_stored(batch)
            batch, size = [], 0
    target._put_stored(batch)


def _copy_named(source: Any, target: Any, name: str) -> None:
    space = source._namespace_as_stored(name)
    keys = "str" if space._keys_are_str() else "bytes"
    options = keys, space._is_ordered(), space._values_option()
    _copy_pairs(space, target._namespace_as_stored(name, *options))


def _copy_all(moment: Any, now: Any, target: Any) -> None:
    """The default namespace, and those with names, also the hidden one of codecs.

    That one last, and as it is by then: options are of no moment, and may name a dictionary that
    was trained meanwhile. What is in it stays.
    """
    _copy_pairs(moment, target)
    for name in moment.namespaces():
        _copy_named(moment, target, name)
    if has_codecs(now):
        _copy_named(now, target, CODECS_NAME)


def _settle(path: str) -> None:
    """What was written there is on the medium, and so is its name."""
    for opened in (path, os.path.dirname(path)):
        fd = os.open(opened, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _name(partial: str, path: str) -> None:
    """Gives the file its name, if no other has it."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        os.rename(partial, path)


def copy_into(
    moment: Any,
    now: Any,
    path: str,
    open_target: Callable[[str], Any],
    finish: Callable[[Any], object],
) -> None:
    """Fills a new pool at `path`; it has that name only when it is complete."""
    partial = f"{path}.{secrets.token_hex(8)}.partial"  # nobody else's
    if os.path.lexists(path):
        raise PoolExistsError(errno.EEXIST, "exists already; copy to another path", path)
    try:
        with open_target(partial) as target:
            _copy_all(moment, now, target)
            finish(target)
        _settle(partial)
        _name(partial, path)
        _settle(path)
    except FileExistsError:
        raise PoolExistsError(errno.EEXIST, "appeared meanwhile; it was left alone", path) from None
    except OSError as error:
        if error.filename == partial:
            error.filename = path  # the one that was asked for
        raise
    finally:
        try:  # noqa: SIM105 - no call before it, behind which Ctrl-C might come
            os.unlink(partial)
        except FileNotFoundError:
            pass
