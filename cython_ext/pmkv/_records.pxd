"""_records.pxd (L3): a key with its value, as stored."""
from libc.stdint cimport uint16_t, uint32_t
from pmkv._core cimport u64
from pmkv._pool cimport Pool
from pmkv._redo cimport Txn

cdef struct Record:
    u64 place
    u64 body_size                # header, key, and value or extent reference
    u64 commit
    int flags
    int codec
    const char* key
    u64 key_size
    const char* value
    u64 value_size
    u64 extent_place             # 0: the value is in the body
    uint32_t value_crc           # of a value in an extent

cdef int record_parse(Pool* p, u64 place, Record* r) noexcept nogil
cdef bint record_body_is_whole(const Pool* p, const Record* r) noexcept nogil
cdef bint record_value_is_whole(const Pool* p, const Record* r) noexcept nogil
cdef int record_verify(Pool* p, const Record* r) noexcept nogil
cdef int record_write(Txn* t, const char* key, u64 key_size, const char* value, u64 value_size,
                      bint may_change, u64* place) noexcept nogil
cdef int record_free(Txn* t, u64 place) noexcept nogil
cdef uint32_t crc32c(const void* data, u64 size) noexcept nogil
