/* Members and tokens: who gets in, with which sentence others are sent away, marks,
 * leases, and that who was removed stays out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "scheduler/mutate.h"
#include "tests/scheduler/kit.h"

static void assert_says(const struct kit *kit, const char *text)
{
    if (!strstr(kit->result.err.msg, text)) {
        print_error("said: %s\n", kit->result.err.msg);
    }
    assert_non_null(strstr(kit->result.err.msg, text));
}

static void test_nodes_nothing_before_the_cluster(void **state)
{
    struct kit kit;

    (void)state;
    kit_open(&kit, NULL);
    assert_false(sched_state_has_cluster(kit.state));
    assert_int_equal(kit_token(&kit, 1, 1000), SHL_EBADSTATE);
    assert_says(&kit, "there is no cluster yet");
    assert_int_equal(sched_state_index(kit.state), 1);
    kit_close(&kit);
}

static void test_nodes_init_once(void **state)
{
    struct sched_command c;
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    assert_int_equal(sched_state_cluster(kit.state)[0], 7);
    assert_int_equal(sched_state_lease_ms(kit.state), SCHED_LEASE_MS);
    assert_non_null(sched_state_node_by_name(kit.state, "n1"));
    c = kit_command(&kit, SCHED_CLUSTER_INIT);
    memset(c.u.cluster_init.cluster, 7, sizeof(c.u.cluster_init.cluster));
    c.u.cluster_init.lease_ms = SCHED_LEASE_MS;
    c.u.cluster_init.node = kit_spec(1);
    assert_int_equal(kit_apply(&kit, &c), 0);
    assert_true(kit.result.existed);
    c.u.cluster_init.cluster[0] = 8;
    assert_int_equal(kit_apply(&kit, &c), SHL_ECONFLICT);
    assert_says(&kit, "another cluster already");
    kit_close(&kit);
}

static void test_nodes_witness_cannot_be_first(void **state)
{
    struct sched_command c;
    struct kit kit;

    (void)state;
    kit_open(&kit, NULL);
    c = kit_command(&kit, SCHED_CLUSTER_INIT);
    c.u.cluster_init.cluster[0] = 1;
    c.u.cluster_init.lease_ms = SCHED_LEASE_MS;
    c.u.cluster_init.node = kit_spec(1);
    c.u.cluster_init.node.role = SCHED_ROLE_WITNESS;
    assert_int_equal(kit_apply(&kit, &c), SHL_EINVALIDARG);
    assert_says(&kit, "cannot be a witness");
    kit_close(&kit);
}

static void test_nodes_join_uses_up_its_token(void **state)
{
    struct sched_node_spec two = kit_spec(2), three = kit_spec(3);
    const struct sched_token *token;
    uint8_t id[SCHED_TOKEN_ID_BYTES] = {5};
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    assert_int_equal(kit_token(&kit, 5, 60000), 0);
    assert_int_equal(kit_join(&kit, 5, &two), 0);
    assert_false(kit.result.existed);
    token = sched_state_token(kit.state, id);
    assert_true(token->used);
    assert_string_equal(token->used_name, "n2");
    /* The same key again is in already, whatever became of the token. */
    assert_int_equal(kit_join(&kit, 5, &two), 0);
    assert_true(kit.result.existed);
    assert_int_equal(kit_join(&kit, 99, &two), 0);
    assert_int_equal(kit_join(&kit, 5, &three), SHL_EAUTH);
    assert_says(&kit, "was used by node \"n2\" already");
    assert_int_equal(sched_state_count(kit.state, SCHED_TABLE_NODES), 2);
    kit_close(&kit);
}

