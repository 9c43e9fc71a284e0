/* One program in a guest, from its start to its end: exec.start, then exec.result.
 *
 * For what the node itself runs (steps of images, patches). Its session is the node's own and in
 * no list. Loop thread.
 */
#ifndef SHL_NODE_SANDBOX_COMMAND_H
#define SHL_NODE_SANDBOX_COMMAND_H

#include "node/sandbox/agent_link.h"

#define NODE_COMMAND_TAIL_MAX   (16 * 1024)        /* bytes of each stream kept for the outcome */
#define NODE_COMMAND_OUTPUT_MAX (2u * 1024 * 1024) /* bytes of each stream that a guest keeps */

struct node_command;

struct node_command_spec {
    const char *session;     /* begins with _ */
    const char *const *argv; /* NULL ends; one alone is a line for the shell */
    const char *const *envs; /* name, value, ...; NULL ends; or NULL */
    const char *cwd;         /* NULL: the default */
    const char *user;        /* NULL: the default */
    uint32_t timeout_s;
};

struct node_command_result {
    int code;        /* 0: the program ended; else it could not run, or that is not known */
    const char *msg; /* of a code */
    int64_t exit_code;
    bool timed_out;
    struct shl_bytes out, err; /* the last of it */
};

struct node_command_ops {
    /* Output as it comes; may be NULL. */
    void (*output)(void *arg, struct shl_bytes data);
    /* Once, never from inside start. The command is gone then. */
    void (*end)(void *arg, const struct node_command_result *result);
};

/* @spec is copied. 0 or a code with a sentence. */
SHL_MUST_CHECK int node_command_start(struct node_agent_link *link,
                                      const struct node_command_spec *spec,
                                      const struct node_command_ops *ops,
                                      void *arg,
                                      struct node_command **ret_command,
                                      struct shl_err *err);
/* ops->end follows soon, with -ECANCELED. The program may run on. */
void node_command_cancel(struct node_command *command);

#endif /* SHL_NODE_SANDBOX_COMMAND_H */
