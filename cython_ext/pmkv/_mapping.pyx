"""_mapping.pyx (L3): a trie over the hash's bits whose leaves are pages of one-line buckets.

May know: records, blocks, pages, words.  Not namespaces.

From the top of the 64-bit hash, each node takes 3 to 9 bits and leads to a node or a leaf
(a leaf of smaller depth stands in several of the node's words).  A leaf is a page of 64
buckets, one line each, of eight slots.  From the bottom of the hash, six bits choose a
key's *home* bucket and six more its *alternate*, where it goes when home is full; when both
are full, a key of the home bucket makes room by moving to its own alternate.  So a leaf
fills to nine tenths or so before it splits in two, and a look-up reads one line of it,
seldom two.  Only a full leaf splits; a node doubles from one line up to one page and then
gets children; nothing is ever rehashed as a whole.

A slot's tag is those six alternate bits and an eight-bit window of the hash at the leaf's
depth.  The window moves by four bits at a time, so three splits of four need no record.

Invariants
  M1. A slot, a reference and a root are single sealed words; each publishes what is complete.
  M2. A bucket that has sent a key away has OVERFLOWED in its last slot, so a miss that finds
      it clear ends after one line.
  M3. A key that moves does so in one commit.
  M4. A node has children that are nodes only at its full 9 bits, so each stands in one word.
Threads: readers take no lock.  One that misses while words are being applied looks again: it
may have looked for a key that was moving (M3), or followed half of a split.
"""
from libc.string cimport memcpy, memset
from pmkv._blocks cimport NODE_CLASS, block_allocate, block_free
from pmkv._core cimport *
from pmkv._pages cimport Head, descriptor_read, pages_allocate, pages_free
from pmkv._pool cimport Pool, corrupted, descriptor_place, page_place, place_page
from pmkv._records cimport RECORD_HEADER, Record, record_body_is_whole, record_parse, record_prefetch, same_bytes
from pmkv._writeset cimport Txn, txn_data, txn_fail, txn_line, txn_log, txn_push, txn_read

cdef enum:
    DEPTH_MAX = 48
    PATH_ROOT = -1

cdef extern from *:
    int __builtin_ctz(unsigned) nogil

# ---- words ---------------------------------------------------------------------------------

cdef inline u64 word_at(const Pool* p, Txn* t, u64 place) noexcept nogil:
    """A writer sees what its transaction has logged; a reader (no transaction) the pool."""
    return pmkv_load(&p.m, place) if t == NULL else txn_read(t, place)


cdef inline const u64* bucket_words(Pool* p, Txn* t, u64 place, u64* copy) noexcept nogil:
    """The same of a bucket: its eight words where they lie, or in `copy` if some may be logged."""
    return <const u64*>pmkv_at(&p.m, place) if t == NULL else txn_line(t, place, copy)


cdef u64 mapping_hash(const Pool* p, const char* key, u64 key_size) noexcept nogil:
    return pmkv_hash64(p.seed0, p.seed1, key, key_size)


# ---- look-up ---------------------------------------------------------------------------------

cdef int mapping_descend(Pool* p, Txn* t, u64 root_place, Probe* probe, Path* path) noexcept nogil:
    """To the leaf of probe.hash: the place of the leaf is 0 if there is none."""
    return descend(p, t, root_place, probe, path)


