/* Shared by the files of node/cluster/. See cluster.h for who does what. */
#ifndef SHL_NODE_CLUSTER_CLUSTER_PRIVATE_H
#define SHL_NODE_CLUSTER_CLUSTER_PRIVATE_H

#include "base/list.h"
#include "gossip/gossip.h"
#include "node/cluster/cluster.h"
#include "node/cluster/wire.h"
#include "node/cluster/writer.h"
#include "node/mesh/mesh.h"
#include "node/store/raft_log.h"
#include "scheduler/cluster_time.h"
#include "scheduler/leases.h"
#include "scheduler/place.h"
#include "scheduler/raft.h"
#include "scheduler/state.h"
#include "scheduler/voters.h"

#define CLUSTER_STORE_KIND     "mesh" /* records of node/store: cluster, incarnation, book */
#define CLUSTER_ORDERS_MAX     4096   /* commands of this node under way */
#define CLUSTER_ORDER_MS       8000   /* until an order gives up; more on a slow machine */
#define CLUSTER_ORDER_PAUSE_MS 50     /* between two attempts */
#define CLUSTER_TICK_MS        250    /* of what is looked at now and then */
#define CLUSTER_ASK_MS         2000   /* one question to a peer */
#define CLUSTER_PLACE_MS       3000   /* how long room is kept for a placement */
#define CLUSTER_RESTART_MS     60000  /* a node that said good-bye has to be back, or is lost */
#define CLUSTER_RECORD_MAX     4096   /* bytes of a gossiped record */

/* Kinds and methods on the mesh. */
#define CLUSTER_MSG_GOSSIP   "gossip"
#define CLUSTER_MSG_RAFT     "raft"
#define CLUSTER_RPC_PROPOSE  "log.propose"
#define CLUSTER_RPC_PLACE    "sched.place"
#define CLUSTER_RPC_WHERE    "where"
#define CLUSTER_RPC_TAKE     "sandbox.take"
#define CLUSTER_RPC_EVICT    "node.evict"
#define CLUSTER_RPC_APPLIED  "log.applied"
#define CLUSTER_RPC_MAY_DROP "replica.may-drop"

/* Gossiped keys of a node. */
#define CLUSTER_KEY_NODE       "node"
#define CLUSTER_KEY_SANDBOX    "sb/"
#define CLUSTER_KEY_CHECKPOINT "cp/"
#define CLUSTER_KEY_TEMPLATE   "tpl/"

/* Outcome of a command: @code 0 and the result; or negative, @msg a sentence, and the
 * result where the state machine refused it (NULL when it never got there). */
typedef void (*cluster_command_cb)(void *arg,
                                   int code,
                                   const char *msg,
                                   const struct sched_result *result);

/* A command given to the Raft core of this node, the leader. */
struct cluster_proposal {
    struct shl_list link; /* of log.proposals, later of log.done */
    uint64_t tag;
    bool is_applied;
    struct sched_result result;
    enum sched_raft_reason reason;
    void (*cb)(void *arg, enum sched_raft_reason reason, const struct sched_result *result);
    void *arg;
};

struct cluster_log {
    struct node_raft_log *store;
    struct cluster_writer *writer;
    struct sched_raft *raft;
    struct sched_raft_actions actions;
    uv_timer_t timer;
    uint64_t next_tag;
    struct shl_list proposals; /* waiting for their entry */
    struct shl_list done;      /* to be told, outside of the core's step */
    bool is_stepping;
    bool is_settling;
    bool wants_snapshot;
    bool is_failed;
};

/* Duties of the leader; all zero while another node leads. */
struct cluster_lead {
    bool is_leader;
    bool is_ready; /* an entry of this term is applied: the state is current */
    uint64_t term;
    struct sched_cluster_time time;
    uint64_t expired_at_ms;
    uint64_t voters_changed_at_ms; /* 0: not in this term */
    bool is_changing;              /* a membership change is under way */
};

