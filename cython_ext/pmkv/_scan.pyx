"""_scan.pyx (L6): keys, values and items one after the other: ranges, cursors, counts.

May know: how tables are read, ordered keys, the mapping, versions.

A scan shows one moment, that at which it began, whatever is committed meanwhile; in a transaction,
whose own writes it sees, a change of size ends it.  It looks ahead, so that the misses of a dozen
keys overlap.
Threads: see _engine.pyx.
"""
from cython cimport final
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy
from pmkv._arguments cimport as_bytes
from pmkv._core cimport *
from pmkv._engine cimport Moment
from pmkv._expiry cimport anything_expires
from pmkv._keytree cimport (
    Path, Step, TreeCursor, keytree_at, keytree_edge, keytree_next_leaf, keytree_rank, keytree_seek, path_end,
)
from pmkv._lookahead cimport INSIDE, RING, Ahead, ahead_at, ahead_fetch, ahead_locate, ahead_match
from pmkv._mapping cimport mapping_match
from pmkv._reading cimport SHOW_ITEMS, SHOW_KEYS, SHOW_VALUES, VERIFY_NOTHING, Reader, Shows, pmkv_bytes
from pmkv._records cimport Record, record_body_is_whole, record_commit
from pmkv._transaction cimport transaction_find_any
from pmkv._treenode cimport (
    COPY_ROOM, Node, Piece, node_child, node_copy, node_piece, node_prefetch, parts_copy, parts_size,
)
from pmkv._unordered cimport unordered
from pmkv._versions cimport (
    BEFORE_KEY, BEHIND_ALL, BEHIND_KEY, Edge, Version, version_free, version_read, version_record, versions_seek,
)

from operator import index as as_index

from pmkv._errors import Error

cdef extern from "recycle.h":
    object pmkv_pair(PyObject** pair, object key, object value)
    void pmkv_pair_clear(PyObject** pair)

cdef enum:
    STEP = 4                      # keys that every step of the pipeline takes on at once: see _lookahead.pyx
    REACH = 7 * STEP              # keys that are copied ahead at most; the one given last is in the ring as well
    ASKED = 5 * STEP              # of these, whose records are asked for
    SETTLED = 3 * STEP            # and whose alternate buckets have been looked at
    FIRST = 3 * STEP              # that are copied ahead at first
    TURN = 4096                   # keys after which other threads run, and Ctrl-C comes through

SHOW = {"keys": SHOW_KEYS, "values": SHOW_VALUES, "items": SHOW_ITEMS}
cdef str CHANGED = "the transaction changed the number of keys during iteration; iterate over list(txn) to do so"


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


cdef inline bytes bound(object key):
    return None if key is None else as_bytes(key, True)


cdef bytes after_prefix(bytes prefix):
    """The first key behind all that begin so, or None."""
    cdef Py_ssize_t size = len(prefix)
    cdef bytes key
    cdef unsigned char* end
    while size and <unsigned char>prefix[size - 1] == 255:
        size -= 1
    if size == 0:
        return None
    key = PyBytes_FromStringAndSize(NULL, size)   # never one that the interpreter shares
    end = <unsigned char*>PyBytes_AS_STRING(key)
    memcpy(end, PyBytes_AS_STRING(prefix), size)
    end[size - 1] += 1
    return key


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


cdef Range range_in(dict bounds):
    """That of the arguments of a scan that restrict it."""
    return range_of(bounds.get("prefix"), bounds.get("start"), bounds.get("stop"),
                    bounds.get("include_start", True), bounds.get("include_stop", False))


# ---- scans -------------------------------------------------------------------------------------

