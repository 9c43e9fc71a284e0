#include <string.h>

#include "client/cli.h"

#define TTL_MAX_S (7 * 24 * 3600)

struct token_options {
    struct cli_number ttl_s;
};

static const struct cli_flag flags[] = {
    {0, "ttl", "TIME", CLI_SPAN, offsetof(struct token_options, ttl_s), 1, TTL_MAX_S,
     "how long it is valid, like 600 or 10m (default 1h)"},
};

static int create(struct cli *cli, const struct token_options *options)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_join_token *token = NULL;
    int code = CLI_OK;

    if (shoal_join_token_create(cli->client, options->ttl_s.set ? options->ttl_s.value : 0, &token,
                                &err) < 0) {
        return cli_fail(cli, &err, "no token was made");
    }
    if (cli->json) {
        code = cli_print_json(cli, shoal_join_token_json(token));
    } else {
        cli_print_safe(stdout, shoal_join_token_text(token));
        (void)putchar('\n');
    }
    shoal_join_token_free(token);
    return code;
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct token_options options = {.ttl_s = {.set = false}};
    int code = cli_parse(cli, &options, argc, argv, 1, 1);

    if (code != CLI_GO) {
        return code;
    }
    if (strcmp(cli->operands[0], "create") != 0) {
        return cli_usage(cli, "\"%.40s\" is not create", cli->operands[0]);
    }
    return cli_connect(cli) ? create(cli, &options) : CLI_FAILED;
}

const struct cli_command cli_cmd_token = {
    .name = "token",
    .summary = "make a token with which a machine joins the cluster",
    .usage = "[flags] create",
    .text = "Needs an admin key. The token works once.\n",
    .example = "shoald --join \"$(shoal token create --ttl 10m)\"",
    .flags = flags,
    .flag_count = SHL_ARRAY_SIZE(flags),
    .run = run,
};
