/* API keys, as hashes. A revoked one stays to say so, until the room is needed. */
#include <errno.h>
#include <string.h>

#include "scheduler/state_private.h"

static struct sched_key *find(const struct sched_state *state, const uint8_t hash[SCHED_HASH_BYTES])
{
    struct sched_key probe;

    memcpy(probe.hash, hash, SCHED_HASH_BYTES);
    return sched_table_find(&state->tables[SCHED_TABLE_KEYS], &probe);
}

const struct sched_key *sched_state_key(const struct sched_state *state,
                                        const uint8_t hash[SCHED_HASH_BYTES])
{
    return find(state, hash);
}

static uint64_t revoked_index(const void *row)
{
    const struct sched_key *key = row;

    return key->revoked ? key->index : 0;
}

static int put_again(struct sched_apply *a,
                     const struct sched_key *key,
                     const struct sched_cmd_key_put *c)
{
    if (key->revoked) {
        return sched_refuse(a, SHL_EGONE, "this API key was revoked and cannot come back");
    }
    if (strcmp(key->org, c->org) != 0 || key->admin != c->admin) {
        return sched_refuse(a, SHL_ECONFLICT, "there is another API key of this hash already");
    }
    a->result->existed = true;
    return 0;
}

int sched_apply_key_put(struct sched_apply *a, const struct sched_cmd_key_put *c)
{
    struct sched_table *keys = &a->state->tables[SCHED_TABLE_KEYS];
    struct sched_key *key = find(a->state, c->hash);

    if (key) {
        return put_again(a, key, c);
    }
    if (sched_table_is_full(keys) && sched_drop_oldest(keys, revoked_index) < 0) {
        return -ENOMEM;
    }
    if (sched_table_is_full(keys)) {
        return sched_refuse_full(a, SCHED_TABLE_KEYS, "revoke some that are not needed");
    }
    key = sched_table_row_new(keys);
    if (!key || sched_table_grow(keys) < 0) {
        sched_table_row_free(keys, key);
        return -ENOMEM;
    }
    memcpy(key->hash, c->hash, sizeof(key->hash));
    memcpy(key->org, c->org, sizeof(key->org));
    memcpy(key->label, c->label, sizeof(key->label));
    key->admin = c->admin;
    key->created_at_ms = c->created_at_ms ? c->created_at_ms : a->now_ms;
    key->expires_at_ms = c->ttl_ms ? a->now_ms + c->ttl_ms : 0;
    key->index = a->index;
    sched_table_insert(keys, key);
    return 0;
}

int sched_apply_key_revoke(struct sched_apply *a, const struct sched_cmd_key_revoke *c)
{
    struct sched_key *key = find(a->state, c->hash);

    if (!key) {
        return sched_refuse(a, SHL_ENOTFOUND, "there is no such API key");
    }
    a->result->existed = key->revoked;
    if (!key->revoked) {
        key->revoked = true;
        key->revoked_at_ms = a->now_ms;
        key->index = a->index;
        sched_table_touch(&a->state->tables[SCHED_TABLE_KEYS], key);
    }
    return 0;
}
