/* Happy path:
 *  1. accept_stream: the question is checked, the first read begins.
 *  2. run_read (thread pool): some records into `ahead`, which travel as one message.
 *  3. on_read: `ahead` becomes what is sent, the next read begins.
 *  4. pump: bytes leave under the stream's credit; after the last record the end.
 *  5. on_closed: freed, once no read is under way.
 *
 * What can go wrong: the peer vanishes (closed comes at any point; a read that is under way
 * ends first), sends bytes (cut), takes none (the timer cuts), or the store fails (cut with its
 * sentence; the peer asks somebody else).
 */
#include "node/replica/serve.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "node/replica/wire.h"

/* As many records are read at once as surely fit: every message costs the same again, on both
 * sides. A stream has two such buffers. */
#define AHEAD_BYTES  ((size_t)256 << 10)
#define RECORD_BYTES ((size_t)NODE_REPLICA_RECORD_BYTES + CKPT_CHUNK_BYTES)

struct serving {
    struct shl_list link;
    struct node_replica_server *server;
    struct node_stream *stream; /* NULL once closed */
    struct shl_node_id peer;
    struct node_replica_ask ask;
    uint32_t next;        /* id to read next; the work's while it reads */
    struct shl_buf out;   /* what is being sent */
    struct shl_buf ahead; /* read meanwhile, when it has bytes and no read runs */
    struct ckpt_pin *pin; /* of the manifest */
    uint64_t moved_at_ms; /* when bytes left last */
    bool is_reading, is_finished;

    /* job */
    uv_work_t work;
    int rc;
    struct serving_read {
        uint32_t chunks, lacks, damaged;
        uint64_t raw_bytes;          /* of chunks */
        struct shl_err damaged_here; /* of the last one */
    } read;                          /* by this work */
    struct shl_err err;
};

struct node_replica_server {
    uv_loop_t *loop;
    struct node_replica_server_config config;
    struct shl_list servings;
    uv_timer_t timer; /* looks for stalled ones; runs while there are streams */
    bool is_closing;
    void (*closed)(void *arg);
    void *closed_arg;
    struct node_replica_server_stats stats;
};

/*- Reading, on the thread pool. */

static int read_manifest(struct serving *s, struct node_replica_record *record)
{
    /* Alone in its answer. */
    int rc =
        ckpt_manifest_read(s->server->config.store, &s->ask.ids[0], &s->ahead, &s->pin, &s->err);

    record->outcome = NODE_REPLICA_HERE;
    record->length = rc == 0 ? (uint32_t)(shl_buf_len(&s->ahead) - NODE_REPLICA_RECORD_BYTES) : 0;
    return rc;
}

static int read_stored(struct serving *s, uint8_t *space, struct node_replica_record *record)
{
    const struct ckpt_id *id = &s->ask.ids[s->next];
    struct ckpt_stored stored;
    int rc = ckpt_chunk_read_stored(s->server->config.store, id, space, &stored, &s->err);

    if (rc == 0) {
        record->outcome = stored.is_packed ? NODE_REPLICA_PACKED : NODE_REPLICA_HERE;
        record->length = stored.bytes;
        s->read.raw_bytes += stored.raw_bytes;
    }
    return rc;
}

static int read_plain(struct serving *s, uint8_t *space, struct node_replica_record *record)
{
    int rc = ckpt_chunk_read(s->server->config.store, &s->ask.ids[s->next], space, CKPT_CHUNK_BYTES,
                             &s->err);

    if (rc > 0) {
        record->outcome = NODE_REPLICA_HERE;
        record->length = (uint32_t)rc;
        s->read.raw_bytes += record->length;
    }
    return rc < 0 ? rc : 0;
}

static int read_chunk(struct serving *s, struct node_replica_record *record)
{
    uint8_t *space;
    int rc = shl_buf_reserve(&s->ahead, CKPT_CHUNK_BYTES, &space);

    if (rc == 0) {
        rc = s->ask.may_pack ? read_stored(s, space, record) : read_plain(s, space, record);
    }
    shl_buf_commit(&s->ahead, rc == 0 ? record->length : 0);
    return rc;
}

