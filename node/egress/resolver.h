/* Names to addresses, asked of one name server by UDP.
 *
 * Loop thread. Answers are kept for their time to live (1 s to 5 minutes); IPv4 first, IPv6 when
 * there is no IPv4 address. Nothing here decides whether an address may be reached.
 */
#ifndef SHL_NODE_EGRESS_RESOLVER_H
#define SHL_NODE_EGRESS_RESOLVER_H

#include <uv.h>

#include "base/err.h"
#include "node/egress/dns.h"

#define EGRESS_RESOLVER_TRIES    3 /* 1, 2 and 4 seconds */
#define EGRESS_RESOLVER_KEPT     512
#define EGRESS_RESOLVER_OPEN_MAX 1024

struct egress_resolver;
struct egress_query;

/* Exactly once and never from within egress_resolve. @answer is NULL with an error:
 * SHL_ENOTFOUND, SHL_EUNAVAILABLE, -errno. */
typedef void (*egress_resolve_cb)(void *arg, int code, const struct egress_dns_answer *answer);

/* @server in host byte order; 0: there is none, and every question fails. */
SHL_MUST_CHECK int egress_resolver_open(uv_loop_t *loop,
                                        uint32_t server,
                                        uint16_t port,
                                        struct egress_resolver **ret);
/* Queries must have been told or cancelled. NULL is fine. */
void egress_resolver_free(struct egress_resolver *resolver);

/* 0 and *ret_query to be awaited or cancelled; 1 when the answer is known (in *ret_answer);
 * -EINVAL, SHL_ELIMIT, SHL_EUNAVAILABLE, -errno. */
SHL_MUST_CHECK int egress_resolve(struct egress_resolver *resolver,
                                  const char *host,
                                  egress_resolve_cb cb,
                                  void *arg,
                                  struct egress_query **ret_query,
                                  struct egress_dns_answer *ret_answer);
/* The callback will not come. */
void egress_query_cancel(struct egress_query *query);

#endif /* SHL_NODE_EGRESS_RESOLVER_H */
