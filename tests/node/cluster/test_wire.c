/* Bodies and records between nodes: what is written is read, what is hostile is not. The corpus of
 * the fuzz target is made here (WRITE_CORPUS=FOLDER). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mp.h"
#include "node/cluster/wire.h"
#include "node/mesh/mesh.h"

static const uint8_t key[NODE_KEY_BYTES] = {9, 8, 7};
static const uint8_t cluster[NODE_CLUSTER_BYTES] = {1, 2, 3};

static void keep(const char *name, uint8_t reader, const struct shl_buf *buf)
{
    const char *dir = getenv("WRITE_CORPUS");
    char path[512];
    FILE *file;

    if (dir) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
        file = fopen(path, "w");
        assert_non_null(file);
        (void)fputc(reader, file);
        (void)fwrite(shl_buf_data(buf), 1, shl_buf_len(buf), file);
        (void)fclose(file);
    }
}

/* All that is shorter must be refused, and leak nothing. */
static void cut_short(const struct shl_buf *buf, int (*read)(struct shl_bytes body))
{
    size_t len;

    for (len = 0; len < shl_buf_len(buf); len++) {
        assert_true(read(shl_bytes_of(shl_buf_data(buf), len)) < 0);
    }
}

static int read_join(struct shl_bytes body)
{
    struct sched_cmd_node_join join;

    return cluster_wire_read_join(body, key, &join);
}

static void test_wire_join_request(void **state)
{
    struct node_join_token token = {.id = {5}, .secret = {6}};
    struct sched_node_spec self = {
        .name = "n", .control = "10.0.0.1:7", .role = SCHED_ROLE_WITNESS};
    struct sched_cmd_node_join join;
    uint8_t hash[NODE_JOIN_TOKEN_HASH_BYTES];
    struct shl_node_id id;
    struct shl_buf buf;

    (void)state;
    shl_buf_init(&buf, 4096);
    assert_int_equal(cluster_wire_write_join(&buf, &token, &self), 0);
    assert_int_equal(cluster_wire_read_join(shl_buf_bytes(&buf), key, &join), 0);
    node_mesh_keys_id(key, &id);
    assert_true(shl_node_id_equal(&join.node.id, &id)); /* proved, not claimed */
    assert_memory_equal(join.node.key, key, sizeof(key));
    assert_string_equal(join.node.name, "n");
    assert_string_equal(join.node.control, "10.0.0.1:7");
    assert_int_equal(join.node.role, SCHED_ROLE_WITNESS);
    node_join_token_hash(token.id, token.secret, hash);
    assert_memory_equal(join.secret_hash, hash, sizeof(hash)); /* the secret goes no further */
    cut_short(&buf, read_join);
    keep("join", 0, &buf);
    shl_buf_release(&buf);
}

/* What is longer than all members can keep. */
static void test_wire_join_request_with_a_long_name_is_refused(void **state)
{
    struct node_join_token token = {.id = {5}, .secret = {6}};
    struct sched_node_spec node = {.control = "10.0.0.1:7"};
    struct shl_buf buf;

    (void)state;
    memset(node.name, 'x', GOSSIP_NAME_SIZE);
    shl_buf_init(&buf, 4096);
    assert_int_equal(cluster_wire_write_join(&buf, &token, &node), 0);
    assert_int_equal(read_join(shl_buf_bytes(&buf)), SHL_EPROTO);
    shl_buf_release(&buf);
}

static int read_welcome(struct shl_bytes body)
{
    uint8_t ret[NODE_CLUSTER_BYTES];
    struct gossip_info *infos;
    uint32_t count;

    return cluster_wire_read_welcome(body, ret, &infos, &count);
}

static const struct shl_node_id self = {{3}};

