/* node/replica/wire: questions and answers between nodes, whole and broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mp.h"
#include "node/replica/wire.h"

static struct node_replica_ask ask_of(bool is_manifest, uint32_t count)
{
    struct node_replica_ask ask = {.is_manifest = is_manifest, .count = count};
    uint32_t i;

    for (i = 0; i < count && i < CKPT_FETCH_REQUEST_CHUNKS_MAX; i++) {
        ask.ids[i].bytes[0] = (uint8_t)(i + 1);
    }
    return ask;
}

static struct node_replica_ask ask_packed(uint32_t count)
{
    struct node_replica_ask ask = ask_of(false, count);

    ask.may_pack = true;
    return ask;
}

static int parse(struct shl_buf *buf, struct node_replica_ask *ret)
{
    struct shl_err err = {0};
    int rc = node_replica_ask_parse(ret, shl_buf_bytes(buf), &err);

    assert_true(rc == 0 || err.msg[0]);
    shl_buf_release(buf);
    return rc;
}

static void test_wire_asks_arrive_as_they_were_sent(void **state)
{
    static const struct {
        bool is_manifest;
        uint32_t count;
        bool may_pack;
    } cases[] = {{true, 1, false},
                 {false, 1, false},
                 {false, 1, true},
                 {false, CKPT_FETCH_REQUEST_CHUNKS_MAX, false},
                 {false, CKPT_FETCH_REQUEST_CHUNKS_MAX, true}};
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(cases); i++) {
        struct node_replica_ask ask = ask_of(cases[i].is_manifest, cases[i].count), got;
        struct shl_buf buf;

        ask.may_pack = cases[i].may_pack;
        shl_buf_init(&buf, NODE_REPLICA_HEAD_MAX);
        assert_int_equal(node_replica_ask_write(&buf, &ask), 0);
        assert_int_equal(parse(&buf, &got), 0);
        assert_int_equal(got.is_manifest, ask.is_manifest);
        assert_int_equal(got.may_pack, ask.may_pack);
        assert_int_equal(got.count, ask.count);
        assert_memory_equal(got.ids, ask.ids, sizeof(ask.ids));
    }
}

/* A head with up to two keys, whatever they hold. */
static int parse_keys(const char *a, size_t a_len, const char *b, size_t b_len)
{
    struct node_replica_ask ask = ask_of(false, CKPT_FETCH_REQUEST_CHUNKS_MAX), got;
    uint8_t bytes[4096] = {0};
    struct shl_mp_writer w;
    struct shl_buf buf;

    memcpy(bytes, ask.ids, sizeof(ask.ids));
    shl_buf_init(&buf, 8192);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    if (a) {
        shl_mp_kv_bin(&w, a, bytes, a_len);
    }
    if (b) {
        shl_mp_kv_bin(&w, b, bytes, b_len);
    }
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    return parse(&buf, &got);
}

static void test_wire_refuses_wrong_asks(void **state)
{
    struct node_replica_ask got;
    struct shl_mp_writer w;
    struct shl_buf buf;

    (void)state;
    assert_int_equal(parse_keys("chunks", 64, NULL, 0), 0);
    assert_int_equal(parse_keys(NULL, 0, NULL, 0), SHL_EPROTO);
    assert_int_equal(parse_keys("chunks", 0, NULL, 0), SHL_EPROTO);
    assert_int_equal(parse_keys("chunks", 33, NULL, 0), SHL_EPROTO);
    assert_int_equal(parse_keys("chunks", 33 * 32, NULL, 0), SHL_EPROTO);
    assert_int_equal(parse_keys("manifest", 64, NULL, 0), SHL_EPROTO);
    assert_int_equal(parse_keys("manifest", 32, "chunks", 32), SHL_EPROTO);
    assert_int_equal(parse_keys("chunks", 64, "packed", 1), SHL_EPROTO); /* not a bool */
    assert_int_equal(parse_keys("chunks", 64, "of a newer version", 1), 0);

    shl_buf_init(&buf, 256);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "manifest", 1);
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    assert_int_equal(parse(&buf, &got), SHL_EPROTO);

    shl_buf_init(&buf, 256);
    assert_int_equal(shl_buf_append_str(&buf, "no msgpack at all"), 0);
    assert_int_equal(parse(&buf, &got), SHL_EPROTO);
}

