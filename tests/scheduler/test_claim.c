/* May a node start what belongs to another one? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "scheduler/claim.h"
#include "tests/scheduler/kit.h"

struct bench {
    struct kit kit;
    struct sched_leases leases;
    struct sched_claim claim;
};

static void open_bench(struct bench *b)
{
    kit_open_cluster(&b->kit, NULL);
    assert_int_equal(kit_add_node(&b->kit, 2), 0);
    assert_int_equal(kit_owner(&b->kit, SCHED_OWNER_REGISTER, "sb-1", 2, 1, 0, false), 0);
    sched_leases_init(&b->leases, 10000, 0);
    sched_leases_elected(&b->leases, 1, 0);
}

static enum sched_claim_verdict judge(struct bench *b, unsigned node, uint64_t now_ms)
{
    struct shl_node_id id = kit_id(node);

    sched_claim_judge(b->kit.state, &b->leases, "sb-1", &id, now_ms, &b->claim);
    return b->claim.verdict;
}

static void assert_says(const struct bench *b, int code, const char *text)
{
    assert_int_equal(b->claim.err.code, code);
    if (!strstr(b->claim.err.msg, text)) {
        print_error("said: %s\n", b->claim.err.msg);
    }
    assert_non_null(strstr(b->claim.err.msg, text));
}

static void test_claim_waits_for_the_lease(void **state)
{
    struct shl_node_id self = kit_id(1);
    struct bench b;

    (void)state;
    open_bench(&b);
    assert_int_equal(judge(&b, 1, 5000), SCHED_CLAIM_NOT_YET);
    assert_int_equal(b.claim.at_ms, 11001);
    assert_says(&b, SHL_EUNAVAILABLE, "node \"n2\"");
    assert_int_equal(judge(&b, 1, 11001), SCHED_CLAIM_GO_LAPSED);
    assert_true(b.claim.command.lapsed);
    assert_int_equal(b.claim.command.epoch, 1);
    assert_int_equal(judge(&b, 2, 5000), SCHED_CLAIM_GO);                 /* its own */
    sched_claim_judge(b.kit.state, NULL, "sb-1", &self, 99999, &b.claim); /* who does not lead */
    assert_int_equal(b.claim.verdict, SCHED_CLAIM_NOT_YET);
    assert_int_equal(b.claim.at_ms, 0);
    kit_close(&b.kit);
}

static void test_claim_released_or_removed_is_free(void **state)
{
    struct bench b;

    (void)state;
    open_bench(&b);
    assert_int_equal(kit_owner(&b.kit, SCHED_OWNER_RELEASE, "sb-1", 2, 1, 0, false), 0);
    assert_int_equal(judge(&b, 1, 0), SCHED_CLAIM_GO);
    assert_int_equal(kit_owner(&b.kit, SCHED_OWNER_CLAIM, "sb-1", 2, 1, 2, false), 0);
    assert_int_equal(judge(&b, 1, 99999), SCHED_CLAIM_NEVER); /* not claimable now */
    assert_says(&b, SHL_EBADSTATE, "shoal node rm --force");
    assert_int_equal(kit_remove(&b.kit, 2, true), 0);
    assert_int_equal(judge(&b, 1, 0), SCHED_CLAIM_GO);
    assert_int_equal(judge(&b, 2, 0), SCHED_CLAIM_NEVER);
    assert_says(&b, SHL_EFORBIDDEN, "not a member");
    kit_close(&b.kit);
}

static void test_claim_of_nothing(void **state)
{
    struct shl_node_id self = kit_id(1);
    struct bench b;

    (void)state;
    open_bench(&b);
    sched_claim_judge(b.kit.state, NULL, "sb-9", &self, 0, &b.claim);
    assert_int_equal(b.claim.verdict, SCHED_CLAIM_NEVER);
    assert_says(&b, SHL_ENOTFOUND, "no copy on another node");
    assert_int_equal(kit_owner(&b.kit, SCHED_OWNER_DELETE, "sb-1", 2, 1, 0, false), 0);
    assert_int_equal(judge(&b, 1, 0), SCHED_CLAIM_NEVER);
    assert_says(&b, SHL_EGONE, "was deleted");
    kit_close(&b.kit);
}

