#include "node/egress/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define METADATA4 0xa9fea9feu /* 169.254.169.254 */

struct range4 {
    uint32_t base;
    unsigned bits;
};

/* The ranges of node/net/rules.c; documentation networks are left alone there, too. */
static const struct range4 refused4[] = {
    {0x00000000, 8},  /* this host */
    {0x0a000000, 8},  /* private */
    {0x64400000, 10}, /* carrier NAT */
    {0x7f000000, 8},  /* loopback */
    {0xa9fe0000, 16}, /* link-local, cloud metadata */
    {0xac100000, 12}, /* private */
    {0xc0000000, 24}, /* IETF assignments */
    {0xc0a80000, 16}, /* private */
    {0xc6120000, 15}, /* benchmarking */
    {0xe0000000, 3},  /* multicast, reserved, broadcast */
};

struct range6 {
    uint8_t base[16];
    unsigned bits;
};

static const struct range6 refused6[] = {
    {{0x01}, 8},                                /* discard */
    {{0x20, 0x01, 0x00, 0x00}, 32},             /* Teredo: an IPv4 address in disguise */
    {{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48}, /* NAT64 of a site: unknown where that is */
    {{0xfc}, 7},                                /* unique local */
    {{0xfe, 0x80}, 10},                         /* link-local */
    {{0xfe, 0xc0}, 10},                         /* site-local */
    {{0xff}, 8},                                /* multicast */
};

static bool is_private4(uint32_t address)
{
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(refused4); i++) {
        if ((address ^ refused4[i].base) >> (32 - refused4[i].bits) == 0) {
            return true;
        }
    }
    return false;
}

static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;

    if (memcmp(a, b, whole) != 0) {
        return false;
    }
    return rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0;
}

static uint32_t get_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The IPv4 address that @v6 leads to, if it is one of those. */
static bool embedded4(const uint8_t *v6, uint32_t *ret)
{
    static const uint8_t zeros[12] = {0};
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    static const uint8_t translated[12] = {[8] = 0xff, [9] = 0xff};
    static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b};

    if (memcmp(v6, zeros, 12) == 0 || memcmp(v6, mapped, 12) == 0 ||
        memcmp(v6, translated, 12) == 0 || memcmp(v6, nat64, 12) == 0) {
        *ret = get_be32(v6 + 12);
        return true;
    }
    if (v6[0] == 0x20 && v6[1] == 0x02) { /* 6to4 */
        *ret = get_be32(v6 + 2);
        return true;
    }
    return false;
}

static bool is_private6(const uint8_t *v6)
{
    uint32_t v4;
    size_t i;

    /* "::" and "::1" are caught as 0.0.0.0 and 0.0.0.1 */
    if (embedded4(v6, &v4) && is_private4(v4)) {
        return true;
    }
    for (i = 0; i < SHL_ARRAY_SIZE(refused6); i++) {
        if (same_bits(v6, refused6[i].base, refused6[i].bits)) {
            return true;
        }
    }
    return false;
}

bool egress_address_is_private(const struct egress_address *address)
{
    return address->family == AF_INET ? is_private4(ntohl(address->v4.s_addr))
                                      : is_private6(address->v6.s6_addr);
}

/* Where clouds tell a machine its own secrets. */
static bool is_metadata(const struct egress_address *address)
{
    uint32_t v4 = ntohl(address->v4.s_addr);

    return (address->family == AF_INET || embedded4(address->v6.s6_addr, &v4)) && v4 == METADATA4;
}

static const uint8_t *bytes_of(const struct egress_address *address)
{
    return address->family == AF_INET ? (const uint8_t *)&address->v4 : address->v6.s6_addr;
}

bool egress_address_may_be_reached(const struct egress_address *address,
                                   const struct egress_prefix *allowed,
                                   size_t allowed_count)
{
    size_t i;

    if (!egress_address_is_private(address)) {
        return true;
    }
    if (is_metadata(address)) {
        return false;
    }
    for (i = 0; i < allowed_count; i++) {
        if (allowed[i].base.family == address->family &&
            same_bits(bytes_of(address), bytes_of(&allowed[i].base), allowed[i].bits)) {
            return true;
        }
    }
    return false;
}

int egress_address_parse(struct egress_address *ret, const char *text)
{
    char inner[EGRESS_ADDRESS_TEXT_SIZE];
    size_t len = strlen(text);

    if (inet_pton(AF_INET, text, &ret->v4) == 1) {
        ret->family = AF_INET;
        return 0;
    }
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    }
    if (len >= sizeof(inner)) {
        return -EINVAL;
    }
    memcpy(inner, text, len);
    inner[len] = '\0';
    if (inet_pton(AF_INET6, inner, &ret->v6) != 1) {
        return -EINVAL;
    }
    ret->family = AF_INET6;
    return 0;
}

int egress_prefix_parse(struct egress_prefix *ret, const char *text)
{
    char address[EGRESS_ADDRESS_TEXT_SIZE];
    const char *slash = strchr(text, '/');
    size_t len = slash ? (size_t)(slash - text) : strlen(text);
    unsigned long bits;
    char *end;

    if (len >= sizeof(address)) {
        return -EINVAL;
    }
    memcpy(address, text, len);
    address[len] = '\0';
    if (egress_address_parse(&ret->base, address) < 0) {
        return -EINVAL;
    }
    ret->bits = ret->base.family == AF_INET ? 32 : 128;
    if (!slash) {
        return 0;
    }
    bits = strtoul(slash + 1, &end, 10);
    if (slash[1] < '0' || slash[1] > '9' || *end || bits > ret->bits) {
        return -EINVAL;
    }
    ret->bits = (unsigned)bits;
    return 0;
}

void egress_address_format(char dst[EGRESS_ADDRESS_TEXT_SIZE], const struct egress_address *address)
{
    if (!inet_ntop(address->family, bytes_of(address), dst, EGRESS_ADDRESS_TEXT_SIZE)) {
        (void)snprintf(dst, EGRESS_ADDRESS_TEXT_SIZE, "?");
    }
}

socklen_t egress_address_to_socket(const struct egress_address *address,
                                   uint16_t port,
                                   struct sockaddr_storage *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (address->family == AF_INET) {
        struct sockaddr_in in = {
            .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = address->v4};

        memcpy(ret, &in, sizeof(in));
        return sizeof(in);
    } else {
        struct sockaddr_in6 in = {
            .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = address->v6};

        memcpy(ret, &in, sizeof(in));
        return sizeof(in);
    }
}
