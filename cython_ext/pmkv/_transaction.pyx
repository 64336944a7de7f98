"""_transaction.pyx (L4): put, delete and clear, as steps of one transaction.

May know: the mapping, ordered keys, records, counts of a namespace, and what space_retire does.
Nothing here is visible or durable before space_commit.

Invariants
  T1. A namespace's entry_count is the number of keys of its mapping; live_bytes the sum of
      their sizes and their values'.  Both change in the commit that changes the mapping.
  T2. The ordered keys of a namespace that wants order are the keys of its mapping.
  T3. A key that has expired (by t.now) counts as missing, but for what counts and frees.
"""
from pmkv._codings cimport coding_add, coding_forget
from pmkv._core cimport *
from pmkv._keytree cimport Path, keytree_approach, keytree_delete, keytree_free_all, keytree_insert, keytree_renew
from pmkv._expiry cimport expiry_add, expiry_change, expiry_forget, expiry_is_past
from pmkv._mapping cimport (
    LEAF_SLOTS, Cursor, Probe, mapping_free_all, mapping_hash, mapping_insert, mapping_locate,
    mapping_match, mapping_next_leaf, mapping_prefetch_bucket, mapping_prefetch_record,
    mapping_remove, mapping_replace,
)
from pmkv._records cimport Record, record_coding, record_commit, record_parse, record_verify, record_write
from pmkv._writeset cimport (
    Txn, is_own, txn_count, txn_fail, txn_has, txn_log_sealed, txn_push, txn_read, txn_read_sealed,
)
from pmkv._space cimport space_retire

cdef enum:
    AHEAD = 16                    # keys of a batch whose lines are fetched while others are worked on


cdef inline int note_counted(Txn* t, u64 namespace) noexcept nogil:
    if is_own(t, namespace) or txn_has(t, namespace + NAMESPACE_ENTRY_COUNT):
        return t.status           # nobody else knows it, or it was noted
    return txn_push(t, &t.counted, &t.counted_count, &t.counted_capacity, namespace)


cdef inline int count_entries(Txn* t, u64 namespace, u64 plus, u64 minus) noexcept nogil:
    note_counted(t, namespace)
    return txn_count(t, namespace + NAMESPACE_ENTRY_COUNT, plus, minus)


cdef inline u64 size_of(const Record* r) noexcept nogil:
    return r.key_size + r.value_size


cdef int transaction_find_any(Txn* t, u64 namespace, const char* key, u64 key_size, Probe* probe,
                              Record* r) noexcept nogil:
    """OK, also if it has expired; NOT_FOUND; or an error, which fails the transaction."""
    cdef Txn* seen = t if t.word_count else NULL   # nothing logged yet: read the pool directly
    cdef int status = mapping_locate(t.p, seen, namespace + NAMESPACE_MAPPING,
                                     mapping_hash(t.p, key, key_size), probe)
    if status == PMKV_OK:
        status = mapping_match(t.p, seen, probe, key, key_size, r)
    return status if status >= 0 else txn_fail(t, status)


cdef int is_there(Txn* t, const Record* r) noexcept nogil:
    """OK, or NOT_FOUND if it has expired, or an error."""
    cdef bint past
    cdef int status = expiry_is_past(t.p, t, r, t.now, &past)
    if status != PMKV_OK:
        return txn_fail(t, status)
    return PMKV_NOT_FOUND if past else PMKV_OK


cdef int transaction_find(Txn* t, u64 namespace, const char* key, u64 key_size, Probe* probe,
                          Record* r) noexcept nogil:
    """OK, NOT_FOUND, or an error, which fails the transaction."""
    cdef int status = transaction_find_any(t, namespace, key, key_size, probe, r)
    return is_there(t, r) if status == PMKV_OK else status


cdef inline bint is_ordered(Txn* t, u64 namespace) noexcept nogil:
    return not txn_read(t, namespace + NAMESPACE_OPTIONS) & PMKV_OPTION_UNORDERED


