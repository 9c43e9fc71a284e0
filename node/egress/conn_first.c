/* What a client wants, from its first bytes, and whether it may.
 *
 * Redirected to port 443: the ClientHello names the host. Redirected to port 80: the Host of
 * the first request. To the proxy port: CONNECT or a target with a scheme. A guest without an
 * allowlist may also speak anything else where it was going anyway; one with an allowlist
 * reaches hosts by name only, and goes where that name leads, not to the address it picked.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "node/egress/gateway_private.h"
#include "node/egress/hello.h"

static bool is_limited(const struct egress_conn *conn)
{
    return !conn->guest->policy.is_open;
}

/* Go where it was going, untouched. */
static void splice_to_original(struct egress_conn *conn)
{
    conn->kind = EGRESS_KIND_SPLICE;
    conn->by_address = true;
    conn->addresses.count = 1;
    conn->addresses.addresses[0] = conn->original;
    conn->next_address = 0;
    egress_conn_set_phase(conn, EGRESS_PHASE_CONNECT);
    egress_conn_connecting(conn);
}

/* Something that is neither TLS nor HTTP, or says nothing. */
static void first_unknown(struct egress_conn *conn)
{
    if (conn->tunnel) {
        conn->kind = EGRESS_KIND_SPLICE; /* it leads to a host that was permitted */
        egress_conn_begin_flow(conn);
    } else if (is_limited(conn)) {
        egress_conn_refuse(conn, 403, "only TLS with a server name passes to this port");
    } else {
        splice_to_original(conn);
    }
}

static bool may_intercept(const struct egress_conn *conn, const struct egress_hello *hello)
{
    /* a client that speaks nothing but HTTP/2 is left alone: its tokens stay sealed */
    return node_egress_has_secret_for(&conn->guest->policy, conn->host) &&
           (!hello->has_alpn || hello->offers_http11);
}

/* In a tunnel the host is the one of CONNECT, and TLS must be for the same. */
static void first_hello_in_tunnel(struct egress_conn *conn,
                                  const struct egress_hello *hello,
                                  const char *host)
{
    if (host[0] && strcmp(host, conn->host) != 0) {
        egress_conn_refuse(conn, 403, "TLS in this tunnel names another host than CONNECT did");
        return;
    }
    if (may_intercept(conn, hello)) {
        if (!conn->gateway->authority) {
            egress_conn_refuse(conn, 503, "this node has no certificate authority yet");
            return;
        }
        conn->kind = EGRESS_KIND_INTERCEPT;
        egress_conn_set_phase(conn, EGRESS_PHASE_SERVER_HELLO);
        egress_conn_server_hello(conn);
        return;
    }
    conn->kind = EGRESS_KIND_SPLICE;
    egress_conn_begin_flow(conn);
}

static void first_hello(struct egress_conn *conn, const struct egress_hello *hello)
{
    char host[EGRESS_HOST_SIZE] = "";
    uint16_t port = 0;

    conn->has_hello = true;
    if (hello->server_name[0] &&
        egress_host_parse(host, &port, hello->server_name, strlen(hello->server_name)) < 0) {
        egress_conn_refuse(conn, 403, "the server name in TLS is not valid");
        return;
    }
    if (conn->tunnel) {
        first_hello_in_tunnel(conn, hello, host);
        return;
    }
    (void)snprintf(conn->host, sizeof(conn->host), "%s", host);
    if (is_limited(conn)) {
        if (!host[0]) {
            egress_conn_refuse(conn, 403, "TLS without a server name does not pass");
            return;
        }
        if (!node_egress_may_reach(&conn->guest->policy, host)) {
            egress_conn_refuse(conn, 403, "the host is not on the allowlist");
            return;
        }
    }
    if (host[0] && may_intercept(conn, hello)) {
        if (!conn->gateway->authority) {
            egress_conn_refuse(conn, 503, "this node has no certificate authority yet");
            return;
        }
        conn->kind = EGRESS_KIND_INTERCEPT;
    } else if (!is_limited(conn)) {
        splice_to_original(conn);
        return;
    } else {
        conn->kind = EGRESS_KIND_SPLICE;
    }
    egress_conn_reach(conn);
}

static void first_tls(struct egress_conn *conn)
{
    struct egress_hello hello;

    switch (egress_hello_parse(shl_buf_bytes(&conn->client.in), &hello)) {
    case EGRESS_HELLO_MORE:
        break;
    case EGRESS_HELLO_OK:
        first_hello(conn, &hello);
        break;
    case EGRESS_HELLO_BAD:
        first_unknown(conn);
        break;
    }
}

