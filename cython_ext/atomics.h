/* atomics.h: the only way to load and store a word that another thread, or a
 * power cut, may see half of.
 *
 * A compiler may split, merge or reorder plain stores.  Words that publish
 * something therefore go through these: a store is a release, a load an
 * acquire, both of an aligned 8-byte word (on x86-64 a plain MOV each).
 */
#ifndef PMKV_ATOMICS_H
#define PMKV_ATOMICS_H

#include <stdint.h>

static inline uint64_t pmkv_atomic_load(const void *at)
{
    return __atomic_load_n((const uint64_t *)at, __ATOMIC_ACQUIRE);
}

static inline void pmkv_atomic_store(void *at, uint64_t word)
{
    __atomic_store_n((uint64_t *)at, word, __ATOMIC_RELEASE);
}

/* Makes `from` `to`; whether it did: of several threads, one. */
static inline int pmkv_atomic_change(void *at, uint64_t from, uint64_t to)
{
    return __atomic_compare_exchange_n((uint64_t *)at, &from, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static inline void pmkv_compiler_barrier(void)
{
    __asm__ __volatile__("" ::: "memory");
}

static inline void pmkv_prefetch(const void *at)
{
    __builtin_prefetch(at, 0, 3);
}

#endif
