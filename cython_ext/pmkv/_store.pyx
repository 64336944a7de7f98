"""_store.pyx (L6): the store as Python sees it: arguments, threads, exceptions, views.

May know: everything below.  Nothing below knows Python.

Threads
  1. There is one writer at a time.  A write that is sure to be short holds the interpreter's
     lock (GIL) from beginning to end, and that is its lock.  Any other takes `lock`, says so in
     `writing`, and gives it back only while it holds the GIL again.  So whoever looks something
     up under the GIL sees no space reused: what a commit frees is reused by the next one, which
     cannot begin before the reader is done.
  2. Readers that release the GIL (large values) pin the record that they copy.  Pins do not
     change while a writer may be running without the GIL: a view waits for it first, and what
     is dropped meanwhile is dropped when it is done.
  3. What may wait or take long (a sync, a large value, a batch, growth) releases the GIL.
"""
from cython cimport final
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_CheckSignals
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.pythread cimport (
    NOWAIT_LOCK, WAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock,
    PyThread_release_lock, PyThread_type_lock,
)
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_CheckExact
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset
from pmkv._check cimport PROBLEMS_KEPT, Report, check_pool, problem_text
from pmkv._core cimport *
from pmkv._mapping cimport (
    LEAF_SLOTS, Cursor, Probe, mapping_get, mapping_hash, mapping_locate, mapping_match,
    mapping_next_leaf, mapping_prefetch_bucket, mapping_prefetch_record,
)
from pmkv._pool cimport (
    Geometry, Pool, file_offset, file_size_for, pool_format, pool_pages_within, pool_probe_sync, pool_unmap, section_bytes,
)
from pmkv._records cimport Record, crc32c, record_body_is_whole, record_parse, record_value_is_whole, record_verify
from pmkv._recovery cimport recovery_open
from pmkv._redo cimport Txn, redo_checkpoint, txn_abort, txn_begin, txn_free, txn_init
from pmkv._space cimport Pins, pins_add, pins_drop, pins_free, space_commit
from pmkv._transaction cimport (
    PUT_ALWAYS, PUT_EXISTING, PUT_NEW, Item, PutMode, transaction_clear, transaction_delete,
    transaction_delete_all, transaction_find, transaction_put, transaction_put_all,
)

import os
from itertools import islice

from pmkv._errors import (
    ClosedError, CorruptedError, Error, InvalidKeyError, InvalidValueError, KeyTypeError, LockError,
    NotFoundError, PoolFullError, ReadonlyError, ValueTypeError, VersionMismatchError,
)

cdef extern from *:
    """
    #define PMKV_TEXT_SITE_(name, type, meaning) meaning,
    static const char *const site_texts[] = {PMKV_SITES(PMKV_TEXT_SITE_)};
    """
    const char* const site_texts[]

cdef extern from "recycle.h":
    ctypedef struct pmkv_spares:
        pass
    object pmkv_bytes(pmkv_spares* s, const char* data, Py_ssize_t size)
    void pmkv_spares_clear(pmkv_spares* s)

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object unicode, Py_ssize_t* size) except NULL

cdef enum:
    LARGE = 32 << 10              # bytes from which copying is worth releasing the GIL
    LEAST_PAGES = 64
    SLICE = 64                    # keys of a commit that is sure to fit the ring
    LAG = 12                      # keys between two steps of get_many's pipeline
    RING = 64                     # at least 3 * LAG of them are under way
    TURN = 4096                   # keys after which it lets other threads run
    PAGES_NEAR = 64               # a small put may need so many pages: closer to the end, it may have to grow

cdef enum VerifyMode:
    VERIFY_NOTHING, VERIFY_READS, VERIFY_VIEWS

cdef u64 NAMESPACE = ROOT_DEFAULT_NAMESPACE
cdef u64 MAPPING = ROOT_DEFAULT_NAMESPACE + NAMESPACE_MAPPING
cdef object MISSING = object()


# ---- arguments -----------------------------------------------------------------------------

cdef struct Bytes:
    const char* data
    u64 size
    bint held
    Py_buffer buffer


cdef inline int read_bytes(object given, Bytes* b, bint is_key) except -1:
    """The bytes of a key or value, where they lie.  Undone by release()."""
    cdef Py_ssize_t size
    b.held = False
    if PyBytes_CheckExact(given):
        b.data = PyBytes_AS_STRING(given)
        b.size = PyBytes_GET_SIZE(given)
    elif isinstance(given, str):
        try:
            b.data = PyUnicode_AsUTF8AndSize(given, &size)
        except UnicodeEncodeError as error:
            raise (InvalidKeyError if is_key else InvalidValueError)(f"not text that UTF-8 can hold: {error}") from None
        b.size = size
    elif PyObject_CheckBuffer(given):
        try:
            PyObject_GetBuffer(given, &b.buffer, PyBUF_SIMPLE)
        except BufferError as error:
            raise (KeyTypeError if is_key else ValueTypeError)(f"a buffer must be contiguous: {error}") from None
        b.data = <const char*>b.buffer.buf
        b.size = b.buffer.len
        b.held = True
    else:
        refuse_type(given, is_key)
    if b.size > (MAX_KEY_SIZE if is_key else MAX_VALUE_SIZE):
        release(b)
        refuse_size(b.size, is_key)
    return 0


