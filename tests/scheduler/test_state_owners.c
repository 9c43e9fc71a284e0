/* Owners, epochs, deleted ids and the catalogue of checkpoints. */
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

static void open_three(struct kit *kit, const struct sched_state_config *config)
{
    kit_open_cluster(kit, config);
    assert_int_equal(kit_add_node(kit, 2), 0);
    assert_int_equal(kit_add_node(kit, 3), 0);
}

static int register_it(struct kit *kit, unsigned owner, uint64_t epoch)
{
    return kit_owner(kit, SCHED_OWNER_REGISTER, "sb-1", owner, epoch, 0, false);
}

static int claim_it(struct kit *kit, unsigned from, uint64_t epoch, unsigned to, bool lapsed)
{
    return kit_owner(kit, SCHED_OWNER_CLAIM, "sb-1", from, epoch, to, lapsed);
}

static void test_owners_claim_needs_lapse_or_release(void **state)
{
    struct kit kit;

    (void)state;
    open_three(&kit, NULL);
    assert_int_equal(claim_it(&kit, 1, 1, 2, true), SHL_ENOTFOUND);
    assert_says(&kit, "is not registered");
    assert_int_equal(register_it(&kit, 1, 1), 0);
    assert_int_equal(claim_it(&kit, 1, 1, 2, false), SHL_EBADSTATE);
    assert_says(&kit, "neither released it nor lost its lease");
    assert_int_equal(claim_it(&kit, 1, 1, 2, true), 0);
    assert_int_equal(kit.result.number, 2);
    assert_int_equal(sched_state_owner(kit.state, "sb-1")->epoch, 2);
    /* The same again is the same; another one comes too late. */
    assert_int_equal(claim_it(&kit, 1, 1, 2, true), 0);
    assert_true(kit.result.existed);
    assert_int_equal(claim_it(&kit, 1, 1, 3, true), SHL_ECONFLICT);
    assert_says(&kit, "in epoch 2 by now");
    assert_int_equal(kit.result.number, 2);
    kit_close(&kit);
}

static void test_owners_release_lets_anyone_claim(void **state)
{
    struct kit kit;

    (void)state;
    open_three(&kit, NULL);
    assert_int_equal(register_it(&kit, 1, 1), 0);
    assert_int_equal(kit_owner(&kit, SCHED_OWNER_RELEASE, "sb-1", 1, 1, 0, false), 0);
    assert_int_equal(register_it(&kit, 1, 1), 0); /* late: it does not take it back */
    assert_true(sched_state_owner(kit.state, "sb-1")->released);
    assert_int_equal(claim_it(&kit, 1, 1, 3, false), 0);
    assert_int_equal(register_it(&kit, 1, 1), SHL_ECONFLICT);
    assert_int_equal(kit_owner(&kit, SCHED_OWNER_RELEASE, "sb-1", 1, 1, 0, false), SHL_ECONFLICT);
    /* A claim by its own node after a release is a new epoch as well. */
    assert_int_equal(kit_owner(&kit, SCHED_OWNER_RELEASE, "sb-1", 3, 2, 0, false), 0);
    assert_int_equal(claim_it(&kit, 3, 2, 3, false), 0);
    assert_int_equal(kit.result.number, 3);
    kit_close(&kit);
}

static void test_owners_refusals(void **state)
{
    struct sched_node_spec witness = kit_spec(4);
    struct sched_command c;
    struct kit kit;

    (void)state;
    open_three(&kit, NULL);
    witness.role = SCHED_ROLE_WITNESS;
    assert_int_equal(kit_token(&kit, 1, 60000), 0);
    assert_int_equal(kit_join(&kit, 1, &witness), 0);
    assert_int_equal(register_it(&kit, 9, 1), SHL_ENOTFOUND);
    assert_says(&kit, "the owner is not a member");
    assert_int_equal(register_it(&kit, 1, 1), 0);
    assert_int_equal(claim_it(&kit, 1, 1, 9, true), SHL_ENOTFOUND);
    assert_says(&kit, "new owner is not a member");
    assert_int_equal(claim_it(&kit, 1, 1, 4, true), SHL_EINVALIDARG);
    assert_says(&kit, "\"n4\" is a witness");
    c = kit_command(&kit, SCHED_OWNER_REGISTER);
    snprintf(c.u.owner.sandbox, sizeof(c.u.owner.sandbox), "sb-1");
    c.u.owner.owner = kit_id(1);
    c.u.owner.epoch = 1; /* late: what is claimable stays so in its epoch */
    assert_int_equal(kit_apply(&kit, &c), 0);
    assert_true(sched_state_owner(kit.state, "sb-1")->claimable);
    /* A claim says anew what it is. */
    assert_int_equal(claim_it(&kit, 1, 1, 1, false), 0);
    assert_false(sched_state_owner(kit.state, "sb-1")->claimable);
    assert_int_equal(claim_it(&kit, 1, 2, 2, true), SHL_EBADSTATE);
    assert_says(&kit, "not to be started elsewhere");
    assert_int_equal(sched_state_owner(kit.state, "sb-1")->epoch, 2);
    kit_close(&kit);
}

