"""_records.pyx (L3): records: written once, read in place, never changed.

May know: blocks, runs of pages.  Not how a record is found.

    body   | header 24 | key | value |                   up to a page: in a block
    body   | header 24 | key | extent reference 16 |     and the value in pages of its own

A value under a codec has a word more, its coding, behind the key: | raw size 4 | stages 4 |.  A
record that may expire has a word behind its body, at the next multiple of 8: the time, sealed.
A body larger than a page (a very long key) lies in an extent itself.  The CRC32C in the
header covers the rest of the body; a value in an extent has its own, in the reference.

Invariants
  C1. A record is immutable from the commit that publishes it until the one that frees it; but for
      the time when it expires, which later commits may put off.
  C2. Nothing read from a record is believed before its bounds are known to be inside the pool.
"""
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from pmkv._blocks cimport (
    block_allocate, block_allocate_below, block_allocate_some, block_free, block_must_move, record_class,
)
from pmkv._core cimport *
from pmkv._pages cimport (
    Head, descriptor_log, descriptor_read, page_is_high, pages_allocate, pages_fit_below, pages_free,
)
from pmkv._pool cimport Pool, corrupted, descriptor_place, page_place, place_page
from pmkv._writeset cimport Txn, txn_data, txn_fail, txn_read, txn_stream

cdef extern from "crc32c_long.h" nogil:
    uint32_t pmkv_crc_update_long(uint32_t crc, const void* data, size_t n)

cdef enum:
    HEADER = RECORD_HEADER
    REFERENCE = sizeof(pmkv_extent_reference)
    CODING = 8
    PAGE = 4096
    PART = 3072                   # what crc32c_long.h takes at once
    OWNER_WORD = 2


cdef uint32_t crc32c(const void* data, u64 size) noexcept nogil:
    return ~pmkv_crc_update_long(~<uint32_t>0, data, size)


# ---- reading ---------------------------------------------------------------------------

cdef inline u64 expiry_at(u64 body_size) noexcept nogil:
    """Where the word of expiry is, from the record's start."""
    return (body_size + 7) & ~<u64>7


cdef inline u64 coding_size(const Record* r) noexcept nogil:
    return CODING if r.flags >= RECORD_CODED else 0


cdef inline int last_stage(u64 coding) noexcept nogil:
    """0: there is none, or a gap before it."""
    cdef u64 stages = coding >> 32
    while stages > 0xFF and stages & 0xFF:
        stages >>= 8
    return <int>stages if stages <= 0xFF else 0


cdef int record_parse_flags(Pool* p, u64 place, Record* r) noexcept nogil:
    """The rest of record_parse for a record that has flags, or a codec."""
    cdef u64 end = page_place(p, p.file_pages)
    r.value += coding_size(r)
    r.body_size = HEADER + r.key_size + coding_size(r) + (
        REFERENCE if r.flags & PMKV_RECORD_EXTENT else r.value_size)
    r.room, r.expiry_place, r.extent_place = r.body_size, 0, 0
    if r.flags & PMKV_RECORD_EXPIRY:
        r.expiry_place = place + expiry_at(r.body_size)
        r.room = expiry_at(r.body_size) + 8
    if (r.flags & 0xFF & ~(PMKV_RECORD_EXTENT | PMKV_RECORD_EXPIRY) or r.room > end - place
            or r.flags >> 8 != last_stage(record_coding(r))):
        return corrupted(p, PMKV_CHECK_RECORD, place)
    return parse_reference(p, place, end, r) if r.flags & PMKV_RECORD_EXTENT else PMKV_OK


cdef int parse_reference(Pool* p, u64 place, u64 end, Record* r) noexcept nogil:
    cdef pmkv_extent_reference reference
    memcpy(&reference, r.value, REFERENCE)
    if (reference.place < p.header_size or (reference.place - p.header_size) % PAGE_SIZE
            or reference.place > end or r.value_size > end - reference.place):
        return corrupted(p, PMKV_CHECK_RECORD, place)
    r.extent_place = reference.place
    r.value_crc = reference.crc
    r.value = <const char*>pmkv_at(&p.m, reference.place)
    return PMKV_OK


cdef bint record_long_body_is_whole(const Pool* p, const Record* r) noexcept nogil:
    cdef const pmkv_record* header = <const pmkv_record*>pmkv_at(&p.m, r.place)
    return pmkv_check(&p.m, PMKV_CHECK_RECORD, header.crc == crc32c(<const char*>header + 4, r.body_size - 4))


