#include "node/net/pool.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOT_ADDRESSES 4

void node_address_format(char dst[NODE_ADDRESS_SIZE], uint32_t address)
{
    (void)snprintf(dst, NODE_ADDRESS_SIZE, "%u.%u.%u.%u", address >> 24, address >> 16 & 0xff,
                   address >> 8 & 0xff, address & 0xff);
}

int node_address_parse(const char *text, uint32_t *ret_address)
{
    struct in_addr parsed;

    if (inet_pton(AF_INET, text, &parsed) != 1) {
        return -EINVAL;
    }
    *ret_address = ntohl(parsed.s_addr);
    return 0;
}

static uint32_t mask_of(unsigned prefix)
{
    return prefix == 0 ? 0 : 0xffffffffu << (32 - prefix);
}

static bool is_private(uint32_t base, unsigned prefix)
{
    static const struct {
        uint32_t base;
        unsigned prefix;
    } ranges[] = {
        {0x0a000000, 8},  /* 10.0.0.0 */
        {0xac100000, 12}, /* 172.16.0.0 */
        {0xc0a80000, 16}, /* 192.168.0.0 */
        {0x64400000, 10}, /* 100.64.0.0 */
    };
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(ranges); i++) {
        if (prefix >= ranges[i].prefix && (base & mask_of(ranges[i].prefix)) == ranges[i].base) {
            return true;
        }
    }
    return false;
}

static int parse_cidr(const char *cidr, uint32_t *ret_base, unsigned *ret_prefix)
{
    const char *slash = strchr(cidr, '/');
    char address[NODE_ADDRESS_SIZE];
    unsigned long prefix;
    char *end;

    if (!slash || (size_t)(slash - cidr) >= sizeof(address)) {
        return -EINVAL;
    }
    memcpy(address, cidr, (size_t)(slash - cidr));
    address[slash - cidr] = '\0';
    prefix = strtoul(slash + 1, &end, 10);
    if (end == slash + 1 || *end || prefix > 32 || slash[1] < '0' || slash[1] > '9') {
        return -EINVAL;
    }
    *ret_prefix = (unsigned)prefix;
    return node_address_parse(address, ret_base);
}

int node_pool_init(struct node_pool *pool, const char *cidr, struct shl_err *err)
{
    unsigned prefix;
    uint32_t base;

    *pool = (struct node_pool){0};
    if (parse_cidr(cidr, &base, &prefix) < 0) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "the address pool '%s' is not a network like 10.201.0.0/16", cidr);
    }
    if (prefix < NODE_POOL_PREFIX_MIN || prefix > NODE_POOL_PREFIX_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG, "the address pool '%s' must be a /%d to /%d", cidr,
                           NODE_POOL_PREFIX_MIN, NODE_POOL_PREFIX_MAX);
    }
    if ((base & ~mask_of(prefix)) != 0) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "the address pool '%s' has bits set behind its prefix", cidr);
    }
    if (!is_private(base, prefix)) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "the address pool '%s' is public: take one inside 10.0.0.0/8, "
                           "172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10",
                           cidr);
    }
    pool->base = base;
    pool->prefix = (uint8_t)prefix;
    pool->slot_count = 1u << (NODE_GUEST_PREFIX - prefix);
    pool->taken = calloc(pool->slot_count, 1);
    if (!pool->taken) {
        return shl_err_sys(err, ENOMEM, "cannot set up the address pool");
    }
    return 0;
}

void node_pool_release(struct node_pool *pool)
{
    free(pool->taken);
    *pool = (struct node_pool){0};
}

int node_pool_take(struct node_pool *pool, uint32_t *ret_slot)
{
    uint32_t i;

    for (i = 0; i < pool->slot_count; i++) {
        uint32_t slot = (pool->next + i) % pool->slot_count;

        if (!pool->taken[slot]) {
            pool->taken[slot] = 1;
            pool->next = slot + 1;
            *ret_slot = slot;
            return 0;
        }
    }
    return SHL_ENOCAPACITY;
}

int node_pool_take_slot(struct node_pool *pool, uint32_t slot)
{
    if (slot >= pool->slot_count) {
        return SHL_EINVALIDARG;
    }
    if (pool->taken[slot]) {
        return SHL_ECONFLICT;
    }
    pool->taken[slot] = 1;
    return 0;
}

void node_pool_give(struct node_pool *pool, uint32_t slot)
{
    assert(slot < pool->slot_count);
    assert(pool->taken[slot]);
    pool->taken[slot] = 0;
}

uint32_t node_pool_gateway(const struct node_pool *pool, uint32_t slot)
{
    return pool->base + slot * SLOT_ADDRESSES + 1;
}

uint32_t node_pool_guest(const struct node_pool *pool, uint32_t slot)
{
    return pool->base + slot * SLOT_ADDRESSES + 2;
}

bool node_pool_contains(const struct node_pool *pool, uint32_t address)
{
    return (address & mask_of(pool->prefix)) == pool->base;
}
