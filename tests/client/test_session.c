/* `shoal exec -i`, `-t`, `-it` and `shell`, on pipes and on a terminal. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "tests/client/live.h"

#define MIB (1024u * 1024)

static const char *text(struct shl_buf *buf)
{
    return (const char *)shl_buf_data(buf);
}

/* ---- pipes ----------------------------------------------------------------------------- */

static void test_session_input_outputs_and_exit_code(void **state)
{
    struct live live;

    (void)state;
    LIVE(&live, 7, "to cat\n", "exec", "-i", fix->id, "cat; echo problem >&2; exit 7");
    assert_string_equal(text(&live.out_text), "to cat\n");
    assert_string_equal(text(&live.err_text), "problem\n");
    live_release(&live);
    /* No input at all is the end of it at once. */
    LIVE(&live, 0, NULL, "exec", "-i", fix->id, "--", "wc", "-c");
    assert_string_equal(text(&live.out_text), "0\n");
    live_release(&live);
    LIVE(&live, 127, NULL, "exec", "-i", fix->id, "--", "no-such-program", "x");
    live_release(&live);
    LIVE(&live, 124, NULL, "exec", "-i", "--timeout", "1", fix->id, "sleep 1000");
    live_release(&live);
    LIVE(&live, 0, NULL, "exec", "-i", "-c", "/tmp", "-e", "X=1", fix->id, "pwd; echo $X");
    assert_string_equal(text(&live.out_text), "/tmp\n1\n");
    live_release(&live);
}

/* Every byte value, megabytes of them, both ways at once. */
static void test_session_is_binary_safe(void **state)
{
    const size_t size = 6 * MIB;
    uint8_t *data = malloc(size);
    struct live live;

    (void)state;
    for (size_t i = 0; i < size; i++) {
        data[i] = (uint8_t)(i * 131 + (i >> 8) * 7 + (i >> 16));
    }
    live_start(&live, (const char *const[]){"exec", "-i", fix->id, "--", "cat", "-", NULL});
    live_write(&live, data, size);
    live_close_input(&live);
    live_finish(&live);
    assert_int_equal(live.code, 0);
    assert_int_equal(shl_buf_len(&live.out_text), size);
    assert_memory_equal(shl_buf_data(&live.out_text), data, size);
    assert_int_equal(shl_buf_len(&live.err_text), 0);
    live_release(&live);
    free(data);
}

/* Output comes as it is printed, while input is still open; Ctrl-C goes to the command, and to
 * one that does not care SIGKILL. */
static void test_session_is_live_and_is_interrupted(void **state)
{
    struct live live;

    (void)state;
    live_start(&live, (const char *const[]){"exec", "-i", fix->id,
                                            "trap 'echo caught' INT; echo up; "
                                            "while :; do sleep 0.1; done",
                                            NULL});
    live_until(&live, "up\n");
    (void)kill(live.pid, SIGINT);
    live_until(&live, "caught\n");
    (void)kill(live.pid, SIGINT);
    live_finish(&live);
    assert_int_equal(live.code, 137);
    live_release(&live);
}

/* A reader that has gone ends the command, as in a local pipe. */
static void test_session_without_a_reader_ends(void **state)
{
    struct live live;
    json_t *list;
    size_t i;
    json_t *item;

    (void)state;
    live_start(&live, (const char *const[]){"exec", "-i", fix->id, "echo up; read x; yes", NULL});
    live_until(&live, "up\n");
    close(live.out);
    live.out = -1;
    live_write(&live, "\n", 1);
    live_finish(&live);
    assert_int_equal(live.code, 1000 + SIGPIPE);
    live_release(&live);
    for (bool running = true; running;) {
        list = call(200, "GET /api/sandboxes/%s/exec", NULL);
        running = false;
        json_array_foreach(list, i, item)
        {
            running = running || json_is_true(json_object_get(item, "running"));
        }
        json_decref(list);
    }
}

static void test_session_refusals(void **state)
{
    struct live live;

    (void)state;
    LIVE(&live, 125, NULL, "exec", "-it", fix->id, "true");
    assert_non_null(strstr(text(&live.err_text), "-it needs a terminal"));
    live_release(&live);
    LIVE(&live, 125, NULL, "exec", "-i", "--json", fix->id, "true");
    assert_non_null(strstr(text(&live.err_text), "--json"));
    live_release(&live);
    LIVE(&live, 125, NULL, "exec", "-i", "sb-00000000", "true");
    assert_non_null(strstr(text(&live.err_text), "sandbox not found"));
    live_release(&live);
    LIVE(&live, 125, NULL, "exec", "-i", "-c", "/no/such", fix->id, "true");
    assert_non_null(strstr(text(&live.err_text), "cwd does not exist"));
    live_release(&live);
}

/* ---- terminals ------------------------------------------------------------------------- */

static bool is_raw(const struct live *live)
{
    struct termios mode;

    assert_int_equal(tcgetattr(live->in, &mode), 0);
    return (mode.c_lflag & (tcflag_t)(ECHO | ICANON)) == 0;
}

static void until_raw(struct live *live)
{
    while (!is_raw(live)) {
        assert_false(live->is_ended);
        live_turn(live);
    }
}

static void keys(struct live *live, const char *typed)
{
    live_write(live, typed, strlen(typed));
}

