/* What the parts of fake-vmm share: fake_vmm.c, which says what it does and has the loop,
 * fake_vmm_control.c and fake_vmm_agent.c. One thread; nothing is freed, it ends with _exit. */
#ifndef SHL_TESTS_NODE_SANDBOX_FAKE_VMM_H
#define SHL_TESTS_NODE_SANDBOX_FAKE_VMM_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/frame.h"
#include "base/buf.h"
#include "vmm-kvm/control.h"
#include "vmm-kvm/deadline.h"
#include "vmm-kvm/overlay.h"

#define CLIENTS_MAX  4
#define BEAT_ADDRESS "203.0.113.2"
#define BEAT_MS      100

struct fake {
    const char *dir;
    char words[512];  /* content of the disk */
    char folder[448]; /* where the disk is */
    char gate[512];
    bool started, mute, paused, frozen;
    struct vmm_deadline deadline;
    uint64_t memory;       /* all of it, but for: */
    uint64_t beat_port;    /* 0, or where it sends to, at BEAT_ADDRESS */
    uint64_t beaten_at_ms; /* not of the guest */
    char output[32];       /* of the last command */
    uint64_t memory_bytes;
    struct vmm_overlay overlay;
    int control_listener, agent_listener;
    int control[CLIENTS_MAX];
    int agent;
    int fds[VMM_CONTROL_FDS_MAX];
    size_t fd_count;
    struct agent_parser parser;
    struct shl_buf hello; /* payload of the HELLO that waits for an answer */
};

/* Ends the program, with errno. */
void die(const char *what);
/* The same unless @rc is 0 or more. */
void check(int rc, const char *what);
/* In its disk. */
bool has_word(const struct fake *fake, const char *word);
/* Beside its disk. */
bool has_file(const struct fake *fake, const char *name);
/* As file @name of DIR. */
void save(const struct fake *fake, const char *name, struct shl_bytes bytes);
/* Writes the exit file and ends. */
void end(const struct fake *fake, const char *reason, const char *detail);

/* ---- control ------------------------------------------------------------------------- */

/* Reads a whole frame of @client and carries it out: blocking is fine for a test helper. */
void control_readable(struct fake *fake, int *client);
/* Pauses when the deadline has passed. */
void keep_deadline(struct fake *fake);

/* ---- the agent ----------------------------------------------------------------------- */

/* The guest is up and answers? */
bool agent_awake(const struct fake *fake);
/* Answers the HELLO that waits. */
void agent_ack(struct fake *fake);
void agent_readable(struct fake *fake);
void agent_drop(struct fake *fake);
/* The real agent takes the connection over; it ends with it, or with us. */
void hand_to_agent(struct fake *fake);

#endif /* SHL_TESTS_NODE_SANDBOX_FAKE_VMM_H */
