/* node/mesh: a member with a valid key that breaks the rules is refused by name, counted,
 * logged once, told why; and it can make nobody else suffer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/node/mesh/raw.h"

static const struct mesh_envelope env = {1, test_cluster};

struct fixture {
    uv_loop_t loop;
    struct test_mesh t;
    struct raw raw;
    struct shl_log log;
    struct shl_buf buf;
    int messages, closed, closed_code, writable;
    size_t take;
};

static void on_message(void *arg, const struct shl_node_id *from, struct shl_bytes body)
{
    struct fixture *fix = arg;

    (void)from;
    (void)body;
    fix->messages++;
}

static size_t on_data(void *arg, struct shl_bytes data)
{
    struct fixture *fix = arg;

    return SHL_MIN(fix->take, data.len);
}

static void on_writable(void *arg)
{
    ((struct fixture *)arg)->writable++;
}

static void on_closed(void *arg, int code, const char *msg)
{
    struct fixture *fix = arg;

    (void)msg;
    fix->closed++;
    fix->closed_code = code;
}

static const struct node_stream_user user = {on_data, NULL, on_writable, on_closed};

static int accept_stream(void *arg,
                         struct node_stream *s,
                         struct shl_bytes head,
                         struct shl_err *err)
{
    (void)head;
    (void)err;
    node_stream_set_user(s, &user, arg);
    return 0;
}

static int setup(void **state)
{
    struct fixture *fix = calloc(1, sizeof(*fix));
    struct node_mesh_config config = {0};
    char path[] = "/tmp/shoal-mesh-log-XXXXXX";

    assert_int_equal(uv_loop_init(&fix->loop), 0);
    fix->log = (struct shl_log){.fd = mkstemp(path), .level = SHL_LOG_WARN, .subsystem = "mesh"};
    assert_true(fix->log.fd >= 0);
    assert_int_equal(unlink(path), 0);
    config.log = &fix->log;
    test_mesh_open(&fix->t, &fix->loop, &config);
    node_mesh_on(fix->t.mesh, "test", 64, on_message, fix);
    node_mesh_on(fix->t.mesh, "large", NODE_MESH_BODY_MAX, on_message, fix);
    node_mesh_accept(fix->t.mesh, "test", accept_stream, fix);
    raw_open(&fix->raw);
    shl_buf_init(&fix->buf, 8u * 1024 * 1024);
    *state = fix;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fix = *state;

    test_mesh_close(&fix->t);
    raw_close(&fix->raw);
    assert_int_equal(uv_run(&fix->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&fix->loop), 0);
    shl_buf_release(&fix->buf);
    (void)close(fix->log.fd);
    free(fix);
    return 0;
}

/* How often the log has "why":"@why". */
static int logged(struct fixture *fix, const char *why)
{
    char text[64 * 1024], key[64];
    ssize_t len = pread(fix->log.fd, text, sizeof(text) - 1, 0);
    const char *at;
    int count = 0;

    assert_true(len >= 0);
    text[len] = 0;
    (void)snprintf(key, sizeof(key), "\"why\":\"%s\"", why);
    for (at = text; (at = strstr(at, key)); at++) {
        count++;
    }
    return count;
}

static uint64_t refused(struct fixture *fix, enum node_mesh_refusal why)
{
    return test_stats(&fix->t).refused[why];
}

static void wait_refused(struct fixture *fix, enum node_mesh_refusal why)
{
    RAW_UNTIL(&fix->raw, &fix->loop, fix->raw.refused[why] > 0);
    fix->raw.refused[why] = 0;
}

/* Only a member, without a link. */
static void admit(struct fixture *fix)
{
    assert_int_equal(node_mesh_set_peer(fix->t.mesh, &fix->raw.keys.id, fix->raw.keys.public_key,
                                        NULL, 0, NULL),
                     0);
    raw_dial(&fix->raw, MESH_CONTROL, &fix->t);
}

static void test_hostile_message_before_hello(void **state)
{
    struct fixture *fix = *state;

    admit(fix);
    assert_int_equal(mesh_write_one_way(&fix->buf, &env, "test", shl_bytes_of("x", 1)), 0);
    raw_send_buf(&fix->raw, MESH_CONTROL, &fix->buf);
    wait_refused(fix, NODE_MESH_REFUSED_HELLO);
    assert_int_equal(fix->messages, 0);
}

