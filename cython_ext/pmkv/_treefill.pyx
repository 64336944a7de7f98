"""_treefill.pyx (L3): many keys into the order at once.

May know: the tree and its nodes.  Not what else a batch does.

The keys are sorted first.  Then the way to each shares most of its nodes with the way to the one
before, and is found from there; and the counts of the nodes that they share change once for many.
The leaves of a few keys are fetched together.

Invariants
  A1. A way is good for as long as no node above a leaf is built anew: what happens inside of a leaf
      changes neither its place nor the entries above it.
"""
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from pmkv._core cimport *
from pmkv._keytree cimport (
    Owed, Path, Step, keytree_fetch_leaf, keytree_fetch_parent, keytree_find_leaf, keytree_find_parent,
    keytree_find_parent_from, keytree_insert_owing, keytree_settle, path_below,
)
from pmkv._pool cimport Pool
from pmkv._treenode cimport Node, compare_bytes, head_of_key, node_compare
from pmkv._writeset cimport Txn, txn_fail

cdef extern from "stdlib.h" nogil:
    void qsort_r(void* base, size_t count, size_t size, int (*compare)(const void*, const void*, void*) noexcept nogil,
                 void* context)

cdef enum:
    AHEAD = 8                     # keys whose leaves are fetched together
    RADIX_MIN = 128               # keys from which on counting bytes is faster than comparing
    INDEX_BITS = 14
    INDEX_MASK = FILL_MAX - 1

# How a key's leaf was found, at which state of the tree's shape.
cdef struct Way:
    Path path
    u64 shape


# The keys are sorted as numbers: the first bytes that are not common to all, and the key's index below.
# These decide nearly always.

cdef u64 common_size(const TreeKey* keys, u64 count) noexcept nogil:
    """How many bytes all begin with."""
    cdef u64 size = keys[0].key_size if count else 0, i, at
    for i in range(1, count):
        at = 0
        size = min(size, keys[i].key_size)
        while at < size and keys[i].key[at] == keys[0].key[at]:
            at += 1
        size = at
    return size


cdef int compare(const void* a, const void* b, void* keys) noexcept nogil:
    cdef u64 x = (<const u64*>a)[0], y = (<const u64*>b)[0]
    cdef const TreeKey* left
    cdef const TreeKey* right
    if x >> INDEX_BITS != y >> INDEX_BITS:
        return 1 if x > y else -1
    left, right = &(<const TreeKey*>keys)[x & INDEX_MASK], &(<const TreeKey*>keys)[y & INDEX_MASK]
    return compare_bytes(left.key, left.key_size, right.key, right.key_size)


cdef void sort_by_byte(const u64* numbers, u64 count, int shift, u64* out) noexcept nogil:
    """Orders them by one byte; those that have the same stay as they are."""
    cdef u64 at[256]
    cdef u64 i, below = 0, same
    memset(at, 0, sizeof(at))
    for i in range(count):
        at[numbers[i] >> shift & 255] += 1
    for i in range(256):
        same = at[i]
        at[i] = below
        below += same
    for i in range(count):
        out[at[numbers[i] >> shift & 255]] = numbers[i]
        at[numbers[i] >> shift & 255] += 1


cdef void sort(const TreeKey* keys, u64 count, u64* order, u64* spare) noexcept nogil:
    """Their indexes, in `order`'s lowest bits, as the keys ascend.  `spare`: room for as many."""
    cdef u64 common = common_size(keys, count), first = 0, i
    cdef int unsorted_bits = 64
    cdef bint ascend = True
    for i in range(count):
        order[i] = (head_of_key(keys[i].key + common, keys[i].key_size - common) & ~<u64>INDEX_MASK) | i
        ascend = ascend and (i == 0 or compare(&order[i - 1], &order[i], <void*>keys) < 0)
    if ascend:
        return
    if count >= <u64>RADIX_MIN:   # two bytes leave a few runs of keys that have the same
        sort_by_byte(order, count, 48, spare)
        sort_by_byte(spare, count, 56, order)
        unsorted_bits = 48
    for i in range(1, count + 1):
        if i == count or (unsorted_bits < 64 and order[i] >> unsorted_bits != order[first] >> unsorted_bits):
            if i - first > 1:
                qsort_r(order + first, i - first, 8, compare, <void*>keys)
            first = i


cdef inline int upper_steps(const Path* path) noexcept nogil:
    """How many nodes are above the leaf's parent."""
    return path.step[0].node.level - 1


