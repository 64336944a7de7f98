"""_writing.pyx (L6): how a table is written: the steps that its methods are made of.

May know: how it is read, the engine, the buffer, arguments, and what is below.  A write is a commit of
its own; or joins the open transaction (`t`) that the table belongs to; or, lazily, goes to the buffer and
becomes part of a writeback's commit.
Threads: see _engine.pyx.
"""
from cython cimport final, no_gc_clear
from pmkv._arguments cimport Batch, Bytes, as_bytes, need_text, read_bytes, release
from pmkv._buffer cimport Buffer, Dirty, Generation, new_dirty
from pmkv._core cimport *
from pmkv._expiry cimport anything_expires, clock_now
from pmkv._growth cimport pool_may_grow, pool_take_ahead
from pmkv._reading cimport Reader
from pmkv._records cimport Record
from pmkv._space cimport space_commit
from pmkv._transaction cimport (
    PUT_ALWAYS, PUT_NEW, Item, PutMode, late_are_many, transaction_delete, transaction_delete_all, transaction_put,
    transaction_put_all,
)
from pmkv._writeset cimport txn_abort, txn_begin

from pmkv._errors import Error, InvalidValueError, PoolFullError, ReadonlyError, ValueTypeError

cdef enum:
    LARGE = 32 << 10              # bytes from which copying is worth releasing the GIL
    SWEEP = 1024                  # expired keys that a write takes away first, in a commit of their own,
    SWEEP_QUICK = 32              # if it is a quick one
    SLICE = 64                    # keys of a commit whose log needs no room in the pool


