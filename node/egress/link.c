/* Happy path:
 *  1. sink.set: the guest is noted as dirty; start: spawn, then connect (node_vmm_link).
 *  2. on_ready -> hello: the ports go into the rules, the process is watched.
 *  3. link_ask.c, one request at a time: authority; once all guests were told here
 * (node_egress_told) mark, every guest, sweep; then what becomes dirty, and stats now and then.
 * What can go wrong: the process ends (on_exit) or does not answer (egress_link_lost kills it): the
 * ports leave the rules, and after a pause it is started anew and told everything. A request
 * that fails is given again later; the guest's rules hold meanwhile.
 */
#include "node/egress/link.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <sodium.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "node/egress/control.h"
#include "node/egress/link_private.h"

#define DIR_MAX        88 /* a socket's name has 107 characters */
#define PEM_MAX        16384
#define USER_BASE      0x70000000u /* as for VMMs; this one bears the first address of the pool */
#define TICK_MS        500
#define TRUST_MS       2000 /* between looks at the file of certificates */
#define RESTART_MIN_MS 200
#define RESTART_MAX_MS 10000
#define ANSWER_MS      10000 /* to connect to a process that was started */

/* ---- the process ----------------------------------------------------------------- */

static void handle_gone(void *arg)
{
    struct node_egress *egress = arg;
    void (*cb)(void *arg) = egress->close_cb;
    void *cb_arg = egress->close_arg;
    struct shl_list *it, *tmp;

    if (--egress->handles > 0 || !egress->closing) {
        return;
    }
    SHL_LIST_FOREACH_SAFE(it, tmp, &egress->guests) {
        struct guest *guest = shl_container_of(it, struct guest, node);

        egress_link_forget(egress, guest);
    }
    sodium_free(egress->pem);
    free(egress->trust_file);
    free(egress);
    if (cb) {
        cb(cb_arg);
    }
}

void egress_link_set_ports(struct node_egress *egress, const struct node_net_ports *ports)
{
    struct shl_err err = {0};

    if (node_net_set_gateway(egress->net, ports, &err) < 0) {
        SHL_LOG(egress->log, SHL_LOG_ERROR, "egress.rules_failed", SHL_S("error", err.msg));
    }
}

static void close_link(struct node_egress *egress)
{
    if (egress->link) {
        struct node_vmm_link *link = egress->link;

        egress->link = NULL;
        node_vmm_link_close(link, handle_gone, egress);
    }
    egress->phase = PHASE_DOWN;
}

static void close_process(struct node_egress *egress)
{
    if (egress->process) {
        struct node_process *process = egress->process;

        egress->process = NULL;
        egress->pid = 0;
        node_process_close(process, handle_gone, egress);
    }
}

/* The pause grows while it keeps ending soon after its start. */
static void went_down(struct node_egress *egress, const char *reason)
{
    const struct node_net_ports none = {.tcp = 0};
    uint64_t now_ms = uv_now(egress->loop);

    SHL_LOG(egress->log, SHL_LOG_WARN, "egress.ended", SHL_S("reason", reason),
            SHL_S("effect", "guests with secret stores reach nothing until it is back, and none "
                            "the metadata service"));
    if (now_ms - egress->started_ms > 60000) {
        egress->restart_ms = RESTART_MIN_MS;
    }
    egress->start_at_ms = now_ms + egress->restart_ms;
    egress->restart_ms = SHL_MIN(egress->restart_ms * 2, RESTART_MAX_MS);
    egress->restarts++;
    close_link(egress);
    close_process(egress);
    egress_link_set_ports(egress, &none);
}

static void on_exit_of(void *arg, bool known, int64_t status, int signal)
{
    struct node_egress *egress = arg;
    char reason[64] = "it ended";

    if (known) {
        (void)snprintf(reason, sizeof(reason), "status %d, signal %d", (int)status, signal);
    }
    went_down(egress, reason);
}

void egress_link_lost(void *arg, const char *msg)
{
    struct node_egress *egress = arg;

    if (egress->process) {
        (void)node_process_signal(egress->process, SIGKILL);
    }
    went_down(egress, msg);
}

static void on_ready(void *arg)
{
    struct node_egress *egress = arg;

    egress->phase = PHASE_HELLO;
    egress->asked = false;
    egress_link_pump(egress);
}

