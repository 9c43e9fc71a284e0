#include "node/api/preview_token.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <sodium.h>

#include "base/id.h"
#include "node/api/params.h"
#include "node/http/url.h"

#define PREFIX       "pv_"
#define RANDOM_BYTES 32
#define VARIANT      sodium_base64_VARIANT_URLSAFE_NO_PADDING

void node_preview_token_make(char dst[NODE_PREVIEW_TOKEN_SIZE])
{
    uint8_t bytes[RANDOM_BYTES];
    size_t len = strlen(PREFIX);

    shl_random_bytes(bytes, sizeof(bytes));
    memcpy(dst, PREFIX, len);
    (void)sodium_bin2base64(dst + len, NODE_PREVIEW_TOKEN_SIZE - len, bytes, sizeof(bytes),
                            VARIANT);
    sodium_memzero(bytes, sizeof(bytes));
}

void node_preview_token_set(struct node_previews *set, const char *token)
{
    (void)crypto_hash_sha256(set->token_hash, (const uint8_t *)token, strlen(token));
    set->has_token = true;
}

bool node_preview_token_is(const struct node_previews *set, struct shl_bytes token)
{
    uint8_t hash[NODE_PREVIEW_TOKEN_HASH];

    if (!set->has_token || token.len == 0) {
        return false;
    }
    (void)crypto_hash_sha256(hash, token.base, token.len);
    return sodium_memcmp(hash, set->token_hash, sizeof(hash)) == 0;
}

/* What can stand in a header as it is. */
static bool is_plain(const char *text)
{
    for (; *text; text++) {
        if (*text <= ' ' || *text >= 0x7f || strchr("\",;\\", *text)) {
            return false;
        }
    }
    return true;
}

int node_preview_token_parse(const json_t *body,
                             char dst[NODE_PREVIEW_TOKEN_SIZE],
                             struct shl_err *err)
{
    const json_t *auth = json_object_get(body, "previewAuth");
    const char *scheme = "bearer";
    const char *token = "auto";
    int rc;

    if (!auth || json_is_null(auth)) {
        return 0;
    }
    if (!json_is_object(auth)) {
        return shl_err_set(err, SHL_EINVALIDARG, "previewAuth must be an object");
    }
    rc = node_params_str(auth, "scheme", &scheme, err);
    if (rc >= 0) {
        rc = node_params_str(auth, "token", &token, err);
    }
    if (rc < 0) {
        return rc;
    }
    if (*scheme != '\0' && strcmp(scheme, "bearer") != 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "previewAuth.scheme must be bearer");
    }
    if (strcmp(token, "auto") == 0) {
        node_preview_token_make(dst);
        return 1;
    }
    if (strlen(token) < NODE_PREVIEW_TOKEN_MIN || strlen(token) > NODE_PREVIEW_TOKEN_MAX ||
        !is_plain(token)) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "previewAuth.token must be auto, or %d to %d printable characters "
                           "without blanks, quotes, commas and semicolons",
                           NODE_PREVIEW_TOKEN_MIN, NODE_PREVIEW_TOKEN_MAX);
    }
    memcpy(dst, token, strlen(token) + 1);
    return 1;
}

struct shl_bytes node_preview_bearer(const char *header)
{
    if (!header || strncasecmp(header, "Bearer ", 7) != 0) {
        return shl_bytes_of(NULL, 0);
    }
    header += 7 + strspn(header + 7, " ");
    return shl_bytes_of(header, strlen(header));
}

/* ---- cookies --------------------------------------------------------------------- */

/* The next "name=value" of @header from *at on; false at its end. */
static bool next_cookie(const char *header, size_t *at, struct shl_bytes *ret)
{
    size_t len;

    *at += strspn(header + *at, "; \t");
    len = strcspn(header + *at, ";");
    *ret = shl_bytes_of(header + *at, len);
    *at += len;
    return len > 0;
}

static bool is_ours(struct shl_bytes cookie)
{
    size_t len = strlen(NODE_PREVIEW_TOKEN_NAME "=");

    return cookie.len >= len && memcmp(cookie.base, NODE_PREVIEW_TOKEN_NAME "=", len) == 0;
}

struct shl_bytes node_preview_cookie(const char *header)
{
    size_t skip = strlen(NODE_PREVIEW_TOKEN_NAME "=");
    struct shl_bytes cookie;
    size_t at = 0;

    while (next_cookie(header, &at, &cookie)) {
        if (is_ours(cookie)) {
            while (cookie.len > skip && cookie.base[cookie.len - 1] == ' ') {
                cookie.len--;
            }
            return shl_bytes_of(cookie.base + skip, cookie.len - skip);
        }
    }
    return shl_bytes_of(NULL, 0);
}

int node_preview_cookie_strip(const char *header, struct shl_buf *out)
{
    struct shl_bytes cookie;
    const char *gap = "";
    size_t at = 0;
    int rc = 0;

    while (rc == 0 && next_cookie(header, &at, &cookie)) {
        if (!is_ours(cookie)) {
            rc = shl_buf_append_str(out, gap);
            if (rc == 0) {
                rc = shl_buf_append(out, cookie.base, cookie.len);
            }
            gap = "; ";
        }
    }
    return rc;
}

/* ---- targets --------------------------------------------------------------------- */

static void take_token(const char *value, size_t len, char token[NODE_PREVIEW_TOKEN_SIZE])
{
    char text[3 * NODE_PREVIEW_TOKEN_MAX + 1];

    if (*token != '\0' || len >= sizeof(text)) {
        return;
    }
    memcpy(text, value, len);
    text[len] = '\0';
    if (node_url_decode(text, len, true) >= 0 && strlen(text) < NODE_PREVIEW_TOKEN_SIZE) {
        memcpy(token, text, strlen(text) + 1);
    }
}

int node_preview_target_strip(const char *target,
                              struct shl_buf *out,
                              char token[NODE_PREVIEW_TOKEN_SIZE])
{
    static const char name[] = NODE_PREVIEW_TOKEN_NAME "=";
    size_t at = strcspn(target, "?");
    char gap = '?';
    int rc = shl_buf_append(out, target, at);
    bool has_query = target[at] == '?';

    *token = '\0';
    if (has_query && !strstr(target + at, name)) {
        return rc < 0 ? rc : shl_buf_append_str(out, target + at); /* to the letter */
    }
    while (rc == 0 && target[at] != '\0') {
        const char *part = target + at + 1;
        size_t len = strcspn(part, "&");

        if (strncmp(part, name, strlen(name)) == 0) {
            take_token(part + strlen(name), len - strlen(name), token);
        } else {
            rc = shl_buf_append(out, &gap, 1);
            if (rc == 0) {
                rc = shl_buf_append(out, part, len);
            }
            gap = '&';
        }
        at += len + 1;
    }
    return rc;
}
