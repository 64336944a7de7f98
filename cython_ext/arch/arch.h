/* arch/arch.h: picks the processor. */
#ifndef PMKV_ARCH_H
#define PMKV_ARCH_H

#if defined(__x86_64__)
#include "x86_64.h"
#elif defined(__aarch64__)
#include "aarch64.h"
#else
#include "generic.h"
#endif

#ifndef PMKV_HAVE_MATCH8
static inline unsigned pmkv_arch_match8(const uint64_t *words, uint64_t wanted, uint64_t mask)
{
    unsigned same = 0;
    for (int i = 0; i < 8; i++)
        same |= (unsigned)(((words[i] ^ wanted) & mask) == 0) << i;
    return same;
}
#endif

#ifndef PMKV_HAVE_CRC32C_WORDS
static inline uint32_t pmkv_arch_crc32c_words(uint32_t crc, const unsigned char *at, size_t n)
{
    uint64_t word;
    for (; n > 0; at += 8, n -= 8) {
        memcpy(&word, at, 8);
        crc = pmkv_arch_crc32c_u64(crc, word);
    }
    return crc;
}
#endif

#ifndef PMKV_HAVE_FOLDING
static inline int pmkv_arch_has_folding(void)
{
    return 0;
}

static inline uint32_t pmkv_arch_crc32c_fold(uint32_t crc, const unsigned char *at, size_t n)
{
    return pmkv_arch_crc32c_words(crc, at, n);
}

static inline uint32_t pmkv_arch_crc32c_tail(uint32_t crc, const unsigned char *at, size_t n)
{
    for (; n > 0; at++, n--)
        crc = pmkv_arch_crc32c_u8(crc, *at);
    return crc;
}
#endif

#ifndef PMKV_STREAM_NEEDS_FLUSH
#define PMKV_STREAM_NEEDS_FLUSH 0
#endif

#endif
