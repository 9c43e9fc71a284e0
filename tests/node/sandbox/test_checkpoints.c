/* Checkpoints with a manager of which only the parts they need exist: real records, real
 * layer files, the real checkpoint store; snapshots, creates and switches of sandboxes are
 * played by the test (linker option --wrap). No KVM, no VMM. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <uv.h>

#include "base/id.h"
#include "base/io.h"
#include "checkpoint/image.h"
#include "node/sandbox/checkpoints_private.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"
#include "vmm-kvm/layer.h"
#include "vmm-kvm/overlay_format.h"

#define GUARD_MS     60000
#define ORG          "org-test"
#define TEMPLATE     "plain"
#define DISK_MB      NODE_DISK_MIN_MB
#define DISK_BYTES   ((uint64_t)DISK_MB << 20)
#define MEMORY_BYTES (512ull << 20)
#define FORKS_MAX    8

struct taken_fork {
    struct node_sandbox_spec spec;
    struct node_stack stack; /* referenced */
    char from[NODE_CHECKPOINT_ID_SIZE];
    node_create_cb cb;
    void *arg;
};

struct fixture {
    char dir[64];
    char data[96];
    char store_dir[96];
    struct shl_log log;
    uv_loop_t loop;
    uv_timer_t guard;
    struct node_store *store;
    struct node_manager *manager;
    struct sandbox *sandbox;

    /* a snapshot that was asked for and not answered */
    sandbox_snapshot_cb snapshot_cb;
    void *snapshot_arg;
    enum sandbox_snapshot_kind snapshot_kind;
    unsigned snapshots; /* asked for */
    int snapshot_rc;    /* refuse at once with this */

    struct taken_fork forks[FORKS_MAX];
    unsigned fork_count;
    int fork_rc;

    char warm[NODE_LAYER_ID_SIZE]; /* snapshots are above this warm template; "" none */

    unsigned switches;
    struct node_stack switched; /* referenced */
    int store_rc;               /* of every ckpt_image_store from now on; 0: the real one */
    bool store_waits;           /* hold back ingests until this is false */
    char ingested[32];          /* the fill of each, in their order */
    uv_mutex_t gate_lock;
    uv_cond_t gate;
};

static struct fixture *now; /* for the wrapped functions */

/* ---- what the rest of node/sandbox would do ---------------------------------------- */

int __wrap_sandbox_snapshot(struct sandbox *sandbox,
                            enum sandbox_snapshot_kind kind,
                            sandbox_snapshot_cb cb,
                            void *arg);
int __wrap_sandbox_create_from(struct node_manager *manager,
                               const struct node_sandbox_spec *spec,
                               const struct node_stack *stack,
                               const char *from,
                               node_create_cb cb,
                               void *arg,
                               struct shl_err *err);
void __wrap_sandbox_switch(struct sandbox *sandbox,
                           const struct node_stack *stack,
                           node_sandbox_cb cb,
                           void *arg);
int __wrap_ckpt_image_store(struct ckpt_session *session,
                            const struct ckpt_source *source,
                            struct ckpt_manifest *manifest,
                            struct shl_err *err);
int __real_ckpt_image_store(struct ckpt_session *session,
                            const struct ckpt_source *source,
                            struct ckpt_manifest *manifest,
                            struct shl_err *err);

int __wrap_sandbox_snapshot(struct sandbox *sandbox,
                            enum sandbox_snapshot_kind kind,
                            sandbox_snapshot_cb cb,
                            void *arg)
{
    assert_ptr_equal(sandbox, now->sandbox);
    if (now->snapshot_rc < 0) {
        return now->snapshot_rc;
    }
    assert_null(now->snapshot_cb);
    now->snapshot_cb = cb;
    now->snapshot_arg = arg;
    now->snapshot_kind = kind;
    now->snapshots++;
    return 0;
}

int __wrap_sandbox_create_from(struct node_manager *manager,
                               const struct node_sandbox_spec *spec,
                               const struct node_stack *stack,
                               const char *from,
                               node_create_cb cb,
                               void *arg,
                               struct shl_err *err)
{
    struct taken_fork *fork = &now->forks[now->fork_count];

    if (now->fork_rc < 0) {
        return shl_err_set(err, now->fork_rc, "no memory is free");
    }
    assert_true(now->fork_count < FORKS_MAX);
    assert_int_equal(sandbox_spec_copy(&fork->spec, spec), 0);
    fork->stack = *stack;
    node_stack_ref(manager, stack);
    (void)snprintf(fork->from, sizeof(fork->from), "%s", from);
    fork->cb = cb;
    fork->arg = arg;
    now->fork_count++;
    return 0;
}

void __wrap_sandbox_switch(struct sandbox *sandbox,
                           const struct node_stack *stack,
                           node_sandbox_cb cb,
                           void *arg)
{
    assert_ptr_equal(sandbox, now->sandbox);
    node_stack_ref(sandbox->pub.manager, stack);
    now->switched = *stack;
    now->switches++;
    answer_later(sandbox->pub.manager, cb, arg, 0, "");
}

int __wrap_ckpt_image_store(struct ckpt_session *session,
                            const struct ckpt_source *source,
                            struct ckpt_manifest *manifest,
                            struct shl_err *err)
{
    uv_mutex_lock(&now->gate_lock);
    if (source->has_memory && strlen(now->ingested) < sizeof(now->ingested) - 1) {
        (void)!pread(source->state_fd, now->ingested + strlen(now->ingested), 1, 0);
    }
    while (now->store_waits) {
        uv_cond_wait(&now->gate, &now->gate_lock);
    }
    uv_mutex_unlock(&now->gate_lock);
    if (now->store_rc < 0) {
        return shl_err_sys(err, -now->store_rc, "cannot write a segment");
    }
    return __real_ckpt_image_store(session, source, manifest, err);
}

static void hold_ingests(struct fixture *fix, bool wait)
{
    uv_mutex_lock(&fix->gate_lock);
    fix->store_waits = wait;
    uv_cond_broadcast(&fix->gate);
    uv_mutex_unlock(&fix->gate_lock);
}

/* ---- the fixture -------------------------------------------------------------------- */

static void on_guard(uv_timer_t *timer)
{
    uint64_t since_ms = *(uint64_t *)timer->data;

    if (shl_monotonic_ms() - since_ms > GUARD_MS) {
        fail_msg("nothing happened for %d ms", GUARD_MS);
    }
}

#define RUN_UNTIL(fix, condition)                              \
    do {                                                       \
        uint64_t since_ms_ = shl_monotonic_ms();               \
                                                               \
        (fix)->guard.data = &since_ms_;                        \
        (void)uv_timer_start(&(fix)->guard, on_guard, 10, 10); \
        while (!(condition)) {                                 \
            (void)uv_run(&(fix)->loop, UV_RUN_ONCE);           \
        }                                                      \
        (void)uv_timer_stop(&(fix)->guard);                    \
    } while (0)

static void make_manager(struct fixture *fix)
{
    struct node_manager *manager = calloc(1, sizeof(*manager));

    assert_non_null(manager);
    assert_int_equal(node_store_open(fix->store_dir, &fix->store, NULL), 0);
    manager->loop = &fix->loop;
    manager->store = fix->store;
    manager->log = fix->log;
    manager->data_dir = fix->data;
    shl_list_init(&manager->sandboxes);
    shl_list_init(&manager->boot_queue);
    shl_list_init(&manager->deferred);
    (void)uv_timer_init(manager->loop, &manager->defer);
    manager->defer.data = manager;
    assert_int_equal(layers_open(manager, NULL), 0);
    fix->manager = manager;
}

