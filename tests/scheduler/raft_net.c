#include "raft_net.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum event_kind {
    EVENT_MESSAGE,
    EVENT_DISK,
    EVENT_SNAPSHOT
};

struct net_event {
    uint64_t at_ms, order;
    enum event_kind kind;
    uint32_t node; /* to whom */
    uint32_t from;
    uint64_t incarnation; /* of the node, except for messages */
    uint8_t *bytes;
    size_t len;
};

/* Keeps the call where asserts are compiled out. */
static void must(bool fine)
{
    assert(fine);
}

/* Snapshots of the test's state machine: index, chain, padding to need several pieces. */
#define SNAPSHOT_BYTES 100

uint64_t net_random(struct net *net, uint64_t below)
{
    net->random ^= net->random >> 12;
    net->random ^= net->random << 25;
    net->random ^= net->random >> 27;
    return below == 0 ? 0 : (net->random * 0x2545f4914f6cdd1dull >> 16) % below;
}

static uint64_t random_between(struct net *net, uint64_t min, uint64_t max)
{
    return min + net_random(net, max - min + 1);
}

/*- Event heap. */

static bool before(const struct net_event *a, const struct net_event *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->order < b->order;
}

static void swap(struct net_event *a, struct net_event *b)
{
    struct net_event t = *a;

    *a = *b;
    *b = t;
}

static void push(struct net *net, struct net_event event)
{
    size_t i = net->event_count;

    if (net->event_count == net->event_capacity) {
        net->event_capacity = net->event_capacity ? 2 * net->event_capacity : 256;
        net->events = realloc(net->events, net->event_capacity * sizeof(*net->events));
        assert(net->events);
    }
    event.order = net->event_order++;
    net->events[net->event_count++] = event;
    for (; i > 0 && before(&net->events[i], &net->events[(i - 1) / 2]); i = (i - 1) / 2) {
        swap(&net->events[i], &net->events[(i - 1) / 2]);
    }
}

static struct net_event pop(struct net *net)
{
    struct net_event top = net->events[0];
    size_t i = 0;

    net->events[0] = net->events[--net->event_count];
    for (;;) {
        size_t least = i, left = 2 * i + 1, right = left + 1;

        if (left < net->event_count && before(&net->events[left], &net->events[least])) {
            least = left;
        }
        if (right < net->event_count && before(&net->events[right], &net->events[least])) {
            least = right;
        }
        if (least == i) {
            return top;
        }
        swap(&net->events[i], &net->events[least]);
        i = least;
    }
}

/*- Carrying out actions. */

static int node_of(const struct net *net, const struct shl_node_id *id)
{
    uint32_t i;

    for (i = 0; i < net->options.nodes; i++) {
        if (shl_node_id_equal(&net->nodes[i].id, id)) {
            return (int)i;
        }
    }
    return -1;
}

static void post(struct net *net, uint32_t from, uint32_t to, struct shl_bytes bytes)
{
    uint32_t copies = 1 + (net_random(net, 1000) < net->options.dup_permille);

    while (copies-- > 0) {
        struct net_event event = {
            .at_ms = net->now_ms +
                     random_between(net, net->options.delay_min_ms, net->options.delay_max_ms),
            .kind = EVENT_MESSAGE,
            .node = to,
            .from = from,
            .bytes = malloc(bytes.len),
            .len = bytes.len,
        };

        assert(event.bytes);
        memcpy(event.bytes, bytes.base, bytes.len);
        push(net, event);
    }
}

static void do_send(struct net *net, uint32_t from, const struct sched_raft_action *action)
{
    static struct sched_raft_msg_room room;
    struct sched_raft_msg msg;
    int to = node_of(net, &action->u.send.to);

    assert(to >= 0);
    must(sched_raft_msg_decode(action->u.send.bytes, &room, &msg) == 0);
    /* Nothing leaves a node with a term that a crash could take back. */
    if (msg.term > net->nodes[from].disk.term && net->options.mutations == 0) {
        net_fault(net, "node %u sends term %" PRIu64 " before it is durable", from, msg.term);
    }
    net->digest = net_hash(net->digest, action->u.send.bytes.base, action->u.send.bytes.len);
    if (net->filter && !net->filter(net, from, (uint32_t)to, &msg)) {
        return;
    }
    if (net_random(net, 1000) >= net->options.loss_permille) {
        post(net, from, (uint32_t)to, action->u.send.bytes);
    }
}

