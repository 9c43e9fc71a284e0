/* The control socket: clients, frames, descriptors. What an op does is the process's
 * business (on_request). One thread, the loop's. */
#ifndef SHL_VMM_SERVER_H
#define SHL_VMM_SERVER_H

#include "base/buf.h"
#include "vmm-kvm/control.h"
#include "vmm-kvm/loop.h"
#include "vmm-kvm/request.h"

struct vmm_server;

struct vmm_client {
    struct vmm_watch watch;
    struct vmm_server *server;
    int fd; /* -1: free place */
    struct shl_buf in;
    struct shl_buf out;
    int fds[VMM_CONTROL_FDS_MAX]; /* came with the frame now being read */
    unsigned fd_count;
};

struct vmm_server {
    struct vmm_watch watch;
    int listen_fd; /* borrowed */
    struct vmm_loop *loop;
    struct vmm_client clients[VMM_CONTROL_CLIENTS_MAX];
    /* Write the reply's fields (beyond id, code, msg) into the open map, or return a
     * negative code with @err. @fds may be taken by setting entries to -1. */
    int (*on_request)(void *ctx,
                      const struct vmm_request *request,
                      const msgpack_object *map,
                      int *fds,
                      unsigned fd_count,
                      struct shl_mp_writer *reply,
                      struct shl_err *err);
    /* The reply has been queued. */
    void (*after_request)(void *ctx, const struct vmm_request *request, int code);
    void *ctx;
};

SHL_MUST_CHECK int vmm_server_init(struct vmm_server *server, struct vmm_loop *loop, int listen_fd);
void vmm_server_release(struct vmm_server *server);

/* Queue @body (a msgpack map) for every client. */
void vmm_server_broadcast(struct vmm_server *server, struct shl_bytes body);

/* Write what is queued now, as far as clients take it. */
void vmm_server_flush(struct vmm_server *server);

#endif /* SHL_VMM_SERVER_H */
