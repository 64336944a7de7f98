"""_space.pyx (L4): when space becomes free.

May know: records, mapping pages, pages.  Not keys.

What a commit makes unreachable is freed by that same commit, so no crash leaks it.  But a record
that a reader of an earlier moment sees becomes a version (_versions.pyx), and one that a view pins
must outlive its commit, too: it goes to *limbo*, a stack of places in the pool, and a later commit
frees it when its pins are gone.  Pins and moments live in DRAM; after a crash there are none, and
commits free what limbo and versions still hold.

    limbo page   | next page | place | place | ...        words, sealed; 511 places

Invariants
  S1. A transaction frees only after it has allocated all it needs (R2).
  S2. A pinned record's bits stay set: it is reached from a mapping, a version or limbo.
Threads: pins change while no writer runs without the interpreter's lock (_engine.pyx sees to
that), so a commit sees the same pins from beginning to end; limbo changes with commits.
"""
from libc.stdlib cimport calloc, free
from libc.string cimport memmove, memset
from pmkv._core cimport *
from pmkv._mapping cimport mapping_free_page
from pmkv._pages cimport Head, descriptor_read, pages_allocate, pages_free, pages_spare
from pmkv._pool cimport Pool, corrupted, descriptor_place, page_place
from pmkv._records cimport Record, record_commit, record_free, record_free_body, record_parse
from pmkv._redo cimport redo_commit, redo_indirect_size
from pmkv._versions cimport (
    is_garbage_due, moments_free, moments_newest, moments_save_counts, version_keep, versions_collect,
)
from pmkv._writeset cimport Txn, txn_abort, txn_begin, txn_data, txn_fail, txn_log_sealed, txn_push, txn_read_sealed

cdef enum:
    LIMBO_PLACES = 511
    DRAIN_SHARE = 16              # a pass over limbo is due when so large a part of it is ripe
    COLLECT = 16                  # versions that each commit has looked at, and two for each record it retires
    COLLECT_FROM = 128            # so many at once, or more,
    COLLECT_MOST = 1024           # but not many more: each of them is a dozen words of a commit

cdef u64 MAPPING_PAGE = <u64>1 << 63   # in the list of freed: a reference; else a record's place,
cdef u64 LIMBO_PAGE = <u64>1 << 62     # or the index of a limbo page
cdef u64 RETIRED = <u64>1 << 61        # with a record's place: it was in a mapping until now,
cdef u64 BY_HASH = <u64>1 << 60        # of a namespace without order
cdef u64 MOVED = <u64>1 << 59          # the record has left it for another place,
cdef u64 BODY_ONLY = <u64>1 << 58      # and taken its extent along
cdef u64 PLACE = ((<u64>1 << 44) - 1)


# ---- pins ------------------------------------------------------------------------------

cdef inline size_t pin_home(const Pins* pins, u64 place) noexcept nogil:
    return <size_t>((place >> GRANULE_SHIFT) * PMKV_HASH_K0 >> 32) & pins.mask


cdef Pin* find_pin(const Pins* pins, u64 place) noexcept nogil:
    """The pin of the place, or the empty entry where it would go."""
    cdef size_t at = pin_home(pins, place)
    while pins.pin[at].place != 0 and pins.pin[at].place != place:
        at = (at + 1) & pins.mask
    return &pins.pin[at]


cdef bint pins_hold(const Pins* pins, u64 place) noexcept nogil:
    return pins.used != 0 and find_pin(pins, place).place != 0


cdef int pins_enlarge(Pins* pins) noexcept nogil:
    cdef size_t capacity = (pins.mask + 1) * 2 if pins.pin != NULL else 64, i, old = pins.mask + 1
    cdef Pin* before = pins.pin
    cdef Pin* larger = <Pin*>calloc(capacity, sizeof(Pin))
    if larger == NULL:
        return PMKV_NO_MEMORY
    pins.pin = larger
    pins.mask = capacity - 1
    if before != NULL:
        for i in range(old):
            if before[i].place:
                find_pin(pins, before[i].place)[0] = before[i]
        free(before)
    return PMKV_OK


cdef int pins_add(Pins* pins, u64 place) noexcept nogil:
    cdef Pin* pin
    if (pins.pin == NULL or pins.used * 2 > pins.mask) and pins_enlarge(pins) != PMKV_OK:
        return PMKV_NO_MEMORY
    pin = find_pin(pins, place)
    if pin.place == 0:
        pin.place = place
        pins.used += 1
    pin.count += 1
    return PMKV_OK


cdef void pins_remove(Pins* pins, Pin* pin) noexcept nogil:
    """Empties an entry and moves later ones of its chain up."""
    cdef size_t hole = pin - pins.pin, at = hole, home
    while True:
        at = (at + 1) & pins.mask
        if pins.pin[at].place == 0:
            break
        home = pin_home(pins, pins.pin[at].place)
        if ((at - home) & pins.mask) >= ((at - hole) & pins.mask):
            pins.pin[hole] = pins.pin[at]
            hole = at
    memset(&pins.pin[hole], 0, sizeof(Pin))
    pins.used -= 1


