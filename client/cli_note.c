#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "client/cli.h"

/* What to do about a failure, where something sensible can be said. */
static const char *hint_of(const struct shoal_error *err)
{
    switch (err->code) {
    case SHOAL_EAUTH:
        return "set SHOAL_API_KEY to a valid key (the node prints one at its first start)";
    case SHOAL_EQUOTA:
        return "`shoal ls` shows what runs, `shoal kill ID` ends one";
    case SHOAL_EUNAVAILABLE:
        return "`shoal status` shows how the servers are; try again in a moment";
    case SHOAL_EGONE:
        return "the sandbox has ended; `shoal get ID` says why, `shoal create` makes another";
    case -ECONNREFUSED:
    case -EHOSTUNREACH:
    case -ENETUNREACH:
        return "is the node running? SHOAL_URL or --url says where it is";
    case -EKEYREJECTED:
        return "give the server's certificate authority with --ca-file or SHOAL_CA_FILE";
    case -ECONNRESET:
    case -ETIMEDOUT:
        return "`shoal status` shows how the servers are; the call may have taken effect";
    case SHOAL_ENOTFOUND:
        return strstr(err->message, "sandbox not found")
                   ? "`shoal ls` shows the sandboxes there are"
                   : NULL;
    default:
        return NULL;
    }
}

static void fail_json(const struct shoal_error *err, const char *context)
{
    (void)fputs("{\"error\": ", stderr);
    cli_json_text(stderr, err->message);
    (void)fputs(", \"context\": ", stderr);
    cli_json_text(stderr, context);
    (void)fprintf(stderr, ", \"code\": \"%s\", \"status\": %d, \"requestId\": ",
                  shoal_error_name(err->code), err->http_status);
    cli_json_text(stderr, err->request_id);
    (void)fputs("}\n", stderr);
}

int cli_fail(struct cli *cli, const struct shoal_error *err, const char *fmt, ...)
{
    char context[256];
    const char *hint = hint_of(err);
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(context, sizeof(context), fmt, args);
    va_end(args);
    cli_progress_end(cli);
    if (cli->json) {
        fail_json(err, context);
        return err->code == -ECANCELED ? CLI_INTERRUPTED : CLI_FAILED;
    }
    (void)fprintf(stderr, "shoal: ");
    cli_print_safe(stderr, context);
    (void)fprintf(stderr, ": ");
    cli_print_safe(stderr, err->message);
    if (err->http_status) {
        (void)fprintf(stderr, " (HTTP %d%s%s)", err->http_status,
                      err->request_id[0] ? ", request " : "", err->request_id);
    }
    (void)fprintf(stderr, "\n");
    if (hint) {
        (void)fprintf(stderr, "hint: %s\n", hint);
    }
    return err->code == -ECANCELED ? CLI_INTERRUPTED : CLI_FAILED;
}

int cli_usage(struct cli *cli, const char *fmt, ...)
{
    va_list args;

    cli_progress_end(cli);
    (void)fprintf(stderr, "shoal %s: ", cli->command->name);
    va_start(args, fmt);
    (void)vfprintf(stderr, fmt, args);
    va_end(args);
    (void)fprintf(stderr, "\nusage: shoal %s %s\n`shoal help %s` explains it.\n",
                  cli->command->name, cli->command->usage, cli->command->name);
    return CLI_FAILED;
}

void cli_progress(struct cli *cli, const char *fmt, ...)
{
    va_list args;

    if (!cli->err_tty || cli->quiet) {
        return;
    }
    (void)fputs("\r\033[K", stderr);
    va_start(args, fmt);
    (void)vfprintf(stderr, fmt, args);
    va_end(args);
    (void)fflush(stderr);
    cli->progress_shown = true;
}

void cli_progress_end(struct cli *cli)
{
    if (cli->progress_shown) {
        (void)fputs("\r\033[K", stderr);
        (void)fflush(stderr);
        cli->progress_shown = false;
    }
}
