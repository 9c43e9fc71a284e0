/* What the rows of each table consist of. Names are part of the snapshot format: append
 * optional fields, never rename. */
#include "scheduler/table.h"

#define NEEDED SCHED_FIELD_NONEMPTY
#define NUMBER UINT64_MAX

#define MARK_FIELDS(s, m, on_, at_, index_, by_)                                \
    SCHED_BOOL(s, m.on, on_), SCHED_U64(s, m.at_ms, at_, SCHED_TIME_MAX_MS, 0), \
        SCHED_U64(s, m.index, index_, NUMBER, 0), SCHED_TEXT(s, m.by, by_, 0)

#define S struct sched_node
static const struct sched_field node_fields[] = {
    SCHED_SPEC_FIELDS(S, spec),
    SCHED_U64(S, joined_index, "joined", NUMBER, 0),
    SCHED_U64(S, joined_at_ms, "joined_at", SCHED_TIME_MAX_MS, 0),
    MARK_FIELDS(S, cordoned, "cordon", "cordon_at", "cordon_index", "cordon_by"),
    MARK_FIELDS(S, draining, "drain", "drain_at", "drain_index", "drain_by"),
    SCHED_U64(S, lease_index, "lease", NUMBER, 0),
    SCHED_U64(S, lease_term, "lease_term", NUMBER, 0),
    SCHED_U64(S, lease_boot, "boot", NUMBER, 0),
};
#undef S
#define S struct sched_removed
static const struct sched_field removed_fields[] = {
    SCHED_FIXED(S, key, "key", NEEDED),
    SCHED_FIXED(S, id, "id", NEEDED),
    SCHED_TEXT(S, name, "name", NEEDED | SCHED_FIELD_WORD),
    SCHED_U64(S, index, "index", NUMBER, 0),
    SCHED_U64(S, at_ms, "at", SCHED_TIME_MAX_MS, 0),
    SCHED_TEXT(S, by, "by", 0),
};
#undef S
#define S struct sched_token
static const struct sched_field token_fields[] = {
    SCHED_FIXED(S, id, "id", NEEDED),
    SCHED_FIXED(S, secret_hash, "secret", NEEDED),
    SCHED_U64(S, created_at_ms, "created", SCHED_TIME_MAX_MS, 0),
    SCHED_U64(S, expires_at_ms, "expires", NUMBER, 0),
    SCHED_TEXT(S, by, "by", 0),
    SCHED_BOOL(S, used, "used"),
    SCHED_U64(S, used_at_ms, "used_at", SCHED_TIME_MAX_MS, 0),
    SCHED_FIXED(S, used_by, "used_by", 0),
    SCHED_TEXT(S, used_name, "used_name", 0),
    SCHED_BOOL(S, revoked, "revoked"),
};
#undef S
#define S struct sched_name
static const struct sched_field name_fields[] = {
    SCHED_U32(S, kind, "kind", SCHED_NAME_KIND_END - 1, NEEDED),
    SCHED_TEXT(S, org, "org", 0),
    SCHED_TEXT(S, name, "name", NEEDED),
    SCHED_TEXT(S, owner, "owner", 0),
    SCHED_BLOB(S, value, "value", SCHED_VALUE_MAX, 0),
    SCHED_U64(S, index, "index", NUMBER, 0),
    SCHED_U64(S, created_at_ms, "created", SCHED_TIME_MAX_MS, 0),
    SCHED_U64(S, expires_at_ms, "expires", NUMBER, 0),
};
#undef S
#define S struct sched_key
static const struct sched_field key_fields[] = {
    SCHED_FIXED(S, hash, "hash", NEEDED),
    SCHED_TEXT(S, org, "org", NEEDED),
    SCHED_TEXT(S, label, "label", 0),
    SCHED_BOOL(S, admin, "admin"),
    SCHED_U64(S, created_at_ms, "created", SCHED_TIME_MAX_MS, 0),
    SCHED_U64(S, expires_at_ms, "expires", NUMBER, 0),
    SCHED_BOOL(S, revoked, "revoked"),
    SCHED_U64(S, revoked_at_ms, "revoked_at", SCHED_TIME_MAX_MS, 0),
    SCHED_U64(S, index, "index", NUMBER, 0),
};
#undef S
#define S struct sched_owner
static const struct sched_field owner_fields[] = {
    SCHED_TEXT(S, sandbox, "sandbox", NEEDED), SCHED_TEXT(S, org, "org", 0),
    SCHED_FIXED(S, owner, "owner", NEEDED),    SCHED_U64(S, epoch, "epoch", NUMBER, NEEDED),
    SCHED_BOOL(S, claimable, "claimable"),     SCHED_BOOL(S, released, "released"),
    SCHED_U64(S, index, "index", NUMBER, 0),   SCHED_U64(S, term, "term", NUMBER, 0),
};
#undef S
#define S struct sched_tombstone
static const struct sched_field tombstone_fields[] = {
    SCHED_U32(S, kind, "kind", SCHED_TOMBSTONE_CHECKPOINT, NEEDED),
    SCHED_TEXT(S, id, "id", NEEDED),
    SCHED_U64(S, epoch, "epoch", NUMBER, 0),
    SCHED_U64(S, index, "index", NUMBER, 0),
    SCHED_U64(S, at_ms, "at", SCHED_TIME_MAX_MS, 0),
};
#undef S
#define S struct sched_checkpoint
static const struct sched_field checkpoint_fields[] = {
    SCHED_TEXT(S, id, "id", NEEDED),
    SCHED_TEXT(S, org, "org", NEEDED),
    SCHED_TEXT(S, sandbox, "sandbox", 0),
    SCHED_TEXT(S, label, "label", 0),
    SCHED_U32(S, kind, "kind", SCHED_CHECKPOINT_KIND_END - 1, NEEDED),
    SCHED_FIXED(S, manifest, "manifest", NEEDED),
    SCHED_U64(S, bytes, "bytes", NUMBER, 0),
    SCHED_U32(S, wanted, "wanted", SCHED_HOLDERS_MAX, NEEDED),
    SCHED_TEXT(S, bases, "bases", SCHED_FIELD_OPTIONAL),
    SCHED_NODES(S, holders, holder_count, "holders"),
    SCHED_U32(S, had_copies, "had_copies", SCHED_HOLDERS_MAX, SCHED_FIELD_OPTIONAL),
    SCHED_U64(S, created_at_ms, "created", SCHED_TIME_MAX_MS, 0),
    SCHED_U64(S, index, "index", NUMBER, 0),
};
#undef S
#define S struct sched_kv
static const struct sched_field kv_fields[] = {
    SCHED_TEXT(S, key, "key", NEEDED),
    SCHED_BLOB(S, value, "value", SCHED_KV_VALUE_MAX, 0),
    SCHED_U64(S, revision, "revision", NUMBER, 0),
};
#undef S

