#include "bench/contenders.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"

#include "bench/qmp.h"

#define FIRST_COMMAND "echo hello"

const char *const bench_contender_names[BENCH_CONTENDERS] = {"restore", "boot", "qemu_restore",
                                                             "qemu_boot"};
const char *const bench_mark_names[BENCH_MARKS] = {"running_ms", "agent_ready_ms", "setup_ms",
                                                   "first_exec_ms", "request_ms"};

/* ---- shoal-vmm ---- */

static bool run_ours(const struct bench_world *world, bool restore, double marks[BENCH_MARKS])
{
    const unsigned cpus = world->vcpus > 1 ? world->guest.cpus : 0;
    double begin = bench_now_ms(), sent = 0;
    struct bench_box box;
    bool done = bench_box_launch(&box, world, "box");

    if (done) {
        sent = bench_now_ms();
        done = restore ? bench_box_restore(&box, 0)
                       : bench_box_boot(&box, world->vcpus, world->hotplug_max_mb);
    }
    marks[BENCH_RUNNING] = bench_now_ms() - begin;
    marks[BENCH_REQUEST] = bench_now_ms() - sent;
    done = done && bench_box_greet(&box);
    marks[BENCH_READY] = bench_now_ms() - begin;
    done = done && bench_agent_setup(&box.agent, "guest", cpus, 0, BENCH_WAIT_MS);
    marks[BENCH_SETUP] = bench_now_ms() - begin;
    done = done && bench_agent_exec(&box.agent, FIRST_COMMAND, BENCH_WAIT_MS);
    marks[BENCH_EXEC] = bench_now_ms() - begin;
    bench_box_end(&box);
    return done;
}

/* ---- QEMU ---- */

struct qemu_paths {
    char disk[BENCH_PATH_SIZE];
    char file[BENCH_PATH_SIZE]; /* of the migration */
    char incoming[BENCH_PATH_SIZE + 32];
    char dir[BENCH_PATH_SIZE];
    char agent[BENCH_PATH_SIZE + 16];
    char qmp[BENCH_PATH_SIZE + 16];
    char log[BENCH_PATH_SIZE + 16];
};

static void name_paths(struct qemu_paths *paths, const char *work)
{
    (void)snprintf(paths->disk, sizeof(paths->disk), "%s/qemu.disk", work);
    (void)snprintf(paths->file, sizeof(paths->file), "%s/qemu.migration", work);
    (void)snprintf(paths->incoming, sizeof(paths->incoming), "exec:cat %s", paths->file);
    (void)snprintf(paths->dir, sizeof(paths->dir), "%s/qemu", work);
    (void)snprintf(paths->agent, sizeof(paths->agent), "%s/agent.sock", paths->dir);
    (void)snprintf(paths->qmp, sizeof(paths->qmp), "%s/qmp.sock", paths->dir);
    (void)snprintf(paths->log, sizeof(paths->log), "%s.log", paths->dir);
}

