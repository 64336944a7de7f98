"""_mapmove.pxd (L3): leaves and nodes of the mapping, moved and joined."""
from pmkv._core cimport u64
from pmkv._mapping cimport Cursor
from pmkv._records cimport Tally
from pmkv._writeset cimport Txn

cdef int mapping_tidy(Txn* t, u64 root_place, Cursor* cursor, Tally* tally) noexcept nogil
