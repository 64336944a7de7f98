/* layout.h: everything that lies in a pool, and nothing else.
 *
 * This is the one place where the bytes of the format are declared.  Each
 * structure is written once, as an X-macro; the C struct, the table that
 * docs/format.md and the tests are compared with, and the assertions below all
 * come from it, so no offset is written twice.
 *
 * Invariants of the format
 *   F1. All integers are little-endian and of fixed width.
 *   F2. A *place* is a byte offset from the pool's start in the space of its
 *       pages (bit 62 clear) or of its descriptors (bit 62 set), never a
 *       pointer.  Place 0 is inside superblock A, so 0 means "none".
 *   F3. Words that change while the pool is in use change only as whole,
 *       aligned 8-byte words, and only through the redo ring; but for the
 *       checkpoint and the ring itself.
 *   F4. A *sealed* word carries 56 bits and, in its top byte, a check of them
 *       (checksum.h): any change of a single byte is noticed.  Zero is sealed.
 *   F5. All-zero descriptors describe pages that have never been used, so a
 *       new section needs no writing.
 *   F6. Padding is explicit, named reserved, and zero.
 */
#ifndef PMKV_LAYOUT_H
#define PMKV_LAYOUT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "pools are little-endian (F1): this processor would have to swap every word"
#endif

#define PMKV_MAGIC 0x4c4f4f50564b4d50ull /* "PMKVPOOL" */
#define PMKV_FORMAT_VERSION 1u

#define PMKV_PAGE_SIZE 4096u
#define PMKV_LINE_SIZE 64u
#define PMKV_GRANULE_SIZE 16u
#define PMKV_GRANULE_SHIFT 4

#define PMKV_DESCRIPTOR_SPACE (1ull << 62)
#define PMKV_PLACE_BITS 44 /* 16 TiB of pages: 40 bits of granules */

#define PMKV_FREE_BINS 112    /* of runs of free pages, four to a doubling */
#define PMKV_BLOCK_CLASSES 32 /* of blocks of granules, by size of what they hold */

#define PMKV_CODING_SLOTS 64  /* of counts of values under codecs, one for each way of coding */

#define PMKV_MAX_KEY_SIZE (16u << 20)
#define PMKV_MAX_VALUE_SIZE 0xfffff000u

/* ---- superblock: page 0, and a copy in the header's last page ------------- */
#define PMKV_SUPERBLOCK_FIELDS(F, A)                                              \
    F(superblock, uint64_t, magic, "the bytes PMKVPOOL")                      \
    F(superblock, uint32_t, version, "format version, 1")                     \
    F(superblock, uint32_t, page_size, "4096")                                \
    F(superblock, uint64_t, compatible_features, "may be ignored")            \
    F(superblock, uint64_t, readonly_features, "unknown bits: read only")     \
    F(superblock, uint64_t, incompatible_features, "unknown bits: refuse")    \
    A(superblock, uint8_t, uuid, 16, "identity of the pool")                     \
    A(superblock, uint64_t, seed, 2, "seed of the hash, of this pool alone")     \
    F(superblock, uint64_t, header_size, "bytes before section 0")            \
    F(superblock, uint64_t, ring_place, "where the redo ring begins")         \
    F(superblock, uint64_t, ring_size, "its bytes, a multiple of 4096")       \
    F(superblock, uint64_t, root_place, "where the root lies")                \
    F(superblock, uint64_t, section_pages, "pages in a section, multiple of 64") \
    F(superblock, uint64_t, max_size, "bytes the file may grow to, 0: any")   \
    F(superblock, uint64_t, created_ns, "when made, ns since 1970, UTC")      \
    F(superblock, uint64_t, sequence, "the higher of two valid copies wins")  \
    A(superblock, uint8_t, creator, 32, "program and version, UTF-8, zero-padded") \
    A(superblock, uint8_t, reserved, 80, "zero")                                 \
    F(superblock, uint64_t, checksum, "hash64 of the bytes before, seed 0")

