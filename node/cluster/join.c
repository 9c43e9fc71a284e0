/* Tokens, asking to be let in, letting in, and what founder and newcomer do once they are
 * members.
 *
 *   newcomer --token--> a node of the cluster --NODE_JOIN--> log
 *            <--cluster id, members--
 *   then gossip and log begin here, and the leader brings this node up as a standby
 *
 * What all members share (API keys, the key that signs sandbox tokens) the founder puts
 * into the log; a newcomer is a member for good when the log has brought them to it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/id.h"
#include "base/io.h"
#include "node/api/keys.h"
#include "node/cluster/cluster_private.h"

#define JOIN_MS        15000 /* of one attempt */
#define JOIN_TRIES     8
#define JOIN_PAUSE_MS  1000
#define SECRET_KIND    "secret" /* of the store, as node/api/token.c has it */
#define SIGNING_ID     "token-key"
#define SIGNING_KEY    "shoal/token-key" /* of the replicated store */
#define TOKEN_FILE_MAX 4096

struct cluster_join {
    struct cluster *cluster;
    struct node_join_token token;
    uint32_t seed; /* next one to ask */
    uint32_t tries;
    uv_timer_t timer;
    bool is_over;
};

/* ---- tokens ---------------------------------------------------------------------- */

struct token_order {
    node_order_cb cb;
    void *arg;
    struct node_order outcome;
};

static void on_token_made(void *arg, int code, const char *msg, const struct sched_result *result)
{
    struct token_order *order = arg;
    struct node_order failed;

    (void)result;
    if (code < 0) {
        failed = cluster_order_of(code, msg);
        order->cb(order->arg, &failed);
    } else {
        order->cb(order->arg, &order->outcome);
    }
    sodium_memzero(order, sizeof(*order));
    free(order);
}

/* What the others take for the time. Leases renew it every few seconds. */
static uint64_t cluster_time_ms(const struct cluster *c)
{
    uint64_t time_ms = c->state ? sched_state_time_ms(c->state) : 0;

    return time_ms ? time_ms : cluster_wall_ms();
}

static int draw_token(struct cluster *c,
                      uint32_t ttl_s,
                      struct token_order *order,
                      struct sched_command *command,
                      struct shl_err *err)
{
    struct node_join_token token = {.seed_count = 1, .seeds = {c->addr}};
    char text[NODE_JOIN_TOKEN_TEXT_SIZE];
    int rc;

    memcpy(token.cluster, c->id, sizeof(token.cluster));
    memcpy(token.server_key, c->keys.public_key, sizeof(token.server_key));
    node_join_token_draw(&token);
    token.expires_at_s = (int64_t)(cluster_time_ms(c) / 1000) + ttl_s;
    rc = node_join_token_format(&token, text, err);
    if (rc == 0 && strlen(text) >= sizeof(order->outcome.token)) {
        rc = shl_err_set(err, SHL_ELIMIT, "the join token is too long");
    }
    if (rc == 0) {
        memcpy(order->outcome.token, text, strlen(text) + 1);
        order->outcome.expires_at_ms = token.expires_at_s * 1000;
        command->kind = SCHED_TOKEN_CREATE;
        memcpy(command->u.token_create.token, token.id, SCHED_TOKEN_ID_BYTES);
        node_join_token_hash(token.id, token.secret, command->u.token_create.secret_hash);
        command->u.token_create.ttl_ms = (uint64_t)ttl_s * 1000;
        (void)snprintf(command->u.token_create.by, sizeof(command->u.token_create.by), "%.60s",
                       c->name);
    }
    sodium_memzero(text, sizeof(text));
    node_join_token_wipe(&token);
    return rc;
}

int cluster_join_token(struct cluster *c,
                       uint32_t ttl_s,
                       struct node_order *ret,
                       node_order_cb cb,
                       void *arg)
{
    struct token_order *order = calloc(1, sizeof(*order));
    struct sched_command command = {0};
    struct shl_err err = {0};
    int rc;

    if (!order) {
        *ret = cluster_order_of(-ENOMEM, NULL);
        return 1;
    }
    order->cb = cb;
    order->arg = arg;
    rc = draw_token(c, ttl_s, order, &command, &err);
    if (rc == 0) {
        rc = cluster_propose(c, &command, on_token_made, order, &err);
    }
    if (rc < 0) {
        sodium_memzero(order, sizeof(*order));
        free(order);
        *ret = cluster_order_of(rc, err.msg);
        return 1;
    }
    return 0;
}

/* ---- letting in ------------------------------------------------------------------ */

struct admission {
    struct cluster *cluster;
    struct node_mesh_call *call;
    struct shl_node_id node;
    char name[SCHED_NODE_NAME_SIZE]; /* that it asks for */
};

