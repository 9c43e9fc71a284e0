#include "vmm-kvm/config.h"

#include <string.h>
#include <unistd.h>

#include "base/id.h"
#include "vmm-kvm/control.h"
#include "vmm-kvm/mem.h"

static void clear_fds(int *fds, unsigned count)
{
    unsigned i;

    for (i = 0; i < count; i++) {
        fds[i] = -1;
    }
}

static void close_fds(int *fds, unsigned count)
{
    unsigned i;

    for (i = 0; i < count; i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
    clear_fds(fds, count);
}

void vmm_config_init(struct vmm_config *config)
{
    memset(config, 0, sizeof(*config));
    config->kernel_fd = -1;
    config->initrd_fd = -1;
    config->base_fd = -1;
    clear_fds(config->layer_fds, VMM_DISK_LAYERS_MAX);
    config->overlay_fd = -1;
    config->tap_fd = -1;
    config->serial_fd = -1;
    config->state_fd = -1;
    config->mem_base_fd = -1;
    clear_fds(config->mem_fds, VMM_MEM_LAYERS_MAX);
    config->working_set_fd = -1;
    config->serial_max_bytes = VMM_SERIAL_DEFAULT_MAX_BYTES;
}

unsigned vmm_config_count_fds(const int *fds, unsigned max)
{
    unsigned count = 0;

    while (count < max && fds[count] >= 0) {
        count++;
    }
    return count;
}

static int *next_place(int *fds, unsigned max)
{
    unsigned count = vmm_config_count_fds(fds, max);

    return count < max ? &fds[count] : NULL;
}

int *vmm_config_fd(struct vmm_config *config, const char *name)
{
    const struct {
        const char *name;
        int *fd;
    } table[] = {
        {"kernel", &config->kernel_fd},
        {"initrd", &config->initrd_fd},
        {"base", &config->base_fd},
        {"overlay", &config->overlay_fd},
        {"tap", &config->tap_fd},
        {"serial", &config->serial_fd},
        {"state", &config->state_fd},
        {"mem_base", &config->mem_base_fd},
        {"working_set", &config->working_set_fd},
    };
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(table); i++) {
        if (strcmp(table[i].name, name) == 0) {
            return table[i].fd;
        }
    }
    if (strcmp(name, "layer") == 0) {
        return next_place(config->layer_fds, VMM_DISK_LAYERS_MAX);
    }
    if (strcmp(name, "mem") == 0) {
        return next_place(config->mem_fds, VMM_MEM_LAYERS_MAX);
    }
    return NULL;
}

void vmm_config_close_sources(struct vmm_config *config)
{
    close_fds(&config->kernel_fd, 1);
    close_fds(&config->initrd_fd, 1);
    close_fds(&config->state_fd, 1);
    close_fds(&config->mem_base_fd, 1);
    close_fds(config->mem_fds, VMM_MEM_LAYERS_MAX);
    close_fds(&config->working_set_fd, 1);
}

void vmm_config_release(struct vmm_config *config)
{
    vmm_config_close_sources(config);
    close_fds(&config->base_fd, 1);
    close_fds(config->layer_fds, VMM_DISK_LAYERS_MAX);
    close_fds(&config->overlay_fd, 1);
    close_fds(&config->tap_fd, 1);
    close_fds(&config->serial_fd, 1);
}

int vmm_config_parse_mac(struct vmm_config *config, const char *text, struct shl_err *err)
{
    uint8_t mac[VMM_NET_MAC_BYTES];
    char pair[3] = {0};
    size_t i;

    if (strlen(text) != 3 * VMM_NET_MAC_BYTES - 1) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "the MAC address is not of the form aa:bb:cc:dd:"
                           "ee:ff");
    }
    for (i = 0; i < VMM_NET_MAC_BYTES; i++) {
        memcpy(pair, text + 3 * i, 2);
        if (shl_hex_decode(&mac[i], 1, pair) < 0 ||
            (i + 1 < VMM_NET_MAC_BYTES && text[3 * i + 2] != ':')) {
            return shl_err_set(err, SHL_EINVALIDARG,
                               "the MAC address is not of the form aa:bb:cc:"
                               "dd:ee:ff");
        }
    }
    if (mac[0] & 1) {
        return shl_err_set(err, SHL_EINVALIDARG, "the MAC address is a multicast address");
    }
    memcpy(config->mac, mac, sizeof(mac));
    config->has_mac = true;
    return 0;
}

static int check_machine(const struct vmm_config *config, struct shl_err *err)
{
    if (config->vcpus < 1 || config->vcpus > VMM_VCPUS_MAX) {
        return shl_err_set(err, SHL_EINVALIDARG, "vcpus must be 1 to %u", VMM_VCPUS_MAX);
    }
    if (config->memory_bytes % VMM_MIB != 0 || config->memory_bytes < VMM_MEMORY_MIN_BYTES ||
        config->memory_bytes > VMM_MEMORY_MAX_BYTES) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "memory must be a multiple of 1 MiB from %llu to "
                           "%llu MiB",
                           VMM_MEMORY_MIN_BYTES / VMM_MIB, VMM_MEMORY_MAX_BYTES / VMM_MIB);
    }
    if (config->hotplug_max_bytes > VMM_MEM_HOTPLUG_MAX_BYTES ||
        config->hotplug_max_bytes % VMM_HOTPLUG_BLOCK_BYTES != 0 ||
        config->hotplug_bytes > config->hotplug_max_bytes) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "hotplug_bytes must not be above hotplug_max_bytes, nor that above "
                           "%llu MiB",
                           VMM_MEM_HOTPLUG_MAX_BYTES / VMM_MIB);
    }
    return 0;
}

static int missing(const char *name, struct shl_err *err)
{
    return shl_err_set(err, SHL_EINVALIDARG, "the descriptor '%s' is missing", name);
}

/* A descriptor of the other way to start is a mistake of the caller. */
static int check_files(const struct vmm_config *config, struct shl_err *err)
{
    bool has_saved = config->state_fd >= 0 || config->mem_base_fd >= 0 || config->mem_fds[0] >= 0 ||
                     config->working_set_fd >= 0;
    bool has_boot = config->kernel_fd >= 0 || config->initrd_fd >= 0;

    if (config->restoring ? has_boot : has_saved) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "start takes kernel and initrd, restore takes state, mem_base, mem and "
                           "working_set");
    }
    if (config->restoring && config->state_fd < 0) {
        return missing("state", err);
    }
    if (!config->restoring && config->kernel_fd < 0) {
        return missing("kernel", err);
    }
    if (config->base_fd < 0) {
        return missing("base", err);
    }
    return config->overlay_fd < 0 ? missing("overlay", err) : 0;
}

int vmm_config_check(const struct vmm_config *config, struct shl_err *err)
{
    int r = config->restoring ? 0 : check_machine(config, err);

    if (r < 0) {
        return r;
    }
    if (config->disk_bytes == 0 || config->disk_bytes % 512 != 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "disk_bytes must be a multiple of 512");
    }
    if (config->hotplug_bytes % VMM_HOTPLUG_BLOCK_BYTES != 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "hotplug_bytes must be a multiple of %llu MiB",
                           VMM_HOTPLUG_BLOCK_BYTES / VMM_MIB);
    }
    return check_files(config, err);
}
