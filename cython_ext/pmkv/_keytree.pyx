"""_keytree.pyx (L3): the keys of a namespace in order: a B+tree of small nodes.

May know: nodes, words.  Not how a key is looked up: it is a sorted *set of keys*.  A
scan finds what belongs to them through the mapping, and an update of a key never comes here.

A node that has room is changed in place; one that has none is built anew, as one node or two, and
its parent is changed instead, up to the first that has room.

Invariants
  T1. A child's level is its parent's less one; leaves are of level 0.
  T2. All keys below an entry are at least its separator, and below the next one's.
  T3. The count of an entry is the number of keys below it; the root's sum is the namespace's.  Of a leaf, its
      header has it; words for it are in the nodes from level 2 on.
  T4. No node is empty; a root that is not a leaf has two children or more.
Threads: readers take no lock; between two commits nothing that they can reach changes.
"""
from libc.string cimport memset
from pmkv._core cimport *
from pmkv._pages cimport descriptor_prefetch, pages_are_free
from pmkv._pool cimport Pool, corrupted, unseal
from pmkv._writeset cimport Txn, txn_count, txn_fail, txn_log, txn_log_sealed, txn_push
from pmkv._treebuild cimport (
    REBUILT_FILL, leaf_divide, node_append, node_build, node_change, node_free_later, pieces_cut, pieces_fit,
    pieces_separate,
)
from pmkv._treenode cimport (
    PIECES_MAX, Node, Piece, child_word_place, count_word_place, leaf_count, node_child, node_count, node_piece,
    node_prefetch, node_prefetch_counts, node_prefetch_to_append, node_read, node_search, tree_word,
)

cdef enum:
    MERGED_FILL = 5               # eighths
    FEW = 8                       # entries from which on a node looks for a neighbour to join
    SPARE_PAGES = 16              # that it takes at most, with what changes above it

# What became of a node.
cdef enum Outcome:
    CHANGED, GONE, REPLACED       # REPLACED: by one or two new ones

cdef struct Change:
    Outcome outcome
    int made
    Piece piece[2]                # the new nodes; the key of the second separates them
    int top                       # of the nodes on the way whose entries are others now, the first


# ---- down ----------------------------------------------------------------------------------

cdef int root_of(Pool* p, Txn* t, u64 root_place, u64* root) noexcept nogil:
    cdef int status = unseal(p, root_place, tree_word(p, t, root_place), root)
    root[0] <<= GRANULE_SHIFT
    return status


cdef int go_down(Pool* p, Txn* t, Path* path, int index) noexcept nogil:
    """From a parent to the child of its entry `index`."""
    cdef int status = turn_to(p, t, path, index)
    if status == PMKV_OK:
        node_prefetch(p, path.step[path.length].node.place)
        status = read_below(p, t, path)
    return status


cdef inline int turn_to(Pool* p, Txn* t, Path* path, int index) noexcept nogil:
    """The entry `index` leads on from the node where the path ends: where to."""
    path.step[path.length - 1].index = index
    return node_child(p, t, path_end(path), index, &path.step[path.length].node.place)


cdef int read_below(Pool* p, Txn* t, Path* path) noexcept nogil:
    """The node that turn_to() has found."""
    cdef Node* below = &path.step[path.length].node
    path.length += 1
    return node_read(p, t, below.place, path.step[path.length - 2].node.level - 1, below)


cdef int enter(Pool* p, Txn* t, u64 root_place, Path* path) noexcept nogil:
    """Reads the root; NOT_FOUND if the tree is empty."""
    cdef u64 root
    cdef int status = root_of(p, t, root_place, &root)
    path.length = 0
    if status == PMKV_OK and root == 0:
        return PMKV_NOT_FOUND
    if status == PMKV_OK:
        status = node_read(p, t, root, -1, &path.step[0].node)
        path.length = 1
    return status


