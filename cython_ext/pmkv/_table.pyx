"""_table.pyx (L6): a namespace as Python sees it: a mapping of keys to values that is written, too.

May know: how it is read, the steps of writing, the engine, arguments, and what is below.
Threads: see _engine.pyx.
"""
from cython cimport final, no_gc_clear
from libc.string cimport memcmp
from pmkv._arguments cimport (
    Batch, Bytes, as_bytes, expiry_after, is_number, list_of, need_text, read_bytes, refuse_number, release,
)
from pmkv._core cimport *
from pmkv._expiry cimport clock_now, expiry_of
from pmkv._mapping cimport LEAF_SLOTS, Cursor, Probe, mapping_next_leaf
from pmkv._records cimport RECORD_CODED, Record, record_coding, record_parse, record_verify
from pmkv._sweep cimport sweep
from pmkv._transaction cimport (
    PUT_ALWAYS, PUT_NEW, Item, transaction_clear, transaction_delete, transaction_find, transaction_touch,
)
from pmkv._writeset cimport txn_log_sealed, txn_read
from pmkv._writing cimport Writer

from operator import index

from pmkv._errors import CodecError, Error, InvalidValueError, NotFoundError, PoolFullError, ValueTypeError

cdef enum:
    SLICE = 64                    # keys of a commit that is sure to fit the ring
    TURN = 4096                   # keys of one commit, where one for all has no room
    BITS = 13287                  # of a number of 4,000 digits, which is what incr() takes
    SWEEP = 1024                  # expired keys that one commit takes away

cdef object MISSING = object()        # no value
cdef object UNSEEN = object()         # a value that must be decoded before it is taken away

cdef enum Swap:
    SWAP_REFUSED, SWAP_DONE, SWAP_CODED   # the last: the value is under a codec, and not the one that was decoded


