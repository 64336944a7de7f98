"""_pages.pxd (L2): runs of pages, and the descriptors that say what they are."""
from libc.stdint cimport uint32_t
from pmkv._core cimport pmkv_at, pmkv_prefetch, u64
from pmkv._pool cimport Pool, descriptor_place, place_page
from pmkv._writeset cimport Txn

cdef enum:
    DESCRIPTOR_WORDS = 8

# Words 0 and 1 of a descriptor.
cdef struct Head:
    int kind
    int block_class
    bint listed
    u64 page_count
    u64 prev
    u64 next

cdef inline u64 head_word(int kind, u64 block_class, u64 listed, u64 page_count) noexcept nogil:
    return <u64>kind | block_class << 8 | listed << 16 | page_count << 32

cdef inline void read_head(const u64* line, Head* head) noexcept nogil:
    head.kind = line[0] & 255
    head.block_class = line[0] >> 8 & 255
    head.listed = line[0] >> 16 & 255
    head.page_count = line[0] >> 32
    head.prev = <uint32_t>line[1]
    head.next = line[1] >> 32

cdef inline void descriptor_prefetch(const Pool* p, u64 place) noexcept nogil:
    """Asks for the descriptor of the page there: who frees what lies in it will need it."""
    pmkv_prefetch(pmkv_at(&p.m, descriptor_place(place_page(p, place))))

cdef const u64* descriptor_line(Txn* t, u64 page, u64* copy) noexcept nogil
cdef int descriptor_change(Txn* t, u64 page, const u64* line, u64* changed) noexcept nogil
cdef int descriptor_read(Txn* t, u64 page, Head* head) noexcept nogil
cdef int descriptor_log(Txn* t, u64 page, u64 word_index, u64 word) noexcept nogil
cdef int descriptor_clear(Txn* t, u64 page) noexcept nogil
cdef bint descriptor_is_whole(const Pool* p, u64 page) noexcept nogil
cdef int list_push(Txn* t, u64 list_place, u64 page) noexcept nogil
cdef int list_remove(Txn* t, u64 list_place, u64 page) noexcept nogil
cdef int pages_allocate(Txn* t, u64 count, int kind, u64 block_class, u64* page) noexcept nogil
cdef bint page_is_high(const Pool* p, u64 page) noexcept nogil
cdef bint pages_fit_below(Txn* t, u64 count) noexcept nogil
cdef bint page_fits(Txn* t) noexcept nogil
cdef bint next_run(Txn* t, u64* page, Head* head) noexcept nogil
cdef int pages_free(Txn* t, u64 page, u64 count) noexcept nogil
cdef int pages_spare(Txn* t, u64 count, u64* page) noexcept nogil
cdef int bin_of(u64 count) noexcept nogil
cdef bint pages_are_free(Txn* t, u64 count) noexcept nogil
