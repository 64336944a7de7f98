"""_lz4.pyx (L6): LZ4 blocks, many in one loop without the interpreter's lock.

May know: nothing of pools.  The C functions are those inside the `lz4` package's own library, found by
their names when this module is imported; where a build of it does not show them, its Python functions
do the same, one value at a time.  Both make what the other reads:

    block        size of the value, u32 | an LZ4 block         as lz4.block.compress() makes it
    under a dictionary:  its number, u16, before that

1. Nothing is allocated or written beyond the size that the caller expects; a block that says another
   one, or one that LZ4 cannot reach, is refused first.
2. The arena of a loop is bounded: ARENA_SIZE, or one value's size.
3. Threads: all functions may run in several at once.  A Dictionary does not change once it is made.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython cimport final
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

import os

import lz4.block

cdef extern from "dlfcn.h" nogil:
    enum:
        RTLD_NOW, RTLD_LOCAL
    void* dlopen(const char* path, int flags)
    void* dlsym(void* library, const char* name)

ctypedef int (*SizeofState)() noexcept nogil
ctypedef void* (*InitStream)(void* state, size_t size) noexcept nogil
ctypedef int (*Compress)(void* stream, const char* source, char* target, int size, int room,
                         int acceleration) noexcept nogil
ctypedef void (*ResetStream)(void* stream) noexcept nogil
ctypedef void* (*CreateStream)() noexcept nogil
ctypedef int (*FreeStream)(void* stream) noexcept nogil
ctypedef int (*LoadDict)(void* stream, const char* dictionary, int size) noexcept nogil
ctypedef void (*AttachDictionary)(void* stream, const void* dictionary) noexcept nogil
ctypedef int (*Decompress)(const char* source, char* target, int size, int room) noexcept nogil
ctypedef int (*DecompressDict)(const char* source, char* target, int size, int room, const char* dictionary,
                               int dictionary_size) noexcept nogil

cdef struct Library:
    SizeofState sizeof_state
    InitStream init_stream
    ResetStream reset_stream
    AttachDictionary attach_dictionary
    Compress compress
    CreateStream create_stream
    FreeStream free_stream
    LoadDict load_dict
    Decompress decompress
    DecompressDict decompress_dict

cdef struct Job:
    Py_ssize_t index                 # of the value
    const char* source
    int size
    int made                         # bytes of the block; 0: LZ4 has failed
    char* target

cdef enum:
    STATE_WORDS = 4096              # twice what LZ4 1.9 needs for its tables; they lie on the stack
    ACCELERATION = 1
    SIZE_FIELD = 4
    NUMBER_FIELD = 2
    SAVED = 8                       # a record's word for its coding: what a value must at least save
    EXPANSION = 255                 # at most that many bytes come of one
    CLEAR_FROM = 512                # bytes from which on clear tables gain more than clearing them costs
    REACH = 64 << 10
    ARENA_SIZE = 4 << 20
    # Bytes from which on the interpreter's lock is let go.  Beside a thread that is busy with Python it comes back
    # after 5 ms only: too much for what takes less than one.  What _workers.run cuts is larger than the first.
    ENCODE_RELEASES_FROM = 100 << 10
    DECODE_RELEASES_FROM = 1 << 20

cdef uint64_t MAX_SIZE = 0x7E000000     # LZ4_MAX_INPUT_SIZE
cdef Py_ssize_t MAX_BLOCK = 0x7FFFFFFF

cdef Library lib
cdef bint native = False


cdef void* find(void* library, const char* name, bint* all_found) noexcept nogil:
    cdef void* found = dlsym(library, name)
    if found == NULL:
        all_found[0] = False
    return found


cdef bint find_all(void* library, Library* found) noexcept nogil:
    cdef bint complete = True
    found.sizeof_state = <SizeofState>find(library, "LZ4_sizeofState", &complete)
    found.init_stream = <InitStream>find(library, "LZ4_initStream", &complete)
    found.reset_stream = <ResetStream>find(library, "LZ4_resetStream_fast", &complete)
    found.attach_dictionary = <AttachDictionary>find(library, "LZ4_attach_dictionary", &complete)
    found.compress = <Compress>find(library, "LZ4_compress_fast_continue", &complete)
    found.create_stream = <CreateStream>find(library, "LZ4_createStream", &complete)
    found.free_stream = <FreeStream>find(library, "LZ4_freeStream", &complete)
    found.load_dict = <LoadDict>find(library, "LZ4_loadDict", &complete)
    found.decompress = <Decompress>find(library, "LZ4_decompress_safe", &complete)
    found.decompress_dict = <DecompressDict>find(library, "LZ4_decompress_safe_usingDict", &complete)
    return complete and found.sizeof_state() <= <int>(STATE_WORDS * sizeof(uint64_t))


def load(str path):
    """Whether the C functions were found in a library; without them, lz4.block is called for each value."""
    global native, lib
    cdef Library found
    cdef bytes name = os.fsencode(path)
    cdef void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL) if name else NULL
    native = library != NULL and find_all(library, &found)
    if native:
        lib = found
    return native


@final
cdef class Dictionary:
    """What values have in common, prepared once; `number` is what blocks made with it begin with."""
    cdef bytes content
    cdef const char* data           # its bytes
    cdef int size
    cdef readonly uint16_t number
    cdef void* stream               # NULL: without the C functions
    cdef FreeStream free_stream

    def __cinit__(self, bytes content not None, uint16_t number):
        self.content = content[-REACH:]     # no more of it can be referred to
        self.data = PyBytes_AS_STRING(self.content)
        self.size = <int>PyBytes_GET_SIZE(self.content)
        self.number = number
        if native:
            self.stream = lib.create_stream()
            if self.stream == NULL:
                raise MemoryError
            self.free_stream = lib.free_stream
            lib.load_dict(self.stream, self.data, self.size)

    def __dealloc__(self):
        if self.stream != NULL:
            self.free_stream(self.stream)


# ---- encode -------------------------------------------------------------------------------------------------


cdef inline int head_size(Dictionary dictionary) noexcept:
    return SIZE_FIELD if dictionary is None else NUMBER_FIELD + SIZE_FIELD


cdef inline int block_room(uint64_t size, int head) noexcept nogil:
    """How large a block may be that still saves something; 0: none can, or LZ4 does not take the value."""
    return <int>size - SAVED - head - 1 if SAVED + head < size <= MAX_SIZE else 0


cdef inline int bound(uint64_t size) noexcept nogil:
    """The largest block that LZ4 makes of a value."""
    return <int>(size + size // 255 + 16)


cdef void compress_all(Job* jobs, Py_ssize_t count, const void* dictionary, int head) noexcept nogil:
    """Each block into its target, `head` bytes behind where that begins.

    Without a dictionary too this is the call for streams: for values alone there is another, which measured
    15% slower from 4 KiB on, and its blocks larger from 16 KiB on.
    """
    cdef uint64_t state[STATE_WORDS]
    cdef Job* job = jobs
    cdef Job* end = jobs + count
    lib.init_stream(state, sizeof(state))
    while job < end:
        if dictionary != NULL:
            lib.reset_stream(state)
            lib.attach_dictionary(state, dictionary)
        elif job.size < CLEAR_FROM:
            lib.reset_stream(state)
        else:
            lib.init_stream(state, sizeof(state))
        job.made = lib.compress(state, job.source, job.target + head, job.size, bound(job.size), ACCELERATION)
        if job.made <= 0:           # a stream that has failed is in no defined state
            lib.init_stream(state, sizeof(state))
        job += 1


cdef bytes whole_block(Job* job, Dictionary dictionary, int head):
    cdef uint32_t size = job.size
    if dictionary is not None:
        memcpy(job.target, &dictionary.number, NUMBER_FIELD)
    memcpy(job.target + head - SIZE_FIELD, &size, SIZE_FIELD)
    return PyBytes_FromStringAndSize(job.target, head + job.made)


cdef Py_ssize_t gather(tuple values, Py_ssize_t* next_value, Job* jobs, uint64_t* total, int head) except -1:
    """Jobs of the next values, as many as share an arena; those that cannot shrink are passed over."""
    cdef Py_ssize_t count = 0, i
    cdef uint64_t size, needed
    total[0] = 0
    for i in range(next_value[0], len(values)):
        size = PyBytes_GET_SIZE(<bytes?>values[i])
        if block_room(size, head):
            needed = head + bound(size)
            if count and total[0] + needed > ARENA_SIZE:
                next_value[0] = i
                return count
            jobs[count] = Job(index=i, source=PyBytes_AS_STRING(values[i]), size=<int>size, made=0, target=NULL)
            total[0] += needed
            count += 1
    next_value[0] = len(values)
    return count


cdef int compress_in(char* arena, Job* jobs, Py_ssize_t count, uint64_t total, Dictionary dictionary, int head,
                     list results) except -1:
    cdef const void* stream = NULL if dictionary is None else dictionary.stream
    cdef Py_ssize_t i
    for i in range(count):
        jobs[i].target = arena
        arena += head + bound(jobs[i].size)
    if total < ENCODE_RELEASES_FROM:
        compress_all(jobs, count, stream, head)
    else:
        with nogil:
            compress_all(jobs, count, stream, head)
    for i in range(count):
        if 0 < jobs[i].made <= block_room(jobs[i].size, head):
            results[jobs[i].index] = whole_block(&jobs[i], dictionary, head)
    return 0


cdef list encode_natively(tuple values, Dictionary dictionary):
    cdef int head = head_size(dictionary)
    cdef Py_ssize_t next_value = 0, count
    cdef uint64_t total = 0
    cdef char* arena
    cdef list results = [None] * len(values)
    cdef Job* jobs = <Job*>malloc((len(values) + 1) * sizeof(Job))
    if jobs == NULL:
        raise MemoryError
    try:
        while next_value < len(values):
            count = gather(values, &next_value, jobs, &total, head)
            arena = <char*>malloc(total + 1)
            if arena == NULL:
                raise MemoryError
            try:
                compress_in(arena, jobs, count, total, dictionary, head, results)
            finally:
                free(arena)
    finally:
        free(jobs)
    return results


cdef bytes encode_by_package(bytes value, Dictionary dictionary):
    cdef int head = head_size(dictionary)
    if not block_room(len(value), head):
        return None
    if dictionary is None:
        made = lz4.block.compress(value, mode="fast", acceleration=ACCELERATION)
    else:
        made = dictionary.number.to_bytes(NUMBER_FIELD, "little") + lz4.block.compress(
            value, mode="fast", acceleration=ACCELERATION, dict=dictionary.content)
    return made if len(made) + SAVED < len(value) else None


def encode_many(list values not None, Dictionary dictionary=None):
    """The block of each value, None for one that is not larger than its block and 8 bytes."""
    cdef tuple held = tuple(values)
    if native and (dictionary is None or dictionary.stream != NULL):
        return encode_natively(held, dictionary)
    return [encode_by_package(<bytes?>value, dictionary) for value in held]


def encode(bytes value not None, Dictionary dictionary=None):
    """The block of one value, or None."""
    return encode_many([value], dictionary)[0]


# ---- decode -------------------------------------------------------------------------------------------------


cdef uint64_t claimed_size(const char* payload, uint64_t size, Dictionary dictionary) except? 0:
    """The value's size that a block says, if its bytes can make as many."""
    cdef int head = head_size(dictionary)
    cdef uint32_t claimed
    cdef uint16_t number
    if size <= <uint64_t>head:
        raise ValueError(f"an LZ4 block of {size} bytes is not whole")
    if dictionary is not None:
        memcpy(&number, payload, NUMBER_FIELD)
        if number != dictionary.number:
            raise ValueError(f"an LZ4 block needs dictionary {number}, not {dictionary.number}")
    memcpy(&claimed, payload + head - SIZE_FIELD, SIZE_FIELD)
    if claimed > MAX_SIZE or claimed > (size - head) * EXPANSION:
        raise ValueError(f"an LZ4 block of {size - head} bytes cannot make {claimed}")
    return claimed