/* The sandbox all checkpoints are of. */
static void make_sandbox(struct fixture *fix)
{
    struct sandbox *sandbox = sandbox_new(fix->manager);
    struct node_sandbox_spec *spec = &sandbox->pub.spec;

    (void)snprintf(sandbox->pub.id, sizeof(sandbox->pub.id), "sb-00000001");
    (void)snprintf(spec->org, sizeof(spec->org), ORG);
    (void)snprintf(spec->template_name, sizeof(spec->template_name), TEMPLATE);
    spec->cpus = 2;
    spec->memory_mb = 1024;
    spec->disk_mb = DISK_MB;
    spec->timeout_s = 300;
    assert_int_equal(node_kv_set(&spec->envs, "A", "1"), 0);
    assert_int_equal(node_kv_set(&spec->envs, "B", "2"), 0);
    assert_int_equal(node_kv_set(&spec->metadata, "team", "red"), 0);
    sandbox->pub.state = NODE_SANDBOX_RUNNING;
    fix->sandbox = sandbox;
}

static int try_load(struct fixture *fix, struct shl_err *err)
{
    make_manager(fix);
    return checkpoints_load(fix->manager, err);
}

static void open_set(struct fixture *fix)
{
    struct shl_err err = {0};

    if (try_load(fix, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    layers_sweep(fix->manager);
    checkpoints_resume(fix->manager);
    make_sandbox(fix);
}

static void drop_manager(struct fixture *fix)
{
    struct node_manager *manager = fix->manager;

    checkpoints_free(manager);
    RUN_UNTIL(fix, manager->jobs == 0); /* removals of layers */
    layers_free(manager);
    uv_close((uv_handle_t *)&manager->defer, NULL);
    (void)uv_run(&fix->loop, UV_RUN_NOWAIT);
    free(manager);
    node_store_close(fix->store);
    fix->manager = NULL;
    fix->store = NULL;
}

static void close_set(struct fixture *fix)
{
    struct node_manager *manager = fix->manager;
    unsigned i;

    checkpoints_close(manager);
    hold_ingests(fix, false);
    if (fix->snapshot_cb) {
        sandbox_snapshot_cb cb = fix->snapshot_cb;

        fix->snapshot_cb = NULL;
        cb(fix->snapshot_arg, SHL_EUNAVAILABLE, "the node daemon is being stopped", NULL, NULL);
    }
    RUN_UNTIL(fix, manager->jobs == 0);
    for (i = 0; i < fix->fork_count; i++) {
        sandbox_spec_release(&fix->forks[i].spec);
        node_stack_unref(manager, &fix->forks[i].stack);
    }
    fix->fork_count = 0;
    if (fix->switches > 0) {
        node_stack_unref(manager, &fix->switched);
        fix->switches = 0;
    }
    sandbox_free(fix->sandbox);
    fix->sandbox = NULL;
    drop_manager(fix);
}

static void write_template(struct fixture *fix)
{
    char path[256];
    char block[4096];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/templates/" TEMPLATE, fix->data);
    assert_int_equal(shl_mkdir_all(path, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/templates/" TEMPLATE "/disk.raw", fix->data);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)memset(block, 'T', sizeof(block));
    assert_int_equal(shl_pwrite_full(fd, block, sizeof(block), 0), 0);
    assert_int_equal(ftruncate(fd, 4 << 20), 0);
    (void)close(fd);
}

static int setup(void **state)
{
    struct fixture *fix = calloc(1, sizeof(*fix));

    (void)snprintf(fix->dir, sizeof(fix->dir), "%s", "/tmp/shoal-ckp-XXXXXX");
    assert_non_null(mkdtemp(fix->dir));
    (void)snprintf(fix->data, sizeof(fix->data), "%s/data", fix->dir);
    (void)snprintf(fix->store_dir, sizeof(fix->store_dir), "%s/store", fix->dir);
    fix->log = (struct shl_log){.fd = open("/dev/null", O_WRONLY), .level = SHL_LOG_DEBUG};
    if (getenv("SHOAL_TEST_LOG")) {
        fix->log.fd = dup(STDERR_FILENO);
    }
    assert_int_equal(uv_loop_init(&fix->loop), 0);
    (void)uv_timer_init(&fix->loop, &fix->guard);
    (void)uv_mutex_init(&fix->gate_lock);
    (void)uv_cond_init(&fix->gate);
    write_template(fix);
    now = fix;
    open_set(fix);
    *state = fix;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fix = *state;

    if (fix->manager) {
        close_set(fix);
    }
    uv_close((uv_handle_t *)&fix->guard, NULL);
    (void)uv_run(&fix->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&fix->loop), 0);
    uv_cond_destroy(&fix->gate);
    uv_mutex_destroy(&fix->gate_lock);
    assert_int_equal(shl_remove_tree(fix->dir), 0);
    (void)close(fix->log.fd);
    free(fix);
    return 0;
}

/* Another daemon on the same folders. */
static void restart(struct fixture *fix)
{
    close_set(fix);
    open_set(fix);
}

/* ---- helpers ------------------------------------------------------------------------ */

/* A sealed overlay with cluster 0 of @fill, and cluster 1 of @second unless that is -1. */
static void write_overlay(struct fixture *fix, int fd, char fill, int second)
{
    struct vmm_overlay_header header = {.virtual_bytes = DISK_BYTES};
    char cluster[VMM_OVERLAY_CLUSTER_BYTES];
    char identity[NODE_LAYER_ID_SIZE];
    uint8_t bits = second >= 0 ? 3 : 1;
    int base_fd;

    assert_true(fd >= 0);
    assert_int_equal(files_open_template(fix->manager, TEMPLATE, &base_fd, identity, NULL), 0);
    assert_int_equal(vmm_overlay_measure_base(base_fd, &header.base_bytes, header.base_id, NULL),
                     0);
    header.data_offset = vmm_overlay_data_offset(DISK_BYTES);
    assert_int_equal(vmm_overlay_file_create(fd, &header, NULL), 0);
    (void)memset(cluster, fill, sizeof(cluster));
    assert_int_equal(shl_pwrite_full(fd, cluster, sizeof(cluster), header.data_offset), 0);
    if (second >= 0) {
        (void)memset(cluster, second, sizeof(cluster));
        assert_int_equal(
            shl_pwrite_full(fd, cluster, sizeof(cluster), header.data_offset + sizeof(cluster)), 0);
    }
    assert_int_equal(shl_pwrite_full(fd, &bits, 1, VMM_OVERLAY_HEADER_BYTES), 0);
    (void)close(base_fd);
    (void)close(fd);
}

/* One page of @fill. */
static void write_memory(struct fixture *fix, const struct node_layer_id *id, char fill)
{
    char page[VMM_LAYER_PAGE_BYTES];
    struct vmm_layer layer = {.memory_bytes = MEMORY_BYTES, .run_count = 1};

    layer.fd = files_new_layer(fix->manager, id->hex, LAYERS_MEM, NULL);
    assert_true(layer.fd >= 0);
    layer.runs = calloc(1, sizeof(*layer.runs));
    layer.runs[0] = (struct vmm_layer_run){.first_page = 7, .page_count = 1};
    assert_int_equal(vmm_layer_begin(&layer, NULL), 0);
    (void)memset(page, fill, sizeof(page));
    assert_int_equal(shl_pwrite_full(layer.fd, page, sizeof(page), layer.runs[0].file_offset), 0);
    (void)close(layer.fd);
    free(layer.runs);
}

static void write_state(struct fixture *fix, const struct node_layer_id *id, char fill)
{
    char state[1000];
    int fd = files_new_layer(fix->manager, id->hex, LAYERS_STATE, NULL);

    assert_true(fd >= 0);
    (void)memset(state, fill, sizeof(state));
    assert_int_equal(shl_write_full(fd, state, sizeof(state)), 0);
    (void)close(fd);
}

/* What a snapshot of the sandbox gives. @fill tells one from the other. */
static void make_stack(struct fixture *fix, char fill, struct node_stack *stack)
{
    int fd;

    *stack = (struct node_stack){.disk_count = 1};
    assert_int_equal(files_open_template(fix->manager, TEMPLATE, &fd, stack->base, NULL), 0);
    (void)close(fd);
    layers_new(fix->manager, &stack->disk[0]);
    /* above a warm template what that one wrote into cluster 1 is zeroed */
    write_overlay(fix, files_new_layer(fix->manager, stack->disk[0].hex, LAYERS_DISK, NULL), fill,
                  fix->warm[0] ? 0 : -1);
    if (fix->snapshot_kind == SANDBOX_SNAPSHOT_FULL) {
        stack->mem_count = 1;
        layers_new(fix->manager, &stack->mem[0]);
        write_memory(fix, &stack->mem[0], fill);
        layers_new(fix->manager, &stack->state);
        write_state(fix, &stack->state, fill);
    }
    if (fix->warm[0]) {
        (void)snprintf(stack->warm, sizeof(stack->warm), "%s", fix->warm);
        stack->warm_mem = stack->mem_count > 0;
        layers_ref(fix->manager, stack->warm);
    }
}

/* A warm template: its memory is zeros but for one page, its disk has clusters 0 and 1. */
static void make_warm(struct fixture *fix)
{
    char path[SANDBOX_PATH_MAX];
    int fd;

    shl_id_make(fix->warm, sizeof(fix->warm), "", NODE_LAYER_ID_SIZE - 1);
    layers_warm_path(fix->manager, fix->warm, "", path, sizeof(path));
    assert_int_equal(shl_mkdir_all(path, 0700), 0);
    layers_warm_path(fix->manager, fix->warm, "mem", path, sizeof(path));
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, (off_t)MEMORY_BYTES), 0);
    assert_int_equal(shl_pwrite_full(fd, "warm", 4, 0), 0);
    (void)close(fd);
    layers_warm_path(fix->manager, fix->warm, "disk", path, sizeof(path));
    write_overlay(fix, open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), 'W', 'W');
}

