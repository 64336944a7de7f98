"""_growth.pxd (L1): room in the file."""
from pmkv._core cimport ROOT_FRONTIER, SEAL_MASK, pmkv_load, u64
from pmkv._pool cimport Pool

cdef enum:
    PAGES_NEAR = 64              # a small write may need so many

cdef inline bint pool_may_grow(const Pool* p) noexcept nogil:
    """Whether a small write may find the file too short."""
    return (pmkv_load(&p.m, ROOT_FRONTIER) & SEAL_MASK) + PAGES_NEAR > p.file_pages

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
