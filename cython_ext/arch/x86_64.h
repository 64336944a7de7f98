/* arch/x86_64.h: flushes, fences, streaming copies and CRC32C on x86-64.
 *
 * The instructions are written as inline assembly, so that no -m flag is
 * needed and the functions can be inlined anywhere; pmkv_arch_flush_op() and
 * pmkv_arch_has_crc32c() say which of them this processor has.
 */
#ifndef PMKV_ARCH_X86_64_H
#define PMKV_ARCH_X86_64_H

#include <cpuid.h>
#include <emmintrin.h>
#include <stdint.h>
#include <string.h>

#define PMKV_ARCH_NAME "x86_64"

enum pmkv_flush_op { PMKV_FLUSH_NONE, PMKV_CLFLUSH, PMKV_CLFLUSHOPT, PMKV_CLWB };

static inline const char *pmkv_arch_flush_name(int op)
{
    static const char *const names[] = {"none", "clflush", "clflushopt", "clwb"};
    return names[op];
}

static inline int pmkv_arch_flush_op(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return PMKV_CLFLUSH;
    return b & (1u << 24) ? PMKV_CLWB : b & (1u << 23) ? PMKV_CLFLUSHOPT : PMKV_CLFLUSH;
}

static inline int pmkv_arch_has_crc32c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & (1u << 20)) != 0;
}

static inline unsigned pmkv_arch_line_size(void)
{
    return 64;
}

static inline void pmkv_arch_flush_line(const void *line, int op)
{
    if (op == PMKV_CLWB)
        __asm__ __volatile__("clwb %0" : "+m"(*(volatile char *)line));
    else if (op == PMKV_CLFLUSHOPT)
        __asm__ __volatile__("clflushopt %0" : "+m"(*(volatile char *)line));
    else
        __asm__ __volatile__("clflush %0" : "+m"(*(volatile char *)line));
}

static inline void pmkv_arch_fence(void)
{
    __asm__ __volatile__("sfence" ::: "memory");
}

/* Copies past the cache.  `to` must be aligned to 16 bytes, n a multiple of 16. */
static inline void pmkv_arch_stream(void *to, const void *from, size_t n)
{
    __m128i *out = (__m128i *)to;
    const char *in = (const char *)from;
    size_t i;
    for (i = 0; i + 64 <= n; i += 64, in += 64, out += 4) {
        __m128i a = _mm_loadu_si128((const __m128i *)in);
        __m128i b = _mm_loadu_si128((const __m128i *)(in + 16));
        __m128i c = _mm_loadu_si128((const __m128i *)(in + 32));
        __m128i d = _mm_loadu_si128((const __m128i *)(in + 48));
        _mm_stream_si128(out, a);
        _mm_stream_si128(out + 1, b);
        _mm_stream_si128(out + 2, c);
        _mm_stream_si128(out + 3, d);
    }
    for (; i < n; i += 16, in += 16, out++)
        _mm_stream_si128(out, _mm_loadu_si128((const __m128i *)in));
}

/* Which of eight words equal `wanted` under a mask that lies in their upper halves: a bit each. */
static inline unsigned pmkv_arch_match8(const uint64_t *words, uint64_t wanted, uint64_t mask)
{
    const __m128i want = _mm_set1_epi32((int)(wanted >> 32)), care = _mm_set1_epi32((int)(mask >> 32));
    const __m128 *in = (const __m128 *)words;
    __m128i low = _mm_castps_si128(_mm_shuffle_ps(in[0], in[1], 0xdd)); /* the upper halves of four */
    __m128i high = _mm_castps_si128(_mm_shuffle_ps(in[2], in[3], 0xdd));
    low = _mm_cmpeq_epi32(_mm_and_si128(_mm_xor_si128(low, want), care), _mm_setzero_si128());
    high = _mm_cmpeq_epi32(_mm_and_si128(_mm_xor_si128(high, want), care), _mm_setzero_si128());
    low = _mm_packs_epi16(_mm_packs_epi32(low, high), _mm_setzero_si128());
    return (unsigned)_mm_movemask_epi8(low);
}
#define PMKV_HAVE_MATCH8 1

static inline uint32_t pmkv_arch_crc32c_u64(uint32_t crc, uint64_t word)
{
    uint64_t wide = crc;
    __asm__("crc32q %1, %0" : "+r"(wide) : "rm"(word));
    return (uint32_t)wide;
}

