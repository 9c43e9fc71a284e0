/* The request setup: who this guest is from now on. After a restore it is also what wakes
 * the user's processes, so everything that must differ between copies is in it. */
#include "base/id.h"
#include "base/io.h"
#include "node/sandbox/sandbox.h"

#define ENTROPY_BYTES    64
#define MACHINE_ID_BYTES 16

static void add_network(const struct sandbox *sandbox, struct shl_mp_writer *w)
{
    const struct node_net *net = sandbox->pub.manager->net;
    char address[NODE_ADDRESS_SIZE];
    char mac[NODE_MAC_SIZE];

    node_net_mac(mac, sandbox->pub.id);
    shl_mp_kv_str(w, "mac", mac);
    node_address_format(address, node_net_guest(net, sandbox->slot));
    shl_mp_kv_str(w, "ip", address);
    shl_mp_kv_uint(w, "prefix", NODE_GUEST_PREFIX);
    node_address_format(address, node_net_gateway(net, sandbox->slot));
    shl_mp_kv_str(w, "gateway", address);
    shl_mp_kv_array(w, "dns");
    shl_mp_str(w, address);
    shl_mp_end(w);
}

static void add_random(const struct sandbox *sandbox, struct shl_mp_writer *w)
{
    char machine_id[2 * MACHINE_ID_BYTES + 1];
    uint8_t entropy[ENTROPY_BYTES];

    if (sandbox->pub.state == NODE_SANDBOX_CREATING) {
        /* for life: a woken one keeps what is on its disk */
        shl_random_bytes(entropy, sizeof(entropy));
        shl_hex_encode(machine_id, entropy, MACHINE_ID_BYTES);
        shl_mp_kv_str(w, "machine_id", machine_id);
    }
    shl_random_bytes(entropy, sizeof(entropy));
    shl_mp_kv_bin(w, "entropy", entropy, sizeof(entropy));
}

int setup_encode(const struct sandbox *sandbox, struct shl_buf *buf)
{
    const struct node_sandbox_spec *spec = &sandbox->pub.spec;
    struct shl_mp_writer w;
    size_t i;

    shl_mp_writer_init(&w, buf);
    shl_mp_map(&w);
    shl_mp_kv_str(&w, "op", "setup");
    shl_mp_kv_str(&w, "sandbox", sandbox->pub.id);
    shl_mp_kv_str(&w, "hostname", sandbox->pub.id);
    if (sandbox->has_slot) {
        add_network(sandbox, &w);
    }
    add_random(sandbox, &w);
    shl_mp_kv_int(&w, "time_ms", shl_realtime_ms());
    shl_mp_kv_map(&w, "env");
    for (i = 0; i < spec->envs.count; i++) {
        shl_mp_kv_str(&w, spec->envs.items[i].key, spec->envs.items[i].value);
    }
    shl_mp_end(&w);
    shl_mp_kv_uint(&w, "disk_bytes", (uint64_t)spec->disk_mb << 20);
    shl_mp_kv_uint(&w, "cpus", spec->cpus);
    shl_mp_kv_uint(&w, "memory_bytes", (uint64_t)spec->memory_mb << 20);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}
