/* An environment under construction: later settings of a name replace earlier ones. */
#ifndef SHL_AGENT_ENVIRON_H
#define SHL_AGENT_ENVIRON_H

#include <stddef.h>

#include <msgpack.h>

#include "base/attr.h"
#include "base/buf.h"

#define AGENT_ENVIRON_MAX 4096 /* variables */

struct agent_environ {
    char **vars; /* "NAME=value", NULL-terminated once anything was set; owned */
    size_t count;
    size_t cap;
};

void agent_environ_init(struct agent_environ *env);
void agent_environ_release(struct agent_environ *env);

/* 0, SHL_EINVALIDARG (empty name, '=' or zero byte in it), SHL_ELIMIT, -ENOMEM. */
SHL_MUST_CHECK int agent_environ_set(struct agent_environ *env,
                                     struct shl_bytes name,
                                     struct shl_bytes value);
SHL_MUST_CHECK int agent_environ_set_str(struct agent_environ *env,
                                         const char *name,
                                         const char *value);

/* Everything in @from on top of @env. */
SHL_MUST_CHECK int agent_environ_merge(struct agent_environ *env, const struct agent_environ *from);

/* A msgpack map of strings. NULL is an empty one; another type is SHL_EINVALIDARG. */
SHL_MUST_CHECK int agent_environ_merge_map(struct agent_environ *env, const msgpack_object *map);

/* Lines NAME=value of /etc/environment, quotes and "export" as pam_env takes them.
 * What makes no sense, cannot be read or does not fit is skipped: the file belongs to
 * the guest, and a bad one must not make the sandbox useless. */
void agent_environ_merge_file(struct agent_environ *env, const char *path);

/* The value, or NULL. Borrowed. */
const char *agent_environ_get(const struct agent_environ *env, const char *name);

#endif /* SHL_AGENT_ENVIRON_H */
