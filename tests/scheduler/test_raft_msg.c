#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/mp.h"
#include "scheduler/raft_msg.h"

static struct sched_raft_msg_room room;

static struct sched_raft_membership two_members(void)
{
    struct sched_raft_membership m = {.count = 2};

    m.members[0].id.bytes[0] = 1;
    m.members[0].standing = SCHED_RAFT_VOTER;
    m.members[1].id.bytes[0] = 2;
    m.members[1].standing = SCHED_RAFT_LEARNER;
    m.members[1].witness = true;
    return m;
}

/* One of every kind; the last two entries of the table are appends. */
static uint32_t samples(struct sched_raft_msg out[10])
{
    static struct sched_raft_membership members;
    static const struct sched_raft_entry entries[] = {
        {.index = 8, .term = 3, .type = SCHED_RAFT_NOOP},
        {.index = 9, .term = 4, .type = SCHED_RAFT_COMMAND, .data = {(const uint8_t *)"abc", 3}},
    };
    uint32_t n = 0;

    members = two_members();
    out[n++] = (struct sched_raft_msg){
        .kind = SCHED_RAFT_MSG_VOTE,
        .term = 4,
        .u.vote = {.for_term = 5, .last_index = 7, .last_term = 3, .pre = true}};
    out[n++] = (struct sched_raft_msg){
        .kind = SCHED_RAFT_MSG_VOTE,
        .term = 5,
        .u.vote = {.for_term = 5, .last_index = 7, .last_term = 3, .forced = true}};
    out[n++] = (struct sched_raft_msg){.kind = SCHED_RAFT_MSG_VOTE_ANSWER,
                                       .term = 4,
                                       .u.vote_answer = {.for_term = 5, .granted = true}};
    out[n++] = (struct sched_raft_msg){.kind = SCHED_RAFT_MSG_APPEND,
                                       .term = 4,
                                       .u.append = {.prev_index = 7,
                                                    .prev_term = 3,
                                                    .commit = 6,
                                                    .round = 12,
                                                    .entries = entries,
                                                    .count = 2}};
    out[n++] = (struct sched_raft_msg){
        .kind = SCHED_RAFT_MSG_APPEND_ANSWER,
        .term = 4,
        .u.append_answer = {
            .rejected = true, .index = 7, .hint_index = 5, .hint_term = 2, .round = 12}};
    out[n++] = (struct sched_raft_msg){.kind = SCHED_RAFT_MSG_SNAPSHOT,
                                       .term = 4,
                                       .u.snapshot = {.index = 9,
                                                      .snapshot_term = 4,
                                                      .total = 100,
                                                      .round = 12,
                                                      .membership_index = 1,
                                                      .membership = &members,
                                                      .data = {(const uint8_t *)"xyz", 3}}};
    out[n++] = (struct sched_raft_msg){
        .kind = SCHED_RAFT_MSG_SNAPSHOT_ANSWER, .term = 4, .u.snapshot_answer = {9, 3, 0, 12}};
    out[n++] = (struct sched_raft_msg){.kind = SCHED_RAFT_MSG_TIMEOUT_NOW, .term = 4};
    return n;
}

static void test_msg_every_kind_comes_back_as_it_was(void **state)
{
    struct sched_raft_msg in[10], out;
    uint32_t i, count = samples(in);
    struct shl_buf a, b;

    (void)state;
    shl_buf_init(&a, 65536);
    shl_buf_init(&b, 65536);
    for (i = 0; i < count; i++) {
        shl_buf_clear(&a);
        shl_buf_clear(&b);
        assert_int_equal(sched_raft_msg_encode(&in[i], &a), 0);
        assert_int_equal(sched_raft_msg_decode(shl_buf_bytes(&a), &room, &out), 0);
        assert_int_equal(sched_raft_msg_encode(&out, &b), 0);
        assert_int_equal(shl_buf_len(&a), shl_buf_len(&b));
        assert_memory_equal(shl_buf_data(&a), shl_buf_data(&b), shl_buf_len(&a));
        assert_int_equal(out.kind, in[i].kind);
    }
    shl_buf_release(&a);
    shl_buf_release(&b);
}

