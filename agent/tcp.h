/* Connections to servers of the guest (op tcp.connect): bytes both ways between a stream of the
 * node and a socket on the loopback device.
 *
 * Only to this guest: 127.0.0.1, then ::1, then its own address on eth0, so that a server is
 * found whatever it is bound to. Each direction ends by itself (half close); the stream is
 * answered when both have. Loop thread only.
 */
#ifndef SHL_AGENT_TCP_H
#define SHL_AGENT_TCP_H

#include "agent/loop.h"
#include "agent/mux.h"

/* Below AGENT_STREAMS_MAX, so that commands and files find room beside them. */
#define AGENT_TCP_MAX        128u
#define AGENT_TCP_CONNECT_MS 10000u /* one that listens and does not accept */
#define AGENT_TCP_PLACES     3      /* addresses that are tried */

struct agent_server;

struct agent_tcps {
    struct shl_list all;
    unsigned count;
    /* Begin to connect to the place of that number. A descriptor (non-blocking; taken) whose
     * outcome is known when it is writable, or -errno. */
    int (*dial)(struct agent_server *server, unsigned place, uint16_t port);
};

struct agent_tcp {
    struct shl_list node;
    struct agent_server *server;
    struct agent_stream *stream;
    struct agent_watch watch;
    struct agent_timer timer; /* until connected */
    int fd;
    uint16_t port;
    unsigned place, place_end; /* the one that is tried, and the one after the last */
    int error;                 /* most telling failure so far, 0 or negative */
    bool connected;
    bool readable;   /* there may be something to read */
    bool read_ended; /* the server has sent all, and the node knows */
    bool eof_asked;  /* the node has sent all */
    bool write_ended;
    struct shl_buf out; /* what the socket did not take yet */
};

void agent_tcps_init(struct agent_tcps *tcps);

#endif /* SHL_AGENT_TCP_H */
