/* The sandboxes of this node: records, life cycle, and what API handlers ask of them.
 *
 * One manager per node, on the loop thread. It owns every struct node_sandbox; a
 * pointer stays valid while its record exists (records of ended sandboxes are kept
 * NODE_ENDED_KEEP_MS and then dropped), and handlers look one up per request instead
 * of keeping it across callbacks, or hold a reference (node_sandbox_ref).
 *
 * The state is changed by one function, sandbox_set_state in node/sandbox/state.c:
 *
 *   creating --> running --> hibernating --> hibernated --> waking --> running
 *      |         |  ^  |          |(failed)      |  ^         |  |(failed)
 *      |         |  +--|----------+              |  +---------|--+
 *      |         +-----|--> waking (reboot, restore in place) |
 *      |               v                         v            v
 *      +--------> stopping --> stopped, from every living state and from hibernated
 *      +--------> error (with a reason), likewise
 *
 * A hibernated sandbox has no process and holds no memory, CPU or address, only files.
 * A hibernation that fails leaves it running, a wake that fails leaves it hibernated:
 * nothing is lost, the caller is told why.
 *
 * Records are durable (node/store) before a create is answered, VMs outlive the
 * daemon, and node_manager_open adopts those that still run.
 */
#ifndef SHL_NODE_SANDBOX_MANAGER_H
#define SHL_NODE_SANDBOX_MANAGER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "node/sandbox/agent_link.h"
#include "node/sandbox/preview.h"
#include "node/secret/use.h"

struct node_manager;
struct node_net;

#define NODE_SANDBOX_ID_SIZE    16 /* "sb-" + 8 hex digits + terminator, with room */
#define NODE_CHECKPOINT_ID_SIZE 40 /* a UUID */
#define NODE_ORG_ID_SIZE        40
#define NODE_TEMPLATE_MAX       128
#define NODE_WORKDIR_SIZE       1024
#define NODE_REASON_MAX         256
#define NODE_ENDED_KEEP_MS      (24ll * 3600 * 1000)
#define NODE_KV_MAX             256          /* entries of envs or metadata */
#define NODE_KV_BYTES_MAX       (128 * 1024) /* keys and values together: fit one agent request */
#define NODE_CPUS_MAX           4
#define NODE_MEMORY_MIN_MB      512
#define NODE_MEMORY_MAX_MB      16384
#define NODE_DISK_MIN_MB        20480
#define NODE_DISK_MAX_MB        262144
#define NODE_TIMEOUT_DEFAULT_S  300

enum node_sandbox_state {
    NODE_SANDBOX_CREATING,
    NODE_SANDBOX_RUNNING,
    NODE_SANDBOX_HIBERNATING,
    NODE_SANDBOX_HIBERNATED,
    NODE_SANDBOX_WAKING, /* also while it is rebooted or restored in place */
    NODE_SANDBOX_STOPPING,
    NODE_SANDBOX_STOPPED,
    NODE_SANDBOX_ERROR,
};

struct node_kv {
    char *key;
    char *value;
};

struct node_kv_list {
    struct node_kv *items; /* heap, both strings of each item too */
    size_t count;
};

void node_kv_release(struct node_kv_list *list);
/* Set or replace; copies. 0, SHL_ELIMIT or -ENOMEM. */
SHL_MUST_CHECK int node_kv_set(struct node_kv_list *list, const char *key, const char *value);

enum node_on_loss { /* of its node */
    NODE_ON_LOSS_ERROR,
    NODE_ON_LOSS_RESTORE, /* elsewhere, from the newest artefact (portable.h) */
};

/* What a create asks for; every field checked by the caller (API) and again here. */
struct node_sandbox_spec {
    char org[NODE_ORG_ID_SIZE];
    char template_name[NODE_TEMPLATE_MAX]; /* built-in aliases already resolved */
    uint32_t cpus;                         /* 1..NODE_CPUS_MAX */
    uint32_t memory_mb;
    uint32_t disk_mb;
    uint32_t timeout_s; /* idle time until it hibernates; 0 never */
    enum node_on_loss on_node_loss;
    uint32_t autosave_s; /* with restore: while it runs, so often; 0: NODE_AUTOSAVE_DEFAULT_S */
    struct node_kv_list envs;
    struct node_kv_list metadata;
    struct node_secret_use secrets; /* its stores and sealed tokens; envs of the same name win */
    struct node_previews previews;  /* a fork has the token alone */
    /* Of the image it was made from: below envs, and where programs start ("" their home). */
    struct node_kv_list image_envs;
    char workdir[NODE_WORKDIR_SIZE];
    /* Patches of the checkpoint it was forked from (patch.h): the last one that ran here, and why
     * the next one did not, "" when nothing failed. */
    uint32_t patched;
    char patch_error[NODE_REASON_MAX];
    bool is_build; /* builds an image (builder.h); its checkpoints are the image's */
};

