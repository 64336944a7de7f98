"""_format.pxd (L1): an empty pool is made."""
from pmkv._core cimport pmkv_superblock
from pmkv._pool cimport Geometry, Pool

cdef int pool_format(Pool* p, const Geometry* g, pmkv_superblock* superblock) noexcept nogil
