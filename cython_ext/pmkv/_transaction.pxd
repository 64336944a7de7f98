"""_transaction.pxd (L4): what a transaction does with keys."""
from pmkv._core cimport u64
from pmkv._mapping cimport Probe
from pmkv._records cimport Item, Record
from pmkv._writeset cimport Txn

cdef enum PutMode:
    PUT_ALWAYS, PUT_NEW, PUT_EXISTING

cdef enum:
    EARLY = 64                    # new keys of a transaction of many calls that are not late
    LATE_MAX = 4096               # keys that wait to go into the order, which takes some milliseconds then
    LATE_FEW = 16                 # that go into it quickly

cdef inline bint late_are_many(const Txn* t, u64 namespace, bint deletes) noexcept nogil:
    """Whether a put or a delete may put many keys into the order that are late."""
    return t.late_count > LATE_FEW and (deletes or t.late_count == LATE_MAX or t.late_namespace != namespace)

cdef int transaction_find_any(Txn* t, u64 namespace, const char* key, u64 key_size, Probe* probe,
                              Record* r) noexcept nogil
cdef int transaction_find(Txn* t, u64 namespace, const char* key, u64 key_size, Probe* probe,
                          Record* r) noexcept nogil
cdef int transaction_put(Txn* t, u64 namespace, const Item* item, PutMode mode) noexcept nogil
cdef int transaction_delete(Txn* t, u64 namespace, const char* key, u64 key_size) noexcept nogil
cdef int transaction_touch(Txn* t, u64 namespace, const char* key, u64 key_size, u64 expiry,
                           bint at_once) noexcept nogil
cdef int transaction_put_all(Txn* t, u64 namespace, const Item* items, u64 count) noexcept nogil
cdef int transaction_delete_all(Txn* t, u64 namespace, const Item* items, u64 count,
                                u64* deleted) noexcept nogil
cdef int transaction_catch_up(Txn* t) noexcept nogil
cdef int transaction_mark(Txn* t, u64* serial) noexcept nogil
cdef int transaction_clear(Txn* t, u64 namespace) noexcept nogil