@no_gc_clear                      # its end needs the engine
cdef class Writer(Reader):
    """One namespace of an open pool."""

    # -- one step --

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
        self.take_turn(quick)
        if self.e.buffer.count:       # what is durable is a prefix of what was written
            self.wait_until_clean(quick)
        if self.gone:
            self.end(PMKV_OK)
            self.need_table()
        if self.e.next_expiry:
            self.e.sweep(SWEEP if self.e.running else SWEEP_QUICK)
        self.start()
        return 0

    @final
    cdef int take_turn(self, bint quick) except -1:
        if not quick or self.e.locked:
            self.e.take_lock()
            self.e.start_running()
            if self.pool.ahead != NULL and pool_may_grow(self.pool):
                with nogil:
                    pool_take_ahead(self.pool)    # now: the writes to come are quick again
        return 0

    @final
    cdef int wait_until_clean(self, bint quick) except -1:
        """Gives the turn up, has the buffer written back, and takes it again, until nothing is dirty."""
        self.e.begin_waiting()
        try:
            while self.e.buffer.count:
                self.end(PMKV_OK)
                self.e.flush()
                self.take_turn(quick)
        finally:
            self.e.waiting -= 1
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
        return pool_may_grow(self.pool)

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
    cdef int store(self, object key, object value, u64 coding, PutMode mode, u64 expiry) except -100:
        """Puts a pair whose value is as it is to be stored.  OK, EXISTS or NOT_FOUND."""
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
        item.coding, item.may_change, item.expiry = coding, v.held, expiry
        try:
            self.begin(not (self.may_wait(v.size) or late_are_many(&self.e.txn, self.namespace, False)))
            status = self.put_one(&item, mode)
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
        self.e.expires(item.expiry)       # not before: a sweep for room forgets what is not in the pool yet
        return status

    @final
    cdef int delete_one(self, const Bytes* k) noexcept:
        """Deletes a key, and ends the step."""
        cdef int status
        if self.e.running:
            with nogil:
                status = transaction_delete(&self.e.txn, self.namespace, k.data, k.size)
        else:
            status = transaction_delete(&self.e.txn, self.namespace, k.data, k.size)
        status = self.settle(status)
        if status == PMKV_FULL and self.drain_for_room():
            status = self.settle(transaction_delete(&self.e.txn, self.namespace, k.data, k.size))
        return status

    @final
    cdef int erase(self, object key) except -100:
        """OK or NOT_FOUND."""
        if self.lazy and self.plain:
            return self.erase_lazily(key)
        if not self.plain or self.e.buffer.count == 0:
            return self.erase_now(key)
        try:
            return self.erase_now(key)
        except PoolFullError:
            return self.erase_for_room(key)

    @final
    cdef int erase_for_room(self, object key) except -100:
        """erase() where what is dirty does not fit into the pool: a writeback that fails commits its deletes."""
        cdef int status = self.erase_lazily(key)
        cdef Dirty dirty
        try:
            self.e.flush()
        except PoolFullError:
            dirty = self.e.buffer.find(self.id, as_bytes(key, True))
            if dirty is not None and dirty.value is None:
                raise
        return status

    @final
    cdef int erase_now(self, object key) except -100:
        """erase() that is durable when it returns."""
        cdef Bytes k
        cdef int status
        read_bytes(key, &k, True)
        try:
            self.begin(not (self.may_wait(0) or late_are_many(&self.e.txn, self.namespace, True)))
            status = self.delete_one(&k)
            self.end(status)
        finally:
            release(&k)
        return status

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

    # -- values: what is stored of them, and when --

    @final
    cdef object packed(self, object value):
        """The bytes of a value, or what has them."""
        return value if self.dumps is None else self.dumped(value)

    @final
    cdef object dumped(self, object value):
        """The bytes of an object.  Python code runs; what it refuses is a value that cannot be one."""
        try:
            return self.dumps(value)
        except (Error, MemoryError):
            raise
        except Exception as error:
            kind = ValueTypeError if isinstance(error, TypeError) else InvalidValueError
            raise kind(f"a value cannot be made bytes: {type(error).__name__}: {error}") from error

    @final
    cdef object encoded(self, object key, object data, object encoder, u64* coding):
        """What is stored of a value.  Python code runs: before a step begins."""
        coding[0] = 0
        if encoder is None:
            return data
        word, data = encoder.encode(as_bytes(key, True), as_bytes(data, False))
        coding[0] = word
        return data

    @final
    cdef int put_value(self, object key, object data, PutMode mode, u64 expiry, object encoder,
                       bint lazily) except -100:
        """Puts a pair whose value is bytes.  OK, EXISTS or NOT_FOUND."""
        cdef u64 coding
        if lazily and self.plain:
            return self.put_lazily(key, data, mode, expiry, encoder)
        data = self.encoded(key, data, encoder, &coding)
        return self.store(key, data, coding, mode, expiry)

    # -- lazily: into the buffer --

    @final
    cdef int put_lazily(self, object key, object data, PutMode mode, u64 expiry, object encoder) except -100:
        """put_value() that is not durable yet."""
        cdef bytes raw = as_bytes(key, True)
        cdef Dirty dirty = new_dirty(raw, as_bytes(data, False), encoder, expiry)
        if self.keys_are_str:
            need_text(key)
        if not self.e.buffer.may_hold(dirty.size):
            return self.put_value(key, data, mode, expiry, encoder, False)
        self.make_ready(dirty.size, False)
        if mode == PUT_NEW and self.has(raw):
            self.e.buffer.forget_places()
            return PMKV_EXISTS
        self.e.buffer.keep(self.id, raw, dirty)
        self.note_dirty()
        return PMKV_OK

    @final
    cdef int erase_lazily(self, object key) except -100:
        """erase() that is not durable yet."""
        cdef bytes raw = as_bytes(key, True)
        cdef Dirty dirty = new_dirty(raw, None, None, 0)
        if not self.e.buffer.may_hold(dirty.size):
            return self.erase_now(key)
        self.make_ready(dirty.size, True)
        if not self.has(raw):
            self.e.buffer.forget_places()
            return PMKV_NOT_FOUND
        self.e.buffer.keep(self.id, raw, dirty)
        self.note_dirty()
        return PMKV_OK

    @final
    cdef bint put_all_lazily(self, list keys, list values, object encoder) except -1:
        """Puts all pairs into the buffer, between two writebacks; False if they are too large together."""
        cdef dict news = {}
        cdef Dirty dirty
        cdef u64 size = 0
        for i in range(len(keys)):
            dirty = new_dirty(keys[i], values[i], encoder, 0)
            news[keys[i]] = dirty
            size += dirty.size
        if not self.e.buffer.may_hold(size):
            return False
        self.make_ready(size, False)
        if not news:              # nobody is to be told of nothing: he would be told once
            self.e.buffer.forget_places()
            return True
        self.e.buffer.keep_all(self.id, news)
        self.note_dirty()
        return True

    @final
    cdef int make_ready(self, u64 size, bint deletes) except -1:
        """The buffer has room for so much, and nobody writes but a writeback: until the GIL is given back."""
        while True:
            self.e.need_writable()
            self.need_table()
            self.e.buffer.raise_error(deletes)
            if not self.has_place():
                self.make_place()
            self.e.wait_for_turn()
            if not self.has_room(size, deletes):
                self.make_room(size, deletes)
            elif self.has_place():
                return 0

    @final
    cdef bint has_room(self, u64 size, bint deletes) noexcept:
        return self.e.buffer.has_reserve(size) if deletes else self.e.buffer.has_room(size)

    @final
    cdef int make_room(self, u64 size, bint deletes) except -1:
        """Has the buffer written back; also what fails may have made room for a delete."""
        try:
            self.e.flush()
        except PoolFullError:
            if not deletes or not self.has_room(size, True):
                raise
        return 0

    @final
    cdef bint has_place(self) except -1:
        """Whether the buffer takes keys of this namespace: not of one that had its id, nor of one that has it now."""
        cdef Writer twin = self.e.buffer.table_of(self.id)
        return twin is not None and not twin.gone and not self.gone

    @final
    cdef int make_place(self) except -1:
        """A table of the buffer's own: one of the program's would be kept open by what is dirty."""
        cdef Writer twin = Writer.__new__(Writer)
        cdef dict values = {}
        self.need_table()             # the collector may have run anything
        if not self.has_place():
            twin.attach(self.e, self.namespace, self.verify, NULL, None)
            twin.join_named()
            self.e.buffer.prepare(self.id, twin, values)
        return 0

    @final
    cdef bint has(self, bytes key) except -1:
        """Whether the key is there, dirty or in the pool."""
        cdef Record r
        cdef Dirty dirty = self.e.buffer.find(self.id, key)
        if dirty is not None:
            return self.is_dirty(dirty)
        return self.look_up(key, &r) == PMKV_OK

    @final
    cdef int note_dirty(self) except -1:
        """Has the buffer written back in time."""
        if self.e.buffer.wants_writeback():
            try:
                self.e.writeback.wake()
            except BaseException:     # Ctrl-C: the next write tells it
                self.e.buffer.told = False
                raise
        return 0


