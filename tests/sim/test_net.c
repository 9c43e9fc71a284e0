#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/net.h"

#define NODES 3

struct bench {
    struct sim_heap heap;
    struct sim_net net;
    uint64_t now_us;
};

static void set_up(struct bench *b)
{
    b->now_us = 0;
    sim_heap_init(&b->heap);
    sim_net_init(&b->net, &b->heap, 1, NODES, 5);
}

static void tear_down(struct bench *b)
{
    struct sim_event event;

    while (sim_heap_pop(&b->heap, &event)) {
        sim_msg_unref(event.ptr);
    }
    sim_net_release(&b->net);
    sim_heap_release(&b->heap);
}

static void send(struct bench *b, uint64_t tag)
{
    sim_net_send(&b->net, b->now_us, 0, 1, sim_msg_new(0, tag, "x", 1));
}

/* Tags of what arrives, in order. */
static size_t arrivals(struct bench *b, uint64_t *tags)
{
    struct sim_event event;
    size_t count = 0;

    while (sim_heap_pop(&b->heap, &event)) {
        struct sim_msg *msg = NULL;

        b->now_us = event.at_us;
        msg = sim_net_arrive(&b->net, b->now_us, &event);
        if (msg) {
            assert_int_equal(event.node, msg->to);
            tags[count++] = msg->tag;
            sim_msg_unref(msg);
        }
    }
    return count;
}

static void test_net_keeps_order_on_a_connection(void **state)
{
    struct bench b;
    uint64_t tags[200];

    (void)state;
    set_up(&b);
    sim_net_link(&b.net, 0, 1)->dup_ppm = 300000;
    for (unsigned i = 0; i < 100; i++) {
        send(&b, i);
        b.now_us += 50;
    }
    {
        size_t count = arrivals(&b, tags);

        assert_in_range(count, 110, 200);
        for (size_t i = 1; i < count; i++) {
            assert_true(tags[i - 1] <= tags[i]);
        }
    }
    tear_down(&b);
}

/* Only messages of the old connection are lost or late; the new ones stay in order. */
static void test_net_reset_loses_some_and_reorders_across(void **state)
{
    struct bench b;
    uint64_t tags[200], last_new = 0;
    size_t count = 0, old = 0, late = 0;

    (void)state;
    set_up(&b);
    b.net.delay_mean_us = 100000;
    for (unsigned i = 1; i <= 50; i++) {
        send(&b, i);
    }
    sim_net_reset(&b.net, 0, 1);
    for (unsigned i = 101; i <= 150; i++) {
        send(&b, i);
    }
    count = arrivals(&b, tags);
    for (size_t i = 0; i < count; i++) {
        if (tags[i] <= 50) {
            old++;
            late += last_new != 0;
        } else {
            assert_true(tags[i] > last_new);
            last_new = tags[i];
        }
    }
    assert_int_equal(last_new, 150);
    assert_in_range(old, 10, 40);
    assert_true(late > 0);
    tear_down(&b);
}

static void test_net_cut_that_loses_loses_everything(void **state)
{
    struct bench b;
    uint64_t tags[10];

    (void)state;
    set_up(&b);
    sim_net_cut(&b.net, 0, 1, false);
    send(&b, 1);
    assert_int_equal(arrivals(&b, tags), 0);
    sim_net_mend(&b.net, b.now_us, 0, 1);
    send(&b, 2);
    assert_int_equal(arrivals(&b, tags), 1);
    assert_int_equal(tags[0], 2);
    assert_int_equal(b.net.lost, 1);
    tear_down(&b);
}

static void test_net_cut_that_holds_delivers_after_the_last_mend(void **state)
{
    struct bench b;
    uint64_t tags[10];

    (void)state;
    set_up(&b);
    sim_net_cut(&b.net, 0, 1, true);
    sim_net_cut(&b.net, 0, 1, false);
    send(&b, 1);
    send(&b, 2);
    assert_int_equal(arrivals(&b, tags), 0);
    sim_net_mend(&b.net, b.now_us, 0, 1);
    assert_int_equal(arrivals(&b, tags), 0);
    sim_net_mend(&b.net, b.now_us, 0, 1);
    send(&b, 3);
    assert_int_equal(arrivals(&b, tags), 3);
    assert_int_equal(tags[0], 1);
    assert_int_equal(tags[2], 3);
    tear_down(&b);
}

static void test_net_queue_has_a_limit(void **state)
{
    struct bench b;
    uint64_t tags[2 * SIM_NET_QUEUE_MAX];

    (void)state;
    set_up(&b);
    for (unsigned i = 0; i < SIM_NET_QUEUE_MAX + 5; i++) {
        send(&b, i);
    }
    assert_int_equal(b.net.refused, 5);
    assert_int_equal(arrivals(&b, tags), SIM_NET_QUEUE_MAX);
    tear_down(&b);
}

static void test_net_clog_delays_until_its_end(void **state)
{
    struct bench b;
    uint64_t tags[2];

    (void)state;
    set_up(&b);
    sim_net_link(&b.net, 0, 1)->clog_us = 777777;
    send(&b, 1);
    assert_int_equal(arrivals(&b, tags), 1);
    assert_int_equal(b.now_us, 777777);
    tear_down(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_net_keeps_order_on_a_connection),
        cmocka_unit_test(test_net_reset_loses_some_and_reorders_across),
        cmocka_unit_test(test_net_cut_that_loses_loses_everything),
        cmocka_unit_test(test_net_cut_that_holds_delivers_after_the_last_mend),
        cmocka_unit_test(test_net_queue_has_a_limit),
        cmocka_unit_test(test_net_clog_delays_until_its_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
