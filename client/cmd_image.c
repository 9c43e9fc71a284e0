/* shoal image, snapshot, patch. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "client/cli.h"

#define FILE_MAX (96u * 1024 * 1024)

struct image_options {
    const char *file;
    const char *description;
};

static const struct cli_flag build_flags[] = {
    {'f', "file", "FILE", CLI_TEXT, offsetof(struct image_options, file), 0, 0,
     "the manifest, as JSON; - is standard input"},
};

static const struct cli_flag patch_flags[] = {
    {'f', "file", "FILE", CLI_TEXT, offsetof(struct image_options, file), 0, 0,
     "add: the script; - is standard input"},
    {'d', "description", "TEXT", CLI_TEXT, offsetof(struct image_options, description), 0, 0,
     "add: what it is for"},
};

/* The whole file on the heap; NULL after printing why not. */
static char *read_text(struct cli *cli, const char *path)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    struct shl_buf buf;
    char chunk[16384];
    char *text = NULL;
    size_t len;
    int rc = 0;

    if (!file) {
        (void)cli_usage(cli, "cannot read %s: %s", path, strerrordesc_np(errno));
        return NULL;
    }
    shl_buf_init(&buf, FILE_MAX);
    while (rc == 0 && (len = fread(chunk, 1, sizeof(chunk), file)) > 0) {
        rc = shl_buf_append(&buf, chunk, len);
    }
    if (rc < 0 || ferror(file)) {
        (void)cli_usage(cli, "cannot read %s: %s", path,
                        rc == SHOAL_ELIMIT ? "it is too large" : "the file cannot be read");
    } else {
        text = shl_bytes_dup_str(shl_buf_bytes(&buf));
    }
    shl_buf_release(&buf);
    if (file != stdin) {
        (void)fclose(file);
    }
    return text;
}

static void on_log(void *arg, const char *text)
{
    struct cli *cli = arg;

    if (!cli->quiet) {
        cli_print_safe(stderr, text);
        (void)fputc('\n', stderr);
    }
}

static int check_verb(struct cli *cli, const char *const *verbs, size_t count, const char *list)
{
    const char *verb = cli->operands[0];
    const char *near;

    for (size_t i = 0; i < count; i++) {
        if (strcmp(verb, verbs[i]) == 0) {
            return CLI_GO;
        }
    }
    near = cli_suggest(verb, verbs, count);
    return cli_usage(cli, "\"%.40s\" is none of %s%s%s", verb, list, near ? ": did you mean " : "",
                     near ? near : "");
}

/* ---- image ------------------------------------------------------------------------------ */

static int run_image(struct cli *cli, int argc, char **argv)
{
    static const char *const verbs[] = {"build"};
    struct image_options options = {.file = NULL};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_sandbox *sandbox = NULL;
    int code = cli_parse(cli, &options, argc, argv, 1, 1);
    char *manifest;

    if (code == CLI_GO) {
        code = check_verb(cli, verbs, SHL_ARRAY_SIZE(verbs), "build");
    }
    if (code != CLI_GO) {
        return code;
    }
    if (!options.file) {
        return cli_usage(cli, "%s", "build needs the manifest: -f FILE");
    }
    manifest = read_text(cli, options.file);
    if (!manifest || !cli_connect(cli)) {
        free(manifest);
        return CLI_FAILED;
    }
    code = CLI_OK;
    if (shoal_image_build(cli->client, manifest, on_log, cli, &sandbox, &err) < 0) {
        code = cli_fail(cli, &err, "%s", options.file);
    } else if (cli->json) {
        code = cli_print_json(cli, shoal_sandbox_json(sandbox));
    } else {
        cli_print_safe(stdout, shoal_sandbox_id(sandbox));
        (void)putchar('\n');
    }
    shoal_sandbox_free(sandbox);
    free(manifest);
    return code;
}

const struct cli_command cli_cmd_image = {
    .name = "image",
    .summary = "build an image from a manifest",
    .usage = "build -f FILE",
    .text = "Shows the log of the build and prints the id of a sandbox made from it. The same\n"
            "manifest again builds nothing. `shoal snapshot create` gives an image a name.\n",
    .example = "shoal image build -f manifest.json",
    .flags = build_flags,
    .flag_count = SHL_ARRAY_SIZE(build_flags),
    .run = run_image,
};

/* ---- snapshot ---------------------------------------------------------------------------- */

static int snapshot_create(struct cli *cli, const struct image_options *options)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_snapshot *snapshot = NULL;
    char *manifest = read_text(cli, options->file);
    int code = CLI_OK;

    if (!manifest || !cli_connect(cli)) {
        free(manifest);
        return CLI_FAILED;
    }
    if (shoal_snapshot_create(cli->client, cli->operands[1], manifest, on_log, cli, &snapshot,
                              &err) < 0) {
        code = cli_fail(cli, &err, "%s", cli->operands[1]);
    } else if (cli->json) {
        code = cli_print_json(cli, shoal_snapshot_json(snapshot));
    } else {
        cli_print_safe(stdout, shoal_snapshot_text(snapshot, "name"));
        (void)putchar('\n');
    }
    shoal_snapshot_free(snapshot);
    free(manifest);
    return code;
}

