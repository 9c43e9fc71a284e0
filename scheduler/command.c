#include "scheduler/command.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/mp.h"
#include "scheduler/fields.h"

#define CMD    struct sched_command
#define NEEDED SCHED_FIELD_NONEMPTY

static const struct sched_field cluster_init_fields[] = {
    SCHED_FIXED(CMD, u.cluster_init.cluster, "cluster", NEEDED),
    SCHED_U32(CMD, u.cluster_init.lease_ms, "lease", SCHED_LEASE_MAX_MS, NEEDED),
    SCHED_SPEC_FIELDS(CMD, u.cluster_init.node),
};
static const struct sched_field cluster_features_fields[] = {
    SCHED_U64(CMD, u.cluster_features.features, "feat", UINT64_MAX, NEEDED),
};
static const struct sched_field token_create_fields[] = {
    SCHED_FIXED(CMD, u.token_create.token, "token", NEEDED),
    SCHED_FIXED(CMD, u.token_create.secret_hash, "secret", NEEDED),
    SCHED_U64(CMD, u.token_create.ttl_ms, "ttl", SCHED_TTL_MAX_MS, NEEDED),
    SCHED_TEXT(CMD, u.token_create.by, "by", 0),
};
static const struct sched_field token_revoke_fields[] = {
    SCHED_FIXED(CMD, u.token_revoke.token, "token", NEEDED),
};
static const struct sched_field node_join_fields[] = {
    SCHED_FIXED(CMD, u.node_join.token, "token", 0),
    SCHED_FIXED(CMD, u.node_join.secret_hash, "secret", 0),
    SCHED_SPEC_FIELDS(CMD, u.node_join.node),
};
static const struct sched_field node_update_fields[] = {
    SCHED_SPEC_FIELDS(CMD, u.node_update.node),
};
static const struct sched_field node_mark_fields[] = {
    SCHED_FIXED(CMD, u.node_mark.node, "id", NEEDED),
    SCHED_BOOL(CMD, u.node_mark.cordoned, "cordon"),
    SCHED_BOOL(CMD, u.node_mark.draining, "drain"),
    SCHED_TEXT(CMD, u.node_mark.by, "by", 0),
};
static const struct sched_field node_remove_fields[] = {
    SCHED_FIXED(CMD, u.node_remove.node, "id", NEEDED),
    SCHED_BOOL(CMD, u.node_remove.force, "force"),
    SCHED_TEXT(CMD, u.node_remove.by, "by", 0),
};
static const struct sched_field lease_renew_fields[] = {
    SCHED_FIXED(CMD, u.lease_renew.node, "id", NEEDED),
    SCHED_U64(CMD, u.lease_renew.boot, "boot", UINT64_MAX, 0),
    SCHED_U64(CMD, u.lease_renew.term, "term", UINT64_MAX, 0),
    SCHED_U64(CMD, u.lease_renew.seq, "seq", UINT64_MAX, 0),
};
static const struct sched_field name_fields[] = {
    SCHED_U32(CMD, u.name.kind, "kind", SCHED_NAME_KIND_END - 1, NEEDED),
    SCHED_TEXT(CMD, u.name.org, "org", 0),
    SCHED_TEXT(CMD, u.name.name, "name", NEEDED),
    SCHED_TEXT(CMD, u.name.owner, "owner", 0),
    SCHED_BLOB(CMD, u.name.value, "value", SCHED_VALUE_MAX, 0),
    SCHED_BLOB(CMD, u.name.expected, "expect", SCHED_VALUE_MAX, 0),
    SCHED_BOOL(CMD, u.name.has_expected, "if"),
    SCHED_U64(CMD, u.name.ttl_ms, "ttl", SCHED_TTL_MAX_MS, 0),
};
static const struct sched_field key_put_fields[] = {
    SCHED_FIXED(CMD, u.key_put.hash, "hash", NEEDED),
    SCHED_TEXT(CMD, u.key_put.org, "org", NEEDED),
    SCHED_TEXT(CMD, u.key_put.label, "label", 0),
    SCHED_BOOL(CMD, u.key_put.admin, "admin"),
    SCHED_U64(CMD, u.key_put.ttl_ms, "ttl", SCHED_TTL_MAX_MS * 100, 0),
    SCHED_U64(CMD, u.key_put.created_at_ms, "created", SCHED_TIME_MAX_MS, 0),
};
static const struct sched_field key_revoke_fields[] = {
    SCHED_FIXED(CMD, u.key_revoke.hash, "hash", NEEDED),
};
static const struct sched_field owner_fields[] = {
    SCHED_TEXT(CMD, u.owner.sandbox, "sandbox", NEEDED),
    SCHED_TEXT(CMD, u.owner.org, "org", 0),
    SCHED_FIXED(CMD, u.owner.owner, "owner", NEEDED),
    SCHED_U64(CMD, u.owner.epoch, "epoch", UINT64_MAX - 1, NEEDED),
    SCHED_FIXED(CMD, u.owner.new_owner, "new", 0),
    SCHED_BOOL(CMD, u.owner.claimable, "claimable"),
    SCHED_BOOL(CMD, u.owner.lapsed, "lapsed"),
};
static const struct sched_field checkpoint_fields[] = {
    SCHED_TEXT(CMD, u.checkpoint.id, "ckpt", NEEDED),
    SCHED_TEXT(CMD, u.checkpoint.org, "org", NEEDED),
    SCHED_TEXT(CMD, u.checkpoint.sandbox, "sandbox", 0),
    SCHED_TEXT(CMD, u.checkpoint.label, "label", 0),
    SCHED_U32(CMD, u.checkpoint.kind, "kind", SCHED_CHECKPOINT_KIND_END - 1, NEEDED),
    SCHED_FIXED(CMD, u.checkpoint.manifest, "manifest", NEEDED),
    SCHED_U64(CMD, u.checkpoint.bytes, "bytes", UINT64_MAX, 0),
    SCHED_U32(CMD, u.checkpoint.wanted, "wanted", SCHED_HOLDERS_MAX, NEEDED),
    SCHED_TEXT(CMD, u.checkpoint.bases, "bases", SCHED_FIELD_OPTIONAL),
    SCHED_NODES(CMD, u.checkpoint.holders, u.checkpoint.holder_count, "holders"),
};
static const struct sched_field checkpoint_holder_fields[] = {
    SCHED_TEXT(CMD, u.checkpoint_holder.id, "ckpt", NEEDED),
    SCHED_FIXED(CMD, u.checkpoint_holder.node, "id", NEEDED),
    SCHED_BOOL(CMD, u.checkpoint_holder.held, "held"),
};
static const struct sched_field checkpoint_wanted_fields[] = {
    SCHED_TEXT(CMD, u.checkpoint_wanted.id, "ckpt", NEEDED),
    SCHED_U32(CMD, u.checkpoint_wanted.wanted, "wanted", SCHED_HOLDERS_MAX, NEEDED),
};
static const struct sched_field checkpoint_delete_fields[] = {
    SCHED_TEXT(CMD, u.checkpoint_delete.id, "ckpt", NEEDED),
};
static const struct sched_field kv_fields[] = {
    SCHED_TEXT(CMD, u.kv.key, "key", NEEDED),
    SCHED_BLOB(CMD, u.kv.value, "value", SCHED_KV_VALUE_MAX, 0),
    SCHED_BOOL(CMD, u.kv.has_expected, "if"),
    SCHED_U64(CMD, u.kv.expected, "expect", UINT64_MAX, 0),
};

