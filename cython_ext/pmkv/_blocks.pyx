"""_blocks.pyx (L2): blocks of granules: room for records and small nodes.

May know: runs of pages and descriptors.  Not what a record is.

A block is a run of pages divided into 256 units, whose use is the bitmap in its head's
descriptor: one page of 16-byte granules for what is up to 1 KiB, four pages of 64-byte
units for what is up to a page (in a single page, records of 2.1 KiB would waste half).
What lies in one block is of one class, its sizes at most a third apart, so that what is
freed fits what comes.  A class fills its *current* block; a block that has regained a
quarter of its units waits in the class's list of *partial* ones.  All of that is in the
pool, so nothing is rebuilt at open and allocation looks at one descriptor.

Invariants
  B1. A unit's bit is set exactly if a record or node of the committed state covers it.
  B2. A block that is not current and has no unit in use goes back to the free pages.
  B3. `listed` is set exactly if the block is in its class's list.
  B4. While compaction is on, no block that it wants empty is in a list, once it has looked at them all.
"""
from libc.string cimport memcpy
from pmkv._core cimport *
from pmkv._pages cimport (
    DESCRIPTOR_WORDS, Head, descriptor_change, descriptor_clear, descriptor_line, descriptor_log, descriptor_read,
    head_word, list_push, list_remove, page_is_high, pages_allocate, pages_fit_below, pages_free, read_head,
)
from pmkv._pool cimport Pool, corrupted, descriptor_place, page_place, place_page
from pmkv._writeset cimport Txn, txn_fail, txn_line, txn_log_sealed, txn_read_sealed

cdef extern from *:
    """
    static const unsigned short class_units[28] = {
        /* records, granules of 16 bytes */ 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64,
        /* records, units of 64 bytes */ 20, 24, 28, 32, 40, 48, 64,
        /* nodes of 2**3 to 2**8 words */ 4, 8, 16, 32, 64, 128};
    """
    const unsigned short class_units[28]
    int __builtin_ctzll(unsigned long long) nogil
    int __builtin_popcountll(unsigned long long) nogil

cdef enum:
    SMALL_CLASSES = 15            # of one page; then RECORD_CLASSES - 15 of four
    LARGE_UNIT_SHIFT = 6
    LARGE_PAGES = 4
    UNITS = 256
    LIST_AT = 64                  # units free again before a block is worth a list entry
    BITMAP_WORD = 4               # the bitmap's first word in the descriptor


cdef int record_class(u64 size) noexcept nogil:
    """The class of a record of `size` bytes, at most a page."""
    cdef u64 units
    cdef int found
    if size <= 1024:
        units = (size + GRANULE_SIZE - 1) >> GRANULE_SHIFT
        found = 0
    else:
        units = (size + 63) >> LARGE_UNIT_SHIFT
        found = SMALL_CLASSES
    while class_units[found] < units:
        found += 1
    return found


cdef int class_unit_shift(int block_class) noexcept nogil:
    return LARGE_UNIT_SHIFT if SMALL_CLASSES <= block_class < RECORD_CLASSES else GRANULE_SHIFT


cdef u64 class_pages(int block_class) noexcept nogil:
    return LARGE_PAGES if SMALL_CLASSES <= block_class < RECORD_CLASSES else 1


