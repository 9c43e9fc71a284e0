/* Records of checkpoints and specifications of forks: nothing here needs a manager. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mp.h"
#include "node/sandbox/checkpoints_private.h"
#include "node/sandbox/sandbox.h"

#define ID       "0a1b2c3d-0000-4000-8000-000000000001"
#define MANIFEST "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define LAYER    "0123456789abcdef0123456789abcdef"

/* A set without a manager: enough for what does not run. */
static struct node_manager manager;
static struct checkpoints set = {.manager = &manager};

static void fill_spec(struct node_sandbox_spec *spec)
{
    *spec = (struct node_sandbox_spec){
        .cpus = 2, .memory_mb = 1024, .disk_mb = NODE_DISK_MIN_MB, .timeout_s = 300};
    (void)snprintf(spec->org, sizeof(spec->org), "org");
    (void)snprintf(spec->template_name, sizeof(spec->template_name), "base");
    assert_int_equal(node_kv_set(&spec->envs, "A", "1"), 0);
    assert_int_equal(node_kv_set(&spec->envs, "B", "2"), 0);
    assert_int_equal(node_kv_set(&spec->metadata, "team", "red"), 0);
}

static struct checkpoint *make(void)
{
    struct checkpoint *checkpoint = checkpoint_new(&set);
    struct node_checkpoint *pub = &checkpoint->pub;

    (void)snprintf(pub->id, sizeof(pub->id), ID);
    (void)snprintf(pub->sandbox_id, sizeof(pub->sandbox_id), "sb-00000001");
    (void)snprintf(pub->name, sizeof(pub->name), "näme");
    (void)snprintf(pub->manifest, sizeof(pub->manifest), MANIFEST);
    pub->status = NODE_CHECKPOINT_READY;
    pub->created_at_ms = 1234567;
    fill_spec(&pub->spec);
    checkpoint->layer_bytes = 42;
    checkpoint->keep_max = 7;
    checkpoint->has_stack = true;
    checkpoint->stack.disk_count = 1;
    (void)snprintf(checkpoint->stack.disk[0].hex, NODE_LAYER_ID_SIZE, LAYER);
    return checkpoint;
}

static int decode_bytes(struct shl_bytes bytes, struct checkpoint **ret, struct shl_err *err)
{
    struct checkpoint *checkpoint = checkpoint_new(&set);
    int rc = checkpoint_decode(checkpoint, ID, bytes, err);

    if (ret && rc == 0) {
        *ret = checkpoint;
    } else {
        checkpoint_free(checkpoint);
    }
    return rc;
}

/* Encodes @checkpoint, frees it, and decodes. */
static int round_trip(struct checkpoint *checkpoint, struct checkpoint **ret)
{
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, CHECKPOINT_RECORD_MAX);
    assert_int_equal(checkpoint_encode(checkpoint, &buf), 0);
    checkpoint_free(checkpoint);
    rc = decode_bytes(shl_buf_bytes(&buf), ret, NULL);
    shl_buf_release(&buf);
    return rc;
}

static void test_record_keeps_everything(void **state)
{
    struct checkpoint *back;

    (void)state;
    assert_int_equal(round_trip(make(), &back), 0);
    assert_string_equal(back->pub.id, ID);
    assert_string_equal(back->pub.sandbox_id, "sb-00000001");
    assert_string_equal(back->pub.name, "näme");
    assert_string_equal(back->pub.manifest, MANIFEST);
    assert_int_equal(back->pub.status, NODE_CHECKPOINT_READY);
    assert_int_equal(back->pub.created_at_ms, 1234567);
    assert_int_equal(back->pub.size_bytes, 42);
    assert_string_equal(back->pub.spec.template_name, "base");
    assert_string_equal(back->pub.spec.envs.items[1].value, "2");
    assert_int_equal(back->keep_max, 7);
    assert_string_equal(back->stack.disk[0].hex, LAYER);
    assert_false(back->fresh);
    checkpoint_free(back);
}

static void test_record_of_a_failed_one(void **state)
{
    struct checkpoint *checkpoint = make();
    struct checkpoint *back;

    (void)state;
    checkpoint->pub.status = NODE_CHECKPOINT_FAILED;
    checkpoint->pub.manifest[0] = '\0';
    checkpoint->has_stack = false;
    checkpoint->pub.failed_at_ms = 99;
    (void)snprintf(checkpoint->pub.error, sizeof(checkpoint->pub.error), "because");
    assert_int_equal(round_trip(checkpoint, &back), 0);
    assert_string_equal(back->pub.error, "because");
    assert_int_equal(back->pub.failed_at_ms, 99);
    assert_int_equal(back->pub.size_bytes, 0);
    checkpoint_free(back);
}

