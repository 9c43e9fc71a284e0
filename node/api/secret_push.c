#include "node/api/secret_push.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "node/api/guest_figures.h"
#include "node/api/secret_rows.h"
#include "node/api/server_private.h"

#define SETTLE_MS 20 /* changes of one request come together */

/*- Resolution. */

static int add_patterns(struct node_host_list *to, const struct node_host_list *from)
{
    size_t i;
    int rc = 0;

    for (i = 0; rc == 0 && i < from->count; i++) {
        rc = node_host_list_add(to, from->items[i], strlen(from->items[i]),
                                NODE_EGRESS_PATTERNS_MAX);
    }
    return rc;
}

/* The allowlists of its stores together. 1: all of them are known. */
static int read_allowlist(struct node_server *server,
                          const struct node_sandbox *sandbox,
                          struct node_host_list *ret)
{
    const struct node_secret_use *use = &sandbox->spec.secrets;
    int rc = 1;
    size_t i;

    for (i = 0; rc >= 0 && i < use->store_count; i++) {
        struct secret_store store;
        int found =
            secret_store_by_id(server->router, sandbox->spec.org, use->stores[i].id, &store, NULL);

        if (found == 0) {
            found = add_patterns(ret, &store.row.allowlist);
            node_store_row_release(&store.row);
            rc = found < 0 ? found : rc;
        } else {
            rc = 0;
        }
    }
    if (rc == 0 || (rc == 1 && use->store_count == 0)) {
        int added = add_patterns(ret, &use->allowlist);

        rc = added < 0 ? added : 0;
    }
    return rc;
}

static bool same_list(const struct node_host_list *a, const struct node_host_list *b)
{
    size_t i;

    if (a->count != b->count) {
        return false;
    }
    for (i = 0; i < a->count; i++) {
        if (!node_host_list_has(a, b->items[i])) {
            return false;
        }
    }
    return true;
}

static bool has_store(struct node_server *server, const char *org, const char *id)
{
    struct secret_store store;
    int rc = secret_store_by_id(server->router, org, id, &store, NULL);

    if (rc == 0) {
        node_store_row_release(&store.row);
    }
    return rc != SHL_ENOTFOUND; /* one that cannot be read is still one */
}

static int add_secret(struct node_server *server,
                      const char *org,
                      const struct node_secret_token *token,
                      struct node_egress_policy *policy)
{
    struct shl_err err = {0};
    struct secret_entry entry;
    struct node_egress_secret *secret;
    uint8_t *value = NULL;
    size_t len = 0;
    int rc = secret_open(server->router, token->store, token->name, &entry, &value, &len, &err);

    if (rc < 0) {
        if (rc != SHL_ENOTFOUND) {
            SHL_LOG(server->log, SHL_LOG_WARN, "secret_not_opened", SHL_S("store", token->store),
                    SHL_S("name", token->name), SHL_S("error", err.msg));
        }
        secret = node_egress_policy_add(policy, token->token, shl_bytes_of(NULL, 0));
        if (secret) {
            secret->is_kept = rc == SHL_ENOTFOUND && !has_store(server, org, token->store);
        }
        return secret ? 0 : -ENOMEM;
    }
    secret = node_egress_policy_add(policy, token->token, shl_bytes_of(value, len));
    sodium_free(value);
    rc = secret ? node_host_list_copy(&secret->hosts, &entry.row.hosts) : -ENOMEM;
    node_secret_row_release(&entry.row);
    return rc;
}

int node_secret_policy(struct node_server *server,
                       struct node_sandbox *sandbox,
                       struct node_egress_policy *ret)
{
    const struct node_secret_use *use = &sandbox->spec.secrets;
    struct node_egress_policy policy = {.is_open = false};
    int rc = read_allowlist(server, sandbox, &policy.allowlist);
    size_t i;

    if (rc == 1 && !same_list(&policy.allowlist, &use->allowlist) &&
        node_sandbox_set_allowlist(sandbox, &policy.allowlist) < 0) {
        SHL_LOG(server->log, SHL_LOG_WARN, "allowlist_not_kept", SHL_S("sandbox", sandbox->id));
    }
    policy.is_open = rc >= 0 && policy.allowlist.count == 0;
    for (i = 0; rc >= 0 && i < use->token_count; i++) {
        rc = add_secret(server, sandbox->spec.org, &use->tokens[i], &policy);
    }
    if (rc < 0) {
        node_egress_policy_release(&policy);
    }
    *ret = policy;
    return rc < 0 ? -ENOMEM : 0;
}

/*- Telling the gateway. */

struct revoked {
    struct node_secret_push *push;
    const char *key;
};

static bool has_any(const struct node_sandbox *sandbox)
{
    const struct node_secret_use *use = &sandbox->spec.secrets;

    return use->store_count > 0 || use->allowlist.count > 0;
}

static struct node_egress_facts facts_of(const struct node_secret_push *p,
                                         const struct node_sandbox *sandbox)
{
    struct node_egress_facts facts = {
        .memory_bytes = (uint64_t)sandbox->spec.memory_mb << 20,
        .began_ms = sandbox->run_began_ms,
    };

    _Static_assert(NODE_TEMPLATE_MAX <= sizeof(facts.template_name), "any template has room");
    (void)snprintf(facts.region, sizeof(facts.region), "%s", p->server->region);
    (void)snprintf(facts.template_name, sizeof(facts.template_name), "%s",
                   sandbox->spec.template_name);
    return facts;
}

