"""_compaction.pyx (L6): compact() as Python sees it: slices, one after the other, while others read and write.

May know: tables, compaction.

Threads: each slice is a write like any other, without the GIL (_engine.pyx), and so small that others
wait for it as for a batch.  Between two of them the lock, the turn and the GIL are given up.  Tables of
namespaces whose roots have moved learn their new places before anyone can write there.
"""
from cpython.exc cimport PyErr_CheckSignals
from libc.stdlib cimport free, malloc
from pmkv._compact cimport (
    COMPACTION_DONE, Compaction, compaction_begin, compaction_committed, compaction_fill, compaction_stop,
)
from pmkv._core cimport *
from pmkv._engine cimport Engine
from pmkv._growth cimport pool_end_ahead, pool_file_size
from pmkv._reading cimport Reader
from pmkv._table cimport Table

from pmkv._errors import Error

cdef extern from "unistd.h" nogil:
    int usleep(unsigned)

cdef enum:
    PAUSE_US = 50                 # in which whoever waits for the lock gets it


def compact(Table source not None):
    """Moves live data down and cuts the file off behind it; how many bytes shorter it is."""
    cdef Engine e = source.e
    cdef Compaction* c
    e.need_writable()
    if e.compacting:
        raise Error(f"{e.path}: another thread is compacting this pool")
    c = <Compaction*>malloc(sizeof(Compaction))
    if c == NULL:
        raise MemoryError
    e.compacting = True
    try:
        compaction_begin(c, &e.pins)
        before = drain(source)
        run(source, c)
        return max(0, before - pool_file_size(&e.pool))
    finally:
        e.pool.ceiling = NULL     # it is, but where the pool was closed meanwhile
        e.compacting = False
        free(c)


cdef drain(Table source):
    """What nothing pins any longer need not be moved; how long the file is, with what was taken ahead."""
    cdef u64 size
    source.begin(False)
    source.e.drain()
    with nogil:
        pool_end_ahead(&source.e.pool)
        size = pool_file_size(&source.e.pool)
    source.abandon()
    return size


cdef run(Table source, Compaction* c):
    try:
        while c.phase != COMPACTION_DONE:
            take_slice(source, c, False)
            PyErr_CheckSignals()
            source.e.need_open()
    except BaseException:
        put_in_order(source, c)
        raise


cdef put_in_order(Table source, Compaction* c):
    """After an interrupt or an error: the ceiling goes, and the allocators get back what it kept from them."""
    try:
        take_slice(source, c, True)
        while c.phase != COMPACTION_DONE:
            take_slice(source, c, False)
    except Exception:             # the first error is the one to tell of
        return


cdef int take_slice(Table source, Compaction* c, bint stop) except -1:
    cdef Engine e = source.e
    cdef int status
    cdef u64 head = e.pool.head
    source.begin(False)
    if stop:
        compaction_stop(&e.pool, c)
    c.walked = e.walks != 0
    status = PMKV_OK
    if c.phase != COMPACTION_DONE:
        with nogil:
            status = compaction_fill(&e.txn, c)
    status = source.settle(status)
    if status == PMKV_OK:
        follow_roots(e, c)
        with nogil:
            status = compaction_committed(&e.pool, c)
    elif status == PMKV_FULL:     # not even room for the log of a slice: what was gained is gained
        compaction_stop(&e.pool, c)
        status = PMKV_OK
    source.end(status)
    if e.pool.head != head:
        with nogil:
            usleep(PAUSE_US)
    return 0


cdef void follow_roots(Engine e, const Compaction* c) noexcept:
    """Handles on namespaces whose roots have moved."""
    cdef void* at = e.first_named
    cdef int i
    while at != NULL and c.root_count:
        for i in range(c.root_count):
            if (<Reader>at).namespace == c.roots[i].old:
                (<Reader>at).namespace = c.roots[i].new
                (<Reader>at).mapping = c.roots[i].new + NAMESPACE_MAPPING
                break
        at = (<Reader>at).next_named
