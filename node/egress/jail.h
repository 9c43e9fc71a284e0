/* What shoal-egress cannot do even if a guest takes it over: see files, become another user,
 * start programs, look into other processes. Entered once everything is open.
 */
#ifndef SHL_NODE_EGRESS_JAIL_H
#define SHL_NODE_EGRESS_JAIL_H

#include <sys/types.h>

#include "base/err.h"

/* As root: @dir (empty but for the sockets) becomes the whole file system, the process user
 * @uid and group @gid without capabilities. As any user: no core files, not traceable, no new
 * privileges, a list of system calls. */
SHL_MUST_CHECK int egress_jail_enter(const char *dir, uid_t uid, gid_t gid, struct shl_err *err);

#endif /* SHL_NODE_EGRESS_JAIL_H */
