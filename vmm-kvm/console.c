#include "vmm-kvm/console.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "vmm-kvm/device_state.h"

#define F_MULTIPORT (1ull << 1)

/* Control messages of 5.3.6.2: le32 port, le16 event, le16 value, then a name. */
#define CTRL_BYTES      8u
#define EV_DEVICE_READY 0u
#define EV_PORT_ADD     1u
#define EV_PORT_READY   3u
#define EV_PORT_OPEN    6u
#define EV_PORT_NAME    7u

/* Bits of console->messages, sent lowest first. A closed and reopened port sends both. */
#define SEND_ADD   1u
#define SEND_NAME  2u
#define SEND_CLOSE 4u
#define SEND_OPEN  8u

/* Configuration: le16 cols, le16 rows, le32 max_nr_ports, le32 emerg_wr. */
#define CONFIG_BYTES 12u
#define PORT_COUNT   2u

#define READS_MAX 64u

static void console_config_read(struct vmm_virtio *dev, uint32_t offset, uint8_t *dst, uint32_t len)
{
    uint8_t raw[CONFIG_BYTES] = {0};

    (void)dev;
    shl_put_le32(raw + 4, PORT_COUNT);
    memcpy(dst, raw + offset, len);
}

static void update_want(struct vmm_console *console, bool readable, bool writable)
{
    readable = readable && console->guest_open && console->host_open;
    writable = writable && console->host_open;
    if (readable != console->want_readable || writable != console->want_writable) {
        console->want_readable = readable;
        console->want_writable = writable;
        console->host.want(console->host.ctx, readable, writable);
    }
}

/* ---- control messages ---- */

static int send_message(struct vmm_console *console, uint16_t event, uint16_t value)
{
    struct vmm_queue *queue = &console->dev.queues[VMM_CONSOLE_CTRL_RX];
    uint8_t raw[CTRL_BYTES + VMM_CONSOLE_NAME_MAX];
    struct vmm_chain chain;
    size_t len = CTRL_BYTES;
    int r = vmm_queue_pop_or_await(queue, console->dev.mem, &chain);

    if (r <= 0) {
        return r;
    }
    shl_put_le32(raw, VMM_CONSOLE_PORT);
    shl_put_le16(raw + 4, event);
    shl_put_le16(raw + 6, value);
    if (event == EV_PORT_NAME) {
        memcpy(raw + len, console->name, strlen(console->name));
        len += strlen(console->name);
    }
    if (chain.write_bytes < len) {
        queue->violation = "a console control buffer is too small";
        return SHL_EGUEST;
    }
    vmm_queue_push(queue, chain.head, (uint32_t)vmm_chain_write(&chain, 0, raw, len));
    return 1;
}

/* Sends what is due as far as the driver has buffers; it notifies when it adds some. */
static int send_messages(struct vmm_console *console)
{
    static const struct {
        uint32_t bit;
        uint16_t event, value;
    } order[] = {
        {SEND_ADD, EV_PORT_ADD, 1},
        {SEND_NAME, EV_PORT_NAME, 1},
        {SEND_CLOSE, EV_PORT_OPEN, 0},
        {SEND_OPEN, EV_PORT_OPEN, 1},
    };
    unsigned i;
    int r = 1;

    if (!vmm_virtio_queue_is_active(&console->dev, VMM_CONSOLE_CTRL_RX)) {
        return 0;
    }
    for (i = 0; i < SHL_ARRAY_SIZE(order) && r > 0; i++) {
        if (!(console->messages & order[i].bit)) {
            continue;
        }
        r = send_message(console, order[i].event, order[i].value);
        if (r > 0) {
            console->messages &= ~order[i].bit;
        }
    }
    vmm_virtio_signal_queue(&console->dev, VMM_CONSOLE_CTRL_RX);
    return SHL_MIN(r, 0);
}

static void on_message(struct vmm_console *console, uint32_t port, uint16_t event, uint16_t value)
{
    if (event == EV_DEVICE_READY && value == 1) {
        console->messages |= SEND_ADD;
    } else if (port != VMM_CONSOLE_PORT) {
        console->stats.ignored_messages++;
    } else if (event == EV_PORT_READY && value == 1) {
        console->port_known = true;
        console->messages |= SEND_NAME | (console->host_open ? SEND_OPEN : 0u);
    } else if (event == EV_PORT_OPEN) {
        console->guest_open = value != 0;
        update_want(console, true, console->want_writable);
    } else {
        console->stats.ignored_messages++;
    }
}

