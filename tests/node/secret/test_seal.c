/* Who can open what. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sodium.h>

#include "base/err.h"
#include "node/secret/seal.h"

static const struct shl_bytes value = {(const uint8_t *)"sk-live-4711", 12};

static void test_seal_key_is_opened_by_its_node_alone(void **state)
{
    uint8_t public_key[2][32], secret_key[2][32], box[NODE_SEAL_BOX_BYTES];
    struct node_seal_key key, opened;

    (void)state;
    crypto_box_keypair(public_key[0], secret_key[0]);
    crypto_box_keypair(public_key[1], secret_key[1]);
    node_seal_key_make(&key, 7);
    assert_int_equal(node_seal_key_box(&key, public_key[0], box), 0);
    assert_int_equal(node_seal_key_open(box, 7, public_key[0], secret_key[0], &opened), 0);
    assert_memory_equal(opened.bytes, key.bytes, sizeof(key.bytes));
    assert_int_equal(node_seal_key_open(box, 7, public_key[1], secret_key[1], &opened),
                     SHL_ECORRUPT);
    assert_int_equal(node_seal_key_open(box, 8, public_key[0], secret_key[0], &opened),
                     SHL_ECORRUPT);
    box[50] ^= 1;
    assert_int_equal(node_seal_key_open(box, 7, public_key[0], secret_key[0], &opened),
                     SHL_ECORRUPT);
}

static int try_open(const struct node_seal_key *key, const char *place, struct shl_bytes sealed)
{
    uint8_t *opened = NULL;
    size_t len = 0;
    int rc = node_seal_open(key, place, sealed, &opened, &len);

    if (rc == 0) {
        assert_int_equal(len, value.len);
        assert_memory_equal(opened, value.base, len);
        sodium_free(opened);
    }
    return rc;
}

static void test_seal_value_belongs_to_key_and_place(void **state)
{
    struct node_seal_key key, other;
    struct shl_buf sealed;
    size_t i;

    (void)state;
    node_seal_key_make(&key, 1);
    node_seal_key_make(&other, 1);
    shl_buf_init(&sealed, 1024);
    assert_int_equal(node_seal_value(&key, "secret/a/1", value, &sealed), 0);
    assert_int_equal(shl_buf_len(&sealed), value.len + NODE_SEAL_VALUE_EXTRA);
    assert_null(memmem(shl_buf_data(&sealed), shl_buf_len(&sealed), value.base, value.len));
    assert_int_equal(try_open(&key, "secret/a/1", shl_buf_bytes(&sealed)), 0);
    assert_int_equal(try_open(&key, "secret/a/2", shl_buf_bytes(&sealed)), SHL_ECORRUPT);
    assert_int_equal(try_open(&other, "secret/a/1", shl_buf_bytes(&sealed)), SHL_ECORRUPT);
    for (i = 0; i < shl_buf_len(&sealed); i++) {
        shl_buf_data(&sealed)[i] ^= 0x10;
        assert_int_equal(try_open(&key, "secret/a/1", shl_buf_bytes(&sealed)), SHL_ECORRUPT);
        shl_buf_data(&sealed)[i] ^= 0x10;
        assert_int_equal(try_open(&key, "secret/a/1", shl_bytes_of(shl_buf_data(&sealed), i)),
                         SHL_ECORRUPT);
    }
    shl_buf_release(&sealed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seal_key_is_opened_by_its_node_alone),
        cmocka_unit_test(test_seal_value_belongs_to_key_and_place),
    };

    if (sodium_init() < 0) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
