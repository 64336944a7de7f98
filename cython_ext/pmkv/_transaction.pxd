"""_transaction.pxd (L4): what a transaction does with keys."""
from pmkv._core cimport u64
from pmkv._mapping cimport Probe
from pmkv._records cimport Item, Record
from pmkv._writeset cimport Txn

cdef enum PutMode:
    PUT_ALWAYS, PUT_NEW, PUT_EXISTING

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
