/* virtio-console: control messages, both directions, back-pressure, abuse. Also rng. */
#include <errno.h>

#include "base/buf.h"
#include "base/err.h"
#include "vmm-kvm/console.h"
#include "vmm-kvm/rng.h"

#include "driver.h"
#include "test.h"

static struct driver driver;
static struct vmm_console console;

static uint8_t host_in[4096]; /* what the client has for the guest */
static size_t host_in_len;
static uint8_t host_out[65536]; /* what the client received */
static size_t host_out_len;
static size_t host_room; /* bytes the client takes before EAGAIN */
static bool host_broken;
static bool want_readable, want_writable;

static ssize_t host_read(void *ctx, const struct iovec *iov, unsigned count)
{
    size_t n;

    (void)ctx;
    assert_true(count > 0);
    if (host_in_len == 0) {
        return -EAGAIN;
    }
    n = SHL_MIN(host_in_len, iov[0].iov_len);
    memcpy(iov[0].iov_base, host_in, n);
    memmove(host_in, host_in + n, host_in_len - n);
    host_in_len -= n;
    return (ssize_t)n;
}

static ssize_t host_write(void *ctx, const struct iovec *iov, unsigned count)
{
    size_t done = 0;
    unsigned i;

    (void)ctx;
    if (host_broken) {
        return -EPIPE;
    }
    for (i = 0; i < count && host_room > 0; i++) {
        size_t n = SHL_MIN(iov[i].iov_len, host_room);

        assert_true(host_out_len + n <= sizeof(host_out));
        memcpy(host_out + host_out_len, iov[i].iov_base, n);
        host_out_len += n;
        host_room -= n;
        done += n;
    }
    return done > 0 ? (ssize_t)done : -EAGAIN;
}

static void host_want(void *ctx, bool readable, bool writable)
{
    (void)ctx;
    want_readable = readable;
    want_writable = writable;
}

static uint64_t page; /* buffers */

static void add_control_buffers(unsigned count)
{
    unsigned i;

    for (i = 0; i < count; i++) {
        const struct driver_part part = {page + 256ull * i, 256, true};

        driver_add(&driver, VMM_CONSOLE_CTRL_RX, &part, 1);
    }
}

static int setup(void **state)
{
    const struct vmm_port_host host = {NULL, host_read, host_write, host_want};

    (void)state;
    host_in_len = 0;
    host_out_len = 0;
    host_room = sizeof(host_out);
    host_broken = false;
    want_readable = false;
    want_writable = false;
    driver_init(&driver);
    vmm_console_init(&console, &driver.mem, driver_irq(&driver), &host, "org.shoal.agent.0");
    driver_start(&driver, &console.dev, console.dev.offered & ~VMM_F_EVENT_IDX);
    page = driver_alloc(&driver, 65536);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    driver_release(&driver);
    return 0;
}

static int control(uint32_t port, uint16_t event, uint16_t value, uint32_t len)
{
    const struct driver_part part = {page + 32768, len, false};
    uint8_t *raw = driver_at(&driver, page + 32768);

    shl_put_le32(raw, port);
    shl_put_le16(raw + 4, event);
    shl_put_le16(raw + 6, value);
    driver_add(&driver, VMM_CONSOLE_CTRL_TX, &part, 1);
    return driver_notify(&driver, VMM_CONSOLE_CTRL_TX);
}

/* Next control message from the device; its event and value, 0xffff when there is none. */
static uint16_t message(uint16_t *ret_value, char *ret_name)
{
    struct driver_queue *queue = &driver.queues[VMM_CONSOLE_CTRL_RX];
    uint32_t head, len;
    const uint8_t *raw;

    if (!driver_used(&driver, VMM_CONSOLE_CTRL_RX, &head, &len)) {
        return 0xffff;
    }
    raw = driver_at(&driver, shl_get_le64(driver_at(&driver, queue->desc + 16ull * head)));
    assert_true(len >= 8);
    assert_int_equal(shl_get_le32(raw), VMM_CONSOLE_PORT);
    *ret_value = shl_get_le16(raw + 6);
    if (ret_name) {
        memcpy(ret_name, raw + 8, len - 8);
        ret_name[len - 8] = '\0';
    }
    return shl_get_le16(raw + 4);
}

/* The guest's driver and agent come up. */
static void bring_up(void)
{
    uint16_t value;
    char name[64];

    add_control_buffers(16);
    assert_int_equal(control(0, 0, 1, 8), 0); /* DEVICE_READY */
    assert_int_equal(message(&value, NULL), 1);
    assert_int_equal(control(1, 3, 1, 8), 0); /* PORT_READY */
    assert_int_equal(message(&value, name), 7);
    assert_string_equal(name, "org.shoal.agent.0");
    assert_int_equal(control(1, 6, 1, 8), 0); /* PORT_OPEN */
    assert_true(console.guest_open);
}

