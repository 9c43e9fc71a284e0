#include "node/http/response.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SIZE_DIGITS_MAX   15 /* of a chunk */
#define LENGTH_DIGITS_MAX 18
#define NAME_MAX_LEN      255 /* as between nodes (wire.h) */
#define TYPE_MAX_LEN      255

bool node_header_is_hop(const char *name)
{
    static const char *const names[] = {
        "Connection",
        "Content-Length",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Connection",
        "Proxy-Authorization",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
    };

    for (size_t i = 0; i < SHL_ARRAY_SIZE(names); i++) {
        if (strcasecmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

void node_response_init(struct node_response *r, bool is_to_head, bool is_to_upgrade)
{
    *r = (struct node_response){.is_to_head = is_to_head, .is_to_upgrade = is_to_upgrade};
    shl_buf_init(&r->head, NODE_RESPONSE_HEAD_MAX);
    shl_buf_init(&r->line, NODE_RESPONSE_LINE_MAX);
}

void node_response_release(struct node_response *r)
{
    shl_buf_release(&r->head);
    shl_buf_release(&r->line);
}

static int bad(struct shl_err *err, const char *what)
{
    return shl_err_set(err, SHL_EGUEST, "the server in the sandbox sent %s", what);
}

/* ---- the head -------------------------------------------------------------------- */

/* What headers say of the framing. */
struct framing {
    bool is_http_1_0;
    bool has_length;
    bool is_chunked;
    int64_t length;
    const char *connection;
};

/* The next line of @text, terminated in place; NULL without another one. A line ends in CR LF or,
 * as simple servers write it, in LF alone. */
static char *take_line(char **text)
{
    char *line = *text;
    char *feed = line ? strchr(line, '\n') : NULL;

    if (!feed) {
        return NULL;
    }
    *text = feed + 1;
    *feed = '\0';
    if (feed > line && feed[-1] == '\r') {
        feed[-1] = '\0';
    }
    return line;
}

static int parse_status(struct node_response *r,
                        const char *line,
                        struct framing *framing,
                        struct shl_err *err)
{
    if (strncmp(line, "HTTP/1.", 7) != 0 || (line[7] != '0' && line[7] != '1') || line[8] != ' ' ||
        !isdigit((unsigned char)line[9]) || !isdigit((unsigned char)line[10]) ||
        !isdigit((unsigned char)line[11]) || (line[12] != ' ' && line[12] != '\0')) {
        return bad(err, "something that is not HTTP/1.1");
    }
    framing->is_http_1_0 = line[7] == '0';
    r->status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
    if (r->status < 100 || r->status > 599) {
        return bad(err, "a status that does not exist");
    }
    return 0;
}

bool node_header_is_name(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)text[i]) && !strchr("!#$%&'*+-.^_`|~", text[i])) {
            return false;
        }
    }
    return len > 0;
}

bool node_header_is_value(const char *text)
{
    for (; *text; text++) {
        if (((unsigned char)*text < ' ' && *text != '\t') || *text == 0x7f) {
            return false;
        }
    }
    return true;
}

static char *trim(char *text)
{
    size_t len;

    text += strspn(text, " \t");
    len = strlen(text);
    while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t')) {
        text[--len] = '\0';
    }
    for (char *tab = text; (tab = strchr(tab, '\t')); tab++) {
        *tab = ' '; /* means the same, and the HTTP library sends none */
    }
    return text;
}

static int note_length(struct framing *framing, const char *value, struct shl_err *err)
{
    size_t len = strspn(value, "0123456789");

    if (framing->has_length) {
        return bad(err, "two Content-Length headers");
    }
    if (len == 0 || value[len] != '\0' || len > LENGTH_DIGITS_MAX) {
        return bad(err, "a Content-Length that is not a size");
    }
    framing->has_length = true;
    framing->length = (int64_t)strtoull(value, NULL, 10);
    return 0;
}

static int note_encoding(struct framing *framing, const char *value, struct shl_err *err)
{
    if (framing->is_chunked || strcasecmp(value, "chunked") != 0) {
        return bad(err, "a Transfer-Encoding other than chunked");
    }
    framing->is_chunked = true;
    return 0;
}

