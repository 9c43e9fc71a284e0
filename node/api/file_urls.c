/* Signed URLs: files/download-url and files/upload-url hand one out, files/download and
 * files/upload take it in place of a key (checked before the call begins, server.c) and are the
 * ordinary transfers otherwise. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "node/api/handlers.h"
#include "node/api/params.h"
#include "node/api/server_private.h"
#include "node/api/signed.h"

struct wish {
    const char *path; /* in the JSON body */
    int64_t expires_in_s;
};

static int read_wish(const json_t *body, struct wish *wish, struct shl_err *err)
{
    int rc = node_params_str(body, "path", &wish->path, err);

    wish->expires_in_s = 0;
    if (rc >= 0) {
        rc = node_params_int(body, "expiresIn", INT32_MIN, INT32_MAX, &wish->expires_in_s, err);
    }
    if (rc < 0) {
        return rc;
    }
    if (!wish->path || *wish->path == '\0') {
        return shl_err_set(err, SHL_EINVALIDARG, "path is required");
    }
    if (strlen(wish->path) >= AGENT_PATH_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG, "path is longer than %u bytes",
                           AGENT_PATH_MAX - 1);
    }
    if (wish->expires_in_s <= 0) {
        wish->expires_in_s = NODE_SIGNED_DEFAULT_S;
    }
    wish->expires_in_s = SHL_MIN(wish->expires_in_s, (int64_t)NODE_SIGNED_MAX_S);
    return 0;
}

static void reply_url(struct node_call *call, enum node_signed_op op, const struct wish *wish)
{
    const struct node_server *server = call->server;
    char origin[NODE_ORIGIN_SIZE];
    char until[NODE_TIME_TEXT_SIZE];
    struct node_signed what = {.op = op,
                               .sandbox_id = call->id,
                               .path = wish->path,
                               .expires_s = shl_realtime_ms() / 1000 + wish->expires_in_s};
    struct shl_buf url;
    int rc;

    node_server_origin(call, origin);
    node_time_text(until, what.expires_s * 1000);
    shl_buf_init(&url, NODE_SIGNED_URL_MAX + NODE_ORIGIN_SIZE);
    rc = shl_buf_printf(&url, "%s/api", origin);
    if (rc == 0) {
        rc = node_signed_write(&server->token_key, &what, &url);
    }
    if (rc < 0) {
        node_call_fail(call, rc, NULL);
    } else {
        node_call_reply_json(call, 200,
                             json_pack("{s:s%, s:s}", "url", (const char *)shl_buf_data(&url),
                                       shl_buf_len(&url), "expiresAt", until));
    }
    shl_buf_release(&url);
}

static void hand_out(struct node_call *call, enum node_signed_op op)
{
    const struct node_sandbox *sandbox = node_call_find_sandbox(call);
    struct shl_err err = {0};
    json_t *body = NULL;
    struct wish wish = {0};

    if (!sandbox) {
        return;
    }
    if (node_call_is_ended(sandbox, &err) ||
        node_params_parse(shl_buf_bytes(&call->x->body), &body, &err) < 0 ||
        read_wish(body, &wish, &err) < 0) {
        node_call_fail_err(call, &err);
    } else {
        reply_url(call, op, &wish);
    }
    json_decref(body);
}

void node_handle_file_download_url(struct node_call *call)
{
    hand_out(call, NODE_SIGNED_DOWNLOAD);
}

void node_handle_file_upload_url(struct node_call *call)
{
    hand_out(call, NODE_SIGNED_UPLOAD);
}
