"""_transaction.pyx (L4): put, delete and clear, as steps of one transaction.

May know: the mapping, ordered keys, records, counts of a namespace, and what space_retire does.
Nothing here is visible or durable before space_commit.

Invariants
  T1. A namespace's entry_count is the number of keys of its mapping; live_bytes the sum of
      their sizes and their values'.  Both change in the commit that changes the mapping.
  T2. The ordered keys of a namespace that wants order are the keys of its mapping, but for those that are
      late: these wait in the transaction until someone looks at the order, or marks or ends it.
  T3. A key that has expired (by t.now) counts as missing, but for what counts and frees.
"""
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from pmkv._codings cimport coding_add, coding_forget
from pmkv._core cimport *
from pmkv._keytree cimport (
    Path, keytree_delete, keytree_fetch_leaf, keytree_fetch_parent, keytree_find_leaf, keytree_find_parent,
    keytree_free_all, keytree_insert, keytree_insert_now, path_below,
)
from pmkv._expiry cimport expiry_add, expiry_change, expiry_forget, expiry_is_past
from pmkv._mapping cimport (
    LEAF_SLOTS, Cursor, Probe, mapping_free_all, mapping_hash, mapping_insert, mapping_locate,
    mapping_match, mapping_next_leaf, mapping_prefetch_bucket, mapping_prefetch_record,
    mapping_remove, mapping_replace,
)
from pmkv._pages cimport descriptor_prefetch
from pmkv._records cimport (
    Record, record_allocate_all, record_coding, record_commit, record_parse, record_prefetch, record_verify,
    record_write_at,
)
from pmkv._writeset cimport (
    Txn, is_own, txn_count, txn_fail, txn_has, txn_log_sealed, txn_mark, txn_push, txn_read, txn_read_sealed,
)
from pmkv._space cimport space_retire
from pmkv._treefill cimport FILL_MAX, TreeKey, keytree_insert_all

cdef enum:
    AHEAD = 16                    # keys of a batch whose lines are fetched while others are worked on
    LATE_ALONE = 8                # late keys that go into the order one by one
    LATE_SIZE = 256               # of a key that may be late: a large one gains little, and takes long


# What steps do to the counts of their namespace (T1): a batch changes these once.
cdef struct Sums:
    u64 came                      # entries
    u64 gone
    u64 bytes_came                # of keys and values
    u64 bytes_gone
    TreeKey* keys                 # those that came, which go into the order together
    u64 key_count
    Path* path                    # or the way of the only one to its leaf
    bint is_late                  # or the only one waits
    bint begun                    # and the first part of that way is done


cdef inline int note_counted(Txn* t, u64 namespace) noexcept nogil:
    if is_own(t, namespace) or txn_has(t, namespace + NAMESPACE_ENTRY_COUNT):
        return t.status           # nobody else knows it, or it was noted
    return txn_push(t, &t.counted, &t.counted_count, &t.counted_capacity, namespace)


cdef int count(Txn* t, u64 namespace, const Sums* sums) noexcept nogil:
    if sums.came or sums.gone:
        note_counted(t, namespace)
    txn_count(t, namespace + NAMESPACE_ENTRY_COUNT, sums.came, sums.gone)
    return txn_count(t, namespace + NAMESPACE_LIVE_BYTES, sums.bytes_came, sums.bytes_gone)


cdef inline u64 size_of(const Record* r) noexcept nogil:
    return r.key_size + r.value_size


cdef int transaction_find_any(Txn* t, u64 namespace, const char* key, u64 key_size, Probe* probe,
                              Record* r) noexcept nogil:
    """OK, also if it has expired; NOT_FOUND; or an error, which fails the transaction."""
    cdef int status = locate(t, namespace, key, key_size, probe)
    return match(t, key, key_size, probe, r) if status == PMKV_OK else status


cdef inline Txn* seen_by(Txn* t) noexcept nogil:
    return t if t.word_count else NULL    # nothing logged yet: read the pool directly


cdef inline int locate(Txn* t, u64 namespace, const char* key, u64 key_size, Probe* probe) noexcept nogil:
    cdef int status = mapping_locate(t.p, seen_by(t), namespace + NAMESPACE_MAPPING,
                                     mapping_hash(t.p, key, key_size), probe)
    return status if status == PMKV_OK else txn_fail(t, status)


