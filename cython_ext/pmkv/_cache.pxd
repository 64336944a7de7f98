"""_cache.pxd (L6): a bounded cache of decoded values."""
from cpython.ref cimport PyObject
from libc.stdint cimport uint8_t, uint32_t
from pmkv._core cimport u64

# One entry: what identifies it, its value, and its place in a queue.  The key's bytes lie behind it.
cdef struct Node:
    PyObject* value
    u64 hash
    u64 namespace_id
    u64 commit
    Node* newer                   # the next of its queue
    uint32_t key_size
    uint8_t uses                  # since it came, or was last looked at: MOST_USES and no more

cdef struct Slot:
    u64 hash
    Node* node                    # NULL: free

# First in, first out.
cdef struct Queue:
    Node* oldest
    Node* newest
    u64 size                      # bytes of its entries: nodes and values

cdef class Cache:
    cdef Slot* slots              # open addressing
    cdef u64 slot_count           # a power of two; 0: no table yet
    cdef uint32_t* ghosts         # fingerprints, in buckets: the newest first; 0: none
    cdef Queue small
    cdef Queue main
    cdef u64 seed
    cdef readonly u64 capacity
    cdef readonly u64 held        # bytes: entries, the table and the ghosts
    cdef readonly u64 entries
    cdef readonly u64 hits
    cdef readonly u64 misses
    cdef readonly u64 evictions

    cdef bytes find(self, u64 namespace_id, u64 commit, u64 place, const char* key, u64 key_size)
    cdef int keep(self, u64 namespace_id, u64 commit, u64 place, const char* key, u64 key_size,
                  bytes value) except -1
    cpdef void clear(self) noexcept
    cdef Node* look_up(self, u64 hash, u64 namespace_id, u64 commit, const char* key, u64 key_size) noexcept
    cdef bint make_slot(self) noexcept
    cdef bint grow(self) noexcept
    cdef bint set_slot_count(self, u64 count) noexcept
    cdef void add(self, Node* node) noexcept
    cdef void evict(self) noexcept
    cdef void take_out(self, Node* node) noexcept
    cdef void remember(self, u64 hash) noexcept
    cdef bint recall(self, u64 hash) noexcept
