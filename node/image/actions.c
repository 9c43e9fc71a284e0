#include "node/image/actions.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "node/sandbox/text.h"

#define OWNER       "1000:1000" /* of user sandbox */
#define CHUNK_BYTES (64 * 1024) /* of the paths given to one program */
#define CHUNK_COUNT 500

/* Folders that are not there yet are made, for the user. */
#define MAKE_FOLDERS                                                       \
    "for d do if [ ! -d \"$d\" ]; then mkdir -p -- \"$d\" && chown " OWNER \
    " -- \"$d\" || exit 1; fi; done"
/* $1: lines of /etc/environment, $2: lines of shell. */
#define ADD_ENV                                                                \
    "set -e; printf '%s' \"$1\" >>/etc/environment; mkdir -p /etc/profile.d; " \
    "printf '%s' \"$2\" >>/etc/profile.d/osb-image.sh"

/* ---- programs ----------------------------------------------------------------------- */

static int push(struct image_action *action, const char *text, size_t len)
{
    char **argv = realloc(action->argv, (action->argc + 2) * sizeof(*argv));

    if (!argv) {
        return -ENOMEM;
    }
    action->argv = argv;
    argv[action->argc] = strndup(text, len);
    if (!argv[action->argc]) {
        return -ENOMEM;
    }
    argv[++action->argc] = NULL;
    return 0;
}

static int push_all(struct image_action *action, const char *const *texts)
{
    int rc = 0;

    for (; *texts && rc == 0; texts++) {
        rc = push(action, *texts, strlen(*texts));
    }
    return rc;
}

/* Each string may hold several, divided by blanks, and flags. */
static int push_words(struct image_action *action, const json_t *array)
{
    size_t i;
    int rc = 0;

    for (i = 0; i < json_array_size(array); i++) {
        const char *text = json_string_value(json_array_get(array, i));

        while (rc == 0 && *(text += strspn(text, " \t\r\n")) != '\0') {
            size_t len = strcspn(text, " \t\r\n");

            rc = push(action, text, len);
            text += len;
        }
    }
    return rc;
}

static int apt(const struct image_step *step, size_t index, struct image_action *ret)
{
    static const char *const update[] = {"apt-get", "update", "-q", NULL};
    static const char *const install[] = {"apt-get", "install", "-y", "-q", NULL};
    int rc;

    if (index > 1) {
        return 0;
    }
    ret->as_root = true;
    ret->envs[0] = "DEBIAN_FRONTEND";
    ret->envs[1] = "noninteractive";
    rc = push_all(ret, index == 0 ? update : install);
    if (rc == 0 && index == 1) {
        rc = push_words(ret, json_object_get(step->args, "packages"));
    }
    return rc < 0 ? rc : 1;
}

static int pip(const struct image_step *step, size_t index, struct image_action *ret)
{
    static const char *const install[] = {"python3", "-m", "pip", "install", "-q", NULL};
    int rc;

    if (index > 0) {
        return 0;
    }
    ret->as_root = true;
    ret->envs[0] = "PIP_BREAK_SYSTEM_PACKAGES"; /* the image is for nothing else */
    ret->envs[1] = "1";
    ret->envs[2] = "PIP_ROOT_USER_ACTION";
    ret->envs[3] = "ignore";
    rc = push_all(ret, install);
    if (rc == 0) {
        rc = push_words(ret, json_object_get(step->args, "packages"));
    }
    return rc < 0 ? rc : 1;
}

static int run(const struct image_step *step, size_t index, struct image_action *ret)
{
    static const char *const shell[] = {"/bin/sh", "-c", NULL};
    const json_t *commands = json_object_get(step->args, "commands");
    struct shl_buf text;
    size_t i;
    int rc;

    if (index > 0) {
        return 0;
    }
    shl_buf_init(&text, 2 * IMAGE_COMMAND_MAX);
    rc = push_all(ret, shell);
    for (i = 0; i < json_array_size(commands) && rc == 0; i++) {
        rc = i > 0 ? shl_buf_append_str(&text, " && ") : 0;
        if (rc == 0) {
            rc = shl_buf_append_str(&text, json_string_value(json_array_get(commands, i)));
        }
    }
    if (rc == 0) {
        rc = push(ret, (const char *)shl_buf_data(&text), shl_buf_len(&text));
    }
    shl_buf_release(&text);
    return rc < 0 ? -ENOMEM : 1;
}

