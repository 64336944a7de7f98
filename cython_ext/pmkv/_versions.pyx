"""_versions.pyx (L4): superseded records that a reader of an earlier moment still sees.

May know: ordered keys, records.  Not how a commit comes to supersede a record.

A *moment* is the number of the commit that was to come next: its readers see what earlier commits
wrote.  A record that a commit takes out of a mapping while a reader sees it is kept as a *version*,
in two trees of the pool whose keys say all there is to know:

    versions   | namespace id 2 | [hash 8] | key, escaped | 0 1 | died 8 | born 8 | granule 5 |
    deaths     | died 8 | granule 5 | by hash? 1 |

Numbers are big-endian, so that the bytes are ordered as they are.  A zero byte of a key becomes 0 255,
so that the end, 0 1, comes before whatever a longer key goes on with.  The hash is there for namespaces
without order, whose scans go by it.

Moments are DRAM's: after a crash nobody sees any version, and commits clear them away.

Invariants
  V1. A version is in both trees or in neither, from the commit that supersedes its record on, and
      its record is allocated until the commit that takes it out.
  V2. Of versions of one key, the times from born to died do not overlap: a moment sees one at most,
      and none of a key whose record in the mapping it sees.
Threads: moments change under the GIL, while no step of a writer runs without it (_engine.pyx).
"""
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memmove, memset
from pmkv._core cimport *
from pmkv._keytree cimport (
    TreeCursor, keytree_delete, keytree_edge, keytree_insert_now, keytree_next_leaf, keytree_seek, path_end,
)
from pmkv._mapping cimport mapping_hash
from pmkv._pool cimport Pool, corrupted
from pmkv._records cimport Record, record_body_is_whole, record_commit, record_namespace, record_parse
from pmkv._treenode cimport Parts, Piece, node_piece, parts_compare, parts_copy, parts_size
from pmkv._writeset cimport Txn, txn_fail, txn_push

cdef enum:
    INSIDE = 256                  # bytes of an encoded key that need no memory of their own
    DEATH_SIZE = 14
    TRAILER = 21                  # died, born, granule
    CATALOGUE_ID = 0xffff         # the highest there is
    AT_ONCE = 32                  # deaths that are looked at before any is taken out

# A version's key, put together.
cdef struct Encoded:
    char inside[INSIDE]
    char* bytes
    u64 size

cdef extern from *:
    u64 __builtin_bswap64(u64) nogil


# ---- moments ---------------------------------------------------------------------------------

cdef int moments_open(Moments* m, u64 moment) noexcept nogil:
    """A reader begins; moments are opened in ascending order."""
    cdef u64* larger
    cdef size_t wanted
    if m.open_count == m.capacity:
        wanted = m.capacity * 2 if m.capacity else 16
        larger = <u64*>realloc(m.at, wanted * 8)
        if larger == NULL:
            return PMKV_NO_MEMORY
        m.at, m.capacity = larger, wanted
    m.at[m.open_count] = moment
    m.open_count += 1
    return PMKV_OK


cdef size_t moments_before(const Moments* m, u64 moment) noexcept nogil:
    """How many open moments are earlier."""
    cdef size_t low = 0, high = m.open_count, middle
    while low < high:
        middle = (low + high) // 2
        if m.at[middle] < moment:
            low = middle + 1
        else:
            high = middle
    return low


cdef bint is_seen(const Moments* m, u64 born, u64 died) noexcept nogil:
    """Whether an open moment lies behind `born`, and not behind `died`."""
    cdef size_t count = moments_before(m, died + 1)
    return count > 0 and m.at[count - 1] > born


cdef void moments_close(Moments* m, u64 moment, u64 head) noexcept nogil:
    """A reader ends: what only it saw died between its moment and the next one's, if there is one."""
    cdef size_t at = moments_before(m, moment)
    m.open_count -= 1
    memmove(&m.at[at], &m.at[at + 1], (m.open_count - at) * 8)
    if at < m.open_count and m.at[at] == moment:
        return
    pass_counts_on(m, moment, m.at[at - 1] if at else 0)
    if not is_garbage_due(m):
        m.garbage_from[0], m.garbage_from[1], m.garbage_to = moment, 0, 0
    elif moment <= m.garbage_from[0]:
        m.garbage_from[0], m.garbage_from[1] = moment, 0
    # A commit under way may be `head` itself.
    m.garbage_to = max(m.garbage_to, m.at[at] if at < m.open_count else head + 1)