static void test_nodes_bad_tokens_are_told_apart(void **state)
{
    struct sched_node_spec two = kit_spec(2);
    struct sched_command c;
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    assert_int_equal(kit_join(&kit, 1, &two), SHL_EAUTH);
    assert_says(&kit, "not known to this cluster");
    assert_int_equal(kit_token(&kit, 1, 60000), 0);
    c = kit_command(&kit, SCHED_NODE_JOIN);
    c.u.node_join.token[0] = 1;
    c.u.node_join.node = two;
    assert_int_equal(kit_apply(&kit, &c), SHL_EAUTH);
    assert_says(&kit, "secret of the join token is wrong");
    kit.now_ms += 90000;
    assert_int_equal(kit_join(&kit, 1, &two), SHL_EAUTH);
    assert_says(&kit, "expired 30 s ago");
    assert_int_equal(kit_token(&kit, 2, 60000), 0);
    c = kit_command(&kit, SCHED_TOKEN_REVOKE);
    c.u.token_revoke.token[0] = 2;
    assert_int_equal(kit_apply(&kit, &c), 0);
    assert_int_equal(kit_join(&kit, 2, &two), SHL_EAUTH);
    assert_says(&kit, "was revoked");
    c.u.token_revoke.token[0] = 77;
    assert_int_equal(kit_apply(&kit, &c), SHL_ENOTFOUND);
    assert_int_equal(sched_state_count(kit.state, SCHED_TABLE_NODES), 1);
    kit_close(&kit);
}

/* A refused join leaves its token to the right node. */
static void test_nodes_identity_conflicts(void **state)
{
    struct sched_node_spec spec = kit_spec(2);
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    assert_int_equal(kit_token(&kit, 1, 60000), 0);
    snprintf(spec.name, sizeof(spec.name), "n1");
    assert_int_equal(kit_join(&kit, 1, &spec), SHL_ECONFLICT);
    assert_says(&kit, "the name \"n1\" belongs to another node");
    spec = kit_spec(2);
    spec.id = kit_id(1);
    assert_int_equal(kit_join(&kit, 1, &spec), SHL_ECONFLICT);
    assert_says(&kit, "the node id belongs to node \"n1\" with another key");
    spec = kit_spec(1);
    spec.id = kit_id(2);
    assert_int_equal(kit_join(&kit, 1, &spec), SHL_ECONFLICT);
    assert_says(&kit, "the key belongs to node \"n1\" with another id");
    spec = kit_spec(2);
    assert_int_equal(kit_join(&kit, 1, &spec), 0);
    kit_close(&kit);
}

static void test_nodes_check_join_says_the_same(void **state)
{
    struct sched_cmd_node_join join = {.node = kit_spec(2)};
    struct shl_err err = {0};
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    join.token[0] = 1;
    memset(join.secret_hash, 3, sizeof(join.secret_hash));
    assert_int_equal(sched_state_check_join(kit.state, &join, kit.now_ms, &err), SHL_EAUTH);
    assert_int_equal(kit_token(&kit, 1, 60000), 0);
    assert_int_equal(sched_state_check_join(kit.state, &join, kit.now_ms, &err), 0);
    assert_int_equal(sched_state_check_join(kit.state, &join, kit.now_ms + 60000, &err), SHL_EAUTH);
    kit_close(&kit);
}

static void test_nodes_limit(void **state)
{
    struct sched_state_config config = {.rows_max = {[SCHED_TABLE_NODES] = 2}};
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, &config);
    assert_int_equal(kit_add_node(&kit, 2), 0);
    assert_int_equal(kit_add_node(&kit, 3), SHL_ELIMIT);
    assert_says(&kit, "holds 2 nodes, which is the limit");
    kit_close(&kit);
}