/* ---- env ---------------------------------------------------------------------------- */

/* 'it'\''s' */
static int quote(struct shl_buf *out, const char *text)
{
    int rc = shl_buf_append_str(out, "'");

    while (rc == 0 && *text != '\0') {
        size_t len = strcspn(text, "'");

        rc = shl_buf_append(out, text, len);
        text += len;
        if (rc == 0 && *text == '\'') {
            rc = shl_buf_append_str(out, "'\\''");
            text++;
        }
    }
    return rc == 0 ? shl_buf_append_str(out, "'\n") : rc;
}

/* The file has no way to write a line break; processes get such a value all the same. */
static int add_line(struct shl_buf *out, const char *name, const char *value)
{
    return strpbrk(value, "\r\n") ? 0 : shl_buf_printf(out, "%s=%s\n", name, value);
}

static int env(const struct image_step *step, size_t index, struct image_action *ret)
{
    static const char *const shell[] = {"/bin/sh", "-c", ADD_ENV, "sh", NULL};
    struct shl_buf lines, exports;
    const char *name;
    json_t *value;
    int rc;

    if (index > 0) {
        return 0;
    }
    shl_buf_init(&lines, 2 * IMAGE_ENV_MAX);
    shl_buf_init(&exports, 8 * IMAGE_ENV_MAX);
    ret->as_root = true;
    rc = push_all(ret, shell);
    json_object_foreach(json_object_get(step->args, "vars"), name, value)
    {
        if (rc == 0) {
            rc = add_line(&lines, name, json_string_value(value));
        }
        if (rc == 0) {
            rc = shl_buf_printf(&exports, "export %s=", name);
        }
        if (rc == 0) {
            rc = quote(&exports, json_string_value(value));
        }
    }
    if (rc == 0) {
        rc = push(ret, shl_buf_len(&lines) ? (const char *)shl_buf_data(&lines) : "",
                  shl_buf_len(&lines));
    }
    if (rc == 0) {
        rc = push(ret, shl_buf_len(&exports) ? (const char *)shl_buf_data(&exports) : "",
                  shl_buf_len(&exports));
    }
    shl_buf_release(&lines);
    shl_buf_release(&exports);
    return rc < 0 ? -ENOMEM : 1;
}

/* ---- folders and files -------------------------------------------------------------- */

static const char *path_of(const struct image_step *step)
{
    return json_string_value(json_object_get(step->args, "path"));
}

static int begin_folders(struct image_action *ret)
{
    static const char *const shell[] = {"/bin/sh", "-c", MAKE_FOLDERS, "sh", NULL};

    ret->as_root = true;
    return push_all(ret, shell);
}

static int folder(const char *path, size_t len, struct image_action *ret)
{
    int rc = begin_folders(ret);

    if (rc == 0) {
        rc = push(ret, path, len);
    }
    return rc < 0 ? rc : 1;
}

static int begin_chown(struct image_action *ret)
{
    static const char *const argv[] = {"chown", OWNER, "--", NULL};

    ret->as_root = true;
    return push_all(ret, argv);
}

static int write_file(const json_t *file, char *path, struct image_action *ret)
{
    const json_t *content = json_object_get(file, "content");
    const char *encoding = json_string_value(json_object_get(file, "encoding"));
    size_t len = json_string_length(content);

    ret->is_write = true;
    ret->path = path;
    ret->content = malloc(len + 1);
    if (!ret->path || !ret->content) {
        return -ENOMEM;
    }
    if (encoding && strcmp(encoding, "utf8") == 0) {
        memcpy(ret->content, json_string_value(content), len);
        ret->content_len = len;
        return 1;
    }
    /* checked before */
    return sodium_base642bin(ret->content, len + 1, json_string_value(content), len, "\r\n ",
                             &ret->content_len, NULL, sodium_base64_VARIANT_ORIGINAL) == 0
               ? 1
               : -EINVAL;
}

