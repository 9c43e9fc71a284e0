/* From the files of a snapshot to chunks and a manifest. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "checkpoint/image_parts.h"

#define ENTRIES_GROWTH 1024u

struct build {
    struct ckpt_session *session;
    const atomic_bool *cancel;
    struct ckpt_part *part;
    uint64_t cap;
    uint8_t *buffer; /* the chunk */
    uint8_t *below;  /* the base at the same place */
    struct shl_err *err;
};

static int add_entry(struct build *build, uint64_t index, const struct ckpt_id *id)
{
    struct ckpt_part *part = build->part;

    if (part->count == build->cap) {
        uint64_t cap = build->cap ? build->cap * 2 : ENTRIES_GROWTH;
        struct ckpt_entry *entries = realloc(part->entries, cap * sizeof(*entries));

        if (!entries) {
            return shl_err_sys(build->err, ENOMEM, "cannot list the chunks of a checkpoint");
        }
        part->entries = entries;
        build->cap = cap;
    }
    part->entries[part->count++] = (struct ckpt_entry){index, *id};
    return 0;
}

/* Put the chunk in the buffer. A chunk of zeros over zeros is left out. */
static int put(struct build *build, uint64_t index, size_t len, int base_fd)
{
    struct ckpt_id id;
    int rc;

    if (build->cancel && atomic_load(build->cancel)) {
        return shl_err_set(build->err, SHL_EUNAVAILABLE, "storing the checkpoint was interrupted");
    }
    rc = ckpt_session_put(build->session, build->buffer, len, &id, build->err);
    if (rc < 0) {
        return rc;
    }
    if (ckpt_id_is_zero(&id)) {
        rc = ckpt_base_read(base_fd, build->below, len, index * CKPT_CHUNK_BYTES);
        if (rc < 0) {
            return shl_err_sys(build->err, -rc, "cannot read the base of a snapshot");
        }
        if (ckpt_is_zero(build->below, len)) {
            return 0;
        }
    }
    return add_entry(build, index, &id);
}

static int set_base(struct ckpt_part *part, const char *base, struct shl_err *err)
{
    size_t len = base ? strlen(base) : 0;

    if (len >= sizeof(part->base)) {
        return shl_err_set(err, SHL_EINVALIDARG, "the id of a base has up to %d bytes",
                           CKPT_BASE_ID_MAX - 1);
    }
    memcpy(part->base, base ? base : "", len + 1);
    return 0;
}

/*- Disk. */

static int store_disk(struct build *build, const struct ckpt_source *source)
{
    struct ckpt_part *part = build->part;
    uint64_t chunks, n;
    struct ckpt_disk disk;
    int rc = ckpt_disk_open(&disk, source->disk_fds, source->disk_count, source->disk_base_fd,
                            build->err);

    if (rc < 0) {
        return rc;
    }
    part->bytes = source->disk_bytes;
    if (part->bytes == 0 || part->bytes > VMM_OVERLAY_VIRTUAL_MAX ||
        disk.header.virtual_bytes > part->bytes) {
        rc = shl_err_set(build->err, SHL_EINVALIDARG, "a disk layer is larger than the disk");
    }
    chunks = (part->bytes + CKPT_CHUNK_BYTES - 1) / CKPT_CHUNK_BYTES;
    for (n = 0; rc == 0 && n < chunks; n++) {
        size_t len = ckpt_chunk_len(part->bytes, n);

        if (!ckpt_disk_owner(&disk, n)) {
            continue;
        }
        rc = ckpt_disk_read(&disk, n, build->buffer, len, build->err);
        if (rc == 0) {
            rc = put(build, n, len, source->disk_base_fd);
        }
    }
    ckpt_disk_release(&disk);
    return rc;
}

/*- Memory. */

static uint64_t count_runs(const struct ckpt_part *part)
{
    uint64_t i, runs = 0;

    for (i = 0; i < part->count; i++) {
        runs += i == 0 || part->entries[i].index != part->entries[i - 1].index + 1;
    }
    return runs;
}

/* The smallest gap such that bridging all gaps up to it leaves few enough runs. */
static uint64_t choose_gap(const struct ckpt_part *part, uint64_t runs_max)
{
    uint64_t gap = 1, larger, i;

    for (;; gap *= 2) {
        larger = 0;
        for (i = 1; i < part->count; i++) {
            larger += part->entries[i].index - part->entries[i - 1].index > gap + 1;
        }
        if (larger < runs_max) {
            return gap;
        }
    }
}

/* A layer has a limited number of runs, so a memory with more of them lists chunks that
 * are as in the base, too. */
