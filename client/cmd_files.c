#include <string.h>

#include "client/cli.h"

static void print_table(struct cli *cli, const struct shoal_file_list *list)
{
    static const char *const titles[] = {"TYPE", "SIZE", "NAME"};
    struct cli_table *table = cli_table_new(titles, SHL_ARRAY_SIZE(titles));

    for (size_t i = 0; i < shoal_file_list_count(list); i++) {
        const struct shoal_file_entry *entry = shoal_file_list_at(list, i);
        bool is_dir = shoal_file_entry_is_dir(entry);
        char size[32] = "";

        if (!is_dir) {
            cli_size(shoal_file_entry_size_bytes(entry), size, sizeof(size));
        }
        cli_table_row(table, (const char *const[]){is_dir ? "dir" : "file", size,
                                                   shoal_file_entry_name(entry)});
    }
    cli_table_print(cli, table, -1);
}

static int list(struct cli *cli)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_file_list *files = NULL;
    const char *path = cli->operand_count > 2 ? cli->operands[2] : "/";
    int code = CLI_OK;

    if (shoal_file_list(cli->client, cli->operands[1], path, &files, &err) < 0) {
        return cli_fail(cli, &err, "%s:%s", cli->operands[1], path);
    }
    if (cli->json) {
        code = cli_print_json(cli, shoal_file_list_json(files));
    } else if (cli->quiet) {
        for (size_t i = 0; i < shoal_file_list_count(files); i++) {
            cli_print_safe(stdout, shoal_file_entry_name(shoal_file_list_at(files, i)));
            (void)putchar('\n');
        }
    } else {
        print_table(cli, files);
    }
    shoal_file_list_free(files);
    return code;
}

typedef int (*change_cb)(struct shoal_client *client,
                         const char *id,
                         const char *path,
                         struct shoal_error *err);

static int change_each(struct cli *cli, change_cb change)
{
    int code = CLI_OK;

    for (size_t i = 2; i < cli->operand_count; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;

        if (change(cli->client, cli->operands[1], cli->operands[i], &err) < 0) {
            code = cli_fail(cli, &err, "%s:%s", cli->operands[1], cli->operands[i]);
        }
    }
    return code;
}

static int run(struct cli *cli, int argc, char **argv)
{
    static const char *const verbs[] = {"ls", "mkdir", "rm"};
    int code = cli_parse(cli, NULL, argc, argv, 2, (size_t)argc);
    const char *near;
    const char *verb;

    if (code != CLI_GO) {
        return code;
    }
    verb = cli->operands[0];
    if (strcmp(verb, "ls") != 0 && strcmp(verb, "mkdir") != 0 && strcmp(verb, "rm") != 0) {
        near = cli_suggest(verb, verbs, SHL_ARRAY_SIZE(verbs));
        return cli_usage(cli, "\"%.40s\" is none of ls, mkdir, rm%s%s", verb,
                         near ? ": did you mean " : "", near ? near : "");
    }
    if (strcmp(verb, "ls") == 0 ? cli->operand_count > 3 : cli->operand_count < 3) {
        return cli_usage(cli, "%s",
                         strcmp(verb, "ls") == 0 ? "ls takes one path" : "the path is missing");
    }
    if (!cli_connect(cli)) {
        return CLI_FAILED;
    }
    if (strcmp(verb, "ls") == 0) {
        return list(cli);
    }
    return change_each(cli, strcmp(verb, "rm") == 0 ? shoal_file_remove : shoal_file_mkdir);
}

const struct cli_command cli_cmd_files = {
    .name = "files",
    .summary = "list, make and remove files in a sandbox",
    .usage = "[flags] ls ID [PATH] | mkdir ID PATH ... | rm ID PATH ...",
    .text = "mkdir makes parents too; rm removes folders with their content. Paths that do not\n"
            "begin with / are below /home/sandbox.\n",
    .example = "shoal files ls sb-1a2b3c4d /workspace",
    .run = run,
};