cdef void moments_free(Moments* m) noexcept nogil:
    free(m.at)
    free(m.counts)
    memset(m, 0, sizeof(Moments))


# How many keys a namespace had at a moment: its first change since then notes it down, with the
# newest moment.  An earlier moment for which nothing is noted saw what the next one saw.

cdef bint moments_entries(const Moments* m, u64 moment, u64 namespace, u64* entries) noexcept nogil:
    """Whether that was noted down; else it is what the pool says now."""
    cdef size_t i
    for i in range(m.counts_count):
        if m.counts[i].moment >= moment and m.counts[i].namespace == namespace:
            entries[0] = m.counts[i].entries
            return True
    return False


cdef bint is_counted(const Moments* m, u64 moment, u64 namespace) noexcept nogil:
    cdef size_t i = m.counts_count
    while i > 0 and m.counts[i - 1].moment >= moment:
        i -= 1
        if m.counts[i].moment == moment and m.counts[i].namespace == namespace:
            return True
    return False


cdef void pass_counts_on(Moments* m, u64 moment, u64 before) noexcept nogil:
    """The moment ends: the one before it, if there is one, saw what it saw, unless it has its own notes."""
    cdef size_t i, kept = 0
    cdef Count count
    for i in range(m.counts_count):
        count = m.counts[i]
        if count.moment == moment:
            if before == 0 or is_counted_up_to(m, kept, before, count.namespace):
                continue
            count.moment = before
        m.counts[kept] = count
        kept += 1
    m.counts_count = kept


cdef bint is_counted_up_to(const Moments* m, size_t end, u64 moment, u64 namespace) noexcept nogil:
    cdef size_t i
    for i in range(end):
        if m.counts[i].moment == moment and m.counts[i].namespace == namespace:
            return True
    return False


cdef int moments_save_counts(Moments* m, Txn* t) noexcept nogil:
    """Notes down what the transaction is about to change."""
    cdef u64 newest = moments_newest(m), namespace
    cdef Count* larger
    cdef size_t i, wanted
    for i in range(t.counted_count if newest else 0):
        namespace = t.counted[i]
        if is_counted(m, newest, namespace):
            continue
        if m.counts_count == m.counts_capacity:
            wanted = m.counts_capacity * 2 if m.counts_capacity else 16
            larger = <Count*>realloc(m.counts, wanted * sizeof(Count))
            if larger == NULL:
                return txn_fail(t, PMKV_NO_MEMORY)
            m.counts, m.counts_capacity = larger, wanted
        m.counts[m.counts_count].moment = newest
        m.counts[m.counts_count].namespace = namespace
        m.counts[m.counts_count].entries = pmkv_load(&t.p.m, namespace + NAMESPACE_ENTRY_COUNT) & SEAL_MASK
        m.counts_count += 1
    return PMKV_OK


# ---- keys of the two trees ----------------------------------------------------------------------

cdef inline void put_number(char* out, u64 value, int size) noexcept nogil:
    """The low `size` bytes, the highest first."""
    value = __builtin_bswap64(value << (64 - 8 * size))
    memcpy(out, &value, size)


cdef inline u64 get_number(const char* at, int size) noexcept nogil:
    cdef u64 value = 0
    memcpy(&value, at, size)
    return __builtin_bswap64(value) >> (64 - 8 * size)


cdef u64 escape(const char* key, u64 size, char* out) noexcept nogil:
    """How many bytes it becomes."""
    cdef u64 i, at = 0
    for i in range(size):
        out[at] = key[i]
        at += 1
        if key[i] == 0:
            out[at] = <char>0xff
            at += 1
    return at


cdef int encode(Encoded* e, u64 namespace_id, bint by_hash, u64 hash, const char* key, u64 key_size) noexcept nogil:
    """The first part of a version's key, up to the end of the user's; encoded_free gives it back."""
    cdef u64 room = 2 + 8 + 2 * key_size + 2 + TRAILER
    e.bytes = &e.inside[0]
    if room > INSIDE:
        e.bytes = <char*>malloc(room)
        if e.bytes == NULL:
            return PMKV_NO_MEMORY
    put_number(e.bytes, namespace_id, 2)
    e.size = 2
    if by_hash:
        put_number(e.bytes + 2, hash, 8)
        e.size = 10
    if key != NULL:
        e.size += escape(key, key_size, e.bytes + e.size)
        put_number(e.bytes + e.size, 1, 2)
        e.size += 2
    return PMKV_OK


