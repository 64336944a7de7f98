"""_check.pyx (L5): the whole pool, read and accounted for.

Every page below the frontier is what its descriptor says; every granule whose bit is set is
reached from a mapping, from ordered keys, from the catalogue, from versions or from limbo exactly once, and no
other is; lists, bins and counts agree with what was seen; every record's checksum fits and its key
leads back to it.

Memory: 33 bytes a page while it runs.  Changes nothing.
"""
from libc.stdint cimport uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset
from pmkv._blocks cimport NODE_CLASS, RECORD_CLASSES, class_pages, class_unit_shift
from pmkv._catalogue cimport catalogue_by_id, is_id_name
from pmkv._codings cimport CodingCount, coding_read
from pmkv._core cimport *
from pmkv._expiry cimport expiry_is_sound
from pmkv._mapping cimport LEAF_SLOTS, Cursor, mapping_get, mapping_next_leaf
from pmkv._pages cimport bin_of, descriptor_is_whole
from pmkv._pool cimport Pool, descriptor_place, page_place, place_page, pool_damaged_copies
from pmkv._records cimport (
    RECORD_CODED, Record, record_body_is_whole, record_coding, record_parse, record_value_is_whole,
)
from pmkv._treenode cimport (
    TREE_LEVELS, Node, Parts, Piece, node_piece, node_read, parts_compare, parts_copy, parts_size,
)
from pmkv._versions cimport version_is_sound

cdef extern from *:
    """
    #define PMKV_PROBLEMS(P)                                                       \\
        P(NONE, "nothing")                                                         \\
        P(SEAL, "a word fails its check")                                          \\
        P(DESCRIPTOR, "a descriptor fails its checksum")                           \\
        P(KIND, "a descriptor says something impossible")                          \\
        P(INTERIOR, "a page inside a run has a descriptor of its own")             \\
        P(FREE_RUNS_TOUCH, "two free runs touch")                                  \\
        P(FREE_LIST, "a list of free runs is broken")                              \\
        P(FREE_COUNT, "the count of free pages is wrong")                          \\
        P(BLOCK_LIST, "a list of blocks is broken")                                \\
        P(REFERENCE, "the mapping refers to something that is not part of it")     \\
        P(RECORD, "a record fails its checksum")                                   \\
        P(VALUE, "a value fails its checksum")                                     \\
        P(LOST, "a key does not lead to its record")                               \\
        P(DOUBLE, "space is used twice")                                           \\
        P(NOT_ALLOCATED, "space in use is marked free")                            \\
        P(LEAKED, "space is marked used, but nothing uses it")                     \\
        P(ENTRY_COUNT, "the count of entries is wrong")                            \\
        P(LIVE_BYTES, "the count of live bytes is wrong")                          \\
        P(LIMBO, "limbo is broken")                                                \\
        P(CODINGS, "the counts of values under codecs are wrong")                  \\
        P(TREE, "a node of the ordered keys is damaged")                           \\
        P(TREE_ORDER, "the ordered keys are not in order")                         \\
        P(TREE_COUNT, "a count of ordered keys is wrong")                          \\
        P(TREE_KEYS, "ordered keys and mapping disagree")                          \\
        P(VERSIONS, "the trees of superseded records disagree with each other or with a record") \\
        P(EXPIRY, "the tree of what expires and a record disagree")                \\
        P(CATALOGUE, "the catalogue refers to something that is not a namespace")  \\
        P(SUPERBLOCK, "a copy of the superblock is damaged; opening for writing repairs it")
    #define PMKV_ENUM_PROBLEM_(name, text) PROBLEM_##name,
    enum pmkv_problem { PMKV_PROBLEMS(PMKV_ENUM_PROBLEM_) };
    #define PMKV_TEXT_PROBLEM_(name, text) text,
    static const char *const problem_texts[] = {PMKV_PROBLEMS(PMKV_TEXT_PROBLEM_)};
    """
    enum:
        PROBLEM_SEAL, PROBLEM_DESCRIPTOR, PROBLEM_KIND, PROBLEM_INTERIOR, PROBLEM_FREE_RUNS_TOUCH
        PROBLEM_FREE_LIST, PROBLEM_FREE_COUNT, PROBLEM_BLOCK_LIST, PROBLEM_REFERENCE, PROBLEM_RECORD
        PROBLEM_VALUE, PROBLEM_LOST, PROBLEM_DOUBLE, PROBLEM_NOT_ALLOCATED, PROBLEM_LEAKED
        PROBLEM_ENTRY_COUNT, PROBLEM_LIVE_BYTES, PROBLEM_LIMBO, PROBLEM_CODINGS, PROBLEM_SUPERBLOCK
        PROBLEM_TREE, PROBLEM_TREE_ORDER, PROBLEM_TREE_COUNT, PROBLEM_TREE_KEYS
        PROBLEM_VERSIONS, PROBLEM_EXPIRY, PROBLEM_CATALOGUE
    const char* const problem_texts[]

