#include "node/image/build.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/image/actions.h"
#include "node/image/row.h"
#include "node/sandbox/builder.h"
#include "node/sandbox/command.h"
#include "node/sandbox/text.h"

#define POLL_MS     50  /* looks at checkpoints that are being made */
#define LINE_BYTES  400 /* bytes of a line of output that is shown */
#define WRITE_WANTS (64 * 1024)

enum part {
    PART_STEPS,   /* the first builder */
    PART_SAVING,  /* its disk is being kept */
    PART_BETWEEN, /* it ends, the second one starts */
    PART_FINAL,   /* the second one runs, and is kept */
    PART_ENDING,  /* it ends: what starts from the image may need its memory */
    PART_OVER,    /* the outcome is told; layers may still be made durable */
};

struct kept { /* a checkpoint, by its id: it may go meanwhile */
    char id[NODE_CHECKPOINT_ID_SIZE];
    size_t steps;
    bool is_settled;
};

struct image_build {
    uv_loop_t *loop;
    struct node_manager *manager;
    const struct shl_log *log;
    char org[NODE_ORG_ID_SIZE];
    struct image_manifest *manifest;
    const struct image_build_ops *ops;
    void *arg;
    uint32_t step_s;

    enum part part;
    struct node_sandbox *builder; /* runs; NULL between */
    bool is_starting;             /* created is to come */
    size_t step, action;          /* the next one */
    size_t session;               /* counts commands */
    struct image_action current;
    struct node_command *command;
    struct node_agent_stream *stream; /* a file being written */
    size_t written;
    struct kept layers[IMAGE_STEPS_MAX];
    size_t layer_count;
    char taking[NODE_CHECKPOINT_ID_SIZE]; /* waited for */
    char disk[NODE_CHECKPOINT_ID_SIZE];   /* after the last step */
    char image[NODE_CHECKPOINT_ID_SIZE];
    char line[LINE_BYTES + 1]; /* of output, not complete yet */
    size_t line_len;

    int code;
    char msg[IMAGE_ERROR_MAX];
    uv_timer_t poll, limit;
    int handles;
};

static void next_action(struct image_build *build);

/* ---- what is shown ------------------------------------------------------------------- */

static const char *type_of(const struct image_build *build)
{
    return build->step < build->manifest->step_count
               ? image_step_name(build->manifest->steps[build->step].type)
               : "checkpoint";
}

static void say(struct image_build *build, size_t step, const char *type, const char *fmt, ...)
    SHL_PRINTF(4, 5);

static void say(struct image_build *build, size_t step, const char *type, const char *fmt, ...)
{
    char text[512];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    build->ops->log(build->arg, step, type, text);
}

static void flush_line(struct image_build *build)
{
    char text[LINE_BYTES + 1];

    node_text_clean(text, sizeof(text), shl_bytes_of(build->line, build->line_len));
    build->line_len = 0;
    if (text[strspn(text, " ")] != '\0') {
        build->ops->log(build->arg, build->step + 1, type_of(build), text);
    }
}

static void on_output(void *arg, struct shl_bytes data)
{
    struct image_build *build = arg;

    for (size_t i = 0; i < data.len; i++) {
        if (data.base[i] == '\n' || build->line_len == LINE_BYTES) {
            flush_line(build);
        }
        if (data.base[i] != '\n') {
            build->line[build->line_len++] = (char)data.base[i];
        }
    }
}

/* ---- the end ------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle)
{
    struct image_build *build = handle->data;

    if (--build->handles == 0) {
        build->ops->closed(build->arg);
        image_action_release(&build->current);
        free(build);
    }
}

static void delete_kept(struct image_build *build, const char *id)
{
    struct node_checkpoint *checkpoint =
        id[0] ? node_checkpoint_find(build->manager, build->org, id) : NULL;
    struct shl_err err = {0};

    if (checkpoint && node_checkpoint_delete(build->manager, checkpoint, &err) < 0) {
        SHL_LOG(build->log, SHL_LOG_WARN, "image_checkpoint_not_deleted", SHL_S("checkpoint", id),
                SHL_S("reason", err.msg));
    }
}

/* Nothing of it runs any more and every layer is durable or gone. */
static void maybe_close(struct image_build *build)
{
    if (build->part != PART_OVER || build->builder || build->is_starting || build->command ||
        build->stream || uv_is_closing((uv_handle_t *)&build->poll)) {
        return;
    }
    for (size_t i = 0; i < build->layer_count; i++) {
        if (!build->layers[i].is_settled) {
            return;
        }
    }
    build->handles = 2;
    uv_close((uv_handle_t *)&build->poll, on_closed);
    uv_close((uv_handle_t *)&build->limit, on_closed);
}

