# cython: boundscheck=True, wraparound=True
"""_simulator.pyx: a small pool that programs are played on, and its power cuts.

A test instrument beside the floors: it drives the transaction floor on the live pool, and has every
operation crashed when it has returned (_crashes.pyx).  Readers at earlier moments look again after
each operation.  The clock stands where the program sets it.  Besides, it damages a quiet pool: is that
noticed?  A value of a program may be Coded (_oracle.pyx): what stages have made of it is all the same here.
"""
from libc.stdlib cimport calloc, free
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memcmp, memcpy, memset
from pmkv._blocks cimport record_class
from pmkv._catalogue cimport catalogue_add, catalogue_find, catalogue_remove, catalogue_rename
from pmkv._check cimport check_pool
from pmkv._compact cimport (
    COMPACTION_DONE, Compaction, compaction_begin, compaction_committed, compaction_fill,
)
from pmkv._core cimport *
from pmkv._crashes cimport Crashes
from pmkv._expiry cimport expiry_is_past
from pmkv._keytree cimport TreeCursor, keytree_edge, keytree_next_leaf, keytree_seek, path_end
from pmkv._mapping cimport LEAF_SLOTS, Cursor, mapping_get, mapping_next_leaf
from pmkv._pool cimport file_size_for
from pmkv._records cimport Record, record_coding, record_commit, record_verify
from pmkv._recovery cimport recovery_run
from pmkv._redo cimport redo_checkpoint
from pmkv._space cimport pins_add, pins_drop, space_collect, space_commit, space_due
from pmkv._sweep cimport sweep
from pmkv._transaction cimport (
    PUT_ALWAYS, Item, transaction_catch_up, transaction_clear, transaction_delete, transaction_delete_all,
    transaction_mark, transaction_put, transaction_put_all, transaction_touch,
)
from pmkv._treenode cimport Piece, node_piece, parts_copy, parts_size
from pmkv._versions cimport (
    BEFORE_KEY, Version, is_garbage_due, moments_close, moments_entries, moments_open, version_find, version_free,
    version_read, versions_seek,
)
from pmkv._writeset cimport txn_abort, txn_begin, txn_rollback

from pmkv._crashes import SITE_TYPES, SITES, SimulationFailure
import os

from pmkv._oracle import coded, coding_of, until


cdef u64 options_of(bytes name):
    return PMKV_OPTION_UNORDERED if name[:1] == b"u" else 0


cdef Item* items_of(list pairs) except NULL:
    """Keys and values as the transaction floor wants them; the caller keeps `pairs`, and frees them."""
    cdef Item* items = <Item*>calloc(len(pairs) + 1, sizeof(Item))
    cdef size_t i
    if items == NULL:
        raise MemoryError
    for i in range(len(pairs)):
        key, value = pairs[i]
        items[i].key, items[i].key_size = <bytes>key, len(key)
        if value is not None:
            items[i].value, items[i].value_size = <bytes>value, len(value)
            items[i].coding, items[i].expiry = coding_of(value), getattr(value, "expiry", 0)
    return items