/* States that no daemon leaves. */
static void test_record_that_contradicts_itself(void **state)
{
    struct checkpoint *checkpoint;

    (void)state;
    checkpoint = make();
    checkpoint->has_stack = false;
    assert_int_equal(round_trip(checkpoint, NULL), SHL_ECORRUPT);
    checkpoint = make();
    checkpoint->pub.manifest[10] = 'x';
    assert_int_equal(round_trip(checkpoint, NULL), SHL_ECORRUPT);
    checkpoint = make();
    checkpoint->pub.status = NODE_CHECKPOINT_PROCESSING;
    assert_int_equal(round_trip(checkpoint, NULL), SHL_ECORRUPT);
    checkpoint = make();
    checkpoint->pub.status = NODE_CHECKPOINT_FAILED;
    assert_int_equal(round_trip(checkpoint, NULL), SHL_ECORRUPT);
    checkpoint = make();
    checkpoint->pub.spec.cpus = 99;
    assert_int_equal(round_trip(checkpoint, NULL), SHL_ECORRUPT);
    checkpoint = make();
    checkpoint->pub.name[0] = '\n';
    assert_int_equal(round_trip(checkpoint, NULL), SHL_ECORRUPT);
    checkpoint = make();
    checkpoint->stack.disk[0].hex[3] = '/';
    assert_int_equal(round_trip(checkpoint, NULL), SHL_ECORRUPT);
}

static void test_record_cut_anywhere(void **state)
{
    struct checkpoint *checkpoint = make();
    struct shl_buf buf;
    size_t len;

    (void)state;
    shl_buf_init(&buf, CHECKPOINT_RECORD_MAX);
    assert_int_equal(checkpoint_encode(checkpoint, &buf), 0);
    for (len = 0; len < shl_buf_len(&buf); len++) {
        assert_int_equal(decode_bytes(shl_bytes_of(shl_buf_data(&buf), len), NULL, NULL),
                         SHL_ECORRUPT);
    }
    shl_buf_release(&buf);
    checkpoint_free(checkpoint);
}

static void test_record_of_another_version(void **state)
{
    struct shl_mp_writer w;
    struct shl_err err = {0};
    struct shl_buf buf;

    (void)state;
    shl_buf_init(&buf, 100);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", 3);
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    assert_int_equal(decode_bytes(shl_buf_bytes(&buf), NULL, &err), SHL_EVERSION);
    shl_buf_release(&buf);
}

static void test_id_that_is_too_long(void **state)
{
    struct checkpoint *checkpoint = checkpoint_new(&set);
    char id[200];

    (void)state;
    (void)memset(id, 'a', sizeof(id));
    id[sizeof(id) - 1] = '\0';
    assert_int_equal(checkpoint_decode(checkpoint, id, shl_bytes_of("\x80", 1), NULL),
                     SHL_ECORRUPT);
    checkpoint_free(checkpoint);
}

/* The same bytes for one, others for another with the same content. */
static void test_config(void **state)
{
    struct checkpoint *checkpoint = make();
    struct shl_buf one, two;

    (void)state;
    shl_buf_init(&one, CHECKPOINT_RECORD_MAX);
    shl_buf_init(&two, CHECKPOINT_RECORD_MAX);
    assert_int_equal(checkpoint_encode_config(checkpoint, &one), 0);
    checkpoint->pub.status = NODE_CHECKPOINT_PROCESSING;
    assert_int_equal(checkpoint_encode_config(checkpoint, &two), 0);
    assert_int_equal(shl_buf_len(&one), shl_buf_len(&two));
    assert_memory_equal(shl_buf_data(&one), shl_buf_data(&two), shl_buf_len(&one));
    shl_buf_clear(&two);
    checkpoint->pub.id[0] = 'f';
    assert_int_equal(checkpoint_encode_config(checkpoint, &two), 0);
    assert_memory_not_equal(shl_buf_data(&one), shl_buf_data(&two), shl_buf_len(&one));
    shl_buf_release(&one);
    shl_buf_release(&two);
    checkpoint_free(checkpoint);
}

