/* Decoding what the node wants of the guest. */
#include "agent/setup.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "agent/hotplug.h"
#include "base/mp.h"

#define TIME_MAX_MS (1ull << 50)

static bool all_chars(const char *text, int (*is)(int), const char *more)
{
    for (; *text; text++) {
        if (!is((unsigned char)*text) && !strchr(more, *text)) {
            return false;
        }
    }
    return true;
}

/* 0 when absent or fine. */
static int get_text(const msgpack_object *request,
                    const char *key,
                    char *dst,
                    size_t size,
                    struct shl_err *err)
{
    int rc = shl_mp_get_cpy(request, key, dst, size);

    return rc == 0 || rc == SHL_ENOTFOUND
               ? 0
               : shl_err_set(err, SHL_EINVALIDARG, "%s must be a text below %zu bytes", key, size);
}

static int get_uint(const msgpack_object *request,
                    const char *key,
                    uint64_t max,
                    uint64_t *ret,
                    struct shl_err *err)
{
    int rc = shl_mp_get_uint(request, key, max, ret);

    return rc == 0 || rc == SHL_ENOTFOUND
               ? 0
               : shl_err_set(err, SHL_EINVALIDARG, "%s must be a number from 0 to %llu", key,
                             (unsigned long long)max);
}

static int get_dns(const msgpack_object *request, struct agent_setup *setup, struct shl_err *err)
{
    const msgpack_object *list = shl_mp_find(request, "dns");
    uint32_t i;

    if (!list) {
        return 0;
    }
    if (list->type != MSGPACK_OBJECT_ARRAY || list->via.array.size > AGENT_NAMESERVERS_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG, "dns must be a list of at most %d addresses",
                           AGENT_NAMESERVERS_MAX);
    }
    for (i = 0; i < list->via.array.size; i++) {
        const msgpack_object *item = &list->via.array.ptr[i];
        char *dst = setup->dns[i];

        if (item->type != MSGPACK_OBJECT_STR || item->via.str.size == 0 ||
            item->via.str.size >= sizeof(setup->dns[i])) {
            return shl_err_set(err, SHL_EINVALIDARG, "dns must be a list of addresses");
        }
        memcpy(dst, item->via.str.ptr, item->via.str.size);
        dst[item->via.str.size] = '\0';
        if (!all_chars(dst, isxdigit, ".:")) {
            return shl_err_set(err, SHL_EINVALIDARG, "dns must be a list of addresses");
        }
        setup->dns_count++;
    }
    return 0;
}

static int check_setup(const struct agent_setup *setup, struct shl_err *err)
{
    if (!all_chars(setup->hostname, isalnum, "-.")) {
        return shl_err_set(err, SHL_EINVALIDARG, "hostname has a character no host name has");
    }
    if (*setup->machine_id && (strlen(setup->machine_id) != AGENT_MACHINE_ID_DIGITS ||
                               !all_chars(setup->machine_id, isxdigit, ""))) {
        return shl_err_set(err, SHL_EINVALIDARG, "machine_id must be %d hexadecimal digits",
                           AGENT_MACHINE_ID_DIGITS);
    }
    return 0;
}

static int get_entropy(const msgpack_object *request,
                       struct agent_setup *setup,
                       struct shl_err *err)
{
    struct shl_bytes entropy = {0};

    if (shl_mp_get_bin(request, "entropy", &entropy) == SHL_EPROTO ||
        entropy.len > sizeof(setup->entropy)) {
        return shl_err_set(err, SHL_EINVALIDARG, "entropy must be binary, at most %d bytes",
                           AGENT_ENTROPY_MAX_BYTES);
    }
    if (entropy.len > 0) {
        memcpy(setup->entropy, entropy.base, entropy.len);
    }
    setup->entropy_len = entropy.len;
    return 0;
}