/* The owner wakes what it released, while its release is sent once more. */
static void test_owners_late_release_does_not_reach_the_next_epoch(void **state)
{
    struct kit kit;

    (void)state;
    open_three(&kit, NULL);
    assert_int_equal(register_it(&kit, 1, 1), 0);
    assert_int_equal(kit_owner(&kit, SCHED_OWNER_RELEASE, "sb-1", 1, 1, 0, false), 0);
    assert_int_equal(claim_it(&kit, 1, 1, 1, false), 0);
    assert_int_equal(kit.result.number, 2);
    assert_int_equal(kit_owner(&kit, SCHED_OWNER_RELEASE, "sb-1", 1, 1, 0, false), SHL_ECONFLICT);
    assert_false(sched_state_owner(kit.state, "sb-1")->released);
    kit_close(&kit);
}

static void test_owners_of_a_removed_node_are_free(void **state)
{
    struct kit kit;

    (void)state;
    open_three(&kit, NULL);
    assert_int_equal(register_it(&kit, 3, 1), 0);
    assert_int_equal(claim_it(&kit, 3, 1, 3, false), 0); /* not claimable from here on */
    assert_int_equal(claim_it(&kit, 3, 2, 2, true), SHL_EBADSTATE);
    assert_int_equal(kit_remove(&kit, 3, true), 0);
    assert_int_equal(claim_it(&kit, 3, 2, 2, false), 0);
    assert_int_equal(kit.result.number, 3);
    kit_close(&kit);
}

static void test_owners_deleted_stays_deleted(void **state)
{
    struct kit kit;

    (void)state;
    open_three(&kit, NULL);
    assert_int_equal(register_it(&kit, 1, 1), 0);
    assert_int_equal(claim_it(&kit, 1, 1, 2, true), 0);
    assert_int_equal(kit_owner(&kit, SCHED_OWNER_DELETE, "sb-1", 1, 1, 0, false), SHL_ECONFLICT);
    assert_int_equal(kit_owner(&kit, SCHED_OWNER_DELETE, "sb-1", 2, 2, 0, false), 0);
    assert_true(kit.result.existed);
    assert_int_equal(kit_owner(&kit, SCHED_OWNER_DELETE, "sb-1", 2, 2, 0, false), 0);
    assert_false(kit.result.existed);
    assert_int_equal(register_it(&kit, 1, 5), SHL_EGONE);
    assert_says(&kit, "sandbox sb-1 was deleted");
    assert_int_equal(claim_it(&kit, 2, 2, 1, true), SHL_EGONE);
    assert_int_equal(sched_state_tombstone(kit.state, SCHED_TOMBSTONE_SANDBOX, "sb-1")->epoch, 2);
    kit_close(&kit);
}

static void test_owners_tables_are_bounded(void **state)
{
    struct sched_state_config config = {
        .rows_max = {[SCHED_TABLE_OWNERS] = 1, [SCHED_TABLE_TOMBSTONES] = 8}};
    char id[16];
    unsigned i;
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, &config);
    assert_int_equal(register_it(&kit, 1, 1), 0);
    assert_int_equal(kit_owner(&kit, SCHED_OWNER_REGISTER, "sb-2", 1, 1, 0, false), SHL_ELIMIT);
    assert_says(&kit, "holds 1 claimable sandboxes");
    for (i = 0; i < 9; i++) { /* the ninth pushes the two oldest out */
        snprintf(id, sizeof(id), "d%u", 9 - i);
        assert_int_equal(kit_owner(&kit, SCHED_OWNER_DELETE, id, 1, 1, 0, false), 0);
    }
    assert_int_equal(sched_state_count(kit.state, SCHED_TABLE_TOMBSTONES), 7);
    assert_null(sched_state_tombstone(kit.state, SCHED_TOMBSTONE_SANDBOX, "d9"));
    assert_null(sched_state_tombstone(kit.state, SCHED_TOMBSTONE_SANDBOX, "d8"));
    assert_non_null(sched_state_tombstone(kit.state, SCHED_TOMBSTONE_SANDBOX, "d7"));
    assert_non_null(sched_state_tombstone(kit.state, SCHED_TOMBSTONE_SANDBOX, "d1"));
    kit_close(&kit);
}

