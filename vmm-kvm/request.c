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
        {"start", VMM_OP_START},       {"restore", VMM_OP_RESTORE},   {"pause", VMM_OP_PAUSE},
        {"resume", VMM_OP_RESUME},     {"snapshot", VMM_OP_SNAPSHOT}, {"layers", VMM_OP_LAYERS},
        {"deadline", VMM_OP_DEADLINE}, {"stop", VMM_OP_STOP},         {"status", VMM_OP_STATUS},
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
    if (ret->op == VMM_OP_DEADLINE && shl_mp_get_uint(map, "at_ms", UINT64_MAX, &ret->at_ms) < 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "deadline needs at_ms, 0 for none");
    }
    return 0;
}

/* Where the descriptor of a name goes; NULL: no such name, or no more of them. */
typedef int *(*find_place)(void *ctx, const char *name);

static int take_descriptors(const msgpack_object *map,
                            int *fds,
                            unsigned fd_count,
                            find_place find,
                            void *ctx,
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
        place = find(ctx, name);
        if (!place || *place >= 0) {
            return shl_err_set(err, SHL_EINVALIDARG,
                               "fds has an unknown name, or one too often: %s", name);
        }
        *place = fds[i];
        fds[i] = -1;
    }
    return 0;
}

static int *find_in_config(void *config, const char *name)
{
    return vmm_config_fd(config, name);
}

static int bad_field(struct shl_err *err, const char *name)
{
    return shl_err_set(err, SHL_EINVALIDARG, "%s is missing or out of range", name);
}

/* A field that may be absent: *ret then keeps its value. */
static int get_optional(const msgpack_object *map,
                        const char *name,
                        uint64_t *ret,
                        struct shl_err *err)
{
    int r = shl_mp_get_uint(map, name, UINT64_MAX, ret);

    return r < 0 && r != SHL_ENOTFOUND ? bad_field(err, name) : 0;
}

static int get_flag(const msgpack_object *map, const char *name, bool *ret, struct shl_err *err)
{
    int r = shl_mp_get_bool(map, name, ret);

    return r < 0 && r != SHL_ENOTFOUND ? bad_field(err, name) : 0;
}

/* What start and restore have in common, descriptors included. */
static int decode_common(const msgpack_object *map,
                         int *fds,
                         unsigned fd_count,
                         struct vmm_config *config,
                         struct shl_err *err)
{
    char mac[18];
    int r;

    if (shl_mp_get_uint(map, "disk_bytes", UINT64_MAX, &config->disk_bytes) < 0) {
        return bad_field(err, "disk_bytes");
    }
    r = get_optional(map, "serial_max_bytes", &config->serial_max_bytes, err);
    if (r == 0) {
        r = get_optional(map, "hotplug_bytes", &config->hotplug_bytes, err);
    }
    if (r == 0) {
        r = get_optional(map, "deadline_ms", &config->deadline_ms, err);
    }
    if (r == 0) {
        r = take_descriptors(map, fds, fd_count, find_in_config, config, err);
    }
    if (r == 0 && config->tap_fd >= 0) {
        if (shl_mp_get_cpy(map, "mac", mac, sizeof(mac)) < 0) {
            return bad_field(err, "mac");
        }
        r = vmm_config_parse_mac(config, mac, err);
    }
    return r < 0 ? r : vmm_config_check(config, err);
}

int vmm_request_decode_start(const msgpack_object *map,
                             int *fds,
                             unsigned fd_count,
                             struct vmm_config *config,
                             struct shl_err *err)
{
    uint64_t vcpus;
    int r;

    if (shl_mp_get_uint(map, "vcpus", VMM_VCPUS_MAX, &vcpus) < 0) {
        return bad_field(err, "vcpus");
    }
    config->vcpus = (unsigned)vcpus;
    if (shl_mp_get_uint(map, "memory_bytes", VMM_MEMORY_MAX_BYTES, &config->memory_bytes) < 0) {
        return bad_field(err, "memory_bytes");
    }
    if (shl_mp_get_cpy(map, "cmdline", config->cmdline, sizeof(config->cmdline)) < 0) {
        return bad_field(err, "cmdline");
    }
    r = get_optional(map, "hotplug_max_bytes", &config->hotplug_max_bytes, err);
    return r < 0 ? r : decode_common(map, fds, fd_count, config, err);
}

int vmm_request_decode_restore(const msgpack_object *map,
                               int *fds,
                               unsigned fd_count,
                               struct vmm_config *config,
                               struct shl_err *err)
{
    int r = get_flag(map, "paused", &config->start_paused, err);

    config->restoring = true;
    return r < 0 ? r : decode_common(map, fds, fd_count, config, err);
}

static int *find_in_snapshot(void *ctx, const char *name)
{
    struct vmm_snapshot_config *snapshot = ctx;

    return strcmp(name, "state") == 0     ? &snapshot->state_fd
           : strcmp(name, "mem") == 0     ? &snapshot->mem_fd
           : strcmp(name, "overlay") == 0 ? &snapshot->overlay_fd
                                          : NULL;
}

int vmm_request_decode_snapshot(const msgpack_object *map,
                                int *fds,
                                unsigned fd_count,
                                struct vmm_snapshot_config *ret,
                                struct shl_err *err)
{
    int r;

    *ret = (struct vmm_snapshot_config){.state_fd = -1, .mem_fd = -1, .overlay_fd = -1};
    r = get_flag(map, "keep_paused", &ret->keep_paused, err);
    if (r == 0) {
        r = get_flag(map, "disk_only", &ret->disk_only, err);
    }
    if (r == 0) {
        r = take_descriptors(map, fds, fd_count, find_in_snapshot, ret, err);
    }
    if (r == 0 && (ret->disk_only ? ret->state_fd >= 0 || ret->mem_fd >= 0
                                  : ret->state_fd < 0 || ret->mem_fd < 0)) {
        r = shl_err_set(err, SHL_EINVALIDARG,
                        "snapshot takes the descriptors state and mem, with disk_only neither");
    }
    return r;
}

int vmm_request_decode_layers(const msgpack_object *map, unsigned fd_count, struct shl_err *err)
{
    const msgpack_object *names = shl_mp_find(map, "fds");
    uint32_t i;

    if (!names || names->type != MSGPACK_OBJECT_ARRAY || names->via.array.size != fd_count ||
        fd_count > VMM_DISK_LAYERS_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "fds must name the %u descriptors that came with the message, at most "
                           "%u",
                           fd_count, VMM_DISK_LAYERS_MAX);
    }
    for (i = 0; i < fd_count; i++) {
        const msgpack_object *item = &names->via.array.ptr[i];

        if (item->type != MSGPACK_OBJECT_STR || item->via.str.size != 5 ||
            memcmp(item->via.str.ptr, "layer", 5) != 0) {
            return shl_err_set(err, SHL_EINVALIDARG, "layers takes only descriptors named layer");
        }
    }
    return 0;
}
