/* What the files of node/sandbox share: one sandbox, its manager, and who calls whom.
 *
 *   manager.c   open, close, find, each, kill, counts, housekeeping
 *   create.c    checks and admission of a create
 *   boot.c      a run from its files to running, step by step; start.c tells the VMM,
 *               setup.c the guest
 *   watch.c     running: agent and VMM links, their loss, the end of the VMM
 *   idle.c      the idle timer
 *   snapshot.c  memory, devices and disk of a running one into layers
 *   go_on.c     a VM that was paused or frozen goes on
 *   hibernate.c running -> hibernated
 *   wake.c      hibernated -> running; node_sandbox_need; the gate
 *   pause.c     vCPUs that stand still because a lease ends
 *   reboot.c    reboot, restore in place
 *   end.c       the end of a run, and of a sandbox: everything given back
 *   waiters.c   who waits for what
 *   adopt.c     records of a former daemon
 *   layers.c    layer files and their references; stack.c: what a VM starts from
 *   artefacts.c, bases.c, import.c: what other nodes have of it (portable.h,
 *               checkpoints_private.h)
 *   merge.c     deep stacks made flat in the background
 *   warm.c      warm templates; warm_make.c makes one
 *   state.c     the one function that changes the state; saving the record
 *   guests.c    who is told of guests' addresses
 *   files.c     folders and descriptors (blocking, for the thread pool)
 *   record.c    struct to msgpack and back
 *
 * A sandbox lives from its create to its end; a run is one VMM of it, with process,
 * links, memory, address, cgroup and run folder. A hibernated one lives without a run.
 *
 * Loop thread, except sandbox_work's run functions, which touch only the fields named
 * under "job".
 */
#ifndef SHL_NODE_SANDBOX_SANDBOX_H
#define SHL_NODE_SANDBOX_SANDBOX_H

#include <uv.h>

#include "base/log.h"
#include "base/mp.h"
#include "node/net/net.h"
#include "node/sandbox/agent_link_open.h"
#include "node/sandbox/cgroup.h"
#include "node/sandbox/manager_open.h"
#include "node/sandbox/patch.h"
#include "node/sandbox/portable.h"
#include "node/sandbox/process.h"
#include "node/sandbox/stack.h"
#include "node/sandbox/vmm_link.h"

#define SANDBOX_KIND               "sandbox" /* of records */
#define SANDBOX_ENDED_MAX          10000     /* records of ended ones; the oldest goes first */
#define SANDBOX_HASH_SIZE          4096
#define SANDBOX_BOOT_MS            60000
#define SANDBOX_BOOT_EMULATED_MS   180000
#define SANDBOX_SILENT_MS          30000 /* agent does not answer HELLO while it should run */
#define SANDBOX_SILENT_EMULATED_MS 90000
#define SANDBOX_STOP_MS            2000 /* from op stop to SIGKILL */
#define SANDBOX_HOUSEKEEPING_MS    30000
#define SANDBOX_VMM_LOG_MAX        (1024 * 1024)
#define SANDBOX_OVERHEAD_MB        128 /* of a VMM over its guest's memory, for its cgroup */
/* vCPU threads bound themselves; the rest is for the VMM's device threads, because a
 * group at its limit stops as a whole until the next period */
#define SANDBOX_CPU_EXTRA_PERCENT 50
#define SANDBOX_PIDS_MAX          64
#define SANDBOX_RESERVE_MIN_MB    256 /* of the machine, never given to guests */
#define SANDBOX_RESERVE_SHARE     16  /* or this part of its memory, if more */
#define SANDBOX_BOOT_ID_SIZE      40
#define SANDBOX_PATH_MAX          512

enum sandbox_fd {
    SANDBOX_FD_KERNEL,
    SANDBOX_FD_INITRD,
    SANDBOX_FD_OVERLAY,
    SANDBOX_FD_SERIAL,
    SANDBOX_FD_LOG,
    SANDBOX_FD_TAP,
    SANDBOX_FD_COUNT,
};

/* Someone who waits for an outcome. */
struct sandbox_waiter {
    struct shl_list node;
    node_sandbox_cb cb;
    void *arg;
    int code; /* once known, for those answered later */
    char msg[NODE_REASON_MAX];
};

struct snapshot;

struct sandbox {
    struct node_sandbox pub;
    struct sandbox *hash_next;
    int refs;     /* of callers; they only keep the record from being dropped */
    bool hidden;  /* makes or tries a warm template, or builds: in no list and in no record */
    bool builder; /* hidden, but otherwise as one of a user (builder.h) */

