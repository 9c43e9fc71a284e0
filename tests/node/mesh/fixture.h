/* Several meshes in one loop, and the waiting for what they do.
 *
 * Every wait runs the loop until the thing happened; after WAIT_MS the test fails. */
#ifndef SHL_TESTS_NODE_MESH_FIXTURE_H
#define SHL_TESTS_NODE_MESH_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "node/mesh/mesh.h"

#define WAIT_MS 60000

struct test_mesh {
    uv_loop_t *loop;
    struct node_mesh_keys keys;
    struct node_mesh *mesh;
    struct node_mesh_addr addr;
    bool is_closed;
    int up, down, refused, conflicts;
    enum node_mesh_refusal refused_why;
    char refused_msg[256], down_reason[256];
    uint64_t peer_boot;
    uint32_t version;
};

extern const uint8_t test_cluster[NODE_CLUSTER_BYTES];

/* A mesh with keys of its own; fields of @config that are not zero are kept. */
void test_mesh_open(struct test_mesh *t, uv_loop_t *loop, const struct node_mesh_config *config);
/* The same again with t->keys, at the same ports. */
void test_mesh_reopen(struct test_mesh *t, const struct node_mesh_config *config);
void test_mesh_close(struct test_mesh *t); /* waits */
void test_mesh_close_linger(struct test_mesh *t, uint32_t linger_ms);

/* Tell @a of @b. */
void test_mesh_introduce(struct test_mesh *a, const struct test_mesh *b);
/* Tell each of the other and wait until both links are up. */
void test_mesh_connect(struct test_mesh *a, struct test_mesh *b);
bool test_mesh_is_up(const struct test_mesh *a, const struct test_mesh *b);
void test_mesh_wait_up(struct test_mesh *a, struct test_mesh *b);
void test_mesh_wait_down(struct test_mesh *a, struct test_mesh *b);
struct node_mesh_stats test_stats(const struct test_mesh *t);

/* Run @loop until @cond; fails the test when it takes too long. */
#define RUN_UNTIL(loop, cond)                                            \
    do {                                                                 \
        uint64_t run_until_end = uv_hrtime() + WAIT_MS * 1000000ull;     \
        while (!(cond)) {                                                \
            if (uv_hrtime() > run_until_end) {                           \
                fail_msg("%s did not become true: %s", #cond, __func__); \
            }                                                            \
            test_run_once(loop);                                         \
        }                                                                \
    } while (0)

void test_run_once(uv_loop_t *loop);        /* at most a few milliseconds */
void test_run_for(uv_loop_t *loop, int ms); /* for what must NOT happen */

#endif /* SHL_TESTS_NODE_MESH_FIXTURE_H */
