/* Exec sessions: one program each, with its output, until well after it has ended.
 *
 * A session lives in the table from start until it was finished for retain_ms, or,
 * when the table is full, until it is the oldest finished one; links come and go
 * meanwhile. It is finished when its direct child was reaped and its pipes have ended,
 * or drain_ms later when background processes keep them open; those pipes are read on
 * and thrown away, so that a server which logs does not die. Loop thread only.
 */
#ifndef SHL_AGENT_SESSION_H
#define SHL_AGENT_SESSION_H

#include "agent/guest.h"
#include "agent/loop.h"
#include "agent/output.h"
#include "agent/spawn.h"
#include "agent/work.h"
#include "base/log.h"

struct agent_session;

struct agent_limits {
    uint64_t grace_ms;   /* between SIGTERM and SIGKILL after a timeout */
    uint64_t drain_ms;   /* for output after the direct child has ended */
    uint64_t retain_ms;  /* of finished sessions */
    uint64_t first_ms;   /* a program whose ring is full waits for its first client */
    size_t output_bytes; /* memory for the output of all sessions */
    unsigned sessions_max;
};

struct agent_sessions {
    struct agent_loop *loop; /* borrowed, like pool and limits */
    struct agent_pool *pool; /* for spawning only */
    const struct agent_limits *limits;
    bool reset_standing;
    int group_fd; /* cgroup of the programs, or -1 */
    struct agent_budget budget;
    struct shl_list all;  /* by start */
    struct shl_list done; /* by end */
    unsigned count;
    unsigned spawning_count;
    struct shl_list early_exits; /* reaped while a spawn is under way */
    struct shl_list leftovers;   /* pipes of finished sessions */
    struct agent_timer sweep;
    /* kill(2) and agent_spawn_run; tests put their own. */
    int (*kill)(pid_t pid, int signal);
    int (*spawn)(struct agent_spawn *spawn);
    uint8_t scratch[65536];
};

enum agent_session_state {
    AGENT_SESSION_STARTING, /* the spawn is under way */
    AGENT_SESSION_RUNNING,
    AGENT_SESSION_DRAINING, /* reaped, output may follow */
    AGENT_SESSION_DONE,
};

/* Called once when the session is done; embedded in whoever waits. */
struct agent_session_waiter {
    struct shl_list node;
    void (*fn)(void *arg);
    void *arg;
};

struct agent_session_pipe {
    struct agent_watch watch;
    int held_fd; /* not read for now: a client is too slow; else -1 */
    struct agent_session *session;
    uint8_t channel;
};

struct agent_session {
    struct shl_list node;
    struct shl_list done_node;
    struct agent_sessions *sessions;
    char id[AGENT_SESSION_ID_MAX + 1];
    enum agent_session_state state;
    char *cmd; /* as asked, for lists */
    char **args;
    size_t arg_count;
    pid_t pid; /* of the child and its process group */
    int exit_code;
    bool timed_out;
    int64_t started_at_ms; /* wall clock */
    uint64_t done_at_ms;   /* monotonic */
    uint64_t timeout_ms;   /* 0: none */
    unsigned pins;         /* readers of the output: not evicted, not removed */
    struct agent_output output;
    struct agent_session_pipe pipes[2];
    int stdin_fd;                   /* write end, or -1 */
    struct agent_watch stdin_watch; /* while it is full */
    struct shl_list inputs;         /* agent/input.h */
    struct shl_list attaches;       /* agent/attach.h */
    unsigned attached_count;
    uint64_t linger_ms; /* it may run so long without a client; 0: for ever */
    struct agent_timer linger;
    struct agent_timer ending; /* grace of agent_session_end */
    struct agent_timer stall;
    bool is_tty;
    bool is_awaited;          /* a ring that nobody has watched yet: the first client gets all */
    bool is_stalled;          /* held: its pipes are not read until a client has read on */
    struct agent_timer timer; /* timeout, then grace, or drain */
    struct shl_list waiters;
    struct agent_start *start; /* while starting */
};