    /* part of the record beside pub */
    enum node_sandbox_state durable; /* the state the record has, or will have when saved next */
    struct node_stack stack;         /* referenced: what the present run began with and sealed
                                        since, or what the next one starts from */
    struct node_layer_id overlay;    /* referenced: what the present run writes */
    struct node_layer_id next;       /* referenced: what it is about to write, in a snapshot */
    bool imported;                   /* of another node, and not run here since */
    bool has_slot;
    uint32_t slot;
    bool had_slot; /* of a run before */
    struct node_process_id vmm_id;
    char machine_boot_id[SANDBOX_BOOT_ID_SIZE];

    /* while it lives: set by sandbox_begin_life, gone after sandbox_finish */
    bool alive;
    uv_timer_t timer;    /* boot limit, silent agent, SIGKILL: one at a time */
    uv_timer_t idle;     /* idle timer, also how long a hibernation waits for calls */
    uv_timer_t op_timer; /* limit of a step of a snapshot or a soft reboot */
    uv_timer_t go_timer; /* go_on.c: what could not be asked for is tried again */
    bool timers_closed;
    int handles; /* open sub-objects; the end waits for 0 */
    int holds;
    bool draining;          /* hibernates as soon as nobody holds it */
    uint32_t idle_failures; /* hibernations on idle that failed in a row */
    bool merging;
    bool merge_failed;           /* since the stack changed last */
    bool layers_due;             /* the VMM may still have the layers from before a merge */
    bool telling;                /* it is being told of the present ones */
    struct gate_call *gate_call; /* asked whether it may run, not answered (wake.c) */
    bool moved;                  /* another node has it: ends without leaving a trace */
    bool saved;                  /* its hibernation is an artefact, or will be */
    bool save_failed;            /* its hibernation did not become an artefact: tried again later */
    uint64_t autosave_at_ms;     /* monotonic; 0: not running */
    bool paused;                 /* its vCPUs are to stand still (pause.c) */
    bool pause_due;              /* the VMM was not told of that yet */
    bool pausing, pause_told;    /* it is being told this */
    uint64_t deadline_ms;        /* monotonic: its VMM pauses itself then; 0: never */
    bool deadline_unknown;       /* a former daemon's, not read from the VMM yet */
    bool deadline_due;           /* the VMM was not told of it yet */
    bool deadline_telling;       /* it is being told, or asked */
    uint64_t deadline_told_ms;   /* this one */
    bool deadline_refused;       /* this VMM keeps none */
    bool struck;                 /* it paused itself, and was not let go on since */
    bool tell_failed;            /* since the stack changed last */

    /* while it has a run: set by run_begin, gone after run_end */
    bool run;
    bool queued;  /* waits for its turn to boot */
    bool booting; /* counts against boots_max */
    struct shl_list queue_node;
    struct node_stack start; /* referenced: what this run starts from, until it runs */
    bool restored;           /* with its memory, not booted */
    bool cold;               /* the memory turned out to be useless: boots without it */
    bool start_pending;      /* op start or restore is not answered yet */
    bool resume_due;         /* the VM may be paused and is to go on */
    bool thaw_due;           /* its user processes may be frozen, likewise */
    bool resuming, thawing;  /* that request is under way */
    bool no_merge;           /* which overlay it writes is not beyond doubt */
    int fds[SANDBOX_FD_COUNT];
    struct node_stack_fds stack_fds;
    bool attached; /* in the network rules */
    struct node_process *process;
    bool exited;
    bool exit_known; /* then what it said */
    int exit_status, exit_signal;
    struct node_vmm_link *control;
    struct node_agent_link *link;
    struct node_agent_stream *setup;
    bool trust_due;                /* its setup waits for certificates (boot_on_trust) */
    struct node_command *patch;    /* patch.c: runs */
    uint32_t patch_sequence;       /* that one */
    uint32_t run_patched;          /* the last one that succeeded, recorded when it is running */
    bool patches_over;             /* of this run */
    struct patch_wait *patch_wait; /* which patches there are is asked, not answered */
    bool patches_due;              /* set up, and waits for that answer */
    char run_patch_error[NODE_REASON_MAX];
    uint64_t began_us;                         /* for the log, like the next ones */
    uint64_t spawned_us, started_us, hello_us; /* process, reply of the VMM, first of the agent */
    struct snapshot *snapshot;
    struct shl_list snapshots; /* that wait for their turn */