static void do_install(struct net *net, uint32_t node, const struct sched_raft_action *action)
{
    struct net_node *n = &net->nodes[node];

    assert(action->u.install.data.len == SNAPSHOT_BYTES);
    assert(shl_get_le64(action->u.install.data.base) == action->u.install.meta->index);
    net_check_install(net, node, action->u.install.meta->index,
                      shl_get_le64(action->u.install.data.base + 8));
    n->applied = action->u.install.meta->index;
    n->chain = shl_get_le64(action->u.install.data.base + 8);
    n->installs++;
}

static void note_result(struct net *net, struct net_result result)
{
    net_check_result(net, &result);
    assert(net->result_count < NET_RESULTS_MAX);
    net->results[net->result_count++] = result;
}

static void do_action(struct net *net, uint32_t node, const struct sched_raft_action *action)
{
    struct net_node *n = &net->nodes[node];
    struct net_event later = {.at_ms = net->now_ms, .node = node, .incarnation = n->incarnation};

    switch (action->type) {
    case SCHED_RAFT_ACT_SEND:
        do_send(net, node, action);
        break;
    case SCHED_RAFT_ACT_PERSIST:
        net_request_take(&n->request, &action->u.persist);
        later.kind = EVENT_DISK;
        later.at_ms += random_between(net, net->options.disk_min_ms, net->options.disk_max_ms);
        push(net, later);
        break;
    case SCHED_RAFT_ACT_APPLY:
        net_check_apply(net, node, action->u.apply);
        break;
    case SCHED_RAFT_ACT_RESULT:
        note_result(net, (struct net_result){action->u.result.tag, action->u.result.reason,
                                             action->u.result.index, false, node});
        break;
    case SCHED_RAFT_ACT_READ_READY:
        note_result(net, (struct net_result){action->u.read.tag, SCHED_RAFT_DONE,
                                             action->u.read.index, true, node});
        break;
    case SCHED_RAFT_ACT_READ_FAILED:
        note_result(net,
                    (struct net_result){action->u.read.tag, action->u.read.reason, 0, true, node});
        break;
    case SCHED_RAFT_ACT_ROLE_CHANGED:
        net_check_role(net, node);
        break;
    case SCHED_RAFT_ACT_SNAPSHOT_WANTED:
        later.kind = EVENT_SNAPSHOT;
        later.at_ms += random_between(net, 0, 5);
        push(net, later);
        break;
    case SCHED_RAFT_ACT_SNAPSHOT_INSTALL:
        do_install(net, node, action);
        break;
    case SCHED_RAFT_ACT_MEMBERSHIP_APPLIED:
        assert(action->u.membership.index <= n->applied);
        break;
    }
}

static void trace_step(const struct net *net,
                       uint32_t node,
                       const struct sched_raft_event *event,
                       uint32_t actions)
{
    const struct sched_raft *raft = net->nodes[node].raft;
    char text[200] = "";
    int other = -1;

    if (event->type == SCHED_RAFT_RECV) {
        sched_raft_msg_format(text, sizeof(text), event->u.recv.bytes);
        other = node_of(net, &event->u.recv.from);
    }
    (void)printf("%6" PRIu64 " node %u %s t=%" PRIu64 " last=%" PRIu64 " commit=%" PRIu64
                 " applied=%" PRIu64 " <- event %d from %d %s (%u actions)\n",
                 net->now_ms, node, sched_raft_role_name(sched_raft_role(raft)),
                 sched_raft_term(raft), sched_raft_last_index(raft), sched_raft_commit(raft),
                 sched_raft_applied(raft), (int)event->type, other, text, actions);
}

