/* shoal agent: start agents in sandboxes, watch and prompt them. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "client/agent_watch.h"

#define TURNS_MAX    1000000
#define SESSION_SIZE 160

struct agent_options {
    const char *model;
    const char *system;
    const char *mode;
    const char *cwd;
    const char *servers;
    const char *resume;
    struct cli_pairs tools;
    struct cli_number max_turns;
    bool detach;
};

static const struct cli_flag flags[] = {
    {'m', "model", "MODEL", CLI_TEXT, offsetof(struct agent_options, model), 0, 0,
     "start: the model it asks"},
    {0, "system", "TEXT", CLI_TEXT, offsetof(struct agent_options, system), 0, 0,
     "start: its system prompt"},
    {0, "tool", "TOOL", CLI_PAIRS, offsetof(struct agent_options, tools), 0, 0,
     "start: it may use this tool and no others; may be repeated"},
    {0, "mode", "MODE", CLI_TEXT, offsetof(struct agent_options, mode), 0, 0,
     "start: permission mode (bypassPermissions)"},
    {0, "max-turns", "N", CLI_NUMBER, offsetof(struct agent_options, max_turns), 1, TURNS_MAX,
     "start: turns of one prompt (50)"},
    {'c', "cwd", "DIR", CLI_TEXT, offsetof(struct agent_options, cwd), 0, 0,
     "start: where it works (/home/sandbox)"},
    {0, "mcp", "FILE", CLI_TEXT, offsetof(struct agent_options, servers), 0, 0,
     "start: MCP servers, JSON as in an .mcp.json"},
    {'r', "resume", "CONVERSATION", CLI_TEXT, offsetof(struct agent_options, resume), 0, 0,
     "start: go on with it"},
    {'d', "detach", NULL, CLI_SWITCH, offsetof(struct agent_options, detach), 0, 0,
     "start: print the session and leave it running"},
};

/* ---- start ------------------------------------------------------------------------ */

/* All of a file or of standard input, terminated. False after printing why not. */
static bool read_text(struct cli *cli, const char *path, struct shl_buf *text)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    bool is_bad = !file;
    char bytes[4096];
    size_t n;

    while (!is_bad && (n = fread(bytes, 1, sizeof(bytes), file)) > 0) {
        is_bad = shl_buf_append(text, bytes, n) < 0;
    }
    is_bad = is_bad || ferror(file) || shl_buf_append(text, "", 1) < 0;
    if (is_bad) {
        (void)cli_usage(cli, "%s cannot be read, or is longer than 1 MiB", path);
    }
    if (file && file != stdin) {
        (void)fclose(file);
    }
    return !is_bad;
}

static bool add_servers(struct cli *cli, struct shoal_agent_config *config, const char *path)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shl_buf text;
    bool ok;

    shl_buf_init(&text, AGENT_PROMPT_MAX_BYTES);
    ok = read_text(cli, path, &text);
    if (ok && shoal_agent_config_set_servers(config, (char *)shl_buf_data(&text),
                                             shl_buf_len(&text) - 1, &err) < 0) {
        (void)cli_fail(cli, &err, "%s", path);
        ok = false;
    }
    shl_buf_release(&text);
    return ok;
}

static bool fill(struct cli *cli,
                 struct shoal_agent_config *config,
                 const struct agent_options *options,
                 const char *prompt)
{
    const struct {
        const char *field;
        const char *text;
    } texts[] = {{"prompt", prompt},
                 {"model", options->model},
                 {"systemPrompt", options->system},
                 {"permissionMode", options->mode},
                 {"cwd", options->cwd},
                 {"resume", options->resume}};
    int rc = 0;

    for (size_t i = 0; i < SHL_ARRAY_SIZE(texts) && rc == 0; i++) {
        if (texts[i].text) {
            rc = shoal_agent_config_set_text(config, texts[i].field, texts[i].text);
        }
    }
    for (size_t i = 0; i < options->tools.count && rc == 0; i++) {
        rc = shoal_agent_config_add_tool(config, options->tools.items[i]);
    }
    if (rc == 0 && options->max_turns.set) {
        rc = shoal_agent_config_set_max_turns(config, options->max_turns.value);
    }
    if (rc < 0) {
        (void)cli_usage(cli, "%s", "the prompt or a flag is not UTF-8 text");
        return false;
    }
    return !options->servers || add_servers(cli, config, options->servers);
}