static void test_nodes_update_changes_addresses_only(void **state)
{
    struct sched_command c;
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    c = kit_command(&kit, SCHED_NODE_UPDATE);
    c.u.node_update.node = kit_spec(1);
    snprintf(c.u.node_update.node.api, sizeof(c.u.node_update.node.api), "elsewhere:1");
    assert_int_equal(kit_apply(&kit, &c), 0);
    assert_string_equal(sched_state_node_by_name(kit.state, "n1")->spec.api, "elsewhere:1");
    snprintf(c.u.node_update.node.name, sizeof(c.u.node_update.node.name), "other");
    assert_int_equal(kit_apply(&kit, &c), SHL_ECONFLICT);
    assert_says(&kit, "cannot change its name");
    c.u.node_update.node = kit_spec(1);
    c.u.node_update.node.key[5] ^= 1;
    assert_int_equal(kit_apply(&kit, &c), SHL_ECONFLICT);
    assert_says(&kit, "has another key");
    c.u.node_update.node = kit_spec(9);
    assert_int_equal(kit_apply(&kit, &c), SHL_ENOTFOUND);
    assert_says(&kit, "is not a member");
    kit_close(&kit);
}

static void test_nodes_marks_keep_who_and_when(void **state)
{
    const struct sched_node *node;
    uint64_t index;
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    assert_int_equal(kit_mark(&kit, 1, true, true), 0);
    index = kit.index;
    kit.now_ms += 5000;
    assert_int_equal(kit_mark(&kit, 1, false, true), 0);
    node = sched_state_node_by_name(kit.state, "n1");
    assert_false(node->cordoned.on);
    assert_string_equal(node->cordoned.by, "");
    assert_true(node->draining.on);
    assert_string_equal(node->draining.by, "tester");
    assert_int_equal(node->draining.index, index);
    assert_int_equal(node->draining.at_ms, KIT_START_MS);
    assert_int_equal(kit_mark(&kit, 1, false, true), 0);
    assert_true(kit.result.existed);
    assert_int_equal(kit_mark(&kit, 5, true, true), SHL_ENOTFOUND);
    kit_close(&kit);
}

static void test_nodes_removed_key_never_comes_back(void **state)
{
    struct sched_node_spec two = kit_spec(2);
    const struct sched_removed *stone;
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    assert_int_equal(kit_add_node(&kit, 2), 0);
    assert_int_equal(kit_checkpoint(&kit, "c1", 1, 2), 0);
    assert_int_equal(kit_remove(&kit, 2, false), SHL_EBADSTATE);
    assert_says(&kit, "is not drained");
    assert_int_equal(kit_mark(&kit, 2, false, true), 0);
    assert_int_equal(kit_remove(&kit, 2, false), 0);
    assert_null(sched_state_node(kit.state, &two.id));
    stone = sched_state_removed(kit.state, two.key);
    assert_non_null(stone);
    assert_string_equal(stone->name, "n2");
    assert_int_equal(sched_state_checkpoint(kit.state, "c1")->holder_count, 0);
    assert_int_equal(kit_token(&kit, 7, 60000), 0);
    assert_int_equal(kit_join(&kit, 7, &two), SHL_EFORBIDDEN);
    assert_says(&kit, "was removed from the cluster as \"n2\"");
    /* The name is free for another key. */
    two.key[9] ^= 1;
    two.id = kit_id(20);
    assert_int_equal(kit_join(&kit, 7, &two), 0);
    assert_int_equal(kit_remove(&kit, 2, true), SHL_ENOTFOUND);
    kit_close(&kit);
}

static int hold(struct kit *kit, const char *id, unsigned node, bool held)
{
    struct sched_command c = kit_command(kit, SCHED_CHECKPOINT_HOLDER);

    (void)snprintf(c.u.checkpoint_holder.id, SCHED_ID_SIZE, "%s", id);
    c.u.checkpoint_holder.node = kit_id(node);
    c.u.checkpoint_holder.held = held;
    return kit_apply(kit, &c);
}

static int want(struct kit *kit, const char *id, uint32_t wanted)
{
    struct sched_command c = kit_command(kit, SCHED_CHECKPOINT_WANTED);

    (void)snprintf(c.u.checkpoint_wanted.id, SCHED_ID_SIZE, "%s", id);
    c.u.checkpoint_wanted.wanted = wanted;
    return kit_apply(kit, &c);
}

