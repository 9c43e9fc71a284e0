/* From creating to running.
 *
 * Happy path:
 *  1. boot_enqueue, boot_pump: at most boots_max at a time; the time limit starts when it
 *     is this one's turn.
 *  2. run_prepare (thread pool): folders, descriptors, cgroup. -> on_prepared
 *  3. start_vmm: TAP and rules, then the process. run_join puts it into its cgroup.
 *  4. on_joined -> control connection -> on_control_ready -> op start with descriptors.
 *  5. on_started: the descriptors are the VMM's now; the agent link opens.
 *  6. boot_on_agent: the guest answered HELLO; op setup. -> on_setup_end
 *  7. The record is saved as running, the create is answered.
 *
 * What can go wrong: any step fails, the VMM ends (watch.c), the limit passes (on_limit),
 * somebody kills it. All of it is sandbox_end, which gives back whatever exists; each
 * step here returns at once when that has begun.
 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/id.h"
#include "base/io.h"
#include "node/sandbox/sandbox.h"

#define ENTROPY_BYTES    64
#define MACHINE_ID_BYTES 16
#define SETUP_MAX        AGENT_REQUEST_MAX
#define VMM_UID_BASE     0x70000000u /* above what systemd gives to containers */
#define USER_SIZE        16
/* quiet and few messages: each console character is an exit of the VM. A dead kernel
 * reboots at once (panic=-1) through the keyboard controller (reboot=k), where the VMM
 * tells a panic from a reboot by the console's last words. */
#define GUEST_CMDLINE                                                                        \
    "console=ttyS0 quiet loglevel=1 reboot=k panic=-1 clocksource=kvm-clock 8250.nr_uarts=1" \
    " pci=off random.trust_cpu=on"

static void fail(struct sandbox *sandbox, int code, const char *what, const char *msg)
{
    sandbox_end(sandbox, NODE_SANDBOX_ERROR, code, "%s: %s", what, msg);
}

/* ---- 7. running ------------------------------------------------------------------ */

static void become_running(struct sandbox *sandbox)
{
    node_create_cb cb = sandbox->create_cb;
    struct shl_err err = {0};

    sandbox_set_state(sandbox, NODE_SANDBOX_RUNNING, "");
    if (sandbox_save(sandbox, &err) < 0) {
        fail(sandbox, err.code, "the sandbox could not be recorded", err.msg);
        return;
    }
    (void)uv_timer_stop(&sandbox->timer);
    sandbox->pub.agent = sandbox->link;
    sandbox->booting = false;
    sandbox->pub.manager->booting--;
    idle_start(sandbox);
    boot_pump(sandbox->pub.manager);
    sandbox->create_cb = NULL;
    if (cb) {
        cb(sandbox->create_arg, 0, "", &sandbox->pub);
    }
}

/* ---- 6. the guest answers -------------------------------------------------------- */

static void on_setup_end(void *arg, int code, const char *msg, const msgpack_object *response)
{
    struct sandbox *sandbox = arg;

    (void)response;
    sandbox->setup = NULL;
    if (sandbox->ending) {
        return;
    }
    if (code == SHL_EUNAVAILABLE) {
        return; /* the link broke; it is asked again when it is back */
    }
    if (code < 0) {
        fail(sandbox, code, "the guest could not be set up", msg);
        return;
    }
    become_running(sandbox);
}

static void add_network(struct sandbox *sandbox, struct shl_mp_writer *w)
{
    const struct node_net *net = sandbox->pub.manager->net;
    char address[NODE_ADDRESS_SIZE];

    node_address_format(address, node_net_guest(net, sandbox->slot));
    shl_mp_kv_str(w, "ip", address);
    shl_mp_kv_uint(w, "prefix", NODE_GUEST_PREFIX);
    node_address_format(address, node_net_gateway(net, sandbox->slot));
    shl_mp_kv_str(w, "gateway", address);
    shl_mp_kv_array(w, "dns");
    shl_mp_str(w, address);
    shl_mp_end(w);
}

static int make_setup(struct sandbox *sandbox, struct shl_buf *buf)
{
    const struct node_sandbox_spec *spec = &sandbox->pub.spec;
    char machine_id[2 * MACHINE_ID_BYTES + 1];
    uint8_t entropy[ENTROPY_BYTES];
    struct shl_mp_writer w;
    size_t i;

    shl_random_bytes(entropy, sizeof(entropy));
    shl_hex_encode(machine_id, entropy, MACHINE_ID_BYTES);
    shl_random_bytes(entropy, sizeof(entropy));
    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "op", "setup");
    shl_mp_kv_str(&w, "sandbox", sandbox->pub.id);
    shl_mp_kv_str(&w, "hostname", sandbox->pub.id);
    if (sandbox->has_slot) {
        add_network(sandbox, &w);
    }
    shl_mp_kv_str(&w, "machine_id", machine_id);
    shl_mp_kv_bin(&w, "entropy", entropy, sizeof(entropy));
    shl_mp_kv_int(&w, "time_ms", shl_realtime_ms());
    shl_mp_kv_map(&w, "env");
    for (i = 0; i < spec->envs.count; i++) {
        shl_mp_kv_str(&w, spec->envs.items[i].key, spec->envs.items[i].value);
    }
    shl_mp_end(&w);
    shl_mp_kv_uint(&w, "disk_bytes", (uint64_t)spec->disk_mb << 20);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

