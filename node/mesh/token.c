#include "node/mesh/token.h"

#include <stdbool.h>
#include <string.h>

#include <sodium.h>

#include "base/id.h"
#include "base/mp.h"

/* A token is a string people copy: four bytes of hash find a cut or mistyped one. */
#define CHECK_BYTES    4
#define BINARY_MAX     1024
#define FORMAT         1
#define PREFIX_BYTES   (sizeof(NODE_JOIN_TOKEN_PREFIX) - 1)
#define EXPIRES_AT_MAX 253402300799ll /* end of the year 9999 */
#define BASE64_VARIANT sodium_base64_VARIANT_URLSAFE_NO_PADDING
#define BAD_TOKEN      "this is not a whole join token: copy it again from 'shoal token create'"

void node_join_token_draw(struct node_join_token *token)
{
    shl_random_bytes(token->id, sizeof(token->id));
    shl_random_bytes(token->secret, sizeof(token->secret));
}

void node_join_token_wipe(struct node_join_token *token)
{
    sodium_memzero(token, sizeof(*token));
}

void node_join_token_hash(const uint8_t id[NODE_JOIN_TOKEN_ID_BYTES],
                          const uint8_t secret[NODE_JOIN_TOKEN_SECRET_BYTES],
                          uint8_t ret[NODE_JOIN_TOKEN_HASH_BYTES])
{
    (void)crypto_generichash(ret, NODE_JOIN_TOKEN_HASH_BYTES, secret, NODE_JOIN_TOKEN_SECRET_BYTES,
                             id, NODE_JOIN_TOKEN_ID_BYTES);
}

int node_join_token_matches(const uint8_t hash[NODE_JOIN_TOKEN_HASH_BYTES],
                            const uint8_t id[NODE_JOIN_TOKEN_ID_BYTES],
                            const uint8_t secret[NODE_JOIN_TOKEN_SECRET_BYTES])
{
    uint8_t ours[NODE_JOIN_TOKEN_HASH_BYTES];

    node_join_token_hash(id, secret, ours);
    return sodium_memcmp(ours, hash, sizeof(ours)) == 0;
}

static void write_binary(const struct node_join_token *token, struct shl_mp_writer *w)
{
    char text[NODE_MESH_ADDR_TEXT_SIZE];
    uint32_t i;

    shl_mp_array(w);
    shl_mp_uint(w, FORMAT);
    shl_mp_bin(w, token->cluster, sizeof(token->cluster));
    shl_mp_bin(w, token->server_key, sizeof(token->server_key));
    shl_mp_bin(w, token->id, sizeof(token->id));
    shl_mp_bin(w, token->secret, sizeof(token->secret));
    shl_mp_int(w, token->expires_at_s);
    shl_mp_array(w);
    for (i = 0; i < token->seed_count; i++) {
        node_mesh_addr_format(text, &token->seeds[i]);
        shl_mp_str(w, text);
    }
    shl_mp_end(w);
    shl_mp_end(w);
}

static bool is_valid(const struct node_join_token *token)
{
    uint32_t i;

    if (token->seed_count == 0 || token->seed_count > NODE_JOIN_TOKEN_SEEDS_MAX ||
        token->expires_at_s <= 0 || token->expires_at_s > EXPIRES_AT_MAX ||
        sodium_is_zero(token->cluster, sizeof(token->cluster)) ||
        sodium_is_zero(token->server_key, sizeof(token->server_key))) {
        return false;
    }
    for (i = 0; i < token->seed_count; i++) {
        if (!node_mesh_addr_is_valid(&token->seeds[i])) {
            return false;
        }
    }
    return true;
}

static void check_of(struct shl_bytes bytes, uint8_t ret[CHECK_BYTES])
{
    uint8_t hash[crypto_generichash_BYTES_MIN];

    (void)crypto_generichash(hash, sizeof(hash), bytes.base, bytes.len, NULL, 0);
    memcpy(ret, hash, CHECK_BYTES);
}

int node_join_token_format(const struct node_join_token *token,
                           char dst[NODE_JOIN_TOKEN_TEXT_SIZE],
                           struct shl_err *err)
{
    struct shl_buf buf;
    struct shl_mp_writer w;
    uint8_t check[CHECK_BYTES];
    uint8_t *space;
    int rc;

    if (!is_valid(token)) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "a join token needs a cluster, a server key, an expiry and 1 to %d "
                           "addresses",
                           NODE_JOIN_TOKEN_SEEDS_MAX);
    }
    shl_buf_init(&buf, BINARY_MAX);
    rc = shl_buf_reserve(&buf, BINARY_MAX, &space); /* at once: no copies left on the heap */
    if (rc < 0) {
        return shl_err_set(err, rc, "no memory for a join token");
    }
    shl_mp_writer_init(&w, &buf);
    write_binary(token, &w);
    rc = shl_mp_done(&w);
    if (rc == 0) {
        check_of(shl_buf_bytes(&buf), check);
        rc = shl_buf_append(&buf, check, sizeof(check));
    }
    if (rc == 0) {
        memcpy(dst, NODE_JOIN_TOKEN_PREFIX, PREFIX_BYTES);
        (void)sodium_bin2base64(dst + PREFIX_BYTES, NODE_JOIN_TOKEN_TEXT_SIZE - PREFIX_BYTES,
                                shl_buf_data(&buf), shl_buf_len(&buf), BASE64_VARIANT);
    } else {
        (void)shl_err_set(err, rc, "the join token is too long");
    }
    shl_buf_wipe(&buf);
    return rc;
}

