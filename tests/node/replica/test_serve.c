/* node/replica/serve: what it does with peers that break the rules, take nothing or vanish. */
#include "tests/node/replica/kit.h"

/* A stream that node 0 opened at node 1. */
struct probe {
    struct node_stream *stream;
    struct node_replica_reader reader;
    uint64_t bytes;
    uint32_t here, lacks;
    bool is_stuck; /* takes nothing */
    bool has_end;
    int closed, code;
    char msg[256];
};

static size_t on_data(void *arg, struct shl_bytes data)
{
    struct probe *p = arg;
    struct shl_bytes piece = data;
    struct node_replica_part part;
    int rc;

    if (p->is_stuck) {
        return 0;
    }
    while ((rc = node_replica_read(&p->reader, &piece, &part)) == 1) {
        p->here += part.is_last && part.record.outcome == NODE_REPLICA_HERE;
        p->lacks += part.is_last && part.record.outcome == NODE_REPLICA_LACKS;
    }
    assert_int_equal(rc, 0);
    p->bytes += data.len;
    return data.len;
}

static void on_end(void *arg)
{
    struct probe *p = arg;

    p->has_end = true;
}

static void on_closed(void *arg, int code, const char *msg)
{
    struct probe *p = arg;

    p->closed++;
    p->code = code;
    snprintf(p->msg, sizeof(p->msg), "%s", msg ? msg : "");
}

static const struct node_stream_user user = {.data = on_data, .end = on_end, .closed = on_closed};

#define PROBES 40

struct fixture {
    struct kit kit;
    struct probe probes[PROBES];
};

static int setup(void **state)
{
    struct fixture *fix = calloc(1, sizeof(*fix));

    kit_setup(&fix->kit);
    *state = fix;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fix = *state;

    kit_teardown(&fix->kit);
    free(fix);
    return 0;
}

static void open_raw(struct fixture *fix, struct probe *p, struct shl_bytes head)
{
    struct node_stream_opener *opener = node_mesh_opener(fix->kit.nodes[0].mesh.mesh);

    assert_int_equal(opener->open(opener, &fix->kit.nodes[1].mesh.keys.id, NODE_REPLICA_KIND, head,
                                  &user, p, &p->stream, NULL),
                     0);
}

static void ask(struct fixture *fix, struct probe *p, const struct node_replica_ask *a)
{
    struct shl_buf head;

    shl_buf_init(&head, NODE_REPLICA_HEAD_MAX);
    assert_int_equal(node_replica_ask_write(&head, a), 0);
    node_replica_reader_init(&p->reader, a);
    open_raw(fix, p, shl_buf_bytes(&head));
    shl_buf_release(&head);
}

/* A question for chunks [0, count) of make_chunk. */
static struct node_replica_ask ask_for(uint32_t count)
{
    struct node_replica_ask a = {.count = count};
    uint8_t *chunk = malloc(CKPT_CHUNK_BYTES);
    uint32_t i;

    assert_non_null(chunk);
    for (i = 0; i < count; i++) {
        ckpt_id_of(&a.ids[i], chunk, make_chunk(chunk, i));
    }
    free(chunk);
    return a;
}

static void test_serve_answers_what_it_has(void **state)
{
    struct fixture *fix = *state;
    struct node_replica_ask a = ask_for(32);
    struct probe *p = &fix->probes[0];
    struct node_replica_server_stats stats;

    kit_open(&fix->kit, LIE_NONE, LIE_NONE);
    (void)add_checkpoint(fix->kit.nodes[1].store, 0, 20); /* twelve are missing */
    ask(fix, p, &a);
    node_stream_finish(p->stream);
    RUN_UNTIL(&fix->kit.loop, p->closed);
    assert_int_equal(p->code, 0);
    assert_true(p->has_end && node_replica_may_end(&p->reader));
    assert_int_equal(p->here, 20);
    assert_int_equal(p->lacks, 12);
    assert_int_equal(p->bytes, 20 * CKPT_CHUNK_BYTES + 32 * NODE_REPLICA_RECORD_BYTES);
    RUN_UNTIL(&fix->kit.loop, kit_served(&fix->kit.nodes[1]).streams == 0);
    stats = kit_served(&fix->kit.nodes[1]);
    assert_int_equal(stats.served, 1);
    assert_int_equal(stats.chunks, 20);
    assert_int_equal(stats.lacks, 12);
}

