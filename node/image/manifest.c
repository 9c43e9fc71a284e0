#include "node/image/manifest.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/id.h"

/* Escapes make it longer than what was sent, a little. */
#define CANONICAL_MAX (2u * IMAGE_BODY_MAX)

static const char *const type_names[] = {
    [IMAGE_STEP_APT] = "apt_install", [IMAGE_STEP_PIP] = "pip_install",
    [IMAGE_STEP_RUN] = "run",         [IMAGE_STEP_ENV] = "env",
    [IMAGE_STEP_WORKDIR] = "workdir", [IMAGE_STEP_FILE] = "add_file",
    [IMAGE_STEP_DIR] = "add_dir",
};

const char *image_step_name(enum image_step_type type)
{
    return type_names[type];
}

int image_name_check(const char *name, struct shl_err *err)
{
    size_t len = strlen(name);
    size_t i;

    for (i = 0; i < len; i++) {
        if (!isalnum((unsigned char)name[i]) && !strchr("._-", name[i])) {
            break;
        }
    }
    if (len == 0 || len > IMAGE_NAME_MAX || i < len || name[0] == '.') {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "the name of a snapshot is 1 to %d of the characters A-Z a-z 0-9 . _ - "
                           "and does not begin with a dot",
                           IMAGE_NAME_MAX);
    }
    return 0;
}

/* ---- checks of one step ------------------------------------------------------------- */

struct checker {
    struct shl_err *err;
    size_t index; /* of the step */
    const char *type;
    const json_t *args;
    uint64_t content_bytes; /* of all steps so far */
};

static int refuse(const struct checker *c, const char *what)
{
    return shl_err_set(c->err, SHL_EINVALIDARG, "step %zu (%s): %s", c->index, c->type, what);
}

/* An array of strings, not empty; *ret_bytes is how long they are together. */
static int check_strings(const struct checker *c, const char *key, size_t *ret_bytes)
{
    const json_t *array = json_object_get(c->args, key);
    size_t i;

    *ret_bytes = 0;
    if (!json_is_array(array)) {
        return shl_err_set(c->err, SHL_EINVALIDARG, "step %zu (%s): %s must be an array of strings",
                           c->index, c->type, key);
    }
    if (json_array_size(array) == 0 || json_array_size(array) > IMAGE_ITEMS_MAX) {
        return shl_err_set(c->err, SHL_EINVALIDARG, "step %zu (%s): %s must hold 1 to %d strings",
                           c->index, c->type, key, IMAGE_ITEMS_MAX);
    }
    for (i = 0; i < json_array_size(array); i++) {
        const json_t *item = json_array_get(array, i);

        if (!json_is_string(item)) {
            return shl_err_set(c->err, SHL_EINVALIDARG, "step %zu (%s): %s must hold strings only",
                               c->index, c->type, key);
        }
        *ret_bytes += json_string_length(item) + 4;
    }
    if (*ret_bytes > IMAGE_COMMAND_MAX) {
        return shl_err_set(c->err, SHL_EINVALIDARG,
                           "step %zu (%s): %s are longer than %d bytes together: split the step",
                           c->index, c->type, key, IMAGE_COMMAND_MAX);
    }
    return 0;
}

static int check_packages(const struct checker *c)
{
    const json_t *array = json_object_get(c->args, "packages");
    size_t bytes, i;
    int rc = check_strings(c, "packages", &bytes);

    for (i = 0; rc == 0 && i < json_array_size(array); i++) {
        const char *text = json_string_value(json_array_get(array, i));

        if (text[strspn(text, " \t\r\n")] == '\0') {
            rc = refuse(c, "the name of a package is empty");
        }
    }
    return rc;
}

static int check_commands(const struct checker *c)
{
    size_t bytes;

    return check_strings(c, "commands", &bytes);
}

static bool is_env_name(const char *name)
{
    if (!isalpha((unsigned char)*name) && *name != '_') {
        return false;
    }
    for (; *name != '\0'; name++) {
        if (!isalnum((unsigned char)*name) && *name != '_') {
            return false;
        }
    }
    return true;
}

