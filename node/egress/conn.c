/* One connection of a guest: its life, what is watched, and what it is told when it may not.
 *
 * Happy path (TLS that is opened):
 *   1. egress_conn_accept; FIRST: the hello says which host (conn_first.c)
 *   2. RESOLVE, CONNECT: to an address that was checked (conn_reach.c)
 *   3. SERVER_HELLO, CLIENT_HELLO: the server's certificate first, then ours for the client
 *   4. FLOW: requests with their secrets in place, responses as they are (conn_flow.c)
 * Splicing goes from CONNECT to FLOW. A proxy client's CONNECT is answered after step 2 and
 * then FIRST looks at what comes in the tunnel.
 * Whatever fails before bytes flow ends in REFUSE, where the client is told why.
 */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "node/egress/gateway_private.h"

#define SO_ORIGINAL_DST_V4 80 /* linux/netfilter_ipv4.h collides with libc's headers */

#define FIRST_MS        10000
#define SERVER_FIRST_MS 1000 /* after that long a silent client is one that waits */
#define RESOLVE_MS      15000
#define CONNECT_MS      10000
#define HELLO_MS        15000
#define REFUSE_MS       5000

#define ALERT_ACCESS_DENIED 49

static const uint64_t phase_ms[] = {
    [EGRESS_PHASE_FIRST] = FIRST_MS,        [EGRESS_PHASE_RESOLVE] = RESOLVE_MS,
    [EGRESS_PHASE_CONNECT] = CONNECT_MS,    [EGRESS_PHASE_SERVER_HELLO] = HELLO_MS,
    [EGRESS_PHASE_CLIENT_HELLO] = HELLO_MS, [EGRESS_PHASE_FLOW] = 0,
    [EGRESS_PHASE_REFUSE] = REFUSE_MS,      [EGRESS_PHASE_CLOSED] = 0,
};

void egress_conn_set_phase(struct egress_conn *conn, enum egress_phase phase)
{
    conn->phase = phase;
    conn->deadline_ms = phase_ms[phase] ? uv_now(conn->gateway->loop) + phase_ms[phase] : 0;
}

/* ---- the end --------------------------------------------------------------------- */

static void on_poll_closed(uv_handle_t *handle)
{
    struct egress_conn *conn = handle->data;
    struct egress_gateway *gateway = conn->gateway;

    if (--conn->handles > 0) {
        return;
    }
    egress_end_release(&conn->client);
    egress_end_release(&conn->server);
    egress_request_release(&conn->request);
    free(conn);
    gateway->conns_alive--;
    egress_gateway_check_closed(gateway);
}

void egress_conn_close(struct egress_conn *conn)
{
    if (conn->phase == EGRESS_PHASE_CLOSED) {
        return;
    }
    egress_conn_set_phase(conn, EGRESS_PHASE_CLOSED);
    if (conn->query) {
        egress_query_cancel(conn->query);
        conn->query = NULL;
    }
    conn->gateway->counters.replaced += conn->request.replaced - conn->replaced_told;
    conn->gateway->counters.open--;
    conn->guest->conn_count--;
    conn->guest = NULL;
    shl_list_remove(&conn->all);
    shl_list_remove(&conn->of_guest);
    shl_list_remove(&conn->busy);
    uv_close((uv_handle_t *)&conn->client_poll, on_poll_closed);
    if (conn->has_server_poll) {
        uv_close((uv_handle_t *)&conn->server_poll, on_poll_closed);
    }
}

/* ---- being told ------------------------------------------------------------------ */

static const char *reason_phrase(int status)
{
    switch (status) {
    case 400:
        return "Bad Request";
    case 403:
        return "Forbidden";
    case 405:
        return "Method Not Allowed";
    case 413:
        return "Content Too Large";
    case 421:
        return "Misdirected Request";
    case 431:
        return "Request Header Fields Too Large";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    default:
        return "Bad Gateway";
    }
}

static int put_http(struct egress_conn *conn, int status, const char *text)
{
    return shl_buf_printf(&conn->client.out,
                          "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n"
                          "X-Shoal-Egress: refused\r\nConnection: close\r\n\r\negress: %s\n",
                          status, reason_phrase(status), strlen(text) + 9, text);
}

static int put_alert(struct egress_conn *conn)
{
    static const uint8_t alert[] = {21, 3, 3, 0, 2, 2, ALERT_ACCESS_DENIED};

    return shl_buf_append(&conn->client.out, alert, sizeof(alert));
}

static void drop_server(struct egress_conn *conn)
{
    if (conn->has_server_poll) {
        (void)uv_poll_stop(&conn->server_poll);
        conn->server_mask = 0;
    }
    egress_end_shut(&conn->server, false);
    shl_buf_clear(&conn->server.out);
}