static void tell(struct image_build *build)
{
    struct image_build_outcome outcome = {
        .code = build->code, .msg = build->msg, .checkpoint = build->image};

    build->part = PART_OVER;
    (void)uv_timer_stop(&build->limit);
    if (build->code < 0) {
        delete_kept(build, build->image);
    }
    delete_kept(build, build->disk);
    if (build->command) {
        node_command_cancel(build->command);
    }
    if (build->stream) {
        node_agent_cancel(build->stream);
    }
    if (build->builder) {
        node_builder_end(build->builder);
    }
    build->ops->done(build->arg, &outcome);
    maybe_close(build);
}

static void fail(struct image_build *build, int code, const char *fmt, ...) SHL_PRINTF(3, 4);

static void fail(struct image_build *build, int code, const char *fmt, ...)
{
    va_list args;

    if (build->part == PART_OVER) {
        return;
    }
    build->code = code;
    va_start(args, fmt);
    (void)vsnprintf(build->msg, sizeof(build->msg), fmt, args);
    va_end(args);
    tell(build);
}

/* A step: "step 0 (run) failed ...". */
static void fail_step(struct image_build *build, int code, const char *what)
{
    fail(build, code, "image build failed: step %zu (%s) %s", build->step, type_of(build), what);
}

/* ---- checkpoints --------------------------------------------------------------------- */

/* 0 with its id in @ret. */
static int keep(struct image_build *build,
                const char *name,
                bool disk_only,
                char ret[NODE_CHECKPOINT_ID_SIZE])
{
    struct node_checkpoint_spec spec = {.disk_only = disk_only};
    struct node_checkpoint *checkpoint;
    struct node_kv_list envs = {0};
    struct shl_err err = {0};
    int rc = image_manifest_env(build->manifest, build->step, &envs);

    if (rc == 0) {
        rc = node_builder_set_image(build->builder, &envs,
                                    image_manifest_workdir(build->manifest, build->step));
    }
    node_kv_release(&envs);
    (void)snprintf(spec.name, sizeof(spec.name), "%s", name);
    if (rc == 0) {
        rc = node_checkpoint_create(build->manager, build->builder, &spec, &checkpoint, &err);
    }
    if (rc < 0) {
        fail(build, rc, "the image cannot be kept: %s", err.msg[0] ? err.msg : shl_err_text(rc));
        return rc;
    }
    memcpy(ret, checkpoint->id, NODE_CHECKPOINT_ID_SIZE);
    memcpy(build->taking, checkpoint->id, sizeof(build->taking));
    return 0;
}

static struct node_checkpoint *find(struct image_build *build, const char *id)
{
    return node_checkpoint_find(build->manager, build->org, id);
}

static bool is_failed(const struct node_checkpoint *checkpoint)
{
    return !checkpoint || checkpoint->status == NODE_CHECKPOINT_FAILED;
}

static void settle_layers(struct image_build *build)
{
    for (size_t i = 0; i < build->layer_count; i++) {
        struct kept *layer = &build->layers[i];
        const struct node_checkpoint *checkpoint;

        if (layer->is_settled) {
            continue;
        }
        checkpoint = find(build, layer->id);
        if (!is_failed(checkpoint) && checkpoint->status != NODE_CHECKPOINT_READY) {
            continue;
        }
        layer->is_settled = true;
        if (is_failed(checkpoint)) {
            delete_kept(build, layer->id);
        } else {
            build->ops->layer(build->arg, layer->steps, layer->id);
        }
    }
}

static void start_final(struct image_build *build);

/* What is waited for has been taken. */
static void on_taken(struct image_build *build, const struct node_checkpoint *checkpoint)
{
    switch (build->part) {
    case PART_STEPS: /* a layer */
        build->taking[0] = '\0';
        next_action(build);
        break;
    case PART_SAVING:
        build->taking[0] = '\0';
        build->part = PART_BETWEEN;
        node_builder_end(build->builder);
        break;
    case PART_FINAL:
        if (checkpoint->status == NODE_CHECKPOINT_READY) {
            build->taking[0] = '\0';
            build->part = PART_ENDING;
            (void)uv_timer_stop(&build->limit);
            node_builder_end(build->builder);
        }
        break;
    case PART_BETWEEN:
    case PART_ENDING:
    case PART_OVER:
        break;
    }
}

