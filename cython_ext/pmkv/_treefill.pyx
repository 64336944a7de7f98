"""_treefill.pyx (L3): many keys into the order at once.

May know: the tree and its nodes.  Not what else a batch does.

The keys are sorted first.  Then the way to each shares most of its nodes with the way to the one
before, and is found from there; and the counts of the nodes that they share change once for many.
The leaves of a few keys are fetched together.

Invariants
  A1. A way is good for as long as no node above a leaf is built anew: what happens inside of a leaf
      changes neither its place nor the entries above it.
"""
from libc.stdlib cimport qsort
from libc.string cimport memcmp, memcpy, memset
from pmkv._core cimport *
from pmkv._keytree cimport (
    Owed, Path, Step, keytree_approach, keytree_approach_from, keytree_insert_owing, keytree_settle, path_end,
)
from pmkv._treenode cimport Node, head_of_key, node_compare
from pmkv._writeset cimport Txn, txn_fail

cdef enum:
    AHEAD = 8                     # keys whose leaves are fetched together

# How a key's leaf was found, at which state of the tree's shape.
cdef struct Way:
    Path path
    u64 shape


cdef int compare(const void* a, const void* b) noexcept nogil:
    cdef const TreeKey* x = <const TreeKey*>a
    cdef const TreeKey* y = <const TreeKey*>b
    cdef int order
    if x.head != y.head:
        return 1 if x.head > y.head else -1
    order = memcmp(x.key, y.key, min(x.key_size, y.key_size))
    return order if order else (x.key_size > y.key_size) - (x.key_size < y.key_size)


cdef void sort(TreeKey* keys, u64 count) noexcept nogil:
    cdef bint sorted = True
    cdef u64 i
    for i in range(count):
        keys[i].head = head_of_key(keys[i].key, keys[i].key_size)
        sorted = sorted and (i == 0 or compare(&keys[i - 1], &keys[i]) < 0)
    if not sorted:
        qsort(keys, count, sizeof(TreeKey), compare)


cdef int shared_steps(Txn* t, const TreeKey* key, const Path* before) noexcept nogil:
    """How many nodes the way to a key shares with that to a smaller one, or an error.

    One more than there are: the leaf, too.
    """
    cdef const Node* n
    cdef int at, index, order = 0, status
    for at in range(before.length - 1, -1, -1):
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
    cdef int shared = shared_steps(t, key, before)
    if shared < 0:
        return t.status
    memcpy(path.step, before.step, min(shared, before.length + 1) * sizeof(Step))
    path.length = min(shared, before.length)
    if shared > before.length:    # the same leaf
        return PMKV_OK
    return keytree_approach_from(t, key.key, key.key_size, max(1, before.step[shared - 1].index), path)


cdef int find_way(Txn* t, u64 root_place, const TreeKey* key, const Way* before, u64 shape, Way* way) noexcept nogil:
    way.shape = shape
    if before.shape == shape and before.path.length and before.path.step[0].node.level:
        return go_on(t, key, &before.path, &way.path)
    return keytree_approach(t, root_place, key.key, key.key_size, &way.path)


cdef int insert_few(Txn* t, u64 root_place, const TreeKey* keys, u64 count, Way* ways, u64* shape,
                    Owed* owed) noexcept nogil:
    """Inserts up to AHEAD keys; ways[0] leads to the one before them, and to the last one of them then."""
    cdef u64 i
    for i in range(count):
        if find_way(t, root_place, &keys[i], &ways[i], shape[0], &ways[i + 1]) < 0:
            return t.status
    for i in range(count):
        if ways[i + 1].shape != shape[0]:
            if find_way(t, root_place, &keys[i], &ways[i], shape[0], &ways[i + 1]) < 0:
                return t.status
        if keytree_insert_owing(t, root_place, keys[i].key, keys[i].key_size, &ways[i + 1].path, owed) != PMKV_OK:
            return t.status
        shape[0] += ways[i + 1].path.length == 0
    memcpy(&ways[0], &ways[count], sizeof(Way))
    return t.status


cdef int keytree_insert_all(Txn* t, u64 root_place, TreeKey* keys, u64 count) noexcept nogil:
    """Adds keys that the tree does not have, all different; `keys` is sorted then, its heads need not be filled."""
    cdef Way ways[AHEAD + 1]
    cdef Owed owed
    cdef u64 done = 0, shape = 1
    memset(&owed, 0, sizeof(Owed))
    ways[0].shape = 0
    sort(keys, count)
    while done < count:
        if insert_few(t, root_place, keys + done, min(<u64>AHEAD, count - done), ways, &shape, &owed) != PMKV_OK:
            return t.status
        done += AHEAD
    return keytree_settle(t, &owed)
