/* Before anything starts from a checkpoint its layers are looked at; what is lost or damaged
 * is made again from the manifest, and what is too deep is made flat, once for all who wait.
 *
 * Happy path:
 *  1. look (thread pool): open every file of the stack and check the headers.
 *  2. Everyone who waits gets the stack.
 *
 * Otherwise:
 *  3. layers_make.c (thread pool) writes new layers.
 *  4. The record names the new stack, the old one is given back, and all go on from 2.
 *
 * What can go wrong: there is no manifest yet (SHL_ECORRUPT); chunks are damaged or there is
 * no space (those who wait hear it; the next fork tries again); the warm template below
 * the memory is gone, so that the memory means nothing (the disk alone is made: forks
 * boot from it); a stack cannot be made flat (it is used as it is).
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "checkpoint/image.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/layers_job.h"
#include "node/sandbox/sandbox.h"

/* ---- 1. look ------------------------------------------------------------------------ */

static int check_files(const struct node_stack_fds *fds, struct shl_err *err)
{
    unsigned i;
    int rc = 0;

    for (i = 0; i < fds->disk_count && rc == 0; i++) {
        rc = ckpt_check_disk(fds->disk[i], err);
    }
    for (i = 0; i < fds->mem_count && rc == 0; i++) {
        rc = ckpt_check_memory(fds->mem[i], err);
    }
    if (rc == 0 && fds->state >= 0 && lseek(fds->state, 0, SEEK_END) <= 0) {
        rc = shl_err_set(err, SHL_ECORRUPT, "the saved state of the machine is empty");
    }
    return rc;
}

static void run_look(uv_work_t *work)
{
    struct layers_job *job = work->data;
    struct node_stack_fds fds;

    job->rc = node_stack_open(job->manager, job->template_name, &job->stack, &fds, &job->err);
    if (job->rc == 0) {
        job->rc = check_files(&fds, &job->err);
        node_stack_close(&fds);
    }
}

/* ---- 2. and 4. the outcome ---------------------------------------------------------- */

static void finish(struct layers_job *job, int code, const char *msg, const struct node_stack *use)
{
    struct checkpoint *checkpoint = job->checkpoint;

    checkpoint->layers = NULL;
    checkpoint_answer(checkpoint, code, msg, use);
    node_stack_unref(checkpoint->set->manager, &job->stack);
    free(job);
    checkpoint_leave(checkpoint);
}

/* The memory was not made: its layers go, and what is below it. */
static void forget_memory(struct layers_job *job)
{
    struct node_manager *manager = job->checkpoint->set->manager;

    layers_unref(manager, job->made.mem[0].hex);
    layers_unref(manager, job->made.state.hex);
    layers_unref(manager, job->made.warm);
    job->made.mem[0].hex[0] = job->made.state.hex[0] = job->made.warm[0] = '\0';
    job->made.warm_mem = false;
}

/* A record must never name layers that are not there: the old ones go when it is saved. */
static void adopt_made(struct layers_job *job)
{
    struct checkpoint *checkpoint = job->checkpoint;
    struct node_manager *manager = checkpoint->set->manager;
    struct shl_err err = {0};

    if (!checkpoint->has_stack) {
        return; /* deleted meanwhile */
    }
    checkpoint->stack = job->made;
    if (checkpoint_save(checkpoint, &err) < 0) {
        SHL_LOG(&manager->log, SHL_LOG_ERROR, "checkpoint_record_not_saved",
                SHL_S("checkpoint", checkpoint->pub.id), SHL_S("reason", err.msg));
        checkpoint->stack = job->stack;
        return;
    }
    node_stack_ref(manager, &job->made);
    node_stack_unref(manager, &job->stack);
}

static void log_made(const struct layers_job *job, const char *event)
{
    const struct checkpoint *checkpoint = job->checkpoint;

    SHL_LOG(&checkpoint->set->manager->log, job->rc < 0 ? SHL_LOG_ERROR : SHL_LOG_INFO, event,
            SHL_S("checkpoint", checkpoint->pub.id), SHL_I("disk_layers", job->made.disk_count),
            SHL_I("mem_layers", job->made.mem_count), SHL_I("ms", job->run_ms),
            SHL_I("code", job->rc), SHL_S("reason", job->err.msg));
}

static void start(struct layers_job *job, uv_work_cb run, uv_after_work_cb done)
{
    int rc SHL_UNUSED;

    rc = uv_queue_work(job->checkpoint->set->manager->loop, &job->work, run, done);
    assert(rc == 0);
}

/* Those that did not begin when the daemon stops are for the next one. */
static void abandon(struct layers_job *job)
{
    struct node_manager *manager = job->checkpoint->set->manager;
    struct node_stack made = job->made;

    finish(job, SHL_EUNAVAILABLE, "the node daemon is being stopped", NULL);
    node_stack_unref(manager, &made);
}

void layers_make_next(struct checkpoints *set)
{
    struct shl_list *node;

    while ((set->closing || set->making < CHECKPOINT_MAKES_MAX) &&
           (node = shl_list_first(&set->makes))) {
        struct layers_job *job = shl_container_of(node, struct layers_job, queue_node);

        shl_list_remove(node);
        if (set->closing) {
            abandon(job);
        } else {
            set->making++;
            set->manager->jobs++;
            start(job, job->make_run, job->make_done);
        }
    }
}

