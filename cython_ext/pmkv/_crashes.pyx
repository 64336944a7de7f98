# cython: boundscheck=True, wraparound=True
"""_crashes.pyx: power cuts, simulated: every pool that a crash could leave, recovered and judged.

A test instrument beside the floors.  A small pool's medium has a tracer, so that every store, flush,
fence and sync is seen (persist.h, P1).  There are three pools: the *live* one, which the program sees
(_simulator.pyx drives it); the *base*, which is what the medium is sure to hold; and *scratch*, where
one crash state after the other is laid out, recovered by the same code that opens a pool, checked in
full, and compared with an oracle.

What may be on the medium at a crash, for each line stored to since it was last made durable:
the content it had after any of the stores to it (so any prefix of them); lines are independent.
Besides, words of 8 bytes of a line are torn: each may be of another age.  In the page domain the
unit is a sector of 512 bytes, and a sector is not torn.

Crashes are placed at every fence and sync, before it takes effect, and at the return of every
operation; then inside the recovery of such a state, and inside an operation that follows it, which
also clears away what nobody sees any more.
"""
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from pmkv._check cimport PROBLEMS_KEPT, check_pool, problem_text
from pmkv._core cimport *
from pmkv._format cimport pool_format
from pmkv._oracle cimport pool_print
from pmkv._pending cimport Pending, pending_on
from pmkv._pool cimport (
    Geometry, Pool, file_size_for, pool_map, pool_read_superblock, pool_repair_superblock, pool_unmap,
)
from pmkv._recovery cimport recovery_run
from pmkv._space cimport Pins, pins_free, space_collect, space_commit
from pmkv._tracer cimport FENCED, FLUSHED, STORED, SYNCED, Event, Log, trace
from pmkv._transaction cimport PUT_ALWAYS, Item, transaction_put
from pmkv._versions cimport is_garbage_due, moments_open
from pmkv._writeset cimport txn_begin, txn_free, txn_init

import os
import random

from pmkv._oracle import coded, coding_of, model_print

cdef extern from *:
    """
    #define PMKV_NAME_SITE_(name, type, meaning) #name,
    #define PMKV_TYPE_SITE_(name, type, meaning) type,
    static const char *const site_names[] = {PMKV_SITES(PMKV_NAME_SITE_)};
    static const char site_types[] = {PMKV_SITES(PMKV_TYPE_SITE_)};
    """
    const char* const site_names[]
    const char site_types[]


cdef u64 line_print(u64 line, bytes content):
    return pmkv_hash64(line, 5, <const char*>content, len(content))


class SimulationFailure(AssertionError):
    """A crash state that recovery does not bring back to what was acknowledged."""

# ---- crashes ----------------------------------------------------------------------------------

