/* What agent_link.c (connection, HELLO, frames in) and agent_stream.c (streams) share. */
#ifndef SHL_NODE_SANDBOX_AGENT_LINK_PRIVATE_H
#define SHL_NODE_SANDBOX_AGENT_LINK_PRIVATE_H

#include <stdbool.h>
#include <sys/un.h>

#include <uv.h>

#include "agent/frame.h"
#include "base/list.h"
#include "node/sandbox/agent_link_open.h"

#define LINK_RETRY_MS           250
#define LINK_CANCEL_MS          10000
#define LINK_FAULTS_MAX         1                 /* forgiven protocol errors ... */
#define LINK_FAULT_FORGET_MS    60000             /* ... within this time */
#define LINK_OUT_DATA_MAX       (256 * 1024)      /* DATA stops being taken above this */
#define LINK_OUT_MAX            (512 * 1024)      /* all frames waiting to be written */
#define LINK_WAITING_BYTES_MAX  (4 * 1024 * 1024) /* requests not sent yet */
#define LINK_SEND_CREDIT_MAX    (64u * 1024 * 1024)
#define LINK_CREDIT_BATCH_BYTES (AGENT_WINDOW_BYTES / 4)

enum link_phase {
    LINK_IDLE,    /* waiting for the next attempt */
    LINK_CONNECT, /* connecting */
    LINK_SYNC,    /* connected; HELLO goes out until it is answered */
    LINK_READY,
    LINK_FAILED,
};

/* One connection; freed in its close callback, which may come after the next began. */
struct link_conn {
    uv_pipe_t pipe;
    uv_connect_t connect;
    uv_write_t write;
    bool writing;
    struct shl_buf inflight; /* what the running write borrows */
    struct node_agent_link *link;
};

struct node_agent_link {
    uv_loop_t *loop;
    struct node_agent_link_config config; /* socket_path points at path */
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];

    enum link_phase phase;
    struct link_conn *conn; /* NULL between connections */
    uv_timer_t timer;       /* retry, HELLO, cancels that are ignored */
    uv_timer_t defer;       /* delivers the ended list */
    int handles;            /* open uv handles, connections included */

    struct agent_parser parser;
    uint64_t bad_frames_seen; /* parser.bad_frames when it became ready */
    struct shl_buf out;
    uint8_t token[AGENT_TOKEN_BYTES];
    int faults;
    uint64_t fault_at_ms;

    struct shl_list streams; /* in order of service */
    struct shl_list ended;   /* on_end is due */
    uint32_t stream_count;   /* of streams */
    uint32_t next_id;
    size_t waiting_bytes;

    bool closing;
    int close_code;
    char close_why[SHL_ERR_TEXT_MAX];
    void (*close_cb)(void *arg);
    void *close_arg;
};

struct node_agent_stream {
    struct node_agent_link *link;
    struct shl_list node;
    const struct node_agent_stream_ops *ops;
    void *arg;
    uint32_t id;            /* 0 until the request went out */
    struct shl_buf request; /* until then */

    uint32_t recv_window; /* bytes the agent may still send */
    uint32_t unconsumed;  /* delivered, not given back */
    uint32_t owed;        /* given back, not granted yet */
    uint32_t send_credit;
    bool want_writable, eof_asked, eof_sent, cancel_asked, cancel_sent, head_seen, data_seen,
        eof_seen;
    uint64_t cancel_at_ms;

    bool over; /* in the ended list */
    int end_code;
    char end_msg[SHL_ERR_TEXT_MAX];
};

/* agent_link.c */
/* Write what may be written: control frames of all streams, then the queue. */
void link_pump(struct node_agent_link *link);

/* agent_stream.c */
/* Append frames that streams owe, as far as they fit. */
void link_queue_control(struct node_agent_link *link);
/* Call on_writable of those that can write again, each at most once. */
void link_offer_room(struct node_agent_link *link);
/* One frame of a ready link. 0, or SHL_EPROTO with a text for the log. */
SHL_MUST_CHECK int link_take_frame(struct node_agent_link *link,
                                   const struct agent_frame *frame,
                                   const char **ret_fault);
/* Schedule on_end of every stream, or of those the agent has seen. */
void link_end_streams(struct node_agent_link *link, bool sent_only, int code, const char *msg);
void link_end_ignored_cancels(struct node_agent_link *link);
void link_deliver_ended(struct node_agent_link *link);

#endif /* SHL_NODE_SANDBOX_AGENT_LINK_PRIVATE_H */
