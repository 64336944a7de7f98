"""_treefill.pyx (L3): many keys into the order at once.

May know: the tree and its nodes.  Not what else a batch does.

The keys are sorted first.  Then the way to each shares most of its nodes with the way to the one
before, and is found from there; and the counts of the nodes that they share change once for many.
The keys are taken a few at a time, in three steps, each for other keys, so that what one step asks for
comes while the others work: the parent of the leaf is found, then the leaf, and then the key goes in.

Invariants
  A1. A way is good for as long as no node that it leads through gets other entries: what happens inside
      of a leaf changes neither its place nor the entries above it.  A leaf that is divided makes the ways
      through its parent stale, and maybe those through nodes above; they are found again.
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
    FEW = 2                       # keys that go through a step together
    WAYS = 8                      # those under way, and the last one before them
    RADIX_MIN = 128               # keys from which on counting bytes is faster than comparing
    INDEX_BITS = 14
    INDEX_MASK = FILL_MAX - 1

# How a key's leaf was found.
cdef struct Way:
    Path path
    bint is_good

cdef struct Fill:
    u64 root_place
    const TreeKey* keys
    u64 count
    u64* order                    # their indexes, in the lowest bits, as the keys ascend
    Owed owed
    Way ways[WAYS]


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


cdef inline const TreeKey* key_of(const Fill* f, u64 i) noexcept nogil:
    return &f.keys[f.order[i] & INDEX_MASK]


cdef inline Way* way_of(Fill* f, u64 i) noexcept nogil:
    return &f.ways[i % WAYS]


cdef inline bint may_go_on(const Way* before) noexcept nogil:
    return before.is_good and before.path.length and before.path.step[0].node.level


cdef int find_parent(Txn* t, Fill* f, u64 i) noexcept nogil:
    """The first part of a key's way: to the leaf's parent, if the root is not it."""
    cdef const TreeKey* key = key_of(f, i)
    cdef const Way* before = way_of(f, i - 1)
    cdef Way* way = way_of(f, i)
    way.is_good = True
    if may_go_on(before):
        return go_on(t, key, &before.path, &way.path)
    return keytree_find_parent(t, f.root_place, key.key, key.key_size, &way.path)


cdef int find_leaf(Txn* t, Fill* f, u64 i) noexcept nogil:
    """The second part; from the beginning where the first has become stale."""
    cdef const TreeKey* key = key_of(f, i)
    cdef const Way* before = way_of(f, i - 1)
    cdef Way* way = way_of(f, i)
    cdef int low = 1, parent
    if not way.is_good and find_parent(t, f, i) < 0:
        return t.status
    parent = upper_steps(&way.path)
    if (may_go_on(before) and parent < before.path.length
            and way.path.step[parent].node.place == before.path.step[parent].node.place):
        way.path.step[parent] = before.path.step[parent]
        way.path.length = parent + 1
        low = max(1, before.path.step[parent].index)
    return keytree_find_leaf(t, key.key, key.key_size, low, &way.path)


cdef void spoil(Fill* f, u64 i, u64 end) noexcept nogil:
    """Key i's leaf was divided: ways up to `end` are stale that lead through the node behind its own's end (A1)."""
    cdef Way* way = way_of(f, i)
    cdef int top = way.path.length
    cdef u64 place = way.path.step[top].node.place
    way.is_good = False
    for i in range(i + 1, end):
        way = way_of(f, i)
        if top == 0 or (way.path.length > top and way.path.step[top].node.place == place):
            way.is_good = False


cdef int insert(Txn* t, Fill* f, u64 i, u64 end) noexcept nogil:
    """The third part: the key goes into its leaf.  Ways up to `end` are under way."""
    cdef const TreeKey* key = key_of(f, i)
    cdef Way* way = way_of(f, i)
    cdef int length
    if not way.is_good:
        find_leaf(t, f, i)
    length = way.path.length
    if keytree_insert_owing(t, f.root_place, key.key, key.key_size, &way.path, &f.owed) != PMKV_OK:
        return t.status
    if way.path.length < length or length == 0:
        spoil(f, i, end)
    return t.status


# Steps of a few keys from `first` on; there may be less of them, or none.

cdef inline u64 end_of(const Fill* f, u64 first) noexcept nogil:
    return min(first + FEW, f.count)


cdef void touch(const Pool* p, Fill* f, u64 first, int level) noexcept nogil:
    """Asks for the first line of what is next on each way; in a short loop their translations overlap, too."""
    cdef u64 places[FEW]
    cdef u64 i
    for i in range(first, end_of(f, first)):
        places[i - first] = path_below(&way_of(f, i).path, level)
    for i in range(first, end_of(f, first)):
        pmkv_prefetch(pmkv_at(&p.m, places[i - first]))


cdef int find_parents(Txn* t, Fill* f, u64 first) noexcept nogil:
    cdef u64 i
    for i in range(first, end_of(f, first)):
        if find_parent(t, f, i) < 0:
            return t.status
    touch(t.p, f, first, 2)
    for i in range(first, end_of(f, first)):
        keytree_fetch_parent(t.p, &way_of(f, i).path)
    return t.status


cdef int find_leaves(Txn* t, Fill* f, u64 first) noexcept nogil:
    cdef u64 i
    for i in range(first, end_of(f, first)):
        if find_leaf(t, f, i) < 0:
            return t.status
    touch(t.p, f, first, 1)
    return t.status


cdef void fetch_leaves(Txn* t, Fill* f, u64 first) noexcept nogil:
    """What an insert needs of the leaves whose first lines have come."""
    cdef u64 i
    for i in range(first, end_of(f, first)):
        keytree_fetch_leaf(t, &way_of(f, i).path)


cdef int insert_few(Txn* t, Fill* f, u64 first) noexcept nogil:
    cdef u64 i, found = end_of(f, first + 2 * FEW)
    for i in range(first, end_of(f, first)):
        if insert(t, f, i, found) != PMKV_OK:
            return t.status
    return t.status


cdef int insert_sorted(Txn* t, Fill* f) noexcept nogil:
    cdef u64 done = 0
    if find_parents(t, f, 0) == PMKV_OK and find_leaves(t, f, 0) == PMKV_OK:
        find_parents(t, f, FEW)
    while done < f.count and t.status == PMKV_OK:
        fetch_leaves(t, f, done)
        if find_leaves(t, f, done + FEW) == PMKV_OK and find_parents(t, f, done + 2 * FEW) == PMKV_OK:
            insert_few(t, f, done)
        done += FEW
    return keytree_settle(t, &f.owed) if t.status == PMKV_OK else t.status


cdef int keytree_insert_all(Txn* t, u64 root_place, const TreeKey* keys, u64 count) noexcept nogil:
    """Adds up to FILL_MAX keys that the tree does not have, all different."""
    cdef Fill* f = <Fill*>malloc(sizeof(Fill) + (2 * count + 1) * 8) if t.status == PMKV_OK else NULL
    if f == NULL:
        return txn_fail(t, PMKV_NO_MEMORY)
    f.root_place, f.keys, f.count = root_place, keys, count
    f.order = <u64*>(f + 1)
    memset(&f.owed, 0, sizeof(Owed))
    way_of(f, <u64>-1).is_good = False     # no key is before the first
    sort(keys, count, f.order, f.order + count)
    insert_sorted(t, f)
    free(f)
    return t.status
