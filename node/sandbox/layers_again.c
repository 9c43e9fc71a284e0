/* Before anything starts from a checkpoint its layers are looked at; lost or damaged ones
 * are made again from the manifest, once for all who wait.
 *
 * Happy path:
 *  1. look (thread pool): open every file of the stack and check the headers.
 *  2. Everyone who waits gets the stack.
 *
 * Otherwise:
 *  3. again (thread pool): one disk overlay, one memory layer and the state file are
 *     written from the chunks, into new layers.
 *  4. The record names the new stack, the old one is given back, and all go on from 2.
 *
 * What can go wrong: there is no manifest yet (SHL_ECORRUPT); chunks are damaged or there is
 * no space (those who wait hear it; the next fork tries again); the warm template below
 * the memory is gone, so that the memory means nothing (the disk alone is made: forks
 * boot from it).
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "checkpoint/image.h"
#include "node/sandbox/checkpoints_private.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"
#include "vmm-kvm/layer.h"
#include "vmm-kvm/sealed.h"

struct layers_job {
    uv_work_t work;
    struct checkpoint *checkpoint;

    /* in */
    const struct node_manager *manager;
    struct ckpt_store *store;
    char template_name[NODE_TEMPLATE_MAX];
    struct node_stack stack; /* referenced */

    /* in and out of again */
    struct ckpt_id manifest;
    struct node_stack made; /* referenced; what turns out not to be needed is emptied */

    /* out */
    int rc;
    struct shl_err err;
    uint64_t run_ms;
};

/* ---- 1. look ------------------------------------------------------------------------ */

static int check_memory(int fd, struct shl_err *err)
{
    struct vmm_layer layer;
    int rc = vmm_layer_open(&layer, fd, err);

    if (rc == 0) {
        vmm_layer_release(&layer);
    }
    return rc;
}

static int check_disk(int fd, struct shl_err *err)
{
    struct vmm_sealed sealed;
    int rc = vmm_sealed_open(&sealed, fd, err);

    if (rc == 0) {
        vmm_sealed_release(&sealed);
    }
    return rc;
}

static int check_files(const struct node_stack_fds *fds, struct shl_err *err)
{
    unsigned i;
    int rc = 0;

    for (i = 0; i < fds->disk_count && rc == 0; i++) {
        rc = check_disk(fds->disk[i], err);
    }
    for (i = 0; i < fds->mem_count && rc == 0; i++) {
        rc = check_memory(fds->mem[i], err);
    }
    if (rc == 0 && fds->state >= 0 && lseek(fds->state, 0, SEEK_END) <= 0) {
        rc = shl_err_set(err, SHL_ECORRUPT, "the saved state of the machine is empty");
    }
    return rc;
}

static void run_look(uv_work_t *work)
{
    struct layers_job *job = work->data;
    struct node_stack_fds fds;

    job->rc = node_stack_open(job->manager, job->template_name, &job->stack, &fds, &job->err);
    if (job->rc == 0) {
        job->rc = check_files(&fds, &job->err);
        node_stack_close(&fds);
    }
}

/* ---- 3. again ----------------------------------------------------------------------- */

/* Chunks of memory are relative to the warm template's memory: it must be there. */
static bool memory_is_usable(const struct layers_job *job, const struct ckpt_manifest *manifest)
{
    char path[SANDBOX_PATH_MAX];

    if (!manifest->has_memory || !job->made.state.hex[0]) {
        return false;
    }
    if (!manifest->memory.base[0]) {
        return true;
    }
    layers_warm_path(job->manager, job->made.warm, "mem", path, sizeof(path));
    return strcmp(manifest->memory.base, job->made.warm) == 0 && access(path, R_OK) == 0;
}

static int new_file(const struct layers_job *job,
                    const struct node_layer_id *id,
                    const char *kind,
                    int *ret_fd,
                    struct shl_err *err)
{
    int fd = files_new_layer(job->manager, id->hex, kind, err);

    if (fd < 0) {
        return fd;
    }
    *ret_fd = fd;
    return 0;
}

