"""_oracle.pxd: what a pool holds, as a number."""
from pmkv._core cimport u64
from pmkv._pool cimport Pool

cdef int pool_print(Pool* p, u64* fingerprint) noexcept nogil
