#include "bench/box.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

#include "bench/flatten.h"

#define MIB (1ull << 20)

bool bench_box_launch(struct bench_box *box, const struct bench_world *world, const char *name)
{
    char log[BENCH_PATH_SIZE + 16];
    struct shl_err err = {0};
    int n;

    memset(box, 0, sizeof(*box));
    box->world = world;
    n = snprintf(box->dir, sizeof(box->dir), "%s/%s", world->work, name);
    if (n < 0 || (size_t)n >= sizeof(box->dir) || !bench_fresh_dir(box->dir)) {
        (void)printf("cannot make the folder %s\n", box->dir);
        return false;
    }
    (void)snprintf(box->overlay, sizeof(box->overlay), "%s.top", box->dir);
    (void)snprintf(log, sizeof(log), "%s.log", box->dir);
    (void)unlink(box->overlay);
    {
        const char *const args[] = {world->guest.vmm, "--dir", box->dir, NULL};

        box->pid = bench_spawn(args, log);
    }
    if (box->pid < 0 || bench_vmm_connect(&box->vmm, box->dir, BENCH_WAIT_MS, &err) < 0) {
        (void)printf("shoal-vmm: %s\n", err.msg);
        return false;
    }
    box->has_vmm = true;
    return true;
}

void bench_box_end(struct bench_box *box)
{
    if (box->has_agent) {
        bench_agent_close(&box->agent);
    }
    if (box->has_vmm) {
        bench_vmm_release(&box->vmm);
    }
    bench_end(box->pid, NULL);
    (void)unlink(box->overlay);
    if (shl_remove_tree(box->dir) < 0) {
        (void)printf("cannot remove %s\n", box->dir);
    }
    memset(box, 0, sizeof(*box));
}

static bool finish(struct bench_call *call, const char *op, int r, struct shl_err *err)
{
    if (r == 0) {
        r = bench_call_run(call, BENCH_WAIT_MS, err);
    }
    if (r < 0) {
        (void)printf("shoal-vmm: %s: %s\n", op, err->msg);
    }
    return r == 0;
}

bool bench_box_boot(struct bench_box *box, unsigned vcpus, unsigned hotplug_max_mb)
{
    const struct bench_guest *guest = &box->world->guest;
    struct shl_err err = {0};
    struct bench_call call;
    bool done;
    int r;

    bench_call_begin(&call, &box->vmm, "start");
    shl_mp_kv_uint(&call.w, "vcpus", vcpus);
    shl_mp_kv_uint(&call.w, "memory_bytes", guest->memory_mb * MIB);
    shl_mp_kv_uint(&call.w, "disk_bytes", box->world->disk_bytes);
    shl_mp_kv_str(&call.w, "cmdline", BENCH_CMDLINE " memhp_default_state=online");
    if (hotplug_max_mb > 0) {
        shl_mp_kv_uint(&call.w, "hotplug_max_bytes", hotplug_max_mb * MIB);
    }
    r = bench_call_file(&call, "kernel", guest->kernel, O_RDONLY, &err);
    r = r < 0 ? r : bench_call_file(&call, "initrd", guest->initrd, O_RDONLY, &err);
    r = r < 0 ? r : bench_call_file(&call, "base", guest->disk, O_RDONLY, &err);
    r = r < 0 ? r : bench_call_file(&call, "overlay", box->overlay, O_RDWR | O_CREAT, &err);
    done = finish(&call, "start", r, &err);
    bench_call_release(&call);
    return done;
}

bool bench_box_restore(struct bench_box *box, unsigned hotplug_mb)
{
    const struct bench_world *world = box->world;
    struct shl_err err = {0};
    struct bench_call call;
    bool done;
    int r;

    bench_call_begin(&call, &box->vmm, "restore");
    shl_mp_kv_uint(&call.w, "disk_bytes", world->disk_bytes);
    if (hotplug_mb > 0) {
        shl_mp_kv_uint(&call.w, "hotplug_bytes", hotplug_mb * MIB);
    }
    r = bench_call_file(&call, "state", world->state, O_RDONLY, &err);
    r = r < 0 ? r : bench_call_file(&call, "mem_base", world->mem_base, O_RDONLY, &err);
    if (r == 0 && world->working_set[0]) {
        r = bench_call_file(&call, "working_set", world->working_set, O_RDONLY, &err);
    }
    r = r < 0 ? r : bench_call_file(&call, "base", world->guest.disk, O_RDONLY, &err);
    r = r < 0 ? r : bench_call_file(&call, "layer", world->layer, O_RDONLY, &err);
    r = r < 0 ? r : bench_call_file(&call, "overlay", box->overlay, O_RDWR | O_CREAT, &err);
    done = finish(&call, "restore", r, &err);
    bench_call_release(&call);
    return done;
}

bool bench_box_greet(struct bench_box *box)
{
    char path[BENCH_PATH_SIZE + 32];

    (void)snprintf(path, sizeof(path), "%s/%s", box->dir, VMM_AGENT_SOCKET);
    box->has_agent = bench_agent_open(&box->agent, path, box->pid, bench_now_ms() + BENCH_WAIT_MS);
    if (!box->has_agent) {
        (void)printf("the agent of %s did not answer\n", box->dir);
    }
    return box->has_agent;
}

