"""_treenode.pxd (L3): one node of the ordered keys: as read, searched, changed and built."""
from libc.string cimport memcmp, memcpy
from pmkv._core cimport pmkv_load, u64
from pmkv._pool cimport Pool
from pmkv._writeset cimport Txn, txn_read

cdef enum:
    TREE_LEVELS = 16             # more than 2**40 keys need
    PIECES_MAX = 132             # two full nodes, and what comes in
    COPY_ROOM = 16               # bytes that node_copy() may write behind a key
    ORDER_SIZE = 64              # of an order, in bytes

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
    u64 count

cdef struct Node:
    u64 place
    u64 word                     # the header
    const char* base
    int count
    int level
    u64 heap                     # where it ends, in bytes from the node's start
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

cdef inline u64 head_of_key(const char* key, u64 size) noexcept nogil:
    """The first eight bytes as a number that is ordered as they are; of fewer, as if zeros followed."""
    cdef u64 word = 0
    memcpy(&word, key, min(size, <u64>8))
    return __builtin_bswap64(word)

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
cdef int node_piece(Pool* p, Txn* t, const Node* n, int index, Piece* piece) noexcept nogil
cdef bint node_copy(Pool* p, const Node* n, int index, char* out, u64 room, u64* size) noexcept nogil
cdef int node_child(Pool* p, Txn* t, const Node* n, int index, u64* child) noexcept nogil
cdef int node_count(Pool* p, Txn* t, const Node* n, int index, u64* count) noexcept nogil
cdef int node_search(Pool* p, const Node* n, const char* key, u64 key_size, int low, int* index,
                     bint* exact) noexcept nogil
cdef int node_compare(Pool* p, const Node* n, int index, const char* key, u64 key_size, int* order) noexcept nogil
cdef u64 child_word_place(const Node* n, int index) noexcept nogil
cdef bint pieces_fit(int level, const Piece* pieces, int count, u64 room) noexcept nogil
cdef u64 pieces_prefix(int level, const Piece* pieces, int count) noexcept nogil
cdef u64 piece_room(int level, const Piece* piece, u64 prefix_size) noexcept nogil
cdef int node_build(Txn* t, int level, Piece* pieces, int count, u64* place) noexcept nogil
cdef int node_change(Txn* t, const Node* n, int first, int removed, Piece* fresh, int fresh_count) noexcept nogil
cdef int node_append(Txn* t, u64 place, const char* key, u64 key_size) noexcept nogil
cdef int node_free_later(Txn* t, u64 place) noexcept nogil
