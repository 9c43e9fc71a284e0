#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/frame.h"
#include "base/err.h"

#define STREAM_MAX_BYTES (1u << 20)

static struct shl_bytes text(const char *str)
{
    return shl_bytes_of(str, strlen(str));
}

static void put(struct shl_buf *out, enum agent_frame_type type, uint32_t stream, const char *str)
{
    assert_int_equal(agent_frame_write(out, type, 0, stream, text(str)), 0);
}

/* Zero bytes and a HELLO, as a node that connects sends them. */
static void put_connect(struct shl_buf *out, const char *token)
{
    static const uint8_t zeros[AGENT_SYNC_BYTES];

    assert_int_equal(shl_buf_append(out, zeros, sizeof(zeros)), 0);
    put(out, AGENT_FRAME_HELLO, 0, token);
}

static void feed(struct agent_parser *parser, const uint8_t *data, size_t len)
{
    uint8_t *space;
    size_t room;

    assert_int_equal(agent_parser_space(parser, &space, &room), 0);
    assert_true(len <= room);
    if (len > 0) {
        memcpy(space, data, len);
    }
    agent_parser_filled(parser, len);
}

/* Feeds in pieces of @step and appends "type:stream:payload;" per frame to @log. */
static void run(struct agent_parser *parser, struct shl_bytes in, size_t step, struct shl_buf *log)
{
    size_t at;

    for (at = 0; at < in.len; at += step) {
        struct agent_frame frame;

        feed(parser, in.base + at, SHL_MIN(step, in.len - at));
        while (agent_parser_next(parser, &frame)) {
            assert_int_equal(shl_buf_printf(log, "%d:%u:%.*s;", (int)frame.type, frame.stream,
                                            (int)SHL_MIN(frame.payload.len, (size_t)8),
                                            frame.payload.len ? (const char *)frame.payload.base
                                                              : ""),
                             0);
        }
    }
}

static void assert_log(struct shl_buf *log, const char *want)
{
    assert_int_equal(shl_buf_append(log, "", 1), 0);
    assert_string_equal((const char *)shl_buf_data(log), want);
    shl_buf_clear(log);
}

struct fixture {
    struct shl_buf stream;
    struct shl_buf log;
    struct agent_parser parser;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    shl_buf_init(&f->stream, STREAM_MAX_BYTES);
    shl_buf_init(&f->log, STREAM_MAX_BYTES);
    agent_parser_init(&f->parser, AGENT_FRAME_HELLO);
    *state = f;
    return f ? 0 : -1;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    agent_parser_release(&f->parser);
    shl_buf_release(&f->stream);
    shl_buf_release(&f->log);
    free(f);
    return 0;
}

static void test_frame_round_trip_of_every_type_and_size(void **state)
{
    struct fixture *f = *state;
    static uint8_t big[AGENT_PAYLOAD_MAX];
    struct agent_frame frame;
    size_t sizes[] = {0, 1, 1000, AGENT_PAYLOAD_MAX};
    size_t i, at;

    put(&f->stream, AGENT_FRAME_HELLO, 0, "tok");
    feed(&f->parser, shl_buf_data(&f->stream), shl_buf_len(&f->stream));
    assert_true(agent_parser_next(&f->parser, &frame));
    for (i = 0; i < sizeof(big); i++) {
        big[i] = (uint8_t)(i * 7);
    }
    for (i = 0; i < SHL_ARRAY_SIZE(sizes); i++) {
        shl_buf_clear(&f->stream);
        assert_int_equal(agent_frame_write(&f->stream, AGENT_FRAME_DATA, AGENT_CHANNEL_ERR,
                                           AGENT_STREAM_ID_MAX, shl_bytes_of(big, sizes[i])),
                         0);
        for (at = 0; at < shl_buf_len(&f->stream); at += 30000) {
            assert_false(agent_parser_next(&f->parser, &frame));
            feed(&f->parser, shl_buf_data(&f->stream) + at,
                 SHL_MIN((size_t)30000, shl_buf_len(&f->stream) - at));
        }
        assert_true(agent_parser_next(&f->parser, &frame));
        assert_int_equal(frame.type, AGENT_FRAME_DATA);
        assert_int_equal(frame.channel, AGENT_CHANNEL_ERR);
        assert_int_equal(frame.stream, AGENT_STREAM_ID_MAX);
        assert_int_equal(frame.payload.len, sizes[i]);
        assert_memory_equal(frame.payload.base, big, sizes[i]);
    }
    assert_int_equal(f->parser.bad_frames, 0);
    assert_int_equal(f->parser.skipped_bytes, 0);
}

