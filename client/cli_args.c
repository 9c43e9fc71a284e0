/* Flags are read from tables: one shared by all commands, one per command. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli.h"

#define FLAGS_MAX 32
#define VERBS_MAX 8 /* of one command */

const struct cli_flag cli_shared_flags[] = {
    {0, "url", "URL[,URL]", CLI_TEXT, offsetof(struct cli, url), 0, 0,
     "servers to try in turn (SHOAL_URL, OPENCOMPUTER_API_URL)"},
    {0, "key", "KEY", CLI_TEXT, offsetof(struct cli, key), 0, 0,
     "API key (better: SHOAL_API_KEY, others can see arguments)"},
    {0, "ca-file", "FILE", CLI_TEXT, offsetof(struct cli, ca_file), 0, 0,
     "trusted certificates instead of the system's (SHOAL_CA_FILE)"},
    {0, "json", NULL, CLI_SWITCH, offsetof(struct cli, json), 0, 0,
     "print JSON with the names of the API"},
    {'o', "output", "json|table", CLI_TEXT, offsetof(struct cli, format), 0, 0, "form of output"},
    {'q', "quiet", NULL, CLI_SWITCH, offsetof(struct cli, quiet), 0, 0, "ids only, no progress"},
    {'h', "help", NULL, CLI_SWITCH, offsetof(struct cli, help), 0, 0, "show this help"},
};
const size_t cli_shared_flag_count = SHL_ARRAY_SIZE(cli_shared_flags);

struct parser {
    struct cli *cli;
    void *options;
    int argc;
    char **argv;
    int at; /* the argument being looked at */
};

bool cli_number_parse(const char *text, int min, int max, int *ret_value)
{
    char *end = NULL;
    long value;

    if (!*text || strspn(text, "-0123456789") != strlen(text)) {
        return false;
    }
    errno = 0;
    value = strtol(text, &end, 10);
    if (errno || *end || value < min || value > max) {
        return false;
    }
    *ret_value = (int)value;
    return true;
}

bool cli_pair_split(struct cli *cli,
                    const char *pair,
                    char *key,
                    size_t key_size,
                    const char **ret_value)
{
    size_t len = strcspn(pair, "=");

    if (len == 0 || len >= key_size) {
        (void)cli_usage(cli, "\"%.60s\" has no usable name in front of \"=\": write NAME=VALUE",
                        pair);
        return false;
    }
    memcpy(key, pair, len);
    key[len] = '\0';
    *ret_value = pair[len] ? pair + len + 1 : getenv(key);
    if (!*ret_value) {
        (void)cli_usage(cli, "%s is not set here: write %s=VALUE", key, key);
        return false;
    }
    return true;
}

/* The flag called @name (@len bytes) or @letter, with the struct its value goes to. */
static const struct cli_flag *find_flag(struct parser *parser,
                                        const char *name,
                                        size_t len,
                                        char letter,
                                        void **ret_base)
{
    const struct cli_command *command = parser->cli->command;

    for (size_t i = 0; i < command->flag_count + cli_shared_flag_count; i++) {
        bool own = i < command->flag_count;
        const struct cli_flag *flag =
            own ? &command->flags[i] : &cli_shared_flags[i - command->flag_count];

        if (name ? strlen(flag->name) == len && strncmp(flag->name, name, len) == 0
                 : flag->letter == letter) {
            *ret_base = own ? parser->options : parser->cli;
            return flag;
        }
    }
    return NULL;
}

static int unknown_flag(struct cli *cli, const char *name, size_t len)
{
    const char *names[FLAGS_MAX];
    size_t count = 0;
    char word[64] = "";
    const char *near;

    for (size_t i = 0; i < cli->command->flag_count; i++) {
        names[count++] = cli->command->flags[i].name;
    }
    for (size_t i = 0; i < cli_shared_flag_count; i++) {
        names[count++] = cli_shared_flags[i].name;
    }
    (void)snprintf(word, sizeof(word), "%.*s", (int)len, name);
    near = cli_suggest(word, names, count);
    return near ? cli_usage(cli, "there is no flag --%s: did you mean --%s?", word, near)
                : cli_usage(cli, "there is no flag --%s", word);
}