/* Who was told that a checkpoint is safe was told so also after one of its nodes is gone. */
static void test_nodes_removal_leaves_promise(void **state)
{
    const struct sched_checkpoint *row;
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    assert_int_equal(kit_add_node(&kit, 2), 0);
    assert_int_equal(kit_add_node(&kit, 3), 0);
    assert_int_equal(kit_checkpoint(&kit, "c1", 1, 2), 0);
    row = sched_state_checkpoint(kit.state, "c1");
    assert_int_equal(row->wanted, 2);
    assert_false(sched_checkpoint_is_promised(row));
    assert_int_equal(hold(&kit, "c1", 2, false), 0);
    assert_int_equal(hold(&kit, "c1", 1, true), 0);
    assert_false(sched_checkpoint_is_promised(row)); /* one after the other is not two */
    assert_int_equal(hold(&kit, "c1", 3, true), 0);
    assert_true(sched_checkpoint_is_promised(row));
    assert_int_equal(kit_remove(&kit, 3, true), 0);
    assert_int_equal(row->holder_count, 1);
    assert_int_equal(sched_checkpoint_had(row), 2);
    assert_true(sched_checkpoint_is_promised(row));
    assert_int_equal(want(&kit, "c1", 3), 0);
    assert_true(sched_checkpoint_is_promised(row));
    assert_int_equal(hold(&kit, "c1", 1, false), 0);
    assert_false(sched_checkpoint_is_promised(row)); /* nobody has it */

    assert_int_equal(kit_checkpoint(&kit, "c2", 2, 1), 0);
    row = sched_state_checkpoint(kit.state, "c2");
    assert_int_equal(want(&kit, "c2", 3), 0);
    assert_int_equal(hold(&kit, "c2", 2, true), 0);
    assert_false(sched_checkpoint_is_promised(row));
    assert_int_equal(want(&kit, "c2", 1), 0);
    assert_false(sched_checkpoint_is_promised(row)); /* one copy is none that survives */
    kit_close(&kit);
}

static void test_nodes_last_one_stays(void **state)
{
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    assert_int_equal(kit_remove(&kit, 1, true), SHL_EBADSTATE);
    assert_says(&kit, "last node");
    kit_close(&kit);
}

static void test_nodes_removed_table_is_bounded(void **state)
{
    struct sched_state_config config = {.rows_max = {[SCHED_TABLE_REMOVED] = 1}};
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, &config);
    assert_int_equal(kit_add_node(&kit, 2), 0);
    assert_int_equal(kit_add_node(&kit, 3), 0);
    assert_int_equal(kit_remove(&kit, 2, true), 0);
    assert_int_equal(kit_remove(&kit, 3, true), SHL_ELIMIT);
    assert_says(&kit, "no more can be removed");
    assert_non_null(sched_state_node_by_name(kit.state, "n3"));
    kit_close(&kit);
}

static void test_nodes_lease_of_this_term_only(void **state)
{
    struct sched_command c;
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    c = kit_command(&kit, SCHED_LEASE_RENEW);
    c.u.lease_renew.node = kit_id(1);
    c.u.lease_renew.boot = 77;
    c.u.lease_renew.term = 1;
    c.u.lease_renew.seq = 12;
    assert_int_equal(kit_apply(&kit, &c), 0);
    assert_int_equal(kit.result.number, 12);
    assert_int_equal(sched_state_node_by_name(kit.state, "n1")->lease_index, kit.index);
    assert_int_equal(sched_state_node_by_name(kit.state, "n1")->lease_boot, 77);
    kit.term = 2;
    assert_int_equal(kit_apply(&kit, &c), SHL_EBADSTATE);
    assert_says(&kit, "another leader");
    c.u.lease_renew.node = kit_id(4);
    assert_int_equal(kit_apply(&kit, &c), SHL_ENOTFOUND);
    kit_close(&kit);
}

