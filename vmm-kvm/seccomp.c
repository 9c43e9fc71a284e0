#include "vmm-kvm/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vmm-kvm/mem_scan.h"

#define REPORT_MAX 1024

/* ---- the report of a blocked call ---- */

static struct {
    int fd;
    uint8_t body[REPORT_MAX];
    size_t len;
    size_t digits_at;
    const char *from;
    const char *to;
} report;

/* Only write, rename and _exit: on every list, and safe in a handler. */
static void on_blocked_call(int number, siginfo_t *info, void *context)
{
    static const char text[] = "shoal-vmm: a system call outside the list was blocked: ";
    unsigned call = (unsigned)info->si_syscall;
    char digits[4] = {(char)('0' + call / 100 % 10), (char)('0' + call / 10 % 10),
                      (char)('0' + call % 10), '\n'};
    ssize_t n = write(STDERR_FILENO, text, sizeof(text) - 1);

    (void)number;
    (void)context;
    n = write(STDERR_FILENO, digits, sizeof(digits));
    if (report.len > 0) {
        memcpy(report.body + report.digits_at, digits, 3);
        n = write(report.fd, report.body, report.len);
        (void)rename(report.from, report.to);
    }
    (void)n;
    _exit(1);
}

int vmm_seccomp_report(int fd,
                       struct shl_bytes body,
                       size_t digits_at,
                       const char *from,
                       const char *to)
{
    struct sigaction action = {.sa_sigaction = on_blocked_call, .sa_flags = SA_SIGINFO};

    if (body.len > sizeof(report.body) || digits_at + 3 > body.len) {
        return SHL_ELIMIT;
    }
    memcpy(report.body, body.base, body.len);
    report.fd = fd;
    report.len = body.len;
    report.digits_at = digits_at;
    report.from = from;
    report.to = to;
    return sigaction(SIGSYS, &action, NULL) < 0 ? -errno : 0;
}

/* ---- the lists ---- */

#ifdef __SANITIZE_ADDRESS__
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

/* Both kinds of thread: locks, events, ending, reporting. */
static const int common_calls[] = {
    SCMP_SYS(futex),        SCMP_SYS(write),          SCMP_SYS(epoll_ctl),
    SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask), SCMP_SYS(restart_syscall),
    SCMP_SYS(sched_yield),  SCMP_SYS(clock_gettime),  SCMP_SYS(exit),
    SCMP_SYS(exit_group),   SCMP_SYS(rename),         SCMP_SYS(getpid),
    SCMP_SYS(gettid),
};

/* The I/O thread: sockets it has, files it has, timers, memory for buffers. */
static const int io_calls[] = {
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(read),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(preadv),
    SCMP_SYS(pwritev),
    SCMP_SYS(lseek),
    SCMP_SYS(fdatasync),
    SCMP_SYS(fallocate),
    SCMP_SYS(ftruncate),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat), /* glibc's fstat; names are of no use without openat */
    SCMP_SYS(accept4),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(recvfrom),
    SCMP_SYS(close),
    SCMP_SYS(munmap),
    SCMP_SYS(brk),
    SCMP_SYS(mremap),
    SCMP_SYS(getrandom),
    SCMP_SYS(timerfd_settime),
};

static int allow_all(scmp_filter_ctx filter, const int *calls, size_t count)
{
    size_t i;
    int r = 0;

    for (i = 0; i < count && r == 0; i++) {
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
    }
    return r;
}

static int allow_ioctl(scmp_filter_ctx filter, unsigned long request)
{
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                            SCMP_A1_32(SCMP_CMP_EQ, (scmp_datum_t)request));
}

/* Signals only to threads of this process (the kick, and abort of an assert). */
static int allow_own_signals(scmp_filter_ctx filter)
{
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                            SCMP_A0_32(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
}

static int fill_vcpu(scmp_filter_ctx filter)
{
    int r = allow_ioctl(filter, KVM_RUN);

    if (r == 0) {
        /* The driver of the guest switches offloads of its TAP on and off. */
        r = allow_ioctl(filter, TUNSETOFFLOAD);
    }
    if (r == 0) {
        /* The end of a thread gives its stack back. */
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(madvise), 1,
                             SCMP_A2_32(SCMP_CMP_EQ, MADV_DONTNEED));
    }
    return r;
}

