"""_treefill.pxd (L3): many keys into the order at once."""
from pmkv._core cimport u64
from pmkv._writeset cimport Txn

cdef struct TreeKey:
    u64 head                     # the first eight bytes as a number: they decide most comparisons
    const char* key
    u64 key_size

cdef int keytree_insert_all(Txn* t, u64 root_place, TreeKey* keys, u64 count) noexcept nogil
