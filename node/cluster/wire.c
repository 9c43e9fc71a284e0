/* Placing, finding, records (wire.h). */
#include "node/cluster/wire.h"

#include <errno.h>
#include <string.h>

#include "base/mp.h"
#include "node/cluster/wire_text.h"

#define PLACE_VERSION   1
#define WHERE_VERSION   1
#define FIGURES_VERSION 1

/*- Texts. */

static size_t tail_of(uint8_t lead)
{
    if (lead >= 0xc2 && lead <= 0xdf) {
        return 1;
    }
    if (lead >= 0xe0 && lead <= 0xef) {
        return 2;
    }
    return lead >= 0xf0 && lead <= 0xf4 ? 3 : 0;
}

/* Bytes of the character at @text, which is terminated; 0: it is none. */
static size_t character(const uint8_t *text)
{
    size_t tail = tail_of(text[0]), i;

    if (text[0] < 0x80) {
        return text[0] >= 0x20 && text[0] != 0x7f ? 1 : 0;
    }
    for (i = 1; i <= tail; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    /* overlong forms, surrogates, beyond the last one */
    if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
        (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f)) {
        return 0;
    }
    return tail ? tail + 1 : 0;
}

void cluster_wire_clean(char *text)
{
    while (*text) {
        size_t len = character((const uint8_t *)text);

        if (len == 0) {
            *text = '?';
        }
        text += len ? len : 1;
    }
}

int cluster_wire_text(const msgpack_object *map, const char *key, char *dst, size_t size)
{
    int rc = shl_mp_get_cpy(map, key, dst, size);

    if (rc == 0) {
        cluster_wire_clean(dst);
    }
    return rc;
}

static int get_u32(const msgpack_object *map, const char *key, uint32_t *ret)
{
    uint64_t number = 0;
    int rc = shl_mp_get_uint(map, key, UINT32_MAX, &number);

    *ret = (uint32_t)number;
    return rc;
}

/*- Placing. */

int cluster_wire_write_place(struct shl_buf *buf, const struct node_place *what)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", PLACE_VERSION);
    shl_mp_kv_str(&w, "template", what->template_name);
    shl_mp_kv_uint(&w, "cpus", what->cpus);
    shl_mp_kv_uint(&w, "memory_mb", what->memory_mb);
    shl_mp_kv_uint(&w, "disk_mb", what->disk_mb);
    if (what->build) {
        shl_mp_kv_str(&w, "build", what->build);
        shl_mp_kv_uint(&w, "joined_mb", what->joined_mb);
    }
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

/* Older nodes do not say it. */
static int read_build(const msgpack_object *map, struct cluster_placing *ret)
{
    uint64_t joined_mb;

    if (!shl_mp_find(map, "build")) {
        return 0;
    }
    if (cluster_wire_text(map, "build", ret->build, sizeof(ret->build)) < 0 || !ret->build[0] ||
        shl_mp_get_uint(map, "joined_mb", NODE_MEMORY_MAX_MB, &joined_mb) < 0) {
        return SHL_EPROTO;
    }
    ret->what.build = ret->build;
    ret->what.joined_mb = (uint32_t)joined_mb;
    return 0;
}

static int read_question(const msgpack_object *map, struct cluster_placing *ret)
{
    uint64_t version, cpus, memory_mb, disk_mb;

    if (shl_mp_get_uint(map, "v", PLACE_VERSION, &version) < 0 ||
        cluster_wire_text(map, "template", ret->template_name, sizeof(ret->template_name)) < 0 ||
        shl_mp_get_uint(map, "cpus", NODE_CPUS_MAX, &cpus) < 0 ||
        shl_mp_get_uint(map, "memory_mb", NODE_MEMORY_MAX_MB, &memory_mb) < 0 ||
        shl_mp_get_uint(map, "disk_mb", NODE_DISK_MAX_MB, &disk_mb) < 0) {
        return SHL_EPROTO;
    }
    ret->what = (struct node_place){.org = "",
                                    .template_name = ret->template_name,
                                    .cpus = (uint32_t)cpus,
                                    .memory_mb = (uint32_t)memory_mb,
                                    .disk_mb = (uint32_t)disk_mb};
    return read_build(map, ret);
}

int cluster_wire_read_place(struct shl_bytes body, struct cluster_placing *ret)
{
    struct shl_mp_doc doc;
    int rc = shl_mp_parse(&doc, body);

    if (rc == 0) {
        rc = read_question(doc.root, ret);
        shl_mp_release(&doc);
    }
    return rc;
}

