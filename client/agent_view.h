/* The events of an agent session, for people: what the agent says on stdout, everything else,
 * shorter, on stderr. With --json the events as they are. One thread. */
#ifndef SHL_CLIENT_AGENT_VIEW_H
#define SHL_CLIENT_AGENT_VIEW_H

#include "client/cli.h"

struct agent_view {
    struct cli *cli; /* borrowed */
    struct shoal_agent_reader *reader;
    bool is_busy;           /* a turn is under way */
    unsigned completed;     /* turns */
    bool is_failed;         /* the last one, or the session */
    char conversation[128]; /* to resume; "" none */
};

SHL_MUST_CHECK bool agent_view_init(struct agent_view *view, struct cli *cli);
void agent_view_release(struct agent_view *view);

/* A shoal_stream_cb; @arg is the view. */
void agent_view_output(void *arg, int stream, const void *data, size_t len);

#endif /* SHL_CLIENT_AGENT_VIEW_H */
