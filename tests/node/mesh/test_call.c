/* node/mesh: calls are answered once: by the peer, by time, or by the loss of the link. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/node/mesh/fixture.h"

#define HELD_MAX 600

struct fixture {
    uv_loop_t loop;
    struct test_mesh a, b;
    struct node_mesh_call *held[HELD_MAX];
    int held_count;
    int replies, code;
    char body[64], msg[256];
    size_t body_len;
    bool is_in_call;
    int messages;
};

static void echo(void *arg,
                 struct node_mesh_call *call,
                 const struct shl_node_id *from,
                 struct shl_bytes body)
{
    struct fixture *fix = arg;

    assert_true(shl_node_id_equal(from, &fix->a.keys.id));
    assert_true(node_mesh_call_left_ms(call) > 0);
    node_mesh_reply(call, 0, NULL, body);
}

static void refuse(void *arg,
                   struct node_mesh_call *call,
                   const struct shl_node_id *from,
                   struct shl_bytes body)
{
    (void)arg;
    (void)from;
    (void)body;
    node_mesh_reply(call, SHL_ECONFLICT, "that name is taken", shl_bytes_of("why", 3));
}

static void hold(void *arg,
                 struct node_mesh_call *call,
                 const struct shl_node_id *from,
                 struct shl_bytes body)
{
    struct fixture *fix = arg;

    (void)from;
    (void)body;
    assert_true(fix->held_count < HELD_MAX);
    fix->held[fix->held_count++] = call;
}

static void on_message(void *arg, const struct shl_node_id *from, struct shl_bytes body)
{
    struct fixture *fix = arg;

    (void)from;
    (void)body;
    fix->messages++;
}

static void on_reply(void *arg, int code, const char *msg, struct shl_bytes body)
{
    struct fixture *fix = arg;

    assert_false(fix->is_in_call);
    fix->replies++;
    fix->code = code;
    fix->body_len = body.len;
    if (body.len < sizeof(fix->body)) {
        if (body.len > 0) {
            memcpy(fix->body, body.base, body.len);
        }
        fix->body[body.len] = 0;
    }
    (void)snprintf(fix->msg, sizeof(fix->msg), "%s", msg ? msg : "");
}

static int setup(void **state)
{
    struct fixture *fix = calloc(1, sizeof(*fix));

    assert_int_equal(uv_loop_init(&fix->loop), 0);
    test_mesh_open(&fix->a, &fix->loop, NULL);
    test_mesh_open(&fix->b, &fix->loop, NULL);
    node_mesh_serve(fix->b.mesh, "echo", NODE_MESH_BODY_MAX, echo, fix);
    node_mesh_serve(fix->b.mesh, "small", 16, echo, fix);
    node_mesh_serve(fix->b.mesh, "refuse", 64, refuse, fix);
    node_mesh_serve(fix->b.mesh, "hold", 64, hold, fix);
    node_mesh_on(fix->b.mesh, "note", 64, on_message, fix);
    test_mesh_connect(&fix->a, &fix->b);
    *state = fix;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fix = *state;
    struct node_mesh_stats stats;
    int i;

    if (fix->a.mesh && fix->b.mesh) {
        stats = test_stats(&fix->b);
        assert_int_equal(stats.calls_in, fix->held_count);
    }
    if (fix->a.mesh) {
        test_mesh_close(&fix->a);
    }
    if (fix->b.mesh) {
        test_mesh_close(&fix->b);
    }
    for (i = 0; i < fix->held_count; i++) {
        node_mesh_reply(fix->held[i], 0, NULL, shl_bytes_of(NULL, 0)); /* to nobody */
    }
    assert_int_equal(uv_run(&fix->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&fix->loop), 0);
    free(fix);
    return 0;
}

static int ask(struct fixture *fix,
               const char *method,
               struct shl_bytes body,
               uint32_t timeout_ms,
               struct node_mesh_rpc **rpc)
{
    int rc;

    fix->is_in_call = true;
    rc = node_mesh_ask(fix->a.mesh, &fix->b.keys.id, method, body, timeout_ms, on_reply, fix, rpc,
                       NULL);
    fix->is_in_call = false;
    return rc;
}

static int ask_text(struct fixture *fix, const char *method, const char *text, uint32_t timeout_ms)
{
    return ask(fix, method, shl_bytes_of(text, strlen(text)), timeout_ms, NULL);
}

static void test_call_is_answered(void **state)
{
    struct fixture *fix = *state;

    assert_int_equal(ask_text(fix, "echo", "hello", 10000), 0);
    RUN_UNTIL(&fix->loop, fix->replies == 1);
    assert_int_equal(fix->code, 0);
    assert_string_equal(fix->body, "hello");
    assert_int_equal(test_stats(&fix->a).calls_out, 0);
}

static void test_call_of_the_largest_body(void **state)
{
    struct fixture *fix = *state;
    uint8_t *large = calloc(1, NODE_MESH_BODY_MAX + 1);

    assert_int_equal(ask(fix, "echo", shl_bytes_of(large, NODE_MESH_BODY_MAX), 20000, NULL), 0);
    RUN_UNTIL(&fix->loop, fix->replies == 1);
    assert_int_equal(fix->code, 0);
    assert_int_equal(fix->body_len, NODE_MESH_BODY_MAX);
    assert_int_equal(ask(fix, "echo", shl_bytes_of(large, NODE_MESH_BODY_MAX + 1), 20000, NULL),
                     SHL_ELIMIT);
    free(large);
}

