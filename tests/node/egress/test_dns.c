/* node/egress/dns: questions and answers, also those a name server should not send. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "node/egress/dns.h"

/* The answer to a question: its bytes, then @records. */
static size_t answer_to(uint8_t *dst,
                        const char *host,
                        unsigned count,
                        const char *records,
                        size_t len)
{
    int asked = egress_dns_ask(dst, 0x1234, host, EGRESS_DNS_A);

    assert_true(asked > 0);
    dst[2] |= 0x80;
    dst[7] = (uint8_t)count;
    memcpy(dst + asked, records, len);
    return (size_t)asked + len;
}

#define A_RECORD "\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x01\x02\x03\x04"
#define ALIAS    "\xc0\x0c\0\x05\0\x01\0\0\0\x05\0\x04\x01x\xc0\x0c"

static void test_dns_addresses_behind_an_alias_are_found(void **state)
{
    static const char records[] = ALIAS A_RECORD;
    struct egress_dns_answer answer;
    uint8_t message[512];
    size_t len = answer_to(message, "a.example", 2, records, sizeof(records) - 1), cut;

    (void)state;
    assert_int_equal(
        egress_dns_read(shl_bytes_of(message, len), 0x1234, "A.Example", EGRESS_DNS_A, &answer), 0);
    assert_int_equal(answer.count, 1);
    assert_int_equal(answer.ttl_s, 60);
    for (cut = 0; cut < len; cut++) {
        assert_int_not_equal(egress_dns_read(shl_bytes_of(message, cut), 0x1234, "a.example",
                                             EGRESS_DNS_A, &answer),
                             0);
    }
}

static void test_dns_answers_to_others_do_not_count(void **state)
{
    struct egress_dns_answer answer;
    uint8_t message[512];
    size_t len = answer_to(message, "a.example", 1, A_RECORD, sizeof(A_RECORD) - 1);
    struct shl_bytes bytes = shl_bytes_of(message, len);

    (void)state;
    assert_int_equal(egress_dns_read(bytes, 0x1235, "a.example", EGRESS_DNS_A, &answer),
                     SHL_EPROTO);
    assert_int_equal(egress_dns_read(bytes, 0x1234, "b.example", EGRESS_DNS_A, &answer),
                     SHL_EPROTO);
    assert_int_equal(egress_dns_read(bytes, 0x1234, "a.example", EGRESS_DNS_AAAA, &answer),
                     SHL_EPROTO);
    message[2] &= 0x7f;
    assert_int_equal(egress_dns_read(bytes, 0x1234, "a.example", EGRESS_DNS_A, &answer),
                     SHL_EPROTO);
}

static void test_dns_failures_have_their_codes(void **state)
{
    struct egress_dns_answer answer;
    uint8_t message[512];
    size_t len = answer_to(message, "a.example", 0, "", 0);
    struct shl_bytes bytes = shl_bytes_of(message, len);

    (void)state;
    assert_int_equal(egress_dns_read(bytes, 0x1234, "a.example", EGRESS_DNS_A, &answer),
                     SHL_ENOTFOUND);
    message[2] |= 0x02; /* it was too long */
    assert_int_equal(egress_dns_read(bytes, 0x1234, "a.example", EGRESS_DNS_A, &answer),
                     SHL_EUNAVAILABLE);
    message[2] &= (uint8_t)~0x02u;
    message[3] = 3;
    assert_int_equal(egress_dns_read(bytes, 0x1234, "a.example", EGRESS_DNS_A, &answer),
                     SHL_ENOTFOUND);
    message[3] = 2;
    assert_int_equal(egress_dns_read(bytes, 0x1234, "a.example", EGRESS_DNS_A, &answer),
                     SHL_EUNAVAILABLE);
}

