#include "node/api/routes.h"

#include <stdio.h>
#include <string.h>

#include "node/api/handlers.h"

/* clang-format off */
const struct node_route node_routes[] = {
    {NODE_METHOD_GET,    "health",                                 NODE_ROUTE_HERE,       NODE_ROUTE_ROOT | NODE_ROUTE_OPEN, node_handle_health},
    {NODE_METHOD_GET,    "healthz",                                NODE_ROUTE_HERE,       NODE_ROUTE_ROOT | NODE_ROUTE_OPEN, node_handle_healthz},
    {NODE_METHOD_GET,    "readyz",                                 NODE_ROUTE_HERE,       NODE_ROUTE_ROOT | NODE_ROUTE_OPEN, node_handle_readyz},
    {NODE_METHOD_GET,    "metrics",                                NODE_ROUTE_HERE,       NODE_ROUTE_ROOT | NODE_ROUTE_OPEN, node_handle_metrics},
    {NODE_METHOD_GET,    "debug/state",                            NODE_ROUTE_HERE,       NODE_ROUTE_ROOT | NODE_ROUTE_ADMIN, node_handle_debug_state},
    {NODE_METHOD_GET,    "workers",                                NODE_ROUTE_HERE,       NODE_ROUTE_API, node_handle_workers},

    {NODE_METHOD_POST,   "sandboxes",                              NODE_ROUTE_CREATE,     NODE_ROUTE_API | NODE_ROUTE_LARGE, node_handle_sandbox_create},
    {NODE_METHOD_GET,    "sandboxes",                              NODE_ROUTE_LIST,       NODE_ROUTE_API, node_handle_sandbox_list},
    {NODE_METHOD_GET,    "sandboxes/:id",                          NODE_ROUTE_SANDBOX,    NODE_ROUTE_API | NODE_ROUTE_TOKEN | NODE_ROUTE_SHOWS, node_handle_sandbox_get},
    {NODE_METHOD_DELETE, "sandboxes/:id",                          NODE_ROUTE_SANDBOX,    NODE_ROUTE_API, node_handle_sandbox_kill},
    {NODE_METHOD_POST,   "sandboxes/:id/timeout",                  NODE_ROUTE_SANDBOX,    NODE_ROUTE_API, node_handle_sandbox_timeout},
    {NODE_METHOD_POST,   "sandboxes/:id/hibernate",                NODE_ROUTE_SANDBOX,    NODE_ROUTE_API, node_handle_sandbox_hibernate},
    {NODE_METHOD_POST,   "sandboxes/:id/wake",                     NODE_ROUTE_SANDBOX,    NODE_ROUTE_API, node_handle_sandbox_wake},
    {NODE_METHOD_POST,   "sandboxes/:id/reboot",                   NODE_ROUTE_SANDBOX,    NODE_ROUTE_API, node_handle_sandbox_reboot},
    {NODE_METHOD_POST,   "sandboxes/:id/power-cycle",              NODE_ROUTE_SANDBOX,    NODE_ROUTE_API, node_handle_sandbox_power_cycle},
    {NODE_METHOD_POST,   "sandboxes/:id/migrate",                  NODE_ROUTE_SANDBOX,    NODE_ROUTE_API, node_handle_sandbox_migrate},
    {NODE_METHOD_POST,   "sandboxes/:id/recover",                  NODE_ROUTE_SANDBOX,    NODE_ROUTE_API | NODE_ROUTE_LOST, node_handle_sandbox_recover},

    {NODE_METHOD_POST,   "sandboxes/:id/checkpoints",              NODE_ROUTE_SANDBOX,    NODE_ROUTE_API, node_handle_checkpoint_create},
    {NODE_METHOD_GET,    "sandboxes/:id/checkpoints",              NODE_ROUTE_SANDBOX,    NODE_ROUTE_API, node_handle_checkpoint_list},
    {NODE_METHOD_DELETE, "sandboxes/:id/checkpoints/:cid",         NODE_ROUTE_SANDBOX,    NODE_ROUTE_API, node_handle_checkpoint_delete},
    {NODE_METHOD_POST,   "sandboxes/:id/checkpoints/:cid/restore", NODE_ROUTE_SANDBOX,    NODE_ROUTE_API, node_handle_checkpoint_restore},
    {NODE_METHOD_POST,   "sandboxes/from-checkpoint/:cid",         NODE_ROUTE_CHECKPOINT, NODE_ROUTE_API, node_handle_fork},

    {NODE_METHOD_POST,   "sandboxes/checkpoints/:cid/patches",     NODE_ROUTE_CHECKPOINT, NODE_ROUTE_API, node_handle_patch_create},
    {NODE_METHOD_GET,    "sandboxes/checkpoints/:cid/patches",     NODE_ROUTE_CHECKPOINT, NODE_ROUTE_API, node_handle_patch_list},
    {NODE_METHOD_DELETE, "sandboxes/checkpoints/:cid/patches/:sid", NODE_ROUTE_CHECKPOINT, NODE_ROUTE_API, node_handle_patch_delete},

    {NODE_METHOD_POST,   "snapshots",                              NODE_ROUTE_CREATE,     NODE_ROUTE_API | NODE_ROUTE_LARGE, node_handle_snapshot_create},
    {NODE_METHOD_GET,    "snapshots",                              NODE_ROUTE_HERE,       NODE_ROUTE_API, node_handle_snapshot_list},
    {NODE_METHOD_GET,    "snapshots/:id",                          NODE_ROUTE_HERE,       NODE_ROUTE_API, node_handle_snapshot_get},
    {NODE_METHOD_DELETE, "snapshots/:id",                          NODE_ROUTE_HERE,       NODE_ROUTE_API, node_handle_snapshot_delete},

    {NODE_METHOD_POST,   "sandboxes/:id/exec/run",                 NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA, node_handle_exec_run},
    {NODE_METHOD_POST,   "sandboxes/:id/exec/run-async",           NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA, node_handle_exec_run_async},
    {NODE_METHOD_POST,   "sandboxes/:id/exec",                     NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA, node_handle_exec_start},
    {NODE_METHOD_GET,    "sandboxes/:id/exec",                     NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA, node_handle_exec_list},
    {NODE_METHOD_GET,    "sandboxes/:id/exec/:sid",                NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA | NODE_ROUTE_SOCKET, node_handle_exec_attach},
    {NODE_METHOD_GET,    "sandboxes/:id/exec/:sid/result",         NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA, node_handle_exec_result},
    {NODE_METHOD_POST,   "sandboxes/:id/exec/:sid/kill",           NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA, node_handle_exec_kill},

    {NODE_METHOD_POST,   "sandboxes/:id/agent",                    NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA, node_handle_agent_start},
    {NODE_METHOD_GET,    "sandboxes/:id/agent",                    NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA, node_handle_agent_list},
    {NODE_METHOD_GET,    "sandboxes/:id/agent/:sid",               NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA | NODE_ROUTE_SOCKET, node_handle_agent_attach},
    {NODE_METHOD_POST,   "sandboxes/:id/agent/:sid/prompt",        NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA, node_handle_agent_prompt},
    {NODE_METHOD_POST,   "sandboxes/:id/agent/:sid/configure",     NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA, node_handle_agent_configure},
    {NODE_METHOD_POST,   "sandboxes/:id/agent/:sid/interrupt",     NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA, node_handle_agent_interrupt},
    {NODE_METHOD_POST,   "sandboxes/:id/agent/:sid/kill",          NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA, node_handle_agent_kill},

    {NODE_METHOD_POST,   "sandboxes/:id/pty",                      NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA, node_handle_pty_create},
    {NODE_METHOD_GET,    "sandboxes/:id/pty/:sid",                 NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA | NODE_ROUTE_SOCKET, node_handle_pty_attach},
    {NODE_METHOD_DELETE, "sandboxes/:id/pty/:sid",                 NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA, node_handle_pty_kill},
    {NODE_METHOD_POST,   "sandboxes/:id/pty/:sid/resize",          NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA, node_handle_pty_resize},

    {NODE_METHOD_GET,    "sandboxes/:id/files",                    NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA, node_handle_file_read},
    {NODE_METHOD_PUT,    "sandboxes/:id/files",                    NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA | NODE_ROUTE_STREAM, node_handle_file_write},
    {NODE_METHOD_DELETE, "sandboxes/:id/files",                    NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA, node_handle_file_remove},
    {NODE_METHOD_GET,    "sandboxes/:id/files/list",               NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA, node_handle_file_list},
    {NODE_METHOD_POST,   "sandboxes/:id/files/mkdir",              NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA, node_handle_file_mkdir},
    {NODE_METHOD_POST,   "sandboxes/:id/files/download-url",       NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA, node_handle_file_download_url},
    {NODE_METHOD_POST,   "sandboxes/:id/files/upload-url",         NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA, node_handle_file_upload_url},
    {NODE_METHOD_GET,    "sandboxes/:id/files/download",           NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA | NODE_ROUTE_SIGNED, node_handle_file_read},
    {NODE_METHOD_PUT,    "sandboxes/:id/files/upload",             NODE_ROUTE_SANDBOX,    NODE_ROUTE_DATA | NODE_ROUTE_SIGNED | NODE_ROUTE_STREAM, node_handle_file_write},

    {NODE_METHOD_POST,   "sandboxes/:id/preview",                  NODE_ROUTE_SANDBOX,    NODE_ROUTE_API, node_handle_preview_create},
    {NODE_METHOD_GET,    "sandboxes/:id/preview",                  NODE_ROUTE_SANDBOX,    NODE_ROUTE_API, node_handle_preview_list},
    {NODE_METHOD_DELETE, "sandboxes/:id/preview/:sid",             NODE_ROUTE_SANDBOX,    NODE_ROUTE_API, node_handle_preview_delete},
    {NODE_METHOD_POST,   "sandboxes/:id/preview/rotate",           NODE_ROUTE_SANDBOX,    NODE_ROUTE_API, node_handle_preview_rotate},

    {NODE_METHOD_POST,   "secret-stores",                          NODE_ROUTE_HERE,       NODE_ROUTE_API, node_handle_secret_store_create},
    {NODE_METHOD_GET,    "secret-stores",                          NODE_ROUTE_HERE,       NODE_ROUTE_API, node_handle_secret_store_list},
    {NODE_METHOD_GET,    "secret-stores/:id",                      NODE_ROUTE_HERE,       NODE_ROUTE_API, node_handle_secret_store_get},
    {NODE_METHOD_PUT,    "secret-stores/:id",                      NODE_ROUTE_HERE,       NODE_ROUTE_API, node_handle_secret_store_update},
    {NODE_METHOD_DELETE, "secret-stores/:id",                      NODE_ROUTE_HERE,       NODE_ROUTE_API, node_handle_secret_store_delete},
    {NODE_METHOD_GET,    "secret-stores/:id/secrets",              NODE_ROUTE_HERE,       NODE_ROUTE_API, node_handle_secret_list},
    {NODE_METHOD_PUT,    "secret-stores/:id/secrets/:sid",         NODE_ROUTE_HERE,       NODE_ROUTE_API, node_handle_secret_set},
    {NODE_METHOD_DELETE, "secret-stores/:id/secrets/:sid",         NODE_ROUTE_HERE,       NODE_ROUTE_API, node_handle_secret_delete},

    {NODE_METHOD_GET,    "cluster",                                NODE_ROUTE_HERE,       NODE_ROUTE_API, node_handle_cluster},
    {NODE_METHOD_GET,    "cluster/backup",                         NODE_ROUTE_HERE,       NODE_ROUTE_API | NODE_ROUTE_ADMIN, node_handle_cluster_backup},
    {NODE_METHOD_POST,   "nodes/:id/drain",                        NODE_ROUTE_HERE,       NODE_ROUTE_API | NODE_ROUTE_ADMIN, node_handle_node_drain},
    {NODE_METHOD_POST,   "nodes/:id/evict",                        NODE_ROUTE_HERE,       NODE_ROUTE_API | NODE_ROUTE_ADMIN, node_handle_worker_evict},
    {NODE_METHOD_POST,   "nodes/:id/cordon",                       NODE_ROUTE_HERE,       NODE_ROUTE_API | NODE_ROUTE_ADMIN, node_handle_node_cordon},
    {NODE_METHOD_POST,   "nodes/:id/uncordon",                     NODE_ROUTE_HERE,       NODE_ROUTE_API | NODE_ROUTE_ADMIN, node_handle_node_uncordon},
    {NODE_METHOD_DELETE, "nodes/:id",                              NODE_ROUTE_HERE,       NODE_ROUTE_API | NODE_ROUTE_ADMIN, node_handle_node_remove},
    {NODE_METHOD_POST,   "join-tokens",                            NODE_ROUTE_HERE,       NODE_ROUTE_API | NODE_ROUTE_ADMIN, node_handle_join_token},
    {NODE_METHOD_POST,   "admin/workers/:id/drain",                NODE_ROUTE_HERE,       NODE_ROUTE_ROOT | NODE_ROUTE_ADMIN, node_handle_worker_drain},
    {NODE_METHOD_POST,   "admin/workers/:id/evict",                NODE_ROUTE_HERE,       NODE_ROUTE_ROOT | NODE_ROUTE_ADMIN, node_handle_worker_evict},
    {NODE_METHOD_POST,   "admin/sandboxes/:id/hibernate",          NODE_ROUTE_SANDBOX,    NODE_ROUTE_ROOT | NODE_ROUTE_ADMIN, node_handle_sandbox_hibernate},
    {NODE_METHOD_OTHER,  NULL, NODE_ROUTE_HERE, 0, NULL},
};
/* clang-format on */

