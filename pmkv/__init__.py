"""pmkv: an embedded key-value database on direct-access persistent memory.

A store is a mapping of bytes to bytes:

    import pmkv

    with pmkv.open("app.pmkv") as db:
        db[b"key"] = b"value"       # durable when the statement returns
        db[b"key"]                  # b"value"
"""

from pmkv._codec import register_codec
from pmkv._errors import (
    ClosedError,
    CodecError,
    CorruptedError,
    Error,
    InvalidKeyError,
    InvalidValueError,
    KeyExistsError,
    LockError,
    MediaError,
    NotFoundError,
    PoolFullError,
    ReadonlyError,
    VersionMismatchError,
)
from pmkv._handle import Namespace, Snapshot, Store, Transaction
from pmkv._open import open
from pmkv._session import Savepoint
from pmkv._types import Info, Memory, PathStat, Stat
from pmkv._version import __version__

error = Error

__all__ = [
    "ClosedError",
    "CodecError",
    "CorruptedError",
    "Error",
    "Info",
    "InvalidKeyError",
    "InvalidValueError",
    "KeyExistsError",
    "LockError",
    "MediaError",
    "Memory",
    "Namespace",
    "NotFoundError",
    "PathStat",
    "PoolFullError",
    "ReadonlyError",
    "Savepoint",
    "Snapshot",
    "Stat",
    "Store",
    "Transaction",
    "VersionMismatchError",
    "__version__",
    "error",
    "open",
    "register_codec",
]

for _name in set(__all__) - {"Savepoint", "__version__"}:  # the extension's own types keep theirs
    globals()[_name].__module__ = "pmkv"  # tracebacks and help() say the name to import
