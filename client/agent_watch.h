/* An agent session that is attached to: its events are shown, prompts may be typed, Ctrl-C
 * interrupts it. Once per process: the signal handler stays. */
#ifndef SHL_CLIENT_AGENT_WATCH_H
#define SHL_CLIENT_AGENT_WATCH_H

#include "client/cli.h"

#define AGENT_PROMPT_MAX_BYTES (1024u * 1024)

/* Until it ends or is left alone; the exit code. The sandbox is the second operand. @is_ours: we
 * started it, so it ends with us; @is_talking: lines of the terminal are prompts; @is_busy: it has
 * one already. */
SHL_MUST_CHECK int agent_watch(struct cli *cli,
                               const char *session,
                               bool is_ours,
                               bool is_talking,
                               bool is_busy);

/* A shoal_watch_cb for its requests: one that hangs ends soon after Ctrl-C. */
int agent_watch_is_stopped(void *arg);

#endif /* SHL_CLIENT_AGENT_WATCH_H */
