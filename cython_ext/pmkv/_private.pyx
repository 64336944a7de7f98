"""_private.pyx (L6): a value's pages mapped once more, for one holder to write to.

May know: how tables are read, and where places are in the file.

The pages are the pool's until they are written to, and then copies (MAP_PRIVATE).  They must be those
of a view, which pins them: what is not written to would change with the file.
"""
from cpython.buffer cimport PyBuffer_FillInfo
from cython cimport final
from pmkv._core cimport *
from pmkv._pool cimport file_offset, page_place, place_page
from pmkv._reading cimport Reader

cdef extern from "sys/mman.h" nogil:
    enum:
        PROT_NONE, PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MAP_FIXED
    void* MAP_FAILED
    void* mmap(void* at, size_t size, int protection, int flags, int fd, long offset)
    int munmap(void* at, size_t size)


@final
cdef class Private:
    """Bytes that can be written to, without anyone else seeing it."""
    cdef object view              # pins the record
    cdef char* base
    cdef size_t size              # of the mapping
    cdef Py_ssize_t shown

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.base, self.shown, 0, flags)

    def __dealloc__(self):
        if self.base != NULL:
            munmap(self.base, self.size)


cdef int map_pieces(Reader table, u64 place, Private private) except -1:
    """Maps the pages, section by section: in the file, sections' descriptors lie between them."""
    cdef u64 done = 0, page, piece
    cdef int status = 0
    while done < private.size and status == 0:
        page = place_page(table.pool, place + done)
        piece = (table.pool.section_pages - page % table.pool.section_pages) * PAGE_SIZE
        piece = min(piece, private.size - done)
        if mmap(private.base + done, piece, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, table.pool.m.fd,
                file_offset(table.pool, place + done)) == MAP_FAILED:
            status = 1
        done += piece
    if status:
        raise MemoryError("no room in the address space for another mapping of the value")
    return 0


def private(Reader table not None, const unsigned char[::1] view not None, object holder):
    """The bytes of a view of a value that begins at a page's start, for `holder` to be kept with them; else None."""
    cdef Private made
    cdef u64 place
    table.need_table()
    if view.shape[0] == 0:
        return None
    place = <u64>(<const char*>&view[0] - table.pool.m.data)
    if place % PAGE_SIZE or not table.pool.header_size <= place < page_place(table.pool, table.pool.file_pages):
        return None
    made = Private.__new__(Private)
    made.view = holder
    made.size = (view.shape[0] + PAGE_SIZE - 1) // PAGE_SIZE * PAGE_SIZE
    made.base = <char*>mmap(NULL, made.size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if made.base == <char*>MAP_FAILED:
        made.base = NULL
        raise MemoryError("no room in the address space for another mapping of the value")
    made.shown = view.shape[0]
    map_pieces(table, place, made)
    return made