static int file(const struct image_step *step, size_t index, struct image_action *ret)
{
    const char *path = path_of(step);
    const char *name = strrchr(path, '/');
    int rc;

    switch (index) {
    case 0:
        return folder(path, name == path ? 1 : (size_t)(name - path), ret);
    case 1:
        return write_file(step->args, strdup(path), ret);
    case 2:
        rc = begin_chown(ret);
        if (rc == 0) {
            rc = push(ret, path, strlen(path));
        }
        return rc < 0 ? rc : 1;
    default:
        return 0;
    }
}

/* Without slashes at its end: 0 for the root. */
static size_t base_len(const char *base)
{
    size_t len = strlen(base);

    while (len > 0 && base[len - 1] == '/') {
        len--;
    }
    return len;
}

/* The whole path of a file of an add_dir step, on the heap. */
static char *path_below(const char *base, const char *relative)
{
    size_t len = base_len(base);
    char *path;

    if (asprintf(&path, "%.*s/%s", (int)len, base, relative) < 0) {
        return NULL;
    }
    for (char *c = path + len; *c != '\0'; c++) {
        if (*c == '\\') {
            *c = '/';
        }
    }
    return path;
}

static const json_t *file_at(const struct image_step *step, size_t i)
{
    return json_array_get(json_object_get(step->args, "files"), i);
}

static char *file_path(const struct image_step *step, size_t i)
{
    return path_below(path_of(step),
                      json_string_value(json_object_get(file_at(step, i), "relativePath")));
}

/* All folders between the base of the step and a file, the outermost first, unless the file
 * before is in the same one. */
static int push_folders(struct image_action *ret, const char *path, size_t base_bytes)
{
    const char *last = ret->argc > 0 ? ret->argv[ret->argc - 1] : "";
    const char *end = strrchr(path, '/');
    const char *slash = path + base_bytes;
    int rc = 0;

    if (strncmp(last, path, (size_t)(end - path)) == 0 && last[end - path] == '\0') {
        return 0;
    }
    while (rc == 0 && (slash = strchr(slash + 1, '/')) != NULL) {
        rc = push(ret, path, (size_t)(slash - path));
    }
    return rc;
}

/* Program arguments for files from *at on, as many as fit one program. */
static int chunk(const struct image_step *step, bool folders, size_t *at, struct image_action *ret)
{
    size_t base_bytes = base_len(path_of(step));
    size_t count = json_array_size(json_object_get(step->args, "files"));
    size_t bytes = 0;
    int rc = 0;

    for (; *at < count && bytes < CHUNK_BYTES && ret->argc < CHUNK_COUNT && rc == 0; (*at)++) {
        char *path = file_path(step, *at);

        if (!path) {
            return -ENOMEM;
        }
        bytes += strlen(path);
        rc = folders ? push_folders(ret, path, base_bytes) : push(ret, path, strlen(path));
        free(path);
    }
    return rc;
}

/* Chunk @index of the folders (or of the owners): 1, or 0 with how many there are. */
static int chunk_at(const struct image_step *step,
                    bool folders,
                    size_t index,
                    size_t *ret_count,
                    struct image_action *ret)
{
    size_t count = json_array_size(json_object_get(step->args, "files"));
    size_t at = 0;
    size_t i;

    for (i = 0; at < count; i++) {
        int rc = folders ? begin_folders(ret) : begin_chown(ret);

        if (rc == 0) {
            rc = chunk(step, folders, &at, ret);
        }
        if (rc < 0 || i == index) {
            return rc < 0 ? rc : 1;
        }
        image_action_release(ret);
    }
    *ret_count = i;
    return 0;
}

