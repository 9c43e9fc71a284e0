/* Files through libshoal. */
#include <errno.h>
#include <stdio.h>

#include "base/attr.h"
#include "tests/client/lib.h"

struct counter {
    uint64_t bytes;
    uint64_t wrong;
    uint64_t limit; /* source: how much to give; sink: when to refuse, 0 never */
};

static int count_sink(void *arg, const void *data, size_t len)
{
    struct counter *counter = arg;

    for (size_t i = 0; i < len; i++) {
        counter->wrong += ((const unsigned char *)data)[i] != mock_pattern(counter->bytes + i);
    }
    counter->bytes += len;
    return counter->limit && counter->bytes > counter->limit ? -ENOSPC : 0;
}

static int64_t pattern_source(void *arg, void *dst, size_t size)
{
    struct counter *counter = arg;
    size_t len = SHL_MIN(size, counter->limit - counter->bytes);

    for (size_t i = 0; i < len; i++) {
        ((unsigned char *)dst)[i] = mock_pattern(counter->bytes + i);
    }
    counter->bytes += len;
    return (int64_t)len;
}

static int64_t failing_source(void *arg, void *dst, size_t size)
{
    (void)arg;
    (void)dst;
    (void)size;
    return -EIO;
}

#define BIG (20u * 1024 * 1024 + 13)

static void test_file_read_streams_exactly(void **state)
{
    const struct mock_rule rules[] = {
        {"GET", "/api/sandboxes/sb-1/files", 200, NULL, MOCK_STREAM, BIG}};
    struct fixture f = begin(rules, 1);
    struct counter counter = {0};

    (void)state;
    assert_int_equal(
        shoal_file_read(f.client, "sb-1", "/a b/\xc3\xa4#%?&+", count_sink, &counter, &f.err), 0);
    assert_int_equal(counter.bytes, BIG);
    assert_int_equal(counter.wrong, 0);
    assert_string_equal(mock_at(f.mock, 0)->uri,
                        "/api/sandboxes/sb-1/files?path=/a%20b/%C3%A4%23%25%3F%26%2B");
    /* A sink that refuses ends the transfer with its own code. */
    counter = (struct counter){.limit = 1000};
    assert_int_equal(shoal_file_read(f.client, "sb-1", "/x", count_sink, &counter, &f.err),
                     -ENOSPC);
    end(&f);
}

/* A file that is cut short must never look complete. */
static void test_file_read_truncated_is_an_error(void **state)
{
    const struct mock_rule rules[] = {
        {"GET", "/api/sandboxes/sb-1/files", 200, "only this", MOCK_TRUNCATE}};
    struct fixture f = begin(rules, 1);
    struct counter counter = {0};

    (void)state;
    assert_int_equal(shoal_file_read(f.client, "sb-1", "/x", count_sink, &counter, &f.err),
                     -ECONNRESET);
    /* Bytes went to the sink, so nothing may be repeated. */
    assert_int_equal(mock_count(f.mock), 1);
    end(&f);
}

static void test_file_read_refusal_stays_out_of_the_sink(void **state)
{
    const struct mock_rule rules[] = {
        {"GET", "/api/sandboxes/sb-1/files", 404, "{\"error\":\"no such file\"}"}};
    struct fixture f = begin(rules, 1);
    struct counter counter = {0};

    (void)state;
    assert_int_equal(shoal_file_read(f.client, "sb-1", "/x", count_sink, &counter, &f.err),
                     SHOAL_ENOTFOUND);
    assert_int_equal(counter.bytes, 0);
    assert_string_equal(f.err.message, "no such file");
    end(&f);
}

