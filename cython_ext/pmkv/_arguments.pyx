"""_arguments.pyx (L6): keys and values as Python gives them: bytes, where they lie, or a clear error.

May know: the errors of the package, limits of the format.  Not the pool.
"""
from cython cimport final
from cpython.buffer cimport PyBUF_SIMPLE, PyObject_CheckBuffer, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_CheckExact
from libc.stdlib cimport calloc, free
from pmkv._core cimport MAX_KEY_SIZE, MAX_VALUE_SIZE, u64
from pmkv._expiry cimport clock_now
from pmkv._transaction cimport Item

from datetime import timedelta

from pmkv._errors import InvalidKeyError, InvalidValueError, KeyTypeError, NotFoundError, ValueTypeError

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object unicode, Py_ssize_t* size) except NULL


cdef enum:
    DIGITS = 4001                 # of a number that counts, and its sign: int() itself ends at 4,300


cdef int read_other(object given, Bytes* b, bint is_key) except -1:
    """read_bytes() of what is not exactly bytes."""
    cdef Py_ssize_t size
    if isinstance(given, str):
        try:
            b.data = PyUnicode_AsUTF8AndSize(given, &size)
        except UnicodeEncodeError as error:
            raise (InvalidKeyError if is_key else InvalidValueError)(f"not text that UTF-8 can hold: {error}") from None
        b.size = size
    elif PyObject_CheckBuffer(given):
        try:
            PyObject_GetBuffer(given, &b.buffer, PyBUF_SIMPLE)
        except (BufferError, ValueError) as error:    # NumPy's refusal is a ValueError, and a released view's
            raise (KeyTypeError if is_key else ValueTypeError)(f"a buffer must be contiguous: {error}") from None
        b.data = <const char*>b.buffer.buf
        b.size = b.buffer.len
        b.held = True
    else:
        refuse_type(given, is_key)
    return 0


cdef bytes as_bytes(object given, bint is_key):
    """A key or value as a bytes object, the same if it is one."""
    cdef Bytes b
    read_bytes(given, &b, is_key)
    try:
        return given if PyBytes_CheckExact(given) else b.data[:b.size]
    finally:
        release(&b)


cdef int refuse_type(object given, bint is_key) except -1:
    name = type(given).__name__
    if is_key:
        raise KeyTypeError(f"a key must be bytes-like or str, not {name}")
    raise ValueTypeError(f"a value must be bytes-like or str, not {name}; encode it first, for instance with msgpack")


cdef int refuse_size(u64 size, bint is_key) except -1:
    if is_key:
        raise InvalidKeyError(f"a key of {human(size)} ({size:,} bytes) is longer than the limit of "
                              f"{human(MAX_KEY_SIZE)}; use its hash as the key and put the long text into the value")
    raise InvalidValueError(f"a value of {human(size)} ({size:,} bytes) is larger than the limit of "
                            f"{human(MAX_VALUE_SIZE)}; divide it over several keys")


cdef int need_text(object key) except -1:
    """In a store whose keys are text, a key given as bytes must be UTF-8 too, or it could not be returned."""
    if not isinstance(key, str):
        try:
            bytes(key).decode()
        except UnicodeDecodeError as error:
            raise InvalidKeyError(f"the keys of this store are text, and these bytes are not UTF-8: {error}") from None
        except TypeError:
            refuse_type(key, True)
    return 0


cdef u64 expiry_after(object ttl) except? 0:
    """When something expires that is to live so long, seconds or a timedelta; 0: never, for None."""
    if ttl is None:
        return 0
    try:
        if isinstance(ttl, (str, bytes, bytearray)):   # float() would read them
            raise TypeError
        seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else float(ttl)
    except (TypeError, ValueError, OverflowError):
        raise ValueTypeError(f"ttl is in seconds or a timedelta, not {type(ttl).__name__} {ttl!r:.60}") from None
    if not seconds > 0:
        raise InvalidValueError(f"ttl={ttl!r:.60}: a time to live is more than 0 seconds; None is for ever")
    return clock_now() + max(1, <u64>(min(seconds, 7e10) * 1e6))


cdef bint is_number(const char* text, u64 size) noexcept:
    """Decimal digits, perhaps after a sign."""
    cdef u64 i, first = 1 if size and (text[0] == b"-" or text[0] == b"+") else 0
    for i in range(first, size):
        if not b"0" <= text[i] <= b"9":
            return False
    return first < size <= DIGITS


cdef int refuse_number(object key, bint missing) except -1:
    if missing:
        raise NotFoundError(key)
    raise InvalidValueError("incr() and decr() need a number as decimal text of up to 4,000 digits, and make one; "
                            f"that of key {key!r:.60} is not, or would not be")


def human(size):
    """A size in bytes with a unit: 1536 -> '1.5 KiB'."""
    size = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


cdef list list_of(object keys, str name):
    if isinstance(keys, (bytes, str, bytearray, memoryview)):
        raise KeyTypeError(f"{name} takes several keys, in a list or another iterable, not one {type(keys).__name__}")
    return list(keys)


@final
cdef class Batch:

    def __cinit__(self, u64 capacity, bint keys_are_str):
        self.items = <Item*>calloc(capacity + 1, sizeof(Item))
        self.objects = []
        self.keys_are_str = keys_are_str
        if self.items == NULL:
            raise MemoryError

    cdef int keep(self, object given, bint is_key, const char** data, u64* size) except -1:
        cdef Bytes b
        if not PyBytes_CheckExact(given) and not isinstance(given, str) and PyObject_CheckBuffer(given):
            given = memoryview(given)     # kept in `objects`, it keeps the buffer exported
        read_bytes(given, &b, is_key)
        data[0], size[0] = b.data, b.size
        release(&b)
        self.objects.append(given)
        return 0

    cdef int append_key(self, object key) except -1:
        cdef Item* item = &self.items[self.count]
        self.keep(key, True, &item.key, &item.key_size)
        self.count += 1
        return 0

    cdef int append(self, object key, object value) except -1:
        cdef Item* item = &self.items[self.count]
        if self.keys_are_str:
            need_text(key)
        self.keep(value, False, &item.value, &item.value_size)
        item.may_change = not isinstance(value, (bytes, str))
        return self.append_key(key)

    cdef int append_stored(self, bytes key, u64 coding, bytes value, u64 expiry) except -1:
        """A pair whose value was encoded, or copied with its time of expiry."""
        cdef Item* item = &self.items[self.count]
        self.keep(value, False, &item.value, &item.value_size)
        item.coding, item.expiry = coding, expiry
        return self.append_key(key)

    cdef int append_encoded(self, list keys, list values, object encoder) except -1:
        """Pairs whose values go under a codec, or None.  Python code runs."""
        cdef Py_ssize_t i
        coded = [(0, value) for value in values] if encoder is None else encoder.encode_many(keys, values)
        for i in range(len(keys)):
            word, data = coded[i]
            self.append_stored(keys[i], word, data, 0)
        return 0

    def __dealloc__(self):
        free(self.items)