static void snapshot_table(struct cli *cli, const struct shoal_snapshot_list *list)
{
    static const char *const titles[] = {"NAME", "STATUS", "HASH", "AGE", "USED", "WHY"};
    struct cli_table *table = cli_table_new(titles, SHL_ARRAY_SIZE(titles));

    for (size_t i = 0; i < shoal_snapshot_list_count(list); i++) {
        const struct shoal_snapshot *snapshot = shoal_snapshot_list_at(list, i);
        const char *hash = shoal_snapshot_text(snapshot, "contentHash");
        char age[32], used[32], prefix[13];

        cli_age(shoal_snapshot_text(snapshot, "createdAt"), age, sizeof(age));
        cli_age(shoal_snapshot_text(snapshot, "lastUsedAt"), used, sizeof(used));
        (void)snprintf(prefix, sizeof(prefix), "%.12s", hash ? hash : "");
        cli_table_row(table,
                      (const char *const[]){shoal_snapshot_text(snapshot, "name"),
                                            shoal_snapshot_text(snapshot, "status"), prefix, age,
                                            used, shoal_snapshot_text(snapshot, "error")});
    }
    cli_table_print(cli, table, 1);
}

static int snapshot_list(struct cli *cli)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_snapshot_list *list = NULL;
    int code = CLI_OK;

    if (shoal_snapshot_list(cli->client, &list, &err) < 0) {
        return cli_fail(cli, &err, "%s", "snapshots");
    }
    if (cli->json) {
        code = cli_print_json(cli, shoal_snapshot_list_json(list));
    } else if (cli->quiet) {
        for (size_t i = 0; i < shoal_snapshot_list_count(list); i++) {
            cli_print_safe(stdout, shoal_snapshot_text(shoal_snapshot_list_at(list, i), "name"));
            (void)putchar('\n');
        }
    } else {
        snapshot_table(cli, list);
    }
    shoal_snapshot_list_free(list);
    return code;
}

static int snapshot_get(struct cli *cli)
{
    static const char *const fields[] = {"id",           "name",      "status",     "contentHash",
                                         "checkpointId", "createdAt", "lastUsedAt", "error"};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_snapshot *snapshot = NULL;
    int code = CLI_OK;

    if (shoal_snapshot_get(cli->client, cli->operands[1], &snapshot, &err) < 0) {
        return cli_fail(cli, &err, "%s", cli->operands[1]);
    }
    if (cli->json) {
        code = cli_print_json(cli, shoal_snapshot_json(snapshot));
    } else {
        for (size_t i = 0; i < SHL_ARRAY_SIZE(fields); i++) {
            const char *value = shoal_snapshot_text(snapshot, fields[i]);

            if (value && *value) {
                cli_line(cli, fields[i], value);
            }
        }
    }
    shoal_snapshot_free(snapshot);
    return code;
}

static int snapshot_remove(struct cli *cli)
{
    int code = CLI_OK;

    for (size_t i = 1; i < cli->operand_count; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;

        if (shoal_snapshot_delete(cli->client, cli->operands[i], &err) < 0) {
            code = cli_fail(cli, &err, "%s", cli->operands[i]);
        }
    }
    return code;
}

static int run_snapshot(struct cli *cli, int argc, char **argv)
{
    static const char *const verbs[] = {"create", "ls", "get", "rm"};
    struct image_options options = {.file = NULL};
    int code = cli_parse(cli, &options, argc, argv, 1, (size_t)argc);
    const char *verb;

    if (code == CLI_GO) {
        code = check_verb(cli, verbs, SHL_ARRAY_SIZE(verbs), "create, ls, get, rm");
    }
    if (code != CLI_GO) {
        return code;
    }
    verb = cli->operands[0];
    if (strcmp(verb, "create") == 0) {
        return cli->operand_count != 2 || !options.file
                   ? cli_usage(cli, "%s", "create takes a name and the manifest: -f FILE")
                   : snapshot_create(cli, &options);
    }
    if (strcmp(verb, "ls") == 0 ? cli->operand_count != 1 : cli->operand_count < 2) {
        return cli_usage(cli, "%s takes %s", verb, strcmp(verb, "ls") == 0 ? "nothing" : "a name");
    }
    if (!cli_connect(cli)) {
        return CLI_FAILED;
    }
    return strcmp(verb, "ls") == 0    ? snapshot_list(cli)
           : strcmp(verb, "get") == 0 ? snapshot_get(cli)
                                      : snapshot_remove(cli);
}