static void test_hostile_claims_another_id(void **state)
{
    struct fixture *fix = *state;
    struct mesh_message fields = raw_hello_fields(&fix->raw, MESH_CONTROL);

    admit(fix);
    fields.hello.id.bytes[3] ^= 1;
    raw_send_hello(&fix->raw, MESH_CONTROL, &fields, test_cluster);
    raw_send_hello(&fix->raw, MESH_CONTROL, &fields, test_cluster);
    RAW_UNTIL(&fix->raw, &fix->loop, fix->raw.refusals == 2);
    assert_int_equal(fix->raw.refused[NODE_MESH_REFUSED_CLAIM], 2);
    assert_int_equal(refused(fix, NODE_MESH_REFUSED_CLAIM), 2);
    assert_int_equal(logged(fix, "claim"), 1); /* once */
    assert_int_equal(fix->raw.welcomes, 0);
}

static void test_hostile_wrong_cluster_and_version(void **state)
{
    struct fixture *fix = *state;
    struct mesh_message fields = raw_hello_fields(&fix->raw, MESH_CONTROL);

    admit(fix);
    raw_send_hello(&fix->raw, MESH_CONTROL, &fields, (const uint8_t *)"some-other-clust");
    wait_refused(fix, NODE_MESH_REFUSED_CLUSTER);
    fields.hello.min = 7;
    fields.hello.max = 9;
    raw_send_hello(&fix->raw, MESH_CONTROL, &fields, test_cluster);
    wait_refused(fix, NODE_MESH_REFUSED_VERSION);
    assert_non_null(strstr(fix->raw.text, "it speaks 7 to 9"));
    fields = raw_hello_fields(&fix->raw, MESH_BULK); /* on the control port */
    raw_send_hello(&fix->raw, MESH_CONTROL, &fields, test_cluster);
    wait_refused(fix, NODE_MESH_REFUSED_GARBAGE);
    assert_int_equal(logged(fix, "cluster") + logged(fix, "version"), 2);
}

static void test_hostile_garbage_ends_the_link(void **state)
{
    struct fixture *fix = *state;
    static const char *const rubbish[] = {"", "\xc1", "\x93\x01", "GET / HTTP/1.1\r\n\r\n",
                                          "\xdd\xff\xff\xff\xff"};
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(rubbish); i++) {
        raw_link(&fix->raw, &fix->t);
        raw_send(&fix->raw, MESH_CONTROL, rubbish[i], strlen(rubbish[i]), false);
        wait_refused(fix, NODE_MESH_REFUSED_GARBAGE);
        RAW_UNTIL(&fix->raw, &fix->loop, !node_mesh_is_up(fix->t.mesh, &fix->raw.keys.id));
    }
    assert_int_equal(refused(fix, NODE_MESH_REFUSED_GARBAGE), SHL_ARRAY_SIZE(rubbish));
    assert_int_equal(logged(fix, "garbage"), 1);
}

static void test_hostile_several_parts_are_garbage(void **state)
{
    struct fixture *fix = *state;

    raw_link(&fix->raw, &fix->t);
    raw_send(&fix->raw, MESH_CONTROL, "a", 1, true);
    raw_send(&fix->raw, MESH_CONTROL, "b", 1, true);
    raw_send(&fix->raw, MESH_CONTROL, "c", 1, false);
    wait_refused(fix, NODE_MESH_REFUSED_GARBAGE);
}

static void test_hostile_oversized_for_its_kind(void **state)
{
    struct fixture *fix = *state;
    char body[65] = {0};

    raw_link(&fix->raw, &fix->t);
    assert_int_equal(mesh_write_one_way(&fix->buf, &env, "test", shl_bytes_of(body, 64)), 0);
    raw_send_buf(&fix->raw, MESH_CONTROL, &fix->buf);
    RAW_UNTIL(&fix->raw, &fix->loop, fix->messages == 1);
    assert_int_equal(mesh_write_one_way(&fix->buf, &env, "test", shl_bytes_of(body, 65)), 0);
    raw_send_buf(&fix->raw, MESH_CONTROL, &fix->buf);
    wait_refused(fix, NODE_MESH_REFUSED_OVERSIZED);
    assert_int_equal(fix->messages, 1);
    assert_non_null(strstr(fix->raw.text, "65 bytes of kind test, at most 64"));
    assert_int_equal(logged(fix, "oversized"), 1);
}