void net_step(struct net *net, uint32_t node, struct sched_raft_event *event)
{
    struct net_node *n = &net->nodes[node];
    const uint64_t key[] = {net->now_ms, node, event->type};
    uint32_t i;
    int rc;

    if (!n->raft) {
        return;
    }
    event->now_ms = net->now_ms;
    rc = sched_raft_step(n->raft, event, &n->actions);
    assert(rc == 0);
    n->wake_at_ms = n->actions.wake_at_ms;
    if (net->options.trace) {
        trace_step(net, node, event, n->actions.count);
    }
    net->digest = net_hash(net->digest, key, sizeof(key));
    net->steps++;
    for (i = 0; i < n->actions.count; i++) {
        do_action(net, node, &n->actions.items[i]);
    }
    net_check_step(net, node);
    if (net->steps % 64 == 0) {
        net_check_logs(net);
    }
}

static void take_snapshot(struct net *net, uint32_t node)
{
    struct net_node *n = &net->nodes[node];
    struct sched_raft_event event = {.type = SCHED_RAFT_SNAPSHOT_TAKEN};
    uint8_t bytes[SNAPSHOT_BYTES] = {0};
    struct shl_buf data;

    shl_put_le64(bytes, n->applied);
    shl_put_le64(bytes + 8, n->chain);
    shl_buf_init(&data, SNAPSHOT_BYTES);
    must(shl_buf_append(&data, bytes, sizeof(bytes)) == 0);
    event.u.snapshot_taken.index = n->applied;
    event.u.snapshot_taken.data = &data;
    net_step(net, node, &event);
}

static void carry_out(struct net *net, struct net_event *event)
{
    struct net_node *n = &net->nodes[event->node];
    struct sched_raft_event step = {0};

    if (event->kind == EVENT_MESSAGE) {
        step.type = SCHED_RAFT_RECV;
        step.u.recv.from = net->nodes[event->from].id;
        step.u.recv.bytes = shl_bytes_of(event->bytes, event->len);
        if (!net->cut[event->from][event->node]) {
            net_step(net, event->node, &step);
        }
        free(event->bytes);
        return;
    }
    if (!n->raft || n->incarnation != event->incarnation) {
        return;
    }
    if (event->kind == EVENT_SNAPSHOT) {
        take_snapshot(net, event->node);
    } else if (n->disk_held) {
        event->at_ms = net->now_ms + 1;
        push(net, *event);
    } else {
        step.type = SCHED_RAFT_PERSISTED;
        step.u.persisted.seq = n->request.head.seq;
        net_request_write(&n->request, &n->disk);
        net_step(net, event->node, &step);
    }
}

/* The next thing that happens, if it is due by @until_ms. */
static bool run_one(struct net *net, uint64_t until_ms)
{
    struct sched_raft_event tick = {.type = SCHED_RAFT_TICK};
    uint64_t at_ms = net->event_count > 0 ? net->events[0].at_ms : UINT64_MAX;
    int ticks = -1;
    uint32_t i;

    for (i = 0; i < net->options.nodes; i++) {
        if (net->nodes[i].raft && net->nodes[i].wake_at_ms < at_ms) {
            at_ms = net->nodes[i].wake_at_ms;
            ticks = (int)i;
        }
    }
    if (at_ms > until_ms) {
        return false;
    }
    net->now_ms = at_ms > net->now_ms ? at_ms : net->now_ms;
    if (ticks >= 0) {
        net_step(net, (uint32_t)ticks, &tick);
    } else {
        struct net_event event = pop(net);

        carry_out(net, &event);
    }
    return true;
}

void net_run(struct net *net, uint64_t ms)
{
    uint64_t until_ms = net->now_ms + ms;

    while (!net->fault && run_one(net, until_ms)) {
    }
    net->now_ms = until_ms;
}

int net_leader(const struct net *net)
{
    uint64_t term = 0;
    int leader = -1;
    uint32_t i;

    for (i = 0; i < net->options.nodes; i++) {
        const struct sched_raft *raft = net->nodes[i].raft;

        if (raft && sched_raft_role(raft) == SCHED_RAFT_LEADER && sched_raft_term(raft) > term) {
            term = sched_raft_term(raft);
            leader = (int)i;
        }
    }
    return leader;
}

