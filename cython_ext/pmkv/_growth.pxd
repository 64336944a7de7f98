"""_growth.pxd (L1): room in the file."""
from pmkv._core cimport u64
from pmkv._pool cimport Pool

cdef int pool_grow(Pool* p, u64 pages) noexcept nogil
cdef bint pool_end_ahead(Pool* p) noexcept nogil
cdef void pool_take_ahead(Pool* p) noexcept nogil
cdef void pool_forget_ahead(Pool* p) noexcept nogil
cdef void pool_settle(Pool* p) noexcept nogil
cdef u64 pool_least_pages(const Pool* p, u64 pages) noexcept nogil
cdef u64 pool_file_size(const Pool* p) noexcept nogil
cdef int pool_shrink(Pool* p, u64 pages) noexcept nogil
cdef int file_allocate(Pool* p, u64 offset, u64 size) noexcept nogil
cdef int file_write_zeros(Pool* p, u64 offset, u64 size, size_t chunk) noexcept nogil
