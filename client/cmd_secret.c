/* shoal secret: stores, and what is in them. */
#include <stdlib.h>
#include <string.h>

#include "client/cli.h"

#define ID_SIZE 160

struct secret_options {
    struct cli_pairs allow; /* of a store, and of a secret */
    bool any;
    const char *name;
    const char *file;
    bool exact;
};

static const struct cli_flag flags[] = {
    {0, "allow", "HOST", CLI_PAIRS, offsetof(struct secret_options, allow), 0, 0,
     "host that may be reached; set: that gets the value. *.x.com is all below x.com"},
    {0, "allow-any", NULL, CLI_SWITCH, offsetof(struct secret_options, any), 0, 0,
     "update, set: every host again"},
    {'n', "name", "NAME", CLI_TEXT, offsetof(struct secret_options, name), 0, 0,
     "update: another name"},
    {'f', "from-file", "FILE", CLI_TEXT, offsetof(struct secret_options, file), 0, 0,
     "set: where the value is; - is standard input"},
    {0, "exact", NULL, CLI_SWITCH, offsetof(struct secret_options, exact), 0, 0,
     "set: keep a newline at the end of the value"},
};

static struct shoal_hosts hosts_of(const struct secret_options *options)
{
    return (struct shoal_hosts){options->allow.items, options->allow.count};
}

/* NULL: nothing was said of them. */
static const struct shoal_hosts *wanted_hosts(const struct secret_options *options,
                                              struct shoal_hosts *hosts)
{
    *hosts = hosts_of(options);
    return options->any || hosts->count > 0 ? hosts : NULL;
}

/* Hosts as one cell: "a.com, *.b.com". */
static void join_hosts(char *dst,
                       size_t size,
                       const char *(*host_at)(const void *object, size_t index),
                       const void *object)
{
    size_t len = 0;
    const char *host;

    dst[0] = '\0';
    for (size_t i = 0; (host = host_at(object, i)) != NULL && len < size - 1; i++) {
        int n = snprintf(dst + len, size - len, "%s%s", i > 0 ? ", " : "", host);

        len += n > 0 ? (size_t)n : 0;
    }
    if (len >= size) {
        memcpy(dst + size - 4, "...", 4);
    } else if (len == 0) {
        (void)snprintf(dst, size, "any");
    }
}

static const char *allowed_at(const void *store, size_t index)
{
    return shoal_secret_store_allowed(store, index);
}

static const char *host_at(const void *secret, size_t index)
{
    return shoal_secret_host(secret, index);
}

/* The store of that id or name; an id wins. False after printing why there is none. */
static bool find_store(struct cli *cli, const char *id_or_name, char id[ID_SIZE])
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_secret_store_list *list = NULL;
    const char *found = NULL;

    if (shoal_secret_store_list(cli->client, &list, &err) < 0) {
        (void)cli_fail(cli, &err, "%s", id_or_name);
        return false;
    }
    for (size_t i = 0; i < shoal_secret_store_list_count(list); i++) {
        const struct shoal_secret_store *store = shoal_secret_store_list_at(list, i);

        if (strcmp(shoal_secret_store_text(store, "id"), id_or_name) == 0) {
            found = shoal_secret_store_text(store, "id");
            break;
        }
        if (strcmp(shoal_secret_store_text(store, "name"), id_or_name) == 0) {
            found = shoal_secret_store_text(store, "id");
        }
    }
    if (found) {
        (void)snprintf(id, ID_SIZE, "%s", found);
    } else {
        err.code = SHOAL_ENOTFOUND;
        (void)snprintf(err.message, sizeof(err.message),
                       "there is no such secret store: `shoal secret store ls` lists them");
        (void)cli_fail(cli, &err, "%s", id_or_name);
    }
    shoal_secret_store_list_free(list);
    return found != NULL;
}

/* ---- stores ----------------------------------------------------------------------------- */

