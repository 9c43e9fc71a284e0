/* Any bytes as messages to a follower and to a leader: they decode or not, what decodes
 * encodes again to something that decodes, and no core breaks its own rules.
 *
 * The first byte says whether the core leads. Then messages follow, each with a length (two
 * bytes) and a byte that picks the sender. Storage answers at once. */
#include <assert.h>
#include <stdlib.h>

#include "scheduler/raft_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sched_raft_msg_room room;

static void round_trip(struct shl_bytes bytes)
{
    struct sched_raft_msg msg;
    struct shl_buf again;
    int rc;

    if (sched_raft_msg_decode(bytes, &room, &msg) < 0) {
        return;
    }
    shl_buf_init(&again, 2 * SCHED_RAFT_MESSAGE_BYTES_MAX);
    rc = sched_raft_msg_encode(&msg, &again);
    assert(rc == 0);
    rc = sched_raft_msg_decode(shl_buf_bytes(&again), &room, &msg);
    assert(rc == 0);
    shl_buf_release(&again);
}

static void check(const struct sched_raft *raft)
{
    const char *fault = sched_raft_check(raft);

    if (fault) {
        abort();
    }
}

static void step(struct sched_raft *raft,
                 struct sched_raft_event *event,
                 struct sched_raft_actions *actions)
{
    uint64_t seq;
    uint32_t i;

    (void)!sched_raft_step(raft, event, actions);
    check(raft);
    do {
        struct sched_raft_event done = {.type = SCHED_RAFT_PERSISTED, .now_ms = event->now_ms};

        seq = 0;
        for (i = 0; i < actions->count; i++) {
            if (actions->items[i].type == SCHED_RAFT_ACT_PERSIST) {
                seq = actions->items[i].u.persist.seq;
            }
        }
        if (seq > 0) {
            done.u.persisted.seq = seq;
            (void)!sched_raft_step(raft, &done, actions);
            check(raft);
        }
    } while (seq > 0);
}

static struct shl_node_id id_of(uint8_t number)
{
    struct shl_node_id id = {{0}};

    id.bytes[0] = number;
    return id;
}

/* Node 1 of three; with @lead it stands and gets node 2's votes. */
static struct sched_raft *new_core(bool lead, struct sched_raft_actions *actions)
{
    struct sched_raft_membership m = {.count = 3};
    struct sched_raft_event event = {.type = SCHED_RAFT_BOOTSTRAP, .now_ms = 1};
    struct sched_raft_config config;
    struct sched_raft *raft;
    uint8_t i;
    int rc;

    sched_raft_config_init(&config);
    config.self = id_of(1);
    config.limits.snapshot_bytes = 65536;
    config.limits.log_bytes = 65536;
    rc = sched_raft_new(&config, &raft);
    assert(rc == 0);
    for (i = 0; i < 3; i++) {
        m.members[i].id = id_of((uint8_t)(i + 1));
        m.members[i].standing = SCHED_RAFT_VOTER;
    }
    event.u.bootstrap.membership = &m;
    step(raft, &event, actions);
    for (i = 0; lead && i < 2; i++) {
        struct sched_raft_msg vote = {.kind = SCHED_RAFT_MSG_VOTE_ANSWER, .term = 1u + i};
        struct shl_buf bytes;

        event.type = SCHED_RAFT_CAMPAIGN;
        if (i == 0) {
            step(raft, &event, actions);
        }
        vote.u.vote_answer.for_term = 2;
        vote.u.vote_answer.pre = i == 0;
        vote.u.vote_answer.granted = true;
        shl_buf_init(&bytes, 4096);
        rc = sched_raft_msg_encode(&vote, &bytes);
        assert(rc == 0);
        event.type = SCHED_RAFT_RECV;
        event.u.recv.from = id_of(2);
        event.u.recv.bytes = shl_buf_bytes(&bytes);
        step(raft, &event, actions);
        shl_buf_release(&bytes);
    }
    assert(!lead || sched_raft_role(raft) == SCHED_RAFT_LEADER);
    return raft;
}

static void feed(bool lead, const uint8_t *data, size_t size)
{
    struct sched_raft_event event = {.type = SCHED_RAFT_RECV, .now_ms = 2};
    struct sched_raft_actions actions;
    struct sched_raft *raft;

    sched_raft_actions_init(&actions);
    raft = new_core(lead, &actions);
    while (size >= 3) {
        size_t len = SHL_MIN(shl_get_le16(data), size - 3);

        event.u.recv.from = id_of((uint8_t)(2 + data[2] % 3)); /* two members, one stranger */
        event.u.recv.bytes = shl_bytes_of(data + 3, len);
        event.now_ms += data[2];
        step(raft, &event, &actions);
        event.type = SCHED_RAFT_TICK;
        step(raft, &event, &actions);
        event.type = SCHED_RAFT_RECV;
        data += 3 + len;
        size -= 3 + len;
    }
    sched_raft_free(raft);
    sched_raft_actions_release(&actions);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 1) {
        round_trip(shl_bytes_of(data + SHL_MIN(size, 4), size - SHL_MIN(size, 4)));
        feed(data[0] & 1, data + 1, size - 1);
    }
    return 0;
}
