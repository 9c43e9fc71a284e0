/* Image manifests: what is to be built, checked, and under which name it is kept.
 *
 * Pure. {"base", "steps": [{"type", "args"}], "builderMemoryMB", "runtimeMemoryMB", "name"};
 * a step may also hold its arguments beside the type. Everything is checked before anything is
 * built, and each refusal names the step.
 *
 * The content hash is SHA-256 over canonical JSON (sorted keys, no blanks, no escapes that JSON
 * does not need) of {"base", "steps"}: for ASCII what Python's json.dumps(sort_keys=True,
 * separators=(",", ":")) makes. Names and memory sizes are not part of it. Every step has the hash
 * of the manifest that ends with it: the layers that manifests with the same beginning share.
 */
#ifndef SHL_NODE_IMAGE_MANIFEST_H
#define SHL_NODE_IMAGE_MANIFEST_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/err.h"
#include "node/sandbox/manager.h"

#define IMAGE_HASH_SIZE     65 /* hexadecimal text */
#define IMAGE_STEPS_MAX     256
#define IMAGE_ITEMS_MAX     4096                /* packages, commands or files of one step */
#define IMAGE_COMMAND_MAX   (96 * 1024)         /* bytes of what one step runs */
#define IMAGE_ENV_MAX       (16 * 1024)         /* bytes of all variables together */
#define IMAGE_PATH_MAX      4000                /* bytes of a path in the image */
#define IMAGE_CONTENT_MAX   (64u * 1024 * 1024) /* bytes of all files together, decoded */
#define IMAGE_BODY_MAX      (96u * 1024 * 1024) /* of a request that may hold a manifest */
#define IMAGE_NAME_MAX      128
#define IMAGE_BUILDER_MB    4096 /* defaults */
#define IMAGE_RUNTIME_MB    1024
#define IMAGE_MEMORY_MIN_MB 1024 /* both are raised to this, and lowered to NODE_MEMORY_MAX_MB */

enum image_step_type {
    IMAGE_STEP_APT,
    IMAGE_STEP_PIP,
    IMAGE_STEP_RUN,
    IMAGE_STEP_ENV,
    IMAGE_STEP_WORKDIR,
    IMAGE_STEP_FILE,
    IMAGE_STEP_DIR,
    IMAGE_STEP_COUNT,
};

struct image_step {
    enum image_step_type type;
    const json_t *args;         /* of the manifest's JSON */
    bool is_flat;               /* args is the step itself */
    char hash[IMAGE_HASH_SIZE]; /* of the manifest up to here */
    size_t folder_chunks;       /* counted by actions.c */
};

struct image_manifest {
    json_t *json;                 /* as it was sent; referenced */
    char base[NODE_TEMPLATE_MAX]; /* aliases resolved */
    char name[IMAGE_NAME_MAX + 1];
    uint32_t builder_mb, runtime_mb;
    bool is_builder_given;    /* builder_mb was asked for */
    struct image_step *steps; /* heap */
    size_t step_count;
    char hash[IMAGE_HASH_SIZE];
};

/* 0, or SHL_EINVALIDARG (-ENOMEM) with a sentence. Release after a success. */
SHL_MUST_CHECK int image_manifest_parse(json_t *json,
                                        struct image_manifest *ret,
                                        struct shl_err *err);
void image_manifest_release(struct image_manifest *manifest);

/* "apt_install" and so on: as in manifests. */
const char *image_step_name(enum image_step_type type);

/* 1 to IMAGE_NAME_MAX of [A-Za-z0-9._-], the first one no dot: of snapshots. 0 or SHL_EINVALIDARG.
 */
SHL_MUST_CHECK int image_name_check(const char *name, struct shl_err *err);

/* What the first @steps steps set: added to @list. 0, -ENOMEM (the manifest was checked). */
SHL_MUST_CHECK int image_manifest_env(const struct image_manifest *manifest,
                                      size_t steps,
                                      struct node_kv_list *list);
/* The working directory after the first @steps steps, NULL when none sets one. Borrowed. */
const char *image_manifest_workdir(const struct image_manifest *manifest, size_t steps);

/* Canonical text of any JSON value. 0, SHL_ELIMIT, -ENOMEM. */
SHL_MUST_CHECK int image_canonical(const json_t *value, struct shl_buf *out);

#endif /* SHL_NODE_IMAGE_MANIFEST_H */
