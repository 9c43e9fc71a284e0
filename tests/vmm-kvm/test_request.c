/* Control frames, requests, configuration. */
#include <stdio.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm-kvm/request.h"

#include "test.h"

static struct shl_buf buf;
static struct shl_mp_writer w;
static struct shl_mp_doc doc;
static struct vmm_config config;

static int setup(void **state)
{
    (void)state;
    shl_buf_init(&buf, 65536);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    vmm_config_init(&config);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    shl_mp_release(&doc);
    shl_buf_release(&buf);
    return 0;
}

static void parse(void)
{
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    assert_int_equal(shl_mp_parse(&doc, shl_buf_bytes(&buf)), 0);
}

static void test_frame_needs_header_and_body(void **state)
{
    const uint8_t frame[] = {3, 0, 0, 0, 'a', 'b', 'c', 'd'};
    struct shl_bytes body;
    size_t len;

    (void)state;
    for (len = 0; len < 7; len++) {
        assert_int_equal(vmm_frame_next(shl_bytes_of(frame, len), &body), 0);
    }
    assert_int_equal(vmm_frame_next(shl_bytes_of(frame, 8), &body), 1);
    assert_int_equal(body.len, 3);
    assert_ptr_equal(body.base, frame + 4);
    parse();
}

static void test_frame_with_impossible_length_is_refused(void **state)
{
    const uint8_t zero[] = {0, 0, 0, 0}, large[] = {1, 0, 1, 0}, max[] = {0, 0, 1, 0};
    struct shl_bytes body;

    (void)state;
    assert_int_equal(vmm_frame_next(shl_bytes_of(zero, 4), &body), SHL_EPROTO);
    assert_int_equal(vmm_frame_next(shl_bytes_of(large, 4), &body), SHL_EPROTO);
    assert_int_equal(vmm_frame_next(shl_bytes_of(max, 4), &body), 0);
    parse();
}

static void test_request_names_its_operation(void **state)
{
    struct vmm_request request;
    struct shl_err err = {0};

    (void)state;
    shl_mp_kv_uint(&w, "id", 77);
    shl_mp_kv_str(&w, "op", "stop");
    shl_mp_kv_uint(&w, "grace_ms", 1500);
    parse();
    assert_int_equal(vmm_request_decode(doc.root, &request, &err), 0);
    assert_int_equal(request.id, 77);
    assert_int_equal(request.op, VMM_OP_STOP);
    assert_int_equal(request.grace_ms, 1500);
}

static void test_request_unknown_operation_keeps_the_id(void **state)
{
    struct vmm_request request;
    struct shl_err err = {0};

    (void)state;
    shl_mp_kv_uint(&w, "id", 78);
    shl_mp_kv_str(&w, "op", "explode");
    parse();
    assert_int_equal(vmm_request_decode(doc.root, &request, &err), SHL_EINVALIDARG);
    assert_int_equal(request.id, 78);
}

static void test_request_without_id_is_refused(void **state)
{
    struct vmm_request request;
    struct shl_err err = {0};

    (void)state;
    shl_mp_kv_str(&w, "op", "status");
    parse();
    assert_int_equal(vmm_request_decode(doc.root, &request, &err), SHL_EPROTO);
}

static void write_start(uint64_t vcpus, uint64_t memory, const char *mac)
{
    shl_mp_kv_uint(&w, "id", 1);
    shl_mp_kv_str(&w, "op", "start");
    shl_mp_kv_uint(&w, "vcpus", vcpus);
    shl_mp_kv_uint(&w, "memory_bytes", memory);
    shl_mp_kv_uint(&w, "disk_bytes", 1 << 30);
    shl_mp_kv_str(&w, "cmdline", "quiet");
    shl_mp_kv_str(&w, "mac", mac);
}

static void write_fds(const char *const *names, size_t count)
{
    size_t i;

    shl_mp_kv_array(&w, "fds");
    for (i = 0; i < count; i++) {
        shl_mp_str(&w, names[i]);
    }
    shl_mp_end(&w);
}

static int decode(int *fds, unsigned count)
{
    struct shl_err err = {0};
    int r = vmm_request_decode_start(doc.root, fds, count, &config, &err);

    assert_true(r == 0 || strlen(err.msg) > 0);
    return r;
}

