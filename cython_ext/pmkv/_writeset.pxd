"""_writeset.pxd (L1): a transaction: the words that it changes, and its new data.

A transaction collects *words* (place, new word) of live structures, and *data* that
nothing points to yet.  Its own reads of live words go through txn_read, which sees
what it has logged.  Nothing live changes before redo_commit.

A *mark* is a moment of the transaction, to which it can be taken back.
"""
from libc.stdint cimport uint32_t
from pmkv._core cimport DESCRIPTOR_SPACE, PMKV_HASH_K0, pmkv_at, pmkv_load, u64
from pmkv._pool cimport Pool

cdef enum:
    FILTER_WORDS = 512           # 32,768 bits: a batch of a thousand puts sets a quarter of them
    FILTER_SHIFT = 64 - 15
    KEPT = 512                   # places that keep() remembers

cdef struct Range:
    u64 place
    u64 size

# A word as it was.
cdef struct Before:
    u64 place                    # bit 63: of data, which changed where it lies
    u64 word

# How much there was at a moment.
cdef struct Mark:
    u64 serial                   # its name, not given to another
    u64 own_place                # what lies behind was free space
    size_t word_count
    size_t freed_count
    size_t before_count
    size_t range_count
    u64 last_range_size
    u64 data_size
    u64 spill_count

cdef struct Txn:
    Pool* p
    u64 commit               # commit number: the ring position of its entry
    int status               # the first error; the transaction can only be aborted, or taken back to a mark
    u64 now                  # keys that expire up to then are not there, microseconds since 1970; 0: all are
    u64 rollbacks            # how often something was undone: places of records may be another's now
    bint expects_new         # the last put added a key: the next one is thought to do so, too
    u64 changes              # grows with every word, and when some are undone: who remembers a place looks again
    u64 own_place            # pages from here on were free when it began, and never used: they are its own
    size_t marked_words      # of the newest mark: word_count and own_place; 0 without one
    u64 marked_place
    # the write set, in the order of first logging
    u64* places
    u64* words
    size_t word_count
    size_t word_capacity
    uint32_t* table          # place -> 1 + index in the set, open addressing; 0: empty
    size_t table_mask
    bint table_is_used       # else all of it is empty
    u64 filter[FILTER_WORDS] # a bit for each line that may have a logged word
    # new data
    Range* ranges
    size_t range_count
    size_t range_capacity
    u64 data_size            # of the ranges
    bint streamed            # and there is data that no entry can carry
    u64 spill_count          # how often the ranges grew too many and were flushed: no entry can carry them
    # what the commit frees; freed only in redo_commit's caller, when all is allocated
    u64* freed
    size_t freed_count
    size_t freed_capacity
    u64* late                # records whose keys are not in the order yet, none from before the newest mark
    size_t late_count
    size_t late_capacity
    u64 late_namespace       # the root of theirs
    u64 early                # so many more new keys go into the order one by one, before others are late
    u64* counted             # roots of namespaces whose number of keys it changes
    size_t counted_count
    size_t counted_capacity
    # what it takes to go back to a mark
    Mark* marks              # the newest last
    size_t mark_count
    size_t mark_capacity
    u64 last_serial
    Before* before
    size_t before_count
    size_t before_capacity
    unsigned char* entry     # where the entry is put together
    size_t entry_capacity
    u64 kept[KEPT]           # places that were kept since the newest mark, of those that share an index the last

cdef int txn_init(Txn* t, Pool* p) noexcept nogil
cdef void txn_free(Txn* t) noexcept nogil
cdef void txn_begin(Txn* t) noexcept nogil
cdef void txn_abort(Txn* t) noexcept nogil
cdef int txn_fail(Txn* t, int status) noexcept nogil
cdef u64 txn_read_logged(Txn* t, u64 place) noexcept nogil
cdef void txn_read_line(Txn* t, u64 place, u64* words) noexcept nogil
cdef bint txn_has_logged(Txn* t, u64 place) noexcept nogil

cdef bint txn_has_mark(Txn* t, u64 serial) noexcept nogil
cdef int txn_mark(Txn* t, u64* serial) noexcept nogil
cdef int txn_rollback(Txn* t, u64 serial) noexcept nogil
cdef int txn_release(Txn* t, u64 serial) noexcept nogil
cdef void txn_release_all(Txn* t) noexcept nogil

cdef inline bint is_own(const Txn* t, u64 place) noexcept nogil:
    return t.own_place <= place < DESCRIPTOR_SPACE

cdef inline void txn_own(Txn* t, u64 place) noexcept nogil:
    """Pages from here on were never used when the transaction began."""
    t.own_place = min(t.own_place, place)

cdef inline u64 filter_index(u64 place) noexcept nogil:
    return (place >> 6) * PMKV_HASH_K0 >> FILTER_SHIFT

cdef inline bint may_be_logged(const Txn* t, u64 place) noexcept nogil:
    cdef u64 at = filter_index(place)
    return t.filter[at >> 6] >> (at & 63) & 1

cdef inline u64 txn_read(Txn* t, u64 place) noexcept nogil:
    """The word as this transaction has it.  Inline: most words were not logged, and the filter says so."""
    return txn_read_logged(t, place) if may_be_logged(t, place) else pmkv_load(&t.p.m, place)

cdef inline const u64* txn_line(Txn* t, u64 place, u64* copy) noexcept nogil:
    """The same of the eight words of a line: where they lie, or in `copy` if some may be logged."""
    if not may_be_logged(t, place):
        return <const u64*>pmkv_at(&t.p.m, place)
    txn_read_line(t, place, copy)
    return copy

cdef inline bint txn_has(Txn* t, u64 place) noexcept nogil:
    return may_be_logged(t, place) and txn_has_logged(t, place)

cdef int txn_log(Txn* t, u64 place, u64 word) noexcept nogil
cdef int txn_read_sealed(Txn* t, u64 place, u64* payload) noexcept nogil
cdef int txn_count(Txn* t, u64 place, u64 plus, u64 minus) noexcept nogil
cdef int txn_log_sealed(Txn* t, u64 place, u64 payload) noexcept nogil
cdef int txn_data(Txn* t, u64 place, const void* src, u64 size) noexcept nogil
cdef int txn_data_again(Txn* t, u64 place, const void* src, u64 size) noexcept nogil
cdef int txn_stream(Txn* t, u64 place, const void* src, u64 size) noexcept nogil
cdef int txn_push(Txn* t, u64** list, size_t* count, size_t* capacity, u64 value) noexcept nogil
