/* The state file: what is written comes back, what is damaged is refused; device state
 * back into models, with everything a hostile file may say about queues. */
#include <errno.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/sum.h"
#include "vmm-kvm/cpu_match.h"
#include "vmm-kvm/device_state.h"
#include "vmm-kvm/rng.h"
#include "vmm-kvm/state.h"

#include "driver.h"
#include "test.h"

/* ---- a state in which every byte of every structure is something ---- */

static void fill(void *dst, size_t len, unsigned seed)
{
    uint8_t *at = dst;
    size_t i;

    for (i = 0; i < len; i++) {
        at[i] = (uint8_t)(seed * 31 + i * 7 + 1);
    }
}

static void fill_vcpu(struct vmm_vcpu_state *vcpu, unsigned seed)
{
    static const uint32_t msrs[] = {0x10, 0x6e0, 0xc0000080, 0x4b564d01};
    unsigned i;

    fill(vcpu, offsetof(struct vmm_vcpu_state, cpuid), seed);
    vcpu->cpuid.nent = 7;
    fill(vcpu->cpuid.entries, 7 * sizeof(vcpu->cpuid.entries[0]), seed);
    vcpu->msrs.nmsrs = SHL_ARRAY_SIZE(msrs);
    for (i = 0; i < SHL_ARRAY_SIZE(msrs); i++) {
        vcpu->msrs.entries[i].index = msrs[i];
        vcpu->msrs.entries[i].data = seed * 1000 + i;
    }
    vcpu->xsave_bytes = 4096;
    fill(vcpu->xsave, 4096, seed);
}

static struct vmm_state *make_state(unsigned vcpus, unsigned devices)
{
    struct vmm_state *state = calloc(1, sizeof(*state));
    unsigned i;

    assert_non_null(state);
    state->shape = (struct vmm_shape){.vcpus = vcpus,
                                      .memory_bytes = 512 * VMM_MIB,
                                      .hotplug_max_bytes = 1024 * VMM_MIB,
                                      .hotplug_bytes = 256 * VMM_MIB,
                                      .disk_bytes = 1ull << 30,
                                      .tsc_khz = 2500000};
    for (i = 0; i < vcpus; i++) {
        fill_vcpu(&state->vcpus[i], i + 1);
    }
    fill(&state->chips, sizeof(state->chips), 9);
    for (i = 0; i < 3; i++) {
        state->chips.irqchips[i].chip_id = i;
    }
    fill(state->serial, sizeof(state->serial), 3);
    state->device_count = devices;
    for (i = 0; i < devices; i++) {
        state->devices[i].device_id = i + 1;
        state->devices[i].transport_bytes = 100 + i;
        fill(state->devices[i].transport, 100 + i, i);
        state->devices[i].model_bytes = i;
        fill(state->devices[i].model, i, i);
    }
    return state;
}

static struct shl_buf encode(const struct vmm_state *state)
{
    struct shl_buf buf;

    shl_buf_init(&buf, VMM_STATE_MAX_BYTES);
    assert_int_equal(vmm_state_encode(state, &buf), 0);
    return buf;
}

static int decode(const uint8_t *bytes, size_t len, struct vmm_state *ret, struct shl_err *err)
{
    return vmm_state_decode(shl_bytes_of(bytes, len), ret, err);
}

static void test_state_comes_back_as_it_was(void **unused)
{
    unsigned vcpus;

    (void)unused;
    for (vcpus = 1; vcpus <= VMM_VCPUS_MAX; vcpus++) {
        struct vmm_state *state = make_state(vcpus, VMM_VIRTIO_MAX);
        struct vmm_state *back = malloc(sizeof(*back));
        struct shl_buf buf = encode(state), again;
        struct shl_err err = {0};

        assert_int_equal(decode(shl_buf_data(&buf), shl_buf_len(&buf), back, &err), 0);
        assert_memory_equal(&state->vcpus[0].sregs, &back->vcpus[0].sregs,
                            sizeof(back->vcpus[0].sregs));
        assert_int_equal(back->device_count, VMM_VIRTIO_MAX);
        /* As files, since structures have gaps. */
        again = encode(back);
        assert_int_equal(shl_buf_len(&again), shl_buf_len(&buf));
        assert_memory_equal(shl_buf_data(&again), shl_buf_data(&buf), shl_buf_len(&buf));
        shl_buf_release(&again);
        shl_buf_release(&buf);
        free(state);
        free(back);
    }
}