cdef inline int match(Txn* t, const char* key, u64 key_size, Probe* probe, Record* r) noexcept nogil:
    cdef int status = mapping_match(t.p, seen_by(t), probe, key, key_size, r)
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
    cdef Probe probe
    cdef Sums sums
    cdef Path path
    cdef u64 place = 0
    cdef int status
    if t.status != PMKV_OK or locate(t, namespace, item.key, item.key_size, &probe) != PMKV_OK:
        return t.status
    memset(&sums, 0, sizeof(Sums))
    if is_ordered(t, namespace):
        sums.is_late = t.early == 0 and item.key_size <= LATE_SIZE
        sums.path = NULL if sums.is_late else &path
    if sums.path != NULL:
        # What will be needed most likely comes together: the translations of the addresses overlap, too.
        sums.begun = t.expects_new
        if sums.begun and keytree_find_parent(t, namespace + NAMESPACE_KEYTREE, item.key, item.key_size, &path) < 0:
            return t.status
    mapping_prefetch_bucket(t.p, &probe)
    if sums.begun:
        keytree_fetch_parent(t.p, &path)
    if mode == PUT_ALWAYS:        # while they come
        record_allocate_all(t, item, 1, &place)
        record_prefetch(t.p, place)
    status = put(t, namespace, item, mode, &probe, place, &sums)
    if status != PMKV_OK:
        return status
    count(t, namespace, &sums)    # while the end of the leaf's heap comes
    if sums.came and sums.path != NULL:
        t.early -= t.early > 0
        keytree_insert(t, namespace + NAMESPACE_KEYTREE, item.key, item.key_size, &path)
    return t.status


cdef int put(Txn* t, u64 namespace, const Item* item, PutMode mode, Probe* probe, u64 place, Sums* sums) noexcept nogil:
    """The same, but for the counts.  `probe` has been located; `place`: room for the record, or 0."""
    cdef Record old
    cdef int found = match(t, item.key, item.key_size, probe, &old)
    cdef int status = is_there(t, &old) if found == PMKV_OK else found
    if status < 0:
        return status
    if status == PMKV_OK and mode == PUT_NEW:
        return PMKV_EXISTS
    if status == PMKV_NOT_FOUND and mode == PUT_EXISTING:
        return PMKV_NOT_FOUND
    sums.bytes_came += item.key_size + item.value_size
    t.expects_new = found != PMKV_OK
    if found == PMKV_OK:
        return update(t, namespace, item, probe, &old, place, sums)
    return insert(t, namespace, item, probe, place, sums)


cdef inline int write(Txn* t, u64 namespace, const Item* item, u64* place) noexcept nogil:
    cdef u64 id
    if txn_read_sealed(t, namespace + NAMESPACE_ID, &id) != PMKV_OK:
        return t.status
    if record_write_at(t, id, item, place) != PMKV_OK or coding_add(t, item.coding, item.value_size) != PMKV_OK:
        return t.status
    return expiry_add(t, item.expiry, id, place[0])


cdef int update(Txn* t, u64 namespace, const Item* item, const Probe* probe, const Record* old, u64 place,
                Sums* sums) noexcept nogil:
    """A new record takes the place of the old one."""
    descriptor_prefetch(t.p, old.place)
    sums.bytes_gone += size_of(old)
    coding_forget(t, old)         # first: it may leave its slot to the new one
    if write(t, namespace, item, &place) != PMKV_OK:
        return t.status
    mapping_replace(t, probe, place)
    expiry_forget(t, old)
    return space_retire(t, old, not is_ordered(t, namespace))


