"""_buffer.pyx (L6): dirty values: what a program has written lazily, and is not in the pool yet.

May know: nothing of tables but that they are there.  Bytes and counts only.

A *generation* is what was written since the last writeback began, each key once.  Writeback takes it
whole and commits it in one transaction, while the next one is filled.  So what survives a crash is what
was written up to some moment (a prefix), though a key that was written twice is stored once.

Invariants
  U1. A key's newest value is in `filling`, or else in `writing`, or else in the pool.
  U2. `writing` leaves the buffer when its commit is durable; if that fails, it is put back under what was
      written since: nothing dirty is ever dropped.
  U3. `held` counts keys, values, and OVERHEAD for each; nothing is added that would go beyond `capacity`.
  U4. The last RESERVE-th of the capacity is for deletes: in a pool that is full they make room.
  U5. The tables are the buffer's own: it keeps no handle of the program's alive.

Threads: under the GIL.  What looks and then changes allocates nothing that the collector counts in
between, so no Python code runs.  Whose turn it is is known without a step of Python between taking the
lock and noting it down: whatever a finalizer or a signal handler does meanwhile, it does not wait for itself.
"""
from cpython.dict cimport PyDict_Next
from cpython.pythread cimport (
    NOWAIT_LOCK, WAIT_LOCK, PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock,
    PyThread_get_thread_ident, PyThread_release_lock,
)
from cpython.ref cimport PyObject
from pmkv._core cimport u64

from pmkv._errors import PoolFullError

cdef enum:
    OVERHEAD = 256                # bytes of objects and of their places in dicts, for each key
    RESERVE = 16


cdef Dirty new_dirty(bytes key, bytes value, object encoder, u64 expiry):
    cdef Dirty dirty = Dirty.__new__(Dirty)
    dirty.value, dirty.encoder, dirty.expiry = value, encoder, expiry
    dirty.size = OVERHEAD + len(key) + (0 if value is None else len(value))
    return dirty


cdef class Dirty:
    """One value, or that a key is deleted."""


cdef class Generation:
    """What was written between two moments, each key once."""

    def __cinit__(self):
        self.tables, self.values = {}, {}


