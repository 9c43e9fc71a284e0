#include "node/egress/gateway.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "node/egress/gateway_private.h"

#define TICK_MS          250
#define READ_AHEAD_BYTES (64 * 1024)

/* ---- guests ---------------------------------------------------------------------- */

static struct egress_guest **guest_slot(struct egress_gateway *gateway, uint32_t address)
{
    struct egress_guest **slot = &gateway->guests[(address ^ address >> 10) % EGRESS_GUEST_BUCKETS];

    while (*slot && (*slot)->address != address) {
        slot = &(*slot)->next;
    }
    return slot;
}

struct egress_guest *egress_guest_find(const struct egress_gateway *gateway, uint32_t address)
{
    struct egress_guest *guest = gateway->guests[(address ^ address >> 10) % EGRESS_GUEST_BUCKETS];

    while (guest && guest->address != address) {
        guest = guest->next;
    }
    return guest;
}

/* With an allowlist a guest reaches hosts by name, at two ports; what began without one may have
 * gone elsewhere, under any name. */
static bool may_stay(const struct egress_guest *guest, const struct egress_conn *conn)
{
    if (guest->policy.is_open) {
        return true;
    }
    return conn->host[0] && !conn->by_address &&
           (conn->port == EGRESS_PORT_HTTP || conn->port == EGRESS_PORT_HTTPS) &&
           node_egress_may_reach(&guest->policy, conn->host);
}

static void close_conns(struct egress_guest *guest, bool all)
{
    struct shl_list *it, *tmp;

    SHL_LIST_FOREACH_SAFE(it, tmp, &guest->conns) {
        struct egress_conn *conn = shl_container_of(it, struct egress_conn, of_guest);

        if (all ||
            (!may_stay(guest, conn) && (conn->phase != EGRESS_PHASE_FIRST || conn->tunnel))) {
            egress_conn_close(conn);
        }
    }
}

int egress_gateway_set_guest(struct egress_gateway *gateway,
                             uint32_t address,
                             const char *id,
                             const struct node_egress_facts *facts,
                             struct node_egress_policy *policy)
{
    struct egress_guest **slot = guest_slot(gateway, address);
    struct egress_guest *guest = *slot;

    if (!guest) {
        guest = gateway->counters.guests < EGRESS_GUESTS_MAX ? calloc(1, sizeof(*guest)) : NULL;
        if (!guest) {
            node_egress_policy_release(policy);
            return gateway->counters.guests < EGRESS_GUESTS_MAX ? -ENOMEM : SHL_ELIMIT;
        }
        guest->address = address;
        shl_list_init(&guest->conns);
        egress_metadata_guest_init(&guest->metadata);
        *slot = guest;
        gateway->counters.guests++;
    } else if (strcmp(guest->id, id) != 0) {
        close_conns(guest, true); /* the address is another sandbox's now */
        egress_metadata_drop(&guest->metadata);
    }
    guest->facts = *facts;
    (void)snprintf(guest->id, sizeof(guest->id), "%s", id);
    (void)node_egress_policy_keep(policy, &guest->policy); /* tokens are one sandbox's alone */
    node_egress_policy_release(&guest->policy);
    guest->policy = *policy;
    memset(policy, 0, sizeof(*policy));
    guest->marked = false;
    close_conns(guest, false);
    return 0;
}

static void drop_guest(struct egress_gateway *gateway, struct egress_guest **slot)
{
    struct egress_guest *guest = *slot;

    close_conns(guest, true);
    egress_metadata_drop(&guest->metadata);
    *slot = guest->next;
    node_egress_policy_release(&guest->policy);
    free(guest);
    gateway->counters.guests--;
}

void egress_gateway_drop_guest(struct egress_gateway *gateway, uint32_t address)
{
    struct egress_guest **slot = guest_slot(gateway, address);

    if (*slot) {
        drop_guest(gateway, slot);
    }
}

void egress_gateway_mark(struct egress_gateway *gateway)
{
    struct egress_guest *guest;
    size_t i;

    for (i = 0; i < EGRESS_GUEST_BUCKETS; i++) {
        for (guest = gateway->guests[i]; guest; guest = guest->next) {
            guest->marked = true;
        }
    }
}

static void drop_guests(struct egress_gateway *gateway, bool marked_only)
{
    size_t i;

    for (i = 0; i < EGRESS_GUEST_BUCKETS; i++) {
        struct egress_guest **slot = &gateway->guests[i];

        while (*slot) {
            if ((*slot)->marked || !marked_only) {
                drop_guest(gateway, slot);
            } else {
                slot = &(*slot)->next;
            }
        }
    }
}

