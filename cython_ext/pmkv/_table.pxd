"""_table.pxd (L6): a namespace as Python sees it."""
from cython cimport final
from pmkv._arguments cimport Batch, Bytes
from pmkv._core cimport u64
from pmkv._engine cimport Engine
from pmkv._mapping cimport Cursor
from pmkv._pool cimport Pool
from pmkv._records cimport Record
from pmkv._writeset cimport Txn
from pmkv._transaction cimport PutMode

cdef extern from "recycle.h":
    ctypedef struct pmkv_spares:
        pass
    object pmkv_bytes(pmkv_spares* s, const char* data, Py_ssize_t size)
    void pmkv_spares_clear(pmkv_spares* s)

cdef enum VerifyMode:
    VERIFY_NOTHING, VERIFY_READS, VERIFY_VIEWS

cdef class Table:
    cdef Engine e
    cdef Pool* pool
    cdef Txn* t                   # of the transaction that it belongs to, or NULL
    cdef object owner             # that transaction
    cdef u64 namespace            # place of its root
    cdef u64 mapping
    cdef VerifyMode verify
    cdef bint keys_are_str
    cdef bint ordered
    cdef bint gone                # its namespace was dropped: nothing may touch its root
    cdef void* next_named         # of the engine's list
    cdef void* prev_named
    cdef u64 pop_prefix           # popitem goes on from here
    cdef pmkv_spares key_spares
    cdef pmkv_spares value_spares
    cdef object __weakref__

    @final
    cdef void attach(self, Engine e, u64 namespace, VerifyMode verify, Txn* t, object owner)
    @final
    cdef int need_table(self) except -1
    @final
    cdef u64 entries(self) except? 0
    @final
    cdef int need_possible(self, u64 count, u64 place) except -1
    @final
    cdef int need_transaction(self) except -1
    @final
    cdef void join_named(self) noexcept
    @final
    cdef void leave_named(self) noexcept
    @final
    cdef list next_keys(self, Cursor* walk, Py_ssize_t most)
    @final
    cdef int need_whole_body(self, const Record* r) except -1
    @final
    cdef object key_of(self, const Record* r)
    @final
    cdef object value_of(self, const Record* r)
    @final
    cdef object large_value_of(self, const Record* r)
    @final
    cdef int look_up(self, object key, Record* r) except -100
    @final
    cdef int look_inside(self, const Bytes* k, Record* r) noexcept
    @final
    cdef int get_turn(self, list wanted, list found, Py_ssize_t first, Py_ssize_t end) except -1
    @final
    cdef int begin(self, bint quick) except -1
    @final
    cdef int end(self, int status) except -1
    @final
    cdef int abandon(self) except -1
    @final
    cdef bint may_wait(self, u64 size) noexcept
    @final
    cdef int settle(self, int status) noexcept
    @final
    cdef int store(self, object key, object value, PutMode mode) except -100
    @final
    cdef int erase(self, object key) except -100
    @final
    cdef object exchange(self, object key, object value, object default)
    @final
    cdef int put_batch(self, Batch batch) noexcept
    @final
    cdef bint drain_for_room(self) noexcept
    @final
    cdef int delete_batch(self, Batch batch, u64 first, u64 count, u64* deleted) noexcept
