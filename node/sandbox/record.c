#include <errno.h>
#include <string.h>

#include "base/mp.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"

#define RECORD_VERSION     2
#define RECORD_VERSION_MIN 1 /* without a stack: what it tells of running ones is of no use */

static void encode_kv(struct shl_mp_writer *w, const char *key, const struct node_kv_list *list)
{
    size_t i;

    shl_mp_kv_map(w, key);
    for (i = 0; i < list->count; i++) {
        shl_mp_kv_str(w, list->items[i].key, list->items[i].value);
    }
    shl_mp_end(w);
}

void record_encode_spec(struct shl_mp_writer *w, const struct node_sandbox_spec *spec)
{
    shl_mp_kv_str(w, "org", spec->org);
    shl_mp_kv_str(w, "template", spec->template_name);
    shl_mp_kv_uint(w, "cpus", spec->cpus);
    shl_mp_kv_uint(w, "memory_mb", spec->memory_mb);
    shl_mp_kv_uint(w, "disk_mb", spec->disk_mb);
    shl_mp_kv_uint(w, "timeout_s", spec->timeout_s);
    if (spec->on_node_loss == NODE_ON_LOSS_RESTORE) {
        shl_mp_kv_str(w, "on_node_loss", "restore");
    }
    if (spec->autosave_s > 0) {
        shl_mp_kv_uint(w, "autosave_s", spec->autosave_s);
    }
    encode_kv(w, "envs", &spec->envs);
    encode_kv(w, "metadata", &spec->metadata);
    node_secret_use_encode(w, "secrets", &spec->secrets);
    node_previews_encode(w, &spec->previews);
    if (spec->image_envs.count > 0) {
        encode_kv(w, "image_envs", &spec->image_envs);
    }
    if (spec->workdir[0] != '\0') {
        shl_mp_kv_str(w, "workdir", spec->workdir);
    }
    if (spec->patched > 0) {
        shl_mp_kv_uint(w, "patched", spec->patched);
    }
    if (spec->patch_error[0] != '\0') {
        shl_mp_kv_str(w, "patch_error", spec->patch_error);
    }
    if (spec->is_build) {
        shl_mp_kv_bool(w, "is_build", true);
    }
}