/* How many admissions of a node are in the figures that were seen. */
struct cluster_seen {
    struct shl_node_id node;
    uint64_t admitted;
};

/* A node that was chosen for a build a moment ago (place_build.c). */
#define CLUSTER_BUILDS_MAX 64
struct cluster_build {
    char key[NODE_ROW_KEY_SIZE]; /* "" free */
    struct shl_node_id node;
    uint64_t until_ms;
};

/* Something whose answer may come when the cluster is gone: then @cluster is NULL, and all that is
 * left to do is to free it. */
struct cluster_job {
    struct shl_list link; /* of cluster.jobs */
    struct cluster *cluster;
};

/* The key of secret values (keyring.c). */
struct cluster_keyring {
    bool is_busy;          /* a change is under way */
    uint64_t looked_at_ms; /* 0: something changed since */
    void (*changed)(void *arg, const char *key);
    void *changed_arg;
};

struct cluster_keyring_counts {
    uint32_t generation; /* 0: no key yet */
    uint32_t secrets;
    uint32_t old; /* sealed with an older key */
};

struct cluster {
    struct node_router router;
    uv_loop_t *loop;
    struct node_store *store;
    struct node_manager *manager;
    struct shl_log log_sink;
    char *data_dir;
    char name[NODE_NAME_SIZE];
    char region[NODE_NAME_SIZE];
    char api_url[NODE_URL_TEXT_SIZE];
    char domain[NODE_NAME_SIZE];
    uint32_t version_min, version_max; /* of the mesh protocol */
    bool is_witness;
    bool is_slow;
    struct node_mesh_keys keys;
    uint8_t id[NODE_CLUSTER_BYTES];
    bool has_id;
    struct node_mesh_addr addr; /* what peers are told */

    struct node_mesh *mesh;
    struct gossip *gossip;
    struct gossip_actions gossip_actions;
    uv_timer_t gossip_timer;
    uint64_t incarnation_unsaved; /* 0: none; else nothing is said until the disk has it */
    bool incarnation_told;
    struct cluster_log log;
    struct sched_state *state;
    struct cluster_lead lead;
    struct sched_leases leases; /* leader's view */
    struct sched_lease lease;   /* ours */
    struct sched_place place;   /* reservations; the leader's, or ours without one */
    struct cluster_seen seen[SCHED_NODES_MAX];
    uint32_t seen_count;
    struct cluster_build builds[CLUSTER_BUILDS_MAX];
    struct shl_list orders; /* commands of this node under way (propose.c) */
    uint32_t order_count;
    struct shl_list row_waits; /* rows.c */
    struct shl_list marks;     /* orders under way (mark.c) */
    struct cluster_keyring keyring;
    uv_timer_t tick;
    uint64_t admitted;        /* sandboxes that this node took on, for the reservations */
    uint64_t templates_at_ms; /* when to look at them again */
    int64_t clock_off_ms;     /* wall clock of this machine, ahead of the cluster's time */
    uint64_t clock_told_at_ms;

    struct cluster_owners *owners; /* who may run what (owners.c) */
    struct shl_list jobs;          /* of struct cluster_job */
    struct shl_list takes;         /* sandboxes that are being copied here (take.c) */
    uint32_t take_count;
    struct shl_list moves; /* and away (move.c) */
    uint32_t move_count;
    struct cluster_recovery *recovery; /* the leader's (recover.c) */
    uint64_t lost_looked_at_ms;        /* lost.c */
    uint32_t healing_count;
    uint64_t opened_at_ms;
    bool is_evicting; /* everything that runs is to go (evict.c) */
    uint32_t evicted;
    uint64_t lease_seq;   /* of a renewal that is granted when @lease_index is applied */
    uint64_t lease_index; /* 0: none */
    struct cluster_replicas *replicas; /* replicas.h */