@final
cdef class Scan:
    """Keys of a range in order, or backwards: a pipeline, whose steps take some keys at a time.

    Keys are copied and their buckets asked for; a while later their records, or other buckets and then
    the records; then they are given out.  Where it is, it remembers as the key given last: whatever was
    committed meanwhile, it empties the pipeline and goes on behind that key.  From the first such commit
    on there are two sources: the keys of the tree, of which some have come since or have newer records,
    and the versions.
    """
    cdef Reader table
    cdef Moment moment            # None in a transaction
    cdef Range bounds
    cdef Shows shows
    cdef bint reverse
    cdef bint tree_ended          # the tree has no more keys to copy
    cdef bint within              # all of the leaf's keys are in the range, from here on
    cdef bint versions_ended
    cdef bint over                # it has said that there are no more
    cdef bint past                # something was committed since its moment
    cdef bint looks               # at records, for their values, or whether they are to be shown
    cdef u64 now                  # what has expired by then is not shown
    cdef u64 left                 # so many may still be given
    cdef u64 entries              # the word that counts them, when it began
    cdef u64 stamp                # of the tree that the cursor is in
    cdef u64 copied, located, asked, settled, given
    cdef u64 due                  # when so many are given, every step moves on
    cdef u64 breath               # and then others run
    cdef u64 reach                # how far it looks ahead: not far, where each step meets a commit
    cdef TreeCursor cursor        # the next key to copy
    cdef TreeCursor version_cursor
    cdef Version version          # the next one that the moment sees
    cdef bint version_ready
    cdef Ahead ring[RING]
    cdef PyObject* pair           # the last item, to be filled again

    def __dealloc__(self):
        cdef int i
        for i in range(RING):
            free(self.ring[i].larger)
        version_free(&self.version)
        pmkv_pair_clear(&self.pair)

    def __iter__(self):
        return self

    cdef u64 stamp_now(self) noexcept:
        return self.table.pool.head if self.table.t == NULL else self.table.t.changes

    # -- sources --

    cdef int find_start(self, const char* last, u64 last_size) except -100:
        """Places the cursor on the first key behind `last`, or of the range; OK or NOT_FOUND."""
        cdef Reader table = self.table
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

    cdef int find_version_start(self, const char* last, u64 last_size) except -100:
        """The same among the versions."""
        cdef bytes bound = self.bounds.high if self.reverse else self.bounds.low
        cdef bint behind = not self.reverse
        cdef Edge edge
        cdef int status
        if last == NULL and bound is not None:
            last, last_size = bound, len(bound)
            behind = self.bounds.include_high if self.reverse else not self.bounds.include_low
        edge = BEHIND_KEY if behind else BEFORE_KEY
        if last == NULL:
            edge = BEHIND_ALL if self.reverse else BEFORE_KEY
        status = versions_seek(self.table.pool, self.table.id, last, last_size, edge, &self.version_cursor)
        self.version_cursor.index -= self.reverse
        return status

    cdef int restart(self) except -1:
        """Empties the pipeline and finds the place again."""
        cdef Ahead* last = ahead_at(self.ring, self.given - 1)
        cdef const char* key = last.key if self.given else NULL
        cdef u64 size = last.size if self.given else 0
        cdef int status, other = PMKV_NOT_FOUND
        self.copied = self.located = self.asked = self.settled = self.due = self.given
        self.reach = 2
        self.stamp = self.stamp_now()
        self.past = self.moment is not None and self.stamp != self.moment.at
        self.looks = self.shows != SHOW_KEYS or self.past or anything_expires(self.table.pool, self.table.t)
        status = self.find_start(key, size)
        if self.past and status >= 0:
            other = self.find_version_start(key, size)
        self.tree_ended = status == PMKV_NOT_FOUND
        self.versions_ended = other == PMKV_NOT_FOUND
        self.version_ready = False
        if status < 0 or other < 0:
            self.stamp = ~self.stamp      # there is no place: whoever goes on after the error looks for it again
            self.table.e.fail(status if status < 0 else other)
        if status == PMKV_OK:
            self.enter_leaf()
        return 0

    cdef bint is_beyond(self, const char* key, u64 size) noexcept:
        return self.bounds.is_below(key, size) if self.reverse else self.bounds.is_above(key, size)

    cdef int next_version(self) except -1:
        """Makes `version` the next one that the moment sees."""
        cdef Version* v = &self.version
        cdef int status
        while not self.version_ready and not self.versions_ended:
            status = version_read(self.table.pool, self.table.id, False, &self.version_cursor, not self.reverse, v)
            if status < 0:
                self.table.e.fail(status)
            self.versions_ended = status == PMKV_NOT_FOUND or self.is_beyond(v.key, v.key_size)
            self.version_ready = not self.versions_ended and v.born < self.moment.at <= v.died
        return 0

    cdef int enter_leaf(self) noexcept:
        """Looks once whether the range goes on behind the leaf: then its keys need no look each."""
        cdef const Node* leaf = path_end(&self.cursor.path)
        cdef char last[INSIDE + COPY_ROOM]
        cdef u64 size
        self.within = (self.bounds.low if self.reverse else self.bounds.high) is None
        if not self.within and node_copy(self.table.pool, leaf, 0 if self.reverse else leaf.count - 1, last,
                                         INSIDE, &size):
            self.within = not self.is_beyond(last, size)
        return 0

    cdef int ask_for_next_leaf(self) noexcept:
        """If it will be needed: for the leaves behind it, keytree_next_leaf() does so."""
        cdef Path* path = &self.cursor.path
        cdef Step* parent
        cdef int index = self.cursor.index, next
        cdef u64 child, here = index + 1 if self.reverse else path_end(path).count - index
        if path.length == 1 or not self.within or self.left <= here:
            return 0
        parent = &path.step[path.length - 2]
        next = parent.index + (-1 if self.reverse else 1)
        if 0 <= next < parent.node.count:
            if node_child(self.table.pool, self.table.t, &parent.node, next, &child) == PMKV_OK:
                node_prefetch(self.table.pool, child)
        return 0

    cdef int next_of_tree(self, Ahead* a) except -1:
        """Copies the key under the cursor; tree_ended if there is none in the range."""
        cdef Reader table = self.table
        cdef int status = PMKV_OK
        while status == PMKV_OK and not 0 <= self.cursor.index < path_end(&self.cursor.path).count:
            status = keytree_next_leaf(table.pool, table.t, &self.cursor, not self.reverse)
            if status == PMKV_OK:
                self.enter_leaf()
        self.tree_ended = status == PMKV_NOT_FOUND
        if status < 0:
            table.e.fail(status)
        if status == PMKV_OK:
            self.copy_key(a)
            self.tree_ended = not self.within and self.is_beyond(a.key, a.size)
        return 0

    cdef inline int copy_key(self, Ahead* a) except -1:
        cdef const Node* leaf = path_end(&self.cursor.path)
        cdef Piece piece
        cdef int status
        if node_copy(self.table.pool, leaf, self.cursor.index, a.inside, INSIDE, &a.size):
            a.key = a.inside
            return 0
        status = node_piece(self.table.pool, self.table.t, leaf, self.cursor.index, &piece)
        if status != PMKV_OK:
            self.table.e.fail(status)
        self.reserve(a, parts_size(&piece.key))
        parts_copy(&piece.key, 0, a.key)
        return 0

    # -- the pipeline --

    cdef int copy_next(self) except -1:
        """The next key of either source goes into the pipeline, if there is one in the range."""
        cdef Ahead* a = ahead_at(self.ring, self.copied)
        cdef int order
        if not self.tree_ended:
            self.next_of_tree(a)
        if self.past:
            self.next_version()
            if self.version_ready:
                order = -1 if self.tree_ended else compare(self.version.key, self.version.key_size, a.key, a.size)
                if order == 0 or (order < 0) != self.reverse or self.tree_ended:
                    return self.copy_version(a)
        if self.tree_ended:
            return 0
        a.version = 0
        self.cursor.index += -1 if self.reverse else 1
        self.copied += 1
        return 0

    cdef int copy_version(self, Ahead* a) except -1:
        self.reserve(a, self.version.key_size)
        memcpy(a.key, self.version.key, a.size)
        a.version, a.born = self.version.place, self.version.born
        pmkv_prefetch(pmkv_at(&self.table.pool.m, a.version))
        self.version_ready = False
        self.copied += 1
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

    cdef bint may_have_more(self) noexcept:
        return not self.tree_ended or (self.past and (self.version_ready or not self.versions_ended))

    cdef u64 fetch(self, u64 first, u64 distance) noexcept:
        """Not too many at once, where it has just begun."""
        cdef u64 end = min(self.located, min(self.given + distance, first + 2 * STEP))
        ahead_fetch(self.table.pool, self.ring, first, end)
        return end

    cdef int advance(self) except -1:
        """Moves every step of the pipeline on by what is due."""
        cdef Reader table = self.table
        cdef u64 end
        cdef int status
        if self.given >= self.breath:
            self.breath = self.given + TURN
            table.let_others_run()
            table.need_reader()
        if self.stamp != self.stamp_now():
            need_order(table)
            self.restart()
        end = self.given + min(self.reach, self.left)
        while self.copied < end and self.may_have_more():
            self.copy_next()
        if self.looks:
            status = ahead_locate(table.pool, table.t, table.mapping, self.ring, self.located, self.copied)
            if status != PMKV_OK:
                table.e.fail(status)
            self.located = self.copied
            self.asked = self.fetch(self.asked, ASKED)
            self.settled = self.fetch(self.settled, SETTLED)
        self.due = min(self.given + STEP, self.copied)
        self.reach = min(self.reach * 2, <u64>REACH)
        return 0

    cdef inline bint find_record(self, Ahead* a, Record* r) except -1:
        """The key's record; False if the moment does not see it, or it had expired by then."""
        if self.table.t != NULL or not ahead_match(self.table.pool, a, r):
            self.look_for_record(a, r)
        if self.past and record_commit(r) >= self.moment.at:
            return False
        return not (r.flags & PMKV_RECORD_EXPIRY and self.table.has_expired(r, self.now))

    cdef int look_for_record(self, Ahead* a, Record* r) except -1:
        """Wherever it may be."""
        cdef Reader table = self.table
        cdef Version v
        cdef int status
        if a.version:
            v.place, v.key, v.key_size, v.namespace_id, v.born = a.version, a.key, a.size, table.id, a.born
            status = version_record(table.pool, &v, r)
        elif table.t != NULL:
            status = transaction_find_any(table.t, table.namespace, a.key, a.size, &a.probe, r)
        else:
            status = mapping_match(table.pool, NULL, &a.probe, a.key, a.size, r)
        if status == PMKV_NOT_FOUND:
            table.e.damaged(PMKV_CHECK_TREE, table.namespace + NAMESPACE_KEYTREE)
        if status != PMKV_OK:
            table.fail_at(a.key[:a.size], status)
        return 0

    cdef inline bint is_at_ease(self) noexcept:
        """Whether need_reader() would find nothing to wait for, or to refuse."""
        cdef Reader table = self.table
        return (table.e.usable and not table.e.running and not table.gone and table.t == NULL
                and (table.as_of == 0 or table.moment.at != 0))

    cdef inline Ahead* next(self, Record* r) except? NULL:
        """The next key, and its record where one is wanted; NULL at the end."""
        cdef Ahead* a
        if not self.is_at_ease():
            self.table.need_reader()
        while self.left and not self.over:
            if self.given == self.due or self.stamp != self.stamp_now():
                self.advance()
            if self.given == self.copied:
                return NULL
            a = ahead_at(self.ring, self.given)
            self.given += 1
            if not self.looks or self.find_record(a, r):
                self.left -= 1
                return a
        return NULL

    def __next__(self):
        cdef Ahead* a
        cdef Record r
        if self.over:
            raise StopIteration
        if self.table.t != NULL:
            self.table.need_reader()
            if self.entries != self.table.entry_word():
                raise RuntimeError(CHANGED)
        a = self.next(&r)
        if a == NULL:
            self.over = True
            self.moment = None
            raise StopIteration
        if self.shows == SHOW_VALUES:
            return self.value_of(&r)
        key = self.key_of(a)      # first: a large value lets other threads run, and one may share this iterator
        return key if self.shows == SHOW_KEYS else pmkv_pair(&self.pair, key, self.value_of(&r))

    cdef inline object key_of(self, const Ahead* a):
        if self.table.keys_are_str:
            return a.key[:a.size].decode()
        return pmkv_bytes(&self.table.key_spares, a.key, a.size)

    cdef inline object value_of(self, const Record* r):
        """The table's value_of(); inline for a plain value that lies in a whole record."""
        cdef Reader table = self.table
        if r.flags == 0 and table.loads is None and (
                (table.verify == VERIFY_NOTHING and table.encoder is None) or record_body_is_whole(table.pool, r)):
            return pmkv_bytes(&table.value_spares, r.value, r.value_size)
        return table.value_of(r)


