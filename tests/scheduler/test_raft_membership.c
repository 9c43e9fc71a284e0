#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "scheduler/raft.h"

static struct sched_raft_member member_of(uint8_t number, uint8_t standing)
{
    struct sched_raft_member member = {.standing = standing, .witness = number % 3 == 0};

    member.id.bytes[0] = number;
    return member;
}

static void test_membership_keeps_order_and_replaces(void **state)
{
    static const uint8_t order[] = {7, 2, 9, 4, 1};
    struct sched_raft_membership m = {0};
    struct sched_raft_member member;
    uint32_t i;

    (void)state;
    for (i = 0; i < sizeof(order); i++) {
        member = member_of(order[i], SCHED_RAFT_LEARNER);
        assert_int_equal(sched_raft_membership_set(&m, &member), 0);
    }
    assert_int_equal(m.count, 5);
    for (i = 1; i < m.count; i++) {
        assert_true(shl_node_id_compare(&m.members[i - 1].id, &m.members[i].id) < 0);
    }
    assert_int_equal(sched_raft_membership_voters(&m), 0);
    member = member_of(4, SCHED_RAFT_VOTER);
    assert_int_equal(sched_raft_membership_set(&m, &member), 0);
    assert_int_equal(m.count, 5);
    assert_int_equal(sched_raft_membership_voters(&m), 1);
    assert_int_equal(sched_raft_membership_find(&m, &member.id)->standing, SCHED_RAFT_VOTER);
    member = member_of(5, SCHED_RAFT_VOTER);
    assert_null(sched_raft_membership_find(&m, &member.id));
}

static void test_membership_has_a_limit(void **state)
{
    struct sched_raft_membership m = {0};
    struct sched_raft_member member;
    uint32_t i;

    (void)state;
    for (i = 1; i <= SCHED_RAFT_MEMBERS_MAX; i++) {
        member = member_of((uint8_t)i, SCHED_RAFT_LEARNER);
        assert_int_equal(sched_raft_membership_set(&m, &member), 0);
    }
    member = member_of(200, SCHED_RAFT_LEARNER);
    assert_int_equal(sched_raft_membership_set(&m, &member), SHL_ELIMIT);
    assert_int_equal(m.count, SCHED_RAFT_MEMBERS_MAX);
}

static void test_membership_bytes_round_trip_and_refuse_damage(void **state)
{
    struct sched_raft_membership m = {0}, back;
    struct sched_raft_member member;
    struct shl_buf buf;
    size_t len, i;

    (void)state;
    for (i = 1; i <= 4; i++) {
        member = member_of((uint8_t)i, i < 3 ? SCHED_RAFT_VOTER : SCHED_RAFT_LEARNER);
        assert_int_equal(sched_raft_membership_set(&m, &member), 0);
    }
    shl_buf_init(&buf, 4096);
    assert_int_equal(sched_raft_membership_encode(&m, &buf), 0);
    assert_int_equal(sched_raft_membership_decode(shl_buf_bytes(&buf), &back), 0);
    assert_int_equal(back.count, m.count);
    assert_memory_equal(back.members, m.members, m.count * sizeof(m.members[0]));
    len = shl_buf_len(&buf);
    for (i = 0; i < len; i++) { /* every truncation */
        assert_int_equal(sched_raft_membership_decode(shl_bytes_of(shl_buf_data(&buf), i), &back),
                         SHL_EPROTO);
    }
    /* Not sorted: the first member's id is made the largest. */
    for (i = 0; i < len && shl_buf_data(&buf)[i] != 16; i++) {
    }
    shl_buf_data(&buf)[i + 1] = 0xff;
    assert_int_equal(sched_raft_membership_decode(shl_buf_bytes(&buf), &back), SHL_EPROTO);
    shl_buf_release(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_membership_keeps_order_and_replaces),
        cmocka_unit_test(test_membership_has_a_limit),
        cmocka_unit_test(test_membership_bytes_round_trip_and_refuse_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
