"""_table.pyx (L6): a namespace as Python sees it: a mapping of keys to values that is written, too.

May know: how it is read, the engine, arguments, and what is below.  A write is a commit, or joins the
open transaction (`t`) that the table belongs to.
Threads: see _engine.pyx.
"""
from cython cimport final, no_gc_clear
from libc.string cimport memcmp
from pmkv._arguments cimport (
    Batch, Bytes, expiry_after, is_number, list_of, need_text, read_bytes, refuse_number, release,
)
from pmkv._core cimport *
from pmkv._expiry cimport anything_expires, clock_now, expiry_of
from pmkv._mapping cimport LEAF_SLOTS, Cursor, Probe, mapping_next_leaf
from pmkv._reading cimport Reader
from pmkv._records cimport Record, record_parse, record_verify
from pmkv._space cimport space_commit
from pmkv._sweep cimport sweep
from pmkv._transaction cimport (
    PUT_ALWAYS, PUT_NEW, Item, PutMode, transaction_clear, transaction_delete, transaction_delete_all,
    transaction_find, transaction_put, transaction_put_all, transaction_touch,
)
from pmkv._writeset cimport txn_abort, txn_begin

from operator import index

from pmkv._errors import InvalidValueError, NotFoundError, PoolFullError, ReadonlyError, ValueTypeError

cdef enum:
    LARGE = 32 << 10              # bytes from which copying is worth releasing the GIL
    SLICE = 64                    # keys of a commit that is sure to fit the ring
    TURN = 4096                   # keys of one commit, where one for all has no room
    BITS = 13287                  # of a number of 4,000 digits, which is what incr() takes
    SWEEP = 1024                  # expired keys that a write takes away first, in a commit of their own,
    SWEEP_QUICK = 32              # if it is a quick one
    PAGES_NEAR = 64               # a small put may need so many pages: closer to the end, it may have to grow

cdef object MISSING = object()


