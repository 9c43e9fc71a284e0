/* Maps on the wire; names are short because they come with every request.
 *
 *   request  v version, m method, u target, o origin, n via, l length, w holds_body, p hops,
 *            h [name, value, ...]
 *   frame    k kind, s status, l length, r refusal, t content type, n node name,
 *            h [name, value, ...]
 *
 * Fields that are not known are ignored, so either side may be one version ahead.
 */
#include "node/http/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mp.h"

/* What handlers look at. Host is not among them: the origin says it. */
static const char *const passed_on[] = {
    "Accept", "Authorization", "Content-Type", "Idempotency-Key",  "Last-Event-ID",
    "Range",  "User-Agent",    "X-API-Key",    "X-OSB-Async-Wake",
};

/* Of a request that asks for a WebSocket. */
static const char *const passed_on_upgrade[] = {
    "Upgrade", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol", "Origin",
};

/* Of the connection, not of the message: each node makes its own. */
static const char *const connection_headers[] = {
    "Connection", "Content-Length", "Keep-Alive", "Trailer", "Transfer-Encoding", "Upgrade",
};

/* Writing */

static void write_headers(struct shl_mp_writer *w,
                          const struct node_reply_header *headers,
                          size_t count)
{
    shl_mp_kv_array(w, "h");
    for (size_t i = 0; i < count; i++) {
        shl_mp_str(w, headers[i].name);
        shl_mp_str(w, headers[i].value);
    }
    shl_mp_end(w);
}

int node_wire_write_request(const struct node_wire_request *request, struct shl_buf *out)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, out);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", NODE_WIRE_VERSION);
    shl_mp_kv_str(&w, "m", request->method);
    shl_mp_kv_str(&w, "u", request->target);
    shl_mp_kv_str(&w, "o", request->origin);
    shl_mp_kv_str(&w, "n", request->via);
    shl_mp_kv_int(&w, "l", request->body_length);
    shl_mp_kv_bool(&w, "w", request->holds_body);
    shl_mp_kv_uint(&w, "p", request->hops);
    write_headers(&w, request->headers, request->header_count);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

static const char *const kind_names[] = {[NODE_WIRE_GO] = "go", [NODE_WIRE_REPLY] = "reply"};

static int write_map(const struct node_wire_frame *frame, struct shl_buf *out)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, out);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "k", kind_names[frame->kind]);
    if (frame->kind == NODE_WIRE_REPLY) {
        shl_mp_kv_uint(&w, "s", (uint64_t)frame->status);
        shl_mp_kv_int(&w, "l", frame->length);
        shl_mp_kv_uint(&w, "r", frame->refusal);
        shl_mp_kv_str(&w, "t", frame->content_type);
        shl_mp_kv_str(&w, "n", frame->node_name);
        write_headers(&w, frame->headers, frame->header_count);
    }
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

int node_wire_write_frame(const struct node_wire_frame *frame, struct shl_buf *out)
{
    uint8_t length[NODE_WIRE_LENGTH_BYTES];
    struct shl_buf map;
    int rc;

    shl_buf_init(&map, NODE_WIRE_FRAME_MAX);
    rc = write_map(frame, &map);
    if (rc == 0) {
        shl_put_le32(length, (uint32_t)shl_buf_len(&map));
        rc = shl_buf_append(out, length, sizeof(length));
    }
    if (rc == 0) {
        rc = shl_buf_append(out, shl_buf_data(&map), shl_buf_len(&map));
    }
    shl_buf_release(&map);
    return rc;
}

static void pass_on(struct node_exchange *x,
                    const char *const *names,
                    size_t count,
                    struct node_wire_request *ret)
{
    for (size_t i = 0; i < count; i++) {
        const char *value = node_exchange_header(x, names[i]);

        if (value) {
            ret->headers[ret->header_count++] = (struct node_reply_header){names[i], value};
        }
    }
}

