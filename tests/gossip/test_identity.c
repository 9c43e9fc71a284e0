/* Who may speak, and as whom. Refusals are heard on both sides. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mp.h"
#include "tests/gossip/net.h"

static bool all_agree(struct net *net, void *arg)
{
    return net_agrees(net, *(uint32_t *)arg);
}

static void begin(struct net *net, uint32_t count, uint64_t seed)
{
    net_init(net, count, seed);
    net_start_all(net);
    assert_true(net_run_until(net, 5000, 10, all_agree, &count));
    net_run(net, 2000);
}

static uint32_t copies(const struct net *net, uint32_t index)
{
    return net->nodes[index].notices[GOSSIP_NOTICE_COPIED_IDENTITY];
}

/* A machine image was cloned with its key: node 4 runs with the identity of node 1. */
static void run_copy(struct net *net, uint64_t stored_incarnation, uint64_t seed)
{
    uint32_t i;

    net_init(net, 5, seed);
    net->nodes[4].config.self.id = net_id(1);
    net->nodes[4].disk_incarnation = stored_incarnation;
    for (i = 0; i < 4; i++) {
        net_start(net, i);
        net_join(net, i, i == 0 ? 1 : 0);
    }
    net_run(net, 5000);
    net_start(net, 4);
    net_join(net, 4, 2);
    net_run(net, 20000);
}

static void test_identity_copy_is_told_on_both_sides(void **state)
{
    uint64_t stored;

    (void)state;
    for (stored = 0; stored < 3; stored++) { /* behind, equal, ahead of the original */
        struct net net;
        uint32_t i, told = 0;

        run_copy(&net, stored, stored + 1);
        assert_true(copies(&net, 1) > 0);
        assert_true(copies(&net, 4) > 0);
        assert_string_equal(net.nodes[1].last_notice.other, "n4:7000");
        assert_string_equal(net.nodes[4].last_notice.other, "n1:7000");
        for (i = 0; i < 4; i++) {
            if (i == 1) {
                continue; /* the two fight over the links; one of them sees little */
            }
            told += copies(&net, i) > 0;
            assert_int_equal(net_life(&net, i, 0), GOSSIP_ALIVE);
            assert_int_equal(net_life(&net, i, 2), GOSSIP_ALIVE);
            assert_int_equal(net_life(&net, i, 3), GOSSIP_ALIVE);
        }
        assert_true(told > 0); /* bystanders see it, too */
        net_release(&net);
    }
}

/* Two copies refute each other at a limited rate: no storm. */
static void test_identity_copy_makes_no_storm(void **state)
{
    struct net net;
    uint64_t messages;

    (void)state;
    run_copy(&net, 0, 9);
    messages = net.messages;
    net_run(&net, 60000);
    assert_in_range(net.messages - messages, 1000, 15000);
    assert_in_range(gossip_self(net.nodes[1].core)->incarnation, 1, 1000);
    net_release(&net);
}

/* A restart, a wiped disk and our own address among the seeds are no copies. */
static void test_identity_echo_and_restart_are_no_copies(void **state)
{
    struct net net;
    uint32_t i;

    (void)state;
    begin(&net, 3, 2);
    for (i = 0; i < 3; i++) {
        net_join(&net, i, i);
        net_crash(&net, 1, true);
        net_run(&net, 300);
        net.nodes[1].disk_incarnation = i == 1 ? 0 : net.nodes[1].disk_incarnation;
        net_start(&net, 1);
        net_join(&net, 1, 0);
        net_run(&net, 10000);
    }
    for (i = 0; i < 3; i++) {
        assert_int_equal(copies(&net, i), 0);
    }
    net_release(&net);
}

static void test_identity_same_name_is_reported(void **state)
{
    struct net net;

    (void)state;
    net_init(&net, 3, 3);
    (void)snprintf(net.nodes[2].config.self.name, GOSSIP_NAME_SIZE, "node-1");
    net_start_all(&net);
    net_run(&net, 3000);
    assert_int_equal(net.nodes[0].notices[GOSSIP_NOTICE_NAME_TAKEN], 1);
    assert_int_equal(net.nodes[1].notices[GOSSIP_NOTICE_NAME_TAKEN], 1);
    assert_int_equal(net.nodes[2].notices[GOSSIP_NOTICE_NAME_TAKEN], 1);
    assert_int_equal(gossip_live_count(net.nodes[0].core), 3);
    net_release(&net);
}