static int print_id(struct cli *cli, struct shoal_secret_store *store)
{
    int code = CLI_OK;

    if (cli->json) {
        code = cli_print_json(cli, shoal_secret_store_json(store));
    } else {
        cli_print_safe(stdout, shoal_secret_store_text(store, "id"));
        (void)putchar('\n');
    }
    shoal_secret_store_free(store);
    return code;
}

static int store_create(struct cli *cli, const struct secret_options *options)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_secret_store *store = NULL;
    struct shoal_hosts hosts = hosts_of(options);

    if (shoal_secret_store_create(cli->client, cli->operands[2], &hosts, &store, &err) < 0) {
        return cli_fail(cli, &err, "%s", cli->operands[2]);
    }
    return print_id(cli, store);
}

static void store_table(struct cli *cli, const struct shoal_secret_store_list *list)
{
    static const char *const titles[] = {"NAME", "ID", "ALLOWED", "AGE"};
    struct cli_table *table = cli_table_new(titles, SHL_ARRAY_SIZE(titles));

    for (size_t i = 0; i < shoal_secret_store_list_count(list); i++) {
        const struct shoal_secret_store *store = shoal_secret_store_list_at(list, i);
        char allowed[64], age[32];

        join_hosts(allowed, sizeof(allowed), allowed_at, store);
        cli_age(shoal_secret_store_text(store, "createdAt"), age, sizeof(age));
        cli_table_row(table,
                      (const char *const[]){shoal_secret_store_text(store, "name"),
                                            shoal_secret_store_text(store, "id"), allowed, age});
    }
    cli_table_print(cli, table, -1);
}

static int store_list(struct cli *cli)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_secret_store_list *list = NULL;
    int code = CLI_OK;

    if (shoal_secret_store_list(cli->client, &list, &err) < 0) {
        return cli_fail(cli, &err, "%s", "secret stores");
    }
    if (cli->json) {
        code = cli_print_json(cli, shoal_secret_store_list_json(list));
    } else if (cli->quiet) {
        for (size_t i = 0; i < shoal_secret_store_list_count(list); i++) {
            cli_print_safe(stdout,
                           shoal_secret_store_text(shoal_secret_store_list_at(list, i), "name"));
            (void)putchar('\n');
        }
    } else {
        store_table(cli, list);
    }
    shoal_secret_store_list_free(list);
    return code;
}

static int store_get(struct cli *cli, const char *id)
{
    static const char *const fields[] = {"id", "name", "createdAt", "updatedAt"};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_secret_store *store = NULL;
    const char *host;
    int code = CLI_OK;

    if (shoal_secret_store_get(cli->client, id, &store, &err) < 0) {
        return cli_fail(cli, &err, "%s", cli->operands[2]);
    }
    if (cli->json) {
        code = cli_print_json(cli, shoal_secret_store_json(store));
    } else {
        for (size_t i = 0; i < SHL_ARRAY_SIZE(fields); i++) {
            cli_line(cli, fields[i], shoal_secret_store_text(store, fields[i]));
        }
        for (size_t i = 0; (host = shoal_secret_store_allowed(store, i)) != NULL; i++) {
            cli_line(cli, "allowed", host);
        }
    }
    shoal_secret_store_free(store);
    return code;
}

static int store_update(struct cli *cli, const char *id, const struct secret_options *options)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_secret_store *store = NULL;
    struct shoal_hosts hosts;
    int code = CLI_OK;

    if (shoal_secret_store_update(cli->client, id, options->name, wanted_hosts(options, &hosts),
                                  &store, &err) < 0) {
        return cli_fail(cli, &err, "%s", cli->operands[2]);
    }
    if (cli->json) {
        code = cli_print_json(cli, shoal_secret_store_json(store));
    }
    shoal_secret_store_free(store);
    return code;
}

static int store_remove(struct cli *cli)
{
    int code = CLI_OK;

    for (size_t i = 2; i < cli->operand_count; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;
        char id[ID_SIZE];

        if (!find_store(cli, cli->operands[i], id)) {
            code = CLI_FAILED;
        } else if (shoal_secret_store_delete(cli->client, id, &err) < 0) {
            code = cli_fail(cli, &err, "%s", cli->operands[i]);
        }
    }
    return code;
}

