"""_growth.pyx (L1): room in the file: how it grows, ahead of the writer, and how it is cut.

May know: the file and its mapping.  Not what pages are for.

Invariants
  1. What the file has room for is allocated (fallocate), so a store into a mapped
     page below `file_pages` never meets a hole on a full file system.
  2. A step ahead belongs to its thread once that has begun, until it is done, and changes nothing but the file
     beyond `file_pages`.  Who changes the file's size waits for it first; nobody else relies on what is there.
  3. A descriptor of the file is not closed before pool_settle(): its number may be another file's then.
Threads: the writer's, and the one that it starts here.
"""
from libc.errno cimport EINTR, ENOSPC, EOPNOTSUPP, EFBIG, EDQUOT, EIO, errno
from libc.stdlib cimport calloc, free, malloc
from pmkv._core cimport *
from pmkv._pool cimport (
    Pool, descriptor_offset, file_size_for, page_offset, page_place, pool_map_sections,
)

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <fcntl.h>
    #include <linux/magic.h>
    #include <pthread.h>
    #include <semaphore.h>
    #include <signal.h>
    #include <sys/mman.h>
    #include <sys/vfs.h>
    #include <unistd.h>
    #ifndef MADV_POPULATE_WRITE
    #define MADV_POPULATE_WRITE 23
    #endif
    #ifndef MADV_COLLAPSE
    #define MADV_COLLAPSE 25
    #endif
    """
    int MADV_POPULATE_WRITE, MADV_COLLAPSE
    int SEEK_END, SEEK_HOLE
    int SIG_SETMASK
    long TMPFS_MAGIC
    ctypedef unsigned long pthread_t
    ctypedef struct sem_t:
        pass
    ctypedef struct sigset_t:
        pass
    cdef struct file_system "statfs":
        long f_type
    int fallocate(int, int, long, long) nogil
    int fstatfs(int, file_system*) nogil
    int fsync(int) nogil
    int ftruncate(int, long) nogil
    long lseek(int, long, int) nogil
    int madvise(void*, size_t, int) nogil
    int pthread_create(pthread_t*, const void*, void* (*)(void*) noexcept nogil, void*) nogil
    int pthread_detach(pthread_t) nogil
    int pthread_sigmask(int, const sigset_t*, sigset_t*) nogil
    ssize_t pwrite(int, const void*, size_t, long) nogil
    int sem_destroy(sem_t*) nogil
    int sem_init(sem_t*, int, unsigned) nogil
    int sem_post(sem_t*) nogil
    int sem_wait(sem_t*) nogil
    int sigfillset(sigset_t*) nogil

cdef enum:
    HUGE = 2 << 20
    HUGE_PAGES = 512
    GROW_MIN_PAGES = 512           # 2 MiB
    GROW_MAX_PAGES = 16384         # 64 MiB
    GROW_TRACED_PAGES = 8          # a simulated pool is small, and so are its states
    AHEAD_PAGES = 4096             # 16 MiB: a step ahead is an eighth of a pool at most


# ---- a range of the file ---------------------------------------------------------------------

cdef int file_write_zeros(Pool* p, u64 offset, u64 size, size_t chunk) noexcept nogil:
    """Real zeros: no unwritten extents, whose first store would wait for the journal.

    `chunk` is also the largest folio that the page cache makes of them.
    """
    cdef ssize_t n
    cdef char* zeros = <char*>calloc(1, chunk)
    if zeros == NULL:
        return PMKV_NO_MEMORY
    while size > 0:
        n = pwrite(p.m.fd, zeros, min(size, <u64>chunk), <long>offset)
        if n < 0 and errno == EINTR:
            continue
        if n <= 0:
            p.fault.os_error = errno if n < 0 else EIO
            free(zeros)
            return PMKV_OS_ERROR
        offset += <u64>n
        size -= <u64>n
    free(zeros)
    return PMKV_OK


cdef int file_allocate(Pool* p, u64 offset, u64 size) noexcept nogil:
    """Makes the file own its blocks of the range.  It may have owned them before."""
    cdef int failed
    while True:
        failed = 0
        if fallocate(p.m.fd, 0, <long>offset, <long>size) != 0:
            failed = errno
        if failed != EINTR:
            break
    if failed == EOPNOTSUPP:
        return file_write_zeros(p, offset, size, 1 << 20)   # as a new range it holds nothing yet
    if failed:
        p.fault.os_error = failed
        return PMKV_OS_ERROR
    if p.synchronous:
        return file_write_zeros(p, offset, size, 1 << 20)
    return PMKV_OK


cdef void populate(Pool* p, char* at, u64 size) noexcept nogil:
    """Takes the page faults of memory ahead of the stores; elsewhere they cost no more later."""
    cdef u64 skew = <u64>at % PAGE_SIZE
    if p.m.domain != PMKV_DOMAIN_PAGE and p.m.tracer == NULL:
        madvise(at - skew, size + skew, MADV_POPULATE_WRITE)


cdef bint take_huge_pages(Pool* p, char* at, u64 offset, u64 size) noexcept nogil:
    """Memory of tmpfs for the range in huge pages, mapped as such; False where that cannot be had.

    The file gets the last page of each, and with it its length, so that a full file system says so;
    the kernel makes it a huge page then, with zeros where the file had nothing (decision 0004).  On a
    disk that would scatter the file.
    """
    cdef u64 done = 0
    cdef file_system found
    if p.m.domain == PMKV_DOMAIN_PAGE or p.m.tracer != NULL or size % HUGE:
        return False
    if fstatfs(p.m.fd, &found) != 0 or found.f_type != TMPFS_MAGIC:
        return False
    while done < size:
        done += HUGE
        if fallocate(p.m.fd, 0, <long>(offset + done - PAGE_SIZE), PAGE_SIZE) != 0:
            return False
    # MADV_COLLAPSE passes by what is not a whole huge page of this machine, and reports no failure.
    return madvise(at, size, MADV_COLLAPSE) == 0 and lseek(p.m.fd, <long>offset, SEEK_HOLE) >= <long>(offset + size)


cdef int allocate_pages(Pool* p, u64 first, u64 end) noexcept nogil:
    """Makes the file own pages [first, end), which lie in one section, and maps them ahead."""
    cdef char* at = p.m.data + page_place(p, first)
    cdef u64 offset = page_offset(p, first), size = (end - first) * PAGE_SIZE
    cdef int status
    if take_huge_pages(p, at, offset, size):
        return PMKV_OK
    status = file_allocate(p, offset, size)
    if status == PMKV_OK:
        populate(p, at, size)
    return status


cdef int extend_to(Pool* p, u64 pages) noexcept nogil:
    """Gives the file room for pages [file_pages, pages), section by section."""
    cdef u64 first = p.file_pages, end
    cdef int failed, status = pool_map_sections(p, pages)
    while status == PMKV_OK and first < pages:
        end = min(pages, (first // p.section_pages + 1) * p.section_pages)
        status = allocate_pages(p, first, end)
        if status == PMKV_OK:   # afterwards: what the pages have no room for takes none for these
            status = file_allocate(p, descriptor_offset(p, first), (end - first) * 64)
        if status == PMKV_OK:
            populate(p, p.m.descriptors + first * 64, (end - first) * 64)
        first = end
    if status == PMKV_OK and p.m.domain != PMKV_DOMAIN_PROCESS and fsync(p.m.fd) != 0:
        p.fault.os_error = errno   # the file's new size must survive what is stored there
        status = PMKV_OS_ERROR
    if status == PMKV_OK:
        p.file_pages = pages
        return PMKV_OK
    failed = p.fault.os_error
    pool_shrink(p, p.file_pages)       # gives back the part that there was room for
    p.fault.os_error = failed
    return PMKV_FULL if status == PMKV_OS_ERROR and failed in (ENOSPC, EDQUOT, EFBIG) else status


# ---- a step ahead ----------------------------------------------------------------------------

# What a thread works on: a copy, so that nothing of the pool is shared but the file and its mapping.
cdef struct Ahead:
    u64 state
    sem_t done
    int status
    u64 pages                # that the file is to have room for
    Pool pool                # of which nothing is ahead


cdef enum:
    WAITING                  # for a processor
    RUNNING
    DONE
    DROPPED                  # who needs it does it: the thread finds nothing to do


cdef void* run_ahead(void* argument) noexcept nogil:
    cdef Ahead* a = <Ahead*>argument
    if not pmkv_atomic_change(&a.state, WAITING, RUNNING):
        free(a)
        return NULL
    a.status = extend_to(&a.pool, a.pages)
    pmkv_atomic_store(&a.state, DONE)
    sem_post(&a.done)                  # from here on it may be freed
    return NULL


cdef bint start_thread(Ahead* a) noexcept nogil:
    """Every signal is blocked in it: they are the program's, and SIGXFSZ becomes an error."""
    cdef sigset_t every, before
    cdef pthread_t thread
    cdef bint started
    sigfillset(&every)
    pthread_sigmask(SIG_SETMASK, &every, &before)
    started = pthread_create(&thread, NULL, run_ahead, a) == 0
    pthread_sigmask(SIG_SETMASK, &before, NULL)
    if started:
        pthread_detach(thread)
    return started


