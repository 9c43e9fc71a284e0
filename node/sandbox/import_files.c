/* Reading what came from another node, and the files it becomes; on the thread pool. All
 * of it was written by a peer: it is checked before anything is made of it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/id.h"
#include "base/io.h"
#include "checkpoint/image.h"
#include "node/sandbox/import_job.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"

#define MEMORY_BYTES_MAX ((uint64_t)NODE_MEMORY_MAX_MB << 20)

/* ---- reading ------------------------------------------------------------------------ */

static int bad(struct import_job *job, const char *what)
{
    return shl_err_set(&job->err, SHL_ECORRUPT, "the manifest is not valid: %s", what);
}

static int read_manifest(struct import_job *job,
                         const struct ckpt_id *id,
                         struct ckpt_manifest *manifest,
                         struct ckpt_pin **ret_pin)
{
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, CKPT_MANIFEST_MAX);
    rc = ckpt_manifest_read(job->set->store, id, &buf, ret_pin, &job->err);
    if (rc == 0) {
        rc = ckpt_manifest_decode(manifest, shl_buf_bytes(&buf), &job->err);
        if (rc < 0) {
            ckpt_pin_release(*ret_pin);
            *ret_pin = NULL;
        }
    }
    shl_buf_release(&buf);
    return rc;
}

/* What disk and memory say must be what the config says. */
static int compare(struct import_job *job)
{
    const struct ckpt_manifest *manifest = &job->manifest;
    const struct checkpoint *checkpoint = job->checkpoint;
    const struct node_checkpoint *pub = &checkpoint->pub;

    if (!manifest->disk.base[0] || strcmp(manifest->disk.base, checkpoint->bases[0]) != 0) {
        return bad(job, "its disk has another base than it says");
    }
    if (manifest->disk.bytes != (uint64_t)pub->spec.disk_mb << 20) {
        return bad(job, "its disk has another size than it says");
    }
    if (manifest->has_memory == pub->disk_only) {
        return bad(job, "it has memory and says it has none, or the other way round");
    }
    if (manifest->has_memory && (manifest->memory.bytes > MEMORY_BYTES_MAX ||
                                 strcmp(manifest->memory.base, checkpoint->bases[1]) != 0)) {
        return bad(job, "its memory is too large or has another base than it says");
    }
    return 0;
}

int import_read(struct import_job *job)
{
    struct checkpoint *checkpoint = job->checkpoint;
    int rc = read_manifest(job, &job->manifest_id, &job->manifest, &job->pin);

    if (rc == 0) {
        rc = checkpoint_decode_config(checkpoint, shl_buf_bytes(&job->manifest.config), &job->err);
    }
    if (rc == 0 && !job->manifest.has_memory) {
        checkpoint->bases[1][0] = '\0'; /* older ones name it all the same */
    }
    if (rc == 0) {
        rc = compare(job);
    }
    if (rc == 0) {
        import_look(job);
    }
    return rc;
}

void import_look(struct import_job *job)
{
    const struct checkpoint *checkpoint = job->checkpoint;
    int i;

    for (i = 0; i < NODE_BASES_MAX; i++) {
        const char *id = checkpoint->bases[i];

        job->missing[i] =
            id[0] && !bases_has_file(job->manager, checkpoint->pub.spec.template_name, id, i == 1);
    }
}

void import_run_read(uv_work_t *work)
{
    struct import_job *job = work->data;

    job->rc = import_read(job);
}

void import_release(struct import_job *job)
{
    if (job->pin) {
        ckpt_pin_release(job->pin);
    }
    ckpt_manifest_release(&job->manifest);
}

/* ---- bases -------------------------------------------------------------------------- */

static int write_base(struct import_job *job,
                      const struct ckpt_manifest *manifest,
                      uint64_t bytes,
                      const char *path)
{
    SHL_CLEANUP_FD int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    return fd < 0 ? shl_err_sys(&job->err, errno, "cannot create %s", path)
                  : ckpt_raw_materialise(job->set->store, manifest, bytes, fd, &job->err);
}

static int sync_path(struct import_job *job, const char *path)
{
    SHL_CLEANUP_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 || fsync(fd) < 0 ? shl_err_sys(&job->err, errno, "cannot write %s to disk", path)
                                   : 0;
}