static void note_refusal(struct egress_conn *conn, int status, const char *text)
{
    struct egress_gateway *gateway = conn->gateway;
    char address[EGRESS_ADDRESS_TEXT_SIZE] = "";

    if (status == 403 || status == 421) {
        gateway->counters.refused++;
    } else if (status >= 502) {
        gateway->counters.upstream_failed++;
    }
    if (!conn->host[0]) {
        egress_address_format(address, &conn->original);
    }
    egress_log_refusal(gateway, conn->guest, conn->host[0] ? conn->host : address, conn->port,
                       text);
}

void egress_conn_refuse(struct egress_conn *conn, int status, const char *text)
{
    int rc;

    if (conn->refused_status == 0) { /* else it comes here again, now that TLS stands */
        note_refusal(conn, status, text);
    }
    drop_server(conn);
    if (conn->has_hello && !conn->client.ssl) {
        /* a client that speaks TLS reads the reason when it can believe us, else an alert */
        if (conn->kind == EGRESS_KIND_INTERCEPT && conn->gateway->authority &&
            conn->refused_status == 0) {
            conn->refused_status = status;
            (void)snprintf(conn->refused_text, sizeof(conn->refused_text), "%s", text);
            egress_conn_set_phase(conn, EGRESS_PHASE_CLIENT_HELLO);
            egress_conn_client_hello(conn);
            return;
        }
        rc = put_alert(conn);
    } else if (conn->client.ssl && !SSL_is_init_finished(conn->client.ssl)) {
        rc = SHL_EPROTO;
    } else if (conn->tunnel && !conn->client.ssl) {
        rc = SHL_EPROTO; /* raw bytes in a tunnel: nothing to say it in */
    } else {
        rc = conn->reply.began ? SHL_EPROTO : put_http(conn, status, text);
    }
    if (rc < 0) {
        egress_conn_close(conn);
        return;
    }
    egress_conn_set_phase(conn, EGRESS_PHASE_REFUSE);
    egress_conn_step(conn);
}

/* ---- what is watched ------------------------------------------------------------- */

static void on_client(uv_poll_t *poll, int status, int events);
static void on_server(uv_poll_t *poll, int status, int events);

static bool has_room(const struct egress_end *end)
{
    return shl_buf_len(&end->in) <= EGRESS_IN_MAX - 16384;
}

/* In a handshake what OpenSSL waits for, else what there is to move. */
static int mask_of(const struct egress_end *end, bool handshake, bool pending, bool paused)
{
    int mask = 0;

    if (handshake) {
        return (end->blocked_read ? UV_READABLE : 0) | (end->blocked_write ? UV_WRITABLE : 0);
    }
    if (!end->read_closed && !paused && has_room(end)) {
        mask |= UV_READABLE;
    }
    if (pending && end->blocked_write) {
        mask |= UV_WRITABLE;
    }
    return mask;
}

static void apply(uv_poll_t *poll, int *mask, int wanted, uv_poll_cb cb)
{
    if (*mask == wanted) {
        return;
    }
    *mask = wanted;
    if (wanted) {
        (void)uv_poll_start(poll, wanted, cb);
    } else {
        (void)uv_poll_stop(poll);
    }
}

void egress_conn_watch(struct egress_conn *conn)
{
    bool splice = conn->kind == EGRESS_KIND_SPLICE;
    bool flow = conn->phase == EGRESS_PHASE_FLOW;
    bool to_client =
        !egress_end_is_sent(&conn->client) || (flow && splice && shl_buf_len(&conn->server.in) > 0);
    bool to_server =
        !egress_end_is_sent(&conn->server) || (flow && splice && shl_buf_len(&conn->client.in) > 0);

    if (conn->phase == EGRESS_PHASE_CLOSED) {
        return;
    }
    apply(&conn->client_poll, &conn->client_mask,
          mask_of(&conn->client, conn->phase == EGRESS_PHASE_CLIENT_HELLO, to_client,
                  conn->phase == EGRESS_PHASE_RESOLVE || conn->phase == EGRESS_PHASE_CONNECT ||
                      conn->phase == EGRESS_PHASE_SERVER_HELLO),
          on_client);
    if (!conn->has_server_poll) {
        return;
    }
    if (conn->phase == EGRESS_PHASE_CONNECT) {
        apply(&conn->server_poll, &conn->server_mask, UV_WRITABLE, on_server);
        return;
    }
    apply(&conn->server_poll, &conn->server_mask,
          conn->phase == EGRESS_PHASE_REFUSE
              ? 0
              : mask_of(&conn->server, conn->phase == EGRESS_PHASE_SERVER_HELLO, to_server, !flow),
          on_server);
}

