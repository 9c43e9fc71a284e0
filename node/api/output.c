#include "node/api/output.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "node/api/server_private.h"
#include "node/http/json_text.h"

/* Room for the agent's note about a time-out on top of what it keeps. */
#define STREAM_MAX (AGENT_KEEP_DEFAULT_BYTES + 64u)

void node_output_init(struct node_output *output, struct node_server *server)
{
    node_server_ref(server);
    output->server = server;
    output->counted_bytes = 0;
    shl_buf_init(&output->out, STREAM_MAX);
    shl_buf_init(&output->err, STREAM_MAX);
}

void node_output_release(struct node_output *output)
{
    if (!output->server) {
        return;
    }
    shl_buf_release(&output->out);
    shl_buf_release(&output->err);
    output->server->output_bytes -= output->counted_bytes;
    node_server_unref(output->server);
    output->server = NULL;
}

int node_output_add(struct node_output *output, enum agent_channel channel, struct shl_bytes data)
{
    struct shl_buf *buf = channel == AGENT_CHANNEL_ERR ? &output->err : &output->out;
    int rc;

    if (output->server->output_bytes + (int64_t)data.len > NODE_SERVER_OUTPUT_MAX) {
        return SHL_EUNAVAILABLE;
    }
    rc = shl_buf_append(buf, data.base, data.len);
    if (rc < 0) {
        return rc == SHL_ELIMIT ? SHL_EGUEST : rc;
    }
    output->counted_bytes += (int64_t)data.len;
    output->server->output_bytes += (int64_t)data.len;
    return 0;
}

/* The reply as a row of pieces, some of which are escaped on the way out. */
#define PIECES 5

struct piece {
    struct shl_bytes bytes;
    bool is_raw; /* output of the guest */
};

struct body {
    struct node_output output;
    char head[96];
    char tail[32];
    struct piece pieces[PIECES];
    size_t at;
    size_t offset; /* in pieces[at] */
};

static size_t copy_piece(const struct piece *piece,
                         size_t offset,
                         uint8_t *dst,
                         size_t cap,
                         size_t *used)
{
    struct shl_bytes rest = shl_bytes_of(piece->bytes.base + offset, piece->bytes.len - offset);

    if (piece->is_raw) {
        return node_json_escape(dst, cap, rest, used);
    }
    *used = SHL_MIN(cap, rest.len);
    memcpy(dst, rest.base, *used);
    return *used;
}

static ssize_t body_read(void *arg, uint8_t *dst, size_t cap)
{
    struct body *body = arg;
    size_t len = 0;

    while (body->at < PIECES) {
        const struct piece *piece = &body->pieces[body->at];
        size_t used = 0;

        if (body->offset == piece->bytes.len) {
            body->at++;
            body->offset = 0;
            continue;
        }
        len += copy_piece(piece, body->offset, dst + len, cap - len, &used);
        body->offset += used;
        if (used == 0) {
            break; /* no room for the next escape */
        }
    }
    return len > 0 ? (ssize_t)len : body->at == PIECES ? NODE_SOURCE_END : -EIO;
}

static void body_release(void *arg)
{
    struct body *body = arg;

    node_output_release(&body->output);
    free(body);
}

static const struct node_source_ops body_ops = {.read = body_read, .release = body_release};

static struct piece text_piece(const char *text)
{
    return (struct piece){shl_bytes_of(text, strlen(text)), false};
}

static struct body *make_body(struct node_output *output, const struct node_output_facts *facts)
{
    struct body *body = calloc(1, sizeof(*body));

    if (!body) {
        return NULL;
    }
    body->output = *output;
    output->server = NULL; /* moved */
    (void)snprintf(body->head, sizeof(body->head), "{%s\"exitCode\":%" PRId64 ",\"stdout\":\"",
                   facts->with_running ? "\"running\":false," : "", facts->exit_code);
    (void)snprintf(body->tail, sizeof(body->tail), "\"%s}",
                   facts->truncated ? ",\"truncated\":true" : "");
    body->pieces[0] = text_piece(body->head);
    body->pieces[1] = (struct piece){shl_buf_bytes(&body->output.out), true};
    body->pieces[2] = text_piece("\",\"stderr\":\"");
    body->pieces[3] = (struct piece){shl_buf_bytes(&body->output.err), true};
    body->pieces[4] = text_piece(body->tail);
    return body;
}

/* Small outputs are written in one go, so that the reply has a length. */
static void reply_at_once(struct body *body, struct node_call *call, size_t raw_len)
{
    size_t cap = raw_len * NODE_JSON_ESCAPE_MAX + 256;
    uint8_t *text = malloc(cap);
    ssize_t len = text ? body_read(body, text, cap) : -1;

    body_release(body);
    if (len < 0) {
        free(text);
        node_call_fail(call, -ENOMEM, NULL);
        return;
    }
    node_exchange_reply_heap(call->x, 200, "application/json", text, (size_t)len);
}

void node_output_reply(struct node_output *output,
                       struct node_call *call,
                       const struct node_output_facts *facts)
{
    size_t raw_len = shl_buf_len(&output->out) + shl_buf_len(&output->err);
    struct body *body;

    if (!node_call_is_open(call)) {
        node_output_release(output);
        return;
    }
    body = make_body(output, facts);
    if (!body) {
        node_output_release(output);
        node_call_fail(call, -ENOMEM, NULL);
        return;
    }
    if (raw_len <= NODE_OUTPUT_AT_ONCE_MAX) {
        reply_at_once(body, call, raw_len);
        return;
    }
    struct node_reply reply = {.status = 200,
                               .content_type = "application/json",
                               .source = &body_ops,
                               .source_arg = body,
                               .length = -1};

    node_exchange_reply(call->x, &reply);
}