cdef inline void encoded_free(Encoded* e) noexcept nogil:
    if e.bytes != &e.inside[0]:
        free(e.bytes)


cdef void add_trailer(Encoded* e, u64 died, u64 born, u64 place) noexcept nogil:
    put_number(e.bytes + e.size, died, 8)
    put_number(e.bytes + e.size + 8, born, 8)
    put_number(e.bytes + e.size + 16, place >> GRANULE_SHIFT, 5)
    e.size += TRAILER


cdef int encode_record(Pool* p, u64 place, u64 died, bint by_hash, Encoded* e, char* death) noexcept nogil:
    """Both keys of the record's version."""
    cdef Record r
    cdef int status = record_parse(p, place, &r)
    if status == PMKV_OK and not record_body_is_whole(p, &r):
        status = corrupted(p, PMKV_CHECK_RECORD, place)
    if status == PMKV_OK:
        status = encode(e, record_namespace(&r), by_hash, mapping_hash(p, r.key, r.key_size) if by_hash else 0,
                        r.key, r.key_size)
    if status != PMKV_OK:
        return status
    add_trailer(e, died, record_commit(&r), place)
    put_number(death, died, 8)
    put_number(death + 8, place >> GRANULE_SHIFT, 5)
    death[13] = by_hash
    return PMKV_OK


# ---- keeping and collecting ------------------------------------------------------------------------

cdef int version_keep(Txn* t, u64 place, bint by_hash) noexcept nogil:
    """The record is superseded by this commit, and some reader still sees it (V1)."""
    cdef Encoded e
    cdef char death[DEATH_SIZE]
    cdef int status = encode_record(t.p, place, t.commit, by_hash, &e, death)
    if status != PMKV_OK:
        return txn_fail(t, status)
    keytree_insert_now(t, ROOT_VERSIONS, e.bytes, e.size)
    encoded_free(&e)
    return keytree_insert_now(t, ROOT_DEATHS, death, DEATH_SIZE)


cdef int take_out(Txn* t, const char* death) noexcept nogil:
    """The version's record is freed with the commit."""
    cdef Encoded e
    cdef char again[DEATH_SIZE]
    cdef u64 place = get_number(death + 8, 5) << GRANULE_SHIFT
    cdef int status = encode_record(t.p, place, get_number(death, 8), death[13] != 0, &e, again)
    if status != PMKV_OK:
        return txn_fail(t, status)
    keytree_delete(t, ROOT_VERSIONS, e.bytes, e.size)
    encoded_free(&e)
    keytree_delete(t, ROOT_DEATHS, death, DEATH_SIZE)
    return txn_push(t, &t.freed, &t.freed_count, &t.freed_capacity, place)


cdef int read_entry(Pool* p, Txn* t, TreeCursor* cursor, Piece* piece) noexcept nogil:
    """The cursor's entry, or the first of the next leaf; NOT_FOUND at the end."""
    cdef int status = PMKV_OK
    while status == PMKV_OK and cursor.index >= path_end(&cursor.path).count:
        status = keytree_next_leaf(p, t, cursor, True)
    return node_piece(p, t, path_end(&cursor.path), cursor.index, piece) if status == PMKV_OK else status


cdef int look_at_deaths(Txn* t, const u64* start, u64 end, int most, char* deaths, int* count) noexcept nogil:
    """Copies the next keys from `start` on, of commits before `end`: each larger than the one before."""
    cdef TreeCursor cursor
    cdef Piece piece
    cdef char last[DEATH_SIZE]
    cdef char* death
    cdef bint exact
    cdef int status
    count[0] = 0
    put_number(last, start[0], 8)
    put_number(last + 8, start[1], 5)
    last[13] = 0
    status = keytree_seek(t.p, t, ROOT_DEATHS, last, DEATH_SIZE, &cursor, &exact)
    while status == PMKV_OK and count[0] < most:
        status = read_entry(t.p, t, &cursor, &piece)
        if status == PMKV_OK and parts_size(&piece.key) != DEATH_SIZE:
            status = corrupted(t.p, PMKV_CHECK_TREE, path_end(&cursor.path).place)
        if status != PMKV_OK:
            break
        death = deaths + count[0] * DEATH_SIZE
        parts_copy(&piece.key, 0, death)
        if memcmp(death, last, DEATH_SIZE) < 0:
            return corrupted(t.p, PMKV_CHECK_TREE, path_end(&cursor.path).place)
        if get_number(death, 8) >= end:
            break
        memcpy(last, death, DEATH_SIZE)
        count[0] += 1
        cursor.index += 1
    return PMKV_OK if status == PMKV_NOT_FOUND else status


