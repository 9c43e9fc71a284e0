/* One shoal-vmm process with its guest, for bench/snapshot: started or restored, its agent at
 * hand, snapshots taken of it. All files are in one work folder; what a restore needs is there
 * once bench_warm_up has been successful.
 *
 * One thread. Failures print a sentence and are false.
 */
#ifndef SHL_BENCH_BOX_H
#define SHL_BENCH_BOX_H

#include "bench/vm.h"
#include "bench/vmm_client.h"

#define BENCH_WAIT_MS 180000

/* Run once before a guest is saved, by whichever VMM: the shell is in its page cache then. A
 * node does the same with more programs. */
#define BENCH_WARM_COMMAND "sh -c 'bash -c true; ls /; cat /etc/passwd' >/dev/null"
/* Run once after a first restore of the warm snapshot, as a node does; what that guest wrote
 * is the working set of the restores that follow. */
#define BENCH_TRY_COMMAND "echo ready"

/* What all boxes of a run share. */
struct bench_world {
    struct bench_guest guest;
    const char *work;
    unsigned vcpus;          /* of the warm snapshot; guest.cpus of them are online */
    unsigned hotplug_max_mb; /* of the warm snapshot */
    uint64_t disk_bytes;
    char state[BENCH_PATH_SIZE];    /* the warm snapshot */
    char warm_mem[BENCH_PATH_SIZE]; /* its memory as written, and as a raw image */
    char mem_base[BENCH_PATH_SIZE];
    char layer[BENCH_PATH_SIZE];       /* its sealed overlay */
    char working_set[BENCH_PATH_SIZE]; /* "": not known yet */
};

struct bench_box {
    const struct bench_world *world;
    pid_t pid;
    struct bench_vmm vmm;
    bool has_vmm;
    struct client agent;
    bool has_agent;
    char dir[BENCH_PATH_SIZE];
    char overlay[BENCH_PATH_SIZE + 16];
};

struct bench_snapshot_reply {
    uint64_t pause_us;
    uint64_t dirty_pages;
    uint64_t mem_bytes;
    uint64_t state_bytes;
};

/* The process and its control socket. bench_box_end is due, also after a failure. */
bool bench_box_launch(struct bench_box *box, const struct bench_world *world, const char *name);
bool bench_box_boot(struct bench_box *box, unsigned vcpus, unsigned hotplug_max_mb);
bool bench_box_restore(struct bench_box *box, unsigned hotplug_mb);
bool bench_box_greet(struct bench_box *box);
/* State, memory layer and next overlay go to work/PREFIX.state, .mem, .overlay. */
bool bench_box_snapshot(struct bench_box *box,
                        const char *prefix,
                        bool keep_paused,
                        struct bench_snapshot_reply *ret);
void bench_box_end(struct bench_box *box);

/* Boot the guest, make the warm snapshot of it and its raw memory image, end it; restore it
 * once to learn its working set. */
bool bench_warm_up(struct bench_world *world);

#endif /* SHL_BENCH_BOX_H */
