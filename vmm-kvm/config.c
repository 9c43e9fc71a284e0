#include "vmm-kvm/config.h"

#include <string.h>
#include <unistd.h>

#include "base/id.h"
#include "vmm-kvm/control.h"

void vmm_config_init(struct vmm_config *config)
{
    memset(config, 0, sizeof(*config));
    config->kernel_fd = -1;
    config->initrd_fd = -1;
    config->base_fd = -1;
    config->overlay_fd = -1;
    config->tap_fd = -1;
    config->serial_fd = -1;
    config->serial_max_bytes = VMM_SERIAL_DEFAULT_MAX_BYTES;
}

int *vmm_config_fd(struct vmm_config *config, const char *name)
{
    const struct {
        const char *name;
        int *fd;
    } table[] = {
        {"kernel", &config->kernel_fd}, {"initrd", &config->initrd_fd},
        {"base", &config->base_fd},     {"overlay", &config->overlay_fd},
        {"tap", &config->tap_fd},       {"serial", &config->serial_fd},
    };
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(table); i++) {
        if (strcmp(table[i].name, name) == 0) {
            return table[i].fd;
        }
    }
    return NULL;
}

void vmm_config_release(struct vmm_config *config)
{
    static const char *const names[] = {"kernel", "initrd", "base", "overlay", "tap", "serial"};
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(names); i++) {
        int *fd = vmm_config_fd(config, names[i]);

        if (*fd >= 0) {
            (void)close(*fd);
        }
        *fd = -1;
    }
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
    return 0;
}

int vmm_config_check(const struct vmm_config *config, struct shl_err *err)
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
    if (config->hotplug_max_bytes % VMM_HOTPLUG_BLOCK_BYTES != 0 ||
        config->hotplug_bytes % VMM_HOTPLUG_BLOCK_BYTES != 0 ||
        config->hotplug_bytes > config->hotplug_max_bytes ||
        config->hotplug_max_bytes > VMM_MEMORY_MAX_BYTES) {
        return shl_err_set(err, SHL_EINVALIDARG,
                           "pluggable memory must be a multiple of %llu MiB, at most "
                           "hotplug_max_bytes, and that at most %llu MiB",
                           VMM_HOTPLUG_BLOCK_BYTES / VMM_MIB, VMM_MEMORY_MAX_BYTES / VMM_MIB);
    }
    if (config->disk_bytes == 0 || config->disk_bytes % 512 != 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "disk_bytes must be a multiple of 512");
    }
    if (config->kernel_fd < 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "the descriptor 'kernel' is missing");
    }
    if (config->base_fd < 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "the descriptor 'base' is missing");
    }
    if (config->overlay_fd < 0) {
        return shl_err_set(err, SHL_EINVALIDARG, "the descriptor 'overlay' is missing");
    }
    return 0;
}
