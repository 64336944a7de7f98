# cython: boundscheck=True, wraparound=True
"""_oracle.pyx: what a pool holds, as a number, and the same of a model: they are equal, or something is wrong.

A test instrument beside the floors.  Keys of the default namespace are bytes in the model, those of
named ones pairs of name and key; names that begin with a zero byte are being dropped and do not count.
Those that begin with "u" have no order.  Of all others the keys are counted in their order, forwards and
one by one by their position, and each is asked where it is: so the ordered keys and the counts in their
nodes are compared with the model, not with the mapping.  A value that is an Until says when its key expires, and
what its coding is.
"""
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
from pmkv._core cimport *
from pmkv._expiry cimport expiry_of
from pmkv._keytree cimport TreeCursor, keytree_at, keytree_edge, keytree_next_leaf, keytree_rank, path_end
from pmkv._mapping cimport LEAF_SLOTS, Cursor, mapping_next_leaf
from pmkv._pool cimport Pool, corrupted
from pmkv._records cimport Record, record_coding, record_parse, record_verify
from pmkv._treenode cimport Piece, node_piece, parts_compare, parts_copy, parts_size


cdef u64 bytes_print(const void* data, u64 size, u64 seed) noexcept nogil:
    return pmkv_hash64(seed, 2, data, size)


cdef u64 pair_print(u64 name, const void* key, u64 key_size, const void* value, u64 value_size,
                    u64 time, u64 coding) noexcept nogil:
    cdef u64 found = bytes_print(value, value_size, 3 + time) ^ coding
    return pmkv_fold(bytes_print(key, key_size, 1) ^ name | 1, found ^ PMKV_HASH_K0)


cdef inline u64 order_step(u64 before, const void* key, u64 size, u64 position) noexcept nogil:
    return pmkv_fold(before ^ bytes_print(key, size, 5), PMKV_HASH_K0 + position)


cdef int take_key(Pool* p, u64 root_place, TreeCursor* cursor, u64 position, u64* order) noexcept nogil:
    """The key under the cursor joins the print; CORRUPTED if it is not at that position, whoever is asked."""
    cdef TreeCursor other
    cdef Piece piece, same
    cdef u64 size, rank = 0
    cdef char* whole
    cdef int status = node_piece(p, NULL, path_end(&cursor.path), cursor.index, &piece)
    if status == PMKV_OK:
        status = keytree_at(p, NULL, root_place, position, &other)
    if status == PMKV_OK:
        status = node_piece(p, NULL, path_end(&other.path), other.index, &same)
    if status != PMKV_OK:
        return status
    size = parts_size(&piece.key)
    whole = <char*>malloc(size + 1)
    if whole == NULL:
        return PMKV_NO_MEMORY
    parts_copy(&piece.key, 0, whole)
    order[0] = order_step(order[0], whole, size, position)
    status = keytree_rank(p, NULL, root_place, whole, size, &rank)
    free(whole)
    if status == PMKV_OK and (rank != position or parts_compare(&piece.key, &same.key) != 0):
        return corrupted(p, PMKV_CHECK_TREE, root_place)
    return status


cdef int order_print(Pool* p, u64 namespace, u64 name, u64* fingerprint) noexcept nogil:
    """Adds the fingerprint of the keys in their order."""
    cdef TreeCursor cursor
    cdef u64 order = name, position = 0, root_place = namespace + NAMESPACE_KEYTREE
    cdef int status = keytree_edge(p, NULL, root_place, False, &cursor)
    while status == PMKV_OK:
        if cursor.index >= path_end(&cursor.path).count:
            status = keytree_next_leaf(p, NULL, &cursor, True)
            continue
        status = take_key(p, root_place, &cursor, position, &order)
        cursor.index += 1
        position += 1
    if position:
        fingerprint[0] += order
    return PMKV_OK if status == PMKV_NOT_FOUND else status


cdef int namespace_print(Pool* p, u64 namespace, u64 name, u64* fingerprint) noexcept nogil:
    """Adds the fingerprints of all keys and values, each record verified; of the catalogue, of what it names."""
    cdef Cursor cursor
    cdef Record r
    cdef u64 slots[LEAF_SLOTS]
    cdef u64 leaf, place, time = 0
    cdef int i, status
    cursor.prefix, cursor.ended = 0, False
    while True:
        status = mapping_next_leaf(p, NULL, namespace + NAMESPACE_MAPPING, &cursor, slots, &leaf)
        if status == PMKV_OK and leaf == 0 and namespace != ROOT_CATALOGUE:
            return order_print(p, namespace, name, fingerprint)
        if status != PMKV_OK or leaf == 0:
            return status
        for i in range(LEAF_SLOTS):
            if not slots[i] & GRANULE_MASK:
                continue
            status = record_parse(p, (slots[i] & GRANULE_MASK) << GRANULE_SHIFT, &r)
            if status == PMKV_OK:
                status = record_verify(p, &r)
            if status == PMKV_OK:
                status = expiry_of(p, NULL, &r, &time)
            if status != PMKV_OK:
                return status
            if namespace != ROOT_CATALOGUE:
                fingerprint[0] += pair_print(name, r.key, r.key_size, r.value, r.value_size, time,
                                             record_coding(&r))
            elif r.key[0] != 0 and r.value_size == 8:
                memcpy(&place, r.value, 8)
                status = namespace_print(p, place, bytes_print(r.key, r.key_size, 4), fingerprint)
                if status != PMKV_OK:
                    return status


cdef int pool_print(Pool* p, u64* fingerprint) noexcept nogil:
    cdef int status
    fingerprint[0] = 0
    status = namespace_print(p, ROOT_DEFAULT_NAMESPACE, 0, fingerprint)
    return namespace_print(p, ROOT_CATALOGUE, 0, fingerprint) if status == PMKV_OK else status


class Until(bytes):
    """A value whose key expires, or that has a coding; `expiry` says when, in microseconds since 1970."""

    expiry = 0
    coding = 0


def until(bytes value, u64 expiry, u64 coding=0):
    """The value, of a key that expires then; 0: never.  `coding`: of a value under a codec."""
    if expiry == 0 and coding == 0:
        return value
    made = Until(value)
    made.expiry, made.coding = expiry, coding
    return made


def model_print(dict model):
    """The same of a dict."""
    cdef u64 total = 0, name
    cdef bytes key
    cdef dict ordered = {}
    for given, value in model.items():
        name, space = 0, b""
        if isinstance(given, tuple):
            space, given = given
            name = bytes_print(<const char*>(<bytes>space), len(space), 4)
        key = given
        total += pair_print(name, <const char*>key, len(key), <const char*>(<bytes>value), len(value),
                            getattr(value, "expiry", 0), getattr(value, "coding", 0))
        if space[:1] != b"u":
            ordered.setdefault(name, []).append(key)
    for place, keys in ordered.items():
        total += keys_print(place, sorted(keys))
    return total


cdef u64 keys_print(u64 name, list keys) except? 0:
    cdef u64 order = name, position = 0
    cdef bytes key
    for key in keys:
        order = order_step(order, <const char*>key, len(key), position)
        position += 1
    return order
