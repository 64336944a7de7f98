"""_expiry.pxd (L4): which records expire, and when."""
from pmkv._core cimport PMKV_RECORD_EXPIRY, ROOT_EXPIRY, SEAL_MASK, u64
from pmkv._keytree cimport TreeCursor
from pmkv._pool cimport Pool
from pmkv._records cimport Record
from pmkv._treenode cimport Parts, tree_word
from pmkv._writeset cimport Txn

cdef enum:
    EXPIRY_KEY = 15              # bytes of a key of the tree

cdef u64 TIME_MAX                # the last time that a word can say, in the year 4253

# An entry of the tree.
cdef struct Due:
    u64 time
    u64 namespace_id
    u64 place

cdef u64 clock_now() noexcept nogil

cdef inline bint anything_expires(Pool* p, Txn* t) noexcept nogil:
    return tree_word(p, t, ROOT_EXPIRY) & SEAL_MASK != 0

cdef int expiry_of(Pool* p, Txn* t, const Record* r, u64* time) noexcept nogil

cdef inline int expiry_is_past(Pool* p, Txn* t, const Record* r, u64 now, bint* past) noexcept nogil:
    """Whether the record has expired by then; only a record with the flag costs anything."""
    past[0] = False
    return expiry_compare(p, t, r, now, past) if r.flags & PMKV_RECORD_EXPIRY else 0

cdef int expiry_compare(Pool* p, Txn* t, const Record* r, u64 now, bint* past) noexcept nogil
cdef int expiry_add(Txn* t, u64 time, u64 namespace_id, u64 place) noexcept nogil
cdef int expiry_forget(Txn* t, const Record* r) noexcept nogil
cdef int expiry_change(Txn* t, const Record* r, u64 time) noexcept nogil
cdef int expiry_first(Pool* p, Txn* t, TreeCursor* cursor) noexcept nogil
cdef int expiry_next(Pool* p, Txn* t, TreeCursor* cursor, Due* due) noexcept nogil
cdef bint expiry_is_sound(Pool* p, const Parts* key) noexcept nogil