cdef int refuse_type(object given, bint is_key) except -1:
    name = type(given).__name__
    if is_key:
        raise KeyTypeError(f"a key must be bytes-like or str, not {name}")
    raise ValueTypeError(f"a value must be bytes-like or str, not {name}; encode it first, for instance with msgpack")


cdef int refuse_size(u64 size, bint is_key) except -1:
    if is_key:
        raise InvalidKeyError(f"a key of {human(size)} is longer than the limit of {human(MAX_KEY_SIZE)}; "
                              "use its hash as the key and put the long text into the value")
    raise InvalidValueError(f"a value of {human(size)} is larger than the limit of {human(MAX_VALUE_SIZE)}; "
                            "divide it over several keys")


cdef inline void release(Bytes* b) noexcept:
    if b.held:
        PyBuffer_Release(&b.buffer)
        b.held = False


cdef int need_text(object key) except -1:
    """In a store whose keys are text, a key given as bytes must be UTF-8 too, or it could not be returned."""
    if not isinstance(key, str):
        try:
            bytes(key).decode()
        except UnicodeDecodeError as error:
            raise InvalidKeyError(f"the keys of this store are text, and these bytes are not UTF-8: {error}") from None
        except TypeError:
            refuse_type(key, True)
    return 0


def human(size):
    """A size in bytes with a unit: 1536 -> '1.5 KiB'."""
    size = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


# ---- views ------------------------------------------------------------------------------------

@final
cdef class _View:
    """Exports a value where it lies, and pins its record for as long as anyone holds it."""
    cdef Core store
    cdef u64 place
    cdef const char* data
    cdef u64 size

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void*>self.data, self.size, 1, flags)

    def __dealloc__(self):
        if self.store is not None and self.place:
            self.store.unpin(self.place)
            self.store.views -= 1


# ---- iteration ----------------------------------------------------------------------------------

cdef enum Shows:
    SHOW_KEYS, SHOW_VALUES, SHOW_ITEMS


@final
cdef class _Iterator:
    """Walks the mapping leaf by leaf.  A key put or deleted meanwhile is an error, as for a dict."""
    cdef Core store
    cdef Shows shows
    cdef Cursor cursor
    cdef u64 leaf
    cdef u64 changes
    cdef int slot

    def __iter__(self):
        return self

    cdef u64 next_record(self) except? 0:
        """The place of the next record, 0 at the end."""
        cdef u64 slots[LEAF_SLOTS]
        cdef u64 word
        cdef int status
        while True:
            while self.leaf and self.slot < LEAF_SLOTS:   # read now: an overwrite changes the slot
                word = pmkv_load(&self.store.pool.m, self.leaf + self.slot * 8)
                if not pmkv_is_sealed(word):
                    self.store.pool.fault.site = PMKV_CHECK_SEAL
                    self.store.pool.fault.place = self.leaf + self.slot * 8
                    self.store.fail(PMKV_CORRUPTED)
                self.slot += 1
                if word & GRANULE_MASK:
                    return (word & GRANULE_MASK) << GRANULE_SHIFT
            status = mapping_next_leaf(&self.store.pool, MAPPING, &self.cursor, slots, &self.leaf)
            if status != PMKV_OK:
                self.store.fail(status)
            self.slot = 0
            if self.leaf == 0:
                return 0

    def __next__(self):
        cdef u64 place
        cdef Record r
        self.store.need_open()
        if self.store.writing:
            self.store.wait_for_writer()
        if self.changes != self.store.changes:
            raise RuntimeError("the store changed size during iteration; iterate over list(db) to change it meanwhile")
        place = self.next_record()
        if place == 0:
            self.cursor.ended = True
            raise StopIteration
        if record_parse(&self.store.pool, place, &r) != PMKV_OK:
            self.store.fail(PMKV_CORRUPTED)
        if self.shows == SHOW_KEYS:
            self.store.need_whole_body(&r)
            return self.store.key_of(&r)
        value = self.store.value_of(&r)
        return value if self.shows == SHOW_VALUES else (self.store.key_of(&r), value)


# ---- the store ------------------------------------------------------------------------------------

