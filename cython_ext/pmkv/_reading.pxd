"""_reading.pxd (L6): a namespace as Python sees it, as far as it is read."""
from cython cimport final
from pmkv._arguments cimport Bytes
from pmkv._buffer cimport Dirty
from pmkv._core cimport u64
from pmkv._engine cimport Engine, Moment
from pmkv._pool cimport Pool
from pmkv._records cimport Record
from pmkv._writeset cimport Txn

cdef extern from "recycle.h":
    ctypedef struct pmkv_spares:
        pass
    object pmkv_bytes(pmkv_spares* s, const char* data, Py_ssize_t size)
    void pmkv_spares_clear(pmkv_spares* s)

cdef enum VerifyMode:
    VERIFY_NOTHING, VERIFY_READS, VERIFY_VIEWS

cdef enum Shows:                  # what an iterator gives
    SHOW_KEYS, SHOW_VALUES, SHOW_ITEMS

cdef class Reader:
    cdef Engine e
    cdef Pool* pool
    cdef Txn* t                   # of the transaction that it belongs to, or NULL
    cdef object owner             # that transaction
    cdef Moment moment            # that it is read at, of a snapshot; or None
    cdef u64 as_of                # its number, else 0
    cdef bint plain               # neither of the two
    cdef u64 namespace            # place of its root
    cdef u64 id
    cdef u64 mapping
    cdef VerifyMode verify
    cdef bint keys_are_str
    cdef object dumps             # what makes bytes of values, and values of bytes; None: they are bytes
    cdef object loads
    cdef object coder             # what decodes values under codecs
    cdef object encoder           # the same object, if new values go under a codec; else None
    cdef bint raw                 # values are shown as they are stored
    cdef bint ordered
    cdef bint gone                # its namespace was dropped: nothing may touch its root
    cdef void* next_named         # of the engine's list
    cdef void* prev_named
    cdef pmkv_spares key_spares
    cdef pmkv_spares value_spares
    cdef object __weakref__

    @final
    cdef void attach(self, Engine e, u64 namespace, VerifyMode verify, Txn* t, object owner)
    @final
    cdef int look_back(self, Moment moment) except -1
    @final
    cdef int refuse_past(self) except -1
    @final
    cdef int let_others_run(self) except -1
    @final
    cdef Moment reading_at(self)
    @final
    cdef bint is_past(self) noexcept
    @final
    cdef u64 now(self) noexcept
    @final
    cdef bint has_expired(self, const Record* r, u64 now) except -1
    @final
    cdef u64 expired_keys(self) except? 0
    @final
    cdef u64 expired_versions(self) except? 0
    @final
    cdef u64 entry_word(self) noexcept
    @final
    cdef int need_reader(self) except -1
    @final
    cdef object shown(self, Shows shows, const Record* r)
    @final
    cdef int need_table(self) except -1
    @final
    cdef u64 entries(self) except? 0
    @final
    cdef int need_possible(self, u64 count, u64 place) except -1
    @final
    cdef int need_transaction(self) except -1
    @final
    cdef int need_reader_still(self, Bytes* k) except -1
    @final
    cdef void join_named(self) noexcept
    @final
    cdef void leave_named(self) noexcept
    @final
    cdef bint trusts(self, const Record* r) noexcept
    @final
    cdef int need_whole_body(self, const Record* r) except -1
    @final
    cdef object key_of(self, const Record* r)
    @final
    cdef u64 options(self) noexcept
    @final
    cdef void inherit(self, Reader source) noexcept
    @final
    cdef int need_clean(self) except -1
    @final
    cdef object dirty_value(self, object key, object default)
    @final
    cdef bint is_dirty(self, Dirty dirty) noexcept
    @final
    cdef object value_of(self, const Record* r)
    @final
    cdef object other_value_of(self, const Record* r)
    @final
    cdef object bytes_of(self, const Record* r)
    @final
    cdef object decoded_value_of(self, const Record* r)
    @final
    cdef object decoded(self, bytes key, u64 coding, object stored)
    @final
    cdef object stored_of(self, const Record* r)
    @final
    cdef int damaged_value(self, int site, u64 place, const Record* r) except -1
    @final
    cdef object loaded(self, object key, object data)
    @final
    cdef object large_value_of(self, const Record* r)
    @final
    cdef int fail_at(self, object key, int status) except -1
    @final
    cdef int look_up(self, object key, Record* r) except -100
    @final
    cdef int look_inside(self, const Bytes* k, Record* r) except -100
    @final
    cdef int get_turn(self, list wanted, list found, Py_ssize_t first, Py_ssize_t end) except -1
