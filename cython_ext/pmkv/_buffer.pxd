"""_buffer.pxd (L6): what a program has written lazily, and is not in the pool yet."""
from cpython.pythread cimport PyThread_type_lock
from pmkv._core cimport u64

cdef class Dirty:
    cdef bytes value              # as the table made it bytes, before any codec; None: the key is deleted
    cdef object encoder           # what it is to be encoded with, or None
    cdef u64 expiry               # microseconds since 1970; 0: never
    cdef u64 size                 # what it counts as

cdef class Generation:
    cdef dict tables              # id of a namespace -> a table of it
    cdef dict values              # the same -> {key: Dirty}
    cdef u64 count
    cdef u64 held

cdef class Buffer:
    cdef Generation filling
    cdef Generation writing       # what a writeback is at, or None
    cdef readonly u64 count       # of both
    cdef readonly u64 held        # bytes of DRAM
    cdef readonly u64 capacity
    cdef object error             # what writing back has failed with, until someone has heard of it; or None
    cdef bint told                # someone knows that there is something to write back,
    cdef bint hurried             # and that it is time to
    cdef readonly u64 batches     # that were written back, and what was in them
    cdef readonly u64 written
    cdef readonly u64 written_bytes
    cdef PyThread_type_lock turn  # one writeback at a time
    cdef unsigned long owner      # the thread whose turn it is, or 0

    cdef Dirty find(self, u64 id, bytes key)
    cdef bint has_room(self, u64 size) noexcept
    cdef bint may_hold(self, u64 size) noexcept
    cdef bint has_reserve(self, u64 size) noexcept
    cdef bint wants_writeback(self) noexcept
    cdef bint take_turn(self) noexcept
    cdef void give_turn(self) noexcept
    cdef int forget_deletes(self, Generation generation) except -1
    cdef int forget_places(self) except -1
    cdef Generation freeze(self)
    cdef int thaw(self) except -1
    cdef void done(self) noexcept
    cpdef bint is_half_full(self) noexcept
    cdef int raise_error(self, bint deletes) except -1
    cdef void add(self, u64 count, u64 size) noexcept
    cdef int count_again(self) except -1
    cdef int prepare(self, u64 id, object table, dict values) except -1
    cdef object table_of(self, u64 id)
    cdef int keep(self, u64 id, bytes key, Dirty dirty) except -1
    cdef int keep_all(self, u64 id, dict news) except -1

cdef Dirty new_dirty(bytes key, bytes value, object encoder, u64 expiry)
