"""_format.pyx (L1): an empty pool is made.

May know: the superblock, the root's first words, and the file.

Invariant
  The superblocks are written last, and one after the other: a crash before that leaves a file that is
  no pool, which opening refuses, or a device that holds none.
"""
from libc.errno cimport EDQUOT, ENOSPC
from libc.string cimport memset
from pmkv._core cimport *
from pmkv._growth cimport file_allocate, file_write_zeros, pool_grow
from pmkv._pool cimport (
    Geometry, Pool, descriptor_place, pool_make_durable, pool_map, pool_map_sections, pool_pages_within,
    pool_superblock_checksum,
)

cdef enum:
    PAGE = 4096                    # of zeros, on the stack


cdef void stream_zeros(Pool* p, u64 place, u64 size) noexcept nogil:
    cdef char zeros[PAGE]
    cdef u64 part
    memset(zeros, 0, sizeof(zeros))
    while size > 0:
        part = min(size, <u64>sizeof(zeros))
        pmkv_stream(&p.m, place, zeros, part, PMKV_FLUSH_FORMAT)
        place += part
        size -= part


cdef int blank_device(Pool* p) noexcept nogil:
    """A device is not new: an old pool's words would be taken for ours.  Its superblocks go first."""
    cdef int status = pool_map_sections(p, p.device_pages)
    if status != PMKV_OK:
        return status
    stream_zeros(p, 0, PAGE_SIZE)
    stream_zeros(p, p.header_size - PAGE_SIZE, PAGE_SIZE)
    status = pool_make_durable(p, 0, PAGE_SIZE)
    if status == PMKV_OK:
        stream_zeros(p, PAGE_SIZE, p.header_size - 2 * PAGE_SIZE)
        stream_zeros(p, descriptor_place(0), p.device_pages * 64)
        status = pool_make_durable(p, PAGE_SIZE, LINE_SIZE)
    return status


cdef int pool_format(Pool* p, const Geometry* g, pmkv_superblock* s) noexcept nogil:
    """Makes an empty pool of the open file: header and first pages, superblocks last.

    `s` carries uuid, seed, creator, created_ns and max_size; the rest is filled in.
    The pool is mapped afterwards.
    """
    cdef int status
    s.magic = PMKV_MAGIC
    s.version = PMKV_FORMAT_VERSION
    s.page_size = PAGE_SIZE
    s.header_size = p.header_size = g.header_size
    s.ring_size = p.ring_size = g.ring_size
    s.ring_place = p.ring_place = g.header_size - PAGE_SIZE - g.ring_size
    s.root_place = PAGE_SIZE
    s.section_pages = p.section_pages = g.section_pages
    s.sequence = 1
    s.checksum = pool_superblock_checksum(s)
    p.seed0 = s.seed[0]
    p.seed1 = s.seed[1]
    p.device_pages = pool_pages_within(p, p.device_size) if p.device_size else 0
    if p.device_pages == 0:
        status = file_allocate(p, 0, p.header_size)
        if status == PMKV_OK:
            # A page at a time: a folio is synced whole, and a commit syncs one short range (64 KiB
            # and more of header with each of them, where one write had made one large folio).
            status = file_write_zeros(p, 0, p.header_size, PAGE_SIZE)
        if status != PMKV_OK:
            return PMKV_FULL if status == PMKV_OS_ERROR and p.fault.os_error in (ENOSPC, EDQUOT) else status
    status = pool_map(p, 0, p.reserved_pages, p.synchronous)
    if status == PMKV_OK:
        status = pool_grow(p, g.initial_pages)
    if status != PMKV_OK:
        return status
    if p.device_pages:
        status = blank_device(p)
        if status != PMKV_OK:
            return status
    pmkv_store(&p.m, ROOT_CHECKPOINT, pmkv_seal(1))   # position 0 would read as no position
    pmkv_store(&p.m, ROOT_FRONTIER, pmkv_seal(1))     # page 0 would read as no page
    pmkv_store(&p.m, ROOT_PAGE_COUNT, pmkv_seal(p.file_pages))
    pmkv_store(&p.m, ROOT_DEFAULT_NAMESPACE + NAMESPACE_OPTIONS, pmkv_seal(g.options))
    pmkv_store(&p.m, ROOT_CATALOGUE + NAMESPACE_ID, pmkv_seal(0xffff))
    status = pool_make_durable(p, PAGE_SIZE, p.header_size - PAGE_SIZE)
    if status == PMKV_OK:
        pmkv_copy(&p.m, p.header_size - PAGE_SIZE, s, sizeof(pmkv_superblock))
        status = pool_make_durable(p, p.header_size - PAGE_SIZE, sizeof(pmkv_superblock))
    if status == PMKV_OK:
        pmkv_copy(&p.m, 0, s, sizeof(pmkv_superblock))
        status = pool_make_durable(p, 0, sizeof(pmkv_superblock))
    return status
