/* For load balancers, monitoring and operators. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/io.h"
#include "node/api/handlers.h"
#include "node/api/server_private.h"

#define METRICS_MAX (64u * 1024)

void node_handle_health(struct node_call *call)
{
    node_call_reply_json(call, 200, json_pack("{s:s}", "status", "ok"));
}

void node_handle_healthz(struct node_call *call)
{
    node_call_reply_json(call, 200, json_pack("{s:s}", "status", "alive"));
}

/* The API is opened last, so a node that answers is ready. */
void node_handle_readyz(struct node_call *call)
{
    node_call_reply_json(call, 200, json_pack("{s:s}", "status", "ready"));
}

static int write_snapshot_metrics(const struct node_manager_counts *counts, struct shl_buf *out)
{
    uint32_t unready = counts->checkpoints_processing + counts->checkpoints_failed;

    return shl_buf_printf(
        out,
        "# HELP shoal_hibernations_total Sandboxes hibernated since the start.\n"
        "# TYPE shoal_hibernations_total counter\n"
        "shoal_hibernations_total %" PRIu64 "\n"
        "# HELP shoal_wakes_total Sandboxes woken since the start: with their memory, or "
        "booted from the disk.\n"
        "# TYPE shoal_wakes_total counter\n"
        "shoal_wakes_total{kind=\"warm\"} %" PRIu64 "\n"
        "shoal_wakes_total{kind=\"cold\"} %" PRIu64 "\n"
        "# HELP shoal_checkpoints Checkpoints by status.\n"
        "# TYPE shoal_checkpoints gauge\n"
        "shoal_checkpoints{status=\"processing\"} %" PRIu32 "\n"
        "shoal_checkpoints{status=\"ready\"} %" PRIu32 "\n"
        "shoal_checkpoints{status=\"failed\"} %" PRIu32 "\n"
        "# HELP shoal_warm_templates Templates whose sandboxes are restored, not booted.\n"
        "# TYPE shoal_warm_templates gauge\n"
        "shoal_warm_templates %" PRIu32 "\n",
        counts->hibernations, counts->wakes_warm, counts->wakes_cold,
        counts->checkpoints_processing,
        counts->checkpoints > unready ? counts->checkpoints - unready : 0,
        counts->checkpoints_failed, counts->warm_templates);
}

static int write_mesh_metrics(struct node_server *server, struct shl_buf *out)
{
    struct node_remote_stats stats = {.in_flight = 0};
    int rc;

    if (server->remote) {
        node_remote_stats(server->remote, &stats);
    }
    rc = shl_buf_printf(out,
                        "# HELP shoal_forwarded_total Requests passed on to the node that serves "
                        "them.\n"
                        "# TYPE shoal_forwarded_total counter\n"
                        "shoal_forwarded_total %" PRIu64 "\n"
                        "# HELP shoal_remote_requests_total Requests that other nodes passed on, "
                        "by class of status.\n"
                        "# TYPE shoal_remote_requests_total counter\n",
                        server->forwarded);
    for (unsigned i = 0; rc == 0 && i < SHL_ARRAY_SIZE(stats.requests); i++) {
        rc = shl_buf_printf(out, "shoal_remote_requests_total{class=\"%uxx\"} %" PRIu64 "\n", i,
                            stats.requests[i]);
    }
    return rc;
}

