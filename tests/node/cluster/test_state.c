/* What a newer version wrote is refused, not skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mp.h"
#include "node/cluster/state.h"
#include "tests/scheduler/kit.h"

#define FEATURE 4u

/* In the log of @kit, behind all that was applied. */
static int apply_bytes(struct kit *kit, struct shl_bytes bytes, struct shl_err *err)
{
    const struct sched_raft_entry entry = {
        .index = sched_state_index(kit->state) + 1,
        .term = sched_state_term(kit->state),
        .type = SCHED_RAFT_COMMAND,
        .data = bytes,
    };
    struct sched_result result;

    return cluster_state_apply(kit->state, &entry, &result, err);
}

/* Its node knows the feature, this build does not. */
static void let_know(struct kit *kit)
{
    struct sched_command c;

    kit_open_cluster(kit, NULL);
    c = kit_command(kit, SCHED_NODE_UPDATE);
    c.u.node_update.node = kit_spec(1);
    c.u.node_update.node.features = FEATURE;
    assert_int_equal(kit_apply(kit, &c), 0);
}

static void test_state_refuses_an_entry_of_a_newer_version(void **arg)
{
    struct shl_mp_writer w;
    struct shl_err err = {0};
    struct shl_buf buf;
    struct kit kit;
    uint64_t digest;

    (void)arg;
    kit_open_cluster(&kit, NULL);
    digest = sched_state_digest(kit.state);
    shl_buf_init(&buf, SCHED_COMMAND_MAX);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", SCHED_COMMAND_VERSION);
    shl_mp_kv_uint(&w, "k", 999);
    shl_mp_kv_uint(&w, "t", 1);
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    assert_int_equal(apply_bytes(&kit, shl_buf_bytes(&buf), &err), SHL_EVERSION);
    assert_non_null(strstr(err.msg, "upgrade this node"));
    assert_true(sched_state_digest(kit.state) == digest);
    shl_buf_release(&buf);
    kit_close(&kit);
}

static void test_state_refuses_a_feature_that_is_not_known(void **arg)
{
    struct shl_err err = {0};
    struct sched_command c;
    struct shl_buf buf;
    struct kit kit;

    (void)arg;
    let_know(&kit);
    c = kit_command(&kit, SCHED_CLUSTER_FEATURES);
    c.u.cluster_features.features = FEATURE;
    shl_buf_init(&buf, SCHED_COMMAND_MAX);
    assert_int_equal(sched_command_encode(&c, &buf, &err), 0);
    assert_int_equal(apply_bytes(&kit, shl_buf_bytes(&buf), &err), SHL_EVERSION);
    assert_non_null(strstr(err.msg, "features"));
    shl_buf_release(&buf);
    kit_close(&kit);
}

static void test_state_is_saved_and_loaded(void **arg)
{
    struct sched_state *copy;
    struct shl_err err = {0};
    struct sched_command c;
    struct shl_buf buf;
    struct kit kit;

    (void)arg;
    let_know(&kit);
    shl_buf_init(&buf, SCHED_SNAPSHOT_BYTES_MAX);
    assert_int_equal(cluster_state_save(kit.state, &buf), 0);
    assert_int_equal(cluster_state_load(shl_buf_bytes(&buf), sched_state_index(kit.state),
                                        sched_state_term(kit.state), &copy, &err),
                     0);
    assert_true(sched_state_digest(copy) == sched_state_digest(kit.state));
    sched_state_free(copy);

    c = kit_command(&kit, SCHED_CLUSTER_FEATURES);
    c.u.cluster_features.features = FEATURE;
    assert_int_equal(kit_apply(&kit, &c), 0);
    shl_buf_clear(&buf);
    assert_int_equal(cluster_state_save(kit.state, &buf), 0);
    assert_int_equal(cluster_state_load(shl_buf_bytes(&buf), sched_state_index(kit.state),
                                        sched_state_term(kit.state), &copy, &err),
                     SHL_EVERSION);
    assert_null(copy);
    shl_buf_release(&buf);
    kit_close(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_state_refuses_an_entry_of_a_newer_version),
        cmocka_unit_test(test_state_refuses_a_feature_that_is_not_known),
        cmocka_unit_test(test_state_is_saved_and_loaded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
