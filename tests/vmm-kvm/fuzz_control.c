/* A stream of control bytes: framing, requests, ops with descriptors. */
#include <assert.h>

#include "vmm-kvm/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode_restore(const msgpack_object *map)
{
    struct vmm_snapshot_config snapshot;
    struct vmm_config config;
    struct shl_err err = {0};
    unsigned i;

    for (i = 0; i <= 6; i++) {
        int fds[6] = {1000001, 1000002, 1000003, 1000004, 1000005, 1000006};

        vmm_config_init(&config);
        if (vmm_request_decode_restore(map, fds, i, &config, &err) == 0) {
            assert(config.state_fd >= 1000001);
            assert(config.overlay_fd >= 1000001);
        } else {
            assert(err.msg[0] != '\0');
        }
    }
    for (i = 0; i <= 4; i++) {
        int fds[4] = {1000001, 1000002, 1000003, 1000004};

        if (vmm_request_decode_snapshot(map, fds, i, &snapshot, &err) == 0) {
            assert(snapshot.disk_only == (snapshot.state_fd < 0));
        }
        (void)!vmm_request_decode_layers(map, i, &err);
    }
}

static void decode(struct shl_bytes body)
{
    struct vmm_request request;
    struct vmm_config config;
    struct shl_mp_doc doc;
    struct shl_err err = {0};
    int fds[4] = {1000001, 1000002, 1000003, 1000004}; /* never opened, never closed */
    unsigned i;

    if (shl_mp_parse(&doc, body) < 0) {
        return;
    }
    if (vmm_request_decode(doc.root, &request, &err) == 0 && request.op == VMM_OP_START) {
        for (i = 0; i <= 4; i++) {
            vmm_config_init(&config);
            if (vmm_request_decode_start(doc.root, fds, i, &config, &err) == 0) {
                assert(config.kernel_fd >= 1000001);
                assert(config.vcpus >= 1);
                assert(config.memory_bytes >= VMM_MEMORY_MIN_BYTES);
            } else {
                assert(err.msg[0] != '\0');
            }
        }
    }
    decode_restore(doc.root);
    shl_mp_release(&doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct shl_bytes rest = {data, size}, body;

    while (vmm_frame_next(rest, &body) > 0) {
        decode(body);
        rest.base += VMM_FRAME_HEADER_BYTES + body.len;
        rest.len -= VMM_FRAME_HEADER_BYTES + body.len;
    }
    return 0;
}
