#include "node/egress/dns.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"

#define HEAD_BYTES    12
#define LABEL_MAX     63
#define JUMPS_MAX     16
#define CLASS_IN      1
#define FLAG_RESPONSE 0x8000
#define FLAG_OPCODE   0x7800
#define FLAG_CUT      0x0200
#define FLAG_WANTED   0x0100 /* recursion */
#define RCODE_REFUSED 5
#define TYPE_OPT      41
#define OPT_BYTES     11
#define SIZE_OFFERED  1232 /* fits into one packet on any path */
#define RCODE_NAME    3

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, unsigned value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

int egress_dns_ask(uint8_t dst[EGRESS_DNS_QUESTION_MAX],
                   uint16_t id,
                   const char *host,
                   enum egress_dns_type type)
{
    uint8_t *at = dst + HEAD_BYTES;

    if (strlen(host) > EGRESS_HOST_MAX || !host[0]) {
        return -EINVAL;
    }
    memset(dst, 0, HEAD_BYTES);
    put16(dst, id);
    put16(dst + 2, FLAG_WANTED);
    put16(dst + 4, 1);
    while (*host) {
        size_t len = strcspn(host, ".");

        if (len == 0 || len > LABEL_MAX) {
            return -EINVAL;
        }
        *at++ = (uint8_t)len;
        memcpy(at, host, len);
        at += len;
        host += len + (host[len] == '.' ? 1 : 0);
    }
    *at++ = 0;
    put16(at, type);
    put16(at + 2, CLASS_IN);
    return (int)(at + 4 - dst);
}

int egress_dns_offer_size(uint8_t dst[EGRESS_DNS_QUESTION_MAX], int len)
{
    uint8_t *at = dst + len;

    put16(dst + 10, 1);
    memset(at, 0, OPT_BYTES); /* of the root, without options */
    put16(at + 1, TYPE_OPT);
    put16(at + 3, SIZE_OFFERED);
    return len + OPT_BYTES;
}

/* The name at *@at as text; *@at moves behind it. @host may be NULL: passed over. */
static int read_name(struct shl_bytes message, size_t *at, char *host)
{
    size_t place = *at, len = 0;
    unsigned jumps = 0;

    for (;;) {
        uint8_t label;

        if (place >= message.len) {
            return SHL_EPROTO;
        }
        label = message.base[place];
        if ((label & 0xc0) == 0xc0) {
            if (message.len - place < 2 || ++jumps > JUMPS_MAX) {
                return SHL_EPROTO;
            }
            *at = jumps == 1 ? place + 2 : *at;
            place = (size_t)(label & 0x3f) << 8 | message.base[place + 1];
            continue;
        }
        if (label > LABEL_MAX || message.len - place < 1u + label) {
            return SHL_EPROTO;
        }
        *at = jumps == 0 ? place + 1 + label : *at;
        if (label == 0) {
            break;
        }
        if (len + label + 1 > EGRESS_HOST_MAX + 1) {
            return SHL_EPROTO;
        }
        if (host) {
            if (memchr(message.base + place + 1, 0, label) ||
                memchr(message.base + place + 1, '.', label)) {
                return SHL_EPROTO; /* no host has such a label, and as text it would be another */
            }
            if (len > 0) {
                host[len - 1] = '.';
            }
            memcpy(host + len, message.base + place + 1, label);
            host[len + label] = '\0';
        }
        len += (size_t)label + 1;
        place += 1u + label;
    }
    if (host && len == 0) {
        host[0] = '\0';
    }
    return 0;
}

static int read_question(struct shl_bytes message, size_t *at, char *host, uint16_t *ret_type)
{
    if (message.len < HEAD_BYTES || get16(message.base + 4) != 1) {
        return SHL_EPROTO;
    }
    *at = HEAD_BYTES;
    if (read_name(message, at, host) < 0 || message.len - *at < 4 ||
        get16(message.base + *at + 2) != CLASS_IN) {
        return SHL_EPROTO;
    }
    *ret_type = get16(message.base + *at);
    *at += 4;
    return 0;
}

