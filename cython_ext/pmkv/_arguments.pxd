"""_arguments.pxd (L6): keys and values as Python gives them."""
from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from pmkv._core cimport MAX_KEY_SIZE, MAX_VALUE_SIZE, u64
from pmkv._transaction cimport Item

# The bytes of a key or value, where they lie.
cdef struct Bytes:
    const char* data
    u64 size
    bint held
    Py_buffer buffer

cdef int read_other(object given, Bytes* b, bint is_key) except -1
cdef bytes as_bytes(object given, bint is_key)
cdef int refuse_size(u64 size, bint is_key) except -1
cdef int need_text(object key) except -1
cdef int refuse_number(object key, bint missing) except -1
cdef bint is_number(const char* text, u64 size) noexcept
cdef u64 expiry_after(object ttl) except? 0
cdef list list_of(object keys, str name)

cdef inline int read_bytes(object given, Bytes* b, bint is_key) except -1:
    """The bytes of a key or value, where they lie.  Undone by release()."""
    b.held = False
    if PyBytes_CheckExact(given):
        b.data = PyBytes_AS_STRING(given)
        b.size = PyBytes_GET_SIZE(given)
    else:
        read_other(given, b, is_key)
    if b.size > (MAX_KEY_SIZE if is_key else MAX_VALUE_SIZE):
        release(b)
        refuse_size(b.size, is_key)
    return 0

cdef inline void release(Bytes* b) noexcept:
    if b.held:
        PyBuffer_Release(&b.buffer)
        b.held = False

cdef class Batch:
    """Keys and values of a batch: pointers into the caller's objects, which it keeps alive."""
    cdef Item* items
    cdef list objects
    cdef readonly u64 count
    cdef bint keys_are_str

    cdef int keep(self, object given, bint is_key, const char** data, u64* size) except -1
    cdef int append_key(self, object key) except -1
    cdef int append(self, object key, object value) except -1
    cdef int append_encoded(self, list keys, list values, object encoder) except -1
    cdef int append_stored(self, bytes key, u64 coding, bytes value, u64 expiry) except -1
