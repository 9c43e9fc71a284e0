/* Lines of /metrics about copies of checkpoints. */
#include <inttypes.h>

#include "node/cluster/replicas_private.h"

struct line {
    const char *name, *type, *help;
    uint64_t number;
};

/* By kind, as the catalogue has it; "none": not in it. */
static int write_held(const struct cluster_replicas *r, struct shl_buf *out)
{
    static const char *const kinds[SCHED_CHECKPOINT_KIND_END] = {"none", "full", "disk",
                                                                 "hibernation", "base"};
    uint64_t counts[SCHED_CHECKPOINT_KIND_END] = {0};
    size_t i;
    int rc;

    for (i = 0; i < r->copies.count; i++) {
        const struct replica_copy *copy = r->copies.items[i];
        const struct catalogue_ref *ref = catalogue_of_manifest(r, &copy->manifest);
        const struct sched_checkpoint *row = ref ? catalogue_row(r, ref) : NULL;

        counts[row ? row->kind : 0]++;
    }
    rc = shl_buf_printf(out, "# HELP shoal_replica_held Copies that this node has.\n"
                             "# TYPE shoal_replica_held gauge\n");
    for (i = 0; rc == 0 && i < SHL_ARRAY_SIZE(kinds); i++) {
        rc = shl_buf_printf(out, "shoal_replica_held{kind=\"%s\"} %" PRIu64 "\n", kinds[i],
                            counts[i]);
    }
    return rc;
}

int cluster_replicas_metrics(const struct cluster *c, struct shl_buf *out)
{
    const struct cluster_replicas *r = c->replicas;
    struct node_replica_stats transfer = {0};
    struct node_replica_server_stats server = {0};
    size_t i;
    int rc = 0;

    if (r->transfer && r->server) {
        node_replica_stats(r->transfer, &transfer);
        node_replica_server_stats(r->server, &server);
    }
    const struct line lines[] = {
        {"shoal_replica_wanted", "gauge", "Copies of each checkpoint made here.", r->wanted},
        {"shoal_replica_ready", "gauge",
         "1 when this node knows what it holds and what the cluster has.",
         r->is_caught_up && (r->is_scanned || !r->store)},
        {"shoal_replica_entries", "gauge", "Checkpoints of the cluster, at the last plan.",
         r->report.entries},
        {"shoal_replica_full", "gauge", "Of these: with as many copies as are wanted.",
         r->report.full},
        {"shoal_replica_missing", "gauge", "Of these: with fewer copies than wanted.",
         r->report.short_of},
        {"shoal_replica_graced", "gauge", "Of these: full only if a dead node comes back in time.",
         r->report.graced},
        {"shoal_replica_lost", "gauge", "Of these: with no copy on any node that is left.",
         r->report.lost},
        {"shoal_replica_extra", "gauge", "Copies here that belong elsewhere.", r->report.extra},
        {"shoal_replica_cramped", "gauge", "Of these: too few nodes or domains for its copies.",
         r->report.cramped},
        {"shoal_replica_orders", "gauge", "Artefacts that the log has not heard of yet.",
         r->told.count},
        {"shoal_replica_fetches", "gauge", "Copies on their way to this node.", transfer.fetches},
        {"shoal_replica_fetched_total", "counter", "Copies that came.", r->totals.fetched},
        {"shoal_replica_fetch_failed_total", "counter", "Copies that did not come.",
         r->totals.fetch_failed},
        {"shoal_replica_fetched_bytes_total", "counter", "Bytes of copies that came, unpacked.",
         r->totals.fetched_bytes},
        {"shoal_replica_missing_bytes_total", "counter",
         "Bytes of copies when their fetch began, by the catalogue.", r->totals.missing_bytes},
        {"shoal_replica_wire_bytes_total", "counter", "Bytes of answers of other nodes.",
         transfer.wire_bytes},
        {"shoal_replica_healed_total", "counter", "Damaged copies made whole from other nodes.",
         r->totals.healed},
        {"shoal_replica_quarantined_total", "counter", "Chunks that came with wrong bytes.",
         transfer.quarantined},
        {"shoal_replica_served_bytes_total", "counter", "Bytes of chunks read for other nodes.",
         server.chunk_bytes},
        {"shoal_replica_trimmed_total", "counter", "Copies dropped because there were enough.",
         r->totals.trimmed},
        {"shoal_replica_dropped_total", "counter", "Copies dropped because it was deleted.",
         r->totals.dropped},
    };

    for (i = 0; rc == 0 && i < SHL_ARRAY_SIZE(lines); i++) {
        rc = shl_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", lines[i].name,
                            lines[i].help, lines[i].name, lines[i].type, lines[i].name,
                            lines[i].number);
    }
    return rc < 0 ? rc : write_held(r, out);
}
