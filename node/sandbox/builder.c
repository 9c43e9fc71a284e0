#include "node/sandbox/builder.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node/sandbox/checkpoints_private.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"

struct builder {
    struct checkpoint_waiter waiter;
    struct node_manager *manager;
    struct node_sandbox_spec spec;
    const struct node_builder_ops *ops;
    void *arg;
    struct sandbox *sandbox;
};

static void builder_free(struct builder *builder)
{
    sandbox_spec_release(&builder->spec);
    free(builder);
}

static void on_ended(void *arg, int code, const char *msg)
{
    struct builder *builder = arg;

    (void)code;
    (void)msg;
    builder->ops->ended(builder->arg, builder->sandbox->end_code, builder->sandbox->end_reason);
    builder_free(builder);
}

static void on_created(void *arg, int code, const char *msg, struct node_sandbox *sandbox)
{
    struct builder *builder = arg;
    const struct node_builder_ops *ops = builder->ops;
    void *ops_arg = builder->arg;

    if (code == 0 && waiter_add(&sandbox_of(sandbox)->waiters, on_ended, builder) < 0) {
        sandbox_end(sandbox_of(sandbox), NODE_SANDBOX_ERROR, -ENOMEM, "there is not enough memory");
        code = -ENOMEM;
        msg = "there is not enough memory";
    }
    if (code < 0) {
        builder_free(builder);
        ops->created(ops_arg, code, msg, NULL);
        return;
    }
    ops->created(ops_arg, 0, "", sandbox);
}

static int begin(struct builder *builder, const struct node_stack *stack, struct shl_err *err)
{
    uint64_t bytes;
    int rc = sandbox_spec_check(&builder->spec, err);

    if (rc == 0 && files_base(builder->manager, stack->base, &bytes) < 0) {
        rc = files_template(builder->manager, builder->spec.template_name, &bytes, err);
    }
    return rc < 0 ? rc
                  : sandbox_create_hidden(builder->manager, &builder->spec, stack, on_created,
                                          builder, &builder->sandbox, err);
}

static void on_stack(struct checkpoint_waiter *waiter,
                     int code,
                     const char *msg,
                     const struct node_stack *stack)
{
    struct builder *builder = shl_container_of(waiter, struct builder, waiter);
    struct shl_err err = {0};

    if (code == 0) {
        code = begin(builder, stack, &err);
        msg = err.msg;
    }
    if (code < 0) {
        builder->ops->created(builder->arg, code, msg, NULL);
        builder_free(builder);
    }
}

int node_builder_create(struct node_manager *manager,
                        const struct node_sandbox_spec *spec,
                        struct node_checkpoint *checkpoint,
                        const struct node_builder_ops *ops,
                        void *arg,
                        struct shl_err *err)
{
    struct builder *builder = calloc(1, sizeof(*builder));
    int rc;

    if (!builder || sandbox_spec_copy(&builder->spec, spec) < 0) {
        free(builder);
        return shl_err_sys(err, ENOMEM, "cannot build an image");
    }
    builder->spec.is_build = true;
    builder->manager = manager;
    builder->ops = ops;
    builder->arg = arg;
    builder->waiter.go = on_stack;
    if (checkpoint) {
        rc = checkpoint_wait(checkpoint_of(checkpoint), &builder->waiter, err);
    } else {
        struct node_stack stack;

        warm_stack(manager, spec->template_name, &stack);
        rc = begin(builder, &stack, err);
    }
    if (rc < 0) {
        builder_free(builder);
    }
    return rc;
}

void node_builder_end(struct node_sandbox *sandbox)
{
    sandbox_end(sandbox_of(sandbox), NODE_SANDBOX_STOPPED, SHL_EGONE, "the build is over");
}

int node_builder_set_image(struct node_sandbox *sandbox,
                           const struct node_kv_list *envs,
                           const char *workdir)
{
    struct node_sandbox_spec *spec = &sandbox->spec;
    size_t i;
    int rc = 0;

    for (i = 0; i < envs->count && rc == 0; i++) {
        rc = node_kv_set(&spec->image_envs, envs->items[i].key, envs->items[i].value);
    }
    (void)snprintf(spec->workdir, sizeof(spec->workdir), "%s", workdir ? workdir : "");
    return rc;
}

bool node_checkpoint_is_taken(const struct node_checkpoint *pub)
{
    return shl_container_of(pub, struct checkpoint, pub)->has_stack ||
           pub->status != NODE_CHECKPOINT_PROCESSING;
}

int node_template_identity(struct node_manager *manager,
                           const char *name,
                           char ret[NODE_TEMPLATE_IDENTITY_SIZE],
                           struct shl_err *err)
{
    int fd;
    int rc = files_open_template(manager, name, &fd, ret, err);

    if (rc == 0) {
        (void)close(fd);
    }
    return rc;
}

void node_checkpoint_each_build(struct node_manager *manager,
                                bool (*each)(void *arg, struct node_checkpoint *checkpoint),
                                void *arg)
{
    struct shl_list *it, *next;

    SHL_LIST_FOREACH_SAFE(it, next, &manager->checkpoints->all) {
        struct node_checkpoint *pub = shl_container_of(it, struct node_checkpoint, link);

        if (pub->spec.is_build && !each(arg, pub)) {
            return;
        }
    }
}
