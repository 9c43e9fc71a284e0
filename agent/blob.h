/* An answer that is ready as a whole: sent as DATA as credit allows, then RESPONSE. */
#ifndef SHL_AGENT_BLOB_H
#define SHL_AGENT_BLOB_H

#include "agent/mux.h"

/* Takes the content of @buf, whatever happens. */
void agent_blob_reply(struct agent_stream *stream, struct shl_buf *buf);

#endif /* SHL_AGENT_BLOB_H */
