/* Rows of stores, secrets and keys, and a sandbox's use of them, written and read again. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "base/err.h"
#include "base/id.h"
#include "base/mp.h"
#include "node/secret/use.h"

#define STORE "01234567-89ab-4cde-8f01-23456789abcd"
#define OTHER "11234567-89ab-4cde-8f01-23456789abcd"

/* With SHOAL_CORPUS=DIR set, what tests write becomes seeds of the fuzz target. */
static void keep(const char *name, struct shl_bytes bytes)
{
    const char *dir = getenv("SHOAL_CORPUS");
    char path[512];
    FILE *file;

    if (dir) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
        file = fopen(path, "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(bytes.base, 1, bytes.len, file), bytes.len);
        assert_int_equal(fclose(file), 0);
    }
}

static void test_row_keys_tell_names_apart(void **state)
{
    char a[NODE_SECRET_KEY_SIZE], b[NODE_SECRET_KEY_SIZE], prefix[NODE_SECRET_KEY_SIZE];

    (void)state;
    node_store_key(a, "org-a", "one");
    node_store_key(b, "org-a", "One");
    node_stores_prefix(prefix, "org-a");
    assert_string_not_equal(a, b);
    assert_memory_equal(a, prefix, strlen(prefix));
    node_store_key(b, "org-b", "one");
    assert_string_not_equal(a, b);
    node_secret_key(a, STORE, "KEY");
    node_secrets_prefix(prefix, STORE);
    assert_memory_equal(a, prefix, strlen(prefix));
    assert_true(strlen(a) < NODE_SECRET_KEY_SIZE);
}

static void test_row_store_comes_back(void **state)
{
    struct node_store_row row = {.org = "org-a",
                                 .id = STORE,
                                 .name = "my store",
                                 .created_at_ms = 5,
                                 .updated_at_ms = 6},
                          again;
    struct shl_buf buf;
    size_t i;

    (void)state;
    assert_int_equal(node_host_list_add(&row.allowlist, "*.x.com", 7, 9), 0);
    shl_buf_init(&buf, NODE_SECRET_ROW_MAX);
    assert_int_equal(node_store_row_encode(&row, &buf), 0);
    keep("store", shl_buf_bytes(&buf));
    assert_int_equal(node_store_row_decode(&again, shl_buf_bytes(&buf)), 0);
    assert_string_equal(again.name, row.name);
    assert_string_equal(again.id, STORE);
    assert_int_equal(again.updated_at_ms, 6);
    assert_int_equal(again.allowlist.count, 1);
    assert_string_equal(again.allowlist.items[0], "*.x.com");
    node_store_row_release(&again);
    for (i = 0; i < shl_buf_len(&buf); i++) {
        assert_int_equal(node_store_row_decode(&again, shl_bytes_of(shl_buf_data(&buf), i)),
                         SHL_ECORRUPT);
    }
    node_store_row_release(&row);
    shl_buf_release(&buf);
}

static void test_row_secret_comes_back(void **state)
{
    struct node_secret_row row = {.id = OTHER,
                                  .store = STORE,
                                  .name = "API_KEY",
                                  .generation = 3,
                                  .sealed = {(const uint8_t *)"sealed", 6}},
                           again;
    struct shl_buf buf;

    (void)state;
    shl_buf_init(&buf, NODE_SECRET_ROW_MAX);
    assert_int_equal(node_host_list_add(&row.hosts, "h.com", 5, 9), 0);
    assert_int_equal(node_secret_row_encode(&row, &buf), 0);
    keep("secret", shl_buf_bytes(&buf));
    assert_int_equal(node_secret_row_decode(&again, shl_buf_bytes(&buf)), 0);
    assert_string_equal(again.name, "API_KEY");
    assert_int_equal(again.generation, 3);
    assert_int_equal(again.sealed.len, 6);
    assert_memory_equal(again.sealed.base, "sealed", 6);
    assert_string_equal(again.hosts.items[0], "h.com");
    node_secret_row_release(&again);
    node_secret_row_release(&row);
    shl_buf_release(&buf);
}

