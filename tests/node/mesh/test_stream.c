/* node/mesh: streams carry every byte, in bounded memory, fairly, and end as they must. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/node/mesh/fixture.h"

#define MIB (1024ull * 1024)

/* One side of a stream that sends a pattern and checks that of the other side. */
struct end {
    struct node_stream *stream;
    uint64_t to_send, sent;
    uint64_t received;
    uint8_t seed, peer_seed;
    size_t take_max; /* of one offer; 0: all */
    bool is_stuck;   /* takes nothing */
    bool must_resume;
    bool has_end, is_finished, keep_open;
    bool gives;         /* its memory, instead of having it copied */
    _Atomic int lent;   /* pieces given and not released yet */
    uint64_t given;     /* bytes that were not copied */
    size_t piece_bytes; /* of one gift; 0: 64 KiB */
    int closed;         /* times */
    int code;
    char msg[256];
};

struct fixture {
    uv_loop_t loop;
    struct test_mesh a, b;
    struct end *accepted[NODE_MESH_STREAMS_PEER_MAX + 8];
    int accepted_count;
    struct end next; /* what the accepting side is to do */
    int accept_code;
    char head[64];
};

static uint8_t byte_at(uint8_t seed, uint64_t offset)
{
    return (uint8_t)(seed + offset * 31 + (offset >> 12));
}

static void on_release(void *data, void *arg)
{
    struct end *e = arg;

    free(data);
    e->lent--;
}

static void give(struct end *e)
{
    while (e->sent < e->to_send) {
        size_t max = e->piece_bytes ? e->piece_bytes : 64 * 1024;
        size_t len = (size_t)SHL_MIN(e->to_send - e->sent, (uint64_t)max);
        uint8_t *piece = malloc(len);
        size_t i, taken;

        for (i = 0; i < len; i++) {
            piece[i] = byte_at(e->seed, e->sent + i);
        }
        e->lent++;
        taken = node_stream_give(e->stream, shl_bytes_of(piece, len), on_release, e);
        e->sent += taken;
        if (taken < len) {
            on_release(piece, e); /* still ours */
            return;
        }
        e->given += len;
    }
}

static void pump(struct end *e)
{
    uint8_t chunk[64 * 1024];

    if (e->gives) {
        give(e);
        if (e->sent < e->to_send) {
            return;
        }
    }
    while (e->sent < e->to_send) {
        size_t len = (size_t)SHL_MIN(e->to_send - e->sent, (uint64_t)sizeof(chunk));
        size_t i, taken;

        for (i = 0; i < len; i++) {
            chunk[i] = byte_at(e->seed, e->sent + i);
        }
        taken = node_stream_write(e->stream, shl_bytes_of(chunk, len));
        e->sent += taken;
        if (taken < len) {
            return;
        }
    }
    if (!e->is_finished && !e->keep_open) {
        e->is_finished = true;
        node_stream_finish(e->stream);
    }
}

static size_t on_data(void *arg, struct shl_bytes data)
{
    struct end *e = arg;
    size_t len = e->take_max ? SHL_MIN(e->take_max, data.len) : data.len;
    size_t i;

    assert_int_equal(e->closed, 0);
    assert_true(data.len > 0 && data.len <= NODE_STREAM_PIECE_MAX);
    if (e->is_stuck) {
        return 0;
    }
    for (i = 0; i < len; i++) {
        if (data.base[i] != byte_at(e->peer_seed, e->received + i)) {
            fail_msg("byte %llu is wrong", (unsigned long long)(e->received + i));
        }
    }
    e->received += len;
    e->must_resume = len < data.len;
    return len;
}

static void on_end(void *arg)
{
    struct end *e = arg;

    assert_false(e->has_end);
    e->has_end = true;
}

static void on_writable(void *arg)
{
    pump(arg);
}

static void on_closed(void *arg, int code, const char *msg)
{
    struct end *e = arg;

    e->closed++;
    e->code = code;
    e->stream = NULL;
    (void)snprintf(e->msg, sizeof(e->msg), "%s", msg ? msg : "");
}

static const struct node_stream_user user = {on_data, on_end, on_writable, on_closed};

static int accept_stream(void *arg,
                         struct node_stream *s,
                         struct shl_bytes head,
                         struct shl_err *err)
{
    struct fixture *fix = arg;
    struct end *e;

