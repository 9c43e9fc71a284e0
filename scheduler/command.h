/* Commands: what is written into the replicated log, and its codec.
 *
 * One command is one msgpack map: {"v": format, "k": kind, "t": time, ...fields}. The
 * leader stamps the time (scheduler/cluster_time.h); the state never reads a clock.
 * Kinds and field names are a stored format: append, never renumber or reuse. Unknown
 * fields are skipped, so a later version may add optional ones; a new kind is only
 * written once the feature flag of its version is committed.
 *
 * Commands come from peers and from disk: decoding checks every length and range.
 * Pure, no state.
 */
#ifndef SHL_SCHEDULER_COMMAND_H
#define SHL_SCHEDULER_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/node_id.h"
#include "scheduler/limits.h"

#define SCHED_COMMAND_VERSION 1

enum sched_command_kind {
    SCHED_CLUSTER_INIT = 1, /* first entry of a cluster: its id and its first node */
    SCHED_CLUSTER_FEATURES = 2,
    SCHED_TOKEN_CREATE = 3,
    SCHED_TOKEN_REVOKE = 4,
    SCHED_NODE_JOIN = 5, /* consumes a token */
    SCHED_NODE_UPDATE = 6,
    SCHED_NODE_MARK = 7,
    SCHED_NODE_REMOVE = 8,
    SCHED_LEASE_RENEW = 9,
    SCHED_NAME_CLAIM = 10,
    SCHED_NAME_SET = 11,
    SCHED_NAME_RELEASE = 12,
    SCHED_KEY_PUT = 13,
    SCHED_KEY_REVOKE = 14,
    SCHED_OWNER_REGISTER = 15,
    SCHED_OWNER_RELEASE = 16,
    SCHED_OWNER_CLAIM = 17,
    SCHED_OWNER_DELETE = 18,
    SCHED_CHECKPOINT_PUT = 19,
    SCHED_CHECKPOINT_HOLDER = 20,
    SCHED_CHECKPOINT_WANTED = 21,
    SCHED_CHECKPOINT_DELETE = 22,
    SCHED_KV_SET = 23,
    SCHED_KV_DELETE = 24,
    SCHED_EXPIRE = 25, /* the leader, now and then: drop what has expired */
    SCHED_COMMAND_KIND_END
};

enum sched_role {
    SCHED_ROLE_VOTER = 0,
    SCHED_ROLE_STANDBY = 1,
    SCHED_ROLE_WITNESS = 2
};

enum sched_name_kind {
    SCHED_NAME_SNAPSHOT = 1,
    SCHED_NAME_SECRET_STORE = 2,
    SCHED_NAME_HOST = 3,        /* custom host: unique over all, org is "" */
    SCHED_NAME_IDEMPOTENCY = 4, /* of creates; has an expiry */
    SCHED_NAME_KIND_END
};

enum sched_checkpoint_kind {
    SCHED_CHECKPOINT_FULL = 1,
    SCHED_CHECKPOINT_DISK = 2,
    SCHED_CHECKPOINT_HIBERNATION = 3,
    SCHED_CHECKPOINT_ARTEFACT = 4, /* named snapshot, built image */
    SCHED_CHECKPOINT_KIND_END
};

/* What a node says about itself. */
struct sched_node_spec {
    struct shl_node_id id; /* hash of @key; the sender of the command has checked that */
    uint8_t key[SCHED_KEY_BYTES];
    char name[SCHED_NODE_NAME_SIZE];
    char control[SCHED_ADDRESS_SIZE];
    char bulk[SCHED_ADDRESS_SIZE];
    char api[SCHED_ADDRESS_SIZE];
    char domain[SCHED_DOMAIN_SIZE];
    uint32_t role;     /* enum sched_role, a wish except for a witness */
    uint64_t features; /* what its version can do */
};

struct sched_cmd_cluster_init {
    uint8_t cluster[SCHED_CLUSTER_ID_BYTES];
    uint32_t lease_ms;
    struct sched_node_spec node;
};

struct sched_cmd_cluster_features {
    uint64_t features; /* switched on, for ever; every node must know them */
};

struct sched_cmd_token_create {
    uint8_t token[SCHED_TOKEN_ID_BYTES];
    uint8_t secret_hash[SCHED_HASH_BYTES];
    uint64_t ttl_ms;
    char by[SCHED_BY_SIZE];
};

struct sched_cmd_token_revoke {
    uint8_t token[SCHED_TOKEN_ID_BYTES];
};

struct sched_cmd_node_join {
    uint8_t token[SCHED_TOKEN_ID_BYTES];
    uint8_t secret_hash[SCHED_HASH_BYTES]; /* of the secret that the joiner showed */
    struct sched_node_spec node;
};

struct sched_cmd_node_update { /* everything but id, key, name may change */
    struct sched_node_spec node;
};

struct sched_cmd_node_mark {
    struct shl_node_id node;
    bool cordoned;
    bool draining;
    char by[SCHED_BY_SIZE];
};

struct sched_cmd_node_remove {
    struct shl_node_id node;
    bool force; /* without it the node must be draining */
    char by[SCHED_BY_SIZE];
};

