/* What one sandbox may reach, and which sealed tokens stand for what on the way there.
 *
 * The daemon resolves a policy from the secret stores of a sandbox (node/secret/resolve.h) and
 * gives it to the egress gateway, which keeps it until a newer one comes or the sandbox ends.
 * Pure: matching and the life of the struct, nothing else. Not thread-safe; a policy has one
 * owner at a time.
 *
 * A host is compared in one spelling (node_host_normalise). A pattern is that, or
 * "*.example.com" (any depth below, not example.com itself), or "*" (every host).
 *
 * Values live in guarded memory (sodium_malloc) and are wiped when the policy is released; they
 * go into no log, error or copy but the request that is allowed to have them.
 */
#ifndef SHL_NODE_SECRET_POLICY_H
#define SHL_NODE_SECRET_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"

#define NODE_SEALED_PREFIX "osb_sealed_"
#define NODE_SEALED_DIGITS 32 /* lower-case hexadecimal */
#define NODE_SEALED_SIZE   44 /* prefix, digits, terminator */

#define NODE_HOST_SIZE 254 /* of a host name or pattern, with terminator */

#define NODE_EGRESS_PATTERNS_MAX 256         /* of all allowlists of a sandbox together */
#define NODE_SECRET_HOSTS_MAX    32          /* allowed hosts of one secret */
#define NODE_EGRESS_SECRETS_MAX  256         /* of one sandbox */
#define NODE_SECRET_VALUE_MAX    (16 * 1024) /* bytes */
#define NODE_SECRET_NAME_SIZE    257         /* of an environment variable, with terminator */

/* Patterns in their one spelling. All zero: none. */
struct node_host_list {
    char (*items)[NODE_HOST_SIZE]; /* heap */
    size_t count;
};

struct node_egress_secret {
    char token[NODE_SEALED_SIZE];
    uint8_t *value; /* sodium_malloc; NULL: the token stands for nothing (any more) */
    size_t value_len;
    struct node_host_list hosts; /* empty: every host that the sandbox may reach */
    bool is_kept;                /* its store is gone: what the token stood for goes on */
};

/* All zero is the policy that allows nothing, so what was forgotten stays shut. */
struct node_egress_policy {
    bool is_open; /* no allowlist: every public host may be reached */
    struct node_host_list allowlist;
    struct node_egress_secret *secrets; /* heap */
    size_t secret_count;
};

/*- Hosts. */

/* "API.Example.com.:443" -> "api.example.com": lower case, without port and final dot. An IPv6
 * address keeps its brackets or gets none. 0; -EINVAL: empty, too long, or a character that no
 * host has. */
SHL_MUST_CHECK int node_host_normalise(char dst[NODE_HOST_SIZE], const char *text, size_t len);
/* The same for a pattern: also "*" and "*.suffix"; a star elsewhere is -EINVAL. */
SHL_MUST_CHECK int node_host_pattern_normalise(char dst[NODE_HOST_SIZE],
                                               const char *text,
                                               size_t len);
/* Both in their one spelling. */
bool node_host_matches(const char *host, const char *pattern);

void node_host_list_release(struct node_host_list *list);
bool node_host_list_has(const struct node_host_list *list, const char *pattern);
/* Append unless it is there. 0, -EINVAL (no pattern), SHL_ELIMIT (more than @max), -ENOMEM. */
SHL_MUST_CHECK int node_host_list_add(struct node_host_list *list,
                                      const char *text,
                                      size_t len,
                                      size_t max);
SHL_MUST_CHECK int node_host_list_copy(struct node_host_list *dst,
                                       const struct node_host_list *src);
bool node_host_list_matches(const struct node_host_list *list, const char *host);

/*- Policies. @host in its one spelling. */

/* Wipes and frees; all zero afterwards. */
void node_egress_policy_release(struct node_egress_policy *policy);
/* Values are copied, so each copy is released on its own. 0 or -ENOMEM (then @dst is all zero). */
SHL_MUST_CHECK int node_egress_policy_copy(struct node_egress_policy *dst,
                                           const struct node_egress_policy *src);
/* Values and hosts of kept secrets that have none, from the policy that goes: whoever takes a new
 * one in place of @before calls this. -ENOMEM: some of them stand for nothing now. */
int node_egress_policy_keep(struct node_egress_policy *policy,
                            const struct node_egress_policy *before);
/* Append a secret: @value is copied into guarded memory; its hosts are added by the caller to
 * what is returned, which is valid until the next one is added. NULL: too many, too large, or no
 * memory. */
struct node_egress_secret *node_egress_policy_add(struct node_egress_policy *policy,
                                                  const char *token,
                                                  struct shl_bytes value);

/* By its allowlist alone; that the address is a public one is checked by the gateway. */
bool node_egress_may_reach(const struct node_egress_policy *policy, const char *host);
/* Does any secret go to @host? Otherwise there is no reason to look into a connection. */
bool node_egress_has_secret_for(const struct node_egress_policy *policy, const char *host);
/* What goes to @host instead of @token (NODE_SEALED_SIZE - 1 characters): base NULL when the
 * token is not of this sandbox, or the host is not one of its hosts: then the token itself
 * goes out. Borrowed. */
struct shl_bytes node_egress_value(const struct node_egress_policy *policy,
                                   const char *host,
                                   const char *token);

/* Is @text a token, exactly? */
bool node_sealed_is_valid(const char *text, size_t len);
/* A fresh one. */
void node_sealed_make(char dst[NODE_SEALED_SIZE]);

#endif /* SHL_NODE_SECRET_POLICY_H */
