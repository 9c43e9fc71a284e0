/* node/sandbox/agent_link against an agent played by this test on the same loop. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/node/sandbox/link_fixture.h"

static void test_link_answers_a_request(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {0};

    make_ready(fix);
    open_stream(fix, &seen);
    RUN_UNTIL(fix, fix->requests == 1);
    peer_send_map(fix, AGENT_FRAME_HEAD, 1, 0, "head");
    peer_send_data(fix, 1, 1000);
    peer_respond(fix, 1, 0, "");
    RUN_UNTIL(fix, seen.ends);
    assert_int_equal(seen.heads, 1);
    assert_int_equal(seen.bytes, 1000);
    assert_int_equal(seen.code, 0);
}

/* The VMM has no socket yet and the guest ignores the first HELLOs: both are normal
 * while a guest boots, and a stream opened meanwhile waits. */
static void test_link_waits_for_a_booting_guest(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {0};

    fix->silent_hellos = 3;
    open_link(fix);
    open_stream(fix, &seen);
    settle(fix);
    assert_int_equal(fix->connections, 0);
    listen_now(fix);
    RUN_UNTIL(fix, fix->requests == 1);
    assert_int_equal(fix->connections, 1);
    assert_true(fix->hellos >= 4);
    peer_respond(fix, fix->last_stream, 0, "");
    RUN_UNTIL(fix, seen.ends);
    assert_int_equal(seen.code, 0);
}

static void test_link_ignores_a_foreign_hello_ack(void **state)
{
    struct fixture *fix = *state;

    fix->wrong_token_first = true;
    make_ready(fix);
    settle(fix);
    assert_int_equal(fix->state, NODE_AGENT_LINK_READY);
    assert_int_equal(fix->connections, 1);
}

static void test_link_other_version_fails_for_good(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {0};

    fix->version = 99;
    listen_now(fix);
    open_link(fix);
    open_stream(fix, &seen);
    RUN_UNTIL(fix, seen.ends);
    assert_int_equal(fix->state, NODE_AGENT_LINK_FAILED);
    assert_int_equal(fix->state_code, SHL_EVERSION);
    assert_int_equal(seen.code, SHL_EGONE);
    assert_int_equal(try_open(fix, &seen), SHL_EGONE);
}

/* ---- credit and other limits ------------------------------------------------------------- */

/* The agent may send one window; more only after the owner consumed. */
static void test_link_slow_reader_gives_no_credit(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {.keep = true};

    make_ready(fix);
    open_stream(fix, &seen);
    RUN_UNTIL(fix, fix->requests == 1);
    peer_send_data(fix, 1, AGENT_WINDOW_BYTES);
    RUN_UNTIL(fix, seen.bytes == AGENT_WINDOW_BYTES);
    settle(fix);
    assert_int_equal(fix->credit, 0);
    node_agent_consumed(seen.stream, AGENT_WINDOW_BYTES);
    RUN_UNTIL(fix, fix->credit == AGENT_WINDOW_BYTES);
    peer_send_data(fix, 1, AGENT_WINDOW_BYTES);
    RUN_UNTIL(fix, seen.bytes == 2 * AGENT_WINDOW_BYTES);
    assert_int_equal(fix->states_lost, 0);
}

static void push_more(struct fixture *fix, const struct agent_frame *frame)
{
    if (frame->type == AGENT_FRAME_CREDIT) {
        peer_send_data(fix, frame->stream, shl_get_le32(frame->payload.base));
    }
}

/* 8 MB through a window of 256 KB. */
static void test_link_streams_more_than_a_window(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {0};

    make_ready(fix);
    fix->on_frame = push_more;
    open_stream(fix, &seen);
    RUN_UNTIL(fix, fix->requests == 1);
    peer_send_data(fix, 1, AGENT_WINDOW_BYTES);
    RUN_UNTIL(fix, seen.bytes >= (8u << 20));
    assert_int_equal(fix->states_lost, 0);
}

static uint8_t big[1 << 20];

static size_t write_all(struct seen *seen, size_t want)
{
    return node_agent_write(seen->stream, AGENT_CHANNEL_RAW, shl_bytes_of(big, want));
}

