/* Per-node records: everybody gets them, late or not, and what is unset stays unset. */
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
    net_run(net, 5000);
}

static void assert_value(const struct net *net,
                         uint32_t at,
                         uint32_t owner,
                         const char *key,
                         const char *value)
{
    struct shl_node_id id = net_id(owner);
    const struct gossip_record *record = gossip_record_get(net->nodes[at].core, &id, key);

    if (!value) {
        assert_null(record);
        return;
    }
    assert_non_null(record);
    assert_int_equal(record->value.len, strlen(value));
    assert_memory_equal(record->value.base, value, strlen(value));
}

static void test_record_reaches_everybody(void **state)
{
    struct net net;
    uint32_t i, count = 30;

    (void)state;
    begin(&net, count, 1);
    net_set(&net, 3, "load", "0.5");
    net_set(&net, 3, "load", "0.6"); /* replaces the rumour that is still waiting */
    net_set(&net, 4, "empty", "");
    assert_true(net_run_until(&net, 600, 1, all_agree, &count));
    for (i = 0; i < count; i++) {
        assert_value(&net, i, 3, "load", "0.6");
        assert_value(&net, i, 4, "empty", "");
    }
    net_unset(&net, 3, "load");
    assert_true(net_run_until(&net, 600, 1, all_agree, &count));
    for (i = 0; i < count; i++) {
        assert_value(&net, i, 3, "load", NULL);
    }
    net_release(&net);
}

static void test_record_repeated_set_spreads_nothing(void **state)
{
    struct gossip_counters counters;
    struct net net;

    (void)state;
    begin(&net, 3, 2);
    net_set(&net, 0, "a", "1");
    net_run(&net, 2000);
    net_set(&net, 0, "a", "1");
    net_unset(&net, 0, "never");
    gossip_counters(net.nodes[0].core, &counters);
    assert_int_equal(counters.queued, 0);
    assert_int_equal(net.nodes[0].actions.record_count, 0);
    net_release(&net);
}

static void count_records(void *arg,
                          struct net_node *node,
                          const struct gossip_record_change *change)
{
    uint32_t *counts = arg;

    assert_string_equal(change->key, "x");
    counts[node->index]++;
}

static void test_record_changes_are_reported_once(void **state)
{
    uint32_t counts[10] = {0}, i;
    struct net net;

    (void)state;
    begin(&net, 10, 3);
    net.on_record = count_records;
    net.arg = counts;
    net_set(&net, 0, "x", "1");
    net_run(&net, 40000);
    for (i = 0; i < 10; i++) {
        assert_int_equal(counts[i], 1);
    }
    net_release(&net);
}

/* Far more than one message holds, fetched piece by piece. */
static void test_record_late_joiner_gets_everything(void **state)
{
    struct shl_node_id id = net_id(1);
    struct net net;
    char key[32], value[600];
    uint32_t i, four = 4;

    (void)state;
    net_init(&net, 4, 4);
    for (i = 0; i < 3; i++) {
        net_start(&net, i);
        net_join(&net, i, i == 0 ? 1 : 0);
    }
    net_run(&net, 3000);
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    for (i = 0; i < 1000; i++) {
        (void)snprintf(key, sizeof(key), "sb/%04u", i);
        net_set(&net, 1, key, value);
    }
    net_run(&net, 20000);
    net_start(&net, 3);
    net_join(&net, 3, 0);
    assert_true(net_run_until(&net, 2000, 10, all_agree, &four));
    assert_int_equal(gossip_record_count(net.nodes[3].core, &id), 1000);
    assert_value(&net, 3, 1, "sb/0999", value);
    net_release(&net);
}

/* swift-cluster-membership #37: counted gossip alone leaves somebody out. */
static void test_record_missed_rumours_are_repaired(void **state)
{
    struct net net;
    uint32_t i, count = 5;
    char key[16];

    (void)state;
    begin(&net, count, 5);
    net.has_links = false;
    for (i = 0; i < 4; i++) {
        net_cut(&net, i, 4, true);
    }
    for (i = 0; i < 50; i++) {
        (void)snprintf(key, sizeof(key), "k%u", i % 20);
        net_set(&net, 0, key, i % 3 ? "a" : "b");
        net_run(&net, 50);
    }
    net_unset(&net, 0, "k3");
    net_run(&net, 1500); /* short of a death */
    for (i = 0; i < 4; i++) {
        net_cut(&net, i, 4, false);
    }
    assert_true(net_run_until(&net, 5000, 10, all_agree, &count));
    assert_value(&net, 4, 0, "k3", NULL);
    net_release(&net);
}

/* The mark of an unset key is dropped after a while; a node that missed it must not keep the
 * key, nor give it back to the others. */
