"""_table.pxd (L6): a namespace as Python sees it."""
from cython cimport final
from pmkv._arguments cimport Batch, Bytes
from pmkv._core cimport u64
from pmkv._mapping cimport Cursor
from pmkv._writing cimport Writer

cdef class Table(Writer):
    cdef u64 pop_prefix           # popitem goes on from here

    @final
    cdef list next_keys(self, Cursor* walk, Py_ssize_t most)
    @final
    cdef object encoder_for(self, object codec)
    @final
    cdef bint is_lazy(self, object durability) except -1
    @final
    cdef object exchange(self, object key, object value, object default)
    @final
    cdef object take(self, object key, object value, u64 coding, bint seen, u64* old_coding)
    @final
    cdef object stored_now(self, object key, u64* coding)
    @final
    cdef object number_of(self, object key, object data)
    @final
    cdef int touch_one(self, const Bytes* k, u64 expiry) noexcept
    @final
    cdef int swap(self, object key, object expected, u64 expected_coding, object new, u64 new_coding,
                  bint keeps_time) except -1
    @final
    cdef int take_pair(self, object pair, Batch batch, list keys, list values) except -1
    @final
    cdef u64 delete_these(self, list wanted, bint expired_too) except? 0
