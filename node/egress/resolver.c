/* Happy path: egress_resolve -> send_question -> on_readable -> finish.
 * What can go wrong: no answer (on_timer asks again, then gives up), an answer to something
 * else (read over; the socket is connected, so it came from the server's address), no IPv4
 * address (asks for IPv6 once), a refusal (asks once more without offering a size, which an old
 * server does not know).
 */
#include "node/egress/resolver.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/id.h"
#include "base/sum.h"

#define FIRST_WAIT_MS 1000
#define KEEP_MIN_S    1
#define KEEP_MAX_S    300

struct kept {
    char host[EGRESS_HOST_SIZE];
    uint64_t until_ms; /* 0: empty */
    struct egress_dns_answer answer;
};

struct egress_resolver {
    uv_loop_t *loop;
    uint32_t server;
    uint16_t port;
    uint32_t open;
    bool closing; /* freed with the last query */
    struct kept kept[EGRESS_RESOLVER_KEPT];
};

struct egress_query {
    struct egress_resolver *resolver;
    char host[EGRESS_HOST_SIZE];
    enum egress_dns_type type;
    uint16_t id;
    unsigned tries;
    bool plain; /* the server does not take longer answers */
    int fd;
    int handles;
    uv_poll_t poll;
    uv_timer_t timer;
    egress_resolve_cb cb; /* NULL once told or cancelled */
    void *arg;
};

static void on_timer(uv_timer_t *timer);

int egress_resolver_open(uv_loop_t *loop,
                         uint32_t server,
                         uint16_t port,
                         struct egress_resolver **ret)
{
    struct egress_resolver *resolver = calloc(1, sizeof(*resolver));

    if (!resolver) {
        return -ENOMEM;
    }
    resolver->loop = loop;
    resolver->server = server;
    resolver->port = port;
    *ret = resolver;
    return 0;
}

void egress_resolver_free(struct egress_resolver *resolver)
{
    if (resolver && resolver->open > 0) {
        resolver->closing = true;
    } else {
        free(resolver);
    }
}

static struct kept *kept_slot(struct egress_resolver *resolver, const char *host)
{
    return &resolver->kept[shl_hash_text(host) % EGRESS_RESOLVER_KEPT];
}

static void keep(struct egress_resolver *resolver,
                 const char *host,
                 const struct egress_dns_answer *answer)
{
    struct kept *kept = kept_slot(resolver, host);
    uint64_t ttl_s = SHL_MAX(KEEP_MIN_S, SHL_MIN(answer->ttl_s, KEEP_MAX_S));

    (void)snprintf(kept->host, sizeof(kept->host), "%s", host);
    kept->until_ms = uv_now(resolver->loop) + ttl_s * 1000;
    kept->answer = *answer;
}

static void on_closed(uv_handle_t *handle)
{
    struct egress_query *query = handle->data;

    struct egress_resolver *resolver = query->resolver;

    if (--query->handles > 0) {
        return;
    }
    free(query);
    if (--resolver->open == 0 && resolver->closing) {
        free(resolver);
    }
}

static void end_query(struct egress_query *query)
{
    query->cb = NULL;
    uv_close((uv_handle_t *)&query->poll, on_closed);
    uv_close((uv_handle_t *)&query->timer, on_closed);
    (void)close(query->fd);
    query->fd = -1;
}

static void finish(struct egress_query *query, int code, const struct egress_dns_answer *answer)
{
    egress_resolve_cb cb = query->cb;
    void *arg = query->arg;

    if (code == 0) {
        keep(query->resolver, query->host, answer);
    }
    end_query(query);
    cb(arg, code, code == 0 ? answer : NULL);
}

void egress_query_cancel(struct egress_query *query)
{
    end_query(query);
}

