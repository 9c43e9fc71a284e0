#include "agent/guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/protocol.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/mp.h"

#define PASSWD_FILE      "/etc/passwd"
#define GROUP_FILE       "/etc/group"
#define ENVIRONMENT_FILE "/etc/environment"
#define SEARCH_PATH      "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"

void agent_guest_init_system(struct agent_guest *guest)
{
    *guest = (struct agent_guest){.is_init = true};
    if (agent_user_find(PASSWD_FILE, GROUP_FILE, "sandbox", &guest->user) < 0) {
        agent_user_default(&guest->user);
    }
    (void)snprintf(guest->home, sizeof(guest->home), "%s", guest->user.home);
    agent_environ_init(&guest->env);
}

void agent_guest_init_here(struct agent_guest *guest, const char *home)
{
    *guest = (struct agent_guest){.is_init = false};
    guest->user = (struct agent_user){
        .name = "sandbox", .shell = "/bin/sh", .uid = getuid(), .gid = getgid(), .keep_ids = true};
    (void)snprintf(guest->home, sizeof(guest->home), "%s", home);
    (void)snprintf(guest->user.home, sizeof(guest->user.home), "%s", home);
    agent_environ_init(&guest->env);
}

void agent_guest_release(struct agent_guest *guest)
{
    agent_environ_release(&guest->env);
}

int agent_guest_user(const struct agent_guest *guest,
                     const char *name,
                     struct agent_user *ret,
                     struct shl_err *err)
{
    int rc;

    if (!name || strcmp(name, guest->user.name) == 0) {
        *ret = guest->user;
        return 0;
    }
    rc = agent_user_find(PASSWD_FILE, GROUP_FILE, name, ret);
    if (rc < 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "there is no user '%.32s' in this sandbox", name);
    }
    if (geteuid() != 0 && ret->uid != geteuid()) {
        return shl_err_set(err, SHL_EFORBIDDEN, "the agent cannot run commands as '%s'", name);
    }
    ret->keep_ids = geteuid() != 0;
    return 0;
}

static int set_builtin(struct agent_environ *env, const struct agent_user *user)
{
    const char *const vars[][2] = {
        {"PATH", SEARCH_PATH},  {"HOME", user->home}, {"USER", user->name}, {"LOGNAME", user->name},
        {"SHELL", user->shell}, {"LANG", "C.UTF-8"},  {"IS_SANDBOX", "1"},
    };
    size_t i;
    int rc = 0;

    for (i = 0; rc == 0 && i < SHL_ARRAY_SIZE(vars); i++) {
        rc = agent_environ_set_str(env, vars[i][0], vars[i][1]);
    }
    return rc;
}

int agent_guest_environ(const struct agent_guest *guest,
                        const struct agent_user *user,
                        const msgpack_object *more,
                        struct agent_environ *env,
                        struct shl_err *err)
{
    int rc = set_builtin(env, user);

    if (rc == 0 && *guest->sandbox_id) {
        rc = agent_environ_set_str(env, "SHOAL_SANDBOX_ID", guest->sandbox_id);
    }
    if (rc == 0 && guest->is_init) {
        agent_environ_merge_file(env, ENVIRONMENT_FILE);
    }
    if (rc == 0) {
        rc = agent_environ_merge(env, &guest->env);
    }
    if (rc == 0) {
        rc = agent_environ_merge_map(env, more);
    }
    if (rc == SHL_EINVALIDARG) {
        return shl_err_set(err, rc,
                           "envs must map names (no '=', not empty) to strings without zero bytes");
    }
    return rc < 0 ? shl_err_set(err, rc, "the environment has too many variables") : 0;
}

int agent_guest_path(const struct agent_guest *guest,
                     const msgpack_object *request,
                     const char *key,
                     bool required,
                     char **ret_path,
                     struct shl_err *err)
{
    SHL_CLEANUP_FREE char *path = NULL;
    char *joined;
    int rc = shl_mp_get_dup(request, key, &path);

    *ret_path = NULL;
    if (rc == SHL_ENOTFOUND && !required) {
        return 0;
    }
    if (rc < 0 || *path == '\0') {
        return shl_err_set(err, rc == -ENOMEM ? rc : SHL_EINVALIDARG,
                           "%s must be a text that is not empty and has no zero byte", key);
    }
    if (strlen(path) >= AGENT_PATH_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG, "%s is longer than %u bytes", key,
                           AGENT_PATH_MAX - 1);
    }
    if (*path == '/') {
        *ret_path = shl_steal_ptr(&path);
        return 0;
    }
    if (asprintf(&joined, "%s/%s", guest->home, path) < 0) {
        return shl_err_set(err, -ENOMEM, "the agent is out of memory");
    }
    *ret_path = joined;
    return 0;
}

void agent_phases_mark(struct agent_phases *phases, const char *name)
{
    if (phases->count < AGENT_PHASES_MAX) {
        phases->name[phases->count] = name;
        phases->at_ms[phases->count++] = shl_boottime_ms();
    }
}