static void answer_snapshot(struct fixture *fix, char fill)
{
    const struct sandbox_snapshot_stats stats = {
        .pause_us = 1, .mem_bytes = 8192, .state_bytes = 1000, .disk_bytes = 65536};
    sandbox_snapshot_cb cb = fix->snapshot_cb;
    struct node_stack stack;

    assert_non_null(cb);
    fix->snapshot_cb = NULL;
    make_stack(fix, fill, &stack);
    cb(fix->snapshot_arg, 0, "", &stack, &stats);
}

static void fail_snapshot(struct fixture *fix, const char *msg)
{
    sandbox_snapshot_cb cb = fix->snapshot_cb;

    assert_non_null(cb);
    fix->snapshot_cb = NULL;
    cb(fix->snapshot_arg, -ENOSPC, msg, NULL, NULL);
}

static int try_create(struct fixture *fix,
                      const struct node_checkpoint_spec *spec,
                      struct node_checkpoint **ret,
                      struct shl_err *err)
{
    *err = (struct shl_err){0};
    *ret = NULL;
    return node_checkpoint_create(fix->manager, &fix->sandbox->pub, spec, ret, err);
}

/* As the API asks: processing, not yet snapshotted. */
static struct node_checkpoint *begin(struct fixture *fix, const char *name, bool disk_only)
{
    struct node_checkpoint_spec spec = {.disk_only = disk_only};
    struct node_checkpoint *checkpoint;
    struct shl_err err;