cdef int choose_child(Pool* p, const Node* n, const char* key, u64 key_size, int low, int* index) noexcept nogil:
    """The last entry whose separator is not larger than the key (N2: the first's is the smallest)."""
    cdef bint exact
    cdef int status = node_search(p, n, key, key_size, low, index, &exact)
    if not exact:
        index[0] -= 1
    return status


cdef int descend(Pool* p, Txn* t, u64 root_place, const char* key, u64 key_size, Path* path,
                 bint* exact) noexcept nogil:
    """To the leaf of the key, and the first entry that is not smaller; its index is in the path."""
    cdef int status = enter(p, t, root_place, path)
    if status == PMKV_OK:
        status = find_parent(p, t, key, key_size, 1, path)
    if status == PMKV_OK:
        fetch_below(p, path, 2)
        status = find_leaf(p, t, key, key_size, 1, path)
    if status != PMKV_OK:
        return status
    fetch_below(p, path, 1)
    return arrive(p, t, key, key_size, path, exact)


# The way down has parts, so that a writer can ask for a node and do something else while it comes: find_parent
# finds the parent of the leaf, find_leaf the leaf, and arrive looks for the key in it.


cdef inline void fetch_below(const Pool* p, const Path* path, int level) noexcept nogil:
    cdef u64 place = path_below(path, level)
    if place:
        node_prefetch(p, place)


cdef int choose(Pool* p, Txn* t, const char* key, u64 key_size, int low, Path* path) noexcept nogil:
    """The way from the node where the path ends, whose entries below `low` lead to smaller keys."""
    cdef int index, status = choose_child(p, path_end(path), key, key_size, low, &index)
    return turn_to(p, t, path, index) if status == PMKV_OK else status


cdef int find_parent(Pool* p, Txn* t, const char* key, u64 key_size, int low, Path* path) noexcept nogil:
    """From the node where the path ends to that of level 2, and which child is next; or no further than the root."""
    cdef int status = PMKV_OK
    while status == PMKV_OK and path_end(path).level >= 2:
        status = choose(p, t, key, key_size, low, path)
        if status != PMKV_OK or path_end(path).level == 2:
            break
        node_prefetch(p, path.step[path.length].node.place)
        status = read_below(p, t, path)
        low = 1
    return status


cdef int find_leaf(Pool* p, Txn* t, const char* key, u64 key_size, int low, Path* path) noexcept nogil:
    """To the parent of the leaf of the key, if there is one, and which child is next."""
    cdef int status = read_below(p, t, path) if path_end(path).level == 2 else PMKV_OK
    if status == PMKV_OK and path_end(path).level:
        status = choose(p, t, key, key_size, low, path)
    return status


cdef int arrive(Pool* p, Txn* t, const char* key, u64 key_size, Path* path, bint* exact) noexcept nogil:
    """The last step of descend(), after approach()."""
    cdef int status = PMKV_OK
    if path_end(path).level:
        status = read_below(p, t, path)
    if status == PMKV_OK:
        status = node_search(p, path_end(path), key, key_size, 0, &path.step[path.length - 1].index, exact)
    return status


# ---- building nodes anew ---------------------------------------------------------------------------

cdef int gather(Txn* t, const Node* n, Piece* pieces) noexcept nogil:
    cdef int i, status
    for i in range(n.count):
        status = node_piece(t.p, t, n, i, &pieces[i])
        if status != PMKV_OK:
            return txn_fail(t, status)
    return PMKV_OK


cdef int keys_below(Txn* t, int level, const Piece* pieces, int count, u64* total) noexcept nogil:
    """How many keys a node of these has below it."""
    cdef u64 below = 0
    cdef int i, status = PMKV_OK
    total[0] = 0
    for i in range(count if level == 1 else 0):
        pmkv_prefetch(pmkv_at(&t.p.m, pieces[i].child))
    for i in range(count):
        below = pieces[i].count
        if level == 1:
            status = leaf_count(t.p, t, pieces[i].child, &below)
        if status != PMKV_OK:
            return txn_fail(t, status)
        total[0] += below
    return PMKV_OK


