/* A manager of which only the parts that checkpoints need exist: real records, real layer files,
 * the real checkpoint store; snapshots, creates and switches of sandboxes are played by
 * the test (linker option --wrap). No KVM, no VMM. */
#ifndef SHL_TESTS_NODE_SANDBOX_CHECKPOINT_FIXTURE_H
#define SHL_TESTS_NODE_SANDBOX_CHECKPOINT_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <uv.h>

#include "base/id.h"
#include "base/io.h"
#include "checkpoint/image.h"
#include "node/sandbox/checkpoints_private.h"
#include "node/sandbox/layers.h"
#include "node/sandbox/sandbox.h"
#include "vmm-kvm/layer.h"
#include "vmm-kvm/overlay_format.h"

#define GUARD_MS     60000
#define ORG          "org-test"
#define TEMPLATE     "plain"
#define DISK_MB      NODE_DISK_MIN_MB
#define DISK_BYTES   ((uint64_t)DISK_MB << 20)
#define MEMORY_BYTES (512ull << 20)
#define FORKS_MAX    8

struct taken_fork {
    struct node_sandbox_spec spec;
    struct node_stack stack; /* referenced */
    char from[NODE_CHECKPOINT_ID_SIZE];
    node_create_cb cb;
    void *arg;
};

struct fixture {
    char dir[64];
    char data[96];
    char store_dir[96];
    struct shl_log log;
    uv_loop_t loop;
    uv_timer_t guard;
    struct node_store *store;
    struct node_manager *manager;
    struct sandbox *sandbox;

    /* a snapshot that was asked for and not answered */
    sandbox_snapshot_cb snapshot_cb;
    void *snapshot_arg;
    enum sandbox_snapshot_kind snapshot_kind;
    unsigned snapshots; /* asked for */
    int snapshot_rc;    /* refuse at once with this */

    struct taken_fork forks[FORKS_MAX];
    unsigned fork_count;
    int fork_rc;

    char warm[NODE_LAYER_ID_SIZE]; /* snapshots are above this warm template; "" none */

    unsigned switches;
    struct node_stack switched; /* referenced */
    int store_rc;               /* of every ckpt_image_store from now on; 0: the real one */
    bool store_waits;           /* hold back ingests until this is false */
    char ingested[32];          /* the fill of each, in their order */
    uv_mutex_t gate_lock;
    uv_cond_t gate;
};

void on_guard(uv_timer_t *timer);

/* The guard ticks, because uv_run may sleep after it ran the callback waited for. */
#define RUN_UNTIL(fix, condition)                              \
    do {                                                       \
        uint64_t since_ms_ = shl_monotonic_ms();               \
                                                               \
        (fix)->guard.data = &since_ms_;                        \
        (void)uv_timer_start(&(fix)->guard, on_guard, 10, 10); \
        while (!(condition)) {                                 \
            (void)uv_run(&(fix)->loop, UV_RUN_ONCE);           \
        }                                                      \
        (void)uv_timer_stop(&(fix)->guard);                    \
    } while (0)

struct answer {
    bool done;
    int code;
    char msg[512];
};

struct names {
    char text[1024];
};

void hold_ingests(struct fixture *fix, bool wait);
int try_load(struct fixture *fix, struct shl_err *err);
void open_set(struct fixture *fix);
void drop_manager(struct fixture *fix);
void close_set(struct fixture *fix);
int setup(void **state);
int teardown(void **state);
void restart(struct fixture *fix);
void make_warm(struct fixture *fix);
void answer_snapshot(struct fixture *fix, char fill);
void fail_snapshot(struct fixture *fix, const char *msg);
int try_create(struct fixture *fix,
               const struct node_checkpoint_spec *spec,
               struct node_checkpoint **ret,
               struct shl_err *err);
struct node_checkpoint *begin(struct fixture *fix, const char *name, bool disk_only);
struct node_checkpoint *make(struct fixture *fix, const char *name, char fill);
void idle(struct fixture *fix);
int count_layers(struct fixture *fix);
int count_manifests(struct fixture *fix);
bool add_name(void *arg, struct node_checkpoint *checkpoint);
const char *list(struct fixture *fix);
void delete_now(struct fixture *fix, struct node_checkpoint *checkpoint);
void on_create(void *arg, int code, const char *msg, struct node_sandbox *sandbox);
void on_sandbox(void *arg, int code, const char *msg);
void begin_fork(struct fixture *fix, struct node_checkpoint *checkpoint, struct answer *answer);
void layer_path(struct fixture *fix,
                const struct node_layer_id *id,
                const char *kind,
                char path[SANDBOX_PATH_MAX]);

#endif /* SHL_TESTS_NODE_SANDBOX_CHECKPOINT_FIXTURE_H */
