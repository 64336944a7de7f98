"""What a store and a transaction have in common and is not hot: views, ranges, updates."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import random
from collections.abc import ItemsView, Iterator, KeysView, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any, Self

from pmkv import _arrays, _objects, _private, _scan
from pmkv._errors import InvalidKeyError
from pmkv._table import Table
from pmkv._types import Bounds, Key, Pairs, Value

if TYPE_CHECKING:
    import numpy


class _Range:
    """A range of a mapping's keys: which, in which direction, and how many at most."""

    _shows: int
    _mapping: Face

    def __init__(self, mapping: Face, bounds: Bounds, reverse: bool, limit: int | None) -> None:
        self._mapping = mapping
        self._bounds, self._reverse, self._limit = bounds, reverse, limit

    def __len__(self) -> int:
        found = _scan.count(self._mapping, **self._bounds)
        return found if self._limit is None else min(found, max(0, self._limit))

    def __iter__(self) -> Iterator[Any]:
        return _scan.scan(  # as _walk() does: one call less
            self._mapping, self._shows, self._bounds, self._reverse, self._limit
        )

    def __reversed__(self) -> Iterator[Any]:
        if self._limit is None:
            return self._walk(not self._reverse)
        return iter(list(self._walk(self._reverse))[::-1])

    def _walk(self, reverse: bool) -> Iterator[Any]:
        return _scan.scan(self._mapping, self._shows, self._bounds, reverse, self._limit)

    def _has(self, key: Any) -> bool:
        """Whether the mapping has the key, in the range; what cannot be a key is in no set."""
        try:
            if key not in self._mapping:
                return False
        except InvalidKeyError:
            return False
        if self._limit is not None:
            kind = _scan.SHOW["keys"]
            return any(
                found in (key, self._mapping._key_as_given(key))
                for found in _scan.scan(
                    self._mapping, kind, self._bounds, self._reverse, self._limit
                )
            )
        return not self._bounds or _scan.is_within(key, **self._bounds)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._mapping!r}>"


class Keys(_Range, KeysView[Any]):
    """Keys, as dict.keys(), of all or a range."""

    _shows = _scan.SHOW["keys"]

    def __contains__(self, key: object) -> bool:
        return self._has(key)


class Values(_Range, ValuesView[Any]):
    """Values, as dict.values(), of all keys or a range."""

    _shows = _scan.SHOW["values"]

    def __contains__(self, value: object) -> bool:
        return any(found == value for found in self)


class Items(_Range, ItemsView[Any, Any]):
    """Pairs, as dict.items(), of all keys or a range."""

    _shows = _scan.SHOW["items"]

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        return self._has(item[0]) and bool(self._mapping.get(item[0]) == item[1])


def _bounds(
    prefix: Key | None, start: Key | None, stop: Key | None, include_start: bool, include_stop: bool
) -> Bounds:
    """The arguments of a scan that restrict it."""
    bounds: Bounds = {}
    if prefix is not None:
        bounds["prefix"] = prefix
    if start is not None:
        bounds["start"], bounds["include_start"] = start, include_start
    if stop is not None:
        bounds["stop"], bounds["include_stop"] = stop, include_stop
    return bounds


def _chosen(keys: Iterator[Any], n: int) -> list[Any]:
    """`n` of the keys in one walk, each choice as likely as any other, or all if they are fewer."""
    chosen = list(itertools.islice(keys, n))
    for count, key in enumerate(keys, n + 1):
        place = random.randrange(count)
        if place < n:
            chosen[place] = key
    random.shuffle(chosen)
    return chosen


