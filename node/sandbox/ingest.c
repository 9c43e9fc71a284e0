/* Ingest: the layers of a checkpoint become chunks and a manifest in the store.
 *
 * Happy path:
 *  1. enqueue: the newest goes first, because someone waits for it; those that a former
 *     daemon left come last.
 *  2. run (thread pool): open the layers, hash and store every chunk, commit the manifest.
 *  3. done: checkpoint_ready records it.
 *
 * What can go wrong: no space (that checkpoint fails, the store goes on); a layer or the
 * template is missing; the checkpoint is deleted meanwhile, or the daemon is stopped (it
 * ends early; a manifest that was done already is deleted); the daemon dies (the next one does it
 * again and gets the same manifest, because the same bytes have the same name).
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "checkpoint/image.h"
#include "node/sandbox/checkpoints_private.h"
#include "node/sandbox/sandbox.h"

struct checkpoint_ingest {
    uv_work_t work;
    struct checkpoint *checkpoint;

    /* in */
    const struct node_manager *manager;
    struct ckpt_store *store;
    struct node_stack stack; /* referenced */
    char template_name[NODE_TEMPLATE_MAX];
    uint64_t disk_bytes;
    struct shl_buf config;

    /* out */
    int rc;
    struct shl_err err;
    struct ckpt_id manifest;
    struct ckpt_session_stats stats;
    uint64_t run_ms;
};

/* ---- 2. on the thread pool ---------------------------------------------------------- */

static void fill_source(const struct checkpoint_ingest *ingest,
                        const struct node_stack_fds *fds,
                        struct ckpt_source *source)
{
    *source = (struct ckpt_source){
        .disk_base_fd = fds->base,
        .disk_count = fds->disk_count,
        .disk_bytes = ingest->disk_bytes,
        .disk_base = ingest->stack.base,
        .has_memory = ingest->stack.state.hex[0] != '\0',
        .mem_base_fd = fds->warm_mem,
        .mem_count = fds->mem_count,
        .mem_base = fds->warm_mem >= 0 ? ingest->stack.warm : "",
        .state_fd = fds->state,
        .config = shl_buf_bytes(&ingest->config),
        .cancel = &ingest->checkpoint->cancel,
    };
    (void)memcpy(source->disk_fds, fds->disk, fds->disk_count * sizeof(fds->disk[0]));
    (void)memcpy(source->mem_fds, fds->mem, fds->mem_count * sizeof(fds->mem[0]));
}

static int publish(struct checkpoint_ingest *ingest,
                   struct ckpt_session *session,
                   const struct ckpt_manifest *manifest)
{
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, CKPT_MANIFEST_MAX);
    rc = ckpt_manifest_encode(manifest, &buf);
    rc = rc < 0
             ? shl_err_set(&ingest->err, rc, "the manifest cannot be written: %s", shl_err_text(rc))
             : ckpt_session_commit(session, shl_buf_bytes(&buf), &ingest->manifest, &ingest->err);
    shl_buf_release(&buf);
    return rc;
}

static int store_all(struct checkpoint_ingest *ingest, const struct node_stack_fds *fds)
{
    struct ckpt_source source;
    struct ckpt_manifest manifest;
    struct ckpt_session *session;
    int rc = ckpt_session_begin(ingest->store, &session, &ingest->err);

    if (rc < 0) {
        return rc;
    }
    fill_source(ingest, fds, &source);
    ckpt_manifest_init(&manifest);
    rc = ckpt_image_store(session, &source, &manifest, &ingest->err);
    ckpt_session_stats(session, &ingest->stats);
    if (rc == 0) {
        rc = publish(ingest, session, &manifest);
    }
    if (rc < 0) {
        ckpt_session_abort(session);
    }
    ckpt_manifest_release(&manifest);
    return rc;
}

static void run(uv_work_t *work)
{
    struct checkpoint_ingest *ingest = work->data;
    uint64_t since_ms = shl_monotonic_ms();
    struct node_stack_fds fds;

    ingest->rc =
        node_stack_open(ingest->manager, ingest->template_name, &ingest->stack, &fds, &ingest->err);
    if (ingest->rc == 0) {
        ingest->rc = store_all(ingest, &fds);
        node_stack_close(&fds);
    }
    ingest->run_ms = shl_monotonic_ms() - since_ms;
}

/* ---- 3. done ------------------------------------------------------------------------ */

static void ingest_free(struct checkpoint_ingest *ingest)
{
    shl_buf_release(&ingest->config);
    free(ingest);
}

static void set_bases(struct checkpoint *checkpoint, const struct node_stack *stack)
{
    bool above = stack->warm_mem && stack->state.hex[0];

    (void)memcpy(checkpoint->bases[0], stack->base, sizeof(stack->base));
    (void)memcpy(checkpoint->bases[1], above ? stack->warm : "", above ? sizeof(stack->warm) : 1);
}

