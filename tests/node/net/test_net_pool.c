/* node/net/pool and resolver: addresses of slots, bad pools, which name server is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "node/net/net.h"
#include "node/net/resolver.h"

static void test_pool_addresses_of_a_slot(void **state)
{
    char text[NODE_ADDRESS_SIZE];
    struct node_pool pool;

    (void)state;
    assert_int_equal(node_pool_init(&pool, "10.201.0.0/16", NULL), 0);
    assert_int_equal(pool.slot_count, 16384);
    node_address_format(text, node_pool_gateway(&pool, 0));
    assert_string_equal(text, "10.201.0.1");
    node_address_format(text, node_pool_guest(&pool, 64));
    assert_string_equal(text, "10.201.1.2");
    node_address_format(text, node_pool_guest(&pool, 16383));
    assert_string_equal(text, "10.201.255.254");
    assert_true(node_pool_contains(&pool, node_pool_guest(&pool, 16383)));
    assert_false(node_pool_contains(&pool, pool.base - 1));
    node_pool_release(&pool);
}

static void test_pool_runs_out_and_rests_slots(void **state)
{
    struct node_pool pool;
    uint32_t slot, i;

    (void)state;
    assert_int_equal(node_pool_init(&pool, "192.168.7.16/28", NULL), 0);
    for (i = 0; i < 4; i++) {
        assert_int_equal(node_pool_take(&pool, &slot), 0);
        assert_int_equal(slot, i);
    }
    assert_int_equal(node_pool_take(&pool, &slot), SHL_ENOCAPACITY);
    node_pool_give(&pool, 2);
    node_pool_give(&pool, 0);
    assert_int_equal(node_pool_take(&pool, &slot), 0);
    assert_int_equal(slot, 0);
    assert_int_equal(node_pool_take_slot(&pool, 0), SHL_ECONFLICT);
    assert_int_equal(node_pool_take_slot(&pool, 4), SHL_EINVALIDARG);
    assert_int_equal(node_pool_take_slot(&pool, 2), 0);
    node_pool_release(&pool);
}

static void test_pool_refuses_bad_networks(void **state)
{
    static const char *const bad[] = {
        "",           "10.0.0.0",     "10.0.0.0/",     "10.0.0.0/x", "10.0.0.0/33",
        "10.0.0.0/8", "10.0.0.0/29",  "10.201.1.0/16", "8.8.0.0/16", "172.32.0.0/16",
        "10.0.0/16",  "10.0.0.0/-16", "10.0.0.0/ 16",  "fe80::/16",  "10.0.0.0/16/16",
    };
    struct node_pool pool;
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(bad); i++) {
        struct shl_err err = {0};

        assert_int_equal(node_pool_init(&pool, bad[i], &err), SHL_EINVALIDARG);
        assert_non_null(strstr(err.msg, "address pool"));
    }
}

static void check_resolver(const char *text, const char *want)
{
    char found[NODE_ADDRESS_SIZE];

    node_address_format(found, node_resolver_parse(shl_bytes_of(text, strlen(text))));
    assert_string_equal(found, want);
}

static void test_resolver_takes_the_first_usable(void **state)
{
    (void)state;
    check_resolver("nameserver 10.0.2.3\n", "10.0.2.3");
    check_resolver("# x\nnameserver 127.0.0.53\nnameserver\t1.1.1.1", "1.1.1.1");
    check_resolver("nameserver ::1\r\nnameserver 9.9.9.9\r\n", "9.9.9.9");
    check_resolver("nameservers 10.0.0.1\n;nameserver 10.0.0.2\n", "0.0.0.0");
    check_resolver("nameserver \n\n", "0.0.0.0");
    check_resolver("", "0.0.0.0");
}

static void test_names_come_from_the_id(void **state)
{
    char tap[NODE_TAP_NAME_SIZE];
    char mac[NODE_MAC_SIZE];

    (void)state;
    node_net_mac(mac, "sb-01ab23cd");
    assert_string_equal(mac, "02:53:01:ab:23:cd");
    node_net_tap_name(tap, "sb-01ab23cd");
    assert_string_equal(tap, "shl01ab23cd");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pool_addresses_of_a_slot),
        cmocka_unit_test(test_pool_runs_out_and_rests_slots),
        cmocka_unit_test(test_pool_refuses_bad_networks),
        cmocka_unit_test(test_resolver_takes_the_first_usable),
        cmocka_unit_test(test_names_come_from_the_id),
    };

    return cmocka_run_group_tests_name("node/net_pool", tests, NULL, NULL);
}