static void test_record_unset_key_does_not_come_back(void **state)
{
    struct net net;
    uint32_t i, three = 3;

    (void)state;
    net_init(&net, 3, 6);
    for (i = 0; i < 3; i++) {
        net.nodes[i].config.timing.unset_keep_ms = 20000;
    }
    net_start_all(&net);
    net_set(&net, 0, "gone", "1");
    net_set(&net, 0, "kept", "1");
    net_run(&net, 3000);
    assert_value(&net, 2, 0, "gone", "1");
    net_split(&net, 2, true);
    net_run(&net, 5000);
    net_unset(&net, 0, "gone");
    net_run(&net, 80000);
    net_set(&net, 0, "later", "1");
    net_run(&net, 40000);
    assert_value(&net, 2, 0, "gone", "1");
    net_split(&net, 2, false);
    assert_true(net_run_until(&net, 30000, 10, all_agree, &three));
    net_run(&net, 60000);
    for (i = 0; i < 3; i++) {
        assert_value(&net, i, 0, "gone", NULL);
        assert_value(&net, i, 0, "kept", "1");
        assert_value(&net, i, 0, "later", "1");
    }
    net_release(&net);
}

/* Who got the whole set has no marks of what was unset before: somebody with an old set must not
 * get from it only what is newer. */
static void test_record_old_set_meets_one_without_marks(void **state)
{
    struct net net;
    uint32_t i;

    (void)state;
    net_init(&net, 4, 11);
    for (i = 0; i < 4; i++) {
        net.nodes[i].config.timing.unset_keep_ms = 20000;
    }
    for (i = 0; i < 3; i++) {
        net_start(&net, i);
        if (i > 0) {
            net_join(&net, i, 0);
        }
    }
    net_set(&net, 0, "gone", "1");
    net_run(&net, 5000);
    assert_value(&net, 2, 0, "gone", "1");
    for (i = 0; i < 4; i++) { /* node 2 will meet node 3 only */
        if (i != 2 && i != 3) {
            net_cut(&net, 2, i, true);
            net_cut(&net, i, 2, true);
        }
    }
    net_unset(&net, 0, "gone");
    net_set(&net, 0, "later", "1");
    net_run(&net, 60000);
    assert_value(&net, 2, 0, "gone", "1");
    net_start(&net, 3); /* after the mark is gone */
    net_join(&net, 3, 0);
    net_run(&net, 60000);
    assert_value(&net, 2, 0, "later", "1");
    assert_value(&net, 2, 0, "gone", NULL);
    net_release(&net);
}

static void count_whole_sets(void *arg, struct net_node *node, const struct gossip_send *send)
{
    struct shl_mp_doc doc;
    const msgpack_object *at;

    (void)node;
    assert_int_equal(shl_mp_parse(&doc, send->bytes), 0);
    at = doc.root->via.array.ptr;
    if (at[2].via.u64 == 8 && at[8].via.boolean) {
        ++*(uint32_t *)arg;
    }
    shl_mp_release(&doc);
}

/* A version that nobody hears of, since the next one of its key overtakes it, leaves a gap. Who has
 * one gets what is newer, not the whole set, from whomever it asks: also from one that had a gap
 * itself, or came late. */
static void test_record_gaps_need_no_whole_set(void **state)
{
    struct net net;
    uint32_t i, whole = 0, count = 6;
    char key[16], value[16];

    (void)state;
    net_init(&net, count, 12);
    for (i = 0; i < count; i++) {
        net.nodes[i].config.timing.unset_keep_ms = 60000;
        if (i < 5) {
            net_start(&net, i);
            net_join(&net, i, i == 0 ? 1 : 0);
        }
    }
    net_set(&net, 0, "gone", "1");
    net_run(&net, 5000);
    net_unset(&net, 0, "gone");
    for (i = 0; i < 20; i++) {
        (void)snprintf(key, sizeof(key), "k%u", i);
        net_set(&net, 0, key, "0");
    }
    net_run(&net, 150000); /* the mark of "gone" is dropped */
    net_start(&net, 5);
    net_join(&net, 5, 1);
    net_run(&net, 5000);
    net.on_send = count_whole_sets;
    net.arg = &whole;
    for (i = 0; i < 300; i++) {
        (void)snprintf(key, sizeof(key), "k%u", i % 20);
        (void)snprintf(value, sizeof(value), "%u", i);
        net_unset(&net, 0, key);
        net_set(&net, 0, key, value);
        net_run(&net, 900);
    }
    assert_true(net_run_until(&net, 60000, 10, all_agree, &count));
    assert_int_equal(whole, 0);
    net_release(&net);
}

/* A restarted owner begins a new generation: nothing of its earlier run survives elsewhere. */
static void test_record_restart_begins_anew(void **state)
{
    struct net net;
    uint32_t three = 3;

    (void)state;
    begin(&net, three, 7);
    net_set(&net, 1, "old", "1");
    net_set(&net, 1, "both", "1");
    net_run(&net, 2000);
    net_crash(&net, 1, true);
    net_run(&net, 10000);
    assert_value(&net, 0, 1, "old", "1"); /* of a dead node: still there to recover from */
    net_start(&net, 1);
    net_set(&net, 1, "both", "2");
    assert_true(net_run_until(&net, 5000, 10, all_agree, &three));
    assert_value(&net, 0, 1, "old", NULL);
    assert_value(&net, 2, 1, "both", "2");
    net_release(&net);
}

