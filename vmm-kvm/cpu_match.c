#include "vmm-kvm/cpu_match.h"

#include <string.h>

enum reg {
    EAX,
    EBX,
    ECX,
    EDX,
};

/* Words of feature bits. @dynamic: bits that follow the guest's own settings. */
static const struct {
    uint32_t function, index;
    enum reg reg;
    uint32_t dynamic;
} words[] = {
    {0x1, 0, ECX, 1u << 27 | 1u << 3}, /* OSXSAVE, MONITOR */
    {0x1, 0, EDX, 1u << 9 | 1u << 28}, /* APIC; HTT is topology */
    {0x7, 0, EBX, 0},
    {0x7, 0, ECX, 1u << 4}, /* OSPKE */
    {0x7, 0, EDX, 0},
    {0x7, 1, EAX, 0},
    {0x7, 1, EDX, 0},
    {0x7, 2, EDX, 0},
    {0xd, 0, EAX, 0}, /* what XSAVE can save: XCR0 */
    {0xd, 0, EDX, 0},
    {0xd, 1, EAX, 0},
    {0xd, 1, ECX, 0},
    {0x40000001, 0, EAX, 0},
    {0x80000001, 0, ECX, 1u << 1}, /* CMP_LEGACY is topology */
    {0x80000001, 0, EDX, 1u << 9},
    {0x80000007, 0, EDX, 0},
    {0x80000008, 0, EBX, 0},
    {0x80000021, 0, EAX, 0},
};

/* Names of what machines really differ in; the rest is told by number. */
static const struct {
    uint32_t function, index;
    enum reg reg;
    unsigned bit;
    const char *name;
} names[] = {
    {0x1, 0, ECX, 0, "SSE3"},
    {0x1, 0, ECX, 9, "SSSE3"},
    {0x1, 0, ECX, 12, "FMA"},
    {0x1, 0, ECX, 19, "SSE4.1"},
    {0x1, 0, ECX, 20, "SSE4.2"},
    {0x1, 0, ECX, 21, "x2APIC"},
    {0x1, 0, ECX, 23, "POPCNT"},
    {0x1, 0, ECX, 25, "AES"},
    {0x1, 0, ECX, 26, "XSAVE"},
    {0x1, 0, ECX, 28, "AVX"},
    {0x1, 0, ECX, 29, "F16C"},
    {0x1, 0, ECX, 30, "RDRAND"},
    {0x7, 0, EBX, 0, "FSGSBASE"},
    {0x7, 0, EBX, 3, "BMI1"},
    {0x7, 0, EBX, 4, "HLE"},
    {0x7, 0, EBX, 5, "AVX2"},
    {0x7, 0, EBX, 7, "SMEP"},
    {0x7, 0, EBX, 8, "BMI2"},
    {0x7, 0, EBX, 9, "ERMS"},
    {0x7, 0, EBX, 10, "INVPCID"},
    {0x7, 0, EBX, 11, "RTM"},
    {0x7, 0, EBX, 16, "AVX512F"},
    {0x7, 0, EBX, 17, "AVX512DQ"},
    {0x7, 0, EBX, 18, "RDSEED"},
    {0x7, 0, EBX, 19, "ADX"},
    {0x7, 0, EBX, 20, "SMAP"},
    {0x7, 0, EBX, 29, "SHA"},
    {0x7, 0, EBX, 30, "AVX512BW"},
    {0x7, 0, EBX, 31, "AVX512VL"},
    {0x7, 0, ECX, 1, "AVX512VBMI"},
    {0x7, 0, ECX, 2, "UMIP"},
    {0x7, 0, ECX, 3, "PKU"},
    {0x7, 0, ECX, 9, "VAES"},
    {0x7, 0, ECX, 16, "LA57"},
    {0x7, 0, ECX, 22, "RDPID"},
    {0x7, 0, EDX, 22, "AMX-BF16"},
    {0x7, 0, EDX, 23, "AVX512-FP16"},
    {0x7, 0, EDX, 24, "AMX-TILE"},
    {0x7, 1, EAX, 4, "AVX-VNNI"},
    {0x7, 1, EAX, 5, "AVX512-BF16"},
    {0xd, 1, EAX, 1, "XSAVEC"},
    {0xd, 1, EAX, 3, "XSAVES"},
    {0x80000001, 0, ECX, 6, "SSE4A"},
    {0x80000001, 0, EDX, 26, "1 GiB pages"},
    {0x80000001, 0, EDX, 27, "RDTSCP"},
};

