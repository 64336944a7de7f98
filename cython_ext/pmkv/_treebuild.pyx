"""_treebuild.pyx (L3): nodes of the ordered keys, as they come to be and as they change.

May know: nodes, records (for keys too long for a node), blocks, words.  Not the tree.

A node that has room is changed in place.  A change appends what is new to the heap and the heads, writes the
order as it will be into the area that is not in use, and logs one word, the header, which publishes
all.  What was removed stays there until the node is built anew elsewhere.
"""
from libc.stdint cimport uint16_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from pmkv._blocks cimport NODE_CLASS, block_allocate
from pmkv._core cimport *
from pmkv._records cimport Item, record_write
from pmkv._treenode cimport (
    FAR_SIZE, HEAD_SIZE, KEY_HEADER, NODE_SIZE, ORDER_AT, ORDER_SIZE, PREFIX_AT, PREFIX_MAX, TAIL_AT,
    TAIL_MAX, UNIT, Node, Parts, Piece, entry_is_whole, heap_limit, heap_of, heap_start, key_check, node_crc,
    node_is_inside, parts_common, parts_copy, parts_cut, parts_size, short_head, tail_of, tree_word, words_size,
)
from pmkv._writeset cimport Txn, txn_data, txn_data_again, txn_fail, txn_log, txn_push

cdef enum:
    NODE_BITS = 7                 # 2**7 words
    CHANGE_MAX = 3 * 160 + 32     # bytes that a change may append: three entries, and what aligns them
    HEADS_ROOM = 64               # bytes, of their heads and what lies with them in whole granules
    HALF_LEAF = 576               # bytes, with what it has in front of its keys
    SHORT_ENTRY = 32              # bytes of an entry that are copied without asking how many it has
    APPEND_MAX = 16 + KEY_HEADER + 128 + 16       # the same of one key, whole granules


# ---- how much room pieces take ---------------------------------------------------------------------

cdef u64 pieces_prefix(int level, const Piece* pieces, int count) noexcept nogil:
    """How many bytes a node of these would share.  The first of a parent's has no key (N2)."""
    cdef const Piece* first = pieces + (1 if level else 0)
    cdef const Piece* last = pieces + count - 1
    if last < first:
        return 0
    if last == first:             # alone: it shares what it must, and leaves the rest open
        return PREFIX_MAX if parts_size(&first.key) > TREE_INLINE_MAX else 0
    return min(parts_common(&first.key, &last.key), <u64>PREFIX_MAX)


cdef u64 piece_room(int level, const Piece* piece, u64 prefix_size) noexcept nogil:
    cdef u64 size = parts_size(&piece.key) - prefix_size
    if piece.far or size > TREE_INLINE_MAX:
        size = FAR_SIZE
    if level:
        return ((words_size(level) + KEY_HEADER + size + 7) & ~<u64>7) + HEAD_SIZE
    return (KEY_HEADER + size + 3) & ~<u64>3


cdef bint pieces_fit(int level, const Piece* pieces, int count, int eighths) noexcept nogil:
    """Whether a node of these is full to at most so many eighths."""
    cdef u64 prefix_size = pieces_prefix(level, pieces, count), size = heap_start(prefix_size)
    cdef int i
    if count > TREE_ORDER_MAX:
        return False
    for i in range(count):
        size += piece_room(level, &pieces[i], parts_size(&pieces[i].key) if level and i == 0 else prefix_size)
    if level:
        size += GRANULE_SIZE      # between the heap and the heads
    return size <= <u64>ORDER_AT * eighths // 8


cdef int pieces_cut(int level, const Piece* pieces, int count, int fresh_end) noexcept nogil:
    """How many of the pieces go into the first of two nodes.

    A key that comes behind all others opens a node of its own: keys often arrive in order, and then
    the full node stays full.  So does one that does not share what the others share.
    """
    cdef u64 prefix_size = pieces_prefix(level, pieces, count), total = 0, half = 0
    cdef int i, middle = count // 2
    if fresh_end == count and pieces_fit(level, pieces, count - 1, FULL):
        return count - 1
    if not (pieces_fit(level, pieces, middle, FULL) and pieces_fit(level, pieces + middle, count - middle, FULL)):
        if pieces_fit(level, pieces + 1, count - 1, FULL):
            return 1
        if pieces_fit(level, pieces + 2, count - 2, FULL) and pieces_fit(level, pieces, 2, FULL):
            return 2
    for i in range(count):
        total += piece_room(level, &pieces[i], prefix_size)
    for i in range(count - 1):
        half += piece_room(level, &pieces[i], prefix_size)
        if half * 2 >= total and i > 0 and pieces_fit(level, pieces, i + 1, FULL) and pieces_fit(
                level, pieces + i + 1, count - i - 1, FULL):
            return i + 1
    return middle