struct kind {
    const char *name;
    struct sched_fields fields;
};

static const struct kind kinds[SCHED_COMMAND_KIND_END] = {
    [SCHED_CLUSTER_INIT] = {"cluster init", SCHED_FIELDS(cluster_init_fields)},
    [SCHED_CLUSTER_FEATURES] = {"cluster features", SCHED_FIELDS(cluster_features_fields)},
    [SCHED_TOKEN_CREATE] = {"token create", SCHED_FIELDS(token_create_fields)},
    [SCHED_TOKEN_REVOKE] = {"token revoke", SCHED_FIELDS(token_revoke_fields)},
    [SCHED_NODE_JOIN] = {"node join", SCHED_FIELDS(node_join_fields)},
    [SCHED_NODE_UPDATE] = {"node update", SCHED_FIELDS(node_update_fields)},
    [SCHED_NODE_MARK] = {"node mark", SCHED_FIELDS(node_mark_fields)},
    [SCHED_NODE_REMOVE] = {"node remove", SCHED_FIELDS(node_remove_fields)},
    [SCHED_LEASE_RENEW] = {"lease renew", SCHED_FIELDS(lease_renew_fields)},
    [SCHED_NAME_CLAIM] = {"name claim", SCHED_FIELDS(name_fields)},
    [SCHED_NAME_SET] = {"name set", SCHED_FIELDS(name_fields)},
    [SCHED_NAME_RELEASE] = {"name release", SCHED_FIELDS(name_fields)},
    [SCHED_KEY_PUT] = {"key put", SCHED_FIELDS(key_put_fields)},
    [SCHED_KEY_REVOKE] = {"key revoke", SCHED_FIELDS(key_revoke_fields)},
    [SCHED_OWNER_REGISTER] = {"owner register", SCHED_FIELDS(owner_fields)},
    [SCHED_OWNER_RELEASE] = {"owner release", SCHED_FIELDS(owner_fields)},
    [SCHED_OWNER_CLAIM] = {"owner claim", SCHED_FIELDS(owner_fields)},
    [SCHED_OWNER_DELETE] = {"owner delete", SCHED_FIELDS(owner_fields)},
    [SCHED_CHECKPOINT_PUT] = {"checkpoint put", SCHED_FIELDS(checkpoint_fields)},
    [SCHED_CHECKPOINT_HOLDER] = {"checkpoint holder", SCHED_FIELDS(checkpoint_holder_fields)},
    [SCHED_CHECKPOINT_WANTED] = {"checkpoint wanted", SCHED_FIELDS(checkpoint_wanted_fields)},
    [SCHED_CHECKPOINT_DELETE] = {"checkpoint delete", SCHED_FIELDS(checkpoint_delete_fields)},
    [SCHED_KV_SET] = {"kv set", SCHED_FIELDS(kv_fields)},
    [SCHED_KV_DELETE] = {"kv delete", SCHED_FIELDS(kv_fields)},
    [SCHED_EXPIRE] = {"expire", {NULL, 0}},
};