cdef inline int descend(Pool* p, Txn* t, u64 root_place, Probe* probe, Path* path) noexcept nogil:
    """Follows the hash to its leaf, testing each reference on the way."""
    cdef u64 place = root_place, word, bits, consumed = 0, node
    cdef u64 end = page_place(p, p.file_pages)
    cdef int level = 0
    probe.leaf = 0
    while True:
        word = word_at(p, t, place)
        if not pmkv_check(&p.m, PMKV_CHECK_SEAL, pmkv_is_sealed(word)):
            return corrupted(p, PMKV_CHECK_SEAL, place)
        if word == 0 and place == root_place:
            return PMKV_OK
        node = place_of(word)
        bits = bits_of(word)
        if node < p.header_size or node + (<u64>8 << bits if bits else PAGE_SIZE) > end:
            return corrupted(p, PMKV_CHECK_SEAL, place)
        if bits == 0:
            if depth_of(word) > consumed:
                return corrupted(p, PMKV_CHECK_SEAL, place)
            probe.leaf = node
            probe.depth = depth_of(word)
            if path != NULL:
                path.length = level
            return PMKV_OK
        if level == LEVELS - 1 or bits > <u64>NODE_MAX_BITS or consumed + bits > DEPTH_MAX + NODE_MAX_BITS:
            return corrupted(p, PMKV_CHECK_SEAL, place)
        if path != NULL:
            path.step[level].node = node
            path.step[level].bits = bits
            path.step[level].consumed = consumed
            path.step[level].index = probe.hash << consumed >> (64 - bits)
        place = node + (probe.hash << consumed >> (64 - bits)) * 8
        consumed += bits
        level += 1


cdef inline int locate(Pool* p, Txn* t, u64 root_place, u64 hash, Probe* probe) noexcept nogil:
    cdef int status
    probe.hash = hash
    probe.slot = 0
    status = descend(p, t, root_place, probe, NULL)
    if status == PMKV_OK and probe.leaf:
        probe.home = hash & 63
        probe.tag = tag_at(hash, probe.depth)
        probe.alternate = alternate_of(probe.home, probe.tag)
    return status


cdef int mapping_locate(Pool* p, Txn* t, u64 root_place, u64 hash, Probe* probe) noexcept nogil:
    """Finds the leaf for a hash: the first half of a look-up."""
    return locate(p, t, root_place, hash, probe)


cdef void mapping_prefetch_bucket(const Pool* p, const Probe* probe) noexcept nogil:
    if probe.leaf:
        pmkv_prefetch(pmkv_at(&p.m, slot_place(probe.leaf, probe.home, 0)))


cdef void mapping_prefetch_record(const Pool* p, Probe* probe) noexcept nogil:
    """Prefetches the record behind the first slot of the home bucket that has the tag: `slot`, or 0."""
    cdef const u64* bucket
    cdef unsigned same
    probe.slot = 0
    if probe.leaf == 0:
        return
    bucket = <const u64*>pmkv_at(&p.m, slot_place(probe.leaf, probe.home, 0))
    same = pmkv_arch_match8(bucket, probe.tag, SLOT_TAG_MASK | SLOT_ALTERNATE)
    if same:
        probe.slot = slot_place(probe.leaf, probe.home, __builtin_ctz(same))
        record_prefetch(p, place_of(bucket[__builtin_ctz(same)]))


cdef inline int try_slot(Pool* p, u64 place, u64 word, const char* key, u64 key_size, Record* r) noexcept nogil:
    cdef int status
    record_prefetch(p, place_of(word))
    if not pmkv_check(&p.m, PMKV_CHECK_SEAL, pmkv_is_sealed(word)):
        return corrupted(p, PMKV_CHECK_SEAL, place)
    status = record_parse(p, place_of(word), r)
    if status != PMKV_OK:
        return status
    if r.key_size == key_size and same_bytes(r.key, key, key_size):
        return PMKV_OK
    # Another key has the same tag, one time in thousands; or this one's bytes are damaged.
    return PMKV_NOT_FOUND if record_body_is_whole(p, r) else corrupted(p, PMKV_CHECK_RECORD, r.place)


cdef inline int match_bucket(Pool* p, Txn* t, Probe* probe, u64 bucket, u64 wanted, const char* key, u64 key_size,
                             Record* r) noexcept nogil:
    """Tries the slots that have the tag.  Which ones is computed without a branch: it is random."""
    cdef u64 place = slot_place(probe.leaf, bucket, 0), word
    cdef u64 copy[8]
    cdef const u64* words = bucket_words(p, t, place, copy)
    cdef unsigned same = pmkv_arch_match8(words, wanted, SLOT_TAG_MASK | SLOT_ALTERNATE)
    cdef int slot, status
    while same:
        slot = __builtin_ctz(same)
        same &= same - 1
        word = words[slot]
        if word & GRANULE_MASK == 0:
            continue
        status = try_slot(p, place + slot * 8, word, key, key_size, r)
        if status != PMKV_NOT_FOUND:
            probe.slot = place + slot * 8
            probe.slot_word = word
            return status
    return PMKV_NOT_FOUND


