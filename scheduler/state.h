/* The replicated state: what all nodes agree on, changed by log entries alone.
 *
 * A pure state machine: sched_state_apply is given the log's entries in order and has
 * the same outcome everywhere; there is no clock (commands carry cluster time, which
 * here never goes back), no I/O, no iteration in memory order. Rows are kept in tables
 * ordered by key; a row that is handed out stays valid until the next apply or load.
 * A refused command leaves everything but the position in the log and the time as it was
 * (rows that had expired may go).
 *
 * Not thread-safe; one owner.
 */
#ifndef SHL_SCHEDULER_STATE_H
#define SHL_SCHEDULER_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/node_id.h"
#include "scheduler/command.h"
#include "scheduler/limits.h"
#include "scheduler/result.h"

#define SCHED_STATE_VERSION 1 /* of the snapshot format */

/* Features this version knows. A node that applies a bit it does not know must stop. */
#define SCHED_FEATURES_KNOWN 0ull

enum sched_table_id {
    SCHED_TABLE_NODES,
    SCHED_TABLE_REMOVED,
    SCHED_TABLE_TOKENS,
    SCHED_TABLE_NAMES,
    SCHED_TABLE_KEYS,
    SCHED_TABLE_OWNERS,
    SCHED_TABLE_TOMBSTONES,
    SCHED_TABLE_CHECKPOINTS,
    SCHED_TABLE_KV,
    SCHED_TABLE_COUNT
};

struct sched_row {
    uint64_t hash; /* of its encoded form; the digest is made of these */
};

struct sched_mark {
    bool on;
    uint64_t at_ms;
    uint64_t index; /* no placement above this index goes there */
    char by[SCHED_BY_SIZE];
};

struct sched_node { /* by id */
    struct sched_row row;
    struct sched_node_spec spec;
    uint64_t joined_index;
    uint64_t joined_at_ms;
    struct sched_mark cordoned;
    struct sched_mark draining;
    uint64_t lease_index; /* of its last renewal, 0 none yet */
    uint64_t lease_term;
    uint64_t lease_boot;
};

struct sched_removed { /* by key */
    struct sched_row row;
    uint8_t key[SCHED_KEY_BYTES];
    struct shl_node_id id;
    char name[SCHED_NODE_NAME_SIZE];
    uint64_t index;
    uint64_t at_ms;
    char by[SCHED_BY_SIZE];
};

struct sched_token { /* by id */
    struct sched_row row;
    uint8_t id[SCHED_TOKEN_ID_BYTES];
    uint8_t secret_hash[SCHED_HASH_BYTES];
    uint64_t created_at_ms;
    uint64_t expires_at_ms;
    char by[SCHED_BY_SIZE];
    bool used;
    uint64_t used_at_ms;
    uint8_t used_by[SCHED_KEY_BYTES];
    char used_name[SCHED_NODE_NAME_SIZE];
    bool revoked;
};

struct sched_name { /* by kind, org, name */
    struct sched_row row;
    uint32_t kind;
    char org[SCHED_ORG_SIZE];
    char name[SCHED_NAME_SIZE];
    char owner[SCHED_OWNER_SIZE];
    struct shl_bytes value;
    uint64_t index; /* of the last change */
    uint64_t created_at_ms;
    uint64_t expires_at_ms; /* 0 never; an expired one counts as absent */
};

struct sched_key { /* by hash */
    struct sched_row row;
    uint8_t hash[SCHED_HASH_BYTES];
    char org[SCHED_ORG_SIZE];
    char label[SCHED_LABEL_SIZE];
    bool admin;
    uint64_t created_at_ms;
    uint64_t expires_at_ms; /* 0 never */
    bool revoked;
    uint64_t revoked_at_ms;
    uint64_t index;
};

struct sched_owner { /* by sandbox */
    struct sched_row row;
    char sandbox[SCHED_ID_SIZE];
    char org[SCHED_ORG_SIZE];
    struct shl_node_id owner;
    uint64_t epoch;
    bool claimable;
    bool released;  /* the owner let go of it: anybody may claim it, until the next epoch */
    uint64_t index; /* of the last change of owner */
    uint64_t term;
};

