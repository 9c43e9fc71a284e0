#include "node/http/status.h"

#include <errno.h>
#include <stddef.h>

#include "base/err.h"

struct row {
    int code;
    int status;
    const char *name; /* "code" of the envelope */
    unsigned retry_after_s;
};

static const struct row rows[] = {
    {SHL_EINVALIDARG, 400, NULL, 0},
    {SHL_EBADSTATE, 400, NULL, 0},
    {-EINVAL, 400, NULL, 0},
    {-EISDIR, 400, NULL, 0},
    {-ENOTDIR, 400, NULL, 0},
    {-ENAMETOOLONG, 400, NULL, 0},
    {-ELOOP, 400, NULL, 0},
    {-EEXIST, 400, NULL, 0},
    {-ENOTEMPTY, 400, NULL, 0},
    {SHL_EAUTH, 401, NULL, 0},
    {SHL_EFORBIDDEN, 403, NULL, 0},
    {-EACCES, 403, NULL, 0},
    {-EPERM, 403, NULL, 0},
    {-EROFS, 403, NULL, 0},
    {SHL_ENOTFOUND, 404, NULL, 0},
    {-ENOENT, 404, NULL, 0},
    {SHL_EMETHOD, 405, NULL, 0},
    {-ETIME, 408, NULL, 0},
    {SHL_ECONFLICT, 409, NULL, 0},
    {SHL_EINCOMPATIBLE, 409, "incompatible", 0},
    {-EBUSY, 409, NULL, 0},
    {-ETXTBSY, 409, NULL, 0},
    {SHL_EGONE, 410, NULL, 0},
    {SHL_ELIMIT, 413, NULL, 0},
    {-EMSGSIZE, 413, NULL, 0},
    {-EFBIG, 413, NULL, 0},
    {-EPROTONOSUPPORT, 426, "upgrade_required", 0},
    {SHL_EQUOTA, 429, "quota", 0},
    {-E2BIG, 431, NULL, 0},
    {-ENOSYS, 501, "not_implemented", 0},
    {SHL_EPROTO, 502, "guest_failed", 0},
    {SHL_EGUEST, 502, "guest_failed", 0},
    {SHL_EVERSION, 502, "guest_failed", 0},
    {SHL_ENOCAPACITY, 503, "worker_unavailable", 2},
    {SHL_EUNAVAILABLE, 503, "worker_unavailable", 2},
    {SHL_ENOKVM, 503, "worker_unavailable", 2},
    {-EINPROGRESS, 503, "sandbox_waking", 1},
    {-ENOMEM, 503, "worker_unavailable", 2},
    {-EMFILE, 503, "worker_unavailable", 2},
    {-ETIMEDOUT, 504, NULL, 0},
    {-ENOSPC, 507, NULL, 0},
    {-EDQUOT, 507, NULL, 0},
};

static const struct row *find_row(int code)
{
    for (size_t i = 0; i < SHL_ARRAY_SIZE(rows); i++) {
        if (rows[i].code == code) {
            return &rows[i];
        }
    }
    return NULL;
}

int node_http_status(int code)
{
    const struct row *row = find_row(code);

    return row ? row->status : 500;
}

const char *node_http_error_code(int code)
{
    const struct row *row = find_row(code);

    return row ? row->name : NULL;
}

unsigned node_http_retry_after_s(int code)
{
    const struct row *row = find_row(code);

    return row ? row->retry_after_s : 0;
}

const char *node_http_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {400, "Bad Request"},
        {408, "Request Timeout"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {431, "Request Header Fields Too Large"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
        {505, "HTTP Version Not Supported"},
    };

    for (size_t i = 0; i < SHL_ARRAY_SIZE(reasons); i++) {
        if (reasons[i].status == status) {
            return reasons[i].reason;
        }
    }
    return "Error";
}