cdef int bucket_is_sealed(Pool* p, Txn* t, u64 leaf, u64 bucket) noexcept nogil:
    """A miss is believed only if no slot of the bucket is damaged."""
    cdef u64 place = slot_place(leaf, bucket, 0), wrong = 0
    cdef u64 copy[8]
    cdef const u64* words = bucket_words(p, t, place, copy)
    cdef int slot
    for slot in range(BUCKET_SLOTS):
        wrong |= pmkv_seal(words[slot] & SEAL_MASK) ^ words[slot]
    if pmkv_check(&p.m, PMKV_CHECK_SEAL, wrong == 0):
        return PMKV_OK
    return corrupted(p, PMKV_CHECK_SEAL, place)


cdef int match_elsewhere(Pool* p, Txn* t, Probe* probe, const char* key, u64 key_size, Record* r) noexcept nogil:
    """What is left to do for a key that its home bucket does not have."""
    cdef int status = bucket_is_sealed(p, t, probe.leaf, probe.home)
    if status != PMKV_OK:
        return status
    if not word_at(p, t, slot_place(probe.leaf, probe.home, BUCKET_SLOTS - 1)) & SLOT_OVERFLOWED:
        return PMKV_NOT_FOUND
    status = match_bucket(p, t, probe, probe.alternate, probe.tag | SLOT_ALTERNATE, key, key_size, r)
    if status != PMKV_NOT_FOUND:
        return status
    status = bucket_is_sealed(p, t, probe.leaf, probe.alternate)
    return PMKV_NOT_FOUND if status == PMKV_OK else status


cdef int mapping_match(Pool* p, Txn* t, Probe* probe, const char* key, u64 key_size, Record* r) noexcept nogil:
    """Finds the key's slot and record in the leaf that mapping_locate found."""
    cdef int status
    if probe.leaf == 0:
        return PMKV_NOT_FOUND
    status = match_bucket(p, t, probe, probe.home, probe.tag, key, key_size, r)
    return status if status != PMKV_NOT_FOUND else match_elsewhere(p, t, probe, key, key_size, r)


cdef inline int match_first(Pool* p, const Probe* probe, const char* key, u64 key_size, Record* r) noexcept nogil:
    """Tries the first slot of the home bucket that has the tag: nearly always the only one."""
    cdef u64 place = slot_place(probe.leaf, probe.home, 0), word
    cdef unsigned same = pmkv_arch_match8(<const u64*>pmkv_at(&p.m, place), probe.tag, SLOT_TAG_MASK | SLOT_ALTERNATE)
    if same == 0:
        return PMKV_NOT_FOUND
    place += __builtin_ctz(same) * 8
    word = pmkv_load(&p.m, place)
    return try_slot(p, place, word, key, key_size, r) if word & GRANULE_MASK else PMKV_NOT_FOUND


cdef int mapping_get(Pool* p, u64 root_place, const char* key, u64 key_size, Record* r) noexcept nogil:
    """A reader's look-up.  A miss during an apply may have seen half of it: it looks again."""
    cdef Probe probe
    cdef u64 hash = pmkv_hash64(p.seed0, p.seed1, key, key_size), before
    cdef int status
    while True:
        before = pmkv_atomic_load(&p.apply_sequence)
        status = locate(p, NULL, root_place, hash, &probe)
        if status == PMKV_OK:
            if probe.leaf and match_first(p, &probe, key, key_size, r) == PMKV_OK:
                return PMKV_OK
            status = mapping_match(p, NULL, &probe, key, key_size, r)
        if status == PMKV_OK or (before & 1 == 0 and before == pmkv_atomic_load(&p.apply_sequence)):
            return status