cdef int transaction_put(Txn* t, u64 namespace, const Item* item, PutMode mode) noexcept nogil:
    """OK; EXISTS or NOT_FOUND where the mode refuses, with nothing changed; or an error."""
    cdef Path path
    path.length = 0
    return put(t, namespace, item, mode, &path)


cdef int put(Txn* t, u64 namespace, const Item* item, PutMode mode, Path* path) noexcept nogil:
    """The same.  `path`: an earlier way to the key's place in the order, or an empty one."""
    cdef Probe probe
    cdef Record old
    cdef int found, status
    if t.status != PMKV_OK:
        return t.status
    found = transaction_find_any(t, namespace, item.key, item.key_size, &probe, &old)
    status = is_there(t, &old) if found == PMKV_OK else found
    if status < 0:
        return status
    if status == PMKV_OK and mode == PUT_NEW:
        return PMKV_EXISTS
    if status == PMKV_NOT_FOUND and mode == PUT_EXISTING:
        return PMKV_NOT_FOUND
    return update(t, namespace, item, &probe, &old) if found == PMKV_OK else insert(t, namespace, item, &probe, path)


cdef inline int write(Txn* t, u64 namespace, const Item* item, u64* place) noexcept nogil:
    cdef u64 id
    if txn_read_sealed(t, namespace + NAMESPACE_ID, &id) != PMKV_OK:
        return t.status
    if record_write(t, id, item, place) != PMKV_OK or coding_add(t, item.coding, item.value_size) != PMKV_OK:
        return t.status
    return expiry_add(t, item.expiry, id, place[0])


cdef int update(Txn* t, u64 namespace, const Item* item, const Probe* probe, const Record* old) noexcept nogil:
    """A new record takes the place of the old one."""
    cdef u64 place
    coding_forget(t, old)         # first: it may leave its slot to the new one
    if write(t, namespace, item, &place) != PMKV_OK:
        return t.status
    mapping_replace(t, probe, place)
    expiry_forget(t, old)
    space_retire(t, old, not is_ordered(t, namespace))
    return txn_count(t, namespace + NAMESPACE_LIVE_BYTES, item.key_size + item.value_size, size_of(old))


cdef int insert(Txn* t, u64 namespace, const Item* item, Probe* probe, Path* path) noexcept nogil:
    cdef bint ordered = is_ordered(t, namespace)
    cdef u64 place
    if ordered:
        keytree_renew(t, namespace + NAMESPACE_KEYTREE, item.key, item.key_size, path)
    if write(t, namespace, item, &place) != PMKV_OK:
        return t.status
    mapping_insert(t, namespace + NAMESPACE_MAPPING, probe, place)
    if ordered:
        keytree_insert(t, namespace + NAMESPACE_KEYTREE, item.key, item.key_size, path)
    count_entries(t, namespace, 1, 0)
    return txn_count(t, namespace + NAMESPACE_LIVE_BYTES, item.key_size + item.value_size, 0)


cdef int transaction_delete(Txn* t, u64 namespace, const char* key, u64 key_size) noexcept nogil:
    """OK, NOT_FOUND, or an error."""
    cdef Probe probe
    cdef Record old
    cdef bint ordered
    cdef int status
    if t.status != PMKV_OK:
        return t.status
    status = transaction_find(t, namespace, key, key_size, &probe, &old)
    if status != PMKV_OK:
        return status
    expiry_forget(t, &old)
    coding_forget(t, &old)
    ordered = is_ordered(t, namespace)
    mapping_remove(t, &probe)
    if ordered:
        keytree_delete(t, namespace + NAMESPACE_KEYTREE, key, key_size)
    space_retire(t, &old, not ordered)
    count_entries(t, namespace, 0, 1)
    return txn_count(t, namespace + NAMESPACE_LIVE_BYTES, 0, size_of(&old))