/* The node sends one window and waits for CREDIT; on_writable comes exactly then. */
static void test_link_write_respects_credit(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {0};
    size_t sent = 0;
    uint8_t grant[4];

    make_ready(fix);
    open_stream(fix, &seen);
    RUN_UNTIL(fix, fix->requests == 1);
    while (sent < AGENT_WINDOW_BYTES) {
        int before = seen.writables;

        sent += write_all(&seen, sizeof(big) - sent);
        if (sent < AGENT_WINDOW_BYTES) {
            RUN_UNTIL(fix, seen.writables > before);
        }
    }
    RUN_UNTIL(fix, fix->data_bytes == AGENT_WINDOW_BYTES);
    assert_int_equal(write_all(&seen, 1), 0);
    settle(fix);
    assert_int_equal(fix->data_bytes, AGENT_WINDOW_BYTES);
    shl_put_le32(grant, 10);
    seen.writables = 0;
    peer_send(fix, AGENT_FRAME_CREDIT, 0, 1, grant, sizeof(grant));
    RUN_UNTIL(fix, seen.writables == 1);
    assert_int_equal(write_all(&seen, 100), 10);
    node_agent_eof(seen.stream);
    RUN_UNTIL(fix, fix->eofs == 1);
    assert_int_equal(fix->data_bytes, AGENT_WINDOW_BYTES + 10);
}

#define USERS_MAX (AGENT_STREAMS_MAX - NODE_AGENT_STREAMS_KEPT)

/* A guest that does not read bounds what waits, whatever the number of streams. */
static void test_link_bounds_what_waits(void **state)
{
    struct fixture *fix = *state;
    struct seen *seen = calloc(USERS_MAX, sizeof(*seen));
    static struct seen extra = {0};
    size_t taken = 0;
    unsigned i;

    make_ready(fix);
    for (i = 0; i < USERS_MAX; i++) {
        open_stream(fix, &seen[i]);
    }
    assert_int_equal(try_open(fix, &extra), SHL_ELIMIT);
    RUN_UNTIL(fix, fix->requests == USERS_MAX);
    (void)uv_read_stop((uv_stream_t *)fix->peer);
    for (i = 0; i < USERS_MAX; i++) {
        taken += write_all(&seen[i], AGENT_WINDOW_BYTES);
        settle(fix);
    }
    assert_true(taken < 2u << 20); /* queue, write in flight and socket */
    close_link(fix);
    for (i = 0; i < USERS_MAX; i++) {
        assert_int_equal(seen[i].ends, 1);
    }
    free(seen);
}

/* Users leave room for what lets a frozen guest go on, which ends none of their streams before. */
static void test_link_keeps_room(void **state)
{
    struct fixture *fix = *state;
    struct seen *seen = calloc(AGENT_STREAMS_MAX, sizeof(*seen));
    static struct seen extra = {0};
    struct node_agent_stream *stream;
    unsigned i;

    make_ready(fix);
    for (i = 0; i < USERS_MAX; i++) {
        open_stream(fix, &seen[i]);
    }
    assert_int_equal(try_open(fix, &extra), SHL_ELIMIT);
    for (; i < AGENT_STREAMS_MAX; i++) {
        assert_int_equal(
            node_agent_open_kept(fix->link, shl_bytes_of(big, 1), &ops, &seen[i], &stream), 0);
    }
    assert_int_equal(node_agent_open_kept(fix->link, shl_bytes_of(big, 1), &ops, &extra, &stream),
                     SHL_ELIMIT);
    RUN_UNTIL(fix, fix->requests == AGENT_STREAMS_MAX);
    close_link(fix);
    free(seen);
}

static void test_link_request_limits(void **state)
{
    struct fixture *fix = *state;
    struct node_agent_stream *stream;
    static struct seen seen[200] = {0};
    int taken = 0;

    open_link(fix);
    assert_int_equal(node_agent_open(fix->link, shl_bytes_of(big, AGENT_REQUEST_MAX + 1), &ops,
                                     &seen[0], &stream),
                     SHL_ELIMIT);
    while (taken < 200 && node_agent_open(fix->link, shl_bytes_of(big, AGENT_PAYLOAD_MAX), &ops,
                                          &seen[taken], &stream) == 0) {
        taken++;
    }
    assert_int_equal(taken, 64);
    close_link(fix);
    assert_int_equal(seen[63].ends, 1);
    assert_int_equal(seen[63].code, SHL_EGONE);
}

