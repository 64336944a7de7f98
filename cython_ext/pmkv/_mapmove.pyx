"""_mapmove.pyx (L3): leaves and nodes of the mapping, moved below the ceiling of compaction; leaves joined.

May know: the mapping, blocks, pages.  Not when, or which namespaces.

A leaf or node moves as it is: a copy in free space, then the words that lead to it.  Two leaves that
were one before a split become one again when they fit with room to spare: the reverse of the split.
A node whose leaves are all one gives way to it.

Invariants
  J1. What was looked up before the commit is found after it, and the other way round: no slot of a
      key changes its record here.
  J2. A leaf joins only with the one that its last bit tells it from, below the same node.
"""
from libc.string cimport memset
from pmkv._blocks cimport NODE_CLASS, block_allocate_below, block_must_move
from pmkv._core cimport *
from pmkv._mapping cimport (
    LEAF_SLOTS, WINDOW_STEP, Cursor, Path, Probe, Step, alternate_of, mapping_build_leaf, mapping_descend,
    mapping_free_later, mapping_hash, parent_word, place_of, reference_to, tag_at,
)
from pmkv._pages cimport page_fits, page_is_high, pages_allocate, pages_fit_below
from pmkv._pool cimport corrupted, page_place, place_page
from pmkv._records cimport Record, Tally, record_parse
from pmkv._writeset cimport Txn, txn_data, txn_fail, txn_log, txn_read

cdef enum:
    JOINED_MAX = LEAF_SLOTS * 3 // 4   # keys of a leaf made of two: the next ones shall not split it at once


# ---- moving ----------------------------------------------------------------------------------

cdef int place_node(Txn* t, const Step* step, u64* place) noexcept nogil:
    """Room for the node below the ceiling; EXISTS if it lies well, NOT_FOUND if there is none."""
    cdef u64 page
    if step.bits < <u64>NODE_MAX_BITS:
        if not block_must_move(t, step.node):
            return PMKV_EXISTS if t.status == PMKV_OK else t.status
        return block_allocate_below(t, NODE_CLASS + <int>step.bits, <u64>8 << step.bits, place)
    if not page_is_high(t.p, place_page(t.p, step.node)):
        return PMKV_EXISTS
    if not pages_fit_below(t, 1):
        return PMKV_NOT_FOUND if t.status == PMKV_OK else t.status
    if pages_allocate(t, 1, PMKV_PAGE_NODE, 0, &page) == PMKV_OK:
        place[0] = page_place(t.p, page)
    return t.status


cdef int move_node(Txn* t, u64 root_place, Path* path, int level) noexcept nogil:
    """The same statuses; OK: it has moved, and the path leads through it."""
    cdef Step* step = &path.step[level]
    cdef u64 words[512]
    cdef u64 place = 0, i
    cdef int status = place_node(t, step, &place)
    if status != PMKV_OK:
        return status
    for i in range(<u64>1 << step.bits):
        words[i] = txn_read(t, step.node + i * 8)
    txn_data(t, place, words, <u64>8 << step.bits)
    txn_log(t, parent_word(root_place, path, level), reference_to(place, step.bits, 0))
    mapping_free_later(t, reference_to(step.node, step.bits, 0))
    step.node = place
    return t.status


cdef int publish_leaf(Txn* t, u64 root_place, const Path* path, u64 depth, u64 reference) noexcept nogil:
    """Stores the reference in every word of the last node that stands for its hashes."""
    cdef const Step* step
    cdef u64 count, first, i
    if path.length == 0:
        return txn_log(t, root_place, reference)
    step = &path.step[path.length - 1]
    count = <u64>1 << (step.consumed + step.bits - depth)
    first = step.index & ~(count - 1)
    if count == <u64>1 << step.bits:             # nothing else is below the node
        mapping_free_later(t, reference_to(step.node, step.bits, 0))
        return txn_log(t, parent_word(root_place, path, path.length - 1), reference)
    for i in range(count):
        txn_log(t, step.node + (first + i) * 8, reference)
    return t.status


cdef int read_leaf(Txn* t, u64 leaf, u64* slots) noexcept nogil:
    """The slots as the transaction has them, each tested."""
    cdef u64 i
    for i in range(LEAF_SLOTS):
        slots[i] = txn_read(t, leaf + i * 8)
        if not pmkv_check(&t.p.m, PMKV_CHECK_SEAL, pmkv_is_sealed(slots[i])):
            return txn_fail(t, corrupted(t.p, PMKV_CHECK_SEAL, leaf + i * 8))
    return PMKV_OK


