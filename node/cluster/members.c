/* The gossip core in this daemon: its messages over the mesh, its memory in the store. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/id.h"
#include "node/cluster/cluster_private.h"
#include "node/cluster/replicas.h"

#define INCARNATION_ID "incarnation"
#define BOOK_ID        "book"
#define BOOK_MAX       (1024u * 1024)

static void on_timer(uv_timer_t *timer)
{
    struct gossip_event event = {.type = GOSSIP_EV_TICK};

    cluster_members_feed(timer->data, &event);
}

/* ---- disk ------------------------------------------------------------------------ */

static int load_incarnation(struct cluster *c, uint64_t *ret, struct shl_err *err)
{
    struct shl_buf buf;
    int rc;

    *ret = 0;
    shl_buf_init(&buf, 8);
    rc = node_store_get(c->store, CLUSTER_STORE_KIND, INCARNATION_ID, &buf, err);
    if (rc == 0 && shl_buf_len(&buf) != 8) {
        rc = shl_err_set(err, SHL_ECORRUPT, "the record of this node's incarnation is damaged");
    } else if (rc == 0) {
        *ret = shl_get_le64(shl_buf_data(&buf));
    }
    shl_buf_release(&buf);
    return rc == SHL_ENOTFOUND ? 0 : rc;
}

/* What has not been stored must not be said: after a crash this node would say less than others
 * have heard of it, and be taken for a copy. False keeps it silent until the disk takes it. */
static bool save_incarnation(struct cluster *c)
{
    struct shl_err err = {0};
    uint8_t bytes[8];

    if (c->incarnation_unsaved == 0) {
        return true;
    }
    shl_put_le64(bytes, c->incarnation_unsaved);
    if (node_store_put(c->store, CLUSTER_STORE_KIND, INCARNATION_ID, shl_bytes_of(bytes, 8), &err) <
        0) {
        if (!c->incarnation_told) {
            c->incarnation_told = true;
            SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "incarnation_not_saved", SHL_S("error", err.msg),
                    SHL_S("effect", "this node is silent towards the others until its disk works"));
        }
        return false;
    }
    c->incarnation_unsaved = 0;
    c->incarnation_told = false;
    return true;
}

static void save_book(struct cluster *c)
{
    struct shl_err err = {0};
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, BOOK_MAX);
    rc = gossip_book_encode(c->gossip, &buf);
    if (rc == 0) {
        rc = node_store_put(c->store, CLUSTER_STORE_KIND, BOOK_ID, shl_buf_bytes(&buf), &err);
    }
    if (rc < 0) {
        SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "member_book_not_saved",
                SHL_S("error", err.msg[0] ? err.msg : shl_err_text(rc)));
    }
    shl_buf_release(&buf);
}

/* ---- what the core asks for ------------------------------------------------------ */

/* Admit the key on the mesh and keep a link to it. */
static void link_to(struct cluster *c,
                    const struct shl_node_id *id,
                    const uint8_t key[GOSSIP_KEY_BYTES],
                    const char *address)
{
    struct node_mesh_addr addr;
    struct shl_err err = {0};

    if (shl_node_id_equal(id, &c->keys.id)) {
        return;
    }
    if (node_mesh_addr_parse(address, &addr) < 0) {
        (void)shl_err_set(&err, SHL_EPROTO, "its address is not valid");
    } else if (node_mesh_set_peer(c->mesh, id, key, &addr, 1, &err) == 0) {
        return;
    }
    SHL_LOG(&c->log_sink, SHL_LOG_WARN, "member_without_link",
            SHL_S("node", cluster_node_name(c, id)), SHL_S("error", err.msg));
}

/* Those who are only known by name (from the book, by admission) are dialled, too. */
static void link_to_all(struct cluster *c)
{
    uint32_t i;

    for (i = 0; i < gossip_member_count(c->gossip); i++) {
        const struct gossip_member *member = gossip_member_at(c->gossip, i);

        link_to(c, &member->info.id, member->info.key, member->info.control);
    }
}

static void send_all(struct cluster *c, const struct gossip_actions *actions)
{
    uint32_t i;

    for (i = 0; i < actions->send_count; i++) {
        const struct gossip_send *send = &actions->sends[i];

        if (!shl_node_id_is_none(&send->to.id)) { /* seeds have ids here (join.c) */
            (void)node_mesh_send(c->mesh, &send->to.id, CLUSTER_MSG_GOSSIP, send->bytes);
        }
    }
}

