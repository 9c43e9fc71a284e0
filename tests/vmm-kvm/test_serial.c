/* The 8250 model and the bounded console log behind it. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm-kvm/console_log.h"
#include "vmm-kvm/serial.h"

#include "test.h"

static struct vmm_serial serial;
static struct vmm_console_log console;
static unsigned interrupts;

static void on_irq(void *ctx)
{
    (void)ctx;
    interrupts++;
}

static int setup(void **state)
{
    (void)state;
    interrupts = 0;
    vmm_console_log_init(&console, -1, 0);
    vmm_serial_init(&serial, (struct vmm_irq){on_irq, NULL}, vmm_console_log_put, &console);
    return 0;
}

static void print(const char *text)
{
    for (; *text; text++) {
        vmm_serial_write(&serial, 0, (uint8_t)*text);
    }
}

static void test_serial_looks_like_a_16550a(void **state)
{
    (void)state;
    vmm_serial_write(&serial, 7, 0x5a); /* scratch register */
    assert_int_equal(vmm_serial_read(&serial, 7), 0x5a);
    vmm_serial_write(&serial, 2, 0x07);
    assert_int_equal(vmm_serial_read(&serial, 2) & 0xc0, 0xc0);
    vmm_serial_write(&serial, 3, 0x80); /* DLAB */
    vmm_serial_write(&serial, 0, 0x01);
    vmm_serial_write(&serial, 1, 0x02);
    assert_int_equal(vmm_serial_read(&serial, 0), 0x01);
    assert_int_equal(vmm_serial_read(&serial, 1), 0x02);
    vmm_serial_write(&serial, 3, 0x03);
    assert_int_equal(vmm_serial_read(&serial, 1), 0);
    assert_int_equal(vmm_serial_read(&serial, 5), 0x60);
}

static void test_serial_loopback_shows_modem_lines_and_bytes(void **state)
{
    (void)state;
    vmm_serial_write(&serial, 4, 0x1a); /* loop, RTS, OUT2: the driver's probe */
    assert_int_equal(vmm_serial_read(&serial, 6) & 0xf0, 0x90);
    vmm_serial_write(&serial, 0, 'x');
    assert_int_equal(vmm_serial_read(&serial, 5) & 1, 1);
    assert_int_equal(vmm_serial_read(&serial, 0), 'x');
    assert_int_equal(vmm_serial_read(&serial, 5) & 1, 0);
    assert_int_equal(console.dropped_bytes, 0); /* nothing went out */
}

static void test_serial_interrupts_when_the_transmitter_is_empty(void **state)
{
    (void)state;
    vmm_serial_write(&serial, 0, 'x');
    assert_int_equal(interrupts, 0);
    vmm_serial_write(&serial, 1, 2);
    assert_int_equal(interrupts, 1);
    assert_int_equal(vmm_serial_read(&serial, 2) & 0x0f, 2);
    assert_int_equal(vmm_serial_read(&serial, 2) & 0x0f, 1); /* acknowledged */
    vmm_serial_write(&serial, 0, 'y');
    assert_int_equal(interrupts, 2);
    vmm_serial_write(&serial, 1, 0);
    vmm_serial_write(&serial, 0, 'z');
    assert_int_equal(interrupts, 2);
}

static void test_console_log_finds_a_panic(void **state)
{
    (void)state;
    print("booting\r\n[    1.5] Kernel panic - not syncing: No init found.\r\nmore\r\n");
    assert_string_equal(console.panic, "Kernel panic - not syncing: No init found.");
}

static void test_console_log_long_lines_and_binary_do_no_harm(void **state)
{
    int i;

    (void)state;
    for (i = 0; i < 100000; i++) {
        vmm_serial_write(&serial, 0, (uint8_t)(i % 251 == 10 ? 'a' : i));
    }
    print("\n");
    assert_int_equal(console.panic[0], '\0');
}

static void test_console_log_file_is_bounded(void **state)
{
    char name[] = "/tmp/shoal-serial-XXXXXX";
    int fd = mkstemp(name);
    int i;

    (void)state;
    assert_true(fd >= 0);
    (void)unlink(name);
    vmm_console_log_init(&console, fd, 1000);
    for (i = 0; i < 300; i++) {
        print("0123456789");
    }
    print("\nKernel panic - not syncing: late\n");
    vmm_console_log_flush(&console);
    assert_int_equal(lseek(fd, 0, SEEK_END), 1000);
    assert_int_equal(console.bytes, 1000);
    assert_true(console.dropped_bytes > 2000);
    assert_true(console.panic[0] != '\0'); /* seen though the file is full */
    (void)close(fd);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, NULL)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_serial_looks_like_a_16550a),
        WITH(test_serial_loopback_shows_modem_lines_and_bytes),
        WITH(test_serial_interrupts_when_the_transmitter_is_empty),
        WITH(test_console_log_finds_a_panic),
        WITH(test_console_log_long_lines_and_binary_do_no_harm),
        WITH(test_console_log_file_is_bounded),
    };

    return cmocka_run_group_tests_name("vmm-kvm/serial", tests, NULL, NULL);
}