static struct checkpoint *make_save(void)
{
    struct checkpoint *checkpoint = make();
    struct node_checkpoint *pub = &checkpoint->pub;

    checkpoint->save = true;
    pub->disk_only = false;
    pub->name[0] = '\0';
    (void)snprintf(pub->id, sizeof(pub->id), "00112233-4455-4677-8899-aabbccddeeff");
    (void)snprintf(pub->sandbox_id, sizeof(pub->sandbox_id), "sb-0123abcd");
    (void)snprintf(checkpoint->sandbox_from, sizeof(checkpoint->sandbox_from), "%s", pub->id);
    checkpoint->sandbox_created_at_ms = 5;
    checkpoint->layer_bytes = 77;
    pub->spec.on_node_loss = NODE_ON_LOSS_RESTORE;
    pub->spec.autosave_s = NODE_AUTOSAVE_MIN_S;
    (void)memset(checkpoint->stack.base, 'b', NODE_LAYER_ID_SIZE - 1);
    return checkpoint;
}

static int decode_config_of(const struct checkpoint *checkpoint, struct checkpoint **ret)
{
    struct checkpoint *got = checkpoint_new(&set);
    struct shl_err err = {0};
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, CHECKPOINT_RECORD_MAX);
    assert_int_equal(checkpoint_encode_config(checkpoint, &buf), 0);
    rc = checkpoint_decode_config(got, shl_buf_bytes(&buf), &err);
    assert_true(rc == 0 || err.msg[0]);
    shl_buf_release(&buf);
    if (ret) {
        *ret = got;
    } else {
        checkpoint_free(got);
    }
    return rc;
}

static void test_config_there_and_back(void **state)
{
    struct checkpoint *checkpoint = make_save(), *got;
    struct shl_buf buf;
    size_t len;

    (void)state;
    assert_int_equal(decode_config_of(checkpoint, &got), 0);
    assert_string_equal(got->pub.id, checkpoint->pub.id);
    assert_string_equal(got->pub.sandbox_id, "sb-0123abcd");
    assert_true(got->save);
    assert_int_equal(got->sandbox_created_at_ms, 5);
    assert_int_equal(got->layer_bytes, 77);
    assert_string_equal(got->sandbox_from, checkpoint->sandbox_from);
    assert_string_equal(got->bases[0], checkpoint->stack.base);
    assert_int_equal(got->pub.spec.on_node_loss, NODE_ON_LOSS_RESTORE);
    assert_int_equal(got->pub.spec.autosave_s, NODE_AUTOSAVE_MIN_S);
    assert_int_equal(got->pub.spec.envs.count, checkpoint->pub.spec.envs.count);
    checkpoint_free(got);

    shl_buf_init(&buf, CHECKPOINT_RECORD_MAX);
    assert_int_equal(checkpoint_encode_config(checkpoint, &buf), 0);
    for (len = 0; len < shl_buf_len(&buf); len++) {
        got = checkpoint_new(&set);
        assert_int_equal(checkpoint_decode_config(got, shl_bytes_of(shl_buf_data(&buf), len), NULL),
                         SHL_ECORRUPT);
        checkpoint_free(got);
    }
    shl_buf_release(&buf);
    checkpoint_free(checkpoint);
}

/* What a peer may not say. */
static void test_config_refused(void **state)
{
    static const char *const ids[] = {"sb-../../ab", "sb-0123abc",  "sb-0123abcde",
                                      "sb-0123ABCD", "xx-0123abcd", ""};
    struct checkpoint *checkpoint = make_save();
    struct node_checkpoint *pub = &checkpoint->pub;
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(ids); i++) {
        (void)snprintf(pub->sandbox_id, sizeof(pub->sandbox_id), "%s", ids[i]);
        assert_int_equal(decode_config_of(checkpoint, NULL), SHL_ECORRUPT);
    }
    (void)snprintf(pub->sandbox_id, sizeof(pub->sandbox_id), "sb-0123abcd");
    pub->id[3] = '/';
    assert_int_equal(decode_config_of(checkpoint, NULL), SHL_ECORRUPT);
    pub->id[3] = '1';
    pub->spec.memory_mb = NODE_MEMORY_MAX_MB + 1;
    assert_int_equal(decode_config_of(checkpoint, NULL), SHL_ECORRUPT);
    pub->spec.memory_mb = NODE_MEMORY_MIN_MB;
    pub->spec.autosave_s = NODE_AUTOSAVE_MAX_S + 1;
    assert_int_equal(decode_config_of(checkpoint, NULL), SHL_ECORRUPT);
    pub->spec.autosave_s = 0;
    pub->disk_only = true;
    assert_int_equal(decode_config_of(checkpoint, NULL), SHL_ECORRUPT);
    pub->disk_only = false;
    checkpoint->stack.base[0] = '/';
    assert_int_equal(decode_config_of(checkpoint, NULL), SHL_ECORRUPT);
    checkpoint->stack.base[0] = 'b';
    pub->spec.org[0] = '\n';
    assert_int_equal(decode_config_of(checkpoint, NULL), SHL_ECORRUPT);
    pub->spec.org[0] = 'o';
    assert_int_equal(decode_config_of(checkpoint, NULL), 0);
    checkpoint_free(checkpoint);
}