int record_encode(const struct sandbox *sandbox, struct shl_buf *buf)
{
    const struct node_sandbox *pub = &sandbox->pub;
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", RECORD_VERSION);
    shl_mp_kv_str(&w, "state", sandbox_state_name(sandbox->durable));
    shl_mp_kv_str(&w, "reason", pub->reason);
    record_encode_spec(&w, &pub->spec);
    shl_mp_kv_int(&w, "created_at_ms", pub->created_at_ms);
    shl_mp_kv_int(&w, "ended_at_ms", pub->ended_at_ms);
    if (sandbox->has_slot) {
        shl_mp_kv_uint(&w, "slot", sandbox->slot);
    }
    shl_mp_kv_uint(&w, "vmm_pid", (uint64_t)sandbox->vmm_id.pid);
    shl_mp_kv_uint(&w, "vmm_start_ticks", sandbox->vmm_id.start_ticks);
    shl_mp_kv_str(&w, "machine_boot_id", sandbox->machine_boot_id);
    node_stack_encode(&w, "stack", &sandbox->stack);
    /* a run that is not acknowledged yet leaves no trace */
    shl_mp_kv_str(&w, "overlay",
                  sandbox->durable == NODE_SANDBOX_RUNNING ? sandbox->overlay.hex : "");
    shl_mp_kv_str(&w, "next", sandbox->durable == NODE_SANDBOX_RUNNING ? sandbox->next.hex : "");
    shl_mp_kv_uint(&w, "saved_bytes", pub->saved_bytes);
    shl_mp_kv_str(&w, "from_checkpoint", pub->from_checkpoint);
    shl_mp_kv_bool(&w, "cold_woken", pub->cold_woken);
    if (sandbox->imported) {
        shl_mp_kv_bool(&w, "imported", true);
    }
    if (pub->lost) {
        shl_mp_kv_bool(&w, "lost", true);
    }
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

static int decode_kv(const msgpack_object *map, const char *key, struct node_kv_list *list)
{
    const msgpack_object *found = shl_mp_find(map, key);
    uint32_t i;
    int rc = 0;

    if (!found || found->type != MSGPACK_OBJECT_MAP) {
        return SHL_EPROTO;
    }
    for (i = 0; i < found->via.map.size && rc == 0; i++) {
        char *name = NULL;
        char *value = NULL;

        rc = shl_mp_obj_dup(&found->via.map.ptr[i].key, &name);
        if (rc == 0) {
            rc = shl_mp_obj_dup(&found->via.map.ptr[i].val, &value);
        }
        if (rc == 0) {
            rc = node_kv_set(list, name, value);
        }
        free(name);
        free(value);
    }
    return rc;
}

static int decode_uint(const msgpack_object *map, const char *key, uint32_t *ret)
{
    uint64_t value;
    int rc = shl_mp_get_uint(map, key, UINT32_MAX, &value);

    if (rc == 0) {
        *ret = (uint32_t)value;
    }
    return rc;
}

static int decode_state(const msgpack_object *map, enum node_sandbox_state *ret)
{
    char name[16];
    int i;
    int rc = shl_mp_get_cpy(map, "state", name, sizeof(name));

    for (i = NODE_SANDBOX_CREATING; rc == 0 && i <= NODE_SANDBOX_ERROR; i++) {
        if (strcmp(name, sandbox_state_name((enum node_sandbox_state)i)) == 0) {
            *ret = (enum node_sandbox_state)i;
            return 0;
        }
    }
    return rc < 0 ? rc : SHL_EPROTO;
}

/* Optional: absent in older records. */
static int decode_on_loss(const msgpack_object *map, struct node_sandbox_spec *spec)
{
    char text[16];

    if (shl_mp_find(map, "on_node_loss")) {
        if (shl_mp_get_cpy(map, "on_node_loss", text, sizeof(text)) < 0 ||
            strcmp(text, "restore") != 0) {
            return SHL_EPROTO;
        }
        spec->on_node_loss = NODE_ON_LOSS_RESTORE;
    }
    return shl_mp_find(map, "autosave_s") ? decode_uint(map, "autosave_s", &spec->autosave_s) : 0;
}

/* Likewise: what images and patches left. */
static int decode_image(const msgpack_object *map, struct node_sandbox_spec *spec)
{
    int rc = shl_mp_find(map, "image_envs") ? decode_kv(map, "image_envs", &spec->image_envs) : 0;

    if (rc == 0 && shl_mp_find(map, "workdir")) {
        rc = shl_mp_get_cpy(map, "workdir", spec->workdir, sizeof(spec->workdir));
        if (rc == 0 && spec->workdir[0] != '/') {
            rc = SHL_EPROTO;
        }
    }
    if (rc == 0 && shl_mp_find(map, "patched")) {
        rc = decode_uint(map, "patched", &spec->patched);
    }
    if (rc == 0 && shl_mp_find(map, "patch_error")) {
        rc = shl_mp_get_cpy(map, "patch_error", spec->patch_error, sizeof(spec->patch_error));
    }
    if (rc == 0 && shl_mp_find(map, "is_build")) {
        rc = shl_mp_get_bool(map, "is_build", &spec->is_build);
    }
    return rc;
}

int record_decode_spec(const msgpack_object *map, struct node_sandbox_spec *spec)
{
    int rc = shl_mp_get_cpy(map, "org", spec->org, sizeof(spec->org));

    if (rc == 0) {
        rc = shl_mp_get_cpy(map, "template", spec->template_name, sizeof(spec->template_name));
    }
    if (rc == 0) {
        rc = decode_uint(map, "cpus", &spec->cpus);
    }
    if (rc == 0) {
        rc = decode_uint(map, "memory_mb", &spec->memory_mb);
    }
    if (rc == 0) {
        rc = decode_uint(map, "disk_mb", &spec->disk_mb);
    }
    if (rc == 0) {
        rc = decode_uint(map, "timeout_s", &spec->timeout_s);
    }
    if (rc == 0) {
        rc = decode_on_loss(map, spec);
    }
    if (rc == 0) {
        rc = decode_kv(map, "envs", &spec->envs);
    }
    if (rc == 0) {
        rc = decode_kv(map, "metadata", &spec->metadata);
    }
    if (rc == 0) {
        rc = node_secret_use_decode(map, "secrets", &spec->secrets);
    }
    if (rc == 0) {
        rc = decode_image(map, spec);
    }
    return rc < 0 ? rc : node_previews_decode(map, &spec->previews);
}

static int decode_rest(const msgpack_object *map, struct sandbox *sandbox)
{
    uint64_t pid = 0;
    int rc = decode_state(map, &sandbox->pub.state);

    if (rc == 0) {
        rc = shl_mp_get_cpy(map, "reason", sandbox->pub.reason, sizeof(sandbox->pub.reason));
    }
    if (rc == 0) {
        rc = shl_mp_get_int(map, "created_at_ms", &sandbox->pub.created_at_ms);
    }
    if (rc == 0) {
        rc = shl_mp_get_int(map, "ended_at_ms", &sandbox->pub.ended_at_ms);
    }
    if (rc == 0) {
        rc = shl_mp_get_uint(map, "vmm_pid", INT32_MAX, &pid);
        sandbox->vmm_id.pid = (pid_t)pid;
    }
    if (rc == 0) {
        rc = shl_mp_get_uint(map, "vmm_start_ticks", UINT64_MAX, &sandbox->vmm_id.start_ticks);
    }
    if (rc == 0) {
        rc = shl_mp_get_cpy(map, "machine_boot_id", sandbox->machine_boot_id,
                            sizeof(sandbox->machine_boot_id));
    }
    if (rc == 0 && shl_mp_find(map, "slot")) {
        rc = decode_uint(map, "slot", &sandbox->slot);
        sandbox->has_slot = rc == 0;
    }
    return rc;
}

static int decode_layer(const msgpack_object *map, const char *key, struct node_layer_id *id)
{
    int rc = shl_mp_get_cpy(map, key, id->hex, sizeof(id->hex));

    return rc == 0 && (!id->hex[0] || layers_id_is_valid(id->hex)) ? 0 : SHL_EPROTO;
}

static int decode_saved(const msgpack_object *map, struct sandbox *sandbox)
{
    struct node_sandbox *pub = &sandbox->pub;
    int rc = node_stack_decode(map, "stack", &sandbox->stack);

    if (rc == 0) {
        rc = decode_layer(map, "overlay", &sandbox->overlay);
    }
    if (rc == 0) {
        rc = decode_layer(map, "next", &sandbox->next);
    }
    if (rc == 0) {
        rc = shl_mp_get_uint(map, "saved_bytes", UINT64_MAX, &pub->saved_bytes);
    }
    if (rc == 0) {
        rc = shl_mp_get_cpy(map, "from_checkpoint", pub->from_checkpoint,
                            sizeof(pub->from_checkpoint));
    }
    if (rc == 0) {
        rc = shl_mp_get_bool(map, "cold_woken", &pub->cold_woken);
    }
    if (rc == 0 && shl_mp_find(map, "imported")) {
        rc = shl_mp_get_bool(map, "imported", &sandbox->imported);
    }
    if (rc == 0 && shl_mp_find(map, "lost")) {
        rc = shl_mp_get_bool(map, "lost", &pub->lost);
    }
    return rc;
}

int record_decode(struct sandbox *sandbox,
                  const char *id,
                  struct shl_bytes value,
                  struct shl_err *err)
{
    struct shl_mp_doc doc;
    uint64_t version = 0;
    int rc;

    if (strlen(id) >= sizeof(sandbox->pub.id) || shl_mp_parse(&doc, value) < 0) {
        return shl_err_set(err, SHL_ECORRUPT, "the record of sandbox %.32s is damaged", id);
    }
    (void)memcpy(sandbox->pub.id, id, strlen(id) + 1);
    rc = shl_mp_get_uint(doc.root, "v", UINT32_MAX, &version);
    if (rc == 0 && (version < RECORD_VERSION_MIN || version > RECORD_VERSION)) {
        rc = shl_err_set(err, SHL_EVERSION,
                         "the record of sandbox %s was written by another version of shoald", id);
    } else {
        if (rc == 0) {
            rc = record_decode_spec(doc.root, &sandbox->pub.spec);
        }
        if (rc == 0) {
            rc = decode_rest(doc.root, sandbox);
        }
        if (rc == 0 && version > 1) {
            rc = decode_saved(doc.root, sandbox);
        }
        sandbox->durable = sandbox->pub.state;
        if (rc < 0) {
            rc = shl_err_set(err, rc == -ENOMEM ? rc : SHL_ECORRUPT,
                             "the record of sandbox %s is damaged", id);
        }
    }
    shl_mp_release(&doc);
    return rc;
}
