/* The link under stress: cut at any byte, credit in both directions, too much of
 * everything, and requests that make no sense. "HELLO" is the barrier of these tests:
 * when its answer is there, whatever came before it has had its effect. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/io.h"
#include "tests/agent/fixture.h"

static void assert_alive(struct fixture *f)
{
    struct client_call call;

    client_begin(&f->client, &call, "ping");
    assert_int_equal(client_run(&call, FIXTURE_WAIT_MS), 0);
    client_call_release(&call);
}

static void make_file(struct fixture *f, const char *name, size_t len)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/%s", f->home, name);
    assert_int_equal(shl_write_file_atomic(path, "", 0, 0644), 0);
    assert_int_equal(truncate(path, (off_t)len), 0);
}

/* A node dies after any number of bytes; the next one gets a working link, and of the
 * cut request nothing is done unless it had arrived whole. */
static void test_link_cut_at_every_byte(void **state)
{
    struct fixture *f = *state;
    struct client_call call;
    struct shl_buf bytes;
    char path[128];
    size_t request_len, at;

    shl_buf_init(&bytes, 65536);
    client_begin(&f->client, &call, "file.write");
    shl_mp_kv_str(&call.w, "path", "cut");
    client_send(&call);
    request_len = shl_buf_len(&f->client.out);
    (void)client_send_data(&call, shl_bytes_of("SHL1\1\0\0\0\0\0\0\0", 12));
    client_send_frame(&f->client, AGENT_FRAME_EOF, call.stream, shl_bytes_of(NULL, 0));
    assert_int_equal(
        shl_buf_append(&bytes, shl_buf_data(&f->client.out), shl_buf_len(&f->client.out)), 0);
    shl_buf_clear(&f->client.out);
    client_call_release(&call);
    (void)snprintf(path, sizeof(path), "%s/cut", f->home);
    for (at = 0; at <= shl_buf_len(&bytes); at++) {
        (void)unlink(path);
        assert_int_equal(shl_buf_append(&f->client.out, shl_buf_data(&bytes), at), 0);
        assert_int_equal(client_hello(&f->client, FIXTURE_WAIT_MS), 0);
        assert_alive(f);
        if (at < request_len - 1) { /* its last byte is no zero */
            assert_int_equal(access(path, F_OK), -1);
        }
    }
    shl_buf_release(&bytes);
}

static void test_link_sessions_outlive_links(void **state)
{
    struct fixture *f = *state;
    struct fixture_result result;
    struct client_call call;
    char msg[256];

    assert_int_equal(fixture_exec_start(f, "s", "seq 200000; sleep 0.1; exit 9", NULL, msg), 0);
    client_begin(&f->client, &call, "exec.result");
    shl_mp_kv_str(&call.w, "session", "s");
    shl_mp_kv_uint(&call.w, "wait_ms", FIXTURE_WAIT_MS);
    call.hold_credit = true;
    client_send(&call);
    while (call.data_bytes[AGENT_CHANNEL_OUT] < AGENT_WINDOW_BYTES) {
        assert_int_equal(client_pump(&f->client, FIXTURE_WAIT_MS), 0);
    }
    assert_int_equal(client_hello(&f->client, FIXTURE_WAIT_MS), 0); /* in the middle of it */
    assert_false(call.done);
    client_call_release(&call);
    fixture_exec_result(f, "s", FIXTURE_WAIT_MS, &result);
    assert_int_equal(result.exit_code, 9);
    assert_int_equal(shl_buf_len(&result.out), 1288895);
    fixture_result_release(&result);
}

/* The agent is left alone with streams of every kind; its end must be clean. The read is
 * asked for last and is larger than any credit: with its first bytes every request has
 * been taken, and it, the write and the wait for the session are under way. */
