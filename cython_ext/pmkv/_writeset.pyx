"""_writeset.pyx (L1): what a transaction has collected: words of live structures, and new data.

May know: places and words, and of those the frontier.  Not what the others mean, nor how they become
durable (_redo.pyx).

A word that is logged is kept in DRAM until the commit; reads of the transaction see it.  New data
goes to its place in free space at once, where nothing points to it.  So does a word of a page that
lies behind the frontier as it was when the transaction began: the page is the transaction's *own*.
That of a large transaction are most, so its memory does not grow with them.

Going back to a mark needs the words as they were.  They are kept from the first mark on, but for
those that came after the newest mark: these are simply taken out of the set again.

Invariants
  W1. Nothing live changes before the commit: an abort forgets the set, and that is all.
  W2. A place stands in the set once, with the word that it is to have; an own one never.
  W3. Of what was built or stored in place, each byte that counts lies in a range, or was flushed
      since it was last written.
  W4. Words leave the set in the reverse order of their coming, so emptying their slots is enough
      to take them out of the table.
Threads: one writer.
"""
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset
from pmkv._core cimport *
from pmkv._pool cimport Pool, corrupted, page_place, unseal
from pmkv._writeset cimport filter_index, is_own, may_be_logged, txn_read

cdef enum:
    TABLE_MIN = 256
    LINEAR = 16
    SPARSE = 16                   # slots of the table for each word, from which on emptying single ones is faster
    KEEP_WORDS = 1 << 14          # a larger write set is given back after the transaction
    STREAM_MIN = 1024             # from this size up a copy past the cache is faster (docs/decisions/0006)
    RANGES_MAX = 2048             # more take more bytes than an entry carries: they are flushed instead
    RANGES_MAX_TRACED = 128       # so that the simulator sees it

cdef u64 WORDS_MAX = <u64>1 << 31            # in one transaction: an index of the table has 32 bits
cdef u64 OF_DATA = <u64>1 << 63              # of a place in `before`
cdef u64 NOTHING = ~<u64>0                   # of own_place


# ---- the transaction's memory ------------------------------------------------------------

cdef int txn_init(Txn* t, Pool* p) noexcept nogil:
    memset(t, 0, sizeof(Txn))
    t.p = p
    t.own_place = NOTHING
    t.word_capacity = TABLE_MIN // 2
    t.table_mask = TABLE_MIN - 1
    t.places = <u64*>malloc(t.word_capacity * 8)
    t.words = <u64*>malloc(t.word_capacity * 8)
    t.table = <uint32_t*>calloc(TABLE_MIN, sizeof(uint32_t))
    if t.places == NULL or t.words == NULL or t.table == NULL:
        txn_free(t)
        return PMKV_NO_MEMORY
    return PMKV_OK


cdef void txn_free(Txn* t) noexcept nogil:
    free(t.places)
    free(t.words)
    free(t.table)
    free(t.ranges)
    free(t.freed)
    free(t.late)
    free(t.counted)
    free(t.marks)
    free(t.before)
    free(t.entry)
    t.places = t.words = t.freed = t.late = t.counted = NULL
    t.table = NULL
    t.ranges = NULL
    t.marks = NULL
    t.before = NULL
    t.entry = NULL


cdef inline void clear_filter(Txn* t) noexcept nogil:
    cdef size_t i
    if t.word_count > LINEAR:
        memset(t.filter, 0, sizeof(t.filter))
        return
    for i in range(t.word_count):
        t.filter[filter_index(t.places[i]) >> 6] = 0


cdef void clear_table(Txn* t) noexcept nogil:
    cdef size_t left
    if not t.table_is_used:
        return
    if t.word_count > t.table_mask // SPARSE:
        memset(t.table, 0, (t.table_mask + 1) * sizeof(uint32_t))
    else:
        for left in range(t.word_count, 0, -1):
            t.table[table_find(t, t.places[left - 1])] = 0       # W4
    t.table_is_used = False