static bool leads_a_majority(const struct net *net, int leader)
{
    const struct sched_raft *raft = net->nodes[leader].raft;
    uint32_t i, followers = 0, voters;

    voters = sched_raft_membership_voters(sched_raft_membership(raft));
    for (i = 0; i < net->options.nodes; i++) {
        const struct sched_raft_member *member =
            sched_raft_membership_find(sched_raft_membership(raft), &net->nodes[i].id);
        struct shl_node_id of =
            net->nodes[i].raft ? sched_raft_leader(net->nodes[i].raft) : (struct shl_node_id){0};

        followers += member && member->standing == SCHED_RAFT_VOTER &&
                     shl_node_id_equal(&of, &net->nodes[leader].id);
    }
    return followers > voters / 2;
}

int net_run_until_leader(struct net *net, uint64_t ms)
{
    uint64_t until_ms = net->now_ms + ms;

    while (!net->fault && run_one(net, until_ms)) {
        int leader = net_leader(net);

        if (leader >= 0 && leads_a_majority(net, leader)) {
            return leader;
        }
    }
    return -1;
}

static bool all_applied(const struct net *net, uint64_t index)
{
    uint32_t i;

    for (i = 0; i < net->options.nodes; i++) {
        if (net->nodes[i].raft && net->nodes[i].applied < index) {
            return false;
        }
    }
    return true;
}

bool net_run_until_applied(struct net *net, uint64_t index, uint64_t ms)
{
    uint64_t until_ms = net->now_ms + ms;

    while (!all_applied(net, index)) {
        if (net->fault || !run_one(net, until_ms)) {
            return false;
        }
    }
    return true;
}

/*- Input. */

void net_propose(struct net *net, uint32_t node, uint64_t tag, const char *text)
{
    struct sched_raft_event event = {.type = SCHED_RAFT_PROPOSE};

    event.u.propose.tag = tag;
    event.u.propose.command = shl_bytes_of(text, strlen(text));
    net_step(net, node, &event);
}

void net_read(struct net *net, uint32_t node, uint64_t tag)
{
    struct sched_raft_event event = {.type = SCHED_RAFT_READ};

    assert(tag < NET_RESULTS_MAX);
    net->read_floor[tag] = net->acknowledged_max;
    event.u.read.tag = tag;
    net_step(net, node, &event);
}

void net_change(struct net *net,
                uint32_t node,
                uint64_t tag,
                enum sched_raft_change_op op,
                uint32_t member)
{
    struct sched_raft_event event = {.type = SCHED_RAFT_CHANGE};

    event.u.change.tag = tag;
    event.u.change.op = op;
    event.u.change.id = net->nodes[member].id;
    net_step(net, node, &event);
}

void net_transfer(struct net *net, uint32_t node, uint64_t tag, int target)
{
    struct sched_raft_event event = {.type = SCHED_RAFT_TRANSFER};

    event.u.transfer.tag = tag;
    if (target >= 0) {
        event.u.transfer.target = net->nodes[target].id;
    }
    net_step(net, node, &event);
}

void net_campaign(struct net *net, uint32_t node)
{
    struct sched_raft_event event = {.type = SCHED_RAFT_CAMPAIGN};

    net_step(net, node, &event);
}

void net_inject(struct net *net, uint32_t from, uint32_t to, const struct sched_raft_msg *msg)
{
    struct sched_raft_event event = {.type = SCHED_RAFT_RECV};
    struct shl_buf bytes;

    shl_buf_init(&bytes, SCHED_RAFT_MESSAGE_BYTES_MAX);
    must(sched_raft_msg_encode(msg, &bytes) == 0);
    event.u.recv.from = net->nodes[from].id;
    event.u.recv.bytes = shl_buf_bytes(&bytes);
    net_step(net, to, &event);
    shl_buf_release(&bytes);
}

const struct net_result *net_result(const struct net *net, uint64_t tag)
{
    uint32_t i = net->result_count;

    while (i-- > 0) {
        if (net->results[i].tag == tag) {
            return &net->results[i];
        }
    }
    return NULL;
}

/*- Faults. */

void net_cut_both(struct net *net, uint32_t a, uint32_t b, bool cut)
{
    net->cut[a][b] = cut;
    net->cut[b][a] = cut;
}