cdef class Crashes:
    """A pool of a few pages, and the power cuts that it lives through; what the options say is in Simulator."""

    def __cinit__(self, *, bint page_domain=False, mutant=None, seed=0, u64 header_size=32768, u64 ring_size=8192,
                  u64 section_pages=64, u64 initial_pages=8, u64 capacity_pages=512, u64 exhaust=256,
                  u64 samples=32, u64 deeper=16):
        cdef Geometry g
        cdef Pool* p
        cdef int i
        self.page_domain = page_domain
        self.random = random.Random(seed)
        self.model, self.states, self.views, self.files = {}, {}, [], []
        self.counts = {}
        self.capacity_pages, self.exhaust, self.samples, self.deeper = capacity_pages, exhaust, samples, deeper
        self.report = <Report*>malloc(sizeof(Report))
        site = SITES.index(mutant) if mutant is not None else 0
        memset(&self.pins, 0, sizeof(Pins))
        memset(&self.late_pins, 0, sizeof(Pins))
        memset(&self.superblock, 0, sizeof(self.superblock))
        self.superblock.seed[0], self.superblock.seed[1] = 7, 11
        self.pools[0], self.pools[1], self.pools[2] = &self.live, &self.base, &self.scratch
        for i in range(3):
            p = self.pools[i]
            memset(p, 0, sizeof(Pool))
            self.files.append(os.memfd_create("pmkv-simulator"))
            p.m.fd = self.files[-1]
            p.m.domain = PMKV_DOMAIN_PAGE if page_domain else PMKV_DOMAIN_LINE
            p.m.line_size = 64
            p.writable = True
            p.max_pages = capacity_pages
            p.header_size, p.ring_size, p.section_pages = header_size, ring_size, section_pages
            p.ring_place = header_size - 4096 - ring_size
        for i in range(1, 3):
            p = self.pools[i]
            os.ftruncate(p.m.fd, file_size_for(p, capacity_pages))
            if pool_map(p, capacity_pages, capacity_pages, False) != PMKV_OK:
                raise MemoryError
        trace(&self.log, &self.tracer, &self.live, site)
        trace(&self.scratch_log, &self.scratch_tracer, &self.scratch, site)
        self.pending = pending_on(&self.base, self.unit(), {})
        g.header_size, g.ring_size = header_size, ring_size
        g.section_pages, g.initial_pages, g.options = section_pages, initial_pages, 0
        self.live.reserved_pages = capacity_pages
        self.must(pool_format(&self.live, &g, &self.superblock), "format")
        self.live.head = self.live.checkpoint = self.live.tail = 1
        self.live.window = ring_size // 64 // 2
        self.must(txn_init(&self.txn, &self.live), "transaction")
        self.must(txn_init(&self.scratch_txn, &self.scratch), "transaction")
        self.explore(None, None, True)
        self.scratch.seed0, self.scratch.seed1 = 7, 11

    def __dealloc__(self):
        cdef int i
        for i in range(3):
            pool_unmap(self.pools[i])
        free(self.log.events)
        free(self.log.bytes)
        free(self.scratch_log.events)
        free(self.scratch_log.bytes)
        txn_free(&self.txn)
        txn_free(&self.scratch_txn)
        pins_free(&self.pins)
        pins_free(&self.late_pins)
        free(self.report)

    def close(self):
        """Gives the files back."""
        while self.files:
            os.close(self.files.pop())

    @property
    def file_pages(self):
        """For how many pages the live pool's file has room."""
        return self.live.file_pages

    @property
    def mutant_hits(self):
        """How often the site that was taken out would have acted."""
        return self.log.mutant_hits + self.scratch_log.mutant_hits

    cdef u64 unit(self):
        return 512 if self.page_domain else 64

    cdef int must(self, int status, what) except -1:
        if status < 0:
            raise SimulationFailure(f"{what}: status {status}, fault site {SITES[self.live.fault.site]}")
        return status

    cdef list problems(self):
        return [f"{problem_text(self.report.problems[i].what).decode()} at {self.report.problems[i].place:#x}"
                for i in range(min(self.report.problem_count, <u64>PROBLEMS_KEPT))]

    # -- exploring --

    cdef int explore(self, before, after, bint explored) except -1:
        """Goes through what the live pool's tracer saw, and crashes wherever it may.

        The models are what the pool may hold; None: it may also be no pool at all yet.
        """
        cdef object allowed = None
        self.candidates = [before, after]
        if before is not None:
            allowed = {model_print(before), model_print(after)}
        self.pages = max(self.pages, self.live.file_pages)   # grown at any time; cut at the end only
        self.walk(&self.log, self.pending, allowed, explored, 0, {})
        self.pages = self.live.file_pages
        if before is not None and explored:
            self.crash(self.pending, {model_print(after)}, 0, "return", {})
        self.log.count = self.log.used = 0
        return 0

    cdef int walk(self, Log* log, Pending pending, allowed, bint explored, int depth, dict overlay) except -1:
        """Applies the events; at each fence and sync, first crashes, then makes durable."""
        cdef size_t i
        cdef Event* event
        cdef dict durable
        for i in range(log.count):
            event = &log.events[i]
            durable = None
            if event.kind == STORED:
                pending.store(event.place, event.size, log.bytes + event.at)
            elif event.kind == FLUSHED and not self.page_domain:
                pending.flush(event.place, event.size)
            elif event.kind == (SYNCED if self.page_domain else FENCED):
                if explored:
                    self.crash(pending, allowed, depth, SITES[event.site], overlay)
                durable = pending.sync(event.place, event.size) if self.page_domain else pending.fence()
            if durable is not None and depth == 0:
                self.base_print += self.difference(durable)
                for line, content in durable.items():
                    memcpy(pmkv_at(&self.base.m, line), <const char*>(<bytes>content), pending.unit)
                    memcpy(pmkv_at(&self.scratch.m, line), <const char*>(<bytes>content), pending.unit)
            elif durable is not None:
                overlay.update(durable)
        return 0

    cdef int crash(self, Pending pending, allowed, int depth, gap, dict overlay) except -1:
        """Judges the states that a crash right here may leave."""
        cdef u64 product = 1
        cdef list lines = list(pending.lines), counts = [len(pending.lines[line]) for line in pending.lines]
        for count in counts:
            product *= count
            if product > self.exhaust:
                break
        if product <= self.exhaust:
            self.crash_everywhere(pending, lines, counts, allowed, depth, gap, overlay)
        else:
            self.crash_sampled(pending, lines, counts, allowed, depth, gap, overlay)
        if not self.page_domain:
            for _ in range(self.samples // 2 if lines else 0):
                self.judge(self.torn(pending, lines), allowed, depth, gap, overlay)
        return 0

    cdef dict choose(self, Pending pending, lines, indexes):
        return {line: pending.lines[line][index] for line, index in zip(lines, indexes) if index}

    cdef dict torn(self, Pending pending, list lines):
        """Each word of each line of an age of its own."""
        state = {}
        for line in lines:
            versions = pending.lines[line]
            state[line] = b"".join(versions[self.random.randrange(len(versions))][at:at + 8]
                                   for at in range(0, 64, 8))
        return state

    cdef int crash_everywhere(self, Pending pending, list lines, list counts, allowed, int depth, gap,
                              dict overlay) except -1:
        cdef list indexes = [0] * len(lines)
        cdef int at
        while True:
            self.judge(self.choose(pending, lines, indexes), allowed, depth, gap, overlay)
            at = 0
            while at < len(lines):
                indexes[at] += 1
                if indexes[at] < counts[at]:
                    break
                indexes[at] = 0
                at += 1
            if at == len(lines):
                return 0

    cdef int crash_sampled(self, Pending pending, list lines, list counts, allowed, int depth, gap,
                           dict overlay) except -1:
        """None, all, each alone, each missing, each prefix in time, and random ones."""
        cdef list newest = [count - 1 for count in counts]
        cdef dict prefix = {}
        cdef int i
        self.judge({}, allowed, depth, gap, overlay)
        self.judge(self.choose(pending, lines, newest), allowed, depth, gap, overlay)
        for i in range(len(lines) if depth == 0 else 0):
            alone = [0] * len(lines)
            alone[i] = newest[i]
            self.judge(self.choose(pending, lines, alone), allowed, depth, gap, overlay)
            missing = list(newest)
            missing[i] = 0
            self.judge(self.choose(pending, lines, missing), allowed, depth, gap, overlay)
        for line, index in pending.order if depth == 0 else ():
            prefix[line] = pending.lines[line][index]
            self.judge(dict(prefix), allowed, depth, gap, overlay)
        for i in range(self.samples):
            indexes = [self.random.randrange(count) for count in counts]
            self.judge(self.choose(pending, lines, indexes), allowed, depth, gap, overlay)
        return 0

    cdef int judge(self, dict state, allowed, int depth, gap, dict overlay) except -1:
        """Lays a state out, recovers it, checks it, compares it; then crashes it deeper."""
        cdef u64 outcome = 0
        cdef dict whole = {**overlay, **state} if overlay else state
        cdef u64 key = self.base_print + self.difference(whole) + self.pages * PMKV_HASH_K0
        cdef object known = self.states.get(key)
        if known is not None:
            if allowed is not None and known not in allowed:
                raise SimulationFailure(f"crash at {gap}: the pool holds neither what was acknowledged nor that "
                                        "and the operation in flight")
            return 0
        self.counts[gap] = self.counts.get(gap, 0) + 1
        self.evaluated += 1
        self.lay_out(whole)
        try:
            outcome = self.recover_and_check(allowed, gap)
            self.states[key] = outcome
            if depth == 0 and self.deeper and allowed is not None and self.evaluated % self.deeper == 0:
                self.crash_deeper(whole, outcome)
        finally:
            self.restore(whole)
        return 0

    cdef u64 difference(self, dict lines) except? 0:
        """What laying these lines over the base adds to its print; states with one print hold the same."""
        cdef u64 total = 0
        cdef bytes was, content
        for line, content in lines.items():
            was = (<const char*>pmkv_at(&self.base.m, line))[:len(content)]
            if was != content:
                total += line_print(line, content) - line_print(line, was)
        return total

    cdef int lay_out(self, dict state) except -1:
        for line, content in state.items():
            memcpy(pmkv_at(&self.scratch.m, line), <const char*>(<bytes>content), len(content))
        self.scratch_log.count = self.scratch_log.used = 0
        return 0

    cdef int restore(self, dict state) except -1:
        """Scratch is the base again: what the state and the tracer say was stored is copied back."""
        cdef size_t i
        cdef Event* event
        for line, content in state.items():
            memcpy(pmkv_at(&self.scratch.m, line), pmkv_at(&self.base.m, line), len(content))
        for i in range(self.scratch_log.count):
            event = &self.scratch_log.events[i]
            if event.kind == STORED:
                memcpy(pmkv_at(&self.scratch.m, event.place), pmkv_at(&self.base.m, event.place), event.size)
        self.scratch_log.count = self.scratch_log.used = 0
        return 0

    cdef u64 recover_and_check(self, allowed, gap) except? 0:
        """Opens scratch as a pool is opened; what it holds."""
        cdef u64 replayed
        cdef int status
        if allowed is None:
            status = self.read_superblock()
            if status in (PMKV_FOREIGN, PMKV_TRUNCATED, PMKV_CORRUPTED):
                return 0          # not a pool yet: refused, and made again
        status = recovery_run(&self.scratch, self.file_size(), &replayed)
        if status == PMKV_OK and allowed is None:
            status = pool_repair_superblock(&self.scratch, &self.found)
        if status != PMKV_OK:
            raise SimulationFailure(f"crash at {gap}: recovery ends with status {status} "
                                    f"({SITES[self.scratch.fault.site]} at {self.scratch.fault.place:#x})")
        return self.judge_content(allowed, gap)

    cdef int read_superblock(self):
        """Through the file, as opening does."""
        return pool_read_superblock(&self.scratch, self.scratch.m.fd, self.file_size(), &self.found)

    cdef u64 file_size(self) noexcept:
        """Of the pool that a crash leaves; it may grow again."""
        self.scratch.max_pages = self.capacity_pages
        return file_size_for(&self.scratch, self.pages)

    cdef u64 judge_content(self, allowed, gap) except? 0:
        cdef u64 fingerprint = 0
        cdef int status
        check_pool(&self.scratch, True, self.report)
        if self.report.problem_count:
            raise SimulationFailure(f"crash at {gap}: {self.problems()[:5]}")
        status = pool_print(&self.scratch, &fingerprint)
        if status != PMKV_OK:
            raise SimulationFailure(f"crash at {gap}: reading ends with status {status}")
        if allowed is None:
            if fingerprint != 0:
                raise SimulationFailure(f"crash at {gap}: a new pool is not empty")
        elif fingerprint not in allowed:
            raise SimulationFailure(f"crash at {gap}: the pool holds neither what was acknowledged nor that "
                                    "and the operation in flight")
        return fingerprint

    # -- deeper --

    cdef int crash_deeper(self, dict state, u64 outcome) except -1:
        """Crashes inside the recovery that was just traced, then inside an operation after it.

        What a crash inside recovery leaves must recover to the same content.
        """
        cdef Log recovery = self.scratch_log
        cdef Pending pending = pending_on(&self.base, self.unit(), dict(state))
        cdef u64 samples = self.samples
        self.take_log()
        self.samples = min(samples, <u64>8)
        try:
            pending.overlay = overlay = dict(state)
            self.restore_all(&recovery, state)
            self.walk(&recovery, pending, {outcome}, True, 1, overlay)
            self.crash_in_successor(state, outcome)
        finally:
            self.samples = samples
            free(recovery.events)
            free(recovery.bytes)
        return 0

    cdef void take_log(self) noexcept:
        """The scratch log's memory is the caller's now; scratch gets a new one."""
        self.scratch_log.events = NULL
        self.scratch_log.bytes = NULL
        self.scratch_log.count = self.scratch_log.capacity = 0
        self.scratch_log.used = self.scratch_log.room = 0

    cdef int restore_all(self, Log* log, dict state) except -1:
        cdef size_t i
        for i in range(log.count):
            if log.events[i].kind == STORED:
                memcpy(pmkv_at(&self.scratch.m, log.events[i].place), pmkv_at(&self.base.m, log.events[i].place),
                       log.events[i].size)
        return self.restore(state)

    cdef int crash_in_successor(self, dict state, u64 outcome) except -1:
        """Recovers the state once more and puts a key: crashes of that leave the outcome, or it and the key.

        The put is followed by clearing away what readers saw before the crash.  Once in two times another
        reader has come before it, and sees what the put supersedes.
        """
        cdef Log log
        cdef u64 after = 0, replayed, kept = 0, pages = self.pages
        cdef Item item
        cdef Pending pending
        key, value = self.successor()
        item.key, item.key_size, item.value, item.value_size = <bytes>key, len(key), <bytes>value, len(value)
        item.coding, item.may_change, item.expiry = coding_of(value), False, 0
        self.lay_out(state)
        if recovery_run(&self.scratch, self.file_size(), &replayed) != PMKV_OK:
            raise SimulationFailure("recovery of the same state fails the second time")
        if self.evaluated // self.deeper % 2:
            moments_open(&self.late_pins.moments, self.scratch.head)
            kept = key in self.model_of(outcome)
        if pmkv_load(&self.scratch.m, ROOT_DEATHS):
            self.late_pins.moments.garbage_to = self.scratch.head + 1
        self.late_pins.moments.owed = self.capacity_pages
        txn_begin(&self.scratch_txn)
        if transaction_put(&self.scratch_txn, ROOT_DEFAULT_NAMESPACE, &item, PUT_ALWAYS) != PMKV_OK or \
                space_commit(&self.scratch_txn, &self.late_pins) != PMKV_OK:
            raise SimulationFailure(f"a put after recovery fails ({SITES[self.scratch.fault.site]})")
        while is_garbage_due(&self.late_pins.moments):
            if space_collect(&self.scratch_txn, &self.late_pins, 8) != PMKV_OK:
                raise SimulationFailure(f"clearing away versions fails ({SITES[self.scratch.fault.site]})")
        pins_free(&self.late_pins)
        after = self.judge_content({self.with_pair(outcome, key, value)}, "a put after recovery")
        if self.report.versions != kept:
            raise SimulationFailure(f"{self.report.versions} versions are left, not {kept}")
        log = self.scratch_log
        self.take_log()
        self.restore_all(&log, state)
        overlay = dict(state)
        pending = pending_on(&self.base, self.unit(), overlay)
        self.pages = max(pages, self.scratch.file_pages)     # it may have grown
        try:
            self.walk(&log, pending, {outcome, after}, True, 1, overlay)
            self.crash(pending, {after}, 1, "return", overlay)
        finally:
            self.pages = pages
            free(log.events)
            free(log.bytes)
        return 0

    cdef tuple successor(self):
        """A put to follow a crash: that of the operation in flight but for one byte, so that its entry
        shares lines and sectors with the torn one; or another."""
        before, after = self.candidates
        changed = [key for key in after if isinstance(key, bytes) and after[key] and before.get(key) != after[key]]
        if changed and self.random.random() < 0.75:
            key = self.random.choice(changed)
            value = bytes([after[key][0] ^ 1]) + after[key][1:]
            return key, coded(value, coding_of(after[key])) if coding_of(after[key]) else value
        key = self.random.choice([key for key in before if isinstance(key, bytes)] or [b"k"])
        return key, bytes([self.random.randrange(256)]) * self.random.choice((3, 40, 100))

    cdef u64 with_pair(self, u64 outcome, bytes key, value) except? 0:
        """The print of what scratch held, with the pair put: computed from the models, not from scratch."""
        return model_print({**self.model_of(outcome), key: value})

    cdef dict model_of(self, u64 outcome):
        for model in self.candidates:
            if model_print(model) == outcome:
                return model
        raise SimulationFailure("the outcome is no model")


SITES = [site_names[i].decode() for i in range(PMKV_SITE_COUNT)]
SITE_TYPES = {site_names[i].decode(): chr(site_types[i]) for i in range(PMKV_SITE_COUNT)}
