#include "bench/checkpoints.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB            (1ull << 20)
#define IDLE_US        1000000
#define COMMAND_FORMAT "yes shoal | head -c %llu > /dev/shm/dirty"

static bool measure(const struct bench_box *box, struct bench_smaps *ret)
{
    const char *const files[] = {box->world->mem_base};

    return bench_smaps_read(box->pid, files, 1, ret);
}

/* Blocks that are there: a sparse file is not larger than what was written. */
static bool count_file(const struct bench_world *world, const char *name, uint64_t *sum)
{
    char path[BENCH_PATH_SIZE];
    struct stat st;

    (void)snprintf(path, sizeof(path), "%s/%s", world->work, name);
    if (stat(path, &st) < 0) {
        perror(path);
        return false;
    }
    *sum += (uint64_t)st.st_size;
    return true;
}

static bool restore(struct bench_box *box,
                    const struct bench_world *world,
                    const char *name,
                    unsigned memory_mb)
{
    unsigned hotplug_mb = memory_mb - world->guest.memory_mb;

    return bench_box_launch(box, world, name) && bench_box_restore(box, hotplug_mb) &&
           bench_box_greet(box) &&
           bench_agent_setup(&box->agent, name, world->vcpus > 1 ? world->guest.cpus : 0,
                             hotplug_mb > 0 ? memory_mb * MIB : 0, BENCH_WAIT_MS);
}

bool bench_checkpoint(const struct bench_world *world,
                      unsigned memory_mb,
                      unsigned written_mb,
                      struct bench_checkpoint *ret)
{
    struct bench_smaps smaps;
    struct bench_box box;
    char command[128];
    bool done;

    memset(ret, 0, sizeof(*ret));
    ret->memory_mb = memory_mb;
    ret->written_mb = written_mb;
    (void)snprintf(command, sizeof(command), COMMAND_FORMAT, written_mb * MIB);
    done = restore(&box, world, "box", memory_mb) &&
           bench_agent_exec(&box.agent, command, BENCH_WAIT_MS) &&
           bench_agent_op(&box.agent, "freeze", BENCH_WAIT_MS) &&
           bench_box_snapshot(&box, "checkpoint", true, &ret->reply) && measure(&box, &smaps) &&
           count_file(world, "checkpoint.mem", &ret->file_bytes) &&
           count_file(world, "checkpoint.state", &ret->file_bytes);
    ret->dirty_bytes = done ? smaps.guest_anon_bytes : 0;
    bench_box_end(&box);
    return done;
}

bool bench_idle_forks(const struct bench_world *world, struct bench_smaps *ret, unsigned count)
{
    struct bench_box boxes[BENCH_FORKS_MAX];
    unsigned i, made = 0;
    bool done = true;

    for (i = 0; i < count && done; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "fork-%u", i);
        done = restore(&boxes[i], world, name, world->guest.memory_mb);
        made++;
    }
    if (done) {
        (void)usleep(IDLE_US);
    }
    for (i = 0; i < made; i++) {
        done = done && measure(&boxes[i], &ret[i]);
    }
    for (i = 0; i < made; i++) {
        bench_box_end(&boxes[i]);
    }
    return done;
}