static void test_session_terminal(void **state)
{
    const char *const args[] = {
        "exec",
        "-it",
        fix->id,
        "--",
        "sh",
        "-c",
        "stty size; trap 'stty size' WINCH; echo u''p; until read a; do :; done; echo \"<$a>\"; exit 5",
        NULL};
    struct winsize size = {.ws_col = 91, .ws_row = 31};
    struct live live;

    (void)state;
    live_start_terminal(&live, 90, 30, args);
    live_until(&live, "30 90\r\n");
    live_until(&live, "up\r\n");
    until_raw(&live);
    assert_int_equal(ioctl(live.in, TIOCSWINSZ, &size), 0);
    live_until(&live, "31 91\r\n");
    keys(&live, "a key\x7fs\n"); /* erased over there */
    live_until(&live, "<a kes>\r\n");
    live_finish(&live);
    assert_int_equal(live.code, 5);
    assert_false(is_raw(&live));
    live_release(&live);
}

/* Ctrl-C is a key: it ends the program over there, whose exit code is ours. */
static void test_session_terminal_passes_ctrl_c(void **state)
{
    const char *const args[] = {
        "exec", "-it", fix->id, "--", "sh", "-c", "echo u''p; exec sleep 1000", NULL};
    struct live live;

    (void)state;
    live_start_terminal(&live, 80, 24, args);
    live_until(&live, "up\r\n");
    until_raw(&live);
    keys(&live, "\x03");
    live_finish(&live);
    assert_int_equal(live.code, 130);
    assert_false(is_raw(&live));
    live_release(&live);
}

/* One that was typed while we were still connecting is a signal: it is passed on, or ends us. */
static void test_session_terminal_early_ctrl_c(void **state)
{
    struct live live;

    (void)state;
    for (int turns = 0; turns < 60; turns += 6) {
        live_start_terminal(&live, 80, 24,
                            (const char *const[]){"exec", "-it", fix->id, "sleep", "1000", NULL});
        while (tcgetpgrp(live.in) <= 0) { /* nobody is there to hear it */
        }
        for (int i = 0; i < turns; i++) {
            live_turn(&live);
        }
        keys(&live, "\x03");
        live_finish(&live);
        assert_true(live.code == 130 || live.code == 1000 + SIGINT);
        live_release(&live);
    }
}

/* The detach key leaves it running; `shell --attach` goes back. */
static void test_session_terminal_is_left_and_found_again(void **state)
{
    struct live live;
    char session[64];
    const char *found;

    (void)state;
    live_start_terminal(&live, 80, 24,
                        (const char *const[]){"exec", "-it", fix->id, "--", "sh", "-c",
                                              "echo u''p; read x; echo got-$x", NULL});
    live_until(&live, "up\r\n");
    until_raw(&live);
    keys(&live, "\x1d");
    live_finish(&live);
    assert_int_equal(live.code, 0);
    assert_false(is_raw(&live));
    assert_int_equal(shl_buf_append(&live.out_text, "", 1), 0);
    found = strstr(text(&live.out_text), "--attach ");
    assert_non_null(found);
    assert_int_equal(sscanf(found, "--attach %63s", session), 1);
    live_release(&live);
    live_start_terminal(&live, 80, 24,
                        (const char *const[]){"shell", "--attach", session, fix->id, NULL});
    live_until(&live, "up\r\n");
    keys(&live, "back\n");
    live_until(&live, "got-back\r\n");
    live_finish(&live);
    assert_int_equal(live.code, 0);
    live_release(&live);
}

/* Whatever ends us gives the terminal back. */
static void test_session_terminal_is_restored(void **state)
{
    static const int signals[] = {SIGTERM, SIGHUP, SIGINT, SIGQUIT};
    char target[128];
    struct live live;

    (void)state;
    for (size_t i = 0; i < SHL_ARRAY_SIZE(signals); i++) {
        live_start_terminal(&live, 80, 24,
                            (const char *const[]){"exec", "-it", fix->id, "cat", NULL});
        until_raw(&live);
        (void)kill(live.pid, signals[i]);
        live_finish(&live);
        assert_int_equal(live.code, 1000 + signals[i]);
        assert_false(is_raw(&live));
        live_release(&live);
    }
    /* The sandbox goes: the connection ends. */
    live_start_terminal(&live, 80, 24, (const char *const[]){"shell", fix->id, NULL});
    until_raw(&live);
    (void)snprintf(target, sizeof(target), "DELETE /api/sandboxes/%s", fix->id);
    json_decref(call(204, target, NULL));
    live_finish(&live);
    assert_int_equal(live.code, 125);
    assert_false(is_raw(&live));
    live_release(&live);
}

/* A terminal for the command alone: no local one is needed. */
static void test_session_terminal_without_input(void **state)
{
    struct live live;

    (void)state;
    LIVE(&live, 3, NULL, "exec", "-t", fix->id, "test -t 1 && echo on a terminal; exit 3");
    assert_string_equal(text(&live.out_text), "on a terminal\r\n");
    live_release(&live);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(test_session_input_outputs_and_exit_code),
        TEST(test_session_is_binary_safe),
        TEST(test_session_is_live_and_is_interrupted),
        TEST(test_session_without_a_reader_ends),
        TEST(test_session_refusals),
        TEST(test_session_terminal),
        TEST(test_session_terminal_passes_ctrl_c),
        TEST(test_session_terminal_early_ctrl_c),
        TEST(test_session_terminal_is_left_and_found_again),
        TEST(test_session_terminal_is_restored),
        TEST(test_session_terminal_without_input),
    };

    if (argc > 1) {
        cmocka_set_test_filter(argv[1]);
    }
    return cmocka_run_group_tests_name("client/session", tests, NULL, NULL);
}
