/* Rows and commands as lists of fields: one description serves encoding, decoding of
 * hostile bytes, comparing, hashing and releasing. Internal to scheduler/. */
#ifndef SHL_SCHEDULER_FIELDS_H
#define SHL_SCHEDULER_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mp.h"

enum sched_field_type {
    SCHED_FIELD_BOOL,
    SCHED_FIELD_U32,
    SCHED_FIELD_U64,
    SCHED_FIELD_TEXT,  /* char array, no control characters */
    SCHED_FIELD_FIXED, /* byte array of exactly this size */
    SCHED_FIELD_BLOB,  /* struct shl_bytes */
    SCHED_FIELD_NODES, /* array of struct shl_node_id, count at count_at */
};

#define SCHED_FIELD_OPTIONAL 1u /* absent: zero; a number that is zero has no part in the hash */
#define SCHED_FIELD_NONEMPTY 2u /* text, number or bytes that are not empty or zero */
#define SCHED_FIELD_WORD     4u /* text of letters, digits, '.', '_', '-' */

struct sched_field {
    const char *key;
    enum sched_field_type type;
    uint32_t flags;
    size_t at;       /* offset in the structure */
    size_t size;     /* text: with terminator; fixed: bytes; nodes: how many fit */
    uint64_t max;    /* numbers: highest value; blob: bytes */
    size_t count_at; /* nodes */
};

#define SCHED_MEMBER_SIZE(s, m) sizeof(((s *)0)->m)
#define SCHED_BOOL(s, m, key_)                                        \
    {                                                                 \
        .key = (key_), .type = SCHED_FIELD_BOOL, .at = offsetof(s, m) \
    }
#define SCHED_U32(s, m, key_, max_, flags_)                                          \
    {                                                                                \
        .key = (key_), .type = SCHED_FIELD_U32, .at = offsetof(s, m), .max = (max_), \
        .flags = (flags_)                                                            \
    }
#define SCHED_U64(s, m, key_, max_, flags_)                                          \
    {                                                                                \
        .key = (key_), .type = SCHED_FIELD_U64, .at = offsetof(s, m), .max = (max_), \
        .flags = (flags_)                                                            \
    }
#define SCHED_TEXT(s, m, key_, flags_)                                 \
    {                                                                  \
        .key = (key_), .type = SCHED_FIELD_TEXT, .at = offsetof(s, m), \
        .size = SCHED_MEMBER_SIZE(s, m), .flags = (flags_)             \
    }
#define SCHED_FIXED(s, m, key_, flags_)                                 \
    {                                                                   \
        .key = (key_), .type = SCHED_FIELD_FIXED, .at = offsetof(s, m), \
        .size = SCHED_MEMBER_SIZE(s, m), .flags = (flags_)              \
    }
#define SCHED_BLOB(s, m, key_, max_, flags_)                                          \
    {                                                                                 \
        .key = (key_), .type = SCHED_FIELD_BLOB, .at = offsetof(s, m), .max = (max_), \
        .flags = (flags_)                                                             \
    }
#define SCHED_NODES(s, m, count_, key_)                                 \
    {                                                                   \
        .key = (key_), .type = SCHED_FIELD_NODES, .at = offsetof(s, m), \
        .size = SCHED_MEMBER_SIZE(s, m) / sizeof(struct shl_node_id),   \
        .count_at = offsetof(s, count_)                                 \
    }

/* What a peer says of itself, in a command or a row that embeds it. */
#define SCHED_SPEC_FIELDS(s, m)                                                   \
    SCHED_FIXED(s, m.id, "id", SCHED_FIELD_NONEMPTY),                             \
        SCHED_FIXED(s, m.key, "key", SCHED_FIELD_NONEMPTY),                       \
        SCHED_TEXT(s, m.name, "name", SCHED_FIELD_NONEMPTY | SCHED_FIELD_WORD),   \
        SCHED_TEXT(s, m.control, "control", 0), SCHED_TEXT(s, m.bulk, "bulk", 0), \
        SCHED_TEXT(s, m.api, "api", 0), SCHED_TEXT(s, m.domain, "domain", 0),     \
        SCHED_U32(s, m.role, "role", SCHED_ROLE_WITNESS, 0),                      \
        SCHED_U64(s, m.features, "feat", UINT64_MAX, 0)

struct sched_fields {
    const struct sched_field *items;
    size_t count;
};

#define SCHED_FIELDS(array)            \
    {                                  \
        (array), SHL_ARRAY_SIZE(array) \
    }

/* Write each as key and value into the open map of @w. */
void sched_fields_write(struct shl_mp_writer *w, const struct sched_fields *f, const void *object);
/* Read them from @map into @object (zeroed by the caller). Blobs are borrowed. Also checks
 * the rules. SHL_EPROTO or SHL_ELIMIT with the field's name in @err. */
SHL_MUST_CHECK int sched_fields_read(const msgpack_object *map,
                                     const struct sched_fields *f,
                                     void *object,
                                     struct shl_err *err);
/* Would sched_fields_read accept what sched_fields_write makes of this? SHL_EINVALIDARG. */
SHL_MUST_CHECK int sched_fields_check(const struct sched_fields *f,
                                      const void *object,
                                      struct shl_err *err);
/* Order by the first @keys fields (fixed, text and numbers only). */
int sched_fields_compare(const struct sched_fields *f, size_t keys, const void *a, const void *b);
uint64_t sched_fields_hash(uint64_t hash, const struct sched_fields *f, const void *object);
/* Replace borrowed blobs with heap copies. 0 or -ENOMEM, then the object has none. */
SHL_MUST_CHECK int sched_fields_own(const struct sched_fields *f, void *object);
void sched_fields_release(const struct sched_fields *f, void *object);

#endif /* SHL_SCHEDULER_FIELDS_H */
