/* Bytes in both directions, under back pressure: no end is read while what it sent before
 * cannot be passed on. */
#include <errno.h>

#include "base/err.h"
#include "node/egress/gateway_private.h"

#define ROUNDS_MAX 8 /* of one connection before others get their turn */

void egress_conn_begin_flow(struct egress_conn *conn)
{
    struct egress_counters *counters = &conn->gateway->counters;

    if (conn->kind == EGRESS_KIND_INTERCEPT) {
        counters->intercepted++;
    } else if (conn->kind == EGRESS_KIND_HTTP) {
        counters->plain_http++;
    } else {
        counters->spliced++;
    }
    egress_conn_set_phase(conn, EGRESS_PHASE_FLOW);
    egress_conn_flow(conn);
}

static struct shl_bytes look_up(void *arg, const char *token)
{
    const struct egress_conn *conn = arg;

    return node_egress_value(&conn->guest->policy, conn->host, token);
}

static int step_request(struct egress_conn *conn)
{
    const struct egress_request_rules rules = {
        .host = conn->host,
        .port = conn->port,
        .is_proxy = conn->kind == EGRESS_KIND_HTTP && conn->explicit_proxy,
        .lookup = conn->kind == EGRESS_KIND_INTERCEPT ? look_up : NULL,
        .arg = conn,
    };
    int rc = egress_request_step(&conn->request, &rules, &conn->exchanges, &conn->client.in,
                                 &conn->server.out);

    conn->gateway->counters.replaced += conn->request.replaced - conn->replaced_told;
    conn->replaced_told = conn->request.replaced;
    if (rc == 0 && conn->request.continue_asked) {
        conn->request.continue_asked = false;
        rc = shl_buf_append_str(&conn->client.out, "HTTP/1.1 100 Continue\r\n\r\n");
    }
    return rc;
}

/* One round: what was read goes on, and more is read. Bytes moved, negative: broken. */
static ssize_t move(struct egress_conn *conn)
{
    struct egress_counters *counters = &conn->gateway->counters;
    bool splice = conn->kind == EGRESS_KIND_SPLICE;
    ssize_t total, n;

    total = egress_end_fill(&conn->client);
    if (total < 0) {
        return total;
    }
    if (!splice) {
        int rc = step_request(conn);

        if (rc < 0) {
            return rc;
        }
    }
    n = egress_end_flush(&conn->server, splice ? &conn->client.in : &conn->server.out);
    if (n < 0) {
        return n;
    }
    counters->bytes_out += (uint64_t)n;
    total += n;
    n = egress_end_fill(&conn->server);
    if (n < 0) {
        return n;
    }
    total += n;
    if (!splice) {
        int rc =
            egress_reply_step(&conn->reply, &conn->exchanges, &conn->server.in, &conn->client.out);

        if (rc < 0) {
            return -EIO; /* not the client's fault: no answer of ours fits in here */
        }
    }
    n = egress_end_flush(&conn->client, splice ? &conn->server.in : &conn->client.out);
    if (n < 0) {
        return n;
    }
    counters->bytes_in += (uint64_t)n;
    return total + n;
}

static bool is_drained(const struct egress_end *from, const struct egress_end *to)
{
    return from->read_closed && shl_buf_len(&from->in) == 0 && egress_end_is_sent(to);
}

/* Ends are passed on like bytes. */
static void pass_ends(struct egress_conn *conn)
{
    bool idle =
        conn->kind != EGRESS_KIND_SPLICE && conn->exchanges.count == 0 && !conn->exchanges.switched;
    bool client_done = is_drained(&conn->client, &conn->server);
    bool server_done = is_drained(&conn->server, &conn->client);

    /* half a message that will never be whole goes no further */
    if (conn->kind != EGRESS_KIND_SPLICE) {
        client_done = conn->client.read_closed && egress_end_is_sent(&conn->server);
        server_done = conn->server.read_closed && egress_end_is_sent(&conn->client);
    }
    if (client_done) {
        egress_end_shut(&conn->server, !conn->client.cut);
    }
    if (server_done) {
        egress_end_shut(&conn->client, !conn->server.cut);
        if (conn->deadline_ms == 0 && conn->kind != EGRESS_KIND_SPLICE) {
            conn->deadline_ms = uv_now(conn->gateway->loop) + 5000; /* for the client to leave */
        }
    }
    if ((client_done && server_done) || (client_done && idle)) {
        egress_conn_close(conn);
    }
}

static void broken(struct egress_conn *conn, int rc)
{
    if (rc == SHL_EPROTO && conn->request.refused_status) {
        egress_conn_refuse(conn, conn->request.refused_status, conn->request.refused_reason);
        return;
    }
    egress_conn_close(conn);
}

void egress_conn_flow(struct egress_conn *conn)
{
    ssize_t n = 1;
    int round;

    shl_list_remove(&conn->busy);
    for (round = 0; round < ROUNDS_MAX && n > 0; round++) {
        n = move(conn);
        if (n < 0) {
            broken(conn, (int)n);
            return;
        }
    }
    if (n > 0) { /* what was read last may not be on its way yet: no end overtakes it */
        shl_list_push_back(&conn->gateway->busy, &conn->busy);
    } else {
        pass_ends(conn);
    }
}

/* The answer goes out; then the client has a moment to read it before the socket goes. */
void egress_conn_farewell(struct egress_conn *conn)
{
    if (egress_end_flush(&conn->client, &conn->client.out) < 0) {
        egress_conn_close(conn);
        return;
    }
    if (egress_end_is_sent(&conn->client)) {
        egress_end_shut(&conn->client, true);
    }
    shl_buf_clear(&conn->client.in);
    if (egress_end_fill(&conn->client) < 0 || conn->client.read_closed) {
        egress_conn_close(conn);
        return;
    }
    shl_buf_clear(&conn->client.in);
}