static void test_state_cut_off_anywhere_is_refused(void **unused)
{
    struct vmm_state *state = make_state(1, 2), *back = malloc(sizeof(*back));
    struct shl_buf buf = encode(state);
    size_t len;

    (void)unused;
    for (len = 0; len < shl_buf_len(&buf); len++) {
        /* A copy of exactly that size, so that the sanitizer sees a read behind it. */
        uint8_t *copy = malloc(len + 1);
        struct shl_err err = {0};

        memcpy(copy, shl_buf_data(&buf), len);
        copy = realloc(copy, len > 0 ? len : 1);
        assert_int_equal(decode(copy, len, back, &err), SHL_ECORRUPT);
        assert_true(err.msg[0] != '\0');
        free(copy);
    }
    shl_buf_release(&buf);
    free(state);
    free(back);
}

static void test_state_altered_anywhere_is_refused(void **unused)
{
    struct vmm_state *state = make_state(1, 2), *back = malloc(sizeof(*back));
    struct shl_buf buf = encode(state);
    uint8_t *bytes = shl_buf_data(&buf);
    size_t i;

    (void)unused;
    for (i = 0; i < shl_buf_len(&buf); i++) {
        struct shl_err err = {0};
        int r;

        bytes[i] ^= (uint8_t)(1u << i % 8);
        r = decode(bytes, shl_buf_len(&buf), back, &err);
        /* Bytes 8 and 9 are the major version. */
        assert_int_equal(r, i == 8 || i == 9 ? SHL_EVERSION : SHL_ECORRUPT);
        bytes[i] ^= (uint8_t)(1u << i % 8);
    }
    assert_int_equal(decode(bytes, shl_buf_len(&buf), back, NULL), 0);
    shl_buf_release(&buf);
    free(state);
    free(back);
}

/* ---- files with a right checksum and wrong contents ---- */

/* What an attacker does after editing. */
static void reseal(struct shl_buf *buf)
{
    uint8_t *file = shl_buf_data(buf);
    size_t len = shl_buf_len(buf);
    uint64_t hash;

    shl_put_le64(file + 16, len);
    hash = shl_sum(SHL_SUM_START, file, 24);
    shl_put_le64(file + 24, shl_sum(hash, file + 32, len - 32));
}

static int refusal(struct shl_buf *buf, struct shl_err *err)
{
    struct vmm_state *back = malloc(sizeof(*back));
    int r;

    reseal(buf);
    memset(err, 0, sizeof(*err));
    r = decode(shl_buf_data(buf), shl_buf_len(buf), back, err);
    free(back);
    shl_buf_release(buf);
    return r;
}

/* The file of @state with @tag renamed or, with @to 0, cut out; records @index. */
static struct shl_buf edited(const struct vmm_state *state,
                             uint16_t tag,
                             uint16_t index,
                             uint16_t to)
{
    struct shl_buf from = encode(state), out;
    struct vmm_tlv_reader reader;
    struct vmm_tlv_record record;
    struct vmm_tlv_writer writer;

    shl_buf_init(&out, VMM_STATE_MAX_BYTES);
    vmm_tlv_begin(&writer, &out);
    assert_int_equal(vmm_tlv_open(&reader, shl_buf_bytes(&from), NULL), 0);
    while (vmm_tlv_next(&reader, &record, NULL) > 0) {
        bool hit = record.tag == tag && record.index == index;

        if (!hit || to != 0) {
            vmm_tlv_put(&writer, hit ? to : record.tag, record.index, record.bytes.base,
                        record.bytes.len);
        }
    }
    assert_int_equal(vmm_tlv_finish(&writer), 0);
    shl_buf_release(&from);
    return out;
}