static void on_poll(uv_timer_t *timer)
{
    struct image_build *build = timer->data;
    const struct node_checkpoint *checkpoint;

    settle_layers(build);
    if (build->part != PART_OVER && build->taking[0]) {
        checkpoint = find(build, build->taking);
        if (is_failed(checkpoint)) {
            fail(build, -EIO, "the image cannot be kept: %s",
                 checkpoint ? checkpoint->error : "its checkpoint is gone");
        } else if (node_checkpoint_is_taken(checkpoint)) {
            on_taken(build, checkpoint);
        }
    }
    maybe_close(build);
}

/* ---- files --------------------------------------------------------------------------- */

static void write_more(struct image_build *build)
{
    const struct image_action *action = &build->current;

    while (build->written < action->content_len) {
        size_t len = SHL_MIN(action->content_len - build->written, (size_t)WRITE_WANTS);
        size_t taken = node_agent_write(build->stream, AGENT_CHANNEL_RAW,
                                        shl_bytes_of(action->content + build->written, len));

        build->written += taken;
        if (taken < len) {
            return; /* on_writable follows */
        }
    }
    node_agent_eof(build->stream);
}

static void on_writable(void *arg)
{
    write_more(arg);
}

static void on_written(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct image_build *build = arg;
    char text[NODE_REASON_MAX + AGENT_PATH_MAX];

    (void)response;
    build->stream = NULL;
    if (build->part == PART_OVER) {
        maybe_close(build);
        return;
    }
    if (code < 0) {
        (void)snprintf(text, sizeof(text), "failed: cannot write %s: %s", build->current.path,
                       msg && msg[0] ? msg : shl_err_text(code));
        fail_step(build, SHL_EINVALIDARG, text);
        return;
    }
    build->action++;
    next_action(build);
}

static void start_write(struct image_build *build)
{
    static const struct node_agent_stream_ops ops = {.on_writable = on_writable,
                                                     .on_end = on_written};
    struct shl_mp_writer w;
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, AGENT_REQUEST_MAX);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "op", "file.write");
    shl_mp_kv_str(&w, "path", build->current.path);
    shl_mp_end(&w);
    rc = shl_mp_done(&w);
    if (rc == 0) {
        rc = node_agent_open(build->builder->agent, shl_buf_bytes(&buf), &ops, build,
                             &build->stream);
    }
    shl_buf_release(&buf);
    if (rc < 0) {
        fail_step(build, rc, "failed: the builder cannot be reached");
        return;
    }
    build->written = 0;
    write_more(build);
}

/* ---- programs ------------------------------------------------------------------------ */

/* "failed (exit 1): E: no such package", with the end of what it printed. */
static void fail_program(struct image_build *build, const struct node_command_result *result)
{
    struct shl_bytes tail = result->err.len > 0 ? result->err : result->out;
    char output[501], text[IMAGE_ERROR_MAX];

    if (tail.len > sizeof(output) - 1) {
        tail.base += tail.len - (sizeof(output) - 1);
        tail.len = sizeof(output) - 1;
    }
    node_text_clean(output, sizeof(output), tail);
    if (result->timed_out) {
        (void)snprintf(text, sizeof(text), "did not end within %u s: %s", build->step_s, output);
    } else {
        (void)snprintf(text, sizeof(text), "failed (exit %lld)%s: %s", (long long)result->exit_code,
                       result->exit_code == 137
                           ? ": it was killed, perhaps for want of memory: raise builderMemory"
                           : "",
                       output);
    }
    fail_step(build, SHL_EINVALIDARG, text);
}

static void on_command(void *arg, const struct node_command_result *result)
{
    struct image_build *build = arg;

    build->command = NULL;
    if (build->part == PART_OVER) {
        maybe_close(build);
        return;
    }
    flush_line(build);
    if (result->code == SHL_EINVALIDARG) {
        fail_step(build, result->code, result->msg); /* no such folder, too large, ... */
    } else if (result->code < 0) {
        fail(build, SHL_EUNAVAILABLE, "image build failed: step %zu (%s): the builder is gone: %s",
             build->step, type_of(build),
             result->msg[0] ? result->msg : shl_err_text(result->code));
    } else if (result->exit_code != 0 || result->timed_out) {
        fail_program(build, result);
    } else {
        build->action++;
        next_action(build);
    }
}

