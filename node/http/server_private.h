/* Inside of the HTTP server: what server.c (loop, connections) and request.c (requests on
 * them) share. */
#ifndef SHL_NODE_HTTP_SERVER_PRIVATE_H
#define SHL_NODE_HTTP_SERVER_PRIVATE_H

#include <microhttpd.h>

#include "base/list.h"
#include "node/http/listener.h"
#include "node/http/server.h"
#include "node/http/transport.h"

struct node_http {
    struct node_http_config config; /* defaults filled in; listen is not kept */
    uv_loop_t *loop;
    struct MHD_Daemon *daemon;
    struct node_listener listener;
    uv_poll_t poll;   /* the library's epoll descriptor */
    uv_timer_t timer; /* the library's next time-out */
    uv_timer_t sweep; /* deadlines of connections */
    struct shl_list connections;
    struct shl_list requests;
    struct shl_list sockets; /* upgraded */
    struct shl_list due;     /* those of them with something to do */
    struct node_http_stats stats;
    uint32_t open_handles;
    bool is_closing;
    void (*close_cb)(void *arg);
    void *close_arg;
};

/* A connection the library has. */
struct node_http_connection {
    struct shl_list link;
    int fd;
    uint64_t deadline_ms; /* 0: none, a request is being served */
};

/* One request on it. Freed when the library is through with both request and response. */
struct node_http_request {
    struct shl_list link;
    struct node_http *http;
    struct MHD_Connection *mhd;
    struct node_exchange x;
    struct MHD_Response *response; /* made, not queued yet */
    char *target;
    unsigned refs; /* request, and a response that reads from it */
    uint64_t started_ms;
    int64_t discarded_bytes;
    bool is_begun;
    bool is_suspended;
    bool is_closed;
    bool is_lost; /* the client has left */
    bool expects_continue;
    bool is_socket; /* the application wants it to be one */
    bool is_socket_complete;
    struct node_http_socket *socket; /* while it is one */
};

/* Call the library again at the next turn of the loop. */
void node_http_drive_soon(struct node_http *http);

/* Clients of other servers (is_proxy) that have left while the library does not look. */
void node_http_sweep_lost(struct node_http *http);

/* A suspended request goes on at the next turn. */
void node_http_request_resume(struct node_http_request *r);

/* Callbacks of the library, with the server as @cls: the raw target before it is taken
 * apart, the request in its stages, and its end. */
void *node_http_on_target(void *cls, const char *target, struct MHD_Connection *mhd);
enum MHD_Result node_http_on_access(void *cls,
                                    struct MHD_Connection *mhd,
                                    const char *url,
                                    const char *method,
                                    const char *version,
                                    const char *data,
                                    size_t *len,
                                    void **con_cls);
void node_http_on_completed(void *cls,
                            struct MHD_Connection *mhd,
                            void **con_cls,
                            enum MHD_RequestTerminationCode code);

/* Of socket.c: a connection that became a WebSocket. */

/* Called by the library when the reply of 101 is out; @cls is the request. */
void node_http_on_upgraded(void *cls,
                           struct MHD_Connection *mhd,
                           void *con_cls,
                           const char *extra,
                           size_t extra_len,
                           MHD_socket fd,
                           struct MHD_UpgradeResponseHandle *urh);
/* There may be something to read, or to take. */
void node_http_socket_wake(struct node_http_socket *socket);
void node_http_socket_resume(struct node_http_socket *socket);
/* Those that were woken. */
void node_http_run_sockets(struct node_http *http);
/* Looks for clients that are lost, or do not end when we have. */
void node_http_sweep_sockets(struct node_http *http);
/* The server closes: every socket is given back to the library. */
void node_http_drop_sockets(struct node_http *http);
/* One of the handles that closing waits for has closed. */
void node_http_handle_closed(struct node_http *http);

#endif /* SHL_NODE_HTTP_SERVER_PRIVATE_H */
