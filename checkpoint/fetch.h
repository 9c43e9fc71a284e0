/* Fetching the chunks of checkpoints from other nodes: what to ask whom, and when.
 *
 * One object per node holds all jobs: one job per manifest that this node is to have. The chunks
 * a job misses are asked of all its holders at once, many per request, each with a deadline
 * that follows what the peer needed so far. Random chunks first, then those the fewest
 * holders have, so that several nodes that fetch one checkpoint can serve each other. The
 * last chunks are asked of a second holder when they are late. Jobs that want the same chunk
 * share one request.
 *
 * Pure: events in, actions out. No clock, socket, file, thread or global; time arrives in
 * the event, randomness comes from the seed. Equal events give equal actions. One owner.
 *
 *     rc = ckpt_fetch_step(f, &event, &actions);    for every event, and a TICK at wake_at_ms
 *
 * Who wires it (node/mesh transfer, the simulator):
 *   ADD: after the manifest was read and checked; every chunk id it names, and which of
 *     them ckpt_session_pin found in the store, so that they are never asked for and stay.
 *     The same after a broken transfer or a restart: what came before is present now.
 *     One store session per job. The manifest itself is one message of the wiring.
 *   REQUEST: ask the peer for these chunks; the answer may come in pieces. Hash every chunk
 *     on the thread pool and put it into the job's session BEFORE the ANSWER event says
 *     ARRIVED; one with a wrong hash is BAD, one the peer says it has not is LACKS. Send
 *     queue and bulk socket belong to the wiring; a broken link is FAILED.
 *   CANCEL: the answer is not waited for any more. Chunks that come after all: put them,
 *     then PRESENT.
 *   QUARANTINE: the peer sent wrong bytes for this chunk. Log it loudly, count it, have the
 *     peer scrub it. The core does not ask this holder for it again in the jobs it has, and
 *     after `bad_max` of them leaves the peer out altogether for a while.
 *   DONE: pin every chunk of the manifest in the job's session (one may have come with the
 *     session of another job; when the pin of one fails that is gone again, ADD once more),
 *     ckpt_session_commit, then tell gossip and log that this node holds it.
 *   HOLDER, HOLDER_LOST: from gossip; a node has it, with `has` a part of it, or has not.
 *
 * Priority: RESUME, then UNACKED, are strict: while one of their chunks could be asked of
 * somebody who answers, nothing of a lower class is started. The others share by weight.
 * Every class has a rate; 0 is none.
 *
 * Every job ends: with DONE, or with FAILED and a reason. Memory is bounded by the maxima
 * below: about 90 bytes per missing chunk, besides 320 KiB.
 */
#ifndef SHL_CHECKPOINT_FETCH_H
#define SHL_CHECKPOINT_FETCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/err.h"
#include "base/node_id.h"
#include "checkpoint/store.h"

#define CKPT_FETCH_JOBS_MAX           256u
#define CKPT_FETCH_CHUNKS_MAX         (1u << 20) /* missing, over all jobs: 64 GiB */
#define CKPT_FETCH_LIST_MAX           (1u << 22) /* ids in one ADD, present ones included */
#define CKPT_FETCH_HOLDERS_MAX        16u        /* of one job; further ones are not needed */
#define CKPT_FETCH_PEERS_MAX          256u
#define CKPT_FETCH_REQUESTS_MAX       64u /* in flight */
#define CKPT_FETCH_REQUEST_CHUNKS_MAX 32u
#define CKPT_FETCH_RATE_MAX           (1ull << 40) /* bytes per second */
#define CKPT_FETCH_NEVER_MS           UINT64_MAX

enum ckpt_fetch_class {   /* most urgent first */
    CKPT_FETCH_RESUME,    /* a sandbox waits for it */
    CKPT_FETCH_UNACKED,   /* a checkpoint that is not yet durable enough to be answered for */
    CKPT_FETCH_REPAIR,    /* copies were lost */
    CKPT_FETCH_REBALANCE, /* there are enough, in other places */
    CKPT_FETCH_SCRUB,     /* chunks that turned out damaged here */
    CKPT_FETCH_CLASS_COUNT
};

struct ckpt_fetch_config {
    uint64_t seed;

