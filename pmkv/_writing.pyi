from typing_extensions import disjoint_base

from pmkv._buffer import Buffer
from pmkv._reading import Reader

@disjoint_base
class Writer(Reader): ...

@disjoint_base
class Part: ...

def flush(buffer: Buffer, path: str) -> None: ...