cdef class Core:
    """One open pool.  pmkv.Store adds what is not hot, pmkv.open finds and locks the file."""
    cdef Pool pool
    cdef Txn txn
    cdef Pins pins
    cdef pmkv_spares key_spares
    cdef pmkv_spares value_spares
    cdef PyThread_type_lock lock
    cdef bint writing             # a writer that may release the GIL holds `lock`
    cdef bint usable              # open, and in the process that opened it
    cdef bint keys_are_str
    cdef VerifyMode verify
    cdef u64 changes              # commits that added or removed keys
    cdef u64 busy                 # readers that have released the GIL
    cdef u64 views
    cdef u64 replayed
    cdef u64 pop_prefix           # popitem goes on from here
    cdef list dropped             # places to unpin when the writer is done
    cdef pmkv_superblock superblock
    cdef str unusable_because
    cdef readonly str path
    cdef object __weakref__

    def __cinit__(self, *args, **kwargs):
        memset(&self.pool, 0, sizeof(Pool))
        memset(&self.txn, 0, sizeof(Txn))
        memset(&self.pins, 0, sizeof(Pins))
        self.pool.m.fd = -1
        self.unusable_because = "not opened"
        self.dropped = []
        self.lock = PyThread_allocate_lock()
        if self.lock == NULL:
            raise MemoryError

    def __dealloc__(self):
        pmkv_spares_clear(&self.key_spares)
        pmkv_spares_clear(&self.value_spares)
        if self.usable and self.pool.writable and self.pool.m.fd >= 0:
            redo_checkpoint(&self.pool)
        if self.pool.m.data != NULL:
            pool_unmap(&self.pool)
        txn_free(&self.txn)
        pins_free(&self.pins)
        if self.lock != NULL:
            PyThread_free_lock(self.lock)

    # -- opening, called by pmkv._open with an open, locked descriptor --

    def _set_medium(self, str path, int fd, int domain, bint synchronous, bint writable, u64 device_size,
                    max_size, u64 reserve_size, int verify):
        """Says what the file is.  `domain` is an index into DOMAINS."""
        self.path = path
        self.pool.m.fd = fd
        self.pool.m.domain = domain
        self.pool.m.line_size = pmkv_arch_line_size()
        self.pool.m.flush_op = pmkv_arch_flush_op() if domain == PMKV_DOMAIN_LINE else 0
        self.pool.synchronous = synchronous
        self.pool.writable = writable
        self.pool.device_size = device_size
        self.pool.reserved_pages = reserve_size // PAGE_SIZE
        self.pool.max_pages = 0 if max_size is None else <u64>max_size
        self.verify = <VerifyMode>verify

    @final
    cdef int set_limits(self, u64 max_size) except -1:
        """max_size in bytes becomes pages, now that the geometry is known."""
        if self.pool.max_pages == 0:
            self.pool.max_pages = max_size
        self.pool.max_pages = (pool_pages_within(&self.pool, self.pool.max_pages) if self.pool.max_pages
                               else <u64>1 << 32)
        return 0

    def _create(self, bytes uuid, bytes seed, bytes creator, u64 created_ns, u64 header_size, u64 ring_size,
                u64 section_pages, u64 initial_pages, u64 options):
        """Makes the open file an empty pool."""
        cdef Geometry g
        cdef pmkv_superblock* s = &self.superblock
        cdef int status
        cdef u64 max_size = self.pool.max_pages
        g.header_size, g.ring_size, g.section_pages, g.initial_pages = header_size, ring_size, section_pages, initial_pages
        g.options = options
        memset(s, 0, sizeof(pmkv_superblock))
        memcpy(s.uuid, <const char*>uuid, 16)
        memcpy(s.seed, <const char*>seed, 16)
        memcpy(s.creator, <const char*>creator, min(len(creator), 32))
        s.created_ns = created_ns
        s.max_size = max_size
        self.pool.header_size, self.pool.section_pages = header_size, section_pages
        self.set_limits(max_size)
        if self.pool.max_pages < LEAST_PAGES:
            raise ValueError(f"max_size={human(max_size)} is too small: a pool takes at least "
                             f"{human(file_size_for(&self.pool, LEAST_PAGES))}")
        g.initial_pages = min(initial_pages, self.pool.max_pages)
        with nogil:
            status = pool_format(&self.pool, &g, s)
        pool_unmap(&self.pool)
        if status != PMKV_OK:
            self.fail(status)

    def _attach(self, u64 file_size):
        """Maps and recovers the pool."""
        cdef u64 reserve_pages = self.pool.reserved_pages
        cdef bint synchronous = self.pool.synchronous
        cdef int status
        with nogil:
            status = recovery_open(&self.pool, file_size, reserve_pages, synchronous, &self.superblock, &self.replayed)
        if status == PMKV_OK:
            self.set_limits(self.superblock.max_size)
            status = txn_init(&self.txn, &self.pool)
        if status != PMKV_OK:
            self.fail(status)
        self.pins.ripe = pmkv_load(&self.pool.m, ROOT_LIMBO_COUNT) & SEAL_MASK
        self.keys_are_str = (self._options() & PMKV_OPTION_KEYS_STR) != 0
        self.usable = True
        self.unusable_because = None

    def _options(self):
        return pmkv_load(&self.pool.m, NAMESPACE + NAMESPACE_OPTIONS) & SEAL_MASK

    # -- states and errors --

    @final
    cdef int need_open(self) except -1:
        if not self.usable:
            raise ClosedError(f"{self.path}: {self.unusable_because}")
        return 0

    @final
    cdef int fail(self, int status) except -1:
        """Raises the exception of a status."""
        cdef int code = self.pool.fault.os_error
        where = f"at byte {file_offset(&self.pool, self.pool.fault.place):#x} of the file"
        if status == PMKV_NO_MEMORY:
            raise MemoryError(f"{self.path}: out of memory")
        if status == PMKV_FULL and code:
            raise PoolFullError(code, f"no room to grow beyond {human(self._file_size())}: {os.strerror(code)}; "
                                      "nothing was lost, reads and deletes go on; delete keys or make room", self.path)
        if status == PMKV_FULL:
            raise PoolFullError(28, f"max_size reached at {human(self._file_size())}; nothing was lost, reads and "
                                    "deletes go on; delete keys, or open with a larger max_size", self.path)
        if status == PMKV_ADDRESS_SPACE:
            raise PoolFullError(12, "the address range reserved for this pool is used up; close it and open it "
                                    "again to reserve more", self.path)
        if status == PMKV_OS_ERROR and self.pool.failed:
            raise OSError(code, f"writing failed: {os.strerror(code)}; whether the last commit happened is known "
                                "only after the pool is closed and opened again", self.path)
        if status == PMKV_OS_ERROR:
            raise OSError(code, os.strerror(code), self.path)
        if status == PMKV_FOREIGN:
            raise CorruptedError(f"{self.path}: not a pmkv pool (a foreign file: it has no superblock); it was not "
                                 "touched; give another path (flag='n' would replace the file, and lose it)")
        if status == PMKV_NEWER:
            raise VersionMismatchError(f"{self.path}: made by a newer pmkv (format {self.superblock.version}, "
                                       f"this one reads {PMKV_FORMAT_VERSION}); it was not touched; upgrade pmkv")
        if status == PMKV_TRUNCATED:
            raise CorruptedError(f"{self.path}: truncated: the file is shorter than its header says; it was not "
                                 "touched; restore it from a copy")
        if status == PMKV_TOO_LARGE:
            raise InvalidValueError(f"{self.path}: too much for one commit (16 million changed words); divide it")
        if status == PMKV_COLLISIONS:
            raise InvalidKeyError(f"{self.path}: too many keys share this key's hash")
        raise CorruptedError(f"{self.path}: damaged: {site_texts[self.pool.fault.site].decode()} does not fit "
                             f"{where}; check() lists all damage")

    @final
    cdef int need_whole_body(self, const Record* r) except -1:
        if self.verify and not record_body_is_whole(&self.pool, r):
            self.damaged(PMKV_CHECK_RECORD, r.place)
        return 0

    @final
    cdef int damaged(self, int site, u64 place) except -1:
        self.pool.fault.site, self.pool.fault.place = site, place
        return self.fail(PMKV_CORRUPTED)

    # -- reading --

    @final
    cdef object key_of(self, const Record* r):
        if self.keys_are_str:
            return r.key[:r.key_size].decode()
        return pmkv_bytes(&self.key_spares, r.key, r.key_size)

    @final
    cdef inline object value_of(self, const Record* r):
        """The value as bytes: one copy, its checksum tested."""
        if self.verify and not record_body_is_whole(&self.pool, r):
            self.damaged(PMKV_CHECK_RECORD, r.place)
        if r.extent_place == 0:
            return pmkv_bytes(&self.value_spares, r.value, r.value_size)
        return self.large_value_of(r)

    @final
    cdef object large_value_of(self, const Record* r):
        cdef bytes value = PyBytes_FromStringAndSize(NULL, r.value_size)
        cdef char* out = PyBytes_AS_STRING(value)
        cdef bint whole = True
        if r.value_size >= LARGE and not self.writing:
            if pins_add(&self.pins, r.place) != PMKV_OK:
                raise MemoryError
            self.busy += 1
            with nogil:
                memcpy(out, r.value, r.value_size)
                whole = not self.verify or crc32c(out, r.value_size) == r.value_crc
            self.busy -= 1
            self.unpin(r.place)
        else:
            memcpy(out, r.value, r.value_size)
            whole = not self.verify or crc32c(out, r.value_size) == r.value_crc
        if not whole:
            self.pool.fault.site, self.pool.fault.place = PMKV_CHECK_VALUE, r.extent_place
            self.fail(PMKV_CORRUPTED)
        return value

    @final
    cdef inline int look_up(self, object key, Record* r) except -100:
        """OK or NOT_FOUND."""
        cdef Bytes k
        cdef int status
        if not self.usable:
            self.need_open()
        read_bytes(key, &k, True)
        status = mapping_get(&self.pool, MAPPING, k.data, k.size, r)
        release(&k)
        if status < 0:
            self.fail(status)
        return status

    def __getitem__(self, key):
        """The value of `key` as bytes, one copy, its checksum tested.  Raises NotFoundError (KeyError), CorruptedError."""
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

    def __len__(self):
        cdef u64 word
        self.need_open()
        word = pmkv_load(&self.pool.m, NAMESPACE + NAMESPACE_ENTRY_COUNT)
        if not pmkv_is_sealed(word):
            self.pool.fault.site, self.pool.fault.place = PMKV_CHECK_SEAL, NAMESPACE + NAMESPACE_ENTRY_COUNT
            self.fail(PMKV_CORRUPTED)
        return word & SEAL_MASK

    def __bool__(self):
        return self.__len__() != 0

    def view(self, key):
        """A read-only memoryview of the value where it lies in the pool, without a copy.

        Valid and unchanged for as long as anyone holds it, also when the key is overwritten or
        deleted; the store cannot be closed meanwhile.  A value larger than a page begins at a
        page's start.  Raises NotFoundError, CorruptedError.
        """
        cdef Record r
        cdef _View view
        if self.writing:
            self.wait_for_writer()
        if self.look_up(key, &r) != PMKV_OK:
            raise NotFoundError(key)
        if self.verify and (r.extent_place == 0 or self.verify == VERIFY_VIEWS):
            if record_verify(&self.pool, &r) != PMKV_OK:
                self.fail(PMKV_CORRUPTED)
        elif self.verify:
            self.need_whole_body(&r)
        view = _View.__new__(_View)
        if pins_add(&self.pins, r.place) != PMKV_OK:
            raise MemoryError
        view.store = self
        view.place = r.place
        view.data = r.value
        view.size = r.value_size
        self.views += 1
        return PyMemoryView_FromObject(view)

    def get_many(self, keys, default=None):
        """The values of the keys, in their order, `default` for a missing one.

        The misses of neighbouring keys overlap, so this is several times as fast as as many get().
        """
        cdef list wanted = list_of(keys, "get_many")
        cdef Py_ssize_t n = PyList_GET_SIZE(wanted), first
        cdef list found = [default] * n
        self.need_open()
        for first in range(0, n, TURN):
            if first:
                with nogil:       # let other threads run, and Ctrl-C through
                    pass
                PyErr_CheckSignals()
                self.need_open()
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
                    status = mapping_locate(&self.pool, NULL, MAPPING,
                                            mapping_hash(&self.pool, keys[at].data, keys[at].size), &probes[at])
                    if status != PMKV_OK:
                        self.fail(status)
                    mapping_prefetch_bucket(&self.pool, &probes[at])
                if first <= i - 2 * LAG < end:
                    mapping_prefetch_record(&self.pool, &probes[(i - 2 * LAG) % RING])
                if i >= first + 3 * LAG:
                    at = done % RING
                    status = PMKV_NOT_FOUND
                    if before == pmkv_atomic_load(&self.pool.apply_sequence):
                        status = mapping_match(&self.pool, NULL, &probes[at], keys[at].data, keys[at].size, &r)
                    if status != PMKV_OK and (before & 1 or before != pmkv_atomic_load(&self.pool.apply_sequence)):
                        # A commit came between: what was located may be gone.
                        status = mapping_get(&self.pool, MAPPING, keys[at].data, keys[at].size, &r)
                    if status == PMKV_OK:
                        found[done] = self.value_of(&r)
                    elif status < 0:
                        self.fail(status)
                    release(&keys[at])
                    done += 1
        finally:
            while done < located:
                release(&keys[done % RING])
                done += 1
        return 0

    # -- iterating --

    def _iterate(self, int shows):
        cdef _Iterator it
        self.need_open()
        it = _Iterator.__new__(_Iterator)
        it.store = self
        it.shows = <Shows>shows
        it.cursor.prefix = 0
        it.cursor.ended = False
        it.leaf = 0
        it.slot = 0
        it.changes = self.changes
        return it

    def __iter__(self):
        return self._iterate(SHOW_KEYS)

    # -- writing --

    @final
    cdef int begin(self, bint quick) except -1:
        """Becomes the writer and begins a transaction; a quick one keeps the GIL until end()."""
        if not self.usable:
            self.need_open()
        if not self.pool.writable:
            raise ReadonlyError(f"{self.path}: opened with flag='r', which only reads; open it with 'w' or 'c'")
        if not quick or self.writing:
            self.take_lock()
            if not self.usable:
                self.give_lock()
                self.need_open()
        txn_begin(&self.txn)
        return 0

    @final
    cdef void take_lock(self) noexcept:
        if not PyThread_acquire_lock(self.lock, NOWAIT_LOCK):
            with nogil:
                PyThread_acquire_lock(self.lock, WAIT_LOCK)
        self.writing = True

    @final
    cdef void give_lock(self) noexcept:
        self.writing = False
        while self.dropped:
            pins_drop(&self.pins, self.dropped.pop())
        PyThread_release_lock(self.lock)

    @final
    cdef int wait_for_writer(self) except -1:
        """Until no write runs without the GIL; until this thread releases it, none begins."""
        while self.writing:
            self.take_lock()
            self.give_lock()
        return self.need_open()

    @final
    cdef void unpin(self, u64 place) noexcept:
        if self.writing:
            self.dropped.append(place)
        else:
            pins_drop(&self.pins, place)

    @final
    cdef int end(self, int status) except -1:
        """Lets the next writer in; raises what the transaction ended with."""
        if self.writing:
            self.give_lock()
        if status < 0:
            self.fail(status)
        return 0

    @final
    cdef int abandon(self) except -1:
        txn_abort(&self.txn)
        if self.writing:
            self.give_lock()
        return 0

    @final
    cdef inline bint may_wait(self, u64 size) noexcept:
        """Whether a write of so many bytes may take long: a sync, a long copy, growth."""
        if size >= LARGE or self.pool.m.domain == PMKV_DOMAIN_PAGE or not self.usable:
            return True
        return (pmkv_load(&self.pool.m, ROOT_FRONTIER) & SEAL_MASK) + PAGES_NEAR > self.pool.file_pages

    @final
    cdef int commit(self, int status) noexcept:
        """Ends a transaction whose steps gave `status`: commits it, or forgets it."""
        if status != PMKV_OK:
            txn_abort(&self.txn)
        elif self.writing:
            with nogil:
                status = space_commit(&self.txn, &self.pins)
        else:
            status = space_commit(&self.txn, &self.pins)
        return status

    @final
    cdef int store(self, object key, object value, PutMode mode) except -100:
        """OK, EXISTS or NOT_FOUND."""
        cdef Bytes v
        cdef Bytes k
        cdef Item item
        cdef int status
        cdef u64 entries
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
            entries = pmkv_load(&self.pool.m, NAMESPACE + NAMESPACE_ENTRY_COUNT)
            if self.writing:
                with nogil:
                    status = transaction_put(&self.txn, &self.pins, NAMESPACE, &item, mode)
            else:
                status = transaction_put(&self.txn, &self.pins, NAMESPACE, &item, mode)
            status = self.commit(status)
            if status == PMKV_FULL and self.writing and self.drain_for_room():
                with nogil:
                    status = transaction_put(&self.txn, &self.pins, NAMESPACE, &item, mode)
                status = self.commit(status)
            self.changes += entries != pmkv_load(&self.pool.m, NAMESPACE + NAMESPACE_ENTRY_COUNT)
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
            status = transaction_delete(&self.txn, &self.pins, NAMESPACE, k.data, k.size)
            status = self.commit(status)
            self.changes += status == PMKV_OK
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
                status = transaction_find(&self.txn, NAMESPACE, k.data, k.size, &probe, &r)
                old = self.value_of(&r) if status == PMKV_OK else default
            except BaseException:
                self.abandon()
                raise
            if value is not MISSING and status >= 0:
                item.key, item.key_size, item.value, item.value_size = k.data, k.size, v.data, v.size
                item.may_change = v.held
                self.changes += status == PMKV_NOT_FOUND
                with nogil:
                    status = transaction_put(&self.txn, &self.pins, NAMESPACE, &item, PUT_ALWAYS)
            elif status == PMKV_OK:
                self.changes += 1
                status = transaction_delete(&self.txn, &self.pins, NAMESPACE, k.data, k.size)
            self.end(self.commit(status))
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
            status = transaction_find(&self.txn, NAMESPACE, k.data, k.size, &probe, &r)
            if status == PMKV_OK:
                with nogil:
                    status = record_verify(&self.pool, &r)
                    same = status == PMKV_OK and r.value_size == e.size and memcmp(r.value, e.data, e.size) == 0
                same = same and expected is not None
            else:
                same = status == PMKV_NOT_FOUND and expected is None
            if same and new is not None:
                self.changes += status == PMKV_NOT_FOUND
                item.key, item.key_size, item.value, item.value_size = k.data, k.size, n.data, n.size
                item.may_change = n.held
                with nogil:
                    status = transaction_put(&self.txn, &self.pins, NAMESPACE, &item, PUT_ALWAYS)
            elif same and status == PMKV_OK:
                self.changes += 1
                status = transaction_delete(&self.txn, &self.pins, NAMESPACE, k.data, k.size)
            self.end(self.commit(status))
        finally:
            release(&k)
            release(&e)
            release(&n)
        return same

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
                status = mapping_next_leaf(&self.pool, MAPPING, &cursor, slots, &leaf)
                if status != PMKV_OK:
                    self.fail(status)
                for i in range(LEAF_SLOTS if leaf else 0):
                    if slots[i] & GRANULE_MASK:
                        if record_parse(&self.pool, (slots[i] & GRANULE_MASK) << GRANULE_SHIFT, &r) != PMKV_OK:
                            self.fail(PMKV_CORRUPTED)
                        key, value = self.key_of(&r), self.value_of(&r)
                        break
                else:
                    if leaf == 0 or cursor.ended:
                        rounds += 1
                        cursor.prefix, cursor.ended = 0, False
                    continue
                break
            else:
                raise NotFoundError("popitem(): the store is empty")
        except BaseException:
            self.abandon()
            raise
        self.changes += 1
        status = transaction_delete(&self.txn, &self.pins, NAMESPACE, r.key, r.key_size)
        self.end(self.commit(status))
        return key, value         # made here: a tuple may set off the collector, and it anything

    def clear(self):
        """Deletes every key, in one commit."""
        cdef int status
        self.begin(False)
        with nogil:
            status = transaction_clear(&self.txn, &self.pins, NAMESPACE)
            if status == PMKV_OK:
                status = space_commit(&self.txn, &self.pins)
            else:
                txn_abort(&self.txn)
        self.changes += 1
        try:
            self.end(status)
        except (PoolFullError, InvalidValueError):   # no room for the log of one commit
            while self.__len__():
                self.delete_many(list(islice(self, TURN)))

    def put_many(self, items):
        """Stores all pairs of a mapping or an iterable, in one commit; how many there were.

        All of them or, on any error, none.  Of a key that comes twice the last value counts.
        """
        cdef list pairs = list(items.items() if hasattr(items, "items") else items)
        cdef _Batch batch = _Batch.__new__(_Batch, len(pairs), self.keys_are_str)
        cdef int status
        cdef u64 entries
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
        entries = pmkv_load(&self.pool.m, NAMESPACE + NAMESPACE_ENTRY_COUNT)
        status = self.put_batch(batch)
        if status == PMKV_FULL and self.drain_for_room():
            status = self.put_batch(batch)
        self.changes += entries != pmkv_load(&self.pool.m, NAMESPACE + NAMESPACE_ENTRY_COUNT)
        self.end(status)
        return batch.count

    @final
    cdef int put_batch(self, _Batch batch) noexcept:
        cdef int status
        with nogil:
            status = transaction_put_all(&self.txn, &self.pins, NAMESPACE, batch.items, batch.count)
        return self.commit(status)

    @final
    cdef bint drain_for_room(self) noexcept:
        txn_begin(&self.txn)
        return self.drain()

    @final
    cdef int delete_batch(self, _Batch batch, u64 first, u64 count, u64* deleted) noexcept:
        cdef int status
        with nogil:
            status = transaction_delete_all(&self.txn, &self.pins, NAMESPACE, batch.items + first, count, deleted)
        return self.commit(status)

    def delete_many(self, keys):
        """Deletes the keys, in one commit; how many were there.

        Where the pool is so full that the log of a large commit has no room, in several.
        """
        cdef list wanted = list_of(keys, "delete_many")
        cdef _Batch batch = _Batch.__new__(_Batch, len(wanted), False)
        cdef u64 deleted = 0, total = 0, first
        cdef int status
        for key in wanted:
            batch.append_key(key)
        self.begin(False)
        status = self.delete_batch(batch, 0, batch.count, &total)
        if status == PMKV_FULL:
            status, total, first = PMKV_OK, 0, 0
            while first < batch.count and status >= 0:
                txn_begin(&self.txn)
                status = self.delete_batch(batch, first, min(<u64>SLICE, batch.count - first), &deleted)
                total += deleted
                first += SLICE
        self.changes += total != 0
        self.end(status)
        return total

    # -- upkeep --

    def sync(self):
        """Empties the redo ring, so that the next open has nothing to replay.

        Every write was durable when it returned already.  Raises OSError.
        """
        cdef int status
        self.begin(False)
        self.drain()
        with nogil:
            status = redo_checkpoint(&self.pool)
        txn_abort(&self.txn)
        self.end(status)

    @final
    cdef bint drain(self) noexcept:
        """Frees what was retired while views showed it and none does now; False if that is nothing.

        For a writer that holds the lock and whose transaction is empty.
        """
        cdef bint ripe = self.pins.ripe != 0 and self.txn.status == PMKV_OK
        if ripe:
            self.pins.drain_all = True
            with nogil:
                ripe = space_commit(&self.txn, &self.pins) == PMKV_OK
            self.pins.drain_all = False
            txn_begin(&self.txn)
        return ripe

    flush = sync

    def check(self, *, bint values=True):
        """Reads the whole pool and accounts for it; what is wrong, as texts, so [] is a sound pool.

        values=False leaves out the checksums of values larger than a page.
        Takes 33 bytes of DRAM a page while it runs, and the writer's lock.
        """
        cdef Report* report
        cdef int status
        cdef u64 i
        self.need_open()
        report = <Report*>malloc(sizeof(Report))
        if report == NULL:
            raise MemoryError
        if self.pool.writable:
            self.begin(False)
        else:
            self.busy += 1
        with nogil:
            status = check_pool(&self.pool, values, report)
        if self.pool.writable:
            self.abandon()
        else:
            self.busy -= 1
        try:
            if status != PMKV_OK:
                self.fail(status)
            problems = [f"{problem_text(report.problems[i].what).decode()} ({place_text(report.problems[i].place)})"
                        for i in range(min(report.problem_count, <u64>PROBLEMS_KEPT))]
            if report.problem_count > PROBLEMS_KEPT:
                problems.append(f"and {report.problem_count - PROBLEMS_KEPT} more")
            return problems
        finally:
            free(report)

    def _file_size(self):
        return file_size_for(&self.pool, self.pool.file_pages)

    def _root(self, u64 place):
        return pmkv_load(&self.pool.m, place) & SEAL_MASK

    def stat(self):
        """Counts and sizes in bytes, at once at any size: see pmkv.Stat."""
        cdef u64 frontier, unused, free_pages
        self.need_open()
        frontier = self._root(ROOT_FRONTIER)
        free_pages = self._root(ROOT_FREE_PAGE_COUNT)
        unused = self.pool.file_pages - frontier
        return {
            "entries": self._root(NAMESPACE + NAMESPACE_ENTRY_COUNT),
            "live_bytes": self._root(NAMESPACE + NAMESPACE_LIVE_BYTES),
            "used_bytes": (frontier - free_pages) * (PAGE_SIZE + 64),
            "free_bytes": (free_pages + unused) * PAGE_SIZE,
            "file_size": self._file_size(),
            "pages": self.pool.file_pages,
            "free_pages": free_pages + unused,
            "limbo_entries": self._root(ROOT_LIMBO_COUNT),
            "commit": self.pool.head,
        }

    def memory(self):
        """DRAM that this handle holds, in bytes: see pmkv.Memory.  Nothing in it grows with the keys."""
        cdef u64 transaction, pinned
        self.need_open()
        transaction = (self.txn.word_capacity * 16 + (self.txn.table_mask + 1) * 8 + self.txn.range_capacity * 16
                       + self.txn.freed_capacity * 8 + self.txn.entry_capacity)
        pinned = (self.pins.mask + 1) * 16 if self.pins.pin != NULL else 0
        return {"handle_bytes": sizeof(Pool) + sizeof(Txn) + sizeof(Pins) + sizeof(pmkv_superblock),
                "transaction_bytes": transaction, "pin_bytes": pinned, "views": self.views,
                "cache_bytes": 0, "buffer_bytes": 0,
                "total_bytes": transaction + pinned + sizeof(Pool) + sizeof(Txn) + sizeof(Pins) + sizeof(pmkv_superblock)}

    def _info(self):
        self.need_open()
        s = self.superblock
        return {"file_size": self._file_size(), "format_version": s.version,
                "uuid": (<const char*>s.uuid)[:16].hex(), "creator": (<const char*>s.creator)[:32].rstrip(b"\0").decode(),
                "created_ns": s.created_ns, "page_size": PAGE_SIZE, "section_size": section_bytes(&self.pool),
                "ring_size": s.ring_size, "max_size": s.max_size or None, "flush": pmkv_arch_flush_name(self.pool.m.flush_op).decode(),
                "map_sync": bool(self.pool.synchronous), "writable": bool(self.pool.writable), "replayed_commits": self.replayed}

    # -- closing --

    @property
    def closed(self):
        return not self.usable

    def _close(self):
        """Unmaps the pool.  BufferError while views are alive; nothing to do if it is closed."""
        cdef int status = PMKV_OK
        if not self.usable:
            return False
        if self.views:
            raise BufferError(f"{self.path}: {self.views} view{'s are' if self.views > 1 else ' is'} alive; "
                              "release them (view.release(), or drop what holds them) before closing")
        self.usable = False           # no new use from here on; wait for those under way
        self.unusable_because = "the store is closed"
        self.take_lock()
        try:
            while self.busy:
                with nogil:
                    usleep(100)
            if self.pool.writable:
                with nogil:
                    txn_begin(&self.txn)
                    self.pins.drain_all = True
                    if self.txn.status == PMKV_OK and self.pins.ripe:
                        space_commit(&self.txn, &self.pins)
                    txn_abort(&self.txn)
                    status = redo_checkpoint(&self.pool)
            pool_unmap(&self.pool)
            txn_free(&self.txn)
        finally:
            self.give_lock()
        if status == PMKV_OS_ERROR:
            self.fail(status)
        return True

    def _detach(self):
        """The descriptor is about to be closed: nothing may use its number any more."""
        self.usable = False
        self.pool.m.fd = -1

    def _forked(self):
        """In a child: the pool stays its parent's."""
        self.usable = False
        self.unusable_because = "opened by the parent before a fork; open the pool again in this process"