# ---- changing a slot ---------------------------------------------------------------------------

cdef int mapping_replace(Txn* t, const Probe* probe, u64 record_place) noexcept nogil:
    return txn_log(t, probe.slot, pmkv_seal(record_place >> GRANULE_SHIFT
                                            | (probe.slot_word & SEAL_MASK & ~GRANULE_MASK)))


cdef int mapping_remove(Txn* t, const Probe* probe) noexcept nogil:
    return txn_log(t, probe.slot, pmkv_seal(probe.slot_word & SLOT_OVERFLOWED))


cdef int free_slot(Txn* t, u64 leaf, u64 bucket) noexcept nogil:
    """The bucket's first empty slot, or -1."""
    cdef u64 copy[8]
    cdef const u64* words = bucket_words(t.p, t, slot_place(leaf, bucket, 0), copy)
    cdef unsigned empty = 0
    cdef int slot
    for slot in range(BUCKET_SLOTS):      # without a branch: which one is random
        empty |= <unsigned>((words[slot] & GRANULE_MASK) == 0) << slot
    return __builtin_ctz(empty) if empty else -1


cdef int log_slot(Txn* t, u64 leaf, u64 bucket, int slot, u64 payload) noexcept nogil:
    """Fills a slot; the overflow mark of a last slot stays."""
    cdef u64 place = slot_place(leaf, bucket, slot)
    return txn_log(t, place, pmkv_seal(payload | (txn_read(t, place) & SLOT_OVERFLOWED)))


cdef int mark_overflowed(Txn* t, u64 leaf, u64 bucket) noexcept nogil:
    cdef u64 place = slot_place(leaf, bucket, BUCKET_SLOTS - 1)
    cdef u64 word = txn_read(t, place)
    if word & SLOT_OVERFLOWED:
        return t.status
    return txn_log(t, place, pmkv_seal((word & SEAL_MASK) | SLOT_OVERFLOWED))


cdef bint make_room_at_home(Txn* t, const Probe* probe, int* freed) noexcept nogil:
    """Moves a key of the home bucket to its own alternate ; which slot it left."""
    cdef int slot, other
    cdef u64 word, bucket
    for slot in range(BUCKET_SLOTS):
        word = txn_read(t, slot_place(probe.leaf, probe.home, slot))
        if word & SLOT_ALTERNATE:
            continue
        bucket = alternate_of(probe.home, word)
        other = free_slot(t, probe.leaf, bucket)
        if other >= 0:
            log_slot(t, probe.leaf, bucket, other,
                     (word & (GRANULE_MASK | SLOT_TAG_MASK)) | SLOT_ALTERNATE)
            freed[0] = slot
            return True
    return False


cdef bint insert_into_leaf(Txn* t, const Probe* probe, u64 record_place) noexcept nogil:
    cdef u64 payload = record_place >> GRANULE_SHIFT | probe.tag
    cdef int slot = free_slot(t, probe.leaf, probe.home)
    if slot >= 0:
        log_slot(t, probe.leaf, probe.home, slot, payload)
        return True
    slot = free_slot(t, probe.leaf, probe.alternate)
    if slot >= 0:
        log_slot(t, probe.leaf, probe.alternate, slot, payload | SLOT_ALTERNATE)
    elif make_room_at_home(t, probe, &slot):
        log_slot(t, probe.leaf, probe.home, slot, payload)
    else:
        return False
    mark_overflowed(t, probe.leaf, probe.home)
    return True


# ---- splitting a leaf ------------------------------------------------------------------------------

