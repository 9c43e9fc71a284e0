/* What the gateway is told, one request at a time (control.h). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"
#include "node/egress/control.h"
#include "node/egress/link_private.h"
#include "node/egress/policy.h"

#define STATS_MS 5000

const char *const egress_link_stats[EGRESS_STATS] = {
    "accepted",    "refused",    "spliced",   "intercepted", "plain_http",      "replaced",
    "over_limit",  "unverified", "bytes_out", "bytes_in",    "upstream_failed", "dns_passed",
    "dns_refused", "metadata",   "open",      "guests",
};

/* ---- requests -------------------------------------------------------------------- */

static int to_memory_file(struct shl_bytes bytes)
{
    int fd = memfd_create("egress", MFD_CLOEXEC);

    if (fd >= 0 && shl_write_full(fd, bytes.base, bytes.len) < 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static int policy_file(const struct node_egress_policy *policy)
{
    struct shl_buf bytes;
    int fd = -1;

    shl_buf_init(&bytes, EGRESS_POLICY_BYTES_MAX);
    if (egress_policy_write(policy, &bytes) == 0) {
        fd = to_memory_file(shl_buf_bytes(&bytes));
    }
    shl_buf_wipe(&bytes);
    return fd;
}

static void on_hello(struct node_egress *egress, const msgpack_object *reply)
{
    struct node_net_ports ports;
    uint64_t version, port, dns_port, metadata_port;

    if (shl_mp_get_uint(reply, "version", UINT32_MAX, &version) < 0 ||
        shl_mp_get_uint(reply, "port", UINT16_MAX, &port) < 0 ||
        shl_mp_get_uint(reply, "dns_port", UINT16_MAX, &dns_port) < 0) {
        egress_link_lost(egress, "it does not say who it is");
        return;
    }
    if (version != EGRESS_CONTROL_VERSION ||
        shl_mp_get_uint(reply, "metadata_port", UINT16_MAX, &metadata_port) < 0) {
        egress_link_lost(egress, "it is of another version");
        return;
    }
    ports = (struct node_net_ports){(uint16_t)port, (uint16_t)dns_port, (uint16_t)metadata_port};
    egress_link_set_ports(egress, &ports);
    egress->phase = PHASE_MARK;
    egress->pem_dirty = egress->pem != NULL;
    egress->private_dirty = true; /* one of a former daemon may have other ones */
    egress->trust_dirty = true;
}

static void mark_all(struct node_egress *egress)
{
    struct shl_list *it, *tmp;

    SHL_LIST_FOREACH_SAFE(it, tmp, &egress->guests) {
        struct guest *guest = shl_container_of(it, struct guest, node);

        guest->dirty = true;
        if (guest->gone) { /* what is not named goes anyway */
            egress_link_forget(egress, guest);
        }
    }
}

static void take_stats(struct node_egress *egress, const msgpack_object *reply)
{
    size_t i;

    for (i = 0; i < EGRESS_STATS; i++) {
        if (shl_mp_get_uint(reply, egress_link_stats[i], UINT64_MAX, &egress->stats[i]) < 0) {
            egress->stats[i] = 0;
        }
    }
}

enum ask {
    ASK_HELLO,
    ASK_AUTHORITY,
    ASK_TRUST,
    ASK_PRIVATE,
    ASK_MARK,
    ASK_GUEST,
    ASK_DROP,
    ASK_FIGURES,
    ASK_SWEEP,
    ASK_STATS,
};

static const char *const ops[] = {"hello", "authority", "trust",   "private", "mark",
                                  "guest", "drop",      "figures", "sweep",   "stats"};

struct question {
    struct node_egress *egress;
    enum ask what;
    uint32_t address;
    char sandbox[NODE_SANDBOX_ID_SIZE];
    struct node_egress_facts facts;     /* ASK_GUEST */
    struct node_egress_figures figures; /* ASK_FIGURES */
    bool figures_known;
};

struct guest *egress_link_find(struct node_egress *egress, uint32_t address)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &egress->guests) {
        struct guest *guest = shl_container_of(it, struct guest, node);

        if (guest->address == address) {
            return guest;
        }
    }
    return NULL;
}

void egress_link_forget(struct node_egress *egress, struct guest *guest)
{
    egress->answers -= guest->answer;
    shl_list_remove(&guest->node);
    node_egress_policy_release(&guest->policy);
    free(guest);
}

