"""_codings.pxd (L4): how many values are coded in which way."""
from pmkv._core cimport u64
from pmkv._pool cimport Pool
from pmkv._records cimport Record
from pmkv._writeset cimport Txn

# What the pool's root counts of one way.
cdef struct CodingCount:
    u64 stages               # in the order in which they were applied, from the lowest byte; 0: not in use
    u64 entries
    u64 raw_bytes
    u64 stored_bytes

cdef void coding_read(const Pool* p, u64 slot, CodingCount* found) noexcept nogil
cdef int coding_add(Txn* t, u64 coding, u64 value_size) noexcept nogil
cdef int coding_forget(Txn* t, const Record* r) noexcept nogil