/* ---- forks -------------------------------------------------------------------------- */

static void test_fork_inherits(void **state)
{
    const struct node_fork_spec changes = {.timeout_s = 5};
    struct node_sandbox_spec from, spec;

    (void)state;
    fill_spec(&from);
    assert_int_equal(fork_spec_merge(&from, &changes, &spec, NULL), 0);
    assert_string_equal(spec.org, "org");
    assert_string_equal(spec.template_name, "base");
    assert_int_equal(spec.cpus, 2);
    assert_int_equal(spec.memory_mb, 1024);
    assert_int_equal(spec.disk_mb, NODE_DISK_MIN_MB);
    assert_int_equal(spec.timeout_s, 5);
    assert_int_equal(spec.envs.count, 2);
    assert_int_equal(spec.metadata.count, 1);
    sandbox_spec_release(&spec);
    sandbox_spec_release(&from);
}

/* Records of preview hosts are those of the sandbox; the token that opens them is kept. */
static void test_fork_of_one_with_previews(void **state)
{
    const struct node_fork_spec changes = {.timeout_s = 5};
    struct node_preview preview = {.port = 80, .auth_config = (char *)"{}"};
    struct node_sandbox_spec from, spec;

    (void)state;
    fill_spec(&from);
    assert_int_equal(node_previews_add(&from.previews, &preview), 0);
    preview.port = 79;
    assert_int_equal(node_previews_add(&from.previews, &preview), 0);
    from.previews.has_token = true;
    from.previews.token_hash[0] = 7;
    assert_int_equal(fork_spec_merge(&from, &changes, &spec, NULL), 0);
    assert_int_equal(spec.previews.count, 0);
    assert_true(spec.previews.has_token);
    assert_int_equal(spec.previews.token_hash[0], 7);
    sandbox_spec_release(&spec);
    sandbox_spec_release(&from);
}

static void encode_spec(const struct node_sandbox_spec *spec, struct shl_buf *buf)
{
    struct shl_mp_writer w;

    shl_buf_init(buf, 65536);
    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    record_encode_spec(&w, spec);
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
}

static void test_spec_keeps_previews(void **state)
{
    struct node_preview preview = {
        .id = "an id", .port = 65535, .created_at_ms = 17, .auth_config = (char *)"{\"a\":1}"};
    struct node_sandbox_spec from, spec = {.org = ""};
    struct shl_mp_doc doc;
    struct shl_buf buf;

    (void)state;
    fill_spec(&from);
    assert_int_equal(node_previews_add(&from.previews, &preview), 0);
    preview.port = 1;
    assert_int_equal(node_previews_add(&from.previews, &preview), 0);
    assert_int_equal(node_previews_add(&from.previews, &preview), SHL_ECONFLICT);
    from.previews.has_token = true;
    from.previews.token_hash[31] = 9;
    encode_spec(&from, &buf);
    assert_int_equal(shl_mp_parse(&doc, shl_buf_bytes(&buf)), 0);
    assert_int_equal(record_decode_spec(doc.root, &spec), 0);
    assert_int_equal(spec.previews.count, 2);
    assert_int_equal(spec.previews.items[0].port, 1);
    assert_int_equal(spec.previews.items[1].port, 65535);
    assert_string_equal(spec.previews.items[1].id, "an id");
    assert_string_equal(spec.previews.items[1].auth_config, "{\"a\":1}");
    assert_int_equal(spec.previews.items[1].created_at_ms, 17);
    assert_true(spec.previews.has_token);
    assert_int_equal(spec.previews.token_hash[31], 9);
    shl_mp_release(&doc);
    shl_buf_release(&buf);
    sandbox_spec_release(&spec);
    sandbox_spec_release(&from);
}

