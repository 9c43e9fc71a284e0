/* Certificates that programs in the guest are to believe: those of the egress gateway and of the
 * machine it stands on.
 *
 * They go where Debian's programs look (bundle and folder), where update-ca-certificates takes
 * them from when it makes those anew, and alone into one file for programs that add a file to
 * what they trust. What is there already is not written again.
 */
#ifndef SHL_AGENT_TRUST_H
#define SHL_AGENT_TRUST_H

#include <stddef.h>

#include "agent/protocol.h"
#include "base/err.h"
#include "base/mp.h"

#define AGENT_TRUST_HASH_DIGITS 8

struct agent_trusted {
    char hash[AGENT_TRUST_HASH_DIGITS + 1];
    char *pem; /* heap */
};

/* All zero: none. */
struct agent_trust {
    struct agent_trusted list[AGENT_TRUST_MAX];
    size_t count;
};

/* @list may be NULL. 0 or SHL_EINVALIDARG with a sentence. */
SHL_MUST_CHECK int agent_trust_decode(struct agent_trust *trust,
                                      const msgpack_object *list,
                                      struct shl_err *err);
void agent_trust_release(struct agent_trust *trust);

/* Below @root ("" in a guest). Blocking. 0 or -errno with a sentence. */
SHL_MUST_CHECK int agent_trust_apply(const struct agent_trust *trust,
                                     const char *root,
                                     struct shl_err *err);

#endif /* SHL_AGENT_TRUST_H */
