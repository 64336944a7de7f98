"""_table.pyx (L6): a namespace as Python sees it: a mapping of keys to values.

May know: the engine, arguments, and what is below.  The same class reads and writes a namespace
by itself, each write a commit, and inside an open transaction (`t`), where writes join it.
Threads: see _engine.pyx.
"""
from cython cimport final, no_gc_clear
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.string cimport memcmp, memcpy
from pmkv._arguments cimport Batch, Bytes, is_number, list_of, need_text, read_bytes, refuse_number, release
from pmkv._core cimport *
from pmkv._engine cimport Engine
from pmkv._mapping cimport (
    LEAF_SLOTS, Cursor, Probe, mapping_get, mapping_hash, mapping_locate, mapping_match, mapping_next_leaf,
    mapping_prefetch_bucket, mapping_prefetch_record,
)
from pmkv._records cimport Record, crc32c, record_body_is_whole, record_commit, record_parse, record_verify
from pmkv._writeset cimport Txn, txn_abort, txn_begin
from pmkv._space cimport pins_add, space_commit
from pmkv._transaction cimport (
    PUT_ALWAYS, PUT_NEW, Item, PutMode, transaction_clear, transaction_delete, transaction_delete_all,
    transaction_find, transaction_put, transaction_put_all,
)
from pmkv._treenode cimport tree_word

from operator import index

from pmkv._errors import ClosedError, InvalidValueError, NotFoundError, PoolFullError, ValueTypeError

cdef enum:
    LARGE = 32 << 10              # bytes from which copying is worth releasing the GIL
    SLICE = 64                    # keys of a commit that is sure to fit the ring
    LAG = 12                      # keys between two steps of get_many's pipeline
    RING = 64                     # at least 3 * LAG of them are under way
    TURN = 4096                   # keys after which it lets other threads run
    BITS = 13287                  # of a number of 4,000 digits, which is what incr() takes
    MOST_IN_A_PAGE = 128          # records: two granules each, at least
    PAGES_NEAR = 64               # a small put may need so many pages: closer to the end, it may have to grow

cdef object MISSING = object()


@final
@no_gc_clear                      # its end needs the engine, also in a cycle that the collector takes apart
cdef class _View:
    """Exports a value where it lies, and pins its record for as long as anyone holds it."""
    cdef Engine e
    cdef u64 place
    cdef const char* data
    cdef u64 size

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void*>self.data, self.size, 1, flags)

    def __dealloc__(self):
        if self.e is not None and self.place:
            self.e.unpin(self.place)
            self.e.views -= 1


cdef Engine NOT_OPENED = Engine()


