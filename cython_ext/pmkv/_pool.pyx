"""_pool.pyx (L1): the file or device: superblocks, mapping, the root's checks.

May know: files, mappings, the superblock and the seals of the root.  Not what pages
are for.

Invariants
  1. The superblocks are written when the pool is made, after everything else, and
     each is complete in itself; a pool without a valid one is refused untouched.
  2. Address space is reserved once; sections are mapped into it and never move.
Threads: opening happens under the writer's lock.
"""
from libc.errno cimport EINTR, errno
from libc.string cimport memcpy, memset
from pmkv._core cimport *

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <sys/mman.h>
    #include <unistd.h>
    #ifndef MAP_SHARED_VALIDATE
    #define MAP_SHARED_VALIDATE 3
    #endif
    #ifndef MAP_SYNC
    #define MAP_SYNC 0x80000
    #endif
    """
    int PROT_READ, PROT_WRITE, PROT_NONE
    int MAP_SHARED, MAP_SHARED_VALIDATE, MAP_SYNC, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS, MAP_NORESERVE
    int MADV_HUGEPAGE, MADV_DONTDUMP, MADV_RANDOM
    void* MAP_FAILED
    void* mmap(void*, size_t, int, int, int, long) nogil
    int munmap(void*, size_t) nogil
    int madvise(void*, size_t, int) nogil
    ssize_t pread(int, void*, size_t, long) nogil

cdef enum:
    HUGE = 2 << 20
    RESERVE_MIN_PAGES = 1 << 14    # 64 MiB


# ---- superblocks ----------------------------------------------------------------------

cdef u64 pool_superblock_checksum(const pmkv_superblock* s) noexcept nogil:
    return pmkv_hash64(0, 0, s, sizeof(pmkv_superblock) - 8)


cdef bint geometry_is_sane(const pmkv_superblock* s) noexcept nogil:
    return (s.page_size == PAGE_SIZE
            and s.header_size % PAGE_SIZE == 0 and 16384 <= s.header_size <= (64 << 20)
            and s.ring_place % PAGE_SIZE == 0 and s.ring_place >= 2 * PAGE_SIZE
            and s.ring_size % PAGE_SIZE == 0 and PAGE_SIZE <= s.ring_size <= (4 << 20) - PAGE_SIZE
            and s.ring_place + s.ring_size + PAGE_SIZE <= s.header_size
            and s.root_place == PAGE_SIZE
            and s.section_pages % 64 == 0 and 64 <= s.section_pages <= (1 << 22))


cdef int superblock_status(Pool* p, const pmkv_superblock* s) noexcept nogil:
    """OK, or why this copy cannot be used."""
    cdef bint ok
    if s.magic != PMKV_MAGIC:
        return PMKV_FOREIGN
    ok = s.checksum == pool_superblock_checksum(s)
    if s.version > PMKV_FORMAT_VERSION or (ok and s.incompatible_features != 0):
        return PMKV_NEWER
    if ok and p.writable and s.readonly_features != 0:
        return PMKV_NEWER
    if not pmkv_check(&p.m, PMKV_CHECK_SUPERBLOCK, ok) or s.version == 0 or not geometry_is_sane(s):
        return PMKV_CORRUPTED
    return PMKV_OK


cdef int read_device(Pool* p, int fd, u64 offset, pmkv_superblock* s) noexcept nogil:
    """A DAX device has no read(): a huge page of it is mapped for a moment."""
    cdef u64 skew = offset % HUGE
    cdef char* at = <char*>mmap(NULL, HUGE, PROT_READ, MAP_SHARED, fd, <long>(offset - skew))
    if at == <char*>MAP_FAILED:
        p.fault.os_error = errno
        return PMKV_OS_ERROR
    memcpy(s, at + skew, sizeof(pmkv_superblock))
    munmap(at, HUGE)
    return superblock_status(p, s)


cdef int read_superblock_at(Pool* p, int fd, u64 offset, pmkv_superblock* s) noexcept nogil:
    cdef ssize_t n
    memset(s, 0, sizeof(pmkv_superblock))
    if p.device_size:
        return read_device(p, fd, offset, s)
    while True:
        n = pread(fd, s, sizeof(pmkv_superblock), <long>offset)
        if n < 0 and errno == EINTR:
            continue
        if n < 0:
            p.fault.os_error = errno
            return PMKV_OS_ERROR
        return superblock_status(p, s) if n == sizeof(pmkv_superblock) else PMKV_TRUNCATED


cdef int pool_read_superblock(Pool* p, int fd, u64 file_size, pmkv_superblock* found) noexcept nogil:
    """Finds the newest valid superblock, or says what the file is instead.

    Copy B ends the header; where copy A does not say how long that is, every power of
    two is tried.  Writes nothing.
    """
    cdef pmkv_superblock a, b
    cdef int of_a, of_b
    cdef u64 size
    of_a = read_superblock_at(p, fd, 0, &a)
    of_b = PMKV_FOREIGN
    if of_a == PMKV_OS_ERROR:
        return of_a
    if of_a == PMKV_OK:
        of_b = read_superblock_at(p, fd, a.header_size - PAGE_SIZE, &b)
    else:
        size = 16384
        while size <= (64 << 20) and size <= file_size and of_b != PMKV_OK:
            of_b = read_superblock_at(p, fd, size - PAGE_SIZE, &b)
            if of_b == PMKV_OK and b.header_size != size:
                of_b = PMKV_FOREIGN
            size *= 2
    p.fault.place = 0
    p.fault.site = PMKV_CHECK_SUPERBLOCK
    p.damaged_copies = (of_a != PMKV_OK) | (of_b != PMKV_OK) << 1
    if of_b == PMKV_OK and (of_a != PMKV_OK or b.sequence > a.sequence):
        found[0] = b
    elif of_a == PMKV_OK:
        found[0] = a
    elif of_a == PMKV_NEWER or of_b == PMKV_NEWER:
        found[0] = a if of_a == PMKV_NEWER else b
        return PMKV_NEWER
    elif of_a == PMKV_CORRUPTED or of_b == PMKV_CORRUPTED:
        return PMKV_CORRUPTED
    else:
        return PMKV_FOREIGN if a.magic != PMKV_MAGIC else PMKV_TRUNCATED
    if file_size < found.header_size:
        return PMKV_TRUNCATED
    p.header_size = found.header_size
    p.ring_place = found.ring_place
    p.ring_size = found.ring_size
    p.section_pages = found.section_pages
    p.seed0 = found.seed[0]
    p.seed1 = found.seed[1]
    p.device_pages = pool_pages_within(p, p.device_size) if p.device_size else 0
    return PMKV_OK


cdef int pool_damaged_copies(Pool* p) noexcept nogil:
    """Which copies of an open pool's superblock are damaged: bit 0 for A, bit 1 for B."""
    cdef const pmkv_superblock* a = <const pmkv_superblock*>pmkv_at(&p.m, 0)
    cdef const pmkv_superblock* b = <const pmkv_superblock*>pmkv_at(&p.m, p.header_size - PAGE_SIZE)
    return (superblock_status(p, a) != PMKV_OK) | (superblock_status(p, b) != PMKV_OK) << 1


