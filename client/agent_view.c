#include "client/agent_view.h"

#include <string.h>

#define LINE_CHARS 160 /* of what is shown of a tool */

/* Its first line that is not empty, shortened, with a mark for what is left out. */
static void print_brief(FILE *out, const char *text)
{
    size_t len;
    size_t shown;

    text += strspn(text, " \t\r\n");
    len = strcspn(text, "\r\n");
    shown = SHL_MIN(len, (size_t)LINE_CHARS);
    while (shown > 0 && shown < len && ((unsigned char)text[shown] & 0xc0) == 0x80) {
        shown--; /* not inside of a character */
    }
    cli_print_lines(out, text, shown);
    if (text[shown + strspn(text + shown, " \t\r\n")] != '\0') {
        (void)fputs(" ...", out);
    }
}

static void note(struct agent_view *view, const char *mark, const char *name, const char *text)
{
    if (view->cli->quiet) {
        return;
    }
    (void)fflush(stdout); /* in the order in which it came */
    (void)fputs(mark, stderr);
    print_brief(stderr, name);
    if (*name && *text) {
        (void)fputs(": ", stderr);
    }
    print_brief(stderr, text);
    (void)fputc('\n', stderr);
}

static void fail(struct agent_view *view, const char *text)
{
    view->is_failed = true;
    (void)fflush(stdout);
    (void)fputs("shoal: the agent: ", stderr);
    cli_print_lines(stderr, text, strlen(text));
    (void)fputc('\n', stderr);
}

static void show(struct agent_view *view, const struct shoal_agent_event *event)
{
    switch (event->kind) {
    case SHOAL_AGENT_TEXT:
        cli_print_lines(stdout, event->text, strlen(event->text));
        (void)putchar('\n');
        break;
    case SHOAL_AGENT_TOOL:
        note(view, "> ", event->name, event->text);
        break;
    case SHOAL_AGENT_TOOL_RESULT:
        note(view, event->is_error ? "! " : "  ", "", event->text);
        break;
    case SHOAL_AGENT_ERROR:
        fail(view, event->text);
        break;
    case SHOAL_AGENT_INTERRUPTED:
        note(view, "interrupted", "", "");
        break;
    case SHOAL_AGENT_OTHER:
        if (event->is_error) {
            note(view, "? ", "", "a line that is no event");
        }
        break;
    case SHOAL_AGENT_READY:
    case SHOAL_AGENT_CONFIGURED:
    case SHOAL_AGENT_RESULT: /* said as text, or in an error */
    case SHOAL_AGENT_TURN_COMPLETE:
        break;
    }
}

static void on_event(void *arg, const struct shoal_agent_event *event)
{
    struct agent_view *view = arg;

    if (!view->cli->json) {
        show(view, event);
    }
    switch (event->kind) {
    case SHOAL_AGENT_TURN_COMPLETE:
        view->is_busy = false;
        view->completed++;
        (void)snprintf(view->conversation, sizeof(view->conversation), "%s", event->text);
        break;
    case SHOAL_AGENT_RESULT:
        view->is_failed = event->is_error;
        break;
    case SHOAL_AGENT_ERROR:
        view->is_failed = true;
        break;
    case SHOAL_AGENT_TEXT:
    case SHOAL_AGENT_TOOL:
    case SHOAL_AGENT_TOOL_RESULT:
        view->is_busy = true;
        break;
    case SHOAL_AGENT_READY:
    case SHOAL_AGENT_CONFIGURED:
    case SHOAL_AGENT_INTERRUPTED:
        break;
    case SHOAL_AGENT_OTHER: /* a message of the SDK */
        view->is_busy = view->is_busy || !event->is_error;
        break;
    }
}

bool agent_view_init(struct agent_view *view, struct cli *cli)
{
    *view = (struct agent_view){.cli = cli};
    view->reader = shoal_agent_reader_new(on_event, view);
    return view->reader != NULL;
}

void agent_view_release(struct agent_view *view)
{
    shoal_agent_reader_free(view->reader);
    view->reader = NULL;
}

void agent_view_output(void *arg, int stream, const void *data, size_t len)
{
    struct agent_view *view = arg;

    if (stream == 2) {
        if (!view->cli->quiet) {
            cli_print_lines(stderr, data, len);
        }
        return;
    }
    if (view->cli->json) {
        (void)fwrite(data, 1, len, stdout);
    }
    shoal_agent_reader_feed(view->reader, data, len);
    (void)fflush(stdout);
}
