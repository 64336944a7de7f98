/* hash.h: the 64-bit hash of keys, and the 64-bit checksum of the redo ring.
 *
 * Both are one function: 16 bytes at a time, each pair of words folded by a
 * 64x64 -> 128 bit multiplication whose halves are combined (the construction
 * of the wyhash family; written here from its description).  The seed enters
 * both factors, so without the pool's seed nobody can choose keys that meet, or
 * bytes that cancel.  It is not a MAC: it tells damage and chance, not forgery.
 */
#ifndef PMKV_HASH_H
#define PMKV_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PMKV_HASH_K0 0x9e3779b97f4a7c15ull /* 2^64 / golden ratio */
#define PMKV_HASH_K1 0xd6e8feb86659fd93ull /* odd, balanced bits */
#define PMKV_HASH_K2 0xa5cb9243f9ae3a3dull

/* The lower half is multiplied by itself: taken from the product it goes through memory in
 * a loop (GCC 12), and each step waits for the one before. */
static inline uint64_t pmkv_fold(uint64_t a, uint64_t b)
{
    uint64_t high = (uint64_t)((unsigned __int128)a * b >> 64);
    return a * b ^ high;
}

static inline uint64_t pmkv_word(const unsigned char *at)
{
    uint64_t word;
    memcpy(&word, at, 8);
    return word;
}

/* The 1 to 8 bytes at `at`, without reading past them. */
static inline uint64_t pmkv_short_word(const unsigned char *at, size_t n)
{
    if (n >= 8)
        return pmkv_word(at);
    if (n >= 4) {
        uint32_t low, high;
        memcpy(&low, at, 4);
        memcpy(&high, at + n - 4, 4);
        return low | (uint64_t)high << 32;
    }
    return n == 0 ? 0 : at[0] | (uint64_t)at[n >> 1] << 8 | (uint64_t)at[n - 1] << 16;
}

static inline uint64_t pmkv_hash64(uint64_t seed0, uint64_t seed1, const void *data, size_t n)
{
    const unsigned char *at = (const unsigned char *)data;
    uint64_t h = seed0 ^ (n * PMKV_HASH_K0);
    size_t left = n;
    for (; left > 16; at += 16, left -= 16)
        h = pmkv_fold(pmkv_word(at) ^ seed1 ^ PMKV_HASH_K1, pmkv_word(at + 8) ^ h);
    {
        uint64_t a = pmkv_short_word(at, left > 8 ? 8 : left);
        uint64_t b = left > 8 ? pmkv_short_word(at + 8, left - 8) : 0;
        h = pmkv_fold(a ^ seed1 ^ PMKV_HASH_K1, b ^ h);
    }
    return pmkv_fold(h ^ PMKV_HASH_K2, seed0 ^ seed1 ^ PMKV_HASH_K0);
}

#endif