void egress_gateway_sweep(struct egress_gateway *gateway)
{
    drop_guests(gateway, true);
    gateway->knows_guests = true;
}

bool egress_gateway_knows_guests(const struct egress_gateway *gateway)
{
    return gateway->knows_guests;
}

void egress_gateway_set_ask(struct egress_gateway *gateway, node_egress_ask ask, void *arg)
{
    struct egress_guest *guest;
    size_t i;

    gateway->metadata.ask = ask;
    gateway->metadata.ask_arg = arg;
    for (i = 0; i < EGRESS_GUEST_BUCKETS; i++) { /* whoever was asked answers no more */
        for (guest = gateway->guests[i]; guest; guest = guest->next) {
            egress_metadata_figures(guest, NULL);
        }
    }
}

void egress_gateway_figures(struct egress_gateway *gateway,
                            uint32_t address,
                            const char *id,
                            const struct node_egress_figures *figures)
{
    struct egress_guest *guest = egress_guest_find(gateway, address);

    if (guest && strcmp(guest->id, id) == 0) {
        egress_metadata_figures(guest, figures);
    }
}

void egress_log_refusal(struct egress_gateway *gateway,
                        struct egress_guest *guest,
                        const char *host,
                        uint16_t port,
                        const char *reason)
{
    uint64_t minute = uv_now(gateway->loop) / 60000;

    if (guest->minute != minute) {
        if (guest->refusals > EGRESS_REFUSALS_A_MINUTE) {
            SHL_LOG(gateway->log, SHL_LOG_WARN, "egress.refused_more", SHL_S("sandbox", guest->id),
                    SHL_I("count", guest->refusals - EGRESS_REFUSALS_A_MINUTE));
        }
        guest->minute = minute;
        guest->refusals = 0;
    }
    if (guest->refusals++ < EGRESS_REFUSALS_A_MINUTE) {
        SHL_LOG(gateway->log, SHL_LOG_INFO, "egress.refused", SHL_S("sandbox", guest->id),
                SHL_S("host", host), SHL_I("port", port), SHL_S("reason", reason));
    }
}

/* ---- accepting ------------------------------------------------------------------- */

static void take_connection(struct egress_gateway *gateway, int fd, const struct sockaddr_in *from)
{
    struct egress_guest *guest = egress_guest_find(gateway, ntohl(from->sin_addr.s_addr));

    if (from->sin_family != AF_INET || !guest) {
        gateway->counters.refused++;
        (void)close(fd);
        return;
    }
    if (guest->conn_count >= EGRESS_GUEST_CONNS_MAX || gateway->counters.open >= EGRESS_CONNS_MAX) {
        gateway->counters.over_limit++;
        egress_log_refusal(gateway, guest, "", 0, "too many connections at once");
        (void)close(fd);
        return;
    }
    egress_conn_accept(gateway, guest, fd);
}

