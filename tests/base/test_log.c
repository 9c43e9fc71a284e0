#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/cleanup.h"
#include "base/log.h"

/* One line written and read back through a pipe, parsed as JSON by another's parser. */
static json_t *line_of(const char *text, enum shl_log_level level)
{
    int fds[2];
    char raw[SHL_LOG_LINE_MAX + 1];
    struct shl_log log = {.level = SHL_LOG_INFO, .subsystem = "test"};
    ssize_t got;
    json_t *json;

    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    log.fd = fds[1];
    SHL_LOG(&log, level, "sandbox.started", SHL_S("text", text), SHL_I("size_bytes", -5),
            SHL_B("ok", true), SHL_S("none", NULL));
    got = read(fds[0], raw, sizeof(raw) - 1);
    (void)close(fds[0]);
    (void)close(fds[1]);
    if (got <= 0) {
        return NULL;
    }
    assert_int_equal(raw[got - 1], '\n');
    raw[got] = '\0';
    json = json_loads(raw, 0, NULL);
    assert_non_null(json);
    return json;
}

static void test_log_line_is_json_with_typed_fields(void **state)
{
    json_t *json = line_of("plain", SHL_LOG_WARN);

    (void)state;
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "level")), "warn");
    assert_string_equal(json_string_value(json_object_get(json, "event")), "sandbox.started");
    assert_string_equal(json_string_value(json_object_get(json, "text")), "plain");
    assert_int_equal(json_integer_value(json_object_get(json, "size_bytes")), -5);
    assert_true(json_is_true(json_object_get(json, "ok")));
    assert_true(json_is_null(json_object_get(json, "none")));
    json_decref(json);
}

static void test_log_hostile_text_cannot_start_a_new_line_or_field(void **state)
{
    json_t *json = line_of("a\"}\n{\"level\":\"error\x7f\xff\\", SHL_LOG_INFO);

    (void)state;
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "level")), "info");
    json_decref(json);
}

static void test_log_long_value_is_cut_and_stays_json(void **state)
{
    char text[3 * SHL_LOG_LINE_MAX];
    json_t *json;

    (void)state;
    memset(text, '\1', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    json = line_of(text, SHL_LOG_INFO);
    assert_non_null(json);
    assert_int_equal(json_string_length(json_object_get(json, "text")), SHL_LOG_VALUE_MAX);
    json_decref(json);
}

static void test_log_above_the_level_is_dropped(void **state)
{
    (void)state;
    assert_null(line_of("x", SHL_LOG_DEBUG));
    assert_int_equal(shl_log_level_parse("warn"), SHL_LOG_WARN);
    assert_true(shl_log_level_parse("loud") < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log_line_is_json_with_typed_fields),
        cmocka_unit_test(test_log_hostile_text_cannot_start_a_new_line_or_field),
        cmocka_unit_test(test_log_long_value_is_cut_and_stays_json),
        cmocka_unit_test(test_log_above_the_level_is_dropped),
    };

    return cmocka_run_group_tests_name("base/log", tests, NULL, NULL);
}
