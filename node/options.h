/* Command line of shoald: parsed here, acted on in main.c. Strings are borrowed from argv
 * or static. */
#ifndef SHL_NODE_OPTIONS_H
#define SHL_NODE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"
#include "node/egress/address.h"

#define NODE_OPTIONS_SANDBOXES_MAX 10000
#define NODE_OPTIONS_MEMORY_MAX_MB (64u * 1024 * 1024)

#define NODE_OPTIONS_REPLICAS_MAX 5
#define NODE_OPTIONS_GRACE_MAX_S  86400

enum node_options_action {
    NODE_OPTIONS_RUN,
    NODE_OPTIONS_CLEANUP, /* remove the guest network rules */
    NODE_OPTIONS_RECOVER, /* without the majority that is lost (node/cluster/offline.h) */
    NODE_OPTIONS_RESTORE, /* of a backup */
    NODE_OPTIONS_HELP,
    NODE_OPTIONS_VERSION,
};

struct node_options {
    enum node_options_action action;
    const char *data_dir;
    const char *run_dir;
    const char *listen;
    const char *domain;
    const char *public_url; /* NULL: the Host of each request */
    const char *region;
    const char *worker_id; /* NULL: the host name */
    const char *vmm_path;  /* NULL: shoal-vmm beside this program */
    const char *pool_cidr;
    const char *egress_private[EGRESS_PREFIXES_MAX]; /* networks that the gateway may reach */
    size_t egress_private_count;
    const char *dns; /* NULL: the first name server of this machine */
    uint32_t sandboxes_max;
    uint32_t memory_default_mb; /* 0: the server's default */
    uint32_t memory_mb;         /* of this machine for sandboxes and the system; 0: all of it */
    const char *mesh_listen;    /* ADDR:PORT for other nodes; the bulk port is the next one */
    const char *mesh_address;   /* how they reach it; NULL: address of the default route */
    const char *join;           /* token, or @FILE; NULL */
    const char *with;           /* RECOVER: other nodes that are there; NULL: none */
    const char *confirm;        /* RECOVER, RESTORE: id of the cluster; NULL: ask */
    const char *backup_file;    /* RESTORE */
    const char *failure_domain; /* copies go to different ones; NULL: the node's name */
    uint32_t replicas;          /* copies of checkpoints in the cluster */
    uint32_t replica_grace_s;   /* until the copies of a node that fell silent count as lost */
    uint32_t version_min, version_max; /* of the mesh; 0: what this build speaks */
    bool witness;                      /* votes and serves the API, runs no sandboxes */
    bool warm;                         /* restore creates from a snapshot of their template */
    enum shl_log_level log_level;
};

/* 0, or SHL_EINVALIDARG with a sentence that names the flag. */
SHL_MUST_CHECK int node_options_parse(int argc,
                                      char **argv,
                                      struct node_options *ret,
                                      struct shl_err *err);

/* Text of --help. Static storage. */
const char *node_options_help(void);

#endif /* SHL_NODE_OPTIONS_H */
