/* What this node says of itself: its figures, the templates it can start from, its
 * sandboxes and checkpoints. Each is one gossiped record, written when it changed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/io.h"
#include "base/mp.h"
#include "node/cluster/cluster_private.h"
#include "node/cluster/owners.h"
#include "node/sandbox/checkpoints.h"

#define LOAD_STEP          50 /* permille: smaller changes of load are not worth a message */
#define PROC_MAX           65536
#define TEMPLATES_EVERY_MS 3000

/* ---- records --------------------------------------------------------------------- */

/* Nothing is sent when the record is as it was. */
static void put(struct cluster *c, const char *key, struct shl_buf *buf)
{
    const struct gossip_record *old =
        c->gossip ? gossip_record_get(c->gossip, &c->keys.id, key) : NULL;

    if (!c->gossip || (old && old->value.len == shl_buf_len(buf) &&
                       memcmp(old->value.base, shl_buf_data(buf), old->value.len) == 0)) {
        return;
    }
    cluster_members_set(c, key, shl_buf_bytes(buf));
}

static void make_key(char key[GOSSIP_RECORD_KEY_MAX + 1], const char *prefix, const char *id)
{
    (void)snprintf(key, GOSSIP_RECORD_KEY_MAX + 1, "%s%s", prefix, id);
}

static void on_sandbox(void *arg, const struct node_sandbox *sandbox, bool is_gone)
{
    struct cluster *c = arg;
    char key[GOSSIP_RECORD_KEY_MAX + 1];
    struct shl_buf buf;

    cluster_owners_sandbox(c, sandbox, is_gone);
    make_key(key, CLUSTER_KEY_SANDBOX, sandbox->id);
    if (is_gone) {
        cluster_members_unset(c, key);
        return;
    }
    if (c->gossip && !gossip_record_get(c->gossip, &c->keys.id, key)) {
        c->admitted++;
    }
    shl_buf_init(&buf, CLUSTER_RECORD_MAX);
    if (cluster_wire_write_sandbox(&buf, sandbox) == 0) {
        put(c, key, &buf);
    }
    shl_buf_release(&buf);
}

static void on_checkpoint(void *arg, const struct node_checkpoint *checkpoint, bool is_gone)
{
    struct cluster *c = arg;
    char key[GOSSIP_RECORD_KEY_MAX + 1];
    struct shl_mp_writer w;
    struct shl_buf buf;

    make_key(key, CLUSTER_KEY_CHECKPOINT, checkpoint->id);
    if (is_gone) {
        cluster_members_unset(c, key);
        return;
    }
    shl_buf_init(&buf, CLUSTER_RECORD_MAX);
    shl_mp_writer_init(&w, &buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "org", checkpoint->spec.org);
    shl_mp_kv_str(&w, "sandbox", checkpoint->sandbox_id);
    shl_mp_end(&w);
    if (shl_mp_done(&w) == 0) {
        put(c, key, &buf);
    }
    shl_buf_release(&buf);
}

static void put_template(void *arg, const char *name)
{
    struct cluster *c = arg;
    char key[GOSSIP_RECORD_KEY_MAX + 1];
    struct shl_buf buf;

    make_key(key, CLUSTER_KEY_TEMPLATE, name);
    shl_buf_init(&buf, CLUSTER_RECORD_MAX);
    if (shl_buf_append(&buf, "", 1) == 0) {
        put(c, key, &buf);
    }
    shl_buf_release(&buf);
}

/* ---- figures --------------------------------------------------------------------- */

/* Of /proc/loadavg's first number per CPU. */
static uint32_t load_permille(uint32_t cpus)
{
    double load[1] = {0};

    if (getloadavg(load, 1) != 1 || cpus == 0 || load[0] <= 0) {
        return 0;
    }
    load[0] = SHL_MIN(load[0] * 1000 / cpus, 10000.0);
    return (uint32_t)load[0] / LOAD_STEP * LOAD_STEP;
}

/* MemAvailable of /proc/meminfo against MemTotal. */
static uint32_t memory_permille(void)
{
    unsigned long long total = 0, available = 0;
    struct shl_buf text;
    const char *at;

    shl_buf_init(&text, PROC_MAX);
    if (shl_read_file("/proc/meminfo", &text) == 0 && shl_buf_append(&text, "", 1) == 0) {
        at = strstr((const char *)shl_buf_data(&text), "MemTotal:");
        total = at ? strtoull(at + strlen("MemTotal:"), NULL, 10) : 0;
        at = strstr((const char *)shl_buf_data(&text), "MemAvailable:");
        available = at ? strtoull(at + strlen("MemAvailable:"), NULL, 10) : 0;
    }
    shl_buf_release(&text);
    if (total == 0 || available > total) {
        return 0;
    }
    return (uint32_t)((total - available) * 1000 / total) / LOAD_STEP * LOAD_STEP;
}