struct sched_cmd_lease_renew {
    struct shl_node_id node;
    uint64_t boot; /* random per start of the node's daemon */
    uint64_t term; /* of the leader that took the request */
    uint64_t seq;  /* of the node, goes back to it with the answer */
};

struct sched_cmd_name {
    uint32_t kind; /* enum sched_name_kind */
    char org[SCHED_ORG_SIZE];
    char name[SCHED_NAME_SIZE];
    char owner[SCHED_OWNER_SIZE];
    struct shl_bytes value;    /* up to SCHED_VALUE_MAX; borrowed */
    struct shl_bytes expected; /* set: only if this is the value now; borrowed */
    bool has_expected;
    uint64_t ttl_ms; /* claim, set: 0 for ever (set: as it is) */
};

struct sched_cmd_key_put {
    uint8_t hash[SCHED_HASH_BYTES];
    char org[SCHED_ORG_SIZE];
    char label[SCHED_LABEL_SIZE]; /* display prefix, for people */
    bool admin;
    uint64_t ttl_ms;        /* 0 never expires */
    uint64_t created_at_ms; /* of an imported key; 0: now */
};

struct sched_cmd_key_revoke {
    uint8_t hash[SCHED_HASH_BYTES];
};

struct sched_cmd_owner {
    char sandbox[SCHED_ID_SIZE];
    char org[SCHED_ORG_SIZE];     /* register */
    struct shl_node_id owner;     /* the owner now */
    uint64_t epoch;               /* the epoch now */
    struct shl_node_id new_owner; /* claim; the owner itself begins a new epoch with it */
    bool claimable;               /* register, claim: others may start it when the owner is lost */
    bool lapsed;                  /* claim: the leader saw the owner's lease end for certain; only
                                     sched_claim_stamp sets it */
};

struct sched_cmd_checkpoint {
    char id[SCHED_ID_SIZE];
    char org[SCHED_ORG_SIZE];
    char sandbox[SCHED_ID_SIZE]; /* "" for an artefact */
    char label[SCHED_LABEL_SIZE];
    uint32_t kind; /* enum sched_checkpoint_kind */
    uint8_t manifest[SCHED_HASH_BYTES];
    uint64_t bytes;
    uint32_t wanted;              /* number of holders */
    char bases[SCHED_BASES_SIZE]; /* artefacts that it is relative to, "" none */
    uint32_t holder_count;
    struct shl_node_id holders[SCHED_HOLDERS_MAX]; /* known to hold all of it */
};

struct sched_cmd_checkpoint_holder {
    char id[SCHED_ID_SIZE];
    struct shl_node_id node;
    bool held;
};

struct sched_cmd_checkpoint_wanted {
    char id[SCHED_ID_SIZE];
    uint32_t wanted;
};

struct sched_cmd_checkpoint_delete {
    char id[SCHED_ID_SIZE];
};

struct sched_cmd_kv {
    char key[SCHED_KV_KEY_SIZE];
    struct shl_bytes value; /* up to SCHED_KV_VALUE_MAX; borrowed */
    bool has_expected;
    uint64_t expected; /* revision it must have; 0: must not exist */
};

struct sched_command {
    uint32_t kind;  /* enum sched_command_kind */
    uint64_t at_ms; /* cluster time */
    union {
        struct sched_cmd_cluster_init cluster_init;
        struct sched_cmd_cluster_features cluster_features;
        struct sched_cmd_token_create token_create;
        struct sched_cmd_token_revoke token_revoke;
        struct sched_cmd_node_join node_join;
        struct sched_cmd_node_update node_update;
        struct sched_cmd_node_mark node_mark;
        struct sched_cmd_node_remove node_remove;
        struct sched_cmd_lease_renew lease_renew;
        struct sched_cmd_name name; /* claim, set, release */
        struct sched_cmd_key_put key_put;
        struct sched_cmd_key_revoke key_revoke;
        struct sched_cmd_owner owner; /* register, release, claim, delete */
        struct sched_cmd_checkpoint checkpoint;
        struct sched_cmd_checkpoint_holder checkpoint_holder;
        struct sched_cmd_checkpoint_wanted checkpoint_wanted;
        struct sched_cmd_checkpoint_delete checkpoint_delete;
        struct sched_cmd_kv kv; /* set, delete */
    } u;
};

/* Append the bytes of @command to @buf. SHL_EINVALIDARG (and the field in @err) when it
 * could not be decoded again, SHL_ELIMIT, -ENOMEM; then @buf is as before. */
SHL_MUST_CHECK int sched_command_encode(const struct sched_command *command,
                                        struct shl_buf *buf,
                                        struct shl_err *err);

/* Hostile input. Byte fields of @ret point into @bytes. SHL_EPROTO, SHL_ELIMIT,
 * SHL_EVERSION (a kind or format this version does not know), -ENOMEM. */
SHL_MUST_CHECK int sched_command_decode(struct sched_command *ret,
                                        struct shl_bytes bytes,
                                        struct shl_err *err);

/* "node join" and so on, "?" for an unknown one. Static. */
const char *sched_command_name(uint32_t kind);

#endif /* SHL_SCHEDULER_COMMAND_H */
