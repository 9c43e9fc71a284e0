#include "node/cluster/state.h"

#include <errno.h>

#include "scheduler/command.h"

static int check_features(const struct sched_state *state, struct shl_err *err)
{
    return sched_state_features(state) & ~SCHED_FEATURES_KNOWN
               ? shl_err_set(err, SHL_EVERSION,
                             "the cluster uses features that this version of shoald does not have: "
                             "upgrade this node")
               : 0;
}

int cluster_state_load(struct shl_bytes stream,
                       uint64_t index,
                       uint64_t term,
                       struct sched_state **ret,
                       struct shl_err *err)
{
    const struct sched_state_config config = {0};
    struct sched_load *load = sched_load_new(&config);
    struct sched_state *state = NULL;
    int rc;

    *ret = NULL;
    if (!load) {
        return shl_err_sys(err, ENOMEM, "cannot read the replicated state");
    }
    rc = sched_load_feed(load, stream, err);
    if (rc == 0) {
        rc = sched_load_end(load, index, term, &state, err);
    }
    sched_load_free(load);
    if (rc == 0) {
        rc = check_features(state, err);
    }
    if (rc < 0) {
        sched_state_free(state);
        return rc;
    }
    *ret = state;
    return 0;
}

int cluster_state_save(const struct sched_state *state, struct shl_buf *buf)
{
    struct sched_save save;
    int rc;

    sched_save_begin(&save, state);
    do {
        rc = sched_save_next(&save, buf);
    } while (rc == 1);
    return rc;
}

int cluster_state_apply(struct sched_state *state,
                        const struct sched_raft_entry *entry,
                        struct sched_result *ret,
                        struct shl_err *err)
{
    struct sched_command command;
    int rc;

    if (sched_command_decode(&command, entry->data, NULL) == SHL_EVERSION) {
        /* skipped here and carried out by newer nodes, it would leave two different states */
        return shl_err_set(
            err, SHL_EVERSION,
            "an entry of the log is of a newer version of shoald: upgrade this node");
    }
    rc = sched_state_apply(state, entry->index, entry->term, entry->data, ret);
    return rc < 0 ? shl_err_set(err, rc, "an entry cannot be applied") : check_features(state, err);
}
