#include "sim/store.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "sim/check.h"
#include "sim/rng.h"
#include "sim/world.h"

#define SPACE_MANIFEST 7 /* disk keys: by a hash of the point */
#define SPACE_CHUNK    8 /* by key */

/*- Names. */

void sim_point_manifest(const struct sim_point_id *point, struct ckpt_id *ret)
{
    const uint64_t words[4] = {point->sandbox, point->epoch, point->count, 1};

    for (unsigned i = 0; i < 4; i++) {
        for (unsigned k = 0; k < 8; k++) {
            ret->bytes[8 * i + k] = (uint8_t)(words[i] >> (56 - 8 * k));
        }
    }
}

void sim_point_of_manifest(const struct ckpt_id *manifest, struct sim_point_id *ret)
{
    uint64_t words[3] = {0};

    for (unsigned i = 0; i < 24; i++) {
        words[i / 8] = words[i / 8] << 8 | manifest->bytes[i];
    }
    *ret = (struct sim_point_id){words[0], words[1], words[2]};
}

int sim_point_compare(const struct sim_point_id *a, const struct sim_point_id *b)
{
    if (a->sandbox != b->sandbox) {
        return a->sandbox < b->sandbox ? -1 : 1;
    }
    if (a->epoch != b->epoch) {
        return a->epoch < b->epoch ? -1 : 1;
    }
    return a->count < b->count ? -1 : a->count > b->count;
}

uint64_t sim_point_chunk(const struct sim_point_id *point, uint32_t i)
{
    switch (i) {
    case 0:
        return sim_mix(sim_mix(point->sandbox + point->epoch * 0x10001) ^ point->count);
    case 1:
        return sim_mix(point->sandbox ^ (point->count / 2) << 56 ^ 1);
    case 2:
        return sim_mix(point->sandbox ^ (point->count / 8) << 56 ^ 2);
    case 3:
        return sim_mix(point->sandbox ^ 3);
    default:
        return sim_mix(4);
    }
}

uint64_t sim_chunk_key(uint64_t data)
{
    return sim_mix(data ^ 0x5348414c) >> 8 | 1; /* as much as a key on the disk has room for */
}

void sim_chunk_id(uint64_t key, struct ckpt_id *ret)
{
    for (unsigned i = 0; i < CKPT_ID_BYTES; i++) {
        ret->bytes[i] = (uint8_t)(key >> 8 * (i % 8));
    }
}

uint64_t sim_chunk_of_id(const struct ckpt_id *id)
{
    return shl_get_le64(id->bytes);
}

/*- Looking. */

