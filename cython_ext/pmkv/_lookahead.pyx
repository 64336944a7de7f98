"""_lookahead.pyx (L3): keys on the way to their records, many at a time.

May know: the mapping, records, nodes of the order.  Not where the keys come from.

A look-up has two halves, each of which waits for memory: the bucket, the record.  Whoever knows
the next keys does each half for several of them in one loop that is short enough for the
processor to have several under way: then the misses overlap, and those of the address
translation too.  A prefetch alone does not do that where 300 instructions lie between two.

These loops know sound words only.  Whatever else they meet is left to the mapping's own
functions, which tell damage from what is not there, and say which.
Threads: what is kept of a key is good for as long as nothing is committed.
"""
from pmkv._core cimport *
from pmkv._mapping cimport (
    LEVELS, Probe, alternate_of, bits_of, depth_of, mapping_locate, place_of, slot_place, tag_at,
)
from pmkv._pool cimport Pool, page_place
from pmkv._records cimport record_prefetch
from pmkv._writeset cimport Txn

cdef extern from *:
    int __builtin_ctz(unsigned) nogil


cdef inline bint follow(const Pool* p, u64 word, u64 last, Probe* probe) noexcept nogil:
    """From the root's word to the leaf of probe.hash; False if a word is not sound, or there is no leaf."""
    cdef u64 node, bits, consumed = 0
    cdef int level
    for level in range(LEVELS):
        node, bits = place_of(word), bits_of(word)
        if not pmkv_is_sealed(word) or node < p.header_size or node > last:
            return False
        if bits == 0:
            probe.leaf, probe.depth, probe.slot = node, depth_of(word), 0
            return probe.depth <= consumed
        if bits + consumed > 56:
            return False
        word = pmkv_load(&p.m, node + (probe.hash << consumed >> (64 - bits)) * 8)
        consumed += bits
    return False


cdef int ahead_locate(Pool* p, Txn* t, u64 root_place, Ahead* ring, u64 first, u64 end) noexcept nogil:
    """Finds the leaves of the keys from `first` to `end`, and asks for their home buckets; or an error."""
    cdef u64 word = pmkv_load(&p.m, root_place), last = page_place(p, p.file_pages - 1), i
    cdef Ahead* a
    cdef Probe* probe
    cdef int status
    for i in range(first, end):
        a = ahead_at(ring, i)
        probe = &a.probe
        a.bucket = a.record = probe.leaf = 0
        if a.version:
            continue
        probe.hash = pmkv_hash64(p.seed0, p.seed1, a.key, a.size)
        if t != NULL or not follow(p, word, last, probe):
            status = mapping_locate(p, t, root_place, probe.hash, probe)
            if status != PMKV_OK:
                return status
            if probe.leaf == 0:
                continue
        probe.home = probe.hash & 63
        probe.tag = a.wanted = tag_at(probe.hash, probe.depth)
        probe.alternate = alternate_of(probe.home, probe.tag)
        a.bucket = slot_place(probe.leaf, probe.home, 0)
    for i in range(first, end):
        pmkv_prefetch(pmkv_at(&p.m, ahead_at(ring, i).bucket))
    return PMKV_OK


cdef inline u64 look_at_bucket(const Pool* p, Ahead* a) noexcept nogil:
    """The record behind the first slot that has the key's tag, or 0; then a.bucket is the one to look at next."""
    cdef const u64* bucket = <const u64*>pmkv_at(&p.m, a.bucket)
    cdef unsigned same = pmkv_arch_match8(bucket, a.wanted, SLOT_TAG_MASK | SLOT_ALTERNATE)
    cdef u64 word
    a.bucket = 0
    if same:
        word = bucket[__builtin_ctz(same)]
        return place_of(word) if pmkv_is_sealed(word) else 0
    if not a.wanted & SLOT_ALTERNATE and bucket[BUCKET_SLOTS - 1] & SLOT_OVERFLOWED:
        a.bucket = slot_place(a.probe.leaf, a.probe.alternate, 0)
        a.wanted |= SLOT_ALTERNATE
    return 0


cdef void ahead_fetch(const Pool* p, Ahead* ring, u64 first, u64 end) noexcept nogil:
    """Looks at the buckets that were asked for: asks for the records, or for the alternate buckets.

    Done twice for each key, some time after each other, it leaves only what is rare to mapping_match().
    """
    cdef u64 fetched[RING]
    cdef Ahead* a
    cdef u64 i
    cdef int j, count = 0
    for i in range(first, end):
        a = ahead_at(ring, i)
        if a.bucket == 0:
            continue
        a.record = look_at_bucket(p, a)
        fetched[count] = a.record | a.bucket
        count += 1
    for j in range(count):
        record_prefetch(p, fetched[j])
