#include "vmm-kvm/state.h"

#include <string.h>

#define TAG_SHAPE  1u
#define TAG_SERIAL 2u

/* By CPU. */
#define TAG_MP_STATE  16u
#define TAG_REGS      17u
#define TAG_SREGS     18u
#define TAG_XCRS      19u
#define TAG_DEBUGREGS 20u
#define TAG_LAPIC     21u
#define TAG_EVENTS    22u
#define TAG_CPUID     23u
#define TAG_MSRS      24u
#define TAG_XSAVE     25u

#define TAG_PIT     32u
#define TAG_CLOCK   33u
#define TAG_IRQCHIP 34u /* by chip */

/* By device: le32 device id and the transport; then what the model adds. */
#define TAG_DEVICE 48u
#define TAG_MODEL  49u

/* Records of a fixed size: bytes of a member of the state. */
struct field {
    uint16_t tag;
    uint16_t size;
    size_t offset;
};

#define VCPU_FIELD(tag, member)                               \
    {                                                         \
        tag, sizeof(((struct vmm_vcpu_state *)NULL)->member), \
            offsetof(struct vmm_vcpu_state, member)           \
    }
#define FIELD(tag, member)                                                                  \
    {                                                                                       \
        tag, sizeof(((struct vmm_state *)NULL)->member), offsetof(struct vmm_state, member) \
    }

static const struct field vcpu_fields[] = {
    VCPU_FIELD(TAG_MP_STATE, mp_state),   VCPU_FIELD(TAG_REGS, regs),
    VCPU_FIELD(TAG_SREGS, sregs),         VCPU_FIELD(TAG_XCRS, xcrs),
    VCPU_FIELD(TAG_DEBUGREGS, debugregs), VCPU_FIELD(TAG_LAPIC, lapic),
    VCPU_FIELD(TAG_EVENTS, events),
};

static const struct field machine_fields[] = {
    FIELD(TAG_SHAPE, shape),
    FIELD(TAG_SERIAL, serial),
    FIELD(TAG_PIT, chips.pit),
    FIELD(TAG_CLOCK, chips.clock),
};

#define CHIPS 3u

/* ---- writing ---- */

static void put_vcpu(struct vmm_tlv_writer *w, const struct vmm_vcpu_state *vcpu, uint16_t index)
{
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(vcpu_fields); i++) {
        const struct field *field = &vcpu_fields[i];

        vmm_tlv_put(w, field->tag, index, (const uint8_t *)vcpu + field->offset, field->size);
    }
    vmm_tlv_put(w, TAG_CPUID, index, vcpu->cpuid.entries,
                vcpu->cpuid.nent * sizeof(vcpu->cpuid.entries[0]));
    vmm_tlv_put(w, TAG_MSRS, index, vcpu->msrs.entries,
                vcpu->msrs.nmsrs * sizeof(vcpu->msrs.entries[0]));
    vmm_tlv_put(w, TAG_XSAVE, index, vcpu->xsave, vcpu->xsave_bytes);
}

static void put_device(struct vmm_tlv_writer *w, const struct vmm_device_state *dev, uint16_t index)
{
    uint8_t raw[4 + VMM_TRANSPORT_BYTES_MAX];

    shl_put_le32(raw, dev->device_id);
    memcpy(raw + 4, dev->transport, dev->transport_bytes);
    vmm_tlv_put(w, TAG_DEVICE, index, raw, 4 + dev->transport_bytes);
    vmm_tlv_put(w, TAG_MODEL, index, dev->model, dev->model_bytes);
}

int vmm_state_encode(const struct vmm_state *state, struct shl_buf *buf)
{
    struct vmm_tlv_writer w;
    uint16_t i;

    vmm_tlv_begin(&w, buf);
    for (i = 0; i < SHL_ARRAY_SIZE(machine_fields); i++) {
        const struct field *field = &machine_fields[i];

        vmm_tlv_put(&w, field->tag, 0, (const uint8_t *)state + field->offset, field->size);
    }
    for (i = 0; i < CHIPS; i++) {
        vmm_tlv_put(&w, TAG_IRQCHIP, i, &state->chips.irqchips[i],
                    sizeof(state->chips.irqchips[i]));
    }
    for (i = 0; i < state->shape.vcpus; i++) {
        put_vcpu(&w, &state->vcpus[i], i);
    }
    for (i = 0; i < state->device_count; i++) {
        put_device(&w, &state->devices[i], i);
    }
    return vmm_tlv_finish(&w);
}

