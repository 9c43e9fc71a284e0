/* What the planner sees, the catalogue's index, and durability: with a real replicated state and
 * two gossip cores that hear of each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/io.h"
#include "node/cluster/owners_private.h"
#include "node/cluster/replicas_private.h"
#include "tests/scheduler/kit.h"

#define OPENED_MS 1000

struct world {
    uv_loop_t loop;
    struct kit kit;
    struct gossip *other; /* node 2 */
    struct gossip_actions actions[2];
    struct cluster c; /* node 1 */
    uint64_t now_ms;
    char told[1024]; /* of the listener */
};

/*- Gossip. */

static void describe(unsigned n, struct gossip_info *info)
{
    struct sched_node_spec spec = kit_spec(n);

    memset(info, 0, sizeof(*info));
    info->id = spec.id;
    memcpy(info->key, spec.key, sizeof(info->key));
    (void)snprintf(info->name, sizeof(info->name), "n%u", n);
    (void)snprintf(info->control, sizeof(info->control), "10.0.0.%u:1", n);
    info->proto_min = info->proto_max = 1;
}

static struct gossip *open_gossip(unsigned n)
{
    struct gossip_config config = {.cluster = {1}, .seed = n};
    struct gossip *g = NULL;

    describe(n, &config.self);
    gossip_timing_defaults(&config.timing);
    assert_int_equal(gossip_new(&config, &g, NULL), 0);
    return g;
}

static void feed(struct world *w, int to, struct gossip_event *event)
{
    struct gossip *g = to == 0 ? w->c.gossip : w->other;

    event->now_ms = w->now_ms;
    assert_int_equal(gossip_step(g, event, &w->actions[to]), 0);
}

struct message {
    int to;
    uint32_t len;
    uint8_t bytes[GOSSIP_MESSAGE_MAX];
};

/* What @from has just said, and all that follows from it. */
static void deliver(struct world *w, int from)
{
    static struct message queue[64];
    struct shl_node_id ids[2] = {kit_id(1), kit_id(2)};
    uint32_t count = 0, done = 0, i;

    for (;;) {
        const struct gossip_actions *actions = &w->actions[from];
        struct gossip_event event = {.type = GOSSIP_EV_RECV};

        for (i = 0; i < actions->send_count && count < SHL_ARRAY_SIZE(queue); i++) {
            struct message *message = &queue[count];

            if (shl_node_id_equal(&actions->sends[i].to.id, &ids[1 - from])) {
                message->to = 1 - from;
                message->len = (uint32_t)actions->sends[i].bytes.len;
                memcpy(message->bytes, actions->sends[i].bytes.base, message->len);
                count++;
            }
        }
        if (done == count) {
            return;
        }
        event.recv.from = ids[1 - queue[done].to];
        event.recv.bytes = shl_bytes_of(queue[done].bytes, queue[done].len);
        from = queue[done++].to;
        feed(w, from, &event);
    }
}

static void admit(struct world *w, int to, unsigned n)
{
    struct gossip_info info;
    struct gossip_event event = {.type = GOSSIP_EV_ADMIT, .admit = {&info, 1}};

    describe(n, &info);
    feed(w, to, &event);
}

static void let_talk(struct world *w)
{
    int turn;

    for (turn = 0; turn < 1000; turn++) {
        struct gossip_event tick = {.type = GOSSIP_EV_TICK};
        int node = turn % 2;

        w->now_ms += 50;
        feed(w, node, &tick);
        deliver(w, node);
    }
}

static void say(struct world *w, int node, uint64_t disk_mb, uint64_t free_mb)
{
    struct cluster_figures figures = {.disk_total_mb = disk_mb, .disk_free_mb = free_mb};
    struct gossip_event event = {.type = GOSSIP_EV_SET};
    struct shl_buf buf;

    shl_buf_init(&buf, 4096);
    assert_int_equal(cluster_wire_write_figures(&buf, &figures), 0);
    event.record.key = CLUSTER_KEY_NODE;
    event.record.value = shl_buf_bytes(&buf);
    feed(w, node, &event);
    deliver(w, node);
    shl_buf_release(&buf);
}