/* The longest question there is has room for it, and is still one question. */
static void test_dns_questions_offer_a_size(void **state)
{
    static const uint8_t option[] = {0, 0, 41, 1232 >> 8, 1232 & 0xff, 0, 0, 0, 0, 0, 0};
    uint8_t question[EGRESS_DNS_QUESTION_MAX];
    char host[EGRESS_HOST_SIZE], seen[EGRESS_HOST_SIZE];
    uint16_t type;
    int len, whole;
    size_t i;

    (void)state;
    for (i = 0; i < EGRESS_HOST_MAX; i++) {
        host[i] = i % 64 == 63 ? '.' : 'a';
    }
    host[EGRESS_HOST_MAX] = '\0';
    len = egress_dns_ask(question, 9, host, EGRESS_DNS_A);
    assert_true(len > 0);
    whole = egress_dns_offer_size(question, len);
    assert_true(whole <= EGRESS_DNS_QUESTION_MAX);
    assert_int_equal(question[11], 1);
    assert_memory_equal(question + len, option, sizeof(option));
    assert_int_equal(whole, len + (int)sizeof(option));
    assert_int_equal(egress_dns_question(shl_bytes_of(question, (size_t)whole), seen, &type), 0);
    assert_string_equal(seen, host);
}

static void test_dns_names_that_loop_end(void **state)
{
    static const char loop[] = "\xc0\x1b\0\x01\0\x01\0\0\0\x3c\0\x04\x01\x02\x03\x04";
    static const char wrong_size[] = "\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x03\x01\x02\x03";
    struct egress_dns_answer answer;
    uint8_t message[512];
    size_t len = answer_to(message, "a.example", 1, loop, sizeof(loop) - 1);

    (void)state;
    assert_int_equal(message[27], 0xc0); /* where the pointer points: at itself */
    assert_int_equal(egress_dns_read(shl_bytes_of(message, len), 0x1234, "a.example", EGRESS_DNS_A,
                                     &answer),
                     SHL_EPROTO);
    len = answer_to(message, "a.example", 1, wrong_size, sizeof(wrong_size) - 1);
    assert_int_equal(egress_dns_read(shl_bytes_of(message, len), 0x1234, "a.example", EGRESS_DNS_A,
                                     &answer),
                     SHL_EPROTO);
}

static void test_dns_names_that_are_none_are_not_asked(void **state)
{
    uint8_t question[EGRESS_DNS_QUESTION_MAX];
    char label[80];

    (void)state;
    memset(label, 'a', 64);
    label[64] = '\0';
    assert_true(egress_dns_ask(question, 1, label, EGRESS_DNS_A) < 0);
    assert_true(egress_dns_ask(question, 1, "", EGRESS_DNS_A) < 0);
    assert_true(egress_dns_ask(question, 1, "a..b", EGRESS_DNS_A) < 0);
    assert_true(egress_dns_ask(question, 1, ".a", EGRESS_DNS_A) < 0);
    label[63] = '\0';
    assert_true(egress_dns_ask(question, 1, label, EGRESS_DNS_A) > 0);
}

static void test_dns_questions_of_guests_are_read_and_refused(void **state)
{
    uint8_t question[EGRESS_DNS_QUESTION_MAX];
    int len = egress_dns_ask(question, 7, "Data.Evil.example", EGRESS_DNS_AAAA);
    char host[EGRESS_HOST_SIZE];
    uint16_t type;

    (void)state;
    assert_int_equal(egress_dns_question(shl_bytes_of(question, (size_t)len), host, &type), 0);
    assert_string_equal(host, "data.evil.example");
    assert_int_equal(type, EGRESS_DNS_AAAA);
    assert_int_equal(egress_dns_refuse(question, (size_t)len), len);
    assert_int_equal(question[2] & 0x80, 0x80);
    assert_int_equal(question[3] & 0xf, 5);
    assert_int_equal(egress_dns_question(shl_bytes_of(question, (size_t)len), host, &type),
                     SHL_EPROTO); /* an answer is no question */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dns_addresses_behind_an_alias_are_found),
        cmocka_unit_test(test_dns_answers_to_others_do_not_count),
        cmocka_unit_test(test_dns_failures_have_their_codes),
        cmocka_unit_test(test_dns_questions_offer_a_size),
        cmocka_unit_test(test_dns_names_that_loop_end),
        cmocka_unit_test(test_dns_names_that_are_none_are_not_asked),
        cmocka_unit_test(test_dns_questions_of_guests_are_read_and_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
