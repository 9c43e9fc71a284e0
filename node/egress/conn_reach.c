/* From a host to a connection with it: names are resolved here, not by the guest, and only
 * addresses that were checked are connected to. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "node/egress/gateway_private.h"

static const uint8_t alpn_http11[] = "\x08http/1.1";

/* ---- resolving ------------------------------------------------------------------- */

static void have_addresses(struct egress_conn *conn)
{
    conn->next_address = 0;
    egress_conn_set_phase(conn, EGRESS_PHASE_CONNECT);
    egress_conn_connecting(conn);
}

static void refuse_unresolved(struct egress_conn *conn, int code)
{
    if (code == SHL_ENOTFOUND) {
        egress_conn_refuse(conn, 502, "the host has no address: there is no such name");
    } else if (code == -EINVAL) {
        egress_conn_refuse(conn, 400, "the host is not a name that can be looked up");
    } else {
        egress_conn_refuse(conn, 502, "the name server of this node gives no answer");
    }
}

static void on_resolved(void *arg, int code, const struct egress_dns_answer *answer)
{
    struct egress_conn *conn = arg;

    conn->query = NULL;
    if (code < 0) {
        refuse_unresolved(conn, code);
    } else {
        conn->addresses = *answer;
        have_addresses(conn);
    }
    egress_conn_watch(conn);
}

/* One guest must not take all the questions there may be. */
static bool asks_too_much(const struct egress_guest *guest)
{
    const struct shl_list *it;
    size_t count = 0;

    SHL_LIST_FOREACH(it, &guest->conns) {
        count += shl_container_of(it, struct egress_conn, of_guest)->query != NULL;
    }
    return count >= EGRESS_GUEST_LOOKUPS_MAX;
}

void egress_conn_reach(struct egress_conn *conn)
{
    struct egress_address literal;
    int rc;

    if (egress_address_parse(&literal, conn->host) == 0) {
        conn->addresses.count = 1;
        conn->addresses.addresses[0] = literal;
        have_addresses(conn);
        return;
    }
    egress_conn_set_phase(conn, EGRESS_PHASE_RESOLVE);
    if (asks_too_much(conn->guest)) {
        egress_conn_refuse(conn, 503, "too many hosts of this sandbox are being looked up at once");
        return;
    }
    rc = egress_resolve(conn->gateway->resolver, conn->host, on_resolved, conn, &conn->query,
                        &conn->addresses);
    if (rc < 0) {
        refuse_unresolved(conn, rc);
    } else if (rc == 1) {
        have_addresses(conn);
    }
}

/* ---- connecting ------------------------------------------------------------------ */

