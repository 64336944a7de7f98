from typing import Self, final

from typing_extensions import disjoint_base

from pmkv._descriptor import Descriptor

def probe_sync(fd: int) -> bool: ...
def can_flush() -> str: ...

@disjoint_base
class Engine:
    def __new__(cls, *args: object, **kwargs: object) -> Self: ...
    @property
    def path(self) -> str: ...
    def set_medium(
        self,
        path: str,
        fd: int,
        domain: int,
        synchronous: bool,
        writable: bool,
        device_size: int,
        max_size: int | None,
        reserve_size: int,
    ) -> None: ...
    def create(
        self,
        uuid: bytes,
        seed: bytes,
        creator: bytes,
        created_ns: int,
        header_size: int,
        ring_size: int,
        section_pages: int,
        initial_pages: int,
        options: int,
    ) -> None: ...
    def attach(self, file_size: int) -> None: ...
    def close(self) -> bool: ...
    def leave_to_views(self, file: Descriptor) -> bool: ...
    def detach(self) -> None: ...
    def forked(self) -> None: ...

@final
class Moment:
    def __new__(cls, *args: object, **kwargs: object) -> Self: ...