/* From a process that reads what guests send: what it says is not believed, only looked up. */
void egress_link_event(void *arg, const msgpack_object *event)
{
    struct node_egress *egress = arg;
    char what[16], sandbox[NODE_SANDBOX_ID_SIZE];
    const struct guest *guest;
    uint64_t address;

    if (shl_mp_get_cpy(event, "event", what, sizeof(what)) < 0 || strcmp(what, "figures") != 0 ||
        shl_mp_get_uint(event, "address", UINT32_MAX, &address) < 0 ||
        shl_mp_get_cpy(event, "sandbox", sandbox, sizeof(sandbox)) < 0) {
        return;
    }
    guest = egress_link_find(egress, (uint32_t)address);
    if (guest && !guest->gone && strcmp(guest->sandbox, sandbox) == 0 && egress->ask) {
        egress->ask(egress->ask_arg, guest->address, guest->sandbox);
    }
}

/* Something that changed while it was told is dirty again, and told again. */
static void succeeded(struct question *question, const msgpack_object *reply)
{
    struct node_egress *egress = question->egress;
    struct guest *guest;

    switch (question->what) {
    case ASK_HELLO:
        on_hello(egress, reply);
        break;
    case ASK_MARK:
        egress->phase = PHASE_GUESTS;
        mark_all(egress);
        break;
    case ASK_SWEEP:
        egress->phase = PHASE_READY;
        egress->stats_at_ms = 0;
        break;
    case ASK_STATS:
        take_stats(egress, reply);
        break;
    case ASK_DROP:
        guest = egress_link_find(egress, question->address);
        if (guest && guest->gone) {
            egress_link_forget(egress, guest);
        }
        egress->stats_at_ms = 0;
        break;
    case ASK_GUEST:
        egress->stats_at_ms = 0;
        break;
    case ASK_AUTHORITY:
    case ASK_TRUST:
    case ASK_PRIVATE:
    case ASK_FIGURES:
        break;
    }
}

static void failed(struct question *question, const char *msg)
{
    struct node_egress *egress = question->egress;
    struct guest *guest = egress_link_find(egress, question->address);

    SHL_LOG(egress->log, SHL_LOG_WARN, "egress.request_failed", SHL_S("op", ops[question->what]),
            SHL_S("error", msg));
    if (question->what == ASK_GUEST && guest) {
        guest->dirty = true;
        shl_list_remove(&guest->node); /* the others must not wait for it */
        shl_list_push_back(&egress->guests, &guest->node);
    } else if (question->what == ASK_AUTHORITY) {
        egress->pem_dirty = true;
    }
}

static void on_reply(void *arg, int code, const char *msg, const msgpack_object *reply)
{
    struct question *question = arg;
    struct node_egress *egress = question->egress;

    egress->asked = false;
    if (code == 0) {
        succeeded(question, reply);
        free(question);
        if (!egress->closing) {
            egress_link_pump(egress);
        }
        return;
    }
    if (code != SHL_EGONE && code != SHL_EUNAVAILABLE) {
        failed(question, msg); /* given again with the next tick */
    }
    free(question);
}

static void add_fields(void *arg, struct shl_mp_writer *w)
{
    const struct question *question = arg;

    if (question->what == ASK_GUEST || question->what == ASK_DROP ||
        question->what == ASK_FIGURES) {
        shl_mp_kv_uint(w, "address", question->address);
    }
    if (question->what == ASK_GUEST || question->what == ASK_FIGURES) {
        shl_mp_kv_str(w, "sandbox", question->sandbox);
    }
    if (question->what == ASK_PRIVATE) {
        size_t i;

        shl_mp_kv_array(w, "prefixes");
        for (i = 0; i < question->egress->allow_private_count; i++) {
            shl_mp_str(w, question->egress->allow_private[i]);
        }
        shl_mp_end(w);
    }
    if (question->what == ASK_GUEST) {
        shl_mp_kv_str(w, "region", question->facts.region);
        shl_mp_kv_str(w, "template", question->facts.template_name);
        shl_mp_kv_uint(w, "memory_bytes", question->facts.memory_bytes);
        shl_mp_kv_uint(w, "began_ms", question->facts.began_ms);
    }
    if (question->what == ASK_FIGURES && question->figures_known) {
        shl_mp_kv_uint(w, "cpu_permille", question->figures.cpu_permille);
        shl_mp_kv_uint(w, "memory_used_bytes", question->figures.memory_used_bytes);
        shl_mp_kv_uint(w, "processes", question->figures.processes);
        shl_mp_kv_uint(w, "net_in_bytes", question->figures.net_in_bytes);
        shl_mp_kv_uint(w, "net_out_bytes", question->figures.net_out_bytes);
    }
}