cdef int build(Txn* t, int level, Piece* pieces, int count, int fresh_end, Change* change) noexcept nogil:
    """New nodes of the pieces: one if it has room again, else two."""
    cdef int cut
    change.outcome = REPLACED
    change.made = 1
    if pieces_fit(level, pieces, count, REBUILT_FILL):
        return node_build(t, level, pieces, count, &change.piece[0].child)
    cut = pieces_cut(level, pieces, count, fresh_end)
    pieces_separate(level, pieces, cut, &change.piece[1])
    if level:
        pieces[cut].far = 0
    change.made = 2
    keys_below(t, level, pieces, cut, &change.piece[0].count)
    keys_below(t, level, pieces + cut, count - cut, &change.piece[1].count)
    node_build(t, level, pieces + cut, count - cut, &change.piece[1].child)
    return node_build(t, level, pieces, cut, &change.piece[0].child)


cdef int replace(Txn* t, const Node* n, int first, int removed, Piece* fresh, int fresh_count,
                 Change* change) noexcept nogil:
    """Entries of a node give way to new ones: in place if there is room, else in new nodes."""
    cdef int status = node_change(t, n, first, removed, fresh, fresh_count)
    change.made = 0
    change.outcome = CHANGED
    if status != PMKV_NOT_FOUND:
        return status
    if n.count == removed and fresh_count == 0:
        change.outcome = GONE
        return node_free_later(t, n.place)
    return rebuild(t, n, first, removed, fresh, fresh_count, change)


cdef int rebuild(Txn* t, const Node* n, int first, int removed, Piece* fresh, int fresh_count,
                 Change* change) noexcept nogil:
    """The node's entries, and the new ones, in new nodes."""
    cdef Piece pieces[PIECES_MAX]
    if gather(t, n, pieces) != PMKV_OK:
        return t.status
    node_free_later(t, n.place)
    move_pieces(pieces, n.count, first, removed, fresh, fresh_count)
    return build(t, n.level, pieces, n.count - removed + fresh_count, first + fresh_count, change)


cdef void move_pieces(Piece* pieces, int count, int first, int removed, const Piece* fresh,
                      int fresh_count) noexcept nogil:
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
    """There are more keys below an entry, or less."""
    if n.level == 1:
        return t.status           # the leaf has told it
    return txn_count(t, count_word_place(n, index), max(delta, 0), max(-delta, 0))


cdef int set_child(Txn* t, const Node* n, int index, u64 child, u64 count) noexcept nogil:
    """Another node takes a child's place."""
    if n.level > 1:
        txn_log_sealed(t, count_word_place(n, index), count)
    return txn_log_sealed(t, child_word_place(n, index), child >> GRANULE_SHIFT)


cdef int take_up(Txn* t, const Step* step, int delta, Change* change) noexcept nogil:
    """Does to a parent what became of its child; then `change` says what became of the parent."""
    cdef Piece piece
    cdef int status
    if change.outcome == GONE:
        status = node_piece(t.p, t, &step.node, step.index, &piece)
        if status != PMKV_OK:
            return txn_fail(t, status)
        free_far(t, piece.far)
        return replace(t, &step.node, step.index, 1, NULL, 0, change)
    if change.outcome == REPLACED and change.made == 1:
        txn_log_sealed(t, child_word_place(&step.node, step.index), change.piece[0].child >> GRANULE_SHIFT)
        change.outcome = CHANGED
    if change.outcome == CHANGED:
        return change_count(t, &step.node, step.index, delta)
    set_child(t, &step.node, step.index, change.piece[0].child, change.piece[0].count)
    piece = change.piece[1]
    return replace(t, &step.node, step.index + 1, 0, &piece, 1, change)


