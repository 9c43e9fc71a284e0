/* node/mesh: a node that nobody knows may ask to join while that is allowed, and nothing
 * else. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/node/mesh/raw.h"

struct fixture {
    uv_loop_t loop;
    struct test_mesh seed, guest;
    struct raw raw;
    int asked, replies, code;
    bool hold;
    struct node_mesh_call *held;
    uint8_t key[NODE_KEY_BYTES];
    char body[64], msg[256], answer[64];
};

static void on_join(void *arg,
                    struct node_mesh_call *call,
                    const uint8_t key[NODE_KEY_BYTES],
                    struct shl_bytes body)
{
    struct fixture *fix = arg;

    fix->asked++;
    memcpy(fix->key, key, NODE_KEY_BYTES);
    assert_true(body.len < sizeof(fix->body));
    memcpy(fix->body, body.base, body.len);
    fix->body[body.len] = 0;
    if (fix->hold) {
        fix->held = call;
    } else if (strcmp(fix->body, "bad secret") == 0) {
        node_mesh_reply(call, SHL_EAUTH, "this token is not known", shl_bytes_of(NULL, 0));
    } else {
        node_mesh_reply(call, 0, NULL, shl_bytes_of("welcome", 7));
    }
}

static void on_reply(void *arg, int code, const char *msg, struct shl_bytes body)
{
    struct fixture *fix = arg;

    fix->replies++;
    fix->code = code;
    (void)snprintf(fix->msg, sizeof(fix->msg), "%s", msg ? msg : "");
    assert_true(body.len < sizeof(fix->answer));
    if (body.len > 0) {
        memcpy(fix->answer, body.base, body.len);
    }
    fix->answer[body.len] = 0;
}

static int setup(void **state)
{
    struct fixture *fix = calloc(1, sizeof(*fix));

    assert_int_equal(uv_loop_init(&fix->loop), 0);
    test_mesh_open(&fix->seed, &fix->loop, NULL);
    test_mesh_open(&fix->guest, &fix->loop, NULL);
    raw_open(&fix->raw);
    *state = fix;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fix = *state;

    if (fix->seed.mesh) {
        test_mesh_close(&fix->seed);
    }
    if (fix->guest.mesh) {
        test_mesh_close(&fix->guest);
    }
    raw_close(&fix->raw);
    assert_int_equal(uv_run(&fix->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&fix->loop), 0);
    free(fix);
    return 0;
}

static void join_with(struct fixture *fix,
                      const uint8_t *cluster,
                      const struct node_mesh_addr *addr,
                      const uint8_t *key,
                      const char *text,
                      uint32_t timeout_ms)
{
    struct shl_err err = {0};
    int before = fix->replies;

    if (node_mesh_join(fix->guest.mesh, cluster, addr, key, shl_bytes_of(text, strlen(text)),
                       timeout_ms, on_reply, fix, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(fix->replies, before); /* not inside the call */
}

static void join(struct fixture *fix, const char *text)
{
    join_with(fix, test_cluster, &fix->seed.addr, fix->seed.keys.public_key, text, 20000);
}

static void test_join_is_answered_and_the_node_becomes_a_member(void **state)
{
    struct fixture *fix = *state;

    node_mesh_set_join(fix->seed.mesh, on_join, fix);
    join(fix, "good secret");
    RUN_UNTIL(&fix->loop, fix->replies == 1);
    assert_int_equal(fix->code, 0);
    assert_string_equal(fix->answer, "welcome");
    assert_string_equal(fix->body, "good secret");
    assert_memory_equal(fix->key, fix->guest.keys.public_key, NODE_KEY_BYTES);
    test_mesh_introduce(&fix->seed, &fix->guest);
    test_mesh_introduce(&fix->guest, &fix->seed);
    test_mesh_wait_up(&fix->seed, &fix->guest);
    /* A member that missed the answer may ask again. */
    join(fix, "good secret");
    RUN_UNTIL(&fix->loop, fix->replies == 2);
    assert_int_equal(fix->code, 0);
    assert_true(test_mesh_is_up(&fix->seed, &fix->guest));
}

static void test_join_with_a_bad_token_is_refused(void **state)
{
    struct fixture *fix = *state;

    node_mesh_set_join(fix->seed.mesh, on_join, fix);
    join(fix, "bad secret");
    RUN_UNTIL(&fix->loop, fix->replies == 1);
    assert_int_equal(fix->code, SHL_EAUTH);
    assert_string_equal(fix->msg, "this token is not known");
}

static void test_join_while_nobody_may(void **state)
{
    struct fixture *fix = *state;

    join(fix, "good secret");
    RUN_UNTIL(&fix->loop, fix->replies == 1);
    assert_int_equal(fix->code, SHL_EAUTH);
    assert_non_null(strstr(fix->msg, "too old"));
    assert_true(test_stats(&fix->seed).refused[NODE_MESH_REFUSED_KEY] > 0);
    assert_int_equal(fix->asked, 0);
}

static void test_join_wrong_cluster_or_version(void **state)
{
    struct fixture *fix = *state;
    struct node_mesh_config config = {.version_min = 5, .version_max = 6};

    node_mesh_set_join(fix->seed.mesh, on_join, fix);
    join_with(fix, (const uint8_t *)"one-more-cluster", &fix->seed.addr, fix->seed.keys.public_key,
              "x", 20000);
    RUN_UNTIL(&fix->loop, fix->replies == 1);
    assert_int_equal(fix->code, SHL_EFORBIDDEN);
    assert_non_null(strstr(fix->msg, "cluster"));
    test_mesh_close(&fix->guest);
    test_mesh_reopen(&fix->guest, &config);
    join(fix, "x");
    RUN_UNTIL(&fix->loop, fix->replies == 2);
    assert_int_equal(fix->code, SHL_EFORBIDDEN);
    assert_non_null(strstr(fix->msg, "it speaks 5 to 6"));
    assert_int_equal(fix->asked, 0);
}

