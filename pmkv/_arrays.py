"""NumPy arrays as values: stored as they lie in memory, and read where they lie in the pool.

    value   | data | description | its size 4 | MARK 8 |

The data lie from a page's start on, if the value is larger than a page. The description is msgpack:
dtype, shape, and "C" or "F" for the order of the data.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from pmkv._errors import Error, InvalidValueError, ValueTypeError
from pmkv._objects import describe, pack, unpack

if TYPE_CHECKING:
    import numpy

MARK: Final = b"pmkv-nd\1"
_END: Final = struct.Struct("<I8s")


def _numpy() -> Any:
    try:
        import numpy
        import numpy.lib.format
    except ImportError:
        raise Error("arrays need NumPy: pip install numpy") from None
    return numpy


def stored(array: Any) -> bytes:
    """The value that is stored of an array, or of what NumPy makes one of."""
    numpy = _numpy()
    if isinstance(array, numpy.ma.MaskedArray):
        raise ValueTypeError("the mask of an array cannot be stored; fill it first, or store both")
    array = numpy.asarray(array)
    fields = describe(array)
    description = pack(fields)
    data = array.ravel(fields[2]).view(numpy.uint8).data if array.nbytes else b""
    return b"".join((data, description, _END.pack(len(description), MARK)))


def _described(value: memoryview, key: Any) -> tuple[Any, tuple[int, ...], str, int]:
    """dtype, shape, order, and how many bytes of data there are."""
    numpy = _numpy()
    size, mark = _END.unpack(value[-_END.size :]) if len(value) >= _END.size else (0, b"")
    end = len(value) - _END.size - size
    if mark != MARK or end < 0:
        raise InvalidValueError(f"the value of key {key!r:.60} is not an array of put_array()")
    try:
        given, shape, order = unpack(bytes(value[end : end + size]))
        dtype = numpy.lib.format.descr_to_dtype(given)
        fits = numpy.prod(shape, dtype=object) * dtype.itemsize == end
    except Exception as error:  # NumPy and msgpack have many ways to refuse a crafted one
        raise InvalidValueError(f"the array of key {key!r:.60} cannot be read: {error}") from error
    if not fits or order not in ("C", "F") or dtype.hasobject or min(shape, default=0) < 0:
        raise InvalidValueError(f"the array of key {key!r:.60} is not what its description says")
    return dtype, shape, order, end


def read(value: memoryview, key: Any) -> numpy.ndarray[Any, Any]:
    """The array on the bytes of a view, which it keeps alive."""
    dtype, shape, order, end = _described(value, key)
    found = _made(value[:end], dtype, shape, order)
    found.flags.writeable = False  # also one without data
    return found


def _made(data: Any, dtype: Any, shape: Any, order: Any) -> numpy.ndarray[Any, Any]:
    found = _numpy().frombuffer(data, dtype=dtype) if len(data) else _numpy().empty(0, dtype=dtype)
    return found.reshape(shape, order=order)  # type: ignore[no-any-return]


def writable(value: memoryview, key: Any, private: Any) -> numpy.ndarray[Any, Any]:
    """A writable array: on private pages, each copied when it is first written to.

    `private`: these pages; None: the value is small, and copied at once.
    """
    if private is None:
        return read(value, key).copy(order="K")
    dtype, shape, order, end = _described(value, key)
    return _made(memoryview(private)[:end], dtype, shape, order)