int cluster_wire_write_placed(struct shl_buf *buf, const struct node_answer *answer)
{
    struct shl_mp_writer w;
    size_t i;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_int(&w, "code", answer->code);
    shl_mp_kv_str(&w, "msg", answer->msg);
    shl_mp_kv_array(&w, "targets");
    for (i = 0; i < answer->target_count; i++) {
        shl_mp_map(&w);
        shl_mp_kv_bin(&w, "id", answer->targets[i].id.bytes, SHL_NODE_ID_BYTES);
        shl_mp_kv_str(&w, "name", answer->targets[i].name);
        shl_mp_end(&w);
    }
    shl_mp_end(&w);
    shl_mp_kv_array(&w, "refusals");
    for (i = 0; i < answer->refusal_count; i++) {
        shl_mp_map(&w);
        shl_mp_kv_str(&w, "name", answer->refusals[i].name);
        shl_mp_kv_str(&w, "reason", answer->refusals[i].reason);
        shl_mp_end(&w);
    }
    shl_mp_end(&w);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

static const msgpack_object *list_of(const msgpack_object *map, const char *key, uint32_t max)
{
    const msgpack_object *list = shl_mp_find(map, key);

    return list && list->type == MSGPACK_OBJECT_ARRAY && list->via.array.size <= max ? list : NULL;
}

static int read_lists(const struct shl_node_id *self,
                      const msgpack_object *targets,
                      const msgpack_object *refusals,
                      struct node_answer *ret)
{
    uint32_t i;

    for (i = 0; i < targets->via.array.size; i++) {
        struct node_target *target = &ret->targets[ret->target_count++];
        const msgpack_object *map = &targets->via.array.ptr[i];
        struct shl_bytes id;

        if (shl_mp_get_bin(map, "id", &id) < 0 || id.len != SHL_NODE_ID_BYTES ||
            cluster_wire_text(map, "name", target->name, sizeof(target->name)) < 0) {
            return SHL_EPROTO;
        }
        memcpy(target->id.bytes, id.base, id.len);
        target->is_local = shl_node_id_equal(&target->id, self);
    }
    for (i = 0; i < refusals->via.array.size; i++) {
        struct node_reason *refusal = &ret->refusals[ret->refusal_count++];
        const msgpack_object *map = &refusals->via.array.ptr[i];

        if (cluster_wire_text(map, "name", refusal->name, sizeof(refusal->name)) < 0 ||
            cluster_wire_text(map, "reason", refusal->reason, sizeof(refusal->reason)) < 0) {
            return SHL_EPROTO;
        }
    }
    return 0;
}

int cluster_wire_read_placed(struct shl_bytes body,
                             const struct shl_node_id *self,
                             struct node_answer *ret)
{
    const msgpack_object *targets, *refusals;
    struct shl_mp_doc doc;
    int64_t code;
    int rc = shl_mp_parse(&doc, body);

    *ret = (struct node_answer){0};
    if (rc < 0) {
        return rc;
    }
    targets = list_of(doc.root, "targets", NODE_TARGETS_MAX);
    refusals = list_of(doc.root, "refusals", NODE_REFUSALS_MAX);
    if (!targets || !refusals || shl_mp_get_int(doc.root, "code", &code) < 0 || code > 0 ||
        code < INT32_MIN || cluster_wire_text(doc.root, "msg", ret->msg, sizeof(ret->msg)) < 0) {
        rc = SHL_EPROTO;
    } else {
        ret->code = (int)code;
        rc = read_lists(self, targets, refusals, ret);
    }
    if (rc == 0 && ret->code == 0 && ret->target_count == 0) {
        rc = SHL_EPROTO;
    }
    shl_mp_release(&doc);
    return rc;
}

/*- Finding. */

int cluster_wire_write_where(struct shl_buf *buf, bool is_checkpoint, const struct node_where *what)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", WHERE_VERSION);
    shl_mp_kv_bool(&w, "checkpoint", is_checkpoint);
    shl_mp_kv_str(&w, "org", what->org);
    shl_mp_kv_str(&w, "id", what->id);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

int cluster_wire_read_where(struct shl_bytes body, struct cluster_question *ret)
{
    struct shl_mp_doc doc;
    uint64_t version;
    int rc = shl_mp_parse(&doc, body);

    if (rc < 0) {
        return rc;
    }
    if (shl_mp_get_uint(doc.root, "v", WHERE_VERSION, &version) < 0 ||
        shl_mp_get_bool(doc.root, "checkpoint", &ret->is_checkpoint) < 0 ||
        shl_mp_get_cpy(doc.root, "org", ret->org, sizeof(ret->org)) < 0 ||
        shl_mp_get_cpy(doc.root, "id", ret->id, sizeof(ret->id)) < 0) {
        rc = SHL_EPROTO;
    }
    shl_mp_release(&doc);
    return rc;
}

/*- Figures. */

int cluster_wire_write_figures(struct shl_buf *buf, const struct cluster_figures *f)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", FIGURES_VERSION);
    shl_mp_kv_str(&w, "region", f->region);
    shl_mp_kv_str(&w, "url", f->url);
    shl_mp_kv_str(&w, "version", f->version);
    shl_mp_kv_uint(&w, "sandboxes", f->sandboxes);
    shl_mp_kv_uint(&w, "sandboxes_max", f->sandboxes_max);
    shl_mp_kv_uint(&w, "hibernated", f->hibernated);
    shl_mp_kv_uint(&w, "cpus_total", f->cpus_total);
    shl_mp_kv_uint(&w, "cpus_committed", f->cpus_committed);
    shl_mp_kv_uint(&w, "memory_total_mb", f->memory_total_mb);
    shl_mp_kv_uint(&w, "memory_usable_mb", f->memory_usable_mb);
    shl_mp_kv_uint(&w, "memory_committed_mb", f->memory_committed_mb);
    shl_mp_kv_uint(&w, "disk_total_mb", f->disk_total_mb);
    shl_mp_kv_uint(&w, "disk_free_mb", f->disk_free_mb);
    shl_mp_kv_uint(&w, "load_permille", f->load_permille);
    shl_mp_kv_uint(&w, "memory_permille", f->memory_permille);
    shl_mp_kv_uint(&w, "admitted", f->admitted);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

static int decode_figures(const msgpack_object *map, struct cluster_figures *f)
{
    const struct {
        const char *key;
        uint32_t *value;
    } numbers[] = {
        {"sandboxes", &f->sandboxes},
        {"sandboxes_max", &f->sandboxes_max},
        {"hibernated", &f->hibernated},
        {"cpus_total", &f->cpus_total},
        {"cpus_committed", &f->cpus_committed},
        {"memory_total_mb", &f->memory_total_mb},
        {"memory_usable_mb", &f->memory_usable_mb},
        {"memory_committed_mb", &f->memory_committed_mb},
        {"load_permille", &f->load_permille},
        {"memory_permille", &f->memory_permille},
    };
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(numbers); i++) {
        if (get_u32(map, numbers[i].key, numbers[i].value) < 0) {
            return SHL_EPROTO;
        }
    }
    if (cluster_wire_text(map, "region", f->region, sizeof(f->region)) < 0 ||
        cluster_wire_text(map, "url", f->url, sizeof(f->url)) < 0 ||
        cluster_wire_text(map, "version", f->version, sizeof(f->version)) < 0 ||
        shl_mp_get_uint(map, "disk_total_mb", UINT64_MAX, &f->disk_total_mb) < 0 ||
        shl_mp_get_uint(map, "disk_free_mb", UINT64_MAX, &f->disk_free_mb) < 0 ||
        shl_mp_get_uint(map, "admitted", UINT64_MAX, &f->admitted) < 0) {
        return SHL_EPROTO;
    }
    return 0;
}

