/* virtio-mem: plugging, its limits, and a machine that is restored larger. */
#include <stdlib.h>

#include "base/buf.h"
#include "vmm-kvm/hotplug.h"
#include "vmm-kvm/layout.h"

#include "driver.h"
#include "test.h"

#define BLOCK   VMM_HOTPLUG_BLOCK_BYTES
#define MAX     (512 * VMM_MIB)
#define NOW     (132 * VMM_MIB) /* usable: two sections of 128 MiB */
#define USABLE  (256 * VMM_MIB)
#define START   (4 * VMM_GIB)
#define BLOCKS  (NOW / BLOCK)
#define REQUEST 24u
#define ANSWER  10u

enum {
    PLUG,
    UNPLUG,
    UNPLUG_ALL,
    STATE
};
enum {
    ACK,
    NACK,
    BUSY,
    ERROR
};
enum {
    PLUGGED,
    UNPLUGGED,
    MIXED
};

struct fixture {
    struct driver driver;
    struct vmm_hotplug hotplug;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    driver_init_hotplug(&f->driver, MAX, NOW);
    vmm_hotplug_init(&f->hotplug, &f->driver.mem, driver_irq(&f->driver), NOW);
    driver_start(&f->driver, &f->hotplug.dev, f->hotplug.dev.offered);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    driver_release(&f->driver);
    free(f);
    return 0;
}

static uint64_t config(struct fixture *f, uint32_t offset)
{
    return driver_get(&f->driver, REG_CONFIG + offset) |
           (uint64_t)driver_get(&f->driver, REG_CONFIG + offset + 4) << 32;
}

/* One request; returns the answer's type, *ret_state its state. */
static unsigned request(struct fixture *f,
                        uint16_t type,
                        uint64_t addr,
                        uint16_t blocks,
                        unsigned *ret_state)
{
    uint64_t at = 0x8000, back = 0x9000;
    const struct driver_part parts[] = {{at, REQUEST, false}, {back, ANSWER, true}};
    uint8_t *raw = driver_at(&f->driver, at);
    const uint8_t *answer = driver_at(&f->driver, back);
    uint32_t head, len;

    memset(raw, 0, REQUEST);
    memset(driver_at(&f->driver, back), 0xee, ANSWER);
    shl_put_le16(raw, type);
    shl_put_le64(raw + 8, addr);
    shl_put_le16(raw + 16, blocks);
    (void)driver_add(&f->driver, 0, parts, 2);
    assert_int_equal(driver_notify(&f->driver, 0), 0);
    assert_true(driver_used(&f->driver, 0, &head, &len));
    assert_int_equal(len, ANSWER);
    if (ret_state) {
        *ret_state = shl_get_le16(answer + 8);
    }
    return shl_get_le16(answer);
}

static unsigned ask(struct fixture *f, uint16_t type, uint64_t block, uint16_t blocks)
{
    return request(f, type, START + block * BLOCK, blocks, NULL);
}

static unsigned state_of(struct fixture *f, uint64_t block, uint16_t blocks)
{
    unsigned state;

    assert_int_equal(request(f, STATE, START + block * BLOCK, blocks, &state), ACK);
    return state;
}

static void test_hotplug_configuration(void **state)
{
    struct fixture *f = *state;

    assert_true(config(f, 0) == BLOCK);
    assert_true(config(f, 16) == START);
    assert_true(config(f, 24) == MAX);
    assert_true(config(f, 32) == USABLE);
    assert_true(config(f, 40) == 0);
    assert_true(config(f, 48) == NOW);
    assert_true(f->hotplug.dev.offered == (2 | VMM_F_VERSION_1 | VMM_F_EVENT_IDX));
}

static void test_hotplug_plugs_up_to_what_is_asked_for(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(state_of(f, 0, 64), UNPLUGGED);
    assert_int_equal(ask(f, PLUG, 0, 1), ACK);
    assert_int_equal(ask(f, PLUG, 2, BLOCKS - 2), ACK);
    assert_int_equal(state_of(f, 0, 1), PLUGGED);
    assert_int_equal(state_of(f, 0, 2), MIXED);
    assert_int_equal(state_of(f, 1, 1), UNPLUGGED);
    assert_int_equal(state_of(f, 2, BLOCKS - 2), PLUGGED);
    assert_true(config(f, 40) == NOW - BLOCK);
    assert_int_equal(ask(f, PLUG, 62, 2), NACK); /* one too many */
    assert_int_equal(ask(f, PLUG, 63, 1), ACK);  /* the last block of the usable part */
    assert_int_equal(ask(f, PLUG, 1, 1), NACK);
    assert_true(config(f, 40) == NOW);
}