/* Not here, or damaged: that it is not is the answer. */
static void read_lacks(struct serving *s, size_t at, struct node_replica_record *record, int rc)
{
    s->ahead.end = s->ahead.start + at; /* a store that fails half way may have left bytes */
    record->outcome = NODE_REPLICA_LACKS;
    record->length = 0;
    s->read.lacks++;
    if (rc == SHL_ECORRUPT) {
        s->read.damaged++;
        s->read.damaged_here = s->err;
    }
    s->err.code = 0;
}

static int read_one(struct serving *s)
{
    struct node_replica_record record = {.index = s->next};
    size_t start = shl_buf_len(&s->ahead);
    uint8_t *head;
    int rc = shl_buf_reserve(&s->ahead, NODE_REPLICA_RECORD_BYTES, &head);

    if (rc < 0) {
        return rc;
    }
    memset(head, 0, NODE_REPLICA_RECORD_BYTES);
    shl_buf_commit(&s->ahead, NODE_REPLICA_RECORD_BYTES);
    rc = s->ask.is_manifest ? read_manifest(s, &record) : read_chunk(s, &record);
    if (rc == SHL_ENOTFOUND || rc == SHL_ECORRUPT) {
        read_lacks(s, start + NODE_REPLICA_RECORD_BYTES, &record, rc);
    } else if (rc < 0) {
        return rc;
    } else {
        s->read.chunks += !s->ask.is_manifest;
    }
    node_replica_record_write(shl_buf_data(&s->ahead) + start, &record);
    s->next++;
    return 0;
}

static void run_read(uv_work_t *work)
{
    struct serving *s = shl_container_of(work, struct serving, work);
    uint8_t *space;

    s->err.code = 0;
    s->read = (struct serving_read){0};
    shl_buf_clear(&s->ahead);
    s->rc = s->ask.is_manifest ? 0 : shl_buf_reserve(&s->ahead, AHEAD_BYTES, &space);
    if (s->rc < 0) {
        return;
    }
    do {
        s->rc = read_one(s);
    } while (s->rc == 0 && s->next < s->ask.count &&
             shl_buf_len(&s->ahead) + RECORD_BYTES <= AHEAD_BYTES);
}

static void on_read(uv_work_t *work, int status);

static void begin_read(struct serving *s)
{
    int rc SHL_UNUSED;

    assert(!s->is_reading && s->next < s->ask.count);
    s->is_reading = true;
    rc = uv_queue_work(s->server->loop, &s->work, run_read, on_read);
    assert(rc == 0);
}

/*- Ending. */

static void on_timer_closed(uv_handle_t *handle)
{
    struct node_replica_server *server = handle->data;
    void (*closed)(void *arg) = server->closed;
    void *arg = server->closed_arg;

    free(server);
    if (closed) {
        closed(arg);
    }
}

static void consider_closed(struct node_replica_server *server)
{
    if (server->is_closing && shl_list_empty(&server->servings) &&
        !uv_is_closing((uv_handle_t *)&server->timer)) {
        uv_close((uv_handle_t *)&server->timer, on_timer_closed);
    }
}

static void release(struct serving *s)
{
    struct node_replica_server *server = s->server;

    if (s->stream || s->is_reading) {
        return;
    }
    shl_list_remove(&s->link);
    server->stats.streams--;
    server->stats.manifests -= s->ask.is_manifest;
    if (shl_list_empty(&server->servings)) {
        (void)uv_timer_stop(&server->timer);
    }
    ckpt_pin_release(s->pin);
    shl_buf_release(&s->out);
    shl_buf_release(&s->ahead);
    free(s);
    consider_closed(server);
}

static void cut(struct serving *s, int code, const char *msg)
{
    if (s->stream) {
        s->is_finished = true; /* nothing is written any more */
        node_stream_abort(s->stream, code, msg);
    }
}

/*- Sending. */

static void let_go(void *data, void *heap)
{
    (void)data; /* somewhere in it */
    free(heap);
}

