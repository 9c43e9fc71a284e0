/* Questions to a name server and its answers, as far as a gateway needs them: the addresses
 * of one name.
 *
 * Pure. Answers are hostile input.
 */
#ifndef SHL_NODE_EGRESS_DNS_H
#define SHL_NODE_EGRESS_DNS_H

#include <stdbool.h>

#include "base/buf.h"
#include "node/egress/address.h"
#include "node/egress/host.h"

#define EGRESS_DNS_MESSAGE_MAX   4096 /* of an answer by UDP */
#define EGRESS_DNS_QUESTION_MAX  300
#define EGRESS_DNS_ADDRESSES_MAX 16 /* further ones are not looked at */
#define EGRESS_DNS_RECORDS_MAX   128

enum egress_dns_type {
    EGRESS_DNS_A = 1,
    EGRESS_DNS_AAAA = 28,
};

/* SHL_ENOTFOUND stands for "no such name" and "no such address". */
struct egress_dns_answer {
    struct egress_address addresses[EGRESS_DNS_ADDRESSES_MAX];
    size_t count;
    uint32_t ttl_s; /* the shortest one */
    bool cut;       /* the server left something out */
};

/* Length of the question in @dst, or -EINVAL when @host cannot be a name. */
int egress_dns_ask(uint8_t dst[EGRESS_DNS_QUESTION_MAX],
                   uint16_t id,
                   const char *host,
                   enum egress_dns_type type);

/* Add to a question of @len bytes that an answer may be longer than 512 bytes. Returns the new
 * length. Name servers that do not know of it refuse. */
int egress_dns_offer_size(uint8_t dst[EGRESS_DNS_QUESTION_MAX], int len);

/* 0 with at least one address; SHL_ENOTFOUND; SHL_EUNAVAILABLE (the server failed or
 * refused, or left all of it out because it is too long);
 * SHL_EPROTO when this is no answer to that question, which is as if it had not come. */
SHL_MUST_CHECK int egress_dns_read(struct shl_bytes message,
                                   uint16_t id,
                                   const char *host,
                                   enum egress_dns_type type,
                                   struct egress_dns_answer *ret);

/* The name and type of a guest's question, for a filter. 0 or SHL_EPROTO when it is not
 * exactly one question of class IN. */
SHL_MUST_CHECK int egress_dns_question(struct shl_bytes message,
                                       char host[EGRESS_HOST_SIZE],
                                       uint16_t *ret_type);
/* Make of @message (a question that egress_dns_question accepted) its own refusal; returns the
 * length of it. */
size_t egress_dns_refuse(uint8_t *message, size_t len);

#endif /* SHL_NODE_EGRESS_DNS_H */
