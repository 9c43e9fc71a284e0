/* FNV-1a over what happened. Two runs of a seed must agree on every checkpoint, so
 * only values go in that the simulation decides: times, node numbers, message bytes;
 * never pointers or the host's clock.
 */
#ifndef SHL_SIM_DIGEST_H
#define SHL_SIM_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define SIM_DIGEST_BEGIN 0xcbf29ce484222325u
#define SIM_DIGEST_PRIME 0x100000001b3u

/* A word at a time: eight byte steps would cost more than the event itself. */
static inline uint64_t sim_digest_u64(uint64_t digest, uint64_t value)
{
    digest = (digest ^ (value & 0xffffffffu)) * SIM_DIGEST_PRIME;
    return (digest ^ value >> 32) * SIM_DIGEST_PRIME;
}

static inline uint64_t sim_digest_bytes(uint64_t digest, const void *data, size_t len)
{
    const uint8_t *p = data;

    for (size_t i = 0; i < len; i++) {
        digest = (digest ^ p[i]) * SIM_DIGEST_PRIME;
    }
    return digest;
}

#endif /* SHL_SIM_DIGEST_H */
