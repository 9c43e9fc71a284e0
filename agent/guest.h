/* What the agent knows about the guest it serves: users, home, environment. */
#ifndef SHL_AGENT_GUEST_H
#define SHL_AGENT_GUEST_H

#include <stdbool.h>

#include "agent/boot_id.h"
#include "agent/environ.h"
#include "agent/hotplug.h"
#include "agent/protocol.h"
#include "agent/user.h"
#include "base/err.h"

#define AGENT_PHASES_MAX      8
#define AGENT_SANDBOX_ID_SIZE 65

/* Boot phases and when each ended, in ms since the kernel started. */
struct agent_phases {
    const char *name[AGENT_PHASES_MAX]; /* static */
    uint64_t at_ms[AGENT_PHASES_MAX];
    size_t count;
};

struct agent_guest {
    bool is_init;                           /* PID 1 of a guest: may change the machine */
    struct agent_user user;                 /* whom commands run as by default */
    char home[256];                         /* base of relative paths */
    char sandbox_id[AGENT_SANDBOX_ID_SIZE]; /* of the latest setup, like env */
    struct agent_environ env;
    char cwd[AGENT_PATH_MAX]; /* default working directory, "": the home */
    struct agent_phases phases;

    /*- of the system pool once that runs */
    struct agent_memory_base memory;
    uint64_t grown_bytes; /* disk the root file system was grown to, 0 when not yet */
    struct agent_boot_id boot_id;
};

/* As the first process: user "sandbox" of the image, or uid 1000 when it has none. */
void agent_guest_init_system(struct agent_guest *guest);

/* As a normal process, for tests: whoever runs it, files below @home. */
void agent_guest_init_here(struct agent_guest *guest, const char *home);

void agent_guest_release(struct agent_guest *guest);

/* @name NULL is the default user. 0, SHL_EINVALIDARG (no such user), SHL_EFORBIDDEN. */
SHL_MUST_CHECK int agent_guest_user(const struct agent_guest *guest,
                                    const char *name,
                                    struct agent_user *ret,
                                    struct shl_err *err);

/* Built-in variables of @user, then /etc/environment, then setup, then @more (a msgpack
 * map or NULL), into the initialised @env. */
SHL_MUST_CHECK int agent_guest_environ(const struct agent_guest *guest,
                                       const struct agent_user *user,
                                       const msgpack_object *more,
                                       struct agent_environ *env,
                                       struct shl_err *err);

/* Field @key of @request as an absolute path on the heap; relative ones start at the
 * home. @required: a missing one is an error, else *ret_path is NULL then. */
SHL_MUST_CHECK int agent_guest_path(const struct agent_guest *guest,
                                    const msgpack_object *request,
                                    const char *key,
                                    bool required,
                                    char **ret_path,
                                    struct shl_err *err);

void agent_phases_mark(struct agent_phases *phases, const char *name);

#endif /* SHL_AGENT_GUEST_H */
