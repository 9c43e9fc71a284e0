/* The HTTP server and its clients on one loop, over real loopback sockets, with a small
 * application behind it whose bodies go on when a test lets them. */
#ifndef SHL_TESTS_NODE_HTTP_SERVER_FIXTURE_H
#define SHL_TESTS_NODE_HTTP_SERVER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "node/http/server.h"
#include "tests/node/http/client.h"

#define MIB (1024u * 1024)

/* What the small application below knows. */
struct app {
    struct node_exchange *waiting; /* request of /wait */
    unsigned handled;
    unsigned closed;
    unsigned completed;
    /* /sink */
    struct node_exchange *sinking;
    uint64_t sunk_bytes;
    uint64_t sink_room;
    bool sink_any; /* do not look at the bytes */
    /* /source */
    uint64_t source_total;
    uint64_t source_at;
    uint64_t source_room; /* bytes that may be read now */
    unsigned released;
    struct node_exchange *sourcing;
};

struct fixture {
    uv_loop_t loop;
    struct node_http *http;
    struct app app;
    uint16_t port;
    bool is_closed;
};

extern struct fixture *fix;

int setup(void **state);
/* For tests of the limits of time: a busy machine makes any client slow. */
int setup_hasty(void **state);
int teardown(void **state);

/* The application, for a server of a test's own. */
void on_head(void *arg, struct node_exchange *x);
/* What node_http_close of fix->http calls, and whether it did. */
void on_http_closed(void *arg);
bool http_is_closed(void *arg);

/* No connection and no request is left. */
bool is_all_closed(void *arg);
/* A request of /wait or /pad is there. */
bool is_waiting(void *arg);

/* Byte @at of every body that is checked. */
uint8_t pattern(uint64_t at);
void assert_envelope(struct reply *reply, int status);

#endif /* SHL_TESTS_NODE_HTTP_SERVER_FIXTURE_H */