/* The largest rows that the API accepts fit. */
static void test_row_largest_ones_fit(void **state)
{
    struct node_store_row store = {.org = "o", .id = STORE, .name = "n"};
    struct node_secret_row secret = {.id = OTHER, .store = STORE};
    static uint8_t value[NODE_SECRET_VALUE_MAX + NODE_SEAL_VALUE_EXTRA];
    struct shl_buf buf;
    char host[NODE_HOST_SIZE];
    size_t i;

    (void)state;
    memset(host, 'h', sizeof(host));
    for (i = 0; i < NODE_STORE_PATTERNS_MAX; i++) {
        (void)snprintf(host, 5, "%04zu", i);
        host[4] = 'h';
        assert_int_equal(node_host_list_add(&store.allowlist, host, NODE_HOST_SIZE - 1,
                                            NODE_STORE_PATTERNS_MAX),
                         0);
        if (i < NODE_SECRET_HOSTS_MAX) {
            assert_int_equal(node_host_list_add(&secret.hosts, host, NODE_HOST_SIZE - 1,
                                                NODE_SECRET_HOSTS_MAX),
                             0);
        }
    }
    memset(store.name, 'n', sizeof(store.name) - 1);
    memset(secret.name, 'N', sizeof(secret.name) - 1);
    secret.sealed = shl_bytes_of(value, sizeof(value));
    shl_buf_init(&buf, NODE_SECRET_ROW_MAX);
    assert_int_equal(node_store_row_encode(&store, &buf), 0);
    shl_buf_clear(&buf);
    assert_int_equal(node_secret_row_encode(&secret, &buf), 0);
    node_store_row_release(&store);
    node_secret_row_release(&secret);
    shl_buf_release(&buf);
}

static void test_row_sealed_value_comes_back(void **state)
{
    const struct node_sealed_row row = {.generation = 7, .sealed = shl_bytes_of("\0sealed", 7)};
    struct node_sealed_row again;
    struct shl_buf buf;

    (void)state;
    shl_buf_init(&buf, NODE_SECRET_ROW_MAX);
    assert_int_equal(node_sealed_row_encode(&row, &buf), 0);
    assert_int_equal(node_sealed_row_decode(&again, shl_buf_bytes(&buf)), 0);
    assert_int_equal(again.generation, 7);
    assert_int_equal(again.sealed.len, 7);
    assert_memory_equal(again.sealed.base, "\0sealed", 7);
    assert_int_equal(
        node_sealed_row_decode(&again, shl_bytes_of(shl_buf_data(&buf), shl_buf_len(&buf) - 1)),
        SHL_ECORRUPT);
    shl_buf_release(&buf);
}

static void test_row_seal_holds_every_node(void **state)
{
    struct node_seal_row *row = calloc(2, sizeof(*row));
    struct node_seal_row *again = row + 1;
    struct shl_node_id nobody = {{0}};
    struct shl_buf buf;

    (void)state;
    assert_non_null(row);
    row->generation = 2;
    row->count = NODE_SEAL_HOLDERS_MAX;
    shl_random_bytes(row->holders, sizeof(row->holders));
    shl_buf_init(&buf, NODE_SECRET_ROW_MAX);
    assert_int_equal(node_seal_row_encode(row, &buf), 0);
    assert_int_equal(node_seal_row_decode(again, shl_buf_bytes(&buf)), 0);
    assert_memory_equal(again, row, sizeof(*row));
    assert_ptr_equal(node_seal_row_find(again, &row->holders[200].node), &again->holders[200]);
    assert_null(node_seal_row_find(again, &nobody));
    row->count = 2;
    shl_buf_clear(&buf);
    assert_int_equal(node_seal_row_encode(row, &buf), 0);
    keep("seal", shl_buf_bytes(&buf));
    shl_buf_release(&buf);
    free(row);
}

static void write_use(const struct node_secret_use *use, struct shl_buf *buf)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    node_secret_use_encode(&w, "secrets", use);
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
}

static void read_use(struct shl_bytes bytes, struct node_secret_use *use)
{
    struct shl_mp_doc doc;

    assert_int_equal(shl_mp_parse(&doc, bytes), 0);
    assert_int_equal(node_secret_use_decode(doc.root, "secrets", use), 0);
    shl_mp_release(&doc);
}