static void apply(struct sched_state *s, uint64_t index, const struct sched_command *command)
{
    struct sched_result result;
    struct shl_err err = {0};
    struct shl_buf buf;

    shl_buf_init(&buf, SCHED_COMMAND_MAX);
    if (sched_command_encode(command, &buf, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(sched_state_apply(s, index, 1, shl_buf_bytes(&buf), &result), 0);
    assert_string_equal(result.err.msg, "");
    shl_buf_release(&buf);
}

static struct sched_state *state_of_one(void)
{
    const struct sched_state_config config = {0};
    struct sched_state *s = sched_state_new(&config);
    struct sched_command command = {.kind = SCHED_CLUSTER_INIT, .at_ms = 1};
    struct sched_node_spec *node = &command.u.cluster_init.node;

    memcpy(command.u.cluster_init.cluster, cluster, sizeof(cluster));
    command.u.cluster_init.lease_ms = 10000;
    memcpy(node->key, key, sizeof(key));
    node_mesh_keys_id(key, &node->id);
    (void)snprintf(node->name, sizeof(node->name), "first");
    (void)snprintf(node->control, sizeof(node->control), "10.0.0.1:7000");
    (void)snprintf(node->bulk, sizeof(node->bulk), "10.0.0.1:7000");
    node->role = SCHED_ROLE_VOTER;
    apply(s, 1, &command);
    return s;
}

static void test_wire_welcome(void **state)
{
    struct sched_state *s = state_of_one();
    uint8_t ret[NODE_CLUSTER_BYTES];
    struct gossip_info *infos;
    struct shl_buf buf;
    uint32_t count;

    (void)state;
    shl_buf_init(&buf, NODE_MESH_JOIN_MAX);
    assert_int_equal(cluster_wire_write_welcome(&buf, cluster, &self, s), 0);
    assert_int_equal(cluster_wire_read_welcome(shl_buf_bytes(&buf), ret, &infos, &count), 0);
    assert_memory_equal(ret, cluster, sizeof(ret));
    assert_int_equal(count, 1);
    assert_string_equal(infos[0].name, "first");
    assert_memory_equal(infos[0].key, key, sizeof(key));
    free(infos);
    cut_short(&buf, read_welcome);
    keep("welcome", 1, &buf);
    shl_buf_release(&buf);
    sched_state_free(s);
}

static void fill(char *dst, size_t size, char with)
{
    memset(dst, with, size - 1);
    dst[size - 1] = 0;
}

/* As many as there may be, with the longest texts: the answer fits and begins with us. */
static void test_wire_welcome_of_a_full_cluster_fits(void **state)
{
    struct sched_state *s = state_of_one();
    struct sched_command token = {.kind = SCHED_TOKEN_CREATE, .at_ms = 1};
    struct sched_command join = {.kind = SCHED_NODE_JOIN, .at_ms = 1};
    struct sched_node_spec *node = &join.u.node_join.node;
    uint8_t ret[NODE_CLUSTER_BYTES];
    struct shl_node_id last = {{0}};
    struct gossip_info *infos;
    struct shl_buf buf;
    uint32_t count, i;

    (void)state;
    token.u.token_create.ttl_ms = 1000;
    token.u.token_create.secret_hash[0] = 1;
    join.u.node_join.secret_hash[0] = 1;
    for (i = 1; i < SCHED_NODES_MAX; i++) {
        memcpy(token.u.token_create.token, &i, sizeof(i));
        memcpy(join.u.node_join.token, &i, sizeof(i));
        memcpy(node->key, &i, sizeof(i));
        node_mesh_keys_id(node->key, &node->id);
        fill(node->name, sizeof(node->name), 'n');
        (void)snprintf(node->name, 4, "%03u", i);
        node->name[3] = 'n';
        fill(node->control, sizeof(node->control), 'c');
        fill(node->bulk, sizeof(node->bulk), 'b');
        fill(node->domain, sizeof(node->domain), 'd');
        node->role = SCHED_ROLE_VOTER;
        apply(s, 2 * i, &token);
        apply(s, 2 * i + 1, &join);
        last = node->id;
    }
    shl_buf_init(&buf, NODE_MESH_JOIN_MAX);
    assert_int_equal(cluster_wire_write_welcome(&buf, cluster, &last, s), 0);
    assert_int_equal(cluster_wire_read_welcome(shl_buf_bytes(&buf), ret, &infos, &count), 0);
    assert_true(count >= 50);
    assert_true(shl_node_id_equal(&infos[0].id, &last));
    free(infos);
    shl_buf_release(&buf);
    sched_state_free(s);
}

static void test_wire_welcome_of_nobody_is_refused(void **state)
{
    const struct sched_state_config config = {0};
    struct sched_state *s = sched_state_new(&config);
    struct shl_buf buf;

    (void)state;
    shl_buf_init(&buf, NODE_MESH_JOIN_MAX);
    assert_int_equal(cluster_wire_write_welcome(&buf, cluster, &self, s), 0);
    assert_int_equal(read_welcome(shl_buf_bytes(&buf)), SHL_EPROTO);
    shl_buf_release(&buf);
    sched_state_free(s);
}

static int read_place(struct shl_bytes body)
{
    struct cluster_placing placing;

    return cluster_wire_read_place(body, &placing);
}

static void test_wire_place(void **state)
{
    const struct node_place what = {
        .org = "o", .template_name = "base", .cpus = 2, .memory_mb = 512, .disk_mb = 1024};
    struct node_place large = what, build = what;
    struct cluster_placing placing;
    struct shl_buf buf;

    (void)state;
    shl_buf_init(&buf, 4096);
    assert_int_equal(cluster_wire_write_place(&buf, &what), 0);
    assert_int_equal(cluster_wire_read_place(shl_buf_bytes(&buf), &placing), 0);
    assert_string_equal(placing.what.template_name, "base");
    assert_int_equal(placing.what.memory_mb, 512);
    assert_null(placing.what.build);
    cut_short(&buf, read_place);
    keep("place", 2, &buf);
    shl_buf_release(&buf);
    build.build = "img/o/ff.";
    build.joined_mb = 1024;
    shl_buf_init(&buf, 4096);
    assert_int_equal(cluster_wire_write_place(&buf, &build), 0);
    assert_int_equal(cluster_wire_read_place(shl_buf_bytes(&buf), &placing), 0);
    assert_string_equal(placing.what.build, "img/o/ff.");
    assert_int_equal(placing.what.joined_mb, 1024);
    cut_short(&buf, read_place);
    keep("place-build", 2, &buf);
    shl_buf_release(&buf);
    large.memory_mb = NODE_MEMORY_MAX_MB + 1;
    shl_buf_init(&buf, 4096);
    assert_int_equal(cluster_wire_write_place(&buf, &large), 0);
    assert_int_equal(read_place(shl_buf_bytes(&buf)), SHL_EPROTO);
    shl_buf_release(&buf);
}

static int read_placed(struct shl_bytes body)
{
    static const struct shl_node_id own = {{1}};
    struct node_answer answer;

    return cluster_wire_read_placed(body, &own, &answer);
}

static void test_wire_placed(void **state)
{
    static const struct shl_node_id own = {{1}};
    struct node_answer answer = {.target_count = 2, .refusal_count = 1}, ret;
    struct shl_buf buf;

    (void)state;
    answer.targets[0].id = (struct shl_node_id){{2}};
    answer.targets[1].id = own;
    (void)snprintf(answer.targets[0].name, sizeof(answer.targets[0].name), "two");
    (void)snprintf(answer.refusals[0].name, sizeof(answer.refusals[0].name), "three");
    (void)snprintf(answer.refusals[0].reason, sizeof(answer.refusals[0].reason), "is draining");
    shl_buf_init(&buf, 4096);
    assert_int_equal(cluster_wire_write_placed(&buf, &answer), 0);
    assert_int_equal(cluster_wire_read_placed(shl_buf_bytes(&buf), &own, &ret), 0);
    assert_int_equal(ret.target_count, 2);
    assert_false(ret.targets[0].is_local);
    assert_true(ret.targets[1].is_local);
    assert_string_equal(ret.refusals[0].reason, "is draining");
    cut_short(&buf, read_placed);
    keep("placed", 3, &buf);
    shl_buf_release(&buf);
    answer.target_count = 0; /* "yes", and nowhere to go */
    shl_buf_init(&buf, 4096);
    assert_int_equal(cluster_wire_write_placed(&buf, &answer), 0);
    assert_int_equal(read_placed(shl_buf_bytes(&buf)), SHL_EPROTO);
    shl_buf_release(&buf);
}

static int read_where(struct shl_bytes body)
{
    struct cluster_question question;

    return cluster_wire_read_where(body, &question);
}

static void test_wire_where(void **state)
{
    const struct node_where what = {.org = "org", .id = "sb-1"};
    struct cluster_question question;
    struct shl_buf buf;

    (void)state;
    shl_buf_init(&buf, 4096);
    assert_int_equal(cluster_wire_write_where(&buf, true, &what), 0);
    assert_int_equal(cluster_wire_read_where(shl_buf_bytes(&buf), &question), 0);
    assert_true(question.is_checkpoint);
    assert_string_equal(question.org, "org");
    assert_string_equal(question.id, "sb-1");
    cut_short(&buf, read_where);
    keep("where", 4, &buf);
    shl_buf_release(&buf);
}

static int read_figures(struct shl_bytes value)
{
    struct cluster_figures figures;

    return cluster_wire_read_figures(value, &figures);
}

static void test_wire_figures(void **state)
{
    struct cluster_figures figures = {.region = "eu", .cpus_total = 8, .admitted = UINT64_MAX}, ret;
    struct shl_buf buf;

    (void)state;
    shl_buf_init(&buf, 4096);
    assert_int_equal(cluster_wire_write_figures(&buf, &figures), 0);
    assert_int_equal(cluster_wire_read_figures(shl_buf_bytes(&buf), &ret), 0);
    assert_string_equal(ret.region, "eu");
    assert_int_equal(ret.cpus_total, 8);
    assert_true(ret.admitted == UINT64_MAX);
    cut_short(&buf, read_figures);
    keep("figures", 5, &buf);
    shl_buf_release(&buf);
}

static void write_sandbox_record(struct shl_buf *buf, const char *reason)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "org", "o");
    shl_mp_kv_str(&w, "status", "error");
    shl_mp_kv_str(&w, "reason", reason);
    shl_mp_kv_str(&w, "template", "base");
    shl_mp_kv_uint(&w, "cpus", 1);
    shl_mp_kv_uint(&w, "memory_mb", 2);
    shl_mp_kv_uint(&w, "disk_mb", 3);
    shl_mp_kv_uint(&w, "timeout_s", 4);
    shl_mp_kv_int(&w, "created_at_ms", INT64_MIN);
    shl_mp_kv_str(&w, "later", "is skipped");
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
}

