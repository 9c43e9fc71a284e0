/* One build: from a manifest to checkpoints.
 *
 * Happy path:
 *  1. A builder (node/sandbox/builder.h) starts from the template, or from a layer.
 *  2. The steps, one after the other; after each one that takes long its disk is kept: a layer.
 *  3. The disk after the last one is kept, the builder ends.
 *  4. Another builder, with the memory that the image is to have, boots from that disk; what it is
 *     then, with its memory, is the image. So no process of a step is in it.
 *  5. As soon as that is durable the builder ends, and the build has succeeded.
 *
 * What can go wrong: a step fails (the outcome says which, with the end of its output), the
 * builder dies, a time is over, the node closes. Then what was kept goes, but for layers that are
 * durable.
 *
 * Loop thread. A build is freed by itself after its outcome.
 */
#ifndef SHL_NODE_IMAGE_BUILD_H
#define SHL_NODE_IMAGE_BUILD_H

#include <uv.h>

#include "base/log.h"
#include "node/image/manifest.h"
#include "node/sandbox/checkpoints.h"

#define IMAGE_STEP_S  900       /* of one program of a step */
#define IMAGE_TOTAL_S (60 * 60) /* of a build */
#define IMAGE_CPUS    2

struct image_build;

struct image_build_outcome {
    int code;        /* 0 or why not */
    const char *msg; /* "image build failed: step 0 (run) failed (exit 1): ..." */
    const char *checkpoint;
};

struct image_build_ops {
    /* Something to show: @step counts from 1, 0 is none of them. @text is one line. */
    void (*log)(void *arg, size_t step, const char *type, const char *text);
    /* A layer after the first @steps steps is durable. */
    void (*layer)(void *arg, size_t steps, const char *checkpoint);
    /* Once; the ops may still hear of layers after that ... */
    void (*done)(void *arg, const struct image_build_outcome *outcome);
    /* ... until this: the build is gone. */
    void (*closed)(void *arg);
};

struct image_build_config {
    uv_loop_t *loop;
    struct node_manager *manager;
    const struct shl_log *log;
    const char *org;
    struct image_manifest *manifest; /* borrowed until closed */
    struct node_checkpoint *layer;   /* to start from, or NULL */
    size_t layer_steps;              /* that it holds */
    uint32_t step_s, total_s;        /* 0: as above */
};

SHL_MUST_CHECK int image_build_start(const struct image_build_config *config,
                                     const struct image_build_ops *ops,
                                     void *arg,
                                     struct image_build **ret_build,
                                     struct shl_err *err);
/* It fails now; done (unless it came) and closed follow. */
void image_build_cancel(struct image_build *build, const char *why);

#endif /* SHL_NODE_IMAGE_BUILD_H */
