/* Copies of points on several nodes, on a simulated node: the real cores of checkpoint/ (plan,
 * placement, trimming, fetching) with what stands for node/cluster/replica*.c and node/replica.
 *
 *   node_copy.c     the catalogue: what a point is there, listing the own ones
 *   node_replica.c  the survey: what the log says wrongly, what is too old, the planner's steps
 *   node_fetch.c    jobs of the fetch core: manifest first, then chunks, verified, then published
 */
#ifndef SHL_SIM_REPLICA_H
#define SHL_SIM_REPLICA_H

#include <stdbool.h>
#include <stdint.h>

#include "checkpoint/fetch.h"
#include "checkpoint/replica_plan.h"
#include "sim/node.h"
#include "sim/route.h"
#include "sim/store.h"

#define SIM_JOBS_MAX     64
#define SIM_TRIMS_MAX    CKPT_PLAN_TRIMS_MAX
#define SIM_REQUESTS_MAX CKPT_FETCH_REQUESTS_MAX
#define SIM_ENTRIES_MAX  2048 /* of one view */

enum sim_job_step {
    SIM_JOB_FREE,
    SIM_JOB_MANIFEST, /* a holder is asked for it */
    SIM_JOB_CHUNKS,   /* the fetch core has it */
    SIM_JOB_COMMIT,   /* the disk has all but the certainty */
};

struct sim_job {
    enum sim_job_step step;
    struct sim_point_id point;
    struct sim_manifest manifest; /* once it is known */
    enum ckpt_fetch_class class;
    bool planned; /* the planner wants to hear of it */
    bool wanted;  /* a sandbox waits for it */
    bool done, failed;
    bool nobody; /* failed, as no holder has it whole */
    uint32_t turn;
    uint32_t tries;
    uint64_t ask_ms;
    uint64_t end_ms;
    uint64_t holders; /* set of slots that the core was told of */
};

struct sim_request { /* under way; the answer says which chunks by their numbers */
    uint64_t id;     /* 0: free */
    uint32_t peer;
    uint32_t count, got;
    uint64_t keys[CKPT_FETCH_REQUEST_CHUNKS_MAX];
};

struct sim_trim {
    bool used;
    struct sim_point_id point;
    uint64_t until_ms;
    bool ordered;
};

struct sim_replica { /* of a process */
    struct ckpt_plan *plan;
    struct ckpt_fetch *fetch; /* NULL until it is needed */
    struct sim_job jobs[SIM_JOBS_MAX];
    uint32_t job_count; /* used ones are below */
    struct sim_request requests[SIM_REQUESTS_MAX];
    struct sim_trim trims[SIM_TRIMS_MAX];
    bool caught_up;   /* all of the log that was there at the start is applied */
    uint64_t renewed; /* number of the latest renewal of the lease that was applied here */
    uint64_t opened_ms;
    uint64_t survey_ms;
    uint64_t sweep_ms;
    uint64_t fetch_wake_ms;
    struct ckpt_plan_report report;
};

void sim_replica_boot(struct sim_node *node);
void sim_replica_shut(struct sim_node *node);
/* Its timer. */
void sim_replica_tick(struct sim_node *node);
/* Something has changed that the planner should see. */
void sim_replica_soon(struct sim_node *node);
/* An entry was applied. */
void sim_replica_applied(struct sim_node *node, const struct sched_command *command);
void sim_replica_receive(struct sim_node *node, uint32_t from, const struct sim_rpc *rpc);
/* The order to take this node out of the holders was carried out, or not. */
void sim_replica_left(struct sim_node *node, const struct sim_point_id *point, int code);
/* Nothing is being fetched, asked or dropped, but for what cannot be had. */
bool sim_replica_is_idle(const struct sim_node *node,
                         bool (*is_lost)(const struct sim_node *node,
                                         const struct sim_point_id *point));

/*- node_fetch.c */
/* A job, or one that is there with a more urgent class; NULL: too many. */
struct sim_job *sim_job_want(struct sim_node *node,
                             const struct sim_point_id *point,
                             enum ckpt_fetch_class class);
struct sim_job *sim_job_find(const struct sim_node *node, const struct sim_point_id *point);
/* Nobody wants it any more. */
void sim_job_drop(struct sim_node *node, struct sim_job *job);
void sim_job_plan_ended(struct sim_node *node, const struct sim_point_id *point, bool ok);
void sim_fetch_tick(struct sim_node *node);
uint64_t sim_fetch_wake_ms(const struct sim_node *node);
void sim_fetch_holders(struct sim_node *node);
/* Chunks of a point were stored in another way. */
void sim_fetch_present(struct sim_node *node, const struct sim_manifest *m);
void sim_fetch_receive(struct sim_node *node, uint32_t from, const struct sim_rpc *rpc);
void sim_fetch_synced(struct sim_node *node, const struct sim_point_id *point);
bool sim_fetch_pins(const struct sim_node *node, uint64_t key);
/* A live holder other than this node; @turn says which. -1: none. */
int sim_fetch_holder(const struct sim_node *node, const struct sim_point_id *point, uint32_t turn);

#endif /* SHL_SIM_REPLICA_H */