cdef void begin_ahead(Pool* p) noexcept nogil:
    """Has the next step taken while the writer fills the last one, if the pool is not small.

    Memory costs most of a step's time, most of all where it is a host's (decision 0029).  On a disk in
    the page domain there is none to wait for.
    """
    cdef u64 pages = next_size(p, p.file_pages)
    cdef Ahead* a
    if (p.ahead != NULL or p.m.domain == PMKV_DOMAIN_PAGE or p.m.tracer != NULL
            or p.file_pages < AHEAD_PAGES or pages <= p.file_pages):
        return
    if pool_map_sections(p, pages) != PMKV_OK:    # here, not there: the pool keeps count of them
        return
    a = <Ahead*>malloc(sizeof(Ahead))
    if a == NULL:
        return
    a.state, a.pages, a.pool = WAITING, pages, p[0]
    sem_init(&a.done, 0, 0)
    if start_thread(a):
        p.ahead = a
    else:
        free(a)


cdef bint pool_end_ahead(Pool* p) noexcept nogil:
    """Waits for the step ahead if it has begun, else drops it; True if it is the pool's now."""
    cdef Ahead* a = <Ahead*>p.ahead
    cdef bint taken
    if a == NULL:
        return False
    p.ahead = NULL
    if pmkv_atomic_change(&a.state, WAITING, DROPPED):
        return False                   # the thread frees it
    while sem_wait(&a.done) != 0:      # EINTR
        pass
    taken = a.status == PMKV_OK
    if taken:
        p.file_pages = a.pages
    sem_destroy(&a.done)
    free(a)
    return taken