    node_stream_accept accept; /* of requests that peers pass on */
    void *accept_arg;
    void (*joined)(void *arg, int code, const char *msg);
    void *joined_arg;
    void (*restart)(void *arg); /* NULL: nobody could */
    struct cluster_join *join;  /* while asking to be let in */
    bool is_updating;           /* our own row */
    bool is_founding;           /* until the first entry of the new cluster is applied */
    bool is_joining;            /* let in, but the log has not told us so yet */
    bool is_settled;            /* a member for good: what the cluster shares was exchanged */

    bool is_closing;
    uint32_t handles; /* that close_part waits for */
    void (*close_cb)(void *arg);
    void *close_arg;
};

uint64_t cluster_now_ms(void); /* monotonic */
uint64_t cluster_wall_ms(void);

/* Longer on emulated machines. */
uint32_t cluster_patience_ms(const struct cluster *c, uint32_t ms);

/* Name of a node for sentences: its own, or hexadecimal digits. Static storage. */
const char *cluster_node_name(const struct cluster *c, const struct shl_node_id *id);

/*- identity.c */
SHL_MUST_CHECK int cluster_identity_load(struct cluster *c, struct shl_err *err);
SHL_MUST_CHECK int cluster_identity_save(struct cluster *c,
                                         const uint8_t id[NODE_CLUSTER_BYTES],
                                         struct shl_err *err);
/* How far this node is on its way into a cluster; on disk. */
enum cluster_standing {
    CLUSTER_STANDING_NONE, /* in none, or let in and the log has not said so yet */
    CLUSTER_STANDING_MEMBER,
    CLUSTER_STANDING_FOUNDING, /* the first entry of its own cluster is not known to be there */
};
enum cluster_standing cluster_standing_load(struct cluster *c);
SHL_MUST_CHECK int cluster_standing_save(struct cluster *c,
                                         enum cluster_standing standing,
                                         struct shl_err *err);
/* Address of the interface that the default route uses. */
SHL_MUST_CHECK int cluster_own_address(char host[NODE_MESH_HOST_SIZE], struct shl_err *err);

/*- members.c: needs the cluster id. */
SHL_MUST_CHECK int cluster_members_open(struct cluster *c, struct shl_err *err);
void cluster_members_feed(struct cluster *c, struct gossip_event *event);
void cluster_members_set(struct cluster *c, const char *key, struct shl_bytes value);
void cluster_members_unset(struct cluster *c, const char *key);
/* Live members but this one; false stops. */
void cluster_members_each_live(struct cluster *c,
                               bool (*each)(void *arg, const struct gossip_member *member),
                               void *arg);
bool cluster_members_is_live(const struct cluster *c, const struct shl_node_id *id);
bool cluster_members_is_alive(const struct cluster *c,
                              const struct shl_node_id *id); /* not suspected */

/*- log.c */
SHL_MUST_CHECK int cluster_log_open(struct cluster *c, const char *dir, struct shl_err *err);
void cluster_log_event(struct cluster *c, struct sched_raft_event *event);
/* As leader. @cb once, perhaps inside the call. 0, SHL_EUNAVAILABLE or -ENOMEM (then no @cb). */
SHL_MUST_CHECK int cluster_log_propose(struct cluster *c,
                                       struct shl_bytes command,
                                       void (*cb)(void *arg,
                                                  enum sched_raft_reason reason,
                                                  const struct sched_result *result),
                                       void *arg);
/* A membership change as leader. @cb may be NULL. */
SHL_MUST_CHECK int cluster_log_change(struct cluster *c,
                                      enum sched_raft_change_op op,
                                      const struct shl_node_id *node,
                                      bool witness,
                                      void (*cb)(void *arg,
                                                 enum sched_raft_reason reason,
                                                 const struct sched_result *result),
                                      void *arg);
