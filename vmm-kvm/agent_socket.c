#include "vmm-kvm/agent_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

void vmm_agent_socket_init(struct vmm_agent_socket *socket,
                           int listen_fd,
                           struct vmm_console *console,
                           struct vmm_slot *slot)
{
    memset(socket, 0, sizeof(*socket));
    socket->listen_fd = listen_fd;
    socket->client_fd = -1;
    socket->console = console;
    socket->slot = slot;
}

static ssize_t port_result(struct vmm_agent_socket *socket, ssize_t n)
{
    if (n > 0) {
        return n;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return -EAGAIN;
    }
    socket->client_gone = true; /* closed by the event handler, not under our feet */
    return -EPIPE;
}

static ssize_t port_read(void *ctx, const struct iovec *iov, unsigned count)
{
    struct vmm_agent_socket *socket = ctx;

    return port_result(socket, readv(socket->client_fd, iov, (int)count));
}

static ssize_t port_write(void *ctx, const struct iovec *iov, unsigned count)
{
    struct vmm_agent_socket *socket = ctx;
    struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = count};

    return port_result(socket, sendmsg(socket->client_fd, &message, MSG_NOSIGNAL));
}

static void port_want(void *ctx, bool readable, bool writable)
{
    struct vmm_agent_socket *socket = ctx;

    vmm_loop_modify(socket->slot->loop, &socket->client_watch,
                    (readable ? EPOLLIN : 0u) | (writable ? EPOLLOUT : 0u));
}

struct vmm_port_host vmm_agent_socket_host(struct vmm_agent_socket *socket)
{
    return (struct vmm_port_host){
        .ctx = socket, .read = port_read, .write = port_write, .want = port_want};
}

/* Of two results: the failure, else that there is more to do. */
static int both(int first, int second)
{
    return first < 0 ? first : second < 0 ? second : SHL_MAX(first, second);
}

static int drop_client(struct vmm_agent_socket *socket)
{
    int r;

    if (socket->client_fd < 0) {
        return 0;
    }
    r = vmm_console_set_host(socket->console, false);
    vmm_loop_remove(socket->slot->loop, &socket->client_watch);
    (void)close(socket->client_fd);
    socket->client_fd = -1;
    socket->client_gone = false;
    return r;
}

static void on_client(struct vmm_watch *watch, uint32_t events)
{
    struct vmm_agent_socket *socket =
        shl_container_of(watch, struct vmm_agent_socket, client_watch);
    int r;

    (void)pthread_mutex_lock(&socket->slot->lock);
    r = vmm_console_on_ready(socket->console, events & EPOLLIN, events & EPOLLOUT);
    /* A hang-up with bytes still to read ends when the read finds the end; without
     * EPOLLIN nobody wants them. */
    if (r >= 0 &&
        (socket->client_gone || ((events & (EPOLLHUP | EPOLLERR)) && !(events & EPOLLIN)))) {
        r = both(r, drop_client(socket));
    }
    vmm_slot_check(socket->slot, r);
    (void)pthread_mutex_unlock(&socket->slot->lock);
}

static void on_connect(struct vmm_watch *watch, uint32_t events)
{
    struct vmm_agent_socket *socket =
        shl_container_of(watch, struct vmm_agent_socket, listen_watch);
    int fd = accept4(socket->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    int r;

    (void)events;
    if (fd < 0) {
        return;
    }
    (void)pthread_mutex_lock(&socket->slot->lock);
    r = drop_client(socket);
    socket->client_fd = fd;
    if (vmm_loop_add(socket->slot->loop, &socket->client_watch, fd, 0, on_client) < 0) {
        (void)close(fd);
        socket->client_fd = -1;
    } else if (r >= 0) {
        r = both(r, vmm_console_set_host(socket->console, true));
    }
    vmm_slot_check(socket->slot, r);
    (void)pthread_mutex_unlock(&socket->slot->lock);
}

int vmm_agent_socket_watch(struct vmm_agent_socket *socket)
{
    return vmm_loop_add(socket->slot->loop, &socket->listen_watch, socket->listen_fd, EPOLLIN,
                        on_connect);
}

void vmm_agent_socket_release(struct vmm_agent_socket *socket)
{
    if (!socket->slot) {
        return;
    }
    vmm_loop_remove(socket->slot->loop, &socket->listen_watch);
    vmm_loop_remove(socket->slot->loop, &socket->client_watch);
    if (socket->client_fd >= 0) {
        (void)close(socket->client_fd);
    }
    socket->client_fd = -1;
}