static void test_call_refusal_carries_code_sentence_and_body(void **state)
{
    struct fixture *fix = *state;

    assert_int_equal(ask_text(fix, "refuse", "x", 10000), 0);
    RUN_UNTIL(&fix->loop, fix->replies == 1);
    assert_int_equal(fix->code, SHL_ECONFLICT);
    assert_string_equal(fix->msg, "that name is taken");
    assert_string_equal(fix->body, "why");
}

static void test_call_unknown_method_and_too_large_request(void **state)
{
    struct fixture *fix = *state;

    assert_int_equal(ask_text(fix, "nothing", "x", 10000), 0);
    RUN_UNTIL(&fix->loop, fix->replies == 1);
    assert_int_equal(fix->code, SHL_ENOTFOUND);
    assert_int_equal(ask_text(fix, "small", "12345678901234567", 10000), 0);
    RUN_UNTIL(&fix->loop, fix->replies == 2);
    assert_int_equal(fix->code, SHL_ELIMIT);
    assert_true(test_mesh_is_up(&fix->a, &fix->b));
}

static void test_call_late_answer_is_not_delivered(void **state)
{
    struct fixture *fix = *state;

    assert_int_equal(ask_text(fix, "hold", "x", 30), 0);
    RUN_UNTIL(&fix->loop, fix->replies == 1 && fix->held_count == 1);
    assert_int_equal(fix->code, -ETIMEDOUT);
    RUN_UNTIL(&fix->loop, node_mesh_call_left_ms(fix->held[0]) == 0);
    node_mesh_reply(fix->held[0], 0, NULL, shl_bytes_of("late", 4));
    fix->held_count = 0;
    RUN_UNTIL(&fix->loop, test_stats(&fix->a).calls_late == 1);
    assert_int_equal(fix->replies, 1);
}

static void test_call_fails_when_the_peer_is_lost(void **state)
{
    struct fixture *fix = *state;

    assert_int_equal(ask_text(fix, "hold", "x", 60000), 0);
    RUN_UNTIL(&fix->loop, fix->held_count == 1);
    test_mesh_close(&fix->b);
    RUN_UNTIL(&fix->loop, fix->replies == 1);
    assert_int_equal(fix->code, SHL_EUNAVAILABLE);
    assert_int_equal(ask_text(fix, "hold", "x", 60000), SHL_EUNAVAILABLE);
}

static void test_call_fails_when_we_close(void **state)
{
    struct fixture *fix = *state;

    assert_int_equal(ask_text(fix, "hold", "x", 60000), 0);
    test_mesh_close(&fix->a);
    assert_int_equal(fix->replies, 1);
    assert_int_equal(fix->code, SHL_EUNAVAILABLE);
}

static void test_call_cancelled_is_silent(void **state)
{
    struct fixture *fix = *state;
    struct node_mesh_rpc *rpc = NULL;

    assert_int_equal(ask(fix, "echo", shl_bytes_of("x", 1), 10000, &rpc), 0);
    node_mesh_ask_cancel(rpc);
    assert_int_equal(ask_text(fix, "echo", "second", 10000), 0);
    RUN_UNTIL(&fix->loop, fix->replies == 1);
    assert_string_equal(fix->body, "second");
    assert_int_equal(test_stats(&fix->a).calls_late, 1);
}

/* Asking the other way round works too, and the number under way is bounded on both sides. */
static void test_call_number_is_bounded(void **state)
{
    struct fixture *fix = *state;
    uint32_t i;

    for (i = 0; i < NODE_MESH_CALLS_PEER; i++) {
        assert_int_equal(ask_text(fix, "hold", "x", 60000), 0);
    }
    assert_int_equal(ask_text(fix, "hold", "x", 60000), SHL_ELIMIT);
    RUN_UNTIL(&fix->loop, fix->held_count == NODE_MESH_CALLS_PEER);
    assert_int_equal(test_stats(&fix->b).calls_in, NODE_MESH_CALLS_PEER);
    assert_int_equal(test_stats(&fix->a).calls_out, NODE_MESH_CALLS_PEER);
    while (fix->held_count > 0) {
        node_mesh_reply(fix->held[--fix->held_count], 0, NULL, shl_bytes_of(NULL, 0));
    }
    RUN_UNTIL(&fix->loop, fix->replies == NODE_MESH_CALLS_PEER);
    assert_int_equal(fix->code, 0);
}

/* Far more messages than one turn takes, from one callback: none is lost or out of order,
 * whatever the edges of the descriptor do. */
static void test_call_burst_of_messages_arrives(void **state)
{
    struct fixture *fix = *state;
    int sent = 0;

    while (sent < 20000) {
        int rc = node_mesh_send(fix->a.mesh, &fix->b.keys.id, "note", shl_bytes_of("x", 1));

        if (rc < 0) {
            assert_int_equal(rc, SHL_ELIMIT);
            test_run_once(&fix->loop);
        } else {
            sent++;
        }
    }
    RUN_UNTIL(&fix->loop, fix->messages == sent);
    assert_int_equal(test_stats(&fix->a).control_queue_bytes, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_call_is_answered),
        T(test_call_of_the_largest_body),
        T(test_call_refusal_carries_code_sentence_and_body),
        T(test_call_unknown_method_and_too_large_request),
        T(test_call_late_answer_is_not_delivered),
        T(test_call_fails_when_the_peer_is_lost),
        T(test_call_fails_when_we_close),
        T(test_call_cancelled_is_silent),
        T(test_call_number_is_bounded),
        T(test_call_burst_of_messages_arrives),
    };

    return cmocka_run_group_tests_name("node/mesh_call", tests, NULL, NULL);
}
