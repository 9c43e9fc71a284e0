/* Named maxima of everything the scheduler keeps or reads. Sizes of text include the
 * terminator. What is over a limit is refused with a sentence; nothing is cut. */
#ifndef SHL_SCHEDULER_LIMITS_H
#define SHL_SCHEDULER_LIMITS_H

#define SCHED_CLUSTER_ID_BYTES 16
#define SCHED_KEY_BYTES        32 /* a CURVE public key */
#define SCHED_HASH_BYTES       32 /* of a secret, an API key, a manifest */
#define SCHED_TOKEN_ID_BYTES   16

#define SCHED_NODE_NAME_SIZE 65  /* letters, digits, '.', '_', '-' */
#define SCHED_ADDRESS_SIZE   136 /* "host:port" */
#define SCHED_DOMAIN_SIZE    65  /* failure domain, "" is one of its own per node */
#define SCHED_ORG_SIZE       40
#define SCHED_NAME_SIZE      256 /* snapshot, secret store, host, idempotency key */
#define SCHED_OWNER_SIZE     65  /* who holds a name: id of a sandbox, store, request */
#define SCHED_ID_SIZE        40  /* of a sandbox or checkpoint */
#define SCHED_LABEL_SIZE     129
#define SCHED_BASES_SIZE     80 /* what a checkpoint is relative to: ids, a space between two */
#define SCHED_BY_SIZE        65 /* who asked: key label, "shoal", node name */
#define SCHED_KV_KEY_SIZE    193

#define SCHED_VALUE_MAX    512u         /* bytes behind a name */
#define SCHED_KV_VALUE_MAX (32u * 1024) /* bytes behind one key of the small store */
#define SCHED_KV_BYTES_MAX (16u << 20)  /* of all of them together */
#define SCHED_HOLDERS_MAX  8u           /* recorded holders of one checkpoint */

/* Rows per table. */
#define SCHED_NODES_MAX       256u
#define SCHED_REMOVED_MAX     16384u /* for ever: a removed key never comes back */
#define SCHED_TOKENS_MAX      1024u
#define SCHED_NAMES_MAX       100000u /* all kinds */
#define SCHED_NAMES_ORG_MAX   20000u  /* of one kind in one organisation */
#define SCHED_KEYS_MAX        20000u  /* API keys, revoked ones included */
#define SCHED_OWNERS_MAX      100000u
#define SCHED_TOMBSTONES_MAX  100000u /* oldest quarter goes when full */
#define SCHED_CHECKPOINTS_MAX 100000u
#define SCHED_KV_MAX          10000u

#define SCHED_TIME_MAX_MS  (1ull << 53)                /* of cluster time */
#define SCHED_TTL_MAX_MS   (366ull * 24 * 3600 * 1000) /* of tokens and expiring names */
#define SCHED_LEASE_MIN_MS 100u
#define SCHED_LEASE_MAX_MS 60000u
#define SCHED_LEASE_MS     10000u /* default */

#define SCHED_COMMAND_MAX (40u * 1024)  /* bytes of one command */
#define SCHED_PIECE_MAX   (128u * 1024) /* bytes of one snapshot piece with its header */

/* All rows at their limits stay below this (a test adds them up). */
#define SCHED_SNAPSHOT_BYTES_MAX (256u << 20)

#define SCHED_RESERVATIONS_MAX 4096u /* open at once */

#endif /* SHL_SCHEDULER_LIMITS_H */
