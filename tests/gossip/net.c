#include "tests/gossip/net.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sum.h"

enum net_event_type {
    NET_WAKE,
    NET_MESSAGE,
    NET_LINK
};

struct net_event {
    uint64_t at_ms;
    uint64_t sequence;
    enum net_event_type type;
    uint32_t to;
    uint32_t from;
    uint32_t run; /* of the receiver: what was on its way to a crashed process is lost */
    bool up;
    uint8_t *bytes; /* owned */
    size_t len;
};

uint64_t net_random(struct net *net)
{
    uint64_t z = net->random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* ---- heap ---- */

static bool is_earlier(const struct net_event *a, const struct net_event *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->sequence < b->sequence;
}

static void push(struct net *net, struct net_event event)
{
    uint32_t at = net->heap_count++;

    if (net->heap_count > net->heap_room) {
        net->heap_room = net->heap_room ? net->heap_room * 2 : 1024;
        net->heap = reallocarray(net->heap, net->heap_room, sizeof(*net->heap));
        assert(net->heap);
    }
    event.sequence = ++net->sequence;
    while (at > 0 && is_earlier(&event, &net->heap[(at - 1) / 2])) {
        net->heap[at] = net->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    net->heap[at] = event;
}

static struct net_event pop(struct net *net)
{
    struct net_event first = net->heap[0], last = net->heap[--net->heap_count];
    uint32_t at = 0;

    for (;;) {
        uint32_t child = 2 * at + 1;

        if (child >= net->heap_count) {
            break;
        }
        if (child + 1 < net->heap_count && is_earlier(&net->heap[child + 1], &net->heap[child])) {
            child++;
        }
        if (!is_earlier(&net->heap[child], &last)) {
            break;
        }
        net->heap[at] = net->heap[child];
        at = child;
    }
    if (net->heap_count > 0) {
        net->heap[at] = last;
    }
    return first;
}

/* ---- nodes ---- */

struct shl_node_id net_id(uint32_t index)
{
    struct shl_node_id id = {{0}};

    id.bytes[0] = 1;
    id.bytes[1] = (uint8_t)(index >> 8);
    id.bytes[2] = (uint8_t)index;
    return id;
}

static void default_config(struct net *net, uint32_t index)
{
    struct gossip_config *config = &net->nodes[index].config;

    *config = (struct gossip_config){.members_max = GOSSIP_MEMBERS_MAX};
    config->self.id = net_id(index);
    config->self.key[0] = (uint8_t)index;
    (void)snprintf(config->self.name, sizeof(config->self.name), "node-%u", index);
    (void)snprintf(config->self.control, sizeof(config->self.control), "n%u:7000", index);
    (void)snprintf(config->self.bulk, sizeof(config->self.bulk), "n%u:7001", index);
    (void)snprintf(config->self.api, sizeof(config->self.api), "n%u:8080", index);
    config->self.proto_min = 1;
    config->self.proto_max = 2;
    memset(config->cluster, 7, sizeof(config->cluster));
    gossip_timing_defaults(&config->timing);
}

void net_init(struct net *net, uint32_t count, uint64_t seed)
{
    uint32_t i;

    *net = (struct net){
        .count = count,
        .random = seed * 2 + 1,
        .wall_s = 1700000000,
        .now_ms = 1000,
        .delay_ms = 1,
        .has_links = true,
        .timeout_ms = 1500,
        .digest = SHL_SUM_START,
    };
    net->nodes = calloc(count, sizeof(*net->nodes));
    net->cut = calloc((size_t)count * count, sizeof(*net->cut));
    net->broken = calloc((size_t)count * count, sizeof(*net->broken));
    assert(net->nodes);
    assert(net->cut);
    assert(net->broken);
    for (i = 0; i < count; i++) {
        net->nodes[i].index = i;
        gossip_actions_init(&net->nodes[i].actions);
        shl_buf_init(&net->nodes[i].disk_book, 4 * 1024 * 1024);
        default_config(net, i);
    }
}

void net_release(struct net *net)
{
    uint32_t i;

    for (i = 0; i < net->heap_count; i++) {
        free(net->heap[i].bytes);
    }
    for (i = 0; i < net->count; i++) {
        gossip_free(net->nodes[i].core);
        gossip_actions_release(&net->nodes[i].actions);
        shl_buf_release(&net->nodes[i].disk_book);
    }
    free(net->heap);
    free(net->nodes);
    free(net->cut);
    free(net->broken);
    *net = (struct net){0};
}

/* ---- links ---- */

static void push_link(struct net *net, uint32_t node, uint32_t peer, bool up, uint64_t after_ms)
{
    push(net, (struct net_event){
                  .at_ms = net->now_ms + after_ms,
                  .type = NET_LINK,
                  .to = node,
                  .from = peer,
                  .run = net->nodes[node].runs,
                  .up = up,
              });
}

static bool is_reachable(const struct net *net, uint32_t from, uint32_t to)
{
    return net->nodes[to].core && !net->cut[from * net->count + to] &&
           !net->cut[to * net->count + from];
}

/* Bytes that nobody acknowledges break the link after a while. */
static void note_unanswered(struct net *net, uint32_t from, uint32_t to)
{
    uint8_t *broken = &net->broken[from * net->count + to];

    if (net->has_links && !*broken) {
        *broken = 1;
        push_link(net, from, to, false, net->timeout_ms);
    }
}

static void links_return(struct net *net, uint32_t index)
{
    uint32_t i;

    for (i = 0; net->has_links && i < net->count; i++) {
        uint8_t *there = &net->broken[i * net->count + index];
        uint8_t *back = &net->broken[index * net->count + i];

        if (*there && is_reachable(net, i, index)) {
            *there = 0;
            push_link(net, i, index, true, 1 + net_random(net) % 100);
        }
        if (*back && is_reachable(net, index, i)) {
            *back = 0;
            push_link(net, index, i, true, 1 + net_random(net) % 100);
        }
    }
}

/* ---- sending ---- */

static bool find_target(const struct net *net,
                        const struct gossip_contact *to,
                        uint32_t from,
                        uint32_t *ret)
{
    unsigned index;

    if (to->address[0] != '\0') {
        if (sscanf(to->address, "n%u:", &index) != 1 || index >= net->count) {
            return false;
        }
    } else {
        index = (unsigned)to->id.bytes[1] << 8 | to->id.bytes[2];
    }
    *ret = index;
    return index < net->count && index != from;
}

static void send_one(struct net *net, struct net_node *node, const struct gossip_send *send)
{
    struct net_event event = {.type = NET_MESSAGE, .from = node->index, .len = send->bytes.len};
    uint64_t jitter = net->jitter_ms ? net_random(net) % (net->jitter_ms + 1) : 0;
    bool is_lost =
        net->loss > 0 && (double)(net_random(net) >> 11) < net->loss * 9007199254740992.0;

    assert(send->bytes.len <= GOSSIP_MESSAGE_MAX);
    assert(send->lane != GOSSIP_LANE_PING || send->bytes.len <= GOSSIP_PING_MAX);
    if (!find_target(net, &send->to, node->index, &event.to)) {
        return;
    }
    net->messages++;
    net->bytes += send->bytes.len;
    net->digest = shl_sum(net->digest, send->bytes.base, send->bytes.len);
    if (!is_reachable(net, node->index, event.to)) {
        note_unanswered(net, node->index, event.to);
        return;
    }
    if (is_lost) {
        return;
    }
    event.at_ms = net->now_ms + net->delay_ms + jitter;
    event.run = net->nodes[event.to].runs;
    event.bytes = malloc(event.len);
    assert(event.bytes);
    memcpy(event.bytes, send->bytes.base, event.len);
    push(net, event);
}

static void carry_out(struct net *net, struct net_node *node)
{
    struct gossip_actions *actions = &node->actions;
    uint32_t i;

    if (actions->persist.incarnation) {
        assert(actions->persist.incarnation > node->disk_incarnation);
        node->disk_incarnation = actions->persist.incarnation;
    }
    if (actions->persist.book && !net->keeps_no_books) {
        int rc;

        shl_buf_clear(&node->disk_book);
        rc = gossip_book_encode(node->core, &node->disk_book);
        assert(rc == 0);
    }
    for (i = 0; i < actions->send_count; i++) {
        if (net->on_send) {
            net->on_send(net->arg, node, &actions->sends[i]);
        }
        send_one(net, node, &actions->sends[i]);
    }
    for (i = 0; i < actions->change_count; i++) {
        node->deaths += actions->changes[i].after == GOSSIP_DEAD &&
                        actions->changes[i].before != GOSSIP_DEAD && !actions->changes[i].is_new;
        if (net->on_change) {
            net->on_change(net->arg, node, &actions->changes[i]);
        }
    }
    for (i = 0; net->on_record && i < actions->record_count; i++) {
        net->on_record(net->arg, node, &actions->records[i]);
    }
    for (i = 0; i < actions->notice_count; i++) {
        node->notices[actions->notices[i].type]++;
        node->last_reason = actions->notices[i].reason;
        node->last_notice = actions->notices[i];
    }
    if (actions->wake_at_ms != UINT64_MAX && actions->wake_at_ms != node->wake_at_ms) {
        push(net, (struct net_event){
                      .at_ms = actions->wake_at_ms,
                      .type = NET_WAKE,
                      .to = node->index,
                      .run = node->runs,
                  });
    }
    node->wake_at_ms = actions->wake_at_ms;
}

void net_step(struct net *net, uint32_t index, struct gossip_event *event, int *ret_rc)
{
    struct net_node *node = &net->nodes[index];
    int rc;

    assert(node->core);
    event->now_ms = net->now_ms;
    event->wall_s = net->wall_s + net->now_ms / 1000;
    rc = gossip_step(node->core, event, &node->actions);
    net->steps++;
    carry_out(net, node);
    if (ret_rc) {
        *ret_rc = rc;
    } else {
        assert(rc == 0);
    }
}

/* ---- what tests do ---- */

void net_start(struct net *net, uint32_t index)
{
    struct net_node *node = &net->nodes[index];
    struct gossip_event event = {.type = GOSSIP_EV_TICK};
    struct shl_err err;
    int rc;

    assert(!node->core);
    node->runs++;
    node->wake_at_ms = 0;
    node->stalled_until_ms = 0;
    node->config.seed = net_random(net);
    node->config.incarnation = node->disk_incarnation;
    node->config.book = shl_buf_bytes(&node->disk_book);
    rc = gossip_new(&node->config, &node->core, &err);
    if (rc < 0) {
        (void)fprintf(stderr, "gossip_new: %s\n", err.msg);
    }
    assert(rc == 0);
    net_step(net, index, &event, NULL);
    links_return(net, index);
}

void net_join(struct net *net, uint32_t index, uint32_t seed)
{
    struct gossip_contact contact = {.key = {(uint8_t)seed}};
    struct gossip_event event = {
        .type = GOSSIP_EV_JOIN,
        .join = {&contact, 1},
    };

    memcpy(contact.address, net->nodes[seed].config.self.control, sizeof(contact.address));
    net_step(net, index, &event, NULL);
}

void net_start_all(struct net *net)
{
    uint32_t i;

    for (i = 0; i < net->count; i++) {
        net_start(net, i);
        if (i > 0) {
            net_join(net, i, 0);
        }
    }
}

void net_set(struct net *net, uint32_t index, const char *key, const char *value)
{
    struct gossip_event event = {
        .type = GOSSIP_EV_SET,
        .record = {key, shl_bytes_of(value, strlen(value))},
    };

    net_step(net, index, &event, NULL);
}

void net_unset(struct net *net, uint32_t index, const char *key)
{
    struct gossip_event event = {.type = GOSSIP_EV_UNSET, .record = {.key = key}};

    net_step(net, index, &event, NULL);
}

void net_simple(struct net *net, uint32_t index, enum gossip_event_type type)
{
    struct gossip_event event = {.type = type};

    net_step(net, index, &event, NULL);
}

void net_remove(struct net *net, uint32_t index, uint32_t removed)
{
    struct gossip_event event = {.type = GOSSIP_EV_REMOVED, .removed = net_id(removed)};

    net_step(net, index, &event, NULL);
}

void net_crash(struct net *net, uint32_t index, bool visible)
{
    struct net_node *node = &net->nodes[index];
    uint32_t i;

    gossip_free(node->core);
    node->core = NULL;
    node->runs++;
    for (i = 0; net->has_links && visible && i < net->count; i++) {
        if (i != index && net->nodes[i].core && !net->broken[i * net->count + index]) {
            net->broken[i * net->count + index] = 1;
            push_link(net, i, index, false, 1 + net_random(net) % 5);
        }
    }
}

void net_cut(struct net *net, uint32_t from, uint32_t to, bool cut)
{
    net->cut[from * net->count + to] = cut;
    if (!cut) {
        links_return(net, from);
    }
}

void net_split(struct net *net, uint32_t split, bool cut)
{
    uint32_t a, b;

    for (a = 0; a < split; a++) {
        for (b = split; b < net->count; b++) {
            net->cut[a * net->count + b] = cut;
            net->cut[b * net->count + a] = cut;
        }
    }
    for (a = 0; !cut && a < split; a++) {
        links_return(net, a);
    }
}

void net_stall(struct net *net, uint32_t index, uint64_t ms)
{
    net->nodes[index].stalled_until_ms = net->now_ms + ms;
    /* Its timer is late and fires first, then what came in meanwhile is read. */
    push(net, (struct net_event){
                  .at_ms = net->now_ms + ms,
                  .type = NET_WAKE,
                  .to = index,
                  .run = net->nodes[index].runs,
              });
}

/* ---- running ---- */

static void handle(struct net *net, struct net_event *event)
{
    struct net_node *node = &net->nodes[event->to];
    struct gossip_event step = {.type = GOSSIP_EV_TICK};

    if (!node->core || event->run != node->runs) {
        return;
    }
    if (net->now_ms < node->stalled_until_ms) {
        if (event->type != NET_WAKE) {
            event->at_ms = node->stalled_until_ms;
            push(net, *event);
            event->bytes = NULL;
        }
        return;
    }
    switch (event->type) {
    case NET_WAKE:
        if (node->wake_at_ms > net->now_ms) {
            return; /* an earlier arrangement */
        }
        break;
    case NET_MESSAGE:
        step.type = GOSSIP_EV_RECV;
        step.recv.from = net->nodes[event->from].config.self.id;
        step.recv.bytes = shl_bytes_of(event->bytes, event->len);
        break;
    case NET_LINK:
        step.type = GOSSIP_EV_LINK;
        step.link.peer = net->nodes[event->from].config.self.id;
        step.link.up = event->up;
        if (!event->up && is_reachable(net, event->to, event->from)) {
            net->broken[event->to * net->count + event->from] = 0;
            return; /* came back in time */
        }
        break;
    }
    net->digest = (net->digest ^ net->now_ms ^ (uint64_t)event->to << 32) * 0x100000001b3ull;
    net_step(net, event->to, &step, NULL);
}

static void run_to(struct net *net, uint64_t end_ms)
{
    while (net->heap_count > 0 && net->heap[0].at_ms <= end_ms) {
        struct net_event event = pop(net);

        net->now_ms = event.at_ms;
        handle(net, &event);
        free(event.bytes);
    }
    net->now_ms = end_ms;
}

void net_run(struct net *net, uint64_t ms)
{
    run_to(net, net->now_ms + ms);
}

bool net_run_until(struct net *net,
                   uint64_t ms,
                   uint64_t every_ms,
                   bool (*done)(struct net *net, void *arg),
                   void *arg)
{
    uint64_t end_ms = net->now_ms + ms;

    while (!done(net, arg)) {
        if (net->now_ms >= end_ms) {
            return false;
        }
        run_to(net, SHL_MIN(net->now_ms + every_ms, end_ms));
    }
    return true;
}

enum gossip_life net_life(const struct net *net, uint32_t at, uint32_t about)
{
    const struct shl_node_id id = net->nodes[about].config.self.id;
    const struct gossip_member *member = gossip_member_find(net->nodes[at].core, &id);

    return member ? member->life : GOSSIP_REMOVED;
}

bool net_agrees(const struct net *net, uint32_t live)
{
    const struct gossip *first = NULL;
    uint32_t i;

    for (i = 0; i < net->count; i++) {
        const struct gossip *core = net->nodes[i].core;

        if (!core || gossip_self(core)->life != GOSSIP_ALIVE) {
            continue;
        }
        first = first ? first : core;
        if (gossip_live_count(core) != live || gossip_digest(core) != gossip_digest(first) ||
            gossip_record_digest(core) != gossip_record_digest(first)) {
            return false;
        }
    }
    return true;
}