    /* who waits */
    node_create_cb create_cb; /* NULL once called */
    void *create_arg;
    struct shl_list waiters;      /* for the end */
    struct shl_list wakers;       /* for running */
    struct shl_list sleepers;     /* for hibernated */
    struct shl_list reboots;      /* for the end of a reboot or restore in place */
    struct node_stack *switch_to; /* heap, referenced: the next wake tries this one */
    int switch_code;              /* why that failed */
    char switch_msg[NODE_REASON_MAX];
    bool rebooting;     /* goes on from its disk as soon as the run is over */
    bool shutting_down; /* the guest was asked to, and its VMM will end */

    /* how a run ends, or the sandbox */
    bool ending;     /* the run is being taken down, or all of it */
    bool over;       /* the sandbox ends */
    bool letting_go; /* the daemon goes, the VM stays */
    bool stop_sent;
    bool closed;                                /* links and process were told to close */
    bool removing;                              /* folders and cgroup are being removed, or are */
    void (*after_run)(struct sandbox *sandbox); /* when it lives on */
    int run_code;                               /* why the run ended, for after_run */
    char run_reason[NODE_REASON_MAX];
    enum node_sandbox_state end_state;
    int end_code;
    char end_reason[NODE_REASON_MAX];

    /* job: one at a time on the thread pool */
    uv_work_t work;
    bool working;
    void (*job_run)(struct sandbox *sandbox);
    void (*job_done)(struct sandbox *sandbox);
    int job_rc;
    struct shl_err job_err;
    char found_base[NODE_LAYER_ID_SIZE]; /* of the template, when the run begins without one */
};

struct node_manager {
    uv_loop_t *loop;
    struct node_store *store;
    struct shl_log log;
    char *data_dir, *run_dir, *vmm_path;
    struct node_net *net;         /* NULL: sandboxes without network */
    struct node_trusted *trusted; /* certificates for guests behind the egress gateway */
    size_t trusted_count;
    bool trusted_expected;           /* they will be set, so a guest that needs them waits */
    struct checkpoints *checkpoints; /* checkpoints.c */
    struct node_cgroups cgroups;
    char machine_boot_id[SANDBOX_BOOT_ID_SIZE];
    uint32_t sandboxes_max, boots_max;
    uint32_t memory_total_mb, memory_usable_mb, cpus;
    uint32_t boot_ms, silent_ms, stop_ms;
    int64_t ended_keep_ms;

    struct shl_list sandboxes; /* newest first */
    struct sandbox *hash[SANDBOX_HASH_SIZE];
    struct shl_list boot_queue;
    uint32_t booting;
    uint32_t alive;  /* sandboxes that live, with a run or without */
    uint32_t living; /* runs of users' sandboxes: they hold memory, addresses, processes */
    uint32_t ended;
    uint32_t memory_committed_mb, cpus_committed;
    struct node_layers *layers;
    struct shl_list warms;         /* of struct warm */
    char salt[NODE_LAYER_ID_SIZE]; /* of the ids of warm templates: no other node's are the same */
    bool warm_wanted;
    bool without_sandboxes;
    uint64_t hibernations, wakes_warm, wakes_cold; /* that succeeded */
    const struct node_manager_watch *watch;        /* or NULL */
    void *watch_arg;
    const struct node_manager_network *network; /* or NULL */
    void *network_arg;
    node_gate gate; /* or NULL */
    void *gate_arg;
    const struct node_patch_source *patches; /* or NULL */
    void *patches_arg;
    uint32_t jobs; /* on the thread pool that belong to no run; close waits */

    uv_timer_t housekeeping;
    uv_timer_t defer;         /* answers that must not come from inside a call */
    struct shl_list deferred; /* of struct sandbox_waiter */
    int handles;
    bool closing;
    bool closed; /* its own timers, too */
    void (*close_cb)(void *arg);
    void *close_arg;
};

/* Whoever changes something that others see calls these (manager.c). */
void manager_tell_sandbox(const struct sandbox *sandbox, bool is_gone);
struct node_checkpoint;
void manager_tell_checkpoint(struct node_manager *manager,
                             const struct node_checkpoint *checkpoint,
                             bool is_gone);
void checkpoints_tell(struct node_manager *manager); /* all of them */

static inline struct sandbox *sandbox_of(struct node_sandbox *pub)
{
    return shl_container_of(pub, struct sandbox, pub);
}