/* False: the peer has to take some first. */
static bool send_out(struct serving *s)
{
    struct shl_bytes bytes = shl_buf_bytes(&s->out);
    size_t taken = bytes.len > 0 ? node_stream_give(s->stream, bytes, let_go, s->out.heap) : 0;

    if (taken > 0) {
        s->moved_at_ms = uv_now(s->server->loop);
    }
    if (taken > 0 && taken == bytes.len) { /* the stream has the memory */
        shl_buf_init(&s->out, s->out.max_bytes);
    } else if (taken > 0) {
        shl_buf_consume(&s->out, taken);
    }
    return taken == bytes.len;
}

static void pump(struct serving *s)
{
    while (s->stream && !s->is_finished && send_out(s)) {
        struct shl_buf sent = s->out; /* empty, its memory is used again */

        if (s->is_reading) {
            return;
        }
        if (shl_buf_len(&s->ahead) > 0) {
            s->out = s->ahead;
            s->ahead = sent;
            s->moved_at_ms = uv_now(s->server->loop); /* the disk's time is not the peer's */
            if (s->next < s->ask.count) {
                begin_read(s);
            }
        } else if (s->next < s->ask.count) {
            begin_read(s);
        } else {
            s->is_finished = true;
            node_stream_finish(s->stream);
        }
    }
}

static void count_read(struct serving *s)
{
    struct node_replica_server_stats *stats = &s->server->stats;

    stats->chunks += s->read.chunks;
    stats->chunk_bytes += s->read.raw_bytes;
    stats->lacks += s->read.lacks;
    stats->damaged += s->read.damaged;
    if (s->read.damaged > 0) {
        SHL_LOG(s->server->config.log, SHL_LOG_ERROR, "replica_damaged_here",
                SHL_B("manifest", s->ask.is_manifest), SHL_I("records", s->read.damaged),
                SHL_S("reason", s->read.damaged_here.msg));
    }
}

static void on_read(uv_work_t *work, int status)
{
    struct serving *s = shl_container_of(work, struct serving, work);

    assert(status == 0); /* nobody cancels it */
    s->is_reading = false;
    if (s->rc < 0) {
        shl_buf_clear(&s->ahead);
        SHL_LOG(s->server->config.log, SHL_LOG_WARN, "replica_read_failed",
                SHL_S("reason", s->err.code ? s->err.msg : shl_err_text(s->rc)));
        cut(s, SHL_EUNAVAILABLE, s->err.code ? s->err.msg : NULL);
    } else {
        count_read(s);
        pump(s);
    }
    release(s);
}

/*- What the stream says. */

static size_t on_data(void *arg, struct shl_bytes data)
{
    cut(arg, SHL_EPROTO, "a request for chunks has no bytes besides its head");
    return data.len;
}

static void on_writable(void *arg)
{
    pump(arg);
}

static void on_closed(void *arg, int code, const char *msg)
{
    struct serving *s = arg;

    (void)msg;
    s->stream = NULL;
    s->server->stats.served += code == 0;
    s->server->stats.cut += code < 0;
    release(s);
}

static const struct node_stream_user user = {.data = on_data,
                                             .writable = on_writable,
                                             .closed = on_closed};

static void on_timer(uv_timer_t *timer)
{
    struct node_replica_server *server = timer->data;
    uint64_t now = uv_now(server->loop);
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &server->servings) {
        struct serving *s = shl_container_of(it, struct serving, link);

        /* Waiting for the peer, not for the disk. */
        if ((shl_buf_len(&s->out) > 0 || s->is_finished) &&
            now - s->moved_at_ms >= server->config.stall_ms) {
            cut(s, -ETIMEDOUT, "the other side took nothing for too long");
        }
    }
}

/*- Accepting. */

static uint32_t streams_of(const struct node_replica_server *server,
                           const struct shl_node_id *peer,
                           bool manifests)
{
    const struct shl_list *it;
    uint32_t count = 0;

    SHL_LIST_FOREACH(it, &server->servings) {
        const struct serving *s = shl_container_of(it, struct serving, link);

        count += shl_node_id_equal(&s->peer, peer) && (!manifests || s->ask.is_manifest);
    }
    return count;
}

static int check_limits(const struct node_replica_server *server,
                        const struct shl_node_id *peer,
                        const struct node_replica_ask *ask,
                        struct shl_err *err)
{
    const struct node_replica_server_config *config = &server->config;

