/* A guest that breaks the rules of its devices: a kernel of one page of code.
 *
 * Entered by the 64-bit boot protocol like Linux. The command line says what to do
 * ("case=NAME"); each case finds the disk, sets it up as a driver would, and then does
 * one thing no driver may do. What must follow is checked outside (tests/vmm/hostile-guest):
 * the VMM ends this VM with a reason. A case that survives powers off (ACPI S5).
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

#define MMIO_BASE    0xd0000000ul
#define MMIO_STRIDE  0x1000ul
#define SLOTS        8
#define MAGIC        0x74726976u /* "virt" */
#define ID_BLOCK     2u
#define SLEEP_PORT   0x604
#define SLEEP_S5     0x34 /* SLP_TYP 5, SLP_EN */
#define OUTSIDE      (1ul << 40)
#define QUEUE_SIZE   8
#define F_NEXT       1
#define F_WRITE      2
#define STORM_ROUNDS 20000

/* Registers of virtio 1.2, 4.2.2. */
enum {
    R_MAGIC = 0x00,
    R_DEVICE_ID = 0x08,
    R_DRIVER_FEATURES = 0x20,
    R_DRIVER_FEATURES_SEL = 0x24,
    R_QUEUE_SEL = 0x30,
    R_QUEUE_SIZE = 0x38,
    R_QUEUE_READY = 0x44,
    R_QUEUE_NOTIFY = 0x50,
    R_STATUS = 0x70,
    R_DESC = 0x80,
    R_AVAIL = 0x90,
    R_USED = 0xa0,
};

static struct {
    u64 addr;
    u32 len;
    u16 flags;
    u16 next;
} desc[QUEUE_SIZE] __attribute__((aligned(4096)));
static struct {
    u16 flags;
    u16 idx;
    u16 ring[QUEUE_SIZE];
    u16 event;
} avail __attribute__((aligned(4096)));
static u8 used[4096] __attribute__((aligned(4096)));
static u8 data[4096] __attribute__((aligned(4096)));
static u64 pml4[512] __attribute__((aligned(4096)));
static u64 pdpt[512] __attribute__((aligned(4096)));
static u64 pd[4][512] __attribute__((aligned(4096)));

static volatile u32 *reg(u64 base, u64 offset)
{
    return (volatile u32 *)(base + offset);
}

