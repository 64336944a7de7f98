"""_compact.pxd (L5): compaction, in slices."""
from pmkv._core cimport u64
from pmkv._mapping cimport Cursor
from pmkv._pool cimport Ceiling, Pool
from pmkv._records cimport Tally
from pmkv._space cimport Pins
from pmkv._writeset cimport Txn

cdef enum:
    ROOTS_AT_ONCE = 128

cdef enum CompactionPhase:
    COMPACTION_COUNT, COMPACTION_MEASURE, COMPACTION_CHOOSE, COMPACTION_LIST, COMPACTION_RECORDS
    COMPACTION_TREES, COMPACTION_OWN_TREES, COMPACTION_LEAVES, COMPACTION_ROOTS, COMPACTION_CUT
    COMPACTION_RELIST, COMPACTION_LAST_CUT, COMPACTION_DONE

# A namespace's root that has another place from the commit on.
cdef struct MovedRoot:
    u64 old
    u64 new

cdef struct Compaction:
    Pins* pins
    bint walked                  # somebody relies on where records of namespaces without order lie
    CompactionPhase phase
    Ceiling ceiling
    u64 passes
    u64 raised                   # so many of them found too little room
    Tally tally                  # of this pass
    # what the pool holds
    u64 used[32]                 # units in blocks, by class
    u64 room[32]                 # units below the class's ceiling
    u64 leaves
    u64 others                   # pages of extents, nodes, limbo
    u64 entries
    u64 namespaces
    # where the walk is
    u64 page
    int which                    # the default namespace, the catalogue, those that it names
    Cursor names
    int name_slot
    u64 id                       # of the namespace under way
    Cursor cursor
    int slot
    u64 rank
    # of one slice
    u64 steps
    u64 bytes
    u64 cut                      # pages that the file keeps; 0: it stays as it is
    int root_count
    MovedRoot roots[ROOTS_AT_ONCE]

cdef void compaction_begin(Compaction* c, Pins* pins) noexcept nogil
cdef int compaction_fill(Txn* t, Compaction* c) noexcept nogil
cdef int compaction_committed(Pool* p, Compaction* c) noexcept nogil
cdef void compaction_stop(Pool* p, Compaction* c) noexcept nogil
