/* Creates with an idempotency key: one key, one sandbox, however often and through
 * whichever node it is asked.
 *
 * The entry node draws the sandbox id, chooses the node and claims the key in the log with
 * both of them and a hash of the request, before it asks the node. Who finds the key taken
 * does what sched_idempotency_decide says. The id stays the same over all attempts, so a
 * node that has made it already answers with what it has.
 *
 *   claim(pending) --> create on the node --> set(done)
 *        |                   \--refused--> set(pending, next node) or release
 *        \--taken--> done: answer it; pending: ask that node; other request: conflict
 *
 * Pure; the value is what SCHED_NAME_IDEMPOTENCY stores.
 */
#ifndef SHL_SCHEDULER_IDEMPOTENCY_H
#define SHL_SCHEDULER_IDEMPOTENCY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/node_id.h"
#include "scheduler/limits.h"

#define SCHED_IDEMPOTENCY_TTL_MS (24ull * 3600 * 1000)

struct sched_idempotency {
    bool done;
    struct shl_node_id node; /* where it is, or is being made */
    char sandbox[SCHED_ID_SIZE];
    uint8_t request[SCHED_HASH_BYTES]; /* hash of the request's body */
};

SHL_MUST_CHECK int sched_idempotency_encode(const struct sched_idempotency *value,
                                            struct shl_buf *buf);
/* Hostile input. 0 or SHL_EPROTO. */
SHL_MUST_CHECK int sched_idempotency_decode(struct sched_idempotency *ret, struct shl_bytes bytes);

enum sched_idempotency_verdict {
    SCHED_CREATE_FRESH,    /* the key is this request's: create */
    SCHED_CREATE_PENDING,  /* being made on ret->node under ret->sandbox: ask there */
    SCHED_CREATE_DONE,     /* was made: answer with ret->sandbox on ret->node */
    SCHED_CREATE_CONFLICT, /* the key was used for another request: refuse */
    SCHED_CREATE_TAKEOVER, /* its node was removed from the cluster before it was done: set
                              the key (expecting the old value) to a new id and node */
};

/* @claimed: the claim succeeded and the key had not existed. Otherwise @found is the value
 * in the way. @node_removed: that value's node is no member any more. */
enum sched_idempotency_verdict sched_idempotency_decide(bool claimed,
                                                        const struct sched_idempotency *found,
                                                        const uint8_t request[SCHED_HASH_BYTES],
                                                        bool node_removed,
                                                        uint32_t mutations);

/* Sentence for PENDING (its node cannot be asked) and CONFLICT; "" for the others. */
void sched_idempotency_text(char *dst,
                            size_t size,
                            enum sched_idempotency_verdict verdict,
                            const struct sched_idempotency *found);

#endif /* SHL_SCHEDULER_IDEMPOTENCY_H */