cdef int slot_bit(Txn* t, u64 word, u64 depth, u64* tag) noexcept nogil:
    """The bit of the key's hash that a split at `depth` goes by, and the key's tag below.

    0 or 1, or -1 for an error.  The record is read only where the window moves on.
    """
    cdef Record r
    cdef u64 hash
    cdef int status
    if (depth + 1) % WINDOW_STEP:
        tag[0] = word & SLOT_TAG_MASK
        return <int>(word >> (SLOT_TAG_SHIFT + 13 - depth % WINDOW_STEP) & 1)
    status = record_parse(t.p, place_of(word), &r)
    if status != PMKV_OK:
        txn_fail(t, status)
        return -1
    hash = mapping_hash(t.p, r.key, r.key_size)
    tag[0] = tag_at(hash, depth + 1)
    return <int>(hash >> (63 - depth) & 1)


cdef void bring_home(u64* half) noexcept nogil:
    """Moves keys back to their home buckets where those have room now; marks the others' homes (M2)."""
    cdef u64 bucket, home, payload
    cdef int slot, other
    for bucket in range(LEAF_BUCKETS):
        for slot in range(BUCKET_SLOTS):
            payload = half[bucket * 8 + slot]
            if not payload & SLOT_ALTERNATE:
                continue
            home = alternate_of(bucket, payload)
            for other in range(BUCKET_SLOTS):
                if not half[home * 8 + other] & GRANULE_MASK:
                    half[home * 8 + other] |= payload & (GRANULE_MASK | SLOT_TAG_MASK)
                    half[bucket * 8 + slot] = payload & SLOT_OVERFLOWED
                    break
            else:
                half[home * 8 + 7] |= SLOT_OVERFLOWED


cdef int read_slots(Txn* t, u64 leaf, u64* slots) noexcept nogil:
    cdef u64 copy[8]
    cdef u64 bucket
    for bucket in range(LEAF_BUCKETS):
        if bucket_is_sealed(t.p, t, leaf, bucket) != PMKV_OK:
            return txn_fail(t, PMKV_CORRUPTED)
        memcpy(slots + bucket * BUCKET_SLOTS, bucket_words(t.p, t, slot_place(leaf, bucket, 0), copy), LINE_SIZE)
    return PMKV_OK


cdef void prefetch_keys(const Pool* p, const u64* slots) noexcept nogil:
    """All at once, or each would be waited for: a key of up to 24 bytes begins in the record's first line and
    ends in it or the next."""
    cdef const char* record
    cdef int i
    for i in range(LEAF_SLOTS):
        if slots[i] & GRANULE_MASK:
            record = <const char*>pmkv_at(&p.m, place_of(slots[i]))
            pmkv_prefetch(record)
            pmkv_prefetch(record + RECORD_HEADER + 23)


cdef int divide(Txn* t, u64 leaf, u64 depth, u64* halves) noexcept nogil:
    """Sorts the leaf's slots into two leaves of one bit more, each key at its old position."""
    cdef u64 slots[LEAF_SLOTS]
    cdef u64 tag
    cdef int i, bit
    if read_slots(t, leaf, slots) != PMKV_OK:
        return t.status
    memset(halves, 0, 2 * PAGE_SIZE)
    if (depth + 1) % WINDOW_STEP == 0:
        prefetch_keys(t.p, slots)
    for i in range(LEAF_SLOTS):
        if slots[i] & GRANULE_MASK:
            bit = slot_bit(t, slots[i], depth, &tag)
            if bit < 0:
                return t.status
            halves[bit * LEAF_SLOTS + i] = (slots[i] & (GRANULE_MASK | SLOT_ALTERNATE)) | tag
    bring_home(halves)
    bring_home(halves + LEAF_SLOTS)
    for i in range(2 * LEAF_SLOTS):
        halves[i] = pmkv_seal(halves[i])
    return PMKV_OK


cdef int mapping_build_leaf(Txn* t, const u64* slots, u64 depth, u64* reference) noexcept nogil:
    cdef u64 page
    if pages_allocate(t, 1, PMKV_PAGE_LEAF, depth, &page) != PMKV_OK:
        return t.status
    reference[0] = reference_to(page_place(t.p, page), 0, depth)
    return txn_data(t, page_place(t.p, page), slots, PAGE_SIZE)


