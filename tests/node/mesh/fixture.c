#include "tests/node/mesh/fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

const uint8_t test_cluster[NODE_CLUSTER_BYTES] = "test-cluster-one";

static void on_up(void *arg, const struct shl_node_id *peer, uint64_t boot, uint32_t version)
{
    struct test_mesh *t = arg;

    (void)peer;
    t->up++;
    t->peer_boot = boot;
    t->version = version;
}

static void on_down(void *arg, const struct shl_node_id *peer, const char *reason)
{
    struct test_mesh *t = arg;

    (void)peer;
    t->down++;
    (void)snprintf(t->down_reason, sizeof(t->down_reason), "%s", reason);
}

static void on_refused(void *arg,
                       const struct shl_node_id *peer,
                       enum node_mesh_refusal why,
                       const char *msg)
{
    struct test_mesh *t = arg;

    (void)peer;
    t->refused++;
    t->refused_why = why;
    (void)snprintf(t->refused_msg, sizeof(t->refused_msg), "%s", msg);
}

static void on_conflict(void *arg, const struct shl_node_id *peer)
{
    struct test_mesh *t = arg;

    (void)peer;
    t->conflicts++;
}

static const struct node_mesh_user user = {on_up, on_down, on_refused, on_conflict};

void test_mesh_reopen(struct test_mesh *t, const struct node_mesh_config *config)
{
    struct node_mesh_config c = config ? *config : (struct node_mesh_config){0};
    static const uint8_t none[NODE_CLUSTER_BYTES];
    struct shl_err err = {0};

    c.keys = &t->keys;
    if (memcmp(c.cluster, none, sizeof(none)) == 0) {
        memcpy(c.cluster, test_cluster, sizeof(c.cluster));
    }
    c.bind_host = "127.0.0.1";
    c.control_port = t->addr.control_port;
    c.bulk_port = t->addr.bulk_port;
    c.dial_min_ms = c.dial_min_ms ? c.dial_min_ms : 10;
    c.dial_max_ms = c.dial_max_ms ? c.dial_max_ms : 100;
    c.user = &user;
    c.arg = t;
    t->is_closed = false;
    if (node_mesh_open(t->loop, &c, &t->mesh, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    (void)snprintf(t->addr.host, sizeof(t->addr.host), "127.0.0.1");
    t->addr.control_port = node_mesh_control_port(t->mesh);
    t->addr.bulk_port = node_mesh_bulk_port(t->mesh);
}

void test_mesh_open(struct test_mesh *t, uv_loop_t *loop, const struct node_mesh_config *config)
{
    memset(t, 0, sizeof(*t));
    t->loop = loop;
    node_mesh_keys_make(&t->keys);
    test_mesh_reopen(t, config);
}

static void on_closed(void *arg)
{
    struct test_mesh *t = arg;

    t->is_closed = true;
    t->mesh = NULL;
}

void test_mesh_close_linger(struct test_mesh *t, uint32_t linger_ms)
{
    node_mesh_close(t->mesh, linger_ms, on_closed, t);
    RUN_UNTIL(t->loop, t->is_closed);
}

void test_mesh_close(struct test_mesh *t)
{
    test_mesh_close_linger(t, 0);
}

void test_mesh_introduce(struct test_mesh *a, const struct test_mesh *b)
{
    struct shl_err err = {0};

    if (node_mesh_set_peer(a->mesh, &b->keys.id, b->keys.public_key, &b->addr, 1, &err) < 0) {
        fail_msg("%s", err.msg);
    }
}

bool test_mesh_is_up(const struct test_mesh *a, const struct test_mesh *b)
{
    return node_mesh_is_up(a->mesh, &b->keys.id);
}

void test_mesh_wait_up(struct test_mesh *a, struct test_mesh *b)
{
    RUN_UNTIL(a->loop, test_mesh_is_up(a, b) && test_mesh_is_up(b, a));
}

void test_mesh_wait_down(struct test_mesh *a, struct test_mesh *b)
{
    RUN_UNTIL(a->loop, !test_mesh_is_up(a, b));
}

void test_mesh_connect(struct test_mesh *a, struct test_mesh *b)
{
    test_mesh_introduce(a, b);
    test_mesh_introduce(b, a);
    test_mesh_wait_up(a, b);
}

struct node_mesh_stats test_stats(const struct test_mesh *t)
{
    struct node_mesh_stats stats;

    node_mesh_stats(t->mesh, &stats);
    return stats;
}

static void on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static void on_tick_closed(uv_handle_t *handle)
{
    *(bool *)handle->data = true;
}

void test_run_once(uv_loop_t *loop)
{
    uv_timer_t timer;
    bool is_closed = false;

    (void)uv_timer_init(loop, &timer);
    timer.data = &is_closed;
    (void)uv_timer_start(&timer, on_tick, 5, 5); /* again: the first may be due already */
    (void)uv_run(loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, on_tick_closed);
    while (!is_closed) {
        (void)uv_run(loop, UV_RUN_NOWAIT);
    }
}

void test_run_for(uv_loop_t *loop, int ms)
{
    uint64_t end = uv_hrtime() + (uint64_t)ms * 1000000ull;

    while (uv_hrtime() < end) {
        test_run_once(loop);
    }
}
