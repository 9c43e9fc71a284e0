/* node/egress/address, host: where a guest may not be led, in every spelling. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "node/egress/address.h"
#include "node/egress/host.h"

static bool is_private(const char *text)
{
    struct egress_address address;

    assert_int_equal(egress_address_parse(&address, text), 0);
    return egress_address_is_private(&address);
}

static void test_address_private_ranges_are_refused(void **state)
{
    static const char *const refused[] = {
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "::ffff:0:10.0.0.1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "2001::1",
        "fc00::1",
        "fdff::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "100::1",
    };
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(refused); i++) {
        if (!is_private(refused[i])) {
            fail_msg("%s would be reached", refused[i]);
        }
    }
}

static void test_address_public_ones_pass(void **state)
{
    static const char *const fine[] = {
        "1.1.1.1",          "9.255.255.255",   "11.0.0.0",        "100.63.255.255", "100.128.0.0",
        "172.15.0.1",       "172.32.0.1",      "192.167.255.255", "192.169.0.0",    "198.17.0.1",
        "198.20.0.0",       "223.255.255.1",   "203.0.113.5",     "2606:4700::1",   "2a00::1",
        "64:ff9b::808:808", "2002:808:808::1",
    };
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(fine); i++) {
        if (is_private(fine[i])) {
            fail_msg("%s would be refused", fine[i]);
        }
    }
}

static void test_address_odd_notations_are_no_addresses(void **state)
{
    static const char *const odd[] = {"0x7f.1",     "127.1",       "2130706433", "017700000001",
                                      "127.0.0.1.", "1.2.3.4/8",   "",           "[",
                                      "[]",         "fe80::1%eth0"};
    struct egress_address address;
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(odd); i++) {
        assert_int_not_equal(egress_address_parse(&address, odd[i]), 0);
    }
}

static void test_address_cloud_metadata_is_never_reached(void **state)
{
    static const char *const all[] = {"169.254.0.0/16", "::/0"};
    static const char *const texts[] = {"169.254.169.254", "::ffff:169.254.169.254",
                                        "64:ff9b::a9fe:a9fe"};
    struct egress_prefix allowed[2];
    struct egress_address address;
    size_t i;

    (void)state;
    for (i = 0; i < 2; i++) {
        assert_int_equal(egress_prefix_parse(&allowed[i], all[i]), 0);
    }
    for (i = 0; i < SHL_ARRAY_SIZE(texts); i++) {
        assert_int_equal(egress_address_parse(&address, texts[i]), 0);
        assert_false(egress_address_may_be_reached(&address, allowed, 2));
    }
    assert_int_equal(egress_address_parse(&address, "169.254.169.253"), 0);
    assert_true(egress_address_may_be_reached(&address, allowed, 2));
}

static void test_address_allowed_prefixes_open_what_they_name(void **state)
{
    struct egress_prefix allowed[2];
    struct egress_address address;

    (void)state;
    assert_int_equal(egress_prefix_parse(&allowed[0], "10.9.0.0/16"), 0);
    assert_int_equal(egress_prefix_parse(&allowed[1], "127.0.0.1"), 0);
    assert_int_equal(egress_address_parse(&address, "10.9.3.4"), 0);
    assert_true(egress_address_may_be_reached(&address, allowed, 2));
    assert_int_equal(egress_address_parse(&address, "10.10.3.4"), 0);
    assert_false(egress_address_may_be_reached(&address, allowed, 2));
    assert_int_equal(egress_address_parse(&address, "127.0.0.2"), 0);
    assert_false(egress_address_may_be_reached(&address, allowed, 2));
    assert_int_not_equal(egress_prefix_parse(&allowed[0], "10.0.0.0/33"), 0);
    assert_int_not_equal(egress_prefix_parse(&allowed[0], "10.0.0.0/-1"), 0);
    assert_int_not_equal(egress_prefix_parse(&allowed[0], "10.0.0.0/"), 0);
}

static void expect_host(const char *text, const char *host, unsigned port)
{
    char got[EGRESS_HOST_SIZE];
    uint16_t got_port;

    assert_int_equal(egress_host_parse(got, &got_port, text, strlen(text)), 0);
    assert_string_equal(got, host);
    assert_int_equal(got_port, port);
}

static void test_host_has_one_spelling(void **state)
{
    static const char *const bad[] = {"",        ".",      "a..b", ":80",      "a:",          "a:0",
                                      "a:65536", "a b",    "a/b",  "u@h",      "[::1",        "[x]",
                                      "a:8x",    "[::1]x", "-\n",  "a:000080", "\xc3\xa9.com"};
    char host[EGRESS_HOST_SIZE], many[300];
    uint16_t port;
    size_t i;

    (void)state;
    expect_host("API.Example.COM", "api.example.com", 0);
    expect_host("api.example.com.", "api.example.com", 0);
    expect_host("api.example.com.:443", "api.example.com", 443);
    expect_host("1.2.3.4:8080", "1.2.3.4", 8080);
    expect_host("[FE80::1]:443", "[fe80::1]", 443);
    for (i = 0; i < SHL_ARRAY_SIZE(bad); i++) {
        if (egress_host_parse(host, &port, bad[i], strlen(bad[i])) == 0) {
            fail_msg("'%s' was taken for a host", bad[i]);
        }
    }
    memset(many, 'a', sizeof(many));
    assert_int_not_equal(egress_host_parse(host, &port, many, 254), 0);
    assert_int_equal(egress_host_parse(host, &port, many, 253), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_address_private_ranges_are_refused),
        cmocka_unit_test(test_address_public_ones_pass),
        cmocka_unit_test(test_address_odd_notations_are_no_addresses),
        cmocka_unit_test(test_address_cloud_metadata_is_never_reached),
        cmocka_unit_test(test_address_allowed_prefixes_open_what_they_name),
        cmocka_unit_test(test_host_has_one_spelling),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