static void test_use_layers_names_and_comes_back(void **state)
{
    struct node_secret_use use = {.store_count = 0}, again = {.store_count = 0}, bare;
    char first[NODE_SEALED_SIZE];
    struct shl_buf buf;

    (void)state;
    assert_int_equal(node_secret_use_add_store(&use, STORE, "low"), 0);
    assert_int_equal(node_secret_use_add_store(&use, OTHER, "high"), 0);
    assert_int_equal(node_secret_use_add(&use, "A", STORE), 0);
    assert_int_equal(node_secret_use_add(&use, "B", STORE), 0);
    memcpy(first, use.tokens[0].token, sizeof(first));
    assert_int_equal(node_secret_use_add(&use, "A", OTHER), 0); /* the upper one wins */
    assert_int_equal(use.token_count, 2);
    assert_string_equal(use.tokens[0].store, OTHER);
    assert_string_not_equal(use.tokens[0].token, first);
    assert_int_equal(node_secret_use_add_store(&use, STORE, "low"), 0); /* moves up */
    assert_int_equal(use.store_count, 2);
    assert_string_equal(use.stores[1].name, "low");
    assert_int_equal(node_host_list_add(&use.allowlist, "a.b", 3, 9), 0);

    shl_buf_init(&buf, 65536);
    write_use(&use, &buf);
    keep("use", shl_buf_bytes(&buf));
    read_use(shl_buf_bytes(&buf), &again);
    assert_int_equal(again.token_count, 2);
    assert_string_equal(again.tokens[1].token, use.tokens[1].token);
    assert_string_equal(again.allowlist.items[0], "a.b");

    assert_int_equal(node_secret_use_copy(&bare, &use, false), 0);
    assert_int_equal(bare.token_count, 0); /* as a checkpoint keeps it */
    assert_int_equal(bare.store_count, 2);
    shl_buf_clear(&buf);
    write_use(&bare, &buf);
    assert_null(memmem(shl_buf_data(&buf), shl_buf_len(&buf), "osb_sealed", 10));
    node_secret_use_release(&bare);
    node_secret_use_release(&again);
    node_secret_use_release(&use);
    shl_buf_release(&buf);
}

static void test_use_of_nothing_writes_nothing(void **state)
{
    struct node_secret_use use = {.store_count = 0};
    struct shl_buf buf;

    (void)state;
    shl_buf_init(&buf, 100);
    write_use(&use, &buf);
    assert_int_equal(shl_buf_len(&buf), 5); /* the empty map */
    read_use(shl_buf_bytes(&buf), &use);
    assert_int_equal(use.store_count, 0);
    shl_buf_release(&buf);
}

static void test_use_names_work_as_variables(void **state)
{
    char big[NODE_SECRET_NAME_SIZE + 1];

    (void)state;
    assert_true(node_secret_name_is_valid("_a9Z"));
    assert_false(node_secret_name_is_valid(""));
    assert_false(node_secret_name_is_valid("9a"));
    assert_false(node_secret_name_is_valid("a-b"));
    assert_false(node_secret_name_is_valid("a=b"));
    memset(big, 'A', sizeof(big));
    big[NODE_SECRET_NAME_SIZE] = '\0';
    assert_false(node_secret_name_is_valid(big));
    big[NODE_SECRET_NAME_SIZE - 1] = '\0';
    assert_true(node_secret_name_is_valid(big));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_row_keys_tell_names_apart),
        cmocka_unit_test(test_row_store_comes_back),
        cmocka_unit_test(test_row_secret_comes_back),
        cmocka_unit_test(test_row_largest_ones_fit),
        cmocka_unit_test(test_row_sealed_value_comes_back),
        cmocka_unit_test(test_row_seal_holds_every_node),
        cmocka_unit_test(test_use_layers_names_and_comes_back),
        cmocka_unit_test(test_use_of_nothing_writes_nothing),
        cmocka_unit_test(test_use_names_work_as_variables),
    };

    return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
