"""_keytree.pxd (L3): the keys of a namespace in order."""
from pmkv._core cimport u64
from pmkv._pool cimport Pool
from pmkv._writeset cimport Txn
from pmkv._treenode cimport TREE_LEVELS, Node

cdef struct Step:
    Node node
    int index                    # which of its entries leads on

cdef struct Path:
    Step step[TREE_LEVELS]
    int length                   # 0: the tree is empty

# By how much counts on the way to a leaf are too low, level by level from the root.
cdef struct Owed:
    u64 place[TREE_LEVELS]       # of the count, 0: none
    u64 plus[TREE_LEVELS]

# Where a scan is: an entry of the path's last node, a leaf.  Good for as long as nothing is committed.
cdef struct TreeCursor:
    Path path
    int index                    # may be leaf.count, or -1: between two leaves

cdef inline Node* path_end(Path* path) noexcept nogil:
    """The node that the path leads to."""
    return &path.step[path.length - 1].node

cdef inline u64 path_below(const Path* path, int level) noexcept nogil:
    """The place of the node that was found to be next, 0 unless the path ends at a node of `level`."""
    if path.length and path.step[path.length - 1].node.level == level:
        return path.step[path.length].node.place
    return 0

cdef int keytree_find_parent(Txn* t, u64 root_place, const char* key, u64 key_size, Path* path) noexcept nogil
cdef int keytree_find_parent_from(Txn* t, const char* key, u64 key_size, int low, Path* path) noexcept nogil
cdef int keytree_find_leaf(Txn* t, const char* key, u64 key_size, int low, Path* path) noexcept nogil
cdef void keytree_fetch_parent(const Pool* p, const Path* path) noexcept nogil
cdef void keytree_fetch_leaf(Txn* t, const Path* path) noexcept nogil
cdef int keytree_insert(Txn* t, u64 root_place, const char* key, u64 key_size, Path* path) noexcept nogil
cdef int keytree_insert_owing(Txn* t, u64 root_place, const char* key, u64 key_size, Path* path,
                              Owed* owed) noexcept nogil
cdef int keytree_insert_now(Txn* t, u64 root_place, const char* key, u64 key_size) noexcept nogil
cdef int keytree_settle(Txn* t, Owed* owed) noexcept nogil
cdef int keytree_delete(Txn* t, u64 root_place, const char* key, u64 key_size) noexcept nogil
cdef int keytree_join(Txn* t, u64 root_place, const Path* path, int at, bint* joined) noexcept nogil
cdef int keytree_free_all(Txn* t, u64 root_place) noexcept nogil
cdef int keytree_seek(Pool* p, Txn* t, u64 root_place, const char* key, u64 key_size, TreeCursor* cursor,
                      bint* exact) noexcept nogil
cdef int keytree_edge(Pool* p, Txn* t, u64 root_place, bint last, TreeCursor* cursor) noexcept nogil
cdef int keytree_next_leaf(Pool* p, Txn* t, TreeCursor* cursor, bint forward) noexcept nogil
cdef int keytree_rank(Pool* p, Txn* t, u64 root_place, const char* key, u64 key_size, u64* rank) noexcept nogil
cdef int keytree_at(Pool* p, Txn* t, u64 root_place, u64 index, TreeCursor* cursor) noexcept nogil
