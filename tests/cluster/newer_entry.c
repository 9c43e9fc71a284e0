/* Appends an entry to the log of a node that is stopped, as a leader of a newer version would have
 * sent it: newer_entry DATA. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mp.h"
#include "node/store/raft_log.h"
#include "scheduler/command.h"

static int make_entry(struct shl_buf *buf)
{
    struct shl_mp_writer w;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_uint(&w, "v", SCHED_COMMAND_VERSION);
    shl_mp_kv_uint(&w, "k", 999);
    shl_mp_kv_uint(&w, "t", 1);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}

int main(int argc, char **argv)
{
    struct node_raft_stored stored;
    struct node_raft_log *log = NULL;
    struct node_raft_batch *batch;
    struct sched_raft_entry entry = {.type = SCHED_RAFT_COMMAND};
    struct sched_raft_persist persist = {.seq = 1, .entries = &entry, .entry_count = 1};
    struct shl_err err = {0};
    struct shl_buf buf;
    char dir[4096];
    int rc;

    if (argc != 2) {
        return 2;
    }
    (void)snprintf(dir, sizeof(dir), "%s/mesh/log", argv[1]);
    shl_buf_init(&buf, 4096);
    rc = make_entry(&buf);
    if (rc == 0) {
        rc = node_raft_log_open(dir, &log, &err);
    }
    if (rc == 0) {
        rc = node_raft_log_load(log, &stored, &err);
    }
    if (rc > 0 && stored.entry_count > 0) {
        entry.index = stored.entries[stored.entry_count - 1].index + 1;
        entry.term = stored.entries[stored.entry_count - 1].term;
        entry.data = shl_buf_bytes(&buf);
        node_raft_stored_release(&stored);
        batch = node_raft_log_prepare(log, &persist);
        rc = batch ? node_raft_log_write(log, batch, &err) : -1;
    }
    node_raft_log_close(log);
    shl_buf_release(&buf);
    if (rc < 0) {
        (void)fprintf(stderr, "%s\n", err.msg);
    }
    return rc < 0;
}
