/* Records of preview hosts: create, list, delete, and a new token (docs/api.md). Any port can be
 * reached without a record; a record is how its host name is asked for and listed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/id.h"
#include "base/io.h"
#include "node/api/handlers.h"
#include "node/api/params.h"
#include "node/api/preview_token.h"
#include "node/api/server_private.h"

/* The object of the API; NULL without memory. */
static json_t *preview_json(const struct node_call *call,
                            const struct node_sandbox *sandbox,
                            const struct node_preview *preview)
{
    char origin[NODE_ORIGIN_SIZE];
    char domain[NODE_ORIGIN_SIZE];
    char hostname[NODE_SANDBOX_ID_SIZE + 16 + NODE_ORIGIN_SIZE];
    char url[sizeof(hostname) + 16];
    char created[NODE_TIME_TEXT_SIZE];
    json_t *config = json_loads(preview->auth_config, 0, NULL);

    node_server_origin(call, origin);
    node_server_domain(call, domain);
    (void)snprintf(hostname, sizeof(hostname), "%s-p%u.%s", sandbox->id, preview->port, domain);
    (void)snprintf(url, sizeof(url), "%s://%s",
                   strncmp(origin, "https:", 6) == 0 ? "https" : "http", hostname);
    node_time_text(created, preview->created_at_ms);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:s, s:o, s:s}", "id", preview->id,
                     "sandboxId", sandbox->id, "orgId", sandbox->spec.org, "hostname", hostname,
                     "url", url, "port", (int)preview->port, "sslStatus", "active", "authConfig",
                     config ? config : json_object(), "createdAt", created);
}

static int refuse_domain(const json_t *body, struct shl_err *err)
{
    const char *domain = "";
    int rc = node_params_str(body, "domain", &domain, err);

    if (rc > 0 && *domain != '\0') {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "domain %.200s is not verified for this organisation: without "
                           "\"domain\" the preview gets a host name of this cluster",
                           domain);
    }
    return rc;
}

/* @ret->auth_config is heap. */
static int parse(const json_t *body, struct node_preview *ret, struct shl_err *err)
{
    const json_t *config = json_object_get(body, "authConfig");
    int64_t port = 0;
    int rc = node_params_int(body, "port", 1, UINT16_MAX, &port, err);

    if (rc == 0) {
        rc = shl_err_set(err, SHL_EINVALIDARG, "port is required: a number from 1 to 65535");
    }
    if (rc >= 0) {
        rc = refuse_domain(body, err);
    }
    if (rc < 0) {
        return rc;
    }
    if (config && !json_is_null(config) && !json_is_object(config)) {
        return shl_err_set(err, SHL_EINVALIDARG, "authConfig must be an object");
    }
    ret->port = (uint16_t)port;
    ret->created_at_ms = shl_realtime_ms();
    shl_uuid_make(ret->id);
    ret->auth_config = json_is_object(config) ? json_dumps(config, JSON_COMPACT) : strdup("{}");
    if (!ret->auth_config) {
        return shl_err_set(err, -ENOMEM, "no memory for the preview record");
    }
    if (strlen(ret->auth_config) > NODE_PREVIEW_CONFIG_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG, "authConfig is larger than %d bytes",
                           NODE_PREVIEW_CONFIG_MAX);
    }
    return 0;
}

static int add(struct node_sandbox *sandbox,
               const struct node_preview *preview,
               struct shl_err *err)
{
    struct node_previews set;
    int rc = node_previews_copy(&set, &sandbox->spec.previews);

    if (rc < 0) {
        return shl_err_set(err, rc, "no memory for the preview record");
    }
    rc = node_previews_add(&set, preview);
    if (rc == SHL_EQUOTA) {
        rc = shl_err_set(err, rc,
                         "the sandbox has %d preview records, which is the maximum: delete one, or "
                         "use the host name of the port without a record",
                         NODE_PREVIEWS_MAX);
    } else if (rc < 0) {
        rc = shl_err_set(err, rc, "no memory for the preview record");
    } else {
        rc = node_sandbox_set_previews(sandbox, &set, err);
    }
    node_previews_release(&set);
    return rc;
}

