/* Three API servers on fakes, with streams in memory between them and routers that know
 * everything, or what a test tells them. Node 1 is index 0 and so on; names are w1, w2, w3. */
#ifndef SHL_TESTS_NODE_API_MESH_H
#define SHL_TESTS_NODE_API_MESH_H

#include <jansson.h>

#include "node/api/keys.h"
#include "node/api/router.h"
#include "node/api/server.h"
#include "tests/node/api/fake.h"
#include "tests/node/http/client.h"
#include "tests/node/http/fake_net.h"

#define MESH_NODES 3

struct mesh_node {
    struct node_router router; /* first: ops get this */
    unsigned index;
    struct fake_opener opener;
    struct node_store *store;
    struct node_manager *manager;
    struct node_server *server;
    uint16_t port;
    enum node_mark mark;
    bool is_closed;
};

struct mesh {
    uv_loop_t loop;
    struct fake_net net;
    struct mesh_node nodes[MESH_NODES];
    struct node_router *rows; /* that all share */
    char key[NODE_KEY_SIZE];
    char plain_key[NODE_KEY_SIZE]; /* not admin, same organisation */
    unsigned closing;
    /* What routers answer. */
    bool answers_later; /* through the callback */
    unsigned where_asked;
    int lies;                   /* node that `where` names first, -1 the truth */
    bool keeps_lying;           /* also when asked again */
    unsigned place[MESH_NODES]; /* nodes to try, by index, then MESH_NODES */
    unsigned place_again; /* from the second question on only this node; MESH_NODES: no such */
    int place_code;
    unsigned places_asked;
    /* what was asked last */
    char place_build[NODE_ROW_KEY_SIZE];
    uint32_t place_mb, place_joined_mb;
    unsigned claims_asked;
    bool has_dead;        /* w3 is known to be dead */
    const char *moved_id; /* one that gossip still has on w3 */
    bool has_twins;       /* others have the name w2 too */
    /* claims */
    struct {
        char key[NODE_CLAIM_HASH_SIZE];
        char body[NODE_CLAIM_HASH_SIZE];
        unsigned node;
    } claims[16];
    unsigned claim_count;
    /* orders */
    enum node_mark marks_set[MESH_NODES];
    unsigned removed;
    /* A drop that is under way, when holds_drop. */
    bool holds_drop;
    node_order_cb drop_cb;
    void *drop_arg;
};

extern struct mesh *mesh;

int mesh_setup(void **state);
int mesh_teardown(void **state);

/* Request to node @index (0..2) with the key; the JSON of the reply or NULL. */
json_t *mesh_ask(unsigned index, const char *target, const char *body, struct reply *ret);
json_t *mesh_ask_with(unsigned index,
                      const char *headers,
                      const char *target,
                      const char *body,
                      struct reply *ret);
/* The same, checking the status and who served; %s in @format is @id. */
json_t *mesh_call(unsigned index,
                  int status,
                  const char *served_by,
                  const char *format,
                  const char *id,
                  const char *body);
void mesh_create_on(unsigned entry, unsigned owner, char ret_id[NODE_SANDBOX_ID_SIZE]);
unsigned mesh_count(unsigned index); /* sandboxes there */

#endif /* SHL_TESTS_NODE_API_MESH_H */