cdef int move_leaf(Txn* t, u64 root_place, const Probe* probe, const Path* path) noexcept nogil:
    cdef u64 slots[LEAF_SLOTS]
    cdef u64 reference
    if not page_is_high(t.p, place_page(t.p, probe.leaf)):
        return PMKV_EXISTS
    if not pages_fit_below(t, 1):
        return PMKV_NOT_FOUND if t.status == PMKV_OK else t.status
    if read_leaf(t, probe.leaf, slots) != PMKV_OK:
        return t.status
    if mapping_build_leaf(t, slots, probe.depth, &reference) != PMKV_OK:
        return t.status
    publish_leaf(t, root_place, path, probe.depth, reference)
    return mapping_free_later(t, reference_to(probe.leaf, 0, probe.depth))


# ---- joining ------------------------------------------------------------------------------------

cdef int empty_slot(const u64* slots, u64 bucket) noexcept nogil:
    cdef int slot
    for slot in range(BUCKET_SLOTS):
        if not slots[bucket * BUCKET_SLOTS + slot] & GRANULE_MASK:
            return slot
    return -1


cdef void fill_slot(u64* slots, u64 bucket, int slot, u64 payload) noexcept nogil:
    """The overflow mark of a last slot stays."""
    slots[bucket * BUCKET_SLOTS + slot] = payload | (slots[bucket * BUCKET_SLOTS + slot] & SLOT_OVERFLOWED)


cdef bint send_away(u64* slots, u64 home, u64 payload) noexcept nogil:
    """Puts a key of this home into its alternate bucket, if there is room."""
    cdef u64 bucket = alternate_of(home, payload)
    cdef int slot = empty_slot(slots, bucket)
    if slot < 0:
        return False
    fill_slot(slots, bucket, slot, payload | SLOT_ALTERNATE)
    slots[home * BUCKET_SLOTS + BUCKET_SLOTS - 1] |= SLOT_OVERFLOWED
    return True


cdef bint insert_into(u64* slots, u64 home, u64 payload) noexcept nogil:
    """As the mapping inserts: home, alternate, or home when another of its keys has made room."""
    cdef int slot = empty_slot(slots, home)
    cdef u64 other
    if slot >= 0:
        fill_slot(slots, home, slot, payload)
        return True
    if send_away(slots, home, payload):
        return True
    for slot in range(BUCKET_SLOTS):
        other = slots[home * BUCKET_SLOTS + slot]
        if not other & SLOT_ALTERNATE and send_away(slots, home, other & (GRANULE_MASK | SLOT_TAG_MASK)):
            fill_slot(slots, home, slot, payload)
            return True
    return False


cdef int tag_above(Txn* t, u64 word, u64 depth, u64* tag) noexcept nogil:
    """The key's tag in a leaf of depth - 1.  The record is read only where the window moves back."""
    cdef Record r
    cdef int status
    tag[0] = word & SLOT_TAG_MASK
    if depth % WINDOW_STEP:
        return PMKV_OK
    status = record_parse(t.p, place_of(word), &r)
    if status != PMKV_OK:
        return txn_fail(t, status)
    tag[0] = tag_at(mapping_hash(t.p, r.key, r.key_size), depth - 1)
    return PMKV_OK


cdef void prefetch_all(Txn* t, const u64* from_slots) noexcept nogil:
    cdef int i
    for i in range(LEAF_SLOTS):
        if from_slots[i] & GRANULE_MASK:
            pmkv_prefetch(pmkv_at(&t.p.m, place_of(from_slots[i])))


cdef bint add_all(Txn* t, const u64* from_slots, u64 depth, u64* slots) noexcept nogil:
    """Adds the keys of a leaf of that depth to one of a bit less; False if they do not fit, or for an error."""
    cdef u64 home, tag
    cdef int i
    if depth % WINDOW_STEP == 0:
        prefetch_all(t, from_slots)
    for i in range(LEAF_SLOTS):
        if not from_slots[i] & GRANULE_MASK:
            continue
        home = i // BUCKET_SLOTS
        if from_slots[i] & SLOT_ALTERNATE:
            home = alternate_of(home, from_slots[i])
        if tag_above(t, from_slots[i], depth, &tag) != PMKV_OK:
            return False
        if not insert_into(slots, home, (from_slots[i] & GRANULE_MASK) | tag):
            return False
    return True


