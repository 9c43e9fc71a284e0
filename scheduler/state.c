#include "scheduler/state.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sum.h"
#include "scheduler/state_private.h"

struct sched_state *sched_state_new(const struct sched_state_config *config)
{
    struct sched_state *state = calloc(1, sizeof(*state));
    int i;

    if (!state) {
        return NULL;
    }
    state->mutations = config->mutations;
    state->names_org_max = config->names_org_max ? config->names_org_max : SCHED_NAMES_ORG_MAX;
    state->name_expiry_floor_ms = UINT64_MAX;
    for (i = 0; i < SCHED_TABLE_COUNT; i++) {
        sched_table_init(&state->tables[i], (enum sched_table_id)i, config->rows_max[i]);
    }
    return state;
}

void sched_state_free(struct sched_state *state)
{
    int i;

    if (!state) {
        return;
    }
    for (i = 0; i < SCHED_TABLE_COUNT; i++) {
        sched_table_release(&state->tables[i]);
    }
    free(state);
}

/*- Refusals. */

int sched_refuse(struct sched_apply *a, int code, const char *fmt, ...)
{
    va_list args;

    assert(code < 0);
    a->result->err.code = code;
    va_start(args, fmt);
    (void)vsnprintf(a->result->err.msg, sizeof(a->result->err.msg), fmt, args);
    va_end(args);
    return 0;
}

bool sched_table_is_full(const struct sched_table *table)
{
    return table->count >= table->rows_max;
}

int sched_refuse_full(struct sched_apply *a, enum sched_table_id table, const char *what_to_do)
{
    const struct sched_table *t = &a->state->tables[table];

    return sched_refuse(a, SHL_ELIMIT, "the cluster holds %u %s, which is the limit: %s",
                        t->rows_max, t->type->what, what_to_do);
}

