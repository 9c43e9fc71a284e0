/* The sandbox manager with fake_vmm in place of shoal-vmm: real processes and sockets,
 * no KVM, no root. Nothing here measures time; limits are short so that a test of them
 * is quick, and the guard only catches a hang. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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

/* ---- starts that fail ------------------------------------------------------------ */

static void test_start_refused_by_the_vmm(void **state)
{
    struct fixture *fix = *state;
    struct answer answer;

    open_manager(fix);
    create_failing(fix, "start_fails", &answer);
    assert_int_equal(answer.code, SHL_ENOKVM);
    assert_non_null(strstr(answer.msg, "KVM said no"));
}

static void test_setup_refused_by_the_guest(void **state)
{
    struct fixture *fix = *state;
    struct answer answer;

    open_manager(fix);
    create_failing(fix, "setup_fails", &answer);
    assert_string_equal(answer.msg, "the guest could not be set up: no such disk");
}

static void test_panic_while_booting(void **state)
{
    struct fixture *fix = *state;
    struct answer answer;

    open_manager(fix);
    create_failing(fix, "panic", &answer);
    assert_int_equal(answer.code, SHL_EGUEST);
    assert_string_equal(answer.msg, "kernel panic - not syncing: VFS");
}

static void test_silent_guest_hits_the_limit(void **state)
{
    struct fixture *fix = *state;
    struct answer answer;

    fix->config.boot_ms = 1000;
    open_manager(fix);
    create_failing(fix, "silent", &answer);
    assert_int_equal(answer.code, -ETIMEDOUT);
    assert_non_null(strstr(answer.msg, "did not become ready within 1 s"));
    assert_non_null(strstr(answer.msg, "'no root device'"));
}

static void test_vmm_that_talks_nonsense(void **state)
{
    struct fixture *fix = *state;
    struct answer answer;

    open_manager(fix);
    create_failing(fix, "bad_reply", &answer);
    assert_string_equal(answer.msg, "the VMM sent a control frame that is not valid");
}

static void test_vmm_that_never_answers(void **state)
{
    struct fixture *fix = *state;
    struct answer answer;

    fix->config.boot_ms = 500;
    open_manager(fix);
    create_failing(fix, "no_reply", &answer);
    assert_int_equal(answer.code, -ETIMEDOUT);
}

static void test_vmm_that_exits_at_once(void **state)
{
    struct fixture *fix = *state;
    struct answer answer;

    fix->config.vmm_path = "/bin/false";
    open_manager(fix);
    create_failing(fix, "plain", &answer);
    assert_non_null(strstr(answer.msg, "the VMM exited with status 1"));
}

static void test_vmm_without_permission_to_run(void **state)
{
    struct fixture *fix = *state;
    struct answer answer;

    add_file(fix, "not-a-program", "#!/nonexistent/interpreter\n");
    (void)snprintf(fix->vmm, sizeof(fix->vmm), "%s/not-a-program", fix->data);
    assert_int_equal(chmod(fix->vmm, 0700), 0);
    open_manager(fix);
    create_failing(fix, "plain", &answer);
    assert_non_null(strstr(answer.msg, "the VMM could not be started"));
}

static void test_open_says_what_is_missing(void **state)
{
    struct fixture *fix = *state;
    struct shl_err err = {0};
    char path[256];

    fix->config.kvm_path = "/nonexistent/kvm";
    assert_int_equal(try_open(fix, &err), SHL_ENOKVM);
    assert_non_null(strstr(err.msg, "no KVM"));
    fix->config.kvm_path = "/dev/null";
    fix->config.vmm_path = "/nonexistent/vmm";
    assert_int_equal(try_open(fix, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "--vmm"));
    fix->config.vmm_path = fix->vmm;
    (void)snprintf(path, sizeof(path), "%s/kernel/initrd", fix->data);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(try_open(fix, &err), -ENOENT);
    assert_non_null(strstr(err.msg, "guest kernel"));
}

