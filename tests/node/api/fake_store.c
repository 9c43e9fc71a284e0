#include <stdlib.h>
#include <string.h>

#include "tests/node/api/fake.h"

struct record {
    char *kind;
    char *id;
    uint8_t *value;
    size_t len;
};

struct node_store {
    struct record records[256];
    size_t count;
};

struct node_store *fake_store_new(void)
{
    return calloc(1, sizeof(struct node_store));
}

void node_store_close(struct node_store *store)
{
    for (size_t i = 0; i < store->count; i++) {
        free(store->records[i].kind);
        free(store->records[i].id);
        free(store->records[i].value);
    }
    free(store);
}

static struct record *find(struct node_store *store, const char *kind, const char *id)
{
    for (size_t i = 0; i < store->count; i++) {
        if (strcmp(store->records[i].kind, kind) == 0 && strcmp(store->records[i].id, id) == 0) {
            return &store->records[i];
        }
    }
    return NULL;
}

int node_store_put(struct node_store *store,
                   const char *kind,
                   const char *id,
                   struct shl_bytes value,
                   struct shl_err *err)
{
    struct record *record = find(store, kind, id);

    if (!record) {
        if (store->count == SHL_ARRAY_SIZE(store->records)) {
            return shl_err_set(err, SHL_ELIMIT, "the fake store is full");
        }
        record = &store->records[store->count++];
        record->kind = strdup(kind);
        record->id = strdup(id);
    } else {
        free(record->value);
    }
    record->value = malloc(value.len + 1);
    memcpy(record->value, value.base, value.len);
    record->len = value.len;
    return 0;
}

int node_store_get(struct node_store *store,
                   const char *kind,
                   const char *id,
                   struct shl_buf *buf,
                   struct shl_err *err)
{
    struct record *record = find(store, kind, id);

    return record ? shl_buf_append(buf, record->value, record->len)
                  : shl_err_set(err, SHL_ENOTFOUND, "no %s/%s", kind, id);
}

int node_store_delete(struct node_store *store,
                      const char *kind,
                      const char *id,
                      struct shl_err *err)
{
    struct record *record = find(store, kind, id);

    if (!record) {
        return shl_err_set(err, SHL_ENOTFOUND, "no %s/%s", kind, id);
    }
    free(record->kind);
    free(record->id);
    free(record->value);
    *record = store->records[--store->count];
    return 0;
}

int node_store_each(struct node_store *store,
                    const char *kind,
                    bool (*each)(void *arg, const char *id, struct shl_bytes value),
                    void *arg,
                    struct shl_err *err)
{
    (void)err;
    for (size_t i = 0; i < store->count; i++) {
        struct record *record = &store->records[i];

        if (strcmp(record->kind, kind) == 0 &&
            !each(arg, record->id, shl_bytes_of(record->value, record->len))) {
            break;
        }
    }
    return 0;
}

bool fake_store_contains(struct node_store *store, const char *text)
{
    for (size_t i = 0; i < store->count; i++) {
        struct record *record = &store->records[i];

        if (strstr(record->id, text) ||
            memmem(record->value, record->len, text, strlen(text)) != NULL) {
            return true;
        }
    }
    return false;
}