void net_isolate(struct net *net, uint32_t node, bool cut)
{
    uint32_t i;

    for (i = 0; i < net->options.nodes; i++) {
        if (i != node) {
            net_cut_both(net, node, i, cut);
        }
    }
}

void net_heal(struct net *net)
{
    memset(net->cut, 0, sizeof(net->cut));
}

void net_drop_messages(struct net *net)
{
    size_t i, count = net->event_count;
    struct net_event *all = malloc((count + 1) * sizeof(*all));

    assert(all);
    memcpy(all, net->events, count * sizeof(*all));
    net->event_count = 0;
    for (i = 0; i < count; i++) {
        if (all[i].kind == EVENT_MESSAGE) {
            free(all[i].bytes);
        } else {
            push(net, all[i]);
        }
    }
    free(all);
}

void net_crash(struct net *net, uint32_t node, bool keep_request)
{
    struct net_node *n = &net->nodes[node];

    if (!n->raft) {
        return;
    }
    if (n->request.active && keep_request) {
        net_request_write(&n->request, &n->disk);
    }
    net_request_drop(&n->request);
    sched_raft_free(n->raft);
    n->raft = NULL;
    n->incarnation++;
    n->disk_held = false;
}

static struct sched_raft_limits small_limits(const struct net *net, struct sched_raft_limits limits)
{
    if (net->options.snapshot_entries > 0) {
        limits.snapshot_after_entries = net->options.snapshot_entries;
        limits.trailing_entries = net->options.snapshot_entries / 4;
        limits.chunk_bytes = 40;
        limits.msg_entries = 4;
        limits.inflight = 3;
        limits.msg_bytes = 64;
    }
    if (net->options.msg_entries > 0) {
        limits.msg_entries = net->options.msg_entries;
    }
    return limits;
}

void net_start(struct net *net, uint32_t node)
{
    struct net_node *n = &net->nodes[node];
    struct sched_raft_event tick = {.type = SCHED_RAFT_TICK};
    struct sched_raft_config config;
    struct sched_raft_entry *entries = calloc(n->disk.count + 1, sizeof(*entries));
    struct shl_buf snapshot;
    size_t i;
    int rc;

    assert(!n->raft);
    assert(entries);
    sched_raft_config_init(&config);
    config.self = n->id;
    config.seed = net_random(net, UINT64_MAX);
    config.now_ms = net->now_ms;
    config.mutations = net->options.mutations;
    config.limits = small_limits(net, config.limits);
    config.term = n->disk.term;
    config.vote = n->disk.vote;
    config.snapshot = n->disk.meta;
    shl_buf_init(&snapshot, SCHED_RAFT_SNAPSHOT_BYTES_MAX);
    n->applied = n->disk.meta.index;
    n->chain = 0;
    if (n->disk.meta.index > 0) {
        rc = shl_buf_append(&snapshot, shl_buf_data(&n->disk.snapshot),
                            shl_buf_len(&n->disk.snapshot));
        assert(rc == 0);
        n->chain = shl_get_le64(shl_buf_data(&snapshot) + 8);
    }
    config.snapshot_data = &snapshot;
    for (i = 0; i < n->disk.count; i++) {
        const struct net_entry *e = &n->disk.entries[i];

        entries[i] = (struct sched_raft_entry){
            .index = e->index, .term = e->term, .type = e->type, .data = {e->data, e->len}};
    }
    config.entries = entries;
    config.entry_count = n->disk.count;
    rc = sched_raft_new(&config, &n->raft);
    assert(rc == 0);
    free(entries);
    n->commit_seen = 0;
    net_step(net, node, &tick);
}

void net_disk_hold(struct net *net, uint32_t node)
{
    net->nodes[node].disk_held = true;
}

void net_disk_release(struct net *net, uint32_t node)
{
    net->nodes[node].disk_held = false;
}

static void founding(const struct net *net, uint32_t voters, struct sched_raft_membership *ret)
{
    uint32_t i;

    ret->count = 0;
    for (i = 0; i < voters; i++) {
        struct sched_raft_member member = {.id = net->nodes[i].id, .standing = SCHED_RAFT_VOTER};

        must(sched_raft_membership_set(ret, &member) == 0);
    }
}