/* What to start. All zero is an empty one. */
struct agent_session_spec {
    char id[AGENT_SESSION_ID_MAX + 1];
    char *cmd;   /* taken */
    char **args; /* taken, with its strings */
    size_t arg_count;
    bool is_program;          /* run cmd itself, also without args; it must be there */
    struct agent_environ env; /* taken */
    struct agent_user user;
    char *cwd; /* taken; NULL: the home, or / when that is missing */
    uint64_t timeout_ms;
    uint64_t keep_bytes;
    bool pipe_stdin;
    uint64_t ring_bytes; /* keep the last of both streams instead of the first of each */
    uint64_t linger_ms;
    bool is_tty; /* one terminal instead of three pipes */
    uint16_t cols;
    uint16_t rows;
    /* Called once: the program runs (err->code 0), or it could not be started and
     * @session is gone after the call. May be NULL. */
    void (*started)(void *arg, struct agent_session *session, const struct shl_err *err);
    void *started_arg;
};

void agent_session_spec_release(struct agent_session_spec *spec);

void agent_sessions_init(struct agent_sessions *sessions,
                         struct agent_loop *loop,
                         struct agent_pool *pool,
                         const struct agent_limits *limits);
/* Kills what still runs. The pool must have been released. */
void agent_sessions_release(struct agent_sessions *sessions);

/* Begin to start a program. What is taken out of @spec is NULL in it afterwards, so the
 * caller releases it in any case. 0, then spec->started follows; SHL_ECONFLICT (id taken),
 * SHL_EQUOTA (table full of running sessions), -errno. */
SHL_MUST_CHECK int agent_sessions_start(struct agent_sessions *sessions,
                                        const struct agent_guest *guest,
                                        struct agent_session_spec *spec,
                                        struct shl_err *err);
/* The one that asked for the start is gone: do not call started. */
void agent_session_forget_start(struct agent_session *session);

/* NULL when unknown. */
struct agent_session *agent_sessions_find(struct agent_sessions *sessions, const char *id);

/* Reap every ended process of the system. */
void agent_sessions_reap(struct agent_sessions *sessions);
/* One reaped process; @status as of waitpid. */
void agent_sessions_exited(struct agent_sessions *sessions, pid_t pid, int status);

/* To the process group. 0 also when it has ended. SHL_EINVALIDARG, -errno. */
SHL_MUST_CHECK int agent_session_kill(struct agent_session *session, int signal);

/* Ask it to end (a terminal hangs up), and end it when it has not after the grace. */
void agent_session_end(struct agent_session *session);
/* It was asked to, or has. */
bool agent_session_is_ending(const struct agent_session *session);
/* Size of its terminal. 0, SHL_EBADSTATE (it has none), -errno. */
SHL_MUST_CHECK int agent_session_resize(struct agent_session *session,
                                        uint16_t cols,
                                        uint16_t rows);
/* A reader of a ring went on or away: what it held back may be read now. */
void agent_session_read_on(struct agent_session *session);
/* The first client has come. */
void agent_session_awaited(struct agent_session *session);
/* No more input. */
void agent_session_close_stdin(struct agent_session *session);

/*- Between session.c and start.c. */

/* Watch the pipes and start the clock: the program runs as @pid. */
void agent_session_running(struct agent_session *session, pid_t pid);
/* Out of the table and freed; nothing runs. */
void agent_session_free(struct agent_session *session);
/* Make a place in the table. False when every session in it still runs. */
SHL_MUST_CHECK bool agent_sessions_make_room(struct agent_sessions *sessions);
/* The spawn of @pid (0: it failed) is over: it may have been reaped already. */
void agent_sessions_spawned(struct agent_sessions *sessions, pid_t pid);

#endif /* SHL_AGENT_SESSION_H */
