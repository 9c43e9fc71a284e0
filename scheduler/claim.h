/* Claims: may a node start a sandbox that belongs to another one, or that nobody runs?
 *
 * Any node may ask, to tell a person or to save itself a try; what counts is the log. There
 * a claim needs one of these:
 *   - the owner released it, or is the claimant itself;
 *   - the owner is no member of the cluster any more: somebody removed it, and with that
 *     vouched for what it ran (shoal node rm);
 *   - it may be started elsewhere, and the leader saw the owner's lease end for certain.
 * That last word is the leader's alone: sched_claim_stamp sets it at the moment of the
 * proposal, whatever the request says.
 *
 * Who wires it (node/cluster, the simulator):
 *   sched_claim_judge: before a wake or `recover` on a node that has no record of the sandbox,
 *     and for the status of one whose node is lost. Any node with its replica of the state; a
 *     leader that has applied all before its term passes its leases, too, others NULL.
 *   sched_claim_stamp: by the leader, for every owner command that it proposes, whoever sent it,
 *     also its own. A refusal is the answer; nothing is proposed.
 *   After a claim was committed the claimant picks what to continue from: the newest artefact
 *     of the sandbox in the catalogue at that index, by (epoch, age). Not before: until its
 *     lease has ended the old owner may still add some. And not by age alone: what an old
 *     owner puts into the catalogue may be late.
 *
 * Pure, no state.
 */
#ifndef SHL_SCHEDULER_CLAIM_H
#define SHL_SCHEDULER_CLAIM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/node_id.h"
#include "scheduler/command.h"
#include "scheduler/leases.h"
#include "scheduler/state.h"

enum sched_claim_verdict {
    SCHED_CLAIM_GO,        /* released, its own, or of a node that was removed */
    SCHED_CLAIM_GO_LAPSED, /* the owner's lease has ended */
    SCHED_CLAIM_NOT_YET,   /* code SHL_EUNAVAILABLE; again at_ms */
    SCHED_CLAIM_NEVER,     /* code and sentence: as things are, waiting does not help */
};

struct sched_claim {
    enum sched_claim_verdict verdict;
    uint64_t at_ms; /* NOT_YET: when the lease will have ended; 0 when that is not known here */
    struct shl_err err;
    struct sched_cmd_owner command; /* GO, GO_LAPSED: the claim; its `claimable` is the caller's */
};

/* @leases NULL: this node does not lead. SHL_ENOTFOUND of a sandbox without a row means that
 * only the node that has it can run it. */
void sched_claim_judge(const struct sched_state *state,
                       const struct sched_leases *leases,
                       const char *sandbox,
                       const struct shl_node_id *node,
                       uint64_t now_ms,
                       struct sched_claim *ret);

/* Check who sends an owner command and put the leader's own word on the lease into it. @from is
 * authenticated. 0, SHL_EFORBIDDEN when @from speaks for another node, SHL_EUNAVAILABLE while
 * @leases do not lead. Other commands pass. */
SHL_MUST_CHECK int sched_claim_stamp(const struct sched_leases *leases,
                                     const struct shl_node_id *from,
                                     uint64_t now_ms,
                                     struct sched_command *command,
                                     struct shl_err *err);

#endif /* SHL_SCHEDULER_CLAIM_H */
