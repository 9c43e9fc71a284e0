/* What the log may know of a sandbox of this node, on disk before it does. A damaged record
 * has epoch 0 and counts as an imported copy: then nothing runs that the log does not allow. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mp.h"
#include "node/cluster/owners_private.h"

#define OWNER_KIND       "owner"
#define OWNER_RECORD_MAX 256

int owner_record_save(struct owned *o, const struct owner_record *record, struct shl_err *err)
{
    struct shl_mp_writer w;
    struct shl_buf buf;
    int rc;

    shl_buf_init(&buf, OWNER_RECORD_MAX);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "epoch", record->epoch);
    shl_mp_kv_bool(&w, "claimable", record->claimable);
    shl_mp_kv_bool(&w, "copy", record->is_copy);
    shl_mp_kv_str(&w, "artefact", record->artefact);
    shl_mp_kv_str(&w, "newest", record->newest);
    shl_mp_end(&w);
    rc = shl_mp_done(&w);
    rc = rc < 0 ? shl_err_set(err, rc, "the owner of a sandbox cannot be recorded")
                : node_store_put(o->set->cluster->store, OWNER_KIND, o->sandbox,
                                 shl_buf_bytes(&buf), err);
    shl_buf_release(&buf);
    if (rc == 0) {
        o->record = *record;
        o->has_record = true;
    }
    return rc;
}

void owner_record_drop(struct owned *o)
{
    struct cluster *c = o->set->cluster;
    struct shl_err err = {0};
    int rc = o->has_record ? node_store_delete(c->store, OWNER_KIND, o->sandbox, &err) : 0;

    o->has_record = false;
    o->record = (struct owner_record){0};
    if (rc < 0 && rc != SHL_ENOTFOUND) {
        SHL_LOG(&c->log_sink, SHL_LOG_WARN, "owner_record_not_deleted",
                SHL_S("sandbox", o->sandbox), SHL_S("error", err.msg));
    }
}

static void decode(struct shl_bytes value, struct owner_record *ret)
{
    struct shl_mp_doc doc;
    int rc = shl_mp_parse(&doc, value);

    *ret = (struct owner_record){0};
    if (rc == 0) {
        rc = shl_mp_get_uint(doc.root, "epoch", UINT64_MAX, &ret->epoch);
        if (rc == 0) {
            rc = shl_mp_get_bool(doc.root, "claimable", &ret->claimable);
        }
        if (rc == 0) {
            rc = shl_mp_get_bool(doc.root, "copy", &ret->is_copy);
        }
        if (rc == 0) {
            rc = shl_mp_get_cpy(doc.root, "artefact", ret->artefact, sizeof(ret->artefact));
        }
        if (rc == 0 && shl_mp_find(doc.root, "newest")) { /* older ones have none */
            rc = shl_mp_get_cpy(doc.root, "newest", ret->newest, sizeof(ret->newest));
        }
        shl_mp_release(&doc);
    }
    if (rc < 0) {
        *ret = (struct owner_record){.is_copy = true};
    }
}

static bool load_one(void *arg, const char *id, struct shl_bytes value)
{
    struct cluster_owners *set = arg;
    struct owned *o;

    if (strlen(id) >= sizeof(o->sandbox)) {
        return true;
    }
    o = owned_find_or_add(set, id);
    if (!o) {
        set->load_code = -ENOMEM;
        return false;
    }
    decode(value, &o->record);
    o->has_record = true;
    owned_touch(o); /* one without a sandbox goes */
    return true;
}

int owner_records_load(struct cluster_owners *set, struct shl_err *err)
{
    int rc;

    set->load_code = 0;
    rc = node_store_each(set->cluster->store, OWNER_KIND, load_one, set, err);
    if (rc == 0 && set->load_code < 0) {
        rc = shl_err_set(err, set->load_code, "cannot read who owns the sandboxes");
    }
    return rc;
}
