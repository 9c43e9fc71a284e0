#include "checkpoint/manifest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mp.h"
#include "checkpoint/internal.h"

#define ENTRY_BYTES 36u          /* u32 index, 32 bytes id */
#define BYTES_MAX   (1ull << 42) /* of a disk or a memory: 4 TiB, so an index fits 32 bits */

#define SECTOR 512u
#define PAGE   4096u

void ckpt_manifest_init(struct ckpt_manifest *manifest)
{
    memset(manifest, 0, sizeof(*manifest));
    shl_buf_init(&manifest->config, CKPT_CONFIG_MAX);
}

void ckpt_manifest_release(struct ckpt_manifest *manifest)
{
    free(manifest->disk.entries);
    free(manifest->memory.entries);
    free(manifest->state.entries);
    shl_buf_release(&manifest->config);
    ckpt_manifest_init(manifest);
}

static bool part_ids(const struct ckpt_part *part,
                     bool (*each)(void *arg, const struct ckpt_id *id),
                     void *arg)
{
    uint64_t i;

    for (i = 0; i < part->count; i++) {
        if (!ckpt_id_is_zero(&part->entries[i].id) && !each(arg, &part->entries[i].id)) {
            return false;
        }
    }
    return true;
}

bool ckpt_manifest_ids(const struct ckpt_manifest *manifest,
                       bool (*each)(void *arg, const struct ckpt_id *id),
                       void *arg)
{
    return part_ids(&manifest->disk, each, arg) && part_ids(&manifest->memory, each, arg) &&
           part_ids(&manifest->state, each, arg);
}

/*- Encoding. */

static int encode_entries(struct shl_mp_writer *w, const struct ckpt_part *part)
{
    uint8_t *raw = malloc(part->count * ENTRY_BYTES + 1);
    uint64_t i;

    if (!raw) {
        return -ENOMEM;
    }
    for (i = 0; i < part->count; i++) {
        shl_put_le32(raw + i * ENTRY_BYTES, (uint32_t)part->entries[i].index);
        memcpy(raw + i * ENTRY_BYTES + 4, part->entries[i].id.bytes, CKPT_ID_BYTES);
    }
    shl_mp_kv_bin(w, "chunks", raw, part->count * ENTRY_BYTES);
    free(raw);
    return 0;
}

static int encode_part(struct shl_mp_writer *w, const char *key, const struct ckpt_part *part)
{
    int rc;

    shl_mp_kv_map(w, key);
    shl_mp_kv_str(w, "base", part->base);
    shl_mp_kv_uint(w, "bytes", part->bytes);
    rc = encode_entries(w, part);
    shl_mp_end(w);
    return rc;
}

int ckpt_manifest_encode(const struct ckpt_manifest *manifest, struct shl_buf *buf)
{
    struct shl_bytes config = shl_buf_bytes(&manifest->config);
    struct shl_mp_writer w;
    int rc, done;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "version", CKPT_MANIFEST_VERSION);
    rc = encode_part(&w, "disk", &manifest->disk);
    if (rc == 0 && manifest->has_memory) {
        rc = encode_part(&w, "memory", &manifest->memory);
        rc = rc == 0 ? encode_part(&w, "state", &manifest->state) : rc;
    }
    shl_mp_kv_bin(&w, "config", config.base, config.len);
    shl_mp_kv_bin(&w, "parent", manifest->parent.bytes, CKPT_ID_BYTES);
    shl_mp_end(&w);
    done = shl_mp_done(&w);
    return rc < 0 ? rc : done;
}

/*- Decoding. */

static int bad(struct shl_err *err, const char *what)
{
    return shl_err_set(err, SHL_ECORRUPT, "the manifest is not valid: %s", what);
}

/* The limits of one part: what its size must be a multiple of and at most. */
struct rule {
    const char *key;
    uint64_t bytes_max;
    uint32_t unit;
    bool has_base;
};

