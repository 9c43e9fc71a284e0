/* On which nodes the copies of a checkpoint belong: weighted rendezvous hashing.
 *
 * All chunks of one manifest go to the same nodes: resuming stays local, and few sets of
 * nodes can lose data together. The first copy stays on the owner; the others go to the
 * nodes with the best draw for this manifest, each in a failure domain that has the fewest
 * copies so far (none, as long as there are enough domains). A node's draw depends on the
 * manifest, the node, its weight and the cluster's key alone, so every node computes the
 * same places from the same list, and when a node goes, exactly its copies move.
 *
 * Pure; integers only, so the result is the same on every machine. Holds no heap memory.
 *
 * Who wires it: build one map from the member list (gossip) and the drain marks (log)
 * whenever they change, then ask per manifest. The weight should be the size of the node's
 * checkpoint disk in coarse steps (GiB, or steps of an eighth): every change of a weight
 * moves copies. key: the cluster id. Creating a checkpoint passes `eligible` of nodes
 * that are alive, not draining, not flapping and have room; the repair planner
 * (checkpoint/replica_plan.h) also counts what nodes hold already. The first place is the
 * owner, and the durability of an answer is `replicated` only when as many nodes hold
 * the checkpoint as were wanted; `count < wanted` or `domains < count` is said plainly.
 */
#ifndef SHL_CHECKPOINT_REPLICA_PLACE_H
#define SHL_CHECKPOINT_REPLICA_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/node_id.h"
#include "checkpoint/store.h"

#define CKPT_REPLICA_KEY_BYTES  16u
#define CKPT_REPLICA_NODES_MAX  256u       /* members, dead ones included */
#define CKPT_REPLICA_COPIES_MAX 8u         /* of one manifest */
#define CKPT_REPLICA_WEIGHT_MAX (1u << 24) /* GiB: 16 PiB */
#define CKPT_REPLICA_NOWHERE    UINT32_MAX /* index of no node */

/* Strings are borrowed for the call. */
struct ckpt_replica_node {
    struct shl_node_id id;
    const char *domain; /* failure domain; NULL or "": one of its own */
    uint32_t weight;    /* 0: takes no copies (a witness) .. CKPT_REPLICA_WEIGHT_MAX */
};

/* The nodes, ready to draw. Owned by the caller; about 6 KiB. */
struct ckpt_replica_map {
    uint8_t key[CKPT_REPLICA_KEY_BYTES];
    uint32_t count;
    struct shl_node_id ids[CKPT_REPLICA_NODES_MAX]; /* ascending */
    uint32_t weights[CKPT_REPLICA_NODES_MAX];
    uint16_t domains[CKPT_REPLICA_NODES_MAX]; /* equal number: same domain */
};

struct ckpt_replica_places {
    uint32_t nodes[CKPT_REPLICA_COPIES_MAX]; /* indices into the map; the owner's first */
    uint32_t count;                          /* less than wanted: too few nodes */
    uint32_t wanted;
    uint32_t domains; /* different ones among them; less than count: not enough domains */
};

/* Take over @nodes, ascending by id. 0; SHL_ELIMIT for too many nodes; SHL_EINVALIDARG for
 * a list that does not ascend or a weight out of range (then the map is empty). */
SHL_MUST_CHECK int ckpt_replica_map_init(struct ckpt_replica_map *map,
                                         const uint8_t key[CKPT_REPLICA_KEY_BYTES],
                                         const struct ckpt_replica_node *nodes,
                                         uint32_t count);

/* Index of @id, or CKPT_REPLICA_NOWHERE. */
uint32_t ckpt_replica_map_find(const struct ckpt_replica_map *map, const struct shl_node_id *id);

/* Places for @copies copies of @manifest. @owner: index of the node that keeps the first
 * one, whatever @eligible says of it, or CKPT_REPLICA_NOWHERE when all are to be drawn (the owner
 * is lost or draining). @eligible: per node of the map, whether it may have a copy. 0, or
 * SHL_EINVALIDARG for copies out of 1..CKPT_REPLICA_COPIES_MAX or an owner out of the map. */
SHL_MUST_CHECK int ckpt_replica_place(const struct ckpt_replica_map *map,
                                      const struct ckpt_id *manifest,
                                      uint32_t owner,
                                      uint32_t copies,
                                      const bool *eligible,
                                      struct ckpt_replica_places *ret);

/* Whether node number @node is among them. */
bool ckpt_replica_places_have(const struct ckpt_replica_places *places, uint32_t node);

/* -log2 of (@hash + 1) / 2^64 in units of 2^-32, rounded: 0 .. 64 << 32. For tests. */
uint64_t ckpt_replica_minus_log2(uint64_t hash);

#endif /* SHL_CHECKPOINT_REPLICA_PLACE_H */