    /* Requests. The bytes of a chunk count as CKPT_CHUNK_BYTES until they are known. */
    uint32_t request_chunks; /* 32: largest number in one request */
    uint32_t request_bytes;  /* 2 MiB: same in bytes */
    uint32_t peer_requests;  /* 8: in flight at one peer */
    uint32_t peer_bytes;     /* 16 MiB */
    uint32_t total_requests; /* 64 */
    uint32_t total_bytes;    /* 64 MiB: what answers may need in memory at once */
    uint32_t urgent_percent; /* 25: of peer and total limits, kept free for strict classes */

    /* Time. */
    uint32_t deadline_first_ms; /* 5000: of a request to a peer that was not measured yet */
    uint32_t deadline_min_ms;   /* 250 */
    uint32_t deadline_max_ms;   /* 30000 */
    uint32_t demote_ms;         /* 10000: a peer that failed is only asked if nobody else can */
    uint32_t retry_ms;          /* 500: ... first after this, doubled up to demote_ms */
    uint32_t distrust_ms;       /* 600000: a peer that sent bad_max wrong chunks is left out */
    uint32_t holder_wait_ms;    /* 30000: how long a job waits for somebody to have a chunk */

    uint32_t strikes_max;  /* 8: failures in a row, one per round of retries, end a job */
    uint32_t bad_max;      /* 3 */
    uint32_t random_first; /* 64 chunks of a job, before rarity counts */
    uint32_t endgame;      /* 16: last chunks of a job, asked twice when late */

    uint32_t weights[CKPT_FETCH_CLASS_COUNT]; /* REPAIR 8, REBALANCE 3, SCRUB 1 */
    uint64_t rates[CKPT_FETCH_CLASS_COUNT];   /* bytes per second, 0: no limit */
    uint32_t burst_ms;                        /* 1000: of the rate, saved up at most */
};

void ckpt_fetch_config_defaults(struct ckpt_fetch_config *config);

struct ckpt_fetch; /* opaque, heap */

/* Copies the configuration. SHL_EINVALIDARG (a zero or over its maximum), -ENOMEM. */
SHL_MUST_CHECK int ckpt_fetch_new(const struct ckpt_fetch_config *config, struct ckpt_fetch **ret);
void ckpt_fetch_free(struct ckpt_fetch *f); /* NULL is fine */

/* ---- events ---- */

enum ckpt_fetch_event_type {
    CKPT_FETCH_EV_TICK,
    CKPT_FETCH_EV_ADD,         /* again for a job that exists: the more urgent class and the
                                * earlier deadline count, holders are added */
    CKPT_FETCH_EV_DROP,        /* manifest: not wanted any more; FAILED follows, DROPPED */
    CKPT_FETCH_EV_HOLDER,      /* an unknown manifest is ignored */
    CKPT_FETCH_EV_HOLDER_LOST, /* of one manifest, or of all */
    CKPT_FETCH_EV_ANSWER,      /* to a request, or a part; unknown requests are ignored */
    CKPT_FETCH_EV_FAILED,      /* request: refused, or its link broke */
    CKPT_FETCH_EV_PRESENT,     /* chunks came into the store in another way */
    CKPT_FETCH_EV_RATES,       /* new rates */
};

enum ckpt_fetch_outcome {
    CKPT_FETCH_ARRIVED = 1, /* verified and in the store */
    CKPT_FETCH_BAD,         /* wrong bytes */
    CKPT_FETCH_LACKS,       /* the peer does not have it */
};

struct ckpt_fetch_result {
    uint32_t index; /* of the chunk in the request */
    enum ckpt_fetch_outcome outcome;
    uint32_t bytes; /* that crossed the wire for it */
};

/* Everything pointed at is borrowed for the call. */
struct ckpt_fetch_event {
    enum ckpt_fetch_event_type type;
    uint64_t now_ms; /* monotonic, any zero */
    union {
        struct {
            struct ckpt_id manifest;
            enum ckpt_fetch_class class;
            uint64_t deadline_at_ms;   /* CKPT_FETCH_NEVER_MS: none */
            const struct ckpt_id *ids; /* all chunks; twice or zero does no harm */
            uint32_t count;
            const uint8_t *present; /* bit per id, lowest first: in the store. NULL: none */
            const struct shl_node_id *holders;
            uint32_t holder_count;
        } add;
        struct {
            struct ckpt_id manifest;
        } drop;
        struct {
            struct ckpt_id manifest;
            struct shl_node_id node;
            const uint8_t *has; /* bit per id of ADD. NULL: all */
        } holder;
        struct {
            struct ckpt_id manifest; /* zero: of all jobs, the node is gone */
            struct shl_node_id node;
        } lost;
        struct {
            uint64_t request;
            const struct ckpt_fetch_result *results;
            uint32_t count;
            bool last; /* what was not mentioned by now, the peer does not have */
        } answer;
        struct {
            uint64_t request;
        } failed;
        struct {
            const struct ckpt_id *ids;
            uint32_t count;
        } present;
        uint64_t rates[CKPT_FETCH_CLASS_COUNT];
    } u;
};