static int decode_entries(struct ckpt_part *part, struct shl_bytes raw, struct shl_err *err)
{
    uint64_t chunks = (part->bytes + CKPT_CHUNK_BYTES - 1) / CKPT_CHUNK_BYTES, i;

    if (raw.len % ENTRY_BYTES != 0 || raw.len / ENTRY_BYTES > chunks) {
        return bad(err, "a list of chunks has an impossible length");
    }
    part->count = raw.len / ENTRY_BYTES;
    if (part->count == 0) {
        return 0;
    }
    part->entries = malloc(part->count * sizeof(*part->entries));
    if (!part->entries) {
        part->count = 0;
        return shl_err_sys(err, ENOMEM, "cannot read a manifest");
    }
    for (i = 0; i < part->count; i++) {
        struct ckpt_entry *entry = &part->entries[i];

        entry->index = shl_get_le32(raw.base + i * ENTRY_BYTES);
        memcpy(entry->id.bytes, raw.base + i * ENTRY_BYTES + 4, CKPT_ID_BYTES);
        if (entry->index >= chunks || (i > 0 && entry->index <= entry[-1].index)) {
            return bad(err, "chunks are not in order, or beyond the end");
        }
        if (!part->base[0] && ckpt_id_is_zero(&entry->id)) {
            return bad(err, "it lists a chunk of zeros that hides nothing");
        }
    }
    return 0;
}

static int decode_part(struct ckpt_part *part,
                       const msgpack_object *root,
                       const struct rule *rule,
                       struct shl_err *err)
{
    const msgpack_object *map = shl_mp_find(root, rule->key);
    struct shl_bytes raw;

    if (shl_mp_get_cpy(map, "base", part->base, sizeof(part->base)) < 0 ||
        shl_mp_get_uint(map, "bytes", rule->bytes_max, &part->bytes) < 0 ||
        shl_mp_get_bin(map, "chunks", &raw) < 0) {
        return bad(err, "a part is missing or malformed");
    }
    if (part->bytes == 0 || part->bytes % rule->unit != 0) {
        return bad(err, "a size is not possible");
    }
    if (!rule->has_base && part->base[0]) {
        return bad(err, "the state of a machine has no base");
    }
    return decode_entries(part, raw, err);
}

static int decode_root(struct ckpt_manifest *manifest,
                       const msgpack_object *root,
                       struct shl_err *err)
{
    static const struct rule disk = {"disk", BYTES_MAX, SECTOR, true};
    static const struct rule memory = {"memory", BYTES_MAX, PAGE, true};
    static const struct rule state = {"state", CKPT_STATE_MAX, 1, false};
    struct shl_bytes config, parent;
    uint64_t version;
    int rc;

    if (shl_mp_get_uint(root, "version", UINT32_MAX, &version) < 0) {
        return bad(err, "it has no version");
    }
    if (version != CKPT_MANIFEST_VERSION) {
        return shl_err_set(err, SHL_EVERSION,
                           "the manifest has format version %llu, this program knows %d",
                           (unsigned long long)version, CKPT_MANIFEST_VERSION);
    }
    if (shl_mp_get_bin(root, "config", &config) < 0 || config.len > CKPT_CONFIG_MAX ||
        shl_mp_get_bin(root, "parent", &parent) < 0 || parent.len != CKPT_ID_BYTES) {
        return bad(err, "config or parent is missing or malformed");
    }
    memcpy(manifest->parent.bytes, parent.base, CKPT_ID_BYTES);
    rc = decode_part(&manifest->disk, root, &disk, err);
    if (rc < 0) {
        return rc;
    }
    if (shl_mp_find(root, "memory") || shl_mp_find(root, "state")) {
        manifest->has_memory = true;
        rc = decode_part(&manifest->memory, root, &memory, err);
        rc = rc < 0 ? rc : decode_part(&manifest->state, root, &state, err);
    }
    if (rc == 0) {
        rc = shl_buf_append(&manifest->config, config.base, config.len);
    }
    return rc;
}

int ckpt_manifest_decode(struct ckpt_manifest *manifest,
                         struct shl_bytes bytes,
                         struct shl_err *err)
{
    struct shl_mp_doc doc;
    int rc;

    ckpt_manifest_init(manifest);
    if (bytes.len > CKPT_MANIFEST_MAX) {
        return bad(err, "it is too long");
    }
    rc = shl_mp_parse(&doc, bytes);
    if (rc < 0) {
        return rc == -ENOMEM ? shl_err_sys(err, ENOMEM, "cannot read a manifest")
                             : bad(err, "it is not msgpack");
    }
    rc = decode_root(manifest, doc.root, err);
    shl_mp_release(&doc);
    if (rc < 0) {
        ckpt_manifest_release(manifest);
    }
    return rc;
}