static void test_frame_write_refuses_oversized_payloads_and_full_buffers(void **state)
{
    struct fixture *f = *state;
    static uint8_t big[AGENT_REQUEST_MAX + 1];
    struct shl_buf small;

    assert_int_equal(agent_frame_write(&f->stream, AGENT_FRAME_DATA, 0, 1,
                                       shl_bytes_of(big, AGENT_PAYLOAD_MAX + 1)),
                     SHL_ELIMIT);
    assert_int_equal(agent_frame_write(&f->stream, AGENT_FRAME_REQUEST, 0, 1,
                                       shl_bytes_of(big, AGENT_REQUEST_MAX + 1)),
                     SHL_ELIMIT);
    assert_int_equal(agent_frame_write(&f->stream, AGENT_FRAME_HELLO, 0, 0,
                                       shl_bytes_of(big, AGENT_HELLO_MAX + 1)),
                     SHL_ELIMIT);
    shl_buf_init(&small, 24);
    assert_int_equal(agent_frame_write(&small, AGENT_FRAME_DATA, 0, 1, text("12345")), SHL_ELIMIT);
    assert_int_equal(shl_buf_len(&small), 0);
    assert_int_equal(agent_frame_write(&small, AGENT_FRAME_DATA, 0, 1, text("1234")), 0);
    shl_buf_release(&small);
}

static void test_frame_any_split_gives_the_same_frames(void **state)
{
    struct fixture *f = *state;
    size_t step;

    put(&f->stream, AGENT_FRAME_HELLO, 0, "tok");
    put(&f->stream, AGENT_FRAME_REQUEST, 7, "abc");
    put(&f->stream, AGENT_FRAME_EOF, 7, "");
    put(&f->stream, AGENT_FRAME_CREDIT, 7, "1234");
    for (step = 1; step <= shl_buf_len(&f->stream); step++) {
        agent_parser_reset(&f->parser);
        run(&f->parser, shl_buf_bytes(&f->stream), step, &f->log);
        assert_log(&f->log, "1:0:tok;3:7:abc;6:7:;7:7:1234;");
    }
}

static void test_frame_nothing_comes_before_the_first_hello(void **state)
{
    struct fixture *f = *state;

    put(&f->stream, AGENT_FRAME_REQUEST, 7, "early");
    put(&f->stream, AGENT_FRAME_HELLO_ACK, 0, "not me");
    put(&f->stream, AGENT_FRAME_HELLO, 0, "tok");
    put(&f->stream, AGENT_FRAME_REQUEST, 8, "fine");
    run(&f->parser, shl_buf_bytes(&f->stream), 5, &f->log);
    assert_log(&f->log, "1:0:tok;3:8:fine;");
}

/* A node dies after any number of bytes of a frame whose payload looks like frames;
 * the next one connects. The cut frame and everything inside it must have no effect. */
static void test_frame_sync_after_a_frame_cut_at_every_offset(void **state)
{
    struct fixture *f = *state;
    struct shl_buf inner, cut, hello;
    size_t at;

    shl_buf_init(&inner, 4096);
    shl_buf_init(&cut, 4096);
    shl_buf_init(&hello, STREAM_MAX_BYTES);
    put(&inner, AGENT_FRAME_HELLO, 0, "evil");
    put(&inner, AGENT_FRAME_REQUEST, 3, "evil");
    assert_int_equal(agent_frame_write(&cut, AGENT_FRAME_DATA, 0, 9, shl_buf_bytes(&inner)), 0);
    put(&hello, AGENT_FRAME_HELLO, 0, "one");
    for (at = 0; at < shl_buf_len(&cut); at++) {
        shl_buf_clear(&f->stream);
        assert_int_equal(shl_buf_append(&f->stream, shl_buf_data(&hello), shl_buf_len(&hello)), 0);
        assert_int_equal(shl_buf_append(&f->stream, shl_buf_data(&cut), at), 0);
        put_connect(&f->stream, "two");
        put(&f->stream, AGENT_FRAME_REQUEST, 1, "fine");
        agent_parser_reset(&f->parser);
        run(&f->parser, shl_buf_bytes(&f->stream), 1000, &f->log);
        assert_log(&f->log, "1:0:one;1:0:two;3:1:fine;");
    }
    shl_buf_release(&inner);
    shl_buf_release(&cut);
    shl_buf_release(&hello);
}

