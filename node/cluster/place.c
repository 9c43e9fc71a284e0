/* Where a sandbox starts: decided by the leader from what all nodes say of themselves; by
 * this node from what it sees, while there is no leader (new ids cannot collide, so creating
 * works on both sides of a partition). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "node/cluster/cluster_private.h"

#define PLACE_BYTES_MAX (64u * 1024)

/* Nodes as they are now, with the strings that the views point at. */
struct views {
    struct sched_view items[SCHED_NODES_MAX];
    const char *wanted[SCHED_NODES_MAX]; /* the template, where it is held */
    uint32_t count;
};

struct question {
    struct cluster *cluster;
    node_answer_cb cb;
    void *arg;
    struct cluster_placing placing; /* for deciding here after all */
};

static bool holds_template(const struct cluster *c, const struct shl_node_id *id, const char *name)
{
    char key[GOSSIP_RECORD_KEY_MAX + 1];

    if (snprintf(key, sizeof(key), CLUSTER_KEY_TEMPLATE "%s", name) >= (int)sizeof(key)) {
        return false;
    }
    return gossip_record_get(c->gossip, id, key) != NULL;
}

static void fill_view(struct cluster *c,
                      const struct sched_node *row,
                      const char *template_name,
                      struct views *views)
{
    const struct gossip_member *member = gossip_member_find(c->gossip, &row->spec.id);
    uint32_t i = views->count;
    struct sched_view *view = &views->items[i];
    struct cluster_figures figures;

    *view = (struct sched_view){
        .id = row->spec.id,
        .name = row->spec.name,
        .cordoned = row->cordoned.on,
        .draining = row->draining.on,
        .witness = row->spec.role == SCHED_ROLE_WITNESS,
    };
    views->count++;
    if (cluster_figures_get(c, &row->spec.id, &figures) < 0) {
        return; /* it has said nothing yet: not alive for placements */
    }
    view->alive = member && member->life == GOSSIP_ALIVE;
    view->flapping =
        view->alive && !gossip_is_placeable(c->gossip, &row->spec.id, cluster_now_ms());
    view->version = figures.admitted;
    view->capacity = (struct sched_amount){figures.cpus_total, figures.memory_usable_mb,
                                           figures.disk_total_mb, figures.sandboxes_max};
    view->committed = (struct sched_amount){figures.cpus_committed, figures.memory_committed_mb,
                                            figures.disk_total_mb - SHL_MIN(figures.disk_free_mb,
                                                                            figures.disk_total_mb),
                                            figures.sandboxes};
    view->load_permille = figures.load_permille;
    if (template_name[0] && holds_template(c, &row->spec.id, template_name)) {
        views->wanted[i] = template_name;
        view->templates = &views->wanted[i];
        view->template_count = 1;
    }
}

static void collect(struct cluster *c, const char *template_name, struct views *views)
{
    size_t i;

    for (i = 0; c->gossip && i < sched_state_count(c->state, SCHED_TABLE_NODES); i++) {
        fill_view(c, sched_state_at(c->state, SCHED_TABLE_NODES, i), template_name, views);
    }
}

static void add_target(struct cluster *c, struct node_answer *ret, const struct sched_view *view)
{
    struct node_target *target = &ret->targets[ret->target_count++];

    *target = (struct node_target){.id = view->id};
    target->is_local = shl_node_id_equal(&view->id, &c->keys.id);
    (void)snprintf(target->name, sizeof(target->name), "%.63s", view->name);
}

static void add_refusals(struct node_answer *ret,
                         const struct sched_placement *placement,
                         const struct sched_view *views)
{
    uint32_t i;

    for (i = 0; i < placement->refused_count && i < NODE_REFUSALS_MAX; i++) {
        struct node_reason *refusal = &ret->refusals[ret->refusal_count++];

        (void)snprintf(refusal->name, sizeof(refusal->name), "%.63s",
                       views[placement->refused[i].view].name);
        sched_refusal_text(refusal->reason, sizeof(refusal->reason), &placement->refused[i], views);
    }
}

/* A sandbox's vCPUs share the node's and its disk is sparse: memory is what is promised. */
static const struct sched_ratios ratios = {.cpus = 1600, .memory = SCHED_RATIO_ONE, .disk = 2000};

/* Best effort: without a promise the node itself still counts. */
static void promise(struct cluster *c,
                    const struct sched_view *view,
                    const struct sched_place_request *request,
                    uint64_t now_ms)
{
    uint64_t deadline_ms = now_ms + cluster_patience_ms(c, CLUSTER_PLACE_MS);
    uint64_t reservation;
    int rc = sched_place_take(&c->place, view, request, deadline_ms, &reservation);

    if (rc < 0) {
        SHL_LOG(&c->log_sink, SHL_LOG_DEBUG, "not_reserved", SHL_S("node", view->name),
                SHL_S("reason", shl_err_text(rc)));
    }
}

