"""_catalogue.pyx (L5): the namespaces of a pool by name.

May know: what a transaction does with keys.

The catalogue is itself a namespace: a name leads to a value of eight bytes, the place of a
namespace's root, one line in a block of nodes.  So does its number, under a name that nobody can ask
for, since it begins with a zero byte: that, the letters id and two bytes.  A namespace that is being
dropped has such a name too, until all of its keys are gone.

Invariants
  K1. A namespace's root is reached from exactly one name, and from its number; and freed in the commit
      that removes both.
  K2. No two namespaces have one id.
"""
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset
from pmkv._blocks cimport NODE_CLASS, block_allocate
from pmkv._core cimport *
from pmkv._mapping cimport LEAF_SLOTS, Cursor, Probe, mapping_get, mapping_next_leaf
from pmkv._pool cimport Pool, corrupted, page_place
from pmkv._records cimport Record, record_parse, record_verify
from pmkv._transaction cimport PUT_NEW, Item, transaction_delete, transaction_find, transaction_put
from pmkv._writeset cimport Txn, txn_data, txn_fail, txn_log_sealed, txn_push, txn_read, txn_read_sealed

cdef enum:
    ROOT_SIZE = sizeof(pmkv_namespace_root)
    ROOT_BITS = 3                 # 2**3 words
    ID_NAME = 5
    IDS = 0xffff                  # 0 is the default namespace's, the last one the catalogue's


cdef int namespace_in(Pool* p, const Record* r, u64* namespace) noexcept nogil:
    """The place that the catalogue's record says."""
    cdef int status = record_verify(p, r)
    if status != PMKV_OK:
        return status
    if r.value_size != 8 or r.flags:
        return corrupted(p, PMKV_CHECK_RECORD, r.place)
    memcpy(namespace, r.value, 8)
    if namespace[0] < p.header_size or namespace[0] % 16 or namespace[0] > page_place(p, p.file_pages) - ROOT_SIZE:
        return corrupted(p, PMKV_CHECK_RECORD, r.place)
    return PMKV_OK


cdef int catalogue_find(Pool* p, Txn* t, const char* name, u64 name_size, u64* namespace) noexcept nogil:
    """OK, or NOT_FOUND, or an error: as the transaction sees it, or without one as a reader does."""
    cdef Probe probe
    cdef Record r
    cdef int status
    if t == NULL:
        status = mapping_get(p, ROOT_CATALOGUE + NAMESPACE_MAPPING, name, name_size, &r)
    else:
        status = transaction_find(t, ROOT_CATALOGUE, name, name_size, &probe, &r)
    return namespace_in(p, &r, namespace) if status == PMKV_OK else status


# ---- ids -------------------------------------------------------------------------------------

cdef void id_name(u64 id, char* name) noexcept nogil:
    memcpy(name, b"\0id", 3)
    name[3], name[4] = <char>(id >> 8), <char>id


cdef bint is_id_name(const char* name, u64 size) noexcept nogil:
    return size == ID_NAME and memcmp(name, b"\0id", 3) == 0


cdef int catalogue_by_id(Pool* p, Txn* t, u64 id, u64* namespace) noexcept nogil:
    """The root of the namespace of that number; the same."""
    cdef char name[ID_NAME]
    if id == 0:
        namespace[0] = ROOT_DEFAULT_NAMESPACE
        return PMKV_OK
    id_name(id, name)
    return catalogue_find(p, t, name, ID_NAME, namespace)


cdef int mark_ids(Txn* t, unsigned char* used) noexcept nogil:
    """Which ids namespaces have, of those that are in the pool."""
    cdef Cursor cursor
    cdef Record r
    cdef u64 slots[LEAF_SLOTS]
    cdef u64 leaf, namespace
    cdef int i, status
    cursor.prefix, cursor.ended = 0, False
    while True:
        status = mapping_next_leaf(t.p, t, ROOT_CATALOGUE + NAMESPACE_MAPPING, &cursor, slots, &leaf)
        if status != PMKV_OK or leaf == 0:
            return status
        for i in range(LEAF_SLOTS):
            if slots[i] & GRANULE_MASK:
                status = record_parse(t.p, (slots[i] & GRANULE_MASK) << GRANULE_SHIFT, &r)
                if status == PMKV_OK:
                    status = namespace_in(t.p, &r, &namespace)
                if status != PMKV_OK:
                    return status
                used[txn_read(t, namespace + NAMESPACE_ID) & 0xffff] = 1