/*- The world: nodes 1 (this one), 2 (heard of), 3 (never heard of), 4 (a witness). */

static void on_change(void *arg, const char *artefact, const char *sandbox)
{
    struct world *w = arg;
    size_t len = strlen(w->told);

    (void)snprintf(w->told + len, sizeof(w->told) - len, "%s/%s ", artefact ? artefact : "*",
                   sandbox ? sandbox : "*");
}

static void add_witness(struct world *w)
{
    struct sched_node_spec spec = kit_spec(4);

    spec.role = SCHED_ROLE_WITNESS;
    assert_int_equal(kit_token(&w->kit, 77, 600000), 0);
    assert_int_equal(kit_join(&w->kit, 77, &spec), 0);
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct cluster_replicas *r = calloc(1, sizeof(*r));
    unsigned n;

    assert_non_null(w);
    assert_non_null(r);
    assert_int_equal(uv_loop_init(&w->loop), 0);
    kit_open_cluster(&w->kit, NULL);
    assert_int_equal(kit_add_node(&w->kit, 2), 0);
    assert_int_equal(kit_add_node(&w->kit, 3), 0);
    add_witness(w);
    w->c.loop = &w->loop;
    w->c.state = w->kit.state;
    w->c.keys.id = kit_id(1);
    w->c.gossip = open_gossip(1);
    w->other = open_gossip(2);
    w->c.replicas = r;
    r->c = &w->c;
    catalogue_init(r);
    replica_copies_init(r);
    (void)uv_timer_init(&w->loop, &r->survey_timer);
    (void)uv_timer_init(&w->loop, &r->soon_timer);
    cluster_replicas_on_change(&w->c, on_change, w);
    w->now_ms = OPENED_MS;
    gossip_actions_init(&w->actions[0]);
    gossip_actions_init(&w->actions[1]);
    for (n = 2; n <= 4; n++) {
        admit(w, 0, n);
    }
    admit(w, 1, 1);
    say(w, 0, 10 << 10, 9 << 10);
    say(w, 1, 99 << 10, 2 << 10);
    let_talk(w);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    uv_close((uv_handle_t *)&w->c.replicas->survey_timer, NULL);
    uv_close((uv_handle_t *)&w->c.replicas->soon_timer, NULL);
    (void)uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    cluster_replicas_free(&w->c);
    gossip_free(w->c.gossip);
    gossip_free(w->other);
    gossip_actions_release(&w->actions[0]);
    gossip_actions_release(&w->actions[1]);
    kit_close(&w->kit);
    free(w);
    return 0;
}

/*- Commands, as the log applies them. */

static void apply(struct world *w, struct sched_command *command)
{
    assert_int_equal(kit_apply(&w->kit, command), 0);
    cluster_replicas_applied(&w->c, command);
}

static void put(struct world *w,
                const char *id,
                const char *sandbox,
                uint32_t kind,
                int manifest,
                const char *bases)
{
    struct sched_command c = kit_command(&w->kit, SCHED_CHECKPOINT_PUT);
    struct sched_cmd_checkpoint *p = &c.u.checkpoint;

    (void)snprintf(p->id, sizeof(p->id), "%s", id);
    (void)snprintf(p->org, sizeof(p->org), "org");
    (void)snprintf(p->sandbox, sizeof(p->sandbox), "%s", sandbox);
    (void)snprintf(p->bases, sizeof(p->bases), "%s", bases);
    p->kind = kind;
    memset(p->manifest, manifest, sizeof(p->manifest));
    p->bytes = 7;
    p->wanted = 2;
    p->holders[0] = kit_id(2);
    p->holder_count = 1;
    apply(w, &c);
}

static void hold(struct world *w, const char *id, unsigned node, bool held)
{
    struct sched_command c = kit_command(&w->kit, SCHED_CHECKPOINT_HOLDER);

    (void)snprintf(c.u.checkpoint_holder.id, SCHED_ID_SIZE, "%s", id);
    c.u.checkpoint_holder.node = kit_id(node);
    c.u.checkpoint_holder.held = held;
    apply(w, &c);
}

