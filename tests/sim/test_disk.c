#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim/disk.h"

static void put(struct sim_disk *disk, uint64_t key, char value)
{
    sim_disk_put(disk, key, &value, 1);
}

static int get(struct sim_disk *disk, uint64_t key)
{
    struct shl_bytes bytes;

    return sim_disk_find(disk, key, &bytes) ? bytes.base[0] : -1;
}

static void test_disk_keeps_what_was_synced(void **state)
{
    struct sim_disk disk;
    struct sim_rng rng;
    uint64_t batch = 0;

    (void)state;
    sim_disk_init(&disk);
    sim_rng_init(&rng, 1);
    put(&disk, 1, 'a');
    put(&disk, 2, 'b');
    assert_int_equal(sim_disk_commit(&disk), 0);
    assert_int_equal(sim_disk_sync(&disk, 100, 50, &batch), 150);
    sim_disk_synced(&disk, batch);
    put(&disk, 2, 'c');
    assert_int_equal(sim_disk_commit(&disk), 0);
    sim_disk_crash(&disk, &rng, SIM_DISK_CRASH_LOSE_ALL);
    assert_int_equal(get(&disk, 1), 'a');
    assert_int_equal(get(&disk, 2), 'b');
    assert_int_equal(disk.lost_ops, 1);
    sim_disk_release(&disk);
}

/* Whatever survives is a prefix, and a batch survives whole or not at all. */
static void test_disk_crash_keeps_a_prefix_of_whole_batches(void **state)
{
    unsigned lengths[11] = {0};
    struct sim_rng rng;

    (void)state;
    sim_rng_init(&rng, 2);
    for (unsigned round = 0; round < 2000; round++) {
        struct sim_disk disk;
        unsigned kept = 0;

        sim_disk_init(&disk);
        for (unsigned i = 0; i < 10; i++) {
            put(&disk, 2 * i, 'x');
            put(&disk, 2 * i + 1, 'y');
            assert_int_equal(sim_disk_commit(&disk), 0);
        }
        put(&disk, 99, 'z'); /* a batch that was never closed */
        sim_disk_crash(&disk, &rng, SIM_DISK_CRASH_PREFIX);
        for (unsigned i = 0; i < 10; i++) {
            assert_int_equal(get(&disk, 2 * i) < 0, get(&disk, 2 * i + 1) < 0);
            if (get(&disk, 2 * i) >= 0) {
                assert_int_equal(kept, i);
                kept++;
            }
        }
        assert_int_equal(get(&disk, 99), -1);
        lengths[kept]++;
        sim_disk_release(&disk);
    }
    for (unsigned i = 0; i <= 10; i++) {
        assert_in_range(lengths[i], 100, 280);
    }
}

static void test_disk_process_crash_keeps_everything(void **state)
{
    struct sim_disk disk;
    struct sim_rng rng;

    (void)state;
    sim_disk_init(&disk);
    sim_rng_init(&rng, 3);
    put(&disk, 5, 'q');
    assert_int_equal(sim_disk_commit(&disk), 0);
    sim_disk_crash(&disk, &rng, SIM_DISK_CRASH_KEEP_ALL);
    assert_int_equal(get(&disk, 5), 'q');
    sim_disk_wipe(&disk);
    assert_int_equal(get(&disk, 5), -1);
    sim_disk_release(&disk);
}

static void test_disk_deletes_a_range(void **state)
{
    struct sim_disk disk;
    struct sim_rng rng;

    (void)state;
    sim_disk_init(&disk);
    sim_rng_init(&rng, 4);
    for (unsigned i = 0; i < 100; i++) {
        put(&disk, SIM_DISK_KEY(2, 99 - i), 'v');
    }
    put(&disk, SIM_DISK_KEY(1, 50), 'o');
    sim_disk_delete(&disk, SIM_DISK_KEY(2, 10), SIM_DISK_KEY(2, 89));
    assert_int_equal(sim_disk_commit(&disk), 0);
    sim_disk_crash(&disk, &rng, SIM_DISK_CRASH_KEEP_ALL);
    assert_int_equal(disk.map.count, 21);
    assert_int_equal(get(&disk, SIM_DISK_KEY(2, 9)), 'v');
    assert_int_equal(get(&disk, SIM_DISK_KEY(2, 10)), -1);
    assert_int_equal(get(&disk, SIM_DISK_KEY(2, 90)), 'v');
    assert_int_equal(get(&disk, SIM_DISK_KEY(1, 50)), 'o');
    assert_int_equal(sim_disk_lower(&disk, SIM_DISK_KEY(2, 0)), 1);
    sim_disk_release(&disk);
}

static void test_disk_syncs_complete_in_order(void **state)
{
    struct sim_disk disk;
    uint64_t batch = 0;

    (void)state;
    sim_disk_init(&disk);
    assert_int_equal(sim_disk_sync(&disk, 100, 1000, &batch), 1100);
    assert_int_equal(sim_disk_sync(&disk, 200, 10, &batch), 1100);
    sim_disk_release(&disk);
}

static void test_disk_write_error_loses_the_batch_and_says_so(void **state)
{
    struct sim_disk disk;
    struct sim_rng rng;

    (void)state;
    sim_disk_init(&disk);
    sim_rng_init(&rng, 5);
    put(&disk, 1, 'a');
    assert_int_equal(sim_disk_commit(&disk), 0);
    disk.fail_writes = true;
    put(&disk, 2, 'b');
    assert_int_equal(sim_disk_commit(&disk), -EIO);
    disk.fail_writes = false;
    sim_disk_crash(&disk, &rng, SIM_DISK_CRASH_KEEP_ALL);
    assert_int_equal(get(&disk, 1), 'a');
    assert_int_equal(get(&disk, 2), -1);
    sim_disk_release(&disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_disk_keeps_what_was_synced),
        cmocka_unit_test(test_disk_crash_keeps_a_prefix_of_whole_batches),
        cmocka_unit_test(test_disk_process_crash_keeps_everything),
        cmocka_unit_test(test_disk_deletes_a_range),
        cmocka_unit_test(test_disk_syncs_complete_in_order),
        cmocka_unit_test(test_disk_write_error_loses_the_batch_and_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