cdef bint record_value_is_whole(const Pool* p, const Record* r) noexcept nogil:
    return r.extent_place == 0 or pmkv_check(&p.m, PMKV_CHECK_VALUE, r.value_crc == crc32c(r.value, r.value_size))


cdef int record_verify(Pool* p, const Record* r) noexcept nogil:
    """Tests every byte that a reader of the value relies on."""
    if not record_body_is_whole(p, r):
        return corrupted(p, PMKV_CHECK_RECORD, r.place)
    if not record_value_is_whole(p, r):
        return corrupted(p, PMKV_CHECK_VALUE, r.extent_place)
    return PMKV_OK


# ---- writing ---------------------------------------------------------------------------------

cdef inline u64 pages_for(u64 size) noexcept nogil:
    return (size + PAGE_SIZE - 1) // PAGE_SIZE


cdef int write_extent(Txn* t, const char* src, u64 size, bint may_change, u64* place, uint32_t* crc) noexcept nogil:
    """Streams the bytes into pages of their own; each part is hashed and stored while the next is fetched.

    Of a buffer that may change meanwhile, what is hashed and what is stored are one copy.
    """
    cdef char copied[PART]
    cdef const char* whole
    cdef u64 page, at = 0, part, line
    cdef uint32_t state = ~<uint32_t>0
    if pages_allocate(t, pages_for(size), PMKV_PAGE_EXTENT, 0, &page) != PMKV_OK:
        return t.status
    place[0] = page_place(t.p, page)
    while at < size:
        part = min(size - at, <u64>PART)
        line = at + part
        while line < min(size, at + 2 * part):
            pmkv_prefetch(src + line)
            line += LINE_SIZE
        whole = src + at
        if may_change:
            memcpy(copied, whole, part)
            whole = copied
        state = pmkv_crc_update_long(state, whole, part)
        txn_stream(t, place[0] + at, whole, part)
        at += part
    crc[0] = ~state
    return t.status


cdef inline int own_extent(Txn* t, u64 extent_place, u64 record_place) noexcept nogil:
    return descriptor_log(t, place_page(t.p, extent_place), OWNER_WORD, record_place)


cdef void fill_body(Txn* t, u64 namespace_id, char* body, u64 size, const Item* item,
                    const pmkv_extent_reference* reference) noexcept nogil:
    """`size` bytes of body, zeros behind it up to a granule, and the word of expiry if there is one."""
    cdef pmkv_record* header = <pmkv_record*>body
    cdef char* behind = body + HEADER + item.key_size
    memset(body + size, 0, ((size + (8 if item.expiry else 0) + 15) & ~<u64>15) - size)
    header.flags = (PMKV_RECORD_EXTENT if reference != NULL else 0) | (PMKV_RECORD_EXPIRY if item.expiry else 0)
    header.codec = last_stage(item.coding)
    header.namespace_id = <uint16_t>namespace_id
    header.commit = t.commit
    header.key_size = <uint32_t>item.key_size
    header.value_size = <uint32_t>item.value_size
    memcpy(body + HEADER, item.key, item.key_size)
    if item.coding:
        memcpy(behind, &item.coding, CODING)
        behind += CODING
    if reference != NULL:
        memcpy(behind, reference, REFERENCE)
    else:
        memcpy(behind, item.value, item.value_size)
    header.crc = crc32c(body + 4, size - 4)
    if item.expiry:
        (<u64*>(body + expiry_at(size)))[0] = pmkv_seal(item.expiry)


cdef inline u64 body_size_of(const Item* item, bint* extent) noexcept nogil:
    """`extent`: the value goes into pages of its own."""
    cdef u64 before_value = HEADER + item.key_size + (CODING if item.coding else 0)
    cdef u64 size = before_value + item.value_size, word = 8 if item.expiry else 0
    extent[0] = expiry_at(size) + word > PAGE_SIZE and (
        item.value_size + word > PAGE_SIZE or expiry_at(before_value + REFERENCE) + word <= PAGE_SIZE)
    return before_value + REFERENCE if extent[0] else size


cdef inline u64 room_of(const Item* item, u64 body_size) noexcept nogil:
    return expiry_at(body_size) + 8 if item.expiry else body_size


