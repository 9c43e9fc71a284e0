#include "node/cluster/cluster.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/id.h"
#include "base/io.h"
#include "node/cluster/cluster_private.h"
#include "node/cluster/owners.h"
#include "node/cluster/replicas.h"
#include "node/http/wire.h"

#define SLOW_PATIENCE 4
#define LEAVE_MS      500

uint64_t cluster_now_ms(void)
{
    return uv_hrtime() / 1000000;
}

uint64_t cluster_wall_ms(void)
{
    return (uint64_t)shl_realtime_ms();
}

uint32_t cluster_patience_ms(const struct cluster *c, uint32_t ms)
{
    return c->is_slow ? ms * SLOW_PATIENCE : ms;
}

const char *cluster_name(const struct cluster *cluster)
{
    return cluster->name;
}

const char *cluster_node_name(const struct cluster *c, const struct shl_node_id *id)
{
    static char text[SHL_MAX(SHL_NODE_ID_TEXT_SIZE, GOSSIP_NAME_SIZE)];
    const struct gossip_member *member;
    const struct sched_node *row;

    if (shl_node_id_equal(id, &c->keys.id)) {
        return c->name;
    }
    row = c->state ? sched_state_node(c->state, id) : NULL;
    if (row) { /* what it was admitted as, not what it says now */
        return row->spec.name;
    }
    member = c->gossip ? gossip_member_find(c->gossip, id) : NULL;
    if (member && member->info.name[0]) {
        (void)snprintf(text, sizeof(text), "%s", member->info.name);
        cluster_wire_clean(text);
    } else {
        shl_node_id_format(text, id);
    }
    return text;
}

void cluster_describe(const struct cluster *c, struct sched_node_spec *spec)
{
    spec->id = c->keys.id;
    memcpy(spec->key, c->keys.public_key, sizeof(spec->key));
    (void)snprintf(spec->name, sizeof(spec->name), "%s", c->name);
    node_mesh_addr_format(spec->control, &c->addr);
    (void)snprintf(spec->bulk, sizeof(spec->bulk), "%s", spec->control);
    (void)snprintf(spec->domain, sizeof(spec->domain), "%s", c->domain);
    spec->role = c->is_witness ? SCHED_ROLE_WITNESS : SCHED_ROLE_VOTER;
    spec->features = SCHED_FEATURES_KNOWN;
}

void cluster_joined(struct cluster *c, int code, const char *msg)
{
    void (*joined)(void *arg, int code, const char *msg) = c->joined;

    c->joined = NULL;
    if (joined) {
        joined(c->joined_arg, code, msg ? msg : "");
    }
}

/* ---- the mesh -------------------------------------------------------------------- */

static void link_changed(struct cluster *c, const struct shl_node_id *peer, bool up)
{
    struct gossip_event gossip = {.type = GOSSIP_EV_LINK, .link = {*peer, up}};
    struct sched_raft_event raft = {.type = SCHED_RAFT_PEER_LINK, .u.link = {*peer, up}};

    if (c->is_closing) {
        return;
    }
    cluster_members_feed(c, &gossip);
    cluster_log_event(c, &raft);
}

static void on_link_up(void *arg, const struct shl_node_id *peer, uint64_t boot, uint32_t version)
{
    struct cluster *c = arg;

    SHL_LOG(&c->log_sink, SHL_LOG_INFO, "link_up", SHL_S("node", cluster_node_name(c, peer)),
            SHL_I("boot", (int64_t)boot), SHL_I("version", version));
    link_changed(c, peer, true);
}

static void on_link_down(void *arg, const struct shl_node_id *peer, const char *reason)
{
    struct cluster *c = arg;

    SHL_LOG(&c->log_sink, SHL_LOG_INFO, "link_down", SHL_S("node", cluster_node_name(c, peer)),
            SHL_S("reason", reason));
    link_changed(c, peer, false);
}

