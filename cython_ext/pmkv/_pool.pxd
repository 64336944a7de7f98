"""_pool.pxd (L1): a pool as a process holds it, and where things lie in it.

The geometry is here, inline, because every other floor computes with it.  A pool
is its header and then sections; each section is the descriptors of its pages and
then the pages:

      file     | header | descriptors 0 | pages 0 | descriptors 1 | pages 1 | ...
      memory   | header | pages 0 | pages 1 | ...      and apart   | descriptors 0 | descriptors 1 | ...

Descriptors and pages are mapped into two reserved ranges (as Linux's vmemmap), so
that both are contiguous in memory however the pool has grown, an extent may span
sections, and nothing that is mapped ever moves.
"""
from pmkv._core cimport (
    DESCRIPTOR_SPACE, PAGE_SIZE, PMKV_CHECK_SEAL, PMKV_CORRUPTED, PMKV_OK, SEAL_MASK, pmkv_check,
    pmkv_is_sealed, pmkv_medium, pmkv_superblock, u64,
)

cdef struct Fault:
    int site                 # the check that failed
    int os_error             # errno
    u64 place                # where

# How far a search for runs of one length has come.
cdef struct Sweep:
    u64 at                   # page
    u64 seen                 # runs since it began at the bottom
    u64 freed                # Ceiling.freed at that time

# While compaction is on: what lies high is to lie lower.
cdef struct Ceiling:
    u64 pages                # runs of pages end here or lower, as long as there is room
    u64 blocks[32]           # by class: at or above, a block with room is to become empty
    u64 freed                # pages below that have become free since it is on
    Sweep sweep[112]         # by bin

cdef struct Pool:
    pmkv_medium m
    Fault fault
    # geometry, as the superblock has it
    u64 header_size
    u64 ring_place
    u64 ring_size
    u64 section_pages
    u64 seed0
    u64 seed1
    # what is mapped
    u64 max_pages            # the file may not have room for more
    u64 reserved_pages       # address space for so many
    u64 mapped_sections
    void* ahead              # a step of growth that a thread takes meanwhile (_growth.pyx), or NULL
    u64 file_pages           # the file has room for so many
    u64 device_size          # of a DAX device, in bytes; 0 for a file
    u64 device_pages         # and in pages, once the geometry is known
    int damaged_copies       # of the superblock: bit 0 for copy A, bit 1 for B
    bint writable
    bint synchronous         # MAP_SYNC was granted
    void* reservation
    size_t reservation_size
    # the redo ring, in lines since the pool was made
    u64 head                 # the next entry goes here: the next commit number
    u64 checkpoint           # what is before is applied and durable
    u64 tail                 # the ring may be reused up to here: this is on the medium
    u64 window               # lines of log that recovery may have to replay
    bint failed              # a commit's sync failed: what became of it is known after recovery only
    u64 apply_sequence       # odd while words are being applied
    Ceiling* ceiling         # NULL: no compaction is on
    u64 index_run            # a free run that is set aside for pages of the index, 0: none

cdef struct Geometry:
    u64 header_size
    u64 ring_size
    u64 section_pages
    u64 initial_pages
    u64 options              # of the default namespace

cdef inline u64 page_place(const Pool* p, u64 page) noexcept nogil:
    return p.header_size + page * PAGE_SIZE

cdef inline u64 place_page(const Pool* p, u64 place) noexcept nogil:
    return (place - p.header_size) // PAGE_SIZE

cdef inline u64 descriptor_place(u64 page) noexcept nogil:
    return DESCRIPTOR_SPACE | (page * 64)

cdef inline u64 section_descriptor_bytes(const Pool* p) noexcept nogil:
    return p.section_pages * 64

cdef inline u64 section_bytes(const Pool* p) noexcept nogil:
    return p.section_pages * (PAGE_SIZE + 64)

cdef inline u64 descriptor_offset(const Pool* p, u64 page) noexcept nogil:
    """Where a page's descriptor lies in the file."""
    return p.header_size + page // p.section_pages * section_bytes(p) + page % p.section_pages * 64

cdef inline u64 page_offset(const Pool* p, u64 page) noexcept nogil:
    """Where a page lies in the file."""
    return (p.header_size + page // p.section_pages * section_bytes(p) + section_descriptor_bytes(p)
            + page % p.section_pages * PAGE_SIZE)

cdef inline u64 file_size_for(const Pool* p, u64 pages) noexcept nogil:
    return page_offset(p, pages - 1) + PAGE_SIZE if pages else p.header_size

cdef inline u64 file_offset(const Pool* p, u64 place) noexcept nogil:
    """Where a place lies in the file."""
    if place & DESCRIPTOR_SPACE:
        return descriptor_offset(p, (place ^ DESCRIPTOR_SPACE) // 64) + place % 64
    if place < p.header_size or p.section_pages == 0:
        return place
    return page_offset(p, place_page(p, place)) + place % PAGE_SIZE

cdef inline int corrupted(Pool* p, int site, u64 place) noexcept nogil:
    p.fault.site = site
    p.fault.place = place
    return PMKV_CORRUPTED

cdef inline int unseal(Pool* p, u64 place, u64 word, u64* payload) noexcept nogil:
    """The 56 bits of a sealed word that was read from `place`."""
    payload[0] = word & SEAL_MASK
    if not pmkv_check(&p.m, PMKV_CHECK_SEAL, pmkv_is_sealed(word)):
        return corrupted(p, PMKV_CHECK_SEAL, place)
    return PMKV_OK

cdef int pool_read_superblock(Pool* p, int fd, u64 file_size, pmkv_superblock* found) noexcept nogil
cdef int pool_map(Pool* p, u64 pages, u64 reserve_pages, bint want_sync) noexcept nogil
cdef void pool_unmap(Pool* p) noexcept nogil
cdef int pool_map_sections(Pool* p, u64 pages) noexcept nogil
cdef u64 pool_pages_in(const Pool* p, u64 file_size) noexcept nogil
cdef int pool_check_seals(Pool* p) noexcept nogil
cdef int pool_check_root(Pool* p, u64 file_size) noexcept nogil
cdef int pool_damaged_copies(Pool* p) noexcept nogil
cdef int pool_mend_superblock(Pool* p) noexcept nogil
cdef int pool_repair_superblock(Pool* p, const pmkv_superblock* whole) noexcept nogil
cdef u64 pool_pages_within(const Pool* p, u64 size) noexcept nogil
cdef bint pool_probe_sync(int fd) noexcept nogil
cdef u64 pool_superblock_checksum(const pmkv_superblock* s) noexcept nogil
cdef int pool_make_durable(Pool* p, u64 place, u64 size) noexcept nogil
