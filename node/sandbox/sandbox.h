/* What the files of node/sandbox share: one sandbox, its manager, and who calls whom.
 *
 *   manager.c   open, close, find, each, kill, counts, housekeeping
 *   create.c    checks and admission of a create
 *   boot.c      creating -> running, step by step
 *   watch.c     running: agent and VMM links, their loss, the end of the VMM
 *   idle.c      the idle timer
 *   end.c       whatever -> stopped or error, and everything given back
 *   adopt.c     records of a former daemon
 *   state.c     the one function that changes the state; saving the record
 *   files.c     folders and descriptors (blocking, for the thread pool)
 *   record.c    struct to msgpack and back
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
#include "node/sandbox/process.h"
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
    SANDBOX_FD_BASE,
    SANDBOX_FD_OVERLAY,
    SANDBOX_FD_SERIAL,
    SANDBOX_FD_LOG,
    SANDBOX_FD_TAP,
    SANDBOX_FD_COUNT,
};

/* Someone who waits for the end of a sandbox. */
struct sandbox_waiter {
    struct shl_list node;
    node_kill_cb cb;
    void *arg;
};

struct sandbox {
    struct node_sandbox pub;
    struct sandbox *hash_next;
    int refs; /* of callers; they only keep the record from being dropped */

    /* part of the record beside pub */
    bool has_slot;
    uint32_t slot;
    struct node_process_id vmm_id;
    char machine_boot_id[SANDBOX_BOOT_ID_SIZE];

    /* while it lives: set by sandbox_begin_life, gone after sandbox_finish */
    bool alive;
    bool queued;  /* waits for its turn to boot */
    bool booting; /* counts against boots_max */
    struct shl_list queue_node;
    uv_timer_t timer; /* boot limit, silent agent, SIGKILL: one at a time */
    uv_timer_t idle;
    int handles; /* open sub-objects; the end waits for 0 */
    int holds;
    int fds[SANDBOX_FD_COUNT];
    bool attached; /* in the network rules */
    struct node_process *process;
    bool exited;
    struct node_vmm_link *control;
    struct node_agent_link *link;
    struct node_agent_stream *setup;

    node_create_cb create_cb; /* NULL once called */
    void *create_arg;
    struct shl_list waiters;

    /* how it ends */
    bool ending;
    bool letting_go; /* the daemon goes, the VM stays */
    bool stop_sent;
    bool closed; /* sub-objects were told to close */
    bool removed;
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
};

struct node_manager {
    uv_loop_t *loop;
    struct node_store *store;
    struct shl_log log;
    char *data_dir, *run_dir, *vmm_path;
    struct node_net *net;            /* NULL: sandboxes without network */
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
    uint32_t living; /* alive ones: they hold memory, addresses, files */
    uint32_t ended;
    uint32_t memory_committed_mb;

    uv_timer_t housekeeping;
    uv_timer_t defer;         /* answers that must not come from inside a call */
    struct shl_list deferred; /* of struct sandbox_waiter */
    int handles;
    bool closing;
    void (*close_cb)(void *arg);
    void *close_arg;
};

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

/* create.c */
SHL_MUST_CHECK int sandbox_spec_check(const struct node_sandbox_spec *spec, struct shl_err *err);
SHL_MUST_CHECK int sandbox_spec_copy(struct node_sandbox_spec *dst,
                                     const struct node_sandbox_spec *src);
void sandbox_spec_release(struct node_sandbox_spec *spec);

/* boot.c */
void boot_enqueue(struct sandbox *sandbox);
void boot_pump(struct node_manager *manager);
/* The control connection is up, or up again, while booting. */
void boot_on_control(struct sandbox *sandbox);
/* The agent link became ready while booting. */
void boot_on_agent(struct sandbox *sandbox);

/* watch.c */
SHL_MUST_CHECK int watch_open_control(struct sandbox *sandbox);
SHL_MUST_CHECK int watch_open_agent(struct sandbox *sandbox);
void watch_on_exit(void *arg, bool known, int64_t status, int signal);
/* Why a VMM that is gone ended, from its exit file; true when the file says so. */
bool watch_exit_reason(struct sandbox *sandbox,
                       char reason[NODE_REASON_MAX],
                       int *ret_code,
                       enum node_sandbox_state *ret_state);
/* The agent must answer within silent_ms from now on. */
void watch_start_silence(struct sandbox *sandbox);

/* idle.c */
void idle_start(struct sandbox *sandbox);
void idle_stop(struct sandbox *sandbox);

/* end.c */
void sandbox_begin_life(struct sandbox *sandbox);
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
SHL_MUST_CHECK int sandbox_save(struct sandbox *sandbox, struct shl_err *err);
const char *sandbox_state_name(enum node_sandbox_state state);

/* files.c: paths and blocking work */
void files_run_path(const struct sandbox *sandbox, char path[SANDBOX_PATH_MAX], const char *name);
void files_data_path(const struct sandbox *sandbox, char path[SANDBOX_PATH_MAX]);
SHL_MUST_CHECK int files_template(const struct node_manager *manager,
                                  const char *name,
                                  uint64_t *ret_bytes,
                                  struct shl_err *err);
SHL_MUST_CHECK int files_check(const struct node_manager *manager, struct shl_err *err);
SHL_MUST_CHECK int files_prepare(struct sandbox *sandbox, struct shl_err *err);
SHL_MUST_CHECK int files_remove(const struct node_manager *manager,
                                const char *id,
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

/* record.c. The specification is also part of other records; decode fills a zeroed one. */
void record_encode_spec(struct shl_mp_writer *w, const struct node_sandbox_spec *spec);
SHL_MUST_CHECK int record_decode_spec(const msgpack_object *map, struct node_sandbox_spec *spec);
SHL_MUST_CHECK int record_encode(const struct sandbox *sandbox, struct shl_buf *buf);
/* Fills a fresh sandbox. SHL_EVERSION, SHL_ECORRUPT, -ENOMEM with a sentence. */
SHL_MUST_CHECK int record_decode(struct sandbox *sandbox,
                                 const char *id,
                                 struct shl_bytes value,
                                 struct shl_err *err);

#endif /* SHL_NODE_SANDBOX_SANDBOX_H */