cdef Scan scan_of(Reader table, Shows shows, Range bounds, bint reverse, u64 most):
    """A scan that has not begun."""
    cdef Scan s = Scan.__new__(Scan)
    s.table, s.bounds, s.shows, s.reverse, s.left = table, bounds, shows, reverse, most
    need_order(table)
    s.moment = table.reading_at()
    s.now = table.now() if s.moment is None else s.moment.time
    s.entries = table.entry_word()
    s.restart()
    s.reach = FIRST
    if not s.tree_ended:
        s.ask_for_next_leaf()
    s.breath = TURN
    return s


def scan(Reader table not None, int shows, dict bounds=None, bint reverse=False, limit=None):
    """An iterator over keys, values or items (`shows`: of SHOW) of a range: of all keys, without bounds."""
    cdef u64 most = ~<u64>0 if limit is None else min(max(0, as_index(limit)), ~<u64>0)
    cdef Range r
    table.need_reader()
    if not table.ordered:
        need_no_order(reverse or (bounds and not bounds.keys().isdisjoint(("prefix", "start", "stop"))))
        return unordered(table, <Shows>shows, most)
    r = range_in(bounds) if bounds else Range.__new__(Range)
    return scan_of(table, <Shows>shows, r, reverse, most)


cdef int need_order(Reader table) except -1:
    """The table may be read (need_reader), and what an open transaction has put is in the order, too."""
    table.need_reader()
    while table.t != NULL and table.t.late_count:
        table.e.catch_up()
        table.need_reader()
    return 0