static int check_env(const struct checker *c)
{
    json_t *vars = json_object_get(c->args, "vars");
    const char *name;
    json_t *value;

    if (!json_is_object(vars)) {
        return refuse(c, "vars must be an object of strings");
    }
    json_object_foreach(vars, name, value)
    {
        if (!is_env_name(name)) {
            return shl_err_set(c->err, SHL_EINVALIDARG,
                               "step %zu (env): \"%.64s\" is not a name of an environment variable",
                               c->index, name);
        }
        if (!json_is_string(value)) {
            return shl_err_set(c->err, SHL_EINVALIDARG,
                               "step %zu (env): the value of %.64s must be a string", c->index,
                               name);
        }
    }
    return 0;
}

/* An absolute path of a file or a folder. */
static int check_path(const struct checker *c, bool is_file)
{
    const json_t *value = json_object_get(c->args, "path");
    const char *path = json_string_value(value);
    size_t len = path ? strlen(path) : 0;

    if (len == 0) {
        return refuse(c, "path is required: a string");
    }
    if (path[0] != '/') {
        return refuse(c, "path must be absolute");
    }
    if (len > IMAGE_PATH_MAX) {
        return refuse(c, "path is too long");
    }
    if (is_file && (path[len - 1] == '/')) {
        return refuse(c, "path must name a file, not a folder");
    }
    return 0;
}

static int check_workdir(const struct checker *c)
{
    int rc = check_path(c, false);

    if (rc == 0 && json_string_length(json_object_get(c->args, "path")) >= NODE_WORKDIR_SIZE) {
        rc = refuse(c, "path is too long");
    }
    return rc;
}

/* Base64 (or text, with encoding "utf8"); adds its size. */
static int check_content(struct checker *c, const json_t *file, const char *label)
{
    const json_t *content = json_object_get(file, "content");
    const json_t *encoding = json_object_get(file, "encoding");
    const char *name = encoding && !json_is_null(encoding) ? json_string_value(encoding) : "base64";
    size_t bytes = 0;
    uint8_t *room;
    int rc;

    if (!json_is_string(content)) {
        return shl_err_set(c->err, SHL_EINVALIDARG,
                           "step %zu (%s): content of %.200s must be a string", c->index, c->type,
                           label);
    }
    if (!name || (strcmp(name, "base64") != 0 && strcmp(name, "utf8") != 0)) {
        return refuse(c, "encoding must be base64 or utf8");
    }
    bytes = json_string_length(content);
    if (strcmp(name, "base64") == 0) {
        room = malloc(bytes + 1);
        if (!room) {
            return shl_err_set(c->err, -ENOMEM, "no memory for the image");
        }
        rc = sodium_base642bin(room, bytes + 1, json_string_value(content), bytes, "\r\n ", &bytes,
                               NULL, sodium_base64_VARIANT_ORIGINAL);
        free(room);
        if (rc != 0) {
            return shl_err_set(c->err, SHL_EINVALIDARG,
                               "step %zu (%s): content of %.200s is not base64", c->index, c->type,
                               label);
        }
    }
    c->content_bytes += bytes;
    if (c->content_bytes > IMAGE_CONTENT_MAX) {
        return shl_err_set(c->err, SHL_EINVALIDARG,
                           "step %zu (%s): the files of an image may hold %u MB together", c->index,
                           c->type, IMAGE_CONTENT_MAX >> 20);
    }
    return 0;
}

static int check_file(struct checker *c)
{
    int rc = check_path(c, true);

    return rc == 0 ? check_content(c, c->args, json_string_value(json_object_get(c->args, "path")))
                   : rc;
}

/* Windows clients send their own separator. */
static bool is_inside(const char *path)
{
    const char *part = path;

    if (*path == '\0' || *path == '/' || *path == '\\') {
        return false;
    }
    while (part) {
        size_t len = strcspn(part, "/\\");

        if (len == 0 || (len == 2 && memcmp(part, "..", 2) == 0) || (len == 1 && part[0] == '.')) {
            return false;
        }
        part = part[len] == '\0' ? NULL : part + len + 1;
    }
    return true;
}