const struct cli_command cli_cmd_snapshot = {
    .name = "snapshot",
    .summary = "make, list, show and remove named snapshots",
    .usage = "create NAME -f FILE | ls | get NAME | rm NAME ...",
    .text = "A snapshot is a built image with a name. Sandboxes start from it on every node\n"
            "(--template NAME); those that did do not depend on it any more.\n",
    .example = "shoal snapshot create data-science -f manifest.json",
    .flags = build_flags,
    .flag_count = SHL_ARRAY_SIZE(build_flags),
    .run = run_snapshot,
};

/* ---- patch ------------------------------------------------------------------------------- */

static int patch_add(struct cli *cli, const struct image_options *options)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_patch *patch = NULL;
    char *script = read_text(cli, options->file);
    int code = CLI_OK;

    if (!script || !cli_connect(cli)) {
        free(script);
        return CLI_FAILED;
    }
    if (shoal_patch_add(cli->client, cli->operands[1], script, options->description, &patch, &err) <
        0) {
        code = cli_fail(cli, &err, "%s", cli->operands[1]);
    } else if (cli->json) {
        code = cli_print_json(cli, shoal_patch_json(patch));
    } else {
        cli_print_safe(stdout, shoal_patch_text(patch, "id"));
        (void)putchar('\n');
    }
    shoal_patch_free(patch);
    free(script);
    return code;
}

static void patch_table(struct cli *cli, const struct shoal_patch_list *list)
{
    static const char *const titles[] = {"N", "ID", "AGE", "DESCRIPTION"};
    struct cli_table *table = cli_table_new(titles, SHL_ARRAY_SIZE(titles));

    for (size_t i = 0; i < shoal_patch_list_count(list); i++) {
        const struct shoal_patch *patch = shoal_patch_list_at(list, i);
        char age[32], number[32];

        cli_age(shoal_patch_text(patch, "createdAt"), age, sizeof(age));
        cli_int(shoal_patch_sequence(patch), number, sizeof(number));
        cli_table_row(table, (const char *const[]){number, shoal_patch_text(patch, "id"), age,
                                                   shoal_patch_text(patch, "description")});
    }
    cli_table_print(cli, table, -1);
}

static int patch_list(struct cli *cli)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_patch_list *list = NULL;
    int code = CLI_OK;

    if (shoal_patch_list(cli->client, cli->operands[1], &list, &err) < 0) {
        return cli_fail(cli, &err, "%s", cli->operands[1]);
    }
    if (cli->json) {
        code = cli_print_json(cli, shoal_patch_list_json(list));
    } else {
        patch_table(cli, list);
    }
    shoal_patch_list_free(list);
    return code;
}

static int patch_remove(struct cli *cli)
{
    int code = CLI_OK;

    for (size_t i = 2; i < cli->operand_count; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;

        if (shoal_patch_delete(cli->client, cli->operands[1], cli->operands[i], &err) < 0) {
            code = cli_fail(cli, &err, "%s", cli->operands[i]);
        }
    }
    return code;
}

static int run_patch(struct cli *cli, int argc, char **argv)
{
    static const char *const verbs[] = {"add", "ls", "rm"};
    struct image_options options = {.file = NULL};
    int code = cli_parse(cli, &options, argc, argv, 2, (size_t)argc);
    const char *verb;

    if (code == CLI_GO) {
        code = check_verb(cli, verbs, SHL_ARRAY_SIZE(verbs), "add, ls, rm");
    }
    if (code != CLI_GO) {
        return code;
    }
    verb = cli->operands[0];
    if (strcmp(verb, "add") == 0) {
        return cli->operand_count != 2 || !options.file
                   ? cli_usage(cli, "%s", "add takes a checkpoint and the script: -f FILE")
                   : patch_add(cli, &options);
    }
    if (strcmp(verb, "rm") == 0 && cli->operand_count < 3) {
        return cli_usage(cli, "%s", "the patch is missing");
    }
    if (!cli_connect(cli)) {
        return CLI_FAILED;
    }
    return strcmp(verb, "ls") == 0 ? patch_list(cli) : patch_remove(cli);
}

const struct cli_command cli_cmd_patch = {
    .name = "patch",
    .summary = "add, list and remove patches of a checkpoint",
    .usage = "add CHECKPOINT -f FILE [-d TEXT] | ls CHECKPOINT | rm CHECKPOINT PATCH ...",
    .text =
        "A patch is a script that runs as root in every sandbox forked from the checkpoint: at\n"
        "the fork, and in those that exist at their next wake. CHECKPOINT and PATCH are ids.\n",
    .example = "shoal patch add 6f1c8a52-... -f upgrade.sh -d 'new certificates'",
    .flags = patch_flags,
    .flag_count = SHL_ARRAY_SIZE(patch_flags),
    .run = run_patch,
};
