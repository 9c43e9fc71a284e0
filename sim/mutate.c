#include "sim/mutate.h"

#include <errno.h>
#include <string.h>

#include "scheduler/mutate.h"
#include "scheduler/raft.h"

static const struct sim_mutation mutations[] = {
    {.name = "", .text = ""},
    {.name = "raft-commit-old-term",
     .text = "entries of older terms are committed by counting copies",
     .raft = SCHED_RAFT_MUT_COMMIT_OLD_TERM,
     .seeds = 2000},
    {.name = "raft-match-last-index",
     .text = "a follower reports its whole log as matching",
     .raft = SCHED_RAFT_MUT_MATCH_LAST_INDEX,
     .seeds = 2000},
    {.name = "raft-commit-unclamped",
     .text = "a follower commits what it has not verified",
     .raft = SCHED_RAFT_MUT_COMMIT_UNCLAMPED,
     .seeds = 2000},
    {.name = "raft-vote-before-persist",
     .text = "votes are answered before they are stored",
     .raft = SCHED_RAFT_MUT_VOTE_BEFORE_PERSIST,
     .seeds = 2000},
    {.name = "raft-vote-any-log",
     .text = "votes go to candidates that lack entries",
     .raft = SCHED_RAFT_MUT_VOTE_ANY_LOG,
     .seeds = 2000},
    {.name = "raft-read-without-quorum",
     .text = "a leader reads without asking whether it still leads",
     .raft = SCHED_RAFT_MUT_READ_WITHOUT_QUORUM,
     .seeds = 2000},
    {.name = "raft-membership-late",
     .text = "a membership counts only once committed",
     .raft = SCHED_RAFT_MUT_MEMBERSHIP_LATE,
     .seeds = 2000},
    {.name = "raft-install-keeps-log",
     .text = "a snapshot keeps the conflicting log behind it",
     .raft = SCHED_RAFT_MUT_INSTALL_KEEPS_LOG,
     .seeds = 2000},
    {.name = "raft-truncate-keeps-membership",
     .text = "a truncated log keeps the removed membership",
     .raft = SCHED_RAFT_MUT_TRUNCATE_KEEPS_MEMBERSHIP,
     .seeds = 2000},
    {.name = "raft-ack-before-persist",
     .text = "appends are acknowledged before they are stored",
     .raft = SCHED_RAFT_MUT_ACK_BEFORE_PERSIST,
     .seeds = 2000},
    {.name = "raft-old-term-answers",
     .text = "append answers of older terms are believed",
     .raft = SCHED_RAFT_MUT_OLD_TERM_ANSWERS,
     .seeds = 2000},
    {.name = "raft-vote-twice",
     .text = "a vote is forgotten when its term is heard of again",
     .raft = SCHED_RAFT_MUT_VOTE_TWICE,
     .seeds = 2000},
    {.name = "raft-keep-conflict",
     .text = "a conflicting tail of the log stays",
     .raft = SCHED_RAFT_MUT_KEEP_CONFLICT,
     .seeds = 2000},
    {.name = "sched-name-overwrite",
     .text = "a claim of a name replaces what is there",
     .sched = SCHED_MUT_NAME_OVERWRITE,
     .seeds = 2000},
    {.name = "sched-token-reused",
     .text = "a used token admits another node",
     .sched = SCHED_MUT_TOKEN_REUSED,
     .seeds = 2000},
    {.name = "sched-removed-readmit",
     .text = "a removed key may join again",
     .sched = SCHED_MUT_REMOVED_READMIT,
     .seeds = 2000},
    {.name = "sched-epoch-unchecked",
     .text = "a claim of a sandbox does not look at the epoch",
     .sched = SCHED_MUT_EPOCH_UNCHECKED,
     .seeds = 2000},
    {.name = "sched-tombstone-lost",
     .text = "snapshots leave tombstones out",
     .sched = SCHED_MUT_TOMBSTONE_LOST,
     .seeds = 2000},
    {.name = "sched-drain-ignored",
     .text = "draining and cordoned nodes get placements",
     .sched = SCHED_MUT_DRAIN_IGNORED,
     .seeds = 2000},
    {.name = "sched-reserve-uncounted",
     .text = "reservations take no capacity",
     .sched = SCHED_MUT_RESERVE_UNCOUNTED,
     .seeds = 2000},
    {.name = "sched-idempotency-ignored",
     .text = "every create is a fresh one",
     .sched = SCHED_MUT_IDEMPOTENCY_IGNORED,
     .seeds = 2000},
    {.name = "sched-lease-unwaited",
     .text = "a new leader does not wait for old leases",
     .sched = SCHED_MUT_LEASE_UNWAITED,
     .seeds = 2000},
    {.name = "sched-lease-from-ack",
     .text = "a node counts its lease from the answer",
     .sched = SCHED_MUT_LEASE_FROM_ACK,
     .seeds = 2000},
    {.name = "sched-voters-unsafe",
     .text = "live voters are taken away unchecked",
     .sched = SCHED_MUT_VOTERS_UNSAFE,
     .seeds = 2000},
    {.name = "glue-lease-late",
     .text = "a claim is proposed although a renewal is under way",
     .sim = SIM_MUT_LEASE_LATE,
     .seeds = 2000},
    {.name = "glue-grant-early",
     .text = "a renewed lease counts before the log is applied up to it",
     .sim = SIM_MUT_GRANT_EARLY,
     .seeds = 2000},
    {.name = "glue-takeover-stale",
     .text = "a state that lags decides that the node of a key was removed",
     .sim = SIM_MUT_TAKEOVER_STALE,
     .seeds = 2000},
    {.name = "glue-incarnation-lost",
     .text = "the incarnation is not on disk: a restart begins at 0",
     .sim = SIM_MUT_INCARNATION_LOST,
     .seeds = 2000},
    {.name = "glue-read-local",
     .text = "strong reads are answered from the state at hand",
     .sim = SIM_MUT_READ_LOCAL,
     .seeds = 2000},
};

size_t sim_mutation_count(void)
{
    return sizeof(mutations) / sizeof(mutations[0]) - 1;
}

const struct sim_mutation *sim_mutation_get(size_t number)
{
    return &mutations[number];
}

int sim_mutation_parse(const char *name)
{
    for (size_t i = 1; i <= sim_mutation_count(); i++) {
        if (strcmp(mutations[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -EINVAL;
}
