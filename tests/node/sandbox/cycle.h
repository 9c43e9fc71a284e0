/* There and back, with memory and a disk to look at: for tests of hibernating, of snapshots
 * and of what interrupts them. Each asserts that it worked. */
#ifndef SHL_TESTS_NODE_SANDBOX_CYCLE_H
#define SHL_TESTS_NODE_SANDBOX_CYCLE_H

#include "tests/node/sandbox/fixture.h"

void hibernate(struct fixture *fix, struct node_sandbox *sandbox);
void wake(struct fixture *fix, struct node_sandbox *sandbox);
/* Thawing follows on its own. */
void wait_thawed(struct fixture *fix, struct node_sandbox *sandbox);

/* @value into the memory and into cluster @value % 8 of the disk. */
void set_data(struct fixture *fix, struct node_sandbox *sandbox, unsigned value);
void check_memory(struct fixture *fix, struct node_sandbox *sandbox, unsigned value);
void check_disk(struct fixture *fix, struct node_sandbox *sandbox, unsigned value);
void check_data(struct fixture *fix, struct node_sandbox *sandbox, unsigned value);

#endif /* SHL_TESTS_NODE_SANDBOX_CYCLE_H */
