"""_tracer.pyx: every store to a pool, every flush, fence and sync, written down; some site may be taken out.

A test instrument beside the floors: persist.h calls it (P1), the simulator reads what it wrote.
"""
from libc.stdlib cimport realloc
from libc.string cimport memcpy, memset
from pmkv._core cimport *
from pmkv._pool cimport Pool


cdef Event* add_event(Log* log, EventKind kind, u64 place, size_t size, int site) noexcept nogil:
    if log.count == log.capacity:
        log.capacity = log.capacity * 2 + 1024
        log.events = <Event*>realloc(log.events, log.capacity * sizeof(Event))
    cdef Event* event = &log.events[log.count]
    log.count += 1
    event.kind, event.place, event.size, event.site = kind, place, size, site
    return event


cdef bint is_mutant(Log* log, int site) noexcept nogil:
    if site != log.mutant:
        return False
    log.mutant_hits += 1
    return True


cdef void on_stored(void* context, u64 place, size_t size) noexcept nogil:
    cdef Log* log = <Log*>context
    cdef Event* event = add_event(log, STORED, place, size, 0)
    if log.used + size > log.room:
        log.room = (log.used + size) * 2
        log.bytes = <char*>realloc(log.bytes, log.room)
    memcpy(log.bytes + log.used, pmkv_at(&log.p.m, place), size)
    event.at = log.used
    log.used += size


cdef void on_flushed(void* context, u64 place, size_t size, int site) noexcept nogil:
    if not is_mutant(<Log*>context, site):
        add_event(<Log*>context, FLUSHED, place, size, site)


cdef void on_fenced(void* context, int site) noexcept nogil:
    if not is_mutant(<Log*>context, site):
        add_event(<Log*>context, FENCED, 0, 0, site)


cdef void on_synced(void* context, u64 place, size_t size, int site) noexcept nogil:
    if not is_mutant(<Log*>context, site):
        add_event(<Log*>context, SYNCED, place, size, site)


cdef int on_failed_check(void* context, int site) noexcept nogil:
    return is_mutant(<Log*>context, site)


cdef void trace(Log* log, pmkv_tracer* tracer, Pool* p, int mutant) noexcept nogil:
    memset(log, 0, sizeof(Log))
    log.p = p
    log.mutant = mutant
    tracer.context = log
    tracer.stored, tracer.flushed, tracer.fenced = on_stored, on_flushed, on_fenced
    tracer.synced, tracer.failed_check = on_synced, on_failed_check
    p.m.tracer = tracer
