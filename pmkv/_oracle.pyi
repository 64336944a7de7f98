from typing_extensions import disjoint_base

@disjoint_base
class Until(bytes):
    expiry: int

@disjoint_base
class Coded(Until):
    coding: int

def coded(value: bytes, coding: int, expiry: int = 0) -> Coded: ...
def coding_of(value: bytes) -> int: ...
def until(value: bytes, expiry: int) -> bytes: ...
def model_print(model: dict[bytes | tuple[bytes, bytes], bytes]) -> int: ...
