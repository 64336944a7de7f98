"""_redo.pyx (L1): the one commit protocol: log, fence, apply, checkpoint, replay.

May know: the ring, places and words.  Not what the words mean.

The ring is a sequence of entries, each at its *position*, counted in lines since the
pool was made; position p lies at line p % ring_lines.  An entry's position is also its
commit number.  It is valid if its position is the expected one and its checksum fits.

Invariants
  D1. An entry is made durable by the fence that ends its commit, which is the first
      moment that anyone hears of it.  So every entry before a valid one was fenced, and
      only the last one can be torn, which its checksum tells.
  D2. An entry carries the small data that it publishes, and replay copies it: one streamed
      write and one fence (or one sync of one short range) make a commit durable.  In place
      neither data nor words are flushed by the commit, so lines that change with every
      commit stay in the cache.
  D3. A checkpoint flushes all that the entries since the last one say, and fences.  The
      checkpoint that counts is the one that the last valid entry names.
  D4. Data that its entry does not carry (large values, batches) is made durable before it,
      together with a checkpoint that the entry names: so replay never writes anything older
      into space that was freed and used again.
  D5. Ring space is reused only behind the checkpoint word that is on the medium (`tail`).
  D6. What recovery found to be the end stays the end: it clears the checksum word there, before
      anything new is built.  Whatever else a torn entry has left, that word is its own; its
      position is not: the next commit stores the same one, and would complete it.
Threads: one writer.  Readers look at `apply_sequence` when they miss a key.
"""
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset
from pmkv._core cimport *
from pmkv._pool cimport Pool, corrupted, page_place, unseal
from pmkv._writeset cimport Txn, txn_fail

cdef enum:
    RANGE_WORDS = (1 << 24) - 1   # what the size in a range can say
    RANGE_WORDS_TRACED = 100      # so that the simulator sees more than one
    CARRIED_MAX = 4 << 10         # bytes of data that an entry carries
    CARRIED_MAX_PAGE = 32 << 10   # in the page domain, where a second sync costs more than copying
    RECENT = 128                  # lines that flush_applied remembers


# ---- commit ----------------------------------------------------------------------------------------

cdef inline u64 ring_lines(const Pool* p) noexcept nogil:
    return p.ring_size // LINE_SIZE


cdef inline u64 entry_limit(const Pool* p) noexcept nogil:
    """An entry takes at most a quarter of the ring."""
    return p.ring_size // 4


cdef u64 redo_indirect_size(const Txn* t) noexcept nogil:
    """0 if the words fit the ring, else the bytes of free pages that redo_commit needs for them."""
    cdef u64 size = sizeof(pmkv_entry) + t.word_count * 16
    if size <= entry_limit(t.p) and t.word_count <= 0xffff:
        return 0
    return t.word_count * 16


cdef int reserve_entry(Txn* t, u64 size) noexcept nogil:
    cdef unsigned char* larger
    size = (size + LINE_SIZE - 1) // LINE_SIZE * LINE_SIZE
    if size > t.entry_capacity:
        larger = <unsigned char*>realloc(t.entry, size)
        if larger == NULL:
            return txn_fail(t, PMKV_NO_MEMORY)
        t.entry = larger
        t.entry_capacity = size
    return PMKV_OK


cdef inline u64 ring_place_of(const Pool* p, u64 position) noexcept nogil:
    return p.ring_place + position % ring_lines(p) * LINE_SIZE


cdef void ring_copy(Pool* p, u64 place, const unsigned char* entry, u64 size) noexcept nogil:
    """Whole lines; past the cache where they must leave it anyway."""
    if p.m.domain == PMKV_DOMAIN_PROCESS:
        pmkv_copy(&p.m, place, entry, size)
        pmkv_flush(&p.m, place, size, PMKV_FLUSH_ENTRY)
    else:
        pmkv_stream(&p.m, place, entry, size, PMKV_FLUSH_ENTRY)