static void test_state_lacking_any_record_is_refused(void **unused)
{
    struct vmm_state *state = make_state(2, 2);
    struct shl_buf all = encode(state);
    struct vmm_tlv_reader reader;
    struct vmm_tlv_record record;
    unsigned count = 0;

    (void)unused;
    assert_int_equal(vmm_tlv_open(&reader, shl_buf_bytes(&all), NULL), 0);
    while (vmm_tlv_next(&reader, &record, NULL) > 0) {
        struct shl_buf cut = edited(state, record.tag, record.index, 0);
        struct shl_err err;

        assert_int_equal(refusal(&cut, &err), SHL_ECORRUPT);
        count++;
    }
    assert_int_equal(count, 4 + 3 + 2 * 10 + 2 * 2);
    shl_buf_release(&all);
    free(state);
}

static void test_state_with_impossible_values_is_refused(void **unused)
{
    static const struct {
        size_t offset;
        uint64_t value;
    } bad[] = {
        {offsetof(struct vmm_shape, vcpus), 0},
        {offsetof(struct vmm_shape, memory_bytes), 1},
        {offsetof(struct vmm_shape, memory_bytes), UINT64_MAX & ~(VMM_MIB - 1)},
        {offsetof(struct vmm_shape, hotplug_max_bytes), 1ull << 60},
        {offsetof(struct vmm_shape, hotplug_max_bytes), 4097},
        {offsetof(struct vmm_shape, hotplug_bytes), 2048 * VMM_MIB},
        {offsetof(struct vmm_shape, disk_bytes), 0},
        {offsetof(struct vmm_shape, disk_bytes), 513},
    };
    struct vmm_state *state = make_state(1, 2);
    struct shl_err err;
    struct shl_buf buf;
    size_t i;

    (void)unused;
    for (i = 0; i < SHL_ARRAY_SIZE(bad); i++) {
        struct vmm_shape good = state->shape;

        memcpy((uint8_t *)&state->shape + bad[i].offset, &bad[i].value, sizeof(bad[i].value));
        /* A state without CPUs would be written without their records. */
        buf = encode(state);
        assert_int_equal(refusal(&buf, &err), SHL_ECORRUPT);
        state->shape = good;
    }
    state->vcpus[0].msrs.entries[1].index = 0xc1; /* a performance counter */
    buf = encode(state);
    assert_int_equal(refusal(&buf, &err), SHL_ECORRUPT);
    assert_non_null(strstr(err.msg, "0xc1"));
    state->vcpus[0].msrs.entries[1].index = 0x10;
    state->chips.irqchips[1].chip_id = 2;
    buf = encode(state);
    assert_int_equal(refusal(&buf, &err), SHL_ECORRUPT);
    free(state);
}

static void test_state_of_other_versions(void **unused)
{
    struct vmm_state *state = make_state(1, 2);
    struct shl_buf buf = edited(state, 2, 0, 1000);
    struct shl_err err;

    (void)unused;
    /* A record nobody knows, from this version: damage. From a newer one: version. */
    assert_int_equal(refusal(&buf, &err), SHL_ECORRUPT);
    buf = edited(state, 2, 0, 1000);
    shl_put_le16(shl_buf_data(&buf) + 10, 7);
    assert_int_equal(refusal(&buf, &err), SHL_EVERSION);
    /* A newer one with nothing new in it is fine. */
    buf = encode(state);
    shl_put_le16(shl_buf_data(&buf) + 10, 7);
    assert_int_equal(refusal(&buf, &err), 0);
    buf = encode(state);
    shl_put_le16(shl_buf_data(&buf) + 8, 2);
    assert_int_equal(refusal(&buf, &err), SHL_EVERSION);
    free(state);
}

/* ---- CPUs ---- */

static struct vmm_cpuid some_cpu(void)
{
    return (struct vmm_cpuid){
        .nent = 3,
        .entries = {{.function = 0, .ebx = 0x756e6547, .edx = 0x49656e69, .ecx = 0x6c65746e},
                    {.function = 1, .ecx = 1u << 25 | 1u << 28, .edx = 0x100},
                    {.function = 7, .ebx = 1u << 16}},
    };
}