/* The newcomer is told, and so is whoever looks at this node's log. */
static void log_outcome(const struct admission *admission, int code, const char *msg)
{
    const struct cluster *c = admission->cluster;
    char id[SHL_NODE_ID_TEXT_SIZE];

    shl_node_id_format(id, &admission->node);
    if (code < 0) {
        SHL_LOG(&c->log_sink, SHL_LOG_WARN, "join_refused", SHL_S("name", admission->name),
                SHL_S("id", id), SHL_S("error", msg && msg[0] ? msg : shl_err_text(code)));
    } else {
        SHL_LOG(&c->log_sink, SHL_LOG_INFO, "admitted", SHL_S("name", admission->name),
                SHL_S("id", id));
    }
}

static void on_admitted(void *arg, int code, const char *msg, const struct sched_result *result)
{
    struct admission *admission = arg;
    const struct cluster *c = admission->cluster;
    struct shl_buf buf;

    (void)result;
    shl_buf_init(&buf, NODE_MESH_JOIN_MAX);
    if (code == 0) {
        code = cluster_wire_write_welcome(&buf, c->id, &c->keys.id, c->state);
        msg = NULL;
    }
    log_outcome(admission, code, msg);
    node_mesh_reply(admission->call, code, msg, shl_buf_bytes(&buf));
    shl_buf_release(&buf);
    free(admission);
}

static int take_request(struct admission *admission,
                        const uint8_t key[NODE_KEY_BYTES],
                        struct shl_bytes body,
                        struct shl_err *err)
{
    struct sched_command command = {.kind = SCHED_NODE_JOIN};
    int rc = cluster_wire_read_join(body, key, &command.u.node_join);

    if (rc < 0) {
        return shl_err_set(err, rc, "the request to join cannot be understood");
    }
    memcpy(admission->name, command.u.node_join.node.name, sizeof(admission->name));
    return cluster_propose(admission->cluster, &command, on_admitted, admission, err);
}

static void on_join(void *arg,
                    struct node_mesh_call *call,
                    const uint8_t key[NODE_KEY_BYTES],
                    struct shl_bytes body)
{
    struct admission *admission = calloc(1, sizeof(*admission));
    struct shl_err err = {0};
    int rc = -ENOMEM;

    if (admission) {
        admission->cluster = arg;
        admission->call = call;
        node_mesh_keys_id(key, &admission->node);
        rc = take_request(admission, key, body, &err);
    }
    if (rc < 0) {
        if (admission) {
            log_outcome(admission, rc, err.msg);
        }
        node_mesh_reply(call, rc, err.msg[0] ? err.msg : NULL, shl_bytes_of(NULL, 0));
        free(admission);
    }
}

void cluster_join_watch(struct cluster *c)
{
    uint64_t now_ms = sched_state_time_ms(c->state); /* this machine's clock may be wrong */
    bool open = false;
    size_t i;

    for (i = 0; i < sched_state_count(c->state, SCHED_TABLE_TOKENS) && !open; i++) {
        const struct sched_token *row = sched_state_at(c->state, SCHED_TABLE_TOKENS, i);

        /* a used one too: its holder may have missed the answer */
        open = !row->revoked && row->expires_at_ms > now_ms;
    }
    node_mesh_set_join(c->mesh, open ? on_join : NULL, c);
}

/* ---- asking to be let in --------------------------------------------------------- */

static void ask(struct cluster_join *join);

static void on_join_closed(uv_handle_t *handle)
{
    struct cluster_join *join = handle->data;
    struct cluster *c = join->cluster;

    free(join);
    cluster_close_part(c);
}

static void end_join(struct cluster *c)
{
    struct cluster_join *join = c->join;

    c->join = NULL;
    join->is_over = true;
    node_join_token_wipe(&join->token);
    c->handles++;
    uv_close((uv_handle_t *)&join->timer, on_join_closed);
}

static int take_welcome(struct cluster *c, struct shl_bytes body, struct shl_err *err)
{
    struct gossip_event event = {.type = GOSSIP_EV_ADMIT};
    uint8_t cluster[NODE_CLUSTER_BYTES];
    struct gossip_info *infos = NULL;
    uint32_t count = 0, i, kept = 0;
    int rc = cluster_wire_read_welcome(body, cluster, &infos, &count);

    if (rc < 0) {
        return shl_err_set(err, rc, "the answer of the cluster cannot be understood");
    }
    rc = cluster_identity_save(c, cluster, err);
    if (rc == 0) {
        node_mesh_set_cluster(c->mesh, c->id);
        c->is_joining = true;
        rc = c->log.raft ? 0 : cluster_begin(c, err); /* it asked once more: cluster.c */
    }
    if (rc == 0) {
        for (i = 0; i < count; i++) { /* after a repeated join we are among them */
            if (!shl_node_id_equal(&infos[i].id, &c->keys.id)) {
                infos[kept++] = infos[i];
            }
        }
        event.admit.infos = infos;
        event.admit.info_count = kept;
        cluster_members_feed(c, &event);
    }
    free(infos);
    return rc;
}

