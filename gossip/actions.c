#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gossip/core.h"

void gossip_actions_init(struct gossip_actions *actions)
{
    *actions = (struct gossip_actions){.wake_at_ms = UINT64_MAX};
    shl_buf_init(&actions->bytes, GOSSIP_ARENA_MAX);
}

void gossip_actions_release(struct gossip_actions *actions)
{
    free(actions->sends);
    free(actions->changes);
    free(actions->records);
    free(actions->notices);
    shl_buf_release(&actions->bytes);
    *actions = (struct gossip_actions){.wake_at_ms = UINT64_MAX};
}

void gossip_actions_clear(struct gossip_actions *actions)
{
    actions->send_count = 0;
    actions->change_count = 0;
    actions->record_count = 0;
    actions->notice_count = 0;
    actions->persist = (struct gossip_persist){0};
    actions->error = 0;
    shl_buf_clear(&actions->bytes);
}

/* Room for one more element; NULL without memory, which ends the step with -ENOMEM. */
static void *grow(struct gossip *g, void *items, size_t size, uint32_t count, uint32_t *room)
{
    uint32_t wanted = *room ? *room * 2 : 16;
    void *grown;

    if (count < *room) {
        return items;
    }
    grown = reallocarray(items, wanted, size);
    if (!grown) {
        g->out->error = -ENOMEM;
        return NULL;
    }
    *room = wanted;
    return grown;
}

void gossip_emit_send(struct gossip *g,
                      const struct gossip_contact *to,
                      enum gossip_lane lane,
                      size_t from)
{
    struct gossip_actions *out = g->out;
    struct gossip_send *sends =
        grow(g, out->sends, sizeof(*sends), out->send_count, &out->send_room);
    size_t len = shl_buf_len(&out->bytes) - from;

    if (!sends) {
        return;
    }
    out->sends = sends;
    sends[out->send_count++] = (struct gossip_send){
        .to = *to,
        .lane = lane,
        .bytes = {NULL, len},
        .offset = from,
    };
    g->counters.sent[lane]++;
    g->counters.sent_bytes[lane] += len;
}

static struct gossip_change *add_change(struct gossip *g)
{
    struct gossip_actions *out = g->out;
    struct gossip_change *changes =
        grow(g, out->changes, sizeof(*changes), out->change_count, &out->change_room);

    if (!changes) {
        return NULL;
    }
    out->changes = changes;
    return &changes[out->change_count++];
}

void gossip_emit_change(struct gossip *g,
                        const struct gossip_peer *peer,
                        enum gossip_life before,
                        bool is_new)
{
    struct gossip_change *change = add_change(g);

    if (change) {
        *change = (struct gossip_change){
            .id = peer->pub.info.id,
            .is_new = is_new,
            .before = before,
            .after = peer->pub.life,
        };
    }
}

void gossip_emit_gone(struct gossip *g, const struct shl_node_id *id, enum gossip_life before)
{
    struct gossip_change *change = add_change(g);

    if (change) {
        *change = (struct gossip_change){.id = *id, .before = before, .after = GOSSIP_REMOVED};
    }
}

void gossip_emit_record(struct gossip *g, const struct shl_node_id *id, const char *key)
{
    struct gossip_actions *out = g->out;
    struct gossip_record_change *records =
        grow(g, out->records, sizeof(*records), out->record_count, &out->record_room);
    size_t offset = shl_buf_len(&out->bytes);
    int rc = 0;

    if (!records) {
        return;
    }
    out->records = records;
    if (key) {
        rc = shl_buf_append(&out->bytes, key, strlen(key) + 1);
    }
    if (rc < 0) {
        out->error = rc;
        return;
    }
    records[out->record_count++] = (struct gossip_record_change){
        .id = *id,
        .offset = key ? offset : SIZE_MAX,
    };
}

void gossip_emit_notice(struct gossip *g, const struct gossip_notice *notice)
{
    struct gossip_actions *out = g->out;
    struct gossip_notice *notices =
        grow(g, out->notices, sizeof(*notices), out->notice_count, &out->notice_room);

    if (notices) {
        out->notices = notices;
        notices[out->notice_count++] = *notice;
    }
}

/* The arena no longer moves: offsets become pointers. */
void gossip_actions_finish(struct gossip *g)
{
    struct gossip_actions *out = g->out;
    const uint8_t *base = shl_buf_data(&out->bytes);
    uint32_t i;

    for (i = 0; i < out->send_count; i++) {
        out->sends[i].bytes.base = base + out->sends[i].offset;
    }
    for (i = 0; i < out->record_count; i++) {
        size_t offset = out->records[i].offset;

        out->records[i].key = offset == SIZE_MAX ? NULL : (const char *)base + offset;
    }
}

void gossip_contact_of(struct gossip_contact *ret, const struct gossip_info *info)
{
    ret->id = info->id;
    memcpy(ret->key, info->key, sizeof(ret->key));
    memcpy(ret->address, info->control, sizeof(ret->address));
}
