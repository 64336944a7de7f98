"""_recovery.pyx (L5): opening a pool, after a clean close or a crash alike.

Superblock, mapping, replay of the ring, and the root's own checks: none of it depends on how
large the pool is (R6), and there is nothing else to recover.
"""
from pmkv._core cimport *
from pmkv._pool cimport (
    Pool, file_size_for, pool_check_root, pool_check_seals, pool_map, pool_pages_in, pool_read_superblock,
    pool_repair_superblock, pool_unmap,
)
from pmkv._redo cimport redo_replay

cdef u64 WINDOW_LINES_PAGE = 4096   # 256 KiB of log: some 800 commits of 100 bytes
cdef u64 WINDOW_LINES = 512         # 32 KiB: some 100 of them; what a checkpoint flushes is in the cache still


cdef int recovery_run(Pool* p, u64 file_size, u64* replayed) noexcept nogil:
    """Brings a mapped pool to its last durable commit and checks its root."""
    cdef int status
    p.file_pages = pool_pages_in(p, file_size)
    replayed[0] = 0
    status = pool_check_seals(p)
    if status == PMKV_OK and file_size < file_size_for(p, pmkv_load(&p.m, ROOT_PAGE_COUNT) & SEAL_MASK):
        status = PMKV_TRUNCATED
    if status == PMKV_OK:
        status = redo_replay(p, replayed)     # the first that writes: what is refused was refused before
    if status == PMKV_OK:
        status = pool_check_seals(p)
    if status == PMKV_OK:
        status = pool_check_root(p, file_size)
    if status != PMKV_OK:
        return status
    p.file_pages = pmkv_load(&p.m, ROOT_PAGE_COUNT) & SEAL_MASK
    p.window = min(p.ring_size // LINE_SIZE // 2,
                   WINDOW_LINES_PAGE if p.m.domain == PMKV_DOMAIN_PAGE else WINDOW_LINES)
    return PMKV_OK


cdef int recovery_open(Pool* p, u64 file_size, u64 reserve_pages, bint want_sync, pmkv_superblock* superblock,
                       u64* replayed) noexcept nogil:
    """Opens the file that p.m.fd is.  On an error nothing is mapped."""
    cdef int status = pool_read_superblock(p, p.m.fd, file_size, superblock)
    if status == PMKV_OK:
        status = pool_map(p, pool_pages_in(p, file_size), reserve_pages, want_sync)
    if status == PMKV_OK:
        status = recovery_run(p, file_size, replayed)
        if status == PMKV_OK:
            status = pool_repair_superblock(p, superblock)
        if status != PMKV_OK:
            pool_unmap(p)
    return status