    (void)snprintf(spec.name, sizeof(spec.name), "%s", name);
    if (try_create(fix, &spec, &checkpoint, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(checkpoint->status, NODE_CHECKPOINT_PROCESSING);
    assert_int_equal(checkpoint->size_bytes, 0);
    return checkpoint;
}

static struct node_checkpoint *make(struct fixture *fix, const char *name, char fill)
{
    struct node_checkpoint *checkpoint = begin(fix, name, false);

    answer_snapshot(fix, fill);
    RUN_UNTIL(fix, checkpoint->status != NODE_CHECKPOINT_PROCESSING);
    if (checkpoint->status != NODE_CHECKPOINT_READY) {
        fail_msg("%s", checkpoint->error);
    }
    return checkpoint;
}

static void idle(struct fixture *fix)
{
    RUN_UNTIL(fix, fix->manager->jobs == 0);
}

static int count_layers(struct fixture *fix)
{
    char path[256];
    uv_fs_t req;
    int count;

    idle(fix);
    (void)snprintf(path, sizeof(path), "%s/layers", fix->data);
    count = uv_fs_scandir(NULL, &req, path, 0, NULL);
    uv_fs_req_cleanup(&req);
    return count;
}

static bool count_one(void *arg, const struct ckpt_id *id)
{
    (void)id;
    ++*(int *)arg;
    return true;
}

static int count_manifests(struct fixture *fix)
{
    int count = 0;

    idle(fix);
    assert_int_equal(ckpt_manifest_each(fix->manager->checkpoints->store, count_one, &count, NULL),
                     0);
    return count;
}

struct names {
    char text[1024];
};

static bool add_name(void *arg, struct node_checkpoint *checkpoint)
{
    struct names *names = arg;
    size_t len = strlen(names->text);

    (void)snprintf(names->text + len, sizeof(names->text) - len, "%s%s:%s", len > 0 ? " " : "",
                   checkpoint->name, node_checkpoint_status(checkpoint));
    return true;
}

/* "NAME:STATUS ..." of the sandbox, newest first. */
static const char *list(struct fixture *fix)
{
    static struct names names;

    names.text[0] = '\0';
    node_checkpoint_each(fix->manager, ORG, "sb-00000001", add_name, &names);
    return names.text;
}

static void delete_now(struct fixture *fix, struct node_checkpoint *checkpoint)
{
    char id[NODE_CHECKPOINT_ID_SIZE];

    (void)snprintf(id, sizeof(id), "%s", checkpoint->id);
    assert_int_equal(node_checkpoint_delete(fix->manager, checkpoint, NULL), 0);
    assert_null(node_checkpoint_find(fix->manager, ORG, id));
}

struct answer {
    bool done;
    int code;
    char msg[512];
};

static void on_create(void *arg, int code, const char *msg, struct node_sandbox *sandbox)
{
    struct answer *answer = arg;

    (void)sandbox;
    assert_false(answer->done);
    *answer = (struct answer){.done = true, .code = code};
    (void)snprintf(answer->msg, sizeof(answer->msg), "%s", msg);
}

static void on_sandbox(void *arg, int code, const char *msg)
{
    on_create(arg, code, msg, NULL);
}

static void begin_fork(struct fixture *fix,
                       struct node_checkpoint *checkpoint,
                       struct answer *answer)
{
    const struct node_fork_spec spec = {.timeout_s = 60};
    struct shl_err err = {0};

    *answer = (struct answer){0};
    if (node_manager_fork(fix->manager, checkpoint, &spec, on_create, answer, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    assert_false(answer->done);
}

static void layer_path(struct fixture *fix,
                       const struct node_layer_id *id,
                       const char *kind,
                       char path[SANDBOX_PATH_MAX])
{
    layers_path(fix->manager, id->hex, kind, path, SANDBOX_PATH_MAX);
}

/* ---- making ------------------------------------------------------------------------- */

static void test_becomes_ready(void **state)
{
    struct fixture *fix = *state;
    struct node_manager_counts counts = {0};
    struct node_checkpoint *checkpoint = begin(fix, "first", false);

    assert_int_equal(strlen(checkpoint->id), 36);
    assert_string_equal(checkpoint->sandbox_id, "sb-00000001");
    assert_string_equal(checkpoint->spec.envs.items[1].value, "2");
    assert_int_equal(fix->snapshot_kind, SANDBOX_SNAPSHOT_FULL);
    assert_string_equal(list(fix), "first:processing");
    assert_ptr_equal(node_checkpoint_find(fix->manager, ORG, checkpoint->id), checkpoint);
    assert_null(node_checkpoint_find(fix->manager, "org-other", checkpoint->id));
    answer_snapshot(fix, 'a');
    assert_int_equal(checkpoint->status, NODE_CHECKPOINT_PROCESSING);
    RUN_UNTIL(fix, checkpoint->status == NODE_CHECKPOINT_READY);
    assert_int_equal(checkpoint->size_bytes, 8192 + 1000 + 65536);
    assert_int_equal(strlen(checkpoint->manifest), 64);
    assert_int_equal(count_manifests(fix), 1);
    assert_int_equal(count_layers(fix), 3);
    checkpoints_count(fix->manager, &counts);
    assert_int_equal(counts.checkpoints, 1);
    assert_int_equal(counts.checkpoints_processing, 0);
}

static void test_newest_first_and_foreign_ones_hidden(void **state)
{
    struct fixture *fix = *state;
    struct names names = {0};

    (void)make(fix, "one", 'a');
    (void)make(fix, "two", 'b');
    assert_string_equal(list(fix), "two:ready one:ready");
    node_checkpoint_each(fix->manager, "org-other", "sb-00000001", add_name, &names);
    node_checkpoint_each(fix->manager, ORG, "sb-00000002", add_name, &names);
    assert_string_equal(names.text, "");
}

static void test_disk_only(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = begin(fix, "disk", true);

    assert_int_equal(fix->snapshot_kind, SANDBOX_SNAPSHOT_DISK);
    answer_snapshot(fix, 'a');
    RUN_UNTIL(fix, checkpoint->status == NODE_CHECKPOINT_READY);
    assert_true(checkpoint->disk_only);
    assert_int_equal(count_layers(fix), 1);
}

static void test_bad_names(void **state)
{
    struct fixture *fix = *state;
    static const char *const bad[] = {"", "a\nb", "\x7f", "\xff", "a\xc2\x85"};
    struct node_checkpoint_spec spec = {0};
    struct node_checkpoint *checkpoint;
    struct shl_err err;
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(bad); i++) {
        (void)snprintf(spec.name, sizeof(spec.name), "%s", bad[i]);
        assert_int_equal(try_create(fix, &spec, &checkpoint, &err), SHL_EINVALIDARG);
    }
    (void)memset(spec.name, 'x', sizeof(spec.name)); /* no terminator */
    assert_int_equal(try_create(fix, &spec, &checkpoint, &err), SHL_EINVALIDARG);
    spec.name[NODE_CHECKPOINT_NAME_MAX] = '\0';
    assert_int_equal(try_create(fix, &spec, &checkpoint, &err), 0);
    assert_int_equal(fix->snapshots, 1);
}

static void test_same_name_is_a_conflict(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint_spec spec = {.name = "same", .disk_only = true};
    struct node_checkpoint *checkpoint;
    struct shl_err err;

    (void)make(fix, "same", 'a');
    assert_int_equal(try_create(fix, &spec, &checkpoint, &err), SHL_ECONFLICT);
    assert_string_equal(err.msg, "a checkpoint named same already exists");
}

static void test_only_of_a_running_sandbox(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint_spec spec = {.name = "x"};
    struct node_checkpoint *checkpoint;
    struct shl_err err;
    int i;

    for (i = NODE_SANDBOX_CREATING; i <= NODE_SANDBOX_ERROR; i++) {
        if (i != NODE_SANDBOX_RUNNING) {
            fix->sandbox->pub.state = (enum node_sandbox_state)i;
            assert_int_equal(try_create(fix, &spec, &checkpoint, &err), SHL_EBADSTATE);
            assert_string_equal(err.msg, "sandbox is not running");
        }
    }
    assert_int_equal(fix->snapshots, 0);
    assert_string_equal(list(fix), "");
}

static void test_limits(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint_spec spec = {.name = "more"};
    struct node_checkpoint *checkpoint = NULL;
    struct shl_err err;
    char name[16];
    int i;

    for (i = 0; i < NODE_CHECKPOINTS_FULL_MAX; i++) {
        (void)snprintf(name, sizeof(name), "n%d", i);
        checkpoint = make(fix, name, (char)('a' + i));
    }
    assert_int_equal(try_create(fix, &spec, &checkpoint, &err), SHL_EBADSTATE);
    assert_non_null(strstr(err.msg, "maximum"));
    /* the other kind has its own limit */
    for (i = 0; i < NODE_CHECKPOINTS_DISK_MAX; i++) {
        (void)snprintf(name, sizeof(name), "d%d", i);
        checkpoint = begin(fix, name, true);
        answer_snapshot(fix, 'd');
        RUN_UNTIL(fix, checkpoint->status == NODE_CHECKPOINT_READY);
    }
    spec.disk_only = true;
    assert_int_equal(try_create(fix, &spec, &checkpoint, &err), SHL_EBADSTATE);
    assert_non_null(strstr(err.msg, "maximum"));
}

static void test_retention_keeps_the_newest(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint_spec spec = {.name = "new", .keep_max = 2};
    struct node_checkpoint *checkpoint;
    struct shl_err err;

    (void)make(fix, "a", 'a');
    (void)make(fix, "b", 'b');
    (void)make(fix, "c", 'c');
    assert_int_equal(try_create(fix, &spec, &checkpoint, &err), 0);
    /* nothing goes before the new one is safe */
    assert_string_equal(list(fix), "new:processing c:ready b:ready a:ready");
    answer_snapshot(fix, 'n');
    RUN_UNTIL(fix, checkpoint->status == NODE_CHECKPOINT_READY);
    assert_string_equal(list(fix), "new:ready c:ready");
    assert_int_equal(count_layers(fix), 6);
    assert_int_equal(count_manifests(fix), 2);
}

static void test_retention_works_at_the_limit(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint_spec spec = {.name = "new", .keep_max = 1000};
    struct node_checkpoint *checkpoint;
    struct shl_err err;
    char name[16];
    int i;

    for (i = 0; i < NODE_CHECKPOINTS_FULL_MAX; i++) {
        (void)snprintf(name, sizeof(name), "n%d", i);
        (void)make(fix, name, (char)('a' + i));
    }
    assert_int_equal(try_create(fix, &spec, &checkpoint, &err), 0);
    answer_snapshot(fix, 'z');
    RUN_UNTIL(fix, checkpoint->status == NODE_CHECKPOINT_READY);
    assert_string_equal(list(fix), "new:ready n9:ready n8:ready n7:ready n6:ready n5:ready "
                                   "n4:ready n3:ready n2:ready n1:ready");
}

static void test_failed_snapshot(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = begin(fix, "x", false);

    fail_snapshot(fix, "no space is left for the memory");
    assert_int_equal(checkpoint->status, NODE_CHECKPOINT_FAILED);
    assert_string_equal(checkpoint->error, "no space is left for the memory");
    assert_true(checkpoint->failed_at_ms > 0);
    /* its name is free again */
    (void)make(fix, "x", 'a');
    assert_string_equal(list(fix), "x:ready x:failed");
}

static void test_refused_snapshot_leaves_nothing(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint_spec spec = {.name = "x"};
    struct node_checkpoint *checkpoint;
    struct shl_err err;

    fix->snapshot_rc = SHL_EBADSTATE;
    assert_int_equal(try_create(fix, &spec, &checkpoint, &err), SHL_EBADSTATE);
    assert_string_equal(list(fix), "");
    fix->snapshot_rc = 0;
    restart(fix);
    assert_string_equal(list(fix), "");
}

static void test_failed_ones_are_bounded(void **state)
{
    struct fixture *fix = *state;
    char name[16];
    int i;

    for (i = 0; i < CHECKPOINTS_FAILED_MAX + 3; i++) {
        (void)snprintf(name, sizeof(name), "f%d", i);
        (void)begin(fix, name, false);
        fail_snapshot(fix, "because");
    }
    assert_string_equal(list(fix), "f12:failed f11:failed f10:failed f9:failed f8:failed f7:failed "
                                   "f6:failed f5:failed f4:failed f3:failed");
}

static void test_failed_ingest(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = begin(fix, "x", false);

    fix->store_rc = -ENOSPC;
    answer_snapshot(fix, 'a');
    RUN_UNTIL(fix, checkpoint->status == NODE_CHECKPOINT_FAILED);
    assert_string_equal(checkpoint->error, "cannot write a segment: No space left on device");
    assert_int_equal(checkpoint->size_bytes, 0);
    assert_int_equal(count_layers(fix), 0);
    fix->store_rc = 0;
    (void)make(fix, "y", 'b');
    assert_int_equal(count_manifests(fix), 1);
}

/* A real full file system below the store. */
static void test_no_space_in_the_store(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint;
    char path[256], fill[4096];
    int fd;

    if (geteuid() != 0) {
        skip();
    }
    close_set(fix);
    (void)snprintf(path, sizeof(path), "%s/checkpoints", fix->data);
    if (mount("tmpfs", path, "tmpfs", 0, "size=1m") < 0) {
        open_set(fix);
        skip();
    }
    open_set(fix);
    (void)snprintf(path, sizeof(path), "%s/checkpoints/fill", fix->data);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    (void)memset(fill, 'f', sizeof(fill));
    while (write(fd, fill, sizeof(fill)) > 0) {
    }
    checkpoint = begin(fix, "x", false);
    answer_snapshot(fix, 'a');
    RUN_UNTIL(fix, checkpoint->status == NODE_CHECKPOINT_FAILED);
    assert_non_null(strstr(checkpoint->error, "No space left"));
    /* with room again it works in the same daemon */
    assert_int_equal(ftruncate(fd, 0), 0);
    (void)close(fd);
    (void)make(fix, "x", 'a');
    close_set(fix);
    (void)snprintf(path, sizeof(path), "%s/checkpoints", fix->data);
    assert_int_equal(umount2(path, MNT_DETACH), 0);
}

/* ---- deleting ----------------------------------------------------------------------- */

static void test_delete_ready(void **state)
{
    struct fixture *fix = *state;

    (void)make(fix, "keep", 'a');
    delete_now(fix, make(fix, "go", 'b'));
    assert_string_equal(list(fix), "keep:ready");
    assert_int_equal(count_layers(fix), 3);
    assert_int_equal(count_manifests(fix), 1);
    restart(fix);
    assert_string_equal(list(fix), "keep:ready");
}

static void test_delete_before_the_snapshot(void **state)
{
    struct fixture *fix = *state;

    delete_now(fix, begin(fix, "go", false));
    answer_snapshot(fix, 'a');
    assert_int_equal(count_layers(fix), 0);
    assert_int_equal(count_manifests(fix), 0);
}

static void test_delete_before_a_failed_snapshot(void **state)
{
    struct fixture *fix = *state;

    delete_now(fix, begin(fix, "go", false));
    fail_snapshot(fix, "because");
    assert_string_equal(list(fix), "");
    restart(fix);
    assert_string_equal(list(fix), "");
}

static void test_delete_while_ingested(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = begin(fix, "go", false);

    hold_ingests(fix, true);
    answer_snapshot(fix, 'a');
    RUN_UNTIL(fix, fix->manager->checkpoints->ingesting == 1);
    delete_now(fix, checkpoint);
    hold_ingests(fix, false);
    assert_int_equal(count_manifests(fix), 0);
    assert_int_equal(count_layers(fix), 0);
}

static void test_delete_while_queued(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *first = begin(fix, "first", false);
    struct node_checkpoint *second;

    hold_ingests(fix, true);
    answer_snapshot(fix, 'a');
    RUN_UNTIL(fix, fix->manager->checkpoints->ingesting == 1);
    second = begin(fix, "second", false);
    answer_snapshot(fix, 'b');
    delete_now(fix, second);
    hold_ingests(fix, false);
    RUN_UNTIL(fix, first->status == NODE_CHECKPOINT_READY);
    assert_int_equal(count_manifests(fix), 1);
    assert_int_equal(count_layers(fix), 3);
}

static void test_newest_is_ingested_first(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoints[3];
    int i;

    hold_ingests(fix, true);
    for (i = 0; i < 3; i++) {
        char name[2] = {(char)('a' + i), '\0'};

        checkpoints[i] = begin(fix, name, false);
        answer_snapshot(fix, (char)('a' + i));
        RUN_UNTIL(fix, fix->manager->checkpoints->ingesting == 1);
    }
    hold_ingests(fix, false);
    for (i = 0; i < 3; i++) {
        RUN_UNTIL(fix, checkpoints[i]->status == NODE_CHECKPOINT_READY);
    }
    assert_string_equal(fix->ingested, "acb"); /* a was under way when the others came */
}

/* ---- a new daemon ------------------------------------------------------------------- */

static void test_ready_survives_a_restart(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 'a');
    char id[NODE_CHECKPOINT_ID_SIZE], manifest[65];

    (void)snprintf(id, sizeof(id), "%s", checkpoint->id);
    (void)snprintf(manifest, sizeof(manifest), "%s", checkpoint->manifest);
    restart(fix);
    checkpoint = node_checkpoint_find(fix->manager, ORG, id);
    assert_non_null(checkpoint);
    assert_int_equal(checkpoint->status, NODE_CHECKPOINT_READY);
    assert_string_equal(checkpoint->manifest, manifest);
    assert_int_equal(checkpoint->size_bytes, 8192 + 1000 + 65536);
    assert_string_equal(checkpoint->name, "x");
    assert_int_equal(checkpoint->spec.cpus, 2);
    assert_int_equal(checkpoint->spec.metadata.count, 1);
    assert_int_equal(count_layers(fix), 3);
    assert_int_equal(count_manifests(fix), 1);
}

static void test_restart_before_the_snapshot(void **state)
{
    struct fixture *fix = *state;

    (void)begin(fix, "x", false);
    restart(fix);
    assert_string_equal(list(fix), "x:failed");
    restart(fix);
    assert_string_equal(list(fix), "x:failed");
}

static void test_restart_while_queued(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint;
    char id[NODE_CHECKPOINT_ID_SIZE];

    hold_ingests(fix, true);
    (void)begin(fix, "busy", false);
    answer_snapshot(fix, 'a');
    RUN_UNTIL(fix, fix->manager->checkpoints->ingesting == 1);
    checkpoint = begin(fix, "x", false);
    (void)snprintf(id, sizeof(id), "%s", checkpoint->id);
    answer_snapshot(fix, 'b');
    restart(fix);
    /* the one that was cut off too */
    RUN_UNTIL(fix, strcmp(list(fix), "x:ready busy:ready") == 0);
    assert_non_null(node_checkpoint_find(fix->manager, ORG, id));
    assert_int_equal(count_layers(fix), 6);
    assert_int_equal(count_manifests(fix), 2);
}

/* Died between the commit of the manifest and the record: the same manifest comes again. */
static void test_ingest_is_idempotent(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 'a');
    char id[NODE_CHECKPOINT_ID_SIZE], manifest[65];

    (void)snprintf(id, sizeof(id), "%s", checkpoint->id);
    (void)snprintf(manifest, sizeof(manifest), "%s", checkpoint->manifest);
    checkpoint->status = NODE_CHECKPOINT_PROCESSING;
    checkpoint->manifest[0] = '\0';
    assert_int_equal(checkpoint_save(checkpoint_of(checkpoint), NULL), 0);
    restart(fix);
    checkpoint = node_checkpoint_find(fix->manager, ORG, id);
    RUN_UNTIL(fix, checkpoint->status == NODE_CHECKPOINT_READY);
    assert_string_equal(checkpoint->manifest, manifest);
    assert_int_equal(count_manifests(fix), 1);
}

/* Died between the deletion of a record and that of its manifest. */
static void test_manifest_without_record_goes(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 'a');