/* ---- descriptor: one line a page ------------------------------------------ */
#define PMKV_DESCRIPTOR_FIELDS(F, A)                                              \
    F(descriptor, uint8_t, kind, "what the page is, see page kinds")          \
    F(descriptor, uint8_t, block_class, "of a block: its class; of a leaf: its depth") \
    F(descriptor, uint8_t, listed, "1: in its class's list of blocks with room") \
    F(descriptor, uint8_t, reserved0, "zero")                                 \
    F(descriptor, uint32_t, page_count, "pages in the run; in a tail or body: pages back to its head") \
    F(descriptor, uint32_t, prev, "list link: page index, 0: none")           \
    F(descriptor, uint32_t, next, "list link: page index, 0: none")           \
    F(descriptor, uint64_t, owner, "of an extent: place of the record that owns it") \
    F(descriptor, uint32_t, check, "CRC32C of the line, this field taken as zero; begins at 0, not inverted") \
    F(descriptor, uint32_t, reserved1, "zero")                                \
    A(descriptor, uint64_t, bitmap, 4, "of a block: one bit for each of 256 units in use")

/* ---- root: the words that change with commits ------------------------------ */
#define PMKV_NAMESPACE_FIELDS(F, A)                                               \
    F(namespace_root, uint64_t, mapping, "sealed reference to the mapping's top") \
    F(namespace_root, uint64_t, entry_count, "sealed")                        \
    F(namespace_root, uint64_t, live_bytes, "sealed: bytes of keys and values") \
    F(namespace_root, uint64_t, options, "sealed: see namespace options")     \
    F(namespace_root, uint64_t, keytree, "sealed: root of the ordered keys, 0: none") \
    F(namespace_root, uint64_t, reserved0, "zero")                            \
    F(namespace_root, uint64_t, id, "sealed: what its records call it; 0 of the default, 65535 of the catalogue") \
    F(namespace_root, uint64_t, last_id, "sealed: of the catalogue, the highest id so far")

#define PMKV_ROOT_FIELDS(F, A)                                                    \
    F(root, uint64_t, checkpoint, "sealed: ring position replay starts from") \
    A(root, uint64_t, reserved0, 7, "zero: the checkpoint has a line of its own") \
    F(root, uint64_t, frontier, "sealed: pages from here on were never used") \
    F(root, uint64_t, page_count, "sealed: pages the file has room for")      \
    F(root, uint64_t, free_page_count, "sealed: pages in the free runs")      \
    F(root, uint64_t, limbo_head, "sealed: page of what is retired but pinned, 0: none") \
    F(root, uint64_t, limbo_count, "sealed: entries in limbo")                \
    A(root, uint64_t, bin_bitmap, 2, "sealed: which of 56 free_bin each are not empty") \
    F(root, uint64_t, reserved1, "zero")                                      \
    A(root, uint64_t, catalogue, 8, "namespace_root of the catalogue: name -> place of a namespace_root") \
    A(root, uint64_t, default_namespace, 8, "namespace_root of the namespace without a name") \
    A(root, uint64_t, free_bin, PMKV_FREE_BINS, "sealed: first free run of the bin, page index, 0: none") \
    A(root, uint64_t, block_current, PMKV_BLOCK_CLASSES, "sealed: the block being filled, 0: none") \
    A(root, uint64_t, block_partial, PMKV_BLOCK_CLASSES, "sealed: first block with room again, 0: none") \
    F(root, uint64_t, versions, "sealed: tree of superseded records, by key, 0: none") \
    F(root, uint64_t, deaths, "sealed: tree of the same, by the commit that superseded them") \
    F(root, uint64_t, expiry, "sealed: tree of records that expire, by time, 0: none") \
    A(root, uint64_t, reserved2, 5, "zero")                                      \
    A(root, uint64_t, codings, 4 * PMKV_CODING_SLOTS, "counts of values under codecs: slots, see section 12") \
    A(root, uint64_t, reserved3, 40, "zero")

/* ---- redo ring entry header -------------------------------------------------- */
#define PMKV_ENTRY_FIELDS(F, A)                                                   \
    F(entry, uint64_t, checksum, "hash64 of all that follows, seed of the pool") \
    F(entry, uint64_t, position, "in lines since the pool was made: the commit number") \
    F(entry, uint16_t, checkpoint_lag, "lines: replay starts at position - this") \
    F(entry, uint16_t, flags, "see entry flags")                              \
    F(entry, uint16_t, range_count, "ranges of new data, 8 bytes each, after the header") \
    F(entry, uint16_t, word_count, "(place, word) pairs after the ranges, 16 bytes each") \
    F(entry, uint64_t, indirect_checksum, "of an indirect entry: hash64 of its words, else 0")