cdef void pieces_separate(int level, const Piece* pieces, int cut, Piece* separator) noexcept nogil:
    """The key between two nodes: of leaves, as much of it as tells it from the one before."""
    separator.key = pieces[cut].key
    separator.far = 0
    if level:
        separator.far = pieces[cut].far          # it moves up
    else:
        parts_cut(&separator.key, parts_common(&pieces[cut - 1].key, &pieces[cut].key) + 1)


# ---- writing -------------------------------------------------------------------------------------------

cdef int store_far(Txn* t, Piece* piece) noexcept nogil:
    """Gives the key a record of its own (N3)."""
    cdef u64 size = parts_size(&piece.key)
    cdef char* whole = <char*>malloc(size + 1)
    cdef Item item
    if whole == NULL:
        return txn_fail(t, PMKV_NO_MEMORY)
    parts_copy(&piece.key, 0, whole)
    memset(&item, 0, sizeof(Item))
    item.key = item.value = whole
    item.key_size = size
    record_write(t, 0, &item, &piece.far)
    free(whole)
    return t.status


cdef u64 put_entry(Txn* t, int level, Piece* piece, u64 prefix_size, char* out) noexcept nogil:
    """Writes the entry to `out`; how many bytes it takes."""
    cdef u64 words = words_size(level), size = parts_size(&piece.key) - prefix_size
    cdef pmkv_tree_key* key = <pmkv_tree_key*>(out + words)
    if level:
        (<u64*>out)[0] = pmkv_seal(piece.child >> GRANULE_SHIFT)
    if level > 1:
        (<u64*>out)[1] = pmkv_seal(piece.count)
    out += words
    if size > TREE_INLINE_MAX and piece.far == 0 and store_far(t, piece) != PMKV_OK:
        return 0
    if piece.far:
        key.size = TREE_FAR
        size = FAR_SIZE
        memcpy(out + KEY_HEADER, &piece.far, FAR_SIZE)
    else:
        key.size = <uint16_t>size
        parts_copy(&piece.key, prefix_size, out + KEY_HEADER)
    key.check = key_check(key.size, out + KEY_HEADER, size)
    return (words + KEY_HEADER + size + 7) & ~<u64>7 if level else (KEY_HEADER + size + 3) & ~<u64>3


cdef uint32_t piece_head(const Piece* piece, u64 prefix_size) noexcept nogil:
    """The head of its key after the prefix, of a far one too."""
    cdef Parts first = piece.key
    cdef char head[HEAD_SIZE]
    parts_cut(&first, prefix_size + HEAD_SIZE)
    parts_copy(&first, prefix_size, head)
    return short_head(head, parts_size(&first) - prefix_size)


cdef inline u64 header_of(int count, int area, u64 heap, int level, uint32_t crc) noexcept nogil:
    return pmkv_seal(<u64>count | <u64>area << TREE_AREA_SHIFT | heap // UNIT << TREE_HEAP_SHIFT
                     | <u64>level << TREE_LEVEL_SHIFT | <u64>crc << TREE_CRC_SHIFT)


cdef void make_smallest(Txn* t, Piece* piece, const char* prefix, u64 prefix_size) noexcept nogil:
    """The first of a parent's: it has no more than the prefix."""
    drop_far(t, piece.far)
    piece.far = 0
    piece.key.a, piece.key.a_size, piece.key.b, piece.key.b_size = prefix, prefix_size, NULL, 0


cdef int drop_far(Txn* t, u64 far) noexcept nogil:
    return txn_push(t, &t.freed, &t.freed_count, &t.freed_capacity, far) if far else t.status


