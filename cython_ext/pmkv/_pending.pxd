"""_pending.pxd: lines that a power cut may leave at any age."""
from pmkv._core cimport u64
from pmkv._pool cimport Pool

cdef class Pending:
    cdef dict lines               # place of the line -> list of contents
    cdef dict flushed             # place of the line -> index of the content that the next fence keeps
    cdef list order               # (line, index) of every store, in time
    cdef u64 unit
    cdef Pool* base
    cdef dict overlay             # what is durable beside the base: a crash state, or nothing

    cdef bytes durable(self, u64 line)
    cdef store(self, u64 place, size_t size, const char* data)
    cdef flush(self, u64 place, size_t size)
    cdef dict settle(self, dict kept)
    cdef dict fence(self)
    cdef dict sync(self, u64 place, size_t size)

cdef Pending pending_on(Pool* base, u64 unit, dict overlay)