    (void)make(fix, "keep", 'b');
    assert_int_equal(node_store_delete(fix->store, CHECKPOINT_KIND, checkpoint->id, NULL), 0);
    restart(fix);
    assert_string_equal(list(fix), "keep:ready");
    assert_int_equal(count_manifests(fix), 1);
    assert_int_equal(count_layers(fix), 3);
}

static void test_missing_manifest_is_stored_again(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 'a');
    char id[NODE_CHECKPOINT_ID_SIZE];
    struct ckpt_id manifest;

    (void)snprintf(id, sizeof(id), "%s", checkpoint->id);
    assert_true(manifest_id_parse(checkpoint->manifest, &manifest));
    assert_int_equal(ckpt_manifest_delete(fix->manager->checkpoints->store, &manifest, NULL), 0);
    restart(fix);
    assert_string_equal(list(fix), "x:ready");
    assert_int_equal(count_manifests(fix), 1);
    checkpoint = node_checkpoint_find(fix->manager, ORG, id);
    assert_true(manifest_id_parse(checkpoint->manifest, &manifest));
    assert_int_equal(ckpt_manifest_delete(fix->manager->checkpoints->store, &manifest, NULL), 0);
}

/* Bits rot on the disk: the scrub finds them and the layers heal them. */
static void test_damaged_chunk_is_stored_again(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 'a');
    struct checkpoints *set = fix->manager->checkpoints;
    char path[SANDBOX_PATH_MAX];
    struct ckpt_store_stats stats;
    struct answer answer;
    uint8_t bytes[1];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/checkpoints/segments/00000001", fix->data);
    fd = open(path, O_RDWR | O_CLOEXEC);
    /* behind the headers of the file and of its first chunk */
    assert_int_equal(shl_pread_full(fd, bytes, sizeof(bytes), 140), 0);
    bytes[0] ^= 0x10;
    assert_int_equal(shl_pwrite_full(fd, bytes, sizeof(bytes), 140), 0);
    (void)close(fd);
    fix->ingested[0] = '\0';
    set->scrubbed_at_ms -= CHECKPOINT_SCRUB_MS;
    checkpoints_housekeeping(fix->manager);
    RUN_UNTIL(fix, set->upkeep == NULL);
    idle(fix);
    assert_string_equal(fix->ingested, "a");
    ckpt_store_stats(set->store, &stats);
    assert_int_equal(stats.damaged, 0);
    assert_string_equal(list(fix), "x:ready");
    layer_path(fix, &checkpoint_of(checkpoint)->stack.disk[0], LAYERS_DISK, path);
    assert_int_equal(unlink(path), 0);
    begin_fork(fix, checkpoint, &answer);
    RUN_UNTIL(fix, fix->fork_count == 1 || answer.done);
    assert_int_equal(fix->fork_count, 1);
}

