#include "base/err.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static int set_text(struct shl_err *err, int code, const char *fmt, va_list args)
{
    assert(code < 0);
    if (err) {
        err->code = code;
        (void)vsnprintf(err->msg, sizeof(err->msg), fmt, args);
    }
    return code;
}

int shl_err_set(struct shl_err *err, int code, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    code = set_text(err, code, fmt, args);
    va_end(args);
    return code;
}

int shl_err_wrap(struct shl_err *err, int code, const char *fmt, ...)
{
    char inner[SHL_ERR_TEXT_MAX];
    va_list args;
    size_t used;

    assert(code < 0);
    if (!err) {
        return code;
    }
    memcpy(inner, err->code ? err->msg : "", err->code ? sizeof(inner) : 1);
    va_start(args, fmt);
    (void)set_text(err, code, fmt, args);
    va_end(args);
    used = strlen(err->msg);
    (void)snprintf(err->msg + used, sizeof(err->msg) - used, ": %s",
                   inner[0] ? inner : shl_err_text(code));
    return code;
}

int shl_err_sys(struct shl_err *err, int errnum, const char *fmt, ...)
{
    va_list args;
    size_t used;

    assert(errnum > 0);
    if (!err) {
        return -errnum;
    }
    va_start(args, fmt);
    (void)set_text(err, -errnum, fmt, args);
    va_end(args);
    used = strlen(err->msg);
    (void)snprintf(err->msg + used, sizeof(err->msg) - used, ": %s",
                   strerrordesc_np(errnum) ? strerrordesc_np(errnum) : "unknown error");
    return -errnum;
}

const char *shl_err_name(int code)
{
    const char *name;

    switch (code) {
#define SHL_ERR_NAME(name, value, text) \
    case (value):                       \
        return #name;
        SHL_ERR_MAP(SHL_ERR_NAME)
#undef SHL_ERR_NAME
    default:
        name = code < 0 && code > -4096 ? strerrorname_np(-code) : NULL;
        return name ? name : "E?";
    }
}

const char *shl_err_text(int code)
{
    const char *text;

    switch (code) {
#define SHL_ERR_CASE(name, value, text) \
    case (value):                       \
        return text;
        SHL_ERR_MAP(SHL_ERR_CASE)
#undef SHL_ERR_CASE
    default:
        text = code < 0 && code > -4096 ? strerrordesc_np(-code) : NULL;
        return text ? text : "unknown error";
    }
}
