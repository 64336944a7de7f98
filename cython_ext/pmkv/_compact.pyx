"""_compact.pyx (L5): compaction: live data moves down, what is above is free, and the file is cut off there.

May know: namespaces, and everything that lies in a pool.  Not threads: whoever drives it takes one
slice after the other, each a commit, and lets others in between.

A pass looks at all descriptors, and decides how many pages the pool would need if it were packed: its
*ceiling* (Ceiling, _pool.pxd).  Each class of blocks has a lower one: below it are as many blocks as
take all that lies in blocks of the class.  While the ceiling is on, the allocators take what is below,
and blocks above are not filled again.  Then the pass walks over everything that is reached, and
moves what lies too high.  What did not fit, since there was no room yet in one piece, is for the next
pass.  After each the file is cut off behind the last page in use.

Invariants
  Q1. What moves is published, and its old place freed, by one commit: a crash is before or after.
  Q2. A record that is pinned does not move, nor a version, nor one that an iterator has noted down.  A
      record that moves keeps every byte, but for the place of its extent, and the checksum of that.
  Q3. A slice relies on no place of an earlier one: it finds its way from numbers that mean something
      whatever was committed meanwhile (a hash, a rank, a page index, a slot of the catalogue).  If they
      mean another thing by then, something is passed over, and the next pass finds it.
  Q4. The file is cut only when the root says so and the log is empty.
"""
from libc.string cimport memset
from pmkv._blocks cimport (
    NODE_CLASS, block_allocate, block_list_anew, block_must_move, block_used, class_capacity, class_pages,
)
from pmkv._catalogue cimport is_id_name, namespace_in
from pmkv._core cimport *
from pmkv._expiry cimport expiry_add, expiry_forget, expiry_of
from pmkv._growth cimport pool_least_pages, pool_shrink
from pmkv._mapmove cimport mapping_tidy
from pmkv._mapping cimport LEAF_SLOTS, Cursor, mapping_next_leaf, place_of
from pmkv._pages cimport Head, next_run
from pmkv._pool cimport Ceiling, Pool
from pmkv._records cimport Record, Tally, record_move, record_namespace, record_parse, record_redirect
from pmkv._redo cimport redo_checkpoint
from pmkv._space cimport Pins, pins_hold, space_moved
from pmkv._treemove cimport keytree_tidy
from pmkv._writeset cimport Txn, txn_data, txn_fail, txn_log, txn_log_sealed, txn_push, txn_read, txn_read_sealed

cdef enum:
    PASSES = 8
    KEYS_A_LEAF = 256             # of leaves that were joined, on average at least
    SPARE_SHARE = 16              # the ceiling leaves so large a part free,
    SPARE_PAGES = 32              # and so many pages,
    SPARE_TRACED_PAGES = 2        # (a simulated pool is small)
    STUCK_SHARE = 8               # and so much more for each pass before that did not get on
    WORTH_SHARE = 32              # a pass that would give back less is not worth its while
    WORDS_TO_FREE = 6             # logged at the commit for what the slice retires
    SLICE_BYTES = 4 << 20
    SLICE_PAGES = 1 << 15
    SLICE_LEAVES = 32
    SLICE_NODES = 512
    ROOT_SIZE = sizeof(pmkv_namespace_root)
    ROOT_BITS = 3
    ROOT_WORDS = 8

cdef enum Which:
    DEFAULT, CATALOGUE, NAMED


# ---- slices ----------------------------------------------------------------------------------

