/* Frames of the control protocol (control.h): length prefix, msgpack map, decoding.
 * Pure: bytes in, structures out; fuzzed. */
#ifndef SHL_VMM_REQUEST_H
#define SHL_VMM_REQUEST_H

#include "base/mp.h"
#include "vmm-kvm/config.h"
#include "vmm-kvm/control.h"

#define VMM_FRAME_HEADER_BYTES 4u

/* First whole frame in @bytes: 1 and *ret_body (borrowed), 0 when it is not all there
 * yet, SHL_EPROTO for an impossible length. */
SHL_MUST_CHECK int vmm_frame_next(struct shl_bytes bytes, struct shl_bytes *ret_body);

enum vmm_op {
    VMM_OP_START,
    VMM_OP_RESTORE,
    VMM_OP_PAUSE,
    VMM_OP_RESUME,
    VMM_OP_SNAPSHOT,
    VMM_OP_LAYERS,
    VMM_OP_DEADLINE,
    VMM_OP_STOP,
    VMM_OP_STATUS,
    VMM_OP_STATS,
};

struct vmm_request {
    uint64_t id;
    enum vmm_op op;
    uint64_t grace_ms; /* stop */
    uint64_t at_ms;    /* deadline */
};

#define VMM_GRACE_MAX_MS (10u * 60 * 1000)

/* Id and operation. *ret->id is set whenever the map has one, so that the refusal can
 * carry it. 0, SHL_EPROTO, SHL_EINVALIDARG. */
SHL_MUST_CHECK int vmm_request_decode(const msgpack_object *map,
                                      struct vmm_request *ret,
                                      struct shl_err *err);

/* The fields of start into @config (initialised). Descriptors named in the map are
 * moved out of @fds (set to -1 there); the rest stays the caller's to close. */
SHL_MUST_CHECK int vmm_request_decode_start(const msgpack_object *map,
                                            int *fds,
                                            unsigned fd_count,
                                            struct vmm_config *config,
                                            struct shl_err *err);
SHL_MUST_CHECK int vmm_request_decode_restore(const msgpack_object *map,
                                              int *fds,
                                              unsigned fd_count,
                                              struct vmm_config *config,
                                              struct shl_err *err);

/* The fields of snapshot into @ret. Descriptors are moved as above, also when it fails:
 * the caller closes what is in @ret. */
SHL_MUST_CHECK int vmm_request_decode_snapshot(const msgpack_object *map,
                                               int *fds,
                                               unsigned fd_count,
                                               struct vmm_snapshot_config *ret,
                                               struct shl_err *err);

/* The op layers: checks that all of @fds are layers. They stay where they are. */
SHL_MUST_CHECK int vmm_request_decode_layers(const msgpack_object *map,
                                             unsigned fd_count,
                                             struct shl_err *err);

#endif /* SHL_VMM_REQUEST_H */