static const struct node_command_ops command_ops = {.output = on_output, .end = on_command};

/* Variables of the image so far, and the program's own. */
static int collect_envs(struct image_build *build, struct node_kv_list *list)
{
    int rc = image_manifest_env(build->manifest, build->step, list);

    for (size_t i = 0; rc == 0 && build->current.envs[i]; i += 2) {
        rc = node_kv_set(list, build->current.envs[i], build->current.envs[i + 1]);
    }
    return rc;
}

static void start_program(struct image_build *build)
{
    const struct image_action *action = &build->current;
    char session[AGENT_SESSION_ID_MAX + 1];
    struct node_command_spec spec = {.session = session,
                                     .argv = (const char *const *)action->argv,
                                     .user = action->as_root ? "root" : NULL,
                                     .timeout_s = build->step_s};
    struct node_kv_list list = {0};
    const char **envs = NULL;
    struct shl_err err = {0};
    int rc = collect_envs(build, &list);

    (void)snprintf(session, sizeof(session), "_image-%zu", build->session++);
    spec.cwd = action->as_root ? "/" : image_manifest_workdir(build->manifest, build->step);
    envs = rc == 0 ? calloc(2 * list.count + 1, sizeof(*envs)) : NULL;
    if (envs) {
        for (size_t i = 0; i < list.count; i++) {
            envs[2 * i] = list.items[i].key;
            envs[2 * i + 1] = list.items[i].value;
        }
        spec.envs = envs;
        rc = node_command_start(build->builder->agent, &spec, &command_ops, build, &build->command,
                                &err);
    } else {
        rc = shl_err_set(&err, -ENOMEM, "the node is out of memory");
    }
    free(envs);
    node_kv_release(&list);
    if (rc < 0) {
        fail_step(build, rc, err.msg);
    }
}

/* ---- steps --------------------------------------------------------------------------- */

static bool is_long(enum image_step_type type)
{
    return type == IMAGE_STEP_APT || type == IMAGE_STEP_PIP || type == IMAGE_STEP_RUN;
}

static void save_disk(struct image_build *build)
{
    build->part = PART_SAVING;
    say(build, build->manifest->step_count + 1, "checkpoint", "Creating checkpoint...");
    (void)!keep(build, "disk", true, build->disk);
}

/* All actions of a step are done. */
static void end_step(struct image_build *build)
{
    const struct image_step *step = &build->manifest->steps[build->step];
    struct kept *layer = &build->layers[build->layer_count];
    char name[32];

    say(build, build->step + 1, image_step_name(step->type), "Step %zu/%zu completed",
        build->step + 1, build->manifest->step_count);
    build->step++;
    build->action = 0;
    if (build->step < build->manifest->step_count && is_long(step->type)) {
        (void)snprintf(name, sizeof(name), "layer-%zu", build->step);
        if (keep(build, name, true, layer->id) == 0) {
            layer->steps = build->step;
            build->layer_count++;
        }
        return; /* on_taken goes on */
    }
    next_action(build);
}

static void next_action(struct image_build *build)
{
    struct image_step *step = &build->manifest->steps[build->step];
    char text[300];
    int rc;

    if (build->part == PART_OVER) {
        return;
    }
    if (build->step == build->manifest->step_count) {
        save_disk(build);
        return;
    }
    if (build->action == 0) {
        image_step_describe(step, text, sizeof(text));
        say(build, build->step + 1, image_step_name(step->type), "Step %zu/%zu: %s",
            build->step + 1, build->manifest->step_count, text);
    }
    image_action_release(&build->current);
    rc = image_action_get(step, build->action, &build->current);
    if (rc < 0) {
        fail_step(build, rc, shl_err_text(rc));
    } else if (rc == 0) {
        end_step(build);
    } else if (build->current.is_write) {
        start_write(build);
    } else {
        start_program(build);
    }
}

/* ---- builders ------------------------------------------------------------------------ */

/* The commands of it hear of it, too. */
static void on_builder_ended(void *arg, int code, const char *msg)
{
    struct image_build *build = arg;

    (void)code;
    build->builder = NULL;
    if (build->part == PART_BETWEEN) {
        start_final(build);
    } else if (build->part == PART_ENDING) {
        build->code = 0;
        tell(build);
    } else {
        fail(build, SHL_EUNAVAILABLE, "image build failed: the builder ended: %s", msg);
    }
    maybe_close(build);
}