static int compare_indices(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

struct drop_old {
    uint64_t (*old)(const void *row);
    uint64_t up_to;
};

static bool is_old(const void *row, const void *arg)
{
    const struct drop_old *drop = arg;
    uint64_t index = drop->old(row);

    return index != 0 && index <= drop->up_to;
}

int sched_drop_oldest(struct sched_table *table, uint64_t (*old)(const void *row))
{
    uint64_t *indices = malloc((table->count + 1) * sizeof(*indices));
    struct drop_old drop = {.old = old};
    size_t i, count = 0;

    if (!indices) {
        return -ENOMEM;
    }
    for (i = 0; i < table->count; i++) {
        uint64_t index = old(table->rows[i]);

        if (index != 0) {
            indices[count++] = index;
        }
    }
    if (count > 0) {
        qsort(indices, count, sizeof(*indices), compare_indices);
        drop.up_to = indices[(count - 1) / 4];
        (void)sched_table_filter(table, is_old, &drop);
    }
    free(indices);
    return 0;
}

/*- Cluster. */

int sched_apply_cluster_features(struct sched_apply *a, const struct sched_cmd_cluster_features *c)
{
    const struct sched_table *nodes = &a->state->tables[SCHED_TABLE_NODES];
    size_t i;

    for (i = 0; i < nodes->count; i++) {
        const struct sched_node *node = (const struct sched_node *)nodes->rows[i];

        if (c->features & ~node->spec.features) {
            return sched_refuse(a, SHL_EVERSION,
                                "node %s runs a version without this feature: upgrade it first",
                                node->spec.name);
        }
    }
    a->result->existed = (c->features & ~a->state->features) == 0;
    a->state->features |= c->features;
    return 0;
}

int sched_apply_expire(struct sched_apply *a)
{
    sched_names_sweep(a->state, a->now_ms);
    return 0;
}

/*- Applying. */

static int dispatch_cluster(struct sched_apply *a, const struct sched_command *c)
{
    switch (c->kind) {
    case SCHED_CLUSTER_INIT:
        return sched_apply_cluster_init(a, &c->u.cluster_init);
    case SCHED_CLUSTER_FEATURES:
        return sched_apply_cluster_features(a, &c->u.cluster_features);
    case SCHED_TOKEN_CREATE:
        return sched_apply_token_create(a, &c->u.token_create);
    case SCHED_TOKEN_REVOKE:
        return sched_apply_token_revoke(a, &c->u.token_revoke);
    case SCHED_NODE_JOIN:
        return sched_apply_node_join(a, &c->u.node_join);
    case SCHED_NODE_UPDATE:
        return sched_apply_node_update(a, &c->u.node_update);
    case SCHED_NODE_MARK:
        return sched_apply_node_mark(a, &c->u.node_mark);
    case SCHED_NODE_REMOVE:
        return sched_apply_node_remove(a, &c->u.node_remove);
    case SCHED_LEASE_RENEW:
        return sched_apply_lease_renew(a, &c->u.lease_renew);
    default:
        return sched_apply_expire(a);
    }
}

static int dispatch(struct sched_apply *a, const struct sched_command *c)
{
    switch (c->kind) {
    case SCHED_NAME_CLAIM:
        return sched_apply_name_claim(a, &c->u.name);
    case SCHED_NAME_SET:
        return sched_apply_name_set(a, &c->u.name);
    case SCHED_NAME_RELEASE:
        return sched_apply_name_release(a, &c->u.name);
    case SCHED_KEY_PUT:
        return sched_apply_key_put(a, &c->u.key_put);
    case SCHED_KEY_REVOKE:
        return sched_apply_key_revoke(a, &c->u.key_revoke);
    case SCHED_OWNER_REGISTER:
        return sched_apply_owner_register(a, &c->u.owner);
    case SCHED_OWNER_RELEASE:
        return sched_apply_owner_release(a, &c->u.owner);
    case SCHED_OWNER_CLAIM:
        return sched_apply_owner_claim(a, &c->u.owner);
    case SCHED_OWNER_DELETE:
        return sched_apply_owner_delete(a, &c->u.owner);
    case SCHED_CHECKPOINT_PUT:
        return sched_apply_checkpoint_put(a, &c->u.checkpoint);
    case SCHED_CHECKPOINT_HOLDER:
        return sched_apply_checkpoint_holder(a, &c->u.checkpoint_holder);
    case SCHED_CHECKPOINT_WANTED:
        return sched_apply_checkpoint_wanted(a, &c->u.checkpoint_wanted);
    case SCHED_CHECKPOINT_DELETE:
        return sched_apply_checkpoint_delete(a, &c->u.checkpoint_delete);
    case SCHED_KV_SET:
        return sched_apply_kv_set(a, &c->u.kv);
    case SCHED_KV_DELETE:
        return sched_apply_kv_delete(a, &c->u.kv);
    default:
        return dispatch_cluster(a, c);
    }
}

int sched_state_apply(struct sched_state *state,
                      uint64_t index,
                      uint64_t term,
                      struct shl_bytes command,
                      struct sched_result *ret_result)
{
    struct sched_apply a = {.state = state, .index = index, .term = term, .result = ret_result};
    struct sched_command decoded;
    uint64_t now_ms = state->time_ms;
    int rc;

    assert(index > state->index);
    assert(term >= state->term);
    memset(ret_result, 0, sizeof(*ret_result));
    ret_result->index = index;
    rc = sched_command_decode(&decoded, command, &ret_result->err);
    if (rc == -ENOMEM) { /* the other replicas could read it */
        return rc;
    }
    if (rc == 0) {
        now_ms = SHL_MAX(now_ms, decoded.at_ms);
        a.now_ms = now_ms;
        if (!sched_state_has_cluster(state) && decoded.kind != SCHED_CLUSTER_INIT) {
            rc = sched_refuse(&a, SHL_EBADSTATE, "there is no cluster yet");
        } else {
            rc = dispatch(&a, &decoded);
        }
        if (rc < 0) {
            return rc;
        }
    }
    state->index = index;
    state->term = term;
    state->time_ms = now_ms;
    return 0;
}

void sched_state_skip(struct sched_state *state, uint64_t index, uint64_t term)
{
    assert(index > state->index);
    assert(term >= state->term);
    state->index = index;
    state->term = term;
}

/*- Looking at it. */

uint64_t sched_state_index(const struct sched_state *state)
{
    return state->index;
}

uint64_t sched_state_term(const struct sched_state *state)
{
    return state->term;
}

uint64_t sched_state_time_ms(const struct sched_state *state)
{
    return state->time_ms;
}

const uint8_t *sched_state_cluster(const struct sched_state *state)
{
    return state->cluster;
}

bool sched_state_has_cluster(const struct sched_state *state)
{
    return state->lease_ms != 0;
}

uint64_t sched_state_features(const struct sched_state *state)
{
    return state->features;
}

uint32_t sched_state_lease_ms(const struct sched_state *state)
{
    return state->lease_ms;
}

static uint64_t digest(const struct sched_state *state,
                       uint64_t (*table_hash)(const struct sched_table *table))
{
    uint64_t words[6 + SCHED_TABLE_COUNT] = {state->index,    state->term,     state->time_ms,
                                             state->features, state->lease_ms, 0};
    uint64_t hash = SHL_SUM_START;
    uint8_t bytes[8];
    size_t i;

    for (i = 0; i < SCHED_TABLE_COUNT; i++) {
        words[6 + i] = table_hash(&state->tables[i]);
    }
    for (i = 0; i < SHL_ARRAY_SIZE(words); i++) {
        shl_put_le64(bytes, words[i]);
        hash = shl_sum(hash, bytes, sizeof(bytes));
    }
    return shl_sum(hash, state->cluster, sizeof(state->cluster));
}

static uint64_t running_hash(const struct sched_table *table)
{
    return table->hash;
}

uint64_t sched_state_digest(const struct sched_state *state)
{
    return digest(state, running_hash);
}

uint64_t sched_state_digest_slow(const struct sched_state *state)
{
    return digest(state, sched_table_hash_slow);
}

size_t sched_state_count(const struct sched_state *state, enum sched_table_id table)
{
    return state->tables[table].count;
}

const void *sched_state_at(const struct sched_state *state, enum sched_table_id table, size_t i)
{
    assert(i < state->tables[table].count);
    return state->tables[table].rows[i];
}