static int check_dir(struct checker *c)
{
    const json_t *files = json_object_get(c->args, "files");
    size_t i;
    int rc = check_path(c, false);

    if (rc == 0 && !json_is_array(files)) {
        rc = refuse(c, "files must be an array");
    }
    if (rc == 0 && json_array_size(files) > IMAGE_ITEMS_MAX) {
        rc = shl_err_set(c->err, SHL_EINVALIDARG,
                         "step %zu (add_dir): at most %d files in one step: split it", c->index,
                         IMAGE_ITEMS_MAX);
    }
    for (i = 0; rc == 0 && i < json_array_size(files); i++) {
        const json_t *file = json_array_get(files, i);
        const char *path = json_string_value(json_object_get(file, "relativePath"));

        if (!path || !is_inside(path) || strlen(path) > IMAGE_PATH_MAX) {
            rc = shl_err_set(c->err, SHL_EINVALIDARG,
                             "step %zu (add_dir): relativePath \"%.200s\" must be a path below the "
                             "folder, without \"..\"",
                             c->index, path ? path : "");
        } else {
            rc = check_content(c, file, path);
        }
    }
    return rc;
}

/* They would end the text of arguments and paths early. */
static bool has_zero(const json_t *value)
{
    const char *name;
    json_t *member;
    size_t i;

    if (json_is_string(value)) {
        return strlen(json_string_value(value)) != json_string_length(value);
    }
    for (i = 0; i < json_array_size(value); i++) {
        if (has_zero(json_array_get(value, i))) {
            return true;
        }
    }
    json_object_foreach((json_t *)value, name, member)
    {
        if (has_zero(member)) {
            return true;
        }
    }
    return false;
}

static int check_step(struct checker *c, enum image_step_type type)
{
    if (has_zero(c->args)) {
        return refuse(c, "a text holds a zero byte");
    }
    switch (type) {
    case IMAGE_STEP_APT:
    case IMAGE_STEP_PIP:
        return check_packages(c);
    case IMAGE_STEP_RUN:
        return check_commands(c);
    case IMAGE_STEP_ENV:
        return check_env(c);
    case IMAGE_STEP_WORKDIR:
        return check_workdir(c);
    case IMAGE_STEP_FILE:
        return check_file(c);
    case IMAGE_STEP_DIR:
        return check_dir(c);
    case IMAGE_STEP_COUNT:
        break;
    }
    return SHL_EINVALIDARG;
}

/* ---- the whole ---------------------------------------------------------------------- */

static int parse_step(struct checker *c, const json_t *json, struct image_step *ret)
{
    const char *type = json_string_value(json_object_get(json, "type"));
    const json_t *args = json_object_get(json, "args");
    int i;

    if (!json_is_object(json) || !type) {
        return shl_err_set(c->err, SHL_EINVALIDARG, "step %zu must be an object with a type",
                           c->index);
    }
    for (i = 0; i < IMAGE_STEP_COUNT && strcmp(type, type_names[i]) != 0; i++) {
    }
    if (i == IMAGE_STEP_COUNT) {
        return shl_err_set(c->err, SHL_EINVALIDARG, "unknown step type: %.64s (step %zu)", type,
                           c->index);
    }
    if (!args || json_is_null(args)) {
        args = json; /* written flat */
    } else if (!json_is_object(args)) {
        return shl_err_set(c->err, SHL_EINVALIDARG, "step %zu (%s): args must be an object",
                           c->index, type);
    }
    *ret =
        (struct image_step){.type = (enum image_step_type)i, .args = args, .is_flat = args == json};
    c->type = type_names[i];
    c->args = args;
    return check_step(c, ret->type);
}

static int parse_steps(struct image_manifest *manifest, struct shl_err *err)
{
    const json_t *steps = json_object_get(manifest->json, "steps");
    struct checker c = {.err = err};
    int rc = 0;

    if (!steps || json_is_null(steps)) {
        return 0;
    }
    if (!json_is_array(steps) || json_array_size(steps) > IMAGE_STEPS_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG, "image.steps must be an array of at most %d steps",
                           IMAGE_STEPS_MAX);
    }
    manifest->steps = calloc(json_array_size(steps) + 1, sizeof(*manifest->steps));
    if (!manifest->steps) {
        return shl_err_set(err, -ENOMEM, "no memory for the image");
    }
    for (; rc == 0 && c.index < json_array_size(steps); c.index++) {
        rc = parse_step(&c, json_array_get(steps, c.index), &manifest->steps[c.index]);
        manifest->step_count += rc == 0;
    }
    return rc;
}

