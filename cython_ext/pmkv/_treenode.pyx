"""_treenode.pyx (L3): one node of the ordered keys.

May know: records (for keys too long for a node), blocks, words.  Not the tree.

    node    | header | prefix_size | prefix | entry | entry | ...  free ...  | order 0 | order 1 |
    entry   of a leaf     | size, check | key after the prefix |
            of a parent   | child | count | size, check | separator after the prefix |

An entry never changes its place or its key.  The *order* is a list of the entries' offsets in
the order of their keys; there is room for two.  A change appends what is new to the heap, writes
the order as it will be into the area that is not in use, and logs one word, the header, which
publishes both.  What was removed stays in the heap until the node is built anew elsewhere.

An order is 63 offsets, and one more: where the heap ended when it was written.  A leaf may have a
*tail* of a few entries from there on, which are not in the order: then an insert reads and writes
next to nothing of the leaf.  Who reads the node puts them where they belong, in a copy of the order.

Invariants
  N1. The bytes that the header's committed word covers change never: not the prefix, not an
      entry in the order, not the order.  Only the words of children, and counts, do, by the log.
  N2. All keys of the order are different and ascend.  Of a parent, the first stands for the
      smallest key there is, whatever its bytes are.
  N3. A key of more than INLINE_MAX bytes after the prefix lies in a record that this entry owns.
      It may stay there when a longer prefix makes it fit.
  N4. The tail's entries lie side by side and end where the heap does.  None has a key in a record.
"""
from libc.stdint cimport uint16_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memmove, memset
from pmkv._blocks cimport NODE_CLASS, block_allocate
from pmkv._core cimport *
from pmkv._pool cimport Pool, corrupted, page_place, unseal
from pmkv._records cimport Item, Record, record_body_is_whole, record_parse, record_write
from pmkv._writeset cimport Txn, txn_data, txn_data_again, txn_fail, txn_log, txn_push

cdef enum:
    NODE_SIZE = sizeof(pmkv_tree_node)
    NODE_BITS = 7                 # 2**7 words
    PREFIX_AT = 12
    PREFIX_MAX = 128
    ORDER_AT = NODE_SIZE - 128
    TAIL_AT = 63                  # in an order: where the tail begins
    TAIL_MAX = 7                  # entries, from which on an insert brings them into the order
    KEY_HEADER = sizeof(pmkv_tree_key)
    CHILD_HEADER = sizeof(pmkv_tree_child)
    FAR_SIZE = 8
    UNIT = 4                      # of an offset in the order
    CHANGE_MAX = 3 * 160 + 32     # bytes that a change may append: three entries, and what aligns them
    APPEND_MAX = 16 + KEY_HEADER + 128 + 16       # the same of one entry of a leaf, whole granules


# ---- keys in parts ---------------------------------------------------------------------------

cdef inline char part_byte(const Parts* x, u64 at) noexcept nogil:
    return x.a[at] if at < x.a_size else x.b[at - x.a_size]


cdef int parts_compare(const Parts* x, const Parts* y) noexcept nogil:
    """Below, at or above 0, as memcmp: the order of the keys' bytes."""
    cdef u64 at = parts_common(x, y)
    if at == parts_size(x) or at == parts_size(y):
        return (parts_size(x) > parts_size(y)) - (parts_size(x) < parts_size(y))
    return 1 if <unsigned char>part_byte(x, at) > <unsigned char>part_byte(y, at) else -1


cdef u64 parts_common(const Parts* x, const Parts* y) noexcept nogil:
    """How many bytes both begin with."""
    cdef u64 at = 0, end = min(parts_size(x), parts_size(y))
    if x.a == y.a and x.a_size == y.a_size:       # of one node
        at = x.a_size
    while at < end and part_byte(x, at) == part_byte(y, at):
        at += 1
    return at


cdef void parts_cut(Parts* x, u64 size) noexcept nogil:
    """Only the first `size` bytes of it."""
    x.a_size = min(x.a_size, size)
    x.b_size = min(x.b_size, size - x.a_size)


