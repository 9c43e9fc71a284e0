#include "sim/rng.h"

#include <assert.h>
#include <string.h>

uint64_t sim_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

void sim_rng_init(struct sim_rng *rng, uint64_t seed)
{
    for (unsigned i = 0; i < 4; i++) {
        rng->s[i] = sim_mix(seed + i * 0x9e3779b97f4a7c15u);
    }
}

void sim_rng_split(struct sim_rng *rng, uint64_t seed, enum sim_subject subject, uint32_t node)
{
    sim_rng_init(rng, sim_mix(sim_mix(seed) ^ ((uint64_t)subject << 32 | node)));
}

static uint64_t rotl(uint64_t x, unsigned k)
{
    return x << k | x >> (64 - k);
}

uint64_t sim_rng_next(struct sim_rng *rng)
{
    uint64_t *s = rng->s;
    uint64_t result = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

uint64_t sim_rng_below(struct sim_rng *rng, uint64_t n)
{
    assert(n > 0);
    /* Multiply-shift: the bias of n / 2^64 does not matter here. */
    return (uint64_t)(((unsigned __int128)sim_rng_next(rng) * n) >> 64);
}

uint64_t sim_rng_range(struct sim_rng *rng, uint64_t lo, uint64_t hi)
{
    assert(lo <= hi);
    return lo + sim_rng_below(rng, hi - lo + 1);
}

bool sim_rng_chance(struct sim_rng *rng, uint32_t per_million)
{
    return per_million > 0 && sim_rng_below(rng, 1000000) < per_million;
}

/* -ln(i / 64) * 1024 at i = 1..64; between two values the line is close enough. */
static const uint16_t neg_log[65] = {4968, 4259, 3549, 3134, 2839, 2611, 2424, 2266, 2129, 2009,
                                     1901, 1804, 1714, 1632, 1556, 1486, 1420, 1357, 1299, 1244,
                                     1191, 1141, 1093, 1048, 1004, 963,  922,  884,  847,  811,
                                     776,  742,  710,  678,  648,  618,  589,  561,  534,  507,
                                     481,  456,  431,  407,  384,  361,  338,  316,  295,  273,
                                     253,  232,  213,  193,  174,  155,  137,  119,  101,  83,
                                     66,   49,   33,   16,   0};

uint64_t sim_rng_exp(struct sim_rng *rng, uint64_t mean)
{
    uint64_t bits = sim_rng_next(rng);
    uint64_t scaled = 0;

    /* Each all-zero group of 6 bits adds ln(64): the tail, twice at most. */
    for (unsigned group = 0; group < 2 && (bits & 63) == 0; group++) {
        scaled += 4259;
        bits = bits >> 6;
    }
    {
        unsigned i = (unsigned)(bits & 63);
        uint64_t frac = (bits >> 12) & 1023;
        uint64_t a = neg_log[i];
        uint64_t b = neg_log[i + 1];

        scaled += a - ((a - b) * frac >> 10);
    }
    return scaled * mean >> 10;
}

void sim_rng_fill(struct sim_rng *rng, void *dst, size_t len)
{
    uint8_t *out = dst;

    while (len > 0) {
        uint64_t word = sim_rng_next(rng);
        size_t n = len < sizeof(word) ? len : sizeof(word);

        memcpy(out, &word, n);
        out += n;
        len -= n;
    }
}