/* Larger than any message may be: named when it is near the limit; far above it ZeroMQ cuts
 * the connection before the bytes are here. */
static void test_hostile_oversized_for_all(void **state)
{
    struct fixture *fix = *state;
    size_t len = NODE_MESH_BODY_MAX + 32 * 1024;
    uint8_t *large = calloc(1, 4 * len);

    raw_link(&fix->raw, &fix->t);
    assert_int_equal(mesh_write_one_way(&fix->buf, &env, "large", shl_bytes_of(large, len)), 0);
    raw_send_buf(&fix->raw, MESH_CONTROL, &fix->buf);
    wait_refused(fix, NODE_MESH_REFUSED_OVERSIZED);
    raw_link(&fix->raw, &fix->t);
    assert_int_equal(mesh_write_one_way(&fix->buf, &env, "large", shl_bytes_of(large, 4 * len)), 0);
    raw_send_buf(&fix->raw, MESH_CONTROL, &fix->buf);
    assert_int_equal(mesh_write_one_way(&fix->buf, &env, "test", shl_bytes_of("x", 1)), 0);
    raw_send_buf(&fix->raw, MESH_CONTROL, &fix->buf); /* behind it: never arrives */
    test_run_for(&fix->loop, 300);
    assert_int_equal(fix->messages, 0);
    raw_link(&fix->raw, &fix->t); /* a new connection works */
    assert_int_equal(mesh_write_one_way(&fix->buf, &env, "test", shl_bytes_of("x", 1)), 0);
    raw_send_buf(&fix->raw, MESH_CONTROL, &fix->buf);
    RAW_UNTIL(&fix->raw, &fix->loop, fix->messages == 1);
    free(large);
}

static void test_hostile_kinds_on_the_wrong_connection(void **state)
{
    struct fixture *fix = *state;

    raw_link(&fix->raw, &fix->t);
    assert_int_equal(mesh_write_one_way(&fix->buf, &env, "test", shl_bytes_of("x", 1)), 0);
    raw_send_buf(&fix->raw, MESH_BULK, &fix->buf);
    wait_refused(fix, NODE_MESH_REFUSED_GARBAGE);
    raw_link(&fix->raw, &fix->t);
    assert_int_equal(mesh_write_data(&fix->buf, &env, 1, true, shl_bytes_of("x", 1)), 0);
    raw_send_buf(&fix->raw, MESH_CONTROL, &fix->buf);
    wait_refused(fix, NODE_MESH_REFUSED_GARBAGE);
    assert_int_equal(fix->messages, 0);
}

static void open_from_raw(struct fixture *fix, uint64_t id)
{
    assert_int_equal(mesh_write_open(&fix->buf, &env, id, "test", shl_bytes_of(NULL, 0)), 0);
    raw_send_buf(&fix->raw, MESH_BULK, &fix->buf);
}

static void send_data(struct fixture *fix, uint64_t id, size_t len)
{
    uint8_t *bytes = calloc(1, len);

    assert_int_equal(mesh_write_data(&fix->buf, &env, id, true, shl_bytes_of(bytes, len)), 0);
    raw_send_buf(&fix->raw, MESH_BULK, &fix->buf);
    free(bytes);
}

/* Bytes that are not as long as announced, that are missing, one part too many, bytes behind a
 * message that has none, more than a frame may have. */
