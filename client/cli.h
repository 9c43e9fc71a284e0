/* The command line: what the subcommands share.
 *
 * One cmd_NAME.c per subcommand. It declares its flags in a table (parsing, help text
 * and completion come from it), lets cli_parse fill its options struct, and calls only
 * the public library. Results go to stdout; progress, notes and errors to stderr, and
 * progress only to a terminal.
 *
 * One thread. Strings in options and operands point into argv.
 */
#ifndef SHL_CLIENT_CLI_H
#define SHL_CLIENT_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/attr.h"
#include "client/shoal.h"

/* Exit codes; docs/cli.md explains them. Everything else comes from a sandbox's command. */
enum {
    CLI_OK = 0,
    CLI_NOT_READY = 1,    /* only `status` */
    CLI_AGENT_FAILED = 1, /* only `agent`: what it was to do failed */
    CLI_TIMED_OUT = 124,  /* only `exec`: its time limit ended the command */
    CLI_INTERRUPTED = 130,
    CLI_FAILED = 125, /* this program failed: usage, network, a refusal, a local file */
};

/* cli_parse: carry on with the command (any other value is the exit code). */
#define CLI_GO (-1)

#define CLI_PAIRS_MAX 256

struct cli_pairs { /* K=V, or K alone where the local environment has the value */
    const char *items[CLI_PAIRS_MAX];
    size_t count;
};

struct cli_number {
    bool set;
    int value;
};

enum cli_flag_type {
    CLI_SWITCH, /* bool */
    CLI_TEXT,   /* const char *, NULL not given */
    CLI_NUMBER, /* struct cli_number, between min and max */
    CLI_SPAN,   /* the same in seconds; 90, 90s, 10m, 2h or 7d */
    CLI_PAIRS,  /* struct cli_pairs, may be repeated */
};

struct cli_flag {
    char letter;       /* 0 none */
    const char *name;  /* without the dashes */
    const char *value; /* how the help calls the value, NULL for a switch */
    enum cli_flag_type type;
    size_t offset; /* into the options struct */
    int min;
    int max;
    const char *help;
};

struct cli;

struct cli_command {
    const char *name;
    const char *alias; /* NULL none */
    const char *summary;
    const char *usage; /* behind the name */
    const char *text;  /* more about it, ends in a newline; may be NULL */
    const char *example;
    const struct cli_flag *flags;
    size_t flag_count;
    size_t stop_after; /* behind this many operands nothing is a flag; 0 never stops */
    int (*run)(struct cli *cli, int argc, char **argv);
};

struct cli {
    /* flags every command takes */
    const char *url;
    const char *key;
    const char *ca_file;
    const char *format; /* "json", "table" or NULL */
    bool json;
    bool quiet;
    bool help;
    /* set by main */
    const struct cli_command *command; /* the one that runs */
    struct shoal_client *client;       /* made by cli_connect */
    shoal_watch_cb watch;              /* of the client, NULL none */
    bool out_color;
    bool err_tty;
    bool progress_shown;
    /* set by cli_parse */
    char **operands;
    size_t operand_count;
};

/* cli_main.c: all commands, ending with NULL. */
extern const struct cli_command *const cli_commands[];
const struct cli_command *cli_command_find(const char *name);

/* cli_args.c: argv[0] is the command's name. Fills @options (zeroed by the caller)
 * and the shared flags, checks that there are @min to @max operands. On wrong usage
 * prints what is wrong. */
SHL_MUST_CHECK int cli_parse(struct cli *cli,
                             void *options,
                             int argc,
                             char **argv,
                             size_t min,
                             size_t max);
/* "K=V" apart; @key is the caller's buffer. False after printing what is wrong. */
SHL_MUST_CHECK bool cli_pair_split(struct cli *cli,
                                   const char *pair,
                                   char *key,
                                   size_t key_size,
                                   const char **ret_value);
/* What a command does of several things, by a word among its operands. */
struct cli_verb {
    const char *name;
    size_t min; /* operands of the command, this word among them */
    size_t max;
    const char *takes;           /* a sentence for when there are fewer or more */
    int (*run)(struct cli *cli); /* NULL: the command has it */
};
/* NULL after printing what is wrong with @name or the number of operands. */
const struct cli_verb *cli_verb_find(struct cli *cli,
                                     const char *name,
                                     const struct cli_verb *verbs,
                                     size_t count);
/* Decimal between @min and @max, nothing else. */
SHL_MUST_CHECK bool cli_number_parse(const char *text, int min, int max, int *ret_value);
extern const struct cli_flag cli_shared_flags[];
extern const size_t cli_shared_flag_count;

/* cli_suggest.c: the candidate that is nearest to @word, NULL when none is near. */
const char *cli_suggest(const char *word, const char *const *candidates, size_t count);

/* cli_connect.c: settings from flags, environment and file; cli->client. */
SHL_MUST_CHECK bool cli_connect(struct cli *cli);

