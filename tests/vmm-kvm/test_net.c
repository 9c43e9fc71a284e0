/* virtio-net with a host that is two queues in memory: headers, buffers, limits. */
#include <errno.h>

#include "base/buf.h"
#include "base/err.h"
#include "vmm-kvm/net.h"

#include "driver.h"
#include "test.h"

#define F_CSUM      (1ull << 0)
#define F_HOST_TSO4 (1ull << 11)
#define F_MRG_RXBUF (1ull << 15)

static struct driver driver;
static struct vmm_net net;

static uint8_t host_frame[VMM_NET_FRAME_MAX];
static size_t host_frame_len; /* waiting in the TAP, 0: none */
static uint8_t sent[VMM_NET_FRAME_MAX];
static size_t sent_len;
static unsigned sent_count;
static bool wants_recv;

static ssize_t host_recv(void *ctx, void *frame, size_t len)
{
    size_t n = host_frame_len;

    (void)ctx;
    if (n == 0) {
        return -EAGAIN;
    }
    assert_true(n <= len);
    memcpy(frame, host_frame, n);
    host_frame_len = 0;
    return (ssize_t)n;
}

static ssize_t host_send(void *ctx, const struct iovec *iov, unsigned count)
{
    unsigned i;

    (void)ctx;
    sent_len = 0;
    for (i = 0; i < count; i++) {
        assert_true(sent_len + iov[i].iov_len <= sizeof(sent));
        memcpy(sent + sent_len, iov[i].iov_base, iov[i].iov_len);
        sent_len += iov[i].iov_len;
    }
    sent_count++;
    return (ssize_t)sent_len;
}

static void host_offload(void *ctx, bool csum, bool tso4, bool tso6)
{
    (void)ctx;
    (void)csum;
    (void)tso4;
    (void)tso6;
}

static void host_want(void *ctx, bool want)
{
    (void)ctx;
    wants_recv = want;
}

static uint64_t buffer_at;

static void start(uint64_t features)
{
    static const uint8_t mac[6] = {2, 0, 0, 0, 0, 7};
    const struct vmm_net_host host = {NULL, host_recv, host_send, host_offload, host_want};

    driver_init(&driver);
    host_frame_len = 0;
    sent_count = 0;
    wants_recv = false;
    vmm_net_init(&net, &driver.mem, driver_irq(&driver), &host, mac, true);
    driver_start(&driver, &net.dev, features);
    buffer_at = driver_alloc(&driver, 1 << 20);
}

static int setup(void **state)
{
    (void)state;
    start(F_CSUM | F_HOST_TSO4 | F_MRG_RXBUF);
    return 0;
}