static const struct kvm_cpuid_entry2 *find(const struct vmm_cpuid *cpuid,
                                           uint32_t function,
                                           uint32_t index)
{
    uint32_t i;

    for (i = 0; i < cpuid->nent; i++) {
        const struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];

        if (entry->function == function && entry->index == index) {
            return entry;
        }
    }
    return NULL;
}

static uint32_t word_of(const struct vmm_cpuid *cpuid,
                        uint32_t function,
                        uint32_t index,
                        enum reg reg)
{
    const struct kvm_cpuid_entry2 *entry = find(cpuid, function, index);

    if (!entry) {
        return 0;
    }
    switch (reg) {
    case EAX:
        return entry->eax;
    case EBX:
        return entry->ebx;
    case ECX:
        return entry->ecx;
    case EDX:
        return entry->edx;
    }
    return 0;
}

static void vendor_of(const struct kvm_cpuid_entry2 *leaf, char text[13])
{
    unsigned i;

    memcpy(text, &leaf->ebx, 4);
    memcpy(text + 4, &leaf->edx, 4);
    memcpy(text + 8, &leaf->ecx, 4);
    for (i = 0; i < 12; i++) { /* from a file: it goes into a message */
        text[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    }
    text[12] = '\0';
}

static int missing(size_t word, uint32_t bits, struct shl_err *err)
{
    static const char regs[][4] = {"eax", "ebx", "ecx", "edx"};
    unsigned bit = (unsigned)__builtin_ctz(bits);
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(names); i++) {
        if (names[i].function == words[word].function && names[i].index == words[word].index &&
            names[i].reg == words[word].reg && names[i].bit == bit) {
            return shl_err_set(err, SHL_EINCOMPATIBLE,
                               "this machine's CPU lacks %s, which the saved VM uses",
                               names[i].name);
        }
    }
    return shl_err_set(err, SHL_EINCOMPATIBLE,
                       "this machine's CPU lacks a feature that the saved VM uses (CPUID 0x%x.%u "
                       "%s bit %u)",
                       words[word].function, words[word].index, regs[words[word].reg], bit);
}

int vmm_cpu_match(const struct vmm_cpuid *saved, const struct vmm_cpuid *ours, struct shl_err *err)
{
    const struct kvm_cpuid_entry2 *theirs = find(saved, 0, 0), *own = find(ours, 0, 0);
    char from[13], to[13];
    size_t i;

    if (!theirs || !own) {
        return shl_err_set(err, SHL_ECORRUPT, "the VM state file has no CPU vendor");
    }
    vendor_of(theirs, from);
    vendor_of(own, to);
    if (theirs->ebx != own->ebx || theirs->ecx != own->ecx || theirs->edx != own->edx) {
        return shl_err_set(err, SHL_EINCOMPATIBLE,
                           "the VM was saved on a CPU of %s, this machine has one of %s", from, to);
    }
    for (i = 0; i < SHL_ARRAY_SIZE(words); i++) {
        uint32_t has = word_of(ours, words[i].function, words[i].index, words[i].reg);
        uint32_t needs = word_of(saved, words[i].function, words[i].index, words[i].reg);

        needs &= ~(has | words[i].dynamic);
        if (needs != 0) {
            return missing(i, needs, err);
        }
    }
    return 0;
}
