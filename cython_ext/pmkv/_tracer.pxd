"""_tracer.pxd: what is done to a pool, written down."""
from pmkv._core cimport pmkv_tracer, u64
from pmkv._pool cimport Pool

cdef enum EventKind:
    STORED, FLUSHED, FENCED, SYNCED

cdef struct Event:
    EventKind kind
    int site
    u64 place
    size_t size
    size_t at                     # of a store: where its bytes begin in the log

cdef struct Log:
    Pool* p
    int mutant                    # this site does nothing
    u64 mutant_hits
    Event* events
    size_t count
    size_t capacity
    char* bytes
    size_t used
    size_t room

cdef void trace(Log* log, pmkv_tracer* tracer, Pool* p, int mutant) noexcept nogil
