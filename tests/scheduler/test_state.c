/* Names, API keys, settings, and what is true of every command: time that never goes back,
 * refusals that change nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "scheduler/cluster_time.h"
#include "scheduler/mutate.h"
#include "tests/scheduler/kit.h"

static void assert_says(const struct kit *kit, const char *text)
{
    if (!strstr(kit->result.err.msg, text)) {
        print_error("said: %s\n", kit->result.err.msg);
    }
    assert_non_null(strstr(kit->result.err.msg, text));
}

static void assert_value(const struct kit *kit, const char *value)
{
    assert_int_equal(kit->result.value_len, strlen(value));
    assert_memory_equal(kit->result.value, value, strlen(value));
}

static int claim(struct kit *kit, const char *name, const char *value)
{
    return kit_claim(kit, SCHED_NAME_SNAPSHOT, "org", name, value);
}

/*- Names. */

static void test_state_name_first_has_it(void **state)
{
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    assert_int_equal(claim(&kit, "a", "one"), 0);
    assert_false(kit.result.existed);
    assert_int_equal(claim(&kit, "a", "one"), 0); /* a repeated request */
    assert_true(kit.result.existed);
    assert_int_equal(claim(&kit, "a", "two"), SHL_ECONFLICT);
    assert_says(&kit, "the snapshot name \"a\" is taken already");
    assert_value(&kit, "one");
    /* Other organisations and other kinds have names of their own. */
    assert_int_equal(kit_claim(&kit, SCHED_NAME_SNAPSHOT, "org2", "a", "two"), 0);
    assert_int_equal(kit_claim(&kit, SCHED_NAME_SECRET_STORE, "org", "a", "two"), 0);
    assert_int_equal(kit_claim(&kit, SCHED_NAME_HOST, "", "a", "two"), 0);
    assert_int_equal(kit_claim(&kit, SCHED_NAME_HOST, "", "a", "three"), SHL_ECONFLICT);
    kit_close(&kit);
}

static void test_state_name_set_and_release_compare(void **state)
{
    const struct sched_name *row;
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    assert_int_equal(kit_set(&kit, "a", "x", NULL), SHL_ENOTFOUND);
    assert_says(&kit, "there is no snapshot name \"a\"");
    assert_int_equal(claim(&kit, "a", "one"), 0);
    assert_int_equal(kit_set(&kit, "a", "two", "zero"), SHL_ECONFLICT);
    assert_says(&kit, "stands for something else by now");
    assert_value(&kit, "one");
    assert_int_equal(kit_set(&kit, "a", "two", "one"), 0);
    assert_int_equal(kit_set(&kit, "a", "two", "one"), 0); /* a repeated request */
    assert_true(kit.result.existed);
    assert_int_equal(kit_release(&kit, "a", "one"), SHL_ECONFLICT);
    row = sched_state_name(kit.state, SCHED_NAME_SNAPSHOT, "org", "a");
    assert_int_equal(row->value.len, 3);
    assert_memory_equal(row->value.base, "two", 3);
    assert_int_equal(kit_release(&kit, "a", "two"), 0);
    assert_true(kit.result.existed);
    assert_int_equal(kit_release(&kit, "a", "two"), 0);
    assert_false(kit.result.existed);
    assert_null(sched_state_name(kit.state, SCHED_NAME_SNAPSHOT, "org", "a"));
    assert_int_equal(claim(&kit, "a", "three"), 0);
    kit_close(&kit);
}

static void test_state_name_expires_in_cluster_time(void **state)
{
    struct sched_command c;
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    assert_int_equal(kit_claim(&kit, SCHED_NAME_IDEMPOTENCY, "org", "k", "v"), 0);
    kit.now_ms += 59999;
    assert_int_equal(kit_claim(&kit, SCHED_NAME_IDEMPOTENCY, "org", "k", "w"), SHL_ECONFLICT);
    kit.now_ms += 1;
    assert_int_equal(kit_set(&kit, "other", "x", NULL), SHL_ENOTFOUND); /* time goes on */
    assert_null(sched_state_name(kit.state, SCHED_NAME_IDEMPOTENCY, "org", "k"));
    assert_int_equal(kit_claim(&kit, SCHED_NAME_IDEMPOTENCY, "org", "k", "w"), 0);
    kit.now_ms += 60000;
    c = kit_command(&kit, SCHED_EXPIRE);
    assert_int_equal(kit_apply(&kit, &c), 0);
    assert_int_equal(sched_state_count(kit.state, SCHED_TABLE_NAMES), 0);
    kit_close(&kit);
}

