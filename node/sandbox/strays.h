/* What a former daemon left: VMM processes, folders and cgroups that belong to no living
 * sandbox. Blocking; at start only. */
#ifndef SHL_NODE_SANDBOX_STRAYS_H
#define SHL_NODE_SANDBOX_STRAYS_H

#include <stdbool.h>

#include "base/err.h"

struct node_manager;

/* Remove everything of every sandbox @keep does not want: processes of our VMM program
 * with a folder in our run folder, then cgroups and folders. Failures are logged. */
void strays_remove(struct node_manager *manager,
                   bool (*keep)(void *arg, const char *id),
                   void *arg);

#endif /* SHL_NODE_SANDBOX_STRAYS_H */
