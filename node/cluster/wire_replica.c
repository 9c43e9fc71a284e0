/* Dropping copies (wire.h). */
#include <string.h>

#include "base/mp.h"
#include "node/cluster/wire.h"

#define DROP_VERSION 1

int cluster_wire_write_drop(struct shl_buf *buf, const struct cluster_drop *drop)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", DROP_VERSION);
    shl_mp_kv_uint(&w, "token", drop->token);
    shl_mp_kv_bin(&w, "manifest", drop->manifest, sizeof(drop->manifest));
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

int cluster_wire_read_drop(struct shl_bytes body, struct cluster_drop *ret)
{
    struct shl_mp_doc doc;
    struct shl_bytes manifest;
    uint64_t version;
    int rc = shl_mp_parse(&doc, body);

    if (rc < 0) {
        return rc;
    }
    if (shl_mp_get_uint(doc.root, "v", DROP_VERSION, &version) < 0 ||
        shl_mp_get_uint(doc.root, "token", UINT64_MAX, &ret->token) < 0 ||
        shl_mp_get_bin(doc.root, "manifest", &manifest) < 0 ||
        manifest.len != sizeof(ret->manifest)) {
        rc = SHL_EPROTO;
    } else {
        memcpy(ret->manifest, manifest.base, sizeof(ret->manifest));
    }
    shl_mp_release(&doc);
    return rc;
}

int cluster_wire_write_drop_answer(struct shl_buf *buf, bool yes)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_bool(&w, "yes", yes);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

int cluster_wire_read_drop_answer(struct shl_bytes body, bool *ret_yes)
{
    struct shl_mp_doc doc;
    int rc = shl_mp_parse(&doc, body);

    if (rc == 0) {
        rc = shl_mp_get_bool(doc.root, "yes", ret_yes) < 0 ? SHL_EPROTO : 0;
        shl_mp_release(&doc);
    }
    return rc;
}
