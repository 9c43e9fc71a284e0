/* An entry node for tests: passes the requests of its clients on to the nodes that it was given. */
#ifndef SHL_TESTS_NODE_HTTP_ENTRY_H
#define SHL_TESTS_NODE_HTTP_ENTRY_H

#include "node/http/forward.h"

struct entry {
    struct node_stream_opener *opener;
    unsigned nodes[4];    /* of the fake net, in the order in which they are tried; 0 ends */
    bool relays_refusals; /* else the next node is asked */
    unsigned failed;
    struct node_forward_failure failure; /* the latest */
};

/* For struct node_exchange_app, with the entry as its argument. */
void entry_on_head(void *arg, struct node_exchange *x);

#endif /* SHL_TESTS_NODE_HTTP_ENTRY_H */
