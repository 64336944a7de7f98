"""_blocks.pxd (L2): blocks of granules, for what is smaller than a page."""
from pmkv._core cimport u64
from pmkv._pages cimport Head
from pmkv._writeset cimport Txn

cdef enum:
    RECORD_CLASSES = 22          # classes 0 to 21 hold records
    NODE_CLASS = 22 - 3          # a node of 2**bits words is of class NODE_CLASS + bits

cdef int record_class(u64 size) noexcept nogil
cdef u64 class_pages(int block_class) noexcept nogil
cdef int class_unit_shift(int block_class) noexcept nogil
cdef int block_allocate(Txn* t, int block_class, u64 size, u64* place) noexcept nogil
cdef u64 block_allocate_some(Txn* t, int block_class, const u64* sizes, u64 count, u64* places) noexcept nogil
cdef int block_allocate_below(Txn* t, int block_class, u64 size, u64* place) noexcept nogil
cdef bint block_must_move(Txn* t, u64 place) noexcept nogil
cdef u64 block_used(Txn* t, u64 page) noexcept nogil
cdef u64 class_capacity(int block_class) noexcept nogil
cdef int block_list_anew(Txn* t, u64 page, const Head* head) noexcept nogil
cdef int block_free(Txn* t, u64 place, u64 size) noexcept nogil