static void assert_refused(struct net *net,
                           uint32_t stranger,
                           enum gossip_refusal reason,
                           uint32_t others)
{
    assert_true(net->nodes[0].notices[GOSSIP_NOTICE_WE_REFUSED] +
                    net->nodes[stranger].notices[GOSSIP_NOTICE_WE_REFUSED] >
                0);
    assert_true(net->nodes[stranger].notices[GOSSIP_NOTICE_WAS_REFUSED] > 0);
    assert_int_equal(net->nodes[stranger].last_reason, reason);
    assert_int_equal(gossip_live_count(net->nodes[stranger].core), 1);
    assert_int_equal(gossip_live_count(net->nodes[0].core), others);
}

static void test_identity_other_cluster_is_refused(void **state)
{
    struct gossip_counters counters;
    struct net net;

    (void)state;
    net_init(&net, 4, 4);
    net.nodes[3].config.cluster[0] ^= 1;
    net_start_all(&net);
    net_run(&net, 60000);
    assert_refused(&net, 3, GOSSIP_REFUSAL_CLUSTER, 3);
    gossip_counters(net.nodes[0].core, &counters);
    assert_in_range(counters.refused_cluster, 1, 60);
    /* Said once in a while, not for every message. */
    assert_in_range(net.nodes[0].notices[GOSSIP_NOTICE_WE_REFUSED], 1, 7);
    net_release(&net);
}

static void test_identity_protocol_ranges_must_meet(void **state)
{
    struct net net;
    uint32_t three = 3;

    (void)state;
    net_init(&net, 3, 5);
    net.nodes[2].config.self.proto_min = 3;
    net.nodes[2].config.self.proto_max = 4;
    net_start_all(&net);
    net_run(&net, 30000);
    assert_refused(&net, 2, GOSSIP_REFUSAL_VERSION, 2);
    net_release(&net);
    net_init(&net, 3, 5);
    net.nodes[2].config.self.proto_min = 2;
    net.nodes[2].config.self.proto_max = 3;
    net_start_all(&net);
    assert_true(net_run_until(&net, 3000, 10, all_agree, &three));
    net_release(&net);
}

static bool first_byte_matches(const struct shl_node_id *id, const uint8_t key[GOSSIP_KEY_BYTES])
{
    return key[0] == id->bytes[2];
}

/* A key that does not belong to the id is not believed from anybody. */
static void test_identity_key_must_match_id(void **state)
{
    struct net net;

    (void)state;
    net_init(&net, 3, 6);
    net.nodes[0].config.key_matches = first_byte_matches;
    net.nodes[1].config.key_matches = first_byte_matches;
    net.nodes[2].config.self.key[0] = 77;
    net_start_all(&net);
    net_run(&net, 10000);
    assert_int_equal(net_life(&net, 0, 2), GOSSIP_REMOVED);
    assert_int_equal(net_life(&net, 0, 1), GOSSIP_ALIVE);
    net_release(&net);
}

/* ---- single messages ---- */

struct message {
    struct shl_buf buf;
    struct shl_mp_writer w;
};

static void message_begin(struct message *m, uint64_t version, uint64_t kind)
{
    uint8_t cluster[GOSSIP_CLUSTER_BYTES];

    memset(cluster, 7, sizeof(cluster));
    shl_buf_init(&m->buf, 65536);
    shl_mp_writer_init(&m->w, &m->buf);
    shl_mp_array(&m->w);
    shl_mp_uint(&m->w, version);
    shl_mp_bin(&m->w, cluster, sizeof(cluster));
    shl_mp_uint(&m->w, kind);
}

static void message_deliver(struct message *m, struct net *net, uint32_t to, uint32_t from)
{
    struct gossip_event event = {.type = GOSSIP_EV_RECV, .recv.from = net_id(from)};

    shl_mp_end(&m->w);
    assert_int_equal(shl_mp_done(&m->w), 0);
    event.recv.bytes = shl_buf_bytes(&m->buf);
    net_step(net, to, &event, NULL);
    shl_buf_release(&m->buf);
}

/* A suspicion of @about, said to come from @accuser (or nobody). */
static void deliver_suspicion(struct net *net,
                              uint32_t to,
                              uint32_t from,
                              uint32_t about,
                              int accuser)
{
    struct shl_node_id id = net_id(about), accuser_id = net_id((uint32_t)accuser);
    struct message m;

    message_begin(&m, 1, 5);
    shl_mp_bool(&m.w, false);
    shl_mp_array(&m.w);
    shl_mp_array(&m.w);
    shl_mp_uint(&m.w, 0);
    shl_mp_uint(&m.w, GOSSIP_SUSPECT);
    shl_mp_bin(&m.w, id.bytes, sizeof(id.bytes));
    shl_mp_uint(&m.w, 1);
    shl_mp_array(&m.w);
    if (accuser >= 0) {
        shl_mp_bin(&m.w, accuser_id.bytes, sizeof(accuser_id.bytes));
    }
    shl_mp_end(&m.w);
    shl_mp_uint(&m.w, 0);
    shl_mp_nil(&m.w);
    shl_mp_uint(&m.w, 0);
    shl_mp_end(&m.w);
    shl_mp_end(&m.w);
    message_deliver(&m, net, to, from);
}