static int parse_base(struct image_manifest *manifest, struct shl_err *err)
{
    static const char *const aliases[] = {"", "base", "default", "ubuntu"};
    const json_t *value = json_object_get(manifest->json, "base");
    const char *base = value && !json_is_null(value) ? json_string_value(value) : "";
    size_t i;

    if (!base) {
        return shl_err_set(err, SHL_EINVALIDARG, "image.base must be a string");
    }
    for (i = 0; i < SHL_ARRAY_SIZE(aliases); i++) {
        if (strcmp(base, aliases[i]) == 0) {
            base = "base";
        }
    }
    if (strlen(base) >= sizeof(manifest->base) || image_name_check(base, NULL) < 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "image.base: template not found: %.128s", base);
    }
    memcpy(manifest->base, base, strlen(base) + 1);
    return 0;
}

/* Out of range is moved into it. */
static int parse_memory(const json_t *json, const char *key, uint32_t *field, struct shl_err *err)
{
    const json_t *value = json_object_get(json, key);
    json_int_t mb;

    if (!value || json_is_null(value)) {
        return 0;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "image.%s must be a number of MB", key);
    }
    mb = json_integer_value(value);
    if (mb > 0) { /* 0 is how some clients say nothing */
        *field = (uint32_t)SHL_MIN(SHL_MAX(mb, (json_int_t)IMAGE_MEMORY_MIN_MB),
                                   (json_int_t)NODE_MEMORY_MAX_MB);
    }
    return 0;
}

static int parse_name(struct image_manifest *manifest, struct shl_err *err)
{
    const json_t *value = json_object_get(manifest->json, "name");
    const char *name = json_string_value(value);

    if (!value || json_is_null(value) || (name && *name == '\0')) {
        return 0;
    }
    if (!name) {
        return shl_err_set(err, SHL_EINVALIDARG, "image.name must be a string");
    }
    if (image_name_check(name, err) < 0) {
        return SHL_EINVALIDARG;
    }
    memcpy(manifest->name, name, strlen(name) + 1);
    return 0;
}

static int check_all_env(const struct image_manifest *manifest, struct shl_err *err)
{
    struct node_kv_list list = {0};
    size_t bytes = 0;
    size_t i;
    int rc = image_manifest_env(manifest, manifest->step_count, &list);

    for (i = 0; i < list.count; i++) {
        bytes += strlen(list.items[i].key) + strlen(list.items[i].value) + 2;
    }
    node_kv_release(&list);
    if (rc == -ENOMEM) {
        return shl_err_set(err, rc, "no memory for the image");
    }
    return rc < 0 || bytes > IMAGE_ENV_MAX
               ? shl_err_set(err, SHL_EINVALIDARG,
                             "the env steps set more than %d variables or %d bytes", NODE_KV_MAX,
                             IMAGE_ENV_MAX)
               : 0;
}

/* ---- the hashes --------------------------------------------------------------------- */

static void add(crypto_hash_sha256_state *state, struct shl_bytes bytes)
{
    (void)crypto_hash_sha256_update(state, bytes.base, bytes.len);
}

/* What the hash is if nothing more follows. */
static void hash_here(const crypto_hash_sha256_state *state, char ret[IMAGE_HASH_SIZE])
{
    crypto_hash_sha256_state end = *state;
    uint8_t hash[crypto_hash_sha256_BYTES];

    add(&end, shl_bytes_of("]}", 2));
    (void)crypto_hash_sha256_final(&end, hash);
    shl_hex_encode(ret, hash, sizeof(hash));
}