static void expect_reason(const char *sent, const char *read)
{
    struct cluster_sandbox sandbox;
    struct shl_buf buf;

    shl_buf_init(&buf, 4096);
    write_sandbox_record(&buf, sent);
    assert_int_equal(cluster_wire_read_sandbox(shl_buf_bytes(&buf), &sandbox), 0);
    assert_string_equal(sandbox.pub.reason, read);
    shl_buf_release(&buf);
}

static int read_sandbox(struct shl_bytes value)
{
    struct cluster_sandbox sandbox;

    return cluster_wire_read_sandbox(value, &sandbox);
}

static void test_wire_sandbox_and_its_texts(void **state)
{
    char org[NODE_ORG_ID_SIZE];
    struct shl_buf buf;

    (void)state;
    expect_reason("plain", "plain");
    expect_reason("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\x9f",
                  "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\x9f");
    expect_reason("a\nb\x7f", "a?b?");
    expect_reason("\xff\xfe", "??");
    expect_reason("cut \xe2\x82", "cut ??");
    expect_reason("\xc0\xaf \xe0\x80\xaf", "?? ???"); /* overlong */
    expect_reason("\xed\xa0\x80", "???");             /* a surrogate */
    expect_reason("\xf4\x90\x80\x80", "????");        /* beyond the last character */
    shl_buf_init(&buf, 4096);
    write_sandbox_record(&buf, "kernel panic");
    assert_int_equal(cluster_wire_read_org(shl_buf_bytes(&buf), org), 0);
    assert_string_equal(org, "o");
    cut_short(&buf, read_sandbox);
    keep("sandbox", 6, &buf);
    shl_buf_release(&buf);
}