# ---- writing back ------------------------------------------------------------------------------------

cdef class Part:
    """What a writeback does in one namespace."""
    cdef Writer table
    cdef Batch puts
    cdef Batch deletes


cdef list parts_of(Generation generation):
    """The dirty values, encoded; of namespaces that were dropped nothing.  Python code runs."""
    cdef list parts = []
    cdef Part part
    for id, values in generation.values.items():
        part = Part()
        part.table = generation.tables[id]
        if not part.table.gone and values:
            part.puts, part.deletes = Batch(len(values), False), Batch(len(values), False)
            fill(part, <dict>values)
            parts.append(part)
    return parts


cdef int fill(Part part, dict values) except -1:
    cdef dict by_encoder = {}
    cdef Dirty dirty
    for key, found in values.items():
        dirty = found
        if dirty.value is None:
            part.deletes.append_key(key)
        elif dirty.encoder is None:
            part.puts.append_stored(key, 0, dirty.value, dirty.expiry)
        else:
            by_encoder.setdefault(dirty.encoder, []).append((key, dirty))
    for encoder, pairs in by_encoder.items():
        coded = encoder.encode_many([key for key, _ in pairs], [(<Dirty>found).value for _, found in pairs])
        for (key, found), (coding, data) in zip(pairs, coded):
            part.puts.append_stored(key, coding, data, (<Dirty>found).expiry)
    return 0


