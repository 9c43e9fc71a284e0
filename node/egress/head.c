#include "node/egress/head.h"

#include <string.h>
#include <strings.h>

bool egress_bytes_equal_nocase(struct shl_bytes bytes, const char *text)
{
    size_t len = strlen(text);

    return bytes.len == len && (len == 0 || strncasecmp((const char *)bytes.base, text, len) == 0);
}

bool egress_field_is(const struct egress_field *field, const char *name)
{
    return egress_bytes_equal_nocase(field->name, name);
}

static bool is_token_character(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(struct shl_bytes text)
{
    size_t i;

    for (i = 0; i < text.len; i++) {
        if (!is_token_character(text.base[i])) {
            return false;
        }
    }
    return text.len > 0;
}

static bool is_text(struct shl_bytes text)
{
    size_t i;

    for (i = 0; i < text.len; i++) {
        if ((text.base[i] < 0x20 && text.base[i] != '\t') || text.base[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

static struct shl_bytes trim(struct shl_bytes text)
{
    while (text.len > 0 && (text.base[0] == ' ' || text.base[0] == '\t')) {
        text.base++;
        text.len--;
    }
    while (text.len > 0 && (text.base[text.len - 1] == ' ' || text.base[text.len - 1] == '\t')) {
        text.len--;
    }
    return text;
}

/* The next member of a comma-separated list; false at its end. */
static bool next_member(struct shl_bytes *list, struct shl_bytes *ret)
{
    const uint8_t *comma;

    if (list->len == 0) {
        return false;
    }
    comma = memchr(list->base, ',', list->len);
    ret->base = list->base;
    ret->len = comma ? (size_t)(comma - list->base) : list->len;
    list->base += ret->len + (comma ? 1 : 0);
    list->len -= ret->len + (comma ? 1 : 0);
    *ret = trim(*ret);
    return true;
}

static bool list_has(struct shl_bytes list, const char *word)
{
    struct shl_bytes member;

    while (next_member(&list, &member)) {
        if (egress_bytes_equal_nocase(member, word)) {
            return true;
        }
    }
    return false;
}

static bool parse_length(struct shl_bytes text, uint64_t *ret)
{
    uint64_t value = 0;
    size_t i;

    for (i = 0; i < text.len; i++) {
        if (text.base[i] < '0' || text.base[i] > '9' || value > EGRESS_BODY_LENGTH_MAX / 10 - 1) {
            return false;
        }
        value = value * 10 + (uint64_t)(text.base[i] - '0');
    }
    *ret = value;
    return text.len > 0;
}

struct seen {
    bool length, encoding, host, connection_upgrade, upgrade;
};

/* What a field means for the proxy. False when it makes the message ambiguous. */
static bool note_field(struct egress_head *head, struct seen *seen, const struct egress_field *f)
{
    if (egress_field_is(f, "content-length")) {
        if (seen->length || !parse_length(f->value, &head->length)) {
            return false;
        }
        seen->length = true;
    } else if (egress_field_is(f, "transfer-encoding")) {
        if (seen->encoding || !egress_bytes_equal_nocase(f->value, "chunked")) {
            return false;
        }
        seen->encoding = true;
    } else if (egress_field_is(f, "host")) {
        if (seen->host) {
            return false;
        }
        seen->host = true;
        head->host = f->value;
    } else if (egress_field_is(f, "expect")) {
        head->expects_continue = egress_bytes_equal_nocase(f->value, "100-continue");
    } else if (egress_field_is(f, "connection")) {
        seen->connection_upgrade |= list_has(f->value, "upgrade");
    } else if (egress_field_is(f, "upgrade")) {
        seen->upgrade = true;
    } else if (egress_field_is(f, "content-type")) {
        head->content_type = f->value;
    } else if (egress_field_is(f, "content-encoding")) {
        head->is_encoded |= !egress_bytes_equal_nocase(f->value, "identity");
    }
    return true;
}

/* Both at once, or chunks in HTTP/1.0, are read differently by different programs. */
static bool settle_framing(struct egress_head *head, const struct seen *seen)
{
    if (seen->encoding && (seen->length || head->minor == 0)) {
        return false;
    }
    head->framing = seen->encoding ? EGRESS_FRAMING_CHUNKED
                    : seen->length ? EGRESS_FRAMING_LENGTH
                                   : EGRESS_FRAMING_NONE;
    head->wants_upgrade = seen->upgrade && seen->connection_upgrade;
    return true;
}

static enum egress_head_result parse_field(struct egress_head *head,
                                           struct seen *seen,
                                           struct shl_bytes line)
{
    const uint8_t *colon = memchr(line.base, ':', line.len);
    struct egress_field *field;

    if (head->field_count == EGRESS_HEAD_FIELDS_MAX) {
        return EGRESS_HEAD_TOO_LARGE;
    }
    if (!colon) {
        return EGRESS_HEAD_BAD;
    }
    field = &head->fields[head->field_count++];
    field->name = shl_bytes_of(line.base, (size_t)(colon - line.base));
    field->value = trim(shl_bytes_of(colon + 1, line.len - field->name.len - 1));
    if (!is_token(field->name) || !is_text(field->value) || !note_field(head, seen, field)) {
        return EGRESS_HEAD_BAD;
    }
    return EGRESS_HEAD_OK;
}

/* A line up to CR LF. A bare line feed ends the trust. */
static enum egress_head_result next_line(struct shl_bytes bytes, size_t at, struct shl_bytes *ret)
{
    const uint8_t *end = at < bytes.len ? memchr(bytes.base + at, '\n', bytes.len - at) : NULL;
    size_t len;

    if (!end) {
        return bytes.len > EGRESS_HEAD_MAX ? EGRESS_HEAD_TOO_LARGE : EGRESS_HEAD_MORE;
    }
    len = (size_t)(end - (bytes.base + at));
    if (at + len + 1 > EGRESS_HEAD_MAX) {
        return EGRESS_HEAD_TOO_LARGE;
    }
    if (len == 0 || end[-1] != '\r') {
        return EGRESS_HEAD_BAD;
    }
    *ret = shl_bytes_of(bytes.base + at, len - 1);
    return EGRESS_HEAD_OK;
}

static bool parse_version(struct shl_bytes text, int *ret_minor)
{
    if (text.len != 8 || memcmp(text.base, "HTTP/1.", 7) != 0 ||
        (text.base[7] != '0' && text.base[7] != '1')) {
        return false;
    }
    *ret_minor = text.base[7] - '0';
    return true;
}

static bool parse_request_line(struct egress_head *head, struct shl_bytes line)
{
    const uint8_t *first = memchr(line.base, ' ', line.len);
    const uint8_t *last = memrchr(line.base, ' ', line.len);
    size_t i;

    if (!first || first == last) {
        return false;
    }
    head->method = shl_bytes_of(line.base, (size_t)(first - line.base));
    head->target = shl_bytes_of(first + 1, (size_t)(last - first - 1));
    if (!is_token(head->method) || head->method.len > EGRESS_HEAD_METHOD_MAX ||
        head->target.len == 0) {
        return false;
    }
    for (i = 0; i < head->target.len; i++) {
        if (head->target.base[i] <= ' ' || head->target.base[i] == 0x7f) {
            return false;
        }
    }
    return parse_version(shl_bytes_of(last + 1, (size_t)(line.base + line.len - last - 1)),
                         &head->minor);
}

static bool parse_status_line(struct egress_head *head, struct shl_bytes line)
{
    size_t i;

    if (line.len < 12 || line.base[8] != ' ' || (line.len > 12 && line.base[12] != ' ') ||
        !parse_version(shl_bytes_of(line.base, 8), &head->minor) || !is_text(line)) {
        return false;
    }
    for (i = 9; i < 12; i++) {
        if (line.base[i] < '0' || line.base[i] > '9') {
            return false;
        }
        head->status = head->status * 10 + line.base[i] - '0';
    }
    return head->status >= 100;
}

static enum egress_head_result parse(struct shl_bytes bytes,
                                     struct egress_head *head,
                                     bool (*parse_first)(struct egress_head *head,
                                                         struct shl_bytes line))
{
    enum egress_head_result result;
    struct shl_bytes line = {0};
    struct seen seen = {0};
    unsigned leading = 0;
    size_t at = 0;

    do {
        result = next_line(bytes, at, &line);
        if (result != EGRESS_HEAD_OK) {
            return result;
        }
        at += line.len + 2;
    } while (line.len == 0 && leading++ < EGRESS_HEAD_LEADING_MAX);
    memset(head, 0, offsetof(struct egress_head, fields));
    head->field_count = 0;
    head->line = line;
    if (!parse_first(head, line)) {
        return EGRESS_HEAD_BAD;
    }
    for (;;) {
        result = next_line(bytes, at, &line);
        if (result != EGRESS_HEAD_OK) {
            return result;
        }
        at += line.len + 2;
        if (line.len == 0) {
            break;
        }
        result = parse_field(head, &seen, line);
        if (result != EGRESS_HEAD_OK) {
            return result;
        }
    }
    head->bytes = at;
    return settle_framing(head, &seen) ? EGRESS_HEAD_OK : EGRESS_HEAD_BAD;
}

enum egress_head_result egress_head_request(struct shl_bytes bytes, struct egress_head *ret)
{
    return parse(bytes, ret, parse_request_line);
}

enum egress_head_result egress_head_response(struct shl_bytes bytes, struct egress_head *ret)
{
    return parse(bytes, ret, parse_status_line);
}