cdef void pins_drop(Pins* pins, u64 place) noexcept nogil:
    """Undoes one pins_add."""
    cdef Pin* pin = find_pin(pins, place)
    pin.count -= 1
    if pin.count == 0:
        pins.ripe += pin.retired
        pins_remove(pins, pin)
        if pins.used == 0:        # give the memory of a crowd of views back
            free(pins.pin)
            pins.pin = NULL
            pins.mask = 0


cdef void pins_free(Pins* pins) noexcept nogil:
    free(pins.pin)
    moments_free(&pins.moments)
    memset(pins, 0, sizeof(Pins))


# ---- limbo -----------------------------------------------------------------------------------

cdef inline u64 limbo_place(const Pool* p, u64 page, u64 index) noexcept nogil:
    return page_place(p, page) + (1 + index % LIMBO_PLACES) * 8


cdef int limbo_push(Txn* t, u64 place) noexcept nogil:
    cdef u64 words[512]
    cdef u64 head, count, page
    if txn_read_sealed(t, ROOT_LIMBO_COUNT, &count) != PMKV_OK or txn_read_sealed(t, ROOT_LIMBO_HEAD, &head) != PMKV_OK:
        return t.status
    if count % LIMBO_PLACES == 0:
        if pages_allocate(t, 1, PMKV_PAGE_LIMBO, 0, &page) != PMKV_OK:
            return t.status
        memset(words, 0, sizeof(words))
        words[0] = pmkv_seal(head)
        txn_data(t, page_place(t.p, page), words, PAGE_SIZE)
        txn_log_sealed(t, ROOT_LIMBO_HEAD, page)
        head = page
    txn_log_sealed(t, limbo_place(t.p, head, count), place >> GRANULE_SHIFT)
    return txn_log_sealed(t, ROOT_LIMBO_COUNT, count + 1)


cdef int limbo_next(Txn* t, u64* page) noexcept nogil:
    if page[0] == 0 or page[0] >= t.p.file_pages:
        return txn_fail(t, corrupted(t.p, PMKV_CHECK_SEAL, ROOT_LIMBO_HEAD))
    return txn_read_sealed(t, page_place(t.p, page[0]), page)


cdef int limbo_pop(Txn* t, u64* head, u64* count) noexcept nogil:
    """Drops the top entry, and its page with the page's last one."""
    count[0] -= 1
    txn_log_sealed(t, ROOT_LIMBO_COUNT, count[0])
    if count[0] % LIMBO_PLACES == 0:
        txn_push(t, &t.freed, &t.freed_count, &t.freed_capacity, LIMBO_PAGE | head[0])
        limbo_next(t, head)
        txn_log_sealed(t, ROOT_LIMBO_HEAD, head[0])
    return t.status


cdef int limbo_drain(Txn* t, Pins* pins) noexcept nogil:
    """Frees what limbo holds and nothing pins: from the top down, each hole filled by the top."""
    cdef u64 head, count, page, base, index, granule, top
    if txn_read_sealed(t, ROOT_LIMBO_COUNT, &count) != PMKV_OK or txn_read_sealed(t, ROOT_LIMBO_HEAD, &head) != PMKV_OK:
        return t.status
    if count and pins.ripe < count // DRAIN_SHARE and not pins.drain_all:
        return PMKV_OK
    pins.ripe = 0
    if count == 0:
        return PMKV_OK
    page = head
    base = (count - 1) // LIMBO_PLACES * LIMBO_PLACES   # the page's first index
    index = count
    while index > 0 and t.status == PMKV_OK:
        index -= 1
        if index < base:
            limbo_next(t, &page)
            base -= LIMBO_PLACES
        if txn_read_sealed(t, limbo_place(t.p, page, index), &granule) != PMKV_OK:
            return t.status
        if pins.used and find_pin(pins, granule << GRANULE_SHIFT).place:
            continue
        txn_push(t, &t.freed, &t.freed_count, &t.freed_capacity, granule << GRANULE_SHIFT)
        if txn_read_sealed(t, limbo_place(t.p, head, count - 1), &top) != PMKV_OK:
            return t.status
        txn_log_sealed(t, limbo_place(t.p, page, index), top)
        limbo_pop(t, &head, &count)
    return t.status


# ---- retire and commit ---------------------------------------------------------------------------

cdef int space_retire(Txn* t, const Record* r, bint by_hash) noexcept nogil:
    """The record is unreachable from the commit on.  by_hash: its namespace has no order."""
    return txn_push(t, &t.freed, &t.freed_count, &t.freed_capacity,
                    r.place | RETIRED | (BY_HASH if by_hash else 0))


cdef int space_moved(Txn* t, u64 place, bint keeps_extent) noexcept nogil:
    """The record, which nothing pins, lies elsewhere from the commit on: this place is free then."""
    return txn_push(t, &t.freed, &t.freed_count, &t.freed_capacity, place | MOVED | (BODY_ONLY if keeps_extent else 0))