cdef int step(Writer first, list parts, bint puts, bint deletes) except -100:
    """All of them, in one commit; the status."""
    cdef Part part
    cdef u64 deleted
    cdef int status = PMKV_OK
    for part in parts:
        if status == PMKV_OK and puts:
            with nogil:
                status = transaction_put_all(&first.e.txn, part.table.namespace, part.puts.items, part.puts.count)
        if status == PMKV_OK and deletes:
            with nogil:
                status = transaction_delete_all(&first.e.txn, part.table.namespace, part.deletes.items,
                                                part.deletes.count, &deleted)
    return first.settle(status)


cdef int delete_in_slices(Writer first, list parts) except -100:
    """Their deletes, a few in each commit; what fails half-way has made room, and may be done again."""
    cdef Part part
    cdef u64 at, deleted
    cdef int status = PMKV_OK
    for part in parts:
        at = 0
        while status == PMKV_OK and at < part.deletes.count:
            first.start()
            with nogil:
                status = transaction_delete_all(&first.e.txn, part.table.namespace, part.deletes.items + at,
                                                min(<u64>SLICE, part.deletes.count - at), &deleted)
            status = first.settle(status)
            at += SLICE
    return status


cdef int steps(Writer first, list parts, Generation generation) except -100:
    """The same; in a pool that is full, once more when it was drained, and then the deletes before the puts."""
    cdef int status = step(first, parts, True, True)
    if status == PMKV_FULL and first.drain_for_room():
        status = step(first, parts, True, True)
    if status == PMKV_FULL:
        first.start()
        status = step(first, parts, False, True)
        if status == PMKV_FULL:   # no room for the log of so many
            status = delete_in_slices(first, parts)
        if status == PMKV_OK:
            first.e.buffer.forget_deletes(generation)
            first.start()
            status = step(first, parts, True, False)
    return status


def flush(Buffer buffer not None, str path):
    """What was dirty when it began is durable when it returns, or it raises why not.

    All in one call, so that no signal's handler comes between two of its steps.
    """
    cdef Generation generation
    if not buffer.take_turn():
        raise Error(f"{path}: this thread is in the middle of a writeback")
    try:
        generation = buffer.freeze()
        if generation is not None:
            try:
                write_back(generation)
            except BaseException:
                buffer.thaw()
                buffer.error = None   # who asked for it hears of it
                raise
            buffer.done()
    finally:
        buffer.give_turn()


cdef int write_back(Generation generation) except -1:
    """Encodes what is dirty, and commits it: all of it, or, on any error, nothing."""
    cdef list parts = parts_of(generation)
    cdef Writer first
    cdef Part part
    cdef u64 i
    cdef int status
    if not parts:
        return 0
    first = (<Part>parts[0]).table
    first.e.need_writable()
    first.e.take_lock()
    first.e.writing_back = True       # before the GIL is given back
    first.e.start_running()
    try:
        parts = [part for part in parts if not (<Part>part).table.gone]
        first.e.sweep(SWEEP)
        first.start()
        status = steps(first, parts, generation)
        for part in parts:
            for i in range(part.puts.count):
                first.e.expires(part.puts.items[i].expiry)
    finally:
        first.e.writing_back = False
        first.e.stop_running()
        first.e.give_lock()
    if status < 0:
        first.e.fail(status)
    return 0
