/* Ctrl-C is passed on: the first sends SIGINT to the remote command, the second
 * SIGKILL, the third stops waiting. The exit code is the remote one in every case but
 * the last. With -i or -t the command runs in a session that is attached to
 * (cli_session.c); with both, keys go to it and Ctrl-C is one of them. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli_session.h"

struct exec_options {
    bool interactive;
    bool tty;
    const char *cwd;
    struct cli_number timeout_s;
    struct cli_pairs envs;
};

static const struct cli_flag flags[] = {
    {'i', "interactive", NULL, CLI_SWITCH, offsetof(struct exec_options, interactive), 0, 0,
     "standard input goes to the command, output comes as it is printed"},
    {'t', "tty", NULL, CLI_SWITCH, offsetof(struct exec_options, tty), 0, 0,
     "the command runs on a terminal; -it for programs that want keys"},
    {'c', "cwd", "DIR", CLI_TEXT, offsetof(struct exec_options, cwd), 0, 0,
     "where the command runs (/home/sandbox)"},
    {'e', "env", "K=V", CLI_PAIRS, offsetof(struct exec_options, envs), 0, 0,
     "variable for the command; K alone takes the value from here"},
    {0, "timeout", "SECONDS", CLI_NUMBER, offsetof(struct exec_options, timeout_s), 1, 86400,
     "the command is killed after this long (60; with -i or -t: never)"},
};

#define INTERRUPTS_MAX 2 /* one more stops waiting */

struct waiting {
    struct cli *cli;
    const char *id;
    int interrupts_handled;
    long polls;
};

/* Pass on what came since. 1: stop waiting. */
static int pass_interrupts(void *arg, const char *exec_id)
{
    struct waiting *waiting = arg;
    struct shoal_error err = SHOAL_ERROR_INIT;
    const int interrupts = cli_interrupts();

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

static int on_wait(void *arg, const char *exec_id)
{
    struct waiting *waiting = arg;

    if (waiting->polls++ == 2) {
        cli_progress(waiting->cli, "waiting for command %s, Ctrl-C interrupts it ...", exec_id);
    }
    return pass_interrupts(waiting, exec_id);
}

/* Also while a request hangs. */
static int on_watch(void *arg)
{
    (void)arg;
    return cli_interrupts() > INTERRUPTS_MAX;
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

static int exit_code_of(int exit_code)
{
    return exit_code < 0 ? CLI_TIMED_OUT : exit_code & 255;
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
    return exit_code_of(exit_code);
}

static int run_command(struct cli *cli, const struct shoal_command *command)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct waiting waiting = {.cli = cli, .id = cli->operands[0]};
    struct shoal_exec_result *result = NULL;
    int code;

    cli_catch_interrupts();
    if (shoal_exec_run(cli->client, waiting.id, command, on_wait, &waiting, &result, &err) < 0) {
        return cli_fail(cli, &err, "%s", waiting.id);
    }
    cli_progress_end(cli);
    code = print_result(cli, result);
    shoal_exec_result_free(result);
    return code;
}

/* The session is over: its exit code came with it, or, of a terminal, is asked for. */
static int session_ended(struct cli_session *session)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_exec_result *result = NULL;
    int code;

    if (session->has_exit_code) {
        return exit_code_of(session->exit_code);
    }
    if (shoal_exec_wait(session->cli->client, session->id, session->session, NULL, NULL, &result,
                        &err) < 0) {
        return cli_fail(session->cli, &err, "%s", session->id);
    }
    code = exit_code_of(shoal_exec_result_exit_code(result));
    shoal_exec_result_free(result);
    return code;
}

/* Like a local command in a pipe whose reader has gone: it and we end of that. */
static int end_without_reader(struct cli_session *session)
{
    (void)shoal_exec_kill(session->cli->client, session->id, session->session, SIGPIPE, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)raise(SIGPIPE);
    return CLI_FAILED;
}

static int run_session(struct cli *cli,
                       const struct shoal_command *command,
                       const struct exec_options *options)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct waiting waiting = {.cli = cli, .id = cli->operands[0]};
    char name[128];
    struct cli_session session = {.cli = cli,
                                  .id = waiting.id,
                                  .session = name,
                                  .is_terminal = options->tty,
                                  .has_input = options->interactive,
                                  .on_interrupt = pass_interrupts,
                                  .arg = &waiting};
    int cols;
    int rows;
    int rc;

    cli_catch_interrupts(); /* of -it it is a key */
    cli_terminal_size(&cols, &rows);
    rc = options->tty ? shoal_terminal_create(cli->client, waiting.id, command, cols, rows, name,
                                              sizeof(name), &err)
                      : shoal_session_start(cli->client, waiting.id, command, CLI_LINGER_S, name,
                                            sizeof(name), &err);
    rc = rc < 0 ? rc : cli_session_run(&session, &err);
    if (rc < 0) {
        return cli_fail(cli, &err, "%s", waiting.id);
    }
    switch (session.end) {
    case CLI_SESSION_LEFT:
        return cli_session_left(&session);
    case CLI_SESSION_STOPPED:
        return cli_session_stopped(&session);
    case CLI_SESSION_NO_READER:
        return end_without_reader(&session);
    case CLI_SESSION_ENDED:
        break;
    }
    return session.close_code == 1000 ? session_ended(&session) : cli_session_cut(&session);
}

static bool check_options(struct cli *cli, const struct exec_options *options)
{
    if ((options->interactive || options->tty) && cli->json) {
        (void)cli_usage(cli, "%s",
                        "--json has one result at the end: it does not go with -i or -t");
        return false;
    }
    if (options->interactive && options->tty && !isatty(STDIN_FILENO)) {
        (void)cli_usage(cli, "%s",
                        "-it needs a terminal as its input; -i alone takes a file or a pipe");
        return false;
    }
    return true;
}

static int run_with(struct cli *cli, struct shoal_command *command, struct exec_options *options)
{
    if (!fill(cli, command, options) || !cli_connect(cli)) {
        return CLI_FAILED;
    }
    return options->interactive || options->tty ? run_session(cli, command, options)
                                                : run_command(cli, command);
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct exec_options options = {.cwd = NULL};
    struct shoal_command *command;
    int code = cli_parse(cli, &options, argc, argv, 2, (size_t)argc);

    if (code != CLI_GO) {
        return code;
    }
    if (!check_options(cli, &options)) {
        return CLI_FAILED;
    }
    command = shoal_command_new(cli->operands[1]);
    if (!command) {
        return cli_usage(cli, "%s", "the command is not UTF-8 text");
    }
    cli->watch = on_watch;
    code = run_with(cli, command, &options);
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
            "when the time limit ended it, 125 when shoal itself failed.\n"
            "\n"
            "With -i its output is printed as it comes, and standard input is passed on to its\n"
            "end; -it gives it the own terminal: Ctrl-] leaves it running then, as in `shoal\n"
            "shell`. What was left or has lost its connection ends after 10 minutes alone.\n",
    .example = "shoal exec -c /workspace sb-1a2b3c4d -- python3 -c 'print(6*7)'\n"
               "  shoal exec -it sb-1a2b3c4d python3\n"
               "  tar cz . | shoal exec -i sb-1a2b3c4d -- tar xz -C /workspace",
    .flags = flags,
    .flag_count = SHL_ARRAY_SIZE(flags),
    .stop_after = 2,
    .run = run,
};
