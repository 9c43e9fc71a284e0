/* Peers are hostile and everything has a limit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mp.h"
#include "tests/gossip/net.h"

static bool all_agree(struct net *net, void *arg)
{
    return net_agrees(net, *(uint32_t *)arg);
}

static struct gossip_counters counters(const struct net *net, uint32_t index)
{
    struct gossip_counters ret;

    gossip_counters(net->nodes[index].core, &ret);
    return ret;
}

static int set(struct net *net, const char *key, size_t len)
{
    static uint8_t zeros[GOSSIP_RECORD_VALUE_MAX + 1];
    struct gossip_event event = {
        .type = GOSSIP_EV_SET,
        .record = {key, {zeros, len}},
    };
    int rc;

    net_step(net, 0, &event, &rc);
    return rc;
}

static void test_limits_of_own_records(void **state)
{
    char key[GOSSIP_RECORD_KEY_MAX + 2];
    struct shl_node_id id = net_id(0);
    struct net net;
    uint32_t i;

    (void)state;
    net_init(&net, 1, 1);
    net_start(&net, 0);
    memset(key, 'k', sizeof(key));
    key[GOSSIP_RECORD_KEY_MAX + 1] = '\0';
    assert_int_equal(set(&net, key, 1), SHL_ELIMIT);
    key[GOSSIP_RECORD_KEY_MAX] = '\0';
    assert_int_equal(set(&net, key, 1), 0);
    assert_int_equal(set(&net, "", 1), SHL_EINVALIDARG);
    assert_int_equal(set(&net, "a", GOSSIP_RECORD_VALUE_MAX + 1), SHL_ELIMIT);
    assert_int_equal(set(&net, "a", GOSSIP_RECORD_VALUE_MAX), 0);
    for (i = 2; i < GOSSIP_RECORDS_MAX; i++) {
        (void)snprintf(key, sizeof(key), "%u", i);
        assert_int_equal(set(&net, key, 1), 0);
    }
    assert_int_equal(set(&net, "one more", 1), SHL_ELIMIT);
    assert_int_equal(gossip_record_count(net.nodes[0].core, &id), GOSSIP_RECORDS_MAX);
    net_unset(&net, 0, "2");
    assert_int_equal(set(&net, "one more", 1), 0);
    net_release(&net);
}

/* Sandbox ids come and go: never the same key again. */
static void test_limits_of_marks(void **state)
{
    struct shl_node_id id = net_id(0);
    struct gossip_counters before;
    struct net net;
    char key[32];
    uint32_t i, two = 2;

    (void)state;
    net_init(&net, 2, 2);
    net_start_all(&net);
    net_run(&net, 3000);
    for (i = 0; i < 3 * GOSSIP_RECORDS_MAX; i++) {
        (void)snprintf(key, sizeof(key), "sb/%u", i);
        net_set(&net, 0, key, "1");
        net_unset(&net, 0, key);
        if (i % 100 == 0) {
            net_run(&net, 100);
        }
    }
    assert_int_equal(gossip_record_count(net.nodes[0].core, &id), 0);
    net_run(&net, 60000);
    assert_true(net_agrees(&net, two));
    before = counters(&net, 1);
    assert_int_equal(before.records, 0);
    net_run(&net, 700000); /* all marks are dropped after their time */
    assert_int_equal(counters(&net, 0).record_bytes, 0);
    assert_int_equal(counters(&net, 1).record_bytes, 0);
    net_release(&net);
}

static void test_limits_of_members(void **state)
{
    struct net net;
    uint32_t i;

    (void)state;
    net_init(&net, 6, 3);
    for (i = 0; i < 6; i++) {
        net.nodes[i].config.members_max = 4;
    }
    net_start_all(&net);
    net_run(&net, 20000);
    assert_int_equal(gossip_live_count(net.nodes[0].core), 4);
    assert_int_equal(gossip_member_count(net.nodes[0].core), 4);
    assert_true(net.nodes[0].notices[GOSSIP_NOTICE_FULL] > 0);
    assert_true(counters(&net, 0).over_limit > 0);
    net_release(&net);
}

