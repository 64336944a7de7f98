from typing_extensions import disjoint_base

@disjoint_base
class Until(bytes):
    expiry: int
    coding: int

def until(value: bytes, expiry: int, coding: int = 0) -> bytes: ...
def model_print(model: dict[bytes | tuple[bytes, bytes], bytes]) -> int: ...
