"""An open file that closes itself.

Ctrl-C may come between any two calls. A number that nobody has noted down yet would stay open, and
the pool locked; one that is noted down still, though it is closed, may be another file's by then.
"""

from __future__ import annotations

import fcntl
import os


class Descriptor:
    """An open file; `number` is -1 when it is closed. Whoever has it last closes it.

    One that is `adopted` is closed by its owner's finalizer. The collector runs those of a cycle in
    any order, and what the owner still does with the number must not meet another file.
    """

    number = -1  # of the class: Ctrl-C may come before anything else is there
    adopted = False

    def __init__(self, path: str, flags: int, mode: int = 0o777) -> None:
        self.number = os.open(path, flags | os.O_CLOEXEC, mode)

    def close(self) -> None:
        """Again does nothing. A lock on the file stays where a child of fork has it open."""
        number, self.number = self.number, -1
        if number >= 0:
            os.close(number)

    def unlock(self) -> None:
        """Closes it and gives the lock up, which a child's inherited mapping would keep."""
        number, self.number = self.number, -1
        if number >= 0:
            try:
                fcntl.flock(number, fcntl.LOCK_UN)
            finally:
                os.close(number)

    def __del__(self) -> None:
        if not self.adopted:
            self.close()
