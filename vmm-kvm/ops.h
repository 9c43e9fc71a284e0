/* The operations of control.h: what the server calls for each request. Loop thread. */
#ifndef SHL_VMM_OPS_H
#define SHL_VMM_OPS_H

#include "vmm-kvm/server.h"

/* As server.on_request and server.after_request; @ctx is the struct vmm_process. */
int vmm_process_request(void *ctx,
                        const struct vmm_request *request,
                        const msgpack_object *map,
                        int *fds,
                        unsigned fd_count,
                        struct shl_mp_writer *reply,
                        struct shl_err *err);
void vmm_process_replied(void *ctx, const struct vmm_request *request, int code);

#endif /* SHL_VMM_OPS_H */