/* Leadership to @target, or to whoever is furthest (none). Best effort. */
int cluster_log_transfer(struct cluster *c, const struct shl_node_id *target);
/* Stops timer and writer; cluster_close_part for each. */
void cluster_log_close(struct cluster *c);
/*- log_again.c */
bool cluster_log_is_disk_full(const struct cluster *c, const char *msg);
void cluster_log_wait_for_disk(struct cluster *c);
/*- log.c */
void cluster_log_free(struct cluster *c);

/*- apply.c */
/* After entry @command was applied with success; @kind of enum sched_command_kind. */
void cluster_apply_effects(struct cluster *c, uint32_t kind, const struct sched_command *command);
/* The API keys of the state, into the records of this node. */
void cluster_apply_keys(struct cluster *c);
/* Everything anew: at the start and after a snapshot was installed. */
void cluster_apply_all(struct cluster *c);
/* At the start: who is let in because of entries that are stored, but not known to be committed. */
void cluster_apply_hints(struct cluster *c);

/*- propose.c */
void cluster_propose_init(struct cluster *c);
/* From any node; retried until the leader has it or CLUSTER_ORDER_MS are over. @command is
 * encoded at once. @cb later. 0, or a code with a sentence and no @cb. */
SHL_MUST_CHECK int cluster_propose(struct cluster *c,
                                   const struct sched_command *command,
                                   cluster_command_cb cb,
                                   void *arg,
                                   struct shl_err *err);
void cluster_propose_close(struct cluster *c);

/* rows.c: node/api/router.h, row and so on. Close after the orders. */
bool cluster_row(const struct cluster *c, const char *key, struct node_row *ret);
void cluster_rows(const struct cluster *c,
                  const char *prefix,
                  bool (*each)(void *arg, const struct node_row *row),
                  void *arg);
int cluster_row_change(struct cluster *c,
                       const struct node_row_change *change,
                       struct node_order *ret,
                       node_order_cb cb,
                       void *arg);
/* Op forget of the router. */
int cluster_forget(struct cluster *c,
                   const char *checkpoint,
                   struct node_order *ret,
                   node_order_cb cb,
                   void *arg);
int cluster_row_sync(struct cluster *c, struct node_order *ret, node_order_cb cb, void *arg);
/* The log is applied further, or time has gone by: who waited for that is told. */
void cluster_rows_applied(struct cluster *c);
void cluster_rows_close(struct cluster *c);

/*- keyring.c */
SHL_MUST_CHECK int cluster_seal_key(const struct cluster *c,
                                    uint32_t generation,
                                    struct node_seal_key *ret,
                                    struct shl_err *err);
void cluster_keyring_tick(struct cluster *c, uint64_t now_ms);
/* After @command was applied; NULL: everything may be another. */
void cluster_keyring_applied(struct cluster *c, const struct sched_command *command);
void cluster_keyring_count(const struct cluster *c, struct cluster_keyring_counts *ret);

/* Fills in what the log keeps of this node. */
void cluster_describe(const struct cluster *c, struct sched_node_spec *spec);

/*- lead.c */
void cluster_lead_role_changed(struct cluster *c, enum sched_raft_role role, uint64_t term);
void cluster_lead_applied(struct cluster *c, uint64_t term);
void cluster_lead_tick(struct cluster *c, uint64_t now_ms);
uint64_t cluster_lead_time_ms(const struct cluster *c);
/* Lease and address of this node in the log. */
void cluster_own_tick(struct cluster *c, uint64_t now_ms);
/* The log is applied further: is the lease granted now? */
void cluster_own_applied(struct cluster *c);
/* SHL_ERR of a sched_raft_reason, and its sentence. */
int cluster_reason_code(enum sched_raft_reason reason);

/*- mark.c */
void cluster_mark_init(struct cluster *c);
/* As op set_mark of the router. */
int cluster_mark(struct cluster *c,
                 const struct shl_node_id *node,
                 enum node_mark wanted,
                 struct node_order *ret,
                 node_order_cb cb,
                 void *arg);
