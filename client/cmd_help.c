#include <string.h>

#include "client/cli.h"

static void print_flags(FILE *out, const struct cli_flag *flags, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct cli_flag *flag = &flags[i];
        char left[64];

        (void)snprintf(left, sizeof(left), "%c%c%s --%s %s", flag->letter ? '-' : ' ',
                       flag->letter ? flag->letter : ' ', flag->letter ? "," : " ", flag->name,
                       flag->value ? flag->value : "");
        (void)fprintf(out, "  %-28s %s\n", left, flag->help);
    }
}

void cli_help_command(FILE *out, const struct cli_command *command)
{
    (void)fprintf(out, "shoal %s: %s\n\nusage: shoal %s %s\n", command->name, command->summary,
                  command->name, command->usage);
    if (command->alias) {
        (void)fprintf(out, "also:  shoal %s\n", command->alias);
    }
    if (command->text) {
        (void)fprintf(out, "\n%s", command->text);
    }
    (void)fprintf(out, "\nflags:\n");
    print_flags(out, command->flags, command->flag_count);
    print_flags(out, cli_shared_flags, cli_shared_flag_count);
    (void)fprintf(out, "\nexample:\n  %s\n", command->example);
}

void cli_help_all(FILE *out)
{
    (void)fprintf(out,
                  "shoal %s: sandboxes on your own machines\n\n"
                  "usage: shoal COMMAND [flags] [arguments]\n\ncommands:\n",
                  shoal_version());
    for (size_t i = 0; cli_commands[i]; i++) {
        const struct cli_command *command = cli_commands[i];
        char names[40];

        (void)snprintf(names, sizeof(names), "%s%s%s", command->name, command->alias ? ", " : "",
                       command->alias ? command->alias : "");
        (void)fprintf(out, "  %-12s %s\n", names, command->summary);
    }
    (void)fprintf(out,
                  "\n`shoal help COMMAND` or `shoal COMMAND --help` explains one.\n\n"
                  "The server and the key come from --url and --key, else SHOAL_URL and\n"
                  "SHOAL_API_KEY, else ~/.config/shoal/config.json {\"url\": .., \"key\": ..}.\n");
}

static int run(struct cli *cli, int argc, char **argv)
{
    const struct cli_command *command;
    int code = cli_parse(cli, NULL, argc, argv, 0, 1);

    if (code != CLI_GO) {
        return code;
    }
    if (cli->operand_count == 0) {
        cli_help_all(stdout);
        return CLI_OK;
    }
    command = cli_command_find(cli->operands[0]);
    if (!command) {
        return cli_usage(cli, "there is no command \"%.60s\"", cli->operands[0]);
    }
    cli_help_command(stdout, command);
    return CLI_OK;
}

const struct cli_command cli_cmd_help = {
    .name = "help",
    .summary = "explain a command",
    .usage = "[COMMAND]",
    .example = "shoal help exec",
    .run = run,
};
