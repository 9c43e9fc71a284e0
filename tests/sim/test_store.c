/* The chunk store of a simulated node. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "sim/world.h"

static const struct sim_point_id point = {.sandbox = 0x1234, .epoch = 1, .count = 7};

struct fixture {
    struct sim_schedule schedule;
    struct sim_world world;
    struct sim_node *node;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    f->schedule = (struct sim_schedule){.seed = 1, .nodes = 1, .end_us = 1};
    sim_world_init(&f->world, &f->schedule, NULL);
    f->node = &f->world.nodes[0];
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    sim_world_release(&f->world);
    free(f);
    return 0;
}

static bool pins_nothing(const struct sim_node *node, uint64_t key)
{
    (void)node;
    (void)key;
    return false;
}

static bool pins_all(const struct sim_node *node, uint64_t key)
{
    (void)node;
    (void)key;
    return true;
}

static struct sim_manifest *put(struct fixture *f, const struct sim_point_id *id)
{
    const struct sim_manifest m = {.point = *id, .durable = true};
    struct sim_manifest *kept = sim_store_put_manifest(f->node, &m);

    sim_store_put_chunks(f->node, kept);
    assert_int_equal(sim_disk_commit(&f->node->disk), 0);
    return kept;
}

static void test_store_ids_are_in_the_order_of_points(void **state)
{
    const struct sim_point_id later = {.sandbox = 0x1234, .epoch = 2, .count = 1};
    struct ckpt_id a, b;
    struct sim_point_id back;

    (void)state;
    sim_point_manifest(&point, &a);
    sim_point_manifest(&later, &b);
    assert_true(memcmp(&a, &b, sizeof(a)) < 0);
    sim_point_of_manifest(&b, &back);
    assert_int_equal(sim_point_compare(&back, &later), 0);
}

static void test_store_finds_what_the_disk_kept(void **state)
{
    struct fixture *f = *state;

    (void)put(f, &point);
    sim_disk_crash(&f->node->disk, NULL, SIM_DISK_CRASH_KEEP_ALL);
    sim_store_load(f->node);
    assert_non_null(sim_store_find(f->node, &point));
    assert_true(sim_store_is_whole(f->node, sim_store_find(f->node, &point), true));
    assert_ptr_equal(sim_store_newest(f->node, point.sandbox), sim_store_find(f->node, &point));
    sim_disk_wipe(&f->node->disk);
    sim_store_load(f->node);
    assert_null(sim_store_find(f->node, &point));
}

static void test_store_serves_no_chunk_that_rotted(void **state)
{
    struct fixture *f = *state;
    struct sim_manifest *m = put(f, &point);
    uint64_t key = m->keys[0], data = 0;

    assert_true(sim_store_read(f->node, key, &data));
    assert_int_equal(sim_chunk_key(data), key);
    sim_store_hurt(f->node, sim_store_chunk(f->node, key), false);
    assert_true(sim_store_is_whole(f->node, m, false)); /* nobody has looked */
    assert_false(sim_store_is_whole(f->node, m, true));
    assert_false(sim_store_read(f->node, key, &data));
    assert_true(m->damaged);
    assert_null(sim_store_newest(f->node, point.sandbox));
    sim_store_put_chunks(f->node, m);
    assert_false(m->damaged);
}

static void test_store_notices_a_lost_chunk_at_the_latest_after_a_restart(void **state)
{
    struct fixture *f = *state;
    struct sim_manifest *m = put(f, &point);

    sim_store_hurt(f->node, sim_store_chunk(f->node, m->keys[1]), true);
    sim_disk_crash(&f->node->disk, NULL, SIM_DISK_CRASH_KEEP_ALL);
    sim_store_load(f->node);
    assert_true(sim_store_find(f->node, &point)->damaged);
}

static void test_store_sweeps_what_nothing_names_and_nobody_pins(void **state)
{
    const struct sim_point_id next = {.sandbox = 0x1234, .epoch = 1, .count = 8};
    struct fixture *f = *state;
    uint64_t own = put(f, &point)->keys[0];

    (void)put(f, &next);
    sim_store_drop(f->node, sim_store_find(f->node, &point));
    sim_store_sweep(f->node, 0, pins_all);
    assert_non_null(sim_store_chunk(f->node, own));
    sim_store_sweep(f->node, 1000, pins_nothing); /* too young */
    assert_non_null(sim_store_chunk(f->node, own));
    sim_store_sweep(f->node, 0, pins_nothing);
    assert_null(sim_store_chunk(f->node, own));
    assert_true(sim_store_is_whole(f->node, sim_store_find(f->node, &next), true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store_ids_are_in_the_order_of_points),
        cmocka_unit_test_setup_teardown(test_store_finds_what_the_disk_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_store_serves_no_chunk_that_rotted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            test_store_notices_a_lost_chunk_at_the_latest_after_a_restart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_store_sweeps_what_nothing_names_and_nobody_pins,
                                        set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
