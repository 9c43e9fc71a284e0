/* Test doubles of what the API stands on: store, manager, and the agents of sandboxes.
 *
 * They implement node/store/store.h, node/sandbox/manager.h and agent_link.h at link
 * time, keep the promises of those headers (callbacks come later, credit is counted),
 * and have knobs for what goes wrong. One of each per process.
 */
#ifndef SHL_TESTS_NODE_API_FAKE_H
#define SHL_TESTS_NODE_API_FAKE_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "node/sandbox/checkpoints.h"
#include "node/sandbox/manager.h"
#include "node/sandbox/patch.h"
#include "node/store/store.h"

/* Store: fake_store.c */
struct node_store *fake_store_new(void);
bool fake_store_contains(struct node_store *store, const char *text); /* in any key or value */

/* Manager: fake_manager.c */
struct fake_manager_knobs {
    int refuse_code; /* of the next creates */
    const char *refuse_msg;
    int create_code; /* result of the next creates */
    const char *create_msg;
    int timeout_code; /* of set_timeout */
    /* results of the next changes of state, and how long a wake takes (0: a moment) */
    int hibernate_code;
    int wake_code;
    int reboot_code;
    int restore_code;
    const char *change_msg;
    unsigned wake_ms;
    bool stays_processing; /* new checkpoints */
    bool makes_fail;       /* new checkpoints */
    int delete_code;
    /* of the next forks: refused at once, or failing later, from this one on (1 is first) */
    int fork_refuse_code;
    int fork_code;
    unsigned fork_fails_from;
    unsigned forks;
    int builder_refuse_code;   /* of the next builders, at once */
    unsigned builders;         /* that started */
    unsigned builders_living;  /* that have not ended */
    unsigned builders_at_fork; /* that had not when the last fork was asked for */
    unsigned template_version; /* of all templates */
};

struct node_manager *fake_manager_new(uv_loop_t *loop);
struct fake_manager_knobs *fake_manager_knobs(struct node_manager *manager);
/* Frees when everything that waits has been called back. */
void fake_manager_free(struct node_manager *manager);
void fake_manager_set_state(struct node_sandbox *sandbox,
                            enum node_sandbox_state state,
                            const char *reason);
struct node_sandbox *fake_manager_last(struct node_manager *manager);
unsigned fake_sandbox_touches(const struct node_sandbox *sandbox);
int fake_sandbox_holds(const struct node_sandbox *sandbox);
/* How often it was woken. */
unsigned fake_sandbox_wakes(const struct node_sandbox *sandbox);

/* Checkpoints: fake_checkpoints.c */
struct node_checkpoint *fake_checkpoint_last(struct node_manager *manager);

/* What the manager would run next. */
bool fake_manager_catch_up(struct node_manager *manager, node_patches_known_cb cb, void *arg);
int fake_manager_next_patch(struct node_manager *manager,
                            const char *checkpoint,
                            uint32_t after,
                            uint32_t *ret_sequence,
                            char **ret_script);

/* Agents: fake_agent.c. What a command does is in its name, see there. */
struct fake_agent_stats {
    unsigned opened;
    unsigned cancelled;
    size_t window_used_max;  /* bytes sent and not consumed, over all streams ever */
    uint64_t written_bytes;  /* to files */
    uint64_t write_wrong_at; /* first byte of /pattern that was not the pattern, or -1 */
    unsigned kills;
    int last_signal;
};

struct node_agent_link *fake_agent_new(uv_loop_t *loop);
void fake_agent_free(struct node_agent_link *link); /* ends its streams first */
struct fake_agent_stats *fake_agent_stats(struct node_agent_link *link);
/* Every open stream ends with SHL_EUNAVAILABLE, as when the link is lost. */
void fake_agent_break(struct node_agent_link *link);
/* The next stream ends with this instead of doing anything. */
void fake_agent_fail_next(struct node_agent_link *link, int code, const char *msg);
/* node_agent_open itself returns this for the next stream. */
void fake_agent_refuse_next(struct node_agent_link *link, int code);
/* Writes are taken only while this many bytes are left. */
void fake_agent_limit_writes(struct node_agent_link *link, uint64_t bytes);
uint8_t fake_pattern(uint64_t at);

#endif /* SHL_TESTS_NODE_API_FAKE_H */
