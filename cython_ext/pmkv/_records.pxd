"""_records.pxd (L3): a key with its value, as stored."""
from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memcmp, memcpy
from pmkv._core cimport (
    LINE_SIZE, PMKV_CHECK_RECORD, PMKV_OK, pmkv_at, pmkv_check, pmkv_crc_update, pmkv_prefetch, pmkv_record, u64,
)
from pmkv._pool cimport Pool, corrupted, page_place
from pmkv._writeset cimport Txn

# A key and a value that are to be stored, as the caller's memory has them.
cdef struct Item:
    const char* key
    u64 key_size
    const char* value
    u64 value_size
    u64 coding               # of a value under a codec: its raw size and stages (layout.h), 0: plain
    bint may_change          # the value lies in a buffer that another thread may store into
    u64 expiry               # when it expires, microseconds since 1970; 0: never

cdef struct Record:
    u64 place
    u64 body_size                # header, key, coding, and value or extent reference
    u64 room                     # that, and the word of expiry behind it if there is one
    u64 expiry_place             # of that word, 0: it does not expire
    int flags                    # and, in bits 8 to 15, the codec
    const char* key
    u64 key_size
    const char* value
    u64 value_size
    u64 extent_place             # 0: the value is in the body
    uint32_t value_crc           # of a value in an extent

# What compaction has done.
cdef struct Tally:
    u64 moved
    u64 stuck                    # wanted elsewhere, and there was no room

cdef enum:
    RECORD_HEADER = sizeof(pmkv_record)
    RECORD_CODED = 0x100         # Record.flags from here on: there is a codec
    CRC_SHORT = 3 * 1024         # three streams do not pay below

cdef inline void record_prefetch(const Pool* p, u64 place) noexcept nogil:
    """The lines of a small record miss together, not one after the other."""
    cdef const char* lines = <const char*>pmkv_at(&p.m, place)
    pmkv_prefetch(lines)
    pmkv_prefetch(lines + LINE_SIZE)
    pmkv_prefetch(lines + 2 * LINE_SIZE)

cdef int record_parse_flags(Pool* p, u64 place, Record* r) noexcept nogil
cdef bint record_long_body_is_whole(const Pool* p, const Record* r) noexcept nogil

# These two are inline: between a record's arrival from memory and the next key's request there
# must be few enough instructions for the processor to look ahead over them all.

cdef inline int record_parse(Pool* p, u64 place, Record* r) noexcept nogil:
    """Fills `r` from the record at `place`; CORRUPTED if it cannot be one (C2)."""
    cdef u64 end = page_place(p, p.file_pages)
    cdef const pmkv_record* header
    if place < p.header_size or place + RECORD_HEADER > end:
        return corrupted(p, PMKV_CHECK_RECORD, place)
    header = <const pmkv_record*>pmkv_at(&p.m, place)
    r.place = place
    r.flags = (<const uint16_t*>&header.flags)[0]     # with the codec: one test for both
    r.key = <const char*>header + RECORD_HEADER
    r.key_size = header.key_size
    r.value_size = header.value_size
    r.value = r.key + r.key_size
    if r.flags:
        return record_parse_flags(p, place, r)
    r.body_size = r.room = RECORD_HEADER + r.key_size + r.value_size
    r.extent_place = r.expiry_place = 0
    return PMKV_OK if r.body_size <= end - place else corrupted(p, PMKV_CHECK_RECORD, place)

cdef inline bint same_bytes(const char* a, const char* b, u64 size) noexcept nogil:
    """memcmp() == 0, inline for keys of 8 to 16 bytes."""
    cdef const u64* x = <const u64*>a
    cdef const u64* y = <const u64*>b
    if size < 8 or size > 16:
        return memcmp(a, b, size) == 0
    return ((x[0] ^ y[0]) | ((<const u64*>(a + size - 8))[0] ^ (<const u64*>(b + size - 8))[0])) == 0

cdef inline u64 record_commit(const Record* r) noexcept nogil:
    """The number of the commit that wrote it."""
    return (<const pmkv_record*>(r.key - RECORD_HEADER)).commit

cdef inline u64 record_coding(const Record* r) noexcept nogil:
    """The word of a value under a codec: its raw size and stages; 0: plain."""
    cdef u64 word = 0
    if r.flags >= RECORD_CODED:
        memcpy(&word, r.key + r.key_size, 8)
    return word

cdef inline u64 record_namespace(const Record* r) noexcept nogil:
    """The id of its namespace."""
    return (<const pmkv_record*>(r.key - RECORD_HEADER)).namespace_id

cdef inline bint record_body_is_whole(const Pool* p, const Record* r) noexcept nogil:
    cdef const pmkv_record* header = <const pmkv_record*>(r.key - RECORD_HEADER)
    if r.body_size > CRC_SHORT:
        return record_long_body_is_whole(p, r)
    return pmkv_check(&p.m, PMKV_CHECK_RECORD,
                      header.crc == ~pmkv_crc_update(~<uint32_t>0, <const char*>header + 4, r.body_size - 4))

cdef bint record_value_is_whole(const Pool* p, const Record* r) noexcept nogil
cdef int record_verify(Pool* p, const Record* r) noexcept nogil
cdef int record_write(Txn* t, u64 namespace_id, const Item* item, u64* place) noexcept nogil
cdef int record_allocate_all(Txn* t, const Item* items, u64 count, u64* places) noexcept nogil
cdef int record_write_at(Txn* t, u64 namespace_id, const Item* item, u64* place) noexcept nogil
cdef int record_free(Txn* t, u64 place) noexcept nogil
cdef int record_free_body(Txn* t, u64 place) noexcept nogil
cdef int record_move(Txn* t, const Record* r, u64* place, bint* keeps_extent) noexcept nogil
cdef int record_redirect(Txn* t, const Record* r, u64 to, u64* place) noexcept nogil
cdef uint32_t crc32c(const void* data, u64 size) noexcept nogil