cdef extern from "unistd.h" nogil:
    int usleep(unsigned)


cdef str place_text(u64 place):
    if place & DESCRIPTOR_SPACE:
        return f"descriptor of page {(place ^ DESCRIPTOR_SPACE) // 64}"
    return f"place {place:#x}"


@final
cdef class _Batch:
    """Keys and values of a batch: pointers into the caller's objects, which it keeps alive."""
    cdef Item* items
    cdef list objects
    cdef u64 count
    cdef bint keys_are_str

    def __cinit__(self, u64 capacity, bint keys_are_str):
        self.items = <Item*>calloc(capacity + 1, sizeof(Item))
        self.objects = []
        self.keys_are_str = keys_are_str
        if self.items == NULL:
            raise MemoryError

    cdef int keep(self, object given, bint is_key, const char** data, u64* size) except -1:
        cdef Bytes b
        if not PyBytes_CheckExact(given) and not isinstance(given, str) and PyObject_CheckBuffer(given):
            given = memoryview(given)     # kept in `objects`, it keeps the buffer exported
        read_bytes(given, &b, is_key)
        data[0], size[0] = b.data, b.size
        release(&b)
        self.objects.append(given)
        return 0

    cdef int append_key(self, object key) except -1:
        cdef Item* item = &self.items[self.count]
        self.keep(key, True, &item.key, &item.key_size)
        self.count += 1
        return 0

    cdef int append(self, object key, object value) except -1:
        cdef Item* item = &self.items[self.count]
        if self.keys_are_str:
            need_text(key)
        self.keep(value, False, &item.value, &item.value_size)
        item.may_change = not isinstance(value, (bytes, str))
        return self.append_key(key)

    def __dealloc__(self):
        free(self.items)


cdef list list_of(object keys, str name):
    if isinstance(keys, (bytes, str, bytearray, memoryview)):
        raise KeyTypeError(f"{name} takes several keys, in a list or another iterable, not one {type(keys).__name__}")
    return list(keys)


DOMAINS = ("process", "byte", "cacheline", "page")
SHOW = {"keys": SHOW_KEYS, "values": SHOW_VALUES, "items": SHOW_ITEMS}


def probe_sync(int fd):
    """Whether MAP_SYNC is granted on the open file: the file system is DAX, or it is a DAX device."""
    cdef bint granted
    with nogil:
        granted = pool_probe_sync(fd)
    return bool(granted)


def can_flush():
    """Whether this processor can flush a cache line, and how: 'clwb', ..., or 'none'."""
    return pmkv_arch_flush_name(pmkv_arch_flush_op()).decode()
