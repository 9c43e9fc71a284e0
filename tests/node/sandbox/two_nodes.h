/* Two nodes in one process, for tests of what one makes and the other has or needs: the chunks
 * get there as node/replica would bring them, and the gate asks as node/cluster would. */
#ifndef SHL_TESTS_NODE_SANDBOX_TWO_NODES_H
#define SHL_TESTS_NODE_SANDBOX_TWO_NODES_H

#include "node/sandbox/checkpoints_private.h"
#include "node/sandbox/sandbox.h"
#include "tests/node/sandbox/cycle.h"

#define ARTEFACTS_MAX 64

struct node {
    struct fixture *fix;
    struct node_artefact artefacts[ARTEFACTS_MAX]; /* told and not gone */
    unsigned count, gone;
    int may_drop;
    bool unwatched;
};

extern struct node nodes[2];
#define A (&nodes[0])
#define B (&nodes[1])

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_both, teardown_both)

int setup_both(void **state);
int teardown_both(void **state);
/* Opens its manager, which is watched unless the node is @unwatched. */
void start(struct node *node);
void restart(struct node *node);
/* Until no job runs. */
void idle(struct node *node);

/* One that was told and is not gone, with any @id when that is NULL. */
const struct node_artefact *find_artefact(const struct node *node,
                                          enum node_artefact_kind kind,
                                          const char *id);
struct node_artefact wait_artefact(struct node *node, enum node_artefact_kind kind);
/* A hibernated sandbox of @node with @value, told. */
struct node_sandbox *hibernated(struct node *node, unsigned value);

struct bundle {
    struct node_import import;
    struct node_artefact artefact;
    char ids[NODE_BASES_MAX][NODE_BASE_ID_SIZE];
    char manifests[NODE_BASES_MAX][NODE_MANIFEST_SIZE];
};

/* Everything @artefact needs is brought to @to, and named. */
void bring(struct node *from,
           struct node *to,
           const struct node_artefact *artefact,
           struct bundle *bundle);
/* Waits for the answer; its code. */
int import_sandbox(struct node *to, const struct bundle *bundle, struct answer *answer);
int import_checkpoint(struct node *to, const struct bundle *bundle, struct answer *answer);
void let_go(struct node *node, struct node_sandbox *sandbox);

/* The disk of template "plain". */
void set_template(struct node *node, const char *content);
/* Entries of folder @name of its data. */
int count_in(struct node *node, const char *name);

struct gate {
    unsigned asked;
    node_sandbox_cb cb; /* not answered yet */
    void *arg;
    bool at_once;
};

/* A node_gate; @arg is a struct gate. */
void on_gate(void *arg, struct node_sandbox *sandbox, node_sandbox_cb cb, void *cb_arg);
/* Answered later, when the gate was. */
void begin_wake(struct node *node, struct node_sandbox *sandbox, struct answer *answer);

#endif /* SHL_TESTS_NODE_SANDBOX_TWO_NODES_H */