/* The same with the largest frame: the zero bytes just reach its trailer. */
static void test_frame_sync_after_the_largest_frame_was_cut(void **state)
{
    struct fixture *f = *state;
    static uint8_t big[AGENT_REQUEST_MAX];
    size_t cuts[] = {1, AGENT_HEADER_BYTES, AGENT_HEADER_BYTES + 1, AGENT_FRAME_MAX - 1};
    struct shl_buf frame;
    size_t i;

    memset(big, 'S', sizeof(big));
    shl_buf_init(&frame, AGENT_FRAME_MAX);
    assert_int_equal(agent_frame_write(&frame, AGENT_FRAME_REQUEST, 0, AGENT_STREAM_ID_MAX,
                                       shl_bytes_of(big, sizeof(big))),
                     0);
    for (i = 0; i < SHL_ARRAY_SIZE(cuts); i++) {
        shl_buf_clear(&f->stream);
        put(&f->stream, AGENT_FRAME_HELLO, 0, "one");
        assert_int_equal(shl_buf_append(&f->stream, shl_buf_data(&frame), cuts[i]), 0);
        put_connect(&f->stream, "two");
        agent_parser_reset(&f->parser);
        run(&f->parser, shl_buf_bytes(&f->stream), 32768, &f->log);
        assert_log(&f->log, "1:0:one;1:0:two;");
    }
    shl_buf_release(&frame);
}

static void test_frame_bad_headers_lose_sync(void **state)
{
    struct fixture *f = *state;
    const struct {
        size_t at;
        uint8_t value;
    } bad[] = {{0, 'X'}, {4, 0},  {4, 10},   {4, AGENT_FRAME_HELLO},
               {5, 1},   {6, 1},  {7, 1},    {11, 0x80},
               {8, 0},   {14, 3}, {15, 0xff}};
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(bad); i++) {
        size_t start;

        shl_buf_clear(&f->stream);
        put(&f->stream, AGENT_FRAME_HELLO, 0, "one");
        start = shl_buf_len(&f->stream);
        put(&f->stream, AGENT_FRAME_REQUEST, 1, "abc");
        shl_buf_data(&f->stream)[start + bad[i].at] = bad[i].value;
        put(&f->stream, AGENT_FRAME_REQUEST, 2, "lost");
        put(&f->stream, AGENT_FRAME_HELLO, 0, "two");
        put(&f->stream, AGENT_FRAME_REQUEST, 3, "fine");
        agent_parser_reset(&f->parser);
        f->parser.bad_frames = 0;
        run(&f->parser, shl_buf_bytes(&f->stream), 11, &f->log);
        assert_log(&f->log, "1:0:one;1:0:two;3:3:fine;");
        assert_int_equal(f->parser.bad_frames, 1);
    }
}

static void test_frame_bad_trailer_drops_the_frame(void **state)
{
    struct fixture *f = *state;

    put(&f->stream, AGENT_FRAME_HELLO, 0, "one");
    put(&f->stream, AGENT_FRAME_REQUEST, 1, "abc");
    shl_buf_data(&f->stream)[shl_buf_len(&f->stream) - 2] ^= 1;
    put(&f->stream, AGENT_FRAME_REQUEST, 2, "lost");
    put(&f->stream, AGENT_FRAME_HELLO, 0, "two");
    run(&f->parser, shl_buf_bytes(&f->stream), 32768, &f->log);
    assert_log(&f->log, "1:0:one;1:0:two;");
    assert_int_equal(f->parser.bad_frames, 1);
    assert_int_equal(f->parser.skipped_bytes, 2 * 20 + 3 + 4);
}

