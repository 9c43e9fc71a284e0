/* A quick checksum of file headers and tables: catches mistakes and bit rot, proves
 * nothing against an attacker. */
#ifndef SHL_BASE_SUM_H
#define SHL_BASE_SUM_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define SHL_SUM_START 0xcbf29ce484222325ull

/* FNV-1a over 64-bit words (and bytes at the end), with the high half folded down. */
static inline uint64_t shl_sum(uint64_t hash, const uint8_t *data, size_t len)
{
    size_t i = 0;

    for (; len - i >= 8; i += 8) {
        hash = (hash ^ shl_get_le64(data + i)) * 0x100000001b3ull;
        hash ^= hash >> 32;
    }
    for (; i < len; i++) {
        hash = (hash ^ data[i]) * 0x100000001b3ull;
    }
    return hash;
}

/* Of a text, for buckets and short names: FNV-1a. */
static inline uint32_t shl_hash_text(const char *text)
{
    uint32_t hash = 2166136261u;

    for (; *text; text++) {
        hash = (hash ^ (uint8_t)*text) * 16777619u;
    }
    return hash;
}

#endif /* SHL_BASE_SUM_H */
