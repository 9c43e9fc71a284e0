/* Inside of the mesh; nobody outside node/mesh/ includes this.
 *
 *   socket.c   one ZeroMQ socket in the loop; the turn of the loop that serves all
 *   zap.c      which keys may connect
 *   inbox.c    what arrives on the two ROUTERs
 *   peer.c     table of members; their channels as a whole
 *   link.c     dialling: state machine of one DEALER
 *   refuse.c   refusals: counted, logged once, told to the other side
 *   outbox.c   control messages that wait
 *   call.c     one-way messages and calls
 *   streams.c  streams; stream_io.c what moves in them
 *   join.c     asking to join, and being asked
 *   pool.c     buffers of large frames
 *   mesh.c     opening, closing, figures
 *
 * A channel (control, bulk) of a peer has two halves: tx is our DEALER to its ROUTER, rx the
 * session of its DEALER on our ROUTER, which began with a hello. Everything to the peer goes
 * through tx, everything from it comes through rx; only welcome and refuse (and joined) go
 * back on the connection that they answer. A channel is lost as a whole: whoever sees its tx
 * die ends the rx too and tells the other side (refuse "reset") on that connection.
 *
 * Each connection is a socket of its own (no reconnecting by ZeroMQ): the messages that wait
 * in a lost one are gone with it, so a stream never has a hole.
 *
 * Callbacks of users run from the turn (socket.c) and the timer only. Whatever a callback
 * does, objects stay in memory until the next turn: peers, streams and sockets that end are
 * put on lists that the turn empties first.
 */
#ifndef SHL_NODE_MESH_MESH_PRIVATE_H
#define SHL_NODE_MESH_MESH_PRIVATE_H

#include <zmq.h>

#include "base/list.h"
#include "node/mesh/mesh.h"
#include "node/mesh/message.h"

#define MESH_CONTROL_HWM 32 /* messages in a ZeroMQ pipe; at most this times the largest */
#define MESH_BULK_HWM    16
#define MESH_SLACK_BYTES                                                           \
    (64u * 1024)                 /* a message above its kind's limit still arrives \
                                  * (and is refused by name) up to this much more */
#define MESH_DIALS_MAX      16   /* attempts under way at a time */
#define MESH_ATTEMPT_MS     5000 /* from dialling to the welcome */
#define MESH_BULK_WAIT_MS   5000 /* a stream waits for the bulk channel */
#define MESH_REFUSED_MIN_MS 500  /* shortest pause after a refusal */
#define MESH_TURN_MESSAGES  64   /* of one socket in one turn */
#define MESH_TURN_BYTES     (2u * 1024 * 1024)
#define MESH_ROUTING_BYTES  25  /* 'n', node id, 8 random */
#define MESH_ROUTING_MAX    32  /* of others */
#define MESH_MESSAGE_COST   128 /* counted per message waiting, beside its bytes */
#define MESH_CUTS_MAX       1024
#define MESH_STREAM_BUCKETS 64
#define MESH_STREAM_FIRST   (64u * 1024) /* credit a stream begins with */
#define MESH_GUESTS_MAX     16
#define MESH_GUEST_MS       30000 /* a guest's place is held this long */
#define MESH_GUEST_MESSAGES 4
#define MESH_ADMIT_BURST    64 /* connections of one member at once */
#define MESH_ADMIT_PER_S    8
#define MESH_LOGGED_MAX     128 /* (who, why) pairs that were logged */
#define MESH_LOGGED_MS      (10u * 60 * 1000)

struct mesh_peer;

/*- socket.c */

struct mesh_socket;

/* Do all that can be done; true when there is more. Whatever the last call on the socket is
 * must be one that finds nothing to do (EAGAIN), or mesh_socket_events. */
typedef bool (*mesh_ready_fn)(struct mesh_socket *socket);

struct mesh_socket {
    struct node_mesh *mesh;
    void *zmq;
    uv_poll_t poll;
    struct shl_list dirty; /* in mesh->dirty when its events must be looked at */
    mesh_ready_fn ready;
    void *owner;
    bool is_closing;
};