/* Seconds, or a number with its unit. */
static bool parse_span(const char *value, int min, int max, int *ret)
{
    static const struct {
        char letter;
        int seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    size_t len = strlen(value);
    int unit = 1, number;
    char digits[16];

    for (size_t i = 0; len > 1 && i < SHL_ARRAY_SIZE(units); i++) {
        if (value[len - 1] == units[i].letter) {
            unit = units[i].seconds;
            len--;
            break;
        }
    }
    if (len == 0 || len >= sizeof(digits)) {
        return false;
    }
    memcpy(digits, value, len);
    digits[len] = '\0';
    if (!cli_number_parse(digits, 0, max / unit, &number) || number * unit < min) {
        return false;
    }
    *ret = number * unit;
    return true;
}

static int store(struct parser *parser, const struct cli_flag *flag, void *base, const char *value)
{
    char *dst = (char *)base + flag->offset;
    struct cli_number *number = (void *)dst;
    struct cli_pairs *pairs = (void *)dst;

    switch (flag->type) {
    case CLI_SWITCH:
        *(bool *)dst = true;
        return CLI_GO;
    case CLI_TEXT:
        *(const char **)(void *)dst = value;
        return CLI_GO;
    case CLI_NUMBER:
        number->set = cli_number_parse(value, flag->min, flag->max, &number->value);
        return number->set ? CLI_GO
                           : cli_usage(parser->cli,
                                       "--%s wants a whole number from %d to %d, not \"%.40s\"",
                                       flag->name, flag->min, flag->max, value);
    case CLI_SPAN:
        number->set = parse_span(value, flag->min, flag->max, &number->value);
        return number->set
                   ? CLI_GO
                   : cli_usage(parser->cli,
                               "--%s wants seconds from %d to %d, or a time like 10m, 2h or "
                               "7d, not \"%.40s\"",
                               flag->name, flag->min, flag->max, value);
    case CLI_PAIRS:
        if (pairs->count == CLI_PAIRS_MAX) {
            return cli_usage(parser->cli, "--%s was given more than %d times", flag->name,
                             CLI_PAIRS_MAX);
        }
        pairs->items[pairs->count++] = value;
        return CLI_GO;
    }
    return CLI_GO;
}

/* @inline_value: what stood behind "=" or the letter, NULL nothing. */
static int take_flag(struct parser *parser,
                     const struct cli_flag *flag,
                     void *base,
                     const char *inline_value)
{
    const char *value = inline_value;

    if (flag->type != CLI_SWITCH && !value) {
        if (parser->at + 1 >= parser->argc) {
            return cli_usage(parser->cli, "--%s wants a value: %s", flag->name, flag->value);
        }
        value = parser->argv[++parser->at];
    }
    return store(parser, flag, base, value);
}

static int take_long(struct parser *parser, const char *name)
{
    size_t len = strcspn(name, "=");
    void *base = NULL;
    const struct cli_flag *flag = find_flag(parser, name, len, 0, &base);

    if (!flag) {
        return unknown_flag(parser->cli, name, len);
    }
    if (flag->type == CLI_SWITCH && name[len]) {
        return cli_usage(parser->cli, "--%s takes no value", flag->name);
    }
    return take_flag(parser, flag, base, name[len] ? name + len + 1 : NULL);
}

/* "-q", "-eK=V", or several switches in one. */
static int take_letters(struct parser *parser, const char *letters)
{
    for (const char *c = letters; *c; c++) {
        void *base = NULL;
        const struct cli_flag *flag = find_flag(parser, NULL, 0, *c, &base);
        bool last;
        int rc;

        if (!flag) {
            return cli_usage(parser->cli, "there is no flag -%c", *c);
        }
        last = flag->type != CLI_SWITCH;
        rc = take_flag(parser, flag, base, last && c[1] ? c + 1 : NULL);
        if (rc != CLI_GO || last) {
            return rc;
        }
    }
    return CLI_GO;
}

/* Flags and operands apart; operands are moved to the front of argv. */
static int take_all(struct parser *parser)
{
    struct cli *cli = parser->cli;
    bool flags_ended = false;
    int rc = CLI_GO;

    cli->operands = parser->argv + 1;
    cli->operand_count = 0;
    for (parser->at = 1; parser->at < parser->argc && rc == CLI_GO; parser->at++) {
        char *arg = parser->argv[parser->at];

        if (flags_ended || arg[0] != '-' || !arg[1]) {
            cli->operands[cli->operand_count++] = arg;
            flags_ended |=
                cli->command->stop_after > 0 && cli->operand_count >= cli->command->stop_after;
        } else if (strcmp(arg, "--") == 0) {
            flags_ended = true;
        } else {
            rc = arg[1] == '-' ? take_long(parser, arg + 2) : take_letters(parser, arg + 1);
        }
    }
    return rc;
}

static int check_format(struct cli *cli)
{
    if (cli->format && strcmp(cli->format, "json") != 0 && strcmp(cli->format, "table") != 0) {
        return cli_usage(cli, "--output is json or table, not \"%.40s\"", cli->format);
    }
    if (cli->format && cli->json && strcmp(cli->format, "json") != 0) {
        return cli_usage(cli, "--json and --output %s contradict each other", cli->format);
    }
    cli->json |= cli->format && strcmp(cli->format, "json") == 0;
    return CLI_GO;
}

int cli_parse(struct cli *cli, void *options, int argc, char **argv, size_t min, size_t max)
{
    struct parser parser = {.cli = cli, .options = options, .argc = argc, .argv = argv};
    int rc = take_all(&parser);

    if (rc != CLI_GO) {
        return rc;
    }
    if (cli->help) {
        cli_help_command(stdout, cli->command);
        return CLI_OK;
    }
    rc = check_format(cli);
    if (rc != CLI_GO) {
        return rc;
    }
    if (cli->operand_count < min) {
        return cli_usage(cli, "%s", "something is missing");
    }
    if (cli->operand_count > max) {
        return cli_usage(cli, "\"%.60s\" is one argument too many", cli->operands[max]);
    }
    return CLI_GO;
}

const struct cli_verb *cli_verb_find(struct cli *cli,
                                     const char *name,
                                     const struct cli_verb *verbs,
                                     size_t count)
{
    const char *names[VERBS_MAX];
    char list[160] = "";
    const char *near;

    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(list);

        if (strcmp(name, verbs[i].name) == 0) {
            if (cli->operand_count >= verbs[i].min && cli->operand_count <= verbs[i].max) {
                return &verbs[i];
            }
            (void)cli_usage(cli, "%s", verbs[i].takes);
            return NULL;
        }
        names[i] = verbs[i].name;
        (void)snprintf(list + len, sizeof(list) - len, "%s%s", i > 0 ? ", " : "", names[i]);
    }
    near = cli_suggest(name, names, count);
    (void)cli_usage(cli, "\"%.40s\" is none of %s%s%s", name, list, near ? ": did you mean " : "",
                    near ? near : "");
    return NULL;
}