cdef struct Walk:
    Pool* p
    Report* report
    u64 frontier
    u64* units                # four words a page: units of its block that were reached
    unsigned char* reached    # one byte a page: the run that it heads was reached
    u64 free_runs
    u64 listed_blocks
    bint verify_values
    CodingCount codings[64]   # what was seen of values under codecs
    # of the tree that is walked
    u64 tree                  # where it hangs
    u64 mapping               # of ordered keys: where their namespace's mapping hangs
    Parts last                # the key before
    Parts separator           # what the next key must not be below
    bint begun


cdef const char* problem_text(int what) noexcept nogil:
    return problem_texts[what]


cdef void note(Walk* w, int what, u64 place) noexcept nogil:
    if w.report.problem_count < PROBLEMS_KEPT:
        w.report.problems[w.report.problem_count].what = what
        w.report.problems[w.report.problem_count].place = place
    w.report.problem_count += 1


cdef inline pmkv_descriptor* descriptor(const Walk* w, u64 page) noexcept nogil:
    return <pmkv_descriptor*>pmkv_at(&w.p.m, descriptor_place(page))


cdef u64 sealed(Walk* w, u64 place) noexcept nogil:
    """The payload of a sealed word; 0, and a problem noted, if it is damaged."""
    cdef u64 word = pmkv_load(&w.p.m, place)
    if pmkv_is_sealed(word):
        return word & SEAL_MASK
    note(w, PROBLEM_SEAL, place)
    return 0


cdef bint is_zero(const void* line) noexcept nogil:
    cdef const u64* words = <const u64*>line
    return (words[0] | words[1] | words[2] | words[3] | words[4] | words[5] | words[6] | words[7]) == 0


# ---- 1. the pages ---------------------------------------------------------------------------

cdef void check_inside(Walk* w, u64 first, u64 count, bint block) noexcept nogil:
    """The descriptors inside a run: bodies of a block, the tail of a free run, zero elsewhere."""
    cdef u64 i
    cdef pmkv_descriptor* d
    for i in range(1, count):
        d = descriptor(w, first + i)
        if not descriptor_is_whole(w.p, first + i):
            note(w, PROBLEM_DESCRIPTOR, descriptor_place(first + i))
        elif block:
            if d.kind != PMKV_PAGE_BODY or d.page_count != i:
                note(w, PROBLEM_INTERIOR, descriptor_place(first + i))
        elif d.kind == PMKV_PAGE_FREE_TAIL:
            if i != count - 1 or d.page_count != i or descriptor(w, first).kind != PMKV_PAGE_FREE:
                note(w, PROBLEM_INTERIOR, descriptor_place(first + i))
        elif not is_zero(d) or (descriptor(w, first).kind == PMKV_PAGE_FREE and i == count - 1):
            note(w, PROBLEM_INTERIOR, descriptor_place(first + i))