cdef void parts_copy(const Parts* x, u64 first, char* out) noexcept nogil:
    """The bytes from `first` on."""
    cdef u64 of_a = x.a_size - min(first, x.a_size), i
    for i in range(of_a):         # two or three, mostly
        out[i] = x.a[x.a_size - of_a + i]
    first -= min(first, x.a_size)
    memcpy(out + of_a, x.b + first, x.b_size - first)


# ---- reading -----------------------------------------------------------------------------------

cdef void node_prefetch(const Pool* p, u64 place) noexcept nogil:
    """All its lines at once, in the order of need: a binary search would miss them one after the other."""
    cdef const char* base = <const char*>pmkv_at(&p.m, place)
    cdef int at
    pmkv_prefetch(base)
    pmkv_prefetch(base + ORDER_AT)
    pmkv_prefetch(base + ORDER_AT + ORDER_SIZE)
    for at in range(64, ORDER_AT, 64):
        pmkv_prefetch(base + at)


cdef void node_prefetch_to_append(Txn* t, u64 place) noexcept nogil:
    """What an insert into the leaf will need: its first line should be there."""
    cdef u64 header
    if not node_is_inside(t.p, place):
        return
    header = tree_word(t.p, t, place)
    if tail_of(header) >= TAIL_MAX:
        node_prefetch(t.p, place)
    else:
        pmkv_prefetch(<const char*>pmkv_at(&t.p.m, place) + min(heap_of(header), <u64>ORDER_AT))


cdef inline bint node_is_inside(const Pool* p, u64 place) noexcept nogil:
    return place >= p.header_size and place % 16 == 0 and place + NODE_SIZE <= page_place(p, p.file_pages)


cdef inline int tail_of(u64 header) noexcept nogil:
    return header >> TREE_TAIL_SHIFT & TREE_TAIL_MASK


cdef inline u64 heap_of(u64 header) noexcept nogil:
    return (header >> TREE_HEAP_SHIFT & 255) * UNIT


cdef inline u64 heap_start(u64 prefix_size) noexcept nogil:
    """Where entries may begin; zeros lie between the prefix and this."""
    return (PREFIX_AT + prefix_size + 7) & ~<u64>7


cdef uint32_t node_crc(const unsigned char* order, int count, const char* node, u64 prefix_size) noexcept nogil:
    """Of the order of `count` entries, and of the node from prefix_size to the heap's start, in whole words."""
    cdef uint32_t crc = ~<uint32_t>0
    cdef u64 at
    for at in range(0, <u64>count, 8):
        crc = pmkv_crc_u64(crc, (<const u64*>(order + at))[0])
    for at in range(8, heap_start(prefix_size), 8):
        crc = pmkv_crc_u64(crc, (<const u64*>(node + at))[0])
    return ~crc


cdef int node_read(Pool* p, Txn* t, u64 place, int level, Node* n) noexcept nogil:
    """Fills `n`; CORRUPTED unless it is whole, and of that level (-1: any)."""
    cdef u64 header
    cdef int tail
    cdef const pmkv_tree_node* node
    if not node_is_inside(p, place):
        return corrupted(p, PMKV_CHECK_TREE, place)
    header = tree_word(p, t, place)
    if not pmkv_check(&p.m, PMKV_CHECK_SEAL, pmkv_is_sealed(header)):
        return corrupted(p, PMKV_CHECK_SEAL, place)
    node = <const pmkv_tree_node*>pmkv_at(&p.m, place)
    n.place, n.word = place, header
    n.base = <const char*>node
    n.count = header & 127
    n.heap = heap_of(header)
    n.level = header >> TREE_LEVEL_SHIFT & 15
    memcpy(n.order, node.order + (header >> TREE_AREA_SHIFT & 1) * ORDER_SIZE, ORDER_SIZE)
    tail = tail_of(header)
    n.prefix = n.base + PREFIX_AT
    n.prefix_size = node.prefix_size
    if (n.count <= tail or n.count > TREE_ORDER_MAX or n.heap > ORDER_AT or n.prefix_size > PREFIX_MAX
            or (level >= 0 and n.level != level)
            or not pmkv_check(&p.m, PMKV_CHECK_TREE, <uint32_t>(header >> TREE_CRC_SHIFT)
                              == node_crc(n.order, n.count - tail, n.base, n.prefix_size))):
        return corrupted(p, PMKV_CHECK_TREE, place)
    return take_in_tail(p, n, tail) if tail else PMKV_OK