/* ---- secrets ---------------------------------------------------------------------------- */

static int secret_set(struct cli *cli, const struct secret_options *options)
{
    const char *name = cli->operands[2];
    struct cli_secret_value *value =
        cli_secret_value_read(cli, name, options->file, options->exact);
    struct shoal_error err = SHOAL_ERROR_INIT;
    int code = CLI_FAILED;
    struct shoal_hosts hosts;
    const char *text;
    char id[ID_SIZE];
    size_t len;

    if (!value) {
        return CLI_FAILED;
    }
    if (find_store(cli, cli->operands[1], id)) {
        text = cli_secret_value_text(value, &len);
        code = shoal_secret_set(cli->client, id, name, text, len, wanted_hosts(options, &hosts),
                                &err) < 0
                   ? cli_fail(cli, &err, "%s", name)
                   : CLI_OK;
    }
    cli_secret_value_free(value);
    return code;
}

static void secret_table(struct cli *cli, const struct shoal_secret_list *list)
{
    static const char *const titles[] = {"NAME", "ALLOWED", "AGE", "SET"};
    struct cli_table *table = cli_table_new(titles, SHL_ARRAY_SIZE(titles));

    for (size_t i = 0; i < shoal_secret_list_count(list); i++) {
        const struct shoal_secret *secret = shoal_secret_list_at(list, i);
        char hosts[64], age[32], set[32];

        join_hosts(hosts, sizeof(hosts), host_at, secret);
        cli_age(shoal_secret_text(secret, "createdAt"), age, sizeof(age));
        cli_age(shoal_secret_text(secret, "updatedAt"), set, sizeof(set));
        cli_table_row(table,
                      (const char *const[]){shoal_secret_text(secret, "name"), hosts, age, set});
    }
    cli_table_print(cli, table, -1);
}

static int secret_list(struct cli *cli, const char *id)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_secret_list *list = NULL;
    int code = CLI_OK;

    if (shoal_secret_list(cli->client, id, &list, &err) < 0) {
        return cli_fail(cli, &err, "%s", cli->operands[1]);
    }
    if (cli->json) {
        code = cli_print_json(cli, shoal_secret_list_json(list));
    } else if (cli->quiet) {
        for (size_t i = 0; i < shoal_secret_list_count(list); i++) {
            cli_print_safe(stdout, shoal_secret_text(shoal_secret_list_at(list, i), "name"));
            (void)putchar('\n');
        }
    } else {
        secret_table(cli, list);
    }
    shoal_secret_list_free(list);
    return code;
}

static int secret_remove(struct cli *cli, const char *id)
{
    int code = CLI_OK;

    for (size_t i = 2; i < cli->operand_count; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;

        if (shoal_secret_delete(cli->client, id, cli->operands[i], &err) < 0) {
            code = cli_fail(cli, &err, "%s", cli->operands[i]);
        }
    }
    return code;
}

/* ---- which one -------------------------------------------------------------------------- */

static const struct cli_verb store_verbs[] = {
    {"create", 3, 3, "store create takes a name", NULL},
    {"ls", 2, 2, "store ls takes nothing more", NULL},
    {"get", 3, 3, "store get takes a store", NULL},
    {"update", 3, 3, "store update takes a store, and --name, --allow or --allow-any", NULL},
    {"rm", 3, SIZE_MAX, "store rm takes the stores", NULL},
};

static const struct cli_verb verbs[] = {
    {"store", 2, SIZE_MAX, "store takes create, ls, get, update or rm", NULL},
    {"set", 3, 3, "set takes a store and the name of a secret; the value is never an argument",
     NULL},
    {"ls", 2, 2, "ls takes a store; `shoal secret store ls` lists those", NULL},
    {"rm", 3, SIZE_MAX, "rm takes a store and the names of secrets", NULL},
};