cdef int insert(Txn* t, u64 namespace, const Item* item, Probe* probe, u64 place, Sums* sums) noexcept nogil:
    """A key that is new; who counts it puts it into the order."""
    sums.came += 1
    if sums.path != NULL:
        if not sums.begun:
            keytree_find_parent(t, namespace + NAMESPACE_KEYTREE, item.key, item.key_size, sums.path)
        if keytree_find_leaf(t, item.key, item.key_size, 1, sums.path) != PMKV_OK:
            return t.status
        pmkv_prefetch(pmkv_at(&t.p.m, path_below(sums.path, 1)))
    if write(t, namespace, item, &place) != PMKV_OK:
        return t.status
    if sums.is_late:
        be_late(t, namespace, place)
    if sums.path != NULL:         # its first line has come by now; there is time for the others
        keytree_fetch_leaf(t, sums.path)
    mapping_insert(t, namespace + NAMESPACE_MAPPING, probe, place)
    if sums.keys != NULL:
        sums.keys[sums.key_count].key, sums.keys[sums.key_count].key_size = item.key, item.key_size
        sums.key_count += 1
    return t.status


cdef int transaction_delete(Txn* t, u64 namespace, const char* key, u64 key_size) noexcept nogil:
    """OK, NOT_FOUND, or an error."""
    cdef Probe probe
    cdef Sums sums
    cdef int status
    if t.status != PMKV_OK or locate(t, namespace, key, key_size, &probe) != PMKV_OK:
        return t.status
    memset(&sums, 0, sizeof(Sums))
    status = delete(t, namespace, key, key_size, &probe, &sums)
    return count(t, namespace, &sums) if status == PMKV_OK else status


cdef int delete(Txn* t, u64 namespace, const char* key, u64 key_size, Probe* probe, Sums* sums) noexcept nogil:
    """The same, but for the counts.  `probe` has been located."""
    cdef Record old
    cdef bint ordered
    cdef int status = match(t, key, key_size, probe, &old)
    if status == PMKV_OK:
        status = is_there(t, &old)
    if status != PMKV_OK:
        return status
    descriptor_prefetch(t.p, old.place)
    expiry_forget(t, &old)
    coding_forget(t, &old)
    ordered = is_ordered(t, namespace)
    mapping_remove(t, probe)
    if ordered:
        transaction_catch_up(t)
        keytree_delete(t, namespace + NAMESPACE_KEYTREE, key, key_size)
    space_retire(t, &old, not ordered)
    sums.gone += 1
    sums.bytes_gone += size_of(&old)
    return t.status


# ---- keys that are late -----------------------------------------------------------------------
#
# In a transaction of many puts they go into the order together, as those of a batch do: sorted, they share most
# of the way.  A late key stays where its record was written, also if another takes the record's place: what the
# transaction retires is free after its commit.

cdef int be_late(Txn* t, u64 namespace, u64 place) noexcept nogil:
    """The key of the record at `place` goes into the order with those to come."""
    if t.late_count and (t.late_namespace != namespace or t.late_count == LATE_MAX):
        transaction_catch_up(t)
    t.late_namespace = namespace
    return txn_push(t, &t.late, &t.late_count, &t.late_capacity, place)


cdef int transaction_catch_up(Txn* t) noexcept nogil:
    """Puts the keys that are late into the order: before anybody looks at it."""
    cdef TreeKey alone[LATE_ALONE]
    cdef TreeKey* keys = alone
    cdef u64 root_place = t.late_namespace + NAMESPACE_KEYTREE, i
    cdef Record r
    if t.status != PMKV_OK or t.late_count == 0:
        return t.status
    if t.late_count > LATE_ALONE:
        keys = <TreeKey*>malloc(t.late_count * sizeof(TreeKey))
    if keys == NULL:
        return txn_fail(t, PMKV_NO_MEMORY)
    for i in range(t.late_count):
        txn_fail(t, record_parse(t.p, t.late[i], &r))
        keys[i].key, keys[i].key_size = r.key, r.key_size
    if t.late_count > LATE_ALONE:
        keytree_insert_all(t, root_place, keys, t.late_count)
        free(keys)
    else:
        for i in range(t.late_count):
            keytree_insert_now(t, root_place, keys[i].key, keys[i].key_size)
    if t.status == PMKV_OK:
        t.late_count = 0
    return t.status


cdef int transaction_mark(Txn* t, u64* serial) noexcept nogil:
    """Marks this moment (txn_mark): no key is late then."""
    return txn_mark(t, serial) if transaction_catch_up(t) == PMKV_OK else t.status


