/* The state of a VM but for its memory and disk: what a snapshot saves and a restore
 * takes. The file is a tlv.h container; decode checks everything that can be checked
 * without a machine, so that a restore does not start on half a file.
 *
 * Plain data without pointers, about 200 KiB: allocate it, do not put it on a stack.
 * Structures of KVM are stored as the ABI of x86 has them. Pure; fuzzed.
 */
#ifndef SHL_VMM_STATE_H
#define SHL_VMM_STATE_H

#include <linux/kvm.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/buf.h"
#include "base/err.h"
#include "vmm-kvm/control.h"
#include "vmm-kvm/hotplug.h"
#include "vmm-kvm/kvm.h"
#include "vmm-kvm/layout.h"
#include "vmm-kvm/tlv.h"

#define VMM_STATE_MAX_BYTES     VMM_TLV_MAX_BYTES
#define VMM_XSAVE_BYTES_MAX     16384u
#define VMM_TRANSPORT_BYTES_MAX 512u /* registers and queues of one device */
#define VMM_MODEL_BYTES_MAX     VMM_HOTPLUG_STATE_MAX
#define VMM_SERIAL_BYTES        10u

struct vmm_shape {
    uint64_t vcpus;
    uint64_t memory_bytes; /* boot memory */
    uint64_t hotplug_max_bytes;
    uint64_t hotplug_bytes; /* asked for */
    uint64_t disk_bytes;
    uint64_t tsc_khz; /* of all vCPUs */
};

struct vmm_msrs { /* struct kvm_msrs with room */
    uint32_t nmsrs;
    uint32_t padding;
    struct kvm_msr_entry entries[VMM_MSRS_MAX];
};

struct vmm_vcpu_state {
    struct kvm_mp_state mp_state;
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_xcrs xcrs;
    struct kvm_debugregs debugregs;
    struct kvm_lapic_state lapic;
    struct kvm_vcpu_events events;
    struct vmm_cpuid cpuid;
    struct vmm_msrs msrs;
    uint32_t xsave_bytes;
    uint8_t xsave[VMM_XSAVE_BYTES_MAX] __attribute__((aligned(64)));
};

struct vmm_chips_state {
    struct kvm_pit_state2 pit;
    struct kvm_clock_data clock;
    struct kvm_irqchip irqchips[3]; /* PIC master, PIC slave, IOAPIC */
};

/* One virtio device in the order of addresses. The model's part is read by the model. */
struct vmm_device_state {
    uint32_t device_id;
    uint32_t transport_bytes;
    uint32_t model_bytes;
    uint8_t transport[VMM_TRANSPORT_BYTES_MAX];
    uint8_t model[VMM_MODEL_BYTES_MAX];
};

struct vmm_state {
    struct vmm_shape shape;
    struct vmm_vcpu_state vcpus[VMM_VCPUS_MAX];
    struct vmm_chips_state chips;
    uint8_t serial[VMM_SERIAL_BYTES];
    uint32_t device_count;
    struct vmm_device_state devices[VMM_VIRTIO_MAX];
};

/* Append @state to @buf (empty). 0, SHL_ELIMIT or -ENOMEM. */
SHL_MUST_CHECK int vmm_state_encode(const struct vmm_state *state, struct shl_buf *buf);

/* 0, SHL_ECORRUPT or SHL_EVERSION with the reason; on failure @state is undefined. */
SHL_MUST_CHECK int vmm_state_decode(struct shl_bytes bytes,
                                    struct vmm_state *state,
                                    struct shl_err *err);

/* MSRs that belong to a snapshot (vmm_kvm_open asks KVM which of them it has). */
bool vmm_msr_is_saved(uint32_t index);

#endif /* SHL_VMM_STATE_H */