static void test_hostile_wrong_parts_are_refused(void **state)
{
    static const struct {
        size_t announced, sent;
        bool is_data;
        int more;
        enum node_mesh_refusal why;
    } cases[] = {
        {100, 99, false, 0, NODE_MESH_REFUSED_GARBAGE},
        {100, 0, false, -1, NODE_MESH_REFUSED_GARBAGE},
        {100, 100, false, 1, NODE_MESH_REFUSED_GARBAGE},
        {100, 100, true, 0, NODE_MESH_REFUSED_GARBAGE},
        {MESH_FRAME_BYTES_MAX + 1, MESH_FRAME_BYTES_MAX + 1, false, 0, NODE_MESH_REFUSED_OVERSIZED},
        {65 * 1024, 65 * 1024, false, 0, NODE_MESH_REFUSED_CREDIT},
    };
    struct fixture *fix = *state;
    uint8_t *bytes = calloc(1, MESH_FRAME_BYTES_MAX + 1);
    struct mesh_envelope parts = {MESH_VERSION_PARTS, env.cluster};
    struct node_mesh_peer_stats peer;
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(cases); i++) {
        raw_link(&fix->raw, &fix->t);
        open_from_raw(fix, 5 + i);
        if (cases[i].is_data) {
            assert_int_equal(
                mesh_write_data(&fix->buf, &parts, 5 + i, true, shl_bytes_of(bytes, 100)), 0);
        } else {
            assert_int_equal(mesh_write_part(&fix->buf, &parts, 5 + i, true, cases[i].announced),
                             0);
        }
        raw_send(&fix->raw, MESH_BULK, shl_buf_data(&fix->buf), shl_buf_len(&fix->buf),
                 cases[i].more >= 0);
        shl_buf_clear(&fix->buf);
        if (cases[i].more >= 0) {
            raw_send(&fix->raw, MESH_BULK, bytes, cases[i].sent, cases[i].more > 0);
        }
        if (cases[i].more > 0) {
            raw_send(&fix->raw, MESH_BULK, bytes, 1, false);
        }
        wait_refused(fix, cases[i].why);
        RAW_UNTIL(&fix->raw, &fix->loop,
                  node_mesh_peers(fix->t.mesh, &peer, 1) == 1 && !peer.is_bulk_up);
    }
    assert_int_equal(test_stats(&fix->t).receive_queue_bytes, 0);
    free(bytes);
}

static void test_hostile_sends_more_than_its_credit(void **state)
{
    struct fixture *fix = *state;

    raw_link(&fix->raw, &fix->t);
    open_from_raw(fix, 5);
    send_data(fix, 5, 64 * 1024); /* all it may; the reader takes nothing */
    RAW_UNTIL(&fix->raw, &fix->loop, test_stats(&fix->t).receive_queue_bytes == 64 * 1024);
    send_data(fix, 5, 1);
    wait_refused(fix, NODE_MESH_REFUSED_CREDIT);
    RAW_UNTIL(&fix->raw, &fix->loop, fix->closed == 1);
    assert_int_equal(fix->closed_code, SHL_EUNAVAILABLE);
    assert_int_equal(test_stats(&fix->t).receive_queue_bytes, 0);
    assert_int_equal(logged(fix, "credit"), 1);
}

static void test_hostile_grants_absurd_credit(void **state)
{
    struct fixture *fix = *state;
    int i;

    raw_link(&fix->raw, &fix->t);
    open_from_raw(fix, 5);
    for (i = 0; i < 2; i++) {
        assert_int_equal(mesh_write_credit(&fix->buf, &env, 5, true, UINT32_MAX - 100000), 0);
        raw_send_buf(&fix->raw, MESH_BULK, &fix->buf);
    }
    wait_refused(fix, NODE_MESH_REFUSED_CREDIT);
}

static void test_hostile_stream_ids_go_up(void **state)
{
    struct fixture *fix = *state;

    raw_link(&fix->raw, &fix->t);
    open_from_raw(fix, 5);
    open_from_raw(fix, 5);
    wait_refused(fix, NODE_MESH_REFUSED_GARBAGE);
}

/* Frames of streams that never were are ignored, but not for free: they are counted. */
static void test_hostile_unknown_streams_do_nothing(void **state)
{
    struct fixture *fix = *state;

    raw_link(&fix->raw, &fix->t);
    send_data(fix, 77, 1000);
    assert_int_equal(mesh_write_end(&fix->buf, &env, 78, false), 0);
    raw_send_buf(&fix->raw, MESH_BULK, &fix->buf);
    assert_int_equal(mesh_write_cut(&fix->buf, &env, 79, true, SHL_EGONE, "x"), 0);
    raw_send_buf(&fix->raw, MESH_BULK, &fix->buf);
    RAW_UNTIL(&fix->raw, &fix->loop, test_stats(&fix->t).stale == 3);
    assert_int_equal(test_stats(&fix->t).streams, 0);
}

/* More streams than it may have: each is cut, the link stays. */
static void test_hostile_opens_too_many_streams(void **state)
{
    struct fixture *fix = *state;
    uint64_t i;

    raw_link(&fix->raw, &fix->t);
    for (i = 1; i <= NODE_MESH_STREAMS_PEER_MAX + 10; i++) {
        open_from_raw(fix, i);
        raw_step(&fix->raw);
        test_run_once(&fix->loop);
    }
    RAW_UNTIL(&fix->raw, &fix->loop, fix->raw.cuts == 10);
    assert_int_equal(fix->raw.cut_code, SHL_ELIMIT);
    assert_int_equal(test_stats(&fix->t).streams, NODE_MESH_STREAMS_PEER_MAX);
}

