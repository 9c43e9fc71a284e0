/* A sandbox manager with fake_vmm in place of shoal-vmm, for tests: real processes and
 * sockets, no KVM, no root. Nothing measures time; limits are short so that a test of
 * them is quick, and the guard only catches a hang. */
#ifndef SHL_TESTS_NODE_SANDBOX_FIXTURE_H
#define SHL_TESTS_NODE_SANDBOX_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

#include "base/io.h"
#include "base/mp.h"
#include "node/sandbox/manager_open.h"

#define GUARD_MS 60000
#define ORG      "org-test"

struct fixture {
    char dir[64];
    char data[96];
    char run[96];
    char store_dir[96];
    char vmm[256];
    struct shl_log log;
    struct node_manager_config config;
    uv_loop_t loop;
    uv_timer_t guard;
    struct node_store *store;
    struct node_manager *manager;
    bool closed;
};

/* What one create or stream was answered. */
struct answer {
    bool done;
    int code;
    char msg[512];
    struct node_sandbox *sandbox;
    int64_t value; /* of the agent's ops get and read */
    bool frozen;
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

void write_text(const char *path, const char *text);
void add_file(struct fixture *fix, const char *name, const char *text);
int try_open(struct fixture *fix, struct shl_err *err);
void open_manager(struct fixture *fix);
void close_manager(struct fixture *fix);
int setup(void **state);
int count_entries(const char *path);
int count_sandbox_folders(struct fixture *fix); /* run folders */
int teardown(void **state);
void on_created(void *arg, int code, const char *msg, struct node_sandbox *sandbox);
void on_killed(void *arg, int code, const char *msg);
bool kill_each(void *arg, struct node_sandbox *sandbox);
struct node_sandbox_spec make_spec(const char *template_name);
void begin_create(struct fixture *fix, const char *behaviour, struct answer *answer);
struct node_sandbox *create(struct fixture *fix, const char *behaviour);
void create_failing(struct fixture *fix, const char *behaviour, struct answer *answer);
void kill_now(struct fixture *fix, struct node_sandbox *sandbox);
void on_stream_end(void *arg, int code, const char *msg, const msgpack_object *response);
void begin_op(struct node_sandbox *sandbox, const char *op, struct answer *answer);
/* Op @op with @at and @value; the answer's code. */
int ask(struct fixture *fix,
        struct node_sandbox *sandbox,
        const char *op,
        uint64_t at,
        uint64_t value,
        struct answer *ret);
/* A file beside the disk of template @behaviour, which changes what its VMs do. */
void set_flag(struct fixture *fix, const char *behaviour, const char *name, bool on);
int count_layers(struct fixture *fix, const char *suffix);
uint32_t warm_templates(struct fixture *fix); /* how many are ready */
int run_op(struct fixture *fix, struct node_sandbox *sandbox, const char *op);
bool is_over(const struct node_sandbox *sandbox);
void wait_gone(struct fixture *fix, struct node_sandbox *sandbox);
pid_t vmm_pid(struct fixture *fix, const char *id);
struct node_sandbox *find(struct fixture *fix, const char *id);
void read_saved(struct fixture *fix,
                const char *id,
                const char *name,
                struct shl_buf *buf,
                struct shl_mp_doc *doc);

#endif /* SHL_TESTS_NODE_SANDBOX_FIXTURE_H */