/* ---- record -------------------------------------------------------------------- */
#define PMKV_RECORD_FIELDS(F, A)                                                  \
    F(record, uint32_t, crc, "CRC32C of header after this field, key, and value or extent reference") \
    F(record, uint8_t, flags, "see record flags")                             \
    F(record, uint8_t, codec, "0: a plain value; else the last stage of its coding, a word behind the key")   \
    F(record, uint16_t, namespace_id, "namespace it belongs to, 0: the default") \
    F(record, uint64_t, commit, "commit number that wrote it")                \
    F(record, uint32_t, key_size, "bytes")                                    \
    F(record, uint32_t, value_size, "bytes as stored")

#define PMKV_CODING_FIELDS(F, A)                                                  \
    F(coding, uint32_t, raw_size, "bytes of the value before the first stage")    \
    A(coding, uint8_t, stages, 4, "numbers of the stages, in the order in which they were applied; zeros behind")

#define PMKV_CODING_SLOT_FIELDS(F, A)                                             \
    F(coding_slot, uint64_t, stages, "sealed: the four bytes of coding.stages, little-endian; 0: not in use") \
    F(coding_slot, uint64_t, entry_count, "sealed: values so coded, in all namespaces") \
    F(coding_slot, uint64_t, raw_bytes, "sealed: sum of their raw_size")          \
    F(coding_slot, uint64_t, stored_bytes, "sealed: sum of their value_size")

#define PMKV_EXTENT_REFERENCE_FIELDS(F, A)                                        \
    F(extent_reference, uint64_t, place, "place of the value, at a page's start") \
    F(extent_reference, uint32_t, crc, "CRC32C of the value")                 \
    F(extent_reference, uint32_t, reserved, "zero")

/* ---- ordered keys: a B+tree whose nodes are 1 KiB -------------------------------------------- */
#define PMKV_TREE_NODE_FIELDS(F, A)                                               \
    F(tree_node, uint64_t, header, "sealed: see below")                       \
    F(tree_node, uint16_t, prefix_size, "bytes that all keys of the node begin with") \
    F(tree_node, uint16_t, reserved, "zero")                                  \
    A(tree_node, uint8_t, heap, 884, "the prefix, entries, each at a multiple of 4 (inner: 8); a parent's heads") \
    A(tree_node, uint8_t, order, 128, "two areas of 64: offsets of entries, in units of 4, by key; last, see below")

#define PMKV_TREE_CHILD_FIELDS(F, A)                                              \
    F(tree_child, uint64_t, child, "sealed: granule of the node")             \
    F(tree_child, uint64_t, count, "sealed: keys below it; not in the parent of a leaf")

#define PMKV_TREE_KEY_FIELDS(F, A)                                                \
    F(tree_key, uint16_t, size, "bytes after the prefix, which follow; bit 15: the place of a record does") \
    F(tree_key, uint16_t, check, "low half of the CRC32C of size and what follows")

#define PMKV_ALL_FIELDS(F, A)                                                  \
    PMKV_SUPERBLOCK_FIELDS(F, A)                                               \
    PMKV_DESCRIPTOR_FIELDS(F, A)                                               \
    PMKV_NAMESPACE_FIELDS(F, A)                                                \
    PMKV_ROOT_FIELDS(F, A)                                                     \
    PMKV_ENTRY_FIELDS(F, A)                                                    \
    PMKV_RECORD_FIELDS(F, A)                                                   \
    PMKV_CODING_FIELDS(F, A)                                                   \
    PMKV_CODING_SLOT_FIELDS(F, A)                                              \
    PMKV_EXTENT_REFERENCE_FIELDS(F, A)                                         \
    PMKV_TREE_NODE_FIELDS(F, A)                                                \
    PMKV_TREE_CHILD_FIELDS(F, A)                                               \
    PMKV_TREE_KEY_FIELDS(F, A)

#define PMKV_SCALAR_(struct_, type, name, meaning) type name;
#define PMKV_ARRAY_(struct_, type, name, count, meaning) type name[count];
#define PMKV_DECLARE(name, FIELDS)                                             \
    struct pmkv_##name { FIELDS(PMKV_SCALAR_, PMKV_ARRAY_) }

