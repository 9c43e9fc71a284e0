#include "checkpoint/replica_place.h"

#include <string.h>

#include <sodium.h>

#include "base/buf.h"
#include "base/err.h"

#define LOG_BITS 32 /* after the point */

/*- The map. */

static bool is_same_domain(const struct ckpt_replica_node *a, const struct ckpt_replica_node *b)
{
    return a->domain && b->domain && a->domain[0] != '\0' && strcmp(a->domain, b->domain) == 0;
}

/* The number of the first node of the same domain. */
static uint16_t domain_of(const struct ckpt_replica_node *nodes, uint32_t at)
{
    uint32_t i = 0;

    while (i < at && !is_same_domain(&nodes[i], &nodes[at])) {
        i++;
    }
    return (uint16_t)i;
}

int ckpt_replica_map_init(struct ckpt_replica_map *map,
                          const uint8_t key[CKPT_REPLICA_KEY_BYTES],
                          const struct ckpt_replica_node *nodes,
                          uint32_t count)
{
    uint32_t i;

    map->count = 0;
    memcpy(map->key, key, sizeof(map->key));
    if (count > CKPT_REPLICA_NODES_MAX) {
        return SHL_ELIMIT;
    }
    for (i = 0; i < count; i++) {
        if (nodes[i].weight > CKPT_REPLICA_WEIGHT_MAX ||
            (i > 0 && shl_node_id_compare(&nodes[i - 1].id, &nodes[i].id) >= 0)) {
            return SHL_EINVALIDARG;
        }
        map->ids[i] = nodes[i].id;
        map->weights[i] = nodes[i].weight;
        map->domains[i] = domain_of(nodes, i);
    }
    map->count = count;
    return 0;
}

