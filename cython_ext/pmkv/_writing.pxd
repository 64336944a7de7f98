"""_writing.pxd (L6): how a table is written."""
from cython cimport final
from pmkv._arguments cimport Batch, Bytes
from pmkv._core cimport u64
from pmkv._reading cimport Reader
from pmkv._transaction cimport Item, PutMode

cdef class Writer(Reader):
    cdef bint lazy                # what is written may wait in the buffer

    @final
    cdef int begin(self, bint quick) except -1
    @final
    cdef int take_turn(self, bint quick) except -1
    @final
    cdef int wait_until_clean(self, bint quick) except -1
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
    cdef int store(self, object key, object value, u64 coding, PutMode mode, u64 expiry) except -100
    @final
    cdef int put_one(self, const Item* item, PutMode mode) noexcept
    @final
    cdef int delete_one(self, const Bytes* k) noexcept
    @final
    cdef int erase(self, object key) except -100
    @final
    cdef int erase_now(self, object key) except -100
    @final
    cdef int erase_for_room(self, object key) except -100
    @final
    cdef int put_batch(self, Batch batch) noexcept
    @final
    cdef bint drain_for_room(self) noexcept
    @final
    cdef int delete_batch(self, Batch batch, u64 first, u64 count, u64* deleted) noexcept
    @final
    cdef object packed(self, object value)
    cdef object dumped(self, object value)
    @final
    cdef object encoded(self, object key, object data, object encoder, u64* coding)
    @final
    cdef int put_value(self, object key, object data, PutMode mode, u64 expiry, object encoder,
                       bint lazily) except -100
    @final
    cdef int put_lazily(self, object key, object data, PutMode mode, u64 expiry, object encoder) except -100
    @final
    cdef int erase_lazily(self, object key) except -100
    @final
    cdef bint put_all_lazily(self, list keys, list values, object encoder) except -1
    @final
    cdef int make_ready(self, u64 size, bint deletes) except -1
    @final
    cdef bint has_room(self, u64 size, bint deletes) noexcept
    @final
    cdef int make_room(self, u64 size, bint deletes) except -1
    @final
    cdef bint has_place(self) except -1
    @final
    cdef int make_place(self) except -1
    @final
    cdef bint has(self, bytes key) except -1
    @final
    cdef int note_dirty(self) except -1
