/* One end to measure: commands, a file and keys in a guest, through the public API of a node or
 * straight over the link of an agent. One thread; what fails ends the program with a sentence. */
#ifndef SHL_BENCH_STREAM_SIDE_H
#define SHL_BENCH_STREAM_SIDE_H

#include "client/shoal.h"
#include "tests/agent/client.h"

#define STREAM_KEYS_MAX 10000u

struct stream_side {
    const char *name;
    struct client *agent;        /* of the raw side */
    struct shoal_client *client; /* of the others */
    const char *sandbox;
    uint64_t pieces; /* DATA frames or messages with output, so far */
};

/* From the first byte here to the last. */
struct stream_run {
    uint64_t bytes;
    uint64_t pieces;
    double ms;
};

/* Runs @command with a shell; its exit code must be 0. */
void stream_command(struct stream_side *side, const char *command);
/* @bytes of a command's stdout. */
struct stream_run stream_exec(struct stream_side *side, uint64_t bytes);
/* A file of the guest. */
struct stream_run stream_file(struct stream_side *side, const char *path);
/* One key after the other to a program that echoes on a terminal: microseconds of each. */
void stream_keys(struct stream_side *side, double *us, unsigned count);

void stream_die(const char *format, ...) SHL_PRINTF(1, 2) __attribute__((noreturn));

#endif /* SHL_BENCH_STREAM_SIDE_H */