cdef int record_allocate_all(Txn* t, const Item* items, u64 count, u64* places) noexcept nogil:
    """Room for the bodies of records that will be written all: side by side, where they fit blocks.

    At most 64 at once.  A place is 0 if the body will lie in pages of its own.
    """
    cdef u64 sizes[64]
    cdef u64 first = 0, end
    cdef int block_class
    cdef bint extent
    for end in range(count):
        sizes[end] = room_of(&items[end], body_size_of(&items[end], &extent))
        places[end] = 0
    while first < count and t.status == PMKV_OK:
        if sizes[first] > PAGE_SIZE:
            first += 1
            continue
        block_class = record_class(sizes[first])
        end = first + 1
        while end < count and sizes[end] <= PAGE_SIZE and (
                sizes[end] == sizes[end - 1] or record_class(sizes[end]) == block_class):
            end += 1
        first += block_allocate_some(t, block_class, &sizes[first], end - first, &places[first])
    return t.status


cdef int record_write(Txn* t, u64 namespace_id, const Item* item, u64* place) noexcept nogil:
    """Builds a record in free space; the caller publishes its place."""
    place[0] = 0
    return record_write_at(t, namespace_id, item, place)


cdef int record_write_at(Txn* t, u64 namespace_id, const Item* item, u64* place) noexcept nogil:
    """The same, at a place that record_allocate_all found, or 0."""
    cdef char small[PAGE + 16]
    cdef char* body = small
    cdef pmkv_extent_reference reference
    cdef pmkv_extent_reference* used = NULL
    cdef uint32_t body_crc
    cdef bint extent
    cdef u64 size = body_size_of(item, &extent), room = room_of(item, size)
    if t.status != PMKV_OK:
        return t.status
    if extent:
        used = &reference
        memset(used, 0, REFERENCE)
        if write_extent(t, item.value, item.value_size, item.may_change, &reference.place,
                        &reference.crc) != PMKV_OK:
            return t.status
    if room <= PAGE_SIZE:
        if place[0] == 0 and block_allocate(t, record_class(room), room, place) != PMKV_OK:
            return t.status
        fill_body(t, namespace_id, body, size, item, used)
        txn_data(t, place[0], body, (room + GRANULE_SIZE - 1) & ~(GRANULE_SIZE - 1))
    else:
        body = <char*>malloc(room + 2 * GRANULE_SIZE)
        if body == NULL:
            return txn_fail(t, PMKV_NO_MEMORY)
        fill_body(t, namespace_id, body, size, item, used)
        if write_extent(t, body, room, False, place, &body_crc) == PMKV_OK:
            own_extent(t, place[0], place[0])
        free(body)
    if used != NULL and t.status == PMKV_OK:
        own_extent(t, reference.place, place[0])
    return t.status


# ---- freeing --------------------------------------------------------------------------------------

cdef int free_extent(Txn* t, u64 place, u64 size, u64 owner) noexcept nogil:
    cdef u64 page = place_page(t.p, place)
    cdef Head head
    if descriptor_read(t, page, &head) != PMKV_OK:
        return t.status
    if (head.kind != PMKV_PAGE_EXTENT or head.page_count != pages_for(size)
            or txn_read(t, descriptor_place(page) + OWNER_WORD * 8) != owner):
        return txn_fail(t, corrupted(t.p, PMKV_CHECK_DESCRIPTOR, descriptor_place(page)))
    return pages_free(t, page, head.page_count)


cdef int parse_whole(Txn* t, u64 place, Record* r) noexcept nogil:
    """The record, tested: its sizes would free what is not its own."""
    cdef int status = record_parse(t.p, place, r)
    if status == PMKV_OK and not record_body_is_whole(t.p, r):
        status = corrupted(t.p, PMKV_CHECK_RECORD, place)
    return status if status == PMKV_OK else txn_fail(t, status)


cdef int free_body(Txn* t, const Record* r) noexcept nogil:
    if r.room > PAGE_SIZE:
        return free_extent(t, r.place, r.room, r.place)
    return block_free(t, r.place, r.room)


cdef int record_free(Txn* t, u64 place) noexcept nogil:
    """Gives back what the record occupies; called when the transaction allocates no more."""
    cdef Record r
    if parse_whole(t, place, &r) != PMKV_OK:
        return t.status
    if r.extent_place and free_extent(t, r.extent_place, r.value_size, place) != PMKV_OK:
        return t.status
    return free_body(t, &r)


cdef int record_free_body(Txn* t, u64 place) noexcept nogil:
    """The same, but the value's extent has another owner by now."""
    cdef Record r
    return free_body(t, &r) if parse_whole(t, place, &r) == PMKV_OK else t.status


