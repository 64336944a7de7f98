from typing_extensions import disjoint_base

@disjoint_base
class Until(bytes):
    expiry: int

def until(value: bytes, expiry: int) -> bytes: ...
def model_print(model: dict[bytes | tuple[bytes, bytes], bytes]) -> int: ...