static void test_join_seed_that_is_not_there_or_someone_else(void **state)
{
    struct fixture *fix = *state;
    struct node_mesh_addr nowhere = fix->seed.addr;

    nowhere.control_port = 1;
    node_mesh_set_join(fix->seed.mesh, on_join, fix);
    join_with(fix, test_cluster, &nowhere, fix->seed.keys.public_key, "x", 20000);
    RUN_UNTIL(&fix->loop, fix->replies == 1);
    assert_int_equal(fix->code, SHL_EUNAVAILABLE);
    join_with(fix, test_cluster, &fix->seed.addr, fix->raw.keys.public_key, "x", 2000);
    RUN_UNTIL(&fix->loop, fix->replies == 2);
    assert_true(fix->code == SHL_EAUTH || fix->code == SHL_EUNAVAILABLE || fix->code == -ETIMEDOUT);
    assert_int_equal(fix->asked, 0); /* the secret did not go to a stranger */
}

static void test_join_answer_may_come_late_or_never(void **state)
{
    struct fixture *fix = *state;

    node_mesh_set_join(fix->seed.mesh, on_join, fix);
    fix->hold = true;
    join_with(fix, test_cluster, &fix->seed.addr, fix->seed.keys.public_key, "x", 100);
    RUN_UNTIL(&fix->loop, fix->replies == 1 && fix->held);
    assert_int_equal(fix->code, -ETIMEDOUT);
    node_mesh_reply(fix->held, 0, NULL, shl_bytes_of("late", 4)); /* to nobody */
    test_run_for(&fix->loop, 50);
    assert_int_equal(fix->replies, 1);
    fix->held = NULL;
    join(fix, "x");
    RUN_UNTIL(&fix->loop, fix->held);
    test_mesh_close(&fix->guest); /* the one that asked goes away */
    assert_int_equal(fix->replies, 2);
    assert_int_equal(fix->code, SHL_EUNAVAILABLE);
    test_mesh_close(&fix->seed); /* and the one that was asked, before it answered */
    node_mesh_reply(fix->held, 0, NULL, shl_bytes_of(NULL, 0));
}

/* A guest says hello, sends a message, floods: refused, and in the end ignored. */
static void test_join_guest_may_do_nothing_else(void **state)
{
    struct fixture *fix = *state;
    struct mesh_message fields = raw_hello_fields(&fix->raw, MESH_CONTROL);
    struct mesh_envelope env = {1, test_cluster};
    struct shl_buf buf;
    int i;

    node_mesh_set_join(fix->seed.mesh, on_join, fix);
    shl_buf_init(&buf, 256 * 1024);
    raw_dial(&fix->raw, MESH_CONTROL, &fix->seed);
    raw_send_hello(&fix->raw, MESH_CONTROL, &fields, test_cluster);
    RAW_UNTIL(&fix->raw, &fix->loop, fix->raw.refusals == 1);
    assert_int_equal(fix->raw.refused[NODE_MESH_REFUSED_FORBIDDEN], 1);
    assert_int_equal(mesh_write_one_way(&buf, &env, "raft", shl_bytes_of("x", 1)), 0);
    raw_send_buf(&fix->raw, MESH_CONTROL, &buf);
    RAW_UNTIL(&fix->raw, &fix->loop, fix->raw.refusals == 2);
    assert_int_equal(fix->raw.refused[NODE_MESH_REFUSED_FORBIDDEN], 2);
    raw_send(&fix->raw, MESH_CONTROL, "\xc1", 1, false);
    RAW_UNTIL(&fix->raw, &fix->loop, fix->raw.refusals == 3);
    assert_int_equal(fix->raw.refused[NODE_MESH_REFUSED_GARBAGE], 1);
    for (i = 0; i < 50; i++) {
        assert_int_equal(mesh_write_join(&buf, &env, 1, 1, shl_bytes_of("again", 5)), 0);
        raw_send_buf(&fix->raw, MESH_CONTROL, &buf);
    }
    RAW_UNTIL(&fix->raw, &fix->loop, test_stats(&fix->seed).refused[NODE_MESH_REFUSED_RATE] >= 49);
    assert_int_equal(fix->asked, 1);
    /* Bulk is closed to guests altogether. */
    raw_dial(&fix->raw, MESH_BULK, &fix->seed);
    RAW_UNTIL(&fix->raw, &fix->loop, test_stats(&fix->seed).refused[NODE_MESH_REFUSED_KEY] >= 1);
    shl_buf_release(&buf);
}

static void test_join_guests_are_few(void **state)
{
    struct fixture *fix = *state;

    node_mesh_set_join(fix->seed.mesh, on_join, fix);
    while (test_stats(&fix->seed).refused[NODE_MESH_REFUSED_RATE] == 0) {
        node_mesh_keys_make(&fix->raw.keys);
        raw_dial(&fix->raw, MESH_CONTROL, &fix->seed);
        test_run_once(&fix->loop);
        test_run_once(&fix->loop);
    }
    assert_int_equal(fix->asked, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_join_is_answered_and_the_node_becomes_a_member),
        T(test_join_with_a_bad_token_is_refused),
        T(test_join_while_nobody_may),
        T(test_join_wrong_cluster_or_version),
        T(test_join_seed_that_is_not_there_or_someone_else),
        T(test_join_answer_may_come_late_or_never),
        T(test_join_guest_may_do_nothing_else),
        T(test_join_guests_are_few),
    };

    return cmocka_run_group_tests_name("node/mesh_join", tests, NULL, NULL);
}
