#include "vmm-kvm/request.h"

#include <string.h>

int vmm_frame_next(struct shl_bytes bytes, struct shl_bytes *ret_body)
{
    uint32_t len;

    if (bytes.len < VMM_FRAME_HEADER_BYTES) {
        return 0;
    }
    len = shl_get_le32(bytes.base);
    if (len == 0 || len > VMM_CONTROL_FRAME_MAX) {
        return SHL_EPROTO;
    }
    if (bytes.len - VMM_FRAME_HEADER_BYTES < len) {
        return 0;
    }
    *ret_body = shl_bytes_of(bytes.base + VMM_FRAME_HEADER_BYTES, len);
    return 1;
}

int vmm_request_decode(const msgpack_object *map, struct vmm_request *ret, struct shl_err *err)
{
    static const struct {
        const char *name;
        enum vmm_op op;
    } ops[] = {
        {"start", VMM_OP_START},
        {"stop", VMM_OP_STOP},
        {"status", VMM_OP_STATUS},
        {"stats", VMM_OP_STATS},
    };
    char name[16];
    size_t i;
    int r;

    memset(ret, 0, sizeof(*ret));
    if (shl_mp_get_uint(map, "id", UINT64_MAX, &ret->id) < 0 ||
        shl_mp_get_cpy(map, "op", name, sizeof(name)) < 0) {
        return shl_err_set(err, SHL_EPROTO, "a request needs id and op");
    }
    for (i = 0; i < SHL_ARRAY_SIZE(ops) && strcmp(ops[i].name, name) != 0; i++) {
    }
    if (i == SHL_ARRAY_SIZE(ops)) {
        return shl_err_set(err, SHL_EINVALIDARG, "there is no such op");
    }
    ret->op = ops[i].op;
    r = shl_mp_get_uint(map, "grace_ms", VMM_GRACE_MAX_MS, &ret->grace_ms);
    if (r < 0 && r != SHL_ENOTFOUND) {
        return shl_err_set(err, SHL_EINVALIDARG, "grace_ms must be 0 to %u", VMM_GRACE_MAX_MS);
    }
    return 0;
}

static int take_descriptors(const msgpack_object *map,
                            int *fds,
                            unsigned fd_count,
                            struct vmm_config *config,
                            struct shl_err *err)
{
    const msgpack_object *names = shl_mp_find(map, "fds");
    uint32_t i;

    if (!names || names->type != MSGPACK_OBJECT_ARRAY || names->via.array.size != fd_count) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "fds must name the %u descriptors that came with the message", fd_count);
    }
    for (i = 0; i < fd_count; i++) {
        const msgpack_object *item = &names->via.array.ptr[i];
        char name[16] = {0};
        int *place;

        if (item->type != MSGPACK_OBJECT_STR || item->via.str.size >= sizeof(name)) {
            return shl_err_set(err, SHL_EINVALIDARG, "fds has an entry that is no name");
        }
        memcpy(name, item->via.str.ptr, item->via.str.size);
        place = vmm_config_fd(config, name);
        if (!place || *place >= 0) {
            return shl_err_set(err, SHL_EINVALIDARG, "fds has an unknown or repeated name");
        }
        *place = fds[i];
        fds[i] = -1;
    }
    return 0;
}

static int bad_field(struct shl_err *err, const char *name)
{
    return shl_err_set(err, SHL_EINVALIDARG, "start: %s is missing or out of range", name);
}

int vmm_request_decode_start(const msgpack_object *map,
                             int *fds,
                             unsigned fd_count,
                             struct vmm_config *config,
                             struct shl_err *err)
{
    uint64_t vcpus;
    char mac[18];
    int r;

    if (shl_mp_get_uint(map, "vcpus", VMM_VCPUS_MAX, &vcpus) < 0) {
        return bad_field(err, "vcpus");
    }
    config->vcpus = (unsigned)vcpus;
    if (shl_mp_get_uint(map, "memory_bytes", VMM_MEMORY_MAX_BYTES, &config->memory_bytes) < 0) {
        return bad_field(err, "memory_bytes");
    }
    if (shl_mp_get_uint(map, "disk_bytes", UINT64_MAX, &config->disk_bytes) < 0) {
        return bad_field(err, "disk_bytes");
    }
    if (shl_mp_get_cpy(map, "cmdline", config->cmdline, sizeof(config->cmdline)) < 0) {
        return bad_field(err, "cmdline");
    }
    r = shl_mp_get_uint(map, "serial_max_bytes", UINT64_MAX, &config->serial_max_bytes);
    if (r < 0 && r != SHL_ENOTFOUND) {
        return bad_field(err, "serial_max_bytes");
    }
    r = shl_mp_get_uint(map, "hotplug_max_bytes", VMM_MEMORY_MAX_BYTES, &config->hotplug_max_bytes);
    if (r < 0 && r != SHL_ENOTFOUND) {
        return bad_field(err, "hotplug_max_bytes");
    }
    r = shl_mp_get_uint(map, "hotplug_bytes", VMM_MEMORY_MAX_BYTES, &config->hotplug_bytes);
    if (r < 0 && r != SHL_ENOTFOUND) {
        return bad_field(err, "hotplug_bytes");
    }
    r = take_descriptors(map, fds, fd_count, config, err);
    if (r < 0) {
        return r;
    }
    if (config->tap_fd >= 0) {
        if (shl_mp_get_cpy(map, "mac", mac, sizeof(mac)) < 0) {
            return bad_field(err, "mac");
        }
        r = vmm_config_parse_mac(config, mac, err);
        if (r < 0) {
            return r;
        }
    }
    return vmm_config_check(config, err);
}