cdef void forget(Txn* t) noexcept nogil:
    """Empties the transaction; memory of an unusually large one is given back."""
    cdef Pool* p = t.p
    cdef u64 serial = t.last_serial, changes = t.changes
    if max(t.word_capacity, t.freed_capacity, t.before_capacity) > <size_t>KEEP_WORDS:
        txn_free(t)
        if txn_init(t, p) != PMKV_OK:
            t.status = PMKV_NO_MEMORY
            return
        t.last_serial, t.changes = serial, changes
    if t.mark_count:
        txn_release_all(t)
    clear_table(t)
    clear_filter(t)
    t.word_count = t.range_count = t.freed_count = t.late_count = t.counted_count = 0
    t.early = ~<u64>0
    t.data_size = t.spill_count = 0
    t.own_place = NOTHING
    t.streamed = False
    t.status = PMKV_OK


cdef void txn_begin(Txn* t) noexcept nogil:
    if t.places == NULL:
        t.status = txn_init(t, t.p)
        if t.status != PMKV_OK:
            return
    forget(t)
    if t.p.failed:
        t.status = PMKV_OS_ERROR
    t.commit = t.p.head


cdef void txn_abort(Txn* t) noexcept nogil:
    """Nothing was logged, and what was built lies in free space: forget it."""
    if t.places != NULL:
        forget(t)


cdef int txn_fail(Txn* t, int status) noexcept nogil:
    if t.status == PMKV_OK:
        t.status = status
    return status


cdef int enlarge_list(Txn* t, void** list, size_t* capacity, size_t item_size) noexcept nogil:
    """Twice the room, or some for the first."""
    cdef size_t wanted = capacity[0] * 2 if capacity[0] else 64
    cdef void* larger = realloc(list[0], wanted * item_size)
    if larger == NULL:
        return txn_fail(t, PMKV_NO_MEMORY)
    list[0] = larger
    capacity[0] = wanted
    return PMKV_OK


cdef int txn_push(Txn* t, u64** list, size_t* count, size_t* capacity, u64 value) noexcept nogil:
    if count[0] == capacity[0] and enlarge_list(t, <void**>list, capacity, 8) != PMKV_OK:
        return t.status
    list[0][count[0]] = value
    count[0] += 1
    return PMKV_OK


# ---- the write set ---------------------------------------------------------------------------

# Up to LINEAR words the set is searched in order, without a table: a single put logs half a dozen.

cdef inline size_t home_of(const Txn* t, u64 place) noexcept nogil:
    return <size_t>((place * PMKV_HASH_K0) >> 32) & t.table_mask


cdef inline size_t table_find(const Txn* t, u64 place) noexcept nogil:
    """The table's slot of the place: where it is, or would go."""
    cdef size_t at = home_of(t, place)
    while t.table[at] and t.places[t.table[at] - 1] != place:
        at = (at + 1) & t.table_mask
    return at


cdef inline size_t find(const Txn* t, u64 place) noexcept nogil:
    """The index of the place in the set, or word_count."""
    cdef size_t at
    if t.word_count <= LINEAR:
        for at in range(t.word_count):
            if t.places[at] == place:
                return at
        return t.word_count
    at = table_find(t, place)
    return t.table[at] - 1 if t.table[at] else t.word_count


cdef int enlarge(Txn* t) noexcept nogil:
    """Twice the room, and a table of twice the size with the same words."""
    cdef size_t capacity = t.word_capacity * 2
    cdef u64* places = <u64*>realloc(t.places, capacity * 8)
    cdef u64* words
    cdef uint32_t* table
    if places != NULL:
        t.places = places
    if places == NULL or capacity > WORDS_MAX:
        return txn_fail(t, PMKV_NO_MEMORY if places == NULL else PMKV_TOO_LARGE)
    words = <u64*>realloc(t.words, capacity * 8)
    if words == NULL:
        return txn_fail(t, PMKV_NO_MEMORY)
    t.words = words
    table = <uint32_t*>calloc(capacity * 2, sizeof(uint32_t))
    if table == NULL:
        return txn_fail(t, PMKV_NO_MEMORY)
    free(t.table)
    t.table = table
    t.table_mask = capacity * 2 - 1
    t.word_capacity = capacity
    fill_table(t)
    return PMKV_OK