static int bridge_gaps(struct build *build, const struct ckpt_memory *memory, uint64_t runs_max)
{
    struct ckpt_part old = *build->part;
    uint64_t gap = choose_gap(&old, runs_max), i, n;
    struct ckpt_id id;
    int rc = 0;

    build->part->entries = NULL;
    build->part->count = 0;
    build->cap = 0;
    for (i = 0; rc == 0 && i < old.count; i++) {
        n = i > 0 ? old.entries[i - 1].index + 1 : old.entries[i].index;
        if (old.entries[i].index - n > gap) {
            n = old.entries[i].index;
        }
        for (; rc == 0 && n < old.entries[i].index; n++) {
            rc = ckpt_memory_read(memory, n, build->buffer, CKPT_CHUNK_BYTES, build->err);
            if (rc == 0) {
                rc = ckpt_session_put(build->session, build->buffer, CKPT_CHUNK_BYTES, &id,
                                      build->err);
            }
            rc = rc == 0 ? add_entry(build, n, &id) : rc;
        }
        rc = rc == 0 ? add_entry(build, old.entries[i].index, &old.entries[i].id) : rc;
    }
    free(old.entries);
    return rc;
}

static int store_memory(struct build *build, const struct ckpt_source *source)
{
    uint64_t runs_max = source->runs_max ? source->runs_max : VMM_LAYER_RUNS_MAX;
    struct ckpt_part *part = build->part;
    struct ckpt_memory memory;
    uint64_t chunks, n;
    int rc = ckpt_memory_open(&memory, source->mem_fds, source->mem_count, source->mem_base_fd,
                              build->err);

    if (rc < 0) {
        return rc;
    }
    part->bytes = memory.bytes;
    chunks = (part->bytes + CKPT_CHUNK_BYTES - 1) / CKPT_CHUNK_BYTES;
    for (n = 0; rc == 0 && n < chunks; n++) {
        size_t len = ckpt_chunk_len(part->bytes, n);

        if (!ckpt_memory_touched(&memory, n)) {
            continue;
        }
        rc = ckpt_memory_read(&memory, n, build->buffer, len, build->err);
        if (rc == 0) {
            rc = put(build, n, len, source->mem_base_fd);
        }
    }
    /* Over a base of zeros the gaps are bridged when the layer is written. */
    if (rc == 0 && part->base[0] && count_runs(part) > runs_max) {
        rc = bridge_gaps(build, &memory, runs_max);
    }
    ckpt_memory_release(&memory);
    return rc;
}

/*- State. */

static int store_state(struct build *build, int fd)
{
    struct ckpt_part *part = build->part;
    uint64_t n, chunks;
    struct stat st;
    int rc = 0;

    if (fstat(fd, &st) < 0) {
        return shl_err_sys(build->err, errno, "cannot look at the state of a snapshot");
    }
    if (st.st_size <= 0 || (uint64_t)st.st_size > CKPT_STATE_MAX) {
        return shl_err_set(build->err, SHL_ELIMIT, "the state of a snapshot has %lld bytes",
                           (long long)st.st_size);
    }
    part->bytes = (uint64_t)st.st_size;
    chunks = (part->bytes + CKPT_CHUNK_BYTES - 1) / CKPT_CHUNK_BYTES;
    for (n = 0; rc == 0 && n < chunks; n++) {
        size_t len = ckpt_chunk_len(part->bytes, n);

        rc = shl_pread_full(fd, build->buffer, len, n * CKPT_CHUNK_BYTES);
        if (rc < 0) {
            return shl_err_sys(build->err, -rc, "cannot read the state of a snapshot");
        }
        rc = put(build, n, len, -1);
    }
    return rc;
}

/*- All of it. */

static int store_parts(struct build *build,
                       const struct ckpt_source *source,
                       struct ckpt_manifest *manifest)
{
    int rc = set_base(&manifest->disk, source->disk_base, build->err);

    if (rc == 0) {
        build->part = &manifest->disk;
        rc = store_disk(build, source);
    }
    if (rc < 0 || !source->has_memory) {
        return rc;
    }
    manifest->has_memory = true;
    rc = set_base(&manifest->memory, source->mem_base_fd >= 0 ? source->mem_base : "", build->err);
    if (rc == 0) {
        build->part = &manifest->memory;
        build->cap = 0;
        rc = store_memory(build, source);
    }
    if (rc == 0) {
        build->part = &manifest->state;
        build->cap = 0;
        rc = store_state(build, source->state_fd);
    }
    return rc;
}

int ckpt_image_store(struct ckpt_session *session,
                     const struct ckpt_source *source,
                     struct ckpt_manifest *manifest,
                     struct shl_err *err)
{
    SHL_CLEANUP_FREE uint8_t *buffer = malloc(2 * (size_t)CKPT_CHUNK_BYTES);
    struct build build = {
        .session = session, .cancel = source->cancel, .err = err, .buffer = buffer};
    int rc;

    if (!buffer) {
        return shl_err_sys(err, ENOMEM, "cannot store a checkpoint");
    }
    build.below = buffer + CKPT_CHUNK_BYTES;
    rc = shl_buf_append(&manifest->config, source->config.base, source->config.len);
    if (rc < 0) {
        return shl_err_set(err, rc, "the configuration of a checkpoint is too long");
    }
    manifest->parent = source->parent;
    return store_parts(&build, source, manifest);
}
