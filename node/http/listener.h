/* The listening socket, and connections until their first request head is complete.
 *
 * Accepts, keeps the limit on connections, looks at the first head without taking it
 * from the socket (node/http/screen.h) and hands the socket to the owner when it is
 * good. Everything else is answered here and closed after a moment, so that the client
 * can read the answer: a reset would throw it away. Loop thread.
 */
#ifndef SHL_NODE_HTTP_LISTENER_H
#define SHL_NODE_HTTP_LISTENER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include <uv.h>

#include "base/err.h"
#include "base/list.h"
#include "base/log.h"

#define NODE_LISTENER_BACKLOG     512
#define NODE_LISTENER_LINGER_MS   2000
#define NODE_LISTENER_ACCEPT_MAX  64 /* per wake-up, so that other work gets its turn */
#define NODE_LISTENER_WAITING_MAX 1024
#define NODE_LISTENER_SWEEP_MS    250

struct node_listener {
    uv_poll_t poll;
    uv_timer_t sweep;
    int fd;
    uint16_t port;
    uint32_t head_timeout_ms;
    struct shl_list waiting; /* connections not handed over */
    uint32_t waiting_count;
    uint32_t open_handles;
    bool is_paused; /* out of descriptors: tried again by the sweep */
    bool is_closing;
    uint64_t refused_count; /* answered here with an error */
    const char *node_name;  /* in the answers given here, or NULL; borrowed */
    const struct shl_log *log;

    /* Takes the descriptor over; false when it cannot (it is then closed here). */
    bool (*adopt)(void *arg, int fd, const struct sockaddr *addr, socklen_t len);
    /* May another connection be served? */
    bool (*has_room)(void *arg);
    void *arg;
    void (*on_closed)(void *arg);
};

/* Text to address: "1.2.3.4:80", "[::1]:80", "localhost:80", ":80" (all addresses).
 * 0 or SHL_EINVALIDARG with a sentence. */
SHL_MUST_CHECK int node_listener_parse(const char *text,
                                       struct sockaddr_storage *ret_addr,
                                       struct shl_err *err);

/* The fields head_timeout_ms, node_name, log, adopt, has_room and arg are set by the caller. On
 * failure nothing is left open. */
SHL_MUST_CHECK int node_listener_open(struct node_listener *listener,
                                      uv_loop_t *loop,
                                      const char *address,
                                      struct shl_err *err);

/* @on_closed(arg) later, once. */
void node_listener_close(struct node_listener *listener, void (*on_closed)(void *arg));

#endif /* SHL_NODE_HTTP_LISTENER_H */
