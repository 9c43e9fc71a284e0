#include "node/secret/policy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "base/id.h"

#define PREFIX_LEN (sizeof(NODE_SEALED_PREFIX) - 1)

bool node_sealed_is_valid(const char *text, size_t len)
{
    size_t i;

    if (len != NODE_SEALED_SIZE - 1 || memcmp(text, NODE_SEALED_PREFIX, PREFIX_LEN) != 0) {
        return false;
    }
    for (i = PREFIX_LEN; i < len; i++) {
        if (!((text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f'))) {
            return false;
        }
    }
    return true;
}

void node_sealed_make(char dst[NODE_SEALED_SIZE])
{
    shl_id_make(dst, NODE_SEALED_SIZE, NODE_SEALED_PREFIX, NODE_SEALED_DIGITS);
}

void node_egress_policy_release(struct node_egress_policy *policy)
{
    size_t i;

    for (i = 0; i < policy->secret_count; i++) {
        sodium_free(policy->secrets[i].value); /* wipes; NULL is fine */
        node_host_list_release(&policy->secrets[i].hosts);
    }
    free(policy->secrets);
    node_host_list_release(&policy->allowlist);
    memset(policy, 0, sizeof(*policy));
}

static uint8_t *copy_value(struct shl_bytes value)
{
    uint8_t *copy = sodium_malloc(value.len > 0 ? value.len : 1);

    if (copy) {
        memcpy(copy, value.base, value.len);
    }
    return copy;
}

struct node_egress_secret *node_egress_policy_add(struct node_egress_policy *policy,
                                                  const char *token,
                                                  struct shl_bytes value)
{
    struct node_egress_secret fresh = {.value_len = value.len}, *grown;

    if (policy->secret_count >= NODE_EGRESS_SECRETS_MAX || value.len > NODE_SECRET_VALUE_MAX ||
        !node_sealed_is_valid(token, strnlen(token, NODE_SEALED_SIZE))) {
        return NULL;
    }
    grown = realloc(policy->secrets, (policy->secret_count + 1) * sizeof(*grown));
    if (!grown) {
        return NULL;
    }
    policy->secrets = grown;
    memcpy(fresh.token, token, sizeof(fresh.token));
    if (value.base) {
        fresh.value = copy_value(value);
        if (!fresh.value) {
            return NULL;
        }
    }
    grown[policy->secret_count] = fresh;
    return &grown[policy->secret_count++];
}

int node_egress_policy_copy(struct node_egress_policy *dst, const struct node_egress_policy *src)
{
    size_t i;
    int rc;

    *dst = (struct node_egress_policy){.is_open = src->is_open};
    rc = node_host_list_copy(&dst->allowlist, &src->allowlist);
    for (i = 0; rc == 0 && i < src->secret_count; i++) {
        const struct node_egress_secret *from = &src->secrets[i];
        struct node_egress_secret *to =
            node_egress_policy_add(dst, from->token, shl_bytes_of(from->value, from->value_len));

        rc = to ? node_host_list_copy(&to->hosts, &from->hosts) : -ENOMEM;
        if (to) {
            to->is_kept = from->is_kept;
        }
    }
    if (rc < 0) {
        node_egress_policy_release(dst);
    }
    return rc;
}

static int keep_one(struct node_egress_secret *secret, const struct node_egress_secret *before)
{
    node_host_list_release(&secret->hosts);
    if (node_host_list_copy(&secret->hosts, &before->hosts) < 0) {
        return -ENOMEM;
    }
    secret->value = copy_value(shl_bytes_of(before->value, before->value_len));
    secret->value_len = before->value_len;
    return secret->value ? 0 : -ENOMEM;
}

int node_egress_policy_keep(struct node_egress_policy *policy,
                            const struct node_egress_policy *before)
{
    int rc = 0;
    size_t i, j;

    for (i = 0; i < policy->secret_count; i++) {
        struct node_egress_secret *secret = &policy->secrets[i];

        for (j = 0; secret->is_kept && !secret->value && j < before->secret_count; j++) {
            const struct node_egress_secret *old = &before->secrets[j];

            if (old->value && strcmp(old->token, secret->token) == 0 && keep_one(secret, old) < 0) {
                rc = -ENOMEM;
            }
        }
    }
    return rc;
}

bool node_egress_may_reach(const struct node_egress_policy *policy, const char *host)
{
    return policy->is_open || node_host_list_matches(&policy->allowlist, host);
}

static bool may_go_to(const struct node_egress_secret *secret, const char *host)
{
    return secret->value &&
           (secret->hosts.count == 0 || node_host_list_matches(&secret->hosts, host));
}

bool node_egress_has_secret_for(const struct node_egress_policy *policy, const char *host)
{
    size_t i;

    if (!node_egress_may_reach(policy, host)) {
        return false;
    }
    for (i = 0; i < policy->secret_count; i++) {
        if (may_go_to(&policy->secrets[i], host)) {
            return true;
        }
    }
    return false;
}

struct shl_bytes node_egress_value(const struct node_egress_policy *policy,
                                   const char *host,
                                   const char *token)
{
    const struct node_egress_secret *found = NULL;
    size_t i;

    /* Every token is looked at, so that time does not say which one was nearly right. */
    for (i = 0; i < policy->secret_count; i++) {
        if (sodium_memcmp(policy->secrets[i].token, token, NODE_SEALED_SIZE - 1) == 0) {
            found = &policy->secrets[i];
        }
    }
    if (!found || !node_egress_may_reach(policy, host) || !may_go_to(found, host)) {
        return shl_bytes_of(NULL, 0);
    }
    return shl_bytes_of(found->value, found->value_len);
}
