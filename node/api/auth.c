#include "node/api/auth.h"

#include <string.h>
#include <strings.h>

#include "node/api/keys.h"
#include "node/api/token.h"
#include "node/http/exchange.h"

static const char *not_empty(const char *text)
{
    return text && *text != '\0' ? text : NULL;
}

/* "Bearer TOKEN" to TOKEN. */
static const char *bearer_of(const char *header)
{
    if (!header || strncasecmp(header, "Bearer ", 7) != 0) {
        return header;
    }
    header += 7;
    return header + strspn(header, " ");
}

void node_credentials_of(struct node_exchange *x, struct node_credentials *ret)
{
    const char *key = not_empty(node_exchange_header(x, "X-API-Key"));
    const char *token = not_empty(bearer_of(node_exchange_header(x, "Authorization")));

    ret->key_slot = key ? key : not_empty(node_url_query(&x->url, "api_key"));
    ret->token_slot = token ? token : not_empty(node_url_query(&x->url, "token"));
}

static int check_token(const struct node_auth *auth,
                       const char *text,
                       const char *sandbox_id,
                       int64_t now_ms,
                       struct node_caller *caller,
                       struct shl_err *err)
{
    struct node_token token;

    if (node_token_check(auth->token_key, text, now_ms / 1000, &token) < 0) {
        return shl_err_set(err, SHL_EAUTH, "invalid token");
    }
    if (!sandbox_id) {
        return shl_err_set(err, SHL_EFORBIDDEN,
                           "a sandbox token opens the sandbox's data only: use an API key here");
    }
    if (strcmp(token.sandbox_id, sandbox_id) != 0) {
        return shl_err_set(err, SHL_EFORBIDDEN, "the token belongs to another sandbox");
    }
    memcpy(caller->org, token.org, sizeof(caller->org));
    memcpy(caller->sandbox_id, token.sandbox_id, sizeof(caller->sandbox_id));
    return 0;
}

int node_auth_check(const struct node_auth *auth,
                    const struct node_credentials *credentials,
                    const char *sandbox_id,
                    int64_t now_ms,
                    struct node_caller *ret_caller,
                    struct shl_err *err)
{
    const char *key = credentials->key_slot;
    struct node_key_info info;
    int rc;

    *ret_caller = (struct node_caller){.is_admin = false};
    if (key && !node_token_looks_like(key)) {
        rc = node_keys_check(auth->store, key, now_ms, &info, err);
        if (rc == 0) {
            memcpy(ret_caller->org, info.org, sizeof(ret_caller->org));
            ret_caller->is_admin = info.admin;
        }
        return rc;
    }
    if (key || credentials->token_slot) {
        return check_token(auth, key ? key : credentials->token_slot, sandbox_id, now_ms,
                           ret_caller, err);
    }
    return shl_err_set(err, SHL_EAUTH, "missing API key: send it in the X-API-Key header");
}