static void note_address(struct egress_dns_answer *answer,
                         uint16_t type,
                         const uint8_t *data,
                         uint32_t ttl_s)
{
    struct egress_address *address;

    if (answer->count == EGRESS_DNS_ADDRESSES_MAX) {
        return;
    }
    address = &answer->addresses[answer->count++];
    if (type == EGRESS_DNS_A) {
        address->family = AF_INET;
        memcpy(&address->v4, data, 4);
    } else {
        address->family = AF_INET6;
        memcpy(&address->v6, data, 16);
    }
    answer->ttl_s = SHL_MIN(answer->ttl_s, ttl_s);
}

/* One record of the answer section. Whose name it bears is not checked: an alias may stand
 * between, and the server that is asked is the one that is trusted for this. */
static int read_record(struct shl_bytes message,
                       size_t *at,
                       enum egress_dns_type type,
                       struct egress_dns_answer *answer)
{
    uint16_t record_type, class, len;
    const uint8_t *head;
    uint32_t ttl_s;

    if (read_name(message, at, NULL) < 0 || message.len - *at < 10) {
        return SHL_EPROTO;
    }
    head = message.base + *at;
    record_type = get16(head);
    class = get16(head + 2);
    ttl_s = (uint32_t)get16(head + 4) << 16 | get16(head + 6);
    len = get16(head + 8);
    *at += 10;
    if (message.len - *at < len) {
        return SHL_EPROTO;
    }
    if (class == CLASS_IN && record_type == type) {
        if (len != (type == EGRESS_DNS_A ? 4 : 16)) {
            return SHL_EPROTO;
        }
        note_address(answer, record_type, message.base + *at, ttl_s);
    }
    *at += len;
    return 0;
}

int egress_dns_read(struct shl_bytes message,
                    uint16_t id,
                    const char *host,
                    enum egress_dns_type type,
                    struct egress_dns_answer *ret)
{
    struct egress_dns_answer answer = {.ttl_s = UINT32_MAX};
    char asked[EGRESS_HOST_SIZE];
    unsigned flags, count, i;
    uint16_t asked_type;
    size_t at;

    if (message.len < HEAD_BYTES || get16(message.base) != id) {
        return SHL_EPROTO;
    }
    flags = get16(message.base + 2);
    if (!(flags & FLAG_RESPONSE) || (flags & FLAG_OPCODE) ||
        read_question(message, &at, asked, &asked_type) < 0 || asked_type != type ||
        strcasecmp(asked, host) != 0) {
        return SHL_EPROTO;
    }
    if ((flags & 0xf) == RCODE_NAME) {
        return SHL_ENOTFOUND;
    }
    if ((flags & 0xf) != 0) {
        return SHL_EUNAVAILABLE;
    }
    answer.cut = flags & FLAG_CUT;
    count = SHL_MIN(get16(message.base + 6), EGRESS_DNS_RECORDS_MAX);
    for (i = 0; i < count; i++) {
        if (read_record(message, &at, type, &answer) < 0) {
            if (answer.cut) {
                break; /* in the middle of a record, as some servers do */
            }
            return SHL_EPROTO;
        }
    }
    if (answer.count == 0) { /* a cut answer says nothing of what there is */
        return answer.cut ? SHL_EUNAVAILABLE : SHL_ENOTFOUND;
    }
    *ret = answer;
    return 0;
}

int egress_dns_question(struct shl_bytes message, char host[EGRESS_HOST_SIZE], uint16_t *ret_type)
{
    unsigned flags;
    size_t at, i;

    if (message.len < HEAD_BYTES) {
        return SHL_EPROTO;
    }
    flags = get16(message.base + 2);
    if ((flags & (FLAG_RESPONSE | FLAG_OPCODE)) ||
        read_question(message, &at, host, ret_type) < 0) {
        return SHL_EPROTO;
    }
    for (i = 0; host[i]; i++) {
        if (host[i] >= 'A' && host[i] <= 'Z') {
            host[i] = (char)(host[i] - 'A' + 'a');
        }
    }
    return 0;
}

size_t egress_dns_refuse(uint8_t *message, size_t len)
{
    char host[EGRESS_HOST_SIZE];
    uint16_t type;
    size_t at;

    if (read_question(shl_bytes_of(message, len), &at, host, &type) < 0) {
        return 0;
    }
    put16(message + 2, FLAG_RESPONSE | (get16(message + 2) & FLAG_WANTED) | 0x80u | RCODE_REFUSED);
    memset(message + 6, 0, 6);
    return at;
}