static void test_owners_epoch_mutation_shows(void **state)
{
    struct sched_state_config config = {.mutations = SCHED_MUT_EPOCH_UNCHECKED};
    struct kit kit;

    (void)state;
    open_three(&kit, &config);
    assert_int_equal(register_it(&kit, 1, 1), 0);
    assert_int_equal(claim_it(&kit, 1, 1, 2, true), 0);
    assert_int_equal(claim_it(&kit, 1, 1, 3, true), 0);
    kit_close(&kit);
}

/*- Checkpoints. */

static int hold(struct kit *kit, const char *id, unsigned node, bool held)
{
    struct sched_command c = kit_command(kit, SCHED_CHECKPOINT_HOLDER);

    snprintf(c.u.checkpoint_holder.id, sizeof(c.u.checkpoint_holder.id), "%s", id);
    c.u.checkpoint_holder.node = kit_id(node);
    c.u.checkpoint_holder.held = held;
    return kit_apply(kit, &c);
}

static int want(struct kit *kit, const char *id, unsigned count)
{
    struct sched_command c = kit_command(kit, SCHED_CHECKPOINT_WANTED);

    snprintf(c.u.checkpoint_wanted.id, sizeof(c.u.checkpoint_wanted.id), "%s", id);
    c.u.checkpoint_wanted.wanted = count;
    return kit_apply(kit, &c);
}

static int forget(struct kit *kit, const char *id)
{
    struct sched_command c = kit_command(kit, SCHED_CHECKPOINT_DELETE);

    snprintf(c.u.checkpoint_delete.id, sizeof(c.u.checkpoint_delete.id), "%s", id);
    return kit_apply(kit, &c);
}

static int save_of(struct kit *kit, const char *id, const char *sandbox, unsigned maker)
{
    struct sched_command c = kit_command(kit, SCHED_CHECKPOINT_PUT);
    struct sched_cmd_checkpoint *p = &c.u.checkpoint;

    snprintf(p->id, sizeof(p->id), "%s", id);
    snprintf(p->org, sizeof(p->org), "org");
    snprintf(p->sandbox, sizeof(p->sandbox), "%s", sandbox);
    p->kind = SCHED_CHECKPOINT_HIBERNATION;
    memset(p->manifest, 7, sizeof(p->manifest));
    p->wanted = 2;
    p->holders[p->holder_count++] = kit_id(maker);
    return kit_apply(kit, &c);
}

static void test_checkpoints_saves_of_a_former_owner_are_late(void **state)
{
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    assert_int_equal(kit_add_node(&kit, 2), 0);
    assert_int_equal(save_of(&kit, "before", "sb-1", 1), 0); /* the log does not know it yet */
    assert_int_equal(kit_owner(&kit, SCHED_OWNER_REGISTER, "sb-1", 1, 1, 0, true), 0);
    assert_int_equal(save_of(&kit, "first", "sb-1", 1), 0);
    assert_int_equal(kit_owner(&kit, SCHED_OWNER_CLAIM, "sb-1", 1, 1, 2, true), 0);
    assert_int_equal(save_of(&kit, "late", "sb-1", 1), SHL_ECONFLICT);
    assert_null(sched_state_checkpoint(kit.state, "late"));
    assert_int_equal(save_of(&kit, "first", "sb-1", 1), 0); /* listed in time, told again */
    assert_int_equal(save_of(&kit, "second", "sb-1", 2), 0);
    kit_close(&kit);
}