static void make(struct layers_job *job, uv_work_cb run, uv_after_work_cb done)
{
    struct checkpoints *set = job->checkpoint->set;

    job->make_run = run;
    job->make_done = done;
    shl_list_push_back(&set->makes, &job->queue_node);
    layers_make_next(set);
}

/* ---- made again --------------------------------------------------------------------- */

static void on_again(uv_work_t *work, int status)
{
    struct layers_job *job = work->data;
    struct checkpoints *set = job->checkpoint->set;
    struct node_stack made;

    (void)status;
    set->making--;
    log_made(job, "checkpoint_layers_made");
    if (job->made.mem_count == 0 && job->made.state.hex[0]) {
        forget_memory(job);
    }
    made = job->made;
    if (job->rc == 0) {
        adopt_made(job);
        finish(job, 0, "", &made);
    } else {
        finish(job, job->rc, job->err.msg, NULL);
    }
    node_stack_unref(set->manager, &made);
    layers_make_next(set);
    /* last, for it may end the manager */
    manager_job_ended(set->manager);
}

static void start_again(struct layers_job *job)
{
    struct node_manager *manager = job->checkpoint->set->manager;
    struct node_stack *made = &job->made;

    (void)snprintf(made->base, sizeof(made->base), "%s", job->stack.base);
    layers_ref(manager, made->base);
    made->whole_disk = true;
    made->disk_count = 1;
    layers_new(manager, &made->disk[0]);
    if (job->stack.state.hex[0]) {
        made->mem_count = 1;
        layers_new(manager, &made->mem[0]);
        layers_new(manager, &made->state);
        made->warm_mem = job->stack.warm_mem;
        if (made->warm_mem) {
            (void)snprintf(made->warm, sizeof(made->warm), "%s", job->stack.warm);
            layers_ref(manager, made->warm);
        }
    }
    make(job, layers_run_again, on_again);
}

/* ---- made flat ---------------------------------------------------------------------- */

static void on_flat(uv_work_t *work, int status)
{
    struct layers_job *job = work->data;
    struct checkpoints *set = job->checkpoint->set;
    struct node_stack made = job->made;

    (void)status;
    set->making--;
    log_made(job, "checkpoint_layers_merged");
    if (job->rc == 0) {
        adopt_made(job);
    }
    finish(job, 0, "", job->rc == 0 ? &made : &job->stack);
    node_stack_unref(set->manager, &made);
    layers_make_next(set);
    manager_job_ended(set->manager);
}

static void start_flat(struct layers_job *job)
{
    struct node_manager *manager = job->checkpoint->set->manager;
    struct node_stack *made = &job->made;

    *made = job->stack;
    made->disk_count = job->flat_disk ? 0 : made->disk_count;
    made->mem_count = job->flat_mem ? 0 : made->mem_count;
    node_stack_ref(manager, made);
    if (job->flat_disk) {
        made->disk_count = 1;
        layers_new(manager, &made->disk[0]);
    }
    if (job->flat_mem) {
        made->mem_count = 1;
        layers_new(manager, &made->mem[0]);
    }
    make(job, layers_run_flat, on_flat);
}

bool layers_are_deep(const struct node_stack *stack)
{
    return stack->disk_count >= CHECKPOINT_DISK_DEEP || stack->mem_count >= CHECKPOINT_MEM_DEEP;
}

/* ---- 1. the look -------------------------------------------------------------------- */

/* Is it the files, and not this machine at this moment? */
static bool is_lost(int rc)
{
    return rc == SHL_ECORRUPT || rc == SHL_EVERSION || rc == -ENOENT || rc == -EIO;
}

static void on_looked(uv_work_t *work, int status)
{
    struct layers_job *job = work->data;
    struct checkpoint *checkpoint = job->checkpoint;

    (void)status;
    if (job->rc == 0) {
        job->flat_disk = job->stack.disk_count >= CHECKPOINT_DISK_DEEP;
        job->flat_mem = job->stack.mem_count >= CHECKPOINT_MEM_DEEP;
        if (job->flat_disk || job->flat_mem) {
            start_flat(job);
        } else {
            finish(job, 0, "", &job->stack);
        }
        return;
    }
    SHL_LOG(&checkpoint->set->manager->log, checkpoint->imported ? SHL_LOG_INFO : SHL_LOG_ERROR,
            "checkpoint_layers_lost", SHL_S("checkpoint", checkpoint->pub.id),
            SHL_I("code", job->rc), SHL_S("reason", job->err.msg));
    if (is_lost(job->rc) && manifest_id_parse(checkpoint->pub.manifest, &job->manifest)) {
        start_again(job);
        return;
    }
    finish(job, job->rc, job->err.msg, NULL);
}

int layers_look(struct checkpoint *checkpoint)
{
    struct checkpoints *set = checkpoint->set;
    struct layers_job *job;

    assert(checkpoint->has_stack);
    if (checkpoint->layers) {
        return 0;
    }
    job = calloc(1, sizeof(*job));
    if (!job) {
        return -ENOMEM;
    }
    job->work.data = job;
    job->checkpoint = checkpoint;
    job->manager = set->manager;
    job->store = set->store;
    (void)snprintf(job->template_name, sizeof(job->template_name), "%s",
                   checkpoint->pub.spec.template_name);
    job->stack = checkpoint->stack;
    node_stack_ref(set->manager, &job->stack);
    checkpoint->layers = job;
    checkpoint_enter(checkpoint);
    start(job, run_look, on_looked);
    return 0;
}