    if (fix->accept_code < 0) {
        return shl_err_set(err, fix->accept_code, "not today");
    }
    assert_true(shl_node_id_equal(&s->peer, &fix->a.keys.id));
    assert_true(head.len < sizeof(fix->head));
    memcpy(fix->head, head.base, head.len);
    fix->head[head.len] = 0;
    e = malloc(sizeof(*e));
    *e = fix->next;
    e->stream = s;
    fix->accepted[fix->accepted_count++] = e;
    node_stream_set_user(s, &user, e);
    pump(e);
    return 0;
}

static void open_meshes(struct fixture *fix)
{
    test_mesh_open(&fix->a, &fix->loop, NULL);
    test_mesh_open(&fix->b, &fix->loop, NULL);
    node_mesh_accept(fix->b.mesh, "test", accept_stream, fix);
    test_mesh_connect(&fix->a, &fix->b);
}

static int setup(void **state)
{
    struct fixture *fix = calloc(1, sizeof(*fix));

    assert_int_equal(uv_loop_init(&fix->loop), 0);
    fix->next = (struct end){.seed = 2, .peer_seed = 1};
    open_meshes(fix);
    *state = fix;
    return 0;
}

static void check_quiet(const struct test_mesh *t)
{
    struct node_mesh_stats stats = test_stats(t);

    assert_int_equal(stats.streams, 0);
    assert_int_equal(stats.send_queue_bytes, 0);
    assert_int_equal(stats.receive_queue_bytes, 0);
    assert_int_equal(stats.receive_granted_bytes, 0);
}

