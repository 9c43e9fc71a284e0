#include "node/egress/rewrite.h"

#include <string.h>
#include <strings.h>

#include "base/err.h"

#define BASIC_MAX 4096 /* decoded credentials; longer ones go on as they are */

/* A value with a line break would end the header. */
struct one_line {
    const struct egress_request_rules *rules;
};

static struct shl_bytes lookup_one_line(void *arg, const char *token)
{
    const struct one_line *one = arg;
    struct shl_bytes value = one->rules->lookup(one->rules->arg, token);
    size_t i;

    for (i = 0; value.base && i < value.len; i++) {
        if (value.base[i] < 0x20 || value.base[i] == 0x7f) {
            return (struct shl_bytes){NULL, 0};
        }
    }
    return value;
}

static int replace(struct shl_bytes text,
                   const struct egress_request_rules *rules,
                   struct shl_buf *out,
                   uint64_t *replaced)
{
    struct one_line one = {rules};
    struct egress_subst subst;
    size_t used;
    int rc;

    if (!rules->lookup) {
        return shl_buf_append(out, text.base, text.len);
    }
    egress_subst_init(&subst);
    rc = egress_subst_feed(&subst, text, SIZE_MAX, out, lookup_one_line, &one, &used);
    if (rc == 0) {
        rc = egress_subst_end(&subst, out);
    }
    *replaced += subst.replaced;
    return rc;
}

/* ---- Basic credentials: tokens inside base64 ------------------------------------- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Returns the length, or -1 when it is not base64. */
static int decode64(struct shl_bytes text, uint8_t *dst, size_t size)
{
    uint32_t bits = 0;
    unsigned have = 0;
    size_t len = 0, i;

    while (text.len > 0 && text.base[text.len - 1] == '=') {
        text.len--;
    }
    for (i = 0; i < text.len; i++) {
        const char *digit = text.base[i] ? strchr(digits, text.base[i]) : NULL;

        if (!digit || (have >= 2 && len == size)) {
            return -1;
        }
        bits = (bits << 6 | (uint32_t)(digit - digits)) & 0xffffff;
        have += 6;
        if (have >= 8) {
            have -= 8;
            dst[len++] = (uint8_t)(bits >> have);
        }
    }
    return (int)len;
}

static int encode64(struct shl_bytes data, struct shl_buf *out)
{
    size_t i;
    int rc = 0;

    for (i = 0; i < data.len && rc == 0; i += 3) {
        size_t left = SHL_MIN(data.len - i, 3u);
        uint32_t bits = (uint32_t)data.base[i] << 16 |
                        (left > 1 ? (uint32_t)data.base[i + 1] << 8 : 0) |
                        (left > 2 ? data.base[i + 2] : 0);
        char text[4] = {digits[bits >> 18], digits[bits >> 12 & 63],
                        left > 1 ? digits[bits >> 6 & 63] : '=',
                        left > 2 ? digits[bits & 63] : '='};

        rc = shl_buf_append(out, text, sizeof(text));
    }
    return rc;
}

/* "Basic dXNlcjp0b2tlbg==": what git and many clients make of a token. 1 when it was written,
 * 0 when there is nothing to do in it. */
static int replace_basic(struct shl_bytes value,
                         const struct egress_request_rules *rules,
                         struct shl_buf *out,
                         uint64_t *replaced)
{
    uint8_t plain[BASIC_MAX];
    struct shl_buf text;
    uint64_t count = 0;
    int len, rc;

    if (!rules->lookup || value.len < 7 ||
        strncasecmp((const char *)value.base, "basic ", 6) != 0) {
        return 0;
    }
    len = decode64(shl_bytes_of(value.base + 6, value.len - 6), plain, sizeof(plain));
    if (len < 0) {
        return 0;
    }
    shl_buf_init(&text, EGRESS_HEAD_OUT_MAX);
    rc = replace(shl_bytes_of(plain, (size_t)len), rules, &text, &count);
    if (rc == 0 && count > 0) {
        rc = shl_buf_append_str(out, "Basic ");
        rc = rc < 0 ? rc : encode64(shl_buf_bytes(&text), out);
        rc = rc < 0 ? rc : 1;
        *replaced += count;
    }
    shl_buf_wipe(&text);
    return rc;
}

/* ---- the head -------------------------------------------------------------------- */

static bool is_dropped(const struct egress_field *field,
                       const struct egress_head *head,
                       const struct egress_request_rules *rules,
                       enum egress_rewrite how)
{
    if (how != EGRESS_REWRITE_KEEP && egress_field_is(field, "content-length")) {
        return true;
    }
    if (how == EGRESS_REWRITE_COLLECT && egress_field_is(field, "expect")) {
        return true;
    }
    if (!rules->is_proxy) {
        return false;
    }
    return egress_field_is(field, "proxy-connection") ||
           egress_field_is(field, "proxy-authorization") || egress_field_is(field, "keep-alive") ||
           (egress_field_is(field, "connection") && !head->wants_upgrade);
}

static int write_line(const struct egress_head *head,
                      const struct egress_request_rules *rules,
                      struct shl_buf *out)
{
    char host[EGRESS_HOST_SIZE];
    struct shl_bytes path;
    uint16_t port;
    int rc;

    if (!rules->is_proxy) {
        rc = shl_buf_append(out, head->line.base, head->line.len);
        return rc < 0 ? rc : shl_buf_append_str(out, "\r\n");
    }
    if (egress_request_split(head->target, host, &port, &path) < 0) {
        return SHL_EPROTO;
    }
    rc = shl_buf_append(out, head->method.base, head->method.len);
    rc = rc < 0 ? rc : shl_buf_append_str(out, " ");
    if (rc == 0 && (path.len == 0 || path.base[0] != '/')) {
        rc = shl_buf_append_str(out, "/");
    }
    rc = rc < 0 ? rc : shl_buf_append(out, path.base, path.len);
    return rc < 0 ? rc : shl_buf_printf(out, " HTTP/1.%d\r\n", head->minor);
}

static int write_field(const struct egress_field *field,
                       const struct egress_request_rules *rules,
                       struct shl_buf *out,
                       uint64_t *replaced)
{
    int rc = shl_buf_append(out, field->name.base, field->name.len);

    rc = rc < 0 ? rc : shl_buf_append_str(out, ": ");
    if (rc == 0 && egress_field_is(field, "authorization")) {
        rc = replace_basic(field->value, rules, out, replaced);
    }
    if (rc == 0) {
        rc = replace(field->value, rules, out, replaced);
    }
    return rc < 0 ? rc : shl_buf_append_str(out, "\r\n");
}

int egress_rewrite_head(const struct egress_head *head,
                        const struct egress_request_rules *rules,
                        enum egress_rewrite how,
                        struct shl_buf *out,
                        uint64_t *replaced)
{
    int rc = write_line(head, rules, out);
    size_t i;

    for (i = 0; i < head->field_count && rc == 0; i++) {
        if (!is_dropped(&head->fields[i], head, rules, how)) {
            rc = write_field(&head->fields[i], rules, out, replaced);
        }
    }
    if (rc == 0 && how == EGRESS_REWRITE_CHUNKS && head->framing != EGRESS_FRAMING_CHUNKED) {
        rc = shl_buf_append_str(out, "Transfer-Encoding: chunked\r\n");
    }
    if (rc == 0 && rules->is_proxy && !head->wants_upgrade) {
        rc = shl_buf_append_str(out, "Connection: close\r\n");
    }
    if (rc == 0 && how != EGRESS_REWRITE_COLLECT) {
        rc = shl_buf_append_str(out, "\r\n");
    }
    return rc;
}