/* serf #336: an accusation counts for a member that made it, never for the accused itself,
 * for an empty list, or for us. */
static void test_identity_nobody_accuses_himself(void **state)
{
    struct net net;

    (void)state;
    begin(&net, 4, 7);
    deliver_suspicion(&net, 0, 2, 2, 2);
    assert_int_equal(net_life(&net, 0, 2), GOSSIP_ALIVE);
    deliver_suspicion(&net, 0, 2, 2, -1);
    assert_int_equal(net_life(&net, 0, 2), GOSSIP_ALIVE);
    deliver_suspicion(&net, 0, 1, 2, 3);
    assert_int_equal(net_life(&net, 0, 2), GOSSIP_SUSPECT);
    net_release(&net);
}

/* Version n + 1 and kinds nobody knows are for newer nodes; two ahead is refused. */
static void test_identity_newer_versions(void **state)
{
    struct gossip_counters counters;
    struct message m;
    struct net net;

    (void)state;
    begin(&net, 2, 8);
    message_begin(&m, GOSSIP_WIRE_VERSION + 1, 99);
    message_deliver(&m, &net, 0, 1);
    gossip_counters(net.nodes[0].core, &counters);
    assert_int_equal(counters.unknown_kind, 1);
    message_begin(&m, GOSSIP_WIRE_VERSION + 1, 1); /* a ping with a field of the future */
    shl_mp_uint(&m.w, 5);
    shl_mp_array(&m.w);
    shl_mp_end(&m.w);
    shl_mp_str(&m.w, "future");
    message_deliver(&m, &net, 0, 1);
    assert_int_equal(net.nodes[0].actions.send_count, 1);
    message_begin(&m, GOSSIP_WIRE_VERSION + 2, 1);
    message_deliver(&m, &net, 0, 1);
    gossip_counters(net.nodes[0].core, &counters);
    assert_int_equal(counters.refused_version, 1);
    assert_int_equal(counters.malformed, 0);
    net_release(&net);
}

/* The number of the last ping that node 0 sent to node 1. */
static void note_ping(void *arg, struct net_node *node, const struct gossip_send *send)
{
    struct shl_mp_doc doc;

    if (node->index != 0 || strcmp(send->to.address, "n1:7000") != 0) {
        return;
    }
    assert_int_equal(shl_mp_parse(&doc, send->bytes), 0);
    if (doc.root->via.array.ptr[2].via.u64 == 1) {
        *(uint64_t *)arg = doc.root->via.array.ptr[3].via.u64;
    }
    shl_mp_release(&doc);
}

/* An ack counts only from the target or from a helper that was asked. */
static void test_identity_ack_of_somebody_else_is_ignored(void **state)
{
    struct gossip_counters counters;
    uint64_t seq = 0, last = 0;
    uint32_t round, forged = 0;
    struct net net;

    (void)state;
    net_init(&net, 3, 9);
    net.has_links = false;
    net_start_all(&net);
    net_run(&net, 5000);
    net.on_send = note_ping;
    net.arg = &seq;
    net_cut(&net, 0, 1, true);
    net_cut(&net, 1, 2, true); /* the helper does not reach it either */
    for (round = 0; round < 30; round++) {
        net_run(&net, 100);
        if (seq != last) {
            struct message m;

            message_begin(&m, 1, 3);
            shl_mp_uint(&m.w, seq);
            message_deliver(&m, &net, 0, 2);
            last = seq;
            forged++;
        }
    }
    assert_true(forged > 1);
    gossip_counters(net.nodes[0].core, &counters);
    assert_true(counters.probes_failed > 0);
    net_release(&net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identity_copy_is_told_on_both_sides),
        cmocka_unit_test(test_identity_copy_makes_no_storm),
        cmocka_unit_test(test_identity_echo_and_restart_are_no_copies),
        cmocka_unit_test(test_identity_same_name_is_reported),
        cmocka_unit_test(test_identity_other_cluster_is_refused),
        cmocka_unit_test(test_identity_protocol_ranges_must_meet),
        cmocka_unit_test(test_identity_key_must_match_id),
        cmocka_unit_test(test_identity_nobody_accuses_himself),
        cmocka_unit_test(test_identity_newer_versions),
        cmocka_unit_test(test_identity_ack_of_somebody_else_is_ignored),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