void cluster_marks_close(struct cluster *c);

/*- place.c */
void cluster_place_init(struct cluster *c);
int cluster_place(struct cluster *c,
                  const struct node_place *what,
                  struct node_answer *ret,
                  node_answer_cb cb,
                  void *arg);
/* Another node published figures with this count of admissions. */
void cluster_place_seen(struct cluster *c, const struct shl_node_id *node, uint64_t admitted);

/*- place_build.c */
enum cluster_building {
    CLUSTER_BUILD_NEW,    /* nobody builds it */
    CLUSTER_BUILD_CHOSEN, /* a node was told to, a moment ago; no row says so yet */
    CLUSTER_BUILD_KNOWN,  /* built, or being built */
};
/* @key NULL: nothing is to be built. *ret_node: which node builds or built it, or none. */
enum cluster_building cluster_build_find(struct cluster *c,
                                         const char *key,
                                         uint64_t now_ms,
                                         struct shl_node_id *ret_node);
void cluster_build_note(struct cluster *c,
                        const char *key,
                        uint64_t now_ms,
                        const struct shl_node_id *node);

/* Body of CLUSTER_RPC_TAKE (take.c). */
SHL_MUST_CHECK int cluster_take_write(struct shl_buf *buf, const char *sandbox, bool is_to_run);

/*- candidates.c */
/* Appends nodes that could have what @row (may be NULL) describes, but @but (may be NULL). */
void cluster_candidates(const struct cluster *c,
                        const struct sched_checkpoint *row,
                        const struct shl_node_id *but,
                        struct node_answer *ret);

/*- where.c */
void cluster_add_target(const struct cluster *c,
                        struct node_answer *ret,
                        const struct shl_node_id *id);
void cluster_where_init(struct cluster *c);
int cluster_where(struct cluster *c,
                  bool is_checkpoint,
                  const struct node_where *what,
                  struct node_answer *ret,
                  node_answer_cb cb,
                  void *arg);

/*- publish.c */
void cluster_publish_open(struct cluster *c);
void cluster_publish_tick(struct cluster *c, uint64_t now_ms);
void cluster_publish_close(struct cluster *c);

/* Of a node, 0 or SHL_ENOTFOUND, SHL_EPROTO. */
SHL_MUST_CHECK int cluster_figures_get(const struct cluster *c,
                                       const struct shl_node_id *id,
                                       struct cluster_figures *ret);

/*- join.c */
void cluster_join_init(struct cluster *c);
/* Ask to be let in with the token @text. */
SHL_MUST_CHECK int cluster_join_start(struct cluster *c, const char *text, struct shl_err *err);
void cluster_join_close(struct cluster *c);
int cluster_join_token(struct cluster *c,
                       uint32_t ttl_s,
                       struct node_order *ret,
                       node_order_cb cb,
                       void *arg);
/* The door is open while a token is valid. */
void cluster_join_watch(struct cluster *c);
/* The log has brought something: is it our own admission, or does the founder's cluster exist? */
void cluster_join_settled(struct cluster *c);
/* The key of sandbox tokens and the API keys of the state, into the records of this node. */
SHL_MUST_CHECK int cluster_join_take_shared(struct cluster *c, struct shl_err *err);
/* Tells the owner, once. */
void cluster_joined(struct cluster *c, int code, const char *msg);

/*- router.c */
void cluster_router_init(struct cluster *c);
struct node_order cluster_order_of(int code, const char *msg);

/*- cluster.c */
/* After a join: gossip and log begin. */
SHL_MUST_CHECK int cluster_begin(struct cluster *c, struct shl_err *err);
void cluster_close_part(void *arg); /* one of c->handles is closed */
void cluster_job_begin(struct cluster *c, struct cluster_job *job);
void cluster_job_end(struct cluster_job *job); /* before it is freed */

#endif /* SHL_NODE_CLUSTER_CLUSTER_PRIVATE_H */
