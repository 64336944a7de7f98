# cython: boundscheck=True, wraparound=True
"""_oracle.pyx: what a pool holds, as a number, and the same of a model: they are equal, or something is wrong.

A test instrument beside the floors.  Keys of the default namespace are bytes in the model, those of
named ones pairs of name and key; names that begin with a zero byte are being dropped and do not count.
"""
from libc.string cimport memcpy
from pmkv._core cimport *
from pmkv._mapping cimport LEAF_SLOTS, Cursor, mapping_next_leaf
from pmkv._pool cimport Pool
from pmkv._records cimport Record, record_parse, record_verify


cdef u64 bytes_print(const void* data, u64 size, u64 seed) noexcept nogil:
    return pmkv_hash64(seed, 2, data, size)


cdef u64 pair_print(u64 name, const void* key, u64 key_size, const void* value, u64 value_size) noexcept nogil:
    return pmkv_fold(bytes_print(key, key_size, 1) ^ name | 1, bytes_print(value, value_size, 3) ^ PMKV_HASH_K0)


cdef int namespace_print(Pool* p, u64 namespace, u64 name, u64* fingerprint) noexcept nogil:
    """Adds the fingerprints of all keys and values, each record verified; of the catalogue, of what it names."""
    cdef Cursor cursor
    cdef Record r
    cdef u64 slots[LEAF_SLOTS]
    cdef u64 leaf, place
    cdef int i, status
    cursor.prefix, cursor.ended = 0, False
    while True:
        status = mapping_next_leaf(p, NULL, namespace + NAMESPACE_MAPPING, &cursor, slots, &leaf)
        if status != PMKV_OK or leaf == 0:
            return status
        for i in range(LEAF_SLOTS):
            if not slots[i] & GRANULE_MASK:
                continue
            status = record_parse(p, (slots[i] & GRANULE_MASK) << GRANULE_SHIFT, &r)
            if status == PMKV_OK:
                status = record_verify(p, &r)
            if status != PMKV_OK:
                return status
            if namespace != ROOT_CATALOGUE:
                fingerprint[0] += pair_print(name, r.key, r.key_size, r.value, r.value_size)
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


def model_print(dict model):
    """The same of a dict."""
    cdef u64 total = 0, name
    cdef bytes key
    for given, value in model.items():
        name = 0
        if isinstance(given, tuple):
            name = bytes_print(<const char*>(<bytes>given[0]), len(given[0]), 4)
            given = given[1]
        key = given
        total += pair_print(name, <const char*>key, len(key), <const char*>(<bytes>value), len(value))
    return total
