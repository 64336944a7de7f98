"""_treefill.pxd (L3): many keys into the order at once."""
from pmkv._core cimport u64
from pmkv._writeset cimport Txn

cdef enum:
    FILL_MAX = 1 << 14           # keys at once: so much memory, and no more

cdef struct TreeKey:
    const char* key
    u64 key_size

cdef int keytree_insert_all(Txn* t, u64 root_place, const TreeKey* keys, u64 count) noexcept nogil
