/* The codec of commands: what goes in comes out, and nothing else gets in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mp.h"
#include "tests/scheduler/kit.h"

static struct shl_buf encode(const struct sched_command *c)
{
    struct shl_buf buf;

    shl_buf_init(&buf, SCHED_COMMAND_MAX);
    assert_int_equal(sched_command_encode(c, &buf, NULL), 0);
    return buf;
}

/* Every kind, many contents: decoded and encoded again it is the same bytes. */
static void test_command_round_trip_is_exact(void **state)
{
    struct kit_stream stream = {.random = 1, .now_ms = KIT_START_MS};
    uint64_t seen = 0;
    int i;

    (void)state;
    for (i = 0; i < 3000; i++) {
        struct sched_command c, back;
        struct shl_buf first, second;

        kit_stream_next(&stream, &c);
        seen |= 1ull << c.kind;
        first = encode(&c);
        assert_int_equal(sched_command_decode(&back, shl_buf_bytes(&first), NULL), 0);
        assert_int_equal(back.kind, c.kind);
        assert_int_equal(back.at_ms, c.at_ms);
        second = encode(&back);
        assert_int_equal(shl_buf_len(&first), shl_buf_len(&second));
        assert_memory_equal(shl_buf_data(&first), shl_buf_data(&second), shl_buf_len(&first));
        shl_buf_release(&first);
        shl_buf_release(&second);
    }
    assert_int_equal(seen, (1ull << SCHED_COMMAND_KIND_END) - 2);
}

static void test_command_truncated_is_refused(void **state)
{
    struct kit kit = {.now_ms = 5};
    struct sched_command c = kit_command(&kit, SCHED_NODE_JOIN), back;
    struct shl_buf buf;
    size_t len;

    (void)state;
    c.u.node_join.node = kit_spec(1);
    buf = encode(&c);
    for (len = 0; len < shl_buf_len(&buf); len++) {
        assert_int_equal(sched_command_decode(&back, shl_bytes_of(shl_buf_data(&buf), len), NULL),
                         SHL_EPROTO);
    }
    shl_buf_release(&buf);
}

static int decode_map(void (*fill)(struct shl_mp_writer *w), struct shl_err *err)
{
    struct sched_command back;
    struct shl_mp_writer w;
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, 1 << 20);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    fill(&w);
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    rc = sched_command_decode(&back, shl_buf_bytes(&buf), err);
    shl_buf_release(&buf);
    return rc;
}

static void head(struct shl_mp_writer *w, uint64_t version, uint64_t kind)
{
    shl_mp_kv_uint(w, "v", version);
    shl_mp_kv_uint(w, "k", kind);
    shl_mp_kv_uint(w, "t", 1);
}

static void fill_future_kind(struct shl_mp_writer *w)
{
    head(w, 1, SCHED_COMMAND_KIND_END);
}

static void fill_future_version(struct shl_mp_writer *w)
{
    head(w, 2, SCHED_EXPIRE);
}

static void fill_no_field(struct shl_mp_writer *w)
{
    head(w, 1, SCHED_TOKEN_REVOKE);
}

static void fill_short_fixed(struct shl_mp_writer *w)
{
    head(w, 1, SCHED_TOKEN_REVOKE);
    shl_mp_kv_bin(w, "token", "abc", 3);
}

static void fill_long_text(struct shl_mp_writer *w)
{
    char name[400];

    memset(name, 'a', sizeof(name));
    name[399] = '\0';
    head(w, 1, SCHED_CHECKPOINT_DELETE);
    shl_mp_kv_str(w, "ckpt", name);
}

static void fill_control_text(struct shl_mp_writer *w)
{
    head(w, 1, SCHED_CHECKPOINT_DELETE);
    shl_mp_kv_str(w, "ckpt", "a\nb");
}

static void fill_long_value(struct shl_mp_writer *w)
{
    static uint8_t value[SCHED_KV_VALUE_MAX + 1];

    head(w, 1, SCHED_KV_SET);
    shl_mp_kv_str(w, "key", "k");
    shl_mp_kv_bin(w, "value", value, sizeof(value));
}

static void fill_extra(struct shl_mp_writer *w)
{
    head(w, 1, SCHED_CHECKPOINT_DELETE);
    shl_mp_kv_str(w, "ckpt", "c1");
    shl_mp_kv_str(w, "of a later version", "x");
}

static void fill_late_time(struct shl_mp_writer *w)
{
    shl_mp_kv_uint(w, "v", 1);
    shl_mp_kv_uint(w, "k", SCHED_EXPIRE);
    shl_mp_kv_uint(w, "t", SCHED_TIME_MAX_MS + 1);
}

static void fill_many_holders(struct shl_mp_writer *w)
{
    unsigned i;
    struct shl_node_id id = kit_id(1);
    uint8_t manifest[SCHED_HASH_BYTES] = {1};

    head(w, 1, SCHED_CHECKPOINT_PUT);
    shl_mp_kv_str(w, "ckpt", "c1");
    shl_mp_kv_str(w, "org", "o");
    shl_mp_kv_str(w, "sandbox", "");
    shl_mp_kv_str(w, "label", "");
    shl_mp_kv_uint(w, "kind", 1);
    shl_mp_kv_bin(w, "manifest", manifest, sizeof(manifest));
    shl_mp_kv_uint(w, "bytes", 1);
    shl_mp_kv_uint(w, "wanted", 1);
    shl_mp_kv_array(w, "holders");
    for (i = 0; i <= SCHED_HOLDERS_MAX; i++) {
        shl_mp_bin(w, id.bytes, sizeof(id.bytes));
    }
    shl_mp_end(w);
}