/* A decision that is being made. */
struct decision {
    struct cluster *c;
    struct views views;
    struct sched_placement placement;
    struct sched_place_request request;
    uint64_t now_ms;
};

static bool is_target(const struct node_answer *answer, const struct shl_node_id *id)
{
    size_t i;

    for (i = 0; i < answer->target_count; i++) {
        if (shl_node_id_equal(&answer->targets[i].id, id)) {
            return true;
        }
    }
    return false;
}

/* @id, when it takes anything: NULL if not. */
static const struct sched_view *open_view(const struct decision *d, const struct shl_node_id *id)
{
    uint32_t i;

    for (i = 0; i < d->views.count; i++) {
        const struct sched_view *view = &d->views.items[i];

        if (shl_node_id_equal(&view->id, id)) {
            return view->alive && !view->cordoned && !view->draining && !view->witness ? view
                                                                                       : NULL;
        }
    }
    return NULL;
}

static void add_candidates(const struct decision *d, struct node_answer *ret)
{
    uint32_t i;

    for (i = 0; i < d->placement.candidate_count && ret->target_count < NODE_TARGETS_MAX; i++) {
        const struct sched_view *view = &d->views.items[d->placement.candidates[i].view];

        if (!is_target(ret, &view->id)) {
            add_target(d->c, ret, view);
        }
    }
}

/* A snapshot of what another node builds: there, or where it can be waited for. */
static void decide_join(struct decision *d,
                        const struct sched_view *builder,
                        struct node_answer *ret)
{
    d->request.memory_mb = 1;
    ret->code = sched_place_decide(&d->c->place, d->views.items, d->views.count, &d->request,
                                   d->now_ms, &d->placement);
    if (builder) {
        add_target(d->c, ret, builder);
        ret->code = 0;
    }
    add_candidates(d, ret);
}

/* Where there is room: for the sandbox when its image is there or comes, else for a builder. Until
 * the row of a build is there, any node could be the first to build it, so it needs the room. */
static void decide_room(struct decision *d,
                        const struct node_place *what,
                        enum cluster_building building,
                        const struct sched_view *builder,
                        struct node_answer *ret)
{
    if (building == CLUSTER_BUILD_KNOWN) {
        d->request.memory_mb = what->joined_mb;
    }
    ret->code = sched_place_decide(&d->c->place, d->views.items, d->views.count, &d->request,
                                   d->now_ms, &d->placement);
    add_candidates(d, ret);
    if (ret->code == 0) {
        const struct sched_view *first = &d->views.items[d->placement.candidates[0].view];

        if (building != CLUSTER_BUILD_NEW) {
            d->request.memory_mb = what->joined_mb;
        } else if (what->build) {
            cluster_build_note(d->c, what->build, d->now_ms, &first->id);
        }
        promise(d->c, first, &d->request, d->now_ms);
    }
    if (builder && !is_target(ret, &builder->id)) { /* when it has built there may be room */
        ret->target_count = SHL_MIN(ret->target_count, (size_t)NODE_TARGETS_MAX - 1);
        add_target(d->c, ret, builder);
        ret->code = 0;
    }
}

static void decide_among(struct decision *d, const struct node_place *what, struct node_answer *ret)
{
    struct shl_node_id id;
    enum cluster_building building = cluster_build_find(d->c, what->build, d->now_ms, &id);
    const struct sched_view *builder = open_view(d, &id);

    if (building == CLUSTER_BUILD_CHOSEN && !builder) {
        building = CLUSTER_BUILD_NEW;
    }
    if (building != CLUSTER_BUILD_NEW && what->joined_mb == 0) {
        decide_join(d, builder, ret);
    } else {
        decide_room(d, what, building, builder, ret);
    }
}

static void decide(struct cluster *c, const struct node_place *what, struct node_answer *ret)
{
    struct decision *d = calloc(1, sizeof(*d));

    *ret = (struct node_answer){.code = -ENOMEM};
    if (!d) {
        return;
    }
    d->c = c;
    d->now_ms = cluster_now_ms();
    d->request = (struct sched_place_request){
        .cpus = what->cpus,
        .memory_mb = what->memory_mb,
        .disk_mb = what->disk_mb,
        .template_name = what->template_name,
        .ratios = ratios,
    };
    collect(c, what->template_name, &d->views);
    decide_among(d, what, ret);
    add_refusals(ret, &d->placement, d->views.items);
    if (ret->code < 0) {
        sched_placement_text(ret->msg, sizeof(ret->msg), &d->placement);
    }
    free(d);
}