/* All of them: the request is another server's. It was checked that they are within limits. */
static void pass_all(struct node_exchange *x, struct node_wire_request *ret)
{
    struct shl_err err;

    if (node_proxy_headers_of(x, &ret->proxy, &err) == 0) {
        for (size_t i = 0; i < ret->proxy.count; i++) {
            ret->headers[ret->header_count++] = ret->proxy.items[i];
        }
    }
    if (x->is_upgrade) {
        ret->headers[ret->header_count++] = (struct node_reply_header){"Upgrade", "websocket"};
    }
}

void node_wire_request_of(struct node_exchange *x, struct node_wire_request *ret)
{
    *ret = (struct node_wire_request){.method = node_method_name(x->method),
                                      .target = x->target,
                                      .body_length = x->body_length,
                                      .hops = x->hops + 1};
    if (x->is_proxy) {
        pass_all(x, ret);
        return;
    }
    ret->headers[ret->header_count++] = (struct node_reply_header){"X-Request-Id", x->request_id};
    pass_on(x, passed_on, SHL_ARRAY_SIZE(passed_on), ret);
    if (x->is_upgrade) {
        pass_on(x, passed_on_upgrade, SHL_ARRAY_SIZE(passed_on_upgrade), ret);
    }
}

bool node_wire_is_upgrade(const struct node_wire_request *request)
{
    const char *upgrade = node_wire_header(request, "Upgrade");

    return upgrade && strcmp(request->method, "GET") == 0 && request->body_length == -1 &&
           request->holds_body;
}

const char *node_wire_header(const struct node_wire_request *request, const char *name)
{
    for (size_t i = 0; i < request->header_count; i++) {
        if (strcasecmp(request->headers[i].name, name) == 0) {
            return request->headers[i].value;
        }
    }
    return NULL;
}

/* Reading: strings are copied into one allocation that is large enough for all of them,
 * because each takes at least one byte more in the message than its length. */

struct arena {
    char *at;
    size_t left;
};

/* NULL when it is no string, is longer than @max or has a zero byte. */
static const char *take_text(struct arena *arena, const msgpack_object *obj, size_t max)
{
    const char *text = arena->at;
    size_t len;

    if (!obj || obj->type != MSGPACK_OBJECT_STR) {
        return NULL;
    }
    len = obj->via.str.size;
    if (len > max || len >= arena->left || memchr(obj->via.str.ptr, '\0', len)) {
        return NULL;
    }
    memcpy(arena->at, obj->via.str.ptr, len);
    arena->at[len] = '\0';
    arena->at += len + 1;
    arena->left -= len + 1;
    return text;
}

static bool is_token(const char *text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "!#$%&'*+-.^_`|~";

    return *text != '\0' && text[strspn(text, letters)] == '\0';
}

/* What may stand in a header: everything but control characters. */
static bool is_value(const char *text)
{
    for (; *text; text++) {
        if (((unsigned char)*text < ' ' && *text != '\t') || *text == 0x7f) {
            return false;
        }
    }
    return true;
}

/* A path: visible characters; blanks and control characters come percent-encoded. */
static bool is_target(const char *text)
{
    if (*text != '/') {
        return false;
    }
    for (; *text; text++) {
        if ((unsigned char)*text <= ' ' || *text == 0x7f) {
            return false;
        }
    }
    return true;
}

static bool is_origin(const char *text)
{
    size_t scheme = strncmp(text, "https://", 8) == 0 ? 8 : 7;

    return (scheme == 8 || strncmp(text, "http://", 7) == 0) && text[scheme] != '\0' &&
           text[scheme + strspn(text + scheme, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWX"
                                               "YZ0123456789.:-_[]/")] == '\0';
}

static bool is_method(const char *text)
{
    for (int i = 0; i < NODE_METHOD_OPTIONS; i++) {
        if (strcmp(text, node_method_name((enum node_method)i)) == 0) {
            return true;
        }
    }
    return false;
}