/* ---- crafted messages ---- */

struct message {
    struct shl_buf buf;
    struct shl_mp_writer w;
};

static void message_begin(struct message *m, uint64_t kind)
{
    uint8_t cluster[GOSSIP_CLUSTER_BYTES];

    memset(cluster, 7, sizeof(cluster));
    shl_buf_init(&m->buf, 1024 * 1024);
    shl_mp_writer_init(&m->w, &m->buf);
    shl_mp_array(&m->w);
    shl_mp_uint(&m->w, GOSSIP_WIRE_VERSION);
    shl_mp_bin(&m->w, cluster, sizeof(cluster));
    shl_mp_uint(&m->w, kind);
}

static void deliver(struct net *net, uint32_t to, uint32_t from, struct shl_bytes bytes)
{
    struct gossip_event event = {
        .type = GOSSIP_EV_RECV,
        .recv = {net_id(from), bytes},
    };

    net_step(net, to, &event, NULL);
}

static void message_deliver(struct message *m, struct net *net, uint32_t to, uint32_t from)
{
    shl_mp_end(&m->w);
    assert_int_equal(shl_mp_done(&m->w), 0);
    deliver(net, to, from, shl_buf_bytes(&m->buf));
    shl_buf_release(&m->buf);
}

static void write_claim(struct message *m,
                        uint32_t about,
                        enum gossip_life life,
                        uint64_t incarnation,
                        uint64_t gone_s)
{
    struct shl_node_id id = net_id(about);
    uint8_t key[GOSSIP_KEY_BYTES] = {0};
    char name[32];

    (void)snprintf(name, sizeof(name), "x%u", about);
    shl_mp_array(&m->w);
    shl_mp_uint(&m->w, 0);
    shl_mp_uint(&m->w, life);
    shl_mp_bin(&m->w, id.bytes, sizeof(id.bytes));
    shl_mp_uint(&m->w, incarnation);
    shl_mp_nil(&m->w);
    shl_mp_uint(&m->w, 0);
    shl_mp_array(&m->w);
    shl_mp_uint(&m->w, 1);
    shl_mp_uint(&m->w, 0);
    shl_mp_bin(&m->w, key, sizeof(key));
    shl_mp_str(&m->w, name);
    shl_mp_str(&m->w, "n9999:1");
    shl_mp_str(&m->w, "");
    shl_mp_str(&m->w, "");
    shl_mp_str(&m->w, "");
    shl_mp_uint(&m->w, 0);
    shl_mp_uint(&m->w, 1);
    shl_mp_uint(&m->w, 1);
    shl_mp_end(&m->w);
    shl_mp_uint(&m->w, gone_s);
    shl_mp_end(&m->w);
}

static void deliver_claim_as(struct net *net,
                             bool merge,
                             uint32_t about,
                             enum gossip_life life,
                             uint64_t incarnation,
                             uint64_t gone_s)
{
    struct message m;

    message_begin(&m, 5);
    shl_mp_bool(&m.w, merge);
    shl_mp_array(&m.w);
    write_claim(&m, about, life, incarnation, gone_s);
    shl_mp_end(&m.w);
    message_deliver(&m, net, 0, 1);
}

static void deliver_claim(struct net *net,
                          uint32_t about,
                          enum gossip_life life,
                          uint64_t incarnation)
{
    deliver_claim_as(net, false, about, life, incarnation, 0);
}

/* What somebody believed before a partition healed is no proof of death; fresh news is. */
static void test_limits_old_news_of_a_death_is_a_suspicion(void **state)
{
    struct net net;

    (void)state;
    net_init(&net, 3, 9);
    net_start_all(&net);
    net_run(&net, 3000);
    deliver_claim_as(&net, true, 2, GOSSIP_DEAD, 1, 0);
    assert_int_equal(net_life(&net, 0, 2), GOSSIP_SUSPECT);
    deliver_claim_as(&net, false, 2, GOSSIP_DEAD, 1, 0);
    assert_int_equal(net_life(&net, 0, 2), GOSSIP_DEAD);
    net_release(&net);
}