cdef void pool_take_ahead(Pool* p) noexcept nogil:
    """If the step ahead is done, it becomes the pool's, and the next one is begun."""
    cdef Ahead* a = <Ahead*>p.ahead
    if a != NULL and pmkv_atomic_load(&a.state) == DONE and pool_end_ahead(p):
        begin_ahead(p)


cdef void pool_forget_ahead(Pool* p) noexcept nogil:
    """In a child of fork, which has no such thread."""
    free(p.ahead)
    p.ahead = NULL


cdef void pool_settle(Pool* p) noexcept nogil:
    """Before the file is closed: nobody works on it any more, and what was taken ahead is given back."""
    cdef u64 pages = p.file_pages
    if pool_end_ahead(p):
        pool_shrink(p, pages)


# ---- growing and cutting -----------------------------------------------------------------------

cdef u64 growth_step(const Pool* p) noexcept nogil:
    """2 MiB where growth is memory, for which somebody may wait; else, since each step is a sync, a 64th
    of the pool, up to 64 MiB.
    """
    if p.m.tracer != NULL:
        return GROW_TRACED_PAGES
    if p.m.domain == PMKV_DOMAIN_PROCESS or not (p.m.domain == PMKV_DOMAIN_PAGE or p.synchronous):
        return GROW_MIN_PAGES
    return max(<u64>GROW_MIN_PAGES, min(<u64>GROW_MAX_PAGES, p.file_pages // 64))


cdef u64 next_size(const Pool* p, u64 pages) noexcept nogil:
    """How many pages the file is to have room for if it needs `pages`: a step more, in whole huge pages."""
    cdef u64 wished = max(pages, p.file_pages + growth_step(p))
    if p.m.tracer == NULL:
        wished = (wished + HUGE_PAGES - 1) // HUGE_PAGES * HUGE_PAGES
    return min(wished, min(p.max_pages, p.reserved_pages))


cdef int grow_device(Pool* p, u64 pages) noexcept nogil:
    cdef u64 wished = min(p.device_pages, pages + GROW_MAX_PAGES)
    cdef int status
    if pages > p.device_pages:
        p.fault.os_error = ENOSPC
        return PMKV_FULL
    status = pool_map_sections(p, wished)
    if status == PMKV_OK:
        p.file_pages = wished
    return status


cdef int grow_file(Pool* p, u64 pages) noexcept nogil:
    cdef u64 wished = next_size(p, pages)
    cdef int status
    if pages > p.max_pages:
        p.fault.os_error = 0
        return PMKV_FULL
    if pages > p.reserved_pages:
        return PMKV_ADDRESS_SPACE
    status = extend_to(p, wished)
    if status == PMKV_FULL and wished > pages:
        return extend_to(p, pages)     # and nothing ahead, which there is no room for
    if status == PMKV_OK:
        begin_ahead(p)
    return status


cdef int pool_grow(Pool* p, u64 pages) noexcept nogil:
    """Gives the pool room for at least `pages` pages; a step more where there is room.

    What it costs does not depend on the pool's size.  FULL leaves everything as it was.
    """
    if pages <= p.file_pages:
        return PMKV_OK
    if p.device_pages:
        return grow_device(p, pages)
    pool_end_ahead(p)
    if pages > p.file_pages:
        return grow_file(p, pages)
    begin_ahead(p)
    return PMKV_OK


cdef u64 pool_least_pages(const Pool* p, u64 pages) noexcept nogil:
    """How many pages a pool that needs so many is cut to: whole huge pages, as it grows; a device never."""
    if p.device_pages:
        return p.file_pages
    if p.m.tracer == NULL:
        pages = (pages + HUGE_PAGES - 1) // HUGE_PAGES * HUGE_PAGES
    return min(pages, p.file_pages)


cdef u64 pool_file_size(const Pool* p) noexcept nogil:
    """Bytes of the file, what was taken ahead among them; of a device, what the pool uses."""
    cdef long end = 0 if p.device_pages else lseek(p.m.fd, 0, SEEK_END)
    return <u64>end if end > 0 else file_size_for(p, p.file_pages)


cdef int pool_shrink(Pool* p, u64 pages) noexcept nogil:
    """Cuts off what the file has beyond `pages` pages.

    The root's page count says so already, durably, and the log is empty: no entry names a page that
    is gone.  A crash before the cut leaves a file that is longer than it must be, as one in the middle
    of its growth.  Descriptors up there are zero, and zeros are what a longer file has there (F5).
    What is mapped stays mapped: it ends with the file, and comes back with it.
    """
    cdef u64 size = file_size_for(p, pages)
    cdef long end
    if p.device_pages:
        return PMKV_OK
    pool_end_ahead(p)                  # a copy that a thread works on has none
    p.file_pages = min(p.file_pages, pages)
    end = lseek(p.m.fd, 0, SEEK_END)
    while end > <long>size and ftruncate(p.m.fd, <long>size) != 0:
        if errno != EINTR:
            p.fault.os_error = errno
            return PMKV_OS_ERROR
    return PMKV_OK