/* A lost packet and one that was refused look the same: the timer asks again. */
static void send_question(struct egress_query *query)
{
    uint8_t question[EGRESS_DNS_QUESTION_MAX];
    int len = egress_dns_ask(question, query->id, query->host, query->type);

    assert(len > 0);
    if (!query->plain) {
        len = egress_dns_offer_size(question, len);
    }
    (void)send(query->fd, question, (size_t)len, MSG_NOSIGNAL);
    (void)uv_timer_start(&query->timer, on_timer, (uint64_t)FIRST_WAIT_MS << query->tries, 0);
    query->tries++;
}

static void on_timer(uv_timer_t *timer)
{
    struct egress_query *query = timer->data;

    if (query->tries >= EGRESS_RESOLVER_TRIES) {
        finish(query, SHL_EUNAVAILABLE, NULL);
        return;
    }
    send_question(query);
}

static void ask_for(struct egress_query *query, enum egress_dns_type type)
{
    query->type = type;
    query->tries = 0;
    shl_random_bytes(&query->id, sizeof(query->id));
    send_question(query);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct egress_query *query = poll->data;
    uint8_t message[EGRESS_DNS_MESSAGE_MAX];
    struct egress_dns_answer answer;
    ssize_t len;
    int rc;

    (void)status;
    (void)events;
    len = recv(query->fd, message, sizeof(message), 0);
    if (len < 0) {
        return;
    }
    rc = egress_dns_read(shl_bytes_of(message, (size_t)len), query->id, query->host, query->type,
                         &answer);
    if (rc == SHL_EPROTO) {
        return;
    }
    if (rc == SHL_ENOTFOUND && query->type == EGRESS_DNS_A) {
        ask_for(query, EGRESS_DNS_AAAA);
        return;
    }
    if (rc == SHL_EUNAVAILABLE && !query->plain) {
        query->plain = true;
        ask_for(query, query->type);
        return;
    }
    finish(query, rc, &answer);
}

/* A socket of its own gives each query a port nobody can guess. */
static int open_socket(const struct egress_resolver *resolver)
{
    struct egress_address server = {.family = AF_INET, .v4.s_addr = htonl(resolver->server)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_storage to;
    socklen_t len = egress_address_to_socket(&server, resolver->port, &to);

    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, len) < 0) {
        int errnum = errno;

        (void)close(fd);
        return -errnum;
    }
    return fd < 0 ? -errno : fd;
}

int egress_resolve(struct egress_resolver *resolver,
                   const char *host,
                   egress_resolve_cb cb,
                   void *arg,
                   struct egress_query **ret_query,
                   struct egress_dns_answer *ret_answer)
{
    const struct kept *kept = kept_slot(resolver, host);
    uint8_t question[EGRESS_DNS_QUESTION_MAX];
    struct egress_query *query;
    int rc;

    if (kept->until_ms > uv_now(resolver->loop) && strcmp(kept->host, host) == 0) {
        *ret_answer = kept->answer;
        return 1;
    }
    if (egress_dns_ask(question, 0, host, EGRESS_DNS_A) < 0) {
        return -EINVAL;
    }
    if (resolver->server == 0) {
        return SHL_EUNAVAILABLE;
    }
    if (resolver->open >= EGRESS_RESOLVER_OPEN_MAX) {
        return SHL_ELIMIT;
    }
    query = calloc(1, sizeof(*query));
    if (!query) {
        return -ENOMEM;
    }
    query->resolver = resolver;
    query->cb = cb;
    query->arg = arg;
    (void)snprintf(query->host, sizeof(query->host), "%s", host);
    query->fd = open_socket(resolver);
    rc = query->fd < 0 ? query->fd : uv_poll_init(resolver->loop, &query->poll, query->fd);
    if (rc < 0) {
        if (query->fd >= 0) {
            (void)close(query->fd);
        }
        free(query);
        return rc;
    }
    (void)uv_timer_init(resolver->loop, &query->timer);
    query->poll.data = query->timer.data = query;
    query->handles = 2;
    resolver->open++;
    (void)uv_poll_start(&query->poll, UV_READABLE, on_readable);
    ask_for(query, EGRESS_DNS_A);
    *ret_query = query;
    return 0;
}