static void test_link_end_with_everything_under_way(void **state)
{
    static const char *const ops[] = {"file.write", "file.list", "exec.result", "exec.list",
                                      "file.read"};
    static const char *const paths[] = {"new", ".", "", "", "big"};
    static const uint8_t data[AGENT_PAYLOAD_MAX];
    struct fixture *f = *state;
    struct client_call calls[SHL_ARRAY_SIZE(ops)];
    struct client_call *last = &calls[SHL_ARRAY_SIZE(ops) - 1];
    char msg[256];
    size_t i;

    make_file(f, "big", 10 << 20);
    assert_int_equal(fixture_exec_start(f, "s", "sleep 1000", NULL, msg), 0);
    for (i = 0; i < SHL_ARRAY_SIZE(ops); i++) {
        client_begin(&f->client, &calls[i], ops[i]);
        shl_mp_kv_str(&calls[i].w, "path", paths[i]);
        shl_mp_kv_str(&calls[i].w, "session", "s");
        shl_mp_kv_uint(&calls[i].w, "wait_ms", 600000);
        client_send(&calls[i]);
    }
    (void)client_send_data(&calls[0], shl_bytes_of(data, sizeof(data)));
    while (last->data_bytes[AGENT_CHANNEL_RAW] == 0) {
        assert_int_equal(client_pump(&f->client, FIXTURE_WAIT_MS), 0);
    }
    assert_false(calls[0].done || calls[2].done || last->done);
    for (i = 0; i < SHL_ARRAY_SIZE(ops); i++) {
        client_call_release(&calls[i]);
    }
}

/* ---- credit ---------------------------------------------------------------------- */

static void give_credit(struct client_call *call, uint32_t bytes)
{
    uint8_t payload[4];

    shl_put_le32(payload, bytes);
    client_send_frame(call->client, AGENT_FRAME_CREDIT, call->stream, shl_bytes_of(payload, 4));
}

static void begin_read(struct fixture *f, struct client_call *call)
{
    make_file(f, "big", 2 << 20);
    client_begin(&f->client, call, "file.read");
    shl_mp_kv_str(&call->w, "path", "big");
    call->hold_credit = true;
    client_send(call);
    while (call->data_bytes[0] < AGENT_WINDOW_BYTES) {
        assert_int_equal(client_pump(&f->client, FIXTURE_WAIT_MS), 0);
    }
}

static void test_link_agent_sends_no_more_than_its_credit(void **state)
{
    struct fixture *f = *state;
    struct client_call call;

    begin_read(f, &call);
    assert_alive(f);
    assert_int_equal(call.data_bytes[0], AGENT_WINDOW_BYTES);
    give_credit(&call, 1000);
    while (call.data_bytes[0] < AGENT_WINDOW_BYTES + 1000) {
        assert_int_equal(client_pump(&f->client, FIXTURE_WAIT_MS), 0);
    }
    assert_alive(f);
    assert_int_equal(call.data_bytes[0], AGENT_WINDOW_BYTES + 1000);
    give_credit(&call, 4 << 20);
    assert_int_equal(client_wait(&call, FIXTURE_WAIT_MS), 0);
    assert_int_equal(call.data_bytes[0], 2 << 20);
    client_call_release(&call);
}

static void test_link_cancel_ends_a_stream(void **state)
{
    struct fixture *f = *state;
    struct client_call call;

    begin_read(f, &call);
    client_send_frame(&f->client, AGENT_FRAME_CANCEL, call.stream, shl_bytes_of(NULL, 0));
    assert_int_equal(client_wait(&call, FIXTURE_WAIT_MS), -ECANCELED);
    client_send_frame(&f->client, AGENT_FRAME_CANCEL, call.stream, shl_bytes_of(NULL, 0));
    give_credit(&call, 1000);
    assert_alive(f);
    client_call_release(&call);
}

/* What is sent after a breach has no effect until the next HELLO. */
static void assert_dropped(struct fixture *f)
{
    struct client_call ping;

    client_begin(&f->client, &ping, "ping");
    client_send(&ping);
    assert_int_equal(client_hello(&f->client, FIXTURE_WAIT_MS), 0);
    assert_false(ping.done);
    client_call_release(&ping);
    assert_alive(f);
}

static void test_link_breaches_end_the_link(void **state)
{
    static uint8_t data[AGENT_PAYLOAD_MAX];
    struct fixture *f = *state;
    struct client_call call;
    int i;

    /* more DATA than credit */
    begin_read(f, &call);
    for (i = 0; i < 5; i++) {
        client_send_frame(&f->client, AGENT_FRAME_DATA, call.stream,
                          shl_bytes_of(data, sizeof(data)));
    }
    assert_dropped(f);
    client_call_release(&call);

    /* credit without end */
    begin_read(f, &call);
    give_credit(&call, 0x7fffffff);
    give_credit(&call, 0x7fffffff);
    assert_dropped(f);
    client_call_release(&call);

    /* a stream twice */
    begin_read(f, &call);
    client_send_frame(&f->client, AGENT_FRAME_REQUEST, call.stream, shl_bytes_of("\x80", 1));
    assert_dropped(f);
    client_call_release(&call);

    /* credit of a wrong size, and a frame only agents send */
    begin_read(f, &call);
    client_send_frame(&f->client, AGENT_FRAME_CREDIT, call.stream, shl_bytes_of("123", 3));
    assert_dropped(f);
    client_call_release(&call);
    begin_read(f, &call);
    client_send_frame(&f->client, AGENT_FRAME_RESPONSE, call.stream, shl_bytes_of("\x80", 1));
    assert_dropped(f);
    client_call_release(&call);
}