static struct cluster_seen *seen_of(struct cluster *c, const struct shl_node_id *node)
{
    uint32_t i;

    for (i = 0; i < c->seen_count; i++) {
        if (shl_node_id_equal(&c->seen[i].node, node)) {
            return &c->seen[i];
        }
    }
    if (c->seen_count == SCHED_NODES_MAX) {
        return NULL; /* its promises end by their deadline */
    }
    c->seen[c->seen_count] = (struct cluster_seen){.node = *node};
    return &c->seen[c->seen_count++];
}

static uint64_t oldest_of(const struct sched_reserves *r, const struct shl_node_id *node)
{
    uint32_t i;

    for (i = 0; i < r->count; i++) {
        if (shl_node_id_equal(&r->items[i].node, node)) {
            return r->items[i].id;
        }
    }
    return 0;
}

/* Every admission that shows in the node's own figures ends the oldest promise. */
void cluster_place_seen(struct cluster *c, const struct shl_node_id *node, uint64_t admitted)
{
    struct cluster_seen *seen = seen_of(c, node);
    uint64_t id;

    if (!seen) {
        return;
    }
    if (admitted < seen->admitted) { /* its daemon was restarted */
        seen->admitted = 0;
    }
    for (; seen->admitted < admitted && (id = oldest_of(&c->place.reserves, node));
         seen->admitted++) {
        (void)sched_reserve_release(&c->place.reserves, id);
    }
    seen->admitted = admitted;
}

/* ---- over the mesh --------------------------------------------------------------- */

static void on_place(void *arg,
                     struct node_mesh_call *call,
                     const struct shl_node_id *from,
                     struct shl_bytes body)
{
    struct cluster *c = arg;
    struct cluster_placing placing;
    struct node_answer answer;
    struct shl_buf buf;
    int rc;

    (void)from;
    shl_buf_init(&buf, PLACE_BYTES_MAX);
    rc = c->lead.is_ready ? cluster_wire_read_place(body, &placing) : SHL_EUNAVAILABLE;
    if (rc == 0) {
        decide(c, &placing.what, &answer);
        rc = cluster_wire_write_placed(&buf, &answer);
    }
    node_mesh_reply(call, rc, NULL, shl_buf_bytes(&buf));
    shl_buf_release(&buf);
}

static void on_answer(void *arg, int code, const char *msg, struct shl_bytes body)
{
    struct question *question = arg;
    struct cluster *c = question->cluster;
    struct node_answer answer;

    (void)msg;
    if (c->is_closing) {
        answer = (struct node_answer){.code = -ECANCELED};
    } else if (code < 0 || cluster_wire_read_placed(body, &c->keys.id, &answer) < 0) {
        /* no scheduler in reach: this node sees enough to place by itself */
        decide(c, &question->placing.what, &answer);
    }
    question->cb(question->arg, &answer);
    free(question);
}

static int ask_leader(struct cluster *c,
                      const struct shl_node_id *leader,
                      const struct node_place *what,
                      node_answer_cb cb,
                      void *arg)
{
    struct question *question = calloc(1, sizeof(*question));
    struct shl_buf buf;
    int rc;

    if (!question) {
        return -ENOMEM;
    }
    question->cluster = c;
    question->cb = cb;
    question->arg = arg;
    shl_buf_init(&buf, PLACE_BYTES_MAX);
    rc = cluster_wire_write_place(&buf, what);
    if (rc == 0) {
        rc = cluster_wire_read_place(shl_buf_bytes(&buf), &question->placing);
    }
    if (rc == 0) {
        rc = node_mesh_ask(c->mesh, leader, CLUSTER_RPC_PLACE, shl_buf_bytes(&buf),
                           cluster_patience_ms(c, CLUSTER_ASK_MS), on_answer, question, NULL, NULL);
    }
    shl_buf_release(&buf);
    if (rc < 0) {
        free(question);
    }
    return rc;
}

int cluster_place(struct cluster *c,
                  const struct node_place *what,
                  struct node_answer *ret,
                  node_answer_cb cb,
                  void *arg)
{
    struct shl_node_id leader = sched_raft_leader(c->log.raft);

    if (!c->lead.is_ready && !shl_node_id_is_none(&leader) &&
        !shl_node_id_equal(&leader, &c->keys.id) && ask_leader(c, &leader, what, cb, arg) == 0) {
        return 0;
    }
    decide(c, what, ret);
    return 1;
}

void cluster_place_init(struct cluster *c)
{
    node_mesh_serve(c->mesh, CLUSTER_RPC_PLACE, PLACE_BYTES_MAX, on_place, c);
}
