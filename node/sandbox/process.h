/* One child process that outlives its parent: spawned in its own session, or adopted by
 * a daemon that was restarted.
 *
 * Loop thread. The end of the process is told once; closing the handle lets it run on.
 * Signals go through a pidfd, so they cannot hit a process that took over the number.
 */
#ifndef SHL_NODE_SANDBOX_PROCESS_H
#define SHL_NODE_SANDBOX_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <uv.h>

#include "base/err.h"

struct node_process;

/* @known: how it ended is known, which it is for own children only. */
typedef void (*node_process_exit_cb)(void *arg, bool known, int64_t status, int signal);

/* What tells a process from a later one with the same number. */
struct node_process_id {
    pid_t pid;
    uint64_t start_ticks; /* since boot of this machine */
};

/* @args ends with NULL, args[0] is the program; output goes to @log_fd (borrowed). */
SHL_MUST_CHECK int node_process_spawn(uv_loop_t *loop,
                                      char **args,
                                      int log_fd,
                                      node_process_exit_cb cb,
                                      void *arg,
                                      struct node_process **ret_process,
                                      struct shl_err *err);

/* SHL_ENOTFOUND when that process is not there any more. */
SHL_MUST_CHECK int node_process_adopt(uv_loop_t *loop,
                                      const struct node_process_id *id,
                                      node_process_exit_cb cb,
                                      void *arg,
                                      struct node_process **ret_process,
                                      struct shl_err *err);

const struct node_process_id *node_process_id(const struct node_process *process);

/* 0 or -errno; -ESRCH when it has ended. */
int node_process_signal(struct node_process *process, int signal);

/* Stop watching. @cb when the memory is gone. */
void node_process_close(struct node_process *process, void (*cb)(void *arg), void *arg);

/* Start time of @pid in ticks: 0, or SHL_ENOTFOUND when it has ended. */
SHL_MUST_CHECK int node_process_start_ticks(pid_t pid, uint64_t *ret_ticks);

#endif /* SHL_NODE_SANDBOX_PROCESS_H */
