"""_pages.pyx (L2): runs of pages: allocate, free, join.

May know: descriptors, and the words of the root that find free runs.  Not what pages hold.

A pool's pages below the *frontier* belong to runs, one after the other; each run begins
with a descriptor that says what it is and how long.  Pages from the frontier on have never
been used and their descriptors are zero.  Free runs lie in 112 bins by length, four to a
doubling, each a doubly linked list through the descriptors; a bitmap says which bins are
not empty.  So finding, freeing and joining look at a handful of descriptors, whatever the
size of the pool.

Invariants
  G1. The descriptor of a page that is neither the first nor the last of a free run, nor
      the first of another run, nor the body of a block, is zero.
  G2. No two free runs touch, and none touches the frontier: freeing joins.
  G3. A descriptor's check covers its line; it is tested whenever a transaction reads the descriptor,
      and changes with every word.
  G4. One free run, p.index_run, is set aside for pages of the index (leaves and nodes): these lie
      together then, so that the translations of their addresses stay in the caches.  Others take of
      it only where the pool cannot grow.  That it is set aside is known in DRAM alone, and may be
      out of date: what the page begins is looked at.
"""
from libc.string cimport memcpy, memset
from pmkv._core cimport *
from pmkv._growth cimport pool_grow
from pmkv._pool cimport Ceiling, Pool, Sweep, corrupted, descriptor_place, page_place
from pmkv._writeset cimport (
    Txn, txn_fail, txn_line, txn_log, txn_log_sealed, txn_own, txn_read_sealed,
)

cdef enum:
    CHECK_WORD = 3
    BINS_PER_BITMAP = 56
    TRIES_IN_OWN_BIN = 8          # a bin holds runs a quarter longer at most: a few tries fit exactly
    ASIDE_MIN = 8                 # pages that are set aside for the index at once: a 16th of what is in use,
    ASIDE_MAX = 512               # but no more than this, of which all translations lie in one page
    SWEEP_STEPS = 256             # runs that a writer looks at under the ceiling before it takes any
    SWEEP_SHARE = 16              # a sweep begins again when so large a part of what it saw was freed


# ---- descriptors ---------------------------------------------------------------------------

cdef uint32_t line_check(const u64* words) noexcept nogil:
    """CRC32C of the eight words, the check taken as zero.  Zero for a zero line."""
    cdef uint32_t crc = 0
    cdef int i
    for i in range(8):
        crc = pmkv_crc_u64(crc, 0 if i == CHECK_WORD else words[i])
    return crc


cdef bint descriptor_is_whole(const Pool* p, u64 page) noexcept nogil:
    cdef const u64* words = <const u64*>pmkv_at(&p.m, descriptor_place(page))
    return pmkv_check(&p.m, PMKV_CHECK_DESCRIPTOR, line_check(words) == words[CHECK_WORD])


cdef const u64* descriptor_line(Txn* t, u64 page, u64* copy) noexcept nogil:
    """Its eight words as this transaction has them, which may be in `copy`; NULL unless it is whole (G3)."""
    cdef const u64* line
    if 0 < page < t.p.file_pages:
        line = txn_line(t, descriptor_place(page), copy)
        if pmkv_check(&t.p.m, PMKV_CHECK_DESCRIPTOR, line_check(line) == line[CHECK_WORD]):
            return line
    txn_fail(t, corrupted(t.p, PMKV_CHECK_DESCRIPTOR, descriptor_place(page)))
    return NULL


cdef int descriptor_change(Txn* t, u64 page, const u64* line, u64* changed) noexcept nogil:
    """The descriptor, which is `line`, is to be `changed`, whose check is computed here."""
    cdef int i
    changed[CHECK_WORD] = line_check(changed)
    for i in range(DESCRIPTOR_WORDS):
        if changed[i] != line[i]:
            txn_log(t, descriptor_place(page) + i * 8, changed[i])
    return t.status


cdef int descriptor_read(Txn* t, u64 page, Head* head) noexcept nogil:
    cdef u64 copy[DESCRIPTOR_WORDS]
    cdef const u64* line = descriptor_line(t, page, copy)
    if line == NULL:
        return t.status
    read_head(line, head)
    return PMKV_OK


cdef int descriptor_log(Txn* t, u64 page, u64 word_index, u64 word) noexcept nogil:
    """Changes a word of the descriptor, and its check with it."""
    cdef u64 copy[DESCRIPTOR_WORDS]
    cdef u64 changed[DESCRIPTOR_WORDS]
    cdef const u64* line = descriptor_line(t, page, copy)
    if line == NULL or line[word_index] == word:
        return t.status
    memcpy(changed, line, sizeof(changed))
    changed[word_index] = word
    return descriptor_change(t, page, line, changed)


