/* Clients that watch a session: each gets all of its output from where it begins, at its own
 * pace, and may send input. Loop thread only. */
#ifndef SHL_AGENT_ATTACH_H
#define SHL_AGENT_ATTACH_H

#include "agent/mux.h"
#include "agent/session.h"

/* Answer @stream with @session, which is not starting. 0 or -ENOMEM. */
SHL_MUST_CHECK int agent_attach(struct agent_session *session, struct agent_stream *stream);

/* There is more output, or it is done. */
void agent_attaches_wake(struct agent_session *session);
/* Where the slowest client is: UINT64_MAX without any, 0 while the first one is awaited. */
uint64_t agent_attaches_floor(const struct agent_session *session);
/* Those that hold the output up are told to go. */
void agent_attaches_end_slow(struct agent_session *session);
/* Nobody is attached: from now on the session is on its own time. */
void agent_attaches_left(struct agent_session *session);

#endif /* SHL_AGENT_ATTACH_H */