static int get_mac(const msgpack_object *request, struct agent_setup *setup, struct shl_err *err)
{
    char text[18], end;
    uint8_t *mac = setup->net.mac;
    int rc = shl_mp_get_cpy(request, "mac", text, sizeof(text));

    if (rc == SHL_ENOTFOUND) {
        return 0;
    }
    if (rc < 0 || strlen(text) != sizeof(text) - 1 || !all_chars(text, isxdigit, ":") ||
        sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", &mac[0], &mac[1], &mac[2], &mac[3],
               &mac[4], &mac[5], &end) != AGENT_MAC_BYTES ||
        (mac[0] & 1)) {
        return shl_err_set(err, SHL_EINVALIDARG, "mac must be the address of one device");
    }
    setup->net.has_mac = true;
    return 0;
}

static int get_env(const msgpack_object *request, struct agent_setup *setup, struct shl_err *err)
{
    int rc = agent_environ_merge_map(&setup->env, shl_mp_find(request, "env"));

    setup->has_env = shl_mp_find(request, "env") != NULL;
    return rc == 0
               ? 0
               : shl_err_set(err, rc, "env must map names (no '=', not empty) to texts, at most %d",
                             AGENT_ENVIRON_MAX);
}

static int get_cwd(const msgpack_object *request, struct agent_setup *setup, struct shl_err *err)
{
    int rc = get_text(request, "cwd", setup->cwd, sizeof(setup->cwd), err);

    setup->has_cwd = shl_mp_find(request, "cwd") != NULL;
    if (rc == 0 && setup->cwd[0] != '\0' && setup->cwd[0] != '/') {
        return shl_err_set(err, SHL_EINVALIDARG, "cwd must be an absolute path");
    }
    return rc;
}

/* The machine as it is to be: sizes, time. */
static int decode_machine(const msgpack_object *request,
                          struct agent_setup *setup,
                          struct shl_err *err)
{
    int rc = get_uint(request, "time_ms", TIME_MAX_MS, &setup->time_ms, err);

    if (rc == 0) {
        rc = get_uint(request, "disk_bytes", INT64_MAX, &setup->disk_bytes, err);
    }
    if (rc == 0) {
        rc = get_uint(request, "memory_bytes", INT64_MAX, &setup->memory_bytes, err);
    }
    if (rc == 0) {
        rc = get_uint(request, "cpus", AGENT_CPUS_MAX, &setup->cpus, err);
    }
    return rc;
}

static int decode_network(const msgpack_object *request,
                          struct agent_setup *setup,
                          struct shl_err *err)
{
    uint64_t prefix = 0;
    int rc = get_text(request, "ip", setup->net.ip, sizeof(setup->net.ip), err);

    if (rc == 0) {
        rc = get_text(request, "gateway", setup->net.gateway, sizeof(setup->net.gateway), err);
    }
    if (rc == 0) {
        rc = get_uint(request, "prefix", 32, &prefix, err);
        setup->net.prefix = (unsigned)prefix;
    }
    if (rc == 0) {
        rc = get_mac(request, setup, err);
    }
    return rc == 0 ? get_dns(request, setup, err) : rc;
}

int agent_setup_decode(struct agent_setup *setup,
                       const msgpack_object *request,
                       struct shl_err *err)
{
    int rc;

    memset(setup, 0, sizeof(*setup));
    agent_environ_init(&setup->env);
    rc = get_text(request, "hostname", setup->hostname, sizeof(setup->hostname), err);
    if (rc == 0) {
        rc = get_text(request, "machine_id", setup->machine_id, sizeof(setup->machine_id), err);
    }
    if (rc == 0) {
        rc = get_text(request, "sandbox", setup->sandbox_id, sizeof(setup->sandbox_id), err);
    }
    if (rc == 0) {
        rc = decode_network(request, setup, err);
    }
    if (rc == 0) {
        rc = get_entropy(request, setup, err);
    }
    if (rc == 0) {
        rc = decode_machine(request, setup, err);
    }
    if (rc == 0) {
        rc = get_env(request, setup, err);
    }
    if (rc == 0) {
        rc = agent_trust_decode(&setup->trust, shl_mp_find(request, "trust"), err);
    }
    if (rc == 0) {
        rc = get_cwd(request, setup, err);
    }
    return rc == 0 ? check_setup(setup, err) : rc;
}

void agent_setup_release(struct agent_setup *setup)
{
    agent_environ_release(&setup->env);
    agent_trust_release(&setup->trust);
}
