/* JSON as the one text that stands for it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "node/http/json_text.h"
#include "node/image/manifest.h"

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int write_members(const json_t *object,
                         const char **names,
                         size_t count,
                         struct shl_buf *out)
{
    size_t i;
    int rc = shl_buf_append_str(out, "{");

    for (i = 0; rc == 0 && i < count; i++) {
        rc = i > 0 ? shl_buf_append_str(out, ",") : 0;
        if (rc == 0) {
            rc = node_json_append_str(out, names[i]);
        }
        if (rc == 0) {
            rc = shl_buf_append_str(out, ":");
        }
        if (rc == 0) {
            rc = image_canonical(json_object_get(object, names[i]), out);
        }
    }
    return rc == 0 ? shl_buf_append_str(out, "}") : rc;
}

static int write_object(const json_t *object, struct shl_buf *out)
{
    size_t count = json_object_size(object);
    const char **names = calloc(count + 1, sizeof(*names));
    const char *name;
    json_t *value;
    size_t i = 0;
    int rc;

    if (!names) {
        return -ENOMEM;
    }
    json_object_foreach((json_t *)object, name, value)
    {
        names[i++] = name;
    }
    qsort(names, count, sizeof(*names), by_name);
    rc = write_members(object, names, count, out);
    free(names);
    return rc;
}

static int write_array(const json_t *array, struct shl_buf *out)
{
    size_t i;
    int rc = shl_buf_append_str(out, "[");

    for (i = 0; rc == 0 && i < json_array_size(array); i++) {
        rc = i > 0 ? shl_buf_append_str(out, ",") : 0;
        if (rc == 0) {
            rc = image_canonical(json_array_get(array, i), out);
        }
    }
    return rc == 0 ? shl_buf_append_str(out, "]") : rc;
}

static int write_plain(const json_t *value, struct shl_buf *out)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    int rc = text ? shl_buf_append_str(out, text) : -ENOMEM;

    free(text);
    return rc;
}

int image_canonical(const json_t *value, struct shl_buf *out)
{
    if (json_is_object(value)) {
        return write_object(value, out);
    }
    if (json_is_array(value)) {
        return write_array(value, out);
    }
    if (json_is_string(value)) {
        return node_json_append(out,
                                shl_bytes_of(json_string_value(value), json_string_length(value)));
    }
    return write_plain(value, out);
}