void boot_on_agent(struct sandbox *sandbox)
{
    static const struct node_agent_stream_ops ops = {.on_end = on_setup_end};
    struct shl_buf buf;
    int rc;

    if (sandbox->setup) {
        return;
    }
    shl_buf_init(&buf, SETUP_MAX);
    rc = make_setup(sandbox, &buf);
    if (rc == 0) {
        rc = node_agent_open(sandbox->link, shl_buf_bytes(&buf), &ops, sandbox, &sandbox->setup);
    }
    shl_buf_release(&buf);
    if (rc < 0) {
        fail(sandbox, rc, "the guest could not be set up", shl_err_text(rc));
    }
}

/* ---- 4. and 5. the VMM starts ---------------------------------------------------- */

static void on_started(void *arg, int code, const char *msg, const msgpack_object *reply)
{
    struct sandbox *sandbox = arg;
    int rc;

    (void)reply;
    if (sandbox->ending) {
        return;
    }
    sandbox_close_fds(sandbox);
    if (code == SHL_EUNAVAILABLE) {
        return; /* the process or on_lost tells why */
    }
    if (code < 0) {
        fail(sandbox, code, "the VMM could not start the guest", msg);
        return;
    }
    rc = watch_open_agent(sandbox);
    if (rc < 0) {
        fail(sandbox, rc, "the guest agent cannot be reached", shl_err_text(rc));
    }
}

static void add_start(void *arg, struct shl_mp_writer *w)
{
    const struct sandbox *sandbox = arg;
    char mac[NODE_MAC_SIZE];

    node_net_mac(mac, sandbox->pub.id);
    shl_mp_kv_uint(w, "vcpus", sandbox->pub.spec.cpus);
    shl_mp_kv_uint(w, "memory_bytes", (uint64_t)sandbox->pub.spec.memory_mb << 20);
    shl_mp_kv_str(w, "cmdline", GUEST_CMDLINE);
    shl_mp_kv_uint(w, "disk_bytes", (uint64_t)sandbox->pub.spec.disk_mb << 20);
    shl_mp_kv_str(w, "mac", mac);
    shl_mp_kv_uint(w, "serial_max_bytes", VMM_SERIAL_DEFAULT_MAX_BYTES);
}

static void send_start(struct sandbox *sandbox)
{
    const struct node_vmm_fd fds[] = {
        {"kernel", sandbox->fds[SANDBOX_FD_KERNEL]}, {"initrd", sandbox->fds[SANDBOX_FD_INITRD]},
        {"base", sandbox->fds[SANDBOX_FD_BASE]},     {"overlay", sandbox->fds[SANDBOX_FD_OVERLAY]},
        {"serial", sandbox->fds[SANDBOX_FD_SERIAL]}, {"tap", sandbox->fds[SANDBOX_FD_TAP]},
    };
    int rc = node_vmm_link_request(sandbox->control, "start", add_start, fds, SHL_ARRAY_SIZE(fds),
                                   on_started, sandbox);

    if (rc < 0) {
        fail(sandbox, rc, "the VMM could not be told to start", shl_err_text(rc));
    }
}

/* Called by watch.c each time the control connection is up. */
void boot_on_control(struct sandbox *sandbox)
{
    if (!sandbox->link && sandbox->fds[SANDBOX_FD_KERNEL] >= 0) {
        send_start(sandbox);
    }
}

/* ---- 3. the process -------------------------------------------------------------- */

static void run_join(struct sandbox *sandbox)
{
    sandbox->job_rc = node_cgroup_join(&sandbox->pub.manager->cgroups, sandbox->pub.id,
                                       sandbox->vmm_id.pid, &sandbox->job_err);
}

static void on_joined(struct sandbox *sandbox)
{
    int rc;

    if (sandbox->job_rc < 0) {
        fail(sandbox, sandbox->job_rc, "the VMM could not be limited", sandbox->job_err.msg);
        return;
    }
    rc = watch_open_control(sandbox);
    if (rc < 0) {
        fail(sandbox, rc, "the VMM cannot be reached", shl_err_text(rc));
    }
}