static int serve_control(struct vmm_virtio *dev, struct vmm_queue *queue, struct vmm_chain *chain)
{
    struct vmm_console *console = shl_container_of(dev, struct vmm_console, dev);
    uint8_t raw[CTRL_BYTES];

    if (chain->read_bytes < CTRL_BYTES) {
        queue->violation = "a console control message is too short";
        return SHL_EGUEST;
    }
    (void)vmm_chain_read(chain, 0, raw, sizeof(raw));
    on_message(console, shl_get_le32(raw), shl_get_le16(raw + 4), shl_get_le16(raw + 6));
    vmm_queue_push(queue, chain->head, 0);
    return 0;
}

static int notify_control(struct vmm_console *console)
{
    int more = vmm_virtio_serve(&console->dev, VMM_CONSOLE_CTRL_TX, serve_control);
    int r = more < 0 ? more : send_messages(console);

    return r < 0 ? r : more;
}

/* ---- bytes ---- */

int vmm_console_on_readable(struct vmm_console *console)
{
    struct vmm_queue *queue = &console->dev.queues[VMM_CONSOLE_RX];
    struct vmm_chain chain;
    unsigned budget = READS_MAX;
    ssize_t n = 1;
    int r = 1;

    if (!console->guest_open || !console->host_open ||
        !vmm_virtio_queue_is_active(&console->dev, VMM_CONSOLE_RX)) {
        update_want(console, false, console->want_writable);
        return 0;
    }
    vmm_queue_disable_notify(queue);
    while (budget-- > 0 && n > 0) {
        r = vmm_queue_pop_or_await(queue, console->dev.mem, &chain);
        if (r <= 0) {
            break;
        }
        if (chain.write_count == 0) {
            queue->violation = "a console receive buffer is not writable";
            return SHL_EGUEST;
        }
        n = console->host.read(console->host.ctx, chain.iov + chain.read_count, chain.write_count);
        if (n > 0) {
            vmm_queue_push(queue, chain.head, (uint32_t)n);
            console->stats.rx_bytes += (uint64_t)n;
        } else {
            vmm_queue_unpop(queue);
        }
    }
    if (r < 0) {
        return r;
    }
    vmm_virtio_signal_queue(&console->dev, VMM_CONSOLE_RX);
    /* Without buffers (r == 0) the driver's notification resumes this. */
    update_want(console, r > 0, console->want_writable);
    return 0;
}

/* What is left of the first request, to the client. */
static int serve_tx(struct vmm_virtio *dev, struct vmm_queue *queue, struct vmm_chain *chain)
{
    struct vmm_console *console = shl_container_of(dev, struct vmm_console, dev);
    struct iovec iov[VMM_QUEUE_SIZE_MAX];

    /* The guest may have changed the request since the last time: then it is shorter. */
    while (console->host_open && console->tx_offset < chain->read_bytes) {
        uint32_t left = chain->read_bytes - console->tx_offset;
        unsigned count =
            vmm_iov_slice(iov, chain->iov, chain->read_count, console->tx_offset, left);
        ssize_t n = console->host.write(console->host.ctx, iov, count);

        if (n == -EAGAIN) {
            vmm_queue_unpop(queue);
            update_want(console, console->want_readable, true);
            return 1;
        }
        if (n <= 0) {
            break;
        }
        console->tx_offset += (uint32_t)n;
        console->stats.tx_bytes += (uint64_t)n;
    }
    if (console->tx_offset < chain->read_bytes) {
        console->stats.tx_dropped_bytes += chain->read_bytes - console->tx_offset;
    }
    console->tx_offset = 0;
    vmm_queue_push(queue, chain->head, 0);
    return 0;
}

int vmm_console_on_writable(struct vmm_console *console)
{
    update_want(console, console->want_readable, false);
    if (!vmm_virtio_queue_is_active(&console->dev, VMM_CONSOLE_TX)) {
        return 0;
    }
    return vmm_virtio_serve(&console->dev, VMM_CONSOLE_TX, serve_tx);
}

int vmm_console_on_ready(struct vmm_console *console, bool readable, bool writable)
{
    int more = writable ? vmm_console_on_writable(console) : 0;
    int r = readable && more >= 0 ? vmm_console_on_readable(console) : 0;

    return r < 0 ? r : more;
}

static int serve_nothing(struct vmm_virtio *dev, struct vmm_queue *queue, struct vmm_chain *chain)
{
    (void)dev;
    vmm_queue_push(queue, chain->head, 0);
    return 0;
}

