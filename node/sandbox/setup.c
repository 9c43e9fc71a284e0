/* The request setup: who this guest is from now on. After a restore it is also what wakes
 * the user's processes, so everything that must differ between copies is in it. */
#include <string.h>

#include "agent/protocol.h"
#include "base/id.h"
#include "base/io.h"
#include "node/sandbox/sandbox.h"

#define ENTROPY_BYTES    64
#define MACHINE_ID_BYTES 16
#define PROXY            "http://" NODE_NET_PROXY_ADDRESS ":3128"
#define NO_PROXY         "localhost,127.0.0.1,::1," NODE_NET_METADATA_ADDRESS

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

static bool has(const struct node_kv_list *list, const char *key)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i].key, key) == 0) {
            return true;
        }
    }
    return false;
}

static bool has_token(const struct node_secret_use *use, const char *name)
{
    for (size_t i = 0; i < use->token_count; i++) {
        if (strcmp(use->tokens[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* For programs that do not look where the distribution keeps what it trusts. The gateway takes
 * what it has to see without these proxy variables as well; they only make its refusals
 * readable. */
static const char *const egress_env[][2] = {
    {"HTTP_PROXY", PROXY},
    {"HTTPS_PROXY", PROXY},
    {"http_proxy", PROXY},
    {"https_proxy", PROXY},
    {"NO_PROXY", NO_PROXY},
    {"no_proxy", NO_PROXY},
    {"NODE_EXTRA_CA_CERTS", AGENT_TRUST_FILE},
    {"REQUESTS_CA_BUNDLE", AGENT_TRUST_BUNDLE},
    {"SSL_CERT_FILE", AGENT_TRUST_BUNDLE},
    {"CURL_CA_BUNDLE", AGENT_TRUST_BUNDLE},
    {"GIT_SSL_CAINFO", AGENT_TRUST_BUNDLE},
};

static void add_egress_env(const struct node_sandbox_spec *spec, struct shl_mp_writer *w)
{
    size_t i;

    for (i = 0; i < SHL_ARRAY_SIZE(egress_env); i++) {
        if (!has(&spec->envs, egress_env[i][0])) {
            shl_mp_kv_str(w, egress_env[i][0], egress_env[i][1]);
        }
    }
}

/* Those of the sandbox win over sealed tokens, those over the ones of its image, and these over
 * ours. */
static void add_env(const struct node_sandbox_spec *spec, bool watched, struct shl_mp_writer *w)
{
    shl_mp_kv_map(w, "env");
    if (watched) {
        add_egress_env(spec, w);
    }
    for (size_t i = 0; i < spec->image_envs.count; i++) {
        const struct node_kv *item = &spec->image_envs.items[i];

        if (!has(&spec->envs, item->key) && !has_token(&spec->secrets, item->key)) {
            shl_mp_kv_str(w, item->key, item->value);
        }
    }
    for (size_t i = 0; i < spec->secrets.token_count; i++) {
        const struct node_secret_token *token = &spec->secrets.tokens[i];

        if (!has(&spec->envs, token->name)) {
            shl_mp_kv_str(w, token->name, token->token);
        }
    }
    for (size_t i = 0; i < spec->envs.count; i++) {
        shl_mp_kv_str(w, spec->envs.items[i].key, spec->envs.items[i].value);
    }
    shl_mp_end(w);
}

static void add_trusted(const struct node_manager *manager, struct shl_mp_writer *w)
{
    size_t i;

    shl_mp_kv_array(w, "trust");
    for (i = 0; i < manager->trusted_count; i++) {
        shl_mp_map(w);
        shl_mp_kv_str(w, "hash", manager->trusted[i].hash);
        shl_mp_kv_str(w, "pem", manager->trusted[i].pem);
        shl_mp_end(w);
    }
    shl_mp_end(w);
}

/* It leaves through the gateway, which is decided before it runs. */
static bool is_watched(const struct sandbox *sandbox)
{
    return sandbox->has_slot &&
           node_net_egress_of(sandbox->pub.manager->net, sandbox->slot) != NODE_NET_EGRESS_DIRECT;
}

int setup_encode(const struct sandbox *sandbox, struct shl_buf *buf)
{
    const struct node_sandbox_spec *spec = &sandbox->pub.spec;
    struct shl_mp_writer w;

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
    add_env(spec, is_watched(sandbox), &w);
    if (is_watched(sandbox)) {
        add_trusted(sandbox->pub.manager, &w);
    }
    shl_mp_kv_str(&w, "cwd", spec->workdir);
    shl_mp_kv_uint(&w, "disk_bytes", (uint64_t)spec->disk_mb << 20);
    shl_mp_kv_uint(&w, "cpus", spec->cpus);
    shl_mp_kv_uint(&w, "memory_bytes", (uint64_t)spec->memory_mb << 20);
    shl_mp_end(&w);
    return shl_mp_done(&w);
}
