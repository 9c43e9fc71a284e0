/* Who this node is: a CURVE key pair made once, the node id that follows from it, and a
 * counter of starts.
 *
 * Files in the folder given (DATA/mesh, mode 0700): `key` (0600) and `boot` (0600). Both
 * are written to a temporary name, synced and renamed. A file that others may read, that
 * belongs to someone else or is damaged is refused with a sentence that says what to do;
 * nothing is ever made anew over an existing one.
 *
 * Synchronous, for the start of the daemon. The secret key is wiped by
 * node_mesh_keys_release; it never goes into a log.
 */
#ifndef SHL_NODE_MESH_KEYS_H
#define SHL_NODE_MESH_KEYS_H

#include <stdint.h>

#include "base/err.h"
#include "base/node_id.h"

#define NODE_KEY_BYTES 32

struct node_mesh_keys {
    struct shl_node_id id;
    uint8_t public_key[NODE_KEY_BYTES];
    uint8_t secret_key[NODE_KEY_BYTES];
    /* Which start this is, from 1; durable before it is returned, so that one disk never
     * gives the same number twice. Put it into the high bits of an incarnation. */
    uint64_t boot;
};

/* Reads the keys in @dir, making folder and keys when there are none yet, and counts one
 * start. 0, SHL_ECORRUPT (damaged or half there), SHL_EFORBIDDEN (readable by others),
 * or -errno. */
SHL_MUST_CHECK int node_mesh_keys_open(const char *dir,
                                       struct node_mesh_keys *ret,
                                       struct shl_err *err);

/* A pair in memory only, boot 1. For tests and programs without a disk. */
void node_mesh_keys_make(struct node_mesh_keys *ret);

void node_mesh_keys_release(struct node_mesh_keys *keys);

/* First 16 bytes of BLAKE2b-256 of @public_key. */
void node_mesh_keys_id(const uint8_t public_key[NODE_KEY_BYTES], struct shl_node_id *ret);

#endif /* SHL_NODE_MESH_KEYS_H */