int egress_accept(int listen_fd, struct sockaddr_in *ret_from)
{
    socklen_t len = sizeof(*ret_from);

    memset(ret_from, 0, sizeof(*ret_from));
    return accept4(listen_fd, (struct sockaddr *)ret_from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static void on_acceptable(uv_poll_t *poll, int status, int events)
{
    struct egress_gateway *gateway = poll->data;
    int i;

    (void)status;
    (void)events;
    for (i = 0; i < EGRESS_ACCEPT_MAX; i++) {
        struct sockaddr_in from;
        int fd = egress_accept(gateway->config.listen_fd, &from);

        if (fd < 0) {
            break;
        }
        take_connection(gateway, fd, &from);
    }
}

static void on_question(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    egress_dns_filter_read(poll->data);
}

static void on_tick(uv_timer_t *timer)
{
    struct egress_gateway *gateway = timer->data;
    uint64_t now_ms = uv_now(gateway->loop);
    struct shl_list *it, *tmp;

    SHL_LIST_FOREACH_SAFE(it, tmp, &gateway->conns) {
        egress_conn_tick(shl_container_of(it, struct egress_conn, all), now_ms);
    }
    egress_metadata_tick(&gateway->metadata, now_ms);
}

static void on_idle(uv_idle_t *idle)
{
    struct egress_gateway *gateway = idle->data;
    struct shl_list now = SHL_LIST_INIT(now);

    /* those that are still busy come back to the list, behind the others */
    if (!shl_list_empty(&gateway->busy)) {
        now = gateway->busy;
        now.next->prev = now.prev->next = &now;
        shl_list_init(&gateway->busy);
    }
    while (!shl_list_empty(&now)) {
        struct egress_conn *conn = shl_container_of(shl_list_first(&now), struct egress_conn, busy);

        shl_list_remove(&conn->busy);
        egress_conn_step(conn);
    }
}

/* The idle handle keeps the loop from sleeping, so it runs only when it has to. */
static void on_prepare(uv_prepare_t *prepare)
{
    struct egress_gateway *gateway = prepare->data;

    if (shl_list_empty(&gateway->busy)) {
        (void)uv_idle_stop(&gateway->idle);
    } else {
        (void)uv_idle_start(&gateway->idle, on_idle);
    }
}

/* ---- TLS ------------------------------------------------------------------------- */

static int choose_alpn(SSL *ssl,
                       const unsigned char **out,
                       unsigned char *out_len,
                       const unsigned char *in,
                       unsigned in_len,
                       void *arg)
{
    unsigned at;

    (void)ssl;
    (void)arg;
    for (at = 0; at < in_len && in[at] < in_len - at; at += in[at] + 1u) {
        if (in[at] == 8 && memcmp(in + at + 1, "http/1.1", 8) == 0) {
            *out = in + at + 1;
            *out_len = 8;
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_NOACK;
}

static SSL_CTX *new_context(const SSL_METHOD *method)
{
    SSL_CTX *ctx = SSL_CTX_new(method);

    if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    (void)SSL_CTX_set_options(ctx,
                              SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
    (void)SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    /* several records with one call instead of two calls for each */
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_default_read_buffer_len(ctx, READ_AHEAD_BYTES);
    return ctx;
}

static int open_tls(struct egress_gateway *gateway, struct shl_err *err)
{
    const char *file = gateway->config.trust_file;

    gateway->client_tls = new_context(TLS_server_method());
    gateway->server_tls = new_context(TLS_client_method());
    if (!gateway->client_tls || !gateway->server_tls) {
        return shl_err_set(err, -ENOMEM, "TLS cannot be set up");
    }
    SSL_CTX_set_alpn_select_cb(gateway->client_tls, choose_alpn, NULL);
    SSL_CTX_set_verify(gateway->server_tls, SSL_VERIFY_PEER, NULL);
    if (SSL_CTX_load_verify_file(gateway->server_tls, file) != 1) {
        ERR_clear_error();
        return shl_err_set(err, SHL_EINVALIDARG,
                           "no certificates can be read from %s: install ca-certificates, or name "
                           "another file with --trust",
                           file);
    }
    return 0;
}

int egress_gateway_set_authority(struct egress_gateway *gateway,
                                 struct shl_bytes pem,
                                 struct shl_err *err)
{
    struct egress_authority *authority;
    int rc = egress_authority_open(pem, &authority, err);

    if (rc == 0) {
        egress_authority_close(gateway->authority);
        gateway->authority = authority;
    }
    return rc;
}

/* Everything in the bundle that is a certificate; 0 when there is none. */
static size_t add_certificates(X509_STORE *store, struct shl_bytes pem)
{
    BIO *bio = pem.len <= INT_MAX ? BIO_new_mem_buf(pem.base, (int)pem.len) : NULL;
    size_t count = 0;
    X509 *x;

    while (bio && (x = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL))) {
        count += X509_STORE_add_cert(store, x) == 1;
        X509_free(x);
    }
    BIO_free(bio);
    ERR_clear_error(); /* of the end */
    return count;
}

int egress_gateway_set_trust(struct egress_gateway *gateway,
                             struct shl_bytes pem,
                             struct shl_err *err)
{
    X509_STORE *store = X509_STORE_new();

    if (!store || add_certificates(store, pem) == 0) {
        X509_STORE_free(store);
        return shl_err_set(err, SHL_EINVALIDARG, "there are no certificates in it");
    }
    SSL_CTX_set1_cert_store(gateway->server_tls, store);
    X509_STORE_free(store);
    return 0;
}

void egress_gateway_set_private(struct egress_gateway *gateway,
                                const struct egress_prefix *allowed,
                                size_t count)
{
    assert(count <= EGRESS_PREFIXES_MAX);
    memcpy(gateway->config.allowed, allowed, count * sizeof(*allowed));
    gateway->config.allowed_count = count;
}

/* ---- opening and closing --------------------------------------------------------- */

static void gateway_free(struct egress_gateway *gateway)
{
    egress_authority_close(gateway->authority);
    SSL_CTX_free(gateway->client_tls);
    SSL_CTX_free(gateway->server_tls);
    egress_resolver_free(gateway->resolver);
    free(gateway);
}

static int watch(struct egress_gateway *gateway)
{
    int rc = uv_poll_init(gateway->loop, &gateway->listener, gateway->config.listen_fd);

    rc = rc < 0 ? rc
                : egress_metadata_open(&gateway->metadata, gateway, gateway->loop,
                                       gateway->config.metadata_fd);
    if (rc < 0) {
        return rc;
    }
    gateway->has_dns = gateway->config.dns_fd >= 0 &&
                       uv_poll_init(gateway->loop, &gateway->dns, gateway->config.dns_fd) == 0;
    (void)uv_timer_init(gateway->loop, &gateway->tick);
    (void)uv_idle_init(gateway->loop, &gateway->idle);
    (void)uv_prepare_init(gateway->loop, &gateway->prepare);
    gateway->listener.data = gateway->dns.data = gateway->tick.data = gateway->idle.data =
        gateway->prepare.data = gateway;
    gateway->handles = gateway->has_dns ? 6 : 5;
    (void)uv_poll_start(&gateway->listener, UV_READABLE, on_acceptable);
    if (gateway->has_dns) {
        (void)uv_poll_start(&gateway->dns, UV_READABLE, on_question);
    }
    (void)uv_timer_start(&gateway->tick, on_tick, TICK_MS, TICK_MS);
    (void)uv_prepare_start(&gateway->prepare, on_prepare);
    return 0;
}

int egress_gateway_open(uv_loop_t *loop,
                        const struct egress_gateway_config *config,
                        struct egress_gateway **ret,
                        struct shl_err *err)
{
    struct egress_gateway *gateway = calloc(1, sizeof(*gateway));
    int rc;

    if (!gateway) {
        return shl_err_sys(err, ENOMEM, "the gateway cannot be opened");
    }
    gateway->loop = loop;
    gateway->config = *config;
    gateway->log = config->log;
    shl_list_init(&gateway->conns);
    shl_list_init(&gateway->busy);
    shl_list_init(&gateway->dns_jobs);
    shl_list_init(&gateway->metadata.conns);
    egress_metadata_guest_init(&gateway->metadata.strangers);
    rc = open_tls(gateway, err);
    if (rc == 0) {
        rc = egress_resolver_open(loop, config->dns, config->dns_port, &gateway->resolver);
        rc = rc < 0 ? shl_err_sys(err, -rc, "the gateway cannot be opened") : 0;
    }
    if (rc == 0) {
        rc = watch(gateway);
        rc = rc < 0 ? shl_err_sys(err, -rc, "the gateway cannot be opened") : 0;
    }
    if (rc < 0) {
        gateway_free(gateway);
        return rc;
    }
    *ret = gateway;
    return 0;
}

void egress_gateway_check_closed(struct egress_gateway *gateway)
{
    void (*cb)(void *arg) = gateway->close_cb;
    void *arg = gateway->close_arg;

    if (!gateway->closing || gateway->handles > 0 || gateway->conns_alive > 0 ||
        gateway->metadata.count > 0 || gateway->dns_job_count > 0) {
        return;
    }
    gateway_free(gateway);
    if (cb) {
        cb(arg);
    }
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct egress_gateway *gateway = handle->data;

    if (handle == (uv_handle_t *)&gateway->listener) {
        (void)close(gateway->config.listen_fd);
    } else if (handle == (uv_handle_t *)&gateway->dns) {
        (void)close(gateway->config.dns_fd);
    }
    gateway->handles--;
    egress_gateway_check_closed(gateway);
}

static void on_metadata_closed(uv_handle_t *handle)
{
    struct egress_metadata *metadata = handle->data;

    (void)close(metadata->listen_fd);
    metadata->gateway->handles--;
    egress_gateway_check_closed(metadata->gateway);
}

void egress_gateway_close(struct egress_gateway *gateway, void (*cb)(void *arg), void *arg)
{
    gateway->closing = true;
    gateway->close_cb = cb;
    gateway->close_arg = arg;
    drop_guests(gateway, false);
    egress_dns_filter_close(gateway);
    egress_metadata_close(&gateway->metadata, on_metadata_closed);
    uv_close((uv_handle_t *)&gateway->listener, on_handle_closed);
    if (gateway->has_dns) {
        uv_close((uv_handle_t *)&gateway->dns, on_handle_closed);
    }
    uv_close((uv_handle_t *)&gateway->tick, on_handle_closed);
    uv_close((uv_handle_t *)&gateway->idle, on_handle_closed);
    uv_close((uv_handle_t *)&gateway->prepare, on_handle_closed);
}

void egress_gateway_counters(const struct egress_gateway *gateway, struct egress_counters *ret)
{
    *ret = gateway->counters;
}