static void test_link_streams_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct client_call *calls = calloc(AGENT_STREAMS_MAX + 1, sizeof(*calls));
    char msg[256];
    size_t i;

    assert_int_equal(fixture_exec_start(f, "s", "sleep 1000", NULL, msg), 0);
    for (i = 0; i <= AGENT_STREAMS_MAX; i++) {
        client_begin(&f->client, &calls[i], "exec.result");
        shl_mp_kv_str(&calls[i].w, "session", "s");
        shl_mp_kv_uint(&calls[i].w, "wait_ms", 600000);
        client_send(&calls[i]);
    }
    assert_int_equal(client_wait(&calls[AGENT_STREAMS_MAX], FIXTURE_WAIT_MS), SHL_EQUOTA);
    for (i = 0; i < AGENT_STREAMS_MAX; i++) {
        assert_false(calls[i].done);
    }
    assert_int_equal(client_hello(&f->client, FIXTURE_WAIT_MS), 0);
    assert_alive(f);
    for (i = 0; i <= AGENT_STREAMS_MAX; i++) {
        client_call_release(&calls[i]);
    }
    free(calls);
}

/* A node that asks and asks and reads nothing: the agent stops reading instead of
 * keeping the answers, and goes on when they are read. */
static void test_link_node_that_does_not_read(void **state)
{
    enum {
        PINGS = 20000
    };
    struct fixture *f = *state;
    struct client_call *calls = calloc(PINGS, sizeof(*calls));
    int i;

    for (i = 0; i < PINGS; i++) {
        client_begin(&f->client, &calls[i], "ping");
        client_send(&calls[i]);
    }
    assert_int_equal(client_wait(&calls[PINGS - 1], FIXTURE_WAIT_MS), 0);
    for (i = 0; i < PINGS; i++) {
        assert_true(calls[i].done);
        client_call_release(&calls[i]);
    }
    free(calls);
}

/* Output that nobody takes holds up its streams, not requests: a program can be killed. */
static void test_link_reads_behind_output(void **state)
{
    enum {
        READS = 12
    };
    struct fixture *f = *state;
    struct client_call reads[READS], call;
    char path[128];
    int i;

    make_file(f, "big", 2 << 20);
    for (i = 0; i < READS; i++) {
        client_begin(&f->client, &reads[i], "file.read");
        shl_mp_kv_str(&reads[i].w, "path", "big");
        client_send(&reads[i]);
    }
    assert_int_equal(client_write(&f->client, FIXTURE_WAIT_MS), 0);
    (void)usleep(200000); /* for the socket and all that the agent keeps to be full */
    client_begin(&f->client, &call, "file.mkdir");
    shl_mp_kv_str(&call.w, "path", "made");
    client_send(&call);
    assert_int_equal(client_write(&f->client, FIXTURE_WAIT_MS), 0);
    (void)snprintf(path, sizeof(path), "%s/made", f->home);
    for (i = 0; i < FIXTURE_WAIT_MS / 10 && access(path, F_OK) != 0; i++) {
        (void)usleep(10000);
    }
    assert_int_equal(access(path, F_OK), 0);
    for (i = 0; i < READS; i++) {
        assert_int_equal(client_wait(&reads[i], FIXTURE_WAIT_MS), 0);
        client_call_release(&reads[i]);
    }
    assert_int_equal(client_wait(&call, FIXTURE_WAIT_MS), 0);
    client_call_release(&call);
}

/* ---- requests -------------------------------------------------------------------- */

static int send_raw_request(struct fixture *f, struct shl_bytes payload)
{
    struct client_call call;
    int rc;

    client_begin(&f->client, &call, "");
    client_send_frame(&f->client, AGENT_FRAME_REQUEST, call.stream, payload);
    rc = client_wait(&call, FIXTURE_WAIT_MS);
    client_call_release(&call);
    return rc;
}