enum sched_tombstone_kind {
    SCHED_TOMBSTONE_SANDBOX = 1,
    SCHED_TOMBSTONE_CHECKPOINT = 2
};

struct sched_tombstone { /* by kind, id */
    struct sched_row row;
    uint32_t kind;
    char id[SCHED_ID_SIZE];
    uint64_t epoch; /* last one of a sandbox */
    uint64_t index;
    uint64_t at_ms;
};

struct sched_checkpoint { /* by id */
    struct sched_row row;
    char id[SCHED_ID_SIZE];
    char org[SCHED_ORG_SIZE];
    char sandbox[SCHED_ID_SIZE];
    char label[SCHED_LABEL_SIZE];
    uint32_t kind;
    uint8_t manifest[SCHED_HASH_BYTES];
    uint64_t bytes;
    uint32_t wanted;
    char bases[SCHED_BASES_SIZE];
    uint32_t holder_count;
    struct shl_node_id holders[SCHED_HOLDERS_MAX]; /* ascending; members only */
    uint32_t had_copies; /* when there were more than now: see sched_checkpoint_had */
    uint64_t created_at_ms;
    uint64_t index; /* of the last change */
};

struct sched_kv { /* by key */
    struct sched_row row;
    char key[SCHED_KV_KEY_SIZE];
    struct shl_bytes value;
    uint64_t revision; /* index of its last change */
};

struct sched_state_config {
    uint32_t mutations; /* enum sched_mutation; 0 in production */
    /* Rows per table, 0: the limit of limits.h. Equal on all replicas; for tests. */
    uint32_t rows_max[SCHED_TABLE_COUNT];
    uint32_t names_org_max; /* the same for SCHED_NAMES_ORG_MAX */
};

struct sched_state;

/* NULL without memory. */
SHL_MUST_CHECK struct sched_state *sched_state_new(const struct sched_state_config *config);
void sched_state_free(struct sched_state *state);

/* Apply one entry. @index is above every earlier one (the log's own entries leave gaps).
 * Bytes that are no command, and everything that is refused, are an outcome in @ret_result
 * like any other. The return value is 0, or -ENOMEM: then this replica must not go on
 * (an entry may be half applied), only sched_state_free is due. */
SHL_MUST_CHECK int sched_state_apply(struct sched_state *state,
                                     uint64_t index,
                                     uint64_t term,
                                     struct shl_bytes command,
                                     struct sched_result *ret_result);

/* An entry of the log's own (no command) at this place: only the position moves on, so that
 * replicas can be compared at every index. */
void sched_state_skip(struct sched_state *state, uint64_t index, uint64_t term);

/* Position and time of the last applied entry. */
uint64_t sched_state_index(const struct sched_state *state);
uint64_t sched_state_term(const struct sched_state *state);
uint64_t sched_state_time_ms(const struct sched_state *state); /* cluster time, wall-like */

/* All zeros before SCHED_CLUSTER_INIT. Borrowed. */
const uint8_t *sched_state_cluster(const struct sched_state *state);
bool sched_state_has_cluster(const struct sched_state *state);
uint64_t sched_state_features(const struct sched_state *state);
uint32_t sched_state_lease_ms(const struct sched_state *state);

/* Equal states have equal digests, position and time included. Costs nothing. */
uint64_t sched_state_digest(const struct sched_state *state);
/* The same from every row anew: to check the running one. */
uint64_t sched_state_digest_slow(const struct sched_state *state);

/*- Look up: NULL when absent (names: or expired at cluster time). */
const struct sched_node *sched_state_node(const struct sched_state *state,
                                          const struct shl_node_id *id);
const struct sched_node *sched_state_node_by_key(const struct sched_state *state,
                                                 const uint8_t key[SCHED_KEY_BYTES]);
const struct sched_node *sched_state_node_by_name(const struct sched_state *state,
                                                  const char *name);