static int read_drop(struct shl_bytes body)
{
    struct cluster_drop drop;

    return cluster_wire_read_drop(body, &drop);
}

static int read_drop_answer(struct shl_bytes body)
{
    bool yes;

    return cluster_wire_read_drop_answer(body, &yes);
}

static void test_wire_drop(void **state)
{
    struct cluster_drop drop = {.token = UINT64_MAX, .manifest = {1, 2, 3}}, again;
    struct shl_mp_writer w;
    struct shl_buf buf;
    bool yes = false;

    (void)state;
    shl_buf_init(&buf, 4096);
    assert_int_equal(cluster_wire_write_drop(&buf, &drop), 0);
    assert_int_equal(cluster_wire_read_drop(shl_buf_bytes(&buf), &again), 0);
    assert_true(again.token == drop.token);
    assert_memory_equal(again.manifest, drop.manifest, sizeof(drop.manifest));
    cut_short(&buf, read_drop);
    keep("drop", 7, &buf);
    shl_buf_clear(&buf);
    assert_int_equal(cluster_wire_write_drop_answer(&buf, true), 0);
    assert_int_equal(cluster_wire_read_drop_answer(shl_buf_bytes(&buf), &yes), 0);
    assert_true(yes);
    cut_short(&buf, read_drop_answer);
    keep("drop_answer", 8, &buf);
    /* a manifest of another length */
    shl_buf_clear(&buf);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", 1);
    shl_mp_kv_uint(&w, "token", 1);
    shl_mp_kv_bin(&w, "manifest", drop.manifest, 31);
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    assert_int_equal(read_drop(shl_buf_bytes(&buf)), SHL_EPROTO);
    shl_buf_release(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wire_join_request),
        cmocka_unit_test(test_wire_join_request_with_a_long_name_is_refused),
        cmocka_unit_test(test_wire_welcome),
        cmocka_unit_test(test_wire_welcome_of_a_full_cluster_fits),
        cmocka_unit_test(test_wire_welcome_of_nobody_is_refused),
        cmocka_unit_test(test_wire_place),
        cmocka_unit_test(test_wire_placed),
        cmocka_unit_test(test_wire_where),
        cmocka_unit_test(test_wire_figures),
        cmocka_unit_test(test_wire_sandbox_and_its_texts),
        cmocka_unit_test(test_wire_drop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
