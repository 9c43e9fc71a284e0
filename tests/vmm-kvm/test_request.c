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

static void test_request_deadline_needs_its_time(void **state)
{
    struct vmm_request request;
    struct shl_err err = {0};

    (void)state;
    shl_mp_kv_uint(&w, "id", 79);
    shl_mp_kv_str(&w, "op", "deadline");
    shl_mp_kv_uint(&w, "at_ms", UINT64_MAX);
    parse();
    assert_int_equal(vmm_request_decode(doc.root, &request, &err), 0);
    assert_int_equal(request.op, VMM_OP_DEADLINE);
    assert_true(request.at_ms == UINT64_MAX);
}

static void test_request_deadline_without_time_is_refused(void **state)
{
    struct vmm_request request;
    struct shl_err err = {0};

    (void)state;
    shl_mp_kv_uint(&w, "id", 80);
    shl_mp_kv_str(&w, "op", "deadline");
    shl_mp_kv_int(&w, "at_ms", -1);
    parse();
    assert_int_equal(vmm_request_decode(doc.root, &request, &err), SHL_EINVALIDARG);
    assert_int_equal(request.id, 80);
    assert_true(strlen(err.msg) > 0);
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
    assert_int_equal(config.deadline_ms, 0);
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

/* ---- snapshots ---- */

static void write_begin(const char *op)
{
    shl_mp_kv_uint(&w, "id", 1);
    shl_mp_kv_str(&w, "op", op);
}

static void test_restore_takes_stacks_of_layers(void **state)
{
    static const char *const names[] = {"state", "mem_base", "mem",     "mem",
                                        "base",  "layer",    "overlay", "layer",
                                        "tap",   "mem",      "layer",   "working_set"};
    int fds[] = {10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21};
    struct shl_err err = {0};
    unsigned i;

    (void)state;
    write_begin("restore");
    shl_mp_kv_uint(&w, "disk_bytes", 1 << 30);
    shl_mp_kv_uint(&w, "hotplug_bytes", VMM_HOTPLUG_BLOCK_BYTES * 3);
    shl_mp_kv_str(&w, "mac", "02:00:00:00:00:07");
    shl_mp_kv_bool(&w, "paused", true);
    shl_mp_kv_uint(&w, "deadline_ms", 86400000);
    write_fds(names, 12);
    parse();
    assert_int_equal(vmm_request_decode_restore(doc.root, fds, 12, &config, &err), 0);
    for (i = 0; i < 12; i++) {
        assert_int_equal(fds[i], -1);
    }
    assert_true(config.restoring && config.start_paused && config.has_mac);
    assert_int_equal(config.hotplug_bytes, VMM_HOTPLUG_BLOCK_BYTES * 3);
    assert_int_equal(config.deadline_ms, 86400000);
    assert_int_equal(config.state_fd, 10);
    assert_int_equal(config.mem_base_fd, 11);
    assert_int_equal(vmm_config_count_fds(config.mem_fds, VMM_MEM_LAYERS_MAX), 3);
    assert_int_equal(config.mem_fds[0], 12);
    assert_int_equal(config.mem_fds[2], 19);
    assert_int_equal(vmm_config_count_fds(config.layer_fds, VMM_DISK_LAYERS_MAX), 3);
    assert_int_equal(config.layer_fds[0], 15);
    assert_int_equal(config.layer_fds[1], 17);
    assert_int_equal(config.layer_fds[2], 20);
    assert_int_equal(config.working_set_fd, 21);
    vmm_config_init(&config); /* the numbers are no descriptors */
}

static int decode_restore(const char *const *names, unsigned count, uint64_t hotplug)
{
    struct shl_err err = {0};
    int fds[VMM_CONTROL_FDS_MAX], r;
    unsigned i;

    write_begin("restore");
    shl_mp_kv_uint(&w, "disk_bytes", 1 << 30);
    shl_mp_kv_uint(&w, "hotplug_bytes", hotplug);
    write_fds(names, count);
    parse();
    for (i = 0; i < count; i++) {
        fds[i] = 100 + (int)i;
    }
    r = vmm_request_decode_restore(doc.root, fds, count, &config, &err);
    vmm_config_init(&config);
    return r;
}

static void test_restore_refuses_what_belongs_to_start(void **state)
{
    static const char *const names[] = {"state", "base", "overlay", "kernel"};

    (void)state;
    assert_int_equal(decode_restore(names, 4, 0), SHL_EINVALIDARG);
}

static void test_restore_refuses_missing_state(void **state)
{
    static const char *const names[] = {"mem", "base", "overlay"};

    (void)state;
    assert_int_equal(decode_restore(names, 3, 0), SHL_EINVALIDARG);
}

static void test_restore_refuses_too_many_layers(void **state)
{
    static const char *const names[] = {"state", "base", "overlay", "mem",
                                        "mem",   "mem",  "mem",     "mem"};

    (void)state;
    assert_int_equal(decode_restore(names, 8, 0), SHL_EINVALIDARG);
}

static void test_restore_refuses_two_working_sets(void **state)
{
    static const char *const names[] = {"state", "base", "overlay", "working_set", "working_set"};

    (void)state;
    assert_int_equal(decode_restore(names, 5, 0), SHL_EINVALIDARG);
}

static void test_restore_refuses_tap_without_mac(void **state)
{
    static const char *const names[] = {"state", "base", "overlay", "tap"};

    (void)state;
    assert_int_equal(decode_restore(names, 4, 0), SHL_EINVALIDARG);
}

static void test_restore_refuses_odd_memory(void **state)
{
    static const char *const names[] = {"state", "base", "overlay"};

    (void)state;
    assert_int_equal(decode_restore(names, 3, 4096), SHL_EINVALIDARG);
}

static void test_start_refuses_what_belongs_to_restore(void **state)
{
    static const char *const names[] = {"base", "kernel", "overlay", "mem"};

    (void)state;
    refused(1, 256ull << 20, "02:00:00:00:00:01", names);
}

static void test_start_refuses_a_working_set(void **state)
{
    static const char *const names[] = {"base", "kernel", "overlay", "working_set"};

    (void)state;
    refused(1, 256ull << 20, "02:00:00:00:00:01", names);
}

static int decode_snapshot(bool disk_only, const char *const *names, unsigned count)
{
    struct vmm_snapshot_config snapshot;
    struct shl_err err = {0};
    int fds[4] = {20, 21, 22, 23}, r;

    write_begin("snapshot");
    shl_mp_kv_bool(&w, "disk_only", disk_only);
    shl_mp_kv_bool(&w, "keep_paused", true);
    write_fds(names, count);
    parse();
    r = vmm_request_decode_snapshot(doc.root, fds, count, &snapshot, &err);
    if (r == 0) {
        assert_true(snapshot.keep_paused);
        assert_int_equal(snapshot.overlay_fd, 20);
        assert_int_equal(snapshot.disk_only, disk_only);
        assert_int_equal(snapshot.state_fd, disk_only ? -1 : 21);
        assert_int_equal(fds[0], -1);
    }
    return r;
}

static void test_snapshot_takes_its_files(void **state)
{
    static const char *const names[] = {"overlay", "state", "mem"};

    (void)state;
    assert_int_equal(decode_snapshot(false, names, 3), 0);
}

static void test_snapshot_of_the_disk_takes_no_state(void **state)
{
    static const char *const names[] = {"overlay", "state", "mem"};

    (void)state;
    assert_int_equal(decode_snapshot(true, names, 3), SHL_EINVALIDARG);
}

static void test_snapshot_of_the_disk(void **state)
{
    static const char *const names[] = {"overlay"};

    (void)state;
    assert_int_equal(decode_snapshot(true, names, 1), 0);
}

static void test_snapshot_refuses_missing_memory(void **state)
{
    static const char *const names[] = {"overlay", "state"};

    (void)state;
    assert_int_equal(decode_snapshot(false, names, 2), SHL_EINVALIDARG);
}

static void test_layers_are_only_layers(void **state)
{
    static const char *const names[] = {"layer", "layer", "base"};
    struct shl_err err = {0};

    (void)state;
    write_begin("layers");
    write_fds(names, 3);
    parse();
    assert_int_equal(vmm_request_decode_layers(doc.root, 3, &err), SHL_EINVALIDARG);
    assert_int_equal(vmm_request_decode_layers(doc.root, 2, &err), SHL_EINVALIDARG);
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(test_frame_needs_header_and_body),
        WITH(test_frame_with_impossible_length_is_refused),
        WITH(test_request_names_its_operation),
        WITH(test_request_deadline_needs_its_time),
        WITH(test_request_deadline_without_time_is_refused),
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
        WITH(test_restore_takes_stacks_of_layers),
        WITH(test_restore_refuses_what_belongs_to_start),
        WITH(test_restore_refuses_missing_state),
        WITH(test_restore_refuses_too_many_layers),
        WITH(test_restore_refuses_two_working_sets),
        WITH(test_restore_refuses_tap_without_mac),
        WITH(test_restore_refuses_odd_memory),
        WITH(test_start_refuses_what_belongs_to_restore),
        WITH(test_start_refuses_a_working_set),
        WITH(test_snapshot_takes_its_files),
        WITH(test_snapshot_of_the_disk_takes_no_state),
        WITH(test_snapshot_of_the_disk),
        WITH(test_snapshot_refuses_missing_memory),
        WITH(test_layers_are_only_layers),
    };

    return cmocka_run_group_tests_name("vmm-kvm/request", tests, NULL, NULL);
}
