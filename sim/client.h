/* Clients of the simulated world and the history of what they did. A client does one
 * thing at a time, gives up waiting after a while, and then either tries another node
 * (what can be repeated) or remembers that it does not know.
 */
#ifndef SHL_SIM_CLIENT_H
#define SHL_SIM_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/rng.h"

struct sim_world;

#define SIM_CLIENTS_MAX 16
#define SIM_OPS_MAX     65536
#define SIM_KEYS        4 /* names and keys of the small store: few, so that they collide */

enum sim_op_kind {
    SIM_OP_CREATE,
    SIM_OP_GET,
    SIM_OP_KILL,
    SIM_OP_HIBERNATE,
    SIM_OP_WAKE,   /* on the entry node */
    SIM_OP_DELETE, /* by the log, of one that was released */
    SIM_OP_NAME_CLAIM,
    SIM_OP_NAME_RELEASE,
    SIM_OP_NAME_GET, /* strong */
    SIM_OP_KV_SET,
    SIM_OP_KV_GET, /* strong */
    SIM_OP_CORDON,
    SIM_OP_DRAIN,
    SIM_OP_UNMARK,
    SIM_OP_REMOVE,
    SIM_OP_KINDS
};

enum sim_op_state {
    SIM_OP_OPEN,
    SIM_OP_DONE,    /* acknowledged */
    SIM_OP_REFUSED, /* answered with an error that says nothing was done */
    SIM_OP_UNKNOWN, /* no answer, or one that says it may have been done */
};

struct sim_op {
    uint64_t number;
    enum sim_op_kind kind;
    enum sim_op_state state;
    uint32_t client;
    uint32_t entry; /* slot asked last */
    uint32_t attempt;
    uint32_t answered; /* attempt that was answered */
    uint64_t begun_us;
    uint64_t ended_us;
    uint64_t key;   /* name, key, slot or idempotency key */
    uint64_t value; /* written or read */
    uint64_t index; /* log index of the write, or revision read; 0 absent */
    uint64_t sandbox;
    uint32_t memory_mb;
    bool claimable;
    uint32_t owner; /* slot that served */
    uint32_t hops;
    int code;
    bool probe;
    bool fixed; /* only at its entry node */
};

struct sim_clients {
    struct sim_op *ops;
    size_t count;
    size_t cap;
    uint32_t client_count;
    struct {
        uint64_t op; /* number of the open one plus 1 */
        struct sim_rng rng;
    } clients[SIM_CLIENTS_MAX];
    struct sim_op nowhere; /* late answers write here */
    uint32_t weights[SIM_OP_KINDS];
    size_t probe_next;
    bool probe_wake; /* the same sandbox again: it must wake */
    uint64_t done, refused, unknown, retries;
};

void sim_clients_init(struct sim_clients *clients, struct sim_world *world);
void sim_clients_release(struct sim_clients *clients);
void sim_clients_start(struct sim_world *world);

/* By hand, from directed schedules: one call at @entry, never tried elsewhere. Returns its
 * number. */
uint64_t sim_client_call(struct sim_world *world,
                         enum sim_op_kind kind,
                         uint32_t entry,
                         uint64_t key,
                         uint64_t value);

/* Timer of a client: act, or give up waiting for attempt @attempt. */
void sim_client_wake(struct sim_world *world, uint32_t client, uint64_t attempt);
/* The entry node answers attempt @attempt of @op. */
void sim_client_answer(struct sim_world *world, uint64_t op, uint32_t attempt, int code);
/* Entry node @slot lost its process: its calls break. */
void sim_client_broken(struct sim_world *world, uint32_t slot);

/* Every promise is asked for, one call after the other; at the end the run is done. */
void sim_clients_probe(struct sim_world *world);

const char *sim_op_name(enum sim_op_kind kind);

#endif /* SHL_SIM_CLIENT_H */
