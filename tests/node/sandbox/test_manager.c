/* The sandbox manager with fake_vmm in place of shoal-vmm: real processes and sockets,
 * no KVM, no root. Nothing here measures time; limits are short so that a test of them
 * is quick, and the guard only catches a hang. */
#include <unistd.h>

#include "node/sandbox/sandbox.h"
#include "tests/node/sandbox/fixture.h"

/* ---- creating and killing -------------------------------------------------------- */

static void test_create_runs_and_kill_removes_all(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    struct node_manager_counts counts;

    open_manager(fix);
    sandbox = create(fix, "plain");
    assert_string_equal(node_sandbox_status(sandbox), "running");
    assert_int_equal(strlen(sandbox->id), 11);
    assert_int_equal(run_op(fix, sandbox, "ping"), 0);
    assert_int_equal(count_sandbox_folders(fix), 1);
    assert_int_equal(count_layers(fix, "disk"), 1);
    node_manager_count(fix->manager, &counts);
    assert_int_equal(counts.running, 1);
    assert_int_equal(counts.memory_committed_mb, 512);
    kill_now(fix, sandbox);
    assert_int_equal(sandbox->state, NODE_SANDBOX_STOPPED);
    assert_string_equal(sandbox->reason, "killed");
    assert_null(sandbox->agent);
    assert_true(sandbox->ended_at_ms >= sandbox->created_at_ms);
    assert_int_equal(count_sandbox_folders(fix), 0);
    assert_int_equal(vmm_pid(fix, sandbox->id), 0);
    kill_now(fix, sandbox); /* again is fine */
    assert_null(node_manager_find(fix->manager, "another", sandbox->id));
}

static void test_create_hands_over_what_was_asked(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox_spec spec = make_spec("plain");
    struct answer answer = {0};
    struct shl_bytes entropy;
    struct shl_mp_doc doc;
    struct shl_buf buf;
    uint64_t number;
    char text[64];

    open_manager(fix);
    spec.cpus = 3;
    spec.memory_mb = 1024;
    assert_int_equal(node_kv_set(&spec.envs, "COLOUR", "blue"), 0);
    assert_int_equal(node_manager_create(fix->manager, &spec, on_created, &answer, NULL), 0);
    node_kv_release(&spec.envs);
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, 0);
    read_saved(fix, answer.sandbox->id, "start.msgpack", &buf, &doc);
    assert_int_equal(shl_mp_get_uint(doc.root, "vcpus", 64, &number), 0);
    assert_int_equal(number, 4); /* one shape for all; setup says how many are used */
    assert_int_equal(shl_mp_get_uint(doc.root, "memory_bytes", UINT64_MAX, &number), 0);
    assert_int_equal(number, 512ull << 20);
    assert_int_equal(shl_mp_get_uint(doc.root, "hotplug_max_bytes", UINT64_MAX, &number), 0);
    assert_int_equal(number, 15872ull << 20);
    assert_int_equal(shl_mp_get_uint(doc.root, "hotplug_bytes", UINT64_MAX, &number), 0);
    assert_int_equal(number, 512ull << 20);
    assert_int_equal(shl_mp_get_uint(doc.root, "disk_bytes", UINT64_MAX, &number), 0);
    assert_int_equal(number, 20480ull << 20);
    assert_int_equal(shl_mp_get_cpy(doc.root, "mac", text, sizeof(text)), 0);
    assert_int_equal(strncmp(text, "02:53:", 6), 0);
    shl_mp_release(&doc);
    shl_buf_release(&buf);
    read_saved(fix, answer.sandbox->id, "setup.msgpack", &buf, &doc);
    assert_int_equal(shl_mp_get_cpy(doc.root, "hostname", text, sizeof(text)), 0);
    assert_string_equal(text, answer.sandbox->id);
    assert_int_equal(shl_mp_get_cpy(shl_mp_find(doc.root, "env"), "COLOUR", text, sizeof(text)), 0);
    assert_string_equal(text, "blue");
    assert_int_equal(shl_mp_get_bin(doc.root, "entropy", &entropy), 0);
    assert_int_equal(entropy.len, 64);
    assert_int_equal(shl_mp_get_uint(doc.root, "cpus", 64, &number), 0);
    assert_int_equal(number, 3);
    assert_int_equal(shl_mp_get_uint(doc.root, "memory_bytes", UINT64_MAX, &number), 0);
    assert_int_equal(number, 1024ull << 20);
    assert_int_equal(shl_mp_get_cpy(doc.root, "machine_id", text, sizeof(text)), 0);
    shl_mp_release(&doc);
    shl_buf_release(&buf);
}