cdef int node_build(Txn* t, int level, Piece* pieces, int count, u64* place) noexcept nogil:
    """A new node of the pieces, which fit.  It owns their far keys."""
    cdef char image[NODE_SIZE]
    cdef pmkv_tree_node* node = <pmkv_tree_node*>image
    cdef int i
    cdef u64 prefix_size = pieces_prefix(level, pieces, count), at = heap_start(prefix_size)
    if t.status != PMKV_OK:
        return t.status
    if not pieces_fit(level, pieces, count, FULL):
        return txn_fail(t, PMKV_TOO_LARGE)
    memset(image, 0, NODE_SIZE)
    node.prefix_size = <uint16_t>prefix_size
    copy_prefix(&pieces[count - 1].key, prefix_size, image + PREFIX_AT)
    if level:
        make_smallest(t, &pieces[0], image + PREFIX_AT, prefix_size)
    for i in range(count):
        node.order[i] = <unsigned char>(at // UNIT)
        at += put_entry(t, level, &pieces[i], prefix_size, image + at)
        if level:
            (<uint32_t*>(image + ORDER_AT))[-1 - i] = piece_head(&pieces[i], prefix_size)
        if t.status != PMKV_OK:
            return t.status
    node.order[TAIL_AT] = <unsigned char>(count if level else at // UNIT)
    node.header = header_of(count, 0, at, level, node_crc(node.order, count, count if level else 0, image, prefix_size))
    if block_allocate(t, NODE_CLASS + NODE_BITS, NODE_SIZE, place) != PMKV_OK:
        return t.status
    return txn_data(t, place[0], image, NODE_SIZE)


cdef inline u64 stored_room(const char* key_header) noexcept nogil:
    """Bytes that an entry of a leaf takes, as it says."""
    cdef u64 size = (<const pmkv_tree_key*>key_header).size
    return (KEY_HEADER + (FAR_SIZE if size & TREE_FAR else size) + 3) & ~<u64>3


cdef inline bint share_little(const char* first, const char* last) noexcept nogil:
    """Whether two entries of a node have nothing in common but its prefix, and a byte at most."""
    cdef uint16_t a = (<const pmkv_tree_key*>first).size, b = (<const pmkv_tree_key*>last).size
    first += KEY_HEADER
    last += KEY_HEADER
    return 0 < a < TREE_FAR and 0 < b < TREE_FAR and (
        first[0] != last[0] or a == 1 or b == 1 or first[1] != last[1])


cdef int allocate_leaf(Txn* t, u64* place) noexcept nogil:
    """Room for a leaf, of which the first half is asked for."""
    cdef u64 at
    if block_allocate(t, NODE_CLASS + NODE_BITS, NODE_SIZE, place) == PMKV_OK:
        for at in range(0, HALF_LEAF, 64):
            pmkv_prefetch(pmkv_at(&t.p.m, place[0] + at))
    return t.status


cdef int copy_leaf(Txn* t, const Node* n, const char** entries, int count, u64 place) noexcept nogil:
    """A new leaf of entries as they are, with the prefix of another.  Half a leaf: there is room behind each.

    What lies between its heap and its order means nothing, and is not written.
    """
    cdef char image[NODE_SIZE]
    cdef pmkv_tree_node* node = <pmkv_tree_node*>image
    cdef u64 at = heap_start(n.prefix_size), room
    cdef int i
    memset(node.order, 0, ORDER_SIZE)
    memcpy(image + 8, n.base + 8, at - 8)
    for i in range(count):
        room = stored_room(entries[i])
        node.order[i] = <unsigned char>(at // UNIT)
        memcpy(image + at, entries[i], SHORT_ENTRY)
        if room > SHORT_ENTRY:
            memcpy(image + at, entries[i], room)
        at += room
    memset(image + at, 0, SHORT_ENTRY)
    node.order[TAIL_AT] = <unsigned char>(at // UNIT)
    node.header = header_of(count, 0, at, 0, node_crc(node.order, count, 0, image, n.prefix_size))
    txn_data(t, place, image, (at + GRANULE_SIZE - 1) & ~(GRANULE_SIZE - 1))
    return txn_data(t, place + ORDER_AT, node.order, ORDER_SIZE)


cdef void make_bound(const Node* n, const char* entry, Piece* piece) noexcept nogil:
    piece.key.a, piece.key.a_size = n.prefix, n.prefix_size
    piece.key.b, piece.key.b_size = entry + KEY_HEADER, (<const pmkv_tree_key*>entry).size


cdef int leaf_divide(Txn* t, const Node* n, int index, Piece* fresh, Piece* halves) noexcept nogil:
    """Two leaves of a full one's entries, copied as they are, and a new one that belongs at `index`.

    NOT_FOUND, and nothing done, unless it is as usual: both halves share what the leaf shares, and no more
    than a byte, which stays in their keys.
    """
    cdef char key[APPEND_MAX]
    cdef const char* entries[ORDER_SIZE]
    cdef Piece beside[2]
    cdef u64 total = 0, half = 0, at
    cdef int count = n.count + 1, cut = 0, i
    if index == n.count or fresh.far or not has_prefix(n, &fresh.key) or (
            parts_size(&fresh.key) > <u64>TREE_INLINE_MAX):
        return PMKV_NOT_FOUND
    for i in range(n.count):
        at = <u64>n.order[i] * UNIT
        entries[i + (i >= index)] = n.base + at
        if at + KEY_HEADER > n.heap or at + stored_room(n.base + at) > n.heap:
            return PMKV_NOT_FOUND
        total += stored_room(n.base + at)
    if total > n.heap:            # of a leaf that nobody built: they lie over each other
        return PMKV_NOT_FOUND
    entries[index] = key
    total += put_entry(t, 0, fresh, n.prefix_size, key)
    while half * 2 < total:
        half += stored_room(entries[cut])
        cut += 1
    if (total <= <u64>ORDER_AT * REBUILT_FILL // 8 or cut == count or not share_little(entries[0], entries[cut - 1])
            or not share_little(entries[cut], entries[count - 1])):
        return PMKV_NOT_FOUND
    for i in range(cut - 1, cut + 1):            # between these two are all that come later
        if i != index and not entry_is_whole(t.p, n, <u64>(entries[i] - n.base)):
            return PMKV_NOT_FOUND
    memset(halves, 0, 2 * sizeof(Piece))
    make_bound(n, entries[cut - 1], &beside[0])
    make_bound(n, entries[cut], &beside[1])
    if cut == index:
        beside[1].key = fresh.key
    pieces_separate(0, beside, 1, &halves[1])
    halves[0].count, halves[1].count = cut, count - cut
    if allocate_leaf(t, &halves[1].child) == PMKV_OK and allocate_leaf(t, &halves[0].child) == PMKV_OK:
        copy_leaf(t, n, entries + cut, count - cut, halves[1].child)
        copy_leaf(t, n, entries, cut, halves[0].child)
    return t.status


cdef void copy_prefix(const Parts* key, u64 size, char* out) noexcept nogil:
    cdef Parts part = key[0]
    parts_cut(&part, size)
    parts_copy(&part, 0, out)


cdef bint has_prefix(const Node* n, const Parts* key) noexcept nogil:
    cdef Parts prefix
    prefix.a, prefix.a_size, prefix.b, prefix.b_size = n.prefix, n.prefix_size, NULL, 0
    return parts_common(&prefix, key) == n.prefix_size


cdef bint has_room(const Node* n, int removed, const Piece* fresh, int fresh_count) noexcept nogil:
    cdef int heads = n.heads + fresh_count if n.level else 0, i
    cdef u64 heap = (n.heap + 7) & ~<u64>7 if n.level else n.heap
    if n.count - removed + fresh_count > TREE_ORDER_MAX:
        return False
    for i in range(fresh_count):
        if not has_prefix(n, &fresh[i].key):
            return False
        heap += piece_room(n.level, &fresh[i], n.prefix_size) - (HEAD_SIZE if n.level else 0)
    return heap <= heap_limit(heads)


cdef u64 append(Txn* t, const Node* n, Piece* fresh, int fresh_count, unsigned char* offsets) noexcept nogil:
    """Writes the entries behind the heap, in whole granules; where the heap ends then."""
    cdef char part[CHANGE_MAX]
    cdef u64 at = (n.heap + 7) & ~<u64>7 if n.level else n.heap
    cdef u64 start = n.heap & ~<u64>15
    cdef int i
    memset(part, 0, CHANGE_MAX)
    memcpy(part, n.base + start, n.heap - start)       # what is there already, as it is (N1)
    for i in range(fresh_count):
        offsets[i] = <unsigned char>(at // UNIT)
        at += put_entry(t, n.level, &fresh[i], n.prefix_size, part + (at - start))
    txn_data(t, n.place + start, part, ((at + 15) & ~<u64>15) - start)
    return at


cdef int append_heads(Txn* t, const Node* n, const Piece* fresh, int fresh_count) noexcept nogil:
    """Writes their heads in front of the others, in whole granules; how many there are then."""
    cdef char part[HEADS_ROOM]
    cdef int heads = n.heads + fresh_count, i
    cdef u64 begin = ORDER_AT - n.heads * HEAD_SIZE, start = heap_limit(heads), end = (begin + 15) & ~<u64>15
    cdef uint32_t* out = <uint32_t*>(part + (begin - start))
    memset(part, 0, HEADS_ROOM)
    memcpy(out, n.base + begin, end - begin)           # what is there already, as it is (N1)
    for i in range(fresh_count):
        out[-1 - i] = piece_head(&fresh[i], n.prefix_size)
    txn_data(t, n.place + start, part, end - start)
    return heads


cdef int node_change(Txn* t, const Node* n, int first, int removed, Piece* fresh, int fresh_count) noexcept nogil:
    """Replaces `removed` entries from `first` on by at most three new ones, in place.

    A parent's first entry stays as it is, unless it goes and no new one comes.
    NOT_FOUND, and nothing done, where there is no room, or where nothing would be left.
    """
    cdef unsigned char offsets[4]
    cdef unsigned char order[ORDER_SIZE]
    cdef u64 heap = n.heap
    cdef int count = n.count - removed + fresh_count, heads = n.heads, area
    if t.status != PMKV_OK:
        return t.status
    if count == 0 or not has_room(n, removed, fresh, fresh_count):
        return PMKV_NOT_FOUND
    if fresh_count:
        heap = append(t, n, fresh, fresh_count, offsets)
    if n.level and fresh_count:
        heads = append_heads(t, n, fresh, fresh_count)
    memset(order, 0, ORDER_SIZE)
    order[TAIL_AT] = <unsigned char>(heads if n.level else heap // UNIT)
    memcpy(order, n.order, first)
    memcpy(order + first, offsets, fresh_count)
    memcpy(order + first + fresh_count, n.order + first + removed, n.count - first - removed)
    # The area that the header in place does not cover; this transaction's own may lie there.
    area = 1 - (pmkv_load(&t.p.m, n.place) >> TREE_AREA_SHIFT & 1)
    txn_data_again(t, n.place + ORDER_AT + area * ORDER_SIZE, order, ORDER_SIZE)
    return txn_log(t, n.place, header_of(count, area, heap, n.level,
                                         node_crc(order, count, heads, n.base, n.prefix_size)))


cdef int node_append(Txn* t, u64 place, const char* key, u64 key_size) noexcept nogil:
    """Adds a key to the tail of a leaf: it must belong there, and is not in it.

    NOT_FOUND, and nothing done, where that is not possible: node_change() will do it, or node_read() say why not.
    """
    cdef char part[APPEND_MAX]
    cdef const pmkv_tree_node* node = <const pmkv_tree_node*>pmkv_at(&t.p.m, place)
    cdef pmkv_tree_key* entry
    cdef u64 header, at, end, start
    if not node_is_inside(t.p, place):
        return PMKV_NOT_FOUND
    header = tree_word(t.p, t, place)
    at = heap_of(header)
    if (not pmkv_is_sealed(header) or header >> TREE_LEVEL_SHIFT & 15 or tail_of(header) >= TAIL_MAX
            or (header & 127) >= <u64>TREE_ORDER_MAX or not begins_with(key, key_size, node)):
        return PMKV_NOT_FOUND
    key += node.prefix_size
    key_size -= node.prefix_size
    end = (at + KEY_HEADER + key_size + 3) & ~<u64>3
    if key_size > <u64>TREE_INLINE_MAX or at < heap_start(node.prefix_size) or end > ORDER_AT:
        return PMKV_NOT_FOUND
    start = at & ~(GRANULE_SIZE - 1)
    memcpy(part, <const char*>node + start, GRANULE_SIZE)        # what is there already, as it is (N1)
    entry = <pmkv_tree_key*>(part + (at - start))
    entry.size = <uint16_t>key_size
    memcpy(part + (at - start) + KEY_HEADER, key, key_size)
    memset(part + (at - start) + KEY_HEADER + key_size, 0, GRANULE_SIZE)
    entry.check = key_check(entry.size, part + (at - start) + KEY_HEADER, key_size)
    txn_data(t, place + start, part, ((end + GRANULE_SIZE - 1) & ~(GRANULE_SIZE - 1)) - start)
    header += 1 + (<u64>1 << TREE_TAIL_SHIFT) + ((end - at) // UNIT << TREE_HEAP_SHIFT)
    return txn_log(t, place, pmkv_seal(header & SEAL_MASK))


cdef inline bint begins_with(const char* key, u64 key_size, const pmkv_tree_node* node) noexcept nogil:
    cdef const char* prefix = <const char*>node + PREFIX_AT
    cdef u64 at, size = node.prefix_size
    if size > PREFIX_MAX or size > key_size:
        return False
    for at in range(size):        # two or three, mostly
        if key[at] != prefix[at]:
            return False
    return True


cdef int node_free_later(Txn* t, u64 place) noexcept nogil:
    """The node is freed with the commit; what its entries own is not."""
    cdef u64 reference = place >> GRANULE_SHIFT | <u64>NODE_BITS << REFERENCE_BITS_SHIFT
    return txn_push(t, &t.freed, &t.freed_count, &t.freed_capacity, pmkv_seal(reference) | <u64>1 << 63)
