/* The file of a backup: what is written is read, what is damaged is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "node/cluster/backup.h"
#include "tests/scheduler/kit.h"

static void make(struct kit *kit, struct shl_buf *file)
{
    struct shl_err err = {0};

    kit_open_cluster(kit, NULL);
    assert_int_equal(kit_add_node(kit, 2), 0);
    assert_int_equal(kit_kv(kit, "key", "value"), 0);
    shl_buf_init(file, CLUSTER_BACKUP_MAX);
    assert_int_equal(cluster_backup_write(kit->state, "node-1", file, &err), 0);
}

static void test_backup_is_read_again(void **arg)
{
    struct cluster_backup head;
    struct sched_state *state;
    struct shl_err err = {0};
    struct shl_buf file;
    struct kit kit;

    (void)arg;
    make(&kit, &file);
    assert_int_equal(cluster_backup_read(shl_buf_bytes(&file), &head, &state, &err), 0);
    assert_true(sched_state_digest(state) == sched_state_digest(kit.state));
    assert_string_equal(head.by, "node-1");
    assert_true(head.index == sched_state_index(kit.state));
    sched_state_free(state);
    shl_buf_release(&file);
    kit_close(&kit);
}

static void test_backup_of_which_anything_is_changed_is_refused(void **arg)
{
    struct cluster_backup head;
    struct sched_state *state = NULL;
    struct shl_buf file;
    struct kit kit;
    size_t i;

    (void)arg;
    make(&kit, &file);
    for (i = 0; i < shl_buf_len(&file); i++) {
        struct shl_err err = {0};

        shl_buf_data(&file)[i] ^= 0x41;
        assert_true(cluster_backup_read(shl_buf_bytes(&file), &head, &state, &err) < 0);
        assert_true(err.msg[0] != '\0');
        shl_buf_data(&file)[i] ^= 0x41;
    }
    for (i = 0; i < shl_buf_len(&file); i++) {
        struct shl_err err = {0};

        assert_true(cluster_backup_read(shl_bytes_of(shl_buf_data(&file), i), &head, &state, &err) <
                    0);
    }
    shl_buf_release(&file);
    kit_close(&kit);
}

static void test_backup_of_no_cluster_is_refused(void **arg)
{
    const struct sched_state_config config = {0};
    struct sched_state *state = sched_state_new(&config);
    struct shl_err err = {0};
    struct shl_buf file;

    (void)arg;
    shl_buf_init(&file, CLUSTER_BACKUP_MAX);
    assert_int_equal(cluster_backup_write(state, "x", &file, &err), SHL_EBADSTATE);
    shl_buf_release(&file);
    sched_state_free(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backup_is_read_again),
        cmocka_unit_test(test_backup_of_which_anything_is_changed_is_refused),
        cmocka_unit_test(test_backup_of_no_cluster_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
