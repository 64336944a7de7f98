"""_engine.pxd (L6): an open pool, and who may write to it."""
from cpython.pythread cimport PyThread_type_lock
from pmkv._buffer cimport Buffer
from pmkv._cache cimport Cache
from pmkv._core cimport pmkv_superblock, u64
from pmkv._pool cimport Pool
from pmkv._writeset cimport Txn
from pmkv._space cimport Pins

cdef class Moment:
    cdef Engine e
    cdef u64 at                   # the number that the next commit was to have; 0: it has ended
    cdef u64 time                 # by the clock: microseconds since 1970
    cdef bint has_expired         # something had expired that was not taken away

    cdef void end(self) noexcept

cdef class Engine:
    cdef Pool pool
    cdef Txn txn
    cdef Pins pins
    cdef pmkv_superblock superblock
    cdef PyThread_type_lock lock   # who may write
    cdef PyThread_type_lock turn   # who changes the pool, or pins, right now
    cdef bint locked              # a writer that may give the GIL back holds `lock`
    cdef bint running             # and a step of it may be running without the GIL: it holds `turn`
    cdef bint usable              # open, and in the process that opened it
    cdef bint closing             # no longer usable, but not unmapped yet
    cdef unsigned long closing_thread
    cdef object transaction       # of the open one, what its tables know it by; or None
    cdef unsigned long writer_thread  # who has `lock`
    cdef u64 busy                 # readers that have released the GIL
    cdef u64 views
    cdef int views_process        # where the store is gone and views are not: they have the file; 0: it is the store's
    cdef u64 replayed
    cdef u64 swept                # keys that expired and were taken away
    cdef u64 next_expiry          # nothing expires before; 0: nothing does
    cdef list dropped             # places to unpin when the step is done
    cdef list ended               # moments to close then
    cdef void* first_named        # tables of namespaces with names, in a list: a drop makes them useless
    cdef u64 walks                # iterators that have noted down where records without order lie: these stay
    cdef bint compacting          # some thread compacts the pool
    cdef bint finishing           # some thread takes away what dropped namespaces have left
    cdef str unusable_because
    cdef Buffer buffer            # what was written lazily; never None
    cdef Cache cache              # of decoded values; never None
    cdef object writeback         # pmkv._writeback.Writeback: writes the buffer back
    cdef bint writing_back        # a step of that runs
    cdef u64 waiting              # writers who need the buffer to be empty
    cdef unsigned long last_waiting   # the thread of one of them
    cdef readonly str path

    cdef int need_open(self) except -1
    cdef int fail(self, int status) except -1
    cdef str kept_text(self)
    cdef int damaged(self, int site, u64 place) except -1
    cdef str damage_text(self)
    cdef int flush(self) except -1
    @final
    cdef int catch_up(self) except -1
    cdef void begin_waiting(self) noexcept
    cdef int wait_for_turn(self) except -1
    cdef int need_writable(self) except -1
    cdef int take_lock(self) except -1
    cdef bint try_lock(self) noexcept
    cdef void give_lock(self) noexcept
    cdef int open_transaction(self, object token) except -1
    cdef int close_transaction(self, bint commit) except -100
    cdef void wait_for_close(self) noexcept
    cdef void start_running(self) noexcept
    cdef void stop_running(self) noexcept
    cdef int wait_for_writer(self) except -1
    cdef void unpin(self, u64 place) noexcept
    cdef void expires(self, u64 time) noexcept
    cdef bint is_due(self, u64 time) noexcept
    cdef int sweep(self, u64 most) noexcept
    cdef void sweep_unless_busy(self) noexcept
    cdef Moment now(self)
    cdef void end_moment(self, u64 at) noexcept
    cdef void collect_unless_busy(self) noexcept
    cdef void pay_off(self) noexcept
    cdef bint drain(self) noexcept
    cdef int set_limits(self, u64 max_size) except -1
    cdef u64 root(self, u64 place) noexcept
    cdef u64 file_size(self) noexcept