/* manager.c */
void manager_insert(struct node_manager *manager, struct sandbox *sandbox);
struct sandbox *manager_lookup(struct node_manager *manager, const char *id);
struct sandbox *sandbox_new(struct node_manager *manager); /* NULL without memory */
void sandbox_free(struct sandbox *sandbox);
/* Called when a living sandbox was finished or let go. */
void manager_on_finished(struct node_manager *manager);
/* Those that another node has, and nobody here looks at, are forgotten. */
void manager_drop_moved(struct node_manager *manager);
/* One of manager->jobs is over. */
void manager_job_ended(struct node_manager *manager);

/* create.c */
SHL_MUST_CHECK int sandbox_spec_check(const struct node_sandbox_spec *spec, struct shl_err *err);
SHL_MUST_CHECK int sandbox_spec_copy(struct node_sandbox_spec *dst,
                                     const struct node_sandbox_spec *src);
void sandbox_spec_release(struct node_sandbox_spec *spec);
/* May a run of @spec begin? */
SHL_MUST_CHECK int sandbox_admit(const struct node_manager *manager,
                                 const struct node_sandbox_spec *spec,
                                 struct shl_err *err);

/* One that makes or tries a warm template: in no list, in no record; starts from @stack. */
SHL_MUST_CHECK int sandbox_create_hidden(struct node_manager *manager,
                                         const struct node_sandbox_spec *spec,
                                         const struct node_stack *stack,
                                         node_create_cb cb,
                                         void *arg,
                                         struct sandbox **ret_sandbox,
                                         struct shl_err *err);

/* waiters.c: each callback is called once, never from inside the call that added it */
SHL_MUST_CHECK int waiter_add(struct shl_list *list, node_sandbox_cb cb, void *arg);
void waiters_answer(struct shl_list *list, int code, const char *msg);
void waiters_answer_later(struct node_manager *manager,
                          struct shl_list *list,
                          int code,
                          const char *msg);
/* Later, from the loop. Without memory at once. */
void answer_later(struct node_manager *manager,
                  node_sandbox_cb cb,
                  void *arg,
                  int code,
                  const char *msg);
void answer_deferred(struct node_manager *manager);

/* boot.c */
void boot_enqueue(struct sandbox *sandbox);
void boot_pump(struct node_manager *manager);
/* The control connection is up, or up again, while booting. */
void boot_on_control(struct sandbox *sandbox);
/* The agent link became ready while booting. */
void boot_on_agent(struct sandbox *sandbox);
/* There are certificates for guests now: those that waited for them are set up. */
void boot_on_trust(struct node_manager *manager);

/* It may take @ms longer until it runs. */
void boot_extend(struct sandbox *sandbox, uint64_t ms);
/* Set up, and whatever else is to be done before anybody uses it: it runs. */
void boot_become_running(struct sandbox *sandbox);

/* patch.c: the boot begins, and what there is to run is asked. */
void patches_ask(struct sandbox *sandbox);
/* True when patches run now or may soon, and boot_become_running follows. */
bool patches_begin(struct sandbox *sandbox);
/* The answer is of no interest any more. */
void patches_forget(struct sandbox *sandbox);

/* guests.c: its address is about to be used, or not any more */
void guest_attach(struct sandbox *sandbox);
void guest_detach(struct sandbox *sandbox);

/* start.c: op start or restore with its descriptors */
SHL_MUST_CHECK int start_send(struct sandbox *sandbox, node_vmm_reply_cb cb);

/* setup.c: the request setup */
SHL_MUST_CHECK int setup_encode(const struct sandbox *sandbox, struct shl_buf *buf);

/* watch.c */
SHL_MUST_CHECK int watch_open_control(struct sandbox *sandbox);
SHL_MUST_CHECK int watch_open_agent(struct sandbox *sandbox);
void watch_on_exit(void *arg, bool known, int64_t status, int signal);
/* The process is gone and nothing of it is awaited: say why and end the run. */
void watch_judge_exit(struct sandbox *sandbox, const char *otherwise);
/* Why a VMM that is gone ended, from its exit file; true when the file says so. */
bool watch_exit_reason(struct sandbox *sandbox,
                       char reason[NODE_REASON_MAX],
                       int *ret_code,
                       enum node_sandbox_state *ret_state);
/* The agent must answer within silent_ms from now on. */
void watch_start_silence(struct sandbox *sandbox);

/* idle.c */
void idle_start(struct sandbox *sandbox);
void idle_start_after(struct sandbox *sandbox, uint64_t ms); /* whatever its timeout is */
void idle_stop(struct sandbox *sandbox);