static void drop(struct world *w, const char *id)
{
    struct sched_command c = kit_command(&w->kit, SCHED_CHECKPOINT_DELETE);

    (void)snprintf(c.u.checkpoint_delete.id, SCHED_ID_SIZE, "%s", id);
    apply(w, &c);
}

static void look(struct world *w, uint64_t now_ms, struct replica_view *view)
{
    const struct replica_view_source source = {
        .state = w->c.state,
        .gossip = w->c.gossip,
        .self = kit_id(1),
        .now_ms = now_ms,
        .opened_at_ms = OPENED_MS,
        .by_manifest = &w->c.replicas->by_manifest,
        .copies = &w->c.replicas->copies,
    };

    assert_int_equal(replica_view_make(&source, view), 0);
}

static const struct ckpt_plan_node *node_of(const struct replica_view *view, unsigned n)
{
    struct shl_node_id id = kit_id(n);
    uint32_t i;

    for (i = 0; i < view->node_count; i++) {
        if (shl_node_id_equal(&view->nodes[i].id, &id)) {
            return &view->nodes[i];
        }
    }
    fail();
    return NULL;
}

static struct ckpt_id manifest_of(int byte)
{
    struct ckpt_id id;

    memset(id.bytes, byte, sizeof(id.bytes));
    return id;
}

/*- Nodes. */

static void test_view_nodes(void **state)
{
    struct world *w = *state;
    struct replica_view view;

    look(w, OPENED_MS + 10, &view);
    assert_int_equal(view.node_count, 4);
    assert_true(view.has_self);
    assert_int_equal(view.others, 2);
    assert_int_equal(node_of(&view, 1)->life, CKPT_PLAN_ALIVE);
    assert_int_equal(node_of(&view, 1)->weight, 10);
    assert_false(node_of(&view, 1)->full);
    assert_int_equal(node_of(&view, 2)->life, CKPT_PLAN_ALIVE);
    assert_int_equal(node_of(&view, 2)->weight, 96);
    assert_true(node_of(&view, 2)->full);
    assert_int_equal(node_of(&view, 3)->life, CKPT_PLAN_SUSPECT); /* may still come */
    assert_int_equal(node_of(&view, 4)->weight, 0);
    assert_false(view.is_heard);
    assert_true(view.is_measured);
    assert_false(view.is_majority); /* two of four */
    replica_view_release(&view);

    look(w, OPENED_MS + REPLICA_HEAR_MS, &view);
    assert_int_equal(node_of(&view, 3)->life, CKPT_PLAN_DEAD);
    assert_int_equal(node_of(&view, 3)->since_ms, OPENED_MS);
    assert_true(view.is_heard);
    replica_view_release(&view);
}

static void test_view_marks(void **state)
{
    struct world *w = *state;
    struct gossip_event leave = {.type = GOSSIP_EV_LEAVE};
    struct replica_view view;

    assert_int_equal(kit_mark(&w->kit, 2, false, true), 0);
    feed(w, 1, &leave);
    deliver(w, 1);
    let_talk(w);
    look(w, w->now_ms, &view);
    assert_true(node_of(&view, 2)->draining);
    assert_int_equal(node_of(&view, 2)->life, CKPT_PLAN_DEAD);
    assert_true(node_of(&view, 2)->planned); /* a good-bye is a restart until it is removed */
    assert_false(node_of(&view, 1)->draining);
    replica_view_release(&view);
}

static void test_view_weight(void **state)
{
    (void)state;
    assert_int_equal(replica_view_weight(0), 1);
    assert_int_equal(replica_view_weight(1023), 1);
    assert_int_equal(replica_view_weight(7 << 10), 7);
    assert_int_equal(replica_view_weight(15 << 10), 14);
    assert_int_equal(replica_view_weight(1000 << 10), 896);
    assert_int_equal(replica_view_weight(UINT64_MAX), CKPT_REPLICA_WEIGHT_MAX);
}

/*- Entries. */

