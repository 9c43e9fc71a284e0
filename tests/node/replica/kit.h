/* Nodes with a mesh, a store, and both sides of node/replica, in one loop; and peers that do
 * not keep to the rules. */
#ifndef SHL_TESTS_NODE_REPLICA_KIT_H
#define SHL_TESTS_NODE_REPLICA_KIT_H

#include "node/replica/serve.h"
#include "node/replica/transfer.h"
#include "node/replica/wire.h"
#include "tests/checkpoint/helper.h"
#include "tests/node/mesh/fixture.h"

#define KIT_NODES   3
#define KIT_FETCHES (2 * NODE_REPLICA_READING_MAX)

/* What a node that is no real one answers with. */
enum lie {
    LIE_NONE,        /* a real one */
    LIE_SILENT,      /* nothing, ever */
    LIE_HALF,        /* half of the first record */
    LIE_WRONG_BYTES, /* of the right length */
    LIE_GARBAGE,     /* no records at all */
    LIE_CUT,         /* half of the first record, and then the end */
    LIE_LACKS,       /* everything */
    LIE_PACKED,      /* packed chunks that are others */
    LIE_BOMB,        /* packed ones that say that they become a gigabyte */
};

struct kit_node {
    struct kit *kit;
    struct test_mesh mesh;
    char dir[128];
    struct ckpt_store *store;
    struct node_replica_server *server; /* NULL: a liar */
    struct node_replica *replica;
    struct node_stream_opener opener; /* of questions as an older node understands them */
    enum lie lie;
    int lies;    /* streams it accepted */
    int closing; /* callbacks to come */
};

struct kit_fetch {
    struct kit *kit;
    struct node_replica_fetch *fetch;
    int done;
    struct node_replica_result result;
    char msg[SHL_ERR_TEXT_MAX];
};

struct kit {
    uv_loop_t loop;
    const char *dir;
    struct ckpt_fetch_config fetch; /* of nodes opened from now on */
    struct node_replica_server_config serve;
    uint32_t manifest_ms;
    bool is_old; /* the same: nodes that are asked do not know of packed chunks */
    struct kit_fetch fetches[KIT_FETCHES]; /* outlive a test that fails */
    struct kit_node nodes[KIT_NODES];      /* 0 fetches from 1 and 2 */
};

void kit_setup(struct kit *kit);
void kit_teardown(struct kit *kit); /* all that is left, and checks that nothing leaked */

/* All nodes linked to node 0; which of them lie. */
void kit_open(struct kit *kit, enum lie lie1, enum lie lie2);
void kit_close_replica(struct kit_node *node); /* waits */
void kit_close_node(struct kit_node *node);    /* all of it, waits */

/* Node 0 fetches from these nodes (indices, ended by 0). */
void kit_begin(struct kit *kit, struct kit_fetch *f, const struct ckpt_id *id, const int *from);
/* The same, waits for its end and returns the code. */
int kit_fetch(struct kit *kit, struct kit_fetch *f, const struct ckpt_id *id, const int *from);

struct node_replica_stats kit_stats(struct kit *kit); /* of node 0 */
struct node_replica_server_stats kit_served(const struct kit_node *node);

#endif /* SHL_TESTS_NODE_REPLICA_KIT_H */
