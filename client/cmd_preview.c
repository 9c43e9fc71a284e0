#include <string.h>

#include "client/cli.h"

#define PORT_MAX 65535

static const char *address_of(const struct shoal_preview *preview)
{
    const char *url = shoal_preview_url(preview);

    return url ? url : shoal_preview_hostname(preview);
}

static bool parse_port(struct cli *cli, const char *text, int *ret)
{
    if (cli_number_parse(text, 1, PORT_MAX, ret)) {
        return true;
    }
    (void)cli_usage(cli, "PORT is a whole number from 1 to %d, not \"%.40s\"", PORT_MAX, text);
    return false;
}

static int create(struct cli *cli, int port)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_preview *preview = NULL;
    int code = CLI_OK;

    if (shoal_preview_create(cli->client, cli->operands[1], port, &preview, &err) < 0) {
        return cli_fail(cli, &err, "%s", cli->operands[1]);
    }
    if (cli->json) {
        code = cli_print_json(cli, shoal_preview_json(preview));
    } else {
        cli_print_safe(stdout, address_of(preview));
        (void)putchar('\n');
    }
    shoal_preview_free(preview);
    return code;
}

static void print_table(struct cli *cli, const struct shoal_preview_list *list)
{
    static const char *const titles[] = {"PORT", "URL", "AGE"};
    struct cli_table *table = cli_table_new(titles, SHL_ARRAY_SIZE(titles));

    for (size_t i = 0; i < shoal_preview_list_count(list); i++) {
        const struct shoal_preview *preview = shoal_preview_list_at(list, i);
        const char *created_at = shoal_preview_created_at(preview);
        char port[32];
        char age[32];

        cli_int(shoal_preview_port(preview), port, sizeof(port));
        cli_age(created_at, age, sizeof(age));
        cli_table_row(table, (const char *const[]){port, address_of(preview), age});
    }
    cli_table_print(cli, table, -1);
}

static int list(struct cli *cli)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_preview_list *previews = NULL;
    int code = CLI_OK;

    if (shoal_preview_list(cli->client, cli->operands[1], &previews, &err) < 0) {
        return cli_fail(cli, &err, "%s", cli->operands[1]);
    }
    if (cli->json) {
        code = cli_print_json(cli, shoal_preview_list_json(previews));
    } else if (cli->quiet) {
        for (size_t i = 0; i < shoal_preview_list_count(previews); i++) {
            cli_print_safe(stdout, address_of(shoal_preview_list_at(previews, i)));
            (void)putchar('\n');
        }
    } else {
        print_table(cli, previews);
    }
    shoal_preview_list_free(previews);
    return code;
}

static int remove_each(struct cli *cli)
{
    int code = CLI_OK;

    for (size_t i = 2; i < cli->operand_count; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        int port = 0;

        if (!parse_port(cli, cli->operands[i], &port)) {
            code = CLI_FAILED;
        } else if (shoal_preview_delete(cli->client, cli->operands[1], port, &err) < 0) {
            code = cli_fail(cli, &err, "%s", cli->operands[i]);
        }
    }
    return code;
}

/* CLI_GO when the operands fit the verb. */
static int check_operands(struct cli *cli, int *ret_port)
{
    static const char *const verbs[] = {"create", "ls", "rm"};
    const char *verb = cli->operands[0];
    const char *near;

    if (strcmp(verb, "create") == 0) {
        if (cli->operand_count != 3) {
            return cli_usage(cli, "%s", "create takes a sandbox and a port");
        }
        return parse_port(cli, cli->operands[2], ret_port) ? CLI_GO : CLI_FAILED;
    }
    if (strcmp(verb, "ls") == 0) {
        return cli->operand_count == 2 ? CLI_GO : cli_usage(cli, "%s", "ls takes one sandbox");
    }
    if (strcmp(verb, "rm") == 0) {
        return cli->operand_count >= 3 ? CLI_GO : cli_usage(cli, "%s", "the port is missing");
    }
    near = cli_suggest(verb, verbs, SHL_ARRAY_SIZE(verbs));
    return cli_usage(cli, "\"%.40s\" is none of create, ls, rm%s%s", verb,
                     near ? ": did you mean " : "", near ? near : "");
}

static int run(struct cli *cli, int argc, char **argv)
{
    int code = cli_parse(cli, NULL, argc, argv, 2, (size_t)argc);
    int port = 0;

    if (code == CLI_GO) {
        code = check_operands(cli, &port);
    }
    if (code != CLI_GO) {
        return code;
    }
    if (!cli_connect(cli)) {
        return CLI_FAILED;
    }
    if (strcmp(cli->operands[0], "create") == 0) {
        return create(cli, port);
    }
    return strcmp(cli->operands[0], "ls") == 0 ? list(cli) : remove_each(cli);
}

const struct cli_command cli_cmd_preview = {
    .name = "preview",
    .summary = "addresses under which servers in a sandbox are reached",
    .usage = "[flags] create SANDBOX PORT | ls SANDBOX | rm SANDBOX PORT ...",
    .text = "create prints the address. Any port can be reached at its address without a record;\n"
            "rm removes the record, not the address. A server on 127.0.0.1 is enough, and a\n"
            "sandbox that is hibernated is woken by a request.\n",
    .example = "shoal preview create sb-1a2b3c4d 3000",
    .run = run,
};
