/* One key, one sandbox. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "scheduler/idempotency.h"
#include "scheduler/mutate.h"
#include "tests/scheduler/kit.h"

static struct sched_idempotency value_of(unsigned node, const char *sandbox, bool done)
{
    struct sched_idempotency v = {.done = done, .node = kit_id(node)};

    snprintf(v.sandbox, sizeof(v.sandbox), "%s", sandbox);
    v.request[0] = 9;
    return v;
}

static void test_idempotency_verdicts(void **state)
{
    struct sched_idempotency pending = value_of(2, "sb-1", false), done = value_of(2, "sb-1", true);
    uint8_t same[SCHED_HASH_BYTES] = {9}, other[SCHED_HASH_BYTES] = {8};
    char text[SHL_ERR_TEXT_MAX];

    (void)state;
    assert_int_equal(sched_idempotency_decide(true, NULL, same, false, 0), SCHED_CREATE_FRESH);
    assert_int_equal(sched_idempotency_decide(false, &pending, same, false, 0),
                     SCHED_CREATE_PENDING);
    assert_int_equal(sched_idempotency_decide(false, &pending, same, true, 0),
                     SCHED_CREATE_TAKEOVER);
    assert_int_equal(sched_idempotency_decide(false, &done, same, false, 0), SCHED_CREATE_DONE);
    assert_int_equal(sched_idempotency_decide(false, &done, same, true, 0), SCHED_CREATE_DONE);
    assert_int_equal(sched_idempotency_decide(false, &done, other, false, 0),
                     SCHED_CREATE_CONFLICT);
    assert_int_equal(sched_idempotency_decide(false, &pending, other, true, 0),
                     SCHED_CREATE_CONFLICT);
    assert_int_equal(sched_idempotency_decide(false, &done, same, false,
                                              SCHED_MUT_IDEMPOTENCY_IGNORED),
                     SCHED_CREATE_FRESH);
    sched_idempotency_text(text, sizeof(text), SCHED_CREATE_PENDING, &pending);
    assert_non_null(strstr(text, "sandbox sb-1 is being created for this idempotency key on node "
                                 "0002"));
    sched_idempotency_text(text, sizeof(text), SCHED_CREATE_CONFLICT, &pending);
    assert_non_null(strstr(text, "was used for another request"));
    sched_idempotency_text(text, sizeof(text), SCHED_CREATE_DONE, &done);
    assert_string_equal(text, "");
}

static void test_idempotency_value_round_trip(void **state)
{
    struct sched_idempotency v = value_of(3, "sb-12345678", true), back;
    struct shl_buf buf;
    size_t len;

    (void)state;
    shl_buf_init(&buf, SCHED_VALUE_MAX);
    assert_int_equal(sched_idempotency_encode(&v, &buf), 0);
    assert_int_equal(sched_idempotency_decode(&back, shl_buf_bytes(&buf)), 0);
    assert_true(back.done);
    assert_string_equal(back.sandbox, "sb-12345678");
    assert_true(shl_node_id_equal(&back.node, &v.node));
    assert_int_equal(back.request[0], 9);
    for (len = 0; len < shl_buf_len(&buf); len++) {
        assert_int_equal(sched_idempotency_decode(&back, shl_bytes_of(shl_buf_data(&buf), len)),
                         SHL_EPROTO);
    }
    v.sandbox[0] = '\0';
    assert_int_equal(sched_idempotency_encode(&v, &buf), SHL_EINVALIDARG);
    shl_buf_release(&buf);
}

/* Through the state: two entry nodes get the same key, one of them makes the sandbox. */
static void test_idempotency_through_the_state(void **state)
{
    struct sched_idempotency mine = value_of(1, "sb-a", false), yours = value_of(2, "sb-b", false);
    struct sched_idempotency found;
    struct sched_command c;
    struct shl_buf first, second, done;
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    shl_buf_init(&first, SCHED_VALUE_MAX);
    shl_buf_init(&second, SCHED_VALUE_MAX);
    shl_buf_init(&done, SCHED_VALUE_MAX);
    assert_int_equal(sched_idempotency_encode(&mine, &first), 0);
    assert_int_equal(sched_idempotency_encode(&yours, &second), 0);
    mine.done = true;
    assert_int_equal(sched_idempotency_encode(&mine, &done), 0);
    c = kit_command(&kit, SCHED_NAME_CLAIM);
    c.u.name.kind = SCHED_NAME_IDEMPOTENCY;
    snprintf(c.u.name.org, sizeof(c.u.name.org), "org");
    snprintf(c.u.name.name, sizeof(c.u.name.name), "key-1");
    c.u.name.ttl_ms = SCHED_IDEMPOTENCY_TTL_MS;
    c.u.name.value = shl_buf_bytes(&first);
    assert_int_equal(kit_apply(&kit, &c), 0);
    assert_false(kit.result.existed);
    c.u.name.value = shl_buf_bytes(&second);
    assert_int_equal(kit_apply(&kit, &c), SHL_ECONFLICT);
    assert_int_equal(
        sched_idempotency_decode(&found, shl_bytes_of(kit.result.value, kit.result.value_len)), 0);
    assert_string_equal(found.sandbox, "sb-a");
    c.kind = SCHED_NAME_SET;
    c.u.name.value = shl_buf_bytes(&done);
    c.u.name.has_expected = true;
    c.u.name.expected = shl_buf_bytes(&first);
    assert_int_equal(kit_apply(&kit, &c), 0);
    c.kind = SCHED_NAME_CLAIM;
    c.u.name.value = shl_buf_bytes(&second);
    assert_int_equal(kit_apply(&kit, &c), SHL_ECONFLICT);
    assert_int_equal(
        sched_idempotency_decode(&found, shl_bytes_of(kit.result.value, kit.result.value_len)), 0);
    assert_true(found.done);
    shl_buf_release(&first);
    shl_buf_release(&second);
    shl_buf_release(&done);
    kit_close(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idempotency_verdicts),
        cmocka_unit_test(test_idempotency_value_round_trip),
        cmocka_unit_test(test_idempotency_through_the_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
