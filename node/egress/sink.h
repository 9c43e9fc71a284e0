/* What the daemon says of its guests to the egress gateway, and is asked by it.
 *
 * Loop thread. A guest is known by its IPv4 address, host byte order (node_net_guest): the key of
 * everything the gateway knows. Between the two sides stands node/egress/link.h; node/api/ is the
 * side that says.
 */
#ifndef SHL_NODE_EGRESS_SINK_H
#define SHL_NODE_EGRESS_SINK_H

#include <stdint.h>

struct node_egress_policy;

#define NODE_EGRESS_REGION_SIZE   129 /* with terminator */
#define NODE_EGRESS_TEMPLATE_SIZE 257

/* What the metadata service (metadata.h) says to a guest of itself. */
struct node_egress_facts {
    char region[NODE_EGRESS_REGION_SIZE];
    char template_name[NODE_EGRESS_TEMPLATE_SIZE];
    uint64_t memory_bytes;
    uint64_t began_ms; /* CLOCK_BOOTTIME: since when it runs */
};

/* And what has to be looked up each time. */
struct node_egress_figures {
    uint64_t cpu_permille; /* of one processor */
    uint64_t memory_used_bytes;
    uint64_t processes;
    uint64_t net_in_bytes;
    uint64_t net_out_bytes;
};

/* Figures of @guest are wanted, which was @sandbox when it asked. Answered by the sink's
 * figures. */
typedef void (*node_egress_ask)(void *arg, uint32_t guest, const char *sandbox);

struct node_egress_sink {
    /* Before anything in the guest runs, and again after each change. @sandbox is its id (copied,
     * as @facts): what the gateway logs, and how it knows that an address has become another's.
     * @policy is taken over: the gateway releases it. */
    void (*set)(void *arg,
                uint32_t guest,
                const char *sandbox,
                const struct node_egress_facts *facts,
                struct node_egress_policy *policy);
    /* The address is free again. */
    void (*drop)(void *arg, uint32_t guest);
    /* NULL: there are none now. */
    void (*figures)(void *arg,
                    uint32_t guest,
                    const char *sandbox,
                    const struct node_egress_figures *figures);
    /* Who is asked from now on; NULL: nobody. */
    void (*on_ask)(void *arg, node_egress_ask ask, void *ask_arg);
    void *arg;
};

#endif /* SHL_NODE_EGRESS_SINK_H */