static void test_hotplug_wrong_requests_are_errors(void **state)
{
    struct fixture *f = *state;
    unsigned type;

    assert_int_equal(ask(f, PLUG, 0, 4), ACK);
    for (type = PLUG; type <= STATE; type++) {
        if (type == UNPLUG_ALL) {
            continue;
        }
        assert_int_equal(request(f, (uint16_t)type, START, 0, NULL), ERROR);
        assert_int_equal(request(f, (uint16_t)type, START + 1, 1, NULL), ERROR);
        assert_int_equal(request(f, (uint16_t)type, START - BLOCK, 1, NULL), ERROR);
        assert_int_equal(request(f, (uint16_t)type, 0, 1, NULL), ERROR);
        assert_int_equal(request(f, (uint16_t)type, START + USABLE, 1, NULL), ERROR);
        assert_int_equal(request(f, (uint16_t)type, START + USABLE - BLOCK, 2, NULL), ERROR);
        assert_int_equal(request(f, (uint16_t)type, START, UINT16_MAX, NULL), ERROR);
        assert_int_equal(request(f, (uint16_t)type, UINT64_MAX / BLOCK * BLOCK, 2, NULL), ERROR);
    }
    assert_int_equal(ask(f, PLUG, 3, 2), ERROR);   /* one is plugged already */
    assert_int_equal(ask(f, UNPLUG, 3, 2), ERROR); /* one is not */
    assert_int_equal(ask(f, 4, 0, 1), ERROR);
    assert_int_equal(ask(f, UINT16_MAX, 0, 1), ERROR);
    assert_true(config(f, 40) == 4 * BLOCK);
    assert_int_equal(state_of(f, 0, 4), PLUGGED);
    assert_true(f->hotplug.refused == 3 * 8 + 4);
}

static void test_hotplug_unplugged_memory_is_discarded(void **state)
{
    struct fixture *f = *state;
    uint8_t *host = vmm_mem_slice(&f->driver.mem, START, USABLE);

    assert_int_equal(ask(f, PLUG, 0, 4), ACK);
    host[0] = 1;
    host[BLOCK] = 1;
    host[2 * BLOCK] = 1;
    assert_int_equal(ask(f, UNPLUG, 1, 1), ACK);
    assert_int_equal(host[0], 1);
    assert_int_equal(host[BLOCK], 0);
    assert_int_equal(host[2 * BLOCK], 1);
    assert_true(config(f, 40) == 3 * BLOCK);
    assert_int_equal(ask(f, UNPLUG_ALL, 0, 0), ACK);
    assert_int_equal(host[0], 0);
    assert_int_equal(host[2 * BLOCK], 0);
    assert_true(config(f, 40) == 0);
    assert_int_equal(state_of(f, 0, 64), UNPLUGGED);
}

static void test_hotplug_request_without_room_ends_the_guest(void **state)
{
    struct fixture *f = *state;
    const struct driver_part short_answer[] = {{0x8000, REQUEST, false}, {0x9000, 9, true}};
    const struct driver_part short_request[] = {{0x8000, 23, false}, {0x9000, ANSWER, true}};

    (void)driver_add(&f->driver, 0, short_answer, 2);
    assert_int_equal(driver_notify(&f->driver, 0), SHL_EGUEST);
    (void)driver_add(&f->driver, 0, short_request, 2);
    assert_int_equal(driver_notify(&f->driver, 0), SHL_EGUEST);
}

/* A driver that starts anew finds what was plugged. */
static void test_hotplug_memory_stays_over_a_reset(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(ask(f, PLUG, 5, 3), ACK);
    driver_start(&f->driver, &f->hotplug.dev, f->hotplug.dev.offered);
    assert_true(config(f, 40) == 3 * BLOCK);
    assert_int_equal(state_of(f, 5, 3), PLUGGED);
}

static void save(const struct vmm_hotplug *hotplug, struct shl_buf *buf)
{
    shl_buf_init(buf, VMM_HOTPLUG_STATE_MAX);
    assert_int_equal(vmm_hotplug_save(hotplug, buf), 0);
}