cdef int decompress(const char* block, int size, char* target, int room, Dictionary dictionary) noexcept nogil:
    if dictionary is None:
        return lib.decompress(block, target, size, room)
    return lib.decompress_dict(block, target, size, room, dictionary.data, dictionary.size)


cdef bytes decode_natively(const char* payload, uint64_t size, uint64_t raw_size, Dictionary dictionary):
    cdef int head = head_size(dictionary), made
    cdef bytes value = PyBytes_FromStringAndSize(NULL, raw_size)
    cdef char* target = PyBytes_AS_STRING(value)
    if raw_size < DECODE_RELEASES_FROM:
        made = decompress(payload + head, <int>(size - head), target, <int>raw_size, dictionary)
    else:
        with nogil:
            made = decompress(payload + head, <int>(size - head), target, <int>raw_size, dictionary)
    if made < 0 or <uint64_t>made != raw_size:
        raise ValueError("an LZ4 block is damaged")
    return value


cdef bytes decode_by_package(const char* payload, uint64_t size, uint64_t raw_size, Dictionary dictionary):
    cdef int head = head_size(dictionary) - SIZE_FIELD
    cdef bytes block = payload[head:size]
    try:
        if dictionary is None:
            value = lz4.block.decompress(block)
        else:
            value = lz4.block.decompress(block, dict=dictionary.content)
    except lz4.block.LZ4BlockError as error:
        raise ValueError(f"an LZ4 block is damaged: {error}") from None
    if len(value) != raw_size:
        raise ValueError("an LZ4 block is damaged")
    return value


def decode(object payload, object raw_size, Dictionary dictionary=None):
    """The value of a block; ValueError for what is none of `raw_size` bytes (None: of as many as it says)."""
    cdef Py_buffer buffer
    cdef const char* data
    cdef uint64_t claimed
    PyObject_GetBuffer(payload, &buffer, PyBUF_SIMPLE)
    try:
        data = <const char*>buffer.buf
        claimed = claimed_size(data, buffer.len, dictionary)
        if buffer.len > MAX_BLOCK or raw_size is not None and claimed != raw_size:
            raise ValueError(f"an LZ4 block makes {claimed} bytes, not {raw_size}")
        if native:
            return decode_natively(data, buffer.len, claimed, dictionary)
        return decode_by_package(data, buffer.len, claimed, dictionary)
    finally:
        PyBuffer_Release(&buffer)


load(getattr(getattr(lz4.block, "_block", None), "__file__", ""))
