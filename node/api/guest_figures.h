/* Figures of a guest for its metadata service (node/egress/metadata.h): asked by the gateway,
 * looked up in the guest by its agent and at its TAP. Loop thread.
 *
 * A guest that asks of itself is no activity: it hibernates as if it had not asked.
 */
#ifndef SHL_NODE_API_GUEST_FIGURES_H
#define SHL_NODE_API_GUEST_FIGURES_H

#include <stdint.h>

struct node_server;

/* A node_egress_ask of @server: the answer goes to the sink, also when there is none. While a
 * guest is looked at, a further question about it is not answered: its first one is. */
void node_guest_figures_ask(struct node_server *server, uint32_t guest, const char *sandbox);

#endif /* SHL_NODE_API_GUEST_FIGURES_H */
