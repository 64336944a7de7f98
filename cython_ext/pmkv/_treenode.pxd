"""_treenode.pxd (L3): one node of the ordered keys: as read and searched."""
from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memcmp, memcpy
from pmkv._core cimport (
    TREE_HEAP_SHIFT, TREE_TAIL_MASK, TREE_TAIL_SHIFT, pmkv_crc_u64, pmkv_crc_update, pmkv_load, pmkv_tree_key,
    pmkv_tree_node, u64,
)
from pmkv._pool cimport Pool
from pmkv._writeset cimport Txn, txn_read

cdef enum:
    TREE_LEVELS = 16             # more than 2**40 keys need
    PIECES_MAX = 132             # two full nodes, and what comes in
    COPY_ROOM = 16               # bytes that node_copy() may write behind a key
    NODE_SIZE = sizeof(pmkv_tree_node)
    NODE_WORDS = 128
    PREFIX_AT = 12
    PREFIX_MAX = 128
    ORDER_SIZE = 64              # of an order, in bytes
    ORDER_WORDS = 8
    ORDER_AT = NODE_SIZE - 2 * ORDER_SIZE
    TAIL_AT = 63                 # in an order: where the tail begins; of a parent, how many heads there are
    TAIL_MAX = 15                # keys, from which on an insert brings them into the order
    KEY_HEADER = sizeof(pmkv_tree_key)
    ENTRY_LIKELY = KEY_HEADER + 16       # bytes of a leaf's entry
    HEAD_SIZE = 4
    HEADS_MAX = 128
    WORD = 8
    FAR_SIZE = 8
    UNIT = 4                     # of an offset in the order

# A key in two parts, one after the other: what its node shares, and the rest.
cdef struct Parts:
    const char* a
    u64 a_size
    const char* b
    u64 b_size

# An entry outside of a node.  A separator, with a child, if the level is not 0.
cdef struct Piece:
    Parts key
    u64 far                      # place of the record that holds the key, 0: none
    u64 child
    u64 count                    # keys below it; the parent of a leaf has none

cdef struct Node:
    u64 place
    u64 word                     # the header
    const char* base
    int count
    int level
    u64 heap                     # where it ends, in bytes from the node's start
    int heads                    # of a parent: as many as entries, unless some were taken out
    unsigned char order[ORDER_SIZE]      # a copy, of all entries
    const char* prefix
    u64 prefix_size

cdef inline u64 tree_word(const Pool* p, Txn* t, u64 place) noexcept nogil:
    """A writer sees what its transaction has logged; a reader (no transaction) the pool."""
    return pmkv_load(&p.m, place) if t == NULL else txn_read(t, place)

cdef inline u64 parts_size(const Parts* x) noexcept nogil:
    return x.a_size + x.b_size

cdef extern from *:
    u64 __builtin_bswap64(u64) nogil
    uint32_t __builtin_bswap32(uint32_t) nogil

cdef inline u64 head_of_key(const char* key, u64 size) noexcept nogil:
    """The first eight bytes as a number that is ordered as they are; of fewer, as if zeros followed."""
    cdef u64 word = 0
    if size >= 8:                 # bytes stored one by one would wait to be loaded as a word
        return __builtin_bswap64((<const u64*>key)[0])
    memcpy(&word, key, size)
    return __builtin_bswap64(word)

cdef inline uint32_t short_head(const char* key, u64 size) noexcept nogil:
    """The first four of them."""
    if size >= HEAD_SIZE:
        return __builtin_bswap32((<const uint32_t*>key)[0])
    return <uint32_t>(head_of_key(key, size) >> 32)

cdef inline int tail_of(u64 header) noexcept nogil:
    return header >> TREE_TAIL_SHIFT & TREE_TAIL_MASK

cdef inline u64 heap_of(u64 header) noexcept nogil:
    return (header >> TREE_HEAP_SHIFT & 255) * UNIT

cdef inline u64 heap_start(u64 prefix_size) noexcept nogil:
    """Where keys may begin; zeros lie between the prefix and this."""
    return (PREFIX_AT + prefix_size + 7) & ~<u64>7

cdef inline u64 words_size(int level) noexcept nogil:
    """Of what an entry has in front of its key."""
    return 0 if level == 0 else WORD if level == 1 else 2 * WORD

cdef inline u64 heap_limit(int heads) noexcept nogil:
    """Where the heap ends at the latest: no granule is of both, it and the heads."""
    return (ORDER_AT - heads * HEAD_SIZE) & ~<u64>15

cdef inline uint16_t key_check(uint16_t size, const char* stored, u64 stored_size) noexcept nogil:
    return <uint16_t>~pmkv_crc_update(pmkv_crc_u64(~<uint32_t>0, size), stored, stored_size)

cdef inline int compare_bytes(const char* x, u64 x_size, const char* y, u64 y_size) noexcept nogil:
    cdef int order = memcmp(x, y, min(x_size, y_size))
    return order if order else (x_size > y_size) - (x_size < y_size)

cdef int parts_compare(const Parts* x, const Parts* y) noexcept nogil
cdef void parts_copy(const Parts* x, u64 first, char* out) noexcept nogil
cdef u64 parts_common(const Parts* x, const Parts* y) noexcept nogil
cdef void parts_cut(Parts* x, u64 size) noexcept nogil
cdef void node_prefetch(const Pool* p, u64 place) noexcept nogil
cdef void node_prefetch_to_append(Txn* t, u64 place) noexcept nogil
cdef int node_read(Pool* p, Txn* t, u64 place, int level, Node* n) noexcept nogil
cdef bint entry_is_whole(Pool* p, const Node* n, u64 at) noexcept nogil
cdef int node_piece(Pool* p, Txn* t, const Node* n, int index, Piece* piece) noexcept nogil
cdef bint node_copy(Pool* p, const Node* n, int index, char* out, u64 room, u64* size) noexcept nogil
cdef int node_child(Pool* p, Txn* t, const Node* n, int index, u64* child) noexcept nogil
cdef int node_count(Pool* p, Txn* t, const Node* n, int index, u64* count) noexcept nogil
cdef int node_search(Pool* p, const Node* n, const char* key, u64 key_size, int low, int* index,
                     bint* exact) noexcept nogil
cdef int node_compare(Pool* p, const Node* n, int index, const char* key, u64 key_size, int* order) noexcept nogil
cdef void node_prefetch_counts(Pool* p, Txn* t, const Node* n) noexcept nogil
cdef u64 child_word_place(const Node* n, int index) noexcept nogil
cdef u64 count_word_place(const Node* n, int index) noexcept nogil
cdef int leaf_count(Pool* p, Txn* t, u64 place, u64* count) noexcept nogil
cdef bint node_is_inside(const Pool* p, u64 place) noexcept nogil
cdef uint32_t node_crc(const unsigned char* order, int count, int heads, const char* node,
                       u64 prefix_size) noexcept nogil
