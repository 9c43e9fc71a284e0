/* Who is told of guests' addresses (struct node_manager_network). */
#include <unistd.h>

#include "base/io.h"
#include "node/sandbox/sandbox.h"

static uint32_t address_of(const struct sandbox *sandbox)
{
    return node_net_guest(sandbox->pub.manager->net, sandbox->slot);
}

void guest_attach(struct sandbox *sandbox)
{
    const struct node_manager *manager = sandbox->pub.manager;

    sandbox->pub.run_began_ms = shl_boottime_ms();
    if (manager->network && !sandbox->hidden) {
        manager->network->attach(manager->network_arg, &sandbox->pub, address_of(sandbox));
    }
}

void guest_detach(struct sandbox *sandbox)
{
    const struct node_manager *manager = sandbox->pub.manager;

    if (manager->network && !sandbox->hidden) {
        manager->network->detach(manager->network_arg, address_of(sandbox));
    }
}

void node_manager_each_guest(struct node_manager *manager,
                             bool (*each)(void *arg, struct node_sandbox *sandbox, uint32_t guest),
                             void *arg)
{
    struct shl_list *it;

    SHL_LIST_FOREACH(it, &manager->sandboxes) {
        struct sandbox *sandbox = shl_container_of(it, struct sandbox, pub.link);

        if (sandbox->has_slot && sandbox->attached && !sandbox->hidden &&
            !each(arg, &sandbox->pub, address_of(sandbox))) {
            return;
        }
    }
}

/* The run of a former daemon began with its VMM. */
static bool tell(void *arg, struct node_sandbox *sandbox, uint32_t guest)
{
    const struct node_manager *manager = arg;

    if (sandbox->run_began_ms == 0) {
        sandbox->run_began_ms =
            sandbox_of(sandbox)->vmm_id.start_ticks * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
    }
    manager->network->attach(manager->network_arg, sandbox, guest);
    return true;
}

void node_manager_set_network(struct node_manager *manager,
                              const struct node_manager_network *network,
                              void *arg)
{
    manager->network = network;
    manager->network_arg = arg;
    if (network) {
        node_manager_each_guest(manager, tell, manager);
    }
}

void node_sandbox_net_bytes(const struct node_sandbox *sandbox, uint64_t *ret_in, uint64_t *ret_out)
{
    if (node_net_bytes(sandbox->id, ret_in, ret_out) < 0) {
        *ret_in = *ret_out = 0;
    }
}

int node_sandbox_set_allowlist(struct node_sandbox *pub, const struct node_host_list *allowlist)
{
    struct node_host_list copy;
    int rc = node_host_list_copy(&copy, allowlist);

    if (rc < 0) {
        return rc;
    }
    node_host_list_release(&pub->spec.secrets.allowlist);
    pub->spec.secrets.allowlist = copy;
    return sandbox_save(sandbox_of(pub), NULL);
}
