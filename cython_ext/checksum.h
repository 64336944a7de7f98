/* checksum.h: CRC32C of records and descriptors, and the seal of single words.
 *
 * CRC32C (Castagnoli, reflected, as iSCSI and ext4 use it) by the processor's
 * instruction where there is one, else by tables, eight bytes at a step.  Long
 * inputs run three instructions side by side (crc32c_long.h).
 */
#ifndef PMKV_CHECKSUM_H
#define PMKV_CHECKSUM_H

#include "arch/arch.h"
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PMKV_CRC32C_POLYNOMIAL 0x82f63b78u

static int pmkv_crc_by_instruction;
static int pmkv_crc_by_folding;
static uint32_t pmkv_crc_table[8][256];

/* Runs when the module is loaded: 8 KiB of tables only where they are needed. */
static void pmkv_crc_tables_build(void)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? PMKV_CRC32C_POLYNOMIAL : 0);
        pmkv_crc_table[0][byte] = crc;
    }
    for (unsigned byte = 0; byte < 256; byte++)
        for (int step = 1; step < 8; step++)
            pmkv_crc_table[step][byte] = (pmkv_crc_table[step - 1][byte] >> 8) ^
                                         pmkv_crc_table[0][pmkv_crc_table[step - 1][byte] & 255];
}

__attribute__((constructor)) static void pmkv_checksum_init(void)
{
    pmkv_crc_by_instruction = pmkv_arch_has_crc32c();
    pmkv_crc_by_folding = pmkv_crc_by_instruction && pmkv_arch_has_folding();
    if (!pmkv_crc_by_instruction)
        pmkv_crc_tables_build();
}

static inline uint32_t pmkv_crc_u64_by_table(uint32_t crc, uint64_t word)
{
    word ^= crc;
    crc = 0;
    for (int step = 0; step < 8; step++)
        crc ^= pmkv_crc_table[7 - step][(word >> (8 * step)) & 255];
    return crc;
}

static inline uint32_t pmkv_crc_u64(uint32_t crc, uint64_t word)
{
    if (__builtin_expect(pmkv_crc_by_instruction, 1))
        return pmkv_arch_crc32c_u64(crc, word);
    return pmkv_crc_u64_by_table(crc, word);
}

static inline uint32_t pmkv_crc_u8(uint32_t crc, uint8_t byte)
{
    if (__builtin_expect(pmkv_crc_by_instruction, 1))
        return pmkv_arch_crc32c_u8(crc, byte);
    return (crc >> 8) ^ pmkv_crc_table[0][(crc ^ byte) & 255];
}

static __attribute__((noinline)) uint32_t pmkv_crc_update_plainly(uint32_t crc, const unsigned char *at, size_t n)
{
    if (pmkv_crc_by_instruction) {
        crc = pmkv_arch_crc32c_words(crc, at, n & ~(size_t)7);
        at += n & ~(size_t)7;
        n &= 7;
    }
    for (; n >= 8; at += 8, n -= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        crc = pmkv_crc_u64_by_table(crc, word);
    }
    for (; n > 0; at++, n--)
        crc = pmkv_crc_u8(crc, *at);
    return crc;
}

/* State in, state out: start from ~0 and invert at the end for the standard CRC32C.
 *
 * The crc32 instruction runs on one port of the processor.  Bytes that are still on their way from
 * memory fill that port's queue, and everything behind waits with them, also what does not depend
 * on them, such as the next key's misses.  Folding by carry-less multiplication is no faster when
 * the bytes are there, but leaves the way free: docs/decisions/0011. */
static inline uint32_t pmkv_crc_update(uint32_t crc, const void *data, size_t n)
{
    const unsigned char *at = (const unsigned char *)data;
    if (__builtin_expect(!pmkv_crc_by_folding, 0))
        return pmkv_crc_update_plainly(crc, at, n);
    if (n >= 16) {
        crc = pmkv_arch_crc32c_fold(crc, at, n & ~(size_t)15);
        at += n & ~(size_t)15;
    }
    return pmkv_arch_crc32c_tail(crc, at, n & 15);
}

/* ---- sealed words ------------------------------------------------------------
 *
 * check(w) of 56 bits w is linear in w, so a change is noticed exactly when the
 * check of the difference is not 0.  The three rotations were found by search:
 * with them the map from each single byte of w to the check is a bijection, so
 * any change of one byte is noticed, and of the 1,540 pairs of bits only three
 * are not (tests/test_checksum.py tries them all).  check(0) is 0.
 */
#define PMKV_SEAL_SHIFT 56
#define PMKV_SEAL_MASK ((1ull << PMKV_SEAL_SHIFT) - 1)

static inline uint64_t pmkv_seal(uint64_t payload)
{
    uint32_t c = pmkv_crc_u64(0, payload);
    uint32_t check = ((c << 2 | c >> 30) ^ (c >> 8) ^ (c >> 5)) & 255;
    return payload | (uint64_t)check << PMKV_SEAL_SHIFT;
}

static inline int pmkv_is_sealed(uint64_t word)
{
    return pmkv_seal(word & PMKV_SEAL_MASK) == word;
}

#endif
