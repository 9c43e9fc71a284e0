#include "node/api/signed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#define PREFIX       "shoal-file-url-1\n"
#define MAC_BYTES    crypto_auth_hmacsha256_BYTES
#define MAC_HEX_SIZE (MAC_BYTES * 2 + 1)
#define TIME_DIGITS  12 /* until the year 33658 */

static const char *const op_names[] =
    {[NODE_SIGNED_DOWNLOAD] = "download", [NODE_SIGNED_UPLOAD] = "upload"};

static void update_text(crypto_auth_hmacsha256_state *state, const char *text)
{
    (void)crypto_auth_hmacsha256_update(state, (const uint8_t *)text, strlen(text));
}

/* The path comes last: it alone may hold line feeds. */
static void sign(const struct node_token_key *key,
                 const struct node_signed *what,
                 uint8_t mac[MAC_BYTES])
{
    crypto_auth_hmacsha256_state state;
    char expires[24];

    (void)snprintf(expires, sizeof(expires), "%lld", (long long)what->expires_s);
    (void)crypto_auth_hmacsha256_init(&state, key->bytes, sizeof(key->bytes));
    update_text(&state, PREFIX);
    update_text(&state, op_names[what->op]);
    update_text(&state, "\n");
    update_text(&state, what->sandbox_id);
    update_text(&state, "\n");
    update_text(&state, expires);
    update_text(&state, "\n");
    update_text(&state, what->path);
    (void)crypto_auth_hmacsha256_final(&state, mac);
    sodium_memzero(&state, sizeof(state));
}

int node_signed_write(const struct node_token_key *key,
                      const struct node_signed *what,
                      struct shl_buf *out)
{
    uint8_t mac[MAC_BYTES];
    char hex[MAC_HEX_SIZE];
    int rc;

    sign(key, what, mac);
    (void)sodium_bin2hex(hex, sizeof(hex), mac, sizeof(mac));
    rc = shl_buf_printf(out, "/sandboxes/%s/files/%s?path=", what->sandbox_id, op_names[what->op]);
    if (rc == 0) {
        rc = node_url_encode(what->path, out);
    }
    return rc < 0
               ? rc
               : shl_buf_printf(out, "&expires=%lld&signature=%s", (long long)what->expires_s, hex);
}

/* Digits alone, so that every time has one form. */
static bool read_time(const char *text, int64_t *ret)
{
    size_t len = strspn(text, "0123456789");

    if (len == 0 || len > TIME_DIGITS || text[len] != '\0' || text[0] == '0') {
        return false;
    }
    *ret = (int64_t)strtoll(text, NULL, 10);
    return true;
}

static bool read_mac(const char *text, uint8_t mac[MAC_BYTES])
{
    size_t len = strspn(text, "0123456789abcdef");
    size_t got = 0;

    return len == MAC_HEX_SIZE - 1 && text[len] == '\0' &&
           sodium_hex2bin(mac, MAC_BYTES, text, len, NULL, &got, NULL) == 0 && got == MAC_BYTES;
}

int node_signed_check(const struct node_token_key *key,
                      enum node_signed_op op,
                      const char *sandbox_id,
                      const struct node_url *url,
                      int64_t now_s,
                      struct shl_err *err)
{
    const char *expires = node_url_query(url, "expires");
    const char *signature = node_url_query(url, "signature");
    struct node_signed what = {
        .op = op, .sandbox_id = sandbox_id, .path = node_url_query(url, "path")};
    uint8_t given[MAC_BYTES];
    uint8_t mac[MAC_BYTES];

    if (!what.path || *what.path == '\0') {
        return shl_err_set(err, SHL_EINVALIDARG, "path is required");
    }
    if (!expires || !read_time(expires, &what.expires_s)) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "expires is required: seconds, as in the URL that was handed out");
    }
    if (!signature || !read_mac(signature, given)) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "signature is required: 64 hexadecimal digits, as in the URL that was "
                           "handed out");
    }
    sign(key, &what, mac);
    if (sodium_memcmp(mac, given, sizeof(mac)) != 0) {
        return shl_err_set(err, SHL_EFORBIDDEN,
                           "invalid signature: the URL is not one that was handed out");
    }
    if (what.expires_s <= now_s) {
        return shl_err_set(err, SHL_EFORBIDDEN, "the URL has expired: ask for a new one");
    }
    return 0;
}