static void test_state_cpu_features_decide(void **unused)
{
    struct vmm_cpuid saved = some_cpu(), ours = some_cpu();
    struct shl_err err = {0};

    (void)unused;
    assert_int_equal(vmm_cpu_match(&saved, &ours, &err), 0);
    ours.entries[1].ecx |= 1u << 30; /* more than needed */
    ours.entries[1].eax = 0x12345;   /* another model */
    assert_int_equal(vmm_cpu_match(&saved, &ours, &err), 0);
    saved.entries[1].ecx |= 1u << 27; /* the guest switched XSAVE on */
    assert_int_equal(vmm_cpu_match(&saved, &ours, &err), 0);
    ours.entries[2].ebx = 0;
    assert_int_equal(vmm_cpu_match(&saved, &ours, &err), SHL_EINCOMPATIBLE);
    assert_non_null(strstr(err.msg, "AVX512F"));
    ours.nent = 2; /* the whole leaf is missing */
    assert_int_equal(vmm_cpu_match(&saved, &ours, &err), SHL_EINCOMPATIBLE);
    ours = some_cpu();
    saved.entries[2].ebx |= 1u << 13;
    assert_int_equal(vmm_cpu_match(&saved, &ours, &err), SHL_EINCOMPATIBLE);
    assert_non_null(strstr(err.msg, "0x7.0 ebx bit 13"));
    saved = some_cpu();
    saved.entries[0].ebx = 0x68747541; /* "Auth" */
    assert_int_equal(vmm_cpu_match(&saved, &ours, &err), SHL_EINCOMPATIBLE);
    assert_non_null(strstr(err.msg, "GenuineIntel"));
    saved.nent = 0;
    assert_int_equal(vmm_cpu_match(&saved, &ours, &err), SHL_ECORRUPT);
}

/* ---- devices ---- */

static void give_bytes(void *dst, size_t len)
{
    memset(dst, 0x5a, len);
}

static struct driver driver;

static struct shl_buf saved_rng(struct vmm_rng *rng, unsigned served)
{
    const struct driver_part part = {driver_alloc(&driver, 64), 64, true};
    struct shl_buf buf;
    unsigned i;

    vmm_rng_init(rng, &driver.mem, driver_irq(&driver), give_bytes);
    driver_start(&driver, &rng->dev, 0);
    for (i = 0; i < served; i++) {
        (void)driver_add(&driver, 0, &part, 1);
    }
    assert_int_equal(driver_notify(&driver, 0), 0);
    shl_buf_init(&buf, 4096);
    assert_int_equal(vmm_transport_save(&rng->dev, &buf), 0);
    return buf;
}

static void test_state_device_goes_on_where_it_was(void **unused)
{
    struct driver_part part = {0, 64, true};
    struct vmm_rng rng, back;
    struct shl_buf buf, again;
    struct shl_err err = {0};
    uint32_t head, len;
    unsigned i;

    (void)unused;
    driver_init(&driver);
    buf = saved_rng(&rng, 5);
    vmm_rng_init(&back, &driver.mem, driver_irq(&driver), give_bytes);
    assert_int_equal(vmm_transport_restore(&back.dev, shl_buf_bytes(&buf), &err), 0);
    shl_buf_init(&again, 4096);
    assert_int_equal(vmm_transport_save(&back.dev, &again), 0);
    assert_int_equal(shl_buf_len(&again), shl_buf_len(&buf));
    assert_memory_equal(shl_buf_data(&again), shl_buf_data(&buf), shl_buf_len(&buf));
    /* The driver notices nothing. */
    driver.dev = &back.dev;
    part.addr = driver_alloc(&driver, 64);
    (void)driver_add(&driver, 0, &part, 1);
    assert_int_equal(driver_notify(&driver, 0), 0);
    for (i = 0; i < 6; i++) {
        assert_true(driver_used(&driver, 0, &head, &len));
        assert_int_equal(len, 64);
    }
    assert_false(driver_used(&driver, 0, &head, &len));
    shl_buf_release(&buf);
    shl_buf_release(&again);
    driver_release(&driver);
}