static int add_fresh(struct bench_call *call,
                     const char *name,
                     const char *work,
                     const char *prefix,
                     struct shl_err *err)
{
    char path[BENCH_PATH_SIZE];

    (void)snprintf(path, sizeof(path), "%s/%s.%s", work, prefix, name);
    return bench_call_file(call, name, path, O_RDWR | O_CREAT | O_TRUNC, err);
}

bool bench_box_snapshot(struct bench_box *box,
                        const char *prefix,
                        bool keep_paused,
                        struct bench_snapshot_reply *ret)
{
    const char *work = box->world->work;
    struct shl_err err = {0};
    struct bench_call call;
    bool done;
    int r;

    bench_call_begin(&call, &box->vmm, "snapshot");
    shl_mp_kv_bool(&call.w, "keep_paused", keep_paused);
    r = add_fresh(&call, "state", work, prefix, &err);
    r = r < 0 ? r : add_fresh(&call, "mem", work, prefix, &err);
    r = r < 0 ? r : add_fresh(&call, "overlay", work, prefix, &err);
    done = finish(&call, "snapshot", r, &err);
    if (done) {
        const msgpack_object *reply = call.reply.root;

        done = shl_mp_get_uint(reply, "pause_us", UINT64_MAX, &ret->pause_us) == 0 &&
               shl_mp_get_uint(reply, "dirty_pages", UINT64_MAX, &ret->dirty_pages) == 0 &&
               shl_mp_get_uint(reply, "mem_bytes", UINT64_MAX, &ret->mem_bytes) == 0 &&
               shl_mp_get_uint(reply, "state_bytes", UINT64_MAX, &ret->state_bytes) == 0;
    }
    bench_call_release(&call);
    return done;
}

/* ---- the warm snapshot ---- */

/* User processes frozen, nobody at the agent port, the VM left paused. */
static bool take_last(struct bench_box *box, const char *prefix)
{
    struct bench_snapshot_reply reply;

    if (!bench_agent_op(&box->agent, "freeze", BENCH_WAIT_MS)) {
        return false;
    }
    bench_agent_close(&box->agent);
    box->has_agent = false;
    if (!bench_box_snapshot(box, prefix, true, &reply)) {
        return false;
    }
    (void)printf("%s snapshot: %llu pages, pause %llu us\n", prefix,
                 (unsigned long long)reply.dirty_pages, (unsigned long long)reply.pause_us);
    return true;
}

static bool set_up(struct bench_box *box, const char *hostname)
{
    const struct bench_world *world = box->world;

    return bench_box_greet(box) &&
           bench_agent_setup(&box->agent, hostname, world->vcpus > 1 ? world->guest.cpus : 0, 0,
                             BENCH_WAIT_MS);
}

static bool take_warm(struct bench_world *world, struct bench_box *box)
{
    const char *const layers[] = {world->warm_mem};
    struct shl_err err = {0};

    (void)snprintf(world->warm_mem, sizeof(world->warm_mem), "%s/warm.mem", world->work);
    (void)snprintf(world->state, sizeof(world->state), "%s/warm.state", world->work);
    (void)snprintf(world->mem_base, sizeof(world->mem_base), "%s/warm.base", world->work);
    (void)snprintf(world->layer, sizeof(world->layer), "%s/warm.layer", world->work);
    if (!bench_box_boot(box, world->vcpus, world->hotplug_max_mb) || !set_up(box, "warm") ||
        !bench_agent_exec(&box->agent, BENCH_WARM_COMMAND, BENCH_WAIT_MS) ||
        !take_last(box, "warm")) {
        return false;
    }
    if (rename(box->overlay, world->layer) < 0 ||
        bench_flatten(world->mem_base, world->guest.memory_mb * MIB, NULL, layers, 1, &err) < 0) {
        (void)printf("warm snapshot: %s\n", err.msg);
        return false;
    }
    return true;
}

static bool take_trial(struct bench_box *box)
{
    return bench_box_restore(box, 0) && set_up(box, "trial") &&
           bench_agent_exec(&box->agent, BENCH_TRY_COMMAND, BENCH_WAIT_MS) &&
           take_last(box, "trial");
}

bool bench_warm_up(struct bench_world *world)
{
    struct bench_box box;
    struct stat st;
    bool done;

    if (stat(world->guest.disk, &st) < 0) {
        perror(world->guest.disk);
        return false;
    }
    world->disk_bytes = (uint64_t)st.st_size / 512 * 512;
    done = bench_box_launch(&box, world, "warm") && take_warm(world, &box);
    bench_box_end(&box);
    if (done) {
        done = bench_box_launch(&box, world, "trial") && take_trial(&box);
        bench_box_end(&box);
    }
    if (done) {
        (void)snprintf(world->working_set, sizeof(world->working_set), "%s/trial.mem", world->work);
    }
    return done;
}