/* hibernate.c */
void hibernate_begin(struct sandbox *sandbox);
void hibernate_on_release(struct sandbox *sandbox); /* nobody holds it any more */

/* wake.c */
void wake_begin(struct sandbox *sandbox);
void wake_later(struct sandbox *sandbox); /* from the loop */
/* The run that was to wake it is over; run_code and run_reason say why. */
void wake_failed(struct sandbox *sandbox);
/* @code says that what was saved cannot be restored here, so a boot from the disk may help. */
bool wake_is_useless(const struct sandbox *sandbox, int code);
/* The gate's answer is of no interest any more. */
void gate_forget(struct sandbox *sandbox);
/* As wake_begin when the gate says so. */
void wake_ask(struct sandbox *sandbox);

/* reboot.c: the VMM ended while a soft reboot waits for that */
void reboot_on_exit(struct sandbox *sandbox);
/* A wake succeeded (0) or failed: tells those who wait for a reboot or restore. */
void reboot_answer(struct sandbox *sandbox, int code, const char *msg);
void switch_drop(struct sandbox *sandbox);

/* artefacts.c: hibernations as artefacts */
void saves_on_hibernated(struct sandbox *sandbox);
void saves_on_ended(struct sandbox *sandbox, bool moved);
/* Something that other nodes may have was saved of it. */
bool saves_any_ready(const struct sandbox *sandbox);

/* pause.c: after something changed: tell the VMM, and those who wait */
void pause_apply(struct sandbox *sandbox);
/* Likewise, of the deadline. */
void deadline_apply(struct sandbox *sandbox);
/* The VMM may be asked to go on: it has, or gets before that, a deadline that lies ahead. */
bool deadline_lies_ahead(const struct sandbox *sandbox);
/* It is to run: if its VMM had paused itself, that ends. */
void deadline_go_on(struct sandbox *sandbox);
/* Before the next run is allowed. */
void deadline_forget(struct sandbox *sandbox);

/* snapshot.c: the run ends; nothing more is begun */
void snapshot_refuse_waiting(struct sandbox *sandbox, int code, const char *msg);
/* A merge is over, or the VMM was told of one, or could not be. */
void snapshot_on_merged(struct sandbox *sandbox);
/* The control connection is up again. */
void snapshot_on_control(struct sandbox *sandbox);
bool snapshot_survives_exit(const struct sandbox *sandbox);

/* go_on.c: resume and thaw what is due, as soon as VMM and agent can be asked */
void go_on(struct sandbox *sandbox);

/* merge.c: look whether the stack of @sandbox is deep, and flatten it in the background */
void merge_consider(struct sandbox *sandbox);

/* warm.c */
void warm_open(struct node_manager *manager); /* when all records have their references */
void warm_close(struct node_manager *manager);
void warm_free(struct node_manager *manager);
void warm_pump(struct node_manager *manager);
void warm_housekeeping(struct node_manager *manager);
/* The stack of the warm template, or an empty one: then it boots. */
void warm_stack(struct node_manager *manager, const char *template_name, struct node_stack *ret);
/* It could not be restored: it is made anew. */
void warm_is_bad(struct node_manager *manager, const char *id);
uint32_t warm_count(const struct node_manager *manager);

/* end.c */
void sandbox_begin_life(struct sandbox *sandbox);
/* Memory, a place among the living: from here to the end of the run. */
void run_begin(struct sandbox *sandbox, const struct node_stack *start);
/* Take the run down and go on with @after; requests in flight hear @msg. */
void run_end(struct sandbox *sandbox,
             void (*after)(struct sandbox *sandbox),
             int code,
             const char *msg);
/* This run failed: while creating or running that is the end of the sandbox with @state,
 * while waking it is hibernated again. */
void run_fail(struct sandbox *sandbox,
              enum node_sandbox_state state,
              int code,
              const char *fmt,
              ...) SHL_PRINTF(4, 5);
/* Begin the end; the first reason counts. @state is STOPPED or ERROR, @code what a
 * pending create is answered with. */
void sandbox_end(struct sandbox *sandbox,
                 enum node_sandbox_state state,
                 int code,
                 const char *fmt,
                 ...) SHL_PRINTF(4, 5);
/* Stop watching, let the VM run (or kill it when it never became usable). */
void sandbox_let_go(struct sandbox *sandbox);
/* Next step of an end in progress; called by whatever it waited for. */
void end_advance(struct sandbox *sandbox);
void sandbox_handle_closed(void *arg);
void sandbox_close_fds(struct sandbox *sandbox);
/* Replace the stack of the record: takes references on @stack, drops the former ones. */
void sandbox_set_stack(struct sandbox *sandbox, const struct node_stack *stack);