static void test_link_requests_that_are_none(void **state)
{
    struct fixture *f = *state;
    static uint8_t noise[AGENT_PAYLOAD_MAX];
    uint32_t seed = 7;
    size_t i, round;

    assert_int_equal(send_raw_request(f, shl_bytes_of("", 0)), SHL_EPROTO);
    assert_int_equal(send_raw_request(f, shl_bytes_of("\x80", 1)), SHL_EPROTO);
    assert_int_equal(send_raw_request(f, shl_bytes_of("\x90", 1)), SHL_EPROTO);
    assert_int_equal(send_raw_request(f, shl_bytes_of("\x81\xa2op\xa1x", 6)), SHL_EVERSION);
    assert_int_equal(send_raw_request(f, shl_bytes_of("\x81\xa2op\x05", 5)), SHL_EPROTO);
    assert_int_equal(send_raw_request(f, shl_bytes_of("\xdf\xff\xff\xff\xff", 5)), SHL_EPROTO);
    for (round = 0; round < 50; round++) {
        for (i = 0; i < sizeof(noise); i++) {
            seed = seed * 1103515245u + 12345u;
            noise[i] = (uint8_t)(seed >> 16);
        }
        assert_true(send_raw_request(f, shl_bytes_of(noise, 1 + round * 1337)) < 0);
    }
}

static void put_value(struct shl_mp_writer *w, int kind)
{
    static char big[40000];

    switch (kind) {
    case 0:
        shl_mp_uint(w, 5);
        break;
    case 1:
        shl_mp_int(w, -1);
        break;
    case 2:
        shl_mp_uint(w, UINT64_MAX);
        break;
    case 3:
        shl_mp_bool(w, true);
        break;
    case 4:
        shl_mp_bin(w, "ab", 2);
        break;
    case 5:
        shl_mp_array(w);
        shl_mp_uint(w, 1);
        shl_mp_end(w);
        break;
    case 6:
        shl_mp_map(w);
        shl_mp_kv_uint(w, "k", 1);
        shl_mp_end(w);
        break;
    case 7:
        memset(big, 'x', sizeof(big));
        shl_mp_strn(w, big, sizeof(big));
        break;
    case 8:
        shl_mp_strn(w, "a\0b", 3);
        break;
    case 9:
        shl_mp_str(w, "");
        break;
    default:
        shl_mp_nil(w);
        break;
    }
}

/* Every operation with every field of every wrong kind: an answer, and nothing else. */
static void test_link_fields_of_wrong_kinds(void **state)
{
    static const char *const ops[] = {"setup",      "ping",      "exec.start", "exec.result",
                                      "exec.list",  "exec.kill", "file.read",  "file.list",
                                      "file.mkdir", "stats"};
    static const char *const fields[] = {"hostname",   "ip",         "prefix",     "dns",
                                         "entropy",    "env",        "time_ms",    "disk_bytes",
                                         "sandbox",    "session",    "cmd",        "args",
                                         "envs",       "cwd",        "timeout_ms", "user",
                                         "pipe_stdin", "keep_bytes", "wait_ms",    "signal",
                                         "path",       "sample_ms"};
    struct fixture *f = *state;
    size_t op, field;
    int kind;

    for (op = 0; op < SHL_ARRAY_SIZE(ops); op++) {
        for (field = 0; field < SHL_ARRAY_SIZE(fields); field++) {
            for (kind = 0; kind <= 10; kind++) {
                struct client_call call;

                client_begin(&f->client, &call, ops[op]);
                shl_mp_str(&call.w, fields[field]);
                put_value(&call.w, kind);
                assert_true(client_run(&call, FIXTURE_WAIT_MS) <= 0);
                client_call_release(&call);
            }
        }
    }
    assert_alive(f);
}

static int start_with(struct fixture *f, const char *field, int kind)
{
    struct client_call call;
    int rc;

    client_begin(&f->client, &call, "exec.start");
    if (strcmp(field, "session") != 0) {
        shl_mp_kv_str(&call.w, "session", "id");
    }
    shl_mp_kv_str(&call.w, "cmd", "true");
    shl_mp_str(&call.w, field);
    put_value(&call.w, kind);
    rc = client_run(&call, FIXTURE_WAIT_MS);
    client_call_release(&call);
    return rc;
}

