"""_treenode.pyx (L3): one node of the ordered keys.

May know: records (for keys too long for a node), words.  Not how a node comes to be (_treebuild.pyx),
nor the tree.

    node    | header | prefix_size | prefix | entry | entry | ...  free ...  | heads | order 0 | order 1 |
    entry   of a leaf             | size, check | key after the prefix |
            of a leaf's parent    | child | size, check | separator after the prefix |
            of a parent above     | child | count | size, check | separator after the prefix |

An entry never changes its place or its key.  The *order* is a list of the entries' offsets in
the order of their keys; there is room for two.  How many keys a leaf has is said by its header, so its
parent has no count of them.

A parent has *heads*: the first bytes of its separators as numbers, in any order.  A search counts the smaller ones,
without a jump and in few lines, and that is where its key belongs in the order.

An order is 63 offsets, and one byte more.  Of a leaf it is where the heap ended when it was written.  A leaf may have a
*tail* of a few keys from there on, which are not in the order: then an insert reads and writes
next to nothing of the leaf.  Who reads the node puts them where they belong, in a copy of the order.

Invariants
  N1. The bytes that the header's committed word covers change never: not the prefix, not an entry in the
      order, not the order, not a head.  Only the words of children, and counts, do, by the log.
  N2. All keys of the order are different and ascend.  Of a parent, the first stands for the
      smallest key there is, whatever its bytes are.
  N3. A key of more than INLINE_MAX bytes after the prefix lies in a record that this entry owns.
      It may stay there when a longer prefix makes it fit.
  N4. The tail's entries lie side by side and end where the heap does.  None has a key in a record.
  N5. Each entry of a parent has a head.  One that is taken out leaves its head there.
"""
from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memcmp, memcpy, memmove
from pmkv._core cimport *
from pmkv._pool cimport Pool, corrupted, page_place, unseal
from pmkv._records cimport Record, record_body_is_whole, record_parse
from pmkv._writeset cimport Txn


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
    """What an insert into the leaf will need: its first line should be there.

    All of it, where the tail goes into the order, and where there is hardly room for one more key.
    """
    cdef u64 header
    if not node_is_inside(t.p, place):
        return
    header = tree_word(t.p, t, place)
    if tail_of(header) >= TAIL_MAX or heap_of(header) + ENTRY_LIKELY > <u64>ORDER_AT:
        node_prefetch(t.p, place)
    else:
        pmkv_prefetch(<const char*>pmkv_at(&t.p.m, place) + min(heap_of(header), <u64>ORDER_AT))


cdef bint node_is_inside(const Pool* p, u64 place) noexcept nogil:
    return place >= p.header_size and place % 16 == 0 and place + NODE_SIZE <= page_place(p, p.file_pages)


