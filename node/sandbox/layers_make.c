/* New layers for a checkpoint, on the thread pool: from its manifest when the old ones are lost,
 * from the old ones when there are too many. Nothing here is seen by others before
 * layers_again.c says so; when it fails the new ids are given back and their files go. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "checkpoint/image.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/layers_job.h"
#include "node/sandbox/sandbox.h"

/* ---- from the manifest -------------------------------------------------------------- */

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
        job->made.mem_count = 0; /* on_made gives these back */
    }
    ckpt_manifest_release(&manifest);
    shl_buf_release(&buf);
    return rc;
}

void layers_run_again(uv_work_t *work)
{
    struct layers_job *job = work->data;
    uint64_t since_ms = shl_monotonic_ms();

    job->err = (struct shl_err){0};
    job->rc = again(job);
    job->run_ms = shl_monotonic_ms() - since_ms;
}

/* ---- from the old ones -------------------------------------------------------------- */

static int flatten_disk(struct layers_job *job, const struct node_stack_fds *fds)
{
    /* the warm template's own stays below */
    unsigned skip = fds->disk_count - job->stack.disk_count;
    SHL_CLEANUP_FD int fd = -1;
    int rc = new_file(job, &job->made.disk[0], LAYERS_DISK, &fd, &job->err);

    return rc < 0
               ? rc
               : ckpt_merge_disk(fds->disk + skip, job->stack.disk_count, fds->base, fd, &job->err);
}

static int flatten_memory(struct layers_job *job, const struct node_stack_fds *fds)
{
    SHL_CLEANUP_FD int fd = -1;
    int rc = new_file(job, &job->made.mem[0], LAYERS_MEM, &fd, &job->err);

    return rc < 0 ? rc
                  : ckpt_merge_memory(fds->mem, fds->mem_count, fds->warm_mem, 0, fd, &job->err);
}

static int flatten(struct layers_job *job)
{
    struct node_stack_fds fds;
    int rc = node_stack_open(job->manager, job->template_name, &job->stack, &fds, &job->err);

    if (rc < 0) {
        return rc;
    }
    if (job->flat_disk) {
        rc = flatten_disk(job, &fds);
    }
    if (rc == 0 && job->flat_mem) {
        rc = flatten_memory(job, &fds);
    }
    node_stack_close(&fds);
    return rc < 0 ? rc : files_sync_folder(job->manager, "layers", &job->err);
}

void layers_run_flat(uv_work_t *work)
{
    struct layers_job *job = work->data;
    uint64_t since_ms = shl_monotonic_ms();

    job->err = (struct shl_err){0};
    job->rc = flatten(job);
    job->run_ms = shl_monotonic_ms() - since_ms;
}
