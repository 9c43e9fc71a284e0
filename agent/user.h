/* Users of the guest, read from /etc/passwd and /etc/group directly: a static program
 * has no NSS, and the templates have no other source of users. */
#ifndef SHL_AGENT_USER_H
#define SHL_AGENT_USER_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/attr.h"

#define AGENT_GROUPS_MAX 64

struct agent_user {
    char name[33];
    char home[256];
    char shell[128];
    uid_t uid;
    gid_t gid;
    gid_t groups[AGENT_GROUPS_MAX]; /* supplementary, gid included */
    size_t group_count;
    bool keep_ids; /* run as whoever the agent is (not as root in a guest) */
};

/* 0, SHL_ENOTFOUND, or why @passwd_path cannot be read. A missing group file is fine. */
SHL_MUST_CHECK int agent_user_find(const char *passwd_path,
                                   const char *group_path,
                                   const char *name,
                                   struct agent_user *ret);

/* Sandbox user of an image that has no such user: uid and gid 1000. */
void agent_user_default(struct agent_user *user);

#endif /* SHL_AGENT_USER_H */
