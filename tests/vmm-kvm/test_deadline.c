/* The deadline of a VM: the rule, and the machine, ops and loop that keep it, with a machine
 * that has no CPU (so no KVM is needed). Times are far away or long over, so nothing is timed. */
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/io.h"
#include "vmm-kvm/ops.h"
#include "vmm-kvm/process.h"
#include "vmm-kvm/snapshot.h"

#include "files.h"
#include "test.h"

#define LONG_AGO 1u
#define FAR_AWAY (UINT64_MAX / 2)

/* ---- the rule ---- */

static void test_deadline_strikes_once(void **state)
{
    struct vmm_deadline deadline = {0};

    (void)state;
    assert_false(vmm_deadline_strikes(&deadline, UINT64_MAX)); /* none */
    vmm_deadline_set(&deadline, 100);
    assert_false(vmm_deadline_strikes(&deadline, 99));
    assert_true(vmm_deadline_strikes(&deadline, 100));
    assert_true(deadline.struck);
    assert_false(vmm_deadline_strikes(&deadline, 101));
}

static void test_deadline_can_be_put_off_until_it_strikes(void **state)
{
    struct vmm_deadline deadline = {0};

    (void)state;
    vmm_deadline_set(&deadline, 100);
    vmm_deadline_set(&deadline, 200);
    assert_false(vmm_deadline_strikes(&deadline, 150));
    vmm_deadline_set(&deadline, 0);
    assert_false(vmm_deadline_strikes(&deadline, 1000));
    vmm_deadline_set(&deadline, 300);
    assert_true(vmm_deadline_strikes(&deadline, 1000));
    vmm_deadline_set(&deadline, 2000);
    assert_true(deadline.struck);
    vmm_deadline_set(&deadline, 0);
    assert_true(deadline.struck);
}

static void test_deadline_resume_needs_one_that_lies_ahead(void **state)
{
    struct vmm_deadline deadline = {0};
    struct shl_err err = {0};

    (void)state;
    assert_int_equal(vmm_deadline_resume(&deadline, 5, &err), 0);
    vmm_deadline_set(&deadline, 100);
    assert_true(vmm_deadline_strikes(&deadline, 100));
    assert_int_equal(vmm_deadline_resume(&deadline, 100, &err), SHL_EBADSTATE);
    assert_true(strlen(err.msg) > 0);
    assert_true(deadline.struck);
    vmm_deadline_set(&deadline, 200);
    assert_int_equal(vmm_deadline_resume(&deadline, 150, &err), 0);
    assert_false(deadline.struck);
    assert_true(vmm_deadline_strikes(&deadline, 200)); /* the next one counts again */
    vmm_deadline_set(&deadline, 0);
    assert_int_equal(vmm_deadline_resume(&deadline, 300, &err), 0);
}

/* ---- machine, ops and loop, without CPUs ---- */

static struct vmm_process process;
static struct shl_buf buf;
static struct shl_mp_doc doc;
static int base_fd, overlay_fd, other_fd;

static int setup(void **state)
{
    struct vmm_machine *machine = &process.machine;
    unsigned i;

    (void)state;
    memset(&process, 0, sizeof(process));
    assert_int_equal(vmm_loop_init(&process.loop), 0);
    assert_int_equal(vmm_outcome_init(&process.outcome), 0);
    process.deadline_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    assert_true(process.deadline_fd >= 0);
    for (i = 0; i < VMM_CONTROL_CLIENTS_MAX; i++) {
        process.server.clients[i].fd = -1;
    }
    vmm_config_init(&machine->config);
    vmm_machine_prepare(machine, &process.loop, &process.outcome);
    base_fd = files_temp();
    overlay_fd = files_temp();
    other_fd = -1;
    assert_int_equal(ftruncate(base_fd, 1 << 20), 0);
    assert_int_equal(vmm_overlay_open(&machine->overlay, overlay_fd, base_fd, 1 << 20, NULL), 0);
    process.running = true;
    shl_buf_init(&buf, 65536);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    vmm_overlay_release(&process.machine.overlay);
    vmm_outcome_release(&process.outcome);
    vmm_loop_release(&process.loop);
    (void)close(process.deadline_fd);
    (void)close(base_fd);
    (void)close(overlay_fd);
    if (other_fd >= 0) {
        (void)close(other_fd);
    }
    shl_buf_release(&buf);
    return 0;
}