cdef u64 check_run(Walk* w, u64 page, bint* was_free) noexcept nogil:
    """Looks at the run that begins at `page`; how many pages it has."""
    cdef pmkv_descriptor* d = descriptor(w, page)
    cdef u64 count = d.page_count
    cdef bint block = d.kind == PMKV_PAGE_RECORDS or d.kind == PMKV_PAGE_NODES
    cdef bint is_free = d.kind == PMKV_PAGE_FREE
    if not descriptor_is_whole(w.p, page):
        note(w, PROBLEM_DESCRIPTOR, descriptor_place(page))
        return 1
    if (count == 0 or page + count > w.frontier or d.kind == PMKV_PAGE_FRESH or d.kind == PMKV_PAGE_FREE_TAIL
            or d.kind == PMKV_PAGE_BODY or d.kind > PMKV_PAGE_LIMBO
            or (block and (d.block_class > NODE_CLASS + 8 or count != class_pages(d.block_class)
                           or (d.kind == PMKV_PAGE_RECORDS) != (d.block_class < RECORD_CLASSES)))):
        note(w, PROBLEM_KIND, descriptor_place(page))
        was_free[0] = False
        return 1
    check_inside(w, page, count, block)
    if is_free:
        if was_free[0] or page + count == w.frontier:
            note(w, PROBLEM_FREE_RUNS_TOUCH, descriptor_place(page))
        w.free_runs += 1
        w.report.free_pages += count
    elif d.kind == PMKV_PAGE_RECORDS:
        w.report.records_pages += count
    elif d.kind == PMKV_PAGE_EXTENT:
        w.report.extent_pages += count
    elif d.kind != PMKV_PAGE_LIMBO:
        w.report.mapping_pages += count
    if block and d.listed:
        w.listed_blocks += 1
    was_free[0] = is_free
    return count


cdef void check_pages(Walk* w) noexcept nogil:
    cdef u64 page = 1
    cdef bint was_free = False
    while page < w.frontier:
        page += check_run(w, page, &was_free)
    while page < w.p.file_pages:      # F5: never used
        if not is_zero(descriptor(w, page)):
            note(w, PROBLEM_INTERIOR, descriptor_place(page))
        page += 1
    if sealed(w, ROOT_FREE_PAGE_COUNT) != w.report.free_pages:
        note(w, PROBLEM_FREE_COUNT, ROOT_FREE_PAGE_COUNT)


# ---- 2. the lists ------------------------------------------------------------------------------

cdef u64 check_list(Walk* w, u64 list_place, int problem, int bin_index, int block_class) noexcept nogil:
    """Follows a list; how many pages it has.  A cycle ends because a run is in one list once."""
    cdef u64 page = sealed(w, list_place), before = 0, length = 0
    cdef pmkv_descriptor* d
    while page:
        d = descriptor(w, page)
        if page >= w.frontier or length > w.frontier or d.prev != before:
            note(w, problem, list_place)
            return length
        if bin_index >= 0:
            if d.kind != PMKV_PAGE_FREE or bin_of(d.page_count) != bin_index:
                note(w, problem, descriptor_place(page))
                return length
        elif d.kind not in (PMKV_PAGE_RECORDS, PMKV_PAGE_NODES) or d.block_class != block_class or not d.listed:
            note(w, problem, descriptor_place(page))
            return length
        before = page
        page = d.next
        length += 1
    return length


