#include "vmm-kvm/cpuid.h"

#include <stdbool.h>
#include <string.h>

#define LEAF1_ECX_MONITOR      (1u << 3)
#define LEAF1_ECX_VMX          (1u << 5)
#define LEAF1_ECX_TSC_DEADLINE (1u << 24)
#define LEAF1_ECX_HYPERVISOR   (1u << 31)
#define LEAF1_EDX_HTT          (1u << 28)
#define EXT1_ECX_CMP_LEGACY    (1u << 1)
#define EXT1_ECX_SVM           (1u << 2)
#define EXT7_EDX_INVARIANT_TSC (1u << 8)

#define LEVEL_SMT  1u
#define LEVEL_CORE 2u

/* Bits that number @count things. */
static unsigned bits_for(unsigned count)
{
    unsigned bits = 0;

    while ((1u << bits) < count) {
        bits++;
    }
    return bits;
}

static struct kvm_cpuid_entry2 *find(struct vmm_cpuid *cpuid, uint32_t function, uint32_t index)
{
    unsigned i;

    for (i = 0; i < cpuid->nent; i++) {
        if (cpuid->entries[i].function == function && cpuid->entries[i].index == index) {
            return &cpuid->entries[i];
        }
    }
    return NULL;
}

static int put_subleaf(struct vmm_cpuid *cpuid, const struct kvm_cpuid_entry2 *entry)
{
    struct kvm_cpuid_entry2 *at = find(cpuid, entry->function, entry->index);

    if (!at) {
        if (cpuid->nent >= VMM_CPUID_ENTRIES_MAX) {
            return SHL_ELIMIT;
        }
        at = &cpuid->entries[cpuid->nent++];
    }
    *at = *entry;
    return 0;
}

static void shape_leaf1(struct kvm_cpuid_entry2 *leaf, unsigned index, unsigned vcpus)
{
    leaf->ebx = (leaf->ebx & 0xffff) | (index << 24) | (vcpus << 16);
    leaf->ecx &= ~(LEAF1_ECX_MONITOR | LEAF1_ECX_VMX);
    leaf->ecx |= LEAF1_ECX_HYPERVISOR | LEAF1_ECX_TSC_DEADLINE; /* the in-kernel APIC has it */
    leaf->edx &= ~LEAF1_EDX_HTT;
    if (vcpus > 1) {
        leaf->edx |= LEAF1_EDX_HTT;
    }
}

/* Cache leaves: levels 1 and 2 belong to one core, level 3 to all. */
static void shape_cache(struct kvm_cpuid_entry2 *leaf, unsigned vcpus, bool intel)
{
    unsigned level = leaf->eax >> 5 & 7;
    unsigned sharing = level >= 3 ? vcpus : 1;

    if ((leaf->eax & 0x1f) == 0) {
        return; /* no further cache */
    }
    leaf->eax = (leaf->eax & 0x3fff) | (sharing - 1) << 14;
    if (intel) {
        leaf->eax |= (vcpus - 1) << 26;
    }
}

/* Leaf 0xb: threads per core, then cores per package, then the end. */
static int shape_topology(struct vmm_cpuid *cpuid, unsigned index, unsigned vcpus)
{
    const struct kvm_cpuid_entry2 levels[] = {
        {.function = 0xb,
         .index = 0,
         .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
         .eax = 0,
         .ebx = 1,
         .ecx = 0 | LEVEL_SMT << 8,
         .edx = index},
        {.function = 0xb,
         .index = 1,
         .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
         .eax = bits_for(vcpus),
         .ebx = vcpus,
         .ecx = 1 | LEVEL_CORE << 8,
         .edx = index},
        {.function = 0xb,
         .index = 2,
         .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
         .ecx = 2,
         .edx = index},
    };
    struct kvm_cpuid_entry2 *max = find(cpuid, 0, 0);
    unsigned i;

    for (i = 0; i < SHL_ARRAY_SIZE(levels); i++) {
        int r = put_subleaf(cpuid, &levels[i]);

        if (r < 0) {
            return r;
        }
    }
    if (max && max->eax < 0xb) {
        max->eax = 0xb;
    }
    return 0;
}

static void shape_entry(struct kvm_cpuid_entry2 *entry, unsigned index, unsigned vcpus)
{
    switch (entry->function) {
    case 0x1:
        shape_leaf1(entry, index, vcpus);
        break;
    case 0x4:
        shape_cache(entry, vcpus, true);
        break;
    case 0xa: /* no performance counters: their MSRs are no part of the machine */
    case 0x80000022:
        entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
        break;
    case 0xb:
    case 0x1f:
        entry->edx = index;
        break;
    case 0x80000001:
        entry->ecx &= ~(EXT1_ECX_SVM | EXT1_ECX_CMP_LEGACY);
        if (vcpus > 1) {
            entry->ecx |= EXT1_ECX_CMP_LEGACY;
        }
        break;
    case 0x80000007:
        /* The time source is kvm-clock, which survives a move to another machine. */
        entry->edx &= ~EXT7_EDX_INVARIANT_TSC;
        break;
    case 0x80000008:
        entry->ecx = (entry->ecx & ~0xf0ffu) | (vcpus - 1) | bits_for(vcpus) << 12;
        break;
    case 0x8000000a: /* SVM features */
        entry->eax = entry->ebx = entry->ecx = entry->edx = 0;
        break;
    case 0x8000001d:
        shape_cache(entry, vcpus, false);
        break;
    case 0x8000001e:
        entry->eax = index;
        entry->ebx = index; /* core id, one thread */
        entry->ecx = 0;
        break;
    default:
        break;
    }
}

int vmm_cpuid_shape(struct vmm_cpuid *cpuid, unsigned index, unsigned vcpus)
{
    unsigned i, kept = 0;

    /* 0x1f would contradict 0xb: the guest prefers it when it is there. */
    for (i = 0; i < cpuid->nent; i++) {
        if (cpuid->entries[i].function != 0x1f) {
            cpuid->entries[kept++] = cpuid->entries[i];
        }
    }
    cpuid->nent = kept;
    for (i = 0; i < cpuid->nent; i++) {
        shape_entry(&cpuid->entries[i], index, vcpus);
    }
    return shape_topology(cpuid, index, vcpus);
}