PMKV_DECLARE(superblock, PMKV_SUPERBLOCK_FIELDS);
static_assert(sizeof(struct pmkv_superblock) == 256, "superblock: four lines");
PMKV_DECLARE(descriptor, PMKV_DESCRIPTOR_FIELDS);
static_assert(sizeof(struct pmkv_descriptor) == 64, "descriptor: one line, as Linux's struct page");
PMKV_DECLARE(namespace_root, PMKV_NAMESPACE_FIELDS);
static_assert(sizeof(struct pmkv_namespace_root) == 64, "namespace_root: one line");
PMKV_DECLARE(root, PMKV_ROOT_FIELDS);
static_assert(sizeof(struct pmkv_root) == PMKV_PAGE_SIZE, "root: one page");
static_assert(offsetof(struct pmkv_root, frontier) == 64, "on its own line");
static_assert(offsetof(struct pmkv_root, catalogue) % 64 == 0, "on its own line");
PMKV_DECLARE(entry, PMKV_ENTRY_FIELDS);
static_assert(sizeof(struct pmkv_entry) == 32, "entry: half a line before its words");
PMKV_DECLARE(record, PMKV_RECORD_FIELDS);
static_assert(sizeof(struct pmkv_record) == 24, "record: 24 bytes before the key");
PMKV_DECLARE(coding, PMKV_CODING_FIELDS);
static_assert(sizeof(struct pmkv_coding) == 8, "coding: one word");
PMKV_DECLARE(coding_slot, PMKV_CODING_SLOT_FIELDS);
static_assert(sizeof(struct pmkv_coding_slot) == 32, "coding_slot: two to a line");
static_assert(offsetof(struct pmkv_root, codings) % 64 == 0, "no slot is on two lines");
PMKV_DECLARE(extent_reference, PMKV_EXTENT_REFERENCE_FIELDS);
static_assert(sizeof(struct pmkv_extent_reference) == 16, "reference: two words");

PMKV_DECLARE(tree_node, PMKV_TREE_NODE_FIELDS);
static_assert(sizeof(struct pmkv_tree_node) == 1024, "tree_node: four to a page");
static_assert(offsetof(struct pmkv_tree_node, heap) == 12, "the prefix follows its size");
PMKV_DECLARE(tree_child, PMKV_TREE_CHILD_FIELDS);
static_assert(sizeof(struct pmkv_tree_child) == 16, "tree_child: two words");
PMKV_DECLARE(tree_key, PMKV_TREE_KEY_FIELDS);
static_assert(sizeof(struct pmkv_tree_key) == 4, "tree_key: half a word before the bytes");

/* ---- enumerations in the pool ------------------------------------------------------ */
#define PMKV_PAGE_KINDS(K)                                                     \
    K(FRESH, 0, "never used, or inside the run of the head before it")         \
    K(FREE, 1, "head of a run of free pages, in the list of its bin")          \
    K(FREE_TAIL, 2, "last page of a run of free pages")                        \
    K(RECORDS, 3, "head of a block that holds records")                        \
    K(NODES, 4, "head of a block of nodes of the mapping, of ordered keys, or of roots of namespaces")             \
    K(BODY, 5, "page of a block after its head")                               \
    K(EXTENT, 6, "head of a run that holds one value, or one large record")    \
    K(LEAF, 7, "64 buckets of the mapping")                                    \
    K(NODE, 8, "a node of the mapping that fills a page")                      \
    K(LIMBO, 9, "places of what is retired but pinned")

#define PMKV_ENUM_KIND_(name, value, meaning) PMKV_PAGE_##name = value,
enum pmkv_page_kind { PMKV_PAGE_KINDS(PMKV_ENUM_KIND_) };

#define PMKV_RECORD_FLAGS(K)                                                   \
    K(EXTENT, 1, "the value lies in an extent; an extent_reference follows the key") \
    K(EXPIRY, 2, "its last 8 bytes are a sealed word: when it expires, microseconds since 1970, UTC; 0: never")
#define PMKV_ENUM_RECORD_(name, value, meaning) PMKV_RECORD_##name = value,
enum pmkv_record_flag { PMKV_RECORD_FLAGS(PMKV_ENUM_RECORD_) };

#define PMKV_ENTRY_FLAGS(K)                                                    \
    K(INLINE, 1, "the ranges' bytes follow the words, and replay copies them") \
    K(INDIRECT, 2, "the ranges hold the words: pairs of (place, word)")