@no_gc_clear                      # its end needs the engine
cdef class Table(Reader):
    """One namespace of an open pool."""

    @final
    cdef int begin(self, bint quick) except -1:
        """Becomes the writer and begins a transaction; a quick one keeps the GIL until end().

        Inside an open transaction: only makes sure that nobody else is at work.
        """
        self.e.need_writable()
        if self.as_of:
            raise ReadonlyError(f"{self.e.path}: a snapshot only reads; write to the store, or begin(write=True)")
        if self.t != NULL:
            self.need_transaction()
            self.t.now = clock_now() if anything_expires(self.pool, self.t) else 0
            if not quick:
                self.e.start_running()
            return 0
        if not quick or self.e.locked:
            self.e.take_lock()
            self.e.start_running()
        if self.gone:
            self.end(PMKV_OK)
            self.need_table()
        if self.e.next_expiry:
            self.e.sweep(SWEEP if self.e.running else SWEEP_QUICK)
        self.start()
        return 0

    @final
    cdef inline void start(self) noexcept:
        """Begins an empty transaction: the first, or another attempt."""
        txn_begin(&self.e.txn)
        self.e.txn.now = clock_now() if self.e.next_expiry else 0

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
        if status == PMKV_OK:
            self.e.pay_off()
        return status

    @final
    cdef int store(self, object key, object value, PutMode mode, u64 expiry) except -100:
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
        item.coding, item.may_change, item.expiry = 0, v.held, expiry
        try:
            self.begin(not self.may_wait(v.size))
            status = self.put_one(&item, mode)
            self.e.expires(expiry)        # not before: a sweep for room forgets what is not in the pool yet
            self.end(status)
        finally:
            release(&k)
            release(&v)
        return status

    # In a pool that is full, each once more when what has expired, and what readers have left, is cleared away.

    @final
    cdef int put_one(self, const Item* item, PutMode mode) noexcept:
        """Puts a pair, and ends the step."""
        cdef int status
        if self.e.running:
            with nogil:
                status = transaction_put(&self.e.txn, self.namespace, item, mode)
        else:
            status = transaction_put(&self.e.txn, self.namespace, item, mode)
        status = self.settle(status)
        if status == PMKV_FULL and self.drain_for_room():
            with nogil:
                status = transaction_put(&self.e.txn, self.namespace, item, mode)
            status = self.settle(status)
        return status

    @final
    cdef int delete_one(self, const Bytes* k) noexcept:
        """Deletes a key, and ends the step."""
        cdef int status = self.settle(transaction_delete(&self.e.txn, self.namespace, k.data, k.size))
        if status == PMKV_FULL and self.drain_for_room():
            status = self.settle(transaction_delete(&self.e.txn, self.namespace, k.data, k.size))
        return status

    @final
    cdef int erase(self, object key) except -100:
        """OK or NOT_FOUND."""
        cdef Bytes k
        cdef int status
        read_bytes(key, &k, True)
        try:
            self.begin(not self.may_wait(0))
            status = self.delete_one(&k)
            self.end(status)
        finally:
            release(&k)
        return status

    def __setitem__(self, key, value):
        self.store(key, self.packed(value), PUT_ALWAYS, 0)

    @final
    cdef inline object packed(self, object value):
        """What is stored of a value."""
        return value if self.dumps is None else self.dumps(value)

    def put(self, key, value, *, bint overwrite=True, ttl=None):
        """Stores the pair; durable when it returns (info()["durable"] says against what).

        With overwrite=False an existing key is left alone, and the answer is False.  `ttl`: seconds
        or a timedelta after which the key is gone; None, also of a key that had one: never.
        Raises InvalidKeyError, InvalidValueError, PoolFullError, ReadonlyError, OSError.
        """
        return self.store(key, self.packed(value), PUT_ALWAYS if overwrite else PUT_NEW,
                          0 if ttl is None else expiry_after(ttl)) == PMKV_OK

    def _expiry_after(self, ttl):
        return expiry_after(ttl)

    def _put_until(self, key, value, u64 expiry):
        """Stores the pair, of bytes; the key expires then, in microseconds since 1970; 0: never."""
        self.store(key, value, PUT_ALWAYS, expiry)

    def add(self, key, value):
        """Stores the pair if the key is missing; whether it did."""
        return self.store(key, self.packed(value), PUT_NEW, 0) == PMKV_OK

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
        if self.loads is not None:    # what cannot be given back is not taken away
            self.get(key)
            value = value if value is MISSING else self.dumps(value)
        read_bytes(key, &k, True)
        v.held = False
        v.size = 0
        try:
            if value is not MISSING:
                read_bytes(value, &v, False)
            self.begin(False)
            try:
                status = transaction_find(&self.e.txn, self.namespace, k.data, k.size, &probe, &r)
                old = self.bytes_of(&r) if status == PMKV_OK else default
                found = status == PMKV_OK
            except BaseException:
                self.abandon()
                raise
            if value is not MISSING and status >= 0:
                item.key, item.key_size, item.value, item.value_size = k.data, k.size, v.data, v.size
                item.coding, item.may_change, item.expiry = 0, v.held, 0
                status = self.put_one(&item, PUT_ALWAYS)
            else:
                status = self.delete_one(&k) if status == PMKV_OK else self.settle(status)
            self.end(status)
        finally:
            release(&k)
            release(&v)
        return self.loaded(key, old) if found and self.loads is not None else old

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

        expected=None: the key must be missing.  new=None: the key is deleted.  Objects are the same if
        the bytes that they are stored as are.
        """
        if self.dumps is not None:
            expected = None if expected is None else self.dumps(expected)
            new = None if new is None else self.dumps(new)
        return self.swap(key, expected, new, False)

    @final
    cdef bint swap(self, object key, object expected, object new, bint keeps_time) except -1:
        """compare_and_set() of bytes; keeps_time: the key goes on to expire when it was to."""
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
                item.coding, item.may_change, item.expiry = 0, n.held, 0
                if keeps_time and status == PMKV_OK:
                    expiry_of(self.pool, &self.e.txn, &r, &item.expiry)
                status = self.put_one(&item, PUT_ALWAYS)
            else:
                status = self.delete_one(&k) if same and status == PMKV_OK else self.settle(status)
            self.end(status)
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
        if self.loads is not None:
            return self._add_to_object(key, delta, number)
        if self.keys_are_str:
            need_text(key)
        read_bytes(key, &k, True)
        try:
            self.begin(False)
            # The lock is held until the end: errors are made when it has been given back.
            status = transaction_find(&self.e.txn, self.namespace, k.data, k.size, &probe, &r)
            item.expiry = 0
            if status == PMKV_OK:
                status = record_verify(self.pool, &r)
            if status == PMKV_OK:         # it goes on to expire when it was to
                status = expiry_of(self.pool, &self.e.txn, &r, &item.expiry)
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
            item.coding, item.may_change = 0, False
            self.end(self.put_one(&item, PUT_ALWAYS))
        finally:
            release(&k)
        return number

    def _add_to_object(self, key, delta, default):
        """incr() of an object: a whole number."""
        cdef Record r
        while True:
            raw, number = None, default
            if self.look_up(key, &r) == PMKV_OK:
                raw = self.bytes_of(&r)
                number = self.loaded(key, raw)
            elif default is None:
                raise NotFoundError(key)
            if not isinstance(number, int):
                raise InvalidValueError(f"incr() and decr() need a whole number; that of key {key!r:.60} is "
                                        f"{type(number).__name__}")
            number += delta
            if self.swap(key, raw, self.dumps(number), True):
                return number

    def decr(self, key, delta=1, default=0):
        """incr() by -delta."""
        return self.incr(key, -index(delta), default)

    def touch(self, key, ttl):
        """The key is gone after so many seconds, or a timedelta, from now; None: never.  Whether it is there.

        The value stays where it is; in a transaction it is copied.
        """
        cdef Bytes k
        cdef int status
        cdef u64 expiry = expiry_after(ttl)
        read_bytes(key, &k, True)
        try:
            self.begin(False)
            if expiry:            # others may have been let in first; no moment is to see it expire in the past
                expiry = max(expiry, clock_now() + 1)
            status = self.touch_one(&k, expiry)
            if status == PMKV_FULL and self.drain_for_room():
                status = self.touch_one(&k, expiry)
            self.e.expires(expiry)
            self.end(status)
        finally:
            release(&k)
        return status == PMKV_OK

    @final
    cdef int touch_one(self, const Bytes* k, u64 expiry) noexcept:
        cdef int status
        with nogil:
            status = transaction_touch(&self.e.txn, self.namespace, k.data, k.size, expiry, self.t == NULL)
        return self.settle(status)

    def ttl(self, key):
        """Seconds after which the key is gone, or None if it stays.  Raises NotFoundError."""
        cdef Record r
        cdef u64 time, now = self.now()
        cdef int status
        if self.look_up(key, &r) != PMKV_OK:
            raise NotFoundError(key)
        status = expiry_of(self.pool, self.t, &r, &time)
        if status != PMKV_OK:
            self.e.fail(status)
        return (time - now) / 1e6 if time > now else 0.0 if time else None

    def expire(self):
        """Takes away all keys of the pool that have expired; how many that were.

        Nobody sees them any more, and later writes would take them away, a few each.
        """
        cdef u64 swept = 0, next_time, before
        cdef int status = PMKV_OK
        if self.t != NULL:
            self.begin(False)
            with nogil:
                status = sweep(self.t, self.t.now, ~<u64>0, &swept, &next_time)
            self.end(status)
            return swept
        before = self.e.swept
        while True:
            self.begin(False)             # which may take some away itself
            status = self.e.sweep(SWEEP)
            self.abandon()
            if status < 0:
                self.e.fail(status)
            if not self.e.next_expiry or self.e.next_expiry > clock_now():
                return self.e.swept - before

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
                        if self.has_expired(&r, self.e.txn.now):
                            continue
                        key, raw, value = self.key_of(&r), r.key[:r.key_size], self.bytes_of(&r)
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
        if self.loads is not None:        # what cannot be given back is not taken away
            self.abandon()
            value = self.pop(raw, MISSING)
            return self.popitem() if value is MISSING else (key, value)
        status = transaction_delete(&self.e.txn, self.namespace, r.key, r.key_size)
        self.end(self.settle(status))
        return key, value         # made here: a tuple may set off the collector, and it anything

    def clear(self):
        """Deletes every key, in one commit."""
        cdef int status
        if not self.plain:        # what a transaction has stored is not in the pool yet
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
            total += self.delete_these(keys, True)

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
            batch.append(key, self.packed(value))
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
        if not self.e.drain():
            return False
        self.start()
        return True

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
        return self.delete_these(list_of(keys, "delete_many"), False)

    @final
    cdef u64 delete_these(self, list wanted, bint expired_too) except? 0:
        cdef Batch batch = Batch.__new__(Batch, len(wanted), False)
        cdef u64 deleted = 0, total = 0, first
        cdef int status
        for key in wanted:
            batch.append_key(key)
        self.begin(False)
        if expired_too:
            self.e.txn.now = 0
        status = self.delete_batch(batch, 0, batch.count, &total)
        if status == PMKV_FULL and self.t == NULL:
            self.drain_for_room()
            status, total, first = PMKV_OK, 0, 0
            while first < batch.count and status >= 0:
                self.start()
                status = self.delete_batch(batch, first, min(<u64>SLICE, batch.count - first), &deleted)
                total += deleted
                first += SLICE
        self.end(status)
        return total