static void test_console_announces_the_named_port(void **state)
{
    uint16_t value;

    (void)state;
    bring_up();
    assert_int_equal(message(&value, NULL), 0xffff);
    assert_int_equal(driver_get(&driver, REG_CONFIG + 4), 2);
}

static void test_console_client_opens_and_closes_the_port(void **state)
{
    uint16_t value;

    (void)state;
    bring_up();
    assert_int_equal(vmm_console_set_host(&console, true), 0);
    assert_int_equal(message(&value, NULL), 6);
    assert_int_equal(value, 1);
    assert_true(want_readable);
    assert_int_equal(vmm_console_set_host(&console, false), 0);
    assert_int_equal(message(&value, NULL), 6);
    assert_int_equal(value, 0);
    assert_false(want_readable);
}

static void test_console_client_before_the_guest_is_told_later(void **state)
{
    uint16_t value;
    char name[64];

    (void)state;
    assert_int_equal(vmm_console_set_host(&console, true), 0);
    add_control_buffers(16);
    assert_int_equal(control(0, 0, 1, 8), 0);
    assert_int_equal(message(&value, NULL), 1);
    assert_int_equal(control(1, 3, 1, 8), 0);
    assert_int_equal(message(&value, name), 7);
    assert_int_equal(message(&value, NULL), 6);
    assert_int_equal(value, 1);
}

/* Without control buffers the messages wait, few and in order. */
static void test_console_messages_wait_for_buffers(void **state)
{
    uint16_t value;

    (void)state;
    bring_up();
    while (driver.queues[VMM_CONSOLE_CTRL_RX].used_seen < 16) {
        assert_int_equal(vmm_console_set_host(&console, !console.host_open), 0);
        assert_int_equal(message(&value, NULL), 6);
    }
    assert_int_equal(vmm_console_set_host(&console, true), 0);
    assert_int_equal(vmm_console_set_host(&console, false), 0);
    assert_int_equal(vmm_console_set_host(&console, true), 0);
    assert_int_equal(message(&value, NULL), 0xffff);
    add_control_buffers(4);
    assert_int_equal(driver_notify(&driver, VMM_CONSOLE_CTRL_RX), 0);
    assert_int_equal(message(&value, NULL), 6);
    assert_int_equal(value, 0);
    assert_int_equal(message(&value, NULL), 6);
    assert_int_equal(value, 1);
    assert_int_equal(message(&value, NULL), 0xffff);
}

static void test_console_short_control_message_ends_the_vm(void **state)
{
    (void)state;
    assert_int_equal(control(0, 0, 1, 7), SHL_EGUEST);
}

static void test_console_small_control_buffer_ends_the_vm(void **state)
{
    const struct driver_part part = {page, 7, true};

    (void)state;
    driver_add(&driver, VMM_CONSOLE_CTRL_RX, &part, 1);
    assert_int_equal(control(0, 0, 1, 8), SHL_EGUEST);
}

static void test_console_unknown_messages_are_ignored(void **state)
{
    (void)state;
    assert_int_equal(control(0, 0, 0, 8), 0);
    assert_int_equal(control(0, 6, 1, 8), 0);
    assert_int_equal(control(0xffffffff, 3, 1, 8), 0);
    assert_int_equal(control(1, 99, 1, 64), 0);
    assert_false(console.guest_open);
    assert_int_equal(console.stats.ignored_messages, 4);
}

static void test_console_bytes_reach_the_guest_only_while_it_listens(void **state)
{
    const struct driver_part part = {page + 8192, 16, true};
    uint32_t head, len;

    (void)state;
    memcpy(host_in, "0123456789abcdefghij", 20);
    host_in_len = 20;
    driver_add(&driver, VMM_CONSOLE_RX, &part, 1);
    assert_int_equal(vmm_console_on_readable(&console), 0);
    assert_int_equal(host_in_len, 20);
    bring_up();
    assert_int_equal(vmm_console_set_host(&console, true), 0);
    assert_true(want_readable);
    assert_int_equal(vmm_console_on_readable(&console), 0);
    assert_true(driver_used(&driver, VMM_CONSOLE_RX, &head, &len));
    assert_int_equal(len, 16);
    assert_memory_equal(driver_at(&driver, page + 8192), "0123456789abcdef", 16);
    assert_false(want_readable); /* no buffers: the client waits */
    driver_add(&driver, VMM_CONSOLE_RX, &part, 1);
    driver_add(&driver, VMM_CONSOLE_RX, &part, 1);
    assert_int_equal(driver_notify(&driver, VMM_CONSOLE_RX), 0);
    assert_true(driver_used(&driver, VMM_CONSOLE_RX, &head, &len));
    assert_int_equal(len, 4);
    assert_true(want_readable);
    assert_int_equal(console.stats.rx_bytes, 20);
}