#define RANK_PER_SEGMENT (1 << 16) /* one bit per segment (NODE_URL_SEGMENTS) is below it */

/* Does @url, from segment @skip on, fit @pattern? Returns how specific the pattern is, by
 * the number of static segments, then by where they are; -1 when it does not fit. */
static int fit(const char *pattern,
               const struct node_url *url,
               size_t skip,
               struct node_route_match *match)
{
    int fixed = 0;
    int place = 0;
    size_t at = skip;

    for (const char *p = pattern; p; at++) {
        const char *end = strchrnul(p, '/');
        size_t len = (size_t)(end - p);

        if (at >= url->segment_count) {
            return -1;
        }
        place <<= 1;
        if (p[0] != ':') {
            if (strlen(url->segments[at]) != len || memcmp(p, url->segments[at], len) != 0) {
                return -1;
            }
            fixed += RANK_PER_SEGMENT;
            place |= 1;
        } else if (p[1] == 's') {
            match->sid = url->segments[at];
        } else if (p[1] == 'c') {
            match->cid = url->segments[at];
        } else {
            match->id = url->segments[at];
        }
        p = *end == '\0' ? NULL : end + 1;
    }
    return at == url->segment_count ? fixed + place : -1;
}

static void add_method(struct node_route_match *match, enum node_method method)
{
    size_t len = strlen(match->allow);

    (void)snprintf(match->allow + len, sizeof(match->allow) - len, "%s%s%s", len > 0 ? ", " : "",
                   node_method_name(method), method == NODE_METHOD_GET ? ", HEAD" : "");
}

void node_route_find(const struct node_route *routes,
                     enum node_method method,
                     const struct node_url *url,
                     struct node_route_match *ret)
{
    bool is_api = url->segment_count > 0 && strcmp(url->segments[0], "api") == 0;
    unsigned mount = is_api ? NODE_ROUTE_API : NODE_ROUTE_ROOT;
    int best = -1;

    *ret = (struct node_route_match){.route = NULL};
    if (method == NODE_METHOD_HEAD) {
        method = NODE_METHOD_GET;
    }
    for (const struct node_route *route = routes; route->pattern; route++) {
        struct node_route_match match = {.route = NULL};
        int fixed = fit(route->pattern, url, is_api ? 1 : 0, &match);

        if (fixed < 0 || fixed < best || (route->flags & mount) == 0) {
            continue;
        }
        if (fixed > best) { /* more specific: forget what fitted loosely */
            best = fixed;
            *ret = match;
            ret->is_path_known = true;
        }
        add_method(ret, route->method);
        if (route->method == method) {
            ret->route = route;
        }
    }
}
