#include "node/api/token.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <sodium.h>

#include "base/cleanup.h"
#include "base/id.h"
#include "node/store/store.h"

/* Base64url of {"alg":"HS256","typ":"JWT"}: the only header that is accepted, so no
 * token can choose its own algorithm. */
#define HEADER     "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
#define HEADER_LEN (sizeof(HEADER) - 1)
#define MAC_TEXT   44 /* base64 of 32 bytes without padding, and a terminator */
#define VARIANT    sodium_base64_VARIANT_URLSAFE_NO_PADDING

int node_token_key_load(struct node_store *store,
                        struct node_token_key *ret_key,
                        struct shl_err *err)
{
    struct shl_buf value;
    int rc;

    shl_buf_init(&value, 4096);
    rc = node_store_get(store, "secret", "token-key", &value, err);
    if (rc == 0) {
        if (shl_buf_len(&value) == sizeof(ret_key->bytes)) {
            memcpy(ret_key->bytes, shl_buf_data(&value), sizeof(ret_key->bytes));
        } else {
            rc = shl_err_set(err, SHL_ECORRUPT, "the stored key for sandbox tokens is damaged");
        }
    } else if (rc == SHL_ENOTFOUND) {
        shl_random_bytes(ret_key->bytes, sizeof(ret_key->bytes));
        rc = node_store_put(store, "secret", "token-key",
                            shl_bytes_of(ret_key->bytes, sizeof(ret_key->bytes)), err);
    }
    shl_buf_wipe(&value);
    return rc;
}

/* Signature of @text, encoded. */
static void sign(const struct node_token_key *key, const char *text, size_t len, char dst[MAC_TEXT])
{
    uint8_t mac[crypto_auth_hmacsha256_BYTES];

    (void)crypto_auth_hmacsha256(mac, (const uint8_t *)text, len, key->bytes); /* cannot fail */
    (void)sodium_bin2base64(dst, MAC_TEXT, mac, sizeof(mac), VARIANT);
}

char *node_token_make(const struct node_token_key *key,
                      const struct node_token *token,
                      int64_t now_s)
{
    char payload[512];
    char encoded[sodium_base64_ENCODED_LEN(sizeof(payload), VARIANT)];
    char mac[MAC_TEXT];
    char *text = NULL;
    char *body = NULL;
    /* Ids are ours: letters, digits and dashes. */
    int len = snprintf(payload, sizeof(payload),
                       "{\"iss\":\"" NODE_TOKEN_ISSUER "\",\"sub\":\"%s\",\"org_id\":\"%s\","
                       "\"sandbox_id\":\"%s\",\"iat\":%lld,\"exp\":%lld}",
                       token->sandbox_id, token->org, token->sandbox_id, (long long)now_s,
                       (long long)(now_s + NODE_TOKEN_LIFETIME_S));

    if (len < 0 || (size_t)len >= sizeof(payload)) {
        return NULL;
    }
    (void)sodium_bin2base64(encoded, sizeof(encoded), (const uint8_t *)payload, (size_t)len,
                            VARIANT);
    len = asprintf(&body, "%s.%s", HEADER, encoded);
    if (len < 0) {
        return NULL;
    }
    sign(key, body, (size_t)len, mac);
    len = asprintf(&text, "%s.%s", body, mac);
    free(body);
    return len < 0 ? NULL : text;
}

bool node_token_looks_like(const char *text)
{
    const char *first = strchr(text, '.');
    const char *second = first ? strchr(first + 1, '.') : NULL;

    return second && !strchr(second + 1, '.');
}

static int copy_claim(const json_t *claims, const char *name, char *dst, size_t size)
{
    const char *value = json_string_value(json_object_get(claims, name));

    if (!value || *value == '\0' || strlen(value) >= size) {
        return SHL_EAUTH;
    }
    memcpy(dst, value, strlen(value) + 1);
    return 0;
}

static int check_claims(const json_t *claims, int64_t now_s, struct node_token *token)
{
    const char *issuer = json_string_value(json_object_get(claims, "iss"));
    const json_t *expiry = json_object_get(claims, "exp");
    int rc;

    if (!issuer || strcmp(issuer, NODE_TOKEN_ISSUER) != 0 || !json_is_integer(expiry) ||
        json_integer_value(expiry) <= now_s) {
        return SHL_EAUTH;
    }
    rc = copy_claim(claims, "org_id", token->org, sizeof(token->org));
    return rc < 0 ? rc
                  : copy_claim(claims, "sandbox_id", token->sandbox_id, sizeof(token->sandbox_id));
}

int node_token_check(const struct node_token_key *key,
                     const char *text,
                     int64_t now_s,
                     struct node_token *ret_token)
{
    struct node_token token = {.org = ""};
    uint8_t payload[NODE_TOKEN_TEXT_MAX];
    char mac[MAC_TEXT];
    size_t len = strnlen(text, NODE_TOKEN_TEXT_MAX + 1);
    size_t payload_len = 0;
    const char *dot;
    json_t *claims;
    int rc;

    if (len > NODE_TOKEN_TEXT_MAX || !node_token_looks_like(text) ||
        strncmp(text, HEADER ".", HEADER_LEN + 1) != 0) {
        return SHL_EAUTH;
    }
    dot = strrchr(text, '.');
    sign(key, text, (size_t)(dot - text), mac);
    if (strlen(dot + 1) != MAC_TEXT - 1 || sodium_memcmp(dot + 1, mac, MAC_TEXT - 1) != 0) {
        return SHL_EAUTH;
    }
    /* Only what this node signed is parsed. */
    if (sodium_base642bin(payload, sizeof(payload), text + HEADER_LEN + 1,
                          (size_t)(dot - text) - HEADER_LEN - 1, NULL, &payload_len, NULL,
                          VARIANT) != 0) {
        return SHL_EAUTH;
    }
    claims = json_loadb((const char *)payload, payload_len, 0, NULL);
    rc = check_claims(claims, now_s, &token);
    json_decref(claims);
    if (rc == 0) {
        *ret_token = token;
    }
    return rc;
}
