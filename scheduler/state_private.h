/* Inside of the replicated state, shared by its parts. */
#ifndef SHL_SCHEDULER_STATE_PRIVATE_H
#define SHL_SCHEDULER_STATE_PRIVATE_H

#include <string.h>

#include "scheduler/mutate.h"
#include "scheduler/state.h"
#include "scheduler/table.h"

#define SCHED_TOKEN_KEEP_MS (24ull * 3600 * 1000) /* an expired one still explains itself */

struct sched_state {
    uint32_t mutations;
    uint32_t names_org_max;
    uint64_t index;
    uint64_t term;
    uint64_t time_ms;
    uint8_t cluster[SCHED_CLUSTER_ID_BYTES];
    uint64_t features;
    uint32_t lease_ms;
    uint64_t kv_bytes;             /* derived: sum of the values */
    uint64_t name_expiry_floor_ms; /* derived: no name expires before this */
    struct sched_table tables[SCHED_TABLE_COUNT];
};

/* One entry being applied. */
struct sched_apply {
    struct sched_state *state;
    uint64_t index;
    uint64_t term;
    uint64_t now_ms;
    struct sched_result *result;
};

/* Key of a probe; what is too long for it is cut, the callers look before. */
static inline void sched_text_set(char *dst, size_t size, const char *src)
{
    size_t len = strnlen(src, size - 1);

    memcpy(dst, src, len);
    dst[len] = '\0';
}

/* Say no: the state is unchanged. Returns 0 (an outcome), so `return sched_refuse(...)`. */
int sched_refuse(struct sched_apply *a, int code, const char *fmt, ...) SHL_PRINTF(3, 4);
/* The same for a full table. */
int sched_refuse_full(struct sched_apply *a, enum sched_table_id table, const char *what_to_do);
bool sched_table_is_full(const struct sched_table *table);
/* Drop the oldest quarter of the rows for which @old is set (by the index it returns,
 * 0: not to be dropped) to make room. 0 or -ENOMEM. */
SHL_MUST_CHECK int sched_drop_oldest(struct sched_table *table, uint64_t (*old)(const void *row));

/* Handlers, one per kind: 0 (done or refused), or -ENOMEM: the state is lost. */
int sched_apply_cluster_init(struct sched_apply *a, const struct sched_cmd_cluster_init *c);
int sched_apply_cluster_features(struct sched_apply *a, const struct sched_cmd_cluster_features *c);
int sched_apply_token_create(struct sched_apply *a, const struct sched_cmd_token_create *c);
int sched_apply_token_revoke(struct sched_apply *a, const struct sched_cmd_token_revoke *c);
int sched_apply_node_join(struct sched_apply *a, const struct sched_cmd_node_join *c);
int sched_apply_node_update(struct sched_apply *a, const struct sched_cmd_node_update *c);
int sched_apply_node_mark(struct sched_apply *a, const struct sched_cmd_node_mark *c);
int sched_apply_node_remove(struct sched_apply *a, const struct sched_cmd_node_remove *c);
int sched_apply_lease_renew(struct sched_apply *a, const struct sched_cmd_lease_renew *c);
int sched_apply_name_claim(struct sched_apply *a, const struct sched_cmd_name *c);
int sched_apply_name_set(struct sched_apply *a, const struct sched_cmd_name *c);
int sched_apply_name_release(struct sched_apply *a, const struct sched_cmd_name *c);
int sched_apply_key_put(struct sched_apply *a, const struct sched_cmd_key_put *c);
int sched_apply_key_revoke(struct sched_apply *a, const struct sched_cmd_key_revoke *c);
int sched_apply_owner_register(struct sched_apply *a, const struct sched_cmd_owner *c);
int sched_apply_owner_release(struct sched_apply *a, const struct sched_cmd_owner *c);
int sched_apply_owner_claim(struct sched_apply *a, const struct sched_cmd_owner *c);
int sched_apply_owner_delete(struct sched_apply *a, const struct sched_cmd_owner *c);
int sched_apply_checkpoint_put(struct sched_apply *a, const struct sched_cmd_checkpoint *c);
int sched_apply_checkpoint_holder(struct sched_apply *a,
                                  const struct sched_cmd_checkpoint_holder *c);
int sched_apply_checkpoint_wanted(struct sched_apply *a,
                                  const struct sched_cmd_checkpoint_wanted *c);
int sched_apply_checkpoint_delete(struct sched_apply *a,
                                  const struct sched_cmd_checkpoint_delete *c);
int sched_apply_kv_set(struct sched_apply *a, const struct sched_cmd_kv *c);
int sched_apply_kv_delete(struct sched_apply *a, const struct sched_cmd_kv *c);
int sched_apply_expire(struct sched_apply *a);

/* Parts that handlers of other files use. */
struct sched_node *sched_node_find(const struct sched_state *state, const struct shl_node_id *id);
/* Expired names go; costs nothing when none has. */
void sched_names_sweep(struct sched_state *state, uint64_t now_ms);
void sched_checkpoints_forget_node(struct sched_apply *a, const struct shl_node_id *node);
/* 0 or -ENOMEM; @ret is a row to put in with sched_tombstone_put, which cannot fail. */
int sched_tombstone_prepare(struct sched_apply *a,
                            uint32_t kind,
                            const char *id,
                            uint64_t epoch,
                            struct sched_tombstone **ret);
void sched_tombstone_put(struct sched_state *state, struct sched_tombstone *row);

#endif /* SHL_SCHEDULER_STATE_PRIVATE_H */
