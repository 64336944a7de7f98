"""_redo.pxd (L1): the redo ring: commit, checkpoint, replay."""
from pmkv._core cimport u64
from pmkv._pool cimport Pool
from pmkv._writeset cimport Txn

cdef int redo_commit(Txn* t, u64 spare_place, u64 spare_size) noexcept nogil
cdef u64 redo_indirect_size(const Txn* t) noexcept nogil
cdef int redo_checkpoint(Pool* p) noexcept nogil
cdef int redo_replay(Pool* p, u64* replayed) noexcept nogil
