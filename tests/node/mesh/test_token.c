/* node/mesh: addresses and join tokens survive text, and every other text is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "node/mesh/token.h"

static void test_addr_text_and_back(void **state)
{
    static const struct {
        const char *text;
        uint16_t control, bulk;
    } good[] = {
        {"10.0.0.1:7070", 7070, 7071},
        {"127.0.0.1:7070/9000", 7070, 9000},
        {"[fd00::1]:1/2", 1, 2},
        {"[::1]:65535/1", 65535, 1},
    };
    static const char *const bad[] = {
        "",           "10.0.0.1",          "10.0.0.1:",      "10.0.0.1:0",      "10.0.0.1:65536/1",
        "host:7070",  "10.0.0.1:65535",    "10.0.0.1:7070/", "10.0.0.1:7070/0", "10.0.0.1:7070 ",
        "fd00::1:70", "[fd00::1]7070",     "[fd00::1",       "10.0.0.1:+7070",  "10.0.0.1:7070/1x",
        ":7070",      "10.0.0.1:000007070"};
    struct node_mesh_addr addr;
    char text[NODE_MESH_ADDR_TEXT_SIZE];
    size_t i;

    (void)state;
    for (i = 0; i < SHL_ARRAY_SIZE(good); i++) {
        assert_int_equal(node_mesh_addr_parse(good[i].text, &addr), 0);
        assert_int_equal(addr.control_port, good[i].control);
        assert_int_equal(addr.bulk_port, good[i].bulk);
        assert_true(node_mesh_addr_is_valid(&addr));
        node_mesh_addr_format(text, &addr);
        assert_string_equal(text, i == 2 ? "[fd00::1]:1" : good[i].text);
    }
    for (i = 0; i < SHL_ARRAY_SIZE(bad); i++) {
        assert_true(node_mesh_addr_parse(bad[i], &addr) < 0);
    }
}

static struct node_join_token sample(uint32_t seeds)
{
    struct node_join_token token = {.expires_at_s = 1900000000, .seed_count = seeds};
    uint32_t i;

    memset(token.cluster, 0xc1, sizeof(token.cluster));
    memset(token.server_key, 0x5e, sizeof(token.server_key));
    node_join_token_draw(&token);
    for (i = 0; i < seeds; i++) {
        char text[32];

        (void)snprintf(text, sizeof(text), "10.0.0.%u:7070", i + 1);
        assert_int_equal(node_mesh_addr_parse(text, &token.seeds[i]), 0);
    }
    return token;
}

static void test_token_text_and_back(void **state)
{
    uint32_t seeds;

    (void)state;
    for (seeds = 1; seeds <= NODE_JOIN_TOKEN_SEEDS_MAX; seeds++) {
        struct node_join_token token = sample(seeds), back;
        char text[NODE_JOIN_TOKEN_TEXT_SIZE], padded[NODE_JOIN_TOKEN_TEXT_SIZE + 8];

        assert_int_equal(node_join_token_format(&token, text, NULL), 0);
        assert_int_equal(strncmp(text, NODE_JOIN_TOKEN_PREFIX, strlen(NODE_JOIN_TOKEN_PREFIX)), 0);
        (void)snprintf(padded, sizeof(padded), " %s\n", text);
        memset(&back, 0, sizeof(back));
        assert_int_equal(node_join_token_parse(padded, &back, NULL), 0);
        assert_memory_equal(&back, &token, sizeof(token));
    }
}

/* The longest one there can be still fits. */
static void test_token_longest_fits(void **state)
{
    struct node_join_token token = sample(NODE_JOIN_TOKEN_SEEDS_MAX);
    char text[NODE_JOIN_TOKEN_TEXT_SIZE];
    uint32_t i;

    (void)state;
    for (i = 0; i < NODE_JOIN_TOKEN_SEEDS_MAX; i++) {
        assert_int_equal(
            node_mesh_addr_parse("[fd00:1111:2222:3333:4444:5555:6666:7777]:65535/65534",
                                 &token.seeds[i]),
            0);
    }
    token.expires_at_s = 253402300799ll;
    assert_int_equal(node_join_token_format(&token, text, NULL), 0);
    assert_int_equal(node_join_token_parse(text, &token, NULL), 0);
}

static void test_token_each_changed_character_is_found(void **state)
{
    struct node_join_token token = sample(2), back;
    char text[NODE_JOIN_TOKEN_TEXT_SIZE];
    size_t i, len;

    (void)state;
    assert_int_equal(node_join_token_format(&token, text, NULL), 0);
    len = strlen(text);
    for (i = 0; i < len; i++) {
        char was = text[i];

        text[i] = was == 'A' ? 'B' : 'A';
        assert_true(node_join_token_parse(text, &back, NULL) < 0);
        text[i] = was;
    }
    for (i = 0; i < len; i++) {
        char was = text[i];

        text[i] = 0;
        assert_true(node_join_token_parse(text, &back, NULL) < 0);
        text[i] = was;
    }
    assert_int_equal(node_join_token_parse(text, &back, NULL), 0);
}

static void test_token_says_what_is_wrong(void **state)
{
    struct node_join_token token = sample(1);
    struct shl_err err = {0};
    char text[NODE_JOIN_TOKEN_TEXT_SIZE];

    (void)state;
    assert_int_equal(node_join_token_parse("shoal-join-", &token, &err), SHL_EINVALIDARG);
    assert_non_null(strstr(err.msg, "copy it again"));
    token = sample(1);
    token.seed_count = 0;
    assert_int_equal(node_join_token_format(&token, text, &err), SHL_EINVALIDARG);
    token = sample(1);
    token.expires_at_s = 0;
    assert_int_equal(node_join_token_format(&token, text, &err), SHL_EINVALIDARG);
}

static void test_token_matches_its_secret_only(void **state)
{
    struct node_join_token token = sample(1);
    uint8_t hash[NODE_JOIN_TOKEN_HASH_BYTES];

    (void)state;
    node_join_token_hash(token.id, token.secret, hash);
    assert_true(node_join_token_matches(hash, token.id, token.secret));
    token.secret[31] ^= 1;
    assert_false(node_join_token_matches(hash, token.id, token.secret));
    token.secret[31] ^= 1;
    token.id[0] ^= 1;
    assert_false(node_join_token_matches(hash, token.id, token.secret));
    node_join_token_wipe(&token);
    assert_int_equal(token.seed_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addr_text_and_back),
        cmocka_unit_test(test_token_text_and_back),
        cmocka_unit_test(test_token_longest_fits),
        cmocka_unit_test(test_token_each_changed_character_is_found),
        cmocka_unit_test(test_token_says_what_is_wrong),
        cmocka_unit_test(test_token_matches_its_secret_only),
    };

    return cmocka_run_group_tests_name("node/mesh_token", tests, NULL, NULL);
}