static void on_refused(void *arg,
                       const struct shl_node_id *peer,
                       enum node_mesh_refusal why,
                       const char *msg)
{
    struct cluster *c = arg;
    /* it has never met, or does not know any more, one that this node takes for a fellow member */
    bool is_stranger = why == NODE_MESH_REFUSED_FORBIDDEN || why == NODE_MESH_REFUSED_KEY;
    bool is_member = c->state && sched_state_node(c->state, peer) && !c->is_joining;

    SHL_LOG(&c->log_sink, SHL_LOG_WARN, "refused_by_node",
            SHL_S("node", cluster_node_name(c, peer)), SHL_S("why", node_mesh_refusal_name(why)),
            SHL_S("reason", msg),
            SHL_S("effect", is_stranger && is_member
                                ? "that node does not take this one for a member: this node was "
                                  "removed from the cluster, by shoal node rm or shoal cluster "
                                  "recover. Then stop it, and let it join anew with an empty data "
                                  "folder"
                                : ""));
}

static void on_conflict(void *arg, const struct shl_node_id *peer)
{
    struct cluster *c = arg;

    SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "copied_identity",
            SHL_S("node", cluster_node_name(c, peer)),
            SHL_S("effect", "two processes run with the identity of one node: stop one of them and "
                            "give it an empty data folder and a token"));
}

static int open_mesh(struct cluster *c, const char *listen, struct shl_err *err)
{
    static const struct node_mesh_user user = {on_link_up, on_link_down, on_refused, on_conflict};
    struct node_mesh_config config = {
        .keys = &c->keys, .user = &user, .arg = c, .log = &c->log_sink};
    struct node_mesh_addr addr;

    if (node_mesh_addr_parse(listen, &addr) < 0) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "--mesh takes ADDR:PORT with an IP address, not '%s'", listen);
    }
    config.bind_host = addr.host;
    config.control_port = addr.control_port;
    config.bulk_port = addr.bulk_port;
    memcpy(config.cluster, c->id, sizeof(config.cluster));
    c->addr.control_port = addr.control_port;
    c->addr.bulk_port = addr.bulk_port;
    config.self = &c->addr;
    config.version_min = c->version_min;
    config.version_max = c->version_max;
    return node_mesh_open(c->loop, &config, &c->mesh, err);
}

static int on_request(void *arg,
                      struct node_stream *stream,
                      struct shl_bytes head,
                      struct shl_err *err)
{
    struct cluster *c = arg;

    if (!c->accept || c->is_closing) {
        return shl_err_set(err, SHL_EUNAVAILABLE, "the node %s does not serve right now", c->name);
    }
    return c->accept(c->accept_arg, stream, head, err);
}

/* ---- opening --------------------------------------------------------------------- */

static int copy_text(char *dst,
                     size_t size,
                     const char *text,
                     const char *what,
                     struct shl_err *err)
{
    if (snprintf(dst, size, "%s", text ? text : "") >= (int)size) {
        return shl_err_set(err, SHL_EINVALIDARG, "%s is too long", what);
    }
    return 0;
}

/* Where people reach this node's API, as far as it can be told. */
static int copy_url(struct cluster *c, const struct cluster_config *config, struct shl_err *err)
{
    const char *port = config->api_listen ? strrchr(config->api_listen, ':') : NULL;
    bool is_six = strchr(c->addr.host, ':') != NULL;
    char text[NODE_URL_TEXT_SIZE];

    if (config->api_url) {
        return copy_text(c->api_url, sizeof(c->api_url), config->api_url, "--public-url", err);
    }
    if (!port || strncmp(config->api_listen, "127.", 4) == 0) {
        return 0; /* nobody else reaches it */
    }
    (void)snprintf(text, sizeof(text), "http://%s%s%s%s", is_six ? "[" : "", c->addr.host,
                   is_six ? "]" : "", port);
    return copy_text(c->api_url, sizeof(c->api_url), text, "the API's address", err);
}

