/* The API's questions and orders, answered from gossip and the replicated state. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "node/cluster/backup.h"
#include "node/cluster/cluster_private.h"
#include "node/cluster/owners.h"
#include "node/cluster/replicas.h"
#include "scheduler/idempotency.h"

static struct cluster *cluster_of(struct node_router *router)
{
    return shl_container_of(router, struct cluster, router);
}

struct node_order cluster_order_of(int code, const char *msg)
{
    struct node_order order = {.code = code};

    (void)snprintf(order.msg, sizeof(order.msg), "%s",
                   msg && msg[0] ? msg
                   : code < 0    ? shl_err_text(code)
                                 : "");
    return order;
}

static int where(struct node_router *router,
                 const struct node_where *what,
                 struct node_answer *ret,
                 node_answer_cb cb,
                 void *arg)
{
    return cluster_where(cluster_of(router), false, what, ret, cb, arg);
}

static int where_checkpoint(struct node_router *router,
                            const struct node_where *what,
                            struct node_answer *ret,
                            node_answer_cb cb,
                            void *arg)
{
    return cluster_where(cluster_of(router), true, what, ret, cb, arg);
}

static int place(struct node_router *router,
                 const struct node_place *what,
                 struct node_answer *ret,
                 node_answer_cb cb,
                 void *arg)
{
    return cluster_place(cluster_of(router), what, ret, cb, arg);
}

/* ---- claims ---------------------------------------------------------------------- */

struct claim {
    struct cluster *cluster;
    node_answer_cb cb;
    void *arg;
    struct node_target asked;
    uint8_t request[SCHED_HASH_BYTES];
    bool is_takeover;
};

static void target_of(struct cluster *c, const struct shl_node_id *id, struct node_answer *ret)
{
    struct node_target *target = &ret->targets[0];

    ret->target_count = 1;
    target->id = *id;
    target->is_local = shl_node_id_equal(id, &c->keys.id);
    (void)snprintf(target->name, sizeof(target->name), "%.63s", cluster_node_name(c, id));
}

/* The node that has the key already. */
static void take_found(struct claim *claim, struct shl_bytes value, struct node_answer *ret)
{
    struct cluster *c = claim->cluster;
    struct sched_idempotency found;
    enum sched_idempotency_verdict verdict;

    if (sched_idempotency_decode(&found, value) < 0) {
        ret->code = SHL_ECORRUPT;
        return;
    }
    verdict = sched_idempotency_decide(false, &found, claim->request,
                                       sched_state_node(c->state, &found.node) == NULL, 0);
    if (verdict == SCHED_CREATE_CONFLICT) {
        ret->code = SHL_ECONFLICT;
        sched_idempotency_text(ret->msg, sizeof(ret->msg), verdict, &found);
        return;
    }
    target_of(c, &found.node, ret);
}

static void on_claimed(void *arg, int code, const char *msg, const struct sched_result *result)
{
    struct claim *claim = arg;
    struct cluster *c = claim->cluster;
    struct node_answer answer = {0};

    if (code == 0 && (!result || !result->existed || claim->is_takeover)) {
        target_of(c, &claim->asked.id, &answer);
        answer.is_new = true;
    } else if (result && result->value_len > 0) {
        take_found(claim, shl_bytes_of(result->value, result->value_len), &answer);
    } else if (code == SHL_EUNAVAILABLE) {
        /* no scheduler: creating goes on, and the node itself still knows the key */
        target_of(c, &claim->asked.id, &answer);
        answer.is_new = true;
    } else {
        answer.code = code;
        (void)snprintf(answer.msg, sizeof(answer.msg), "%s", msg);
    }
    claim->cb(claim->arg, &answer);
    free(claim);
}

static int encode_claim(struct shl_buf *buf,
                        const struct shl_node_id *node,
                        const uint8_t request[SCHED_HASH_BYTES])
{
    /* nodes agree on who makes it; which sandbox it became only that node knows */
    struct sched_idempotency value = {.node = *node, .sandbox = "there"};

    memcpy(value.request, request, SCHED_HASH_BYTES);
    return sched_idempotency_encode(&value, buf);
}

/* The value that the node which gave up has there. */
static int expect(const struct node_claim *what, struct claim *claim, struct shl_buf *buf)
{
    return encode_claim(buf, &what->instead_of, claim->request);
}