static int setup_plain(void **state)
{
    (void)state;
    start(0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    driver_release(&driver);
    return 0;
}

static void give_frame(size_t payload)
{
    size_t i;

    memset(host_frame, 0, VMM_NET_HEADER_BYTES);
    for (i = 0; i < payload; i++) {
        host_frame[VMM_NET_HEADER_BYTES + i] = (uint8_t)(i * 3 + 1);
    }
    host_frame_len = VMM_NET_HEADER_BYTES + payload;
}

static void add_rx(uint64_t offset, uint32_t len)
{
    const struct driver_part part = {buffer_at + offset, len, true};

    driver_add(&driver, VMM_NET_RX, &part, 1);
}

/* ---- receiving ---- */

static void test_net_frame_reaches_one_buffer(void **state)
{
    const uint8_t *buffer = driver_at(&driver, buffer_at);
    uint32_t head, len;

    (void)state;
    add_rx(0, 2048);
    give_frame(100);
    assert_int_equal(vmm_net_on_readable(&net), 0);
    assert_true(driver_used(&driver, VMM_NET_RX, &head, &len));
    assert_int_equal(len, 112);
    assert_int_equal(shl_get_le16(buffer + 10), 1);
    assert_memory_equal(buffer + 12, host_frame + 12, 100);
    assert_int_equal(driver.interrupts, 1);
    assert_int_equal(net.stats.rx_bytes, 100);
    assert_true(wants_recv);
}

static void test_net_large_frame_is_merged_over_buffers(void **state)
{
    const uint8_t *buffer = driver_at(&driver, buffer_at);
    uint32_t head, len, i, total = 0;

    (void)state;
    for (i = 0; i < 50; i++) {
        add_rx(i * 2048ull, 1500);
    }
    give_frame(60000);
    assert_int_equal(vmm_net_on_readable(&net), 0);
    for (i = 0; driver_used(&driver, VMM_NET_RX, &head, &len); i++) {
        total += len;
    }
    assert_int_equal(total, 60012);
    assert_int_equal(i, 41);
    assert_int_equal(shl_get_le16(buffer + 10), 41);
}

/* Without buffers the TAP is not read any more, and goes on when some come. */
static void test_net_without_buffers_the_host_waits(void **state)
{
    uint32_t head, len;

    (void)state;
    give_frame(100);
    assert_int_equal(vmm_net_on_readable(&net), 0);
    assert_false(wants_recv);
    assert_false(driver_used(&driver, VMM_NET_RX, &head, &len));
    add_rx(0, 2048);
    assert_int_equal(driver_notify(&driver, VMM_NET_RX), 0);
    assert_true(wants_recv);
    assert_true(driver_used(&driver, VMM_NET_RX, &head, &len));
    assert_int_equal(len, 112);
}

static void test_net_too_few_buffers_take_nothing(void **state)
{
    uint32_t head, len;

    (void)state;
    add_rx(0, 1500);
    give_frame(2000);
    assert_int_equal(vmm_net_on_readable(&net), 0);
    assert_false(wants_recv);
    assert_false(driver_used(&driver, VMM_NET_RX, &head, &len));
    add_rx(2048, 1500);
    assert_int_equal(driver_notify(&driver, VMM_NET_RX), 0);
    assert_true(driver_used(&driver, VMM_NET_RX, &head, &len));
    assert_int_equal(len, 1500);
    assert_true(driver_used(&driver, VMM_NET_RX, &head, &len));
    assert_int_equal(len, 512);
}

static void test_net_without_merging_a_large_frame_is_dropped(void **state)
{
    uint32_t head, len;

    (void)state;
    add_rx(0, 1526);
    give_frame(3000);
    assert_int_equal(vmm_net_on_readable(&net), 0);
    assert_int_equal(net.stats.rx_dropped, 1);
    assert_false(driver_used(&driver, VMM_NET_RX, &head, &len));
    give_frame(1514);
    assert_int_equal(vmm_net_on_readable(&net), 0);
    assert_true(driver_used(&driver, VMM_NET_RX, &head, &len));
    assert_int_equal(len, 1526);
}

/* Buffers so small that no number of them takes the frame: it is dropped, the next one
 * comes through. */
static void test_net_frame_over_too_many_buffers_is_dropped(void **state)
{
    uint32_t head, len, i;

    (void)state;
    for (i = 0; i < 100; i++) {
        add_rx(i * 64ull, 64);
    }
    give_frame(60000);
    assert_int_equal(vmm_net_on_readable(&net), 0);
    assert_int_equal(net.stats.rx_dropped, 1);
    assert_true(wants_recv);
    assert_false(driver_used(&driver, VMM_NET_RX, &head, &len));
    give_frame(100);
    assert_int_equal(vmm_net_on_readable(&net), 0);
    assert_int_equal(net.stats.rx_packets, 1);
}

static void test_net_useless_receive_buffer_ends_the_vm(void **state)
{
    (void)state;
    add_rx(0, 11);
    give_frame(100);
    assert_int_equal(vmm_net_on_readable(&net), SHL_EGUEST);
}

static void test_net_readable_receive_buffer_ends_the_vm(void **state)
{
    const struct driver_part part = {buffer_at, 2048, false};

    (void)state;
    driver_add(&driver, VMM_NET_RX, &part, 1);
    give_frame(100);
    assert_int_equal(vmm_net_on_readable(&net), SHL_EGUEST);
}

static void test_net_reset_forgets_the_waiting_frame(void **state)
{
    (void)state;
    give_frame(100);
    assert_int_equal(vmm_net_on_readable(&net), 0);
    assert_true(net.frame_bytes > 0);
    driver_set(&driver, REG_STATUS, 0);
    assert_int_equal(net.frame_bytes, 0);
    give_frame(100);
    assert_int_equal(vmm_net_on_readable(&net), 0); /* inactive: untouched */
    assert_true(host_frame_len > 0);
}

/* ---- sending ---- */

static void put_tx_header(uint8_t flags,
                          uint8_t gso,
                          uint16_t gso_size,
                          uint16_t start,
                          uint16_t at)
{
    uint8_t *header = driver_at(&driver, buffer_at);

    memset(header, 0xff, 12);
    header[0] = flags;
    header[1] = gso;
    shl_put_le16(header + 4, gso_size);
    shl_put_le16(header + 6, start);
    shl_put_le16(header + 8, at);
}

static void send_frame(uint32_t payload)
{
    const struct driver_part parts[] = {{buffer_at, 12, false}, {buffer_at + 64, payload, false}};
    uint32_t head, len;

    driver_add(&driver, VMM_NET_TX, parts, payload ? 2 : 1);
    assert_int_equal(driver_notify(&driver, VMM_NET_TX), 0);
    assert_true(driver_used(&driver, VMM_NET_TX, &head, &len));
    assert_int_equal(len, 0);
}

static void test_net_sends_frame_with_clean_header(void **state)
{
    (void)state;
    put_tx_header(0xfe, 0, 0, 0, 0); /* unknown flags are not passed on */
    send_frame(100);
    assert_int_equal(sent_count, 1);
    assert_int_equal(sent_len, 112);
    assert_int_equal(sent[0], 0);
    assert_int_equal(shl_get_le16(sent + 10), 0);
    assert_int_equal(net.stats.tx_bytes, 100);
}

static void test_net_header_may_be_in_the_frames_descriptor(void **state)
{
    const struct driver_part part = {buffer_at, 112, false};

    (void)state;
    put_tx_header(0, 0, 0, 0, 0);
    driver_add(&driver, VMM_NET_TX, &part, 1);
    assert_int_equal(driver_notify(&driver, VMM_NET_TX), 0);
    assert_int_equal(sent_len, 112);
}

static void test_net_checksum_positions_stay_inside_the_frame(void **state)
{
    (void)state;
    put_tx_header(1, 0, 0, 34, 6);
    send_frame(100);
    assert_int_equal(sent_count, 1);
    put_tx_header(1, 0, 0, 100, 0);
    send_frame(100);
    put_tx_header(1, 0, 0, 34, 65);
    send_frame(100);
    put_tx_header(1, 0, 0, 65535, 65535);
    send_frame(100);
    assert_int_equal(sent_count, 1);
    assert_int_equal(net.stats.tx_dropped, 3);
}

static void test_net_offloads_need_negotiation(void **state)
{
    (void)state;
    put_tx_header(1, 1, 1400, 34, 16); /* TSO4 was negotiated */
    send_frame(5000);
    assert_int_equal(sent_count, 1);
    put_tx_header(1, 4, 1400, 54, 16); /* TSO6 was not */
    send_frame(5000);
    put_tx_header(1, 3, 1400, 34, 16); /* UFO never */
    send_frame(5000);
    put_tx_header(1, 1, 0, 34, 16); /* size 0 */
    send_frame(5000);
    put_tx_header(0, 1, 1400, 34, 16); /* without checksum */
    send_frame(5000);
    assert_int_equal(sent_count, 1);
    assert_int_equal(net.stats.tx_dropped, 4);
}

static void test_net_nothing_negotiated_means_no_checksum_offload(void **state)
{
    (void)state;
    put_tx_header(1, 0, 0, 34, 6);
    send_frame(100);
    assert_int_equal(sent_count, 0);
}

static void test_net_r10_frame_sizes_are_bounded(void **state)
{
    (void)state;
    put_tx_header(0, 0, 0, 0, 0);
    send_frame(0);
    send_frame(13);
    send_frame(VMM_NET_FRAME_MAX - 12 + 1);
    assert_int_equal(sent_count, 0);
    assert_int_equal(net.stats.tx_dropped, 3);
    send_frame(14);
    send_frame(VMM_NET_FRAME_MAX - 12);
    assert_int_equal(sent_count, 2);
}

static void test_net_mac_is_in_the_configuration(void **state)
{
    uint8_t mac[6];

    (void)state;
    vmm_mmio_read(&net.dev, REG_CONFIG, mac, 6);
    assert_int_equal(mac[0], 2);
    assert_int_equal(mac[5], 7);
}

#define WITH(test)  cmocka_unit_test_setup_teardown(test, setup, teardown)
#define PLAIN(test) cmocka_unit_test_setup_teardown(test, setup_plain, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_net_frame_reaches_one_buffer),
        WITH(test_net_large_frame_is_merged_over_buffers),
        WITH(test_net_without_buffers_the_host_waits),
        WITH(test_net_too_few_buffers_take_nothing),
        PLAIN(test_net_without_merging_a_large_frame_is_dropped),
        WITH(test_net_frame_over_too_many_buffers_is_dropped),
        WITH(test_net_useless_receive_buffer_ends_the_vm),
        WITH(test_net_readable_receive_buffer_ends_the_vm),
        WITH(test_net_reset_forgets_the_waiting_frame),
        WITH(test_net_sends_frame_with_clean_header),
        WITH(test_net_header_may_be_in_the_frames_descriptor),
        WITH(test_net_checksum_positions_stay_inside_the_frame),
        WITH(test_net_offloads_need_negotiation),
        PLAIN(test_net_nothing_negotiated_means_no_checksum_offload),
        WITH(test_net_r10_frame_sizes_are_bounded),
        WITH(test_net_mac_is_in_the_configuration),
    };

    return cmocka_run_group_tests_name("vmm-kvm/net", tests, NULL, NULL);
}