#define PMKV_ENUM_ENTRY_(name, value, meaning) PMKV_ENTRY_##name = value,
enum pmkv_entry_flag { PMKV_ENTRY_FLAGS(PMKV_ENUM_ENTRY_) };

#define PMKV_NAMESPACE_OPTIONS(K)                                              \
    K(KEYS_STR, 1, "keys are text: returned as str")                           \
    K(UNORDERED, 2, "no ordered keys are wanted")                                  \
    K(MSGPACK, 4, "values are objects, as msgpack")                                \
    K(PICKLE, 8, "values are objects, pickled")                                    \
    K(SERIALIZED, 16, "values are what a serializer of the user's own makes")
/* In the same word: the stages that new values of the namespace go through, as coding.stages, and the
 * number of the dictionary that they are compressed with, 0: none. */
#define PMKV_OPTION_BITS_MASK 0xffull
#define PMKV_OPTION_STAGES_SHIFT 8
#define PMKV_OPTION_DICTIONARY_SHIFT 40
#define PMKV_OPTION_DICTIONARY_MASK 0xffu
#define PMKV_ENUM_OPTION_(name, value, meaning) PMKV_OPTION_##name = value,
enum pmkv_namespace_option { PMKV_NAMESPACE_OPTIONS(PMKV_ENUM_OPTION_) };

/* ---- words with parts ---------------------------------------------------------------
 *
 * A slot of a bucket, and a reference to a node or leaf, are sealed words:
 *
 *    63      56 55 54 53        40 39                     0
 *   +----------+--+--+------------+------------------------+
 *   |  check   |O |A |    tag     |   granule of record    |   slot
 *   +----------+--+--+------------+------------------------+
 *    O: the bucket has sent a key to its alternative (in slot 7 only, also when empty)
 *    A: this bucket is the alternative of the key's home
 *
 *    63      56 55        50 49   46  45     40 39          0
 *   +----------+------------+-------+----------+-------------+
 *   |  check   |  reserved  | bits  |  depth   |   granule   |   reference
 *   +----------+------------+-------+----------+-------------+
 *    bits: log2 of the node's words, 0 for a leaf; depth: of a leaf, hash bits that lead to it
 *
 *    63      56 55  52 51                   20 19  16 15       8 7 6       0
 *   +----------+------+-----------------------+------+----------+-+---------+
 *   |  check   | tail |  CRC32C               | level|   heap   |A|  count  |   header of a tree node
 *   +----------+------+-----------------------+------+----------+-+---------+
 *    count: entries; A: which area of `order` holds; heap: its end, in units of 4 bytes from the
 *    node's start; level: 0 for a leaf; CRC32C: of the order in use, a parent's heads, prefix_size and the prefix;
 *    tail: of a leaf, entries behind those of the order
 */
#define PMKV_GRANULE_MASK ((1ull << 40) - 1)
#define PMKV_SLOT_TAG_SHIFT 40
#define PMKV_SLOT_TAG_BITS 14
#define PMKV_SLOT_TAG_MASK (((1ull << PMKV_SLOT_TAG_BITS) - 1) << PMKV_SLOT_TAG_SHIFT)
#define PMKV_SLOT_ALTERNATE (1ull << 54)
#define PMKV_SLOT_OVERFLOWED (1ull << 55)
#define PMKV_REFERENCE_DEPTH_SHIFT 40
#define PMKV_REFERENCE_DEPTH_MASK 63u
#define PMKV_REFERENCE_BITS_SHIFT 46
#define PMKV_REFERENCE_BITS_MASK 15u

#define PMKV_TREE_AREA_SHIFT 7
#define PMKV_TREE_HEAP_SHIFT 8
#define PMKV_TREE_LEVEL_SHIFT 16
#define PMKV_TREE_CRC_SHIFT 20
#define PMKV_TREE_TAIL_SHIFT 52
#define PMKV_TREE_TAIL_MASK 15
#define PMKV_TREE_ORDER_MAX 63
#define PMKV_TREE_INLINE_MAX 128 /* a longer key lies in a record of its own, without a value */
#define PMKV_TREE_FAR 0x8000u    /* in tree_key.size: the place of that record follows, 8 bytes */

#define PMKV_BUCKET_SLOTS 8
#define PMKV_LEAF_BUCKETS 64
#define PMKV_NODE_MIN_BITS 3 /* one line */
#define PMKV_NODE_MAX_BITS 9 /* one page */

#endif