static uint32_t manifest_seek(const struct sim_store *store, const struct sim_point_id *point)
{
    uint32_t low = 0, high = store->manifest_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (sim_point_compare(&store->manifests[middle].point, point) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct sim_manifest *sim_store_find(const struct sim_node *node, const struct sim_point_id *point)
{
    const struct sim_store *store = &node->store;
    uint32_t at = manifest_seek(store, point);

    return at < store->manifest_count && sim_point_compare(&store->manifests[at].point, point) == 0
               ? &store->manifests[at]
               : NULL;
}

const struct sim_manifest *sim_store_newest(const struct sim_node *node, uint64_t sandbox)
{
    const struct sim_store *store = &node->store;
    const struct sim_point_id end = {sandbox, UINT64_MAX, UINT64_MAX};

    for (uint32_t at = manifest_seek(store, &end); at > 0; at--) {
        const struct sim_manifest *m = &store->manifests[at - 1];

        if (m->point.sandbox != sandbox) {
            return NULL;
        }
        if (m->durable && !m->leaving && !m->damaged) {
            return m;
        }
    }
    return NULL;
}

static uint32_t chunk_seek(const struct sim_store *store, uint64_t key)
{
    uint32_t low = 0, high = store->chunk_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (store->chunks[middle].key < key) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct sim_chunk *sim_store_chunk(const struct sim_node *node, uint64_t key)
{
    const struct sim_store *store = &node->store;
    uint32_t at = chunk_seek(store, key);

    return at < store->chunk_count && store->chunks[at].key == key ? &store->chunks[at] : NULL;
}

bool sim_store_has(const struct sim_node *node, uint64_t key)
{
    const struct sim_chunk *chunk = sim_store_chunk(node, key);

    return chunk && !chunk->bad;
}

bool sim_store_is_whole(const struct sim_node *node, const struct sim_manifest *m, bool truly)
{
    for (uint32_t i = 0; i < SIM_POINT_CHUNKS; i++) {
        const struct sim_chunk *chunk = sim_store_chunk(node, m->keys[i]);

        if (!chunk || chunk->bad || (truly && sim_chunk_key(chunk->data) != chunk->key)) {
            return false;
        }
    }
    return true;
}

bool sim_manifest_names(const struct sim_manifest *m, uint64_t key)
{
    for (uint32_t i = 0; i < SIM_POINT_CHUNKS; i++) {
        if (m->keys[i] == key) {
            return true;
        }
    }
    return false;
}

static void set_damaged(const struct sim_node *node, struct sim_manifest *m)
{
    if (!m->damaged) {
        m->damaged = true;
        m->damaged_us = node->world->now_us;
    }
}

static void mark(struct sim_node *node, uint64_t key)
{
    for (uint32_t i = 0; i < node->store.manifest_count; i++) {
        struct sim_manifest *m = &node->store.manifests[i];

        if (sim_manifest_names(m, key)) {
            set_damaged(node, m);
        }
    }
}

bool sim_store_read(struct sim_node *node, uint64_t key, uint64_t *ret_data)
{
    struct sim_chunk *chunk = sim_store_chunk(node, key);

    if (chunk && sim_chunk_key(chunk->data) == key) {
        *ret_data = chunk->data;
        return true;
    }
    if (chunk && !chunk->bad) {
        SIM_TRACE(node->world, node->index, "finds that chunk %llx has rotted",
                  (unsigned long long)key);
        chunk->bad = true;
    }
    mark(node, key);
    return false;
}

/*- Writing. */

static struct sim_chunk *chunk_insert(struct sim_node *node, uint64_t key)
{
    struct sim_store *store = &node->store;
    uint32_t at = chunk_seek(store, key);

    if (at < store->chunk_count && store->chunks[at].key == key) {
        return &store->chunks[at];
    }
    if (store->chunk_count == store->chunk_cap) {
        store->chunk_cap = store->chunk_cap ? store->chunk_cap * 2 : 64;
        store->chunks = realloc(store->chunks, store->chunk_cap * sizeof(*store->chunks));
        assert(store->chunks);
    }
    memmove(&store->chunks[at + 1], &store->chunks[at],
            (store->chunk_count - at) * sizeof(*store->chunks));
    store->chunk_count++;
    return &store->chunks[at];
}

void sim_store_put_chunk(struct sim_node *node, uint64_t key, uint64_t data)
{
    struct sim_chunk *chunk = chunk_insert(node, key);

    sim_check_chunk_put(node, key, data);
    *chunk = (struct sim_chunk){.key = key, .data = data, .born_ms = sim_node_now_ms(node)};
    sim_disk_put(&node->disk, SIM_DISK_KEY(SPACE_CHUNK, key), chunk,
                 offsetof(struct sim_chunk, born_ms));
}

void sim_store_put_chunks(struct sim_node *node, const struct sim_manifest *m)
{
    for (uint32_t i = 0; i < SIM_POINT_CHUNKS; i++) {
        uint64_t data = sim_point_chunk(&m->point, i);

        if (!sim_store_has(node, sim_chunk_key(data))) {
            sim_store_put_chunk(node, sim_chunk_key(data), data);
        }
    }
    sim_store_review(node);
}

static struct sim_manifest *manifest_insert(struct sim_node *node, const struct sim_manifest *m)
{
    struct sim_store *store = &node->store;
    uint32_t at = manifest_seek(store, &m->point);

    if (at == store->manifest_count ||
        sim_point_compare(&store->manifests[at].point, &m->point) != 0) {
        if (store->manifest_count == store->manifest_cap) {
            store->manifest_cap = store->manifest_cap ? store->manifest_cap * 2 : 16;
            store->manifests =
                realloc(store->manifests, store->manifest_cap * sizeof(*store->manifests));
            assert(store->manifests);
        }
        memmove(&store->manifests[at + 1], &store->manifests[at],
                (store->manifest_count - at) * sizeof(*store->manifests));
        store->manifest_count++;
    }
    store->manifests[at] = *m;
    for (uint32_t i = 0; i < SIM_POINT_CHUNKS; i++) {
        store->manifests[at].keys[i] = sim_chunk_key(sim_point_chunk(&m->point, i));
    }
    return &store->manifests[at];
}

static uint64_t disk_key(const struct sim_point_id *point)
{
    return SIM_DISK_KEY(SPACE_MANIFEST,
                        sim_mix(sim_mix(point->sandbox ^ point->epoch << 56) ^ point->count));
}

struct sim_manifest *sim_store_put_manifest(struct sim_node *node, const struct sim_manifest *m)
{
    struct sim_manifest *kept = manifest_insert(node, m);

    kept->born_ms = sim_node_now_ms(node);
    sim_disk_put(&node->disk, disk_key(&m->point), m, offsetof(struct sim_manifest, durable));
    return kept;
}

void sim_store_drop(struct sim_node *node, struct sim_manifest *m)
{
    struct sim_store *store = &node->store;
    uint64_t key = disk_key(&m->point);
    uint32_t at = (uint32_t)(m - store->manifests);

    SIM_TRACE(node->world, node->index, "drops its copy of %llx.%llu.%llu",
              (unsigned long long)m->point.sandbox, (unsigned long long)m->point.epoch,
              (unsigned long long)m->point.count);
    store->manifest_count--;
    memmove(m, m + 1, (store->manifest_count - at) * sizeof(*m));
    sim_disk_delete(&node->disk, key, key);
}

void sim_store_sweep(struct sim_node *node,
                     uint64_t age_ms,
                     bool (*pinned)(const struct sim_node *node, uint64_t key))
{
    struct sim_store *store = &node->store;
    uint64_t now_ms = sim_node_now_ms(node);
    uint32_t kept = 0;

    for (uint32_t i = 0; i < store->chunk_count; i++) {
        struct sim_chunk *chunk = &store->chunks[i];
        bool needed = now_ms < chunk->born_ms + age_ms;

        for (uint32_t k = 0; !needed && k < store->manifest_count; k++) {
            needed = sim_manifest_names(&store->manifests[k], chunk->key);
        }
        if (needed || pinned(node, chunk->key)) {
            store->chunks[kept++] = *chunk;
        } else {
            uint64_t key = SIM_DISK_KEY(SPACE_CHUNK, chunk->key);

            sim_disk_delete(&node->disk, key, key);
        }
    }
    store->chunk_count = kept;
}

/*- Looking for damage. */

void sim_store_scrub(struct sim_node *node, uint32_t count)
{
    struct sim_store *store = &node->store;

    for (uint32_t i = 0; i < SHL_MIN(count, store->chunk_count); i++) {
        uint64_t data = 0;

        store->scrub_at = (store->scrub_at + 1) % store->chunk_count;
        (void)sim_store_read(node, store->chunks[store->scrub_at].key, &data);
    }
    for (uint32_t i = 0; i < store->manifest_count; i++) {
        struct sim_manifest *m = &store->manifests[i];

        if (!sim_store_is_whole(node, m, false)) {
            set_damaged(node, m);
        }
    }
}

/* What came may have mended others, too. */
void sim_store_review(struct sim_node *node)
{
    for (uint32_t i = 0; i < node->store.manifest_count; i++) {
        struct sim_manifest *m = &node->store.manifests[i];

        m->damaged = m->damaged && !sim_store_is_whole(node, m, false);
    }
}

void sim_store_hurt(struct sim_node *node, struct sim_chunk *chunk, bool lost)
{
    uint64_t key = SIM_DISK_KEY(SPACE_CHUNK, chunk->key);

    chunk->data ^= 1ull << chunk->key % 64;
    if (lost) {
        sim_disk_delete(&node->disk, key, key);
    } else {
        sim_disk_put(&node->disk, key, chunk, offsetof(struct sim_chunk, born_ms));
    }
    if (sim_disk_commit(&node->disk) < 0) {
        node->dying = true;
    }
}

/*- The disk. */

void sim_store_load(struct sim_node *node)
{
    const struct sim_disk_map *map = &node->disk.map;
    size_t i = sim_disk_lower(&node->disk, SIM_DISK_KEY(SPACE_MANIFEST, 0));

    node->store.manifest_count = 0;
    node->store.chunk_count = 0;
    for (; i < map->count && map->items[i].key < SIM_DISK_KEY(SPACE_CHUNK, 0); i++) {
        struct sim_manifest m = {0};

        memcpy(&m, map->items[i].data, offsetof(struct sim_manifest, durable));
        m.durable = true;
        (void)manifest_insert(node, &m);
    }
    for (; i < map->count && map->items[i].key < SIM_DISK_KEY(SPACE_CHUNK + 1, 0); i++) {
        struct sim_chunk chunk = {0};

        memcpy(&chunk, map->items[i].data, offsetof(struct sim_chunk, born_ms));
        *chunk_insert(node, chunk.key) = chunk;
    }
    for (uint32_t k = 0; k < node->store.manifest_count; k++) {
        struct sim_manifest *m = &node->store.manifests[k];

        if (!sim_store_is_whole(node, m, false)) {
            set_damaged(node, m);
        }
    }
}

void sim_store_release(struct sim_node *node)
{
    free(node->store.manifests);
    free(node->store.chunks);
    node->store = (struct sim_store){0};
}