static void test_start_takes_its_descriptors(void **state)
{
    static const char *const names[] = {"base", "kernel", "overlay", "tap"};
    int fds[] = {10, 11, 12, 13};

    (void)state;
    write_start(2, 256ull << 20, "02:00:00:00:00:7f");
    write_fds(names, 4);
    parse();
    assert_int_equal(decode(fds, 4), 0);
    assert_int_equal(config.kernel_fd, 11);
    assert_int_equal(config.tap_fd, 13);
    assert_int_equal(config.initrd_fd, -1);
    assert_int_equal(fds[0], -1);
    assert_int_equal(config.mac[5], 0x7f);
    assert_int_equal(config.serial_max_bytes, VMM_SERIAL_DEFAULT_MAX_BYTES);
}

static void refused(uint64_t vcpus, uint64_t memory, const char *mac, const char *const *names)
{
    int fds[] = {10, 11, 12, 13};

    write_start(vcpus, memory, mac);
    write_fds(names, 4);
    parse();
    assert_int_equal(decode(fds, 4), SHL_EINVALIDARG);
}

static const char *const good_names[] = {"base", "kernel", "overlay", "tap"};

static void test_start_refuses_too_many_vcpus(void **state)
{
    (void)state;
    refused(5, 256ull << 20, "02:00:00:00:00:01", good_names);
}

static void test_start_refuses_no_vcpu(void **state)
{
    (void)state;
    refused(0, 256ull << 20, "02:00:00:00:00:01", good_names);
}

static void test_start_refuses_odd_memory(void **state)
{
    (void)state;
    refused(1, (256ull << 20) + 4096, "02:00:00:00:00:01", good_names);
}

static void test_start_refuses_little_memory(void **state)
{
    (void)state;
    refused(1, 64ull << 20, "02:00:00:00:00:01", good_names);
}

static void test_start_refuses_bad_mac(void **state)
{
    (void)state;
    refused(1, 256ull << 20, "02:00:00:00:00:0g", good_names);
}

static void test_start_refuses_multicast_mac(void **state)
{
    (void)state;
    refused(1, 256ull << 20, "03:00:00:00:00:01", good_names);
}

static void test_start_refuses_unknown_descriptor(void **state)
{
    static const char *const names[] = {"base", "kernel", "overlay", "secret"};

    (void)state;
    refused(1, 256ull << 20, "02:00:00:00:00:01", names);
}

static void test_start_refuses_repeated_descriptor(void **state)
{
    static const char *const names[] = {"base", "kernel", "overlay", "base"};

    (void)state;
    refused(1, 256ull << 20, "02:00:00:00:00:01", names);
}

static void test_start_refuses_missing_kernel(void **state)
{
    static const char *const names[] = {"base", "serial", "overlay", "tap"};

    (void)state;
    refused(1, 256ull << 20, "02:00:00:00:00:01", names);
}

static void test_start_refuses_more_names_than_descriptors(void **state)
{
    int fds[] = {10, 11, 12};

    (void)state;
    write_start(1, 256ull << 20, "02:00:00:00:00:01");
    write_fds(good_names, 4);
    parse();
    assert_int_equal(decode(fds, 3), SHL_EINVALIDARG);
    assert_int_equal(fds[0], 10); /* still the caller's to close */
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_frame_needs_header_and_body),
        WITH(test_frame_with_impossible_length_is_refused),
        WITH(test_request_names_its_operation),
        WITH(test_request_unknown_operation_keeps_the_id),
        WITH(test_request_without_id_is_refused),
        WITH(test_start_takes_its_descriptors),
        WITH(test_start_refuses_too_many_vcpus),
        WITH(test_start_refuses_no_vcpu),
        WITH(test_start_refuses_odd_memory),
        WITH(test_start_refuses_little_memory),
        WITH(test_start_refuses_bad_mac),
        WITH(test_start_refuses_multicast_mac),
        WITH(test_start_refuses_unknown_descriptor),
        WITH(test_start_refuses_repeated_descriptor),
        WITH(test_start_refuses_missing_kernel),
        WITH(test_start_refuses_more_names_than_descriptors),
    };

    return cmocka_run_group_tests_name("vmm-kvm/request", tests, NULL, NULL);
}
