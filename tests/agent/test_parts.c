/* The parts that need no running agent: environment, users, output, timers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/environ.h"
#include "agent/loop.h"
#include "agent/output.h"
#include "agent/user.h"
#include "base/err.h"

static void write_file(char path[32], const char *text)
{
    int fd;

    strcpy(path, "/tmp/shoal-parts-XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    (void)close(fd);
}

static void test_environ_later_settings_win(void **state)
{
    struct agent_environ env, more;

    (void)state;
    agent_environ_init(&env);
    agent_environ_init(&more);
    assert_null(agent_environ_get(&env, "A"));
    assert_int_equal(agent_environ_set_str(&env, "A", "1"), 0);
    assert_int_equal(agent_environ_set_str(&env, "AB", "2"), 0);
    assert_int_equal(agent_environ_set_str(&more, "A", ""), 0);
    assert_int_equal(agent_environ_set_str(&more, "C", "x=y"), 0);
    assert_int_equal(agent_environ_merge(&env, &more), 0);
    assert_int_equal(env.count, 3);
    assert_string_equal(agent_environ_get(&env, "A"), "");
    assert_string_equal(agent_environ_get(&env, "AB"), "2");
    assert_string_equal(agent_environ_get(&env, "C"), "x=y");
    assert_null(env.vars[3]);
    agent_environ_release(&env);
    agent_environ_release(&more);
}

static void test_environ_refuses_what_is_no_name(void **state)
{
    struct agent_environ env;
    char name[16];
    int i, rc = 0;

    (void)state;
    agent_environ_init(&env);
    assert_int_equal(agent_environ_set_str(&env, "", "x"), SHL_EINVALIDARG);
    assert_int_equal(agent_environ_set_str(&env, "A=B", "x"), SHL_EINVALIDARG);
    assert_int_equal(agent_environ_set(&env, shl_bytes_of("A\0", 2), shl_bytes_of("x", 1)),
                     SHL_EINVALIDARG);
    assert_int_equal(agent_environ_set(&env, shl_bytes_of("A", 1), shl_bytes_of("x\0", 2)),
                     SHL_EINVALIDARG);
    for (i = 0; rc == 0; i++) {
        (void)snprintf(name, sizeof(name), "N%d", i);
        rc = agent_environ_set_str(&env, name, "v");
    }
    assert_int_equal(rc, SHL_ELIMIT);
    assert_int_equal(env.count, AGENT_ENVIRON_MAX);
    agent_environ_release(&env);
}

static void test_environ_file_as_pam_env_reads_it(void **state)
{
    struct agent_environ env;
    char path[32];

    (void)state;
    agent_environ_init(&env);
    write_file(
        path,
        "# comment\n\nA=plain  \nexport B=\"in quotes\"\n  C='x'\nnonsense\n=v\nD=\nE=\"open\n"
        "A2=last");
    agent_environ_merge_file(&env, path);
    assert_string_equal(agent_environ_get(&env, "A"), "plain");
    assert_string_equal(agent_environ_get(&env, "B"), "in quotes");
    assert_string_equal(agent_environ_get(&env, "C"), "x");
    assert_string_equal(agent_environ_get(&env, "D"), "");
    assert_string_equal(agent_environ_get(&env, "E"), "\"open");
    assert_string_equal(agent_environ_get(&env, "A2"), "last");
    assert_int_equal(env.count, 6);
    (void)unlink(path);
    agent_environ_merge_file(&env, path); /* gone: nothing happens */
    assert_int_equal(env.count, 6);
    agent_environ_release(&env);
}

static void test_user_from_passwd_and_group(void **state)
{
    struct agent_user user;
    char passwd[32], group[32];

    (void)state;
    write_file(passwd, "root:x:0:0:root:/root:/bin/bash\nbroken\nsandbox:x:abc:1:::\n"
                       "sandbox:x:1000:1001:,,,:/home/sandbox:/bin/bash\nempty:x:5:6:::\n");
    write_file(group,
               "root:x:0:\nsudo:x:27:other,sandbox\nnotmine:x:28:sandbox2\nbad:x:zz:sandbox\n"
               "own:x:1001:sandbox\ndocker:x:999:sandbox");
    assert_int_equal(agent_user_find(passwd, group, "sandbox", &user), 0);
    assert_int_equal(user.uid, 1000);
    assert_int_equal(user.gid, 1001);
    assert_string_equal(user.home, "/home/sandbox");
    assert_string_equal(user.shell, "/bin/bash");
    assert_int_equal(user.group_count, 3);
    assert_int_equal(user.groups[0], 1001);
    assert_int_equal(user.groups[1], 27);
    assert_int_equal(user.groups[2], 999);
    assert_int_equal(agent_user_find(passwd, "/nonexistent", "empty", &user), 0);
    assert_string_equal(user.home, "/");
    assert_string_equal(user.shell, "/bin/sh");
    assert_int_equal(user.group_count, 1);
    assert_int_equal(agent_user_find(passwd, group, "nobody", &user), SHL_ENOTFOUND);
    assert_true(agent_user_find("/nonexistent", group, "root", &user) < 0);
    (void)unlink(passwd);
    (void)unlink(group);
}