/* 0 when it is under way. */
static int ask(struct node_egress *egress, enum ask what, struct guest *guest)
{
    struct node_vmm_fd file = {.name = "data", .fd = -1};
    struct question *question = calloc(1, sizeof(*question));
    int rc = question ? 0 : -ENOMEM;

    if (rc == 0) {
        question->egress = egress;
        question->what = what;
        if (guest) {
            question->address = guest->address;
            (void)snprintf(question->sandbox, sizeof(question->sandbox), "%s", guest->sandbox);
            question->facts = guest->facts;
            question->figures = guest->figures;
            question->figures_known = guest->figures_known;
        }
        if (what == ASK_GUEST) {
            file.fd = policy_file(&guest->policy);
        } else if (what == ASK_AUTHORITY) {
            file.fd = to_memory_file(shl_bytes_of(egress->pem, egress->pem_len));
        }
        if (what == ASK_TRUST) {
            file.fd = open(egress->trust_file, O_RDONLY | O_CLOEXEC);
        }
        rc = (what == ASK_GUEST || what == ASK_AUTHORITY || what == ASK_TRUST) && file.fd < 0
                 ? -ENOMEM
                 : 0;
    }
    if (rc == 0) {
        rc = node_vmm_link_request(egress->link, ops[what], add_fields, &file, file.fd >= 0 ? 1 : 0,
                                   on_reply, question);
    }
    if (file.fd >= 0) {
        (void)close(file.fd);
    }
    if (rc < 0) {
        free(question);
        return rc;
    }
    egress->asked = true;
    return 0;
}

static struct guest *next_dirty(struct node_egress *egress)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &egress->guests) {
        struct guest *guest = shl_container_of(it, struct guest, node);

        if (guest->dirty) {
            return guest;
        }
    }
    return NULL;
}

static struct guest *next_answer(struct node_egress *egress)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &egress->guests) {
        struct guest *guest = shl_container_of(it, struct guest, node);

        if (guest->answer) {
            return guest;
        }
    }
    return NULL;
}

/* One that fails is not given again: whoever waits is told that there was no answer. */
static void answer(struct node_egress *egress)
{
    struct guest *guest = next_answer(egress);

    guest->answer = false;
    egress->answers--;
    (void)ask(egress, ASK_FIGURES, guest);
}

void egress_link_pump(struct node_egress *egress)
{
    struct guest *guest;

    if (egress->asked || egress->phase == PHASE_DOWN || !node_vmm_link_is_ready(egress->link)) {
        return;
    }
    if (egress->phase == PHASE_HELLO) {
        (void)ask(egress, ASK_HELLO, NULL);
        return;
    }
    if (egress->pem_dirty) {
        egress->pem_dirty = ask(egress, ASK_AUTHORITY, NULL) < 0;
        return;
    }
    if (egress->private_dirty) {
        egress->private_dirty = ask(egress, ASK_PRIVATE, NULL) < 0;
        return;
    }
    if (egress->trust_dirty) { /* without the file it goes on with what it has */
        egress->trust_dirty = false;
        if (ask(egress, ASK_TRUST, NULL) == 0) {
            return;
        }
    }
    if (egress->phase == PHASE_MARK) {
        if (egress->told) { /* until then it serves those that it has */
            (void)ask(egress, ASK_MARK, NULL);
        }
        return;
    }
    guest = next_dirty(egress);
    if (guest) {
        guest->dirty = ask(egress, guest->gone ? ASK_DROP : ASK_GUEST, guest) < 0;
        shl_list_remove(&guest->node); /* behind those that are still to be told */
        shl_list_push_back(&egress->guests, &guest->node);
        return;
    }
    if (egress->answers > 0) {
        answer(egress);
        return;
    }
    if (egress->phase == PHASE_GUESTS) {
        (void)ask(egress, ASK_SWEEP, NULL);
    } else if (uv_now(egress->loop) >= egress->stats_at_ms) {
        egress->stats_at_ms = uv_now(egress->loop) + STATS_MS;
        (void)ask(egress, ASK_STATS, NULL);
    }
}