cdef void check_lists(Walk* w) noexcept nogil:
    cdef u64 runs = 0, blocks = 0, current, length, bits
    cdef int i
    for i in range(FREE_BINS):
        length = check_list(w, ROOT_FREE_BIN + <u64>i * 8, PROBLEM_FREE_LIST, i, 0)
        bits = sealed(w, ROOT_BIN_BITMAP + <u64>(i // 56) * 8)
        if (length != 0) != ((bits >> (i % 56) & 1) != 0):
            note(w, PROBLEM_FREE_LIST, ROOT_BIN_BITMAP)
        runs += length
    if runs != w.free_runs:
        note(w, PROBLEM_FREE_LIST, ROOT_FREE_BIN)
    for i in range(BLOCK_CLASSES):
        blocks += check_list(w, ROOT_BLOCK_PARTIAL + <u64>i * 8, PROBLEM_BLOCK_LIST, -1, i)
        current = sealed(w, ROOT_BLOCK_CURRENT + <u64>i * 8)
        if current and (current >= w.frontier or descriptor(w, current).block_class != i
                        or descriptor(w, current).kind not in (PMKV_PAGE_RECORDS, PMKV_PAGE_NODES)
                        or descriptor(w, current).listed):
            note(w, PROBLEM_BLOCK_LIST, ROOT_BLOCK_CURRENT + <u64>i * 8)
    if blocks != w.listed_blocks:
        note(w, PROBLEM_BLOCK_LIST, ROOT_BLOCK_PARTIAL)


# ---- 3. what is reached ---------------------------------------------------------------------------

cdef bint reach_run(Walk* w, u64 place, u64 size, int kind) noexcept nogil:
    """Marks a run of pages as in use; False if it is not one of that kind, or was in use already."""
    cdef u64 page
    if place < w.p.header_size or (place - w.p.header_size) % PAGE_SIZE:
        return False
    page = place_page(w.p, place)
    if page >= w.frontier or descriptor(w, page).kind != kind:
        return False
    if descriptor(w, page).page_count != (size + PAGE_SIZE - 1) // PAGE_SIZE:
        return False
    if w.reached[page]:           # and go no further: it may be a cycle
        note(w, PROBLEM_DOUBLE, place)
        return False
    w.reached[page] = 1
    return True


cdef bint reach_units(Walk* w, u64 place, u64 size, int kind) noexcept nogil:
    """Marks units of a block as in use; the same."""
    cdef u64 page, first, units, i, bit
    cdef int shift
    if place < w.p.header_size:
        return False
    page = place_page(w.p, place)
    if page >= w.frontier:
        return False
    if descriptor(w, page).kind == PMKV_PAGE_BODY:
        page -= min(descriptor(w, page).page_count, page)
    if descriptor(w, page).kind != kind or descriptor(w, page).block_class > NODE_CLASS + 8:
        return False
    shift = class_unit_shift(descriptor(w, page).block_class)
    first = (place - page_place(w.p, page)) >> shift
    units = (size + (<u64>1 << shift) - 1) >> shift
    if (place - page_place(w.p, page)) & ((<u64>1 << shift) - 1) or first + units > 256:
        return False
    w.reached[page] = 1
    for i in range(first, first + units):
        bit = <u64>1 << (i & 63)
        if w.units[page * 4 + i // 64] & bit:
            note(w, PROBLEM_DOUBLE, place)
            return False
        w.units[page * 4 + i // 64] |= bit
    if kind == PMKV_PAGE_RECORDS:
        w.report.used_block_bytes += units << shift
    return True


cdef bint reach_record(Walk* w, u64 place, Record* r) noexcept nogil:
    """Reads the record, and marks what it occupies."""
    if record_parse(w.p, place, r) != PMKV_OK or not record_body_is_whole(w.p, r):
        note(w, PROBLEM_RECORD, place)
        return False
    if r.extent_place:
        if not reach_run(w, r.extent_place, r.value_size, PMKV_PAGE_EXTENT):
            note(w, PROBLEM_NOT_ALLOCATED, r.extent_place)
        elif descriptor(w, place_page(w.p, r.extent_place)).owner != place:
            note(w, PROBLEM_DOUBLE, r.extent_place)
        if w.verify_values and not record_value_is_whole(w.p, r):
            note(w, PROBLEM_VALUE, r.extent_place)
    if r.room > PAGE_SIZE:
        if not reach_run(w, place, r.room, PMKV_PAGE_EXTENT):
            note(w, PROBLEM_NOT_ALLOCATED, place)
    elif not reach_units(w, place, r.room, PMKV_PAGE_RECORDS):
        note(w, PROBLEM_NOT_ALLOCATED, place)
    return True


cdef void check_time(Walk* w, const Record* r) noexcept nogil:
    """Counts what is to be found in the tree of what expires."""
    w.report.expiring += sealed(w, r.expiry_place) != 0


cdef CodingCount* seen_of(Walk* w, u64 stages) noexcept nogil:
    """What was seen of values under these stages; NULL: there are more ways than the pool can count."""
    cdef u64 i
    for i in range(CODING_SLOTS):
        if w.codings[i].stages == 0 or w.codings[i].stages == stages:
            return &w.codings[i]
    return NULL


cdef void count_coding(Walk* w, const Record* r) noexcept nogil:
    """Counts what is to be found in the root's slots."""
    cdef u64 coding = record_coding(r)
    cdef CodingCount* seen = seen_of(w, coding >> 32)
    if seen == NULL:
        note(w, PROBLEM_CODINGS, r.place)
        return
    seen.stages = coding >> 32
    seen.entries += 1
    seen.raw_bytes += <uint32_t>coding
    seen.stored_bytes += r.value_size


cdef void check_leaf(Walk* w, u64 root_place, u64 leaf) noexcept nogil:
    cdef u64 word
    cdef int i, status
    cdef Record r, again
    if not reach_run(w, leaf, PAGE_SIZE, PMKV_PAGE_LEAF):
        note(w, PROBLEM_REFERENCE, leaf)
        return
    for i in range(LEAF_SLOTS):
        word = sealed(w, leaf + i * 8)
        if not word & GRANULE_MASK or not reach_record(w, (word & GRANULE_MASK) << GRANULE_SHIFT, &r):
            continue
        w.report.entries += 1
        w.report.live_bytes += r.key_size + r.value_size
        if r.expiry_place:
            check_time(w, &r)
        if r.flags >= RECORD_CODED:
            count_coding(w, &r)
        status = mapping_get(w.p, root_place, r.key, r.key_size, &again)
        if status != PMKV_OK or again.place != r.place:
            note(w, PROBLEM_LOST, r.place)


cdef void check_reference(Walk* w, u64 root_place, u64 place, int level) noexcept nogil:
    """Follows one reference of the mapping, and what is below it."""
    cdef u64 payload = sealed(w, place), node, bits, i, last = 0, word
    node = (payload & GRANULE_MASK) << GRANULE_SHIFT
    bits = payload >> REFERENCE_BITS_SHIFT & REFERENCE_BITS_MASK
    if payload == 0 or level > 8 or bits > <u64>NODE_MAX_BITS:
        if level or payload:
            note(w, PROBLEM_REFERENCE, place)
        return
    if bits == 0:
        check_leaf(w, root_place, node)
        return
    if not (reach_run(w, node, PAGE_SIZE, PMKV_PAGE_NODE) if bits == <u64>NODE_MAX_BITS
            else reach_units(w, node, <u64>8 << bits, PMKV_PAGE_NODES)):
        note(w, PROBLEM_REFERENCE, place)
        return
    for i in range(<u64>1 << bits):
        word = pmkv_load(&w.p.m, node + i * 8)
        if word != last:          # a leaf of smaller depth stands in several words
            check_reference(w, root_place, node + i * 8, level + 1)
        last = word


cdef void check_ordered_key(Walk* w, const Node* n, const Piece* piece) noexcept nogil:
    """It comes after the one before, not before the last separator, and is what the tree says it is."""
    if w.begun and (parts_compare(&w.last, &piece.key) >= 0 or parts_compare(&w.separator, &piece.key) > 0):
        note(w, PROBLEM_TREE_ORDER, n.place)
    w.last = piece.key
    w.begun = True
    if w.tree == ROOT_VERSIONS:
        check_version(w, n, piece)
    elif w.tree == ROOT_EXPIRY:
        if not expiry_is_sound(w.p, &piece.key):
            note(w, PROBLEM_EXPIRY, n.place)
    elif w.tree != ROOT_DEATHS:
        check_mapped(w, n, piece)


cdef void check_version(Walk* w, const Node* n, const Piece* piece) noexcept nogil:
    """Its record is there, and its death in the other tree."""
    cdef Record r
    cdef u64 place = 0
    if not version_is_sound(w.p, &piece.key, &place):
        note(w, PROBLEM_VERSIONS, n.place)
    elif reach_record(w, place, &r):
        w.report.versions += 1


cdef void check_mapped(Walk* w, const Node* n, const Piece* piece) noexcept nogil:
    """The mapping has it."""
    cdef u64 size = parts_size(&piece.key)
    cdef char* whole = <char*>malloc(size + 1)
    cdef Record r
    if whole == NULL:
        return
    parts_copy(&piece.key, 0, whole)
    if mapping_get(w.p, w.mapping, whole, size, &r) != PMKV_OK:
        note(w, PROBLEM_TREE_KEYS, n.place)
    free(whole)


cdef u64 check_tree(Walk* w, u64 place, int level) noexcept nogil:
    """Walks a node of the ordered keys and what is below it; how many keys that is."""
    cdef Node n
    cdef Piece piece
    cdef Record r
    cdef u64 below, total = 0
    cdef int i
    if node_read(w.p, NULL, place, level, &n) != PMKV_OK or n.level >= TREE_LEVELS:
        note(w, PROBLEM_TREE, place)
        return 0
    if not reach_units(w, place, sizeof(pmkv_tree_node), PMKV_PAGE_NODES):
        note(w, PROBLEM_REFERENCE, place)
        return 0
    if level < 0 and n.level and n.count < 2:
        note(w, PROBLEM_TREE, place)
    for i in range(n.count):
        if node_piece(w.p, NULL, &n, i, &piece) != PMKV_OK:
            note(w, PROBLEM_TREE, place)
            continue
        if piece.far:
            reach_record(w, piece.far, &r)
        if n.level == 0:
            check_ordered_key(w, &n, &piece)
            total += 1
            continue
        if i and w.begun and parts_compare(&w.last, &piece.key) >= 0:
            note(w, PROBLEM_TREE_ORDER, place)
        if i:
            w.separator = piece.key
        below = check_tree(w, piece.child, n.level - 1)
        if n.level > 1 and below != piece.count:
            note(w, PROBLEM_TREE_COUNT, place)
        total += below
    return total


cdef u64 check_whole_tree(Walk* w, u64 root_place) noexcept nogil:
    """How many keys the tree has that hangs there."""
    cdef u64 root = sealed(w, root_place) << GRANULE_SHIFT
    w.tree = root_place
    w.begun = False
    memset(&w.separator, 0, sizeof(Parts))
    return check_tree(w, root, -1) if root else 0


cdef void check_keytree(Walk* w, u64 namespace, u64 entries) noexcept nogil:
    cdef bint wanted = not sealed(w, namespace + NAMESPACE_OPTIONS) & PMKV_OPTION_UNORDERED
    w.mapping = namespace + NAMESPACE_MAPPING
    if check_whole_tree(w, namespace + NAMESPACE_KEYTREE) != (entries if wanted else 0):
        note(w, PROBLEM_TREE_KEYS, namespace + NAMESPACE_KEYTREE)


cdef void check_expiry(Walk* w) noexcept nogil:
    """As many keys, each as its record says, as there are records in mappings that expire."""
    if check_whole_tree(w, ROOT_EXPIRY) != w.report.expiring:
        note(w, PROBLEM_EXPIRY, ROOT_EXPIRY)


cdef void check_versions(Walk* w) noexcept nogil:
    """What is kept for readers of earlier moments; each version has a death, and there are no more."""
    cdef u64 versions = check_whole_tree(w, ROOT_VERSIONS)
    if check_whole_tree(w, ROOT_DEATHS) != versions:
        note(w, PROBLEM_VERSIONS, ROOT_DEATHS)


cdef void check_namespace(Walk* w, u64 namespace) noexcept nogil:
    cdef u64 entries = w.report.entries, live_bytes = w.report.live_bytes
    sealed(w, namespace + NAMESPACE_ID)
    sealed(w, namespace + NAMESPACE_LAST_ID)
    check_reference(w, namespace + NAMESPACE_MAPPING, namespace + NAMESPACE_MAPPING, 0)
    check_keytree(w, namespace, w.report.entries - entries)
    if sealed(w, namespace + NAMESPACE_ENTRY_COUNT) != w.report.entries - entries:
        note(w, PROBLEM_ENTRY_COUNT, namespace + NAMESPACE_ENTRY_COUNT)
    if sealed(w, namespace + NAMESPACE_LIVE_BYTES) != w.report.live_bytes - live_bytes:
        note(w, PROBLEM_LIVE_BYTES, namespace + NAMESPACE_LIVE_BYTES)


cdef void check_number(Walk* w, const Record* r, u64 namespace) noexcept nogil:
    """The catalogue has the number of a namespace, too, and it leads there."""
    cdef u64 found = 0
    if (catalogue_by_id(w.p, NULL, sealed(w, namespace + NAMESPACE_ID), &found) != PMKV_OK
            or found != namespace):
        note(w, PROBLEM_CATALOGUE, r.place)


cdef void check_catalogue(Walk* w) noexcept nogil:
    """The namespaces that have names; as many numbers as names."""
    cdef Cursor cursor
    cdef Record r
    cdef u64 slots[LEAF_SLOTS]
    cdef u64 leaf, namespace, names = 0, numbers = 0
    cdef int i, status
    cursor.prefix, cursor.ended = 0, False
    while mapping_next_leaf(w.p, NULL, ROOT_CATALOGUE + NAMESPACE_MAPPING, &cursor, slots, &leaf) == PMKV_OK and leaf:
        for i in range(LEAF_SLOTS):
            if not slots[i] & GRANULE_MASK:
                continue
            status = record_parse(w.p, (slots[i] & GRANULE_MASK) << GRANULE_SHIFT, &r)
            if status != PMKV_OK or r.value_size != 8 or r.flags:
                note(w, PROBLEM_CATALOGUE, (slots[i] & GRANULE_MASK) << GRANULE_SHIFT)
                continue
            if is_id_name(r.key, r.key_size):
                numbers += 1
                continue
            names += 1
            memcpy(&namespace, r.value, 8)
            if reach_units(w, namespace, sizeof(pmkv_namespace_root), PMKV_PAGE_NODES):
                check_number(w, &r, namespace)
                check_namespace(w, namespace)
            else:
                note(w, PROBLEM_CATALOGUE, r.place)
    if names != numbers:
        note(w, PROBLEM_CATALOGUE, ROOT_CATALOGUE)


cdef bint is_out_of_place(Walk* w, u64 slot, u64 stages) noexcept nogil:
    """Behind the end of the slots, or not the first one of its stages: none of these would be found."""
    cdef CodingCount before
    cdef u64 i
    for i in range(slot if stages else 0):
        coding_read(w.p, i, &before)
        if before.stages == 0 or before.stages == stages:
            return True
    return False


cdef void check_codings(Walk* w) noexcept nogil:
    """Each slot of the root counts what was seen, and none is missing (G1)."""
    cdef CodingCount found
    cdef CodingCount* seen
    cdef u64 i, word, place
    for i in range(CODING_SLOTS):
        place = ROOT_CODINGS + i * sizeof(pmkv_coding_slot)
        for word in range(4):
            sealed(w, place + word * 8)
        coding_read(w.p, i, &found)
        if is_out_of_place(w, i, found.stages):
            note(w, PROBLEM_CODINGS, place)
        seen = seen_of(w, found.stages)
        if found.entries == 0 and found.raw_bytes == 0 and found.stored_bytes == 0:
            continue
        if found.stages == 0 or seen == NULL or memcmp(seen, &found, sizeof(CodingCount)):
            note(w, PROBLEM_CODINGS, place)
        else:
            seen.entries = 0
    for i in range(CODING_SLOTS):
        if w.codings[i].entries:
            note(w, PROBLEM_CODINGS, ROOT_CODINGS)


cdef void check_limbo(Walk* w) noexcept nogil:
    cdef u64 count = sealed(w, ROOT_LIMBO_COUNT), page = sealed(w, ROOT_LIMBO_HEAD), index
    cdef Record r
    w.report.limbo_entries = count
    if (count == 0) != (page == 0):
        note(w, PROBLEM_LIMBO, ROOT_LIMBO_HEAD)
        return
    while count:
        if page >= w.frontier or not reach_run(w, page_place(w.p, page), PAGE_SIZE, PMKV_PAGE_LIMBO):
            note(w, PROBLEM_LIMBO, ROOT_LIMBO_HEAD)
            return
        while count:
            count -= 1
            index = count % 511
            reach_record(w, sealed(w, page_place(w.p, page) + (1 + index) * 8) << GRANULE_SHIFT, &r)
            if index == 0:
                break
        page = sealed(w, page_place(w.p, page))


# ---- 4. what is reached and what is marked agree -------------------------------------------------------

cdef extern from *:
    int __builtin_popcountll(unsigned long long) nogil


cdef void compare_block(Walk* w, u64 page) noexcept nogil:
    cdef pmkv_descriptor* d = descriptor(w, page)
    cdef u64 marked, reached, used = 0
    cdef int word
    for word in range(4):
        marked = d.bitmap[word]
        reached = w.units[page * 4 + word]
        used += __builtin_popcountll(marked)
        if reached & ~marked:
            note(w, PROBLEM_NOT_ALLOCATED, page_place(w.p, page))
        if marked & ~reached:
            note(w, PROBLEM_LEAKED, page_place(w.p, page))
    if d.kind == PMKV_PAGE_RECORDS and d.block_class <= NODE_CLASS + 8:
        w.report.free_block_bytes += (256 - used) << class_unit_shift(d.block_class)
    # B2: an empty block is current, or went back to the free pages
    if used == 0 and sealed(w, ROOT_BLOCK_CURRENT + <u64>(d.block_class % BLOCK_CLASSES) * 8) != page:
        note(w, PROBLEM_LEAKED, page_place(w.p, page))


cdef void compare(Walk* w) noexcept nogil:
    cdef u64 page = 1
    cdef pmkv_descriptor* d
    while page < w.frontier:
        d = descriptor(w, page)
        if d.kind == PMKV_PAGE_RECORDS or d.kind == PMKV_PAGE_NODES:
            compare_block(w, page)
        elif d.kind >= PMKV_PAGE_EXTENT and not w.reached[page]:
            note(w, PROBLEM_LEAKED, page_place(w.p, page))
        page += max(<u64>1, d.page_count) if d.kind != PMKV_PAGE_BODY and d.kind != PMKV_PAGE_FREE_TAIL else 1


cdef int check_pool(Pool* p, bint verify_values, Report* report) noexcept nogil:
    """Fills the report; NO_MEMORY if there was none for the accounting."""
    cdef Walk w
    memset(report, 0, sizeof(Report))
    w.p = p
    w.report = report
    w.verify_values = verify_values
    w.free_runs = w.listed_blocks = 0
    memset(w.codings, 0, sizeof(w.codings))
    w.frontier = min(pmkv_load(&p.m, ROOT_FRONTIER) & SEAL_MASK, p.file_pages)
    w.units = <u64*>calloc(w.frontier + 1, 32)
    w.reached = <unsigned char*>calloc(w.frontier + 1, 1)
    if w.units == NULL or w.reached == NULL:
        free(w.units)
        free(w.reached)
        return PMKV_NO_MEMORY
    if pool_damaged_copies(p):
        note(&w, PROBLEM_SUPERBLOCK, p.header_size - PAGE_SIZE if pool_damaged_copies(p) == 2 else 0)
    check_pages(&w)
    check_lists(&w)
    check_namespace(&w, ROOT_CATALOGUE)
    check_namespace(&w, ROOT_DEFAULT_NAMESPACE)
    check_catalogue(&w)
    check_codings(&w)
    check_expiry(&w)
    check_versions(&w)
    check_limbo(&w)
    compare(&w)
    free(w.units)
    free(w.reached)
    return PMKV_OK