cdef int pool_make_durable(Pool* p, u64 place, u64 size) noexcept nogil:
    if p.m.domain == PMKV_DOMAIN_PAGE:
        p.fault.os_error = pmkv_sync_all(&p.m, PMKV_SYNC_FORMAT)
        return PMKV_OS_ERROR if p.fault.os_error else PMKV_OK
    pmkv_flush(&p.m, place, size, PMKV_FLUSH_FORMAT)
    pmkv_fence(&p.m, PMKV_FENCE_FORMAT)
    return PMKV_OK


cdef int pool_repair_superblock(Pool* p, const pmkv_superblock* whole) noexcept nogil:
    """Writes a damaged copy anew from the one that is whole, which nothing touches meanwhile."""
    cdef u64 place = 0 if p.damaged_copies & 1 else p.header_size - PAGE_SIZE
    if p.damaged_copies == 0 or not p.writable:
        return PMKV_OK
    pmkv_copy(&p.m, place, whole, sizeof(pmkv_superblock))
    p.damaged_copies = 0
    return pool_make_durable(p, place, sizeof(pmkv_superblock))


cdef int pool_mend_superblock(Pool* p) noexcept nogil:
    """The same of an open pool: if one copy has been damaged since, it is written anew from the other."""
    cdef int damaged = pool_damaged_copies(p)
    cdef u64 whole = p.header_size - PAGE_SIZE if damaged == 1 else 0
    if damaged != 1 and damaged != 2:
        return PMKV_OK
    p.damaged_copies = damaged
    return pool_repair_superblock(p, <const pmkv_superblock*>pmkv_at(&p.m, whole))


