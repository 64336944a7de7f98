/* status.h: how everything below the store ends.
 *
 * Functions return one of these; the store turns each into one exception
 * (pmkv/_engine.pyx).  What an error is about (a place, a site, an errno) is left
 * in the pool's `fault`.
 */
#ifndef PMKV_STATUS_H
#define PMKV_STATUS_H

#define PMKV_STATUSES(S)                                                       \
    S(OK, 0, "")                                                                 \
    S(NOT_FOUND, 1, "no such key")                                               \
    S(EXISTS, 2, "the key is there")                                             \
    S(NO_MEMORY, -1, "out of memory")                                            \
    S(OS_ERROR, -2, "the operating system refused")                              \
    S(FULL, -3, "no room in the file system, or max_size reached")               \
    S(ADDRESS_SPACE, -4, "the address range reserved for the pool is used up")   \
    S(CORRUPTED, -5, "a check failed")                                           \
    S(FOREIGN, -6, "not a pmkv pool")                                            \
    S(NEWER, -7, "made by a newer pmkv")                                         \
    S(TRUNCATED, -8, "shorter than its superblock says")                         \
    S(COLLISIONS, -9, "too many keys share one hash")                            \
    S(TOO_LARGE, -10, "more than one commit can log")                            \
    S(TOO_MANY_CODINGS, -11, "more ways of coding values than the pool can count")
#define PMKV_ENUM_STATUS_(name, value, meaning) PMKV_##name = value,
enum pmkv_status { PMKV_STATUSES(PMKV_ENUM_STATUS_) };

#endif