cdef int need_no_order(bint wanted) except -1:
    if wanted:
        raise Error("this store was made with ordered=False: it has no ranges, no prefixes and no order")
    return 0


cdef u64 rank(Reader table, bytes key, bint or_equal) except? 0:
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


cdef bint counts_are_good(Reader table) except -1:
    """Whether the counts in the tree are of what the table shows: of its moment, without anything expired."""
    if table.is_past() or (table.as_of and table.moment.has_expired):
        return False
    if not table.as_of and table.expired_keys():
        if table.t == NULL:
            table.e.sweep_unless_busy()
        return table.expired_keys() == 0
    return True


cdef u64 walk(Reader table, Range bounds) except? 0:
    """The same, one by one: the counts in the tree are of now."""
    cdef Scan s = scan_of(table, SHOW_KEYS, bounds, False, ~<u64>0)
    cdef Record r
    cdef u64 found = 0
    while s.next(&r) != NULL:
        found += 1
    return found


def count(Reader table not None, *, prefix=None, start=None, stop=None, bint include_start=True,
          bint include_stop=False):
    """How many keys a range has, without walking over them; in a snapshot, if nothing was committed since."""
    cdef Range r
    cdef u64 above, below = 0
    if not table.ordered:
        table.need_reader()
        need_no_order(prefix is not None or start is not None or stop is not None)
        return table.entries()
    r = range_of(prefix, start, stop, include_start, include_stop)
    table.need_clean()
    need_order(table)
    if not counts_are_good(table):
        return walk(table, r)
    above = table.entries() if r.high is None else rank(table, r.high, r.include_high)
    if r.low is not None:
        below = rank(table, r.low, not r.include_low)
    return max(above, below) - below