@no_gc_clear                      # the same: it leaves the engine's list
cdef class Table:
    """One namespace of an open pool."""

    def __cinit__(self, *args, **kwargs):
        self.e = NOT_OPENED
        self.pool = &NOT_OPENED.pool

    def __dealloc__(self):
        self.leave_named()
        pmkv_spares_clear(&self.key_spares)
        pmkv_spares_clear(&self.value_spares)

    @final
    cdef void attach(self, Engine e, u64 namespace, VerifyMode verify, Txn* t, object owner):
        """Becomes the table of the namespace whose root lies there."""
        cdef u64 options
        e.need_open()
        self.e, self.pool, self.t, self.owner = e, &e.pool, t, owner
        self.namespace = namespace
        self.mapping = namespace + NAMESPACE_MAPPING
        self.verify = verify
        options = e.root(namespace + NAMESPACE_OPTIONS)
        self.keys_are_str = (options & PMKV_OPTION_KEYS_STR) != 0
        self.ordered = not options & PMKV_OPTION_UNORDERED

    @final
    cdef void join_named(self) noexcept:
        """From here on a drop finds it.  Under the GIL, and no Python code runs."""
        self.prev_named = NULL
        self.next_named = self.e.first_named
        if self.next_named != NULL:
            (<Table>self.next_named).prev_named = <void*>self
        self.e.first_named = <void*>self

    @final
    cdef void leave_named(self) noexcept:
        if self.prev_named != NULL:
            (<Table>self.prev_named).next_named = self.next_named
        elif self.e is not None and self.e.first_named == <void*>self:
            self.e.first_named = self.next_named
        if self.next_named != NULL:
            (<Table>self.next_named).prev_named = self.prev_named
        self.prev_named = self.next_named = NULL

    @final
    cdef int need_table(self) except -1:
        self.e.need_open()
        if self.gone:
            raise ClosedError(f"{self.e.path}: the namespace {getattr(self, 'name', '')!r} was dropped")
        return 0

    @final
    cdef int need_transaction(self) except -1:
        self.need_table()
        if self.e.transaction is not self.owner:
            raise ClosedError(f"{self.e.path}: the transaction has ended; begin another")
        if self.e.running:
            self.e.wait_for_writer()
        return 0

    @final
    cdef int need_whole_body(self, const Record* r) except -1:
        if self.verify and not record_body_is_whole(self.pool, r):
            self.e.damaged(PMKV_CHECK_RECORD, r.place)
        return 0

    @final
    cdef object key_of(self, const Record* r):
        if self.keys_are_str:
            return r.key[:r.key_size].decode()
        return pmkv_bytes(&self.key_spares, r.key, r.key_size)

    @final
    cdef inline object value_of(self, const Record* r):
        """The value as bytes: one copy, its checksum tested."""
        if self.verify and not record_body_is_whole(self.pool, r):
            self.e.damaged(PMKV_CHECK_RECORD, r.place)
        if r.extent_place == 0:
            return pmkv_bytes(&self.value_spares, r.value, r.value_size)
        return self.large_value_of(r)

    @final
    cdef object large_value_of(self, const Record* r):
        cdef bytes value = PyBytes_FromStringAndSize(NULL, r.value_size)
        cdef char* out = PyBytes_AS_STRING(value)
        cdef bint whole = True
        if r.value_size >= LARGE and not self.e.running:
            if pins_add(&self.e.pins, r.place) != PMKV_OK:
                raise MemoryError
            self.e.busy += 1
            with nogil:
                memcpy(out, r.value, r.value_size)
                whole = not self.verify or crc32c(out, r.value_size) == r.value_crc
            self.e.busy -= 1
            self.e.unpin(r.place)
        else:
            memcpy(out, r.value, r.value_size)
            whole = not self.verify or crc32c(out, r.value_size) == r.value_crc
        if not whole:
            self.e.damaged(PMKV_CHECK_VALUE, r.extent_place)
        return value

    @final
    cdef inline int look_up(self, object key, Record* r) except -100:
        """OK or NOT_FOUND."""
        cdef Bytes k
        cdef int status
        if not self.e.usable or self.gone:
            self.need_table()
        if self.t != NULL:
            self.need_transaction()
        read_bytes(key, &k, True)
        if self.t == NULL:
            status = mapping_get(self.pool, self.mapping, k.data, k.size, r)
        else:
            status = self.look_inside(&k, r)
        release(&k)
        if status < 0:
            self.e.fail(status)
        return status

    @final
    cdef int look_inside(self, const Bytes* k, Record* r) noexcept:
        """look_up() as the open transaction sees it."""
        cdef Probe probe
        return transaction_find(self.t, self.namespace, k.data, k.size, &probe, r)

    def __getitem__(self, key):
        """The value of `key` as bytes, one copy, its checksum tested.  Raises NotFoundError, CorruptedError."""
        cdef Record r
        if self.look_up(key, &r) == PMKV_OK:
            return self.value_of(&r)
        raise NotFoundError(key)

    def get(self, key, default=None):
        """The value of `key` as bytes, or `default`.  Raises CorruptedError."""
        cdef Record r
        if self.look_up(key, &r) == PMKV_OK:
            return self.value_of(&r)
        return default

    def __contains__(self, key):
        cdef Record r
        return self.look_up(key, &r) == PMKV_OK

    @final
    cdef u64 entries(self) except? 0:
        """How many keys there are."""
        cdef u64 place = self.namespace + NAMESPACE_ENTRY_COUNT, word
        self.need_table()
        if self.t != NULL:
            self.need_transaction()
        word = tree_word(self.pool, self.t, place)
        if not pmkv_is_sealed(word):
            self.e.damaged(PMKV_CHECK_SEAL, place)
        self.need_possible(word & SEAL_MASK, place)
        return word & SEAL_MASK

    @final
    cdef int need_possible(self, u64 count, u64 place) except -1:
        """A count of keys that the pool has no room for is not believed: list() would reserve memory for it."""
        if count > self.pool.file_pages * MOST_IN_A_PAGE:
            self.e.damaged(PMKV_CHECK_SEAL, place)
        return 0

    def __len__(self):
        return self.entries()

    def _keys_are_str(self):
        return bool(self.keys_are_str)

    def __bool__(self):
        return self.entries() != 0

    def view(self, key):
        """A read-only memoryview of the value where it lies in the pool, without a copy.

        Valid and unchanged for as long as anyone holds it, also when the key is overwritten or
        deleted; the store cannot be closed meanwhile.  A value larger than a page begins at a
        page's start.  Raises NotFoundError, CorruptedError.
        """
        cdef Record r
        cdef _View view = _View.__new__(_View)   # now: it may set off the collector, and that anything
        if self.e.running:
            self.e.wait_for_writer()
        if self.look_up(key, &r) != PMKV_OK:
            raise NotFoundError(key)
        if self.verify and (r.extent_place == 0 or self.verify == VERIFY_VIEWS):
            if record_verify(self.pool, &r) != PMKV_OK:
                self.e.fail(PMKV_CORRUPTED)
        elif self.verify:
            self.need_whole_body(&r)
        if self.t != NULL and record_commit(&r) == self.t.commit:
            return memoryview(self.value_of(&r))      # an abort takes its record back: no pin would hold it
        if pins_add(&self.e.pins, r.place) != PMKV_OK:
            raise MemoryError
        view.e = self.e
        view.place = r.place
        view.data = r.value
        view.size = r.value_size
        self.e.views += 1
        return PyMemoryView_FromObject(view)

    def get_many(self, keys, default=None):
        """The values of the keys, in their order, `default` for a missing one.

        The misses of neighbouring keys overlap, so this is several times as fast as as many get().
        """
        cdef list wanted = list_of(keys, "get_many")
        cdef Py_ssize_t n = PyList_GET_SIZE(wanted), first, i
        cdef list found = [default] * n
        self.need_table()
        for first in range(0, n, TURN):
            if first:
                with nogil:       # let other threads run, and Ctrl-C through
                    pass
                PyErr_CheckSignals()
                self.need_table()
            if self.t != NULL:
                for i in range(first, min(first + TURN, n)):
                    found[i] = self.get(wanted[i], default)
            else:
                self.get_turn(wanted, found, first, min(first + TURN, n))
        return found

    @final
    cdef int get_turn(self, list wanted, list found, Py_ssize_t first, Py_ssize_t end) except -1:
        """A pipeline of four steps: key objects, buckets, records, values.

        Each step fetches what the next will read, LAG keys later, so that a dozen misses are
        always under way while the processor works.
        """
        cdef Probe probes[RING]
        cdef Bytes keys[RING]
        cdef Record r
        cdef Py_ssize_t i, located = first, done = first
        cdef u64 before = pmkv_atomic_load(&self.pool.apply_sequence)
        cdef int at, status
        try:
            for i in range(first, end + 3 * LAG):
                if i < end:
                    pmkv_prefetch(PyList_GET_ITEM(wanted, i))
                    pmkv_prefetch(<char*>PyList_GET_ITEM(wanted, i) + 47)
                if first <= i - LAG < end:
                    at = located % RING
                    read_bytes(<object>PyList_GET_ITEM(wanted, located), &keys[at], True)
                    located += 1
                    status = mapping_locate(self.pool, NULL, self.mapping,
                                            mapping_hash(self.pool, keys[at].data, keys[at].size), &probes[at])
                    if status != PMKV_OK:
                        self.e.fail(status)
                    mapping_prefetch_bucket(self.pool, &probes[at])
                # A commit may come between (a large value gives the GIL up): what was located may be cut off then.
                if first <= i - 2 * LAG < end and before == pmkv_atomic_load(&self.pool.apply_sequence):
                    mapping_prefetch_record(self.pool, &probes[(i - 2 * LAG) % RING])
                if i >= first + 3 * LAG:
                    at = done % RING
                    status = PMKV_NOT_FOUND
                    if before == pmkv_atomic_load(&self.pool.apply_sequence):
                        status = mapping_match(self.pool, NULL, &probes[at], keys[at].data, keys[at].size, &r)
                    if status != PMKV_OK and (before & 1 or before != pmkv_atomic_load(&self.pool.apply_sequence)):
                        status = mapping_get(self.pool, self.mapping, keys[at].data, keys[at].size, &r)
                    if status == PMKV_OK:
                        found[done] = self.value_of(&r)
                    elif status < 0:
                        self.e.fail(status)
                    release(&keys[at])
                    done += 1
        finally:
            while done < located:
                release(&keys[done % RING])
                done += 1
        return 0

    # -- writing --

    @final
    cdef int begin(self, bint quick) except -1:
        """Becomes the writer and begins a transaction; a quick one keeps the GIL until end().

        Inside an open transaction: only makes sure that nobody else is at work.
        """
        self.e.need_writable()
        if self.t != NULL:
            self.need_transaction()
            if not quick:
                self.e.start_running()
            return 0
        if not quick or self.e.locked:
            self.e.take_lock()
            self.e.start_running()
        if self.gone:
            self.end(PMKV_OK)
            self.need_table()
        txn_begin(&self.e.txn)
        return 0

    @final
    cdef int end(self, int status) except -1:
        """Lets the next writer in; raises what the transaction ended with."""
        if self.e.running:
            self.e.stop_running()
            if self.t == NULL:
                self.e.give_lock()
        if status < 0:
            self.e.fail(status)
        return 0

    @final
    cdef int abandon(self) except -1:
        if self.t == NULL:
            txn_abort(&self.e.txn)
        return self.end(PMKV_OK)

    @final
    cdef inline bint may_wait(self, u64 size) noexcept:
        """Whether a write of so many bytes may take long: a sync, a long copy, growth."""
        if size >= LARGE or self.pool.m.domain == PMKV_DOMAIN_PAGE or not self.e.usable:
            return True
        return (pmkv_load(&self.pool.m, ROOT_FRONTIER) & SEAL_MASK) + PAGES_NEAR > self.pool.file_pages

    @final
    cdef int settle(self, int status) noexcept:
        """Ends a transaction whose steps gave `status`: commits it, or forgets it; an open one goes on."""
        if self.t != NULL:
            return status
        if status != PMKV_OK:
            txn_abort(&self.e.txn)
        elif self.e.running:
            with nogil:
                status = space_commit(&self.e.txn, &self.e.pins)
        else:
            status = space_commit(&self.e.txn, &self.e.pins)
        return status

    @final
    cdef int store(self, object key, object value, PutMode mode) except -100:
        """OK, EXISTS or NOT_FOUND."""
        cdef Bytes v
        cdef Bytes k
        cdef Item item
        cdef int status
        if self.keys_are_str:
            need_text(key)
        read_bytes(key, &k, True)
        try:
            read_bytes(value, &v, False)
        except BaseException:
            release(&k)
            raise
        item.key, item.key_size, item.value, item.value_size = k.data, k.size, v.data, v.size
        item.may_change = v.held
        try:
            self.begin(not self.may_wait(v.size))
            if self.e.running:
                with nogil:
                    status = transaction_put(&self.e.txn, self.namespace, &item, mode)
            else:
                status = transaction_put(&self.e.txn, self.namespace, &item, mode)
            status = self.settle(status)
            if status == PMKV_FULL and self.drain_for_room():
                with nogil:
                    status = transaction_put(&self.e.txn, self.namespace, &item, mode)
                status = self.settle(status)
            self.end(status)
        finally:
            release(&k)
            release(&v)
        return status

    @final
    cdef int erase(self, object key) except -100:
        """OK or NOT_FOUND."""
        cdef Bytes k
        cdef int status
        read_bytes(key, &k, True)
        try:
            self.begin(not self.may_wait(0))
            status = transaction_delete(&self.e.txn, self.namespace, k.data, k.size)
            status = self.settle(status)
            self.end(status)
        finally:
            release(&k)
        return status

    def __setitem__(self, key, value):
        self.store(key, value, PUT_ALWAYS)

    def put(self, key, value, *, bint overwrite=True):
        """Stores the pair; durable when it returns (info()["durable"] says against what).

        With overwrite=False an existing key is left alone, and the answer is False.
        Raises InvalidKeyError, InvalidValueError, PoolFullError, ReadonlyError, OSError.
        """
        return self.store(key, value, PUT_ALWAYS if overwrite else PUT_NEW) == PMKV_OK

    def add(self, key, value):
        """Stores the pair if the key is missing; whether it did."""
        return self.store(key, value, PUT_NEW) == PMKV_OK

    def __delitem__(self, key):
        if self.erase(key) != PMKV_OK:
            raise NotFoundError(key)

    def delete(self, key):
        """Deletes the key; whether it was there."""
        return self.erase(key) == PMKV_OK

    @final
    cdef object exchange(self, object key, object value, object default):
        """Stores `value` (MISSING: deletes) in one commit; the value that was there, or `default`."""
        cdef Bytes k
        cdef Bytes v
        cdef Probe probe
        cdef Record r
        cdef Item item
        cdef int status
        if self.keys_are_str and value is not MISSING:
            need_text(key)
        read_bytes(key, &k, True)
        v.held = False
        v.size = 0
        try:
            if value is not MISSING:
                read_bytes(value, &v, False)
            self.begin(False)
            try:
                status = transaction_find(&self.e.txn, self.namespace, k.data, k.size, &probe, &r)
                old = self.value_of(&r) if status == PMKV_OK else default
            except BaseException:
                self.abandon()
                raise
            if value is not MISSING and status >= 0:
                item.key, item.key_size, item.value, item.value_size = k.data, k.size, v.data, v.size
                item.may_change = v.held
                with nogil:
                    status = transaction_put(&self.e.txn, self.namespace, &item, PUT_ALWAYS)
            elif status == PMKV_OK:
                status = transaction_delete(&self.e.txn, self.namespace, k.data, k.size)
            self.end(self.settle(status))
        finally:
            release(&k)
            release(&v)
        return old

    def replace(self, key, value):
        """Stores the pair; the value that was there before, or None.  One commit."""
        return self.exchange(key, value, None)

    def pop(self, key, default=...):
        """Deletes the key and returns its value; without one the default, or NotFoundError."""
        old = self.exchange(key, MISSING, MISSING)
        if old is not MISSING:
            return old
        if default is ...:
            raise NotFoundError(key)
        return default

    def compare_and_set(self, key, expected, new):
        """Stores `new` if the value is `expected`; whether it did.  One commit.

        expected=None: the key must be missing.  new=None: the key is deleted.
        """
        cdef Bytes k
        cdef Bytes e
        cdef Bytes n
        cdef Probe probe
        cdef Record r
        cdef Item item
        cdef int status
        cdef bint same
        if self.keys_are_str:
            need_text(key)
        read_bytes(key, &k, True)
        e.held = n.held = False
        e.data, e.size, n.size = NULL, 0, 0
        try:
            if expected is not None:
                read_bytes(expected, &e, False)
            if new is not None:
                read_bytes(new, &n, False)
            self.begin(False)
            status = transaction_find(&self.e.txn, self.namespace, k.data, k.size, &probe, &r)
            if status == PMKV_OK:
                with nogil:
                    status = record_verify(self.pool, &r)
                    same = status == PMKV_OK and r.value_size == e.size and memcmp(r.value, e.data, e.size) == 0
                same = same and expected is not None
            else:
                same = status == PMKV_NOT_FOUND and expected is None
            if same and new is not None:
                item.key, item.key_size, item.value, item.value_size = k.data, k.size, n.data, n.size
                item.may_change = n.held
                with nogil:
                    status = transaction_put(&self.e.txn, self.namespace, &item, PUT_ALWAYS)
            elif same and status == PMKV_OK:
                status = transaction_delete(&self.e.txn, self.namespace, k.data, k.size)
            self.end(self.settle(status))
        finally:
            release(&k)
            release(&e)
            release(&n)
        return same

    def incr(self, key, delta=1, default=0):
        """Adds `delta` to the number stored under the key, in one commit; the sum.

        Numbers are stored as decimal text of up to 4,000 digits: 42 as b"42".  A missing key counts as
        `default`; with default=None it is a NotFoundError.  Raises InvalidValueError for what is not such
        a number, and for a sum that would not be.
        """
        cdef Bytes k
        cdef Probe probe
        cdef Record r
        cdef Item item
        cdef int status
        delta, number = index(delta), None if default is None else index(default)
        if self.keys_are_str:
            need_text(key)
        read_bytes(key, &k, True)
        try:
            self.begin(False)
            # The lock is held until the end: errors are made when it has been given back.
            status = transaction_find(&self.e.txn, self.namespace, k.data, k.size, &probe, &r)
            if status == PMKV_OK:
                status = record_verify(self.pool, &r)
            fits = status != PMKV_OK or is_number(r.value, r.value_size)
            missing = status == PMKV_NOT_FOUND and number is None
            try:
                if status == PMKV_OK and fits:
                    number = int(r.value[:r.value_size])
                if fits and not missing and status >= 0:
                    number = number + delta
                    fits = number.bit_length() < BITS
                text = str(number).encode() if fits else b""
            except ValueError:    # longer than this interpreter was told to convert
                fits = False
            except BaseException:
                self.abandon()
                raise
            if missing or not fits or status < 0:
                self.abandon()
                if status < 0:
                    self.e.fail(status)
                refuse_number(key, missing)
            item.key, item.key_size, item.value, item.value_size = k.data, k.size, text, len(text)
            item.may_change = False
            with nogil:
                status = transaction_put(&self.e.txn, self.namespace, &item, PUT_ALWAYS)
            self.end(self.settle(status))
        finally:
            release(&k)
        return number

    def decr(self, key, delta=1, default=0):
        """incr() by -delta."""
        return self.incr(key, -index(delta), default)

    def popitem(self):
        """Deletes some key; it and its value.  NotFoundError when the store is empty."""
        cdef Cursor cursor
        cdef Record r
        cdef u64 slots[LEAF_SLOTS]
        cdef u64 leaf
        cdef int i, status, rounds = 0
        self.begin(False)
        try:
            cursor.prefix, cursor.ended = self.pop_prefix, False
            while rounds < 2:     # from where the last one was, then once more from the start
                self.pop_prefix = cursor.prefix
                status = mapping_next_leaf(self.pool, self.t, self.mapping, &cursor, slots, &leaf)
                if status != PMKV_OK:
                    self.e.fail(status)
                for i in range(LEAF_SLOTS if leaf else 0):
                    if slots[i] & GRANULE_MASK:
                        if record_parse(self.pool, (slots[i] & GRANULE_MASK) << GRANULE_SHIFT, &r) != PMKV_OK:
                            self.e.fail(PMKV_CORRUPTED)
                        key, value = self.key_of(&r), self.value_of(&r)
                        break
                else:
                    if leaf == 0 or cursor.ended:
                        rounds += 1
                        cursor.prefix, cursor.ended = 0, False
                    continue
                break
            else:
                rounds = -1
        except BaseException:
            self.abandon()
            raise
        if rounds < 0:
            self.abandon()
            raise NotFoundError("popitem(): the store is empty")
        status = transaction_delete(&self.e.txn, self.namespace, r.key, r.key_size)
        self.end(self.settle(status))
        return key, value         # made here: a tuple may set off the collector, and it anything

    def clear(self):
        """Deletes every key, in one commit."""
        cdef int status
        if self.t != NULL:        # what the transaction has stored is not in the pool yet
            self.delete_many(list(self))
            return
        self.begin(False)
        with nogil:
            status = transaction_clear(&self.e.txn, self.namespace)
        status = self.settle(status)
        try:
            self.end(status)
        except (PoolFullError, InvalidValueError):   # no room for the log of one commit
            self._delete_in_slices(TURN)

    def _delete_in_slices(self, Py_ssize_t size):
        """Deletes every key, `size` in each commit; how many there were."""
        cdef Cursor walk
        walk.prefix, walk.ended = 0, False
        total = 0
        while True:
            keys = self.next_keys(&walk, size)
            if not keys:
                return total
            total += self.delete_many(keys)

    @final
    cdef list next_keys(self, Cursor* walk, Py_ssize_t most):
        """The keys of the next leaves of the mapping, `most` or a leaf's more; [] at the end."""
        cdef u64 slots[LEAF_SLOTS]
        cdef u64 leaf = 1
        cdef Record r
        cdef int i, status
        cdef list keys = []
        self.need_table()
        if self.e.running:
            self.e.wait_for_writer()
        while leaf and len(keys) < most:
            status = mapping_next_leaf(self.pool, self.t, self.mapping, walk, slots, &leaf)
            if status != PMKV_OK:
                self.e.fail(status)
            for i in range(LEAF_SLOTS if leaf else 0):
                if slots[i] & GRANULE_MASK:
                    if record_parse(self.pool, (slots[i] & GRANULE_MASK) << GRANULE_SHIFT, &r) != PMKV_OK:
                        self.e.fail(PMKV_CORRUPTED)
                    self.need_whole_body(&r)
                    keys.append(r.key[:r.key_size])
        return keys

    def put_many(self, items):
        """Stores all pairs of a mapping or an iterable, in one commit; how many there were.

        All of them or, on any error, none.  Of a key that comes twice the last value counts.
        """
        cdef list pairs = list(items.items() if hasattr(items, "items") else items)
        cdef Batch batch = Batch.__new__(Batch, len(pairs), self.keys_are_str)
        cdef int status
        for pair in pairs:
            try:
                if isinstance(pair, (bytes, str)):
                    raise TypeError
                key, value = pair
            except (TypeError, ValueError):
                raise ValueTypeError("put_many takes a mapping or (key, value) pairs, "
                                     f"not {type(pair).__name__} {pair!r:.60}") from None
            batch.append(key, value)
        self.begin(False)
        status = self.put_batch(batch)
        if status == PMKV_FULL and self.drain_for_room():
            status = self.put_batch(batch)
        self.end(status)
        return batch.count

    @final
    cdef int put_batch(self, Batch batch) noexcept:
        cdef int status
        with nogil:
            status = transaction_put_all(&self.e.txn, self.namespace, batch.items, batch.count)
        return self.settle(status)

    @final
    cdef bint drain_for_room(self) noexcept:
        if self.t != NULL or not self.e.running:
            return False
        txn_begin(&self.e.txn)
        return self.e.drain()

    @final
    cdef int delete_batch(self, Batch batch, u64 first, u64 count, u64* deleted) noexcept:
        cdef int status
        with nogil:
            status = transaction_delete_all(&self.e.txn, self.namespace, batch.items + first, count,
                                            deleted)
        return self.settle(status)

    def delete_many(self, keys):
        """Deletes the keys, in one commit; how many were there.

        Where the pool is so full that the log of a large commit has no room, in several.
        """
        cdef list wanted = list_of(keys, "delete_many")
        cdef Batch batch = Batch.__new__(Batch, len(wanted), False)
        cdef u64 deleted = 0, total = 0, first
        cdef int status
        for key in wanted:
            batch.append_key(key)
        self.begin(False)
        status = self.delete_batch(batch, 0, batch.count, &total)
        if status == PMKV_FULL and self.t == NULL:
            status, total, first = PMKV_OK, 0, 0
            while first < batch.count and status >= 0:
                txn_begin(&self.e.txn)
                status = self.delete_batch(batch, first, min(<u64>SLICE, batch.count - first), &deleted)
                total += deleted
                first += SLICE
        self.end(status)
        return total
