"""_cache.pyx (L6): a bounded cache of decoded values.

May know: bytes objects, and of the pool the three things that name what a record says: the id of its
namespace, the number of the commit that wrote it, and its key.  Committed records only: what an open
transaction has stored may change, or be taken back, under the number that its commit is to have.

Eviction is S3-FIFO (docs/decisions/0019).  What is new enters the *small* queue.  Whoever leaves it unused
is forgotten but for a fingerprint, its *ghost*; whoever was used, or comes back while its ghost is there,
goes to the *main* queue, where each use is worth one more turn.  So a scan only passes through the
small queue.

    slots    | hash | node |  ...         open addressing, never more than two thirds full
    node     | value | hash | namespace id | commit | newer | key size, uses | key ... |
    ghosts   | fingerprint x 8 |  ...     buckets, by the fingerprint; half as many as there are slots

Invariants
  C1. `held` is the bytes of all nodes, values and tables, and never more than `capacity`.
  C2. Every node is in one slot and in one queue, and owns one reference to its value.
  C3. The three that name an entry never mean another value: nothing is ever taken out because it is wrong.
      Commit and place, which no two records share, only make the hash: a record that has moved is a miss.
  C4. The tables take a third of the capacity at most, and an entry a tenth: there is always room for one.
Threads: under the GIL.  Only exact bytes are held, so dropping one runs nobody's code.
"""
from cpython.bytes cimport PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from cython cimport final
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, memcpy, memmove, memset
from pmkv._core cimport MAX_KEY_SIZE, PMKV_HASH_K0, pmkv_fold, u64

cdef enum:
    SMALL_PART = 10               # the small queue: this part of the capacity
    LARGEST_PART = 10             # an entry: no more than this part
    TABLES_PART = 3               # the tables: no more than this part
    USED = 2                      # uses in the small queue that lead to the main one
    MOST_USES = 3                 # turns in the main queue that can be saved up
    PATIENCE = 64                 # nodes that an eviction looks at: then the next one goes, used or not
    LEAST_SLOTS = 16
    BUCKET = 8                    # fingerprints

cdef u64 VALUE_HEADER = bytes.__basicsize__


# ---- sizes and hashes ------------------------------------------------------------------------

cdef inline u64 taken(u64 size) noexcept:
    """What an allocator takes for so many bytes: a word of its own, and units of 16."""
    return (size + 8 + 15) & ~<u64>15


cdef inline u64 entry_size(u64 key_size, u64 value_size) noexcept:
    return taken(sizeof(Node) + key_size) + taken(VALUE_HEADER + value_size)


cdef inline u64 node_entry_size(const Node* node) noexcept:
    return entry_size(node.key_size, PyBytes_GET_SIZE(<object>node.value))


