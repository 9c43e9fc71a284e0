/* Frames of a WebSocket client on top of the raw client, for tests. */
#ifndef SHL_TESTS_NODE_HTTP_WS_CLIENT_H
#define SHL_TESTS_NODE_HTTP_WS_CLIENT_H

#include "tests/node/http/client.h"

struct ws_frame {
    uint8_t first; /* FIN, opcode */
    size_t len;
    uint8_t *data; /* terminated; the caller's to free */
};

/* A masked frame into @dst, which has 14 bytes more than @len. Its size. */
size_t ws_make_frame(uint8_t *dst, uint8_t first, const void *data, size_t len);
void ws_send(struct client *client, uint8_t first, const void *data, size_t len);
/* Waits for the next one. False when the connection ended before. */
bool ws_next(struct client *client, struct ws_frame *ret);

#endif /* SHL_TESTS_NODE_HTTP_WS_CLIENT_H */
