/* Streams between nodes in memory (node/mesh/stream.h), for tests.
 *
 * A net has nodes, which accept streams of one kind. Everything that happens, happens later,
 * from an idle handle of the loop, in random order and in random pieces of a seed; windows
 * may be tiny, links may be cut after a number of bytes. It checks that its user keeps the
 * contract.
 */
#ifndef SHL_TESTS_NODE_HTTP_FAKE_NET_H
#define SHL_TESTS_NODE_HTTP_FAKE_NET_H

#include <uv.h>

#include "base/list.h"
#include "node/mesh/stream.h"

#define FAKE_NODES_MAX 8

struct fake_node {
    struct shl_node_id id;
    node_stream_accept accept; /* NULL: no handler for the kind */
    void *arg;
    bool is_down; /* no link */
};

struct fake_net {
    uv_loop_t *loop;
    uv_idle_t idle;
    uint64_t seed;
    size_t window;    /* bytes per direction, default NODE_STREAM_WINDOW */
    size_t piece_max; /* of one data callback, default NODE_STREAM_PIECE_MAX */
    /* Cut the next streams when so many bytes were delivered to the opener, or to the acceptor;
     * negative: never. */
    int64_t cut_to_opener;
    int64_t cut_to_acceptor;
    struct shl_list pairs;
    struct fake_node nodes[FAKE_NODES_MAX];
    size_t node_count;
    size_t queued_max; /* most bytes ever under way in one direction */
    unsigned opened;
    unsigned open_now;
};

/* What a node opens with: it knows who it is. */
struct fake_opener {
    struct node_stream_opener base;
    struct fake_net *net;
    struct shl_node_id self;
};

void fake_net_init(struct fake_net *net, uv_loop_t *loop, uint64_t seed);
/* Cuts what is open, tells everybody, and closes the handle. */
void fake_net_close(struct fake_net *net);

struct shl_node_id fake_node_id(unsigned number);
struct fake_node *fake_net_add(struct fake_net *net,
                               unsigned number,
                               node_stream_accept accept,
                               void *arg);
struct fake_node *fake_net_find(struct fake_net *net, const struct shl_node_id *id);
void fake_opener_init(struct fake_opener *opener, struct fake_net *net, unsigned self);
/* Every open stream is lost. */
void fake_net_cut_all(struct fake_net *net, int code, const char *msg);

uint32_t fake_random(uint64_t *seed);

#endif /* SHL_TESTS_NODE_HTTP_FAKE_NET_H */