cdef int versions_collect(Txn* t, const Moments* m, u64 most, u64* resume) noexcept nogil:
    """Takes out versions that nobody sees, looking at `most`; `resume`: where to go on.

    A version whose record is damaged stays where it is: check() tells of it.
    """
    cdef char deaths[AT_ONCE * DEATH_SIZE]
    cdef const char* death
    cdef Record r
    cdef u64 looked = 0
    cdef int i, count = 0, portion, status
    resume[0], resume[1] = m.garbage_from[0], m.garbage_from[1]
    while looked < most and t.status == PMKV_OK:
        portion = <int>min(most - looked, <u64>AT_ONCE)
        status = look_at_deaths(t, resume, m.garbage_to, portion, deaths, &count)
        if status != PMKV_OK:
            return txn_fail(t, status)
        for i in range(count):
            death = deaths + i * DEATH_SIZE
            if (record_parse(t.p, get_number(death + 8, 5) << GRANULE_SHIFT, &r) == PMKV_OK
                    and record_body_is_whole(t.p, &r) and not is_seen(m, record_commit(&r), get_number(death, 8))
                    and take_out(t, death) != PMKV_OK):
                return t.status
            resume[0], resume[1] = get_number(death, 8), get_number(death + 8, 5) + 1
        looked += count
        if count < portion:
            resume[0], resume[1] = m.garbage_to, 0
            break
    return t.status


# ---- reading ------------------------------------------------------------------------------------------

cdef int seek(Pool* p, Encoded* e, TreeCursor* cursor) noexcept nogil:
    cdef bint exact
    cdef int status = keytree_seek(p, NULL, ROOT_VERSIONS, e.bytes, e.size, cursor, &exact)
    encoded_free(e)
    return status


cdef int versions_seek(Pool* p, u64 namespace_id, const char* key, u64 key_size, Edge edge,
                       TreeCursor* cursor) noexcept nogil:
    """To the first version that is not before the edge, which may be the first of the next leaf; NOT_FOUND
    if there are none at all.  key NULL: before all of the namespace's."""
    cdef Encoded e
    cdef int status
    if edge == BEHIND_ALL and namespace_id == CATALOGUE_ID:
        status = keytree_edge(p, NULL, ROOT_VERSIONS, True, cursor)
        cursor.index += 1
        return status
    if edge == BEHIND_ALL:
        namespace_id, key = namespace_id + 1, NULL
    if encode(&e, namespace_id, False, 0, key, key_size) != PMKV_OK:
        return PMKV_NO_MEMORY
    if edge == BEHIND_KEY:
        e.bytes[e.size - 1] = 2
    return seek(p, &e, cursor)


cdef int versions_seek_hash(Pool* p, u64 namespace_id, u64 hash, TreeCursor* cursor) noexcept nogil:
    """The same, by hash."""
    cdef Encoded e
    encode(&e, namespace_id, True, hash, NULL, 0)
    return seek(p, &e, cursor)


cdef int reserve(Version* v, u64 size) noexcept nogil:
    cdef char* larger
    if size > v.memory_size:
        larger = <char*>realloc(v.memory, size)
        if larger == NULL:
            return PMKV_NO_MEMORY
        v.memory, v.memory_size = larger, size
    return PMKV_OK


cdef bint decode(Version* v, u64 size, bint by_hash) noexcept nogil:
    """Takes the key in `memory` apart; False if it is none."""
    cdef u64 at = 10 if by_hash else 2, out, end = size - TRAILER - 2
    if size < at + 2 + TRAILER or v.memory[end] != 0 or v.memory[end + 1] != 1:
        return False
    v.namespace_id = get_number(v.memory, 2)
    v.hash = get_number(v.memory + 2, 8) if by_hash else 0
    v.died = get_number(v.memory + end + 2, 8)
    v.born = get_number(v.memory + end + 10, 8)
    v.place = get_number(v.memory + end + 18, 5) << GRANULE_SHIFT
    v.key = v.memory + at
    out = at
    while at < end:
        v.memory[out] = v.memory[at]
        at += 2 if v.memory[at] == 0 else 1
        out += 1
    v.key_size = <u64>(v.memory + out - v.key)
    return True


