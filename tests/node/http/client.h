/* A raw HTTP client for tests, on the loop of the server it talks to.
 *
 * It sends exactly the bytes it is given and takes replies apart itself, so malformed
 * and partial requests are as easy as good ones. Every wait runs the loop until the
 * thing happened or CLIENT_WAIT_MS is over (the test then fails).
 */
#ifndef SHL_TESTS_NODE_HTTP_CLIENT_H
#define SHL_TESTS_NODE_HTTP_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "base/buf.h"

#define CLIENT_WAIT_MS 60000

struct client {
    uv_loop_t *loop;
    uv_tcp_t tcp;
    struct shl_buf in; /* not taken yet */
    bool is_connected;
    bool is_ended; /* end of stream or reset */
    bool is_reset;
    bool is_closed;
    size_t unsent_bytes;
    uint64_t received_bytes;
    bool drop_body; /* count only */
};

struct reply {
    int status;
    char *head; /* terminated, without the status line */
    uint8_t *body;
    size_t body_len; /* terminated too */
    size_t body_cap;
};

void client_open(struct client *client, uv_loop_t *loop, uint16_t port);
void client_close(struct client *client); /* waits */
void client_reset(struct client *client); /* the same by a reset */

/* Stop reading from the socket, and go on. */
void client_pause(struct client *client);
void client_read(struct client *client);

void client_send(struct client *client, const void *data, size_t len);
/* No more bytes from the client, once those are out. */
void client_finish(struct client *client);
void client_text(struct client *client, const char *fmt, ...) SHL_PRINTF(2, 3);

/* Next reply on the connection; false when it ended before one was complete. With
 * @is_head_request there is no body whatever the headers say. */
bool client_reply(struct client *client, struct reply *ret);
bool client_reply_to(struct client *client, bool is_head_request, struct reply *ret);
/* The head only; the body is left in client->in. */
bool client_reply_head(struct client *client, struct reply *ret);
void reply_release(struct reply *reply);
/* Value of a header in buf, or NULL. */
const char *reply_header(const struct reply *reply, const char *name, char *buf, size_t size);

/* Whole exchange on a connection of its own. @head is the request line and headers
 * without the final empty line; Host and Content-Length are added. */
void request(uv_loop_t *loop,
             uint16_t port,
             const char *head,
             const void *body,
             size_t body_len,
             struct reply *ret);

void client_wait_end(struct client *client);
void client_wait_connected(struct client *client);
void run_for(uv_loop_t *loop, uint64_t ms);
/* Runs the loop until @done says so; fails the test when it takes too long. */
void run_until(uv_loop_t *loop, bool (*done)(void *arg), void *arg);

/* Bytes on the heap, 0 when the sanitizer that counts them is not there. */
size_t heap_bytes(void);

#endif /* SHL_TESTS_NODE_HTTP_CLIENT_H */
