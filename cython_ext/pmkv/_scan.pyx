"""_scan.pyx (L6): keys, values and items one after the other: ranges, cursors, counts.

May know: tables, ordered keys, the mapping.

An ordered scan looks ahead, so that the misses of a dozen keys overlap.
Threads: see _engine.pyx.
"""
from cython cimport final, no_gc_clear
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp
from pmkv._arguments cimport Bytes, read_bytes, release
from pmkv._core cimport *
from pmkv._keytree cimport (
    TreeCursor, keytree_at, keytree_edge, keytree_next_leaf, keytree_rank, keytree_seek, path_end,
)
from pmkv._mapping cimport (
    LEAF_SLOTS, Cursor as Walk, Probe, mapping_hash, mapping_locate, mapping_match_prefetched,
    mapping_next_leaf, mapping_prefetch_bucket, mapping_prefetch_record,
)
from pmkv._records cimport Record, record_parse
from pmkv._table cimport Table, pmkv_bytes
from pmkv._transaction cimport transaction_find
from pmkv._treenode cimport Piece, node_piece, parts_copy, parts_size, tree_word

from operator import index as as_index

from pmkv._errors import Error

cdef extern from "recycle.h":
    object pmkv_pair(PyObject** pair, object key, object value)
    void pmkv_pair_clear(PyObject** pair)

cdef enum Shows:
    SHOW_KEYS, SHOW_VALUES, SHOW_ITEMS

cdef enum:
    LAG = 14                      # keys between two steps of the pipeline
    RING = 32                     # at least 2 * LAG of them are under way, and the one given last
    INSIDE = 64                   # bytes of a key that need no memory of their own

SHOW = {"keys": SHOW_KEYS, "values": SHOW_VALUES, "items": SHOW_ITEMS}


cdef str CHANGED = "the store changed size during iteration; iterate over list(db) to change it meanwhile"


cdef int need_reader(Table table) except -1:
    """The table may be read, and nobody is changing pages without the GIL."""
    table.need_table()
    if table.t != NULL:
        table.need_transaction()
    if table.e.running:
        table.e.wait_for_writer()
    return 0


cdef u64 entry_word(Table table) noexcept:
    """The word that says how many keys there are: another one, and a scan is not what it was."""
    return tree_word(table.pool, table.t, table.namespace + NAMESPACE_ENTRY_COUNT)


cdef object shown(Table table, Shows shows, const Record* r):
    if shows == SHOW_KEYS:
        table.need_whole_body(r)
        return table.key_of(r)
    value = table.value_of(r)
    return value if shows == SHOW_VALUES else (table.key_of(r), value)


# ---- ranges ----------------------------------------------------------------------------------

@final
cdef class Range:
    """Which keys: those between two bounds, each in or out, or None."""
    cdef bytes low
    cdef bytes high
    cdef bint include_low
    cdef bint include_high

    cdef bint is_below(self, const char* key, u64 size) noexcept:
        """Whether the key is before the range."""
        cdef int order
        if self.low is None:
            return False
        order = compare(key, size, self.low, len(self.low))
        return order < 0 or (order == 0 and not self.include_low)

    cdef bint is_above(self, const char* key, u64 size) noexcept:
        cdef int order
        if self.high is None:
            return False
        order = compare(key, size, self.high, len(self.high))
        return order > 0 or (order == 0 and not self.include_high)


cdef int compare(const char* x, u64 x_size, const char* y, u64 y_size) noexcept:
    cdef int order = memcmp(x, y, min(x_size, y_size))
    return order if order else (x_size > y_size) - (x_size < y_size)


cdef bytes bound(object key):
    cdef Bytes b
    if key is None:
        return None
    read_bytes(key, &b, True)
    try:
        return b.data[:b.size]
    finally:
        release(&b)