cdef int take_in_tail(Pool* p, Node* n, int tail) noexcept nogil:
    """Puts the tail's entries into the copy of the order, each between two that are whole (N4)."""
    cdef const pmkv_tree_key* key
    cdef u64 at = <u64>n.order[TAIL_AT] * UNIT
    cdef int index, end = n.count, status
    cdef bint exact = False
    n.count -= tail
    while n.count < end:
        n.order[n.count] = <unsigned char>(at // UNIT)
        key = <const pmkv_tree_key*>(n.base + at)
        if n.level or not key_is_whole(p, n, n.count) or key.size & TREE_FAR:
            return corrupted(p, PMKV_CHECK_TREE, n.place + at)
        status = search(p, n, n.base + at + KEY_HEADER, key.size, 0, &index, &exact)
        if status == PMKV_OK and exact:
            status = corrupted(p, PMKV_CHECK_TREE, n.place + at)
        if status != PMKV_OK:
            return status
        memmove(&n.order[index + 1], &n.order[index], n.count - index)
        n.order[index] = <unsigned char>(at // UNIT)
        n.count += 1
        at += (KEY_HEADER + key.size + 3) & ~<u64>3
    return PMKV_OK if at == n.heap else corrupted(p, PMKV_CHECK_TREE, n.place + at)


cdef inline u64 entry_at(const Node* n, int index) noexcept nogil:
    return <u64>n.order[index] * UNIT


cdef inline u64 key_at(const Node* n, int index) noexcept nogil:
    """Where the entry's tree_key is."""
    return entry_at(n, index) + (CHILD_HEADER if n.level else 0)


cdef u64 child_word_place(const Node* n, int index) noexcept nogil:
    return n.place + entry_at(n, index)


cdef inline uint16_t key_check(uint16_t size, const char* stored, u64 stored_size) noexcept nogil:
    cdef uint32_t crc = pmkv_crc_update(pmkv_crc_u64(~<uint32_t>0, size), stored, stored_size)
    return <uint16_t>~crc


cdef inline bint key_is_whole(Pool* p, const Node* n, int index) noexcept nogil:
    """Whether the entry lies in the heap, and its check fits."""
    cdef u64 at = key_at(n, index), stored
    cdef const pmkv_tree_key* key = <const pmkv_tree_key*>(n.base + at)
    if at + KEY_HEADER > n.heap:
        return False
    stored = FAR_SIZE if key.size & TREE_FAR else key.size
    return at + KEY_HEADER + stored <= n.heap and pmkv_check(
        &p.m, PMKV_CHECK_TREE, key.check == key_check(key.size, n.base + at + KEY_HEADER, stored))


cdef int read_far(Pool* p, const Node* n, u64 far, const char** rest, u64* rest_size) noexcept nogil:
    """The same of a key in a record of its own."""
    cdef Record r
    cdef int status = record_parse(p, far, &r)
    if status == PMKV_OK and (r.flags or not record_body_is_whole(p, &r) or r.key_size < n.prefix_size
                              or memcmp(r.key, n.prefix, n.prefix_size) != 0):
        status = corrupted(p, PMKV_CHECK_RECORD, far)
    if status == PMKV_OK:
        rest[0] = r.key + n.prefix_size
        rest_size[0] = r.key_size - n.prefix_size
    return status


cdef inline int look_at_key(Pool* p, const Node* n, int index, const char** rest, u64* rest_size,
                            u64* far) noexcept nogil:
    """The bytes of the entry's key after the prefix, inside the node or pool, but not tested otherwise."""
    cdef u64 at = key_at(n, index)
    cdef const pmkv_tree_key* key = <const pmkv_tree_key*>(n.base + at)
    rest[0] = n.base + at + KEY_HEADER
    rest_size[0] = key.size
    far[0] = 0
    if at + KEY_HEADER + (FAR_SIZE if key.size & TREE_FAR else key.size) > NODE_SIZE:
        return corrupted(p, PMKV_CHECK_TREE, n.place + at)
    if not key.size & TREE_FAR:
        return PMKV_OK
    memcpy(far, rest[0], FAR_SIZE)
    return read_far(p, n, far[0], rest, rest_size)


cdef int read_key(Pool* p, const Node* n, int index, const char** rest, u64* rest_size, u64* far) noexcept nogil:
    """The bytes of the entry's key after the prefix, their check tested."""
    if not key_is_whole(p, n, index):
        return corrupted(p, PMKV_CHECK_TREE, n.place + key_at(n, index))
    return look_at_key(p, n, index, rest, rest_size, far)


cdef int read_word(Pool* p, Txn* t, const Node* n, int index, u64 offset, u64* payload) noexcept nogil:
    cdef u64 at = entry_at(n, index)
    if at + CHILD_HEADER > n.heap or at % 8:
        return corrupted(p, PMKV_CHECK_TREE, n.place + at)
    return unseal(p, n.place + at + offset, tree_word(p, t, n.place + at + offset), payload)


cdef int node_child(Pool* p, Txn* t, const Node* n, int index, u64* child) noexcept nogil:
    cdef int status = read_word(p, t, n, index, 0, child)
    child[0] <<= GRANULE_SHIFT
    return status


cdef int node_count(Pool* p, Txn* t, const Node* n, int index, u64* count) noexcept nogil:
    return read_word(p, t, n, index, 8, count)


cdef int node_piece(Pool* p, Txn* t, const Node* n, int index, Piece* piece) noexcept nogil:
    """The entry, as it would go into another node."""
    cdef int status = read_key(p, n, index, &piece.key.b, &piece.key.b_size, &piece.far)
    piece.key.a, piece.key.a_size = n.prefix, n.prefix_size
    piece.child, piece.count = 0, 1
    if status == PMKV_OK and n.level:
        status = node_child(p, t, n, index, &piece.child)
    if status == PMKV_OK and n.level:
        status = node_count(p, t, n, index, &piece.count)
    return status


cdef bint node_copy(Pool* p, const Node* n, int index, char* out, u64 room, u64* size) noexcept nogil:
    """Copies a whole key out of a leaf, its check tested; False if node_piece() has to look.

    16 bytes are there to load from anywhere in the heap, since the orders follow it; and `out` has
    COPY_ROOM behind its `room`.  So short keys are copied without asking how long they are.
    """
    cdef u64 at = entry_at(n, index), rest
    cdef const pmkv_tree_key* key = <const pmkv_tree_key*>(n.base + at)
    cdef const char* bytes = n.base + at + KEY_HEADER
    rest = key.size               # with FAR, it is more than any room
    if at + KEY_HEADER + rest > n.heap or n.prefix_size + rest > room or key.check != key_check(key.size, bytes, rest):
        return False
    memcpy(out, n.prefix, 16)
    if n.prefix_size > 16:
        memcpy(out + 16, n.prefix + 16, n.prefix_size - 16)
    out += n.prefix_size
    memcpy(out, bytes, 16)
    if rest > 16:
        memcpy(out + 16, bytes + 16, rest - 16)
    size[0] = n.prefix_size + rest
    return True


cdef inline u64 head_of_entry(const char* key_header, u64 size) noexcept nogil:
    """The same of an entry of a node: eight bytes are there to load, since the orders follow the heap."""
    cdef u64 unwanted = 64 - 8 * size if size < 8 else 0
    return __builtin_bswap64((<const u64*>(key_header + KEY_HEADER))[0] << unwanted >> unwanted)


cdef int compare_entry(Pool* p, const Node* n, int index, const char* key, u64 key_size, int* order) noexcept nogil:
    """How the entry's key compares with another: below, at or above 0."""
    cdef u64 rest_size, far
    cdef const char* rest
    cdef int status = look_at_key(p, n, index, &rest, &rest_size, &far)
    if status == PMKV_OK:
        order[0] = compare_bytes(rest, rest_size, key, key_size)
    return status


cdef int node_compare(Pool* p, const Node* n, int index, const char* key, u64 key_size, int* order) noexcept nogil:
    """The same of a key that need not share the prefix."""
    order[0] = -compare_prefix(n, key, key_size)
    if order[0]:
        return PMKV_OK
    return compare_entry(p, n, index, key + n.prefix_size, key_size - n.prefix_size, order)


cdef inline int compare_prefix(const Node* n, const char* key, u64 key_size) noexcept nogil:
    """Where all keys of the node lie, seen from this one: it is 0 if it shares the prefix."""
    cdef u64 i, end = min(key_size, n.prefix_size)
    for i in range(end):
        if key[i] != n.prefix[i]:
            return 1 if <unsigned char>key[i] > <unsigned char>n.prefix[i] else -1
    return -1 if key_size < n.prefix_size else 0


cdef int node_search(Pool* p, const Node* n, const char* key, u64 key_size, int low, int* index,
                     bint* exact) noexcept nogil:
    """The first entry from `low` on whose key is not smaller, or count; `exact`: it is equal.

    Only the two entries that it ends between are tested: if they are whole, the key is between
    them, whatever led there.
    """
    cdef int order = compare_prefix(n, key, key_size)
    exact[0] = False
    index[0] = low if order < 0 else n.count
    if order:
        return PMKV_OK
    return search(p, n, key + n.prefix_size, key_size - n.prefix_size, low, index, exact)


cdef int search(Pool* p, const Node* n, const char* key, u64 key_size, int low, int* index, bint* exact) noexcept nogil:
    """The same of what follows the prefix."""
    cdef int high = n.count, first = low, middle, order = 0, status
    cdef u64 head = head_of_key(key, key_size), own, at, size
    cdef bint below
    while low < high:
        middle = (low + high) // 2
        at = key_at(n, middle)
        size = (<const pmkv_tree_key*>(n.base + at)).size
        own = head_of_entry(n.base + at, size) if at < ORDER_AT and size - 1 < <u64>TREE_INLINE_MAX else head
        below = own < head
        if own == head:           # seldom; or the head cannot tell
            status = compare_entry(p, n, middle, key, key_size, &order)
            if status != PMKV_OK:
                return status
            exact[0] |= order == 0
            below = order < 0
        if below:
            low = middle + 1
        else:
            high = middle
    index[0] = low
    if low > first and not key_is_whole(p, n, low - 1):
        return corrupted(p, PMKV_CHECK_TREE, n.place + key_at(n, low - 1))
    if low < n.count and not key_is_whole(p, n, low):
        return corrupted(p, PMKV_CHECK_TREE, n.place + key_at(n, low))
    return PMKV_OK


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
    return (CHILD_HEADER + KEY_HEADER + size + 7) & ~<u64>7 if level else (KEY_HEADER + size + 3) & ~<u64>3


cdef bint pieces_fit(int level, const Piece* pieces, int count, u64 room) noexcept nogil:
    """Whether a node of these takes at most `room` bytes of its heap."""
    cdef u64 prefix_size = pieces_prefix(level, pieces, count), size = heap_start(prefix_size)
    cdef int i
    if count > TREE_ORDER_MAX:
        return False
    for i in range(count):
        size += piece_room(level, &pieces[i], 0 if level and i == 0 else prefix_size)
    return size <= min(room, <u64>ORDER_AT)


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


cdef u64 put_entry(Txn* t, int level, Piece* piece, bint smallest, u64 prefix_size, char* out) noexcept nogil:
    """Writes the entry to `out`; how many bytes it takes.  `smallest`: without a key."""
    cdef pmkv_tree_child* child = <pmkv_tree_child*>out
    cdef char* key_out = out + (CHILD_HEADER if level else 0)
    cdef pmkv_tree_key* key = <pmkv_tree_key*>key_out
    cdef u64 size = 0 if smallest else parts_size(&piece.key) - prefix_size
    if level:
        child.child = pmkv_seal(piece.child >> GRANULE_SHIFT)
        child.count = pmkv_seal(piece.count)
    if not smallest and size > TREE_INLINE_MAX and piece.far == 0 and store_far(t, piece) != PMKV_OK:
        return 0
    if piece.far and not smallest:
        key.size = TREE_FAR
        size = FAR_SIZE
        memcpy(key_out + KEY_HEADER, &piece.far, FAR_SIZE)
    else:
        key.size = <uint16_t>size
        if size:
            parts_copy(&piece.key, prefix_size, key_out + KEY_HEADER)
    key.check = key_check(key.size, key_out + KEY_HEADER, size)
    size += KEY_HEADER
    return (CHILD_HEADER + size + 7) & ~<u64>7 if level else (size + 3) & ~<u64>3


cdef inline u64 header_of(int count, int area, u64 heap, int level, uint32_t crc) noexcept nogil:
    return pmkv_seal(<u64>count | <u64>area << TREE_AREA_SHIFT | heap // UNIT << TREE_HEAP_SHIFT
                     | <u64>level << TREE_LEVEL_SHIFT | <u64>crc << TREE_CRC_SHIFT)


cdef int drop_far(Txn* t, u64 far) noexcept nogil:
    return txn_push(t, &t.freed, &t.freed_count, &t.freed_capacity, far) if far else t.status


cdef int node_build(Txn* t, int level, Piece* pieces, int count, u64* place) noexcept nogil:
    """A new node of the pieces, which fit.  It owns their far keys."""
    cdef char image[NODE_SIZE]
    cdef pmkv_tree_node* node = <pmkv_tree_node*>image
    cdef u64 prefix_size = pieces_prefix(level, pieces, count), at = heap_start(prefix_size)
    cdef int i
    cdef bint smallest
    if t.status != PMKV_OK:
        return t.status
    if not pieces_fit(level, pieces, count, ORDER_AT):
        return txn_fail(t, PMKV_TOO_LARGE)
    memset(image, 0, NODE_SIZE)
    node.prefix_size = <uint16_t>prefix_size
    for i in range(count):
        smallest = level != 0 and i == 0
        if smallest:
            drop_far(t, pieces[i].far)
            pieces[i].far = 0
        node.order[i] = <unsigned char>(at // UNIT)
        at += put_entry(t, level, &pieces[i], smallest, prefix_size, image + at)
        if t.status != PMKV_OK:
            return t.status
    copy_prefix(&pieces[count - 1].key, prefix_size, image + PREFIX_AT)
    node.order[TAIL_AT] = <unsigned char>(at // UNIT)
    node.header = header_of(count, 0, at, level, node_crc(node.order, count, image, prefix_size))
    if block_allocate(t, NODE_CLASS + NODE_BITS, NODE_SIZE, place) != PMKV_OK:
        return t.status
    return txn_data(t, place[0], image, NODE_SIZE)


cdef void copy_prefix(const Parts* key, u64 size, char* out) noexcept nogil:
    cdef Parts part = key[0]
    parts_cut(&part, size)
    parts_copy(&part, 0, out)


cdef bint has_prefix(const Node* n, const Parts* key) noexcept nogil:
    cdef Parts prefix
    prefix.a, prefix.a_size, prefix.b, prefix.b_size = n.prefix, n.prefix_size, NULL, 0
    return parts_common(&prefix, key) == n.prefix_size


cdef bint has_room(const Node* n, int first, int removed, const Piece* fresh, int fresh_count) noexcept nogil:
    cdef u64 heap = n.heap
    cdef int i
    if n.level:
        heap = (heap + 7) & ~<u64>7
    if n.count - removed + fresh_count > TREE_ORDER_MAX:
        return False
    for i in range(fresh_count):
        if n.level and first + i == 0:
            heap += piece_room(n.level, &fresh[i], parts_size(&fresh[i].key))
            continue
        if not has_prefix(n, &fresh[i].key):
            return False
        heap += piece_room(n.level, &fresh[i], n.prefix_size)
    return heap <= ORDER_AT


cdef u64 append(Txn* t, const Node* n, int first, Piece* fresh, int fresh_count, unsigned char* offsets) noexcept nogil:
    """Writes the entries behind the heap, in whole granules; where the heap ends then."""
    cdef char part[CHANGE_MAX]
    cdef u64 at = (n.heap + 7) & ~<u64>7 if n.level else n.heap
    cdef u64 start = n.heap & ~<u64>15
    cdef bint smallest
    cdef int i
    memset(part, 0, CHANGE_MAX)
    memcpy(part, n.base + start, n.heap - start)       # what is there already, as it is (N1)
    for i in range(fresh_count):
        smallest = n.level != 0 and first + i == 0
        if smallest:
            drop_far(t, fresh[i].far)
            fresh[i].far = 0
        offsets[i] = <unsigned char>(at // UNIT)
        at += put_entry(t, n.level, &fresh[i], smallest, n.prefix_size, part + (at - start))
    txn_data(t, n.place + start, part, ((at + 15) & ~<u64>15) - start)
    return at


cdef int node_change(Txn* t, const Node* n, int first, int removed, Piece* fresh, int fresh_count) noexcept nogil:
    """Replaces `removed` entries from `first` on by at most three new ones, in place.

    NOT_FOUND, and nothing done, where there is no room, or where nothing would be left.
    """
    cdef unsigned char offsets[4]
    cdef unsigned char order[ORDER_SIZE]
    cdef u64 heap = n.heap
    cdef int count = n.count - removed + fresh_count, area, i
    if t.status != PMKV_OK:
        return t.status
    if count == 0 or not has_room(n, first, removed, fresh, fresh_count):
        return PMKV_NOT_FOUND
    if fresh_count:
        heap = append(t, n, first, fresh, fresh_count, offsets)
    memset(order, 0, ORDER_SIZE)
    order[TAIL_AT] = <unsigned char>(heap // UNIT)
    memcpy(order, n.order, first)
    memcpy(order + first, offsets, fresh_count)
    memcpy(order + first + fresh_count, n.order + first + removed, n.count - first - removed)
    # The area that the header in place does not cover; this transaction's own may lie there.
    area = 1 - (pmkv_load(&t.p.m, n.place) >> TREE_AREA_SHIFT & 1)
    txn_data_again(t, n.place + ORDER_AT + area * ORDER_SIZE, order, ORDER_SIZE)
    return txn_log(t, n.place, header_of(count, area, heap, n.level,
                                         node_crc(order, count, n.base, n.prefix_size)))


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
    return (node.prefix_size <= PREFIX_MAX and key_size >= node.prefix_size
            and memcmp(key, <const char*>node + PREFIX_AT, node.prefix_size) == 0)


cdef int node_free_later(Txn* t, u64 place) noexcept nogil:
    """The node is freed with the commit; what its entries own is not."""
    cdef u64 reference = place >> GRANULE_SHIFT | <u64>NODE_BITS << REFERENCE_BITS_SHIFT
    return txn_push(t, &t.freed, &t.freed_count, &t.freed_capacity, pmkv_seal(reference) | <u64>1 << 63)
