/* virtio-console with several ports (virtio 1.2, section 5.3). Port 0 exists for the
 * queue layout and is never announced; port 1 carries the guest agent under a name.
 *
 * Nothing is buffered here. Bytes for the guest are read from the host straight into
 * the driver's buffers, and only while a guest process has the port open. Bytes from
 * the guest stay in the driver's buffers until the host takes them (how much of the
 * first one is gone is in tx_offset), so each side's back-pressure reaches the other.
 * Without a host client they are dropped, as a serial line would.
 */
#ifndef SHL_VMM_CONSOLE_H
#define SHL_VMM_CONSOLE_H

#include <sys/types.h>

#include "vmm-kvm/virtio.h"

#define VMM_CONSOLE_PORT     1u
#define VMM_CONSOLE_NAME_MAX 32u

#define VMM_CONSOLE_CTRL_RX 2u
#define VMM_CONSOLE_CTRL_TX 3u
#define VMM_CONSOLE_RX      4u /* to the guest */
#define VMM_CONSOLE_TX      5u /* from the guest */

/* The host client, non-blocking. */
struct vmm_port_host {
    void *ctx;
    /* -EAGAIN: nothing now. Anything else below 1: the client is gone or going. */
    ssize_t (*read)(void *ctx, const struct iovec *iov, unsigned count);
    ssize_t (*write)(void *ctx, const struct iovec *iov, unsigned count);
    /* Which of vmm_console_on_readable and _on_writable are wanted from now on. */
    void (*want)(void *ctx, bool readable, bool writable);
};

struct vmm_console_stats {
    uint64_t rx_bytes; /* to the guest */
    uint64_t tx_bytes; /* from the guest, without dropped ones */
    uint64_t tx_dropped_bytes;
    uint64_t ignored_messages;
};

struct vmm_console {
    struct vmm_virtio dev;
    char name[VMM_CONSOLE_NAME_MAX];
    bool guest_open;    /* a guest process has the port open */
    bool host_open;     /* a host client is there */
    bool port_known;    /* the guest has set the port up */
    uint32_t messages;  /* control messages to send, bits of console.c */
    uint32_t tx_offset; /* bytes of the next TX request the host has taken */
    struct vmm_port_host host;
    struct vmm_console_stats stats;
    bool want_readable; /* what host.want was told last */
    bool want_writable;
};

void vmm_console_init(struct vmm_console *console,
                      struct vmm_mem *mem,
                      struct vmm_irq irq,
                      const struct vmm_port_host *host,
                      const char *name);

/* A client came or went. The guest sees the port open or close. Same results as
 * notify, like those below. */
SHL_MUST_CHECK int vmm_console_set_host(struct vmm_console *console, bool open);
SHL_MUST_CHECK int vmm_console_on_readable(struct vmm_console *console);
SHL_MUST_CHECK int vmm_console_on_writable(struct vmm_console *console);
/* What came at once: that one of them has more to do is not forgotten over the other. */
SHL_MUST_CHECK int vmm_console_on_ready(struct vmm_console *console, bool readable, bool writable);

#endif /* SHL_VMM_CONSOLE_H */
