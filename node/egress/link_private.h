/* What the two files of the link share: link.c keeps the process, link_ask.c tells it. */
#ifndef SHL_NODE_EGRESS_LINK_PRIVATE_H
#define SHL_NODE_EGRESS_LINK_PRIVATE_H

#include <limits.h>
#include <sys/stat.h>

#include "base/list.h"
#include "node/egress/link.h"
#include "node/sandbox/manager.h"
#include "node/sandbox/process.h"
#include "node/sandbox/vmm_link.h"

enum {
    EGRESS_STATS = 16,
    EGRESS_STATS_GAUGES = 2, /* the last ones are no counters */
};

struct guest {
    struct shl_list node;
    uint32_t address;
    char sandbox[NODE_SANDBOX_ID_SIZE];
    struct node_egress_policy policy;
    struct node_egress_facts facts;
    struct node_egress_figures figures; /* with answer, and known */
    bool figures_known;
    bool answer; /* it waits for its figures, and they are to be told */
    bool dirty;
    bool gone; /* to be told, then forgotten */
};

enum phase {
    PHASE_DOWN,
    PHASE_HELLO,
    PHASE_MARK,
    PHASE_GUESTS,
    PHASE_READY,
};

struct node_egress {
    uv_loop_t *loop;
    char dir[PATH_MAX - 64];
    char program[PATH_MAX];
    char *trust_file;
    struct node_net *net;
    const struct shl_log *log;
    enum phase phase;
    struct node_process *process;
    pid_t pid;
    struct node_vmm_link *link;
    bool asked;             /* a request is under way */
    bool told;              /* the guests that live are all in the list */
    struct shl_list guests; /* those that may be dirty first */
    uint32_t answers;       /* of them, .answer */
    node_egress_ask ask;
    void *ask_arg;
    uint8_t *pem; /* sodium_malloc */
    size_t pem_len;
    bool pem_dirty;
    const char *const *allow_private;
    size_t allow_private_count;
    bool private_dirty;
    bool trust_dirty;
    struct stat trust_seen; /* of the file as it was told last */
    uint64_t trust_look_ms;
    uv_timer_t timer;
    uint64_t start_at_ms, restart_ms, started_ms;
    uint64_t stats_at_ms;
    uint64_t restarts;
    uint64_t stats[EGRESS_STATS];
    int handles;
    bool closing;
    void (*close_cb)(void *arg);
    void *close_arg;
};

/* In the order of node_egress.stats. */
extern const char *const egress_link_stats[EGRESS_STATS];

/* Ask the next thing, unless an answer is awaited. */
void egress_link_pump(struct node_egress *egress);
struct guest *egress_link_find(struct node_egress *egress, uint32_t address);

/* Takes it out of the list and frees it. */
void egress_link_forget(struct node_egress *egress, struct guest *guest);
/* What the gateway wants to know of a guest goes to the sink's asker. */
void egress_link_event(void *arg, const msgpack_object *event);

/* link.c */
void egress_link_set_ports(struct node_egress *egress, const struct node_net_ports *ports);
/* It answers no more, or nonsense: it is killed, and another one started later. */
void egress_link_lost(void *arg, const char *msg);

#endif /* SHL_NODE_EGRESS_LINK_PRIVATE_H */