static int open_link(struct node_egress *egress)
{
    char path[PATH_MAX];
    const struct node_vmm_link_config config = {
        .socket_path = path,
        .give_up_ms = ANSWER_MS,
        .on_ready = on_ready,
        .on_lost = egress_link_lost,
        .on_event = egress_link_event,
        .arg = egress,
    };
    int rc;

    (void)snprintf(path, sizeof(path), "%s/%s", egress->dir, EGRESS_CONTROL_SOCKET);
    rc = node_vmm_link_open(egress->loop, &config, &egress->link);
    if (rc == 0) {
        egress->handles++;
    }
    return rc;
}

static int spawn(struct node_egress *egress, struct shl_err *err)
{
    static char dir[] = "--dir", dns[] = "--dns", uid[] = "--uid", gid[] = "--gid";
    static char trust[] = "--trust";
    char address[NODE_ADDRESS_SIZE], user[16];
    char *args[14], path[PATH_MAX];
    size_t n = 0;
    int rc;

    (void)snprintf(path, sizeof(path), "%s/%s", egress->dir, EGRESS_CONTROL_SOCKET);
    (void)unlink(path); /* so that nobody connects to what a dead one left */
    node_address_format(address, node_net_dns(egress->net));
    (void)snprintf(user, sizeof(user), "%u",
                   USER_BASE + (node_net_pool_base(egress->net) & 0x0fffffff));
    args[n++] = egress->program;
    args[n++] = dir;
    args[n++] = egress->dir;
    args[n++] = uid;
    args[n++] = user;
    args[n++] = gid;
    args[n++] = user;
    if (node_net_dns(egress->net) != 0) {
        args[n++] = dns;
        args[n++] = address;
    }
    args[n++] = trust;
    args[n++] = egress->trust_file;
    args[n] = NULL;
    rc = node_process_spawn(egress->loop, args, STDERR_FILENO, on_exit_of, egress, &egress->process,
                            err);
    if (rc == 0) {
        egress->handles++;
        egress->pid = node_process_id(egress->process)->pid;
    }
    return rc;
}

static void start(struct node_egress *egress)
{
    struct shl_err err = {0};

    egress->started_ms = uv_now(egress->loop);
    if (spawn(egress, &err) < 0) {
        went_down(egress, err.msg);
        return;
    }
    if (open_link(egress) < 0) {
        egress_link_lost(egress, "its control socket cannot be reached");
    }
}

/* The process of a former daemon that listens; 0: none does. It reads what guests send, so the
 * kernel is asked and not it: what is said to be it may be killed. */
static pid_t find_running(const struct node_egress *egress)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer = {.pid = 0};
    socklen_t len = sizeof(peer);
    SHL_CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.88s/%s", egress->dir,
                   EGRESS_CONTROL_SOCKET);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0) {
        return 0;
    }
    return peer.pid;
}

/* False when there is none, or it has just ended: then one is started when it is needed. */
static bool adopt_process(struct node_egress *egress)
{
    struct node_process_id id = {.pid = find_running(egress)};
    struct shl_err err = {0};

    if (id.pid <= 0 || node_process_start_ticks(id.pid, &id.start_ticks) < 0 ||
        node_process_adopt(egress->loop, &id, on_exit_of, egress, &egress->process, &err) < 0) {
        return false;
    }
    egress->handles++;
    egress->pid = id.pid;
    SHL_LOG(egress->log, SHL_LOG_INFO, "egress.adopted", SHL_I("pid", id.pid));
    return true;
}

static bool has_guests(const struct node_egress *egress)
{
    const struct shl_list *it;

    SHL_LIST_FOREACH(it, &egress->guests) {
        if (!shl_container_of(it, struct guest, node)->gone) {
            return true;
        }
    }
    return false;
}

