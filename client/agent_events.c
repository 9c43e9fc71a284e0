/* What an agent session prints, line by line: JSON objects with a type. They come from a sandbox,
 * so nothing about them is believed; what is not understood is passed on as OTHER. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "client/doc.h"

#define LINE_MAX_BYTES (16u * 1024 * 1024)

struct shoal_agent_reader {
    shoal_agent_cb event;
    void *arg;
    struct shl_buf line; /* begun */
    bool is_skipping;    /* the rest of one that is too long */
};

static const struct {
    const char *type;
    enum shoal_agent_event_kind kind;
} simple[] = {
    {"ready", SHOAL_AGENT_READY},
    {"configured", SHOAL_AGENT_CONFIGURED},
    {"interrupted", SHOAL_AGENT_INTERRUPTED},
};

struct shoal_agent_reader *shoal_agent_reader_new(shoal_agent_cb event, void *arg)
{
    struct shoal_agent_reader *reader = calloc(1, sizeof(*reader));

    if (reader) {
        reader->event = event;
        reader->arg = arg;
        shl_buf_init(&reader->line, LINE_MAX_BYTES);
    }
    return reader;
}

void shoal_agent_reader_free(struct shoal_agent_reader *reader)
{
    if (reader) {
        shl_buf_release(&reader->line);
        free(reader);
    }
}

static const char *text_in(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text ? text : "";
}

static void tell(struct shoal_agent_reader *reader,
                 enum shoal_agent_event_kind kind,
                 const char *name,
                 const char *text,
                 bool is_error)
{
    reader->event(reader->arg, &(struct shoal_agent_event){kind, name, text, is_error});
}

/* What of the input of a tool says most in one line. */
static void tell_tool(struct shoal_agent_reader *reader, const json_t *block)
{
    static const char *const names[] = {"command", "file_path", "path",        "pattern",
                                        "url",     "query",     "description", "prompt"};
    const json_t *input = json_object_get(block, "input");
    SHL_CLEANUP_FREE char *all = NULL;
    const char *text = "";

    for (size_t i = 0; i < SHL_ARRAY_SIZE(names) && *text == '\0'; i++) {
        text = text_in(input, names[i]);
    }
    if (*text == '\0' && json_object_size(input) > 0) {
        all = json_dumps(input, JSON_COMPACT);
        text = all ? all : "";
    }
    tell(reader, SHOAL_AGENT_TOOL, text_in(block, "name"), text, false);
}

/* The content of a result is text or blocks of text. */
static void tell_tool_result(struct shoal_agent_reader *reader, const json_t *block)
{
    const json_t *content = json_object_get(block, "content");
    bool is_error = json_is_true(json_object_get(block, "is_error"));
    const char *text = json_string_value(content);

    if (!text) {
        text = text_in(json_array_get(content, 0), "text");
    }
    tell(reader, SHOAL_AGENT_TOOL_RESULT, "", text, is_error);
}

static void tell_blocks(struct shoal_agent_reader *reader, const json_t *event, bool is_agent)
{
    const json_t *content = json_object_get(json_object_get(event, "message"), "content");
    size_t i;
    json_t *block;

    json_array_foreach((json_t *)content, i, block)
    {
        const char *type = text_in(block, "type");

        if (is_agent && strcmp(type, "text") == 0) {
            tell(reader, SHOAL_AGENT_TEXT, "", text_in(block, "text"), false);
        } else if (is_agent && strcmp(type, "tool_use") == 0) {
            tell_tool(reader, block);
        } else if (!is_agent && strcmp(type, "tool_result") == 0) {
            tell_tool_result(reader, block);
        }
    }
}

static void tell_event(struct shoal_agent_reader *reader, const json_t *event)
{
    const char *type = text_in(event, "type");

    for (size_t i = 0; i < SHL_ARRAY_SIZE(simple); i++) {
        if (strcmp(type, simple[i].type) == 0) {
            tell(reader, simple[i].kind, "", "", false);
            return;
        }
    }
    if (strcmp(type, "assistant") == 0 || strcmp(type, "user") == 0) {
        tell_blocks(reader, event, *type == 'a');
    } else if (strcmp(type, "result") == 0) {
        tell(reader, SHOAL_AGENT_RESULT, text_in(event, "subtype"), text_in(event, "result"),
             json_is_true(json_object_get(event, "is_error")));
    } else if (strcmp(type, "error") == 0) {
        tell(reader, SHOAL_AGENT_ERROR, "", text_in(event, "message"), true);
    } else if (strcmp(type, "turn_complete") == 0) {
        tell(reader, SHOAL_AGENT_TURN_COMPLETE, "", text_in(event, "claude_session_id"), false);
    } else {
        tell(reader, SHOAL_AGENT_OTHER, type, "", false);
    }
}

static void take_line(struct shoal_agent_reader *reader, struct shl_bytes line)
{
    json_t *event = json_loadb((const char *)line.base, line.len, 0, NULL);

    if (json_is_object(event)) {
        tell_event(reader, event);
    } else if (line.len > 0) {
        tell(reader, SHOAL_AGENT_OTHER, "", "", true);
    }
    json_decref(event);
}

static void end_line(struct shoal_agent_reader *reader)
{
    if (reader->is_skipping) {
        tell(reader, SHOAL_AGENT_ERROR, "", "an event of the agent is too long to be shown", true);
    } else {
        take_line(reader, shl_buf_bytes(&reader->line));
    }
    reader->is_skipping = false;
    shl_buf_clear(&reader->line);
}

void shoal_agent_reader_feed(struct shoal_agent_reader *reader, const void *data, size_t len)
{
    const uint8_t *at = data;

    while (len > 0) {
        const uint8_t *end = memchr(at, '\n', len);
        size_t part = end ? (size_t)(end - at) : len;

        if (!reader->is_skipping && shl_buf_append(&reader->line, at, part) < 0) {
            reader->is_skipping = true;
            shl_buf_release(&reader->line);
        }
        if (!end) {
            return;
        }
        end_line(reader);
        at += part + 1;
        len -= part + 1;
    }
}