static void test_msg_fields_survive(void **state)
{
    struct sched_raft_msg in[10], out;
    struct shl_buf buf;
    char text[128];

    (void)state;
    (void)samples(in);
    shl_buf_init(&buf, 65536);
    assert_int_equal(sched_raft_msg_encode(&in[3], &buf), 0);
    assert_int_equal(sched_raft_msg_decode(shl_buf_bytes(&buf), &room, &out), 0);
    assert_int_equal(out.u.append.count, 2);
    assert_int_equal(out.u.append.entries[1].index, 9);
    assert_int_equal(out.u.append.entries[1].term, 4);
    assert_memory_equal(out.u.append.entries[1].data.base, "abc", 3);
    sched_raft_msg_format(text, sizeof(text), shl_buf_bytes(&buf));
    assert_string_equal(text, "append t=4 prev=7/3 n=2 commit=6 round=12");
    shl_buf_clear(&buf);
    assert_int_equal(sched_raft_msg_encode(&in[5], &buf), 0);
    assert_int_equal(sched_raft_msg_decode(shl_buf_bytes(&buf), &room, &out), 0);
    assert_int_equal(out.u.snapshot.membership->count, 2);
    assert_true(out.u.snapshot.membership->members[1].witness);
    assert_memory_equal(out.u.snapshot.data.base, "xyz", 3);
    shl_buf_release(&buf);
}

static void test_msg_cut_short_is_refused(void **state)
{
    struct sched_raft_msg in[10], out;
    uint32_t i, count = samples(in);
    struct shl_buf buf;
    size_t len;

    (void)state;
    shl_buf_init(&buf, 65536);
    for (i = 0; i < count; i++) {
        shl_buf_clear(&buf);
        assert_int_equal(sched_raft_msg_encode(&in[i], &buf), 0);
        for (len = 0; len < shl_buf_len(&buf); len++) {
            struct shl_bytes cut = shl_bytes_of(shl_buf_data(&buf), len);

            assert_int_equal(sched_raft_msg_decode(cut, &room, &out), SHL_EPROTO);
        }
    }
    shl_buf_release(&buf);
}

static int decode_uints(const uint64_t *values, size_t count)
{
    struct sched_raft_msg out;
    struct shl_mp_writer w;
    struct shl_buf buf;
    size_t i;
    int rc;

    shl_buf_init(&buf, 65536);
    shl_mp_writer_init(&w, &buf);
    shl_mp_array(&w);
    for (i = 0; i < count; i++) {
        shl_mp_uint(&w, values[i]);
    }
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    rc = sched_raft_msg_decode(shl_buf_bytes(&buf), &room, &out);
    shl_buf_release(&buf);
    return rc;
}

#define DECODE(...) \
    decode_uints((const uint64_t[]){__VA_ARGS__}, SHL_ARRAY_SIZE(((const uint64_t[]){__VA_ARGS__})))

static void test_msg_later_versions_may_add_fields_and_nonsense_is_refused(void **state)
{
    (void)state;
    assert_int_equal(DECODE(1, 7, 4), 0);
    assert_int_equal(DECODE(2, 7, 4, 99), 0);      /* version 2 with one more field */
    assert_int_equal(DECODE(0, 7, 4), SHL_EPROTO); /* no such version */
    assert_int_equal(DECODE(1, 8, 4), SHL_EPROTO); /* no such kind */
    assert_int_equal(DECODE(1, 0, 4), SHL_EPROTO);
    assert_int_equal(DECODE(1, 7, 0), SHL_EPROTO); /* no leader has term 0 */
    assert_int_equal(DECODE(1, 7, UINT64_MAX), SHL_EPROTO);
    assert_int_equal(DECODE(1, 1, 4, 0, 5, 7, 3), SHL_EPROTO);       /* vote for another term */
    assert_int_equal(DECODE(1, 3, 4, 7, 3, 6, 0, 0), 0);             /* heartbeat */
    assert_int_equal(DECODE(1, 3, 4, 7, 5, 6, 0, 0), SHL_EPROTO);    /* prev of a later term */
    assert_int_equal(DECODE(1, 3, 4, 0, 3, 6, 0, 0), SHL_EPROTO);    /* index 0 has no term */
    assert_int_equal(DECODE(1, 3, 4, 7, 3, 6, 0, 1025), SHL_EPROTO); /* too many entries */
    assert_int_equal(DECODE(1, 3, 4, 7, 3, 6, 0, 1), SHL_EPROTO);    /* entry is missing */
}

