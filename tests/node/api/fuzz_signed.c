/* Signed URLs: nobody guesses a signature, and what is handed out for any path is taken again
 * for that path, that operation and that sandbox alone. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "node/api/signed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW_S 1700000000

static const struct node_token_key key = {{7, 7, 7}};

static int check(const char *target, enum node_signed_op op, const char *id, int64_t now_s)
{
    struct shl_err err = {0};
    struct node_url url;
    int rc = node_url_parse(&url, target);

    if (rc == 0) {
        rc = node_signed_check(&key, op, id, &url, now_s, &err);
        node_url_release(&url);
    }
    return rc;
}

static void hand_out(const char *path)
{
    struct node_signed what = {NODE_SIGNED_UPLOAD, "sb-12345678", path, NOW_S + 1};
    struct shl_buf url;

    shl_buf_init(&url, NODE_SIGNED_URL_MAX);
    if (*path != '\0' && node_signed_write(&key, &what, &url) == 0 &&
        shl_buf_append(&url, "", 1) == 0) {
        const char *text = (const char *)shl_buf_data(&url);

        assert(check(text, NODE_SIGNED_UPLOAD, "sb-12345678", NOW_S) == 0);
        assert(check(text, NODE_SIGNED_UPLOAD, "sb-12345678", NOW_S + 1) == SHL_EFORBIDDEN);
        assert(check(text, NODE_SIGNED_DOWNLOAD, "sb-12345678", NOW_S) == SHL_EFORBIDDEN);
        assert(check(text, NODE_SIGNED_UPLOAD, "sb-12345679", NOW_S) == SHL_EFORBIDDEN);
    }
    shl_buf_release(&url);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    assert(text);
    memcpy(text, data, size);
    text[size] = '\0';
    assert(check(text, NODE_SIGNED_DOWNLOAD, "sb-12345678", 0) < 0);
    if (size < 4096) {
        hand_out(text);
    }
    free(text);
    return 0;
}
