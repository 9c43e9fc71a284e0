#include "client/error.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

/* Callers built against an older header hand in a shorter struct: fields behind this
 * many bytes may be touched only when the struct says it has them. */
#define FIRST_VERSION_BYTES sizeof(struct shoal_error)

/* The public numbers are those of the tree. */
_Static_assert((int)SHOAL_EPROTO == (int)SHL_EPROTO, "public code differs");
_Static_assert((int)SHOAL_ELIMIT == (int)SHL_ELIMIT, "public code differs");
_Static_assert((int)SHOAL_ENOTFOUND == (int)SHL_ENOTFOUND, "public code differs");
_Static_assert((int)SHOAL_ECONFLICT == (int)SHL_ECONFLICT, "public code differs");
_Static_assert((int)SHOAL_EGONE == (int)SHL_EGONE, "public code differs");
_Static_assert((int)SHOAL_EAUTH == (int)SHL_EAUTH, "public code differs");
_Static_assert((int)SHOAL_EFORBIDDEN == (int)SHL_EFORBIDDEN, "public code differs");
_Static_assert((int)SHOAL_EUNAVAILABLE == (int)SHL_EUNAVAILABLE, "public code differs");
_Static_assert((int)SHOAL_EQUOTA == (int)SHL_EQUOTA, "public code differs");
_Static_assert((int)SHOAL_EINVALIDARG == (int)SHL_EINVALIDARG, "public code differs");
_Static_assert((int)SHOAL_EMETHOD == (int)SHL_EMETHOD, "public code differs");

int client_error_set(struct shoal_error *err, int code, const char *fmt, ...)
{
    va_list args;

    assert(code < 0);
    if (err) {
        assert(err->size >= FIRST_VERSION_BYTES);
        err->code = code;
        va_start(args, fmt);
        (void)vsnprintf(err->message, sizeof(err->message), fmt, args);
        va_end(args);
        client_text_clean(err->message);
    }
    return code;
}

int client_error_wrap(struct shoal_error *err, const char *fmt, ...)
{
    char inner[sizeof(err->message)];
    va_list args;
    size_t used;

    if (!err) {
        return 0;
    }
    memcpy(inner, err->message, sizeof(inner));
    va_start(args, fmt);
    (void)vsnprintf(err->message, sizeof(err->message), fmt, args);
    va_end(args);
    used = strlen(err->message);
    (void)snprintf(err->message + used, sizeof(err->message) - used, ": %s", inner);
    client_text_clean(err->message);
    return err->code;
}

void client_error_clear(struct shoal_error *err)
{
    if (err) {
        assert(err->size >= FIRST_VERSION_BYTES); /* SHOAL_ERROR_INIT was forgotten */
        err->code = 0;
        err->http_status = 0;
        err->request_id[0] = '\0';
        err->message[0] = '\0';
    }
}

int client_code_of_status(long status)
{
    static const struct {
        int status;
        int code;
    } map[] = {
        {400, SHOAL_EINVALIDARG},  {401, SHOAL_EAUTH},
        {402, SHOAL_EQUOTA},       {403, SHOAL_EFORBIDDEN},
        {404, SHOAL_ENOTFOUND},    {405, SHOAL_EMETHOD},
        {409, SHOAL_ECONFLICT},    {410, SHOAL_EGONE},
        {413, SHOAL_ELIMIT},       {429, SHOAL_EQUOTA},
        {502, SHOAL_EUNAVAILABLE}, {503, SHOAL_EUNAVAILABLE},
        {504, SHOAL_EUNAVAILABLE}, {507, -ENOSPC},
    };

    for (size_t i = 0; i < SHL_ARRAY_SIZE(map); i++) {
        if (map[i].status == status) {
            return map[i].code;
        }
    }
    if (status >= 500) {
        return -EREMOTEIO;
    }
    return status >= 400 ? SHOAL_EINVALIDARG : SHOAL_EPROTO;
}

void client_text_clean(char *text)
{
    for (char *c = text; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            *c = '?';
        }
    }
}

const char *shoal_error_name(int code)
{
    return shl_err_name(code);
}

const char *shoal_version(void)
{
    return SHL_VERSION;
}