cdef int version_read(Pool* p, u64 namespace_id, bint by_hash, TreeCursor* cursor, bint forward,
                      Version* v) noexcept nogil:
    """The version at the cursor, which moves on; NOT_FOUND behind the namespace's last, or before its first."""
    cdef Piece piece
    cdef u64 size
    cdef int status = PMKV_OK
    while status == PMKV_OK and not 0 <= cursor.index < path_end(&cursor.path).count:
        status = keytree_next_leaf(p, NULL, cursor, forward)
    if status == PMKV_OK:
        status = node_piece(p, NULL, path_end(&cursor.path), cursor.index, &piece)
    if status != PMKV_OK:
        return status
    size = parts_size(&piece.key)
    if reserve(v, size + 8) != PMKV_OK:
        return PMKV_NO_MEMORY
    parts_copy(&piece.key, 0, v.memory)
    cursor.index += 1 if forward else -1
    if size >= 2 and get_number(v.memory, 2) != namespace_id:
        return PMKV_NOT_FOUND
    return PMKV_OK if decode(v, size, by_hash) else corrupted(p, PMKV_CHECK_TREE, path_end(&cursor.path).place)


cdef int version_record(Pool* p, const Version* v, Record* r) noexcept nogil:
    """The record of a version, which must be what its key says."""
    cdef int status = record_parse(p, v.place, r)
    if status == PMKV_OK and (r.key_size != v.key_size or memcmp(r.key, v.key, v.key_size) != 0
                              or record_commit(r) != v.born or record_namespace(r) != v.namespace_id):
        return corrupted(p, PMKV_CHECK_RECORD, v.place)
    return status


cdef void version_free(Version* v) noexcept nogil:
    free(v.memory)
    memset(v, 0, sizeof(Version))


cdef int version_find(Pool* p, u64 namespace_id, bint by_hash, const char* key, u64 key_size, u64 moment,
                      Record* r) noexcept nogil:
    """The version of the key that a reader at the moment sees; NOT_FOUND if there is none."""
    cdef Encoded e
    cdef Version v
    cdef TreeCursor cursor
    cdef int status = encode(&e, namespace_id, by_hash, mapping_hash(p, key, key_size) if by_hash else 0, key,
                             key_size)
    if status != PMKV_OK:
        return status
    add_trailer(&e, moment, 0, 0)
    status = seek(p, &e, &cursor)
    memset(&v, 0, sizeof(Version))
    if status == PMKV_OK:
        status = version_read(p, namespace_id, by_hash, &cursor, True, &v)
    if status == PMKV_OK and (v.key_size != key_size or memcmp(v.key, key, key_size) != 0 or v.born >= moment):
        status = PMKV_NOT_FOUND
    if status == PMKV_OK:
        status = version_record(p, &v, r)
    version_free(&v)
    return status


# ---- checking -----------------------------------------------------------------------------------------

cdef bint is_key_of(Pool* p, const Parts* key, u64 died, u64 place, bint by_hash) noexcept nogil:
    """Whether both keys of the record's version are there, `key` being the first."""
    cdef Encoded e
    cdef Parts wanted
    cdef TreeCursor cursor
    cdef char death[DEATH_SIZE]
    cdef bint exact = False
    if encode_record(p, place, died, by_hash, &e, death) != PMKV_OK:
        return False
    wanted.a, wanted.a_size, wanted.b, wanted.b_size = NULL, 0, e.bytes, e.size
    if parts_compare(&wanted, key) == 0:
        keytree_seek(p, NULL, ROOT_DEATHS, death, DEATH_SIZE, &cursor, &exact)
    encoded_free(&e)
    return exact


cdef bint version_is_sound(Pool* p, const Parts* key, u64* place) noexcept nogil:
    """Whether a key of the first tree says what its record and the other tree say; where its record is."""
    cdef char trailer[TRAILER]
    cdef u64 size = parts_size(key), died
    if size < TRAILER:
        return False
    parts_copy(key, size - TRAILER, trailer)
    died = get_number(trailer, 8)
    place[0] = get_number(trailer + 16, 5) << GRANULE_SHIFT
    return get_number(trailer + 8, 8) < died and (is_key_of(p, key, died, place[0], False)
                                                  or is_key_of(p, key, died, place[0], True))
