/* A blocking client of one shoal-vmm process (vmm-kvm/control.h), for the benchmarks and for
 * tests/vmm/vmmctl. It opens the files of a request by name and hands their descriptors over.
 *
 * One thread. A call: bench_call_begin, fields with shl_mp_kv_* on call.w, files with
 * bench_call_file, bench_call_run, fields of call.reply, bench_call_release. Events that
 * arrive meanwhile are dropped. Errors: negative codes of base/err.h with a sentence; what
 * the VMM refused comes back as its own code and sentence.
 */
#ifndef SHL_BENCH_VMM_CLIENT_H
#define SHL_BENCH_VMM_CLIENT_H

#include <stdbool.h>

#include "base/err.h"
#include "base/mp.h"
#include "vmm-kvm/control.h"

struct bench_vmm {
    int fd; /* owned; -1 when not connected */
    uint64_t next_id;
    struct shl_buf in;
};

struct bench_call {
    struct bench_vmm *vmm;
    uint64_t id;
    struct shl_buf request;
    struct shl_mp_writer w; /* the request map is open until bench_call_run */
    int fds[VMM_CONTROL_FDS_MAX];
    char names[VMM_CONTROL_FDS_MAX][16];
    unsigned fd_count;
    struct shl_buf body;     /* of the reply */
    struct shl_mp_doc reply; /* while has_reply */
    bool has_reply;
};

/* Connect to DIR/control.sock, which may take up to @wait_ms to appear. */
SHL_MUST_CHECK int bench_vmm_connect(struct bench_vmm *vmm,
                                     const char *dir,
                                     int wait_ms,
                                     struct shl_err *err);
void bench_vmm_release(struct bench_vmm *vmm);

void bench_call_begin(struct bench_call *call, struct bench_vmm *vmm, const char *op);
/* Open @path with @flags (O_CREAT makes it 0600) and send it as @name. */
SHL_MUST_CHECK int bench_call_file(struct bench_call *call,
                                   const char *name,
                                   const char *path,
                                   int flags,
                                   struct shl_err *err);
/* Attach to the TAP interface @interface and send it as "tap". */
SHL_MUST_CHECK int bench_call_tap(struct bench_call *call,
                                  const char *interface,
                                  struct shl_err *err);
/* Send and wait for the reply: its code. */
SHL_MUST_CHECK int bench_call_run(struct bench_call *call, int timeout_ms, struct shl_err *err);
void bench_call_release(struct bench_call *call);

#endif /* SHL_BENCH_VMM_CLIENT_H */
