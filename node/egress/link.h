/* The daemon's side of the egress gateway: keeps one shoal-egress running for this node and
 * tells it what its guests may reach.
 *
 * Loop thread. The process is started when the guests that live were told, started again when it
 * ends, and adopted from a former daemon: connections of guests survive a restart of the daemon.
 * While there is none, guests that have to go through it reach nothing, and none is told about
 * itself.
 * Policies are kept here, in guarded memory, because a new process has to be told all of them.
 */
#ifndef SHL_NODE_EGRESS_LINK_H
#define SHL_NODE_EGRESS_LINK_H

#include <uv.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "node/egress/sink.h"
#include "node/net/net.h"
#include "node/secret/policy.h"

struct node_egress;

struct node_egress_config {
    const char *run_dir;      /* the gateway's folder is RUN/egress; copied */
    const char *program_path; /* shoal-egress; copied */
    const char *trust_file;   /* NULL: that of the distribution; copied. Looked at every 2 s */
    const char *const *allow_private; /* "10.0.0.0/8", valid; borrowed for good */
    size_t allow_private_count;       /* at most EGRESS_PREFIXES_MAX */
    struct node_net *net;             /* outlives this */
    const struct shl_log *log;
};

/* 0, SHL_EINVALIDARG, -ENAMETOOLONG, -errno. */
SHL_MUST_CHECK int node_egress_open(uv_loop_t *loop,
                                    const struct node_egress_config *config,
                                    struct node_egress **ret,
                                    struct shl_err *err);
/* The process goes on when guests need it. @cb when the memory is gone. */
void node_egress_close(struct node_egress *egress, void (*cb)(void *arg), void *arg);

/* Where policies go; valid until close. Its set decides, too, how the guest gets out: limited
 * with an allowlist, watched with secrets alone, direct with neither. */
struct node_egress_sink node_egress_sink(struct node_egress *egress);
/* The guests that live were all told to the sink. Until then a process of a former daemon goes on
 * with those it knows; now the others go, and with none left the process goes at close. */
void node_egress_told(struct node_egress *egress);

/* Key and certificate of the cluster's authority as PEM, copied into guarded memory; until then
 * TLS that would have to be opened is refused. 0, SHL_ELIMIT, -ENOMEM. */
SHL_MUST_CHECK int node_egress_set_authority(struct node_egress *egress, struct shl_bytes pem);

/* Lines for /metrics, of the last answer of the gateway (asked every 5 s). 0, SHL_ELIMIT,
 * -ENOMEM. */
SHL_MUST_CHECK int node_egress_metrics(const struct node_egress *egress, struct shl_buf *out);

/* Process of the gateway and guests it knows of; 0 while there is none. For tests. */
pid_t node_egress_pid(const struct node_egress *egress);
uint32_t node_egress_guests(const struct node_egress *egress);

#endif /* SHL_NODE_EGRESS_LINK_H */
