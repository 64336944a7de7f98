"""_check.pxd (L5): reads the whole pool and says what is wrong with it."""
from pmkv._core cimport u64
from pmkv._pool cimport Pool

cdef enum:
    PROBLEMS_KEPT = 1000

cdef struct Problem:
    int what
    u64 place

cdef struct Report:
    Problem problems[PROBLEMS_KEPT]
    u64 problem_count
    # what was seen
    u64 entries
    u64 live_bytes
    u64 records_pages
    u64 extent_pages
    u64 mapping_pages
    u64 free_pages
    u64 limbo_entries
    u64 versions
    u64 expiring
    u64 used_block_bytes         # in blocks of records: what records occupy
    u64 free_block_bytes         # and what is left of them

cdef const char* problem_text(int what) noexcept nogil
cdef int check_pool(Pool* p, bint verify_values, Report* report) noexcept nogil
