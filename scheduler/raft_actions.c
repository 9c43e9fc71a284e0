/* Filling struct sched_raft_actions. */
#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "scheduler/raft_internal.h"

#define ITEMS_MIN 16u
/* All SENDs of one step. A message that does not fit is not sent, as if it were lost. */
#define SEND_BYTES_MAX (256u * 1024 * 1024)

void sched_raft_actions_init(struct sched_raft_actions *actions)
{
    *actions = (struct sched_raft_actions){.wake_at_ms = SCHED_RAFT_NEVER_MS};
    shl_buf_init(&actions->bytes, SEND_BYTES_MAX);
}

void sched_raft_actions_release(struct sched_raft_actions *actions)
{
    free(actions->items);
    shl_buf_release(&actions->bytes);
    *actions = (struct sched_raft_actions){0};
}

void sched_raft_actions_clear(struct sched_raft_actions *actions)
{
    actions->count = 0;
    shl_buf_clear(&actions->bytes);
}

struct sched_raft_action *sched_raft_emit(struct sched_raft *r, enum sched_raft_action_type type)
{
    struct sched_raft_actions *out = r->out;
    struct sched_raft_action *item;

    if (out->count == out->capacity) {
        uint32_t capacity = SHL_MAX(out->capacity * 2, ITEMS_MIN);
        struct sched_raft_action *grown = reallocarray(out->items, capacity, sizeof(*grown));

        if (!grown) {
            r->error = -ENOMEM;
            return NULL;
        }
        out->items = grown;
        out->capacity = capacity;
    }
    item = &out->items[out->count++];
    item->type = type;
    return item;
}

/* The buffer may still move: keep the offset until the end of the step. */
void sched_raft_send(struct sched_raft *r,
                     const struct shl_node_id *to,
                     const struct sched_raft_msg *msg)
{
    size_t start = shl_buf_len(&r->out->bytes);
    int rc = sched_raft_msg_encode(msg, &r->out->bytes);
    struct sched_raft_action *item;

    if (rc == -ENOMEM) {
        r->error = rc;
    }
    if (rc < 0) {
        return;
    }
    item = sched_raft_emit(r, SCHED_RAFT_ACT_SEND);
    if (item) {
        item->u.send.to = *to;
        item->u.send.bytes = shl_bytes_of((const void *)start, shl_buf_len(&r->out->bytes) - start);
    }
}

void sched_raft_actions_point(struct sched_raft_actions *actions)
{
    const uint8_t *base = shl_buf_data(&actions->bytes);
    uint32_t i;

    for (i = 0; i < actions->count; i++) {
        struct sched_raft_action *item = &actions->items[i];

        if (item->type == SCHED_RAFT_ACT_SEND) {
            item->u.send.bytes.base = base + (uintptr_t)item->u.send.bytes.base;
        }
    }
}

void sched_raft_emit_result(struct sched_raft *r,
                            uint64_t tag,
                            enum sched_raft_reason reason,
                            uint64_t index)
{
    struct sched_raft_action *item = sched_raft_emit(r, SCHED_RAFT_ACT_RESULT);

    if (item) {
        item->u.result.tag = tag;
        item->u.result.reason = reason;
        item->u.result.index = index;
        item->u.result.leader = r->leader;
    }
}

void sched_raft_emit_read_failed(struct sched_raft *r, uint64_t tag, enum sched_raft_reason reason)
{
    struct sched_raft_action *item = sched_raft_emit(r, SCHED_RAFT_ACT_READ_FAILED);

    if (item) {
        item->u.read.tag = tag;
        item->u.read.index = 0;
        item->u.read.reason = reason;
        item->u.read.leader = r->leader;
    }
}

const char *sched_raft_reason_text(enum sched_raft_reason reason)
{
    static const char *const texts[SCHED_RAFT_REASON_COUNT] = {
        [SCHED_RAFT_DONE] = "done",
        [SCHED_RAFT_NOT_LEADER] = "this node is not the leader",
        [SCHED_RAFT_LOST] = "leadership ended before the outcome was known; it may have happened",
        [SCHED_RAFT_TRANSFERRING] = "leadership is being handed over, try again",
        [SCHED_RAFT_TOO_LARGE] = "the command is too large",
        [SCHED_RAFT_LOG_FULL] = "the log is full until a majority and a snapshot catch up",
        [SCHED_RAFT_BUSY] = "too much of this is under way, try again",
        [SCHED_RAFT_EXISTS] = "the member is already what was asked for",
        [SCHED_RAFT_NO_MEMBER] = "there is no such member of that standing",
        [SCHED_RAFT_NOT_CAUGHT_UP] = "the member has not caught up with the log",
        [SCHED_RAFT_LAST_VOTER] = "the last voter cannot go",
        [SCHED_RAFT_MEMBER_LIMIT] = "there are as many members or voters as there can be",
        [SCHED_RAFT_TIMED_OUT] = "the chosen node did not take over in time",
        [SCHED_RAFT_STOPPED] = "storage failed, this node takes no part any more",
    };

    return (unsigned)reason < SCHED_RAFT_REASON_COUNT ? texts[reason] : "unknown";
}

const char *sched_raft_role_name(enum sched_raft_role role)
{
    switch (role) {
    case SCHED_RAFT_FOLLOWER:
        return "follower";
    case SCHED_RAFT_PRE_CANDIDATE:
        return "pre-candidate";
    case SCHED_RAFT_CANDIDATE:
        return "candidate";
    case SCHED_RAFT_LEADER:
        return "leader";
    case SCHED_RAFT_FAILED:
        return "failed";
    }
    return "unknown";
}