/* ---- HTTP ------------------------------------------------------------------------ */

/* False, and the client was told, when the host is none that may be reached. */
static bool take_host(struct egress_conn *conn, const char *text, size_t len, uint16_t default_port)
{
    uint16_t port;

    if (egress_host_parse(conn->host, &port, text, len) < 0) {
        conn->host[0] = '\0';
        egress_conn_refuse(conn, 400, "the request names no valid host");
        return false;
    }
    if (default_port) {
        conn->port = port ? port : default_port;
    }
    if (!node_egress_may_reach(&conn->guest->policy, conn->host)) {
        egress_conn_refuse(conn, 403, "the host is not on the allowlist");
        return false;
    }
    if (is_limited(conn) && conn->port != EGRESS_PORT_HTTP && conn->port != EGRESS_PORT_HTTPS) {
        egress_conn_refuse(conn, 403, "with an allowlist only the ports 80 and 443 may be reached");
        return false;
    }
    return true;
}

static void first_connect(struct egress_conn *conn, const struct egress_head *head)
{
    size_t bytes = head->bytes;

    if (!take_host(conn, (const char *)head->target.base, head->target.len, EGRESS_PORT_HTTPS)) {
        return;
    }
    if (head->framing != EGRESS_FRAMING_NONE) {
        egress_conn_refuse(conn, 400, "CONNECT has no body");
        return;
    }
    shl_buf_consume(&conn->client.in, bytes);
    conn->kind = EGRESS_KIND_UNKNOWN;
    egress_conn_reach(conn);
}

static void first_proxied(struct egress_conn *conn, const struct egress_head *head)
{
    struct shl_bytes path;
    uint16_t port;

    if (egress_bytes_equal_nocase(head->method, "CONNECT")) {
        first_connect(conn, head);
        return;
    }
    if (egress_request_split(head->target, conn->host, &port, &path) < 0) {
        conn->host[0] = '\0';
        egress_conn_refuse(
            conn, 400, "this is a proxy: it takes CONNECT, and http:// targets by full address");
        return;
    }
    conn->port = port;
    if (!take_host(conn, conn->host, strlen(conn->host), port)) {
        return;
    }
    conn->kind = EGRESS_KIND_HTTP;
    egress_conn_reach(conn);
}

static void first_plain(struct egress_conn *conn, const struct egress_head *head)
{
    if (!head->host.base) {
        egress_conn_refuse(conn, 400, "the request names no host");
        return;
    }
    if (!take_host(conn, (const char *)head->host.base, head->host.len, 0)) {
        return;
    }
    conn->kind = EGRESS_KIND_HTTP;
    egress_conn_reach(conn);
}

static void first_http(struct egress_conn *conn)
{
    struct egress_head head;

    switch (egress_head_request(shl_buf_bytes(&conn->client.in), &head)) {
    case EGRESS_HEAD_MORE:
        break;
    case EGRESS_HEAD_OK:
        if (conn->explicit_proxy) {
            first_proxied(conn, &head);
        } else {
            first_plain(conn, &head);
        }
        break;
    case EGRESS_HEAD_BAD:
        egress_conn_refuse(conn, 400, "the request is not valid HTTP/1.1");
        break;
    case EGRESS_HEAD_TOO_LARGE:
        egress_conn_refuse(conn, 431, "the head of the request is too large");
        break;
    }
}

void egress_conn_first(struct egress_conn *conn, bool waited_enough)
{
    ssize_t n;

    if (waited_enough) {
        if (conn->tunnel || (!conn->explicit_proxy && !is_limited(conn))) {
            first_unknown(conn); /* the server speaks first in what they speak */
        }
        return;
    }
    n = egress_end_flush(&conn->client, &conn->client.out);
    n = n < 0 ? n : egress_end_fill(&conn->client);
    if (n < 0 || (conn->client.read_closed && shl_buf_len(&conn->client.in) == 0)) {
        egress_conn_close(conn);
        return;
    }
    if (shl_buf_len(&conn->client.in) > 0) {
        if (conn->tunnel || (!conn->explicit_proxy && conn->port != EGRESS_PORT_HTTP)) {
            first_tls(conn);
        } else if (!conn->explicit_proxy && !is_limited(conn)) {
            first_unknown(conn);
        } else {
            first_http(conn);
        }
    }
    if (conn->phase == EGRESS_PHASE_FIRST && conn->client.read_closed) {
        egress_conn_close(conn); /* it left in the middle of a word */
    }
}
