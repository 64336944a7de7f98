"""_layout.pyx (L0): the format as tables, for documents, tests and tools.

Everything here is generated from layout.h; nothing is written twice.
"""
from pmkv._core cimport (
    BLOCK_CLASSES, FREE_BINS, GRANULE_SIZE, LINE_SIZE, MAX_KEY_SIZE, MAX_VALUE_SIZE, PAGE_SIZE, PMKV_FORMAT_VERSION,
    PMKV_MAGIC, pmkv_descriptor, pmkv_entry, pmkv_extent_reference, pmkv_hash64, pmkv_is_sealed, pmkv_namespace_root,
    pmkv_record, pmkv_root, pmkv_seal, pmkv_superblock, pmkv_coding, pmkv_coding_slot, pmkv_tree_child, pmkv_tree_key,
    pmkv_tree_node, u64, uint32_t,
)

cdef extern from *:
    """
    #define PMKV_ROW_(struct_, type, name, meaning)                                     \\
        {#struct_, #name, offsetof(struct pmkv_##struct_, name), sizeof(type), 1, meaning},
    #define PMKV_ROWS_(struct_, type, name, count, meaning)                             \\
        {#struct_, #name, offsetof(struct pmkv_##struct_, name), sizeof(type), count, meaning},
    static const struct pmkv_field {
        const char *structure, *name;
        size_t offset, size, count;
        const char *meaning;
    } pmkv_fields[] = {PMKV_ALL_FIELDS(PMKV_ROW_, PMKV_ROWS_)};
    #define PMKV_FIELD_COUNT (sizeof(pmkv_fields) / sizeof(pmkv_fields[0]))

    #define PMKV_NAMED_(name, value, meaning) {#name, value, meaning},
    struct pmkv_named {
        const char *name;
        int value;
        const char *meaning;
    };
    static const struct pmkv_named pmkv_page_kinds[] = {PMKV_PAGE_KINDS(PMKV_NAMED_){0, 0, 0}};
    static const struct pmkv_named pmkv_record_flags[] = {PMKV_RECORD_FLAGS(PMKV_NAMED_){0, 0, 0}};
    static const struct pmkv_named pmkv_entry_flags[] = {PMKV_ENTRY_FLAGS(PMKV_NAMED_){0, 0, 0}};
    static const struct pmkv_named pmkv_options[] = {PMKV_NAMESPACE_OPTIONS(PMKV_NAMED_){0, 0, 0}};
    """
    struct pmkv_field:
        const char* structure
        const char* name
        size_t offset
        size_t size
        size_t count
        const char* meaning

    struct pmkv_named:
        const char* name
        int value
        const char* meaning

    const pmkv_field pmkv_fields[]
    const size_t PMKV_FIELD_COUNT
    const pmkv_named pmkv_page_kinds[]
    const pmkv_named pmkv_record_flags[]
    const pmkv_named pmkv_entry_flags[]
    const pmkv_named pmkv_options[]

cdef extern from "checksum.h":
    void pmkv_crc_tables_build()
    uint32_t pmkv_crc_u64_by_table(uint32_t crc, u64 word)

cdef extern from "crc32c_long.h":
    uint32_t pmkv_crc_update_long(uint32_t crc, const void* data, size_t n)


cdef list named(const pmkv_named* first):
    cdef list rows = []
    while first.name != NULL:
        rows.append((first.name.decode(), first.value, first.meaning.decode()))
        first += 1
    return rows


# (structure, field, offset, size of one, count, meaning)
FIELDS = [(pmkv_fields[i].structure.decode(), pmkv_fields[i].name.decode(), pmkv_fields[i].offset,
           pmkv_fields[i].size, pmkv_fields[i].count, pmkv_fields[i].meaning.decode())
          for i in range(PMKV_FIELD_COUNT)]

SIZES = {
    "superblock": sizeof(pmkv_superblock), "descriptor": sizeof(pmkv_descriptor),
    "namespace_root": sizeof(pmkv_namespace_root), "root": sizeof(pmkv_root), "entry": sizeof(pmkv_entry),
    "record": sizeof(pmkv_record), "extent_reference": sizeof(pmkv_extent_reference),
    "coding": sizeof(pmkv_coding), "coding_slot": sizeof(pmkv_coding_slot),
    "tree_node": sizeof(pmkv_tree_node), "tree_child": sizeof(pmkv_tree_child), "tree_key": sizeof(pmkv_tree_key),
}

# (name, value, meaning)
PAGE_KINDS = named(pmkv_page_kinds)
RECORD_FLAGS = named(pmkv_record_flags)
ENTRY_FLAGS = named(pmkv_entry_flags)
NAMESPACE_OPTIONS = named(pmkv_options)

CONSTANTS = {
    "MAGIC": PMKV_MAGIC, "FORMAT_VERSION": PMKV_FORMAT_VERSION, "PAGE_SIZE": PAGE_SIZE, "LINE_SIZE": LINE_SIZE,
    "GRANULE_SIZE": GRANULE_SIZE, "FREE_BINS": FREE_BINS, "BLOCK_CLASSES": BLOCK_CLASSES,
    "MAX_KEY_SIZE": MAX_KEY_SIZE, "MAX_VALUE_SIZE": MAX_VALUE_SIZE,
}


def hash64(u64 seed0, u64 seed1, bytes data):
    """The 64-bit hash of keys and checksum of entries and superblocks (hash.h)."""
    return pmkv_hash64(seed0, seed1, <const char*>data, len(data))


def crc32c(bytes data):
    """CRC32C by the instruction where there is one, three streams at a time where it is long."""
    return <uint32_t>~pmkv_crc_update_long(~<uint32_t>0, <const char*>data, len(data))


def crc32c_by_table(bytes data):
    """CRC32C of whole words by the tables that other processors use; len(data) is a multiple of 8."""
    cdef uint32_t crc = ~<uint32_t>0
    cdef size_t i
    pmkv_crc_tables_build()
    for i in range(0, len(data) // 8):
        crc = pmkv_crc_u64_by_table(crc, (<const u64*><const char*>data)[i])
    return <uint32_t>~crc


def seal(u64 payload):
    """A sealed word of 56 bits (checksum.h)."""
    return pmkv_seal(payload)


def is_sealed(u64 word):
    """Whether a word's check fits."""
    return bool(pmkv_is_sealed(word))