cdef int descriptor_clear(Txn* t, u64 page) noexcept nogil:
    """The page's descriptor is zero again (G1)."""
    cdef u64 copy[DESCRIPTOR_WORDS]
    cdef u64 zeros[DESCRIPTOR_WORDS]
    cdef const u64* line = descriptor_line(t, page, copy)
    memset(zeros, 0, sizeof(zeros))
    return descriptor_change(t, page, line, zeros) if line != NULL else t.status


# ---- lists through descriptors -----------------------------------------------------------------

cdef inline u64 links(u64 prev, u64 next) noexcept nogil:
    return prev | next << 32


cdef int list_push(Txn* t, u64 list_place, u64 page) noexcept nogil:
    cdef u64 first
    cdef Head head
    if txn_read_sealed(t, list_place, &first) != PMKV_OK:
        return t.status
    if first:
        if descriptor_read(t, first, &head) != PMKV_OK:
            return t.status
        descriptor_log(t, first, 1, links(page, head.next))
    descriptor_log(t, page, 1, links(0, first))
    return txn_log_sealed(t, list_place, page)


cdef int list_remove(Txn* t, u64 list_place, u64 page) noexcept nogil:
    cdef Head head, other
    if descriptor_read(t, page, &head) != PMKV_OK:
        return t.status
    if head.prev:
        if descriptor_read(t, head.prev, &other) != PMKV_OK:
            return t.status
        descriptor_log(t, head.prev, 1, links(other.prev, head.next))
    else:
        txn_log_sealed(t, list_place, head.next)
    if head.next:
        if descriptor_read(t, head.next, &other) != PMKV_OK:
            return t.status
        descriptor_log(t, head.next, 1, links(head.prev, other.next))
    return descriptor_log(t, page, 1, 0)


# ---- free runs ---------------------------------------------------------------------------------------

cdef int bin_of(u64 count) noexcept nogil:
    """The bin of a run: 1, 2, 3, then four bins to each doubling."""
    cdef int log2
    if count < 4:
        return <int>count - 1
    log2 = 63 - __builtin_clzll(count)
    return min(3 + (log2 - 2) * 4 + <int>(count >> (log2 - 2) & 3), FREE_BINS - 1)


cdef extern from *:
    int __builtin_clzll(unsigned long long) nogil
    int __builtin_ctzll(unsigned long long) nogil