/* Offsets of device_state.c. */
#define AT_ACKED  8
#define AT_STATUS 28
#define AT_COUNT  40
#define AT_QUEUE  44

static void check_device(size_t at, uint64_t value, unsigned bytes, int expected)
{
    struct shl_err err = {0};
    struct vmm_rng rng, back;
    struct shl_buf buf;
    unsigned i;

    driver_init(&driver);
    buf = saved_rng(&rng, 1);
    for (i = 0; i < bytes; i++) {
        shl_buf_data(&buf)[at + i] = (uint8_t)(value >> 8 * i);
    }
    vmm_rng_init(&back, &driver.mem, driver_irq(&driver), give_bytes);
    assert_int_equal(vmm_transport_restore(&back.dev, shl_buf_bytes(&buf), &err), expected);
    if (expected < 0) {
        assert_true(err.msg[0] != '\0');
    }
    shl_buf_release(&buf);
    driver_release(&driver);
}

static void test_state_queue_rules_hold_again(void **unused)
{
    (void)unused;
    check_device(AT_QUEUE, 64, 2, 0);
    check_device(AT_QUEUE, 0, 2, SHL_ECORRUPT);    /* R1: size */
    check_device(AT_QUEUE, 3, 2, SHL_ECORRUPT);    /* R1: power of two */
    check_device(AT_QUEUE, 4096, 2, SHL_ECORRUPT); /* R1: limit */
    check_device(AT_QUEUE + 12, 0x1008, 8, SHL_ECORRUPT);
    check_device(AT_QUEUE + 20, 0x1001, 8, SHL_ECORRUPT);
    check_device(AT_QUEUE + 28, 0x1002, 8, SHL_ECORRUPT);
    check_device(AT_QUEUE + 12, DRIVER_MEMORY - 16, 8, SHL_ECORRUPT);
    check_device(AT_QUEUE + 20, DRIVER_MEMORY - 2, 8, SHL_ECORRUPT);
    check_device(AT_QUEUE + 28, UINT64_MAX & ~3ull, 8, SHL_ECORRUPT);
    check_device(AT_QUEUE + 8, 0, 1, SHL_ECORRUPT); /* active but not ready */
    check_device(AT_QUEUE + 9, 2, 1, SHL_ECORRUPT);
    check_device(AT_COUNT, 2, 4, SHL_ECORRUPT);
    check_device(AT_STATUS, 4, 4, SHL_ECORRUPT);  /* R3: DRIVER_OK out of nothing */
    check_device(AT_STATUS, 11, 4, SHL_ECORRUPT); /* R2: active before DRIVER_OK */
    check_device(AT_STATUS, 0x10f, 4, SHL_ECORRUPT);
    check_device(AT_ACKED, 0, 8, SHL_ECORRUPT); /* R4: VERSION_1 */
    check_device(AT_ACKED, 1ull << 40 | VMM_F_VERSION_1, 8, SHL_ECORRUPT);
}

static void test_state_device_this_machine_cannot_offer(void **unused)
{
    struct shl_err err = {0};
    struct vmm_rng rng, back;
    struct shl_buf buf;

    (void)unused;
    driver_init(&driver);
    buf = saved_rng(&rng, 1);
    /* It was offered there and taken. */
    shl_put_le64(shl_buf_data(&buf), VMM_F_VERSION_1 | 1ull << 3);
    shl_put_le64(shl_buf_data(&buf) + AT_ACKED, VMM_F_VERSION_1 | 1ull << 3);
    vmm_rng_init(&back, &driver.mem, driver_irq(&driver), give_bytes);
    assert_int_equal(vmm_transport_restore(&back.dev, shl_buf_bytes(&buf), &err),
                     SHL_EINCOMPATIBLE);
    assert_non_null(strstr(err.msg, "rng"));
    shl_buf_release(&buf);
    driver_release(&driver);
}