/* Reading the state of vCPUs and chips for a snapshot. Writing it is done before the
 * list holds. */
static const unsigned long snapshot_ioctls[] = {
    KVM_GET_MP_STATE,  KVM_GET_REGS,        KVM_GET_SREGS,       KVM_GET_XSAVE,  KVM_GET_XSAVE2,
    KVM_GET_XCRS,      KVM_GET_LAPIC,       KVM_GET_DEBUGREGS,   KVM_GET_CPUID2, KVM_GET_MSRS,
    KVM_GET_TSC_KHZ,   KVM_GET_PIT2,        KVM_GET_VCPU_EVENTS, KVM_GET_CLOCK,  KVM_GET_IRQCHIP,
    KVM_KVMCLOCK_CTRL, KVM_CHECK_EXTENSION, VMM_PAGEMAP_SCAN,
};

/* An overlay is locked when it becomes the top or a layer. */
static int allow_locks(scmp_filter_ctx filter)
{
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
                            SCMP_A1_32(SCMP_CMP_EQ, F_OFD_SETLK));
}

static int fill_io(scmp_filter_ctx filter)
{
    int r = allow_all(filter, io_calls, SHL_ARRAY_SIZE(io_calls));
    size_t i;

    if (r == 0) {
        r = allow_ioctl(filter, TUNSETOFFLOAD);
    }
    for (i = 0; r == 0 && i < SHL_ARRAY_SIZE(snapshot_ioctls); i++) {
        r = allow_ioctl(filter, snapshot_ioctls[i]);
    }
    if (r == 0) {
        r = allow_locks(filter);
    }
    if (r == 0) { /* memory, but nothing that can be executed */
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                             SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    }
    if (r == 0) {
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(madvise), 1,
                             SCMP_A2_32(SCMP_CMP_EQ, MADV_DONTNEED));
    }
    return r;
}

/* ---- programs ---- */

enum list {
    LIST_IO,
    LIST_VCPU,
};

/* Made once and before they are needed: making one takes longer than all else that
 * starting a vCPU thread does. */
static struct sock_fprog programs[2];

static int export_program(scmp_filter_ctx filter, struct sock_fprog *ret)
{
    SHL_CLEANUP_FD int fd = memfd_create("filter", MFD_CLOEXEC);
    off_t size;
    int r = fd < 0 ? -errno : seccomp_export_bpf(filter, fd);

    if (r < 0) {
        return r;
    }
    size = lseek(fd, 0, SEEK_END);
    if (size <= 0 || size > (off_t)(BPF_MAXINSNS * sizeof(struct sock_filter))) {
        return -EIO;
    }
    ret->filter = malloc((size_t)size); /* for the life of the process */
    if (!ret->filter) {
        return -ENOMEM;
    }
    ret->len = (unsigned short)((size_t)size / sizeof(struct sock_filter));
    return pread(fd, ret->filter, (size_t)size, 0) == size ? 0 : -EIO;
}

static int make_program(enum list list)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
    int r;

    if (!filter) {
        return -ENOMEM;
    }
    r = allow_all(filter, common_calls, SHL_ARRAY_SIZE(common_calls));
    if (r == 0) {
        r = allow_own_signals(filter);
    }
    if (r == 0) {
        r = list == LIST_IO ? fill_io(filter) : fill_vcpu(filter);
    }
    if (r == 0) {
        r = export_program(filter, &programs[list]);
    }
    seccomp_release(filter);
    return r;
}

static int install(enum list list)
{
    int r = 0;

    if (SANITIZED) {
        return 0;
    }
    if (!programs[list].filter) {
        r = make_program(list);
    }
    if (r == 0 && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
                   syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &programs[list]) < 0)) {
        r = -errno;
    }
    return r;
}

int vmm_seccomp_prepare(struct shl_err *err)
{
    int r = SANITIZED ? 0 : make_program(LIST_IO);

    if (r == 0 && !SANITIZED) {
        r = make_program(LIST_VCPU);
    }
    return r < 0 ? shl_err_sys(err, -r, "cannot make the lists of system calls") : 0;
}

int vmm_seccomp_io(struct shl_err *err)
{
    int r = install(LIST_IO);

    return r < 0 ? shl_err_sys(err, -r, "cannot restrict system calls") : 0;
}

int vmm_seccomp_vcpu(void *unused)
{
    (void)unused;
    return install(LIST_VCPU);
}
