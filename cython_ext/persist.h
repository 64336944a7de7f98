/* persist.h: stores, copies, flushes, fences and syncs.  Nothing else in pmkv
 * writes to a pool or makes anything durable.
 *
 * May know: places and lines; the processor, through arch/.  Not what they mean.
 *
 * Four persistence domains, chosen when a pool is opened:
 *
 *   process  nothing is needed: the kernel keeps what a process stored
 *   byte     caches survive power loss: no flush, but the fence orders
 *   line     each line must be flushed (CLWB ...), then a fence waits for them
 *   page     the kernel's page cache lies between: a range must be synced
 *
 * Invariants
 *   P1. Every store to a pool goes through store_word, copy, stream or
 *       write_synced.  The simulator (the tracer) sees each of them.
 *   P2. A word that publishes something is stored whole (atomics.h).
 *   P3. Each flush, fence, sync and checksum test has a site, a name of its
 *       own; the mutation tests take out one site at a time.
 *
 * Threads: one writer at a time uses these.  A fence covers its own CPU's
 * flushes only, so a commit flushes and fences on one thread.
 */
#ifndef PMKV_PERSIST_H
#define PMKV_PERSIST_H

#include "atomics.h"
#include "arch/arch.h"
#include "layout.h"
#include <errno.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define PMKV_DOMAINS(D) D(PROCESS, "process") D(BYTE, "byte") D(LINE, "cacheline") D(PAGE, "page")
#define PMKV_ENUM_DOMAIN_(name, text) PMKV_DOMAIN_##name,
enum pmkv_domain { PMKV_DOMAINS(PMKV_ENUM_DOMAIN_) };

/* What each site makes durable, or tests: F flush, B fence, S sync, C check. */
#define PMKV_SITES(S)                                                          \
    S(NO_SITE, ' ', "not a site")                                                \
    S(FLUSH_DATA, 'F', "new data that its entry does not carry")                 \
    S(FLUSH_CARRIED, 'F', "new data in place that its entry carries too")        \
    S(FLUSH_ENTRY, 'F', "the redo entry")                                        \
    S(FLUSH_APPLY, 'F', "words applied in place")                                \
    S(FLUSH_CHECKPOINT, 'F', "the checkpoint word")                              \
    S(FLUSH_INDIRECT, 'F', "words of a transaction larger than the ring")        \
    S(FLUSH_REPLAY, 'F', "words that recovery replays")                          \
    S(FLUSH_RING_END, 'F', "recovery's mark that the log ends here")             \
    S(FLUSH_FORMAT, 'F', "header of a new pool")                                 \
    S(FENCE_DATA, 'B', "large new data before its entry")                        \
    S(FENCE_COMMIT, 'B', "the entry, and with it the commit")                    \
    S(FENCE_CHECKPOINT, 'B', "applied words before the checkpoint passes them")  \
    S(FENCE_CHECKPOINT_DONE, 'B', "the checkpoint before the ring is reused")    \
    S(FENCE_REPLAY, 'B', "replayed words before the checkpoint passes them")     \
    S(FENCE_RECOVERED, 'B', "the checkpoint and the end mark before new commits") \
    S(FENCE_FORMAT, 'B', "a new pool before its superblock")                     \
    S(SYNC_DATA, 'S', "page domain: large new data before its entry")            \
    S(SYNC_COMMIT, 'S', "page domain: the entry, and with it the commit")        \
    S(SYNC_CHECKPOINT, 'S', "page domain: applied words before the checkpoint")  \
    S(SYNC_CHECKPOINT_DONE, 'S', "page domain: the checkpoint before the ring is reused") \
    S(SYNC_REPLAY, 'S', "page domain: replayed words before the checkpoint")     \
    S(SYNC_RECOVERED, 'S', "page domain: checkpoint and end mark before new commits") \
    S(SYNC_FORMAT, 'S', "page domain: a new pool before its superblock")         \
    S(CHECK_ENTRY, 'C', "checksum of an entry of the ring")                      \
    S(CHECK_POSITION, 'C', "an entry is of this lap of the ring")                \
    S(CHECK_INDIRECT, 'C', "checksum of an indirect entry's words")              \
    S(CHECK_SUPERBLOCK, 'C', "checksum of a superblock")                         \
    S(CHECK_SEAL, 'C', "check of a sealed word")                                 \
    S(CHECK_DESCRIPTOR, 'C', "CRC32C of a descriptor")                           \
    S(CHECK_RECORD, 'C', "CRC32C of a record")                                   \
    S(CHECK_VALUE, 'C', "CRC32C of a value in an extent")                        \
    S(CHECK_TREE, 'C', "check of a node of the ordered keys, or of a key in it")
#define PMKV_ENUM_SITE_(name, type, meaning) PMKV_##name,
enum pmkv_site { PMKV_SITES(PMKV_ENUM_SITE_) PMKV_SITE_COUNT };

struct pmkv_tracer {
    void *context;
    void (*stored)(void *context, uint64_t place, size_t n);
    void (*flushed)(void *context, uint64_t place, size_t n, int site);
    void (*fenced)(void *context, int site);
    void (*synced)(void *context, uint64_t place, size_t n, int site); /* n 0: everything */
    int (*failed_check)(void *context, int site);                      /* 1: let it pass */
};

