#include "node/api/params.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* jansson descends one C frame per level and has a far higher limit of its own. */
static bool is_too_deep(struct shl_bytes text)
{
    unsigned depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.base[i];

        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if ((c == '[' || c == '{') && ++depth > NODE_PARAMS_DEPTH_MAX) {
            return true;
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return false;
}

static bool is_blank(struct shl_bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!strchr(" \t\r\n", text.base[i]) || text.base[i] == '\0') {
            return false;
        }
    }
    return true;
}

int node_params_parse(struct shl_bytes body, json_t **ret_object, struct shl_err *err)
{
    json_error_t why;
    json_t *json;

    if (is_blank(body)) {
        json = json_object();
        if (!json) {
            return shl_err_set(err, -ENOMEM, "no memory for the request");
        }
        *ret_object = json;
        return 0;
    }
    if (is_too_deep(body)) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "the request body is nested more than %d levels deep",
                           NODE_PARAMS_DEPTH_MAX);
    }
    json = json_loadb((const char *)body.base, body.len, 0, &why);
    if (!json) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "the request body is not valid JSON: line %d, column %d: %.100s",
                           why.line, why.column, why.text);
    }
    if (!json_is_object(json)) {
        json_decref(json);
        return shl_err_set(err, SHL_EINVALIDARG, "the request body must be a JSON object");
    }
    *ret_object = json;
    return 0;
}

/* NULL when absent or null. */
static const json_t *find(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);

    return value && !json_is_null(value) ? value : NULL;
}

int node_params_str(const json_t *object,
                    const char *name,
                    const char **ret_text,
                    struct shl_err *err)
{
    const json_t *value = find(object, name);

    if (!value) {
        return 0;
    }
    if (!json_is_string(value)) {
        return shl_err_set(err, SHL_EINVALIDARG, "%s must be a string", name);
    }
    *ret_text = json_string_value(value);
    return 1;
}

int node_params_bool(const json_t *object, const char *name, bool *ret_value, struct shl_err *err)
{
    const json_t *value = find(object, name);

    if (!value) {
        return 0;
    }
    if (!json_is_boolean(value)) {
        return shl_err_set(err, SHL_EINVALIDARG, "%s must be true or false", name);
    }
    *ret_value = json_is_true(value);
    return 1;
}

/* Whole numbers may come as 300 or 300.0: some languages have one number type. */
static bool whole_number(const json_t *value, int64_t *ret)
{
    double real = json_real_value(value);

    if (json_is_integer(value)) {
        *ret = json_integer_value(value);
        return true;
    }
    if (!json_is_real(value) || !(real >= -9e15 && real <= 9e15)) {
        return false;
    }
    *ret = (int64_t)real;
    return (double)*ret >= real && (double)*ret <= real;
}

int node_params_int(const json_t *object,
                    const char *name,
                    int64_t min,
                    int64_t max,
                    int64_t *ret_value,
                    struct shl_err *err)
{
    const json_t *value = find(object, name);
    int64_t number = 0;

    if (!value) {
        return 0;
    }
    if (!whole_number(value, &number)) {
        return shl_err_set(err, SHL_EINVALIDARG, "%s must be a whole number", name);
    }
    if (number < min || number > max) {
        return shl_err_set(err, SHL_EINVALIDARG, "%s must be between %lld and %lld", name,
                           (long long)min, (long long)max);
    }
    *ret_value = number;
    return 1;
}

int node_params_strings(const json_t *object,
                        const char *name,
                        const json_t **ret_array,
                        struct shl_err *err)
{
    const json_t *value = find(object, name);
    size_t index;
    json_t *item;

    if (!value) {
        return 0;
    }
    if (!json_is_array(value)) {
        return shl_err_set(err, SHL_EINVALIDARG, "%s must be an array of strings", name);
    }
    json_array_foreach((json_t *)value, index, item)
    {
        if (!json_is_string(item)) {
            return shl_err_set(err, SHL_EINVALIDARG, "%s must be an array of strings", name);
        }
    }
    *ret_array = value;
    return 1;
}

static int add_entry(struct node_kv_list *list,
                     const char *name,
                     const char *key,
                     const json_t *value,
                     struct shl_err *err)
{
    int rc;

    if (!json_is_string(value)) {
        return shl_err_set(err, SHL_EINVALIDARG, "%s must map names to strings: %.64s is not one",
                           name, key);
    }
    rc = node_kv_set(list, key, json_string_value(value));
    if (rc == SHL_ELIMIT) {
        return shl_err_set(err, SHL_EINVALIDARG, "%s is larger than %d entries or %d bytes", name,
                           NODE_KV_MAX, NODE_KV_BYTES_MAX);
    }
    return rc < 0 ? shl_err_set(err, rc, "no memory for %s", name) : 0;
}

int node_params_map(const json_t *object,
                    const char *name,
                    bool is_env,
                    struct node_kv_list *ret_list,
                    struct shl_err *err)
{
    const json_t *value = find(object, name);
    struct node_kv_list list = {NULL, 0};
    const char *key;
    json_t *item;

    if (!value) {
        return 0;
    }
    if (!json_is_object(value)) {
        return shl_err_set(err, SHL_EINVALIDARG, "%s must be an object of strings", name);
    }
    json_object_foreach((json_t *)value, key, item)
    {
        int rc = 0;

        if (is_env && (*key == '\0' || strchr(key, '='))) {
            rc = shl_err_set(err, SHL_EINVALIDARG,
                             "%s: \"%.64s\" cannot name an environment variable", name, key);
        }
        if (rc == 0) {
            rc = add_entry(&list, name, key, item, err);
        }
        if (rc < 0) {
            node_kv_release(&list);
            return rc;
        }
    }
    *ret_list = list;
    return 1;
}

int node_params_query_int(const char *name,
                          const char *text,
                          int64_t min,
                          int64_t max,
                          int64_t *ret_value,
                          struct shl_err *err)
{
    char *end = NULL;
    long long value;

    errno = 0;
    value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < min || value > max) {
        return shl_err_set(err, SHL_EINVALIDARG, "%s must be a whole number between %lld and %lld",
                           name, (long long)min, (long long)max);
    }
    *ret_value = value;
    return 0;
}