/* Garbage that claims to be a long HELLO must not hide the real one behind it. */
static void test_frame_unfinished_lookalike_hides_nothing(void **state)
{
    struct fixture *f = *state;
    uint8_t fake[AGENT_HEADER_BYTES] = {'S', 'H', 'L', '1', AGENT_FRAME_HELLO};
    struct agent_frame frame;

    shl_put_le32(fake + 12, AGENT_HELLO_MAX);
    assert_int_equal(shl_buf_append(&f->stream, fake, sizeof(fake)), 0);
    assert_int_equal(shl_buf_append_str(&f->stream, "SHSHL"), 0);
    put(&f->stream, AGENT_FRAME_HELLO, 0, "tok");
    feed(&f->parser, shl_buf_data(&f->stream), shl_buf_len(&f->stream));
    assert_true(agent_parser_next(&f->parser, &frame));
    assert_memory_equal(frame.payload.base, "tok", 3);
    assert_false(agent_parser_next(&f->parser, &frame));
}

/* A node that connects to a running agent may first see a guest's file that contains
 * HELLO_ACK frames; the real one starts inside the last of them. */
static void test_frame_reject_searches_inside_the_rejected_frame(void **state)
{
    struct agent_parser node;
    struct agent_frame frame;
    struct shl_buf real;
    uint8_t fake[AGENT_HEADER_BYTES + 23 + AGENT_TRAILER_BYTES] = {'S', 'H', 'L', '1',
                                                                   AGENT_FRAME_HELLO_ACK};

    (void)state;
    shl_buf_init(&real, 4096);
    put(&real, AGENT_FRAME_HELLO_ACK, 0, "tok");
    assert_int_equal(shl_buf_len(&real), 23);
    shl_put_le32(fake + 12, 23);
    memcpy(fake + AGENT_HEADER_BYTES, shl_buf_data(&real), 23);
    shl_put_le32(fake + AGENT_HEADER_BYTES + 23, 23 ^ AGENT_TRAILER);
    agent_parser_init(&node, AGENT_FRAME_HELLO_ACK);
    feed(&node, fake, sizeof(fake));
    assert_true(agent_parser_next(&node, &frame));
    assert_int_equal(frame.payload.len, 23);
    agent_parser_reject(&node);
    assert_true(agent_parser_next(&node, &frame));
    assert_int_equal(frame.payload.len, 3);
    assert_memory_equal(frame.payload.base, "tok", 3);
    assert_false(agent_parser_next(&node, &frame));
    agent_parser_release(&node);
    shl_buf_release(&real);
}

/* Random bytes, seeded: memory stays bounded and a HELLO afterwards always gets through. */
static void test_frame_garbage_never_blocks_a_later_hello(void **state)
{
    struct fixture *f = *state;
    uint32_t seed = 1;
    int round;

    for (round = 0; round < 200; round++) {
        uint8_t noise[500];
        size_t i;

        for (i = 0; i < sizeof(noise); i++) {
            seed = seed * 1103515245u + 12345u;
            noise[i] = (uint8_t) "SHL1\0\1\3\7"[(seed >> 16) % 8];
        }
        shl_buf_clear(&f->stream);
        assert_int_equal(shl_buf_append(&f->stream, noise, sizeof(noise)), 0);
        put_connect(&f->stream, "tok");
        run(&f->parser, shl_buf_bytes(&f->stream), 3000, &f->log);
        assert_true(shl_buf_len(&f->log) >= 8);
        assert_memory_equal(shl_buf_data(&f->log) + shl_buf_len(&f->log) - 8, "1:0:tok;", 8);
        assert_true(f->parser.buf.cap <= 4 * AGENT_FRAME_MAX);
        shl_buf_clear(&f->log);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_frame_round_trip_of_every_type_and_size),
        TEST(test_frame_write_refuses_oversized_payloads_and_full_buffers),
        TEST(test_frame_any_split_gives_the_same_frames),
        TEST(test_frame_nothing_comes_before_the_first_hello),
        TEST(test_frame_sync_after_a_frame_cut_at_every_offset),
        TEST(test_frame_sync_after_the_largest_frame_was_cut),
        TEST(test_frame_bad_headers_lose_sync),
        TEST(test_frame_bad_trailer_drops_the_frame),
        TEST(test_frame_unfinished_lookalike_hides_nothing),
        TEST(test_frame_reject_searches_inside_the_rejected_frame),
        TEST(test_frame_garbage_never_blocks_a_later_hello),
    };

    return cmocka_run_group_tests_name("agent/frame", tests, NULL, NULL);
}