static void test_state_names_are_bounded(void **state)
{
    struct sched_state_config config = {.rows_max = {[SCHED_TABLE_NAMES] = 3}};
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, &config);
    assert_int_equal(claim(&kit, "a", "1"), 0);
    assert_int_equal(claim(&kit, "b", "1"), 0);
    assert_int_equal(kit_claim(&kit, SCHED_NAME_IDEMPOTENCY, "org", "k", "v"), 0);
    assert_int_equal(claim(&kit, "c", "1"), SHL_ELIMIT);
    assert_says(&kit, "holds 3 names, which is the limit");
    assert_int_equal(claim(&kit, "a", "1"), 0); /* what is there still answers */
    kit.now_ms += 60000;                        /* the expired key makes room */
    assert_int_equal(claim(&kit, "c", "1"), 0);
    kit_close(&kit);
}

static void test_state_names_of_one_org_are_bounded(void **state)
{
    struct sched_state_config config = {.names_org_max = 50};
    char name[32];
    unsigned i;
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, &config);
    for (i = 0; i < 50; i++) {
        snprintf(name, sizeof(name), "x%u", i);
        assert_int_equal(claim(&kit, name, "1"), 0);
    }
    assert_int_equal(claim(&kit, "one more", "1"), SHL_EQUOTA);
    assert_says(&kit, "the organisation holds 50 of these names");
    assert_int_equal(kit_claim(&kit, SCHED_NAME_SNAPSHOT, "org2", "one more", "1"), 0);
    assert_int_equal(kit_claim(&kit, SCHED_NAME_SECRET_STORE, "org", "one more", "1"), 0);
    assert_int_equal(sched_state_digest(kit.state), sched_state_digest_slow(kit.state));
    kit_close(&kit);
}

static void test_state_names_are_listed_in_order(void **state)
{
    const struct sched_name *row;
    size_t at;
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    assert_int_equal(claim(&kit, "b", "1"), 0);
    assert_int_equal(claim(&kit, "a", "1"), 0);
    assert_int_equal(kit_claim(&kit, SCHED_NAME_SNAPSHOT, "or", "z", "1"), 0);
    at = sched_state_name_seek(kit.state, SCHED_NAME_SNAPSHOT, "org", "");
    row = sched_state_at(kit.state, SCHED_TABLE_NAMES, at);
    assert_string_equal(row->name, "a");
    row = sched_state_at(kit.state, SCHED_TABLE_NAMES, at + 1);
    assert_string_equal(row->name, "b");
    assert_int_equal(at + 2, sched_state_count(kit.state, SCHED_TABLE_NAMES));
    kit_close(&kit);
}

static void test_state_name_overwrite_mutation_shows(void **state)
{
    struct sched_state_config config = {.mutations = SCHED_MUT_NAME_OVERWRITE};
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, &config);
    assert_int_equal(claim(&kit, "a", "one"), 0);
    assert_int_equal(claim(&kit, "a", "two"), 0);
    assert_value(&kit, "two");
    kit_close(&kit);
}

/*- API keys. */

static int put_key(struct kit *kit, unsigned n, const char *org)
{
    struct sched_command c = kit_command(kit, SCHED_KEY_PUT);

    shl_put_le32(c.u.key_put.hash, n);
    snprintf(c.u.key_put.org, sizeof(c.u.key_put.org), "%s", org);
    return kit_apply(kit, &c);
}

