#include "node/egress/metadata.h"

#include <string.h>

#include "base/err.h"
#include "node/egress/head.h"

static const struct {
    const char *path;
    enum egress_metadata_what what;
} paths[] = {
    {"/", EGRESS_METADATA_ROOT},
    {"/v1/status", EGRESS_METADATA_STATUS},
    {"/v1/limits", EGRESS_METADATA_LIMITS},
    {"/v1/metadata", EGRESS_METADATA_METADATA},
};

/* ---- requests -------------------------------------------------------------------- */

static bool is_text(struct shl_bytes bytes, const char *text)
{
    return bytes.len == strlen(text) && memcmp(bytes.base, text, bytes.len) == 0;
}

static enum egress_metadata_what find_path(struct shl_bytes path)
{
    const uint8_t *query = memchr(path.base, '?', path.len);
    size_t i;

    if (query) {
        path.len = (size_t)(query - path.base);
    }
    if (path.len > 1 && path.base[path.len - 1] == '/') {
        path.len--;
    }
    for (i = 0; i < SHL_ARRAY_SIZE(paths); i++) {
        if (is_text(path, paths[i].path)) {
            return paths[i].what;
        }
    }
    return EGRESS_METADATA_BAD;
}

void egress_metadata_refuse(struct egress_metadata_request *request, int status, const char *reason)
{
    request->what = EGRESS_METADATA_BAD;
    request->status = status;
    request->reason = reason;
}

static void judge(const struct egress_head *head, struct egress_metadata_request *ret)
{
    ret->is_head = is_text(head->method, "HEAD");
    if (head->target.base[0] != '/') {
        egress_metadata_refuse(ret, 400, "the target of a request here is a path");
        return;
    }
    ret->what = find_path(head->target);
    if (ret->what == EGRESS_METADATA_BAD) {
        egress_metadata_refuse(ret, 404, "there is no such path, GET / lists those that are");
    } else if (!is_text(head->method, "GET") && !ret->is_head) {
        egress_metadata_refuse(ret, 405, "only GET and HEAD work here");
    }
}

bool egress_metadata_parse(struct shl_bytes bytes, struct egress_metadata_request *ret)
{
    struct shl_bytes first = shl_bytes_of(bytes.base, SHL_MIN(bytes.len, EGRESS_METADATA_HEAD_MAX));
    struct egress_head head;

    *ret = (struct egress_metadata_request){.what = EGRESS_METADATA_BAD, .status = 200};
    switch (egress_head_request(first, &head)) {
    case EGRESS_HEAD_MORE:
        if (bytes.len < EGRESS_METADATA_HEAD_MAX) {
            return false;
        }
        egress_metadata_refuse(ret, 431, "the head of the request is too large");
        break;
    case EGRESS_HEAD_OK:
        judge(&head, ret);
        break;
    case EGRESS_HEAD_BAD:
        egress_metadata_refuse(ret, 400, "the request is not valid HTTP/1.1");
        break;
    case EGRESS_HEAD_TOO_LARGE:
        egress_metadata_refuse(ret, 431, "the head of the request is too large");
        break;
    }
    return true;
}

/* ---- replies --------------------------------------------------------------------- */

/* Names of regions and templates are what an operator chose. */
static int put_text(struct shl_buf *out, const char *text)
{
    int rc = shl_buf_append(out, "\"", 1);

    for (; rc == 0 && *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == '"' || c == '\\') {
            rc = shl_buf_printf(out, "\\%c", c);
        } else if (c < 0x20 || c == 0x7f) {
            rc = shl_buf_printf(out, "\\u%04x", c);
        } else {
            rc = shl_buf_append(out, &c, 1);
        }
    }
    return rc == 0 ? shl_buf_append(out, "\"", 1) : rc;
}

static int put_pair(struct shl_buf *out, const char *first, const char *value)
{
    int rc = shl_buf_append_str(out, first);

    return rc == 0 ? put_text(out, value) : rc;
}

static int put_status(const struct egress_metadata_caller *caller, struct shl_buf *out)
{
    uint64_t began_ms = caller->facts->began_ms;
    uint64_t ms = caller->now_ms > began_ms ? caller->now_ms - began_ms : 0;
    int rc = put_pair(out, "{\"sandboxId\":", caller->sandbox);

    return rc == 0 ? shl_buf_printf(out, ",\"uptime\":%llu}\n", (unsigned long long)ms / 1000) : rc;
}

static int put_limits(const struct egress_metadata_caller *caller,
                      const struct node_egress_figures *figures,
                      struct shl_buf *out)
{
    return shl_buf_printf(out,
                          "{\"cpuPercent\":%llu.%llu,\"memUsage\":%llu,\"memLimit\":%llu,"
                          "\"pids\":%llu,\"netInput\":%llu,\"netOutput\":%llu}\n",
                          (unsigned long long)figures->cpu_permille / 10,
                          (unsigned long long)figures->cpu_permille % 10,
                          (unsigned long long)figures->memory_used_bytes,
                          (unsigned long long)caller->facts->memory_bytes,
                          (unsigned long long)figures->processes,
                          (unsigned long long)figures->net_in_bytes,
                          (unsigned long long)figures->net_out_bytes);
}

static int put_metadata(const struct node_egress_facts *facts, struct shl_buf *out)
{
    int rc = put_pair(out, "{\"region\":", facts->region);

    rc = rc < 0 ? rc : put_pair(out, ",\"template\":", facts->template_name);
    return rc < 0 ? rc : shl_buf_append_str(out, "}\n");
}

static int put_body(const struct egress_metadata_request *request,
                    const struct egress_metadata_caller *caller,
                    const struct node_egress_figures *figures,
                    struct shl_buf *out)
{
    switch (request->what) {
    case EGRESS_METADATA_ROOT:
        return shl_buf_append_str(
            out, "{\"endpoints\":[\"/v1/status\",\"/v1/limits\",\"/v1/metadata\"]}\n");
    case EGRESS_METADATA_STATUS:
        return put_status(caller, out);
    case EGRESS_METADATA_LIMITS:
        return put_limits(caller, figures, out);
    case EGRESS_METADATA_METADATA:
        return put_metadata(caller->facts, out);
    case EGRESS_METADATA_BAD:
        break;
    }
    return shl_buf_printf(out, "%s\n", request->reason);
}

static const char *phrase(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 431:
        return "Request Header Fields Too Large";
    case 503:
        return "Service Unavailable";
    default:
        return "Bad Request";
    }
}

int egress_metadata_reply(const struct egress_metadata_request *request,
                          const struct egress_metadata_caller *caller,
                          const struct node_egress_figures *figures,
                          struct shl_buf *out)
{
    int status = request->status;
    struct shl_buf body;
    int rc;

    shl_buf_init(&body, EGRESS_METADATA_REPLY_MAX);
    rc = put_body(request, caller, figures, &body);
    if (rc == 0) {
        rc = shl_buf_printf(out,
                            "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                            "Cache-Control: no-store\r\n%s%sConnection: close\r\n\r\n",
                            status, phrase(status),
                            status == 200 ? "application/json" : "text/plain; charset=utf-8",
                            shl_buf_len(&body), status == 405 ? "Allow: GET, HEAD\r\n" : "",
                            status == 503 ? "Retry-After: 1\r\n" : "");
    }
    if (rc == 0 && !request->is_head) {
        rc = shl_buf_append(out, shl_buf_data(&body), shl_buf_len(&body));
    }
    shl_buf_release(&body);
    return rc;
}
