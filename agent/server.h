/* The agent as one object: a link, its streams, sessions and files, and the table of
 * operations. main.c makes it PID 1 of a guest or serves a socket; tests and fuzzing
 * use it without either. Loop thread only.
 */
#ifndef SHL_AGENT_SERVER_H
#define SHL_AGENT_SERVER_H

#include "agent/freeze.h"
#include "agent/guest.h"
#include "agent/link.h"
#include "agent/session.h"
#include "agent/tcp.h"

struct agent_server {
    struct agent_loop loop;
    struct agent_mux mux;
    struct agent_link link;
    struct agent_pool disk;    /* file operations, one step at a time */
    struct agent_pool spawner; /* its own: a hung file system must not stop commands */
    struct agent_pool system;  /* one thread: setup, freeze and thaw, in the order they came */
    struct shl_list writes;    /* file.write under way, by path (file.c) */
    struct agent_guest guest;
    struct agent_freezer freezer; /* of the system pool; group_fd is read by everyone */
    struct agent_limits limits;
    struct agent_sessions sessions;
    struct agent_tcps tcps; /* connections to servers of the guest */
    struct agent_watch child_watch;
    int child_fd; /* signalfd of SIGCHLD, or -1 */
    const struct shl_log *log;
    bool want_shutdown; /* asked for by the node: the loop has stopped */
};

/* The share of this machine's memory that output may take, as it is now. */
size_t agent_output_limit(void);

/* Sensible limits for this machine: an eighth of its memory for output. */
void agent_limits_default(struct agent_limits *limits);

/* guest, freezer and limits are set by the caller before; @log is borrowed, may be NULL.
 * SIGCHLD must be blocked. 0 or -errno, then nothing is left behind. */
SHL_MUST_CHECK int agent_server_init(struct agent_server *server, const struct shl_log *log);
void agent_server_release(struct agent_server *server);

/* Serve @fd (taken; non-blocking) until a shutdown is asked for or a socket ends. */
SHL_MUST_CHECK int agent_server_run(struct agent_server *server, int fd, bool is_port);

/* Handlers of operations; each answers @stream now or binds something that will. */
void agent_op_exec_start(struct agent_server *server,
                         struct agent_stream *stream,
                         const msgpack_object *request);
void agent_op_exec_result(struct agent_server *server,
                          struct agent_stream *stream,
                          const msgpack_object *request);
void agent_op_exec_list(struct agent_server *server,
                        struct agent_stream *stream,
                        const msgpack_object *request);
void agent_op_exec_kill(struct agent_server *server,
                        struct agent_stream *stream,
                        const msgpack_object *request);
void agent_op_exec_end(struct agent_server *server,
                       struct agent_stream *stream,
                       const msgpack_object *request);
void agent_op_exec_resize(struct agent_server *server,
                          struct agent_stream *stream,
                          const msgpack_object *request);
void agent_op_exec_attach(struct agent_server *server,
                          struct agent_stream *stream,
                          const msgpack_object *request);
void agent_op_exec_input(struct agent_server *server,
                         struct agent_stream *stream,
                         const msgpack_object *request);
void agent_op_file_read(struct agent_server *server,
                        struct agent_stream *stream,
                        const msgpack_object *request);
void agent_op_file_write(struct agent_server *server,
                         struct agent_stream *stream,
                         const msgpack_object *request);
void agent_op_file_list(struct agent_server *server,
                        struct agent_stream *stream,
                        const msgpack_object *request);
void agent_op_file_mkdir(struct agent_server *server,
                         struct agent_stream *stream,
                         const msgpack_object *request);
void agent_op_file_remove(struct agent_server *server,
                          struct agent_stream *stream,
                          const msgpack_object *request);
void agent_op_setup(struct agent_server *server,
                    struct agent_stream *stream,
                    const msgpack_object *request);
void agent_op_freeze(struct agent_server *server,
                     struct agent_stream *stream,
                     const msgpack_object *request);
void agent_op_thaw(struct agent_server *server,
                   struct agent_stream *stream,
                   const msgpack_object *request);
void agent_op_tcp_connect(struct agent_server *server,
                          struct agent_stream *stream,
                          const msgpack_object *request);
void agent_op_stats(struct agent_server *server,
                    struct agent_stream *stream,
                    const msgpack_object *request);

#endif /* SHL_AGENT_SERVER_H */