static void test_checkpoints_holders_come_and_go(void **state)
{
    const struct sched_checkpoint *row;
    struct shl_node_id one = kit_id(1), three = kit_id(3);
    struct kit kit;

    (void)state;
    open_three(&kit, NULL);
    assert_int_equal(kit_checkpoint(&kit, "c1", 1, 9), SHL_ENOTFOUND);
    assert_says(&kit, "a holder is not a member");
    assert_int_equal(kit_checkpoint(&kit, "c1", 1, 3), 0);
    assert_int_equal(hold(&kit, "c1", 1, true), 0);
    assert_int_equal(kit.result.number, 2);
    assert_int_equal(hold(&kit, "c1", 1, true), 0);
    assert_true(kit.result.existed);
    row = sched_state_checkpoint(kit.state, "c1");
    assert_int_equal(row->holder_count, 2);
    assert_true(shl_node_id_equal(&row->holders[0], &one));
    assert_true(shl_node_id_equal(&row->holders[1], &three));
    assert_int_equal(hold(&kit, "c1", 3, false), 0);
    assert_int_equal(row->holder_count, 1);
    assert_int_equal(hold(&kit, "c1", 9, true), SHL_ENOTFOUND);
    assert_int_equal(hold(&kit, "c9", 1, true), SHL_ENOTFOUND);
    assert_says(&kit, "there is no checkpoint c9");
    assert_int_equal(want(&kit, "c1", 3), 0);
    assert_int_equal(row->wanted, 3);
    assert_int_equal(want(&kit, "c9", 3), SHL_ENOTFOUND);
    kit_close(&kit);
}

static void test_checkpoints_deleted_stay_deleted(void **state)
{
    struct kit kit;

    (void)state;
    open_three(&kit, NULL);
    assert_int_equal(forget(&kit, "c1"), SHL_ENOTFOUND);
    assert_int_equal(kit_checkpoint(&kit, "c1", 1, 3), 0);
    assert_int_equal(kit_checkpoint(&kit, "c1", 1, 3), 0);
    assert_true(kit.result.existed);
    assert_int_equal(kit_checkpoint(&kit, "c1", 2, 3), SHL_ECONFLICT);
    assert_says(&kit, "another checkpoint c1 already");
    assert_int_equal(forget(&kit, "c1"), 0);
    assert_int_equal(forget(&kit, "c1"), 0);
    assert_int_equal(kit_checkpoint(&kit, "c1", 1, 3), SHL_EGONE); /* a late repetition */
    assert_says(&kit, "checkpoint c1 was deleted");
    assert_int_equal(hold(&kit, "c1", 1, true), SHL_EGONE);
    kit_close(&kit);
}

static void test_checkpoints_are_bounded(void **state)
{
    struct sched_state_config config = {.rows_max = {[SCHED_TABLE_CHECKPOINTS] = 1}};
    unsigned n;
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, &config);
    assert_int_equal(kit_checkpoint(&kit, "c1", 1, 0), 0);
    assert_int_equal(kit_checkpoint(&kit, "c2", 1, 0), SHL_ELIMIT);
    assert_says(&kit, "holds 1 checkpoints");
    for (n = 1; n <= SCHED_HOLDERS_MAX; n++) {
        assert_int_equal(n == 1 ? 0 : kit_add_node(&kit, n), 0);
        assert_int_equal(hold(&kit, "c1", n, true), 0);
    }
    assert_int_equal(kit_add_node(&kit, n), 0);
    assert_int_equal(hold(&kit, "c1", n, true), SHL_ELIMIT);
    assert_says(&kit, "has 8 holders, which is the limit");
    kit_close(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_owners_claim_needs_lapse_or_release),
        cmocka_unit_test(test_owners_release_lets_anyone_claim),
        cmocka_unit_test(test_owners_refusals),
        cmocka_unit_test(test_owners_late_release_does_not_reach_the_next_epoch),
        cmocka_unit_test(test_owners_of_a_removed_node_are_free),
        cmocka_unit_test(test_owners_deleted_stays_deleted),
        cmocka_unit_test(test_owners_tables_are_bounded),
        cmocka_unit_test(test_owners_epoch_mutation_shows),
        cmocka_unit_test(test_checkpoints_holders_come_and_go),
        cmocka_unit_test(test_checkpoints_saves_of_a_former_owner_are_late),
        cmocka_unit_test(test_checkpoints_deleted_stay_deleted),
        cmocka_unit_test(test_checkpoints_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
