"""_engine.pyx (L6): an open pool: who may write, what errors become, opening and closing.

May know: everything below, and the errors of the package.  Not keys or values.

Threads
  1. There is one writer at a time.  A write that is sure to be short holds the interpreter's
     lock (GIL) from beginning to end, and that is its lock, if nobody has `lock`.  Any other takes
     `lock`: for one call, or for as long as a transaction is open.
  2. A step that may run without the GIL holds `turn` besides.  So whoever looks something up
     under the GIL sees no space reused: what a commit frees is reused by the next one, and the GIL
     is taken between two commits, so the reader is done by then.
  3. Readers that release the GIL (large values) pin the record that they copy.  Pins do not
     change during a step that may run without the GIL: a view waits for it first, and what is
     dropped meanwhile is dropped when it is done.  The same holds for moments.
  4. Nobody becomes the writer while the buffer holds anything: it is written back first, so what is
     durable is always a prefix of what was written.  Before a moment begins, what was dirty when it was
     asked for is.  What is written lazily waits for a writer, but not for a writeback; and gives way to
     who waits for an empty buffer, but only for a while, so that nobody waits for who waits for him.
  5. What may wait or take long (a sync, a large value, a batch, growth) releases the GIL.
"""
from cython cimport final, no_gc_clear
from cpython.pythread cimport (
    NOWAIT_LOCK, WAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock,
    PyThread_get_thread_ident, PyThread_release_lock,
)
from libc.string cimport memcpy, memset
from pmkv._core cimport *
from pmkv._expiry cimport Due, clock_now, expiry_first, expiry_next
from pmkv._format cimport pool_format
from pmkv._growth cimport pool_file_size, pool_forget_ahead, pool_may_grow, pool_settle, pool_shrink
from pmkv._keytree cimport TreeCursor
from pmkv._pool cimport (
    Geometry, Pool, file_offset, file_size_for, pool_check_root, pool_check_seals, pool_pages_within,
    pool_probe_sync, pool_unmap,
)
from pmkv._recovery cimport recovery_open
from pmkv._redo cimport redo_checkpoint
from pmkv._writeset cimport Txn, txn_abort, txn_begin, txn_free, txn_init, txn_release_all
from pmkv._space cimport Pins, pins_drop, pins_free, space_collect, space_commit, space_due
from pmkv._sweep cimport sweep
from pmkv._transaction cimport EARLY, LATE_FEW, transaction_catch_up
from pmkv._versions cimport is_garbage_due, moments_close, moments_open

import os

from pmkv._arguments import human
from pmkv._errors import (
    ClosedError, CorruptedError, Error, InvalidKeyError, InvalidValueError, PoolFullError, ReadonlyError,
    VersionMismatchError,
)

cdef extern from *:
    """
    #define PMKV_TEXT_SITE_(name, type, meaning) meaning,
    static const char *const site_texts[] = {PMKV_SITES(PMKV_TEXT_SITE_)};
    """
    const char* const site_texts[]

cdef extern from "unistd.h" nogil:
    int usleep(unsigned)
    int getpid()
    int close(int)

cdef extern from "sys/file.h" nogil:
    int LOCK_UN
    int flock(int, int)

cdef enum:
    LEAST_PAGES = 64
    SWEEP = 1024                  # expired keys that one commit takes away
    AT_ONCE = 1024                # versions that one commit looks at which does nothing else
    GIVE_WAY = 1000               # sleeps of so long, at most, that a lazy write makes for a writer
    GIVE_WAY_US = 100
    FEW = 8                       # where the pool is so full that the log of more has no room


@final
@no_gc_clear                      # its end needs the engine, also in a cycle that the collector takes apart
cdef class Moment:
    """A moment that someone reads at: the versions that it sees are kept until it ends."""

    def __dealloc__(self):
        self.end()

    cdef void end(self) noexcept:
        cdef u64 at = self.at
        self.at = 0
        if at:
            self.e.end_moment(at)


cdef int sweep_and_commit(Txn* t, Pins* pins, u64 now, u64 most, u64* swept, u64* next_time) noexcept nogil:
    cdef int status = sweep(t, now, most, swept, next_time)
    if status == PMKV_OK:
        return space_commit(t, pins)
    txn_abort(t)
    return status


cdef void cut_to_root(Pool* p) noexcept nogil:
    """What the root does not count as the pool's goes, if the root is whole.  The log is empty."""
    if pool_check_seals(p) == PMKV_OK and pool_check_root(p, pool_file_size(p)) == PMKV_OK:
        pool_shrink(p, pmkv_load(&p.m, ROOT_PAGE_COUNT) & SEAL_MASK)


