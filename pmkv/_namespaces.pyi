from typing import Final, Literal, Self

from typing_extensions import disjoint_base

from pmkv._table import Table

CODECS_NAME: Final[str]

@disjoint_base
class Named(Table):
    def __new__(
        cls,
        source: Table,
        name: str,
        *,
        keys: Literal["bytes", "str"] | None = None,
        ordered: bool | None = None,
        values: int = 0,
    ) -> Self: ...
    @property
    def name(self) -> str: ...
    @property
    def source(self) -> Table: ...

def names(source: Table) -> list[str]: ...
def totals(source: Table) -> tuple[list[tuple[bytes, int, int, int]], int, int]: ...
def has_codecs(source: Table) -> bool: ...
def drop(source: Table, name: str) -> None: ...
def finish_drops(source: Table) -> None: ...