cdef int ring_write(Pool* p, const unsigned char* entry, u64 size, u64 position) noexcept nogil:
    """Copies the entry to its place, in two parts where the ring ends; durable at the fence."""
    cdef u64 place = ring_place_of(p, position)
    cdef u64 first = min(size, p.ring_place + p.ring_size - place)
    if p.m.domain == PMKV_DOMAIN_PAGE:
        p.fault.os_error = pmkv_write_synced(&p.m, place, entry, first, PMKV_SYNC_COMMIT)
        if p.fault.os_error == 0 and size > first:
            p.fault.os_error = pmkv_write_synced(&p.m, p.ring_place, entry + first, size - first, PMKV_SYNC_COMMIT)
        return PMKV_OS_ERROR if p.fault.os_error else PMKV_OK
    ring_copy(p, place, entry, first)
    if size > first:
        ring_copy(p, p.ring_place, entry + first, size - first)
    return PMKV_OK


cdef void apply(Pool* p, const u64* places, const u64* words, size_t count) noexcept nogil:
    """Stores the words of a durable commit in place (R1), unflushed.

    A crash in the middle is safe: the entry is durable, and replay stores them all again.
    """
    cdef size_t i
    pmkv_atomic_store(&p.apply_sequence, p.apply_sequence + 1)
    for i in range(count):
        pmkv_store(&p.m, places[i], words[i])
    pmkv_atomic_store(&p.apply_sequence, p.apply_sequence + 1)


cdef inline u64 ring_word(const Pool* p, u64 start, u64 index) noexcept nogil:
    """Word `index` of the entry that begins `start` bytes behind the ring's start."""
    cdef u64 offset = start + index * 8
    return pmkv_load(&p.m, p.ring_place + (offset - p.ring_size if offset >= p.ring_size else offset))


