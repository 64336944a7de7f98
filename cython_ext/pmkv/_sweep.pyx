"""_sweep.pyx (L5): takes away what has expired.

May know: what a transaction does with keys, the catalogue, and which records expire.

Readers do not see what has expired (E2), so a sweep changes nothing for them but space.  A sweep is a
transaction, or a step of one, of a bounded size.
"""
from pmkv._catalogue cimport catalogue_by_id
from pmkv._core cimport *
from pmkv._expiry cimport Due, expiry_first, expiry_next
from pmkv._keytree cimport TreeCursor
from pmkv._pool cimport corrupted
from pmkv._records cimport Record, record_body_is_whole, record_namespace, record_parse
from pmkv._transaction cimport transaction_delete
from pmkv._writeset cimport Txn, txn_fail

cdef enum:
    AT_ONCE = 32                  # looked up before the first is taken away, which changes the tree


cdef int take_away(Txn* t, const Due* due) noexcept nogil:
    """Deletes the key of a record that has expired."""
    cdef Record r
    cdef u64 namespace, now = t.now
    cdef int status = record_parse(t.p, due.place, &r)
    if status == PMKV_OK and (record_namespace(&r) != due.namespace_id or not record_body_is_whole(t.p, &r)):
        status = corrupted(t.p, PMKV_CHECK_RECORD, due.place)
    if status == PMKV_OK:
        status = catalogue_by_id(t.p, t, due.namespace_id, &namespace)
    if status == PMKV_OK:
        t.now = 0                 # for this, it is there
        status = transaction_delete(t, namespace, r.key, r.key_size)
        t.now = now
    if status == PMKV_NOT_FOUND:
        status = corrupted(t.p, PMKV_CHECK_TREE, ROOT_EXPIRY)
    return status if status == PMKV_OK else txn_fail(t, status)


cdef int look(Txn* t, u64 now, u64 most, Due* due, int* count, u64* next_time) noexcept nogil:
    """The first few that are due, and when the next one is; 0: there is none."""
    cdef TreeCursor cursor
    cdef Due d
    cdef int status = expiry_first(t.p, t, &cursor)
    count[0] = 0
    next_time[0] = 0
    while status == PMKV_OK:
        status = expiry_next(t.p, t, &cursor, &d)
        if status != PMKV_OK:
            break
        next_time[0] = d.time
        if d.time > now or count[0] == AT_ONCE or <u64>count[0] == most:
            break
        due[count[0]] = d
        count[0] += 1
        next_time[0] = 0
    return PMKV_OK if status == PMKV_NOT_FOUND else status


cdef int sweep(Txn* t, u64 now, u64 most, u64* swept, u64* next_time) noexcept nogil:
    """Takes away at most so many of the keys that expired up to `now`.

    swept: how many that were.  next_time: when the first of those that are left expires, 0: none does.
    """
    cdef Due due[AT_ONCE]
    cdef int i, count, status
    swept[0] = 0
    while t.status == PMKV_OK:
        status = look(t, now, most - swept[0], due, &count, next_time)
        if status != PMKV_OK:
            return txn_fail(t, status)
        for i in range(count):
            if take_away(t, &due[i]) != PMKV_OK:
                return t.status
        swept[0] += count
        if count == 0:
            break
    return t.status
