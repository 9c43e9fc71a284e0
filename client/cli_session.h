/* A session or a terminal of a sandbox, relayed to the own descriptors.
 *
 * One at a time, and one per process: signal handlers stay. Results and errors are printed by the
 * caller.
 */
#ifndef SHL_CLIENT_CLI_SESSION_H
#define SHL_CLIENT_CLI_SESSION_H

#include "client/cli.h"

#define CLI_LINGER_S 600 /* what is left alone this long ends */

enum cli_session_end {
    CLI_SESSION_ENDED,     /* close_code says how */
    CLI_SESSION_LEFT,      /* the detach key */
    CLI_SESSION_STOPPED,   /* on_interrupt said so */
    CLI_SESSION_NO_READER, /* our output goes nowhere */
};

struct cli_session {
    struct cli *cli;
    const char *id;
    const char *session;
    bool is_terminal;
    bool has_input; /* stdin goes there; keys when it is a terminal, which is raw then */
    bool is_back;   /* to one that had another size */
    /* When a signal came, and at times without; a value other than 0 stops. May be NULL. */
    shoal_exec_wait_cb on_interrupt;
    void *arg;
    /* set by cli_session_run */
    enum cli_session_end end;
    int close_code;
    bool has_exit_code;
    int exit_code; /* -1: its time limit ended it */
};

/* Attach and relay until the end. 0, or a negative code when it could not be attached to. */
SHL_MUST_CHECK int cli_session_run(struct cli_session *session, struct shoal_error *err);

/* Print that it was left running, that nobody waits for it any more, or that the connection
 * broke; the exit code. */
int cli_session_left(const struct cli_session *session);
int cli_session_stopped(const struct cli_session *session);
int cli_session_cut(const struct cli_session *session);

/* Of whichever of the standard descriptors is a terminal, else 80 by 24. */
void cli_terminal_size(int *ret_cols, int *ret_rows);

/* SIGINT counts instead of ending the program. */
void cli_catch_interrupts(void);
int cli_interrupts(void);

#endif /* SHL_CLIENT_CLI_SESSION_H */
