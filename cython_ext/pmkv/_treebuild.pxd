"""_treebuild.pxd (L3): nodes of the ordered keys, as they come to be and as they change."""
from pmkv._core cimport u64
from pmkv._treenode cimport Node, Piece
from pmkv._writeset cimport Txn

cdef enum:
    FULL = 8                     # eighths
    REBUILT_FILL = 6             # of a node that is built anew as one: it has room again

cdef bint pieces_fit(int level, const Piece* pieces, int count, int eighths) noexcept nogil
cdef int pieces_cut(int level, const Piece* pieces, int count, int fresh_end) noexcept nogil
cdef void pieces_separate(int level, const Piece* pieces, int cut, Piece* separator) noexcept nogil
cdef int node_build(Txn* t, int level, Piece* pieces, int count, u64* place) noexcept nogil
cdef int node_change(Txn* t, const Node* n, int first, int removed, Piece* fresh, int fresh_count) noexcept nogil
cdef int node_append(Txn* t, u64 place, const char* key, u64 key_size) noexcept nogil
cdef int leaf_divide(Txn* t, const Node* n, int index, Piece* fresh, Piece* halves) noexcept nogil
cdef int node_free_later(Txn* t, u64 place) noexcept nogil
