"""_store.pyx (L6): a pool as Python opens it: its default namespace, and what concerns the whole.

May know: everything below.  pmkv.Store adds what is not hot, pmkv.open finds and locks the file.
"""
from libc.stdlib cimport free, malloc
from pmkv._buffer cimport Buffer
from pmkv._cache cimport Cache
from pmkv._check cimport PROBLEMS_KEPT, Report, check_pool, problem_text
from pmkv._codings cimport CodingCount, coding_read
from pmkv._core cimport *
from pmkv._engine cimport Engine
from pmkv._pool cimport Pool, pool_mend_superblock, section_bytes
from pmkv._writeset cimport Txn, txn_abort
from pmkv._space cimport Pins
from pmkv._reading cimport VerifyMode
from pmkv._redo cimport redo_checkpoint
from pmkv._table cimport Table
from pmkv._versions cimport Count

from pmkv._errors import ReadonlyError


DOMAINS = ("process", "byte", "cacheline", "page")


cdef class Core(Table):

    def __cinit__(self, *args, **kwargs):
        self.e = Engine()

    # -- opening, called by pmkv._open with an open, locked descriptor --

    def _set_medium(self, str path, int fd, int domain, bint synchronous, bint writable, u64 device_size,
                    max_size, u64 reserve_size, int verify):
        """Says what the file is.  `domain` is an index into DOMAINS."""
        self.verify = <VerifyMode>verify
        self.e.set_medium(path, fd, domain, synchronous, writable, device_size, max_size, reserve_size)

    def _create(self, *arguments):
        """Makes the open file an empty pool."""
        self.e.create(*arguments)

    def _attach(self, u64 file_size):
        """Maps and recovers the pool."""
        self.e.attach(file_size)
        self.attach(self.e, ROOT_DEFAULT_NAMESPACE, self.verify, NULL, None)

    def _set_sizes(self, u64 buffer_size, u64 cache_size):
        """How much DRAM dirty values, and clean decoded ones, may take."""
        self.e.buffer, self.e.cache = Buffer(buffer_size), Cache(cache_size)
        return self.e.buffer

    def _write_back_by(self, writeback, bint lazy):
        """Who writes the buffer back; and whether writes may wait there."""
        self.e.writeback, self.lazy = writeback, lazy

    @property
    def path(self):
        """Where the pool lies: an absolute path."""
        return self.e.path

    # -- upkeep --

    def sync(self):
        """Writes back what is dirty, and empties the redo ring: the next open replays nothing.  Raises OSError."""
        cdef int status
        self.begin(False)
        self.e.drain()
        with nogil:
            status = redo_checkpoint(&self.e.pool)
        txn_abort(&self.e.txn)
        self.end(status)

    flush = sync

    def check(self, bint fix=False, *, bint values=True):
        """Reads the whole pool and accounts for it; what is wrong, as texts, so [] is a sound pool.

        fix=True first mends what can be made anew from what is whole: a damaged copy of the superblock.
        Of all else there is one copy; what is wrong with that is told, not mended.
        values=False leaves out the checksums of values larger than a page.
        Takes 33 bytes of DRAM a page while it runs, and the writer's lock.
        Raises ReadonlyError for fix=True in a store opened to read, OSError.
        """
        cdef Report* report
        cdef int status = PMKV_OK
        cdef u64 i
        self.e.need_open()
        if fix and not self.e.pool.writable:
            raise ReadonlyError("check(fix=True) writes: open the pool with flag='w' or 'c'")
        if self.e.pool.writable:
            self.e.take_lock()
            self.e.start_running()
        else:
            self.e.busy += 1
        with nogil:
            report = <Report*>malloc(sizeof(Report))
            if fix:
                status = pool_mend_superblock(&self.e.pool)
            if status == PMKV_OK:
                status = check_pool(&self.e.pool, values, report) if report != NULL else PMKV_NO_MEMORY
        if self.e.pool.writable:
            self.e.stop_running()
            self.e.give_lock()
        else:
            self.e.busy -= 1
        try:
            if status != PMKV_OK:
                self.e.fail(status)
            problems = [f"{problem_text(report.problems[i].what).decode()} ({place_text(report.problems[i].place)})"
                        for i in range(min(report.problem_count, <u64>PROBLEMS_KEPT))]
            if report.problem_count > PROBLEMS_KEPT:
                problems.append(f"and {report.problem_count - PROBLEMS_KEPT} more")
            return problems
        finally:
            free(report)

    def stat(self):
        """Counts and sizes in bytes, at once at any size: see pmkv.Stat."""
        cdef u64 frontier, unused, free_pages
        cdef u64 dirty = self.e.buffer.count
        entries = self.entries()      # first: it has the buffer written back
        self.e.need_open()
        frontier = self.e.root(ROOT_FRONTIER)
        free_pages = self.e.root(ROOT_FREE_PAGE_COUNT)
        unused = self.e.pool.file_pages - frontier
        return {
            "entries": entries,
            "live_bytes": self.e.root(self.namespace + NAMESPACE_LIVE_BYTES),
            "used_bytes": (frontier - free_pages) * (PAGE_SIZE + 64),
            "free_bytes": (free_pages + unused) * PAGE_SIZE,
            "file_size": self.e.file_size(),
            "pages": self.e.pool.file_pages,
            "free_pages": free_pages + unused,
            "limbo_entries": self.e.root(ROOT_LIMBO_COUNT),
            "commit": self.e.pool.head,
            "writeback": {"batches": self.e.buffer.batches, "values": self.e.buffer.written,
                          "bytes": self.e.buffer.written_bytes, "dirty": dirty},
            "cache": {"entries": self.e.cache.entries, "bytes": self.e.cache.held, "hits": self.e.cache.hits,
                      "misses": self.e.cache.misses, "evictions": self.e.cache.evictions},
        }

    def _codings(self):
        """What the pool counts of values under codecs: (stages, entries, raw bytes, stored bytes)."""
        cdef CodingCount found
        cdef u64 slot
        counts = []
        self.e.need_open()
        for slot in range(CODING_SLOTS):
            coding_read(&self.e.pool, slot, &found)
            if found.entries:
                counts.append((int(found.stages).to_bytes(4, "little"), found.entries, found.raw_bytes,
                               found.stored_bytes))
        return counts

    def memory(self):
        """DRAM that this handle holds, in bytes: see pmkv.Memory.  Nothing in it grows with the keys."""
        cdef u64 transaction, pinned
        self.e.need_open()
        transaction = (self.e.txn.word_capacity * 16 + (self.e.txn.table_mask + 1) * 4 + self.e.txn.range_capacity * 16
                       + (self.e.txn.freed_capacity + self.e.txn.late_capacity) * 8
                       + self.e.txn.before_capacity * 16 + self.e.txn.entry_capacity)
        pinned = (self.e.pins.mask + 1) * 16 if self.e.pins.pin != NULL else 0
        pinned += self.e.pins.moments.capacity * 8 + self.e.pins.moments.counts_capacity * sizeof(Count)
        handle = sizeof(Pool) + sizeof(Txn) + sizeof(Pins) + sizeof(pmkv_superblock)
        return {"handle_bytes": handle, "transaction_bytes": transaction, "pin_bytes": pinned, "views": self.e.views,
                "cache_bytes": self.e.cache.held, "buffer_bytes": self.e.buffer.held,
                "total_bytes": transaction + pinned + handle + self.e.cache.held + self.e.buffer.held}

    def _info(self):
        cdef pmkv_superblock* s = &self.e.superblock
        cdef Pool* p = &self.e.pool
        self.e.need_open()
        return {"file_size": self.e.file_size(), "format_version": s.version,
                "uuid": (<const char*>s.uuid)[:16].hex(),
                "creator": (<const char*>s.creator)[:32].rstrip(b"\0").decode(), "created_ns": s.created_ns,
                "page_size": PAGE_SIZE, "section_size": section_bytes(p), "ring_size": s.ring_size,
                "max_size": s.max_size or None, "flush": pmkv_arch_flush_name(p.m.flush_op).decode(),
                "map_sync": bool(p.synchronous), "writable": bool(p.writable), "replayed_commits": self.e.replayed}

    # -- closing --

    @property
    def closed(self):
        """Whether it was closed, or belongs to the process that this one was forked from."""
        return not self.e.usable

    @property
    def _is_in_use(self):
        """Whether the file is: it is open, or a thread is in the middle of closing it."""
        return self.e.usable or self.e.closing

    def _close(self):
        return self.e.close()

    def _leave_to_views(self, file):
        return self.e.leave_to_views(file)

    def _detach(self):
        self.e.detach()

    def _forked(self):
        self.e.forked()


cdef str place_text(u64 place):
    if place & DESCRIPTOR_SPACE:
        return f"descriptor of page {(place ^ DESCRIPTOR_SPACE) // 64}"
    return f"place {place:#x}"
