"""_keytree.pyx (L3): the keys of a namespace in order: a B+tree of small nodes.

May know: nodes, words.  Not records, nor how a key is looked up: it is a sorted *set of keys*.  A
scan finds what belongs to them through the mapping, and an update of a key never comes here.

A node that has room is changed in place; one that has none is built anew, as one node or two, and
its parent is changed instead, up to the first that has room.  So whatever an insert or delete does
to the shape of the tree is published by one word: a header, a child, or the root.

Invariants
  T1. A child's level is its parent's less one; leaves are of level 0.
  T2. All keys below an entry are at least its separator, and below the next one's.
  T3. The count of an entry is the number of keys below it; the root's sum is the namespace's.
  T4. No node is empty; a root that is not a leaf has two children or more.
Threads: readers take no lock; between two commits nothing that they can reach changes.
"""
from libc.stdint cimport uint16_t
from libc.string cimport memset
from pmkv._core cimport *
from pmkv._pool cimport Pool, corrupted, unseal
from pmkv._redo cimport Txn, txn_fail, txn_log, txn_log_sealed, txn_push
from pmkv._treenode cimport (
    PIECES_MAX, TREE_LEVELS, Node, Piece, Parts, child_word_place, node_build, node_change, node_child,
    node_free_later, node_piece, node_prefetch, node_read, node_search, parts_common, parts_cut, piece_room,
    pieces_fit, pieces_prefix, tree_word,
)

cdef enum:
    HEAP = 896                    # bytes of a node before its orders
    REBUILT_FILL = HEAP * 3 // 4  # a node is built anew as one if it then has so much room again
    MERGED_FILL = HEAP * 5 // 8
    FEW = 8                       # entries from which on a node looks for a neighbour to join

# What became of a node.
cdef enum Outcome:
    CHANGED, GONE, REPLACED       # REPLACED: by one or two new ones

cdef struct Change:
    Outcome outcome
    int made
    Piece piece[2]                # the new nodes; the key of the second separates them


# ---- down ----------------------------------------------------------------------------------

cdef int root_of(Pool* p, Txn* t, u64 root_place, u64* root) noexcept nogil:
    cdef int status = unseal(p, root_place, tree_word(p, t, root_place), root)
    root[0] <<= GRANULE_SHIFT
    return status


cdef int go_down(Pool* p, Txn* t, Path* path, Node* n, int index) noexcept nogil:
    """From a parent to the child of its entry `index`."""
    cdef u64 child, count
    cdef int level = n.level - 1, status = node_child(p, t, n, index, &child, &count)
    path.step[path.length - 1].index = index
    if status == PMKV_OK:
        node_prefetch(p, child)
        status = node_read(p, t, child, level, n)
    if status == PMKV_OK:
        path.step[path.length].node = child
        path.step[path.length].index = 0
        path.length += 1
    return status


cdef int enter(Pool* p, Txn* t, u64 root_place, Path* path, Node* n) noexcept nogil:
    """Reads the root; NOT_FOUND if the tree is empty."""
    cdef u64 root
    cdef int status = root_of(p, t, root_place, &root)
    path.length = 0
    if status != PMKV_OK:
        return status
    if root == 0:
        return PMKV_NOT_FOUND
    status = node_read(p, t, root, -1, n)
    if status == PMKV_OK and n.level >= TREE_LEVELS:
        status = corrupted(p, PMKV_CHECK_TREE, root)
    path.step[0].node = root
    path.step[0].index = 0
    path.length = 1
    return status


cdef int choose_child(Pool* p, const Node* n, const char* key, u64 key_size, int* index) noexcept nogil:
    """The last entry whose separator is not larger than the key (N2: the first's is the smallest)."""
    cdef bint exact
    cdef int status = node_search(p, n, key, key_size, 1, index, &exact)
    if not exact:
        index[0] -= 1
    return status


cdef int descend(Pool* p, Txn* t, u64 root_place, const char* key, u64 key_size, Path* path, Node* n,
                 bint* exact) noexcept nogil:
    """To the leaf of the key, and the first entry that is not smaller; its index is in the path."""
    cdef int index, status = enter(p, t, root_place, path, n)
    while status == PMKV_OK and n.level:
        status = choose_child(p, n, key, key_size, &index)
        if status == PMKV_OK:
            status = go_down(p, t, path, n, index)
    if status == PMKV_OK:
        status = node_search(p, n, key, key_size, 0, &path.step[path.length - 1].index, exact)
    return status