static void test_nodes_features_need_everybody(void **state)
{
    struct sched_node_spec two = kit_spec(2);
    struct sched_command c;
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    c = kit_command(&kit, SCHED_CLUSTER_FEATURES);
    c.u.cluster_features.features = 4;
    assert_int_equal(kit_apply(&kit, &c), SHL_EVERSION);
    assert_says(&kit, "node n1 runs a version without");
    c = kit_command(&kit, SCHED_NODE_UPDATE);
    c.u.node_update.node = kit_spec(1);
    c.u.node_update.node.features = 6;
    assert_int_equal(kit_apply(&kit, &c), 0);
    c = kit_command(&kit, SCHED_CLUSTER_FEATURES);
    c.u.cluster_features.features = 4;
    assert_int_equal(kit_apply(&kit, &c), 0);
    assert_int_equal(sched_state_features(kit.state), 4);
    assert_int_equal(kit_token(&kit, 1, 1000), 0);
    assert_int_equal(kit_join(&kit, 1, &two), SHL_EVERSION);
    assert_says(&kit, "upgrade it");
    c = kit_command(&kit, SCHED_NODE_UPDATE);
    c.u.node_update.node = kit_spec(1);
    assert_int_equal(kit_apply(&kit, &c), SHL_EVERSION);
    kit_close(&kit);
}

static void test_nodes_tokens_are_bounded(void **state)
{
    struct sched_state_config config = {.rows_max = {[SCHED_TABLE_TOKENS] = 2}};
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, &config);
    assert_int_equal(kit_token(&kit, 1, 1000), 0);
    assert_int_equal(kit_token(&kit, 1, 1000), 0);
    assert_true(kit.result.existed);
    assert_int_equal(kit_token(&kit, 2, 90000), 0);
    assert_int_equal(kit_token(&kit, 3, 1000), SHL_ELIMIT);
    assert_says(&kit, "holds 2 join tokens");
    kit.now_ms += 1000; /* the first has expired and makes room */
    assert_int_equal(kit_token(&kit, 3, 1000), 0);
    kit_close(&kit);
}

/* Each bug on purpose is visible at the interface: the simulator can find it. */
static void test_nodes_mutations_show(void **state)
{
    struct sched_state_config config = {.mutations =
                                            SCHED_MUT_TOKEN_REUSED | SCHED_MUT_REMOVED_READMIT};
    struct sched_node_spec two = kit_spec(2), three = kit_spec(3);
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, &config);
    assert_int_equal(kit_token(&kit, 1, 60000), 0);
    assert_int_equal(kit_join(&kit, 1, &two), 0);
    assert_int_equal(kit_join(&kit, 1, &three), 0);
    assert_int_equal(kit_remove(&kit, 2, true), 0);
    assert_int_equal(kit_join(&kit, 1, &two), 0);
    assert_int_equal(kit_remove(&kit, 2, true), 0);
    assert_int_equal(sched_state_digest(kit.state), sched_state_digest_slow(kit.state));
    kit_close(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nodes_nothing_before_the_cluster),
        cmocka_unit_test(test_nodes_init_once),
        cmocka_unit_test(test_nodes_witness_cannot_be_first),
        cmocka_unit_test(test_nodes_join_uses_up_its_token),
        cmocka_unit_test(test_nodes_bad_tokens_are_told_apart),
        cmocka_unit_test(test_nodes_identity_conflicts),
        cmocka_unit_test(test_nodes_check_join_says_the_same),
        cmocka_unit_test(test_nodes_limit),
        cmocka_unit_test(test_nodes_update_changes_addresses_only),
        cmocka_unit_test(test_nodes_marks_keep_who_and_when),
        cmocka_unit_test(test_nodes_removed_key_never_comes_back),
        cmocka_unit_test(test_nodes_removal_leaves_promise),
        cmocka_unit_test(test_nodes_last_one_stays),
        cmocka_unit_test(test_nodes_removed_table_is_bounded),
        cmocka_unit_test(test_nodes_lease_of_this_term_only),
        cmocka_unit_test(test_nodes_features_need_everybody),
        cmocka_unit_test(test_nodes_tokens_are_bounded),
        cmocka_unit_test(test_nodes_mutations_show),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