struct pmkv_medium {
    char *data;        /* where place 0 is mapped */
    char *descriptors; /* where place PMKV_DESCRIPTOR_SPACE is mapped */
    int domain;
    int flush_op;
    unsigned line_size;
    int fd;
    struct pmkv_tracer *tracer; /* the simulator, or NULL */
};

static inline void *pmkv_at(const struct pmkv_medium *m, uint64_t place)
{
    return place & PMKV_DESCRIPTOR_SPACE ? m->descriptors + (place ^ PMKV_DESCRIPTOR_SPACE)
                                         : m->data + place;
}

static inline uint64_t pmkv_load(const struct pmkv_medium *m, uint64_t place)
{
    return pmkv_atomic_load(pmkv_at(m, place));
}

static inline void pmkv_store(const struct pmkv_medium *m, uint64_t place, uint64_t word)
{
    pmkv_atomic_store(pmkv_at(m, place), word);
    if (__builtin_expect(m->tracer != NULL, 0))
        m->tracer->stored(m->tracer->context, place, 8);
}

/* Pushes the lines of a range towards the medium; the next fence waits for them. */
static inline void pmkv_flush(const struct pmkv_medium *m, uint64_t place, size_t n, int site)
{
    if (__builtin_expect(m->tracer != NULL, 0)) {
        m->tracer->flushed(m->tracer->context, place, n, site);
        return;
    }
    if (m->flush_op != PMKV_FLUSH_NONE) {
        char *begin = (char *)pmkv_at(m, place), *end = begin + n;
        for (begin -= (uintptr_t)begin & (m->line_size - 1); begin < end; begin += m->line_size)
            pmkv_arch_flush_line(begin, m->flush_op);
    }
}

/* Orders: what was flushed before is durable before anything stored after. */
static inline void pmkv_fence(const struct pmkv_medium *m, int site)
{
    if (__builtin_expect(m->tracer != NULL, 0))
        m->tracer->fenced(m->tracer->context, site);
    if (m->domain == PMKV_DOMAIN_LINE || m->domain == PMKV_DOMAIN_BYTE)
        pmkv_arch_fence();
    else
        pmkv_compiler_barrier();
}

/* Copies into the pool, through the cache and unflushed. */
static inline void pmkv_copy(const struct pmkv_medium *m, uint64_t place, const void *from, size_t n)
{
    memcpy(pmkv_at(m, place), from, n);
    if (__builtin_expect(m->tracer != NULL, 0))
        m->tracer->stored(m->tracer->context, place, n);
}

/* Copies past the cache: no flush is needed, only the next fence.  place must be aligned
 * to 16 bytes. */
static inline void pmkv_stream(const struct pmkv_medium *m, uint64_t place, const void *from, size_t n,
                               int site)
{
    size_t body = n & ~(size_t)15;
    pmkv_arch_stream(pmkv_at(m, place), from, body);
    if (__builtin_expect(m->tracer != NULL, 0)) {
        m->tracer->stored(m->tracer->context, place, body);
        m->tracer->flushed(m->tracer->context, place, body, site);
    } else if (PMKV_STREAM_NEEDS_FLUSH)
        pmkv_flush(m, place, body, site);
    if (n > body) {
        pmkv_copy(m, place + body, (const char *)from + body, n - body);
        pmkv_flush(m, place + body, n - body, site);
    }
    if (m->domain == PMKV_DOMAIN_PROCESS || m->domain == PMKV_DOMAIN_PAGE)
        pmkv_arch_fence(); /* other threads see it before what publishes it; elsewhere the commit fences */
}

/* Page domain: everything stored so far is durable.  0, or an errno. */
static inline int pmkv_sync_all(const struct pmkv_medium *m, int site)
{
    if (__builtin_expect(m->tracer != NULL, 0)) {
        m->tracer->synced(m->tracer->context, 0, 0, site);
        return 0;
    }
    while (fdatasync(m->fd) != 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

/* Page domain: writes a range of the header and waits until it, and it alone, is
 * durable.  One system call, no page fault: 94 us on a disk where msync of the same
 * range took 280 to 470 (docs/decisions/0005).  0, or an errno. */
static inline int pmkv_write_synced(const struct pmkv_medium *m, uint64_t place, const void *from,
                                    size_t n, int site)
{
    if (__builtin_expect(m->tracer != NULL, 0)) {
        memcpy(pmkv_at(m, place), from, n);
        m->tracer->stored(m->tracer->context, place, n);
        m->tracer->synced(m->tracer->context, place, n, site);
        return 0;
    }
    while (n > 0) {
        struct iovec part = {(void *)from, n};
        ssize_t done = pwritev2(m->fd, &part, 1, (off_t)place, RWF_DSYNC);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0 && (errno == EOPNOTSUPP || errno == EINVAL)) { /* no RWF_DSYNC there */
            done = pwrite(m->fd, from, n, (off_t)place);
            if (done > 0 && fdatasync(m->fd) != 0)
                return errno;
        }
        if (done <= 0)
            return done < 0 ? errno : EIO;
        from = (const char *)from + done;
        place += (uint64_t)done;
        n -= (size_t)done;
    }
    return 0;
}

/* The outcome of a checksum test; a mutation test may make a site always pass. */
static inline int pmkv_check(const struct pmkv_medium *m, int site, int ok)
{
    return ok || (__builtin_expect(m->tracer != NULL, 0) &&
                  m->tracer->failed_check(m->tracer->context, site));
}

#endif
