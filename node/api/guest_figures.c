#include "node/api/guest_figures.h"

#include <stdlib.h>
#include <string.h>

#include "node/api/server_private.h"

#define SAMPLE_MS 500 /* over which the work of processors is counted */

struct job {
    struct shl_list link; /* of the server */
    struct node_server *server;
    struct node_sandbox *sandbox;
    uint32_t guest;
};

static void tell(struct node_server *server,
                 uint32_t guest,
                 const char *sandbox,
                 const struct node_egress_figures *figures)
{
    const struct node_secret_push *push = &server->secrets;

    if (push->is_open) {
        push->sink.figures(push->sink.arg, guest, sandbox, figures);
    }
}

static uint64_t get(const msgpack_object *response, const char *key)
{
    uint64_t value;

    return shl_mp_get_uint(response, key, UINT64_MAX, &value) == 0 ? value : 0;
}

/* What the guest says is told to the guest alone. */
static void on_end(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct job *job = arg;
    struct node_egress_figures figures = {.processes = 0};
    uint64_t total, available;

    (void)msg;
    if (code == 0 && response) {
        total = get(response, "mem_total_bytes");
        available = get(response, "mem_available_bytes");
        figures.memory_used_bytes = total > available ? total - available : 0;
        figures.cpu_permille = get(response, "cpu_permille");
        figures.processes = get(response, "programs");
        node_sandbox_net_bytes(job->sandbox, &figures.net_in_bytes, &figures.net_out_bytes);
    }
    tell(job->server, job->guest, job->sandbox->id, code == 0 && response ? &figures : NULL);
    shl_list_remove(&job->link);
    node_sandbox_unref(job->sandbox);
    node_server_unref(job->server);
    free(job);
}

static int open_stream(struct node_agent_link *agent, struct job *job)
{
    static const struct node_agent_stream_ops ops = {.on_end = on_end};
    struct node_agent_stream *stream;
    struct shl_mp_writer w;
    struct shl_buf request;
    int rc;

    shl_buf_init(&request, AGENT_REQUEST_MAX);
    shl_mp_writer_init(&w, &request);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "op", "stats");
    shl_mp_kv_uint(&w, "sample_ms", SAMPLE_MS);
    shl_mp_end(&w);
    rc = shl_mp_done(&w);
    rc = rc < 0 ? rc : node_agent_open(agent, shl_buf_bytes(&request), &ops, job, &stream);
    shl_buf_release(&request);
    return rc;
}

static bool is_under_way(const struct node_server *server, const char *sandbox)
{
    const struct shl_list *it;

    SHL_LIST_FOREACH(it, &server->figures) {
        if (strcmp(shl_container_of(it, struct job, link)->sandbox->id, sandbox) == 0) {
            return true;
        }
    }
    return false;
}

void node_guest_figures_ask(struct node_server *server, uint32_t guest, const char *id)
{
    struct node_sandbox *sandbox = node_manager_find(server->manager, NULL, id);
    struct job *job;

    if (is_under_way(server, id)) {
        return;
    }
    job = sandbox && sandbox->state == NODE_SANDBOX_RUNNING && sandbox->agent
              ? calloc(1, sizeof(*job))
              : NULL;
    if (!job) {
        tell(server, guest, id, NULL);
        return;
    }
    job->server = server;
    job->sandbox = sandbox;
    job->guest = guest;
    if (open_stream(sandbox->agent, job) < 0) {
        free(job);
        tell(server, guest, id, NULL);
        return;
    }
    shl_list_push_back(&server->figures, &job->link);
    node_sandbox_ref(sandbox);
    node_server_ref(server);
}