/* What the verdict says is what the state does. */
static void test_claim_judge_and_state_agree(void **state)
{
    struct kit_stream stream = {.random = 7};
    struct bench b;
    unsigned agreed[4] = {0};

    (void)state;
    open_bench(&b);
    for (unsigned i = 0; i < 4000; i++) {
        struct sched_command c = kit_command(&b.kit, SCHED_OWNER_CLAIM);
        unsigned owner = 1 + (unsigned)(kit_random(&stream.random) % 3);
        const struct sched_owner *row = sched_state_owner(b.kit.state, "sb-1");
        enum sched_claim_verdict verdict;
        uint64_t epoch = row ? row->epoch : 1;

        if (kit_random(&stream.random) % 3) {
            static const uint32_t kinds[] = {SCHED_OWNER_REGISTER, SCHED_OWNER_RELEASE};
            uint32_t kind = kinds[kit_random(&stream.random) % 2];

            (void)kit_owner(&b.kit, kind, "sb-1", owner, epoch, 0, false);
            continue;
        }
        verdict = judge(&b, owner, kit_random(&stream.random) % 22000);
        agreed[verdict]++;
        c.u.owner = b.claim.command;
        c.u.owner.claimable = kit_random(&stream.random) % 2;
        if (verdict == SCHED_CLAIM_NEVER && b.claim.command.epoch == 0) {
            continue;
        }
        if (verdict == SCHED_CLAIM_GO || verdict == SCHED_CLAIM_GO_LAPSED) {
            assert_int_equal(kit_apply(&b.kit, &c), 0);
        } else {
            assert_int_equal(kit_apply(&b.kit, &c), SHL_EBADSTATE);
        }
    }
    assert_true(agreed[0] > 10 && agreed[1] > 10 && agreed[2] > 10 && agreed[3] > 10);
    kit_close(&b.kit);
}

static void test_claim_stamp_believes_nobody(void **state)
{
    struct shl_node_id one = kit_id(1), two = kit_id(2);
    struct sched_command c;
    struct bench b;

    (void)state;
    open_bench(&b);
    c = kit_command(&b.kit, SCHED_OWNER_CLAIM);
    c.u.owner.owner = two;
    c.u.owner.new_owner = one;
    c.u.owner.lapsed = true;
    assert_int_equal(sched_claim_stamp(&b.leases, &one, 5000, &c, NULL), 0);
    assert_false(c.u.owner.lapsed);
    assert_int_equal(sched_claim_stamp(&b.leases, &one, 11001, &c, NULL), 0);
    assert_true(c.u.owner.lapsed);
    assert_int_equal(sched_claim_stamp(&b.leases, &two, 11001, &c, NULL), SHL_EFORBIDDEN);
    c.kind = SCHED_OWNER_RELEASE;
    assert_int_equal(sched_claim_stamp(&b.leases, &one, 0, &c, NULL), SHL_EFORBIDDEN);
    assert_int_equal(sched_claim_stamp(&b.leases, &two, 0, &c, NULL), 0);
    c.kind = SCHED_OWNER_DELETE;
    assert_int_equal(sched_claim_stamp(&b.leases, &one, 0, &c, NULL), 0);
    c.kind = SCHED_OWNER_CLAIM;
    sched_leases_deposed(&b.leases);
    assert_int_equal(sched_claim_stamp(&b.leases, &one, 99999, &c, NULL), SHL_EUNAVAILABLE);
    kit_close(&b.kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_claim_waits_for_the_lease),
        cmocka_unit_test(test_claim_released_or_removed_is_free),
        cmocka_unit_test(test_claim_of_nothing),
        cmocka_unit_test(test_claim_judge_and_state_agree),
        cmocka_unit_test(test_claim_stamp_believes_nobody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