cdef void fill_table(Txn* t) noexcept nogil:
    cdef size_t i
    t.table_is_used = True
    for i in range(t.word_count):
        t.table[table_find(t, t.places[i])] = <uint32_t>(i + 1)


cdef bint txn_has_logged(Txn* t, u64 place) noexcept nogil:
    return find(t, place) < t.word_count


cdef u64 txn_read_logged(Txn* t, u64 place) noexcept nogil:
    cdef size_t at = t.word_count if is_own(t, place) else find(t, place)
    return t.words[at] if at < t.word_count else pmkv_load(&t.p.m, place)


cdef void txn_read_line(Txn* t, u64 place, u64* words) noexcept nogil:
    """The eight words of the line at `place`."""
    cdef size_t i
    memcpy(words, pmkv_at(&t.p.m, place), LINE_SIZE)
    if t.word_count > LINEAR:
        for i in range(8):
            if t.table[home_of(t, place + i * 8)]:
                words[i] = txn_read_logged(t, place + i * 8)
        return
    for i in range(t.word_count):
        if t.places[i] - place < LINE_SIZE:
            words[(t.places[i] - place) // 8] = t.words[i]


cdef inline size_t where(const Txn* t, u64 place) noexcept nogil:
    """The same as find(), of a place that most likely was not logged."""
    return find(t, place) if may_be_logged(t, place) else t.word_count


cdef inline int set_word(Txn* t, size_t at, u64 place, u64 word) noexcept nogil:
    """txn_log() of a place whose index in the set is known."""
    t.changes += 1
    if is_own(t, place):
        return store_own(t, place, word)
    if at < t.word_count:
        if at < t.marked_words and keep(t, place, t.words[at]) != PMKV_OK:
            return t.status
        t.words[at] = word
        return PMKV_OK
    if t.word_count == t.word_capacity and enlarge(t) != PMKV_OK:
        return t.status
    if t.word_count == LINEAR:
        fill_table(t)
    if t.word_count >= LINEAR:
        t.table[table_find(t, place)] = <uint32_t>(t.word_count + 1)
    at = filter_index(place)
    t.filter[at >> 6] |= <u64>1 << (at & 63)
    t.places[t.word_count] = place
    t.words[t.word_count] = word
    t.word_count += 1
    return PMKV_OK


cdef int txn_log(Txn* t, u64 place, u64 word) noexcept nogil:
    """The word is to be `word` from the commit on."""
    return set_word(t, where(t, place), place, word) if t.status == PMKV_OK else t.status


cdef int txn_read_sealed(Txn* t, u64 place, u64* payload) noexcept nogil:
    cdef int status = unseal(t.p, place, txn_read(t, place), payload)
    return status if status == PMKV_OK else txn_fail(t, status)


cdef int txn_log_sealed(Txn* t, u64 place, u64 payload) noexcept nogil:
    return txn_log(t, place, pmkv_seal(payload))


cdef int txn_count(Txn* t, u64 place, u64 plus, u64 minus) noexcept nogil:
    """Changes a count; below zero it cannot have been right."""
    cdef u64 value
    cdef size_t at
    cdef int status
    if t.status != PMKV_OK or plus == minus:
        return t.status
    at = where(t, place)
    status = unseal(t.p, place, t.words[at] if at < t.word_count else pmkv_load(&t.p.m, place), &value)
    if status == PMKV_OK and value + plus < minus:
        status = corrupted(t.p, PMKV_CHECK_SEAL, place)
    if status != PMKV_OK:
        return txn_fail(t, status)
    return set_word(t, at, place, pmkv_seal(value + plus - minus))


# ---- new data -----------------------------------------------------------------------------------

cdef void spill(Txn* t) noexcept nogil:
    """Ranges that no entry could carry are flushed now, and need not be remembered; redo_commit fences."""
    cdef size_t i
    for i in range(t.range_count):
        pmkv_flush(&t.p.m, t.ranges[i].place, t.ranges[i].size, PMKV_FLUSH_DATA)
    t.range_count = 0
    t.spill_count += 1
    t.streamed = True


cdef int add_range(Txn* t, u64 place, u64 size) noexcept nogil:
    cdef Range* last
    t.data_size += size
    if t.range_count:
        last = &t.ranges[t.range_count - 1]
        if last.place + last.size == place:
            last.size += size
            return PMKV_OK
    if t.range_count >= <size_t>RANGES_MAX_TRACED and (t.range_count >= <size_t>RANGES_MAX or t.p.m.tracer != NULL):
        spill(t)
    if t.range_count == t.range_capacity and enlarge_list(
            t, <void**>&t.ranges, &t.range_capacity, sizeof(Range)) != PMKV_OK:
        return t.status
    t.ranges[t.range_count].place = place
    t.ranges[t.range_count].size = size
    t.range_count += 1
    return PMKV_OK


cdef int store_own(Txn* t, u64 place, u64 word) noexcept nogil:
    """A word of an own page: nothing that is committed leads there, so it changes at once.

    The range of what it was built in covers it, unless that was flushed already (W3).
    """
    if place < t.marked_place and keep(t, place | OF_DATA, pmkv_load(&t.p.m, place)) != PMKV_OK:
        return t.status
    pmkv_store(&t.p.m, place, word)
    return add_range(t, place & ~(GRANULE_SIZE - 1), GRANULE_SIZE) if t.streamed else PMKV_OK


cdef int txn_data(Txn* t, u64 place, const void* src, u64 size) noexcept nogil:
    """Builds data in free space; place and size are multiples of a granule."""
    if t.status != PMKV_OK:
        return t.status
    pmkv_copy(&t.p.m, place, src, size)
    return add_range(t, place, size)


cdef int txn_data_again(Txn* t, u64 place, const void* src, u64 size) noexcept nogil:
    """The same where this transaction may have built before, and may go back to what it built."""
    cdef u64 at
    if place < t.marked_place:
        for at in range(place, place + size, 8):
            if keep(t, at | OF_DATA, pmkv_load(&t.p.m, at)) != PMKV_OK:
                return t.status
    return txn_data(t, place, src, size)


cdef int txn_stream(Txn* t, u64 place, const void* src, u64 size) noexcept nogil:
    """The same as txn_data for a value that fills pages of its own: any size, copied past the cache."""
    if t.status != PMKV_OK:
        return t.status
    t.streamed = True
    if size >= STREAM_MIN:
        pmkv_stream(&t.p.m, place, src, size, PMKV_FLUSH_DATA)
    else:
        pmkv_copy(&t.p.m, place, src, size)
        pmkv_flush(&t.p.m, place, size, PMKV_FLUSH_DATA)
    return PMKV_OK


# ---- marks ------------------------------------------------------------------------------------

cdef int keep(Txn* t, u64 place, u64 word) noexcept nogil:
    """Remembers what the word was at the newest mark, if that is not remembered already.

    Words that change often, like counts, are found in `kept`; of another there may be several, and the
    oldest counts.
    """
    cdef u64* kept = &t.kept[place * PMKV_HASH_K0 >> 32 & (KEPT - 1)]
    if kept[0] == place:
        return PMKV_OK
    if t.before_count == t.before_capacity and enlarge_list(
            t, <void**>&t.before, &t.before_capacity, sizeof(Before)) != PMKV_OK:
        return t.status
    t.before[t.before_count].place = place
    t.before[t.before_count].word = word
    t.before_count += 1
    kept[0] = place
    return PMKV_OK


cdef void use_newest_mark(Txn* t) noexcept nogil:
    """What is kept from here on is kept for the newest mark."""
    cdef const Mark* m
    if t.mark_count == 0:
        t.marked_words = t.marked_place = t.before_count = 0
        return
    m = &t.marks[t.mark_count - 1]
    t.marked_words, t.marked_place = m.word_count, m.own_place
    memset(t.kept, 0, sizeof(t.kept))


cdef int txn_mark(Txn* t, u64* serial) noexcept nogil:
    """Marks this moment; the status of the transaction, which must be OK."""
    cdef Mark* m
    cdef u64 frontier
    if t.status != PMKV_OK or txn_read_sealed(t, ROOT_FRONTIER, &frontier) != PMKV_OK:
        return t.status
    if t.mark_count == t.mark_capacity and enlarge_list(
            t, <void**>&t.marks, &t.mark_capacity, sizeof(Mark)) != PMKV_OK:
        return t.status
    m = &t.marks[t.mark_count]
    t.last_serial += 1
    m.serial = serial[0] = t.last_serial
    m.own_place = page_place(t.p, frontier)
    m.word_count, m.freed_count, m.before_count = t.word_count, t.freed_count, t.before_count
    m.range_count, m.data_size, m.spill_count = t.range_count, t.data_size, t.spill_count
    m.last_range_size = t.ranges[t.range_count - 1].size if t.range_count else 0
    t.mark_count += 1
    use_newest_mark(t)
    return PMKV_OK


cdef Mark* find_mark(Txn* t, u64 serial) noexcept nogil:
    """The mark, or NULL if it has been released, or one before it released or gone back to."""
    cdef size_t at = t.mark_count
    while at > 0 and t.marks[at - 1].serial > serial:
        at -= 1
    return &t.marks[at - 1] if at > 0 and t.marks[at - 1].serial == serial else NULL


cdef bint txn_has_mark(Txn* t, u64 serial) noexcept nogil:
    return find_mark(t, serial) != NULL


cdef void forget_words(Txn* t, size_t word_count) noexcept nogil:
    """Takes the newest words out of the set (W4).  The filter stays: it may say yes too often."""
    while t.word_count > word_count:
        t.word_count -= 1
        t.table[table_find(t, t.places[t.word_count])] = 0


cdef void restore(Txn* t, const Before* before) noexcept nogil:
    cdef u64 place = before.place & ~OF_DATA
    if not before.place & OF_DATA:
        t.words[find(t, place)] = before.word
        return
    pmkv_store(&t.p.m, place, before.word)
    if t.streamed:                # what was undone may have been flushed (W3)
        pmkv_flush(&t.p.m, place, 8, PMKV_FLUSH_DATA)


cdef int txn_rollback(Txn* t, u64 serial) noexcept nogil:
    """Undoes all that was done since the mark, which stays; also an error.  NOT_FOUND: there is no such mark."""
    cdef Mark* m = find_mark(t, serial)
    if m == NULL:
        return PMKV_NOT_FOUND
    while t.before_count > m.before_count:
        t.before_count -= 1
        restore(t, &t.before[t.before_count])
    forget_words(t, m.word_count)
    t.freed_count, t.late_count = m.freed_count, 0
    if t.spill_count == m.spill_count:
        t.range_count, t.data_size = m.range_count, m.data_size
        if t.range_count:
            t.ranges[t.range_count - 1].size = m.last_range_size
    t.mark_count = m - t.marks + 1
    t.changes += 1
    t.rollbacks += 1
    t.status = PMKV_OS_ERROR if t.p.failed else PMKV_OK
    use_newest_mark(t)
    return t.status


cdef int txn_release(Txn* t, u64 serial) noexcept nogil:
    """Forgets the mark, and those after it; what was done stays.  NOT_FOUND: there is no such mark."""
    cdef Mark* m = find_mark(t, serial)
    if m == NULL:
        return PMKV_NOT_FOUND
    t.mark_count = m - t.marks
    use_newest_mark(t)
    return PMKV_OK


cdef void txn_release_all(Txn* t) noexcept nogil:
    t.mark_count = 0
    use_newest_mark(t)