cdef u64 class_capacity(int block_class) noexcept nogil:
    """Units that a block of the class can count on to be filled, whatever the sizes of what comes."""
    if block_class >= RECORD_CLASSES:
        return UNITS              # nodes of one size
    return min(<u64>(UNITS - UNITS // 8), <u64>(UNITS - class_units[block_class]))


cdef inline u64 bitmap_place(u64 page, u64 word) noexcept nogil:
    return descriptor_place(page) + (BITMAP_WORD + word) * 8


# ---- bitmaps -----------------------------------------------------------------------------------

cdef inline int next_set(const u64* bitmap, int at) noexcept nogil:
    """The first set bit of 256 from `at` on, or 256."""
    cdef u64 bits
    while at < UNITS:
        bits = bitmap[at >> 6] >> (at & 63)
        if bits:
            return at + __builtin_ctzll(bits)
        at = (at | 63) + 1
    return UNITS


cdef int find_run(const u64* bitmap, int units, int* end) noexcept nogil:
    """The first run of `units` clear bits or more, and where it ends; or -1."""
    cdef int at = 0
    cdef u64 bits
    while at + units <= UNITS:
        bits = ~bitmap[at >> 6] >> (at & 63)              # clear bits from `at` on, as ones
        if bits == 0:
            at = (at | 63) + 1
            continue
        at += __builtin_ctzll(bits)
        end[0] = next_set(bitmap, at)
        if end[0] - at >= units:
            return at
        at = end[0]
    return -1


cdef inline u64 run_mask(int first, int units, int word) noexcept nogil:
    """The bits of run [first, first + units) that lie in the bitmap's word."""
    cdef int low = max(first - word * 64, 0), high = min(first + units - word * 64, 64)
    if low >= high:
        return 0
    return (~<u64>0 >> (64 - (high - low))) << low


cdef int flip_run(Txn* t, u64 page, const u64* line, int first, int units) noexcept nogil:
    """Changes the run's bits in the bitmap of the block whose descriptor is `line`."""
    cdef u64 changed[DESCRIPTOR_WORDS]
    cdef int word
    memcpy(changed, line, sizeof(changed))
    for word in range(first >> 6, ((first + units - 1) >> 6) + 1):
        changed[BITMAP_WORD + word] ^= run_mask(first, units, word)
    return descriptor_change(t, page, line, changed)


cdef u64 block_used(Txn* t, u64 page) noexcept nogil:
    """Units in use."""
    cdef u64 copy[DESCRIPTOR_WORDS]
    cdef const u64* line = txn_line(t, descriptor_place(page), copy)
    cdef u64 used = 0
    cdef int word
    for word in range(BITMAP_WORD, DESCRIPTOR_WORDS):
        used += __builtin_popcountll(line[word])
    return used


# ---- allocate ----------------------------------------------------------------------------------

cdef int new_block(Txn* t, int block_class, u64* page) noexcept nogil:
    cdef u64 i
    cdef int kind = PMKV_PAGE_RECORDS if block_class < RECORD_CLASSES else PMKV_PAGE_NODES
    if pages_allocate(t, class_pages(block_class), kind, block_class, page) != PMKV_OK:
        return t.status
    for i in range(1, class_pages(block_class)):
        descriptor_log(t, page[0] + i, 0, head_word(PMKV_PAGE_BODY, 0, 0, i))
    return t.status


cdef const u64* block_line(Txn* t, u64 page, int block_class, Head* head, u64* copy) noexcept nogil:
    """The descriptor of a block of the class; NULL, and the transaction has failed, if it is not."""
    cdef const u64* line = descriptor_line(t, page, copy)
    if line == NULL:
        return NULL
    read_head(line, head)
    if head.block_class == block_class and (head.kind == PMKV_PAGE_RECORDS or head.kind == PMKV_PAGE_NODES):
        return line
    txn_fail(t, corrupted(t.p, PMKV_CHECK_DESCRIPTOR, descriptor_place(page)))
    return NULL


cdef int read_block(Txn* t, u64 page, int block_class, Head* head) noexcept nogil:
    cdef u64 copy[DESCRIPTOR_WORDS]
    block_line(t, page, block_class, head, copy)
    return t.status


cdef int next_block(Txn* t, int block_class, u64* page) noexcept nogil:
    """Makes another block the current one: a partial one, else a new one."""
    cdef u64 list_place = ROOT_BLOCK_PARTIAL + <u64>block_class * 8
    cdef Head head
    if txn_read_sealed(t, list_place, page) != PMKV_OK:
        return t.status
    if page[0]:
        if read_block(t, page[0], block_class, &head) != PMKV_OK or list_remove(t, list_place, page[0]) != PMKV_OK:
            return t.status
        descriptor_log(t, page[0], 0, head_word(head.kind, block_class, 0, head.page_count))
    elif new_block(t, block_class, page) != PMKV_OK:
        return t.status
    return txn_log_sealed(t, ROOT_BLOCK_CURRENT + <u64>block_class * 8, page[0])


cdef int block_allocate(Txn* t, int block_class, u64 size, u64* place) noexcept nogil:
    """Units for `size` bytes, in a block of the class."""
    return allocate(t, block_class, size, False, place)


cdef int block_allocate_below(Txn* t, int block_class, u64 size, u64* place) noexcept nogil:
    """The same in a block below the ceiling; NOT_FOUND, and nothing allocated, if there is no room."""
    return allocate(t, block_class, size, True, place)


cdef bint fits_below(Txn* t, int block_class) noexcept nogil:
    """Whether another block of the class would be one below the ceiling."""
    cdef u64 first
    if txn_read_sealed(t, ROOT_BLOCK_PARTIAL + <u64>block_class * 8, &first) != PMKV_OK:
        return False
    return not page_is_high(t.p, first) if first else pages_fit_below(t, class_pages(block_class))


cdef inline int units_for(u64 size, int shift) noexcept nogil:
    return <int>((size + (<u64>1 << shift) - 1) >> shift)


cdef u64 block_allocate_some(Txn* t, int block_class, const u64* sizes, u64 count, u64* places) noexcept nogil:
    """Units for the first of so many that lie side by side in one block, with one change of its bitmap.

    How many these are: one at least, or 0 for an error.
    """
    cdef int shift = class_unit_shift(block_class), at, end, first
    cdef u64 copy[DESCRIPTOR_WORDS]
    cdef const u64* line
    cdef u64 page, done = 0
    cdef Head head
    if t.status != PMKV_OK or txn_read_sealed(t, ROOT_BLOCK_CURRENT + <u64>block_class * 8, &page) != PMKV_OK:
        return 0
    if page:
        line = block_line(t, page, block_class, &head, copy)
        if line == NULL:
            return 0
        first = at = find_run(line + BITMAP_WORD, units_for(sizes[0], shift), &end)
        while at >= 0 and done < count and at + units_for(sizes[done], shift) <= end:
            places[done] = page_place(t.p, page) + (<u64>at << shift)
            at += units_for(sizes[done], shift)
            done += 1
        if done:
            return done if flip_run(t, page, line, first, at - first) == PMKV_OK else 0
    return 1 if block_allocate(t, block_class, sizes[0], places) == PMKV_OK else 0


cdef int allocate(Txn* t, int block_class, u64 size, bint below, u64* place) noexcept nogil:
    cdef int shift = class_unit_shift(block_class)
    cdef int units = units_for(size, shift), at, end
    cdef u64 copy[DESCRIPTOR_WORDS]
    cdef const u64* line
    cdef u64 page
    cdef Head head
    if t.status != PMKV_OK or txn_read_sealed(t, ROOT_BLOCK_CURRENT + <u64>block_class * 8, &page) != PMKV_OK:
        return t.status
    while True:
        if page and not (below and page_is_high(t.p, page)):
            line = block_line(t, page, block_class, &head, copy)
            if line == NULL:
                return t.status
            at = find_run(line + BITMAP_WORD, units, &end)
            if at >= 0:
                place[0] = page_place(t.p, page) + (<u64>at << shift)
                return flip_run(t, page, line, at, units)
        if below and not fits_below(t, block_class):
            return PMKV_NOT_FOUND if t.status == PMKV_OK else t.status
        if below and page and leave_empty(t, page, block_class) != PMKV_OK:
            return t.status
        if next_block(t, block_class, &page) != PMKV_OK:
            return t.status


# ---- emptied by compaction --------------------------------------------------------------------

cdef inline bint is_wanted_empty(const Pool* p, u64 page, int block_class) noexcept nogil:
    return p.ceiling != NULL and page >= p.ceiling.blocks[block_class]


cdef bint block_must_move(Txn* t, u64 place) noexcept nogil:
    """Whether what lies there is to lie elsewhere; False also for an error, which fails the transaction."""
    cdef u64 page, current
    cdef Head head
    if find_block(t, place, &page, &head) != PMKV_OK:
        return False
    if page_is_high(t.p, page):
        return True
    if not is_wanted_empty(t.p, page, head.block_class) or UNITS - block_used(t, page) < LIST_AT:
        return False
    return txn_read_sealed(t, ROOT_BLOCK_CURRENT + <u64>head.block_class * 8, &current) == PMKV_OK and page != current


cdef int leave_empty(Txn* t, u64 page, int block_class) noexcept nogil:
    """The current block gives way to another: if nothing is in it, it is free (B2).

    Now, though the transaction may allocate more: what is built there destroys nothing (R2).
    """
    cdef Head head
    if read_block(t, page, block_class, &head) != PMKV_OK or block_used(t, page):
        return t.status
    return free_block(t, page, &head)


cdef int block_list_anew(Txn* t, u64 page, const Head* head) noexcept nogil:
    """Puts the block into its class's list, or takes it out, as compaction has it (B3, B4)."""
    cdef u64 list_place = ROOT_BLOCK_PARTIAL + <u64>head.block_class * 8
    cdef u64 current_place = ROOT_BLOCK_CURRENT + <u64>head.block_class * 8
    cdef u64 current, used = block_used(t, page)
    cdef bint unwanted = is_wanted_empty(t.p, page, head.block_class)
    if txn_read_sealed(t, current_place, &current) != PMKV_OK:
        return t.status
    if page == current:
        if unwanted:
            txn_log_sealed(t, current_place, 0)
        return free_block(t, page, head) if unwanted and used == 0 else t.status
    if head.listed and unwanted:
        list_remove(t, list_place, page)
        descriptor_log(t, page, 0, head_word(head.kind, head.block_class, 0, head.page_count))
    elif not head.listed and not unwanted and UNITS - used >= LIST_AT:
        descriptor_log(t, page, 0, head_word(head.kind, head.block_class, 1, head.page_count))
        list_push(t, list_place, page)
    return t.status


# ---- free --------------------------------------------------------------------------------------

cdef int find_block(Txn* t, u64 place, u64* page, Head* head) noexcept nogil:
    page[0] = place_page(t.p, place)
    if descriptor_read(t, page[0], head) != PMKV_OK:
        return t.status
    if head.kind == PMKV_PAGE_BODY and head.page_count < page[0]:
        page[0] -= head.page_count
        if descriptor_read(t, page[0], head) != PMKV_OK:
            return t.status
    if ((head.kind != PMKV_PAGE_RECORDS and head.kind != PMKV_PAGE_NODES) or head.block_class > NODE_CLASS + 8
            or head.page_count != class_pages(head.block_class)):
        return txn_fail(t, corrupted(t.p, PMKV_CHECK_DESCRIPTOR, descriptor_place(page[0])))
    return PMKV_OK


cdef int free_block(Txn* t, u64 page, const Head* head) noexcept nogil:
    cdef u64 i
    if head.listed:
        list_remove(t, ROOT_BLOCK_PARTIAL + <u64>head.block_class * 8, page)
    for i in range(1, head.page_count):
        descriptor_clear(t, page + i)
    return pages_free(t, page, head.page_count)


cdef int block_free(Txn* t, u64 place, u64 size) noexcept nogil:
    """Gives the units back; called when the transaction allocates no more."""
    cdef Head head
    cdef u64 copy[DESCRIPTOR_WORDS]
    cdef const u64* line
    cdef u64 page, current, mask, used = 0
    cdef int shift, first, units, word
    if t.status != PMKV_OK or find_block(t, place, &page, &head) != PMKV_OK:
        return t.status
    shift = class_unit_shift(head.block_class)
    first = <int>((place - page_place(t.p, page)) >> shift)
    units = units_for(size, shift)
    line = txn_line(t, descriptor_place(page), copy)
    for word in range(4):
        mask = run_mask(first, units, word)
        if line[BITMAP_WORD + word] & mask != mask or first + units > UNITS:   # freed twice, or never allocated
            return txn_fail(t, corrupted(t.p, PMKV_CHECK_DESCRIPTOR, bitmap_place(page, word)))
        used += __builtin_popcountll(line[BITMAP_WORD + word] & ~mask)
    flip_run(t, page, line, first, units)
    if txn_read_sealed(t, ROOT_BLOCK_CURRENT + <u64>head.block_class * 8, &current) != PMKV_OK:
        return t.status
    if page == current:
        return PMKV_OK
    if used == 0:
        return free_block(t, page, &head)
    if not head.listed and UNITS - used >= LIST_AT and not is_wanted_empty(t.p, page, head.block_class):
        descriptor_log(t, page, 0, head_word(head.kind, head.block_class, 1, head.page_count))
        list_push(t, ROOT_BLOCK_PARTIAL + <u64>head.block_class * 8, page)
    return t.status
