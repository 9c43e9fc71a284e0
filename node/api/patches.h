/* Patches of checkpoints (node/sandbox/patch.h), kept as rows that all nodes know:
 *
 *   patch/CHECKPOINT               how many there were: numbers are never used again
 *   patch/CHECKPOINT/NUMBER        one of them
 */
#ifndef SHL_NODE_API_PATCHES_H
#define SHL_NODE_API_PATCHES_H

struct node_server;

#define NODE_PATCHES_MAX           64 /* of one checkpoint at a time */
#define NODE_PATCH_DESCRIPTION_MAX 1024

/* The manager asks this server for patches from now on, and no more. */
void node_patches_open(struct node_server *server);
void node_patches_close(struct node_server *server);

/* @checkpoint was deleted. */
void node_patches_forget(struct node_server *server, const char *checkpoint);

#endif /* SHL_NODE_API_PATCHES_H */