static int revoke_key(struct kit *kit, unsigned n)
{
    struct sched_command c = kit_command(kit, SCHED_KEY_REVOKE);

    shl_put_le32(c.u.key_revoke.hash, n);
    return kit_apply(kit, &c);
}

static void test_state_key_life(void **state)
{
    uint8_t hash[SCHED_HASH_BYTES] = {1};
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    assert_int_equal(put_key(&kit, 1, "org"), 0);
    assert_int_equal(put_key(&kit, 1, "org"), 0);
    assert_true(kit.result.existed);
    assert_int_equal(put_key(&kit, 1, "org2"), SHL_ECONFLICT);
    assert_says(&kit, "another API key of this hash");
    kit.now_ms += 10;
    assert_int_equal(revoke_key(&kit, 1), 0);
    assert_true(sched_state_key(kit.state, hash)->revoked);
    assert_int_equal(sched_state_key(kit.state, hash)->revoked_at_ms, kit.now_ms);
    assert_int_equal(put_key(&kit, 1, "org"), SHL_EGONE);
    assert_says(&kit, "was revoked and cannot come back");
    assert_int_equal(revoke_key(&kit, 2), SHL_ENOTFOUND);
    assert_says(&kit, "no such API key");
    kit_close(&kit);
}

static void test_state_keys_are_bounded(void **state)
{
    struct sched_state_config config = {.rows_max = {[SCHED_TABLE_KEYS] = 4}};
    uint8_t hash[SCHED_HASH_BYTES] = {2};
    unsigned i;
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, &config);
    for (i = 1; i <= 4; i++) {
        assert_int_equal(put_key(&kit, i, "org"), 0);
    }
    assert_int_equal(put_key(&kit, 5, "org"), SHL_ELIMIT);
    assert_says(&kit, "holds 4 API keys");
    assert_int_equal(revoke_key(&kit, 2), 0);
    assert_int_equal(revoke_key(&kit, 1), 0);
    assert_int_equal(put_key(&kit, 5, "org"), 0); /* the one revoked first made room */
    assert_null(sched_state_key(kit.state, hash));
    assert_int_equal(put_key(&kit, 6, "org"), 0);
    assert_int_equal(put_key(&kit, 7, "org"), SHL_ELIMIT);
    kit_close(&kit);
}

/*- Settings. */

static int set_if(struct kit *kit, const char *key, uint64_t revision)
{
    struct sched_command c = kit_command(kit, SCHED_KV_SET);

    snprintf(c.u.kv.key, sizeof(c.u.kv.key), "%s", key);
    c.u.kv.value = shl_bytes_of("v", 1);
    c.u.kv.has_expected = true;
    c.u.kv.expected = revision;
    return kit_apply(kit, &c);
}

static int delete_kv(struct kit *kit, const char *key)
{
    struct sched_command c = kit_command(kit, SCHED_KV_DELETE);

    snprintf(c.u.kv.key, sizeof(c.u.kv.key), "%s", key);
    return kit_apply(kit, &c);
}

static void test_state_kv_compares_revisions(void **state)
{
    uint64_t revision;
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    assert_int_equal(set_if(&kit, "a", 5), SHL_ECONFLICT);
    assert_int_equal(set_if(&kit, "a", 0), 0);
    revision = kit.result.number;
    assert_int_equal(set_if(&kit, "a", 0), SHL_ECONFLICT);
    assert_says(&kit, "was changed meanwhile");
    assert_int_equal(kit.result.number, revision);
    assert_int_equal(set_if(&kit, "a", revision), 0);
    assert_true(sched_state_kv(kit.state, "a")->revision > revision);
    assert_int_equal(delete_kv(&kit, "a"), 0);
    assert_true(kit.result.existed);
    assert_int_equal(delete_kv(&kit, "a"), 0);
    assert_false(kit.result.existed);
    assert_null(sched_state_kv(kit.state, "a"));
    kit_close(&kit);
}

