"""_core.pxd: the C headers of floor L0, as Cython sees them.

Declarations only.  layout.h says what each structure means.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

ctypedef uint64_t u64

cdef extern from "layout.h" nogil:
    const u64 PMKV_MAGIC
    const uint32_t PMKV_FORMAT_VERSION
    const u64 PAGE_SIZE "PMKV_PAGE_SIZE"
    const u64 LINE_SIZE "PMKV_LINE_SIZE"
    const u64 GRANULE_SIZE "PMKV_GRANULE_SIZE"
    const int GRANULE_SHIFT "PMKV_GRANULE_SHIFT"
    const u64 DESCRIPTOR_SPACE "PMKV_DESCRIPTOR_SPACE"
    const int PLACE_BITS "PMKV_PLACE_BITS"
    const int FREE_BINS "PMKV_FREE_BINS"
    const int BLOCK_CLASSES "PMKV_BLOCK_CLASSES"
    const u64 MAX_KEY_SIZE "PMKV_MAX_KEY_SIZE"
    const u64 MAX_VALUE_SIZE "PMKV_MAX_VALUE_SIZE"

    struct pmkv_superblock:
        u64 magic
        uint32_t version
        uint32_t page_size
        u64 compatible_features
        u64 readonly_features
        u64 incompatible_features
        uint8_t uuid[16]
        u64 seed[2]
        u64 header_size
        u64 ring_place
        u64 ring_size
        u64 root_place
        u64 section_pages
        u64 max_size
        u64 created_ns
        u64 sequence
        uint8_t creator[32]
        u64 checksum

    struct pmkv_descriptor:
        uint8_t kind
        uint8_t block_class
        uint8_t listed
        uint32_t page_count
        uint32_t prev
        uint32_t next
        u64 owner
        uint32_t check
        u64 bitmap[4]

    struct pmkv_namespace_root:
        u64 mapping
        u64 entry_count
        u64 live_bytes
        u64 options
        u64 keytree
        u64 id
        u64 last_id

    struct pmkv_root:
        u64 checkpoint
        u64 frontier
        u64 page_count
        u64 free_page_count
        u64 limbo_head
        u64 limbo_count
        u64 bin_bitmap[2]
        u64 catalogue[8]
        u64 default_namespace[8]
        u64 free_bin[112]
        u64 block_current[32]
        u64 block_partial[32]
        u64 versions
        u64 deaths
        u64 expiry
        u64 codings[256]

    struct pmkv_entry:
        u64 checksum
        u64 position
        uint16_t checkpoint_lag
        uint16_t flags
        uint16_t range_count
        uint16_t word_count
        u64 indirect_checksum

    struct pmkv_record:
        uint32_t crc
        uint8_t flags
        uint8_t codec
        uint16_t namespace_id
        u64 commit
        uint32_t key_size
        uint32_t value_size

    struct pmkv_coding:
        uint32_t raw_size
        uint8_t stages[4]

    struct pmkv_coding_slot:
        u64 stages
        u64 entry_count
        u64 raw_bytes
        u64 stored_bytes

    struct pmkv_extent_reference:
        u64 place
        uint32_t crc

    struct pmkv_tree_node:
        u64 header
        uint16_t prefix_size
        uint8_t heap[884]
        uint8_t order[128]

    struct pmkv_tree_child:
        u64 child
        u64 count

    struct pmkv_tree_key:
        uint16_t size
        uint16_t check

    enum:
        PMKV_PAGE_FRESH, PMKV_PAGE_FREE, PMKV_PAGE_FREE_TAIL, PMKV_PAGE_RECORDS
        PMKV_PAGE_NODES, PMKV_PAGE_BODY, PMKV_PAGE_EXTENT, PMKV_PAGE_LEAF
        PMKV_PAGE_NODE, PMKV_PAGE_LIMBO
        PMKV_RECORD_EXTENT, PMKV_RECORD_EXPIRY
        PMKV_ENTRY_INLINE, PMKV_ENTRY_INDIRECT
        PMKV_OPTION_KEYS_STR, PMKV_OPTION_UNORDERED, PMKV_OPTION_MSGPACK, PMKV_OPTION_PICKLE, PMKV_OPTION_SERIALIZED

    const u64 GRANULE_MASK "PMKV_GRANULE_MASK"
    const int SLOT_TAG_SHIFT "PMKV_SLOT_TAG_SHIFT"
    const u64 SLOT_TAG_MASK "PMKV_SLOT_TAG_MASK"
    const u64 SLOT_ALTERNATE "PMKV_SLOT_ALTERNATE"
    const u64 SLOT_OVERFLOWED "PMKV_SLOT_OVERFLOWED"
    const int REFERENCE_DEPTH_SHIFT "PMKV_REFERENCE_DEPTH_SHIFT"
    const u64 REFERENCE_DEPTH_MASK "PMKV_REFERENCE_DEPTH_MASK"
    const int REFERENCE_BITS_SHIFT "PMKV_REFERENCE_BITS_SHIFT"
    const u64 REFERENCE_BITS_MASK "PMKV_REFERENCE_BITS_MASK"
    const int TREE_AREA_SHIFT "PMKV_TREE_AREA_SHIFT"
    const int TREE_HEAP_SHIFT "PMKV_TREE_HEAP_SHIFT"
    const int TREE_LEVEL_SHIFT "PMKV_TREE_LEVEL_SHIFT"
    const int TREE_CRC_SHIFT "PMKV_TREE_CRC_SHIFT"
    const int TREE_TAIL_SHIFT "PMKV_TREE_TAIL_SHIFT"
    const int TREE_TAIL_MASK "PMKV_TREE_TAIL_MASK"
    const int TREE_ORDER_MAX "PMKV_TREE_ORDER_MAX"
    const int TREE_INLINE_MAX "PMKV_TREE_INLINE_MAX"
    const int TREE_FAR "PMKV_TREE_FAR"
    const int BUCKET_SLOTS "PMKV_BUCKET_SLOTS"
    const int LEAF_BUCKETS "PMKV_LEAF_BUCKETS"
    const int NODE_MIN_BITS "PMKV_NODE_MIN_BITS"
    const int NODE_MAX_BITS "PMKV_NODE_MAX_BITS"

    # Places of the root's words (the root is page 1 of the header) and offsets in structures.
    const u64 ROOT_CHECKPOINT "(PMKV_PAGE_SIZE + offsetof(struct pmkv_root, checkpoint))"
    const u64 ROOT_FRONTIER "(PMKV_PAGE_SIZE + offsetof(struct pmkv_root, frontier))"
    const u64 ROOT_PAGE_COUNT "(PMKV_PAGE_SIZE + offsetof(struct pmkv_root, page_count))"
    const u64 ROOT_FREE_PAGE_COUNT "(PMKV_PAGE_SIZE + offsetof(struct pmkv_root, free_page_count))"
    const u64 ROOT_LIMBO_HEAD "(PMKV_PAGE_SIZE + offsetof(struct pmkv_root, limbo_head))"
    const u64 ROOT_LIMBO_COUNT "(PMKV_PAGE_SIZE + offsetof(struct pmkv_root, limbo_count))"
    const u64 ROOT_BIN_BITMAP "(PMKV_PAGE_SIZE + offsetof(struct pmkv_root, bin_bitmap))"
    const u64 ROOT_CATALOGUE "(PMKV_PAGE_SIZE + offsetof(struct pmkv_root, catalogue))"
    const u64 ROOT_DEFAULT_NAMESPACE "(PMKV_PAGE_SIZE + offsetof(struct pmkv_root, default_namespace))"
    const u64 ROOT_FREE_BIN "(PMKV_PAGE_SIZE + offsetof(struct pmkv_root, free_bin))"
    const u64 ROOT_BLOCK_CURRENT "(PMKV_PAGE_SIZE + offsetof(struct pmkv_root, block_current))"
    const u64 ROOT_BLOCK_PARTIAL "(PMKV_PAGE_SIZE + offsetof(struct pmkv_root, block_partial))"
    const u64 ROOT_VERSIONS "(PMKV_PAGE_SIZE + offsetof(struct pmkv_root, versions))"
    const u64 ROOT_DEATHS "(PMKV_PAGE_SIZE + offsetof(struct pmkv_root, deaths))"
    const u64 ROOT_EXPIRY "(PMKV_PAGE_SIZE + offsetof(struct pmkv_root, expiry))"
    const u64 ROOT_CODINGS "(PMKV_PAGE_SIZE + offsetof(struct pmkv_root, codings))"
    const u64 SLOT_ENTRY_COUNT "offsetof(struct pmkv_coding_slot, entry_count)"
    const u64 SLOT_RAW_BYTES "offsetof(struct pmkv_coding_slot, raw_bytes)"
    const u64 SLOT_STORED_BYTES "offsetof(struct pmkv_coding_slot, stored_bytes)"
    const u64 CODING_SLOTS "PMKV_CODING_SLOTS"
    const u64 OPTION_BITS_MASK "PMKV_OPTION_BITS_MASK"
    const int OPTION_STAGES_SHIFT "PMKV_OPTION_STAGES_SHIFT"
    const int OPTION_DICTIONARY_SHIFT "PMKV_OPTION_DICTIONARY_SHIFT"
    const u64 OPTION_DICTIONARY_MASK "PMKV_OPTION_DICTIONARY_MASK"
    const u64 NAMESPACE_MAPPING "offsetof(struct pmkv_namespace_root, mapping)"
    const u64 NAMESPACE_ENTRY_COUNT "offsetof(struct pmkv_namespace_root, entry_count)"
    const u64 NAMESPACE_LIVE_BYTES "offsetof(struct pmkv_namespace_root, live_bytes)"
    const u64 NAMESPACE_OPTIONS "offsetof(struct pmkv_namespace_root, options)"
    const u64 NAMESPACE_KEYTREE "offsetof(struct pmkv_namespace_root, keytree)"
    const u64 NAMESPACE_ID "offsetof(struct pmkv_namespace_root, id)"
    const u64 NAMESPACE_LAST_ID "offsetof(struct pmkv_namespace_root, last_id)"

cdef extern from "status.h" nogil:
    enum:
        PMKV_OK, PMKV_NOT_FOUND, PMKV_EXISTS, PMKV_NO_MEMORY, PMKV_OS_ERROR, PMKV_FULL
        PMKV_ADDRESS_SPACE, PMKV_CORRUPTED, PMKV_FOREIGN, PMKV_NEWER, PMKV_TRUNCATED
        PMKV_COLLISIONS, PMKV_TOO_LARGE, PMKV_TOO_MANY_CODINGS

cdef extern from "atomics.h" nogil:
    u64 pmkv_atomic_load(const void* at)
    void pmkv_atomic_store(void* at, u64 word)
    bint pmkv_atomic_change(void* at, u64 old, u64 new)
    void pmkv_prefetch(const void* at)

cdef extern from "hash.h" nogil:
    u64 pmkv_hash64(u64 seed0, u64 seed1, const void* data, size_t n)
    u64 pmkv_fold(u64 a, u64 b)
    const u64 PMKV_HASH_K0

cdef extern from "checksum.h" nogil:
    uint32_t pmkv_crc_u64(uint32_t crc, u64 word)
    uint32_t pmkv_crc_update(uint32_t crc, const void* data, size_t n)
    u64 pmkv_seal(u64 payload)
    bint pmkv_is_sealed(u64 word)
    const u64 SEAL_MASK "PMKV_SEAL_MASK"
    const int SEAL_SHIFT "PMKV_SEAL_SHIFT"

cdef extern from "persist.h" nogil:
    enum:
        PMKV_DOMAIN_PROCESS, PMKV_DOMAIN_BYTE, PMKV_DOMAIN_LINE, PMKV_DOMAIN_PAGE
        PMKV_NO_SITE
        PMKV_FLUSH_DATA, PMKV_FLUSH_CARRIED, PMKV_FLUSH_ENTRY, PMKV_FLUSH_APPLY, PMKV_FLUSH_CHECKPOINT
        PMKV_FLUSH_INDIRECT, PMKV_FLUSH_REPLAY, PMKV_FLUSH_RING_END, PMKV_FLUSH_FORMAT
        PMKV_FENCE_DATA, PMKV_FENCE_COMMIT, PMKV_FENCE_CHECKPOINT
        PMKV_FENCE_CHECKPOINT_DONE, PMKV_FENCE_REPLAY, PMKV_FENCE_RECOVERED, PMKV_FENCE_FORMAT
        PMKV_SYNC_DATA, PMKV_SYNC_COMMIT, PMKV_SYNC_CHECKPOINT, PMKV_SYNC_CHECKPOINT_DONE
        PMKV_SYNC_REPLAY, PMKV_SYNC_RECOVERED, PMKV_SYNC_FORMAT
        PMKV_CHECK_ENTRY, PMKV_CHECK_POSITION, PMKV_CHECK_INDIRECT, PMKV_CHECK_SUPERBLOCK
        PMKV_CHECK_SEAL, PMKV_CHECK_DESCRIPTOR, PMKV_CHECK_RECORD, PMKV_CHECK_VALUE, PMKV_CHECK_TREE
        PMKV_SITE_COUNT

    struct pmkv_tracer:
        void* context
        void (*stored)(void* context, u64 place, size_t n) noexcept nogil
        void (*flushed)(void* context, u64 place, size_t n, int site) noexcept nogil
        void (*fenced)(void* context, int site) noexcept nogil
        void (*synced)(void* context, u64 place, size_t n, int site) noexcept nogil
        int (*failed_check)(void* context, int site) noexcept nogil

    struct pmkv_medium:
        char* data
        char* descriptors
        int domain
        int flush_op
        unsigned line_size
        int fd
        pmkv_tracer* tracer

    void* pmkv_at(const pmkv_medium* m, u64 place)
    u64 pmkv_load(const pmkv_medium* m, u64 place)
    void pmkv_store(const pmkv_medium* m, u64 place, u64 word)
    void pmkv_flush(const pmkv_medium* m, u64 place, size_t n, int site)
    void pmkv_fence(const pmkv_medium* m, int site)
    void pmkv_copy(const pmkv_medium* m, u64 place, const void* src, size_t n)
    void pmkv_stream(const pmkv_medium* m, u64 place, const void* src, size_t n, int site)
    int pmkv_sync_all(const pmkv_medium* m, int site)
    int pmkv_write_synced(const pmkv_medium* m, u64 place, const void* src, size_t n, int site)
    bint pmkv_check(const pmkv_medium* m, int site, bint ok)
    unsigned pmkv_arch_match8(const u64* words, u64 wanted, u64 mask)
    int pmkv_arch_flush_op()
    const char* pmkv_arch_flush_name(int op)
    unsigned pmkv_arch_line_size()
    const char* PMKV_ARCH_NAME