static int copy_config(struct cluster *c, const struct cluster_config *config, struct shl_err *err)
{
    int rc = copy_text(c->name, sizeof(c->name), config->name, "the node's name", err);

    if (rc == 0) {
        rc = copy_text(c->region, sizeof(c->region), config->region, "--region", err);
    }
    if (rc == 0) {
        rc = copy_text(c->domain, sizeof(c->domain),
                       config->failure_domain ? config->failure_domain : "", "--failure-domain",
                       err);
    }
    if (rc == 0) {
        rc = config->address ? copy_text(c->addr.host, sizeof(c->addr.host), config->address,
                                         "--mesh-address", err)
                             : cluster_own_address(c->addr.host, err);
    }
    if (rc == 0) {
        rc = copy_url(c, config, err);
    }
    c->data_dir = strdup(config->data_dir);
    c->is_witness = config->witness;
    c->version_min = config->version_max ? config->version_min : NODE_MESH_VERSION_MIN;
    c->version_max = config->version_max ? config->version_max : NODE_MESH_VERSION_MAX;
    c->is_slow = config->slow;
    c->log_sink = config->log ? *config->log : (struct shl_log){.fd = -1};
    c->log_sink.subsystem = "cluster";
    return rc == 0 && !c->data_dir ? shl_err_sys(err, ENOMEM, "cannot open the cluster") : rc;
}

/* The folder of the keys, which is open, has as long a name. */
static void log_dir(const struct cluster *c, char dir[4096])
{
    (void)snprintf(dir, 4096, "%s/mesh/log", c->data_dir);
}

/* The first start of a node that was given no token. */
static int found(struct cluster *c, struct shl_err *err)
{
    struct sched_raft_membership membership = {.count = 1};
    struct sched_raft_event event = {.type = SCHED_RAFT_BOOTSTRAP};
    uint8_t id[NODE_CLUSTER_BYTES];
    char dir[4096];
    int rc;

    if (c->is_witness) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "a witness cannot be the first node of a cluster: give it a token with "
                           "--join");
    }
    log_dir(c, dir);
    if (access(dir, F_OK) == 0) {
        return shl_err_set(err, SHL_ECORRUPT,
                           "the records of this node in %s/db are gone, but %s/mesh says that it "
                           "was in a cluster: put them back, or let it join anew with an empty "
                           "data folder",
                           c->data_dir, c->data_dir);
    }
    c->is_founding = true;
    shl_random_bytes(id, sizeof(id));
    rc = cluster_standing_save(c, CLUSTER_STANDING_FOUNDING, err);
    if (rc == 0) {
        rc = cluster_identity_save(c, id, err);
    }
    if (rc == 0) {
        node_mesh_set_cluster(c->mesh, c->id);
        rc = cluster_begin(c, err);
    }
    if (rc == 0) {
        membership.members[0] = (struct sched_raft_member){
            .id = c->keys.id, .standing = SCHED_RAFT_VOTER, .witness = c->is_witness};
        event.u.bootstrap.membership = &membership;
        cluster_log_event(c, &event);
        SHL_LOG(&c->log_sink, SHL_LOG_INFO, "founding", SHL_S("node", c->name));
    }
    return rc;
}

/* A founder that stopped between its record and its first log entry. Whoever was a member and
 * has no log has lost it, and must not begin another one. */
static int found_again(struct cluster *c, struct shl_err *err)
{
    struct sched_raft_membership membership = {.count = 1};
    struct sched_raft_event event = {.type = SCHED_RAFT_BOOTSTRAP};

    if (c->is_joining || sched_raft_membership(c->log.raft)->count > 0) {
        return 0;
    }
    if (!c->is_founding) {
        return shl_err_set(err, SHL_ECORRUPT,
                           "the log of the cluster in %s/mesh/log is gone: put it back, or remove "
                           "this node from the cluster and let it join anew with an empty data "
                           "folder",
                           c->data_dir);
    }
    membership.members[0] = (struct sched_raft_member){
        .id = c->keys.id, .standing = SCHED_RAFT_VOTER, .witness = c->is_witness};
    event.u.bootstrap.membership = &membership;
    cluster_log_event(c, &event);
    return 0;
}

int cluster_begin(struct cluster *c, struct shl_err *err)
{
    struct sched_raft_event tick = {.type = SCHED_RAFT_TICK};
    char dir[4096];
    int rc;

    log_dir(c, dir);
    rc = cluster_log_open(c, dir, err);
    if (rc == 0) {
        rc = cluster_members_open(c, err);
    }
    if (rc == 0) {
        cluster_apply_all(c);
        cluster_apply_hints(c);
        cluster_publish_open(c);
        cluster_log_event(c, &tick);
    }
    return rc;
}

