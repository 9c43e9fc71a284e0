/* `shoal secret`: where the value comes from, and that it goes nowhere but to the server. */
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <termios.h>
#include <unistd.h>

#include "base/attr.h"
#include "tests/client/cli.h"

#define SET_URI "/api/secret-stores/" CID "/secrets/KEY"

static int input_of(const char *text, size_t len)
{
    int fd = memfd_create("in", MFD_CLOEXEC);

    assert_int_equal(write(fd, text, len), (ssize_t)len);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

/* @want: the body of the request; NULL: refused here, with @err. */
static void set_from(const char *text,
                     size_t len,
                     const char *flag,
                     const char *value,
                     const char *want,
                     const char *err)
{
    struct mock *mock = mock_start_usual();
    int in = input_of(text, len);
    struct outcome got =
        run_with(mock_url(mock), in,
                 (const char *const[]){"secret", "set", "prod", "KEY", flag, value, NULL});

    close(in);
    if (want) {
        assert_string_equal(got.err, "");
        assert_int_equal(got.code, 0);
        assert_string_equal(got.out, "");
        assert_int_equal(mock_count(mock), 2);
        assert_string_equal(mock_at(mock, 1)->uri, SET_URI);
        assert_string_equal(mock_at(mock, 1)->method, "PUT");
        assert_string_equal(mock_at(mock, 1)->body, want);
    } else {
        assert_int_equal(got.code, 125);
        expect_contains("stderr", got.err, err);
        assert_int_equal(mock_count(mock), 0);
    }
    outcome_release(&got);
    mock_stop(mock);
}

static void test_cli_secret_set_reads_input_and_files(void **state)
{
    char path[] = "/tmp/shoal-secret-XXXXXX";
    int fd = mkstemp(path);
    char *large = malloc(70000);

    (void)state;
    set_from("v1\n", 3, NULL, NULL, "{\"value\":\"v1\"}", NULL);
    set_from("v1\r\n", 4, "-f", "-", "{\"value\":\"v1\"}", NULL);
    set_from("v1\n\n", 4, "--from-file", "-", "{\"value\":\"v1\\n\"}", NULL);
    set_from("v1\n", 3, "--exact", NULL, "{\"value\":\"v1\\n\"}", NULL);
    set_from("v1", 2, "--allow", "a.com", "{\"allowedHosts\":[\"a.com\"],\"value\":\"v1\"}", NULL);
    set_from("v1", 2, "--allow-any", NULL, "{\"allowedHosts\":[],\"value\":\"v1\"}", NULL);
    set_from("", 0, NULL, NULL, NULL, "the value is empty");
    set_from("\n", 1, NULL, NULL, NULL, "the value is empty");
    set_from("a\0b", 3, NULL, NULL, NULL, "zero bytes");
    memset(large, 'x', 70000);
    set_from(large, 70000, NULL, NULL, NULL, "more than 65536 bytes");
    set_from("no", 2, "-f", "/nonexistent", NULL, "/nonexistent: No such file");
    assert_int_equal(write(fd, "from a file", 11), 11);
    set_from("no", 2, "-f", path, "{\"value\":\"from a file\"}", NULL);
    close(fd);
    unlink(path);
    free(large);
}

/* A refusal, or a value that is no text, is told without the value. */
static void test_cli_secret_errors_do_not_show_the_value(void **state)
{
    static const char bad[] = "sk-live-4711\xff";
    struct mock *mock = mock_start_usual();
    int in = input_of("sk-live-4711", 12);
    struct outcome got =
        run_with(mock_url(mock), in, (const char *const[]){"secret", "set", "prod", "BAD", NULL});

    (void)state;
    close(in);
    assert_int_equal(got.code, 125);
    expect_contains("stderr", got.err, "shoal: BAD: value must have 1 to 16384 bytes (HTTP 400");
    assert_null(strstr(got.err, "4711"));
    outcome_release(&got);
    in = input_of(bad, strlen(bad));
    got = run_with(mock_url(mock), in,
                   (const char *const[]){"secret", "set", "prod", "KEY", "--json", NULL});
    close(in);
    assert_int_equal(got.code, 125);
    expect_contains("stderr", got.err, "not UTF-8");
    assert_null(strstr(got.err, "4711"));
    outcome_release(&got);
    mock_stop(mock);
}

/* ---- the prompt ------------------------------------------------------------------------- */

struct terminal {
    struct mock *mock;
    int master, slave;
    int out;
    pid_t pid;
    char screen[8192]; /* what was shown */
    size_t len;
};

static struct terminal terminal_begin(void)
{
    struct terminal t = {.mock = mock_start_usual(), .out = memfd_create("out", MFD_CLOEXEC)};

    assert_int_equal(openpty(&t.master, &t.slave, NULL, NULL, NULL), 0);
    t.pid = start(mock_url(t.mock), t.slave, t.out, t.slave,
                  (const char *const[]){"secret", "set", "prod", "KEY", NULL});
    return t;
}

static void wait_for(struct terminal *t, const char *text)
{
    while (!strstr(t->screen, text)) {
        ssize_t n = read(t->master, t->screen + t->len, sizeof(t->screen) - 1 - t->len);

        assert_true(n > 0);
        t->len += (size_t)n;
    }
}

static void type(struct terminal *t, const char *keys)
{
    assert_int_equal(write(t->master, keys, strlen(keys)), (ssize_t)strlen(keys));
}

/* The terminal shows what is typed only while nobody asks for a value. */
static bool has_echo(const struct terminal *t)
{
    struct termios now;

    assert_int_equal(tcgetattr(t->slave, &now), 0);
    return (now.c_lflag & (ECHO | ICANON)) == (ECHO | ICANON);
}

static void wait_for_silence(struct terminal *t)
{
    wait_for(t, "(it is not shown): ");
    for (int i = 0; has_echo(t) && i < 1000; i++) {
        usleep(1000);
    }
    assert_false(has_echo(t));
}

static struct outcome terminal_end(struct terminal *t)
{
    struct outcome got = finish(t->pid, t->out, memfd_create("err", MFD_CLOEXEC));

    assert_true(has_echo(t));
    if (got.code < 1000) { /* it ended by itself, with a new line */
        wait_for(t, "\n");
    }
    assert_null(strstr(t->screen, "sk-"));
    close(t->master);
    close(t->slave);
    return got;
}

static void test_cli_secret_prompt_shows_nothing(void **state)
{
    struct terminal t = terminal_begin();
    struct outcome got;

    (void)state;
    wait_for_silence(&t);
    type(&t, "wrong\x15sk-typ\xc3\xa4\x7f"
             "ed\rls\n");
    got = terminal_end(&t);
    assert_int_equal(got.code, 0);
    assert_string_equal(got.out, "");
    assert_string_equal(mock_at(t.mock, 1)->body, "{\"value\":\"sk-typed\"}");
    outcome_release(&got);
    mock_stop(t.mock);
}

/* A line of a terminal holds 4095 bytes; a value may be longer. */
static void test_cli_secret_prompt_takes_long_values(void **state)
{
    struct terminal t = terminal_begin();
    struct outcome got;

    (void)state;
    wait_for_silence(&t);
    for (int i = 0; i < 100; i++) {
        type(&t, "sk-00000000000000000000000000000000000000000000000");
    }
    type(&t, "\n");
    got = terminal_end(&t);
    assert_int_equal(got.code, 0);
    assert_int_equal(mock_at(t.mock, 1)->body_bytes, strlen("{\"value\":\"\"}") + 100 * 50);
    outcome_release(&got);
    mock_stop(t.mock);
}

static void test_cli_secret_prompt_gives_the_terminal_back(void **state)
{
    static const int signals[] = {SIGINT, SIGTERM};

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(signals); i++) {
        struct terminal t = terminal_begin();
        struct outcome got;

        wait_for_silence(&t);
        type(&t, "sk-half");
        assert_int_equal(kill(t.pid, signals[i]), 0);
        got = terminal_end(&t);
        assert_int_equal(got.code, signals[i] == SIGINT ? 130 : 1000 + SIGTERM);
        assert_int_equal(mock_count(t.mock), 0);
        outcome_release(&got);
        mock_stop(t.mock);
    }
}