static void test_file_write_streams_with_and_without_size(void **state)
{
    const struct mock_rule rules[] = {{"PUT", "/api/sandboxes/sb-1/files", 204, NULL}};
    struct fixture f = begin(rules, 1);
    struct counter counter = {.limit = BIG};

    (void)state;
    assert_int_equal(shoal_file_write(f.client, "sb-1", "x", BIG, pattern_source, &counter, &f.err),
                     0);
    assert_int_equal(mock_at(f.mock, 0)->body_bytes, BIG);
    assert_int_equal(mock_at(f.mock, 0)->wrong_bytes, 0);
    assert_false(mock_at(f.mock, 0)->chunked);
    counter = (struct counter){.limit = BIG};
    assert_int_equal(shoal_file_write(f.client, "sb-1", "x", -1, pattern_source, &counter, &f.err),
                     0);
    assert_int_equal(mock_at(f.mock, 1)->body_bytes, BIG);
    assert_true(mock_at(f.mock, 1)->chunked);
    counter = (struct counter){.limit = 0};
    assert_int_equal(shoal_file_write(f.client, "sb-1", "x", 0, pattern_source, &counter, &f.err),
                     0);
    assert_int_equal(mock_at(f.mock, 2)->body_bytes, 0);
    assert_int_equal(shoal_file_write(f.client, "sb-1", "x", 5, failing_source, NULL, &f.err),
                     -EIO);
    assert_int_equal(shoal_file_write(f.client, "sb-1", "", 5, failing_source, NULL, &f.err),
                     SHOAL_EINVALIDARG);
    end(&f);
}

/* Half of an upload is gone from the source: it cannot start again elsewhere. */
static void test_file_write_is_not_repeated_after_bytes_left(void **state)
{
    const struct mock_rule dropping[] = {{"PUT", "/api/sandboxes/sb-1/files", 0, NULL, MOCK_DROP}};
    const struct mock_rule good[] = {{"PUT", "/api/sandboxes/sb-1/files", 204, NULL}};
    struct mock *first = mock_start(dropping, 1);
    struct mock *second = mock_start(good, 1);
    struct counter counter = {.limit = 5000};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_client *client;
    char urls[256];

    (void)state;
    snprintf(urls, sizeof(urls), "%s,%s", mock_url(first), mock_url(second));
    client = client_of(urls, 30);
    assert_int_equal(shoal_file_write(client, "sb-1", "x", 5000, pattern_source, &counter, &err),
                     -ECONNRESET);
    assert_int_equal(mock_count(second), 0);
    shoal_client_free(client);
    mock_stop(first);
    mock_stop(second);
}

static void test_file_list_entries(void **state)
{
    const struct mock_rule rules[] = {
        {"GET", "/api/sandboxes/sb-1/files/list", 200,
         "[{\"name\":\"d\",\"isDir\":true,\"path\":\"/d\"},"
         "{\"name\":\"f\",\"isDir\":false,\"size\":5000000000,\"path\":\"/f\"}]"},
        {"POST", "/api/sandboxes/sb-1/files/mkdir", 204, NULL},
        {"DELETE", "/api/sandboxes/sb-1/files", 204, NULL},
    };
    struct fixture f = begin(rules, 3);
    struct shoal_file_list *list = NULL;

    (void)state;
    assert_int_equal(shoal_file_list(f.client, "sb-1", "/", &list, &f.err), 0);
    assert_true(shoal_file_entry_is_dir(shoal_file_list_at(list, 0)));
    assert_int_equal(shoal_file_entry_size_bytes(shoal_file_list_at(list, 0)), 0);
    assert_true(shoal_file_entry_size_bytes(shoal_file_list_at(list, 1)) == 5000000000);
    shoal_file_list_free(list);
    assert_int_equal(shoal_file_mkdir(f.client, "sb-1", "/a/b", &f.err), 0);
    assert_int_equal(shoal_file_remove(f.client, "sb-1", "/a", &f.err), 0);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file_read_streams_exactly),
        cmocka_unit_test(test_file_read_truncated_is_an_error),
        cmocka_unit_test(test_file_read_refusal_stays_out_of_the_sink),
        cmocka_unit_test(test_file_write_streams_with_and_without_size),
        cmocka_unit_test(test_file_write_is_not_repeated_after_bytes_left),
        cmocka_unit_test(test_file_list_entries),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
