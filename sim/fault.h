/* Faults and the schedule of a run.
 *
 * A schedule is everything that decides a run: the seed (delays, workload, ids), the
 * number of nodes, the horizon, and the list of faults with their times. The list is
 * drawn from the seed (swarm: each class is on in half of the runs), printed as text,
 * read back, and thinned by the shrinker; a fault that is taken out changes nothing of
 * what the others do.
 */
#ifndef SHL_SIM_FAULT_H
#define SHL_SIM_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/attr.h"
#include "base/err.h"

#define SIM_NODES_MAX  64 /* sets of nodes are 64-bit masks */
#define SIM_FAULTS_MAX 4096
#define SIM_SECOND     1000000u /* virtual time is in microseconds */

/* What a, b and value mean is the third column: "node", "link a>b", "mask" (value is a set
 * of nodes). X(id, name, meaning) */
#define SIM_FAULT_MAP(X)                                                                        \
    X(LOSS, "loss", "every link loses value per million messages")                              \
    X(DUP, "dup", "every link doubles value per million messages")                              \
    X(DELAY, "delay", "mean delay of every link is value microseconds")                         \
    X(SLOW_LINK, "slow-link", "link a>b is value microseconds slower")                          \
    X(CLOG, "clog", "nothing arrives on link a>b until the end, then everything")               \
    X(RESET, "reset", "the connections between a and b break")                                  \
    X(ONE_WAY, "one-way", "link a>b is cut, b>a is not")                                        \
    X(PARTITION, "partition", "nodes of the set value hear only each other")                    \
    X(RING, "ring", "each node hears only its neighbours")                                      \
    X(ISOLATE, "isolate", "node a hears nobody")                                                \
    X(ISOLATE_LEADER, "isolate-leader", "the scheduler of that moment hears nobody")            \
    X(CRASH, "crash", "power cut of node a, back after the time; unsynced writes half lost")    \
    X(KILL, "kill", "kill -9 of node a, back after the time; writes stay")                      \
    X(CRASH_LEADER, "crash-leader", "power cut of the scheduler of that moment")                \
    X(MASS_RESTART, "mass-restart", "power cut of every node of the set value")                 \
    X(CRASH_UNSYNCED, "crash-unsynced", "power cut of node a right after its next write")       \
    X(RIVALS, "rivals", "the scheduler dies, all others stand for election at the same moment") \
    X(PAUSE_LEADER, "pause-leader", "SIGSTOP of the scheduler of that moment")                  \
    X(PAUSE, "pause", "SIGSTOP of node a, SIGCONT after the time")                              \
    X(LAG, "lag", "loop of node a is up to value microseconds late")                            \
    X(SYNC_SLOW, "sync-slow", "syncs of node a take value microseconds on average")             \
    X(WRITE_ERROR, "write-error", "writes of node a fail: it ends, and is back after the time") \
    X(CLOCK_RATE, "clock-rate", "monotonic clock of node a runs at value / million")            \
    X(CLOCK_STEP, "clock-step", "wall clock of node a jumps by value microseconds (signed)")    \
    X(WIPE, "wipe", "node a dies and returns with an empty disk and a new identity")            \
    X(JOIN_STORM, "join-storm", "the spare nodes join at once")                                 \
    X(REMOVE, "remove", "an operator removes node a for good (rm), reachable or not")           \
    X(TRANSFER, "transfer", "the scheduler hands over to another voter")                        \
    X(ROT, "rot", "a chunk in the store of node a rots (value even) or is lost (odd)")          \
    X(GARBLE, "garble", "node a sends value per million of its chunks with wrong bytes")

enum sim_fault_class {
#define SIM_FAULT_ENUM(id, name, text) SIM_FAULT_##id,
    SIM_FAULT_MAP(SIM_FAULT_ENUM)
#undef SIM_FAULT_ENUM
    SIM_FAULT_CLASSES
};

struct sim_fault {
    uint64_t at_us;
    uint64_t for_us; /* 0: an instant */
    enum sim_fault_class class;
    uint32_t a;
    uint32_t b;
    uint64_t value;
};

struct sim_schedule {
    uint64_t seed;
    uint32_t nodes;           /* from the beginning */
    uint32_t spares;          /* further ones, which a join storm or a wipe brings in */
    uint64_t faults_us;       /* faults end here and everything heals */
    uint64_t end_us;          /* the liveness phase ends here */
    uint32_t classes;         /* bit per class that may occur */
    uint32_t mutation;        /* number of the known bug switched on, 0 none; sim/mutate.h */
    struct sim_fault *faults; /* by time */
    size_t count;
    size_t cap;
};

const char *sim_fault_name(enum sim_fault_class class);
const char *sim_fault_text(enum sim_fault_class class);
/* The class, or -EINVAL. */
int sim_fault_parse(const char *name);

/* Draws everything from @seed; @nodes and @seconds 0 mean: from the seed too. */
void sim_schedule_draw(struct sim_schedule *schedule,
                       uint64_t seed,
                       uint32_t nodes,
                       uint32_t seconds);
void sim_schedule_release(struct sim_schedule *schedule);
void sim_schedule_add(struct sim_schedule *schedule, struct sim_fault fault);
void sim_schedule_copy(struct sim_schedule *dst, const struct sim_schedule *src);
/* Without the faults of @class. */
void sim_schedule_drop_class(struct sim_schedule *schedule, enum sim_fault_class class);

void sim_schedule_print(const struct sim_schedule *schedule, FILE *out);
/* Reads what _print wrote; '#' begins a comment. 0, -EINVAL or -errno with a sentence. */
SHL_MUST_CHECK int sim_schedule_read(struct sim_schedule *schedule, FILE *in, struct shl_err *err);

#endif /* SHL_SIM_FAULT_H */
