/* node/sandbox/agent_link against an agent that breaks the rules. */
#include <string.h>

#include "tests/node/sandbox/link_fixture.h"

static void test_link_over_credit_ends_the_connection(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {.keep = true};

    make_ready(fix);
    open_stream(fix, &seen);
    RUN_UNTIL(fix, fix->requests == 1);
    peer_send_data(fix, 1, AGENT_WINDOW_BYTES + 1);
    RUN_UNTIL(fix, seen.ends);
    assert_int_equal(seen.code, SHL_EUNAVAILABLE);
    assert_int_equal(seen.bytes, AGENT_WINDOW_BYTES);
    RUN_UNTIL(fix, fix->states_ready == 2); /* one recovery */
    assert_int_equal(seen.ends, 1);
}

/* Frames for an ended stream are late, not hostile. */
static void test_link_ignores_frames_after_the_end(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {0};

    make_ready(fix);
    open_stream(fix, &seen);
    RUN_UNTIL(fix, fix->requests == 1);
    peer_respond(fix, 1, 0, "");
    peer_respond(fix, 1, 0, "");
    peer_send_map(fix, AGENT_FRAME_HEAD, 1, 0, "");
    peer_send_data(fix, 1, 100000);
    RUN_UNTIL(fix, seen.ends);
    settle(fix);
    assert_int_equal(seen.ends, 1);
    assert_int_equal(seen.heads, 0);
    assert_int_equal(fix->states_lost, 0);
}

/* Whatever a hostile agent sends: the connection is made anew once, then given up. */
static void attack(struct fixture *fix, void (*send)(struct fixture *fix))
{
    struct seen seen = {0};
    struct seen again = {0};

    make_ready(fix);
    open_stream(fix, &seen);
    RUN_UNTIL(fix, fix->requests == 1);
    send(fix);
    RUN_UNTIL(fix, seen.ends);
    assert_int_equal(seen.code, SHL_EUNAVAILABLE);
    RUN_UNTIL(fix, fix->states_ready == 2);
    open_stream(fix, &again);
    RUN_UNTIL(fix, fix->requests == 2);
    send(fix);
    RUN_UNTIL(fix, again.ends);
    assert_int_equal(fix->state, NODE_AGENT_LINK_FAILED);
    assert_int_equal(fix->state_code, SHL_EGUEST);
    assert_int_equal(again.code, SHL_EGONE);
    assert_int_equal(seen.ends, 1);
}

static void send_unknown_stream(struct fixture *fix)
{
    peer_respond(fix, 77, 0, "");
}

static void send_garbage(struct fixture *fix)
{
    uint8_t bytes[300];

    memset(bytes, 'x', sizeof(bytes));
    peer_send_raw(fix, bytes, sizeof(bytes));
}

static void send_oversize(struct fixture *fix)
{
    uint8_t header[AGENT_HEADER_BYTES] = {0};

    shl_put_le32(header, AGENT_MAGIC);
    header[4] = AGENT_FRAME_DATA;
    shl_put_le32(header + 8, 1);
    shl_put_le32(header + 12, AGENT_PAYLOAD_MAX + 1);
    peer_send_raw(fix, header, sizeof(header));
}

static void send_two_heads(struct fixture *fix)
{
    peer_send_map(fix, AGENT_FRAME_HEAD, 1, 0, "");
    peer_send_map(fix, AGENT_FRAME_HEAD, 1, 0, "");
}

static void send_bad_response(struct fixture *fix)
{
    peer_send(fix, AGENT_FRAME_RESPONSE, 0, 1, "\xc1", 1);
}

static void send_positive_code(struct fixture *fix)
{
    peer_respond(fix, 1, 5, "");
}

static void send_request(struct fixture *fix)
{
    peer_send(fix, AGENT_FRAME_REQUEST, 0, 1, "\x80", 1);
}

static void send_foreign_ack(struct fixture *fix)
{
    static const uint8_t wrong[AGENT_TOKEN_BYTES] = {9};

    peer_ack(fix, wrong);
}

static void send_short_credit(struct fixture *fix)
{
    peer_send(fix, AGENT_FRAME_CREDIT, 0, 1, "\x01", 1);
}

#define ATTACK(name)                                    \
    static void test_link_contains_##name(void **state) \
    {                                                   \
        attack(*state, send_##name);                    \
    }
ATTACK(unknown_stream)
ATTACK(garbage)
ATTACK(oversize)
ATTACK(two_heads)
ATTACK(bad_response)
ATTACK(positive_code)
ATTACK(request)
ATTACK(foreign_ack)
ATTACK(short_credit)

static void test_link_cleans_the_message(void **state)
{
    struct fixture *fix = *state;
    static struct seen seen = {0};

    make_ready(fix);
    open_stream(fix, &seen);
    RUN_UNTIL(fix, fix->requests == 1);
    peer_respond(fix, 1, SHL_ENOTFOUND, "no \x1b[31mfile\xff");
    RUN_UNTIL(fix, seen.ends);
    assert_int_equal(seen.code, SHL_ENOTFOUND);
    assert_string_equal(seen.msg, "no  [31mfile?");
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_link_over_credit_ends_the_connection),
        TEST(test_link_ignores_frames_after_the_end),
        TEST(test_link_contains_unknown_stream),
        TEST(test_link_contains_garbage),
        TEST(test_link_contains_oversize),
        TEST(test_link_contains_two_heads),
        TEST(test_link_contains_bad_response),
        TEST(test_link_contains_positive_code),
        TEST(test_link_contains_request),
        TEST(test_link_contains_foreign_ack),
        TEST(test_link_contains_short_credit),
        TEST(test_link_cleans_the_message),
    };

    return cmocka_run_group_tests_name("node/agent_link_hostile", tests, NULL, NULL);
}
