/* A small world for Raft cores: virtual time, a network, disks and a state machine, with a
 * checker behind every step. Directed tests cut links and crash nodes by hand, the random
 * campaign lets dice do it. One seed is one run, bit for bit; `digest` proves it.
 *
 * The checker aborts the test with a line about what broke, or, with `expect_fault`, keeps
 * the line in `fault` (that is how a mutation is shown to be found).
 */
#ifndef SHL_TESTS_SCHEDULER_RAFT_NET_H
#define SHL_TESTS_SCHEDULER_RAFT_NET_H

#include <stdbool.h>
#include <stdint.h>

#include "scheduler/raft.h"
#include "scheduler/raft_msg.h"

#define NET_NODES_MAX   7
#define NET_INDEX_MAX   16384
#define NET_TERM_MAX    8192
#define NET_RESULTS_MAX 4096

struct net_entry {
    uint64_t index, term;
    uint8_t type;
    uint8_t *data;
    size_t len;
};

/* What survives a crash. */
struct net_disk {
    uint64_t term;
    struct shl_node_id vote;
    struct sched_raft_snapshot_meta meta;
    struct shl_buf snapshot;
    struct net_entry *entries;
    size_t count, capacity;
};

/* One storage request under way, copied. */
struct net_request {
    bool active;
    struct sched_raft_persist head;
    struct sched_raft_snapshot_meta meta;
    struct shl_buf snapshot;
    struct net_entry *entries;
    size_t count;
};

struct net_node {
    struct shl_node_id id;
    struct sched_raft *raft; /* NULL: crashed */
    struct sched_raft_actions actions;
    struct net_disk disk;
    struct net_request request;
    uint64_t wake_at_ms;
    uint64_t incarnation;
    bool disk_held; /* requests do not finish until net_disk_release */
    /* The state machine: how far, and a chain over everything applied. */
    uint64_t applied;
    uint64_t chain;
    uint64_t commit_seen;
    uint32_t installs;
    uint32_t applies;
};

struct net_result {
    uint64_t tag;
    enum sched_raft_reason reason;
    uint64_t index;
    bool is_read;
    uint32_t node;
};

struct net_options {
    uint32_t nodes;  /* that exist */
    uint32_t voters; /* of the bootstrap, the first ones; 0: no bootstrap */
    uint64_t seed;
    uint32_t mutations;
    uint32_t delay_min_ms, delay_max_ms;
    uint32_t loss_permille, dup_permille;
    uint32_t disk_min_ms, disk_max_ms;
    uint32_t snapshot_entries; /* 0: the default limits */
    uint32_t msg_entries;      /* 0: as the limits say */
    bool expect_fault;
    bool trace; /* one line per step on stdout */
};

struct net {
    struct net_options options;
    uint64_t now_ms;
    uint64_t random;
    uint64_t digest;
    uint64_t steps;
    struct net_node nodes[NET_NODES_MAX];
    bool cut[NET_NODES_MAX][NET_NODES_MAX]; /* from, to */
    /* Return false to lose a message. */
    bool (*filter)(struct net *net, uint32_t from, uint32_t to, const struct sched_raft_msg *msg);
    void *filter_arg;
    struct net_event *events; /* heap by time, then order */
    size_t event_count, event_capacity;
    uint64_t event_order;

    struct net_result results[NET_RESULTS_MAX];
    uint32_t result_count;

    /* Checker. */
    uint32_t leader_of_term[NET_TERM_MAX]; /* node + 1 */
    uint64_t hash_at[NET_INDEX_MAX];       /* of what was applied at an index; 0: nothing yet */
    uint64_t term_at[NET_INDEX_MAX];
    uint64_t chain_at[NET_INDEX_MAX];
    uint64_t applied_max;
    uint64_t acknowledged_max;            /* highest index of a RESULT that says done */
    uint64_t read_floor[NET_RESULTS_MAX]; /* acknowledged_max when the read with that tag began */
    const char *fault;
    char fault_text[256];
};

/* Nodes are numbered from 0; ids grow with the number. */
struct net *net_new(const struct net_options *options);
void net_free(struct net *net);
struct net_options net_options_default(uint32_t nodes);

void net_run(struct net *net, uint64_t ms);
/* Until a node leads that a majority of voters follows; the node, or -1 after @ms. */
int net_run_until_leader(struct net *net, uint64_t ms);
bool net_run_until_applied(struct net *net, uint64_t index, uint64_t ms); /* by all that run */
int net_leader(const struct net *net);                                    /* highest term, or -1 */

void net_step(struct net *net, uint32_t node, struct sched_raft_event *event);
void net_propose(struct net *net, uint32_t node, uint64_t tag, const char *text);
void net_read(struct net *net, uint32_t node, uint64_t tag);
void net_change(struct net *net,
                uint32_t node,
                uint64_t tag,
                enum sched_raft_change_op op,
                uint32_t member);
void net_transfer(struct net *net, uint32_t node, uint64_t tag, int target);
void net_campaign(struct net *net, uint32_t node);
void net_inject(struct net *net, uint32_t from, uint32_t to, const struct sched_raft_msg *msg);
/* The latest result with that tag, or NULL. */
const struct net_result *net_result(const struct net *net, uint64_t tag);

void net_cut_both(struct net *net, uint32_t a, uint32_t b, bool cut);
void net_isolate(struct net *net, uint32_t node, bool cut);
void net_heal(struct net *net);
void net_drop_messages(struct net *net); /* all that are under way */
/* @keep_request: what was handed to the disk made it. */
void net_crash(struct net *net, uint32_t node, bool keep_request);
void net_start(struct net *net, uint32_t node);
void net_disk_hold(struct net *net, uint32_t node);
void net_disk_release(struct net *net, uint32_t node);
/* Writes a log as letters ("1 1 2" are three entries of terms 1, 1 and 2) behind entry 1,
 * the membership of all nodes with @voters voters in term 1. For nodes that do not run. */
void net_disk_write(struct net *net,
                    uint32_t node,
                    uint64_t term,
                    uint32_t voters,
                    const char *terms);
/* Terms of the entries in memory from index 2 on, as text. */
void net_log_terms(const struct net *net, uint32_t node, char *dst, size_t size);

uint64_t net_random(struct net *net, uint64_t below);
struct sched_raft_status net_status(const struct net *net, uint32_t node);

/* raft_net_check.c */
void net_fault(struct net *net, const char *fmt, ...) SHL_PRINTF(2, 3);
uint64_t net_hash(uint64_t h, const void *data, size_t len);
void net_check_apply(struct net *net, uint32_t node, const struct sched_raft_entry *entry);
void net_check_install(struct net *net, uint32_t node, uint64_t index, uint64_t chain);
void net_check_role(struct net *net, uint32_t node);
void net_check_step(struct net *net, uint32_t node);
void net_check_logs(struct net *net); /* log matching, all pairs */
void net_check_result(struct net *net, const struct net_result *result);

/* raft_net_disk.c */
struct net_entry net_entry_copy(uint64_t index,
                                uint64_t term,
                                uint8_t type,
                                const void *data,
                                size_t len);
void net_disk_push(struct net_disk *disk, struct net_entry entry);
void net_disk_keep(struct net_disk *disk, uint64_t first, uint64_t end);
void net_request_take(struct net_request *q, const struct sched_raft_persist *p);
void net_request_drop(struct net_request *q);
void net_request_write(struct net_request *q, struct net_disk *disk);

#endif /* SHL_TESTS_SCHEDULER_RAFT_NET_H */
