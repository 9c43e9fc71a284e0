#include "node/api/secret_bind.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node/api/row_job.h"
#include "node/api/secret_rows.h"
#include "node/api/server_private.h"

/*- When. */

static bool note_any(void *arg, const struct secret_store *store)
{
    (void)store;
    *(bool *)arg = true;
    return false;
}

static bool matters(struct node_call *call, bool is_fork)
{
    struct node_router *router = call->server->router;
    struct shl_bytes body = shl_buf_bytes(&call->x->body);
    bool any = false;

    if (!router->ops->row_sync) {
        return false;
    }
    if (body.len > 0 && memmem(body.base, body.len, "secretStore", 11)) {
        return true;
    }
    if (is_fork) {
        secret_store_each(router, call->caller.org, note_any, &any);
    }
    return any;
}

void node_secret_bind_ready(struct node_call *call,
                            bool is_fork,
                            void (*go)(struct node_call *call))
{
    if (matters(call, is_fork)) {
        node_row_read(call, go);
    } else {
        go(call);
    }
}

/*- What. */

struct bind {
    struct node_secret_use *use;
    const char *store;
    int rc;
};

static bool add_secret(void *arg, const struct secret_entry *secret)
{
    struct bind *bind = arg;

    bind->rc = node_secret_use_add(bind->use, secret->row.name, bind->store);
    return bind->rc == 0;
}

static int add_patterns(struct node_secret_use *use, const struct node_host_list *list)
{
    size_t i;
    int rc = 0;

    for (i = 0; rc == 0 && i < list->count; i++) {
        rc = node_host_list_add(&use->allowlist, list->items[i], strlen(list->items[i]),
                                NODE_EGRESS_PATTERNS_MAX);
    }
    return rc;
}

static int add_store(struct node_router *router,
                     const struct secret_store *store,
                     struct node_secret_use *use,
                     struct shl_err *err)
{
    struct bind bind = {.use = use, .store = store->row.id};
    int rc = node_secret_use_add_store(use, store->row.id, store->row.name);

    if (rc == 0) {
        secret_each(router, store->row.id, add_secret, &bind);
        rc = bind.rc;
    }
    if (rc == 0) {
        rc = add_patterns(use, &store->row.allowlist);
    }
    if (rc == SHL_ELIMIT) {
        rc = shl_err_set(err, SHL_EINVALIDARG,
                         "a sandbox may have %d secret stores with %d secrets and %d hosts in "
                         "their allowlists together",
                         NODE_USE_STORES_MAX, NODE_EGRESS_SECRETS_MAX, NODE_EGRESS_PATTERNS_MAX);
    } else if (rc < 0) {
        rc = shl_err_set(err, rc, "no memory for the secrets of a sandbox");
    }
    return rc;
}

static int add_inherited(struct node_router *router,
                         const char *org,
                         const struct node_secret_use *from,
                         struct node_secret_use *use,
                         struct shl_err *err)
{
    bool is_gone = false;
    size_t i;
    int rc = 0;

    for (i = 0; rc == 0 && i < from->store_count; i++) {
        struct secret_store store;

        rc = secret_store_by_name(router, org, from->stores[i].name, &store, NULL);
        if (rc == SHL_ENOTFOUND) {
            is_gone = true;
            rc = 0;
        } else if (rc == 0) {
            rc = add_store(router, &store, use, err);
            node_store_row_release(&store.row);
        } else {
            rc = shl_err_set(err, rc, "the secret store %.100s cannot be read",
                             from->stores[i].name);
        }
    }
    /* which hosts were of which store is not known: rather all of them than none */
    if (rc == 0 && (is_gone || from->store_count == 0)) {
        rc = add_patterns(use, &from->allowlist) < 0
                 ? shl_err_set(err, SHL_EINVALIDARG, "the allowlists together are too long")
                 : 0;
    }
    return rc;
}

static int add_named(struct node_router *router,
                     const char *org,
                     const char *name,
                     struct node_secret_use *use,
                     struct shl_err *err)
{
    struct secret_store store;
    int rc = secret_store_by_name(router, org, name, &store, err);

    if (rc == SHL_ENOTFOUND) {
        return shl_err_set(err, SHL_EINVALIDARG, "secret store not found: %.128s", name);
    }
    if (rc == 0) {
        rc = add_store(router, &store, use, err);
        node_store_row_release(&store.row);
    }
    return rc;
}

static size_t env_bytes(const struct node_kv_list *envs)
{
    size_t bytes = 0, i;

    for (i = 0; envs && i < envs->count; i++) {
        bytes += strlen(envs->items[i].key) + strlen(envs->items[i].value);
    }
    return bytes;
}

int node_secret_bind(struct node_server *server,
                     const char *org,
                     const struct node_secret_use *inherited,
                     const char *name,
                     const struct node_kv_list *envs,
                     struct node_secret_use *ret,
                     struct shl_err *err)
{
    struct node_router *router = server->router;
    struct node_secret_use use = {.store_count = 0};
    bool is_named = name && *name != '\0';
    int rc = 0;

    if (!router->ops->rows && is_named) {
        return shl_err_set(err, SHL_EINVALIDARG, "secret store not found: %.128s", name);
    }
    if (inherited && router->ops->rows) {
        rc = add_inherited(router, org, inherited, &use, err);
    }
    if (rc == 0 && is_named) {
        rc = add_named(router, org, name, &use, err);
    }
    if (rc == 0 && use.allowlist.count > 0 && !server->secrets.is_open) {
        rc = shl_err_set(err, -ENOSYS,
                         "this node has no egress gateway, so it cannot keep a sandbox to the "
                         "allowlist of its secret stores");
    }
    if (rc == 0 && env_bytes(envs) + node_secret_use_env_bytes(&use) > NODE_KV_BYTES_MAX) {
        rc = shl_err_set(err, SHL_EINVALIDARG, "envs and secrets together exceed %d bytes",
                         NODE_KV_BYTES_MAX);
    }
    if (rc < 0) {
        node_secret_use_release(&use);
        return rc;
    }
    *ret = use;
    return 0;
}