cdef int transaction_touch(Txn* t, u64 namespace, const char* key, u64 key_size, u64 expiry,
                           bint at_once) noexcept nogil:
    """The key expires at another time, 0: never.  OK, NOT_FOUND, or an error.

    A record that has no word for it is written anew.  So is one that a reader may see who comes before the
    commit (not `at_once`): one of both times may have come by then, and a moment would change its mind.
    """
    cdef Probe probe
    cdef Record old
    cdef Item item
    cdef Sums sums
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
    memset(&sums, 0, sizeof(Sums))
    sums.bytes_came = item.key_size + item.value_size
    update(t, namespace, &item, &probe, &old, 0, &sums)
    return count(t, namespace, &sums)


# ---- batches ---------------------------------------------------------------------------------

cdef void fetch_ahead(Txn* t, u64 namespace, const Item* items, u64 count, Probe* probes) noexcept nogil:
    """Starts the misses of a few keys together: they do not depend on each other."""
    cdef u64 i
    for i in range(count):
        locate(t, namespace, items[i].key, items[i].key_size, &probes[i])
    for i in range(count):        # short, so that the translations of their addresses overlap, too
        mapping_prefetch_bucket(t.p, &probes[i])
    for i in range(count):
        mapping_prefetch_record(t.p, &probes[i])


cdef int put_few(Txn* t, u64 namespace, const Item* items, u64 count, Sums* sums) noexcept nogil:
    """At most AHEAD."""
    cdef Probe probes[AHEAD]
    cdef u64 places[AHEAD]
    cdef u64 i, leaf, located = 0
    for i in range(count):
        if i == located:          # all; and once more after a split: another key's leaf may be gone
            fetch_ahead(t, namespace, items + i, count - i, &probes[i])
            if i == 0 and record_allocate_all(t, items, count, places) != PMKV_OK:
                break
            located = count
        if i + 1 < count:
            record_prefetch(t.p, places[i + 1])
        leaf = probes[i].leaf
        if t.status != PMKV_OK or put(t, namespace, &items[i], PUT_ALWAYS, &probes[i], places[i], sums) < 0:
            break
        if probes[i].leaf != leaf:
            located = i + 1
    return t.status


cdef int put_chunk(Txn* t, u64 namespace, const Item* items, u64 count_of_items, TreeKey* keys) noexcept nogil:
    """`keys`: room for as many, or NULL without order."""
    cdef Sums sums
    cdef u64 done = 0
    memset(&sums, 0, sizeof(Sums))
    sums.keys = keys
    while done < count_of_items:
        if put_few(t, namespace, items + done, min(<u64>AHEAD, count_of_items - done), &sums) != PMKV_OK:
            return t.status
        done += AHEAD
    if keys != NULL:
        keytree_insert_all(t, namespace + NAMESPACE_KEYTREE, keys, sums.key_count)
    return count(t, namespace, &sums)


cdef int transaction_put_all(Txn* t, u64 namespace, const Item* items, u64 count) noexcept nogil:
    cdef TreeKey* keys = NULL
    cdef u64 done = 0, size = min(count, <u64>FILL_MAX)
    if t.status != PMKV_OK or count == 0:
        return t.status
    if is_ordered(t, namespace):
        keys = <TreeKey*>malloc(size * sizeof(TreeKey))
        if keys == NULL:
            return txn_fail(t, PMKV_NO_MEMORY)
    while done < count and put_chunk(t, namespace, items + done, min(size, count - done), keys) == PMKV_OK:
        done += size
    free(keys)
    return t.status


cdef int transaction_delete_all(Txn* t, u64 namespace, const Item* items, u64 count_of_items,
                                u64* deleted) noexcept nogil:
    cdef Probe probes[AHEAD]
    cdef Sums sums
    cdef u64 i
    cdef int status = PMKV_OK
    memset(&sums, 0, sizeof(Sums))
    for i in range(count_of_items):
        if i % AHEAD == 0:
            fetch_ahead(t, namespace, items + i, min(<u64>AHEAD, count_of_items - i), probes)
        if t.status == PMKV_OK:       # no leaf divides, so what was located stays
            status = delete(t, namespace, items[i].key, items[i].key_size, &probes[i % AHEAD], &sums)
        if t.status != PMKV_OK or status < 0:
            break
    deleted[0] = sums.gone
    return count(t, namespace, &sums) if t.status == PMKV_OK else t.status


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