static void test_view_entries(void **state)
{
    struct world *w = *state;
    struct cluster_replicas *r = w->c.replicas;
    struct shl_node_id self = kit_id(1), second = kit_id(2), third = kit_id(3);
    struct ckpt_id manifest = manifest_of(5);
    struct replica_view view;

    put(w, "c-b", "sb-1", SCHED_CHECKPOINT_FULL, 9, "");
    put(w, "c-a", "sb-1", SCHED_CHECKPOINT_FULL, 5, "");
    put(w, "c-c", "sb-2", SCHED_CHECKPOINT_FULL, 5, ""); /* the same bytes */
    put(w, "base-x", "", SCHED_CHECKPOINT_ARTEFACT, 7, "");
    hold(w, "c-c", 3, true);
    hold(w, "c-a", 1, true); /* as the log has it; the store does not */
    look(w, w->now_ms, &view);
    assert_int_equal(view.entry_count, 3); /* one per manifest, ascending */
    assert_memory_equal(&view.entries[0].manifest, &manifest, sizeof(manifest));
    assert_int_equal(view.entries[0].holder_count, 2);
    assert_true(shl_node_id_equal(&view.entries[0].holders[0], &second) ||
                shl_node_id_equal(&view.entries[0].holders[0], &third));
    assert_int_equal(view.entries[0].copies, 2);
    assert_int_equal(view.entries[0].bytes, 7);
    assert_true(shl_node_id_is_none(&view.entries[1].owner));        /* a base belongs to nobody */
    assert_true(shl_node_id_equal(&view.entries[2].owner, &second)); /* its first holder */
    replica_view_release(&view);

    assert_int_equal(kit_owner(&w->kit, SCHED_OWNER_REGISTER, "sb-1", 3, 1, 0, false), 0);
    replica_copy_add(r, &manifest, false);
    look(w, w->now_ms, &view);
    assert_int_equal(view.entries[0].holder_count, 3);
    assert_true(shl_node_id_equal(&view.entries[0].owner, &third));
    replica_view_release(&view);

    replica_copy_find(r, &manifest)->is_leaving = true;
    look(w, w->now_ms, &view);
    assert_int_equal(view.entries[0].holder_count, 2);
    replica_view_release(&view);

    replica_copy_find(r, &manifest)->is_leaving = false;
    replica_copy_add(r, &manifest, true); /* made here: it stays here */
    look(w, w->now_ms, &view);
    assert_true(shl_node_id_equal(&view.entries[0].owner, &self));
    replica_view_release(&view);
}

/*- The index, and what is told. */

static bool collect(void *arg, const struct sched_checkpoint *row)
{
    (void)strncat(arg, row->id, 64);
    (void)strncat(arg, " ", 2);
    return true;
}

static void test_catalogue(void **state)
{
    struct world *w = *state;
    struct cluster_replicas *r = w->c.replicas;
    struct ckpt_id five = manifest_of(5);
    char ids[256] = "";
    unsigned i;

    put(w, "c-2", "sb-1", SCHED_CHECKPOINT_FULL, 5, "");
    put(w, "c-1", "sb-1", SCHED_CHECKPOINT_DISK, 6, "");
    put(w, "c-3", "sb-10", SCHED_CHECKPOINT_FULL, 7, "");
    cluster_sandbox_artefacts(&w->c, "sb-1", collect, ids);
    assert_string_equal(ids, "c-1 c-2 ");
    assert_string_equal(w->told, ""); /* not from inside the step */
    catalogue_settle(r);
    assert_string_equal(w->told, "c-2/sb-1 c-1/sb-1 c-3/sb-10 ");

    w->told[0] = '\0';
    hold(w, "c-1", 3, true);
    drop(w, "c-2");
    assert_null(catalogue_of_manifest(r, &five));
    assert_int_equal(r->deleted.count, 1);
    catalogue_settle(r);
    assert_int_equal(r->deleted.count, 0);
    assert_string_equal(w->told, "c-1/sb-1 c-2/sb-1 ");
    ids[0] = '\0';
    cluster_sandbox_artefacts(&w->c, "sb-1", collect, ids);
    assert_string_equal(ids, "c-1 ");

    /* more than there is room for: anything may have changed */
    w->told[0] = '\0';
    for (i = 0; i <= REPLICA_CHANGES_MAX; i++) {
        hold(w, "c-1", 3, i % 2);
    }
    catalogue_settle(r);
    assert_string_equal(w->told, "*/* ");
}

