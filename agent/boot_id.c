#include "agent/boot_id.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/io.h"

#define KERNEL_FILE "/proc/sys/kernel/random/boot_id"
#define OUR_FILE    "/run/.boot_id"
#define ID_BYTES    16u

static int parse_uuid(uint8_t dst[ID_BYTES], const char *uuid)
{
    char digits[2 * ID_BYTES + 1];
    size_t i, len = 0;

    if (strlen(uuid) != SHL_UUID_SIZE - 1) {
        return -EINVAL;
    }
    for (i = 0; i < SHL_UUID_SIZE - 1; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            if (uuid[i] != '-') {
                return -EINVAL;
            }
        } else {
            digits[len++] = uuid[i];
        }
    }
    digits[len] = '\0';
    return shl_hex_decode(dst, ID_BYTES, digits);
}

int agent_boot_id_mix(char dst[SHL_UUID_SIZE], const char *kernel, const char *machine_id)
{
    uint8_t id[ID_BYTES], machine[ID_BYTES];
    char digits[2 * ID_BYTES + 1];
    size_t i;

    if (parse_uuid(id, kernel) < 0 || shl_hex_decode(machine, ID_BYTES, machine_id) < 0) {
        return -EINVAL;
    }
    for (i = 0; i < ID_BYTES; i++) {
        id[i] ^= machine[i];
    }
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x40); /* version 4, as the kernel's */
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    shl_hex_encode(digits, id, ID_BYTES);
    (void)snprintf(dst, SHL_UUID_SIZE, "%.8s-%.4s-%.4s-%.4s-%.12s", digits, digits + 8, digits + 12,
                   digits + 16, digits + 20);
    return 0;
}

static int read_kernel(char dst[SHL_UUID_SIZE])
{
    struct shl_buf text;
    int rc;

    shl_buf_init(&text, SHL_UUID_SIZE);
    rc = shl_read_file(KERNEL_FILE, &text);
    if (rc == 0 && shl_buf_len(&text) < SHL_UUID_SIZE - 1) {
        rc = -EINVAL;
    }
    if (rc == 0) {
        memcpy(dst, shl_buf_data(&text), SHL_UUID_SIZE - 1);
        dst[SHL_UUID_SIZE - 1] = '\0';
    }
    shl_buf_release(&text);
    return rc;
}

/* The file has no name any more afterwards, and is read-only where it is mounted. */
static int mount_file(struct agent_boot_id *id)
{
    SHL_CLEANUP_FD int fd =
        open(OUR_FILE, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0444);
    int rc;

    if (fd < 0) {
        return -errno;
    }
    rc = mount(OUR_FILE, KERNEL_FILE, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
    (void)unlink(OUR_FILE);
    if (rc == 0) {
        id->fd = shl_steal_fd(&fd);
    }
    return rc;
}

int agent_boot_id_apply(struct agent_boot_id *id, const char *machine_id)
{
    char text[SHL_UUID_SIZE];
    int rc = 0;

    if (id->kernel[0] == '\0') {
        rc = read_kernel(id->kernel);
        id->fd = -1;
    }
    if (rc == 0) {
        rc = agent_boot_id_mix(text, id->kernel, machine_id);
    }
    if (rc == 0 && id->fd < 0) {
        rc = mount_file(id);
    }
    if (rc == 0) {
        text[SHL_UUID_SIZE - 1] = '\n'; /* instead of the terminator */
        rc = shl_pwrite_full(id->fd, text, sizeof(text), 0);
    }
    if (rc == 0 &&
        mount(NULL, KERNEL_FILE, NULL,
              MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0) {
        rc = -errno;
    }
    return rc;
}
