#include "agent/environ.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/io.h"

#define FILE_MAX_BYTES 65536u

void agent_environ_init(struct agent_environ *env)
{
    *env = (struct agent_environ){0};
}

void agent_environ_release(struct agent_environ *env)
{
    size_t i;

    for (i = 0; i < env->count; i++) {
        free(env->vars[i]);
    }
    free(env->vars);
    agent_environ_init(env);
}

static char **find_slot(const struct agent_environ *env, struct shl_bytes name)
{
    size_t i;

    for (i = 0; i < env->count; i++) {
        if (strncmp(env->vars[i], (const char *)name.base, name.len) == 0 &&
            env->vars[i][name.len] == '=') {
            return &env->vars[i];
        }
    }
    return NULL;
}

static int grow(struct agent_environ *env)
{
    size_t cap = env->cap ? env->cap * 2 : 32;
    char **vars;

    if (env->count >= AGENT_ENVIRON_MAX) {
        return SHL_ELIMIT;
    }
    if (env->count + 1 < env->cap) {
        return 0;
    }
    vars = realloc(env->vars, cap * sizeof(*vars));
    if (!vars) {
        return -ENOMEM;
    }
    env->vars = vars;
    env->cap = cap;
    return 0;
}

static bool name_is_valid(struct shl_bytes name)
{
    return name.len > 0 && !memchr(name.base, '=', name.len) && !memchr(name.base, 0, name.len);
}

int agent_environ_set(struct agent_environ *env, struct shl_bytes name, struct shl_bytes value)
{
    char **slot;
    char *var;
    int rc;

    if (!name_is_valid(name) || (value.len > 0 && memchr(value.base, 0, value.len))) {
        return SHL_EINVALIDARG;
    }
    rc = grow(env);
    if (rc < 0) {
        return rc;
    }
    var = malloc(name.len + value.len + 2);
    if (!var) {
        return -ENOMEM;
    }
    memcpy(var, name.base, name.len);
    var[name.len] = '=';
    if (value.len > 0) {
        memcpy(var + name.len + 1, value.base, value.len);
    }
    var[name.len + 1 + value.len] = '\0';
    slot = find_slot(env, name);
    if (slot) {
        free(*slot);
        *slot = var;
    } else {
        env->vars[env->count++] = var;
        env->vars[env->count] = NULL;
    }
    return 0;
}

int agent_environ_set_str(struct agent_environ *env, const char *name, const char *value)
{
    return agent_environ_set(env, shl_bytes_of(name, strlen(name)),
                             shl_bytes_of(value, strlen(value)));
}

int agent_environ_merge(struct agent_environ *env, const struct agent_environ *from)
{
    size_t i;
    int rc = 0;

    for (i = 0; rc == 0 && i < from->count; i++) {
        const char *var = from->vars[i];
        size_t name_len = strcspn(var, "=");

        rc = agent_environ_set(env, shl_bytes_of(var, name_len),
                               shl_bytes_of(var + name_len + 1, strlen(var + name_len + 1)));
    }
    return rc;
}

int agent_environ_merge_map(struct agent_environ *env, const msgpack_object *map)
{
    uint32_t i;
    int rc = 0;

    if (!map) {
        return 0;
    }
    if (map->type != MSGPACK_OBJECT_MAP) {
        return SHL_EINVALIDARG;
    }
    for (i = 0; rc == 0 && i < map->via.map.size; i++) {
        const msgpack_object_kv *kv = &map->via.map.ptr[i];

        if (kv->key.type != MSGPACK_OBJECT_STR || kv->val.type != MSGPACK_OBJECT_STR) {
            return SHL_EINVALIDARG;
        }
        rc = agent_environ_set(env, shl_bytes_of(kv->key.via.str.ptr, kv->key.via.str.size),
                               shl_bytes_of(kv->val.via.str.ptr, kv->val.via.str.size));
    }
    return rc;
}

/* Value without the quotes around it and blanks behind it. */
static char *unquote(char *value)
{
    size_t len = strlen(value);

    while (len > 0 && strchr(" \t\r", value[len - 1])) {
        value[--len] = '\0';
    }
    if (len >= 2 && (value[0] == '"' || value[0] == '\'') && value[len - 1] == value[0]) {
        value[len - 1] = '\0';
        value++;
    }
    return value;
}

/* Negative only when nothing more will fit. */
static int merge_line(struct agent_environ *env, char *line)
{
    char *equals;
    int rc;

    line += strspn(line, " \t");
    if (strncmp(line, "export ", 7) == 0) {
        line += 7 + strspn(line + 7, " \t");
    }
    equals = strchr(line, '=');
    if (*line == '#' || !equals) {
        return 0;
    }
    *equals = '\0';
    rc = agent_environ_set_str(env, line, unquote(equals + 1));
    return rc == SHL_EINVALIDARG ? 0 : rc;
}

void agent_environ_merge_file(struct agent_environ *env, const char *path)
{
    struct shl_buf buf;
    char *text = NULL, *at, *line;
    int rc = 0;

    shl_buf_init(&buf, FILE_MAX_BYTES);
    if (shl_read_file(path, &buf) == 0) {
        text = shl_bytes_dup_str(shl_buf_bytes(&buf));
    }
    shl_buf_release(&buf);
    for (at = text; rc == 0 && at && (line = strsep(&at, "\n")) != NULL;) {
        rc = merge_line(env, line);
    }
    free(text);
}

const char *agent_environ_get(const struct agent_environ *env, const char *name)
{
    char **slot = find_slot(env, shl_bytes_of(name, strlen(name)));

    return slot ? *slot + strlen(name) + 1 : NULL;
}
