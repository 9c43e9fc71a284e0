#include "scheduler/result.h"

#include <string.h>

#include "base/mp.h"

int sched_result_encode(const struct sched_result *result, struct shl_buf *buf)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_int(&w, "code", result->err.code);
    shl_mp_kv_str(&w, "msg", result->err.msg);
    shl_mp_kv_uint(&w, "index", result->index);
    shl_mp_kv_bool(&w, "existed", result->existed);
    shl_mp_kv_uint(&w, "number", result->number);
    shl_mp_kv_bin(&w, "value", result->value, result->value_len);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

static int read_result(const msgpack_object *map, struct sched_result *r)
{
    struct shl_bytes value;
    int64_t code;

    if (shl_mp_get_int(map, "code", &code) < 0 || code > 0 || code < INT32_MIN ||
        shl_mp_get_cpy(map, "msg", r->err.msg, sizeof(r->err.msg)) < 0 ||
        shl_mp_get_uint(map, "index", UINT64_MAX, &r->index) < 0 ||
        shl_mp_get_bool(map, "existed", &r->existed) < 0 ||
        shl_mp_get_uint(map, "number", UINT64_MAX, &r->number) < 0 ||
        shl_mp_get_bin(map, "value", &value) < 0 || value.len > sizeof(r->value)) {
        return SHL_EPROTO;
    }
    r->err.code = (int)code;
    r->value_len = (uint32_t)value.len;
    if (value.len > 0) {
        memcpy(r->value, value.base, value.len);
    }
    return 0;
}

int sched_result_decode(struct sched_result *ret, struct shl_bytes bytes)
{
    struct sched_result result = {0};
    struct shl_mp_doc doc;
    int rc;

    if (bytes.len > SCHED_RESULT_MAX) {
        return SHL_ELIMIT;
    }
    rc = shl_mp_parse(&doc, bytes);
    if (rc < 0) {
        return rc;
    }
    rc = read_result(doc.root, &result);
    shl_mp_release(&doc);
    if (rc == 0) {
        *ret = result;
    }
    return rc;
}
