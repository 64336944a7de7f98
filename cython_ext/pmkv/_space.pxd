"""_space.pxd (L4): what is retired, what is pinned, and what becomes free with a commit."""
from libc.stdint cimport uint32_t
from pmkv._core cimport u64
from pmkv._records cimport Record
from pmkv._versions cimport Moments
from pmkv._writeset cimport Txn

cdef struct Pin:
    u64 place                # 0: empty
    uint32_t count
    uint32_t retired

cdef struct Pins:
    Pin* pin
    size_t used
    size_t mask              # capacity - 1, or 0
    u64 ripe                 # entries of limbo whose pins are gone
    bint drain_all           # the next commit frees them however few they are
    Moments moments          # what is read as it was

cdef int pins_add(Pins* pins, u64 place) noexcept nogil
cdef void pins_drop(Pins* pins, u64 place) noexcept nogil
cdef void pins_free(Pins* pins) noexcept nogil
cdef bint pins_hold(const Pins* pins, u64 place) noexcept nogil
cdef int space_moved(Txn* t, u64 place, bint keeps_extent) noexcept nogil
cdef int space_retire(Txn* t, const Record* r, bint by_hash) noexcept nogil
cdef int space_collect(Txn* t, Pins* pins, u64 most) noexcept nogil
cdef int space_commit(Txn* t, Pins* pins) noexcept nogil
cdef u64 space_due(Pins* pins) noexcept nogil