struct pmkv_any_word {
    uint64_t word;
} __attribute__((packed, may_alias));

/* n bytes, a multiple of 8: the state stays 64 bits wide, so the chain is the instruction alone. */
static inline uint32_t pmkv_arch_crc32c_words(uint32_t crc, const unsigned char *at, size_t n)
{
    uint64_t wide = crc;
    for (; n > 0; at += 8, n -= 8)
        __asm__("crc32q %1, %0" : "+r"(wide) : "m"(((const struct pmkv_any_word *)at)->word));
    return (uint32_t)wide;
}
#define PMKV_HAVE_CRC32C_WORDS 1

/* Fewer than 16 bytes. */
static inline uint32_t pmkv_arch_crc32c_tail(uint32_t crc, const unsigned char *at, size_t n)
{
    uint64_t wide = crc, word;
    uint32_t half;
    uint16_t quarter;
    if (n & 8) {
        memcpy(&word, at, 8);
        __asm__("crc32q %1, %0" : "+r"(wide) : "rm"(word));
        at += 8;
    }
    crc = (uint32_t)wide;
    if (n & 4) {
        memcpy(&half, at, 4);
        __asm__("crc32l %1, %0" : "+r"(crc) : "rm"(half));
        at += 4;
    }
    if (n & 2) {
        memcpy(&quarter, at, 2);
        __asm__("crc32w %1, %0" : "+r"(crc) : "rm"(quarter));
        at += 2;
    }
    if (n & 1)
        __asm__("crc32b %1, %0" : "+r"(crc) : "rm"(*at));
    return crc;
}

struct pmkv_any_words {
    __m128i word;
} __attribute__((packed, may_alias));

static inline int pmkv_arch_has_folding(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 2) || !(c & 1u << 28) || !(c & 1u << 27))
        return 0;
    __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (a & 6) == 6;
}

static inline uint32_t pmkv_arch_crc32c_fold(uint32_t crc, const unsigned char *at, size_t n)
{
    static const uint64_t by[2] __attribute__((aligned(16))) = {0x3743f7bd00000000, 0x3171d43000000000};
    const __m128i factors = *(const __m128i *)by;
    __m128i folded = _mm_xor_si128(_mm_loadu_si128((const __m128i *)at), _mm_cvtsi32_si128((int)crc));
    __m128i high, low;
    uint64_t state = 0;
#define PMKV_FOLD(offset)                                                                          \
    __asm__("vpclmulqdq $0x11, %3, %0, %1\n\tvpclmulqdq $0x00, %3, %0, %2\n\t"                     \
            "vpxor %4, %1, %1\n\tvpxor %1, %2, %0"                                                 \
            : "+x"(folded), "=&x"(high), "=&x"(low)                                                \
            : "x"(factors), "m"(((const struct pmkv_any_words *)(at + (offset)))->word))
    for (; n > 12 * 16; at += 64, n -= 64) {
        PMKV_FOLD(16);
        PMKV_FOLD(32);
        PMKV_FOLD(48);
        PMKV_FOLD(64);
    }
    at += n;
    switch (n / 16) {
    case 12: PMKV_FOLD(-176); /* fall through */
    case 11: PMKV_FOLD(-160); /* fall through */
    case 10: PMKV_FOLD(-144); /* fall through */
    case 9: PMKV_FOLD(-128); /* fall through */
    case 8: PMKV_FOLD(-112); /* fall through */
    case 7: PMKV_FOLD(-96); /* fall through */
    case 6: PMKV_FOLD(-80); /* fall through */
    case 5: PMKV_FOLD(-64); /* fall through */
    case 4: PMKV_FOLD(-48); /* fall through */
    case 3: PMKV_FOLD(-32); /* fall through */
    case 2: PMKV_FOLD(-16); /* fall through */
    default:;
    }
#undef PMKV_FOLD
    __asm__("crc32q %1, %0" : "+r"(state) : "r"(_mm_cvtsi128_si64(folded)));
    __asm__("crc32q %1, %0" : "+r"(state) : "r"(_mm_cvtsi128_si64(_mm_unpackhi_epi64(folded, folded))));
    return (uint32_t)state;
}
#define PMKV_HAVE_FOLDING 1

static inline uint32_t pmkv_arch_crc32c_u8(uint32_t crc, uint8_t byte)
{
    __asm__("crc32b %1, %0" : "+r"(crc) : "rm"(byte));
    return crc;
}

#endif
