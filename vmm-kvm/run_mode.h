/* `shoal-vmm --dir DIR run ...`: a VM from file names instead of descriptors over the
 * control socket. For tests, benchmarks and trying things; the socket works as well. */
#ifndef SHL_VMM_RUN_MODE_H
#define SHL_VMM_RUN_MODE_H

#include "vmm-kvm/config.h"

struct vmm_run_options {
    const char *kernel;
    const char *initrd;
    const char *disk;    /* base image */
    const char *overlay; /* created when missing */
    const char *serial;  /* file, or "-" for standard output */
    const char *tap;     /* name of an existing interface, NULL: no network */
    const char *cmdline; /* NULL: VMM_RUN_CMDLINE */
    uint64_t memory_mb;
    uint64_t disk_mb; /* 0: the size of the base */
    uint64_t vcpus;
    uint64_t hotplug_max_mb;
    uint64_t hotplug_mb;
};

/* Quiet, because each console character leaves the guest twice; no firmware devices. */
#define VMM_RUN_CMDLINE                                                                      \
    "console=ttyS0 quiet loglevel=1 reboot=k panic=-1 clocksource=kvm-clock 8250.nr_uarts=1" \
    " pci=off random.trust_cpu=on"

/* Open the files and fill @config (initialised). Paths are relative to where the
 * program was started: call it before anything changes the working directory. */
SHL_MUST_CHECK int vmm_run_config(const struct vmm_run_options *options,
                                  struct vmm_config *config,
                                  struct shl_err *err);

#endif /* SHL_VMM_RUN_MODE_H */
