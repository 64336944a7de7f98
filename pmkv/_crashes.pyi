from typing import Final, Self

from typing_extensions import disjoint_base

SITES: Final[list[str]]
SITE_TYPES: Final[dict[str, str]]

class SimulationFailure(AssertionError): ...

@disjoint_base
class Crashes:
    def __new__(
        cls,
        *,
        page_domain: bool = False,
        mutant: str | None = None,
        seed: float | str | bytes | bytearray | None = 0,
        header_size: int = 32768,
        ring_size: int = 8192,
        section_pages: int = 64,
        initial_pages: int = 8,
        capacity_pages: int = 512,
        exhaust: int = 256,
        samples: int = 32,
        deeper: int = 16,
    ) -> Self: ...
    @property
    def model(self) -> dict[bytes | tuple[bytes, bytes], bytes]: ...
    @property
    def states(self) -> dict[int, int]: ...
    @property
    def counts(self) -> dict[str, int]: ...
    @property
    def file_pages(self) -> int: ...
    @property
    def mutant_hits(self) -> int: ...
    def close(self) -> None: ...
