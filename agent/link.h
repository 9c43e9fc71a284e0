/* The link: one descriptor (virtio port or socket), frames in and out, HELLO.
 *
 * The host side of the port comes and goes. While it is away the port reads as ended
 * and hung up; the link then waits for the edge that the kernel signals when the host
 * opens its side again, and the HELLO that follows ends the streams of before. A
 * socket that ends is final: on_end.
 * Loop thread only.
 */
#ifndef SHL_AGENT_LINK_H
#define SHL_AGENT_LINK_H

#include "agent/loop.h"
#include "agent/mux.h"
#include "base/log.h"

struct agent_link {
    struct agent_loop *loop; /* borrowed, like mux */
    struct agent_mux *mux;
    const struct shl_log *log; /* may be NULL */
    struct agent_watch watch;
    struct agent_timer resume;
    struct agent_parser parser;
    bool is_port;   /* survives a hang-up */
    bool connected; /* a HELLO was answered */
    char boot_id[40];
    void (*on_end)(void *arg); /* of a socket; the link is closed already */
    void *arg;
};

void agent_link_init(struct agent_link *link,
                     struct agent_loop *loop,
                     struct agent_mux *mux,
                     const struct shl_log *log);

/* Takes @fd, which must be non-blocking. 0 or -errno. */
SHL_MUST_CHECK int agent_link_open(struct agent_link *link, int fd, bool is_port);
void agent_link_close(struct agent_link *link);

/* Send what streams have and the descriptor takes. Due after anything outside a link
 * callback may have queued frames; cheap when there is nothing. */
void agent_link_flush(struct agent_link *link);

/* Act on one frame. Used by the read path, and by fuzzing without a descriptor. */
void agent_link_frame(struct agent_link *link, const struct agent_frame *frame);

#endif /* SHL_AGENT_LINK_H */
