/* One request on a connection: its exchange, suspended while it waits, and the callbacks
 * of the HTTP library that carry it.
 *
 *   on_target -> begin (head) -> take_body ... -> reply queued -> on_read ... -> completed
 *
 * What can go wrong: the client leaves (completed comes with another code), it is refused
 * with its body under way (the body is read and dropped, up to NODE_HTTP_DISCARD_MAX), a
 * source breaks off (the connection is cut), the server closes (everything is refused).
 */
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/io.h"
#include "node/http/response.h"
#include "node/http/server_private.h"

static void unref(struct node_http_request *r)
{
    if (--r->refs == 0) {
        free(r->target);
        free(r);
    }
}

static void suspend(struct node_http_request *r)
{
    assert(!r->is_suspended);
    r->is_suspended = true;
    MHD_suspend_connection(r->mhd);
}

/* The library takes a resumed connection up in its next turn, which it does not ask for
 * by itself when nobody polls for it. */
void node_http_request_resume(struct node_http_request *r)
{
    if (r->is_suspended) {
        r->is_suspended = false;
        MHD_resume_connection(r->mhd);
        node_http_drive_soon(r->http);
    }
}

/* Exchange operations */

static struct node_http_request *request_of(struct node_exchange *x)
{
    return shl_container_of(x, struct node_http_request, x);
}

static const char *op_header(struct node_exchange *x, const char *name)
{
    return MHD_lookup_connection_value(request_of(x)->mhd, MHD_HEADER_KIND, name);
}

struct each {
    node_header_fn fn;
    void *arg;
};

static enum MHD_Result on_each(void *cls,
                               enum MHD_ValueKind kind,
                               const char *name,
                               const char *value)
{
    const struct each *each = cls;

    (void)kind;
    return each->fn(each->arg, name, value ? value : "") ? MHD_YES : MHD_NO;
}

static void op_each_header(struct node_exchange *x, node_header_fn fn, void *arg)
{
    struct each each = {fn, arg};

    (void)MHD_get_connection_values(request_of(x)->mhd, MHD_HEADER_KIND, on_each, &each);
}

static void op_wake(struct node_exchange *x)
{
    struct node_http_request *r = request_of(x);

    if (r->socket) {
        node_http_socket_wake(r->socket);
    } else {
        node_http_request_resume(r); /* what becomes a socket begins awake */
    }
}

static void op_resume_body(struct node_exchange *x)
{
    struct node_http_request *r = request_of(x);

    if (r->socket) {
        node_http_socket_resume(r->socket);
    } else if (!r->is_socket) { /* nothing comes before it is one */
        node_http_request_resume(r);
    }
}

static ssize_t on_read(void *cls, uint64_t pos, char *buf, size_t max)
{
    struct node_http_request *r = cls;
    ssize_t n;

    (void)pos;
    if (r->is_closed || r->is_lost || r->http->is_closing) {
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    n = node_exchange_read(&r->x, (uint8_t *)buf, max);
    if (n > 0) {
        return n;
    }
    if (n == 0) {
        suspend(r);
        return 0;
    }
    return n == NODE_SOURCE_END ? MHD_CONTENT_READER_END_OF_STREAM
                                : MHD_CONTENT_READER_END_WITH_ERROR;
}

static void on_response_freed(void *cls)
{
    unref(cls);
}

static struct MHD_Response *make_response(struct node_http_request *r, struct node_reply *reply)
{
    struct MHD_Response *response;

    if (reply->status == NODE_STATUS_UPGRADED) {
        return MHD_create_response_for_upgrade(node_http_on_upgraded, r);
    }
    if (reply->source && reply->length != 0) {
        response = MHD_create_response_from_callback(
            reply->length < 0 ? MHD_SIZE_UNKNOWN : (uint64_t)reply->length, NODE_HTTP_BLOCK_BYTES,
            on_read, r, on_response_freed);
        if (response) {
            r->refs++;
        }
        return response;
    }
    response = MHD_create_response_from_buffer(reply->heap_len, reply->heap, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        free(reply->heap);
    }
    return response;
}

static void add_own_headers(const struct node_exchange *x, struct MHD_Response *response)
{
    (void)MHD_add_response_header(response, "X-Request-Id", x->request_id);
    (void)MHD_add_response_header(response, "Access-Control-Allow-Origin", "*");
    (void)MHD_add_response_header(response, "Access-Control-Expose-Headers",
                                  "X-Request-Id, " NODE_EXCHANGE_NODE_HEADER);
}

static void op_reply(struct node_exchange *x, struct node_reply *reply)
{
    struct node_http_request *r = request_of(x);
    struct MHD_Response *response = make_response(r, reply);
    bool is_signed = false; /* by another node */

    node_http_request_resume(r);
    if (!response) {
        return; /* without memory the connection is dropped at the next turn */
    }
    if (reply->content_type) {
        (void)MHD_add_response_header(response, "Content-Type", reply->content_type);
    }
    if (!x->is_proxy) {
        add_own_headers(x, response);
    }
    if (reply->status == NODE_STATUS_UPGRADED) {
        (void)MHD_add_response_header(response, "Upgrade", "websocket");
    } else if (r->is_socket) {
        (void)MHD_add_response_header(response, "Connection", "close");
    }
    for (size_t i = 0; i < reply->header_count; i++) {
        is_signed |= strcasecmp(reply->headers[i].name, NODE_EXCHANGE_NODE_HEADER) == 0;
        (void)MHD_add_response_header(response, reply->headers[i].name, reply->headers[i].value);
    }
    if (!is_signed && !x->is_proxy && r->http->config.node_name) {
        (void)MHD_add_response_header(response, NODE_EXCHANGE_NODE_HEADER,
                                      r->http->config.node_name);
    }
    r->response = response;
}

static const struct node_exchange_ops exchange_ops = {.header = op_header,
                                                      .each_header = op_each_header,
                                                      .reply = op_reply,
                                                      .wake = op_wake,
                                                      .resume_body = op_resume_body};

/* Requests */

static struct node_http_connection *connection_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    return info ? info->socket_context : NULL;
}

