#include "vmm-kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "vmm-kvm/layout.h"
#include "vmm-kvm/mem.h"
#include "vmm-kvm/state.h"

#define MSR_LIST_MAX 1024u

int vmm_ioctl(int fd, unsigned long request, void *arg)
{
    int r;

    do {
        r = ioctl(fd, request, arg);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : r;
}

int vmm_kvm_run(int vcpu_fd)
{
    return ioctl(vcpu_fd, KVM_RUN, NULL) < 0 ? -errno : 0;
}

static int open_device(struct vmm_kvm *kvm, struct shl_err *err)
{
    kvm->fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm->fd >= 0) {
        return 0;
    }
    switch (errno) {
    case ENOENT:
        return shl_err_set(err, SHL_ENOKVM,
                           "there is no /dev/kvm: load the module kvm_intel or kvm_amd, or run "
                           "inside the lab (scripts/lab) on machines without VMX or SVM");
    case EACCES:
    case EPERM:
        return shl_err_set(err, SHL_ENOKVM,
                           "/dev/kvm may not be opened by this user: run as root or add the user "
                           "to the group kvm");
    case ENODEV:
    case ENXIO:
        return shl_err_set(err, SHL_ENOKVM,
                           "/dev/kvm is there but no KVM module is loaded: modprobe kvm_intel or "
                           "kvm_amd (and switch virtualisation on in the firmware)");
    default:
        (void)shl_err_sys(err, errno, "cannot open /dev/kvm");
        return SHL_ENOKVM;
    }
}

static int check_capabilities(struct vmm_kvm *kvm, struct shl_err *err)
{
    static const struct {
        int number;
        const char *name;
    } required[] = {
        {KVM_CAP_IRQCHIP, "IRQCHIP"},
        {KVM_CAP_USER_MEMORY, "USER_MEMORY"},
        {KVM_CAP_SET_TSS_ADDR, "SET_TSS_ADDR"},
        {KVM_CAP_EXT_CPUID, "EXT_CPUID"},
        {KVM_CAP_IOEVENTFD, "IOEVENTFD"},
        {KVM_CAP_IRQFD, "IRQFD"},
        {KVM_CAP_PIT2, "PIT2"},
        {KVM_CAP_IMMEDIATE_EXIT, "IMMEDIATE_EXIT"},
        {KVM_CAP_MP_STATE, "MP_STATE"},
        {KVM_CAP_VCPU_EVENTS, "VCPU_EVENTS"},
        {KVM_CAP_XSAVE, "XSAVE"},
        {KVM_CAP_XCRS, "XCRS"},
        {KVM_CAP_DEBUGREGS, "DEBUGREGS"},
        {KVM_CAP_ADJUST_CLOCK, "ADJUST_CLOCK"},
        {KVM_CAP_PIT_STATE2, "PIT_STATE2"},
    };
    int version = vmm_ioctl(kvm->fd, KVM_GET_API_VERSION, NULL);
    size_t i;

    if (version != KVM_API_VERSION) {
        return shl_err_set(err, SHL_ENOKVM,
                           "/dev/kvm speaks version %d instead of %d: use a newer kernel", version,
                           KVM_API_VERSION);
    }
    for (i = 0; i < SHL_ARRAY_SIZE(required); i++) {
        if (vmm_ioctl(kvm->fd, KVM_CHECK_EXTENSION, (void *)(long)required[i].number) <= 0) {
            return shl_err_set(err, SHL_ENOKVM,
                               "KVM on this machine lacks %s: use a kernel with full KVM support",
                               required[i].name);
        }
    }
    return 0;
}

static int by_number(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

    return left < right ? -1 : left > right;
}

/* What a snapshot saves of what KVM lists. Memory types are not in its list though it
 * has them (vcpu_state.c leaves out what a guest's CPU lacks). */
static int list_msrs(struct vmm_kvm *kvm)
{
    static const uint32_t memory_types[] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a,
                                            0x26b, 0x26c, 0x26d, 0x26e, 0x26f, 0x2ff};
    struct {
        uint32_t count;
        uint32_t indices[MSR_LIST_MAX];
    } list = {.count = MSR_LIST_MAX};
    uint32_t i;
    int r = vmm_ioctl(kvm->fd, KVM_GET_MSR_INDEX_LIST, &list);

    if (r < 0) {
        return r;
    }
    for (i = 0; i < SHL_ARRAY_SIZE(memory_types); i++) {
        kvm->msrs[kvm->msr_count++] = memory_types[i];
    }
    for (i = 0x200; i < 0x210; i++) { /* eight variable ranges */
        kvm->msrs[kvm->msr_count++] = i;
    }
    for (i = 0; i < list.count; i++) {
        if (!vmm_msr_is_saved(list.indices[i])) {
            continue;
        }
        if (kvm->msr_count == VMM_MSRS_MAX) {
            return SHL_ELIMIT;
        }
        kvm->msrs[kvm->msr_count++] = list.indices[i];
    }
    /* Sorted and without doubles: newer kernels may list memory types themselves. */
    qsort(kvm->msrs, kvm->msr_count, sizeof(kvm->msrs[0]), by_number);
    for (i = 1, list.count = 1; i < kvm->msr_count; i++) {
        if (kvm->msrs[i] != kvm->msrs[list.count - 1]) {
            kvm->msrs[list.count++] = kvm->msrs[i];
        }
    }
    kvm->msr_count = list.count;
    return 0;
}

