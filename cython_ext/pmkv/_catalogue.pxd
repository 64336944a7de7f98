"""_catalogue.pxd (L5): the namespaces of a pool by name."""
from pmkv._core cimport u64
from pmkv._pool cimport Pool
from pmkv._records cimport Record
from pmkv._writeset cimport Txn

cdef int namespace_in(Pool* p, const Record* r, u64* namespace) noexcept nogil
cdef bint is_id_name(const char* name, u64 size) noexcept nogil
cdef int catalogue_by_id(Pool* p, Txn* t, u64 id, u64* namespace) noexcept nogil
cdef int namespace_in(Pool* p, const Record* r, u64* namespace) noexcept nogil
cdef int catalogue_find(Pool* p, Txn* t, const char* name, u64 name_size, u64* namespace) noexcept nogil
cdef int catalogue_add(Txn* t, const char* name, u64 name_size, u64 options, u64* namespace) noexcept nogil
cdef int catalogue_rename(Txn* t, const char* name, u64 name_size, const char* other, u64 other_size) noexcept nogil
cdef int catalogue_remove(Txn* t, const char* name, u64 name_size) noexcept nogil