cdef int mapping_build_node(Txn* t, const u64* words, u64 bits, u64* reference) noexcept nogil:
    cdef u64 place, page
    if bits < <u64>NODE_MAX_BITS:
        block_allocate(t, NODE_CLASS + <int>bits, <u64>8 << bits, &place)
    elif pages_allocate(t, 1, PMKV_PAGE_NODE, 0, &page) == PMKV_OK:
        place = page_place(t.p, page)
    if t.status != PMKV_OK:
        return t.status
    reference[0] = reference_to(place, bits, 0)
    return txn_data(t, place, words, <u64>8 << bits)


cdef int mapping_free_later(Txn* t, u64 reference) noexcept nogil:
    """The leaf or node is freed with the commit."""
    return txn_push(t, &t.freed, &t.freed_count, &t.freed_capacity, reference | (<u64>1 << 63))


cdef int hang_below(Txn* t, u64 where, const u64* pair) noexcept nogil:
    """A new node of one line, its first half for one leaf and its second for the other, replaces a leaf."""
    cdef u64 words[8]
    cdef u64 reference
    cdef int i
    for i in range(8):
        words[i] = pair[i >> 2]
    if mapping_build_node(t, words, NODE_MIN_BITS, &reference) != PMKV_OK:
        return t.status
    return txn_log(t, where, reference)


cdef int double_node(Txn* t, u64 where, const Step* step, const u64* pair) noexcept nogil:
    """The node again with a bit more: every word twice, and the split leaf's two."""
    cdef u64 words[512]
    cdef u64 i, reference, old = reference_to(step.node, step.bits, 0)
    for i in range(<u64>1 << step.bits):
        words[2 * i] = words[2 * i + 1] = txn_read(t, step.node + i * 8)
    words[2 * step.index] = pair[0]
    words[2 * step.index + 1] = pair[1]
    if mapping_build_node(t, words, step.bits + 1, &reference) != PMKV_OK:
        return t.status
    txn_log(t, where, reference)
    return mapping_free_later(t, old)


