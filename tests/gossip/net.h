/* Many gossip cores under one virtual clock: a network with delay, loss, cuts, stalls and
 * crashes, in one process. Used by the tests of this folder and by bench/gossip.
 *
 * Equal seeds give equal runs. All faults are explicit calls between two net_run calls.
 */
#ifndef SHL_TESTS_GOSSIP_NET_H
#define SHL_TESTS_GOSSIP_NET_H

#include "gossip/gossip.h"

#define NET_NODES_MAX 2048

struct net;

struct net_node {
    struct gossip *core; /* NULL: crashed or not started */
    struct gossip_actions actions;
    struct gossip_config config; /* of the next start */
    uint32_t index;
    uint32_t runs;
    uint64_t wake_at_ms;
    uint64_t stalled_until_ms; /* handles nothing before */
    /* its disk */
    uint64_t disk_incarnation;
    struct shl_buf disk_book;
    bool is_wiped;
    /* what it told */
    uint32_t notices[GOSSIP_NOTICE_FULL + 1];
    enum gossip_refusal last_reason;
    struct gossip_notice last_notice;
    uint32_t deaths; /* changes to dead it reported */
};

struct net {
    struct net_node *nodes;
    uint32_t count;
    uint64_t now_ms;
    uint64_t wall_s; /* at now_ms 0 */
    double loss;
    uint32_t delay_ms, jitter_ms; /* delay + [0, jitter] */
    bool keeps_no_books;          /* saves memory with many nodes */
    bool has_links;               /* links break visibly (resets, unacknowledged bytes) */
    uint32_t timeout_ms;          /* bytes unacknowledged for this long break a link */
    bool *cut;                    /* [from * count + to]: messages are lost */
    uint8_t *broken;              /* same index: from's link to to is known to be broken */
    uint64_t random;
    struct net_event *heap;
    uint32_t heap_count, heap_room;
    uint64_t sequence;
    uint64_t steps;
    uint64_t digest; /* of everything that happened */
    uint64_t messages, bytes;
    /* Called for each change a node reports, NULL: none. */
    void (*on_change)(void *arg, struct net_node *node, const struct gossip_change *change);
    void (*on_record)(void *arg, struct net_node *node, const struct gossip_record_change *change);
    void (*on_send)(void *arg, struct net_node *node, const struct gossip_send *send);
    void *arg;
};

/* @count nodes, none started. Links are visible, delay 1 ms, no loss. */
void net_init(struct net *net, uint32_t count, uint64_t seed);
void net_release(struct net *net);

/* Id and address of node @index; by default ids are in order of index. */
struct shl_node_id net_id(uint32_t index);

void net_start(struct net *net, uint32_t index); /* a new process, from its disk */
void net_start_all(struct net *net);             /* all, each joins node 0 */
void net_join(struct net *net, uint32_t index, uint32_t seed);
void net_step(struct net *net, uint32_t index, struct gossip_event *event, int *ret_rc);
void net_set(struct net *net, uint32_t index, const char *key, const char *value);
void net_unset(struct net *net, uint32_t index, const char *key);
void net_simple(struct net *net, uint32_t index, enum gossip_event_type type);
void net_remove(struct net *net, uint32_t index, uint32_t removed);

/* The process ends. @visible: its kernel resets the connections (else only silence). */
void net_crash(struct net *net, uint32_t index, bool visible);
/* Messages of both directions between the two groups [0, split) and [split, count). */
void net_split(struct net *net, uint32_t split, bool cut);
void net_cut(struct net *net, uint32_t from, uint32_t to, bool cut);
void net_stall(struct net *net, uint32_t index, uint64_t ms);

void net_run(struct net *net, uint64_t ms); /* from now on */
/* Until @done, asked every @every_ms; false after @ms. */
bool net_run_until(struct net *net,
                   uint64_t ms,
                   uint64_t every_ms,
                   bool (*done)(struct net *net, void *arg),
                   void *arg);

/* What node @at thinks of node @about. */
enum gossip_life net_life(const struct net *net, uint32_t at, uint32_t about);
/* All running nodes agree on members and records and hold @live of them for live. */
bool net_agrees(const struct net *net, uint32_t live);

uint64_t net_random(struct net *net);

#endif /* SHL_TESTS_GOSSIP_NET_H */
