"""_unordered.pyx (L6): all keys of a table without order, one after the other.

May know: how tables are read, the mapping, versions.

The keys are visited in portions: those of one leaf of the mapping, which is a range of hashes, and the
versions in that range.  Where the records of a portion are is noted down at once, and stays true: what
the scan's moment sees is not freed while the scan is under way.
Threads: see _engine.pyx.
"""
from cython cimport final, no_gc_clear
from libc.stdlib cimport free, realloc
from libc.string cimport memset
from pmkv._core cimport *
from pmkv._engine cimport Moment
from pmkv._keytree cimport TreeCursor
from pmkv._mapping cimport LEAF_SLOTS, Cursor, mapping_hash, mapping_next_leaf
from pmkv._reading cimport Reader, Shows
from pmkv._records cimport Record, record_commit, record_parse
from pmkv._versions cimport Version, version_free, version_read, versions_seek_hash

cdef str CHANGED = "the transaction changed the number of keys during iteration; iterate over list(txn) to do so"

cdef enum:
    PORTION = 2048                # versions that are noted down at once


@final
@no_gc_clear                      # its end needs the engine
cdef class Unordered:
    """An iterator over the keys, values or items."""
    cdef Reader table
    cdef Moment moment            # None in a transaction
    cdef Shows shows
    cdef u64 now                  # what has expired by then is not shown
    cdef u64 left                 # so many may still be given
    cdef u64 rollbacks            # of the transaction: places that are noted down may be others' then
    cdef u64 entries              # the word that counts them, when it began
    cdef u64 first                # of the hashes that are still to come
    cdef bint ended               # there are none
    cdef bint over                # it has said so
    cdef bint counted             # among the engine's walks
    cdef u64* places              # of the portion's records
    cdef size_t count, capacity
    cdef size_t given

    def __dealloc__(self):
        self.leave()
        free(self.places)

    cdef void enter(self) noexcept:
        """From here to leave() compaction moves no records of namespaces without order."""
        self.table.e.walks += 1
        self.counted = True

    cdef void leave(self) noexcept:
        if self.counted:
            self.table.e.walks -= 1
        self.counted = False

    def __iter__(self):
        return self

    cdef int add(self, u64 place) except -1:
        cdef u64* larger
        if self.count == self.capacity:
            larger = <u64*>realloc(self.places, (self.capacity * 2 + LEAF_SLOTS) * 8)
            if larger == NULL:
                raise MemoryError
            self.places, self.capacity = larger, self.capacity * 2 + LEAF_SLOTS
        self.places[self.count] = place
        self.count += 1
        return 0

    cdef int next_portion(self) except -1:
        """Notes down the next records, in a range of hashes."""
        cdef Reader table = self.table
        cdef Cursor cursor
        cdef u64 slots[LEAF_SLOTS]
        cdef u64 leaf, low = self.first, high
        cdef int status
        self.count = self.given = 0
        cursor.prefix, cursor.ended = low, False
        status = mapping_next_leaf(table.pool, table.t, table.mapping, &cursor, slots, &leaf)
        if status != PMKV_OK:
            table.e.fail(status)
        high = ~<u64>0 if leaf == 0 or cursor.ended else cursor.prefix - 1
        if self.moment is not None and self.moment.at != table.pool.head:
            high = self.add_versions(low, high)
        if leaf:
            self.add_leaf(slots, low, high)
        self.first = high + 1
        self.ended = self.first == 0
        return 0

    cdef int add_leaf(self, const u64* slots, u64 low, u64 high) except -1:
        """Those of the leaf that the moment sees, and whose hash is in the range."""
        cdef Reader table = self.table
        cdef Record r
        cdef u64 place
        cdef int i
        for i in range(LEAF_SLOTS):
            pmkv_prefetch(pmkv_at(&table.pool.m, (slots[(i + 16) % LEAF_SLOTS] & GRANULE_MASK) << GRANULE_SHIFT))
            place = (slots[i] & GRANULE_MASK) << GRANULE_SHIFT
            if place == 0:
                continue
            if record_parse(table.pool, place, &r) != PMKV_OK:
                table.e.fail(PMKV_CORRUPTED)
            if self.moment is not None and record_commit(&r) >= self.moment.at:
                continue
            if low <= mapping_hash(table.pool, r.key, r.key_size) <= high:
                self.add(place)
        return 0

    cdef u64 add_versions(self, u64 low, u64 high) except? 0:
        """The versions in the range that the moment sees; where the range ends, if there are too many."""
        cdef Reader table = self.table
        cdef Version v
        cdef TreeCursor cursor
        cdef u64 last = 0
        cdef int status = versions_seek_hash(table.pool, table.id, low, &cursor)
        memset(&v, 0, sizeof(Version))
        try:
            while status == PMKV_OK:
                status = version_read(table.pool, table.id, True, &cursor, True, &v)
                if status != PMKV_OK or v.hash > high:
                    break
                if self.count >= PORTION and v.hash != last:
                    return last
                if v.born < self.moment.at <= v.died:
                    self.add(v.place)
                    last = v.hash
        finally:
            version_free(&v)
        if status < 0:
            table.e.fail(status)
        return high

    def __next__(self):
        cdef Record r
        self.table.need_reader()
        if self.over:
            raise StopIteration
        if self.table.t != NULL and (self.entries != self.table.entry_word()
                                     or self.rollbacks != self.table.t.rollbacks):
            raise RuntimeError(CHANGED)
        while self.left:
            while self.given == self.count and not self.ended:
                self.next_portion()
            if self.given == self.count:
                break
            self.given += 1
            if record_parse(self.table.pool, self.places[self.given - 1], &r) != PMKV_OK:
                self.table.e.fail(PMKV_CORRUPTED)
            if not self.table.has_expired(&r, self.now):
                self.left -= 1
                return self.table.shown(self.shows, &r)
        self.over = True
        self.moment = None
        self.leave()
        raise StopIteration


cdef object unordered(Reader table, Shows shows, u64 most):
    cdef Unordered u = Unordered.__new__(Unordered)
    u.table, u.shows, u.left = table, shows, most
    u.moment = table.reading_at()
    u.entries = table.entry_word()
    u.rollbacks = table.t.rollbacks if table.t != NULL else 0
    u.now = table.now() if u.moment is None else u.moment.time
    u.enter()
    return u