/* The largest lists that are accepted go through record and setup. */
static void test_create_with_full_lists(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox_spec spec = make_spec("plain");
    struct answer answer = {0};
    char *big = malloc(NODE_KV_BYTES_MAX);
    char id[NODE_SANDBOX_ID_SIZE];

    memset(big, 'x', NODE_KV_BYTES_MAX);
    big[NODE_KV_BYTES_MAX - 1] = '\0';
    assert_int_equal(node_kv_set(&spec.envs, "E", big), 0);
    assert_int_equal(node_kv_set(&spec.metadata, "M", big), 0);
    open_manager(fix);
    assert_int_equal(node_manager_create(fix->manager, &spec, on_created, &answer, NULL), 0);
    node_kv_release(&spec.envs);
    node_kv_release(&spec.metadata);
    RUN_UNTIL(fix, answer.done);
    if (answer.code < 0) {
        fail_msg("%s", answer.msg);
    }
    (void)snprintf(id, sizeof(id), "%s", answer.sandbox->id);
    close_manager(fix);
    open_manager(fix);
    assert_string_equal(find(fix, id)->spec.envs.items[0].value, big);
    assert_string_equal(find(fix, id)->spec.metadata.items[0].value, big);
    free(big);
}

#define STORE_ID "00000000-0000-4000-8000-000000000001"

static void begin_with_store(struct fixture *fix, struct answer *answer)
{
    struct node_sandbox_spec spec = make_spec("plain");

    add_file(fix, "templates/plain/disk.raw", "plain");
    assert_int_equal(node_secret_use_add_store(&spec.secrets, STORE_ID, "store"), 0);
    assert_int_equal(node_secret_use_add(&spec.secrets, "KEY", STORE_ID), 0);
    assert_int_equal(node_manager_create(fix->manager, &spec, on_created, answer, NULL), 0);
    node_secret_use_release(&spec.secrets);
}

/* Else what it sends through the gateway would fail, for as long as it lives. */
static void test_create_with_secrets_waits_for_certificates(void **state)
{
    struct fixture *fix = *state;
    struct node_trusted *list = calloc(1, sizeof(*list));
    struct answer answer = {0};
    struct sandbox *sandbox;

    open_manager(fix);
    node_manager_expect_trusted(fix->manager);
    begin_with_store(fix, &answer);
    sandbox = shl_container_of(fix->manager->sandboxes.next, struct sandbox, pub.link);
    RUN_UNTIL(fix, sandbox->trust_due);
    (void)create(fix, "plain"); /* one without secrets does not wait */
    assert_false(answer.done);
    list[0] = (struct node_trusted){.hash = "0123abcd", .pem = strdup("a certificate")};
    node_manager_set_trusted(fix->manager, list, 1);
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, 0);
    answer = (struct answer){0};
    begin_with_store(fix, &answer);
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, 0);
}

static void test_create_says_that_certificates_did_not_come(void **state)
{
    struct fixture *fix = *state;
    struct answer answer = {0};

    fix->config.boot_ms = 1000;
    open_manager(fix);
    node_manager_expect_trusted(fix->manager);
    begin_with_store(fix, &answer);
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, SHL_EUNAVAILABLE);
    assert_non_null(strstr(answer.msg, "authority of its egress gateway"));
}

static void check_refused(struct fixture *fix,
                          const struct node_sandbox_spec *spec,
                          int code,
                          const char *text)
{
    struct shl_err err = {0};

    assert_int_equal(node_manager_create(fix->manager, spec, on_created, NULL, &err), code);
    assert_int_equal(err.code, code);
    if (!strstr(err.msg, text)) {
        fail_msg("'%s' is not in '%s'", text, err.msg);
    }
}