/* A snapshot takes the place of many entries: what is no longer there was deleted. */
static void test_catalogue_of_another_state(void **state)
{
    struct world *w = *state;
    struct cluster_replicas *r = w->c.replicas;
    struct kit later;
    char ids[64] = "";

    put(w, "c-1", "sb-1", SCHED_CHECKPOINT_FULL, 5, "");
    put(w, "c-2", "sb-1", SCHED_CHECKPOINT_FULL, 6, "");
    catalogue_settle(r);
    kit_open_cluster(&later, NULL);
    assert_int_equal(kit_add_node(&later, 2), 0);
    assert_int_equal(kit_checkpoint(&later, "c-2", 6, 2), 0);
    assert_int_equal(kit_checkpoint(&later, "c-9", 9, 2), 0);
    w->c.state = later.state;
    cluster_replicas_loaded(&w->c);
    assert_int_equal(r->by_id.count, 2);
    assert_int_equal(r->by_manifest.count, 2);
    assert_int_equal(r->deleted.count, 1);
    assert_string_equal(((struct catalogue_ref *)r->deleted.items[0])->id, "c-1");
    cluster_sandbox_artefacts(&w->c, "", collect, ids);
    assert_string_equal(ids, "c-9 "); /* c-2 is known as it came */
    w->c.state = w->kit.state;
    kit_close(&later);
}

/*- Durability. */

static void test_durable(void **state)
{
    struct world *w = *state;
    struct cluster_durable d;

    assert_false(cluster_artefact_durable(&w->c, "h-1", &d));
    assert_int_equal(d.durability, CLUSTER_DURABLE_LOCAL);
    put(w, "base-t", "", SCHED_CHECKPOINT_ARTEFACT, 1, "");
    put(w, "h-1", "sb-1", SCHED_CHECKPOINT_HIBERNATION, 2, "t");
    w->kit.now_ms += 1000;
    put(w, "c-1", "sb-1", SCHED_CHECKPOINT_FULL, 3, "");
    assert_true(cluster_artefact_durable(&w->c, "h-1", &d));
    assert_int_equal(d.durability, CLUSTER_DURABLE_REPLICATING);
    assert_int_equal(d.alive, 1);
    assert_int_equal(d.wanted, 2);

    hold(w, "h-1", 3, true); /* nobody has heard of node 3 */
    assert_true(cluster_artefact_durable(&w->c, "h-1", &d));
    assert_int_equal(d.alive, 1);
    hold(w, "h-1", 1, true);
    assert_true(cluster_artefact_durable(&w->c, "h-1", &d));
    assert_int_equal(d.durability, CLUSTER_DURABLE_REPLICATING); /* its base is not */
    assert_int_equal(d.alive, 1);
    hold(w, "base-t", 1, true);
    assert_true(cluster_sandbox_durable(&w->c, "sb-1", &d));
    assert_string_equal(d.id, "h-1"); /* not the checkpoint */
    assert_int_equal(d.durability, CLUSTER_DURABLE_REPLICATED);
    assert_int_equal(d.alive, 2);

    drop(w, "base-t");
    assert_true(cluster_sandbox_durable(&w->c, "sb-1", &d));
    assert_int_equal(d.durability, CLUSTER_DURABLE_REPLICATING);
    assert_int_equal(d.alive, 0);
    assert_false(cluster_sandbox_durable(&w->c, "sb-2", &d));

    w->kit.now_ms += 1000;
    put(w, "a-newer", "sb-1", SCHED_CHECKPOINT_HIBERNATION, 4, "");
    assert_true(cluster_sandbox_durable(&w->c, "sb-1", &d));
    assert_string_equal(d.id, "a-newer");
}