# ---- mapping ---------------------------------------------------------------------------

cdef bint pool_probe_sync(int fd) noexcept nogil:
    """Whether the kernel grants MAP_SYNC on this file: then it is DAX."""
    cdef void* at = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0)
    if at == MAP_FAILED:  # a DAX device maps only whole huge pages
        at = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0)
        if at == MAP_FAILED:
            return False
        munmap(at, HUGE)
        return True
    munmap(at, PAGE_SIZE)
    return True


cdef u64 bytes_on_device(Pool* p, u64 offset, u64 size) noexcept nogil:
    """A device cannot be mapped beyond its end; a file can, and grows into it."""
    cdef u64 end
    if p.device_pages == 0:
        return size
    end = file_size_for(p, p.device_pages)
    return 0 if offset >= end else min(size, end - offset)


cdef int map_range(Pool* p, char* at, u64 offset, u64 size) noexcept nogil:
    cdef int flags = MAP_FIXED
    size = bytes_on_device(p, offset, size)
    if size == 0:
        return PMKV_OK
    if not p.writable:
        flags |= MAP_PRIVATE   # recovery of a read-only pool replays into private pages
    elif p.synchronous:
        flags |= MAP_SHARED_VALIDATE | MAP_SYNC
    else:
        flags |= MAP_SHARED
    if mmap(at, size, PROT_READ | PROT_WRITE, flags | (0 if p.writable else MAP_NORESERVE),
            p.m.fd, <long>offset) == MAP_FAILED:
        p.fault.os_error = errno
        return PMKV_OS_ERROR
    madvise(at, size, MADV_HUGEPAGE)
    madvise(at, size, MADV_DONTDUMP)
    return PMKV_OK


cdef int pool_map_sections(Pool* p, u64 pages) noexcept nogil:
    cdef u64 section, first
    cdef int status
    while p.mapped_sections * p.section_pages < pages:
        section = p.mapped_sections
        first = section * p.section_pages
        status = map_range(p, p.m.descriptors + first * 64, descriptor_offset(p, first),
                           section_descriptor_bytes(p))
        if status == PMKV_OK:
            status = map_range(p, p.m.data + page_place(p, first), page_offset(p, first),
                               p.section_pages * PAGE_SIZE)
        if status != PMKV_OK:
            return status
        p.mapped_sections += 1
    return PMKV_OK


