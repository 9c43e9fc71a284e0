/* The checkpoint store of a simulated node: what checkpoint/store.h promises, in small. Chunks are
 * one number each, named by a hash of it, so that a flipped bit can be told; manifests are the
 * points of sandboxes. Both are on the simulated disk; what is here is what a process finds there,
 * or of a node that is down what a power cut left.
 *
 * A point is SIM_POINT_CHUNKS chunks: one of its own, some that it shares with earlier points of
 * its sandbox, and one that all sandboxes share, as they do a template.
 */
#ifndef SHL_SIM_STORE_H
#define SHL_SIM_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "checkpoint/store.h"

struct sim_node;

#define SIM_POINT_CHUNKS 5u

struct sim_chunk {
    uint64_t key;
    uint64_t data;
    uint64_t born_ms;
    bool bad; /* found out */
};

struct sim_point_id {
    uint64_t sandbox;
    uint64_t epoch;
    uint64_t count;
};

struct sim_manifest {
    struct sim_point_id point;
    uint32_t memory_mb;
    bool restore;
    /* Volatile from here. */
    bool durable;
    bool leaving;        /* no copy to count on: it is being dropped */
    bool damaged;        /* known to lack chunks, or to have bad ones */
    uint64_t damaged_us; /* since, by the clock of the world */
    uint64_t born_ms;
    uint64_t fence; /* it is dropped once this renewal of the lease is applied; 0 not yet */
    uint64_t keys[SIM_POINT_CHUNKS];
};

struct sim_store {
    struct sim_manifest *manifests; /* by point */
    uint32_t manifest_count, manifest_cap;
    struct sim_chunk *chunks; /* by key */
    uint32_t chunk_count, chunk_cap;
    uint32_t scrub_at;
};

/* The id that the cores know a point by; in the order of the rows in the catalogue. */
void sim_point_manifest(const struct sim_point_id *point, struct ckpt_id *ret);
void sim_point_of_manifest(const struct ckpt_id *manifest, struct sim_point_id *ret);
int sim_point_compare(const struct sim_point_id *a, const struct sim_point_id *b);
/* Of chunk @i of a point. */
uint64_t sim_point_chunk(const struct sim_point_id *point, uint32_t i);
uint64_t sim_chunk_key(uint64_t data);
void sim_chunk_id(uint64_t key, struct ckpt_id *ret);
uint64_t sim_chunk_of_id(const struct ckpt_id *id);

/* What the disk has; also after a crash, for those who look from outside. */
void sim_store_load(struct sim_node *node);
void sim_store_release(struct sim_node *node);

struct sim_manifest *sim_store_find(const struct sim_node *node, const struct sim_point_id *point);
/* Newest of the sandbox that is durable, stays, and is not known to be damaged. */
const struct sim_manifest *sim_store_newest(const struct sim_node *node, uint64_t sandbox);
struct sim_chunk *sim_store_chunk(const struct sim_node *node, uint64_t key);
/* It is here, and not known to be bad. */
bool sim_store_has(const struct sim_node *node, uint64_t key);
/* All chunks are there; @truly: and none of them has rotted, known or not. */
bool sim_store_is_whole(const struct sim_node *node, const struct sim_manifest *m, bool truly);
bool sim_manifest_names(const struct sim_manifest *m, uint64_t key);
/* Verified; false marks it, and what it belongs to. */
bool sim_store_read(struct sim_node *node, uint64_t key, uint64_t *ret_data);

/* Into the open batch. */
void sim_store_put_chunk(struct sim_node *node, uint64_t key, uint64_t data);
/* All chunks of a point that is made here; those that are there already stay. */
void sim_store_put_chunks(struct sim_node *node, const struct sim_manifest *m);
struct sim_manifest *sim_store_put_manifest(struct sim_node *node, const struct sim_manifest *m);
void sim_store_drop(struct sim_node *node, struct sim_manifest *m);
/* Some of the chunks are read again, @count of them; also looks for manifests that lack some. */
void sim_store_scrub(struct sim_node *node, uint32_t count);
/* Chunks that nothing names and that are older than @age_ms; @pinned says what else is needed. */
void sim_store_sweep(struct sim_node *node,
                     uint64_t age_ms,
                     bool (*pinned)(const struct sim_node *node, uint64_t key));
/* Which manifests are damaged no more. */
void sim_store_review(struct sim_node *node);
/* A fault, on the disk: a bit flips, or it is @lost, which the process finds when it reads. */
void sim_store_hurt(struct sim_node *node, struct sim_chunk *chunk, bool lost);

#endif /* SHL_SIM_STORE_H */