static void test_console_unwritable_receive_buffer_ends_the_vm(void **state)
{
    const struct driver_part part = {page + 8192, 16, false};

    (void)state;
    bring_up();
    assert_int_equal(vmm_console_set_host(&console, true), 0);
    host_in_len = 1;
    driver_add(&driver, VMM_CONSOLE_RX, &part, 1);
    assert_int_equal(vmm_console_on_readable(&console), SHL_EGUEST);
}

static void send_bytes(uint32_t len)
{
    const struct driver_part parts[] = {{page + 8192, len / 2, false},
                                        {page + 8192 + len / 2, len - len / 2, false}};

    driver_add(&driver, VMM_CONSOLE_TX, parts, 2);
}

/* A slow client stops the queue; the rest of the request goes on where it stopped. */
static void test_console_slow_client_holds_the_guest_back(void **state)
{
    uint8_t *data = driver_at(&driver, page + 8192);
    uint32_t head, len, i;

    (void)state;
    for (i = 0; i < 1000; i++) {
        data[i] = (uint8_t)(i * 7);
    }
    bring_up();
    assert_int_equal(vmm_console_set_host(&console, true), 0);
    send_bytes(1000);
    send_bytes(1000);
    host_room = 300;
    assert_int_equal(driver_notify(&driver, VMM_CONSOLE_TX), 0);
    assert_true(want_writable);
    assert_false(driver_used(&driver, VMM_CONSOLE_TX, &head, &len));
    assert_int_equal(driver_notify(&driver, VMM_CONSOLE_TX), 0); /* changes nothing */
    assert_int_equal(host_out_len, 300);
    host_room = 900;
    assert_int_equal(vmm_console_on_writable(&console), 0);
    assert_true(driver_used(&driver, VMM_CONSOLE_TX, &head, &len));
    assert_false(driver_used(&driver, VMM_CONSOLE_TX, &head, &len));
    host_room = 5000;
    assert_int_equal(vmm_console_on_writable(&console), 0);
    assert_true(driver_used(&driver, VMM_CONSOLE_TX, &head, &len));
    assert_int_equal(host_out_len, 2000);
    assert_memory_equal(host_out, data, 1000);
    assert_memory_equal(host_out + 1000, data, 1000);
    assert_false(want_writable);
}

/* A whole queue waits for a slow client, which takes it and sends something at once: there may be
 * more by then, and nobody else would look, the driver's notifications being off. */
static void test_console_both_ways_at_once_leave_nothing_behind(void **state)
{
    const struct driver_part part = {page + 8192, 2, false};
    unsigned i;

    (void)state;
    bring_up();
    assert_int_equal(vmm_console_set_host(&console, true), 0);
    host_room = 0;
    for (i = 0; i < VMM_SERVE_MAX; i++) {
        driver_add(&driver, VMM_CONSOLE_TX, &part, 1);
    }
    assert_int_equal(driver_notify(&driver, VMM_CONSOLE_TX), 0);
    assert_true(want_writable);
    host_room = 2 * VMM_SERVE_MAX;
    host_in_len = 10;
    assert_int_equal(vmm_console_on_ready(&console, true, true), 1);
    assert_int_equal(host_out_len, 2 * VMM_SERVE_MAX);
    assert_int_equal(driver_notify(&driver, VMM_CONSOLE_TX), 0);
    assert_int_equal(vmm_console_on_ready(&console, true, false), 0);
}

static void test_console_request_that_shrinks_under_way_is_done(void **state)
{
    uint32_t head, len;

    (void)state;
    bring_up();
    assert_int_equal(vmm_console_set_host(&console, true), 0);
    send_bytes(1000);
    host_room = 300;
    assert_int_equal(driver_notify(&driver, VMM_CONSOLE_TX), 0);
    driver_put_desc(&driver, VMM_CONSOLE_TX, 0, page + 8192, 10, 0, 0);
    host_room = 5000;
    assert_int_equal(vmm_console_on_writable(&console), 0);
    assert_true(driver_used(&driver, VMM_CONSOLE_TX, &head, &len));
    assert_int_equal(host_out_len, 300);
    assert_int_equal(console.tx_offset, 0);
}

static void test_console_nobody_listens_bytes_are_dropped(void **state)
{
    uint32_t head, len;

    (void)state;
    bring_up();
    send_bytes(1000);
    assert_int_equal(driver_notify(&driver, VMM_CONSOLE_TX), 0);
    assert_true(driver_used(&driver, VMM_CONSOLE_TX, &head, &len));
    assert_int_equal(console.stats.tx_dropped_bytes, 1000);
}

