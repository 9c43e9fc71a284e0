/* What nodes say to each other beside the protocols of the cores: bodies of calls (join, place,
 * where) and gossiped records. Pure: bytes to structs and back, msgpack maps.
 *
 * Readers take hostile bytes. They return 0, SHL_EPROTO, SHL_ELIMIT or -ENOMEM and leave nothing
 * to be freed on failure. Unknown fields are skipped. Texts that people read come out as UTF-8
 * without control characters, whatever was sent ('?' in place of what is not). Writers append to
 * @buf: 0, SHL_ELIMIT or -ENOMEM.
 */
#ifndef SHL_NODE_CLUSTER_WIRE_H
#define SHL_NODE_CLUSTER_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/node_id.h"
#include "gossip/gossip.h"
#include "node/api/router.h"
#include "node/mesh/token.h"
#include "node/sandbox/manager.h"
#include "scheduler/command.h"
#include "scheduler/state.h"

/*- Joining. */

SHL_MUST_CHECK int cluster_wire_write_join(struct shl_buf *buf,
                                           const struct node_join_token *token,
                                           const struct sched_node_spec *self);
/* @key is what the connection proved; id and key of the node are made of it. */
SHL_MUST_CHECK int cluster_wire_read_join(struct shl_bytes body,
                                          const uint8_t key[NODE_KEY_BYTES],
                                          struct sched_cmd_node_join *ret);

/* Members to begin with, @self first; gossip and log bring the others. */
SHL_MUST_CHECK int cluster_wire_write_welcome(struct shl_buf *buf,
                                              const uint8_t cluster[NODE_CLUSTER_BYTES],
                                              const struct shl_node_id *self,
                                              const struct sched_state *state);
/* *ret_infos (heap, the caller's) are 1 to SCHED_NODES_MAX members. */
SHL_MUST_CHECK int cluster_wire_read_welcome(struct shl_bytes body,
                                             uint8_t ret_cluster[NODE_CLUSTER_BYTES],
                                             struct gossip_info **ret_infos,
                                             uint32_t *ret_count);

/*- Placing. */

/* A node_place with its text. */
struct cluster_placing {
    struct node_place what; /* template_name and build point below */
    char template_name[NODE_TEMPLATE_MAX];
    char build[NODE_ROW_KEY_SIZE];
};

SHL_MUST_CHECK int cluster_wire_write_place(struct shl_buf *buf, const struct node_place *what);
SHL_MUST_CHECK int cluster_wire_read_place(struct shl_bytes body, struct cluster_placing *ret);

SHL_MUST_CHECK int cluster_wire_write_placed(struct shl_buf *buf, const struct node_answer *answer);
/* @self: to tell which target is local. With code 0 there is at least one. */
SHL_MUST_CHECK int cluster_wire_read_placed(struct shl_bytes body,
                                            const struct shl_node_id *self,
                                            struct node_answer *ret);

/*- Finding. */

struct cluster_question {
    bool is_checkpoint;
    char org[NODE_ORG_ID_SIZE];
    char id[NODE_CHECKPOINT_ID_SIZE];
};

SHL_MUST_CHECK int cluster_wire_write_where(struct shl_buf *buf,
                                            bool is_checkpoint,
                                            const struct node_where *what);
SHL_MUST_CHECK int cluster_wire_read_where(struct shl_bytes body, struct cluster_question *ret);

/*- Dropping copies. */

struct cluster_drop {
    uint64_t token; /* of the one who asks, comes back with the answer */
    uint8_t manifest[SCHED_HASH_BYTES];
};

SHL_MUST_CHECK int cluster_wire_write_drop(struct shl_buf *buf, const struct cluster_drop *drop);
SHL_MUST_CHECK int cluster_wire_read_drop(struct shl_bytes body, struct cluster_drop *ret);
SHL_MUST_CHECK int cluster_wire_write_drop_answer(struct shl_buf *buf, bool yes);
SHL_MUST_CHECK int cluster_wire_read_drop_answer(struct shl_bytes body, bool *ret_yes);

/*- Records. */

/* What a node says of itself under CLUSTER_KEY_NODE. */
struct cluster_figures {
    char region[NODE_NAME_SIZE];
    char url[NODE_URL_TEXT_SIZE];
    char version[NODE_VERSION_SIZE];
    uint32_t sandboxes, sandboxes_max, hibernated;
    uint32_t cpus_total, cpus_committed;
    uint32_t memory_total_mb, memory_usable_mb, memory_committed_mb;
    uint64_t disk_total_mb, disk_free_mb;
    uint32_t load_permille, memory_permille;
    uint64_t admitted;
};

SHL_MUST_CHECK int cluster_wire_write_figures(struct shl_buf *buf,
                                              const struct cluster_figures *figures);
SHL_MUST_CHECK int cluster_wire_read_figures(struct shl_bytes value, struct cluster_figures *ret);

/* A sandbox of another node, with the texts that @pub points at. */
struct cluster_sandbox {
    struct node_record pub; /* without id and node_name */
    char org[NODE_ORG_ID_SIZE];
    char status[16];
    char reason[NODE_REASON_MAX];
    char template_name[NODE_TEMPLATE_MAX];
};

SHL_MUST_CHECK int cluster_wire_write_sandbox(struct shl_buf *buf,
                                              const struct node_sandbox *sandbox);
SHL_MUST_CHECK int cluster_wire_read_sandbox(struct shl_bytes value, struct cluster_sandbox *ret);

/* Makes @text such a text, in place. */
void cluster_wire_clean(char *text);

/* Organisation of a sandbox's or checkpoint's record. */
SHL_MUST_CHECK int cluster_wire_read_org(struct shl_bytes value, char ret[NODE_ORG_ID_SIZE]);

#endif /* SHL_NODE_CLUSTER_WIRE_H */