static void on_done(uv_work_t *work, int status)
{
    struct checkpoint_ingest *ingest = work->data;
    struct checkpoint *checkpoint = ingest->checkpoint;
    struct checkpoints *set = checkpoint->set;

    (void)status; /* never cancelled */
    set->ingesting--;
    node_stack_unref(set->manager, &ingest->stack);
    SHL_LOG(&set->manager->log, SHL_LOG_INFO, "checkpoint_ingest",
            SHL_S("checkpoint", checkpoint->pub.id), SHL_I("chunks", ingest->stats.chunks),
            SHL_I("new_chunks", ingest->stats.new_chunks),
            SHL_I("raw_bytes", ingest->stats.raw_bytes),
            SHL_I("new_bytes", ingest->stats.new_bytes), SHL_I("ms", ingest->run_ms),
            SHL_I("code", ingest->rc));
    if (ingest->rc == 0) {
        set_bases(checkpoint, &ingest->stack);
        checkpoint->chunk_bytes = ingest->stats.raw_bytes;
        checkpoint_ready(checkpoint, &ingest->manifest);
    } else {
        set->collect_wanted = true; /* chunks it stored before it failed */
        /* a ready one stays that; when the daemon stops, the next one does it again */
        if (checkpoint->pub.status == NODE_CHECKPOINT_PROCESSING && !set->closing) {
            checkpoint_fail(checkpoint, ingest->err.msg);
        }
    }
    ingest_free(ingest);
    ingest_pump(set);
    upkeep_pump(set);
    checkpoint_leave(checkpoint);
}

/* ---- 1. the queue ------------------------------------------------------------------- */

static int prepare(struct checkpoint *checkpoint, struct checkpoint_ingest **ret)
{
    const struct node_checkpoint *pub = &checkpoint->pub;
    struct checkpoint_ingest *ingest = calloc(1, sizeof(*ingest));
    int rc;

    if (!ingest) {
        return -ENOMEM;
    }
    ingest->work.data = ingest;
    ingest->checkpoint = checkpoint;
    ingest->manager = checkpoint->set->manager;
    ingest->store = checkpoint->set->store;
    ingest->stack = checkpoint->stack;
    (void)snprintf(ingest->template_name, sizeof(ingest->template_name), "%s",
                   pub->spec.template_name);
    ingest->disk_bytes = (uint64_t)pub->spec.disk_mb << 20;
    shl_buf_init(&ingest->config, CKPT_CONFIG_MAX);
    rc = checkpoint_encode_config(checkpoint, &ingest->config);
    if (rc < 0) {
        ingest_free(ingest);
        return rc;
    }
    *ret = ingest;
    return 0;
}

static void start(struct checkpoint *checkpoint)
{
    struct checkpoints *set = checkpoint->set;
    struct checkpoint_ingest *ingest;
    int rc = prepare(checkpoint, &ingest);

    if (rc < 0) {
        if (checkpoint->pub.status == NODE_CHECKPOINT_PROCESSING) {
            checkpoint_fail(checkpoint, shl_err_text(rc));
        }
        return;
    }
    checkpoint_enter(checkpoint);
    set->ingesting++;
    node_stack_ref(set->manager, &ingest->stack);
    rc = uv_queue_work(set->manager->loop, &ingest->work, run, on_done);
    assert(rc == 0);
}

void ingest_forget(struct checkpoint *checkpoint)
{
    if (checkpoint->queued) {
        checkpoint->queued = false;
        shl_list_remove(&checkpoint->queue_node);
    }
}

void ingest_pump(struct checkpoints *set)
{
    while (set->tidied && !set->closing && set->ingesting < CHECKPOINT_INGESTS_MAX &&
           !shl_list_empty(&set->ingest_queue)) {
        struct checkpoint *newest =
            shl_container_of(set->ingest_queue.prev, struct checkpoint, queue_node);

        ingest_forget(newest);
        start(newest);
    }
}

void ingest_enqueue(struct checkpoint *checkpoint)
{
    assert(checkpoint->has_stack && !checkpoint->queued);
    checkpoint->queued = true;
    shl_list_push_back(&checkpoint->set->ingest_queue, &checkpoint->queue_node);
    ingest_pump(checkpoint->set);
}

void ingest_repair(struct checkpoint *checkpoint)
{
    if (checkpoint->pub.status != NODE_CHECKPOINT_READY || checkpoint->queued ||
        checkpoint->busy > 0 || !checkpoint->has_stack) {
        return;
    }
    checkpoint->queued = true;
    shl_list_push_front(&checkpoint->set->ingest_queue, &checkpoint->queue_node);
    ingest_pump(checkpoint->set);
}