static const struct sched_checkpoint *row_of(struct world *w, const char *id)
{
    const struct sched_checkpoint *row = sched_state_checkpoint(w->c.state, id);

    assert_non_null(row);
    return row;
}

static const char *saved(struct world *w, uint32_t alive_min)
{
    const struct sched_checkpoint *row = cluster_sandbox_saved(&w->c, "s", alive_min);

    return row ? row->id : "none";
}

/* The older state stays until the newer one has as many copies; who lost its node goes on from
 * the newest that somebody who lives has. */
static void test_durable_older_state_stays(void **state)
{
    struct world *w = *state;

    put(w, "old", "s", SCHED_CHECKPOINT_HIBERNATION, 1, "");
    hold(w, "old", 1, true);
    assert_false(cluster_state_is_replaced(&w->c, row_of(w, "old")));
    put(w, "ckpt", "s", SCHED_CHECKPOINT_FULL, 2, "");
    hold(w, "ckpt", 1, true);
    assert_false(cluster_state_is_replaced(&w->c, row_of(w, "old")));
    w->kit.now_ms++;
    put(w, "new", "s", SCHED_CHECKPOINT_HIBERNATION, 3, "");
    assert_false(cluster_state_is_replaced(&w->c, row_of(w, "old")));
    assert_string_equal(saved(w, 0), "new");
    assert_string_equal(saved(w, 2), "old");
    hold(w, "old", 2, false); /* its own node lets it go; were that lost, "new" would be */
    assert_false(cluster_state_is_replaced(&w->c, row_of(w, "old")));
    hold(w, "new", 1, true);
    assert_true(cluster_state_is_replaced(&w->c, row_of(w, "old")));
    hold(w, "new", 1, false);
    hold(w, "old", 1, false); /* nobody has it any more */
    assert_true(cluster_state_is_replaced(&w->c, row_of(w, "old")));
    hold(w, "old", 1, true);
    hold(w, "old", 2, true);
    assert_false(cluster_state_is_replaced(&w->c, row_of(w, "old")));
    hold(w, "new", 3, true); /* dead by now, or not: it is a copy */
    assert_true(cluster_state_is_replaced(&w->c, row_of(w, "old")));
    assert_false(cluster_state_is_replaced(&w->c, row_of(w, "new")));
    hold(w, "new", 2, false);
    assert_string_equal(saved(w, 0), "new");
    assert_string_equal(saved(w, 1), "old"); /* node 3 was never heard of */
    hold(w, "new", 1, true);
    assert_string_equal(saved(w, 1), "new");
}

/* "s" is node 2's, which may be lost; @released: it hibernated. */
static void own(struct world *w, bool released)
{
    assert_int_equal(kit_owner(&w->kit, SCHED_OWNER_REGISTER, "s", 2, 1, 0, false), 0);
    if (released) {
        assert_int_equal(kit_owner(&w->kit, SCHED_OWNER_RELEASE, "s", 2, 1, 0, false), 0);
    }
}

static const char *reachable(struct world *w, const char *vain)
{
    const struct sched_checkpoint *row = cluster_sandbox_reachable(&w->c, "s", vain);

    return row ? row->id : "none";
}

static void want(struct world *w, const char *id, uint32_t wanted)
{
    struct sched_command c = kit_command(&w->kit, SCHED_CHECKPOINT_WANTED);

    (void)snprintf(c.u.checkpoint_wanted.id, SCHED_ID_SIZE, "%s", id);
    c.u.checkpoint_wanted.wanted = wanted;
    apply(w, &c);
}

/* Node 3 is silent. What may have been promised is waited for, also when the other node that had
 * it was removed; what it alone ever had is not, and what nobody has can not. */
