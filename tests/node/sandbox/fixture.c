#include "tests/node/sandbox/fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the fixture ----------------------------------------------------------------- */

void on_guard(uv_timer_t *timer)
{
    uint64_t since_ms = *(uint64_t *)timer->data;

    if (shl_monotonic_ms() - since_ms > GUARD_MS) {
        fail_msg("nothing happened for %d ms", GUARD_MS);
    }
}

void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

void add_file(struct fixture *fix, const char *name, const char *text)
{
    char path[256];
    char *slash;

    (void)snprintf(path, sizeof(path), "%s/%s", fix->data, name);
    slash = strrchr(path, '/');
    *slash = '\0';
    assert_int_equal(shl_mkdir_all(path, 0700), 0);
    *slash = '/';
    write_text(path, text);
}

static void open_loop(struct fixture *fix)
{
    assert_int_equal(uv_loop_init(&fix->loop), 0);
    (void)uv_timer_init(&fix->loop, &fix->guard);
}

static void close_loop(struct fixture *fix)
{
    uv_close((uv_handle_t *)&fix->guard, NULL);
    (void)uv_run(&fix->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&fix->loop), 0);
}

int try_open(struct fixture *fix, struct shl_err *err)
{
    int rc;

    assert_int_equal(node_store_open(fix->store_dir, &fix->store, NULL), 0);
    rc = node_manager_open(&fix->loop, fix->store, &fix->config, &fix->manager, err);
    if (rc < 0) {
        node_store_close(fix->store);
        fix->store = NULL;
    }
    return rc;
}

void open_manager(struct fixture *fix)
{
    struct shl_err err = {0};

    if (try_open(fix, &err) < 0) {
        fail_msg("%s", err.msg);
    }
}

static void on_closed(void *arg)
{
    ((struct fixture *)arg)->closed = true;
}

void close_manager(struct fixture *fix)
{
    fix->closed = false;
    node_manager_close(fix->manager, on_closed, fix);
    RUN_UNTIL(fix, fix->closed);
    fix->manager = NULL;
    node_store_close(fix->store);
    fix->store = NULL;
}

static void fill_config(struct fixture *fix)
{
    assert_true(readlink("/proc/self/exe", fix->vmm, sizeof(fix->vmm) - 1) > 0);
    (void)snprintf(strrchr(fix->vmm, '/') + 1, 32, "fake-vmm");
    fix->log = (struct shl_log){.fd = open("/dev/null", O_WRONLY), .level = SHL_LOG_DEBUG};
    if (getenv("SHOAL_TEST_LOG")) {
        fix->log.fd = STDERR_FILENO;
    }
    fix->config = (struct node_manager_config){
        .data_dir = fix->data,
        .run_dir = fix->run,
        .vmm_path = fix->vmm,
        .pool_cidr = "10.201.0.0/16",
        .sandboxes_max = 100,
        .log = &fix->log,
        .kvm_path = "/dev/null",
        .cgroup_root = "",
        .without_network = true,
        .memory_usable_mb = 16384,
        .boots_max = 8,
    };
}

int setup(void **state)
{
    struct fixture *fix = calloc(1, sizeof(*fix));

    (void)signal(SIGPIPE, SIG_IGN); /* as the daemon does: VMMs end at any time */
    (void)snprintf(fix->dir, sizeof(fix->dir), "%s", "/tmp/shoal-mgr-XXXXXX");
    assert_non_null(mkdtemp(fix->dir));
    (void)snprintf(fix->data, sizeof(fix->data), "%s/data", fix->dir);
    (void)snprintf(fix->run, sizeof(fix->run), "%s/run", fix->dir);
    (void)snprintf(fix->store_dir, sizeof(fix->store_dir), "%s/store", fix->dir);
    fill_config(fix);
    add_file(fix, "kernel/vmlinux", "kernel");
    add_file(fix, "kernel/initrd", "initrd");
    add_file(fix, "templates/plain/disk.raw", "plain");
    open_loop(fix);
    *state = fix;
    return 0;
}

int count_entries(const char *path)
{
    DIR *folder = opendir(path);
    struct dirent *entry;
    int count = 0;

    while (folder && (entry = readdir(folder))) {
        count += entry->d_name[0] != '.';
    }
    if (folder) {
        (void)closedir(folder);
    }
    return count;
}

int count_sandbox_folders(struct fixture *fix)
{
    return count_entries(fix->run);
}

