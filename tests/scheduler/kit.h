/* What tests of the replicated state share: a replica with its place in the log, short
 * forms of commands, and a seeded stream of random ones. */
#ifndef SHL_TESTS_SCHEDULER_KIT_H
#define SHL_TESTS_SCHEDULER_KIT_H

#include <stdbool.h>
#include <stdint.h>

#include "scheduler/command.h"
#include "scheduler/state.h"

#define KIT_START_MS 1700000000000ull

struct kit {
    struct sched_state *state;
    uint64_t index;
    uint64_t term;
    uint64_t now_ms;
    struct sched_result result; /* of the last command */
};

/* An empty replica, before SCHED_CLUSTER_INIT. */
void kit_open(struct kit *kit, const struct sched_state_config *config);
/* With a cluster whose first node is kit_id(1), "n1". */
void kit_open_cluster(struct kit *kit, const struct sched_state_config *config);
void kit_close(struct kit *kit);

/* Encode, apply at the next index, return the result's code. */
int kit_apply(struct kit *kit, const struct sched_command *command);
/* Bytes as they are. */
int kit_apply_bytes(struct kit *kit, struct shl_bytes bytes);

struct shl_node_id kit_id(unsigned n);
struct sched_node_spec kit_spec(unsigned n); /* id, key, name "n<n>", addresses */
struct sched_command kit_command(struct kit *kit, uint32_t kind);

int kit_token(struct kit *kit, unsigned token, uint64_t ttl_ms);
int kit_join(struct kit *kit, unsigned token, const struct sched_node_spec *spec);
/* A token and a join with it. */
int kit_add_node(struct kit *kit, unsigned n);
int kit_mark(struct kit *kit, unsigned n, bool cordoned, bool draining);
int kit_remove(struct kit *kit, unsigned n, bool force);
int kit_claim(struct kit *kit, uint32_t kind, const char *org, const char *name, const char *value);
int kit_set(struct kit *kit, const char *name, const char *value, const char *expected);
int kit_release(struct kit *kit, const char *name, const char *value);
int kit_owner(struct kit *kit,
              uint32_t kind,
              const char *sandbox,
              unsigned owner,
              uint64_t epoch,
              unsigned new_owner,
              bool lapsed);
int kit_checkpoint(struct kit *kit, const char *id, unsigned manifest, unsigned holder);
int kit_kv(struct kit *kit, const char *key, const char *value);

/* Save into one buffer and load again in parts of @step bytes; NULL when that failed. */
struct sched_state *kit_copy(const struct sched_state *state,
                             const struct sched_state_config *config,
                             size_t step);

/* A stream of commands over few keys, so that they meet. */
struct kit_stream {
    uint64_t random;
    uint64_t now_ms;
    uint8_t value[64]; /* that the last command points at */
};

uint64_t kit_random(uint64_t *state);
void kit_stream_next(struct kit_stream *stream, struct sched_command *ret);

#endif /* SHL_TESTS_SCHEDULER_KIT_H */
