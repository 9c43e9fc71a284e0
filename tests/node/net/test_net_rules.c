/* node/net/rules: the text that goes to nftables. What it does to packets is shown by
 * test_net_isolation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "node/net/rules.h"

static void setup_pool(struct node_pool *pool)
{
    assert_int_equal(node_pool_init(pool, "10.201.0.0/16", NULL), 0);
}

static const char *text_of(struct shl_buf *buf)
{
    assert_int_equal(shl_buf_append(buf, "", 1), 0);
    return (const char *)shl_buf_data(buf);
}

static void test_rules_replace_the_table_at_once(void **state)
{
    const struct node_net_guest guests[] = {{.tap = "shl00000001", .slot = 0},
                                            {.tap = "shl00000002", .slot = 5}};
    struct node_pool pool;
    struct shl_buf buf;
    const char *text;

    (void)state;
    setup_pool(&pool);
    shl_buf_init(&buf, 1 << 20);
    assert_int_equal(node_rules_all(&buf, &pool, 0x0a000203, guests, 2), 0);
    text = text_of(&buf);
    assert_int_equal(strncmp(text,
                             "add table inet shoal_10_201_0_0_16\n"
                             "delete table inet shoal_10_201_0_0_16\n"
                             "table inet shoal_10_201_0_0_16 {\n",
                             strlen("add table inet shoal_10_201_0_0_16\n")),
                     0);
    assert_non_null(strstr(text, "dnat ip to 10.0.2.3"));
    assert_non_null(strstr(text, "ip saddr 10.201.0.0/16 oifname != @taps masquerade"));
    assert_non_null(strstr(text, "guests { \"shl00000002\" . 10.201.0.22 }"));
    assert_non_null(strstr(text, "gateways { \"shl00000002\" . 10.201.0.21 }"));
    assert_non_null(strstr(text, "169.254.0.0/16"));
    shl_buf_release(&buf);
    node_pool_release(&pool);
}

static void test_rules_without_name_server(void **state)
{
    struct node_pool pool;
    struct shl_buf buf;

    (void)state;
    setup_pool(&pool);
    shl_buf_init(&buf, 1 << 20);
    assert_int_equal(node_rules_all(&buf, &pool, 0, NULL, 0), 0);
    assert_null(strstr(text_of(&buf), "dnat ip to"));
    shl_buf_release(&buf);
    node_pool_release(&pool);
}

static void test_rules_delete_never_misses(void **state)
{
    const struct node_net_guest guest = {.tap = "shlabcdef01", .slot = 1};
    struct node_pool pool;
    struct shl_buf buf;
    const char *text;

    (void)state;
    setup_pool(&pool);
    shl_buf_init(&buf, 4096);
    assert_int_equal(node_rules_del(&buf, &pool, &guest), 0);
    text = text_of(&buf);
    assert_string_equal(
        text, "add element inet shoal_10_201_0_0_16 guests { \"shlabcdef01\" . 10.201.0.6 }\n"
              "add element inet shoal_10_201_0_0_16 gateways { \"shlabcdef01\" . 10.201.0.5 }\n"
              "add element inet shoal_10_201_0_0_16 taps { \"shlabcdef01\" }\n"
              "delete element inet shoal_10_201_0_0_16 guests { \"shlabcdef01\" . 10.201.0.6 }\n"
              "delete element inet shoal_10_201_0_0_16 gateways { \"shlabcdef01\" . 10.201.0.5 }\n"
              "delete element inet shoal_10_201_0_0_16 taps { \"shlabcdef01\" }\n"
              "add element inet shoal_10_201_0_0_16 watched { \"shlabcdef01\" }\n"
              "delete element inet shoal_10_201_0_0_16 watched { \"shlabcdef01\" }\n"
              "add element inet shoal_10_201_0_0_16 limited { \"shlabcdef01\" }\n"
              "delete element inet shoal_10_201_0_0_16 limited { \"shlabcdef01\" }\n");
    shl_buf_release(&buf);
    node_pool_release(&pool);
}

/* Of every guest, and none but guests; while there is no gateway, of nobody. */
static void test_rules_lead_to_the_metadata_service(void **state)
{
    const struct node_net_ports ports = {.tcp = 1001, .dns = 1002, .metadata = 1003}, none = {0};
    struct node_pool pool;
    struct shl_buf buf;
    const char *text;

    (void)state;
    setup_pool(&pool);
    shl_buf_init(&buf, 1 << 20);
    assert_int_equal(node_rules_egress(&buf, &pool, &ports), 0);
    text = text_of(&buf);
    assert_non_null(strstr(text, "to_metadata ip daddr 169.254.169.254 tcp dport 80"
                                 " redirect to :1003\n"));
    assert_non_null(strstr(text, "egress_strangers tcp dport 1003 drop\n"));
    shl_buf_clear(&buf);
    assert_int_equal(node_rules_egress(&buf, &pool, &none), 0);
    assert_null(strstr(text_of(&buf), "add rule"));
    shl_buf_release(&buf);
    node_pool_release(&pool);
}

static void test_rules_respect_the_limit(void **state)
{
    struct node_pool pool;
    struct shl_buf buf;

    (void)state;
    setup_pool(&pool);
    shl_buf_init(&buf, 512);
    assert_int_equal(node_rules_all(&buf, &pool, 0, NULL, 0), SHL_ELIMIT);
    shl_buf_release(&buf);
    node_pool_release(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules_replace_the_table_at_once),
        cmocka_unit_test(test_rules_without_name_server),
        cmocka_unit_test(test_rules_delete_never_misses),
        cmocka_unit_test(test_rules_lead_to_the_metadata_service),
        cmocka_unit_test(test_rules_respect_the_limit),
    };

    return cmocka_run_group_tests_name("node/net_rules", tests, NULL, NULL);
}
