/* Credentials: any text as a token, and any payload signed with the right key. Nothing
 * but a token of this key for this sandbox may pass. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "node/api/auth.h"
#include "node/api/token.h"
#include "tests/node/api/fake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW_S   1700000000
#define VARIANT sodium_base64_VARIANT_URLSAFE_NO_PADDING

static const struct node_token_key key = {{7, 7, 7}};

static void check_text(const char *text)
{
    static struct node_store *store;
    struct node_auth auth;
    struct node_caller caller;
    struct shl_err err = {0};

    if (!store) {
        store = fake_store_new();
    }
    auth = (struct node_auth){.store = store, .token_key = &key};
    for (int slot = 0; slot < 2; slot++) {
        struct node_credentials given = {.key_slot = slot == 0 ? text : NULL,
                                         .token_slot = slot == 1 ? text : NULL};
        int rc = node_auth_check(&auth, &given, "sb-12345678", NOW_S * 1000ll, &caller, &err);

        assert(rc == SHL_EAUTH); /* nobody guesses a signature */
        assert(!caller.is_admin);
    }
}

/* Claims are read after the signature only, so they get one here. */
static void check_signed(const uint8_t *data, size_t size)
{
    uint8_t mac[crypto_auth_hmacsha256_BYTES];
    char text[NODE_TOKEN_TEXT_MAX + 64];
    size_t len = strlen("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.");
    struct node_token token;

    if (size > 1400) {
        return;
    }
    memcpy(text, "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.", len);
    sodium_bin2base64(text + len, sizeof(text) - len, data, size, VARIANT);
    len = strlen(text);
    crypto_auth_hmacsha256(mac, (const uint8_t *)text, len, key.bytes);
    text[len++] = '.';
    sodium_bin2base64(text + len, sizeof(text) - len, mac, sizeof(mac), VARIANT);
    if (node_token_check(&key, text, NOW_S, &token) == 0) {
        assert(token.org[0] != '\0' && strlen(token.org) < sizeof(token.org));
        assert(token.sandbox_id[0] != '\0' && strlen(token.sandbox_id) < sizeof(token.sandbox_id));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    memcpy(text, data, size);
    text[size] = '\0';
    if (text[0] != '\0') {
        check_text(text);
    }
    free(text);
    check_signed(data, size);
    return 0;
}
