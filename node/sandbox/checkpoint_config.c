/* The config of a manifest: all that another node needs beside disk and memory. */
#include <errno.h>
#include <string.h>

#include "node/sandbox/checkpoints_private.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"
#include "node/sandbox/text.h"

#define CONFIG_VERSION     2
#define CONFIG_VERSION_MIN 1 /* of checkpoints alone, without their size */
#define UUID_LENGTH        36

int checkpoint_encode_config(const struct checkpoint *checkpoint, struct shl_buf *buf)
{
    const struct node_stack *stack = &checkpoint->stack;
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", CONFIG_VERSION);
    shl_mp_kv_str(&w, "checkpoint", checkpoint->pub.id);
    checkpoint_encode_what(&w, &checkpoint->pub);
    shl_mp_kv_str(&w, "base", stack->base);
    shl_mp_kv_str(&w, "warm", stack->warm_mem && stack->state.hex[0] ? stack->warm : "");
    shl_mp_kv_bool(&w, "save", checkpoint->save);
    shl_mp_kv_uint(&w, "layer_bytes", checkpoint->layer_bytes);
    shl_mp_kv_int(&w, "sandbox_created_at_ms", checkpoint->sandbox_created_at_ms);
    shl_mp_kv_str(&w, "sandbox_from", checkpoint->sandbox_from);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

/* ---- decode ------------------------------------------------------------------------- */

static bool is_uuid(const char *id)
{
    size_t i;

    for (i = 0; i < UUID_LENGTH && id[i]; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (dash ? id[i] != '-' : !strchr("0123456789abcdef", id[i])) {
            return false;
        }
    }
    return i == UUID_LENGTH && !id[i];
}

/* It becomes a part of paths. */
static bool is_sandbox_id(const char *id)
{
    return strncmp(id, "sb-", 3) == 0 && strlen(id) == 3 + CONFIG_ID_DIGITS &&
           strspn(id + 3, "0123456789abcdef") == CONFIG_ID_DIGITS;
}

static bool is_plain_text(const char *text, size_t size)
{
    char clean[NODE_TEMPLATE_MAX];

    node_text_clean(clean, SHL_MIN(size, sizeof(clean)), shl_bytes_of(text, strlen(text)));
    return text[0] && strcmp(clean, text) == 0;
}

static int decode_base(const msgpack_object *map, const char *key, char id[NODE_BASE_ID_SIZE])
{
    int rc = shl_mp_get_cpy(map, key, id, NODE_BASE_ID_SIZE);

    return rc == 0 && (!id[0] || layers_id_is_valid(id)) ? 0 : SHL_EPROTO;
}

static int decode_second(const msgpack_object *map, struct checkpoint *checkpoint)
{
    int rc = shl_mp_get_uint(map, "layer_bytes", UINT64_MAX, &checkpoint->layer_bytes);

    if (rc == 0) {
        rc = shl_mp_get_int(map, "sandbox_created_at_ms", &checkpoint->sandbox_created_at_ms);
    }
    if (rc == 0) {
        rc = shl_mp_get_cpy(map, "sandbox_from", checkpoint->sandbox_from,
                            sizeof(checkpoint->sandbox_from));
    }
    if (rc == 0 && checkpoint->sandbox_from[0] && !is_uuid(checkpoint->sandbox_from)) {
        rc = SHL_EPROTO;
    }
    return rc;
}

static int decode_map(const msgpack_object *map, uint64_t version, struct checkpoint *checkpoint)
{
    struct node_checkpoint *pub = &checkpoint->pub;
    int rc = shl_mp_get_cpy(map, "checkpoint", pub->id, sizeof(pub->id));

    if (rc == 0 && version > 1) {
        rc = shl_mp_get_bool(map, "save", &checkpoint->save);
    }
    if (rc == 0) {
        rc = checkpoint_decode_what(map, pub, !checkpoint->save);
    }
    if (rc == 0) {
        rc = decode_base(map, "base", checkpoint->bases[0]);
    }
    if (rc == 0) {
        rc = decode_base(map, "warm", checkpoint->bases[1]);
    }
    if (rc == 0 && version > 1) {
        rc = decode_second(map, checkpoint);
    }
    if (rc == 0 && (!is_uuid(pub->id) || !is_sandbox_id(pub->sandbox_id) ||
                    !is_plain_text(pub->spec.org, sizeof(pub->spec.org)) ||
                    !is_plain_text(pub->spec.template_name, sizeof(pub->spec.template_name)) ||
                    pub->created_at_ms < 0 || checkpoint->sandbox_created_at_ms < 0 ||
                    (checkpoint->save && pub->disk_only))) {
        rc = SHL_EPROTO;
    }
    return rc;
}

int checkpoint_decode_config(struct checkpoint *checkpoint,
                             struct shl_bytes config,
                             struct shl_err *err)
{
    struct shl_mp_doc doc;
    uint64_t version = 0;
    int rc;

    if (config.len > CKPT_CONFIG_MAX || shl_mp_parse(&doc, config) < 0) {
        return shl_err_set(err, SHL_ECORRUPT, "what the manifest is of cannot be read");
    }
    rc = shl_mp_get_uint(doc.root, "v", UINT32_MAX, &version);
    if (rc == 0 && (version < CONFIG_VERSION_MIN || version > CONFIG_VERSION)) {
        rc =
            shl_err_set(err, SHL_EVERSION, "the manifest was written by another version of shoald");
    } else {
        rc = rc < 0 ? rc : decode_map(doc.root, version, checkpoint);
        if (rc < 0) {
            rc = shl_err_set(err, rc == -ENOMEM ? rc : SHL_ECORRUPT,
                             "what the manifest is of is not valid");
        }
    }
    shl_mp_release(&doc);
    return rc;
}
