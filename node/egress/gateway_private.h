/* What the files of the gateway share. */
#ifndef SHL_NODE_EGRESS_GATEWAY_PRIVATE_H
#define SHL_NODE_EGRESS_GATEWAY_PRIVATE_H

#include <netinet/in.h>

#include <openssl/ssl.h>

#include "base/list.h"
#include "node/egress/authority.h"
#include "node/egress/end.h"
#include "node/egress/gateway.h"
#include "node/egress/host.h"
#include "node/egress/metadata_server.h"
#include "node/egress/reply.h"
#include "node/egress/request.h"
#include "node/egress/resolver.h"

#define EGRESS_GUEST_BUCKETS 1024
#define EGRESS_ACCEPT_MAX    64 /* connections in one round of the loop */

struct egress_guest {
    struct egress_guest *next; /* in its bucket */
    uint32_t address;          /* host byte order */
    char id[EGRESS_GUEST_ID_SIZE];
    struct node_egress_policy policy;
    struct node_egress_facts facts;
    struct egress_metadata_guest metadata;
    struct shl_list conns;
    uint32_t conn_count;
    bool marked;
    uint64_t minute; /* of the refusals below */
    uint32_t refusals;
};

struct egress_gateway {
    uv_loop_t *loop;
    struct egress_gateway_config config;
    const struct shl_log *log;
    uv_poll_t listener;
    uv_poll_t dns;
    bool has_dns;
    uv_timer_t tick;
    uv_idle_t idle; /* runs while some connection has more to do than it got time for */
    uv_prepare_t prepare;
    struct shl_list busy;
    struct egress_resolver *resolver;
    struct egress_authority *authority; /* NULL until the daemon gave one */
    SSL_CTX *client_tls;                /* towards guests */
    SSL_CTX *server_tls;                /* towards servers */
    struct egress_guest *guests[EGRESS_GUEST_BUCKETS];
    struct shl_list conns; /* all of them */
    struct egress_metadata metadata;
    bool knows_guests; /* a daemon has told all of them */
    struct egress_counters counters;
    uint32_t conns_alive; /* until their memory is gone */
    int handles;
    bool closing;
    void (*close_cb)(void *arg);
    void *close_arg;
    struct shl_list dns_jobs; /* questions of guests under way */
    uint32_t dns_job_count;
};

struct egress_guest *egress_guest_find(const struct egress_gateway *gateway, uint32_t address);
/* False: somebody unknown may be one that was not told yet. */
bool egress_gateway_knows_guests(const struct egress_gateway *gateway);
/* Says it once in the log, unless there were too many this minute. */
/* The next connection; negative: nothing more, one that left already, or out of descriptors: later.
 */
int egress_accept(int listen_fd, struct sockaddr_in *ret_from);
void egress_log_refusal(struct egress_gateway *gateway,
                        struct egress_guest *guest,
                        const char *host,
                        uint16_t port,
                        const char *reason);
/* The last handle or connection of a closing gateway is gone? */
void egress_gateway_check_closed(struct egress_gateway *gateway);

/* ---- conn*.c --------------------------------------------------------------------- */

enum egress_phase {
    EGRESS_PHASE_FIRST,        /* what does the client want */
    EGRESS_PHASE_RESOLVE,      /* where is that host */
    EGRESS_PHASE_CONNECT,      /* reaching it */
    EGRESS_PHASE_SERVER_HELLO, /* TLS with the server */
    EGRESS_PHASE_CLIENT_HELLO, /* TLS with the client */
    EGRESS_PHASE_FLOW,
    EGRESS_PHASE_REFUSE, /* the reason is on its way to the client */
    EGRESS_PHASE_CLOSED, /* handles are closing */
};

enum egress_kind {
    EGRESS_KIND_UNKNOWN,
    EGRESS_KIND_SPLICE,    /* bytes pass untouched */
    EGRESS_KIND_HTTP,      /* plain HTTP: each request is checked, none is altered */
    EGRESS_KIND_INTERCEPT, /* TLS is opened, tokens are replaced */
};

struct egress_conn {
    struct shl_list all, of_guest, busy;
    struct egress_gateway *gateway;
    struct egress_guest *guest; /* NULL once closed */
    enum egress_phase phase;
    enum egress_kind kind;
    uint64_t deadline_ms;           /* 0: none */
    bool explicit_proxy;            /* the client knows it speaks to a proxy */
    bool tunnel;                    /* CONNECT was answered */
    bool has_hello;                 /* the client speaks TLS */
    bool by_address;                /* goes where it was going, whatever name it bears */
    struct egress_address original; /* where it was redirected from */
    uint16_t port;
    char host[EGRESS_HOST_SIZE]; /* "" when only the address is known */
    struct egress_end client, server;
    uv_poll_t client_poll, server_poll;
    bool has_server_poll;
    int client_mask, server_mask;
    int handles;
    struct egress_query *query;
    struct egress_dns_answer addresses;
    size_t next_address;
    struct egress_request request;
    struct egress_reply reply;
    struct egress_exchanges exchanges;
    uint64_t replaced_told;
    int refused_status; /* told when TLS with the client stands */
    char refused_text[256];
};

/* Take @fd, a connection of @guest. Closes it when that is not possible. */
void egress_conn_accept(struct egress_gateway *gateway, struct egress_guest *guest, int fd);
void egress_conn_close(struct egress_conn *conn);
/* Do what can be done; called when something happened. */
void egress_conn_step(struct egress_conn *conn);
void egress_conn_tick(struct egress_conn *conn, uint64_t now_ms);

/* FIRST: looks at the client's bytes (conn_first.c). */
void egress_conn_first(struct egress_conn *conn, bool waited_enough);
/* RESOLVE, CONNECT and the handshakes (conn_reach.c). */
void egress_conn_reach(struct egress_conn *conn);
void egress_conn_connecting(struct egress_conn *conn);
void egress_conn_server_hello(struct egress_conn *conn);
void egress_conn_client_hello(struct egress_conn *conn);
/* FLOW and REFUSE (conn_flow.c). */
void egress_conn_begin_flow(struct egress_conn *conn);
void egress_conn_flow(struct egress_conn *conn);
void egress_conn_farewell(struct egress_conn *conn);

void egress_conn_set_phase(struct egress_conn *conn, enum egress_phase phase);
/* Tell the client in the language it speaks, then end. @text is one sentence. */
void egress_conn_refuse(struct egress_conn *conn, int status, const char *text);
void egress_conn_watch(struct egress_conn *conn);

/* ---- dns_filter.c ---------------------------------------------------------------- */
void egress_dns_filter_read(struct egress_gateway *gateway);
void egress_dns_filter_close(struct egress_gateway *gateway);

#endif /* SHL_NODE_EGRESS_GATEWAY_PRIVATE_H */