static int send_claim(struct claim *claim, const struct node_claim *what, struct shl_err *err)
{
    struct sched_command command = {.kind = SCHED_NAME_CLAIM};
    struct sched_cmd_name *name = &command.u.name;
    struct shl_buf value, expected;
    int rc;

    shl_buf_init(&value, SCHED_VALUE_MAX);
    shl_buf_init(&expected, SCHED_VALUE_MAX);
    name->kind = SCHED_NAME_IDEMPOTENCY;
    (void)snprintf(name->org, sizeof(name->org), "%s", what->org);
    (void)snprintf(name->name, sizeof(name->name), "%s", what->key);
    (void)snprintf(name->owner, sizeof(name->owner), "%s", "create");
    name->ttl_ms = SCHED_IDEMPOTENCY_TTL_MS;
    rc = encode_claim(&value, &what->node.id, claim->request);
    if (rc == 0 && claim->is_takeover) {
        command.kind = SCHED_NAME_SET;
        name->has_expected = true;
        rc = expect(what, claim, &expected);
    }
    name->value = shl_buf_bytes(&value);
    name->expected = shl_buf_bytes(&expected);
    rc = rc < 0 ? rc : cluster_propose(claim->cluster, &command, on_claimed, claim, err);
    shl_buf_release(&value);
    shl_buf_release(&expected);
    return rc;
}

static int claim_key(struct node_router *router,
                     const struct node_claim *what,
                     struct node_answer *ret,
                     node_answer_cb cb,
                     void *arg)
{
    struct claim *claim = calloc(1, sizeof(*claim));
    struct shl_err err = {0};
    int rc;

    *ret = (struct node_answer){.code = -ENOMEM};
    if (!claim) {
        return 1;
    }
    *claim =
        (struct claim){.cluster = cluster_of(router), .cb = cb, .arg = arg, .asked = what->node};
    if (what->node.is_local) {
        claim->asked.id = claim->cluster->keys.id;
    }
    claim->is_takeover = !shl_node_id_is_none(&what->instead_of);
    rc = shl_hex_decode(claim->request, sizeof(claim->request), what->body);
    if (rc == 0) {
        struct node_claim sent = *what;

        sent.node = claim->asked;
        rc = send_claim(claim, &sent, &err);
    }
    if (rc < 0) {
        ret->code = rc;
        (void)snprintf(ret->msg, sizeof(ret->msg), "%s", err.msg);
        free(claim);
        return 1;
    }
    return 0;
}

/* ---- copies ---------------------------------------------------------------------- */

struct bringing {
    struct cluster *cluster;
    char id[NODE_CHECKPOINT_ID_SIZE];
    node_answer_cb cb;
    void *arg;
};

static void on_imported(void *arg, int code, const char *msg)
{
    struct bringing *bringing = arg;
    struct node_answer answer = {.code = code};

    (void)snprintf(answer.msg, sizeof(answer.msg), "%s", msg);
    bringing->cb(bringing->arg, &answer);
    free(bringing);
}

static void on_brought(void *arg, int code, const char *msg, const struct node_import *import)
{
    struct bringing *bringing = arg;

    if (code < 0) {
        on_imported(bringing, code, msg);
    } else {
        node_checkpoint_import(bringing->cluster->manager, import, on_imported, bringing);
    }
}

static int bring(struct node_router *router,
                 const struct node_where *what,
                 struct node_answer *ret,
                 node_answer_cb cb,
                 void *arg)
{
    struct cluster *c = cluster_of(router);
    const struct sched_checkpoint *row = sched_state_checkpoint(c->state, what->id);
    struct bringing *bringing;
    struct shl_err err = {0};

    *ret = (struct node_answer){.code = SHL_ENOTFOUND};
    if (!row || strcmp(row->org, what->org) != 0 ||
        (row->kind != SCHED_CHECKPOINT_FULL && row->kind != SCHED_CHECKPOINT_DISK)) {
        return 1;
    }
    bringing = calloc(1, sizeof(*bringing));
    if (!bringing) {
        ret->code = -ENOMEM;
        return 1;
    }
    bringing->cluster = c;
    bringing->cb = cb;
    bringing->arg = arg;
    ret->code = cluster_bring(c, what->id, on_brought, bringing, &err);
    if (ret->code < 0) {
        (void)snprintf(ret->msg, sizeof(ret->msg), "%s", err.msg);
        free(bringing);
        return 1;
    }
    return 0;
}

/* Of a hibernated one that very state counts, not what an older save of it has. */
static bool find_durable(struct cluster *c,
                         bool is_checkpoint,
                         const char *id,
                         struct cluster_durable *ret)
{
    const struct node_sandbox *sandbox =
        is_checkpoint ? NULL : node_manager_find(c->manager, NULL, id);
    const char *artefact = sandbox ? node_sandbox_artefact(sandbox) : NULL;

