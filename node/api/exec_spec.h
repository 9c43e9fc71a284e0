/* The body of the exec requests, checked, and the agent request made of it. Pure but for
 * the reply on failure left to the caller. */
#ifndef SHL_NODE_API_EXEC_SPEC_H
#define SHL_NODE_API_EXEC_SPEC_H

#include <jansson.h>

#include "base/err.h"
#include "node/api/agent_request.h"
#include "node/sandbox/manager.h"

#define NODE_EXEC_TIMEOUT_DEFAULT_S 60

struct node_exec_spec {
    json_t *body; /* owns what the fields borrow */
    const char *cmd;
    const json_t *args; /* NULL when absent or empty: cmd is for the shell */
    const char *cwd;    /* NULL: the default */
    struct node_kv_list envs;
    uint32_t timeout_s; /* 0: none, only for sessions */
    uint32_t linger_s;  /* maxRunAfterDisconnect, 0: none; of sessions */
};

/* @timeout_default_s stands for an absent timeout and for 0. Release on success. */
SHL_MUST_CHECK int node_exec_spec_parse(struct shl_bytes body,
                                        uint32_t timeout_default_s,
                                        struct node_exec_spec *ret_spec,
                                        struct shl_err *err);
void node_exec_spec_release(struct node_exec_spec *spec);

/* exec.start of this under the id @session. With @pipe_stdin it is for clients that attach. */
void node_exec_spec_write(const struct node_exec_spec *spec,
                          const char *session,
                          bool pipe_stdin,
                          struct node_agent_request *request);

#endif /* SHL_NODE_API_EXEC_SPEC_H */