/* update-ca-certificates puts another file in its place. */
static void look_at_trust(struct node_egress *egress)
{
    const struct stat *seen = &egress->trust_seen;
    struct stat now = {0};

    if (uv_now(egress->loop) < egress->trust_look_ms) {
        return;
    }
    egress->trust_look_ms = uv_now(egress->loop) + TRUST_MS;
    if (stat(egress->trust_file, &now) == 0 &&
        (now.st_ino != seen->st_ino || now.st_size != seen->st_size ||
         now.st_mtim.tv_sec != seen->st_mtim.tv_sec ||
         now.st_mtim.tv_nsec != seen->st_mtim.tv_nsec)) {
        egress->trust_seen = now;
        egress->trust_dirty = true;
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct node_egress *egress = timer->data;

    look_at_trust(egress);

    if (egress->told && egress->phase == PHASE_DOWN && !egress->link && !egress->process &&
        uv_now(egress->loop) >= egress->start_at_ms) {
        start(egress);
    }
    egress_link_pump(egress);
}

/* ---- the sink -------------------------------------------------------------------- */

static void set_class(struct node_egress *egress, uint32_t address, enum node_net_egress how)
{
    struct shl_err err = {0};
    uint32_t slot;

    if (node_net_slot_of(egress->net, address, &slot) < 0) {
        return;
    }
    if (node_net_set_egress(egress->net, slot, how, &err) < 0) {
        SHL_LOG(egress->log, SHL_LOG_ERROR, "egress.rules_failed", SHL_S("error", err.msg));
    }
}

static void on_drop(void *arg, uint32_t address)
{
    struct node_egress *egress = arg;
    struct guest *guest = egress_link_find(egress, address);

    if (guest) {
        node_egress_policy_release(&guest->policy);
        guest->gone = guest->dirty = true;
        egress_link_pump(egress);
    }
}

static void on_set(void *arg,
                   uint32_t address,
                   const char *sandbox,
                   const struct node_egress_facts *facts,
                   struct node_egress_policy *policy)
{
    struct node_egress *egress = arg;
    struct guest *guest = egress_link_find(egress, address);

    /* first the rules: nothing slips out while the gateway does not know yet */
    set_class(egress, address,
              !policy->is_open           ? NODE_NET_EGRESS_LIMITED
              : policy->secret_count > 0 ? NODE_NET_EGRESS_WATCHED
                                         : NODE_NET_EGRESS_DIRECT);
    if (!guest) {
        guest = calloc(1, sizeof(*guest));
        if (!guest) {
            /* the rules hold: it reaches nothing rather than everything */
            node_egress_policy_release(policy);
            return;
        }
        guest->address = address;
    } else {
        shl_list_remove(&guest->node);
    }
    shl_list_push_front(&egress->guests, &guest->node);
    if (node_egress_policy_keep(policy, &guest->policy) < 0) {
        SHL_LOG(egress->log, SHL_LOG_ERROR, "egress.value_not_kept",
                SHL_S("reason", "there is no memory for the values of a deleted store"));
    }
    (void)snprintf(guest->sandbox, sizeof(guest->sandbox), "%s", sandbox);
    node_egress_policy_release(&guest->policy);
    guest->policy = *policy;
    memset(policy, 0, sizeof(*policy));
    guest->facts = *facts;
    guest->dirty = true;
    guest->gone = false;
    egress_link_pump(egress);
}

static void on_figures(void *arg,
                       uint32_t address,
                       const char *sandbox,
                       const struct node_egress_figures *figures)
{
    struct node_egress *egress = arg;
    struct guest *guest = egress_link_find(egress, address);

    if (!guest || guest->gone || strcmp(guest->sandbox, sandbox) != 0) {
        return;
    }
    egress->answers += !guest->answer;
    guest->answer = true;
    guest->figures_known = figures != NULL;
    if (figures) {
        guest->figures = *figures;
    }
    egress_link_pump(egress);
}

static void set_ask(void *arg, node_egress_ask ask, void *ask_arg)
{
    struct node_egress *egress = arg;

    egress->ask = ask;
    egress->ask_arg = ask_arg;
}

struct node_egress_sink node_egress_sink(struct node_egress *egress)
{
    return (struct node_egress_sink){
        .set = on_set, .drop = on_drop, .figures = on_figures, .on_ask = set_ask, .arg = egress};
}

void node_egress_told(struct node_egress *egress)
{
    egress->told = true;
    if (egress->phase == PHASE_DOWN && !egress->link && !egress->process) {
        start(egress);
    }
    egress_link_pump(egress);
}

int node_egress_set_authority(struct node_egress *egress, struct shl_bytes pem)
{
    uint8_t *copy;

    if (pem.len == 0 || pem.len > PEM_MAX) {
        return SHL_ELIMIT;
    }
    copy = sodium_malloc(pem.len);
    if (!copy) {
        return -ENOMEM;
    }
    memcpy(copy, pem.base, pem.len);
    sodium_free(egress->pem);
    egress->pem = copy;
    egress->pem_len = pem.len;
    egress->pem_dirty = true;
    egress_link_pump(egress);
    return 0;
}

/* ---- opening, closing, figures --------------------------------------------------- */

static int fill(struct node_egress *egress,
                const struct node_egress_config *config,
                struct shl_err *err)
{
    int rc;

    char *real;

    if (snprintf(egress->dir, sizeof(egress->dir), "%s/egress", config->run_dir) >=
            (int)sizeof(egress->dir) ||
        snprintf(egress->program, sizeof(egress->program), "%s", config->program_path) >=
            (int)sizeof(egress->program)) {
        return shl_err_set(err, -ENAMETOOLONG, "--run is too long");
    }
    rc = shl_mkdir_all(egress->dir, 0700);
    real = rc < 0 ? NULL : realpath(egress->dir, NULL); /* it is started somewhere else */
    if (!real) {
        return shl_err_sys(err, rc < 0 ? -rc : errno, "cannot make the folder %s", egress->dir);
    }
    rc = snprintf(egress->dir, sizeof(egress->dir), "%s", real) > DIR_MAX ? -ENAMETOOLONG : 0;
    free(real);
    if (rc < 0) {
        return shl_err_set(err, rc, "--run is too long for a socket in it");
    }
    egress->trust_file = strdup(config->trust_file ? config->trust_file : EGRESS_TRUST_DEFAULT);
    egress->allow_private = config->allow_private;
    egress->allow_private_count = config->allow_private_count;
    return egress->trust_file ? 0 : shl_err_sys(err, ENOMEM, "cannot set up the egress gateway");
}

int node_egress_open(uv_loop_t *loop,
                     const struct node_egress_config *config,
                     struct node_egress **ret,
                     struct shl_err *err)
{
    struct node_egress *egress = calloc(1, sizeof(*egress));
    int rc;

    if (!egress || sodium_init() < 0) {
        free(egress);
        return shl_err_sys(err, ENOMEM, "cannot set up the egress gateway");
    }
    egress->loop = loop;
    egress->net = config->net;
    egress->log = config->log;
    egress->restart_ms = RESTART_MIN_MS;
    shl_list_init(&egress->guests);
    rc = fill(egress, config, err);
    if (rc < 0) {
        free(egress->trust_file);
        free(egress);
        return rc;
    }
    (void)uv_timer_init(loop, &egress->timer);
    egress->timer.data = egress;
    egress->handles = 1;
    (void)uv_timer_start(&egress->timer, on_timer, TICK_MS, TICK_MS);
    if (adopt_process(egress) && open_link(egress) < 0) {
        egress_link_lost(egress, "its control socket cannot be reached");
    }
    *ret = egress;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    handle_gone(handle->data);
}

void node_egress_close(struct node_egress *egress, void (*cb)(void *arg), void *arg)
{
    if (!egress) {
        cb(arg);
        return;
    }
    egress->closing = true;
    egress->close_cb = cb;
    egress->close_arg = arg;
    if (egress->process && egress->told && !has_guests(egress)) {
        (void)node_process_signal(egress->process, SIGTERM);
    }
    close_link(egress);
    close_process(egress);
    uv_close((uv_handle_t *)&egress->timer, on_timer_closed);
}

int node_egress_metrics(const struct node_egress *egress, struct shl_buf *out)
{
    size_t i;
    int rc = shl_buf_printf(out,
                            "# TYPE shoal_egress_up gauge\nshoal_egress_up %d\n"
                            "# TYPE shoal_egress_restarts_total counter\n"
                            "shoal_egress_restarts_total %llu\n",
                            egress->phase >= PHASE_MARK, (unsigned long long)egress->restarts);

    for (i = 0; i < EGRESS_STATS && rc == 0; i++) {
        bool gauge = i + EGRESS_STATS_GAUGES >= EGRESS_STATS;

        rc = shl_buf_printf(out, "# TYPE shoal_egress_%s%s %s\nshoal_egress_%s%s %llu\n",
                            egress_link_stats[i], gauge ? "" : "_total",
                            gauge ? "gauge" : "counter", egress_link_stats[i],
                            gauge ? "" : "_total", (unsigned long long)egress->stats[i]);
    }
    return rc;
}

pid_t node_egress_pid(const struct node_egress *egress)
{
    return egress->phase == PHASE_READY ? egress->pid : 0;
}

uint32_t node_egress_guests(const struct node_egress *egress)
{
    return egress->phase == PHASE_READY ? (uint32_t)egress->stats[EGRESS_STATS - 1] : 0;
}
