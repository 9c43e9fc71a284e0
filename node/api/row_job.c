#include "node/api/row_job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node/api/server_private.h"

static void go_on(struct node_row_job *job);
static void sync_rows(struct node_row_job *job);

void node_row_job_init(struct node_row_job *job, struct node_server *server, struct node_call *call)
{
    job->server = call ? call->server : server;
    node_server_ref(job->server);
    job->call = call ? node_call_ref(call) : NULL;
    shl_buf_init(&job->value, NODE_ROW_VALUE_MAX);
}

void node_row_job_end(struct node_row_job *job)
{
    shl_buf_release(&job->value);
    if (job->call) {
        node_call_unref(job->call);
    }
    node_server_unref(job->server);
}

/* The log was given the change twice when an answer of the scheduler was lost, and answers for the
 * second time. No two changes of a row write the same: values hold ids, times or nonces. */
static bool is_done(const struct node_row_job *job)
{
    struct node_router *router = job->server->router;
    struct node_row row;

    if (!router->ops->row(router, job->key, &row)) {
        return job->is_delete;
    }
    return !job->is_delete && row.value.len == shl_buf_len(&job->value) &&
           memcmp(row.value.base, shl_buf_data(&job->value), row.value.len) == 0;
}

static void on_changed(void *arg, const struct node_order *outcome)
{
    struct node_row_job *job = arg;

    if (outcome->code == SHL_ECONFLICT && is_done(job)) {
        job->made++;
        go_on(job);
    } else if (outcome->code == SHL_ECONFLICT && ++job->tries < NODE_ROW_JOB_TRIES_MAX) {
        sync_rows(job);
    } else if (outcome->code < 0) {
        job->done(job, outcome->code, outcome->msg);
    } else {
        job->made++;
        go_on(job);
    }
}

static void go_on(struct node_row_job *job)
{
    struct node_router *router = job->server->router;
    struct node_row_change change;
    struct node_order outcome;
    struct shl_err err = {0};
    int rc;

    shl_buf_clear(&job->value);
    job->is_delete = false;
    job->expected = 0;
    rc = job->plan(job, &err);
    if (rc <= 0) {
        job->done(job, rc, err.msg);
        return;
    }
    change = (struct node_row_change){.key = job->key,
                                      .is_delete = job->is_delete,
                                      .value = shl_buf_bytes(&job->value),
                                      .has_expected = true,
                                      .expected = job->expected};
    if (router->ops->row_change(router, &change, &outcome, on_changed, job) > 0) {
        on_changed(job, &outcome);
    }
}

static void on_synced(void *arg, const struct node_order *outcome)
{
    struct node_row_job *job = arg;

    if (outcome->code < 0 && !(job->is_read && outcome->code == SHL_EUNAVAILABLE)) {
        job->done(job, outcome->code, outcome->msg);
    } else {
        go_on(job);
    }
}

static void sync_rows(struct node_row_job *job)
{
    struct node_router *router = job->server->router;
    struct node_order outcome;

    if (router->ops->row_sync(router, &outcome, on_synced, job) > 0) {
        on_synced(job, &outcome);
    }
}

void node_row_job_begin(struct node_row_job *job)
{
    if (!job->server->router->ops->row_change) {
        job->done(job, -ENOSYS, "this node keeps no rows of the API");
        return;
    }
    sync_rows(job);
}

/*- Reading alone. */

struct reading {
    struct node_row_job job;
    void (*go)(struct node_call *call);
};

static int plan_nothing(struct node_row_job *job, struct shl_err *err)
{
    (void)job;
    (void)err;
    return 0;
}

static void on_read(struct node_row_job *job, int code, const char *msg)
{
    struct reading *reading = shl_container_of(job, struct reading, job);

    if (code < 0) {
        node_call_fail(job->call, code, msg);
    } else if (node_call_is_open(job->call)) {
        reading->go(job->call);
    }
    node_row_job_end(job);
    free(reading);
}

void node_row_read(struct node_call *call, void (*go)(struct node_call *call))
{
    struct reading *reading = calloc(1, sizeof(*reading));

    if (!reading) {
        node_call_fail(call, -ENOMEM, NULL);
        return;
    }
    node_row_job_init(&reading->job, NULL, call);
    reading->job.is_read = true;
    reading->job.plan = plan_nothing;
    reading->job.done = on_read;
    reading->go = go;
    node_row_job_begin(&reading->job);
}
