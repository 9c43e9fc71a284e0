/* Test client of the agent's protocol: the node's side, small and blocking.
 *
 * Calls run side by side; client_pump moves bytes both ways and files what arrives
 * under its call. Used by the tests and by agentctl. Errors of the link are negative
 * results; a broken rule of the protocol by the agent is an assert.
 */
#ifndef SHL_TESTS_AGENT_CLIENT_H
#define SHL_TESTS_AGENT_CLIENT_H

#include <stdbool.h>

#include "agent/frame.h"
#include "base/list.h"
#include "base/mp.h"

#define CLIENT_DATA_MAX (256u << 20)

struct client {
    int fd; /* owned */
    struct agent_parser parser;
    struct shl_buf out;
    struct shl_list calls;
    uint32_t next_stream;
    uint8_t token[AGENT_TOKEN_BYTES];
    bool greeted;
    char boot_id[64];
};

struct client_call {
    struct shl_list node;
    struct client *client;
    uint32_t stream;
    struct shl_buf request;
    struct shl_mp_writer w; /* the request map is open until client_send */
    bool hold_credit;       /* tests: give no credit back */
    uint32_t send_credit;
    bool has_head;
    bool has_eof; /* the agent sends no more DATA */
    bool done;
    struct shl_buf head_bytes;
    struct shl_buf response_bytes;
    struct shl_mp_doc head;
    struct shl_mp_doc response;
    struct shl_buf data[3];
    uint64_t data_bytes[3];
    /* Instead of keeping DATA in @data. */
    void (*on_data)(struct client_call *call, uint8_t channel, struct shl_bytes bytes);
    void *arg;
};

/* Takes @fd, makes it non-blocking. */
void client_init(struct client *client, int fd);
void client_release(struct client *client);

/* Zero bytes, HELLO, and the answer. 0, -ETIMEDOUT, -EPIPE. */
int client_hello(struct client *client, int timeout_ms);

/* A call whose request map is open in call->w with "op" set. */
void client_begin(struct client *client, struct client_call *call, const char *op);
void client_send(struct client_call *call);
void client_call_release(struct client_call *call);

/* Everything that may be sent of @data now; returns how much. */
size_t client_send_data(struct client_call *call, struct shl_bytes data);
void client_send_frame(struct client *client,
                       enum agent_frame_type type,
                       uint32_t stream,
                       struct shl_bytes payload);

/* Read and write what is possible, waiting at most @timeout_ms. 0, -ETIMEDOUT, -EPIPE. */
int client_pump(struct client *client, int timeout_ms);
/* Write all that is queued and read nothing. The same. */
int client_write(struct client *client, int timeout_ms);
/* Until the call has ended: its code, or -ETIMEDOUT, -EPIPE. */
int client_wait(struct client_call *call, int timeout_ms);

/* Send and wait. */
int client_run(struct client_call *call, int timeout_ms);

/* Fields of the answer; 0 and "" when absent. */
int64_t client_int(const struct shl_mp_doc *doc, const char *key);
bool client_bool(const struct shl_mp_doc *doc, const char *key);
const char *client_msg(struct client_call *call, char *dst, size_t size);

#endif /* SHL_TESTS_AGENT_CLIENT_H */
