#include "node/secret/use.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mp.h"

bool node_secret_name_is_valid(const char *name)
{
    size_t i;

    for (i = 0; name[i] != '\0'; i++) {
        bool letter = isalpha((unsigned char)name[i]) || name[i] == '_';

        if (i >= NODE_SECRET_NAME_SIZE - 1 ||
            (!letter && (i == 0 || !isdigit((unsigned char)name[i])))) {
            return false;
        }
    }
    return i > 0;
}

void node_secret_use_drop_tokens(struct node_secret_use *use)
{
    size_t i;

    for (i = 0; i < use->token_count; i++) {
        free(use->tokens[i].name);
    }
    free(use->tokens);
    use->tokens = NULL;
    use->token_count = 0;
}

size_t node_secret_use_env_bytes(const struct node_secret_use *use)
{
    size_t bytes = 0, i;

    for (i = 0; i < use->token_count; i++) {
        bytes += strlen(use->tokens[i].name) + NODE_SEALED_SIZE;
    }
    return bytes;
}

void node_secret_use_release(struct node_secret_use *use)
{
    node_secret_use_drop_tokens(use);
    node_host_list_release(&use->allowlist);
    memset(use, 0, sizeof(*use));
}

int node_secret_use_add_store(struct node_secret_use *use, const char *id, const char *name)
{
    struct node_secret_ref ref = {.id = ""};
    size_t i;

    if (strlen(id) >= sizeof(ref.id) || strlen(name) >= sizeof(ref.name)) {
        return SHL_ELIMIT;
    }
    memcpy(ref.id, id, strlen(id) + 1);
    memcpy(ref.name, name, strlen(name) + 1);
    for (i = 0; i < use->store_count; i++) {
        if (strcmp(use->stores[i].id, id) == 0) {
            memmove(&use->stores[i], &use->stores[i + 1],
                    (use->store_count - i - 1) * sizeof(use->stores[0]));
            use->store_count--;
            break;
        }
    }
    if (use->store_count >= NODE_USE_STORES_MAX) {
        return SHL_ELIMIT;
    }
    use->stores[use->store_count++] = ref;
    return 0;
}

static struct node_secret_token *find(struct node_secret_use *use, const char *name)
{
    size_t i;

    for (i = 0; i < use->token_count; i++) {
        if (strcmp(use->tokens[i].name, name) == 0) {
            return &use->tokens[i];
        }
    }
    return NULL;
}

static int put(struct node_secret_use *use, const char *name, const char *store, const char *token)
{
    struct node_secret_token *at = find(use, name);

    if (!node_secret_name_is_valid(name) || !node_store_id_is_valid(store)) {
        return SHL_EPROTO;
    }
    if (!at) {
        struct node_secret_token *grown;

        if (use->token_count >= NODE_EGRESS_SECRETS_MAX) {
            return SHL_ELIMIT;
        }
        grown = realloc(use->tokens, (use->token_count + 1) * sizeof(*grown));
        if (!grown) {
            return -ENOMEM;
        }
        use->tokens = grown;
        at = &grown[use->token_count];
        memset(at, 0, sizeof(*at));
        at->name = strdup(name);
        if (!at->name) {
            return -ENOMEM;
        }
        use->token_count++;
    }
    memcpy(at->store, store, NODE_STORE_ID_SIZE);
    memcpy(at->token, token, NODE_SEALED_SIZE);
    return 0;
}

int node_secret_use_add(struct node_secret_use *use, const char *name, const char *store_id)
{
    char token[NODE_SEALED_SIZE];

    node_sealed_make(token);
    return put(use, name, store_id, token);
}

int node_secret_use_copy(struct node_secret_use *dst,
                         const struct node_secret_use *src,
                         bool with_tokens)
{
    size_t i;
    int rc;

    memset(dst, 0, sizeof(*dst));
    memcpy(dst->stores, src->stores, sizeof(dst->stores));
    dst->store_count = src->store_count;
    rc = node_host_list_copy(&dst->allowlist, &src->allowlist);
    for (i = 0; rc == 0 && with_tokens && i < src->token_count; i++) {
        rc = put(dst, src->tokens[i].name, src->tokens[i].store, src->tokens[i].token);
    }
    if (rc < 0) {
        node_secret_use_release(dst);
    }
    return rc < 0 ? -ENOMEM : 0;
}

/*- Records. */

