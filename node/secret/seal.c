#include "node/secret/seal.h"

#include <errno.h>
#include <string.h>

#include <sodium.h>

#include "base/err.h"

#define NONCE_BYTES crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_BYTES   crypto_aead_xchacha20poly1305_ietf_ABYTES
#define BOXED_BYTES (4 + NODE_SEAL_KEY_BYTES)

_Static_assert(NODE_SEAL_KEY_BYTES == crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "key");
_Static_assert(NODE_SEAL_BOX_BYTES == BOXED_BYTES + crypto_box_SEALBYTES, "box");
_Static_assert(NODE_SEAL_VALUE_EXTRA == NONCE_BYTES + TAG_BYTES, "sealed value");

void node_seal_key_make(struct node_seal_key *key, uint32_t generation)
{
    key->generation = generation;
    randombytes_buf(key->bytes, sizeof(key->bytes));
}

void node_seal_key_wipe(struct node_seal_key *key)
{
    sodium_memzero(key, sizeof(*key));
}

int node_seal_key_box(const struct node_seal_key *key,
                      const uint8_t node_public[NODE_SEAL_NODE_BYTES],
                      uint8_t ret[NODE_SEAL_BOX_BYTES])
{
    uint8_t plain[BOXED_BYTES];
    int rc;

    shl_put_le32(plain, key->generation);
    memcpy(plain + 4, key->bytes, sizeof(key->bytes));
    rc = crypto_box_seal(ret, plain, sizeof(plain), node_public);
    sodium_memzero(plain, sizeof(plain));
    return rc == 0 ? 0 : -EINVAL;
}

int node_seal_key_open(const uint8_t box[NODE_SEAL_BOX_BYTES],
                       uint32_t generation,
                       const uint8_t node_public[NODE_SEAL_NODE_BYTES],
                       const uint8_t node_secret[NODE_SEAL_NODE_BYTES],
                       struct node_seal_key *ret)
{
    uint8_t plain[BOXED_BYTES];
    int rc = SHL_ECORRUPT;

    if (crypto_box_seal_open(plain, box, NODE_SEAL_BOX_BYTES, node_public, node_secret) == 0 &&
        shl_get_le32(plain) == generation) {
        ret->generation = generation;
        memcpy(ret->bytes, plain + 4, sizeof(ret->bytes));
        rc = 0;
    }
    sodium_memzero(plain, sizeof(plain));
    return rc;
}

int node_seal_value(const struct node_seal_key *key,
                    const char *place,
                    struct shl_bytes value,
                    struct shl_buf *out)
{
    uint8_t *space;
    int rc = shl_buf_reserve(out, value.len + NODE_SEAL_VALUE_EXTRA, &space);

    if (rc < 0) {
        return rc;
    }
    randombytes_buf(space, NONCE_BYTES);
    (void)crypto_aead_xchacha20poly1305_ietf_encrypt(space + NONCE_BYTES, NULL, value.base,
                                                     value.len, (const uint8_t *)place,
                                                     strlen(place), NULL, space, key->bytes);
    shl_buf_commit(out, value.len + NODE_SEAL_VALUE_EXTRA);
    return 0;
}

int node_seal_open(const struct node_seal_key *key,
                   const char *place,
                   struct shl_bytes sealed,
                   uint8_t **ret_value,
                   size_t *ret_len)
{
    uint8_t *value;
    size_t len;

    if (sealed.len < NODE_SEAL_VALUE_EXTRA) {
        return SHL_ECORRUPT;
    }
    len = sealed.len - NODE_SEAL_VALUE_EXTRA;
    value = sodium_malloc(len > 0 ? len : 1);
    if (!value) {
        return -ENOMEM;
    }
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(value, NULL, NULL, sealed.base + NONCE_BYTES,
                                                   sealed.len - NONCE_BYTES, (const uint8_t *)place,
                                                   strlen(place), sealed.base, key->bytes) != 0) {
        sodium_free(value);
        return SHL_ECORRUPT;
    }
    *ret_value = value;
    *ret_len = len;
    return 0;
}
