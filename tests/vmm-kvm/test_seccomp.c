/* The system call lists, each call in a child of its own: what a thread needs works,
 * what an intruder would want ends the process with a report. Built without sanitizers,
 * whose own calls are on no list. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm-kvm/seccomp.h"

#include "test.h"

#define OK      7
#define BLOCKED 1 /* how the handler ends the process */

static char report_path[] = "/tmp/shoal-seccomp-XXXXXX";

static int io_list(void)
{
    struct shl_err err = {0};

    return vmm_seccomp_io(&err);
}

static int vcpu_list(void)
{
    return vmm_seccomp_vcpu(NULL);
}

/* Exit status of a child that installs @list and makes @call. */
static int outcome(int (*list)(void), void (*call)(void))
{
    static const uint8_t body[] = "call 000";
    char from[64];
    int status, fd;
    pid_t pid;

    (void)snprintf(from, sizeof(from), "%s.tmp", report_path);
    fd = open(from, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    pid = fork();
    if (pid == 0) {
        (void)close(STDERR_FILENO);
        if (vmm_seccomp_report(fd, shl_bytes_of(body, 8), 5, from, report_path) < 0 || list() < 0) {
            _exit(99);
        }
        call();
        _exit(OK);
    }
    (void)close(fd);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* ---- what is needed ---- */

static void call_write(void)
{
    int fd = -1;

    (void)!write(fd, "x", 1);
}

static void call_kick_self(void)
{
    (void)syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), 0);
}

static void call_read_and_files(void)
{
    char byte;

    (void)!read(-1, &byte, 1);
    (void)!pread(-1, &byte, 1, 0);
    (void)!pwrite(-1, &byte, 1, 0);
    (void)fdatasync(-1);
    (void)fallocate(-1, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1);
    (void)lseek(-1, 0, SEEK_SET);
}

static void call_sockets_it_has(void)
{
    struct msghdr message = {0};

    (void)accept4(-1, NULL, NULL, SOCK_CLOEXEC);
    (void)recvmsg(-1, &message, 0);
    (void)sendmsg(-1, &message, 0);
    (void)send(-1, "x", 1, 0);
    (void)close(-1);
}

static void call_timers_it_has(void)
{
    const struct itimerspec at = {.it_value = {.tv_sec = 1}};
    struct timespec now;

    (void)timerfd_settime(-1, TFD_TIMER_ABSTIME, &at, NULL);
    (void)syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
}

static void call_memory(void)
{
    char *heap = malloc(1 << 22);
    char *more = realloc(heap, 1 << 24);

    free(more ? more : heap);
}

/* What a snapshot does: state out of KVM, files of layers and overlays, locks on them. */
static void call_snapshot(void)
{
    struct flock lock = {.l_type = F_WRLCK};
    struct stat st;
    char raw[4096];
    void *map = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)ioctl(-1, KVM_GET_REGS, raw);
    (void)ioctl(-1, KVM_GET_MSRS, raw);
    (void)ioctl(-1, KVM_GET_IRQCHIP, raw);
    (void)ioctl(-1, KVM_KVMCLOCK_CTRL, 0);
    (void)ioctl(-1, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
    (void)fcntl(-1, F_OFD_SETLK, &lock);
    (void)!ftruncate(-1, 0);
    (void)fstat(-1, &st);
    (void)munmap(map, 4096);
}

static void test_seccomp_vcpu_list_has_what_a_vcpu_needs(void **state)
{
    (void)state;
    assert_int_equal(outcome(vcpu_list, call_write), OK);
    assert_int_equal(outcome(vcpu_list, call_kick_self), OK);
}

static void test_seccomp_io_list_has_what_the_loop_needs(void **state)
{
    (void)state;
    assert_int_equal(outcome(io_list, call_write), OK);
    assert_int_equal(outcome(io_list, call_kick_self), OK);
    assert_int_equal(outcome(io_list, call_read_and_files), OK);
    assert_int_equal(outcome(io_list, call_sockets_it_has), OK);
    assert_int_equal(outcome(io_list, call_timers_it_has), OK);
    assert_int_equal(outcome(io_list, call_memory), OK);
    assert_int_equal(outcome(io_list, call_snapshot), OK);
}

