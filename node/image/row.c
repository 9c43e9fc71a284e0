#include "node/image/row.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mp.h"

#define ROW_VERSION 1

static const char *const status_texts[] =
    {[IMAGE_BUILDING] = "building", [IMAGE_READY] = "ready", [IMAGE_FAILED] = "failed"};

const char *image_status_text(enum image_status status)
{
    return status_texts[status];
}

int image_row_encode(const struct image_row *row, struct shl_buf *buf)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", ROW_VERSION);
    shl_mp_kv_uint(&w, "status", row->status);
    shl_mp_kv_bool(&w, "layer", row->is_layer);
    shl_mp_kv_str(&w, "id", row->id);
    shl_mp_kv_str(&w, "hash", row->hash);
    shl_mp_kv_str(&w, "node", row->node);
    shl_mp_kv_uint(&w, "boot", row->boot);
    shl_mp_kv_uint(&w, "beat", row->beat);
    shl_mp_kv_str(&w, "checkpoint", row->checkpoint);
    shl_mp_kv_int(&w, "created", row->created_at_ms);
    shl_mp_kv_int(&w, "used", row->used_at_ms);
    shl_mp_kv_str(&w, "error", row->error);
    if (row->manifest) {
        shl_mp_kv_str(&w, "manifest", row->manifest);
    }
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

static bool is_hash(const char *text)
{
    return strlen(text) == IMAGE_HASH_SIZE - 1 &&
           strspn(text, "0123456789abcdef") == IMAGE_HASH_SIZE - 1;
}

static int decode_texts(const msgpack_object *map, struct image_row *row)
{
    const struct {
        const char *key;
        char *dst;
        size_t size;
    } fields[] = {
        {"id", row->id, sizeof(row->id)},
        {"hash", row->hash, sizeof(row->hash)},
        {"node", row->node, sizeof(row->node)},
        {"checkpoint", row->checkpoint, sizeof(row->checkpoint)},
        {"error", row->error, sizeof(row->error)},
    };
    size_t i;
    int rc = 0;

    for (i = 0; rc == 0 && i < SHL_ARRAY_SIZE(fields); i++) {
        rc = shl_mp_get_cpy(map, fields[i].key, fields[i].dst, fields[i].size);
    }
    if (rc == 0 && shl_mp_find(map, "manifest")) {
        rc = shl_mp_get_dup(map, "manifest", &row->manifest);
    }
    return rc == 0 && !is_hash(row->hash) ? SHL_EPROTO : rc;
}

static int decode_map(const msgpack_object *map, struct image_row *row)
{
    uint64_t version, status = 0;
    int rc = shl_mp_get_uint(map, "v", ROW_VERSION, &version);

    if (rc == 0) {
        rc = shl_mp_get_uint(map, "status", IMAGE_FAILED, &status);
        row->status = (enum image_status)status;
    }
    if (rc == 0) {
        rc = shl_mp_get_bool(map, "layer", &row->is_layer);
    }
    if (rc == 0) {
        rc = shl_mp_get_uint(map, "boot", UINT64_MAX, &row->boot);
    }
    if (rc == 0) {
        rc = shl_mp_get_uint(map, "beat", UINT64_MAX, &row->beat);
    }
    if (rc == 0) {
        rc = shl_mp_get_int(map, "created", &row->created_at_ms);
    }
    if (rc == 0) {
        rc = shl_mp_get_int(map, "used", &row->used_at_ms);
    }
    if (rc == 0) {
        rc = decode_texts(map, row);
    }
    return rc == 0 && (status < IMAGE_BUILDING || row->created_at_ms < 0 || row->used_at_ms < 0 ||
                       (row->status == IMAGE_READY && row->checkpoint[0] == '\0'))
               ? SHL_EPROTO
               : rc;
}

int image_row_decode(struct shl_bytes value, struct image_row *ret)
{
    struct image_row row = {.id = ""};
    struct shl_mp_doc doc;
    int rc = shl_mp_parse(&doc, value);

    if (rc < 0) {
        return rc == -ENOMEM ? rc : SHL_ECORRUPT;
    }
    rc = decode_map(doc.root, &row);
    shl_mp_release(&doc);
    if (rc < 0) {
        image_row_release(&row);
        return rc == -ENOMEM ? rc : SHL_ECORRUPT;
    }
    *ret = row;
    return 0;
}

void image_row_release(struct image_row *row)
{
    free(row->manifest);
    row->manifest = NULL;
}

void image_row_image_key(char dst[IMAGE_ROW_KEY_SIZE],
                         const char *org,
                         const char *hash,
                         const char *identity)
{
    (void)snprintf(dst, IMAGE_ROW_KEY_SIZE, IMAGE_ROW_IMAGE "%s/%s.%.32s", org, hash,
                   identity ? identity : "");
}

void image_row_snapshot_key(char dst[IMAGE_ROW_KEY_SIZE], const char *org, const char *name)
{
    (void)snprintf(dst, IMAGE_ROW_KEY_SIZE, IMAGE_ROW_SNAPSHOT "%s/%s", org, name);
}

/* ---- the manifest for a row --------------------------------------------------------- */

/* Of what base64 stands for, or of other text. */
static size_t content_bytes(const char *text, bool is_base64)
{
    size_t count = 0;

    if (!is_base64) {
        return strlen(text);
    }
    for (; *text != '\0'; text++) {
        count += !strchr("\r\n =", *text);
    }
    return count * 3 / 4;
}

static void drop_content(json_t *file)
{
    const char *content = json_string_value(json_object_get(file, "content"));
    const char *encoding = json_string_value(json_object_get(file, "encoding"));

    if (content) {
        size_t bytes = content_bytes(content, !encoding || strcmp(encoding, "utf8") != 0);

        (void)json_object_set_new(file, "contentBytes", json_integer((json_int_t)bytes));
        (void)json_object_del(file, "content");
    }
}

static void drop_contents(json_t *manifest)
{
    json_t *steps = json_object_get(manifest, "steps");
    size_t i, k;

    for (i = 0; i < json_array_size(steps); i++) {
        json_t *step = json_array_get(steps, i);
        json_t *args = json_object_get(step, "args");
        json_t *files = json_object_get(args ? args : step, "files");

        drop_content(args ? args : step);
        for (k = 0; k < json_array_size(files); k++) {
            drop_content(json_array_get(files, k));
        }
    }
}

static bool fits(const char *text)
{
    return text && strlen(text) <= IMAGE_MANIFEST_MAX;
}

char *image_manifest_text(const struct image_manifest *manifest)
{
    char *text = json_dumps(manifest->json, JSON_COMPACT);
    json_t *copy;

    if (!text || fits(text)) {
        return text;
    }
    free(text);
    copy = json_deep_copy(manifest->json);
    if (!copy) {
        return NULL;
    }
    drop_contents(copy);
    text = json_dumps(copy, JSON_COMPACT);
    if (text && !fits(text)) {
        free(text);
        (void)json_object_set_new(copy, "steps", json_array());
        (void)json_object_set_new(copy, "stepCount",
                                  json_integer((json_int_t)manifest->step_count));
        text = json_dumps(copy, JSON_COMPACT);
    }
    json_decref(copy);
    if (text && !fits(text)) { /* fields that mean nothing */
        free(text);
        text = strdup("{}");
    }
    return text;
}