static int write_files(struct layers_job *job, const struct ckpt_manifest *manifest, int base_fd)
{
    struct shl_err *err = &job->err;
    SHL_CLEANUP_FD int disk_fd = -1;
    SHL_CLEANUP_FD int mem_fd = -1;
    SHL_CLEANUP_FD int state_fd = -1;
    int rc = new_file(job, &job->made.disk[0], LAYERS_DISK, &disk_fd, err);

    if (rc == 0 && manifest->has_memory) {
        rc = new_file(job, &job->made.mem[0], LAYERS_MEM, &mem_fd, err);
    }
    if (rc == 0 && manifest->has_memory) {
        rc = new_file(job, &job->made.state, LAYERS_STATE, &state_fd, err);
    }
    if (rc == 0) {
        const struct ckpt_target target = {
            .disk_base_fd = base_fd, .disk_fd = disk_fd, .mem_fd = mem_fd, .state_fd = state_fd};

        rc = ckpt_image_materialise(job->store, manifest, &target, err);
    }
    return rc < 0 ? rc : files_sync_folder(job->manager, "layers", err);
}

static int write_from(struct layers_job *job, struct ckpt_manifest *manifest)
{
    /* the template's image alone: what is made stands on it */
    struct node_stack base = {.whole_disk = true};
    struct node_stack_fds fds;
    int rc;

    (void)snprintf(base.base, sizeof(base.base), "%s", job->stack.base);
    if (!memory_is_usable(job, manifest)) {
        manifest->has_memory = false;
    }
    rc = node_stack_open(job->manager, job->template_name, &base, &fds, &job->err);
    if (rc == 0) {
        rc = write_files(job, manifest, fds.base);
        node_stack_close(&fds);
    }
    return rc;
}

static int again(struct layers_job *job)
{
    struct ckpt_manifest manifest;
    struct ckpt_pin *pin = NULL;
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, CKPT_MANIFEST_MAX);
    ckpt_manifest_init(&manifest);
    rc = ckpt_manifest_read(job->store, &job->manifest, &buf, &pin, &job->err);
    if (rc == 0) {
        rc = ckpt_manifest_decode(&manifest, shl_buf_bytes(&buf), &job->err);
        if (rc == 0) {
            rc = write_from(job, &manifest);
        }
        ckpt_pin_release(pin);
    }
    if (rc == 0 && !manifest.has_memory) {
        job->made.mem_count = 0; /* on_again gives these back */
    }
    ckpt_manifest_release(&manifest);
    shl_buf_release(&buf);
    return rc;
}

static void run_again(uv_work_t *work)
{
    struct layers_job *job = work->data;
    uint64_t since_ms = shl_monotonic_ms();

    job->err = (struct shl_err){0};
    job->rc = again(job);
    job->run_ms = shl_monotonic_ms() - since_ms;
}

/* ---- 2. and 4. the outcome ---------------------------------------------------------- */

static void finish(struct layers_job *job, int code, const char *msg, const struct node_stack *use)
{
    struct checkpoint *checkpoint = job->checkpoint;

    checkpoint->layers = NULL;
    checkpoint_answer(checkpoint, code, msg, use);
    node_stack_unref(checkpoint->set->manager, &job->stack);
    free(job);
    checkpoint_leave(checkpoint);
}

/* The memory was not made: its layers go, and what is below it. */
static void forget_memory(struct layers_job *job)
{
    struct node_manager *manager = job->checkpoint->set->manager;

    layers_unref(manager, job->made.mem[0].hex);
    layers_unref(manager, job->made.state.hex);
    layers_unref(manager, job->made.warm);
    job->made.mem[0].hex[0] = job->made.state.hex[0] = job->made.warm[0] = '\0';
    job->made.warm_mem = false;
}

static void adopt_made(struct layers_job *job)
{
    struct checkpoint *checkpoint = job->checkpoint;
    struct node_manager *manager = checkpoint->set->manager;
    struct shl_err err = {0};

    if (!checkpoint->has_stack) {
        return; /* deleted meanwhile */
    }
    node_stack_ref(manager, &job->made);
    checkpoint->stack = job->made;
    if (checkpoint_save(checkpoint, &err) < 0) {
        /* the record still names what is lost: the next daemon makes it again */
        SHL_LOG(&manager->log, SHL_LOG_ERROR, "checkpoint_record_not_saved",
                SHL_S("checkpoint", checkpoint->pub.id), SHL_S("reason", err.msg));
    }
    node_stack_unref(manager, &job->stack);
}

