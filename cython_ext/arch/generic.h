/* arch/generic.h: a processor that we know nothing of.
 *
 * There is no way to flush a line, so only the process and page domains can be
 * used; CRC32C is computed from tables.
 */
#ifndef PMKV_ARCH_GENERIC_H
#define PMKV_ARCH_GENERIC_H

#include <stdint.h>
#include <string.h>

#define PMKV_ARCH_NAME "generic"

enum pmkv_flush_op { PMKV_FLUSH_NONE };

static inline const char *pmkv_arch_flush_name(int op)
{
    (void)op;
    return "none";
}
static inline int pmkv_arch_flush_op(void)
{
    return PMKV_FLUSH_NONE;
}
static inline int pmkv_arch_has_crc32c(void)
{
    return 0;
}
static inline unsigned pmkv_arch_line_size(void)
{
    return 64;
}
static inline void pmkv_arch_flush_line(const void *line, int op)
{
    (void)line, (void)op;
}
static inline void pmkv_arch_fence(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
static inline void pmkv_arch_stream(void *to, const void *from, size_t n)
{
    memcpy(to, from, n);
}
static inline uint32_t pmkv_arch_crc32c_u64(uint32_t crc, uint64_t word)
{
    (void)word;
    return crc; /* never called: pmkv_arch_has_crc32c() is 0 */
}
static inline uint32_t pmkv_arch_crc32c_u8(uint32_t crc, uint8_t byte)
{
    (void)byte;
    return crc;
}

#endif