static void test_link_invalid_arguments_are_named(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(start_with(f, "session", 9), SHL_EINVALIDARG);
    assert_int_equal(start_with(f, "session", 7), SHL_EINVALIDARG);
    assert_int_equal(start_with(f, "session", 0), SHL_EINVALIDARG);
    assert_int_equal(start_with(f, "args", 5), SHL_EINVALIDARG);
    assert_int_equal(start_with(f, "args", 6), SHL_EINVALIDARG);
    assert_int_equal(start_with(f, "envs", 6), SHL_EINVALIDARG);
    assert_int_equal(start_with(f, "envs", 5), SHL_EINVALIDARG);
    assert_int_equal(start_with(f, "cwd", 9), SHL_EINVALIDARG);
    assert_int_equal(start_with(f, "cwd", 8), SHL_EINVALIDARG);
    assert_int_equal(start_with(f, "timeout_ms", 2), SHL_EINVALIDARG);
    assert_int_equal(start_with(f, "timeout_ms", 1), SHL_EINVALIDARG);
    assert_int_equal(start_with(f, "user", 0), SHL_EINVALIDARG);
    assert_int_equal(start_with(f, "pipe_stdin", 0), SHL_EINVALIDARG);
    assert_int_equal(start_with(f, "keep_bytes", 2), SHL_EINVALIDARG);
    assert_int_equal(start_with(f, "keep_bytes", 10), 0); /* nil is absent */
}

static void test_link_stats_and_ping(void **state)
{
    struct fixture *f = *state;
    struct client_call call;

    client_begin(&f->client, &call, "stats");
    assert_int_equal(client_run(&call, FIXTURE_WAIT_MS), 0);
    assert_true(client_int(&call.response, "mem_total_bytes") > 0);
    assert_true(client_int(&call.response, "mem_available_bytes") > 0);
    assert_true(client_int(&call.response, "disk_total_bytes") >=
                client_int(&call.response, "disk_free_bytes"));
    assert_true(client_int(&call.response, "processes") > 0);
    assert_true(client_int(&call.response, "programs") > 0);
    assert_true(client_int(&call.response, "programs") <= client_int(&call.response, "processes"));
    assert_int_equal(client_int(&call.response, "cpu_permille"), 0);
    client_call_release(&call);
    assert_true(strlen(f->client.boot_id) == 36);
}

/* What works meanwhile is counted; a sample that nobody waits for any more harms nobody. */
static void test_link_stats_count_the_work_of_processors(void **state)
{
    struct fixture *f = *state;
    struct client_call call;
    char msg[256];

    client_begin(&f->client, &call, "stats");
    shl_mp_kv_uint(&call.w, "sample_ms", AGENT_STATS_SAMPLE_MAX_MS);
    client_send(&call);
    client_send_frame(&f->client, AGENT_FRAME_CANCEL, call.stream, shl_bytes_of(NULL, 0));
    assert_int_equal(client_wait(&call, FIXTURE_WAIT_MS), -ECANCELED);
    client_call_release(&call);
    assert_int_equal(
        fixture_exec_start(f, "busy", "timeout 2 sh -c 'while :; do :; done'", NULL, msg), 0);
    client_begin(&f->client, &call, "stats");
    shl_mp_kv_uint(&call.w, "sample_ms", 200);
    assert_int_equal(client_run(&call, FIXTURE_WAIT_MS), 0);
    assert_true(client_int(&call.response, "cpu_permille") > 0);
    client_call_release(&call);
    client_begin(&f->client, &call, "stats");
    shl_mp_kv_uint(&call.w, "sample_ms", AGENT_STATS_SAMPLE_MAX_MS + 1);
    assert_int_equal(client_run(&call, FIXTURE_WAIT_MS), SHL_EINVALIDARG);
    client_call_release(&call);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_link_cut_at_every_byte),
        TEST(test_link_sessions_outlive_links),
        TEST(test_link_end_with_everything_under_way),
        TEST(test_link_agent_sends_no_more_than_its_credit),
        TEST(test_link_cancel_ends_a_stream),
        TEST(test_link_breaches_end_the_link),
        TEST(test_link_streams_are_bounded),
        TEST(test_link_node_that_does_not_read),
        TEST(test_link_reads_behind_output),
        TEST(test_link_requests_that_are_none),
        TEST(test_link_fields_of_wrong_kinds),
        TEST(test_link_invalid_arguments_are_named),
        TEST(test_link_stats_and_ping),
        TEST(test_link_stats_count_the_work_of_processors),
    };

    return cmocka_run_group_tests_name("agent/link", tests, NULL, NULL);
}
