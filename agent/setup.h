/* What the node wants the guest to be: the request of op setup, decoded and carried out.
 *
 * Decoding copies, so that carrying it out may take its time on another thread.
 */
#ifndef SHL_AGENT_SETUP_H
#define SHL_AGENT_SETUP_H

#include <stdbool.h>

#include "agent/environ.h"
#include "agent/freeze.h"
#include "agent/guest.h"
#include "agent/net.h"
#include "agent/protocol.h"
#include "agent/trust.h"

#define AGENT_HOSTNAME_SIZE     64
#define AGENT_ENTROPY_MAX_BYTES 512
#define AGENT_NAMESERVERS_MAX   3
#define AGENT_MACHINE_ID_DIGITS 32
#define AGENT_DISK_WAIT_MS      15000 /* for the disk to become as large as was said */

struct agent_setup {
    char hostname[AGENT_HOSTNAME_SIZE];
    char machine_id[AGENT_MACHINE_ID_DIGITS + 1];
    char sandbox_id[AGENT_SANDBOX_ID_SIZE];
    struct agent_net net;
    char dns[AGENT_NAMESERVERS_MAX][46];
    size_t dns_count;
    uint8_t entropy[AGENT_ENTROPY_MAX_BYTES];
    size_t entropy_len;
    uint64_t time_ms;      /* 0: leave the clock alone */
    uint64_t disk_bytes;   /* 0: leave the root file system alone */
    uint64_t memory_bytes; /* 0: do not wait for any */
    uint64_t cpus;         /* 0: leave them alone */
    bool has_cwd;
    char cwd[AGENT_PATH_MAX]; /* "": the home */
    struct agent_trust trust; /* owned */
    bool has_env;
    struct agent_environ env; /* owned */
};

/* 0 or SHL_EINVALIDARG with a sentence; agent_setup_release is due in any case. */
SHL_MUST_CHECK int agent_setup_decode(struct agent_setup *setup,
                                      const msgpack_object *request,
                                      struct shl_err *err);
void agent_setup_release(struct agent_setup *setup);

/* Change the machine, which must be a guest of our own. Blocking. A step that fails does
 * not keep the others from being done; the first failure is the result. Does not thaw user
 * processes, only the file system, because it writes there. */
SHL_MUST_CHECK int agent_setup_apply(const struct agent_setup *setup,
                                     struct agent_guest *guest,
                                     struct agent_freezer *freezer,
                                     struct shl_err *err);

#endif /* SHL_AGENT_SETUP_H */
