/* crc32c_long.h: CRC32C of long inputs, three streams at a time.
 *
 * The instruction takes three cycles and one can start in each, so one stream
 * leaves two thirds of the unit idle.  Three neighbouring blocks are hashed
 * side by side; the states are joined by shifting the earlier one over the
 * length of the later, which is a linear map and so four table look-ups.
 * Equal to pmkv_crc_update() on every input (tests/test_checksum.py).
 */
#ifndef PMKV_CRC32C_LONG_H
#define PMKV_CRC32C_LONG_H

#include "checksum.h"

#define PMKV_CRC_BLOCK 1024u

static uint32_t pmkv_crc_shift_table[4][256];

static uint32_t pmkv_crc_over_zeros(uint32_t crc, size_t n)
{
    while (n-- > 0)
        crc = pmkv_crc_u8(crc, 0);
    return crc;
}

__attribute__((constructor(200))) static void pmkv_crc_long_init(void)
{
    uint32_t of_bit[32];
    pmkv_checksum_init();
    for (int bit = 0; bit < 32; bit++)
        of_bit[bit] = pmkv_crc_over_zeros(1u << bit, PMKV_CRC_BLOCK);
    for (int byte = 0; byte < 4; byte++)
        for (unsigned value = 0; value < 256; value++) {
            uint32_t shifted = 0;
            for (int bit = 0; bit < 8; bit++)
                if (value >> bit & 1)
                    shifted ^= of_bit[8 * byte + bit];
            pmkv_crc_shift_table[byte][value] = shifted;
        }
}

static inline uint32_t pmkv_crc_shift(uint32_t crc)
{
    return pmkv_crc_shift_table[0][crc & 255] ^ pmkv_crc_shift_table[1][crc >> 8 & 255] ^
           pmkv_crc_shift_table[2][crc >> 16 & 255] ^ pmkv_crc_shift_table[3][crc >> 24];
}

static inline uint32_t pmkv_crc_update_long(uint32_t crc, const void *data, size_t n)
{
    const unsigned char *at = (const unsigned char *)data;
    for (; n >= 3 * PMKV_CRC_BLOCK; at += 3 * PMKV_CRC_BLOCK, n -= 3 * PMKV_CRC_BLOCK) {
        uint32_t second = 0, third = 0;
        for (size_t i = 0; i < PMKV_CRC_BLOCK; i += 8) {
            uint64_t a, b, c;
            memcpy(&a, at + i, 8);
            memcpy(&b, at + i + PMKV_CRC_BLOCK, 8);
            memcpy(&c, at + i + 2 * PMKV_CRC_BLOCK, 8);
            crc = pmkv_crc_u64(crc, a);
            second = pmkv_crc_u64(second, b);
            third = pmkv_crc_u64(third, c);
        }
        crc = pmkv_crc_shift(pmkv_crc_shift(crc) ^ second) ^ third;
    }
    return pmkv_crc_update(crc, at, n);
}

#endif