struct node_sandbox {
    char id[NODE_SANDBOX_ID_SIZE];
    enum node_sandbox_state state;
    char reason[NODE_REASON_MAX]; /* why stopped or error; "" otherwise */
    struct node_sandbox_spec spec;
    int64_t created_at_ms; /* wall clock */
    int64_t ended_at_ms;   /* wall clock, 0 while it lives */
    int64_t end_at_ms;     /* wall clock at which the idle timer fires now, 0 never */
    uint64_t saved_bytes;  /* size of the saved state while hibernated */
    char from_checkpoint[NODE_CHECKPOINT_ID_SIZE]; /* what it was forked from, or "" */
    uint64_t run_began_ms; /* CLOCK_BOOTTIME: of its present run, once it has an address */
    bool cold_woken;       /* its last wake had to boot: processes were lost, files kept */
    bool lost; /* error: its VM went with the machine, or while no daemon ran, by no fault of its */
    struct node_agent_link *agent; /* NULL unless running */
    struct node_manager *manager;
    struct shl_list link; /* of the manager, newest first; internal */
    void *runtime;        /* of node/sandbox alone */
};

/* "running", "hibernated", "stopped", "error": what the API says for each state.
 * hibernating and waking are "running": calls wait until they are over. */
const char *node_sandbox_status(const struct node_sandbox *sandbox);

/* Result of create: @sandbox is running and exec-ready when @code is 0. Called once,
 * never from inside node_manager_create. */
typedef void (*node_create_cb)(void *arg, int code, const char *msg, struct node_sandbox *sandbox);
typedef void (*node_kill_cb)(void *arg, int code, const char *msg);

/* Start a sandbox. @spec is copied. Refused at once: SHL_ENOTFOUND (template),
 * SHL_EINVALIDARG (sizes), SHL_ENOCAPACITY or SHL_EQUOTA, each with a sentence. */
SHL_MUST_CHECK int node_manager_create(struct node_manager *manager,
                                       const struct node_sandbox_spec *spec,
                                       node_create_cb cb,
                                       void *arg,
                                       struct shl_err *err);

/* NULL when there is none of that id in that organisation (NULL: of any, for the node itself). */
struct node_sandbox *node_manager_find(struct node_manager *manager,
                                       const char *org,
                                       const char *id);

/* Newest first, of one organisation (NULL: of all); return false from @each to stop. */
void node_manager_each(struct node_manager *manager,
                       const char *org,
                       bool (*each)(void *arg, struct node_sandbox *sandbox),
                       void *arg);

/* End it in whatever state and drop its disk; the callback runs when the VMM, its
 * TAP, cgroup and files are gone. Idempotent. */
void node_manager_kill(struct node_manager *manager,
                       struct node_sandbox *sandbox,
                       node_kill_cb cb,
                       void *arg);

/* Outcome of what follows: called once, never from inside the call. */
typedef void (*node_sandbox_cb)(void *arg, int code, const char *msg);

/* running -> hibernated: memory, devices and disk saved and durable, process gone. On a
 * hibernated one a success; SHL_EBADSTATE otherwise. While one is under way further
 * callers share it. -ENOSPC and the like leave it running. */
void node_manager_hibernate(struct node_manager *manager,
                            struct node_sandbox *sandbox,
                            node_sandbox_cb cb,
                            void *arg);

/* hibernated -> running with agent set up and user processes going on; all callers of
 * one wake share it. On a running one a success. @timeout_s NULL keeps the idle timeout.
 * When the memory cannot be restored (SHL_EVERSION, SHL_ECORRUPT, SHL_EINCOMPATIBLE) it boots from
 * its disk instead and cold_woken is set. SHL_ENOCAPACITY leaves it hibernated. */
void node_manager_wake(struct node_manager *manager,
                       struct node_sandbox *sandbox,
                       const uint32_t *timeout_s,
                       node_sandbox_cb cb,
                       void *arg);

/* For data-plane calls: 1 when it runs and sandbox->agent may be used now (@cb is not
 * called), 0 when @cb will be called once it runs (it was woken, or something under way
 * ends) or cannot, negative when it never will: SHL_EGONE (stopped, error). */
SHL_MUST_CHECK int node_sandbox_need(struct node_sandbox *sandbox,
                                     node_sandbox_cb cb,
                                     void *arg,
                                     struct shl_err *err);

/* Boot again from the disk as it is: @hard without asking the guest to shut down. */
void node_manager_reboot(struct node_manager *manager,
                         struct node_sandbox *sandbox,
                         bool hard,
                         node_sandbox_cb cb,
                         void *arg);