static void test_create_refuses_bad_requests(void **state)
{
    static const char *const names[] = {"nope", "", "..", "../plain", "a/b", ".hidden", "x y"};
    struct fixture *fix = *state;
    struct node_sandbox_spec spec = make_spec("plain");
    char path[256];
    size_t i;

    open_manager(fix);
    for (i = 0; i < SHL_ARRAY_SIZE(names); i++) {
        struct node_sandbox_spec other = make_spec(names[i]);

        check_refused(fix, &other, SHL_ENOTFOUND, "template not found");
    }
    spec.cpus = 5;
    check_refused(fix, &spec, SHL_EINVALIDARG, "cpus must be 1 to 4");
    spec.cpus = 1;
    spec.memory_mb = 511;
    check_refused(fix, &spec, SHL_EINVALIDARG, "memory must be 512 to");
    spec.memory_mb = 512;
    spec.disk_mb = 20479;
    check_refused(fix, &spec, SHL_EINVALIDARG, "disk must be 20480 to");
    spec.disk_mb = 20480;
    assert_int_equal(node_kv_set(&spec.envs, "A=B", "x"), 0);
    check_refused(fix, &spec, SHL_EINVALIDARG, "environment variable");
    node_kv_release(&spec.envs);
    add_file(fix, "templates/huge/disk.raw", "");
    (void)snprintf(path, sizeof(path), "%s/templates/huge/disk.raw", fix->data);
    assert_int_equal(truncate(path, (off_t)20481 << 20), 0);
    spec = make_spec("huge");
    check_refused(fix, &spec, SHL_EINVALIDARG, "needs a disk of at least 20481 MB");
    assert_int_equal(count_sandbox_folders(fix), 0);
}

static void test_create_respects_capacity(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox_spec spec = make_spec("plain");
    struct node_sandbox *first;

    fix->config.memory_usable_mb = 1500;
    fix->config.sandboxes_max = 2;
    open_manager(fix);
    first = create(fix, "plain");
    spec.memory_mb = 1024;
    check_refused(fix, &spec, SHL_ENOCAPACITY, "1024 MB of memory are asked for and 988 MB");
    (void)create(fix, "plain");
    spec.memory_mb = 512;
    check_refused(fix, &spec, SHL_EQUOTA, "runs 2 sandboxes, its limit");
    kill_now(fix, first);
    (void)create(fix, "plain");
}

static void test_kv_limits(void **state)
{
    struct node_kv_list list = {0};
    char key[16];
    char *big = malloc(NODE_KV_BYTES_MAX);
    int i;

    (void)state;
    memset(big, 'x', NODE_KV_BYTES_MAX);
    big[NODE_KV_BYTES_MAX - 1] = '\0';
    assert_int_equal(node_kv_set(&list, "k", big), 0);
    assert_int_equal(node_kv_set(&list, "k", big), 0); /* replaces */
    assert_int_equal(list.count, 1);
    assert_int_equal(node_kv_set(&list, "l", ""), SHL_ELIMIT);
    node_kv_release(&list);
    for (i = 0; i < NODE_KV_MAX; i++) {
        (void)snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(node_kv_set(&list, key, "v"), 0);
    }
    assert_int_equal(node_kv_set(&list, "more", "v"), SHL_ELIMIT);
    node_kv_release(&list);
    free(big);
}

static void test_kill_while_starting(void **state)
{
    struct fixture *fix = *state;
    struct answer created[3];
    struct answer killed[3] = {0};
    int i;

    fix->config.boots_max = 2;
    open_manager(fix);
    for (i = 0; i < 3; i++) {
        begin_create(fix, "silent", &created[i]);
    }
    /* one at its very first step, one still in the queue, one with a VMM */
    RUN_UNTIL(fix, count_sandbox_folders(fix) >= 1);
    node_manager_each(fix->manager, ORG, kill_each, fix);
    RUN_UNTIL(fix, created[0].done && created[1].done && created[2].done);
    for (i = 0; i < 3; i++) {
        assert_int_equal(created[i].code, SHL_EGONE);
        assert_string_equal(created[i].msg, "killed");
        node_manager_kill(fix->manager, created[i].sandbox, on_killed, &killed[i]);
    }
    RUN_UNTIL(fix, killed[0].done && killed[1].done && killed[2].done);
    assert_int_equal(created[0].sandbox->state, NODE_SANDBOX_STOPPED);
    assert_int_equal(count_sandbox_folders(fix), 0);
}

static bool count_each(void *arg, struct node_sandbox *sandbox)
{
    (void)sandbox;
    ++*(int *)arg;
    return true;
}