/* The op's code; its fields are in doc until it is released. */
static int ask(enum vmm_op op, uint64_t at_ms, struct shl_err *err)
{
    const struct vmm_request request = {.id = 1, .op = op, .at_ms = at_ms};
    struct shl_mp_writer w;
    int r;

    shl_buf_clear(&buf);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    r = vmm_process_request(&process, &request, NULL, NULL, 0, &w, err);
    shl_mp_end(&w);
    assert_int_equal(shl_mp_done(&w), 0);
    assert_int_equal(shl_mp_parse(&doc, shl_buf_bytes(&buf)), 0);
    vmm_process_replied(&process, &request, r);
    return r;
}

/* Op deadline: whether it struck. */
static bool set_deadline(uint64_t at_ms)
{
    bool struck = false;

    assert_int_equal(ask(VMM_OP_DEADLINE, at_ms, NULL), 0);
    assert_int_equal(shl_mp_get_bool(doc.root, "struck", &struck), 0);
    shl_mp_release(&doc);
    return struck;
}

static int resume(struct shl_err *err)
{
    int r = ask(VMM_OP_RESUME, 0, err);

    shl_mp_release(&doc);
    return r;
}

static void check_status(const char *expected, uint64_t deadline_ms, bool struck)
{
    bool is_struck = !struck;
    uint64_t at_ms = 12345;
    char text[32];

    assert_int_equal(ask(VMM_OP_STATUS, 0, NULL), 0);
    assert_int_equal(shl_mp_get_cpy(doc.root, "state", text, sizeof(text)), 0);
    assert_string_equal(text, expected);
    assert_int_equal(shl_mp_get_uint(doc.root, "deadline_ms", UINT64_MAX, &at_ms), 0);
    assert_true(at_ms == deadline_ms);
    assert_int_equal(shl_mp_get_bool(doc.root, "deadline_struck", &is_struck), 0);
    assert_int_equal(is_struck, struck);
    shl_mp_release(&doc);
}

static void test_deadline_needs_a_vm(void **state)
{
    struct shl_err err = {0};

    (void)state;
    process.running = false;
    assert_int_equal(ask(VMM_OP_DEADLINE, FAR_AWAY, &err), SHL_EBADSTATE);
    shl_mp_release(&doc);
}

static void test_deadline_op_pauses_and_resume_needs_another(void **state)
{
    struct shl_err err = {0};

    (void)state;
    vmm_machine_run(&process.machine);
    assert_false(set_deadline(FAR_AWAY));
    check_status(VMM_STATE_RUNNING, FAR_AWAY, false);
    assert_int_equal(resume(&err), 0); /* nothing to do */
    assert_true(set_deadline(LONG_AGO));
    check_status(VMM_STATE_PAUSED, LONG_AGO, true);
    assert_int_equal(resume(&err), SHL_EBADSTATE);
    assert_true(strlen(err.msg) > 0);
    check_status(VMM_STATE_PAUSED, LONG_AGO, true);
    assert_true(set_deadline(FAR_AWAY));
    check_status(VMM_STATE_PAUSED, FAR_AWAY, true);
    assert_int_equal(resume(&err), 0);
    check_status(VMM_STATE_RUNNING, FAR_AWAY, false);
    assert_true(set_deadline(LONG_AGO));
    assert_true(set_deadline(0));
    assert_int_equal(resume(&err), 0);
    check_status(VMM_STATE_RUNNING, 0, false);
}

/* The old one has passed, only nobody has looked yet: the new one comes too late. */
static void test_deadline_that_passed_is_not_put_off(void **state)
{
    (void)state;
    vmm_machine_run(&process.machine);
    vmm_deadline_set(&process.machine.deadline, LONG_AGO);
    assert_true(set_deadline(FAR_AWAY));
    check_status(VMM_STATE_PAUSED, FAR_AWAY, true);
}

static void test_deadline_of_one_that_is_paused(void **state)
{
    struct shl_err err = {0};

    (void)state;
    vmm_machine_run(&process.machine);
    assert_int_equal(ask(VMM_OP_PAUSE, 0, &err), 0);
    shl_mp_release(&doc);
    assert_true(set_deadline(LONG_AGO));
    assert_int_equal(resume(&err), SHL_EBADSTATE);
    (void)set_deadline(FAR_AWAY);
    assert_int_equal(resume(&err), 0);
    check_status(VMM_STATE_RUNNING, FAR_AWAY, false);
}