/* A socket of @type that is not watched yet. */
SHL_MUST_CHECK int mesh_socket_new(struct node_mesh *mesh,
                                   int type,
                                   mesh_ready_fn ready,
                                   void *owner,
                                   struct mesh_socket **ret);
/* After bind or connect. */
SHL_MUST_CHECK int mesh_socket_watch(struct mesh_socket *socket);
/* @ret_monitor reports the connection of @socket to @ready (owner as in @socket). */
SHL_MUST_CHECK int mesh_socket_monitor(struct mesh_socket *socket,
                                       mesh_ready_fn ready,
                                       struct mesh_socket **ret_monitor);
/* NULL is fine. No ready after this; the memory goes with the last handle callback. */
void mesh_socket_close(struct mesh_socket *socket, int linger_ms);
void mesh_socket_close_monitored(struct mesh_socket *socket,
                                 struct mesh_socket *monitor,
                                 int linger_ms);
void mesh_socket_mark(struct mesh_socket *socket);  /* look at it before the loop sleeps */
int mesh_socket_events(struct mesh_socket *socket); /* ZMQ_EVENTS now */
/* One event of a monitor: 0, or -EAGAIN. */
int mesh_socket_event(struct mesh_socket *monitor, uint16_t *ret_event, uint32_t *ret_value);
void mesh_socket_set(struct mesh_socket *socket, int option, int value);
/* Authenticate as ourselves to the owner of @server_key. */
void mesh_socket_curve(struct mesh_socket *socket, const uint8_t server_key[NODE_KEY_BYTES]);
/* Marks, sizes, keepalive and thread of a channel's sockets. */
void mesh_socket_tune(struct mesh_socket *socket, enum mesh_channel channel);
SHL_MUST_CHECK int mesh_endpoint(char *dst, size_t size, const char *host, uint16_t port);
/* A DEALER on its way to @host:@port, with its monitor. */
SHL_MUST_CHECK int mesh_dial(struct node_mesh *mesh,
                             enum mesh_channel channel,
                             const char *host,
                             uint16_t port,
                             const uint8_t server_key[NODE_KEY_BYTES],
                             mesh_ready_fn ready,
                             mesh_ready_fn on_monitor,
                             void *owner,
                             struct mesh_socket **ret_socket,
                             struct mesh_socket **ret_monitor);
/* The bytes of @buf as a message, not copied; @buf is empty afterwards, also on failure. */
SHL_MUST_CHECK int mesh_msg_of(zmq_msg_t *msg, struct shl_buf *buf);
/* 0, or -errno and @msg is still the caller's. */
SHL_MUST_CHECK int mesh_socket_send(struct mesh_socket *socket, zmq_msg_t *msg);
/* Serve marked sockets, once around. */
void mesh_sockets_turn(struct node_mesh *mesh);
void mesh_wake_turn(struct node_mesh *mesh); /* have the loop come round again at once */
void mesh_wake_at(struct node_mesh *mesh, uint64_t at_ms);
uint64_t mesh_now(const struct node_mesh *mesh);

/*- pool.c */

#define MESH_POOL_CLASSES 2
#define MESH_POOL_FROM    (16u * 1024) /* smaller buffers are left to the allocator */

typedef void (*mesh_free_fn)(void *data, void *hint);

struct mesh_pool {
    uv_mutex_t lock;
    struct mesh_pool_block *free[MESH_POOL_CLASSES];
    unsigned count[MESH_POOL_CLASSES];
};

SHL_MUST_CHECK int mesh_pool_init(struct mesh_pool *pool);
void mesh_pool_release(struct mesh_pool *pool); /* when no message is left */
/* An empty @buf for exactly @bytes at most, and what gives its memory back (with the pool as
 * hint): NULL for free(3). Dropping it unused with shl_buf_release is fine. */