static void test_command_faults_are_named(void **state)
{
    static const struct {
        void (*fill)(struct shl_mp_writer *w);
        int code;
        const char *text;
    } rows[] = {
        {fill_future_kind, SHL_EVERSION, "not known to this version"},
        {fill_future_version, SHL_EVERSION, "not known to this version"},
        {fill_no_field, SHL_EPROTO, "field \"token\" is missing"},
        {fill_short_fixed, SHL_EPROTO, "field \"token\" is missing or of another type"},
        {fill_long_text, SHL_ELIMIT, "field \"ckpt\" is too long"},
        {fill_control_text, SHL_EPROTO, "has a control character"},
        {fill_long_value, SHL_ELIMIT, "field \"value\" is too long"},
        {fill_many_holders, SHL_ELIMIT, "field \"holders\" is too long"},
        {fill_late_time, SHL_EPROTO, "no version, kind or time"},
        {fill_extra, 0, ""},
    };
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(rows); i++) {
        struct shl_err err = {0};

        assert_int_equal(decode_map(rows[i].fill, &err), rows[i].code);
        assert_non_null(strstr(err.msg, rows[i].text));
    }
}

static void test_command_too_long_is_refused_unread(void **state)
{
    static uint8_t bytes[SCHED_COMMAND_MAX + 1];
    struct sched_command back;

    (void)state;
    assert_int_equal(sched_command_decode(&back, shl_bytes_of(bytes, sizeof(bytes)), NULL),
                     SHL_ELIMIT);
}

/* What could not be read again is not written. */
static void test_command_encode_checks_first(void **state)
{
    struct kit kit = {.now_ms = 5};
    struct sched_command c = kit_command(&kit, SCHED_NODE_JOIN);
    struct shl_err err = {0};
    struct shl_buf buf;

    (void)state;
    shl_buf_init(&buf, SCHED_COMMAND_MAX);
    c.u.node_join.node = kit_spec(1);
    snprintf(c.u.node_join.node.name, sizeof(c.u.node_join.node.name), "no spaces");
    assert_int_equal(sched_command_encode(&c, &buf, &err), SHL_EINVALIDARG);
    assert_non_null(strstr(err.msg, "\"name\" has a character other than"));
    c = kit_command(&kit, SCHED_NAME_CLAIM);
    c.u.name.kind = SCHED_NAME_HOST;
    snprintf(c.u.name.org, sizeof(c.u.name.org), "org");
    snprintf(c.u.name.name, sizeof(c.u.name.name), "a.example");
    assert_int_equal(sched_command_encode(&c, &buf, &err), SHL_EINVALIDARG);
    assert_non_null(strstr(err.msg, "no organisation"));
    c.u.name.kind = SCHED_NAME_IDEMPOTENCY;
    assert_int_equal(sched_command_encode(&c, &buf, &err), SHL_EINVALIDARG);
    assert_non_null(strstr(err.msg, "needs an expiry"));
    c = kit_command(&kit, SCHED_COMMAND_KIND_END);
    assert_int_equal(sched_command_encode(&c, &buf, &err), SHL_EINVALIDARG);
    assert_int_equal(shl_buf_len(&buf), 0);
    shl_buf_release(&buf);
}

static void test_command_result_round_trip(void **state)
{
    struct sched_result r = {.index = 9, .existed = true, .number = 4, .value_len = 3}, back;
    struct shl_buf buf;
    size_t len;

    (void)state;
    r.err.code = SHL_ECONFLICT;
    snprintf(r.err.msg, sizeof(r.err.msg), "taken");
    memcpy(r.value, "abc", 3);
    shl_buf_init(&buf, SCHED_RESULT_MAX);
    assert_int_equal(sched_result_encode(&r, &buf), 0);
    assert_int_equal(sched_result_decode(&back, shl_buf_bytes(&buf)), 0);
    assert_int_equal(back.err.code, SHL_ECONFLICT);
    assert_string_equal(back.err.msg, "taken");
    assert_int_equal(back.number, 4);
    assert_int_equal(back.index, 9);
    assert_true(back.existed);
    assert_int_equal(back.value_len, 3);
    assert_memory_equal(back.value, "abc", 3);
    for (len = 0; len < shl_buf_len(&buf); len++) {
        assert_int_equal(sched_result_decode(&back, shl_bytes_of(shl_buf_data(&buf), len)),
                         SHL_EPROTO);
    }
    shl_buf_release(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_command_round_trip_is_exact),
        cmocka_unit_test(test_command_truncated_is_refused),
        cmocka_unit_test(test_command_faults_are_named),
        cmocka_unit_test(test_command_too_long_is_refused_unread),
        cmocka_unit_test(test_command_encode_checks_first),
        cmocka_unit_test(test_command_result_round_trip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