cdef int join(Txn* t, const Step* step, int few, int most, u64 room, Change* change) noexcept nogil:
    """If the child or a neighbour has fewer than `few` entries, the two become one node, where they fit.

    Not in a pool that is all but full: a delete needs no room.
    """
    cdef Piece pieces[PIECES_MAX]
    cdef Piece separators[2]
    cdef Node n, left, right
    cdef u64 child[2]
    cdef u64 dropped
    cdef int i, first = step.index, status = node_read(t.p, t, step.node.place, step.node.level, &n)
    if status != PMKV_OK:
        return txn_fail(t, status)
    if first >= n.count or n.count < 2:
        return PMKV_OK
    first -= first == n.count - 1
    for i in range(2):
        status = node_child(t.p, t, &n, first + i, &child[i])
        if status == PMKV_OK:
            status = node_piece(t.p, t, &n, first + i, &separators[i])
        if status != PMKV_OK:
            return txn_fail(t, status)
    status = node_read(t.p, t, child[0], n.level - 1, &left)
    if status == PMKV_OK:
        status = node_read(t.p, t, child[1], n.level - 1, &right)
    if status != PMKV_OK:
        return txn_fail(t, status)
    if min(left.count, right.count) >= few or left.count + right.count > most:
        return PMKV_OK
    if gather(t, &left, pieces) != PMKV_OK or gather(t, &right, pieces + left.count) != PMKV_OK:
        return t.status
    if left.level:                # the separator comes down
        dropped = pieces[left.count].far
        pieces[left.count].key, pieces[left.count].far = separators[1].key, separators[1].far
    else:
        dropped = separators[1].far
    if not pieces_fit(left.level, pieces, left.count + right.count, room) or not pages_are_free(t, SPARE_PAGES):
        return PMKV_OK
    free_far(t, dropped)
    node_free_later(t, left.place)
    node_free_later(t, right.place)
    if node_build(t, left.level, pieces, left.count + right.count, &child[0]) != PMKV_OK:
        return t.status
    change.outcome = CHANGED
    set_child(t, &n, first, child[0], separators[0].count + separators[1].count)
    return replace(t, &n, first + 1, 1, NULL, 0, change)


