"""_reading.pyx (L6): a namespace as Python sees it, as far as it is read.

May know: the engine, arguments, and what is below.  The same class reads a namespace as it is;
as an open transaction (`t`) sees it; and as it was at a moment (`as_of`).
Threads: see _engine.pyx.
"""
from cython cimport final, no_gc_clear
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.string cimport memcpy
from pmkv._arguments cimport Bytes, as_bytes, list_of, read_bytes, release
from pmkv._buffer cimport Dirty
from pmkv._core cimport *
from pmkv._engine cimport Engine, Moment
from pmkv._expiry cimport Due, anything_expires, clock_now, expiry_compare, expiry_first, expiry_next, expiry_of
from pmkv._keytree cimport TreeCursor
from pmkv._mapping cimport (
    Probe, mapping_get, mapping_hash, mapping_locate, mapping_match, mapping_prefetch_bucket,
    mapping_prefetch_record,
)
from pmkv._records cimport (
    RECORD_CODED, Record, crc32c, record_body_is_whole, record_coding, record_commit, record_parse, record_verify,
)
from pmkv._space cimport pins_add
from pmkv._transaction cimport transaction_find_any
from pmkv._treenode cimport tree_word
from pmkv._versions cimport (
    BEFORE_KEY, Version, moments_entries, version_find, version_free, version_read, version_record, versions_seek,
    versions_seek_hash,
)
from pmkv._writeset cimport Txn

from pmkv._errors import ClosedError, CodecError, CorruptedError, NotFoundError

cdef object ABSENT = object()         # there is no value
cdef object NOT_DIRTY = object()      # the buffer says nothing of the key
cdef object STORED = object()         # in place of what makes objects of bytes: nothing does

