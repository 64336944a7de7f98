"""_sweep.pxd (L5): takes away what has expired."""
from pmkv._core cimport u64
from pmkv._writeset cimport Txn

cdef int sweep(Txn* t, u64 now, u64 most, u64* swept, u64* next_time) noexcept nogil
