"""_mapping.pxd (L3): the page index: from a key to its record."""
from pmkv._core cimport u64
from pmkv._pool cimport Pool
from pmkv._records cimport Record
from pmkv._writeset cimport Txn

cdef enum:
    LEAF_SLOTS = 512

# A key's way down: which leaf, which buckets, which tag.
cdef struct Probe:
    u64 hash
    u64 leaf                     # place, 0: the mapping is empty
    u64 depth
    u64 home                     # bucket, 0 to 63
    u64 alternate
    u64 tag                      # as in a slot
    u64 slot                     # place of the slot that matched, 0: none
    u64 slot_word

# Where an iteration over the leaves is, in order of the hash.
cdef struct Cursor:
    u64 prefix
    bint ended

cdef u64 mapping_hash(const Pool* p, const char* key, u64 key_size) noexcept nogil
cdef int mapping_locate(Pool* p, Txn* t, u64 root_place, u64 hash, Probe* probe) noexcept nogil
cdef void mapping_prefetch_bucket(const Pool* p, const Probe* probe) noexcept nogil
cdef void mapping_prefetch_record(const Pool* p, Probe* probe) noexcept nogil
cdef int mapping_match_prefetched(Pool* p, Probe* probe, const char* key, u64 key_size, Record* r) noexcept nogil
cdef int mapping_match(Pool* p, Txn* t, Probe* probe, const char* key, u64 key_size, Record* r) noexcept nogil
cdef int mapping_get(Pool* p, u64 root_place, const char* key, u64 key_size, Record* r) noexcept nogil
cdef int mapping_insert(Txn* t, u64 root_place, Probe* probe, u64 record_place) noexcept nogil
cdef int mapping_replace(Txn* t, const Probe* probe, u64 record_place) noexcept nogil
cdef int mapping_remove(Txn* t, const Probe* probe) noexcept nogil
cdef int mapping_next_leaf(Pool* p, Txn* t, u64 root_place, Cursor* cursor, u64* slots, u64* leaf) noexcept nogil
cdef int mapping_free_page(Txn* t, u64 reference) noexcept nogil
cdef int mapping_free_all(Txn* t, u64 root_place) noexcept nogil