cdef uint32_t node_crc(const unsigned char* order, int count, int heads, const char* node,
                       u64 prefix_size) noexcept nogil:
    """Of the order of `count` entries, of the heads, and of the node from prefix_size to the heap's start.

    Of heads, two are computed side by side, of every other pair each: one step waits for the one before.
    """
    cdef uint32_t crc = ~<uint32_t>0, one = crc, other = crc, pair, single, last
    cdef const char* end = node + ORDER_AT
    cdef uint32_t after[ORDER_WORDS + 1]          # so many words of the order
    cdef u64 at
    after[0] = crc
    for at in range(ORDER_WORDS):
        after[at + 1] = pmkv_crc_u64(after[at], (<const u64*>(order + at * 8))[0])
    crc = after[(count + 7) // 8]
    for at in range(8, heap_start(prefix_size), 8):
        crc = pmkv_crc_u64(crc, (<const u64*>(node + at))[0])
    if heads == 0:
        return ~crc
    for at in range(16, <u64>(heads * HEAD_SIZE + 1), 16):
        one = pmkv_crc_u64(one, (<const u64*>(end - at))[1])
        other = pmkv_crc_u64(other, (<const u64*>(end - at))[0])
    # Computed all, and then chosen: nobody could predict how many are left.
    pair = pmkv_crc_u64(one, (<const u64*>(end - heads // 2 * 2 * HEAD_SIZE))[0])
    single = pmkv_crc_u64(one, (<const uint32_t*>(end - heads * HEAD_SIZE))[0])
    last = pmkv_crc_u64(other, (<const uint32_t*>(end - heads * HEAD_SIZE))[0])
    one = pair if heads % 4 >= 2 else single if heads % 4 == 1 else one
    other = last if heads % 4 == 3 else other
    return ~pmkv_crc_u64(crc, <u64>(~other) << 32 | <uint32_t>~one)


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
    n.heads = n.order[TAIL_AT] if n.level else 0
    if (n.count <= tail or n.count > TREE_ORDER_MAX or n.prefix_size > PREFIX_MAX
            or n.heads > HEADS_MAX or n.heap > heap_limit(n.heads)
            or (level >= 0 and n.level != level)
            or not pmkv_check(&p.m, PMKV_CHECK_TREE, <uint32_t>(header >> TREE_CRC_SHIFT)
                              == node_crc(n.order, n.count - tail, n.heads, n.base, n.prefix_size))):
        return corrupted(p, PMKV_CHECK_TREE, place)
    return take_in_tail(p, n, tail) if tail else PMKV_OK


cdef int take_in_tail(Pool* p, Node* n, int tail) noexcept nogil:
    """Puts the tail's entries into the copy of the order, each between two that are whole (N4)."""
    cdef u64 fresh[TREE_TAIL_MASK + 1]            # head, and where in units; ascending
    cdef const pmkv_tree_key* key
    cdef u64 at = <u64>n.order[TAIL_AT] * UNIT, word
    cdef int i, j
    n.count -= tail
    for i in range(tail):
        key = <const pmkv_tree_key*>(n.base + at)
        if n.level or not entry_is_whole(p, n, at) or key.size & TREE_FAR:
            return corrupted(p, PMKV_CHECK_TREE, n.place + at)
        word = <u64>short_head_of_entry(n.base + at, key.size) << 8 | at // UNIT
        j = i
        while j > 0 and fresh[j - 1] > word:
            fresh[j] = fresh[j - 1]
            j -= 1
        fresh[j] = word
        at += (KEY_HEADER + key.size + 3) & ~<u64>3
    if at != n.heap:
        return corrupted(p, PMKV_CHECK_TREE, n.place + at)
    return PMKV_OK if merge_by_heads(p, n, fresh, tail) else insert_by_keys(p, n, fresh, tail)


cdef bint merge_by_heads(Pool* p, Node* n, const u64* fresh, int count) noexcept nogil:
    """The tail into the order, from its end on; False, and nothing done, if heads do not tell, or are damaged."""
    cdef unsigned char merged[ORDER_SIZE]
    cdef const pmkv_tree_key* key
    cdef int left = n.count, gap = -1
    cdef u64 head, own = 0, at
    cdef int i
    memcpy(merged, n.order, ORDER_SIZE)
    for i in range(count - 1, -1, -1):
        head = fresh[i] >> 8
        if i + 1 < count and fresh[i + 1] >> 8 == head:
            return False
        while left:
            at = entry_at(n, left - 1)
            key = <const pmkv_tree_key*>(n.base + at)
            if at >= ORDER_AT or key.size >= TREE_FAR:
                return False
            own = short_head_of_entry(n.base + at, key.size)
            if own <= head:
                break
            left -= 1
            merged[left + i + 1] = n.order[left]
        if left and own == head:
            return False
        if left != gap:           # the entries on both sides of it
            if left < n.count and left + 1 != gap and not key_is_whole(p, n, left):
                return False
            if left and not key_is_whole(p, n, left - 1):
                return False
        gap = left
        merged[left + i] = <unsigned char>fresh[i]
    n.count += count
    memcpy(n.order, merged, n.count)
    return True


cdef int insert_by_keys(Pool* p, Node* n, const u64* fresh, int count) noexcept nogil:
    """The same, by comparing whole keys."""
    cdef bint exact = False
    cdef int index, i, status
    cdef u64 at
    for i in range(count):
        at = (fresh[i] & 255) * UNIT
        status = search(p, n, n.base + at + KEY_HEADER, (<const pmkv_tree_key*>(n.base + at)).size, 0, n.count,
                        &index, &exact)
        if status == PMKV_OK and exact:
            status = corrupted(p, PMKV_CHECK_TREE, n.place + at)
        if status != PMKV_OK:
            return status
        memmove(&n.order[index + 1], &n.order[index], n.count - index)
        n.order[index] = <unsigned char>fresh[i]
        n.count += 1
    return PMKV_OK


cdef inline u64 entry_at(const Node* n, int index) noexcept nogil:
    return <u64>n.order[index] * UNIT


cdef inline u64 key_at(const Node* n, int index) noexcept nogil:
    """Where the entry's tree_key is."""
    return entry_at(n, index) + words_size(n.level)


cdef u64 child_word_place(const Node* n, int index) noexcept nogil:
    return n.place + entry_at(n, index)


cdef u64 count_word_place(const Node* n, int index) noexcept nogil:
    return n.place + entry_at(n, index) + WORD


cdef inline bint key_is_whole(Pool* p, const Node* n, int index) noexcept nogil:
    return entry_is_whole(p, n, key_at(n, index))


cdef bint entry_is_whole(Pool* p, const Node* n, u64 at) noexcept nogil:
    """Whether the key there lies in the heap, and its check fits."""
    cdef u64 stored
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


cdef inline int read_word(Pool* p, Txn* t, const Node* n, int index, u64 offset, u64* payload) noexcept nogil:
    """A word of an entry, if all of the entry's words lie in the heap: who changes another of them need not ask."""
    cdef u64 at = entry_at(n, index), place = n.place + at + offset
    if at + words_size(n.level) > n.heap or at % WORD:
        return corrupted(p, PMKV_CHECK_TREE, place)
    return unseal(p, place, tree_word(p, t, place), payload)


cdef int node_child(Pool* p, Txn* t, const Node* n, int index, u64* child) noexcept nogil:
    cdef int status = read_word(p, t, n, index, 0, child)
    child[0] <<= GRANULE_SHIFT
    return status


cdef int leaf_count(Pool* p, Txn* t, u64 place, u64* count) noexcept nogil:
    """How many keys a leaf has, by its header alone."""
    cdef u64 header
    if not node_is_inside(p, place):
        return corrupted(p, PMKV_CHECK_TREE, place)
    header = tree_word(p, t, place)
    if not pmkv_check(&p.m, PMKV_CHECK_SEAL, pmkv_is_sealed(header)):
        return corrupted(p, PMKV_CHECK_SEAL, place)
    count[0] = header & 127
    return PMKV_OK


cdef int node_count(Pool* p, Txn* t, const Node* n, int index, u64* count) noexcept nogil:
    """How many keys are below a parent's entry."""
    cdef u64 leaf
    cdef int status
    if n.level > 1:
        return read_word(p, t, n, index, WORD, count)
    status = node_child(p, t, n, index, &leaf)
    return leaf_count(p, t, leaf, count) if status == PMKV_OK else status


cdef void node_prefetch_counts(Pool* p, Txn* t, const Node* n) noexcept nogil:
    """Asks for what node_count() of all entries will need."""
    cdef u64 child
    cdef int i
    for i in range(n.count if n.level == 1 else 0):
        if node_child(p, t, n, i, &child) == PMKV_OK:
            pmkv_prefetch(pmkv_at(&p.m, child))


cdef int node_piece(Pool* p, Txn* t, const Node* n, int index, Piece* piece) noexcept nogil:
    """The entry, as it would go into another node."""
    cdef int status = read_key(p, n, index, &piece.key.b, &piece.key.b_size, &piece.far)
    piece.key.a, piece.key.a_size = n.prefix, n.prefix_size
    piece.child, piece.count = 0, 1
    if status == PMKV_OK and n.level:
        status = node_child(p, t, n, index, &piece.child)
    if status == PMKV_OK and n.level > 1:
        status = node_count(p, t, n, index, &piece.count)
    return status


cdef bint node_copy(Pool* p, const Node* n, int index, char* out, u64 room, u64* size) noexcept nogil:
    """Copies a whole key out of a leaf, its check tested; False if node_piece() has to look.

    16 bytes are there to load from anywhere in the heap, since the orders follow it; and `out` has
    COPY_ROOM behind its `room`.  So short keys are copied without asking how long they are.
    """
    cdef u64 at = key_at(n, index), rest
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


cdef inline uint32_t short_head_of_entry(const char* key_header, u64 size) noexcept nogil:
    """The first four bytes alone, of an entry of any size."""
    cdef uint32_t head = __builtin_bswap32((<const uint32_t*>(key_header + KEY_HEADER))[0])
    return head & <uint32_t>(<u64>0xFFFFFFFF << (32 - 8 * min(size, <u64>HEAD_SIZE)))


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
    cdef u64 at = key_at(n, index), size, own, head
    order[0] = -compare_prefix(n, key, key_size)
    if order[0]:
        return PMKV_OK
    key += n.prefix_size
    key_size -= n.prefix_size
    size = (<const pmkv_tree_key*>(n.base + at)).size
    if at < ORDER_AT and size - 1 < <u64>TREE_INLINE_MAX:        # their heads decide, mostly
        own, head = head_of_entry(n.base + at, size), head_of_key(key, key_size)
        if own != head:
            order[0] = 1 if own > head else -1
            return PMKV_OK
    return compare_entry(p, n, index, key, key_size, order)


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

    Of entries that were compared with it, only the two that it ends between are tested: if they are whole,
    the key is between them, whatever led there.
    """
    cdef int order = compare_prefix(n, key, key_size)
    exact[0] = False
    index[0] = low if order < 0 else n.count
    if order:
        return PMKV_OK
    key += n.prefix_size
    key_size -= n.prefix_size
    if n.level and n.heads == n.count:
        return search_heads(p, n, key, key_size, low, index, exact)
    return search(p, n, key, key_size, low, n.count, index, exact)


cdef int search(Pool* p, const Node* n, const char* key, u64 key_size, int low, int high, int* index,
                bint* exact) noexcept nogil:
    """The same of what follows the prefix, if it is known to belong between `low` and `high`."""
    cdef int first = low, end = high, middle, order = 0, status
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
    if low < end and not key_is_whole(p, n, low):
        return corrupted(p, PMKV_CHECK_TREE, n.place + key_at(n, low))
    return PMKV_OK


cdef inline void count_heads(const uint32_t* end, int count, uint32_t head, int* below, int* same) noexcept nogil:
    """How many of those before `end` are smaller, and how many the same.

    In numbers as wide as heads, so that it is done four at a time.  What lies in front of them is read along, and
    not counted: nobody could predict how many are left.
    """
    cdef uint32_t less = 0, equal = 0, i, some = (<uint32_t>count + 3) & ~<uint32_t>3, none = some - <uint32_t>count
    end -= some
    for i in range(some):
        less += (end[i] < head) & (i >= none)
        equal += (end[i] == head) & (i >= none)
    below[0], same[0] = <int>less, <int>equal


cdef int search_heads(Pool* p, const Node* n, const char* key, u64 key_size, int low, int* index,
                      bint* exact) noexcept nogil:
    """The same in a parent: its heads decide, and only keys that begin as this one are searched."""
    cdef int below, same
    count_heads(<const uint32_t*>(n.base + ORDER_AT), n.heads, short_head(key, key_size), &below, &same)
    if same == 0:
        index[0] = max(low, below)
        return PMKV_OK
    return search(p, n, key, key_size, max(low, below), max(low, below + same), index, exact)