static int run_store(struct cli *cli, const char *verb, const struct secret_options *options)
{
    char id[ID_SIZE];

    if (strcmp(verb, "update") == 0 && !options->name && !options->any &&
        options->allow.count == 0) {
        return cli_usage(cli, "%s", "update changes --name, --allow or --allow-any");
    }
    if (!cli_connect(cli)) {
        return CLI_FAILED;
    }
    if (strcmp(verb, "create") == 0) {
        return store_create(cli, options);
    }
    if (strcmp(verb, "ls") == 0) {
        return store_list(cli);
    }
    if (strcmp(verb, "rm") == 0) {
        return store_remove(cli);
    }
    if (!find_store(cli, cli->operands[2], id)) {
        return CLI_FAILED;
    }
    return strcmp(verb, "get") == 0 ? store_get(cli, id) : store_update(cli, id, options);
}

static int run_secret(struct cli *cli, const char *verb, const struct secret_options *options)
{
    char id[ID_SIZE];

    if (!cli_connect(cli)) {
        return CLI_FAILED;
    }
    if (strcmp(verb, "set") == 0) {
        return secret_set(cli, options);
    }
    if (!find_store(cli, cli->operands[1], id)) {
        return CLI_FAILED;
    }
    return strcmp(verb, "ls") == 0 ? secret_list(cli, id) : secret_remove(cli, id);
}

/* CLI_GO when the flags are of this verb; what has no effect is not taken silently. */
static int check_flags(struct cli *cli, const char *verb, const struct secret_options *options)
{
    bool is_create = strcmp(verb, "create") == 0, is_update = strcmp(verb, "update") == 0;
    bool is_set = strcmp(verb, "set") == 0;

    if (options->any && options->allow.count > 0) {
        return cli_usage(cli, "%s", "--allow and --allow-any contradict each other");
    }
    if ((options->file || options->exact) && !is_set) {
        return cli_usage(cli, "%s", "--from-file and --exact are for set");
    }
    if (options->name && !is_update) {
        return cli_usage(cli, "%s", "--name is for store update");
    }
    if ((options->allow.count > 0 && !is_create && !is_update && !is_set) ||
        (options->any && !is_update && !is_set)) {
        return cli_usage(cli, "%s does not change what is allowed", verb);
    }
    return CLI_GO;
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct secret_options options = {.file = NULL};
    int code = cli_parse(cli, &options, argc, argv, 1, (size_t)argc);
    const struct cli_verb *verb;
    bool is_store;

    if (code != CLI_GO) {
        return code;
    }
    verb = cli_verb_find(cli, cli->operands[0], verbs, SHL_ARRAY_SIZE(verbs));
    is_store = verb == &verbs[0];
    if (is_store) {
        verb = cli_verb_find(cli, cli->operands[1], store_verbs, SHL_ARRAY_SIZE(store_verbs));
    }
    if (!verb) {
        return CLI_FAILED;
    }
    code = check_flags(cli, verb->name, &options);
    if (code != CLI_GO) {
        return code;
    }
    return is_store ? run_store(cli, verb->name, &options) : run_secret(cli, verb->name, &options);
}

const struct cli_command cli_cmd_secret = {
    .name = "secret",
    .summary = "secrets that sandboxes use without seeing them",
    .usage =
        "[flags] store create NAME | store ls | store get STORE | store update STORE |\n"
        "                    store rm STORE ... | set STORE NAME | ls STORE | rm STORE NAME ...",
    .text =
        "STORE is a name or an id. In a sandbox made with `--secret-store` each secret is in the\n"
        "environment as a sealed token; the value is put in its place on the way to the hosts\n"
        "that are allowed. Values are never printed.\n"
        "set asks for the value without showing it; without a terminal it reads standard input.\n"
        "One newline at the end is left out. The value is never an argument: others can see\n"
        "those, and shells keep them. rm takes a value away from sandboxes that run; those of a\n"
        "store that is removed as a whole go on with what they have until they stop running.\n",
    .example = "shoal secret set prod OPENAI_API_KEY --allow api.openai.com < key.txt",
    .flags = flags,
    .flag_count = SHL_ARRAY_SIZE(flags),
    .run = run,
};
