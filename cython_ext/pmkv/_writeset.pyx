"""_writeset.pyx (L1): what a transaction has collected: words of live structures, and new data.

May know: places and words.  Not what they mean, nor how they become durable (_redo.pyx).

A word that is logged is kept in DRAM until the commit; reads of the transaction see it.  New data
goes to its place in free space at once, where nothing points to it.

Invariants
  W1. Nothing live changes before the commit: an abort forgets the set, and that is all.
  W2. A place stands in the set once, with the word that it is to have.
Threads: one writer.
"""
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memset
from pmkv._core cimport *
from pmkv._pool cimport Pool, unseal
from pmkv._writeset cimport filter_index, may_be_logged, txn_read

cdef enum:
    TABLE_MIN = 256
    LINEAR = 16
    KEEP_WORDS = 1 << 14          # a larger write set is given back after the transaction
    STREAM_MIN = 1024             # from this size up a copy past the cache is faster (docs/decisions/0006)


# ---- the transaction's memory ------------------------------------------------------------

cdef int txn_init(Txn* t, Pool* p) noexcept nogil:
    memset(t, 0, sizeof(Txn))
    t.p = p
    t.generation = 1
    t.word_capacity = TABLE_MIN // 2
    t.table_mask = TABLE_MIN - 1
    t.places = <u64*>malloc(t.word_capacity * 8)
    t.words = <u64*>malloc(t.word_capacity * 8)
    t.table = <u64*>calloc(TABLE_MIN, 8)
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
    free(t.counted)
    free(t.entry)
    t.places = t.words = t.table = t.freed = t.counted = NULL
    t.ranges = NULL
    t.entry = NULL


cdef inline void clear_filter(Txn* t) noexcept nogil:
    cdef size_t i
    if t.word_count > LINEAR:
        memset(t.filter, 0, sizeof(t.filter))
        return
    for i in range(t.word_count):
        t.filter[filter_index(t.places[i]) >> 6] = 0


cdef void forget(Txn* t) noexcept nogil:
    """Empties the transaction; memory of an unusually large one is given back."""
    cdef Pool* p = t.p
    cdef u64 generation = t.generation
    if t.word_capacity > KEEP_WORDS or t.freed_capacity > KEEP_WORDS:
        txn_free(t)
        if txn_init(t, p) != PMKV_OK:
            t.status = PMKV_NO_MEMORY
            return
        t.generation = generation
    t.generation += 1
    if t.generation >> 31:
        memset(t.table, 0, (t.table_mask + 1) * 8)
        t.generation = 1
    clear_filter(t)
    t.word_count = t.range_count = t.freed_count = t.counted_count = 0
    t.data_size = 0
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


cdef int txn_push(Txn* t, u64** list, size_t* count, size_t* capacity, u64 value) noexcept nogil:
    cdef size_t wanted
    cdef u64* larger
    if count[0] == capacity[0]:
        wanted = capacity[0] * 2 if capacity[0] else 64
        larger = <u64*>realloc(list[0], wanted * 8)
        if larger == NULL:
            return txn_fail(t, PMKV_NO_MEMORY)
        list[0] = larger
        capacity[0] = wanted
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
    while t.table[at] >> 32 == t.generation and t.places[<uint32_t>t.table[at]] != place:
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
    return <uint32_t>t.table[at] if t.table[at] >> 32 == t.generation else t.word_count


cdef int enlarge(Txn* t) noexcept nogil:
    """Twice the room, and a table of twice the size with the same words."""
    cdef size_t capacity = t.word_capacity * 2
    cdef u64* places = <u64*>realloc(t.places, capacity * 8)
    cdef u64* words
    cdef u64* table
    if places == NULL:
        return txn_fail(t, PMKV_NO_MEMORY)
    t.places = places
    words = <u64*>realloc(t.words, capacity * 8)
    if words == NULL:
        return txn_fail(t, PMKV_NO_MEMORY)
    t.words = words
    table = <u64*>calloc(capacity * 2, 8)
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
    for i in range(t.word_count):
        t.table[table_find(t, t.places[i])] = t.generation << 32 | i


cdef bint txn_has_logged(Txn* t, u64 place) noexcept nogil:
    return find(t, place) < t.word_count


cdef u64 txn_read_logged(Txn* t, u64 place) noexcept nogil:
    cdef size_t at = find(t, place)
    return t.words[at] if at < t.word_count else pmkv_load(&t.p.m, place)


cdef int txn_log(Txn* t, u64 place, u64 word) noexcept nogil:
    """The word is to be `word` from the commit on."""
    cdef size_t at
    if t.status != PMKV_OK:
        return t.status
    t.changes += 1
    if may_be_logged(t, place):
        at = find(t, place)
        if at < t.word_count:
            t.words[at] = word
            return PMKV_OK
    if t.word_count == t.word_capacity and enlarge(t) != PMKV_OK:
        return t.status
    if t.word_count == LINEAR:
        fill_table(t)
    if t.word_count >= LINEAR:
        t.table[table_find(t, place)] = t.generation << 32 | t.word_count
    at = filter_index(place)
    t.filter[at >> 6] |= <u64>1 << (at & 63)
    t.places[t.word_count] = place
    t.words[t.word_count] = word
    t.word_count += 1
    return PMKV_OK


cdef int txn_read_sealed(Txn* t, u64 place, u64* payload) noexcept nogil:
    cdef int status = unseal(t.p, place, txn_read(t, place), payload)
    return status if status == PMKV_OK else txn_fail(t, status)


cdef int txn_log_sealed(Txn* t, u64 place, u64 payload) noexcept nogil:
    return txn_log(t, place, pmkv_seal(payload))


# ---- new data -----------------------------------------------------------------------------------

cdef int add_range(Txn* t, u64 place, u64 size) noexcept nogil:
    cdef Range* larger
    cdef size_t wanted
    cdef Range* last
    t.data_size += size
    if t.range_count:
        last = &t.ranges[t.range_count - 1]
        if last.place + last.size == place:
            last.size += size
            return PMKV_OK
    if t.range_count == t.range_capacity:
        wanted = t.range_capacity * 2 if t.range_capacity else 16
        larger = <Range*>realloc(t.ranges, wanted * sizeof(Range))
        if larger == NULL:
            return txn_fail(t, PMKV_NO_MEMORY)
        t.ranges = larger
        t.range_capacity = wanted
    t.ranges[t.range_count].place = place
    t.ranges[t.range_count].size = size
    t.range_count += 1
    return PMKV_OK


cdef int txn_data(Txn* t, u64 place, const void* src, u64 size) noexcept nogil:
    """Builds data in free space; place and size are multiples of a granule."""
    if t.status != PMKV_OK:
        return t.status
    pmkv_copy(&t.p.m, place, src, size)
    return add_range(t, place, size)


cdef int txn_stream(Txn* t, u64 place, const void* src, u64 size) noexcept nogil:
    """The same for a value that fills pages of its own: any size, copied past the cache."""
    if t.status != PMKV_OK:
        return t.status
    t.streamed = True
    if size >= STREAM_MIN:
        pmkv_stream(&t.p.m, place, src, size, PMKV_FLUSH_DATA)
    else:
        pmkv_copy(&t.p.m, place, src, size)
        pmkv_flush(&t.p.m, place, size, PMKV_FLUSH_DATA)
    return PMKV_OK