/* ---- reading ---- */

/* Which records were there: every one of them exactly once. */
struct seen {
    uint64_t machine; /* bit: tag; the three chips are bits 34 to 36 */
    uint64_t vcpus[VMM_VCPUS_MAX];
    uint64_t devices[VMM_VIRTIO_MAX];
};

static int corrupt(struct shl_err *err, const char *why, unsigned tag, unsigned index)
{
    return shl_err_set(err, SHL_ECORRUPT,
                       "the VM state file is damaged: %s (record %u of number %u)", why, tag,
                       index);
}

static int mark(uint64_t *seen,
                const struct vmm_tlv_record *record,
                unsigned bit,
                struct shl_err *err)
{
    if (*seen & (1ull << bit)) {
        return corrupt(err, "a record is there twice", record->tag, record->index);
    }
    *seen |= 1ull << bit;
    return 0;
}

static int take_bytes(void *dst,
                      size_t size,
                      const struct vmm_tlv_record *record,
                      struct shl_err *err)
{
    if (record->bytes.len != size) {
        return corrupt(err, "a record has the wrong length", record->tag, record->index);
    }
    memcpy(dst, record->bytes.base, size);
    return 0;
}

/* Entries of @size bytes each, at most @max of them. */
static int take_array(void *dst,
                      uint32_t *ret_count,
                      size_t size,
                      size_t max,
                      const struct vmm_tlv_record *record,
                      struct shl_err *err)
{
    if (record->bytes.len % size != 0 || record->bytes.len / size > max) {
        return corrupt(err, "a record has an impossible length", record->tag, record->index);
    }
    if (record->bytes.len > 0) {
        memcpy(dst, record->bytes.base, record->bytes.len);
    }
    *ret_count = (uint32_t)(record->bytes.len / size);
    return 0;
}

static int take_field(void *base,
                      const struct field *fields,
                      size_t count,
                      const struct vmm_tlv_record *record,
                      struct shl_err *err)
{
    size_t i;

    for (i = 0; i < count; i++) {
        if (fields[i].tag == record->tag) {
            return take_bytes((uint8_t *)base + fields[i].offset, fields[i].size, record, err);
        }
    }
    return SHL_ENOTFOUND;
}

static int take_vcpu(struct vmm_state *state,
                     struct seen *seen,
                     const struct vmm_tlv_record *record,
                     struct shl_err *err)
{
    struct vmm_vcpu_state *vcpu;
    int r;

    if (record->index >= VMM_VCPUS_MAX) {
        return corrupt(err, "there are too many CPUs", record->tag, record->index);
    }
    vcpu = &state->vcpus[record->index];
    r = mark(&seen->vcpus[record->index], record, record->tag - TAG_MP_STATE, err);
    if (r < 0) {
        return r;
    }
    switch (record->tag) {
    case TAG_CPUID:
        return take_array(vcpu->cpuid.entries, &vcpu->cpuid.nent, sizeof(vcpu->cpuid.entries[0]),
                          VMM_CPUID_ENTRIES_MAX, record, err);
    case TAG_MSRS:
        return take_array(vcpu->msrs.entries, &vcpu->msrs.nmsrs, sizeof(vcpu->msrs.entries[0]),
                          VMM_MSRS_MAX, record, err);
    case TAG_XSAVE:
        return take_array(vcpu->xsave, &vcpu->xsave_bytes, 1, sizeof(vcpu->xsave), record, err);
    default:
        return take_field(vcpu, vcpu_fields, SHL_ARRAY_SIZE(vcpu_fields), record, err);
    }
}

static int take_device(struct vmm_state *state,
                       struct seen *seen,
                       const struct vmm_tlv_record *record,
                       struct shl_err *err)
{
    struct vmm_device_state *dev;
    struct vmm_tlv_record rest = *record;
    int r;