uint32_t ckpt_replica_map_find(const struct ckpt_replica_map *map, const struct shl_node_id *id)
{
    uint32_t low = 0, high = map->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = shl_node_id_compare(&map->ids[middle], id);

        if (order == 0) {
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return CKPT_REPLICA_NOWHERE;
}

/*- Drawing. Logarithms of libm differ between machines in the last digit, and two nodes
 * that disagree about a place copy data for nothing; so: integers. */

uint64_t ckpt_replica_minus_log2(uint64_t hash)
{
    uint64_t value = hash + 1; /* 1 .. 2^64; 0 stands for 2^64 */
    uint64_t log;
    int bit, top;

    if (value == 0) {
        return 0;
    }
    top = 63 - __builtin_clzll(value);
    value <<= 63 - top; /* 1 <= value < 2, in units of 2^-63 */
    log = (uint64_t)top;
    for (bit = 0; bit < LOG_BITS; bit++) {
        /* log2(v^2) = 2 log2(v): each squaring brings one more binary digit to the front.
         * Without a branch: nobody could predict it. */
        unsigned __int128 square = (unsigned __int128)value * value;
        uint64_t high = (uint64_t)(square >> 64);
        uint64_t digit = high >> 63;

        log = log << 1 | digit;
        value = high << (1 - digit) | (uint64_t)square >> 63 >> digit;
    }
    return (64ull << LOG_BITS) - log;
}

struct draw {
    uint64_t hash;
    uint64_t cost; /* -log2(hash), or NO_COST: not needed so far */
    uint32_t node;
    uint32_t weight;
};

#define NO_COST UINT64_MAX

static uint64_t hash_of(const struct ckpt_replica_map *map,
                        const struct ckpt_id *manifest,
                        uint32_t node)
{
    uint8_t in[CKPT_ID_BYTES + SHL_NODE_ID_BYTES];
    uint8_t out[crypto_shorthash_BYTES];

    memcpy(in, manifest->bytes, CKPT_ID_BYTES);
    memcpy(in + CKPT_ID_BYTES, map->ids[node].bytes, SHL_NODE_ID_BYTES);
    (void)crypto_shorthash(out, in, sizeof(in), map->key); /* SipHash; cannot fail */
    return shl_get_le64(out);
}

static uint64_t cost_of(struct draw *draw)
{
    if (draw->cost == NO_COST) {
        draw->cost = ckpt_replica_minus_log2(draw->hash);
    }
    return draw->cost;
}

/* Order: cost / weight, then hash, then id, which is the same on every node. With equal weights
 * (as on most clusters) the hash decides alone, because the cost falls as it rises. */
static bool is_better(struct draw *a, struct draw *b)
{
    if (a->weight != b->weight) {
        unsigned __int128 x = (unsigned __int128)cost_of(a) * b->weight;
        unsigned __int128 y = (unsigned __int128)cost_of(b) * a->weight;

        if (x != y) {
            return x < y;
        }
    }
    return a->hash != b->hash ? a->hash > b->hash : a->node < b->node;
}

static uint32_t draw_all(const struct ckpt_replica_map *map,
                         const struct ckpt_id *manifest,
                         uint32_t owner,
                         const bool *eligible,
                         struct draw *draws)
{
    uint32_t i, count = 0;

    for (i = 0; i < map->count; i++) {
        if (i != owner && eligible[i] && map->weights[i] > 0) {
            draws[count++] = (struct draw){
                .hash = hash_of(map, manifest, i),
                .cost = NO_COST,
                .node = i,
                .weight = map->weights[i],
            };
        }
    }
    return count;
}

/* Copies per domain. */
struct spread {
    uint8_t used[CKPT_REPLICA_NODES_MAX];
};

static void put(const struct ckpt_replica_map *map,
                struct spread *spread,
                uint32_t node,
                struct ckpt_replica_places *ret)
{
    uint8_t *used = &spread->used[map->domains[node]];

    ret->domains += *used == 0;
    (*used)++;
    ret->nodes[ret->count++] = node;
}

/* The fewest copies in the domain decide, then the draw. Taking always the least of what is
 * left makes the movement minimal: without a node that was not taken every choice stays
 * the same, without a taken one the other taken ones only come nearer to the front. */
static uint32_t choose(const struct ckpt_replica_map *map,
                       const struct spread *spread,
                       struct draw *draws,
                       uint32_t count)
{
    uint32_t i, best = 0;

    for (i = 1; i < count; i++) {
        uint8_t used = spread->used[map->domains[draws[i].node]];
        uint8_t least = spread->used[map->domains[draws[best].node]];

        if (used < least || (used == least && is_better(&draws[i], &draws[best]))) {
            best = i;
        }
    }
    return best;
}

int ckpt_replica_place(const struct ckpt_replica_map *map,
                       const struct ckpt_id *manifest,
                       uint32_t owner,
                       uint32_t copies,
                       const bool *eligible,
                       struct ckpt_replica_places *ret)
{
    struct draw draws[CKPT_REPLICA_NODES_MAX];
    struct spread spread = {{0}};
    uint32_t left;

    if (copies < 1 || copies > CKPT_REPLICA_COPIES_MAX ||
        (owner != CKPT_REPLICA_NOWHERE && owner >= map->count)) {
        return SHL_EINVALIDARG;
    }
    memset(ret, 0, sizeof(*ret));
    ret->wanted = copies;
    if (owner != CKPT_REPLICA_NOWHERE) {
        put(map, &spread, owner, ret);
    }
    left = draw_all(map, manifest, owner, eligible, draws);
    while (ret->count < copies && left > 0) {
        uint32_t best = choose(map, &spread, draws, left);

        put(map, &spread, draws[best].node, ret);
        draws[best] = draws[--left];
    }
    return 0;
}

bool ckpt_replica_places_have(const struct ckpt_replica_places *places, uint32_t node)
{
    uint32_t i;

    for (i = 0; i < places->count; i++) {
        if (places->nodes[i] == node) {
            return true;
        }
    }
    return false;
}
