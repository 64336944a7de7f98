/* arch/aarch64.h: flushes, fences, streaming copies and CRC32C on 64-bit ARM.
 *
 * DC CVAP cleans to the point of persistence where the processor has it
 * (HWCAP_DCPOP); elsewhere DC CVAC cleans to the point of coherence.  The
 * size of a line comes from CTR_EL0.
 */
#ifndef PMKV_ARCH_AARCH64_H
#define PMKV_ARCH_AARCH64_H

#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>

#define PMKV_ARCH_NAME "aarch64"
#define PMKV_HWCAP_CRC32 (1ul << 7)
#define PMKV_HWCAP_DCPOP (1ul << 16)

enum pmkv_flush_op { PMKV_FLUSH_NONE, PMKV_DC_CVAC, PMKV_DC_CVAP };

static inline const char *pmkv_arch_flush_name(int op)
{
    static const char *const names[] = {"none", "dc cvac", "dc cvap"};
    return names[op];
}

static inline int pmkv_arch_flush_op(void)
{
    return getauxval(AT_HWCAP) & PMKV_HWCAP_DCPOP ? PMKV_DC_CVAP : PMKV_DC_CVAC;
}

static inline int pmkv_arch_has_crc32c(void)
{
    return (getauxval(AT_HWCAP) & PMKV_HWCAP_CRC32) != 0;
}

static inline unsigned pmkv_arch_line_size(void)
{
    uint64_t ctr;
    __asm__("mrs %0, ctr_el0" : "=r"(ctr));
    return 4u << ((ctr >> 16) & 15);
}

static inline void pmkv_arch_flush_line(const void *line, int op)
{
    if (op == PMKV_DC_CVAP) /* DC CVAP, as a system instruction: assemblers before v8.2 lack the name */
        __asm__ __volatile__("sys #3, c7, c12, #1, %0" ::"r"(line) : "memory");
    else
        __asm__ __volatile__("dc cvac, %0" ::"r"(line) : "memory");
}

static inline void pmkv_arch_fence(void)
{
    __asm__ __volatile__("dsb ish" ::: "memory");
}

static inline void pmkv_arch_stream(void *to, const void *from, size_t n)
{
    memcpy(to, from, n); /* the caller flushes: see PMKV_STREAM_NEEDS_FLUSH */
}
#define PMKV_STREAM_NEEDS_FLUSH 1

static inline uint32_t pmkv_arch_crc32c_u64(uint32_t crc, uint64_t word)
{
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %1" : "+r"(crc) : "r"(word));
    return crc;
}

static inline uint32_t pmkv_arch_crc32c_u8(uint32_t crc, uint8_t byte)
{
    __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"((uint32_t)byte));
    return crc;
}

#endif
