"""_treemove.pxd (L3): nodes of the ordered keys, moved."""
from pmkv._core cimport u64
from pmkv._records cimport Tally
from pmkv._writeset cimport Txn

cdef int keytree_tidy(Txn* t, u64 root_place, u64* rank, bint* ended, Tally* tally) noexcept nogil
