/* A WebSocket (RFC 6455) that a client opened: messages in, messages out.
 *
 * On top of an exchange, wherever that came from; wslay does the framing. Pings are answered
 * and sent here; that a client is lost is noticed below (node/http/socket.c), because one that
 * reads slowly answers no pings. Both directions have back-pressure: a message that the owner does
 * not take stops the reading, one that the client is too slow for is not taken by
 * node_websocket_send.
 *
 * Life: made by node_websocket_accept, gone after closed(), which comes once when the
 * exchange ends, whoever ended it, shortly before the exchange's on_close. Loop thread. No
 * callback runs inside a function of this header.
 */
#ifndef SHL_NODE_HTTP_WEBSOCKET_H
#define SHL_NODE_HTTP_WEBSOCKET_H

#include <stdbool.h>

#include "base/err.h"
#include "node/http/exchange.h"

#define NODE_WEBSOCKET_MESSAGE_MAX (1024u * 1024) /* of a client; beyond it 1009 */
#define NODE_WEBSOCKET_QUEUE_BYTES (256u * 1024)  /* for the client, then send says no */
#define NODE_WEBSOCKET_QUEUE_COUNT 1024u
#define NODE_WEBSOCKET_REASON_MAX  123 /* bytes of a close reason */
#define NODE_WEBSOCKET_PING_MS     25000
#define NODE_WEBSOCKET_SETTLE_MS   25

/* Status codes of a close (RFC 6455, 7.4.1). */
#define NODE_WEBSOCKET_DONE      1000
#define NODE_WEBSOCKET_GOING     1001
#define NODE_WEBSOCKET_PROTOCOL  1002
#define NODE_WEBSOCKET_NO_STATUS 1005 /* the client closed without one; never sent */
#define NODE_WEBSOCKET_LOST      1006 /* no close at all; never sent */
#define NODE_WEBSOCKET_POLICY    1008
#define NODE_WEBSOCKET_FAILED    1011

struct node_websocket;

enum node_websocket_kind {
    NODE_WEBSOCKET_TEXT, /* valid UTF-8 */
    NODE_WEBSOCKET_BINARY,
};

struct node_websocket_ops {
    /* A complete message, borrowed. False: not taken, it is offered again after
     * node_websocket_resume; nothing is read meanwhile. */
    bool (*message)(void *arg, enum node_websocket_kind kind, struct shl_bytes data);
    /* There is room after node_websocket_send said no. May be NULL. */
    void (*writable)(void *arg);
    /* Over. @code is what the client closed with, else what we did, else 1006. */
    void (*closed)(void *arg, unsigned code);
};

/* 0 takes the default. */
struct node_websocket_config {
    size_t message_max;
    uint32_t ping_ms;
    /* Send nothing for NODE_WEBSOCKET_SETTLE_MS after the 101: there are clients that miss messages
     * which come with it (the SDK on the npm package ws listens a moment after "open"). */
    bool settles;
};

/* Reply 101 to @x, or an error (no WebSocket, wrong version or key, no memory), which is then
 * returned. @x is in mode NODE_BODY_SOCKET when it asks for one. @config may be NULL. */
SHL_MUST_CHECK int node_websocket_accept(struct node_exchange *x,
                                         const struct node_websocket_ops *ops,
                                         void *arg,
                                         const struct node_websocket_config *config,
                                         struct node_websocket **ret_socket);

/* Send one message of two parts (@a may be empty; both are copied). False: not taken, writable
 * comes, or the socket is closing. */
bool node_websocket_send(struct node_websocket *socket,
                         enum node_websocket_kind kind,
                         struct shl_bytes a,
                         struct shl_bytes b);
/* The message that was not taken is wanted now. */
void node_websocket_resume(struct node_websocket *socket);
/* No more messages in either direction; what was sent goes out first. @reason may be NULL and is
 * cut at NODE_WEBSOCKET_REASON_MAX. The first one counts. */
void node_websocket_close(struct node_websocket *socket, unsigned code, const char *reason);

/* The answer to a Sec-WebSocket-Key (RFC 6455, 4.2.2); false when @key is none. */
#define NODE_WEBSOCKET_ACCEPT_SIZE 29
bool node_websocket_accept_key(const char *key, char dst[NODE_WEBSOCKET_ACCEPT_SIZE]);

#endif /* SHL_NODE_HTTP_WEBSOCKET_H */