static bool take_bin(const msgpack_object *obj, uint8_t *dst, size_t len)
{
    if (obj->type != MSGPACK_OBJECT_BIN || obj->via.bin.size != len) {
        return false;
    }
    memcpy(dst, obj->via.bin.ptr, len);
    return true;
}

static bool take_seed(const msgpack_object *obj, struct node_mesh_addr *ret)
{
    char text[NODE_MESH_ADDR_TEXT_SIZE];

    if (obj->type != MSGPACK_OBJECT_STR || obj->via.str.size >= sizeof(text)) {
        return false;
    }
    memcpy(text, obj->via.str.ptr, obj->via.str.size);
    text[obj->via.str.size] = 0;
    return strlen(text) == obj->via.str.size && node_mesh_addr_parse(text, ret) == 0;
}

static bool take_fields(const msgpack_object *array, struct node_join_token *token)
{
    const msgpack_object *at = array->via.array.ptr;
    const msgpack_object *seeds;
    uint32_t i;

    if (array->via.array.size < 7 || !take_bin(&at[1], token->cluster, NODE_CLUSTER_BYTES) ||
        !take_bin(&at[2], token->server_key, NODE_KEY_BYTES) ||
        !take_bin(&at[3], token->id, NODE_JOIN_TOKEN_ID_BYTES) ||
        !take_bin(&at[4], token->secret, NODE_JOIN_TOKEN_SECRET_BYTES) ||
        at[5].type != MSGPACK_OBJECT_POSITIVE_INTEGER || at[5].via.u64 > EXPIRES_AT_MAX) {
        return false;
    }
    token->expires_at_s = (int64_t)at[5].via.u64;
    seeds = &at[6];
    if (seeds->type != MSGPACK_OBJECT_ARRAY || seeds->via.array.size > NODE_JOIN_TOKEN_SEEDS_MAX) {
        return false;
    }
    for (i = 0; i < seeds->via.array.size; i++) {
        if (!take_seed(&seeds->via.array.ptr[i], &token->seeds[i])) {
            return false;
        }
    }
    token->seed_count = seeds->via.array.size;
    return is_valid(token);
}

static int parse_binary(struct shl_bytes bytes, struct node_join_token *token, struct shl_err *err)
{
    struct shl_mp_doc doc;
    const msgpack_object *root;
    int rc;

    if (shl_mp_parse(&doc, bytes) < 0) {
        return shl_err_set(err, SHL_EINVALIDARG, BAD_TOKEN);
    }
    root = doc.root;
    rc = 0;
    if (root->type != MSGPACK_OBJECT_ARRAY || root->via.array.size == 0 ||
        root->via.array.ptr[0].type != MSGPACK_OBJECT_POSITIVE_INTEGER) {
        rc = shl_err_set(err, SHL_EINVALIDARG, BAD_TOKEN);
    } else if (root->via.array.ptr[0].via.u64 != FORMAT) {
        rc = shl_err_set(err, SHL_EVERSION,
                         "this join token is of a newer kind (%llu, known is %d): install the "
                         "version of Shoal that the cluster runs",
                         (unsigned long long)root->via.array.ptr[0].via.u64, FORMAT);
    } else if (!take_fields(root, token)) {
        rc = shl_err_set(err, SHL_EINVALIDARG, BAD_TOKEN);
    }
    shl_mp_release(&doc);
    return rc;
}

int node_join_token_parse(const char *text, struct node_join_token *ret, struct shl_err *err)
{
    uint8_t binary[BINARY_MAX], check[CHECK_BYTES];
    struct node_join_token token;
    size_t len, used = 0;
    int rc;

    memset(&token, 0, sizeof(token));
    text += strspn(text, " \t\r\n");
    len = strcspn(text, " \t\r\n");
    if (text[len + strspn(text + len, " \t\r\n")] != 0 || len <= PREFIX_BYTES ||
        memcmp(text, NODE_JOIN_TOKEN_PREFIX, PREFIX_BYTES) != 0 ||
        sodium_base642bin(binary, sizeof(binary), text + PREFIX_BYTES, len - PREFIX_BYTES, NULL,
                          &used, NULL, BASE64_VARIANT) != 0 ||
        used <= CHECK_BYTES) {
        sodium_memzero(binary, sizeof(binary));
        return shl_err_set(err, SHL_EINVALIDARG, BAD_TOKEN);
    }
    check_of(shl_bytes_of(binary, used - CHECK_BYTES), check);
    if (memcmp(check, binary + used - CHECK_BYTES, CHECK_BYTES) != 0) {
        rc = shl_err_set(err, SHL_EINVALIDARG, BAD_TOKEN);
    } else {
        rc = parse_binary(shl_bytes_of(binary, used - CHECK_BYTES), &token, err);
    }
    if (rc == 0) {
        *ret = token;
    }
    sodium_memzero(binary, sizeof(binary));
    node_join_token_wipe(&token);
    return rc;
}
