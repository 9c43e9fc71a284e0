/* A small application of exchanges, for tests of transports:
 *
 *   POST /echo             the body back, and in headers what came: X-Seen-Id, X-Seen-Accept
 *   PUT  /sink             checks that the body is the pattern, replies {"bytes": N}
 *   GET  /source?n=N[&chunked=1][&fail=K]   N bytes of the pattern; the source fails after K
 *   GET  /wait             replies when app_answer is called
 *   GET  /pad              as /wait, padded
 *   GET  /empty            204
 *   GET  /refuse           refused as not here
 *   GET  /ws[?ping=MS]     WebSocket: messages come back; "bye" is answered by close 4001
 *   GET  /pipe             the same without frames: bytes come back, and the end
 *   anything else          404
 */
#ifndef SHL_TESTS_NODE_HTTP_APP_H
#define SHL_TESTS_NODE_HTTP_APP_H

#include "node/http/exchange.h"
#include "node/http/websocket.h"

#define APP_ITEMS_MAX 64

struct app;

struct app_item {
    struct app *app;
    struct node_exchange *x; /* NULL when over */
    uint64_t total;
    uint64_t at;
    int64_t fail_at;
    struct node_websocket *socket;
    uint8_t piped[8192];
    size_t piped_len;
    bool is_pipe_ended;
};

struct app {
    struct app_item items[APP_ITEMS_MAX];
    unsigned handled; /* handlers that ran */
    unsigned closed;
    unsigned completed;
    unsigned released; /* sources */
    struct app_item *waiting;
    uint64_t sunk_bytes; /* of all */
    uint64_t read_bytes;
    size_t sink_step; /* most bytes taken at once, 0 all */
    size_t source_step;
    bool sink_stops;   /* takes nothing */
    bool sink_refuses; /* as not here */
    unsigned accepted; /* WebSockets */
    unsigned sockets_closed;
    unsigned close_code;
    unsigned messages;
    uint64_t message_bytes;
    bool socket_stops;    /* takes no messages */
    bool socket_swallows; /* sends none back */
    unsigned hops;        /* of the last request */
    char origin[128];
};

uint8_t app_pattern(uint64_t at);
void app_on_head(void *arg, struct node_exchange *x);
/* Reply of /wait and /pad. */
void app_answer(struct app *app, const char *text);
/* Call @cb in the next turn of the loop. */
void app_later(uv_loop_t *loop, void (*cb)(void *arg), void *arg);
/* Takes messages again. */
void app_resume_sockets(struct app *app);
/* Closes them with 4002. */
void app_close_sockets(struct app *app);
/* How the body of a request for one of its routes is read; on every node that handles it. */
void app_choose_body(struct node_exchange *x);
/* Takes body bytes again. */
void app_resume_sinks(struct app *app);

#endif /* SHL_TESTS_NODE_HTTP_APP_H */
