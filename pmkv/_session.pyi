from types import TracebackType
from typing import Self

from typing_extensions import disjoint_base

from pmkv._table import Table

@disjoint_base
class Session(Table):
    def __new__(cls, table: Table, *args: object, **kwargs: object) -> Self: ...
    @property
    def closed(self) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def commit(self) -> None: ...
    def abort(self) -> None: ...