/* What one client did not take never reaches the next. */
static void test_console_new_client_starts_clean(void **state)
{
    uint32_t head, len;

    (void)state;
    bring_up();
    assert_int_equal(vmm_console_set_host(&console, true), 0);
    send_bytes(1000);
    host_room = 300;
    assert_int_equal(driver_notify(&driver, VMM_CONSOLE_TX), 0);
    assert_int_equal(vmm_console_set_host(&console, false), 0);
    assert_true(driver_used(&driver, VMM_CONSOLE_TX, &head, &len));
    assert_false(want_writable);
    host_out_len = 0;
    host_room = 5000;
    assert_int_equal(vmm_console_set_host(&console, true), 0);
    send_bytes(100);
    assert_int_equal(driver_notify(&driver, VMM_CONSOLE_TX), 0);
    assert_int_equal(host_out_len, 100);
}

static void test_console_broken_client_does_not_stop_the_queue(void **state)
{
    uint32_t head, len;

    (void)state;
    bring_up();
    assert_int_equal(vmm_console_set_host(&console, true), 0);
    host_broken = true;
    send_bytes(1000);
    assert_int_equal(driver_notify(&driver, VMM_CONSOLE_TX), 0);
    assert_true(driver_used(&driver, VMM_CONSOLE_TX, &head, &len));
    assert_int_equal(console.stats.tx_dropped_bytes, 1000);
}

static void test_console_reset_closes_the_guests_side(void **state)
{
    (void)state;
    bring_up();
    assert_int_equal(vmm_console_set_host(&console, true), 0);
    driver_set(&driver, REG_STATUS, 0);
    assert_false(console.guest_open);
    assert_false(want_readable);
    assert_int_equal(vmm_console_on_readable(&console), 0);
    assert_int_equal(vmm_console_on_writable(&console), 0);
    assert_int_equal(vmm_console_set_host(&console, false), 0);
}

/* ---- rng ---- */

static size_t filled;

static void count_fill(void *dst, size_t len)
{
    memset(dst, 0x5a, len);
    filled += len;
}

static void test_rng_fills_the_buffers(void **state)
{
    struct vmm_rng rng;
    const struct driver_part parts[] = {{page, 100, true}, {page + 4096, 28, true}};
    uint32_t head, len;

    (void)state;
    vmm_rng_init(&rng, &driver.mem, driver_irq(&driver), count_fill);
    driver_start(&driver, &rng.dev, 0);
    filled = 0;
    driver_add(&driver, 0, parts, 2);
    assert_int_equal(driver_notify(&driver, 0), 0);
    assert_true(driver_used(&driver, 0, &head, &len));
    assert_int_equal(len, 128);
    assert_int_equal(filled, 128);
    assert_int_equal(((uint8_t *)driver_at(&driver, page + 4096))[27], 0x5a);
}

static void test_rng_r10_one_request_is_capped(void **state)
{
    struct vmm_rng rng;
    const struct driver_part parts[] = {{0x100000, 1 << 20, true}, {0x200000, 1 << 20, true}};
    uint32_t head, len;

    (void)state;
    vmm_rng_init(&rng, &driver.mem, driver_irq(&driver), count_fill);
    driver_start(&driver, &rng.dev, 0);
    filled = 0;
    driver_add(&driver, 0, parts, 2);
    assert_int_equal(driver_notify(&driver, 0), 0);
    assert_true(driver_used(&driver, 0, &head, &len));
    assert_int_equal(len, VMM_RNG_REQUEST_MAX);
    assert_int_equal(filled, VMM_RNG_REQUEST_MAX);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_console_announces_the_named_port),
        WITH(test_console_client_opens_and_closes_the_port),
        WITH(test_console_client_before_the_guest_is_told_later),
        WITH(test_console_messages_wait_for_buffers),
        WITH(test_console_short_control_message_ends_the_vm),
        WITH(test_console_small_control_buffer_ends_the_vm),
        WITH(test_console_unknown_messages_are_ignored),
        WITH(test_console_bytes_reach_the_guest_only_while_it_listens),
        WITH(test_console_unwritable_receive_buffer_ends_the_vm),
        WITH(test_console_slow_client_holds_the_guest_back),
        WITH(test_console_both_ways_at_once_leave_nothing_behind),
        WITH(test_console_request_that_shrinks_under_way_is_done),
        WITH(test_console_nobody_listens_bytes_are_dropped),
        WITH(test_console_new_client_starts_clean),
        WITH(test_console_broken_client_does_not_stop_the_queue),
        WITH(test_console_reset_closes_the_guests_side),
        WITH(test_rng_fills_the_buffers),
        WITH(test_rng_r10_one_request_is_capped),
    };

    return cmocka_run_group_tests_name("vmm-kvm/console", tests, NULL, NULL);
}
