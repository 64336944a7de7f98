"""_table.pxd (L6): a namespace as Python sees it."""
from cython cimport final
from pmkv._arguments cimport Batch, Bytes
from pmkv._core cimport u64
from pmkv._mapping cimport Cursor
from pmkv._reading cimport Reader
from pmkv._transaction cimport Item, PutMode

cdef class Table(Reader):
    cdef u64 pop_prefix           # popitem goes on from here

    @final
    cdef list next_keys(self, Cursor* walk, Py_ssize_t most)
    @final
    cdef int begin(self, bint quick) except -1
    @final
    cdef void start(self) noexcept
    @final
    cdef int end(self, int status) except -1
    @final
    cdef int abandon(self) except -1
    @final
    cdef bint may_wait(self, u64 size) noexcept
    @final
    cdef int settle(self, int status) noexcept
    @final
    cdef int store(self, object key, object value, PutMode mode, u64 expiry) except -100
    @final
    cdef object packed(self, object value)
    @final
    cdef bint swap(self, object key, object expected, object new, bint keeps_time) except -1
    @final
    cdef int put_one(self, const Item* item, PutMode mode) noexcept
    @final
    cdef int delete_one(self, const Bytes* k) noexcept
    @final
    cdef int touch_one(self, const Bytes* k, u64 expiry) noexcept
    @final
    cdef int erase(self, object key) except -100
    @final
    cdef object exchange(self, object key, object value, object default)
    @final
    cdef int put_batch(self, Batch batch) noexcept
    @final
    cdef bint drain_for_room(self) noexcept
    @final
    cdef u64 delete_these(self, list wanted, bint expired_too) except? 0
    @final
    cdef int delete_batch(self, Batch batch, u64 first, u64 count, u64* deleted) noexcept