/* A peer that reads nothing: what waits for it stays within its limits, a stream to it
 * within its first credit, and other peers notice nothing. */
static void test_hostile_reads_nothing(void **state)
{
    struct fixture *fix = *state;
    struct node_stream_opener *opener = node_mesh_opener(fix->t.mesh);
    struct node_stream *s;
    struct node_mesh_stats stats;
    struct test_mesh other;
    uint8_t *large = calloc(1, NODE_MESH_BODY_MAX);
    struct shl_err err = {0};
    size_t written = 0;
    int rc = 0, sent = 0;

    raw_link(&fix->raw, &fix->t);
    fix->raw.is_deaf = true;
    while (rc == 0) {
        rc = node_mesh_send(fix->t.mesh, &fix->raw.keys.id, "large",
                            shl_bytes_of(large, 256 * 1024));
        sent++;
        test_run_once(&fix->loop);
        assert_true(test_stats(&fix->t).control_queue_bytes <= NODE_MESH_CONTROL_QUEUE_MAX);
        assert_true(sent < 1000);
    }
    assert_int_equal(rc, SHL_ELIMIT);
    if (opener->open(opener, &fix->raw.keys.id, "test", shl_bytes_of(NULL, 0), &user, fix, &s,
                     &err) < 0) {
        fail_msg("%s (%s)", err.msg, fix->t.down_reason);
    }
    written = node_stream_write(s, shl_bytes_of(large, NODE_MESH_BODY_MAX));
    assert_int_equal(written, 64 * 1024);
    test_run_for(&fix->loop, 100);
    stats = test_stats(&fix->t);
    assert_true(stats.dropped > 0);
    assert_int_equal(node_stream_write(s, shl_bytes_of(large, 1)), 0);
    assert_int_equal(fix->writable, 0);
    test_mesh_open(&other, &fix->loop, NULL);
    node_mesh_on(other.mesh, "test", 64, on_message, fix);
    test_mesh_introduce(&other, &fix->t);
    test_mesh_introduce(&fix->t, &other);
    test_mesh_wait_up(&other, &fix->t);
    assert_int_equal(node_mesh_send(fix->t.mesh, &other.keys.id, "test", shl_bytes_of("x", 1)), 0);
    RUN_UNTIL(&fix->loop, fix->messages == 1);
    /* It may do so for ever; removing it frees everything. */
    node_mesh_remove_peer(fix->t.mesh, &fix->raw.keys.id);
    RUN_UNTIL(&fix->loop, fix->closed == 1);
    stats = test_stats(&fix->t);
    assert_int_equal(stats.control_queue_bytes + stats.send_queue_bytes, 0);
    test_mesh_close(&other);
    free(large);
}

/* Connecting over and over is slowed down, and after a while possible again. */
static void test_hostile_connects_too_often(void **state)
{
    struct fixture *fix = *state;

    admit(fix);
    while (refused(fix, NODE_MESH_REFUSED_RATE) == 0) {
        raw_dial(&fix->raw, MESH_CONTROL, &fix->t);
        test_run_once(&fix->loop);
        test_run_once(&fix->loop);
    }
    assert_int_equal(logged(fix, "rate"), 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_hostile_message_before_hello),
        T(test_hostile_claims_another_id),
        T(test_hostile_wrong_cluster_and_version),
        T(test_hostile_garbage_ends_the_link),
        T(test_hostile_several_parts_are_garbage),
        T(test_hostile_oversized_for_its_kind),
        T(test_hostile_wrong_parts_are_refused),
        T(test_hostile_oversized_for_all),
        T(test_hostile_kinds_on_the_wrong_connection),
        T(test_hostile_sends_more_than_its_credit),
        T(test_hostile_grants_absurd_credit),
        T(test_hostile_stream_ids_go_up),
        T(test_hostile_unknown_streams_do_nothing),
        T(test_hostile_opens_too_many_streams),
        T(test_hostile_reads_nothing),
        T(test_hostile_connects_too_often),
    };

    return cmocka_run_group_tests_name("node/mesh_hostile", tests, NULL, NULL);
}