cdef bint is_kept(Txn* t, Pins* pins, u64 what) noexcept nogil:
    """What some reader sees goes to versions, or to limbo: then it is not freed."""
    cdef Record r
    cdef Pin* pin
    if what & (MAPPING_PAGE | LIMBO_PAGE | MOVED):
        return False
    if what & RETIRED and pins.moments.open_count:
        if record_parse(t.p, what & PLACE, &r) != PMKV_OK:
            return False          # freeing it says so
        if record_commit(&r) < moments_newest(&pins.moments):
            version_keep(t, what & PLACE, (what & BY_HASH) != 0)
            return True
    pin = find_pin(pins, what & PLACE) if pins.used else NULL
    if pin == NULL or pin.place == 0:
        return False
    pin.retired = 1
    limbo_push(t, what & PLACE)
    return True


cdef int spare_seen(Txn* t, Pins* pins) noexcept nogil:
    """Takes what readers see out of what is to be freed.

    At the commit, not when it is retired: a transaction may be open for long, and readers come and go.
    """
    cdef size_t i, kept = 0, end = t.freed_count   # trees that grow add to the list
    for i in range(end):
        if t.status != PMKV_OK:
            return t.status
        if not is_kept(t, pins, t.freed[i]):
            t.freed[kept] = t.freed[i]
            kept += 1
    memmove(&t.freed[kept], &t.freed[end], (t.freed_count - end) * 8)
    t.freed_count -= end - kept
    return t.status


cdef int free_limbo_page(Txn* t, u64 page) noexcept nogil:
    cdef Head head
    if descriptor_read(t, page, &head) != PMKV_OK:
        return t.status
    if head.kind != PMKV_PAGE_LIMBO:
        return txn_fail(t, corrupted(t.p, PMKV_CHECK_DESCRIPTOR, descriptor_place(page)))
    return pages_free(t, page, 1)


cdef int free_all(Txn* t) noexcept nogil:
    cdef size_t i
    cdef u64 what
    for i in range(t.freed_count):
        what = t.freed[i]
        if what & MAPPING_PAGE:
            mapping_free_page(t, what)
        elif what & LIMBO_PAGE:
            free_limbo_page(t, what ^ LIMBO_PAGE)
        elif what & BODY_ONLY:
            record_free_body(t, what & PLACE)
        else:
            record_free(t, what & PLACE)
        if t.status != PMKV_OK:
            break
    return t.status


cdef int commit(Txn* t, Pins* pins) noexcept nogil:
    cdef u64 spare_size, spare_page = 0
    if t.freed_count and (pins.used or pins.moments.open_count):
        spare_seen(t, pins)
    if t.status == PMKV_OK and pins.ripe:
        limbo_drain(t, pins)
    if t.status == PMKV_OK and t.counted_count:
        moments_save_counts(&pins.moments, t)
    if t.status == PMKV_OK:
        free_all(t)
    spare_size = redo_indirect_size(t)
    if t.status == PMKV_OK and spare_size:
        pages_spare(t, (spare_size + PAGE_SIZE - 1) // PAGE_SIZE, &spare_page)
    if t.status != PMKV_OK:
        return t.status
    return redo_commit(t, page_place(t.p, spare_page) if spare_size else 0, spare_size)


cdef int finish(Txn* t, Pins* pins) noexcept nogil:
    """Commits, or leaves the pool as it was; the transaction is empty then."""
    cdef u64 ripe = pins.ripe
    cdef int status = commit(t, pins) if t.status == PMKV_OK else t.status
    if status != PMKV_OK:
        pins.ripe = max(pins.ripe, ripe)
    txn_abort(t)                  # after a commit: there is nothing left to forget but memory
    return status


cdef int space_commit(Txn* t, Pins* pins) noexcept nogil:
    """Frees what the transaction retired, and commits, once: whoever calls it without the interpreter's
    lock takes that before the next commit, which may use what this one frees.

    An error leaves the pool as it was before the transaction.
    """
    cdef u64 owed = pins.moments.owed + (COLLECT + 2 * t.freed_count if t.word_count else 0)
    cdef int status = finish(t, pins)
    if status == PMKV_OK:
        pins.moments.owed = owed if is_garbage_due(&pins.moments) else 0
    return status


cdef u64 space_due(Pins* pins) noexcept nogil:
    """How many versions space_collect is to look at now, since enough of them are owed; or 0."""
    cdef u64 due = min(pins.moments.owed, <u64>COLLECT_MOST)
    if due < COLLECT_FROM or not is_garbage_due(&pins.moments):
        return 0
    pins.moments.owed -= due
    return due


cdef int space_collect(Txn* t, Pins* pins, u64 most) noexcept nogil:
    """A commit of its own that takes versions out which nobody sees any more, so that what fails here
    fails no write.  Damaged trees are left alone: check() tells of them.
    """
    cdef u64 resume[2]
    cdef int status
    txn_begin(t)
    if t.status == PMKV_OK:
        versions_collect(t, &pins.moments, most, resume)
    status = finish(t, pins)
    if status == PMKV_CORRUPTED:
        resume[0], resume[1] = pins.moments.garbage_to, 0
    if status == PMKV_OK or status == PMKV_CORRUPTED:
        pins.moments.garbage_from[0], pins.moments.garbage_from[1] = resume[0], resume[1]
    return status
