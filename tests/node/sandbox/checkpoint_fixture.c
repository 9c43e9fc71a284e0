#include "tests/node/sandbox/checkpoint_fixture.h"

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

void hold_ingests(struct fixture *fix, bool wait)
{
    uv_mutex_lock(&fix->gate_lock);
    fix->store_waits = wait;
    uv_cond_broadcast(&fix->gate);
    uv_mutex_unlock(&fix->gate_lock);
}

/* ---- the fixture -------------------------------------------------------------------- */

void on_guard(uv_timer_t *timer)
{
    uint64_t since_ms = *(uint64_t *)timer->data;

    if (shl_monotonic_ms() - since_ms > GUARD_MS) {
        fail_msg("nothing happened for %d ms", GUARD_MS);
    }
}

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

int try_load(struct fixture *fix, struct shl_err *err)
{
    make_manager(fix);
    return checkpoints_load(fix->manager, err);
}

void open_set(struct fixture *fix)
{
    struct shl_err err = {0};

    if (try_load(fix, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    layers_sweep(fix->manager);
    checkpoints_resume(fix->manager);
    make_sandbox(fix);
}

void drop_manager(struct fixture *fix)
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

void close_set(struct fixture *fix)
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

int setup(void **state)
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

int teardown(void **state)
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
void restart(struct fixture *fix)
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
    layers_ref(fix->manager, stack->base);
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
void make_warm(struct fixture *fix)
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

void answer_snapshot(struct fixture *fix, char fill)
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

void fail_snapshot(struct fixture *fix, const char *msg)
{
    sandbox_snapshot_cb cb = fix->snapshot_cb;

    assert_non_null(cb);
    fix->snapshot_cb = NULL;
    cb(fix->snapshot_arg, -ENOSPC, msg, NULL, NULL);
}

int try_create(struct fixture *fix,
               const struct node_checkpoint_spec *spec,
               struct node_checkpoint **ret,
               struct shl_err *err)
{
    *err = (struct shl_err){0};
    *ret = NULL;
    return node_checkpoint_create(fix->manager, &fix->sandbox->pub, spec, ret, err);
}

/* As the API asks: processing, not yet snapshotted. */
struct node_checkpoint *begin(struct fixture *fix, const char *name, bool disk_only)
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

struct node_checkpoint *make(struct fixture *fix, const char *name, char fill)
{
    struct node_checkpoint *checkpoint = begin(fix, name, false);

    answer_snapshot(fix, fill);
    RUN_UNTIL(fix, checkpoint->status != NODE_CHECKPOINT_PROCESSING);
    if (checkpoint->status != NODE_CHECKPOINT_READY) {
        fail_msg("%s", checkpoint->error);
    }
    return checkpoint;
}

void idle(struct fixture *fix)
{
    RUN_UNTIL(fix, fix->manager->jobs == 0);
}

int count_layers(struct fixture *fix)
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

int count_manifests(struct fixture *fix)
{
    int count = 0;

    idle(fix);
    assert_int_equal(ckpt_manifest_each(fix->manager->checkpoints->store, count_one, &count, NULL),
                     0);
    return count;
}

bool add_name(void *arg, struct node_checkpoint *checkpoint)
{
    struct names *names = arg;
    size_t len = strlen(names->text);

    (void)snprintf(names->text + len, sizeof(names->text) - len, "%s%s:%s", len > 0 ? " " : "",
                   checkpoint->name, node_checkpoint_status(checkpoint));
    return true;
}

/* "NAME:STATUS ..." of the sandbox, newest first. */
const char *list(struct fixture *fix)
{
    static struct names names;

    names.text[0] = '\0';
    node_checkpoint_each(fix->manager, ORG, "sb-00000001", add_name, &names);
    return names.text;
}

void delete_now(struct fixture *fix, struct node_checkpoint *checkpoint)
{
    char id[NODE_CHECKPOINT_ID_SIZE];

    (void)snprintf(id, sizeof(id), "%s", checkpoint->id);
    assert_int_equal(node_checkpoint_delete(fix->manager, checkpoint, NULL), 0);
    assert_null(node_checkpoint_find(fix->manager, ORG, id));
}

void on_create(void *arg, int code, const char *msg, struct node_sandbox *sandbox)
{
    struct answer *answer = arg;

    (void)sandbox;
    assert_false(answer->done);
    *answer = (struct answer){.done = true, .code = code};
    (void)snprintf(answer->msg, sizeof(answer->msg), "%s", msg);
}

void on_sandbox(void *arg, int code, const char *msg)
{
    on_create(arg, code, msg, NULL);
}

void begin_fork(struct fixture *fix, struct node_checkpoint *checkpoint, struct answer *answer)
{
    const struct node_fork_spec spec = {.timeout_s = 60};
    struct shl_err err = {0};

    *answer = (struct answer){0};
    if (node_manager_fork(fix->manager, checkpoint, &spec, on_create, answer, &err) < 0) {
        fail_msg("%s", err.msg);
    }
    assert_false(answer->done);
}

void layer_path(struct fixture *fix,
                const struct node_layer_id *id,
                const char *kind,
                char path[SANDBOX_PATH_MAX])
{
    layers_path(fix->manager, id->hex, kind, path, SANDBOX_PATH_MAX);
}