# ---- single keys by where they are ------------------------------------------------------------------

cdef bytes key_under(Reader table, TreeCursor* cursor):
    cdef Piece piece
    cdef int status = node_piece(table.pool, table.t, path_end(&cursor.path), cursor.index, &piece)
    cdef bytes key
    if status != PMKV_OK:
        table.e.fail(status)
    key = PyBytes_FromStringAndSize(NULL, parts_size(&piece.key))
    parts_copy(&piece.key, 0, PyBytes_AS_STRING(key))
    return key


cdef object given_key(Reader table, bytes key):
    return key.decode() if table.keys_are_str else key


cdef bytes walk_to(Reader table, u64 position):
    """The key at a position of the past: from the nearer end."""
    cdef bint reverse = position > table.entries() // 2
    cdef u64 steps = table.entries() - position if reverse else position + 1
    cdef Scan s = scan_of(table, SHOW_KEYS, Range.__new__(Range), reverse, steps)
    cdef Record r
    cdef Ahead* a = NULL
    while steps:
        a = s.next(&r)
        if a == NULL:
            table.e.damaged(PMKV_CHECK_TREE, table.namespace + NAMESPACE_KEYTREE)
        steps -= 1
    return a.key[:a.size]


def key_at(Reader table not None, index):
    """The key that `index` others are smaller than; negative ones count from the end.  IndexError."""
    cdef TreeCursor cursor
    cdef int status
    index = as_index(index)
    table.need_clean()
    need_order(table)
    need_no_order(not table.ordered)
    position = index if index >= 0 else index + table.entries()
    if not 0 <= position < table.entries():
        raise IndexError(f"key_at({index}): the store has {table.entries()} keys")
    if not counts_are_good(table):
        return given_key(table, walk_to(table, position))
    status = keytree_at(table.pool, table.t, table.namespace + NAMESPACE_KEYTREE, position, &cursor)
    if status == PMKV_NOT_FOUND:
        table.e.damaged(PMKV_CHECK_TREE, table.namespace + NAMESPACE_KEYTREE)
    if status != PMKV_OK:
        table.e.fail(status)
    return given_key(table, key_under(table, &cursor))