mesh_free_fn mesh_pool_buf(struct mesh_pool *pool, struct shl_buf *buf, size_t bytes);

/*- Messages that wait. */

struct mesh_out {
    struct shl_list link;
    zmq_msg_t msg;
    zmq_msg_t body; /* second part */
    bool has_body;
    size_t cost;    /* what it counts for in a queue */
    size_t payload; /* bytes of a stream in it */
};

/* Takes the bytes of @buf, also on failure. @give_back frees them with @hint, or is NULL.
 * NULL without memory. */
struct mesh_out *mesh_out_new(struct shl_buf *buf,
                              size_t payload,
                              mesh_free_fn give_back,
                              void *hint);
/* @body becomes the second part of @out; on failure it is the caller's. 0 or -ENOMEM. */
SHL_MUST_CHECK int mesh_out_give(struct mesh_out *out,
                                 struct shl_bytes body,
                                 mesh_free_fn give_back,
                                 void *hint);
void mesh_out_free(struct mesh_out *out);
/* All of it, or -errno and nothing. */
SHL_MUST_CHECK int mesh_socket_send_out(struct mesh_socket *socket, struct mesh_out *out);

/*- link.c */

enum mesh_tx_state {
    MESH_TX_IDLE,    /* no address, or not wanted */
    MESH_TX_WAITING, /* until at_ms, and for its turn among MESH_DIALS_MAX */
    MESH_TX_DIALING, /* until the handshake */
    MESH_TX_HELLO,   /* until the welcome */
    MESH_TX_UP,
};

struct mesh_tx {
    struct mesh_peer *peer;
    enum mesh_channel channel;
    enum mesh_tx_state state;
    struct mesh_socket *socket;
    struct mesh_socket *monitor;
    uint64_t at_ms; /* WAITING: next attempt; DIALING, HELLO: give up */
    uint64_t up_at_ms;
    uint32_t backoff_ms; /* of the latest pause */
    uint32_t attempts;   /* since it was up last */
    bool is_blocked;     /* the pipe is full */
};

void mesh_link_want(struct mesh_tx *tx, bool want); /* begin, or end, dialling */
void mesh_link_dial_now(struct mesh_tx *tx);
/* The connection is of no use any more: close it and try again later. */
void mesh_link_lost(struct mesh_tx *tx, bool was_refused, const char *reason);
void mesh_links_tick(struct node_mesh *mesh);

/*- peer.c */

struct mesh_rx {
    bool is_open;
    uint8_t routing[MESH_ROUTING_MAX];
    size_t routing_len;
};

struct mesh_peer {
    struct node_mesh *mesh;
    struct shl_node_id id;
    uint8_t key[NODE_KEY_BYTES];
    struct node_mesh_addr addrs[NODE_MESH_ADDRS_MAX];
    uint32_t addr_count;
    struct node_mesh_addr told; /* of its last hello, when it is none of addrs; else no host */
    uint32_t addr_at;           /* of the current attempt; addr_count: told */
    bool is_removed;
    struct shl_list dead; /* in mesh->dead_peers */

    struct mesh_tx tx[MESH_CHANNELS];
    struct mesh_rx rx[MESH_CHANNELS];
    bool is_up[MESH_CHANNELS];
    uint32_t version;
    char trouble[SHL_ERR_TEXT_MAX];

    /* The process we believe to be the peer. */
    bool is_claimed;
    uint64_t boot, nonce;
    uint64_t heard_at_ms;

    /* What the owner was told last, and must be told. */
    struct shl_list changed; /* in mesh->changed */
    bool told_up;
    bool must_tell_down;
    uint64_t admit_tokens_ms; /* zap.c: time not yet used up by connections */
    uint64_t admit_at_ms;

    struct shl_list control; /* mesh_out */
    size_t control_bytes;
    struct shl_list flush; /* in mesh->flush when something may be sent */

    struct shl_list rpcs;  /* asked, no reply yet */
    struct shl_list calls; /* asked by the peer, no reply yet */
    uint32_t rpc_count, call_count;