/* cli_out.c */
struct cli_table;
struct cli_table *cli_table_new(const char *const *titles, size_t columns);
/* Copies @cells; NULL and "" print as "-". */
void cli_table_row(struct cli_table *table, const char *const *cells);
/* Prints and frees. @color_column is coloured as a status; -1 none. */
void cli_table_print(struct cli *cli, struct cli_table *table, int color_column);
/* One "name  value" line of an object. */
void cli_line(struct cli *cli, const char *name, const char *value);
/* A result as JSON plus newline. */
int cli_print_json(struct cli *cli, const char *json);
void cli_json_text(FILE *out, const char *text);
/* "12s", "3m", "2h", "4d" since an RFC 3339 time; "" when it is not one. */
void cli_age(const char *time, char *dst, size_t size);
/* "512", "1.5 GiB" */
void cli_size(int64_t bytes, char *dst, size_t size);
void cli_int(int64_t value, char *dst, size_t size); /* "" for negative */
/* Text from servers and sandboxes, safe for a terminal. */
void cli_print_safe(FILE *out, const char *text);
void cli_print_lines(FILE *out, const char *text, size_t len); /* keeps newlines and tabs */

/* cli_note.c: messages on stderr. */
/* What failed, with status and request id, and a hint. Returns CLI_FAILED, or
 * CLI_INTERRUPTED when Ctrl-C was the reason. */
int cli_fail(struct cli *cli, const struct shoal_error *err, const char *fmt, ...) SHL_PRINTF(3, 4);
/* Wrong usage. Returns CLI_FAILED. */
int cli_usage(struct cli *cli, const char *fmt, ...) SHL_PRINTF(2, 3);
/* Only on a terminal and without -q; the next message replaces it. */
void cli_progress(struct cli *cli, const char *fmt, ...) SHL_PRINTF(2, 3);
void cli_progress_end(struct cli *cli);

/* cmd_help.c */
void cli_help_all(FILE *out);
void cli_help_command(FILE *out, const struct cli_command *command);

/* cmd_create.c: what create and fork both may set, into a request. False after printing
 * what is wrong. */
struct cli_wish {
    struct cli_number cpus;
    struct cli_number memory_mb;
    struct cli_number disk_mb;
    struct cli_number timeout_s;
    const char *secret_store;
    struct cli_pairs envs;
    struct cli_pairs metadata;
};
SHL_MUST_CHECK bool cli_wish_add(struct cli *cli,
                                 struct shoal_create *create,
                                 const struct cli_wish *wish);

/* cmd_node.c: the nodes of a cluster. */
void cli_node_table(struct cli *cli, const struct shoal_cluster *cluster);

/* cmd_checkpoint.c: the checkpoint of that id or name, in @ret_id. False after printing
 * why there is none. */
SHL_MUST_CHECK bool cli_checkpoint_id(struct cli *cli,
                                      const char *sandbox_id,
                                      const char *id_or_name,
                                      char *ret_id,
                                      size_t size);

/* cmd_secret_value.c: from @path ("-" standard input), or with NULL from a prompt without echo, or
 * from standard input that is no terminal. One newline at the end is left out unless @exact.
 * In memory that does not reach swap or a core dump; the caller gives it to
 * cli_secret_value_free. NULL after printing why not. */
struct cli_secret_value;
struct cli_secret_value *cli_secret_value_read(struct cli *cli,
                                               const char *name,
                                               const char *path,
                                               bool exact);
const char *cli_secret_value_text(const struct cli_secret_value *value, size_t *ret_bytes);
void cli_secret_value_free(struct cli_secret_value *value); /* wipes; NULL is fine */

extern const struct cli_command cli_cmd_agent;
extern const struct cli_command cli_cmd_checkpoint;
extern const struct cli_command cli_cmd_cluster;
extern const struct cli_command cli_cmd_completion;
extern const struct cli_command cli_cmd_cp;
extern const struct cli_command cli_cmd_create;
extern const struct cli_command cli_cmd_exec;
extern const struct cli_command cli_cmd_files;
extern const struct cli_command cli_cmd_fork;
extern const struct cli_command cli_cmd_get;
extern const struct cli_command cli_cmd_help;
extern const struct cli_command cli_cmd_image;
extern const struct cli_command cli_cmd_patch;
extern const struct cli_command cli_cmd_snapshot;
extern const struct cli_command cli_cmd_hibernate;
extern const struct cli_command cli_cmd_kill;
extern const struct cli_command cli_cmd_logs;
extern const struct cli_command cli_cmd_ls;
extern const struct cli_command cli_cmd_secret;
extern const struct cli_command cli_cmd_shell;
extern const struct cli_command cli_cmd_node;
extern const struct cli_command cli_cmd_preview;
extern const struct cli_command cli_cmd_reboot;
extern const struct cli_command cli_cmd_restore;
extern const struct cli_command cli_cmd_status;
extern const struct cli_command cli_cmd_timeout;
extern const struct cli_command cli_cmd_token;
extern const struct cli_command cli_cmd_version;
extern const struct cli_command cli_cmd_migrate;
extern const struct cli_command cli_cmd_recover;
extern const struct cli_command cli_cmd_wake;

#endif /* SHL_CLIENT_CLI_H */