/* In a folder of its own, which gets its name when it is whole. */
static int place_base(struct import_job *job,
                      const struct ckpt_manifest *manifest,
                      uint64_t bytes,
                      const char *id,
                      bool is_memory)
{
    const char *parent = is_memory ? "warm" : "bases";
    char making[SANDBOX_PATH_MAX - 16], file[SANDBOX_PATH_MAX], path[SANDBOX_PATH_MAX];
    char name[NODE_LAYER_ID_SIZE];
    int rc;

    shl_id_make(name, sizeof(name), "", sizeof(name) - 1);
    (void)snprintf(making, sizeof(making), "%s/%s/new-%s", job->manager->data_dir, parent, name);
    (void)snprintf(file, sizeof(file), "%s/%s", making, is_memory ? "mem" : LAYERS_BASE_IMAGE);
    (is_memory ? layers_warm_path : layers_base_path)(job->manager, id, "", path, sizeof(path));
    rc = shl_mkdir_all(making, 0700);
    rc = rc < 0 ? shl_err_sys(&job->err, -rc, "cannot make %s", making)
                : write_base(job, manifest, bytes, file);
    if (rc == 0) {
        rc = sync_path(job, making);
    }
    /* another import may have been faster */
    if (rc == 0 && rename(making, path) < 0 && errno != ENOTEMPTY && errno != EEXIST) {
        rc = shl_err_sys(&job->err, errno, "cannot name %s", path);
    }
    (void)!shl_remove_tree(making);
    return rc < 0 ? rc : files_sync_folder(job->manager, parent, &job->err);
}

static int make_base(struct import_job *job, const char *id, bool is_memory)
{
    struct ckpt_manifest manifest;
    struct ckpt_pin *pin = NULL;
    uint64_t bytes = 0;
    uint32_t i = 0;
    int rc;

    while (i < job->base_count && strcmp(job->bases[i].id, id) != 0) {
        i++;
    }
    if (i == job->base_count) {
        return shl_err_set(&job->err, SHL_ENOTFOUND, "base %s is not on this node", id);
    }
    ckpt_manifest_init(&manifest);
    rc = read_manifest(job, &job->bases[i].manifest_id, &manifest, &pin);
    if (rc == 0) {
        rc = bases_decode_config(shl_buf_bytes(&manifest.config), id, is_memory, &bytes, &job->err);
        if (rc == 0 && is_memory && bytes > MEMORY_BYTES_MAX) {
            rc = bad(job, "the memory of a base is too large");
        }
        rc = rc < 0 ? rc : place_base(job, &manifest, bytes, id, is_memory);
        ckpt_pin_release(pin);
    }
    ckpt_manifest_release(&manifest);
    return rc;
}

/* ---- layers ------------------------------------------------------------------------- */

static int write_layers(struct import_job *job, int base_fd)
{
    const struct node_stack *stack = &job->stack;
    SHL_CLEANUP_FD int disk_fd = -1;
    SHL_CLEANUP_FD int mem_fd = -1;
    SHL_CLEANUP_FD int state_fd = -1;
    struct ckpt_target target = {.disk_base_fd = base_fd};
    struct shl_err *err = &job->err;

    disk_fd = files_new_layer(job->manager, stack->disk[0].hex, LAYERS_DISK, err);
    if (disk_fd < 0) {
        return disk_fd;
    }
    mem_fd = files_new_layer(job->manager, stack->mem[0].hex, LAYERS_MEM, err);
    if (mem_fd < 0) {
        return mem_fd;
    }
    state_fd = files_new_layer(job->manager, stack->state.hex, LAYERS_STATE, err);
    if (state_fd < 0) {
        return state_fd;
    }
    target.disk_fd = disk_fd;
    target.mem_fd = mem_fd;
    target.state_fd = state_fd;
    return ckpt_image_materialise(job->set->store, &job->manifest, &target, err);
}

static int sync_layers(struct import_job *job)
{
    const struct node_stack *stack = &job->stack;
    int rc =
        files_sync_layer(job->manager, stack->disk[0].hex, LAYERS_DISK, &job->bytes, &job->err);

    if (rc == 0) {
        rc = files_sync_layer(job->manager, stack->mem[0].hex, LAYERS_MEM, &job->bytes, &job->err);
    }
    if (rc == 0) {
        rc = files_sync_layer(job->manager, stack->state.hex, LAYERS_STATE, &job->bytes, &job->err);
    }
    return rc < 0 ? rc : files_sync_folder(job->manager, "layers", &job->err);
}

static int make_layers(struct import_job *job)
{
    struct node_stack base = {.whole_disk = true};
    struct node_stack_fds fds;
    int rc;

    (void)memcpy(base.base, job->stack.base, sizeof(base.base));
    rc = node_stack_open(job->manager, job->checkpoint->pub.spec.template_name, &base, &fds,
                         &job->err);
    if (rc == 0) {
        rc = write_layers(job, fds.base);
        node_stack_close(&fds);
    }
    return rc < 0 ? rc : sync_layers(job);
}

void import_run_write(uv_work_t *work)
{
    struct import_job *job = work->data;
    int i;

    job->rc = 0;
    for (i = 0; job->rc == 0 && i < NODE_BASES_MAX; i++) {
        if (job->missing[i]) {
            job->rc = make_base(job, job->checkpoint->bases[i], i == 1);
        }
    }
    if (job->rc == 0 && job->has_layers) {
        job->rc = make_layers(job);
    }
}