static int keep_header(struct node_response *r,
                       const char *name,
                       const char *value,
                       struct shl_err *err)
{
    if (strlen(name) > NAME_MAX_LEN) {
        return bad(err, "a header whose name is too long");
    }
    if (strcasecmp(name, "Content-Type") == 0) {
        if (strlen(value) > TYPE_MAX_LEN) {
            return bad(err, "a Content-Type that is too long");
        }
        if (r->content_type) {
            return bad(err, "two Content-Type headers");
        }
        r->content_type = value;
        return 0;
    }
    if (r->header_count == NODE_EXCHANGE_HEADERS_MAX) {
        return bad(err, "more headers than are passed on");
    }
    r->headers[r->header_count++] = (struct node_reply_header){name, value};
    return 0;
}

static int parse_header(struct node_response *r,
                        char *line,
                        struct framing *framing,
                        struct shl_err *err)
{
    char *colon = strchr(line, ':');
    char *value;

    if (!colon || !node_header_is_name(line, (size_t)(colon - line))) {
        return bad(err, "a header that is not of the form name: value");
    }
    *colon = '\0';
    value = trim(colon + 1);
    if (!node_header_is_value(value)) {
        return bad(err, "a header with a control character");
    }
    if (strcasecmp(line, "Content-Length") == 0) {
        return note_length(framing, value, err);
    }
    if (strcasecmp(line, "Transfer-Encoding") == 0) {
        return note_encoding(framing, value, err);
    }
    if (strcasecmp(line, "Connection") == 0) {
        framing->connection = framing->connection ? framing->connection : value;
    }
    return node_header_is_hop(line) ? 0 : keep_header(r, line, value, err);
}

/* Is @name in the list of a Connection header? */
bool node_header_is_listed(const char *list, const char *name)
{
    size_t len = strlen(name);

    while (list && *list) {
        size_t skip = strspn(list, " \t,");
        size_t item = strcspn(list + skip, " \t,");

        list += skip;
        if (item == len && strncasecmp(list, name, len) == 0) {
            return true;
        }
        list += item;
    }
    return false;
}

static void drop_listed(struct node_response *r, const char *list)
{
    size_t kept = 0;

    for (size_t i = 0; i < r->header_count; i++) {
        if (!node_header_is_listed(list, r->headers[i].name)) {
            r->headers[kept++] = r->headers[i];
        }
    }
    r->header_count = kept;
}

static int choose_body(struct node_response *r, const struct framing *framing, struct shl_err *err)
{
    if (framing->is_chunked && (framing->has_length || framing->is_http_1_0)) {
        return bad(err, "a head that says two things about the length of what follows");
    }
    r->length = framing->has_length ? framing->length : -1;
    if (r->status == NODE_STATUS_UPGRADED) {
        if (!r->is_to_upgrade || framing->has_length || framing->is_chunked) {
            return bad(err, "a change of protocol that nobody asked for");
        }
        r->state = NODE_RESPONSE_IN_REST;
        r->length = -1;
    } else if (r->is_to_head || r->status == 204 || r->status == 304) {
        r->state = NODE_RESPONSE_OVER;
        r->length = r->is_to_head ? r->length : 0;
    } else if (framing->is_chunked) {
        r->state = NODE_RESPONSE_IN_SIZE;
    } else if (framing->has_length) {
        r->state = framing->length > 0 ? NODE_RESPONSE_IN_LENGTH : NODE_RESPONSE_OVER;
        r->left = (uint64_t)framing->length;
    } else {
        r->state = NODE_RESPONSE_IN_REST;
    }
    return 0;
}