cdef inline u64 tables_size(u64 slot_count) noexcept:
    return taken(slot_count * sizeof(Slot)) + taken(slot_count // 2 * 4) if slot_count else 0


cdef inline u64 hash_of(u64 seed, u64 commit, u64 place) noexcept:
    """Twice folded: places are multiples of 16, and low bits of the hash choose the slot.

    The seed enters both factors: a pool that was made for it cannot bring numbers that all meet.
    """
    return pmkv_fold(pmkv_fold(place ^ seed, commit ^ seed ^ PMKV_HASH_K0), PMKV_HASH_K0)


cdef inline uint32_t fingerprint_of(u64 hash) noexcept:
    cdef uint32_t high = <uint32_t>(hash >> 32)
    return high if high else 1


cdef inline char* key_of(Node* node) noexcept:
    return <char*>(node + 1)


# ---- nodes and queues ------------------------------------------------------------------------

cdef Node* new_node(u64 hash, u64 namespace_id, u64 commit, const char* key, u64 key_size, bytes value) noexcept:
    """A node in no queue, with a reference to its value; NULL without memory."""
    cdef Node* node = <Node*>PyMem_Malloc(sizeof(Node) + key_size)
    if node == NULL:
        return NULL
    Py_INCREF(value)
    node.value, node.hash = <PyObject*>value, hash
    node.namespace_id, node.commit = namespace_id, commit
    node.newer, node.key_size, node.uses = NULL, <uint32_t>key_size, 0
    memcpy(key_of(node), key, key_size)
    return node


cdef void free_node(Node* node) noexcept:
    Py_XDECREF(node.value)
    PyMem_Free(node)


cdef void push(Queue* queue, Node* node) noexcept:
    node.newer = NULL
    if queue.newest == NULL:
        queue.oldest = node
    else:
        queue.newest.newer = node
    queue.newest = node
    queue.size += node_entry_size(node)


cdef Node* pop(Queue* queue) noexcept:
    """The oldest, which there must be."""
    cdef Node* node = queue.oldest
    queue.oldest = node.newer
    if queue.oldest == NULL:
        queue.newest = NULL
    queue.size -= node_entry_size(node)
    return node


cdef void free_all(Queue* queue) noexcept:
    while queue.oldest != NULL:
        free_node(pop(queue))


# ---- slots -----------------------------------------------------------------------------------

cdef void fill_slot(Slot* slots, u64 mask, Node* node) noexcept:
    cdef u64 i = node.hash & mask
    while slots[i].node != NULL:
        i = (i + 1) & mask
    slots[i].hash, slots[i].node = node.hash, node


cdef void fill_slots(Slot* slots, u64 mask, const Queue* queue) noexcept:
    cdef Node* node = queue.oldest
    while node != NULL:
        fill_slot(slots, mask, node)
        node = node.newer


cdef void free_slot(Slot* slots, u64 mask, const Node* node) noexcept:
    """Those behind it move up, unless they would come before where their hash says."""
    cdef u64 hole = node.hash & mask, i
    while slots[hole].node != node:
        hole = (hole + 1) & mask
    i = (hole + 1) & mask
    while slots[i].node != NULL:
        if ((i - slots[i].hash) & mask) >= ((i - hole) & mask):
            slots[hole] = slots[i]
            hole = i
        i = (i + 1) & mask
    slots[hole].node = NULL


cdef void split_buckets(uint32_t* ghosts, u64 bucket_count) noexcept:
    """Twice as many buckets: each gives what now belongs to the one that far behind it, empty so far."""
    cdef u64 i
    memset(ghosts + bucket_count * BUCKET, 0, bucket_count * BUCKET * 4)
    for i in range(bucket_count * BUCKET):
        if ghosts[i] & bucket_count:
            ghosts[i + bucket_count * BUCKET] = ghosts[i]
            ghosts[i] = 0


# ---- the cache -------------------------------------------------------------------------------

@final
cdef class Cache:
    """Values by namespace id, commit number and key, in so many bytes; in none, it holds nothing."""

    def __cinit__(self, u64 capacity):
        self.capacity = capacity
        self.seed = <u64>hash(b"a cache's seed")  # as the interpreter's hashes: nobody else knows it

    def __dealloc__(self):
        self.clear()

    def get(self, u64 namespace_id, u64 commit, u64 place, bytes key not None):
        """The value, or None."""
        return self.find(namespace_id, commit, place, <const char*>key, PyBytes_GET_SIZE(key))

    def put(self, u64 namespace_id, u64 commit, u64 place, bytes key not None, value):
        """Holds a value; False if it is too large."""
        return bool(self.keep(namespace_id, commit, place, <const char*>key, PyBytes_GET_SIZE(key), value))

    cdef bytes find(self, u64 namespace_id, u64 commit, u64 place, const char* key, u64 key_size):
        cdef Node* node = self.look_up(hash_of(self.seed, commit, place), namespace_id, commit, key, key_size)
        if node == NULL:
            self.misses += 1
            return None
        self.hits += 1
        if node.uses < MOST_USES:  # else nothing is stored to: the line stays clean
            node.uses += 1
        return <bytes>node.value

    cdef int keep(self, u64 namespace_id, u64 commit, u64 place, const char* key, u64 key_size,
                  bytes value) except -1:
        """1 if it is held, 0 if it is too large, or there is no memory: then the cache goes without."""
        cdef u64 hash = hash_of(self.seed, commit, place), size
        cdef Node* node
        if not PyBytes_CheckExact(value):
            raise TypeError("a cache holds bytes and nothing else")
        size = entry_size(key_size, PyBytes_GET_SIZE(value))
        if key_size > MAX_KEY_SIZE or size > self.capacity // LARGEST_PART:
            return 0
        if self.look_up(hash, namespace_id, commit, key, key_size) != NULL:
            return 1
        if not self.make_slot():
            return 0
        while self.held + size > self.capacity:  # C4: ends before there is nothing left to evict
            self.evict()
        node = new_node(hash, namespace_id, commit, key, key_size, value)
        if node == NULL:
            return 0
        self.add(node)
        return 1

    cpdef void clear(self) noexcept:
        """Gives all memory back; what was counted stays."""
        free_all(&self.small)
        free_all(&self.main)
        PyMem_Free(self.slots)
        PyMem_Free(self.ghosts)
        self.slots, self.ghosts = NULL, NULL
        self.slot_count = self.held = self.entries = 0

    cdef Node* look_up(self, u64 hash, u64 namespace_id, u64 commit, const char* key, u64 key_size) noexcept:
        cdef u64 mask = self.slot_count - 1, i = hash & mask
        cdef Node* node
        if self.entries == 0:
            return NULL
        while self.slots[i].node != NULL:
            node = self.slots[i].node
            if (self.slots[i].hash == hash and node.commit == commit and node.namespace_id == namespace_id
                    and node.key_size == key_size and memcmp(key_of(node), key, key_size) == 0):
                return node
            i = (i + 1) & mask
        return NULL

    # ---- room

    cdef bint make_slot(self) noexcept:
        """Room in the table for one more; False if the capacity is too small for any."""
        if (self.entries + 1) * 3 <= self.slot_count * 2 or self.grow():
            return True
        if self.entries == 0:
            return False
        self.evict()
        return True

    cdef bint grow(self) noexcept:
        """Twice as many slots, if that is not too much of the capacity; entries give way to them."""
        cdef u64 count = self.slot_count * 2 if self.slot_count else LEAST_SLOTS
        cdef u64 more = tables_size(count) - tables_size(self.slot_count)
        if tables_size(count) > self.capacity // TABLES_PART:
            return False
        while self.held + more > self.capacity:
            self.evict()
        if not self.set_slot_count(count):
            self.clear()
            return False
        self.held += more
        return True

    cdef bint set_slot_count(self, u64 count) noexcept:
        """The old slots go first, so that there are never two tables: the queues know all nodes."""
        cdef u64 buckets = self.slot_count // 2 // BUCKET
        cdef uint32_t* ghosts
        PyMem_Free(self.slots)
        self.slots = NULL
        ghosts = <uint32_t*>PyMem_Realloc(self.ghosts, count // 2 * 4)
        if ghosts == NULL:
            return False
        self.ghosts = ghosts
        if buckets:
            split_buckets(ghosts, buckets)
        else:
            memset(ghosts, 0, count // 2 * 4)
        self.slots = <Slot*>PyMem_Calloc(count, sizeof(Slot))
        if self.slots == NULL:
            return False
        self.slot_count = count
        fill_slots(self.slots, count - 1, &self.small)
        fill_slots(self.slots, count - 1, &self.main)
        return True

    # ---- who comes and who goes

    cdef void add(self, Node* node) noexcept:
        push(&self.main if self.recall(node.hash) else &self.small, node)
        fill_slot(self.slots, self.slot_count - 1, node)
        self.held += node_entry_size(node)
        self.entries += 1

    cdef void evict(self) noexcept:
        """Takes one entry out, of which there must be one; others take their turns."""
        cdef bint is_small
        cdef int looked_at = 0
        cdef Node* node
        while True:
            is_small = self.small.size > self.capacity // SMALL_PART or self.main.oldest == NULL
            node = pop(&self.small if is_small else &self.main)
            looked_at += 1
            if looked_at == PATIENCE or node.uses < (USED if is_small else 1):
                break
            node.uses = 0 if is_small else node.uses - 1
            push(&self.main, node)
        if is_small:
            self.remember(node.hash)
        self.evictions += 1
        self.take_out(node)

    cdef void take_out(self, Node* node) noexcept:
        """Of a node that is in no queue any more."""
        free_slot(self.slots, self.slot_count - 1, node)
        self.held -= node_entry_size(node)
        self.entries -= 1
        free_node(node)

    cdef void remember(self, u64 hash) noexcept:
        """Its ghost is the newest of its bucket; a hole is filled, or the oldest forgotten."""
        cdef uint32_t fingerprint = fingerprint_of(hash)
        cdef uint32_t* bucket = self.ghosts + (fingerprint & (self.slot_count // 2 // BUCKET - 1)) * BUCKET
        cdef int last = 0
        while last < BUCKET - 1 and bucket[last] != 0:
            last += 1
        memmove(bucket + 1, bucket, last * 4)
        bucket[0] = fingerprint

    cdef bint recall(self, u64 hash) noexcept:
        """Whether its ghost is there; it is not afterwards."""
        cdef uint32_t fingerprint = fingerprint_of(hash)
        cdef uint32_t* bucket = self.ghosts + (fingerprint & (self.slot_count // 2 // BUCKET - 1)) * BUCKET
        cdef int i
        for i in range(BUCKET):
            if bucket[i] == fingerprint:
                bucket[i] = 0
                return True
        return False