int vmm_kvm_open(struct vmm_kvm *kvm, struct shl_err *err)
{
    int r;

    memset(kvm, 0, sizeof(*kvm));
    kvm->vm_fd = -1;
    r = open_device(kvm, err);
    if (r < 0) {
        return r;
    }
    r = check_capabilities(kvm, err);
    if (r == 0) {
        kvm->supported.nent = VMM_CPUID_ENTRIES_MAX;
        kvm->run_bytes = vmm_ioctl(kvm->fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
        r = kvm->run_bytes < 0 ? kvm->run_bytes
                               : vmm_ioctl(kvm->fd, KVM_GET_SUPPORTED_CPUID, &kvm->supported);
        if (r >= 0) {
            r = list_msrs(kvm);
        }
        kvm->has_tsc_control =
            vmm_ioctl(kvm->fd, KVM_CHECK_EXTENSION, (void *)(long)KVM_CAP_TSC_CONTROL) > 0;
        if (r < 0) {
            r = shl_err_set(err, SHL_ENOKVM, "KVM does not say what CPU it offers: %s",
                            shl_err_text(r));
        }
    }
    if (r < 0) {
        vmm_kvm_release(kvm);
    }
    return r;
}

int vmm_kvm_create_vm(struct vmm_kvm *kvm, struct shl_err *err)
{
    struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
    int r = vmm_ioctl(kvm->fd, KVM_CREATE_VM, NULL);

    if (r < 0) {
        return shl_err_sys(err, -r, "KVM cannot create a VM");
    }
    kvm->vm_fd = r;
    /* On Intel the TSS before any vCPU; the chips too, they decide what a vCPU is. */
    r = vmm_ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)VMM_KVM_TSS_ADDR);
    if (r >= 0) {
        r = vmm_ioctl(kvm->vm_fd, KVM_CREATE_IRQCHIP, NULL);
    }
    if (r >= 0) {
        r = vmm_ioctl(kvm->vm_fd, KVM_CREATE_PIT2, &pit);
    }
    return r < 0 ? shl_err_sys(err, -r, "KVM cannot create the interrupt controllers") : 0;
}

int vmm_kvm_add_memory(struct vmm_kvm *kvm, const struct vmm_mem *mem, struct shl_err *err)
{
    unsigned i;

    for (i = 0; i < mem->region_count; i++) {
        struct kvm_userspace_memory_region region = {
            .slot = i,
            .guest_phys_addr = mem->regions[i].start,
            .memory_size = mem->regions[i].size,
            .userspace_addr = (uintptr_t)mem->regions[i].host,
        };
        int r = vmm_ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region);

        if (r < 0) {
            return shl_err_sys(err, -r, "KVM does not take the guest memory");
        }
    }
    return 0;
}

int vmm_kvm_irqfd(struct vmm_kvm *kvm, int fd, uint32_t gsi, struct shl_err *err)
{
    struct kvm_irqfd irqfd = {.fd = (uint32_t)fd, .gsi = gsi};
    int r = vmm_ioctl(kvm->vm_fd, KVM_IRQFD, &irqfd);

    return r < 0 ? shl_err_sys(err, -r, "KVM does not take interrupt line %u", gsi) : 0;
}

int vmm_kvm_ioeventfd(struct vmm_kvm *kvm,
                      int fd,
                      uint64_t addr,
                      uint32_t value,
                      struct shl_err *err)
{
    struct kvm_ioeventfd event = {
        .datamatch = value,
        .addr = addr,
        .len = 4,
        .fd = fd,
        .flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
    };
    int r = vmm_ioctl(kvm->vm_fd, KVM_IOEVENTFD, &event);

    return r < 0 ? shl_err_sys(err, -r, "KVM does not take a queue doorbell") : 0;
}

void vmm_kvm_release(struct vmm_kvm *kvm)
{
    if (kvm->vm_fd >= 0) {
        (void)close(kvm->vm_fd);
    }
    if (kvm->fd >= 0) {
        (void)close(kvm->fd);
    }
    kvm->fd = -1;
    kvm->vm_fd = -1;
}