class Face(Table, MutableMapping[Any, Any]):
    """The methods that need nothing but the table itself."""

    def keys(
        self,
        *,
        prefix: Key | None = None,
        start: Key | None = None,
        stop: Key | None = None,
        include_start: bool = True,
        include_stop: bool = False,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Keys:
        """The keys of all or of a range, in the order of their bytes. A range has a len(), too."""
        return Keys(self, _bounds(prefix, start, stop, include_start, include_stop), reverse, limit)

    def values(
        self,
        *,
        prefix: Key | None = None,
        start: Key | None = None,
        stop: Key | None = None,
        include_start: bool = True,
        include_stop: bool = False,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Values:
        """The values of all or of a range, in the order of their keys."""
        return Values(
            self, _bounds(prefix, start, stop, include_start, include_stop), reverse, limit
        )

    def items(
        self,
        *,
        prefix: Key | None = None,
        start: Key | None = None,
        stop: Key | None = None,
        include_start: bool = True,
        include_stop: bool = False,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Items:
        """The pairs of all or of a range, in the order of their keys."""
        return Items(
            self, _bounds(prefix, start, stop, include_start, include_stop), reverse, limit
        )

    def __iter__(self) -> Iterator[Any]:
        return _scan.scan(self, _scan.SHOW["keys"])

    def __reversed__(self) -> Iterator[Any]:
        return _scan.scan(self, _scan.SHOW["keys"], reverse=True)

    def cursor(self) -> _scan.Cursor:
        """A place among the keys that moves; the methods of pmkv._scan.Cursor say how."""
        return _scan.Cursor(self)

    def key_at(self, i: int) -> Any:
        """The key that `i` others are smaller than, -1 for the last, without walking."""
        return _scan.key_at(self, i)

    def sample(self, n: int) -> list[Any]:
        """`n` different keys at random, or all if there are fewer.

        Without walking; where keys have no order, it takes a walk over all of them.
        """
        if n < 0:
            raise ValueError(f"sample({n}): how many keys must not be negative")
        if not self._is_ordered():
            return _chosen(iter(self), n)
        while True:
            entries = len(self)
            indexes = random.sample(range(entries), min(n, entries))
            with contextlib.suppress(IndexError):  # expired or deleted meanwhile
                return [self.key_at(index) for index in indexes]

    def put_array(self, key: Key, a: Any, *, ttl: float | datetime.timedelta | None = None) -> None:
        """Stores `a`, a NumPy array, or what NumPy makes one of: dtype, shape, order and data.

        Its data lie from a page's start on, if they are larger than a page. Raises ValueTypeError
        for an array of Python objects.
        """
        self._put_until(key, _arrays.stored(a), self._expiry_after(ttl))

    def array(self, key: Key, *, writable: bool = False) -> numpy.ndarray[Any, Any]:
        """The array of put_array() on the pool's own memory, without a copy; it cannot be written.

        It is valid and unchanged for as long as it is held, as a view is. writable=True: one that
        can, whose pages are copied as they are written to; the pool does not change.
        Raises NotFoundError, CorruptedError, InvalidValueError for what is not an array.
        """
        value = self.view(key)
        if not writable:
            return _arrays.read(value, key)
        return _arrays.writable(value, key, _private.private(self, value, value))

    def _some_keys(self, most: int) -> list[Any]:
        """Keys from all over the mapping, or the first ones of one without order."""
        if self._is_ordered():
            return self.sample(most)
        return list(itertools.islice(self, most))

    def setdefault(self, key: Key, default: Any = ...) -> Any:
        """The value of the key; a missing one is stored first, as None or, of bytes, b""."""
        if default is ...:
            default = b"" if _objects.name_of(self._values_option()) == "bytes" else None
        missing = object()
        while True:
            found: Any = self.get(key, missing)
            if found is not missing:
                return found
            self.add(key, default)

    def update(self, other: Any = (), /, **more: Value) -> None:
        """Stores all pairs in one commit, as dict.update()."""
        pairs: list[tuple[Key, Value]]
        if hasattr(other, "keys"):
            pairs = [(key, other[key]) for key in other.keys()]  # noqa: SIM118 - as dict.update
        else:
            pairs = list(other)
        pairs.extend(more.items())
        self.put_many(pairs)

    def __ior__(self, other: Pairs) -> Self:
        self.update(other)
        return self

    def _key_as_given(self, key: Any) -> Any:
        """The key as this mapping returns it."""
        raw = key.encode() if isinstance(key, str) else bytes(key)
        return raw.decode() if self._keys_are_str() else raw
