"""_mapping.pxd (L3): the page index: from a key to its record."""
from pmkv._core cimport (
    GRANULE_MASK, GRANULE_SHIFT, LINE_SIZE, REFERENCE_BITS_MASK, REFERENCE_BITS_SHIFT, REFERENCE_DEPTH_MASK,
    REFERENCE_DEPTH_SHIFT, SLOT_TAG_SHIFT, pmkv_seal, u64,
)
from pmkv._pool cimport Pool
from pmkv._records cimport Record
from pmkv._writeset cimport Txn

cdef enum:
    LEAF_SLOTS = 512
    LEVELS = 8                   # 9 bits each and 48 in all: six, and room to be sure
    WINDOW_STEP = 4

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

# The nodes that lead to a leaf.
cdef struct Step:
    u64 node                     # place
    u64 bits
    u64 consumed                 # bits of the hash that lead to it
    u64 index                    # which of its words was taken

cdef struct Path:
    Step step[LEVELS]
    int length

# Where an iteration over the leaves is, in order of the hash.
cdef struct Cursor:
    u64 prefix
    bint ended

cdef inline u64 reference_to(u64 place, u64 bits, u64 depth) noexcept nogil:
    return pmkv_seal(place >> GRANULE_SHIFT | depth << REFERENCE_DEPTH_SHIFT | bits << REFERENCE_BITS_SHIFT)

cdef inline u64 place_of(u64 word) noexcept nogil:
    return (word & GRANULE_MASK) << GRANULE_SHIFT

cdef inline u64 bits_of(u64 reference) noexcept nogil:
    return reference >> REFERENCE_BITS_SHIFT & REFERENCE_BITS_MASK

cdef inline u64 depth_of(u64 reference) noexcept nogil:
    return reference >> REFERENCE_DEPTH_SHIFT & REFERENCE_DEPTH_MASK

cdef inline u64 slot_place(u64 leaf, u64 bucket, u64 slot) noexcept nogil:
    return leaf + bucket * LINE_SIZE + slot * 8

cdef inline u64 alternate_of(u64 bucket, u64 tag) noexcept nogil:
    """From home to alternate, and back: the distance is in the tag."""
    return bucket ^ (1 + (tag >> SLOT_TAG_SHIFT & 63) % 63)

cdef inline u64 tag_at(u64 hash, u64 depth) noexcept nogil:
    cdef u64 window_at = depth & ~<u64>(WINDOW_STEP - 1)
    return ((hash >> 6 & 63) | (hash << window_at >> 56) << 6) << SLOT_TAG_SHIFT

cdef inline u64 parent_word(u64 root_place, const Path* path, int level) noexcept nogil:
    """Where the reference to the node at `level` stands."""
    if level == 0:
        return root_place
    return path.step[level - 1].node + path.step[level - 1].index * 8

cdef u64 mapping_hash(const Pool* p, const char* key, u64 key_size) noexcept nogil
cdef int mapping_locate(Pool* p, Txn* t, u64 root_place, u64 hash, Probe* probe) noexcept nogil
cdef void mapping_prefetch_bucket(const Pool* p, const Probe* probe) noexcept nogil
cdef void mapping_prefetch_record(const Pool* p, Probe* probe) noexcept nogil
cdef int mapping_match(Pool* p, Txn* t, Probe* probe, const char* key, u64 key_size, Record* r) noexcept nogil
cdef int mapping_get(Pool* p, u64 root_place, const char* key, u64 key_size, Record* r) noexcept nogil
cdef int mapping_insert(Txn* t, u64 root_place, Probe* probe, u64 record_place) noexcept nogil
cdef int mapping_replace(Txn* t, const Probe* probe, u64 record_place) noexcept nogil
cdef int mapping_remove(Txn* t, const Probe* probe) noexcept nogil
cdef int mapping_next_leaf(Pool* p, Txn* t, u64 root_place, Cursor* cursor, u64* slots, u64* leaf) noexcept nogil
cdef int mapping_free_page(Txn* t, u64 reference) noexcept nogil
cdef int mapping_free_all(Txn* t, u64 root_place) noexcept nogil
cdef int mapping_descend(Pool* p, Txn* t, u64 root_place, Probe* probe, Path* path) noexcept nogil
cdef int mapping_build_leaf(Txn* t, const u64* slots, u64 depth, u64* reference) noexcept nogil
cdef int mapping_build_node(Txn* t, const u64* words, u64 bits, u64* reference) noexcept nogil
cdef int mapping_free_later(Txn* t, u64 reference) noexcept nogil