/* work on the thread pool: @run there, @done back on the loop */
void sandbox_work(struct sandbox *sandbox,
                  void (*run)(struct sandbox *sandbox),
                  void (*done)(struct sandbox *sandbox));

/* adopt.c: load has no open handles when it fails; resume comes after it. */
SHL_MUST_CHECK int adopt_load(struct node_manager *manager,
                              const struct node_manager_config *config,
                              struct shl_err *err);
void adopt_resume(struct node_manager *manager);

/* state.c */
void sandbox_set_state(struct sandbox *sandbox, enum node_sandbox_state state, const char *reason);
/* Writes the record with the state sandbox->durable. */
SHL_MUST_CHECK int sandbox_save(struct sandbox *sandbox, struct shl_err *err);
const char *sandbox_state_name(enum node_sandbox_state state);

/* files.c: paths and blocking work */
void files_run_path(const struct sandbox *sandbox, char path[SANDBOX_PATH_MAX], const char *name);
SHL_MUST_CHECK int files_template(const struct node_manager *manager,
                                  const char *name,
                                  uint64_t *ret_bytes,
                                  struct shl_err *err);
/* The image and its identity: a fingerprint of its size, ends and description. */
SHL_MUST_CHECK int files_open_template(const struct node_manager *manager,
                                       const char *name,
                                       int *ret_fd,
                                       char identity[NODE_LAYER_ID_SIZE],
                                       struct shl_err *err);
/* The image with that identity that was imported: its size, or SHL_ENOTFOUND ... */
SHL_MUST_CHECK int files_base(const struct node_manager *manager,
                              const char *id,
                              uint64_t *ret_bytes);
/* ... and itself; 0 or -errno. */
SHL_MUST_CHECK int files_open_base(const struct node_manager *manager, const char *id, int *ret_fd);
SHL_MUST_CHECK int files_check(const struct node_manager *manager, struct shl_err *err);
/* Folder and files of a run, and those of what it starts from. */
SHL_MUST_CHECK int files_prepare(struct sandbox *sandbox, struct shl_err *err);
SHL_MUST_CHECK int files_remove(const struct node_manager *manager,
                                const char *id,
                                struct shl_err *err);
/* A new layer file of @kind, read-write. Its descriptor or a negative code. */
SHL_MUST_CHECK int files_new_layer(const struct node_manager *manager,
                                   const char *id,
                                   const char *kind,
                                   struct shl_err *err);
/* Layer @id of @kind is on disk when this returns 0; adds what it occupies to @bytes. */
SHL_MUST_CHECK int files_sync_layer(const struct node_manager *manager,
                                    const char *id,
                                    const char *kind,
                                    uint64_t *bytes,
                                    struct shl_err *err);
SHL_MUST_CHECK int files_sync_folder(const struct node_manager *manager,
                                     const char *name,
                                     struct shl_err *err);
#define FILES_CONSOLE "serial.log"
#define FILES_VMM_LOG "vmm.log"
/* The end of a file in the run folder, as much as @buf may hold. SHL_ENOTFOUND, -errno. */
SHL_MUST_CHECK int files_read_tail(const struct sandbox *sandbox,
                                   const char *name,
                                   struct shl_buf *buf);
/* Last line of such a file, cleaned; "" when there is none. */
void files_last_line(const struct sandbox *sandbox, const char *name, char *dst, size_t size);
/* The VMM's log above its limit is emptied. */
void files_bound_log(const struct sandbox *sandbox);

/* remains.c: before the run folder of a sandbox that failed is removed. On the thread pool. */
void remains_keep(const struct sandbox *sandbox);

/* record.c */
SHL_MUST_CHECK int record_encode(const struct sandbox *sandbox, struct shl_buf *buf);
/* Fills a fresh sandbox. SHL_EVERSION, SHL_ECORRUPT, -ENOMEM with a sentence. */
SHL_MUST_CHECK int record_decode(struct sandbox *sandbox,
                                 const char *id,
                                 struct shl_bytes value,
                                 struct shl_err *err);
/* Specification as fields of the open map, and back; also for records of checkpoints. */
void record_encode_spec(struct shl_mp_writer *w, const struct node_sandbox_spec *spec);
SHL_MUST_CHECK int record_decode_spec(const msgpack_object *map, struct node_sandbox_spec *spec);

#endif /* SHL_NODE_SANDBOX_SANDBOX_H */