static int console_notify(struct vmm_virtio *dev, unsigned index)
{
    struct vmm_console *console = shl_container_of(dev, struct vmm_console, dev);

    switch (index) {
    case VMM_CONSOLE_CTRL_RX:
        return send_messages(console);
    case VMM_CONSOLE_CTRL_TX:
        return notify_control(console);
    case VMM_CONSOLE_RX:
        return vmm_console_on_readable(console);
    case VMM_CONSOLE_TX:
        /* While the client is slow its writable event goes on with the queue. */
        return console->want_writable ? 0 : vmm_virtio_serve(dev, index, serve_tx);
    case 1: /* what port 0 sends */
        return vmm_virtio_serve(dev, index, serve_nothing);
    default: /* nothing comes in for port 0 */
        return 0;
    }
}

int vmm_console_set_host(struct vmm_console *console, bool open)
{
    int r;

    if (open == console->host_open) {
        return 0;
    }
    console->host_open = open;
    if (console->port_known) {
        console->messages &= ~SEND_OPEN;
        console->messages |= open ? SEND_OPEN : SEND_CLOSE;
    }
    update_want(console, true, false);
    r = send_messages(console);
    if (r < 0 || open || !vmm_virtio_queue_is_active(&console->dev, VMM_CONSOLE_TX)) {
        return r;
    }
    /* What the old client did not take is dropped: it must not reach the next one. */
    return vmm_virtio_serve(&console->dev, VMM_CONSOLE_TX, serve_tx);
}

/* ---- snapshots (device_state.h) ---- */

/* u8 guest_open, u8 host_open, u8 port_known, u8 messages, le32 tx_offset. */
#define STATE_BYTES  8u
#define MESSAGES_ALL (SEND_ADD | SEND_NAME | SEND_CLOSE | SEND_OPEN)

int vmm_console_save(const struct vmm_console *console, struct shl_buf *buf)
{
    uint8_t raw[STATE_BYTES] = {console->guest_open, console->host_open, console->port_known,
                                (uint8_t)console->messages};

    shl_put_le32(raw + 4, console->tx_offset);
    return shl_buf_append(buf, raw, sizeof(raw));
}

int vmm_console_restore(struct vmm_console *console, struct shl_bytes bytes)
{
    const uint8_t *raw = bytes.base;

    if (bytes.len != STATE_BYTES || raw[0] > 1 || raw[1] > 1 || raw[2] > 1 ||
        (raw[3] & ~MESSAGES_ALL)) {
        return SHL_ECORRUPT;
    }
    console->guest_open = raw[0];
    console->port_known = raw[2];
    console->messages = raw[3] & ~SEND_OPEN;
    if (raw[1] && console->port_known) {
        console->messages |= SEND_CLOSE;
    }
    /* The half-sent request is dropped with the client it was for (serve_tx). */
    console->tx_offset = shl_get_le32(raw + 4);
    return 0;
}

int vmm_console_wake(struct vmm_console *console)
{
    int r = send_messages(console);

    while (r >= 0 && vmm_virtio_queue_is_active(&console->dev, VMM_CONSOLE_TX)) {
        r = vmm_virtio_serve(&console->dev, VMM_CONSOLE_TX, serve_tx);
        if (r == 0) {
            break;
        }
    }
    return SHL_MIN(r, 0);
}

static void console_reset(struct vmm_virtio *dev)
{
    struct vmm_console *console = shl_container_of(dev, struct vmm_console, dev);

    console->guest_open = false;
    console->port_known = false;
    console->messages = 0;
    console->tx_offset = 0;
    update_want(console, false, false);
}

static const struct vmm_virtio_ops console_ops = {
    .name = "console",
    .device_id = VMM_VIRTIO_ID_CONSOLE,
    .queue_count = 6,
    .queue_sizes = {16, 16, 64, 64, 64, 64},
    .config_bytes = CONFIG_BYTES,
    .config_read = console_config_read,
    .notify = console_notify,
    .reset = console_reset,
};

void vmm_console_init(struct vmm_console *console,
                      struct vmm_mem *mem,
                      struct vmm_irq irq,
                      const struct vmm_port_host *host,
                      const char *name)
{
    assert(strlen(name) < VMM_CONSOLE_NAME_MAX);
    memset(console, 0, sizeof(*console));
    memcpy(console->name, name, strlen(name));
    console->host = *host;
    vmm_virtio_init(&console->dev, &console_ops, F_MULTIPORT, mem, irq);
}