static void test_wire_refuses_zero_and_double_ids(void **state)
{
    uint8_t ids[2 * CKPT_ID_BYTES];
    struct node_replica_ask got;
    int i;

    (void)state;
    for (i = 0; i < 2; i++) {
        struct shl_mp_writer w;
        struct shl_buf buf;

        memset(ids, i == 0 ? 7 : 0, sizeof(ids));
        ids[0] = i == 0 ? 7 : 1; /* twice the same; the second one zero */
        shl_buf_init(&buf, 256);
        shl_mp_writer_init(&w, &buf);
        shl_mp_map(&w);
        shl_mp_kv_bin(&w, "chunks", ids, sizeof(ids));
        shl_mp_end(&w);
        assert_int_equal(shl_mp_done(&w), 0);
        assert_int_equal(parse(&buf, &got), SHL_EPROTO);
    }
}

/*- Answers. */

static void put(struct shl_buf *buf, uint32_t index, uint32_t outcome, uint32_t length, size_t real)
{
    struct node_replica_record record = {index, (enum node_replica_outcome)outcome, length};
    uint8_t head[NODE_REPLICA_RECORD_BYTES];
    size_t i;

    node_replica_record_write(head, &record);
    assert_int_equal(shl_buf_append(buf, head, sizeof(head)), 0);
    for (i = 0; i < real; i++) {
        uint8_t byte = (uint8_t)(index * 7 + i);

        assert_int_equal(shl_buf_append(buf, &byte, 1), 0);
    }
}

struct seen {
    uint32_t records, lacks, bytes;
};

/* Read @bytes in pieces of @step; checks every byte. */
static int read_all(struct node_replica_reader *reader,
                    struct shl_bytes bytes,
                    size_t step,
                    struct seen *seen)
{
    uint32_t at = 0;
    int rc = 0;

    while (rc == 0 && bytes.len > 0) {
        struct shl_bytes piece = shl_bytes_of(bytes.base, SHL_MIN(step, bytes.len));
        struct node_replica_part part;

        bytes.base += piece.len;
        bytes.len -= piece.len;
        while ((rc = node_replica_read(reader, &piece, &part)) == 1) {
            size_t i;

            at = part.is_first ? 0 : at;
            for (i = 0; i < part.bytes.len; i++) {
                assert_int_equal(part.bytes.base[i], (uint8_t)(part.record.index * 7 + at++));
            }
            assert_int_equal(part.is_last, at == part.record.length);
            seen->bytes += (uint32_t)part.bytes.len;
            seen->records += part.is_last;
            seen->lacks += part.record.outcome == NODE_REPLICA_LACKS;
        }
        assert_true(rc < 0 || piece.len == 0);
    }
    return rc;
}

static void test_wire_answers_survive_any_fragmentation(void **state)
{
    static const size_t steps[] = {1, 5, 11, 12, 13, 4096, 65536, 1u << 20};
    struct node_replica_ask ask = ask_of(false, 4);
    struct shl_buf buf;
    size_t i;

    (void)state;
    shl_buf_init(&buf, 1u << 20);
    put(&buf, 0, NODE_REPLICA_HERE, CKPT_CHUNK_BYTES, CKPT_CHUNK_BYTES);
    put(&buf, 1, NODE_REPLICA_LACKS, 0, 0);
    put(&buf, 3, NODE_REPLICA_HERE, 1, 1);
    for (i = 0; i < SHL_ARRAY_SIZE(steps); i++) {
        struct node_replica_reader reader;
        struct seen seen = {0};

        node_replica_reader_init(&reader, &ask);
        assert_int_equal(read_all(&reader, shl_buf_bytes(&buf), steps[i], &seen), 0);
        assert_true(node_replica_may_end(&reader));
        assert_int_equal(seen.records, 3);
        assert_int_equal(seen.lacks, 1);
        assert_int_equal(seen.bytes, CKPT_CHUNK_BYTES + 1);
    }
    shl_buf_release(&buf);
}

/* Packed chunks come only to who asked for them. */
static void test_wire_takes_packed_chunks_when_it_asked_for_them(void **state)
{
    static const uint32_t sizes[] = {1, 20000, CKPT_CHUNK_BYTES - 1};
    static const uint32_t wrong[] = {0, CKPT_CHUNK_BYTES, CKPT_CHUNK_BYTES + 1, UINT32_MAX};
    struct node_replica_ask ask = ask_packed(2);
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(sizes) + SHL_ARRAY_SIZE(wrong); i++) {
        bool is_right = i < SHL_ARRAY_SIZE(sizes);
        uint32_t size = is_right ? sizes[i] : wrong[i - SHL_ARRAY_SIZE(sizes)];
        struct node_replica_reader reader;
        struct seen seen = {0};
        struct shl_buf buf;

        shl_buf_init(&buf, 1u << 20);
        put(&buf, 0, NODE_REPLICA_PACKED, size, is_right ? size : 0);
        put(&buf, 1, NODE_REPLICA_HERE, 7, 7);
        node_replica_reader_init(&reader, &ask);
        assert_int_equal(read_all(&reader, shl_buf_bytes(&buf), 5000, &seen),
                         is_right ? 0 : SHL_EPROTO);
        assert_int_equal(seen.records, is_right ? 2 : 0);
        shl_buf_release(&buf);
    }
}