static void test_state_device_cut_off(void **unused)
{
    struct vmm_rng rng, back;
    struct shl_buf buf;
    size_t len;

    (void)unused;
    driver_init(&driver);
    buf = saved_rng(&rng, 1);
    for (len = 0; len < shl_buf_len(&buf); len++) {
        vmm_rng_init(&back, &driver.mem, driver_irq(&driver), give_bytes);
        assert_int_equal(vmm_transport_restore(&back.dev, shl_bytes_of(shl_buf_data(&buf), len),
                                               NULL),
                         SHL_ECORRUPT);
    }
    shl_buf_release(&buf);
    driver_release(&driver);
}

/* ---- serial ---- */

static unsigned interrupts;

static void on_irq(void *ctx)
{
    (void)ctx;
    interrupts++;
}

static void drop_byte(void *ctx, uint8_t byte)
{
    (void)ctx;
    (void)byte;
}

/* A guest that sleeps until the transmitter is empty must be woken (trap 23). */
static void test_state_serial_waiting_for_the_transmitter(void **unused)
{
    struct vmm_serial serial, back;
    uint8_t raw[VMM_SERIAL_BYTES], again[VMM_SERIAL_BYTES];

    (void)unused;
    vmm_serial_init(&serial, (struct vmm_irq){on_irq, NULL}, drop_byte, NULL);
    vmm_serial_write(&serial, 3, 0x80);
    vmm_serial_write(&serial, 0, 1);
    vmm_serial_write(&serial, 3, 0x03);
    vmm_serial_write(&serial, 2, 0xc1);
    vmm_serial_write(&serial, 4, 0x0b);
    vmm_serial_write(&serial, 7, 0x77);
    vmm_serial_write(&serial, 1, 0x02);
    (void)vmm_serial_read(&serial, 2); /* the driver took the interrupt */
    vmm_serial_save(&serial, raw);
    interrupts = 0;
    vmm_serial_init(&back, (struct vmm_irq){on_irq, NULL}, drop_byte, NULL);
    assert_int_equal(vmm_serial_restore(&back, raw), 0);
    vmm_serial_save(&back, again);
    assert_memory_equal(raw, again, sizeof(raw));
    assert_int_equal(interrupts, 0);
    vmm_serial_resume(&back);
    assert_int_equal(interrupts, 1);
    assert_int_equal(vmm_serial_read(&back, 2) & 0x0f, 0x02);
    raw[8] = 2;
    assert_int_equal(vmm_serial_restore(&back, raw), SHL_ECORRUPT);
}

/* ---- the agent port ---- */

static ssize_t host_write(void *ctx, const struct iovec *iov, unsigned count)
{
    (void)ctx;
    return count > 0 ? (ssize_t)iov[0].iov_len : 0;
}

static ssize_t host_read(void *ctx, const struct iovec *iov, unsigned count)
{
    (void)ctx;
    (void)iov;
    (void)count;
    return -EAGAIN;
}

static void host_want(void *ctx, bool readable, bool writable)
{
    (void)ctx;
    (void)readable;
    (void)writable;
}

static const struct vmm_port_host host = {NULL, host_read, host_write, host_want};

static void send_control(struct driver *guest, uint32_t port, uint16_t event, uint16_t value)
{
    uint64_t at = driver_alloc(guest, 8);
    const struct driver_part part = {at, 8, false};
    uint8_t *raw = driver_at(guest, at);

    shl_put_le32(raw, port);
    shl_put_le16(raw + 4, event);
    shl_put_le16(raw + 6, value);
    (void)driver_add(guest, VMM_CONSOLE_CTRL_TX, &part, 1);
    assert_int_equal(driver_notify(guest, VMM_CONSOLE_CTRL_TX), 0);
}

/* Events of port 1 the guest got, as a number of one decimal digit pair each: event and
 * value, e.g. 6061 for close and open. */
static unsigned control_messages(struct driver *guest, uint64_t *buffers)
{
    unsigned text = 0;
    uint32_t head, len;

    while (driver_used(guest, VMM_CONSOLE_CTRL_RX, &head, &len)) {
        const uint8_t *raw = driver_at(guest, buffers[head]);

        text = text * 100 + shl_get_le16(raw + 4) * 10u + shl_get_le16(raw + 6);
    }
    return text;
}