static int teardown(void **state)
{
    struct fixture *fix = *state;
    int i;

    if (fix->a.mesh) {
        test_mesh_close(&fix->a);
    }
    if (fix->b.mesh) {
        test_mesh_close(&fix->b);
    }
    assert_int_equal(uv_run(&fix->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(uv_loop_close(&fix->loop), 0);
    for (i = 0; i < fix->accepted_count; i++) {
        assert_int_equal(fix->accepted[i]->closed, 1);
        free(fix->accepted[i]);
    }
    free(fix);
    return 0;
}

static int open_to_b(struct fixture *fix, const char *kind, const char *head, struct end *e)
{
    struct node_stream_opener *opener = node_mesh_opener(fix->a.mesh);

    return opener->open(opener, &fix->b.keys.id, kind, shl_bytes_of(head, strlen(head)), &user, e,
                        &e->stream, NULL);
}

static void open_ok(struct fixture *fix, struct end *e)
{
    assert_int_equal(open_to_b(fix, "test", "head", e), 0);
    pump(e);
}

static void test_stream_opens_carries_and_ends(void **state)
{
    struct fixture *fix = *state;
    struct end e = {.seed = 1, .peer_seed = 2, .to_send = 10};

    fix->next.to_send = 20;
    open_ok(fix, &e);
    RUN_UNTIL(&fix->loop, e.closed && fix->accepted_count == 1 && fix->accepted[0]->closed);
    assert_string_equal(fix->head, "head");
    assert_int_equal(e.code, 0);
    assert_int_equal(fix->accepted[0]->code, 0);
    assert_int_equal(e.received, 20);
    assert_int_equal(fix->accepted[0]->received, 10);
    check_quiet(&fix->a);
    check_quiet(&fix->b);
}

/* 64 MiB each way at once, with readers that take little and pause: what waits never
 * exceeds a window anywhere. */
static void test_stream_large_both_ways_in_bounded_memory(void **state)
{
    struct fixture *fix = *state;
    struct end e = {.seed = 1, .peer_seed = 2, .to_send = 64 * MIB, .take_max = 50000};
    uint64_t most = 0;
    struct end *other;

    fix->next.to_send = 64 * MIB;
    fix->next.take_max = 33333;
    open_ok(fix, &e);
    RUN_UNTIL(&fix->loop, fix->accepted_count == 1);
    other = fix->accepted[0];
    while (!e.closed || !other->closed) {
        struct node_mesh_stats a = test_stats(&fix->a), b = test_stats(&fix->b);

        most = SHL_MAX(most, SHL_MAX(a.receive_queue_bytes, b.receive_queue_bytes));
        most = SHL_MAX(most, SHL_MAX(a.send_queue_bytes, b.send_queue_bytes));
        if (e.must_resume && e.stream) {
            e.must_resume = false;
            node_stream_resume(e.stream);
        }
        if (other->must_resume && other->stream) {
            other->must_resume = false;
            node_stream_resume(other->stream);
        }
        (void)uv_run(&fix->loop, UV_RUN_ONCE);
    }
    assert_int_equal(e.code, 0);
    assert_int_equal(other->code, 0);
    assert_int_equal(e.received, 64 * MIB);
    assert_int_equal(other->received, 64 * MIB);
    assert_true(most > 0 && most <= 2 * (uint64_t)NODE_STREAM_WINDOW);
    check_quiet(&fix->a);
    check_quiet(&fix->b);
}

/* A reader that takes nothing stops its writer after a window, and nobody else. */
static void test_stream_stuck_reader_stops_its_own_writer_only(void **state)
{
    struct fixture *fix = *state;
    struct end stuck = {.seed = 1, .peer_seed = 2, .to_send = 16 * MIB};
    struct end free_one = {.seed = 1, .peer_seed = 2, .to_send = 16 * MIB};

    fix->next.is_stuck = true;
    open_ok(fix, &stuck);
    RUN_UNTIL(&fix->loop, fix->accepted_count == 1);
    fix->next.is_stuck = false;
    open_ok(fix, &free_one);
    RUN_UNTIL(&fix->loop, fix->accepted_count == 2 && fix->accepted[1]->closed);
    assert_int_equal(fix->accepted[1]->received, 16 * MIB);
    assert_true(stuck.sent <= NODE_STREAM_WINDOW);
    assert_int_equal(stuck.closed, 0);
    assert_true(test_stats(&fix->b).receive_queue_bytes <= NODE_STREAM_WINDOW);
    fix->accepted[0]->is_stuck = false;
    node_stream_resume(fix->accepted[0]->stream);
    RUN_UNTIL(&fix->loop, fix->accepted[0]->closed);
    assert_int_equal(stuck.code, 0);
    assert_int_equal(fix->accepted[0]->received, 16 * MIB);
}

/* Sixteen streams at once: when the first is through, every other is past its middle. */
static void test_stream_many_are_served_fairly(void **state)
{
    struct fixture *fix = *state;
    enum {
        COUNT = 16
    };
    struct end ends[COUNT];
    uint64_t least;
    int i, open = COUNT;

    for (i = 0; i < COUNT; i++) {
        ends[i] = (struct end){.seed = 1, .peer_seed = 2, .to_send = 8 * MIB};
        open_ok(fix, &ends[i]);
    }
    while (open == COUNT) {
        (void)uv_run(&fix->loop, UV_RUN_ONCE);
        for (i = 0, open = 0; i < COUNT; i++) {
            open += !ends[i].closed;
        }
    }
    for (i = 0, least = UINT64_MAX; i < fix->accepted_count; i++) {
        least = SHL_MIN(least, fix->accepted[i]->received);
    }
    assert_int_equal(fix->accepted_count, COUNT);
    assert_true(least >= 4 * MIB);
    for (i = 0; i < COUNT; i++) {
        RUN_UNTIL(&fix->loop, ends[i].closed);
        assert_int_equal(ends[i].code, 0);
    }
}

/* Control messages overtake bulk data that waits. */
static void note(void *arg, const struct shl_node_id *from, struct shl_bytes body)
{
    (void)from;
    (void)body;
    ++*(int *)arg;
}

static void test_stream_does_not_hold_up_messages(void **state)
{
    struct fixture *fix = *state;
    struct end e = {.seed = 1, .peer_seed = 2, .to_send = 64 * MIB};
    int notes = 0;

    node_mesh_on(fix->b.mesh, "note", 16, note, &notes);
    open_ok(fix, &e);
    RUN_UNTIL(&fix->loop, fix->accepted_count == 1 && fix->accepted[0]->received > 0);
    assert_int_equal(node_mesh_send(fix->a.mesh, &fix->b.keys.id, "note", shl_bytes_of("x", 1)), 0);
    RUN_UNTIL(&fix->loop, notes == 1);
    assert_int_equal(e.closed, 0);
    RUN_UNTIL(&fix->loop, e.closed);
}

static void test_stream_abort_tells_the_other_side(void **state)
{
    struct fixture *fix = *state;
    struct end e = {.seed = 1, .peer_seed = 2, .to_send = 64 * MIB};

    fix->next.keep_open = true;
    open_ok(fix, &e);
    RUN_UNTIL(&fix->loop, fix->accepted_count == 1 && fix->accepted[0]->received > MIB);
    node_stream_abort(fix->accepted[0]->stream, SHL_EQUOTA, "enough of it");
    assert_int_equal(fix->accepted[0]->closed, 0); /* not inside the call */
    RUN_UNTIL(&fix->loop, e.closed && fix->accepted[0]->closed);
    assert_int_equal(fix->accepted[0]->code, SHL_EQUOTA);
    assert_int_equal(e.code, SHL_EQUOTA);
    assert_string_equal(e.msg, "enough of it");
    check_quiet(&fix->a);
    check_quiet(&fix->b);
}

/* Cut before it was even sent: the other side never hears of it. */
static void test_stream_abort_at_once(void **state)
{
    struct fixture *fix = *state;
    struct end e = {.seed = 1, .peer_seed = 2, .keep_open = true};
    struct end second = {.seed = 1, .peer_seed = 2};

    assert_int_equal(open_to_b(fix, "test", "head", &e), 0);
    node_stream_abort(e.stream, SHL_EGONE, NULL);
    open_ok(fix, &second);
    RUN_UNTIL(&fix->loop, e.closed && second.closed);
    assert_int_equal(e.code, SHL_EGONE);
    assert_int_equal(fix->accepted_count, 1);
}

static void test_stream_refused_by_the_other_side(void **state)
{
    struct fixture *fix = *state;
    struct end e = {.seed = 1, .peer_seed = 2, .keep_open = true};
    struct end unknown = {.seed = 1, .peer_seed = 2, .keep_open = true};

    fix->accept_code = SHL_ENOCAPACITY;
    open_ok(fix, &e);
    assert_int_equal(open_to_b(fix, "unheard-of", "head", &unknown), 0);
    RUN_UNTIL(&fix->loop, e.closed && unknown.closed);
    assert_int_equal(e.code, SHL_ENOCAPACITY);
    assert_string_equal(e.msg, "not today");
    assert_int_equal(unknown.code, SHL_ENOTFOUND);
}

static void test_stream_is_cut_when_the_peer_is_lost(void **state)
{
    struct fixture *fix = *state;
    struct end e = {.seed = 1, .peer_seed = 2, .to_send = 64 * MIB};

    open_ok(fix, &e);
    RUN_UNTIL(&fix->loop, fix->accepted_count == 1 && fix->accepted[0]->received > MIB);
    test_mesh_close(&fix->b);
    assert_int_equal(fix->accepted[0]->closed, 1);
    assert_int_equal(fix->accepted[0]->code, SHL_EUNAVAILABLE);
    RUN_UNTIL(&fix->loop, e.closed);
    assert_int_equal(e.code, SHL_EUNAVAILABLE);
    assert_int_equal(open_to_b(fix, "test", "head", &e), SHL_EUNAVAILABLE);
    /* And works again with the next process, from the beginning. */
    fix->b.keys.boot++;
    test_mesh_reopen(&fix->b, NULL);
    node_mesh_accept(fix->b.mesh, "test", accept_stream, fix);
    test_mesh_introduce(&fix->b, &fix->a);
    test_mesh_wait_up(&fix->a, &fix->b);
    e = (struct end){.seed = 1, .peer_seed = 2, .to_send = MIB};
    open_ok(fix, &e);
    RUN_UNTIL(&fix->loop, e.closed && fix->accepted_count == 2 && fix->accepted[1]->closed);
    assert_int_equal(e.code, 0);
    assert_int_equal(fix->accepted[1]->received, MIB);
}

static void test_stream_is_cut_when_the_peer_is_removed(void **state)
{
    struct fixture *fix = *state;
    struct end e = {.seed = 1, .peer_seed = 2, .to_send = 64 * MIB};

    open_ok(fix, &e);
    RUN_UNTIL(&fix->loop, fix->accepted_count == 1 && fix->accepted[0]->received > MIB);
    node_mesh_remove_peer(fix->a.mesh, &fix->b.keys.id);
    assert_int_equal(e.closed, 0);
    RUN_UNTIL(&fix->loop, e.closed && fix->accepted[0]->closed);
    assert_int_equal(e.code, SHL_EUNAVAILABLE);
    assert_int_equal(fix->accepted[0]->code, SHL_EUNAVAILABLE);
    test_mesh_introduce(&fix->a, &fix->b);
    test_mesh_wait_up(&fix->a, &fix->b);
    e = (struct end){.seed = 1, .peer_seed = 2, .to_send = MIB};
    open_ok(fix, &e);
    RUN_UNTIL(&fix->loop, e.closed);
    assert_int_equal(e.code, 0);
}

static void test_stream_close_with_traffic_under_way(void **state)
{
    struct fixture *fix = *state;
    struct end ends[8];
    int i;

    fix->next.to_send = 64 * MIB;
    for (i = 0; i < 8; i++) {
        ends[i] = (struct end){.seed = 1, .peer_seed = 2, .to_send = 64 * MIB};
        open_ok(fix, &ends[i]);
    }
    RUN_UNTIL(&fix->loop, fix->accepted_count == 8 && fix->accepted[7]->received > MIB);
    test_mesh_close(&fix->a);
    for (i = 0; i < 8; i++) {
        assert_int_equal(ends[i].closed, 1);
        assert_int_equal(ends[i].code, SHL_EUNAVAILABLE);
    }
}

static void test_stream_number_and_head_are_bounded(void **state)
{
    struct fixture *fix = *state;
    struct end *ends = calloc(NODE_MESH_STREAMS_PEER_MAX + 1, sizeof(*ends));
    char *head = calloc(1, NODE_STREAM_HEAD_MAX + 2);
    struct node_mesh_stats stats;
    uint32_t i;

    memset(head, 'h', NODE_STREAM_HEAD_MAX + 1);
    assert_int_equal(open_to_b(fix, "test", head, &ends[0]), SHL_ELIMIT);
    for (i = 0; i < NODE_MESH_STREAMS_PEER_MAX; i++) {
        ends[i] = (struct end){.seed = 1, .peer_seed = 2, .to_send = 4 * MIB, .keep_open = true};
        fix->next.is_stuck = true;
        open_ok(fix, &ends[i]);
    }
    assert_int_equal(open_to_b(fix, "test", "", &ends[i]), SHL_ELIMIT);
    RUN_UNTIL(&fix->loop, fix->accepted_count == NODE_MESH_STREAMS_PEER_MAX);
    test_run_for(&fix->loop, 200); /* writers would go on if they could */
    stats = test_stats(&fix->b);
    assert_true(stats.receive_queue_bytes <= NODE_MESH_RECEIVE_QUEUE_MAX);
    assert_true(stats.receive_granted_bytes <= NODE_MESH_RECEIVE_QUEUE_MAX);
    assert_true(test_stats(&fix->a).send_queue_bytes <= NODE_MESH_SEND_QUEUE_MAX);
    for (i = 0; i < NODE_MESH_STREAMS_PEER_MAX; i++) {
        node_stream_abort(ends[i].stream, SHL_EGONE, NULL);
    }
    RUN_UNTIL(&fix->loop, test_stats(&fix->b).streams == 0 && test_stats(&fix->a).streams == 0);
    check_quiet(&fix->a);
    check_quiet(&fix->b);
    free(head);
    free(ends);
}

static size_t abort_inside(void *arg, struct shl_bytes data)
{
    struct end *e = arg;
    uint8_t before = data.base[0];

    node_stream_abort(e->stream, SHL_EGONE, "seen enough");
    assert_int_equal(data.base[0], before); /* the bytes stay until we return */
    return 0;
}

static void test_stream_abort_inside_data(void **state)
{
    struct fixture *fix = *state;
    static const struct node_stream_user aborting = {abort_inside, on_end, on_writable, on_closed};
    struct end e = {.seed = 1, .peer_seed = 2};

    fix->next.to_send = MIB;
    assert_int_equal(open_to_b(fix, "test", "head", &e), 0);
    node_stream_set_user(e.stream, &aborting, &e);
    RUN_UNTIL(&fix->loop, e.closed);
    RUN_UNTIL(&fix->loop, fix->accepted_count == 1);
    RUN_UNTIL(&fix->loop, fix->accepted[0]->closed);
    assert_int_equal(fix->accepted[0]->code, SHL_EGONE);
    assert_string_equal(fix->accepted[0]->msg, "seen enough");
}

/* What is given arrives like what is written, and every piece comes back once. */
static void test_stream_gives_memory(void **state)
{
    static const size_t sizes[] = {3, 1000, 64 * 1024, 256 * 1024, 300 * 1024};
    struct fixture *fix = *state;
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(sizes); i++) {
        struct end e = {.seed = 1,
                        .peer_seed = 2,
                        .gives = true,
                        .piece_bytes = sizes[i],
                        .to_send = sizes[i] < 10000 ? 1000 * sizes[i] : 16 * MIB};
        struct end *other;

        open_ok(fix, &e);
        RUN_UNTIL(&fix->loop, e.closed && fix->accepted_count == (int)i + 1);
        other = fix->accepted[i];
        RUN_UNTIL(&fix->loop, other->closed);
        assert_int_equal(e.code, 0);
        assert_int_equal(other->received, e.to_send);
        assert_true(e.given > 0);
        RUN_UNTIL(&fix->loop, e.lent == 0); /* ZeroMQ's thread lets go of the last one */
    }
    check_quiet(&fix->a);
    check_quiet(&fix->b);
}

/* A reader that takes it in small bites, some only later: pieces outlive their message. */
static void test_stream_gifts_wait_for_a_slow_reader(void **state)
{
    struct fixture *fix = *state;
    struct end e = {.seed = 1, .peer_seed = 2, .gives = true, .to_send = 2 * MIB};
    struct end *other;

    fix->next.take_max = 10007;
    open_ok(fix, &e);
    RUN_UNTIL(&fix->loop, fix->accepted_count == 1);
    other = fix->accepted[0];
    while (!e.closed || !other->closed) {
        if (other->must_resume && other->stream) {
            other->must_resume = false;
            node_stream_resume(other->stream);
        }
        (void)uv_run(&fix->loop, UV_RUN_ONCE);
    }
    assert_int_equal(other->received, 2 * MIB);
    RUN_UNTIL(&fix->loop, e.lent == 0);
}

/* A peer of the version before gets copies; a stream that is cut lets go of all it was given. */
static void test_stream_gifts_to_an_older_peer_and_when_cut(void **state)
{
    struct fixture *fix = *state;
    struct node_mesh_config old = {.version_min = 1, .version_max = 1};
    struct end e = {.seed = 1, .peer_seed = 2, .gives = true, .to_send = 4 * MIB};
    struct end cut = {.seed = 1, .peer_seed = 2, .gives = true, .to_send = 4 * MIB};

    fix->next.is_stuck = true;
    open_ok(fix, &cut);
    RUN_UNTIL(&fix->loop, fix->accepted_count == 1);
    fix->next.is_stuck = false;
    node_stream_abort(cut.stream, SHL_EGONE, NULL);
    RUN_UNTIL(&fix->loop, cut.closed && fix->accepted[0]->closed && cut.lent == 0);

    test_mesh_close(&fix->b);
    memset(&fix->b, 0, sizeof(fix->b));
    test_mesh_open(&fix->b, &fix->loop, &old);
    node_mesh_accept(fix->b.mesh, "test", accept_stream, fix);
    test_mesh_connect(&fix->a, &fix->b);
    test_mesh_wait_up(&fix->a, &fix->b);
    open_ok(fix, &e);
    RUN_UNTIL(&fix->loop, e.closed && fix->accepted_count == 2 && fix->accepted[1]->closed);
    assert_int_equal(e.code, 0);
    assert_int_equal(fix->accepted[1]->received, 4 * MIB);
    assert_int_equal(e.lent, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_stream_opens_carries_and_ends),
        T(test_stream_large_both_ways_in_bounded_memory),
        T(test_stream_stuck_reader_stops_its_own_writer_only),
        T(test_stream_many_are_served_fairly),
        T(test_stream_does_not_hold_up_messages),
        T(test_stream_abort_tells_the_other_side),
        T(test_stream_abort_at_once),
        T(test_stream_refused_by_the_other_side),
        T(test_stream_is_cut_when_the_peer_is_lost),
        T(test_stream_is_cut_when_the_peer_is_removed),
        T(test_stream_close_with_traffic_under_way),
        T(test_stream_number_and_head_are_bounded),
        T(test_stream_abort_inside_data),
        T(test_stream_gives_memory),
        T(test_stream_gifts_wait_for_a_slow_reader),
        T(test_stream_gifts_to_an_older_peer_and_when_cut),
    };

    return cmocka_run_group_tests_name("node/mesh_stream", tests, NULL, NULL);
}
