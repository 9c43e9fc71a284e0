/* virtio-balloon: reported and inflated pages go back to the machine. */
#include <stdlib.h>

#include "base/buf.h"
#include "vmm-kvm/balloon.h"
#include "vmm-kvm/layout.h"

#include "driver.h"
#include "test.h"

#define PAGE        VMM_PAGE_BYTES
#define INFLATE     0u
#define DEFLATE     1u
#define REPORT      2u
#define F_REPORTING (1ull << 5)

struct fixture {
    struct driver driver;
    struct vmm_balloon balloon;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    driver_init(&f->driver);
    vmm_balloon_init(&f->balloon, &f->driver.mem, driver_irq(&f->driver));
    driver_start(&f->driver, &f->balloon.dev, f->balloon.dev.offered);
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

static uint64_t filled(struct fixture *f, unsigned pages)
{
    uint64_t addr = driver_alloc(&f->driver, pages * PAGE);

    memset(driver_at(&f->driver, addr), 0xab, pages * PAGE);
    return addr;
}

static bool has_content(struct fixture *f, uint64_t addr)
{
    return *(uint8_t *)driver_at(&f->driver, addr) == 0xab;
}

static void check_done(struct fixture *f, unsigned queue, uint16_t head)
{
    uint32_t used, len;

    assert_true(driver_used(&f->driver, queue, &used, &len));
    assert_int_equal(used, head);
    assert_int_equal(len, 0);
    assert_false(driver_used(&f->driver, queue, &used, &len));
}

/* What Linux looks for: reporting, no poison, a report queue of at least 32. */
static void test_balloon_offers_reporting_only(void **state)
{
    struct fixture *f = *state;

    assert_true(f->balloon.dev.offered == (F_REPORTING | VMM_F_VERSION_1 | VMM_F_EVENT_IDX));
    driver_set(&f->driver, REG_QUEUE_SEL, REPORT);
    assert_true(driver_get(&f->driver, REG_QUEUE_NUM_MAX) >= 32);
    driver_set(&f->driver, REG_QUEUE_SEL, 3);
    assert_int_equal(driver_get(&f->driver, REG_QUEUE_NUM_MAX), 0);
    assert_int_equal(driver_get(&f->driver, REG_CONFIG), 0);
}

static void test_balloon_reported_pages_are_discarded(void **state)
{
    struct fixture *f = *state;
    uint64_t a = filled(f, 4), b = filled(f, 2), kept = filled(f, 1);
    const struct driver_part parts[] = {{a, 3 * PAGE, true}, {b, 2 * PAGE, true}};
    uint16_t head = driver_add(&f->driver, REPORT, parts, 2);

    assert_int_equal(driver_notify(&f->driver, REPORT), 0);
    check_done(f, REPORT, head);
    assert_false(has_content(f, a));
    assert_false(has_content(f, a + 2 * PAGE));
    assert_true(has_content(f, a + 3 * PAGE));
    assert_false(has_content(f, b));
    assert_true(has_content(f, kept));
    assert_true(f->balloon.stats.reported_bytes == 5 * PAGE);
    assert_true(f->balloon.stats.discarded_bytes == 5 * PAGE);
    assert_true(f->driver.interrupts > 0);
}

/* Parts of pages stay, also what the driver only lets us read. */
static void test_balloon_report_of_parts_of_pages(void **state)
{
    struct fixture *f = *state;
    uint64_t a = filled(f, 3), b = filled(f, 1);
    const struct driver_part parts[] = {{b, PAGE, false}, {a + 8, 2 * PAGE, true}};
    uint16_t head = driver_add(&f->driver, REPORT, parts, 2);

    assert_int_equal(driver_notify(&f->driver, REPORT), 0);
    check_done(f, REPORT, head);
    assert_true(has_content(f, a));
    assert_false(has_content(f, a + PAGE));
    assert_true(has_content(f, a + 2 * PAGE));
    assert_true(has_content(f, b));
    assert_true(f->balloon.stats.reported_bytes == 2 * PAGE);
    assert_true(f->balloon.stats.discarded_bytes == PAGE);
}

static void test_balloon_report_outside_ram_ends_the_guest(void **state)
{
    struct fixture *f = *state;
    const struct driver_part part = {DRIVER_MEMORY - PAGE, 2 * PAGE, true};

    (void)driver_add(&f->driver, REPORT, &part, 1);
    assert_int_equal(driver_notify(&f->driver, REPORT), SHL_EGUEST);
}

static uint16_t inflate(struct fixture *f, const uint32_t *pfns, uint32_t count)
{
    uint64_t list = driver_alloc(&f->driver, count * 4ull);
    const struct driver_part part = {list, count * 4, false};
    uint32_t i;

    for (i = 0; i < count; i++) {
        shl_put_le32(driver_at(&f->driver, list + i * 4ull), pfns[i]);
    }
    return driver_add(&f->driver, INFLATE, &part, 1);
}

/* Numbers outside RAM have no effect, neither has a list cut inside a number. */
static void test_balloon_inflated_pages_are_discarded(void **state)
{
    struct fixture *f = *state;
    uint64_t a = filled(f, 6);
    const uint32_t first = (uint32_t)(a / PAGE);
    const uint32_t pfns[] = {first, first + 1, UINT32_MAX, first + 4, 0xd0000};
    uint16_t head = inflate(f, pfns, 5);

    assert_int_equal(driver_notify(&f->driver, INFLATE), 0);
    check_done(f, INFLATE, head);
    assert_false(has_content(f, a));
    assert_false(has_content(f, a + PAGE));
    assert_true(has_content(f, a + 2 * PAGE));
    assert_true(has_content(f, a + 3 * PAGE));
    assert_false(has_content(f, a + 4 * PAGE));
    assert_true(has_content(f, a + 5 * PAGE));
    assert_true(f->balloon.stats.discarded_bytes == 3 * PAGE);
    assert_true(f->balloon.stats.reported_bytes == 0);
}

/* One request does not take for ever: what is over the limit has no effect. */
static void test_balloon_r10_inflate_is_bounded(void **state)
{
    struct fixture *f = *state;
    const uint32_t count = VMM_BALLOON_PFNS_MAX + 1;
    uint64_t a = filled(f, 1);
    uint32_t *pfns = calloc(count, sizeof(*pfns));

    memset(pfns, 0xff, count * sizeof(*pfns));
    pfns[count - 1] = (uint32_t)(a / PAGE);
    (void)inflate(f, pfns, count);
    assert_int_equal(driver_notify(&f->driver, INFLATE), 0);
    assert_true(has_content(f, a));
    pfns[count - 2] = (uint32_t)(a / PAGE);
    (void)inflate(f, pfns, count);
    assert_int_equal(driver_notify(&f->driver, INFLATE), 0);
    assert_false(has_content(f, a));
    free(pfns);
}

static void test_balloon_deflate_is_answered(void **state)
{
    struct fixture *f = *state;
    uint64_t a = filled(f, 1);
    const struct driver_part part = {a, 64, false};
    uint16_t head = driver_add(&f->driver, DEFLATE, &part, 1);

    assert_int_equal(driver_notify(&f->driver, DEFLATE), 0);
    check_done(f, DEFLATE, head);
    assert_true(has_content(f, a));
}

static void test_balloon_state_survives_a_snapshot(void **state)
{
    struct fixture *f = *state;
    struct vmm_balloon other;
    struct shl_buf buf;

    shl_buf_init(&buf, 64);
    driver_set(&f->driver, REG_CONFIG + 4, 1234);
    driver_set(&f->driver, REG_CONFIG, 99); /* num_pages is the device's */
    assert_int_equal(driver_get(&f->driver, REG_CONFIG), 0);
    assert_int_equal(driver_get(&f->driver, REG_CONFIG + 4), 1234);
    assert_int_equal(vmm_balloon_save(&f->balloon, &buf), 0);
    vmm_balloon_init(&other, &f->driver.mem, driver_irq(&f->driver));
    assert_int_equal(vmm_balloon_restore(&other, shl_buf_bytes(&buf)), 0);
    assert_int_equal(other.actual, 1234);
    assert_int_equal(vmm_balloon_restore(&other, shl_bytes_of(buf.heap, 3)), SHL_ECORRUPT);
    driver_set(&f->driver, REG_STATUS, 0);
    assert_int_equal(f->balloon.actual, 0);
    shl_buf_release(&buf);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_balloon_offers_reporting_only),
        WITH(test_balloon_reported_pages_are_discarded),
        WITH(test_balloon_report_of_parts_of_pages),
        WITH(test_balloon_report_outside_ram_ends_the_guest),
        WITH(test_balloon_inflated_pages_are_discarded),
        WITH(test_balloon_r10_inflate_is_bounded),
        WITH(test_balloon_deflate_is_answered),
        WITH(test_balloon_state_survives_a_snapshot),
    };

    return cmocka_run_group_tests_name("vmm-kvm/balloon", tests, NULL, NULL);
}