cdef int share_words(Txn* t, const Step* step, u64 depth, const u64* pair) noexcept nogil:
    """The leaf stood in several of the node's words: half of them for each part."""
    cdef u64 count = <u64>1 << (step.consumed + step.bits - depth)
    cdef u64 first = step.index & ~(count - 1), i
    for i in range(count):
        txn_log(t, step.node + (first + i) * 8, pair[0] if i < count // 2 else pair[1])
    return t.status


cdef int split(Txn* t, u64 root_place, Probe* probe) noexcept nogil:
    """Replaces the probe's leaf by two, in free space but for the words that publish them."""
    cdef u64 halves[2 * LEAF_SLOTS]
    cdef u64 pair[2]
    cdef Path path
    cdef Step* last
    cdef int status, bit
    status = descend(t.p, t, root_place, probe, &path)
    if status != PMKV_OK:
        return txn_fail(t, status)
    if probe.depth >= DEPTH_MAX:
        return txn_fail(t, PMKV_COLLISIONS)
    if divide(t, probe.leaf, probe.depth, halves) != PMKV_OK:
        return t.status
    for bit in range(2):
        if mapping_build_leaf(t, halves + bit * LEAF_SLOTS, probe.depth + 1, &pair[bit]) != PMKV_OK:
            return t.status
    last = &path.step[path.length - 1]
    if path.length == 0:
        hang_below(t, root_place, pair)
    elif probe.depth < last.consumed + last.bits:
        share_words(t, last, probe.depth, pair)
    elif last.bits < <u64>NODE_MAX_BITS:
        double_node(t, parent_word(root_place, &path, path.length - 1), last, pair)
    else:
        hang_below(t, last.node + last.index * 8, pair)
    return mapping_free_later(t, reference_to(probe.leaf, 0, probe.depth))


cdef int first_leaf(Txn* t, u64 root_place) noexcept nogil:
    cdef u64 slots[LEAF_SLOTS]
    cdef u64 reference
    memset(slots, 0, sizeof(slots))
    if mapping_build_leaf(t, slots, 0, &reference) != PMKV_OK:
        return t.status
    return txn_log(t, root_place, reference)


cdef int mapping_insert(Txn* t, u64 root_place, Probe* probe, u64 record_place) noexcept nogil:
    """Publishes a record whose key mapping_match did not find."""
    cdef int status
    if t.status == PMKV_OK and probe.leaf == 0:
        first_leaf(t, root_place)
        mapping_locate(t.p, t, root_place, probe.hash, probe)
    while t.status == PMKV_OK and not insert_into_leaf(t, probe, record_place):
        if split(t, root_place, probe) == PMKV_OK:
            status = mapping_locate(t.p, t, root_place, probe.hash, probe)
            if status != PMKV_OK:
                return txn_fail(t, status)
    return t.status


# ---- walking and freeing --------------------------------------------------------------------------------

cdef int mapping_next_leaf(Pool* p, Txn* t, u64 root_place, Cursor* cursor, u64* slots, u64* leaf) noexcept nogil:
    """Copies the 512 slots of the next leaf; `leaf` is 0 when there is none."""
    cdef Probe probe
    cdef int status, i
    leaf[0] = 0
    if cursor.ended:
        return PMKV_OK
    probe.hash = cursor.prefix
    status = descend(p, t, root_place, &probe, NULL)
    if status != PMKV_OK or probe.leaf == 0:
        return status
    for i in range(LEAF_SLOTS):
        slots[i] = word_at(p, t, probe.leaf + i * 8)
        if not pmkv_check(&p.m, PMKV_CHECK_SEAL, pmkv_is_sealed(slots[i])):
            return corrupted(p, PMKV_CHECK_SEAL, probe.leaf + i * 8)
    leaf[0] = probe.leaf
    if probe.depth == 0:
        cursor.ended = True
    else:
        cursor.prefix = ((cursor.prefix >> (64 - probe.depth)) + 1) << (64 - probe.depth)
        cursor.ended = cursor.prefix == 0
    return PMKV_OK


cdef int mapping_free_page(Txn* t, u64 reference) noexcept nogil:
    """Frees the leaf or node that a reference leads to; called when nothing more is allocated."""
    cdef u64 place = place_of(reference), bits = bits_of(reference), page = place_page(t.p, place)
    cdef Head head
    if 0 < bits < <u64>NODE_MAX_BITS:
        return block_free(t, place, <u64>8 << bits)
    if descriptor_read(t, page, &head) != PMKV_OK:
        return t.status
    if head.kind != (PMKV_PAGE_NODE if bits else PMKV_PAGE_LEAF) or head.page_count != 1:
        return txn_fail(t, corrupted(t.p, PMKV_CHECK_DESCRIPTOR, descriptor_place(page)))
    return pages_free(t, page, 1)


cdef int free_below(Txn* t, u64 reference, int level) noexcept nogil:
    cdef u64 bits = bits_of(reference), i, word, last = 0, place = place_of(reference)
    cdef u64 end = page_place(t.p, t.p.file_pages)
    if place < t.p.header_size or bits > <u64>NODE_MAX_BITS or place + (<u64>8 << bits if bits else PAGE_SIZE) > end:
        return txn_fail(t, corrupted(t.p, PMKV_CHECK_SEAL, place))
    if level > LEVELS or not pmkv_is_sealed(reference) or t.freed_count > t.p.file_pages * 256:   # a cycle
        return txn_fail(t, corrupted(t.p, PMKV_CHECK_SEAL, place_of(reference)))
    if bits:
        for i in range(<u64>1 << bits):
            word = txn_read(t, place_of(reference) + i * 8)
            if word != last:
                free_below(t, word, level + 1)
                last = word
    return mapping_free_later(t, reference)


cdef int mapping_free_all(Txn* t, u64 root_place) noexcept nogil:
    """The mapping is empty from the commit on: its nodes and leaves are freed (records are the caller's)."""
    cdef u64 reference = txn_read(t, root_place)
    if reference and free_below(t, reference, 0) == PMKV_OK:
        txn_log(t, root_place, 0)
    return t.status