static bool may_try_again(int code)
{
    return code == SHL_EUNAVAILABLE || code == -ETIMEDOUT;
}

static void on_timer(uv_timer_t *timer)
{
    ask(timer->data);
}

static void on_answer(void *arg, int code, const char *msg, struct shl_bytes body)
{
    struct cluster *c = arg;
    struct cluster_join *join = c->join;
    struct shl_err err = {0};

    if (!join || c->is_closing) {
        return;
    }
    if (code == 0) {
        SHL_LOG(&c->log_sink, SHL_LOG_INFO, "let_in", SHL_S("node", c->name));
        code = take_welcome(c, body, &err);
        msg = err.msg;
    } else if (may_try_again(code) && ++join->tries < JOIN_TRIES) {
        SHL_LOG(&c->log_sink, SHL_LOG_WARN, "join_again", SHL_S("reason", msg));
        (void)uv_timer_start(&join->timer, on_timer, JOIN_PAUSE_MS, 0);
        return;
    }
    end_join(c);
    if (code < 0) {
        cluster_joined(c, code, msg);
    }
}

static void ask(struct cluster_join *join)
{
    struct cluster *c = join->cluster;
    const struct node_join_token *token = &join->token;
    struct sched_node_spec self = {0};
    struct shl_err err = {0};
    struct shl_buf buf;
    int rc;

    cluster_describe(c, &self);
    shl_buf_init(&buf, NODE_MESH_JOIN_MAX);
    rc = cluster_wire_write_join(&buf, token, &self);
    if (rc == 0) {
        rc = node_mesh_join(c->mesh, token->cluster, &token->seeds[join->seed], token->server_key,
                            shl_buf_bytes(&buf), cluster_patience_ms(c, JOIN_MS), on_answer, c,
                            &err);
    }
    sodium_memzero(shl_buf_data(&buf), shl_buf_len(&buf));
    shl_buf_release(&buf);
    SHL_LOG(&c->log_sink, SHL_LOG_INFO, "joining", SHL_S("seed", token->seeds[join->seed].host),
            SHL_I("port", token->seeds[join->seed].control_port));
    join->seed = (join->seed + 1) % token->seed_count;
    if (rc < 0) {
        end_join(c);
        cluster_joined(c, rc, err.msg[0] ? err.msg : shl_err_text(rc));
    }
}

/* The token itself, or what the file after '@' holds. */
static int read_token(const char *text, struct node_join_token *token, struct shl_err *err)
{
    struct shl_buf buf;
    int rc;

    if (text[0] != '@') {
        return node_join_token_parse(text, token, err);
    }
    shl_buf_init(&buf, TOKEN_FILE_MAX);
    rc = shl_read_file(text + 1, &buf);
    if (rc == 0) {
        rc = shl_buf_append(&buf, "", 1);
    }
    rc = rc < 0 ? shl_err_sys(err, -rc, "cannot read the join token in %s", text + 1)
                : node_join_token_parse((const char *)shl_buf_data(&buf), token, err);
    sodium_memzero(shl_buf_data(&buf), shl_buf_len(&buf));
    shl_buf_release(&buf);
    return rc;
}

static int check_token(struct cluster *c, const struct node_join_token *token, struct shl_err *err)
{
    if (c->has_id && memcmp(c->id, token->cluster, sizeof(c->id)) != 0) {
        return shl_err_set(err, SHL_ECONFLICT,
                           "this node is a member of another cluster than the token's: remove it "
                           "there, stop it and let it join with an empty data folder");
    }
    if (!c->has_id && token->expires_at_s <= (int64_t)(cluster_wall_ms() / 1000)) {
        return shl_err_set(err, SHL_EAUTH,
                           "the join token has expired: make a new one with `shoal token create` "
                           "(or is the clock of this machine wrong?)");
    }
    return 0;
}

int cluster_join_start(struct cluster *c, const char *text, struct shl_err *err)
{
    struct cluster_join *join;
    struct node_join_token token;
    int rc = read_token(text, &token, err);

    if (rc == 0) {
        rc = check_token(c, &token, err);
    }
    if (rc < 0 || (c->has_id && !c->is_joining)) { /* a member: the token is not needed */
        node_join_token_wipe(&token);
        return rc;
    }
    join = calloc(1, sizeof(*join));
    if (!join) {
        node_join_token_wipe(&token);
        return shl_err_sys(err, ENOMEM, "cannot join");
    }
    join->cluster = c;
    join->token = token;
    node_join_token_wipe(&token);
    c->join = join;
    (void)uv_timer_init(c->loop, &join->timer);
    join->timer.data = join;
    (void)uv_timer_start(&join->timer, on_timer, 0, 0);
    return 0;
}

