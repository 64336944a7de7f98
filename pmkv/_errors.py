"""What can go wrong, as exceptions.

Every one is a `pmkv.Error`; where the standard library has an exception for the same
thing (`KeyError`, `ValueError`, `OSError` and its kinds) it is one of those too.
"""

from __future__ import annotations


class Error(Exception):
    """Base of all that pmkv raises by itself. Also `pmkv.error`."""


class NotFoundError(Error, KeyError):
    """No such key."""


class KeyExistsError(Error, KeyError):
    """The key is there, and was not to be overwritten."""


class ReadonlyError(Error):
    """A write through a handle, to a file or on a file system that only reads."""


class ClosedError(Error, ValueError):
    """A use of a store after `close()`, or in a child of the process that opened it."""


class CorruptedError(Error):
    """A checksum does not fit, or the file is not a pool, or not a whole one."""


class VersionMismatchError(Error):
    """The pool was made by a newer pmkv."""


class LockError(Error, BlockingIOError):
    """Another process, or another handle of this one, has the pool open. Names it."""


class InvalidKeyError(Error, ValueError):
    """A key that cannot be one."""


class InvalidValueError(Error, ValueError):
    """A value that cannot be one."""


class KeyTypeError(InvalidKeyError, TypeError):
    """A key of a wrong type."""


class ValueTypeError(InvalidValueError, TypeError):
    """A value of a wrong type."""


class PoolFullError(Error, OSError):
    """No room to grow: the file system is full, or `max_size` is reached. Nothing was lost."""


class MediaError(Error, OSError):
    """The medium has lost what it held."""


class CodecError(Error):
    """A value needs a codec that is not there, or fails under it."""


class PoolNotFoundError(Error, FileNotFoundError):
    """No pool at the path, and the flag does not ask to make one."""


class PoolExistsError(Error, FileExistsError):
    """There is a file already where a copy was to be made."""


class PoolPermissionError(ReadonlyError, PermissionError):
    """The file system does not let this process open the pool that way."""


class PoolIsADirectoryError(Error, IsADirectoryError):
    """The path is a directory."""


class PoolFileError(Error, OSError):
    """Another refusal of the operating system."""
