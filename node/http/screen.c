#include "node/http/screen.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "node/http/url.h"

struct head {
    unsigned header_count;
    unsigned host_count;
    unsigned length_count;
    unsigned encoding_count;
    bool is_http_1_0;
};

static enum node_screen_result bad(struct node_screen_error *error, int status, const char *msg)
{
    *error = (struct node_screen_error){status, msg};
    return NODE_SCREEN_BAD;
}

static bool is_token_char(uint8_t c)
{
    return isalnum(c) || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static size_t token_len(struct shl_bytes text)
{
    size_t n = 0;

    while (n < text.len && is_token_char(text.base[n])) {
        n++;
    }
    return n;
}

static bool name_is(struct shl_bytes name, const char *text)
{
    return name.len == strlen(text) && strncasecmp((const char *)name.base, text, name.len) == 0;
}

static enum node_screen_result check_version(struct shl_bytes version,
                                             struct head *head,
                                             struct node_screen_error *error)
{
    const char *text = (const char *)version.base;

    if (version.len != 8 || memcmp(text, "HTTP/", 5) != 0 || !isdigit((uint8_t)text[5]) ||
        text[6] != '.' || !isdigit((uint8_t)text[7])) {
        return bad(error, 400, "the request line does not end in an HTTP version");
    }
    if (text[5] != '1' || (text[7] != '0' && text[7] != '1')) {
        return bad(error, 505, "only HTTP/1.0 and HTTP/1.1 are served here");
    }
    head->is_http_1_0 = text[7] == '0';
    return NODE_SCREEN_OK;
}

static enum node_screen_result check_request_line(struct shl_bytes line,
                                                  struct head *head,
                                                  struct node_screen_error *error)
{
    size_t method = token_len(line);
    const uint8_t *target = line.base + method + 1;
    const uint8_t *end;

    if (method == 0 || method > NODE_SCREEN_METHOD_MAX || method >= line.len ||
        line.base[method] != ' ') {
        return bad(error, 400, "the request line does not begin with a method");
    }
    end = memchr(target, ' ', line.len - method - 1);
    if (!end || end == target) {
        return bad(error, 400, "the request line has no target or no HTTP version");
    }
    if ((size_t)(end - target) > NODE_URL_MAX) {
        return bad(error, 414, "the request target is longer than 16384 bytes");
    }
    for (const uint8_t *p = target; p < end; p++) {
        if (*p <= ' ' || *p >= 0x7f) {
            return bad(error, 400, "the request target holds bytes that must be percent-encoded");
        }
    }
    return check_version(shl_bytes_of(end + 1, (size_t)(line.base + line.len - end - 1)), head,
                         error);
}

static enum node_screen_result check_framing(struct shl_bytes name,
                                             struct shl_bytes value,
                                             struct head *head,
                                             struct node_screen_error *error)
{
    if (name_is(name, "host")) {
        if (++head->host_count > 1) {
            return bad(error, 400, "the Host header is there twice");
        }
    } else if (name_is(name, "content-length")) {
        if (++head->length_count > 1) {
            return bad(error, 400, "the Content-Length header is there twice");
        }
        if (value.len == 0 || value.len > 18) {
            return bad(error, 400, "the Content-Length header is not a size");
        }
        for (size_t i = 0; i < value.len; i++) {
            if (!isdigit(value.base[i])) {
                return bad(error, 400, "the Content-Length header is not a size");
            }
        }
    } else if (name_is(name, "transfer-encoding")) {
        if (++head->encoding_count > 1 || !name_is(value, "chunked")) {
            return bad(error, 501, "the only Transfer-Encoding known here is chunked");
        }
    }
    return NODE_SCREEN_OK;
}

static struct shl_bytes trim(struct shl_bytes text)
{
    while (text.len > 0 && (text.base[0] == ' ' || text.base[0] == '\t')) {
        text = shl_bytes_of(text.base + 1, text.len - 1);
    }
    while (text.len > 0 && (text.base[text.len - 1] == ' ' || text.base[text.len - 1] == '\t')) {
        text.len--;
    }
    return text;
}

static enum node_screen_result check_header(struct shl_bytes line,
                                            struct head *head,
                                            struct node_screen_error *error)
{
    size_t name = token_len(line);
    struct shl_bytes value;

    if (++head->header_count > NODE_SCREEN_HEADERS_MAX) {
        return bad(error, 431, "the request has more than 100 headers");
    }
    if (name == 0 || name >= line.len || line.base[name] != ':') {
        return bad(error, 400, "a header line is not of the form name: value");
    }
    value = trim(shl_bytes_of(line.base + name + 1, line.len - name - 1));
    for (size_t i = 0; i < value.len; i++) {
        if ((value.base[i] < ' ' && value.base[i] != '\t') || value.base[i] == 0x7f) {
            return bad(error, 400, "a header value holds a control character");
        }
    }
    return check_framing(shl_bytes_of(line.base, name), value, head, error);
}

static enum node_screen_result check_end(const struct head *head, struct node_screen_error *error)
{
    if (!head->is_http_1_0 && head->host_count == 0) {
        return bad(error, 400, "an HTTP/1.1 request needs a Host header");
    }
    if (head->length_count > 0 && head->encoding_count > 0) {
        return bad(error, 400, "Content-Length and Transfer-Encoding exclude each other");
    }
    return NODE_SCREEN_OK;
}

/* What an unfinished head of the greatest size is too long in. */
static enum node_screen_result too_long(bool has_request_line, struct node_screen_error *error)
{
    return has_request_line ? bad(error, 431, "the request headers are larger than 32768 bytes")
                            : bad(error, 414, "the request target is longer than 16384 bytes");
}

enum node_screen_result node_screen(struct shl_bytes bytes, struct node_screen_error *ret_error)
{
    struct head head = {0};
    bool has_request_line = false;
    size_t at = 0;

    /* Some clients send an empty line after a previous body. */
    while (at < 4 && at + 1 < bytes.len && memcmp(bytes.base + at, "\r\n", 2) == 0) {
        at += 2;
    }
    while (at < bytes.len) {
        const uint8_t *start = bytes.base + at;
        const uint8_t *feed = memchr(start, '\n', bytes.len - at);
        enum node_screen_result result;
        struct shl_bytes line;

        if (!feed) {
            break;
        }
        if (feed == start || feed[-1] != '\r') {
            return bad(ret_error, 400, "a line of the request head does not end in CR LF");
        }
        line = shl_bytes_of(start, (size_t)(feed - start) - 1);
        at += line.len + 2;
        if (at > NODE_SCREEN_HEAD_MAX) {
            return too_long(has_request_line, ret_error);
        }
        if (line.len == 0) {
            return check_end(&head, ret_error);
        }
        result = has_request_line ? check_header(line, &head, ret_error)
                                  : check_request_line(line, &head, ret_error);
        if (result != NODE_SCREEN_OK) {
            return result;
        }
        has_request_line = true;
    }
    if (bytes.len >= NODE_SCREEN_HEAD_MAX) {
        return too_long(has_request_line, ret_error);
    }
    /* Not HTTP at all (TLS, a binary protocol): no reason to wait for a line feed. */
    if (!has_request_line && at < bytes.len && !is_token_char(bytes.base[at]) &&
        bytes.base[at] != '\r') {
        return bad(ret_error, 400, "this port speaks plain HTTP/1.1");
    }
    return NODE_SCREEN_MORE;
}
