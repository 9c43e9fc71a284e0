/* node/mesh/message: what one side writes the other reads, later versions included; all else
 * is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "node/mesh/message.h"

static const uint8_t cluster[NODE_CLUSTER_BYTES] = "0123456789abcde";
static const struct mesh_envelope env = {3, cluster};

static void test_message_of_a_call_and_back(void **state)
{
    struct mesh_message msg;
    struct shl_buf buf;

    (void)state;
    shl_buf_init(&buf, 4096);
    assert_int_equal(mesh_write_ask(&buf, &env, 77, "node.get", 1500, shl_bytes_of("abc", 3)), 0);
    assert_int_equal(mesh_message_parse(&msg, shl_buf_bytes(&buf)), 0);
    assert_int_equal(msg.type, MESH_ASK);
    assert_int_equal(msg.version, 3);
    assert_memory_equal(msg.cluster, cluster, sizeof(cluster));
    assert_int_equal(msg.id, 77);
    assert_string_equal(msg.kind, "node.get");
    assert_int_equal(msg.number, 1500);
    assert_memory_equal(msg.body.base, "abc", 3);
    mesh_message_release(&msg);
    shl_buf_clear(&buf);
    assert_int_equal(mesh_write_reply(&buf, &env, 77, SHL_EGONE, "a\nb\x7f", shl_bytes_of("", 0)),
                     0);
    assert_int_equal(mesh_message_parse(&msg, shl_buf_bytes(&buf)), 0);
    assert_int_equal(msg.code, SHL_EGONE);
    assert_string_equal(msg.text, "a b "); /* nothing that breaks a log line */
    mesh_message_release(&msg);
    shl_buf_release(&buf);
}

/* The overhead that limits are computed with covers every kind at its worst. */
static void test_message_overhead_is_enough(void **state)
{
    struct mesh_envelope worst = {UINT32_MAX, cluster};
    const char *kind = "abcdefghijklmnopqrstuvwx";
    struct mesh_message hello = {0};
    struct shl_buf buf;
    char text[400];

    (void)state;
    memset(text, 't', sizeof(text) - 1);
    text[sizeof(text) - 1] = 0;
    assert_true(mesh_kind_is_valid(kind));
    shl_buf_init(&buf, MESH_OVERHEAD_MAX + MESH_TEXT_MAX);
    assert_int_equal(
        mesh_write_reply(&buf, &worst, UINT64_MAX, INT32_MIN, text, shl_bytes_of("", 0)), 0);
    shl_buf_release(&buf);
    shl_buf_init(&buf, MESH_OVERHEAD_MAX);
    memset(&hello.hello, 0xff, sizeof(hello.hello));
    hello.hello.addr = (struct node_mesh_addr){.control_port = 10001, .bulk_port = 20002};
    memset(hello.hello.addr.host, 'f', sizeof(hello.hello.addr.host) - 1);
    hello.hello.addr.host[1] = ':'; /* the long form */
    assert_int_equal(mesh_write_hello(&buf, &worst, &hello), 0);
    assert_true(shl_buf_len(&buf) <= MESH_OVERHEAD_MAX);
    shl_buf_clear(&buf);
    assert_int_equal(
        mesh_write_ask(&buf, &worst, UINT64_MAX, kind, UINT32_MAX, shl_bytes_of("", 0)), 0);
    shl_buf_release(&buf);
}

/* A later version may append elements and add kinds. */
static void test_message_of_a_later_version_is_read(void **state)
{
    struct mesh_message msg;
    struct shl_mp_writer w;
    struct shl_buf buf;
    int i;

    (void)state;
    for (i = 0; i < 2; i++) {
        shl_buf_init(&buf, 4096);
        shl_mp_writer_init(&w, &buf);
        shl_mp_array(&w);
        shl_mp_uint(&w, 4);
        shl_mp_bin(&w, cluster, sizeof(cluster));
        shl_mp_str(&w, i == 0 ? ".end" : ".something");
        shl_mp_uint(&w, 9);
        shl_mp_bool(&w, true);
        shl_mp_str(&w, "more");
        shl_mp_end(&w);
        assert_int_equal(shl_mp_done(&w), 0);
        assert_int_equal(mesh_message_parse(&msg, shl_buf_bytes(&buf)), 0);
        assert_int_equal(msg.type, i == 0 ? MESH_END : MESH_UNKNOWN);
        mesh_message_release(&msg);
        shl_buf_release(&buf);
    }
}