static void test_fork_sizes(void **state)
{
    static const struct {
        uint32_t memory_mb, cpus, disk_mb; /* asked */
        uint32_t memory, processors, disk; /* got */
    } cases[] = {
        {512, 1, 1, 1024, 1, NODE_DISK_MIN_MB},
        {2048, 4, 40960, 2048, 4, 40960},
        {99999, 0, 0, NODE_MEMORY_MAX_MB, 2, NODE_DISK_MIN_MB},
        {UINT32_MAX, 3, NODE_DISK_MAX_MB, NODE_MEMORY_MAX_MB, 3, NODE_DISK_MAX_MB},
    };
    struct node_sandbox_spec from, spec;
    size_t i;

    (void)state;
    fill_spec(&from);
    for (i = 0; i < SHL_ARRAY_SIZE(cases); i++) {
        const struct node_fork_spec changes = {
            .memory_mb = cases[i].memory_mb, .cpus = cases[i].cpus, .disk_mb = cases[i].disk_mb};

        assert_int_equal(fork_spec_merge(&from, &changes, &spec, NULL), 0);
        assert_int_equal(spec.memory_mb, cases[i].memory);
        assert_int_equal(spec.cpus, cases[i].processors);
        assert_int_equal(spec.disk_mb, cases[i].disk);
        sandbox_spec_release(&spec);
    }
    sandbox_spec_release(&from);
}

static void test_fork_refuses(void **state)
{
    struct node_fork_spec changes = {.cpus = NODE_CPUS_MAX + 1};
    struct node_sandbox_spec from, spec;
    struct shl_err err = {0};
    char key[16];
    int i;

    (void)state;
    fill_spec(&from);
    assert_int_equal(fork_spec_merge(&from, &changes, &spec, &err), SHL_EINVALIDARG);
    changes = (struct node_fork_spec){.disk_mb = NODE_DISK_MAX_MB + 1};
    assert_int_equal(fork_spec_merge(&from, &changes, &spec, &err), SHL_EINVALIDARG);
    changes = (struct node_fork_spec){0};
    for (i = 0; i < NODE_KV_MAX - 1; i++) {
        (void)snprintf(key, sizeof(key), "K%d", i);
        assert_int_equal(node_kv_set(&changes.envs, key, "v"), 0);
    }
    assert_int_equal(fork_spec_merge(&from, &changes, &spec, &err), SHL_EINVALIDARG);
    node_kv_release(&changes.envs);
    sandbox_spec_release(&from);
}

static void test_fork_merges_variables(void **state)
{
    struct node_fork_spec changes = {0};
    struct node_sandbox_spec from, spec;

    (void)state;
    fill_spec(&from);
    assert_int_equal(node_kv_set(&changes.envs, "B", "other"), 0);
    assert_int_equal(node_kv_set(&changes.envs, "C", "3"), 0);
    assert_int_equal(node_kv_set(&changes.metadata, "team", "blue"), 0);
    assert_int_equal(fork_spec_merge(&from, &changes, &spec, NULL), 0);
    assert_int_equal(spec.envs.count, 3);
    assert_string_equal(spec.envs.items[0].value, "1");
    assert_string_equal(spec.envs.items[1].value, "other");
    assert_string_equal(spec.envs.items[2].value, "3");
    assert_int_equal(spec.metadata.count, 1);
    assert_string_equal(spec.metadata.items[0].value, "blue");
    assert_string_equal(from.envs.items[1].value, "2");
    node_kv_release(&changes.envs);
    node_kv_release(&changes.metadata);
    sandbox_spec_release(&spec);
    sandbox_spec_release(&from);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record_keeps_everything),
        cmocka_unit_test(test_record_of_a_failed_one),
        cmocka_unit_test(test_record_that_contradicts_itself),
        cmocka_unit_test(test_record_cut_anywhere),
        cmocka_unit_test(test_record_of_another_version),
        cmocka_unit_test(test_id_that_is_too_long),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_config_there_and_back),
        cmocka_unit_test(test_config_refused),
        cmocka_unit_test(test_fork_inherits),
        cmocka_unit_test(test_fork_of_one_with_previews),
        cmocka_unit_test(test_spec_keeps_previews),
        cmocka_unit_test(test_fork_sizes),
        cmocka_unit_test(test_fork_refuses),
        cmocka_unit_test(test_fork_merges_variables),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