cdef int shared_steps(Txn* t, const TreeKey* key, const Path* before) noexcept nogil:
    """How many nodes the way to a key shares with that to a smaller one, or an error.

    The last of them may be the leaf's parent.  The next entries have been tested: the search for the smaller
    key ended before them.
    """
    cdef const Node* n
    cdef int at, index, order = 0, status
    for at in range(upper_steps(before) - 1, -1, -1):
        n = &before.step[at].node
        index = before.step[at].index + 1
        if index == n.count:
            continue
        status = node_compare(t.p, n, index, key.key, key.key_size, &order)
        if status != PMKV_OK:
            return txn_fail(t, status)
        if order > 0:             # the next entry's keys are larger
            return at + 2
    return 1


cdef int go_on(Txn* t, const TreeKey* key, const Path* before, Path* path) noexcept nogil:
    """From the way to a smaller key to this one's."""
    cdef int upper = upper_steps(before), shared = shared_steps(t, key, before)
    if shared < 0:
        return t.status
    memcpy(path.step, before.step, shared * sizeof(Step))
    path.length = max(1, min(shared, upper))
    if shared > upper:            # the leaf's parent, too
        return PMKV_OK
    return keytree_find_parent_from(t, key.key, key.key_size, max(1, before.step[shared - 1].index), path)


cdef inline bint is_good(const Way* way, u64 shape) noexcept nogil:
    return way.shape == shape and way.path.length and way.path.step[0].node.level


cdef int find_parent(Txn* t, u64 root_place, const TreeKey* key, const Way* before, u64 shape, Way* way) noexcept nogil:
    way.shape = shape
    if is_good(before, shape):
        return go_on(t, key, &before.path, &way.path)
    return keytree_find_parent(t, root_place, key.key, key.key_size, &way.path)


cdef int find_leaf(Txn* t, const TreeKey* key, const Way* before, Way* way) noexcept nogil:
    cdef int low = 1, parent = upper_steps(&way.path)
    if (is_good(before, way.shape) and parent < before.path.length
            and way.path.step[parent].node.place == before.path.step[parent].node.place):
        way.path.step[parent] = before.path.step[parent]
        way.path.length = parent + 1
        low = max(1, before.path.step[parent].index)
    return keytree_find_leaf(t, key.key, key.key_size, low, &way.path)


cdef void touch(const Pool* p, const Way* ways, u64 count, int level) noexcept nogil:
    """Asks for the first line of what is next on each way; in a short loop their translations overlap, too."""
    cdef u64 places[AHEAD]
    cdef u64 i
    for i in range(count):
        places[i] = path_below(&ways[i].path, level)
    for i in range(count):
        pmkv_prefetch(pmkv_at(&p.m, places[i]))


cdef int insert_few(Txn* t, u64 root_place, const TreeKey* keys, const u64* order, u64 count, Way* ways, u64* shape,
                    Owed* owed) noexcept nogil:
    """Inserts up to AHEAD keys; ways[0] leads to the one before them, and to the last one of them then."""
    cdef const TreeKey* key
    cdef u64 i
    for i in range(count):
        if find_parent(t, root_place, &keys[order[i] & INDEX_MASK], &ways[i], shape[0], &ways[i + 1]) < 0:
            return t.status
    touch(t.p, &ways[1], count, 2)
    for i in range(count):
        keytree_fetch_parent(t.p, &ways[i + 1].path)
    for i in range(count):
        if find_leaf(t, &keys[order[i] & INDEX_MASK], &ways[i], &ways[i + 1]) < 0:
            return t.status
    touch(t.p, &ways[1], count, 1)
    for i in range(count):
        keytree_fetch_leaf(t, &ways[i + 1].path)
    for i in range(count):
        key = &keys[order[i] & INDEX_MASK]
        if ways[i + 1].shape != shape[0]:
            find_parent(t, root_place, key, &ways[i], shape[0], &ways[i + 1])
            find_leaf(t, key, &ways[i], &ways[i + 1])
        if keytree_insert_owing(t, root_place, key.key, key.key_size, &ways[i + 1].path, owed) != PMKV_OK:
            return t.status
        shape[0] += ways[i + 1].path.length == 0
    memcpy(&ways[0], &ways[count], sizeof(Way))
    return t.status


cdef int keytree_insert_all(Txn* t, u64 root_place, const TreeKey* keys, u64 count) noexcept nogil:
    """Adds up to FILL_MAX keys that the tree does not have, all different."""
    cdef Way ways[AHEAD + 1]
    cdef Owed owed
    cdef u64 done = 0, shape = 1
    cdef u64* order = <u64*>malloc((2 * count + 1) * 8) if t.status == PMKV_OK else NULL
    if order == NULL:
        return txn_fail(t, PMKV_NO_MEMORY)
    memset(&owed, 0, sizeof(Owed))
    ways[0].shape = 0
    sort(keys, count, order, order + count)
    while done < count and t.status == PMKV_OK:
        insert_few(t, root_place, keys, order + done, min(<u64>AHEAD, count - done), ways, &shape, &owed)
        done += AHEAD
    free(order)
    return keytree_settle(t, &owed) if t.status == PMKV_OK else t.status