cdef int mark_bin(Txn* t, int bin_index, bint filled) noexcept nogil:
    cdef u64 place = ROOT_BIN_BITMAP + <u64>(bin_index // BINS_PER_BITMAP) * 8
    cdef u64 bits, bit = <u64>1 << bin_index % BINS_PER_BITMAP
    if txn_read_sealed(t, place, &bits) != PMKV_OK:
        return t.status
    if ((bits & bit) != 0) != filled:
        txn_log_sealed(t, place, bits ^ bit)
    return t.status


cdef int change_free_count(Txn* t, u64 plus, u64 minus) noexcept nogil:
    cdef u64 count
    if txn_read_sealed(t, ROOT_FREE_PAGE_COUNT, &count) != PMKV_OK:
        return t.status
    if count + plus < minus:
        return txn_fail(t, corrupted(t.p, PMKV_CHECK_DESCRIPTOR, ROOT_FREE_PAGE_COUNT))
    return txn_log_sealed(t, ROOT_FREE_PAGE_COUNT, count + plus - minus)


cdef int put_free_run(Txn* t, u64 page, u64 count) noexcept nogil:
    cdef int index = bin_of(count)
    descriptor_log(t, page, 0, head_word(PMKV_PAGE_FREE, 0, 0, count))
    if count > 1:
        descriptor_log(t, page + count - 1, 0, head_word(PMKV_PAGE_FREE_TAIL, 0, 0, count - 1))
    list_push(t, ROOT_FREE_BIN + <u64>index * 8, page)
    return mark_bin(t, index, True)


cdef int take_free_run(Txn* t, u64 page, u64 count) noexcept nogil:
    """Removes the run from its bin; its descriptors are zero afterwards."""
    cdef int index = bin_of(count)
    cdef u64 first
    list_remove(t, ROOT_FREE_BIN + <u64>index * 8, page)
    if txn_read_sealed(t, ROOT_FREE_BIN + <u64>index * 8, &first) == PMKV_OK and first == 0:
        mark_bin(t, index, False)
    if count > 1:
        descriptor_clear(t, page + count - 1)
    return descriptor_clear(t, page)


cdef int read_free_run(Txn* t, u64 page, Head* head) noexcept nogil:
    if descriptor_read(t, page, head) != PMKV_OK:
        return t.status
    if head.kind != PMKV_PAGE_FREE or head.page_count == 0 or page + head.page_count > t.p.file_pages:
        return txn_fail(t, corrupted(t.p, PMKV_CHECK_DESCRIPTOR, descriptor_place(page)))
    return PMKV_OK


cdef u64 find_in_bin(Txn* t, int index, u64 count, int tries) noexcept nogil:
    """A run of the bin that is long enough, among its first few, or 0: not the one that is set aside."""
    cdef u64 page
    cdef Head head
    if txn_read_sealed(t, ROOT_FREE_BIN + <u64>index * 8, &page) != PMKV_OK:
        return 0
    while page and tries > 0 and read_free_run(t, page, &head) == PMKV_OK:
        if head.page_count >= count and page != t.p.index_run:
            return page
        page = head.next
        tries -= 1
    return 0


cdef int next_filled_bin(Txn* t, int index) noexcept nogil:
    """The first bin from `index` on that is not empty, or -1."""
    cdef u64 bits
    cdef int at
    while index < FREE_BINS:
        if txn_read_sealed(t, ROOT_BIN_BITMAP + <u64>(index // BINS_PER_BITMAP) * 8, &bits) != PMKV_OK:
            return -1
        at = index % BINS_PER_BITMAP
        bits >>= at
        if bits:
            return index + __builtin_ctzll(bits)
        index += BINS_PER_BITMAP - at
    return -1


cdef u64 find_free_run(Txn* t, u64 count) noexcept nogil:
    cdef int index = bin_of(count)
    cdef u64 page = find_in_bin(t, index, count, TRIES_IN_OWN_BIN)
    while page == 0 and t.status == PMKV_OK:     # once more, where a bin has the run alone that is set aside
        index = next_filled_bin(t, index + 1)
        if index < 0:
            break
        page = find_in_bin(t, index, count, TRIES_IN_OWN_BIN)
    return page


# ---- the lowest free run, while compaction is on -----------------------------------------------------

cdef bint page_is_high(const Pool* p, u64 page) noexcept nogil:
    """Whether what begins at the page is to lie lower."""
    return p.ceiling != NULL and page >= p.ceiling.pages


cdef bint next_run(Txn* t, u64* page, Head* head) noexcept nogil:
    """Goes on from `page` to the head of a run; False at the frontier, or for an error.

    What was the head of a run when the page was remembered may lie inside another one now.
    """
    cdef u64 frontier
    if txn_read_sealed(t, ROOT_FRONTIER, &frontier) != PMKV_OK:
        return False
    page[0] = max(page[0], <u64>1)
    while page[0] < frontier:
        if descriptor_read(t, page[0], head) != PMKV_OK:
            return False
        if head.kind != PMKV_PAGE_FRESH and head.kind != PMKV_PAGE_BODY and head.kind != PMKV_PAGE_FREE_TAIL:
            if head.page_count == 0 or page[0] + head.page_count > frontier:
                txn_fail(t, corrupted(t.p, PMKV_CHECK_DESCRIPTOR, descriptor_place(page[0])))
                return False
            return True
        page[0] += 1
    return False


cdef bint sweep_again(Ceiling* c, Sweep* s, u64 count) noexcept nogil:
    """From the bottom, if enough was freed since the last time: so a page freed costs a few steps, no more."""
    if c.freed - s.freed < max(count, s.seen // SWEEP_SHARE):
        return False
    s.at, s.seen, s.freed = 1, 0, c.freed
    return True


cdef u64 find_below(Txn* t, u64 count, u64 steps) noexcept nogil:
    """A free run of `count` pages below the ceiling, the lowest that its sweep comes to, or 0."""
    cdef Ceiling* c = t.p.ceiling
    cdef Sweep* s = &c.sweep[bin_of(count)]
    cdef Head head
    if s.at == 0:
        s.at = 1
    while steps > 0:
        if s.at + count > c.pages or not next_run(t, &s.at, &head) or s.at + count > c.pages:
            if t.status != PMKV_OK or not sweep_again(c, s, count):
                return 0
            continue
        if head.kind == PMKV_PAGE_FREE and head.page_count >= count:
            return s.at
        s.at += head.page_count
        s.seen += 1
        steps -= 1
    return 0


cdef bint frontier_fits_below(Txn* t, u64 count) noexcept nogil:
    cdef u64 frontier
    return txn_read_sealed(t, ROOT_FRONTIER, &frontier) == PMKV_OK and frontier + count <= t.p.ceiling.pages


cdef bint pages_fit_below(Txn* t, u64 count) noexcept nogil:
    """Whether pages_allocate() would find room for so many below the ceiling."""
    return find_below(t, count, ~<u64>0) != 0 or (t.status == PMKV_OK and frontier_fits_below(t, count))


cdef bint page_fits(Txn* t) noexcept nogil:
    """Whether there is room for one page, wherever, without growing."""
    cdef u64 free_pages, frontier
    return (txn_read_sealed(t, ROOT_FREE_PAGE_COUNT, &free_pages) == PMKV_OK
            and txn_read_sealed(t, ROOT_FRONTIER, &frontier) == PMKV_OK
            and (free_pages > 0 or frontier < t.p.file_pages))


cdef u64 find_run(Txn* t, u64 count, bint of_index) noexcept nogil:
    """A free run of at least `count` pages, or 0: then the frontier is where to take them."""
    cdef u64 page
    if t.p.ceiling != NULL:
        t.p.index_run = 0
        page = find_below(t, count, SWEEP_STEPS)
        if page or t.status != PMKV_OK or frontier_fits_below(t, count):
            return page
    page = run_set_aside(t, count) if of_index else 0
    if page == 0 and t.status == PMKV_OK:
        page = find_free_run(t, count)
    if page == 0 and t.p.index_run and t.status == PMKV_OK and not frontier_can_advance(t, count):
        page = run_set_aside(t, count)
    return page


# ---- what is set aside for the index (G4) --------------------------------------------------------------------

cdef u64 run_set_aside(Txn* t, u64 count) noexcept nogil:
    """That run, if it is there still and long enough, or 0."""
    cdef Head head
    if t.p.index_run == 0 or t.p.index_run >= t.p.file_pages:
        return 0
    if descriptor_read(t, t.p.index_run, &head) != PMKV_OK:
        return 0
    if head.kind != PMKV_PAGE_FREE:
        t.p.index_run = 0
        return 0
    return t.p.index_run if head.page_count >= count else 0


cdef int set_aside(Txn* t, u64 count, u64* page) noexcept nogil:
    """`count` pages from the frontier, and in front of them some more that are free, for those that come next."""
    cdef u64 frontier, aside
    if txn_read_sealed(t, ROOT_FRONTIER, &frontier) != PMKV_OK:
        return t.status
    aside = max(<u64>ASIDE_MIN, min(<u64>ASIDE_MAX, frontier // 16)) - count
    if not frontier_can_advance(t, aside + count):
        return advance_frontier(t, count, page)
    if advance_frontier(t, aside + count, page) != PMKV_OK:
        return t.status
    t.p.index_run = page[0]
    page[0] += aside
    change_free_count(t, aside, 0)
    return put_free_run(t, t.p.index_run, aside)


# ---- the frontier ----------------------------------------------------------------------------------------

cdef bint frontier_can_advance(Txn* t, u64 count) noexcept nogil:
    cdef u64 frontier
    return (txn_read_sealed(t, ROOT_FRONTIER, &frontier) == PMKV_OK
            and pool_grow(t.p, frontier + count) == PMKV_OK)


cdef int advance_frontier(Txn* t, u64 count, u64* page) noexcept nogil:
    cdef u64 claimed
    cdef int status
    if txn_read_sealed(t, ROOT_FRONTIER, page) != PMKV_OK or txn_read_sealed(t, ROOT_PAGE_COUNT, &claimed) != PMKV_OK:
        return t.status
    status = pool_grow(t.p, page[0] + count)
    if status != PMKV_OK:
        return txn_fail(t, status)
    txn_own(t, page_place(t.p, max(page[0], pmkv_load(&t.p.m, ROOT_FRONTIER) & SEAL_MASK)))
    if page[0] + count > claimed:
        txn_log_sealed(t, ROOT_PAGE_COUNT, t.p.file_pages)
    return txn_log_sealed(t, ROOT_FRONTIER, page[0] + count)


cdef int pages_spare(Txn* t, u64 count, u64* page) noexcept nogil:
    """Pages that are free before the commit and after it: the transaction may scribble on them.

    They lie beyond both frontiers: what the transaction frees still holds the state before it.
    """
    cdef u64 frontier
    cdef int status
    if txn_read_sealed(t, ROOT_FRONTIER, &frontier) != PMKV_OK:
        return t.status
    page[0] = max(frontier, pmkv_load(&t.p.m, ROOT_FRONTIER) & SEAL_MASK)
    status = pool_grow(t.p, page[0] + count)
    return status if status == PMKV_OK else txn_fail(t, status)


cdef bint pages_are_free(Txn* t, u64 count) noexcept nogil:
    """Whether so many single pages can be allocated."""
    cdef u64 found, frontier
    if txn_read_sealed(t, ROOT_FREE_PAGE_COUNT, &found) != PMKV_OK or txn_read_sealed(t, ROOT_FRONTIER,
                                                                                      &frontier) != PMKV_OK:
        return False
    return found >= count or pool_grow(t.p, frontier + count) == PMKV_OK


# ---- allocate and free --------------------------------------------------------------------------------------

cdef int take_of_run(Txn* t, u64 run, u64 count, u64* page) noexcept nogil:
    """Its first pages, or the last ones of that which is set aside: so it begins where it did."""
    cdef Head head
    cdef u64 rest
    if read_free_run(t, run, &head) != PMKV_OK or take_free_run(t, run, head.page_count) != PMKV_OK:
        return t.status
    change_free_count(t, 0, count)
    rest = head.page_count - count
    page[0] = run + rest if run == t.p.index_run else run
    if rest:
        put_free_run(t, run if run == t.p.index_run else run + count, rest)
    return t.status


cdef int pages_allocate(Txn* t, u64 count, int kind, u64 block_class, u64* page) noexcept nogil:
    """A run of exactly `count` pages: from the free runs if one fits, else from the frontier."""
    cdef bint of_index = kind == PMKV_PAGE_LEAF or kind == PMKV_PAGE_NODE or kind == PMKV_PAGE_NODES
    cdef u64 run = find_run(t, count, of_index) if t.status == PMKV_OK else 0
    if t.status != PMKV_OK:
        return t.status
    if run:
        take_of_run(t, run, count, page)
    elif of_index and t.p.ceiling == NULL:
        set_aside(t, count, page)
    else:
        advance_frontier(t, count, page)
    if t.status != PMKV_OK:
        return t.status
    return descriptor_log(t, page[0], 0, head_word(kind, block_class, 0, count))


cdef int run_before(Txn* t, u64 page, u64* first) noexcept nogil:
    """The free run that ends right before `page`, or 0."""
    cdef Head head
    first[0] = 0
    if page == 1:
        return PMKV_OK
    if descriptor_read(t, page - 1, &head) != PMKV_OK:
        return t.status
    if head.kind == PMKV_PAGE_FREE and head.page_count == 1:
        first[0] = page - 1
    elif head.kind == PMKV_PAGE_FREE_TAIL and head.page_count < page - 1:
        first[0] = page - 1 - head.page_count
    return PMKV_OK


cdef int pages_free(Txn* t, u64 page, u64 count) noexcept nogil:
    """Frees the run, joining it with its free neighbours or with the frontier (G2).

    Its own descriptors are cleared here.  Called when the transaction allocates no more, so
    that nothing is built where the state before the commit still lies (R2).
    """
    cdef u64 frontier, before
    cdef Head head
    if descriptor_clear(t, page) != PMKV_OK or txn_read_sealed(t, ROOT_FRONTIER, &frontier) != PMKV_OK:
        return t.status
    if page + count > frontier:
        return txn_fail(t, corrupted(t.p, PMKV_CHECK_DESCRIPTOR, descriptor_place(page)))
    change_free_count(t, count, 0)
    if t.p.ceiling != NULL and page < t.p.ceiling.pages:
        t.p.ceiling.freed += count
    if run_before(t, page, &before) != PMKV_OK:
        return t.status
    if before:
        if read_free_run(t, before, &head) != PMKV_OK or take_free_run(t, before, head.page_count) != PMKV_OK:
            return t.status
        page, count = before, count + (page - before)
    if page + count < frontier:
        if descriptor_read(t, page + count, &head) != PMKV_OK:
            return t.status
        if head.kind == PMKV_PAGE_FREE:
            if read_free_run(t, page + count, &head) != PMKV_OK:
                return t.status
            take_free_run(t, page + count, head.page_count)
            count += head.page_count
    if page + count == frontier:
        change_free_count(t, 0, count)
        return txn_log_sealed(t, ROOT_FRONTIER, page)
    return put_free_run(t, page, count)