static void test_msg_damaged_bytes_never_crash(void **state)
{
    struct sched_raft_msg in[10], out;
    uint32_t i, count = samples(in), bit;
    struct shl_buf buf;

    (void)state;
    shl_buf_init(&buf, 65536);
    for (i = 0; i < count; i++) {
        shl_buf_clear(&buf);
        assert_int_equal(sched_raft_msg_encode(&in[i], &buf), 0);
        for (bit = 0; bit < 8 * shl_buf_len(&buf); bit++) {
            uint8_t *byte = &shl_buf_data(&buf)[bit / 8];
            int rc;

            *byte ^= (uint8_t)(1u << bit % 8);
            rc = sched_raft_msg_decode(shl_buf_bytes(&buf), &room, &out);
            assert_true(rc == 0 || rc == SHL_EPROTO || rc == SHL_ELIMIT);
            *byte ^= (uint8_t)(1u << bit % 8);
        }
    }
    shl_buf_release(&buf);
}

/* What the fuzzer starts from (fuzz_raft_msg.c says how its input is cut): one message, or
 * all of them in a row. */
static int put_sample(struct shl_buf *buf, const struct sched_raft_msg *in, uint32_t count)
{
    uint8_t head[3] = {0, 0, 1};
    struct shl_buf one;
    uint32_t i;
    int rc = 0;

    for (i = 0; i < count && rc == 0; i++) {
        shl_buf_init(&one, 65536);
        rc = sched_raft_msg_encode(&in[i], &one);
        shl_put_le16(head, (uint16_t)shl_buf_len(&one));
        rc = rc < 0 ? rc : shl_buf_append(buf, head, sizeof(head));
        rc = rc < 0 ? rc : shl_buf_append(buf, shl_buf_data(&one), shl_buf_len(&one));
        shl_buf_release(&one);
    }
    return rc;
}

static int write_corpus(const char *folder)
{
    struct sched_raft_msg in[10];
    uint32_t i, count = samples(in);
    char path[256];

    for (i = 0; i < 2 * (count + 1); i++) {
        uint8_t mode = (uint8_t)(i % 2);
        bool all = i / 2 == count;
        struct shl_buf buf;
        FILE *file;

        shl_buf_init(&buf, 65536);
        (void)snprintf(path, sizeof(path), "%s/%s-%u", folder, mode ? "leader" : "follower", i / 2);
        file = fopen(path, "wb");
        if (!file || shl_buf_append(&buf, &mode, 1) < 0 ||
            put_sample(&buf, all ? in : &in[i / 2], all ? count : 1) < 0 ||
            fwrite(shl_buf_data(&buf), shl_buf_len(&buf), 1, file) != 1 || fclose(file) != 0) {
            return 1;
        }
        shl_buf_release(&buf);
    }
    return 0;
}

/* Without arguments the tests; with a folder the corpus is written to it. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_msg_every_kind_comes_back_as_it_was),
        cmocka_unit_test(test_msg_fields_survive),
        cmocka_unit_test(test_msg_cut_short_is_refused),
        cmocka_unit_test(test_msg_later_versions_may_add_fields_and_nonsense_is_refused),
        cmocka_unit_test(test_msg_damaged_bytes_never_crash),
    };

    return argc == 2 ? write_corpus(argv[1]) : cmocka_run_group_tests(tests, NULL, NULL);
}