    struct shl_list streams[MESH_STREAM_BUCKETS];
    uint32_t stream_count;
    uint64_t stream_last;    /* highest id the peer opened */
    struct shl_list ready;   /* streams with something to send */
    struct shl_list credits; /* streams that owe the peer credit */
    struct shl_list waiting; /* streams whose writer waits for the queue */
    struct shl_list cuts;
    uint32_t cut_count;
    uint64_t bulk_at_ms; /* streams wait for the channel until then, 0: none does */
    size_t send_bytes, receive_bytes, granted_bytes;
};

struct mesh_peer *mesh_peer_find(const struct node_mesh *mesh, const struct shl_node_id *id);
/* A half of the channel came up or went down: is it up as a whole? */
void mesh_peer_check(struct mesh_peer *peer, enum mesh_channel channel);
/* What was under way in the channel is void. */
void mesh_peer_reset(struct mesh_peer *peer, enum mesh_channel channel, const char *reason);
/* End the other side's session, telling it @why. */
void mesh_peer_end_rx(struct mesh_peer *peer,
                      enum mesh_channel channel,
                      enum node_mesh_refusal why);
/* May things be queued for the peer? Also while its welcome is on its way. */
bool mesh_peer_is_near(const struct mesh_peer *peer, enum mesh_channel channel);
/* Is (boot, nonce) the process we know, or may it take over? */
bool mesh_peer_identify(struct mesh_peer *peer, uint64_t boot, uint64_t nonce);
const struct node_mesh_addr *mesh_peer_addr(const struct mesh_peer *peer); /* to be dialled */
void mesh_peer_next_addr(struct mesh_peer *peer);
/* It listens at @addr: tried next, while there is no link. */
void mesh_peer_told(struct mesh_peer *peer, const struct node_mesh_addr *addr);
void mesh_peer_tell(struct mesh_peer *peer); /* link_up, link_down that are due */
void mesh_peer_mark_flush(struct mesh_peer *peer);
void mesh_peers_bury(struct node_mesh *mesh); /* free those that were removed */
void mesh_peer_remove(struct mesh_peer *peer, const char *reason);
struct mesh_envelope mesh_peer_envelope(const struct mesh_peer *peer);

/*- zap.c */

SHL_MUST_CHECK int mesh_zap_open(struct node_mesh *mesh, struct shl_err *err);

struct mesh_guest {
    uint8_t key[NODE_KEY_BYTES];
    uint64_t until_ms; /* 0: free place */
    uint32_t messages;
};

/* User ids: "node:" and "guest:" with hexadecimal id or key. */
#define MESH_USER_NODE  "node:"
#define MESH_USER_GUEST "guest:"
struct mesh_guest *mesh_guest_find(struct node_mesh *mesh, const uint8_t key[NODE_KEY_BYTES]);

/*- inbox.c */

SHL_MUST_CHECK int mesh_inbox_open(struct node_mesh *mesh,
                                   enum mesh_channel channel,
                                   const char *host,
                                   uint16_t port,
                                   struct shl_err *err);
/* Send @buf back on a connection of a ROUTER; dropped when that is not possible. */
void mesh_inbox_answer(struct node_mesh *mesh,
                       enum mesh_channel channel,
                       struct shl_bytes routing,
                       struct shl_buf *buf);
uint32_t mesh_bytes_max(enum mesh_channel channel);

/*- refuse.c */

struct mesh_logged {
    uint8_t who[SHL_NODE_ID_BYTES];
    unsigned why;
    uint64_t until_ms; /* 0: free */
};

/* Count, log once, and say so on the connection (@routing may be empty). */
void mesh_refuse(struct node_mesh *mesh,
                 enum mesh_channel channel,
                 const struct shl_node_id *who,
                 struct shl_bytes routing,
                 enum node_mesh_refusal why,
                 const char *detail);
