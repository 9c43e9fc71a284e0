/* Placement: on which node a sandbox starts.
 *
 * Filter (alive, no witness, not cordoned or draining, not flapping, not excluded, right
 * CPU, enough room after reservations), then order: nodes that refused a moment ago last;
 * holders of the checkpoint or template first; then more free memory, fewer sandboxes per
 * room and lower load, each in coarse steps; within equals a random order, so that
 * schedulers that do not know of each other do not all choose the same node.
 *
 * Pure: views in, order out. The same function serves the leader and an entry node
 * without a leader. Every node that does not fit has a reason that the API can show.
 */
#ifndef SHL_SCHEDULER_PLACE_H
#define SHL_SCHEDULER_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/node_id.h"
#include "scheduler/limits.h"
#include "scheduler/reserve.h"

#define SCHED_PLACE_BACKOFF_MS 1000u /* a node that refused comes last for this long */
#define SCHED_CPU_BYTES        16u   /* fingerprint: what a memory image needs of a CPU */
#define SCHED_RATIO_ONE        100u  /* over-commit ratios are in per cent */
#define SCHED_RATIO_MAX        10000u

/* A node as known now. Strings are borrowed for the call. */
struct sched_view {
    struct shl_node_id id;
    const char *name; /* for the sentences; NULL: the id is shown */
    bool alive;       /* member that is neither suspect nor dead nor leaving */
    bool flapping;    /* was lost too often lately */
    bool cordoned;
    bool draining;
    bool witness;
    uint64_t version; /* of the node's gossiped state, ascending over restarts */
    struct sched_amount capacity;
    struct sched_amount committed; /* its own sandboxes, as it says itself */
    uint32_t load_permille;        /* of all its CPUs */
    uint8_t cpu[SCHED_CPU_BYTES];
    const char *const *templates; /* ready there, ascending */
    uint32_t template_count;
    const char *const *checkpoints; /* held completely, ascending */
    uint32_t checkpoint_count;
};

struct sched_ratios { /* how far commitments may go over what there is, per cent */
    uint32_t cpus;
    uint32_t memory;
    uint32_t disk;
};

struct sched_place_request {
    uint32_t cpus;
    uint64_t memory_mb;
    uint64_t disk_mb;
    const char *template_name; /* NULL: does not matter */
    const char *checkpoint;    /* NULL: none */
    bool holders_only;         /* only nodes that hold the checkpoint */
    bool has_cpu;              /* a memory image is restored: the CPU must be like this */
    uint8_t cpu[SCHED_CPU_BYTES];
    const struct shl_node_id *exclude; /* refused already, or asked not to */
    uint32_t exclude_count;
    struct sched_ratios ratios;
};

enum sched_refusal {
    SCHED_FITS = 0,
    SCHED_REFUSED_DEAD,
    SCHED_REFUSED_WITNESS,
    SCHED_REFUSED_DRAINING,
    SCHED_REFUSED_CORDONED,
    SCHED_REFUSED_FLAPPING,
    SCHED_REFUSED_EXCLUDED,
    SCHED_REFUSED_CPU_MODEL,
    SCHED_REFUSED_NOT_HOLDER,
    SCHED_REFUSED_CPUS,
    SCHED_REFUSED_MEMORY,
    SCHED_REFUSED_DISK,
    SCHED_REFUSED_SANDBOXES,
    SCHED_REFUSAL_COUNT
};

struct sched_candidate {
    struct shl_node_id id;
    uint32_t view;  /* index into the views */
    uint64_t score; /* higher is better; explained by sched_place_score_text */
};

struct sched_refused {
    struct shl_node_id id;
    uint32_t view;
    enum sched_refusal reason;
    uint64_t needed; /* of what is short */
    uint64_t free;
};

struct sched_placement {
    struct sched_candidate candidates[SCHED_NODES_MAX]; /* best first */
    uint32_t candidate_count;
    struct sched_refused refused[SCHED_NODES_MAX]; /* in order of the views */
    uint32_t refused_count;
};

struct sched_place_backoff {
    struct shl_node_id node;
    uint64_t until_ms;
};

/* What a scheduler remembers between decisions. */
struct sched_place {
    uint64_t random; /* state of the generator */
    uint32_t mutations;
    struct sched_reserves reserves;
    struct sched_place_backoff backoff[SCHED_NODES_MAX];
    uint32_t backoff_count;
};

SHL_MUST_CHECK int sched_place_init(struct sched_place *place, uint64_t seed, uint32_t mutations);
void sched_place_release(struct sched_place *place);

/* Order the nodes for @request; nothing is reserved (reservations that the views show by
 * now end). 0, SHL_ENOCAPACITY when none fits
 * (@ret holds the reasons), SHL_EINVALIDARG for a request or ratio of zero or beyond its
 * range, SHL_ELIMIT for more than SCHED_NODES_MAX views. */
SHL_MUST_CHECK int sched_place_decide(struct sched_place *place,
                                      const struct sched_view *views,
                                      uint32_t view_count,
                                      const struct sched_place_request *request,
                                      uint64_t now_ms,
                                      struct sched_placement *ret);

/* Reserve on @view, a candidate of a decision just made for the same request; looks at
 * marks and room again. 0 and the reservation's id, SHL_ENOCAPACITY, SHL_ELIMIT. */
SHL_MUST_CHECK int sched_place_take(struct sched_place *place,
                                    const struct sched_view *view,
                                    const struct sched_place_request *request,
                                    uint64_t deadline_ms,
                                    uint64_t *ret_id);

/* The node refused although it should have fitted: its turn comes last for a while. */
void sched_place_node_refused(struct sched_place *place,
                              const struct shl_node_id *node,
                              uint64_t now_ms);

/* "draining" and so on, stable words for the API. Static. */
const char *sched_refusal_word(enum sched_refusal reason);
/* One sentence about a refused node: "node b is being drained", "node c has 512 MB of
 * memory left, 2048 MB are needed". */
void sched_refusal_text(char *dst,
                        size_t size,
                        const struct sched_refused *refused,
                        const struct sched_view *views);
/* One sentence for all: how many nodes were looked at and the reasons by count. */
void sched_placement_text(char *dst, size_t size, const struct sched_placement *placement);

#endif /* SHL_SCHEDULER_PLACE_H */
