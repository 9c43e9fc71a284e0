/* Two processes that exchange bytes: pipes between them, the time and CPU it took, and what plain
 * CURVE moves between the two (DEALER -> ROUTER, nothing copied by the sender).
 *
 * Ends the program with 2 when something fails.
 */
#ifndef SHL_BENCH_PAIR_H
#define SHL_BENCH_PAIR_H

#include <stddef.h>
#include <stdint.h>

#include "node/mesh/mesh.h"

#define PAIR_ROUNDS_MAX 101u
#define PAIR_KIB        1024u
#define PAIR_MIB        (1024u * PAIR_KIB)
#define PAIR_SOURCE     (64u * PAIR_MIB) /* chunks differ, and no cache holds them all */

struct pair {
    int to_child[2], to_parent[2];
    struct node_mesh_keys keys[2]; /* of the receiver (parent) and the sender (child) */
    uint32_t size;                 /* of a message */
    uint64_t bytes;
    void *arg; /* of whoever measures */
};

/* What is sent comes from here. */
extern uint8_t pair_source[PAIR_SOURCE];

void pair_die(const char *what) __attribute__((noreturn));
void pair_put(int fd, const void *data, size_t len);
void pair_get(int fd, void *data, size_t len);
double pair_rate(uint64_t bytes, uint64_t from_us, uint64_t to_us); /* MiB/s */
void pair_keep(void *data, void *hint);                             /* lets go of what stays */

struct pair_cpu {
    double sender, receiver; /* ms per GiB */
};

/* Runs @send in a child and @receive here, and returns what @receive does. */
double pair_measure(struct pair *pair,
                    void (*send)(const struct pair *),
                    double (*receive)(const struct pair *),
                    struct pair_cpu *ret_cpu);

/* Plain CURVE, for pair_measure; MiB/s from the first byte to the last. */
void pair_plain_send(const struct pair *pair);
double pair_plain_receive(const struct pair *pair);
/* The same in parts: a socket that is connected, or bound and connected to. */
void *pair_curve_dealer(const struct pair *pair, void *ctx);
void *pair_curve_router(const struct pair *pair, void *ctx);

/* One side of a mesh whose link is up. */
struct pair_mesh {
    uv_loop_t loop;
    struct node_mesh *mesh;
};
/* @accept, of @kind, may be NULL. @which: of the keys. */
void pair_mesh_open(struct pair_mesh *side,
                    const struct pair *pair,
                    int which,
                    const char *kind,
                    node_stream_accept accept,
                    void *arg);
void pair_mesh_close(struct pair_mesh *side);

double pair_median(const double *values, unsigned count);
unsigned pair_number(const char *program, const char *text, unsigned max);

#endif /* SHL_BENCH_PAIR_H */