void net_disk_write(struct net *net,
                    uint32_t node,
                    uint64_t term,
                    uint32_t voters,
                    const char *terms)
{
    struct net_disk *disk = &net->nodes[node].disk;
    struct sched_raft_membership membership;
    struct shl_buf bytes;
    uint64_t index = 1, previous = 0, of_term = 0;
    char text[32];
    char *end;

    founding(net, voters, &membership);
    shl_buf_init(&bytes, 65536);
    must(sched_raft_membership_encode(&membership, &bytes) == 0);
    net_disk_keep(disk, 0, 0);
    net_disk_push(disk, net_entry_copy(index++, 1, SCHED_RAFT_MEMBERSHIP, shl_buf_data(&bytes),
                                       shl_buf_len(&bytes)));
    shl_buf_release(&bytes);
    disk->term = term;
    memset(&disk->vote, 0, sizeof(disk->vote));
    /* The same term at the same index is the same entry everywhere. */
    for (; *terms; terms = end) {
        of_term = strtoull(terms, &end, 10);
        if (end == terms) {
            break;
        }
        assert(of_term >= previous);
        previous = of_term;
        (void)snprintf(text, sizeof(text), "%" PRIu64 "/%" PRIu64, index, of_term);
        net_disk_push(disk,
                      net_entry_copy(index++, of_term, SCHED_RAFT_COMMAND, text, strlen(text)));
    }
    assert(term >= previous);
}

void net_log_terms(const struct net *net, uint32_t node, char *dst, size_t size)
{
    const struct sched_raft *raft = net->nodes[node].raft;
    uint64_t index;
    size_t used = 0;

    dst[0] = '\0';
    for (index = 2; index <= sched_raft_last_index(raft); index++) {
        int n = snprintf(dst + used, size - used, "%s%" PRIu64, index > 2 ? " " : "",
                         sched_raft_entry_at(raft, index)->term);

        assert(n > 0 && (size_t)n < size - used);
        used += (size_t)n;
    }
}

struct sched_raft_status net_status(const struct net *net, uint32_t node)
{
    struct sched_raft_status status;

    sched_raft_status(net->nodes[node].raft, &status);
    return status;
}

/*- Life cycle. */

struct net_options net_options_default(uint32_t nodes)
{
    return (struct net_options){.nodes = nodes,
                                .voters = nodes,
                                .seed = 1,
                                .delay_min_ms = 1,
                                .delay_max_ms = 1,
                                .disk_min_ms = 1,
                                .disk_max_ms = 1};
}

struct net *net_new(const struct net_options *options)
{
    struct net *net = calloc(1, sizeof(*net));
    struct sched_raft_event bootstrap = {.type = SCHED_RAFT_BOOTSTRAP};
    struct sched_raft_membership membership;
    uint32_t i;

    assert(net);
    assert(options->nodes <= NET_NODES_MAX);
    net->options = *options;
    net->random = options->seed * 0x9e3779b97f4a7c15ull + 1;
    net->digest = 0xcbf29ce484222325ull;
    net->now_ms = 1000;
    for (i = 0; i < options->nodes; i++) {
        net->nodes[i].id.bytes[0] = (uint8_t)(i + 1);
        shl_buf_init(&net->nodes[i].disk.snapshot, SCHED_RAFT_SNAPSHOT_BYTES_MAX);
        sched_raft_actions_init(&net->nodes[i].actions);
    }
    founding(net, options->voters, &membership);
    bootstrap.u.bootstrap.membership = &membership;
    for (i = 0; i < options->nodes && options->voters > 0; i++) {
        net_start(net, i);
        if (i < options->voters) {
            net_step(net, i, &bootstrap);
        }
    }
    return net;
}

void net_free(struct net *net)
{
    uint32_t i;

    for (i = 0; i < net->options.nodes; i++) {
        struct net_node *n = &net->nodes[i];

        net_crash(net, i, false);
        sched_raft_actions_release(&n->actions);
        net_disk_keep(&n->disk, 0, 0);
        free(n->disk.entries);
        shl_buf_release(&n->disk.snapshot);
    }
    net_drop_messages(net);
    free(net->events);
    free(net);
}