/* Restart the idle timer with a new length; 0 disables. Durable when it returns 0. */
SHL_MUST_CHECK int node_sandbox_set_timeout(struct node_sandbox *sandbox, uint32_t timeout_s);

/* Other preview records and token (copied), also for other nodes that may have the sandbox. Durable
 * when it returns 0; SHL_EGONE (it has ended) or an error of the store with a sentence, and
 * nothing has changed. */
SHL_MUST_CHECK int node_sandbox_set_previews(struct node_sandbox *sandbox,
                                             const struct node_previews *previews,
                                             struct shl_err *err);

/* Activity: touch restarts the idle timer; between hold and release it does not run. */
void node_sandbox_touch(struct node_sandbox *sandbox);
void node_sandbox_hold(struct node_sandbox *sandbox);
void node_sandbox_release(struct node_sandbox *sandbox);

/* Keep the struct past callbacks; the record may end meanwhile (look at state). */
void node_sandbox_ref(struct node_sandbox *sandbox);
void node_sandbox_unref(struct node_sandbox *sandbox);

/* Templates whose image is on this node. */
void node_manager_each_template(struct node_manager *manager,
                                void (*each)(void *arg, const char *name),
                                void *arg);
bool node_manager_has_template(const struct node_manager *manager, const char *name);

/* What changes, for whoever tells others (node/cluster). Called from inside other calls: do
 * not change anything from here. @is_gone: the record is about to be freed. */
struct node_checkpoint;
struct node_manager_watch {
    void (*sandbox)(void *arg, const struct node_sandbox *sandbox, bool is_gone);
    void (*checkpoint)(void *arg, const struct node_checkpoint *checkpoint, bool is_gone);
};
/* One watcher; NULL ends it. What there is already is told at once. */
void node_manager_set_watch(struct node_manager *manager,
                            const struct node_manager_watch *watch,
                            void *arg);

/* What stands between a guest and the world has to know it before the guest can send anything, and
 * until its address is free again. @guest is its IPv4 address, host byte order. */
struct node_manager_network {
    void (*attach)(void *arg, struct node_sandbox *sandbox, uint32_t guest);
    void (*detach)(void *arg, uint32_t guest);
};
/* One listener; NULL ends it. Guests that run are told at once. */
void node_manager_set_network(struct node_manager *manager,
                              const struct node_manager_network *network,
                              void *arg);
/* Those that run and have an address; false stops. */
void node_manager_each_guest(struct node_manager *manager,
                             bool (*each)(void *arg, struct node_sandbox *sandbox, uint32_t guest),
                             void *arg);
/* Bytes that its guest received and sent in its present run; 0 when there is none. */
void node_sandbox_net_bytes(const struct node_sandbox *sandbox,
                            uint64_t *ret_in,
                            uint64_t *ret_out);
/* The allowlist of its stores is another one by now. Durable when it returns 0. */
SHL_MUST_CHECK int node_sandbox_set_allowlist(struct node_sandbox *sandbox,
                                              const struct node_host_list *allowlist);

/* For /metrics, `shoal status` and GET /api/workers. */
struct node_manager_counts {
    uint32_t running;
    uint32_t creating;
    uint32_t errors;
    uint32_t hibernated;
    uint32_t checkpoints; /* all of them; those not ready also below */
    uint32_t checkpoints_processing;
    uint32_t checkpoints_failed;
    uint64_t hibernations;        /* that succeeded, since the daemon started */
    uint64_t wakes_warm;          /* likewise: memory restored */
    uint64_t wakes_cold;          /* booted from the disk instead */
    uint32_t warm_templates;      /* creates of these are restores */
    uint32_t memory_total_mb;     /* of this machine */
    uint32_t memory_usable_mb;    /* of that, for sandboxes */
    uint32_t memory_committed_mb; /* sum over living sandboxes */
    uint32_t cpus_total;
    uint32_t cpus_committed; /* vCPUs, likewise */
    uint32_t sandboxes_max;
};
/* The guest network; NULL without sandboxes. For the egress gateway. */
struct node_net *node_manager_net(struct node_manager *manager);

/* A certificate for the trust store of a guest, and the hash of its subject by which OpenSSL
 * finds it in a folder. */
struct node_trusted {
    char hash[9];
    char *pem; /* heap */
};

/* What guests that leave through the egress gateway get with their next setup. Takes @list and
 * what is in it. */
void node_manager_set_trusted(struct node_manager *manager,
                              struct node_trusted *list,
                              size_t count);
/* They will be set: until then new sandboxes with secret stores wait, within their limit. */
void node_manager_expect_trusted(struct node_manager *manager);

void node_manager_count(struct node_manager *manager, struct node_manager_counts *ret);

#endif /* SHL_NODE_SANDBOX_MANAGER_H */