static void test_link_path_limit(void **state)
{
    struct fixture *fix = *state;
    char path[200];
    struct node_agent_link_config config = {.socket_path = path};

    memset(path, 'a', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(node_agent_link_open(&fix->loop, &config, &fix->link), -ENAMETOOLONG);
}

/* ---- how streams end --------------------------------------------------------------------- */

/* Lost link: sent streams end once, waiting ones survive, a stream opened from inside
 * on_end goes out on the next connection. */
static void test_link_loss_ends_streams_once(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen[3] = {{.reopen = true}, {0}, {0}};
    int i;

    make_ready(fix);
    for (i = 0; i < 3; i++) {
        open_stream(fix, &seen[i]);
    }
    RUN_UNTIL(fix, fix->requests == 3);
    peer_drop(fix);
    RUN_UNTIL(fix, fix->states_ready == 2 && fix->requests == 4);
    for (i = 0; i < 3; i++) {
        assert_int_equal(seen[i].ends, 1);
        assert_int_equal(seen[i].code, SHL_EUNAVAILABLE);
    }
    peer_respond(fix, 1, 0, "");
    RUN_UNTIL(fix, fix->second.ends == 1);
    assert_int_equal(fix->second.code, 0);
    assert_int_equal(seen[0].ends, 1);
}

static void test_link_close_ends_streams_with_reason(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {.reopen = true};

    make_ready(fix);
    open_stream(fix, &seen);
    RUN_UNTIL(fix, fix->requests == 1);
    node_agent_link_close(fix->link, SHL_EGONE, "the sandbox was stopped", on_link_closed, fix);
    assert_int_equal(seen.ends, 0); /* never from inside */
    RUN_UNTIL(fix, fix->closed);
    assert_int_equal(seen.ends, 1);
    assert_int_equal(seen.code, SHL_EGONE);
    assert_string_equal(seen.msg, "the sandbox was stopped");
    assert_null(fix->second.stream);
}

static void test_link_cancel(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {0};
    static struct seen ignored = {0};

    make_ready(fix);
    open_stream(fix, &seen);
    open_stream(fix, &ignored);
    RUN_UNTIL(fix, fix->requests == 2);
    node_agent_cancel(seen.stream);
    node_agent_cancel(ignored.stream);
    RUN_UNTIL(fix, fix->cancels == 2);
    peer_send_data(fix, 1, 100); /* was on its way; nobody wants it */
    peer_respond(fix, 1, -ECANCELED, "cancelled");
    RUN_UNTIL(fix, seen.ends);
    assert_int_equal(seen.code, -ECANCELED);
    assert_int_equal(seen.bytes, 0);
    RUN_UNTIL(fix, ignored.ends); /* the agent never answers this one */
    assert_int_equal(ignored.code, -ECANCELED);
    peer_respond(fix, 2, 0, "late");
    settle(fix);
    assert_int_equal(ignored.ends, 1);
    assert_int_equal(fix->states_lost, 0);
}

static void test_link_cancel_before_ready(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {0};

    open_link(fix);
    open_stream(fix, &seen);
    node_agent_cancel(seen.stream);
    assert_int_equal(seen.ends, 0);
    RUN_UNTIL(fix, seen.ends);
    assert_int_equal(seen.code, -ECANCELED);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_link_answers_a_request),
        TEST(test_link_waits_for_a_booting_guest),
        TEST(test_link_ignores_a_foreign_hello_ack),
        TEST(test_link_other_version_fails_for_good),
        TEST(test_link_slow_reader_gives_no_credit),
        TEST(test_link_streams_more_than_a_window),
        TEST(test_link_write_respects_credit),
        TEST(test_link_bounds_what_waits),
        TEST(test_link_keeps_room),
        TEST(test_link_request_limits),
        TEST(test_link_loss_ends_streams_once),
        TEST(test_link_close_ends_streams_with_reason),
        TEST(test_link_cancel),
        TEST(test_link_cancel_before_ready),
        TEST(test_link_path_limit),
    };

    return cmocka_run_group_tests_name("node/agent_link", tests, NULL, NULL);
}