static void on_again(uv_work_t *work, int status)
{
    struct layers_job *job = work->data;
    struct node_manager *manager = job->checkpoint->set->manager;
    struct node_stack made;

    (void)status;
    SHL_LOG(&manager->log, job->rc < 0 ? SHL_LOG_ERROR : SHL_LOG_WARN, "checkpoint_layers_made",
            SHL_S("checkpoint", job->checkpoint->pub.id), SHL_B("memory", job->made.mem_count > 0),
            SHL_I("ms", job->run_ms), SHL_S("reason", job->err.msg));
    if (job->made.mem_count == 0 && job->made.state.hex[0]) {
        forget_memory(job);
    }
    made = job->made;
    if (job->rc == 0) {
        adopt_made(job);
        finish(job, 0, "", &made);
    } else {
        finish(job, job->rc, job->err.msg, NULL);
    }
    node_stack_unref(manager, &made);
}

static void start_again(struct layers_job *job)
{
    struct node_manager *manager = job->checkpoint->set->manager;
    struct node_stack *made = &job->made;
    int rc SHL_UNUSED;

    (void)snprintf(made->base, sizeof(made->base), "%s", job->stack.base);
    made->whole_disk = true;
    made->disk_count = 1;
    layers_new(manager, &made->disk[0]);
    if (job->stack.state.hex[0]) {
        made->mem_count = 1;
        layers_new(manager, &made->mem[0]);
        layers_new(manager, &made->state);
        made->warm_mem = job->stack.warm_mem;
        if (made->warm_mem) {
            (void)snprintf(made->warm, sizeof(made->warm), "%s", job->stack.warm);
            layers_ref(manager, made->warm);
        }
    }
    rc = uv_queue_work(manager->loop, &job->work, run_again, on_again);
    assert(rc == 0);
}

/* Is it the files, and not this machine at this moment? */
static bool is_lost(int rc)
{
    return rc == SHL_ECORRUPT || rc == SHL_EVERSION || rc == -ENOENT || rc == -EIO;
}

static void on_looked(uv_work_t *work, int status)
{
    struct layers_job *job = work->data;
    struct checkpoint *checkpoint = job->checkpoint;

    (void)status;
    if (job->rc == 0) {
        struct node_stack stack = job->stack;

        finish(job, 0, "", &stack);
        return;
    }
    SHL_LOG(&checkpoint->set->manager->log, SHL_LOG_ERROR, "checkpoint_layers_lost",
            SHL_S("checkpoint", checkpoint->pub.id), SHL_I("code", job->rc),
            SHL_S("reason", job->err.msg));
    if (is_lost(job->rc) && manifest_id_parse(checkpoint->pub.manifest, &job->manifest)) {
        start_again(job);
        return;
    }
    finish(job, job->rc, job->err.msg, NULL);
}

int layers_look(struct checkpoint *checkpoint)
{
    struct checkpoints *set = checkpoint->set;
    struct layers_job *job;
    int rc SHL_UNUSED;

    assert(checkpoint->has_stack);
    if (checkpoint->layers) {
        return 0;
    }
    job = calloc(1, sizeof(*job));
    if (!job) {
        return -ENOMEM;
    }
    job->work.data = job;
    job->checkpoint = checkpoint;
    job->manager = set->manager;
    job->store = set->store;
    (void)snprintf(job->template_name, sizeof(job->template_name), "%s",
                   checkpoint->pub.spec.template_name);
    job->stack = checkpoint->stack;
    node_stack_ref(set->manager, &job->stack);
    checkpoint->layers = job;
    checkpoint_enter(checkpoint);
    rc = uv_queue_work(set->manager->loop, &job->work, run_look, on_looked);
    assert(rc == 0);
    return 0;
}