/* Restored with more memory: the guest sees the old sizes until it is told. */
static void test_hotplug_restored_larger(void **state)
{
    struct fixture *f = *state;
    struct fixture larger;
    struct shl_buf buf;
    uint32_t generation;

    assert_int_equal(ask(f, PLUG, 0, BLOCKS), ACK);
    save(&f->hotplug, &buf);
    driver_init_hotplug(&larger.driver, MAX, MAX);
    vmm_hotplug_init(&larger.hotplug, &larger.driver.mem, driver_irq(&larger.driver), NOW);
    assert_int_equal(vmm_hotplug_restore(&larger.hotplug, shl_buf_bytes(&buf), NULL), 0);
    driver_start(&larger.driver, &larger.hotplug.dev, larger.hotplug.dev.offered);
    assert_true(config(&larger, 32) == USABLE);
    assert_true(config(&larger, 40) == NOW);
    assert_true(config(&larger, 48) == NOW);
    assert_int_equal(ask(&larger, PLUG, BLOCKS, 1), NACK);
    generation = driver_get(&larger.driver, REG_CONFIG_GENERATION);
    larger.driver.interrupts = 0;
    vmm_hotplug_grow(&larger.hotplug, NOW);
    assert_int_equal(larger.driver.interrupts, 0);
    vmm_hotplug_grow(&larger.hotplug, MAX);
    assert_int_equal(larger.driver.interrupts, 1);
    assert_true(vmm_mmio_interrupt_status(&larger.hotplug.dev) & VMM_INTERRUPT_CONFIG);
    assert_int_not_equal(driver_get(&larger.driver, REG_CONFIG_GENERATION), generation);
    assert_true(config(&larger, 32) == MAX);
    assert_true(config(&larger, 48) == MAX);
    assert_int_equal(ask(&larger, PLUG, BLOCKS, MAX / BLOCK - BLOCKS), ACK);
    assert_true(config(&larger, 40) == MAX);
    driver_release(&larger.driver);
    shl_buf_release(&buf);
}

static void check_restore_refused(struct shl_buf *buf, size_t len, uint64_t now, int code)
{
    struct driver driver;
    struct vmm_hotplug hotplug;
    struct shl_err err = {0};

    driver_init_hotplug(&driver, MAX, now);
    vmm_hotplug_init(&hotplug, &driver.mem, driver_irq(&driver), now);
    assert_int_equal(vmm_hotplug_restore(&hotplug, shl_bytes_of(shl_buf_data(buf), len), &err),
                     code);
    assert_true(strlen(err.msg) > 0);
    assert_true(hotplug.plugged_bytes == 0);
    driver_release(&driver);
}

static void test_hotplug_damaged_state_is_refused(void **state)
{
    struct fixture *f = *state;
    struct shl_buf buf;
    uint8_t *raw;
    size_t len;

    assert_int_equal(ask(f, PLUG, 0, 3), ACK);
    save(&f->hotplug, &buf);
    raw = shl_buf_data(&buf);
    len = shl_buf_len(&buf);
    assert_int_equal(len, 24 + MAX / BLOCK / 8);
    check_restore_refused(&buf, len - 1, NOW, SHL_ECORRUPT);
    check_restore_refused(&buf, 0, NOW, SHL_ECORRUPT);
    check_restore_refused(&buf, len, 128 * VMM_MIB, SHL_EINVALIDARG);
    shl_put_le64(raw, MAX + BLOCK);
    check_restore_refused(&buf, len, NOW, SHL_ECORRUPT);
    shl_put_le64(raw, MAX);
    shl_put_le64(raw + 8, MAX + BLOCK);
    check_restore_refused(&buf, len, NOW, SHL_ECORRUPT);
    shl_put_le64(raw + 8, USABLE + 1);
    check_restore_refused(&buf, len, NOW, SHL_ECORRUPT);
    shl_put_le64(raw + 8, USABLE);
    shl_put_le64(raw + 16, USABLE + BLOCK);
    check_restore_refused(&buf, len, NOW, SHL_ECORRUPT);
    shl_put_le64(raw + 16, NOW - 1);
    check_restore_refused(&buf, len, NOW, SHL_ECORRUPT);
    shl_put_le64(raw + 16, NOW);
    raw[24 + 8] = 1; /* block 64: behind the usable part */
    check_restore_refused(&buf, len, NOW, SHL_ECORRUPT);
    shl_buf_release(&buf);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_hotplug_configuration),
        WITH(test_hotplug_plugs_up_to_what_is_asked_for),
        WITH(test_hotplug_wrong_requests_are_errors),
        WITH(test_hotplug_unplugged_memory_is_discarded),
        WITH(test_hotplug_request_without_room_ends_the_guest),
        WITH(test_hotplug_memory_stays_over_a_reset),
        WITH(test_hotplug_restored_larger),
        WITH(test_hotplug_damaged_state_is_refused),
    };

    return cmocka_run_group_tests_name("vmm-kvm/hotplug", tests, NULL, NULL);
}