static int start_with(struct cli *cli, const struct agent_options *options, const char *prompt)
{
    struct shoal_agent_config *config = shoal_agent_config_new();
    struct shoal_error err = SHOAL_ERROR_INIT;
    char session[SESSION_SIZE];
    int code = CLI_GO;

    if (!config || !fill(cli, config, options, prompt)) {
        code = CLI_FAILED;
    } else if (shoal_agent_start(cli->client, cli->operands[1], config, session, sizeof(session),
                                 &err) < 0) {
        code = cli_fail(cli, &err, "%s", cli->operands[1]);
    }
    shoal_agent_config_free(config);
    if (code != CLI_GO) {
        return code;
    }
    if (options->detach) {
        cli_print_safe(stdout, session);
        (void)putchar('\n');
        return CLI_OK;
    }
    return agent_watch(cli, session, true, !prompt, prompt != NULL);
}

/* The prompt: an operand, standard input, or what is typed. */
static int start(struct cli *cli, const struct agent_options *options)
{
    const char *prompt = cli->operand_count > 2 ? cli->operands[2] : NULL;
    bool is_typed = !prompt && (isatty(STDIN_FILENO) || options->detach);
    struct shl_buf text;
    int code = CLI_FAILED;

    shl_buf_init(&text, AGENT_PROMPT_MAX_BYTES);
    if (is_typed) {
        code = start_with(cli, options, NULL);
    } else if (prompt && strcmp(prompt, "-") != 0) {
        code = start_with(cli, options, prompt);
    } else if (read_text(cli, "-", &text)) {
        code = start_with(cli, options, (char *)shl_buf_data(&text));
    }
    shl_buf_release(&text);
    return code;
}

/* ---- the others ------------------------------------------------------------------- */

static int list(struct cli *cli)
{
    static const char *const titles[] = {"SESSION", "STATE", "EXIT", "AGE"};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal_exec_list *sessions = NULL;
    struct cli_table *table;

    if (shoal_agent_list(cli->client, cli->operands[1], &sessions, &err) < 0) {
        return cli_fail(cli, &err, "%s", cli->operands[1]);
    }
    if (cli->json) {
        (void)cli_print_json(cli, shoal_exec_list_json(sessions));
    } else {
        table = cli->quiet ? NULL : cli_table_new(titles, SHL_ARRAY_SIZE(titles));
        for (size_t i = 0; i < shoal_exec_list_count(sessions); i++) {
            const struct shoal_exec_session *session = shoal_exec_list_at(sessions, i);
            bool is_running = shoal_exec_session_running(session);
            char exit_code[32] = "";
            char age[32];

            cli_age(shoal_exec_session_started_at(session), age, sizeof(age));
            if (!is_running) {
                (void)snprintf(exit_code, sizeof(exit_code), "%d",
                               shoal_exec_session_exit_code(session));
            }
            if (table) {
                cli_table_row(table, (const char *const[]){shoal_exec_session_id(session),
                                                           is_running ? "running" : "ended",
                                                           exit_code, age});
            } else {
                cli_print_safe(stdout, shoal_exec_session_id(session));
                (void)putchar('\n');
            }
        }
        if (table) {
            cli_table_print(cli, table, 1);
        }
    }
    shoal_exec_list_free(sessions);
    return CLI_OK;
}

