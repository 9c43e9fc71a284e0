/* Join tokens. The secret is never here, only its hash. */
#include <errno.h>
#include <string.h>

#include "scheduler/state_private.h"

static struct sched_token *find(const struct sched_state *state,
                                const uint8_t id[SCHED_TOKEN_ID_BYTES])
{
    struct sched_token probe;

    memcpy(probe.id, id, SCHED_TOKEN_ID_BYTES);
    return sched_table_find(&state->tables[SCHED_TABLE_TOKENS], &probe);
}

const struct sched_token *sched_state_token(const struct sched_state *state,
                                            const uint8_t id[SCHED_TOKEN_ID_BYTES])
{
    return find(state, id);
}

static bool is_spent(const void *row, const void *arg)
{
    const struct sched_token *token = row;
    uint64_t now_ms = *(const uint64_t *)arg;

    return token->expires_at_ms <= now_ms;
}

static bool is_long_spent(const void *row, const void *arg)
{
    const struct sched_token *token = row;
    uint64_t now_ms = *(const uint64_t *)arg;

    return token->expires_at_ms <= now_ms && now_ms - token->expires_at_ms > SCHED_TOKEN_KEEP_MS;
}

int sched_apply_token_create(struct sched_apply *a, const struct sched_cmd_token_create *c)
{
    struct sched_table *tokens = &a->state->tables[SCHED_TABLE_TOKENS];
    struct sched_token *token = find(a->state, c->token);

    if (token) {
        if (memcmp(token->secret_hash, c->secret_hash, SCHED_HASH_BYTES) != 0) {
            return sched_refuse(a, SHL_ECONFLICT, "there is a join token of this id already");
        }
        a->result->existed = true;
        return 0;
    }
    (void)sched_table_filter(tokens, is_long_spent, &a->now_ms);
    if (sched_table_is_full(tokens)) {
        (void)sched_table_filter(tokens, is_spent, &a->now_ms);
    }
    if (sched_table_is_full(tokens)) {
        return sched_refuse_full(a, SCHED_TABLE_TOKENS, "wait until some expire");
    }
    token = sched_table_row_new(tokens);
    if (!token || sched_table_grow(tokens) < 0) {
        sched_table_row_free(tokens, token);
        return -ENOMEM;
    }
    memcpy(token->id, c->token, sizeof(token->id));
    memcpy(token->secret_hash, c->secret_hash, sizeof(token->secret_hash));
    memcpy(token->by, c->by, sizeof(token->by));
    token->created_at_ms = a->now_ms;
    token->expires_at_ms = a->now_ms + c->ttl_ms;
    sched_table_insert(tokens, token);
    return 0;
}

int sched_apply_token_revoke(struct sched_apply *a, const struct sched_cmd_token_revoke *c)
{
    struct sched_token *token = find(a->state, c->token);

    if (!token) {
        return sched_refuse(a, SHL_ENOTFOUND, "there is no join token of this id");
    }
    a->result->existed = token->revoked;
    token->revoked = true;
    sched_table_touch(&a->state->tables[SCHED_TABLE_TOKENS], token);
    return 0;
}