/* The connection is cut after @in_ms; 0: never. */
static void set_deadline(struct node_http_request *r, uint32_t in_ms)
{
    struct node_http_connection *connection = connection_of(r->mhd);

    if (connection) {
        connection->deadline_ms = in_ms > 0 ? shl_monotonic_ms() + in_ms : 0;
    }
}

/* A suspended connection is not polled, so its end goes unnoticed until there is something to
 * send, which for another server's stream of events may be never. */
static bool has_left(const struct node_http_request *r)
{
    const struct node_http_connection *connection = connection_of(r->mhd);
    struct tcp_info info;
    socklen_t len = sizeof(info);

    if (!connection || getsockopt(connection->fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0) {
        return false;
    }
    return info.tcpi_state == TCP_CLOSE ||
           (info.tcpi_state == TCP_CLOSE_WAIT && (r->x.is_body_done || r->is_socket));
}

void node_http_sweep_lost(struct node_http *http)
{
    struct shl_list *it, *next;

    SHL_LIST_FOREACH_SAFE(it, next, &http->requests) {
        struct node_http_request *r = shl_container_of(it, struct node_http_request, link);

        if (r->is_begun && r->x.is_proxy && r->is_suspended && !r->socket && has_left(r)) {
            r->is_lost = true;
            node_http_request_resume(r);
        }
    }
}

static enum MHD_Result queue_response(struct node_http_request *r)
{
    struct MHD_Response *response = r->response;
    enum MHD_Result result;

    if (!response) {
        return MHD_NO;
    }
    set_deadline(r, 0);
    r->response = NULL;
    result = MHD_queue_response(r->mhd, (unsigned)r->x.status, response);
    MHD_destroy_response(response); /* the library holds its own reference */
    return result;
}

static int64_t declared_length(struct node_http_request *r)
{
    const char *length = op_header(&r->x, "Content-Length");

    if (op_header(&r->x, "Transfer-Encoding")) {
        return -1;
    }
    return length ? (int64_t)strtoull(length, NULL, 10) : 0;
}

static bool asks_upgrade(struct node_http_request *r, const char *version)
{
    return strcmp(version, "HTTP/1.1") == 0 && r->x.method == NODE_METHOD_GET &&
           r->x.body_length == 0 &&
           node_header_is_listed(op_header(&r->x, "Connection"), "upgrade") &&
           node_header_is_listed(op_header(&r->x, "Upgrade"), "websocket");
}

static void read_client(struct node_http_request *r)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(r->mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *addr = info ? info->client_addr : NULL;

    if (!addr || getnameinfo(addr,
                             addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                         : sizeof(struct sockaddr_in),
                             r->x.client, sizeof(r->x.client), NULL, 0, NI_NUMERICHOST) != 0) {
        r->x.client[0] = '\0';
    }
}

/* The head is complete. */
static enum MHD_Result begin(struct node_http_request *r, const char *method, const char *version)
{
    struct node_http *http = r->http;
    struct node_exchange *x = &r->x;
    int rc = node_exchange_init(x, &exchange_ops, http->loop, method, r->target);
    const char *expect = op_header(x, "Expect");

    r->is_begun = true;
    x->pad_after_ms = http->config.pad_after_ms;
    x->pad_every_ms = http->config.pad_every_ms;
    x->body_length = declared_length(r);
    r->expects_continue = expect && strcasecmp(expect, "100-continue") == 0;
    if (rc == 0 && !http->is_closing && asks_upgrade(r, version)) {
        x->is_upgrade = true;
        x->body_length = -1;
    }
    read_client(r);
    if (rc == -ENOMEM || (rc < 0 && !http->config.app.takes_any_target)) {
        node_exchange_fail_target(x);
    } else {
        http->config.app.on_head(http->config.app.arg, x);
        r->is_socket = x->is_upgrade && x->body_mode == NODE_BODY_SOCKET;
        node_exchange_begin(x);
    }
    set_deadline(
        r, x->body_mode == NODE_BODY_BUFFERED || x->is_replied ? http->config.body_timeout_ms : 0);
    /* A refused body need not come at all when the client waits for leave to send it, and
     * is not worth reading when it is huge. */
    if (x->is_replied && x->body_length != 0 &&
        (r->expects_continue || x->body_length > NODE_HTTP_DISCARD_MAX)) {
        return queue_response(r);
    }
    return MHD_YES;
}

/* Returns how many of @len bytes were taken, or -1 to cut the connection. */
static ssize_t take_body(struct node_http_request *r, const char *data, size_t len)
{
    bool was_replied = r->x.is_replied;
    size_t taken = node_exchange_body_data(&r->x, shl_bytes_of(data, len));

    if (was_replied) {
        r->discarded_bytes += (int64_t)len;
        if (r->discarded_bytes > NODE_HTTP_DISCARD_MAX) {
            return -1;
        }
    }
    if (r->x.is_replied && !r->x.is_padded) {
        return (ssize_t)len;
    }
    if (taken < len && !r->is_suspended) {
        suspend(r);
    }
    return (ssize_t)taken;
}

enum MHD_Result node_http_on_access(void *cls,
                                    struct MHD_Connection *mhd,
                                    const char *url,
                                    const char *method,
                                    const char *version,
                                    const char *data,
                                    size_t *len,
                                    void **con_cls)
{
    struct node_http *http = cls;
    struct node_http_request *r = *con_cls;

    (void)mhd;
    (void)url;
    if (!r || !r->target || r->is_lost || http->is_closing) {
        return MHD_NO;
    }
    if (!r->is_begun) {
        return begin(r, method, version);
    }
    if (*len > 0) {
        ssize_t taken = take_body(r, data, *len);

        if (taken < 0) {
            return MHD_NO;
        }
        *len -= (size_t)taken;
        return MHD_YES;
    }
    if (!r->x.is_body_done && !r->is_socket) {
        set_deadline(r, 0);
        node_exchange_body_end(&r->x);
    }
    if (r->x.is_replied || r->x.is_padded) {
        return queue_response(r);
    }
    suspend(r);
    return MHD_YES;
}

/* Called with the raw target, before the library takes it apart. */
void *node_http_on_target(void *cls, const char *target, struct MHD_Connection *mhd)
{
    struct node_http *http = cls;
    struct node_http_request *r = calloc(1, sizeof(*r));

    if (r) {
        r->http = http;
        r->mhd = mhd;
        r->refs = 1;
        r->started_ms = shl_monotonic_ms();
        r->target = strdup(target);
        shl_list_push_back(&http->requests, &r->link);
        http->stats.in_flight++;
    }
    return r;
}

static void log_request(struct node_http_request *r, bool is_complete)
{
    SHL_LOG(r->http->config.log, SHL_LOG_DEBUG, "http_request",
            SHL_S("method", node_method_name(r->x.method)), SHL_S("path", r->x.url.path),
            SHL_I("status", r->x.status), SHL_B("complete", is_complete),
            SHL_I("duration_ms", shl_monotonic_ms() - r->started_ms),
            SHL_S("request_id", r->x.request_id));
}

void node_http_on_completed(void *cls,
                            struct MHD_Connection *mhd,
                            void **con_cls,
                            enum MHD_RequestTerminationCode code)
{
    struct node_http *http = cls;
    struct node_http_request *r = *con_cls;
    bool is_complete = code == MHD_REQUEST_TERMINATED_COMPLETED_OK;

    (void)mhd;
    if (!r) {
        return;
    }
    *con_cls = NULL;
    if (node_exchange_is_upgraded(&r->x)) {
        is_complete = r->is_socket_complete;
    }
    set_deadline(r, http->config.idle_timeout_ms);
    shl_list_remove(&r->link);
    http->stats.in_flight--;
    if (r->is_begun) {
        http->stats.requests[is_complete ? (unsigned)r->x.status / 100 % 6 : 0]++;
        log_request(r, is_complete);
        node_exchange_close(&r->x, is_complete);
    }
    r->is_closed = true;
    if (r->response) {
        MHD_destroy_response(r->response);
        r->response = NULL;
    }
    unref(r);
}