static void on_builder(void *arg, int code, const char *msg, struct node_sandbox *sandbox)
{
    struct image_build *build = arg;

    build->is_starting = false;
    build->builder = sandbox;
    if (build->part == PART_OVER) {
        if (sandbox) {
            node_builder_end(sandbox);
        }
        maybe_close(build);
    } else if (code < 0) {
        fail(build, code, "the builder did not start: %s", msg);
    } else if (build->part == PART_FINAL) {
        (void)!keep(build, "image", false, build->image);
    } else {
        next_action(build);
    }
}

static int start_builder(struct image_build *build,
                         uint32_t memory_mb,
                         struct node_checkpoint *from,
                         struct shl_err *err)
{
    static const struct node_builder_ops ops = {.created = on_builder, .ended = on_builder_ended};
    struct node_sandbox_spec spec = {
        .cpus = IMAGE_CPUS, .memory_mb = memory_mb, .disk_mb = NODE_DISK_MIN_MB};
    int rc;

    (void)snprintf(spec.org, sizeof(spec.org), "%s", build->org);
    (void)snprintf(spec.template_name, sizeof(spec.template_name), "%s", build->manifest->base);
    rc = node_builder_create(build->manager, &spec, from, &ops, build, err);
    build->is_starting = rc == 0;
    return rc;
}

static void start_final(struct image_build *build)
{
    struct node_checkpoint *disk = find(build, build->disk);
    struct shl_err err = {0};

    build->part = PART_FINAL;
    if (!disk) {
        fail(build, SHL_EUNAVAILABLE, "the image cannot be kept: its disk is gone");
    } else if (start_builder(build, build->manifest->runtime_mb, disk, &err) < 0) {
        fail(build, err.code, "the image cannot be kept: %s", err.msg);
    }
}

/* What was not asked for takes what is there. */
static uint32_t builder_memory(const struct image_build *build)
{
    struct node_manager_counts counts;
    uint32_t wanted = build->manifest->builder_mb;
    uint32_t free_mb;

    node_manager_count(build->manager, &counts);
    free_mb = counts.memory_usable_mb > counts.memory_committed_mb
                  ? counts.memory_usable_mb - counts.memory_committed_mb
                  : 0;
    if (build->manifest->is_builder_given || free_mb == 0) {
        return wanted;
    }
    return SHL_MAX(SHL_MIN(wanted, free_mb), (uint32_t)IMAGE_MEMORY_MIN_MB);
}

/* ---- interface ----------------------------------------------------------------------- */

static void on_limit(uv_timer_t *timer)
{
    struct image_build *build = timer->data;

    fail(build, -ETIMEDOUT, "image build failed: it took longer than the limit for a whole build");
}

int image_build_start(const struct image_build_config *config,
                      const struct image_build_ops *ops,
                      void *arg,
                      struct image_build **ret_build,
                      struct shl_err *err)
{
    struct image_build *build = calloc(1, sizeof(*build));
    uint32_t total_s = config->total_s > 0 ? config->total_s : IMAGE_TOTAL_S;
    int rc;

    if (!build) {
        return shl_err_set(err, -ENOMEM, "no memory for the build");
    }
    build->loop = config->loop;
    build->manager = config->manager;
    build->log = config->log;
    build->manifest = config->manifest;
    build->ops = ops;
    build->arg = arg;
    build->step_s = config->step_s > 0 ? config->step_s : IMAGE_STEP_S;
    build->step = config->layer ? config->layer_steps : 0;
    (void)snprintf(build->org, sizeof(build->org), "%s", config->org);
    rc = start_builder(build, builder_memory(build), config->layer, err);
    if (rc < 0) {
        free(build);
        return rc;
    }
    (void)uv_timer_init(build->loop, &build->poll);
    (void)uv_timer_init(build->loop, &build->limit);
    build->poll.data = build->limit.data = build;
    (void)uv_timer_start(&build->poll, on_poll, POLL_MS, POLL_MS);
    (void)uv_timer_start(&build->limit, on_limit, (uint64_t)total_s * 1000, 0);
    *ret_build = build;
    return 0;
}

void image_build_cancel(struct image_build *build, const char *why)
{
    for (size_t i = 0; i < build->layer_count; i++) {
        build->layers[i].is_settled = true; /* whoever comes next looks after them */
    }
    fail(build, -ECANCELED, "%s", why);
    maybe_close(build);
}
