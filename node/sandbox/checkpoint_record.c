#include <errno.h>
#include <string.h>

#include "base/id.h"
#include "node/sandbox/checkpoints_private.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"

#define RECORD_VERSION     2 /* saves and what was imported; others are as in the first */
#define RECORD_VERSION_MIN 1

const char *node_checkpoint_status(const struct node_checkpoint *checkpoint)
{
    switch (checkpoint->status) {
    case NODE_CHECKPOINT_PROCESSING:
        return "processing";
    case NODE_CHECKPOINT_READY:
        return "ready";
    case NODE_CHECKPOINT_FAILED:
        return "failed";
    }
    return "?";
}

/* ---- encode ---------------------------------------------------------------------- */

void checkpoint_encode_what(struct shl_mp_writer *w, const struct node_checkpoint *pub)
{
    shl_mp_kv_str(w, "sandbox", pub->sandbox_id);
    shl_mp_kv_str(w, "name", pub->name);
    shl_mp_kv_bool(w, "disk_only", pub->disk_only);
    record_encode_spec(w, &pub->spec);
    shl_mp_kv_int(w, "created_at_ms", pub->created_at_ms);
}

int checkpoint_encode(const struct checkpoint *checkpoint, struct shl_buf *buf)
{
    const struct node_checkpoint *pub = &checkpoint->pub;
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", RECORD_VERSION);
    checkpoint_encode_what(&w, pub);
    shl_mp_kv_str(&w, "status", node_checkpoint_status(pub));
    shl_mp_kv_str(&w, "error", pub->error);
    shl_mp_kv_int(&w, "failed_at_ms", pub->failed_at_ms);
    shl_mp_kv_str(&w, "manifest", pub->manifest);
    shl_mp_kv_uint(&w, "layer_bytes", checkpoint->layer_bytes);
    shl_mp_kv_uint(&w, "keep_max", checkpoint->keep_max);
    if (checkpoint->has_stack) {
        node_stack_encode(&w, "stack", &checkpoint->stack);
    }
    shl_mp_kv_bool(&w, "save", checkpoint->save);
    shl_mp_kv_bool(&w, "imported", checkpoint->imported);
    shl_mp_kv_str(&w, "of_state", checkpoint->of_state);
    shl_mp_kv_int(&w, "sandbox_created_at_ms", checkpoint->sandbox_created_at_ms);
    shl_mp_kv_str(&w, "sandbox_from", checkpoint->sandbox_from);
    shl_mp_kv_str(&w, "disk_base", checkpoint->bases[0]);
    shl_mp_kv_str(&w, "mem_base", checkpoint->bases[1]);
    shl_mp_kv_uint(&w, "chunk_bytes", checkpoint->chunk_bytes);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

int checkpoint_save(struct checkpoint *checkpoint, struct shl_err *err)
{
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, CHECKPOINT_RECORD_MAX);
    rc = checkpoint_encode(checkpoint, &buf);
    rc = rc < 0 ? shl_err_set(err, rc, "the record of checkpoint %s cannot be written: %s",
                              checkpoint->pub.id, shl_err_text(rc))
                : node_store_put(checkpoint->set->manager->store, CHECKPOINT_KIND,
                                 checkpoint->pub.id, shl_buf_bytes(&buf), err);
    shl_buf_release(&buf);
    return rc;
}

/* ---- decode ---------------------------------------------------------------------- */

static int decode_status(const msgpack_object *map, enum node_checkpoint_status *ret)
{
    struct node_checkpoint probe;
    char name[16];
    int i;
    int rc = shl_mp_get_cpy(map, "status", name, sizeof(name));

    for (i = NODE_CHECKPOINT_PROCESSING; rc == 0 && i <= NODE_CHECKPOINT_FAILED; i++) {
        probe.status = (enum node_checkpoint_status)i;
        if (strcmp(name, node_checkpoint_status(&probe)) == 0) {
            *ret = probe.status;
            return 0;
        }
    }
    return rc < 0 ? rc : SHL_EPROTO;
}

int checkpoint_decode_what(const msgpack_object *map, struct node_checkpoint *pub, bool has_name)
{
    int rc = shl_mp_get_cpy(map, "sandbox", pub->sandbox_id, sizeof(pub->sandbox_id));

    if (rc == 0) {
        rc = shl_mp_get_cpy(map, "name", pub->name, sizeof(pub->name));
    }
    if (rc == 0) {
        rc = shl_mp_get_bool(map, "disk_only", &pub->disk_only);
    }
    if (rc == 0) {
        rc = record_decode_spec(map, &pub->spec);
    }
    if (rc == 0) {
        rc = shl_mp_get_int(map, "created_at_ms", &pub->created_at_ms);
    }
    if (rc == 0 && (has_name ? checkpoint_name_check(pub->name, NULL) < 0 : pub->name[0])) {
        rc = SHL_EPROTO;
    }
    if (rc == 0 && sandbox_spec_check(&pub->spec, NULL) < 0) {
        rc = SHL_EPROTO;
    }
    return rc;
}

static int decode_outcome(const msgpack_object *map, struct node_checkpoint *pub)
{
    int rc = decode_status(map, &pub->status);

    if (rc == 0) {
        rc = shl_mp_get_cpy(map, "error", pub->error, sizeof(pub->error));
    }
    if (rc == 0) {
        rc = shl_mp_get_int(map, "failed_at_ms", &pub->failed_at_ms);
    }
    if (rc == 0) {
        rc = shl_mp_get_cpy(map, "manifest", pub->manifest, sizeof(pub->manifest));
    }
    return rc;
}