/* An even array of names and values. False when something is wrong with it. */
static bool read_headers(const msgpack_object *map,
                         size_t max,
                         struct arena *arena,
                         struct node_reply_header *ret,
                         size_t *ret_count)
{
    const msgpack_object *array = shl_mp_find(map, "h");
    size_t size = array && array->type == MSGPACK_OBJECT_ARRAY ? array->via.array.size : 0;

    if (!array || array->type != MSGPACK_OBJECT_ARRAY || size % 2 != 0 || size / 2 > max) {
        return false;
    }
    for (size_t i = 0; i < size; i += 2) {
        const char *name = take_text(arena, &array->via.array.ptr[i], NODE_WIRE_TEXT_MAX);
        const char *value = take_text(arena, &array->via.array.ptr[i + 1], arena->left);

        if (!name || !value || !is_token(name) || !is_value(value)) {
            return false;
        }
        ret[(*ret_count)++] = (struct node_reply_header){name, value};
    }
    return true;
}

static bool arena_init(struct arena *arena, size_t size, char **ret_heap)
{
    *ret_heap = malloc(size + 1);
    *arena = (struct arena){.at = *ret_heap, .left = size + 1};
    return *ret_heap != NULL;
}

static bool read_request(const msgpack_object *map,
                         struct arena *arena,
                         struct node_wire_request *r)
{
    uint64_t hops;

    r->method = take_text(arena, shl_mp_find(map, "m"), NODE_WIRE_TEXT_MAX);
    r->target = take_text(arena, shl_mp_find(map, "u"), NODE_URL_MAX);
    r->origin = take_text(arena, shl_mp_find(map, "o"), NODE_WIRE_TEXT_MAX);
    r->via = take_text(arena, shl_mp_find(map, "n"), NODE_WIRE_TEXT_MAX);
    if (!r->method || !is_method(r->method) || !r->target || !is_target(r->target) || !r->origin ||
        !is_origin(r->origin) || !r->via || !is_value(r->via) ||
        shl_mp_get_int(map, "l", &r->body_length) < 0 || r->body_length < -1 ||
        shl_mp_get_bool(map, "w", &r->holds_body) < 0 ||
        shl_mp_get_uint(map, "p", NODE_WIRE_HOPS_MAX, &hops) < 0 || hops == 0) {
        return false;
    }
    r->hops = (unsigned)hops;
    return read_headers(map, NODE_WIRE_HEADERS_MAX, arena, r->headers, &r->header_count);
}

int node_wire_read_request(struct shl_bytes head,
                           struct node_wire_request *ret,
                           struct shl_err *err)
{
    struct node_wire_request request = {.header_count = 0};
    struct shl_mp_doc doc;
    struct arena arena;
    uint64_t version = 0;
    int rc = 0;

    if (shl_mp_parse(&doc, head) < 0) {
        return shl_err_set(err, SHL_EPROTO, "the head of a request is not valid msgpack");
    }
    if (shl_mp_get_uint(doc.root, "v", UINT32_MAX, &version) < 0) {
        rc = shl_err_set(err, SHL_EPROTO, "the head of a request has no version");
    } else if (version < NODE_WIRE_VERSION || version > NODE_WIRE_VERSION + 1) {
        rc = shl_err_set(err, SHL_EVERSION,
                         "requests of version %u between nodes are not known here: bring both "
                         "nodes to the same release",
                         (unsigned)version);
    } else if (!arena_init(&arena, head.len, &request.heap)) {
        rc = shl_err_set(err, -ENOMEM, "no memory for a request");
    } else if (!read_request(doc.root, &arena, &request)) {
        rc = shl_err_set(err, SHL_EPROTO, "a field in the head of a request is not valid");
    }
    shl_mp_release(&doc);
    if (rc < 0) {
        free(request.heap);
        return rc;
    }
    *ret = request;
    return 0;
}

void node_wire_request_release(struct node_wire_request *request)
{
    free(request->heap);
    request->heap = NULL;
}