    if (is_checkpoint || artefact) {
        return cluster_artefact_durable(c, artefact ? artefact : id, ret);
    }
    return !(sandbox && sandbox->state == NODE_SANDBOX_HIBERNATED) &&
           cluster_sandbox_durable(c, id, ret);
}

static void durability(struct node_router *router,
                       bool is_checkpoint,
                       const char *id,
                       struct node_durability *ret)
{
    struct cluster *c = cluster_of(router);
    struct cluster_durable found;

    *ret = (struct node_durability){0};
    if (find_durable(c, is_checkpoint, id, &found)) {
        *ret = (struct node_durability){
            .is_whole = found.durability == CLUSTER_DURABLE_REPLICATED,
            .replicas = found.alive,
            .wanted = found.wanted,
        };
    }
}

static int move(struct node_router *router,
                struct node_sandbox *sandbox,
                const struct node_target *node,
                struct node_order *ret,
                node_order_cb cb,
                void *arg)
{
    return cluster_move(cluster_of(router), sandbox, node, ret, cb, arg);
}

static int evict(struct node_router *router,
                 const struct node_target *node,
                 struct node_order *ret,
                 node_order_cb cb,
                 void *arg)
{
    return cluster_evict(cluster_of(router), node, ret, cb, arg);
}

static int drop(struct node_router *router,
                const struct node_sandbox *sandbox,
                struct node_order *ret,
                node_order_cb cb,
                void *arg)
{
    return cluster_owners_drop(cluster_of(router), sandbox->id, ret, cb, arg);
}

/* ---- what is known --------------------------------------------------------------- */

static enum node_mark mark_of(const struct cluster *c, const struct shl_node_id *id)
{
    const struct sched_node *row = sched_state_node(c->state, id);

    if (row && row->draining.on) {
        return NODE_MARK_DRAINING;
    }
    return row && row->cordoned.on ? NODE_MARK_CORDONED : NODE_MARK_NONE;
}

static enum node_mark mark(struct node_router *router)
{
    struct cluster *c = cluster_of(router);

    return mark_of(c, &c->keys.id);
}

static void describe(struct node_router *router, struct node_cluster *ret)
{
    struct cluster *c = cluster_of(router);
    const struct sched_raft_membership *m = sched_raft_membership(c->log.raft);
    uint32_t i;

    *ret = (struct node_cluster){.self = c->keys.id, .is_witness = c->is_witness};
    shl_hex_encode(ret->id, c->id, sizeof(c->id));
    ret->leader = sched_raft_leader(c->log.raft);
    ret->has_quorum = !shl_node_id_is_none(&ret->leader);
    ret->term = sched_raft_term(c->log.raft);
    ret->commit_index = sched_raft_commit(c->log.raft);
    ret->applied_index = sched_raft_applied(c->log.raft);
    (void)snprintf(ret->digest, sizeof(ret->digest), "%016llx",
                   (unsigned long long)sched_state_digest(c->state));
    for (i = 0; i < m->count && ret->voter_count < SHL_ARRAY_SIZE(ret->voters); i++) {
        if (m->members[i].standing == SCHED_RAFT_VOTER) {
            ret->voters[ret->voter_count++] = m->members[i].id;
        }
    }
}

static enum node_peer_state peer_state(enum gossip_life life)
{
    switch (life) {
    case GOSSIP_ALIVE:
        return NODE_PEER_ALIVE;
    case GOSSIP_SUSPECT:
        return NODE_PEER_SUSPECT;
    case GOSSIP_LEFT:
    case GOSSIP_REMOVED:
        return NODE_PEER_LEFT;
    case GOSSIP_UNHEARD:
    case GOSSIP_DEAD:
        return NODE_PEER_DEAD;
    }
    return NODE_PEER_DEAD;
}

static void fill_figures(const struct cluster_figures *f, struct node_peer *peer)
{
    (void)snprintf(peer->region, sizeof(peer->region), "%s", f->region);
    (void)snprintf(peer->url, sizeof(peer->url), "%s", f->url);
    (void)snprintf(peer->version, sizeof(peer->version), "%s", f->version);
    peer->sandboxes = f->sandboxes;
    peer->hibernated = f->hibernated;
    peer->cpus_total = f->cpus_total;
    peer->memory_total_mb = f->memory_total_mb;
    peer->memory_committed_mb = f->memory_committed_mb;
    peer->cpu_percent = f->load_permille / 10.0;
    peer->memory_percent = f->memory_permille / 10.0;
    if (f->disk_total_mb > 0) {
        peer->disk_percent =
            100.0 * (double)(f->disk_total_mb - SHL_MIN(f->disk_free_mb, f->disk_total_mb)) /
            (double)f->disk_total_mb;
    }
}

