/* Sandboxes whose node is lost: what their GET shows. */
#ifndef SHL_NODE_API_RECOVER_H
#define SHL_NODE_API_RECOVER_H

struct node_call;

/* Replies with status "error", @reason, and what gossip still knows of the sandbox. */
void node_recover_show_lost(struct node_call *call, const char *reason);

#endif /* SHL_NODE_API_RECOVER_H */