static void test_damaged_record_stops_the_daemon(void **state)
{
    struct fixture *fix = *state;
    struct shl_err err = {0};

    assert_int_equal(
        node_store_put(fix->store, CHECKPOINT_KIND, "x", shl_bytes_of("\xc1", 1), NULL), 0);
    close_set(fix);
    assert_int_equal(try_load(fix, &err), SHL_ECORRUPT);
    assert_string_equal(err.msg, "the record of checkpoint x is damaged");
    drop_manager(fix);
}

/* ---- forks -------------------------------------------------------------------------- */

static void test_fork_of_a_ready_one(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 'a');
    struct answer answer;

    begin_fork(fix, checkpoint, &answer);
    RUN_UNTIL(fix, fix->fork_count == 1);
    assert_false(answer.done);
    assert_string_equal(fix->forks[0].from, checkpoint->id);
    assert_int_equal(fix->forks[0].spec.timeout_s, 60);
    assert_int_equal(fix->forks[0].spec.memory_mb, 1024);
    assert_memory_equal(&fix->forks[0].stack, &checkpoint_of(checkpoint)->stack,
                        sizeof(struct node_stack));
    fix->forks[0].cb(fix->forks[0].arg, 0, "", NULL);
    assert_true(answer.done);
}

/* A fork waits for the snapshot, not for the ingest. */
static void test_fork_of_a_processing_one(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = begin(fix, "x", false);
    struct answer answers[3];
    int i;

    for (i = 0; i < 3; i++) {
        begin_fork(fix, checkpoint, &answers[i]);
    }
    hold_ingests(fix, true);
    answer_snapshot(fix, 'a');
    RUN_UNTIL(fix, fix->fork_count == 3);
    assert_int_equal(checkpoint->status, NODE_CHECKPOINT_PROCESSING);
    /* and outlives it */
    delete_now(fix, checkpoint);
    hold_ingests(fix, false);
    assert_int_equal(count_layers(fix), 3);
}

static void test_fork_waits_in_vain(void **state)
{
    struct fixture *fix = *state;
    struct answer answers[2];

    begin_fork(fix, begin(fix, "deleted", false), &answers[0]);
    delete_now(fix, &((struct checkpoint *)fix->snapshot_arg)->pub);
    assert_true(answers[0].done);
    assert_int_equal(answers[0].code, SHL_ENOTFOUND);
    fail_snapshot(fix, "because");
    begin_fork(fix, begin(fix, "failing", false), &answers[1]);
    fail_snapshot(fix, "no space");
    assert_true(answers[1].done);
    assert_int_equal(answers[1].code, SHL_EBADSTATE);
    assert_string_equal(answers[1].msg, "the checkpoint failed: no space");
    assert_int_equal(fix->fork_count, 0);
}

static void test_fork_of_a_failed_one(void **state)
{
    struct fixture *fix = *state;
    const struct node_fork_spec spec = {.timeout_s = 60};
    struct node_checkpoint *checkpoint = begin(fix, "x", false);
    struct shl_err err = {0};

    fail_snapshot(fix, "no space");
    assert_int_equal(node_manager_fork(fix->manager, checkpoint, &spec, on_create, NULL, &err),
                     SHL_EBADSTATE);
    assert_string_equal(err.msg, "the checkpoint failed: no space");
}

static void test_fork_waits_no_longer_than_its_limit(void **state)
{
    struct fixture *fix = *state;
    struct checkpoints *set = fix->manager->checkpoints;
    struct node_checkpoint *checkpoint = begin(fix, "x", false);
    struct answer answers[2];

    begin_fork(fix, checkpoint, &answers[0]);
    begin_fork(fix, checkpoint, &answers[1]);
    /* as if it had waited */
    shl_container_of(shl_list_first(&set->limited), struct checkpoint_waiter, limit_node)
        ->deadline_ms = shl_monotonic_ms();
    checkpoint_on_limit(&set->limit_timer);
    assert_true(answers[0].done);
    assert_int_equal(answers[0].code, SHL_EBADSTATE);
    assert_non_null(strstr(answers[0].msg, "checkpoint not ready"));
    assert_false(answers[1].done);
    answer_snapshot(fix, 'a');
    RUN_UNTIL(fix, fix->fork_count == 1);
}

