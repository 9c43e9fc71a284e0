/* Folders and removal: files/list, files/mkdir, DELETE files. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node/api/agent_request.h"
#include "node/api/array_reply.h"
#include "node/api/handlers.h"
#include "node/http/json_text.h"

#define HOME "/home/sandbox" /* what relative paths are relative to, as in the agent */

/* One request with the path of the query, answered with 204. */
static void change(struct node_call *call, const char *op)
{
    struct node_agent_request request;

    node_agent_request_init(&request, op);
    shl_mp_kv_str(&request.w, "path", node_url_query(&call->x->url, "path"));
    node_agent_request_simple(&request, call, NULL);
}

static void mkdir_ready(void *arg)
{
    change(arg, "file.mkdir");
}

void node_handle_file_mkdir(struct node_call *call)
{
    if (node_call_path(call, NULL)) {
        node_call_enter(call, mkdir_ready, NULL, call);
    }
}

/* Is it "/", however it is written? Dots that climb are followed; links are the agent's
 * business. */
static bool is_root(const char *path)
{
    int depth = 0;

    if (*path != '/') {
        return false;
    }
    while (*path != '\0') {
        size_t len;

        path += strspn(path, "/");
        len = strcspn(path, "/");
        if (len == 2 && memcmp(path, "..", 2) == 0) {
            depth = depth > 0 ? depth - 1 : 0;
        } else if (len > 0 && !(len == 1 && *path == '.')) {
            depth++;
        }
        path += len;
    }
    return depth == 0;
}

static void remove_ready(void *arg)
{
    change(arg, "file.remove");
}

void node_handle_file_remove(struct node_call *call)
{
    const char *path = node_call_path(call, NULL);

    if (!path) {
        return;
    }
    if (is_root(path)) {
        node_call_fail(call, SHL_EINVALIDARG, "the root folder cannot be removed");
        return;
    }
    node_call_enter(call, remove_ready, NULL, call);
}

/* List: the argument of the conversion is the folder as JSON text without the closing
 * quotation mark and with a slash at its end, to which names are joined. */

static int convert_entry(void *arg, const msgpack_object *item, struct shl_buf *out)
{
    const struct shl_buf *folder = arg;
    struct shl_bytes name;
    bool is_dir = false;
    uint64_t size = 0;
    size_t from;
    int rc = shl_mp_get_str(item, "name", &name);

    if (rc < 0 || shl_mp_get_bool(item, "is_dir", &is_dir) < 0 ||
        shl_mp_get_uint(item, "size", INT64_MAX, &size) < 0) {
        return SHL_EGUEST;
    }
    rc = shl_buf_append_str(out, "{\"name\":");
    from = shl_buf_len(out);
    if (rc == 0) {
        rc = node_json_append(out, name);
    }
    if (rc == 0) {
        size_t len = shl_buf_len(out) - from;
        char *quoted = malloc(len);

        if (!quoted) {
            return -ENOMEM;
        }
        memcpy(quoted, shl_buf_data(out) + from, len);
        rc = shl_buf_printf(out, ",\"isDir\":%s,\"size\":%llu,\"path\":", is_dir ? "true" : "false",
                            (unsigned long long)size);
        if (rc == 0) {
            rc = shl_buf_append(out, shl_buf_data(folder), shl_buf_len(folder));
        }
        if (rc == 0) { /* the name again, without its opening mark */
            rc = shl_buf_append(out, quoted + 1, len - 1);
        }
        free(quoted);
    }
    return rc < 0 ? rc : shl_buf_append_str(out, "}");
}

static void free_folder(void *arg)
{
    struct shl_buf *folder = arg;

    shl_buf_release(folder);
    free(folder);
}

static struct shl_buf *folder_new(const char *path)
{
    struct shl_buf *folder = calloc(1, sizeof(*folder));
    char *text = NULL;
    size_t len = strlen(path);

    if (!folder) {
        return NULL;
    }
    while (len > 0 && path[len - 1] == '/') {
        len--;
    }
    shl_buf_init(folder, (size_t)(AGENT_PATH_MAX + sizeof(HOME)) * NODE_JSON_ESCAPE_MAX);
    if (asprintf(&text, "%s%.*s/", *path == '/' ? "" : HOME "/", (int)len, path) < 0) {
        text = NULL;
    }
    if (!text || node_json_append_str(folder, text) < 0) {
        free(text);
        free_folder(folder);
        return NULL;
    }
    free(text);
    folder->end--; /* the closing mark */
    return folder;
}

static void list_ready(void *arg)
{
    struct node_call *call = arg;
    struct node_agent_request request;
    const char *path = node_call_path(call, "/");
    struct shl_buf *folder = folder_new(path);

    if (!folder) {
        node_call_fail(call, -ENOMEM, NULL);
        return;
    }
    node_agent_request_init(&request, "file.list");
    shl_mp_kv_str(&request.w, "path", path);
    node_array_reply(&request, call, convert_entry, folder, free_folder);
}

void node_handle_file_list(struct node_call *call)
{
    if (node_call_path(call, "/")) {
        node_call_enter(call, list_ready, NULL, call);
    }
}