cdef class Engine:

    def __cinit__(self):
        memset(&self.pool, 0, sizeof(Pool))
        memset(&self.txn, 0, sizeof(Txn))
        memset(&self.pins, 0, sizeof(Pins))
        self.pool.m.fd = -1
        self.unusable_because = "not opened"
        self.dropped, self.ended = [], []
        self.buffer, self.cache = Buffer(0), Cache(0)
        self.lock = PyThread_allocate_lock()
        self.turn = PyThread_allocate_lock()
        if self.lock == NULL or self.turn == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.views_process and self.views_process != getpid():     # forked since: the pool is the parent's
            self.usable = False
        if self.usable and self.pool.writable and self.pool.m.fd >= 0:
            redo_checkpoint(&self.pool)
        pool_settle(&self.pool)
        if self.pool.m.data != NULL:
            pool_unmap(&self.pool)
        if self.views_process:
            if self.usable:           # what a child has inherited would keep the lock
                flock(self.pool.m.fd, LOCK_UN)
            close(self.pool.m.fd)
        txn_free(&self.txn)
        pins_free(&self.pins)
        if self.lock != NULL:
            PyThread_free_lock(self.lock)
        if self.turn != NULL:
            PyThread_free_lock(self.turn)

    # -- opening --

    def set_medium(self, str path, int fd, int domain, bint synchronous, bint writable, u64 device_size,
                   max_size, u64 reserve_size):
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

    @final
    cdef int set_limits(self, u64 max_size) except -1:
        """max_size in bytes becomes pages, now that the geometry is known."""
        if self.pool.max_pages == 0:
            self.pool.max_pages = max_size
        self.pool.max_pages = (pool_pages_within(&self.pool, self.pool.max_pages) if self.pool.max_pages
                               else <u64>1 << 32)
        return 0

    def create(self, bytes uuid, bytes seed, bytes creator, u64 created_ns, u64 header_size, u64 ring_size,
                u64 section_pages, u64 initial_pages, u64 options):
        """Makes the open file an empty pool."""
        cdef Geometry g
        cdef pmkv_superblock* s = &self.superblock
        cdef int status
        cdef u64 max_size = self.pool.max_pages
        g.header_size, g.ring_size = header_size, ring_size
        g.section_pages, g.initial_pages = section_pages, initial_pages
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

    def attach(self, u64 file_size):
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
        if pmkv_load(&self.pool.m, ROOT_DEATHS):   # nobody sees what another process kept
            self.pins.moments.garbage_to = self.pool.head + 1
        self.next_expiry = pmkv_load(&self.pool.m, ROOT_EXPIRY) != 0
        self.usable = True
        self.unusable_because = None

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
        if status == PMKV_NO_MEMORY:
            raise MemoryError(f"{self.path}: out of memory")
        if status == PMKV_FULL:
            kept = self.kept_text()
        if status == PMKV_FULL and code:
            raise PoolFullError(code, f"no room to grow beyond {human(self.file_size())}: {os.strerror(code)}; "
                                      "nothing was lost, reads and deletes go on; delete keys or make room"
                                      f"{kept}", self.path)
        if status == PMKV_FULL:
            limit = human(file_size_for(&self.pool, self.pool.max_pages))
            raise PoolFullError(28, f"no room: the pool may grow to {limit} (max_size); nothing was lost, reads and "
                                    f"deletes go on; delete keys, or open with a larger max_size{kept}", self.path)
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
            raise InvalidValueError(f"{self.path}: too much for one commit (two billion changed words); divide it")
        if status == PMKV_COLLISIONS:
            raise InvalidKeyError(f"{self.path}: too many keys share this key's hash")
        if status == PMKV_TOO_MANY_CODINGS:
            raise InvalidValueError(f"{self.path}: {CODING_SLOTS} combinations of codecs are in use already, and this "
                                    "is one more; use one of those")
        raise CorruptedError(self.damage_text())

    @final
    cdef str damage_text(self):
        """What the pool's fault says."""
        return (f"{self.path}: damaged: {site_texts[self.pool.fault.site].decode()} does not fit at byte "
                f"{file_offset(&self.pool, self.pool.fault.place):#x} of the file; check() lists all damage")

    @final
    cdef str kept_text(self):
        """Who keeps a full pool full."""
        cdef u64 readers = self.pins.moments.open_count
        if readers == 0:
            return ""
        return f"; what snapshots and scans under way see ({readers} are open) is kept until they end"

    @final
    cdef int damaged(self, int site, u64 place) except -1:
        self.pool.fault.site, self.pool.fault.place = site, place
        return self.fail(PMKV_CORRUPTED)

    # -- who may write --

    @final
    cdef int need_writable(self) except -1:
        if not self.usable:
            self.need_open()
        if not self.pool.writable:
            raise ReadonlyError(f"{self.path}: opened with flag='r', which only reads; open it with 'w' or 'c'")
        return 0

    @final
    cdef int take_lock(self) except -1:
        """Becomes the writer; waits for another thread's, without the GIL.

        A finalizer that the collector runs in the middle of this thread's own write is refused, too.
        """
        if self.locked and self.writer_thread == PyThread_get_thread_ident():
            raise Error(f"{self.path}: this thread has a transaction open, or is in the middle of a write; "
                        "write through the transaction, or end it first")
        if not PyThread_acquire_lock(self.lock, NOWAIT_LOCK):
            with nogil:
                PyThread_acquire_lock(self.lock, WAIT_LOCK)
        self.locked = True
        self.writer_thread = PyThread_get_thread_ident()
        if not self.usable:
            self.give_lock()
            self.need_open()
        return 0

    @final
    cdef bint try_lock(self) noexcept:
        """Becomes the writer, in a step that may run without the GIL, if nobody is; whether it did."""
        if self.locked or self.running or not PyThread_acquire_lock(self.lock, NOWAIT_LOCK):
            return False
        self.locked = True
        self.writer_thread = PyThread_get_thread_ident()
        self.start_running()
        return True

    @final
    cdef void give_lock(self) noexcept:
        self.locked = False
        PyThread_release_lock(self.lock)

    @final
    cdef int flush(self) except -1:
        """Has what is dirty written back; raises why that failed."""
        self.need_open()              # in a child of fork, the turn may be held for ever
        if self.buffer.count:
            self.writeback.flush()
        return self.need_open()

    @final
    cdef void begin_waiting(self) noexcept:
        """Until nothing is dirty, so that this thread may write."""
        self.waiting += 1
        self.last_waiting = PyThread_get_thread_ident()

    @final
    cdef int wait_for_turn(self) except -1:
        """Until nobody writes to the pool but a writeback; until this thread gives the GIL back, nobody does."""
        cdef int slept = 0
        cdef unsigned long me = PyThread_get_thread_ident()
        while self.waiting and slept < GIVE_WAY and me != self.last_waiting and me != self.buffer.owner:
            slept += 1
            with nogil:
                usleep(GIVE_WAY_US)
        while (self.locked or self.running) and not self.writing_back:
            self.take_lock()
            self.give_lock()
        return self.need_open()

    @final
    cdef int open_transaction(self, object token) except -1:
        """Begins a transaction that is open until close_transaction(), and holds `lock`."""
        self.need_writable()
        self.take_lock()
        self.begin_waiting()
        try:
            while self.buffer.count:
                self.give_lock()
                self.flush()
                self.take_lock()
        finally:
            self.waiting -= 1
        self.start_running()
        self.sweep(SWEEP)
        self.stop_running()
        if not self.usable:           # close() was called meanwhile, and waits for the lock
            self.give_lock()
            self.need_open()
        txn_begin(&self.txn)
        self.txn.early = EARLY
        self.transaction = token
        return 0

    @final
    cdef int close_transaction(self, bint commit) except -100:
        """Commits it or forgets it; the status."""
        cdef int status = PMKV_OK
        self.start_running()
        with nogil:
            if commit:
                txn_release_all(&self.txn)
                transaction_catch_up(&self.txn)
                status = space_commit(&self.txn, &self.pins)
            else:
                txn_abort(&self.txn)
        if commit and status == PMKV_OK:
            self.pay_off()
        self.transaction = None
        self.stop_running()
        self.give_lock()
        return status

    @final
    cdef int catch_up(self) except -1:
        """The late keys of the open transaction go into the order; others may run meanwhile."""
        cdef int status
        if self.txn.late_count <= LATE_FEW and not pool_may_grow(&self.pool):
            status = transaction_catch_up(&self.txn)
        else:
            self.start_running()
            with nogil:
                status = transaction_catch_up(&self.txn)
            self.stop_running()
        if status != PMKV_OK:
            self.fail(status)
        return 0

    @final
    cdef void start_running(self) noexcept:
        """From here to stop_running() the GIL may be given back, and pins do not change."""
        if not PyThread_acquire_lock(self.turn, NOWAIT_LOCK):
            with nogil:
                PyThread_acquire_lock(self.turn, WAIT_LOCK)
        self.running = True

    @final
    cdef void stop_running(self) noexcept:
        self.running = False
        while self.dropped:
            pins_drop(&self.pins, self.dropped.pop())
        while self.ended:
            moments_close(&self.pins.moments, self.ended.pop(), self.pool.head)
        PyThread_release_lock(self.turn)

    @final
    cdef int wait_for_writer(self) except -1:
        """Until no step of a writer runs without the GIL; until this thread gives it back, none begins."""
        while self.running:
            self.start_running()
            self.stop_running()
        return self.need_open()

    @final
    cdef void unpin(self, u64 place) noexcept:
        if self.running:
            self.dropped.append(place)
        else:
            pins_drop(&self.pins, place)

    # -- upkeep --

    @final
    cdef u64 root(self, u64 place) noexcept:
        return pmkv_load(&self.pool.m, place) & SEAL_MASK

    @final
    cdef u64 file_size(self) noexcept:
        return pool_file_size(&self.pool)

    @final
    cdef void expires(self, u64 time) noexcept:
        """Something was stored that expires then; 0: never."""
        if time and (self.next_expiry == 0 or time < self.next_expiry):
            self.next_expiry = time

    @final
    cdef bint is_due(self, u64 time) noexcept:
        """Whether something has expired by then that was not taken away yet.  No writer runs without the GIL."""
        cdef TreeCursor cursor
        cdef Due due
        return (self.next_expiry != 0 and self.next_expiry <= time
                and expiry_first(&self.pool, NULL, &cursor) == PMKV_OK
                and expiry_next(&self.pool, NULL, &cursor, &due) == PMKV_OK and due.time <= time)

    @final
    cdef int sweep(self, u64 most) noexcept:
        """Takes away at most so many keys that have expired, in one commit; the status.

        For a writer that holds the lock, or the GIL, and has not begun its own transaction.
        """
        cdef u64 now = clock_now(), next_time = 0, count = 0
        cdef int status
        if self.next_expiry == 0 or self.next_expiry > now:
            return PMKV_OK
        txn_begin(&self.txn)
        if self.running:
            with nogil:
                status = sweep_and_commit(&self.txn, &self.pins, now, most, &count, &next_time)
        else:
            status = sweep_and_commit(&self.txn, &self.pins, now, most, &count, &next_time)
        if status == PMKV_OK:
            self.next_expiry = next_time
            self.swept += count
        return status

    @final
    cdef void sweep_unless_busy(self) noexcept:
        """Takes away all that has expired, for a reader who counts, if nobody writes."""
        if not self.usable or not self.pool.writable or not self.try_lock():
            return
        while self.is_due(clock_now()) and self.sweep(SWEEP) == PMKV_OK:
            pass
        self.stop_running()
        self.give_lock()

    @final
    cdef Moment now(self):
        """The moment, which is open until it is ended or forgotten."""
        cdef Moment moment = Moment.__new__(Moment)   # first: it may set off the collector, and that anything
        self.need_open()
        self.flush()
        while self.running:
            self.wait_for_writer()
        if moments_open(&self.pins.moments, self.pool.head) != PMKV_OK:
            raise MemoryError
        moment.e, moment.at = self, self.pool.head
        moment.time = clock_now()
        moment.has_expired = self.is_due(moment.time)
        return moment

    @final
    cdef void end_moment(self, u64 at) noexcept:
        if self.running:
            self.ended.append(at)
        else:
            moments_close(&self.pins.moments, at, self.pool.head)

    @final
    cdef void pay_off(self) noexcept:
        """After a writer's commit, in a commit of its own: has versions looked at, when enough are owed."""
        cdef u64 due = space_due(&self.pins)
        if due == 0:
            return
        if self.running:
            with nogil:
                space_collect(&self.txn, &self.pins, due)
        else:
            space_collect(&self.txn, &self.pins, due)

    @final
    cdef bint drain(self) noexcept:
        """Frees what was kept for readers that have ended; False if that is nothing.

        For a writer that holds the lock and whose transaction is empty.
        """
        cdef bint due = self.txn.status == PMKV_OK and (self.pins.ripe != 0 or is_garbage_due(&self.pins.moments))
        cdef u64 swept = self.swept
        cdef int status = PMKV_OK
        cdef u64 most = AT_ONCE
        if self.txn.status == PMKV_OK:
            while self.is_due(clock_now()) and self.sweep(SWEEP) == PMKV_OK:
                pass
            txn_begin(&self.txn)
        if due:
            self.pins.drain_all = True
            while status == PMKV_OK and is_garbage_due(&self.pins.moments):
                with nogil:
                    status = space_collect(&self.txn, &self.pins, most)
                if status == PMKV_CORRUPTED:      # it has gone past what is damaged
                    status = PMKV_OK
                elif status == PMKV_FULL and most > FEW:
                    status, most = PMKV_OK, FEW
            txn_begin(&self.txn)
            with nogil:
                status = space_commit(&self.txn, &self.pins) if status == PMKV_OK else status
            self.pins.drain_all = False
            txn_begin(&self.txn)
        return (due and status == PMKV_OK) or swept != self.swept

    @final
    cdef void collect_unless_busy(self) noexcept:
        """Gives back at once what a reader kept that has just ended, if nobody writes."""
        if not (self.usable and self.pool.writable and is_garbage_due(&self.pins.moments)):
            return
        if not self.try_lock():
            return
        txn_begin(&self.txn)
        self.drain()
        txn_abort(&self.txn)
        self.stop_running()
        self.give_lock()

    # -- closing --

    def close(self):
        """Unmaps the pool.  BufferError while views are alive; nothing to do if it is closed."""
        cdef int status = PMKV_OK
        if not self.usable:
            self.wait_for_close()
            return False
        self.flush()                  # also with views: who drops the store comes here a last time
        if self.views:
            raise BufferError(f"{self.path}: {self.views} view{'s are' if self.views > 1 else ' is'} alive; "
                              "release them (view.release(), or drop what holds them) before closing")
        if self.locked and self.writer_thread == PyThread_get_thread_ident():
            if self.transaction is None:
                raise Error(f"{self.path}: this thread is in the middle of a write")
            self.close_transaction(False)
        self.begin_waiting()
        try:
            while self.buffer.count:
                self.flush()
        finally:
            self.waiting -= 1
        if not self.usable:           # another thread was faster
            self.wait_for_close()
            return False
        self.usable = False           # no new use from here on; wait for those under way
        self.closing, self.closing_thread = True, PyThread_get_thread_ident()
        self.unusable_because = "the store is closed"
        if not PyThread_acquire_lock(self.lock, NOWAIT_LOCK):
            with nogil:
                PyThread_acquire_lock(self.lock, WAIT_LOCK)
        self.locked = True
        self.start_running()
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
                    pool_settle(&self.pool)
                    if status == PMKV_OK:
                        cut_to_root(&self.pool)
            pool_unmap(&self.pool)
            txn_free(&self.txn)
        finally:
            self.stop_running()
            self.give_lock()
            self.closing = False
        if status == PMKV_OS_ERROR:
            self.fail(status)
        return True

    @final
    cdef void wait_for_close(self) noexcept:
        """Until the thread that closes it is done, for another: the file is in use until then.

        It waits for whoever has a transaction open: so this thread's is ended.
        """
        cdef unsigned long me = PyThread_get_thread_ident()
        if self.closing and self.transaction is not None and self.writer_thread == me:
            self.close_transaction(False)
        while self.closing and self.closing_thread != me:
            with nogil:
                usleep(100)

    def leave_to_views(self, file):
        """If views outlive the store, its open file is theirs, with the lock: what they show must not change.

        Whoever drops the last one closes the pool.  Returns whether there are any.
        """
        if not self.usable or self.views == 0:
            return False
        pool_settle(&self.pool)       # no thread is at work that a child of fork would wait for
        file.number, self.views_process = -1, getpid()
        return True

    def detach(self):
        """The descriptor is about to be closed: nothing may use its number any more."""
        self.usable = False
        pool_settle(&self.pool)
        self.pool.m.fd = -1

    def forked(self):
        """In a child: the pool stays its parent's, and so does a transaction; a lock may be held for ever."""
        self.usable = self.closing = False
        self.transaction = None
        pool_forget_ahead(&self.pool)
        self.pool.m.fd = -1           # which the package closes
        self.unusable_because = "opened by the parent before a fork; open the pool again in this process"


def probe_sync(int fd):
    """Whether MAP_SYNC is granted on the open file: the file system is DAX, or it is a DAX device."""
    cdef bint granted
    with nogil:
        granted = pool_probe_sync(fd)
    return bool(granted)


def can_flush():
    """Whether this processor can flush a cache line, and how: 'clwb', ..., or 'none'."""
    return pmkv_arch_flush_name(pmkv_arch_flush_op()).decode()