static void on_tick(uv_timer_t *timer)
{
    struct cluster *c = timer->data;
    uint64_t now_ms = cluster_now_ms();

    if (!c->log.raft || c->is_closing) {
        return;
    }
    cluster_publish_tick(c, now_ms);
    cluster_lead_tick(c, now_ms);
    cluster_own_tick(c, now_ms);
    cluster_keyring_tick(c, now_ms);
    cluster_evict_tick(c);
    cluster_rows_applied(c);
    cluster_recover_tick(c, now_ms);
    cluster_lost_tick(c, now_ms);
    cluster_join_watch(c);
    if (!c->is_joining && !c->is_founding) {
        cluster_joined(c, 0, "");
    }
}

static void init_timer(struct cluster *c, uv_timer_t *timer)
{
    (void)uv_timer_init(c->loop, timer);
    timer->data = c;
}

/* Let in, and stopped before it settled. Unless it remembers a member it has to ask again: the
 * members' keys came with the answer. */
static int join_again(struct cluster *c, struct shl_err *err)
{
    if (c->gossip && gossip_member_count(c->gossip) > 1) {
        cluster_join_close(c);
    } else if (!c->join) {
        return shl_err_set(err, SHL_EAUTH,
                           "this node was let into its cluster, but stopped before it heard of "
                           "the others: start it with --join and its token once more");
    }
    return 0;
}

static int open_parts(struct cluster *c, const struct cluster_config *config, struct shl_err *err)
{
    const struct cluster_replicas_config replicas = {config->replicas, config->replica_grace_ms};
    char dir[4096];
    uint64_t seed;
    int rc;

    shl_random_bytes(&seed, sizeof(seed));
    rc = sched_place_init(&c->place, seed, 0);
    if (rc < 0) {
        return shl_err_sys(err, ENOMEM, "cannot open the cluster");
    }
    sched_leases_init(&c->leases, SCHED_LEASE_MS, 0);
    sched_lease_init(&c->lease, SCHED_LEASE_MS, 0);
    rc = copy_config(c, config, err);
    if (rc == 0) {
        (void)snprintf(dir, sizeof(dir), "%s/mesh", c->data_dir);
        rc = node_mesh_keys_open(dir, &c->keys, err);
    }
    if (rc == 0) {
        rc = cluster_identity_load(c, err);
    }
    if (rc == 0) {
        rc = open_mesh(c, config->listen, err);
    }
    if (rc < 0) {
        return rc;
    }
    cluster_router_init(c);
    cluster_join_init(c);
    cluster_propose_init(c);
    cluster_mark_init(c);
    cluster_place_init(c);
    cluster_where_init(c);
    cluster_take_init(c);
    cluster_evict_init(c);
    rc = cluster_replicas_open(c, &replicas, err);
    if (rc == 0) {
        rc = cluster_owners_open(c, err);
    }
    if (rc < 0) {
        return rc;
    }
    node_mesh_accept(c->mesh, NODE_WIRE_KIND, on_request, c);
    if (config->join) {
        rc = cluster_join_start(c, config->join, err);
    }
    if (rc == 0 && c->has_id) {
        rc = cluster_begin(c, err);
        if (rc == 0) {
            rc = found_again(c, err);
        }
        if (rc == 0 && c->is_joining) {
            rc = join_again(c, err);
        }
    } else if (rc == 0 && !c->join) {
        rc = found(c, err);
    }
    return rc;
}

int cluster_open(uv_loop_t *loop,
                 struct node_store *store,
                 struct node_manager *manager,
                 const struct cluster_config *config,
                 void (*joined)(void *arg, int code, const char *msg),
                 void *arg,
                 struct cluster **ret_cluster,
                 struct shl_err *err)
{
    struct cluster *c = calloc(1, sizeof(*c));
    int rc;