static void test_state_kv_is_bounded(void **state)
{
    static char value[SCHED_KV_VALUE_MAX + 1];
    struct sched_state_config config = {.rows_max = {[SCHED_TABLE_KV] = 600}};
    char key[32];
    unsigned i;
    struct kit kit;

    (void)state;
    memset(value, 'v', SCHED_KV_VALUE_MAX);
    kit_open_cluster(&kit, &config);
    for (i = 0; i < SCHED_KV_BYTES_MAX / SCHED_KV_VALUE_MAX; i++) {
        snprintf(key, sizeof(key), "k%u", i);
        assert_int_equal(kit_kv(&kit, key, value), 0);
    }
    assert_int_equal(kit_kv(&kit, "more", "x"), SHL_ELIMIT);
    assert_says(&kit, "all settings together hold at most");
    assert_int_equal(kit_kv(&kit, "k0", "shorter"), 0);
    for (i = 0; i < 600 - SCHED_KV_BYTES_MAX / SCHED_KV_VALUE_MAX; i++) {
        snprintf(key, sizeof(key), "m%u", i);
        assert_int_equal(kit_kv(&kit, key, "x"), 0);
    }
    assert_int_equal(kit_kv(&kit, "last", "x"), SHL_ELIMIT);
    assert_says(&kit, "holds 600 settings");
    kit_close(&kit);
}

/*- Every command. */

static void test_state_time_never_goes_back(void **state)
{
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    kit.now_ms += 1000;
    assert_int_equal(kit_kv(&kit, "a", "x"), 0);
    kit.now_ms -= 5000;
    assert_int_equal(kit_token(&kit, 1, 2000), 0);
    assert_int_equal(sched_state_time_ms(kit.state), KIT_START_MS + 1000);
    kit_close(&kit);
}

/* A leader whose wall clock is a day ahead, then one whose clock is right: time goes on at
 * its pace and what is made then expires as asked. */
static void test_state_cluster_time_keeps_its_pace(void **state)
{
    struct sched_cluster_time t;

    (void)state;
    sched_cluster_time_start(&t, 5000, 86405000, 100);
    assert_int_equal(sched_cluster_time_now(&t, 350), 86405250);
    sched_cluster_time_start(&t, 86405250, 5300, 9000);
    assert_int_equal(sched_cluster_time_now(&t, 9000), 86405250);
    assert_int_equal(sched_cluster_time_now(&t, 9500), 86405750);
    assert_int_equal(sched_cluster_time_now(&t, 1), 86405250);
}

static void test_state_garbage_is_an_outcome(void **state)
{
    uint64_t before, time_ms;
    struct kit kit;

    (void)state;
    kit_open_cluster(&kit, NULL);
    before = sched_state_count(kit.state, SCHED_TABLE_NODES);
    time_ms = sched_state_time_ms(kit.state);
    assert_int_equal(kit_apply_bytes(&kit, shl_bytes_of("\xc1\x00", 2)), SHL_EPROTO);
    assert_int_equal(kit_apply_bytes(&kit, shl_bytes_of("", 0)), SHL_EPROTO);
    assert_int_equal(sched_state_index(kit.state), kit.index);
    assert_int_equal(sched_state_time_ms(kit.state), time_ms);
    assert_int_equal(sched_state_count(kit.state, SCHED_TABLE_NODES), before);
    kit_close(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_state_name_first_has_it),
        cmocka_unit_test(test_state_name_set_and_release_compare),
        cmocka_unit_test(test_state_name_expires_in_cluster_time),
        cmocka_unit_test(test_state_names_are_bounded),
        cmocka_unit_test(test_state_names_of_one_org_are_bounded),
        cmocka_unit_test(test_state_names_are_listed_in_order),
        cmocka_unit_test(test_state_name_overwrite_mutation_shows),
        cmocka_unit_test(test_state_key_life),
        cmocka_unit_test(test_state_keys_are_bounded),
        cmocka_unit_test(test_state_kv_compares_revisions),
        cmocka_unit_test(test_state_kv_is_bounded),
        cmocka_unit_test(test_state_time_never_goes_back),
        cmocka_unit_test(test_state_cluster_time_keeps_its_pace),
        cmocka_unit_test(test_state_garbage_is_an_outcome),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