cdef int count_of(const u64* slots) noexcept nogil:
    cdef int i, count = 0
    for i in range(LEAF_SLOTS):
        count += (slots[i] & GRANULE_MASK) != 0
    return count


cdef bint find_twin(Txn* t, u64 root_place, const Probe* probe, const Path* path, Probe* twin) noexcept nogil:
    """The leaf that the last bit of its depth tells this one from, if it is a leaf below the same node (J2)."""
    cdef Path its
    cdef int status
    if path.length == 0 or probe.depth <= path.step[path.length - 1].consumed:
        return False
    twin.hash = probe.hash ^ <u64>1 << (64 - probe.depth)
    status = mapping_descend(t.p, t, root_place, twin, &its)
    if status != PMKV_OK:
        txn_fail(t, status)
        return False
    return twin.depth == probe.depth


cdef bint join(Txn* t, u64 root_place, const Probe* probe, const Path* path) noexcept nogil:
    """Makes one leaf of this one and its twin, where they fit; whether it did."""
    cdef Probe twin
    cdef u64 ours[LEAF_SLOTS]
    cdef u64 theirs[LEAF_SLOTS]
    cdef u64 slots[LEAF_SLOTS]
    cdef u64 reference
    cdef int i
    if not find_twin(t, root_place, probe, path, &twin):
        return False
    if read_leaf(t, probe.leaf, ours) != PMKV_OK or read_leaf(t, twin.leaf, theirs) != PMKV_OK:
        return False
    if count_of(ours) + count_of(theirs) > JOINED_MAX or not page_fits(t):
        return False
    memset(slots, 0, sizeof(slots))
    if not add_all(t, ours, probe.depth, slots) or not add_all(t, theirs, probe.depth, slots):
        return False
    for i in range(LEAF_SLOTS):
        slots[i] = pmkv_seal(slots[i])
    if mapping_build_leaf(t, slots, probe.depth - 1, &reference) != PMKV_OK:
        return False
    publish_leaf(t, root_place, path, probe.depth - 1, reference)
    mapping_free_later(t, reference_to(probe.leaf, 0, probe.depth))
    mapping_free_later(t, reference_to(twin.leaf, 0, probe.depth))
    return t.status == PMKV_OK


# ---- the walk -------------------------------------------------------------------------------------

cdef int tally_up(Txn* t, int status, Tally* tally) noexcept nogil:
    tally.moved += status == PMKV_OK
    tally.stuck += status == PMKV_NOT_FOUND
    return t.status


cdef inline u64 first_hash(u64 hash, u64 depth) noexcept nogil:
    """The smallest hash whose first `depth` bits are the same."""
    return hash >> (64 - depth) << (64 - depth) if depth else 0


cdef void go_on(Cursor* cursor, u64 depth) noexcept nogil:
    """Behind the hashes of the leaf."""
    if depth:
        cursor.prefix = first_hash(cursor.prefix, depth) + (<u64>1 << (64 - depth))
    cursor.ended = depth == 0 or cursor.prefix == 0


cdef int mapping_tidy(Txn* t, u64 root_place, Cursor* cursor, Tally* tally) noexcept nogil:
    """Joins the leaf at the cursor with its twin, or moves it, and the nodes above it; to the next then."""
    cdef Probe probe
    cdef Path path
    cdef int level, status
    if t.status != PMKV_OK:
        return t.status
    probe.hash = cursor.prefix
    status = mapping_descend(t.p, t, root_place, &probe, &path)
    if status != PMKV_OK:
        return txn_fail(t, status)
    if probe.leaf == 0:
        cursor.ended = True
        return PMKV_OK
    if join(t, root_place, &probe, &path):
        tally.moved += 1
        cursor.prefix = first_hash(cursor.prefix, probe.depth - 1)   # and perhaps that one has a twin
        return PMKV_OK
    for level in range(path.length):
        tally_up(t, move_node(t, root_place, &path, level), tally)
    if t.status == PMKV_OK:
        tally_up(t, move_leaf(t, root_place, &probe, &path), tally)
    go_on(cursor, probe.depth)
    return t.status
