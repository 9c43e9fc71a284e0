/* The side of an exchange that transports call; handlers do not include this. */
#ifndef SHL_NODE_HTTP_TRANSPORT_H
#define SHL_NODE_HTTP_TRANSPORT_H

#include "node/http/exchange.h"

/* Prepare the embedded exchange. @target is parsed and must last as long as @x; 0 or an error of
 * node_url_parse, in which case the exchange is usable for a failure reply only. */
SHL_MUST_CHECK int node_exchange_init(struct node_exchange *x,
                                      const struct node_exchange_ops *ops,
                                      uv_loop_t *loop,
                                      const char *method,
                                      const char *target);

/* The head is complete and on_head was asked: start a streamed handler. */
void node_exchange_begin(struct node_exchange *x);

/* Body bytes: how many were taken. Fewer than offered: wait for resume_body. */
size_t node_exchange_body_data(struct node_exchange *x, struct shl_bytes data);
void node_exchange_body_end(struct node_exchange *x);

/* Read from the source of the reply. */
ssize_t node_exchange_read(struct node_exchange *x, uint8_t *dst, size_t cap);

/* The reply is out (@is_complete) or the client is gone: releases the source, tells the
 * handler, frees what the exchange holds. Once. */
void node_exchange_close(struct node_exchange *x, bool is_complete);

/* Of pad.c: true when a padded reply is under way and took @reply as its body. */
bool node_pad_take_reply(struct node_exchange *x, struct node_reply *reply);
void node_pad_close(struct node_exchange *x);

#endif /* SHL_NODE_HTTP_TRANSPORT_H */