static int kill_each(struct cli *cli)
{
    int code = CLI_OK;

    for (size_t i = 2; i < cli->operand_count; i++) {
        struct shoal_error err = SHOAL_ERROR_INIT;

        if (shoal_agent_kill(cli->client, cli->operands[1], cli->operands[i], SIGKILL, &err) < 0) {
            code = cli_fail(cli, &err, "%s", cli->operands[i]);
        }
    }
    return code;
}

static int attach(struct cli *cli)
{
    return agent_watch(cli, cli->operands[2], false,
                       isatty(STDIN_FILENO) && isatty(STDERR_FILENO) && !cli->json, false);
}

static int prompt(struct cli *cli)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    return shoal_agent_prompt(cli->client, cli->operands[1], cli->operands[2], cli->operands[3],
                              &err) < 0
               ? cli_fail(cli, &err, "%s", cli->operands[2])
               : CLI_OK;
}

static int interrupt(struct cli *cli)
{
    struct shoal_error err = SHOAL_ERROR_INIT;

    return shoal_agent_interrupt(cli->client, cli->operands[1], cli->operands[2], &err) < 0
               ? cli_fail(cli, &err, "%s", cli->operands[2])
               : CLI_OK;
}

static const struct cli_verb verbs[] = {
    {"start", 2, 3, "start takes a sandbox and, unless it is typed or piped, a prompt", NULL},
    {"attach", 3, 3, "attach takes a sandbox and a session", attach},
    {"ls", 2, 2, "ls takes one sandbox", list},
    {"prompt", 4, 4, "prompt takes a sandbox, a session and a prompt", prompt},
    {"interrupt", 3, 3, "interrupt takes a sandbox and a session", interrupt},
    {"kill", 3, SIZE_MAX, "kill takes a sandbox and sessions", kill_each},
};

/* All flags are of start: nobody shall believe that another verb heeded one. */
static bool has_flags(const struct agent_options *options)
{
    return options->model || options->system || options->mode || options->cwd || options->servers ||
           options->resume || options->tools.count > 0 || options->max_turns.set || options->detach;
}

static int run(struct cli *cli, int argc, char **argv)
{
    struct agent_options options = {.model = NULL};
    int code = cli_parse(cli, &options, argc, argv, 2, (size_t)argc);
    const struct cli_verb *verb;

    if (code != CLI_GO) {
        return code;
    }
    verb = cli_verb_find(cli, cli->operands[0], verbs, SHL_ARRAY_SIZE(verbs));
    if (verb && verb->run && has_flags(&options)) {
        return cli_usage(cli, "%s takes no such flags: they are of agent start", verb->name);
    }
    cli->watch = agent_watch_is_stopped;
    if (!verb || !cli_connect(cli)) {
        return CLI_FAILED;
    }
    return verb->run ? verb->run(cli) : start(cli, &options);
}

const struct cli_command cli_cmd_agent = {
    .name = "agent",
    .summary = "agents in a sandbox: start, watch, prompt",
    .usage = "[flags] start SANDBOX [PROMPT] | attach SANDBOX SESSION | ls SANDBOX |\n"
             "       prompt SANDBOX SESSION PROMPT | interrupt SANDBOX SESSION |\n"
             "       kill SANDBOX SESSION ...",
    .text = "start prints what the agent says on standard output, and what it does on standard\n"
            "error, until it is done. The prompt may be -, or come through a pipe; typed at a\n"
            "terminal, there may be many, and Ctrl-D ends it. Ctrl-C interrupts what it does, a\n"
            "second one ends it. The sandbox needs the template base and a key: a secret\n"
            "ANTHROPIC_API_KEY. --json prints the events as they are. The exit code is 1 when the\n"
            "agent failed.\n",
    .example = "shoal agent start -c /workspace sb-1a2b3c4d 'Write tests for this project.'",
    .flags = flags,
    .flag_count = SHL_ARRAY_SIZE(flags),
    .run = run,
};