cdef bint has_room(Txn* t, const Compaction* c, u64 steps) noexcept nogil:
    """Whether the slice may go on: its entry shall fit the ring, and others shall not wait for long."""
    cdef u64 words = t.word_count + t.freed_count * WORDS_TO_FREE
    return (t.status == PMKV_OK and c.steps < steps and c.bytes < SLICE_BYTES
            and words * 16 < t.p.ring_size // 8)


cdef void begin_phase(Compaction* c, CompactionPhase phase) noexcept nogil:
    c.phase = phase
    c.page = 1
    c.which = DEFAULT
    c.names.prefix, c.names.ended, c.name_slot = 0, False, 0
    begin_namespace(c, 0)


cdef void begin_namespace(Compaction* c, u64 id) noexcept nogil:
    c.id = id
    c.cursor.prefix, c.cursor.ended, c.slot = 0, False, 0
    c.rank = 0


# ---- what the pool holds, and how much lower it could lie ---------------------------------------

cdef inline bint is_block(const Head* head) noexcept nogil:
    return head.kind == PMKV_PAGE_RECORDS or head.kind == PMKV_PAGE_NODES


cdef void begin_measuring(Compaction* c) noexcept nogil:
    memset(c.used, 0, sizeof(c.used))
    memset(c.room, 0, sizeof(c.room))
    c.leaves = c.others = 0
    begin_phase(c, COMPACTION_MEASURE)


cdef int measure(Txn* t, Compaction* c) noexcept nogil:
    """Adds up what is in use."""
    cdef Head head
    while has_room(t, c, SLICE_PAGES):
        if not next_run(t, &c.page, &head):
            return t.status if t.status != PMKV_OK else choose_ceiling(t, c)
        if is_block(&head):
            c.used[head.block_class] += block_used(t, c.page)
        elif head.kind == PMKV_PAGE_LEAF:
            c.leaves += 1
        elif head.kind != PMKV_PAGE_FREE:
            c.others += head.page_count
        c.page += head.page_count
        c.steps += 1
    return t.status


cdef u64 pages_needed(const Compaction* c) noexcept nogil:
    """How many pages it would be, packed."""
    cdef u64 total = c.others + min(c.leaves, c.entries // KEYS_A_LEAF + c.namespaces)
    cdef int i
    for i in range(NODE_CLASS + 9):
        total += (c.used[i] + class_capacity(i) - 1) // class_capacity(i) * class_pages(i)
    return total


cdef int choose_ceiling(Txn* t, Compaction* c) noexcept nogil:
    cdef u64 frontier, needed = pages_needed(c)
    if txn_read_sealed(t, ROOT_FRONTIER, &frontier) != PMKV_OK:
        return t.status
    c.ceiling.pages = needed + needed // SPARE_SHARE + (SPARE_PAGES if t.p.m.tracer == NULL else SPARE_TRACED_PAGES)
    c.raised += c.tally.stuck > c.tally.moved
    c.ceiling.pages += needed * c.raised // STUCK_SHARE
    if (c.ceiling.pages + frontier // WORTH_SHARE >= frontier or c.passes == PASSES
            or (c.passes and c.tally.moved == 0 and c.tally.stuck == 0)):
        begin_phase(c, COMPACTION_RELIST)
        return PMKV_OK
    c.tally.moved = c.tally.stuck = 0
    memset(c.ceiling.blocks, 0, sizeof(c.ceiling.blocks))
    begin_phase(c, COMPACTION_CHOOSE)
    return PMKV_OK


cdef int choose_blocks(Txn* t, Compaction* c) noexcept nogil:
    """Lets as many blocks of each class be below its ceiling as take what it holds."""
    cdef Head head
    cdef int i
    while has_room(t, c, SLICE_PAGES):
        if not next_run(t, &c.page, &head) or c.page >= c.ceiling.pages:
            break
        i = head.block_class
        if is_block(&head) and c.room[i] < c.used[i]:
            c.room[i] += max(block_used(t, c.page), class_capacity(i))
            c.ceiling.blocks[i] = c.page + head.page_count
        c.page += head.page_count
        c.steps += 1
    else:
        return t.status
    for i in range(BLOCK_CLASSES):
        if c.room[i] < c.used[i] or c.ceiling.blocks[i] > c.ceiling.pages:
            c.ceiling.blocks[i] = c.ceiling.pages
    if t.status == PMKV_OK:
        put_ceiling(t.p, c)
        begin_phase(c, COMPACTION_LIST)
    return t.status


cdef void put_ceiling(Pool* p, Compaction* c) noexcept nogil:
    memset(c.ceiling.sweep, 0, sizeof(c.ceiling.sweep))
    c.ceiling.freed = 0
    p.ceiling = &c.ceiling


cdef int list_blocks(Txn* t, Compaction* c, CompactionPhase following) noexcept nogil:
    """The lists of blocks with room have those that are to be filled, and no others."""
    cdef Head head
    while has_room(t, c, SLICE_PAGES):
        if not next_run(t, &c.page, &head):
            if t.status == PMKV_OK:
                begin_phase(c, following)
            break
        c.page += head.page_count
        c.steps += 1
        if is_block(&head) and block_list_anew(t, c.page - head.page_count, &head) != PMKV_OK:
            break
    return t.status


# ---- which namespaces ------------------------------------------------------------------------------

cdef int named_namespace(Txn* t, Compaction* c, u64* namespace) noexcept nogil:
    """The one that the catalogue's slot under way leads to, or the next there is; 0 at the end."""
    cdef Cursor behind
    cdef Record r
    cdef u64 slots[LEAF_SLOTS]
    cdef u64 leaf = 1, id
    cdef int status
    namespace[0] = 0
    while leaf:
        behind = c.names
        status = mapping_next_leaf(t.p, t, ROOT_CATALOGUE + NAMESPACE_MAPPING, &behind, slots, &leaf)
        if status != PMKV_OK:
            return txn_fail(t, status)
        while leaf and c.name_slot < LEAF_SLOTS and not slots[c.name_slot] & GRANULE_MASK:
            c.name_slot += 1
        if leaf and c.name_slot < LEAF_SLOTS:
            status = record_parse(t.p, place_of(slots[c.name_slot]), &r)
            if status == PMKV_OK and is_id_name(r.key, r.key_size):
                c.name_slot += 1               # the same one once more
                continue
            if status == PMKV_OK:
                status = namespace_in(t.p, &r, namespace)
            if status != PMKV_OK:
                return txn_fail(t, status)
            if txn_read_sealed(t, namespace[0] + NAMESPACE_ID, &id) == PMKV_OK and id != c.id:
                begin_namespace(c, id)     # another one than a slice ago (Q3)
            return t.status
        c.names, c.name_slot = behind, 0
    return PMKV_OK


cdef int this_namespace(Txn* t, Compaction* c, u64* namespace) noexcept nogil:
    """The namespace under way; 0 when there are no more."""
    namespace[0] = 0
    if c.which == DEFAULT:
        namespace[0] = ROOT_DEFAULT_NAMESPACE
    elif c.which == CATALOGUE:
        namespace[0] = ROOT_CATALOGUE
    elif c.which == NAMED:
        return named_namespace(t, c, namespace)
    return PMKV_OK


cdef void next_namespace(Compaction* c) noexcept nogil:
    if c.which == NAMED:
        c.name_slot += 1
    else:
        c.which += 1
    begin_namespace(c, 0)


cdef int each_namespace(Txn* t, Compaction* c, int (*work)(Txn*, Compaction*, u64) noexcept nogil, u64 steps,
                        CompactionPhase following) noexcept nogil:
    """Does the work of a phase to as many namespaces as the slice has room for.  work() says with
    NOT_FOUND that it has come to the end of one."""
    cdef u64 namespace
    while has_room(t, c, steps):
        if this_namespace(t, c, &namespace) != PMKV_OK:
            break
        if namespace == 0:
            begin_phase(c, following)
            break
        c.steps += 1
        if work(t, c, namespace) == PMKV_NOT_FOUND:
            next_namespace(c)
    return t.status


cdef int count_entries(Txn* t, Compaction* c, u64 namespace) noexcept nogil:
    cdef u64 entries
    if txn_read_sealed(t, namespace + NAMESPACE_ENTRY_COUNT, &entries) != PMKV_OK:
        return t.status
    c.entries += entries
    c.namespaces += 1
    return PMKV_NOT_FOUND


# ---- records ------------------------------------------------------------------------------------------

cdef int record_moved(Txn* t, const Record* r, u64 place, bint keeps_extent) noexcept nogil:
    """A record that lay at r.place lies at `place` from the commit on, and the mapping knows it.

    The one thing left to do for whatever else leads to a record by its place: the tree of expiry.
    """
    cdef u64 time
    cdef int status = expiry_of(t.p, t, r, &time)
    if status != PMKV_OK:
        return txn_fail(t, status)
    if time:
        expiry_forget(t, r)
        expiry_add(t, time, record_namespace(r), place)
    return space_moved(t, r.place, keeps_extent)


cdef int move_slot(Txn* t, Compaction* c, u64 slot_place, u64 word) noexcept nogil:
    """Moves the record of a slot, if it lies too high, and nothing pins it (Q2)."""
    cdef Record r
    cdef u64 place = 0
    cdef bint keeps_extent = False
    cdef int status = record_parse(t.p, place_of(word), &r)
    if status != PMKV_OK:
        return txn_fail(t, status)
    if pins_hold(c.pins, r.place):
        return PMKV_OK
    status = record_move(t, &r, &place, &keeps_extent)
    c.tally.stuck += status == PMKV_NOT_FOUND
    if status != PMKV_OK:
        return t.status
    c.tally.moved += 1
    c.bytes += r.body_size + (0 if keeps_extent else r.value_size)
    txn_log(t, slot_place, pmkv_seal(place >> GRANULE_SHIFT | (word & SEAL_MASK & ~GRANULE_MASK)))
    return record_moved(t, &r, place, keeps_extent)


cdef void prefetch_records(const Pool* p, const u64* slots) noexcept nogil:
    cdef int i
    for i in range(LEAF_SLOTS):
        if slots[i] & GRANULE_MASK:
            pmkv_prefetch(pmkv_at(&p.m, place_of(slots[i])))


cdef int move_records(Txn* t, Compaction* c, u64 namespace) noexcept nogil:
    """Those of the leaf under way, as far as there is room."""
    cdef u64 slots[LEAF_SLOTS]
    cdef u64 leaf
    cdef Cursor behind = c.cursor
    cdef int status
    if c.walked and txn_read(t, namespace + NAMESPACE_OPTIONS) & PMKV_OPTION_UNORDERED:
        return PMKV_NOT_FOUND
    status = mapping_next_leaf(t.p, t, namespace + NAMESPACE_MAPPING, &behind, slots, &leaf)
    if status != PMKV_OK:
        return txn_fail(t, status)
    if leaf == 0:
        return PMKV_NOT_FOUND
    prefetch_records(t.p, slots)
    while c.slot < LEAF_SLOTS:
        if not has_room(t, c, ~<u64>0):
            return t.status
        if slots[c.slot] & GRANULE_MASK:
            move_slot(t, c, leaf + c.slot * 8, slots[c.slot])
        c.slot += 1
    c.cursor, c.slot = behind, 0
    return t.status


# ---- trees, leaves, roots ---------------------------------------------------------------------------

cdef int move_tree(Txn* t, Compaction* c, u64 namespace) noexcept nogil:
    return move_tree_at(t, c, namespace + NAMESPACE_KEYTREE)


cdef int move_tree_at(Txn* t, Compaction* c, u64 root_place) noexcept nogil:
    """A leaf of a tree, and the nodes above it."""
    cdef bint ended = False
    keytree_tidy(t, root_place, &c.rank, &ended, &c.tally)
    return PMKV_NOT_FOUND if ended else t.status


cdef int move_own_trees(Txn* t, Compaction* c) noexcept nogil:
    """Those of the pool as a whole, one after the other: c.slot says which."""
    cdef u64 roots[3]
    roots[0], roots[1], roots[2] = ROOT_VERSIONS, ROOT_DEATHS, ROOT_EXPIRY
    while has_room(t, c, SLICE_NODES) and c.slot < 3:
        c.steps += 1
        if move_tree_at(t, c, roots[c.slot]) == PMKV_NOT_FOUND:
            c.slot, c.rank = c.slot + 1, 0
    if c.slot == 3:
        begin_phase(c, COMPACTION_LEAVES)
    return t.status


cdef int tidy_leaf(Txn* t, Compaction* c, u64 namespace) noexcept nogil:
    if c.cursor.ended:
        return PMKV_NOT_FOUND
    return mapping_tidy(t, namespace + NAMESPACE_MAPPING, &c.cursor, &c.tally)


cdef int move_root(Txn* t, Compaction* c, u64 namespace) noexcept nogil:
    """A copy of a namespace's root; the names that lead to it are next."""
    cdef u64 words[ROOT_WORDS]
    cdef MovedRoot* moved = &c.roots[c.root_count]
    cdef u64 reference = pmkv_seal(namespace >> GRANULE_SHIFT | <u64>ROOT_BITS << REFERENCE_BITS_SHIFT)
    cdef int i
    if block_allocate(t, NODE_CLASS + ROOT_BITS, ROOT_SIZE, &moved.new) != PMKV_OK:
        return t.status
    for i in range(ROOT_WORDS):
        words[i] = txn_read(t, namespace + i * 8)
    moved.old = namespace
    c.root_count += 1
    txn_data(t, moved.new, words, ROOT_SIZE)
    return txn_push(t, &t.freed, &t.freed_count, &t.freed_capacity, reference | <u64>1 << 63)


cdef u64 new_root(const Compaction* c, u64 old) noexcept nogil:
    cdef int i
    for i in range(c.root_count):
        if c.roots[i].old == old:
            return c.roots[i].new
    return 0


cdef int look_at_name(Txn* t, Compaction* c, u64 slot_place, u64 word, bint redirect) noexcept nogil:
    """Moves the root that a name leads to; or, in the second walk, leads the name to where it is then."""
    cdef Record r
    cdef u64 namespace, to, place
    cdef int status = record_parse(t.p, place_of(word), &r)
    if status == PMKV_OK:
        status = namespace_in(t.p, &r, &namespace)
    if status != PMKV_OK:
        return txn_fail(t, status)
    to = new_root(c, namespace)
    if not redirect:
        if to == 0 and c.root_count < ROOTS_AT_ONCE and block_must_move(t, namespace):
            move_root(t, c, namespace)
        return t.status
    if to == 0 or record_redirect(t, &r, to, &place) != PMKV_OK:
        return t.status
    txn_log(t, slot_place, pmkv_seal(place >> GRANULE_SHIFT | (word & SEAL_MASK & ~GRANULE_MASK)))
    return record_moved(t, &r, place, False)


cdef int walk_names(Txn* t, Compaction* c, bint redirect) noexcept nogil:
    cdef Cursor cursor
    cdef u64 slots[LEAF_SLOTS]
    cdef u64 leaf
    cdef int i, status
    cursor.prefix, cursor.ended = 0, False
    while t.status == PMKV_OK:
        status = mapping_next_leaf(t.p, t, ROOT_CATALOGUE + NAMESPACE_MAPPING, &cursor, slots, &leaf)
        if status != PMKV_OK:
            return txn_fail(t, status)
        if leaf == 0:
            break
        for i in range(LEAF_SLOTS):
            if slots[i] & GRANULE_MASK and look_at_name(t, c, leaf + i * 8, slots[i], redirect) != PMKV_OK:
                break
    return t.status


cdef int move_roots(Txn* t, Compaction* c) noexcept nogil:
    """Some roots, with all the names that lead to them: a root has several.

    None while somebody reads at an earlier moment: names that are gone since lead there, too.
    """
    if c.pins.moments.open_count:
        begin_phase(c, COMPACTION_CUT)
        return PMKV_OK
    if walk_names(t, c, False) != PMKV_OK or (c.root_count and walk_names(t, c, True) != PMKV_OK):
        return t.status
    c.tally.moved += c.root_count
    if c.root_count < ROOTS_AT_ONCE:
        begin_phase(c, COMPACTION_CUT)
    return PMKV_OK


# ---- cutting the file ------------------------------------------------------------------------------------

cdef int cut(Txn* t, Compaction* c) noexcept nogil:
    """The root says how long the file will be.  compaction_committed() cuts it (Q4)."""
    cdef u64 frontier, claimed
    if txn_read_sealed(t, ROOT_FRONTIER, &frontier) != PMKV_OK or txn_read_sealed(
            t, ROOT_PAGE_COUNT, &claimed) != PMKV_OK:
        return t.status
    c.cut = pool_least_pages(t.p, frontier)
    if c.cut < claimed:
        txn_log_sealed(t, ROOT_PAGE_COUNT, c.cut)
    return t.status


cdef void after_cut(Pool* p, Compaction* c) noexcept nogil:
    if c.phase == COMPACTION_LAST_CUT:
        c.phase = COMPACTION_DONE
        return
    c.passes += 1
    c.entries = c.namespaces = 0
    begin_phase(c, COMPACTION_COUNT)


# ---- the whole ----------------------------------------------------------------------------------------------

cdef void compaction_begin(Compaction* c, Pins* pins) noexcept nogil:
    memset(c, 0, sizeof(Compaction))
    c.pins = pins
    begin_phase(c, COMPACTION_COUNT)


cdef int compaction_fill(Txn* t, Compaction* c) noexcept nogil:
    """Fills the transaction with the next slice.  The caller commits it, and then calls
    compaction_committed(); it forgets it after an error, and calls compaction_stop()."""
    c.steps = c.bytes = c.cut = 0
    c.root_count = 0
    if c.phase == COMPACTION_COUNT:
        each_namespace(t, c, count_entries, SLICE_NODES, COMPACTION_MEASURE)
        if c.phase == COMPACTION_MEASURE:
            begin_measuring(c)
    elif c.phase == COMPACTION_MEASURE:
        measure(t, c)
    elif c.phase == COMPACTION_CHOOSE:
        choose_blocks(t, c)
    elif c.phase == COMPACTION_LIST:
        list_blocks(t, c, COMPACTION_RECORDS)
    elif c.phase == COMPACTION_RECORDS:
        each_namespace(t, c, move_records, SLICE_LEAVES, COMPACTION_TREES)
    elif c.phase == COMPACTION_TREES:
        each_namespace(t, c, move_tree, SLICE_NODES, COMPACTION_OWN_TREES)
    elif c.phase == COMPACTION_OWN_TREES:
        move_own_trees(t, c)
    elif c.phase == COMPACTION_LEAVES:
        each_namespace(t, c, tidy_leaf, SLICE_LEAVES, COMPACTION_ROOTS)
    elif c.phase == COMPACTION_ROOTS:
        move_roots(t, c)
    elif c.phase == COMPACTION_RELIST:
        t.p.ceiling = NULL
        list_blocks(t, c, COMPACTION_LAST_CUT)
    else:
        cut(t, c)
    return t.status


cdef int compaction_committed(Pool* p, Compaction* c) noexcept nogil:
    """What is to be done when the slice is durable, before anyone else writes."""
    cdef u64 claimed = pmkv_load(&p.m, ROOT_PAGE_COUNT) & SEAL_MASK
    cdef int status = PMKV_OK
    if c.cut:
        status = redo_checkpoint(p)          # the log is empty, and the page count in its place
        if status == PMKV_OK and claimed <= c.cut:   # the commit may have needed pages itself
            status = pool_shrink(p, c.cut)
        after_cut(p, c)
    return status


cdef void compaction_stop(Pool* p, Compaction* c) noexcept nogil:
    """Nothing moves any more.  Slices that are still to come put the lists in order."""
    p.ceiling = NULL
    if c.phase < COMPACTION_RELIST:
        begin_phase(c, COMPACTION_RELIST)
    else:
        c.phase = COMPACTION_DONE