static void test_state_port_is_closed_and_opened_for_the_next_client(void **unused)
{
    struct vmm_console console, back;
    uint64_t buffers[16];
    struct shl_buf buf, state;
    unsigned i;

    (void)unused;
    driver_init(&driver);
    vmm_console_init(&console, &driver.mem, driver_irq(&driver), &host, "port");
    driver_start(&driver, &console.dev, 1ull << 1);
    for (i = 0; i < 16; i++) {
        struct driver_part part = {driver_alloc(&driver, 64), 64, true};

        buffers[i] = part.addr;
        assert_int_equal(driver_add(&driver, VMM_CONSOLE_CTRL_RX, &part, 1), i);
    }
    send_control(&driver, 0, 0, 1);
    send_control(&driver, 1, 3, 1);
    send_control(&driver, 1, 6, 1);
    assert_int_equal(vmm_console_set_host(&console, true), 0);
    (void)control_messages(&driver, buffers);
    assert_true(console.guest_open);

    for (i = 0; i < 64; i++) { /* the whole ring */
        struct driver_part part = {driver_alloc(&driver, 5), 5, false};

        (void)driver_add(&driver, VMM_CONSOLE_TX, &part, 1);
    }
    shl_buf_init(&buf, 4096);
    shl_buf_init(&state, 4096);
    assert_int_equal(vmm_transport_save(&console.dev, &buf), 0);
    assert_int_equal(vmm_console_save(&console, &state), 0);
    vmm_console_init(&back, &driver.mem, driver_irq(&driver), &host, "port");
    assert_int_equal(vmm_transport_restore(&back.dev, shl_buf_bytes(&buf), NULL), 0);
    assert_int_equal(vmm_console_restore(&back, shl_buf_bytes(&state)), 0);
    driver.dev = &back.dev;
    assert_true(back.guest_open);
    assert_false(back.host_open);
    /* Before the guest runs the close is told and old bytes are dropped; the next client
     * is the open and gets none of them. */
    assert_int_equal(vmm_console_wake(&back), 0);
    assert_int_equal(control_messages(&driver, buffers), 60);
    assert_int_equal(back.stats.tx_dropped_bytes, 64 * 5);
    assert_int_equal(vmm_console_set_host(&back, true), 0);
    assert_int_equal(control_messages(&driver, buffers), 61);
    assert_int_equal(driver_notify(&driver, VMM_CONSOLE_TX), 0);
    assert_int_equal(back.stats.tx_bytes, 0);
    shl_buf_data(&state)[3] = 0x10;
    assert_int_equal(vmm_console_restore(&back, shl_buf_bytes(&state)), SHL_ECORRUPT);
    assert_int_equal(vmm_console_restore(&back, shl_bytes_of(shl_buf_data(&state), 7)),
                     SHL_ECORRUPT);
    shl_buf_release(&buf);
    shl_buf_release(&state);
    driver_release(&driver);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_state_comes_back_as_it_was),
        cmocka_unit_test(test_state_cut_off_anywhere_is_refused),
        cmocka_unit_test(test_state_altered_anywhere_is_refused),
        cmocka_unit_test(test_state_lacking_any_record_is_refused),
        cmocka_unit_test(test_state_with_impossible_values_is_refused),
        cmocka_unit_test(test_state_of_other_versions),
        cmocka_unit_test(test_state_cpu_features_decide),
        cmocka_unit_test(test_state_device_goes_on_where_it_was),
        cmocka_unit_test(test_state_queue_rules_hold_again),
        cmocka_unit_test(test_state_device_this_machine_cannot_offer),
        cmocka_unit_test(test_state_device_cut_off),
        cmocka_unit_test(test_state_serial_waiting_for_the_transmitter),
        cmocka_unit_test(test_state_port_is_closed_and_opened_for_the_next_client),
    };

    return cmocka_run_group_tests_name("vmm-kvm/state", tests, NULL, NULL);
}