static int write_metrics(struct node_server *server, struct shl_buf *out)
{
    struct node_manager_counts counts;
    struct node_http_stats http;
    int rc;

    node_manager_count(server->manager, &counts);
    node_http_stats(server->http, &http);
    rc = shl_buf_printf(out,
                        "# HELP shoal_build_info Version of this node.\n"
                        "# TYPE shoal_build_info gauge\n"
                        "shoal_build_info{version=\"%s\"} 1\n"
                        "# HELP shoal_uptime_seconds Since the API opened.\n"
                        "# TYPE shoal_uptime_seconds gauge\n"
                        "shoal_uptime_seconds %" PRId64 "\n"
                        "# HELP shoal_sandboxes Sandboxes by state.\n"
                        "# TYPE shoal_sandboxes gauge\n"
                        "shoal_sandboxes{state=\"running\"} %" PRIu32 "\n"
                        "shoal_sandboxes{state=\"creating\"} %" PRIu32 "\n"
                        "shoal_sandboxes{state=\"error\"} %" PRIu32 "\n"
                        "shoal_sandboxes{state=\"hibernated\"} %" PRIu32 "\n"
                        "# HELP shoal_memory_bytes Memory of the machine, and promised to "
                        "sandboxes.\n"
                        "# TYPE shoal_memory_bytes gauge\n"
                        "shoal_memory_bytes{kind=\"total\"} %" PRIu64 "\n"
                        "shoal_memory_bytes{kind=\"committed\"} %" PRIu64 "\n",
                        SHL_VERSION, (shl_realtime_ms() - server->started_at_ms) / 1000,
                        counts.running, counts.creating, counts.errors, counts.hibernated,
                        (uint64_t)counts.memory_total_mb << 20,
                        (uint64_t)counts.memory_committed_mb << 20);
    if (rc == 0) {
        rc = write_snapshot_metrics(&counts, out);
    }
    if (rc == 0) {
        rc = shl_buf_printf(out, "# HELP shoal_http_requests_total Requests by class of status; "
                                 "0xx: the client left first.\n"
                                 "# TYPE shoal_http_requests_total counter\n");
    }
    for (unsigned i = 0; rc == 0 && i < SHL_ARRAY_SIZE(http.requests); i++) {
        rc = shl_buf_printf(out, "shoal_http_requests_total{class=\"%uxx\"} %" PRIu64 "\n", i,
                            http.requests[i]);
    }
    if (rc == 0) {
        rc = shl_buf_printf(out,
                            "# HELP shoal_http_refused_total Connections whose first request head "
                            "was refused.\n"
                            "# TYPE shoal_http_refused_total counter\n"
                            "shoal_http_refused_total %" PRIu64 "\n"
                            "# HELP shoal_http_connections Open connections.\n"
                            "# TYPE shoal_http_connections gauge\n"
                            "shoal_http_connections %" PRIu32 "\n"
                            "# HELP shoal_output_bytes Command output held for replies.\n"
                            "# TYPE shoal_output_bytes gauge\n"
                            "shoal_output_bytes %" PRId64 "\n",
                            http.refused, http.connections, server->output_bytes);
    }
    if (rc == 0) {
        rc = write_mesh_metrics(server, out);
    }
    if (rc == 0 && server->router->ops->metrics) {
        rc = server->router->ops->metrics(server->router, out);
    }
    if (rc == 0 && server->more_metrics) {
        rc = server->more_metrics(server->more_metrics_arg, out);
    }
    return rc;
}

void node_handle_metrics(struct node_call *call)
{
    struct shl_buf out;
    int rc;

    shl_buf_init(&out, METRICS_MAX);
    rc = write_metrics(call->server, &out);
    if (rc < 0) {
        shl_buf_release(&out);
        node_call_fail(call, rc, NULL);
        return;
    }
    node_call_reply_buf(call, 200, "text/plain; version=0.0.4", &out);
}

/* Admin only, so it shows all organisations' requests in flight; paths carry no query,
 * hence no credentials. */
void node_handle_debug_state(struct node_call *call)
{
    struct node_server *server = call->server;
    struct node_manager_counts counts;
    struct node_http_stats http;
    json_t *calls = json_array();
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &server->calls) {
        struct node_call *other = shl_container_of(it, struct node_call, link);

        (void)json_array_append_new(
            calls, json_pack("{s:s, s:s, s:s}", "method", node_method_name(other->x->method),
                             "path", other->x->url.path, "requestId", other->x->request_id));
    }
    node_manager_count(server->manager, &counts);
    node_http_stats(server->http, &http);
    node_call_reply_json(
        call, 200,
        json_pack("{s:s, s:s, s:I, s:{s:i, s:i, s:i, s:i}, s:{s:i, s:i, s:i, s:i}, s:{s:i, s:i}, "
                  "s:{s:i, s:i, s:I, s:I}, s:o}",
                  "version", SHL_VERSION, "workerID", server->worker_id, "uptimeMs",
                  (json_int_t)(shl_realtime_ms() - server->started_at_ms), "sandboxes", "running",
                  (int)counts.running, "creating", (int)counts.creating, "error",
                  (int)counts.errors, "hibernated", (int)counts.hibernated, "snapshots",
                  "checkpoints", (int)counts.checkpoints, "processing",
                  (int)counts.checkpoints_processing, "warmTemplates", (int)counts.warm_templates,
                  "waiting", (int)server->cold_count, "memoryMB", "total",
                  (int)counts.memory_total_mb, "committed", (int)counts.memory_committed_mb, "http",
                  "connections", (int)http.connections, "inFlight", (int)http.in_flight, "refused",
                  (json_int_t)http.refused, "outputBytes", (json_int_t)server->output_bytes,
                  "calls", calls));
}
