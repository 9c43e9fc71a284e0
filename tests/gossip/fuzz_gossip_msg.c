/* Any bytes as a message of a member: no crash, no message over its limit, and afterwards the
 * core still answers a ping. The first byte chooses the sender, among them strangers, removed
 * nodes and the receiver itself. Also the book, which is read from disk. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gossip/net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct gossip *start(struct gossip_actions *actions)
{
    struct gossip_config config = {.members_max = 8, .seed = 1};
    struct gossip_info infos[3] = {{.proto_max = 1}, {.proto_max = 1}, {.proto_max = 1}};
    struct gossip_event event = {.type = GOSSIP_EV_ADMIT, .now_ms = 1000, .wall_s = 1000};
    struct gossip *core;
    uint32_t i;
    int rc;

    gossip_timing_defaults(&config.timing);
    memset(config.cluster, 7, sizeof(config.cluster));
    config.self = infos[0];
    for (i = 0; i < 3; i++) {
        infos[i].id = net_id(i + 1);
        memcpy(infos[i].name, "p", 2);
        memcpy(infos[i].control, "n1:7000", 8);
    }
    config.self = infos[0];
    config.self.id = net_id(0);
    rc = gossip_new(&config, &core, NULL);
    assert(rc == 0);
    event.admit.infos = infos;
    event.admit.info_count = 3;
    rc = gossip_step(core, &event, actions);
    assert(rc == 0);
    event = (struct gossip_event){.type = GOSSIP_EV_SET, .now_ms = 1001};
    event.record.key = "sb/1";
    event.record.value = shl_bytes_of("v", 1);
    rc = gossip_step(core, &event, actions);
    assert(rc == 0);
    event = (struct gossip_event){.type = GOSSIP_EV_REMOVED, .now_ms = 1001};
    event.removed = net_id(3);
    rc = gossip_step(core, &event, actions);
    assert(rc == 0);
    return core;
}

static void check(const struct gossip_actions *actions)
{
    uint32_t i;

    for (i = 0; i < actions->send_count; i++) {
        const struct gossip_send *send = &actions->sends[i];

        assert(send->bytes.len <= GOSSIP_MESSAGE_MAX);
        assert(send->lane != GOSSIP_LANE_PING || send->bytes.len <= GOSSIP_PING_MAX);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gossip_event event = {.type = GOSSIP_EV_RECV, .now_ms = 2000};
    struct gossip_config config = {.seed = 1};
    struct gossip_actions actions;
    struct gossip *core, *other;
    uint64_t now_ms;
    int rc;

    if (size < 1) {
        return 0;
    }
    gossip_actions_init(&actions);
    core = start(&actions);
    event.recv.from = net_id(data[0] % 6);
    event.recv.bytes = shl_bytes_of(data + 1, size - 1);
    rc = gossip_step(core, &event, &actions);
    assert(rc == 0);
    check(&actions);
    for (now_ms = 2000; now_ms < 40000; now_ms += 400) {
        event = (struct gossip_event){.type = GOSSIP_EV_TICK, .now_ms = now_ms, .wall_s = now_ms};
        rc = gossip_step(core, &event, &actions);
        assert(rc == 0);
        check(&actions);
    }
    assert(gossip_self(core)->life == GOSSIP_ALIVE);
    assert(gossip_member_count(core) <= GOSSIP_BOOK_MAX + 8);
    gossip_free(core);
    gossip_actions_release(&actions);

    gossip_timing_defaults(&config.timing);
    config.self.id = net_id(0);
    memcpy(config.self.name, "p", 2);
    memcpy(config.self.control, "n1:7000", 8);
    config.book = shl_bytes_of(data + 1, size - 1);
    if (gossip_new(&config, &other, NULL) == 0) {
        gossip_free(other);
    }
    return 0;
}