/* ---- memory ----------------------------------------------------------------------------- */

/* While the server is silent the value is still needed; nobody but root may look for it. */
static void test_cli_secret_other_programs_cannot_look(void **state)
{
    const struct mock_rule rules[] = {
        {"GET", "/api/secret-stores", 200, "[]", .mode = MOCK_STALL},
    };
    struct mock *mock = mock_start(rules, 1);
    int out = memfd_create("out", MFD_CLOEXEC), err = memfd_create("err", MFD_CLOEXEC);
    int in = input_of("sk-live-4711", 12);
    pid_t pid = start(mock_url(mock), in, out, err,
                      (const char *const[]){"secret", "set", "prod", "KEY", NULL});
    char path[64], line[256], limits[4096] = "";
    struct outcome got;
    FILE *file;

    (void)state;
    for (int i = 0; mock_count(mock) < 1 && i < 10000; i++) {
        usleep(1000);
    }
    assert_int_equal(mock_count(mock), 1);
    snprintf(path, sizeof(path), "/proc/%d/limits", (int)pid);
    file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file)) {
        if (strncmp(line, "Max core", 8) == 0) {
            snprintf(limits, sizeof(limits), "%s", line);
        }
    }
    if (file) {
        fclose(file);
        expect_contains("limits", limits, "Max core file size        0  ");
    }
    kill(pid, SIGTERM);
    got = finish(pid, out, err);
    assert_null(strstr(got.err, "4711"));
    assert_null(strstr(got.out, "4711"));
    outcome_release(&got);
    close(in);
    mock_stop(mock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cli_secret_set_reads_input_and_files),
        cmocka_unit_test(test_cli_secret_errors_do_not_show_the_value),
        cmocka_unit_test(test_cli_secret_prompt_shows_nothing),
        cmocka_unit_test(test_cli_secret_prompt_takes_long_values),
        cmocka_unit_test(test_cli_secret_prompt_gives_the_terminal_back),
        cmocka_unit_test(test_cli_secret_other_programs_cannot_look),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
