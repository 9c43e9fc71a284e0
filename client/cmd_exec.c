/* Ctrl-C is passed on: the first sends SIGINT to the remote command, the second
 * SIGKILL, the third stops waiting. The exit code is the remote one in every case but
 * the last. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli.h"

struct exec_options {
    const char *cwd;
    struct cli_number timeout_s;
    struct cli_pairs envs;
};

static const struct cli_flag flags[] = {
    {'c', "cwd", "DIR", CLI_TEXT, offsetof(struct exec_options, cwd), 0, 0,
     "where the command runs (/home/sandbox)"},
    {'e', "env", "K=V", CLI_PAIRS, offsetof(struct exec_options, envs), 0, 0,
     "variable for the command; K alone takes the value from here"},
    {0, "timeout", "SECONDS", CLI_NUMBER, offsetof(struct exec_options, timeout_s), 1, 86400,
     "the command is killed after this long (60)"},
};

#define INTERRUPTS_MAX 2 /* one more stops waiting */

struct waiting {
    struct cli *cli;
    const char *id;
    int interrupts_handled;
    long polls;
};

/* Counted by the handler; looked at between polls. */
static volatile sig_atomic_t interrupts;

static void on_interrupt(int number)
{
    (void)number;
    interrupts = interrupts + 1;
}

static int on_wait(void *arg, const char *exec_id)
{
    struct waiting *waiting = arg;
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (waiting->polls++ == 2) {
        cli_progress(waiting->cli, "waiting for command %s, Ctrl-C interrupts it ...", exec_id);
    }
    if (interrupts > INTERRUPTS_MAX) {
        return 1;
    }
    if (interrupts > waiting->interrupts_handled) {
        int signal = interrupts == 1 ? SIGINT : SIGKILL;

        waiting->interrupts_handled = interrupts;
        if (shoal_exec_kill(waiting->cli->client, waiting->id, exec_id, signal, &err) < 0) {
            (void)cli_fail(waiting->cli, &err, "the command could not be interrupted");
        }
    }
    return 0;
}

/* Also while a request hangs. */
static int on_watch(void *arg)
{
    (void)arg;
    return interrupts > INTERRUPTS_MAX;
}

static bool fill(struct cli *cli, struct shoal_command *command, const struct exec_options *options)
{
    int rc = 0;

    for (size_t i = 2; i < cli->operand_count && rc == 0; i++) {
        rc = shoal_command_add_arg(command, cli->operands[i]);
    }
    if (rc == 0 && options->cwd) {
        rc = shoal_command_set_cwd(command, options->cwd);
    }
    if (rc == 0 && options->timeout_s.set) {
        rc = shoal_command_set_timeout_s(command, options->timeout_s.value);
    }
    for (size_t i = 0; i < options->envs.count && rc == 0; i++) {
        const char *value = NULL;
        char key[256];

        if (!cli_pair_split(cli, options->envs.items[i], key, sizeof(key), &value)) {
            return false;
        }
        rc = shoal_command_add_env(command, key, value);
    }
    if (rc < 0) {
        (void)cli_usage(cli, "%s", "an argument is not UTF-8 text");
    }
    return rc == 0;
}

static int print_result(struct cli *cli, struct shoal_exec_result *result)
{
    int exit_code = shoal_exec_result_exit_code(result);
    const char *text;
    size_t len;

    if (cli->json) {
        (void)cli_print_json(cli, shoal_exec_result_json(result));
    } else {
        text = shoal_exec_result_stdout(result, &len);
        (void)fwrite(text, 1, len, stdout);
        (void)fflush(stdout);
        text = shoal_exec_result_stderr(result, &len);
        (void)fwrite(text, 1, len, stderr);
    }
    if (shoal_exec_result_truncated(result)) {
        (void)fputs("shoal: the output was too long and part of it is missing; write it to a file "
                    "and fetch that with `shoal cp`\n",
                    stderr);
    }
    return exit_code < 0 ? CLI_TIMED_OUT : exit_code & 255;
}

static int run_command(struct cli *cli, const struct shoal_command *command)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct waiting waiting = {.cli = cli, .id = cli->operands[0]};
    struct sigaction action = {.sa_handler = on_interrupt};
    struct shoal_exec_result *result = NULL;
    int code;

    (void)sigaction(SIGINT, &action, NULL);
    if (shoal_exec_run(cli->client, waiting.id, command, on_wait, &waiting, &result, &err) < 0) {
        return cli_fail(cli, &err, "%s", waiting.id);
    }
    cli_progress_end(cli);
    code = print_result(cli, result);
    shoal_exec_result_free(result);
    return code;
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct exec_options options = {.cwd = NULL};
    struct shoal_command *command;
    int code = cli_parse(cli, &options, argc, argv, 2, (size_t)argc);

    if (code != CLI_GO) {
        return code;
    }
    command = shoal_command_new(cli->operands[1]);
    if (!command) {
        return cli_usage(cli, "%s", "the command is not UTF-8 text");
    }
    cli->watch = on_watch;
    code =
        fill(cli, command, &options) && cli_connect(cli) ? run_command(cli, command) : CLI_FAILED;
    shoal_command_free(command);
    return code;
}

const struct cli_command cli_cmd_exec = {
    .name = "exec",
    .summary = "run a command in a sandbox",
    .usage = "[flags] ID [--] COMMAND [ARG ...]",
    .text = "COMMAND alone is a line for /bin/sh; with arguments it is a program that is started\n"
            "directly. Flags stand in front of COMMAND. Its output is printed when it has ended,\n"
            "and its exit code is the exit code of shoal: 128 + N for death by signal N, 124\n"
            "when the time limit ended it, 125 when shoal itself failed.\n",
    .example = "shoal exec -c /workspace sb-1a2b3c4d -- python3 -c 'print(6*7)'",
    .flags = flags,
    .flag_count = SHL_ARRAY_SIZE(flags),
    .stop_after = 2,
    .run = run,
};
