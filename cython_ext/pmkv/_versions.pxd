"""_versions.pxd (L4): superseded records that a reader of an earlier moment still sees."""
from pmkv._core cimport u64
from pmkv._keytree cimport TreeCursor
from pmkv._pool cimport Pool
from pmkv._records cimport Record
from pmkv._treenode cimport Parts
from pmkv._writeset cimport Txn

# How many keys a namespace had at a moment.
cdef struct Count:
    u64 moment
    u64 namespace
    u64 entries

# The moments that readers read at: each the number that the next commit was to have.
cdef struct Moments:
    u64* at                      # ascending; one that is open twice stands there twice
    size_t open_count
    size_t capacity
    Count* counts                # by moment, ascending
    size_t counts_count
    size_t counts_capacity
    u64 garbage_from[2]          # deaths from here on, (commit, granule), may be of no use any more
    u64 garbage_to               # up to those of this commit, not included

# A version as its key says.
cdef struct Version:
    u64 namespace_id
    u64 hash                     # of its key, in a namespace without order; else 0
    char* key
    u64 key_size
    u64 died                     # the commit that superseded it
    u64 born                     # the commit that wrote it
    u64 place
    char* memory                 # where the key is, and more; version_free gives it back
    u64 memory_size

cdef enum Edge:                  # which versions a seek goes to the first of
    BEFORE_KEY, BEHIND_KEY, BEHIND_ALL

cdef int moments_open(Moments* m, u64 moment) noexcept nogil
cdef void moments_close(Moments* m, u64 moment, u64 head) noexcept nogil
cdef void moments_free(Moments* m) noexcept nogil
cdef bint moments_entries(const Moments* m, u64 moment, u64 namespace, u64* entries) noexcept nogil
cdef int moments_save_counts(Moments* m, Txn* t) noexcept nogil

cdef inline bint is_garbage_due(const Moments* m) noexcept nogil:
    return m.garbage_from[0] < m.garbage_to

cdef inline u64 moments_newest(const Moments* m) noexcept nogil:
    """Records of earlier commits are seen by some reader; 0 if there is none."""
    return m.at[m.open_count - 1] if m.open_count else 0

cdef int version_keep(Txn* t, u64 place, bint by_hash) noexcept nogil
cdef int versions_collect(Txn* t, const Moments* m, u64 most, u64* resume) noexcept nogil
cdef int version_find(Pool* p, u64 namespace_id, bint by_hash, const char* key, u64 key_size, u64 moment,
                      Record* r) noexcept nogil
cdef int versions_seek(Pool* p, u64 namespace_id, const char* key, u64 key_size, Edge edge,
                       TreeCursor* cursor) noexcept nogil
cdef int versions_seek_hash(Pool* p, u64 namespace_id, u64 hash, TreeCursor* cursor) noexcept nogil
cdef int version_read(Pool* p, u64 namespace_id, bint by_hash, TreeCursor* cursor, bint forward,
                      Version* v) noexcept nogil
cdef int version_record(Pool* p, const Version* v, Record* r) noexcept nogil
cdef void version_free(Version* v) noexcept nogil
cdef bint version_is_sound(Pool* p, const Parts* key, u64* place) noexcept nogil