const struct sched_removed *sched_state_removed(const struct sched_state *state,
                                                const uint8_t key[SCHED_KEY_BYTES]);
const struct sched_token *sched_state_token(const struct sched_state *state,
                                            const uint8_t id[SCHED_TOKEN_ID_BYTES]);
const struct sched_name *sched_state_name(const struct sched_state *state,
                                          uint32_t kind,
                                          const char *org,
                                          const char *name);
/* Revoked and expired keys too: the caller looks at the times. */
const struct sched_key *sched_state_key(const struct sched_state *state,
                                        const uint8_t hash[SCHED_HASH_BYTES]);
const struct sched_owner *sched_state_owner(const struct sched_state *state, const char *sandbox);
const struct sched_tombstone *sched_state_tombstone(const struct sched_state *state,
                                                    uint32_t kind,
                                                    const char *id);
const struct sched_checkpoint *sched_state_checkpoint(const struct sched_state *state,
                                                      const char *id);
/* The most nodes that had it at once, also when some of them were removed since. */
uint32_t sched_checkpoint_had(const struct sched_checkpoint *row);
/* Its owner may have said that it is safe, and a node still has it. */
bool sched_checkpoint_is_promised(const struct sched_checkpoint *row);
const struct sched_kv *sched_state_kv(const struct sched_state *state, const char *key);

/* Could a node with this key and token join now? 0, or the code and sentence that
 * SCHED_NODE_JOIN would be refused with: lets the door be shut before the log is asked. */
SHL_MUST_CHECK int sched_state_check_join(const struct sched_state *state,
                                          const struct sched_cmd_node_join *join,
                                          uint64_t now_ms,
                                          struct shl_err *err);

/*- Iterate: row @i of a table, in key order; the caller knows the type. */
size_t sched_state_count(const struct sched_state *state, enum sched_table_id table);
const void *sched_state_at(const struct sched_state *state, enum sched_table_id table, size_t i);
/* First name not below (kind, org, name): for lists of one kind and organisation. */
size_t sched_state_name_seek(const struct sched_state *state,
                             uint32_t kind,
                             const char *org,
                             const char *name);
/* First key of the small store not below @key. */
size_t sched_state_kv_seek(const struct sched_state *state, const char *key);

/*- Snapshot: a stream of pieces, each u32 length (little endian) and one msgpack map, at
 * most SCHED_PIECE_MAX together; the last one carries the digest. The stream may be cut
 * and joined anywhere on its way. */
struct sched_save {
    const struct sched_state *state; /* borrowed; not to be changed meanwhile */
    uint64_t index;                  /* of the state at the start */
    uint32_t piece;
    uint32_t table;
    size_t row;
    bool ended;
};

void sched_save_begin(struct sched_save *save, const struct sched_state *state);
/* Append the next piece to @buf. 1 when there was one, 0 at the end, SHL_EBADSTATE when
 * the state was changed since the start, SHL_ELIMIT (of @buf), -ENOMEM. */
SHL_MUST_CHECK int sched_save_next(struct sched_save *save, struct shl_buf *buf);

struct sched_load;

/* Read a stream into a new state. Hostile input. NULL without memory. */
SHL_MUST_CHECK struct sched_load *sched_load_new(const struct sched_state_config *config);
void sched_load_free(struct sched_load *load);
/* Any part of the stream, in order. 0, SHL_ECORRUPT, SHL_EVERSION, SHL_ELIMIT, -ENOMEM;
 * after an error only sched_load_free. */
SHL_MUST_CHECK int sched_load_feed(struct sched_load *load,
                                   struct shl_bytes bytes,
                                   struct shl_err *err);
/* Complete, with the right digest, and not ahead of @index and @term, the snapshot's place
 * in the log? Then @ret_state is the caller's. */
SHL_MUST_CHECK int sched_load_end(struct sched_load *load,
                                  uint64_t index,
                                  uint64_t term,
                                  struct sched_state **ret_state,
                                  struct shl_err *err);

#endif /* SHL_SCHEDULER_STATE_H */