/* {"args":...,"type":...}, also of a flat one. */
static int write_step(const struct image_step *step, struct shl_buf *out)
{
    json_t *args = json_copy((json_t *)step->args);
    json_t *whole;
    int rc = -ENOMEM;

    if (args && step->is_flat) {
        (void)json_object_del(args, "type");
        (void)json_object_del(args, "args");
    }
    whole = args ? json_pack("{s:o, s:s}", "args", args, "type", type_names[step->type]) : NULL;
    if (whole) {
        rc = image_canonical(whole, out);
        json_decref(whole);
    }
    return rc;
}

static int hash_all(struct image_manifest *manifest)
{
    crypto_hash_sha256_state state;
    struct shl_buf text;
    size_t i;
    int rc = 0;

    (void)crypto_hash_sha256_init(&state);
    add(&state, shl_bytes_of("{\"base\":\"", 9)); /* base and names need no escapes */
    add(&state, shl_bytes_of(manifest->base, strlen(manifest->base)));
    add(&state, shl_bytes_of("\",\"steps\":[", 11));
    hash_here(&state, manifest->hash);
    shl_buf_init(&text, CANONICAL_MAX);
    for (i = 0; rc == 0 && i < manifest->step_count; i++) {
        struct image_step *step = &manifest->steps[i];

        shl_buf_clear(&text);
        rc = i > 0 ? shl_buf_append_str(&text, ",") : 0;
        if (rc == 0) {
            rc = write_step(step, &text);
        }
        add(&state, shl_buf_bytes(&text));
        hash_here(&state, step->hash);
        memcpy(manifest->hash, step->hash, sizeof(manifest->hash));
    }
    shl_buf_release(&text);
    return rc;
}

/* ---- interface ---------------------------------------------------------------------- */

int image_manifest_parse(json_t *json, struct image_manifest *ret, struct shl_err *err)
{
    struct image_manifest manifest = {.builder_mb = IMAGE_BUILDER_MB,
                                      .runtime_mb = IMAGE_RUNTIME_MB};
    int rc;

    if (!json_is_object(json)) {
        return shl_err_set(err, SHL_EINVALIDARG, "image must be an object: a manifest");
    }
    manifest.json = json_incref(json);
    rc = parse_base(&manifest, err);
    if (rc == 0) {
        rc = parse_memory(json, "builderMemoryMB", &manifest.builder_mb, err);
    }
    if (rc == 0) {
        manifest.is_builder_given =
            json_integer_value(json_object_get(json, "builderMemoryMB")) > 0;
        rc = parse_memory(json, "runtimeMemoryMB", &manifest.runtime_mb, err);
    }
    if (rc == 0) {
        rc = parse_name(&manifest, err);
    }
    if (rc == 0) {
        rc = parse_steps(&manifest, err);
    }
    if (rc == 0) {
        rc = check_all_env(&manifest, err);
    }
    if (rc == 0 && (rc = hash_all(&manifest)) < 0) {
        rc = shl_err_set(err, rc, "the image cannot be read: %s", shl_err_text(rc));
    }
    if (rc < 0) {
        image_manifest_release(&manifest);
        return rc;
    }
    *ret = manifest;
    return 0;
}

void image_manifest_release(struct image_manifest *manifest)
{
    free(manifest->steps);
    json_decref(manifest->json);
    *manifest = (struct image_manifest){.json = NULL};
}

int image_manifest_env(const struct image_manifest *manifest,
                       size_t steps,
                       struct node_kv_list *list)
{
    size_t i;
    int rc = 0;

    for (i = 0; i < steps && rc == 0; i++) {
        const char *name;
        json_t *value;

        if (manifest->steps[i].type != IMAGE_STEP_ENV) {
            continue;
        }
        json_object_foreach(json_object_get(manifest->steps[i].args, "vars"), name, value)
        {
            rc = node_kv_set(list, name, json_string_value(value));
            if (rc < 0) {
                break;
            }
        }
    }
    return rc;
}

const char *image_manifest_workdir(const struct image_manifest *manifest, size_t steps)
{
    while (steps-- > 0) {
        if (manifest->steps[steps].type == IMAGE_STEP_WORKDIR) {
            return json_string_value(json_object_get(manifest->steps[steps].args, "path"));
        }
    }
    return NULL;
}