/* ---- what is not ---- */

static void call_open(void)
{
    (void)open("/etc/passwd", O_RDONLY);
}

static void call_socket(void)
{
    (void)socket(AF_INET, SOCK_STREAM, 0);
}

static void call_exec(void)
{
    (void)execl("/bin/true", "true", (char *)NULL);
}

static void call_fork(void)
{
    (void)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}

static void call_ptrace(void)
{
    (void)ptrace(PTRACE_ATTACH, 1, NULL, NULL);
}

static void call_kill(void)
{
    (void)kill(1, 0);
}

static void call_signal_other(void)
{
    (void)syscall(SYS_tgkill, 1, 1, 0);
}

static void call_executable_memory(void)
{
    (void)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void call_mprotect(void)
{
    (void)mprotect(NULL, 4096, PROT_EXEC);
}

static void call_foreign_ioctl(void)
{
    (void)ioctl(0, TIOCSTI, "x");
}

/* The state of a vCPU is written before the list holds, never after. */
static void call_kvm_set(void)
{
    char raw[4096] = {0};

    (void)ioctl(-1, KVM_SET_REGS, raw);
}

static void call_set_memory(void)
{
    struct kvm_userspace_memory_region region = {0};

    (void)ioctl(-1, KVM_SET_USER_MEMORY_REGION, &region);
}

static void call_fcntl(void)
{
    (void)fcntl(0, F_SETFL, 0);
}

static void call_unlink(void)
{
    (void)unlink("/tmp/none");
}

static void call_setuid(void)
{
    (void)syscall(SYS_setuid, 0);
}

static void check_blocked(int (*list)(void), void (*call)(void), int number)
{
    char text[16] = {0}, expected[16];
    int fd;

    (void)unlink(report_path);
    assert_int_equal(outcome(list, call), BLOCKED);
    fd = open(report_path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(read(fd, text, sizeof(text) - 1), 8);
    (void)close(fd);
    (void)snprintf(expected, sizeof(expected), "call %03d", number);
    assert_string_equal(text, expected);
}

static void test_seccomp_everything_else_ends_with_a_report(void **state)
{
    static const struct {
        void (*call)(void);
        int number;
    } bad[] = {
        {call_open, SYS_openat},         {call_socket, SYS_socket},
        {call_exec, SYS_execve},         {call_fork, SYS_clone},
        {call_ptrace, SYS_ptrace},       {call_kill, SYS_kill},
        {call_signal_other, SYS_tgkill}, {call_executable_memory, SYS_mmap},
        {call_mprotect, SYS_mprotect},   {call_foreign_ioctl, SYS_ioctl},
        {call_unlink, SYS_unlink},       {call_setuid, SYS_setuid},
        {call_kvm_set, SYS_ioctl},       {call_set_memory, SYS_ioctl},
        {call_fcntl, SYS_fcntl},
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        check_blocked(io_list, bad[i].call, bad[i].number);
        check_blocked(vcpu_list, bad[i].call, bad[i].number);
    }
    /* A vCPU thread touches no files or sockets at all. */
    check_blocked(vcpu_list, call_read_and_files, SYS_read);
    check_blocked(vcpu_list, call_sockets_it_has, SYS_accept4);
    check_blocked(vcpu_list, call_snapshot, SYS_mmap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seccomp_vcpu_list_has_what_a_vcpu_needs),
        cmocka_unit_test(test_seccomp_io_list_has_what_the_loop_needs),
        cmocka_unit_test(test_seccomp_everything_else_ends_with_a_report),
    };
    char temporary[64];
    int fd = mkstemp(report_path);
    int failed;

    if (fd < 0) {
        return 1;
    }
    (void)close(fd);
    failed = cmocka_run_group_tests_name("vmm-kvm/seccomp", tests, NULL, NULL);
    (void)snprintf(temporary, sizeof(temporary), "%s.tmp", report_path);
    (void)unlink(temporary);
    (void)unlink(report_path);
    return failed;
}