/* The folder itself, those in it, the files, their owner. */
static int dir(struct image_step *step, size_t index, struct image_action *ret)
{
    const char *path = path_of(step);
    size_t files = json_array_size(json_object_get(step->args, "files"));
    size_t chunks = 0;
    int rc;

    if (index-- == 0) {
        return folder(path, strlen(path), ret);
    }
    if (step->folder_chunks == 0 || index < step->folder_chunks) {
        rc = chunk_at(step, true, index, &chunks, ret);
        if (rc != 0) {
            return rc;
        }
        step->folder_chunks = chunks;
    }
    index -= step->folder_chunks;
    if (index < files) {
        return write_file(file_at(step, index), file_path(step, index), ret);
    }
    return chunk_at(step, false, index - files, &chunks, ret);
}

/* ---- interface ---------------------------------------------------------------------- */

static int get(struct image_step *step, size_t index, struct image_action *ret)
{
    const char *path;

    switch (step->type) {
    case IMAGE_STEP_APT:
        return apt(step, index, ret);
    case IMAGE_STEP_PIP:
        return pip(step, index, ret);
    case IMAGE_STEP_RUN:
        return run(step, index, ret);
    case IMAGE_STEP_ENV:
        return env(step, index, ret);
    case IMAGE_STEP_WORKDIR:
        path = path_of(step);
        return index > 0 ? 0 : folder(path, strlen(path), ret);
    case IMAGE_STEP_FILE:
        return file(step, index, ret);
    case IMAGE_STEP_DIR:
        return dir(step, index, ret);
    case IMAGE_STEP_COUNT:
        break;
    }
    return 0;
}

int image_action_get(struct image_step *step, size_t index, struct image_action *ret)
{
    int rc;

    *ret = (struct image_action){.argv = NULL};
    rc = get(step, index, ret);
    if (rc < 1) {
        image_action_release(ret);
    }
    return rc;
}

void image_action_release(struct image_action *action)
{
    size_t i;

    for (i = 0; i < action->argc; i++) {
        free(action->argv[i]);
    }
    free(action->argv);
    free(action->path);
    free(action->content);
    *action = (struct image_action){.argv = NULL};
}

static void describe_strings(const json_t *array, const char *between, struct shl_buf *out)
{
    size_t i;

    for (i = 0; i < json_array_size(array); i++) {
        (void)!shl_buf_append_str(out, i > 0 ? between : " ");
        (void)!shl_buf_append_str(out, json_string_value(json_array_get(array, i)));
    }
}

/* Names only: a value may be a secret. */
static void describe_env(const struct image_step *step, struct shl_buf *out)
{
    const char *name;
    json_t *value;

    json_object_foreach(json_object_get(step->args, "vars"), name, value)
    {
        (void)!shl_buf_printf(out, " %s", name);
    }
}

void image_step_describe(const struct image_step *step, char *dst, size_t size)
{
    struct shl_buf text;

    shl_buf_init(&text, 2 * IMAGE_COMMAND_MAX);
    (void)!shl_buf_append_str(&text, image_step_name(step->type));
    switch (step->type) {
    case IMAGE_STEP_APT:
    case IMAGE_STEP_PIP:
        describe_strings(json_object_get(step->args, "packages"), " ", &text);
        break;
    case IMAGE_STEP_RUN:
        describe_strings(json_object_get(step->args, "commands"), " && ", &text);
        break;
    case IMAGE_STEP_ENV:
        describe_env(step, &text);
        break;
    case IMAGE_STEP_WORKDIR:
    case IMAGE_STEP_FILE:
    case IMAGE_STEP_DIR:
        (void)!shl_buf_printf(&text, " %s", path_of(step));
        break;
    case IMAGE_STEP_COUNT:
        break;
    }
    if (step->type == IMAGE_STEP_DIR) {
        (void)!shl_buf_printf(&text, " (%zu files)",
                              json_array_size(json_object_get(step->args, "files")));
    }
    node_text_clean(dst, size, shl_buf_bytes(&text));
    shl_buf_release(&text);
}