/* Somebody dead for longer than the book remembers does not enter from a slower list. */
static void test_limits_age_of_the_dead(void **state)
{
    struct net net;
    uint64_t week = 7 * 24 * 3600;

    (void)state;
    net_init(&net, 2, 10);
    net_start_all(&net);
    net_run(&net, 3000);
    deliver_claim_as(&net, true, 100, GOSSIP_DEAD, 1, net.wall_s - week - 60);
    assert_int_equal(gossip_member_count(net.nodes[0].core), 2);
    assert_int_equal(net.nodes[0].actions.change_count, 0);
    deliver_claim_as(&net, true, 100, GOSSIP_DEAD, 1, net.wall_s - week + 60);
    assert_int_equal(gossip_member_count(net.nodes[0].core), 3);
    net_run(&net, 120000); /* that minute has passed */
    assert_int_equal(gossip_member_count(net.nodes[0].core), 2);
    net_release(&net);
}

/* A node that said good-bye stays gone, whatever is said about it. */
static void test_limits_leaving_node_refutes_nothing(void **state)
{
    struct net net;

    (void)state;
    net_init(&net, 2, 11);
    net_start_all(&net);
    net_run(&net, 3000);
    net_simple(&net, 0, GOSSIP_EV_LEAVE);
    deliver_claim(&net, 0, GOSSIP_DEAD, 5);
    assert_int_equal(gossip_self(net.nodes[0].core)->life, GOSSIP_LEFT);
    deliver_claim(&net, 0, GOSSIP_ALIVE, 5);
    assert_int_equal(gossip_self(net.nodes[0].core)->life, GOSSIP_LEFT);
    net_release(&net);
}

/* foca #31: a list that grows whenever somebody changes its identity. */
static void test_limits_of_the_book(void **state)
{
    struct net net;
    uint32_t i;

    (void)state;
    net_init(&net, 2, 4);
    net_start_all(&net);
    net_run(&net, 3000);
    for (i = 100; i < 100 + 2 * GOSSIP_BOOK_MAX; i++) {
        deliver_claim(&net, i, GOSSIP_DEAD, 1);
    }
    assert_int_equal(gossip_member_count(net.nodes[0].core), GOSSIP_BOOK_MAX + 2);
    assert_int_equal(net_life(&net, 0, 1), GOSSIP_ALIVE);
    net_release(&net);
}

static void test_limits_of_tombstones(void **state)
{
    struct shl_node_id first = net_id(100), last;
    struct net net;
    uint32_t i;

    (void)state;
    net_init(&net, 1, 5);
    net_start(&net, 0);
    for (i = 100; i < 100 + GOSSIP_REMOVED_MAX + 1; i++) {
        net_run(&net, 1000);
        net_remove(&net, 0, i);
    }
    last = net_id(i - 1);
    assert_false(gossip_is_removed(net.nodes[0].core, &first));
    assert_true(gossip_is_removed(net.nodes[0].core, &last));
    net_release(&net);
}

/* A number that nobody could ever exceed would silence a node for good. */
static void test_limits_incarnation_out_of_range_is_ignored(void **state)
{
    struct net net;
    uint32_t two = 2;

    (void)state;
    net_init(&net, 2, 6);
    net_start_all(&net);
    net_run(&net, 3000);
    deliver_claim(&net, 0, GOSSIP_DEAD, UINT64_MAX);
    deliver_claim(&net, 1, GOSSIP_DEAD, GOSSIP_INCARNATION_MAX + 1);
    assert_int_equal(counters(&net, 0).malformed, 2);
    assert_int_equal(gossip_self(net.nodes[0].core)->incarnation, 1);
    assert_true(net_agrees(&net, two));
    net_release(&net);
}