/* ---- ends ------------------------------------------------------------------------ */

static void test_panic_ends_with_reason(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    struct answer answer;

    open_manager(fix);
    sandbox = create(fix, "plain");
    begin_op(sandbox, "panic", &answer);
    RUN_UNTIL(fix, answer.done);
    wait_gone(fix, sandbox);
    assert_true(answer.code < 0);
    assert_int_equal(sandbox->state, NODE_SANDBOX_ERROR);
    assert_string_equal(sandbox->reason, "kernel panic - not syncing:  [1mtest");
}

static void test_poweroff_is_a_stop(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;

    open_manager(fix);
    sandbox = create(fix, "plain");
    assert_true(run_op(fix, sandbox, "poweroff") < 0);
    wait_gone(fix, sandbox);
    assert_int_equal(sandbox->state, NODE_SANDBOX_STOPPED);
    assert_string_equal(sandbox->reason, "the guest powered itself off");
}

static void test_killed_vmm_names_the_signal(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;

    open_manager(fix);
    sandbox = create(fix, "plain");
    assert_int_equal(kill(vmm_pid(fix, sandbox->id), SIGKILL), 0);
    wait_gone(fix, sandbox);
    assert_int_equal(sandbox->state, NODE_SANDBOX_ERROR);
    assert_string_equal(sandbox->reason, "the VMM was killed by signal 9 (KILL)");
}

static void test_one_bad_guest_leaves_the_others(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *good, *bad;

    open_manager(fix);
    good = create(fix, "plain");
    bad = create(fix, "plain");
    (void)run_op(fix, bad, "panic");
    RUN_UNTIL(fix, bad->state == NODE_SANDBOX_ERROR);
    assert_int_equal(run_op(fix, good, "ping"), 0);
    assert_int_equal(good->state, NODE_SANDBOX_RUNNING);
}

static void test_lost_agent_link_comes_back(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;

    open_manager(fix);
    sandbox = create(fix, "plain");
    assert_int_equal(run_op(fix, sandbox, "drop"), SHL_EUNAVAILABLE);
    assert_int_equal(run_op(fix, sandbox, "ping"), 0);
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
}

static void test_silent_agent_ends_the_sandbox(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;

    fix->config.silent_ms = 500;
    open_manager(fix);
    sandbox = create(fix, "plain");
    (void)run_op(fix, sandbox, "mute");
    wait_gone(fix, sandbox);
    assert_int_equal(sandbox->state, NODE_SANDBOX_ERROR);
    assert_non_null(strstr(sandbox->reason, "the guest agent does not answer"));
}

static void test_hostile_agent_ends_the_sandbox(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;

    open_manager(fix);
    sandbox = create(fix, "plain");
    assert_int_equal(run_op(fix, sandbox, "garbage"), SHL_EUNAVAILABLE);
    assert_int_equal(run_op(fix, sandbox, "ping"), 0); /* forgiven once */
    assert_int_equal(run_op(fix, sandbox, "garbage"), SHL_EGONE);
    wait_gone(fix, sandbox);
    assert_int_equal(sandbox->state, NODE_SANDBOX_ERROR);
    assert_non_null(strstr(sandbox->reason, "broke its protocol"));
}