@no_gc_clear                      # its end needs the engine
cdef class Table(Writer):
    """One namespace of an open pool."""

    @final
    cdef object encoder_for(self, object codec):
        """What encodes a value that is to go under this codec; ...: that of the namespace."""
        if codec is ...:
            return self.encoder
        if self.coder is None:
            raise CodecError(f"{self.e.path}: this handle has no codecs")
        encoder = self.coder.for_codec(codec)
        if encoder is not None:
            encoder.context.note(self, encoder)
        return encoder

    @final
    cdef bint is_lazy(self, object durability) except -1:
        """Whether a call may leave its values in the buffer; None: as the handle was opened."""
        if durability is None:
            return self.lazy
        if durability not in ("sync", "lazy"):
            raise ValueError(f"durability is 'sync' or 'lazy', not {durability!r:.60}")
        return durability == "lazy"

    def __setitem__(self, key, value):
        if self.dumps is None and self.encoder is None and not self.lazy:
            self.store(key, value, 0, PUT_ALWAYS, 0)
        else:
            self.put_value(key, self.packed(value), PUT_ALWAYS, 0, self.encoder, self.lazy)

    def put(self, key, value, *, bint overwrite=True, ttl=None, codec=..., durability=None):
        """Stores the pair; durable when it returns (info()["durable"] says against what), unless lazily.

        With overwrite=False an existing key is left alone, and the answer is False.  `ttl`: seconds
        or a timedelta after which the key is gone; None, also of a key that had one: never.  `codec`: of
        this value, a text such as "lz4", or None for a plain one; else that of the namespace.
        `durability`: "sync" or "lazy" for this call.
        Raises InvalidKeyError, InvalidValueError, PoolFullError, ReadonlyError, CodecError, OSError.
        """
        return self.put_value(key, self.packed(value), PUT_ALWAYS if overwrite else PUT_NEW,
                              0 if ttl is None else expiry_after(ttl), self.encoder_for(codec),
                              self.is_lazy(durability)) == PMKV_OK

    def _expiry_after(self, ttl):
        return expiry_after(ttl)

    def _put_until(self, key, value, u64 expiry):
        """Stores the pair, of bytes; the key expires then, in microseconds since 1970; 0: never."""
        self.put_value(key, value, PUT_ALWAYS, expiry, self.encoder, self.lazy)

    def _put_stored(self, pairs):
        """Stores (key, what _show_stored() shows of a value), all in one commit, as they are."""
        cdef Batch batch = Batch.__new__(Batch, len(pairs), False)
        cdef u64 i
        for key, (coding, data, expiry) in pairs:
            batch.append_stored(as_bytes(key, True), coding, data, expiry)
        self.begin(False)
        status = self.put_batch(batch)
        for i in range(batch.count):
            self.e.expires(batch.items[i].expiry)
        self.end(status)

    def _set_options(self, u64 options, u64 mask=SEAL_MASK):
        """Changes what the namespace is to do with new values, of those bits: others may change the rest meanwhile."""
        cdef u64 place, before
        self.begin(False)
        place = self.namespace + NAMESPACE_OPTIONS
        before = txn_read(&self.e.txn, place) & SEAL_MASK
        self.end(self.settle(txn_log_sealed(&self.e.txn, place, before & ~mask | options & mask)))

    def add(self, key, value):
        """Stores the pair if the key is missing; whether it did."""
        return self.put_value(key, self.packed(value), PUT_NEW, 0, self.encoder, self.lazy) == PMKV_OK

    def __delitem__(self, key):
        if self.erase(key) != PMKV_OK:
            raise NotFoundError(key)

    def delete(self, key):
        """Deletes the key; whether it was there."""
        return self.erase(key) == PMKV_OK

    @final
    cdef object exchange(self, object key, object value, object default):
        """Stores `value` (MISSING: deletes) in one commit; the value that was there, or `default`.

        What cannot be given back is not taken away: a value that is more than its bytes is got first.
        """
        cdef u64 coding = 0, old_coding = 0
        cdef bint seen = self.loads is not None or self.encoder is not None
        if value is not MISSING:
            if self.keys_are_str:
                need_text(key)
            value = self.encoded(key, self.packed(value), self.encoder, &coding)
        if seen:
            self.get(key)
        old = self.take(key, value, coding, seen, &old_coding)
        if old is UNSEEN:
            self.get(key)
            old = self.take(key, value, coding, True, &old_coding)
        if old is MISSING:
            return default
        if old_coding:
            old = self.decoded(as_bytes(key, True), old_coding, old)
        return old if self.loads is None else self.loaded(key, old)

    @final
    cdef object take(self, object key, object value, u64 coding, bint seen, u64* old_coding):
        """The step of exchange(): what was stored, or MISSING; UNSEEN: it is coded, and nothing happened."""
        cdef Bytes k
        cdef Bytes v
        cdef Probe probe
        cdef Record r
        cdef Item item
        cdef int status
        read_bytes(key, &k, True)
        v.held = False
        v.size = 0
        try:
            if value is not MISSING:
                read_bytes(value, &v, False)
            self.begin(False)
            try:
                old = MISSING
                status = transaction_find(&self.e.txn, self.namespace, k.data, k.size, &probe, &r)
                if status == PMKV_OK:
                    old_coding[0] = record_coding(&r)
                    old = self.stored_of(&r) if seen or old_coding[0] == 0 else UNSEEN
            except BaseException:
                self.abandon()
                raise
            if old is UNSEEN:
                self.abandon()
            elif value is not MISSING and status >= 0:
                item.key, item.key_size, item.value, item.value_size = k.data, k.size, v.data, v.size
                item.coding, item.may_change, item.expiry = coding, v.held, 0
                self.end(self.put_one(&item, PUT_ALWAYS))
            else:
                self.end(self.delete_one(&k) if status == PMKV_OK else self.settle(status))
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

        expected=None: the key must be missing.  new=None: the key is deleted.  Objects are the same if
        the bytes that they are made are.
        """
        cdef u64 coding = 0, new_coding = 0
        cdef int done = SWAP_CODED
        expected = None if expected is None else self.packed(expected)
        new = None if new is None else self.packed(new)
        new = None if new is None else self.encoded(key, new, self.encoder, &new_coding)
        while done == SWAP_CODED:
            stored = None if expected is None else self.stored_now(key, &coding)
            if coding == 0:
                stored = expected
            elif self.decoded(as_bytes(key, True), coding, stored) != as_bytes(expected, False):
                return False
            done = self.swap(key, stored, coding, new, new_coding, False)
        return done == SWAP_DONE

    @final
    cdef object stored_now(self, object key, u64* coding):
        """What is stored of the key's value, or None if there is none."""
        cdef Record r
        self.need_clean()
        coding[0] = 0
        if self.look_up(key, &r) != PMKV_OK:
            return None
        coding[0] = record_coding(&r)
        return self.stored_of(&r)

    @final
    cdef int swap(self, object key, object expected, u64 expected_coding, object new, u64 new_coding,
                  bint keeps_time) except -1:
        """compare_and_set() of what is stored; keeps_time: the key goes on to expire when it was to.

        SWAP_CODED: it is not what was decoded, or is under a codec and nothing was decoded: to be looked at anew.
        """
        cdef Bytes k
        cdef Bytes e
        cdef Bytes n
        cdef Probe probe
        cdef Record r
        cdef Item item
        cdef int status, done = SWAP_REFUSED
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
                same = same and expected is not None and record_coding(&r) == expected_coding
                if expected is not None and not same and (r.flags >= RECORD_CODED or expected_coding):
                    done = SWAP_CODED
            else:
                same = status == PMKV_NOT_FOUND and expected is None
            if same and new is not None:
                item.key, item.key_size, item.value, item.value_size = k.data, k.size, n.data, n.size
                item.coding, item.may_change, item.expiry = new_coding, n.held, 0
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
        return SWAP_DONE if same else done

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
        cdef bint coded
        delta, number = index(delta), None if default is None else index(default)
        if self.loads is not None or self.encoder is not None:
            return self._add_to_object(key, delta, number)
        if self.keys_are_str:
            need_text(key)
        read_bytes(key, &k, True)
        try:
            self.begin(False)
            # The lock is held until the end: errors are made when it has been given back.
            status = transaction_find(&self.e.txn, self.namespace, k.data, k.size, &probe, &r)
            item.expiry = 0
            coded = status == PMKV_OK and r.flags >= RECORD_CODED
            if status == PMKV_OK and not coded:
                status = record_verify(self.pool, &r)
            if status == PMKV_OK:         # it goes on to expire when it was to
                status = expiry_of(self.pool, &self.e.txn, &r, &item.expiry)
            fits = coded or status != PMKV_OK or is_number(r.value, r.value_size)
            missing = status == PMKV_NOT_FOUND and number is None
            try:
                if status == PMKV_OK and fits and not coded:
                    number = int(r.value[:r.value_size])
                if fits and not missing and not coded and status >= 0:
                    number = number + delta
                    fits = number.bit_length() < BITS
                text = str(number).encode() if fits else b""
            except ValueError:    # longer than this interpreter was told to convert
                fits = False
            except BaseException:
                self.abandon()
                raise
            if coded or missing or not fits or status < 0:
                self.abandon()
                if coded and status >= 0:
                    return self._add_to_object(key, delta, default)
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
        """incr() of what is more than its bytes: an object, or under a codec."""
        cdef u64 coding = 0, new_coding
        while True:
            stored, number = self.stored_now(key, &coding), default
            if stored is not None:
                number = self.number_of(key, self.decoded(as_bytes(key, True), coding, stored))
            elif default is None:
                raise NotFoundError(key)
            number += delta
            if self.loads is None and number.bit_length() >= BITS:
                refuse_number(key, False)
            data = str(number).encode() if self.loads is None else self.dumps(number)
            data = self.encoded(key, data, self.encoder, &new_coding)
            if self.swap(key, stored, coding, data, new_coding, True) == SWAP_DONE:
                return number

    @final
    cdef object number_of(self, object key, object data):
        """The whole number that a value is."""
        cdef Bytes b
        if self.loads is None:
            read_bytes(data, &b, False)
            if not is_number(b.data, b.size):
                refuse_number(key, False)
            return int(data)
        number = self.loaded(key, data)
        if not isinstance(number, int):
            raise InvalidValueError(f"incr() and decr() need a whole number; that of key {key!r:.60} is "
                                    f"{type(number).__name__}")
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
        self.need_clean()
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
        cdef bint coded = False
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
                        key, raw, value = self.key_of(&r), r.key[:r.key_size], self.stored_of(&r)
                        coded = r.flags >= RECORD_CODED
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
        if coded or self.loads is not None:   # what cannot be given back is not taken away
            self.abandon()
            value = self.pop(raw, MISSING)
            return self.popitem() if value is MISSING else (key, value)
        with nogil:
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

    @final
    cdef int take_pair(self, object pair, Batch batch, list keys, list values) except -1:
        """One of put_many(): into the batch, or, if there is none, into the lists."""
        try:
            if isinstance(pair, (bytes, str)):
                raise TypeError
            key, value = pair
        except (TypeError, ValueError):
            raise ValueTypeError("put_many takes a mapping or (key, value) pairs, "
                                 f"not {type(pair).__name__} {pair!r:.60}") from None
        if batch is not None:
            batch.append(key, self.packed(value))
            return 0
        if self.keys_are_str:
            need_text(key)
        keys.append(as_bytes(key, True))
        values.append(as_bytes(self.packed(value), False))
        return 0

    def put_many(self, items, *, durability=None):
        """Stores all pairs of a mapping or an iterable, in one commit; how many there were.

        All of them or, on any error, none.  Of a key that comes twice the last value counts.  Under a codec
        values are encoded several at a time.  `durability`: "sync" or "lazy" for this call.
        """
        cdef list pairs = list(items.items() if hasattr(items, "items") else items)
        cdef bint lazily = self.plain and self.is_lazy(durability)
        cdef Batch batch = Batch.__new__(Batch, len(pairs), self.keys_are_str)
        cdef list keys = [], values = []
        cdef bint plainly = self.encoder is None and not lazily
        cdef int status
        try:
            for pair in pairs:
                self.take_pair(pair, batch if plainly else None, keys, values)
        except Error as error:
            at = batch.count if plainly else len(values)
            error.add_note(f"it is of pair {at}, of {len(pairs)}: {pair!r:.120}")
            raise
        if lazily and self.put_all_lazily(keys, values, self.encoder):
            return len(pairs)
        if not plainly:
            batch.append_encoded(keys, values, self.encoder)
        self.begin(False)
        status = self.put_batch(batch)
        if status == PMKV_FULL and self.drain_for_room():
            status = self.put_batch(batch)
        self.end(status)
        return batch.count

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