# ---- building nodes anew ---------------------------------------------------------------------------

cdef int gather(Txn* t, const Node* n, Piece* pieces) noexcept nogil:
    cdef int i, status
    for i in range(n.count):
        status = node_piece(t.p, t, n, i, &pieces[i])
        if status != PMKV_OK:
            return txn_fail(t, status)
    return PMKV_OK


cdef u64 keys_below(const Piece* pieces, int count) noexcept nogil:
    cdef u64 total = 0
    cdef int i
    for i in range(count):
        total += pieces[i].count
    return total


cdef int where_to_cut(int level, const Piece* pieces, int count, int fresh_end) noexcept nogil:
    """How many of the pieces go into the first of two nodes.

    A key that comes behind all others opens a node of its own: keys often arrive in order, and then
    the full node stays full.  So does one that does not share what the others share.
    """
    cdef u64 prefix_size = pieces_prefix(level, pieces, count), total = 0, half = 0
    cdef int i
    if fresh_end == count and pieces_fit(level, pieces, count - 1, HEAP):
        return count - 1
    if not pieces_fit(level, pieces, count // 2, HEAP) or not pieces_fit(level, pieces + count // 2, count - count // 2, HEAP):
        if pieces_fit(level, pieces + 1, count - 1, HEAP):
            return 1
        if pieces_fit(level, pieces + 2, count - 2, HEAP) and pieces_fit(level, pieces, 2, HEAP):
            return 2
    for i in range(count):
        total += piece_room(level, &pieces[i], prefix_size)
    for i in range(count - 1):
        half += piece_room(level, &pieces[i], prefix_size)
        if half * 2 >= total and i > 0 and pieces_fit(level, pieces, i + 1, HEAP) and pieces_fit(
                level, pieces + i + 1, count - i - 1, HEAP):
            return i + 1
    return count // 2


cdef void separate(int level, const Piece* pieces, int cut, Piece* separator) noexcept nogil:
    """The key between two nodes: of leaves, as much of it as tells it from the one before."""
    separator.key = pieces[cut].key
    separator.far = 0
    if level:
        separator.far = pieces[cut].far          # it moves up
    else:
        parts_cut(&separator.key, parts_common(&pieces[cut - 1].key, &pieces[cut].key) + 1)


cdef int build(Txn* t, int level, Piece* pieces, int count, int fresh_end, Change* change) noexcept nogil:
    """New nodes of the pieces: one if it has room again, else two."""
    cdef int cut = count
    change.outcome = REPLACED
    change.made = 1
    if not pieces_fit(level, pieces, count, REBUILT_FILL):
        cut = where_to_cut(level, pieces, count, fresh_end)
        separate(level, pieces, cut, &change.piece[1])
        if level:
            pieces[cut].far = 0
        change.made = 2
        change.piece[1].count = keys_below(pieces + cut, count - cut)
        node_build(t, level, pieces + cut, count - cut, &change.piece[1].child)
    change.piece[0].count = keys_below(pieces, cut)
    return node_build(t, level, pieces, cut, &change.piece[0].child)


cdef int replace(Txn* t, u64 place, int level, int first, int removed, Piece* fresh, int fresh_count,
                 Change* change) noexcept nogil:
    """Entries of a node give way to new ones: in place if there is room, else in new nodes."""
    cdef Piece pieces[PIECES_MAX]
    cdef Node n
    cdef int status = node_read(t.p, t, place, level, &n), i
    if status != PMKV_OK:
        return txn_fail(t, status)
    change.made = 0
    change.outcome = CHANGED
    status = node_change(t, &n, first, removed, fresh, fresh_count)
    if status != PMKV_NOT_FOUND:
        return status
    node_free_later(t, place)
    if n.count == removed and fresh_count == 0:
        change.outcome = GONE
        return t.status
    if gather(t, &n, pieces) != PMKV_OK:
        return t.status
    move_pieces(pieces, n.count, first, removed, fresh, fresh_count)
    return build(t, level, pieces, n.count - removed + fresh_count, first + fresh_count, change)


cdef void move_pieces(Piece* pieces, int count, int first, int removed, const Piece* fresh, int fresh_count) noexcept nogil:
    """Takes `removed` pieces out at `first`, and puts the fresh ones there."""
    cdef int i, shift = fresh_count - removed
    if shift > 0:
        for i in range(count - 1, first + removed - 1, -1):
            pieces[i + shift] = pieces[i]
    elif shift < 0:
        for i in range(first + removed, count):
            pieces[i + shift] = pieces[i]
    for i in range(fresh_count):
        pieces[first + i] = fresh[i]


cdef int free_far(Txn* t, u64 far) noexcept nogil:
    return txn_push(t, &t.freed, &t.freed_count, &t.freed_capacity, far) if far else t.status


# ---- up ------------------------------------------------------------------------------------------------

cdef int change_count(Txn* t, const Node* n, int index, int delta) noexcept nogil:
    cdef u64 child, count
    cdef int status = node_child(t.p, t, n, index, &child, &count)
    if status != PMKV_OK:
        return txn_fail(t, status)
    return txn_log_sealed(t, child_word_place(n, index) + 8, count + delta)


cdef int take_up(Txn* t, const Step* step, int level, int delta, Change* change) noexcept nogil:
    """Does to a parent what became of its child; then `change` says what became of the parent."""
    cdef Node n
    cdef Piece fresh[2]
    cdef int status = node_read(t.p, t, step.node, level, &n)
    if status != PMKV_OK:
        return txn_fail(t, status)
    if change.outcome == GONE or change.made == 2:
        status = node_piece(t.p, t, &n, step.index, &fresh[0])
        if status != PMKV_OK:
            return txn_fail(t, status)
        if change.outcome == GONE:
            free_far(t, fresh[0].far)
            return replace(t, step.node, level, step.index, 1, NULL, 0, change)
        fresh[0].child, fresh[0].count = change.piece[0].child, change.piece[0].count
        fresh[1] = change.piece[1]
        return replace(t, step.node, level, step.index, 1, fresh, 2, change)
    if change.outcome == REPLACED:
        txn_log_sealed(t, child_word_place(&n, step.index), change.piece[0].child >> GRANULE_SHIFT)
    change.outcome = CHANGED
    change.made = 0
    return change_count(t, &n, step.index, delta)


cdef int join(Txn* t, const Step* step, int level, Change* change) noexcept nogil:
    """If the child has few entries left, it and a neighbour become one node, where they fit."""
    cdef Piece pieces[PIECES_MAX]
    cdef Piece separators[2]
    cdef Node n, left, right
    cdef u64 child[2]
    cdef u64 count, dropped
    cdef int i, first = step.index, status = node_read(t.p, t, step.node, level, &n)
    if status != PMKV_OK:
        return txn_fail(t, status)
    if first >= n.count or n.count < 2:
        return PMKV_OK
    first -= first == n.count - 1
    for i in range(2):
        status = node_child(t.p, t, &n, first + i, &child[i], &count)
        if status == PMKV_OK:
            status = node_piece(t.p, t, &n, first + i, &separators[i])
        if status != PMKV_OK:
            return txn_fail(t, status)
    status = node_read(t.p, t, child[0], level - 1, &left)
    if status == PMKV_OK:
        status = node_read(t.p, t, child[1], level - 1, &right)
    if status != PMKV_OK:
        return txn_fail(t, status)
    if min(left.count, right.count) >= FEW or left.count + right.count > TREE_ORDER_MAX // 2:
        return PMKV_OK
    if gather(t, &left, pieces) != PMKV_OK or gather(t, &right, pieces + left.count) != PMKV_OK:
        return t.status
    if left.level:                # the separator comes down
        dropped = pieces[left.count].far
        pieces[left.count].key, pieces[left.count].far = separators[1].key, separators[1].far
    else:
        dropped = separators[1].far
    if not pieces_fit(left.level, pieces, left.count + right.count, MERGED_FILL):
        return PMKV_OK
    free_far(t, dropped)
    node_free_later(t, left.place)
    node_free_later(t, right.place)
    separators[0].count = keys_below(pieces, left.count + right.count)
    if node_build(t, left.level, pieces, left.count + right.count, &separators[0].child) != PMKV_OK:
        return t.status
    return replace(t, step.node, level, first, 2, separators, 1, change)


cdef int change_above(Txn* t, u64 root_place, const Path* path, int delta, Change* change) noexcept nogil:
    """Carries a leaf's change up to the root."""
    cdef int at, level = 1
    for at in range(path.length - 2, -1, -1):
        if take_up(t, &path.step[at], level, delta, change) != PMKV_OK:
            return t.status
        if delta < 0 and change.outcome == CHANGED and join(t, &path.step[at], level, change) != PMKV_OK:
            return t.status
        level += 1
    return change_root(t, root_place, level, change)


cdef int change_root(Txn* t, u64 root_place, int level, Change* change) noexcept nogil:
    cdef u64 place = change.piece[0].child
    if change.outcome == GONE:
        return txn_log(t, root_place, 0)
    if change.outcome == CHANGED:
        return t.status
    if change.made == 2:
        change.piece[0].key.a_size = change.piece[0].key.b_size = change.piece[0].far = 0
        if node_build(t, level, change.piece, 2, &place) != PMKV_OK:
            return t.status
    return txn_log_sealed(t, root_place, place >> GRANULE_SHIFT)


cdef int lower_root(Txn* t, u64 root_place) noexcept nogil:
    """A root with one child gives way to it (T4)."""
    cdef Path path
    cdef Node n
    cdef Piece piece
    cdef int status = enter(t.p, t, root_place, &path, &n)
    while status == PMKV_OK and n.level and n.count == 1:
        status = node_piece(t.p, t, &n, 0, &piece)
        if status != PMKV_OK:
            break
        free_far(t, piece.far)
        node_free_later(t, n.place)
        txn_log_sealed(t, root_place, piece.child >> GRANULE_SHIFT)
        status = enter(t.p, t, root_place, &path, &n)
    return t.status if status == PMKV_OK or status == PMKV_NOT_FOUND else txn_fail(t, status)


# ---- insert and delete -------------------------------------------------------------------------------

cdef void make_piece(Piece* piece, const char* key, u64 key_size) noexcept nogil:
    memset(piece, 0, sizeof(Piece))
    piece.key.b, piece.key.b_size = key, key_size
    piece.count = 1


cdef int keytree_insert(Txn* t, u64 root_place, const char* key, u64 key_size) noexcept nogil:
    """Adds a key that the tree does not have."""
    cdef Path path
    cdef Node n
    cdef Piece piece
    cdef Change change
    cdef bint exact = False
    cdef int status
    if t.status != PMKV_OK:
        return t.status
    make_piece(&piece, key, key_size)
    status = descend(t.p, t, root_place, key, key_size, &path, &n, &exact)
    if status == PMKV_NOT_FOUND:
        change.outcome, change.made = REPLACED, 1
        node_build(t, 0, &piece, 1, &change.piece[0].child)
        return change_root(t, root_place, 1, &change)
    if status == PMKV_OK and exact:
        status = corrupted(t.p, PMKV_CHECK_TREE, n.place)
    if status != PMKV_OK:
        return txn_fail(t, status)
    if replace(t, n.place, 0, path.step[path.length - 1].index, 0, &piece, 1, &change) != PMKV_OK:
        return t.status
    return change_above(t, root_place, &path, 1, &change)


cdef int keytree_delete(Txn* t, u64 root_place, const char* key, u64 key_size) noexcept nogil:
    """Takes out a key that the tree has."""
    cdef Path path
    cdef Node n
    cdef Piece piece
    cdef Change change
    cdef bint exact = False
    cdef int index, status
    if t.status != PMKV_OK:
        return t.status
    status = descend(t.p, t, root_place, key, key_size, &path, &n, &exact)
    if status == PMKV_NOT_FOUND or (status == PMKV_OK and not exact):
        status = corrupted(t.p, PMKV_CHECK_TREE, root_place if status else n.place)
    index = path.step[path.length - 1].index
    if status == PMKV_OK:
        status = node_piece(t.p, t, &n, index, &piece)
    if status != PMKV_OK:
        return txn_fail(t, status)
    free_far(t, piece.far)
    if replace(t, n.place, 0, index, 1, NULL, 0, &change) != PMKV_OK:
        return t.status
    if change_above(t, root_place, &path, -1, &change) != PMKV_OK:
        return t.status
    return lower_root(t, root_place)


cdef int free_below(Txn* t, u64 place, int level) noexcept nogil:
    cdef Piece piece
    cdef Node n
    cdef int i, status = node_read(t.p, t, place, level, &n)
    for i in range(n.count if status == PMKV_OK else 0):
        status = node_piece(t.p, t, &n, i, &piece)
        if status != PMKV_OK:
            break
        free_far(t, piece.far)
        if n.level and free_below(t, piece.child, n.level - 1) != PMKV_OK:
            return t.status
    return node_free_later(t, place) if status == PMKV_OK else txn_fail(t, status)


cdef int keytree_free_all(Txn* t, u64 root_place) noexcept nogil:
    """The tree is empty from the commit on."""
    cdef u64 root
    cdef int status = root_of(t.p, t, root_place, &root)
    if status != PMKV_OK:
        return txn_fail(t, status)
    if root and free_below(t, root, -1) == PMKV_OK:
        txn_log(t, root_place, 0)
    return t.status


# ---- scans ---------------------------------------------------------------------------------------------

cdef int keytree_seek(Pool* p, Txn* t, u64 root_place, const char* key, u64 key_size, TreeCursor* cursor,
                      bint* exact) noexcept nogil:
    """To the first key that is not smaller: it may be the first of the next leaf (index == count)."""
    cdef int status
    exact[0] = False
    status = descend(p, t, root_place, key, key_size, &cursor.path, &cursor.leaf, exact)
    if status == PMKV_OK:
        cursor.index = cursor.path.step[cursor.path.length - 1].index
    return status


cdef int to_edge(Pool* p, Txn* t, bint last, TreeCursor* cursor) noexcept nogil:
    """From a node down to its first or last leaf, and there to its first or last key."""
    cdef int status = PMKV_OK
    while status == PMKV_OK and cursor.leaf.level:
        status = go_down(p, t, &cursor.path, &cursor.leaf, cursor.leaf.count - 1 if last else 0)
    cursor.index = cursor.leaf.count - 1 if last else 0
    return status


cdef int keytree_edge(Pool* p, Txn* t, u64 root_place, bint last, TreeCursor* cursor) noexcept nogil:
    """To the first key, or the last; NOT_FOUND if there is none."""
    cdef int status = enter(p, t, root_place, &cursor.path, &cursor.leaf)
    return to_edge(p, t, last, cursor) if status == PMKV_OK else status


cdef int keytree_next_leaf(Pool* p, Txn* t, TreeCursor* cursor, bint forward) noexcept nogil:
    """To the first key of the next leaf, or the last of the one before; NOT_FOUND at the end."""
    cdef int at = cursor.path.length - 2, index, level = 1, status
    while at >= 0:
        status = node_read(p, t, cursor.path.step[at].node, level, &cursor.leaf)
        if status != PMKV_OK:
            return status
        index = cursor.path.step[at].index + (1 if forward else -1)
        if 0 <= index < cursor.leaf.count:
            cursor.path.length = at + 1
            status = go_down(p, t, &cursor.path, &cursor.leaf, index)
            return to_edge(p, t, not forward, cursor) if status == PMKV_OK else status
        at -= 1
        level += 1
    return PMKV_NOT_FOUND


# ---- counting --------------------------------------------------------------------------------------------

cdef int keytree_rank(Pool* p, Txn* t, u64 root_place, const char* key, u64 key_size, u64* rank) noexcept nogil:
    """How many keys are smaller."""
    cdef Path path
    cdef Node n
    cdef u64 child, count
    cdef int index, i, status = enter(p, t, root_place, &path, &n)
    cdef bint exact
    rank[0] = 0
    if status == PMKV_NOT_FOUND:
        return PMKV_OK
    while status == PMKV_OK and n.level:
        status = choose_child(p, &n, key, key_size, &index)
        for i in range(index):
            if status == PMKV_OK:
                status = node_child(p, t, &n, i, &child, &count)
                rank[0] += count
        if status == PMKV_OK:
            status = go_down(p, t, &path, &n, index)
    if status == PMKV_OK:
        status = node_search(p, &n, key, key_size, 0, &index, &exact)
        rank[0] += index
    return status


cdef int keytree_at(Pool* p, Txn* t, u64 root_place, u64 index, TreeCursor* cursor) noexcept nogil:
    """To the key that `index` others are smaller than; NOT_FOUND beyond the last."""
    cdef u64 child, count
    cdef int i, status = enter(p, t, root_place, &cursor.path, &cursor.leaf)
    while status == PMKV_OK and cursor.leaf.level:
        for i in range(cursor.leaf.count):
            status = node_child(p, t, &cursor.leaf, i, &child, &count)
            if status != PMKV_OK:
                return status
            if index < count:
                break
            index -= count
        else:
            return PMKV_NOT_FOUND
        status = go_down(p, t, &cursor.path, &cursor.leaf, i)
    if status == PMKV_OK and index >= <u64>cursor.leaf.count:
        return PMKV_NOT_FOUND
    cursor.index = <int>index
    return status
