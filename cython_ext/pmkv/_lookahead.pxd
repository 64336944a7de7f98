"""_lookahead.pxd (L3): keys on the way to their records, many at a time."""
from pmkv._core cimport PMKV_OK, u64
from pmkv._mapping cimport Probe
from pmkv._pool cimport Pool
from pmkv._records cimport Record, record_parse, same_bytes
from pmkv._treenode cimport COPY_ROOM
from pmkv._writeset cimport Txn

cdef enum:
    RING = 32                    # keys that can be under way; a power of two
    INSIDE = 64                  # bytes of a key that need no memory of their own

# A key under way.
cdef struct Ahead:
    char* key
    u64 size
    u64 version                  # place of a record that needs no looking up, 0: it is found by its key
    u64 born                     # of such a version: the commit that wrote it
    u64 bucket                   # place of the bucket to look at next, 0: none
    u64 wanted                   # the key's tag in a slot of that bucket
    u64 record                   # place of the record that is likely the key's, 0: the mapping has to be asked
    Probe probe
    char* larger                 # memory of its own, for a long key
    u64 larger_size
    char inside[INSIDE + COPY_ROOM]

cdef inline Ahead* ahead_at(Ahead* ring, u64 number) noexcept nogil:
    return ring + (number & (RING - 1))

cdef inline bint ahead_match(Pool* p, const Ahead* a, Record* r) noexcept nogil:
    """Whether the likely record is the key's; if not, or if it is damaged, mapping_match() has to look."""
    return (a.record != 0 and record_parse(p, a.record, r) == PMKV_OK and r.key_size == a.size
            and same_bytes(r.key, a.key, a.size))

cdef int ahead_locate(Pool* p, Txn* t, u64 root_place, Ahead* ring, u64 first, u64 end) noexcept nogil
cdef void ahead_fetch(const Pool* p, Ahead* ring, u64 first, u64 end) noexcept nogil