static void push(struct node_secret_push *p, struct node_sandbox *sandbox, uint32_t guest)
{
    const struct node_egress_facts facts = facts_of(p, sandbox);
    struct node_egress_policy policy;

    if (node_secret_policy(p->server, sandbox, &policy) < 0) {
        SHL_LOG(p->server->log, SHL_LOG_ERROR, "egress_shut", SHL_S("sandbox", sandbox->id),
                SHL_S("reason", "there is no memory for what it may reach"));
    }
    p->sink.set(p->sink.arg, guest, sandbox->id, &facts, &policy);
}

static void on_attach(void *arg, struct node_sandbox *sandbox, uint32_t guest)
{
    push(arg, sandbox, guest);
}

static void on_detach(void *arg, uint32_t guest)
{
    struct node_secret_push *p = arg;

    p->sink.drop(p->sink.arg, guest);
}

/*- What a changed row matters to. */

static bool begins_with(const char *key, const char *prefix)
{
    return strncmp(key, prefix, strlen(prefix)) == 0;
}

static const struct node_secret_token *token_of_row(const struct node_sandbox *sandbox,
                                                    const char *key)
{
    const struct node_secret_use *use = &sandbox->spec.secrets;
    char own[NODE_SECRET_KEY_SIZE];
    size_t i;

    for (i = 0; i < use->token_count; i++) {
        node_secret_key(own, use->tokens[i].store, use->tokens[i].name);
        if (strcmp(own, key) == 0) {
            return &use->tokens[i];
        }
    }
    return NULL;
}

/* Which store a row is of its key does not say: those of the organisation. */
static bool matters(const struct node_sandbox *sandbox, const char *key)
{
    char prefix[NODE_SECRET_KEY_SIZE];

    if (begins_with(key, NODE_SECRET_PREFIX)) {
        return token_of_row(sandbox, key) != NULL;
    }
    node_stores_prefix(prefix, sandbox->spec.org);
    return !begins_with(key, NODE_STORE_PREFIX) || begins_with(key, prefix);
}

static bool push_changed(void *arg, struct node_sandbox *sandbox, uint32_t guest)
{
    struct node_secret_push *p = arg;
    bool needs = p->everybody;
    size_t i;

    if (!has_any(sandbox)) {
        return true;
    }
    for (i = 0; !needs && i < p->key_count; i++) {
        needs = matters(sandbox, p->keys[i]);
    }
    if (needs) {
        push(p, sandbox, guest);
    }
    return true;
}

static void on_settled(uv_timer_t *timer)
{
    struct node_secret_push *p = timer->data;

    node_manager_each_guest(p->server->manager, push_changed, p);
    p->key_count = 0;
    p->everybody = false;
}

static void note_key(struct node_secret_push *p, const char *key)
{
    size_t i;

    if (!key || strlen(key) >= sizeof(p->keys[0])) {
        p->everybody = true;
        return;
    }
    for (i = 0; i < p->key_count; i++) {
        if (strcmp(p->keys[i], key) == 0) {
            return;
        }
    }
    if (p->key_count == NODE_SECRET_PUSH_KEYS_MAX) {
        p->everybody = true;
        return;
    }
    memcpy(p->keys[p->key_count++], key, strlen(key) + 1);
}

static bool push_revoked(void *arg, struct node_sandbox *sandbox, uint32_t guest)
{
    const struct revoked *revoked = arg;
    const struct node_secret_token *token = token_of_row(sandbox, revoked->key);

    if (token && has_store(revoked->push->server, sandbox->spec.org, token->store)) {
        push(revoked->push, sandbox, guest);
    }
    return true;
}

static void on_changed(void *arg, const char *key)
{
    struct node_secret_push *p = arg;
    struct revoked revoked = {p, key};
    struct node_row row;

    if (key && begins_with(key, NODE_SECRET_PREFIX) &&
        !p->server->router->ops->row(p->server->router, key, &row)) {
        node_manager_each_guest(p->server->manager, push_revoked, &revoked);
    }
    note_key(p, key);
    if (!uv_is_active((uv_handle_t *)&p->timer)) {
        (void)uv_timer_start(&p->timer, on_settled, SETTLE_MS, 0);
    }
}

static void on_ask(void *arg, uint32_t guest, const char *sandbox)
{
    const struct node_secret_push *p = arg;

    node_guest_figures_ask(p->server, guest, sandbox);
}

void node_secret_push_open(struct node_server *server, const struct node_egress_sink *sink)
{
    static const struct node_manager_network network = {on_attach, on_detach};
    struct node_secret_push *p = &server->secrets;

    if (!sink || !sink->set || !server->router->ops->watch_rows) {
        return;
    }
    p->server = server;
    p->sink = *sink;
    p->is_open = true;
    (void)uv_timer_init(server->loop, &p->timer);
    p->timer.data = p;
    server->router->ops->watch_rows(server->router, on_changed, p);
    p->sink.on_ask(p->sink.arg, on_ask, p);
    node_manager_set_network(server->manager, &network, p);
}

void node_secret_push_close(struct node_server *server, uv_close_cb closed)
{
    struct node_secret_push *p = &server->secrets;

    if (p->is_open) {
        p->is_open = false;
        p->sink.on_ask(p->sink.arg, NULL, NULL);
        server->router->ops->watch_rows(server->router, NULL, NULL);
        node_manager_set_network(server->manager, NULL, NULL);
        uv_close((uv_handle_t *)&p->timer, closed);
    }
}