static void take_change(struct cluster *c, const struct gossip_change *change)
{
    const struct gossip_member *member = gossip_member_find(c->gossip, &change->id);

    if (change->after == GOSSIP_REMOVED || !member) {
        node_mesh_remove_peer(c->mesh, &change->id);
    } else {
        link_to(c, &change->id, member->info.key, member->info.control);
    }
    cluster_replicas_member(c, &change->id,
                            change->after != GOSSIP_ALIVE && change->after != GOSSIP_SUSPECT);
    if (change->before != change->after || change->is_new) {
        SHL_LOG(&c->log_sink, change->after == GOSSIP_DEAD ? SHL_LOG_WARN : SHL_LOG_INFO,
                "member_state", SHL_S("node", cluster_node_name(c, &change->id)),
                SHL_S("from", change->is_new ? "unknown" : gossip_life_name(change->before)),
                SHL_S("to", gossip_life_name(change->after)));
    }
}

static void take_record(struct cluster *c, const struct gossip_record_change *change)
{
    struct cluster_figures figures;

    if (change->key && strcmp(change->key, CLUSTER_KEY_NODE) == 0 &&
        !shl_node_id_equal(&change->id, &c->keys.id) &&
        cluster_figures_get(c, &change->id, &figures) == 0) {
        cluster_place_seen(c, &change->id, figures.admitted);
    }
}

static void take_notice(struct cluster *c, const struct gossip_notice *notice)
{
    const char *node = cluster_node_name(c, &notice->id);

    switch (notice->type) {
    case GOSSIP_NOTICE_COPIED_IDENTITY:
        SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "copied_identity", SHL_S("node", node),
                SHL_S("other_address", notice->other),
                SHL_S("effect", "two processes run with the identity of one node: stop one of "
                                "them and give it an empty data folder and a token"));
        break;
    case GOSSIP_NOTICE_NAME_TAKEN:
        SHL_LOG(&c->log_sink, SHL_LOG_WARN, "node_name_taken", SHL_S("node", node),
                SHL_S("also", cluster_node_name(c, &notice->other_id)));
        break;
    case GOSSIP_NOTICE_WE_REFUSED:
        SHL_LOG(&c->log_sink, SHL_LOG_WARN, "node_refused", SHL_S("node", node),
                SHL_S("reason", gossip_refusal_text(notice->reason)));
        break;
    case GOSSIP_NOTICE_WAS_REFUSED:
        SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "refused_by_node", SHL_S("node", node),
                SHL_S("reason", gossip_refusal_text(notice->reason)));
        break;
    case GOSSIP_NOTICE_WE_ARE_REMOVED:
        SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "removed_from_cluster", SHL_S("by", node),
                SHL_S("effect", "this node was removed for good: stop it, and let it join anew "
                                "with an empty data folder if it shall come back"));
        break;
    case GOSSIP_NOTICE_FULL:
        SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "too_many_members", SHL_S("node", node));
        break;
    case GOSSIP_NOTICE_LEAVE_DONE:
        break;
    }
}

static void carry_out(struct cluster *c, const struct gossip_actions *actions)
{
    uint32_t i;

    if (actions->persist.incarnation != 0) {
        c->incarnation_unsaved = actions->persist.incarnation;
    }
    /* before the sends: what is new in the list is what they go to */
    for (i = 0; i < actions->change_count; i++) {
        take_change(c, &actions->changes[i]);
    }
    if (save_incarnation(c)) {
        send_all(c, actions);
    }
    for (i = 0; i < actions->record_count; i++) {
        take_record(c, &actions->records[i]);
    }
    for (i = 0; i < actions->notice_count; i++) {
        take_notice(c, &actions->notices[i]);
    }
    if (actions->persist.book) {
        save_book(c);
    }
}

void cluster_members_feed(struct cluster *c, struct gossip_event *event)
{
    uint64_t wake_at_ms;
    int rc;

    if (!c->gossip) {
        return;
    }
    event->now_ms = cluster_now_ms();
    event->wall_s = cluster_wall_ms() / 1000;
    rc = gossip_step(c->gossip, event, &c->gossip_actions);
    if (rc < 0) {
        SHL_LOG(&c->log_sink, SHL_LOG_ERROR, "gossip_step", SHL_I("event", event->type),
                SHL_S("error", shl_err_text(rc)));
        if (rc == -ENOMEM) {
            gossip_free(c->gossip); /* not whole any more; a restart begins anew */
            c->gossip = NULL;
        }
        return;
    }
    wake_at_ms = c->gossip_actions.wake_at_ms;
    if (event->type == GOSSIP_EV_ADMIT) {
        link_to_all(c);
    }
    carry_out(c, &c->gossip_actions);
    if (wake_at_ms != UINT64_MAX && !c->is_closing) {
        uint64_t now_ms = cluster_now_ms();

        (void)uv_timer_start(&c->gossip_timer, on_timer,
                             wake_at_ms > now_ms ? wake_at_ms - now_ms : 0, 0);
    }
}

