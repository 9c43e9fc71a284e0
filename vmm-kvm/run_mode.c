#include "vmm-kvm/run_mode.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_path(const char *path, int flags, const char *what, int *ret, struct shl_err *err)
{
    int fd;

    if (!path) {
        return shl_err_set(err, SHL_EINVALIDARG, "run needs --%s", what);
    }
    fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd < 0) {
        return shl_err_sys(err, errno, "cannot open the %s %s", what, path);
    }
    *ret = fd;
    return 0;
}

static int open_tap(const char *name, int *ret, struct shl_err *err)
{
    struct ifreq request;
    int r = open_path("/dev/net/tun", O_RDWR, "network device", ret, err);

    if (r < 0) {
        return r;
    }
    memset(&request, 0, sizeof(request));
    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if (ioctl(*ret, TUNSETIFF, &request) < 0) {
        return shl_err_sys(err, errno, "cannot attach to the TAP interface %s", name);
    }
    return 0;
}

static int open_serial(const char *path, int *ret, struct shl_err *err)
{
    if (!path) {
        return 0;
    }
    if (strcmp(path, "-") == 0) {
        *ret = dup(STDOUT_FILENO);
        return *ret < 0 ? shl_err_sys(err, errno, "cannot use standard output") : 0;
    }
    return open_path(path, O_WRONLY | O_CREAT | O_TRUNC, "serial", ret, err);
}

static int size_disk(const struct vmm_run_options *options,
                     struct vmm_config *config,
                     struct shl_err *err)
{
    struct stat st;

    config->disk_bytes = options->disk_mb * VMM_MIB;
    if (config->disk_bytes == 0) {
        if (fstat(config->base_fd, &st) < 0) {
            return shl_err_sys(err, errno, "cannot look at the disk");
        }
        config->disk_bytes = (uint64_t)st.st_size / 512 * 512;
    }
    return 0;
}

int vmm_run_config(const struct vmm_run_options *options,
                   struct vmm_config *config,
                   struct shl_err *err)
{
    int r;

    config->vcpus = (unsigned)options->vcpus;
    config->memory_bytes = options->memory_mb * VMM_MIB;
    config->hotplug_max_bytes = options->hotplug_max_mb * VMM_MIB;
    config->hotplug_bytes = options->hotplug_mb * VMM_MIB;
    (void)snprintf(config->cmdline, sizeof(config->cmdline), "%s",
                   options->cmdline ? options->cmdline : VMM_RUN_CMDLINE);
    r = open_path(options->kernel, O_RDONLY, "kernel", &config->kernel_fd, err);
    if (r == 0 && options->initrd) {
        r = open_path(options->initrd, O_RDONLY, "initrd", &config->initrd_fd, err);
    }
    if (r == 0) {
        r = open_path(options->disk, O_RDONLY, "disk", &config->base_fd, err);
    }
    if (r == 0) {
        r = open_path(options->overlay, O_RDWR | O_CREAT, "overlay", &config->overlay_fd, err);
    }
    if (r == 0) {
        r = open_serial(options->serial, &config->serial_fd, err);
    }
    if (r == 0 && options->tap) {
        r = open_tap(options->tap, &config->tap_fd, err);
    }
    if (r == 0) {
        r = vmm_config_parse_mac(config, "02:00:00:00:00:02", err);
    }
    if (r == 0) {
        r = size_disk(options, config, err);
    }
    return r == 0 ? vmm_config_check(config, err) : r;
}