/* Same when the new run has nothing to say at all. */
static void test_record_restart_without_records_empties_the_set(void **state)
{
    struct net net;
    uint32_t three = 3;

    (void)state;
    begin(&net, three, 11);
    net_set(&net, 1, "old", "1");
    net_run(&net, 2000);
    net_crash(&net, 1, true);
    net_run(&net, 500);
    net_start(&net, 1);
    assert_true(net_run_until(&net, 5000, 10, all_agree, &three));
    assert_value(&net, 0, 1, "old", NULL);
    net_release(&net);
}

/* Its disk lost the incarnation: the new run must not lose against its own past. */
static void test_record_wiped_owner_wins_over_its_past(void **state)
{
    struct net net;
    uint32_t i, three = 3;

    (void)state;
    begin(&net, three, 8);
    for (i = 0; i < 5; i++) {
        net_crash(&net, 1, true);
        net_run(&net, 5000);
        net_start(&net, 1);
        net_set(&net, 1, "k", "old");
        net_run(&net, 3000);
    }
    net_crash(&net, 1, true);
    net_run(&net, 5000);
    net.nodes[1].disk_incarnation = 0;
    shl_buf_clear(&net.nodes[1].disk_book);
    net_start(&net, 1);
    net_set(&net, 1, "k", "new");
    net_join(&net, 1, 0);
    assert_true(net_run_until(&net, 5000, 10, all_agree, &three));
    assert_value(&net, 0, 1, "k", "new");
    assert_value(&net, 2, 1, "k", "new");
    assert_int_equal(net.nodes[1].notices[GOSSIP_NOTICE_COPIED_IDENTITY], 0);
    net_release(&net);
}

static void test_record_queries_are_ordered(void **state)
{
    struct shl_node_id one = net_id(1);
    const struct gossip_record *record;
    const struct gossip *core;
    struct net net;
    uint32_t i, three = 3;
    char key[16];

    (void)state;
    begin(&net, three, 9);
    for (i = 0; i < 3; i++) {
        net_set(&net, i, "sb/x", "1");
        net_set(&net, i, "sb/xy", "1");
        (void)snprintf(key, sizeof(key), "sb/%u", i);
        net_set(&net, i, key, "1");
        net_set(&net, i, "tpl/base", "1");
        net_set(&net, i, "sb/hidden", "1");
        net_unset(&net, i, "sb/hidden");
    }
    assert_true(net_run_until(&net, 2000, 10, all_agree, &three));
    core = net.nodes[2].core;
    record = gossip_key_first(core, "sb/x");
    for (i = 0; i < 3; i++) {
        struct shl_node_id id = net_id(i);

        assert_non_null(record);
        assert_string_equal(record->key, "sb/x");
        assert_true(shl_node_id_equal(&record->node, &id));
        record = gossip_key_next(record);
    }
    assert_null(record);
    assert_null(gossip_key_first(core, "sb/"));
    for (i = 0, record = gossip_prefix_first(core, "sb/"); record;
         record = gossip_prefix_next(record, "sb/")) {
        i++;
    }
    assert_int_equal(i, 9);
    record = gossip_node_first(core, &one, "sb/");
    assert_string_equal(record->key, "sb/1");
    record = gossip_node_next(record, "sb/");
    assert_string_equal(record->key, "sb/x");
    record = gossip_node_next(record, "sb/");
    assert_string_equal(record->key, "sb/xy");
    assert_null(gossip_node_next(record, "sb/"));
    assert_int_equal(gossip_record_count(core, &one), 4);
    net_release(&net);
}

/* Constant change under loss, with unsets; then quiet: all equal. */
static void test_record_churn_converges(void **state)
{
    struct net net;
    uint32_t round, count = 20;
    char key[16], value[16];

    (void)state;
    begin(&net, count, 10);
    net.loss = 0.2;
    net.jitter_ms = 30;
    for (round = 0; round < 2000; round++) {
        uint32_t node = (uint32_t)(net_random(&net) % count);

        (void)snprintf(key, sizeof(key), "k%u", (unsigned)(net_random(&net) % 30));
        (void)snprintf(value, sizeof(value), "%u", round);
        if (round % 4 == 0) {
            net_unset(&net, node, key);
        } else {
            net_set(&net, node, key, value);
        }
        net_run(&net, 10);
    }
    net.loss = 0;
    assert_true(net_run_until(&net, 20000, 10, all_agree, &count));
    net_release(&net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record_reaches_everybody),
        cmocka_unit_test(test_record_repeated_set_spreads_nothing),
        cmocka_unit_test(test_record_changes_are_reported_once),
        cmocka_unit_test(test_record_late_joiner_gets_everything),
        cmocka_unit_test(test_record_missed_rumours_are_repaired),
        cmocka_unit_test(test_record_unset_key_does_not_come_back),
        cmocka_unit_test(test_record_old_set_meets_one_without_marks),
        cmocka_unit_test(test_record_gaps_need_no_whole_set),
        cmocka_unit_test(test_record_restart_begins_anew),
        cmocka_unit_test(test_record_restart_without_records_empties_the_set),
        cmocka_unit_test(test_record_wiped_owner_wins_over_its_past),
        cmocka_unit_test(test_record_queries_are_ordered),
        cmocka_unit_test(test_record_churn_converges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
