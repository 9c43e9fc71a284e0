/* Connections of the metadata service (metadata.h); part of the gateway. Loop thread. */
#ifndef SHL_NODE_EGRESS_METADATA_SERVER_H
#define SHL_NODE_EGRESS_METADATA_SERVER_H

#include <uv.h>

#include "base/list.h"
#include "node/egress/metadata.h"

#define EGRESS_METADATA_GUEST_CONNS 16u   /* of one guest; further ones are closed */
#define EGRESS_METADATA_CONNS       2048u /* of all, likewise */
#define EGRESS_METADATA_MS          5000u /* for a request to come, for figures, for a reply to go */
#define EGRESS_METADATA_DROP_MAX    65536u /* bytes behind a head that are read and dropped */

struct egress_gateway;
struct egress_guest;

/* Connections of one guest, or of addresses that are none's. All zero but for the list. */
struct egress_metadata_guest {
    struct shl_list conns;
    unsigned count;
    uint64_t asked_ms; /* when the daemon was asked for figures; 0: nothing is awaited */
};

struct egress_metadata {
    struct egress_gateway *gateway;
    uv_poll_t listener;
    int listen_fd;
    struct egress_metadata_guest strangers;
    struct shl_list conns; /* all of them */
    unsigned count;        /* until their memory is gone */
    /* The daemon is to be asked; NULL: there is none. */
    node_egress_ask ask;
    void *ask_arg;
};

void egress_metadata_guest_init(struct egress_metadata_guest *guest);
/* @fd: listening; taken with success. 0 or negative. */
SHL_MUST_CHECK int egress_metadata_open(struct egress_metadata *metadata,
                                        struct egress_gateway *gateway,
                                        uv_loop_t *loop,
                                        int fd);
/* Connections are closed first (egress_metadata_drop); @closed when the listener is gone. */
void egress_metadata_close(struct egress_metadata *metadata, uv_close_cb closed);
/* The address is another one's, or nobody's. */
void egress_metadata_drop(struct egress_metadata_guest *guest);
/* The daemon's answer for who waits; NULL: there are none. */
void egress_metadata_figures(struct egress_guest *guest, const struct node_egress_figures *figures);
void egress_metadata_tick(struct egress_metadata *metadata, uint64_t now_ms);

#endif /* SHL_NODE_EGRESS_METADATA_SERVER_H */
