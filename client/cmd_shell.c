/* A terminal in a sandbox; cli_session.c has the local one. */
#include <unistd.h>

#include "client/cli_session.h"

struct shell_options {
    const char *attach;
};

static const struct cli_flag flags[] = {
    {'a', "attach", "SESSION", CLI_TEXT, offsetof(struct shell_options, attach), 0, 0,
     "go back to a shell that was left"},
};

static int run_shell(struct cli *cli, const char *attach)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    char name[128];
    struct cli_session session = {.cli = cli,
                                  .id = cli->operands[0],
                                  .session = attach ? attach : name,
                                  .is_terminal = true,
                                  .has_input = true,
                                  .is_back = attach != NULL};
    int cols;
    int rows;

    cli_terminal_size(&cols, &rows);
    if (!attach && shoal_terminal_create(cli->client, session.id, NULL, cols, rows, name,
                                         sizeof(name), &err) < 0) {
        return cli_fail(cli, &err, "%s", session.id);
    }
    if (cli_session_run(&session, &err) < 0) {
        return cli_fail(cli, &err, "%s", session.id);
    }
    if (session.end == CLI_SESSION_LEFT) {
        return cli_session_left(&session);
    }
    return session.end == CLI_SESSION_ENDED && session.close_code == 1000
               ? CLI_OK
               : cli_session_cut(&session);
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct shell_options options = {.attach = NULL};
    int code = cli_parse(cli, &options, argc, argv, 1, 1);

    if (code != CLI_GO) {
        return code;
    }
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        return cli_usage(cli, "%s",
                         "a shell needs a terminal; `shoal exec` runs commands without one");
    }
    return cli_connect(cli) ? run_shell(cli, options.attach) : CLI_FAILED;
}

const struct cli_command cli_cmd_shell = {
    .name = "shell",
    .summary = "open a terminal in a sandbox",
    .usage = "[flags] ID",
    .text = "Ctrl-] leaves it running and says how to go back; without anybody it hangs up after\n"
            "10 minutes. A hibernated sandbox is woken.\n",
    .example = "shoal shell sb-1a2b3c4d",
    .flags = flags,
    .flag_count = SHL_ARRAY_SIZE(flags),
    .run = run,
};
