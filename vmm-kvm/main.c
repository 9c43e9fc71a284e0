/* shoal-vmm: one process, one VM. Command line; the rest is process.c. */
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm-kvm/process.h"
#include "vmm-kvm/run_mode.h"

static const char usage[] =
    "usage: shoal-vmm --dir DIR [--uid N --gid N] [--cgroup PATH] [--no-jail]\n"
    "       shoal-vmm --dir DIR [...] run --kernel F [--initrd F] --disk F --overlay F\n"
    "                 --memory-mb N --cpus N [--disk-mb N] [--cmdline S] [--tap NAME]\n"
    "                 [--serial F|-] [--hotplug-max-mb N] [--hotplug-mb N]\n"
    "\n"
    "Runs one VM under KVM. Without 'run' it waits on DIR/control.sock for the op start\n"
    "(vmm-kvm/control.h). DIR belongs to this VM: sockets, and exit.msgpack at the end.\n";

struct options {
    const char *dir;
    struct vmm_jail_config jail;
    bool run;
    struct vmm_run_options vm;
};

enum {
    OPT_DIR = 1,
    OPT_UID,
    OPT_GID,
    OPT_CGROUP,
    OPT_NO_JAIL,
    OPT_KERNEL,
    OPT_INITRD,
    OPT_DISK,
    OPT_OVERLAY,
    OPT_MEMORY,
    OPT_CPUS,
    OPT_DISK_MB,
    OPT_CMDLINE,
    OPT_TAP,
    OPT_SERIAL,
    OPT_HOTPLUG_MAX,
    OPT_HOTPLUG,
    OPT_HELP,
};

static const struct option long_options[] = {
    {"dir", required_argument, NULL, OPT_DIR},
    {"uid", required_argument, NULL, OPT_UID},
    {"gid", required_argument, NULL, OPT_GID},
    {"cgroup", required_argument, NULL, OPT_CGROUP},
    {"no-jail", no_argument, NULL, OPT_NO_JAIL},
    {"kernel", required_argument, NULL, OPT_KERNEL},
    {"initrd", required_argument, NULL, OPT_INITRD},
    {"disk", required_argument, NULL, OPT_DISK},
    {"overlay", required_argument, NULL, OPT_OVERLAY},
    {"memory-mb", required_argument, NULL, OPT_MEMORY},
    {"cpus", required_argument, NULL, OPT_CPUS},
    {"disk-mb", required_argument, NULL, OPT_DISK_MB},
    {"cmdline", required_argument, NULL, OPT_CMDLINE},
    {"tap", required_argument, NULL, OPT_TAP},
    {"serial", required_argument, NULL, OPT_SERIAL},
    {"hotplug-max-mb", required_argument, NULL, OPT_HOTPLUG_MAX},
    {"hotplug-mb", required_argument, NULL, OPT_HOTPLUG},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static int parse_number(const char *text, uint64_t max, uint64_t *ret)
{
    unsigned long long value;
    char *end;

    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || value > max) {
        (void)fprintf(stderr, "shoal-vmm: '%s' is not a number from 0 to %llu\n", text,
                      (unsigned long long)max);
        return SHL_EINVALIDARG;
    }
    *ret = value;
    return 0;
}

static int apply_number(struct options *options, int option, const char *text)
{
    uint64_t value;

    if (parse_number(text, UINT32_MAX - 1, &value) < 0) {
        return SHL_EINVALIDARG;
    }
    switch (option) {
    case OPT_UID:
        options->jail.uid = (uid_t)value;
        break;
    case OPT_GID:
        options->jail.gid = (gid_t)value;
        break;
    case OPT_MEMORY:
        options->vm.memory_mb = value;
        break;
    case OPT_CPUS:
        options->vm.vcpus = value;
        break;
    case OPT_HOTPLUG_MAX:
        options->vm.hotplug_max_mb = value;
        break;
    case OPT_HOTPLUG:
        options->vm.hotplug_mb = value;
        break;
    default:
        options->vm.disk_mb = value;
        break;
    }
    return 0;
}

static int apply_option(struct options *options, int option, const char *text)
{
    switch (option) {
    case OPT_DIR:
        options->dir = text;
        break;
    case OPT_CGROUP:
        options->jail.cgroup = text;
        break;
    case OPT_NO_JAIL:
        options->jail.enabled = false;
        break;
    case OPT_KERNEL:
        options->vm.kernel = text;
        break;
    case OPT_INITRD:
        options->vm.initrd = text;
        break;
    case OPT_DISK:
        options->vm.disk = text;
        break;
    case OPT_OVERLAY:
        options->vm.overlay = text;
        break;
    case OPT_CMDLINE:
        options->vm.cmdline = text;
        break;
    case OPT_TAP:
        options->vm.tap = text;
        break;
    case OPT_SERIAL:
        options->vm.serial = text;
        break;
    case OPT_UID:
    case OPT_GID:
    case OPT_MEMORY:
    case OPT_CPUS:
    case OPT_DISK_MB:
    case OPT_HOTPLUG_MAX:
    case OPT_HOTPLUG:
        return apply_number(options, option, text);
    default:
        return SHL_EINVALIDARG;
    }
    return 0;
}

static int parse_options(int argc, char **argv, struct options *options)
{
    int option;

    *options = (struct options){.jail = {.enabled = true}, .vm = {.memory_mb = 512, .vcpus = 1}};
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (option == OPT_HELP) {
            (void)fputs(usage, stdout);
            exit(0);
        }
        if (apply_option(options, option, optarg) < 0) {
            return SHL_EINVALIDARG;
        }
    }
    if (optind < argc && strcmp(argv[optind], "run") == 0) {
        options->run = true;
        optind++;
    }
    if (optind != argc || !options->dir) {
        (void)fputs(usage, stderr);
        return SHL_EINVALIDARG;
    }
    return 0;
}

static int complain(const struct shl_err *err)
{
    (void)fprintf(stderr, "shoal-vmm: %s\n", err->msg);
    return 1;
}

int main(int argc, char **argv)
{
    static struct vmm_process process;
    struct shl_err err = {0};
    struct options options;
    int status;

    vmm_jail_close_inherited();
    /* One heap for all threads: a second one would need calls the lists do not have. */
    (void)mallopt(M_ARENA_MAX, 1);
    if (parse_options(argc, argv, &options) < 0) {
        return 2;
    }
    process.dir = options.dir;
    process.jail = options.jail;
    vmm_config_init(&process.machine.config);
    if (options.run && vmm_run_config(&options.vm, &process.machine.config, &err) < 0) {
        return complain(&err);
    }
    if (vmm_process_open(&process, &err) < 0) {
        return complain(&err);
    }
    if (options.run && vmm_process_start(&process, &err) < 0) {
        (void)complain(&err); /* serve ends at once and writes the exit file */
    }
    status = vmm_process_serve(&process);
    if (options.run && process.running) {
        (void)fprintf(stderr, "shoal-vmm: ended: %s: %s\n", process.outcome.reason,
                      process.outcome.detail);
    }
    vmm_process_release(&process);
    return status;
}