static void test_message_cut_anywhere_is_refused(void **state)
{
    struct mesh_message fields = {0}, msg;
    struct shl_buf buf;
    size_t len;

    (void)state;
    shl_buf_init(&buf, 4096);
    fields.hello.max = 1;
    assert_int_equal(mesh_write_hello(&buf, &env, &fields), 0);
    for (len = 0; len < shl_buf_len(&buf); len++) {
        assert_int_equal(mesh_message_parse(&msg, shl_bytes_of(shl_buf_data(&buf), len)),
                         SHL_EPROTO);
    }
    shl_buf_release(&buf);
}

/* Each with one field of the wrong type or range. */
static void test_message_wrong_fields_are_refused(void **state)
{
    struct mesh_message msg, fields = {0};
    struct shl_buf buf;
    struct shl_mp_writer w;
    int i;

    (void)state;
    for (i = 0; i < 7; i++) {
        shl_buf_init(&buf, 4096);
        shl_mp_writer_init(&w, &buf);
        shl_mp_array(&w);
        shl_mp_int(&w, i == 0 ? -1 : 1);
        shl_mp_bin(&w, cluster, i == 1 ? 15 : 16);
        shl_mp_str(&w, i == 2 ? "abcdefghijklmnopqrstuvwxy" : ".cut");
        shl_mp_uint(&w, 1);
        if (i == 3) {
            shl_mp_uint(&w, 1);
        } else {
            shl_mp_bool(&w, true);
        }
        shl_mp_int(&w, i == 4 ? 5 : i == 5 ? INT64_MIN : -5);
        if (i == 6) {
            shl_mp_bool(&w, true);
        } else {
            shl_mp_str(&w, "x");
        }
        shl_mp_end(&w);
        assert_int_equal(shl_mp_done(&w), 0);
        assert_int_equal(mesh_message_parse(&msg, shl_buf_bytes(&buf)), SHL_EPROTO);
        shl_buf_release(&buf);
    }
    shl_buf_init(&buf, 4096);
    fields.hello.min = 2;
    fields.hello.max = 1;
    assert_int_equal(mesh_write_hello(&buf, &env, &fields), 0);
    assert_int_equal(mesh_message_parse(&msg, shl_buf_bytes(&buf)), SHL_EPROTO);
    shl_buf_release(&buf);
}

static void test_message_names_that_may_be_registered(void **state)
{
    (void)state;
    assert_true(mesh_kind_is_valid("raft"));
    assert_true(mesh_kind_is_valid("node.get-2"));
    assert_false(mesh_kind_is_valid(""));
    assert_false(mesh_kind_is_valid(".data"));
    assert_false(mesh_kind_is_valid("2raft"));
    assert_false(mesh_kind_is_valid("Raft"));
    assert_false(mesh_kind_is_valid("a b"));
    assert_false(mesh_kind_is_valid("abcdefghijklmnopqrstuvwxy"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_message_of_a_call_and_back),
        cmocka_unit_test(test_message_overhead_is_enough),
        cmocka_unit_test(test_message_of_a_later_version_is_read),
        cmocka_unit_test(test_message_cut_anywhere_is_refused),
        cmocka_unit_test(test_message_wrong_fields_are_refused),
        cmocka_unit_test(test_message_names_that_may_be_registered),
    };

    return cmocka_run_group_tests_name("node/mesh_message", tests, NULL, NULL);
}