static void peers(struct node_router *router,
                  bool (*each)(void *arg, const struct node_peer *peer),
                  void *arg)
{
    struct cluster *c = cluster_of(router);
    uint64_t now_ms = cluster_now_ms();
    uint32_t i;

    for (i = 0; c->gossip && i < gossip_member_count(c->gossip); i++) {
        const struct gossip_member *member = gossip_member_at(c->gossip, i);
        struct node_peer peer = {.id = member->info.id, .disk_percent = -1};
        struct cluster_figures figures;

        if (shl_node_id_equal(&peer.id, &c->keys.id)) {
            continue;
        }
        (void)snprintf(peer.name, sizeof(peer.name), "%.63s", cluster_node_name(c, &peer.id));
        peer.state = peer_state(member->life);
        peer.mark = mark_of(c, &peer.id);
        peer.is_witness = (member->info.flags & GOSSIP_FLAG_WITNESS) != 0;
        peer.is_flapping =
            member->life == GOSSIP_ALIVE && !gossip_is_placeable(c->gossip, &peer.id, now_ms);
        if (cluster_figures_get(c, &peer.id, &figures) == 0) {
            fill_figures(&figures, &peer);
        }
        if (!each(arg, &peer)) {
            return;
        }
    }
}

/* Keys of records are what a peer likes. */
static bool is_word(const char *text)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

    return text[0] && text[strspn(text, letters)] == '\0';
}

static void records(struct node_router *router,
                    const struct shl_node_id *node,
                    const char *org,
                    bool (*each)(void *arg, const struct node_record *record),
                    void *arg)
{
    struct cluster *c = cluster_of(router);
    const struct gossip_record *record =
        c->gossip ? gossip_node_first(c->gossip, node, CLUSTER_KEY_SANDBOX) : NULL;

    for (; record; record = gossip_node_next(record, CLUSTER_KEY_SANDBOX)) {
        const char *id = record->key + strlen(CLUSTER_KEY_SANDBOX);
        struct cluster_sandbox text;
        int rc = is_word(id) ? cluster_wire_read_sandbox(record->value, &text) : SHL_EPROTO;

        text.pub.id = id;
        text.pub.node_name = cluster_node_name(c, node);
        if (rc == 0 && strcmp(text.org, org) == 0 && !each(arg, &text.pub)) {
            return;
        }
    }
}

static void record(struct node_router *router,
                   const char *org,
                   const char *sandbox_id,
                   bool (*each)(void *arg, const struct node_record *record),
                   void *arg)
{
    struct cluster *c = cluster_of(router);
    const struct gossip_record *record = NULL;
    char key[GOSSIP_RECORD_KEY_MAX + 1];
    struct cluster_sandbox text;
    bool goes_on = true;

    if (c->gossip && is_word(sandbox_id) &&
        snprintf(key, sizeof(key), CLUSTER_KEY_SANDBOX "%s", sandbox_id) < (int)sizeof(key)) {
        record = gossip_key_first(c->gossip, key);
    }
    for (; record && goes_on; record = gossip_key_next(record)) {
        if (cluster_wire_read_sandbox(record->value, &text) == 0 &&
            (org[0] == '\0' || strcmp(text.org, org) == 0)) {
            text.pub.id = sandbox_id;
            text.pub.node_name = cluster_node_name(c, &record->node);
            goes_on = each(arg, &text.pub);
        }
    }
}

static int recover(struct node_router *router,
                   const char *org,
                   const char *sandbox_id,
                   struct node_recovery *ret,
                   node_recovery_cb cb,
                   void *arg)
{
    return cluster_recover(cluster_of(router), org, sandbox_id, ret, cb, arg);
}

/* ---- orders ---------------------------------------------------------------------- */

struct pending {
    node_order_cb cb;
    void *arg;
};

static void on_ordered(void *arg, int code, const char *msg, const struct sched_result *result)
{
    struct pending *pending = arg;
    struct node_order outcome = cluster_order_of(code, code < 0 ? msg : NULL);

    (void)result;
    pending->cb(pending->arg, &outcome);
    free(pending);
}

static int order(struct cluster *c,
                 const struct sched_command *command,
                 struct node_order *ret,
                 node_order_cb cb,
                 void *arg)
{
    struct pending *pending = calloc(1, sizeof(*pending));
    struct shl_err err = {0};
    int rc = -ENOMEM;

    if (pending) {
        pending->cb = cb;
        pending->arg = arg;
        rc = cluster_propose(c, command, on_ordered, pending, &err);
    }
    if (rc < 0) {
        free(pending);
        *ret = cluster_order_of(rc, err.msg);
        return 1;
    }
    return 0;
}