void node_secret_use_encode(struct shl_mp_writer *w,
                            const char *key,
                            const struct node_secret_use *use)
{
    size_t i;

    if (use->store_count == 0 && use->allowlist.count == 0) {
        return;
    }
    shl_mp_kv_map(w, key);
    shl_mp_kv_array(w, "stores");
    for (i = 0; i < use->store_count; i++) {
        shl_mp_str(w, use->stores[i].id);
        shl_mp_str(w, use->stores[i].name);
    }
    shl_mp_end(w);
    shl_mp_kv_array(w, "tokens");
    for (i = 0; i < use->token_count; i++) {
        shl_mp_str(w, use->tokens[i].name);
        shl_mp_str(w, use->tokens[i].store);
        shl_mp_str(w, use->tokens[i].token);
    }
    shl_mp_end(w);
    node_host_list_encode(w, "allow", &use->allowlist);
    shl_mp_end(w);
}

static const msgpack_object *array_of(const msgpack_object *map,
                                      const char *key,
                                      uint32_t stride,
                                      uint32_t max)
{
    const msgpack_object *found = shl_mp_find(map, key);

    return found && found->type == MSGPACK_OBJECT_ARRAY && found->via.array.size % stride == 0 &&
                   found->via.array.size / stride <= max
               ? found
               : NULL;
}

static int text_of(const msgpack_object *object, char *dst, size_t size)
{
    if (object->type != MSGPACK_OBJECT_STR || object->via.str.size >= size ||
        memchr(object->via.str.ptr, '\0', object->via.str.size)) {
        return SHL_EPROTO;
    }
    memcpy(dst, object->via.str.ptr, object->via.str.size);
    dst[object->via.str.size] = '\0';
    return 0;
}

static int decode_stores(const msgpack_object *map, struct node_secret_use *use)
{
    const msgpack_object *array = array_of(map, "stores", 2, NODE_USE_STORES_MAX);
    uint32_t i;
    int rc = array ? 0 : SHL_EPROTO;

    for (i = 0; rc == 0 && i < array->via.array.size; i += 2) {
        struct node_secret_ref ref;

        rc = text_of(&array->via.array.ptr[i], ref.id, sizeof(ref.id));
        if (rc == 0) {
            rc = text_of(&array->via.array.ptr[i + 1], ref.name, sizeof(ref.name));
        }
        if (rc == 0) {
            rc = node_store_id_is_valid(ref.id) ? node_secret_use_add_store(use, ref.id, ref.name)
                                                : SHL_EPROTO;
        }
    }
    return rc;
}

static int decode_tokens(const msgpack_object *map, struct node_secret_use *use)
{
    const msgpack_object *array = array_of(map, "tokens", 3, NODE_EGRESS_SECRETS_MAX);
    uint32_t i;
    int rc = array ? 0 : SHL_EPROTO;

    for (i = 0; rc == 0 && i < array->via.array.size; i += 3) {
        const msgpack_object *at = &array->via.array.ptr[i];
        char name[NODE_SECRET_NAME_SIZE], store[NODE_STORE_ID_SIZE], token[NODE_SEALED_SIZE];

        rc = text_of(&at[0], name, sizeof(name));
        if (rc == 0) {
            rc = text_of(&at[1], store, sizeof(store));
        }
        if (rc == 0) {
            rc = text_of(&at[2], token, sizeof(token));
        }
        if (rc == 0) {
            rc = node_sealed_is_valid(token, strlen(token)) ? put(use, name, store, token)
                                                            : SHL_EPROTO;
        }
    }
    return rc;
}

int node_secret_use_decode(const msgpack_object *map, const char *key, struct node_secret_use *ret)
{
    const msgpack_object *found = shl_mp_find(map, key);
    struct node_secret_use use = {.store_count = 0};
    int rc;

    if (!found) {
        return 0;
    }
    rc = found->type == MSGPACK_OBJECT_MAP ? decode_stores(found, &use) : SHL_EPROTO;
    if (rc == 0) {
        rc = decode_tokens(found, &use);
    }
    if (rc == 0) {
        rc = node_host_list_decode(found, "allow", NODE_EGRESS_PATTERNS_MAX, &use.allowlist);
    }
    if (rc < 0) {
        node_secret_use_release(&use);
        return rc == -ENOMEM ? rc : SHL_EPROTO;
    }
    *ret = use;
    return 0;
}
