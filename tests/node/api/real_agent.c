/* In place of fake_agent.c: the real link to the real agent program, which serves a
 * socket as the current user instead of a virtio port as process 1. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "node/sandbox/agent_link_open.h"
#include "tests/node/api/fake.h"

#define HANDLES_MAX 4

/* One agent: a listening socket, and a process for the connection that comes. */
struct agent {
    struct shl_list link;
    struct node_agent_link *agent_link;
    char dir[64];
    char path[96];
    int listen_fd;
    uv_poll_t poll;
    uv_process_t process;
    bool is_spawned;
    unsigned open_count; /* handles and the link */
};

static struct shl_list agents = SHL_LIST_INIT(agents);

static void on_exit_cb(uv_process_t *process, int64_t status, int signal)
{
    (void)process;
    (void)status;
    (void)signal;
}

static void spawn(struct agent *agent, uv_loop_t *loop, int fd)
{
    char home[96];
    char path[160]; /* programs of a test are in its home */
    char *args[] = {(char *)AGENT_PROGRAM,
                    (char *)"--serve",
                    (char *)"3",
                    (char *)"--home",
                    home,
                    (char *)"--path",
                    path,
                    NULL};
    uv_stdio_container_t stdio[4] = {
        {.flags = UV_IGNORE},
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = 2},
        {.flags = UV_INHERIT_FD, .data.fd = fd},
    };
    uv_process_options_t options = {.exit_cb = on_exit_cb,
                                    .file = AGENT_PROGRAM,
                                    .args = args,
                                    .stdio = stdio,
                                    .stdio_count = 4};

    (void)snprintf(home, sizeof(home), "%s/home", agent->dir);
    (void)snprintf(path, sizeof(path), "%s:/usr/local/bin:/usr/bin:/bin", home);
    assert_int_equal(shl_mkdir_all(home, 0755), 0);
    assert_int_equal(uv_spawn(loop, &agent->process, &options), 0);
    agent->process.data = agent;
    agent->is_spawned = true;
    agent->open_count++;
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
    struct agent *agent = poll->data;
    int fd = accept(agent->listen_fd, NULL, NULL);

    (void)status;
    (void)events;
    if (fd >= 0) {
        assert_false(agent->is_spawned);
        spawn(agent, poll->loop, fd);
        close(fd);
    }
}

static void on_state(void *arg, enum node_agent_link_state state, int code, const char *msg)
{
    (void)arg;
    if (state == NODE_AGENT_LINK_FAILED) {
        print_message("link: %d %s\n", code, msg);
    }
}

struct node_agent_link *fake_agent_new(uv_loop_t *loop)
{
    struct agent *agent = calloc(1, sizeof(*agent));
    struct node_agent_link_config config = {
        .socket_path = agent->path, .on_state = on_state, .arg = agent};
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    (void)snprintf(agent->dir, sizeof(agent->dir), "/tmp/shoal-api-XXXXXX");
    assert_non_null(mkdtemp(agent->dir));
    (void)snprintf(agent->path, sizeof(agent->path), "%s/agent", agent->dir);
    memcpy(addr.sun_path, agent->path, strlen(agent->path) + 1);
    agent->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(agent->listen_fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(agent->listen_fd, 4), 0);
    assert_int_equal(uv_poll_init(loop, &agent->poll, agent->listen_fd), 0);
    agent->poll.data = agent;
    assert_int_equal(uv_poll_start(&agent->poll, UV_READABLE, on_connection), 0);
    agent->open_count = 2;
    assert_int_equal(node_agent_link_open(loop, &config, &agent->agent_link), 0);
    shl_list_push_back(&agents, &agent->link);
    return agent->agent_link;
}

static void closed_one(struct agent *agent)
{
    if (--agent->open_count == 0) {
        assert_int_equal(shl_remove_tree(agent->dir), 0);
        free(agent);
    }
}

static void on_handle_closed(uv_handle_t *handle)
{
    closed_one(handle->data);
}

static void on_link_closed(void *arg)
{
    closed_one(arg);
}

void fake_agent_free(struct node_agent_link *link)
{
    struct shl_list *it;
    struct agent *agent = NULL;

    SHL_LIST_FOREACH(it, &agents) {
        agent = shl_container_of(it, struct agent, link);
        if (agent->agent_link == link) {
            break;
        }
    }
    assert_non_null(agent);
    shl_list_remove(&agent->link);
    uv_poll_stop(&agent->poll);
    uv_close((uv_handle_t *)&agent->poll, on_handle_closed);
    close(agent->listen_fd);
    if (agent->is_spawned) {
        (void)uv_process_kill(&agent->process, SIGKILL);
        uv_close((uv_handle_t *)&agent->process, on_handle_closed);
    }
    node_agent_link_close(link, SHL_EGONE, "the sandbox has stopped", on_link_closed, agent);
}

/* Of the fake manager's hibernations, which nobody asks for here. */
void fake_agent_break(struct node_agent_link *link)
{
    (void)link;
    fail_msg("a real agent does not go to sleep");
}