cdef class Buffer:
    """The dirty values of a pool: at most two generations, at most `capacity` bytes."""

    def __cinit__(self, u64 capacity):
        self.capacity = capacity
        self.filling = Generation()
        self.turn = PyThread_allocate_lock()
        if self.turn == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.turn != NULL:
            PyThread_free_lock(self.turn)

    cdef bint take_turn(self) noexcept:
        """Waits for it, without the GIL; False if it is this thread's already."""
        cdef unsigned long me = PyThread_get_thread_ident()
        if self.owner == me:
            return False
        if not PyThread_acquire_lock(self.turn, NOWAIT_LOCK):
            with nogil:
                PyThread_acquire_lock(self.turn, WAIT_LOCK)
        self.owner = me
        return True

    cdef void give_turn(self) noexcept:
        self.owner = 0
        PyThread_release_lock(self.turn)

    cdef Dirty find(self, u64 id, bytes key):
        """The newest of the key, or None."""
        cdef object values = self.filling.values.get(id)
        cdef object found = None if values is None else (<dict>values).get(key)
        if found is None and self.writing is not None:
            values = self.writing.values.get(id)
            found = None if values is None else (<dict>values).get(key)
        return <Dirty>found

    cdef bint has_room(self, u64 size) noexcept:
        return self.held + size <= self.capacity - self.capacity // RESERVE

    cdef bint has_reserve(self, u64 size) noexcept:
        """has_room() for a delete."""
        return self.held + size <= self.capacity

    cdef bint may_hold(self, u64 size) noexcept:
        """Whether so much would leave room for others."""
        return size <= self.capacity // 2

    cdef bint wants_writeback(self) noexcept:
        """Whether someone is to be told: that there is something to write back; that it is time to."""
        if not self.told or (not self.hurried and self.is_half_full()):
            self.hurried = self.is_half_full()
            self.told = True
            return True
        return False

    cdef int raise_error(self, bint deletes) except -1:
        """What a writeback in the background has failed with reaches the next call, once.

        But not a delete, if the pool was full: it makes room, and what did not fit is dirty still.
        """
        if deletes and isinstance(self.error, PoolFullError):
            return 0
        error, self.error = self.error, None
        if error is not None:
            raise error
        return 0

    cdef int prepare(self, u64 id, object table, dict values) except -1:
        """Makes a place for the namespace's keys, also where one is of a namespace that had its id."""
        self.filling.values[id], self.filling.tables[id] = values, table
        return 0

    cdef object table_of(self, u64 id):
        """The table of the namespace's place, or None."""
        return self.filling.tables.get(id)

    cdef int forget_places(self) except -1:
        """After a write that came to nothing."""
        if self.filling.count == 0:
            self.filling.values.clear()
            self.filling.tables.clear()
        return 0

    cdef int forget_deletes(self, Generation generation) except -1:
        """The deletes of what is being written are durable; the rest is not."""
        for values in generation.values.values():
            for key in [key for key, found in (<dict>values).items() if (<Dirty>found).value is None]:
                del (<dict>values)[key]
        return 0

    cdef int keep(self, u64 id, bytes key, Dirty dirty) except -1:
        """Adds one, for which there is room and a place."""
        cdef dict values = <dict>self.filling.values[id]
        cdef object before = values.get(key)
        values[key] = dirty
        if before is None:
            self.add(1, dirty.size)
        else:
            self.add(0, dirty.size - (<Dirty>before).size)
        return 0

    cdef int keep_all(self, u64 id, dict news) except -1:
        """Adds many at once: no writeback comes between two of them."""
        cdef PyObject* key
        cdef PyObject* dirty
        cdef Py_ssize_t at = 0
        while PyDict_Next(news, &at, &key, &dirty):
            self.keep(id, <bytes>key, <Dirty>dirty)
        return 0

    cdef void add(self, u64 count, u64 size) noexcept:
        self.filling.count += count
        self.filling.held += size
        self.count += count
        self.held += size

    cpdef bint is_half_full(self) noexcept:
        """Whether it is time to write back, so that nobody has to wait for room."""
        return self.filling.held > self.capacity // 2

    def fail(self, error):
        """Keeps what a writeback in the background has failed with, for the next call."""
        self.error = error

    cdef Generation freeze(self):
        """What is dirty now, to be written back; None: nothing is."""
        cdef Generation fresh = Generation()
        if self.filling.count == 0:
            return None
        self.writing, self.filling = self.filling, fresh
        self.told = self.hurried = False
        return self.writing

    cdef int thaw(self) except -1:
        """Writing it back has failed: it is dirty as before, under what was written since (U2)."""
        cdef Generation older = self.writing
        cdef PyObject* id
        cdef PyObject* values
        cdef Py_ssize_t at = 0
        while PyDict_Next(self.filling.values, &at, &id, &values):
            if <object>id in older.values:
                (<dict>older.values[<object>id]).update(<dict>values)
            else:
                older.values[<object>id] = <dict>values
            older.tables[<object>id] = self.filling.tables[<object>id]
        self.filling, self.writing = older, None
        self.told = True
        return self.count_again()

    cdef void done(self) noexcept:
        """What freeze() gave is durable."""
        self.batches += 1
        self.written += self.writing.count
        self.written_bytes += self.writing.held - OVERHEAD * self.writing.count
        self.count -= self.writing.count
        self.held -= self.writing.held
        self.writing = None
        self.error = None

    cdef int count_again(self) except -1:
        cdef u64 count = 0, held = 0
        cdef PyObject* id
        cdef PyObject* values
        cdef PyObject* key
        cdef PyObject* dirty
        cdef Py_ssize_t at = 0, inner
        while PyDict_Next(self.filling.values, &at, &id, &values):
            count += len(<dict>values)
            inner = 0
            while PyDict_Next(<dict>values, &inner, &key, &dirty):
                held += (<Dirty>dirty).size
        self.filling.count = self.count = count
        self.filling.held = self.held = held
        return 0