const struct sched_table_type sched_table_types[SCHED_TABLE_COUNT] = {
    [SCHED_TABLE_NODES] = {"nodes", SCHED_FIELDS(node_fields), 1, sizeof(struct sched_node),
                           SCHED_NODES_MAX},
    [SCHED_TABLE_REMOVED] = {"removed nodes", SCHED_FIELDS(removed_fields), 1,
                             sizeof(struct sched_removed), SCHED_REMOVED_MAX},
    [SCHED_TABLE_TOKENS] = {"join tokens", SCHED_FIELDS(token_fields), 1,
                            sizeof(struct sched_token), SCHED_TOKENS_MAX},
    [SCHED_TABLE_NAMES] = {"names", SCHED_FIELDS(name_fields), 3, sizeof(struct sched_name),
                           SCHED_NAMES_MAX},
    [SCHED_TABLE_KEYS] = {"API keys", SCHED_FIELDS(key_fields), 1, sizeof(struct sched_key),
                          SCHED_KEYS_MAX},
    [SCHED_TABLE_OWNERS] = {"claimable sandboxes", SCHED_FIELDS(owner_fields), 1,
                            sizeof(struct sched_owner), SCHED_OWNERS_MAX},
    [SCHED_TABLE_TOMBSTONES] = {"deleted ids", SCHED_FIELDS(tombstone_fields), 2,
                                sizeof(struct sched_tombstone), SCHED_TOMBSTONES_MAX},
    [SCHED_TABLE_CHECKPOINTS] = {"checkpoints", SCHED_FIELDS(checkpoint_fields), 1,
                                 sizeof(struct sched_checkpoint), SCHED_CHECKPOINTS_MAX},
    [SCHED_TABLE_KV] = {"settings", SCHED_FIELDS(kv_fields), 1, sizeof(struct sched_kv),
                        SCHED_KV_MAX},
};