static void test_fork_refused_by_admission(void **state)
{
    struct fixture *fix = *state;
    struct answer answer;

    fix->fork_rc = SHL_ENOCAPACITY;
    begin_fork(fix, make(fix, "x", 'a'), &answer);
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, SHL_ENOCAPACITY);
    assert_string_equal(answer.msg, "no memory is free");
}

static void test_stop_of_the_daemon_answers_forks(void **state)
{
    struct fixture *fix = *state;
    struct answer answer;

    begin_fork(fix, begin(fix, "x", false), &answer);
    restart(fix);
    assert_true(answer.done);
    assert_int_equal(answer.code, SHL_EUNAVAILABLE);
}

/* ---- layers that were lost ----------------------------------------------------------- */

static void read_at(const char *path, void *dst, size_t len, uint64_t offset)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(shl_pread_full(fd, dst, len, offset), 0);
    (void)close(fd);
}

static void check_made_again(struct fixture *fix, const struct node_stack *stack, char fill)
{
    char path[SANDBOX_PATH_MAX];
    struct vmm_layer layer;
    char got[16], want[16];
    int fd;

    (void)memset(want, fill, sizeof(want));
    layer_path(fix, &stack->disk[0], LAYERS_DISK, path);
    read_at(path, got, sizeof(got), vmm_overlay_data_offset(DISK_BYTES) + 100);
    assert_memory_equal(got, want, sizeof(want));
    layer_path(fix, &stack->state, LAYERS_STATE, path);
    read_at(path, got, sizeof(got), 900);
    assert_memory_equal(got, want, sizeof(want));
    layer_path(fix, &stack->mem[0], LAYERS_MEM, path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(vmm_layer_open(&layer, fd, NULL), 0);
    assert_int_equal(layer.memory_bytes, MEMORY_BYTES);
    assert_true(layer.runs[0].first_page <= 7 &&
                layer.runs[0].first_page + layer.runs[0].page_count > 7);
    read_at(path, got, sizeof(got),
            layer.runs[0].file_offset + (7 - layer.runs[0].first_page) * VMM_LAYER_PAGE_BYTES);
    assert_memory_equal(got, want, sizeof(want));
    vmm_layer_release(&layer);
    (void)close(fd);
}

static void fork_after_loss(struct fixture *fix, struct node_checkpoint *checkpoint, char fill)
{
    struct node_stack lost = checkpoint_of(checkpoint)->stack;
    struct answer answers[3];
    int i;

    for (i = 0; i < 3; i++) {
        begin_fork(fix, checkpoint, &answers[i]);
    }
    RUN_UNTIL(fix, fix->fork_count == 3 || answers[0].done);
    if (answers[0].done) {
        fail_msg("%s", answers[0].msg);
    }
    for (i = 0; i < 3; i++) {
        assert_string_not_equal(fix->forks[i].stack.disk[0].hex, lost.disk[0].hex);
        assert_memory_equal(&fix->forks[i].stack, &checkpoint_of(checkpoint)->stack,
                            sizeof(struct node_stack));
    }
    assert_true(fix->forks[0].stack.whole_disk);
    check_made_again(fix, &fix->forks[0].stack, fill);
    assert_int_equal(count_layers(fix), 3); /* what was left of the old ones is gone */
}

static void test_lost_disk_is_made_again_once(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 'q');
    char path[SANDBOX_PATH_MAX];

    layer_path(fix, &checkpoint_of(checkpoint)->stack.disk[0], LAYERS_DISK, path);
    assert_int_equal(unlink(path), 0);
    fork_after_loss(fix, checkpoint, 'q');
}

static void test_damaged_memory_is_made_again(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 'm');
    char path[SANDBOX_PATH_MAX];

    layer_path(fix, &checkpoint_of(checkpoint)->stack.mem[0], LAYERS_MEM, path);
    assert_int_equal(truncate(path, 5000), 0);
    fork_after_loss(fix, checkpoint, 'm');
}

static void test_made_again_survives_a_restart(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 's');
    char id[NODE_CHECKPOINT_ID_SIZE], path[SANDBOX_PATH_MAX];
    struct answer answer;

    (void)snprintf(id, sizeof(id), "%s", checkpoint->id);
    layer_path(fix, &checkpoint_of(checkpoint)->stack.state, LAYERS_STATE, path);
    assert_int_equal(truncate(path, 0), 0);
    fork_after_loss(fix, checkpoint, 's');
    restart(fix);
    checkpoint = node_checkpoint_find(fix->manager, ORG, id);
    begin_fork(fix, checkpoint, &answer);
    RUN_UNTIL(fix, fix->fork_count == 1);
    check_made_again(fix, &fix->forks[0].stack, 's');
    assert_int_equal(count_layers(fix), 3);
}

/* The warm template's disk is not below what is made again: it would show through where the
 * sandbox wrote zeros. */
static void test_made_again_above_a_warm_template(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint;
    struct node_stack_fds fds;
    char path[SANDBOX_PATH_MAX];
    uint8_t bits;

    make_warm(fix);
    checkpoint = make(fix, "x", 'q');
    layer_path(fix, &checkpoint_of(checkpoint)->stack.mem[0], LAYERS_MEM, path);
    assert_int_equal(unlink(path), 0);
    fork_after_loss(fix, checkpoint, 'q');
    assert_string_equal(fix->forks[0].stack.warm, fix->warm);
    assert_true(fix->forks[0].stack.warm_mem);
    assert_int_equal(node_stack_open(fix->manager, TEMPLATE, &fix->forks[0].stack, &fds, NULL), 0);
    assert_int_equal(fds.disk_count, 1);
    assert_true(fds.warm_mem >= 0);
    /* cluster 1 is zeros, as in the template's image: nothing stands in the way of that */
    assert_int_equal(shl_pread_full(fds.disk[0], &bits, 1, VMM_OVERLAY_HEADER_BYTES), 0);
    assert_int_equal(bits, 1);
    node_stack_close(&fds);
}

/* Without the memory of the warm template that of the checkpoint means nothing. */
static void test_warm_template_lost_too(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint;
    char path[SANDBOX_PATH_MAX];
    struct answer answer;

    make_warm(fix);
    checkpoint = make(fix, "x", 'q');
    layers_warm_path(fix->manager, fix->warm, "", path, sizeof(path));
    assert_int_equal(shl_remove_tree(path), 0);
    begin_fork(fix, checkpoint, &answer);
    RUN_UNTIL(fix, fix->fork_count == 1 || answer.done);
    assert_int_equal(fix->fork_count, 1);
    assert_string_equal(fix->forks[0].stack.state.hex, "");
    assert_string_equal(fix->forks[0].stack.warm, "");
    assert_int_equal(fix->forks[0].stack.mem_count, 0);
    assert_int_equal(fix->forks[0].stack.disk_count, 1);
    assert_int_equal(count_layers(fix), 1);
    restart(fix);
    assert_string_equal(list(fix), "x:ready");
}

static void test_lost_before_the_ingest(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = begin(fix, "x", false);
    char path[SANDBOX_PATH_MAX];
    struct answer answer;

    hold_ingests(fix, true);
    answer_snapshot(fix, 'a');
    layer_path(fix, &checkpoint_of(checkpoint)->stack.disk[0], LAYERS_DISK, path);
    assert_int_equal(unlink(path), 0);
    begin_fork(fix, checkpoint, &answer);
    RUN_UNTIL(fix, answer.done);
    assert_true(answer.code < 0);
    hold_ingests(fix, false);
    RUN_UNTIL(fix, checkpoint->status != NODE_CHECKPOINT_PROCESSING);
}