static int attach_network(struct sandbox *sandbox, struct shl_err *err)
{
    struct node_manager *manager = sandbox->pub.manager;
    int rc;

    if (!sandbox->has_slot) {
        return 0;
    }
    rc = node_net_attach(manager->net, sandbox->pub.id, sandbox->slot,
                         &sandbox->fds[SANDBOX_FD_TAP], err);
    sandbox->attached = rc == 0;
    return rc;
}

/* A user of its own for every VMM, named after the guest's address, which is unique on
 * this machine. Only root can hand that out. */
static bool choose_user(const struct sandbox *sandbox, char text[USER_SIZE])
{
    uint32_t address;

    if (!sandbox->has_slot || geteuid() != 0) {
        return false;
    }
    address = node_net_guest(sandbox->pub.manager->net, sandbox->slot);
    (void)snprintf(text, USER_SIZE, "%u", VMM_UID_BASE + (address & 0x0fffffff));
    return true;
}

static int spawn_vmm(struct sandbox *sandbox, struct shl_err *err)
{
    static char dir_flag[] = "--dir", uid_flag[] = "--uid", gid_flag[] = "--gid";
    char dir[SANDBOX_PATH_MAX];
    char user[USER_SIZE];
    char *args[] = {
        sandbox->pub.manager->vmm_path, dir_flag, dir, uid_flag, user, gid_flag, user, NULL};
    int rc;

    if (!choose_user(sandbox, user)) {
        args[3] = NULL;
    }
    files_run_path(sandbox, dir, "");
    rc = node_process_spawn(sandbox->pub.manager->loop, args, sandbox->fds[SANDBOX_FD_LOG],
                            watch_on_exit, sandbox, &sandbox->process, err);
    if (rc == 0) {
        sandbox->handles++;
        sandbox->vmm_id = *node_process_id(sandbox->process);
    }
    return rc;
}

static void start_vmm(struct sandbox *sandbox)
{
    struct shl_err err = {0};

    if (attach_network(sandbox, &err) < 0) {
        fail(sandbox, err.code, "the network of the sandbox could not be set up", err.msg);
    } else if (spawn_vmm(sandbox, &err) < 0) {
        fail(sandbox, err.code, "the VMM could not be started", err.msg);
    } else {
        sandbox_work(sandbox, run_join, on_joined);
    }
}

/* ---- 2. files -------------------------------------------------------------------- */

static void run_prepare(struct sandbox *sandbox)
{
    const struct node_sandbox_spec *spec = &sandbox->pub.spec;
    const struct node_cgroup_limits limits = {
        .cpu_percent = spec->cpus * 100u + SANDBOX_CPU_EXTRA_PERCENT,
        .memory_bytes = (uint64_t)(spec->memory_mb + SANDBOX_OVERHEAD_MB) << 20,
        .pids = SANDBOX_PIDS_MAX,
    };

    sandbox->job_rc = files_prepare(sandbox, &sandbox->job_err);
    if (sandbox->job_rc == 0) {
        sandbox->job_rc = node_cgroup_create(&sandbox->pub.manager->cgroups, sandbox->pub.id,
                                             &limits, &sandbox->job_err);
    }
}

static void on_prepared(struct sandbox *sandbox)
{
    if (sandbox->job_rc < 0) {
        fail(sandbox, sandbox->job_rc, "the sandbox could not be prepared", sandbox->job_err.msg);
        return;
    }
    start_vmm(sandbox);
}

/* ---- 1. the queue ---------------------------------------------------------------- */

static void on_limit(uv_timer_t *timer)
{
    struct sandbox *sandbox = timer->data;
    char line[NODE_REASON_MAX / 2];

    files_last_line(sandbox, FILES_CONSOLE, line, sizeof(line));
    sandbox_end(sandbox, NODE_SANDBOX_ERROR, -ETIMEDOUT,
                "the guest did not become ready within %u s%s%s%s",
                sandbox->pub.manager->boot_ms / 1000,
                line[0] ? "; last line of its console: '" : "", line, line[0] ? "'" : "");
}

static void boot_begin(struct sandbox *sandbox)
{
    sandbox->booting = true;
    sandbox->pub.manager->booting++;
    (void)uv_timer_start(&sandbox->timer, on_limit, sandbox->pub.manager->boot_ms, 0);
    sandbox_work(sandbox, run_prepare, on_prepared);
}

void boot_enqueue(struct sandbox *sandbox)
{
    sandbox->queued = true;
    shl_list_push_back(&sandbox->pub.manager->boot_queue, &sandbox->queue_node);
    boot_pump(sandbox->pub.manager);
}

void boot_pump(struct node_manager *manager)
{
    struct shl_list *node;

    while (!manager->closing && manager->booting < manager->boots_max &&
           (node = shl_list_first(&manager->boot_queue))) {
        struct sandbox *sandbox = shl_container_of(node, struct sandbox, queue_node);

        shl_list_remove(node);
        sandbox->queued = false;
        boot_begin(sandbox);
    }
}
