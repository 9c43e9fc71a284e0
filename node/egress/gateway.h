/* The gateway: accepts what guests send to the outside, and decides what becomes of it; and it
 * answers what they ask of themselves (metadata.h).
 *
 * One per process, loop thread. A guest is known by the address its packets come from, which
 * the rules of its TAP do not let it choose. What arrives: connections that were redirected
 * on their way to port 80 or 443 (the kernel knows where they wanted to go), and those to the
 * proxy port. What leaves: see conn.h.
 */
#ifndef SHL_NODE_EGRESS_GATEWAY_H
#define SHL_NODE_EGRESS_GATEWAY_H

#include <uv.h>

#include "base/err.h"
#include "base/log.h"
#include "node/egress/address.h"
#include "node/egress/sink.h"
#include "node/secret/policy.h"

#define EGRESS_PROXY_PORT        3128 /* as guests see it */
#define EGRESS_PORT_HTTP         80
#define EGRESS_PORT_HTTPS        443
#define EGRESS_GUEST_CONNS_MAX   512
#define EGRESS_CONNS_MAX         8192
#define EGRESS_GUESTS_MAX        16384
#define EGRESS_GUEST_LOOKUPS_MAX 64 /* names under way at once; so for questions it asks itself */
#define EGRESS_GUEST_ID_SIZE     24
#define EGRESS_REFUSALS_A_MINUTE 20 /* lines in the log for one guest; further ones are counted */

struct egress_gateway;

struct egress_gateway_config {
    int listen_fd;   /* TCP, listening; taken */
    int metadata_fd; /* TCP, listening, for the metadata service; taken */
    int dns_fd;      /* UDP, where questions of limited guests arrive; taken; -1: none */
    uint32_t dns;    /* name server, host byte order; 0: none */
    uint16_t dns_port;
    const char *trust_file; /* PEM bundle upstream certificates are verified with */
    struct egress_prefix allowed[EGRESS_PREFIXES_MAX]; /* private networks that may be reached */
    size_t allowed_count;
    const struct shl_log *log;
};

struct egress_counters {
    uint64_t accepted, refused, spliced, intercepted, plain_http, replaced;
    uint64_t over_limit, upstream_failed, unverified, bytes_out, bytes_in;
    uint64_t dns_passed, dns_refused, metadata;
    uint32_t open, guests;
};

SHL_MUST_CHECK int egress_gateway_open(uv_loop_t *loop,
                                       const struct egress_gateway_config *config,
                                       struct egress_gateway **ret,
                                       struct shl_err *err);
void egress_gateway_close(struct egress_gateway *gateway, void (*cb)(void *arg), void *arg);

/* The authority that makes out certificates, as PEM; replaces an earlier one. */
SHL_MUST_CHECK int egress_gateway_set_authority(struct egress_gateway *gateway,
                                                struct shl_bytes pem,
                                                struct shl_err *err);

/* Certificates (PEM) that servers are verified with from now on. With none in it those from before
 * stay: SHL_EINVALIDARG. */
SHL_MUST_CHECK int egress_gateway_set_trust(struct egress_gateway *gateway,
                                            struct shl_bytes pem,
                                            struct shl_err *err);

/* Private networks that may be reached, instead of those from before; what is connected stays.
 * @count: at most EGRESS_PREFIXES_MAX. */
void egress_gateway_set_private(struct egress_gateway *gateway,
                                const struct egress_prefix *allowed,
                                size_t count);

/* The policy of the guest at @address (host byte order), from now on and for connections it
 * has: those to hosts that are permitted no more are closed. @facts are copied. Takes what is in
 * @policy in any case and leaves it all zero.
 * 0, SHL_ELIMIT, -ENOMEM. */
SHL_MUST_CHECK int egress_gateway_set_guest(struct egress_gateway *gateway,
                                            uint32_t address,
                                            const char *id,
                                            const struct node_egress_facts *facts,
                                            struct node_egress_policy *policy);
/* Its connections are closed, and from now on it reaches nothing through here. */
void egress_gateway_drop_guest(struct egress_gateway *gateway, uint32_t address);
/* A daemon that starts tells all it knows between these two; guests it does not name go. */
void egress_gateway_mark(struct egress_gateway *gateway);
void egress_gateway_sweep(struct egress_gateway *gateway);

/* Who is asked for figures of guests from now on, not from within this call; NULL: nobody. */
void egress_gateway_set_ask(struct egress_gateway *gateway, node_egress_ask ask, void *arg);
/* The answer; NULL: there are none. For another sandbox than the one that has the address: nothing
 * happens. */
void egress_gateway_figures(struct egress_gateway *gateway,
                            uint32_t address,
                            const char *id,
                            const struct node_egress_figures *figures);

void egress_gateway_counters(const struct egress_gateway *gateway, struct egress_counters *ret);

#endif /* SHL_NODE_EGRESS_GATEWAY_H */