/* The same for an open session of @peer, which ends. */
void mesh_refuse_session(struct mesh_peer *peer,
                         enum mesh_channel channel,
                         enum node_mesh_refusal why,
                         const char *detail);
/* A peer refused us. */
void mesh_refused_by(struct mesh_peer *peer, enum node_mesh_refusal why, const char *text);
enum node_mesh_refusal mesh_refusal_parse(const char *name); /* COUNT when unknown */

/*- outbox.c */

/* Takes @out. 0, or SHL_ELIMIT and it is gone. */
int mesh_outbox_push(struct mesh_peer *peer, struct mesh_out *out);
void mesh_outbox_clear(struct mesh_peer *peer);
/* Hand over to ZeroMQ what it takes, control and bulk. */
void mesh_flush(struct node_mesh *mesh);

/*- call.c */

struct mesh_handler {
    const char *name; /* NULL: free */
    uint32_t body_max;
    node_mesh_on_message on_message;
    node_mesh_on_call on_call;
    node_stream_accept accept;
    void *arg;
};

struct mesh_handlers {
    struct mesh_handler list[NODE_MESH_KINDS_MAX];
    uint32_t count;
};

const struct mesh_handler *mesh_handler_find(const struct mesh_handlers *handlers,
                                             const char *name);
struct mesh_handler *mesh_handler_add(struct mesh_handlers *handlers, const char *name, void *arg);

void mesh_on_one_way(struct mesh_peer *peer, const struct mesh_message *msg);
void mesh_on_ask(struct mesh_peer *peer, const struct mesh_message *msg);
void mesh_on_reply(struct mesh_peer *peer, const struct mesh_message *msg);
/* A question that is answered on the connection it came by. */
struct node_mesh_call *mesh_call_new_guest(struct node_mesh *mesh, struct shl_bytes routing);
/* All calls of the link: those we asked fail, those of the peer go unanswered. */
void mesh_calls_reset(struct mesh_peer *peer);
void mesh_calls_close(struct node_mesh *mesh); /* forget calls being answered */
void mesh_calls_tick(struct node_mesh *mesh);
void mesh_calls_deliver(struct node_mesh *mesh); /* failures that wait to be told */

/*- streams.c */

struct mesh_stream {
    struct node_stream base;
    struct mesh_peer *peer; /* NULL once ended */
    struct node_mesh *mesh;
    uint64_t id;
    bool opened; /* by us */
    struct shl_list bucket;
    struct shl_list ready, credit, waiting; /* in lists of the peer */
    struct shl_list wake;                   /* in mesh->wakes or mesh->ended */

    struct shl_list frames; /* mesh_out: .open first, then .data */
    size_t frame_bytes;     /* what they count for in the queues */
    uint64_t credit_left;   /* payload the peer still takes */
    bool is_open_sent, is_finished, is_end_sent;
    bool wants_writable; /* the writer was told "less" */

    struct shl_list pieces; /* received, not taken */
    size_t piece_bytes;
    uint64_t granted;  /* the peer may have this much under way to us, at most */
    uint64_t expected; /* of it, not received yet */
    bool is_paused;    /* the reader took less than all */
    bool has_end, told_end;

    int code;
    char msg[SHL_ERR_TEXT_MAX];
};

struct mesh_cut {
    struct shl_list link;
    uint64_t id;
    bool opened;
    int code;
    char msg[SHL_ERR_TEXT_MAX];
};

extern const struct node_stream_carrier mesh_stream_carrier;
void mesh_streams_init(struct node_mesh *mesh);
void mesh_on_stream(struct mesh_peer *peer, const struct mesh_message *msg, zmq_msg_t *raw);
/* End: detach from everything; the user hears it in the next turn. */
void mesh_stream_end(struct mesh_stream *s, int code, const char *msg);
void mesh_streams_reset(struct mesh_peer *peer, const char *reason);
void mesh_cuts_clear(struct mesh_peer *peer);
void mesh_streams_deliver(struct node_mesh *mesh);
void mesh_streams_tick(struct node_mesh *mesh);

