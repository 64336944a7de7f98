"""_treemove.pyx (L3): nodes of the ordered keys, and the records of far keys, moved below the ceiling; nodes joined.

May know: the tree and its nodes, records, blocks.  Not which namespaces, nor what the keys mean.

A node moves as it is: a copy in free space, then the word that leads to it.  One whose far keys move
is built anew, since entries do not change.  The walk goes by rank: a number is all that it must
remember between two commits.
"""
from pmkv._blocks cimport NODE_CLASS, block_allocate_below, block_must_move
from pmkv._core cimport *
from pmkv._keytree cimport Path, TreeCursor, keytree_at, keytree_join, path_end
from pmkv._pages cimport page_fits
from pmkv._records cimport Record, Tally, record_move, record_parse
from pmkv._treebuild cimport FULL, node_build, node_free_later, pieces_fit
from pmkv._treenode cimport NODE_SIZE, NODE_WORDS, PIECES_MAX, Node, Piece, child_word_place, node_piece, node_read
from pmkv._writeset cimport Txn, txn_data, txn_fail, txn_log_sealed, txn_push, txn_read

cdef enum:
    NODE_BITS = 7


cdef int gather(Txn* t, const Node* n, Piece* pieces, bint* far) noexcept nogil:
    """The entries; `far`: some key lies in a record."""
    cdef int i, status
    far[0] = False
    for i in range(n.count):
        status = node_piece(t.p, t, n, i, &pieces[i])
        if status != PMKV_OK:
            return txn_fail(t, status)
        far[0] |= pieces[i].far != 0
    return PMKV_OK


cdef int move_far(Txn* t, Piece* piece) noexcept nogil:
    """Moves the record of a far key; OK, EXISTS, NOT_FOUND as record_move()."""
    cdef Record r
    cdef u64 place = 0
    cdef bint keeps_extent = False
    cdef int status = record_parse(t.p, piece.far, &r)
    if status != PMKV_OK:
        return txn_fail(t, status)
    status = record_move(t, &r, &place, &keeps_extent)
    if status == PMKV_OK:
        txn_push(t, &t.freed, &t.freed_count, &t.freed_capacity, piece.far)
        piece.far = place
    return status


cdef int move_far_keys(Txn* t, const Node* n, Piece* pieces, bint* moved, Tally* tally) noexcept nogil:
    """Also counts as moved: the first of a parent has a record that it does not need, and gives it up."""
    cdef int i, status
    moved[0] = n.level != 0 and pieces[0].far != 0
    for i in range(n.level != 0, n.count):
        if pieces[i].far == 0:
            continue
        status = move_far(t, &pieces[i])
        if status < 0:
            return status
        tally.stuck += status == PMKV_NOT_FOUND
        moved[0] |= status == PMKV_OK
    return PMKV_OK


cdef int copy_node(Txn* t, const Node* n, u64* place) noexcept nogil:
    """The node as the transaction has it, in another place; EXISTS if it lies well, NOT_FOUND without room."""
    cdef u64 words[NODE_WORDS]
    cdef int i, status
    if not block_must_move(t, n.place):
        return PMKV_EXISTS if t.status == PMKV_OK else t.status
    status = block_allocate_below(t, NODE_CLASS + NODE_BITS, NODE_SIZE, place)
    if status != PMKV_OK:
        return status
    for i in range(NODE_WORDS):
        words[i] = txn_read(t, n.place + i * 8)
    return txn_data(t, place[0], words, NODE_SIZE)


cdef int move_node(Txn* t, Node* n, u64 word_place, Tally* tally) noexcept nogil:
    """Moves what must; `n` is the node as it is then, wherever it lies."""
    cdef Piece pieces[PIECES_MAX]
    cdef u64 place = 0
    cdef int status
    cdef bint far = False, moved = False
    if gather(t, n, pieces, &far) != PMKV_OK:
        return t.status
    # Built anew it has all of its common prefix and no gaps, so it fits; a crafted one may not.
    if far and pieces_fit(n.level, pieces, n.count, FULL) and move_far_keys(t, n, pieces, &moved, tally) < 0:
        return t.status
    if moved:
        status = node_build(t, n.level, pieces, n.count, &place)
    else:
        status = copy_node(t, n, &place)
    tally.stuck += status == PMKV_NOT_FOUND
    if status != PMKV_OK:
        return t.status
    tally.moved += 1
    txn_log_sealed(t, word_place, place >> GRANULE_SHIFT)
    node_free_later(t, n.place)
    status = node_read(t.p, t, place, n.level, n)
    return t.status if status == PMKV_OK else txn_fail(t, status)


cdef bint is_first_way(const Path* path, int at) noexcept nogil:
    """Whether the path leads to the first leaf below the node: then it is the node's turn."""
    while at < path.length - 1 and path.step[at].index == 0:
        at += 1
    return at == path.length - 1


cdef int move_path(Txn* t, u64 root_place, Path* path, Tally* tally) noexcept nogil:
    """From the root down, so that each word is logged where it will lie."""
    cdef u64 word_place = root_place
    cdef int at
    for at in range(path.length):
        if at:
            word_place = child_word_place(&path.step[at - 1].node, path.step[at - 1].index)
        if is_first_way(path, at) and move_node(t, &path.step[at].node, word_place, tally) != PMKV_OK:
            break
    return t.status


cdef bint join_path(Txn* t, u64 root_place, const Path* path) noexcept nogil:
    """Joins a node of the path with a neighbour, if it is its turn and they fit one node; whether it did."""
    cdef bint joined = False
    cdef int at
    for at in range(path.length - 1, 0, -1):
        if is_first_way(path, at) and page_fits(t):
            if keytree_join(t, root_place, path, at - 1, &joined) != PMKV_OK or joined:
                return joined
    return False


cdef int keytree_tidy(Txn* t, u64 root_place, u64* rank, bint* ended, Tally* tally) noexcept nogil:
    """Joins the leaf of the key at `rank` with a neighbour, or moves it, and the nodes above it.

    To the first key behind it then.
    """
    cdef TreeCursor cursor
    cdef int status
    if t.status != PMKV_OK:
        return t.status
    status = keytree_at(t.p, t, root_place, rank[0], &cursor)
    if status == PMKV_NOT_FOUND:
        ended[0] = True
        return PMKV_OK
    if status != PMKV_OK:
        return txn_fail(t, status)
    if join_path(t, root_place, &cursor.path):   # the way has changed: this rank once more
        tally.moved += 1
        return PMKV_OK
    rank[0] += path_end(&cursor.path).count - cursor.index
    return move_path(t, root_place, &cursor.path, tally)