# ---- moving ------------------------------------------------------------------------------------------

cdef int place_body(Txn* t, const char* body, u64 size, bint below, u64* place) noexcept nogil:
    """Builds the body, with a word of expiry if there is one, in free space.

    Below the ceiling: NOT_FOUND if there is no room.
    """
    cdef uint32_t crc
    cdef u64 padded = (size + GRANULE_SIZE - 1) & ~(GRANULE_SIZE - 1)
    cdef int status
    if size > PAGE_SIZE:
        if below and not pages_fit_below(t, pages_for(size)):
            return PMKV_NOT_FOUND if t.status == PMKV_OK else t.status
        if write_extent(t, body, size, False, place, &crc) == PMKV_OK:
            own_extent(t, place[0], place[0])
        return t.status
    if below:
        status = block_allocate_below(t, record_class(size), size, place)
    else:
        status = block_allocate(t, record_class(size), size, place)
    return txn_data(t, place[0], body, padded) if status == PMKV_OK else status


cdef int rewrite(Txn* t, const Record* r, const u64* instead, bint below, u64* place) noexcept nogil:
    """The body once more, in free space; the eight bytes where its value begins may be others."""
    cdef char small[PAGE]
    cdef char* body = small
    cdef u64 padded = (r.room + GRANULE_SIZE - 1) & ~(GRANULE_SIZE - 1)
    cdef int status
    if padded > PAGE_SIZE:
        body = <char*>malloc(padded)
        if body == NULL:
            return txn_fail(t, PMKV_NO_MEMORY)
    memcpy(body, pmkv_at(&t.p.m, r.place), padded if padded <= PAGE_SIZE else r.room)
    if instead != NULL:
        memcpy(body + HEADER + r.key_size + coding_size(r), instead, 8)
        (<pmkv_record*>body).crc = crc32c(body + 4, r.body_size - 4)
    status = place_body(t, body, r.room, below, place)
    if padded > PAGE_SIZE:
        free(body)
    return status


cdef int copy_extent(Txn* t, const Record* r, u64* place) noexcept nogil:
    """The value once more, in free pages; damage is not passed on as if it were whole."""
    cdef uint32_t crc
    if write_extent(t, r.value, r.value_size, False, place, &crc) == PMKV_OK and crc != r.value_crc:
        txn_fail(t, corrupted(t.p, PMKV_CHECK_VALUE, r.extent_place))
    return t.status


cdef bint body_must_move(Txn* t, const Record* r) noexcept nogil:
    if r.room > PAGE_SIZE:
        return page_is_high(t.p, place_page(t.p, r.place))
    return block_must_move(t, r.place)


cdef int record_move(Txn* t, const Record* r, u64* place, bint* keeps_extent) noexcept nogil:
    """Builds the record anew where compaction wants it, byte for byte but for the place of its extent.

    EXISTS if it lies well; NOT_FOUND if there is no room.  Either leaves nothing behind.  `keeps_extent`: the
    extent stays, and belongs to the new one.  The caller publishes the one and retires the other.
    """
    cdef bint high_value = r.extent_place != 0 and page_is_high(t.p, place_page(t.p, r.extent_place))
    cdef bint value = high_value and pages_fit_below(t, pages_for(r.value_size))
    cdef bint body = body_must_move(t, r)
    cdef u64 extent = r.extent_place
    cdef int status
    if t.status != PMKV_OK:
        return t.status
    if not body and not value:
        return PMKV_NOT_FOUND if high_value else PMKV_EXISTS
    if not record_body_is_whole(t.p, r):
        return txn_fail(t, corrupted(t.p, PMKV_CHECK_RECORD, r.place))
    if value and copy_extent(t, r, &extent) != PMKV_OK:
        return t.status
    # With a value that has moved already there is no way back: its body goes where there is room.
    status = rewrite(t, r, &extent if value else NULL, not value, place)
    keeps_extent[0] = not value
    if status == PMKV_OK and extent:
        own_extent(t, extent, place[0])
    return status


cdef int record_redirect(Txn* t, const Record* r, u64 to, u64* place) noexcept nogil:
    """Builds the record anew with another place as its value, which has eight bytes."""
    if not record_body_is_whole(t.p, r):
        return txn_fail(t, corrupted(t.p, PMKV_CHECK_RECORD, r.place))
    return rewrite(t, r, &to, False, place)