cdef enum:
    LARGE = 32 << 10              # bytes from which copying is worth releasing the GIL
    LAG = 12                      # keys between two steps of get_many's pipeline
    RING = 64                     # at least 3 * LAG of them are under way
    TURN = 4096                   # keys after which it lets other threads run
    MOST_IN_A_PAGE = 128          # records: two granules each, at least


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
cdef class Reader:
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
        self.plain = t == NULL
        self.namespace = namespace
        self.id = e.root(namespace + NAMESPACE_ID)
        self.mapping = namespace + NAMESPACE_MAPPING
        self.verify = verify
        options = self.options()
        self.keys_are_str = (options & PMKV_OPTION_KEYS_STR) != 0
        self.ordered = not options & PMKV_OPTION_UNORDERED

    @final
    cdef u64 options(self) noexcept:
        return self.e.root(self.namespace + NAMESPACE_OPTIONS)

    @final
    cdef void inherit(self, Reader source) noexcept:
        """Values are what they are for another table of the same namespace."""
        self.dumps, self.loads, self.coder, self.encoder = source.dumps, source.loads, source.coder, source.encoder

    @final
    cdef int look_back(self, Moment moment) except -1:
        """From here on it only reads, at that moment, until the moment ends.  None: nothing of that."""
        if moment is not None and moment.at == 0:
            self.refuse_past()
        if moment is not None:
            self.moment, self.as_of, self.plain = moment, moment.at, False
        return 0

    @final
    cdef int refuse_past(self) except -1:
        raise ClosedError(f"{self.e.path}: the snapshot has ended; take another")

    @final
    cdef int let_others_run(self) except -1:
        """In the middle of something long: other threads, and Ctrl-C."""
        with nogil:
            pass
        PyErr_CheckSignals()
        return self.need_table()

    @final
    cdef Moment reading_at(self):
        """For a reader that begins: the moment that it shows, or None in a transaction; need_reader() besides."""
        cdef Moment moment = self.moment
        if moment is None and self.t == NULL:
            moment = self.e.now()
        self.need_reader()
        return moment

    @final
    cdef bint is_past(self) noexcept:
        """Whether it reads at a moment, and something was committed since."""
        return self.as_of != 0 and self.as_of != self.pool.head

    @final
    cdef void join_named(self) noexcept:
        """From here on a drop finds it.  Under the GIL, and no Python code runs."""
        self.prev_named = NULL
        self.next_named = self.e.first_named
        if self.next_named != NULL:
            (<Reader>self.next_named).prev_named = <void*>self
        self.e.first_named = <void*>self

    @final
    cdef void leave_named(self) noexcept:
        if self.prev_named != NULL:
            (<Reader>self.prev_named).next_named = self.next_named
        elif self.e is not None and self.e.first_named == <void*>self:
            self.e.first_named = self.next_named
        if self.next_named != NULL:
            (<Reader>self.next_named).prev_named = self.prev_named
        self.prev_named = self.next_named = NULL

    @final
    cdef int need_table(self) except -1:
        self.e.need_open()
        if self.gone:
            raise ClosedError(f"{self.e.path}: the namespace {getattr(self, 'name', '')!r} was dropped, or rolled back")
        if self.as_of and self.moment.at == 0:
            self.refuse_past()
        return 0

    @final
    cdef int need_reader(self) except -1:
        """The table may be read, and nobody is changing pages without the GIL.

        It waits first: meanwhile others may close, drop or end what is asked for then.
        """
        if self.e.running:
            self.e.wait_for_writer()
        self.need_table()
        if self.t != NULL and self.e.transaction is not self.owner:
            raise ClosedError(f"{self.e.path}: the transaction has ended; begin another")
        return 0

    @final
    cdef int need_transaction(self) except -1:
        """need_reader() of a table that belongs to a transaction."""
        return self.need_reader()

    @final
    cdef inline bint trusts(self, const Record* r) noexcept:
        """Whether its checksum is left alone: not where a damaged head may call a coded value plain."""
        return not (self.verify or r.flags >= RECORD_CODED or self.encoder is not None)

    @final
    cdef int need_whole_body(self, const Record* r) except -1:
        if not self.trusts(r) and not record_body_is_whole(self.pool, r):
            self.e.damaged(PMKV_CHECK_RECORD, r.place)
        return 0

    @final
    cdef object key_of(self, const Record* r):
        if self.keys_are_str:
            return r.key[:r.key_size].decode()
        return pmkv_bytes(&self.key_spares, r.key, r.key_size)

    @final
    cdef inline object value_of(self, const Record* r):
        """The value, its checksum tested; as bytes, or the object that was made bytes."""
        if self.loads is None and r.flags < RECORD_CODED:
            return self.stored_of(r)
        return self.other_value_of(r)

    @final
    cdef object other_value_of(self, const Record* r):
        """The same of what is coded, or an object; or as it is stored."""
        cdef u64 coding = record_coding(r), time = 0
        cdef int status
        key = r.key[:r.key_size]
        if self.raw:
            status = expiry_of(self.pool, self.t, r, &time)
            if status < 0:
                self.e.fail(status)
            return coding, self.stored_of(r), time
        data = self.bytes_of(r)
        return data if self.loads is None else self.loaded(key, data)

    @final
    cdef object loaded(self, object key, object data):
        """The object.  Python code runs: not in a step that holds `turn`."""
        try:
            return self.loads(data)
        except Exception as error:
            raise CodecError(f"{self.e.path}: the value of key {key!r:.60} cannot be made an object: "
                             f"{type(error).__name__}: {error}") from error

    @final
    cdef inline object bytes_of(self, const Record* r):
        """The value as bytes."""
        return self.stored_of(r) if r.flags < RECORD_CODED else self.decoded_value_of(r)

    @final
    cdef object decoded_value_of(self, const Record* r):
        """The bytes that were encoded.  Python code runs: not in a step that holds `turn`.

        What an open transaction has stored is not for the cache: an abort takes it back, and its number.
        """
        cdef u64 coding = record_coding(r), commit = record_commit(r), place = r.place
        cdef bint settled = self.t == NULL or commit != self.t.commit
        cdef bytes value = None, key
        if settled:
            value = self.e.cache.find(self.id, commit, place, r.key, r.key_size)
        if value is None:
            key = r.key[:r.key_size]
            value = self.decoded(key, coding, self.stored_of(r))
            if settled:
                self.e.cache.keep(self.id, commit, place, key, len(key), value)
        return value

    @final
    cdef object decoded(self, bytes key, u64 coding, object stored):
        """The bytes of which `stored` was made.  Python code runs."""
        if coding == 0:
            return stored
        if self.coder is None:
            raise CodecError(f"{self.e.path}: the value of key {key!r:.60} is under a codec, and this handle has none")
        return self.coder.decode(coding, key, stored)

    @final
    cdef int damaged_value(self, int site, u64 place, const Record* r) except -1:
        """The value's key is what it was found by."""
        self.pool.fault.site, self.pool.fault.place = site, place
        raise CorruptedError(f"the value of key {r.key[:min(r.key_size, 60)]!r} is damaged: {self.e.damage_text()}")

    @final
    cdef inline object stored_of(self, const Record* r):
        """The value as bytes, as it is stored: one copy.  What may go to a codec is tested always."""
        if not self.trusts(r) and not record_body_is_whole(self.pool, r):
            self.damaged_value(PMKV_CHECK_RECORD, r.place, r)
        if r.extent_place == 0:
            return pmkv_bytes(&self.value_spares, r.value, r.value_size)
        return self.large_value_of(r)

    @final
    cdef object large_value_of(self, const Record* r):
        cdef bytes value = PyBytes_FromStringAndSize(NULL, r.value_size)
        cdef char* out = PyBytes_AS_STRING(value)
        cdef bint whole = True, verify = not self.trusts(r)
        if r.value_size >= LARGE and not self.e.running:
            if pins_add(&self.e.pins, r.place) != PMKV_OK:
                raise MemoryError
            self.e.busy += 1
            with nogil:
                memcpy(out, r.value, r.value_size)
                whole = not verify or crc32c(out, r.value_size) == r.value_crc
            self.e.busy -= 1
            self.e.unpin(r.place)
        else:
            memcpy(out, r.value, r.value_size)
            whole = not verify or crc32c(out, r.value_size) == r.value_crc
        if not whole:
            self.damaged_value(PMKV_CHECK_VALUE, r.extent_place, r)
        return value

    @final
    cdef int fail_at(self, object key, int status) except -1:
        """Raises what a look-up ended with; of damage it says on the way to which key that was met."""
        if status == PMKV_CORRUPTED:
            raise CorruptedError(f"key {key!r:.60} is not found for damage: {self.e.damage_text()}")
        return self.e.fail(status)

    @final
    cdef inline int look_up(self, object key, Record* r) except -100:
        """OK or NOT_FOUND."""
        cdef Bytes k
        cdef int status
        if not self.e.usable or self.gone:
            self.need_table()
        read_bytes(key, &k, True)
        if not self.plain or k.held:
            self.need_reader_still(&k)
        if self.plain:
            status = mapping_get(self.pool, self.mapping, k.data, k.size, r)
        else:
            status = self.look_inside(&k, r)
        release(&k)
        if status < 0:
            self.fail_at(key, status)
        if status == PMKV_OK and r.flags & PMKV_RECORD_EXPIRY and self.has_expired(r, self.now()):
            return PMKV_NOT_FOUND
        return status

    # -- what has expired --

    @final
    cdef u64 now(self) noexcept:
        """By what time a key has expired: for a snapshot, that at which it was taken."""
        return self.moment.time if self.as_of else clock_now()

    @final
    cdef bint has_expired(self, const Record* r, u64 now) except -1:
        cdef bint past
        cdef int status
        if not r.flags & PMKV_RECORD_EXPIRY:
            return False
        status = expiry_compare(self.pool, self.t, r, now, &past)
        if status != PMKV_OK:
            self.e.fail(status)
        return past

    @final
    cdef u64 expired_keys(self) except? 0:
        """How many keys of the mapping have expired, and count though they are not there."""
        cdef TreeCursor cursor
        cdef Due due
        cdef Record r
        cdef u64 now, found = 0
        cdef int status
        if not anything_expires(self.pool, self.t):
            return 0
        now = self.now()
        status = expiry_first(self.pool, self.t, &cursor)
        while status == PMKV_OK:
            status = expiry_next(self.pool, self.t, &cursor, &due)
            if status != PMKV_OK or due.time > now:
                break
            if due.namespace_id == self.id and self.as_of:
                status = record_parse(self.pool, due.place, &r)
                found += status == PMKV_OK and record_commit(&r) < self.as_of
            else:
                found += due.namespace_id == self.id
        if status < 0:
            self.e.fail(status)
        return found

    @final
    cdef u64 expired_versions(self) except? 0:
        """The same of what a snapshot sees, of what was taken out of the mapping since."""
        cdef TreeCursor cursor
        cdef Version v
        cdef Record r
        cdef u64 found = 0
        cdef int status = (versions_seek(self.pool, self.id, NULL, 0, BEFORE_KEY, &cursor) if self.ordered
                           else versions_seek_hash(self.pool, self.id, 0, &cursor))
        v.memory, v.memory_size = NULL, 0
        try:
            while status == PMKV_OK:
                status = version_read(self.pool, self.id, not self.ordered, &cursor, True, &v)
                if status == PMKV_OK and v.born < self.as_of <= v.died:
                    status = version_record(self.pool, &v, &r)
                    found += status == PMKV_OK and self.has_expired(&r, self.moment.time)
        finally:
            version_free(&v)
        if status < 0:
            self.e.fail(status)
        return found

    @final
    cdef int need_reader_still(self, Bytes* k) except -1:
        """need_reader() when the key is held: to hold it may have run anything."""
        try:
            self.need_reader()
        except BaseException:
            release(k)
            raise
        return 0

    @final
    cdef int look_inside(self, const Bytes* k, Record* r) except -100:
        """look_up() as the open transaction sees it, or as it was."""
        cdef Probe probe
        cdef int status
        if self.t != NULL:
            return transaction_find_any(self.t, self.namespace, k.data, k.size, &probe, r)
        status = mapping_get(self.pool, self.mapping, k.data, k.size, r)
        if status < 0 or (status == PMKV_OK and record_commit(r) < self.as_of):
            return status
        return version_find(self.pool, self.id, not self.ordered, k.data, k.size, self.as_of, r)

    @final
    cdef object shown(self, Shows shows, const Record* r):
        """What an iterator gives of a record."""
        if shows == SHOW_KEYS:
            self.need_whole_body(r)
            return self.key_of(r)
        if shows == SHOW_VALUES:
            return self.value_of(r)
        if r.flags < RECORD_CODED and self.loads is None:
            value = self.value_of(r)
            return self.key_of(r), value
        self.need_whole_body(r)
        key = self.key_of(r)      # first: to decode lets others run, and they may close the store
        return key, self.value_of(r)

    # -- what is dirty: in the buffer, and newer than the pool --

    @final
    cdef int need_clean(self) except -1:
        """What was dirty is in the pool, for who looks at more than one key."""
        if self.e.buffer.count and self.plain:
            self.e.flush()
        return 0

    @final
    cdef bint is_dirty(self, Dirty dirty) noexcept:
        """Whether it is a value; else that there is none."""
        return dirty.value is not None and (dirty.expiry == 0 or dirty.expiry > clock_now())

    @final
    cdef object dirty_value(self, object key, object default):
        """The value of the key if it is dirty, or `default` if that is that there is none; else NOT_DIRTY."""
        cdef Dirty dirty
        cdef bytes raw = as_bytes(key, True)
        self.need_table()
        dirty = self.e.buffer.find(self.id, raw)
        if dirty is None:
            return NOT_DIRTY
        if not self.is_dirty(dirty):
            return default
        return dirty.value if self.loads is None else self.loaded(raw, dirty.value)

    def __getitem__(self, key):
        """The value of `key`: bytes, one copy, or the object.  Raises NotFoundError, CorruptedError, CodecError."""
        cdef Record r
        if self.e.buffer.count and self.plain:
            value = self.dirty_value(key, ABSENT)
            if value is ABSENT:
                raise NotFoundError(key)
            if value is not NOT_DIRTY:
                return value
        if self.look_up(key, &r) == PMKV_OK:
            return self.value_of(&r)
        raise NotFoundError(key)

    def get(self, key, default=None):
        """The value of `key`, or `default`.  Raises CorruptedError, CodecError."""
        cdef Record r
        if self.e.buffer.count and self.plain:
            value = self.dirty_value(key, default)
            if value is not NOT_DIRTY:
                return value
        if self.look_up(key, &r) == PMKV_OK:
            return self.value_of(&r)
        return default

    def __contains__(self, key):
        cdef Record r
        cdef Dirty dirty
        if self.e.buffer.count and self.plain:
            self.need_table()
            dirty = self.e.buffer.find(self.id, as_bytes(key, True))
            if dirty is not None:
                return self.is_dirty(dirty)
        return self.look_up(key, &r) == PMKV_OK

    @final
    cdef u64 entries(self) except? 0:
        """How many keys there are."""
        cdef u64 place = self.namespace + NAMESPACE_ENTRY_COUNT, word, expired = 0
        self.need_clean()
        self.need_table()
        if not self.plain or anything_expires(self.pool, NULL):
            self.need_reader()
        word = self.entry_word()  # of the same commit as what has expired
        if self.is_past() and moments_entries(&self.e.pins.moments, self.as_of, self.namespace, &word):
            word = pmkv_seal(word)
        if not pmkv_is_sealed(word):
            self.e.damaged(PMKV_CHECK_SEAL, place)
        self.need_possible(word & SEAL_MASK, place)
        if not self.as_of:
            expired = self.expired_keys()
        elif self.moment.has_expired:
            expired = self.expired_keys() + self.expired_versions()
        if expired > word & SEAL_MASK:
            self.e.damaged(PMKV_CHECK_TREE, ROOT_EXPIRY)
        return (word & SEAL_MASK) - expired

    @final
    cdef u64 entry_word(self) noexcept:
        """The word that says how many keys there are now."""
        return tree_word(self.pool, self.t, self.namespace + NAMESPACE_ENTRY_COUNT)

    @final
    cdef int need_possible(self, u64 count, u64 place) except -1:
        """A count of keys that the pool has no room for is not believed: list() would reserve memory for it."""
        if count > self.pool.file_pages * MOST_IN_A_PAGE:
            self.e.damaged(PMKV_CHECK_SEAL, place)
        return 0

    def __len__(self):
        return self.entries()

    def _options(self):
        """As the open transaction sees them, if the table is one of it."""
        self.need_reader()
        return tree_word(self.pool, self.t, self.namespace + NAMESPACE_OPTIONS) & SEAL_MASK

    def _is_writable(self):
        return bool(self.pool.writable and self.as_of == 0)

    def _values_option(self):
        """What the namespace's options say of its values, and of their codec."""
        self.need_reader()
        return self.options() & ~<u64>(PMKV_OPTION_KEYS_STR | PMKV_OPTION_UNORDERED)

    def _speak(self, dumps, loads):
        """From here on values are made bytes, and bytes values, by these; None: they are bytes."""
        self.dumps, self.loads = dumps, loads

    def _code(self, coder, bint encodes):
        """From here on values under codecs are decoded by this, and new ones encoded if `encodes`."""
        self.coder, self.encoder = coder, coder if encodes else None

    def _coder(self):
        return self.coder

    def _show_stored(self):
        """From here on values are shown as they are stored: coding, bytes, and when they expire."""
        self.raw, self.loads = True, STORED

    def _coding_of(self, key):
        """The coding of the key's value; 0: a plain one, or none."""
        cdef Record r
        self.need_clean()
        return record_coding(&r) if self.look_up(key, &r) == PMKV_OK else 0

    def _keys_are_str(self):
        return bool(self.keys_are_str)

    def _is_ordered(self):
        return bool(self.ordered)

    def _expiry(self, key):
        """When the key expires, in microseconds since 1970; 0: never, or it is not there."""
        cdef Record r
        cdef u64 time = 0
        self.need_clean()
        cdef int status = self.look_up(key, &r)
        if status == PMKV_OK:
            status = expiry_of(self.pool, self.t, &r, &time)
        if status < 0:
            self.e.fail(status)
        return time

    def __bool__(self):
        return self.entries() != 0

    def view(self, key):
        """A read-only memoryview of the value where it lies in the pool, without a copy.

        Valid and unchanged for as long as anyone holds it, also when the key is overwritten or
        deleted; the store cannot be closed meanwhile.  A value larger than a page begins at a
        page's start.  Of a value under a codec, and of one that is not in the pool yet, it is a view of
        bytes in DRAM.  Raises NotFoundError, CorruptedError, CodecError.
        """
        cdef Record r
        cdef _View view = _View.__new__(_View)   # now: it may set off the collector, and that anything
        cdef Dirty dirty
        if self.e.buffer.count and self.plain:
            self.need_table()
            dirty = self.e.buffer.find(self.id, as_bytes(key, True))
            if dirty is not None and not self.is_dirty(dirty):
                raise NotFoundError(key)
            if dirty is not None:
                return memoryview(dirty.value)
        if self.e.running:
            self.e.wait_for_writer()
        if self.look_up(key, &r) != PMKV_OK:
            raise NotFoundError(key)
        if r.flags >= RECORD_CODED:
            return memoryview(self.bytes_of(&r))
        if self.verify and (r.extent_place == 0 or self.verify == VERIFY_VIEWS):
            if record_verify(self.pool, &r) != PMKV_OK:
                self.damaged_value(self.pool.fault.site, self.pool.fault.place, &r)
        else:
            self.need_whole_body(&r)
        if self.t != NULL and record_commit(&r) == self.t.commit:
            return memoryview(self.bytes_of(&r))      # an abort takes its record back: no pin would hold it
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
                self.let_others_run()
            if not self.plain or self.loads is not None or self.e.buffer.count:
                for i in range(first, min(first + TURN, n)):
                    found[i] = self.get(wanted[i], default)
            else:
                self.get_turn(wanted, found, first, min(first + TURN, n))
        return found

    @final
    cdef int get_turn(self, list wanted, list found, Py_ssize_t first, Py_ssize_t end) except -1:
        """A pipeline of four steps: key objects, buckets, records, values; each with LAG keys in a short loop.

        A step fetches what the next will read, so that a dozen misses are always under way while the
        processor works, and the translations of their addresses overlap (docs/decisions/0025).
        """
        cdef Probe probes[RING]
        cdef Bytes keys[RING]
        cdef Record r
        cdef Py_ssize_t start, i, located = first, done = first
        cdef u64 before = pmkv_atomic_load(&self.pool.apply_sequence)
        cdef int at, status
        try:
            for start in range(first, end + 3 * LAG, LAG):
                for i in range(start, min(start + LAG, end)):
                    pmkv_prefetch(PyList_GET_ITEM(wanted, i))
                    pmkv_prefetch(<char*>PyList_GET_ITEM(wanted, i) + 47)
                for i in range(located, min(start, end)):
                    at = i % RING
                    read_bytes(<object>PyList_GET_ITEM(wanted, i), &keys[at], True)
                    located += 1
                    status = mapping_locate(self.pool, NULL, self.mapping,
                                            mapping_hash(self.pool, keys[at].data, keys[at].size), &probes[at])
                    if status != PMKV_OK:
                        self.e.fail(status)
                for i in range(max(first, start - LAG), min(start, end)):
                    mapping_prefetch_bucket(self.pool, &probes[i % RING])
                # A commit may come between (a large value gives the GIL up): what was located may be cut off then.
                for i in range(max(first, start - 2 * LAG), min(start - LAG, end)):
                    if before == pmkv_atomic_load(&self.pool.apply_sequence):
                        mapping_prefetch_record(self.pool, &probes[i % RING])
                for i in range(done, min(start - 2 * LAG, end)):
                    at = i % RING
                    status = PMKV_NOT_FOUND
                    if before == pmkv_atomic_load(&self.pool.apply_sequence):
                        status = mapping_match(self.pool, NULL, &probes[at], keys[at].data, keys[at].size, &r)
                    if status != PMKV_OK and (before & 1 or before != pmkv_atomic_load(&self.pool.apply_sequence)):
                        status = mapping_get(self.pool, self.mapping, keys[at].data, keys[at].size, &r)
                    if status == PMKV_OK:
                        if not (r.flags & PMKV_RECORD_EXPIRY and self.has_expired(&r, self.now())):
                            found[i] = self.value_of(&r)
                            if r.flags >= RECORD_CODED:   # to decode lets others run
                                self.need_table()
                    elif status < 0:
                        self.fail_at(wanted[i], status)
                    release(&keys[at])
                    done += 1
        finally:
            while done < located:
                release(&keys[done % RING])
                done += 1
        return 0