    if (record->index >= VMM_VIRTIO_MAX) {
        return corrupt(err, "there are too many devices", record->tag, record->index);
    }
    dev = &state->devices[record->index];
    r = mark(&seen->devices[record->index], record, record->tag - TAG_DEVICE, err);
    if (r < 0) {
        return r;
    }
    if (record->tag == TAG_MODEL) {
        return take_array(dev->model, &dev->model_bytes, 1, sizeof(dev->model), record, err);
    }
    if (record->bytes.len < 4) {
        return corrupt(err, "a record has the wrong length", record->tag, record->index);
    }
    dev->device_id = shl_get_le32(record->bytes.base);
    rest.bytes.base += 4;
    rest.bytes.len -= 4;
    return take_array(dev->transport, &dev->transport_bytes, 1, sizeof(dev->transport), &rest, err);
}

static int take_chip(struct vmm_state *state,
                     struct seen *seen,
                     const struct vmm_tlv_record *record,
                     struct shl_err *err)
{
    struct kvm_irqchip *chip;
    int r;

    if (record->index >= CHIPS) {
        return corrupt(err, "there is no such interrupt controller", record->tag, record->index);
    }
    chip = &state->chips.irqchips[record->index];
    r = mark(&seen->machine, record, TAG_IRQCHIP + record->index, err);
    if (r == 0) {
        r = take_bytes(chip, sizeof(*chip), record, err);
    }
    if (r == 0 && chip->chip_id != record->index) {
        r = corrupt(err, "an interrupt controller has another's number", record->tag,
                    record->index);
    }
    return r;
}

static int take_record(struct vmm_state *state,
                       struct seen *seen,
                       const struct vmm_tlv_reader *reader,
                       const struct vmm_tlv_record *record,
                       struct shl_err *err)
{
    int r;

    if (record->tag >= TAG_MP_STATE && record->tag <= TAG_XSAVE) {
        return take_vcpu(state, seen, record, err);
    }
    if (record->tag == TAG_DEVICE || record->tag == TAG_MODEL) {
        return take_device(state, seen, record, err);
    }
    if (record->tag == TAG_IRQCHIP) {
        return take_chip(state, seen, record, err);
    }
    r = take_field(state, machine_fields, SHL_ARRAY_SIZE(machine_fields), record, err);
    if (r == 0) {
        return record->index == 0
                   ? mark(&seen->machine, record, record->tag, err)
                   : corrupt(err, "a record has a number", record->tag, record->index);
    }
    return r == SHL_ENOTFOUND ? vmm_tlv_unknown(reader, record->tag, err) : r;
}

/* ---- is it whole, is it possible ---- */

#define MACHINE_COMPLETE                                                            \
    (1ull << TAG_SHAPE | 1ull << TAG_SERIAL | 1ull << TAG_PIT | 1ull << TAG_CLOCK | \
     7ull << TAG_IRQCHIP)
#define VCPU_COMPLETE   ((1ull << (TAG_XSAVE - TAG_MP_STATE + 1)) - 1)
#define DEVICE_COMPLETE 3ull

static int check_complete(struct vmm_state *state, const struct seen *seen, struct shl_err *err)
{
    const struct vmm_shape *shape = &state->shape;
    unsigned i;
    bool fine = seen->machine == MACHINE_COMPLETE;

    for (i = 0; i < VMM_VCPUS_MAX; i++) {
        fine = fine && seen->vcpus[i] == (i < shape->vcpus ? VCPU_COMPLETE : 0);
    }
    while (state->device_count < VMM_VIRTIO_MAX && seen->devices[state->device_count] != 0) {
        state->device_count++;
    }
    for (i = 0; i < VMM_VIRTIO_MAX; i++) {
        fine = fine && seen->devices[i] == (i < state->device_count ? DEVICE_COMPLETE : 0);
    }
    if (!fine || state->device_count == 0) {
        return shl_err_set(err, SHL_ECORRUPT,
                           "the VM state file is damaged: a record is missing or too many");
    }
    return 0;
}

