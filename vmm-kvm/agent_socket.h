/* The host side of the agent port: a Unix stream listener with one client at a time.
 * A new client replaces the old one; the guest sees the port close and open. */
#ifndef SHL_VMM_AGENT_SOCKET_H
#define SHL_VMM_AGENT_SOCKET_H

#include "vmm-kvm/console.h"
#include "vmm-kvm/slot.h"

struct vmm_agent_socket {
    struct vmm_watch listen_watch;
    struct vmm_watch client_watch;
    int listen_fd;    /* borrowed */
    int client_fd;    /* owned, -1: nobody */
    bool client_gone; /* a read or write found the end */
    struct vmm_console *console;
    struct vmm_slot *slot;
};

void vmm_agent_socket_init(struct vmm_agent_socket *socket,
                           int listen_fd,
                           struct vmm_console *console,
                           struct vmm_slot *slot);
struct vmm_port_host vmm_agent_socket_host(struct vmm_agent_socket *socket);
SHL_MUST_CHECK int vmm_agent_socket_watch(struct vmm_agent_socket *socket);
void vmm_agent_socket_release(struct vmm_agent_socket *socket);

#endif /* SHL_VMM_AGENT_SOCKET_H */
