"""_expiry.pyx (L4): which records expire, and when.

May know: ordered keys, records.  Not what becomes of a record that has expired.

A record that may expire says when in a word of its own, which is changed in place when the time is put
off.  Besides there is one tree for the whole pool, built as ordered keys are, so that what is due is
found first:

    expiry   | time 8 | namespace id 2 | granule 5 |        big-endian; time: microseconds since 1970, UTC

Invariants
  E1. Each record that a mapping leads to and whose word is not 0 has one key in the tree, and no other
      key is there.
  E2. A record whose time has come is no longer there for any reader, whether it was taken away or not.
"""
from libc.string cimport memcpy
from pmkv._core cimport *
from pmkv._keytree cimport (
    TreeCursor, keytree_delete, keytree_edge, keytree_insert_now, keytree_next_leaf, path_end,
)
from pmkv._pool cimport Pool, corrupted, unseal
from pmkv._records cimport Record, record_namespace, record_parse
from pmkv._treenode cimport Parts, Piece, node_piece, parts_copy, parts_size, tree_word
from pmkv._writeset cimport Txn, txn_fail, txn_log_sealed

cdef extern from *:
    """
    #include <time.h>
    static unsigned long long pmkv_clock_now(void) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        return (unsigned long long)now.tv_sec * 1000000u + (unsigned long long)now.tv_nsec / 1000u;
    }
    """
    u64 pmkv_clock_now() nogil
    u64 __builtin_bswap64(u64) nogil

TIME_MAX = ((<u64>1 << 56) - 1)


cdef u64 clock_now() noexcept nogil:
    """Microseconds since 1970, UTC: the same clock after a reboot, so that times in the pool mean something."""
    return pmkv_clock_now()


# ---- the word ----------------------------------------------------------------------------------

cdef int expiry_of(Pool* p, Txn* t, const Record* r, u64* time) noexcept nogil:
    """When the record expires, 0: never; as the transaction has it, or without one as a reader sees it."""
    time[0] = 0
    return unseal(p, r.expiry_place, tree_word(p, t, r.expiry_place), time) if r.expiry_place else PMKV_OK


cdef int expiry_compare(Pool* p, Txn* t, const Record* r, u64 now, bint* past) noexcept nogil:
    cdef u64 time
    cdef int status = expiry_of(p, t, r, &time)
    past[0] = status == PMKV_OK and 0 < time <= now
    return status


# ---- the tree ------------------------------------------------------------------------------------

cdef void encode(char* key, u64 time, u64 namespace_id, u64 place) noexcept nogil:
    cdef u64 granule = __builtin_bswap64((place >> GRANULE_SHIFT) << 24)
    time = __builtin_bswap64(time)
    memcpy(key, &time, 8)
    key[8], key[9] = <char>(namespace_id >> 8), <char>namespace_id
    memcpy(key + 10, &granule, 5)


cdef void decode(const char* key, Due* due) noexcept nogil:
    cdef u64 granule = 0
    memcpy(&due.time, key, 8)
    memcpy(&granule, key + 10, 5)
    due.time = __builtin_bswap64(due.time)
    due.namespace_id = <u64><unsigned char>key[8] << 8 | <unsigned char>key[9]
    due.place = __builtin_bswap64(granule) >> 24 << GRANULE_SHIFT


cdef int expiry_add(Txn* t, u64 time, u64 namespace_id, u64 place) noexcept nogil:
    """The record at the place, which has a word that says so, expires then; 0: never."""
    cdef char key[EXPIRY_KEY]
    if time == 0:
        return t.status
    encode(key, time, namespace_id, place)
    return keytree_insert_now(t, ROOT_EXPIRY, key, EXPIRY_KEY)


cdef int expiry_forget(Txn* t, const Record* r) noexcept nogil:
    """The record leaves its mapping (E1)."""
    cdef char key[EXPIRY_KEY]
    cdef u64 time
    cdef int status = expiry_of(t.p, t, r, &time)
    if status != PMKV_OK:
        return txn_fail(t, status)
    if time == 0:
        return t.status
    encode(key, time, record_namespace(r), r.place)
    return keytree_delete(t, ROOT_EXPIRY, key, EXPIRY_KEY)


cdef int expiry_change(Txn* t, const Record* r, u64 time) noexcept nogil:
    """The record, which has the word, expires at another time."""
    expiry_forget(t, r)
    txn_log_sealed(t, r.expiry_place, time)
    return expiry_add(t, time, record_namespace(r), r.place)


cdef int expiry_first(Pool* p, Txn* t, TreeCursor* cursor) noexcept nogil:
    """To what is due first; NOT_FOUND if nothing expires."""
    return keytree_edge(p, t, ROOT_EXPIRY, False, cursor)


cdef int expiry_next(Pool* p, Txn* t, TreeCursor* cursor, Due* due) noexcept nogil:
    """What the cursor is at, which moves on; NOT_FOUND at the end."""
    cdef Piece piece
    cdef char key[EXPIRY_KEY]
    cdef int status = PMKV_OK
    while status == PMKV_OK and cursor.index >= path_end(&cursor.path).count:
        status = keytree_next_leaf(p, t, cursor, True)
    if status == PMKV_OK:
        status = node_piece(p, t, path_end(&cursor.path), cursor.index, &piece)
    if status == PMKV_OK and parts_size(&piece.key) != EXPIRY_KEY:
        status = corrupted(p, PMKV_CHECK_TREE, path_end(&cursor.path).place)
    if status == PMKV_OK:
        parts_copy(&piece.key, 0, key)
        decode(key, due)
        cursor.index += 1
    return status


cdef bint expiry_is_sound(Pool* p, const Parts* key) noexcept nogil:
    """Whether a key of the tree says what its record says."""
    cdef char copied[EXPIRY_KEY]
    cdef Due due
    cdef Record r
    cdef u64 time = 0
    if parts_size(key) != EXPIRY_KEY:
        return False
    parts_copy(key, 0, copied)
    decode(copied, &due)
    return (record_parse(p, due.place, &r) == PMKV_OK and record_namespace(&r) == due.namespace_id
            and expiry_of(p, NULL, &r, &time) == PMKV_OK and time == due.time and time != 0)
