"""_crashes.pxd: every pool that a crash could leave."""
from pmkv._check cimport Report
from pmkv._core cimport pmkv_superblock, pmkv_tracer, u64
from pmkv._pending cimport Pending
from pmkv._pool cimport Pool
from pmkv._space cimport Pins
from pmkv._tracer cimport Event, Log
from pmkv._writeset cimport Txn

cdef class Crashes:
    cdef Pool live
    cdef Pool base
    cdef Pool scratch
    cdef Pool* pools[3]
    cdef Txn txn
    cdef Txn scratch_txn
    cdef Pins pins
    cdef Pins late_pins            # of readers that come after a crash
    cdef Log log
    cdef Log scratch_log
    cdef pmkv_tracer tracer
    cdef pmkv_tracer scratch_tracer
    cdef pmkv_superblock superblock
    cdef pmkv_superblock found     # what opening scratch finds
    cdef Pending pending
    cdef Report* report
    cdef object random
    cdef list files
    cdef list views
    cdef list candidates           # models that the pool may hold at the moment
    cdef u64 base_print            # of the base's content
    cdef u64 pages                 # that the file has at the moment of a crash
    cdef u64 capacity_pages, exhaust, samples, deeper, evaluated
    cdef bint page_domain
    cdef readonly dict model
    cdef readonly dict states      # print of each distinct state's content -> what it recovers to
    cdef readonly dict counts      # states by kind of gap

    cdef u64 unit(self)
    cdef u64 file_size(self) noexcept
    cdef int must(self, int status, what) except -1
    cdef list problems(self)
    cdef int explore(self, before, after, bint explored) except -1
    cdef int walk(self, Log* log, Pending pending, allowed, bint explored, int depth, dict overlay) except -1
    cdef int crash(self, Pending pending, allowed, int depth, gap, dict overlay) except -1
    cdef dict choose(self, Pending pending, lines, indexes)
    cdef dict torn(self, Pending pending, list lines)
    cdef int crash_everywhere(self, Pending pending, list lines, list counts, allowed, int depth, gap,
                              dict overlay) except -1
    cdef int crash_sampled(self, Pending pending, list lines, list counts, allowed, int depth, gap,
                           dict overlay) except -1
    cdef int judge(self, dict state, allowed, int depth, gap, dict overlay) except -1
    cdef u64 difference(self, dict lines) except? 0
    cdef int lay_out(self, dict state) except -1
    cdef int restore(self, dict state) except -1
    cdef u64 recover_and_check(self, allowed, gap) except? 0
    cdef int read_superblock(self)
    cdef u64 judge_content(self, allowed, gap) except? 0
    cdef int crash_deeper(self, dict state, u64 outcome) except -1
    cdef void take_log(self) noexcept
    cdef int restore_all(self, Log* log, dict state) except -1
    cdef int crash_in_successor(self, dict state, u64 outcome) except -1
    cdef tuple successor(self)
    cdef dict model_of(self, u64 outcome)
    cdef u64 with_pair(self, u64 outcome, bytes key, value) except? 0