const char *sched_command_name(uint32_t kind)
{
    return kind > 0 && kind < SCHED_COMMAND_KIND_END ? kinds[kind].name : "?";
}

/* Rules that concern more than one field. */
static int check_whole(const struct sched_command *command, struct shl_err *err)
{
    const struct sched_cmd_name *name = &command->u.name;

    if (command->kind == SCHED_CLUSTER_INIT &&
        command->u.cluster_init.lease_ms < SCHED_LEASE_MIN_MS) {
        return shl_err_set(err, SHL_EINVALIDARG, "field \"lease\" is below %u ms",
                           SCHED_LEASE_MIN_MS);
    }
    if (command->kind != SCHED_NAME_CLAIM && command->kind != SCHED_NAME_SET &&
        command->kind != SCHED_NAME_RELEASE) {
        return 0;
    }
    if ((name->kind == SCHED_NAME_HOST) != (name->org[0] == '\0')) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "a host name belongs to no organisation, every other name to one");
    }
    if (name->kind == SCHED_NAME_IDEMPOTENCY && command->kind == SCHED_NAME_CLAIM &&
        name->ttl_ms == 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "an idempotency key needs an expiry");
    }
    return 0;
}

static int write_command(const struct sched_command *command, struct shl_buf *buf)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", SCHED_COMMAND_VERSION);
    shl_mp_kv_uint(&w, "k", command->kind);
    shl_mp_kv_uint(&w, "t", command->at_ms);
    sched_fields_write(&w, &kinds[command->kind].fields, command);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

int sched_command_encode(const struct sched_command *command,
                         struct shl_buf *buf,
                         struct shl_err *err)
{
    struct shl_buf scratch;
    int rc;

    if (command->kind == 0 || command->kind >= SCHED_COMMAND_KIND_END) {
        return shl_err_set(err, SHL_EINVALIDARG, "%u is no kind of command", command->kind);
    }
    if (command->at_ms > SCHED_TIME_MAX_MS) {
        return shl_err_set(err, SHL_EINVALIDARG, "the time of the command is not valid");
    }
    rc = sched_fields_check(&kinds[command->kind].fields, command, err);
    if (rc == 0) {
        rc = check_whole(command, err);
    }
    if (rc < 0) {
        return rc;
    }
    shl_buf_init(&scratch, SCHED_COMMAND_MAX);
    rc = write_command(command, &scratch);
    if (rc == 0) {
        rc = shl_buf_append(buf, shl_buf_data(&scratch), shl_buf_len(&scratch));
    }
    shl_buf_release(&scratch);
    return rc < 0 ? shl_err_set(err, rc, "the command could not be encoded") : 0;
}

static int read_head(const msgpack_object *map, struct sched_command *ret, struct shl_err *err)
{
    uint64_t version, kind, at_ms;

    if (shl_mp_get_uint(map, "v", UINT32_MAX, &version) < 0 ||
        shl_mp_get_uint(map, "k", UINT32_MAX, &kind) < 0 ||
        shl_mp_get_uint(map, "t", SCHED_TIME_MAX_MS, &at_ms) < 0) {
        return shl_err_set(err, SHL_EPROTO, "a command has no version, kind or time");
    }
    if (version != SCHED_COMMAND_VERSION || kind == 0 || kind >= SCHED_COMMAND_KIND_END) {
        return shl_err_set(err, SHL_EVERSION,
                           "command %llu of format %llu is not known to this version of shoald",
                           (unsigned long long)kind, (unsigned long long)version);
    }
    ret->kind = (uint32_t)kind;
    ret->at_ms = at_ms;
    return 0;
}

int sched_command_decode(struct sched_command *ret, struct shl_bytes bytes, struct shl_err *err)
{
    struct sched_command command;
    struct shl_mp_doc doc;
    int rc;

    if (bytes.len > SCHED_COMMAND_MAX) {
        return shl_err_set(err, SHL_ELIMIT, "a command has %zu bytes, at most %u are allowed",
                           bytes.len, SCHED_COMMAND_MAX);
    }
    rc = shl_mp_parse(&doc, bytes);
    if (rc < 0) {
        return shl_err_set(err, rc, rc == -ENOMEM ? "no memory" : "a command is not valid msgpack");
    }
    memset(&command, 0, sizeof(command));
    rc = read_head(doc.root, &command, err);
    if (rc == 0) {
        rc = sched_fields_read(doc.root, &kinds[command.kind].fields, &command, err);
        if (rc < 0) {
            (void)shl_err_wrap(err, rc, "%s", kinds[command.kind].name);
        }
    }
    if (rc == 0) {
        rc = check_whole(&command, err);
    }
    shl_mp_release(&doc);
    if (rc == 0) {
        *ret = command;
    }
    return rc;
}