cdef bytes after_prefix(bytes prefix):
    """The first key behind all that begin so, or None."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[len(stem) - 1] + 1]) if stem else None


cdef Range range_of(object prefix, object start, object stop, bint include_start, bint include_stop):
    cdef Range r = Range.__new__(Range)
    cdef bytes first = bound(prefix), end
    r.low, r.include_low = bound(start), include_start
    r.high, r.include_high = bound(stop), include_stop
    if first is not None:
        if r.low is None or r.low < first:
            r.low, r.include_low = first, True
        end = after_prefix(first)
        if end is not None and (r.high is None or r.high >= end):
            r.high, r.include_high = end, False
    return r


# ---- scans -------------------------------------------------------------------------------------

cdef struct Ahead:
    char* key
    u64 size
    char* larger                  # memory of its own for a long key
    u64 larger_size
    char inside[INSIDE]
    Probe probe


@final
cdef class Scan:
    """Keys of a range in order, or backwards: a pipeline of three steps.

    A key is copied and its bucket asked for, LAG keys later its record, LAG later it is given out.
    Where it is, it remembers as the key given last: whatever was committed meanwhile, it empties
    the pipeline and goes on behind that key.
    """
    cdef Table table
    cdef Range bounds
    cdef Shows shows
    cdef bint reverse
    cdef bint ended               # there are no more to copy
    cdef bint over                # it has said that there are no more
    cdef u64 left                 # so many may still be copied
    cdef u64 entries              # the word that counts them, when it began
    cdef u64 stamp                # of the tree that the cursor is in
    cdef u64 copied, asked, given
    cdef TreeCursor cursor        # the next key to copy
    cdef Ahead ring[RING]
    cdef PyObject* pair           # the last item, to be filled again

    def __dealloc__(self):
        cdef int i
        for i in range(RING):
            free(self.ring[i].larger)
        pmkv_pair_clear(&self.pair)

    def __iter__(self):
        return self

    cdef u64 stamp_now(self) noexcept:
        return self.table.pool.head if self.table.t == NULL else self.table.t.changes

    cdef int find_start(self, const char* last, u64 last_size) except -100:
        """Places the cursor on the first key behind `last`, or of the range; OK or NOT_FOUND."""
        cdef Table table = self.table
        cdef u64 root = table.namespace + NAMESPACE_KEYTREE
        cdef bytes edge
        cdef bint exact, inclusive = False
        cdef int status
        if last == NULL:
            edge = self.bounds.high if self.reverse else self.bounds.low
            if edge is None:
                return keytree_edge(table.pool, table.t, root, self.reverse, &self.cursor)
            inclusive = self.bounds.include_high if self.reverse else self.bounds.include_low
            last, last_size = edge, len(edge)
        status = keytree_seek(table.pool, table.t, root, last, last_size, &self.cursor, &exact)
        if status == PMKV_OK and self.reverse and not (exact and inclusive):
            self.cursor.index -= 1
        elif status == PMKV_OK and not self.reverse and exact and not inclusive:
            self.cursor.index += 1
        return status

    cdef int restart(self) except -1:
        """Empties the pipeline and finds the place again."""
        cdef Ahead* last = &self.ring[(self.given - 1) % RING]
        cdef int status
        self.left += self.copied - self.given
        self.copied = self.asked = self.given
        self.stamp = self.stamp_now()
        status = self.find_start(last.key if self.given else NULL, last.size if self.given else 0)
        self.ended = status == PMKV_NOT_FOUND
        if status < 0:
            self.table.e.fail(status)
        return 0

    cdef int copy_key(self) except -1:
        """The next key goes into the pipeline, if there is one in the range."""
        cdef Table table = self.table
        cdef Ahead* a = &self.ring[self.copied % RING]
        cdef Piece piece
        cdef int status = PMKV_OK
        while status == PMKV_OK and not 0 <= self.cursor.index < path_end(&self.cursor.path).count:
            status = keytree_next_leaf(table.pool, table.t, &self.cursor, not self.reverse)
        if status == PMKV_OK:
            status = node_piece(table.pool, table.t, path_end(&self.cursor.path), self.cursor.index, &piece)
        if status == PMKV_OK:
            self.reserve(a, parts_size(&piece.key))
            parts_copy(&piece.key, 0, a.key)
            if self.bounds.is_below(a.key, a.size) if self.reverse else self.bounds.is_above(a.key, a.size):
                status = PMKV_NOT_FOUND
        if status == PMKV_NOT_FOUND:
            self.ended = True
            return 0
        if status == PMKV_OK and self.shows != SHOW_KEYS:
            status = mapping_locate(table.pool, table.t, table.mapping, mapping_hash(table.pool, a.key, a.size),
                                    &a.probe)
            mapping_prefetch_bucket(table.pool, &a.probe)
        if status != PMKV_OK:
            table.e.fail(status)
        self.cursor.index += -1 if self.reverse else 1
        self.copied += 1
        self.left -= 1
        return 0

    cdef int reserve(self, Ahead* a, u64 size) except -1:
        cdef char* larger
        a.size = size
        a.key = a.inside
        if size <= INSIDE:
            return 0
        if size > a.larger_size:
            larger = <char*>realloc(a.larger, size)
            if larger == NULL:
                raise MemoryError
            a.larger, a.larger_size = larger, size
        a.key = a.larger
        return 0

    cdef int advance(self) except -1:
        """Moves every step of the pipeline on by what is due."""
        if self.stamp != self.stamp_now():
            self.restart()
        while self.copied < self.given + 2 * LAG and self.left and not self.ended:
            self.copy_key()
        while self.asked < self.copied and self.asked < self.given + LAG:
            if self.shows != SHOW_KEYS:
                mapping_prefetch_record(self.table.pool, &self.ring[self.asked % RING].probe)
            self.asked += 1
        return 0

    cdef int find_record(self, Ahead* a, Record* r) except -100:
        cdef Table table = self.table
        cdef int status
        if table.t != NULL:
            status = transaction_find(table.t, table.namespace, a.key, a.size, &a.probe, r)
        else:
            status = mapping_match_prefetched(table.pool, &a.probe, a.key, a.size, r)
        if status == PMKV_NOT_FOUND:
            table.e.damaged(PMKV_CHECK_TREE, table.namespace + NAMESPACE_KEYTREE)
        if status != PMKV_OK:
            table.e.fail(status)
        return status

    def __next__(self):
        cdef Table table = self.table
        cdef Ahead* a
        cdef Record r
        need_reader(table)
        if self.over:
            raise StopIteration
        if self.entries != entry_word(table):
            raise RuntimeError(CHANGED)
        self.advance()
        if self.given == self.copied:
            self.over = True
            raise StopIteration
        a = &self.ring[self.given % RING]
        if self.shows == SHOW_KEYS:
            self.given += 1
            return self.key_of(a)
        self.find_record(a, &r)
        self.given += 1
        value = table.value_of(&r)
        return value if self.shows == SHOW_VALUES else pmkv_pair(&self.pair, self.key_of(a), value)

    cdef object key_of(self, const Ahead* a):
        if self.table.keys_are_str:
            return a.key[:a.size].decode()
        return pmkv_bytes(&self.table.key_spares, a.key, a.size)


@final
@no_gc_clear                      # its end needs the engine
cdef class Unordered:
    """All keys of a table without order, leaf by leaf of the mapping."""
    cdef Table table
    cdef Shows shows
    cdef Walk walk
    cdef u64 leaf
    cdef u64 hash                 # of a key of the leaf
    cdef u64 stamp                # of where the leaf lies
    cdef u64 entries
    cdef u64 left
    cdef int slot
    cdef bint over
    cdef bint counted             # among the engine's walks

    def __dealloc__(self):
        self.leave()

    cdef void enter(self) noexcept:
        """From here to leave() leaves of mappings do not join: there would be keys that it has given before."""
        self.table.e.walks += 1
        self.counted = True

    cdef void leave(self) noexcept:
        if self.counted:
            self.table.e.walks -= 1
        self.counted = False

    def __iter__(self):
        return self

    cdef int find_leaf(self) except -1:
        """The leaf may have moved with a commit."""
        cdef Table table = self.table
        cdef Probe probe
        cdef u64 stamp = table.pool.head if table.t == NULL else table.t.changes
        cdef int status
        if self.leaf and stamp != self.stamp:
            status = mapping_locate(table.pool, table.t, table.mapping, self.hash, &probe)
            if status != PMKV_OK:
                table.e.fail(status)
            self.leaf = probe.leaf
        self.stamp = stamp
        return 0

    cdef u64 next_record(self) except? 0:
        """The place of the next record, 0 at the end."""
        cdef Table table = self.table
        cdef u64 slots[LEAF_SLOTS]
        cdef u64 word
        cdef int status
        self.find_leaf()
        while True:
            while self.leaf and self.slot < LEAF_SLOTS:   # read now: an overwrite changes the slot
                word = tree_word(table.pool, table.t, self.leaf + self.slot * 8)
                if not pmkv_is_sealed(word):
                    table.e.damaged(PMKV_CHECK_SEAL, self.leaf + self.slot * 8)
                self.slot += 1
                if word & GRANULE_MASK:
                    return (word & GRANULE_MASK) << GRANULE_SHIFT
            self.hash = self.walk.prefix
            status = mapping_next_leaf(table.pool, table.t, table.mapping, &self.walk, slots, &self.leaf)
            if status != PMKV_OK:
                table.e.fail(status)
            self.slot = 0
            if self.leaf == 0:
                return 0

    def __next__(self):
        cdef u64 place
        cdef Record r
        need_reader(self.table)
        if self.over:
            raise StopIteration
        if self.entries != entry_word(self.table):
            raise RuntimeError(CHANGED)
        place = self.next_record() if self.left else 0
        if place == 0:
            self.over = True
            self.leave()
            raise StopIteration
        self.left -= 1
        if record_parse(self.table.pool, place, &r) != PMKV_OK:
            self.table.e.fail(PMKV_CORRUPTED)
        return shown(self.table, self.shows, &r)


def scan(Table table not None, int shows, *, prefix=None, start=None, stop=None, bint include_start=True,
         bint include_stop=False, bint reverse=False, limit=None):
    """An iterator over keys, values or items (`shows`: of SHOW) of a range."""
    cdef Scan s
    cdef Unordered u
    cdef u64 most = ~<u64>0 if limit is None else min(max(0, as_index(limit)), ~<u64>0)
    need_reader(table)
    if not table.ordered:
        need_no_order(prefix is not None or start is not None or stop is not None or reverse)
        u = Unordered.__new__(Unordered)
        u.table, u.shows, u.left, u.entries = table, <Shows>shows, most, entry_word(table)
        u.enter()
        return u
    s = Scan.__new__(Scan)
    s.bounds = range_of(prefix, start, stop, include_start, include_stop)
    s.table, s.shows, s.reverse, s.left, s.entries = table, <Shows>shows, reverse, most, entry_word(table)
    s.restart()
    return s


cdef int need_no_order(bint wanted) except -1:
    if wanted:
        raise Error("this store was made with ordered=False: it has no ranges, no prefixes and no order")
    return 0


cdef u64 rank(Table table, bytes key, bint or_equal) except? 0:
    """How many keys are smaller, or equal."""
    cdef TreeCursor cursor
    cdef bint exact = False
    cdef u64 smaller
    cdef int status = keytree_rank(table.pool, table.t, table.namespace + NAMESPACE_KEYTREE, key, len(key), &smaller)
    if status == PMKV_OK and or_equal:
        status = keytree_seek(table.pool, table.t, table.namespace + NAMESPACE_KEYTREE, key, len(key), &cursor, &exact)
    if status != PMKV_OK and status != PMKV_NOT_FOUND:
        table.e.fail(status)
    table.need_possible(smaller, table.namespace + NAMESPACE_KEYTREE)
    return smaller + exact


def count(Table table not None, *, prefix=None, start=None, stop=None, bint include_start=True,
          bint include_stop=False):
    """How many keys a range has, without walking over them."""
    cdef Range r
    cdef u64 above, below = 0
    need_reader(table)
    if not table.ordered:
        need_no_order(prefix is not None or start is not None or stop is not None)
        return table.entries()
    r = range_of(prefix, start, stop, include_start, include_stop)
    above = table.entries() if r.high is None else rank(table, r.high, r.include_high)
    if r.low is not None:
        below = rank(table, r.low, not r.include_low)
    return max(above, below) - below


# ---- single keys by where they are ------------------------------------------------------------------

cdef bytes key_under(Table table, TreeCursor* cursor):
    cdef Piece piece
    cdef int status = node_piece(table.pool, table.t, path_end(&cursor.path), cursor.index, &piece)
    cdef bytes key
    if status != PMKV_OK:
        table.e.fail(status)
    key = PyBytes_FromStringAndSize(NULL, parts_size(&piece.key))
    parts_copy(&piece.key, 0, PyBytes_AS_STRING(key))
    return key


cdef object given_key(Table table, bytes key):
    return key.decode() if table.keys_are_str else key


def key_at(Table table not None, index):
    """The key that `index` others are smaller than; negative ones count from the end.  IndexError."""
    cdef TreeCursor cursor
    cdef int status
    need_reader(table)
    need_no_order(not table.ordered)
    index = as_index(index)
    position = index if index >= 0 else index + table.entries()
    if not 0 <= position < table.entries():
        raise IndexError(f"key_at({index}): the store has {table.entries()} keys")
    status = keytree_at(table.pool, table.t, table.namespace + NAMESPACE_KEYTREE, position, &cursor)
    if status == PMKV_NOT_FOUND:
        table.e.damaged(PMKV_CHECK_TREE, table.namespace + NAMESPACE_KEYTREE)
    if status != PMKV_OK:
        table.e.fail(status)
    return given_key(table, key_under(table, &cursor))


cdef bytes neighbour(Table table, bytes key, bint forward, bint inclusive):
    """The next key in a direction, or None; from an edge if there is no key to go from."""
    cdef Scan s = Scan.__new__(Scan)
    cdef int status
    need_reader(table)
    s.table, s.bounds, s.reverse = table, Range.__new__(Range), not forward
    if forward:
        s.bounds.low, s.bounds.include_low = key, inclusive
    else:
        s.bounds.high, s.bounds.include_high = key, inclusive
    status = s.find_start(NULL, 0)
    while status == PMKV_OK and not 0 <= s.cursor.index < path_end(&s.cursor.path).count:
        status = keytree_next_leaf(table.pool, table.t, &s.cursor, forward)
    if status == PMKV_NOT_FOUND:
        return None
    if status != PMKV_OK:
        table.e.fail(status)
    return key_under(table, &s.cursor)


cdef class Cursor:
    """A place among the keys of a table, that moves.  It is on a key, or nowhere."""
    cdef Table table
    cdef bytes at

    def __cinit__(self, Table table not None):
        need_reader(table)
        need_no_order(not table.ordered)
        self.table = table

    cdef bint go(self, bytes key) noexcept:
        self.at = key
        return key is not None

    def first(self):
        """Moves to the smallest key; whether there is one."""
        return self.go(neighbour(self.table, None, True, True))

    def last(self):
        """Moves to the largest key; whether there is one."""
        return self.go(neighbour(self.table, None, False, True))

    def next(self):
        """Moves to the next key, from nowhere to the first; whether there is one."""
        return self.go(neighbour(self.table, self.at, True, self.at is None))

    def prev(self):
        """Moves to the key before, from nowhere to the last; whether there is one."""
        return self.go(neighbour(self.table, self.at, False, self.at is None))

    def set_key(self, key):
        """Moves to this key; whether it is there."""
        wanted = bound(key)
        found = neighbour(self.table, wanted, True, True)
        return self.go(found if found == wanted else None)

    def set_range(self, key):
        """Moves to the first key that is not smaller; whether there is one."""
        return self.go(neighbour(self.table, bound(key), True, True))

    def key(self):
        """The key that it is on, or None."""
        return None if self.at is None else given_key(self.table, self.at)

    def value(self):
        """The value of that key, or None.  NotFoundError if the key was deleted meanwhile."""
        return None if self.at is None else self.table[self.at]

    def item(self):
        """Key and value, or None."""
        return None if self.at is None else (self.key(), self.value())

    def __iter__(self):
        """Items from the key that it is on, or else from the first, to the last."""
        return scan(self.table, SHOW_ITEMS, start=self.at)


def is_within(key, *, prefix=None, start=None, stop=None, bint include_start=True, bint include_stop=False):
    """Whether a key lies in a range."""
    cdef Range r = range_of(prefix, start, stop, include_start, include_stop)
    cdef bytes k = bound(key)
    return not r.is_below(k, len(k)) and not r.is_above(k, len(k))