int cluster_wire_read_figures(struct shl_bytes value, struct cluster_figures *ret)
{
    struct shl_mp_doc doc;
    int rc = shl_mp_parse(&doc, value);

    memset(ret, 0, sizeof(*ret));
    if (rc == 0) {
        rc = decode_figures(doc.root, ret);
        shl_mp_release(&doc);
    }
    return rc;
}

/*- Sandboxes. */

int cluster_wire_write_sandbox(struct shl_buf *buf, const struct node_sandbox *sandbox)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "org", sandbox->spec.org);
    shl_mp_kv_str(&w, "status", node_sandbox_status(sandbox));
    shl_mp_kv_str(&w, "reason", sandbox->reason);
    shl_mp_kv_str(&w, "template", sandbox->spec.template_name);
    shl_mp_kv_uint(&w, "cpus", sandbox->spec.cpus);
    shl_mp_kv_uint(&w, "memory_mb", sandbox->spec.memory_mb);
    shl_mp_kv_uint(&w, "disk_mb", sandbox->spec.disk_mb);
    shl_mp_kv_uint(&w, "timeout_s", sandbox->spec.timeout_s);
    shl_mp_kv_int(&w, "created_at_ms", sandbox->created_at_ms);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

static int decode_record(const msgpack_object *map, struct cluster_sandbox *r)
{
    if (cluster_wire_text(map, "org", r->org, sizeof(r->org)) < 0 ||
        cluster_wire_text(map, "status", r->status, sizeof(r->status)) < 0 ||
        cluster_wire_text(map, "reason", r->reason, sizeof(r->reason)) < 0 ||
        cluster_wire_text(map, "template", r->template_name, sizeof(r->template_name)) < 0 ||
        get_u32(map, "cpus", &r->pub.cpus) < 0 ||
        get_u32(map, "memory_mb", &r->pub.memory_mb) < 0 ||
        get_u32(map, "disk_mb", &r->pub.disk_mb) < 0 ||
        get_u32(map, "timeout_s", &r->pub.timeout_s) < 0 ||
        shl_mp_get_int(map, "created_at_ms", &r->pub.created_at_ms) < 0) {
        return SHL_EPROTO;
    }
    r->pub.status = r->status;
    r->pub.reason = r->reason;
    r->pub.template_name = r->template_name;
    return 0;
}

int cluster_wire_read_sandbox(struct shl_bytes value, struct cluster_sandbox *ret)
{
    struct shl_mp_doc doc;
    int rc = shl_mp_parse(&doc, value);

    memset(ret, 0, sizeof(*ret));
    if (rc == 0) {
        rc = decode_record(doc.root, ret);
        shl_mp_release(&doc);
    }
    return rc;
}

int cluster_wire_read_org(struct shl_bytes value, char ret[NODE_ORG_ID_SIZE])
{
    struct shl_mp_doc doc;
    int rc = shl_mp_parse(&doc, value);

    if (rc == 0) {
        rc = shl_mp_get_cpy(doc.root, "org", ret, NODE_ORG_ID_SIZE);
        shl_mp_release(&doc);
    }
    return rc;
}