void egress_conn_step(struct egress_conn *conn)
{
    switch (conn->phase) {
    case EGRESS_PHASE_FIRST:
        egress_conn_first(conn, false);
        break;
    case EGRESS_PHASE_RESOLVE:
    case EGRESS_PHASE_CLOSED:
        break;
    case EGRESS_PHASE_CONNECT:
        egress_conn_connecting(conn);
        break;
    case EGRESS_PHASE_SERVER_HELLO:
        egress_conn_server_hello(conn);
        break;
    case EGRESS_PHASE_CLIENT_HELLO:
        egress_conn_client_hello(conn);
        break;
    case EGRESS_PHASE_FLOW:
        egress_conn_flow(conn);
        break;
    case EGRESS_PHASE_REFUSE:
        egress_conn_farewell(conn);
        break;
    }
    egress_conn_watch(conn);
}

static void on_client(uv_poll_t *poll, int status, int events)
{
    struct egress_conn *conn = poll->data;

    (void)events;
    if (status < 0) {
        egress_conn_close(conn);
        return;
    }
    egress_conn_step(conn);
}

static void on_server(uv_poll_t *poll, int status, int events)
{
    struct egress_conn *conn = poll->data;

    (void)events;
    /* an error of a socket that is connecting is egress_conn_connecting's to read */
    if (status < 0 && conn->phase != EGRESS_PHASE_CONNECT) {
        egress_conn_close(conn);
        return;
    }
    egress_conn_step(conn);
}

void egress_conn_tick(struct egress_conn *conn, uint64_t now_ms)
{
    if (conn->phase == EGRESS_PHASE_FIRST && conn->deadline_ms &&
        now_ms + FIRST_MS - SERVER_FIRST_MS >= conn->deadline_ms &&
        shl_buf_len(&conn->client.in) == 0) {
        egress_conn_first(conn, true);
        egress_conn_watch(conn);
        if (conn->phase != EGRESS_PHASE_FIRST) {
            return;
        }
    }
    if (conn->deadline_ms == 0 || now_ms < conn->deadline_ms) {
        return;
    }
    switch (conn->phase) {
    case EGRESS_PHASE_RESOLVE:
        egress_conn_refuse(conn, 504, "the name server does not answer");
        break;
    case EGRESS_PHASE_CONNECT:
        egress_conn_refuse(conn, 504, "the server cannot be reached in time");
        break;
    case EGRESS_PHASE_SERVER_HELLO:
        egress_conn_refuse(conn, 504, "the server does not answer in TLS");
        break;
    case EGRESS_PHASE_FIRST:
    case EGRESS_PHASE_CLIENT_HELLO:
    case EGRESS_PHASE_FLOW:
    case EGRESS_PHASE_REFUSE:
    case EGRESS_PHASE_CLOSED:
        egress_conn_close(conn);
        break;
    }
    egress_conn_watch(conn);
}

/* ---- the beginning --------------------------------------------------------------- */

/* Where the client wanted to go before the redirection. False: to us. */
static bool find_original(struct egress_conn *conn)
{
    struct sockaddr_in in;
    socklen_t len = sizeof(in);
    struct sockaddr_in own;
    socklen_t own_len = sizeof(own);

    if (getsockopt(conn->client.fd, SOL_IP, SO_ORIGINAL_DST_V4, &in, &len) < 0 ||
        in.sin_family != AF_INET) {
        return false;
    }
    conn->original.family = AF_INET;
    conn->original.v4 = in.sin_addr;
    conn->port = ntohs(in.sin_port);
    if (conn->port == EGRESS_PROXY_PORT && egress_address_is_private(&conn->original)) {
        return false;
    }
    /* not redirected at all: it came to the listener itself */
    return getsockname(conn->client.fd, (struct sockaddr *)&own, &own_len) < 0 ||
           own.sin_port != in.sin_port || own.sin_addr.s_addr != in.sin_addr.s_addr;
}

static void set_options(int fd)
{
    int on = 1;

    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

void egress_conn_accept(struct egress_gateway *gateway, struct egress_guest *guest, int fd)
{
    struct egress_conn *conn = calloc(1, sizeof(*conn));

    if (!conn || uv_poll_init(gateway->loop, &conn->client_poll, fd) < 0) {
        free(conn);
        (void)close(fd);
        return;
    }
    conn->gateway = gateway;
    conn->guest = guest;
    conn->client_poll.data = conn;
    conn->server_poll.data = conn;
    conn->handles = 1;
    shl_list_init(&conn->busy);
    egress_end_init(&conn->client);
    egress_end_init(&conn->server);
    egress_request_init(&conn->request);
    conn->client.fd = fd;
    set_options(fd);
    shl_list_push_back(&gateway->conns, &conn->all);
    shl_list_push_back(&guest->conns, &conn->of_guest);
    guest->conn_count++;
    gateway->counters.open++;
    gateway->conns_alive++;
    gateway->counters.accepted++;
    conn->explicit_proxy = !find_original(conn);
    egress_conn_set_phase(conn, EGRESS_PHASE_FIRST);
    egress_conn_watch(conn);
}