static void test_deadline_that_passed_before_the_start(void **state)
{
    struct shl_err err = {0};

    (void)state;
    process.machine.config.deadline_ms = LONG_AGO;
    vmm_machine_run(&process.machine);
    check_status(VMM_STATE_PAUSED, LONG_AGO, true);
    (void)set_deadline(FAR_AWAY);
    assert_int_equal(resume(&err), 0);
    check_status(VMM_STATE_RUNNING, FAR_AWAY, false);
}

static void test_deadline_is_started_with(void **state)
{
    (void)state;
    process.machine.config.deadline_ms = FAR_AWAY;
    vmm_machine_run(&process.machine);
    check_status(VMM_STATE_RUNNING, FAR_AWAY, false);
}

/* Op snapshot with a disk alone, that would go on. */
static void snapshot(void)
{
    struct vmm_snapshot_config config = {.disk_only = true, .state_fd = -1, .mem_fd = -1};
    struct vmm_snapshot_result result;

    config.overlay_fd = other_fd = files_temp();
    process.machine.config.overlay_fd = overlay_fd;
    assert_int_equal(vmm_machine_snapshot(&process.machine, &config, &result, NULL), 0);
    assert_int_equal(config.overlay_fd, -1); /* it is complete */
}

static void test_deadline_in_a_snapshot_stays_paused(void **state)
{
    (void)state;
    vmm_machine_run(&process.machine);
    snapshot();
    check_status(VMM_STATE_RUNNING, 0, false);
    (void)close(overlay_fd);
    overlay_fd = other_fd;
    vmm_deadline_set(&process.machine.deadline, LONG_AGO); /* comes while it is taken */
    snapshot();
    check_status(VMM_STATE_PAUSED, LONG_AGO, true);
    vmm_deadline_set(&process.machine.deadline, FAR_AWAY);
    assert_true(process.machine.deadline.struck);
}

/* Two events are there at once; what the first callback sees is that it stands already. */
static bool stood;

static void keep(struct vmm_loop *loop)
{
    (void)loop;
    (void)vmm_machine_keep_deadline(&process.machine);
}

static void on_event(struct vmm_watch *watch, uint32_t events)
{
    (void)watch;
    (void)events;
    stood = process.machine.paused;
    process.loop.stopping = true;
}

static void test_loop_looks_before_each_event(void **state)
{
    struct vmm_watch watch;
    int fds[2];

    (void)state;
    stood = false;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_int_equal(vmm_loop_add(&process.loop, &watch, fds[0], EPOLLIN, on_event), 0);
    process.loop.before_event = keep;
    vmm_machine_run(&process.machine);
    vmm_deadline_set(&process.machine.deadline, LONG_AGO);
    assert_int_equal(vmm_loop_run(&process.loop), 0);
    assert_true(stood);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* The timer of the op wakes a loop that has nothing else to do. */
static void on_timer(struct vmm_watch *watch, uint32_t events)
{
    (void)watch;
    (void)events;
    process.loop.stopping = true;
}

static void test_deadline_wakes_the_loop(void **state)
{
    struct vmm_watch watch;

    (void)state;
    assert_int_equal(vmm_loop_add(&process.loop, &watch, process.deadline_fd, EPOLLIN, on_timer),
                     0);
    process.loop.before_event = keep;
    vmm_machine_run(&process.machine);
    (void)set_deadline(shl_monotonic_ms() + 30);
    assert_int_equal(vmm_loop_run(&process.loop), 0);
    assert_true(process.machine.paused && process.machine.deadline.struck);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deadline_strikes_once),
        cmocka_unit_test(test_deadline_can_be_put_off_until_it_strikes),
        cmocka_unit_test(test_deadline_resume_needs_one_that_lies_ahead),
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_deadline_needs_a_vm),
        TEST(test_deadline_op_pauses_and_resume_needs_another),
        TEST(test_deadline_that_passed_is_not_put_off),
        TEST(test_deadline_of_one_that_is_paused),
        TEST(test_deadline_that_passed_before_the_start),
        TEST(test_deadline_is_started_with),
        TEST(test_deadline_in_a_snapshot_stays_paused),
        TEST(test_loop_looks_before_each_event),
        TEST(test_deadline_wakes_the_loop),
#undef TEST
    };

    return cmocka_run_group_tests_name("vmm-kvm/deadline", tests, NULL, NULL);
}