/* A burst waits its turn instead of timing out together. */
static void test_burst_boots_a_few_at_a_time(void **state)
{
    struct fixture *fix = *state;
    struct answer answers[5];
    char path[256];
    int listed = 0;
    int i;

    fix->config.boots_max = 2;
    open_manager(fix);
    for (i = 0; i < 5; i++) {
        begin_create(fix, "gate", &answers[i]);
    }
    node_manager_each(fix->manager, ORG, count_each, &listed);
    assert_int_equal(listed, 5);
    RUN_UNTIL(fix, count_entries(fix->run) == 2);
    for (i = 0; i < 20; i++) {
        (void)uv_run(&fix->loop, UV_RUN_NOWAIT);
    }
    assert_int_equal(count_entries(fix->run), 2);
    (void)snprintf(path, sizeof(path), "%s/templates/gate/open", fix->data);
    write_text(path, "");
    for (i = 0; i < 5; i++) {
        RUN_UNTIL(fix, answers[i].done);
        assert_int_equal(answers[i].code, 0);
    }
}

/* ---- idle ------------------------------------------------------------------------ */

static struct node_sandbox *create_timed(struct fixture *fix, uint32_t timeout_s)
{
    struct node_sandbox_spec spec = make_spec("plain");
    struct answer answer = {0};

    spec.timeout_s = timeout_s;
    assert_int_equal(node_manager_create(fix->manager, &spec, on_created, &answer, NULL), 0);
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, 0);
    return answer.sandbox;
}

/* Two with the same limit: the one that is held outlives the other. */
static void test_idle_hibernates_unless_held(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *held, *idle, *never;

    open_manager(fix);
    never = create_timed(fix, 0);
    held = create_timed(fix, 1);
    node_sandbox_hold(held);
    node_sandbox_hold(held);
    assert_int_equal(held->end_at_ms, 0);
    idle = create_timed(fix, 1);
    assert_true(idle->end_at_ms > idle->created_at_ms);
    RUN_UNTIL(fix, idle->state == NODE_SANDBOX_HIBERNATED);
    assert_int_equal(held->state, NODE_SANDBOX_RUNNING);
    node_sandbox_release(held);
    assert_int_equal(held->end_at_ms, 0);
    node_sandbox_release(held);
    assert_true(held->end_at_ms > 0);
    RUN_UNTIL(fix, held->state == NODE_SANDBOX_HIBERNATED);
    assert_int_equal(never->state, NODE_SANDBOX_RUNNING);
    assert_int_equal(never->end_at_ms, 0);
    node_sandbox_touch(idle); /* of one that does not run: nothing */
    assert_int_equal(idle->end_at_ms, 0);
    kill_now(fix, idle);
    node_sandbox_touch(idle);
    assert_int_equal(node_sandbox_set_timeout(idle, 5), SHL_EGONE);
}

static void test_set_timeout_is_durable(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    char id[NODE_SANDBOX_ID_SIZE];

    open_manager(fix);
    sandbox = create_timed(fix, 0);
    (void)snprintf(id, NODE_SANDBOX_ID_SIZE, "%s", sandbox->id);
    assert_int_equal(node_sandbox_set_timeout(sandbox, 1000), 0);
    assert_true(sandbox->end_at_ms > 0);
    assert_int_equal(node_sandbox_set_timeout(sandbox, 0), 0);
    assert_int_equal(sandbox->end_at_ms, 0);
    assert_int_equal(node_sandbox_set_timeout(sandbox, 777), 0);
    close_manager(fix);
    open_manager(fix);
    assert_int_equal(find(fix, id)->spec.timeout_s, 777);
    assert_true(find(fix, id)->end_at_ms > 0);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_create_runs_and_kill_removes_all),
        TEST(test_create_hands_over_what_was_asked),
        TEST(test_create_with_full_lists),
        TEST(test_create_with_secrets_waits_for_certificates),
        TEST(test_create_says_that_certificates_did_not_come),
        TEST(test_create_refuses_bad_requests),
        TEST(test_create_respects_capacity),
        cmocka_unit_test(test_kv_limits),
        TEST(test_kill_while_starting),
        TEST(test_burst_boots_a_few_at_a_time),
        TEST(test_idle_hibernates_unless_held),
        TEST(test_set_timeout_is_durable),
    };

    cmocka_set_test_filter(getenv("SHOAL_TEST_ONLY"));
    return cmocka_run_group_tests_name("node/manager", tests, NULL, NULL);
}