static void test_limits_oversized_message_is_refused_unread(void **state)
{
    struct net net;
    struct message m;
    uint8_t *padding = calloc(1, GOSSIP_MESSAGE_MAX);

    (void)state;
    net_init(&net, 2, 7);
    net_start_all(&net);
    net_run(&net, 3000);
    message_begin(&m, 1);
    shl_mp_uint(&m.w, 1);
    shl_mp_array(&m.w);
    shl_mp_end(&m.w);
    shl_mp_bin(&m.w, padding, GOSSIP_MESSAGE_MAX);
    message_deliver(&m, &net, 0, 1);
    assert_int_equal(counters(&net, 0).malformed, 1);
    assert_int_equal(net.nodes[0].actions.send_count, 0);
    free(padding);
    net_release(&net);
}

#define KEPT_MAX 4000

struct kept {
    struct {
        uint8_t *bytes;
        size_t len;
        uint32_t from;
    } items[KEPT_MAX];
    uint32_t count;
};

static void keep(void *arg, struct net_node *node, const struct gossip_send *send)
{
    struct kept *kept = arg;

    if (kept->count < KEPT_MAX) {
        uint8_t *copy = malloc(send->bytes.len);

        assert_non_null(copy);
        memcpy(copy, send->bytes.base, send->bytes.len);
        kept->items[kept->count].bytes = copy;
        kept->items[kept->count].len = send->bytes.len;
        kept->items[kept->count].from = node->index;
        kept->count++;
    }
}

/* Real messages of every kind, cut short at every length and damaged at random places. A cut
 * one is never half believed: it is counted as malformed and answered by nothing. */
static void test_limits_damaged_messages_do_no_harm(void **state)
{
    struct kept *kept = calloc(1, sizeof(*kept));
    struct net net;
    uint32_t i, k, three = 3;
    size_t len;

    (void)state;
    net_init(&net, 3, 8);
    net.on_send = keep;
    net.arg = kept;
    net_start_all(&net);
    net_set(&net, 1, "sb/1", "value");
    net_set(&net, 2, "sb/2", "value");
    net_run(&net, 3000);
    net_crash(&net, 2, true);
    net_run(&net, 5000);
    net.on_send = NULL;
    for (i = 0; i < kept->count; i++) {
        uint64_t malformed = counters(&net, 0).malformed;
        size_t step = kept->items[i].len > 300 ? 7 : 1;
        uint64_t cuts = 0;

        for (len = 0; len < kept->items[i].len; len += step) {
            deliver(&net, 0, 1, shl_bytes_of(kept->items[i].bytes, len));
            cuts++;
        }
        assert_int_equal(counters(&net, 0).malformed - malformed, cuts);
    }
    for (i = 0; i < kept->count; i++) {
        for (k = 0; k < 20; k++) {
            uint8_t *at = kept->items[i].bytes + net_random(&net) % kept->items[i].len;
            uint8_t before = *at;

            *at = (uint8_t)net_random(&net);
            deliver(&net, 0, kept->items[i].from,
                    shl_bytes_of(kept->items[i].bytes, kept->items[i].len));
            *at = before;
        }
    }
    net_start(&net, 2);
    net_set(&net, 0, "still", "here");
    assert_true(net_run_until(&net, 600000, 100, all_agree, &three));
    for (i = 0; i < kept->count; i++) {
        free(kept->items[i].bytes);
    }
    free(kept);
    net_release(&net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits_of_own_records),
        cmocka_unit_test(test_limits_of_marks),
        cmocka_unit_test(test_limits_of_members),
        cmocka_unit_test(test_limits_old_news_of_a_death_is_a_suspicion),
        cmocka_unit_test(test_limits_age_of_the_dead),
        cmocka_unit_test(test_limits_leaving_node_refutes_nothing),
        cmocka_unit_test(test_limits_of_the_book),
        cmocka_unit_test(test_limits_of_tombstones),
        cmocka_unit_test(test_limits_incarnation_out_of_range_is_ignored),
        cmocka_unit_test(test_limits_oversized_message_is_refused_unread),
        cmocka_unit_test(test_limits_damaged_messages_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