cdef int reserve(Pool* p, u64 at_least, u64 wished) noexcept nogil:
    """Address space for descriptors and pages, aligned for huge pages.

    Costs nothing but addresses.  Halved until it fits, so that a process may hold
    thousands of pools, or live under `ulimit -v`.
    """
    cdef u64 pages = max(wished, at_least)
    cdef u64 descriptor_bytes, page_bytes, total
    cdef void* at
    while True:
        pages = (pages + p.section_pages - 1) // p.section_pages * p.section_pages
        descriptor_bytes = (pages * 64 + HUGE - 1) // HUGE * HUGE
        page_bytes = (p.header_size + pages * PAGE_SIZE + HUGE - 1) // HUGE * HUGE
        total = descriptor_bytes + page_bytes + 2 * HUGE
        at = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        if at != MAP_FAILED:
            break
        if pages // 2 < at_least:
            p.fault.os_error = errno
            return PMKV_ADDRESS_SPACE
        pages //= 2
    p.reservation = at
    p.reservation_size = total
    p.reserved_pages = pages
    p.m.descriptors = <char*>((<u64>at + HUGE - 1) // HUGE * HUGE)
    # Pages of section 0 on a huge page's boundary when the header is a multiple of one.
    p.m.data = p.m.descriptors + descriptor_bytes
    return PMKV_OK


cdef int pool_map(Pool* p, u64 pages, u64 reserve_pages, bint want_sync) noexcept nogil:
    """Maps the header and the sections that hold `pages` pages.

    `p.m.fd`, `p.writable` and the geometry are set; `reserve_pages` bounds how far the
    pool can grow while it stays open.
    """
    cdef int status
    p.synchronous = want_sync
    p.file_pages = pages
    p.mapped_sections = 0
    status = reserve(p, max(pages * 2, <u64>RESERVE_MIN_PAGES), reserve_pages)
    if status == PMKV_OK:
        status = map_range(p, p.m.data, 0, p.header_size)
        madvise(p.m.data, p.header_size, MADV_RANDOM)   # no read-ahead, which would make large folios too
    if status == PMKV_OK:
        status = pool_map_sections(p, max(pages, <u64>1))
    if status != PMKV_OK:
        pool_unmap(p)
    return status


cdef void pool_unmap(Pool* p) noexcept nogil:
    if p.reservation != NULL:
        munmap(p.reservation, p.reservation_size)
    p.reservation = NULL
    p.m.data = NULL
    p.m.descriptors = NULL


# ---- sizes, and the root's checks ------------------------------------------------------------------

cdef u64 pool_pages_in(const Pool* p, u64 file_size) noexcept nogil:
    """How many whole pages a file of that size has room for."""
    cdef u64 after_header, rest
    if file_size <= p.header_size:
        return 0
    after_header = file_size - p.header_size
    rest = after_header % section_bytes(p)
    rest = rest - section_descriptor_bytes(p) if rest > section_descriptor_bytes(p) else 0
    return after_header // section_bytes(p) * p.section_pages + rest // PAGE_SIZE


cdef u64 pool_pages_within(const Pool* p, u64 size) noexcept nogil:
    """How many pages a file of at most `size` bytes may have."""
    cdef u64 pages
    if size <= p.header_size:
        return 0
    pages = (size - p.header_size) // PAGE_SIZE
    while pages and file_size_for(p, pages) > size:
        pages -= min(pages, max(<u64>1, (file_size_for(p, pages) - size) // (PAGE_SIZE + 64)))
    return pages


cdef int pool_check_seals(Pool* p) noexcept nogil:
    """Every word of the root is sealed; true after any crash, also before recovery."""
    cdef u64 i, word
    cdef int status
    for i in range(PAGE_SIZE // 8):
        word = pmkv_load(&p.m, PAGE_SIZE + i * 8)
        status = unseal(p, PAGE_SIZE + i * 8, word, &word)
        if status != PMKV_OK:
            return status
    return PMKV_OK


cdef int pool_check_root(Pool* p, u64 file_size) noexcept nogil:
    """The root makes sense, and the file is as long as it says."""
    cdef u64 pages = pmkv_load(&p.m, ROOT_PAGE_COUNT) & SEAL_MASK
    cdef u64 frontier = pmkv_load(&p.m, ROOT_FRONTIER) & SEAL_MASK
    if pages > (<u64>1 << 32) or file_size < file_size_for(p, pages):
        return PMKV_TRUNCATED
    if frontier == 0 or frontier > pages:
        return corrupted(p, PMKV_CHECK_SEAL, ROOT_FRONTIER)
    return PMKV_OK