static void out8(u16 port, u8 value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static void power_off(void)
{
    out8(SLEEP_PORT, SLEEP_S5);
    for (;;) {
        __asm__ volatile("hlt");
    }
}

/* The loader maps 1 GiB; the devices are above 3. */
static void map_4_gib(void)
{
    u64 i, j;

    pml4[0] = (u64)pdpt | 3;
    for (i = 0; i < 4; i++) {
        pdpt[i] = (u64)pd[i] | 3;
        for (j = 0; j < 512; j++) {
            pd[i][j] = (i << 30 | j << 21) | 0x83;
        }
    }
    __asm__ volatile("mov %0, %%cr3" : : "r"(pml4) : "memory");
}

static u64 find_disk(void)
{
    u64 i;

    for (i = 0; i < SLOTS; i++) {
        u64 base = MMIO_BASE + i * MMIO_STRIDE;

        if (*reg(base, R_MAGIC) == MAGIC && *reg(base, R_DEVICE_ID) == ID_BLOCK) {
            return base;
        }
    }
    power_off();
    return 0;
}

static void set_address(u64 base, u64 offset, u64 value)
{
    *reg(base, offset) = (u32)value;
    *reg(base, offset + 4) = (u32)(value >> 32);
}

static void start_driver(u64 base, u64 rings)
{
    *reg(base, R_STATUS) = 0;
    *reg(base, R_STATUS) = 1;
    *reg(base, R_STATUS) = 3;
    *reg(base, R_DRIVER_FEATURES_SEL) = 1;
    *reg(base, R_DRIVER_FEATURES) = 1; /* VERSION_1 */
    *reg(base, R_STATUS) = 11;
    *reg(base, R_QUEUE_SEL) = 0;
    *reg(base, R_QUEUE_SIZE) = QUEUE_SIZE;
    set_address(base, R_DESC, rings ? rings : (u64)desc);
    set_address(base, R_AVAIL, (u64)&avail);
    set_address(base, R_USED, (u64)used);
    *reg(base, R_QUEUE_READY) = 1;
    *reg(base, R_STATUS) = 15;
}

static void set(unsigned i, u64 addr, u32 len, u16 flags, u16 next)
{
    desc[i].addr = addr;
    desc[i].len = len;
    desc[i].flags = flags;
    desc[i].next = next;
}

static void kick(u64 base)
{
    unsigned i;

    __asm__ volatile("mfence" : : : "memory");
    *reg(base, R_QUEUE_NOTIFY) = 0;
    /* Time for the answer, which is the end. */
    for (i = 0; i < 100000; i++) {
        (void)*reg(base, R_STATUS);
    }
}

/* Random accesses of every width all over the device pages. */
static void storm(void)
{
    u64 state = 88172645463325252ul;
    unsigned i;

    for (i = 0; i < STORM_ROUNDS; i++) {
        u64 at;

        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        at =
            MMIO_BASE + (state >> 8 & 7) * MMIO_STRIDE + (state >> 16 & (state & 1 ? 0xfff : 0xfc));
        switch (state >> 40 & 7) {
        case 0:
            *(volatile u8 *)at = (u8)(state >> 48);
            break;
        case 1:
            *(volatile u16 *)at = (u16)(state >> 48);
            break;
        case 2:
            *(volatile u64 *)at = state;
            break;
        case 3:
            (void)*(volatile u8 *)at;
            break;
        case 4:
            (void)*(volatile u64 *)at;
            break;
        default:
            *(volatile u32 *)at = (u32)(state >> 24);
        }
    }
}

static int is_case(const char *cmdline, const char *name)
{
    const char *at;

    for (at = cmdline; *at; at++) {
        const char *a = at, *b = "case=";

        while (*b && *a == *b) {
            a++;
            b++;
        }
        if (*b) {
            continue;
        }
        for (b = name; *b && *a == *b; a++, b++) {
        }
        return *b == 0 && (*a == 0 || *a == ' ');
    }
    return 0;
}

void start_c(const u8 *zero_page);

void start_c(const u8 *zero_page)
{
    const char *cmdline = (const char *)(u64) * (const u32 *)(zero_page + 0x228);
    u64 base;

    map_4_gib();
    if (is_case(cmdline, "storm")) {
        storm();
        power_off();
    }
    base = find_disk();
    if (is_case(cmdline, "ring-outside")) {
        start_driver(base, OUTSIDE);
        if (*reg(base, R_STATUS) & 0x40) { /* DEVICE_NEEDS_RESET: refused, VM goes on */
            power_off();
        }
        kick(base);
    }
    start_driver(base, 0);
    set(0, (u64)data, 16, F_NEXT, 1);
    set(1, (u64)data + 512, 512, F_NEXT | F_WRITE, 2);
    set(2, (u64)data + 2048, 1, F_WRITE, 0);
    avail.ring[0] = 0;
    avail.idx = 1;
    if (is_case(cmdline, "idx-ahead")) {
        avail.idx = 5000;
    } else if (is_case(cmdline, "head-beyond")) {
        avail.ring[0] = 9999;
    } else if (is_case(cmdline, "next-beyond")) {
        desc[0].next = 500;
    } else if (is_case(cmdline, "loop")) {
        desc[1].next = 1;
    } else if (is_case(cmdline, "outside")) {
        desc[1].addr = OUTSIDE;
    } else if (is_case(cmdline, "wrap")) {
        desc[1].addr = ~0ul - 100;
    } else if (is_case(cmdline, "device-memory")) {
        desc[1].addr = MMIO_BASE;
    } else if (is_case(cmdline, "no-header")) {
        desc[0].len = 3;
    } else if (is_case(cmdline, "read-after-write")) {
        desc[2].flags = 0;
    } else {
        kick(base); /* the control: a proper request is served */
        power_off();
    }
    kick(base);
    power_off();
}

__asm__(".text\n"
        ".globl start\n"
        "start:\n"
        "    mov %rsi, %rdi\n"
        "    call start_c\n"
        "1:  hlt\n"
        "    jmp 1b\n");
