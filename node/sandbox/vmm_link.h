/* Node side of the control connection to one VMM (vmm-kvm/control.h).
 *
 * Owned by a sandbox, loop thread. The link connects as soon as the VMM listens and
 * again when the connection breaks; when that does not succeed for give_up_ms it says
 * so once. Requests are answered exactly once, later, also when the link closes.
 */
#ifndef SHL_NODE_SANDBOX_VMM_LINK_H
#define SHL_NODE_SANDBOX_VMM_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mp.h"
#include "vmm-kvm/control.h"

struct node_vmm_link;

#define NODE_VMM_REQUESTS_MAX 16

struct node_vmm_link_config {
    const char *socket_path; /* copied */
    uint32_t retry_ms;       /* 0: 20 */
    uint32_t give_up_ms;     /* 0: 20000 */
    /* Connected, at first and again. */
    void (*on_ready)(void *arg);
    /* Not connected for give_up_ms, or the VMM sent what is not a frame (@msg). */
    void (*on_lost)(void *arg, const char *msg);
    /* Something that is no reply. May be NULL: what a VMM tells so is told by its process and its
     * exit file, too, which cannot be lost. */
    void (*on_event)(void *arg, const msgpack_object *event);
    void *arg;
};

/* @reply is NULL when @code comes from here. */
typedef void (*node_vmm_reply_cb)(void *arg,
                                  int code,
                                  const char *msg,
                                  const msgpack_object *reply);

/* 0, -ENAMETOOLONG, -ENOMEM. */
SHL_MUST_CHECK int node_vmm_link_open(uv_loop_t *loop,
                                      const struct node_vmm_link_config *config,
                                      struct node_vmm_link **ret_link);

bool node_vmm_link_is_ready(const struct node_vmm_link *link);

struct node_vmm_fd {
    const char *name;
    int fd; /* borrowed: sent before the call returns; < 0 is left out */
};

/* Send request @op; @add writes further fields (may be NULL, gets
 * @arg too). With @fd_count > 0 the
 * descriptors go along, which works only while nothing else is being written. 0,
 * SHL_EUNAVAILABLE (not connected), SHL_ELIMIT, -errno; on failure @cb is not called. */
SHL_MUST_CHECK int node_vmm_link_request(struct node_vmm_link *link,
                                         const char *op,
                                         void (*add)(void *arg, struct shl_mp_writer *writer),
                                         const struct node_vmm_fd *fds,
                                         size_t fd_count,
                                         node_vmm_reply_cb cb,
                                         void *arg);

/* Open requests are answered with SHL_EGONE; @cb when the memory is gone. */
void node_vmm_link_close(struct node_vmm_link *link, void (*cb)(void *arg), void *arg);

#endif /* SHL_NODE_SANDBOX_VMM_LINK_H */