static void test_wire_knows_a_cut_answer(void **state)
{
    struct node_replica_ask ask = ask_of(false, 1);
    struct shl_buf buf;
    size_t len;

    (void)state;
    shl_buf_init(&buf, 4096);
    put(&buf, 0, NODE_REPLICA_HERE, 20, 20);
    for (len = 0; len <= shl_buf_len(&buf); len++) {
        struct node_replica_reader reader;
        struct seen seen = {0};

        node_replica_reader_init(&reader, &ask);
        assert_int_equal(read_all(&reader, shl_bytes_of(shl_buf_data(&buf), len), 3, &seen), 0);
        assert_int_equal(node_replica_may_end(&reader), len == 0 || len == shl_buf_len(&buf));
    }
    shl_buf_release(&buf);
}

static int read_one(bool is_manifest,
                    uint32_t count,
                    uint32_t index,
                    uint32_t outcome,
                    uint32_t length)
{
    struct node_replica_ask ask = ask_of(is_manifest, count);
    struct node_replica_reader reader;
    struct seen seen = {0};
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, 4096);
    put(&buf, index, outcome, length, 0);
    node_replica_reader_init(&reader, &ask);
    rc = read_all(&reader, shl_buf_bytes(&buf), 4096, &seen);
    shl_buf_release(&buf);
    return rc;
}

static void test_wire_refuses_wrong_records(void **state)
{
    struct node_replica_ask ask = ask_of(false, 4);
    struct node_replica_reader reader;
    struct seen seen = {0};
    struct shl_buf buf;

    (void)state;
    assert_int_equal(read_one(false, 2, 1, NODE_REPLICA_HERE, CKPT_CHUNK_BYTES), 0);
    assert_int_equal(read_one(false, 2, 2, NODE_REPLICA_HERE, 1), SHL_EPROTO);
    assert_int_equal(read_one(false, 2, UINT32_MAX, NODE_REPLICA_HERE, 1), SHL_EPROTO);
    assert_int_equal(read_one(false, 2, 0, 0, 1), SHL_EPROTO);
    assert_int_equal(read_one(false, 2, 0, NODE_REPLICA_PACKED, 1), SHL_EPROTO); /* unasked */
    assert_int_equal(read_one(true, 1, 0, NODE_REPLICA_PACKED, 1), SHL_EPROTO);
    assert_int_equal(read_one(false, 2, 0, 4, 1), SHL_EPROTO);
    assert_int_equal(read_one(false, 2, 0, NODE_REPLICA_HERE, 0), SHL_EPROTO);
    assert_int_equal(read_one(false, 2, 0, NODE_REPLICA_LACKS, 1), SHL_EPROTO);
    assert_int_equal(read_one(false, 2, 0, NODE_REPLICA_HERE, CKPT_CHUNK_BYTES + 1), SHL_EPROTO);
    assert_int_equal(read_one(true, 1, 0, NODE_REPLICA_HERE, CKPT_MANIFEST_MAX), 0);
    assert_int_equal(read_one(true, 1, 0, NODE_REPLICA_HERE, CKPT_MANIFEST_MAX + 1), SHL_EPROTO);
    assert_int_equal(read_one(true, 1, 0, NODE_REPLICA_HERE, UINT32_MAX), SHL_EPROTO);

    /* The same index again, and one that goes back. */
    shl_buf_init(&buf, 4096);
    put(&buf, 2, NODE_REPLICA_LACKS, 0, 0);
    put(&buf, 2, NODE_REPLICA_LACKS, 0, 0);
    node_replica_reader_init(&reader, &ask);
    assert_int_equal(read_all(&reader, shl_buf_bytes(&buf), 7, &seen), SHL_EPROTO);
    assert_int_equal(seen.records, 1);
    shl_buf_release(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wire_asks_arrive_as_they_were_sent),
        cmocka_unit_test(test_wire_refuses_wrong_asks),
        cmocka_unit_test(test_wire_refuses_zero_and_double_ids),
        cmocka_unit_test(test_wire_answers_survive_any_fragmentation),
        cmocka_unit_test(test_wire_takes_packed_chunks_when_it_asked_for_them),
        cmocka_unit_test(test_wire_knows_a_cut_answer),
        cmocka_unit_test(test_wire_refuses_wrong_records),
    };

    return cmocka_run_group_tests_name("node/replica_wire", tests, NULL, NULL);
}
