"""Values that are objects: what makes bytes of them, and objects of bytes.

The pool says of each namespace which serializer its values are made with. msgpack takes, besides
its own types: datetime, date, time, timedelta, tuple, set, frozenset, integers of any size, complex
numbers, Decimal, UUID, and NumPy arrays and scalars where NumPy is installed.
"""

from __future__ import annotations

import datetime
import decimal
import pickle
import uuid
import warnings
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

import msgpack  # type: ignore[import-untyped]

from pmkv._errors import Error, ValueTypeError

# Bits of a namespace's options (docs/format.md, section 5).
BYTES: Final = 0
MSGPACK: Final = 4
PICKLE: Final = 8
SERIALIZED: Final = 16


class Dumps(Protocol):
    """A serializer of the user's own: json, marshal, or any object with these two."""

    def dumps(self, value: Any, /) -> Any:
        """The value as bytes, or as str, which is stored as UTF-8."""

    def loads(self, data: bytes, /) -> Any:
        """The value again."""


class Serializer(NamedTuple):
    """What a table needs to know of its values; None: they are bytes."""

    option: int
    name: str
    dumps: Callable[[Any], Any] | None
    loads: Callable[[bytes], Any] | None


# ---- msgpack ------------------------------------------------------------------------------------

# Numbers of extension types: part of what is stored.
_TUPLE, _SET, _FROZENSET, _INTEGER, _DATETIME, _DATE, _TIME, _TIMEDELTA = range(1, 9)
_COMPLEX, _DECIMAL, _UUID, _ARRAY, _SCALAR = range(9, 14)


def _is_array(value: Any) -> bool:
    kind = type(value)
    return kind.__module__ == "numpy" and hasattr(value, "dtype") and hasattr(value, "tobytes")


def describe(array: Any) -> list[Any]:
    """dtype, shape and order of a NumPy array, as they are stored; the first as in .npy files."""
    from numpy.lib.format import descr_to_dtype, dtype_to_descr

    if array.dtype.hasobject:
        raise ValueTypeError("an array of Python objects cannot be stored; give it another dtype")
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the description is not all of it: judged below
        dtype = dtype_to_descr(array.dtype)
        if descr_to_dtype(dtype) != array.dtype:
            raise ValueTypeError(f"an array of dtype {array.dtype} cannot be stored")
    return [dtype, array.shape, order]


def _array_fields(value: Any) -> list[Any]:
    fields = describe(value)
    return [*fields, value.tobytes(fields[2])]


def _extension(value: Any) -> Any:
    """What msgpack does not know by itself."""
    kind = type(value)
    if kind in _AS_PARTS:
        number, parts = _AS_PARTS[kind]
        return msgpack.ExtType(number, pack(parts(value)))
    if _is_array(value):
        number = _ARRAY if value.ndim else _SCALAR
        return msgpack.ExtType(number, pack(_array_fields(value)))
    plain: Any
    for plain in (int, float, str, bytes, dict, list, tuple, set, frozenset):
        if isinstance(value, plain):  # a subclass: it comes back as what it is derived from
            made = plain(value)
            fits = plain is not int or -(1 << 63) <= made < 1 << 64
            return made if fits and plain not in (tuple, set, frozenset) else _extension(made)
    raise ValueTypeError(
        f"values='msgpack' cannot store {kind.__module__}.{kind.__qualname__}: {value!r:.60}"
    )


def _date_parts(value: Any) -> Any:
    return value.isoformat()


