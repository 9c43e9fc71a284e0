/* Where a sandbox starts: decided by the leader from what all nodes say of themselves; by
 * this node from what it sees, while there is no leader (new ids cannot collide, so creating
 * works on both sides of a partition). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "base/mp.h"
#include "node/cluster/cluster_private.h"

#define PLACE_VERSION   1
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
    char template_name[NODE_TEMPLATE_MAX]; /* the request, for deciding here after all */
    uint32_t cpus, memory_mb, disk_mb;
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

static void decide(struct cluster *c, const struct node_place *what, struct node_answer *ret)
{
    struct views *views = calloc(1, sizeof(*views));
    struct sched_placement *placement = calloc(1, sizeof(*placement));
    struct sched_place_request request = {
        .cpus = what->cpus,
        .memory_mb = what->memory_mb,
        .disk_mb = what->disk_mb,
        .template_name = what->template_name,
        .ratios = ratios,
    };
    uint64_t now_ms = cluster_now_ms();
    uint32_t i;

    *ret = (struct node_answer){.code = -ENOMEM};
    if (views && placement) {
        collect(c, what->template_name, views);
        ret->code =
            sched_place_decide(&c->place, views->items, views->count, &request, now_ms, placement);
        for (i = 0; i < placement->candidate_count && i < NODE_TARGETS_MAX; i++) {
            add_target(c, ret, &views->items[placement->candidates[i].view]);
        }
        add_refusals(ret, placement, views->items);
        if (ret->code < 0) {
            sched_placement_text(ret->msg, sizeof(ret->msg), placement);
        } else {
            promise(c, &views->items[placement->candidates[0].view], &request, now_ms);
        }
    }
    free(views);
    free(placement);
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

static int write_question(struct shl_buf *buf, const struct node_place *what)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", PLACE_VERSION);
    shl_mp_kv_str(&w, "template", what->template_name);
    shl_mp_kv_uint(&w, "cpus", what->cpus);
    shl_mp_kv_uint(&w, "memory_mb", what->memory_mb);
    shl_mp_kv_uint(&w, "disk_mb", what->disk_mb);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

static int read_question(const msgpack_object *map,
                         char template_name[NODE_TEMPLATE_MAX],
                         struct node_place *what)
{
    uint64_t version, cpus, memory_mb, disk_mb;

    if (shl_mp_get_uint(map, "v", PLACE_VERSION, &version) < 0 ||
        shl_mp_get_cpy(map, "template", template_name, NODE_TEMPLATE_MAX) < 0 ||
        shl_mp_get_uint(map, "cpus", NODE_CPUS_MAX, &cpus) < 0 ||
        shl_mp_get_uint(map, "memory_mb", NODE_MEMORY_MAX_MB, &memory_mb) < 0 ||
        shl_mp_get_uint(map, "disk_mb", NODE_DISK_MAX_MB, &disk_mb) < 0) {
        return SHL_EPROTO;
    }
    *what = (struct node_place){.org = "",
                                .template_name = template_name,
                                .cpus = (uint32_t)cpus,
                                .memory_mb = (uint32_t)memory_mb,
                                .disk_mb = (uint32_t)disk_mb};
    return 0;
}

static int write_answer(struct shl_buf *buf, const struct node_answer *answer)
{
    struct shl_mp_writer w;
    size_t i;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_int(&w, "code", answer->code);
    shl_mp_kv_str(&w, "msg", answer->msg);
    shl_mp_kv_array(&w, "targets");
    for (i = 0; i < answer->target_count; i++) {
        shl_mp_map(&w);
        shl_mp_kv_bin(&w, "id", answer->targets[i].id.bytes, SHL_NODE_ID_BYTES);
        shl_mp_kv_str(&w, "name", answer->targets[i].name);
        shl_mp_end(&w);
    }
    shl_mp_end(&w);
    shl_mp_kv_array(&w, "refusals");
    for (i = 0; i < answer->refusal_count; i++) {
        shl_mp_map(&w);
        shl_mp_kv_str(&w, "name", answer->refusals[i].name);
        shl_mp_kv_str(&w, "reason", answer->refusals[i].reason);
        shl_mp_end(&w);
    }
    shl_mp_end(&w);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

static const msgpack_object *list_of(const msgpack_object *map, const char *key, uint32_t max)
{
    const msgpack_object *list = shl_mp_find(map, key);

    return list && list->type == MSGPACK_OBJECT_ARRAY && list->via.array.size <= max ? list : NULL;
}

static int read_lists(struct cluster *c,
                      const msgpack_object *targets,
                      const msgpack_object *refusals,
                      struct node_answer *ret)
{
    uint32_t i;

    for (i = 0; i < targets->via.array.size; i++) {
        struct node_target *target = &ret->targets[ret->target_count++];
        const msgpack_object *map = &targets->via.array.ptr[i];
        struct shl_bytes id;

        if (shl_mp_get_bin(map, "id", &id) < 0 || id.len != SHL_NODE_ID_BYTES ||
            shl_mp_get_cpy(map, "name", target->name, sizeof(target->name)) < 0) {
            return SHL_EPROTO;
        }
        memcpy(target->id.bytes, id.base, id.len);
        target->is_local = shl_node_id_equal(&target->id, &c->keys.id);
    }
    for (i = 0; i < refusals->via.array.size; i++) {
        struct node_reason *refusal = &ret->refusals[ret->refusal_count++];
        const msgpack_object *map = &refusals->via.array.ptr[i];

        if (shl_mp_get_cpy(map, "name", refusal->name, sizeof(refusal->name)) < 0 ||
            shl_mp_get_cpy(map, "reason", refusal->reason, sizeof(refusal->reason)) < 0) {
            return SHL_EPROTO;
        }
    }
    return 0;
}

static int read_answer(struct cluster *c, struct shl_bytes body, struct node_answer *ret)
{
    const msgpack_object *targets, *refusals;
    struct shl_mp_doc doc;
    int64_t code;
    int rc = shl_mp_parse(&doc, body);

    *ret = (struct node_answer){0};
    if (rc < 0) {
        return rc;
    }
    targets = list_of(doc.root, "targets", NODE_TARGETS_MAX);
    refusals = list_of(doc.root, "refusals", NODE_REFUSALS_MAX);
    if (!targets || !refusals || shl_mp_get_int(doc.root, "code", &code) < 0 || code > 0 ||
        code < INT32_MIN || shl_mp_get_cpy(doc.root, "msg", ret->msg, sizeof(ret->msg)) < 0) {
        rc = SHL_EPROTO;
    } else {
        ret->code = (int)code;
        rc = read_lists(c, targets, refusals, ret);
    }
    if (rc == 0 && ret->code == 0 && ret->target_count == 0) {
        rc = SHL_EPROTO;
    }
    shl_mp_release(&doc);
    return rc;
}

static void on_place(void *arg,
                     struct node_mesh_call *call,
                     const struct shl_node_id *from,
                     struct shl_bytes body)
{
    struct cluster *c = arg;
    char template_name[NODE_TEMPLATE_MAX];
    struct node_answer answer;
    struct node_place what;
    struct shl_mp_doc doc;
    struct shl_buf buf;
    int rc;

    (void)from;
    shl_buf_init(&buf, PLACE_BYTES_MAX);
    rc = c->lead.is_ready ? shl_mp_parse(&doc, body) : SHL_EUNAVAILABLE;
    if (rc == 0) {
        rc = read_question(doc.root, template_name, &what);
        shl_mp_release(&doc);
    }
    if (rc == 0) {
        decide(c, &what, &answer);
        rc = write_answer(&buf, &answer);
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
    } else if (code < 0 || read_answer(c, body, &answer) < 0) {
        /* no scheduler in reach: this node sees enough to place by itself */
        const struct node_place what = {.org = "",
                                        .template_name = question->template_name,
                                        .cpus = question->cpus,
                                        .memory_mb = question->memory_mb,
                                        .disk_mb = question->disk_mb};

        decide(c, &what, &answer);
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
    *question = (struct question){.cluster = c,
                                  .cb = cb,
                                  .arg = arg,
                                  .cpus = what->cpus,
                                  .memory_mb = what->memory_mb,
                                  .disk_mb = what->disk_mb};
    (void)snprintf(question->template_name, sizeof(question->template_name), "%s",
                   what->template_name);
    shl_buf_init(&buf, PLACE_BYTES_MAX);
    rc = write_question(&buf, what);
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