/* Without the holes of @from: the template's image is mostly holes. */
static bool copy_sparse(const char *from, const char *to)
{
    SHL_CLEANUP_FD int in = open(from, O_RDONLY | O_CLOEXEC);
    SHL_CLEANUP_FD int out = open(to, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    static uint8_t chunk[1 << 16];
    struct stat st;
    off_t at = 0;

    if (in < 0 || out < 0 || fstat(in, &st) < 0 || ftruncate(out, st.st_size) < 0) {
        perror(to);
        return false;
    }
    while (at < st.st_size && (at = lseek(in, at, SEEK_DATA)) >= 0) {
        off_t end = lseek(in, at, SEEK_HOLE);

        while (at < end) {
            size_t part = end - at < (off_t)sizeof(chunk) ? (size_t)(end - at) : sizeof(chunk);

            if (shl_pread_full(in, chunk, part, (uint64_t)at) < 0 ||
                shl_pwrite_full(out, chunk, part, (uint64_t)at) < 0) {
                perror(to);
                return false;
            }
            at += (off_t)part;
        }
    }
    return true;
}

static bool greet_qemu(struct client *client, const struct qemu_paths *paths, pid_t pid)
{
    bool done = bench_agent_open(client, paths->agent, pid, bench_now_ms() + BENCH_WAIT_MS);

    if (!done) {
        (void)printf("the agent in QEMU did not answer: see %s\n", paths->log);
    }
    return done;
}

bool bench_qemu_warm_up(const struct bench_world *world)
{
    struct qemu_paths paths;
    const struct bench_qemu qemu = {.guest = &world->guest,
                                    .disk = paths.disk,
                                    .keep_writes = true,
                                    .agent_socket = paths.agent,
                                    .qmp_socket = paths.qmp};
    struct bench_qmp qmp;
    struct client client;
    bool done = false;
    pid_t pid;

    name_paths(&paths, world->work);
    if (!copy_sparse(world->guest.disk, paths.disk) || !bench_fresh_dir(paths.dir)) {
        return false;
    }
    pid = bench_spawn_qemu(&qemu, paths.log);
    if (pid > 0 && greet_qemu(&client, &paths, pid)) {
        done = bench_agent_setup(&client, "warm", 0, 0, BENCH_WAIT_MS) &&
               bench_agent_exec(&client, BENCH_WARM_COMMAND, BENCH_WAIT_MS) &&
               bench_agent_op(&client, "freeze", BENCH_WAIT_MS);
        bench_agent_close(&client);
    }
    if (done && (done = bench_qmp_open(&qmp, paths.qmp, pid, bench_now_ms() + BENCH_WAIT_MS))) {
        done = bench_qmp_migrate(&qmp, paths.file, bench_now_ms() + BENCH_WAIT_MS);
        bench_qmp_close(&qmp);
    }
    bench_end(pid, NULL);
    return done;
}

static bool run_qemu(const struct bench_world *world, bool restore, double marks[BENCH_MARKS])
{
    struct qemu_paths paths;
    const struct bench_qemu qemu = {.guest = &world->guest,
                                    .disk = restore ? paths.disk : world->guest.disk,
                                    .agent_socket = paths.agent,
                                    .qmp_socket = paths.qmp,
                                    .incoming = restore ? paths.incoming : NULL};
    double begin, end = bench_now_ms() + BENCH_WAIT_MS;
    struct client client;
    struct bench_qmp qmp;
    bool done = false;
    pid_t pid;

    name_paths(&paths, world->work);
    if (!bench_fresh_dir(paths.dir)) {
        return false;
    }
    begin = bench_now_ms();
    pid = bench_spawn_qemu(&qemu, paths.log);
    if (pid > 0 && bench_qmp_open(&qmp, paths.qmp, pid, end)) {
        done = bench_qmp_await_running(&qmp, end);
        marks[BENCH_RUNNING] = bench_now_ms() - begin;
        bench_qmp_close(&qmp);
    }
    if (done && (done = greet_qemu(&client, &paths, pid))) {
        marks[BENCH_READY] = bench_now_ms() - begin;
        done = bench_agent_setup(&client, "guest", 0, 0, BENCH_WAIT_MS);
        marks[BENCH_SETUP] = bench_now_ms() - begin;
        done = done && bench_agent_exec(&client, FIRST_COMMAND, BENCH_WAIT_MS);
        marks[BENCH_EXEC] = bench_now_ms() - begin;
        bench_agent_close(&client);
    }
    bench_end(pid, NULL);
    return done;
}

bool bench_contend(const struct bench_world *world,
                   enum bench_contender contender,
                   double marks[BENCH_MARKS])
{
    memset(marks, 0, sizeof(marks[0]) * BENCH_MARKS);
    switch (contender) {
    case BENCH_RESTORE:
    case BENCH_BOOT:
        return run_ours(world, contender == BENCH_RESTORE, marks);
    case BENCH_QEMU_RESTORE:
    case BENCH_QEMU_BOOT:
        return run_qemu(world, contender == BENCH_QEMU_RESTORE, marks);
    case BENCH_CONTENDERS:
        break;
    }
    return false;
}