_AS_PARTS: Final[dict[type, tuple[int, Callable[[Any], Any]]]] = {
    tuple: (_TUPLE, list),
    set: (_SET, list),
    frozenset: (_FROZENSET, list),
    int: (_INTEGER, lambda n: n.to_bytes(n.bit_length() // 8 + 1, "big", signed=True)),
    datetime.datetime: (_DATETIME, lambda t: [t.isoformat(), t.fold]),
    datetime.date: (_DATE, _date_parts),
    datetime.time: (_TIME, lambda t: [t.isoformat(), t.fold]),
    datetime.timedelta: (_TIMEDELTA, lambda d: [d.days, d.seconds, d.microseconds]),
    complex: (_COMPLEX, lambda z: [z.real, z.imag]),
    decimal.Decimal: (_DECIMAL, str),
    uuid.UUID: (_UUID, lambda u: u.bytes),
}


def _array(fields: list[Any]) -> Any:
    try:
        import numpy
        import numpy.lib.format
    except ImportError:
        raise Error("it is a NumPy array, and NumPy is not installed") from None
    dtype, shape, order, data = fields
    found = numpy.empty(shape, dtype=numpy.lib.format.descr_to_dtype(dtype), order=order)
    if found.nbytes != len(data):
        raise Error("it is an array of another size than it says")
    if data:
        numpy.ravel(found, "K").view(numpy.uint8)[:] = numpy.frombuffer(data, numpy.uint8)
    return found


_FROM_PARTS: Final[dict[int, Callable[[Any], Any]]] = {
    _TUPLE: tuple,
    _SET: set,
    _FROZENSET: frozenset,
    _INTEGER: lambda data: int.from_bytes(data, "big", signed=True),
    _DATETIME: lambda p: datetime.datetime.fromisoformat(p[0]).replace(fold=p[1]),
    _DATE: datetime.date.fromisoformat,
    _TIME: lambda p: datetime.time.fromisoformat(p[0]).replace(fold=p[1]),
    _TIMEDELTA: lambda p: datetime.timedelta(*p),
    _COMPLEX: lambda p: complex(*p),
    _DECIMAL: decimal.Decimal,
    _UUID: lambda data: uuid.UUID(bytes=data),
    _ARRAY: _array,
    _SCALAR: lambda fields: _array(fields)[()],
}


def _object(number: int, data: bytes) -> Any:
    if number not in _FROM_PARTS:
        raise Error(f"a part of it is of a type that this pmkv does not know (number {number})")
    return _FROM_PARTS[number](unpack(data))


def pack(value: Any) -> bytes:
    """The object as msgpack."""
    try:
        packed = msgpack.packb(value, default=_extension, strict_types=True, use_bin_type=True)
    except RecursionError:
        raise ValueTypeError("values='msgpack' cannot store what contains itself") from None
    except (ValueError, OverflowError) as error:
        if isinstance(error, Error):
            raise
        raise ValueTypeError(f"values='msgpack' cannot store this value: {error}") from error
    return bytes(packed)


def unpack(data: bytes) -> Any:
    """The object again."""
    return msgpack.unpackb(data, ext_hook=_object, raw=False, strict_map_key=False)


# ---- which --------------------------------------------------------------------------------------

_PLAIN: Final = Serializer(BYTES, "bytes", None, None)
_MSGPACK: Final = Serializer(MSGPACK, "msgpack", pack, unpack)
_PICKLE: Final = Serializer(PICKLE, "pickle", pickle.dumps, pickle.loads)
_NAMED: Final = {"bytes": _PLAIN, "msgpack": _MSGPACK, "pickle": _PICKLE}


def serializer(values: Any) -> Serializer:
    """What `values=` asks for: a name, or an object with dumps and loads."""
    if isinstance(values, Serializer):
        return values
    if isinstance(values, str) and values in _NAMED:
        return _NAMED[values]
    dumps, loads = getattr(values, "dumps", None), getattr(values, "loads", None)
    if not callable(dumps) or not callable(loads):
        raise ValueError(
            "values is 'bytes', 'msgpack', 'pickle' or an object with dumps and loads, "
            f"not {values!r:.60}"
        )
    if values is pickle:
        return _PICKLE
    return Serializer(SERIALIZED, "serialized", dumps, loads)


def name_of(stored: int) -> str:
    """What a namespace's options say of its values."""
    for known in _NAMED.values():
        if known.option == stored & (MSGPACK | PICKLE | SERIALIZED):
            return known.name
    return "serialized"


def agreed(stored: int, asked: Any, where: str) -> Serializer:
    """The serializer of a namespace with the options `stored`, where `asked` was for (or None).

    Pickle runs code of whoever wrote the pool: only who asks for it by name gets it.
    """
    name = name_of(stored)
    if asked is not None:
        wanted = serializer(asked)
        if wanted.option == stored & (MSGPACK | PICKLE | SERIALIZED):
            return wanted
        raise Error(f"{where}: its values are {name}, not {wanted.name}")
    if name == "pickle":
        raise Error(
            f"{where}: its values are pickled, and pickle runs what is in them; "
            "if you trust whoever wrote it, say values='pickle'"
        )
    if name == "serialized":
        raise Error(f"{where}: its values were made by a serializer; give it again: values=...")
    return _NAMED[name]