/* All of the head is in r->head, terminated. */
static int parse_head(struct node_response *r, struct shl_err *err)
{
    char *text = (char *)shl_buf_data(&r->head);
    struct framing framing = {.length = 0};
    char *line;
    int rc;

    r->header_count = 0;
    r->content_type = NULL;
    if (memchr(text, '\0', shl_buf_len(&r->head) - 1)) {
        return bad(err, "a head with a zero byte");
    }
    line = take_line(&text);
    rc = line ? parse_status(r, line, &framing, err) : bad(err, "an empty head");
    while (rc == 0 && (line = take_line(&text)) && *line) {
        rc = parse_header(r, line, &framing, err);
    }
    if (rc < 0) {
        return rc;
    }
    if (r->status < 200 && r->status != NODE_STATUS_UPGRADED) {
        if (++r->interim_count > NODE_RESPONSE_INTERIM_MAX) {
            return bad(err, "interim replies without end");
        }
        shl_buf_clear(&r->head);
        return NODE_RESPONSE_MORE;
    }
    drop_listed(r, framing.connection);
    rc = choose_body(r, &framing, err);
    return rc < 0 ? rc : NODE_RESPONSE_HEAD;
}

/* Bytes of @bytes up to the empty line that ends the head, given what has come before; 0 when it
 * is not there. */
static size_t head_end(const struct shl_buf *before, struct shl_bytes bytes)
{
    size_t seen = shl_buf_len(before);
    uint8_t last[3] = {0}; /* the newest first */

    for (size_t i = 0; i < 3 && i < seen; i++) {
        last[i] = shl_buf_data(before)[seen - 1 - i];
    }
    for (size_t i = 0; i < bytes.len; i++) {
        if (bytes.base[i] == '\n' && (last[0] == '\n' || (last[0] == '\r' && last[1] == '\n'))) {
            return i + 1;
        }
        last[2] = last[1];
        last[1] = last[0];
        last[0] = bytes.base[i];
    }
    return 0;
}

static int feed_head(struct node_response *r,
                     struct shl_bytes bytes,
                     size_t *ret_used,
                     struct shl_err *err)
{
    size_t end = head_end(&r->head, bytes);
    size_t len = end > 0 ? end : bytes.len;
    int rc = SHL_ELIMIT;

    if (shl_buf_len(&r->head) + len < NODE_RESPONSE_HEAD_MAX) { /* a terminator fits */
        rc = shl_buf_append(&r->head, bytes.base, len);
    }
    if (rc == SHL_ELIMIT) {
        return bad(err, "a head of more than 32 KiB");
    }
    *ret_used = len;
    if (rc < 0 || end == 0) {
        return rc < 0 ? shl_err_set(err, rc, "no memory for a reply") : NODE_RESPONSE_MORE;
    }
    rc = shl_buf_append(&r->head, "", 1);
    return rc < 0 ? shl_err_set(err, rc, "no memory for a reply") : parse_head(r, err);
}

/* ---- the body -------------------------------------------------------------------- */

static int feed_plain(struct node_response *r,
                      struct shl_bytes bytes,
                      size_t *ret_used,
                      struct shl_bytes *ret_body)
{
    size_t len = bytes.len;

    if (r->state != NODE_RESPONSE_IN_REST) {
        len = (size_t)SHL_MIN((uint64_t)len, r->left);
        r->left -= len;
        if (r->left == 0) {
            r->state = r->state == NODE_RESPONSE_IN_CHUNK ? NODE_RESPONSE_IN_CHUNK_END
                                                          : NODE_RESPONSE_OVER;
        }
    }
    *ret_used = len;
    *ret_body = shl_bytes_of(bytes.base, len);
    return NODE_RESPONSE_BODY;
}

/* Collect up to and with the line feed: 1 when it is there, 0 when more is needed. */
static int collect_line(struct node_response *r,
                        struct shl_bytes bytes,
                        size_t *ret_used,
                        struct shl_err *err)
{
    const uint8_t *feed = memchr(bytes.base, '\n', bytes.len);
    size_t len = feed ? (size_t)(feed - bytes.base) + 1 : bytes.len;
    int rc = shl_buf_append(&r->line, bytes.base, len);

    if (rc < 0) {
        return rc == SHL_ELIMIT ? bad(err, "a chunk whose size does not end")
                                : shl_err_set(err, rc, "no memory for a reply");
    }
    *ret_used = len;
    return feed ? 1 : 0;
}

