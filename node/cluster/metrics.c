/* Lines of /metrics about mesh, gossip, log and replicated state. Totals only: a line per peer
 * would grow with the cluster on every node. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "node/cluster/cluster_private.h"
#include "node/cluster/replicas.h"

/* The heading of a metric; its values follow. */
static int head(struct shl_buf *out, const char *name, const char *type, const char *help)
{
    return shl_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static int value(struct shl_buf *out,
                 const char *name,
                 const char *label,
                 const char *text,
                 uint64_t number)
{
    return shl_buf_printf(out, "%s{%s=\"%s\"} %" PRIu64 "\n", name, label, text, number);
}

struct metric {
    const char *name;
    const char *type;
    const char *help;
    const char *label; /* NULL: one value without */
    struct metric_value {
        const char *text;
        uint64_t number;
    } values[10]; /* up to the first without a text; of one without a label only the first */
};

static int write_metric(struct shl_buf *out, const struct metric *m)
{
    int rc = head(out, m->name, m->type, m->help);
    size_t i;

    if (rc == 0 && !m->label) {
        return shl_buf_printf(out, "%s %" PRIu64 "\n", m->name, m->values[0].number);
    }
    for (i = 0; rc == 0 && i < SHL_ARRAY_SIZE(m->values) && m->values[i].text; i++) {
        rc = value(out, m->name, m->label, m->values[i].text, m->values[i].number);
    }
    return rc;
}

static int write_metrics(struct shl_buf *out, const struct metric *metrics, size_t count)
{
    int rc = 0;
    size_t i;

    for (i = 0; rc == 0 && i < count; i++) {
        rc = write_metric(out, &metrics[i]);
    }
    return rc;
}

/* ---- mesh ------------------------------------------------------------------------ */

static int write_refusals(struct shl_buf *out,
                          const char *name,
                          const char *help,
                          const uint64_t counts[NODE_MESH_REFUSAL_COUNT])
{
    int rc = head(out, name, "counter", help);
    unsigned i;

    for (i = 0; rc == 0 && i < NODE_MESH_REFUSAL_COUNT; i++) {
        rc = value(out, name, "why", node_mesh_refusal_name((enum node_mesh_refusal)i), counts[i]);
    }
    return rc;
}

static int write_links(struct shl_buf *out, const struct node_mesh_stats *s)
{
    const struct metric metrics[] = {
        {"shoal_mesh_peers",
         "gauge",
         "Nodes that this one keeps links to.",
         NULL,
         {{"", s->peers}}},
        {"shoal_mesh_links_up",
         "gauge",
         "Links that work in both directions.",
         NULL,
         {{"", s->links_up}}},
        {"shoal_mesh_links_lost_total",
         "counter",
         "Links that broke.",
         NULL,
         {{"", s->links_lost}}},
        {"shoal_mesh_dials_total", "counter", "Connections begun.", NULL, {{"", s->dials}}},
        {"shoal_mesh_dials_failed_total",
         "counter",
         "Connections that led to no link.",
         NULL,
         {{"", s->dials_failed}}},
    };

    return write_metrics(out, metrics, SHL_ARRAY_SIZE(metrics));
}

static int write_traffic(struct shl_buf *out, const struct node_mesh_stats *s)
{
    const struct metric metrics[] = {
        {"shoal_mesh_messages_total",
         "counter",
         "Control messages.",
         "direction",
         {{"in", s->messages_in}, {"out", s->messages_out}}},
        {"shoal_mesh_bytes_total",
         "counter",
         "Bytes of control messages.",
         "direction",
         {{"in", s->bytes_in}, {"out", s->bytes_out}}},
        {"shoal_mesh_stream_bytes_total",
         "counter",
         "Bytes carried by streams.",
         "direction",
         {{"in", s->stream_bytes_in}, {"out", s->stream_bytes_out}}},
        {"shoal_mesh_dropped_total",
         "counter",
         "Messages that were not sent: queue full or link lost.",
         NULL,
         {{"", s->dropped}}},
        {"shoal_mesh_unknown_total",
         "counter",
         "Messages of a kind that is not known.",
         NULL,
         {{"", s->unknown}}},
        {"shoal_mesh_stale_total",
         "counter",
         "Messages of connections, calls or streams that had ended.",
         NULL,
         {{"", s->stale}}},
        {"shoal_mesh_calls",
         "gauge",
         "Calls under way.",
         "direction",
         {{"in", s->calls_in}, {"out", s->calls_out}}},
        {"shoal_mesh_calls_failed_total",
         "counter",
         "Calls without an answer in time.",
         NULL,
         {{"", s->calls_failed}}},
        {"shoal_mesh_calls_late_total",
         "counter",
         "Calls answered when nobody waited any more.",
         NULL,
         {{"", s->calls_late}}},
        {"shoal_mesh_streams", "gauge", "Streams under way.", NULL, {{"", s->streams}}},
        {"shoal_mesh_streams_opened_total",
         "counter",
         "Streams begun.",
         NULL,
         {{"", s->streams_opened}}},
        {"shoal_mesh_streams_cut_total",
         "counter",
         "Streams that ended before their end.",
         NULL,
         {{"", s->streams_cut}}},
        {"shoal_mesh_queue_bytes",
         "gauge",
         "Bytes that wait, over all peers.",
         "queue",
         {{"control", s->control_queue_bytes},
          {"send", s->send_queue_bytes},
          {"receive", s->receive_queue_bytes}}},
    };

    return write_metrics(out, metrics, SHL_ARRAY_SIZE(metrics));
}

static int write_mesh(const struct cluster *c, struct shl_buf *out)
{
    struct node_mesh_stats stats;
    int rc;

    node_mesh_stats(c->mesh, &stats);
    rc = write_links(out, &stats);
    if (rc == 0) {
        rc = write_traffic(out, &stats);
    }
    if (rc == 0) {
        rc = write_refusals(out, "shoal_mesh_refused_total",
                            "What this node refused of others, by reason.", stats.refused);
    }
    return rc < 0
               ? rc
               : write_refusals(out, "shoal_mesh_refused_by_total",
                                "What others refused of this node, by reason.", stats.refused_by);
}

/* ---- gossip ---------------------------------------------------------------------- */

static int write_members(const struct gossip *g, struct shl_buf *out)
{
    uint64_t lives[GOSSIP_REMOVED + 1] = {0};
    uint32_t i;

    for (i = 0; i < gossip_member_count(g); i++) {
        lives[gossip_member_at(g, i)->life]++;
    }
    return write_metric(out, &(const struct metric){
                                 "shoal_gossip_members",
                                 "gauge",
                                 "Nodes of the cluster as this one sees them, itself included.",
                                 "state",
                                 {{"unheard", lives[GOSSIP_UNHEARD]},
                                  {"alive", lives[GOSSIP_ALIVE]},
                                  {"suspect", lives[GOSSIP_SUSPECT]},
                                  {"dead", lives[GOSSIP_DEAD]},
                                  {"left", lives[GOSSIP_LEFT]}},
                             });
}

static int write_gossip_traffic(struct shl_buf *out, const struct gossip_counters *n)
{
    const struct metric metrics[] = {
        {"shoal_gossip_sent_total",
         "counter",
         "Messages sent.",
         "lane",
         {{"ping", n->sent[GOSSIP_LANE_PING]},
          {"gossip", n->sent[GOSSIP_LANE_GOSSIP]},
          {"sync", n->sent[GOSSIP_LANE_SYNC]}}},
        {"shoal_gossip_sent_bytes_total",
         "counter",
         "Bytes sent.",
         "lane",
         {{"ping", n->sent_bytes[GOSSIP_LANE_PING]},
          {"gossip", n->sent_bytes[GOSSIP_LANE_GOSSIP]},
          {"sync", n->sent_bytes[GOSSIP_LANE_SYNC]}}},
        {"shoal_gossip_received_total", "counter", "Messages received.", NULL, {{"", n->received}}},
        {"shoal_gossip_received_bytes_total",
         "counter",
         "Bytes received.",
         NULL,
         {{"", n->received_bytes}}},
        {"shoal_gossip_refused_total",
         "counter",
         "Messages, members or records not taken.",
         "why",
         {{"malformed", n->malformed},
          {"cluster", n->refused_cluster},
          {"version", n->refused_version},
          {"removed", n->refused_removed},
          {"unknown", n->unknown_kind},
          {"limit", n->over_limit}}},
    };

    return write_metrics(out, metrics, SHL_ARRAY_SIZE(metrics));
}

static int write_detector(struct shl_buf *out, const struct gossip_counters *n)
{
    const struct metric metrics[] = {
        {"shoal_gossip_probes_total", "counter", "Probes of other nodes.", NULL, {{"", n->probes}}},
        {"shoal_gossip_probes_failed_total",
         "counter",
         "Probes without an answer.",
         NULL,
         {{"", n->probes_failed}}},
        {"shoal_gossip_suspicions_total",
         "counter",
         "Suspicions that this node raised, or took part in.",
         "kind",
         {{"raised", n->accusations}, {"all", n->suspicions}}},
        {"shoal_gossip_deaths_total",
         "counter",
         "Live nodes that became dead for this one.",
         NULL,
         {{"", n->deaths}}},
        {"shoal_gossip_refutations_total",
         "counter",
         "Times this node was wrongly suspected.",
         NULL,
         {{"", n->refutations}}},
        {"shoal_gossip_lags_total",
         "counter",
         "Rounds in which this node was too late itself to accuse anybody.",
         NULL,
         {{"", n->lags}}},
        {"shoal_gossip_syncs_total",
         "counter",
         "Comparisons of everything with one peer.",
         "cause",
         {{"digest", n->syncs_by_digest}, {"time", n->syncs - n->syncs_by_digest}}},
        {"shoal_gossip_heals_total",
         "counter",
         "Attempts to reach somebody lost.",
         NULL,
         {{"", n->heals}}},
        {"shoal_gossip_conflicts_total",
         "counter",
         "Identities or names seen twice.",
         NULL,
         {{"", n->conflicts}}},
        {"shoal_gossip_health",
         "gauge",
         "0 good to 7: how often this node itself is late.",
         NULL,
         {{"", n->health}}},
        {"shoal_gossip_queue", "gauge", "News that still spread.", NULL, {{"", n->queued}}},
        {"shoal_gossip_records", "gauge", "Records of all nodes.", NULL, {{"", n->records}}},
        {"shoal_gossip_record_bytes",
         "gauge",
         "Bytes of records of all nodes.",
         NULL,
         {{"", n->record_bytes}}},
    };

    return write_metrics(out, metrics, SHL_ARRAY_SIZE(metrics));
}

static int write_gossip(const struct cluster *c, struct shl_buf *out)
{
    struct gossip_counters counters;
    int rc;

    if (!c->gossip) {
        return 0;
    }
    gossip_counters(c->gossip, &counters);
    rc = write_members(c->gossip, out);
    if (rc == 0) {
        rc = write_gossip_traffic(out, &counters);
    }
    return rc < 0 ? rc : write_detector(out, &counters);
}

/* ---- log and state --------------------------------------------------------------- */

static uint64_t lag_of(const struct sched_raft_status *s)
{
    uint64_t most = 0;
    uint32_t i;

    for (i = 0; i < s->peer_count; i++) {
        const struct sched_raft_peer_status *peer = &s->peers[i];

        if (peer->match < s->last_index) {
            most = SHL_MAX(most, s->last_index - peer->match);
        }
    }
    return most;
}

static int write_status(const struct cluster *c,
                        const struct sched_raft_status *s,
                        struct shl_buf *out)
{
    const struct metric metrics[] = {
        {"shoal_log_leader",
         "gauge",
         "1 on the node that schedules.",
         NULL,
         {{"", s->role == SCHED_RAFT_LEADER}}},
        {"shoal_log_leader_known",
         "gauge",
         "1 while this node knows who schedules.",
         NULL,
         {{"", !shl_node_id_is_none(&s->leader)}}},
        {"shoal_log_term",
         "gauge",
         "Term of the log; it grows with every election.",
         NULL,
         {{"", s->term}}},
        {"shoal_log_index",
         "gauge",
         "How far the log of this node is.",
         "kind",
         {{"last", s->last_index},
          {"stored", s->stable_index},
          {"committed", s->commit},
          {"applied", s->applied},
          {"snapshot", s->snapshot_index}}},
        {"shoal_log_lag",
         "gauge",
         "Entries that the furthest behind lacks; on the leader.",
         NULL,
         {{"", lag_of(s)}}},
        {"shoal_log_bytes", "gauge", "Bytes of entries in memory.", NULL, {{"", s->log_bytes}}},
        {"shoal_log_voters",
         "gauge",
         "Nodes that vote.",
         NULL,
         {{"", sched_raft_membership_voters(sched_raft_membership(c->log.raft))}}},
        {"shoal_log_refused_total",
         "counter",
         "Messages of the log that no correct node would have sent.",
         NULL,
         {{"", s->refused_messages}}},
        {"shoal_log_followers_forgot_total",
         "counter",
         "Times a node denied entries it had said to have stored: an older disk was put back.",
         NULL,
         {{"", s->peers_forgot}}},
        {"shoal_log_failed",
         "gauge",
         "1 when this node takes no part in the log until it is started anew.",
         NULL,
         {{"", c->log.is_failed}}},
        {"shoal_log_orders",
         "gauge",
         "Changes that this node wants and that are not done yet.",
         NULL,
         {{"", c->order_count}}},
    };

    return write_metrics(out, metrics, SHL_ARRAY_SIZE(metrics));
}

static int write_state(const struct cluster *c, struct shl_buf *out)
{
    static const char *const names[SCHED_TABLE_COUNT] = {
        [SCHED_TABLE_NODES] = "nodes",
        [SCHED_TABLE_REMOVED] = "removed",
        [SCHED_TABLE_TOKENS] = "tokens",
        [SCHED_TABLE_NAMES] = "names",
        [SCHED_TABLE_KEYS] = "keys",
        [SCHED_TABLE_OWNERS] = "owners",
        [SCHED_TABLE_TOMBSTONES] = "tombstones",
        [SCHED_TABLE_CHECKPOINTS] = "checkpoints",
        [SCHED_TABLE_KV] = "values",
    };
    int rc = head(out, "shoal_state_rows", "gauge", "Rows of the state that all nodes share.");
    unsigned i;

    for (i = 0; rc == 0 && i < SCHED_TABLE_COUNT; i++) {
        rc = value(out, "shoal_state_rows", "table", names[i],
                   sched_state_count(c->state, (enum sched_table_id)i));
    }
    return rc;
}

static int write_log(const struct cluster *c, struct shl_buf *out)
{
    struct sched_raft_status *status; /* it has room for all members */
    int rc;

    if (!c->log.raft) {
        return 0;
    }
    status = calloc(1, sizeof(*status));
    if (!status) {
        return -ENOMEM;
    }
    sched_raft_status(c->log.raft, status);
    rc = write_status(c, status, out);
    free(status);
    return rc < 0 ? rc : write_state(c, out);
}

/* Signed and in seconds, unlike the rest. */
static int write_clock(const struct cluster *c, struct shl_buf *out)
{
    int rc = head(out, "shoal_clock_ahead_seconds", "gauge",
                  "Clock of this machine, ahead of the cluster's time at the last lease.");

    return rc < 0 ? rc
                  : shl_buf_printf(out, "shoal_clock_ahead_seconds %.1f\n",
                                   (double)c->clock_off_ms / 1000);
}

static int write_secrets(const struct cluster *c, struct shl_buf *out)
{
    struct cluster_keyring_counts n;

    cluster_keyring_count(c, &n);
    const struct metric metrics[] = {
        {"shoal_secret_key_generation",
         "gauge",
         "Generation of the key that secret values are sealed with, 0 without one.",
         NULL,
         {{NULL, n.generation}}},
        {"shoal_secrets", "gauge", "Secrets in all stores.", NULL, {{NULL, n.secrets}}},
        {"shoal_secrets_old_key",
         "gauge",
         "Of them and the egress authority, those still sealed with an older key.",
         NULL,
         {{NULL, n.old}}},
    };

    return write_metrics(out, metrics, SHL_ARRAY_SIZE(metrics));
}

int cluster_metrics(const struct cluster *cluster, struct shl_buf *out)
{
    int rc = write_mesh(cluster, out);

    if (rc == 0) {
        rc = write_gossip(cluster, out);
    }
    if (rc == 0) {
        rc = write_log(cluster, out);
    }
    if (rc == 0) {
        rc = cluster_replicas_metrics(cluster, out);
    }
    if (rc == 0) {
        rc = write_secrets(cluster, out);
    }
    return rc < 0 ? rc : write_clock(cluster, out);
}
