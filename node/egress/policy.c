#include "node/egress/policy.h"

#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/mp.h"

static void write_hosts(struct shl_mp_writer *w, const char *key, const struct node_host_list *list)
{
    size_t i;

    shl_mp_kv_array(w, key);
    for (i = 0; i < list->count; i++) {
        shl_mp_str(w, list->items[i]);
    }
    shl_mp_end(w);
}

int egress_policy_write(const struct node_egress_policy *policy, struct shl_buf *out)
{
    struct shl_mp_writer w;
    size_t i;

    shl_mp_writer_init(&w, out);
    shl_mp_map(&w);
    shl_mp_kv_bool(&w, "open", policy->is_open);
    write_hosts(&w, "allow", &policy->allowlist);
    shl_mp_kv_array(&w, "secrets");
    for (i = 0; i < policy->secret_count; i++) {
        const struct node_egress_secret *secret = &policy->secrets[i];

        shl_mp_map(&w);
        shl_mp_kv_str(&w, "token", secret->token);
        if (secret->value) {
            shl_mp_kv_bin(&w, "value", secret->value, secret->value_len);
        }
        write_hosts(&w, "hosts", &secret->hosts);
        if (secret->is_kept) {
            shl_mp_kv_bool(&w, "kept", true);
        }
        shl_mp_end(&w);
    }
    shl_mp_end(&w);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

static int read_hosts(const msgpack_object *map,
                      const char *key,
                      size_t max,
                      struct node_host_list *ret)
{
    const msgpack_object *list = shl_mp_find(map, key);
    uint32_t i;
    int rc = 0;

    if (!list || list->type != MSGPACK_OBJECT_ARRAY) {
        return SHL_EPROTO;
    }
    for (i = 0; i < list->via.array.size && rc == 0; i++) {
        const msgpack_object *item = &list->via.array.ptr[i];

        if (item->type != MSGPACK_OBJECT_STR) {
            return SHL_EPROTO;
        }
        rc = node_host_list_add(ret, item->via.str.ptr, item->via.str.size, max);
    }
    return rc == -EINVAL ? SHL_EPROTO : rc;
}

static int read_secret(const msgpack_object *map, struct node_egress_policy *policy)
{
    struct node_egress_secret *secret;
    struct shl_bytes value = {NULL, 0};
    char token[NODE_SEALED_SIZE];
    int rc = shl_mp_get_bin(map, "value", &value);

    if ((rc < 0 && rc != SHL_ENOTFOUND) || shl_mp_get_cpy(map, "token", token, sizeof(token)) < 0) {
        return SHL_EPROTO;
    }
    if (rc == 0 && value.len == 0) {
        value.base = (const uint8_t *)""; /* an empty value is one, too */
    }
    secret = node_egress_policy_add(policy, token, value);
    if (!secret) {
        return SHL_ELIMIT;
    }
    rc = shl_mp_get_bool(map, "kept", &secret->is_kept);
    if (rc < 0 && rc != SHL_ENOTFOUND) {
        return SHL_EPROTO;
    }
    return read_hosts(map, "hosts", NODE_SECRET_HOSTS_MAX, &secret->hosts);
}

static int read_policy(const msgpack_object *root, struct node_egress_policy *policy)
{
    const msgpack_object *list = shl_mp_find(root, "secrets");
    uint32_t i;
    int rc;

    if (shl_mp_get_bool(root, "open", &policy->is_open) < 0 || !list ||
        list->type != MSGPACK_OBJECT_ARRAY) {
        return SHL_EPROTO;
    }
    rc = read_hosts(root, "allow", NODE_EGRESS_PATTERNS_MAX, &policy->allowlist);
    for (i = 0; i < list->via.array.size && rc == 0; i++) {
        rc = read_secret(&list->via.array.ptr[i], policy);
    }
    return rc;
}

int egress_policy_read(struct shl_bytes bytes, struct node_egress_policy *ret)
{
    struct shl_mp_doc doc;
    int rc;

    memset(ret, 0, sizeof(*ret));
    rc = shl_mp_parse(&doc, bytes);
    if (rc < 0) {
        return rc;
    }
    rc = read_policy(doc.root, ret);
    shl_mp_release(&doc);
    if (rc < 0) {
        node_egress_policy_release(ret);
    }
    return rc;
}