static void test_serve_refuses_what_it_cannot_read(void **state)
{
    struct fixture *fix = *state;
    struct probe *p = &fix->probes[0];

    kit_open(&fix->kit, LIE_NONE, LIE_NONE);
    open_raw(fix, p, shl_bytes_of("\xc1\xff nonsense", 11));
    RUN_UNTIL(&fix->kit.loop, p->closed);
    assert_int_equal(p->code, SHL_EPROTO);
    assert_non_null(strstr(p->msg, "cannot be understood"));
    assert_int_equal(kit_served(&fix->kit.nodes[1]).refused, 1);
    assert_int_equal(kit_served(&fix->kit.nodes[1]).streams, 0);
}

static void test_serve_cuts_who_sends_bytes(void **state)
{
    struct fixture *fix = *state;
    struct node_replica_ask a = ask_for(2);
    struct probe *p = &fix->probes[0];

    kit_open(&fix->kit, LIE_NONE, LIE_NONE);
    p->is_stuck = true;
    ask(fix, p, &a);
    assert_int_equal(node_stream_write(p->stream, shl_bytes_of("more", 4)), 4);
    RUN_UNTIL(&fix->kit.loop, p->closed);
    assert_int_equal(p->code, SHL_EPROTO);
    RUN_UNTIL(&fix->kit.loop, kit_served(&fix->kit.nodes[1]).streams == 0);
    assert_int_equal(kit_served(&fix->kit.nodes[1]).cut, 1);
}

/* Three streams that nobody reads from; the limits are two. */
static void test_serve_refuses_streams_over_its_limit(void **state)
{
    struct fixture *fix = *state;
    struct node_replica_ask a = ask_for(32);
    int i;

    fix->kit.serve.streams_peer_max = 2;
    kit_open(&fix->kit, LIE_NONE, LIE_NONE);
    (void)add_checkpoint(fix->kit.nodes[1].store, 0, 32);
    for (i = 0; i < 3; i++) {
        fix->probes[i].is_stuck = true;
        ask(fix, &fix->probes[i], &a);
    }
    RUN_UNTIL(&fix->kit.loop, fix->probes[2].closed);
    assert_int_equal(fix->probes[2].code, SHL_EQUOTA);
    assert_true(fix->probes[2].msg[0]);
    assert_int_equal(fix->probes[0].closed + fix->probes[1].closed, 0);
    /* One that ends makes room. */
    node_stream_abort(fix->probes[0].stream, -ECANCELED, NULL);
    RUN_UNTIL(&fix->kit.loop, kit_served(&fix->kit.nodes[1]).streams == 1);
    ask(fix, &fix->probes[3], &a);
    node_stream_finish(fix->probes[3].stream);
    RUN_UNTIL(&fix->kit.loop, fix->probes[3].closed);
    assert_int_equal(fix->probes[3].code, 0);
    assert_int_equal(fix->probes[3].here, 32);
}

static void test_serve_refuses_manifests_over_its_limit(void **state)
{
    struct fixture *fix = *state;
    struct node_replica_ask a = {.is_manifest = true, .count = 1};
    int i;

    kit_open(&fix->kit, LIE_NONE, LIE_NONE);
    a.ids[0] = add_checkpoint(fix->kit.nodes[1].store, 0, 8);
    for (i = 0; i <= (int)NODE_REPLICA_MANIFESTS_PEER_MAX; i++) {
        fix->probes[i].is_stuck = true; /* its end does not come through */
        ask(fix, &fix->probes[i], &a);
    }
    RUN_UNTIL(&fix->kit.loop, fix->probes[NODE_REPLICA_MANIFESTS_PEER_MAX].closed);
    assert_int_equal(fix->probes[NODE_REPLICA_MANIFESTS_PEER_MAX].code, SHL_EQUOTA);
    RUN_UNTIL(&fix->kit.loop,
              stats_of(fix->kit.nodes[1].store).pins == NODE_REPLICA_MANIFESTS_PEER_MAX);
    /* The peer goes, and with it everything that was held. */
    kit_close_node(&fix->kit.nodes[0]);
    RUN_UNTIL(&fix->kit.loop, kit_served(&fix->kit.nodes[1]).streams == 0);
    assert_int_equal(stats_of(fix->kit.nodes[1].store).pins, 0);
}