static void test_reachable(void **state)
{
    struct world *w = *state;

    assert_string_equal(reachable(w, NULL), "none");
    own(w, false);
    put(w, "old", "s", SCHED_CHECKPOINT_HIBERNATION, 1, "");
    w->kit.now_ms++;
    put(w, "new", "s", SCHED_CHECKPOINT_HIBERNATION, 2, "");
    assert_string_equal(reachable(w, NULL), "new");
    hold(w, "new", 2, false);
    hold(w, "new", 3, true);
    assert_string_equal(reachable(w, NULL), "old");
    hold(w, "new", 2, true);
    hold(w, "new", 2, false);
    assert_string_equal(reachable(w, NULL), "new");
    hold(w, "new", 3, false);
    assert_string_equal(reachable(w, NULL), "old");
    assert_string_equal(reachable(w, "old"), "none");

    hold(w, "new", 2, true);
    w->kit.now_ms++;
    put(w, "last", "s", SCHED_CHECKPOINT_HIBERNATION, 3, "");
    assert_string_equal(reachable(w, NULL), "last");
    assert_string_equal(reachable(w, "last"), "new"); /* no node has "last" whole */
    assert_string_equal(reachable(w, "new"), "new");  /* was promised */
    want(w, "last", 3);
    hold(w, "last", 3, true);
    hold(w, "last", 2, false);
    assert_string_equal(reachable(w, NULL), "new"); /* two of three: no promise */
    own(w, true);
    assert_string_equal(reachable(w, NULL), "last"); /* but it hibernated, and had a copy */
    assert_string_equal(reachable(w, "last"), "new");
}

static int confirm(struct owned *o, const char *newest)
{
    struct owner_record record = {.epoch = 1, .is_copy = true, .artefact = "old"};
    struct shl_err err = {0};

    (void)snprintf(record.newest, sizeof(record.newest), "%s", newest);
    assert_int_equal(owner_record_save(o, &record, &err), 0);
    return take_confirm(o, &err);
}

/* Taken from what a node that lives had; the newest of then, which only a lost node has, is no
 * reason to give it up once the log has given it to this node. Nor is what that node listed since,
 * but for what is to be had, or may have been promised. */
static void test_durable_taken_while_the_newest_was_lost(void **state)
{
    struct world *w = *state;
    char dir[] = "/tmp/shoal-confirm-XXXXXX";
    struct cluster_owners set = {.cluster = &w->c};
    struct owned o = {.set = &set, .sandbox = "s"};
    struct shl_err err = {0};

    assert_non_null(mkdtemp(dir));
    assert_int_equal(node_store_open(dir, &w->c.store, &err), 0);
    put(w, "old", "s", SCHED_CHECKPOINT_HIBERNATION, 1, "");
    w->kit.now_ms++;
    put(w, "new", "s", SCHED_CHECKPOINT_HIBERNATION, 2, "");
    hold(w, "new", 2, false);
    hold(w, "new", 3, true); /* which was never heard of */
    w->kit.now_ms++;
    put(w, "last", "s", SCHED_CHECKPOINT_HIBERNATION, 3, "");
    hold(w, "last", 2, false);
    own(w, true);
    assert_int_equal(kit_owner(&w->kit, SCHED_OWNER_CLAIM, "s", 2, 1, 1, false), 0);
    assert_int_equal(confirm(&o, "new"), 0);
    assert_string_equal(o.record.artefact, "");
    assert_int_equal(confirm(&o, "old"), 0);
    hold(w, "last", 2, true);
    assert_int_equal(confirm(&o, "new"), SHL_ECONFLICT);
    hold(w, "last", 2, false);
    assert_int_equal(confirm(&o, "new"), 0);
    hold(w, "new", 2, true); /* not the newest, but promised */
    assert_int_equal(confirm(&o, "last"), SHL_ECONFLICT);
    hold(w, "new", 2, false);
    assert_int_equal(confirm(&o, "last"), SHL_ECONFLICT);
    hold(w, "new", 3, false);
    assert_int_equal(confirm(&o, "last"), 0);
    node_store_close(w->c.store);
    w->c.store = NULL;
    assert_int_equal(shl_remove_tree(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_view_nodes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_view_marks, set_up, tear_down),
        cmocka_unit_test(test_view_weight),
        cmocka_unit_test_setup_teardown(test_view_entries, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_catalogue, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_catalogue_of_another_state, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_durable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_durable_older_state_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reachable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_durable_taken_while_the_newest_was_lost, set_up,
                                        tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
