/* Opening and closing a link to a guest agent; for the owner of the sandbox alone.
 *
 * The link keeps trying to connect and to get an answer to HELLO until it is closed
 * or has failed: how long that may take is the owner's decision. Loop thread only.
 */
#ifndef SHL_NODE_SANDBOX_AGENT_LINK_OPEN_H
#define SHL_NODE_SANDBOX_AGENT_LINK_OPEN_H

#include <uv.h>

#include "node/sandbox/agent_link.h"

enum node_agent_link_state {
    NODE_AGENT_LINK_WAITING, /* connecting, or connected and the agent is silent */
    NODE_AGENT_LINK_READY,   /* HELLO_ACK with our token came */
    NODE_AGENT_LINK_FAILED,  /* for good: the agent broke the protocol or has another version */
};

struct node_agent_link_config {
    const char *socket_path; /* copied */
    uint32_t retry_ms;       /* between connects and between HELLOs; 0: 250 */
    uint32_t cancel_ms;      /* an agent that ignores CANCEL this long; 0: 10000 */
    /* Every change; @code and @msg say why it is not ready. The link may be closed
     * from inside. Never called from inside node_agent_link_open. */
    void (*on_state)(void *arg, enum node_agent_link_state state, int code, const char *msg);
    void *arg;
};

/* 0, -ENAMETOOLONG, -ENOMEM or an error of libuv. */
SHL_MUST_CHECK int node_agent_link_open(uv_loop_t *loop,
                                        const struct node_agent_link_config *config,
                                        struct node_agent_link **ret_link);

/* End every stream with @code (negative) and @why, later from the loop; then @cb, after
 * which the memory is gone. */
void node_agent_link_close(struct node_agent_link *link,
                           int code,
                           const char *why,
                           void (*cb)(void *arg),
                           void *arg);

#endif /* SHL_NODE_SANDBOX_AGENT_LINK_OPEN_H */