static void test_serve_cuts_who_takes_nothing(void **state)
{
    struct fixture *fix = *state;
    struct node_replica_ask a = ask_for(32);
    int i;

    fix->kit.serve.stall_ms = 100;
    kit_open(&fix->kit, LIE_NONE, LIE_NONE);
    (void)add_checkpoint(fix->kit.nodes[1].store, 0, 32);
    for (i = 0; i < 4; i++) {
        fix->probes[i].is_stuck = true;
        ask(fix, &fix->probes[i], &a);
    }
    for (i = 0; i < 4; i++) {
        RUN_UNTIL(&fix->kit.loop, fix->probes[i].closed);
        assert_int_equal(fix->probes[i].code, -ETIMEDOUT);
    }
    RUN_UNTIL(&fix->kit.loop, kit_served(&fix->kit.nodes[1]).streams == 0);
    assert_int_equal(kit_served(&fix->kit.nodes[1]).cut, 4);
}

static void test_serve_reads_no_further_than_the_peer_takes(void **state)
{
    struct fixture *fix = *state;
    struct node_replica_ask a = ask_for(32);
    struct probe *p = &fix->probes[0];
    uint64_t before;

    kit_open(&fix->kit, LIE_NONE, LIE_NONE);
    (void)add_checkpoint(fix->kit.nodes[1].store, 0, 32);
    p->is_stuck = true;
    ask(fix, p, &a);
    node_stream_finish(p->stream);
    RUN_UNTIL(&fix->kit.loop, kit_served(&fix->kit.nodes[1]).chunks > 0);
    test_run_for(&fix->kit.loop, 300);
    before = kit_served(&fix->kit.nodes[1]).chunks;
    print_message("%llu of 32 chunks were read\n", (unsigned long long)before);
    assert_true(before < 32);
    p->is_stuck = false;
    node_stream_resume(p->stream);
    RUN_UNTIL(&fix->kit.loop, p->closed);
    assert_int_equal(p->code, 0);
    assert_int_equal(p->here, 32);
}

static void test_serve_survives_peers_that_vanish_at_any_time(void **state)
{
    struct fixture *fix = *state;
    struct node_replica_ask a = ask_for(32);
    int i, j;

    kit_open(&fix->kit, LIE_NONE, LIE_NONE);
    (void)add_checkpoint(fix->kit.nodes[1].store, 0, 32);
    for (i = 0; i < PROBES; i++) {
        struct probe *p = &fix->probes[i];

        ask(fix, p, &a);
        for (j = 0; j < i && !p->has_end; j++) { /* after that nothing more comes */
            (void)uv_run(&fix->kit.loop, UV_RUN_ONCE);
        }
        if (!p->closed) {
            node_stream_abort(p->stream, -ECANCELED, NULL);
        }
    }
    RUN_UNTIL(&fix->kit.loop, kit_served(&fix->kit.nodes[1]).streams == 0);
    /* And one with everything under way. */
    memset(fix->probes, 0, sizeof(fix->probes));
    for (i = 0; i < 8; i++) {
        ask(fix, &fix->probes[i], &a);
    }
    RUN_UNTIL(&fix->kit.loop, kit_served(&fix->kit.nodes[1]).streams == 8);
    kit_close_node(&fix->kit.nodes[1]);
    for (i = 0; i < 8; i++) {
        RUN_UNTIL(&fix->kit.loop, fix->probes[i].closed);
        assert_int_equal(fix->probes[i].closed, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_serve_answers_what_it_has),
        TEST(test_serve_refuses_what_it_cannot_read),
        TEST(test_serve_cuts_who_sends_bytes),
        TEST(test_serve_refuses_streams_over_its_limit),
        TEST(test_serve_refuses_manifests_over_its_limit),
        TEST(test_serve_cuts_who_takes_nothing),
        TEST(test_serve_reads_no_further_than_the_peer_takes),
        TEST(test_serve_survives_peers_that_vanish_at_any_time),
#undef TEST
    };

    return cmocka_run_group_tests_name("node/replica_serve", tests, NULL, NULL);
}