void node_handle_preview_create(struct node_call *call)
{
    struct node_sandbox *sandbox = node_call_find_sandbox(call);
    struct node_preview preview = {.port = 0};
    const struct node_preview *found;
    struct shl_err err = {0};
    json_t *body = NULL;
    int status = 200;
    int rc;

    if (!sandbox) {
        return;
    }
    rc = node_params_parse(shl_buf_bytes(&call->x->body), &body, &err);
    if (rc == 0) {
        rc = parse(body, &preview, &err);
    }
    if (rc == 0 && node_call_is_ended(sandbox, &err)) {
        rc = err.code = SHL_EBADSTATE;
    }
    if (rc == 0 && !node_previews_find(&sandbox->spec.previews, preview.port)) {
        rc = add(sandbox, &preview, &err);
        status = 201;
    }
    found = node_previews_find(&sandbox->spec.previews, preview.port);
    if (rc < 0 || !found) {
        node_call_fail_err(call, &err);
    } else {
        node_call_reply_json(call, status, preview_json(call, sandbox, found));
    }
    free(preview.auth_config);
    json_decref(body);
}

void node_handle_preview_list(struct node_call *call)
{
    const struct node_sandbox *sandbox = node_call_find_sandbox(call);
    json_t *list = json_array();
    size_t count = 0;

    if (sandbox && !node_call_is_ended(sandbox, NULL)) { /* they go with it */
        count = sandbox->spec.previews.count;
    }
    for (size_t i = 0; i < count; i++) {
        if (json_array_append_new(list, preview_json(call, sandbox,
                                                     &sandbox->spec.previews.items[i])) < 0) {
            json_decref(list);
            list = NULL;
            break;
        }
    }
    if (sandbox) {
        node_call_reply_json(call, 200, list);
    } else {
        json_decref(list);
    }
}

/* The :sid of the route is a port here. */
static bool parse_port(const char *text, uint16_t *ret)
{
    size_t len = strspn(text, "0123456789");
    unsigned long port = len > 0 && len <= 5 ? strtoul(text, NULL, 10) : 0;

    *ret = (uint16_t)port;
    return text[len] == '\0' && port >= 1 && port <= UINT16_MAX;
}

void node_handle_preview_delete(struct node_call *call)
{
    struct node_sandbox *sandbox = node_call_find_sandbox(call);
    struct node_previews set;
    struct shl_err err = {0};
    uint16_t port;
    int rc;

    if (!sandbox) {
        return;
    }
    if (!parse_port(call->sid, &port)) {
        node_call_fail(call, SHL_EINVALIDARG, "the port must be a number from 1 to 65535");
        return;
    }
    if (!node_previews_find(&sandbox->spec.previews, port)) {
        node_call_failf(call, SHL_ENOTFOUND, "there is no preview record of port %u", port);
        return;
    }
    rc = node_previews_copy(&set, &sandbox->spec.previews);
    if (rc < 0) {
        node_call_fail(call, rc, NULL);
        return;
    }
    (void)node_previews_remove(&set, port);
    rc = node_sandbox_set_previews(sandbox, &set, &err);
    node_previews_release(&set);
    if (rc < 0) {
        node_call_fail_err(call, &err);
    } else {
        node_call_reply_empty(call, 204);
    }
}

void node_handle_preview_rotate(struct node_call *call)
{
    struct node_sandbox *sandbox = node_call_find_sandbox(call);
    char token[NODE_PREVIEW_TOKEN_SIZE];
    struct node_previews set;
    struct shl_err err = {0};
    int rc;

    if (!sandbox) {
        return;
    }
    if (node_call_is_ended(sandbox, &err)) {
        node_call_fail_err(call, &err);
        return;
    }
    rc = node_previews_copy(&set, &sandbox->spec.previews);
    if (rc < 0) {
        node_call_fail(call, rc, NULL);
        return;
    }
    node_preview_token_make(token);
    node_preview_token_set(&set, token);
    rc = node_sandbox_set_previews(sandbox, &set, &err);
    node_previews_release(&set);
    if (rc < 0) {
        node_call_fail_err(call, &err);
    } else {
        node_call_reply_json(
            call, 200, json_pack("{s:s, s:s}", "previewAuthToken", token, "scheme", "bearer"));
    }
    sodium_memzero(token, sizeof(token));
}
