"""_codings.pyx (L4): how many values are coded in which way, and how large they were before.

May know: records, words of the root.  Not what a stage does.

The root has a few slots, one for each sequence of stages that values of the pool went through.  A
sequence that no value has any more leaves its slot to another.

Invariant
  G1. A slot counts the records under its stages that the mappings of all namespaces lead to.  It
      changes in the commit that changes the mapping.
"""
from libc.stdint cimport uint32_t
from pmkv._core cimport *
from pmkv._pool cimport Pool, corrupted
from pmkv._records cimport Record, record_body_is_whole, record_coding
from pmkv._writeset cimport Txn, txn_count, txn_fail, txn_log_sealed, txn_read_sealed

cdef enum:
    SLOT = sizeof(pmkv_coding_slot)


cdef inline u64 slot_place(u64 slot) noexcept nogil:
    return ROOT_CODINGS + slot * SLOT


cdef void coding_read(const Pool* p, u64 slot, CodingCount* found) noexcept nogil:
    """What the pool counts there now; seals are check()'s to test."""
    cdef u64 place = slot_place(slot)
    found.stages = pmkv_load(&p.m, place) & SEAL_MASK
    found.entries = pmkv_load(&p.m, place + SLOT_ENTRY_COUNT) & SEAL_MASK
    found.raw_bytes = pmkv_load(&p.m, place + SLOT_RAW_BYTES) & SEAL_MASK
    found.stored_bytes = pmkv_load(&p.m, place + SLOT_STORED_BYTES) & SEAL_MASK


cdef int find(Txn* t, u64 stages, u64* slot) noexcept nogil:
    """The slot of the stages, or else one that counts nothing; CODING_SLOTS: neither."""
    cdef u64 i, found, entries
    slot[0] = CODING_SLOTS
    for i in range(CODING_SLOTS):
        if (txn_read_sealed(t, slot_place(i), &found) != PMKV_OK
                or txn_read_sealed(t, slot_place(i) + SLOT_ENTRY_COUNT, &entries) != PMKV_OK):
            return t.status
        if found == stages:
            slot[0] = i
            break
        if entries == 0 and slot[0] == CODING_SLOTS:
            slot[0] = i
        if found == 0:            # slots are taken from the first on
            break
    return t.status


cdef int change(Txn* t, u64 slot, u64 raw_size, u64 stored_size, bint more) noexcept nogil:
    cdef u64 place = slot_place(slot)
    if more:
        txn_count(t, place + SLOT_ENTRY_COUNT, 1, 0)
        txn_count(t, place + SLOT_RAW_BYTES, raw_size, 0)
        return txn_count(t, place + SLOT_STORED_BYTES, stored_size, 0)
    txn_count(t, place + SLOT_ENTRY_COUNT, 0, 1)
    txn_count(t, place + SLOT_RAW_BYTES, 0, raw_size)
    return txn_count(t, place + SLOT_STORED_BYTES, 0, stored_size)


cdef int coding_add(Txn* t, u64 coding, u64 value_size) noexcept nogil:
    """A value was stored; `coding` 0: a plain one, which is not counted."""
    cdef u64 slot, stages = coding >> 32
    if coding == 0 or t.status != PMKV_OK or find(t, stages, &slot) != PMKV_OK:
        return t.status
    if slot == CODING_SLOTS:
        return txn_fail(t, PMKV_TOO_MANY_CODINGS)
    txn_log_sealed(t, slot_place(slot), stages)
    return change(t, slot, <uint32_t>coding, value_size, True)


cdef int coding_forget(Txn* t, const Record* r) noexcept nogil:
    """The record leaves the mapping.  It is tested, since others' counts change by what it says."""
    cdef u64 slot, found, coding = record_coding(r)
    if coding == 0 or t.status != PMKV_OK:
        return t.status
    if not record_body_is_whole(t.p, r):
        return txn_fail(t, corrupted(t.p, PMKV_CHECK_RECORD, r.place))
    if find(t, coding >> 32, &slot) != PMKV_OK:
        return t.status
    if slot == CODING_SLOTS or txn_read_sealed(t, slot_place(slot), &found) != PMKV_OK or found != coding >> 32:
        return txn_fail(t, corrupted(t.p, PMKV_CHECK_RECORD, r.place))
    return change(t, slot, <uint32_t>coding, r.value_size, False)