cdef bytes neighbour(Reader table, bytes key, bint forward, bint inclusive):
    """The next key in a direction, or None; from an edge if there is no key to go from."""
    cdef Range bounds = Range.__new__(Range)
    cdef Scan s
    cdef Record r
    cdef Ahead* a
    if forward:
        bounds.low, bounds.include_low = key, inclusive
    else:
        bounds.high, bounds.include_high = key, inclusive
    s = scan_of(table, SHOW_KEYS, bounds, not forward, 1)
    a = s.next(&r)
    return None if a == NULL else a.key[:a.size]


cdef class Cursor:
    """A place among the keys of a table, that moves.  It is on a key, or nowhere."""
    cdef Reader table
    cdef bytes at

    def __cinit__(self, Reader table not None):
        table.need_reader()
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
        wanted = as_bytes(key, True)
        found = neighbour(self.table, wanted, True, True)
        return self.go(found if found == wanted else None)

    def set_range(self, key):
        """Moves to the first key that is not smaller; whether there is one."""
        return self.go(neighbour(self.table, as_bytes(key, True), True, True))

    def key(self):
        """The key that it is on, or None."""
        self.table.need_reader()
        return None if self.at is None else given_key(self.table, self.at)

    def value(self):
        """The value of that key, or None.  NotFoundError if the key was deleted meanwhile."""
        return None if self.at is None else self.table[self.at]

    def item(self):
        """Key and value, or None."""
        return None if self.at is None else (self.key(), self.value())

    def __iter__(self):
        """Items from the key that it is on, or else from the first, to the last."""
        return scan(self.table, SHOW_ITEMS, {"start": self.at})


def is_within(key, *, prefix=None, start=None, stop=None, bint include_start=True, bint include_stop=False):
    """Whether a key lies in a range."""
    cdef Range r = range_of(prefix, start, stop, include_start, include_stop)
    cdef bytes k = bound(key)
    return not r.is_below(k, len(k)) and not r.is_above(k, len(k))
