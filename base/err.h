/* Error codes and error texts: the contract of the whole tree.
 *
 * Functions that can fail return an int: zero or more is success, negative is
 * failure. Negative errno values (and libuv's UV_*, which equal them on Linux)
 * pass through unchanged; Shoal's own codes start at -10001 and come from
 * SHL_ERR_MAP alone. The numbers travel on the wire between programs: append,
 * never renumber.
 *
 * Where a person will read the outcome, the last parameter is a struct shl_err
 * owned by the caller (may be NULL): one sentence saying what happened and what
 * to do. Libraries never log an error they return; the level that stops passing
 * it on logs it once. What a guest, peer, user or kernel can cause is an error
 * return; only programming errors are asserts.
 */
#ifndef SHL_BASE_ERR_H
#define SHL_BASE_ERR_H

#include <stdarg.h>

#include "base/attr.h"

#define SHL_ERR_MAP(X)                                                                 \
    X(EPROTO, -10001, "the other side sent something that is not valid")               \
    X(ELIMIT, -10002, "a size or count is over its limit")                             \
    X(ENOTFOUND, -10003, "there is no such object")                                    \
    X(ECONFLICT, -10004, "the name or object is already taken")                        \
    X(EBADSTATE, -10005, "the object is not in a state that allows this")              \
    X(EGONE, -10006, "the object existed but has ended")                               \
    X(ENOCAPACITY, -10007, "no capacity is left on this node")                         \
    X(EGUEST, -10008, "the guest misbehaved")                                          \
    X(EAUTH, -10009, "the caller did not prove who it is")                             \
    X(EFORBIDDEN, -10010, "the caller may not do this")                                \
    X(EUNAVAILABLE, -10011, "the service is not available right now, try again")       \
    X(EVERSION, -10012, "the version of the other side or of a file is not supported") \
    X(ECORRUPT, -10013, "stored data is damaged")                                      \
    X(EQUOTA, -10014, "a limit on concurrent objects is reached")                      \
    X(ENOKVM, -10015, "KVM is not usable on this machine")                             \
    X(EINVALIDARG, -10016, "an argument is not valid")                                 \
    X(EMETHOD, -10017, "the method is not allowed here")                               \
    X(EINCOMPATIBLE, -10018, "this machine cannot run what was saved on another")

enum shl_errno {
#define SHL_ERR_ENUM(name, value, text) SHL_##name = (value),
    SHL_ERR_MAP(SHL_ERR_ENUM)
#undef SHL_ERR_ENUM
};

#define SHL_ERR_TEXT_MAX 256

struct shl_err {
    int code;                   /* negative, or 0 when nothing was set */
    char msg[SHL_ERR_TEXT_MAX]; /* one sentence, always terminated */
};

/* Set or replace the text. @err may be NULL. Returns @code, which must be
 * negative, so that `return shl_err_set(err, ...)` is one statement. */
int shl_err_set(struct shl_err *err, int code, const char *fmt, ...) SHL_PRINTF(3, 4);

/* Put "context: " in front of the text already there. Returns @code. */
int shl_err_wrap(struct shl_err *err, int code, const char *fmt, ...) SHL_PRINTF(3, 4);

/* Like shl_err_set for a failed system call: appends ": " and strerror. @errnum is positive. */
int shl_err_sys(struct shl_err *err, int errnum, const char *fmt, ...) SHL_PRINTF(3, 4);

/* "ENOTFOUND" or "ENOENT" style name; "E?" for an unknown code. Static storage. */
const char *shl_err_name(int code);

/* General sentence for a code. Static storage (strerror text for errno values). */
const char *shl_err_text(int code);

#endif /* SHL_BASE_ERR_H */