cdef int unused_id(Txn* t, u64* found) noexcept nogil:
    """The next id; when all have been given out, one that came back (K2)."""
    cdef unsigned char* used
    cdef u64 last
    cdef int status
    if txn_read_sealed(t, ROOT_CATALOGUE + NAMESPACE_LAST_ID, &last) != PMKV_OK:
        return t.status
    found[0] = last + 1
    if found[0] < IDS:
        return txn_log_sealed(t, ROOT_CATALOGUE + NAMESPACE_LAST_ID, found[0])
    used = <unsigned char*>calloc(IDS + 1, 1)
    if used == NULL:
        return txn_fail(t, PMKV_NO_MEMORY)
    status = mark_ids(t, used)
    found[0] = 1
    while found[0] < IDS and used[found[0]]:
        found[0] += 1
    free(used)
    if status == PMKV_OK and found[0] == IDS:
        status = PMKV_TOO_LARGE
    return status if status == PMKV_OK else txn_fail(t, status)


# ---- add, rename, remove ------------------------------------------------------------------------

cdef int put_name(Txn* t, const char* name, u64 name_size, u64 namespace) noexcept nogil:
    cdef Item item
    item.key, item.key_size = name, name_size
    item.value, item.value_size, item.coding, item.may_change = <const char*>&namespace, 8, 0, False
    item.expiry = 0
    return transaction_put(t, ROOT_CATALOGUE, &item, PUT_NEW)


cdef int catalogue_add(Txn* t, const char* name, u64 name_size, u64 options, u64* namespace) noexcept nogil:
    """A new namespace.  The name is not there yet."""
    cdef pmkv_namespace_root root
    cdef char number[ID_NAME]
    cdef u64 unused = 0
    memset(&root, 0, ROOT_SIZE)
    if unused_id(t, &unused) != PMKV_OK:
        return t.status
    root.options = pmkv_seal(options)
    root.id = pmkv_seal(unused)
    if block_allocate(t, NODE_CLASS + ROOT_BITS, ROOT_SIZE, namespace) != PMKV_OK:
        return t.status
    txn_data(t, namespace[0], &root, ROOT_SIZE)
    id_name(unused, number)
    put_name(t, number, ID_NAME, namespace[0])
    return put_name(t, name, name_size, namespace[0])


cdef int catalogue_rename(Txn* t, const char* name, u64 name_size, const char* other, u64 other_size) noexcept nogil:
    cdef u64 namespace
    cdef int status = catalogue_find(t.p, t, name, name_size, &namespace)
    if status != PMKV_OK:
        return status
    transaction_delete(t, ROOT_CATALOGUE, name, name_size)
    return put_name(t, other, other_size, namespace)


cdef int catalogue_remove(Txn* t, const char* name, u64 name_size) noexcept nogil:
    """Frees a namespace that has no keys any more (K1)."""
    cdef char number[ID_NAME]
    cdef u64 namespace, reference
    cdef int status = catalogue_find(t.p, t, name, name_size, &namespace)
    if status != PMKV_OK:
        return status
    id_name(txn_read(t, namespace + NAMESPACE_ID) & 0xffff, number)
    transaction_delete(t, ROOT_CATALOGUE, number, ID_NAME)
    reference = pmkv_seal(namespace >> GRANULE_SHIFT | <u64>ROOT_BITS << REFERENCE_BITS_SHIFT)
    txn_push(t, &t.freed, &t.freed_count, &t.freed_capacity, reference | <u64>1 << 63)
    return transaction_delete(t, ROOT_CATALOGUE, name, name_size)