static int digit_of(uint8_t c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static int feed_size(struct node_response *r,
                     struct shl_bytes bytes,
                     size_t *ret_used,
                     struct shl_err *err)
{
    int rc = collect_line(r, bytes, ret_used, err);
    const uint8_t *text = shl_buf_data(&r->line);
    size_t len = shl_buf_len(&r->line);
    size_t at = 0;

    if (rc <= 0) {
        return rc;
    }
    r->left = 0;
    while (at < len && at < SIZE_DIGITS_MAX && digit_of(text[at]) >= 0) {
        r->left = r->left * 16 + (uint64_t)digit_of(text[at++]);
    }
    if (at == 0 || len < 2 || text[len - 2] != '\r' || at > len - 2 ||
        (at < len - 2 && !strchr("; \t", text[at]))) {
        return bad(err, "a chunk without a size");
    }
    shl_buf_clear(&r->line);
    r->state = r->left > 0 ? NODE_RESPONSE_IN_CHUNK : NODE_RESPONSE_IN_TRAILER;
    r->is_line_empty = true;
    return NODE_RESPONSE_MORE;
}

static int feed_chunk_end(struct node_response *r,
                          struct shl_bytes bytes,
                          size_t *ret_used,
                          struct shl_err *err)
{
    int rc = collect_line(r, bytes, ret_used, err);
    size_t len = shl_buf_len(&r->line);

    if (rc < 0) {
        return rc;
    }
    if (len > 2 || memcmp(shl_buf_data(&r->line), "\r\n", len) != 0) {
        return bad(err, "a chunk that is longer than its size");
    }
    if (rc > 0) {
        shl_buf_clear(&r->line);
        r->state = NODE_RESPONSE_IN_SIZE;
    }
    return NODE_RESPONSE_MORE;
}

/* Lines until an empty one. */
static int feed_trailer(struct node_response *r,
                        struct shl_bytes bytes,
                        size_t *ret_used,
                        struct shl_err *err)
{
    for (size_t i = 0; i < bytes.len; i++) {
        if (++r->trailer_bytes > NODE_RESPONSE_TRAILER_MAX) {
            return bad(err, "trailers of more than 8 KiB");
        }
        if (bytes.base[i] == '\n') {
            if (r->is_line_empty) {
                r->state = NODE_RESPONSE_OVER;
                *ret_used = i + 1;
                return NODE_RESPONSE_MORE;
            }
            r->is_line_empty = true;
        } else if (bytes.base[i] != '\r') {
            r->is_line_empty = false;
        }
    }
    *ret_used = bytes.len;
    return NODE_RESPONSE_MORE;
}

int node_response_feed(struct node_response *r,
                       struct shl_bytes bytes,
                       size_t *ret_used,
                       struct shl_bytes *ret_body,
                       struct shl_err *err)
{
    *ret_used = 0;
    *ret_body = shl_bytes_of(NULL, 0);
    if (r->state == NODE_RESPONSE_OVER) {
        return NODE_RESPONSE_END;
    }
    if (bytes.len == 0) {
        return NODE_RESPONSE_MORE;
    }
    switch (r->state) {
    case NODE_RESPONSE_IN_HEAD:
        return feed_head(r, bytes, ret_used, err);
    case NODE_RESPONSE_IN_LENGTH:
    case NODE_RESPONSE_IN_REST:
    case NODE_RESPONSE_IN_CHUNK:
        return feed_plain(r, bytes, ret_used, ret_body);
    case NODE_RESPONSE_IN_SIZE:
        return feed_size(r, bytes, ret_used, err);
    case NODE_RESPONSE_IN_CHUNK_END:
        return feed_chunk_end(r, bytes, ret_used, err);
    case NODE_RESPONSE_IN_TRAILER:
        return feed_trailer(r, bytes, ret_used, err);
    case NODE_RESPONSE_OVER:
        break;
    }
    return NODE_RESPONSE_END;
}

int node_response_eof(struct node_response *r, struct shl_err *err)
{
    if (r->state == NODE_RESPONSE_OVER || r->state == NODE_RESPONSE_IN_REST) {
        r->state = NODE_RESPONSE_OVER;
        return NODE_RESPONSE_END;
    }
    return shl_err_set(err, SHL_EGUEST,
                       r->state == NODE_RESPONSE_IN_HEAD
                           ? "the server in the sandbox closed the connection without an answer"
                           : "the server in the sandbox broke off in the middle of its answer");
}