void cluster_join_close(struct cluster *c)
{
    if (c->join) {
        end_join(c);
    }
}

/* ---- once a member --------------------------------------------------------------- */

static void on_shared(void *arg, int code, const char *msg, const struct sched_result *result)
{
    struct cluster *c = arg;

    (void)result;
    if (code < 0 && code != -ECANCELED) {
        SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "not_shared", SHL_S("error", msg));
    }
}

static void share_key(void *arg, const char *hash, const struct node_key_info *info)
{
    struct sched_command command = {.kind = SCHED_KEY_PUT};
    struct sched_cmd_key_put *put = &command.u.key_put;
    struct cluster *c = arg;
    struct shl_err err = {0};

    if (shl_hex_decode(put->hash, sizeof(put->hash), hash) < 0) {
        return;
    }
    (void)snprintf(put->org, sizeof(put->org), "%s", info->org);
    (void)snprintf(put->label, sizeof(put->label), "%s", info->display);
    put->admin = info->admin;
    put->created_at_ms = (uint64_t)info->created_at_ms;
    if (info->expires_at_ms > 0) {
        uint64_t now_ms = cluster_wall_ms();

        if ((uint64_t)info->expires_at_ms <= now_ms) {
            return;
        }
        put->ttl_ms = (uint64_t)info->expires_at_ms - now_ms;
    }
    if (cluster_propose(c, &command, on_shared, c, &err) < 0) {
        SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "not_shared", SHL_S("error", err.msg));
    }
}

static void share_signing_key(struct cluster *c)
{
    struct sched_command command = {.kind = SCHED_KV_SET};
    struct shl_err err = {0};
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, 4096);
    rc = node_store_get(c->store, SECRET_KIND, SIGNING_ID, &buf, &err);
    if (rc == 0) {
        (void)snprintf(command.u.kv.key, sizeof(command.u.kv.key), "%s", SIGNING_KEY);
        command.u.kv.value = shl_buf_bytes(&buf);
        command.u.kv.has_expected = true; /* must not exist */
        rc = cluster_propose(c, &command, on_shared, c, &err);
    }
    if (rc < 0) {
        SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "not_shared", SHL_S("error", err.msg));
    }
    sodium_memzero(shl_buf_data(&buf), shl_buf_len(&buf));
    shl_buf_release(&buf);
}

/* The founder's part, at most once in the life of a cluster: what is there already stays. */
static void share(struct cluster *c)
{
    struct shl_err err = {0};

    if (!sched_state_kv(c->state, SIGNING_KEY)) {
        share_signing_key(c);
    }
    if (sched_state_count(c->state, SCHED_TABLE_KEYS) == 0 &&
        node_keys_each(c->store, share_key, c, &err) < 0) {
        SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "not_shared", SHL_S("error", err.msg));
    }
}

static int take_signing_key(struct cluster *c, struct shl_err *err)
{
    const struct sched_kv *row = sched_state_kv(c->state, SIGNING_KEY);

    return node_store_put(c->store, SECRET_KIND, SIGNING_ID, row->value, err);
}

int cluster_join_take_shared(struct cluster *c, struct shl_err *err)
{
    cluster_apply_keys(c);
    return sched_state_kv(c->state, SIGNING_KEY) ? take_signing_key(c, err) : 0;
}

void cluster_join_settled(struct cluster *c)
{
    struct shl_err err = {0};
    int rc;

    if (!c->is_joining) {
        /* a founder: its cluster exists */
        if (!c->is_settled && c->lead.is_ready && sched_state_has_cluster(c->state)) {
            c->is_settled = true;
            rc = c->is_founding ? cluster_standing_save(c, CLUSTER_STANDING_MEMBER, &err) : 0;
            c->is_founding = false;
            share(c);
            if (rc < 0) {
                cluster_joined(c, rc, err.msg);
            }
        }
        return;
    }
    if (!sched_state_node(c->state, &c->keys.id) || !sched_state_kv(c->state, SIGNING_KEY)) {
        return;
    }
    c->is_joining = false;
    c->is_settled = true;
    rc = take_signing_key(c, &err);
    if (rc == 0) {
        rc = cluster_standing_save(c, CLUSTER_STANDING_MEMBER, &err);
    }
    cluster_joined(c, rc, err.msg);
}

void cluster_join_init(struct cluster *c)
{
    enum cluster_standing standing = cluster_standing_load(c);

    /* a member that was let in and stopped before the log reached it goes on waiting */
    c->is_joining = c->has_id && standing == CLUSTER_STANDING_NONE;
    c->is_founding = c->has_id && standing == CLUSTER_STANDING_FOUNDING;
}