/* ---- actions ---- */

enum ckpt_fetch_action_type {
    CKPT_FETCH_ACT_REQUEST = 1,
    CKPT_FETCH_ACT_CANCEL, /* request: its slot is free, nothing of it is waited for */
    CKPT_FETCH_ACT_QUARANTINE,
    CKPT_FETCH_ACT_DONE,
    CKPT_FETCH_ACT_FAILED,
};

enum ckpt_fetch_reason {
    CKPT_FETCH_DROPPED = 1, /* as asked */
    CKPT_FETCH_TIMED_OUT,   /* deadline of the job */
    CKPT_FETCH_NO_HOLDER,   /* nobody is left who has the checkpoint */
    CKPT_FETCH_NO_CHUNK,    /* no holder has the chunk `chunk` in good state */
    CKPT_FETCH_NO_ANSWER,   /* the holders fail again and again */
    CKPT_FETCH_REASON_COUNT
};
const char *ckpt_fetch_reason_text(enum ckpt_fetch_reason reason);

struct ckpt_fetch_action {
    enum ckpt_fetch_action_type type;
    struct ckpt_id manifest; /* of the job */
    union {
        struct {
            uint64_t request; /* never used twice */
            struct shl_node_id peer;
            enum ckpt_fetch_class class;
            const struct ckpt_id *ids; /* valid until the next step */
            uint32_t count;
            uint64_t deadline_at_ms; /* the core looks after it; for the message */
        } request;
        uint64_t cancel;
        struct {
            struct shl_node_id peer;
            struct ckpt_id chunk;
        } quarantine;
        struct {
            uint64_t chunks; /* that were missing at first */
            uint64_t bytes;  /* that crossed the wire for this job's requests */
        } done;
        struct {
            enum ckpt_fetch_reason reason;
            struct ckpt_id chunk; /* with NO_CHUNK */
            uint64_t missing;     /* chunks */
        } failed;
    } u;
};

/* Enough for any one step: each request can end and begin once, each job end once. */
#define CKPT_FETCH_ACTIONS_MAX \
    (2 * CKPT_FETCH_REQUESTS_MAX + CKPT_FETCH_JOBS_MAX + CKPT_FETCH_REQUEST_CHUNKS_MAX)

/* Owned by the caller, about 40 KiB, no heap; cleared by every step. */
struct ckpt_fetch_actions {
    struct ckpt_fetch_action items[CKPT_FETCH_ACTIONS_MAX];
    uint32_t count;
    uint64_t wake_at_ms; /* CKPT_FETCH_NEVER_MS: nothing to wait for */
};

/* Apply one event. 0; of ADD: SHL_ELIMIT (jobs, chunks: try again when a job ended),
 * SHL_EINVALIDARG (class, manifest zero), -ENOMEM; of RATES: SHL_EINVALIDARG. After an error
 * nothing of the event happened, but the actions are as after a TICK. */
SHL_MUST_CHECK int ckpt_fetch_step(struct ckpt_fetch *f,
                                   const struct ckpt_fetch_event *event,
                                   struct ckpt_fetch_actions *actions);

/* ---- looking at it ---- */

struct ckpt_fetch_stats {
    uint32_t jobs, requests;
    uint64_t missing;                /* chunks, now */
    uint64_t in_flight_bytes;        /* at most */
    uint64_t arrived, arrived_bytes; /* chunks that were needed */
    uint64_t wasted_bytes;           /* crossed the wire twice, or wrong */
    uint64_t bad, lacks, timeouts, failures, duplicates;
    uint64_t done, failed;
};

void ckpt_fetch_stats(const struct ckpt_fetch *f, struct ckpt_fetch_stats *ret);

/* Of one job: chunks still missing; false: there is no such job. */
bool ckpt_fetch_progress(const struct ckpt_fetch *f,
                         const struct ckpt_id *manifest,
                         uint64_t *ret_missing,
                         uint64_t *ret_total);

/* Inner consistency: NULL when fine, else what is wrong (static). Walks everything. */
const char *ckpt_fetch_check(const struct ckpt_fetch *f);

#endif /* SHL_CHECKPOINT_FETCH_H */
