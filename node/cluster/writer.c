#include "node/cluster/writer.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#define NO_THREAD "cannot start the writer of the log: no thread can be made"

struct cluster_writer {
    struct node_raft_log *log;
    uv_thread_t thread;
    uv_mutex_t mutex;
    uv_cond_t cond;
    uv_async_t async;
    void (*done)(void *arg, uint64_t seq, int code, const char *msg);
    void *arg;
    void (*close_cb)(void *arg);
    void *close_arg;
    bool busy; /* loop's */

    /* under the mutex */
    struct node_raft_batch *batch;
    uint64_t seq;
    bool finished;
    bool ending;
    struct shl_err err; /* of the last write; code 0: fine */
};

static void run(void *arg)
{
    struct cluster_writer *writer = arg;

    uv_mutex_lock(&writer->mutex);
    for (;;) {
        struct node_raft_batch *batch;
        struct shl_err err = {0};
        int rc;

        while (!writer->batch && !writer->ending) {
            uv_cond_wait(&writer->cond, &writer->mutex);
        }
        if (!writer->batch) {
            break;
        }
        batch = writer->batch;
        writer->batch = NULL;
        uv_mutex_unlock(&writer->mutex);
        rc = node_raft_log_write(writer->log, batch, &err);
        uv_mutex_lock(&writer->mutex);
        writer->err = err;
        writer->err.code = rc;
        writer->finished = true;
        (void)uv_async_send(&writer->async);
    }
    uv_mutex_unlock(&writer->mutex);
}

static void on_async(uv_async_t *handle)
{
    struct cluster_writer *writer = handle->data;
    struct shl_err err;
    bool finished;
    uint64_t seq;

    uv_mutex_lock(&writer->mutex);
    finished = writer->finished;
    writer->finished = false;
    err = writer->err;
    seq = writer->seq;
    uv_mutex_unlock(&writer->mutex);
    if (finished) {
        writer->busy = false;
        writer->done(writer->arg, seq, err.code, err.msg);
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct cluster_writer *writer = handle->data;
    void (*cb)(void *arg) = writer->close_cb;
    void *arg = writer->close_arg;

    uv_cond_destroy(&writer->cond);
    uv_mutex_destroy(&writer->mutex);
    free(writer);
    if (cb) {
        cb(arg);
    }
}

int cluster_writer_open(uv_loop_t *loop,
                        struct node_raft_log *log,
                        void (*done)(void *arg, uint64_t seq, int code, const char *msg),
                        void *arg,
                        struct cluster_writer **ret_writer,
                        struct shl_err *err)
{
    struct cluster_writer *writer = calloc(1, sizeof(*writer));

    if (!writer) {
        return shl_err_sys(err, ENOMEM, "cannot start the writer of the log");
    }
    writer->log = log;
    writer->done = done;
    writer->arg = arg;
    if (uv_mutex_init(&writer->mutex) < 0) {
        goto err_mutex;
    }
    if (uv_cond_init(&writer->cond) < 0) {
        goto err_cond;
    }
    if (uv_async_init(loop, &writer->async, on_async) < 0) {
        goto err_async;
    }
    writer->async.data = writer;
    if (uv_thread_create(&writer->thread, run, writer) < 0) {
        uv_close((uv_handle_t *)&writer->async, on_closed); /* frees it */
        return shl_err_set(err, -EAGAIN, NO_THREAD);
    }
    *ret_writer = writer;
    return 0;

err_async:
    uv_cond_destroy(&writer->cond);
err_cond:
    uv_mutex_destroy(&writer->mutex);
err_mutex:
    free(writer);
    return shl_err_set(err, -EAGAIN, NO_THREAD);
}

void cluster_writer_give(struct cluster_writer *writer, struct node_raft_batch *batch, uint64_t seq)
{
    assert(!writer->busy);
    writer->busy = true;
    uv_mutex_lock(&writer->mutex);
    writer->batch = batch;
    writer->seq = seq;
    uv_cond_signal(&writer->cond);
    uv_mutex_unlock(&writer->mutex);
}

void cluster_writer_close(struct cluster_writer *writer, void (*cb)(void *arg), void *arg)
{
    uv_mutex_lock(&writer->mutex);
    writer->ending = true;
    uv_cond_signal(&writer->cond);
    uv_mutex_unlock(&writer->mutex);
    (void)uv_thread_join(&writer->thread);
    writer->close_cb = cb;
    writer->close_arg = arg;
    uv_close((uv_handle_t *)&writer->async, on_closed);
}