static int decode_data(const msgpack_object *map, struct checkpoint *checkpoint)
{
    uint64_t keep_max = 0;
    int rc = shl_mp_get_uint(map, "layer_bytes", UINT64_MAX, &checkpoint->layer_bytes);

    if (rc == 0) {
        rc = shl_mp_get_uint(map, "keep_max", UINT32_MAX, &keep_max);
        checkpoint->keep_max = (uint32_t)keep_max;
    }
    if (rc == 0 && shl_mp_find(map, "stack")) {
        rc = node_stack_decode(map, "stack", &checkpoint->stack);
        checkpoint->has_stack = rc == 0;
    }
    return rc;
}

static int decode_id(const msgpack_object *map, const char *key, char id[NODE_LAYER_ID_SIZE])
{
    int rc = shl_mp_get_cpy(map, key, id, NODE_LAYER_ID_SIZE);

    return rc == 0 && (!id[0] || layers_id_is_valid(id)) ? 0 : SHL_EPROTO;
}

static int decode_artefact(const msgpack_object *map, struct checkpoint *checkpoint)
{
    int rc = shl_mp_get_bool(map, "imported", &checkpoint->imported);

    if (rc == 0) {
        rc = decode_id(map, "of_state", checkpoint->of_state);
    }
    if (rc == 0) {
        rc = shl_mp_get_int(map, "sandbox_created_at_ms", &checkpoint->sandbox_created_at_ms);
    }
    if (rc == 0) {
        rc = shl_mp_get_cpy(map, "sandbox_from", checkpoint->sandbox_from,
                            sizeof(checkpoint->sandbox_from));
    }
    if (rc == 0) {
        rc = decode_id(map, "disk_base", checkpoint->bases[0]);
    }
    if (rc == 0) {
        rc = decode_id(map, "mem_base", checkpoint->bases[1]);
    }
    if (rc == 0) {
        rc = shl_mp_get_uint(map, "chunk_bytes", UINT64_MAX, &checkpoint->chunk_bytes);
    }
    return rc;
}

/* What the manifest of one of the first version stands on. */
static void guess_artefact(struct checkpoint *checkpoint)
{
    const struct node_stack *stack = &checkpoint->stack;

    (void)memcpy(checkpoint->bases[0], stack->base, sizeof(stack->base));
    if (stack->warm_mem && stack->state.hex[0]) {
        (void)memcpy(checkpoint->bases[1], stack->warm, sizeof(stack->warm));
    }
    checkpoint->chunk_bytes = checkpoint->layer_bytes;
}

/* Ready means that there is something to start from. */
static bool is_whole(const struct checkpoint *checkpoint)
{
    const struct node_checkpoint *pub = &checkpoint->pub;
    struct ckpt_id id;

    switch (pub->status) {
    case NODE_CHECKPOINT_READY:
        return (checkpoint->has_stack || checkpoint->save) && manifest_id_parse(pub->manifest, &id);
    case NODE_CHECKPOINT_PROCESSING:
        return pub->manifest[0] == '\0';
    case NODE_CHECKPOINT_FAILED:
        return pub->manifest[0] == '\0' && !checkpoint->has_stack;
    }
    return false;
}

static int decode_map(const msgpack_object *map, struct checkpoint *checkpoint, uint64_t version)
{
    int rc = version > 1 ? shl_mp_get_bool(map, "save", &checkpoint->save) : 0;

    if (rc == 0) {
        rc = checkpoint_decode_what(map, &checkpoint->pub, !checkpoint->save);
    }

    if (rc == 0) {
        rc = decode_outcome(map, &checkpoint->pub);
    }
    if (rc == 0) {
        rc = decode_data(map, checkpoint);
    }
    if (rc == 0 && version > 1) {
        rc = decode_artefact(map, checkpoint);
    } else if (rc == 0) {
        guess_artefact(checkpoint);
    }
    if (rc == 0 && !is_whole(checkpoint)) {
        rc = SHL_EPROTO;
    }
    if (rc == 0 && checkpoint->pub.status == NODE_CHECKPOINT_READY) {
        checkpoint->pub.size_bytes = checkpoint->layer_bytes;
    }
    return rc;
}

int checkpoint_decode(struct checkpoint *checkpoint,
                      const char *id,
                      struct shl_bytes value,
                      struct shl_err *err)
{
    struct shl_mp_doc doc;
    uint64_t version = 0;
    int rc;

    if (strlen(id) >= sizeof(checkpoint->pub.id) || shl_mp_parse(&doc, value) < 0) {
        return shl_err_set(err, SHL_ECORRUPT, "the record of checkpoint %.40s is damaged", id);
    }
    (void)memcpy(checkpoint->pub.id, id, strlen(id) + 1);
    rc = shl_mp_get_uint(doc.root, "v", UINT32_MAX, &version);
    if (rc == 0 && (version < RECORD_VERSION_MIN || version > RECORD_VERSION)) {
        rc =
            shl_err_set(err, SHL_EVERSION,
                        "the record of checkpoint %s was written by another version of shoald", id);
    } else {
        rc = rc < 0 ? rc : decode_map(doc.root, checkpoint, version);
        if (rc < 0) {
            rc = shl_err_set(err, rc == -ENOMEM ? rc : SHL_ECORRUPT,
                             "the record of checkpoint %s is damaged", id);
        }
    }
    shl_mp_release(&doc);
    return rc;
}
