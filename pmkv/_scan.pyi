from collections.abc import Iterator
from typing import Any, Final, Literal, Self, final

from typing_extensions import disjoint_base

from pmkv._reading import Reader
from pmkv._types import Key
from pmkv._unordered import Unordered

SHOW: Final[dict[Literal["keys", "values", "items"], int]]

def scan(
    table: Reader,
    shows: int,
    *,
    prefix: Key | None = None,
    start: Key | None = None,
    stop: Key | None = None,
    include_start: bool = True,
    include_stop: bool = False,
    reverse: bool = False,
    limit: int | None = None,
) -> Scan | Unordered: ...
def count(
    table: Reader,
    *,
    prefix: Key | None = None,
    start: Key | None = None,
    stop: Key | None = None,
    include_start: bool = True,
    include_stop: bool = False,
) -> int: ...
def key_at(table: Reader, index: int) -> Any: ...
def is_within(
    key: Key,
    *,
    prefix: Key | None = None,
    start: Key | None = None,
    stop: Key | None = None,
    include_start: bool = True,
    include_stop: bool = False,
) -> bool: ...

@final
class Range:
    def __new__(cls, *args: object, **kwargs: object) -> Self: ...

@final
class Scan:
    def __new__(cls, *args: object, **kwargs: object) -> Self: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...

@disjoint_base
class Cursor:
    def __new__(cls, table: Reader) -> Self: ...
    def first(self) -> bool: ...
    def last(self) -> bool: ...
    def next(self) -> bool: ...
    def prev(self) -> bool: ...
    def set_key(self, key: Key) -> bool: ...
    def set_range(self, key: Key) -> bool: ...
    def key(self) -> Any: ...
    def value(self) -> Any: ...
    def item(self) -> tuple[Any, Any] | None: ...
    def __iter__(self) -> Iterator[tuple[Any, Any]]: ...
