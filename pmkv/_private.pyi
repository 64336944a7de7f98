from typing import Self, final

from pmkv._reading import Reader

def private(table: Reader, view: memoryview, holder: object) -> Private | None: ...

@final
class Private:
    def __new__(cls, *args: object, **kwargs: object) -> Self: ...
