"""_recovery.pxd (L5): what opening does."""
from pmkv._core cimport pmkv_superblock, u64
from pmkv._pool cimport Pool

cdef int recovery_open(Pool* p, u64 file_size, u64 reserve_pages, bint want_sync, pmkv_superblock* superblock,
                       u64* replayed) noexcept nogil
cdef int recovery_run(Pool* p, u64 file_size, u64* replayed) noexcept nogil