static int check_shape(const struct vmm_shape *shape, struct shl_err *err)
{
    if (shape->vcpus < 1 || shape->vcpus > VMM_VCPUS_MAX ||
        shape->memory_bytes < VMM_MEMORY_MIN_BYTES || shape->memory_bytes > VMM_MEMORY_MAX_BYTES ||
        shape->memory_bytes % VMM_MIB != 0 || shape->hotplug_bytes > shape->hotplug_max_bytes ||
        shape->hotplug_max_bytes > VMM_MEM_HOTPLUG_MAX_BYTES ||
        shape->hotplug_max_bytes % VMM_HOTPLUG_BLOCK_BYTES != 0 ||
        shape->hotplug_bytes % VMM_HOTPLUG_BLOCK_BYTES != 0 || shape->disk_bytes == 0 ||
        shape->disk_bytes % 512 != 0) {
        return shl_err_set(err, SHL_ECORRUPT,
                           "the VM state file is damaged: there is no machine of that shape");
    }
    return 0;
}

static int check_msrs(const struct vmm_msrs *msrs, struct shl_err *err)
{
    uint32_t i;

    for (i = 0; i < msrs->nmsrs; i++) {
        if (!vmm_msr_is_saved(msrs->entries[i].index)) {
            return shl_err_set(err, SHL_ECORRUPT,
                               "the VM state file is damaged: register 0x%x is no part of a state",
                               msrs->entries[i].index);
        }
    }
    return 0;
}

int vmm_state_decode(struct shl_bytes bytes, struct vmm_state *state, struct shl_err *err)
{
    struct vmm_tlv_reader reader;
    struct vmm_tlv_record record;
    struct seen seen = {0};
    unsigned i;
    int r = vmm_tlv_open(&reader, bytes, err);

    memset(state, 0, sizeof(*state));
    if (r < 0) {
        return r;
    }
    while ((r = vmm_tlv_next(&reader, &record, err)) > 0) {
        r = take_record(state, &seen, &reader, &record, err);
        if (r < 0) {
            return r;
        }
    }
    if (r == 0) {
        r = check_complete(state, &seen, err);
    }
    if (r == 0) {
        r = check_shape(&state->shape, err);
    }
    for (i = 0; r == 0 && i < state->shape.vcpus; i++) {
        r = check_msrs(&state->vcpus[i].msrs, err);
    }
    return r;
}

/* Processor and KVM registers that a guest can see the effect of (reference: the list of
 * Firecracker, arch/x86_64/msr.rs). Performance counters, VMX and the machine check
 * control register are no part of the machine. */
bool vmm_msr_is_saved(uint32_t index)
{
    static const struct {
        uint32_t first, count;
    } ranges[] = {
        {0x10, 1},           /* TSC */
        {0x1b, 1},           /* APIC base */
        {0x3a, 2},           /* FEAT_CTL, TSC_ADJUST */
        {0x48, 1},           /* SPEC_CTRL */
        {0x9e, 1},           /* SMBASE */
        {0x122, 1},          /* TSX_CTRL */
        {0x140, 1},          /* MISC_FEATURES_ENABLES */
        {0x174, 3},          /* SYSENTER */
        {0x17a, 1},          /* MCG_STATUS; MCG_CAP and MCG_CTL are no part of the state */
        {0x1a0, 1},          /* MISC_ENABLE */
        {0x200, 0x100},      /* MTRRs and PAT */
        {0x6e0, 1},          /* TSC_DEADLINE */
        {0xda0, 1},          /* XSS */
        {0xc0000080, 5},     /* EFER, STAR, LSTAR, CSTAR, SFMASK */
        {0xc0000100, 4},     /* FS, GS and kernel GS base, TSC_AUX */
        {0xc0010015, 1},     /* HWCR */
        {0xc001011f, 1},     /* VIRT_SPEC_CTRL */
        {0x4b564d00, 0x100}, /* KVM and PVM */
    };
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(ranges); i++) {
        if (index - ranges[i].first < ranges[i].count) {
            return true;
        }
    }
    return false;
}