cdef int change_above(Txn* t, u64 root_place, const Path* path, int delta, Change* change) noexcept nogil:
    """Carries a leaf's change up to the root."""
    cdef int at
    change.top = path.length - 1
    for at in range(path.length - 2, -1, -1):
        change.top -= change.outcome != CHANGED
        if take_up(t, &path.step[at], delta, change) != PMKV_OK:
            return t.status
        if (delta < 0 and change.outcome == CHANGED and path.step[at + 1].node.count <= FEW
                and join(t, &path.step[at], FEW, TREE_ORDER_MAX // 2, MERGED_FILL, change) != PMKV_OK):
            return t.status
    return change_root(t, root_place, path.length, change)


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
    cdef Piece piece
    cdef int status = enter(t.p, t, root_place, &path)
    while status == PMKV_OK and path_end(&path).level and path_end(&path).count == 1:
        status = node_piece(t.p, t, path_end(&path), 0, &piece)
        if status != PMKV_OK:
            break
        free_far(t, piece.far)
        node_free_later(t, path_end(&path).place)
        txn_log_sealed(t, root_place, piece.child >> GRANULE_SHIFT)
        status = enter(t.p, t, root_place, &path)
    return t.status if status == PMKV_OK or status == PMKV_NOT_FOUND else txn_fail(t, status)


cdef int keytree_join(Txn* t, u64 root_place, const Path* path, int at, bint* joined) noexcept nogil:
    """Joins the child that the path goes to from its node `at` with a neighbour, if one node has room for both."""
    cdef Change change
    cdef int level = at
    cdef size_t freed = t.freed_count
    change.outcome, change.made = CHANGED, 0
    if join(t, &path.step[at], TREE_ORDER_MAX, TREE_ORDER_MAX * 3 // 4, REBUILT_FILL, &change) != PMKV_OK:
        return t.status
    joined[0] = t.freed_count != freed           # two nodes at least
    while level > 0 and change.outcome != CHANGED:
        level -= 1
        if take_up(t, &path.step[level], 0, &change) != PMKV_OK:
            return t.status
    if change_root(t, root_place, path.length, &change) != PMKV_OK:
        return t.status
    return lower_root(t, root_place) if path.step[0].node.count <= 2 else t.status


# ---- insert and delete -------------------------------------------------------------------------------

cdef void make_piece(Piece* piece, const char* key, u64 key_size) noexcept nogil:
    memset(piece, 0, sizeof(Piece))
    piece.key.b, piece.key.b_size = key, key_size
    piece.count = 1


cdef int keytree_find_parent(Txn* t, u64 root_place, const char* key, u64 key_size, Path* path) noexcept nogil:
    """The first part of the way to a key's leaf, for keytree_find_leaf."""
    cdef int status = t.status
    path.length = 0
    if status == PMKV_OK:
        status = enter(t.p, t, root_place, path)
    if status == PMKV_OK:
        return keytree_find_parent_from(t, key, key_size, 1, path)
    return txn_fail(t, status) if status < 0 else status


cdef int keytree_find_parent_from(Txn* t, const char* key, u64 key_size, int low, Path* path) noexcept nogil:
    """The same from the node where the path ends, whose entries below `low` lead to smaller keys."""
    cdef int status = find_parent(t.p, t, key, key_size, low, path)
    return status if status == PMKV_OK else txn_fail(t, status)


cdef int keytree_find_leaf(Txn* t, const char* key, u64 key_size, int low, Path* path) noexcept nogil:
    """The second part, for keytree_insert.  `low`: of the leaf's parent, if the path ends there, else 1."""
    cdef int status = t.status
    if status == PMKV_OK and path.length:
        status = find_leaf(t.p, t, key, key_size, low, path)
    return status if status == PMKV_OK else txn_fail(t, status)


cdef void keytree_fetch_parent(const Pool* p, const Path* path) noexcept nogil:
    """Asks for what keytree_find_leaf will need."""
    fetch_below(p, path, 2)


cdef void keytree_fetch_leaf(Txn* t, const Path* path) noexcept nogil:
    """Asks for what keytree_insert will need of the leaf, whose first line was asked for."""
    cdef u64 place = path_below(path, 1)
    if place:
        node_prefetch_to_append(t, place)


cdef int settle(Txn* t, Owed* owed, int level) noexcept nogil:
    txn_count(t, owed.place[level], owed.plus[level], 0)
    owed.place[level] = owed.plus[level] = 0
    return t.status


cdef int keytree_settle(Txn* t, Owed* owed) noexcept nogil:
    """Gives the counts what is owed to them."""
    cdef int level
    for level in range(TREE_LEVELS):
        settle(t, owed, level)
    return t.status


cdef int count_above(Txn* t, const Path* path, int parents, Owed* owed) noexcept nogil:
    """There is a key more in the leaf behind that many nodes of the path: now, or owed."""
    cdef u64 place
    cdef int at
    for at in range(parents):
        if owed == NULL or path.step[at].node.level == 1:
            change_count(t, &path.step[at].node, path.step[at].index, 1)
            continue
        place = count_word_place(&path.step[at].node, path.step[at].index)
        if owed.place[at] != place:
            settle(t, owed, at)
            owed.place[at] = place
        owed.plus[at] += 1
    return t.status


cdef int divide(Txn* t, const Node* leaf, int index, Piece* piece, Change* change) noexcept nogil:
    """A leaf that has no room for one more entry."""
    cdef int status
    descriptor_prefetch(t.p, leaf.place)
    status = leaf_divide(t, leaf, index, piece, change.piece)
    if status == PMKV_NOT_FOUND:
        return rebuild(t, leaf, index, 0, piece, 1, change)
    change.outcome, change.made = REPLACED, 2
    return node_free_later(t, leaf.place)


cdef int insert_anew(Txn* t, u64 root_place, Path* path, Piece* piece, Owed* owed) noexcept nogil:
    """The key into a leaf that has no room: the path ends then above what has changed."""
    cdef Change change
    cdef int index = path.step[path.length - 1].index
    if owed != NULL and keytree_settle(t, owed) != PMKV_OK:
        return t.status
    if divide(t, path_end(path), index, piece, &change) == PMKV_OK:
        change_above(t, root_place, path, 1, &change)
        path.length = change.top
    return t.status


cdef int keytree_insert(Txn* t, u64 root_place, const char* key, u64 key_size, Path* path) noexcept nogil:
    """Adds a key that the tree does not have, where keytree_find_leaf led."""
    return keytree_insert_owing(t, root_place, key, key_size, path, NULL)


cdef int keytree_insert_owing(Txn* t, u64 root_place, const char* key, u64 key_size, Path* path,
                              Owed* owed) noexcept nogil:
    """The same, but for the counts above: keytree_settle() is to follow.

    The path is as it was, if it is still good; else it has become shorter, and ends above the node
    that it led through and that has other entries now.
    """
    cdef Piece piece
    cdef Change change
    cdef bint exact = False
    cdef int status
    if t.status != PMKV_OK:
        return t.status
    if (path.length and path_end(path).level
            and node_append(t, path_below(path, 1), key, key_size) != PMKV_NOT_FOUND):
        return count_above(t, path, path.length, owed) if t.status == PMKV_OK else t.status
    make_piece(&piece, key, key_size)
    if path.length == 0:
        change.outcome, change.made = REPLACED, 1
        node_build(t, 0, &piece, 1, &change.piece[0].child)
        return change_root(t, root_place, 1, &change)
    status = arrive(t.p, t, key, key_size, path, &exact)
    if status == PMKV_OK and exact:
        status = corrupted(t.p, PMKV_CHECK_TREE, path_end(path).place)
    if status != PMKV_OK:
        return txn_fail(t, status)
    status = node_change(t, path_end(path), path.step[path.length - 1].index, 0, &piece, 1)
    if status == PMKV_NOT_FOUND:
        return insert_anew(t, root_place, path, &piece, owed)
    if status == PMKV_OK:
        count_above(t, path, path.length - 1, owed)
    path.length -= 1              # a root that is a leaf has changed itself
    return t.status


cdef int keytree_insert_now(Txn* t, u64 root_place, const char* key, u64 key_size) noexcept nogil:
    """Adds a key that the tree does not have, from the root on."""
    cdef Path path
    if keytree_find_parent(t, root_place, key, key_size, &path) == PMKV_OK:
        keytree_find_leaf(t, key, key_size, 1, &path)
    return keytree_insert(t, root_place, key, key_size, &path)


cdef int keytree_delete(Txn* t, u64 root_place, const char* key, u64 key_size) noexcept nogil:
    """Takes out a key that the tree has."""
    cdef Path path
    cdef Piece piece
    cdef Change change
    cdef bint exact = False
    cdef int index = 0, status
    if t.status != PMKV_OK:
        return t.status
    status = descend(t.p, t, root_place, key, key_size, &path, &exact)
    if status == PMKV_NOT_FOUND or (status == PMKV_OK and not exact):
        status = corrupted(t.p, PMKV_CHECK_TREE, root_place)
    if status == PMKV_OK:
        index = path.step[path.length - 1].index
        status = node_piece(t.p, t, path_end(&path), index, &piece)
    if status != PMKV_OK:
        return txn_fail(t, status)
    free_far(t, piece.far)
    if replace(t, path_end(&path), index, 1, NULL, 0, &change) != PMKV_OK:
        return t.status
    if change_above(t, root_place, &path, -1, &change) != PMKV_OK:
        return t.status
    # Of the root's children one may have gone, and then two of the others become one.
    return lower_root(t, root_place) if path.step[0].node.count <= 3 else t.status


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
    status = descend(p, t, root_place, key, key_size, &cursor.path, exact)
    if status == PMKV_OK:
        cursor.index = cursor.path.step[cursor.path.length - 1].index
    return status


cdef int to_edge(Pool* p, Txn* t, bint last, TreeCursor* cursor) noexcept nogil:
    """From a node down to its first or last leaf, and there to its first or last key."""
    cdef int status = PMKV_OK
    while status == PMKV_OK and path_end(&cursor.path).level:
        status = go_down(p, t, &cursor.path, path_end(&cursor.path).count - 1 if last else 0)
    if status == PMKV_OK:
        cursor.index = path_end(&cursor.path).count - 1 if last else 0
    return status


cdef int keytree_edge(Pool* p, Txn* t, u64 root_place, bint last, TreeCursor* cursor) noexcept nogil:
    """To the first key, or the last; NOT_FOUND if there is none."""
    cdef int status = enter(p, t, root_place, &cursor.path)
    return to_edge(p, t, last, cursor) if status == PMKV_OK else status


cdef int keytree_next_leaf(Pool* p, Txn* t, TreeCursor* cursor, bint forward) noexcept nogil:
    """To the first key of the next leaf, or the last of the one before; NOT_FOUND at the end."""
    cdef int index, status
    while cursor.path.length > 1:
        cursor.path.length -= 1
        index = cursor.path.step[cursor.path.length - 1].index + (1 if forward else -1)
        if 0 <= index < path_end(&cursor.path).count:
            status = go_down(p, t, &cursor.path, index)
            if status == PMKV_OK:
                status = to_edge(p, t, not forward, cursor)
            if status == PMKV_OK:
                prefetch_sibling(p, t, &cursor.path, 1 if forward else -1)
            return status
    return PMKV_NOT_FOUND


cdef void prefetch_sibling(Pool* p, Txn* t, const Path* path, int direction) noexcept nogil:
    """The leaf that a scan will come to next, if it has the same parent."""
    cdef const Step* parent = &path.step[path.length - 2]
    cdef u64 child
    if 0 <= parent.index + direction < parent.node.count:
        if node_child(p, t, &parent.node, parent.index + direction, &child) == PMKV_OK:
            node_prefetch(p, child)


# ---- counting --------------------------------------------------------------------------------------------

cdef int keytree_rank(Pool* p, Txn* t, u64 root_place, const char* key, u64 key_size, u64* rank) noexcept nogil:
    """How many keys are smaller."""
    cdef Path path
    cdef u64 count
    cdef int at, i, status
    cdef bint exact
    rank[0] = 0
    status = descend(p, t, root_place, key, key_size, &path, &exact)
    if status == PMKV_NOT_FOUND:
        return PMKV_OK
    for at in range(path.length - 1 if status == PMKV_OK else 0):
        node_prefetch_counts(p, t, &path.step[at].node)
        for i in range(path.step[at].index):
            status = node_count(p, t, &path.step[at].node, i, &count)
            if status != PMKV_OK:
                return status
            rank[0] += count
    rank[0] += path.step[path.length - 1].index if status == PMKV_OK else 0
    return status


cdef int keytree_at(Pool* p, Txn* t, u64 root_place, u64 index, TreeCursor* cursor) noexcept nogil:
    """To the key that `index` others are smaller than; NOT_FOUND beyond the last."""
    cdef u64 count
    cdef int i, status = enter(p, t, root_place, &cursor.path)
    while status == PMKV_OK and path_end(&cursor.path).level:
        node_prefetch_counts(p, t, path_end(&cursor.path))
        for i in range(path_end(&cursor.path).count):
            status = node_count(p, t, path_end(&cursor.path), i, &count)
            if status != PMKV_OK:
                return status
            if index < count:
                break
            index -= count
        else:
            return PMKV_NOT_FOUND
        status = go_down(p, t, &cursor.path, i)
    if status == PMKV_OK and index >= <u64>path_end(&cursor.path).count:
        return PMKV_NOT_FOUND
    cursor.index = <int>index
    return status
