from typing_extensions import disjoint_base

from pmkv._buffer import Generation
from pmkv._reading import Reader

@disjoint_base
class Writer(Reader): ...

@disjoint_base
class Part: ...

def write_back(generation: Generation) -> None: ...