    if (!c) {
        return shl_err_sys(err, ENOMEM, "cannot open the cluster");
    }
    shl_list_init(&c->jobs);
    shl_list_init(&c->takes);
    shl_list_init(&c->moves);
    c->opened_at_ms = cluster_now_ms();
    c->loop = loop;
    c->store = store;
    c->manager = manager;
    c->joined = joined;
    c->joined_arg = arg;
    c->restart = config->restart;
    shl_list_init(&c->orders);
    shl_list_init(&c->row_waits);
    shl_list_init(&c->marks);
    shl_list_init(&c->log.proposals);
    shl_list_init(&c->log.done);
    init_timer(c, &c->tick);
    init_timer(c, &c->gossip_timer);
    init_timer(c, &c->log.timer);
    rc = open_parts(c, config, err);
    if (rc < 0) {
        c->joined = NULL;
        cluster_close(c, NULL, NULL);
        return rc;
    }
    (void)uv_timer_start(&c->tick, on_tick, 0, CLUSTER_TICK_MS);
    *ret_cluster = c;
    return 0;
}

/* ---- closing --------------------------------------------------------------------- */

/* Their answers come from the manager, which is closed after the cluster. */
static void leave_jobs(struct cluster *c)
{
    struct shl_list *first;

    while ((first = shl_list_first(&c->jobs))) {
        shl_list_remove(first);
        shl_container_of(first, struct cluster_job, link)->cluster = NULL;
    }
}

void cluster_close_part(void *arg)
{
    struct cluster *c = arg;
    void (*cb)(void *arg) = c->close_cb;
    void *cb_arg = c->close_arg;

    assert(c->handles > 0);
    if (--c->handles > 0 || !c->is_closing) {
        return;
    }
    leave_jobs(c);
    if (c->gossip) {
        gossip_free(c->gossip);
    }
    gossip_actions_release(&c->gossip_actions);
    cluster_owners_free(c);
    free(c->recovery);
    cluster_replicas_free(c);
    cluster_log_free(c);
    sched_place_release(&c->place);
    node_mesh_keys_release(&c->keys);
    free(c->data_dir);
    free(c);
    if (cb) {
        cb(cb_arg);
    }
}

void cluster_job_begin(struct cluster *c, struct cluster_job *job)
{
    job->cluster = c;
    shl_list_push_back(&c->jobs, &job->link);
}

void cluster_job_end(struct cluster_job *job)
{
    shl_list_remove(&job->link);
}

static void on_handle_closed(uv_handle_t *handle)
{
    cluster_close_part(handle->data);
}

static void close_handle(struct cluster *c, uv_timer_t *timer)
{
    c->handles++;
    uv_close((uv_handle_t *)timer, on_handle_closed);
}

/* Transfers use the mesh, the mesh calls the server of chunks: they close in this order. */
static void on_mesh_closed(void *arg)
{
    cluster_replicas_close_server(arg, cluster_close_part);
}

static void on_replicas_closed(void *arg)
{
    struct cluster *c = arg;

    if (c->mesh) {
        node_mesh_close(c->mesh, LEAVE_MS, on_mesh_closed, c);
    } else {
        cluster_close_part(c);
    }
}

void cluster_close(struct cluster *c, void (*cb)(void *arg), void *arg)
{
    struct gossip_event leave = {.type = GOSSIP_EV_LEAVE};

    c->handles++; /* this function's own, until all others are counted */
    if (c->manager) {
        cluster_publish_close(c);
    }
    if (c->lead.is_leader && sched_raft_membership_voters(sched_raft_membership(c->log.raft)) > 1) {
        static const struct shl_node_id whoever;

        (void)cluster_log_transfer(c, &whoever); /* nobody has to miss this node first */
    }
    cluster_members_feed(c, &leave);
    c->is_closing = true;
    c->close_cb = cb;
    c->close_arg = arg;
    c->joined = NULL;
    cluster_join_close(c);
    cluster_moves_close(c);
    cluster_marks_close(c);
    cluster_takes_close(c);
    cluster_owners_close(c);
    c->handles++; /* replicas, mesh, server */
    cluster_replicas_close(c, on_replicas_closed);
    cluster_log_close(c); /* tells the orders that wait for an entry */
    cluster_propose_close(c);
    cluster_rows_close(c);
    close_handle(c, &c->tick);
    close_handle(c, &c->gossip_timer);
    close_handle(c, &c->log.timer);
    cluster_close_part(c);
}

struct node_router *cluster_router(struct cluster *cluster)
{
    return &cluster->router;
}

void cluster_accept(struct cluster *cluster, node_stream_accept accept, void *arg)
{
    cluster->accept = accept;
    cluster->accept_arg = arg;
}