int count_layers(struct fixture *fix, const char *suffix)
{
    char path[256];
    struct dirent *entry;
    int count = 0;
    DIR *folder;

    (void)snprintf(path, sizeof(path), "%s/layers", fix->data);
    folder = opendir(path);
    while (folder && (entry = readdir(folder))) {
        const char *dot = strrchr(entry->d_name, '.');

        count += dot && dot != entry->d_name && dot[1] && (!suffix || strcmp(dot + 1, suffix) == 0);
    }
    if (folder) {
        (void)closedir(folder);
    }
    return count;
}

uint32_t warm_templates(struct fixture *fix)
{
    struct node_manager_counts counts;

    node_manager_count(fix->manager, &counts);
    return counts.warm_templates;
}

int teardown(void **state)
{
    struct fixture *fix = *state;
    struct node_manager_counts counts;

    if (fix->manager) {
        node_manager_each(fix->manager, ORG, kill_each, fix);
        RUN_UNTIL(fix,
                  (node_manager_count(fix->manager, &counts), counts.memory_committed_mb == 0));
        assert_int_equal(count_sandbox_folders(fix), 0);
        RUN_UNTIL(fix, count_layers(fix, NULL) == 0); /* nothing leaks */
        close_manager(fix);
    }
    close_loop(fix);
    assert_int_equal(shl_remove_tree(fix->dir), 0);
    (void)close(fix->log.fd);
    free(fix);
    return 0;
}

/* ---- helpers --------------------------------------------------------------------- */

void on_created(void *arg, int code, const char *msg, struct node_sandbox *sandbox)
{
    struct answer *answer = arg;

    assert_false(answer->done);
    answer->done = true;
    answer->code = code;
    answer->sandbox = sandbox;
    (void)snprintf(answer->msg, sizeof(answer->msg), "%s", msg);
}

void on_killed(void *arg, int code, const char *msg)
{
    struct answer *answer = arg;

    if (answer) {
        assert_false(answer->done);
        answer->done = true;
        answer->code = code;
        (void)snprintf(answer->msg, sizeof(answer->msg), "%s", msg);
    }
}

bool kill_each(void *arg, struct node_sandbox *sandbox)
{
    struct fixture *fix = arg;

    node_manager_kill(fix->manager, sandbox, on_killed, NULL);
    return true;
}

struct node_sandbox_spec make_spec(const char *template_name)
{
    struct node_sandbox_spec spec = {
        .org = ORG, .cpus = 1, .memory_mb = 512, .disk_mb = NODE_DISK_MIN_MB};

    (void)snprintf(spec.template_name, sizeof(spec.template_name), "%s", template_name);
    return spec;
}

static void ask_for(struct fixture *fix, const char *template_name, struct answer *answer)
{
    struct node_sandbox_spec spec = make_spec(template_name);
    struct shl_err err = {0};

    *answer = (struct answer){0};
    if (node_manager_create(fix->manager, &spec, on_created, answer, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    assert_false(answer->done);
}

/* A template whose disk says how the VMM behaves; created and asked for at once. */
void begin_create(struct fixture *fix, const char *behaviour, struct answer *answer)
{
    char name[256];
    char path[400];

    (void)snprintf(name, sizeof(name), "templates/%s/disk.raw", behaviour);
    (void)snprintf(path, sizeof(path), "%s/%s", fix->data, name);
    if (access(path, F_OK) < 0) {
        add_file(fix, name, behaviour);
    }
    ask_for(fix, behaviour, answer);
}

struct node_sandbox *create(struct fixture *fix, const char *behaviour)
{
    struct answer answer;

    begin_create(fix, behaviour, &answer);
    RUN_UNTIL(fix, answer.done);
    if (answer.code < 0) {
        fail_msg("%s", answer.msg);
    }
    assert_int_equal(answer.sandbox->state, NODE_SANDBOX_RUNNING);
    assert_non_null(answer.sandbox->agent);
    return answer.sandbox;
}

void create_failing(struct fixture *fix, const char *behaviour, struct answer *answer)
{
    begin_create(fix, behaviour, answer);
    RUN_UNTIL(fix, answer->done);
    assert_true(answer->code < 0);
    assert_int_equal(answer->sandbox->state, NODE_SANDBOX_ERROR);
    assert_string_equal(answer->sandbox->reason, answer->msg);
    assert_int_equal(count_sandbox_folders(fix), 0);
}

void kill_now(struct fixture *fix, struct node_sandbox *sandbox)
{
    struct answer answer = {0};

    node_manager_kill(fix->manager, sandbox, on_killed, &answer);
    assert_false(answer.done);
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, 0);
}

void on_stream_end(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct answer *answer = arg;

    on_killed(arg, code, msg);
    if (answer && response) {
        (void)!shl_mp_get_int(response, "value", &answer->value);
        (void)!shl_mp_get_bool(response, "frozen", &answer->frozen);
    }
}

static const struct node_agent_stream_ops stream_ops = {.on_end = on_stream_end};

static void begin_ask(struct node_sandbox *sandbox,
                      const char *op,
                      uint64_t at,
                      uint64_t value,
                      struct answer *answer)
{
    struct node_agent_stream *stream;
    struct shl_mp_writer w;
    struct shl_buf buf;

    *answer = (struct answer){0};
    shl_buf_init(&buf, 1024);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "op", op);
    shl_mp_kv_uint(&w, "at", at);
    shl_mp_kv_uint(&w, "value", value);
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    assert_int_equal(
        node_agent_open(sandbox->agent, shl_buf_bytes(&buf), &stream_ops, answer, &stream), 0);
    shl_buf_release(&buf);
}

