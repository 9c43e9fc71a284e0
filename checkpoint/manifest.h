/* What one checkpoint consists of, as msgpack; its SHA-256 is its content id.
 *
 * Disk and memory are given relative to a base that is not in the store: the image of a
 * template (immutable, named by its content) and the memory of the template's warm
 * snapshot. A missing entry means "as in the base". Both lists ascend by index.
 */
#ifndef SHL_CHECKPOINT_MANIFEST_H
#define SHL_CHECKPOINT_MANIFEST_H

#include "checkpoint/store.h"

#define CKPT_MANIFEST_VERSION 1
#define CKPT_BASE_ID_MAX      128
#define CKPT_CONFIG_MAX       (512u * 1024) /* envs and metadata at their limits, and room */
#define CKPT_STATE_MAX        (64ull << 20) /* of the VMM's state file */

struct ckpt_entry {
    uint64_t index; /* in units of CKPT_CHUNK_BYTES */
    struct ckpt_id id;
};

struct ckpt_part {
    char base[CKPT_BASE_ID_MAX]; /* "": zeros */
    uint64_t bytes;              /* size of the disk, or of all memory */
    struct ckpt_entry *entries;  /* heap */
    uint64_t count;
};

struct ckpt_manifest {
    struct ckpt_part disk;
    bool has_memory; /* false: a checkpoint of the disk alone */
    struct ckpt_part memory;
    struct ckpt_part state; /* the VMM's state file; base "" */
    struct shl_buf config;  /* opaque to this folder: what the node needs to restore */
    struct ckpt_id parent;  /* zero: none. Informative, nothing depends on it */
};

void ckpt_manifest_init(struct ckpt_manifest *manifest);
void ckpt_manifest_release(struct ckpt_manifest *manifest);
SHL_MUST_CHECK int ckpt_manifest_encode(const struct ckpt_manifest *manifest, struct shl_buf *buf);
/* Hostile input (a peer's): everything is checked. SHL_ECORRUPT, SHL_EVERSION, -ENOMEM. */
SHL_MUST_CHECK int ckpt_manifest_decode(struct ckpt_manifest *manifest,
                                        struct shl_bytes bytes,
                                        struct shl_err *err);

#endif /* SHL_CHECKPOINT_MANIFEST_H */