/* Order and sequence numbers over both channels, and every byte of memory given back. */
static void test_output_keeps_order_and_counts_memory(void **state)
{
    struct agent_budget budget = {.max_bytes = 1 << 20};
    struct agent_output output;
    struct shl_list *it;
    uint64_t seq = 0;
    int i;

    (void)state;
    agent_output_init(&output, &budget, 100000);
    for (i = 0; i < 1000; i++) {
        agent_output_append(&output, AGENT_CHANNEL_OUT, shl_bytes_of("0123456789", 10));
        if (i % 7 == 0) {
            agent_output_append(&output, AGENT_CHANNEL_ERR, shl_bytes_of("e", 1));
        }
    }
    assert_int_equal(output.kept_bytes[AGENT_CHANNEL_OUT], 10000);
    assert_int_equal(output.kept_bytes[AGENT_CHANNEL_ERR], 143);
    assert_int_equal(agent_output_lost(&output), 0);
    SHL_LIST_FOREACH(it, &output.chunks) {
        struct agent_chunk *chunk = shl_container_of(it, struct agent_chunk, node);

        assert_int_equal(chunk->seq, seq);
        seq += chunk->len;
    }
    assert_int_equal(seq, 10143);
    assert_true(budget.used_bytes > 10143);
    agent_output_evict(&output);
    assert_int_equal(budget.used_bytes, 0);
    assert_int_equal(agent_output_lost(&output), 10143);
    agent_output_append(&output, AGENT_CHANNEL_OUT, shl_bytes_of("x", 1));
    assert_int_equal(agent_output_lost(&output), 10144); /* no hole: nothing more is kept */
    agent_output_note(&output, AGENT_CHANNEL_ERR, "word");
    assert_int_equal(output.kept_bytes[AGENT_CHANNEL_ERR], 4);
    agent_output_release(&output);
    assert_int_equal(budget.used_bytes, 0);
}

static void test_output_without_budget_counts(void **state)
{
    static uint8_t data[200000];
    struct agent_budget budget = {.max_bytes = 100000};
    struct agent_output output;

    (void)state;
    agent_output_init(&output, &budget, 1 << 20);
    agent_output_append(&output, AGENT_CHANNEL_OUT, shl_bytes_of(data, sizeof(data)));
    assert_true(budget.used_bytes <= budget.max_bytes);
    assert_true(output.kept_bytes[AGENT_CHANNEL_OUT] >= 65536);
    assert_int_equal(output.kept_bytes[AGENT_CHANNEL_OUT] + output.lost_bytes[AGENT_CHANNEL_OUT],
                     sizeof(data));
    agent_output_release(&output);
}

struct timers {
    struct agent_loop loop;
    struct agent_timer timer[3];
    char order[8];
};

static void on_timer(void *arg)
{
    struct timers *timers = arg;

    strcat(timers->order, "a");
    agent_timer_stop(&timers->timer[1]); /* due as well, and must not run any more */
}

static void on_never(void *arg)
{
    (void)arg;
    fail_msg("a stopped timer ran");
}

static void on_last(void *arg)
{
    struct timers *timers = arg;

    strcat(timers->order, "b");
    agent_loop_stop(&timers->loop);
}

static void test_loop_timers_run_in_order_and_can_be_stopped(void **state)
{
    struct timers timers = {0};

    (void)state;
    assert_int_equal(agent_loop_init(&timers.loop), 0);
    agent_timer_init(&timers.timer[0], on_timer, &timers);
    agent_timer_init(&timers.timer[1], on_never, &timers);
    agent_timer_init(&timers.timer[2], on_last, &timers);
    agent_timer_start(&timers.loop, &timers.timer[2], 20);
    agent_timer_start(&timers.loop, &timers.timer[0], 10);
    agent_timer_start(&timers.loop, &timers.timer[1], 10);
    assert_int_equal(agent_loop_run(&timers.loop), 0);
    assert_string_equal(timers.order, "ab");
    agent_loop_release(&timers.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_environ_later_settings_win),
        cmocka_unit_test(test_environ_refuses_what_is_no_name),
        cmocka_unit_test(test_environ_file_as_pam_env_reads_it),
        cmocka_unit_test(test_user_from_passwd_and_group),
        cmocka_unit_test(test_output_keeps_order_and_counts_memory),
        cmocka_unit_test(test_output_without_budget_counts),
        cmocka_unit_test(test_loop_timers_run_in_order_and_can_be_stopped),
    };

    return cmocka_run_group_tests_name("agent/parts", tests, NULL, NULL);
}
