from typing import Final

# (structure, field, offset, size of one, count, meaning)
FIELDS: Final[list[tuple[str, str, int, int, int, str]]]
SIZES: Final[dict[str, int]]

# (name, value, meaning)
PAGE_KINDS: Final[list[tuple[str, int, str]]]
RECORD_FLAGS: Final[list[tuple[str, int, str]]]
ENTRY_FLAGS: Final[list[tuple[str, int, str]]]
NAMESPACE_OPTIONS: Final[list[tuple[str, int, str]]]

CONSTANTS: Final[dict[str, int]]

def hash64(seed0: int, seed1: int, data: bytes) -> int: ...
def crc32c(data: bytes) -> int: ...
def crc32c_by_table(data: bytes) -> int: ...
def seal(payload: int) -> int: ...
def is_sealed(word: int) -> bool: ...