static const struct shl_node_id *id_of(const struct cluster *c, const struct node_target *node)
{
    return node->is_local ? &c->keys.id : &node->id;
}

static int set_mark(struct node_router *router,
                    const struct node_target *node,
                    enum node_mark wanted,
                    struct node_order *ret,
                    node_order_cb cb,
                    void *arg)
{
    struct cluster *c = cluster_of(router);

    return cluster_mark(c, id_of(c, node), wanted, ret, cb, arg);
}

static int remove_node(struct node_router *router,
                       const struct node_target *node,
                       struct node_order *ret,
                       node_order_cb cb,
                       void *arg)
{
    struct cluster *c = cluster_of(router);
    struct sched_command command = {.kind = SCHED_NODE_REMOVE};

    command.u.node_remove.node = *id_of(c, node);
    /* one that is gone cannot be drained any more */
    command.u.node_remove.force = !node->is_local && !cluster_members_is_live(c, &node->id);
    (void)snprintf(command.u.node_remove.by, sizeof(command.u.node_remove.by), "%.60s", c->name);
    return order(c, &command, ret, cb, arg);
}

static int join_token(struct node_router *router,
                      uint32_t ttl_s,
                      struct node_order *ret,
                      node_order_cb cb,
                      void *arg)
{
    return cluster_join_token(cluster_of(router), ttl_s, ret, cb, arg);
}

static bool row(struct node_router *router, const char *key, struct node_row *ret)
{
    return cluster_row(cluster_of(router), key, ret);
}

static void rows(struct node_router *router,
                 const char *prefix,
                 bool (*each)(void *arg, const struct node_row *row),
                 void *arg)
{
    cluster_rows(cluster_of(router), prefix, each, arg);
}

static int row_change(struct node_router *router,
                      const struct node_row_change *change,
                      struct node_order *ret,
                      node_order_cb cb,
                      void *arg)
{
    return cluster_row_change(cluster_of(router), change, ret, cb, arg);
}

static int forget(struct node_router *router,
                  const char *checkpoint,
                  struct node_order *ret,
                  node_order_cb cb,
                  void *arg)
{
    return cluster_forget(cluster_of(router), checkpoint, ret, cb, arg);
}

static int row_sync(struct node_router *router, struct node_order *ret, node_order_cb cb, void *arg)
{
    return cluster_row_sync(cluster_of(router), ret, cb, arg);
}

static int seal_key(struct node_router *router,
                    uint32_t generation,
                    struct node_seal_key *ret,
                    struct shl_err *err)
{
    return cluster_seal_key(cluster_of(router), generation, ret, err);
}

static void watch_rows(struct node_router *router,
                       void (*changed)(void *arg, const char *key),
                       void *arg)
{
    struct cluster *c = cluster_of(router);

    c->keyring.changed = changed;
    c->keyring.changed_arg = arg;
}

static int backup(struct node_router *router, struct shl_buf *out, struct shl_err *err)
{
    struct cluster *c = cluster_of(router);

    if (!sched_lease_valid(&c->lease, cluster_now_ms())) {
        return shl_err_set(err, SHL_EUNAVAILABLE,
                           "this node has no contact to the majority, so its copy may be old: ask "
                           "another one");
    }
    return cluster_backup_write(c->state, c->name, out, err);
}

static int metrics(struct node_router *router, struct shl_buf *out)
{
    return cluster_metrics(cluster_of(router), out);
}

void cluster_router_init(struct cluster *c)
{
    static const struct node_router_ops ops = {
        .where = where,
        .where_checkpoint = where_checkpoint,
        .place = place,
        .claim = claim_key,
        .mark = mark,
        .cluster = describe,
        .peers = peers,
        .records = records,
        .record = record,
        .bring = bring,
        .forget = forget,
        .durability = durability,
        .move = move,
        .drop = drop,
        .recover = recover,
        .evict = evict,
        .set_mark = set_mark,
        .remove = remove_node,
        .join_token = join_token,
        .row = row,
        .rows = rows,
        .row_change = row_change,
        .row_sync = row_sync,
        .seal_key = seal_key,
        .watch_rows = watch_rows,
        .backup = backup,
        .metrics = metrics,
    };

    c->router.ops = &ops;
    c->router.opener = node_mesh_opener(c->mesh);
}