/* Headers that would change how the reply is framed are left out. */
static void drop_connection_headers(struct node_wire_frame *frame)
{
    size_t kept = 0;

    for (size_t i = 0; i < frame->header_count; i++) {
        bool drop = false;

        for (size_t k = 0; k < SHL_ARRAY_SIZE(connection_headers); k++) {
            drop |= strcasecmp(frame->headers[i].name, connection_headers[k]) == 0;
        }
        if (!drop) {
            frame->headers[kept++] = frame->headers[i];
        }
    }
    frame->header_count = kept;
}

static bool read_reply(const msgpack_object *map, struct arena *arena, struct node_wire_frame *f)
{
    const msgpack_object *type = shl_mp_find(map, "t");
    uint64_t status;
    uint64_t refusal;

    f->kind = NODE_WIRE_REPLY;
    if (type) {
        f->content_type = take_text(arena, type, NODE_WIRE_TEXT_MAX);
        if (!f->content_type || !is_value(f->content_type)) {
            return false;
        }
    }
    f->node_name = take_text(arena, shl_mp_find(map, "n"), NODE_WIRE_TEXT_MAX);
    if (!f->node_name || !is_value(f->node_name) || shl_mp_get_uint(map, "s", 599, &status) < 0 ||
        (status < 200 && status != NODE_STATUS_UPGRADED) ||
        shl_mp_get_int(map, "l", &f->length) < 0 || f->length < -1 ||
        shl_mp_get_uint(map, "r", UINT32_MAX, &refusal) < 0) {
        return false;
    }
    f->status = (int)status;
    f->refusal = refusal <= NODE_REFUSAL_NO_ROOM ? (enum node_refusal)refusal : NODE_REFUSAL_NONE;
    if (!read_headers(map, NODE_EXCHANGE_HEADERS_MAX, arena, f->headers, &f->header_count)) {
        return false;
    }
    drop_connection_headers(f);
    return true;
}

static bool read_map(const msgpack_object *map, struct arena *arena, struct node_wire_frame *f)
{
    struct shl_bytes kind;

    if (shl_mp_get_str(map, "k", &kind) < 0) {
        return false;
    }
    if (kind.len == 2 && memcmp(kind.base, "go", 2) == 0) {
        f->kind = NODE_WIRE_GO;
        return true;
    }
    return kind.len == 5 && memcmp(kind.base, "reply", 5) == 0 && read_reply(map, arena, f);
}

int node_wire_read_frame(struct shl_bytes bytes, struct node_wire_frame *ret, struct shl_err *err)
{
    struct node_wire_frame frame = {.header_count = 0};
    struct shl_mp_doc doc;
    struct arena arena;
    uint32_t len;
    bool is_good;

    if (bytes.len < NODE_WIRE_LENGTH_BYTES) {
        return 0;
    }
    len = shl_get_le32(bytes.base);
    if (len == 0 || len > NODE_WIRE_FRAME_MAX) {
        return shl_err_set(err, SHL_EPROTO, "a reply between nodes has a head of %u bytes", len);
    }
    if (bytes.len - NODE_WIRE_LENGTH_BYTES < len) {
        return 0;
    }
    if (shl_mp_parse(&doc, shl_bytes_of(bytes.base + NODE_WIRE_LENGTH_BYTES, len)) < 0) {
        return shl_err_set(err, SHL_EPROTO, "the head of a reply is not valid msgpack");
    }
    if (!arena_init(&arena, len, &frame.heap)) {
        shl_mp_release(&doc);
        return shl_err_set(err, -ENOMEM, "no memory for a reply");
    }
    is_good = read_map(doc.root, &arena, &frame);
    shl_mp_release(&doc);
    if (!is_good) {
        free(frame.heap);
        return shl_err_set(err, SHL_EPROTO, "a field in the head of a reply is not valid");
    }
    *ret = frame;
    return (int)(len + NODE_WIRE_LENGTH_BYTES);
}

void node_wire_frame_release(struct node_wire_frame *frame)
{
    free(frame->heap);
    frame->heap = NULL;
}

bool node_wire_has_body(enum node_method method, int status)
{
    return status == NODE_STATUS_UPGRADED ||
           (method != NODE_METHOD_HEAD && status >= 200 && status != 204 && status != 304);
}