/*- stream_io.c */

size_t mesh_stream_write(struct node_stream *base, struct shl_bytes data);
size_t mesh_stream_give(struct node_stream *base,
                        struct shl_bytes data,
                        node_stream_release release,
                        void *arg);
void mesh_stream_finish(struct node_stream *base);
void mesh_stream_resume(struct node_stream *base);
void mesh_stream_queue(struct mesh_stream *s, struct mesh_out *out);
void mesh_stream_mark_ready(struct mesh_stream *s);
void mesh_stream_mark_wake(struct mesh_stream *s);
/* Bytes that arrived; leftovers keep @raw (moved). */
void mesh_stream_receive(struct mesh_stream *s, struct shl_bytes bytes, zmq_msg_t *raw);
void mesh_stream_wake(struct mesh_stream *s); /* tell what is due */
void mesh_stream_drop(struct mesh_stream *s); /* all frames and pieces */
/* Send what waits in streams; stops when the pipe is full. */
void mesh_streams_flush(struct mesh_peer *peer);
/* Writers that waited for room in the queues. */
void mesh_streams_room(struct node_mesh *mesh);

/*- join.c */

void mesh_on_join(struct node_mesh *mesh,
                  const uint8_t key[NODE_KEY_BYTES],
                  struct shl_bytes routing,
                  const struct mesh_message *msg);
void mesh_joins_tick(struct node_mesh *mesh);
void mesh_joins_close(struct node_mesh *mesh);

/*- mesh.c */

struct node_mesh {
    uv_loop_t *loop;
    void *ctx;
    struct node_mesh_keys keys;
    uint8_t cluster[NODE_CLUSTER_BYTES];
    uint64_t nonce;
    uint32_t version_min, version_max;
    uint32_t dial_min_ms, dial_max_ms, identity_hold_ms;
    struct node_mesh_addr self; /* no host: not said */
    const struct node_mesh_user *user;
    void *arg;
    const struct shl_log *log;

    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;
    uv_timer_t timer;
    uint64_t wake_at_ms; /* UINT64_MAX: not set */
    uint32_t handles;    /* of libuv that are not closed yet */
    uint64_t serial;     /* names monitors, links, calls and streams; never the same twice */

    struct mesh_socket *zap;
    struct mesh_socket *router[MESH_CHANNELS];
    uint16_t port[MESH_CHANNELS];
    struct shl_list dirty;
    struct shl_list strays; /* calls being answered that belong to no link (any more) */

    struct mesh_peer *peers[NODE_MESH_PEERS_MAX]; /* by id */
    uint32_t peer_count;
    struct shl_list dead_peers, changed, flush;
    uint32_t dial_count;

    struct mesh_handlers kinds, methods, streams;
    struct node_stream_opener opener;
    struct shl_list failed; /* rpcs whose callback is due */
    struct shl_list wakes, ended;
    uint32_t stream_count, waiting_count;
    struct mesh_pool pool;

    node_mesh_on_join on_join;
    void *join_arg;
    struct mesh_guest guests[MESH_GUESTS_MAX];
    struct shl_list joins;
    uint32_t join_count;

    struct mesh_logged logged[MESH_LOGGED_MAX];
    struct node_mesh_stats stats; /* counters and bytes; the rest is filled when asked */

    bool is_closing;
    bool is_shut; /* sockets and handles are going */
    uint32_t linger_ms;
    void (*closed)(void *arg);
    void *closed_arg;
    uv_work_t term;
};

/* In mesh.c: everything that is due before the loop sleeps. */
void mesh_turn(struct node_mesh *mesh);
/* A handle or socket ended; the last one ends the mesh. */
void mesh_handle_closed(struct node_mesh *mesh);
void mesh_hello_fields(const struct node_mesh *mesh,
                       enum mesh_channel channel,
                       struct mesh_message *ret);

#endif /* SHL_NODE_MESH_MESH_PRIVATE_H */