void begin_op(struct node_sandbox *sandbox, const char *op, struct answer *answer)
{
    begin_ask(sandbox, op, 0, 0, answer);
}

int ask(struct fixture *fix,
        struct node_sandbox *sandbox,
        const char *op,
        uint64_t at,
        uint64_t value,
        struct answer *ret)
{
    begin_ask(sandbox, op, at, value, ret);
    RUN_UNTIL(fix, ret->done);
    return ret->code;
}

void set_flag(struct fixture *fix, const char *behaviour, const char *name, bool on)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/templates/%s/%s", fix->data, behaviour, name);
    if (on) {
        write_text(path, "");
    } else {
        assert_int_equal(unlink(path), 0);
    }
}

int run_op(struct fixture *fix, struct node_sandbox *sandbox, const char *op)
{
    struct answer answer;

    begin_op(sandbox, op, &answer);
    RUN_UNTIL(fix, answer.done);
    return answer.code;
}

bool is_over(const struct node_sandbox *sandbox)
{
    return sandbox->state == NODE_SANDBOX_STOPPED || sandbox->state == NODE_SANDBOX_ERROR;
}

/* Over, and everything it had is given back. */
void wait_gone(struct fixture *fix, struct node_sandbox *sandbox)
{
    RUN_UNTIL(fix, is_over(sandbox));
    RUN_UNTIL(fix, count_sandbox_folders(fix) == 0);
}

/* The process id of the only VMM that serves @id, 0 when there is none. */
pid_t vmm_pid(struct fixture *fix, const char *id)
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    pid_t found = 0;

    while ((entry = readdir(proc))) {
        char path[300];
        char text[512] = "";
        FILE *file;
        size_t len, i;

        (void)snprintf(path, sizeof(path), "/proc/%s/cmdline", entry->d_name);
        file = entry->d_name[0] >= '1' && entry->d_name[0] <= '9' ? fopen(path, "r") : NULL;
        if (!file) {
            continue;
        }
        len = fread(text, 1, sizeof(text) - 1, file);
        (void)fclose(file);
        for (i = 0; i < len; i++) {
            text[i] = text[i] ? text[i] : ' ';
        }
        if (strstr(text, fix->run) && strstr(text, id)) {
            found = (pid_t)strtol(entry->d_name, NULL, 10);
        }
    }
    (void)closedir(proc);
    return found;
}

struct node_sandbox *find(struct fixture *fix, const char *id)
{
    struct node_sandbox *sandbox = node_manager_find(fix->manager, ORG, id);

    assert_non_null(sandbox);
    return sandbox;
}

void read_saved(struct fixture *fix,
                const char *id,
                const char *name,
                struct shl_buf *buf,
                struct shl_mp_doc *doc)
{
    char path[300];

    (void)snprintf(path, sizeof(path), "%s/%s/%s", fix->run, id, name);
    shl_buf_init(buf, 1 << 20);
    assert_int_equal(shl_read_file(path, buf), 0);
    assert_int_equal(shl_mp_parse(doc, shl_buf_bytes(buf)), 0);
}