static void lose_disk(struct fixture *fix, struct node_checkpoint *checkpoint)
{
    char path[SANDBOX_PATH_MAX];

    layer_path(fix, &checkpoint_of(checkpoint)->stack.disk[0], LAYERS_DISK, path);
    assert_int_equal(unlink(path), 0);
}

/* One is made after the other, both are served. */
static void test_two_lost_at_the_same_time(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *one = make(fix, "one", 'a');
    struct node_checkpoint *two = make(fix, "two", 'b');
    struct answer answers[2];

    lose_disk(fix, one);
    lose_disk(fix, two);
    begin_fork(fix, one, &answers[0]);
    begin_fork(fix, two, &answers[1]);
    RUN_UNTIL(fix, fix->fork_count == 2);
    check_made_again(fix, &checkpoint_of(one)->stack, 'a');
    check_made_again(fix, &checkpoint_of(two)->stack, 'b');
    assert_int_equal(count_layers(fix), 6);
}

static unsigned count_makes(struct fixture *fix)
{
    struct shl_list *it;
    unsigned count = 0;

    SHL_LIST_FOREACH(it, &fix->manager->checkpoints->makes) {
        count++;
    }
    return count;
}

static void test_stop_while_layers_wait_to_be_made(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *one = make(fix, "one", 'a');
    struct node_checkpoint *two = make(fix, "two", 'b');
    struct answer answers[2];

    lose_disk(fix, one);
    lose_disk(fix, two);
    fix->manager->checkpoints->making = CHECKPOINT_MAKES_MAX; /* as if others were made */
    begin_fork(fix, one, &answers[0]);
    begin_fork(fix, two, &answers[1]);
    RUN_UNTIL(fix, count_makes(fix) == 2);
    restart(fix);
    assert_int_equal(answers[0].code, SHL_EUNAVAILABLE);
    assert_int_equal(answers[1].code, SHL_EUNAVAILABLE);
    assert_int_equal(count_layers(fix), 4);
    assert_string_equal(list(fix), "two:ready one:ready");
}

static void test_lost_for_good(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 'a');
    char path[SANDBOX_PATH_MAX];
    struct ckpt_id id;
    struct answer answer;

    layer_path(fix, &checkpoint_of(checkpoint)->stack.disk[0], LAYERS_DISK, path);
    assert_int_equal(unlink(path), 0);
    assert_true(manifest_id_parse(checkpoint->manifest, &id));
    assert_int_equal(ckpt_manifest_delete(fix->manager->checkpoints->store, &id, NULL), 0);
    begin_fork(fix, checkpoint, &answer);
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, SHL_ENOTFOUND);
    assert_int_equal(fix->fork_count, 0);
    assert_int_equal(count_layers(fix), 2); /* nothing half-made stays */
}

/* ---- restore in place ---------------------------------------------------------------- */

static void restore(struct fixture *fix, struct node_checkpoint *checkpoint, struct answer *answer)
{
    *answer = (struct answer){0};
    node_manager_restore(fix->manager, &fix->sandbox->pub, checkpoint, on_sandbox, answer);
    assert_false(answer->done);
    RUN_UNTIL(fix, answer->done);
}

static void test_restore(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *checkpoint = make(fix, "x", 'a');
    struct answer answer;

    restore(fix, checkpoint, &answer);
    assert_int_equal(answer.code, 0);
    assert_int_equal(fix->switches, 1);
    assert_memory_equal(&fix->switched, &checkpoint_of(checkpoint)->stack,
                        sizeof(struct node_stack));
    assert_int_equal(fix->sandbox->refs, 0);
}

static void test_restore_refused(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *ready = make(fix, "ready", 'a');
    struct node_checkpoint *processing = begin(fix, "processing", false);
    struct answer answer;

    restore(fix, processing, &answer);
    assert_int_equal(answer.code, SHL_EBADSTATE);
    assert_string_equal(answer.msg, "checkpoint not ready: it is processing");
    fix->sandbox->pub.state = NODE_SANDBOX_STOPPED;
    restore(fix, ready, &answer);
    assert_int_equal(answer.code, SHL_EBADSTATE);
    assert_string_equal(answer.msg, "sandbox is not running");
    fix->sandbox->pub.state = NODE_SANDBOX_RUNNING;
    fix->sandbox->pub.id[4] = '9';
    restore(fix, ready, &answer);
    assert_int_equal(answer.code, SHL_EBADSTATE);
    assert_string_equal(answer.msg, "the checkpoint belongs to another sandbox");
    assert_int_equal(fix->switches, 0);
}

static void test_sandbox_ends_before_its_restore(void **state)
{
    struct fixture *fix = *state;
    struct node_checkpoint *ready = make(fix, "ready", 'a');
    struct answer answer = {0};

    node_manager_restore(fix->manager, &fix->sandbox->pub, ready, on_sandbox, &answer);
    assert_int_equal(fix->sandbox->refs, 1);
    fix->sandbox->pub.state = NODE_SANDBOX_STOPPED;
    RUN_UNTIL(fix, answer.done);
    assert_int_equal(answer.code, SHL_EBADSTATE);
    assert_int_equal(fix->switches, 0);
    assert_int_equal(fix->sandbox->refs, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_becomes_ready),
        TEST(test_newest_first_and_foreign_ones_hidden),
        TEST(test_disk_only),
        TEST(test_bad_names),
        TEST(test_same_name_is_a_conflict),
        TEST(test_only_of_a_running_sandbox),
        TEST(test_limits),
        TEST(test_retention_keeps_the_newest),
        TEST(test_retention_works_at_the_limit),
        TEST(test_failed_snapshot),
        TEST(test_refused_snapshot_leaves_nothing),
        TEST(test_failed_ones_are_bounded),
        TEST(test_failed_ingest),
        TEST(test_no_space_in_the_store),
        TEST(test_delete_ready),
        TEST(test_delete_before_the_snapshot),
        TEST(test_delete_before_a_failed_snapshot),
        TEST(test_delete_while_ingested),
        TEST(test_delete_while_queued),
        TEST(test_newest_is_ingested_first),
        TEST(test_ready_survives_a_restart),
        TEST(test_restart_before_the_snapshot),
        TEST(test_restart_while_queued),
        TEST(test_ingest_is_idempotent),
        TEST(test_manifest_without_record_goes),
        TEST(test_missing_manifest_is_stored_again),
        TEST(test_damaged_chunk_is_stored_again),
        TEST(test_damaged_record_stops_the_daemon),
        TEST(test_fork_of_a_ready_one),
        TEST(test_fork_of_a_processing_one),
        TEST(test_fork_waits_in_vain),
        TEST(test_fork_of_a_failed_one),
        TEST(test_fork_waits_no_longer_than_its_limit),
        TEST(test_fork_refused_by_admission),
        TEST(test_stop_of_the_daemon_answers_forks),
        TEST(test_lost_disk_is_made_again_once),
        TEST(test_damaged_memory_is_made_again),
        TEST(test_made_again_survives_a_restart),
        TEST(test_made_again_above_a_warm_template),
        TEST(test_warm_template_lost_too),
        TEST(test_lost_before_the_ingest),
        TEST(test_two_lost_at_the_same_time),
        TEST(test_stop_while_layers_wait_to_be_made),
        TEST(test_lost_for_good),
        TEST(test_restore),
        TEST(test_restore_refused),
        TEST(test_sandbox_ends_before_its_restore),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