static int begin_connect(struct egress_conn *conn, const struct egress_address *address)
{
    struct sockaddr_storage to;
    socklen_t len = egress_address_to_socket(address, conn->port, &to);
    int fd = socket(address->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;

    if (fd < 0) {
        return -errno;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    if (connect(fd, (struct sockaddr *)&to, len) < 0 && errno != EINPROGRESS) {
        int errnum = errno;

        (void)close(fd);
        return -errnum;
    }
    if (uv_poll_init(conn->gateway->loop, &conn->server_poll, fd) < 0) {
        (void)close(fd);
        return -ENOMEM;
    }
    conn->has_server_poll = true;
    conn->handles++;
    conn->server.fd = fd;
    return 0;
}

static void connected(struct egress_conn *conn)
{
    if (conn->kind == EGRESS_KIND_UNKNOWN) {
        static const char answer[] = "HTTP/1.1 200 Connection established\r\n\r\n";

        conn->tunnel = true;
        if (shl_buf_append_str(&conn->client.out, answer) < 0) {
            egress_conn_close(conn);
            return;
        }
        egress_conn_set_phase(conn, EGRESS_PHASE_FIRST);
        egress_conn_first(conn, false);
    } else if (conn->kind == EGRESS_KIND_INTERCEPT) {
        egress_conn_set_phase(conn, EGRESS_PHASE_SERVER_HELLO);
        egress_conn_server_hello(conn);
    } else {
        egress_conn_begin_flow(conn);
    }
}

/* How the connection attempt under way stands: 1 connected, 0 not yet, negative failed. */
static int attempt_state(const struct egress_conn *conn)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(int), peer_len = sizeof(peer);
    int error = 0;

    if (getsockopt(conn->server.fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0) {
        return -errno;
    }
    if (error != 0) {
        return -error;
    }
    if (getpeername(conn->server.fd, (struct sockaddr *)&peer, &peer_len) == 0) {
        return 1;
    }
    return errno == ENOTCONN ? 0 : -errno;
}

static void refuse_unreached(struct egress_conn *conn, int code, bool any_allowed)
{
    char text[160];

    if (!any_allowed) {
        egress_conn_refuse(conn, 403,
                           "the host leads to a private or reserved address, which no sandbox may "
                           "reach");
        return;
    }
    (void)snprintf(text, sizeof(text), "the server cannot be reached: %s", strerror(-code));
    egress_conn_refuse(conn, 502, text);
}

/* The socket of the failed attempt is replaced under the same poll handle (uv_poll knows the
 * number only): dup2 keeps the number and loses the old registration with the old socket. */
static int retry_connect(struct egress_conn *conn, const struct egress_address *address)
{
    struct sockaddr_storage to;
    socklen_t len = egress_address_to_socket(address, conn->port, &to);
    int fd = socket(address->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int rc = 0;

    if (fd < 0) {
        return -errno;
    }
    (void)uv_poll_stop(&conn->server_poll);
    conn->server_mask = 0;
    if (dup3(fd, conn->server.fd, O_CLOEXEC) < 0) {
        rc = -errno;
    }
    (void)close(fd);
    if (rc == 0 && connect(conn->server.fd, (struct sockaddr *)&to, len) < 0 &&
        errno != EINPROGRESS) {
        rc = -errno;
    }
    return rc;
}

void egress_conn_connecting(struct egress_conn *conn)
{
    const struct egress_gateway_config *config = &conn->gateway->config;
    int rc = -EHOSTUNREACH;
    bool any_allowed = false;

    if (conn->has_server_poll) {
        rc = attempt_state(conn);
        if (rc == 0) {
            return;
        }
        if (rc == 1) {
            connected(conn);
            return;
        }
        any_allowed = true;
    }
    while (conn->next_address < conn->addresses.count) {
        const struct egress_address *address = &conn->addresses.addresses[conn->next_address++];

        if (!egress_address_may_be_reached(address, config->allowed, config->allowed_count)) {
            continue;
        }
        any_allowed = true;
        rc = conn->has_server_poll ? retry_connect(conn, address) : begin_connect(conn, address);
        if (rc == 0) {
            return;
        }
    }
    refuse_unreached(conn, rc, any_allowed);
}

/* ---- TLS ------------------------------------------------------------------------- */

static int secure_server(struct egress_conn *conn)
{
    struct egress_address address;
    SSL *ssl;

    if (egress_end_secure(&conn->server, conn->gateway->server_tls, false) < 0) {
        return -ENOMEM;
    }
    ssl = conn->server.ssl;
    if (egress_address_parse(&address, conn->host) == 0) {
        char text[EGRESS_ADDRESS_TEXT_SIZE];

        egress_address_format(text, &address);
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), text) == 1 ? 0 : -ENOMEM;
    }
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (SSL_set_tlsext_host_name(ssl, conn->host) != 1 || SSL_set1_host(ssl, conn->host) != 1 ||
        SSL_set_alpn_protos(ssl, alpn_http11, sizeof(alpn_http11) - 1) != 0) {
        return -ENOMEM;
    }
    return 0;
}

static void refuse_server_tls(struct egress_conn *conn)
{
    long verdict = SSL_get_verify_result(conn->server.ssl);
    char text[200];

    if (verdict != X509_V_OK) {
        conn->gateway->counters.unverified++;
        (void)snprintf(text, sizeof(text), "the certificate of the server is not trusted: %s",
                       X509_verify_cert_error_string(verdict));
    } else {
        (void)snprintf(text, sizeof(text), "TLS with the server failed");
    }
    egress_conn_refuse(conn, 502, text);
}

void egress_conn_server_hello(struct egress_conn *conn)
{
    int rc;

    if (!conn->server.ssl && secure_server(conn) < 0) {
        egress_conn_close(conn);
        return;
    }
    rc = egress_end_handshake(&conn->server);
    if (rc == 0) {
        return;
    }
    if (rc < 0) {
        refuse_server_tls(conn);
        return;
    }
    egress_conn_set_phase(conn, EGRESS_PHASE_CLIENT_HELLO);
    egress_conn_client_hello(conn);
}

void egress_conn_client_hello(struct egress_conn *conn)
{
    int rc;

    if (!conn->client.ssl) {
        if (egress_end_secure(&conn->client, conn->gateway->client_tls, true) < 0 ||
            egress_authority_dress(conn->gateway->authority, conn->client.ssl, conn->host) < 0) {
            egress_conn_close(conn);
            return;
        }
    }
    rc = egress_end_handshake(&conn->client);
    if (rc == 0) {
        return;
    }
    if (rc < 0) {
        egress_conn_close(conn); /* OpenSSL sent the alert; often the client does not trust us */
        return;
    }
    if (conn->refused_status) {
        egress_conn_refuse(conn, conn->refused_status, conn->refused_text);
        return;
    }
    egress_conn_begin_flow(conn);
}
