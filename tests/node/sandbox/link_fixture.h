/* A link of the node to an agent that the test plays on the same loop. */
#ifndef SHL_TESTS_NODE_SANDBOX_LINK_FIXTURE_H
#define SHL_TESTS_NODE_SANDBOX_LINK_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <uv.h>

#include "agent/frame.h"
#include "node/sandbox/agent_link_open.h"

#define GUARD_MS 30000 /* a hang, not a measure */

struct fixture;
typedef void (*frame_fn)(struct fixture *fix, const struct agent_frame *frame);

/* One stream of the node and what its owner saw. The link of a test closes after it returned,
 * so what streams point at is static. */
struct seen {
    struct node_agent_stream *stream;
    struct fixture *fix;
    int heads, ends, code, writables;
    size_t bytes;
    bool keep; /* do not give credit back */
    char msg[256];
    bool reopen; /* open another stream from on_end */
};

struct fixture {
    uv_loop_t loop;
    uv_timer_t guard;
    char dir[64];
    char path[96];
    struct node_agent_link *link;
    enum node_agent_link_state state;
    int state_code;
    int states_ready, states_lost;
    bool closed;

    uv_pipe_t listener;
    uv_pipe_t *peer; /* latest connection */
    struct agent_parser parser;
    frame_fn on_frame;
    int hellos, connections, requests, cancels, eofs;
    int silent_hellos; /* HELLOs not answered first */
    uint32_t last_stream;
    uint8_t token[AGENT_TOKEN_BYTES];
    bool wrong_token_first;
    size_t data_bytes; /* DATA of the node */
    uint64_t credit;   /* CREDIT of the node */
    int version;
    struct seen second;
};

int setup(void **state);
int teardown(void **state);
void on_guard(uv_timer_t *timer);

#define RUN_UNTIL(fix, condition)                                   \
    do {                                                            \
        (void)uv_timer_start(&(fix)->guard, on_guard, GUARD_MS, 0); \
        while (!(condition)) {                                      \
            (void)uv_run(&(fix)->loop, UV_RUN_ONCE);                \
        }                                                           \
        (void)uv_timer_stop(&(fix)->guard);                         \
    } while (0)

/* Everything already on its way arrives. */
void settle(struct fixture *fix);

/* ---- the agent --------------------------------------------------------------------------- */

/* It takes connections, from here on. */
void listen_now(struct fixture *fix);
void peer_drop(struct fixture *fix);
void peer_send_raw(struct fixture *fix, const void *data, size_t len);
void peer_send(struct fixture *fix,
               enum agent_frame_type type,
               uint8_t channel,
               uint32_t stream,
               const void *payload,
               size_t len);
/* Zeros on channel OUT. */
void peer_send_data(struct fixture *fix, uint32_t stream, size_t len);
/* {code, msg} */
void peer_send_map(struct fixture *fix,
                   enum agent_frame_type type,
                   uint32_t stream,
                   int code,
                   const char *msg);
void peer_respond(struct fixture *fix, uint32_t stream, int code, const char *msg);
/* HELLO_ACK; @token has AGENT_TOKEN_BYTES. */
void peer_ack(struct fixture *fix, const uint8_t *token);

/* ---- the node's side --------------------------------------------------------------------- */

/* Of every stream; @arg is its struct seen. */
extern const struct node_agent_stream_ops ops;
void open_link(struct fixture *fix);
/* For node_agent_link_close. */
void on_link_closed(void *arg);
void close_link(struct fixture *fix);
/* Both sides, until the link is ready. */
void make_ready(struct fixture *fix);
int try_open(struct fixture *fix, struct seen *seen);
/* The same, asserted. */
void open_stream(struct fixture *fix, struct seen *seen);

#endif /* SHL_TESTS_NODE_SANDBOX_LINK_FIXTURE_H */
