/* From the files of a snapshot to a manifest, back to files, and merging of layers.
 *
 * The files are what the VMM writes and maps: memory layers (vmm-kvm/layer.h), sealed
 * disk overlays (vmm-kvm/overlay.h) and a state file. All functions block; run them on a
 * thread pool. Descriptors stay the caller's.
 */
#ifndef SHL_CHECKPOINT_IMAGE_H
#define SHL_CHECKPOINT_IMAGE_H

#include <stdatomic.h>

#include "checkpoint/manifest.h"

#define CKPT_LAYERS_MAX 64

struct ckpt_source {
    int disk_base_fd;              /* read-only image of the template */
    int disk_fds[CKPT_LAYERS_MAX]; /* sealed overlays, lowest first */
    unsigned disk_count;
    uint64_t disk_bytes;
    const char *disk_base; /* id for the manifest */
    bool has_memory;
    int mem_base_fd;              /* -1: zeros */
    int mem_fds[CKPT_LAYERS_MAX]; /* layers, lowest first */
    unsigned mem_count;
    const char *mem_base; /* id for the manifest, "" when mem_base_fd is -1 */
    int state_fd;         /* -1 without memory */
    struct shl_bytes config;
    struct ckpt_id parent;
    const atomic_bool *cancel; /* may be NULL; once it is true: SHL_EUNAVAILABLE */
    unsigned runs_max;         /* of a memory layer made from it; 0: VMM_LAYER_RUNS_MAX */
};

/* Put all chunks of @source into @session and fill @manifest (initialised); the caller
 * encodes and commits it. Zero chunks that equal a hole of the base are left out; a
 * chunk is stored complete, with what lies below where the layers do not cover it. */
SHL_MUST_CHECK int ckpt_image_store(struct ckpt_session *session,
                                    const struct ckpt_source *source,
                                    struct ckpt_manifest *manifest,
                                    struct shl_err *err);

/* Write what @manifest describes into empty read-write files: one sealed overlay over
 * @disk_base_fd, one memory layer and the state file (-1 both for a disk alone). Synced. */
struct ckpt_target {
    int disk_base_fd;
    int disk_fd;
    int mem_fd;
    int state_fd;
    unsigned runs_max; /* of the memory layer; 0: VMM_LAYER_RUNS_MAX */
};
SHL_MUST_CHECK int ckpt_image_materialise(struct ckpt_store *store,
                                          const struct ckpt_manifest *manifest,
                                          const struct ckpt_target *target,
                                          struct shl_err *err);

/* A raw file (a template's image, the memory of a warm template) as the disk of a @manifest
 * (initialised) without base: chunks of zeros and holes are left out, the size is raised to a
 * multiple of 512. The caller encodes and commits it. */
SHL_MUST_CHECK int ckpt_raw_store(struct ckpt_session *session,
                                  int fd,
                                  const atomic_bool *cancel, /* as in struct ckpt_source */
                                  struct ckpt_manifest *manifest,
                                  struct shl_err *err);
/* ... and back into the empty file @fd, of @bytes, with holes. Synced. */
SHL_MUST_CHECK int ckpt_raw_materialise(struct ckpt_store *store,
                                        const struct ckpt_manifest *manifest,
                                        uint64_t bytes,
                                        int fd,
                                        struct shl_err *err);

/* Several layers (lowest first) as one, into the empty file @out_fd. Synced. The result
 * reads as the layers did. Memory: over @base_fd (-1: zeros), from which gaps between runs are
 * filled when there would be more than @runs_max of them (0: VMM_LAYER_RUNS_MAX). */
SHL_MUST_CHECK int ckpt_merge_memory(const int *fds,
                                     unsigned count,
                                     int base_fd,
                                     unsigned runs_max,
                                     int out_fd,
                                     struct shl_err *err);
SHL_MUST_CHECK int ckpt_merge_disk(const int *fds,
                                   unsigned count,
                                   int base_fd,
                                   int out_fd,
                                   struct shl_err *err);

/* Layers without a base as a raw sparse memory image of @bytes (a warm template). Synced. */
SHL_MUST_CHECK int ckpt_flatten_memory(const int *fds,
                                       unsigned count,
                                       uint64_t bytes,
                                       int out_fd,
                                       struct shl_err *err);

/* Whether a file is a whole memory layer or sealed overlay: header, tables, size. */
SHL_MUST_CHECK int ckpt_check_memory(int fd, struct shl_err *err);
SHL_MUST_CHECK int ckpt_check_disk(int fd, struct shl_err *err);

#endif /* SHL_CHECKPOINT_IMAGE_H */