cdef int transaction_touch(Txn* t, u64 namespace, const char* key, u64 key_size, u64 expiry,
                           bint at_once) noexcept nogil:
    """The key expires at another time, 0: never.  OK, NOT_FOUND, or an error.

    A record that has no word for it is written anew.  So is one that a reader may see who comes before the
    commit (not `at_once`): one of both times may have come by then, and a moment would change its mind.
    """
    cdef Probe probe
    cdef Record old
    cdef Item item
    cdef int status = transaction_find(t, namespace, key, key_size, &probe, &old)
    if status != PMKV_OK or (expiry == 0 and old.expiry_place == 0):
        return status
    if old.expiry_place and (at_once or record_commit(&old) == t.commit):
        return expiry_change(t, &old, expiry)
    status = record_verify(t.p, &old)
    if status != PMKV_OK:
        return txn_fail(t, status)
    item.key, item.key_size, item.value, item.value_size = old.key, old.key_size, old.value, old.value_size
    item.coding, item.may_change, item.expiry = record_coding(&old), False, expiry
    return update(t, namespace, &item, &probe, &old)


# ---- batches ---------------------------------------------------------------------------------

cdef void fetch_ahead(Txn* t, u64 namespace, const Item* items, u64 first, u64 end, Path* paths) noexcept nogil:
    """Starts the misses of a few keys together: they do not depend on each other.

    paths: the ways to their places in the order, or NULL.
    """
    cdef Probe probes[AHEAD]
    cdef bint ordered = is_ordered(t, namespace)
    cdef u64 i
    for i in range(first, end):
        mapping_locate(t.p, NULL, namespace + NAMESPACE_MAPPING,
                       mapping_hash(t.p, items[i].key, items[i].key_size), &probes[i - first])
        mapping_prefetch_bucket(t.p, &probes[i - first])
    for i in range(first, end):
        mapping_prefetch_record(t.p, &probes[i - first])
        if paths != NULL:
            paths[i - first].length = 0
            if ordered:
                keytree_approach(t, namespace + NAMESPACE_KEYTREE, items[i].key, items[i].key_size, &paths[i - first])


cdef int transaction_put_all(Txn* t, u64 namespace, const Item* items, u64 count) noexcept nogil:
    cdef Path paths[AHEAD]
    cdef u64 i
    for i in range(count):
        if i % AHEAD == 0:
            fetch_ahead(t, namespace, items, i, min(i + AHEAD, count), paths)
        if put(t, namespace, &items[i], PUT_ALWAYS, &paths[i % AHEAD]) < 0:
            break
    return t.status


cdef int transaction_delete_all(Txn* t, u64 namespace, const Item* items, u64 count,
                                u64* deleted) noexcept nogil:
    cdef u64 i
    cdef int status
    deleted[0] = 0
    for i in range(count):
        if i % AHEAD == 0:
            fetch_ahead(t, namespace, items, i, min(i + AHEAD, count), NULL)
        status = transaction_delete(t, namespace, items[i].key, items[i].key_size)
        if status < 0:
            break
        deleted[0] += status == PMKV_OK
    return t.status


cdef int transaction_clear(Txn* t, u64 namespace) noexcept nogil:
    """Removes every key, in one commit.  The transaction must be empty before."""
    cdef Cursor cursor
    cdef Record r
    cdef u64 slots[LEAF_SLOTS]
    cdef u64 leaf
    cdef int i, status
    cursor.prefix = 0
    cursor.ended = False
    while t.status == PMKV_OK:
        status = mapping_next_leaf(t.p, NULL, namespace + NAMESPACE_MAPPING, &cursor, slots, &leaf)
        if status != PMKV_OK:
            return txn_fail(t, status)
        if leaf == 0:
            break
        for i in range(LEAF_SLOTS):
            if slots[i] & GRANULE_MASK:
                status = record_parse(t.p, (slots[i] & GRANULE_MASK) << GRANULE_SHIFT, &r)
                if status != PMKV_OK:
                    return txn_fail(t, status)
                expiry_forget(t, &r)
                coding_forget(t, &r)
                space_retire(t, &r, not is_ordered(t, namespace))
    mapping_free_all(t, namespace + NAMESPACE_MAPPING)
    keytree_free_all(t, namespace + NAMESPACE_KEYTREE)
    note_counted(t, namespace)
    txn_log_sealed(t, namespace + NAMESPACE_ENTRY_COUNT, 0)
    return txn_log_sealed(t, namespace + NAMESPACE_LIVE_BYTES, 0)
