#include "agent/blob.h"

#include <errno.h>
#include <stdlib.h>

struct blob {
    struct agent_stream *stream;
    struct shl_buf buf;
};

static void free_blob(struct blob *blob)
{
    shl_buf_release(&blob->buf);
    free(blob);
}

static void on_writable(void *arg)
{
    struct blob *blob = arg;
    struct agent_stream *stream = blob->stream;
    size_t len = SHL_MIN(shl_buf_len(&blob->buf), agent_stream_room(stream));

    agent_stream_send(stream, AGENT_CHANNEL_RAW, shl_bytes_of(shl_buf_data(&blob->buf), len));
    shl_buf_consume(&blob->buf, len);
    if (shl_buf_len(&blob->buf) > 0) {
        agent_stream_want_write(stream);
        return;
    }
    free_blob(blob);
    agent_stream_finish(stream, 0, NULL);
}

static void on_drop(void *arg)
{
    free_blob(arg);
}

static const struct agent_stream_ops blob_ops = {.on_writable = on_writable, .on_drop = on_drop};

void agent_blob_reply(struct agent_stream *stream, struct shl_buf *buf)
{
    bool empty = shl_buf_len(buf) == 0;
    struct blob *blob = empty ? NULL : calloc(1, sizeof(*blob));

    if (!blob) {
        shl_buf_release(buf);
        agent_stream_finish(stream, empty ? 0 : -ENOMEM, NULL);
        return;
    }
    blob->stream = stream;
    blob->buf = *buf;
    shl_buf_init(buf, 0);
    agent_stream_bind(stream, &blob_ops, blob);
    agent_stream_want_write(stream);
}
