/* A node made of plain ZeroMQ sockets, that says whatever a test wants. */
#ifndef SHL_TESTS_NODE_MESH_RAW_H
#define SHL_TESTS_NODE_MESH_RAW_H

#include "node/mesh/message.h"
#include "tests/node/mesh/fixture.h"

struct raw {
    void *ctx;
    void *router[MESH_CHANNELS];
    void *dealer[MESH_CHANNELS];
    struct node_mesh_keys keys;
    struct node_mesh_addr addr;
    uint64_t nonce;
    bool is_deaf; /* does not read what is sent to it */
    int welcomes; /* of the mesh to us */
    int refusals; /* of the mesh to us, all */
    int refused[NODE_MESH_REFUSAL_COUNT];
    char text[256];           /* of the latest that is not "reset" */
    uint64_t streams, stream; /* opened to us, and the latest */
    uint64_t bytes;           /* of streams, to us */
    int cuts, others;
    int64_t cut_code;
};

void raw_open(struct raw *raw);
void raw_close(struct raw *raw);
/* Connect to @t with CURVE as @keys. */
void raw_dial(struct raw *raw, enum mesh_channel channel, const struct test_mesh *t);
void raw_hang_up(struct raw *raw, enum mesh_channel channel);
void raw_send(struct raw *raw, enum mesh_channel channel, const void *data, size_t len, bool more);
void raw_send_buf(struct raw *raw, enum mesh_channel channel, struct shl_buf *buf);
struct mesh_message raw_hello_fields(const struct raw *raw, enum mesh_channel channel);
void raw_send_hello(struct raw *raw,
                    enum mesh_channel channel,
                    const struct mesh_message *fields,
                    const uint8_t cluster[NODE_CLUSTER_BYTES]);
/* Take what has come in, and answer hellos. */
void raw_step(struct raw *raw);
/* A whole link with @t, both channels. */
void raw_link(struct raw *raw, struct test_mesh *t);

#define RAW_UNTIL(raw, loop, cond) RUN_UNTIL(loop, (raw_step(raw), (cond)))

#endif /* SHL_TESTS_NODE_MESH_RAW_H */