cdef class Simulator(Crashes):
    """A pool of a few pages, and the power cuts that it lives through.

    page_domain: sectors and syncs instead of lines, flushes and fences.
    mutant: the name of a site (persist.h) that is taken out, or None.
    exhaust: a gap with at most so many states is exhausted; a larger one is sampled.
    samples: random states of a sampled gap, and half as many with torn words.
    deeper: one state in so many is also crashed inside its recovery and inside an operation
        after it; 0 for none.
    """
    cdef readonly list moments     # (moment, model of then, name -> place and id, time) of each reader
    cdef public u64 time           # keys that expire up to then are not there; 0: all are
    cdef list dropped              # names of namespaces whose rest is still there
    cdef set asked                 # keys that readers ask for

    def __cinit__(self, **options):
        self.moments, self.dropped, self.asked = [], [], set()

    # -- operations on the live pool; each is explored when it has returned --

    cdef int finish(self, int status, dict after, bint explored, what) except -1:
        if status == PMKV_OK:
            transaction_catch_up(&self.txn)
            status = space_commit(&self.txn, &self.pins)
            due = space_due(&self.pins) if status == PMKV_OK else 0
            if due:
                space_collect(&self.txn, &self.pins, due)
        else:
            txn_abort(&self.txn)
        self.must(status, what)
        if status != PMKV_OK:
            after = self.model
        self.explore(self.model, after, explored)
        self.model = after
        self.look_back_at_all()
        return status

    cdef void begin(self) noexcept:
        txn_begin(&self.txn)
        self.txn.now = self.time

    cdef bint has_expired(self, value):
        """Of a model: whether the key is not there any more."""
        return 0 < getattr(value, "expiry", 0) <= self.time

    def put(self, bytes key, value not None, *, u64 expiry=0, bint explored=True):
        after = {**self.model, key: until(value, expiry)}
        self.begin()
        self.finish(self.store(ROOT_DEFAULT_NAMESPACE, key, value, expiry), after, explored, "put")

    cdef int store(self, u64 namespace, bytes key, value, u64 expiry) except -100:
        cdef Item item
        item.key, item.key_size, item.value, item.value_size = key, len(key), <bytes>value, len(value)
        item.coding, item.may_change, item.expiry = coding_of(value), False, expiry
        return transaction_put(&self.txn, namespace, &item, PUT_ALWAYS)

    def delete(self, bytes key, *, bint explored=True):
        self.transaction([(key, None)], explored=explored)

    def put_many(self, dict pairs, *, bint explored=True):
        self.write_back({b"": pairs}, explored=explored)

    def write_back(self, dict batches, *, bint explored=True):
        """What writeback commits at once: name -> key -> value to put, or None to delete.

        Namespaces are made as in a transaction; the name of the default one is empty.
        """
        cdef dict after = dict(self.model)
        cdef int status = PMKV_OK
        self.begin()
        for name, changes in batches.items():
            status = min(status, self.write_batch(name, changes))
            for key, value in changes.items():
                self.foretell(after, (name, key, value))
        self.finish(status, after, explored, "writeback")

    cdef int write_batch(self, bytes name, dict changes) except -100:
        cdef list puts = [pair for pair in changes.items() if pair[1] is not None]
        cdef list deletes = [pair for pair in changes.items() if pair[1] is None]
        cdef u64 namespace, deleted
        cdef int status = self.namespace_of(name, &namespace)
        cdef Item* items = items_of(puts + deletes)
        if status == PMKV_OK:
            status = transaction_put_all(&self.txn, namespace, items, len(puts))
        if status == PMKV_OK:
            status = transaction_delete_all(&self.txn, namespace, items + len(puts), len(deletes), &deleted)
        free(items)
        return status

    cdef int namespace_of(self, bytes name, u64* namespace) except -100:
        """The root of the namespace, which is made if it is not there."""
        cdef int status
        namespace[0] = ROOT_DEFAULT_NAMESPACE
        if not name:
            return PMKV_OK
        status = catalogue_find(&self.live, &self.txn, name, len(name), namespace)
        if status == PMKV_NOT_FOUND:
            status = catalogue_add(&self.txn, name, len(name), options_of(name), namespace)
        return status

    def transaction(self, list steps, *, bint explored=True):
        """Many steps, one commit: (key, value) to put, (key, None) to delete, (name, key, value) in a namespace.

        A namespace that is not there is made; without order if its name begins with "u"; an empty name
        is that of the default one.  The steps of a list are undone again at its end.  (value, expiry) as a
        value is put with that time; a number as a value is the time to which an expiry is changed, in place
        if it is odd.  A number as a step sweeps at most so many keys.
        """
        cdef dict after = dict(self.model)
        cdef int status = PMKV_OK
        self.begin()
        self.txn.early = 2            # the others are late
        for step in steps:
            status = min(status, self.step(step))
            self.foretell(after, step)
        self.finish(status, after, explored, "transaction")

    cdef foretell(self, dict after, step):
        """What the step does to the model."""
        if isinstance(step, int):
            due = [key for key, value in after.items() if self.has_expired(value)]
            for key in sorted(due, key=lambda key: after[key].expiry)[:step]:
                del after[key]
        elif isinstance(step, tuple):
            *name, key, value = step
            at = (name[0], key) if name and name[0] else key
            there = at in after and not self.has_expired(after[at])
            if isinstance(value, tuple):
                after[at] = until(*value)
            elif isinstance(value, bytes):
                after[at] = value
            elif there and value is None:
                del after[at]
            elif there:
                after[at] = until(after[at], value)

    cdef int step(self, step) except -100:
        cdef u64 namespace, swept, next_time
        cdef int status
        cdef bytes key
        if isinstance(step, list):
            return self.undone(step)
        if isinstance(step, int):
            return sweep(&self.txn, self.time, step, &swept, &next_time)
        name, key, value = step if len(step) == 3 else (b"", *step)
        status = self.namespace_of(name, &namespace)
        if status != PMKV_OK:
            return status
        if value is None:
            return transaction_delete(&self.txn, namespace, key, len(key))
        if isinstance(value, int):
            return transaction_touch(&self.txn, namespace, key, len(key), value, <u64>value % 2)
        value, expiry = value if isinstance(value, tuple) else (value, 0)
        return self.store(namespace, key, value, expiry)

    cdef int undone(self, list steps) except -100:
        cdef u64 mark
        cdef int status = transaction_mark(&self.txn, &mark)
        for step in steps:
            if status >= 0:
                status = self.step(step)
        if status >= 0 or status == PMKV_TOO_MANY_CODINGS:      # from which this is a way back
            return txn_rollback(&self.txn, mark)
        return status

    def drop(self, bytes name, *, bint explored=True):
        """Drops a namespace in three commits, as the store does: the last one when nobody may ask for it."""
        cdef bytes hidden = b"\0%d %s" % (self.evaluated, name)
        cdef u64 namespace
        cdef dict after = {key: value for key, value in self.model.items()
                           if not isinstance(key, tuple) or key[0] != name}
        cdef dict left = {(hidden, key[1]): self.model[key] for key in self.model.keys() - after.keys()}
        txn_begin(&self.txn)
        if catalogue_find(&self.live, &self.txn, name, len(name), &namespace) != PMKV_OK:
            return
        self.finish(catalogue_rename(&self.txn, name, len(name), hidden, len(hidden)), {**after, **left},
                    explored, "rename")
        txn_begin(&self.txn)
        self.finish(transaction_clear(&self.txn, namespace), after, explored, "drop")
        self.dropped.append(hidden)
        self.finish_drops(explored)

    cdef int finish_drops(self, bint explored) except -1:
        cdef bytes hidden
        while self.dropped and not self.pins.moments.open_count:
            hidden = self.dropped.pop()
            txn_begin(&self.txn)
            self.finish(catalogue_remove(&self.txn, hidden, len(hidden)), self.model, explored, "remove")
        return 0

    def clear(self, *, bint explored=True):
        txn_begin(&self.txn)
        after = {key: value for key, value in self.model.items() if isinstance(key, tuple)}
        self.finish(transaction_clear(&self.txn, ROOT_DEFAULT_NAMESPACE), after,
                    explored, "clear")

    def compact(self, list meanwhile=[], *, bint explored=True):
        """Slice by slice, as the store does, with a put of a pair after each."""
        cdef Compaction c
        compaction_begin(&c, &self.pins)
        try:
            while c.phase != COMPACTION_DONE:
                txn_begin(&self.txn)
                self.must(compaction_fill(&self.txn, &c), "compaction")
                self.must(space_commit(&self.txn, &self.pins), "compaction")
                self.must(compaction_committed(&self.live, &c), "compaction")
                self.explore(self.model, self.model, explored)
                self.look_back_at_all()
                if meanwhile:
                    self.put(*meanwhile.pop(), explored=explored)
        finally:
            self.live.ceiling = NULL

    def checkpoint(self, *, bint explored=True):
        self.must(redo_checkpoint(&self.live), "checkpoint")
        self.explore(self.model, self.model, explored)

    def pin(self, bytes key):
        """As a view does; unpinned by unpin()."""
        cdef Record r
        if mapping_get(&self.live, ROOT_DEFAULT_NAMESPACE, key, len(key), &r) == PMKV_OK:
            pins_add(&self.pins, r.place)
            self.views.append((r.place, (<const char*>r.value)[:r.value_size], <u64>r.value))

    def unpin(self):
        """Drops the oldest pin, and proves that what it showed is unchanged."""
        if self.views:
            place, value, at = self.views.pop(0)
            if memcmp(<const char*>value, <const void*><u64>at, len(value)) != 0:
                raise SimulationFailure("a pinned value changed")
            pins_drop(&self.pins, place)

    # -- readers at earlier moments: each sees the model of its time --

    def snapshot(self):
        """As one is taken; from here on every operation is followed by a look at what it shows."""
        cdef u64 namespace = 0
        cdef dict places = {b"": (ROOT_DEFAULT_NAMESPACE, 0)}
        for name in {key[0] for key in self.model if isinstance(key, tuple)}:
            catalogue_find(&self.live, NULL, <bytes>name, len(name), &namespace)
            places[name] = (namespace, pmkv_load(&self.live.m, namespace + NAMESPACE_ID) & SEAL_MASK)
        if moments_open(&self.pins.moments, self.live.head) != PMKV_OK:
            raise MemoryError
        self.moments.append((self.live.head, dict(self.model), places, self.time))

    def end_snapshot(self, size_t which, *, bint explored=True):
        """Ends the one of that number, if there is any."""
        if self.moments:
            moment = self.moments.pop(which % len(self.moments))[0]
            moments_close(&self.pins.moments, moment, self.live.head)
            self.finish_drops(explored)

    def collect(self, *, bint explored=True):
        """Clears away what nobody sees any more, as sync() does."""
        while is_garbage_due(&self.pins.moments):
            self.must(space_collect(&self.txn, &self.pins, 16), "collect")
            self.explore(self.model, self.model, explored)
        self.look_back_at_all()

    def versions(self):
        """How many are kept; those that someone sees, or that are not cleared away yet."""
        check_pool(&self.live, True, self.report)
        return self.report.versions

    cdef int look_back_at_all(self) except -1:
        for moment, then, places, time in self.moments:
            self.look_back(moment, then, places, time)
        return 0

    cdef int look_back(self, u64 moment, dict then, dict places, u64 time) except -1:
        """Every key that there is or was, one by one, as of that time; then all of them in order."""
        cdef dict expected
        cdef u64 entries = 0
        for name, (namespace, namespace_id) in places.items():
            expected = {key[1] if name else key: value for key, value in then.items()
                        if (key[0] == name if isinstance(key, tuple) else not name)}
            for key in self.asked | set(expected):
                value = expected.get(key)
                if 0 < getattr(value, "expiry", 0) <= time:
                    value = None
                found = self.value_then(moment, namespace, namespace_id, key, time)
                if found != value or coding_of(found) != coding_of(value):
                    raise SimulationFailure(f"at moment {moment} {name!r} shows something else of {key!r:.60}")
            if name[:1] != b"u" and self.keys_then(moment, namespace, namespace_id) != sorted(expected):
                raise SimulationFailure(f"at moment {moment} the keys of {name!r} are others")
            if (moments_entries(&self.pins.moments, moment, namespace, &entries)
                    and entries != <u64>len(expected)):
                raise SimulationFailure(f"at moment {moment} {name!r} has {entries} keys, not {len(expected)}")
            self.asked |= set(expected)
        return 0

    cdef object value_then(self, u64 moment, u64 namespace, u64 namespace_id, bytes key, u64 time):
        """Its value at the moment, or None; also if it had expired by that time."""
        cdef Record r
        cdef bint past
        cdef bint by_hash = (pmkv_load(&self.live.m, namespace + NAMESPACE_OPTIONS) & PMKV_OPTION_UNORDERED) != 0
        cdef int status = self.must(mapping_get(&self.live, namespace + NAMESPACE_MAPPING, key, len(key), &r), "get")
        if status != PMKV_OK or record_commit(&r) >= moment:
            status = self.must(version_find(&self.live, namespace_id, by_hash, key, len(key), moment, &r), "version")
        if status != PMKV_OK:
            return None
        self.must(record_verify(&self.live, &r), "record")
        self.must(expiry_is_past(&self.live, NULL, &r, time, &past), "expiry")
        return None if past else coded(r.value[:r.value_size], record_coding(&r))

    cdef list keys_then(self, u64 moment, u64 namespace, u64 namespace_id):
        """The keys of the moment: those whose record it sees, and those of the versions that it sees."""
        cdef TreeCursor cursor
        cdef Piece piece
        cdef Record r
        cdef Version v
        cdef list now = [], kept = []
        cdef bytes key
        cdef int status = keytree_edge(&self.live, NULL, namespace + NAMESPACE_KEYTREE, False, &cursor)
        while status == PMKV_OK:
            if cursor.index >= path_end(&cursor.path).count:
                status = keytree_next_leaf(&self.live, NULL, &cursor, True)
                continue
            self.must(node_piece(&self.live, NULL, path_end(&cursor.path), cursor.index, &piece), "key")
            key = PyBytes_FromStringAndSize(NULL, parts_size(&piece.key))
            parts_copy(&piece.key, 0, PyBytes_AS_STRING(key))
            self.must(mapping_get(&self.live, namespace + NAMESPACE_MAPPING, key, len(key), &r), "get")
            if record_commit(&r) < moment:
                now.append(key)
            cursor.index += 1
        memset(&v, 0, sizeof(Version))
        status = versions_seek(&self.live, namespace_id, NULL, 0, BEFORE_KEY, &cursor)
        while status == PMKV_OK:
            status = self.must(version_read(&self.live, namespace_id, False, &cursor, True, &v), "version")
            if status == PMKV_OK and v.born < moment <= v.died:
                kept.append(v.key[:v.key_size])
        version_free(&v)
        if kept != sorted(kept) or now != sorted(now):
            raise SimulationFailure("keys are not in order")
        return sorted(now + kept)

    def check(self):
        """Problems that check finds in the live pool."""
        check_pool(&self.live, True, self.report)
        return self.problems()

    # -- damage, which is no crash: is it noticed? --

    def image(self):
        """The live pool's file, as it is between two operations."""
        return os.pread(self.files[0], file_size_for(&self.live, self.live.file_pages), 0)

    def where(self, bytes key, bytes name=b""):
        """The place of the key's record, of its extent or 0, and of the slot that leads to it."""
        cdef Record r
        cdef u64 namespace = self.find(name)
        if self.must(mapping_get(&self.live, namespace + NAMESPACE_MAPPING, key, len(key), &r), "get") != PMKV_OK:
            raise KeyError(key)
        return r.place, r.extent_place, self.slot_of(r.place, namespace)

    cdef u64 find(self, bytes name) except 0:
        """The root of a namespace that is there."""
        cdef u64 namespace = ROOT_DEFAULT_NAMESPACE
        if name and catalogue_find(&self.live, NULL, name, len(name), &namespace) != PMKV_OK:
            raise KeyError(name)
        return namespace

    @property
    def header_size(self):
        return self.live.header_size

    def root_of(self, bytes name):
        """The place of the namespace's root."""
        return self.find(name)

    def bytes_at(self, u64 place, u64 size):
        """What lies there in the live pool."""
        return (<const char*>pmkv_at(&self.live.m, place))[:size]

    def problems_with(self, dict changes):
        """What check finds with these bytes at these places; the pool is not changed."""
        cdef dict whole = self.exchange(changes)
        check_pool(&self.live, True, self.report)
        self.exchange(whole)
        return self.problems()

    def statuses_with(self, dict changes, bytes key, bytes name=b""):
        """How a read, a touch, a put and a delete of the key end with these bytes at these places, each given up."""
        cdef u64 namespace = self.find(name)
        cdef Record r
        cdef int status
        cdef dict whole = self.exchange(changes)
        status = mapping_get(&self.live, namespace + NAMESPACE_MAPPING, key, len(key), &r)
        found = [record_verify(&self.live, &r) if status == PMKV_OK else status]
        for value in (self.time + 10, b"other", None):
            self.begin()
            status = self.step((name, key, value))
            found.append(status)
            txn_abort(&self.txn)
        self.exchange(whole)
        self.explore(self.model, self.model, False)
        return found

    cdef dict exchange(self, dict changes):
        """Writes bytes into the live pool as if they had always been there; what was there before."""
        cdef dict before = {place: self.bytes_at(place, len(data)) for place, data in changes.items()}
        for place, data in changes.items():
            memcpy(pmkv_at(&self.live.m, place), <const char*>(<bytes>data), len(data))
        return before

    def notices(self, str site, bytes key):
        """Damages what the check of that site guards on the way to `key`; whether an error says so.

        The live pool must be quiet; it is not changed.
        """
        cdef Record r
        cdef u64 word
        cdef int status = PMKV_OK
        self.explore(self.model, self.model, False)
        redo_checkpoint(&self.live)
        self.explore(self.model, self.model, False)
        mapping_get(&self.live, ROOT_DEFAULT_NAMESPACE, key, len(key), &r)
        if site == "CHECK_SUPERBLOCK":
            places = [24, self.live.header_size - 4096 + 24]
        elif site == "CHECK_SEAL":
            places = [self.slot_of(r.place, ROOT_DEFAULT_NAMESPACE) + 6]
        elif site == "CHECK_DESCRIPTOR":
            word = pmkv_load(&self.live.m, ROOT_BLOCK_CURRENT + <u64>record_class(130) * 8) & SEAL_MASK
            places = [DESCRIPTOR_SPACE | (word * 64 + 63)]
        elif site == "CHECK_RECORD":
            places = [r.place + 24 + r.key_size + 1]
        elif site == "CHECK_VALUE":
            places = [r.extent_place + 100]
        elif site == "CHECK_TREE":    # a byte of the first key that was put into the one leaf
            word = pmkv_load(&self.live.m, ROOT_DEFAULT_NAMESPACE + NAMESPACE_KEYTREE) & SEAL_MASK
            places = [(word << GRANULE_SHIFT) + 16 + 4]
        else:
            places = [self.rewind_to_indirect()]
        for place in places:
            (<unsigned char*>pmkv_at(&self.scratch.m, place))[0] ^= 0x20
        try:
            status = self.use_damaged(site, key)
        finally:
            self.restore({place - place % self.unit(): bytes(self.unit()) for place in places + [4096]})
        return status == PMKV_CORRUPTED

    cdef int use_damaged(self, str site, bytes key):
        cdef u64 replayed
        cdef Record r
        cdef Item item
        cdef TreeCursor tree_cursor
        cdef bint exact
        cdef int status = self.read_superblock()
        if status == PMKV_OK:
            status = recovery_run(&self.scratch, self.file_size(), &replayed)
        if status != PMKV_OK or site == "CHECK_SUPERBLOCK" or site == "CHECK_INDIRECT":
            return status
        if site == "CHECK_DESCRIPTOR":
            item.key, item.key_size, item.value, item.value_size = b"new", 3, b"x" * 103, 103
            item.coding, item.may_change, item.expiry = 0, False, 0
            txn_begin(&self.scratch_txn)
            status = transaction_put(&self.scratch_txn, ROOT_DEFAULT_NAMESPACE, &item, PUT_ALWAYS)
            txn_abort(&self.scratch_txn)
            return status
        if site == "CHECK_TREE":
            return keytree_seek(&self.scratch, NULL, ROOT_DEFAULT_NAMESPACE + NAMESPACE_KEYTREE, key, len(key),
                                &tree_cursor, &exact)
        status = mapping_get(&self.scratch, ROOT_DEFAULT_NAMESPACE, key, len(key), &r)
        return record_verify(&self.scratch, &r) if status == PMKV_OK else status

    cdef u64 slot_of(self, u64 place, u64 namespace):
        """Where the slot of the record at `place` is."""
        cdef Cursor cursor
        cdef u64 slots[LEAF_SLOTS]
        cdef u64 leaf = 1
        cdef int i
        cursor.prefix, cursor.ended = 0, False
        while leaf:
            mapping_next_leaf(&self.live, NULL, namespace + NAMESPACE_MAPPING, &cursor, slots, &leaf)
            for i in range(LEAF_SLOTS):
                if (slots[i] & GRANULE_MASK) << GRANULE_SHIFT == place:
                    return leaf + i * 8
        return 0

    cdef u64 rewind_to_indirect(self):
        """Scratch's checkpoint before the last entry, which must be an indirect one; a place of its words."""
        cdef u64 position = self.live.head - 1, at   # an indirect entry takes one line
        at = self.live.ring_place + position * 64 % self.live.ring_size
        (<u64*>pmkv_at(&self.scratch.m, ROOT_CHECKPOINT))[0] = pmkv_seal(position)
        return ((pmkv_load(&self.scratch.m, at + 32) & GRANULE_MASK) << GRANULE_SHIFT) + 40 * 16 + 8
