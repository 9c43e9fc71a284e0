#include "node/sandbox/preview.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void node_previews_release(struct node_previews *set)
{
    for (size_t i = 0; i < set->count; i++) {
        free(set->items[i].auth_config);
    }
    free(set->items);
    *set = (struct node_previews){.count = 0};
}

int node_previews_copy(struct node_previews *dst, const struct node_previews *src)
{
    int rc = 0;

    *dst = (struct node_previews){.has_token = src->has_token};
    memcpy(dst->token_hash, src->token_hash, sizeof(dst->token_hash));
    for (size_t i = 0; i < src->count && rc == 0; i++) {
        rc = node_previews_add(dst, &src->items[i]);
    }
    if (rc < 0) {
        node_previews_release(dst);
    }
    return rc;
}

/* Where @port is, or would be. */
static size_t place_of(const struct node_previews *set, uint16_t port)
{
    size_t at = 0;

    while (at < set->count && set->items[at].port < port) {
        at++;
    }
    return at;
}

const struct node_preview *node_previews_find(const struct node_previews *set, uint16_t port)
{
    size_t at = place_of(set, port);

    return at < set->count && set->items[at].port == port ? &set->items[at] : NULL;
}

int node_previews_add(struct node_previews *set, const struct node_preview *preview)
{
    size_t at = place_of(set, preview->port);
    struct node_preview *items;
    char *config;

    if (preview->port == 0 || strlen(preview->auth_config) > NODE_PREVIEW_CONFIG_MAX) {
        return SHL_EINVALIDARG;
    }
    if (at < set->count && set->items[at].port == preview->port) {
        return SHL_ECONFLICT;
    }
    if (set->count >= NODE_PREVIEWS_MAX) {
        return SHL_EQUOTA;
    }
    config = strdup(preview->auth_config);
    items = config ? realloc(set->items, (set->count + 1) * sizeof(*items)) : NULL;
    if (!items) {
        free(config);
        return -ENOMEM;
    }
    set->items = items;
    memmove(items + at + 1, items + at, (set->count - at) * sizeof(*items));
    items[at] = *preview;
    items[at].auth_config = config;
    set->count++;
    return 0;
}

bool node_previews_remove(struct node_previews *set, uint16_t port)
{
    size_t at = place_of(set, port);

    if (!node_previews_find(set, port)) {
        return false;
    }
    free(set->items[at].auth_config);
    set->count--;
    memmove(set->items + at, set->items + at + 1, (set->count - at) * sizeof(*set->items));
    return true;
}

/* ---- as msgpack ------------------------------------------------------------------ */

void node_previews_encode(struct shl_mp_writer *w, const struct node_previews *set)
{
    if (set->has_token) {
        shl_mp_kv_bin(w, "preview_token", set->token_hash, sizeof(set->token_hash));
    }
    if (set->count == 0) {
        return;
    }
    shl_mp_kv_array(w, "previews");
    for (size_t i = 0; i < set->count; i++) {
        shl_mp_map(w);
        shl_mp_kv_str(w, "id", set->items[i].id);
        shl_mp_kv_uint(w, "port", set->items[i].port);
        shl_mp_kv_int(w, "created_at_ms", set->items[i].created_at_ms);
        shl_mp_kv_str(w, "config", set->items[i].auth_config);
        shl_mp_end(w);
    }
    shl_mp_end(w);
}

static int decode_one(const msgpack_object *map, struct node_previews *set)
{
    struct node_preview preview = {.port = 0};
    uint64_t port = 0;
    int rc = shl_mp_get_cpy(map, "id", preview.id, sizeof(preview.id));

    if (rc == 0) {
        rc = shl_mp_get_uint(map, "port", UINT16_MAX, &port);
        preview.port = (uint16_t)port;
    }
    if (rc == 0) {
        rc = shl_mp_get_int(map, "created_at_ms", &preview.created_at_ms);
    }
    if (rc == 0) {
        rc = shl_mp_get_dup(map, "config", &preview.auth_config);
    }
    if (rc == 0) {
        rc = node_previews_add(set, &preview);
    }
    free(preview.auth_config);
    return rc == 0 || rc == -ENOMEM ? rc : SHL_EPROTO;
}

int node_previews_decode(const msgpack_object *map, struct node_previews *set)
{
    const msgpack_object *list = shl_mp_find(map, "previews");
    struct shl_bytes hash;
    int rc = 0;

    if (shl_mp_find(map, "preview_token")) {
        if (shl_mp_get_bin(map, "preview_token", &hash) < 0 ||
            hash.len != sizeof(set->token_hash)) {
            return SHL_EPROTO;
        }
        memcpy(set->token_hash, hash.base, hash.len);
        set->has_token = true;
    }
    if (list && (list->type != MSGPACK_OBJECT_ARRAY || list->via.array.size > NODE_PREVIEWS_MAX)) {
        return SHL_EPROTO;
    }
    for (uint32_t i = 0; list && rc == 0 && i < list->via.array.size; i++) {
        rc = decode_one(&list->via.array.ptr[i], set);
    }
    return rc;
}