static void on_message(void *arg, const struct shl_node_id *from, struct shl_bytes body)
{
    struct gossip_event event = {.type = GOSSIP_EV_RECV, .recv = {*from, body}};

    cluster_members_feed(arg, &event);
}

/* ---- opening --------------------------------------------------------------------- */

static bool key_matches(const struct shl_node_id *id, const uint8_t key[GOSSIP_KEY_BYTES])
{
    struct shl_node_id own;

    node_mesh_keys_id(key, &own);
    return shl_node_id_equal(id, &own);
}

static void describe_self(const struct cluster *c, struct gossip_info *info)
{
    info->id = c->keys.id;
    memcpy(info->key, c->keys.public_key, GOSSIP_KEY_BYTES);
    (void)snprintf(info->name, sizeof(info->name), "%s", c->name);
    node_mesh_addr_format(info->control, &c->addr);
    (void)snprintf(info->bulk, sizeof(info->bulk), "%s", info->control);
    (void)snprintf(info->domain, sizeof(info->domain), "%s", c->domain);
    info->flags = c->is_witness ? GOSSIP_FLAG_WITNESS : 0;
    info->proto_min = (uint16_t)c->version_min;
    info->proto_max = (uint16_t)c->version_max;
}

/* The emulator stalls nodes for seconds when all of them work. */
static void slow_timing(struct gossip_timing *timing)
{
    timing->probe_ms *= 2;
    timing->ping_timeout_ms *= 2;
    timing->broken_ms *= 2;
}

int cluster_members_open(struct cluster *c, struct shl_err *err)
{
    struct gossip_config config = {.key_matches = key_matches};
    struct gossip_event tick = {.type = GOSSIP_EV_TICK};
    struct shl_buf book;
    int rc;

    describe_self(c, &config.self);
    memcpy(config.cluster, c->id, sizeof(config.cluster));
    gossip_timing_defaults(&config.timing);
    if (c->is_slow) {
        slow_timing(&config.timing);
    }
    shl_random_bytes(&config.seed, sizeof(config.seed));
    rc = load_incarnation(c, &config.incarnation, err);
    if (rc < 0) {
        return rc;
    }
    shl_buf_init(&book, BOOK_MAX);
    rc = node_store_get(c->store, CLUSTER_STORE_KIND, BOOK_ID, &book, err);
    if (rc == 0 || rc == SHL_ENOTFOUND) {
        config.book = shl_buf_bytes(&book);
        rc = gossip_new(&config, &c->gossip, err);
    }
    if (rc == SHL_ECORRUPT) {
        SHL_LOG(&c->log_sink, SHL_LOG_WARN, "member_book_dropped", SHL_S("error", err->msg),
                SHL_S("effect", "members are found again through the log"));
        config.book = shl_bytes_of(NULL, 0);
        rc = gossip_new(&config, &c->gossip, err);
    }
    shl_buf_release(&book);
    if (rc < 0) {
        return rc;
    }
    gossip_actions_init(&c->gossip_actions);
    c->gossip_timer.data = c;
    node_mesh_on(c->mesh, CLUSTER_MSG_GOSSIP, GOSSIP_MESSAGE_MAX, on_message, c);
    link_to_all(c);
    cluster_members_feed(c, &tick);
    return 0;
}

/* ---- use ------------------------------------------------------------------------- */

void cluster_members_set(struct cluster *c, const char *key, struct shl_bytes value)
{
    struct gossip_event event = {.type = GOSSIP_EV_SET, .record = {.key = key, .value = value}};

    cluster_members_feed(c, &event);
}

void cluster_members_unset(struct cluster *c, const char *key)
{
    struct gossip_event event = {.type = GOSSIP_EV_UNSET, .record = {.key = key}};

    cluster_members_feed(c, &event);
}

static bool is_live(const struct gossip_member *member)
{
    return member->life == GOSSIP_ALIVE || member->life == GOSSIP_SUSPECT;
}

bool cluster_members_is_live(const struct cluster *c, const struct shl_node_id *id)
{
    const struct gossip_member *member = c->gossip ? gossip_member_find(c->gossip, id) : NULL;

    return member && is_live(member);
}

bool cluster_members_is_alive(const struct cluster *c, const struct shl_node_id *id)
{
    const struct gossip_member *member = c->gossip ? gossip_member_find(c->gossip, id) : NULL;

    return member && member->life == GOSSIP_ALIVE;
}

void cluster_members_each_live(struct cluster *c,
                               bool (*each)(void *arg, const struct gossip_member *member),
                               void *arg)
{
    uint32_t i;

    for (i = 0; c->gossip && i < gossip_member_count(c->gossip); i++) {
        const struct gossip_member *member = gossip_member_at(c->gossip, i);

        if (is_live(member) && !shl_node_id_equal(&member->info.id, &c->keys.id) &&
            !each(arg, member)) {
            return;
        }
    }
}
