/* The metadata service: what programs in a guest may ask about the sandbox they run in, over HTTP
 * at NODE_NET_METADATA_ADDRESS, port 80.
 *
 * The rules of the node (node/net/rules.c) lead such packets here, of every guest, whatever else
 * it may reach; none ever leaves the node. One request per connection, in few bytes and soon. Who
 * asks is known by its address alone.
 *
 *   GET /             the paths below
 *   GET /v1/status    {sandboxId, uptime}; seconds since it was made, booted or woken last
 *   GET /v1/limits    {cpuPercent, memUsage, memLimit, pids, netInput, netOutput}; cpuPercent:
 *                     over half a second, 100 is one processor; bytes
 *   GET /v1/metadata  {region, template}
 *
 * Pure: bytes in, bytes out. metadata_server.c has the connections.
 */
#ifndef SHL_NODE_EGRESS_METADATA_H
#define SHL_NODE_EGRESS_METADATA_H

#include <stdbool.h>

#include "base/buf.h"
#include "node/egress/sink.h"

#define EGRESS_METADATA_HEAD_MAX  4096u /* bytes of a request's head */
#define EGRESS_METADATA_REPLY_MAX 8192u

enum egress_metadata_what {
    EGRESS_METADATA_BAD, /* status says why */
    EGRESS_METADATA_ROOT,
    EGRESS_METADATA_STATUS,
    EGRESS_METADATA_LIMITS,
    EGRESS_METADATA_METADATA,
};

struct egress_metadata_request {
    enum egress_metadata_what what;
    int status; /* 200, or why not: 400, 404, 405, 431, 503 */
    bool is_head;
    const char *reason; /* a sentence for what is not 200, static */
};

/* Who asks. */
struct egress_metadata_caller {
    const char *sandbox; /* id */
    const struct node_egress_facts *facts;
    uint64_t now_ms; /* CLOCK_BOOTTIME */
};

/* @bytes: what came so far. True when that is a whole head, or can become none. */
bool egress_metadata_parse(struct shl_bytes bytes, struct egress_metadata_request *ret);
/* It cannot be answered after all; @reason is static. */
void egress_metadata_refuse(struct egress_metadata_request *request,
                            int status,
                            const char *reason);
/* Head and body. @caller and, for limits, @figures are there when the status is 200. 0,
 * SHL_ELIMIT, -ENOMEM. */
SHL_MUST_CHECK int egress_metadata_reply(const struct egress_metadata_request *request,
                                         const struct egress_metadata_caller *caller,
                                         const struct node_egress_figures *figures,
                                         struct shl_buf *out);

#endif /* SHL_NODE_EGRESS_METADATA_H */