    if (server->is_closing) {
        return shl_err_set(err, SHL_EUNAVAILABLE, "this node is stopping");
    }
    if (server->stats.streams >= config->streams_max ||
        streams_of(server, peer, false) >= config->streams_peer_max) {
        return shl_err_set(err, SHL_EQUOTA,
                           "this node already answers as many requests for "
                           "chunks as it may at once");
    }
    if (ask->is_manifest && (server->stats.manifests >= config->manifests_max ||
                             streams_of(server, peer, true) >= NODE_REPLICA_MANIFESTS_PEER_MAX)) {
        return shl_err_set(err, SHL_EQUOTA,
                           "this node already sends as many manifests as it may "
                           "at once");
    }
    return 0;
}

static void begin(struct node_replica_server *server,
                  struct serving *s,
                  struct node_stream *stream,
                  const struct node_replica_ask *ask)
{
    size_t most =
        ask->is_manifest ? CKPT_MANIFEST_MAX + (size_t)NODE_REPLICA_RECORD_BYTES : AHEAD_BYTES;

    s->server = server;
    s->stream = stream;
    s->peer = stream->peer;
    s->ask = *ask;
    s->moved_at_ms = uv_now(server->loop);
    shl_buf_init(&s->out, most);
    shl_buf_init(&s->ahead, most);
    if (shl_list_empty(&server->servings)) {
        uint32_t ms = SHL_MAX(server->config.stall_ms / 4, 1u);

        (void)uv_timer_start(&server->timer, on_timer, ms, ms);
    }
    shl_list_push_back(&server->servings, &s->link);
    server->stats.streams++;
    server->stats.manifests += ask->is_manifest;
    node_stream_set_user(stream, &user, s);
    begin_read(s);
}

static int accept_stream(void *arg,
                         struct node_stream *stream,
                         struct shl_bytes head,
                         struct shl_err *err)
{
    struct node_replica_server *server = arg;
    struct node_replica_ask ask;
    struct serving *s = NULL;
    int rc = node_replica_ask_parse(&ask, head, err);

    rc = rc < 0 ? rc : check_limits(server, &stream->peer, &ask, err);
    if (rc == 0 && !(s = calloc(1, sizeof(*s)))) {
        rc = shl_err_sys(err, ENOMEM, "cannot answer a request for chunks");
    }
    if (rc < 0) {
        server->stats.refused++;
        return rc;
    }
    begin(server, s, stream, &ask);
    return 0;
}

/*- The object. */

int node_replica_server_open(uv_loop_t *loop,
                             struct node_mesh *mesh,
                             const struct node_replica_server_config *config,
                             struct node_replica_server **ret,
                             struct shl_err *err)
{
    struct node_replica_server *server = calloc(1, sizeof(*server));
    struct node_replica_server_config *c;

    if (!server) {
        return shl_err_sys(err, ENOMEM, "cannot answer other nodes");
    }
    c = &server->config;
    *c = *config;
    c->streams_max = c->streams_max ? c->streams_max : NODE_REPLICA_STREAMS_MAX;
    c->streams_peer_max = c->streams_peer_max ? c->streams_peer_max : NODE_REPLICA_STREAMS_PEER_MAX;
    c->manifests_max = c->manifests_max ? c->manifests_max : NODE_REPLICA_MANIFESTS_MAX;
    c->stall_ms = c->stall_ms ? c->stall_ms : NODE_REPLICA_STALL_MS;
    server->loop = loop;
    shl_list_init(&server->servings);
    (void)uv_timer_init(loop, &server->timer);
    server->timer.data = server;
    node_mesh_accept(mesh, NODE_REPLICA_KIND, accept_stream, server);
    *ret = server;
    return 0;
}

void node_replica_server_close(struct node_replica_server *server,
                               void (*closed)(void *arg),
                               void *arg)
{
    struct shl_list *it;

    assert(!server->is_closing);
    server->is_closing = true;
    server->closed = closed;
    server->closed_arg = arg;
    SHL_LIST_FOREACH(it, &server->servings) {
        cut(shl_container_of(it, struct serving, link), SHL_EUNAVAILABLE, "this node is stopping");
    }
    consider_closed(server);
}

void node_replica_server_stats(const struct node_replica_server *server,
                               struct node_replica_server_stats *ret)
{
    *ret = server->stats;
}
