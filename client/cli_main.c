#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli.h"

const struct cli_command *const cli_commands[] = {
    &cli_cmd_create,     &cli_cmd_ls,      &cli_cmd_get,        &cli_cmd_exec,
    &cli_cmd_shell,      &cli_cmd_logs,    &cli_cmd_cp,         &cli_cmd_files,
    &cli_cmd_kill,       &cli_cmd_preview, &cli_cmd_timeout,    &cli_cmd_hibernate,
    &cli_cmd_wake,       &cli_cmd_migrate, &cli_cmd_recover,    &cli_cmd_reboot,
    &cli_cmd_checkpoint, &cli_cmd_restore, &cli_cmd_fork,       &cli_cmd_image,
    &cli_cmd_snapshot,   &cli_cmd_patch,   &cli_cmd_secret,     &cli_cmd_agent,
    &cli_cmd_status,     &cli_cmd_node,    &cli_cmd_cluster,    &cli_cmd_token,
    &cli_cmd_version,    &cli_cmd_help,    &cli_cmd_completion, NULL,
};

const struct cli_command *cli_command_find(const char *name)
{
    for (size_t i = 0; cli_commands[i]; i++) {
        const struct cli_command *command = cli_commands[i];

        if (strcmp(command->name, name) == 0 ||
            (command->alias && strcmp(command->alias, name) == 0)) {
            return command;
        }
    }
    return NULL;
}

static int unknown_command(const char *name)
{
    const char *names[64];
    size_t count = 0;
    const char *near;

    for (size_t i = 0; cli_commands[i]; i++) {
        names[count++] = cli_commands[i]->name;
        if (cli_commands[i]->alias) {
            names[count++] = cli_commands[i]->alias;
        }
    }
    near = cli_suggest(name, names, count);
    (void)fprintf(stderr, "shoal: there is no command \"%.60s\"", name);
    (void)fprintf(stderr, near ? ": did you mean \"%s\"?\n" : "%s\n", near ? near : "");
    (void)fputs("`shoal help` lists the commands.\n", stderr);
    return CLI_FAILED;
}

/* Flags may stand in front of the command; move it to the front: "--url U ls" becomes
 * "ls --url U". The value of a flag must not be taken for the command. */
static bool command_to_front(int argc, char **argv)
{
    for (int at = 1; at < argc; at++) {
        const char *arg = argv[at];
        bool takes_value = false;

        if (arg[0] != '-') {
            char *name = argv[at];

            memmove(argv + 2, argv + 1, (size_t)(at - 1) * sizeof(*argv));
            argv[1] = name;
            return true;
        }
        for (size_t i = 0; i < cli_shared_flag_count; i++) {
            const struct cli_flag *flag = &cli_shared_flags[i];

            takes_value |=
                flag->type != CLI_SWITCH && ((arg[1] == '-' && strcmp(arg + 2, flag->name) == 0) ||
                                             (flag->letter && arg[1] == flag->letter && !arg[2]));
        }
        at += takes_value;
    }
    return false;
}

/* Without a command only help and version make sense. */
static int run_bare(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        (void)printf("shoal %s\n", shoal_version());
        return CLI_OK;
    }
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        cli_help_all(stdout);
        return CLI_OK;
    }
    cli_help_all(stderr);
    return CLI_FAILED;
}

static bool wants_color(void)
{
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");

    return isatty(STDOUT_FILENO) && !(no_color && *no_color) && term && strcmp(term, "dumb") != 0;
}

int main(int argc, char **argv)
{
    struct cli cli = {.out_color = wants_color(), .err_tty = isatty(STDERR_FILENO)};
    int code;

    if (!command_to_front(argc, argv)) {
        return run_bare(argc, argv);
    }
    cli.command = cli_command_find(argv[1]);
    code = cli.command ? cli.command->run(&cli, argc - 1, argv + 1) : unknown_command(argv[1]);
    cli_progress_end(&cli);
    shoal_client_free(cli.client);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        (void)fprintf(stderr, "shoal: cannot write the output: %s\n", strerrordesc_np(errno));
        return CLI_FAILED;
    }
    return code;
}
