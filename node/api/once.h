/* Idempotency keys: a create or fork that comes again makes nothing new.
 *
 * The node that makes the sandbox keeps a record for NODE_CLAIM_KEEP_MS (store kind "once",
 * id = hash of organisation and key): hash of the body, and what was made. The same key with
 * the same body gets the same sandboxes, as they are then; while the first request is under
 * way it waits; with another body it is 409. A request that made nothing leaves no record, so
 * the key may be tried again; but one that this node had no room for, and that goes to another
 * node, is not let in here for NODE_ONCE_REFUSED_MS: who comes with that key has read that it is
 * this node's before that changed, and would make a second one. Between nodes only the node that
 * holds the record has to be agreed on (router op claim).
 *
 * Loop thread.
 */
#ifndef SHL_NODE_API_ONCE_H
#define SHL_NODE_API_ONCE_H

#include <stdbool.h>
#include <stddef.h>

#include "node/api/router.h"

struct node_call;
struct node_once;
struct node_server;

#define NODE_ONCE_HEADER      "Idempotency-Key"
#define NODE_ONCE_REPLAYED    "Idempotency-Replayed" /* header of an answer that made nothing */
#define NODE_ONCE_KEY_MAX     255
#define NODE_ONCE_MAX         65536 /* records of one node */
#define NODE_ONCE_WAIT_MAX    256   /* requests that wait for the first one of their key */
#define NODE_ONCE_SWEEP_MS    (3600ll * 1000)
#define NODE_ONCE_REFUSED_MS  30000 /* longer than a request is on its way */
#define NODE_ONCE_REFUSED_MAX 256   /* keys that are remembered so; the oldest goes */

struct node_once_refusal {
    char key[NODE_CLAIM_HASH_SIZE];
    uint64_t until_ms; /* of the loop's clock */
};

/* The two hashes of @call. 1, 0 when it has no key, or SHL_EINVALIDARG with a sentence. */
SHL_MUST_CHECK int node_once_hash(const struct node_call *call,
                                  char ret_key[NODE_CLAIM_HASH_SIZE],
                                  char ret_body[NODE_CLAIM_HASH_SIZE],
                                  struct shl_err *err);

/* Before the handler runs: true, go on (call->once is set when there is a key). False: it was
 * answered, or waits and will begin by itself. */
bool node_once_begin(struct node_call *call);

/* @call made these, before it replies; "" for one of several that was not made. */
void node_once_made(struct node_call *call,
                    const char (*ids)[NODE_SANDBOX_ID_SIZE],
                    size_t count,
                    bool is_single);
/* It made nothing. Also when the call ends without a word. @moves_on: it will be tried on
 * another node. */
void node_once_failed(struct node_call *call, bool moves_on);

#endif /* SHL_NODE_API_ONCE_H */