static void test_vmm_that_ignores_stop_is_killed(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;

    fix->config.stop_ms = 100;
    open_manager(fix);
    sandbox = create(fix, "ignore_stop");
    kill_now(fix, sandbox);
    assert_int_equal(sandbox->state, NODE_SANDBOX_STOPPED);
    assert_int_equal(vmm_pid(fix, sandbox->id), 0);
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

/* ---- restarts -------------------------------------------------------------------- */

static void test_restart_adopts_running_ones(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    char id[NODE_SANDBOX_ID_SIZE];
    struct answer answer;
    pid_t pid;

    open_manager(fix);
    sandbox = create(fix, "plain");
    (void)snprintf(id, NODE_SANDBOX_ID_SIZE, "%s", sandbox->id);
    pid = vmm_pid(fix, id);
    begin_op(sandbox, "mute", &answer); /* in flight while the daemon goes */
    close_manager(fix);
    assert_true(answer.done);
    assert_int_equal(answer.code, SHL_EUNAVAILABLE);
    assert_int_equal(vmm_pid(fix, id), pid);
    open_manager(fix);
    sandbox = find(fix, id);
    assert_int_equal(sandbox->state, NODE_SANDBOX_RUNNING);
    assert_int_equal(vmm_pid(fix, id), pid);
    kill_now(fix, sandbox);
}

static void test_restarted_daemon_talks_to_the_guest(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    char id[NODE_SANDBOX_ID_SIZE];
    int i;

    open_manager(fix);
    (void)snprintf(id, NODE_SANDBOX_ID_SIZE, "%s", create(fix, "plain")->id);
    for (i = 0; i < 3; i++) {
        close_manager(fix);
        open_manager(fix);
        sandbox = find(fix, id);
        assert_int_equal(run_op(fix, sandbox, "ping"), 0);
    }
    assert_true(run_op(fix, sandbox, "panic") < 0);
    wait_gone(fix, sandbox);
    assert_string_equal(sandbox->reason, "kernel panic - not syncing:  [1mtest");
}

/* A daemon in a process of its own, killed hard while its sandbox runs, or starts. */
static void crash_daemon(struct fixture *fix,
                         const char *behaviour,
                         bool wait_running,
                         char id[NODE_SANDBOX_ID_SIZE])
{
    int pipe_fds[2];
    int status;
    pid_t pid;

    memset(id, 0, NODE_SANDBOX_ID_SIZE);
    assert_int_equal(pipe(pipe_fds), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct answer answer;

        (void)uv_loop_fork(&fix->loop);
        open_manager(fix);
        begin_create(fix, behaviour, &answer);
        if (wait_running) {
            RUN_UNTIL(fix, answer.done);
        } else {
            RUN_UNTIL(fix, count_entries(fix->run) == 1);
        }
        if (answer.done) {
            (void)snprintf(id, NODE_SANDBOX_ID_SIZE, "%s", answer.sandbox->id);
        }
        (void)!write(pipe_fds[1], id, NODE_SANDBOX_ID_SIZE);
        (void)kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(read(pipe_fds[0], id, NODE_SANDBOX_ID_SIZE), NODE_SANDBOX_ID_SIZE);
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
}

static void test_killed_daemon_loses_no_vm(void **state)
{
    struct fixture *fix = *state;
    char id[NODE_SANDBOX_ID_SIZE];

    crash_daemon(fix, "plain", true, id);
    assert_int_not_equal(vmm_pid(fix, id), 0);
    open_manager(fix);
    assert_int_equal(find(fix, id)->state, NODE_SANDBOX_RUNNING);
    assert_int_equal(run_op(fix, find(fix, id), "ping"), 0);
    kill_now(fix, find(fix, id));
    assert_int_equal(vmm_pid(fix, id), 0);
}

static bool first_id(void *arg, struct node_sandbox *sandbox)
{
    *(struct node_sandbox **)arg = sandbox;
    return false;
}

static void test_daemon_killed_while_starting_one(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox = NULL;
    char id[NODE_SANDBOX_ID_SIZE];

    crash_daemon(fix, "silent", false, id);
    open_manager(fix);
    node_manager_each(fix->manager, ORG, first_id, &sandbox);
    assert_non_null(sandbox);
    assert_int_equal(sandbox->state, NODE_SANDBOX_ERROR);
    assert_non_null(strstr(sandbox->reason, "restarted while the sandbox was starting"));
    assert_int_equal(vmm_pid(fix, sandbox->id), 0);
    assert_int_equal(count_sandbox_folders(fix), 0);
}

static void test_vmm_killed_while_the_daemon_is_down(void **state)
{
    struct fixture *fix = *state;
    char id[NODE_SANDBOX_ID_SIZE];
    pid_t pid;

    crash_daemon(fix, "plain", true, id);
    pid = vmm_pid(fix, id);
    assert_int_equal(kill(pid, SIGKILL), 0);
    while (vmm_pid(fix, id)) {
        (void)usleep(1000);
    }
    open_manager(fix);
    assert_int_equal(find(fix, id)->state, NODE_SANDBOX_ERROR);
    assert_string_equal(find(fix, id)->reason, "the VMM was killed while the node daemon was down");
    assert_int_equal(count_sandbox_folders(fix), 0);
}

/* Another process got the number: it must be neither adopted nor killed. */
static void test_foreign_process_is_left_alone(void **state)
{
    struct fixture *fix = *state;
    char id[NODE_SANDBOX_ID_SIZE];
    pid_t stranger;

    open_manager(fix);
    (void)snprintf(id, NODE_SANDBOX_ID_SIZE, "%s", create(fix, "plain")->id);
    close_manager(fix);
    assert_int_equal(kill(vmm_pid(fix, id), SIGKILL), 0);
    while (vmm_pid(fix, id)) {
        (void)usleep(1000);
    }
    stranger = fork();
    if (stranger == 0) {
        char dir[256];

        (void)snprintf(dir, sizeof(dir), "%s/%s", fix->run, id);
        (void)execl("/bin/sh", "sh", "-c", "kill -STOP $$", "--dir", dir, NULL);
        _exit(1);
    }
    open_manager(fix);
    assert_int_equal(find(fix, id)->state, NODE_SANDBOX_ERROR);
    assert_int_equal(kill(stranger, 0), 0);
    assert_int_equal(kill(stranger, SIGKILL), 0);
    assert_int_equal(waitpid(stranger, NULL, 0), stranger);
}

/* The records are lost: what still runs belongs to nobody and goes. */
static void test_strays_without_records_are_removed(void **state)
{
    struct fixture *fix = *state;
    char id[NODE_SANDBOX_ID_SIZE];

    crash_daemon(fix, "plain", true, id);
    assert_int_equal(shl_remove_tree(fix->store_dir), 0);
    open_manager(fix);
    assert_null(node_manager_find(fix->manager, ORG, id));
    assert_int_equal(vmm_pid(fix, id), 0);
    assert_int_equal(count_sandbox_folders(fix), 0);
}

static void test_damaged_record_refuses_to_start(void **state)
{
    struct fixture *fix = *state;
    struct node_store *store;
    struct shl_err err = {0};

    assert_int_equal(node_store_open(fix->store_dir, &store, NULL), 0);
    assert_int_equal(
        node_store_put(store, "sandbox", "sb-00000001", shl_bytes_of("\x81\xa1v\x01", 4), NULL), 0);
    node_store_close(store);
    assert_int_equal(try_open(fix, &err), SHL_ECORRUPT);
    assert_non_null(strstr(err.msg, "sb-00000001"));
    assert_int_equal(node_store_open(fix->store_dir, &store, NULL), 0);
    assert_int_equal(
        node_store_put(store, "sandbox", "sb-00000001", shl_bytes_of("\x81\xa1v\x63", 4), NULL), 0);
    node_store_close(store);
    assert_int_equal(try_open(fix, &err), SHL_EVERSION);
}

static void test_ended_records_are_dropped_later(void **state)
{
    struct fixture *fix = *state;
    struct node_sandbox *sandbox;
    char id[NODE_SANDBOX_ID_SIZE];

    open_manager(fix);
    sandbox = create(fix, "plain");
    (void)snprintf(id, NODE_SANDBOX_ID_SIZE, "%s", sandbox->id);
    kill_now(fix, sandbox);
    close_manager(fix);
    open_manager(fix);
    assert_int_equal(find(fix, id)->state, NODE_SANDBOX_STOPPED); /* kept a day */
    close_manager(fix);
    fix->config.ended_keep_ms = 1;
    fix->config.housekeeping_ms = 10;
    open_manager(fix);
    node_sandbox_ref(find(fix, id));
    (void)usleep(20000);
    (void)uv_run(&fix->loop, UV_RUN_ONCE);
    node_sandbox_unref(find(fix, id)); /* was held, so it is still there */
    RUN_UNTIL(fix, !node_manager_find(fix->manager, ORG, id));
    close_manager(fix);
    open_manager(fix);
    assert_null(node_manager_find(fix->manager, ORG, id));
}

static void test_close_in_the_middle_of_everything(void **state)
{
    struct fixture *fix = *state;
    struct answer starting, queued;
    struct answer killed = {0};
    struct node_sandbox *sandbox;
    char id[NODE_SANDBOX_ID_SIZE];

    fix->config.boots_max = 1;
    open_manager(fix);
    sandbox = create(fix, "plain");
    (void)snprintf(id, NODE_SANDBOX_ID_SIZE, "%s", create(fix, "plain")->id);
    begin_create(fix, "silent", &starting);
    begin_create(fix, "plain", &queued);
    RUN_UNTIL(fix, count_entries(fix->run) == 3);
    node_manager_kill(fix->manager, sandbox, on_killed, &killed);
    close_manager(fix);
    assert_true(killed.done && starting.done && queued.done);
    assert_int_equal(killed.code, 0);
    assert_int_equal(starting.code, SHL_EUNAVAILABLE);
    assert_int_equal(queued.code, SHL_EUNAVAILABLE);
    open_manager(fix);
    assert_int_equal(find(fix, id)->state, NODE_SANDBOX_RUNNING);
    assert_int_equal(count_sandbox_folders(fix), 1);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_create_runs_and_kill_removes_all),
        TEST(test_create_hands_over_what_was_asked),
        TEST(test_create_with_full_lists),
        TEST(test_create_refuses_bad_requests),
        TEST(test_create_respects_capacity),
        cmocka_unit_test(test_kv_limits),
        TEST(test_start_refused_by_the_vmm),
        TEST(test_setup_refused_by_the_guest),
        TEST(test_panic_while_booting),
        TEST(test_silent_guest_hits_the_limit),
        TEST(test_vmm_that_talks_nonsense),
        TEST(test_vmm_that_never_answers),
        TEST(test_vmm_that_exits_at_once),
        TEST(test_vmm_without_permission_to_run),
        TEST(test_open_says_what_is_missing),
        TEST(test_panic_ends_with_reason),
        TEST(test_poweroff_is_a_stop),
        TEST(test_killed_vmm_names_the_signal),
        TEST(test_one_bad_guest_leaves_the_others),
        TEST(test_lost_agent_link_comes_back),
        TEST(test_silent_agent_ends_the_sandbox),
        TEST(test_hostile_agent_ends_the_sandbox),
        TEST(test_vmm_that_ignores_stop_is_killed),
        TEST(test_kill_while_starting),
        TEST(test_burst_boots_a_few_at_a_time),
        TEST(test_idle_hibernates_unless_held),
        TEST(test_set_timeout_is_durable),
        TEST(test_restart_adopts_running_ones),
        TEST(test_restarted_daemon_talks_to_the_guest),
        TEST(test_killed_daemon_loses_no_vm),
        TEST(test_daemon_killed_while_starting_one),
        TEST(test_vmm_killed_while_the_daemon_is_down),
        TEST(test_foreign_process_is_left_alone),
        TEST(test_strays_without_records_are_removed),
        TEST(test_damaged_record_refuses_to_start),
        TEST(test_ended_records_are_dropped_later),
        TEST(test_close_in_the_middle_of_everything),
    };

    cmocka_set_test_filter(getenv("SHOAL_TEST_ONLY"));
    return cmocka_run_group_tests_name("node/manager", tests, NULL, NULL);
}
