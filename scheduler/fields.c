#include "scheduler/fields.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/node_id.h"
#include "base/sum.h"

static const void *field_at(const struct sched_field *field, const void *object)
{
    return (const uint8_t *)object + field->at;
}

static uint32_t nodes_count(const struct sched_field *field, const void *object)
{
    uint32_t count;

    memcpy(&count, (const uint8_t *)object + field->count_at, sizeof(count));
    return count;
}

static uint64_t number_of(const struct sched_field *field, const void *object)
{
    uint64_t wide;
    uint32_t narrow;

    if (field->type == SCHED_FIELD_U64) {
        memcpy(&wide, field_at(field, object), sizeof(wide));
        return wide;
    }
    memcpy(&narrow, field_at(field, object), sizeof(narrow));
    return narrow;
}

/*- Rules. */

static bool is_zero(const uint8_t *bytes, size_t len)
{
    size_t i;

    for (i = 0; i < len; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

static bool is_word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

static const char *text_fault(const struct sched_field *field, const char *text)
{
    size_t len = strnlen(text, field->size);
    size_t i;

    if (len == field->size) {
        return "is too long";
    }
    if (len == 0) {
        return field->flags & SCHED_FIELD_NONEMPTY ? "is empty" : NULL;
    }
    for (i = 0; i < len; i++) {
        uint8_t c = (uint8_t)text[i];

        if (c < 0x20 || c == 0x7f) {
            return "has a control character";
        }
        if ((field->flags & SCHED_FIELD_WORD) && !is_word_char(text[i])) {
            return "has a character other than letters, digits, '.', '_' and '-'";
        }
    }
    return NULL;
}

/* What is wrong with a field that is there, NULL when nothing is. */
static const char *field_fault(const struct sched_field *field, const void *object)
{
    bool needed = (field->flags & SCHED_FIELD_NONEMPTY) != 0;
    const struct shl_bytes *blob;

    switch (field->type) {
    case SCHED_FIELD_BOOL:
        return NULL;
    case SCHED_FIELD_U32:
    case SCHED_FIELD_U64:
        if (number_of(field, object) > field->max) {
            return "is too large";
        }
        return needed && number_of(field, object) == 0 ? "is zero" : NULL;
    case SCHED_FIELD_TEXT:
        return text_fault(field, field_at(field, object));
    case SCHED_FIELD_FIXED:
        return needed && is_zero(field_at(field, object), field->size) ? "is all zeros" : NULL;
    case SCHED_FIELD_BLOB:
        blob = field_at(field, object);
        if (blob->len > field->max) {
            return "is too long";
        }
        return needed && blob->len == 0 ? "is empty" : NULL;
    case SCHED_FIELD_NODES:
        return nodes_count(field, object) > field->size ? "has too many entries" : NULL;
    }
    return "is of no known type";
}

int sched_fields_check(const struct sched_fields *f, const void *object, struct shl_err *err)
{
    size_t i;

    for (i = 0; i < f->count; i++) {
        const char *fault = field_fault(&f->items[i], object);

        if (fault) {
            return shl_err_set(err, SHL_EINVALIDARG, "field \"%s\" %s", f->items[i].key, fault);
        }
    }
    return 0;
}

/*- Writing. */

static void write_field(struct shl_mp_writer *w,
                        const struct sched_field *field,
                        const void *object)
{
    const void *at = field_at(field, object);
    const struct shl_bytes *blob;
    const struct shl_node_id *nodes;
    uint32_t i, count;

    switch (field->type) {
    case SCHED_FIELD_BOOL:
        shl_mp_bool(w, *(const bool *)at);
        break;
    case SCHED_FIELD_U32:
    case SCHED_FIELD_U64:
        shl_mp_uint(w, number_of(field, object));
        break;
    case SCHED_FIELD_TEXT:
        shl_mp_str(w, at);
        break;
    case SCHED_FIELD_FIXED:
        shl_mp_bin(w, at, field->size);
        break;
    case SCHED_FIELD_BLOB:
        blob = at;
        shl_mp_bin(w, blob->base, blob->len);
        break;
    case SCHED_FIELD_NODES:
        nodes = at;
        count = nodes_count(field, object);
        shl_mp_array(w);
        for (i = 0; i < count; i++) {
            shl_mp_bin(w, nodes[i].bytes, sizeof(nodes[i].bytes));
        }
        shl_mp_end(w);
        break;
    }
}

void sched_fields_write(struct shl_mp_writer *w, const struct sched_fields *f, const void *object)
{
    size_t i;

    for (i = 0; i < f->count; i++) {
        shl_mp_str(w, f->items[i].key);
        write_field(w, &f->items[i], object);
    }
}

/*- Reading. */

static int read_number(const msgpack_object *map, const struct sched_field *field, void *at)
{
    uint64_t max = field->type == SCHED_FIELD_U32 ? UINT32_MAX : UINT64_MAX;
    uint64_t value = 0;
    uint32_t narrow;
    int rc = shl_mp_get_uint(map, field->key, max, &value);

    if (rc < 0) {
        return rc;
    }
    narrow = (uint32_t)value;
    if (field->type == SCHED_FIELD_U32) {
        memcpy(at, &narrow, sizeof(narrow));
    } else {
        memcpy(at, &value, sizeof(value));
    }
    return 0;
}

static int read_nodes(const msgpack_object *map, const struct sched_field *field, void *object)
{
    const msgpack_object *list = shl_mp_find(map, field->key);
    uint8_t *to = (uint8_t *)object + field->at;
    uint32_t i;

    if (!list) {
        return SHL_ENOTFOUND;
    }
    if (list->type != MSGPACK_OBJECT_ARRAY) {
        return SHL_EPROTO;
    }
    if (list->via.array.size > field->size) {
        return SHL_ELIMIT;
    }
    for (i = 0; i < list->via.array.size; i++) {
        const msgpack_object *item = &list->via.array.ptr[i];

        if (item->type != MSGPACK_OBJECT_BIN || item->via.bin.size != SHL_NODE_ID_BYTES) {
            return SHL_EPROTO;
        }
        memcpy(to + (size_t)i * SHL_NODE_ID_BYTES, item->via.bin.ptr, SHL_NODE_ID_BYTES);
    }
    memcpy((uint8_t *)object + field->count_at, &i, sizeof(i));
    return 0;
}

static int read_field(const msgpack_object *map, const struct sched_field *field, void *object)
{
    void *at = (uint8_t *)object + field->at;
    struct shl_bytes bytes;
    int rc;

    switch (field->type) {
    case SCHED_FIELD_BOOL:
        return shl_mp_get_bool(map, field->key, at);
    case SCHED_FIELD_U32:
    case SCHED_FIELD_U64:
        return read_number(map, field, at);
    case SCHED_FIELD_TEXT:
        rc = shl_mp_get_str(map, field->key, &bytes);
        if (rc == 0 && bytes.len >= field->size) {
            return SHL_ELIMIT;
        }
        return rc < 0 ? rc : shl_mp_get_cpy(map, field->key, at, field->size);
    case SCHED_FIELD_FIXED:
        rc = shl_mp_get_bin(map, field->key, &bytes);
        if (rc == 0 && bytes.len != field->size) {
            return SHL_EPROTO;
        }
        if (rc == 0) {
            memcpy(at, bytes.base, bytes.len);
        }
        return rc;
    case SCHED_FIELD_BLOB:
        rc = shl_mp_get_bin(map, field->key, at);
        return rc;
    case SCHED_FIELD_NODES:
        return read_nodes(map, field, object);
    }
    return SHL_EPROTO;
}

int sched_fields_read(const msgpack_object *map,
                      const struct sched_fields *f,
                      void *object,
                      struct shl_err *err)
{
    size_t i;

    for (i = 0; i < f->count; i++) {
        const struct sched_field *field = &f->items[i];
        const char *fault;
        int rc = read_field(map, field, object);

        if (rc == SHL_ENOTFOUND && (field->flags & SCHED_FIELD_OPTIONAL)) {
            continue;
        }
        if (rc == SHL_ELIMIT) {
            return shl_err_set(err, rc, "field \"%s\" is too long", field->key);
        }
        if (rc < 0) {
            return shl_err_set(err, SHL_EPROTO, "field \"%s\" is missing or of another type",
                               field->key);
        }
        fault = field_fault(field, object);
        if (fault) {
            return shl_err_set(err, field->type == SCHED_FIELD_BLOB ? SHL_ELIMIT : SHL_EPROTO,
                               "field \"%s\" %s", field->key, fault);
        }
    }
    return 0;
}

/*- Order, hash, ownership. */

static int compare_numbers(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

int sched_fields_compare(const struct sched_fields *f, size_t keys, const void *a, const void *b)
{
    size_t i;
    int order = 0;

    for (i = 0; i < keys && order == 0; i++) {
        const struct sched_field *field = &f->items[i];

        if (field->type == SCHED_FIELD_TEXT) {
            order = strcmp(field_at(field, a), field_at(field, b));
        } else if (field->type == SCHED_FIELD_FIXED) {
            order = memcmp(field_at(field, a), field_at(field, b), field->size);
        } else {
            assert(field->type == SCHED_FIELD_U32 || field->type == SCHED_FIELD_U64);
            order = compare_numbers(number_of(field, a), number_of(field, b));
        }
    }
    return order;
}

static uint64_t hash_number(uint64_t hash, uint64_t number)
{
    uint8_t bytes[8];

    shl_put_le64(bytes, number);
    return shl_sum(hash, bytes, sizeof(bytes));
}

/* Lengths go in with the bytes, so that no two lists of fields read the same. */
static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t len)
{
    hash = hash_number(hash, len);
    return len > 0 ? shl_sum(hash, bytes, len) : hash;
}

uint64_t sched_fields_hash(uint64_t hash, const struct sched_fields *f, const void *object)
{
    size_t i;

    for (i = 0; i < f->count; i++) {
        const struct sched_field *field = &f->items[i];
        const void *at = field_at(field, object);
        const struct shl_bytes *blob;

        switch (field->type) {
        case SCHED_FIELD_BOOL:
            hash = hash_number(hash, *(const bool *)at);
            break;
        case SCHED_FIELD_U32:
        case SCHED_FIELD_U64:
            if (number_of(field, object) != 0 || !(field->flags & SCHED_FIELD_OPTIONAL)) {
                hash = hash_number(hash, number_of(field, object));
            }
            break;
        case SCHED_FIELD_TEXT:
            hash = hash_bytes(hash, at, strlen(at));
            break;
        case SCHED_FIELD_FIXED:
            hash = hash_bytes(hash, at, field->size);
            break;
        case SCHED_FIELD_BLOB:
            blob = at;
            hash = hash_bytes(hash, blob->base, blob->len);
            break;
        case SCHED_FIELD_NODES:
            hash = hash_bytes(hash, at, nodes_count(field, object) * sizeof(struct shl_node_id));
            break;
        }
    }
    return hash;
}

int sched_fields_own(const struct sched_fields *f, void *object)
{
    size_t i, j;

    for (i = 0; i < f->count; i++) {
        struct shl_bytes *blob = (struct shl_bytes *)(void *)((uint8_t *)object + f->items[i].at);
        uint8_t *copy;

        if (f->items[i].type != SCHED_FIELD_BLOB) {
            continue;
        }
        copy = malloc(blob->len > 0 ? blob->len : 1);
        if (!copy) {
            for (j = 0; j < f->count; j++) { /* copies behind @i were not made */
                if (f->items[j].type == SCHED_FIELD_BLOB) {
                    blob = (struct shl_bytes *)(void *)((uint8_t *)object + f->items[j].at);
                    if (j < i) {
                        free((void *)(uintptr_t)blob->base);
                    }
                    *blob = shl_bytes_of(NULL, 0);
                }
            }
            return -ENOMEM;
        }
        if (blob->len > 0) {
            memcpy(copy, blob->base, blob->len);
        }
        *blob = shl_bytes_of(copy, blob->len);
    }
    return 0;
}

void sched_fields_release(const struct sched_fields *f, void *object)
{
    size_t i;

    for (i = 0; i < f->count; i++) {
        if (f->items[i].type == SCHED_FIELD_BLOB) {
            struct shl_bytes *blob =
                (struct shl_bytes *)(void *)((uint8_t *)object + f->items[i].at);

            free((void *)(uintptr_t)blob->base);
            *blob = shl_bytes_of(NULL, 0);
        }
    }
}
