#include <stdlib.h>

#include "node/mesh/mesh_private.h"

/* Buffers of large frames go round: they are taken on the loop thread and given back by
 * whoever drops the message, mostly ZeroMQ's threads. Without this the allocator returns
 * their pages to the kernel and faults them in again, half the cost of sending a stream. */

struct mesh_pool_block {
    struct mesh_pool_block *next;
};

static const struct {
    size_t bytes;
    unsigned max; /* blocks kept, 4 MiB of each class */
} classes[MESH_POOL_CLASSES] = {
    {64u * 1024 + MESH_OVERHEAD_MAX, 64},
    {MESH_FRAME_BYTES_MAX + MESH_OVERHEAD_MAX, 16},
};

int mesh_pool_init(struct mesh_pool *pool)
{
    return uv_mutex_init(&pool->lock);
}

void mesh_pool_release(struct mesh_pool *pool)
{
    size_t i;

    for (i = 0; i < MESH_POOL_CLASSES; i++) {
        while (pool->free[i]) {
            struct mesh_pool_block *next = pool->free[i]->next;

            free(pool->free[i]);
            pool->free[i] = next;
        }
    }
    uv_mutex_destroy(&pool->lock);
}

static void put_back(struct mesh_pool *pool, size_t which, void *data)
{
    struct mesh_pool_block *block = data;

    uv_mutex_lock(&pool->lock);
    if (pool->count[which] < classes[which].max) {
        block->next = pool->free[which];
        pool->free[which] = block;
        pool->count[which]++;
        block = NULL;
    }
    uv_mutex_unlock(&pool->lock);
    free(block);
}

static void put_small(void *data, void *hint)
{
    put_back(hint, 0, data);
}

static void put_large(void *data, void *hint)
{
    put_back(hint, 1, data);
}

static void *take(struct mesh_pool *pool, size_t which)
{
    struct mesh_pool_block *block;

    uv_mutex_lock(&pool->lock);
    block = pool->free[which];
    if (block) {
        pool->free[which] = block->next;
        pool->count[which]--;
    }
    uv_mutex_unlock(&pool->lock);
    return block ? block : malloc(classes[which].bytes);
}

mesh_free_fn mesh_pool_buf(struct mesh_pool *pool, struct shl_buf *buf, size_t bytes)
{
    size_t which = bytes <= classes[0].bytes ? 0 : 1;

    shl_buf_init(buf, bytes);
    if (bytes <= MESH_POOL_FROM || bytes > classes[which].bytes) {
        return NULL;
    }
    buf->heap = take(pool, which);
    if (!buf->heap) {
        return NULL; /* then the ordinary way fails too, and says so */
    }
    buf->cap = classes[which].bytes;
    return which ? put_large : put_small;
}
