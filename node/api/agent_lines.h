/* What the wrapper in the guest is told (templates/base/agent-wrapper): one JSON object per line.
 *
 * Pure. Request bodies in, checked; lines out. Fields that this server does not know are left
 * out, those that are null count as absent.
 */
#ifndef SHL_NODE_API_AGENT_LINES_H
#define SHL_NODE_API_AGENT_LINES_H

#include "base/buf.h"
#include "base/err.h"

/* The program that is an agent session; sessions of it are those under /agent. */
#define NODE_AGENT_WRAPPER "claude-agent-wrapper"
/* Of what it says, so much is there for clients that come later: a line can be long. */
#define NODE_AGENT_RING_BYTES (4u * 1024 * 1024)

/* Append lines to @out, which the caller releases in any case. 0, SHL_EINVALIDARG with a sentence,
 * SHL_ELIMIT, -ENOMEM. */

/* Of a start: a configure line when anything is set, then a prompt line when there is one. */
SHL_MUST_CHECK int node_agent_lines_start(struct shl_bytes body,
                                          struct shl_buf *out,
                                          struct shl_err *err);
/* {text, resume?} */
SHL_MUST_CHECK int node_agent_lines_prompt(struct shl_bytes body,
                                           struct shl_buf *out,
                                           struct shl_err *err);
/* As of a start, without a prompt; something must be set. */
SHL_MUST_CHECK int node_agent_lines_configure(struct shl_bytes body,
                                              struct shl_buf *out,
                                              struct shl_err *err);
SHL_MUST_CHECK int node_agent_lines_interrupt(struct shl_buf *out, struct shl_err *err);

#endif /* SHL_NODE_API_AGENT_LINES_H */
