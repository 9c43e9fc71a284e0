/* One end of a connection through the gateway: a socket, perhaps with TLS on it, and what was
 * read from it and not yet passed on.
 *
 * Non-blocking; the caller watches the socket for what egress_end_wants says. One thread.
 */
#ifndef SHL_NODE_EGRESS_END_H
#define SHL_NODE_EGRESS_END_H

#include <stdbool.h>

#include <openssl/ssl.h>

#include "base/buf.h"

enum {
    EGRESS_WANT_READ = 1,
    EGRESS_WANT_WRITE = 2,
};

struct egress_end {
    int fd;              /* -1: none */
    SSL *ssl;            /* NULL: plain */
    struct shl_buf in;   /* read, not passed on */
    struct shl_buf out;  /* to be written */
    struct shl_buf wire; /* records of TLS that were made of it and not sent yet */
    bool read_closed;    /* the other side sends no more */
    bool cut;            /* that came without the farewell of TLS */
    bool write_closed;   /* nothing may be sent any more */
    bool blocked_read;   /* the last call waits for the socket to be readable */
    bool blocked_write;  /* or writable */
};

void egress_end_init(struct egress_end *end);
/* Closes the socket and frees all. */
void egress_end_release(struct egress_end *end);

/* Put TLS on the socket. What is in end->in was read before and is given to it first. 0 or
 * -ENOMEM. */
SHL_MUST_CHECK int egress_end_secure(struct egress_end *end, SSL_CTX *ctx, bool as_server);
/* 1 done, 0 waits for the socket, negative failed (see the queue of OpenSSL's errors). */
int egress_end_handshake(struct egress_end *end);

/* Nothing that was written is still here. */
static inline bool egress_end_is_sent(const struct egress_end *end)
{
    return shl_buf_len(&end->out) == 0 && shl_buf_len(&end->wire) == 0;
}

/* Bytes moved, 0 when none can be moved now, negative when the connection broke. */
ssize_t egress_end_fill(struct egress_end *end);
ssize_t egress_end_flush(struct egress_end *end, struct shl_buf *from);

/* No more will be sent. */
void egress_end_shut(struct egress_end *end, bool with_farewell);

#endif /* SHL_NODE_EGRESS_END_H */