#define DISK_STEP_MB 1024

static void look_at_disk(const struct cluster *c, struct cluster_figures *f)
{
    struct statvfs fs;

    if (statvfs(c->data_dir, &fs) == 0) {
        f->disk_total_mb = (uint64_t)fs.f_blocks * fs.f_frsize >> 20;
        f->disk_free_mb = ((uint64_t)fs.f_bavail * fs.f_frsize >> 20) / DISK_STEP_MB * DISK_STEP_MB;
    }
}

static void measure(const struct cluster *c, struct cluster_figures *f)
{
    struct node_manager_counts counts;

    node_manager_count(c->manager, &counts);
    memset(f, 0, sizeof(*f));
    (void)snprintf(f->region, sizeof(f->region), "%s", c->region);
    (void)snprintf(f->url, sizeof(f->url), "%s", c->api_url);
    (void)snprintf(f->version, sizeof(f->version), "%s", SHL_VERSION);
    f->sandboxes = counts.running + counts.creating;
    f->sandboxes_max = c->is_witness ? 0 : counts.sandboxes_max;
    f->hibernated = counts.hibernated;
    f->cpus_total = counts.cpus_total;
    f->cpus_committed = counts.cpus_committed;
    f->memory_total_mb = counts.memory_total_mb;
    f->memory_usable_mb = counts.memory_usable_mb;
    f->memory_committed_mb = counts.memory_committed_mb;
    f->load_permille = load_permille(counts.cpus_total);
    f->memory_permille = memory_permille();
    f->admitted = c->admitted;
    look_at_disk(c, f);
}

int cluster_figures_get(const struct cluster *c,
                        const struct shl_node_id *id,
                        struct cluster_figures *ret)
{
    const struct gossip_record *record =
        c->gossip ? gossip_record_get(c->gossip, id, CLUSTER_KEY_NODE) : NULL;

    memset(ret, 0, sizeof(*ret));
    return record ? cluster_wire_read_figures(record->value, ret) : SHL_ENOTFOUND;
}

static void put_figures(struct cluster *c)
{
    struct cluster_figures figures;
    struct shl_buf buf;

    measure(c, &figures);
    shl_buf_init(&buf, CLUSTER_RECORD_MAX);
    if (cluster_wire_write_figures(&buf, &figures) == 0) {
        put(c, CLUSTER_KEY_NODE, &buf);
        cluster_place_seen(c, &c->keys.id, figures.admitted);
    }
    shl_buf_release(&buf);
}

/* ---- life ------------------------------------------------------------------------ */

static void drop_templates(struct cluster *c)
{
    const struct gossip_record *record;
    char key[GOSSIP_RECORD_KEY_MAX + 1];

    for (;;) {
        record = gossip_node_first(c->gossip, &c->keys.id, CLUSTER_KEY_TEMPLATE);
        while (record &&
               node_manager_has_template(c->manager, record->key + strlen(CLUSTER_KEY_TEMPLATE))) {
            record = gossip_node_next(record, CLUSTER_KEY_TEMPLATE);
        }
        if (!record) {
            return;
        }
        (void)snprintf(key, sizeof(key), "%s", record->key);
        cluster_members_unset(c, key);
        if (!c->gossip) {
            return;
        }
    }
}

void cluster_publish_tick(struct cluster *c, uint64_t now_ms)
{
    if (!c->gossip) {
        return;
    }
    put_figures(c);
    if (c->is_witness || now_ms < c->templates_at_ms) {
        return;
    }
    c->templates_at_ms = now_ms + TEMPLATES_EVERY_MS;
    node_manager_each_template(c->manager, put_template, c);
    if (c->gossip) {
        drop_templates(c);
    }
}

void cluster_publish_open(struct cluster *c)
{
    static const struct node_manager_watch watch = {on_sandbox, on_checkpoint};

    node_manager_set_watch(c->manager, &watch, c);
    c->admitted = 0; /* those of before are no admissions */
    cluster_publish_tick(c, cluster_now_ms());
}

void cluster_publish_close(struct cluster *c)
{
    node_manager_set_watch(c->manager, NULL, NULL);
}