cdef inline void flush_once(Pool* p, u64 place, u64* recent) noexcept nogil:
    """Flushes the word's line, unless this walk did so lately: some lines change with every commit."""
    cdef u64 line = place & ~<u64>(LINE_SIZE - 1)
    cdef u64* seen = &recent[(line // LINE_SIZE) % RECENT]
    if seen[0] != line:
        seen[0] = line
        pmkv_flush(&p.m, place, 8, PMKV_FLUSH_APPLY)


cdef u64 flush_entry(Pool* p, u64 position, u64* recent) noexcept nogil:
    """Flushes in place what an entry of ours says; where the next one is."""
    cdef u64 start = position % ring_lines(p) * LINE_SIZE, counts = ring_word(p, start, 2), word, i, size
    cdef u64 ranges = counts >> 32 & 0xffff, words = counts >> 48, at = sizeof(pmkv_entry) // 8
    cdef bint is_inline = (counts >> 16 & PMKV_ENTRY_INLINE) != 0
    size = sizeof(pmkv_entry) + ranges * 8 + words * 16
    for i in range(ranges if is_inline else 0):
        word = ring_word(p, start, at + i)
        size += (word >> 40) << GRANULE_SHIFT
        pmkv_flush(&p.m, (word & GRANULE_MASK) << GRANULE_SHIFT, (word >> 40) << GRANULE_SHIFT, PMKV_FLUSH_CARRIED)
    at += ranges
    for i in range(words):
        flush_once(p, ring_word(p, start, at + 2 * i), recent)
    return position + (size + LINE_SIZE - 1) // LINE_SIZE


cdef void flush_applied(Pool* p) noexcept nogil:
    """Flushes what was applied since the last checkpoint: the ring says what that is (D3)."""
    cdef u64 recent[RECENT]
    cdef u64 position = p.checkpoint
    if p.m.flush_op == 0 and p.m.tracer == NULL:
        return
    memset(recent, 0, sizeof(recent))
    while position < p.head:
        position = flush_entry(p, position, recent)


cdef int settle_data(Txn* t, bint indirect, bint* carried) noexcept nogil:
    """Data that the entry will not carry becomes durable, with all that was applied before (D4)."""
    cdef Pool* p = t.p
    cdef size_t i
    cdef u64 carried_max = CARRIED_MAX_PAGE if p.m.domain == PMKV_DOMAIN_PAGE else CARRIED_MAX
    carried[0] = (not indirect and t.spill_count == 0 and t.data_size <= carried_max
                  and (sizeof(pmkv_entry) + t.word_count * 16 + t.range_count * 8
                       + t.data_size <= entry_limit(p)))
    if carried[0] and not t.streamed:
        return PMKV_OK
    if p.m.domain == PMKV_DOMAIN_PAGE:
        p.fault.os_error = pmkv_sync_all(&p.m, PMKV_SYNC_DATA)
        if p.fault.os_error:
            p.failed = True
            return txn_fail(t, PMKV_OS_ERROR)
    else:
        flush_applied(p)
        for i in range(0 if carried[0] else t.range_count):
            pmkv_flush(&p.m, t.ranges[i].place, t.ranges[i].size, PMKV_FLUSH_DATA)
        pmkv_fence(&p.m, PMKV_FENCE_DATA)        # orders data, and what was applied, before the entry
    p.checkpoint = p.head
    return PMKV_OK


cdef inline u64 range_words(const Txn* t) noexcept nogil:
    return RANGE_WORDS if t.p.m.tracer == NULL else RANGE_WORDS_TRACED


cdef inline u64 indirect_ranges(const Txn* t) noexcept nogil:
    """How many ranges say where the words of a transaction lie that is larger than the ring."""
    return (t.word_count + range_words(t) - 1) // range_words(t)


cdef void name_words(const Txn* t, u64 place, u64* out) noexcept nogil:
    """Those ranges, neighbours all."""
    cdef u64 left = t.word_count, part
    while left:
        part = min(left, range_words(t))
        out[0] = place >> GRANULE_SHIFT | part << 40
        out += 1
        place += part * 16
        left -= part


cdef u64 compose(Txn* t, bint carried, u64 spare_place) noexcept nogil:
    """Puts the entry together in t.entry; its size, or 0 when out of memory."""
    cdef Pool* p = t.p
    cdef bint indirect = spare_place != 0
    cdef u64 size = sizeof(pmkv_entry), i
    cdef pmkv_entry* entry
    cdef u64* out
    cdef size_t ranges = indirect_ranges(t) if indirect else t.range_count if carried else 0
    cdef size_t words = 0 if indirect else t.word_count
    size += ranges * 8 + words * 16 + (t.data_size if carried else 0)
    if reserve_entry(t, size) != PMKV_OK:
        return 0
    entry = <pmkv_entry*>t.entry
    entry.position = t.commit
    entry.checkpoint_lag = <uint16_t>(t.commit - p.checkpoint)
    entry.flags = PMKV_ENTRY_INDIRECT if indirect else PMKV_ENTRY_INLINE
    entry.range_count = <uint16_t>ranges
    entry.word_count = <uint16_t>words
    entry.indirect_checksum = 0
    out = <u64*>(t.entry + sizeof(pmkv_entry))
    if indirect:
        name_words(t, spare_place, out)
        entry.indirect_checksum = pmkv_hash64(p.seed0, p.seed1, pmkv_at(&p.m, spare_place), t.word_count * 16)
    for i in range(t.range_count if carried else 0):
        out[i] = t.ranges[i].place >> GRANULE_SHIFT | (t.ranges[i].size >> GRANULE_SHIFT) << 40
    out += ranges
    for i in range(words):
        out[2 * i] = t.places[i]
        out[2 * i + 1] = t.words[i]
    out += 2 * words
    for i in range(t.range_count if carried else 0):
        memcpy(out, pmkv_at(&p.m, t.ranges[i].place), t.ranges[i].size)
        out = <u64*>(<char*>out + t.ranges[i].size)
    entry.checksum = pmkv_hash64(p.seed0, p.seed1, t.entry + 8, size - 8)
    return size


cdef void write_indirect(Txn* t, u64 place) noexcept nogil:
    """The words of a transaction larger than the ring, in free pages that nothing will use before
    the checkpoint behind this commit is on the medium.  settle_data makes them durable."""
    cdef Pool* p = t.p
    cdef u64 pair[2]
    cdef u64 i
    for i in range(t.word_count):
        pair[0] = t.places[i]
        pair[1] = t.words[i]
        pmkv_copy(&p.m, place + i * 16, pair, 16)
    pmkv_flush(&p.m, place, t.word_count * 16, PMKV_FLUSH_INDIRECT)


cdef int make_room(Pool* p, u64 lines) noexcept nogil:
    if p.head + lines - p.tail > ring_lines(p):
        return redo_checkpoint(p)                # D5
    return PMKV_OK


cdef int redo_commit(Txn* t, u64 spare_place, u64 spare_size) noexcept nogil:
    """Makes the transaction durable, then applies it.  OK means acknowledged.

    `spare_place` is free space of redo_indirect_size() bytes where that is not 0.  On an
    error nothing has happened, but for OS_ERROR of the entry's own sync: then that is
    unknown, as after a crash.  After any failed sync the pool refuses writes until it is
    opened again (`failed`).
    """
    cdef Pool* p = t.p
    cdef bint carried = False, indirect = spare_size != 0
    cdef u64 size, lines, i
    cdef int status
    if t.status != PMKV_OK:
        return t.status
    if t.word_count == 0:
        return PMKV_OK
    status = make_room(p, entry_limit(p) // LINE_SIZE + 1)
    if status == PMKV_OK:
        if indirect:
            write_indirect(t, spare_place)
        status = settle_data(t, indirect, &carried)
    if status != PMKV_OK:
        return status
    size = compose(t, carried, spare_place)
    if size == 0:
        return PMKV_NO_MEMORY
    lines = (size + LINE_SIZE - 1) // LINE_SIZE
    memset(t.entry + size, 0, lines * LINE_SIZE - size)
    status = ring_write(p, t.entry, lines * LINE_SIZE, t.commit)
    if status != PMKV_OK:
        p.failed = True
        return status
    pmkv_fence(&p.m, PMKV_FENCE_COMMIT)          # orders entry and data before the acknowledgement (R3)
    p.head += lines
    apply(p, t.places, t.words, t.word_count)
    if indirect:                                 # its words are not in the ring for flush_applied
        for i in range(t.word_count):
            pmkv_flush(&p.m, t.places[i], 8, PMKV_FLUSH_APPLY)
    if indirect or p.head - p.tail > p.window:
        # The commit is done whatever becomes of this: a failing disk shows at the next commit.
        redo_checkpoint(p)
    return PMKV_OK


cdef int redo_checkpoint(Pool* p) noexcept nogil:
    """Everything applied so far becomes durable, and the ring can be used from here on."""
    if p.failed:                 # a later sync may succeed without what the failed one lost
        return PMKV_OS_ERROR
    if p.tail == p.head:
        return PMKV_OK
    if p.m.domain == PMKV_DOMAIN_PAGE:
        p.fault.os_error = pmkv_sync_all(&p.m, PMKV_SYNC_CHECKPOINT)
        if p.fault.os_error == 0:
            p.checkpoint = p.head
            pmkv_store(&p.m, ROOT_CHECKPOINT, pmkv_seal(p.head))
            p.fault.os_error = pmkv_sync_all(&p.m, PMKV_SYNC_CHECKPOINT_DONE)
        if p.fault.os_error:
            p.failed = True      # the kernel reports lost writes once: nothing may rely on them later
            return PMKV_OS_ERROR
    else:
        flush_applied(p)
        pmkv_fence(&p.m, PMKV_FENCE_CHECKPOINT)        # orders what was applied before the checkpoint
        p.checkpoint = p.head
        pmkv_store(&p.m, ROOT_CHECKPOINT, pmkv_seal(p.head))
        pmkv_flush(&p.m, ROOT_CHECKPOINT, 8, PMKV_FLUSH_CHECKPOINT)
        pmkv_fence(&p.m, PMKV_FENCE_CHECKPOINT_DONE)   # orders the checkpoint before reuse of the ring
    p.tail = p.head
    return PMKV_OK


# ---- replay ---------------------------------------------------------------------------------------

cdef void ring_read(const Pool* p, void* out, u64 position, u64 skip, u64 size) noexcept nogil:
    """Copies `size` bytes of the entry at `position`, from its byte `skip` on."""
    cdef u64 offset = (position % ring_lines(p) * LINE_SIZE + skip) % p.ring_size
    cdef u64 first = min(size, p.ring_size - offset)
    memcpy(out, pmkv_at(&p.m, p.ring_place + offset), first)
    if size > first:
        memcpy(<char*>out + first, pmkv_at(&p.m, p.ring_place), size - first)


cdef bint place_is_sane(const Pool* p, u64 place, u64 size) noexcept nogil:
    cdef u64 end
    if place & DESCRIPTOR_SPACE:
        place ^= DESCRIPTOR_SPACE
        end = p.file_pages * 64
    else:
        end = page_place(p, p.file_pages)
        if place < PAGE_SIZE or PAGE_SIZE * 2 <= place < p.header_size:
            return False
    return place % 8 == 0 and place <= end and size <= end - place


cdef u64 read_entry(Pool* p, u64 position, unsigned char* buffer) noexcept nogil:
    """The valid entry at the position, whole, into `buffer` (ring_size bytes); its size, or 0."""
    cdef pmkv_entry* entry = <pmkv_entry*>buffer
    cdef u64 size, i, range_word
    ring_read(p, buffer, position, 0, sizeof(pmkv_entry))
    if not pmkv_check(&p.m, PMKV_CHECK_POSITION, entry.position == position):
        return 0
    size = sizeof(pmkv_entry) + <u64>entry.range_count * 8 + <u64>entry.word_count * 16
    if size > p.ring_size:
        return 0
    ring_read(p, buffer, position, 0, size)
    if entry.flags & PMKV_ENTRY_INLINE:
        for i in range(entry.range_count):
            range_word = (<u64*>(buffer + sizeof(pmkv_entry)))[i]
            size += (range_word >> 40) << GRANULE_SHIFT
            if size > p.ring_size:
                return 0
        ring_read(p, buffer, position, 0, size)
    if not pmkv_check(&p.m, PMKV_CHECK_ENTRY,
                      entry.checksum == pmkv_hash64(p.seed0, p.seed1, buffer + 8, size - 8)):
        return 0
    return size


cdef int replay_words(Pool* p, const u64* pairs, u64 count) noexcept nogil:
    cdef u64 i, place
    for i in range(count):
        place = pairs[2 * i]
        if not place_is_sane(p, place, 8):
            return corrupted(p, PMKV_CHECK_ENTRY, place)
        if pmkv_load(&p.m, place) != pairs[2 * i + 1]:
            pmkv_store(&p.m, place, pairs[2 * i + 1])
        # Flushed even if it is there already: a killed process may have left it in a cache.
        pmkv_flush(&p.m, place, 8, PMKV_FLUSH_REPLAY)
    return PMKV_OK


cdef int replay_indirect(Pool* p, const pmkv_entry* entry, const u64* ranges) noexcept nogil:
    """Stores the words that lie in pages beside the ring: in ranges that follow one another."""
    cdef u64 place = (ranges[0] & GRANULE_MASK) << GRANULE_SHIFT if entry.range_count else 0, size = 0, i
    for i in range(entry.range_count):
        if (ranges[i] & GRANULE_MASK) << GRANULE_SHIFT != place + size:
            return corrupted(p, PMKV_CHECK_INDIRECT, place)
        size += (ranges[i] >> 40) << GRANULE_SHIFT
    if size == 0 or not place_is_sane(p, place, size) or not pmkv_check(
            &p.m, PMKV_CHECK_INDIRECT,
            entry.indirect_checksum == pmkv_hash64(p.seed0, p.seed1, pmkv_at(&p.m, place), size)):
        return corrupted(p, PMKV_CHECK_INDIRECT, place)
    return replay_words(p, <u64*>pmkv_at(&p.m, place), size // 16)


cdef int replay_entry(Pool* p, const unsigned char* buffer) noexcept nogil:
    """Stores again what the entry says.  Idempotent: it may have happened before, or in part."""
    cdef pmkv_entry* entry = <pmkv_entry*>buffer
    cdef u64* ranges = <u64*>(buffer + sizeof(pmkv_entry))
    cdef u64* pairs = ranges + entry.range_count
    cdef const char* data
    cdef u64 i, place, size
    if entry.flags & PMKV_ENTRY_INDIRECT:
        return replay_indirect(p, entry, ranges)
    if entry.flags & PMKV_ENTRY_INLINE:
        data = <const char*>(pairs + 2 * entry.word_count)
        for i in range(entry.range_count):
            place = (ranges[i] & GRANULE_MASK) << GRANULE_SHIFT
            size = (ranges[i] >> 40) << GRANULE_SHIFT
            if not place_is_sane(p, place, size):
                return corrupted(p, PMKV_CHECK_ENTRY, place)
            pmkv_copy(&p.m, place, data, size)
            pmkv_flush(&p.m, place, size, PMKV_FLUSH_REPLAY)
            data += size
    return replay_words(p, pairs, entry.word_count)


cdef u64 find_end(Pool* p, u64 start, unsigned char* buffer, u64* replay_from) noexcept nogil:
    """Walks the log from `start`; where it ends, and where the last entry says that replay begins."""
    cdef u64 position = start, size
    replay_from[0] = start
    while position - start < ring_lines(p):
        size = read_entry(p, position, buffer)
        if size == 0:
            break
        replay_from[0] = max(start, position - (<pmkv_entry*>buffer).checkpoint_lag)
        position += (size + LINE_SIZE - 1) // LINE_SIZE
    return position


cdef int finish_replay(Pool* p, u64 end, bint moved) noexcept nogil:
    """The checkpoint moves to the end of the log, and nothing torn is left there (D6)."""
    cdef u64 at_end = ring_place_of(p, end)       # the checksum word of an entry there
    if not moved and pmkv_load(&p.m, at_end) == 0:
        return PMKV_OK
    if p.m.domain == PMKV_DOMAIN_PAGE:
        p.fault.os_error = pmkv_sync_all(&p.m, PMKV_SYNC_REPLAY) if p.writable else 0
    else:
        pmkv_fence(&p.m, PMKV_FENCE_REPLAY)       # orders replayed words before the checkpoint
    pmkv_store(&p.m, ROOT_CHECKPOINT, pmkv_seal(end))
    pmkv_store(&p.m, at_end, 0)
    pmkv_flush(&p.m, ROOT_CHECKPOINT, 8, PMKV_FLUSH_CHECKPOINT)
    pmkv_flush(&p.m, at_end, 8, PMKV_FLUSH_RING_END)
    if p.m.domain == PMKV_DOMAIN_PAGE:
        if p.fault.os_error == 0 and p.writable:
            p.fault.os_error = pmkv_sync_all(&p.m, PMKV_SYNC_RECOVERED)
        return PMKV_OS_ERROR if p.fault.os_error else PMKV_OK
    pmkv_fence(&p.m, PMKV_FENCE_RECOVERED)        # orders the end of recovery before new commits
    return PMKV_OK


cdef int redo_replay(Pool* p, u64* replayed) noexcept nogil:
    """What opening does: the pool is as its last durable commit left it.

    Bounded by the ring.  May be interrupted anywhere and run again.  `replayed` counts
    the entries.  file_pages must be what the file has room for.
    """
    cdef unsigned char* buffer
    cdef u64 start, end, position, size
    cdef int status = unseal(p, ROOT_CHECKPOINT, pmkv_load(&p.m, ROOT_CHECKPOINT), &start)
    replayed[0] = 0
    if status != PMKV_OK:
        return status
    if start == 0:
        return corrupted(p, PMKV_CHECK_SEAL, ROOT_CHECKPOINT)
    buffer = <unsigned char*>malloc(p.ring_size + LINE_SIZE)
    if buffer == NULL:
        return PMKV_NO_MEMORY
    end = find_end(p, start, buffer, &position)
    while position < end and status == PMKV_OK:
        size = read_entry(p, position, buffer)
        if size == 0:
            status = corrupted(p, PMKV_CHECK_ENTRY, ring_place_of(p, position))
            break
        status = replay_entry(p, buffer)
        position += (size + LINE_SIZE - 1) // LINE_SIZE
        replayed[0] += 1
    free(buffer)
    if status == PMKV_OK:
        status = finish_replay(p, end, end != start)
    p.head = p.checkpoint = p.tail = end
    return status
